//! What predictions are worth and cost: precision, recall, lead and false alarms on labelled series, and the time for a sample.
//! `cargo bench --bench prediction`; `-- SEEDS [FROM]` sets how many series of each kind, and from which seed on.
//!
//! The constants of `src/detect/trends/` were found with the seeds 1 to 60 and looked at with some below 25,000; the
//! default here begins at 30,000.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its arguments")]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts, seconds and places of a benchmark are small"
)]

mod common {
    pub mod labelled;
    pub mod score;
}

use std::time::{Duration, Instant};

use chiron::detect::trends::track::{Change, Track};
use common::labelled::{Kind, series};
use common::score::Score;

const HORIZON: i64 = 3_600_000;

/// The series of a kind, and the time spent on their samples.
fn score(kind: Kind, seeds: std::ops::Range<u64>) -> (Score, Duration) {
    let (mut all, mut spent) = (Score::default(), Duration::ZERO);
    for seed in seeds {
        let labelled = series(kind, seed);
        let begun = Instant::now();
        all.play(kind, &labelled, |told: &mut Track, at, value| {
            let change = told.take(at, value, 1.0, HORIZON);
            (told.told().map(|crossing| (crossing.earliest, crossing.latest)), change == Change::Crossed)
        });
        spent += begun.elapsed();
    }
    (all, spent)
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (count, from) = (numbers.first().copied().unwrap_or(120), numbers.get(1).copied().unwrap_or(30_000));
    println!("{count} series of each kind, seeds from {from}");
    println!(
        "{:<16} {:>9} {:>6} {:>9} {:>7}  lead p10/p50/p90 min  ns/sample",
        "kind", "forecasts", "right", "crossings", "recall"
    );
    let mut all = Score::default();
    for kind in Kind::POSITIVE.into_iter().chain(Kind::NEGATIVE).chain([Kind::Stopping]) {
        let (score, spent) = score(kind, from..from + count);
        let name = format!("{kind:?}");
        let (forecasts, right, positive) = (score.forecasts, score.right, score.positive);
        let each = spent.as_nanos() / u128::from(score.samples.max(1));
        print!("{name:<16} {forecasts:>9} {right:>6} {positive:>9} ");
        if positive > 0 {
            let leads = [0.1, 0.5, 0.9].map(|share| score.lead(share));
            println!("{:>7.3}  {:>5.0} {:>5.0} {:>5.0} {each:>15}", score.recall(), leads[0], leads[1], leads[2]);
        } else {
            println!("{each:>41}");
        }
        if kind != Kind::Stopping {
            all.add(&score);
        }
    }
    println!("without `Stopping`: precision {:.3}, recall {:.3}", all.precision(), all.recall());
    println!("lead p5 {:.0}, p50 {:.0}, p95 {:.0} min", all.lead(0.05), all.lead(0.5), all.lead(0.95));
    println!("flat series with a false alarm: {} of {} ({:.2} %)", all.alarmed, all.flat, 100.0 * all.alarms_on_flat());
    println!(
        "crossings within the interval first told: {:.0} %",
        100.0 * f64::from(all.within) / all.leads.len() as f64
    );
}
