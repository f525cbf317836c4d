//! Timelines of admission: storms, groups, maintenance, and what runs all the same (ACT-3).

use std::sync::Arc;
use std::time::Duration;

use super::sim::{Part, Sim, rules};
use crate::admit::group::Group;
use crate::admit::window::{Plan, Window};
use crate::alerts::{self, Watchdog};
use crate::app::approvals::Answer;
use crate::app::cycle::{Command, Refused, Rules};
use crate::app::maintenance::Announcement;
use crate::journal::Record;
use crate::model::{
    AlertStatus, Caller, Class, Criticality, Ending, HOST, Level, Name, Outcome, PLATFORM, PolicySource, Reason, Role,
    Status,
};

const fn part(name: &'static str, needs: &'static [&'static str]) -> Part {
    (name, Criticality::Partial, needs)
}

/// `a` is needed by `b`, `c` and `d`; `e` and `f` stand alone.
const SIX: &[Part] =
    &[part("a", &[]), part("b", &["a"]), part("c", &["a"]), part("d", &["b"]), part("e", &[]), part("f", &[])];
/// Nobody needs anybody.
const ALONE: &[Part] =
    &[part("a", &[]), part("b", &[]), part("c", &[]), part("d", &[]), part("e", &[]), part("f", &[])];
const RESTARTS: &[(&str, &str, Class)] = &[
    ("restart_subsystem", "a", Class::OneShot),
    ("restart_subsystem", "b", Class::OneShot),
    ("restart_subsystem", "c", Class::OneShot),
    ("restart_subsystem", "d", Class::OneShot),
    ("restart_subsystem", "e", Class::OneShot),
    ("restart_subsystem", "f", Class::OneShot),
];

fn six(parts: &[Part], change: impl FnOnce(&mut Rules)) -> Sim {
    let mut rules = rules(parts, RESTARTS);
    change(&mut rules);
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim
}

fn break_all(sim: &mut Sim, names: &[&str]) {
    names.iter().for_each(|name| sim.break_(name, Status::Critical));
    sim.check_all();
}

/// Who has been acted upon, in order.
fn begun(sim: &Sim) -> Vec<String> {
    let started = sim.entries.iter().filter_map(|entry| match &entry.record {
        Record::RunStarted { key, .. } => Some(key.clone()),
        _ => None,
    });
    let target = |key| {
        let ended = sim.state.ended_runs.iter().find(|run| run.key == key).map(|run| run.target.to_string());
        ended.unwrap_or_else(|| sim.state.runs[&key].target.to_string())
    };
    started.map(target).collect()
}

/// Why a subsystem's episode waits.
fn why(sim: &Sim, subsystem: &str) -> Option<Reason> {
    let episode = sim.state.episodes.values().find(|episode| episode.key.subsystem == *subsystem)?;
    sim.cycle.waiting().get(&episode.id).map(|waiting| waiting.reason)
}

fn told(sim: &Sim, subsystem: &str) -> Vec<Reason> {
    let about = |id: &crate::model::EpisodeId| id.starts_with(&format!("{subsystem}_"));
    let told = sim.entries.iter().filter_map(|entry| match &entry.record {
        Record::EpisodeEscalated { id, reason } if about(id) => Some(*reason),
        _ => None,
    });
    told.collect()
}

fn heal(sim: &mut Sim, name: &str) {
    assert_eq!(sim.answer(Ending::Ok).as_deref(), Some(name));
    sim.break_(name, Status::Healthy);
}

/// ACT-3, OBS-6: in a storm only the root cause is acted upon; the others are when it has been calm for a while.
#[test]
fn a_storm_leaves_only_the_root_cause() {
    let mut sim = six(SIX, |_| {});
    break_all(&mut sim, &["a", "b", "c", "d", "e", "f"]);
    assert!(sim.cycle.is_stormy());
    assert_eq!(begun(&sim), ["a"]);
    assert_eq!((why(&sim, "e"), why(&sim, "b")), (Some(Reason::Storm), Some(Reason::Dependency)));
    heal(&mut sim, "a");
    ["b", "c", "d"].into_iter().for_each(|name| sim.break_(name, Status::Healthy));
    sim.live(60);
    assert_eq!((sim.cycle.is_stormy(), why(&sim, "e")), (true, Some(Reason::Storm)), "not calm for long enough");
    assert_eq!(begun(&sim), ["a"]);
    sim.live(10);
    assert!(!sim.cycle.is_stormy());
    assert_eq!(begun(&sim), ["a", "e", "f"]);
    assert!(sim.state.totals.episodes == 6, "a storm with a root cause is no issue of its own");
}

/// ACT-3: below one of the limits there is no storm, whatever the other says.
#[test]
fn no_storm_below_a_limit() {
    let mut sim = six(ALONE, |_| {});
    break_all(&mut sim, &["a", "b", "c", "d"]);
    assert!(!sim.cycle.is_stormy() && begun(&sim).len() == 4);
    let mut sim = six(ALONE, |rules| rules.admit.storm.share = 0.9);
    break_all(&mut sim, &["a", "b", "c", "d", "e"]);
    assert!(!sim.cycle.is_stormy());
}

/// Invariant 22: a storm without a root cause restores nothing, and a person is told once, across a restart too; with the
/// storm the issue is over.
#[test]
fn a_storm_without_a_root_cause_is_told() {
    let mut sim = six(ALONE, |_| {});
    break_all(&mut sim, &["a", "b", "c", "d", "e"]);
    sim.live(29);
    assert!(told(&sim, PLATFORM).is_empty(), "the check of a root cause may be late");
    sim.live(300);
    assert!(begun(&sim).is_empty());
    assert_eq!(told(&sim, PLATFORM), [Reason::Storm]);
    let episode = sim.state.episodes.values().find(|episode| episode.key.subsystem == *PLATFORM).expect("it is open");
    assert_eq!(episode.facts.affects_subsystems, ["a", "b", "c", "d", "e"]);
    assert!(episode.ladder.is_empty() && !episode.facts.moves_policy);
    sim.crash();
    sim.live(120);
    assert_eq!(told(&sim, PLATFORM), [Reason::Storm]);
    assert!(begun(&sim).is_empty());
    ["a", "b"].into_iter().for_each(|name| sim.break_(name, Status::Healthy));
    sim.live(50);
    assert!(begun(&sim).is_empty() && sim.cycle.is_stormy());
    sim.live(30);
    assert!(sim.state.episodes.values().all(|episode| episode.key.subsystem != *PLATFORM), "it is over");
    assert_eq!(begun(&sim).len(), 3, "the rest is acted upon");
}

/// A restart while the calm after a told storm has not been seen does not end the storm.
#[test]
fn a_restart_ends_no_storm_that_was_told() {
    let mut sim = six(ALONE, |_| {});
    break_all(&mut sim, &["a", "b", "c", "d", "e"]);
    sim.live(60);
    sim.break_("a", Status::Healthy);
    sim.live(10);
    sim.crash();
    sim.live(40);
    assert!(sim.cycle.is_stormy() && begun(&sim).is_empty());
    sim.live(40);
    assert!(!sim.cycle.is_stormy());
}

fn pair(min_healthy: f64) -> Sim {
    six(ALONE, |rules| {
        let members = ["a", "b", "c"].map(Name::from).to_vec();
        rules.admit.groups = vec![Group { name: "routers".into(), members, min_healthy }];
    })
}

/// Invariant 22: one member of a group at a time, its verification included.
#[test]
fn one_member_of_a_group_at_a_time() {
    let mut sim = pair(0.3);
    break_all(&mut sim, &["a", "b"]);
    assert_eq!((begun(&sim), why(&sim, "b")), (vec!["a".to_owned()], Some(Reason::GroupBusy)));
    sim.answer(Ending::Ok);
    sim.check_forced();
    assert_eq!((begun(&sim).len(), why(&sim, "b")), (1, Some(Reason::GroupBusy)), "not verified yet");
    sim.break_("a", Status::Healthy);
    sim.live(3);
    assert_eq!(begun(&sim), ["a", "b"]);
}

/// Invariant 22: with too few healthy members left nothing is done, and a person is told once; it goes on by itself as soon
/// as another member is healthy.
#[test]
fn a_group_keeps_its_healthy_members() {
    let mut sim = pair(0.5);
    break_all(&mut sim, &["a", "b"]);
    sim.live(120);
    assert!(begun(&sim).is_empty());
    assert_eq!(why(&sim, "a"), Some(Reason::GroupUnhealthy));
    assert_eq!((told(&sim, "a"), told(&sim, "b")), (vec![Reason::GroupUnhealthy], vec![Reason::GroupUnhealthy]));
    sim.break_("b", Status::Healthy);
    sim.check_all();
    assert_eq!(begun(&sim), ["a"]);
}

fn announcement(sim: &Sim, subsystems: &[&str], actions: &[&str], seconds: u64) -> Announcement {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    Announcement {
        subsystems: names(subsystems),
        actions: names(actions),
        until: sim.now.plus(Duration::from_secs(seconds)),
        by: Caller { name: "ana".to_owned(), role: Role::Operate },
        reason: "new disks".to_owned(),
    }
}

fn announce(sim: &mut Sim, subsystems: &[&str], actions: &[&str], seconds: u64) -> String {
    let wish = announcement(sim, subsystems, actions, seconds);
    assert_eq!(sim.command(Command::SetMaintenance(wish)), None);
    sim.begun.clone().expect("its id")
}

/// ACT-3: in announced maintenance only what it lists runs, where it holds; it ends by itself at the very moment, across a
/// restart too, and with a record.
#[test]
fn announced_maintenance_holds_back_and_ends() {
    let mut sim = six(ALONE, |_| {});
    announce(&mut sim, &["a", HOST], &["clear_cache"], 100);
    announce(&mut sim, &["b"], &["restart_subsystem"], 1000);
    let ends = sim.now.plus(Duration::from_secs(100));
    break_all(&mut sim, &["a", "b", "c"]);
    assert_eq!(begun(&sim), ["b", "c"]);
    let waits = |sim: &Sim| sim.cycle.waiting().values().find_map(|waiting| waiting.not_before);
    assert_eq!((why(&sim, "a"), waits(&sim)), (Some(Reason::Maintenance), Some(ends)));
    sim.crash();
    sim.check_all();
    sim.live(98);
    assert_eq!(begun(&sim).iter().filter(|name| *name == "a").count(), 0);
    assert_eq!(sim.state.maintenance.len(), 2);
    sim.pass(2);
    sim.check_forced();
    assert!(begun(&sim).contains(&"a".to_owned()));
    let ended = sim.entries.iter().find_map(|entry| match &entry.record {
        Record::MaintenanceEnded { by, .. } => Some((entry.at, by.clone())),
        _ => None,
    });
    assert_eq!(ended, Some((ends, None)));
}

/// ACT-3: a person ends it early, and what waited runs at once.
#[test]
fn ending_maintenance_lets_things_run() {
    let mut sim = six(ALONE, |_| {});
    let id = announce(&mut sim, &[], &[], 1000);
    break_all(&mut sim, &["a"]);
    assert_eq!(why(&sim, "a"), Some(Reason::Maintenance));
    let end = |id: &str| Command::EndMaintenance { id: id.to_owned(), by: "ben".to_owned(), reason: String::new() };
    assert!(matches!(sim.command(end("maintenance_1")), Some(Refused::NotFound(_))));
    assert_eq!(sim.command(end(&id)), None);
    assert_eq!(begun(&sim), ["a"]);
    assert!(matches!(sim.command(end(&id)), Some(Refused::NotFound(_))), "once");
}

/// What cannot be announced, each with its reason; the number is bounded.
#[test]
fn what_is_no_announcement() {
    let mut sim = six(ALONE, |_| {});
    let right = announcement(&sim, &["a"], &[], 60);
    let month = 30 * 86_400;
    let wrong = [
        Announcement { subsystems: vec!["g".to_owned()], ..right.clone() },
        Announcement { actions: vec!["restart".to_owned()], ..right.clone() },
        Announcement { until: sim.now, ..right.clone() },
        Announcement { until: sim.now.plus(Duration::from_secs(month + 1)), ..right.clone() },
        Announcement { reason: " ".to_owned(), ..right.clone() },
    ];
    for wish in wrong {
        let refused = sim.command(Command::SetMaintenance(wish.clone()));
        assert!(refused.is_some(), "{wish:?}");
    }
    for _ in 0..100 {
        announce(&mut sim, &["a"], &[], month);
    }
    assert_eq!(sim.state.maintenance.len(), 100, "each has its own id");
    let refused = sim.command(Command::SetMaintenance(right));
    assert!(matches!(refused, Some(Refused::Conflict(_))), "{refused:?}");
}

/// While the clock is not to be trusted, nothing that was announced ends.
#[test]
fn a_clock_jump_ends_no_maintenance() {
    let mut sim = six(ALONE, |_| {});
    announce(&mut sim, &[], &[], 60);
    break_all(&mut sim, &["a"]);
    sim.cycle.set_blind("clock_jump", Some("the clock was set".to_owned()));
    sim.cycle.shift_clock(3_600_000);
    sim.pass(3600);
    sim.live(30);
    assert_eq!((sim.state.maintenance.len(), begun(&sim).len()), (1, 0));
    sim.cycle.set_blind("clock_jump", None);
    sim.live(10);
    assert_eq!((sim.state.maintenance.len(), begun(&sim)), (0, vec!["a".to_owned()]));
}

/// ACT-3: a window of the settings opens and closes by its plan. The simulation begins at 01:34:56Z.
#[test]
fn a_window_opens_and_closes() {
    let mut sim = six(ALONE, |rules| {
        let plan = Plan::parse("36 1 * * *", chrono_tz::Tz::UTC, crate::model::Timestamp::EPOCH).expect("a plan");
        let duration = Duration::from_secs(120);
        let subsystems = vec!["a".into()];
        rules.admit.windows = vec![Window { name: "nightly".into(), plan, duration, subsystems, actions: Vec::new() }];
    });
    let open = sim.now.plus(Duration::from_secs(64));
    sim.live(70);
    break_all(&mut sim, &["a", "b"]);
    assert_eq!((begun(&sim), why(&sim, "a")), (vec!["b".to_owned()], Some(Reason::Maintenance)));
    let until = sim.cycle.waiting().values().find_map(|waiting| waiting.not_before);
    assert_eq!(until, Some(open.plus(Duration::from_secs(120))));
    sim.live(113);
    assert_eq!(begun(&sim).iter().filter(|name| *name == "a").count(), 0);
    sim.live(1);
    assert!(begun(&sim).contains(&"a".to_owned()));
}

/// ACT-3: what a person approves runs in maintenance and in a storm.
#[test]
fn what_a_person_approves_runs() {
    let mut sim = six(ALONE, |rules| rules.recommend.auto_restart_enabled = false);
    announce(&mut sim, &[], &[], 1000);
    break_all(&mut sim, &["a", "b", "c", "d", "e"]);
    assert!(sim.cycle.is_stormy() && begun(&sim).is_empty());
    let (key, question) = sim.state.questions.get_min().cloned().expect("a question");
    let recommendation = format!("rec_{}_{}", key.rung, key.episode);
    let yes = Answer { recommendation, digest: question.digest, by: "ana".to_owned(), reason: String::new() };
    assert_eq!(sim.command(Command::Approve(yes)), None);
    assert_eq!(begun(&sim), ["a"]);
}

/// The asymmetry: what lowers risk needs no calm, no end of maintenance, no budget; what restores waits for each.
#[test]
fn lowering_risk_runs_whatever_holds_back_the_rest() {
    const PARTS: &[Part] = &[("data_feed", Criticality::Full, &[]), part("a", &[]), part("b", &[])];
    const BINDINGS: &[(&str, &str, Class)] = &[
        ("pause_trading", "data_feed", Class::Natural),
        ("restart_subsystem", "data_feed", Class::OneShot),
        ("restart_subsystem", "a", Class::OneShot),
    ];
    for reason in [Reason::Storm, Reason::Maintenance, Reason::Budget] {
        let mut rules = rules(PARTS, BINDINGS);
        rules.admit.storm.subsystems = if reason == Reason::Storm { 3 } else { 99 };
        rules.admit.overall_budget = 1;
        let mut sim = Sim::new(rules);
        sim.check_all();
        match reason {
            Reason::Maintenance => drop(announce(&mut sim, &[], &[], 1000)),
            Reason::Budget => {
                break_all(&mut sim, &["a"]);
                heal(&mut sim, "a");
                sim.live(10);
            }
            _ => {
                sim.break_("a", Status::Critical);
                sim.break_("b", Status::Critical);
            }
        }
        let before = begun(&sim).len();
        break_all(&mut sim, &["data_feed"]);
        assert_eq!(begun(&sim)[before..], ["data_feed"], "{reason:?}");
        let paused = sim.state.holds.keys().any(|key| key.source == PolicySource::Action);
        assert!(paused, "{reason:?}: trading is paused");
        sim.answer(Ending::Ok);
        sim.check_forced();
        assert_eq!(begun(&sim).len(), before + 1, "{reason:?}: the restart waits");
        assert_eq!(why(&sim, "data_feed"), Some(reason));
    }
}

/// The asymmetry: what raises risk, here a reverse, waits for verified health, the Watchdog and the policy, one after the
/// other, and then for a person.
#[test]
fn raising_risk_waits_for_proof() {
    const PARTS: &[Part] = &[("data_feed", Criticality::Full, &[])];
    const BINDINGS: &[(&str, &str, Class)] =
        &[("pause_trading", "data_feed", Class::Natural), ("resume_trading", "data_feed", Class::Natural)];
    let mut rules = rules(PARTS, BINDINGS);
    rules.policy.min_hold = Duration::from_secs(60);
    let absent_after = Duration::from_secs(180);
    let watchdog = Watchdog { alertname: "Watchdog".to_owned(), absent_after, policy: Level::NoNewTrades };
    rules.alerts = Arc::new(alerts::Settings { watchdog: Some(watchdog), ..(*rules.alerts).clone() });
    let mut sim = Sim::new(rules);
    sim.check_all();
    break_all(&mut sim, &["data_feed"]);
    sim.answer(Ending::Ok);
    sim.break_("data_feed", Status::Healthy);
    sim.check_forced();
    sim.check_all();
    let reverse = |sim: &Sim| why(sim, "data_feed");
    sim.live(30);
    assert_eq!(reverse(&sim), Some(Reason::Unhealthy), "not healthy for long enough");
    sim.live(60);
    assert_eq!(reverse(&sim), Some(Reason::Watchdog));
    let hold = |level| Command::SetPolicy {
        level,
        reason: "news".to_owned(),
        by: Caller { name: "ana".to_owned(), role: Role::Approve },
        until: Some(sim.now.plus(Duration::from_secs(3600))),
    };
    let (strict, free) = (hold(Level::NoNewTrades), hold(Level::AllowAll));
    assert_eq!(sim.command(strict), None);
    let hear = |sim: &mut Sim| {
        sim.alert_named("Watchdog", AlertStatus::Firing, sim.now);
        sim.live(60);
    };
    hear(&mut sim);
    assert_eq!(reverse(&sim), Some(Reason::Policy));
    assert_eq!(sim.command(free), None);
    hear(&mut sim);
    hear(&mut sim);
    assert_eq!(reverse(&sim), Some(Reason::ApprovalPending));
    assert_eq!(begun(&sim), ["data_feed"], "nothing was resumed yet");
    let (key, question) = sim.state.questions.get_min().cloned().expect("a question");
    let recommendation = format!("rec_{}_{}", key.rung, key.episode);
    let yes = Answer { recommendation, digest: question.digest, by: "ana".to_owned(), reason: String::new() };
    assert_eq!(sim.command(Command::Approve(yes)), None);
    assert_eq!(begun(&sim), ["data_feed", "data_feed"]);
    heal(&mut sim, "data_feed");
    sim.live(10);
    assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Verified));
}
