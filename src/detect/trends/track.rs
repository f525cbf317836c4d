//! One quantity of one subject: its series, and the forecast that is told of it.
//!
//! **Invariant:** pure, and evaluated at most once in [`EVERY_PART`]th of the horizon, whatever the rate of samples. A
//! forecast begins when three evaluations in a row expect a crossing, and ends when ten in a row do not, or when the limit is
//! crossed.

use std::time::Duration;

use super::projection::{Crossing, Question, project};
use super::series::{GRAIN_PART, Series};

/// The horizon, divided by this, is the time between two evaluations (30 s for 1 h).
const EVERY_PART: i64 = 120;
/// The horizon, divided by this, is how long a quantity is known before anything is said of it: what has just begun warms up.
const LEARN_PART: i64 = 1;
/// Evaluations in a row that expect a crossing before it is told.
const RAISE_AFTER: u32 = 3;
/// Evaluations in a row that do not before it is taken back.
const CLEAR_AFTER: u32 = 10;

/// How long after the start the forecast of what is sampled each `interval` is told at the latest, if its trend was there all
/// the time: the first sample, the time to learn, and the evaluations, each of which waits for a sample.
pub fn told_after(horizon: Duration, interval: Duration) -> Duration {
    let part = |parts: i64| horizon / u32::try_from(parts.max(1)).unwrap_or(u32::MAX);
    interval + part(LEARN_PART) + (part(EVERY_PART) + interval) * RAISE_AFTER
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Track {
    series: Series,
    /// The latest limit.
    limit: f64,
    /// When the first sample came.
    begun: Option<i64>,
    /// When it was last evaluated.
    evaluated: Option<i64>,
    /// When the latest sample came.
    sampled: i64,
    /// Evaluations in a row that differ from what is told.
    against: u32,
    told: Option<Crossing>,
}

/// What a sample has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing that is told.
    None,
    /// A forecast began, moved, or was taken back.
    Told,
    /// A forecast ended because the limit was crossed.
    Crossed,
}

impl Track {
    /// Takes a sample, in milliseconds of the tracker's time. One from before the latest says that time was counted otherwise
    /// until then: all begins anew.
    pub fn take(&mut self, at: i64, value: f64, limit: f64, horizon: i64) -> Change {
        if !value.is_finite() || !limit.is_finite() {
            return Change::None;
        }
        let grain = grain(horizon);
        if self.begun.is_some() && at < self.sampled.saturating_sub(grain) {
            let ended = self.told.is_some();
            *self = Self::default();
            self.take(at, value, limit, horizon);
            return if ended { Change::Told } else { Change::None };
        }
        self.limit = limit;
        self.sampled = if self.begun.is_some() { self.sampled.max(at) } else { at };
        self.series.push(at, value, grain);
        let every = (horizon / EVERY_PART).max(1);
        if self.evaluated.is_some_and(|before| at < before.saturating_add(every)) {
            return Change::None;
        }
        self.evaluated = Some(at);
        if at.saturating_sub(*self.begun.get_or_insert(at)) < horizon / LEARN_PART {
            return Change::None;
        }
        self.evaluate(at, horizon, grain)
    }

    #[expect(clippy::cast_precision_loss, reason = "a horizon is at most a day")]
    fn evaluate(&mut self, now: i64, horizon: i64, grain: i64) -> Change {
        let question = Question { limit: self.limit, now, horizon: horizon as f64, grain, told: self.told.is_some() };
        if self.series.recent().is_some_and(|value| value >= self.limit) {
            self.against = 0;
            return if self.told.take().is_some() { Change::Crossed } else { Change::None };
        }
        let found = project(&self.series, &question);
        if found.is_some() == self.told.is_some() {
            self.against = 0;
        } else {
            self.against += 1;
        }
        match (found, self.told) {
            (Some(crossing), None) if self.against >= RAISE_AFTER => self.told = Some(crossing),
            (Some(crossing), Some(told)) if is_news(&crossing, &told, now) => self.told = Some(crossing),
            (None, Some(_)) if self.against >= CLEAR_AFTER => self.told = None,
            _ => return Change::None,
        }
        self.against = 0;
        Change::Told
    }

    /// The forecast, if there is one.
    pub fn told(&self) -> Option<Crossing> {
        self.told
    }

    /// The latest limit.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// When the latest sample came.
    pub fn sampled(&self) -> i64 {
        self.sampled
    }

    /// Takes the forecast back: nothing is heard of the quantity any more.
    pub fn give_up(&mut self) {
        self.told = None;
        self.against = 0;
    }
}

/// The width of the finest bucket.
fn grain(horizon: i64) -> i64 {
    (horizon / GRAIN_PART).max(1)
}

/// Whether a new estimate is worth telling: the crossing has moved by a third of the time that is left.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 53 bits")]
fn is_news(found: &Crossing, told: &Crossing, now: i64) -> bool {
    let left = (told.at.min(found.at) - now as f64).max(60_000.0);
    (found.at - told.at).abs() > left / 3.0
}
