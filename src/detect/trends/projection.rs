//! When a quantity will cross its limit, if it goes on as it does now.
//!
//! Each tier of the series is looked at twice, as a whole and its latter half, so that the windows double: from 0.13 to 8.5
//! horizons. A window speaks for a crossing when all of this holds:
//!
//! 1. it has at least [`POINTS_MIN`] points over at least half its length, the latest of them fresh;
//! 2. the slope's interval lies above zero, and the line through its lower end still crosses within the horizon;
//! 3. the crossing lies no further ahead than [`REACH`] times the window: further, a line proves nothing;
//! 4. a slope explains the points better than a step does, by [`STRAIGHT`];
//! 5. none of the three next shorter windows contradicts it: their slopes' upper ends are not below [`STILL`] of this slope;
//! 6. the quantity stands higher than any height that it has come down from in what is remembered, by [`AGAIN`] of that fall:
//!    what comes down by itself is not told of.
//!
//! What is told of goes on under milder conditions, so that it does not come and go.
//!
//! Of the windows that speak, the shortest gives the time. **Invariant:** pure.

use super::fit::{Line, POINTS_MIN, line};
use super::series::{Point, RATIO, SLOTS, Series, TIERS};

/// How far ahead a window tells, in its own lengths.
const REACH: f64 = 3.0;
/// See [`Line::against_step`].
const STRAIGHT: f64 = 0.65;
/// The part of an earlier fall that it must stand above where that fall began.
const AGAIN: f64 = 0.25;
/// A fall by fewer standard deviations of what jitters is none; nor is one by fewer of the line's scatter.
const JITTER: f64 = 5.0;
const TEETH: f64 = 3.0;
/// What is nearer than this share of the horizon is not worth telling any more: the limit itself tells of it.
const SOON: f64 = 1.0 / 12.0;
/// The share of a slope that shorter windows must still allow for.
const STILL: f64 = 0.75;

/// A crossing that is to be expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crossing {
    /// In milliseconds of the series' time.
    pub at: f64,
    /// It will hardly be sooner.
    pub earliest: f64,
    /// It will hardly be later.
    pub latest: f64,
}

/// What is asked of a projection.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What the quantity should stay below.
    pub limit: f64,
    /// Now, in milliseconds of the series' time.
    pub now: i64,
    /// How far ahead a crossing matters, in milliseconds.
    pub horizon: f64,
    /// The width of the finest bucket.
    pub grain: i64,
    /// Whether the crossing was told of already: then it goes on for as long as the best estimate is near.
    pub told: bool,
}

/// The windows, shortest first: a tier and how many of its buckets. Half of the first tier is too short to tell anything.
const WINDOWS: [(usize, usize); 2 * TIERS - 1] =
    [(0, SLOTS), (1, SLOTS / 2), (1, SLOTS), (2, SLOTS / 2), (2, SLOTS), (3, SLOTS / 2), (3, SLOTS)];

/// When the limit will be crossed, if that is to be expected within the horizon.
pub fn project(series: &Series, question: &Question) -> Option<Crossing> {
    let mut points: Vec<Point> = Vec::with_capacity(SLOTS);
    for (index, window) in WINDOWS.into_iter().enumerate() {
        if !take(series, window, question, &mut points) || hardly_rises(&points, question) {
            continue;
        }
        let Some(found) = line(&points) else { continue };
        let Some(crossing) = crossing_of(&found, question) else { continue };
        // What is told of already may stand still for a moment.
        let still = if question.told { STILL * 0.75 } else { STILL };
        let from = index.saturating_sub(if question.told { 2 } else { 3 });
        let contradicted = WINDOWS[from..index].iter().any(|shorter| {
            take(series, *shorter, question, &mut points)
                && line(&points).is_some_and(|line| line.high < still * found.slope)
        });
        if !contradicted && (question.told || stands_high(series, window.0, &found, question, &mut points)) {
            return Some(crossing);
        }
    }
    None
}

/// The points of a window, if they are enough, over enough of it, and fresh.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 53 bits")]
fn take(series: &Series, (tier, buckets): (usize, usize), question: &Question, points: &mut Vec<Point>) -> bool {
    series.points(tier, buckets, question.grain, points);
    let width = question.grain * RATIO.pow(u32::try_from(tier).unwrap_or(0));
    let length = width as f64 * buckets as f64;
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return false };
    points.len() >= POINTS_MIN && question.now as f64 - last.0 <= length / 3.0 && last.0 - first.0 >= length / 2.0
}

/// Whether the points, by their medians at both ends, rise by far too little to matter; cheap, for the many that are flat.
fn hardly_rises(points: &[Point], question: &Question) -> bool {
    let (first, last) = ends(points);
    let needed = (question.limit - last.1) / question.horizon;
    last.1 - first.1 < 0.3 * needed * (last.0 - first.0)
}

/// The first and the last third of the points, each as its median.
fn ends(points: &[Point]) -> (Point, Point) {
    let third = (points.len() / 3).max(1);
    let middle = |part: &[Point]| {
        let mut values: Vec<f64> = part.iter().map(|point| point.1).collect();
        let value = super::fit::median(&mut values).unwrap_or(0.0);
        (f64::midpoint(part[0].0, part[part.len() - 1].0), value)
    };
    (middle(&points[..third]), middle(&points[points.len() - third..]))
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 53 bits")]
fn crossing_of(line: &Line, question: &Question) -> Option<Crossing> {
    let Question { limit, horizon, told, .. } = *question;
    let now = question.now as f64;
    if line.at(now) >= limit || line.slope <= 0.0 {
        // It is there already, which others tell of; or it goes down.
        return None;
    }
    let when = |slope: f64| if slope > 0.0 { now + (limit - line.through(slope, now)) / slope } else { f64::INFINITY };
    let (at, latest, earliest) = (when(line.slope), when(line.low), when(line.high).max(now));
    let near = at - now <= REACH * line.span;
    let expected = if told {
        // Not to end and come again with each small change.
        at - now <= 1.5 * horizon && line.low > 0.0 && line.against_step <= 1.4 * STRAIGHT
    } else {
        at - now >= horizon * SOON && latest - now <= horizon && line.against_step <= STRAIGHT
    };
    (near && expected).then_some(Crossing { at, earliest, latest: latest.min(now + 2.0 * horizon) })
}

/// Whether the line is higher now than any height that the quantity has come down from, by a part of the way it came down.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 53 bits")]
fn stands_high(series: &Series, tier: usize, line: &Line, question: &Question, points: &mut Vec<Point>) -> bool {
    // Where it bends, the line ends too high.
    let line_ends = line.at(question.now as f64);
    let level = series.recent().map_or(line_ends, |recent| recent.min(line_ends));
    // What jitters from one bucket to the next is noise; so is what teeth there are around the line.
    let mut jitter = f64::INFINITY;
    (0..TIERS).all(|looked_at| {
        series.points(looked_at, SLOTS, question.grain, points);
        let mut steps: Vec<f64> = points.windows(2).map(|pair| (pair[1].1 - pair[0].1).abs()).collect();
        if let Some(step) = super::fit::median(&mut steps) {
            jitter = jitter.min(1.4826 * std::f64::consts::FRAC_1_SQRT_2 * step);
        }
        let noise = (JITTER * jitter).max(TEETH * line.scatter);
        let mut peak = f64::NEG_INFINITY;
        looked_at < tier.max(1)
            || points.iter().all(|(_, value)| {
                peak = peak.max(*value);
                let fall = peak - value - noise;
                fall <= 0.0 || level >= peak + AGAIN * fall
            })
    })
}
