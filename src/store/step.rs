//! What each record asks of a store's tables, and the wording of every refusal; shared by all stores.
//!
//! **Invariant:** pure; the tables themselves, and the comparison against them, belong to each store.

use crate::journal::{Epoch, Guard, Record, StoreError, StoreErrorKind, guard, is_legal};
use crate::model::{Level, RunState};

/// Every state of a run, to list those from which a move is legal.
pub(super) const STATES: [RunState; 6] = [
    RunState::Intended,
    RunState::Started,
    RunState::Finished,
    RunState::Verified,
    RunState::Cancelled,
    RunState::Indeterminate,
];

/// What a record changes beside the journal itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Free,
    /// Creates the run as intended; refused if it exists.
    NewRun(String),
    /// Moves the run along the legal table, compared and set.
    MoveRun(String, RunState),
    /// Sets the latch.
    Latch(String),
    /// Clears the latch; by whom, why.
    Unlatch(String, String),
    /// Replaces what the source holds for the subject.
    Hold {
        /// The source's word.
        source: &'static str,
        /// For what.
        subject: String,
        /// The level's place in the order of strictness, 0 for `allow_all`.
        rank: u8,
    },
    /// The source holds nothing for the subject any more.
    EndHold {
        /// The source's word.
        source: &'static str,
        /// For what.
        subject: String,
    },
    /// The intake row has its outcome and may go.
    Taken(u64),
}

impl Step {
    /// The step of a record.
    pub(super) fn of(record: &Record) -> Self {
        match guard(record) {
            Guard::NewRun(key) => Self::NewRun(key.to_string()),
            Guard::MoveRun(key, to) => Self::MoveRun(key.to_string(), to),
            Guard::Free | Guard::Latch | Guard::Unlatch => match record {
                Record::Latched { reason } => Self::Latch(reason.clone()),
                Record::LatchReleased { by, reason } => Self::Unlatch(by.clone(), reason.clone()),
                Record::HoldSet { source, subject, level, .. } => {
                    Self::Hold { source: source.as_str(), subject: subject.to_string(), rank: rank(*level) }
                }
                Record::HoldEnded { source, subject, .. } => {
                    Self::EndHold { source: source.as_str(), subject: subject.to_string() }
                }
                Record::AlertTaken { intake, .. } => Self::Taken(*intake),
                _ => Self::Free,
            },
        }
    }
}

/// The level's place in the order of strictness, 0 for `allow_all`.
pub(super) const fn rank(level: Level) -> u8 {
    level as u8
}

/// The states from which a run may move to `to`.
pub(super) fn legal_from(to: RunState) -> impl Iterator<Item = RunState> {
    STATES.into_iter().filter(move |from| is_legal(*from, to))
}

/// Refuses a record that `tighten` never takes; whether a hold is above the present one is the store's to compare.
pub(super) fn may_tighten(record: &Record) -> Result<(), StoreError> {
    match record {
        Record::HoldSet { .. } | Record::Latched { .. } => Ok(()),
        other => Err(conflict(format!(
            "found `{}` among records that may only tighten, expected `hold_set` or `latched`",
            other.kind()
        ))),
    }
}

/// Refuses a hold that is not above what is held; nothing held counts as `allow_all`.
pub(super) fn must_rise(source: &str, subject: &str, rank: u8, held: Option<u8>) -> Result<(), StoreError> {
    if rank > held.unwrap_or(0) {
        return Ok(());
    }
    let word = |rank: u8| Level::ALL.get(usize::from(rank)).map_or("an unknown level", |level| level.as_str());
    Err(conflict(format!(
        "`{source}` asks for `{}` for `{subject}`, expected a level above `{}`, which it holds",
        word(rank),
        word(held.unwrap_or(0)),
    )))
}

/// Refuses a release that names no person or no reason.
pub(super) fn must_be_signed(by: &str, reason: &str) -> Result<(), StoreError> {
    if by.trim().is_empty() || reason.trim().is_empty() {
        return Err(conflict("a release of the latch without a person or a reason, expected both"));
    }
    Ok(())
}

/// Refuses a snapshot that stands where no entry is, or before the latest one.
pub(super) fn snapshot_fits(seq: u64, pruned: u64, last: u64, latest: Option<u64>) -> Result<(), StoreError> {
    if seq > last || seq < pruned {
        return Err(conflict(format!("a snapshot at entry {seq}, expected one of {pruned} to {last}")));
    }
    if let Some(latest) = latest.filter(|latest| seq < *latest) {
        return Err(conflict(format!("a snapshot at entry {seq}, but there is one at {latest} already")));
    }
    Ok(())
}

/// A stale epoch.
pub(super) fn fenced(held: Epoch, current: u64) -> StoreError {
    let (held, context) = (held.0, "another instance has taken the journal over; stop acting");
    StoreError::new(StoreErrorKind::Fenced, format!("epoch {held} was used, {current} is current: {context}"))
}

/// A run that exists already.
pub(super) fn run_exists(key: &str) -> StoreError {
    conflict(format!("run `{key}` exists already"))
}

/// A move that the table of legal moves does not hold.
pub(super) fn illegal_move(key: &str, from: Option<&str>, to: RunState) -> StoreError {
    let to = to.as_str();
    conflict(match from {
        Some(from) => format!("run `{key}` is `{from}` and may not become `{to}`"),
        None => format!("run `{key}` does not exist and cannot become `{to}`"),
    })
}

/// What does not fit what is stored.
pub(super) fn conflict(context: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Conflict, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_the_strictness_of_levels() {
        for (place, level) in Level::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(rank(level)), place);
        }
    }

    #[test]
    fn a_hold_must_rise() {
        assert!(must_rise("alert", "host", 1, None).is_ok());
        assert!(must_rise("alert", "host", 0, None).is_err());
        assert!(must_rise("alert", "host", 3, Some(2)).is_ok());
        assert!(must_rise("alert", "host", 2, Some(2)).is_err());
    }

    #[test]
    fn only_legal_origins_are_listed() {
        let from: Vec<_> = legal_from(RunState::Finished).collect();
        assert_eq!(from, [RunState::Started]);
        assert_eq!(legal_from(RunState::Intended).count(), 0);
    }
}
