//! Timelines of the Watchdog, of polls, and of alerts that come back: POL-4 and ALR-2 second by second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::sim::{Sim, rules};
use crate::alerts::{self, POLL_RECEIVER, Watchdog};
use crate::app::cycle::Rules;
use crate::journal::Record;
use crate::model::{
    AlertOutcome, AlertStatus, Class, Criticality, Ending, IntakeAlert, Level, PolicySource, Status, Timestamp,
};

const ROUTER: &[super::sim::Part] = &[("order_router", Criticality::Partial, &[])];
const RESTART: &[(&str, &str, Class)] = &[("restart_subsystem", "order_router", Class::OneShot)];

fn watched() -> Rules {
    let mut rules = rules(ROUTER, RESTART);
    let watchdog = Watchdog {
        alertname: "Watchdog".to_owned(),
        absent_after: Duration::from_secs(180),
        policy: Level::NoNewTrades,
    };
    rules.alerts = Arc::new(alerts::Settings { watchdog: Some(watchdog), ..(*rules.alerts).clone() });
    rules
}

/// A chiron that has started up and relaxed, and has just heard the Watchdog.
fn calm() -> Sim {
    let mut sim = Sim::new(watched());
    sim.check_all();
    for _ in 0..4 {
        sim.live(25);
        hear(&mut sim);
    }
    assert_eq!(sim.state.level(), Level::AllowAll);
    sim
}

fn hear(sim: &mut Sim) {
    sim.alert_named("Watchdog", AlertStatus::Firing, sim.now);
    let inputs = sim.inputs();
    sim.step(inputs);
}

fn blind(sim: &Sim) -> bool {
    sim.state.holds.iter().any(|(key, _)| key.source == PolicySource::Blindness && key.subject == *"watchdog_absent")
}

fn outcomes(sim: &Sim) -> Vec<AlertOutcome> {
    let taken = sim.entries.iter().filter_map(|entry| match &entry.record {
        Record::AlertTaken { outcome, .. } => Some(*outcome),
        _ => None,
    });
    taken.collect()
}

/// An alert as the poller takes it in.
fn polled(sim: &mut Sim, alertname: &str, status: AlertStatus, starts_at: Timestamp) {
    sim.alert_named(alertname, status, starts_at);
    let (_, alert) = sim.intake.last_mut().expect("one was just taken in");
    alert.receiver = POLL_RECEIVER.into();
    let inputs = sim.inputs();
    sim.step(inputs);
}

/// POL-4: absent to the second, by push and by poll alike; heard again, the level relaxes only by its own rules.
#[test]
fn absent_to_the_second() {
    for by_poll in [false, true] {
        let mut sim = calm();
        if by_poll {
            sim.live(10);
            polled(&mut sim, "Watchdog", AlertStatus::Firing, Timestamp::EPOCH);
        }
        sim.live(179);
        assert!(!blind(&sim) && sim.state.level() == Level::AllowAll, "179 s");
        sim.live(1);
        assert!(blind(&sim) && sim.state.level() == Level::NoNewTrades, "180 s");
        sim.live(300);
        assert!(blind(&sim), "it does not pass by itself");
        hear(&mut sim);
        sim.live(59);
        assert!(blind(&sim), "heard, but the least hold has not passed");
        hear(&mut sim);
        sim.live(20);
        assert!(!blind(&sim));
        assert_eq!(sim.state.level(), Level::AllowAll);
    }
}

/// POL-4, POL-3: a Watchdog that comes and goes again begins the relaxing anew.
#[test]
fn heard_once_is_not_enough() {
    let mut sim = calm();
    sim.live(180);
    assert!(blind(&sim));
    hear(&mut sim);
    sim.live(40);
    sim.alert_named("Watchdog", AlertStatus::Resolved, sim.now);
    sim.live(10);
    hear(&mut sim);
    sim.live(50);
    assert!(blind(&sim), "90 s after the first word, but 50 s after the last silence");
    sim.live(30);
    assert!(!blind(&sim));
}

/// POL-4: a start that has never heard the Watchdog gives it its time; a restart does not give it anew.
#[test]
fn a_restart_keeps_the_time() {
    let mut sim = Sim::new(watched());
    sim.live(179);
    assert!(!blind(&sim));
    sim.live(1);
    assert!(blind(&sim), "never heard");
    let mut sim = calm();
    sim.live(100);
    sim.crash();
    sim.live(79);
    assert!(!blind(&sim), "179 s");
    sim.live(1);
    assert!(blind(&sim), "100 s before the crash and 80 s after it");
    sim.crash();
    sim.live(120);
    assert!(blind(&sim), "nor does a restart relax what is held");
    let mut sim = calm();
    sim.pass(3600);
    sim.crash();
    sim.live(1);
    assert!(blind(&sim), "an hour without chiron is an hour without a word");
}

/// POL-4: a Watchdog that a reload names has its time from then on.
#[test]
fn a_reload_that_names_it() {
    let mut sim = Sim::new(rules(ROUTER, RESTART));
    sim.live(600);
    sim.rules = watched();
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.live(179);
    assert!(!blind(&sim));
    sim.live(1);
    assert!(blind(&sim));
    sim.cycle.reconfigure(rules(ROUTER, RESTART), &sim.state, sim.now);
    sim.live(80);
    assert!(!blind(&sim), "nobody expects it any more");
}

/// POL-4: that the Watchdog has ended is bad news: whoever sends alerts has fallen silent. Also for the next process.
#[test]
fn its_end_is_bad_news() {
    let mut sim = calm();
    sim.live(10);
    sim.alert_named("Watchdog", AlertStatus::Resolved, sim.now);
    sim.live(1);
    assert!(blind(&sim));
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::Watchdog));
    let reason = sim.state.holds.values().find(|hold| hold.reason.contains("Watchdog")).map(|hold| hold.reason.clone());
    assert_eq!(reason.as_deref(), Some("Watchdog has ended: whoever sends alerts has fallen silent"));
    sim.crash();
    sim.live(120);
    assert!(blind(&sim), "after a restart too");
    sim.cycle.shift_clock(3_600_000);
    sim.now = sim.now.plus(Duration::from_secs(3600));
    sim.live(120);
    assert!(blind(&sim), "nor is it heard by setting the clock");
    hear(&mut sim);
    sim.live(80);
    assert!(!blind(&sim));
}

/// ALR-2, POL-4: while the Watchdog is absent no resolved is believed, however healthy the check; the proof counts later.
#[test]
fn resolved_is_disbelieved_while_it_is_absent() {
    let mut sim = calm();
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.live(5);
    sim.answer(Ending::Ok);
    sim.live(180);
    assert!(blind(&sim));
    sim.alert("order_router", AlertStatus::Resolved, sim.now);
    sim.live(120);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::ResolvedUnproven));
    assert_eq!((sim.state.alerts.len(), sim.state.episodes.len()), (1, 1), "a mass resolve is not recovery");
    hear(&mut sim);
    assert!(sim.state.alerts.is_empty() && sim.state.episodes.is_empty());
}

/// ALR-2: what a poll finds goes the way of a push: one action, and its end is believed only with proof.
#[test]
fn a_poll_is_like_a_push() {
    let mut sim = calm();
    sim.break_("order_router", Status::Critical);
    let began = sim.now;
    polled(&mut sim, "order_router_down", AlertStatus::Firing, began);
    sim.alert("order_router", AlertStatus::Firing, began);
    polled(&mut sim, "order_router_down", AlertStatus::Firing, began);
    sim.check_all();
    assert_eq!(sim.effects.len(), 1, "a poll and a push are one episode");
    sim.answer(Ending::Ok);
    sim.pass(5);
    polled(&mut sim, "order_router_down", AlertStatus::Resolved, began);
    assert_eq!(sim.state.alerts.len(), 1, "the check is critical");
    sim.break_("order_router", Status::Healthy);
    sim.check_all();
    assert!(sim.state.alerts.is_empty());
    sim.live(10);
    polled(&mut sim, "order_router_down", AlertStatus::Firing, began);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::Stale), "a poll that was under way meanwhile");
    let said_again = sim.now;
    polled(&mut sim, "order_router_down", AlertStatus::Firing, said_again);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::Accepted), "invariant 4: confirmed after its end");
}

/// ALR-3: an alert that chiron sent comes back: counted as its own, and nothing else.
#[test]
fn its_own_alerts_set_nothing_off() {
    let mut rules = watched();
    let mut settings = (*rules.alerts).clone();
    // A route as wide as can be.
    settings.routes = vec![alerts::Route {
        matches: BTreeMap::from([("source".to_owned(), "chiron".to_owned())]),
        subsystem: Some("order_router".into()),
        action: Some("restart_subsystem".into()),
        policy: Some(Level::EmergencyShutdown),
        ..alerts::Route::default()
    }];
    rules.alerts = Arc::new(settings);
    let mut sim = Sim::new(rules);
    sim.check_all();
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for status in [AlertStatus::Firing, AlertStatus::Resolved] {
        sim.alert_named("ChironEscalation", status, sim.now);
        let (_, alert): &mut (u64, IntakeAlert) = sim.intake.last_mut().expect("one was just taken in");
        alert.labels.extend([label("source", "chiron"), label("subsystem", "order_router")]);
        sim.live(5);
    }
    assert_eq!(outcomes(&sim), [AlertOutcome::Own, AlertOutcome::Own]);
    assert!(sim.effects.is_empty() && sim.state.episodes.is_empty() && sim.state.alerts.is_empty());
    assert!(sim.state.latch.is_none());
    sim.alert_named("ChironEscalation", AlertStatus::Firing, sim.now);
    sim.live(1);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::Unrouted), "the name alone is not enough");
}
