//! What must survive, and the only way it changes: [`State::apply`].
//!
//! **Invariant:** replaying any prefix of the journal gives the state that was live after it; no clock is read, the
//! time of an entry is the only time there is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};

use crate::model::{
    AlertOutcome, AlertStatus, Class, Ending, EpisodeId, EpisodeKey, Fingerprint, Level, Name, Outcome, PolicySource,
    Reason, RunKey, RunState, STARTS_REMEMBERED, Timestamp,
};

use super::episode::{Reply, ToldAlert};
use super::{ApprovalEnd, Before, Entry, IssueFacts, Record, Rung, is_legal};

/// Ended episodes and runs kept for people.
const RECENT_MAX: usize = 1_000;
/// Closed alerts remembered, so that a late firing is known as such.
const CLOSED_MAX: usize = 10_000;
/// Openings older than this are of no damping's interest any more.
const WINDOW_MAX: Duration = Duration::from_secs(86_400);
/// Notes kept of why an episode's rungs did not run.
const NOTES_MAX: usize = 50;
/// Answers of people, and alerts, that an episode remembers.
const TOLD_MAX: usize = 20;
/// Openings remembered per episode key.
const OPENINGS_MAX: usize = 1_000;

/// One problem from opened to resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Unique; also the issue's id.
    pub id: EpisodeId,
    /// What it is about.
    pub key: EpisodeKey,
    /// The issue now.
    pub facts: IssueFacts,
    /// The rungs to try, tried ones first.
    pub ladder: Vec<Rung>,
    /// Whether a check or rule holds it open.
    pub by_check: bool,
    /// The alerts that hold it open.
    pub alerts: Vec<Fingerprint>,
    /// It came and went too often and is damped.
    pub flapping: bool,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// Why a person was told, if one was.
    pub escalated: Option<Reason>,
    /// The run under way.
    pub run: Option<RunKey>,
    /// When the trouble began at the earliest.
    #[serde(default)]
    pub began_at: Option<Timestamp>,
    /// Why rungs did not run, oldest first.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// What became of questions to a person about its rungs, oldest first.
    #[serde(default)]
    pub replies: Vec<Reply>,
    /// The alerts that it took in, also those that are over, oldest first.
    #[serde(default)]
    pub told: Vec<ToldAlert>,
}

/// Why a rung did not run at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Since when.
    pub at: Timestamp,
    /// 1-based.
    pub rung: u32,
    /// Why.
    pub reason: Reason,
    /// Until when, if time alone changed it.
    pub not_before: Option<Timestamp>,
}

/// One try of a rung.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Unique.
    pub key: RunKey,
    /// The verb.
    pub action: Name,
    /// The subsystem acted upon.
    pub target: Name,
    /// The binding's id.
    pub binding: Name,
    /// What a crash permits.
    pub class: Class,
    /// A rehearsal.
    pub dry_run: bool,
    /// Outside budgets and cooldowns.
    pub lowers_risk: bool,
    /// Where it stands.
    pub state: RunState,
    /// When it was decided.
    pub intended_at: Timestamp,
    /// Not begun after this.
    pub not_after: Option<Timestamp>,
    /// When it was begun (last).
    pub started_at: Option<Timestamp>,
    /// When the means answered.
    pub ended_at: Option<Timestamp>,
    /// How the means answered.
    pub ending: Option<Ending>,
    /// The last word on it.
    pub detail: String,
    /// The end of what it printed.
    pub output: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it was cancelled.
    pub reason: Option<Reason>,
    /// When it reached its final state.
    pub closed_at: Option<Timestamp>,
    /// Crashes of ours that it was open across.
    pub crashes: u32,
    /// What a probe may compare with.
    pub evidence: Option<String>,
    /// How long the means took, in milliseconds.
    pub duration_ms: u64,
    /// What is different since, one sentence.
    #[serde(default)]
    pub changed: String,
    /// How things stood when it was decided.
    #[serde(default)]
    pub before: Option<Before>,
    /// What its means was to do when it was decided, one line.
    #[serde(default)]
    pub bound: Option<String>,
    /// What the means said; `detail` has the last word, which may be verification's.
    #[serde(default)]
    pub answer: String,
}

/// An alert that fires, or says resolved without proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ActiveAlert {
    /// Our identity of it.
    pub fingerprint: Fingerprint,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// When it began, by the sender's clock.
    pub starts_at: Timestamp,
    /// When it was first taken.
    pub since: Timestamp,
    /// The level it asks for.
    pub policy: Option<Level>,
    /// The episode it holds open.
    pub episode: EpisodeId,
    /// It said resolved, as of this time by the sender's clock, but the proof is missing.
    pub unproven: Option<Timestamp>,
}

/// What a person has been asked to approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The verb.
    pub action: Name,
    /// The subsystem acted upon.
    pub target: Name,
    /// What the approval is bound to.
    pub digest: String,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// Not taken after this.
    pub expires_at: Timestamp,
}

/// Maintenance that a person has announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// On which subsystems; empty for all.
    pub subsystems: Vec<Name>,
    /// What may run all the same.
    pub actions: Vec<Name>,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Who announced it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How far a hook has brought the policy to the bot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The policy told last.
    pub level: Level,
    /// Since when it is to be told.
    pub since: Timestamp,
    /// When it was told last.
    pub told_at: Timestamp,
    /// How often.
    pub attempts: u32,
    /// How the means answered last.
    pub ending: Option<Ending>,
    /// What it said.
    pub detail: String,
    /// When the bot showed the effect.
    pub followed_at: Option<Timestamp>,
    /// The mildest level that the bot may have been at before.
    #[serde(default)]
    pub from: Option<Level>,
}

/// What was done to a target lately; budgets and cooldowns live here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastTouch {
    /// When the last run on it ended.
    pub ended_at: Option<Timestamp>,
    /// Starts of counted runs, in the order in which they were made.
    pub starts: Vec<Timestamp>,
}

/// Who holds a level, and for what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HoldKey {
    /// Who.
    pub source: PolicySource,
    /// For what: an episode, an alert, a condition, a person.
    pub subject: Name,
}

/// A level held.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// The level.
    pub level: Level,
    /// Why, one sentence.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// Healings that are remembered one by one; twice as many as are kept by default.
const HEALINGS_TOLD_MAX: usize = 2_000;

/// The healings of the workspace that the journal has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healings {
    /// The newest that is told whole.
    #[serde(default)]
    pub last: Option<Name>,
    /// Those that are told whole, the newest ones. A clock that was ahead for a while, or a folder that was restored,
    /// brings healings older than the newest that are not told yet.
    #[serde(default)]
    pub told: imbl::OrdSet<Name>,
    /// What is not newer than this is told, or too old to be.
    #[serde(default)]
    pub floor: Option<Name>,
    /// The one that is being told, and how many of its changes are.
    #[serde(default)]
    pub under_way: Option<(Name, u32)>,
}

impl Healings {
    /// Whether a healing is told whole.
    pub fn knows(&self, healing: &Name) -> bool {
        // A journal of before remembers the newest alone.
        let floor = if self.told.is_empty() { self.last.as_ref() } else { self.floor.as_ref() };
        floor.is_some_and(|floor| *healing <= *floor) || self.told.contains(healing)
    }

    fn tell(&mut self, healing: &Name) {
        if self.told.is_empty() {
            self.floor = self.last.take();
        }
        self.under_way = None;
        self.last = self.last.take().or_else(|| self.floor.clone()).max(Some(healing.clone()));
        self.told.insert(healing.clone());
        while self.told.len() > HEALINGS_TOLD_MAX {
            self.floor = self.told.remove_min();
        }
    }

    /// How many changes are told of one that is not told whole.
    pub fn told(&self, healing: &Name) -> u32 {
        self.under_way.as_ref().filter(|(id, _)| id == healing).map_or(0, |(_, told)| *told)
    }
}

/// Counts since the journal began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Episodes opened.
    pub episodes: u64,
    /// Runs decided.
    pub runs: u64,
    /// Alerts taken.
    pub alerts: u64,
    /// Instances that held the journal.
    pub instances: u64,
}

/// Everything that must survive. Cloning is cheap: the maps share structure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The last entry applied.
    pub seq: u64,
    /// Its time.
    #[serde(default)]
    pub last_at: Timestamp,
    /// Rises with every set of settings.
    pub config_generation: u64,
    /// Of the settings in force.
    pub config_digest: String,
    /// The highest intake number taken.
    pub intake: u64,
    /// Open episodes.
    pub episodes: OrdMap<EpisodeId, Arc<Episode>>,
    /// Open episodes by what they are about.
    #[serde(with = "as_list")]
    pub open: OrdMap<EpisodeKey, EpisodeId>,
    /// Ended episodes, oldest first.
    pub ended_episodes: Vector<Arc<Episode>>,
    /// When episodes of a key were opened, oldest first; for damping.
    #[serde(with = "as_list")]
    pub openings: OrdMap<EpisodeKey, Vec<Timestamp>>,
    /// Runs that are not final.
    #[serde(with = "as_list")]
    pub runs: OrdMap<RunKey, Arc<Run>>,
    /// Runs that are not final, per target.
    pub busy: OrdMap<Name, u32>,
    /// Runs whose means is at work.
    pub executing: u32,
    /// What waits for a person's approval, by the run it would be.
    #[serde(default, with = "as_list")]
    pub questions: OrdMap<RunKey, Question>,
    /// Maintenance in force, by id.
    #[serde(default)]
    pub maintenance: OrdMap<Name, Maintenance>,
    /// What each hook has told the bot.
    #[serde(default)]
    pub hooks: OrdMap<Name, Told>,
    /// Final runs, oldest first.
    pub ended_runs: Vector<Arc<Run>>,
    /// Alerts that hold episodes open.
    pub alerts: OrdMap<Fingerprint, Arc<ActiveAlert>>,
    /// Alerts that were closed: when they ended by the sender's clock.
    pub closed_alerts: OrdMap<Fingerprint, Timestamp>,
    /// The order in which alerts were closed, oldest first, so that the oldest can be forgotten.
    pub closed_order: Vector<Fingerprint>,
    /// Per target.
    pub touches: OrdMap<Name, LastTouch>,
    /// Starts of counted runs on all targets, in the order in which they were made.
    pub starts: Vec<Timestamp>,
    /// Levels held.
    #[serde(with = "as_list")]
    pub holds: OrdMap<HoldKey, Hold>,
    /// Why `emergency_shutdown` is latched, if it is.
    pub latch: Option<String>,
    /// Since when it is latched.
    #[serde(default)]
    pub latched_at: Timestamp,
    /// When the policy last changed.
    pub policy_changed_at: Timestamp,
    /// When the Watchdog was last taken.
    pub watchdog_at: Option<Timestamp>,
    /// Healings of the workspace.
    #[serde(default)]
    pub healings: Healings,
    /// Counts.
    pub totals: Totals,
}

/// A journal that contradicts itself; the store is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal entry {seq} ({kind}): {found}")]
pub struct Illegal {
    /// Which entry.
    pub seq: u64,
    /// Its kind.
    pub kind: &'static str,
    /// What does not fit.
    pub found: String,
}

impl State {
    /// Replays entries in order.
    pub fn replay<'a>(mut self, entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, Illegal> {
        for entry in entries {
            self.apply(entry)?;
        }
        Ok(self)
    }

    /// Applies one entry. On `Err` the state is unchanged.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Illegal> {
        let illegal = |found: String| Illegal { seq: entry.seq, kind: entry.record.kind(), found };
        if entry.seq != self.seq + 1 {
            return Err(illegal(format!("found after entry {}, expected gapless numbers", self.seq)));
        }
        self.apply_record(&entry.record, entry.at).map_err(illegal)?;
        self.last_at = entry.at;
        self.seq = entry.seq;
        Ok(())
    }

    fn apply_record(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::InstanceStarted { .. } => {
                self.totals.instances += 1;
                let open: Vec<RunKey> = self
                    .runs
                    .values()
                    .filter(|run| run.state == RunState::Started)
                    .map(|run| run.key.clone())
                    .collect();
                for key in open {
                    self.edit_run(&key, |run| run.crashes += 1)?;
                }
            }
            Record::DrillAsked { .. } | Record::RestartAsked { .. } => {}
            Record::ClockSet { millis } => self.set_clock(*millis),
            Record::ConfigLoaded { generation, digest, .. } => {
                if *generation <= self.config_generation {
                    return Err(format!("generation {generation} does not rise above {}", self.config_generation));
                }
                self.config_generation = *generation;
                self.config_digest.clone_from(digest);
            }
            Record::EpisodeOpened { .. }
            | Record::EpisodeChanged { .. }
            | Record::EpisodeResolved { .. }
            | Record::EpisodeEscalated { .. }
            | Record::RecommendationHeld { .. }
            | Record::RungSkipped { .. } => self.apply_episode(record, at)?,
            Record::AlertTaken { .. } | Record::AlertBelieved { .. } => self.apply_alert(record, at)?,
            Record::RunIntended { .. }
            | Record::RunStarted { .. }
            | Record::RunResumed { .. }
            | Record::RunFinished { .. }
            | Record::RunVerified { .. }
            | Record::RunCancelled { .. }
            | Record::RunIndeterminate { .. } => self.apply_run(record, at)?,
            Record::ApprovalAsked { .. } | Record::ApprovalEnded { .. } => self.apply_approval(record, at)?,
            Record::MaintenanceSet { .. } | Record::MaintenanceEnded { .. } => self.apply_maintenance(record, at)?,
            Record::HookTold { .. }
            | Record::HookAnswered { .. }
            | Record::HookFollowed { .. }
            | Record::HookEnded { .. } => {
                self.apply_hook(record, at)?;
            }
            Record::WorkspaceChanged { .. } | Record::WorkspaceHealed { .. } => self.apply_healing(record)?,
            Record::HoldSet { .. }
            | Record::HoldEnded { .. }
            | Record::Latched { .. }
            | Record::LatchReleased { .. } => {
                self.apply_policy(record, at);
            }
        }
        Ok(())
    }

    fn apply_episode(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::EpisodeOpened { id, key, facts, ladder, by_check, began_at } => {
                if self.episodes.contains_key(id) || self.open.contains_key(key) {
                    return Err(format!("episode `{id}` or its key is open already"));
                }
                let episode = Episode {
                    id: id.clone(),
                    key: key.clone(),
                    facts: facts.clone(),
                    ladder: ladder.clone(),
                    by_check: *by_check,
                    alerts: Vec::new(),
                    flapping: false,
                    opened_at: at,
                    resolved_at: None,
                    escalated: None,
                    run: None,
                    began_at: *began_at,
                    notes: Vec::new(),
                    replies: Vec::new(),
                    told: Vec::new(),
                };
                self.open.insert(key.clone(), id.clone());
                self.episodes.insert(id.clone(), Arc::new(episode));
                let openings = self.openings.entry(key.clone()).or_default();
                trim(openings, at);
                openings.push(at);
                self.totals.episodes += 1;
                if self.openings.len() > CLOSED_MAX {
                    self.openings = self
                        .openings
                        .iter()
                        .filter(|(_, times)| times.last().is_some_and(|last| at.since(*last) < WINDOW_MAX))
                        .map(|(key, times)| (key.clone(), times.clone()))
                        .collect();
                }
            }
            Record::EpisodeChanged { id, facts, ladder, by_check, flapping } => {
                self.edit_episode(id, |episode| {
                    // What has become worse is told anew.
                    if facts.severity > episode.facts.severity {
                        episode.escalated = None;
                    }
                    episode.facts.clone_from(facts);
                    episode.ladder.clone_from(ladder);
                    episode.by_check = *by_check;
                    episode.flapping = *flapping;
                })?;
            }
            Record::EpisodeResolved { id } => {
                let Some(episode) = self.episodes.remove(id) else {
                    return Err(format!("episode `{id}` is not open"));
                };
                if let Some(run) = &episode.run {
                    self.episodes.insert(id.clone(), Arc::clone(&episode));
                    return Err(format!("episode `{id}` has run `{run}` under way"));
                }
                self.open.remove(&episode.key);
                let asked: Vec<RunKey> = self.questions.keys().filter(|key| key.episode == *id).cloned().collect();
                for key in asked {
                    self.questions.remove(&key);
                }
                let mut ended = (*episode).clone();
                ended.settle(at);
                self.ended_episodes.push_back(Arc::new(ended));
                if self.ended_episodes.len() > RECENT_MAX {
                    self.ended_episodes.pop_front();
                }
            }
            Record::EpisodeEscalated { id, reason } => {
                self.edit_episode(id, |episode| episode.escalated = Some(*reason))?;
            }
            Record::RungSkipped { episode, rung, outcome } => {
                self.edit_rung(episode, *rung, |rung| {
                    rung.recommended_at.get_or_insert(at);
                    rung.outcome = Some(*outcome);
                })?;
            }
            Record::RecommendationHeld { episode, rung, reason, not_before } => {
                self.edit_rung(episode, *rung, |rung| _ = rung.recommended_at.get_or_insert(at))?;
                let note = Note { at, rung: *rung, reason: *reason, not_before: *not_before };
                self.edit_episode(episode, |episode| keep(&mut episode.notes, note, NOTES_MAX))?;
            }
            _ => unreachable!("only records of episodes come here"),
        }
        Ok(())
    }

    /// Moves what is remembered for the sake of time that passes; dates that people have named stay.
    fn set_clock(&mut self, millis: i64) {
        let moved = |at: Timestamp| Timestamp::from_millis(at.millis().saturating_add(millis));
        let all = |times: &mut Vec<Timestamp>| times.iter_mut().for_each(|at| *at = moved(*at));
        all(&mut self.starts);
        let targets: Vec<Name> = self.touches.keys().cloned().collect();
        for target in targets {
            if let Some(touch) = self.touches.get_mut(&target) {
                all(&mut touch.starts);
                touch.ended_at = touch.ended_at.map(moved);
            }
        }
        let keys: Vec<EpisodeKey> = self.openings.keys().cloned().collect();
        for key in keys {
            if let Some(openings) = self.openings.get_mut(&key) {
                all(openings);
            }
        }
        let runs: Vec<RunKey> = self.runs.keys().cloned().collect();
        for key in runs {
            if let Some(run) = self.runs.get_mut(&key) {
                let run = Arc::make_mut(run);
                run.not_after = run.not_after.map(moved);
                run.ended_at = run.ended_at.map(moved);
            }
        }
        for run in &mut self.ended_runs {
            // The pause before the next try of a rung counts from it; what is over stays as it was.
            if self.episodes.contains_key(&run.key.episode) {
                let run = Arc::make_mut(run);
                run.ended_at = run.ended_at.map(moved);
            }
        }
    }

    fn apply_maintenance(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::MaintenanceSet { id, subsystems, actions, until, by, reason } => {
                let (subsystems, actions) = (subsystems.clone(), actions.clone());
                let (by, reason) = (by.clone(), reason.clone());
                let announced = Maintenance { subsystems, actions, since: at, until: *until, by, reason };
                self.maintenance.insert(id.clone(), announced);
            }
            Record::MaintenanceEnded { id, .. } => {
                if self.maintenance.remove(id).is_none() {
                    return Err(format!("maintenance `{id}` is not in force"));
                }
            }
            _ => unreachable!("only records of maintenance come here"),
        }
        Ok(())
    }

    fn apply_healing(&mut self, record: &Record) -> Result<(), String> {
        let healings = &mut self.healings;
        let (Record::WorkspaceChanged { healing, .. } | Record::WorkspaceHealed { healing, .. }) = record else {
            unreachable!("only records of healings come here")
        };
        if healings.knows(healing) {
            return Err(format!("healing `{healing}` is told already"));
        }
        let told = healings.told(healing);
        match record {
            Record::WorkspaceChanged { number, .. } => {
                if *number != told + 1 {
                    return Err(format!("change {number} of healing `{healing}` after change {told}"));
                }
                healings.under_way = Some((healing.clone(), *number));
            }
            Record::WorkspaceHealed { changes, .. } => {
                if *changes != told {
                    return Err(format!("healing `{healing}` of {changes} changes after {told} of them"));
                }
                healings.tell(healing);
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_hook(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::HookTold { hook, level, attempt, from } => {
                // The same try again, since a crash took its answer, goes on with the same deadline.
                let goes_on = |told: &&Told| {
                    let again = *attempt == told.attempts && told.ending.is_none() && told.followed_at.is_none();
                    told.level == *level && (*attempt > 1 || again)
                };
                let since = self.hooks.get(hook).filter(goes_on).map_or(at, |told| told.since);
                let told = Told {
                    level: *level,
                    since,
                    told_at: at,
                    attempts: *attempt,
                    ending: None,
                    detail: String::new(),
                    followed_at: None,
                    from: *from,
                };
                self.hooks.insert(hook.clone(), told);
            }
            Record::HookAnswered { hook, level, ending, detail } => {
                let told = self.hooks.get_mut(hook).filter(|told| told.level == *level);
                let told = told.ok_or_else(|| format!("hook `{hook}` has not told {level}"))?;
                told.ending = Some(*ending);
                told.detail.clone_from(detail);
            }
            Record::HookFollowed { hook, level } => {
                let told = self.hooks.get_mut(hook).filter(|told| told.level == *level);
                let told = told.ok_or_else(|| format!("hook `{hook}` has not told {level}"))?;
                told.followed_at = Some(at);
            }
            Record::HookEnded { hook } => {
                if self.hooks.remove(hook).is_none() {
                    return Err(format!("hook `{hook}` has told nothing"));
                }
            }
            _ => unreachable!("only records of hooks come here"),
        }
        Ok(())
    }

    fn apply_approval(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::ApprovalAsked { key, action, target, digest, expires_at } => {
                if !self.episodes.contains_key(&key.episode) || self.questions.contains_key(key) {
                    return Err(format!("`{key}` is asked for already, or its episode is not open"));
                }
                let (action, target) = (action.clone(), target.clone());
                let (digest, asked_at, expires_at) = (digest.clone(), at, *expires_at);
                self.questions.insert(key.clone(), Question { action, target, digest, asked_at, expires_at });
            }
            Record::ApprovalEnded { key, digest, how, by, reason } => {
                let Some(question) = self.questions.get(key).filter(|question| question.digest == *digest) else {
                    return Err(format!("`{key}` was not asked for, or with another digest"));
                };
                let (asked_at, how) = (question.asked_at, *how);
                let (by, reason) = (by.clone(), reason.clone());
                let reply = Reply { asked_at, at, rung: key.rung, attempt: key.attempt, how, by, reason };
                self.questions.remove(key);
                self.edit_episode(&key.episode, |episode| keep(&mut episode.replies, reply, TOLD_MAX))?;
                if how == ApprovalEnd::Rejected {
                    self.edit_rung(&key.episode, key.rung, |rung| {
                        rung.recommended_at.get_or_insert(at);
                        rung.outcome = Some(Outcome::Rejected);
                    })?;
                }
            }
            _ => unreachable!("only records of approvals come here"),
        }
        Ok(())
    }

    fn apply_alert(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::AlertTaken { intake, fingerprint, status, outcome, episode, part, ended_at } => {
                if *intake <= self.intake {
                    return Err(format!("intake {intake} was taken already"));
                }
                self.intake = *intake;
                self.totals.alerts += 1;
                match outcome {
                    AlertOutcome::Watchdog if *status == AlertStatus::Firing => self.watchdog_at = Some(at),
                    // Lost until it is heard again, also by the next process.
                    AlertOutcome::Watchdog => self.watchdog_at = Some(Timestamp::EPOCH),
                    AlertOutcome::Accepted => {
                        let (Some(id), Some(part)) = (episode, part) else {
                            return Err("an accepted alert without an episode or its part".to_owned());
                        };
                        self.edit_episode(id, |episode| {
                            if !episode.alerts.contains(fingerprint) {
                                episode.alerts.push(fingerprint.clone());
                            }
                            if episode.told.iter().all(|told| told.fingerprint != *fingerprint) {
                                let alertname = part.labels.get("alertname").cloned().unwrap_or_default();
                                let told = ToldAlert { at, fingerprint: fingerprint.clone(), alertname };
                                keep(&mut episode.told, told, TOLD_MAX);
                            }
                        })?;
                        let since = self.alerts.get(fingerprint).map_or(at, |alert| alert.since);
                        let alert = ActiveAlert {
                            fingerprint: fingerprint.clone(),
                            labels: part.labels.clone(),
                            starts_at: part.starts_at,
                            since,
                            policy: part.policy,
                            episode: id.clone(),
                            unproven: None,
                        };
                        self.alerts.insert(fingerprint.clone(), Arc::new(alert));
                    }
                    AlertOutcome::Resolved => self.close_alert(fingerprint, ended_at.unwrap_or(at)),
                    AlertOutcome::ResolvedUnproven => {
                        if let Some(alert) = self.alerts.get_mut(fingerprint) {
                            Arc::make_mut(alert).unproven = Some(ended_at.unwrap_or(at));
                        }
                    }
                    AlertOutcome::Deduplicated
                    | AlertOutcome::ResolvedUnknown
                    | AlertOutcome::Stale
                    | AlertOutcome::Own
                    | AlertOutcome::Unrouted
                    | AlertOutcome::UnknownSubsystem
                    | AlertOutcome::UnknownAction => {}
                }
            }
            Record::AlertBelieved { fingerprint, .. } => {
                let ended = self.alerts.get(fingerprint).and_then(|alert| alert.unproven);
                self.close_alert(fingerprint, ended.unwrap_or(at));
            }
            _ => unreachable!("only records of alerts come here"),
        }
        Ok(())
    }

    fn close_alert(&mut self, fingerprint: &Fingerprint, ended: Timestamp) {
        if let Some(alert) = self.alerts.remove(fingerprint)
            && let Some(episode) = self.episodes.get_mut(&alert.episode)
        {
            Arc::make_mut(episode).alerts.retain(|held| held != fingerprint);
        }
        if self.closed_alerts.insert(fingerprint.clone(), ended).is_none() {
            self.closed_order.push_back(fingerprint.clone());
        }
        if self.closed_order.len() > CLOSED_MAX
            && let Some(oldest) = self.closed_order.pop_front()
        {
            self.closed_alerts.remove(&oldest);
        }
    }

    fn apply_run(&mut self, record: &Record, at: Timestamp) -> Result<(), String> {
        match record {
            Record::RunIntended {
                key,
                action,
                target,
                binding,
                class,
                dry_run,
                lowers_risk,
                not_after,
                before,
                bound,
            } => {
                if self.runs.contains_key(key) || self.ended_runs.iter().rev().take(64).any(|run| run.key == *key) {
                    return Err(format!("run `{key}` exists already"));
                }
                self.edit_rung(&key.episode, key.rung, |rung| {
                    rung.recommended_at.get_or_insert(at);
                    rung.attempts = key.attempt;
                    rung.outcome = None;
                })?;
                self.edit_episode(&key.episode, |episode| episode.run = Some(key.clone()))?;
                let run = Run {
                    key: key.clone(),
                    action: action.clone(),
                    target: target.clone(),
                    binding: binding.clone(),
                    class: *class,
                    dry_run: *dry_run,
                    lowers_risk: *lowers_risk,
                    state: RunState::Intended,
                    intended_at: at,
                    not_after: *not_after,
                    started_at: None,
                    ended_at: None,
                    ending: None,
                    detail: String::new(),
                    output: String::new(),
                    outcome: None,
                    reason: None,
                    closed_at: None,
                    crashes: 0,
                    evidence: None,
                    duration_ms: 0,
                    changed: String::new(),
                    before: before.clone(),
                    bound: bound.clone(),
                    answer: String::new(),
                };
                *self.busy.entry(run.target.clone()).or_insert(0) += 1;
                self.runs.insert(key.clone(), Arc::new(run));
                self.totals.runs += 1;
            }
            Record::RunStarted { key, evidence } => {
                self.move_run(key, RunState::Started, |run| {
                    run.started_at = Some(at);
                    run.evidence.clone_from(evidence);
                })?;
                self.count_start(key, at)?;
            }
            Record::RunResumed { key } => {
                self.move_run(key, RunState::Started, |run| run.started_at = Some(at))?;
                // Its effect may happen a second time.
                self.count_start(key, at)?;
            }
            Record::RunFinished { key, ending, detail, output, duration_ms, changed } => {
                self.move_run(key, RunState::Finished, |run| {
                    run.ended_at = Some(at);
                    run.ending = Some(*ending);
                    run.detail.clone_from(detail);
                    run.output.clone_from(output);
                    run.duration_ms = *duration_ms;
                    run.changed.clone_from(changed);
                    run.answer.clone_from(detail);
                })?;
                let run = self.run(key)?;
                if !run.lowers_risk && !run.dry_run {
                    let target = run.target.clone();
                    self.touches.entry(target).or_default().ended_at = Some(at);
                }
            }
            Record::RunVerified { key, outcome, detail } => {
                self.close_run(key, RunState::Verified, *outcome, detail, None, at)?
            }
            Record::RunCancelled { key, reason } => {
                self.close_run(key, RunState::Cancelled, Outcome::Cancelled, "", Some(*reason), at)?;
            }
            Record::RunIndeterminate { key, detail } => {
                self.close_run(key, RunState::Indeterminate, Outcome::Indeterminate, detail, None, at)?;
            }
            _ => unreachable!("only records of runs come here"),
        }
        Ok(())
    }

    /// Takes a token from the target's budget and from the overall one.
    fn count_start(&mut self, key: &RunKey, at: Timestamp) -> Result<(), String> {
        let run = self.run(key)?;
        if !run.lowers_risk && !run.dry_run {
            let target = run.target.clone();
            remember(&mut self.touches.entry(target).or_default().starts, at);
            remember(&mut self.starts, at);
        }
        Ok(())
    }

    fn close_run(
        &mut self,
        key: &RunKey,
        to: RunState,
        outcome: Outcome,
        detail: &str,
        reason: Option<Reason>,
        at: Timestamp,
    ) -> Result<(), String> {
        self.move_run(key, to, |run| {
            run.outcome = Some(outcome);
            run.closed_at = Some(at);
            run.reason = reason;
            if !detail.is_empty() {
                run.detail = detail.to_owned();
            }
        })?;
        let Some(run) = self.runs.remove(key) else { return Err(format!("run `{key}` is not open")) };
        match self.busy.get_mut(&run.target) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(self.busy.remove(&run.target)),
        }
        if self.episodes.contains_key(&key.episode) {
            // A cancelled run leaves its rung to be tried again; every other outcome settles it.
            if to != RunState::Cancelled {
                self.edit_rung(&key.episode, key.rung, |rung| rung.outcome = Some(outcome))?;
            }
            self.edit_episode(&key.episode, |episode| episode.run = None)?;
        }
        self.ended_runs.push_back(run);
        if self.ended_runs.len() > RECENT_MAX {
            self.ended_runs.pop_front();
        }
        Ok(())
    }

    fn apply_policy(&mut self, record: &Record, at: Timestamp) {
        match record {
            Record::HoldSet { source, subject, level, reason, until, .. } => {
                let key = HoldKey { source: *source, subject: subject.clone() };
                let hold = Hold { level: *level, reason: reason.clone(), since: at, until: *until };
                self.holds.insert(key, hold);
            }
            Record::HoldEnded { source, subject, .. } => {
                self.holds.remove(&HoldKey { source: *source, subject: subject.clone() });
            }
            Record::Latched { reason } => {
                self.latch = Some(reason.clone());
                self.latched_at = at;
            }
            Record::LatchReleased { .. } => self.latch = None,
            _ => unreachable!("only records of the policy come here"),
        }
        self.policy_changed_at = at;
    }

    fn run(&self, key: &RunKey) -> Result<&Run, String> {
        self.runs.get(key).map(|run| &**run).ok_or_else(|| format!("run `{key}` is not open"))
    }

    fn edit_run(&mut self, key: &RunKey, edit: impl FnOnce(&mut Run)) -> Result<(), String> {
        let run = self.runs.get_mut(key).ok_or_else(|| format!("run `{key}` is not open"))?;
        edit(Arc::make_mut(run));
        Ok(())
    }

    fn move_run(&mut self, key: &RunKey, to: RunState, edit: impl FnOnce(&mut Run)) -> Result<(), String> {
        let from = self.run(key)?.state;
        if !is_legal(from, to) {
            return Err(format!("run `{key}` moves from {} to {}", from.as_str(), to.as_str()));
        }
        if from == RunState::Started {
            self.executing = self.executing.saturating_sub(1);
        }
        if to == RunState::Started {
            self.executing += 1;
        }
        self.edit_run(key, |run| {
            run.state = to;
            edit(run);
        })
    }

    fn edit_episode(&mut self, id: &EpisodeId, edit: impl FnOnce(&mut Episode)) -> Result<(), String> {
        let episode = self.episodes.get_mut(id).ok_or_else(|| format!("episode `{id}` is not open"))?;
        edit(Arc::make_mut(episode));
        Ok(())
    }

    fn edit_rung(&mut self, id: &EpisodeId, rung: u32, edit: impl FnOnce(&mut Rung)) -> Result<(), String> {
        let missing = || format!("episode `{id}` has no rung {rung}");
        if self.episodes.get(id).is_none_or(|episode| rung == 0 || episode.ladder.len() < rung as usize) {
            return Err(missing());
        }
        self.edit_episode(id, |episode| {
            if let Some(rung) = episode.ladder.get_mut(rung as usize - 1) {
                edit(rung);
            }
        })
    }

    /// The strictest level held; `emergency_shutdown` while latched.
    pub fn level(&self) -> Level {
        let latched = if self.latch.is_some() { Level::EmergencyShutdown } else { Level::AllowAll };
        self.holds.values().map(|hold| hold.level).max().unwrap_or(Level::AllowAll).max(latched)
    }

    /// An id for a new episode about `subsystem`: the time to the second, with a suffix if taken (DET-2).
    pub fn new_episode_id(&self, subsystem: &str, now: Timestamp) -> EpisodeId {
        let base = format!("{subsystem}_{}", now.to_datetime().format("%Y%m%d_%H%M%S"));
        let taken = |id: &str| {
            self.episodes.contains_key(id)
                || self.ended_episodes.iter().rev().take(RECENT_MAX).any(|ended| ended.id == id)
        };
        if !taken(&base) {
            return base.into();
        }
        // The count of all episodes makes the suffix unique without a search.
        let first = self.totals.episodes + 1;
        (2..)
            .map(
                |suffix: u64| {
                    if suffix < 10 { format!("{base}_{suffix}") } else { format!("{base}_{}", first + suffix) }
                },
            )
            .find(|id| !taken(id))
            .map_or_else(|| base.into(), Into::into)
    }

    /// Whether a run is under way on a target, its verification included.
    pub fn is_busy(&self, target: &str) -> bool {
        self.busy.contains_key(target)
    }
}

/// Appends to a list that forgets its oldest.
fn keep<T>(list: &mut Vec<T>, one: T, most: usize) {
    if list.len() >= most {
        list.remove(0);
    }
    list.push(one);
}

fn trim(times: &mut Vec<Timestamp>, now: Timestamp) {
    times.retain(|time| now.since(*time) < WINDOW_MAX);
    if times.len() >= OPENINGS_MAX {
        times.drain(..times.len() - OPENINGS_MAX + 1);
    }
}

/// Starts of any age count: what a bucket holds follows from all of them.
fn remember(times: &mut Vec<Timestamp>, now: Timestamp) {
    if times.len() >= STARTS_REMEMBERED {
        times.drain(..times.len() - STARTS_REMEMBERED + 1);
    }
    times.push(now);
}

/// Maps whose keys are no strings, as JSON lists of pairs.
mod as_list {
    use imbl::OrdMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K, V, S>(map: &OrdMap<K, V>, serializer: S) -> Result<S::Ok, S::Error>
    where
        K: Ord + Clone + Serialize,
        V: Clone + Serialize,
        S: Serializer,
    {
        serializer.collect_seq(map.iter())
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<OrdMap<K, V>, D::Error>
    where
        K: Ord + Clone + Deserialize<'de>,
        V: Clone + Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
