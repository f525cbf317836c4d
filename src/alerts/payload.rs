//! What a notification is once it has been understood.

use crate::model::{IntakeAlert, Name, Timestamp};

use super::Settings;

/// A notification of Alertmanager, understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// Alertmanager's receiver name.
    pub receiver: Name,
    /// Which group it is about.
    pub group_key: String,
    /// Alerts that Alertmanager left out.
    pub truncated: u64,
    /// The alerts.
    pub alerts: Vec<IntakeAlert>,
}

/// Why a body can never be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadProblem {
    /// From a fixed set; a metric label.
    pub code: &'static str,
    /// What was found, what was expected, where.
    pub detail: String,
}

/// Reads the body of a notification.
pub fn parse(_body: &[u8], _now: Timestamp, _settings: &Settings) -> Result<Notification, PayloadProblem> {
    Err(PayloadProblem { code: "unsupported", detail: "this build reads no notifications".to_owned() })
}
