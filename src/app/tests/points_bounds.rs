//! What the actions of failure points may not do, on a simulated clock (WSP-7): no policy is loosened by them, no exemption
//! goes further than it has to, nothing that is too early holds anything up.

use std::sync::Arc;
use std::time::Duration;

use super::points_healing::{
    AWAY, BROKEN, BY_RIGHT, OVERDUE, PARTS, at_work, begun, log, look, platform, platform_with, question, steps, told,
};
use super::sim::{Sim, rules, with_evidence};
use crate::app::cycle::Command;
use crate::app::maintenance::Announcement;
use crate::app::points_log::Story;
use crate::execute::Binding;
use crate::journal::Record;
use crate::model::{
    AlertStatus, Autonomy, Caller, Class, Ending, FailurePoint, Level, PLATFORM, Reason, Role, RunState, Severity,
    Status,
};
use crate::publish::HealingStep;
use crate::recommend::Ladder;

fn ladder(kind: &str, actions: &[&str]) -> Ladder {
    Ladder {
        subsystem: None,
        kind: Some(kind.into()),
        severity: None,
        actions: actions.iter().map(|action| (*action).into()).collect(),
    }
}

fn reasons(sim: &Sim) -> Vec<Reason> {
    sim.cycle.waiting().values().map(|waiting| waiting.reason).collect()
}

/// POL-1, POL-3: what an issue itself holds forbids what raises risk as well: trading is not resumed beside its own pause, and
/// no kill switch is released beside one.
#[test]
fn own_holds_count() {
    let mut sim = platform_with(&["resume_trading"], |rules| {
        rules.recommend.ladders = vec![ladder("network", &["pause_trading", "resume_trading"])];
    });
    look(&mut sim, "network", Some((Severity::High, "away")), false);
    sim.live(120);
    assert_eq!(sim.state.level(), Level::NoNewTrades);
    assert!(question(&sim).is_none() && sim.effects.is_empty(), "{:?}", sim.effects);
    assert_eq!(reasons(&sim), [Reason::Policy]);

    let mut sim = platform_with(&["release_kill_switch"], |rules| {
        rules.recommend.ladders = vec![ladder("kill_switch", &["pause_trading", "release_kill_switch"])];
    });
    look(&mut sim, "kill_switch", OVERDUE, true);
    sim.live(120);
    assert!(question(&sim).is_none(), "an earlier rung has paused trading");
    assert_eq!(reasons(&sim), [Reason::Policy]);
}

/// ACT-3: what the settings bind to a retry is an action as any other: maintenance and cooldowns hold it up.
#[test]
fn a_retry_of_the_operators_is_an_ordinary_action() {
    for built_in in [true, false] {
        let mut sim = platform_with(&["retry_connection"], |rules| {
            let own = self::rules(PARTS, &[("retry_connection", PLATFORM, Class::Natural)]).bindings;
            if !built_in {
                rules.bindings = own;
                for binding in rules.bindings.values_mut() {
                    *binding = Arc::new(Binding { retries: 2, ..Binding::clone(binding) });
                }
            }
        });
        announce(&mut sim, 100);
        look(&mut sim, "network", AWAY, false);
        let from = sim.now;
        for _ in 0..400 {
            sim.answer(Ending::Failed);
            sim.live(1);
        }
        let begun = begun(&sim, "retry_connection", from);
        if built_in {
            assert_eq!(begun[0], 1_000, "{begun:?}");
        } else {
            assert!(begun[0] >= 100_000 && begun[1] >= begun[0] + 60_000, "{begun:?}");
            assert!(!sim.state.starts.is_empty(), "and it counts");
        }
    }
}

fn announce(sim: &mut Sim, seconds: u64) {
    let announced = Announcement {
        subsystems: Vec::new(),
        actions: Vec::new(),
        until: sim.now.plus(Duration::from_secs(seconds)),
        by: Caller { name: "ana".to_owned(), role: Role::Approve },
        reason: "monthly".to_owned(),
    };
    assert_eq!(sim.command(Command::SetMaintenance(announced)), None);
}

/// ACT-3: a peer that comes and goes is asked at most 12 times an hour; then the ladder goes on without.
#[test]
fn asking_is_bounded() {
    let mut sim = platform_with(&["retry_connection"], |rules| rules.detect.flap_openings = 1_000);
    let from = sim.now;
    for _ in 0..60 {
        look(&mut sim, "network", AWAY, false);
        sim.live(2);
        sim.answer(Ending::Ok);
        sim.live(2);
        look(&mut sim, "network", None, false);
        sim.live(10);
    }
    assert_eq!(begun(&sim, "retry_connection", from).len(), 12);
    look(&mut sim, "network", AWAY, false);
    sim.live(30);
    assert_eq!(told(&sim).last(), Some(&Reason::Unbound), "what is left of the ladder is told to a person");
    look(&mut sim, "network", None, false);
    sim.pass(3_600);
    sim.check_all();
    look(&mut sim, "network", AWAY, false);
    sim.live(2);
    assert_eq!(begun(&sim, "retry_connection", from).len(), 13, "an hour later it is asked again");
}

/// ACT-1, ACT-3, WSP-7: the restoration is an ordinary action: left to a person, only rehearsed, or held up by maintenance.
#[test]
fn a_restoration_asks_as_every_action() {
    for (case, expected) in [("manual", 0), ("rehearsed", 0), ("maintenance", 0), ("", 1)] {
        let mut sim = platform_with(&["restore_configuration"], |rules| match case {
            "manual" => _ = rules.recommend.autonomy.insert("restore_configuration".into(), Autonomy::Manual),
            "rehearsed" => _ = rules.admit.dry_run_actions.insert("restore_configuration".into()),
            _ => {}
        });
        if case == "maintenance" {
            announce(&mut sim, 600);
        }
        look(&mut sim, "configuration", BROKEN, false);
        sim.live(60);
        assert_eq!(sim.effects.len(), expected, "{case}");
    }
}

/// WSP-7, ACT-3: what was approved is looked at once more when it begins: a switch that the bot has prolonged meanwhile is left
/// alone, and the run is cancelled.
#[test]
fn a_release_that_is_not_due_any_more_is_cancelled() {
    for prolonged in [true, false] {
        let mut sim = platform_with(&["release_kill_switch"], |rules| {
            for binding in rules.bindings.values_mut() {
                *binding = Arc::new(Binding { class: Class::Probeable, ..Binding::clone(binding) });
            }
            with_evidence(rules);
        });
        look(&mut sim, "kill_switch", OVERDUE, true);
        let asked = question(&sim).expect("a person is asked");
        assert_eq!(sim.command(Command::Approve(asked)), None);
        let preparing = std::mem::take(&mut sim.preparing);
        assert_eq!(preparing.len(), 1);
        if prolonged {
            look(&mut sim, "kill_switch", BY_RIGHT, false);
        }
        sim.preparing = preparing;
        let inputs = sim.inputs();
        sim.step(inputs);
        assert_eq!(sim.effects.is_empty(), prolonged);
        let last = sim.entries.iter().rev().find_map(|entry| match entry.record {
            Record::RunCancelled { reason, .. } => Some(reason),
            _ => None,
        });
        assert_eq!(last, prolonged.then_some(Reason::Unconfirmed));
        assert!(prolonged || sim.state.runs.values().any(|run| run.state == RunState::Started));
        if prolonged {
            sim.live(30);
            assert!(sim.effects.is_empty() && question(&sim).is_none());
            look(&mut sim, "kill_switch", OVERDUE, true);
            assert!(question(&sim).is_some(), "once it is due again, a person is asked again");
        }
    }
}

/// ACT-3: a yes is for the switch as it was shown: one that is drawn anew is asked about anew.
#[test]
fn a_yes_is_for_what_was_shown() {
    let mut sim = platform(&["release_kill_switch"]);
    look(&mut sim, "kill_switch", OVERDUE, true);
    let first = question(&sim).expect("a person is asked");
    let second = "kill switch active; its time passed at 2025-11-23T03:00:00Z without release";
    look(&mut sim, "kill_switch", Some((Severity::Critical, second)), true);
    assert!(sim.command(Command::Approve(first)).is_some(), "that was about another one");
    assert!(sim.effects.is_empty());
    let anew = question(&sim).expect("it is asked about");
    assert_eq!(sim.command(Command::Approve(anew)), None);
    assert_eq!(at_work(&sim), ["release_kill_switch"]);
}

/// ALR-1, ACT-5: an alert that wishes for a release where none is due holds up nothing.
#[test]
fn a_wish_that_is_too_early_is_passed_over() {
    let exchange = "exchange_connection";
    let mut rules = rules(
        PARTS,
        &[("release_kill_switch", exchange, Class::OneShot), ("restart_subsystem", exchange, Class::Natural)],
    );
    rules.failure_points = vec![FailurePoint { category: "kill_switch".into(), subsystem: exchange.into() }];
    let mut alerts = crate::alerts::Settings::clone(&rules.alerts);
    for route in &mut alerts.routes {
        route.action = Some("release_kill_switch".into());
    }
    rules.alerts = Arc::new(alerts);
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim.live(70);
    sim.break_(exchange, Status::Critical);
    sim.check_all();
    sim.alert(exchange, AlertStatus::Firing, sim.now);
    sim.check_all();
    let episode = sim.state.episodes.values().next().expect("it is open");
    assert!(episode.ladder.iter().any(|rung| rung.action == *"release_kill_switch"), "{:?}", episode.ladder);
    sim.live(5);
    assert_eq!(at_work(&sim), ["restart_subsystem"], "{:?}", sim.cycle.waiting());
}

/// DET-5: for what is critical a backup that is bound is used at once, and the connection is tried again only after it; one that
/// waits for a person holds no retry up.
#[test]
fn a_backup_comes_at_once() {
    let bound = ["retry_connection", "fallback_to_backup"];
    let mut sim = platform(&bound);
    look(&mut sim, "network", AWAY, false);
    assert_eq!(at_work(&sim), ["fallback_to_backup"], "in the very same step");
    sim.answer(Ending::Failed);
    sim.live(5);
    assert_eq!(at_work(&sim), ["retry_connection"]);

    let mut sim = platform_with(&bound, |rules| {
        rules.recommend.autonomy.insert("fallback_to_backup".into(), Autonomy::Approval);
    });
    look(&mut sim, "network", AWAY, false);
    sim.live(2);
    assert_eq!(at_work(&sim), ["retry_connection"]);

    // What becomes critical while it is tried again is failed over as well.
    let mut sim = platform(&bound);
    look(&mut sim, "network", Some((Severity::High, "slow")), false);
    sim.live(1);
    assert_eq!(at_work(&sim), ["retry_connection"]);
    sim.answer(Ending::Failed);
    look(&mut sim, "network", AWAY, false);
    sim.live(2);
    assert_eq!(at_work(&sim).last().map(String::as_str), Some("fallback_to_backup"), "{:?}", sim.cycle.waiting());
}

/// POL-1: the platform is whole when what trading depends on has been healthy for as long as any target has to be; degraded is
/// not healthy.
#[test]
fn the_platform_has_to_be_well_for_a_while() {
    let mut sim = platform(&["release_kill_switch"]);
    sim.break_("exchange_connection", Status::Degraded);
    sim.check_all();
    look(&mut sim, "kill_switch", OVERDUE, true);
    sim.live(200);
    assert!(question(&sim).is_none() && reasons(&sim).contains(&Reason::Unhealthy), "{:?}", reasons(&sim));
    sim.break_("exchange_connection", Status::Healthy);
    sim.live(55);
    assert!(question(&sim).is_none(), "not yet for `policy.min_hold`");
    sim.live(15);
    assert!(question(&sim).is_some(), "{:?}", sim.cycle.waiting());
}

/// WSP-7: a proposal is told once, whatever it was held up by in between, also by a process that begins later; one that a crash
/// has kept from the log is told then.
#[test]
fn a_proposal_is_told_once() {
    let limit = Some((Severity::Medium, "open positions at the limit of 3"));
    let mut sim = platform(&[]);
    look(&mut sim, "position_limits", limit, false);
    let known = sim.state.clone();
    let first = sim.entries.iter().rposition(|entry| matches!(entry.record, Record::RecommendationHeld { .. }));
    let first = first.expect("it is held up");
    // The same rung is held up for another reason in between, as it is after a restart.
    let original = sim.entries[first].clone();
    let again = crate::journal::Entry {
        seq: original.seq + 1_000,
        at: original.at.plus(Duration::from_secs(600)),
        ..original.clone()
    };
    assert!(Story::of(&known).line(&again, |_| None).is_none(), "a later process knows that it was told");
    assert!(Story::of(&known).line(&original, |_| None).is_some(), "a crash has kept it from the log");
    let mut story = Story::of(&known);
    let told: Vec<_> = [original, again].iter().filter_map(|entry| story.line(entry, |_| None)).collect();
    assert_eq!(told.len(), 1);
    let suggested = (HealingStep::Suggested, "review_position_limits".to_owned());
    assert_eq!(steps(&sim), [suggested], "{:?}", log(&sim));
}
