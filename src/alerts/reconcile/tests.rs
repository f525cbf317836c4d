//! Polls as timelines: what is listed when, and what is taken in.

use super::*;
use crate::alerts::{Route, Watchdog, routing};
use crate::model::Level;

const T0: Timestamp = Timestamp::from_millis(1_763_861_696_000);

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn settings(watchdog: bool) -> Settings {
    let route = Route {
        matches: [("alertname".to_owned(), "RouterDown".to_owned())].into(),
        subsystem: Some("router".into()),
        ..Route::default()
    };
    Settings {
        routes: vec![route],
        watchdog: watchdog.then(|| Watchdog {
            alertname: "Watchdog".to_owned(),
            absent_after: Duration::from_secs(180),
            policy: Level::NoNewTrades,
        }),
        replica_labels: vec!["replica".to_owned()],
        ..Settings::default()
    }
}

fn labels(name: &str) -> BTreeMap<String, String> {
    [("alertname".to_owned(), name.to_owned())].into()
}

/// An alert that began at `began`; listed by an Alertmanager that was told of it at `updated`.
fn listed(name: &str, began: u64, updated: u64) -> Seen {
    let wire = Wire {
        labels: labels(name),
        annotations: None,
        starts_at: at(began).rfc3339(),
        ends_at: Some(at(updated + 240).rfc3339()),
        updated_at: Some(at(updated).rfc3339()),
        status: None,
    };
    seen(wire, at(updated), at(updated), &settings(false)).expect("it is acceptable")
}

fn answer(alerts: Vec<Seen>) -> Option<Listing> {
    Some(Listing { alerts, age: Some(Duration::from_secs(3600)), cut: false })
}

/// One chiron between two polls.
struct World {
    settings: Settings,
    known: BTreeMap<Fingerprint, Known>,
    closed: BTreeMap<Fingerprint, Timestamp>,
    watchdog_at: Option<Timestamp>,
    history: History,
}

impl World {
    fn new(watchdog: bool) -> Self {
        Self {
            settings: settings(watchdog),
            known: BTreeMap::new(),
            closed: BTreeMap::new(),
            watchdog_at: None,
            history: History::default(),
        }
    }

    fn knows(mut self, name: &str, unproven: Option<u64>) -> Self {
        let known = Known { labels: labels(name), starts_at: at(0), unproven: unproven.map(at) };
        self.known.insert(fingerprint(&known.labels, &[]), known);
        self
    }

    fn poll(&mut self, seconds: u64, answers: &[Option<Listing>]) -> Vec<(String, &'static str)> {
        self.taken(seconds, false, answers)
            .into_iter()
            .map(|alert| (alert.labels["alertname"].clone(), alert.status.as_str()))
            .collect()
    }

    fn taken(&mut self, seconds: u64, at_once: bool, answers: &[Option<Listing>]) -> Vec<IntakeAlert> {
        let route = |alert: &IntakeAlert| routing::route(alert, &self.settings, &|name| name == "router", &|_| true);
        let facts = Facts {
            known: &self.known,
            closed: &|fingerprint| self.closed.get(fingerprint).copied(),
            route: &route,
            watchdog_at: self.watchdog_at,
            settings: &self.settings,
            at_once,
            asked_at: at(seconds),
        };
        reconcile(answers, &facts, &mut self.history)
    }
}

fn firing(name: &str) -> (String, &'static str) {
    (name.to_owned(), "firing")
}

fn resolved(name: &str) -> (String, &'static str) {
    (name.to_owned(), "resolved")
}

/// ALR-2: what fires and is routed is taken in once it has fired for an interval, or at once where a push is known to be
/// missing; what leads nowhere is not.
#[test]
fn a_missed_push_is_taken_in() {
    let mut world = World::new(false);
    let new = || answer(vec![listed("RouterDown", 95, 100), listed("Unrouted", 0, 100)]);
    assert_eq!(world.poll(100, &[new()]), [], "its push may be on the way");
    assert_eq!(world.poll(110, &[new()]), [firing("RouterDown")], "seen in the poll before");
    let mut world = World::new(false);
    assert_eq!(world.poll(126, &[new()]), [firing("RouterDown")], "older than an interval");
    let mut world = World::new(false);
    let taken = world.taken(100, true, &[new()]);
    assert_eq!(taken.len(), 1, "at the start, and after a truncated notification");
    assert_eq!((taken[0].receiver.as_str(), taken[0].starts_at), (POLL_RECEIVER, at(95)));
    let mut world = World::new(false).knows("RouterDown", None);
    assert_eq!(world.poll(200, &[new()]), [], "known already");
    let mut world = World::new(false);
    world.settings.routes[0].matches = labels("ChironEscalation");
    let mut own = listed("ChironEscalation", 0, 100);
    assert_eq!(
        world.poll(200, &[answer(vec![own.clone()])]),
        [firing("ChironEscalation")],
        "the name alone says nothing"
    );
    own.alert.labels.insert("source".to_owned(), "chiron".to_owned());
    assert_eq!(world.poll(200, &[answer(vec![own])]), [], "chiron's own");
}

/// ALR-2: the identity is that of the webhook: two Alertmanagers, and two replicas, list one alert.
#[test]
fn two_listings_are_one_alert() {
    let mut world = World::new(false);
    let replica = |name: &str| {
        let mut listed = listed("RouterDown", 0, 50);
        listed.alert.labels.insert("replica".to_owned(), name.to_owned());
        listed.alert.fingerprint = fingerprint(&listed.alert.labels, &world.settings.replica_labels);
        listed
    };
    let answers = [answer(vec![replica("a")]), answer(vec![replica("b")])];
    assert_eq!(world.poll(60, &answers).len(), 1);
}

/// ALR-2: a silenced alert is neither acted upon nor ended; when its silence ends it is taken in.
#[test]
fn silenced_is_still_firing() {
    let silenced = || answer(vec![Seen { suppressed: true, ..listed("RouterDown", 0, 100) }]);
    let mut world = World::new(false);
    for seconds in [100, 130, 160] {
        assert_eq!(world.taken(seconds, true, &[silenced()]), []);
    }
    assert_eq!(world.poll(190, &[answer(vec![listed("RouterDown", 0, 190)])]), [firing("RouterDown")]);
    let mut world = World::new(false).knows("RouterDown", None);
    for seconds in [100, 130, 160] {
        assert_eq!(world.poll(seconds, &[silenced()]), [], "not ended");
    }
    let mut world = World::new(false);
    let both = [silenced(), answer(vec![listed("RouterDown", 0, 50)])];
    assert_eq!(world.poll(100, &both), [firing("RouterDown")], "one of them would deliver it");
}

/// Invariant 3: an alert ends after two polls in a row in which every Alertmanager answers and none lists it.
#[test]
fn absence_ends_an_alert_after_two_polls() {
    let empty = || answer(Vec::new());
    let present = || answer(vec![listed("RouterDown", 0, 100)]);
    let mut world = World::new(false).knows("RouterDown", None);
    assert_eq!(world.poll(100, &[empty()]), []);
    let taken = world.taken(130, false, &[empty()]);
    assert_eq!(taken.len(), 1);
    assert_eq!((taken[0].status, taken[0].ends_at), (AlertStatus::Resolved, Some(at(100))), "since it was missed");
    // Nothing between, nothing around.
    for (what, polls) in [
        ("listed in between", vec![(100, vec![empty()]), (130, vec![present()]), (160, vec![empty()])]),
        ("one does not answer", vec![(100, vec![empty(), None]), (130, vec![empty(), None])]),
        ("a gap in between", vec![(100, vec![empty()]), (130, vec![None]), (160, vec![empty()])]),
        ("the other lists it", vec![(100, vec![empty(), present()]), (130, vec![empty(), present()])]),
        ("too soon after each other", vec![(100, vec![empty()]), (101, vec![empty()])]),
        ("no Alertmanager", vec![(100, vec![]), (130, vec![])]),
    ] {
        let mut world = World::new(false).knows("RouterDown", None);
        for (seconds, answers) in polls {
            assert_eq!(world.poll(seconds, &answers), [], "{what}");
        }
    }
    let mut world = World::new(false).knows("RouterDown", Some(50));
    assert_eq!(world.poll(100, &[empty()]), []);
    assert_eq!(world.poll(130, &[empty()]), [], "it has said so already");
}

/// ALR-2: an Alertmanager that has just been started, does not say since when it runs, or lists more than is read, is no
/// evidence of an end.
#[test]
fn who_cannot_know_says_nothing() {
    for listing in [
        Listing { age: Some(Duration::from_secs(299)), ..Listing::default() },
        Listing { age: None, ..Listing::default() },
        Listing { age: Some(Duration::from_secs(3600)), cut: true, ..Listing::default() },
    ] {
        let mut world = World::new(false).knows("RouterDown", None);
        for seconds in [100, 130, 160] {
            assert_eq!(world.poll(seconds, &[Some(listing.clone())]), [], "{listing:?}");
        }
        let fires = Listing { alerts: vec![listed("RouterDown", 0, 100)], ..listing };
        assert_eq!(World::new(false).poll(100, &[Some(fires)]), [firing("RouterDown")], "what it lists counts");
    }
}

/// POL-4, ALR-2: a Watchdog that is listed is heard, silenced or not; while it is not heard nothing ends by absence.
#[test]
fn the_watchdog() {
    let mut world = World::new(true).knows("RouterDown", None);
    for seconds in [100, 130, 160] {
        assert_eq!(world.poll(seconds, &[answer(Vec::new())]), [], "Prometheus may be dead");
    }
    let silenced = || answer(vec![Seen { suppressed: true, ..listed("Watchdog", 0, 190) }]);
    assert_eq!(world.poll(190, &[silenced()]), [firing("Watchdog")]);
    assert_eq!(world.poll(220, &[silenced()]), [firing("Watchdog"), resolved("RouterDown")]);
    let mut world = World::new(true).knows("RouterDown", None);
    world.watchdog_at = Some(at(90));
    assert_eq!(world.poll(100, &[answer(Vec::new())]), []);
    assert_eq!(world.poll(130, &[answer(Vec::new())]), [resolved("RouterDown")], "heard by push");
    assert_eq!(world.poll(271, &[answer(Vec::new())]), [], "not any more");
}

/// Invariant 4: what was closed is news only if it began, or was said again, after its end.
#[test]
fn a_listing_that_is_behind_reopens_nothing() {
    let closed_at = |seconds| {
        let mut world = World::new(false);
        world.closed.insert(fingerprint(&labels("RouterDown"), &[]), at(seconds));
        world
    };
    assert_eq!(closed_at(100).poll(130, &[answer(vec![listed("RouterDown", 0, 95)])]), [], "has not heard of the end");
    assert_eq!(closed_at(100).poll(130, &[answer(vec![listed("RouterDown", 0, 110)])]), [], "clocks differ");
    assert_eq!(closed_at(100).poll(140, &[answer(vec![listed("RouterDown", 105, 106)])]), [firing("RouterDown")]);
    let taken = closed_at(100).taken(200, false, &[answer(vec![listed("RouterDown", 0, 160)])]);
    assert_eq!(taken.first().map(|alert| alert.starts_at), Some(at(160)), "said again after it: not stale");
    let mut world = World::new(false).knows("RouterDown", Some(100));
    assert_eq!(world.poll(130, &[answer(vec![listed("RouterDown", 0, 95)])]), []);
    assert_eq!(world.taken(200, true, &[answer(vec![listed("RouterDown", 0, 160)])]).len(), 1, "it fires again");
}

/// ALR-2: a list with unknown fields, other states, ended alerts, alerts no webhook would accept.
#[test]
fn lists_are_read_tolerantly() {
    let long = "x".repeat(VALUE_BYTES_MAX + 1);
    let alert = |labels: serde_json::Value, more: serde_json::Value| {
        let mut alert = serde_json::json!({
            "labels": labels, "startsAt": "2025-11-23T01:34:56.000Z", "endsAt": "2025-11-23T01:40:00Z",
            "updatedAt": "2025-11-23T01:34:56.1Z", "fingerprint": "x", "generatorURL": "", "receivers": [{"name": "a"}],
        });
        alert.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        alert
    };
    let empty = || serde_json::json!({});
    let body = serde_json::json!([
        alert(
            serde_json::json!({"alertname": "Plain"}),
            serde_json::json!({
            "annotations": {"summary": "it\u{0} is", "runbook_url": "x"}, "later": {"a": [1]},
            "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "new": 1}})
        ),
        alert(
            serde_json::json!({"alertname": "Silenced"}),
            serde_json::json!({
            "status": {"state": "suppressed", "silencedBy": ["id"], "inhibitedBy": []}})
        ),
        alert(serde_json::json!({"alertname": "Muted"}), serde_json::json!({"status": {"mutedBy": ["night"]}})),
        alert(serde_json::json!({"alertname": "Ended"}), serde_json::json!({"endsAt": "2025-11-23T01:34:58Z"})),
        alert(serde_json::json!({"alertname": "NoEnd"}), serde_json::json!({"endsAt": "0001-01-01T00:00:00Z"})),
        alert(serde_json::json!({"alertname": long}), empty()),
        alert(serde_json::json!({}), empty()),
    ]);
    let now = Timestamp::parse_rfc3339("2025-11-23T01:35:00Z").unwrap();
    let listing = parse(body.to_string().as_bytes(), now, now, &settings(false)).unwrap();
    let found: Vec<(&str, bool)> =
        listing.alerts.iter().map(|seen| (seen.alert.labels["alertname"].as_str(), seen.suppressed)).collect();
    assert_eq!(found, [("Plain", false), ("Silenced", true), ("Muted", true), ("NoEnd", false)]);
    assert_eq!(listing.alerts[0].alert.annotations, [("summary".to_owned(), "it is".to_owned())].into());
    assert_eq!(listing.alerts[0].updated_at, Timestamp::parse_rfc3339("2025-11-23T01:34:56.1Z"));
    assert!(!listing.cut);
    for bad in ["", "{}", "[1]", "[{\"labels\": {\"a\": 1}}]", "<html>"] {
        assert!(parse(bad.as_bytes(), now, now, &settings(false)).is_err(), "{bad}");
    }
    let nested = "[".repeat(100_000);
    assert!(parse(nested.as_bytes(), now, now, &settings(false)).is_err(), "and no overflow");
    let status = br#"{"cluster":{"status":"disabled"},"uptime":"2026-11-22T13:00:00.123456789+01:00"}"#;
    assert_eq!(parse_started(status), Timestamp::parse_rfc3339("2026-11-22T12:00:00.123Z"));
    assert_eq!(parse_started(b"{}"), None);
}
