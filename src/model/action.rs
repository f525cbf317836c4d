//! What an action is, as data that every stage may read.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Level;

/// How far an action may go alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Autonomy {
    /// Runs by itself.
    Automatic,
    /// Runs once a person has approved it.
    Approval,
    /// Only shown; a person does it.
    Manual,
}

/// What carries an action out, for people and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// A command.
    Exec,
    /// A file written, touched or deleted.
    File,
    /// A unit of systemd, over D-Bus.
    Systemd,
    /// A container, over the Docker API.
    Container,
    /// A signal to a process.
    Signal,
    /// A request over HTTP.
    Http,
    /// chiron's own policy.
    Internal,
}

impl Means {
    /// The word used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::File => "file",
            Self::Systemd => "systemd",
            Self::Container => "container",
            Self::Signal => "signal",
            Self::Http => "http",
            Self::Internal => "internal",
        }
    }
}

/// The verb of section 6: what it does and how far it may go. Declared once, in the action's own file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ActionSpec {
    /// Verb first, snake_case.
    pub name: &'static str,
    /// What is true once it worked.
    pub expected_result: &'static str,
    /// What it may cost.
    pub risk: &'static str,
    /// The autonomy where neither REC-1 nor the configuration says otherwise.
    pub autonomy: Autonomy,
    /// It contains damage and heals nothing: verified by its effect, never counts as an exhausted ladder (OBS-1).
    pub containing: bool,
    /// It lowers risk: needs no budget, cooldown or approval.
    pub lowers_risk: bool,
    /// It raises risk, as what undoes a containing action does: needs verified health, a live Watchdog and a policy that
    /// permits it. Never true together with `lowers_risk`.
    pub raises_risk: bool,
    /// Only while the policy in force is no stricter than this; `None` if it does not matter.
    pub needs_policy: Option<Level>,
    /// The level that chiron holds for it until the episode ends (ACT-1), its built-in binding.
    pub holds: Option<Level>,
    /// The action that undoes it, where one exists.
    pub reverse: Option<&'static str>,
    /// How long its effect may take to show, before verification begins.
    pub settle: Duration,
    /// The doc page, under the fixed headings.
    pub doc: &'static str,
}
