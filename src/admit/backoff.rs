//! The growing pause between the tries of one rung (ACT-3).
//!
//! **Invariant:** pure; the jitter comes from the run's own key, so that the same history gives the same pause, and
//! targets that fail together are not tried again together.

use std::time::Duration;

use crate::model::{RunKey, Timestamp};

/// How long after a try that did not help the next one waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first try; doubles with each further one. Default 5 s.
    pub first: Duration,
    /// At most this. Default 5 min.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(5), max: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The pause after try `key.attempt`: from the half to the whole of what its number gives.
    pub fn pause(&self, key: &RunKey) -> Duration {
        let doublings = key.attempt.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.max);
        whole / 2 + whole.mul_f64(share(key) / 2.0)
    }

    /// When the next try may begin. An end in the future (the clock went back) counts as now: a jump never shortens a pause.
    pub fn until(&self, last: &RunKey, ended_at: Timestamp, now: Timestamp) -> Timestamp {
        ended_at.min(now).plus(self.pause(last))
    }
}

/// A number from 0 up to, but not including, 1 that depends on the key alone (FNV-1a, with a last mixing).
fn share(key: &RunKey) -> f64 {
    let text = key.to_string();
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    f64::from(u32::try_from(mixed >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(episode: &str, attempt: u32) -> RunKey {
        RunKey { episode: episode.into(), rung: 1, attempt }
    }

    /// ACT-3: each try waits about twice as long as the one before, up to the longest pause.
    #[test]
    fn pauses_double_up_to_the_longest() {
        let backoff = Backoff::default();
        let whole: [u64; 9] = [5, 10, 20, 40, 80, 160, 300, 300, 300];
        for (attempt, whole) in (1..).zip(whole) {
            let pause = backoff.pause(&key("order_router_20251123_013456", attempt));
            let whole = Duration::from_secs(whole);
            assert!((whole / 2..=whole).contains(&pause), "{attempt}: {pause:?} of {whole:?}");
        }
        let none = Backoff { first: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(none.pause(&key("a", 3)), Duration::ZERO);
    }

    /// ACT-3: what broke at the same moment is not tried again at the same moment: of 200 targets the pauses fill the
    /// range, and no tenth of it has more than a fifth of them.
    #[test]
    fn targets_spread() {
        let backoff = Backoff { first: Duration::from_secs(100), max: Duration::from_secs(100) };
        let mut tenths = [0_u32; 10];
        for number in 0..200 {
            let pause = backoff.pause(&key(&format!("unit_{number:03}_20251123_013456"), 1)).as_secs_f64();
            tenths[((pause - 50.0) / 5.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (5..=40).contains(count)), "{tenths:?}");
    }

    proptest! {
        /// ACT-3: a pause is never longer than the longest, never shorter than half of what is due, the same each time,
        /// and no jump of the clock shortens it.
        #[test]
        fn a_pause_keeps_its_bounds(
            episode in "[a-z_0-9]{1,40}", attempt in 0_u32..u32::MAX, first in 0_u64..3_600_000, more in 0_u64..3_600_000,
            ended in 0_i64..1_000_000_000, now in 0_i64..1_000_000_000,
        ) {
            let backoff = Backoff { first: Duration::from_millis(first), max: Duration::from_millis(first + more) };
            let key = key(&episode, attempt);
            let pause = backoff.pause(&key);
            prop_assert!(pause <= backoff.max && pause >= backoff.first / 2);
            prop_assert_eq!(pause, backoff.pause(&key));
            let (ended, now) = (Timestamp::from_millis(ended), Timestamp::from_millis(now));
            let until = backoff.until(&key, ended, now);
            prop_assert!(until.since(ended.min(now)) + Duration::from_millis(1) >= pause);
            prop_assert!(until.since(now) <= pause);
        }
    }
}
