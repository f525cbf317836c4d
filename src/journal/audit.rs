//! The audit log: one line for every change and every action, each bound to the one before it (SEC-4).
//!
//! A store appends the lines of a commit in the transaction of the commit. Unlike the journal it is never pruned.
//! **Invariant:** pure; [`AuditEntry::chained`] is part of the stored format.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::model::Timestamp;

use super::Record;

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

/// What the audit log says of a record, before it has its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Who.
    pub actor: String,
    /// The record's kind.
    pub event: &'static str,
    /// What it is about.
    pub subject: String,
    /// The record's own keys, without what a command printed.
    pub detail: Map<String, Value>,
}

/// The actor of what nobody asked for.
const ITSELF: &str = "chiron";

impl Line {
    /// What the audit log says of a record; `None` for what changes nothing and acts on nothing.
    pub fn of(record: &Record) -> Option<Self> {
        let (actor, subject) = match record {
            Record::InstanceStarted { incarnation, .. } => (ITSELF, incarnation.clone()),
            Record::ConfigLoaded { digest, by, .. } => (by.as_deref().unwrap_or(ITSELF), digest.clone()),
            Record::RunIntended { key, .. }
            | Record::RunStarted { key, .. }
            | Record::RunResumed { key }
            | Record::RunFinished { key, .. }
            | Record::RunVerified { key, .. }
            | Record::RunCancelled { key, .. }
            | Record::RunIndeterminate { key, .. }
            | Record::ApprovalAsked { key, .. } => (ITSELF, key.to_string()),
            Record::ApprovalEnded { key, by, .. } => (by.as_str(), key.to_string()),
            Record::MaintenanceSet { id, by, .. } => (by.as_str(), format!("maintenance/{id}")),
            Record::MaintenanceEnded { id, by, .. } => (by.as_deref().unwrap_or(ITSELF), format!("maintenance/{id}")),
            Record::HookTold { hook, .. }
            | Record::HookAnswered { hook, .. }
            | Record::HookFollowed { hook, .. }
            | Record::HookEnded { hook } => (ITSELF, format!("hook/{hook}")),
            Record::DrillAsked { episode, by, .. } => (by.as_str(), episode.to_string()),
            Record::RestartAsked { by, .. } => (by.as_str(), "workers".to_owned()),
            Record::WorkspaceChanged { by, change, .. } => {
                (by.as_deref().unwrap_or(ITSELF), format!("workspace/{}", change.path))
            }
            Record::WorkspaceHealed { healing, by, .. } => {
                (by.as_deref().unwrap_or(ITSELF), format!("healing/{healing}"))
            }
            Record::ClockSet { .. } => (ITSELF, "clock".to_owned()),
            Record::EpisodeEscalated { id, .. } => (ITSELF, id.to_string()),
            Record::HoldSet { source, subject, by, .. } | Record::HoldEnded { source, subject, by, .. } => {
                (by.as_deref().unwrap_or(ITSELF), format!("{}/{subject}", source.as_str()))
            }
            Record::Latched { .. } => (ITSELF, "latch".to_owned()),
            Record::LatchReleased { by, .. } => (by.as_str(), "latch".to_owned()),
            Record::EpisodeOpened { .. }
            | Record::EpisodeChanged { .. }
            | Record::EpisodeResolved { .. }
            | Record::AlertTaken { .. }
            | Record::AlertBelieved { .. }
            | Record::RecommendationHeld { .. }
            | Record::RungSkipped { .. } => return None,
        };
        let mut detail = match serde_json::to_value(record) {
            Ok(Value::Object(keys)) => keys,
            _ => Map::new(),
        };
        for told in ["kind", "by", "output"] {
            detail.shift_remove(told);
        }
        Some(Self { actor: actor.to_owned(), event: record.kind(), subject, detail })
    }

    /// The line with its place behind the line `number` whose digest is `previous`.
    pub fn after(self, number: u64, previous: &str, at: Timestamp) -> AuditEntry {
        let Self { actor, event, subject, detail } = self;
        let mut entry = AuditEntry {
            number: number + 1,
            at,
            actor,
            event: event.to_owned(),
            subject,
            detail,
            previous: previous.to_owned(),
            digest: String::new(),
        };
        entry.digest = entry.chained();
        entry
    }
}

/// Checks that entries follow one another from the line `number` whose digest is `previous`: the number and digest of the
/// last, or which line is wrong and how.
pub fn follow<'a>(
    (mut number, mut previous): (u64, String),
    entries: impl IntoIterator<Item = &'a AuditEntry>,
) -> Result<(u64, String), String> {
    for entry in entries {
        let expected = number + 1;
        if entry.number != expected {
            return Err(format!("audit line {expected}: found line {} in its place", entry.number));
        }
        if entry.previous != previous {
            return Err(format!("audit line {expected}: it follows another line than {number}"));
        }
        if entry.digest != entry.chained() {
            return Err(format!("audit line {expected}: its digest does not fit what it says"));
        }
        (number, previous) = (expected, entry.digest.clone());
    }
    Ok((number, previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<AuditEntry> {
        let mut entries: Vec<AuditEntry> = Vec::new();
        for reason in ["one", "two", "three"] {
            let record = Record::LatchReleased { by: "alice".to_owned(), reason: reason.to_owned() };
            let line = Line::of(&record).expect("a release is audited");
            let (number, previous) =
                entries.last().map_or((0, AuditEntry::START.to_owned()), |last| (last.number, last.digest.clone()));
            entries.push(line.after(number, &previous, Timestamp::from_millis(1)));
        }
        entries
    }

    /// SEC-4: any change, loss or exchange of a line is found, and the line is named.
    #[test]
    fn a_broken_chain_is_found() {
        let start = || (0, AuditEntry::START.to_owned());
        let whole = chain();
        assert_eq!(follow(start(), &whole).expect("whole").0, 3);
        type Edit = fn(&mut Vec<AuditEntry>);
        let edits: [(&str, Edit); 6] = [
            ("line 2", |chain| chain[1].actor = "mallory".to_owned()),
            ("line 2", |chain| drop(chain.remove(1))),
            ("line 1", |chain| chain.swap(0, 1)),
            ("line 3", |chain| chain[2].at = Timestamp::from_millis(2)),
            ("line 3", |chain| {
                chain[1].detail.insert("reason".to_owned(), "else".into());
                chain[1].digest = chain[1].chained();
            }),
            ("line 1", |chain| drop(chain.remove(0))),
        ];
        for (place, edit) in edits {
            let mut broken = whole.clone();
            edit(&mut broken);
            let found = follow(start(), &broken).expect_err(place);
            assert!(found.contains(place), "{found}");
        }
    }

    /// The digest is part of the stored format: a change of it would break every chain there is.
    #[test]
    fn the_digest_stays_what_it_is() {
        assert_eq!(chain()[0].digest, "71b72f9707343aede4447749af626c827f9a7ee39a2d7d3b029265c693ace948");
        let entry = &chain()[0];
        assert_eq!(
            (entry.actor.as_str(), entry.event.as_str(), entry.subject.as_str()),
            ("alice", "latch_released", "latch")
        );
    }
}
