//! A straight line through few points, robustly, with an interval for its slope; and how straight they lie.
//!
//! The slope is the median of the slopes between all pairs of points (Theil 1950, Sen 1968): up to 29 % of the points may
//! lie anywhere. Its interval comes from the ranks of those slopes, by the variance of Kendall's S, n(n-1)(2n+5)/18 (Sen 1968;
//! Gilbert 1987, section 16.4), stretched for residuals that follow each other, by (1+r)/(1-r) with r their correlation at
//! lag one (Hamed and Rao 1998, simplified).
//! **Invariant:** pure; n points cost n(n-1)/2 slopes, and n is at most [`super::series::SLOTS`].

use super::series::Point;

/// Fewer points than this make no line.
pub const POINTS_MIN: usize = 8;
/// How sure the interval of the slope is: 99 %, two-sided.
const Z: f64 = 2.576;
/// The correlation of neighbours that is believed at most: with so few points, more cannot be told.
const CORRELATION_MAX: f64 = 0.8;

/// A line through points.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Units per millisecond.
    pub slope: f64,
    /// The slope is hardly less.
    pub low: f64,
    /// The slope is hardly more.
    pub high: f64,
    /// The line goes through this point, the middle of them all.
    pub centre: Point,
    /// How far the points lie from it, as a standard deviation.
    pub scatter: f64,
    /// How far the points lie from it altogether, as a share of how far they lie from the best two levels with a step
    /// between them: below 1 a slope explains them better than a step, above 1 the other way round.
    pub against_step: f64,
    /// From the first to the last point, in milliseconds.
    pub span: f64,
}

impl Line {
    /// Its value at a time.
    pub fn at(&self, time: f64) -> f64 {
        self.through(self.slope, time)
    }

    /// The value at a time of the line with another slope through the same centre.
    pub fn through(&self, slope: f64, time: f64) -> f64 {
        self.centre.1 + slope * (time - self.centre.0)
    }
}

/// The middle of some values; of an even number, the mean of the two in the middle.
pub fn median(values: &mut [f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if odd {
        return Some(upper);
    }
    let lower = below.iter().copied().max_by(f64::total_cmp).unwrap_or(upper);
    Some(f64::midpoint(lower, upper))
}

/// The line through points in order of time; `None` for fewer than [`POINTS_MIN`].
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "numbers of at most 496 pairs"
)]
pub fn line(points: &[Point]) -> Option<Line> {
    let n = points.len();
    if n < POINTS_MIN {
        return None;
    }
    let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
    for (index, a) in points.iter().enumerate() {
        slopes.extend(points[index + 1..].iter().map(|b| (b.1 - a.1) / (b.0 - a.0)));
    }
    slopes.sort_unstable_by(f64::total_cmp);
    let count = slopes.len();
    let slope = f64::midpoint(slopes[(count - 1) / 2], slopes[count / 2]);
    let start = points[0].0;
    let time = median(&mut points.iter().map(|point| point.0).collect::<Vec<_>>())?;
    let value = median(&mut points.iter().map(|point| point.1 - slope * (point.0 - time)).collect::<Vec<_>>())?;
    let residuals: Vec<f64> = points.iter().map(|point| point.1 - value - slope * (point.0 - time)).collect();
    let mut sizes: Vec<f64> = residuals.iter().map(|residual| residual.abs()).collect();
    let off: f64 = sizes.iter().sum();
    let scatter = 1.4826 * median(&mut sizes)?;
    let r = correlation(&residuals, 3.0 * scatter).clamp(0.0, CORRELATION_MAX);
    let variance = (n * (n - 1) * (2 * n + 5)) as f64 / 18.0 * (1.0 + r) / (1.0 - r);
    let half = Z * variance.sqrt() / 2.0;
    let rank = |rank: f64| slopes[rank.round().clamp(0.0, (count - 1) as f64) as usize];
    Some(Line {
        slope,
        low: rank(count as f64 / 2.0 - half - 0.5),
        high: rank(count as f64 / 2.0 + half - 0.5),
        centre: (time, value),
        scatter,
        against_step: off / off_steps(points).max(f64::MIN_POSITIVE),
        span: points[n - 1].0 - start,
    })
}

/// The correlation of each residual with the one before; what lies further off than `far` counts as that far.
fn correlation(residuals: &[f64], far: f64) -> f64 {
    let near = |value: &f64| value.clamp(-far, far);
    let all: f64 = residuals.iter().map(|value| near(value).powi(2)).sum();
    let pairs: f64 = residuals.windows(2).map(|pair| near(&pair[0]) * near(&pair[1])).sum();
    if all > 0.0 { pairs / all } else { 0.0 }
}

/// How far the points lie altogether from the best two levels, one before and one after some moment.
fn off_steps(points: &[Point]) -> f64 {
    let off = |part: &[Point]| {
        let mut values: Vec<f64> = part.iter().map(|point| point.1).collect();
        let level = median(&mut values).unwrap_or(0.0);
        values.iter().map(|value| (value - level).abs()).sum::<f64>()
    };
    (2..points.len() - 1).map(|at| off(&points[..at]) + off(&points[at..])).fold(f64::INFINITY, f64::min)
}
