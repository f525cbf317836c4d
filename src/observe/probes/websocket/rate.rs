//! How long a feed may be silent before it is dead, learnt from how long it is silent while it lives.
//!
//! A quiet market has long gaps, a busy one short ones, and both come in bursts. So gaps are weighted by their length: what
//! counts is the gap that a moment chosen at random falls into, which a burst of any size does not shorten.
//!
//! **Invariant:** pure and of fixed size; never reads the clock. Time in which nothing was observed ages nothing.

use std::collections::VecDeque;
use std::time::Duration;

/// No feed is held to less: EXC-1 names 5 s.
pub const LIMIT_MIN: Duration = Duration::from_secs(5);
/// No feed is granted more, learnt or not.
pub const LIMIT_MAX: Duration = Duration::from_secs(3600);
/// What is remembered: this many parts of this much observed time, so that a quieter hour takes the place of a busy one.
const PARTS: usize = 12;
const PART_SECONDS: f64 = 600.0;
/// Nothing is judged before so much time has been observed, in seconds, and so many gaps of weight.
const OBSERVED_MIN: f64 = 30.0;
const GAPS_MIN: f64 = 20.0;
/// With gaps by chance (Poisson), whose mean is m, the gap around a random moment has mean 2m and deviation 1.4m. These
/// factors then give 15m, which is met by chance once in three million gaps; with a steady beat they give two beats.
const MEANS: f64 = 2.0;
const DEVIATIONS: f64 = 8.0;
/// The longest gap seen may come again, and longer.
const LONGEST: f64 = 2.0;
/// What few gaps say is not much.
const DOUBT: f64 = 3.0;
/// While the rhythm is not known, a silence of so long is the end, or of so many times the longest gap so far.
pub const PROVISIONAL_MIN: Duration = Duration::from_secs(60);
const PROVISIONAL_LONGEST: f64 = 4.0;

/// What has been learnt of one feed.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    parts: VecDeque<Part>,
}

/// Sums of the gaps, their squares and cubes, in seconds, and the longest.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    first: f64,
    second: f64,
    third: f64,
    longest: f64,
}

impl Part {
    fn add(&mut self, other: &Self) {
        self.first += other.first;
        self.second += other.second;
        self.third += other.third;
        self.longest = self.longest.max(other.longest);
    }
}

impl Rate {
    /// Learns from the time between two updates, without that in which there was no connection. One beyond the limit is
    /// learnt as the limit: a feed that was dead for an hour is not a quiet one, and one that has become quiet multiplies
    /// its limit with each.
    pub fn learn(&mut self, gap: Duration) {
        let gap = gap.min(self.limit().unwrap_or_else(|| self.provisional())).as_secs_f64();
        if self.parts.back().is_none_or(|part| part.first >= PART_SECONDS) {
            self.parts.push_back(Part::default());
            if self.parts.len() > PARTS {
                self.parts.pop_front();
            }
        }
        if let Some(part) = self.parts.back_mut() {
            part.add(&Part { first: gap, second: gap * gap, third: gap * gap * gap, longest: gap });
        }
    }

    fn all(&self) -> Part {
        let mut all = Part::default();
        self.parts.iter().for_each(|part| all.add(part));
        all
    }

    /// From which silence on the feed is taken for dead while its rhythm is not known.
    pub fn provisional(&self) -> Duration {
        let longest = Duration::from_secs_f64(PROVISIONAL_LONGEST * self.all().longest);
        longest.clamp(PROVISIONAL_MIN, LIMIT_MAX)
    }

    /// From which silence on the feed is dead; `None` while too little is known.
    pub fn limit(&self) -> Option<Duration> {
        let all = self.all();
        if all.first < OBSERVED_MIN {
            return None;
        }
        let gaps = all.first * all.first / all.second;
        if gaps < GAPS_MIN {
            return None;
        }
        let mean = all.second / all.first;
        let deviation = (all.third / all.first - mean * mean).max(0.0).sqrt();
        let limit = (MEANS * mean + DEVIATIONS * deviation) * (1.0 + DOUBT / gaps.sqrt());
        let limit = limit.max(LONGEST * all.longest);
        Some(Duration::from_secs_f64(limit.clamp(LIMIT_MIN.as_secs_f64(), LIMIT_MAX.as_secs_f64())))
    }
}

#[cfg(test)]
mod tests;
