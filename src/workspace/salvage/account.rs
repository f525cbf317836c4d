//! What was lost, in words, bounded.
//!
//! **Invariant:** at most [`LOSSES_MAX`] entries, the last of which tells how many more there are; values of secrets are
//! never shown.

use super::Loss;
use super::decode::{Encoding, origin};
use crate::base::redact;

/// More would help nobody; the original is kept as a backup.
pub(super) const LOSSES_MAX: usize = 100;
/// How many bytes of what was lost are looked at for its excerpt.
const LOOKED_AT: usize = 160;
/// How many characters of it are shown.
const SHOWN: usize = 48;

/// Losses as they are met, in bytes of the decoded text.
#[derive(Clone, Debug, Default)]
pub(super) struct Losses {
    found: Vec<Loss>,
    total: usize,
}

impl Losses {
    pub(super) fn push(&mut self, start: usize, end: usize, what: impl FnOnce() -> String) {
        if self.found.len() < LOSSES_MAX {
            self.found.push(Loss { offset: start, len: end.saturating_sub(start), what: what() });
        }
        self.total += 1;
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub(super) const fn total(&self) -> usize {
        self.total
    }

    /// Forgets what came after `total` losses: something larger that holds them is lost instead.
    pub(super) fn rewind(&mut self, total: usize) {
        self.found.truncate(total);
        self.total = total;
    }

    pub(super) fn append(&mut self, other: Self) {
        self.total += other.total;
        let room = LOSSES_MAX.saturating_sub(self.found.len());
        self.found.extend(other.found.into_iter().take(room));
    }

    /// The account, with offsets in the file.
    pub(super) fn told(mut self, bytes: &[u8], encoding: Encoding) -> Vec<Loss> {
        if self.total > LOSSES_MAX {
            self.found.truncate(LOSSES_MAX - 1);
            let more = self.total - self.found.len();
            let from = self.found.last().map_or(0, |last| last.offset + last.len);
            self.found.push(Loss { offset: from, len: 0, what: format!("{more} more") });
        }
        for loss in &mut self.found {
            let end = origin(bytes, encoding, loss.offset + loss.len).min(bytes.len());
            loss.offset = origin(bytes, encoding, loss.offset).min(end);
            loss.len = end - loss.offset;
        }
        self.found
    }
}

/// The beginning of what was lost, printable. It ends at the name of a secret.
pub(super) fn excerpt(text: &[u8], start: usize, end: usize) -> String {
    let end = end.min(text.len());
    let seen = &text[start.min(end)..end.min(start.saturating_add(LOOKED_AT))];
    let mut shown = String::from_utf8_lossy(seen).into_owned();
    let mut begins = 0;
    while let Some(open) = shown[begins..].find('"').map(|at| begins + at) {
        let close = shown[open + 1..].find('"').map_or(shown.len(), |at| open + 1 + at);
        if redact::names_a_secret(&shown[open + 1..close]) {
            shown.truncate(close);
            break;
        }
        begins = (close + 1).min(shown.len());
    }
    redact::line(&shown, SHOWN)
}
