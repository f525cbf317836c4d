//! The stages in order: facts and events in, records and effects out. The only place that knows the order.
//!
//! ```text
//! maintenance -> answers -> observations -> alerts -> commands -> detection -> belief -> storm
//!         -> recovery (verify, resolve, admit) -> holds -> questions to a person -> the bot is told of the policy
//! ```
//!
//! **Invariant:** pure; the clock, the store and the world outside are the shell's ([`super::task`]). The same state,
//! facts and time give the same decision.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::alerts;
use crate::detect::dependencies::Graph;
use crate::detect::overall::Counts;
use crate::detect::status::{Chance, Look};
use crate::detect::trends::Tracker;
use crate::execute::{self, Binding, ProbeAnswer};
use crate::journal::{Record, State};
use crate::model::{
    ActionSpec, Caller, Criticality, FailurePoint, Health, IntakeAlert, IssueSource, Level, Name, Resources, RunKey,
    Signals, Status, Subsystem, Timestamp,
};
use crate::observe::Observation;
use crate::{admit, detect, policy, recommend};

use super::approvals::Answer;
use super::draft::Draft;
use super::hooks::{Hooked, Telling};
use super::maintenance::Announcement;
use super::workspace::Round;
use super::world::{Waiting, World};

/// A check that began this much later than now began by another clock.
pub(super) const CLOCK_TOLERANCE: Duration = Duration::from_secs(1);
/// How long a decision is put off at most when nothing happens.
pub const TICK: Duration = Duration::from_secs(1);

/// Looks at one subsystem that are closer together than this, or than half its interval, count as one (OBS-1).
const LOOKS_APART: Duration = Duration::from_secs(1);

/// What the cycle needs of the settings.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Enabled subsystems, by index.
    pub subsystems: Vec<Subsystem>,
    /// How often each is checked, by index.
    pub intervals: Vec<Duration>,
    /// The issue types that rules tell from what each subsystem's check sees besides its grade, by index.
    pub raises: Vec<&'static [&'static str]>,
    /// Failure points, by index; each belongs to a configured subsystem or to the platform.
    pub failure_points: Vec<FailurePoint>,
    /// Detection.
    pub detect: detect::Settings,
    /// Recommendation.
    pub recommend: recommend::Settings,
    /// Admission.
    pub admit: admit::Settings,
    /// Policy.
    pub policy: policy::Settings,
    /// Alerts.
    pub alerts: Arc<alerts::Settings>,
    /// How the bot is told of the policy.
    pub hooks: Arc<[Arc<crate::config::PolicyHook>]>,
    /// By action and subsystem.
    pub bindings: HashMap<(Name, Name), Arc<Binding>>,
    /// Checks that are silent for longer than this are stalled.
    pub stalled_after: Duration,
    /// The bot's workspace is healed, and so looked at.
    pub heals: bool,
    /// Files of the workspace that hold positions or trades, below it.
    pub money_files: Arc<[String]>,
    /// Real money is at stake.
    pub real_money: bool,
    /// The catalog of actions.
    pub catalog: fn(&str) -> Option<&'static ActionSpec>,
}

/// The end of an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which run.
    pub key: RunKey,
    /// How the means answered.
    pub answer: execute::Answer,
    /// How long it took.
    pub duration: Duration,
}

/// What was learnt about a run that a crash interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquired {
    /// Which run.
    pub key: RunKey,
    /// What its means says.
    pub probe: ProbeAnswer,
}

/// What a run's means has told before the run is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Which run.
    pub key: RunKey,
    /// What its probe will compare with.
    pub evidence: Option<String>,
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hold a level.
    SetPolicy {
        /// The level.
        level: Level,
        /// Why.
        reason: String,
        /// Who; loosening needs the role `approve`.
        by: Caller,
        /// Until when.
        until: Option<Timestamp>,
    },
    /// Begin what waits for a person's approval.
    Approve(Answer),
    /// Do not try what waits for a person's approval.
    Reject(Answer),
    /// Rehearse a recovery for real.
    Drill {
        /// Whose.
        subsystem: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Announce maintenance.
    SetMaintenance(Announcement),
    /// End announced maintenance early.
    EndMaintenance {
        /// Which.
        id: String,
        /// Who.
        by: String,
        /// Why; may be empty.
        reason: String,
    },
    /// Note that a person had chiron's own workers started anew.
    NoteRestart {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Release the latch and the operator's hold.
    ReleasePolicy {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not fit the present state.
    Conflict(String),
    /// There is nothing of that name.
    NotFound(String),
    /// Whoever asks may not.
    Forbidden(String),
}

/// Everything that has happened since the last step.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// From the runner.
    pub observations: Vec<Observation>,
    /// From the intake, oldest first.
    pub alerts: Vec<(u64, IntakeAlert)>,
    /// From the executor.
    pub answers: Vec<Answered>,
    /// From the executor, after a crash.
    pub inquiries: Vec<Inquired>,
    /// From the executor, before a run is begun.
    pub prepared: Vec<Prepared>,
    /// From the executor, about the hooks of the policy.
    pub hooked: Vec<Hooked>,
    /// From the healer.
    pub healed: Vec<Round>,
    /// From a person; at most one a step, so that a refusal has one addressee.
    pub command: Option<Command>,
}

/// Something to be done once the records are durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask the means of a run that is durably intended what its probe will compare with.
    Prepare(RunKey),
    /// Carry out a run that is durably started.
    Start(RunKey),
    /// Find out what became of a run that a crash interrupted.
    Inquire(RunKey),
    /// Check a subsystem now.
    ForceCheck(usize),
    /// Tell the bot of the policy.
    Tell(Telling),
    /// Look whether the bot follows.
    Look(Telling),
    /// In dry-run: say what the bot would have been told.
    WouldTell {
        /// By which hook.
        hook: Name,
        /// The level.
        level: Level,
    },
}

/// What one step decided.
#[derive(Debug)]
pub struct Decision {
    /// To be made durable, all or none, before anything else.
    pub records: Vec<Record>,
    /// The state once they are.
    pub state: State,
    /// To be done once they are.
    pub effects: Vec<Effect>,
    /// Decide again by then at the latest.
    pub wake_at: Timestamp,
    /// What became of the command: what it began, if it began something, or why it was refused.
    pub answer: Option<Result<String, Refused>>,
    /// Why rungs were not let run, or not yet, that had another reason before.
    pub held_up: Vec<crate::model::Reason>,
}

/// The decider: settings and volatile facts. The durable state is passed in and out.
#[derive(Debug)]
pub struct Cycle {
    pub(super) rules: Rules,
    pub(super) graph: Graph,
    pub(super) names: Vec<Name>,
    pub(super) world: World,
    config: Option<(String, Option<String>)>,
}

impl Cycle {
    /// A decider that has seen nothing yet.
    pub fn new(rules: Rules, now: Timestamp) -> Self {
        let names: Vec<Name> = rules.subsystems.iter().map(|subsystem| subsystem.name.clone()).collect();
        let mut unknown = Counts::default();
        for subsystem in &rules.subsystems {
            unknown.add(subsystem.criticality, Status::Unknown);
        }
        let mut world = World::new(&names, &unknown, now);
        world.points = vec![None; rules.failure_points.len()];
        world.trends = Tracker::new(rules.detect.prediction, now);
        world.cycle_left = rules.subsystems.iter().filter(|subsystem| moves_policy(subsystem)).count();
        Self { graph: Graph::new(&rules.subsystems), names, world, rules, config: None }
    }

    /// Takes new settings. What is known of subsystems that stay is kept, so that a reload alone moves no policy.
    pub fn reconfigure(&mut self, rules: Rules, state: &State, now: Timestamp) {
        let mut next = Self::new(rules, self.world.started_at);
        let old = std::mem::replace(&mut self.world, World::new(&[], &Counts::default(), now));
        for (name, index) in &next.world.index {
            let Some(seen) = old.index.get(name).map(|index| &old.subsystems[*index]) else { continue };
            let criticality = next.rules.subsystems[*index].criticality;
            next.world.counts.remove(criticality, Status::Unknown);
            next.world.counts.add(criticality, seen.health.status);
            if seen.seen {
                next.world.unseen -= 1;
            }
            let mut kept = super::world::Seen { cycle: 0, ..seen.clone() };
            let raised = old.index.get(name).and_then(|index| self.rules.raises.get(*index));
            if raised != next.rules.raises.get(*index) && kept.health.signals != Signals::default() {
                // Another check: what the old one saw besides its grade raises nothing any more. Its status stays what it
                // was, and whose issue that is: the new check has yet to speak.
                let signals = &mut Arc::make_mut(&mut kept.health).signals;
                *signals = Signals { own_status: signals.own_status, ..Signals::default() };
            }
            next.world.subsystems[*index] = kept;
        }
        for (index, point) in next.rules.failure_points.iter().enumerate() {
            let before = self.rules.failure_points.iter().position(|before| before.category == point.category);
            next.world.points[index] = before.and_then(|before| old.points.get(before).cloned().flatten());
        }
        let prediction = next.rules.detect.prediction;
        let stays = |name: &str| next.world.index.contains_key(name);
        let trends = old.trends.reconfigured(prediction, stays, now);
        next.world.trends = trends;
        next.world.resources = old.resources;
        next.world.host_clear = old.host_clear;
        next.world.wakes = old.wakes;
        next.world.clear_since = old.clear_since;
        next.world.verifying = old.verifying;
        next.world.asking_check = old.asking_check;
        next.world.recheck = old.recheck;
        next.world.asked_since = old.asked_since;
        next.world.blind = old.blind;
        next.world.journal_ok = old.journal_ok;
        next.world.watchdog_at = old.watchdog_at;
        let named = |rules: &Rules| rules.alerts.watchdog.as_ref().map(|watchdog| watchdog.alertname.clone());
        let newly_named = named(&next.rules) != named(&self.rules);
        next.world.watchdog_from = if newly_named { Some(now) } else { old.watchdog_from };
        next.world.asked_before = next.world.asking_check.clone();
        next.world.blind_floor = old.blind_floor;
        next.world.storm = old.storm;
        next.world.rootless_since = old.rootless_since;
        next.world.hooks = old.hooks;
        // What shows that the bot follows may be another now.
        next.world.hooks.values_mut().for_each(super::hooks::HookSeen::look_again);
        next.world.hooks_before = next.world.hooks.clone();
        next.world.ending = old.ending;
        next.world.clock_set = old.clock_set;
        if next.rules.heals {
            next.world.workspace = old.workspace;
        }
        next.world.dirty_host = true;
        // Cycles are counted anew, so whatever was relaxing begins anew too.
        *self = next;
        self.not_durable(state);
    }

    /// The settings in force come from a file with this digest, and `by` asked for them; journaled with the next step if it is new.
    pub fn note_config(&mut self, digest: String, by: Option<String>) {
        self.config = Some((digest, by));
    }

    /// One step. On success of the commit the caller continues with the decision's state; otherwise it calls
    /// [`Cycle::not_durable`] and gives the answers, inquiries and the command again.
    pub fn step(&mut self, state: &State, inputs: &Inputs, now: Timestamp) -> Decision {
        let mut draft = Draft::new(state.clone(), now);
        let mut effects = Vec::new();
        self.world.take_due(now);
        self.world.last_seen = now;
        self.world.clock_set_before = std::mem::take(&mut self.world.clock_set);
        if self.world.clock_set_before != 0 {
            draft.push(Record::ClockSet { millis: self.world.clock_set_before });
            self.look_at_everything(&draft.state);
        }
        self.world.asked_before = self.world.asking_check.clone();
        self.world.hooks_before = self.world.hooks.clone();
        // What a person had loaded is told even if the file is the same: the files that it names may not be.
        let news = |(digest, by): &(String, Option<String>)| by.is_some() || *digest != draft.state.config_digest;
        if let Some((digest, by)) = self.config.clone().filter(news) {
            let generation = draft.state.config_generation + 1;
            draft.push(Record::ConfigLoaded { generation, digest, by });
            if let Some((_, by)) = &mut self.config {
                *by = None;
            }
        }
        self.release_orphans(&mut draft);
        self.note_maintenance(&mut draft);
        self.take_answers(&mut draft, &inputs.answers);
        self.take_inquiries(&mut draft, &inputs.inquiries, &mut effects);
        self.take_prepared(&mut draft, &inputs.prepared, &mut effects);
        self.take_hooked(&mut draft, &inputs.hooked);
        self.take_healed(&inputs.healed);
        self.tell_healings(&mut draft);
        for observation in &inputs.observations {
            self.take_observation(&draft, observation);
        }
        for (number, alert) in &inputs.alerts {
            self.take_alert(&mut draft, *number, alert);
        }
        let answer = inputs.command.as_ref().map(|command| self.take_command(&mut draft, command, &mut effects));
        self.detect(&mut draft);
        self.believe(&mut draft);
        self.detect(&mut draft);
        self.note_storm(&mut draft);
        self.recover(&mut draft, &mut effects);
        self.hold(&mut draft);
        // After the holds, because the policy in force is part of what a person is shown.
        self.ask(&mut draft, state.level());
        let due = self.tell_hooks(&mut draft, &mut effects);
        let wakes = self.world.wakes.first().map(|(at, _)| *at).into_iter().chain(due);
        let wake_at = wakes.fold(now.plus(TICK), Timestamp::min);
        let held_up = std::mem::take(&mut self.world.held_up);
        Decision { records: draft.records, state: draft.state, effects, wake_at, answer, held_up }
    }

    /// The decision could not be made durable: everything is looked at again in the next step.
    pub fn not_durable(&mut self, state: &State) {
        self.world.dirty_subsystems.extend(0..self.names.len());
        self.world.dirty_points.extend(0..self.rules.failure_points.len());
        self.world.dirty_host = true;
        self.world.workspace.dirty = true;
        self.world.dirty_forecasts.extend(self.world.trends.told());
        self.world.forecasts_swept = None;
        self.world.orphans = true;
        self.world.clock_set = self.world.clock_set.saturating_add(std::mem::take(&mut self.world.clock_set_before));
        self.world.asking_check = std::mem::take(&mut self.world.asked_before);
        self.world.hooks = std::mem::take(&mut self.world.hooks_before);
        self.world.orphan_hooks = true;
        self.look_at_everything(state);
    }

    /// The issue types that rules tell from what a subsystem's check sees besides its grade.
    pub(super) fn raises(&self, subsystem: &str) -> &'static [&'static str] {
        let index = self.world.index.get(subsystem);
        index.and_then(|index| self.rules.raises.get(*index)).copied().unwrap_or_default()
    }

    /// Whether nobody looks any more at what an episode's check once raised.
    fn is_orphan(&self, episode: &crate::journal::Episode) -> bool {
        let key = &episode.key;
        if self.criticality(&key.subsystem).is_none() {
            // That nobody looks at the workspace any more makes nothing well that was critical there.
            return (episode.facts.source, episode.facts.severity)
                != (IssueSource::Workspace, crate::model::Severity::Critical);
        }
        let looks = |point: &FailurePoint| point.category == key.kind && point.subsystem == key.subsystem;
        if episode.facts.source == IssueSource::FailurePoint {
            return !self.rules.failure_points.iter().any(looks);
        }
        let of_vitals = detect::rules::is_of_vitals(&key.kind) && self.world.index.contains_key(&key.subsystem);
        of_vitals && !self.raises(&key.subsystem).iter().any(|kind| key.kind == **kind)
    }

    /// Episodes that nobody looks at any more, of subsystems, vitals or failure points that are configured no longer, are
    /// held open by nobody's check.
    fn release_orphans(&mut self, draft: &mut Draft) {
        if !std::mem::take(&mut self.world.orphans) {
            return;
        }
        let gone: Vec<_> = draft
            .state
            .episodes
            .values()
            .filter(|episode| episode.by_check && self.is_orphan(episode))
            .cloned()
            .collect();
        for episode in gone {
            let (facts, ladder) = (episode.facts.clone(), episode.ladder.clone());
            self.change(draft, &episode, facts, ladder, false);
        }
    }

    /// Every open episode is looked at in the next step.
    pub fn look_at_everything(&mut self, state: &State) {
        self.world.dirty_episodes.extend(state.episodes.keys().cloned());
        self.world.weighty = state.episodes.keys().cloned().collect();
        self.world.asking_level = state.alerts.keys().cloned().collect();
        self.world.unproven = state
            .alerts
            .values()
            .filter(|alert| alert.unproven.is_some())
            .map(|alert| alert.fingerprint.clone())
            .collect();
    }

    /// Whether the journal can be written; while it cannot, nothing is begun.
    pub fn set_journal_ok(&mut self, ok: bool) {
        if self.world.journal_ok != ok {
            self.world.journal_ok = ok;
            self.world.rouse(|_| true);
        }
    }

    /// Says, or takes back, that chiron cannot see or remember (POL-4).
    pub fn set_blind(&mut self, condition: &str, why: Option<String>) {
        match why {
            Some(why) => {
                self.world
                    .blind
                    .insert(condition.into(), (self.rules.policy.blindness_level.max(self.world.blind_floor), why));
            }
            None => {
                self.world.blind.remove(condition);
            }
        }
    }

    /// Accepted alerts wait that the next step does not see: it relaxes nothing.
    pub fn set_alerts_waiting(&mut self, waiting: bool) {
        self.world.alerts_waiting = waiting;
    }

    /// The journal is lost, and this level was in force: what it held for is forgotten, so blindness holds it from now on.
    pub fn set_blind_floor(&mut self, level: Level) {
        self.world.blind_floor = level;
    }

    /// The wall clock was set forward (or back, if negative) by so much: what is remembered moves with it, and no hold
    /// relaxes on time that may not have passed.
    pub fn shift_clock(&mut self, millis: i64) {
        self.world.shift(millis);
        self.world.clock_set = self.world.clock_set.saturating_add(millis);
    }

    /// The policy published last was latched, and the journal does not know of it: it is latched with the next step.
    pub fn remember_latch(&mut self) {
        self.world.latch_lost = true;
    }

    /// chiron ends: the bot is told nothing any more either.
    pub fn set_ending(&mut self) {
        self.world.ending = true;
    }

    /// Begins nothing any more, but for telling the bot of a stricter policy.
    pub fn set_stopping(&mut self) {
        self.world.stopping = true;
    }

    fn take_observation(&mut self, draft: &Draft, observation: &Observation) {
        match observation {
            Observation::Health { index, health } => match index.checked_sub(self.names.len()) {
                None => self.take_health(draft, *index, health),
                Some(point) => self.take_point(draft, point, health),
            },
            Observation::Resources(resources) => {
                self.world.resources = Some(resources.clone());
                self.follow_host(resources, draft.now);
                self.world.dirty_host = true;
            }
        }
    }

    /// What was found at a failure point: facts, with no memory but the latest and how often in a row it was as bad.
    fn take_point(&mut self, draft: &Draft, index: usize, said: &Health) {
        let Some(point) = self.rules.failure_points.get(index) else { return };
        if said.subsystem != point.category || said.timestamp > draft.now.plus(CLOCK_TOLERANCE) {
            return;
        }
        let mut health = said.clone();
        let is_bad = |health: &Health| health.unrunnable || health.status == Status::Critical;
        let before = self.world.points[index].as_ref().filter(|before| before.unrunnable == said.unrunnable);
        health.error_count =
            if is_bad(said) { before.map_or(0, |before| before.error_count).saturating_add(1) } else { 0 };
        self.world.points[index] = Some(Arc::new(health));
        self.world.dirty_points.insert(index);
    }

    fn take_health(&mut self, draft: &Draft, index: usize, said: &Health) {
        // Only what is not well asks what can still be done about it.
        let well = matches!(said.status, Status::Healthy | Status::Degraded);
        let chance = if well { Chance::Open } else { self.chance(&draft.state, index) };
        let subsystem = &self.rules.subsystems[index];
        if said.subsystem != subsystem.name {
            // Observed under settings that a reload has replaced.
            return;
        }
        if said.timestamp > draft.now.plus(CLOCK_TOLERANCE) {
            // Begun by the clock as it was before it was set back: it proves nothing about now.
            return;
        }
        let apart = self.rules.intervals.get(index).map_or(LOOKS_APART, |interval| LOOKS_APART.min(*interval / 2));
        let seen = &mut self.world.subsystems[index];
        let look = Look { said: said.status, unrunnable: said.unrunnable, at: said.timestamp, apart };
        let (streak, status) = detect::status::grade(seen.streak, look, chance, &self.rules.detect, draft.now);
        let before = seen.health.status;
        let first = !seen.seen;
        let had_signals = seen.health.signals.concern_rules();
        let mut health = said.clone();
        health.status = status;
        // They are taken from what was said, once.
        health.signals.measures = Vec::new();
        health.error_count = streak.critical.max(streak.unrunnable);
        seen.health = Arc::new(health);
        seen.streak = streak;
        seen.note(said.status, said.timestamp);
        seen.seen = true;
        seen.healthy_since = match (status, seen.healthy_since) {
            (Status::Healthy, Some(since)) => Some(since),
            (Status::Healthy, None) => Some(said.timestamp),
            _ => None,
        };
        if moves_policy(subsystem) && seen.cycle <= self.world.cycle {
            seen.cycle = self.world.cycle + 1;
            self.world.cycle_left = self.world.cycle_left.saturating_sub(1);
        }
        if before != status || first {
            seen.status_since = said.timestamp;
        }
        if let Some(waited) = self.world.news.remove(&index) {
            self.world.dirty_episodes.extend(waited);
        }
        if before != status {
            self.world.counts.remove(subsystem.criticality, before);
            self.world.counts.add(subsystem.criticality, status);
            self.world.has_root = None;
            use crate::model::Reason::{Dependency, GroupUnhealthy, Storm, Unconfirmed};
            self.world.rouse(|reason| matches!(reason, Dependency | Unconfirmed | Storm | GroupUnhealthy));
        }
        if first {
            self.world.unseen = self.world.unseen.saturating_sub(1);
            if self.world.unseen == 0 {
                self.world.rouse(|reason| reason == crate::model::Reason::Startup);
            }
        }
        let signals = said.signals.concern_rules() || had_signals;
        if before != status || first || signals {
            self.world.dirty_subsystems.insert(index);
        }
        if self.world.cycle_left == 0 {
            self.world.cycle += 1;
            self.world.cycle_left = self.rules.subsystems.iter().filter(|subsystem| moves_policy(subsystem)).count();
        }
        let name = self.names[index].clone();
        self.follow(&name, said);
        let healthy = said.signals.own_status.unwrap_or(status) == Status::Healthy;
        self.note_for_verification(&draft.state, &name, None, said.timestamp, |_| healthy);
        let rechecked = |id: &&crate::model::EpisodeId| {
            draft.state.episodes.get(*id).is_some_and(|episode| episode.key.subsystem == name)
        };
        let waited: Vec<_> = self.world.recheck.keys().filter(rechecked).cloned().collect();
        self.world.dirty_episodes.extend(waited);
        for key in self.world.asking_check.keys() {
            if draft.state.runs.get(key).is_some_and(|run| run.target == name) {
                self.world.dirty_episodes.insert(key.episode.clone());
            }
        }
    }

    /// The overall status, under the cap.
    pub fn overall(&self) -> Status {
        self.world.counts.overall()
    }

    /// Statuses, counted.
    pub fn counts(&self) -> &Counts {
        &self.world.counts
    }

    /// A subsystem's health in force.
    pub fn health(&self, index: usize) -> Arc<Health> {
        Arc::clone(&self.world.subsystems[index].health)
    }

    /// What was last found at each failure point, by index in the settings.
    pub fn points(&self) -> &[Option<Arc<Health>>] {
        &self.world.points
    }

    /// Every quantity that is followed, and when it is expected to cross its limit.
    pub fn forecasts(&self) -> crate::model::Forecasts {
        self.world.trends.shown()
    }

    /// The host as last read.
    pub fn resources(&self) -> Option<&Resources> {
        self.world.resources.as_ref()
    }

    /// Whether every check has answered since the start.
    pub fn started_up(&self) -> bool {
        self.world.unseen == 0
    }

    /// Why each episode's next rung waits.
    pub fn waiting(&self) -> imbl::OrdMap<crate::model::EpisodeId, Waiting> {
        self.world.waiting.clone()
    }

    /// Conditions of blindness that hold now: name and why.
    pub fn blind(&self) -> impl Iterator<Item = (&Name, &str)> {
        self.world.blind.iter().map(|(name, (_, why))| (name, why.as_str()))
    }

    /// The settings in force.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// Whether a subsystem's health may move the policy (OBS-2).
pub(super) fn moves_policy(subsystem: &Subsystem) -> bool {
    subsystem.criticality != Criticality::None
}
