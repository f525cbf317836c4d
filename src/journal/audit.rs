//! The audit log: one line for every change and every action, each bound to the one before it (SEC-4).
//!
//! A store appends the lines of a commit in the transaction of the commit. Unlike the journal it is never pruned.
//! **Invariant:** pure; [`AuditEntry::chained`] is part of the stored format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::model::Timestamp;

/// One line of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Gapless, from 1.
    pub number: u64,
    /// Wall time.
    pub at: Timestamp,
    /// Who: a person's or token's name, or `chiron`.
    pub actor: String,
    /// What kind of change: the kind of the journal's record.
    pub event: String,
    /// What it is about: a run, a subsystem, an episode, a source of the policy.
    pub subject: String,
    /// What was done, key by key.
    pub detail: Map<String, Value>,
    /// The digest of the line before, hex; 64 zeros for the first.
    pub previous: String,
    /// The digest of this line, hex.
    pub digest: String,
}

impl AuditEntry {
    /// The digest before the first line.
    pub const START: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    /// What the digest of this line must be: SHA-256, in lower-case hex, over the JSON array
    /// `[previous, number, at, actor, event, subject, detail]` without blanks, `at` in RFC 3339.
    pub fn chained(&self) -> String {
        let Self { number, at, actor, event, subject, detail, previous, digest: _ } = self;
        let text = serde_json::to_vec(&(previous, number, at, actor, event, subject, detail))
            .expect("text, numbers and maps with text keys are JSON");
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
