//! When a check whose files change is looked at next: soon, not while somebody writes, and not too often.
//!
//! In: what was seen of its files. Out: the moment of the next look.
//! **Invariant:** pure; every change is followed by a look that begins after it; between two looks lies the gap at least.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at files that change.
pub(super) const FILE_GAP: Duration = Duration::from_millis(50);
/// Between two looks at folders in which something changes: a look walks all of it.
pub(super) const FOLDER_GAP: Duration = Duration::from_secs(1);
/// Where somebody is at it (written and not closed, removed and not yet replaced), the look waits until this long nothing
/// happened: half of a file says less than the one before.
const QUIET: Duration = Duration::from_millis(200);
/// It waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Looks take at most one part in so many of a thread's time: a large file that changes all the time is looked at less often.
const SHARE: u32 = 10;

/// A change that no look has followed yet.
#[derive(Clone, Copy, Debug)]
struct Change {
    first: Instant,
    latest: Instant,
    settled: bool,
}

/// The looks of one check.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    change: Option<Change>,
    began: Option<Instant>,
    took: Duration,
    gap: Duration,
}

impl Pace {
    /// Something changed. It has settled if whoever changed it is done: closed the file, or put another in its place.
    pub(super) fn changed(&mut self, now: Instant, settled: bool, gap: Duration) {
        let first = self.change.map_or(now, |change| change.first);
        self.change = Some(Change { first, latest: now, settled });
        self.gap = gap;
    }

    /// When to look because of what changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let change = self.change?;
        let quiet = if change.settled { change.first } else { (change.latest + QUIET).min(change.first + PATIENCE) };
        let rested = self.began.map(|began| began + self.gap.max(self.took * SHARE));
        Some(rested.map_or(quiet, |rested| rested.max(quiet)))
    }

    /// A look begins, for whatever reason.
    pub(super) fn begins(&mut self, now: Instant) {
        self.change = None;
        self.began = Some(now);
    }

    /// A look has ended.
    pub(super) fn ended(&mut self, took: Duration) {
        self.took = took;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Plays changes at moments, settled or not, against looks that take so long; the moments of the looks.
    fn played(changes: &[(u64, bool)], gap: Duration, took: Duration) -> Vec<u64> {
        let start = Instant::now();
        let (mut pace, mut looks) = (Pace::default(), Vec::new());
        let last = changes.last().map_or(0, |(at, _)| *at);
        for at in 0..=last + 5_000 {
            let now = start + ms(at);
            for (_, settled) in changes.iter().filter(|(when, _)| *when == at) {
                pace.changed(now, *settled, gap);
            }
            if pace.due().is_some_and(|due| due <= now) {
                pace.begins(now);
                pace.ended(took);
                looks.push(at);
            }
        }
        looks
    }

    /// OBS-7: what is settled is looked at at once, then at most each gap, and the last change is never lost.
    #[test]
    fn at_once_then_by_the_gap_and_always_after_the_last() {
        assert_eq!(played(&[(7, true)], FILE_GAP, ms(0)), [7]);
        assert_eq!(played(&[(7, true), (8, true)], FILE_GAP, ms(0)), [7, 57]);
        assert_eq!(played(&[(7, true), (500, true)], FILE_GAP, ms(0)), [7, 500]);
        let often: Vec<_> = (0..1_000).map(|at| (at, true)).collect();
        let looks = played(&often, FILE_GAP, ms(0));
        assert_eq!((looks.len(), looks.last()), (21, Some(&1_000)), "{looks:?}");
        let looks = played(&often, FOLDER_GAP, ms(0));
        assert_eq!(looks, [0, 1_000]);
        // A look that takes 30 ms is done every 300 ms.
        assert_eq!(played(&often, FILE_GAP, ms(30)), [0, 300, 600, 900, 1_200]);
    }

    /// OBS-7: a file in mid-write gets time to become whole, and one that is never closed is looked at all the same.
    #[test]
    fn who_writes_is_let_finish() {
        assert_eq!(played(&[(0, false)], FILE_GAP, ms(0)), [200]);
        assert_eq!(played(&[(0, false), (150, false), (300, true)], FILE_GAP, ms(0)), [300], "closed: at once");
        assert_eq!(played(&[(0, true), (10, false)], FILE_GAP, ms(0)), [0, 210]);
        let held: Vec<_> = (0..2_500).map(|at| (at, false)).collect();
        assert_eq!(played(&held, FILE_GAP, ms(0)), [1_000, 2_001, 2_699]);
    }
}
