//! An issue that is remembered no longer, read again from the journal.
//!
//! The id of an issue says when it was opened. Times in the journal rise but for a clock that was set, so the place is found
//! by halving, and what follows is read up to the end.
//! **Invariant:** a bounded number of entries is read, whatever is asked for.

use std::time::Duration;

use crate::http::Refusal;
use crate::journal::{Entry, JournalStore, Record, State};

use super::ledger::{Id, subject};

/// Entries read at once, and in all after the place is found.
const PAGE: usize = 1_000;
const PAGES_MAX: usize = 50;
/// The id has whole seconds, and the clock may have been set a little.
const MARGIN: Duration = Duration::from_secs(60);

/// A state with that issue alone, if the journal still has all of it. `last` is the journal's last number.
pub(super) async fn state(store: &dyn JournalStore, id: &Id, last: u64) -> Result<Option<State>, Refusal> {
    let Some(opened_at) = id.opened_at().map(|at| at.minus(MARGIN)) else { return Ok(None) };
    let (mut low, mut high) = (0, last);
    while high - low > PAGE as u64 {
        let middle = low + (high - low) / 2;
        match read(store, middle, 1).await?.first() {
            Some(entry) if entry.at < opened_at => low = middle,
            _ => high = middle,
        }
    }
    let (mut after, mut found) = (low, Vec::new());
    for _ in 0..PAGES_MAX {
        let page = read(store, after, PAGE).await?;
        let Some(end) = page.last().map(|entry| entry.seq) else { break };
        after = end;
        let ours = page.into_iter().filter(|entry| subject(&entry.record).is_some_and(|about| *about == id.episode));
        found.extend(ours);
        if found.last().is_some_and(|entry: &Entry| matches!(entry.record, Record::EpisodeResolved { .. })) {
            break;
        }
    }
    // The issue's own records, numbered anew, are a whole journal of it.
    for (seq, entry) in (1..).zip(&mut found) {
        entry.seq = seq;
    }
    Ok(State::default().replay(&found).ok().filter(|state| state.seq > 0))
}

async fn read(store: &dyn JournalStore, after: u64, limit: usize) -> Result<Vec<Entry>, Refusal> {
    store.history(after, limit).await.map_err(|error| Refusal::Unavailable(error.to_string()))
}
