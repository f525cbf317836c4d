//! A seeded world that breaks, recovers, alerts, answers late, and crashes; the invariants hold after every step.

use proptest::prelude::*;

use super::sim::{Part, Sim, rules};
use crate::app::approvals::Answer;
use crate::app::cycle::Command;
use crate::journal::{ApprovalEnd, HoldKey, Record};
use crate::model::{AlertStatus, Caller, Class, Criticality, Ending, Level, PolicySource, Reason, Role, Status};

const PARTS: &[Part] = &[
    ("exchange_connection", Criticality::Full, &[]),
    ("data_feed", Criticality::Full, &["exchange_connection"]),
    ("database", Criticality::Partial, &[]),
    ("retraining", Criticality::None, &["database"]),
];
const BINDINGS: &[(&str, &str, Class)] = &[
    ("restart_subsystem", "exchange_connection", Class::OneShot),
    ("fallback_to_backup", "data_feed", Class::Natural),
    ("restore_primary", "data_feed", Class::Keyed),
    ("pause_trading", "exchange_connection", Class::Natural),
    ("resume_trading", "exchange_connection", Class::OneShot),
    ("restart_subsystem", "data_feed", Class::OneShot),
    ("restart_subsystem", "database", Class::Probeable),
    ("restart_subsystem", "retraining", Class::Natural),
];

#[derive(Clone, Debug)]
pub(super) enum Happening {
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
    /// A person answers the first question that is open, with its digest or with one that was shown before.
    Person {
        yes: bool,
        stale: bool,
    },
    /// A person holds a level for so many seconds.
    Hold(Level, Role, u64),
    Drill(usize),
}

pub(super) fn happening() -> impl Strategy<Value = Happening> {
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
        3 => (any::<bool>(), any::<bool>()).prop_map(|(yes, stale)| Happening::Person { yes, stale }),
        2 => (
            prop::sample::select(&Level::ALL[..4]),
            prop::sample::select(vec![Role::Operate, Role::Approve]),
            prop::sample::select(vec![1_u64, 60, 600]),
        )
            .prop_map(|(level, role, seconds)| Happening::Hold(level, role, seconds)),
        1 => (0..PARTS.len()).prop_map(Happening::Drill),
    ]
}

fn person(sim: &mut Sim, shown: &mut Vec<(String, String)>, yes: bool, stale: bool) {
    if let Some((key, question)) = sim.state.questions.get_min() {
        let now = (format!("rec_{}_{}", key.rung, key.episode), question.digest.clone());
        if shown.last() != Some(&now) {
            shown.push(now);
        }
    }
    let Some((recommendation, digest)) = (if stale { shown.first() } else { shown.last() }).cloned() else { return };
    let answer = Answer { recommendation, digest, by: "ana".to_owned(), reason: "seen".to_owned() };
    let asked = sim.state.questions.values().any(|asked| asked.digest == answer.digest);
    let refused = sim.command(if yes { Command::Approve(answer) } else { Command::Reject(answer) });
    if !asked {
        assert!(refused.is_some(), "what is not asked cannot be answered");
    }
}

/// Each question is settled once; a run of a rung that a person has to allow is begun with exactly one yes.
fn check_answers(sim: &Sim) {
    let mut open = std::collections::BTreeMap::new();
    let mut approved = std::collections::BTreeSet::new();
    for entry in &sim.entries {
        match &entry.record {
            Record::ApprovalAsked { key, digest, .. } => assert!(open.insert(key.clone(), digest.clone()).is_none()),
            Record::ApprovalEnded { key, digest, how, .. } => {
                assert_eq!(open.remove(key).as_ref(), Some(digest));
                if *how == ApprovalEnd::Approved {
                    assert!(approved.insert(key.clone()), "{key} was approved twice");
                }
            }
            Record::EpisodeResolved { id } => open.retain(|key, _| key.episode != *id),
            Record::RunStarted { key, .. } => {
                assert!(!open.contains_key(key), "{key} was begun while a person was asked");
            }
            _ => {}
        }
    }
    let asked: Vec<_> = sim.state.questions.keys().cloned().collect();
    assert_eq!(open.into_keys().collect::<Vec<_>>(), asked);
}

pub(super) fn run(happenings: &[Happening], automatic: bool) -> Sim {
    let mut rules = rules(PARTS, BINDINGS);
    rules.recommend.auto_restart_enabled = automatic;
    super::sim::with_evidence(&mut rules);
    // What is undone in the end does not wait for a person, so that the world comes to rest.
    for reverse in ["restore_primary", "resume_trading"] {
        rules.recommend.autonomy.insert(reverse.into(), crate::model::Autonomy::Automatic);
    }
    let mut sim = Sim::new(rules);
    let mut shown = Vec::new();
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
            Happening::Person { yes, stale } => person(&mut sim, &mut shown, *yes, *stale),
            Happening::Hold(level, role, seconds) => {
                let by = Caller { name: "ben".to_owned(), role: *role };
                let until = Some(sim.now.plus(std::time::Duration::from_secs(*seconds)));
                // What has expired meanwhile falls with this step, whoever asks for what.
                let now = sim.now;
                let lasting = |sim: &Sim| {
                    let own = sim.state.holds.iter().filter(|(key, _)| key.source == PolicySource::Operator);
                    let lasting = own.filter(|(_, hold)| hold.until.is_none_or(|until| until > now));
                    lasting.map(|(key, hold)| (key.clone(), hold.level, hold.until)).collect::<Vec<_>>()
                };
                let held = lasting(&sim);
                let set = Command::SetPolicy { level: *level, reason: "news".to_owned(), by, until };
                let refused = sim.command(set);
                if *role < Role::Approve {
                    let now = lasting(&sim);
                    let kept = |(key, level, until): &(HoldKey, Level, Option<crate::model::Timestamp>)| {
                        now.iter().any(|one| one.0 == *key && one.1 >= *level && one.2 >= *until)
                    };
                    assert!(held.iter().all(kept), "a person without the role loosens nothing");
                }
                assert!(refused.is_some() || sim.state.level() >= *level);
            }
            Happening::Drill(part) => {
                let (subsystem, by) = (PARTS[*part].0.to_owned(), "ana".to_owned());
                let _ = sim.command(Command::Drill { subsystem, by, reason: "monthly".to_owned() });
            }
        }
        sim.check_invariants();
        check_answers(&sim);
        if before.0.is_some() && durable {
            assert!(sim.state.latch.is_some(), "only a person releases the latch");
        }
        if durable && matches!(happening, Happening::Crash) {
            assert!(sim.state.level() >= before.1, "a crash never loosens the policy");
        }
    }
    sim
}

/// Everything heals and nothing fires: the world comes to rest.
pub(super) fn rest(sim: &mut Sim) {
    sim.regain_journal();
    sim.check_all();
    for part in PARTS {
        sim.break_(part.0, Status::Healthy);
        sim.alert(part.0, AlertStatus::Resolved, sim.now);
        sim.alert_named(&format!("{}_slow", part.0), AlertStatus::Resolved, sim.now);
    }
    for _ in 0..100 {
        sim.pass(20);
        sim.check_all();
        while sim.answer(Ending::Ok).is_some() {}
        // Undoing that has failed waits for a person, who does not want it any more.
        person(sim, &mut Vec::new(), false, false);
    }
}

/// 256 in every run; `PROPTEST_CASES` says how many in a long one.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is asked of its environment")]
pub(super) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(256)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// ACT-3, POL-3 and invariants 5, 7, 8: whatever happens in whatever order, every replay gives the live state, a
    /// one_shot happens at most once, a target sees one run at a time, the policy is never looser than open critical
    /// issues demand; and in the end every accepted alert has been taken exactly once.
    #[test]
    fn invariants_hold(happenings in prop::collection::vec(happening(), 1..120), automatic in any::<bool>()) {
        let mut sim = run(&happenings, automatic);
        sim.regain_journal();
        sim.check_all();
        let taken: Vec<u64> = sim.entries.iter().filter_map(|entry| match &entry.record {
            crate::journal::Record::AlertTaken { intake, .. } => Some(*intake),
            _ => None,
        }).collect();
        let accepted: Vec<u64> = sim.intake.iter().map(|(number, _)| *number).collect();
        prop_assert_eq!(taken, accepted);
        // Only the latch may keep it shut.
        rest(&mut sim);
        // Trading is not resumed while the latch is closed; all else has come to an end.
        let open: Vec<_> = sim.state.episodes.values().collect();
        let waits = |id| sim.cycle.waiting().get(id).is_some_and(|waiting| waiting.reason == Reason::Policy);
        let excused = sim.state.latch.is_some() && open.iter().all(|episode| waits(&episode.id));
        prop_assert!(open.is_empty() || excused, "still open: {:?}", open);
        prop_assert!(sim.state.runs.is_empty());
        let rest = if sim.state.latch.is_some() { Level::EmergencyShutdown } else { Level::AllowAll };
        prop_assert_eq!(sim.state.level(), rest);
    }

    /// Replaying any prefix, then the rest, is replaying all: no entry depends on anything but the state before it.
    #[test]
    fn any_prefix_replays(happenings in prop::collection::vec(happening(), 1..60), cut in any::<prop::sample::Index>()) {
        let sim = run(&happenings, false);
        let cut = cut.index(sim.entries.len() + 1);
        let prefix = crate::journal::State::default().replay(&sim.entries[..cut]).expect("legal");
        let stored: crate::journal::State = serde_json::from_slice(&serde_json::to_vec(&prefix).expect("json")).expect("json");
        prop_assert_eq!(&stored, &prefix, "a snapshot is the state");
        let whole = stored.replay(&sim.entries[cut..]).expect("legal");
        prop_assert_eq!(whole, sim.state);
    }
}
