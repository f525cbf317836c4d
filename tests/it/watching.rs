//! Changes of files are seen at once: the interval of every check here is ten minutes, so that only watching explains it.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Chiron, Config, wait_for, wait_for_within};

/// Well under the interval, with room for a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn config(dir: &Path, subsystems: &str) -> String {
    let text = Config::new(dir).with(subsystems).text().to_owned();
    text.replace("check_interval: 1s", "check_interval: 10m")
}

fn wait_status(chiron: &Chiron, subsystem: &str, status: &str) -> Duration {
    let begun = Instant::now();
    wait_for_within(&format!("{subsystem} to be {status}"), SOON, || {
        let health = chiron.get_json("/status")["subsystem_health"][subsystem].clone();
        if health["status"] == status { Ok(()) } else { Err(health) }
    });
    begun.elapsed()
}

fn wait_watched(chiron: &Chiron) {
    wait_for("the files to be watched", || match chiron.metric("chiron_unwatched_folders", &[]) {
        Some(0.0) => Ok(()),
        found => Err(found),
    });
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("tmp");
    std::fs::write(&beside, text).expect("a file can be written");
    std::fs::rename(&beside, path).expect("a file can be replaced");
}

const FEED: &str = "subsystems:
  feed: {check: {kind: json, path: data/feed.json, ranges: {lag: {max: 10}}, missing: critical}}
  trades: {check: {kind: file_age, path: data/trades, degraded_after: 1h, critical_after: 2h, missing: degraded}}
  models: {check: {kind: file_set, paths: [models/a, models/b], healthy_at: 2, degraded_at: 1}}
  logging: {check: {kind: dir_age, path: botlogs, pattern: '*.log', degraded_after: 1h, critical_after: 2h, missing: degraded}}
";

/// OBS-7: every kind of file check sees a change at once: replaced, written, created, removed, far below, and dated anew.
#[test]
fn every_kind_of_file_check_sees_a_change_at_once() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(at("models")).expect("a folder can be made");
    std::fs::create_dir_all(at("botlogs/2026")).expect("a folder can be made");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), FEED)).start();
    wait_watched(&chiron);
    wait_status(&chiron, "feed", "critical");
    for (lag, status) in [(1, "healthy"), (11, "critical"), (2, "healthy")] {
        replace(&at("data/feed.json"), &format!("{{\"lag\": {lag}}}"));
        wait_status(&chiron, "feed", status);
    }
    std::fs::write(at("data/feed.json"), "{\"lag\": 12}").expect("a file can be written");
    wait_status(&chiron, "feed", "critical");
    wait_status(&chiron, "trades", "degraded");
    std::fs::write(at("data/trades"), "x").expect("a file can be written");
    wait_status(&chiron, "trades", "healthy");
    let date = |hours: u64| {
        let file = std::fs::File::options().write(true).open(at("data/trades")).expect("it is there");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(hours * 3600)).expect("it takes a date");
    };
    date(3);
    wait_status(&chiron, "trades", "critical");
    date(0);
    wait_status(&chiron, "trades", "healthy");
    for (name, status) in [("models/a", "degraded"), ("models/b", "healthy")] {
        std::fs::write(at(name), "x").expect("a file can be written");
        wait_status(&chiron, "models", status);
    }
    std::fs::remove_file(at("models/a")).expect("a file can be removed");
    wait_status(&chiron, "models", "degraded");
    wait_status(&chiron, "logging", "degraded");
    std::fs::write(at("botlogs/2026/bot.log"), "x").expect("a file can be written");
    wait_status(&chiron, "logging", "healthy");
    assert!(chiron.metric("chiron_watch_changes_total", &[]).is_some_and(|count| count >= 8.0));
    assert!(chiron.metric("chiron_watched_folders", &[]).is_some_and(|count| count >= 4.0));
}

/// OBS-7, OBS-3: the built-in subsystems too; what turns stale and is rewritten by renaming is healthy at once.
#[test]
fn a_built_in_subsystem_is_healthy_as_soon_as_its_file_is() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let text = config(dir.path(), "").replace("profile: none", "profile: quantum");
    let state = dir.path().join("data/event_executor_state.json");
    let cycle = |age: u64| {
        let at = std::time::SystemTime::now() - Duration::from_secs(age);
        let seconds = at.duration_since(std::time::UNIX_EPOCH).expect("it is later").as_secs();
        replace(&state, &format!("{{\"last_cycle\": {seconds}}}"));
    };
    cycle(600);
    let chiron = Chiron::with_config(dir.path(), &text).start();
    wait_status(&chiron, "event_executor", "critical");
    wait_watched(&chiron);
    cycle(0);
    let took = wait_status(&chiron, "event_executor", "healthy");
    eprintln!("a file rewritten was healthy after {took:?}");
    let database = dir.path().join("backend/data/quantum_trader.db");
    std::fs::create_dir_all(database.parent().expect("it has one")).expect("a folder can be made");
    let made = rusqlite::Connection::open(&database).and_then(|made| made.execute_batch("CREATE TABLE trades (id)"));
    made.expect("a database can be made");
    wait_status(&chiron, "database", "healthy");
}

/// OBS-7: a folder that is removed and made anew, and a workspace that is moved away and back, are followed; and so are the
/// new files of a reload.
#[test]
fn folders_that_go_and_come_are_followed() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let ws = dir.path().join("ws");
    let feed = ws.join("data/feed.json");
    let check = |name: &str| {
        format!(
            "subsystems:\n  feed: {{check: {{kind: json, path: {:?}, missing: degraded}}}}\n",
            ws.join("data").join(name)
        )
    };
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), &check("feed.json"))).start();
    wait_status(&chiron, "feed", "degraded");
    for _ in 0..2 {
        std::fs::create_dir_all(ws.join("data")).expect("a folder can be made");
        replace(&feed, "{}");
        wait_status(&chiron, "feed", "healthy");
        std::fs::remove_dir_all(&ws).expect("a folder can be removed");
        wait_status(&chiron, "feed", "degraded");
    }
    std::fs::create_dir_all(ws.join("data")).expect("a folder can be made");
    replace(&feed, "{}");
    wait_status(&chiron, "feed", "healthy");
    std::fs::rename(&ws, dir.path().join("away")).expect("a folder can be moved");
    wait_status(&chiron, "feed", "degraded");
    std::fs::rename(dir.path().join("away"), &ws).expect("a folder can be moved");
    wait_status(&chiron, "feed", "healthy");
    chiron.rewrite_config(&config(dir.path(), &check("other.json")));
    chiron.hang_up();
    wait_status(&chiron, "feed", "degraded");
    wait_watched(&chiron);
    replace(&ws.join("data/other.json"), "{}");
    wait_status(&chiron, "feed", "healthy");
}

/// OBS-7: chiron's own files and the neighbours of a file wake nobody, however often they are written.
#[test]
fn own_files_and_neighbours_wake_nobody() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let text = config(
        dir.path(),
        "log_dir: logs\nsubsystems:\n  feed: {check: {kind: file_age, path: data/feed, missing: degraded}}\n  \
         logging: {check: {kind: dir_age, path: logs, missing: degraded}}\n  \
         own: {check: {kind: file_age, path: data/safety_policy.json, missing: degraded}}\n",
    );
    let chiron = Chiron::with_config(dir.path(), &text).start();
    wait_watched(&chiron);
    let checked = |name: &str| {
        chiron.metric("chiron_subsystem_check_timestamp_seconds", &[("subsystem", name)]).expect("it is checked")
    };
    wait_for("every check to have run", || if checked("logging") > 0.0 { Ok(()) } else { Err(()) });
    let before = ["feed", "logging", "own"].map(checked);
    for number in 0..200 {
        replace(&dir.path().join("data/neighbour.json"), &number.to_string());
        replace(&dir.path().join("data/safety_policy.json"), "{}");
        std::fs::write(dir.path().join("logs/operator_alerts.jsonl"), "x").expect("a file can be written");
    }
    // A file of the bot's is seen; nothing that happened before it was worth a look.
    std::fs::write(dir.path().join("data/feed"), "x").expect("a file can be written");
    wait_status(&chiron, "feed", "healthy");
    assert_eq!(["logging", "own"].map(checked), [before[1], before[2]]);
    assert!(checked("feed") > before[0]);
}

/// OBS-7: where the kernel gives no watches, or no ear at all, chiron says so once and the schedule remains.
#[test]
fn without_inotify_the_schedule_remains() {
    for (limit, setting) in
        [("max_inotify_instances", "max_user_instances"), ("max_inotify_watches", "max_user_watches")]
    {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let text = Config::new(dir.path())
            .with("subsystems:\n  feed: {check: {kind: file_age, path: data/feed, missing: degraded}}\n");
        // A user namespace has limits of its own.
        let wrap = format!("echo 0 > /proc/sys/user/{limit} && exec \"$@\"");
        let wrapper = ["unshare", "--user", "--map-root-user", "sh", "-c", &wrap, "sh"];
        let chiron = Chiron::with_config(dir.path(), text.text()).under(&wrapper).start();
        wait_status(&chiron, "feed", "degraded");
        std::fs::write(dir.path().join("data/feed"), "x").expect("a file can be written");
        wait_status(&chiron, "feed", "healthy");
        let log = chiron.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("not all files can be watched")).collect();
        assert!(lines.len() == 1 && lines[0].contains(setting), "{limit}: {lines:?}");
        assert_eq!(chiron.metric("chiron_unwatched_folders", &[]), Some(1.0), "{limit}");
        assert_eq!(chiron.metric("chiron_watched_folders", &[]), Some(0.0), "{limit}");
    }
}
