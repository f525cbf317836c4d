//! What is known now and need not survive: health, streaks, waits, who must be looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::admit::storm::Storm;
use crate::detect::overall::Counts;
use crate::detect::status::Streak;
use crate::detect::trends::{self, Tracker};
use crate::execute::ProbeAnswer;
use crate::journal::HoldKey;
use crate::model::{
    EpisodeId, Fingerprint, Health, Level, Name, Reason, RecommendationState, Resources, RunKey, Status, Timestamp,
};
use crate::policy::relax::Relaxing;

use super::hooks::HookSeen;
use super::workspace::Known;

/// One subsystem as last seen.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The health in force; its status may be `Failed`.
    pub health: Arc<Health>,
    /// The memory between checks.
    pub streak: Streak,
    /// Whether any check has answered since the start.
    pub seen: bool,
    /// When its status was first found to be what it is.
    pub status_since: Timestamp,
    /// Since when every check has found it healthy, if the latest has.
    pub healthy_since: Option<Timestamp>,
    /// When a check last said healthy, degraded, or worse.
    pub said: [Option<Timestamp>; 3],
    /// The healthy-cycle number it was last counted in.
    pub cycle: u64,
}

impl Seen {
    /// Notes what a check has said, before consecutive failures are counted.
    pub(super) fn note(&mut self, said: Status, at: Timestamp) {
        if let Some(rank) = said.rank() {
            self.said[usize::from(rank).min(2)] = Some(at);
        }
    }

    /// When a check last said something better than that, if one has since the start.
    pub(super) fn better_than(&self, status: Status) -> Option<Timestamp> {
        let rank = usize::from(status.rank().unwrap_or(2)).min(2);
        self.said[..rank].iter().flatten().max().copied()
    }
}

/// Why an episode's next rung does not run now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// 1-based.
    pub rung: u32,
    /// As told to people.
    pub state: RecommendationState,
    /// Why.
    pub reason: Reason,
    /// Until when, if time alone changes it.
    pub not_before: Option<Timestamp>,
}

/// What an interrupted run waits for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// Only a check that began at this time or later says how things are: before, the command may still have run.
    pub since: Timestamp,
    /// When it is given up.
    pub deadline: Timestamp,
    /// What its means said before.
    pub probe: ProbeAnswer,
}

/// How a finished run's verification stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verifying {
    /// Checks that begin before this prove nothing.
    pub looks_from: Timestamp,
    /// When it ends.
    pub deadline: Timestamp,
    /// The target is not checked again for it before this.
    pub next_look: Timestamp,
    /// When the last healthy check that counted began.
    pub counted: Option<Timestamp>,
    /// Healthy checks in a row since `looks_from`.
    pub healthy: u32,
}

/// A maintenance window as last looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WindowSeen {
    /// When.
    pub at: Timestamp,
    /// It stays so until then.
    pub until: Timestamp,
    /// Whether it is open.
    pub open: bool,
}

/// Everything volatile.
#[derive(Debug)]
pub(super) struct World {
    /// By index in the settings.
    pub subsystems: Vec<Seen>,
    /// Index by name.
    pub index: HashMap<Name, usize>,
    /// Statuses, counted.
    pub counts: Counts,
    /// The host as last read.
    pub resources: Option<Resources>,
    /// The time of the step that is under way, or was last.
    pub last_seen: Timestamp,
    /// When this process began to decide.
    pub started_at: Timestamp,
    /// Subsystems that no check has answered for yet.
    pub unseen: usize,
    /// Rises each time every subsystem that moves the policy has been checked once more.
    pub cycle: u64,
    /// How many of those are still to come in this cycle.
    pub cycle_left: usize,
    /// Since when holds could fall.
    pub relaxing: HashMap<HoldKey, Relaxing>,
    /// Subsystems whose health changed in a way detection cares about.
    pub dirty_subsystems: BTreeSet<usize>,
    /// What was last found at each failure point, by index in the settings.
    pub points: Vec<Option<Arc<Health>>>,
    /// What is expected if things go on as they do.
    pub trends: Tracker,
    /// Subsystems of which something else is expected now.
    pub dirty_forecasts: BTreeSet<Name>,
    /// Open forecasts were compared with what is expected, and whether enough had been seen then.
    pub forecasts_swept: Option<bool>,
    /// Failure points that were looked at anew.
    pub dirty_points: BTreeSet<usize>,
    /// When each issue of the host was last not seen.
    pub host_clear: BTreeMap<Name, Timestamp>,
    /// The host was read anew.
    pub dirty_host: bool,
    /// Episodes to look at in this step.
    pub dirty_episodes: BTreeSet<EpisodeId>,
    /// Why each episode's next rung waits.
    pub waiting: imbl::OrdMap<EpisodeId, Waiting>,
    /// New reasons among them in this step.
    pub held_up: Vec<Reason>,
    /// When to look at an episode again.
    pub wakes: BTreeSet<(Timestamp, EpisodeId)>,
    /// Since when nothing holds a damped episode open.
    pub clear_since: HashMap<EpisodeId, Timestamp>,
    /// Finished runs under verification.
    pub verifying: BTreeMap<RunKey, Verifying>,
    /// Runs interrupted by a crash that wait for the check to speak.
    pub asking_check: BTreeMap<RunKey, Asking>,
    /// Episodes that waited for a broken root: since when it is whole again, if it is. They act only on a check of
    /// their own that is newer (OBS-6).
    pub recheck: BTreeMap<EpisodeId, Option<Timestamp>>,
    /// Episodes that wait for the next check of a subsystem, by its index.
    pub news: BTreeMap<usize, BTreeSet<EpisodeId>>,
    /// Since when episodes wait for a person.
    pub asked_since: BTreeMap<EpisodeId, Timestamp>,
    /// Runs that a person is to be asked about in this step.
    pub asking: BTreeSet<RunKey>,
    /// Alerts that said resolved without proof.
    pub unproven: BTreeSet<Fingerprint>,
    /// Every open episode that may want a level by itself, and perhaps some that do not: so a step need not look at all.
    pub weighty: BTreeSet<EpisodeId>,
    /// Every alert that asks for a level, and perhaps some that are gone.
    pub asking_level: BTreeSet<Fingerprint>,
    /// Conditions in which chiron cannot see or remember: what each holds, and why.
    pub blind: BTreeMap<Name, (Level, String)>,
    /// The journal can be written.
    pub journal_ok: bool,
    /// The policy published last was latched, and the journal does not know of it.
    pub latch_lost: bool,
    /// How far the wall clock was set forward since the latest step, in milliseconds.
    pub clock_set: i64,
    /// The same before the latest step.
    pub clock_set_before: i64,
    /// chiron is stopping: nothing is begun any more.
    pub stopping: bool,
    /// When the Watchdog was last heard, by the clock as it is now.
    pub watchdog_at: Option<Timestamp>,
    /// Since when a reload has named it.
    pub watchdog_from: Option<Timestamp>,
    /// `asking_check` as it was before the latest step.
    pub asked_before: BTreeMap<RunKey, Asking>,
    /// Episodes of subsystems that are configured no longer are to be let go of.
    pub orphans: bool,
    /// Accepted alerts wait that this step does not see; nothing is relaxed before they are taken.
    pub alerts_waiting: bool,
    /// What is known of the policy's hooks.
    pub hooks: BTreeMap<Name, HookSeen>,
    /// `hooks` as it was before the latest step.
    pub hooks_before: BTreeMap<Name, HookSeen>,
    /// Issues of hooks that are configured no longer are to be looked for.
    pub orphan_hooks: bool,
    /// chiron ends: nobody is told anything any more.
    pub ending: bool,
    /// The level below which no condition of blindness holds: what was in force when the journal was lost.
    pub blind_floor: Level,
    /// Whether too much is broken at once.
    pub storm: Storm,
    /// Whether a storm has a root cause, unless a status has changed since that was looked at.
    pub has_root: Option<bool>,
    /// Since when there has been a storm without one.
    pub rootless_since: Option<Timestamp>,
    /// The bot's workspace.
    pub workspace: Known,
    /// Maintenance windows, in the order of the settings.
    pub windows: Vec<Option<WindowSeen>>,
}

impl World {
    /// Nothing known yet.
    pub(super) fn new(names: &[Name], unknown: &Counts, started_at: Timestamp) -> Self {
        let subsystems = names
            .iter()
            .map(|name| Seen {
                health: Arc::new(Health::unknown(name.clone())),
                streak: Streak::default(),
                seen: false,
                status_since: Timestamp::EPOCH,
                healthy_since: None,
                said: [None; 3],
                cycle: 0,
            })
            .collect();
        Self {
            subsystems,
            index: names.iter().enumerate().map(|(index, name)| (name.clone(), index)).collect(),
            counts: *unknown,
            resources: None,
            last_seen: started_at,
            started_at,
            unseen: names.len(),
            cycle: 0,
            cycle_left: 0,
            relaxing: HashMap::new(),
            dirty_subsystems: BTreeSet::new(),
            points: Vec::new(),
            trends: Tracker::new(trends::Settings::default(), started_at),
            dirty_forecasts: BTreeSet::new(),
            forecasts_swept: None,
            dirty_points: BTreeSet::new(),
            host_clear: BTreeMap::new(),
            dirty_host: false,
            dirty_episodes: BTreeSet::new(),
            waiting: imbl::OrdMap::new(),
            held_up: Vec::new(),
            wakes: BTreeSet::new(),
            clear_since: HashMap::new(),
            verifying: BTreeMap::new(),
            asking_check: BTreeMap::new(),
            recheck: BTreeMap::new(),
            news: BTreeMap::new(),
            asked_since: BTreeMap::new(),
            asking: BTreeSet::new(),
            unproven: BTreeSet::new(),
            weighty: BTreeSet::new(),
            asking_level: BTreeSet::new(),
            blind: BTreeMap::new(),
            journal_ok: true,
            latch_lost: false,
            clock_set: 0,
            clock_set_before: 0,
            stopping: false,
            watchdog_at: None,
            watchdog_from: None,
            asked_before: BTreeMap::new(),
            orphans: true,
            alerts_waiting: false,
            hooks: BTreeMap::new(),
            hooks_before: BTreeMap::new(),
            orphan_hooks: true,
            ending: false,
            blind_floor: Level::AllowAll,
            storm: Storm::Calm,
            has_root: None,
            rootless_since: None,
            workspace: Known::default(),
            windows: Vec::new(),
        }
    }

    /// The status of a subsystem; unknown for one that is not configured.
    pub(super) fn status(&self, name: &str) -> Status {
        self.index.get(name).map_or(Status::Unknown, |index| self.subsystems[*index].health.status)
    }

    /// Whether a subsystem is critical or failed.
    pub(super) fn is_broken(&self, name: &str) -> bool {
        self.status(name).is_broken()
    }

    /// Looks at an episode again at `at`.
    pub(super) fn wake(&mut self, at: Timestamp, episode: &EpisodeId) {
        self.wakes.insert((at, episode.clone()));
    }

    /// The wall clock was set: every time remembered moves with it.
    pub(super) fn shift(&mut self, millis: i64) {
        let moved = |at: Timestamp| Timestamp::from_millis(at.millis().saturating_add(millis));
        self.wakes = std::mem::take(&mut self.wakes).into_iter().map(|(at, id)| (moved(at), id)).collect();
        for verifying in self.verifying.values_mut() {
            verifying.looks_from = moved(verifying.looks_from);
            verifying.deadline = moved(verifying.deadline);
            verifying.next_look = moved(verifying.next_look);
            verifying.counted = verifying.counted.map(moved);
        }
        for asking in self.asking_check.values_mut() {
            *asking = Asking { since: moved(asking.since), deadline: moved(asking.deadline), ..*asking };
        }
        self.recheck.values_mut().for_each(|at| *at = at.map(moved));
        self.clear_since.values_mut().for_each(|at| *at = moved(*at));
        self.asked_since.values_mut().for_each(|at| *at = moved(*at));
        for seen in &mut self.subsystems {
            seen.streak.critical_since = seen.streak.critical_since.map(moved);
            seen.streak.counted_at = seen.streak.counted_at.map(moved);
            if seen.health.timestamp > Timestamp::EPOCH {
                Arc::make_mut(&mut seen.health).timestamp = moved(seen.health.timestamp);
            }
            seen.healthy_since = seen.healthy_since.map(moved);
            seen.status_since = moved(seen.status_since);
            seen.said = seen.said.map(|at| at.map(moved));
        }
        self.host_clear.values_mut().for_each(|at| *at = moved(*at));
        for health in self.points.iter_mut().flatten() {
            Arc::make_mut(health).timestamp = moved(health.timestamp);
        }
        self.trends.shift(millis);
        self.dirty_forecasts.extend(self.trends.told());
        self.started_at = moved(self.started_at);
        // Never heard, or lost, is no time that could move.
        self.watchdog_at = self.watchdog_at.map(|at| if at == Timestamp::EPOCH { at } else { moved(at) });
        self.watchdog_from = self.watchdog_from.map(moved);
        self.relaxing.clear();
        if let Storm::Raging { below_since: Some(since) } = &mut self.storm {
            *since = moved(*since);
        }
        self.rootless_since = self.rootless_since.map(moved);
        self.windows.clear();
        self.hooks.values_mut().for_each(HookSeen::look_again);
    }

    /// Moves every episode whose time has come to the dirty ones.
    pub(super) fn take_due(&mut self, now: Timestamp) {
        while let Some((at, _)) = self.wakes.first() {
            if *at > now {
                break;
            }
            if let Some((_, episode)) = self.wakes.pop_first() {
                self.dirty_episodes.insert(episode);
            }
        }
    }

    /// Looks again at every episode that waits for something other than time alone.
    pub(super) fn rouse(&mut self, because: impl Fn(Reason) -> bool) {
        let roused: Vec<EpisodeId> =
            self.waiting.iter().filter(|(_, waiting)| because(waiting.reason)).map(|(id, _)| id.clone()).collect();
        self.dirty_episodes.extend(roused);
    }
}
