//! What the HTTP side asks of the rest of chiron.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::alerts;
use crate::journal::AuditEntry;
use crate::model::{Caller, IntakeAlert, Level, Outcome, PolicyDocument, Pushed, Report, Timestamp};

use super::need::Group;

pub use crate::telemetry::PageFormat;

/// Why something that was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not now; asking again may help.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing of that name.
    #[error("{0}")]
    NotFound(String),
    /// Whoever asks may not.
    #[error("{0}")]
    Forbidden(String),
    /// It does not fit the present state.
    #[error("{0}")]
    Conflict(String),
    /// What it would undo has changed since; it says what.
    #[error("{0}")]
    Changed(String),
}

/// Which runs, and recommendations that never ran, are wanted; what is `None` may be anything.
#[derive(Clone, Copy, Debug)]
pub struct WantedRuns<'a> {
    /// The target.
    pub subsystem: Option<&'a str>,
    /// The id of the issue.
    pub issue: Option<&'a str>,
    /// The verb.
    pub action: Option<&'a str>,
    /// The word of where it stands.
    pub state: Option<&'a str>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Behind this place: minus the milliseconds since the epoch when it was decided or recommended, and its id.
    pub after: Option<&'a (i64, String)>,
    /// At most so many.
    pub limit: usize,
}

impl WantedRuns<'_> {
    /// All of them.
    pub const ALL: Self =
        Self { subsystem: None, issue: None, action: None, state: None, outcome: None, after: None, limit: usize::MAX };
}

/// The rest of chiron, as seen from HTTP. Methods that are not async answer at once from memory.
#[async_trait]
pub trait Handle: Send + Sync + 'static {
    /// Appends the metrics page.
    fn metrics_page(&self, format: PageFormat, out: &mut Vec<u8>);
    /// Whether [`metrics_page`](Handle::metrics_page) may wait for files; it is then called off the async threads.
    fn metrics_page_waits(&self) -> bool {
        false
    }
    /// The latest report.
    fn report(&self) -> Arc<Report>;
    /// The policy in force; `issued_at` and `valid_until` are of the latest decision.
    fn policy(&self) -> Arc<PolicyDocument>;
    /// The policy in force as it changes and as its lease is renewed, about once a second.
    fn policies(&self) -> watch::Receiver<Arc<PolicyDocument>>;
    /// How far each hook has brought the policy to the bot.
    fn policy_hooks(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
    /// Every subsystem by name: its health, `criticality` and `depends_on`.
    fn subsystems(&self) -> Vec<serde_json::Value>;
    /// Every failure point in the order of the catalog: its health, `category`, and, if it is configured, `subsystem`.
    fn failure_points(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
    /// Alerts that are firing.
    fn active_alerts(&self) -> Vec<serde_json::Value>;
    /// Issues that are over, latest first, each with `status` and `resolved_at`.
    fn ended_issues(&self) -> Vec<serde_json::Value>;
    /// Runs of actions, and recommendations that never ran, by rising place: the latest first. Nothing is told but what is
    /// wanted.
    fn runs(&self, wanted: &WantedRuns<'_>) -> Vec<serde_json::Value>;
    /// Every binding: its `action`, `subsystem` and means, and whether it would work.
    fn bindings(&self) -> Vec<serde_json::Value> {
        Vec::new()
    }
    /// The whole story of one of them, by the key of a run or the id of a recommendation.
    async fn story(&self, id: String) -> Result<serde_json::Value, Refusal>;
    /// The settings in force, without secrets.
    fn config(&self) -> Arc<serde_json::Value>;
    /// Whether chiron has started up and replayed its journal; else why not.
    fn ready(&self) -> Result<(), String>;
    /// Whether chiron acts on nothing.
    fn dry_run(&self) -> bool;
    /// How alerts are taken.
    fn webhook_settings(&self) -> Arc<alerts::Settings>;
    /// Counts a notification that was refused with that code.
    fn refused(&self, code: &'static str);
    /// Counts a request that was refused for who asked, how often, or how large: by group and code.
    fn turned_away(&self, group: Group, code: &'static str);
    /// Notes whether the web configuration could be taken over, and until when our certificate then holds.
    fn web_config(&self, _ok: bool, _certificate_until: Option<Timestamp>) {}
    /// Takes alerts in, all or none; durable once it is `Ok`. `truncated` is how many the sender left out.
    async fn accept(&self, alerts: Vec<IntakeAlert>, truncated: u64) -> Result<(), Refusal>;
    /// Takes what a bot tells about itself; `NotFound` if no check that takes pushes listens under its name.
    fn push(&self, pushed: Pushed) -> Result<(), Refusal>;
    /// The vitals each bot told last, by subsystem.
    fn vitals(&self) -> serde_json::Value;
    /// Runs every check now and reports.
    async fn force_check(&self) -> Result<Arc<Report>, Refusal>;
    /// Loads the configuration again; the reason if the old one stays.
    async fn reload(&self, by: Caller) -> Result<(), String>;
    /// Ends chiron's own workers and starts them anew from the journal.
    async fn restart(&self, by: Caller, reason: String) -> Result<(), Refusal>;
    /// Holds a level for a person; loosening what is held needs the role `approve`.
    async fn set_policy(
        &self,
        level: Level,
        reason: String,
        by: Caller,
        until: Option<Timestamp>,
    ) -> Result<(), Refusal>;
    /// Releases what a person holds, and the latch.
    async fn release_policy(&self, by: Caller, reason: String) -> Result<(), Refusal>;
    /// Approves the offer with that digest of that recommendation; the run that it began.
    async fn approve(
        &self,
        recommendation: String,
        digest: String,
        by: Caller,
        reason: String,
    ) -> Result<serde_json::Value, Refusal>;
    /// Rejects the offer with that digest of that recommendation.
    async fn reject(&self, recommendation: String, digest: String, by: Caller, reason: String) -> Result<(), Refusal>;
    /// Rehearses the recovery of a subsystem for real; the id of the drill's issue, whose actions tell the rest.
    async fn drill(&self, subsystem: String, by: Caller, reason: String) -> Result<String, Refusal>;
    /// Maintenance: the windows of the settings, and what is announced.
    fn maintenance(&self) -> serde_json::Value;
    /// Announces maintenance until then on those subsystems (all if none is named), in which those actions run all the same;
    /// its id.
    async fn announce(
        &self,
        subsystems: Vec<String>,
        actions: Vec<String>,
        until: Timestamp,
        by: Caller,
        reason: String,
    ) -> Result<String, Refusal>;
    /// Ends announced maintenance early; the reason may be empty.
    async fn end_maintenance(&self, id: String, by: Caller, reason: String) -> Result<(), Refusal>;
    /// What the operator's page shows of [`workspace`](Handle::workspace).
    fn workspace_shortly(&self) -> serde_json::Value {
        self.workspace()
    }
    /// Whether the bot's workspace is healed, the latest look at it, and the latest healings.
    fn workspace(&self) -> serde_json::Value;
    /// Every healing of the workspace that is kept, without its changes.
    async fn healings(&self) -> Result<Vec<serde_json::Value>, Refusal>;
    /// One of them, whole.
    async fn healing(&self, id: String) -> Result<serde_json::Value, Refusal>;
    /// Looks at the workspace and heals it now, or only says what would be done; the report, or `None` if it takes long.
    async fn heal(&self, dry_run: bool, by: Caller) -> Result<Option<serde_json::Value>, Refusal>;
    /// Undoes a healing; with `force` also what has changed since. The answer is as above.
    async fn undo_healing(&self, id: String, force: bool, by: Caller) -> Result<Option<serde_json::Value>, Refusal>;
    /// Journal entries with a number above `after`, oldest first, at most `limit`.
    async fn history(&self, after: u64, limit: usize) -> Result<serde_json::Value, Refusal>;
    /// Entries of the audit log with a number above `after`, oldest first, at most `limit`.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, Refusal>;
}
