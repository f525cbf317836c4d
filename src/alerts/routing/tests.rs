//! Tables of routes and labels, each with the one answer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::alerts::{Route, Watchdog};
use crate::model::{AlertStatus, Timestamp};

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn alert(labels: &[(&str, &str)]) -> IntakeAlert {
    IntakeAlert {
        received_at: Timestamp::EPOCH,
        receiver: "chiron".into(),
        status: AlertStatus::Firing,
        fingerprint: "0".into(),
        labels: map(labels),
        annotations: BTreeMap::new(),
        starts_at: Timestamp::EPOCH,
        ends_at: None,
        truncated: false,
    }
}

fn to(matches: &[(&str, &str)], subsystem: &str) -> Route {
    Route { matches: map(matches), subsystem: Some(subsystem.into()), ..Route::default() }
}

fn routed(routes: &[Route], labels: &[(&str, &str)]) -> Routed {
    let watchdog = Watchdog {
        alertname: "Watchdog".to_owned(),
        absent_after: Duration::from_secs(180),
        policy: Level::NoNewTrades,
    };
    let settings = Settings { watchdog: Some(watchdog), routes: routes.to_vec(), ..Settings::default() };
    let known = |name: &str| ["order_router", "data_feed"].contains(&name);
    let is_action = |name: &str| ["restart_subsystem", "pause_trading"].contains(&name);
    route(&alert(labels), &settings, &known, &is_action)
}

fn routing(subsystem: &str) -> Routing {
    Routing {
        subsystem: subsystem.into(),
        kind: None,
        symbol: None,
        action: None,
        policy: None,
        severity: Severity::Medium,
        confirm_by_check: false,
    }
}

/// ALR-1: a route gives everything it names to the alerts whose labels match, all of them, exactly.
#[test]
fn a_route_gives_what_it_names() {
    let full = Route {
        kind: Some("order_router_down".into()),
        symbol_label: Some("pair".to_owned()),
        action: Some("restart_subsystem".into()),
        policy: Some(Level::NoNewTrades),
        severity: Some(Severity::Critical),
        confirm_by_check: true,
        ..to(&[("alertname", "OrderRouterDown"), ("job", "bot")], "order_router")
    };
    let expected = Routing {
        kind: Some("order_router_down".into()),
        symbol: Some("BTC/USDT".into()),
        action: Some("restart_subsystem".into()),
        policy: Some(Level::NoNewTrades),
        severity: Severity::Critical,
        confirm_by_check: true,
        ..routing("order_router")
    };
    let labels = [("alertname", "OrderRouterDown"), ("job", "bot"), ("pair", "BTC/USDT"), ("severity", "info")];
    assert_eq!(routed(std::slice::from_ref(&full), &labels), Routed::To(expected.clone()));
    let expected = Routing { symbol: None, ..expected };
    assert_eq!(routed(std::slice::from_ref(&full), &labels[..2]), Routed::To(expected));
    for near in [
        &[("alertname", "OrderRouterDown")][..],
        &[("alertname", "OrderRouterDown"), ("job", "bo")],
        &[("alertname", "OrderRouterDown"), ("job", "bot ")],
        &[("alertname", "orderrouterdown"), ("job", "bot")],
        &[("job", "bot")],
        &[],
    ] {
        assert_eq!(routed(std::slice::from_ref(&full), near), Routed::Unrouted, "{near:?}");
    }
}

#[test]
fn the_first_match_wins_even_if_it_leads_nowhere() {
    let routes = [to(&[("job", "bot")], "data_feed"), to(&[("alertname", "A")], "order_router")];
    let both = [("alertname", "A"), ("job", "bot")];
    assert_eq!(routed(&routes, &both), Routed::To(routing("data_feed")));
    assert_eq!(routed(&routes, &both[..1]), Routed::To(routing("order_router")));
    let unknown = [to(&[("job", "bot")], "order_ruter"), routes[1].clone()];
    assert_eq!(routed(&unknown, &both), Routed::UnknownSubsystem("order_ruter".to_owned()));
    let nameless = [Route { matches: map(&[("job", "bot")]), ..Route::default() }, routes[1].clone()];
    assert_eq!(routed(&nameless, &both), Routed::Unrouted);
    assert_eq!(routed(&[], &both), Routed::Unrouted);
}

/// As Alertmanager's own matchers: a label with an empty value is an absent label.
#[test]
fn an_empty_value_is_an_absent_label() {
    let routes = [to(&[("silenced", "")], "data_feed")];
    assert_eq!(routed(&routes, &[("alertname", "A")]), Routed::To(routing("data_feed")));
    assert_eq!(routed(&routes, &[("silenced", "")]), Routed::To(routing("data_feed")));
    assert_eq!(routed(&routes, &[("silenced", "yes")]), Routed::Unrouted);
    let by_label = [Route { matches: map(&[]), allow_labels: true, ..Route::default() }];
    assert_eq!(routed(&by_label, &[("subsystem", "")]), Routed::Unrouted);
}

#[test]
fn the_watchdog_comes_before_every_route() {
    let routes = [to(&[], "data_feed")];
    assert_eq!(routed(&routes, &[("alertname", "Watchdog")]), Routed::Watchdog);
    assert_eq!(routed(&routes, &[("alertname", "watchdog")]), Routed::To(routing("data_feed")));
    let settings = Settings { routes: routes.to_vec(), ..Settings::default() };
    let found = route(&alert(&[("alertname", "Watchdog")]), &settings, &|_| true, &|_| true);
    assert_eq!(found, Routed::To(routing("data_feed")), "none is configured");
}

/// ALR-1, SEC-5: an alert's own labels count only where the route allows them, and never beat the route.
#[test]
fn labels_are_honoured_only_where_allowed() {
    let labels = [
        ("subsystem", "order_router"),
        ("chiron_action", "pause_trading"),
        ("chiron_policy", "defensive_exit"),
        ("severity", "critical"),
    ];
    let open = Route { allow_labels: true, ..Route::default() };
    let expected = Routing {
        action: Some("pause_trading".into()),
        policy: Some(Level::DefensiveExit),
        severity: Severity::Critical,
        ..routing("order_router")
    };
    assert_eq!(routed(std::slice::from_ref(&open), &labels), Routed::To(expected));
    assert_eq!(routed(&[Route::default()], &labels), Routed::Unrouted);
    let closed = to(&[], "data_feed");
    let expected = Routing { severity: Severity::Critical, ..routing("data_feed") };
    assert_eq!(routed(std::slice::from_ref(&closed), &labels), Routed::To(expected));
    let own = Route {
        allow_labels: true,
        action: Some("restart_subsystem".into()),
        policy: Some(Level::SafeRiskProfile),
        severity: Some(Severity::Low),
        ..closed
    };
    let expected = Routing {
        action: Some("restart_subsystem".into()),
        policy: Some(Level::SafeRiskProfile),
        severity: Severity::Low,
        ..routing("data_feed")
    };
    assert_eq!(routed(&[own], &labels), Routed::To(expected));
}

/// Unknown words are recorded with what was found, never guessed at, and nothing else of the alert is used then.
#[test]
fn unknown_words_are_never_guessed() {
    let open = [Route { allow_labels: true, ..Route::default() }];
    let with = |name, value| routed(&open, &[("subsystem", "data_feed"), (name, value)]);
    assert_eq!(with("chiron_action", "restart-subsystem"), Routed::UnknownAction("restart-subsystem".to_owned()));
    assert_eq!(with("chiron_action", "restart_subsystem "), Routed::UnknownAction("restart_subsystem ".to_owned()));
    assert_eq!(with("chiron_policy", "halt"), Routed::UnknownAction("halt".to_owned()));
    assert_eq!(with("chiron_policy", "ALLOW_ALL"), Routed::UnknownAction("ALLOW_ALL".to_owned()));
    assert_eq!(with("chiron_policy", ""), Routed::To(routing("data_feed")));
    assert_eq!(
        routed(&open, &[("subsystem", "feed"), ("chiron_action", "x")]),
        Routed::UnknownSubsystem("feed".to_owned())
    );
    let misconfigured = [Route { action: Some("reboot".into()), ..to(&[], "data_feed") }];
    assert_eq!(routed(&misconfigured, &[]), Routed::UnknownAction("reboot".to_owned()));
}

#[test]
fn severity_comes_from_the_label_unless_the_route_has_one() {
    for (word, expected) in [
        ("critical", Severity::Critical),
        ("warning", Severity::High),
        ("info", Severity::Medium),
        ("page", Severity::Medium),
        ("CRITICAL", Severity::Medium),
        ("", Severity::Medium),
    ] {
        let expected = Routing { severity: expected, ..routing("data_feed") };
        assert_eq!(routed(&[to(&[], "data_feed")], &[("severity", word)]), Routed::To(expected), "{word}");
    }
}
