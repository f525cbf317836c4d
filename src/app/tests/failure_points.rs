//! Failure points on a simulated clock: what they find is issues that open, clear and are told to a person (OBS-8).

use super::sim::{Part, Sim, rules};
use crate::journal::{Episode, Record};
use crate::model::{
    Class, Criticality, FailurePoint, Finding, Health, IssueSource, Level, PLATFORM, Reason, Severity, Status,
};
use crate::observe::Observation;

const PARTS: &[Part] = &[("exchange_connection", Criticality::Full, &[]), ("bot", Criticality::Partial, &[])];

/// A platform with a failure point of nobody's, one of the exchange's connection and one with symbols.
fn platform() -> Sim {
    let mut rules = rules(PARTS, &[("fallback_to_backup", "exchange_connection", Class::Natural)]);
    let point =
        |category: &str, subsystem: &str| FailurePoint { category: category.into(), subsystem: subsystem.into() };
    rules.failure_points = vec![
        point("kill_switch", PLATFORM),
        point("exchange_api", "exchange_connection"),
        point("strategy_overlap", "bot"),
    ];
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim
}

/// A look at the failure point of that index.
fn look(sim: &mut Sim, index: usize, status: Status, findings: &[(&str, Severity, &str)]) {
    let mut health = Health::unknown(sim.rules.failure_points[index].category.clone());
    health.status = status;
    health.timestamp = sim.now;
    let finding = |(symbol, severity, text): &(&str, Severity, &str)| Finding {
        symbol: (!symbol.is_empty()).then(|| (*symbol).into()),
        severity: *severity,
        description: (*text).to_owned(),
    };
    health.signals.findings = findings.iter().map(finding).collect();
    let mut inputs = sim.inputs();
    inputs.observations = vec![Observation::Health { index: PARTS.len() + index, health }];
    sim.step(inputs);
}

fn open(sim: &Sim) -> Vec<(String, String, String)> {
    let key = |episode: &std::sync::Arc<Episode>| {
        let key = &episode.key;
        (key.subsystem.to_string(), key.kind.to_string(), key.symbol.as_deref().unwrap_or("").to_owned())
    };
    sim.state.episodes.values().map(key).collect()
}

fn told(sim: &Sim) -> Vec<Reason> {
    let reasons = sim.entries.iter().filter_map(|entry| match entry.record {
        Record::EpisodeEscalated { reason, .. } => Some(reason),
        _ => None,
    });
    reasons.collect()
}

const ACTIVE: &[(&str, Severity, &str)] = &[("", Severity::Critical, "kill switch active")];

/// OBS-8, POL-1: an active kill switch is one issue of the platform that holds `no_new_trades` and is told to a person once;
/// nothing is done about it. What is unknown neither opens nor ends it; a look that finds nothing does.
#[test]
fn a_kill_switch_is_told_and_held() {
    let mut sim = platform();
    look(&mut sim, 0, Status::Unknown, &[]);
    assert!(open(&sim).is_empty(), "unknown opens nothing");
    look(&mut sim, 0, Status::Critical, ACTIVE);
    let key = [("platform".to_owned(), "kill_switch".to_owned(), String::new())];
    assert_eq!(open(&sim), key);
    let episode = sim.state.episodes.values().next().unwrap();
    assert_eq!(episode.facts.source, IssueSource::FailurePoint);
    assert!(!episode.facts.impacts_trading && episode.ladder.is_empty());
    assert_eq!(sim.state.level(), Level::NoNewTrades);
    assert_eq!(told(&sim), [Reason::Exhausted]);
    let entries = sim.entries.len();
    for _ in 0..10 {
        sim.live(60);
        look(&mut sim, 0, Status::Critical, ACTIVE);
    }
    assert_eq!(open(&sim), key, "the same issue");
    assert_eq!((told(&sim).len(), sim.effects.len()), (1, 0));
    assert_eq!(sim.entries.len(), entries, "what stays the same is not journaled again");
    look(&mut sim, 0, Status::Unknown, &[]);
    sim.live(60);
    assert_eq!(open(&sim), key, "unknown ends nothing");
    assert_eq!(sim.state.level(), Level::NoNewTrades);
    look(&mut sim, 0, Status::Healthy, &[]);
    assert!(open(&sim).is_empty());
    sim.live(900);
    assert_eq!(sim.state.level(), Level::AllowAll);
}

/// OBS-8, DET-2: one issue for each symbol, each with its own end; none of them moves the policy.
#[test]
fn each_symbol_has_its_own_issue() {
    let mut sim = platform();
    let (a, b, c) = (
        ("A", Severity::Medium, "overlap on A"),
        ("B", Severity::Medium, "overlap on B"),
        ("C", Severity::Medium, "c"),
    );
    look(&mut sim, 2, Status::Degraded, &[a, b]);
    let symbols = |sim: &Sim| open(sim).into_iter().map(|(_, _, symbol)| symbol).collect::<Vec<_>>();
    assert_eq!(symbols(&sim), ["A", "B"]);
    look(&mut sim, 2, Status::Degraded, &[b, c]);
    assert_eq!(symbols(&sim), ["B", "C"]);
    assert!(sim.state.episodes.values().all(|episode| !episode.facts.impacts_trading));
    assert_eq!(sim.state.level(), Level::AllowAll);
    assert_eq!(told(&sim), [], "a mild finding that no action is for calls nobody");
    look(&mut sim, 2, Status::Degraded, &[b, ("C", Severity::High, "c")]);
    assert_eq!(told(&sim), [Reason::Exhausted], "until it is no longer mild");
    look(&mut sim, 2, Status::Healthy, &[]);
    assert!(open(&sim).is_empty());
}

/// OBS-8, DET-5, ACT-4: an exchange that is away pauses trading and falls back; that has helped only when the failure point
/// says so, however healthy the subsystem's own check is.
#[test]
fn a_lost_exchange_falls_back() {
    let mut sim = platform();
    look(&mut sim, 1, Status::Critical, &[("", Severity::Critical, "exchange API down")]);
    let episode = sim.state.episodes.values().next().unwrap();
    let actions: Vec<&str> = episode.ladder.iter().map(|rung| rung.action.as_str()).collect();
    assert_eq!(actions, ["pause_trading", "fallback_to_backup", "retry_connection"], "the backup is bound");
    assert!(episode.facts.impacts_trading, "the subsystem is one that trading depends on");
    assert_eq!(sim.state.level(), Level::DefensiveExit);
    assert_eq!(sim.under_way.iter().map(|(_, target)| target.as_str()).collect::<Vec<_>>(), ["exchange_connection"]);
    sim.answer(crate::model::Ending::Ok);
    sim.live(3);
    assert!(!sim.state.runs.is_empty(), "a healthy subsystem is no proof");
    assert!(sim.forced.contains(&(PARTS.len() + 1)) || sim.state.ended_runs.is_empty());
    look(&mut sim, 1, Status::Healthy, &[]);
    assert!(open(&sim).is_empty());
}

/// A look at the failure point of that index that could not be taken.
fn look_in_vain(sim: &mut Sim, index: usize) {
    let mut health = Health::unknown(sim.rules.failure_points[index].category.clone());
    (health.timestamp, health.unrunnable) = (sim.now, true);
    health.details.insert("error".to_owned(), "permission denied".into());
    let mut inputs = sim.inputs();
    inputs.observations = vec![Observation::Health { index: PARTS.len() + index, health }];
    sim.step(inputs);
}

/// OBS-1, OBS-8: a failure point that cannot be looked at three times in a row is an issue that a person is told of; it ends
/// with a look. What was open before stays as it was.
#[test]
fn what_cannot_be_looked_at_is_told() {
    let mut sim = platform();
    let text = |sim: &Sim| sim.state.episodes.values().map(|one| one.facts.description.clone()).collect::<Vec<_>>();
    for misses in 1..6 {
        look_in_vain(&mut sim, 0);
        assert_eq!(open(&sim).len(), usize::from(misses >= 3), "{misses}");
        sim.live(60);
    }
    assert_eq!(text(&sim), ["cannot be looked at: permission denied"]);
    assert_eq!(told(&sim), [Reason::Exhausted]);
    assert_eq!(sim.state.episodes.values().next().unwrap().facts.severity, Severity::High);
    look(&mut sim, 0, Status::Healthy, &[]);
    assert!(open(&sim).is_empty());
    for _ in 0..2 {
        look_in_vain(&mut sim, 0);
        look_in_vain(&mut sim, 0);
        look(&mut sim, 0, Status::Critical, ACTIVE);
    }
    (0..5).for_each(|_| look_in_vain(&mut sim, 0));
    assert_eq!(text(&sim), ["kill switch active"]);
    assert_eq!(sim.state.level(), Level::NoNewTrades);
}

/// OBS-8: a reload that takes a failure point away ends its issues, and leaves those of the others.
#[test]
fn a_reload_that_removes_a_point_ends_its_issues() {
    let mut sim = platform();
    look(&mut sim, 0, Status::Critical, ACTIVE);
    look(&mut sim, 2, Status::Degraded, &[("A", Severity::Medium, "overlap on A")]);
    let mut rules = sim.rules.clone();
    rules.failure_points.remove(0);
    sim.rules = rules.clone();
    sim.cycle.reconfigure(rules, &sim.state, sim.now);
    sim.check_all();
    assert_eq!(open(&sim), [("bot".to_owned(), "strategy_overlap".to_owned(), "A".to_owned())]);
    sim.crash();
    sim.check_all();
    assert_eq!(open(&sim).len(), 1, "a restart forgets nothing");
}
