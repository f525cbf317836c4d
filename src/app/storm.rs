//! Storm mode in the cycle: whether there is a storm, who is a root cause in it, and what is told if nobody is.
//!
//! **Invariant:** a storm without a root cause restores nothing: what looks at everything, or what everything shares, is then
//! more likely broken than everything is.

use std::time::Duration;

use crate::admit::group::Group;
use crate::admit::storm::{Storm, is_root};
use crate::journal::{IssueFacts, Record, State};
use crate::model::{EpisodeKey, HOST, IssueSource, Name, PLATFORM, Severity, Status, Timestamp, is_forecast};

use super::cycle::Cycle;
use super::draft::Draft;

/// The type of the issue that a storm without a root cause is.
pub const STORM: &str = "storm";
/// How long a storm has no root cause before a person is told: every check has spoken meanwhile, in whatever order.
const TELL_AFTER: Duration = Duration::from_secs(30);
/// Subsystems that the issue names.
const NAMED_MAX: usize = 100;

impl Cycle {
    /// Sees whether there is a storm now, and opens or lets go of the issue that a storm without a root cause is.
    pub(super) fn note_storm(&mut self, draft: &mut Draft) {
        let key = EpisodeKey { subsystem: PLATFORM.into(), symbol: None, kind: STORM.into() };
        let open = draft.state.open.get(&key).and_then(|id| draft.state.episodes.get(id)).cloned();
        let (broken, all) = (self.world.counts.broken(), self.names.len());
        let before = match self.world.storm {
            // One that an earlier process told of is over when its calm has been seen.
            Storm::Calm if self.world.unseen > 0 && open.as_ref().is_some_and(|episode| episode.by_check) => {
                Storm::Raging { below_since: None }
            }
            before => before,
        };
        let storm = before.next(broken, all, &self.rules.admit.storm, draft.now);
        self.world.storm = storm;
        if before.is_on() != storm.is_on() {
            self.world.rouse(|reason| reason == crate::model::Reason::Storm);
        }
        let rootless_since = self.rootless_since(draft);
        self.world.rootless_since = rootless_since;
        // Not while it calms down.
        let rages = storm == Storm::Raging { below_since: None };
        let tell = rages && rootless_since.is_some_and(|since| draft.now.since(since) >= TELL_AFTER);
        match open {
            None if tell => self.open_storm(draft, key, broken, all),
            Some(episode) if tell && !episode.by_check => {
                let (facts, ladder) = (episode.facts.clone(), episode.ladder.clone());
                self.change(draft, &episode, facts, ladder, true);
            }
            Some(episode) if episode.by_check && !storm.is_on() => {
                let (facts, ladder) = (episode.facts.clone(), episode.ladder.clone());
                self.change(draft, &episode, facts, ladder, false);
            }
            _ => {}
        }
    }

    /// Since when there has been a storm without a root cause, if there is one.
    fn rootless_since(&mut self, draft: &Draft) -> Option<Timestamp> {
        // One that calms down has lost what it had of roots.
        if !self.world.storm.is_on() || self.world.unseen > 0 {
            self.world.has_root = None;
            return None;
        }
        if self.world.storm != (Storm::Raging { below_since: None }) {
            // One that hovers at its limit is still a storm; it only has lost what it had of roots.
            self.world.has_root = None;
            return self.world.rootless_since;
        }
        let has_root = match self.world.has_root {
            Some(known) => known,
            None => self.names.iter().any(|name| self.is_root_cause(name)),
        };
        self.world.has_root = Some(has_root);
        // Everything runs on the host, so what is wrong with it is the cause.
        if has_root || is_host_in_trouble(&draft.state) {
            return None;
        }
        Some(self.world.rootless_since.unwrap_or(draft.now))
    }

    fn open_storm(&mut self, draft: &mut Draft, key: EpisodeKey, broken: usize, all: usize) {
        let id = draft.state.new_episode_id(PLATFORM, draft.now);
        let named = self.names.iter().filter(|name| self.world.is_broken(name)).take(NAMED_MAX);
        let facts = IssueFacts {
            severity: Severity::High,
            description: format!("{broken} of {all} subsystems are broken at once, and none of them is the cause"),
            symptoms: vec!["suspect what checks them, or something they all share".to_owned()],
            root_cause: None,
            impacts_trading: false,
            moves_policy: false,
            affects_subsystems: named.cloned().collect(),
            source: IssueSource::Recovery,
        };
        let ladder = Vec::new();
        draft.push(Record::EpisodeOpened { id: id.clone(), key, facts, ladder, by_check: true, began_at: None });
        self.world.dirty_episodes.insert(id);
    }

    /// Whether a storm keeps a target from being acted upon.
    pub(super) fn is_stormbound(&self, target: &Name) -> bool {
        self.world.storm.is_on() && *target != *HOST && !self.is_root_cause(target)
    }

    fn is_root_cause(&self, name: &Name) -> bool {
        is_root(name, self.graph.needed_by(name), self.graph.affected_by(name), |one| self.world.is_broken(one))
    }

    /// Whether another member of the target's group is being acted upon, and whether too few others are healthy.
    pub(super) fn group_stands(&self, state: &State, target: &Name) -> (bool, bool) {
        let Some(group) = Group::of(&self.rules.admit.groups, target) else { return (false, false) };
        let acted_upon = |member: &str| {
            let runs = || state.runs.values().filter(|run| !run.lowers_risk && !run.dry_run);
            state.is_busy(member) && runs().any(|run| run.target == *member)
        };
        let is_healthy = |member: &str| self.world.status(member) == Status::Healthy;
        (group.is_busy(target, acted_upon), group.is_unhealthy(target, is_healthy))
    }

    /// Whether there is a storm.
    pub fn is_stormy(&self) -> bool {
        self.world.storm.is_on()
    }
}

fn is_host_in_trouble(state: &State) -> bool {
    let from = EpisodeKey { subsystem: HOST.into(), symbol: None, kind: "".into() };
    let of_host = state.open.range(from..).take_while(|(key, _)| key.subsystem == *HOST);
    // What has not happened yet breaks nothing.
    of_host
        .filter_map(|(_, id)| state.episodes.get(id))
        .any(|episode| episode.by_check && !is_forecast(&episode.key.kind))
}
