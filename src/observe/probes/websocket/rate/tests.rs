//! Seeded feeds: how often a living one is taken for dead, and how soon a dead one is noticed.

use super::*;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -self.unit().ln() * mean
    }
}

/// The shape of a feed.
#[derive(Clone, Copy, Debug)]
enum Feed {
    /// By chance, this many seconds apart.
    Poisson(f64),
    /// Bursts of so many on average, 20 ms apart within, so many seconds apart.
    Bursts(f64, f64),
    /// A steady beat that is off by up to half.
    Beat(f64),
    /// By chance, five times quieter and back within the hour.
    Tide(f64),
    /// By chance, ten times quieter from the second hour on, within ten minutes.
    Evening(f64),
}

impl Feed {
    /// Seconds to the next update.
    fn gap(self, at: f64, random: &mut Random) -> f64 {
        match self {
            Self::Poisson(mean) => random.exponential(mean),
            Self::Bursts(size, quiet) if random.unit() < 1.0 / size => random.exponential(quiet),
            Self::Bursts(..) => random.exponential(0.02),
            Self::Beat(every) => every * (0.5 + random.unit()),
            Self::Tide(mean) => {
                let tide = (at / 3600.0 * std::f64::consts::TAU).sin();
                random.exponential(mean * 5f64.powf(tide))
            }
            Self::Evening(mean) => random.exponential(mean * 10f64.powf(((at - 3600.0) / 600.0).clamp(0.0, 1.0))),
        }
    }
}

/// Two hours of a living feed: how many silences were taken for its end, of how many; and the limit then.
fn live(feed: Feed, seed: u64, seconds: f64) -> (u64, u64, Option<Duration>) {
    let (mut rate, mut random) = (Rate::default(), Random(seed));
    let (mut at, mut merged, mut alarms, mut gaps) = (0.0, 0.0, 0, 0);
    while at < seconds {
        let gap = feed.gap(at, &mut random);
        at += gap;
        merged += gap;
        // As the connection does: updates within 50 ms of one count as one.
        if merged < 0.05 {
            continue;
        }
        let taken = Duration::from_secs_f64(merged);
        alarms += u64::from(rate.limit().is_some_and(|limit| taken >= limit));
        gaps += 1;
        rate.learn(taken);
        merged = 0.0;
    }
    (alarms, gaps, rate.limit())
}

/// EXC-1, OBS-7: fewer than one run of two hours in a hundred has a false alarm, whatever the feed is like.
#[test]
fn a_quiet_market_is_no_dead_feed() {
    let feeds = [
        Feed::Poisson(0.02),
        Feed::Poisson(0.5),
        Feed::Poisson(2.0),
        Feed::Poisson(20.0),
        Feed::Bursts(5.0, 1.0),
        Feed::Bursts(50.0, 5.0),
        Feed::Bursts(10.0, 30.0),
        Feed::Beat(1.0),
        Feed::Beat(60.0),
        Feed::Tide(1.0),
    ];
    const RUNS: u64 = 60;
    let (mut alarmed, mut judged) = (0, 0);
    for (index, feed) in feeds.into_iter().enumerate() {
        let mut of_feed = 0;
        for seed in 0..RUNS {
            let (alarms, _, limit) = live(feed, seed * 1_000 + index as u64, 7_200.0);
            of_feed += u64::from(alarms > 0);
            judged += u64::from(limit.is_some());
        }
        assert!(of_feed <= 2, "{feed:?}: {of_feed} of {RUNS} runs had a false alarm");
        alarmed += of_feed;
    }
    let runs = RUNS * feeds.len() as u64;
    assert_eq!(judged, runs, "every feed was learnt");
    assert!(alarmed * 100 < runs, "{alarmed} of {runs} runs had a false alarm");
}

/// EXC-1: when the evening is ten times as quiet, fewer than one silence in a hundred is taken for the end, and the estimate
/// has adapted.
#[test]
fn an_evening_is_learnt() {
    let (mut alarms, mut gaps) = (0, 0);
    for seed in 0..50 {
        let (of_run, gaps_of_run, limit) = live(Feed::Evening(1.0), seed, 3.0 * 3_600.0);
        alarms += of_run;
        gaps += gaps_of_run;
        assert!(limit.unwrap() > Duration::from_secs(80), "{seed}: {limit:?}");
    }
    assert!(alarms * 100 < gaps, "{alarms} of {gaps}");
}

/// EXC-1: a dead feed is noticed within the time that its own rhythm asks for, and never later than the bound.
#[test]
fn a_dead_feed_is_noticed_soon() {
    for (feed, within) in [
        (Feed::Poisson(0.02), 5.0),
        (Feed::Poisson(0.1), 5.0),
        (Feed::Poisson(1.0), 30.0),
        (Feed::Poisson(10.0), 300.0),
        (Feed::Bursts(20.0, 1.0), 30.0),
        (Feed::Beat(1.0), 8.0),
        (Feed::Beat(60.0), 400.0),
    ] {
        for seed in 0..20 {
            let limit = live(feed, seed, 7_200.0).2.unwrap().as_secs_f64();
            assert!((LIMIT_MIN.as_secs_f64()..=within).contains(&limit), "{feed:?} {seed}: {limit}");
        }
    }
}

/// EXC-1: nothing is judged before enough was learnt; a feed that was dead for an hour is not learnt as a quiet one.
#[test]
fn little_is_not_enough_and_death_is_no_lesson() {
    let mut rate = Rate::default();
    for _ in 0..29 {
        assert_eq!(rate.limit(), None);
        rate.learn(Duration::from_secs(1));
    }
    rate.learn(Duration::from_secs(1));
    let before = rate.limit().unwrap();
    assert_eq!(before, LIMIT_MIN);
    rate.learn(Duration::from_secs(3_000));
    assert!(rate.limit().unwrap() < before * 6, "{:?}", rate.limit());
    // An outage while little is known is no lesson either.
    let mut young = Rate::default();
    young.learn(Duration::from_secs(3_000));
    assert_eq!(young.provisional(), Duration::from_secs(240));
    // Bursts alone, however many, are no observed time.
    let mut burst = Rate::default();
    (0..1_000).for_each(|_| burst.learn(Duration::from_millis(1)));
    assert_eq!(burst.limit(), None);
    // Memory stays bounded.
    let mut long = Rate::default();
    (0..100_000).for_each(|_| long.learn(Duration::from_secs(60)));
    assert!(long.parts.len() <= PARTS);
}
