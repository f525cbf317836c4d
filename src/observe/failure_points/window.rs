//! How the last few probes of one peer went, and how often it is asked.
//!
//! **Invariant:** bounded; a sample pushes out the oldest, and however often it is looked, samples keep their distance.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::Clock;
use crate::model::{Status, Timestamp};
use crate::observe::check::Judgement;

/// Fewer probes than this are no rate.
const LEAST: usize = 5;
/// So many failed probes in a row are no accident.
const DOWN: u32 = 2;
/// A probe younger than this is not repeated.
const SOON: Duration = Duration::from_secs(5);
/// A moment later than a look that would still find the probe young.
const SLACK: Duration = Duration::from_millis(10);

/// How often a failure point is looked at by its schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace(pub(super) Duration);

impl Pace {
    /// A peer is not asked again before this has passed, whoever looks.
    pub(super) fn soon(self) -> Duration {
        (self.0 / 4).min(SOON)
    }

    /// When the next look is of use, seen from one at `now`.
    pub(super) fn again(self, now: Timestamp) -> Timestamp {
        now.plus(self.soon()).plus(SLACK)
    }
}

/// The last samples, oldest first.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    pace: Pace,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    failed: VecDeque<bool>,
    /// When the latest sample was taken, since boot.
    sampled: Option<Duration>,
    in_a_row: u32,
}

/// How often it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Samples in the window.
    pub(super) probes: usize,
    /// Those that failed.
    pub(super) failed: usize,
    /// Failed probes in a row up to the latest, also those that are no samples.
    pub(super) in_a_row: u32,
    /// The window is young: what went before is not known.
    pub(super) young: bool,
}

impl Window {
    /// An empty window for so many samples.
    pub(super) fn new(size: usize, pace: Pace) -> Self {
        Self { size: size.max(1), pace, kept: Mutex::default() }
    }

    /// Takes how a probe at `now`, since boot, went, and says how all went. Of probes out of turn few are samples: they would
    /// wash out the others. An empty window fills sooner.
    pub(super) fn note(&self, failed: bool, now: Duration) -> Tally {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let least = LEAST.min(self.size);
        let apart = if kept.failed.len() < least { self.pace.soon() } else { self.pace.0 / 2 };
        if kept.sampled.is_none_or(|at| now.saturating_sub(at) >= apart) {
            kept.sampled = Some(now);
            while kept.failed.len() >= self.size {
                kept.failed.pop_front();
            }
            kept.failed.push_back(failed);
        }
        kept.in_a_row = if failed { kept.in_a_row.saturating_add(1) } else { 0 };
        Tally {
            probes: kept.failed.len(),
            failed: kept.failed.iter().filter(|failed| **failed).count(),
            in_a_row: kept.in_a_row,
            young: kept.failed.len() < least,
        }
    }
}

impl Tally {
    /// Failed ones as a share of all, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "a window holds a thousand probes at most")]
    pub(super) fn rate(self) -> f64 {
        if self.probes == 0 { 0.0 } else { self.failed as f64 / self.probes as f64 }
    }

    /// Whether there are enough of them, and more failed than `max` allows.
    pub(super) fn exceeds(self, max: f64) -> bool {
        self.probes >= LEAST && self.rate() > max
    }

    /// Whether enough probes failed in a row.
    pub(super) fn is_down(self) -> bool {
        self.in_a_row >= DOWN
    }

    /// Whether a probe failed that may be an accident.
    pub(super) fn is_doubtful(self) -> bool {
        self.in_a_row > 0 && !self.is_down()
    }
}

/// What a look of too little evidence comes to: unknown, which neither opens nor ends an issue. `doubt` is why a peer may be
/// away; it outweighs whatever is less than `high`. `young` is why nothing is said of what went before; it outweighs
/// nothing.
pub(super) fn withheld(
    mut judgement: Judgement,
    doubt: Option<String>,
    young: Option<String>,
    again: Timestamp,
) -> Judgement {
    if doubt.is_none() && young.is_none() {
        return judgement;
    }
    judgement.next_change_at = Some(judgement.next_change_at.map_or(again, |at| at.min(again)));
    let is_heavy = judgement.signals.findings.iter().any(|one| one.severity >= crate::model::Severity::High);
    let why = match (doubt, young) {
        (Some(doubt), _) if !is_heavy => doubt,
        (_, Some(young)) if judgement.status == Status::Healthy => young,
        _ => return judgement,
    };
    judgement.status = Status::Unknown;
    judgement.signals.findings.clear();
    judgement.details.remove("warning");
    judgement.with("findings", Vec::<serde_json::Value>::new()).with("error", why)
}

/// The latest answer of a peer, which counts for whoever looks again too soon.
#[derive(Debug)]
pub(super) struct Recent<R> {
    clock: Clock,
    pace: Pace,
    /// When it was asked, since boot.
    kept: Mutex<Option<(Duration, R)>>,
}

impl<R: Clone> Recent<R> {
    /// Nothing is known yet.
    pub(super) fn new(clock: Clock, pace: Pace) -> Self {
        Self { clock, pace, kept: Mutex::new(None) }
    }

    /// The time since boot, and the latest answer if it is young.
    pub(super) fn look(&self) -> (Duration, Option<R>) {
        let now = self.clock.since_boot();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let young = kept.as_ref().filter(|(at, _)| now.saturating_sub(*at) < self.pace.soon());
        (now, young.map(|(_, answer)| answer.clone()))
    }

    /// The latest answer counts no longer.
    pub(super) fn forget(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Keeps an answer to what was asked at `at`.
    pub(super) fn keep(&self, at: Duration, answer: &R) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, answer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace(Duration::from_secs(60));

    /// OBS-8: the rate over the last probes, both sides of the limit; few probes are no rate, old ones are forgotten.
    #[test]
    fn rates() {
        let window = Window::new(10, PACE);
        let mut now = Duration::from_secs(1000);
        let mut note = |failed| {
            now += Duration::from_secs(60);
            window.note(failed, now)
        };
        for _ in 0..4 {
            let tally = note(true);
            assert!(!tally.exceeds(0.2) && tally.young, "too few");
        }
        let fifth = note(true);
        assert!(fifth.exceeds(0.2) && !fifth.young && fifth.in_a_row == 5);
        let mut tally = Tally::default();
        for _ in 0..8 {
            tally = note(false);
        }
        assert_eq!(tally, Tally { probes: 10, failed: 2, in_a_row: 0, young: false });
        assert!(!tally.exceeds(0.2) && tally.exceeds(0.199));
    }

    /// OBS-8, ACT-4: looks out of turn, as a verification asks for, wash nothing out; an empty window fills sooner.
    #[test]
    fn looks_out_of_turn_wash_nothing_out() {
        let window = Window::new(10, PACE);
        let mut now = Duration::from_secs(1000);
        for _ in 0..5 {
            window.note(true, now);
            now += Duration::from_secs(5);
        }
        let mut tally = Tally::default();
        for _ in 0..40 {
            now += Duration::from_millis(500);
            tally = window.note(false, now);
        }
        assert_eq!(tally, Tally { probes: 5, failed: 5, in_a_row: 0, young: false });
        assert_eq!(window.note(false, now + Duration::from_secs(30)).probes, 6);
        let small = Window::new(1, PACE);
        assert!(!small.note(false, now).young, "a small window is full sooner");
    }

    /// A peer is not asked again before a quarter of the interval, or 5 s.
    #[test]
    fn an_answer_counts_for_a_while() {
        for (every, soon) in [(60, 5000), (4, 1000)] {
            let clock = Clock::manual(Timestamp::EPOCH);
            let recent = Recent::new(clock.clone(), Pace(Duration::from_secs(every)));
            let (at, none) = recent.look();
            assert_eq!(none, None);
            recent.keep(at, &1);
            clock.advance(Duration::from_millis(soon - 1));
            assert_eq!(recent.look().1, Some(1));
            clock.advance(Duration::from_millis(1));
            assert_eq!(recent.look().1, None);
            recent.keep(at, &1);
            recent.forget();
            assert_eq!(recent.look().1, None, "a retry on purpose asks");
        }
    }
}
