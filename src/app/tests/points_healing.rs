//! What is done about what failure points find, on a simulated clock (WSP-7): refreshed, restored, released, retried, proposed;
//! and what the log tells of it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::sim::{Part, Sim, rules};
use crate::app::approvals::Answer;
use crate::app::cycle::{Command, Rules};
use crate::app::points_log::Story;
use crate::execute::{self, Actuator, Binding, Order, ProbeAnswer};
use crate::journal::Record;
use crate::model::{
    AlertStatus, Autonomy, Class, Criticality, Ending, FailurePoint, Finding, Health, Level, Means, PLATFORM, Reason,
    Severity, Status, Timestamp,
};
use crate::observe::Observation;
use crate::publish::{HealingStep, PointHealing};

pub(super) const PARTS: &[Part] = &[("exchange_connection", Criticality::Full, &[])];
pub(super) const POINTS: [&str; 5] =
    ["intelligence_freshness", "configuration", "kill_switch", "network", "position_limits"];

/// What chiron has built in.
struct BuiltIn;

#[async_trait]
impl Actuator for BuiltIn {
    fn means(&self) -> Means {
        Means::Internal
    }
    async fn apply(&self, _: &Order) -> execute::Answer {
        execute::Answer::new(Ending::Ok, "")
    }
    async fn probe(&self, _: &Order) -> ProbeAnswer {
        ProbeAnswer::AskCheck
    }
    async fn preflight(&self) -> Vec<String> {
        Vec::new()
    }
    fn describe(&self) -> String {
        "built in".to_owned()
    }
}

/// A platform whose failure points are nobody's in particular, with these actions bound to it. It has been well for a while.
pub(super) fn platform(bound: &[&str]) -> Sim {
    platform_with(bound, |_| ())
}

/// The same under other rules.
pub(super) fn platform_with(bound: &[&str], change: impl FnOnce(&mut Rules)) -> Sim {
    let bound: Vec<(&str, &str, Class)> = bound.iter().map(|action| (*action, PLATFORM, class(action))).collect();
    let mut rules = rules(PARTS, &bound);
    for binding in rules.bindings.values_mut().filter(|binding| binding.class == Class::Natural) {
        let built_in = binding.action == *"retry_connection";
        let retries = if binding.action == *"fallback_to_backup" { 0 } else { 2 };
        let actuator = if built_in { Arc::new(BuiltIn) } else { Arc::clone(&binding.actuator) };
        *binding = Arc::new(Binding { retries, actuator, ..Binding::clone(binding) });
    }
    rules.failure_points =
        POINTS.iter().map(|name| FailurePoint { category: (*name).into(), subsystem: PLATFORM.into() }).collect();
    change(&mut rules);
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.live(70);
    sim
}

fn class(action: &str) -> Class {
    if action == "release_kill_switch" { Class::OneShot } else { Class::Natural }
}

/// A look at a failure point: what it finds, if anything, and whether that is overdue.
pub(super) fn look(sim: &mut Sim, category: &str, found: Option<(Severity, &str)>, overdue: bool) {
    let index = POINTS.iter().position(|name| *name == category).expect("it is configured");
    let mut health = Health::unknown(category.into());
    health.status = match found {
        None => Status::Healthy,
        Some((Severity::Critical, _)) => Status::Critical,
        Some(_) => Status::Degraded,
    };
    health.timestamp = sim.now;
    health.signals.overdue = overdue;
    let finding = |(severity, text): (Severity, &str)| Finding { symbol: None, severity, description: text.to_owned() };
    health.signals.findings = found.map(finding).into_iter().collect();
    let mut inputs = sim.inputs();
    sim.forced.remove(&(PARTS.len() + index));
    inputs.observations = vec![Observation::Health { index: PARTS.len() + index, health }];
    sim.step(inputs);
}

/// The log, told from the whole journal.
pub(super) fn log(sim: &Sim) -> Vec<PointHealing> {
    let mut story = Story::default();
    let suggestion = |category: &str| (category == "position_limits").then(|| "close 1 position".to_owned());
    sim.entries.iter().filter_map(|entry| story.line(entry, suggestion)).collect()
}

/// The steps of the log with their actions.
pub(super) fn steps(sim: &Sim) -> Vec<(HealingStep, String)> {
    let one = |line: &PointHealing| (line.step, line.action.as_ref().map_or_else(String::new, ToString::to_string));
    log(sim).iter().map(one).collect()
}

/// The same for one action.
pub(super) fn steps_of(sim: &Sim, action: &str) -> Vec<HealingStep> {
    steps(sim).into_iter().filter(|(_, of)| of == action).map(|(step, _)| step).collect()
}

pub(super) fn told(sim: &Sim) -> Vec<Reason> {
    let reasons = sim.entries.iter().filter_map(|entry| match entry.record {
        Record::EpisodeEscalated { reason, .. } => Some(reason),
        _ => None,
    });
    reasons.collect()
}

pub(super) fn at_work(sim: &Sim) -> Vec<String> {
    let action = |key| sim.state.runs.get(key).map_or_else(String::new, |run| run.action.to_string());
    sim.under_way.iter().map(|(key, _)| action(key)).collect()
}

/// When each run of an action was begun, in milliseconds since `from`.
pub(super) fn begun(sim: &Sim, action: &str, from: Timestamp) -> Vec<i64> {
    let runs = sim.state.ended_runs.iter().chain(sim.state.runs.values());
    let mut at: Vec<i64> = runs
        .filter(|run| run.action == *action)
        .filter_map(|run| Some(run.started_at?.millis() - from.millis()))
        .collect();
    at.sort_unstable();
    at
}

pub(super) const STALE: Option<(Severity, &str)> = Some((Severity::Medium, "data/intelligence.json is stale"));

/// WSP-7: stale intelligence is refreshed, by itself, and has only worked when the failure point finds it fresh.
#[test]
fn a_refresh_is_watched_to_its_end() {
    let mut sim = platform(&["refresh_intelligence"]);
    look(&mut sim, "intelligence_freshness", STALE, false);
    assert_eq!(at_work(&sim), ["refresh_intelligence"]);
    sim.answer(Ending::Ok);
    sim.live(3);
    assert!(sim.forced.contains(&PARTS.len()), "the failure point is asked");
    look(&mut sim, "intelligence_freshness", STALE, false);
    assert_eq!(steps(&sim), [(HealingStep::Started, "refresh_intelligence".to_owned())], "an exit code proves nothing");
    sim.live(2);
    look(&mut sim, "intelligence_freshness", None, false);
    assert_eq!(steps_of(&sim, "refresh_intelligence"), [HealingStep::Started, HealingStep::Verified]);
    assert!(sim.state.episodes.is_empty() && told(&sim).is_empty());
    assert_eq!(log(&sim).len(), 2, "{:?}", log(&sim));
}

/// WSP-7, ACT-5: what is not refreshed is tried again, after the cooldown; then a person is told.
#[test]
fn a_refresh_that_does_not_help_is_told() {
    let mut sim = platform(&["refresh_intelligence"]);
    look(&mut sim, "intelligence_freshness", STALE, false);
    let from = sim.now;
    for _ in 0..400 {
        sim.answer(Ending::Ok);
        sim.live(1);
        look(&mut sim, "intelligence_freshness", STALE, false);
    }
    let begun = begun(&sim, "refresh_intelligence", from);
    assert_eq!(begun.len(), 3, "{begun:?}");
    assert!(begun[1] - begun[0] >= 60_000 && begun[2] - begun[1] >= 60_000, "the target's cooldown holds: {begun:?}");
    let of_it = steps_of(&sim, "refresh_intelligence");
    assert_eq!(of_it, [HealingStep::Started, HealingStep::Failed].repeat(3));
    assert_eq!(told(&sim), [Reason::Unbound], "the backup that the ladder has next is bound to nothing");
}

pub(super) const BY_RIGHT: Option<(Severity, &str)> =
    Some((Severity::Critical, "kill switch active; until 2025-11-23T02:00:00Z"));
pub(super) const OVERDUE: Option<(Severity, &str)> =
    Some((Severity::Critical, "kill switch active; its time passed at 2025-11-23T02:00:00Z without release"));

/// The question that a person is asked about a kill switch.
pub(super) fn question(sim: &Sim) -> Option<Answer> {
    let (key, question) = sim.state.questions.iter().next()?;
    Some(Answer {
        recommendation: format!("rec_{}_{}", key.rung, key.episode),
        digest: question.digest.clone(),
        by: "alice".to_owned(),
        reason: String::new(),
    })
}

/// WSP-7: while a kill switch is active by right nothing is offered; once its time has passed, its release is, to a person;
/// approved, it is begun, and it counts as released when the failure point says so.
#[test]
fn an_overdue_kill_switch_is_released_by_approval() {
    let mut sim = platform(&["release_kill_switch"]);
    look(&mut sim, "kill_switch", BY_RIGHT, false);
    sim.live(600);
    let ladder = |sim: &Sim| sim.state.episodes.values().next().expect("it is open").ladder.clone();
    assert!(ladder(&sim).is_empty() && question(&sim).is_none());
    assert_eq!((told(&sim), steps(&sim)), (vec![Reason::Exhausted], vec![]));
    assert_eq!(sim.state.level(), Level::NoNewTrades);

    look(&mut sim, "kill_switch", OVERDUE, true);
    assert_eq!(ladder(&sim).len(), 1);
    let asked = question(&sim).expect("a person is asked");
    sim.live(30);
    assert!(sim.under_way.is_empty(), "it waits");
    assert_eq!(steps(&sim), [(HealingStep::Asked, "release_kill_switch".to_owned())]);

    assert_eq!(sim.command(Command::Approve(asked)), None);
    assert_eq!(at_work(&sim), ["release_kill_switch"]);
    sim.answer(Ending::Ok);
    sim.live(3);
    look(&mut sim, "kill_switch", OVERDUE, true);
    assert_eq!(steps_of(&sim, "release_kill_switch"), [HealingStep::Asked, HealingStep::Started]);
    sim.live(3);
    look(&mut sim, "kill_switch", None, false);
    let all: Vec<HealingStep> = steps(&sim).into_iter().map(|(step, _)| step).collect();
    assert_eq!(all, [HealingStep::Asked, HealingStep::Started, HealingStep::Verified, HealingStep::Released]);
    assert!(sim.state.episodes.is_empty());
}

/// WSP-7: a switch that the bot releases itself is verified as released; the question about it goes.
#[test]
fn a_release_by_the_bot_is_verified() {
    let mut sim = platform(&["release_kill_switch"]);
    look(&mut sim, "kill_switch", OVERDUE, true);
    assert!(question(&sim).is_some());
    sim.live(10);
    look(&mut sim, "kill_switch", None, false);
    assert!(question(&sim).is_none() && sim.effects.is_empty());
    let last = log(&sim).pop().expect("a line");
    assert_eq!((last.step, last.action, last.run), (HealingStep::Released, None, None));
    assert!(last.detail.starts_with("verified as released"), "{}", last.detail);
    look(&mut sim, "kill_switch", BY_RIGHT, false);
    look(&mut sim, "kill_switch", None, false);
    assert_eq!(log(&sim).last().map(|line| line.step), Some(HealingStep::Released), "also one that was never overdue");
}

/// WSP-7: the offer is taken back when the bot has prolonged its switch, and nobody's word begins it then: neither an alert's
/// nor an approval of what was shown before.
#[test]
fn nothing_is_done_while_it_is_active_by_right() {
    let mut sim = platform(&["release_kill_switch"]);
    look(&mut sim, "kill_switch", OVERDUE, true);
    let asked = question(&sim).expect("a person is asked");
    look(&mut sim, "kill_switch", BY_RIGHT, false);
    assert!(question(&sim).is_none());
    assert!(sim.command(Command::Approve(asked)).is_some());
    let episode = sim.state.episodes.values().next().expect("it is open").clone();
    // As an alert's route would put it there.
    let mut settings = crate::alerts::Settings::clone(&sim.rules.alerts);
    settings.routes.insert(
        0,
        crate::alerts::Route {
            matches: [("alertname".to_owned(), "switch_down".to_owned())].into(),
            subsystem: Some(PLATFORM.into()),
            kind: Some("kill_switch".into()),
            action: Some("release_kill_switch".into()),
            ..crate::alerts::Route::default()
        },
    );
    sim.rules.alerts = Arc::new(settings);
    let rules = sim.rules.clone();
    sim.cycle.reconfigure(rules, &sim.state, sim.now);
    sim.check_all();
    sim.alert("switch", AlertStatus::Firing, sim.now);
    sim.check_all();
    sim.live(120);
    assert!(sim.state.episodes.contains_key(&episode.id));
    assert!(question(&sim).is_none() && sim.effects.is_empty(), "{:?}", sim.kinds(0));
}

/// WSP-7, POL-1: it raises risk: while what trading depends on is broken or unknown, or something else holds a strict policy,
/// nobody is asked to release it; that is over at once when they are well.
#[test]
fn a_release_waits_for_a_sound_platform() {
    let mut sim = platform(&["release_kill_switch"]);
    sim.break_("exchange_connection", Status::Critical);
    sim.check_all();
    look(&mut sim, "kill_switch", OVERDUE, true);
    sim.live(30);
    assert!(question(&sim).is_none());
    sim.break_("exchange_connection", Status::Healthy);
    sim.live(10);
    assert!(question(&sim).is_none(), "the policy of what was broken still holds");
    sim.live(900);
    assert!(question(&sim).is_some(), "{:?}", sim.cycle.waiting());
}

pub(super) const AWAY: Option<(Severity, &str)> = Some((Severity::Critical, "exchange.example:443: refused"));

/// WSP-7: a lost network is tried again after 1 s, 5 s and 25 s, each try a run of its own, held up by no cooldown; then the
/// ladder goes on. Each try is reported.
#[test]
fn a_lost_network_is_retried() {
    let mut sim = platform(&["retry_connection", "fallback_to_backup"]);
    let mild = Some((Severity::High, "exchange.example:443: refused"));
    look(&mut sim, "network", mild, false);
    let from = sim.now;
    for _ in 0..60 {
        if at_work(&sim) == ["retry_connection"] {
            sim.answer(Ending::Failed);
            let inputs = sim.inputs();
            sim.step(inputs);
        }
        sim.live(1);
    }
    assert_eq!(begun(&sim, "retry_connection", from), [1_000, 6_000, 31_000]);
    let fallback = begun(&sim, "fallback_to_backup", from);
    assert!(fallback[0] <= 32_000, "tries use up no cooldown: {fallback:?}");
    let once = [HealingStep::Started, HealingStep::Retried, HealingStep::Failed];
    assert_eq!(steps_of(&sim, "retry_connection"), once.repeat(3));
    assert_eq!(sim.state.starts.len(), 1, "nor a budget");
}

/// WSP-7: a network that comes back is verified by the failure point; one that comes back by itself needs no further try.
#[test]
fn a_network_that_comes_back_is_reported() {
    let mut sim = platform(&["retry_connection"]);
    look(&mut sim, "network", AWAY, false);
    sim.live(1);
    assert_eq!(at_work(&sim), ["retry_connection"]);
    sim.answer(Ending::Ok);
    sim.live(2);
    look(&mut sim, "network", None, false);
    use HealingStep::{Retried, Started, Verified};
    assert_eq!(steps_of(&sim, "retry_connection"), [Started, Retried, Verified]);
    assert!(sim.state.episodes.is_empty());
    sim.live(5);
    look(&mut sim, "network", AWAY, false);
    look(&mut sim, "network", None, false);
    let last = log(&sim).pop().expect("a line");
    assert_eq!((last.step, last.action), (Verified, None));
    assert!(last.detail.starts_with("over by itself"), "{}", last.detail);
}

/// WSP-7: limits that are reached are proposed about, once, and nothing is ever carried out, whatever is bound or set; only what
/// is beyond its limit calls a person.
#[test]
fn position_limits_get_a_suggestion() {
    let mut sim = platform(&["review_position_limits"]);
    sim.rules.recommend.autonomy.insert("review_position_limits".into(), Autonomy::Automatic);
    let rules = sim.rules.clone();
    sim.cycle.reconfigure(rules, &sim.state, sim.now);
    sim.check_all();
    look(&mut sim, "position_limits", Some((Severity::Medium, "open positions at the limit of 3")), false);
    for _ in 0..10 {
        sim.live(60);
        look(&mut sim, "position_limits", Some((Severity::Medium, "open positions at the limit of 3")), false);
    }
    let lines = log(&sim);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0].step, lines[0].detail.as_str()), (HealingStep::Suggested, "close 1 position"));
    assert_eq!(told(&sim), [], "a limit that is reached is a normal state");
    look(&mut sim, "position_limits", Some((Severity::High, "open positions beyond the limit of 3")), false);
    sim.live(60);
    assert_eq!(told(&sim), [Reason::Manual]);
    assert!(sim.effects.is_empty(), "nothing is ever carried out");
    look(&mut sim, "position_limits", None, false);
    assert_eq!(log(&sim).last().map(|line| line.step), Some(HealingStep::Verified));
}

pub(super) const BROKEN: Option<(Severity, &str)> = Some((Severity::High, "conf/trading.json: not JSON"));

/// WSP-7, DET-4: broken configuration is restored by itself, one action at a time on one target; after a crash it is done again
/// and the log tells it once.
#[test]
fn configuration_is_restored() {
    let mut sim = platform(&["restore_configuration", "refresh_intelligence"]);
    look(&mut sim, "configuration", BROKEN, false);
    look(&mut sim, "intelligence_freshness", STALE, false);
    assert_eq!(at_work(&sim), ["restore_configuration"], "the other waits for the same target");
    let before = sim.entries.len();
    sim.crash();
    sim.check_all();
    look(&mut sim, "configuration", BROKEN, false);
    sim.live(2);
    assert_eq!(at_work(&sim), ["restore_configuration"], "{:?}", sim.kinds(before));
    sim.answer(Ending::Ok);
    sim.live(3);
    look(&mut sim, "configuration", None, false);
    use HealingStep::{Restored, Started, Verified};
    assert_eq!(steps_of(&sim, "restore_configuration"), [Started, Started, Restored, Verified]);

    // Told by a process that begins at any entry, from what it knows then: every line once, and the same.
    let whole = log(&sim);
    let state = sim.state.clone();
    for cut in 0..sim.entries.len() {
        let mut first = Story::default();
        let mut second = Story::of(&state);
        let lines = sim.entries.iter().filter_map(|entry| {
            let story = if entry.seq as usize <= cut { &mut first } else { &mut second };
            story.line(entry, |_| None)
        });
        let lines: Vec<PointHealing> = lines.collect();
        assert_eq!(lines, whole, "cut at {cut}");
    }
    sim.pass(Duration::from_secs(120).as_secs());
    sim.live(2);
    assert_eq!(at_work(&sim), ["refresh_intelligence"], "the other has its turn after the cooldown");
}

/// WSP-7: in dry-run nothing is begun, and the log says what would have been.
#[test]
fn a_rehearsal_is_told_as_one() {
    let mut sim = platform(&["refresh_intelligence"]);
    sim.rules.admit.dry_run = true;
    let rules = sim.rules.clone();
    sim.cycle.reconfigure(rules, &sim.state, sim.now);
    sim.check_all();
    look(&mut sim, "intelligence_freshness", STALE, false);
    sim.live(10);
    assert!(sim.effects.is_empty());
    let lines = log(&sim);
    assert_eq!(lines.iter().map(|line| line.step).collect::<Vec<_>>(), [HealingStep::Suggested]);
    assert!(lines[0].detail.starts_with("dry-run"), "{}", lines[0].detail);
}
