//! The ledger: when a rung is a recommendation, what number it has, and the one end that it comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::random::{Happening, happening, run};
use super::sim::{Part, Sim, rules};
use crate::app::account::Step;
use crate::app::ledger::{Facts, Id, actions, story};
use crate::app::reverse::REVERSE;
use crate::http::WantedRuns;
use crate::journal::{ApprovalEnd, Episode, Record, State};
use crate::model::{AlertStatus, Class, Criticality, Ending, EpisodeId, Level, Name, Outcome, Reason, Status};

const ROUTER: &[Part] = &[("order_router", Criticality::Partial, &[])];
const RESTART: &[(&str, &str, Class)] = &[("restart_subsystem", "order_router", Class::OneShot)];

/// A router whose restarts wait for a person.
fn asking() -> Sim {
    let mut rules = rules(ROUTER, RESTART);
    rules.recommend.auto_restart_enabled = false;
    let mut sim = Sim::new(rules);
    sim.check_all();
    sim
}

fn held(sim: &Sim) -> Vec<(u32, Reason)> {
    let held = sim.entries.iter().filter_map(|entry| match &entry.record {
        Record::RecommendationHeld { rung, reason, .. } => Some((*rung, *reason)),
        _ => None,
    });
    held.collect()
}

/// The only episode there has been.
fn only(state: &State) -> &Episode {
    state.episodes.values().chain(state.ended_episodes.iter()).next().expect("there was an issue")
}

fn ladder(state: &State) -> Vec<(&str, Option<Outcome>)> {
    only(state).ladder.iter().map(|rung| (rung.action.as_str(), rung.outcome)).collect()
}

/// ACT-3: why something waits is journaled when it changes and not else; neither time nor a restart repeats it.
#[test]
fn waiting_journals_nothing() {
    for (status, reason) in [(Status::Critical, Reason::ApprovalPending), (Status::Degraded, Reason::Manual)] {
        let mut sim = asking();
        sim.break_("order_router", status);
        sim.live(65);
        assert_eq!(held(&sim), [(1, reason)]);
        let from = sim.entries.len();
        sim.live(200);
        assert_eq!(sim.kinds(from), Vec::<&str>::new(), "nothing has changed");
        sim.crash();
        sim.live(65);
        assert_eq!(held(&sim), [(1, reason)], "a restart is no news");
    }
}

/// ACT-3: reasons that alternate are journaled once a minute each at most.
#[test]
fn alternating_reasons_are_bounded() {
    let parts: &[Part] = &[
        ("exchange_connection", Criticality::Full, &[]),
        ("order_router", Criticality::Full, &["exchange_connection"]),
    ];
    let mut sim = Sim::new(rules(parts, RESTART));
    sim.check_all();
    sim.break_("order_router", Status::Critical);
    for round in 0..240 {
        let root = if round % 2 == 0 { Status::Critical } else { Status::Healthy };
        sim.break_("exchange_connection", root);
        sim.pass(5);
        sim.check_all();
        while sim.answer(Ending::Failed).is_some() {}
    }
    let mut seen: BTreeMap<(EpisodeId, u32, Reason), Vec<crate::model::Timestamp>> = BTreeMap::new();
    for entry in &sim.entries {
        if let Record::RecommendationHeld { episode, rung, reason, .. } = &entry.record {
            seen.entry((episode.clone(), *rung, *reason)).or_default().push(entry.at);
        }
    }
    assert!(seen.keys().any(|(_, _, reason)| *reason == Reason::Dependency), "{seen:?}");
    let apart = |times: &Vec<crate::model::Timestamp>| {
        times.windows(2).all(|pair| pair[1].since(pair[0]) >= Duration::from_secs(60))
    };
    assert!(seen.values().all(apart), "{seen:?}");
}

/// REC-2: another severity leaves what was recommended under its number, as not needed, and a fresh copy comes back.
#[test]
fn a_recommendation_keeps_its_number() {
    let mut sim = asking();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    let first = sim.state.questions.keys().next().cloned().expect("a question");
    sim.break_("order_router", Status::Degraded);
    sim.live(10);
    let not_needed = Some(Outcome::NotNeeded);
    assert_eq!(ladder(&sim.state), [("restart_subsystem", not_needed), ("reload_config", None)]);
    assert_eq!(only(&sim.state).last_note(1).map(|note| note.reason), Some(Reason::Superseded));
    assert!(!sim.state.questions.contains_key(&first), "nobody is asked about it any more");
    sim.break_("order_router", Status::Critical);
    sim.live(10);
    let actions: Vec<&str> = only(&sim.state).ladder.iter().map(|rung| rung.action.as_str()).collect();
    assert_eq!(actions, ["restart_subsystem", "reload_config", "restart_subsystem", "restart_subsystem"]);
    assert_eq!(sim.state.questions.keys().next().map(|key| key.rung), Some(3), "asked under its own number");
    sim.break_("order_router", Status::Healthy);
    sim.live(10);
    let ends: Vec<_> = (0..4).map(|index| only(&sim.state).ended(index)).collect();
    assert_eq!(ends, [not_needed, Some(Outcome::NotNeeded), not_needed, None], "each that was one has one end");
}

/// ALR-2, REC-2: what an alert wished for ends with the alert, and takes nobody's number.
#[test]
fn a_wish_has_a_number_of_its_own() {
    let mut sim = asking();
    sim.break_("order_router", Status::Degraded);
    sim.live(5);
    assert_eq!(held(&sim), [(1, Reason::Manual)]);
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.check_all();
    assert_eq!(sim.under_way.first().map(|(key, _)| key.rung), Some(2));
    assert_eq!(ladder(&sim.state)[0], ("reload_config", Some(Outcome::NotNeeded)));
    assert_eq!(only(&sim.state).last_note(1).map(|note| note.reason), Some(Reason::Superseded));
}

/// ACT-5: what could not be done for want of means ends as unbound, what waited as not needed.
#[test]
fn the_end_of_an_issue_ends_what_waits() {
    for (bindings, expected) in [(&[][..], Outcome::Unbound), (RESTART, Outcome::NotNeeded)] {
        let mut rules = rules(ROUTER, bindings);
        rules.recommend.auto_restart_enabled = bindings.is_empty();
        let mut sim = Sim::new(rules);
        sim.check_all();
        sim.break_("order_router", Status::Critical);
        sim.check_all();
        assert_eq!(only(&sim.state).ended(0), None);
        sim.break_("order_router", Status::Healthy);
        sim.live(10);
        assert_eq!(only(&sim.state).ended(0), Some(expected));
        assert_eq!(only(&sim.state).ended(1), None, "the second rung was never recommended");
    }
}

/// SPEC 14: an issue says when its trouble began at the earliest.
#[test]
fn when_it_began() {
    let mut sim = asking();
    sim.pass(5);
    sim.check_all();
    let healthy = sim.now;
    sim.break_("order_router", Status::Degraded);
    sim.pass(5);
    sim.check_all();
    assert_eq!(only(&sim.state).began_at, Some(healthy), "the last check that was not as bad");
    let far = Duration::from_secs(86_400);
    for (age, expected) in [(60, 60), (90_000, 86_400), (-60, 0)] {
        let mut sim = asking();
        let now = sim.now;
        let starts_at = crate::model::Timestamp::from_millis(now.millis() - age * 1_000);
        sim.alert("order_router", AlertStatus::Firing, starts_at);
        sim.check_all();
        let began = only(&sim.state).began_at.expect("the alert says so");
        assert_eq!(now.since(began), Duration::from_secs(expected).min(far), "{age}");
    }
}

/// What a person said stays with the issue.
#[test]
fn replies_are_kept() {
    let mut sim = asking();
    sim.break_("order_router", Status::Critical);
    sim.check_all();
    let (key, question) = sim.state.questions.get_min().cloned().expect("a question");
    let recommendation = format!("rec_{}_{}", key.rung, key.episode);
    let (by, reason) = ("ana".to_owned(), "by hand".to_owned());
    let answer = crate::app::approvals::Answer { recommendation, digest: question.digest, by, reason };
    assert_eq!(sim.command(crate::app::cycle::Command::Reject(answer)), None);
    let reply = only(&sim.state).replies.first().expect("a reply");
    assert_eq!((reply.how, reply.by.as_str(), reply.reason.as_str()), (ApprovalEnd::Rejected, "ana", "by hand"));
    assert_eq!(only(&sim.state).ended(0), Some(Outcome::Rejected));
}

fn facts<'a>(sim: &'a Sim, waiting: &'a imbl::OrdMap<EpisodeId, crate::app::world::Waiting>) -> Facts<'a> {
    Facts { state: &sim.state, rules: &sim.rules, waiting: Some(waiting), dry_run: false }
}

/// A story with a run that was verified, a recommendation that waits, and one that was never needed.
fn told() -> Sim {
    let mut sim = asking();
    sim.break_("order_router", Status::Degraded);
    sim.live(5);
    sim.pass(5);
    sim.alert("order_router", AlertStatus::Firing, sim.now);
    sim.check_all();
    sim.answer(Ending::Ok);
    sim.break_("order_router", Status::Healthy);
    sim.live(5);
    sim.alert("order_router", AlertStatus::Resolved, sim.now);
    sim.live(10);
    sim.break_("order_router", Status::Critical);
    sim.live(5);
    sim
}

fn documented(name: &str) -> std::collections::BTreeSet<String> {
    let document: serde_json::Value = serde_json::from_str(include_str!("../../http/openapi.json")).expect("JSON");
    let schema = &document["components"]["schemas"][name];
    schema["properties"].as_object().expect("properties").keys().cloned().collect()
}

/// SPEC 12: a run and a recommendation without one are told with the same fields, those of the document; each story is
/// whole.
#[test]
fn stories_are_whole() {
    let sim = told();
    let waiting = sim.cycle.waiting();
    let all = actions(facts(&sim, &waiting), &WantedRuns::ALL);
    let of = |id: &str| all.iter().find(|one| one["id"].as_str().is_some_and(|found| found.starts_with(id))).expect(id);
    for one in &all {
        let keys: std::collections::BTreeSet<String> = one.as_object().expect("fields").keys().cloned().collect();
        assert_eq!(keys, documented("Run"), "{}", one["id"]);
    }
    let words: Vec<_> = all.iter().map(|one| (one["state"].as_str(), one["outcome"].as_str())).collect();
    let (waits, verified, ended) = (("approval", None), ("verified", Some("verified")), ("ended", Some("not_needed")));
    let expected = [waits, verified, ended].map(|(state, outcome)| (Some(state), outcome));
    assert_eq!(words, expected, "latest first");
    let run = of("order_router");
    assert_eq!(run["why"], "order_router performance degraded (critical); alert order_router_down asks for it");
    assert_eq!(run["issue"]["alerts"][0]["alertname"], "order_router_down");
    assert_eq!((&run["to_act"], &run["duration"]), (&serde_json::json!(5.0), &serde_json::json!(0.005)));
    assert!(run["to_recover"].as_f64() > run["to_act"].as_f64(), "{run}");
    let never = of("rec_1");
    assert_eq!(never["state"], "approval", "the latest issue's");
    assert_eq!(never["approval"]["how"], "pending");
    let id = Id::parse(run["recommendation_id"].as_str().expect("an id")).expect("an id");
    let story = story(facts(&sim, &waiting), &id).expect("a story");
    let steps: Vec<&str> =
        story["timeline"].as_array().expect("steps").iter().filter_map(|step| step["what"].as_str()).collect();
    assert_eq!(
        steps,
        [
            "trouble began",
            "issue opened",
            "alert taken",
            "recommended",
            "decided",
            "begun",
            "answered",
            "verified",
            "issue resolved"
        ]
    );
}

/// SPEC 12: what is picked before it is told is what would be picked of all that is told, page by page.
#[test]
fn what_is_wanted_is_picked_first() {
    let sim = told();
    let waiting = sim.cycle.waiting();
    let facts = facts(&sim, &waiting);
    let all = actions(facts, &WantedRuns::ALL);
    assert!(all.len() >= 3, "{all:?}");
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    for one in &all {
        let (subsystem, issue) = (text(&one["target"]), text(&one["issue"]["id"]));
        let (action, state, outcome) = (text(&one["action"]), text(&one["state"]), text(&one["outcome"]));
        let outcome = Outcome::ALL.into_iter().find(|known| outcome.as_deref() == Some(known.as_str()));
        for (key, path, found, wanted) in [
            ("target", "/target", &subsystem, WantedRuns { subsystem: subsystem.as_deref(), ..WantedRuns::ALL }),
            ("issue", "/issue/id", &issue, WantedRuns { issue: issue.as_deref(), ..WantedRuns::ALL }),
            ("action", "/action", &action, WantedRuns { action: action.as_deref(), ..WantedRuns::ALL }),
            ("state", "/state", &state, WantedRuns { state: state.as_deref(), ..WantedRuns::ALL }),
            ("outcome", "/outcome", &text(&one["outcome"]), WantedRuns { outcome, ..WantedRuns::ALL }),
        ] {
            let same = |other: &&serde_json::Value| {
                found.is_none() || other.pointer(path).and_then(serde_json::Value::as_str) == found.as_deref()
            };
            let expected: Vec<_> = all.iter().filter(same).cloned().collect();
            assert_eq!(actions(facts, &wanted), expected, "{key} {found:?}");
        }
    }
    let (mut after, mut walked) = (None, Vec::new());
    while let [one] = &actions(facts, &WantedRuns { after: after.as_ref(), limit: 1, ..WantedRuns::ALL })[..] {
        let at = if one["intended_at"].is_null() { &one["recommended_at"] } else { &one["intended_at"] };
        let at = at.as_str().and_then(crate::model::Timestamp::parse_rfc3339).expect("a time");
        after = Some((-at.millis(), text(&one["id"]).expect("an id")));
        walked.push(one.clone());
    }
    assert_eq!(walked, all);
}

/// What is remembered no longer is read from the journal, and told in the same way; what never was is not found.
#[tokio::test]
async fn the_past_comes_from_the_journal() {
    use crate::journal::JournalStore as _;
    let sim = told();
    let store = crate::store::MemoryStore::new();
    let epoch = store.acquire("test", sim.entries[0].at).await.expect("nobody else").epoch;
    let filler = |count| vec![Record::RestartAsked { by: "ana".to_owned(), reason: "x".to_owned() }; count];
    let early = crate::model::Timestamp::from_millis(sim.entries[0].at.millis() - 10_000_000);
    store.commit(epoch, early, filler(3_000)).await.expect("committed");
    for entry in &sim.entries {
        store.commit(epoch, entry.at, vec![entry.record.clone()]).await.expect("committed");
    }
    store.commit(epoch, sim.now.plus(Duration::from_secs(9_000)), filler(4_000)).await.expect("committed");
    let last = 7_000 + sim.entries.len() as u64;
    let waiting = sim.cycle.waiting();
    let run = sim.state.ended_runs.front().expect("a run").key.to_string();
    let id = Id::parse(&run).expect("a key");
    let past = crate::app::past::Past::default().state(&store, &id, last).await.expect("read").expect("found");
    let now = facts(&sim, &waiting);
    assert_eq!(story(Facts { state: &past, waiting: None, ..now }, &id), story(now, &id));
    let never = Id::parse("rec_1_order_router_20200101_000000").expect("an id");
    assert!(crate::app::past::Past::default().state(&store, &never, last).await.expect("read").is_none());
}

type Place = (EpisodeId, usize);

/// Follows the journal: which rungs have become recommendations, and how each has ended.
fn followed(sim: &Sim) -> (BTreeMap<Place, Name>, BTreeMap<Place, Outcome>) {
    let (mut begun, mut ended) = (BTreeMap::new(), BTreeMap::new());
    let mut state = State::default();
    for entry in &sim.entries {
        state.apply(entry).expect("legal");
        let (id, rung) = match &entry.record {
            Record::RecommendationHeld { episode, rung, .. } | Record::RungSkipped { episode, rung, .. } => {
                (episode.clone(), Some(*rung))
            }
            Record::RunIntended { key, .. } => (key.episode.clone(), Some(key.rung)),
            Record::RunVerified { key, .. }
            | Record::RunIndeterminate { key, .. }
            | Record::ApprovalEnded { key, .. } => (key.episode.clone(), None),
            Record::EpisodeChanged { id, .. } | Record::EpisodeResolved { id } => (id.clone(), None),
            _ => continue,
        };
        let resolved = || state.ended_episodes.iter().rev().find(|episode| episode.id == id);
        let Some(episode) = state.episodes.get(&id).or_else(resolved) else { continue };
        if let Some(rung) = rung {
            let action = episode.ladder[rung as usize - 1].action.clone();
            begun.entry((id.clone(), rung as usize - 1)).or_insert(action);
        }
        for (index, rung) in episode.ladder.iter().enumerate() {
            let place = (id.clone(), index);
            assert_eq!(begun.contains_key(&place), rung.recommended_at.is_some(), "{place:?} at {}", entry.seq);
            if let Some(action) = begun.get(&place) {
                assert_eq!(*action, rung.action, "{place:?} is another one at {}", entry.seq);
            }
            match (ended.get(&place), episode.ended(index)) {
                (Some(was), is) => assert_eq!(Some(*was), is, "{place:?} has ended before {}", entry.seq),
                (None, Some(outcome)) => drop(ended.insert(place, outcome)),
                (None, None) => {}
            }
        }
        let gone = begun.keys().any(|(episode_id, index)| *episode_id == id && *index >= episode.ladder.len());
        assert!(!gone, "a recommendation of {id} has gone at {}", entry.seq);
    }
    (begun, ended)
}

/// How often each end is counted if the journal comes in steps of so many records.
fn counted(sim: &Sim, size: usize) -> BTreeMap<Place, Outcome> {
    let mut ends = BTreeMap::new();
    let mut before = State::default();
    for chunk in sim.entries.chunks(size) {
        let after = before.clone().replay(chunk).expect("legal");
        let records: Vec<Record> = chunk.iter().map(|entry| entry.record.clone()).collect();
        let now = chunk.last().map_or(crate::model::Timestamp::EPOCH, |entry| entry.at);
        let step = Step { before: &before, after: &after, records: &records, alerts: &[], now };
        for (episode, index, outcome) in step.ended() {
            let twice = ends.insert((episode.id.clone(), index), outcome);
            assert_eq!(twice, None, "rung {index} of {} is counted twice", episode.id);
        }
        before = after;
    }
    ends
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(super::random::cases() / 2))]

    /// ACT-4: over any story, what has begun as a recommendation keeps its number and action, and ends in exactly one outcome
    /// or still waits in an open issue; each end is counted once however the records come; at rest nothing waits.
    #[test]
    fn each_recommendation_ends_once(
        happenings in prop::collection::vec(happening(), 1..120),
        automatic in any::<bool>(),
        size in 1_usize..9,
    ) {
        let mut sim = run(&happenings, automatic);
        let (begun, ended) = followed(&sim);
        prop_assert_eq!(&counted(&sim, size), &ended);
        let pending = begun.keys().filter(|place| !ended.contains_key(*place)).count();
        prop_assert_eq!(begun.len(), ended.len() + pending);
        prop_assert!(begun.keys().filter(|place| !ended.contains_key(*place)).all(|(id, _)| sim.state.episodes.contains_key(id)));
        prop_assert!(ended.keys().all(|place| begun.contains_key(place)));
        super::random::rest(&mut sim);
        let (begun, ended) = followed(&sim);
        // Trading is not resumed while the latch is closed; that alone still waits.
        let waits = |id: &EpisodeId| {
            sim.state.latch.is_some() && sim.state.episodes.get(id).is_some_and(|open| open.key.kind == *REVERSE)
        };
        let over: Vec<_> = begun.keys().filter(|(id, _)| !waits(id)).collect();
        prop_assert_eq!(over, ended.keys().filter(|(id, _)| !waits(id)).collect::<Vec<_>>());
    }
}

/// The property's own story: it is not empty.
#[test]
fn stories_have_recommendations() {
    let story = [
        Happening::Break(2, Status::Critical),
        Happening::Check,
        Happening::Pass(61),
        Happening::Hold(Level::AllowAll, crate::model::Role::Operate, 1),
        Happening::Check,
    ];
    let sim = run(&story, false);
    assert!(!followed(&sim).0.is_empty());
}
