//! Looks at the journal entry by entry, and at the world, and knows what must never be seen. The numbers are those of
//! `docs/reliability.md`.
//!
//! **Invariant:** it reads the store and the world's own counts; what the decider believes is only ever compared.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::admit;
use crate::execute::ProbeAnswer;
use crate::journal::{ApprovalEnd, Entry, Record, State};
use crate::model::{
    Autonomy, Class, Ending, Level, Name, Outcome, PolicySource, Reason, RunKey, RunState, Severity, Timestamp,
};

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) invariant: &'static str,
    pub(super) what: String,
}

impl Broken {
    pub(super) fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

fn must(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::new(invariant, what())) }
}

/// What the journal has told of a run.
#[derive(Debug)]
struct Told {
    class: Class,
    target: Name,
    /// Neither lowers risk nor is only rehearsed: budgets and cooldowns are about it.
    counted: bool,
    /// A person has allowed it.
    approved: bool,
    /// Records that let its effect begin.
    begun: u32,
    ending: Option<Ending>,
    last: RunState,
}

/// The most that any settings of this incident allowed.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    capacity: f64,
    per_second: f64,
}

impl Bucket {
    fn widen(&mut self, budget: u32, window: Duration) {
        self.capacity = self.capacity.max(f64::from(budget));
        self.per_second = self.per_second.max(f64::from(budget) / window.as_secs_f64());
    }

    /// The last of these starts, if more of them lie before it, within some stretch, than a bucket permits.
    fn overdrawn(&self, starts: &[Duration]) -> Option<String> {
        let last = *starts.last()?;
        let within = |from: usize| {
            let elapsed = last.saturating_sub(starts[from]).as_secs_f64();
            let count = u32::try_from(starts.len() - from).map_or(f64::MAX, f64::from);
            let most = self.capacity + elapsed * self.per_second;
            (count > most + 1e-6)
                .then(|| format!("{count} starts within {elapsed:.1} s, at most {most:.2} are permitted"))
        };
        (0..starts.len()).find_map(within)
    }
}

/// The watcher.
#[derive(Debug, Default)]
pub(super) struct Watcher {
    /// The journal as the store has it, replayed entry by entry.
    pub(super) replayed: State,
    /// Alerts that were answered with 200, by the mark their sender gave them.
    pub(super) accepted: BTreeSet<Name>,
    /// Rows of the intake and the mark in each.
    pub(super) rows: BTreeMap<u64, Name>,
    /// What the means last said of an interrupted run.
    pub(super) probed: BTreeMap<RunKey, ProbeAnswer>,
    taken: BTreeMap<u64, u32>,
    runs: BTreeMap<RunKey, Told>,
    at_work: BTreeMap<Name, RunKey>,
    questions: BTreeMap<RunKey, String>,
    approved: BTreeSet<RunKey>,
    starts: Vec<Duration>,
    starts_on: BTreeMap<Name, Vec<Duration>>,
    ended_on: BTreeMap<Name, Duration>,
    on_target: Bucket,
    overall: Bucket,
}

impl Watcher {
    /// Settings are in force from now on.
    pub(super) fn note_settings(&mut self, settings: &admit::Settings) {
        self.on_target.widen(settings.target_budget, settings.target_window);
        self.overall.widen(settings.overall_budget, settings.overall_window);
    }

    /// One more entry of the journal. `elapsed` is the time that has passed for whoever reads the wall clock; `cooldown` is
    /// the one in force.
    pub(super) fn take(&mut self, entry: &Entry, elapsed: Duration, cooldown: Duration) -> Result<(), Broken> {
        self.holds_of_open_issues_never_fall(&entry.record)?;
        self.replayed.apply(entry).map_err(|illegal| Broken::new("replay_is_live", illegal.to_string()))?;
        match &entry.record {
            Record::AlertTaken { intake, .. } => *self.taken.entry(*intake).or_insert(0) += 1,
            Record::ApprovalAsked { key, digest, .. } => {
                let before = self.questions.insert(key.clone(), digest.clone());
                must(before.is_none(), "approvals_are_used_once", || format!("{key} is asked for twice"))?;
            }
            Record::ApprovalEnded { key, how, .. } => {
                self.questions.remove(key);
                if *how == ApprovalEnd::Approved {
                    let new = self.approved.insert(key.clone());
                    must(new, "approvals_are_used_once", || format!("{key} was approved twice"))?;
                }
            }
            Record::EpisodeResolved { id } => self.questions.retain(|key, _| key.episode != *id),
            Record::RunIntended { key, class, target, dry_run, lowers_risk, binding, .. } => {
                self.run_keys_are_unique(key)?;
                self.one_shots_are_not_tried_again(key, *class)?;
                self.a_person_is_asked_where_one_has_to_be(key)?;
                if *binding != *"internal" {
                    let other = self.at_work.insert(target.clone(), key.clone());
                    self.one_at_a_time(key, other.as_ref())?;
                }
                let (class, target) = (*class, target.clone());
                let counted = !dry_run && !lowers_risk;
                let approved = self.approved.contains(key);
                let told = Told { class, target, counted, approved, begun: 0, ending: None, last: RunState::Intended };
                self.runs.insert(key.clone(), told);
            }
            Record::RunStarted { key, .. } => {
                let Some(told) = self.runs.get_mut(key) else { return Ok(()) };
                told.begun += 1;
                told.last = RunState::Started;
                if told.counted && !told.approved {
                    let target = told.target.clone();
                    self.cooldowns_hold(key, &target, elapsed, cooldown)?;
                    self.budgets_hold(&target, elapsed)?;
                }
            }
            Record::RunResumed { key } => {
                let Some(told) = self.runs.get_mut(key) else { return Ok(()) };
                told.begun += 1;
            }
            Record::RunFinished { key, ending, .. } => {
                let Some(told) = self.runs.get_mut(key) else { return Ok(()) };
                (told.last, told.ending) = (RunState::Finished, Some(*ending));
                if told.counted {
                    self.ended_on.insert(told.target.clone(), elapsed);
                }
            }
            Record::RunVerified { key, .. } => self.close(key, RunState::Verified),
            Record::RunCancelled { key, .. } => self.close(key, RunState::Cancelled),
            Record::RunIndeterminate { key, .. } => self.close(key, RunState::Indeterminate),
            _ => {}
        }
        Ok(())
    }

    fn close(&mut self, key: &RunKey, to: RunState) {
        if let Some(told) = self.runs.get_mut(key) {
            told.last = to;
            if self.at_work.get(&told.target) == Some(key) {
                self.at_work.remove(&told.target);
            }
        }
    }

    /// 1: each row of the intake has at most one outcome.
    pub(super) fn no_alert_is_taken_twice(&self) -> Result<(), Broken> {
        let twice = self.taken.iter().find(|(_, count)| **count > 1);
        must(twice.is_none(), "alerts_are_taken_once", || format!("{twice:?}"))
    }

    /// 1: in the end every alert that was answered with 200 has its outcome.
    pub(super) fn every_alert_is_taken(&self) -> Result<(), Broken> {
        let taken: BTreeSet<&Name> = self.taken.keys().filter_map(|number| self.rows.get(number)).collect();
        let lost = self.accepted.iter().find(|mark| !taken.contains(mark));
        must(lost.is_none(), "alerts_are_taken_once", || format!("alert {lost:?} was accepted and never taken"))
    }

    /// 4: a run's key is unique.
    fn run_keys_are_unique(&self, key: &RunKey) -> Result<(), Broken> {
        must(!self.runs.contains_key(key), "run_keys_are_unique", || format!("{key} is decided twice"))
    }

    /// 5: the state that is decided on is what the store gives back.
    pub(super) fn replay_is_live(&self, live: &State) -> Result<(), Broken> {
        must(self.replayed == *live, "replay_is_live", || {
            format!("the store is at entry {}, the live state at {}, and they differ", self.replayed.seq, live.seq)
        })
    }

    /// 5, 9, 12 and 7: an effect begins only for a run that is durably started, no rehearsal, not too old; a second time
    /// only as its class permits.
    pub(super) fn effect_begins(&self, key: &RunKey, wall: Timestamp, asked_before: u32) -> Result<(), Broken> {
        let run = self.replayed.runs.get(key).filter(|run| run.state == RunState::Started);
        let Some(run) = run else {
            return Err(Broken::new(
                "nothing_begins_before_it_is_durable",
                format!("{key} is not started in the store"),
            ));
        };
        must(!run.dry_run, "a_rehearsal_has_no_effect", || format!("{key} is a rehearsal"))?;
        let late = !run.lowers_risk && run.not_after.is_some_and(|not_after| wall > not_after);
        must(!late, "nothing_restorative_begins_late", || format!("{key} at {wall}, not after {:?}", run.not_after))?;
        self.repeated_as_permitted(key, asked_before)
    }

    /// 7: `one_shot` never again; the others only under the same key and with a record for each time; `probeable` only after
    /// its probe, or the check in its place, has said that it did not happen.
    fn repeated_as_permitted(&self, key: &RunKey, asked_before: u32) -> Result<(), Broken> {
        let Some(told) = self.runs.get(key) else { return Ok(()) };
        must(asked_before < told.begun, "each_time_has_its_record", || {
            format!("{key} was asked for {asked_before} times before, the journal has {} starts", told.begun)
        })?;
        if asked_before == 0 {
            return Ok(());
        }
        must(told.class != Class::OneShot, "one_shot_happens_at_most_once", || format!("{key} is begun again"))?;
        let said = self.probed.get(key);
        let may =
            told.class != Class::Probeable || matches!(said, Some(ProbeAnswer::DidNotHappen | ProbeAnswer::AskCheck));
        must(may, "probeable_is_asked_first", || format!("{key} is begun again, and its probe said {said:?}"))
    }

    /// 7: the world's own count: nothing `one_shot` has happened twice, nor anything whose probe can tell; nothing happened
    /// that was not begun.
    pub(super) fn effects_are_accounted_for(&self, effects: &BTreeMap<RunKey, u32>) -> Result<(), Broken> {
        for (key, count) in effects {
            let told = self.runs.get(key);
            must(told.is_some(), "effects_are_in_the_journal", || format!("{key} happened, and is in no journal"))?;
            let Some(told) = told else { continue };
            must(*count <= told.begun, "effects_are_in_the_journal", || {
                format!("{key} happened {count} times, and was begun {} times", told.begun)
            })?;
            let once = match told.class {
                Class::OneShot | Class::Keyed => true,
                Class::Probeable => self.probed.get(key).is_some_and(|said| *said != ProbeAnswer::AskCheck),
                Class::Natural => false,
            };
            must(!once || *count <= 1, "one_shot_happens_at_most_once", || {
                format!("{:?} {key} happened {count} times", told.class)
            })?;
        }
        Ok(())
    }

    /// 7, ACT-3: a new try of a one_shot only if the last one provably never started; of anything only if the last has ended
    /// and its end is known.
    fn one_shots_are_not_tried_again(&self, key: &RunKey, class: Class) -> Result<(), Broken> {
        let Some(attempt) = key.attempt.checked_sub(1).filter(|attempt| *attempt > 0) else { return Ok(()) };
        let before = RunKey { attempt, ..key.clone() };
        let Some(told) = self.runs.get(&before) else { return Ok(()) };
        let ended = matches!(told.last, RunState::Verified | RunState::Cancelled);
        let never_began =
            told.last == RunState::Cancelled || matches!(told.ending, Some(Ending::NotStarted | Ending::DryRun));
        // What a reload has made of another class is the operator's word.
        let once = class == Class::OneShot && told.class == Class::OneShot;
        must(ended && (!once || never_began), "one_shots_are_not_tried_again", || {
            format!("{key} follows {before}, which is {:?} and ended {:?}", told.last, told.ending)
        })
    }

    /// 8, ACT-3: one run at a time on a target.
    pub(super) fn one_at_a_time(&self, key: &RunKey, other: Option<&RunKey>) -> Result<(), Broken> {
        must(other.is_none(), "one_at_a_time_on_a_target", || format!("{key} while {other:?} is under way"))
    }

    /// 13: what a person has to allow is begun with that person's word, in the same transaction; nothing is begun that is
    /// still being asked.
    fn a_person_is_asked_where_one_has_to_be(&self, key: &RunKey) -> Result<(), Broken> {
        let rung = self.replayed.episodes.get(&key.episode);
        let rung = rung.and_then(|episode| episode.ladder.get((key.rung as usize).saturating_sub(1)));
        let asks = rung.is_some_and(|rung| rung.autonomy != Autonomy::Automatic);
        must(!asks || self.approved.contains(key), "approvals_are_used_once", || {
            format!("{key} was allowed by nobody")
        })?;
        must(!self.questions.contains_key(key), "approvals_are_used_once", || format!("{key} is still being asked"))
    }

    /// 15: while an issue is open its holds do not fall, but by a person's hand.
    fn holds_of_open_issues_never_fall(&self, record: &Record) -> Result<(), Broken> {
        let (source, subject, to) = match record {
            Record::HoldSet { source, subject, level, .. } => (source, subject, *level),
            Record::HoldEnded { source, subject, by: None, .. } => (source, subject, Level::AllowAll),
            _ => return Ok(()),
        };
        let of_issue = matches!(source, PolicySource::Evaluation | PolicySource::Action);
        let key = crate::journal::HoldKey { source: *source, subject: subject.clone() };
        let held = self.replayed.holds.get(&key).map(|hold| hold.level);
        let falls = of_issue && self.replayed.episodes.contains_key(subject) && held.is_some_and(|held| to < held);
        must(!falls, "holds_of_open_issues_never_fall", || format!("{source:?} {subject} falls from {held:?} to {to}"))
    }

    /// 15: the strictest level that no passing of time ends by itself.
    pub(super) fn lasting_level(&self, wall: Timestamp) -> Level {
        lasting_level(&self.replayed, wall)
    }

    /// 15: whatever was durable holds in the next life.
    pub(super) fn a_crash_never_loosens(&self, before: Level, after: Level) -> Result<(), Broken> {
        must(after >= before, "a_crash_never_loosens", || format!("{before} was held, and after the crash {after}"))
    }

    /// 14: what open critical issues demand is held.
    pub(super) fn policy_is_tight_enough(&self, live: &State) -> Result<(), Broken> {
        for episode in live.episodes.values() {
            let critical = episode.facts.severity == Severity::Critical && episode.facts.moves_policy;
            let wanted = match (critical, episode.facts.impacts_trading) {
                (true, true) => Level::DefensiveExit,
                (true, false) => Level::NoNewTrades,
                _ => Level::AllowAll,
            };
            must(live.level() >= wanted, "policy_is_tight_enough", || {
                format!("{} is open and wants {wanted}, the policy is {}", episode.id, live.level())
            })?;
        }
        for alert in live.alerts.values() {
            must(Some(live.level()) >= alert.policy, "policy_is_tight_enough", || {
                format!("{} fires and wants {:?}, the policy is {}", alert.fingerprint, alert.policy, live.level())
            })?;
        }
        Ok(())
    }

    /// 16: only a person releases the latch.
    pub(super) fn only_a_person_releases(&self, was: bool, is: bool, asked: bool) -> Result<(), Broken> {
        must(!was || is || asked, "only_a_person_releases_the_latch", || {
            "it is gone, and nobody asked for that".to_owned()
        })
    }

    /// 18: until every check has answered nothing new is opened.
    pub(super) fn start_up_is_careful(&self, started_up: bool, level: Level) -> Result<(), Broken> {
        must(started_up || level >= Level::NoNewTrades, "start_up_is_careful", || {
            format!("checks have not answered, and the policy is {level}")
        })
    }

    /// 19: what cannot be remembered tightens.
    pub(super) fn blindness_tightens(&self, journal_ok: bool, least: Level, level: Level) -> Result<(), Broken> {
        must(journal_ok || level >= least, "blindness_tightens", || {
            format!("the journal cannot be written, and the policy is {level}")
        })
    }

    /// 21: at most what a token bucket of that capacity and rate permits, on each target and overall, in any stretch.
    fn budgets_hold(&mut self, target: &Name, elapsed: Duration) -> Result<(), Broken> {
        let on_target = self.starts_on.entry(target.clone()).or_default();
        on_target.push(elapsed);
        self.starts.push(elapsed);
        let over = self.on_target.overdrawn(on_target);
        must(over.is_none(), "budgets_hold", || format!("on {target}: {}", over.clone().unwrap_or_default()))?;
        let over = self.overall.overdrawn(&self.starts);
        must(over.is_none(), "budgets_hold", || format!("overall: {}", over.clone().unwrap_or_default()))
    }

    /// 21: a target is left alone for a while after each action.
    fn cooldowns_hold(&self, key: &RunKey, target: &Name, elapsed: Duration, cooldown: Duration) -> Result<(), Broken> {
        let Some(ended) = self.ended_on.get(target) else { return Ok(()) };
        let passed = elapsed.saturating_sub(*ended);
        must(passed >= cooldown, "cooldowns_hold", || format!("{key} after {passed:?}, the pause is {cooldown:?}"))
    }

    /// ACT-5: a ladder that can do no more, or whose end nobody knows, has told a person.
    pub(super) fn a_person_knows(&self, live: &State, retries: impl Fn(&Name, &Name) -> u32) -> Result<(), Broken> {
        for episode in live.episodes.values().filter(|episode| episode.run.is_none()) {
            let held = episode.by_check || !episode.alerts.is_empty();
            let unknown = episode.ladder.iter().any(|rung| rung.outcome == Some(Outcome::Indeterminate));
            let spent = |rung: &crate::journal::Rung| match rung.outcome {
                Some(Outcome::Failed | Outcome::Unverified) => {
                    rung.attempts > retries(&rung.action, &episode.key.subsystem)
                }
                Some(Outcome::Unbound | Outcome::Rejected) => true,
                _ => false,
            };
            let over = !episode.ladder.is_empty() && episode.ladder.iter().all(spent);
            let told = matches!(
                episode.escalated,
                Some(
                    Reason::Exhausted
                        | Reason::Indeterminate
                        | Reason::Unbound
                        | Reason::ApprovalPending
                        | Reason::Expired
                )
            );
            must(!held || !(unknown || over) || told, "a_person_knows", || {
                format!("{} can do no more, and nobody was told: {:?}", episode.id, episode.ladder)
            })?;
        }
        Ok(())
    }

    /// How many runs the journal has told of, how many effects were begun, how many ended unknown.
    pub(super) fn figures(&self) -> (u64, u64, u64) {
        let begun = self.runs.values().map(|told| u64::from(told.begun)).sum();
        let unknown = self.runs.values().filter(|told| told.last == RunState::Indeterminate).count() as u64;
        (self.runs.len() as u64, begun, unknown)
    }
}

/// The strictest level that no passing of time ends by itself: neither start-up's nor a person's that has run out.
pub(super) fn lasting_level(state: &State, wall: Timestamp) -> Level {
    let lasts = state.holds.iter().filter(|(key, hold)| match key.source {
        PolicySource::Startup => false,
        PolicySource::Operator => hold.until.is_none_or(|until| wall < until),
        _ => true,
    });
    let held = lasts.map(|(_, hold)| hold.level).max().unwrap_or(Level::AllowAll);
    if state.latch.is_some() { Level::EmergencyShutdown } else { held }
}
