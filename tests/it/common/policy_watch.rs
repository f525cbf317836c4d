//! What a bot would have obeyed at every moment, by looking at the policy file as a bot does.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chiron::model::{Level, Timestamp};
use serde_json::Value;

use super::process::now_millis;

/// How soon after its acceptance an alert's level is in the policy file.
const TIGHTENS_WITHIN: Duration = Duration::from_millis(250);

type Changes = Arc<Mutex<Vec<(Instant, Level)>>>;

/// Looks at a policy file every few milliseconds until it is dropped.
pub(crate) struct PolicyWatch {
    changes: Changes,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PolicyWatch {
    /// Watches `dir/data/safety_policy.json`.
    pub(crate) fn start(dir: &Path) -> Self {
        let path = policy_file(dir);
        let changes = Changes::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (mine, stopped) = (Arc::clone(&changes), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let level = obeyed(&path);
                let mut changes = mine.lock().expect("nobody panics while watching");
                if changes.last().is_none_or(|(_, last)| *last != level) {
                    changes.push((Instant::now(), level));
                }
                drop(changes);
                std::thread::sleep(Duration::from_millis(4));
            }
        });
        Self { changes, stop, thread: Some(thread) }
    }

    /// The level obeyed now.
    pub(crate) fn now(&self) -> Option<Level> {
        self.changes.lock().expect("nobody panics while watching").last().map(|(_, level)| *level)
    }

    /// When, after `alarm`, a level below `wanted` was obeyed although `wanted` had been reached; and whether it was
    /// reached at all.
    pub(crate) fn loosened(&self, alarm: Instant, wanted: Level) -> (bool, Vec<(Duration, Level)>) {
        loosened(&self.changes.lock().expect("nobody panics while watching"), alarm, wanted, TIGHTENS_WITHIN)
    }
}

/// `grace`: how soon after the alarm its level shows; another source may hold the level before.
fn loosened(
    changes: &[(Instant, Level)],
    alarm: Instant,
    wanted: Level,
    grace: Duration,
) -> (bool, Vec<(Duration, Level)>) {
    let before = changes.iter().rev().find(|(at, _)| *at <= alarm).map(|(_, level)| (alarm, *level));
    let after = changes.iter().filter(|(at, _)| *at > alarm).copied();
    let mut reached = false;
    let mut loosened = Vec::new();
    for (at, level) in before.into_iter().chain(after) {
        reached |= level >= wanted;
        let due = at.duration_since(alarm) >= grace;
        if reached && due && level < wanted {
            loosened.push((at.duration_since(alarm), level));
        }
    }
    (reached, loosened)
}

impl Drop for PolicyWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where chiron puts the policy file of the workspace `dir`.
pub(crate) fn policy_file(dir: &Path) -> PathBuf {
    dir.join("data/safety_policy.json")
}

/// What a bot makes of the file now (POL-5): missing, unreadable or expired is at least `no_new_trades`.
pub(crate) fn obeyed(path: &Path) -> Level {
    let Ok(text) = std::fs::read(path) else { return Level::NoNewTrades };
    let Ok(document) = serde_json::from_slice::<Value>(&text) else { return Level::NoNewTrades };
    let level = document["policy"].as_str().and_then(Level::parse);
    let until = document["valid_until"].as_str().and_then(Timestamp::parse_rfc3339);
    match (level, until) {
        (Some(level), Some(until)) if until.millis() >= now_millis() => level,
        (level, _) => level.unwrap_or(Level::NoNewTrades).max(Level::NoNewTrades),
    }
}

/// The watch sees a policy that loosens, and what a bot makes of each kind of file.
#[test]
fn watch_sees_loosening() {
    let begun = Instant::now();
    let at = |seconds: u64| begun + Duration::from_secs(seconds);
    let changes = [(at(0), Level::AllowAll), (at(5), Level::NoNewTrades), (at(7), Level::AllowAll)];
    let nothing: Vec<(Duration, Level)> = Vec::new();
    assert_eq!(
        loosened(&changes[..2], at(3), Level::NoNewTrades, Duration::ZERO),
        (true, nothing.clone()),
        "slow is not loose"
    );
    assert_eq!(loosened(&changes[..1], at(3), Level::NoNewTrades, Duration::ZERO), (false, nothing));
    let found = vec![(Duration::from_secs(4), Level::AllowAll)];
    assert_eq!(loosened(&changes, at(3), Level::NoNewTrades, Duration::ZERO), (true, found));
    let found = vec![(Duration::from_secs(1), Level::AllowAll)];
    assert_eq!(
        loosened(&changes, at(6), Level::NoNewTrades, Duration::ZERO),
        (true, found),
        "what held before the alarm counts"
    );

    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let file = dir.path().join("policy.json");
    assert_eq!(obeyed(&file), Level::NoNewTrades, "missing");
    for (until, level) in [(60_000, Level::AllowAll), (-60_000, Level::NoNewTrades)] {
        let until = Timestamp::from_millis(now_millis() + until);
        let text = serde_json::json!({"policy": "allow_all", "valid_until": until}).to_string();
        std::fs::write(&file, text).expect("a file can be written");
        assert_eq!(obeyed(&file), level);
    }
    std::fs::write(&file, "{").expect("a file can be written");
    assert_eq!(obeyed(&file), Level::NoNewTrades, "unreadable");
}
