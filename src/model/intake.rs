//! Alerts as they are taken in, durable before they are answered (ALR-1).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fingerprint, Name, Timestamp};

/// Whether an alert says that something is wrong, or that it no longer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertStatus {
    /// Something is wrong.
    Firing,
    /// It is said to be over; to be believed only with proof.
    Resolved,
}

impl AlertStatus {
    /// The word used as a label and in payloads.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert of a notification, as stored in the intake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IntakeAlert {
    /// When it reached us.
    pub received_at: Timestamp,
    /// Alertmanager's receiver name.
    pub receiver: Name,
    /// The status of this alert; the notification's own is never used.
    pub status: AlertStatus,
    /// Our identity of it.
    pub fingerprint: Fingerprint,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// `summary` and `description`, shortened; for people only.
    pub annotations: BTreeMap<String, String>,
    /// When it began to fire, by the sender's clock; never part of the identity.
    pub starts_at: Timestamp,
    /// When it ended; `None` while firing.
    pub ends_at: Option<Timestamp>,
    /// The notification it came in was incomplete.
    pub truncated: bool,
}

/// What became of an accepted alert: exactly one outcome each; label `outcome` of `chiron_alerts_received_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertOutcome {
    /// It opened an episode, or joined one with something new to say.
    Accepted,
    /// It repeats what is known.
    Deduplicated,
    /// It ended its part of an episode.
    Resolved,
    /// It says resolved, but the proof is missing; it is kept open.
    ResolvedUnproven,
    /// It says resolved, but was not known to fire.
    ResolvedUnknown,
    /// It fires although it was closed later than it began; an old message that came late.
    Stale,
    /// The Watchdog: firing it is heard; resolved it is lost.
    Watchdog,
    /// chiron sent it itself; it is never acted upon.
    Own,
    /// No route matches it: recorded, never guessed at.
    Unrouted,
    /// Its route or label names a subsystem that is not configured.
    UnknownSubsystem,
    /// Its route or label names an action that does not exist or is not allowed there.
    UnknownAction,
}

impl AlertOutcome {
    /// Every outcome.
    pub const ALL: [Self; 11] = [
        Self::Accepted,
        Self::Deduplicated,
        Self::Resolved,
        Self::ResolvedUnproven,
        Self::ResolvedUnknown,
        Self::Stale,
        Self::Watchdog,
        Self::Own,
        Self::Unrouted,
        Self::UnknownSubsystem,
        Self::UnknownAction,
    ];

    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Deduplicated => "deduplicated",
            Self::Resolved => "resolved",
            Self::ResolvedUnproven => "resolved_unproven",
            Self::ResolvedUnknown => "resolved_unknown",
            Self::Stale => "stale",
            Self::Watchdog => "watchdog",
            Self::Own => "own",
            Self::Unrouted => "unrouted",
            Self::UnknownSubsystem => "unknown_subsystem",
            Self::UnknownAction => "unknown_action",
        }
    }
}
