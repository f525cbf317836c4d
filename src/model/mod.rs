//! Nouns shared by every stage: time, names, health, issues, actions, runs, policy.
//!
//! Where it sits: below everything; imports nothing of ours.
//! **Invariant:** pure data and small pure functions; never reads a clock, a file or the network.

mod access;
mod action;
mod healing;
mod health;
mod ids;
mod intake;
mod issue;
mod mode;
mod points;
mod policy;
mod problem;
mod pushed;
mod reason;
mod recommendation;
mod report;
mod resources;
mod run;
mod signals;
mod subsystem;
mod time;
mod vitals;

pub use access::{Caller, Role};
pub use action::{ActionSpec, Autonomy, Means};
pub use healing::{
    Acceptance, ChangeKind, ChangeRecord, ChangeState, FindingCode, FindingState, Healing, HealingEnd, HealingReport,
    HealingStats, HealingTrigger, PartScore, RECORDS_MAX, Validation, ValidationPart, WORKSPACE, WORKSPACE_UNFIT,
    WORKSPACE_UNREADABLE, WorkspaceFinding,
};
pub use health::{Details, Health, Perfdata, Status};
pub use ids::{EpisodeId, EpisodeKey, Fingerprint, Name, RunKey};
pub use intake::{AlertOutcome, AlertStatus, IntakeAlert};
pub use issue::{Issue, IssueSource, POLICY_NOT_FOLLOWED, Severity};
pub use mode::Mode;
pub use points::{PointsReport, PointsStatus};
pub use policy::{CloseScope, Intent, Level, PolicySource, Restrictions};
pub use problem::Problem;
pub use pushed::Pushed;
pub use reason::{Outcome, Reason};
pub use recommendation::{Offer, Recommendation, RecommendationState};
pub use report::{PolicyDocument, Report, SourceHold, Summary};
pub use resources::{DiskUse, Resources};
pub use run::{Class, Ending, RunState, STARTS_REMEMBERED};
pub use signals::{FailurePoint, Finding, Forecasts, Measure, Quantity, Signals, is_forecast};
pub use subsystem::{Criticality, HOST, PLATFORM, Subsystem};
pub use time::Timestamp;
pub use vitals::{BotPart, Vitals, WebSocketStatus};
