//! How often something was started anew of late, from a count that only rises.
//!
//! A start by somebody, an operator or an action, sets the count of both systemd and the engines back. If it was 0, or
//! was not set back because the unit was between two runs, another run with the same count tells.
//!
//! **Invariant:** ages are of the time since boot; what happened before the first look, and before somebody's start, is
//! not counted; bounded.

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
    /// The run that was last seen, and the count then.
    run: Option<(String, u64)>,
    rises: VecDeque<(Duration, u64)>,
}

impl Restarts {
    /// Takes the count of `whose` at `now`, the time since boot; answers how much it rose within `window`. `run` tells one
    /// run from the next; `None` while a start is under way. Another owner, a lower count, or another run without a rise,
    /// begins anew: somebody has started it.
    pub fn within(&self, whose: &str, count: u64, run: Option<&str>, now: Duration, window: Duration) -> u64 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_started = match (&seen.run, run) {
            (Some((before, then)), Some(run)) => before != run && *then == count,
            _ => false,
        };
        let rise = match &seen.last {
            Some((owner, last)) if owner == whose && count >= *last && !is_started => count - *last,
            _ => {
                seen.rises.clear();
                seen.run = None;
                0
            }
        };
        seen.last = Some((whose.to_owned(), count));
        if let Some(run) = run {
            seen.run = Some((run.to_owned(), count));
        }
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
        let within = |whose: &str, count, at| {
            restarts.within(whose, count, None, Duration::from_secs(at), Duration::from_secs(60))
        };
        for (whose, count, at, expected) in [
            ("a", 7, 0, 0),
            ("a", 8, 10, 1),
            ("a", 10, 50, 3),
            ("a", 10, 70, 3),
            ("a", 10, 71, 2),
            ("a", 0, 80, 0),
            ("a", 1, 90, 1),
            ("b", 9, 91, 0),
            ("b", 11, 92, 2),
            ("b", 11, 400, 0),
        ] {
            assert_eq!(within(whose, count, at), expected, "{whose} {count} at {at}");
        }
        for count in 0..10_000 {
            let _ = within("c", count, 500);
        }
        assert_eq!(within("c", 10_000, 501), 10_000);
    }

    /// OBS-7, ACT-4: after a start by somebody the earlier restarts say nothing any more, also where the count stays; a
    /// restart by the manager itself, whose count rises before the new run is seen, is none.
    #[test]
    fn a_start_by_somebody_begins_anew() {
        let restarts = Restarts::default();
        for (count, run, expected, what) in [
            (0, Some("a"), 0, "at the first look"),
            (3, Some("d"), 3, "three restarts later"),
            (4, None, 4, "about to start"),
            (4, Some("e"), 4, "started by the manager itself"),
            (4, Some("e"), 4, "still so"),
            (4, Some("f"), 0, "started by somebody, the count stayed"),
            (5, Some("g"), 1, "again by the manager"),
            (0, Some("h"), 0, "started by somebody, the count was set back"),
            (0, Some("i"), 0, "once more"),
            (1, Some("j"), 1, "by the manager"),
        ] {
            let found = restarts.within("", count, run, Duration::from_secs(9), Duration::from_secs(60));
            assert_eq!(found, expected, "{what}");
        }
    }
}
