//! A decision in the making: the records it will append and the state that follows from them.
//!
//! **Invariant:** the state of a draft is always the journal's state plus exactly the draft's records, in order.

use crate::journal::{Entry, Record, State};
use crate::model::Timestamp;

/// Records not yet durable, and the state as if they were.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The state with all records applied.
    pub state: State,
    /// The records, in order.
    pub records: Vec<Record>,
    /// The time of the decision.
    pub now: Timestamp,
}

impl Draft {
    /// Begins a decision on `state`.
    pub fn new(state: State, now: Timestamp) -> Self {
        Self { state, records: Vec::new(), now }
    }

    /// Appends a record.
    ///
    /// # Panics
    /// If the record contradicts the state: a decision never does that.
    pub fn push(&mut self, record: Record) {
        let entry = Entry { seq: self.state.seq + 1, at: self.now, record };
        self.state.apply(&entry).expect("a decision fits the state it was made on");
        self.records.push(entry.record);
    }
}
