//! The files of a bot's workspace, written as a bot writes them (OBS-3).
//!
//! In: a folder and a time. Out: files that the profile `quantum` finds healthy, or exactly SPEC 15's reference.
//! **Invariant:** JSON files are replaced atomically; readers never see half of one.
#![expect(clippy::disallowed_methods, reason = "plays the bot, which writes its own files in its own way")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::model::Timestamp;

/// The four model files that `ai_model` counts, below `models/`.
pub const MODEL_FILES: [&str; 4] = ["xgb_model.pkl", "lgbm_model.pkl", "nhits_model.pth", "patchtst_model.pth"];

/// The subsystems that keep `data/NAME_state.json`.
pub const STATE_NAMES: [&str; 7] = [
    "orchestrator",
    "portfolio_balancer",
    "position_monitor",
    "universe_os",
    "risk_guard",
    "model_supervisor",
    "retraining_orchestrator",
];

/// Every folder of a workspace.
const FOLDERS: [&str; 5] = ["data", "models", "backend/data", "logs", "state"];

/// Where the database stands, below the workspace.
pub(super) const DATABASE: &str = "backend/data/quantum_trader.db";

/// Where the log stands, below the workspace.
pub(super) const LOG: &str = "logs/bot.log";

/// Most bytes read from any file here.
const READ_MAX: u64 = 64 * 1024;

/// Makes a healthy workspace without a running bot: every file fresh as of now, which ages from then on.
pub fn create_workspace(dir: &Path) -> io::Result<()> {
    let now = Timestamp::from(chrono::DateTime::from(SystemTime::now()));
    for folder in FOLDERS {
        fs::create_dir_all(dir.join(folder))?;
    }
    write_models(dir)?;
    let database = open_database(dir).map_err(io::Error::other)?;
    record_trade(&database, 0, now).map_err(io::Error::other)?;
    write_cycle(dir, 0, now)?;
    append_line(&dir.join(LOG), &format!("{now} INFO workspace created"))
}

/// Makes exactly the workspace of SPEC 15's reference report, as of `now`: a snapshot 320 s old by its own timestamp
/// and by its modification time, one model file of four, no database, a log 2 min old, and nothing else.
pub fn reference_workspace(dir: &Path, now: Timestamp) -> io::Result<()> {
    for folder in ["data", "models", "logs"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let snapshot = dir.join("data/universe_snapshot.json");
    let taken = now.minus(Duration::from_secs(320));
    write_json(&snapshot, &universe_snapshot(taken))?;
    set_modified(&snapshot, taken)?;
    fs::write(dir.join("models").join(MODEL_FILES[0]), model_bytes(MODEL_FILES[0]))?;
    let log = dir.join(LOG);
    let logged = now.minus(Duration::from_secs(120));
    append_line(&log, &format!("{logged} INFO cycle=18233 policy=allow_all"))?;
    set_modified(&log, logged)
}

/// Writes what a bot writes in each cycle.
pub(super) fn write_cycle(dir: &Path, cycle: u64, now: Timestamp) -> io::Result<()> {
    let data = dir.join("data");
    write_json(&data.join("universe_snapshot.json"), &universe_snapshot(now))?;
    write_json(
        &data.join("recent_trades.json"),
        &json!({
            "last_update": now.seconds(),
            "trades": [{"id": format!("t-{cycle}"), "symbol": "BTCUSDT", "side": "buy", "price": 86412.5,
                        "size": 0.012, "time": now.seconds()}],
        }),
    )?;
    write_json(
        &data.join("event_executor_state.json"),
        &json!({"last_cycle": now, "cycle_count": cycle, "status": "running", "errors": 0}),
    )?;
    for name in STATE_NAMES {
        write_json(
            &data.join(format!("{name}_state.json")),
            &json!({"timestamp": now, "status": "running", "cycle_count": cycle}),
        )?;
    }
    Ok(())
}

/// Writes the four model files, unless they stand.
pub(super) fn write_models(dir: &Path) -> io::Result<()> {
    let models = dir.join("models");
    fs::create_dir_all(&models)?;
    for name in MODEL_FILES {
        let path = models.join(name);
        if !path.exists() {
            write_atomic(&path, &model_bytes(name))?;
        }
    }
    Ok(())
}

/// Opens the bot's database, making it and its table if they are missing.
pub(super) fn open_database(dir: &Path) -> rusqlite::Result<Connection> {
    let path = dir.join(DATABASE);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    }
    let database = Connection::open(path)?;
    database.busy_timeout(Duration::from_secs(2))?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS trades (
             id INTEGER PRIMARY KEY, at TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
             price REAL NOT NULL, size REAL NOT NULL, cycle INTEGER NOT NULL);
         CREATE INDEX IF NOT EXISTS trades_at ON trades (at);",
    )?;
    Ok(database)
}

/// Records one trade, and forgets those beyond the latest 10,000.
pub(super) fn record_trade(database: &Connection, cycle: u64, now: Timestamp) -> rusqlite::Result<()> {
    database.execute(
        "INSERT INTO trades (at, symbol, side, price, size, cycle) VALUES (?1, 'BTCUSDT', 'buy', 86412.5, 0.012, ?2)",
        (now.rfc3339(), i64::try_from(cycle).unwrap_or(i64::MAX)),
    )?;
    database.execute("DELETE FROM trades WHERE id <= (SELECT max(id) FROM trades) - 10000", ())?;
    Ok(())
}

/// Replaces a JSON file atomically.
pub(super) fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    write_atomic(path, value.to_string().as_bytes())
}

/// Replaces a file atomically: written beside it under a name that starts with a dot, then renamed.
pub(super) fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::other(format!("`{}` names no file", path.display())))?;
    let beside = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&beside, path)
}

/// Appends a line in one write.
pub(super) fn append_line(path: &Path, line: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::options().create(true).append(true).open(path)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// Reads the beginning of a file, at most 64 KiB.
pub(super) fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(READ_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn universe_snapshot(taken: Timestamp) -> Value {
    json!({"timestamp": taken, "symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT"], "source": "binance"})
}

/// Plausible beginnings: a pickle's protocol mark, or the zip that PyTorch writes.
fn model_bytes(name: &str) -> Vec<u8> {
    let head: &[u8] = if name.ends_with(".pth") { b"PK\x03\x04" } else { b"\x80\x04\x95" };
    let mut bytes = head.to_vec();
    bytes.resize(4096, 0x2e);
    bytes
}

fn set_modified(path: &Path, at: Timestamp) -> io::Result<()> {
    let since_epoch = Duration::from_millis(u64::try_from(at.millis()).unwrap_or(0));
    File::options().append(true).open(path)?.set_modified(SystemTime::UNIX_EPOCH + since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut left = vec![dir.to_path_buf()];
        while let Some(folder) = left.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    found.push(path.strip_prefix(dir).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        found.sort();
        found
    }

    /// OBS-3: the healthy workspace holds a file for each of the thirteen subsystems, and a database SQLite calls sound.
    #[test]
    fn healthy_workspace_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        create_workspace(dir.path()).unwrap();
        let found = files(dir.path());
        for name in STATE_NAMES {
            assert!(found.contains(&format!("data/{name}_state.json")), "{name} missing from {found:?}");
        }
        for name in ["data/universe_snapshot.json", "data/recent_trades.json", "data/event_executor_state.json", LOG] {
            assert!(found.contains(&name.to_owned()), "{name} missing from {found:?}");
        }
        let models = found.iter().filter(|name| name.starts_with("models/")).count();
        assert_eq!(models, MODEL_FILES.len());
        let database = open_database(dir.path()).unwrap();
        let sound: String = database.query_row("PRAGMA integrity_check", (), |row| row.get(0)).unwrap();
        assert_eq!(sound, "ok");
        let trades: i64 = database.query_row("SELECT count(*) FROM trades", (), |row| row.get(0)).unwrap();
        assert_eq!(trades, 1);
        assert!(!found.iter().any(|name| name.contains("/.")), "nothing unfinished is left: {found:?}");
    }

    /// SPEC 15: the reference workspace is exactly three files, two of them as old as the reference says.
    #[test]
    fn reference_workspace_is_exact() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::parse_rfc3339("2025-11-23T01:34:56Z").unwrap();
        reference_workspace(dir.path(), now).unwrap();
        assert_eq!(files(dir.path()), ["data/universe_snapshot.json", LOG, "models/xgb_model.pkl"]);
        let age = |name: &str| {
            let modified = fs::metadata(dir.path().join(name)).unwrap().modified().unwrap();
            now.since(Timestamp::from(chrono::DateTime::from(modified)))
        };
        assert_eq!(age("data/universe_snapshot.json"), Duration::from_secs(320));
        assert_eq!(age(LOG), Duration::from_secs(120));
        let bytes = read_bounded(&dir.path().join("data/universe_snapshot.json")).unwrap();
        let snapshot: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(snapshot["timestamp"], "2025-11-23T01:29:36Z");
    }
}
