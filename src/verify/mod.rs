//! Stage 5: did it help?
//!
//! In: what the checks of the action's target have said since it ended. Out: an [`Outcome`], or not yet.
//! **Invariant:** pure. Success is positive evidence of health within the action's window, never an exit code.

use crate::model::{Outcome, Timestamp};

/// What verification looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Unverified if not healthy by then.
    pub deadline: Timestamp,
    /// Healthy checks in a row that count as proof; at least 1.
    pub hold_down: u32,
    /// Healthy checks in a row that began after the settle time; earlier ones prove nothing.
    pub healthy_in_a_row: u32,
    /// The target is worse than when the action was decided, or something that depends on it has broken since.
    pub worse: bool,
}

/// The outcome, or `None` while it is too early to tell.
pub fn judge(evidence: &Evidence, now: Timestamp) -> Option<Outcome> {
    if evidence.healthy_in_a_row >= evidence.hold_down.max(1) {
        return Some(Outcome::Verified);
    }
    // A restart makes things worse for a moment, so that only counts at the end.
    let outcome = if evidence.worse { Outcome::Failed } else { Outcome::Unverified };
    (now >= evidence.deadline).then_some(outcome)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// ACT-4: verified with enough healthy checks, unverified at the deadline, nothing before.
    #[test]
    fn table() {
        let start = Timestamp::from_millis(1_000_000);
        let at = |seconds| start.plus(Duration::from_secs(seconds));
        let evidence = Evidence { deadline: at(60), hold_down: 2, healthy_in_a_row: 0, worse: false };
        assert_eq!(judge(&evidence, at(59)), None);
        assert_eq!(judge(&evidence, at(60)), Some(Outcome::Unverified));
        let worse = Evidence { worse: true, ..evidence };
        assert_eq!((judge(&worse, at(59)), judge(&worse, at(60))), (None, Some(Outcome::Failed)));
        assert_eq!(judge(&Evidence { healthy_in_a_row: 2, ..worse }, at(60)), Some(Outcome::Verified));
        assert_eq!(judge(&Evidence { healthy_in_a_row: 1, ..evidence }, at(30)), None);
        assert_eq!(judge(&Evidence { healthy_in_a_row: 2, ..evidence }, at(30)), Some(Outcome::Verified));
        assert_eq!(judge(&Evidence { hold_down: 0, ..evidence }, at(1)), None, "at least one");
    }
}
