//! When a held level may fall: after a least time and a number of healthy cycles without a word for it (POL-3).

use crate::model::{Level, PolicySource, Timestamp};

use super::Settings;

/// Since when a level is held that nobody wants any more. Not journaled: a restart begins it anew, which only holds longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relaxing {
    /// Since when.
    pub since: Timestamp,
    /// At which healthy cycle.
    pub since_cycle: u64,
}

/// What to do about one source's hold on one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// Leave it, and remember since when it could fall, if it could.
    Keep(Option<Relaxing>),
    /// Hold this level from now on.
    Set(Level),
    /// Hold nothing.
    End,
}

/// The one decision about a hold: tightening is immediate, relaxing waits.
pub fn decide(
    source: PolicySource,
    held: Option<Level>,
    wanted: Option<Level>,
    relaxing: Option<Relaxing>,
    cycle: u64,
    settings: &Settings,
    now: Timestamp,
) -> Move {
    match (held, wanted) {
        (None, None) => Move::Keep(None),
        (None, Some(level)) => Move::Set(level),
        (Some(held), Some(wanted)) if wanted > held => Move::Set(wanted),
        (Some(held), Some(wanted)) if wanted == held => Move::Keep(None),
        (Some(_), wanted) => {
            let relaxing = relaxing.unwrap_or(Relaxing { since: now, since_cycle: cycle });
            // Start-up and an operator's hold end by their own proof or expiry, which the caller has seen.
            let own_proof = matches!(source, PolicySource::Startup | PolicySource::Operator);
            let waited = now.since(relaxing.since) >= settings.min_hold;
            let healthy = cycle.saturating_sub(relaxing.since_cycle) >= u64::from(settings.relax_after_cycles);
            if own_proof || waited && healthy {
                wanted.map_or(Move::End, Move::Set)
            } else {
                Move::Keep(Some(relaxing))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn step(held: Option<Level>, wanted: Option<Level>, relaxing: Option<Relaxing>, cycle: u64, seconds: u64) -> Move {
        let now = NOW.plus(Duration::from_secs(seconds));
        decide(PolicySource::Evaluation, held, wanted, relaxing, cycle, &Settings::default(), now)
    }

    /// POL-3: tightening is immediate; relaxing waits for both the time and the cycles.
    #[test]
    fn tighten_now_relax_slowly() {
        let (mild, strict) = (Some(Level::NoNewTrades), Some(Level::DefensiveExit));
        assert_eq!(step(None, mild, None, 0, 0), Move::Set(Level::NoNewTrades));
        assert_eq!(step(mild, strict, None, 0, 0), Move::Set(Level::DefensiveExit));
        let begun = Relaxing { since: NOW, since_cycle: 5 };
        assert_eq!(step(strict, mild, None, 5, 0), Move::Keep(Some(begun)));
        assert_eq!(step(strict, mild, Some(begun), 8, 59), Move::Keep(Some(begun)), "too early");
        assert_eq!(step(strict, mild, Some(begun), 7, 60), Move::Keep(Some(begun)), "too few cycles");
        assert_eq!(step(strict, mild, Some(begun), 8, 60), Move::Set(Level::NoNewTrades));
        assert_eq!(step(strict, None, Some(begun), 8, 60), Move::End);
        assert_eq!(step(strict, strict, Some(begun), 8, 60), Move::Keep(None), "wanted again: begin anew");
    }

    proptest! {
        /// POL-3: whatever the sequence of wants, the held level is never below the one wanted now.
        #[test]
        fn held_is_never_below_wanted(wants in prop::collection::vec((0_usize..6, 0_u64..90, 0_u64..3), 1..60)) {
            let mut held: Option<Level> = None;
            let mut relaxing = None;
            let (mut seconds, mut cycle) = (0, 0);
            for (want, step_seconds, step_cycles) in wants {
                seconds += step_seconds;
                cycle += step_cycles;
                let wanted = Level::ALL.get(want).copied();
                match step(held, wanted, relaxing, cycle, seconds) {
                    Move::Keep(next) => relaxing = next,
                    Move::Set(level) => { held = Some(level); relaxing = None; }
                    Move::End => { held = None; relaxing = None; }
                }
                prop_assert!(held.unwrap_or(Level::AllowAll) >= wanted.unwrap_or(Level::AllowAll));
            }
        }
    }
}
