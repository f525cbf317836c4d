//! Which rung of a ladder is next, and what the ladder can still do (ACT-5, OBS-1).

use crate::model::{Autonomy, Outcome};

/// A rung as far as the choice of the next one is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RungView {
    /// How far it may go alone.
    pub autonomy: Autonomy,
    /// It contains and heals nothing.
    pub containing: bool,
    /// It has a means, or chiron's own.
    pub bound: bool,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Tries so far.
    pub attempts: u32,
    /// Further tries that its last ending permits.
    pub retries_left: u32,
    /// It is only rehearsed, whatever else is acted upon: the ladder goes on as if it were not there.
    pub rehearsed_only: bool,
}

/// What comes next for an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This rung, 0-based.
    Rung(usize),
    /// It was rehearsed; in dry-run there is nothing more to do.
    Rehearsed(usize),
    /// A rung has helped; wait for the issue to end.
    Helped,
    /// Every rung has been tried: a person.
    Exhausted,
    /// Nobody knows how a rung ended: a person, and no further rung.
    Indeterminate,
}

/// The next rung: the first without an outcome, or the last tried one if its ending permits another try.
///
/// A rung that has helped ends the climb for as long as the target's own check is healthy, whatever an alert still says.
/// A containing rung that a person has to allow does not hold up a healing one that may run by itself.
pub fn next(rungs: &[RungView], dry_run: bool, target_healthy: bool) -> Next {
    let mut helped = false;
    let mut asking = None;
    // A person hears of a rung whose end nobody knows, also when the target is healthy meanwhile.
    let unknown = rungs.iter().any(|rung| rung.outcome == Some(Outcome::Indeterminate));
    for (index, rung) in rungs.iter().enumerate() {
        match rung.outcome {
            None | Some(Outcome::Cancelled) => {
                if helped && target_healthy {
                    return if unknown { Next::Indeterminate } else { Next::Helped };
                }
                let by_itself = rung.bound && rung.autonomy == Autonomy::Automatic;
                if rung.containing && rung.autonomy != Autonomy::Automatic {
                    asking = asking.or(Some(index));
                    continue;
                }
                return Next::Rung(asking.filter(|_| !by_itself).unwrap_or(index));
            }
            Some(Outcome::DryRun) if rung.rehearsed_only && !dry_run => {}
            // Going live repeats no rung beside one whose end nobody knows.
            Some(Outcome::DryRun) if unknown => return Next::Indeterminate,
            Some(Outcome::DryRun) => return if dry_run { Next::Rehearsed(index) } else { Next::Rung(index) },
            Some(Outcome::Failed | Outcome::Unverified) if rung.retries_left > 0 => return Next::Rung(index),
            Some(Outcome::Indeterminate) => return Next::Indeterminate,
            Some(Outcome::Verified) => helped = !rung.containing,
            Some(Outcome::Failed | Outcome::Unverified | Outcome::Unbound | Outcome::Rejected) => helped = false,
            Some(Outcome::NotNeeded) => {}
        }
    }
    match asking {
        _ if helped && target_healthy => Next::Helped,
        Some(index) => Next::Rung(index),
        None => Next::Exhausted,
    }
}

/// What the healing rungs can still do by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// One of them may still run by itself.
    Open,
    /// They have ended, at least one failed or unverified.
    Spent,
    /// None may run by itself.
    Nobody,
}

/// The outlook of a ladder. Containing rungs heal nothing and never count.
pub fn outlook(rungs: &[RungView]) -> Outlook {
    let healing = rungs.iter().filter(|rung| !rung.containing && !rung.rehearsed_only);
    let mut pending = false;
    let mut failed = false;
    for rung in healing {
        match rung.outcome {
            None | Some(Outcome::Cancelled | Outcome::DryRun) => {
                if rung.bound && rung.autonomy == Autonomy::Automatic {
                    return Outlook::Open;
                }
                pending |= rung.bound;
            }
            Some(Outcome::Failed | Outcome::Unverified) if rung.retries_left > 0 => return Outlook::Open,
            Some(Outcome::Failed | Outcome::Unverified) => failed = true,
            Some(
                Outcome::Verified | Outcome::Indeterminate | Outcome::Unbound | Outcome::Rejected | Outcome::NotNeeded,
            ) => {}
        }
    }
    if failed && !pending { Outlook::Spent } else { Outlook::Nobody }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNG: RungView = RungView {
        autonomy: Autonomy::Automatic,
        containing: false,
        bound: true,
        outcome: None,
        attempts: 0,
        retries_left: 0,
        rehearsed_only: false,
    };

    fn with(outcome: Outcome) -> RungView {
        RungView { outcome: Some(outcome), attempts: 1, ..RUNG }
    }

    /// ACT-5: a failed or unverified action goes to the next rung, then to a person.
    #[test]
    fn escalates_in_order() {
        assert_eq!(next(&[RUNG, RUNG], false, false), Next::Rung(0));
        assert_eq!(next(&[with(Outcome::Failed), RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[with(Outcome::Unverified), with(Outcome::Failed)], false, false), Next::Exhausted);
        assert_eq!(next(&[with(Outcome::Unbound), RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[], false, false), Next::Exhausted);
        let retryable = RungView { retries_left: 1, ..with(Outcome::Failed) };
        assert_eq!(next(&[retryable, RUNG], false, false), Next::Rung(0));
    }

    /// A containing rung that took effect is followed by a healing one.
    #[test]
    fn containing_goes_on() {
        let contained = RungView { containing: true, ..with(Outcome::Verified) };
        assert_eq!(next(&[contained, RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[contained], false, false), Next::Exhausted);
    }

    /// ACT-5: what has helped is not followed by another action while the target is healthy; if it breaks again, the climb
    /// goes on, and in the end a person is told.
    #[test]
    fn what_helped_is_left_alone() {
        let helped = with(Outcome::Verified);
        assert_eq!(next(&[helped, RUNG], false, true), Next::Helped);
        assert_eq!(next(&[helped, RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[helped], false, true), Next::Helped);
        assert_eq!(next(&[helped], false, false), Next::Exhausted);
    }

    /// What was superseded was never tried: it neither comes again nor takes back what has helped.
    #[test]
    fn what_is_not_needed_is_passed() {
        let passed = RungView { attempts: 0, ..with(Outcome::NotNeeded) };
        assert_eq!(next(&[passed, RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[with(Outcome::Verified), passed, RUNG], false, true), Next::Helped);
        assert_eq!(next(&[with(Outcome::Verified), passed, RUNG], false, false), Next::Rung(2));
        assert_eq!(next(&[passed], false, false), Next::Exhausted);
    }

    /// A containing rung that waits for a person holds up no healing rung that may run by itself.
    #[test]
    fn approval_to_contain_does_not_block_healing() {
        let ask = RungView { containing: true, autonomy: Autonomy::Approval, ..RUNG };
        let restart = RungView { autonomy: Autonomy::Approval, ..RUNG };
        assert_eq!(next(&[ask, RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[ask, restart], false, false), Next::Rung(0), "both wait for a person: the milder is shown");
        assert_eq!(next(&[ask, with(Outcome::Failed)], false, false), Next::Rung(0));
    }

    /// Nobody repeats or follows up blindly on a run whose end is unknown.
    #[test]
    fn indeterminate_stops() {
        assert_eq!(next(&[with(Outcome::Indeterminate), RUNG], false, false), Next::Indeterminate);
        let live_again = [with(Outcome::DryRun), with(Outcome::Indeterminate)];
        assert_eq!(next(&live_again, false, false), Next::Indeterminate, "after a time of dry-run too");
        let asks = RungView { containing: true, autonomy: Autonomy::Approval, ..RUNG };
        let healthy_again = [with(Outcome::Verified), asks, with(Outcome::Indeterminate)];
        assert_eq!(next(&healthy_again, false, true), Next::Indeterminate, "help that came first hides nothing");
    }

    /// A rehearsal is done once; going live starts at the same rung.
    #[test]
    fn dry_run_rehearses_once() {
        assert_eq!(next(&[with(Outcome::DryRun), RUNG], true, false), Next::Rehearsed(0));
        assert_eq!(next(&[with(Outcome::DryRun), RUNG], false, false), Next::Rung(0));
    }

    /// ACT-3: an action that is only tried out holds nothing up.
    #[test]
    fn what_is_only_rehearsed_is_passed() {
        let tried = RungView { rehearsed_only: true, ..with(Outcome::DryRun) };
        assert_eq!(next(&[tried, RUNG], false, false), Next::Rung(1));
        assert_eq!(next(&[tried], false, false), Next::Exhausted);
        assert_eq!(next(&[tried, RUNG], true, false), Next::Rehearsed(0), "in dry-run as a whole it is the first");
        assert_eq!(outlook(&[RungView { rehearsed_only: true, ..RUNG }, with(Outcome::Failed)]), Outlook::Spent);
    }

    /// OBS-1: when recovery has had its chance.
    #[test]
    fn outlooks() {
        let approval = RungView { autonomy: Autonomy::Approval, ..RUNG };
        let contained = RungView { containing: true, ..with(Outcome::Failed) };
        let unbound = RungView { bound: false, ..RUNG };
        assert_eq!(outlook(&[RUNG]), Outlook::Open);
        assert_eq!(outlook(&[with(Outcome::Failed), RUNG]), Outlook::Open);
        assert_eq!(outlook(&[with(Outcome::Failed), with(Outcome::Unverified)]), Outlook::Spent);
        assert_eq!(outlook(&[with(Outcome::Failed), approval]), Outlook::Nobody);
        assert_eq!(outlook(&[with(Outcome::Failed), unbound]), Outlook::Spent);
        assert_eq!(outlook(&[contained]), Outlook::Nobody, "containing actions never count");
        assert_eq!(outlook(&[unbound]), Outlook::Nobody);
        assert_eq!(outlook(&[approval]), Outlook::Nobody);
    }
}
