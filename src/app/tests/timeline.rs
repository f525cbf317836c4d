//! Timelines: what happens when, told as a person would.

use super::sim::{Sim, rules};
use crate::app::cycle::{Command, Inputs, Inquired, Refused};
use crate::execute::ProbeAnswer;
use crate::journal::Record;
use crate::model::{
    AlertOutcome, AlertStatus, Class, Criticality, Ending, Level, Outcome, PolicySource, Reason, RunState, Status,
};

const ROUTER: &[super::sim::Part] = &[("order_router", Criticality::Partial, &[])];
const RESTART: &[(&str, &str, Class)] = &[("restart_subsystem", "order_router", Class::OneShot)];

fn router() -> Sim {
    let mut sim = Sim::new(rules(ROUTER, RESTART));
    sim.check_all();
    sim
}

fn outcomes(sim: &Sim) -> Vec<AlertOutcome> {
    sim.entries
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::AlertTaken { outcome, .. } => Some(*outcome),
            _ => None,
        })
        .collect()
}

/// ACT-3, ACT-4: from a critical check to a verified recovery, in the order of the journal.
#[test]
fn detects_acts_verifies_resolves() {
    let mut sim = router();
    let from = sim.entries.len();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    assert_eq!(sim.under_way.len(), 1);
    sim.answer(Ending::Ok);
    sim.break_("order_router", Status::Healthy);
    sim.live(3);
    let story: Vec<&str> = sim.kinds(from).into_iter().filter(|kind| !kind.starts_with("hold")).collect();
    assert_eq!(
        story,
        [
            "episode_opened",
            "run_intended",
            "run_started",
            "run_finished",
            "episode_changed",
            "run_verified",
            "episode_resolved"
        ]
    );
    assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Verified));
}

/// ACT-3: the tries of one rung stand further and further apart, whatever the cooldown; what is another rung does not wait
/// for that.
#[test]
fn tries_of_one_rung_stand_further_apart() {
    let mut rules = rules(ROUTER, RESTART);
    rules.admit.cooldown = std::time::Duration::ZERO;
    rules.admit.target_budget = 100;
    rules.admit.overall_budget = 100;
    for binding in rules.bindings.values_mut() {
        let natural = crate::execute::Binding { retries: 3, class: Class::Natural, ..(**binding).clone() };
        *binding = std::sync::Arc::new(natural);
    }
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        assert_eq!(sim.under_way.len(), 1);
        sim.answer(Ending::Failed);
        sim.check_forced();
        let mut waited = 0;
        while sim.under_way.is_empty() {
            let reason = sim.cycle.waiting().values().next().map(|waiting| waiting.reason);
            assert_eq!(reason, Some(Reason::Cooldown));
            sim.live(1);
            waited += 1;
            assert!(waited < 60, "a retry that never comes");
        }
        pauses.push(waited);
    }
    let key = &sim.under_way[0].0;
    assert_eq!((key.rung, key.attempt), (2, 1), "after three retries the next rung");
    assert!(
        (3..=6).contains(&pauses[0]) && (5..=11).contains(&pauses[1]) && (10..=21).contains(&pauses[2]),
        "{pauses:?}"
    );
    assert_eq!(pauses[3], 0, "the next rung waits for no retry");
}

/// ACT-5: the second rung waits for its cooldown; after the last one a person is told, once.
#[test]
fn escalates_to_a_person() {
    let mut sim = router();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.answer(Ending::Failed);
    sim.check_forced();
    assert!(sim.under_way.is_empty(), "cooldown");
    assert_eq!(sim.cycle.waiting().values().next().map(|waiting| waiting.reason), Some(Reason::Cooldown));
    sim.live(61);
    assert_eq!(sim.under_way.len(), 1, "the second restart");
    sim.answer(Ending::Ok);
    sim.live(40);
    let told = |sim: &Sim| -> Vec<Reason> {
        let reasons = sim.entries.iter().filter_map(|entry| match entry.record {
            Record::EpisodeEscalated { reason, .. } => Some(reason),
            _ => None,
        });
        reasons.collect()
    };
    assert_eq!(told(&sim), [Reason::Exhausted]);
    sim.live(600);
    // Once failed, exposure is reduced by itself, and leaving positions waits for a person, who does not answer.
    assert_eq!(told(&sim), [Reason::Exhausted, Reason::ApprovalPending, Reason::Expired]);
    assert_eq!(sim.effects.len(), 2);
    let status = sim.cycle.health(0).status;
    assert_eq!(status, Status::Failed, "OBS-1: its ladder has ended");
}

/// ALR-2: an alert and a check are one episode; repeats and a second Alertmanager cause one action.
#[test]
fn duplicates_cause_one_action() {
    let mut sim = router();
    let began = sim.now;
    for _ in 0..5 {
        sim.alert("order_router", AlertStatus::Firing, began);
    }
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.answer(Ending::Ok);
    sim.live(10);
    assert_eq!(sim.effects.len(), 1);
    assert_eq!(sim.state.totals.episodes, 1);
    assert_eq!(outcomes(&sim)[0], AlertOutcome::Accepted);
    assert!(outcomes(&sim)[1..].iter().all(|outcome| *outcome == AlertOutcome::Deduplicated));
}

/// ALR-1: a routed firing alert is reason enough to act, although restarts are not automatic.
#[test]
fn an_alert_authorises_what_waits_for_a_person() {
    let mut rules = rules(ROUTER, RESTART);
    rules.recommend.auto_restart_enabled = false;
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    assert!(sim.under_way.is_empty());
    let waiting = sim.cycle.waiting();
    assert_eq!(waiting.values().next().map(|waiting| waiting.reason), Some(Reason::ApprovalPending));
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    let inputs = sim.inputs();
    sim.step(inputs);
    assert_eq!(sim.under_way.len(), 1);
    assert_eq!(sim.state.totals.episodes, 1);
}

/// ALR-2: a resolved is believed only with proof by the own check, and then only begins the release of the policy.
#[test]
fn resolved_is_not_trusted_blindly() {
    let mut sim = router();
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.answer(Ending::Failed);
    sim.pass(1);
    sim.alert("order_router", AlertStatus::Resolved, sim.now);
    let inputs = sim.inputs();
    sim.step(inputs);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::ResolvedUnproven));
    assert_eq!(sim.state.alerts.len(), 1, "kept open");
    sim.break_("order_router", Status::Healthy);
    sim.check_all();
    assert!(sim.state.alerts.is_empty() && sim.state.episodes.is_empty(), "believed now");
    assert_eq!(sim.state.level(), Level::NoNewTrades, "release only begins");
    sim.live(90);
    assert_eq!(sim.state.level(), Level::AllowAll);
}

/// Invariant 4: a firing that comes after its resolved, and began before it, is stale; one that began later is new.
#[test]
fn late_firing_is_stale() {
    let mut sim = router();
    let began = sim.now;
    sim.alert("order_router", AlertStatus::Firing, began);
    sim.check_all();
    sim.answer(Ending::Ok);
    sim.live(5);
    sim.alert("order_router", AlertStatus::Resolved, began);
    sim.live(5);
    assert!(sim.state.episodes.is_empty());
    sim.alert("order_router", AlertStatus::Firing, began);
    sim.live(1);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::Stale));
    assert!(sim.state.episodes.is_empty());
    sim.pass(1);
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.live(1);
    assert_eq!(outcomes(&sim).last(), Some(&AlertOutcome::Accepted));
}

/// ACT-3 and invariant 7: a one_shot that a crash interrupts is never done again; a person is told and the policy tightens.
#[test]
fn an_interrupted_one_shot_is_indeterminate() {
    let mut sim = router();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    assert_eq!(sim.effects.len(), 1);
    sim.crash();
    sim.live(120);
    let run = sim.state.ended_runs.back().expect("a run");
    assert_eq!((run.state, run.outcome), (RunState::Indeterminate, Some(Outcome::Indeterminate)));
    assert_eq!(sim.effects.values().sum::<u32>(), 1);
    assert!(sim.kinds(0).contains(&"episode_escalated"));
    assert!(sim.state.holds.keys().any(|key| key.source == PolicySource::Action));
}

/// Invariant 7: a natural run is done again under its key, a probeable one asks the check, and two crashes quarantine.
#[test]
fn other_classes_after_a_crash() {
    for (class, healthy_after, expected_effects, expected) in [
        (Class::Natural, false, 2, None),
        (Class::Probeable, false, 2, None),
        (Class::Probeable, true, 1, Some(Outcome::Verified)),
        (Class::Natural, true, 1, Some(Outcome::Verified)),
    ] {
        let mut sim = Sim::new(rules(ROUTER, &[("restart_subsystem", "order_router", class)]));
        sim.check_all();
        sim.break_("order_router", Status::Critical);
        sim.check_all();
        sim.crash();
        if healthy_after {
            sim.break_("order_router", Status::Healthy);
        }
        sim.live(10);
        assert_eq!(sim.effects.values().sum::<u32>(), expected_effects, "{class:?} healthy {healthy_after}");
        assert_eq!(
            sim.state.ended_runs.back().and_then(|run| run.outcome),
            expected,
            "{class:?} healthy {healthy_after}"
        );
    }
    let mut sim = Sim::new(rules(ROUTER, &[("restart_subsystem", "order_router", Class::Natural)]));
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.crash();
    sim.live(6);
    sim.crash();
    sim.live(6);
    assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Indeterminate));
    assert_eq!(sim.effects.values().sum::<u32>(), 2);
}

/// Invariant 7: what a crash left running is waited for, and only a check that began after its end decides.
#[test]
fn a_check_of_before_the_end_decides_nothing() {
    for class in [Class::Natural, Class::Probeable] {
        let mut sim = Sim::new(rules(ROUTER, &[("restart_subsystem", "order_router", class)]));
        sim.check_all();
        sim.break_("order_router", Status::Critical);
        sim.check_all();
        sim.crash();
        let asked = std::mem::take(&mut sim.inquiries);
        sim.check_all();
        sim.pass(3);
        // The command has gone on by itself, and helped.
        sim.break_("order_router", Status::Healthy);
        sim.inquiries = asked;
        let inputs = sim.inputs();
        sim.step(inputs);
        assert_eq!(sim.effects.values().sum::<u32>(), 1, "{class:?}: the critical check is of before");
        sim.live(5);
        assert_eq!(sim.effects.values().sum::<u32>(), 1, "{class:?}");
        assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Verified), "{class:?}");
    }
}

/// OBS-6: the root goes first, the dependant waits, and is not touched if it recovers with the root.
#[test]
fn root_first() {
    let parts: &[super::sim::Part] = &[("root", Criticality::Partial, &[]), ("leaf", Criticality::Partial, &["root"])];
    let bindings = [("restart_subsystem", "root", Class::OneShot), ("restart_subsystem", "leaf", Class::OneShot)];
    let mut sim = Sim::new(rules(parts, &bindings));
    sim.check_all();
    sim.break_("root", Status::Critical);
    sim.break_("leaf", Status::Critical);
    sim.check_all();
    assert_eq!(sim.under_way.iter().map(|(_, target)| target.as_str()).collect::<Vec<_>>(), ["root"]);
    assert!(sim.cycle.waiting().values().any(|waiting| waiting.reason == Reason::Dependency));
    sim.answer(Ending::Ok);
    sim.break_("root", Status::Healthy);
    sim.break_("leaf", Status::Healthy);
    sim.live(10);
    assert_eq!(sim.effects.len(), 1, "the leaf recovered with its root");
}

/// DET-3, ACT-3: a subsystem that flaps stays within the target's budget, and its episode is damped.
#[test]
fn flapping_stays_within_the_budget() {
    let mut sim = router();
    for _ in 0..60 {
        sim.break_("order_router", Status::Critical);
        sim.live(5);
        sim.answer(Ending::Ok);
        sim.break_("order_router", Status::Healthy);
        sim.live(5);
    }
    assert!(sim.effects.len() <= 3, "{} runs in 10 min", sim.effects.len());
    assert!(sim.state.totals.episodes <= 3, "{} episodes", sim.state.totals.episodes);
    assert!(sim.state.episodes.values().any(|episode| episode.flapping));
}

/// OBS-6: a dependant that is seen broken before its root is not acted upon: the root's check is asked for first. If that
/// does not answer, patience has an end.
#[test]
fn the_dependant_is_seen_first() {
    let parts: &[super::sim::Part] =
        &[("exchange", Criticality::Partial, &[]), ("feed", Criticality::Partial, &["exchange"])];
    let bound: &[(&str, &str, Class)] =
        &[("restart_subsystem", "exchange", Class::Natural), ("restart_subsystem", "feed", Class::Natural)];
    for answers in [true, false] {
        let mut sim = Sim::new(rules(parts, bound));
        sim.check_all();
        sim.break_("exchange", Status::Critical);
        sim.break_("feed", Status::Critical);
        sim.pass(1);
        sim.check_one("feed");
        assert!(sim.under_way.is_empty(), "the exchange was last seen before the feed broke");
        assert_eq!(sim.forced.iter().copied().collect::<Vec<_>>(), [0], "so it is checked now");
        if answers {
            sim.check_forced();
            let targets: Vec<&str> = sim.under_way.iter().map(|(_, target)| target.as_str()).collect();
            assert_eq!(targets, ["exchange"]);
        } else {
            sim.forced.clear();
            sim.pass(10);
            sim.check_forced();
            let targets: Vec<&str> = sim.under_way.iter().map(|(_, target)| target.as_str()).collect();
            assert_eq!(targets, ["feed"], "a root that is never heard of holds nothing up for ever");
        }
    }
}

/// OBS-1, POL-3: failed subsystems that trading depends on shut down, latched, until a person releases it.
#[test]
fn the_latch() {
    let parts: &[super::sim::Part] = &[("risk_guard", Criticality::Full, &[])];
    let mut sim = Sim::new(rules(parts, &[]));
    sim.check_all();
    sim.break_("risk_guard", Status::Critical);
    sim.check_all();
    assert_eq!(sim.state.level(), Level::DefensiveExit);
    sim.live(301);
    assert_eq!((sim.state.level(), sim.state.latch.is_some()), (Level::EmergencyShutdown, true));
    let release = || Command::ReleasePolicy { by: "ana".to_owned(), reason: "checked by hand".to_owned() };
    assert!(matches!(sim.command(release()), Some(Refused::Conflict(why)) if why.contains("still failed")));
    sim.break_("risk_guard", Status::Healthy);
    sim.live(600);
    assert_eq!(sim.state.level(), Level::EmergencyShutdown, "health alone never releases it");
    sim.crash();
    sim.live(300);
    assert_eq!(sim.state.level(), Level::EmergencyShutdown, "nor does a restart");
    assert_eq!(sim.command(release()), None);
    assert_eq!(sim.state.level(), Level::AllowAll);
}

/// POL-3: from critical to failed, the earlier level stays.
#[test]
fn a_hold_never_falls_while_its_episode_is_open() {
    let parts: &[super::sim::Part] = &[("feed", Criticality::Full, &[]), ("other", Criticality::Full, &[])];
    let mut sim = Sim::new(rules(parts, &[]));
    sim.check_all();
    sim.break_("feed", Status::Critical);
    sim.live(10);
    assert_eq!(sim.state.level(), Level::DefensiveExit);
    sim.break_("feed", Status::Degraded);
    sim.live(600);
    assert_eq!(sim.state.level(), Level::DefensiveExit, "still the same episode");
    sim.break_("feed", Status::Healthy);
    sim.live(120);
    assert_eq!(sim.state.level(), Level::AllowAll);
}

/// Dry-run: the same path up to the effect, rehearsed once; nothing is held, failed or latched.
#[test]
fn dry_run_acts_on_nothing() {
    let mut rules =
        rules(&[("data_feed", Criticality::Full, &[])], &[("restart_subsystem", "data_feed", Class::OneShot)]);
    rules.admit.dry_run = true;
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.break_("data_feed", Status::Critical);
    sim.live(900);
    assert!(sim.effects.is_empty());
    assert_eq!(sim.state.ended_runs.len(), 1);
    assert_eq!(sim.state.ended_runs[0].outcome, Some(Outcome::DryRun));
    assert!(sim.state.latch.is_none());
    assert!(!sim.state.holds.keys().any(|key| key.source == PolicySource::Action));
}

/// OBS-2, POL-4: an unknown subsystem that trading depends on is blindness.
#[test]
fn unknown_is_never_healthy() {
    let mut sim = Sim::new(rules(&[("feed", Criticality::Full, &[])], &[]));
    assert_eq!(sim.state.level(), Level::AllowAll, "nothing decided yet");
    sim.step(crate::app::cycle::Inputs::default());
    assert_eq!(sim.state.level(), Level::NoNewTrades, "start-up");
    sim.break_("feed", Status::Unknown);
    sim.check_all();
    sim.live(600);
    assert_eq!(sim.state.level(), Level::NoNewTrades);
    sim.break_("feed", Status::Healthy);
    sim.live(90);
    assert_eq!(sim.state.level(), Level::AllowAll);
}

/// ACT-2: an action with no binding is unbound, never a success; a person is told; the recommendation stays visible.
#[test]
fn unbound_is_never_success() {
    let mut sim = Sim::new(rules(ROUTER, &[]));
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.live(10);
    assert!(sim.state.ended_runs.is_empty() && sim.effects.is_empty());
    let waiting = sim.cycle.waiting();
    assert_eq!(waiting.values().next().map(|waiting| (waiting.rung, waiting.reason)), Some((1, Reason::Unbound)));
    assert_eq!(sim.kinds(0).iter().filter(|kind| **kind == "episode_escalated").count(), 1);
}

/// ACT-5: what has helped is left alone, however long the alert goes on firing; if it breaks again, the climb goes on.
#[test]
fn a_verified_action_is_not_followed_up() {
    let mut sim = router();
    sim.break_("order_router", Status::Critical);
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.check_all();
    sim.answer(Ending::Ok);
    sim.break_("order_router", Status::Healthy);
    sim.live(900);
    assert_eq!((sim.effects.len(), sim.state.alerts.len()), (1, 1), "healthy, though the alert still fires");
    sim.break_("order_router", Status::Critical);
    sim.live(10);
    assert_eq!(sim.effects.len(), 2);
}

/// Invariant 12: what was begun for real is not done again by a chiron in dry-run.
#[test]
fn dry_run_resumes_nothing() {
    let mut sim = Sim::new(rules(ROUTER, &[("restart_subsystem", "order_router", Class::Natural)]));
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.rules.admit.dry_run = true;
    sim.crash();
    sim.live(30);
    assert_eq!(sim.effects.values().sum::<u32>(), 1);
    assert!(sim.kinds(0).contains(&"run_indeterminate"));
}

/// Invariant 9: what was begun before a long outage is not done again when nobody knows how things are now.
#[test]
fn an_old_run_is_not_resumed() {
    let mut sim = Sim::new(rules(ROUTER, &[("restart_subsystem", "order_router", Class::Natural)]));
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.check_all();
    sim.pass(36_000);
    sim.crash();
    sim.live(30);
    assert_eq!(sim.effects.values().sum::<u32>(), 1);
}

/// POL-3: settings that drop a subsystem let go of its episode and, in time, of its policy.
#[test]
fn a_dropped_subsystem_is_let_go() {
    let mut sim = Sim::new(rules(&[("feed", Criticality::Full, &[]), ("other", Criticality::Full, &[])], &[]));
    sim.check_all();
    sim.break_("feed", Status::Critical);
    sim.live(10);
    assert_eq!(sim.state.level(), Level::DefensiveExit);
    sim.rules = rules(&[("other", Criticality::Full, &[])], &[]);
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.live(120);
    assert!(sim.state.episodes.is_empty());
    assert_eq!(sim.state.level(), Level::AllowAll);
}

/// ALR-2: an alert whose route is gone can still end.
#[test]
fn an_alert_ends_without_its_route() {
    let mut sim = router();
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.check_all();
    sim.answer(Ending::Ok);
    sim.live(5);
    sim.rules.alerts = std::sync::Arc::new(crate::alerts::Settings::default());
    sim.cycle.reconfigure(sim.rules.clone(), &sim.state, sim.now);
    sim.alert("order_router", AlertStatus::Resolved, sim.now);
    sim.live(5);
    assert!(sim.state.alerts.is_empty() && sim.state.episodes.is_empty());
}

/// POL-4: a clock set back stops no verification and loosens nothing; one set forward fails nothing.
#[test]
fn the_clock_is_set() {
    let mut sim = router();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.answer(Ending::Ok);
    sim.live(2);
    let back = 6 * 3600 * 1000;
    sim.now = crate::model::Timestamp::from_millis(sim.now.millis() - back);
    sim.cycle.shift_clock(-back);
    sim.live(40);
    assert_eq!(sim.state.ended_runs.back().and_then(|run| run.outcome), Some(Outcome::Unverified));

    let mut sim = Sim::new(rules(&[("risk_guard", Criticality::Full, &[])], &[]));
    sim.check_all();
    sim.break_("risk_guard", Status::Critical);
    sim.live(20);
    sim.now = crate::model::Timestamp::from_millis(sim.now.millis() + back);
    sim.cycle.shift_clock(back);
    sim.live(20);
    assert_eq!(sim.state.level(), Level::DefensiveExit, "not failed: 40 s are not 5 min");
}

/// Invariant 7: what a means says after a crash is not forgotten while the check is waited for: an action that did not
/// happen is not told as done.
#[test]
fn what_did_not_happen_is_not_told_as_done() {
    let bound: &[(&str, &str, Class)] = &[("restart_subsystem", "order_router", Class::Probeable)];
    let mut sim = Sim::new(rules(ROUTER, bound));
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.crash();
    let key = sim.inquiries.pop().expect("it was under way");
    let inquired = Inquired { key, probe: ProbeAnswer::DidNotHappen };
    sim.step(Inputs { inquiries: vec![inquired], ..Inputs::default() });
    sim.break_("order_router", Status::Healthy);
    sim.live(10);
    let run = sim.state.ended_runs.back().expect("it is settled");
    assert!(run.detail.contains("healthy"), "{}", run.detail);
    let said = sim.entries.iter().rev().find_map(|entry| match &entry.record {
        Record::RunFinished { detail, .. } => Some(detail.as_str()),
        _ => None,
    });
    assert_eq!(said, Some("no longer needed after a restart of chiron; not done again"));
}

/// ACT-3 and invariant 21: a clock that is set refills no budget, ends no cooldown and prolongs none, across a crash too.
#[test]
fn a_clock_that_is_set_refills_nothing() {
    for off in [86_400_000_i64, -86_400_000] {
        let mut sim = router();
        sim.rules.admit.cooldown = std::time::Duration::from_secs(60);
        sim.break_("order_router", Status::Critical);
        sim.check_all();
        assert_eq!(sim.answer(Ending::Failed), Some("order_router".into()));
        sim.live(10);
        sim.now = crate::model::Timestamp::from_millis(sim.now.millis() + off);
        sim.cycle.shift_clock(off);
        sim.live(40);
        assert!(sim.under_way.is_empty(), "50 s after the first restart, whatever the clock says ({off})");
        sim.crash();
        sim.check_all();
        assert!(sim.under_way.is_empty(), "a crash forgets nothing of it ({off})");
        sim.live(15);
        assert_eq!(sim.under_way.len(), 1, "65 s after it ({off})");
        assert_eq!(sim.entries.iter().filter(|entry| matches!(entry.record, Record::ClockSet { .. })).count(), 1);
    }
}

/// ACT-3 and invariant 21: the pause before a further try of a rung is the same whatever the clock says meanwhile.
#[test]
fn a_clock_that_is_set_prolongs_no_retry() {
    for off in [-86_400_000_i64, 86_400_000] {
        let mut rules = rules(ROUTER, RESTART);
        rules.admit.cooldown = std::time::Duration::ZERO;
        for binding in rules.bindings.values_mut() {
            let retried = crate::execute::Binding {
                retries: 1,
                class: Class::Natural,
                ..crate::execute::Binding::clone(binding)
            };
            *binding = std::sync::Arc::new(retried);
        }
        let mut sim = Sim::new(rules);
        sim.check_all();
        sim.break_("order_router", Status::Critical);
        sim.check_all();
        sim.answer(Ending::Failed);
        sim.check_forced();
        assert!(sim.under_way.is_empty(), "the pause of {off}");
        sim.now = crate::model::Timestamp::from_millis(sim.now.millis() + off);
        sim.cycle.shift_clock(off);
        sim.check_forced();
        assert!(sim.under_way.is_empty(), "no jump ends it ({off})");
        sim.live(10);
        assert_eq!(sim.under_way.len(), 1, "and none prolongs it ({off})");
    }
}

/// ACT-3: settings that become stricter hold for what waits already.
#[test]
fn a_reload_reaches_what_waits() {
    let mut sim = router();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    sim.answer(Ending::Failed);
    sim.check_forced();
    assert_eq!(sim.cycle.waiting().values().next().map(|waiting| waiting.reason), Some(Reason::Cooldown));
    let mut stricter = sim.rules.clone();
    stricter.recommend.autonomy.insert("restart_subsystem".into(), crate::model::Autonomy::Approval);
    let (state, now) = (sim.state.clone(), sim.now);
    sim.cycle.reconfigure(stricter, &state, now);
    sim.live(70);
    assert!(sim.under_way.is_empty(), "a person is asked now");
    assert_eq!(sim.cycle.waiting().values().next().map(|waiting| waiting.reason), Some(Reason::ApprovalPending));
}

/// ACT-3: an alert's route grants nothing that raises risk or closes every position.
#[test]
fn an_alert_grants_no_risk() {
    for action in ["resume_trading", "close_all_positions"] {
        let mut rules = rules(ROUTER, &[(action, "order_router", Class::Natural)]);
        let mut alerts = crate::alerts::Settings::clone(&rules.alerts);
        alerts.routes.iter_mut().for_each(|route| route.action = Some(action.into()));
        rules.alerts = std::sync::Arc::new(alerts);
        let mut sim = Sim::new(rules);
        sim.check_all();
        sim.alert("order_router", AlertStatus::Firing, sim.now);
        sim.live(300);
        assert!(sim.under_way.is_empty(), "{action} waits for a person");
    }
}

/// ACT-5: a person who was told of an issue is told again when it has become worse.
#[test]
fn worse_is_told_again() {
    let mut sim = Sim::new(rules(ROUTER, &[]));
    sim.check_all();
    sim.break_("order_router", Status::Degraded);
    sim.live(10);
    let told = |sim: &Sim| {
        let told = |entry: &&crate::journal::Entry| matches!(entry.record, Record::EpisodeEscalated { .. });
        sim.entries.iter().filter(told).count()
    };
    let before = told(&sim);
    sim.break_("order_router", Status::Critical);
    sim.live(10);
    assert!(told(&sim) > before, "{before} and then {}", told(&sim));
}

/// ACT-1: a containing action that waits for a person does not hold up a healing one.
#[test]
fn healing_does_not_wait_for_containing() {
    let mut rules =
        rules(&[("data_feed", Criticality::Full, &[])], &[("fallback_to_backup", "data_feed", Class::Natural)]);
    rules.recommend.auto_pause_on_critical = false;
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.break_("data_feed", Status::Critical);
    sim.check_all();
    assert_eq!(sim.under_way.len(), 1, "the backup is used");
}

/// Journal first: while nothing can be written nothing is begun, the policy tightens all the same, and what was decided
/// is written and acted upon afterwards.
#[test]
fn without_a_journal() {
    let mut sim = router();
    sim.lose_journal();
    sim.break_("order_router", Status::Critical);
    sim.live(30);
    assert!(sim.effects.is_empty());
    assert_eq!(sim.state.level(), Level::NoNewTrades);
    let release = Command::ReleasePolicy { by: "ana".to_owned(), reason: "why not".to_owned() };
    assert!(matches!(sim.command(release), Some(Refused::Conflict(why)) if why.contains("cannot be written")));
    sim.regain_journal();
    sim.live(5);
    assert_eq!(sim.effects.len(), 1);
}

/// ACT-3: two issues of one target are two episodes, and the target sees one action at a time.
#[test]
fn one_action_at_a_time_per_target() {
    let mut sim = router();
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.alert_named("order_router_slow", AlertStatus::Firing, sim.now);
    sim.check_all();
    assert_eq!((sim.state.episodes.len(), sim.under_way.len()), (2, 1));
    assert!(sim.cycle.waiting().values().any(|waiting| waiting.reason == Reason::Busy));
}
