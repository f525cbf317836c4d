//! What predictions are worth on labelled series, and each part of them by itself.

use super::projection::Crossing;
use super::*;

#[path = "../../../benches/common/labelled.rs"]
mod labelled;
#[path = "../../../benches/common/score.rs"]
mod score;

use labelled::{Kind, series};
use score::Score;

const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);
const HORIZON: i64 = 3_600_000;

fn score(kinds: impl IntoIterator<Item = Kind>, seeds: std::ops::Range<u64>) -> Score {
    let mut all = Score::default();
    for kind in kinds {
        let mut score = Score::default();
        for seed in seeds.clone() {
            score.play(kind, &series(kind, seed), |told: &mut Track, at, value| {
                let change = told.take(at, value, 1.0, HORIZON);
                (told.told().map(|crossing| (crossing.earliest, crossing.latest)), change == Change::Crossed)
            });
        }
        all.add(&score);
    }
    all
}

/// OBS-10: precision and recall of at least 0.9 with a lead of ten minutes, on series of every kind; the seeds are fixed and
/// are not those that the constants were found with. So few series gate a change; the benchmark has the figures.
#[test]
fn precision_and_recall() {
    let score = score(Kind::POSITIVE.into_iter().chain(Kind::NEGATIVE), 5_000..5_008);
    assert!(score.precision() >= 0.9 && score.recall() >= 0.9, "{} {}", score.precision(), score.recall());
    assert!(score.lead(0.1) >= 10.0, "{:?}", score.leads);
}

/// OBS-10: fewer than 1 % of noisy but flat series give a false alarm.
#[test]
fn flat_series_are_quiet() {
    let score = score(Kind::FLAT, 6_000..6_020);
    assert_eq!(score.flat, 60);
    assert!(score.alarms_on_flat() < 0.01, "{} of {}", score.alarmed, score.flat);
}

/// Plays seconds and values to a track; what is told in the end.
fn play(track: &mut Track, samples: impl IntoIterator<Item = (i64, f64)>) -> Option<Crossing> {
    for (second, value) in samples {
        track.take(second * 1000, value, 100.0, HORIZON);
    }
    track.told()
}

/// OBS-10: a plain ramp is told of with its time, ends when it stops, and ends when the limit is crossed.
#[test]
fn the_life_of_a_forecast() {
    // A minute each; 50 % for two hours, then 1 % every two minutes: the limit comes 100 min after that.
    let ramp = |minute: i64| if minute < 120 { 50.0 } else { 50.0 + (minute - 120) as f64 / 2.0 };
    let at = |minutes: std::ops::Range<i64>| minutes.map(move |minute| (minute * 60, ramp(minute)));
    let mut track = Track::default();
    assert_eq!(play(&mut track, at(0..150)), None, "70 min ahead is beyond the horizon");
    let told = play(&mut track, at(150..180)).expect("40 min ahead is within it");
    assert!((told.at / 60_000.0 - 220.0).abs() < 3.0, "{told:?}");
    assert!(told.earliest <= told.at && told.at <= told.latest, "{told:?}");
    let mut stopped = track.clone();
    let quiet = play(&mut stopped, (180..220).map(|minute| (minute * 60, ramp(180))));
    assert_eq!(quiet, None, "it has stopped");
    assert!(play(&mut track, at(180..215)).is_some());
    assert_eq!(play(&mut track, at(215..232)), None, "the limit itself is an issue now");
}

#[test]
fn neither_a_step_nor_a_peak_nor_a_reset_is_a_trend() {
    type Value = fn(i64) -> f64;
    let minutes = |value: Value| (0..480).map(move |minute| (minute * 60, value(minute)));
    let cases: [(&str, Value); 5] = [
        ("flat", |_| 99.0),
        ("a step", |minute| if minute < 200 { 50.0 } else { 90.0 }),
        ("peaks", |minute| if minute % 40 < 2 { 150.0 } else { 60.0 }),
        ("a log that is rotated", |minute| 40.0 + (minute % 50) as f64),
        ("falling", |minute| 95.0 - minute as f64 / 10.0),
    ];
    for (name, value) in cases {
        let mut track = Track::default();
        // The first round of what repeats itself cannot be told from a trend.
        let mut told = 0;
        for (second, value) in minutes(value).filter(|(second, _)| *second < 3600 || *second > 6000) {
            track.take(second * 1000, value, 100.0, HORIZON);
            told += i32::from(second > 6600 && track.told().is_some());
        }
        assert_eq!(told, 0, "{name}");
    }
}

/// Nothing is said of what is known for less than the horizon, whatever it does.
#[test]
fn what_has_just_begun_is_left_alone() {
    let mut track = Track::default();
    assert_eq!(play(&mut track, (0..59).map(|minute| (minute * 60, minute as f64))), None);
    assert!(play(&mut track, (59..75).map(|minute| (minute * 60, minute as f64))).is_some());
}

/// OBS-10: what rises from the start on is told by the time from which silence means that there is no trend, and not long
/// before, however often it is sampled.
#[test]
fn it_is_learnt_when_the_earliest_forecast_is_told() {
    for interval in [1, 10, 45, 60, 100, 300] {
        let learnt = track::told_after(Duration::from_secs(3_600), Duration::from_secs(interval)).as_secs();
        for first in [0, interval / 2, interval] {
            let mut track = Track::default();
            let mut told = None;
            for at in (first..20_000).step_by(usize::try_from(interval).unwrap()) {
                track.take(i64::try_from(at).unwrap() * 1000, at as f64 / 100.0, 60.0, HORIZON);
                told = told.or(track.told().map(|_| at));
            }
            let told = told.expect("a ramp");
            assert!(told <= learnt && learnt < told + 120 + 6 * interval, "{interval} {first}: {told} {learnt}");
        }
    }
}

/// OBS-10: a clock that was set back unseen blinds nothing: all is learnt anew by the clock as it is. What comes a little out of
/// order changes nothing.
#[test]
fn samples_from_before_begin_anew() {
    let ramp = |from: i64, minutes: std::ops::Range<i64>| minutes.map(move |m| (from + m * 60, m as f64 / 2.0));
    let mut track = Track::default();
    assert!(play(&mut track, ramp(100_000, 0..150)).is_some(), "50 min ahead");
    let mut jitter = track.clone();
    assert!(play(&mut jitter, [(100_000 + 149 * 60 - 10, 74.5)]).is_some());
    let mut back = track.clone();
    assert_eq!(back.take(50_000_000, 0.0, 100.0, HORIZON), Change::Told, "it is taken back");
    assert!(play(&mut back, ramp(50_000, 1..150)).is_some(), "and found again");
    assert_eq!(back.sampled(), (50_000 + 149 * 60) * 1000);
}

/// OBS-9, OBS-10: latency of a bot is that of its executions and that of its WebSocket, each with a trend of its own.
#[test]
fn both_latencies_of_a_bot() {
    let mut vitals = Vitals { execution_latency_ms: Some(500.0), ..Vitals::default() };
    let settings = crate::detect::Settings::default();
    assert_eq!(of_vitals(&vitals, &settings), [("".into(), measure(Quantity::Latency, 0.5, 2.0))]);
    let socket = crate::model::WebSocketStatus { latency_ms: Some(250.0), ..Default::default() };
    vitals.websocket = Some(socket);
    let found = of_vitals(&vitals, &settings);
    assert_eq!(found[1], ("its WebSocket".into(), measure(Quantity::Latency, 0.25, 2.0)));
}

fn measure(quantity: Quantity, value: f64, limit: f64) -> Measure {
    Measure { quantity, value, limit }
}

/// OBS-10: the time between updates is followed, whatever the clock is set to, and a date in the future is none.
#[test]
fn update_intervals() {
    let mut updated = None;
    let at = |seconds: u64| NOW.plus(Duration::from_secs(seconds));
    let mut next = |moment: u64, now: u64| interval(&mut updated, at(moment).seconds(), at(now));
    assert_eq!(next(0, 0), None, "the first has none before it");
    assert_eq!(next(0, 5), None, "nothing new");
    assert_eq!(next(30, 31), Some(30.0));
    assert_eq!(next(10, 32), None, "set back");
    assert_eq!(next(40, 41), Some(30.0));
    assert_eq!(next(100, 50), None, "in the future");
    assert_eq!(next(60, 61), None, "counted anew");
    assert_eq!(next(75, 76), Some(15.0));
}

fn ramp(tracker: &mut Tracker, from: u64, to: u64, now: impl Fn(u64) -> Timestamp) {
    for minute in from..to {
        let value = if minute < 120 { 50.0 } else { 50.0 + (minute - 120) as f64 / 2.0 };
        tracker.take(&"a".into(), "".into(), &measure(Quantity::Memory, value, 100.0), now(minute));
    }
}

/// OBS-10: the clock set by hours moves forecasts and changes nothing else; a reload keeps what is known.
#[test]
fn clock_and_reload() {
    let at = |minute: u64| NOW.plus(Duration::from_secs(60 * minute));
    for shift in [7_200_000, -7_200_000] {
        let mut tracker = Tracker::new(Settings::default(), NOW);
        ramp(&mut tracker, 0, 175, at);
        let before = tracker.forecasts("a").pop().expect("45 min ahead");
        assert_eq!(tracker.shown().get(&("a".into(), Quantity::Memory)), Some(&before.at));
        tracker.shift(shift);
        let moved = tracker.forecasts("a").pop().expect("still there");
        assert_eq!(moved.at.millis() - before.at.millis(), shift);
        assert_eq!(tracker.shown().get(&("a".into(), Quantity::Memory)), Some(&moved.at));
        tracker = tracker.reconfigured(Settings::default(), |name| name == "a", at(175));
        ramp(&mut tracker, 175, 185, |minute| Timestamp::from_millis(at(minute).millis() + shift));
        let later = tracker.forecasts("a").pop().expect("it goes on");
        assert!((later.at.millis() - moved.at.millis()).abs() < 300_000, "{moved:?} {later:?}");
        assert!(tracker.is_learnt(Duration::from_secs(60), at(200)));
        tracker = tracker.reconfigured(Settings::default(), |_| false, at(185));
        assert_eq!((tracker.forecasts("a"), tracker.shown().len()), (Vec::new(), 0), "not configured any more");
    }
}

/// A quantity of which nothing is heard any more is expected to do nothing.
#[test]
fn silence_ends_a_forecast() {
    let at = |minute: u64| NOW.plus(Duration::from_secs(60 * minute));
    let mut tracker = Tracker::new(Settings::default(), NOW);
    ramp(&mut tracker, 0, 175, at);
    assert!(tracker.forget_silent(at(230)).is_empty());
    assert_eq!(tracker.forget_silent(at(236)), BTreeSet::from(["a".into()]));
    assert_eq!(tracker.forecasts("a"), []);
    assert_eq!(tracker.shown().get(&("a".into(), Quantity::Memory)), Some(&Timestamp::EPOCH));
}

#[test]
fn sentences() {
    let clock = |text: &str| Timestamp::parse_rfc3339(text).expect("a date");
    let now = clock("2025-11-23T13:54:00Z");
    let forecast = Forecast {
        quantity: Quantity::Latency,
        part: "".into(),
        limit: 2.0,
        at: clock("2025-11-23T14:32:10Z"),
        earliest: clock("2025-11-23T14:19:10Z"),
        latest: clock("2025-11-23T14:49:10Z"),
    };
    let said = sentence(&"data_feed".into(), &forecast, now);
    assert_eq!(said, "data_feed: latency will exceed 2 s at about 14:32 UTC (between 14:19 and 14:49)");
    let (quantity, part) = (Quantity::Disk, "space at /srv".into());
    let disk = Forecast { quantity, part, limit: 90.0, at: clock("2025-11-24T00:02:00Z"), ..forecast };
    let said = sentence(&"host".into(), &disk, now);
    assert!(
        said.starts_with("host: use of space at /srv will exceed 90% at about 2025-11-24 00:02 UTC (bet"),
        "{said}"
    );
}
