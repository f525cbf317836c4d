//! How the last few probes of one peer went.
//!
//! **Invariant:** bounded; a probe pushes out the oldest.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Fewer probes than this are no rate.
const LEAST: usize = 5;

/// The last probes, oldest first.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    failed: Mutex<VecDeque<bool>>,
}

/// How often it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Probes in the window.
    pub(super) probes: usize,
    /// Those that failed.
    pub(super) failed: usize,
}

impl Window {
    /// An empty window for so many probes.
    pub(super) fn new(size: usize) -> Self {
        Self { size: size.max(1), failed: Mutex::default() }
    }

    /// Takes how one went, and says how all went.
    pub(super) fn note(&self, failed: bool) -> Tally {
        let mut kept = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() >= self.size {
            kept.pop_front();
        }
        kept.push_back(failed);
        Tally { probes: kept.len(), failed: kept.iter().filter(|failed| **failed).count() }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-8: the rate over the last probes, both sides of the limit; few probes are no rate, old ones are forgotten.
    #[test]
    fn rates() {
        let window = Window::new(10);
        for _ in 0..4 {
            assert!(!window.note(true).exceeds(0.2), "too few");
        }
        assert!(window.note(true).exceeds(0.2));
        let mut tally = Tally::default();
        for _ in 0..8 {
            tally = window.note(false);
        }
        assert_eq!(tally, Tally { probes: 10, failed: 2 });
        assert!(!tally.exceeds(0.2) && tally.exceeds(0.199));
    }
}
