//! Stage 5: did it help?
//!
//! In: when the action ended, what its subsystem's checks have said since. Out: an [`Outcome`], or not yet.
//! **Invariant:** pure. Success is positive evidence of health within the action's window, never an exit code.

use std::time::Duration;

use crate::model::{Outcome, Timestamp};

/// What verification looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When the means answered.
    pub ended_at: Timestamp,
    /// Wait before the first look.
    pub settle: Duration,
    /// Unverified if not healthy by then, counted from `ended_at`.
    pub within: Duration,
    /// Healthy checks in a row that count as proof.
    pub hold_down: u32,
    /// Healthy checks in a row that began after the settle time.
    pub healthy_in_a_row: u32,
}

impl Evidence {
    /// When the first look is worth something.
    pub fn looks_from(&self) -> Timestamp {
        self.ended_at.plus(self.settle)
    }

    /// When it ends.
    pub fn deadline(&self) -> Timestamp {
        self.ended_at.plus(self.within.max(self.settle))
    }
}

/// The outcome, or `None` while it is too early to tell.
pub fn judge(evidence: &Evidence, now: Timestamp) -> Option<Outcome> {
    if evidence.healthy_in_a_row >= evidence.hold_down.max(1) {
        return Some(Outcome::Verified);
    }
    (now >= evidence.deadline()).then_some(Outcome::Unverified)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ACT-4: verified with enough healthy checks, unverified at the deadline, nothing before.
    #[test]
    fn table() {
        let start = Timestamp::from_millis(1_000_000);
        let evidence = Evidence {
            ended_at: start,
            settle: Duration::from_secs(2),
            within: Duration::from_secs(60),
            hold_down: 2,
            healthy_in_a_row: 0,
        };
        let at = |seconds| start.plus(Duration::from_secs(seconds));
        assert_eq!(judge(&evidence, at(59)), None);
        assert_eq!(judge(&evidence, at(60)), Some(Outcome::Unverified));
        assert_eq!(judge(&Evidence { healthy_in_a_row: 1, ..evidence }, at(30)), None);
        assert_eq!(judge(&Evidence { healthy_in_a_row: 2, ..evidence }, at(30)), Some(Outcome::Verified));
        assert_eq!(judge(&Evidence { healthy_in_a_row: 0, hold_down: 0, ..evidence }, at(1)), None, "at least one");
        assert_eq!(evidence.looks_from(), at(2));
    }
}
