//! Timelines of what waits for a person: approved, rejected, expired, changed; and drills.

use super::sim::{Part, Sim, rules};
use crate::app::approvals::Answer;
use crate::app::cycle::{Command, Refused};
use crate::journal::{ApprovalEnd, Record};
use crate::model::{
    AlertStatus, Autonomy, Caller, Class, Criticality, Ending, Level, Outcome, Reason, RecommendationState, Role,
    RunKey, Status,
};
use crate::recommend::Ladder;

const ROUTER: &[Part] = &[("order_router", Criticality::Partial, &[])];
const BOUND: &[(&str, &str, Class)] =
    &[("restart_subsystem", "order_router", Class::OneShot), ("fallback_to_backup", "order_router", Class::Natural)];

/// A broken router whose restart waits for a person.
fn asking() -> Sim {
    let mut rules = rules(ROUTER, BOUND);
    rules.recommend.auto_restart_enabled = false;
    rules.recommend.ladders = vec![Ladder {
        subsystem: Some("order_router".into()),
        kind: None,
        severity: None,
        actions: vec!["restart_subsystem".into(), "fallback_to_backup".into()],
    }];
    // So that nothing but what a test does changes the policy.
    rules.detect.failed_after = std::time::Duration::from_secs(86_400);
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim
}

fn shown(sim: &Sim) -> (String, String) {
    let (key, question) = sim.state.questions.get_min().expect("something is asked").clone();
    (format!("rec_{}_{}", key.rung, key.episode), question.digest)
}

fn answer(sim: &Sim) -> Answer {
    let (recommendation, digest) = shown(sim);
    Answer { recommendation, digest, by: "ana (basic)".to_owned(), reason: "looked at it".to_owned() }
}

fn ends(sim: &Sim) -> Vec<ApprovalEnd> {
    let ends = sim.entries.iter().filter_map(|entry| match &entry.record {
        Record::ApprovalEnded { how, .. } => Some(*how),
        _ => None,
    });
    ends.collect()
}

fn is_conflict(refused: Option<Refused>, text: &str) -> bool {
    matches!(refused, Some(Refused::Conflict(why)) if why.contains(text))
}

/// ACT-3: an approval begins exactly what was shown, in the transaction that starts it, and is used once.
#[test]
fn approved_once() {
    let mut sim = asking();
    assert!(sim.under_way.is_empty());
    assert_eq!(sim.cycle.waiting().values().next().map(|waiting| waiting.state), Some(RecommendationState::Approval));
    let (yes, from) = (answer(&sim), sim.entries.len());
    assert_eq!(sim.command(Command::Approve(yes.clone())), None);
    assert_eq!(sim.begun.as_deref().map(|run| run.ends_with("/1/1")), Some(true));
    assert_eq!(sim.kinds(from)[..3], ["approval_ended", "run_intended", "run_started"]);
    assert_eq!(sim.under_way.len(), 1);
    assert!(is_conflict(sim.command(Command::Approve(yes.clone())), "does not wait for an approval"));
    sim.answer(Ending::Ok);
    sim.break_("order_router", Status::Healthy);
    sim.live(5);
    assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Verified));
    assert!(matches!(sim.command(Command::Approve(yes)), Some(Refused::NotFound(_))), "the issue is over");
    assert_eq!(sim.effects.len(), 1);
}

/// ACT-3: what was shown and has changed since is not begun: the policy, the settings, a wrong digest.
#[test]
fn bound_to_what_was_shown() {
    let mut sim = asking();
    let old = answer(&sim);
    let wrong = Answer { digest: "0".repeat(64), ..old.clone() };
    assert!(is_conflict(sim.command(Command::Approve(wrong)), "has changed"));
    let nowhere = Answer { recommendation: "rec_1_nothing".to_owned(), ..old.clone() };
    assert!(matches!(sim.command(Command::Approve(nowhere)), Some(Refused::NotFound(_))));
    let by = Caller { name: "ben".to_owned(), role: Role::Operate };
    let set = Command::SetPolicy { level: Level::DefensiveExit, reason: "news".to_owned(), by, until: None };
    assert_eq!(sim.command(set), None);
    assert!(is_conflict(sim.command(Command::Approve(old.clone())), "has changed"));
    sim.live(5);
    assert_eq!(ends(&sim), [ApprovalEnd::Withdrawn], "asked anew with what holds now");
    assert_ne!(answer(&sim).digest, old.digest);
    let now = answer(&sim);
    assert_eq!(sim.command(Command::Approve(now)), None);
    assert_eq!(sim.effects.len(), 1);
}

/// ACT-3: a question expires, a person is told, and it is asked anew under another digest.
#[test]
fn expires() {
    let mut sim = asking();
    let old = answer(&sim);
    sim.live(599);
    assert_eq!(answer(&sim).digest, old.digest);
    sim.pass(1);
    assert!(is_conflict(sim.command(Command::Approve(old.clone())), "expired"));
    sim.live(1);
    assert_eq!(ends(&sim), [ApprovalEnd::Expired]);
    assert_ne!(answer(&sim).digest, old.digest);
    assert!(is_conflict(sim.command(Command::Approve(old)), "has changed"));
    sim.live(1_500);
    let told: Vec<Reason> = sim
        .entries
        .iter()
        .filter_map(|entry| match entry.record {
            Record::EpisodeEscalated { reason, .. } => Some(reason),
            _ => None,
        })
        .collect();
    assert_eq!(told[..2], [Reason::ApprovalPending, Reason::Expired]);
    assert_eq!(told.iter().filter(|reason| **reason == Reason::ApprovalPending).count(), 1, "nobody is nagged");
    assert!(sim.effects.is_empty());
}

/// ACT-3: after a no, nothing that raises risk runs by itself any more; the next rung is asked for.
#[test]
fn rejected() {
    let mut sim = asking();
    let no = answer(&sim);
    assert_eq!(sim.command(Command::Reject(no)), None);
    sim.live(30);
    assert!(sim.effects.is_empty(), "{:?}", sim.effects);
    let episode = sim.state.episodes.values().next().expect("open");
    assert_eq!(episode.ladder[0].outcome, Some(Outcome::Rejected));
    assert_eq!(episode.ladder[1].autonomy, Autonomy::Automatic, "it would have run by itself");
    let (key, _) = sim.state.questions.get_min().expect("the next one is asked");
    assert_eq!(key.rung, 2);
}

/// ALR-1: an alert that asks for the same action settles the question; the answer to it comes too late.
#[test]
fn an_alert_comes_first() {
    let mut sim = asking();
    let late = answer(&sim);
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.check_all();
    assert_eq!(sim.under_way.len(), 1);
    assert!(sim.state.questions.is_empty());
    assert_eq!(ends(&sim), [ApprovalEnd::Withdrawn]);
    assert!(is_conflict(sim.command(Command::Approve(late)), "does not wait for an approval"));
    assert_eq!(sim.effects.len(), 1);
}

/// A crash neither loses nor answers a question; while the journal is away nothing can be approved.
#[test]
fn survives_a_crash() {
    let mut sim = asking();
    let yes = answer(&sim);
    sim.crash();
    sim.check_all();
    assert_eq!(answer(&sim).digest, yes.digest);
    sim.lose_journal();
    assert!(is_conflict(sim.command(Command::Approve(yes.clone())), "journal"));
    sim.regain_journal();
    sim.check_all();
    assert_eq!(sim.command(Command::Approve(yes)), None);
    assert_eq!(sim.effects.len(), 1);
}

/// What heals by itself is asked for no longer.
#[test]
fn withdrawn_when_over() {
    let mut sim = asking();
    sim.break_("order_router", Status::Healthy);
    sim.live(10);
    assert!(sim.state.questions.is_empty());
    assert!(sim.state.episodes.is_empty());
    assert_eq!(ends(&sim), [ApprovalEnd::Withdrawn], "the audit log shows how it ended");
}

/// SEC-1: tightening needs no approval; loosening does.
#[test]
fn loosening_needs_the_role() {
    let mut sim = Sim::new(rules(ROUTER, BOUND));
    sim.check_all();
    let start = sim.now;
    let set = |level, role, until: Option<u64>| {
        let by = Caller { name: "ben".to_owned(), role };
        let until = until.map(|seconds| start.plus(std::time::Duration::from_secs(seconds)));
        Command::SetPolicy { level, reason: "news".to_owned(), by, until }
    };
    assert_eq!(sim.command(set(Level::NoNewTrades, Role::Operate, Some(600))), None);
    assert!(matches!(sim.command(set(Level::NoNewTrades, Role::Operate, Some(60))), Some(Refused::Forbidden(_))));
    assert!(matches!(sim.command(set(Level::AllowAll, Role::Operate, None)), Some(Refused::Forbidden(_))));
    // A stricter one for a moment takes nothing with it when it ends; a milder one changes nothing.
    assert_eq!(sim.command(set(Level::DefensiveExit, Role::Operate, Some(5))), None);
    assert_eq!(sim.command(set(Level::SafeRiskProfile, Role::Operate, Some(5))), None);
    assert_eq!(sim.state.level(), Level::DefensiveExit);
    sim.live(300);
    assert_eq!(sim.state.level(), Level::NoNewTrades, "until its own ten minutes are over");
    // Whoever may loosen says what holds from now on.
    assert_eq!(sim.command(set(Level::SafeRiskProfile, Role::Approve, Some(600))), None);
    assert_eq!(sim.state.level(), Level::SafeRiskProfile);
    assert_eq!(sim.command(set(Level::AllowAll, Role::Approve, None)), None);
    assert_eq!(sim.state.level(), Level::AllowAll);
    let ended = sim.entries.iter().rev().find_map(|entry| match &entry.record {
        Record::HoldEnded { by, reason, .. } => Some((by.clone(), reason.clone())),
        _ => None,
    });
    assert_eq!(ended, Some((Some("ben".to_owned()), Some("news".to_owned()))));
}

fn drill() -> Command {
    Command::Drill { subsystem: "order_router".to_owned(), by: "ana".to_owned(), reason: "monthly".to_owned() }
}

/// ACT-3: a drill carries the bound action out for real, verifies it, and moves no policy.
#[test]
fn a_drill_is_real() {
    let mut sim = Sim::new(rules(ROUTER, BOUND));
    sim.check_all();
    let from = sim.entries.len();
    assert_eq!(sim.command(drill()), None);
    let id = sim.begun.clone().expect("the issue's id");
    assert_eq!(sim.under_way, [(RunKey { episode: id.as_str().into(), rung: 1, attempt: 1 }, "order_router".into())]);
    assert_eq!(sim.state.level(), Level::AllowAll);
    assert!(is_conflict(sim.command(drill()), "open issue"));
    sim.answer(Ending::Ok);
    sim.live(3);
    assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Verified));
    assert!(sim.state.episodes.is_empty());
    assert_eq!(
        sim.kinds(from),
        [
            "drill_asked",
            "episode_opened",
            "run_intended",
            "run_started",
            "run_finished",
            "run_verified",
            "episode_resolved"
        ]
    );
    assert!(is_conflict(sim.command(drill()), "cooldown"));
}

/// ACT-3, ACT-4: a drill that makes things worse says so; what it broke is a real issue.
#[test]
fn a_drill_can_fail() {
    let mut sim = Sim::new(rules(ROUTER, BOUND));
    sim.check_all();
    assert_eq!(sim.command(drill()), None);
    sim.answer(Ending::Ok);
    sim.break_("order_router", Status::Critical);
    sim.live(40);
    let drilled = sim.state.ended_runs.iter().find(|run| run.key.episode.starts_with("order_router"));
    assert_eq!(drilled.and_then(|run| run.outcome), Some(Outcome::Failed));
    assert!(sim.state.episodes.values().any(|episode| episode.key.kind == *"subsystem_status"));
}

/// A drill is refused where it would do harm or prove nothing.
#[test]
fn a_drill_is_refused() {
    let mut real = rules(ROUTER, BOUND);
    real.real_money = true;
    let mut sim = Sim::new(real);
    sim.check_all();
    assert!(matches!(sim.command(drill()), Some(Refused::Forbidden(_))));
    let mut dry = rules(ROUTER, BOUND);
    dry.admit.dry_run = true;
    let mut sim = Sim::new(dry);
    sim.check_all();
    assert!(is_conflict(sim.command(drill()), "dry-run"));
    let mut sim = Sim::new(rules(ROUTER, &[]));
    sim.check_all();
    assert!(is_conflict(sim.command(drill()), "no healing action is bound"));
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    assert!(is_conflict(sim.command(drill()), "expected healthy"));
    let elsewhere = Command::Drill { subsystem: "nowhere".to_owned(), by: "a".to_owned(), reason: "b".to_owned() };
    assert!(matches!(sim.command(elsewhere), Some(Refused::NotFound(_))));
}
