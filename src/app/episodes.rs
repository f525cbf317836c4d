//! From issues to episodes: opened, changed, and the ladder that goes with the severity (DET-3 to DET-5).

use crate::detect::{self, Subject, Verdict, flapping};
use crate::journal::{Episode, IssueFacts, Record, Rung, RungOrigin, State};
use crate::model::{
    Autonomy, Criticality, EpisodeId, EpisodeKey, HOST, Health, Issue, IssueSource, Name, PLATFORM, Severity, Status,
    Timestamp, WORKSPACE, is_forecast,
};
use crate::recommend;

use super::cycle::Cycle;
use super::draft::Draft;
use super::recommended::{fixed, merged, note_superseded, put_next};

/// No issue is said to have begun longer ago than this before it was opened.
const BEGAN_BEFORE_MAX: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The type of issue whose ladder depends on whether it is overdue.
const KILL_SWITCH: &str = "kill_switch";

/// Whether an issue of that type is chiron's own affair, which no alert about its subsystem joins unless it names the type.
pub(super) fn stands_apart(kind: &str) -> bool {
    [super::drills::DRILL, super::reverse::REVERSE, "policy_not_followed", "storm"].contains(&kind)
}

/// A rung that an alert asks for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// The action.
    pub action: Name,
    /// Whose wish.
    pub origin: RungOrigin,
}

impl Cycle {
    /// Evaluates the rules for everything that changed, and opens, changes or lets go of episodes.
    pub(super) fn detect(&mut self, draft: &mut Draft) {
        for index in std::mem::take(&mut self.world.dirty_subsystems) {
            let health = self.health(index);
            if health.timestamp == Timestamp::EPOCH && !self.world.subsystems[index].seen {
                continue;
            }
            let better = self.world.subsystems[index].better_than(health.status);
            let subsystem = &self.rules.subsystems[index];
            let root = self.graph.root_cause(&subsystem.name, |name| self.world.is_broken(name)).cloned();
            let subject = Subject::Subsystem {
                subsystem,
                health: &health,
                affects: self.graph.affected_by(&subsystem.name),
                root_cause: root.as_ref(),
            };
            let mut found = detect::evaluate(subject, &self.rules.detect, draft.now);
            let name = subsystem.name.clone();
            let moves_policy = subsystem.criticality != Criticality::None;
            if let Some(vitals) = &health.signals.vitals {
                let affects = self.graph.affected_by(&name);
                let subject = Subject::Vitals { subsystem, vitals, affects };
                let of_vitals = detect::evaluate(subject, &self.rules.detect, draft.now);
                for (kind, verdict) in &of_vitals {
                    if let Verdict::Known(issues) = verdict {
                        // What was true before the action is no proof of it, however late it is heard.
                        let (at, clear) = (vitals.at.min(health.timestamp), clears(issues));
                        self.note_for_verification(&draft.state, &name, Some(kind), at, clear);
                    }
                }
                found.extend(of_vitals);
            }
            self.reconcile(draft, &name, found, moves_policy, |_| better);
        }
        for index in std::mem::take(&mut self.world.dirty_points) {
            let (Some(health), Some(point)) =
                (self.world.points[index].clone(), self.rules.failure_points.get(index).cloned())
            else {
                continue;
            };
            let criticality = self.criticality(&point.subsystem).unwrap_or(Criticality::None);
            let affects = self.graph.affected_by(&point.subsystem);
            let subject = Subject::FailurePoint { point: &point, health: &health, criticality, affects };
            let found = detect::evaluate(subject, &self.rules.detect, draft.now);
            for (kind, verdict) in &found {
                if let Verdict::Known(issues) = verdict {
                    let (target, clear) = (&point.subsystem, clears(issues));
                    self.note_for_verification(&draft.state, target, Some(kind), health.timestamp, clear);
                }
            }
            // What nobody's subsystem stands for is still a reason to take no further risk.
            let moves_policy = point.subsystem == *PLATFORM || criticality != Criticality::None;
            self.reconcile(draft, &point.subsystem, found, moves_policy, |_| None);
            let affects = self.graph.affected_by(&point.subsystem);
            let unseen = detect::unseen(&point, &health, affects, &self.rules.detect, draft.now);
            if let Some(issue) = unseen.filter(|issue| !draft.state.open.contains_key(&issue.key)) {
                self.open(draft, &issue.key, facts_of(&issue, moves_policy), true, None, None);
            }
        }
        self.detect_forecasts(draft);
        self.detect_workspace(draft);
        if std::mem::take(&mut self.world.dirty_host)
            && let Some(resources) = self.world.resources.clone()
        {
            let found = detect::evaluate(
                Subject::Host { resources: &resources, all: &self.names },
                &self.rules.detect,
                draft.now,
            );
            let mut better = self.world.host_clear.clone();
            for (kind, verdict) in &found {
                let clear = verdict.is_clear();
                if clear {
                    better.insert(kind.clone(), resources.timestamp);
                }
                self.note_for_verification(&draft.state, HOST, Some(kind), resources.timestamp, |_| clear);
            }
            self.reconcile(draft, HOST, found, true, |kind| better.get(kind).copied());
            self.world.host_clear = better;
        }
    }

    pub(super) fn reconcile(
        &mut self,
        draft: &mut Draft,
        subsystem: &str,
        found: Vec<(Name, Verdict)>,
        moves_policy: bool,
        better_at: impl Fn(&str) -> Option<Timestamp>,
    ) {
        let open: Vec<(EpisodeKey, EpisodeId)> = open_of(&draft.state, subsystem);
        for (kind, verdict) in found {
            let known = matches!(verdict, Verdict::Known(_));
            let issues = if let Verdict::Known(issues) = verdict { issues } else { Vec::new() };
            for (key, id) in open.iter().filter(|(key, _)| key.kind == kind) {
                let Some(episode) = draft.state.episodes.get(id).cloned() else { continue };
                match issues.iter().find(|issue| issue.key == *key) {
                    Some(issue) => self.see_again(draft, &episode, facts_of(issue, moves_policy)),
                    // Unknown neither raises nor clears: what is unknown is never healthy.
                    None if known && episode.by_check => {
                        let (facts, ladder) = (episode.facts.clone(), episode.ladder.clone());
                        self.change(draft, &episode, facts, ladder, false);
                    }
                    None => {
                        self.world.dirty_episodes.insert(id.clone());
                    }
                }
            }
            for issue in issues.iter().filter(|issue| open.iter().all(|(key, _)| *key != issue.key)) {
                self.open(draft, &issue.key, facts_of(issue, moves_policy), true, None, better_at(&kind));
            }
        }
    }

    /// Opens an episode, with the ladder of its severity and, first, what an alert wishes for. `began_at` is when the trouble
    /// began at the earliest, if anybody can say.
    pub(super) fn open(
        &mut self,
        draft: &mut Draft,
        key: &EpisodeKey,
        facts: IssueFacts,
        by_check: bool,
        wish: Option<Wish>,
        began_at: Option<Timestamp>,
    ) -> EpisodeId {
        let id = draft.state.new_episode_id(&key.subsystem, draft.now);
        let mut ladder = self.ladder(&key.subsystem, &key.kind, facts.severity, &[]);
        if let Some(wish) = wish {
            grant(&mut ladder, &wish, self.is_containing(&wish.action));
        }
        draft.push(Record::EpisodeOpened {
            id: id.clone(),
            key: key.clone(),
            facts: facts.clone(),
            ladder: ladder.clone(),
            by_check,
            began_at: began_at.map(|at| at.clamp(draft.now.minus(BEGAN_BEFORE_MAX), draft.now)),
        });
        let openings = draft.state.openings.get(key).cloned().unwrap_or_default();
        if flapping::is_flapping(&openings, &self.rules.detect, draft.now) {
            draft.push(Record::EpisodeChanged { id: id.clone(), facts, ladder, by_check, flapping: true });
        }
        self.world.dirty_episodes.insert(id.clone());
        id
    }

    /// The check raises an issue whose episode is open already.
    fn see_again(&mut self, draft: &mut Draft, episode: &Episode, mut facts: IssueFacts) {
        // While an alert fires, the check does not talk the severity down; only `failed` is high on purpose.
        let failed = self.world.status(&episode.key.subsystem) == Status::Failed;
        if !episode.alerts.is_empty() && facts.severity < episode.facts.severity && !failed {
            facts.severity = episode.facts.severity;
            facts.impacts_trading |= episode.facts.impacts_trading;
        }
        // What becomes overdue, or is no longer, is told in other words.
        let conditional = episode.key.kind == *KILL_SWITCH && facts.description != episode.facts.description;
        let ladder = if facts.severity == episode.facts.severity && !conditional {
            episode.ladder.clone()
        } else {
            self.ladder(&episode.key.subsystem, &episode.key.kind, facts.severity, &episode.ladder)
        };
        // Symptoms change with every second; they are not worth a record of their own.
        // Those of the workspace change seldom, and name what a person has to look at.
        let same = match facts.source {
            IssueSource::Workspace => facts == episode.facts,
            _ => IssueFacts { symptoms: episode.facts.symptoms.clone(), ..facts.clone() } == episode.facts,
        };
        if same && episode.by_check {
            self.world.dirty_episodes.insert(episode.id.clone());
        } else {
            self.change(draft, episode, facts, ladder, true);
        }
    }

    /// Records a change of an episode and looks at it again in this step.
    pub(super) fn change(
        &mut self,
        draft: &mut Draft,
        episode: &Episode,
        facts: IssueFacts,
        ladder: Vec<Rung>,
        by_check: bool,
    ) {
        note_superseded(draft, episode, &episode.ladder, &ladder);
        draft.push(Record::EpisodeChanged {
            id: episode.id.clone(),
            facts,
            ladder,
            by_check,
            flapping: episode.flapping,
        });
        self.world.dirty_episodes.insert(episode.id.clone());
    }

    /// The ladder for a severity, behind what the old one has to keep.
    pub(super) fn ladder(&self, subsystem: &str, kind: &str, severity: Severity, old: &[Rung]) -> Vec<Rung> {
        let settings = &self.rules.recommend;
        let mut steps = recommend::ladder_for(subsystem, kind, severity, settings, self.rules.catalog);
        let overdue = self.is_overdue(subsystem, kind);
        steps.retain(|step| overdue || !recommend::only_overdue(&step.action));
        self.backup_first(subsystem, kind, severity, &mut steps);
        merged(old, steps)
    }

    /// Whether what the failure point of that category finds should be over by itself by now (WSP-7).
    pub(super) fn is_overdue(&self, subsystem: &str, kind: &str) -> bool {
        let mut points = self.rules.failure_points.iter().zip(&self.world.points);
        points.any(|(point, health)| {
            let overdue = health.as_ref().is_some_and(|health| health.signals.overdue);
            overdue && point.category == *kind && point.subsystem == *subsystem
        })
    }

    pub(super) fn is_containing(&self, action: &str) -> bool {
        (self.rules.catalog)(action).is_some_and(|spec| spec.containing)
    }

    /// The criticality of a subsystem; the host counts as partial: it moves the policy and caps at critical. The platform as a
    /// whole stands for nothing that trading needs by itself.
    pub(super) fn criticality(&self, subsystem: &str) -> Option<Criticality> {
        if subsystem == HOST {
            return Some(Criticality::Partial);
        }
        if subsystem == PLATFORM {
            return Some(Criticality::None);
        }
        if subsystem == WORKSPACE {
            return self.rules.heals.then_some(Criticality::None);
        }
        self.world.index.get(subsystem).map(|index| self.rules.subsystems[*index].criticality)
    }
}

/// Lets an alert's wish into a ladder: a rung of that action that was tried is the answer to it; one that waits may run
/// by itself now; otherwise it becomes the next rung. Returns whether anything changed.
pub(super) fn grant(ladder: &mut Vec<Rung>, wish: &Wish, containing: bool) -> bool {
    if ladder.iter().any(|rung| rung.action == wish.action && rung.attempts > 0) {
        return false;
    }
    let untried = ladder.iter().position(|rung| rung.attempts == 0 && rung.outcome.is_none()).unwrap_or(ladder.len());
    if let Some(found) = ladder.iter().position(|rung| rung.action == wish.action && rung.outcome.is_none()) {
        let keeps_place = found == untried || found < fixed(ladder);
        if ladder[found].autonomy == Autonomy::Automatic && keeps_place {
            return false;
        }
        let (autonomy, origin) = (Autonomy::Automatic, wish.origin.clone());
        if keeps_place {
            // It keeps its number; what waits before it, if anything, is as mild.
            ladder[found] = Rung { autonomy, origin, ..ladder[found].clone() };
        } else {
            let rung = ladder.remove(found);
            put_next(ladder, Rung { autonomy, origin, ..rung });
        }
        return true;
    }
    put_next(
        ladder,
        Rung {
            action: wish.action.clone(),
            autonomy: Autonomy::Automatic,
            containing,
            origin: wish.origin.clone(),
            outcome: None,
            attempts: 0,
            recommended_at: None,
        },
    );
    true
}

/// The open episodes of a subsystem, in order.
pub(super) fn open_of(state: &State, subsystem: &str) -> Vec<(EpisodeKey, EpisodeId)> {
    let from = EpisodeKey { subsystem: subsystem.into(), symbol: None, kind: "".into() };
    let of_it = state.open.range(from..).take_while(|(key, _)| key.subsystem == *subsystem);
    of_it.map(|(key, id)| (key.clone(), id.clone())).collect()
}

/// Of which keys these issues say that nothing is wrong.
fn clears(issues: &[Issue]) -> impl Fn(&EpisodeKey) -> bool {
    |key| issues.iter().all(|issue| issue.key != *key)
}

fn facts_of(issue: &Issue, moves_policy: bool) -> IssueFacts {
    IssueFacts {
        severity: issue.severity,
        description: issue.description.clone(),
        symptoms: issue.symptoms.clone(),
        root_cause: issue.root_cause.clone(),
        impacts_trading: issue.impacts_trading,
        moves_policy,
        affects_subsystems: issue.affects_subsystems.clone(),
        source: issue.source,
    }
}

/// Whether an episode is about something beside its subsystem's grade, which the details of its health are not about.
fn is_of_signals(episode: &Episode) -> bool {
    matches!(episode.facts.source, IssueSource::Vitals | IssueSource::FailurePoint) || is_forecast(&episode.key.kind)
}

/// Whether an episode is what a failure point found, no action is for it but what a person does, and it is mild: a limit that
/// is reached is a normal state, which gets nobody out of bed.
pub(super) fn is_to_be_seen_only(episode: &Episode) -> bool {
    let only_shown = |rung: &Rung| recommend::furthest(&rung.action) == Autonomy::Manual;
    episode.facts.source == IssueSource::FailurePoint
        && episode.ladder.iter().all(only_shown)
        && episode.facts.severity < Severity::High
}

/// An episode as the issue that people see.
pub fn issue_of(episode: &Episode, health: Option<&Health>) -> Issue {
    let symptoms = health
        .filter(|_| episode.by_check && !is_of_signals(episode))
        .map(|health| {
            ["error", "warning", "message"]
                .iter()
                .filter_map(|key| health.details.get(*key).and_then(|value| value.as_str()))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .filter(|fresh| !fresh.is_empty())
        .unwrap_or_else(|| episode.facts.symptoms.clone());
    Issue {
        issue_id: episode.id.clone(),
        key: episode.key.clone(),
        severity: episode.facts.severity,
        timestamp: episode.opened_at,
        description: episode.facts.description.clone(),
        symptoms,
        root_cause: episode.facts.root_cause.clone(),
        impacts_trading: episode.facts.impacts_trading,
        affects_subsystems: episode.facts.affects_subsystems.clone(),
        source: episode.facts.source,
    }
}
