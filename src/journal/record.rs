//! The record types of the journal. Adding a variant or an optional field is compatible; renaming is not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    AlertOutcome, AlertStatus, Autonomy, ChangeRecord, Class, Ending, EpisodeId, EpisodeKey, Fingerprint, HealingEnd,
    HealingTrigger, IssueSource, Level, Name, Outcome, PolicySource, Reason, RunKey, Severity, Status, Timestamp,
};

/// A record with its place in the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Gapless, from 1. The order of events; wall time is not.
    pub seq: u64,
    /// Wall time of the decision, for people.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub record: Record,
}

/// The part of an issue that may change while its episode is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IssueFacts {
    /// How bad it is now.
    pub severity: Severity,
    /// One line in fixed wording.
    pub description: String,
    /// What was observed.
    pub symptoms: Vec<String>,
    /// The broken subsystem it depends on, if any.
    pub root_cause: Option<Name>,
    /// Whether trading suffers.
    pub impacts_trading: bool,
    /// Whether it may move the policy: its subsystem's criticality is not `none`.
    pub moves_policy: bool,
    /// Who depends on it.
    pub affects_subsystems: Vec<Name>,
    /// Who saw it.
    pub source: IssueSource,
}

/// How a question to a person was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalEnd {
    /// The run is begun with it, in the same transaction.
    Approved,
    /// The rung is not tried.
    Rejected,
    /// Nobody answered in time.
    Expired,
    /// What was shown has changed, or the need for it has passed.
    Withdrawn,
}

impl ApprovalEnd {
    /// The word used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Why a rung is on a ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RungOrigin {
    /// REC-1 or DET-5.
    Ladder,
    /// A routed alert asked for it, to be done only while the subsystem's own check agrees (`confirm: check`).
    AlertIfConfirmed(Fingerprint),
    /// A routed alert asked for it.
    Alert(Fingerprint),
    /// It undoes the rung of that number of the same ladder, which made things worse.
    Undo(u32),
    /// It undoes, now that the issue is over, what that run did.
    Reverse(RunKey),
}

/// One step of an episode's ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// The verb.
    pub action: Name,
    /// How far it may go alone.
    pub autonomy: Autonomy,
    /// It contains and heals nothing.
    pub containing: bool,
    /// Why it is there.
    pub origin: RungOrigin,
    /// How it ended; `None` while it is the current one or still to come.
    pub outcome: Option<Outcome>,
    /// Tries so far.
    pub attempts: u32,
    /// When it was first the one to be done next: from then on it is a recommendation, which ends in one outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended_at: Option<Timestamp>,
}

/// How things stood when a run was decided: what verification compares with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// The target's status.
    pub status: Status,
    /// Which subsystems that depend on the target were broken already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<Name>,
}

/// What an alert contributes to an episode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertPart {
    /// Our identity of it.
    pub fingerprint: Fingerprint,
    /// Its labels, for people and for `GET /alerts`.
    pub labels: BTreeMap<String, String>,
    /// When it began, by the sender's clock.
    pub starts_at: Timestamp,
    /// The level its route or label asks for.
    pub policy: Option<Level>,
}

/// One fact of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// An instance took the journal over.
    InstanceStarted {
        /// Random per process.
        incarnation: String,
        /// Of the program.
        version: String,
        /// Whether it acts on nothing.
        dry_run: bool,
    },
    /// Settings took effect; the generation only rises.
    ConfigLoaded {
        /// 1 for the first.
        generation: u64,
        /// SHA-256 of the file, hex.
        digest: String,
        /// Who asked for it to be loaded; `None` at start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Something is wrong.
    EpisodeOpened {
        /// Unique.
        id: EpisodeId,
        /// What it is about.
        #[serde(flatten)]
        key: EpisodeKey,
        /// The issue.
        facts: IssueFacts,
        /// The rungs to try, in order.
        ladder: Vec<Rung>,
        /// Whether a check or rule holds it open (else alerts alone do).
        by_check: bool,
        /// When the trouble began at the earliest: the last check that was not as bad, or the alert's own start.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        began_at: Option<Timestamp>,
    },
    /// The same episode, seen differently: severity, wording, ladder, or who holds it open.
    EpisodeChanged {
        /// Which.
        id: EpisodeId,
        /// The issue now.
        facts: IssueFacts,
        /// The whole ladder now, tried rungs first.
        ladder: Vec<Rung>,
        /// Whether a check or rule holds it open.
        by_check: bool,
        /// It has come and gone too often and is damped (DET-3).
        flapping: bool,
    },
    /// It is over.
    EpisodeResolved {
        /// Which.
        id: EpisodeId,
    },
    /// Every rung has been tried, or nothing may run: a person has been told (ACT-5).
    EpisodeEscalated {
        /// Which.
        id: EpisodeId,
        /// Why.
        reason: Reason,
    },
    /// An accepted alert got its one outcome.
    AlertTaken {
        /// Its number in the intake.
        intake: u64,
        /// Our identity of it.
        fingerprint: Fingerprint,
        /// What it said.
        status: AlertStatus,
        /// What became of it.
        outcome: AlertOutcome,
        /// The episode it belongs to, if any.
        episode: Option<EpisodeId>,
        /// What it contributes, when it joins an episode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<AlertPart>,
        /// When it ended by the sender's clock, when it says resolved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended_at: Option<Timestamp>,
    },
    /// An alert that said resolved earlier is believed now.
    AlertBelieved {
        /// Which.
        fingerprint: Fingerprint,
        /// Of which episode.
        episode: EpisodeId,
    },
    /// A run was decided.
    RunIntended {
        /// Unique in the store.
        key: RunKey,
        /// The verb.
        action: Name,
        /// The subsystem acted upon.
        target: Name,
        /// The binding's id.
        binding: Name,
        /// What a crash permits.
        class: Class,
        /// A rehearsal.
        dry_run: bool,
        /// Lowers risk: outside budgets and cooldowns.
        lowers_risk: bool,
        /// Neither begun nor done again after this; `None` for what lowers risk, which never expires.
        not_after: Option<Timestamp>,
        /// How things stood.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Before>,
        /// What its means was to do, one line without secrets; another means is never taken for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bound: Option<String>,
    },
    /// It may have begun from here on.
    RunStarted {
        /// Which.
        key: RunKey,
        /// What a probe needs to tell before from after.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<String>,
    },
    /// After a crash it is done again under the same key.
    RunResumed {
        /// Which.
        key: RunKey,
    },
    /// The means has answered.
    RunFinished {
        /// Which.
        key: RunKey,
        /// How.
        ending: Ending,
        /// One sentence: exit code, error.
        detail: String,
        /// The end of what it printed, at most 4 KiB.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        output: String,
        /// How long it took.
        duration_ms: u64,
        /// What is different now, one sentence.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        changed: String,
    },
    /// Verification has answered.
    RunVerified {
        /// Which.
        key: RunKey,
        /// What.
        outcome: Outcome,
        /// The evidence, one sentence.
        detail: String,
    },
    /// It will not be begun.
    RunCancelled {
        /// Which.
        key: RunKey,
        /// Why.
        reason: Reason,
    },
    /// Nobody can tell whether it happened.
    RunIndeterminate {
        /// Which.
        key: RunKey,
        /// What is known.
        detail: String,
    },
    /// A rung was left without a run: nothing is bound to it.
    RungSkipped {
        /// Whose.
        episode: EpisodeId,
        /// 1-based.
        rung: u32,
        /// `unbound`.
        outcome: Outcome,
    },
    /// The rung that is next does not run now: why, in a row each reason once.
    RecommendationHeld {
        /// Whose.
        episode: EpisodeId,
        /// 1-based.
        rung: u32,
        /// Why.
        reason: Reason,
        /// Until when, if time alone changes it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Timestamp>,
    },
    /// A person announces maintenance: until then only the listed actions run on those subsystems.
    MaintenanceSet {
        /// Unique among those in force.
        id: Name,
        /// On which; empty for all.
        subsystems: Vec<Name>,
        /// What may run all the same; what lowers risk always may.
        actions: Vec<Name>,
        /// When it ends by itself.
        until: Timestamp,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// Announced maintenance is over.
    MaintenanceEnded {
        /// Which.
        id: Name,
        /// The person who ended it; `None` if its time was up.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why they did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A hook tells the bot of a policy from here on (POL-5).
    HookTold {
        /// Which.
        hook: Name,
        /// The policy to be told.
        level: Level,
        /// 1 for the first try at this level.
        attempt: u32,
        /// The mildest level that the bot may have been at before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Level>,
    },
    /// The hook's means has answered.
    HookAnswered {
        /// Which.
        hook: Name,
        /// Which policy it told.
        level: Level,
        /// How.
        ending: Ending,
        /// One sentence.
        detail: String,
    },
    /// The bot shows the effect.
    HookFollowed {
        /// Which.
        hook: Name,
        /// Which policy it shows.
        level: Level,
    },
    /// A hook has nothing to tell any more: the policy is none of its, or it is configured no longer.
    HookEnded {
        /// Which.
        hook: Name,
    },
    /// A person is asked to approve a run that has not been begun.
    ApprovalAsked {
        /// Which run it would be.
        key: RunKey,
        /// The verb.
        action: Name,
        /// The subsystem acted upon.
        target: Name,
        /// What the approval is bound to; given back to approve.
        digest: String,
        /// Not taken after this.
        expires_at: Timestamp,
    },
    /// What was asked is settled: each question once.
    ApprovalEnded {
        /// Which run it would be.
        key: RunKey,
        /// What was asked.
        digest: String,
        /// How.
        how: ApprovalEnd,
        /// Who; `chiron` for what expired or was withdrawn.
        by: String,
        /// Why, if they said.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// A person asked for a rehearsal of a recovery; its episode follows.
    DrillAsked {
        /// The episode.
        episode: EpisodeId,
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// The wall clock was set: what budgets, cooldowns, deadlines and damping remember moves with it, so that no jump refills
    /// or prolongs anything.
    ClockSet {
        /// How far forward; negative if back.
        millis: i64,
    },
    /// A person asked for chiron's own workers to be started anew.
    RestartAsked {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
    /// A source holds a level from now on; replaces what it held for the same subject.
    HoldSet {
        /// Who.
        source: PolicySource,
        /// For what.
        subject: Name,
        /// The level.
        level: Level,
        /// Why, one sentence.
        reason: String,
        /// When it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// The person who asked for it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// A source holds nothing for that subject any more.
    HoldEnded {
        /// Who.
        source: PolicySource,
        /// For what.
        subject: Name,
        /// The person who ended it, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// Why they did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A change that a healing of the workspace made, or tried to make (WSP-6).
    WorkspaceChanged {
        /// Which healing.
        healing: Name,
        /// From 1, without gaps within the healing.
        number: u32,
        /// Why the healing was.
        trigger: HealingTrigger,
        /// Who asked for it, if a person did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// What, where, and the hashes before and after.
        change: ChangeRecord,
    },
    /// A healing of the workspace has ended, and every change of it is told: each healing once, in the order of their ids.
    WorkspaceHealed {
        /// Which.
        healing: Name,
        /// When it was planned.
        planned_at: Timestamp,
        /// Why.
        trigger: HealingTrigger,
        /// Who asked for it, if a person did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// The healing that it undoes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        undoes: Option<Name>,
        /// How it ended.
        end: HealingEnd,
        /// Changes in all.
        changes: u32,
        /// Those of them that were made.
        applied: u32,
    },
    /// `emergency_shutdown` stays until a person releases it.
    Latched {
        /// Why.
        reason: String,
    },
    /// A person released it.
    LatchReleased {
        /// Who.
        by: String,
        /// Why.
        reason: String,
    },
}

impl Record {
    /// The word of the kind, as stored.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::InstanceStarted { .. } => "instance_started",
            Self::ConfigLoaded { .. } => "config_loaded",
            Self::EpisodeOpened { .. } => "episode_opened",
            Self::EpisodeChanged { .. } => "episode_changed",
            Self::EpisodeResolved { .. } => "episode_resolved",
            Self::EpisodeEscalated { .. } => "episode_escalated",
            Self::AlertTaken { .. } => "alert_taken",
            Self::AlertBelieved { .. } => "alert_believed",
            Self::RunIntended { .. } => "run_intended",
            Self::RunStarted { .. } => "run_started",
            Self::RunResumed { .. } => "run_resumed",
            Self::RunFinished { .. } => "run_finished",
            Self::RunVerified { .. } => "run_verified",
            Self::RunCancelled { .. } => "run_cancelled",
            Self::RunIndeterminate { .. } => "run_indeterminate",
            Self::RungSkipped { .. } => "rung_skipped",
            Self::RecommendationHeld { .. } => "recommendation_held",
            Self::MaintenanceSet { .. } => "maintenance_set",
            Self::MaintenanceEnded { .. } => "maintenance_ended",
            Self::HookTold { .. } => "hook_told",
            Self::HookAnswered { .. } => "hook_answered",
            Self::HookFollowed { .. } => "hook_followed",
            Self::HookEnded { .. } => "hook_ended",
            Self::ApprovalAsked { .. } => "approval_asked",
            Self::ApprovalEnded { .. } => "approval_ended",
            Self::DrillAsked { .. } => "drill_asked",
            Self::ClockSet { .. } => "clock_set",
            Self::RestartAsked { .. } => "restart_asked",
            Self::HoldSet { .. } => "hold_set",
            Self::HoldEnded { .. } => "hold_ended",
            Self::WorkspaceChanged { .. } => "workspace_changed",
            Self::WorkspaceHealed { .. } => "workspace_healed",
            Self::Latched { .. } => "latched",
            Self::LatchReleased { .. } => "latch_released",
        }
    }
}
