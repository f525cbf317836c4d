//! What a step's records mean to metrics and to the log: the story an operator searches for (SPEC 14).
//!
//! **Invariant:** the text of an event is constant and its keys are fixed; `docs/logs.md` has them all. What varies is a
//! value, so that a search finds it and no text of an alert passes itself off as an event.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::execute::actions;
use crate::journal::{ApprovalEnd, Episode, Record, Run, State};
use crate::model::{
    AlertOutcome, AlertStatus, Ending, EpisodeId, EpisodeKey, IntakeAlert, Level, Name, Outcome, POLICY_NOT_FOLLOWED,
    Reason, RunKey, Severity, Status,
};
use crate::publish::OperatorAlert;
use crate::telemetry::metrics::Metrics;

use super::board::View;
use crate::model::IssueSource;
use crate::observe::failure_points;

/// What a person is told when chiron knows nothing further.
const NOTHING_LEFT: &str = "no action is left to try; recover the subsystem by hand";

/// Issues that one line names; the others are counted.
const NAMED_MAX: usize = 10;

/// What one line says of an issue, in characters.
const DESCRIPTION_CHARS_MAX: usize = 160;

/// The severity each episode is counted under, as far as this step has changed it.
type Severities = HashMap<EpisodeId, (EpisodeKey, Severity)>;

/// A step that has become durable.
pub(super) struct Step<'a> {
    /// Before.
    pub before: &'a State,
    /// After.
    pub after: &'a State,
    /// What was decided.
    pub records: &'a [Record],
    /// The alerts it took.
    pub alerts: &'a [(u64, IntakeAlert)],
    /// When.
    pub now: crate::model::Timestamp,
}

impl Step<'_> {
    /// Counts and logs every record. Returns what a person has to be told.
    pub(super) fn account(&self, metrics: &Metrics) -> Vec<OperatorAlert> {
        let mut told = Vec::new();
        let mut severities = HashMap::new();
        for record in self.records {
            self.account_one(record, metrics, &mut severities, &mut told);
        }
        for (episode, index, outcome) in self.ended() {
            self.account_end(&episode, index, outcome, metrics);
        }
        self.log_critical(&severities);
        self.log_healed();
        let (from, to) = (self.before.level(), self.after.level());
        if from != to {
            self.log_policy(from, to);
        }
        told
    }

    fn account_one(
        &self,
        record: &Record,
        metrics: &Metrics,
        severities: &mut Severities,
        told: &mut Vec<OperatorAlert>,
    ) {
        match record {
            Record::EpisodeOpened { id, key, facts, began_at, .. } => {
                severities.insert(id.clone(), (key.clone(), facts.severity));
                if let Some(began_at) = began_at {
                    metrics.detected(&key.kind, self.now.since(*began_at));
                }
                metrics.issue_opened(&key.subsystem, &key.kind, facts.severity);
                let (subsystem, kind, severity) = (&key.subsystem, &key.kind, facts.severity.as_str());
                let description = &facts.description;
                tracing::info!(issue = %id, %subsystem, "type" = %kind, severity, description, "issue opened");
            }
            Record::EpisodeChanged { id, facts, .. } => {
                if let Some((key, from)) = self.severity(id, severities)
                    && from != facts.severity
                {
                    metrics.issue_moved(&key.subsystem, &key.kind, from, facts.severity);
                    let (subsystem, description) = (key.subsystem.clone(), &facts.description);
                    severities.insert(id.clone(), (key, facts.severity));
                    let (from, to) = (from.as_str(), facts.severity.as_str());
                    tracing::info!(issue = %id, %subsystem, from, to, description, "issue changed");
                }
            }
            Record::EpisodeResolved { id } => {
                let Some((key, severity)) = self.severity(id, severities) else { return };
                metrics.issue_resolved(&key.subsystem, &key.kind, severity);
                let took = self.now.since(self.episode_opened(id).unwrap_or(self.now));
                metrics.issue_over(&key.kind, took);
                let seconds = took.as_secs_f64();
                let subsystem = key.subsystem.clone();
                severities.insert(id.clone(), (key, severity));
                tracing::info!(issue = %id, %subsystem, seconds, "issue resolved");
            }
            Record::EpisodeEscalated { id, reason } => {
                metrics.escalation();
                told.extend(self.operator_alert(id, *reason));
            }
            Record::AlertTaken { intake, status, outcome, .. } => {
                if let Ok(index) = self.alerts.binary_search_by_key(intake, |(number, _)| *number) {
                    let alert = &self.alerts[index].1;
                    metrics.alert_received(&alert.receiver, *status, *outcome);
                    if (*outcome, *status) == (AlertOutcome::Watchdog, AlertStatus::Firing) {
                        metrics.watchdog_seen(self.now);
                    } else if !matches!(outcome, AlertOutcome::Deduplicated | AlertOutcome::Own) {
                        let name = alert.labels.get("alertname").map_or("", String::as_str);
                        let (status, outcome) = (status.as_str(), outcome.as_str());
                        tracing::info!(alertname = name, status, outcome, "alert taken");
                    }
                }
            }
            Record::RunStarted { key, .. } | Record::RunResumed { key } => {
                if let Some(run) = self.run(key).filter(|run| !run.dry_run) {
                    // What a crash interrupted is begun again, and counted once.
                    if let (Some(episode), Record::RunStarted { .. }) = (self.episode(&key.episode), record) {
                        metrics.reacted(&episode.key.kind, &run.action, self.now.since(episode.opened_at));
                    }
                    let (action, subsystem, issue) = (&run.action, &run.target, &key.episode);
                    tracing::info!(run = %key, %action, %subsystem, %issue, "action started");
                }
            }
            Record::RunVerified { key, outcome, detail } => self.account_run(key, *outcome, detail, metrics),
            Record::RunIndeterminate { key, detail } => {
                self.account_run(key, Outcome::Indeterminate, detail, metrics);
            }
            Record::RunCancelled { key, .. } => self.account_run(key, Outcome::Cancelled, "", metrics),
            Record::RungSkipped { episode, rung, outcome } => {
                let skipped = self.after.episodes.get(episode).and_then(|episode| {
                    episode
                        .ladder
                        .get(*rung as usize - 1)
                        .map(|rung| (rung.action.clone(), episode.key.subsystem.clone()))
                });
                if let Some((action, subsystem)) = skipped {
                    metrics.action_ended(&action, &subsystem, *outcome, None);
                    self.count_for_issue(episode, &action, *outcome, metrics);
                    let outcome = outcome.as_str();
                    tracing::warn!(issue = %episode, %action, %subsystem, outcome, "action skipped");
                }
            }
            Record::ApprovalAsked { key, action, target, expires_at, .. } => {
                tracing::info!(run = %key, %action, subsystem = %target, %expires_at, "approval asked for");
            }
            Record::ApprovalEnded { key, how, by, reason, .. } => {
                let asked = self.before.questions.get(key);
                if let Some(asked) = asked.filter(|_| *how == ApprovalEnd::Rejected) {
                    metrics.action_ended(&asked.action, &asked.target, Outcome::Rejected, None);
                    self.count_for_issue(&key.episode, &asked.action, Outcome::Rejected, metrics);
                }
                let how = how.as_str();
                tracing::info!(run = %key, how, by, reason, "approval ended");
            }
            Record::DrillAsked { episode, by, reason } => {
                tracing::info!(issue = %episode, by, reason, "drill asked for");
            }
            Record::MaintenanceSet { id, subsystems, actions, until, by, reason } => {
                let (subsystems, actions) = (named_or_all(subsystems), named(actions.iter().map(ToString::to_string)));
                tracing::info!(maintenance = %id, subsystems, actions, %until, by, reason, "maintenance announced");
            }
            Record::MaintenanceEnded { id, by, reason } => {
                let (by, reason) = (by.as_deref().unwrap_or("chiron"), reason.as_deref().unwrap_or("its time is up"));
                tracing::info!(maintenance = %id, by, reason, "maintenance ended");
            }
            Record::ClockSet { millis } => tracing::warn!(millis, "clock was set"),
            Record::WorkspaceChanged { healing, change, .. } => {
                metrics.workspace.changed(change.kind, change.state);
                let (kind, code, state) = (change.kind.as_str(), change.code.as_str(), change.state.as_str());
                let (path, detail) = (&change.path, &change.detail);
                tracing::info!(%healing, path, change = kind, code, state, detail, "workspace changed");
            }
            Record::WorkspaceHealed { healing, trigger, by, changes, applied, .. } => {
                let (trigger, by) = (trigger.as_str(), by.as_deref().unwrap_or("chiron"));
                tracing::info!(%healing, trigger, by, changes, applied, "workspace healing audited");
            }
            Record::RestartAsked { by, reason } => tracing::info!(by, reason, "restart of the workers asked for"),
            Record::HookTold { .. } | Record::HookAnswered { .. } | Record::HookFollowed { .. } => {
                self.account_hook(record, metrics);
            }
            Record::Latched { reason } => tracing::error!(reason, "emergency shutdown latched"),
            Record::LatchReleased { by, reason } => tracing::warn!(by, reason, "emergency shutdown released"),
            Record::InstanceStarted { .. }
            | Record::ConfigLoaded { .. }
            | Record::AlertBelieved { .. }
            | Record::RecommendationHeld { .. }
            | Record::HookEnded { .. }
            | Record::RunIntended { .. }
            | Record::RunFinished { .. }
            | Record::HoldSet { .. }
            | Record::HoldEnded { .. } => {}
        }
    }

    fn account_hook(&self, record: &Record, metrics: &Metrics) {
        match record {
            Record::HookTold { hook, level, attempt, .. } => {
                let before = self.before.hooks.get(hook);
                let (policy, attempt) = (level.as_str(), *attempt);
                if attempt > 1 {
                    tracing::debug!(%hook, policy, attempt, "bot told of the policy again");
                } else if before.is_some_and(|told| told.level == *level && told.followed_at.is_some()) {
                    tracing::warn!(%hook, policy, "bot does not show the policy any more");
                } else {
                    tracing::info!(%hook, policy, "bot told of the policy");
                }
            }
            Record::HookAnswered { hook, level, ending, detail } => {
                let (outcome, policy) = (ending.as_str(), level.as_str());
                metrics.hooks.answered(hook, *ending);
                if *ending == Ending::Ok {
                    tracing::debug!(%hook, policy, outcome, detail, "policy hook answered");
                } else {
                    tracing::warn!(%hook, policy, outcome, detail, "policy hook answered");
                }
            }
            Record::HookFollowed { hook, level } => {
                let told = self.after.hooks.get(hook).or_else(|| self.before.hooks.get(hook));
                let took = self.now.since(told.map_or(self.now, |told| told.since));
                metrics.hooks.followed(hook, took);
                let (policy, seconds) = (level.as_str(), took.as_secs_f64());
                tracing::info!(%hook, policy, seconds, "bot follows the policy");
            }
            _ => {}
        }
    }

    /// What an episode is counted under just now.
    fn severity(&self, id: &EpisodeId, severities: &Severities) -> Option<(EpisodeKey, Severity)> {
        severities
            .get(id)
            .cloned()
            .or_else(|| self.before.episodes.get(id).map(|episode| (episode.key.clone(), episode.facts.severity)))
    }

    fn account_run(&self, key: &RunKey, outcome: Outcome, detail: &str, metrics: &Metrics) {
        let Some(run) = self.run(key) else { return };
        // After a crash nobody knows how long it took; what was not begun took no time.
        let ran = matches!(run.ending, Some(Ending::Ok | Ending::Failed | Ending::Timeout)) && run.crashes == 0;
        let took = ran.then(|| Duration::from_millis(run.duration_ms));
        metrics.action_ended(&run.action, &run.target, outcome, took);
        self.count_for_issue(&key.episode, &run.action, outcome, metrics);
        let (action, subsystem, issue) = (&run.action, &run.target, &key.episode);
        if outcome == Outcome::DryRun {
            tracing::info!(run = %key, %action, %subsystem, %issue, "would have acted");
            return;
        }
        let detail = if detail.is_empty() { run.reason.map_or("", Reason::as_str) } else { detail };
        let seconds = Duration::from_millis(run.duration_ms).as_secs_f64();
        let word = outcome.as_str();
        if outcome == Outcome::Verified {
            let since = self.episode_opened(&key.episode).unwrap_or(self.now);
            metrics.recovered(&run.action, self.now.since(since));
            tracing::info!(run = %key, %action, %subsystem, %issue, outcome = word, seconds, detail, "action ended");
        } else {
            tracing::warn!(run = %key, %action, %subsystem, %issue, outcome = word, seconds, detail, "action ended");
        }
    }

    /// One line with the number of critical issues and each of them, when they have changed.
    fn log_critical(&self, severities: &Severities) {
        let was = |id| self.before.episodes.get(id).is_some_and(|episode| is_critical(episode));
        let is = |id| self.after.episodes.get(id).is_some_and(|episode| is_critical(episode));
        if severities.keys().all(|id| was(id) == is(id)) {
            return;
        }
        let critical: Vec<_> = self.after.episodes.values().filter(|episode| is_critical(episode)).collect();
        let said = critical.iter().map(|episode| {
            let description: String = episode.facts.description.chars().take(DESCRIPTION_CHARS_MAX).collect();
            format!("{}: {description}", episode.id)
        });
        let (count, each) = (critical.len(), named(said));
        if count > 0 {
            tracing::warn!(count, each, "critical issues");
        } else {
            tracing::info!(count, each, "critical issues");
        }
    }

    /// One line with the number of issues that are over because an action has healed them.
    fn log_healed(&self) {
        let healed: Vec<_> = self
            .records
            .iter()
            .filter_map(|record| match record {
                Record::EpisodeResolved { id } if self.was_healed(id) => Some(id.to_string()),
                _ => None,
            })
            .collect();
        if !healed.is_empty() {
            tracing::info!(count = healed.len(), issues = named(healed.into_iter()), "healed");
        }
    }

    /// Whether an action that heals was verified for that issue; one that contains damage heals nothing.
    fn was_healed(&self, id: &EpisodeId) -> bool {
        let heals = |run: &Run| !actions::action(&run.action).is_some_and(|spec| spec.containing);
        let verified = |run: &Run| run.key.episode == *id && run.outcome == Some(Outcome::Verified) && heals(run);
        self.after.ended_runs.iter().any(|run| verified(run))
    }

    fn run(&self, key: &RunKey) -> Option<&Run> {
        let open = self.after.runs.get(key).or_else(|| self.before.runs.get(key));
        match self.after.ended_runs.iter().rev().find(|run| run.key == *key) {
            Some(ended) => Some(ended),
            None => open.map(|run| &**run),
        }
    }

    fn episode_opened(&self, id: &EpisodeId) -> Option<crate::model::Timestamp> {
        self.episode(id).map(|episode| episode.opened_at)
    }

    /// An episode as it is after the step, if it is remembered.
    fn episode(&self, id: &EpisodeId) -> Option<&Episode> {
        let ended = || self.after.ended_episodes.iter().rev().find(|episode| episode.id == *id);
        let found = self.after.episodes.get(id).or_else(ended).or_else(|| self.before.episodes.get(id));
        found.map(|episode| &**episode)
    }

    fn count_for_issue(&self, id: &EpisodeId, action: &Name, outcome: Outcome, metrics: &Metrics) {
        if let Some(episode) = self.episode(id) {
            metrics.issue_action_ended(&episode.key.kind, action, outcome);
        }
    }

    /// The recommendations that have come to their one end in this step: of which episode, which rung (0-based), which end.
    pub(super) fn ended(&self) -> Vec<(Arc<Episode>, usize, Outcome)> {
        let touched: BTreeSet<&EpisodeId> = self.records.iter().filter_map(may_end).collect();
        let mut ended = Vec::new();
        for id in touched {
            let resolved = || self.after.ended_episodes.iter().rev().find(|episode| episode.id == *id);
            let Some(after) = self.after.episodes.get(id).or_else(resolved) else { continue };
            let before = self.before.episodes.get(id);
            let was = |index| before.is_some_and(|episode| episode.ended(index).is_some());
            let news = (0..after.ladder.len()).filter(|index| !was(*index));
            ended.extend(news.filter_map(|index| Some((Arc::clone(after), index, after.ended(index)?))));
        }
        ended
    }

    fn account_end(&self, episode: &Episode, index: usize, outcome: Outcome, metrics: &Metrics) {
        let rung = &episode.ladder[index];
        metrics.recommendation_ended(&rung.action, outcome);
        // A run and a person's no are told of already.
        if rung.attempts == 0 && outcome != Outcome::Rejected {
            let recommendation = format!("rec_{}_{}", index + 1, episode.id);
            let number = u32::try_from(index + 1).unwrap_or(u32::MAX);
            let reason = episode.last_note(number).map_or("", |note| note.reason.as_str());
            let (action, subsystem, issue) = (&rung.action, &episode.key.subsystem, &episode.id);
            let outcome = outcome.as_str();
            tracing::info!(recommendation, %action, %subsystem, %issue, outcome, reason, "recommendation ended");
        }
    }

    fn operator_alert(&self, id: &EpisodeId, reason: Reason) -> Option<OperatorAlert> {
        let episode = self.after.episodes.get(id).or_else(|| self.before.episodes.get(id))?;
        let advice = match reason {
            Reason::Indeterminate => "look whether the last action took effect, then recover the subsystem by hand",
            Reason::ApprovalPending => "approve or reject it (`chiron approve`), or recover the subsystem by hand",
            Reason::Expired => {
                "nobody answered in time; the question is asked anew: approve or reject it (`chiron approve`)"
            }
            Reason::Storm => {
                "nothing is restored: look at what the checks share (the network, the machine, chiron itself) before anything else"
            }
            Reason::GroupUnhealthy => {
                "too few other members of its group are healthy to act on this one; recover one of them by hand"
            }
            Reason::Unbound if episode.facts.source != IssueSource::FailurePoint => {
                "bind an action to this subsystem under `bindings`, or recover it by hand"
            }
            _ if episode.key.kind == *POLICY_NOT_FOLLOWED => {
                "bring the bot to the policy by hand, then look at its hooks (`chiron policy hooks`)"
            }
            _ if episode.facts.source == IssueSource::Workspace => super::workspace::advice(&episode.key.kind),
            _ if episode.facts.source == IssueSource::FailurePoint => {
                failure_points::point(&episode.key.kind).map_or(NOTHING_LEFT, |point| point.advice)
            }
            _ => NOTHING_LEFT,
        };
        let (subsystem, description) = (&episode.key.subsystem, &episode.facts.description);
        let word = reason.as_str();
        tracing::error!(issue = %id, %subsystem, reason = word, description, advice, "a person is needed");
        Some(OperatorAlert {
            timestamp: self.now,
            issue_id: id.clone(),
            subsystem: episode.key.subsystem.clone(),
            severity: episode.facts.severity,
            description: episode.facts.description.clone(),
            reason,
            advice: advice.to_owned(),
        })
    }

    fn log_policy(&self, from: Level, to: Level) {
        let why = self
            .after
            .holds
            .values()
            .filter(|hold| hold.level == to)
            .map(|hold| hold.reason.as_str())
            .next()
            .unwrap_or("nothing holds a stricter level any more");
        let (from_word, to_word) = (from.as_str(), to.as_str());
        if to > from {
            tracing::warn!(from = from_word, to = to_word, why, "policy changed");
        } else {
            tracing::info!(from = from_word, to = to_word, why, "policy changed");
        }
    }
}

/// The episode whose recommendations a record may end.
fn may_end(record: &Record) -> Option<&EpisodeId> {
    match record {
        Record::EpisodeResolved { id } | Record::EpisodeChanged { id, .. } => Some(id),
        Record::RecommendationHeld { episode, .. } | Record::RungSkipped { episode, .. } => Some(episode),
        Record::RunIntended { key, .. }
        | Record::RunVerified { key, .. }
        | Record::RunIndeterminate { key, .. }
        | Record::ApprovalEnded { key, .. } => Some(&key.episode),
        _ => None,
    }
}

fn is_critical(episode: &Episode) -> bool {
    episode.facts.severity == Severity::Critical
}

/// The first few subsystems of a list, of which an empty one is all.
fn named_or_all(subsystems: &[crate::model::Name]) -> String {
    if subsystems.is_empty() { "all".to_owned() } else { named(subsystems.iter().map(ToString::to_string)) }
}

/// The first few of a list, and how many more there are.
fn named(mut each: impl Iterator<Item = String>) -> String {
    let mut text = each.by_ref().take(NAMED_MAX).collect::<Vec<_>>().join("; ");
    let more = each.count();
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    text
}

/// A storm has begun or is over.
pub(super) fn storm(before: bool, view: &View) {
    let broken = view.summary.critical + view.summary.failed;
    match (before, view.stormy) {
        (false, true) => tracing::warn!(broken, "storm began: only root causes are acted upon"),
        (true, false) => tracing::info!(broken, "storm over"),
        _ => {}
    }
}

/// Observations were taken in. A changed overall status, or a check that somebody asked for, is told to everybody; the
/// others, several a minute, to whoever asks for debug.
pub(super) fn check_complete(previous: Status, view: &View, forced: bool) {
    let news = forced || previous != view.overall;
    if !news && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let (status, previous) = (view.overall.as_str(), previous.as_str());
    let critical_issues = view.state.episodes.values().filter(|episode| is_critical(episode)).count();
    let issues = view.state.episodes.len();
    let crate::model::Summary { healthy, degraded, critical, failed, unknown } = view.summary;
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                status,
                previous,
                issues,
                critical_issues,
                healthy,
                degraded,
                critical,
                failed,
                unknown,
                forced,
                "check complete"
            )
        };
    }
    if news { say!(info) } else { say!(debug) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut() {
        assert_eq!(named(std::iter::empty()), "");
        assert_eq!(named(["a", "b"].map(str::to_owned).into_iter()), "a; b");
        assert_eq!(named((0..12).map(|n| n.to_string())), "0; 1; 2; 3; 4; 5; 6; 7; 8; 9; and 2 more");
    }
}
