//! How many runs a target, and the whole platform, may see: two token buckets.
//!
//! A bucket holds `budget` tokens and gets one back each `window / budget`. A start takes one; without a token nothing is
//! started. So any interval of length `t` sees at most `budget + t * budget / window` starts.
//! **Invariant:** what a bucket holds follows from the remembered starts alone, so that neither a restart nor a clock that
//! goes back puts a token in. Whole numbers throughout: the moment that is named is the very moment.

use std::time::Duration;

use crate::model::{STARTS_REMEMBERED, Timestamp};

use super::{Ledger, Settings};

/// When both buckets hold a token again, if one of them does not now.
pub(super) fn until(ledger: &Ledger<'_>, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    let target = Bucket::after(ledger.target_starts, settings.target_budget, settings.target_window);
    let overall = Bucket::after(ledger.overall_starts, settings.overall_budget, settings.overall_window);
    target.until(now).max(overall.until(now))
}

/// What the starts have left, told by when the bucket is full again. Times are counted in milliseconds times the budget,
/// in which a token is worth exactly the window.
struct Bucket {
    budget: i128,
    window: i128,
    full_at: i128,
}

impl Bucket {
    /// Folds over the starts, in the order in which they were made.
    fn after(starts: &[Timestamp], budget: u32, window: Duration) -> Self {
        let (budget, window) = (i128::from(budget), i128::try_from(window.as_millis()).unwrap_or(i128::MAX >> 64));
        let mut full_at = i128::MIN;
        let mut latest = i128::MIN;
        for (index, start) in starts.iter().enumerate() {
            // A clock that was set back does not make a later start an earlier one.
            latest = latest.max(i128::from(start.millis()) * budget);
            // What was forgotten may have taken every token.
            let forgotten = index == 0 && starts.len() >= STARTS_REMEMBERED;
            full_at = if forgotten { latest + budget * window } else { full_at.max(latest) + window };
            // What a person approves is started without a token too; an empty bucket owes nothing.
            full_at = full_at.min(latest + budget * window);
        }
        Self { budget, window, full_at }
    }

    /// When there is a token again, if there is none.
    fn until(&self, now: Timestamp) -> Option<Timestamp> {
        if self.budget == 0 {
            return Some(now.plus(Duration::from_millis(u64::try_from(self.window).unwrap_or(u64::MAX))));
        }
        if self.full_at == i128::MIN {
            return None;
        }
        let one_at = self.full_at - (self.budget - 1) * self.window;
        if i128::from(now.millis()) * self.budget >= one_at {
            return None;
        }
        // Rounded up, so that at the moment named the token is whole.
        let millis = one_at.div_euclid(self.budget) + i128::from(one_at.rem_euclid(self.budget) != 0);
        Some(Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX)))
    }
}
