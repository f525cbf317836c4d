//! What a step's records mean to metrics and to the log: the story an operator searches for (SPEC 14).

use std::collections::HashMap;
use std::time::Duration;

use crate::journal::{ApprovalEnd, Record, Run, State};
use crate::model::{
    AlertOutcome, AlertStatus, EpisodeId, EpisodeKey, IntakeAlert, Level, Outcome, Reason, RunKey, Severity,
};
use crate::publish::OperatorAlert;
use crate::telemetry::metrics::Metrics;

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
            Record::EpisodeOpened { id, key, facts, .. } => {
                severities.insert(id.clone(), (key.clone(), facts.severity));
                metrics.issue_opened(&key.subsystem, &key.kind, facts.severity);
                if facts.severity == Severity::Critical {
                    tracing::warn!(issue = %id, subsystem = %key.subsystem, "critical issue: {}", facts.description);
                } else {
                    let severity = facts.severity.as_str();
                    tracing::info!(issue = %id, subsystem = %key.subsystem, severity, "issue opened: {}", facts.description);
                }
            }
            Record::EpisodeChanged { id, facts, .. } => {
                if let Some((key, from)) = self.severity(id, severities)
                    && from != facts.severity
                {
                    metrics.issue_moved(&key.subsystem, &key.kind, from, facts.severity);
                    severities.insert(id.clone(), (key, facts.severity));
                    let (from, to) = (from.as_str(), facts.severity.as_str());
                    tracing::info!(issue = %id, from, to, "issue changed: {}", facts.description);
                }
            }
            Record::EpisodeResolved { id } => {
                let Some((key, severity)) = self.severity(id, severities) else { return };
                metrics.issue_resolved(&key.subsystem, &key.kind, severity);
                let seconds = self.now.since(self.episode_opened(id).unwrap_or(self.now)).as_secs_f64();
                tracing::info!(issue = %id, subsystem = %key.subsystem, seconds, "issue resolved");
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
                    tracing::info!(run = %key, action = %run.action, subsystem = %run.target, "action started");
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
                    metrics.action_ended(&action, &subsystem, *outcome, Duration::ZERO);
                    tracing::warn!(issue = %episode, %action, %subsystem, "action is not bound to any means; next rung");
                }
            }
            Record::ApprovalAsked { key, action, target, expires_at, .. } => {
                tracing::info!(run = %key, %action, subsystem = %target, %expires_at, "approval asked for");
            }
            Record::ApprovalEnded { key, how, by, reason, .. } => {
                let asked = self.before.questions.get(key);
                if let Some(asked) = asked.filter(|_| *how == ApprovalEnd::Rejected) {
                    metrics.action_ended(&asked.action, &asked.target, Outcome::Rejected, Duration::ZERO);
                }
                let how = how.as_str();
                tracing::info!(run = %key, how, by, reason, "approval ended");
            }
            Record::DrillAsked { episode, by, reason } => {
                tracing::info!(issue = %episode, by, reason, "drill asked for");
            }
            Record::RestartAsked { by, reason } => tracing::info!(by, reason, "restart of the workers asked for"),
            Record::Latched { reason } => {
                tracing::error!(reason, "emergency shutdown latched; only a person releases it")
            }
            Record::LatchReleased { by, reason } => tracing::warn!(by, reason, "emergency shutdown released"),
            Record::InstanceStarted { .. }
            | Record::ConfigLoaded { .. }
            | Record::AlertBelieved { .. }
            | Record::RunIntended { .. }
            | Record::RunFinished { .. }
            | Record::HoldSet { .. }
            | Record::HoldEnded { .. } => {}
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
        metrics.action_ended(&run.action, &run.target, outcome, Duration::from_millis(run.duration_ms));
        let (action, subsystem, outcome_word) = (&run.action, &run.target, outcome.as_str());
        match outcome {
            Outcome::Verified => {
                let since = self.episode_opened(&key.episode).unwrap_or(self.now);
                metrics.recovered(&run.action, self.now.since(since));
                tracing::info!(run = %key, %action, %subsystem, outcome = outcome_word, "action ended: {detail}");
            }
            Outcome::DryRun => {
                tracing::info!(run = %key, %action, %subsystem, outcome = outcome_word, "would have acted; dry-run");
            }
            _ => tracing::warn!(run = %key, %action, %subsystem, outcome = outcome_word, "action ended: {detail}"),
        }
    }

    fn run(&self, key: &RunKey) -> Option<&Run> {
        let open = self.after.runs.get(key).or_else(|| self.before.runs.get(key));
        match self.after.ended_runs.iter().rev().find(|run| run.key == *key) {
            Some(ended) => Some(ended),
            None => open.map(|run| &**run),
        }
    }

    fn episode_opened(&self, id: &EpisodeId) -> Option<crate::model::Timestamp> {
        let ended = || self.after.ended_episodes.iter().rev().find(|episode| episode.id == *id);
        self.before
            .episodes
            .get(id)
            .or_else(|| self.after.episodes.get(id))
            .or_else(ended)
            .map(|episode| episode.opened_at)
    }

    fn operator_alert(&self, id: &EpisodeId, reason: Reason) -> Option<OperatorAlert> {
        let episode = self.after.episodes.get(id).or_else(|| self.before.episodes.get(id))?;
        let advice = match reason {
            Reason::Indeterminate => "look whether the last action took effect, then recover the subsystem by hand",
            Reason::ApprovalPending => "approve or reject it (`chiron approve`), or recover the subsystem by hand",
            Reason::Expired => {
                "nobody answered in time; the question is asked anew: approve or reject it (`chiron approve`)"
            }
            Reason::Unbound => "bind an action to this subsystem under `bindings`, or recover it by hand",
            _ => "no action is left to try; recover the subsystem by hand",
        };
        tracing::error!(issue = %id, subsystem = %episode.key.subsystem, reason = reason.as_str(), "a person is needed: {advice}");
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
