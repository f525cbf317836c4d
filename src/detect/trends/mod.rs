//! Prediction (OBS-10): which quantities will cross their limits within the horizon if they go on as they do now.
//!
//! In: numbers with limits, as checks and the host give them. Out: forecasts, which rules turn into issues.
//!
//! ```text
//! samples -> series (buckets) -> projection (lines through windows) -> track (begun, moved, ended) -> tracker -> rules
//! ```
//! **Invariant:** pure; in memory only, so that a new process learns anew. One quantity takes at most about 800 bytes, and
//! nothing before its first sample; an update interval nothing but its place before the second update. A sample costs a search
//! and an addition, an evaluation comes at most once in 1/120 of the horizon.

pub mod fit;
pub mod projection;
pub mod series;
pub mod track;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::{
    EpisodeKey, Forecasts, HOST, Issue, IssueSource, Measure, Name, Quantity, Resources, Severity, Timestamp, Vitals,
};

use track::{Change, Track};

/// How far a moment may lie ahead before it is no update: clocks of one host differ by less.
const AHEAD_MAX: Duration = Duration::from_secs(5);

/// What is predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether anything is; default true.
    pub enabled: bool,
    /// How far ahead a crossing is told of; 1 min to 1 d, default 1 h. All else follows from it.
    pub horizon: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { enabled: true, horizon: Duration::from_secs(3_600) }
    }
}

/// A crossing that is to be expected.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Of what.
    pub quantity: Quantity,
    /// Which of several, such as `space at /srv`; may be empty.
    pub part: Name,
    /// The limit, in the unit of the quantity.
    pub limit: f64,
    /// When, most likely.
    pub at: Timestamp,
    /// Hardly sooner.
    pub earliest: Timestamp,
    /// Hardly later.
    pub latest: Timestamp,
}

/// Whose quantity; ordered by subsystem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    subsystem: Name,
    quantity: Quantity,
    part: Name,
}

#[derive(Debug, Default)]
struct Entry {
    track: Track,
    /// The latest update, for a quantity that is a moment.
    updated: Option<Timestamp>,
}

/// Every quantity that is followed.
#[derive(Debug)]
pub struct Tracker {
    settings: Settings,
    /// Times of tracks count from here, and it moves when the clock is set.
    origin: i64,
    began: Timestamp,
    entries: BTreeMap<Key, Entry>,
    told: BTreeSet<Key>,
    shown: Forecasts,
}

impl Tracker {
    /// Nothing known yet.
    pub fn new(settings: Settings, now: Timestamp) -> Self {
        Self {
            settings,
            origin: now.millis(),
            began: now,
            entries: BTreeMap::new(),
            told: BTreeSet::new(),
            shown: Forecasts::new(),
        }
    }

    /// The same under new settings, for the subsystems that stay: another horizon makes other series.
    pub fn reconfigured(mut self, settings: Settings, stays: impl Fn(&str) -> bool, now: Timestamp) -> Self {
        let stays = |subsystem: &Name| *subsystem == *HOST || stays(subsystem);
        if self.settings != settings {
            let rows = self.shown.into_iter().filter(|((subsystem, _), _)| settings.enabled && stays(subsystem));
            let shown = rows.map(|(key, _)| (key, Timestamp::EPOCH)).collect();
            return Self { shown, ..Self::new(settings, now) };
        }
        self.entries.retain(|key, _| stays(&key.subsystem));
        self.told.retain(|key| stays(&key.subsystem));
        self.shown = self.shown.into_iter().filter(|((subsystem, _), _)| stays(subsystem)).collect();
        self
    }

    /// The wall clock was set forward by so much, or back. The latest updates are forgotten: what wrote them may count by the
    /// old clock or the new one.
    pub fn shift(&mut self, millis: i64) {
        self.origin = self.origin.saturating_add(millis);
        self.began = Timestamp::from_millis(self.began.millis().saturating_add(millis));
        self.entries.values_mut().for_each(|entry| entry.updated = None);
        for subsystem in self.told() {
            self.show(&subsystem);
        }
    }

    /// Takes a sample; returns whether a forecast about the subsystem began, moved or ended.
    pub fn take(&mut self, subsystem: &Name, part: Name, measure: &Measure, at: Timestamp) -> bool {
        if !self.settings.enabled {
            return false;
        }
        let key = Key { subsystem: subsystem.clone(), quantity: measure.quantity, part };
        let new = !self.entries.contains_key(&key);
        let entry = self.entries.entry(key.clone()).or_default();
        let value = if measure.quantity == Quantity::UpdatedAt {
            interval(&mut entry.updated, measure.value, at)
        } else {
            Some(measure.value)
        };
        let horizon = i64::try_from(self.settings.horizon.as_millis()).unwrap_or(i64::MAX);
        let time = at.millis().saturating_sub(self.origin);
        let change = value.map_or(Change::None, |value| entry.track.take(time, value, measure.limit, horizon));
        if change != Change::None {
            if entry.track.told().is_some() {
                self.told.insert(key);
            } else {
                self.told.remove(&key);
            }
        }
        if new || change != Change::None {
            self.show(subsystem);
        }
        change != Change::None
    }

    /// Takes back the forecasts of what nothing has been heard of for a horizon; returns about whom.
    pub fn forget_silent(&mut self, now: Timestamp) -> BTreeSet<Name> {
        let horizon = i64::try_from(self.settings.horizon.as_millis()).unwrap_or(i64::MAX);
        let time = now.millis().saturating_sub(self.origin);
        let silent = |key: &&Key| {
            self.entries.get(*key).is_none_or(|entry| time.saturating_sub(entry.track.sampled()) > horizon)
        };
        let gone: Vec<Key> = self.told.iter().filter(silent).cloned().collect();
        for key in &gone {
            self.told.remove(key);
            if let Some(entry) = self.entries.get_mut(key) {
                entry.track.give_up();
            }
            self.show(&key.subsystem);
        }
        gone.into_iter().map(|key| key.subsystem).collect()
    }

    /// What is expected of a subsystem, by quantity.
    pub fn forecasts(&self, subsystem: &str) -> Vec<Forecast> {
        let mine = self.told.iter().filter(|key| key.subsystem == *subsystem);
        mine.filter_map(|key| {
            let track = &self.entries.get(key)?.track;
            let crossing = track.told()?;
            Some(Forecast {
                quantity: key.quantity,
                part: key.part.clone(),
                limit: track.limit(),
                at: self.time(crossing.at),
                earliest: self.time(crossing.earliest),
                latest: self.time(crossing.latest),
            })
        })
        .collect()
    }

    /// Every subsystem of which something is expected.
    pub fn told(&self) -> BTreeSet<Name> {
        self.told.iter().map(|key| key.subsystem.clone()).collect()
    }

    /// Whether a forecast would have been made by now of what is sampled each `interval`: before, that there is none means
    /// nothing.
    pub fn is_learnt(&self, interval: Duration, now: Timestamp) -> bool {
        !self.settings.enabled || now.since(self.began) >= track::told_after(self.settings.horizon, interval)
    }

    /// Every quantity that is followed, and when it will cross its limit; the epoch if that is not expected.
    pub fn shown(&self) -> Forecasts {
        self.shown.clone()
    }

    /// Brings what is shown of a subsystem up to date.
    fn show(&mut self, subsystem: &Name) {
        let from = Key { subsystem: subsystem.clone(), quantity: Quantity::Disk, part: "".into() };
        let mut soonest: BTreeMap<Quantity, Timestamp> = BTreeMap::new();
        for (key, entry) in self.entries.range(from..).take_while(|(key, _)| key.subsystem == *subsystem) {
            let at = entry.track.told().map_or(Timestamp::EPOCH, |crossing| self.time(crossing.at));
            let shown = soonest.entry(key.quantity).or_insert(at);
            if *shown == Timestamp::EPOCH || at != Timestamp::EPOCH && at < *shown {
                *shown = at;
            }
        }
        for (quantity, at) in soonest {
            self.shown.insert((subsystem.clone(), quantity), at);
        }
    }

    /// A moment of the tracks' time on the wall clock, to the second.
    #[expect(clippy::cast_possible_truncation, reason = "a moment within days of now")]
    fn time(&self, millis: f64) -> Timestamp {
        Timestamp::from_millis(self.origin.saturating_add(millis as i64).div_euclid(1000) * 1000)
    }
}

/// The time since the update before, in seconds, if there is a new one.
#[expect(clippy::cast_possible_truncation, reason = "seconds of any real date")]
fn interval(updated: &mut Option<Timestamp>, value: f64, at: Timestamp) -> Option<f64> {
    let moment = Timestamp::from_millis((value * 1000.0) as i64);
    if moment > at.plus(AHEAD_MAX) {
        // A date in the future says nothing about the past.
        *updated = None;
        return None;
    }
    let before = updated.replace(moment)?;
    (moment > before).then(|| moment.since(before).as_secs_f64())
}

/// What a bot tells about itself, as far as its trend matters, each with the part that it is of.
pub fn of_vitals(vitals: &Vitals, settings: &super::Settings) -> Vec<(Name, Measure)> {
    let slow = |latency: f64| Measure {
        quantity: Quantity::Latency,
        value: latency / 1000.0,
        limit: settings.max_latency_ms / 1000.0,
    };
    let socket = vitals.websocket.as_ref().and_then(|socket| socket.latency_ms).map(slow);
    let latency = vitals.execution_latency_ms.map(slow);
    let errors = vitals.error_rate.map(|rate| Measure {
        quantity: Quantity::ErrorRate,
        value: rate,
        limit: settings.max_error_rate,
    });
    let memory = vitals.memory_usage.map(|usage| Measure {
        quantity: Quantity::Memory,
        value: usage * 100.0,
        limit: settings.max_memory_percent,
    });
    let whole = [latency, errors, memory].into_iter().flatten().map(|measure| (Name::from(""), measure));
    whole.chain(socket.map(|measure| (Name::from("its WebSocket"), measure))).collect()
}

/// What the host has left, each with the part that it is of.
#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
pub fn of_host(resources: &Resources, settings: &super::Settings) -> Vec<(Name, Measure)> {
    let disk = |value| Measure { quantity: Quantity::Disk, value, limit: settings.max_disk_percent };
    let mut all = Vec::new();
    for found in &resources.disks {
        all.push((format!("space at {}", found.path).into(), disk(found.used_percent())));
        if found.inodes > 0 {
            let used = 100.0 * (1.0 - found.inodes_free as f64 / found.inodes as f64);
            all.push((format!("inodes at {}", found.path).into(), disk(used)));
        }
    }
    if resources.memory_total_bytes > 0 {
        let (value, limit) = (resources.memory_percent, settings.max_memory_percent);
        all.push(("".into(), Measure { quantity: Quantity::Memory, value, limit }));
    }
    all
}

/// The issue that the soonest forecast of a quantity is.
pub(super) fn issue(quantity: Quantity, subsystem: &Name, forecasts: &[Forecast], now: Timestamp) -> Option<Issue> {
    let mut mine: Vec<&Forecast> = forecasts.iter().filter(|forecast| forecast.quantity == quantity).collect();
    mine.sort_by_key(|forecast| forecast.at);
    let description = sentence(subsystem, mine.first()?, now);
    Some(Issue {
        issue_id: Name::from(""),
        key: EpisodeKey { subsystem: subsystem.clone(), symbol: None, kind: quantity.forecast().into() },
        severity: Severity::Low,
        timestamp: now,
        symptoms: mine.iter().map(|forecast| sentence(subsystem, forecast, now)).collect(),
        description,
        root_cause: None,
        impacts_trading: false,
        affects_subsystems: Vec::new(),
        source: IssueSource::Check,
    })
}

/// `data_feed: latency will exceed 2 s at about 14:32 UTC (between 14:19 and 14:49)`; the day is named if it is another.
fn sentence(subsystem: &Name, forecast: &Forecast, now: Timestamp) -> String {
    let Forecast { part, limit, at, earliest, latest, .. } = forecast;
    let of = if part.is_empty() { String::new() } else { format!(" of {part}") };
    let what = match forecast.quantity {
        Quantity::Disk => format!("use{of} will exceed {limit}%"),
        Quantity::Memory => format!("memory use{of} will exceed {limit}%"),
        Quantity::Latency => format!("latency{of} will exceed {limit} s"),
        Quantity::ErrorRate => format!("error rate{of} will exceed {limit}"),
        Quantity::UpdatedAt => format!("time between updates{of} will exceed {limit} s"),
    };
    let span = latest.since(*earliest).max(at.since(now));
    let format = match (at.to_datetime().date_naive() == now.to_datetime().date_naive(), span.as_secs() < 600) {
        (true, false) => "%H:%M",
        (true, true) => "%H:%M:%S",
        (false, _) => "%Y-%m-%d %H:%M",
    };
    let clock = |time: &Timestamp| time.to_datetime().format(format).to_string();
    format!("{subsystem}: {what} at about {} UTC (between {} and {})", clock(at), clock(earliest), clock(latest))
}

#[cfg(test)]
mod tests;
