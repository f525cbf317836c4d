//! The table of legal moves of a run, and what a store must check in the transaction of each record.

use crate::model::{RunKey, RunState};

use super::Record;

/// Every legal move. Anything else is refused by the store and by [`super::State::apply`].
const LEGAL: [(RunState, RunState); 8] = [
    (RunState::Intended, RunState::Started),
    (RunState::Intended, RunState::Cancelled),
    (RunState::Started, RunState::Started),
    (RunState::Started, RunState::Finished),
    (RunState::Started, RunState::Indeterminate),
    (RunState::Finished, RunState::Verified),
    (RunState::Finished, RunState::Indeterminate),
    (RunState::Started, RunState::Cancelled),
];

/// Whether a run may move so. `Started` to `Started` is a resumption after a crash; `Started` to `Cancelled` is a
/// start that provably never reached the effect.
pub fn is_legal(from: RunState, to: RunState) -> bool {
    LEGAL.contains(&(from, to))
}

/// What the store checks, in the same transaction, before it appends a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Guard<'a> {
    /// Nothing.
    Free,
    /// No run of this key exists; it is created as `Intended`.
    NewRun(&'a RunKey),
    /// The run exists and may legally move to this state (compare-and-set against [`is_legal`]).
    MoveRun(&'a RunKey, RunState),
    /// Sets the latch.
    Latch,
    /// Clears the latch; the record names a person and a reason, neither empty.
    Unlatch,
}

/// The guard of a record.
pub fn guard(record: &Record) -> Guard<'_> {
    match record {
        Record::RunIntended { key, .. } => Guard::NewRun(key),
        Record::RunStarted { key, .. } | Record::RunResumed { key } => Guard::MoveRun(key, RunState::Started),
        Record::RunFinished { key, .. } => Guard::MoveRun(key, RunState::Finished),
        Record::RunVerified { key, .. } => Guard::MoveRun(key, RunState::Verified),
        Record::RunCancelled { key, .. } => Guard::MoveRun(key, RunState::Cancelled),
        Record::RunIndeterminate { key, .. } => Guard::MoveRun(key, RunState::Indeterminate),
        Record::Latched { .. } => Guard::Latch,
        Record::LatchReleased { .. } => Guard::Unlatch,
        Record::InstanceStarted { .. }
        | Record::ConfigLoaded { .. }
        | Record::EpisodeOpened { .. }
        | Record::EpisodeChanged { .. }
        | Record::EpisodeResolved { .. }
        | Record::EpisodeEscalated { .. }
        | Record::AlertTaken { .. }
        | Record::AlertBelieved { .. }
        | Record::RecommendationHeld { .. }
        | Record::ClockSet { .. }
        | Record::MaintenanceSet { .. }
        | Record::MaintenanceEnded { .. }
        | Record::HookTold { .. }
        | Record::HookAnswered { .. }
        | Record::HookFollowed { .. }
        | Record::HookEnded { .. }
        | Record::RungSkipped { .. }
        | Record::ApprovalAsked { .. }
        | Record::ApprovalEnded { .. }
        | Record::DrillAsked { .. }
        | Record::RestartAsked { .. }
        // `State::apply` takes each healing once; the one writer knows which it has.
        | Record::WorkspaceChanged { .. }
        | Record::WorkspaceHealed { .. }
        | Record::HoldSet { .. }
        | Record::HoldEnded { .. } => Guard::Free,
    }
}
