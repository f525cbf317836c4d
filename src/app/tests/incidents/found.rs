//! What the incidents have found, each fault as a short story of its own.

use crate::app::reverse::REVERSE;
use crate::app::tests::sim::{Sim, rules};
use crate::detect::rules::SUBSYSTEM_STATUS;
use crate::journal::HoldKey;
use crate::journal::Record;
use crate::model::{AlertStatus, Autonomy, Class, Criticality, Ending, Level, Name, PolicySource, Status};
use crate::recommend::Ladder;

/// POL-3, found in incident 23: a milder action of an issue does not take back what a stricter one of it holds.
#[test]
fn a_milder_action_loosens_nothing() {
    let mut rules = rules(&[("router", Criticality::Partial, &[])], &[]);
    let actions: Vec<Name> = ["defensive_exit", "pause_trading"].map(Name::from).into();
    for action in &actions {
        rules.recommend.autonomy.insert(action.clone(), Autonomy::Automatic);
    }
    rules.recommend.ladders.push(Ladder { subsystem: None, kind: None, severity: None, actions });
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.break_("router", Status::Critical);
    sim.check_all();
    sim.live(5);
    let (id, episode) = sim.state.episodes.get_min().cloned().expect("the issue is open");
    assert!(episode.ladder.iter().all(|rung| rung.attempts == 1), "both were done: {:?}", episode.ladder);
    let key = HoldKey { source: PolicySource::Action, subject: id };
    assert_eq!(sim.state.holds.get(&key).map(|hold| hold.level), Some(Level::DefensiveExit));
}

/// DET-4, ACT-1, found in incidents 88 and 104: an alert without a type is an issue of its own beside what is to be undone;
/// within it, what the alert asks for would hold the very level that undoing waits for the end of.
#[test]
fn an_alert_does_not_join_what_is_to_be_undone() {
    let bindings = [("pause_trading", "data_feed", Class::Natural), ("resume_trading", "data_feed", Class::Natural)];
    let mut sim = Sim::new(rules(&[("data_feed", Criticality::Full, &[])], &bindings));
    sim.check_all();
    sim.break_("data_feed", Status::Critical);
    sim.check_all();
    assert_eq!(sim.answer(Ending::Ok), Some("data_feed".into()), "trading is paused");
    sim.break_("data_feed", Status::Healthy);
    sim.live(10);
    let kinds = |sim: &Sim| sim.state.open.keys().map(|key| key.kind.to_string()).collect::<Vec<_>>();
    assert_eq!(kinds(&sim), [REVERSE], "what is left is to resume it");
    let now = sim.now;
    sim.alert("data_feed", AlertStatus::Firing, now);
    sim.check_all();
    assert_eq!(kinds(&sim), [REVERSE, SUBSYSTEM_STATUS]);
    let reverse = sim.state.episodes.values().find(|episode| episode.key.kind == *REVERSE).expect("it is open");
    assert!(reverse.alerts.is_empty() && reverse.ladder.len() == 1, "{reverse:?}");
}

/// ACT-3 and invariant 21, found in incident 337: a run whose evidence is still being gathered has its share of the budget.
#[test]
fn what_is_prepared_counts_in_the_budget() {
    let parts = ["a", "b", "c"].map(|name| (name, Criticality::Partial, &[] as &[&str]));
    let bindings = ["a", "b", "c"].map(|name| ("restart_subsystem", name, Class::Probeable));
    let mut rules = rules(&parts, &bindings);
    rules.admit.overall_budget = 2;
    crate::app::tests::sim::with_evidence(&mut rules);
    let mut sim = Sim::new(rules);
    sim.check_all();
    for name in ["a", "b", "c"] {
        sim.break_(name, Status::Critical);
    }
    sim.check_all();
    sim.live(2);
    let started = sim.entries.iter().filter(|entry| matches!(entry.record, Record::RunStarted { .. })).count();
    assert_eq!(started, 2, "{:?}", sim.kinds(0));
}
