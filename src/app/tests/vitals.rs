//! Timelines of a bot that tells how it is: raised, repaired, verified, cleared; silence; symbols; reloads.

use std::sync::Arc;

use super::sim::{Part, Sim, rules};
use crate::detect::rules::is_of_vitals;
use crate::detect::{Subject, Verdict, evaluate};
use crate::journal::Episode;
use crate::model::{
    AlertStatus, Class, Criticality, Ending, FailurePoint, Finding, Health, Level, Name, Outcome, PLATFORM, Severity,
    Status, Timestamp, Vitals, WebSocketStatus,
};
use crate::observe::{Observation, bot};

const BOT: &[Part] = &[("bot", Criticality::Full, &[])];

/// A healthy bot whose check gives vitals, with these actions bound.
fn bot_with(actions: &[&'static str]) -> Sim {
    let bindings: Vec<(&str, &str, Class)> = actions.iter().map(|action| (*action, "bot", Class::OneShot)).collect();
    let mut rules = rules(BOT, &bindings);
    rules.raises = vec![bot::ISSUES];
    let mut sim = Sim::new(rules);
    tell(&mut sim, Status::Healthy, connected(true));
    sim
}

fn connected(connected: bool) -> Vitals {
    let status = WebSocketStatus { connected: Some(connected), ..WebSocketStatus::default() };
    Vitals { websocket: Some(status), ..Vitals::default() }
}

fn limits(used: &[(&str, f64)]) -> Vitals {
    let used = used.iter().map(|(symbol, used)| (Name::from(*symbol), *used)).collect();
    Vitals { rate_limits: Some(used), ..Vitals::default() }
}

/// The check speaks: `status` for what rules raise too, vitals as true now.
fn tell(sim: &mut Sim, status: Status, vitals: Vitals) {
    let at = sim.now;
    tell_of(sim, status, Some(Vitals { at, ..vitals }));
}

/// The same with vitals of any age, or none: the bot is silent, and all the check says is its own.
fn tell_of(sim: &mut Sim, status: Status, vitals: Option<Vitals>) {
    let mut health = Health::unknown("bot".into());
    health.status = status;
    health.timestamp = sim.now;
    if let Some(vitals) = vitals {
        health.signals.own_status = Some(Status::Healthy);
        health.signals.vitals = Some(Arc::new(vitals));
    }
    let mut inputs = sim.inputs();
    sim.forced.clear();
    inputs.observations = vec![Observation::Health { index: 0, health }];
    sim.step(inputs);
}

fn open(sim: &Sim) -> Vec<(String, Option<Name>)> {
    let of = |episode: &Arc<Episode>| (episode.key.kind.to_string(), episode.key.symbol.clone());
    let mut open: Vec<_> = sim.state.episodes.values().map(of).collect();
    open.sort();
    open
}

fn outcomes(sim: &Sim) -> Vec<(String, Option<Outcome>)> {
    sim.state.ended_runs.iter().map(|run| (run.action.to_string(), run.outcome)).collect()
}

/// DET-1, REC-1, ACT-4: a lost connection is one critical issue, is repaired by its procedure, and is verified by vitals that
/// were true after it; those told before prove nothing, however late they are heard.
#[test]
fn a_lost_connection_is_repaired_and_verified() {
    let mut sim = bot_with(&["repair_websocket"]);
    sim.pass(5);
    tell(&mut sim, Status::Critical, connected(false));
    assert_eq!(open(&sim), [("websocket_disconnected".to_owned(), None)], "one trouble is one issue");
    assert_eq!(sim.state.level(), Level::DefensiveExit, "critical, of a subsystem that trading depends on");
    assert_eq!(sim.answer(Ending::Ok).as_deref(), Some("bot"));
    let before: Timestamp = sim.now;
    sim.pass(2);
    // Well, but from before the action: heard late.
    tell_of(&mut sim, Status::Healthy, Some(Vitals { at: before, ..connected(true) }));
    sim.pass(2);
    tell_of(&mut sim, Status::Healthy, Some(Vitals { at: before, ..connected(true) }));
    assert_eq!(outcomes(&sim), [], "nothing is proved yet");
    sim.pass(1);
    tell(&mut sim, Status::Healthy, connected(true));
    assert_eq!(outcomes(&sim), [("repair_websocket".to_owned(), Some(Outcome::Verified))]);
    assert_eq!(open(&sim), []);
}

/// ACT-5: where nothing is bound to the procedure, or it does not help, the next rung is tried.
#[test]
fn an_unbound_procedure_is_passed_over() {
    let mut sim = bot_with(&["restart_subsystem"]);
    tell(&mut sim, Status::Critical, connected(false));
    assert_eq!(sim.under_way.len(), 1, "restarted at once");
    let mut sim = bot_with(&["repair_websocket", "restart_subsystem"]);
    tell(&mut sim, Status::Critical, connected(false));
    sim.answer(Ending::Ok);
    for _ in 0..110 {
        sim.pass(1);
        tell(&mut sim, Status::Critical, connected(false));
    }
    assert_eq!(outcomes(&sim), [("repair_websocket".to_owned(), Some(Outcome::Unverified))]);
    assert_eq!(sim.effects.len(), 2, "then restarted");
}

/// OBS-9: a bot that falls silent keeps its issues open and is stale besides; when it speaks again, each ends by what it says.
#[test]
fn silence_neither_raises_nor_clears() {
    let mut sim = bot_with(&[]);
    tell(&mut sim, Status::Critical, connected(false));
    for status in [Status::Degraded, Status::Critical, Status::Unknown] {
        sim.pass(60);
        tell_of(&mut sim, status, None);
        let kinds: Vec<String> = open(&sim).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, ["subsystem_status", "websocket_disconnected"], "{status}");
    }
    sim.pass(5);
    tell(&mut sim, Status::Healthy, Vitals { memory_usage: Some(0.5), ..Vitals::default() });
    assert_eq!(open(&sim), [("websocket_disconnected".to_owned(), None)], "it says nothing of its connection");
    sim.pass(5);
    tell(&mut sim, Status::Healthy, connected(true));
    assert_eq!(open(&sim), []);
}

/// DET-2, DET-4, EXC-3: each symbol has an episode of its own; what is done about one is verified by that one alone, and no
/// position of another is closed for it.
#[test]
fn symbols_are_apart() {
    let mut sim = bot_with(&["recover_rate_limit"]);
    let both =
        [("rate_limit_critical".to_owned(), Some("A".into())), ("rate_limit_critical".to_owned(), Some("B".into()))];
    tell(&mut sim, Status::Healthy, limits(&[("A", 99.0), ("B", 90.0), ("C", 10.0)]));
    assert_eq!(open(&sim), both);
    assert_eq!(sim.state.level(), Level::NoNewTrades);
    let first = sim.under_way[0].0.episode.clone();
    assert_eq!(sim.state.episodes[&first].key.symbol.as_deref(), Some("A"));
    sim.answer(Ending::Ok);
    tell(&mut sim, Status::Healthy, limits(&[("A", 99.0), ("B", 90.0)]));
    sim.pass(3);
    tell(&mut sim, Status::Healthy, limits(&[("A", 40.0), ("B", 92.0)]));
    assert_eq!(outcomes(&sim), [("recover_rate_limit".to_owned(), Some(Outcome::Verified))]);
    assert_eq!(open(&sim), both[1..]);
    sim.pass(1);
    tell(&mut sim, Status::Healthy, connected(true));
    assert_eq!(open(&sim), both[1..], "vitals without rate limits clear none");
    sim.pass(1);
    tell(&mut sim, Status::Healthy, limits(&[]));
    assert_eq!(open(&sim), []);
}

/// OBS-6, DET-3: a reload to a check that gives no vitals lets go of what only vitals could clear; a bot that is merely silent
/// keeps it, also across a reload and a restart.
#[test]
fn a_check_that_looks_no_more_holds_nothing_open() {
    let mut sim = bot_with(&[]);
    tell(&mut sim, Status::Critical, connected(false));
    sim.pass(5);
    tell_of(&mut sim, Status::Degraded, None);
    sim.crash();
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.step(crate::app::cycle::Inputs::default());
    tell_of(&mut sim, Status::Healthy, None);
    assert_eq!(open(&sim), [("websocket_disconnected".to_owned(), None)]);
    tell(&mut sim, Status::Critical, connected(false));
    sim.rules.raises = vec![&[]];
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.step(crate::app::cycle::Inputs::default());
    assert!(open(&sim).iter().all(|(kind, _)| !is_of_vitals(kind)), "{:?}", open(&sim));
}

/// OBS-8, DET-3: an issue of a failure point that is configured no longer is let go of.
#[test]
fn a_failure_point_that_is_gone_holds_nothing_open() {
    let mut rules = rules(BOT, &[]);
    rules.failure_points = vec![FailurePoint { category: "network".into(), subsystem: PLATFORM.into() }];
    let mut sim = Sim::new(rules);
    sim.check_all();
    let mut health = Health::unknown("network".into());
    health.status = Status::Critical;
    health.timestamp = sim.now;
    let description = "api.example does not resolve".to_owned();
    health.signals.findings = vec![Finding { symbol: None, severity: Severity::High, description }];
    let mut inputs = sim.inputs();
    inputs.observations = vec![Observation::Health { index: 1, health }];
    sim.step(inputs);
    assert_eq!(open(&sim), [("network".to_owned(), None)]);
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.step(crate::app::cycle::Inputs::default());
    assert_eq!(open(&sim), [("network".to_owned(), None)], "it is still looked at");
    sim.rules.failure_points.clear();
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.step(crate::app::cycle::Inputs::default());
    assert_eq!(open(&sim), []);
}

/// ACT-4: where no vitals are given, an alert's issue of such a type is verified by the subsystem's own check.
#[test]
fn an_alert_of_a_type_of_vitals_is_verified_by_the_check() {
    let mut rules = rules(BOT, &[("restart_subsystem", "bot", Class::OneShot)]);
    let alerts = Arc::make_mut(&mut rules.alerts);
    alerts.routes.iter_mut().for_each(|route| route.kind = Some("high_latency".into()));
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.alert("bot", AlertStatus::Firing, sim.now);
    sim.live(1);
    sim.answer(Ending::Ok);
    sim.live(10);
    assert_eq!(outcomes(&sim), [("restart_subsystem".to_owned(), Some(Outcome::Verified))]);
}

/// A look at the bot: its own grade, with vitals.
fn look(sim: &mut Sim, status: Status, own: Status, vitals: Vitals) {
    let mut health = Health { status, timestamp: sim.now, ..Health::unknown("bot".into()) };
    health.signals.own_status = Some(own);
    health.signals.vitals = Some(Arc::new(Vitals { at: sim.now, ..vitals }));
    let mut inputs = sim.inputs();
    inputs.observations = vec![Observation::Health { index: 0, health }];
    sim.step(inputs);
}

/// OBS-1: an issue that leaves the status alone says nothing of what can still be done for it: a procedure against latency that
/// did not help fails no subsystem before its time.
#[test]
fn another_issue_does_not_fail_a_subsystem() {
    let slow = || Vitals { execution_latency_ms: Some(9_000.0), ..connected(true) };
    let mut sim = bot_with(&["optimize_latency"]);
    tell(&mut sim, Status::Healthy, slow());
    sim.answer(Ending::Ok);
    for _ in 0..60 {
        sim.pass(1);
        tell(&mut sim, Status::Healthy, slow());
    }
    assert_eq!(outcomes(&sim), [("optimize_latency".to_owned(), Some(Outcome::Unverified))]);
    let begun = sim.now;
    for _ in 0..59 {
        look(&mut sim, Status::Critical, Status::Critical, slow());
        assert_eq!(sim.cycle.health(0).status, Status::Critical, "after {:?}", sim.now.since(begun));
        sim.pass(5);
    }
    sim.pass(10);
    look(&mut sim, Status::Critical, Status::Critical, slow());
    assert_eq!(sim.cycle.health(0).status, Status::Failed, "nothing can heal it, and five minutes have passed");
}

/// SPEC 14: a reload that gives the bot another kind of check makes no new issue of what the old one saw.
#[test]
fn a_new_kind_of_check_begins_with_no_issue() {
    let mut sim = bot_with(&["restart_subsystem"]);
    sim.rules.bindings.clear();
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    tell(&mut sim, Status::Critical, connected(false));
    sim.rules.raises = vec![&[]];
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.step(crate::app::cycle::Inputs::default());
    assert_eq!(open(&sim), [], "the new check has yet to speak");
    tell_of(&mut sim, Status::Critical, None);
    assert_eq!(open(&sim), [("subsystem_status".to_owned(), None)]);
}

/// ACT-4, ACT-5: what has helped against its own issue is whole, though another rule raises something else: no further rung.
#[test]
fn what_is_whole_is_not_restarted_for_another_issue() {
    let mut sim = bot_with(&["restart_subsystem"]);
    look(&mut sim, Status::Critical, Status::Critical, connected(true));
    sim.alert("bot", AlertStatus::Firing, sim.now);
    sim.pass(1);
    let issue = sim.under_way[0].0.episode.clone();
    assert_eq!(sim.answer(Ending::Ok).as_deref(), Some("bot"));
    for _ in 0..200 {
        sim.pass(2);
        look(&mut sim, Status::Critical, Status::Healthy, connected(false));
        sim.answer(Ending::Ok);
    }
    let restarts = sim.effects.keys().filter(|key| key.episode == issue).count();
    assert_eq!(restarts, 1, "{:?}", outcomes(&sim));
}

/// OBS-9, EXC-1: whatever a rule tells from what a kind of check may see of a bot, checks of that kind are known to raise:
/// what is not would never be resolved.
#[test]
fn checks_name_what_rules_tell_of_their_vitals() {
    let yaml = "profile: none
subsystems:
  websocket: {check: {kind: websocket, url: \"ws://127.0.0.1/\"}}
  freqtrade: {check: {kind: freqtrade, url: \"http://127.0.0.1/\", username: chiron, password_file: two.token}}
  vitals: {check: {kind: vitals, from: push}}
  push: {check: {kind: push}}
";
    let clock = crate::base::clock::Clock::manual(Timestamp::from_millis(1_763_861_696_000));
    let loaded = crate::config::load_text(yaml, "tests/config/test.yml", &crate::config::Inputs::default(), clock);
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(loaded.settings.subsystems.len(), 4);
    for entry in &loaded.settings.subsystems {
        let check = &entry.scheduled.check;
        let websocket = |connected, flowing| {
            let latency_ms = Some(f64::MAX);
            let data_flowing = Some(flowing);
            let status =
                WebSocketStatus { connected: Some(connected), data_flowing, latency_ms, ..WebSocketStatus::default() };
            Vitals { websocket: Some(status), ..Vitals::default() }
        };
        let told = |connected, flowing| Vitals {
            rate_limits: limits(&[("BTC/USD", 100.0)]).rate_limits,
            execution_latency_ms: Some(f64::MAX),
            error_rate: Some(1.0),
            memory_usage: Some(1.0),
            ..websocket(connected, flowing)
        };
        let of_parts = || Vitals {
            parts: crate::model::BotPart::ALL.map(|part| (part, Some("broken".to_owned()))).into(),
            ..Vitals::default()
        };
        let seen = match check.kind() {
            "websocket" => vec![websocket(false, false), websocket(true, false)],
            "freqtrade" => vec![of_parts()],
            _ => vec![told(false, false), told(true, false)],
        };
        let mut raised = std::collections::BTreeSet::new();
        for vitals in &seen {
            let subject = Subject::Vitals { subsystem: &entry.subsystem, vitals, affects: &[] };
            for (kind, verdict) in evaluate(subject, &crate::detect::Settings::default(), Timestamp::default()) {
                if matches!(verdict, Verdict::Known(issues) if !issues.is_empty()) {
                    raised.insert(kind.to_string());
                }
            }
        }
        let named: std::collections::BTreeSet<String> = check.raises().iter().map(|kind| (*kind).to_owned()).collect();
        assert_eq!(raised, named, "{}", check.kind());
    }
}
