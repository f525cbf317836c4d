//! A seeded world that breaks, recovers, alerts, answers late, and crashes; the invariants hold after every step.

use proptest::prelude::*;

use super::sim::{Part, Sim, rules};
use crate::model::{AlertStatus, Class, Criticality, Ending, Level, Status};

const PARTS: &[Part] = &[
    ("exchange_connection", Criticality::Full, &[]),
    ("data_feed", Criticality::Full, &["exchange_connection"]),
    ("database", Criticality::Partial, &[]),
    ("retraining", Criticality::None, &["database"]),
];
const BINDINGS: &[(&str, &str, Class)] = &[
    ("restart_subsystem", "exchange_connection", Class::OneShot),
    ("fallback_to_backup", "data_feed", Class::Natural),
    ("restart_subsystem", "data_feed", Class::OneShot),
    ("restart_subsystem", "database", Class::Probeable),
    ("restart_subsystem", "retraining", Class::Natural),
];

#[derive(Clone, Debug)]
enum Happening {
    Break(usize, Status),
    Check,
    Forced,
    Alert(usize, bool, AlertStatus),
    Answer(Ending, bool),
    Pass(u64),
    Crash,
    LoseJournal,
    RegainJournal,
    /// The process dies between the commit and the effects.
    DieAfterCommit,
}

fn happening() -> impl Strategy<Value = Happening> {
    let status = prop_oneof![
        Just(Status::Healthy),
        Just(Status::Healthy),
        Just(Status::Degraded),
        Just(Status::Critical),
        Just(Status::Critical),
        Just(Status::Unknown)
    ];
    let ending = prop_oneof![
        Just(Ending::Ok),
        Just(Ending::Ok),
        Just(Ending::Failed),
        Just(Ending::Timeout),
        Just(Ending::NotStarted)
    ];
    let alert = prop_oneof![Just(AlertStatus::Firing), Just(AlertStatus::Firing), Just(AlertStatus::Resolved)];
    prop_oneof![
        3 => (0..PARTS.len(), status).prop_map(|(part, status)| Happening::Break(part, status)),
        6 => Just(Happening::Check),
        4 => Just(Happening::Forced),
        3 => (0..PARTS.len(), any::<bool>(), alert).prop_map(|(part, slow, status)| Happening::Alert(part, slow, status)),
        4 => (ending, any::<bool>()).prop_map(|(ending, heals)| Happening::Answer(ending, heals)),
        4 => prop_oneof![Just(1_u64), Just(5), Just(61), Just(400)].prop_map(Happening::Pass),
        1 => Just(Happening::Crash),
        1 => Just(Happening::LoseJournal),
        2 => Just(Happening::RegainJournal),
        1 => Just(Happening::DieAfterCommit),
    ]
}

fn run(happenings: &[Happening]) -> Sim {
    let mut sim = Sim::new(rules(PARTS, BINDINGS));
    for happening in happenings {
        let before = (sim.state.latch.clone(), sim.state.level());
        let durable = sim.journal_ok;
        match happening {
            Happening::Break(part, status) => sim.break_(PARTS[*part].0, *status),
            Happening::Check => sim.check_all(),
            Happening::Forced => sim.check_forced(),
            Happening::Alert(part, slow, status) => {
                let now = sim.now;
                let kind = if *slow { "slow" } else { "down" };
                sim.alert_named(&format!("{}_{kind}", PARTS[*part].0), *status, now);
            }
            Happening::Answer(ending, heals) => {
                if let Some(target) = sim.answer(*ending)
                    && *heals
                {
                    sim.break_(&target, Status::Healthy);
                }
            }
            Happening::Pass(seconds) => sim.pass(*seconds),
            Happening::Crash => sim.crash(),
            Happening::LoseJournal => sim.lose_journal(),
            Happening::RegainJournal => sim.regain_journal(),
            Happening::DieAfterCommit => {
                let inputs = sim.inputs();
                sim.step_or_die(inputs, true);
            }
        }
        sim.check_invariants();
        if before.0.is_some() && durable {
            assert!(sim.state.latch.is_some(), "only a person releases the latch");
        }
        if durable && matches!(happening, Happening::Crash) {
            assert!(sim.state.level() >= before.1, "a crash never loosens the policy");
        }
    }
    sim
}

/// 256 in every run; `PROPTEST_CASES` says how many in a long one.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is asked of its environment")]
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// ACT-3, POL-3 and invariants 5, 7, 8: whatever happens in whatever order, every replay gives the live state, a
    /// one_shot happens at most once, a target sees one run at a time, the policy is never looser than open critical
    /// issues demand; and in the end every accepted alert has been taken exactly once.
    #[test]
    fn invariants_hold(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut sim = run(&happenings);
        sim.regain_journal();
        sim.check_all();
        let taken: Vec<u64> = sim.entries.iter().filter_map(|entry| match &entry.record {
            crate::journal::Record::AlertTaken { intake, .. } => Some(*intake),
            _ => None,
        }).collect();
        let accepted: Vec<u64> = sim.intake.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(taken, accepted);
        // Everything heals and nothing fires: the world comes to rest, and only the latch may keep it shut.
        for part in PARTS {
            sim.break_(part.0, Status::Healthy);
            sim.alert(part.0, AlertStatus::Resolved, sim.now);
            sim.alert_named(&format!("{}_slow", part.0), AlertStatus::Resolved, sim.now);
        }
        for _ in 0..100 {
            sim.pass(20);
            sim.check_all();
            while sim.answer(Ending::Ok).is_some() {}
        }
        prop_assert!(sim.state.episodes.is_empty(), "still open: {:?}", sim.state.episodes.keys().collect::<Vec<_>>());
        prop_assert!(sim.state.runs.is_empty());
        let rest = if sim.state.latch.is_some() { Level::EmergencyShutdown } else { Level::AllowAll };
        prop_assert_eq!(sim.state.level(), rest);
    }

    /// Replaying any prefix, then the rest, is replaying all: no entry depends on anything but the state before it.
    #[test]
    fn any_prefix_replays(happenings in prop::collection::vec(happening(), 1..60), cut in any::<prop::sample::Index>()) {
        let sim = run(&happenings);
        let cut = cut.index(sim.entries.len() + 1);
        let prefix = crate::journal::State::default().replay(&sim.entries[..cut]).expect("legal");
        let stored: crate::journal::State = serde_json::from_slice(&serde_json::to_vec(&prefix).expect("json")).expect("json");
        prop_assert_eq!(&stored, &prefix, "a snapshot is the state");
        let whole = stored.replay(&sim.entries[cut..]).expect("legal");
        prop_assert_eq!(whole, sim.state);
    }
}
