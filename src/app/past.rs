//! An issue that is remembered no longer, read again from the journal.
//!
//! The id of an issue says when it was opened. Times in the journal rise but for a clock that was set, so the place is found
//! by halving, and what follows is read up to the end.
//! **Invariant:** a bounded number of entries is read, whatever is asked for, few for what never was, and for one caller
//! at a time: whoever writes the journal is never far behind.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::http::Refusal;
use crate::journal::{Entry, JournalStore, Record, State};

use super::ledger::{Id, subject};

/// Entries read at once, and in all after the place is found.
const PAGE: usize = 1_000;
const PAGES_MAX: usize = 50;
/// The id has whole seconds, and the clock may have been set a little.
const MARGIN: Duration = Duration::from_secs(60);

/// Where entries are read: a store, or a test's own.
#[async_trait]
trait Pages: Sync {
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Refusal>;
}

struct Kept<'a>(&'a dyn JournalStore);

#[async_trait]
impl Pages for Kept<'_> {
    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Refusal> {
        self.0.history(after, limit).await.map_err(|error| Refusal::Unavailable(error.to_string()))
    }
}

/// Who looks up what is past: one at a time.
#[derive(Debug, Default)]
pub struct Past(Mutex<()>);

impl Past {
    /// A state with that issue alone, if the journal still has all of it. `last` is the journal's last number.
    pub(super) async fn state(&self, store: &dyn JournalStore, id: &Id, last: u64) -> Result<Option<State>, Refusal> {
        self.find(&Kept(store), id, last).await
    }

    async fn find(&self, pages: &dyn Pages, id: &Id, last: u64) -> Result<Option<State>, Refusal> {
        let Some(opened_at) = id.opened_at() else { return Ok(None) };
        let (from, until) = (opened_at.minus(MARGIN), opened_at.plus(MARGIN));
        let Ok(_alone) = self.0.try_lock() else {
            let why = "another action that is remembered no longer is being looked up in the journal; ask again";
            return Err(Refusal::Unavailable(why.to_owned()));
        };
        if pages.read(0, 1).await?.first().is_none_or(|oldest| oldest.at > until) {
            return Ok(None);
        }
        let (mut low, mut high) = (0, last);
        while high - low > PAGE as u64 {
            let middle = low + (high - low) / 2;
            match pages.read(middle, 1).await?.first() {
                Some(entry) if entry.at < from => low = middle,
                _ => high = middle,
            }
        }
        let (mut after, mut found) = (low, Vec::new());
        for _ in 0..PAGES_MAX {
            let page = pages.read(after, PAGE).await?;
            let Some((seq, at)) = page.last().map(|entry| (entry.seq, entry.at)) else { break };
            after = seq;
            let is_ours = |entry: &Entry| subject(&entry.record).is_some_and(|about| *about == id.episode);
            found.extend(page.into_iter().filter(is_ours));
            let is_over = |entry: &Entry| matches!(entry.record, Record::EpisodeResolved { .. });
            // One that has not been opened by now never was.
            if found.last().map_or(at > until, is_over) {
                break;
            }
        }
        // The issue's own records, numbered anew, are a whole journal of it.
        for (seq, entry) in (1..).zip(&mut found) {
            entry.seq = seq;
        }
        Ok(State::default().replay(&found).ok().filter(|state| state.seq > 0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::Timestamp;

    /// Entries in which nothing is found, how many of them were read, and whether reading ever ends.
    struct Book {
        entries: Vec<Entry>,
        taken: AtomicUsize,
        hangs: bool,
    }

    #[async_trait]
    impl Pages for Book {
        async fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, Refusal> {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let page = self.entries.iter().skip_while(|entry| entry.seq <= after).take(limit);
            let page: Vec<Entry> = page.cloned().collect();
            self.taken.fetch_add(page.len(), Ordering::SeqCst);
            Ok(page)
        }
    }

    fn begin() -> Timestamp {
        Timestamp::parse_rfc3339("2026-01-01T00:00:00Z").unwrap()
    }

    /// One entry a second.
    fn book(count: u64, hangs: bool) -> Book {
        let record = || Record::RestartAsked { by: "ana".to_owned(), reason: "x".to_owned() };
        let one = |seq: u64| Entry { seq, at: begin().plus(Duration::from_secs(seq)), record: record() };
        Book { entries: (1..=count).map(one).collect(), taken: AtomicUsize::new(0), hangs }
    }

    fn id(at: Timestamp) -> Id {
        Id::parse(&format!("rec_1_feed_{}", at.to_datetime().format("%Y%m%d_%H%M%S"))).unwrap()
    }

    /// SPEC 12: what never was costs a few pages at most, and next to nothing if it is older than the journal.
    #[tokio::test]
    async fn what_never_was_is_soon_not_found() {
        let (past, book) = (Past::default(), book(60_000, false));
        for second in [1, 30_000, 59_990] {
            let id = id(begin().plus(Duration::from_secs(second)));
            assert!(past.find(&book, &id, 60_000).await.unwrap().is_none());
            let taken = book.taken.swap(0, Ordering::SeqCst);
            assert!(taken <= 2 * PAGE + 20, "{second}: {taken}");
        }
        assert!(past.find(&book, &id(begin().minus(Duration::from_secs(3_600))), 60_000).await.unwrap().is_none());
        assert_eq!(book.taken.load(Ordering::SeqCst), 1);
    }

    /// SPEC 12: one looks at a time; who comes meanwhile is told to come again.
    #[tokio::test]
    async fn one_looks_at_a_time() {
        let (past, hangs, empty, id) = (Past::default(), book(1, true), book(0, false), id(begin()));
        tokio::select! {
            biased;
            _ = past.find(&hangs, &id, 1) => panic!("it waits"),
            second = past.find(&empty, &id, 1) => {
                assert!(matches!(second, Err(Refusal::Unavailable(why)) if why.contains("ask again")));
            }
        }
        assert!(past.find(&empty, &id, 1).await.unwrap().is_none(), "who gave up is in nobody's way");
    }
}
