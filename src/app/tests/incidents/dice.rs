//! The one source of chance: the same seed, the same throws.

use std::time::Duration;

/// SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 up to `bound`, exclusive; 0 for an empty range.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    /// `from` up to `to`, inclusive.
    pub(super) fn between(&mut self, from: u32, to: u32) -> u32 {
        from + u32::try_from(self.below((to - from) as usize + 1)).expect("below a u32")
    }

    /// True in so many of a hundred throws.
    pub(super) fn percent(&mut self, share: u32) -> bool {
        self.between(0, 99) < share
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub(super) fn millis(&mut self, from: u32, to: u32) -> Duration {
        Duration::from_millis(u64::from(self.between(from, to)))
    }
}
