//! When a check whose files change is looked at next: soon, not while somebody writes, and not too often.
//!
//! In: what was seen of its files. Out: the moment of the next look.
//! **Invariant:** pure; every change is followed by a look that begins after it; between two looks lies the gap at least.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks at files that begin to change.
pub(super) const FILE_GAP: Duration = Duration::from_millis(50);
/// Between two looks at what goes on changing.
const BUSY_GAP: Duration = Duration::from_millis(500);
/// What has just turned bad is looked at this often as if it had been quiet: half of a file is soon a whole one.
const TURNED_MAX: u32 = 10;
/// Quiet is what nobody has changed for the interval, divided by this.
const QUIET_PART: u32 = 10;
/// Between two looks at folders in which something changes: a look walks all of it.
pub(super) const FOLDER_GAP: Duration = Duration::from_secs(1);
/// Where somebody is at it (written and not closed, removed and not yet replaced), the look waits until this long nothing
/// happened: half of a file says less than the one before.
const SETTLE: Duration = Duration::from_millis(200);
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
    /// When the latest change came, looked at or not.
    stirred: Option<Instant>,
    /// Looks because of changes since it was quiet.
    looks: u32,
    /// Looks in a row that were not healthy.
    bad: u32,
}

impl Pace {
    /// Something changed. It has settled if whoever changed it is done: closed the file, or put another in its place.
    pub(super) fn changed(&mut self, now: Instant, settled: bool, gap: Duration, interval: Duration) {
        if self.stirred.replace(now).is_none_or(|before| now.duration_since(before) >= interval / QUIET_PART) {
            self.looks = 0;
        }
        let first = self.change.map_or(now, |change| change.first);
        self.change = Some(Change { first, latest: now, settled });
        self.gap = gap;
    }

    /// When to look because of what changed.
    pub(super) fn due(&self) -> Option<Instant> {
        let change = self.change?;
        let quiet = if change.settled { change.first } else { (change.latest + SETTLE).min(change.first + PATIENCE) };
        // The first two follow each other closely: many a writer comes twice.
        let busy = self.looks > 1 && !(1..=TURNED_MAX).contains(&self.bad);
        let gap = if busy { self.gap.max(BUSY_GAP) } else { self.gap };
        let rested = self.began.map(|began| began + gap.max(self.took * SHARE));
        Some(rested.map_or(quiet, |rested| rested.max(quiet)))
    }

    /// A look begins, for whatever reason.
    pub(super) fn begins(&mut self, now: Instant) {
        if self.change.take().is_some() {
            self.looks = self.looks.saturating_add(1);
        }
        self.began = Some(now);
    }

    /// A look has ended, and all was well or not.
    pub(super) fn ended(&mut self, took: Duration, healthy: bool) {
        self.took = took;
        self.bad = if healthy { 0 } else { self.bad.saturating_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    const INTERVAL: Duration = Duration::from_secs(5);

    /// Plays changes at moments, settled or not, against looks that take so long and are healthy or not; the moments of the
    /// looks.
    fn seen(changes: &[(u64, bool)], gap: Duration, took: Duration, healthy: impl Fn(u64) -> bool) -> Vec<u64> {
        let start = Instant::now();
        let (mut pace, mut looks) = (Pace::default(), Vec::new());
        let last = changes.last().map_or(0, |(at, _)| *at);
        for at in 0..=last + 5_000 {
            let now = start + ms(at);
            for (_, settled) in changes.iter().filter(|(when, _)| *when == at) {
                pace.changed(now, *settled, gap, INTERVAL);
            }
            if pace.due().is_some_and(|due| due <= now) {
                pace.begins(now);
                pace.ended(took, healthy(at));
                looks.push(at);
            }
        }
        looks
    }

    fn played(changes: &[(u64, bool)], gap: Duration, took: Duration) -> Vec<u64> {
        seen(changes, gap, took, |_| true)
    }

    /// OBS-7: what is settled is looked at at once, then at most each gap, and the last change is never lost.
    #[test]
    fn at_once_then_by_the_gap_and_always_after_the_last() {
        assert_eq!(played(&[(7, true)], FILE_GAP, ms(0)), [7]);
        assert_eq!(played(&[(7, true), (8, true)], FILE_GAP, ms(0)), [7, 57]);
        assert_eq!(played(&[(7, true), (507, true)], FILE_GAP, ms(0)), [7, 507]);
        let often: Vec<_> = (0..1_000).map(|at| (at, true)).collect();
        assert_eq!(played(&often, FILE_GAP, ms(0)), [0, 50, 550, 1_050], "then it is busy");
        assert_eq!(played(&often, FOLDER_GAP, ms(0)), [0, 1_000]);
        // A look that takes 30 ms is done every 300 ms, one that takes 60 ms every 600 ms.
        assert_eq!(played(&often, FILE_GAP, ms(30)), [0, 300, 800, 1_300]);
        assert_eq!(played(&often, FILE_GAP, ms(60)), [0, 600, 1_200]);
    }

    /// OBS-7: who writes 20 times a second for a minute is looked at twice a second; after a quiet tenth of the interval a
    /// change is seen at once again, and slow writers are always.
    #[test]
    fn who_writes_all_the_time_is_looked_at_calmly() {
        let mut changes: Vec<_> = (0..60_000).step_by(50).map(|at| (at, true)).collect();
        changes.extend([(60_500, true), (60_501, true)]);
        let looks = played(&changes, FILE_GAP, ms(1));
        assert!(looks.len() <= 125, "{}", looks.len());
        assert!(looks.iter().any(|at| (59_950..60_450).contains(at)), "the last of them is seen: {looks:?}");
        assert_eq!(looks[looks.len() - 2..], [60_500, 60_550], "quiet, so at once again: {looks:?}");
        let slow: Vec<_> = (0..20).map(|at| (at * 600, true)).collect();
        assert_eq!(played(&slow, FILE_GAP, ms(1)), (0..20).map(|at| at * 600).collect::<Vec<_>>());
    }

    /// OBS-7: what has just turned bad is looked at closely, so that half a file is soon a whole one; what stays bad is not.
    #[test]
    fn what_has_turned_bad_is_looked_at_closely() {
        let often: Vec<_> = (0..3_000).map(|at| (at, true)).collect();
        let looks = seen(&often, FILE_GAP, ms(0), |at| at != 1_050);
        assert_eq!(looks[..6], [0, 50, 550, 1_050, 1_100, 1_600]);
        let looks = seen(&often, FILE_GAP, ms(0), |_| false);
        let gaps: Vec<u64> = looks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps[..10].iter().all(|gap| *gap == 50) && gaps[10..].iter().all(|gap| *gap == 500), "{gaps:?}");
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
