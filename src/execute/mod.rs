//! Stage 4: the only stage that changes the world.
//!
//! In: an [`Order`] whose run is durably `started`. Out: an [`Answer`], which the decision task journals.
//! **Invariant:** no order is built here; nothing here decides whether to act.

pub mod actions;
pub mod actuators;
mod begin;
mod command;
pub mod engine;
mod environment;
mod identity;
mod program;
pub mod survivors;
pub mod template;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{Class, Ending, Means, Name, RunKey};

pub use environment::Environment;

/// How success is looked for after an action (ACT-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifySettings {
    /// Wait before the first look.
    pub settle: Duration,
    /// Unverified if not healthy by then, counted from the end of the action.
    pub within: Duration,
    /// Healthy checks in a row that count as proof; at least 1.
    pub hold_down: u32,
}

/// The configured pairing of action, target and means.
#[derive(Clone)]
pub struct Binding {
    /// `ACTION@SUBSYSTEM`, unique.
    pub id: Name,
    /// The verb.
    pub action: Name,
    /// The target.
    pub subsystem: Name,
    /// What a crash permits.
    pub class: Class,
    /// How success is looked for.
    pub verify: VerifySettings,
    /// Further tries on the same rung for an ending that permits one (ACT-3); 0 by default.
    pub retries: u32,
    /// Ended at this time, with its process group; 60 s by default.
    pub timeout: Duration,
    /// Only rehearsed, whatever else is acted upon.
    pub dry_run: bool,
    /// Where the settings have it (`chiron.yml:12:5: bindings[0]`), for what is told about it; empty if nowhere.
    pub place: String,
    /// What carries it out.
    pub actuator: Arc<dyn Actuator>,
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("id", &self.id).field("class", &self.class).finish_non_exhaustive()
    }
}

/// What an actuator is told. Nothing in it comes from an alert's text (SEC-5).
#[derive(Clone, Debug)]
pub struct Order {
    /// The run; also the key under which a `keyed` target recognises a repetition.
    pub key: RunKey,
    /// The verb.
    pub action: Name,
    /// The target.
    pub target: Name,
    /// The epoch, for targets that can check it.
    pub epoch: u64,
    /// Ended at this time.
    pub timeout: Duration,
    /// What is to be told to the means about why: fixed sets, and a symbol that a check has found.
    pub about: About,
    /// What [`Actuator::evidence`] gave before the run was started.
    pub evidence: Option<String>,
}

/// What an order is about; with the order's own fields, all that a template may use. Empty texts where there is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The issue's type.
    pub issue_type: String,
    /// The issue's severity.
    pub severity: &'static str,
    /// The symbol that the issue is about, if it is about one only.
    pub symbol: String,
    /// The policy in force, for a hook the one to be told.
    pub policy: &'static str,
    /// The policy's sequence number; 0 where it does not matter.
    pub sequence: u64,
}

/// How the means answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub ending: Ending,
    /// One sentence: exit code, error.
    pub detail: String,
    /// The end of what it printed, at most 4 KiB, valid UTF-8.
    pub output: String,
    /// What is different now, one sentence: `main process 12 -> 34`. Empty if that is not known.
    pub changed: String,
}

impl Answer {
    /// An answer without output.
    pub fn new(ending: Ending, detail: impl Into<String>) -> Self {
        Self { ending, detail: detail.into(), output: String::new(), changed: String::new() }
    }
}

/// What a probe says about a run that a crash interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The effect is in place.
    Happened,
    /// It provably is not.
    DidNotHappen,
    /// It cannot be told.
    Unknown,
    /// Ask the subsystem's check instead.
    AskCheck,
}

/// A means with its parameters.
#[async_trait]
pub trait Actuator: Send + Sync + 'static {
    /// Which means it is.
    fn means(&self) -> Means;

    /// Whether [`Actuator::evidence`] is to be asked before a `probeable` run is started.
    fn takes_evidence(&self) -> bool {
        false
    }

    /// What tells before from after (a unit's invocation, a process's start), as a text that only [`Actuator::probe`] reads.
    /// Taken before the run is `started`, and durable with it. `None` if it cannot be told now.
    async fn evidence(&self, _order: &Order) -> Option<String> {
        None
    }

    /// Does it. Never panics on what it meets; ends within the order's timeout plus a short grace.
    async fn apply(&self, order: &Order) -> Answer;

    /// For class `probeable`, after a crash: did it happen?
    async fn probe(&self, order: &Order) -> ProbeAnswer;

    /// What would keep it from working now (a missing program or unit, an unwritable folder, a socket that does not answer,
    /// credentials that are refused). Changes nothing; empty if all is well. The caller bounds its time.
    async fn preflight(&self) -> Vec<String>;

    /// Whether it verifies whom it speaks TLS with; `None` if it speaks none (SEC-2).
    fn verifies_tls(&self) -> Option<bool> {
        None
    }

    /// One line for people: what would be done.
    fn describe(&self) -> String;
}
