//! How often something was started anew of late, from a count that only rises.
//!
//! **Invariant:** ages are of the time since boot; what happened before the first look is not counted; bounded.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Rises that are remembered apart; older ones are added to the oldest.
const RISES_MAX: usize = 64;

/// The rises of one count.
#[derive(Debug, Default)]
pub struct Restarts(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// Whose count it is, and what it was last.
    last: Option<(String, u64)>,
    rises: VecDeque<(Duration, u64)>,
}

impl Restarts {
    /// Takes the count of `whose` at `now`, the time since boot; answers how much it rose within `window`. Another
    /// owner, or a lower count, begins anew.
    pub fn within(&self, whose: &str, count: u64, now: Duration, window: Duration) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rise = match &seen.last {
            Some((owner, last)) if owner == whose => count.saturating_sub(*last),
            _ => {
                seen.rises.clear();
                0
            }
        };
        seen.last = Some((whose.to_owned(), count));
        if rise > 0 {
            if seen.rises.len() >= RISES_MAX
                && let Some((_, oldest)) = seen.rises.pop_front()
                && let Some((_, next)) = seen.rises.front_mut()
            {
                *next = next.saturating_add(oldest);
            }
            seen.rises.push_back((now, rise));
        }
        while seen.rises.front().is_some_and(|(at, _)| now.saturating_sub(*at) > window) {
            seen.rises.pop_front();
        }
        seen.rises.iter().fold(0, |sum: u64, (_, rise)| sum.saturating_add(*rise))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-7: only what rose within the window counts; another owner and a count set back begin anew.
    #[test]
    fn rises_within_the_window() {
        let restarts = Restarts::default();
        for (whose, count, at, expected) in [
            ("a", 7, 0, 0),
            ("a", 8, 10, 1),
            ("a", 10, 50, 3),
            ("a", 10, 70, 3),
            ("a", 10, 71, 2),
            ("a", 0, 80, 2),
            ("a", 1, 90, 3),
            ("b", 9, 91, 0),
            ("b", 11, 92, 2),
            ("b", 11, 400, 0),
        ] {
            let found = restarts.within(whose, count, Duration::from_secs(at), Duration::from_secs(60));
            assert_eq!(found, expected, "{whose} {count} at {at}");
        }
        for count in 0..10_000 {
            let _ = restarts.within("c", count, Duration::from_secs(500), Duration::from_secs(60));
        }
        assert_eq!(restarts.within("c", 10_000, Duration::from_secs(501), Duration::from_secs(60)), 10_000);
    }
}
