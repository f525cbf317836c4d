//! The durable record of what was decided and done, and the state that follows from it.
//!
//! In: [`Record`]s from the decision task. Out: [`State`], by [`State::apply`] alone, live and in replay.
//! **Invariant:** pure; stores implement [`JournalStore`] elsewhere, and nothing here does I/O.

pub mod audit;
mod episode;
mod record;
mod state;
mod store;
mod transitions;

pub use audit::{AuditEntry, Line};
pub use episode::{Reply, ToldAlert};
pub use record::{AlertPart, ApprovalEnd, Before, Entry, IssueFacts, Record, Rung, RungOrigin};
pub use state::{
    ActiveAlert, Episode, Healings, Hold, HoldKey, Illegal, LastTouch, Maintenance, Note, Question, Run, State, Told,
    Totals,
};
pub use store::{Epoch, JournalStore, Recovered, StoreError, StoreErrorKind};
pub use transitions::{Guard, guard, is_legal};
