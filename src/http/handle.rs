//! What the HTTP side asks of the rest of chiron.

use std::sync::Arc;

use async_trait::async_trait;

use crate::alerts;
use crate::model::{IntakeAlert, Level, PolicyDocument, Report, Timestamp};

/// Why something that was asked for is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not now; asking again may help.
    #[error("{0}")]
    Unavailable(String),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It does not fit the present state.
    #[error("{0}")]
    Conflict(String),
}

/// The rest of chiron, as seen from HTTP. Methods that are not async answer at once from memory.
#[async_trait]
pub trait Handle: Send + Sync + 'static {
    /// Appends the metrics page.
    fn metrics_page(&self, out: &mut Vec<u8>);
    /// The latest report.
    fn report(&self) -> Arc<Report>;
    /// The policy in force; `issued_at` and `valid_until` are of now.
    fn policy(&self) -> Arc<PolicyDocument>;
    /// Alerts that are firing.
    fn active_alerts(&self) -> Vec<serde_json::Value>;
    /// Runs of actions, latest first.
    fn runs(&self) -> Vec<serde_json::Value>;
    /// Whether chiron has started up and replayed its journal; else why not.
    fn ready(&self) -> Result<(), String>;
    /// Whether chiron acts on nothing.
    fn dry_run(&self) -> bool;
    /// How alerts are taken.
    fn webhook_settings(&self) -> Arc<alerts::Settings>;
    /// Counts a notification that was refused with that code.
    fn refused(&self, code: &'static str);
    /// Takes alerts in, all or none; durable once it is `Ok`. `truncated` is how many the sender left out.
    async fn accept(&self, alerts: Vec<IntakeAlert>, truncated: u64) -> Result<(), Refusal>;
    /// Runs every check now and reports.
    async fn force_check(&self) -> Result<Arc<Report>, Refusal>;
    /// Loads the configuration again; the reason if the old one stays.
    async fn reload(&self) -> Result<(), String>;
    /// Holds a level for a person.
    async fn set_policy(
        &self,
        level: Level,
        reason: String,
        by: String,
        until: Option<Timestamp>,
    ) -> Result<(), Refusal>;
    /// Releases what a person holds, and the latch.
    async fn release_policy(&self, by: String, reason: String) -> Result<(), Refusal>;
    /// Journal entries with a number above `after`, oldest first, at most `limit`.
    async fn history(&self, after: u64, limit: usize) -> Result<serde_json::Value, Refusal>;
}
