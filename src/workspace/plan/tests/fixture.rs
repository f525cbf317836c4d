//! A workspace in memory: a layout of every kind of file, and a scan in which nothing is wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Mode, Timestamp, WorkspaceFinding};
use crate::workspace::layout::{BotPattern, FileSpec, Layout, Patterns, RelPath, Role};
use crate::workspace::plan::{Circumstances, Plan};
use crate::workspace::scan::{Access, BotProcess, Entry, FileSeen, Holder, Scan, Version};

/// 2025-11-23T01:34:56Z.
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);
pub(super) const QUIET: Duration = Duration::from_secs(2);
pub(super) const OPEN: Access = Access { read: true, write: true };
/// An hour: older than any limit.
pub(super) const OLD: u64 = 3600;

pub(super) const POSITIONS: &str = "logs/positions_futures.json";
pub(super) const PORTFOLIO: &str = "logs/portfolio_futures.json";
pub(super) const CONFIG: &str = "config/trading_config.json";
pub(super) const PLAIN_CONFIG: &str = "config/golden_hour_config.json";
pub(super) const OPTIONAL_CONFIG: &str = "config/extra.json";
pub(super) const STATE: &str = "state/universe.json";
pub(super) const KNOWN: &str = "state/known.json";
pub(super) const FREE: &str = "state/free.json";
pub(super) const NESTED: &str = "run/deep/pid.json";
pub(super) const LOCK: &str = "state/bot.lock";
pub(super) const HEARTBEAT: &str = "state/heartbeats/bot.json";

pub(super) const EMPTY_POSITIONS: &str = r#"{"open_positions": [], "closed_positions": []}"#;
pub(super) const EMPTY_PORTFOLIO: &str = r#"{"open_position_count": 0, "trades": []}"#;
pub(super) const DEFAULT_CONFIG: &str = r#"{"max_positions": 5}"#;
pub(super) const EMPTY_STATE: &str = r#"{"symbols": []}"#;
pub(super) const TWO_POSITIONS: &str = r#"{"open_positions": [
  {"id": "p-1", "symbol": "BTCUSDT", "direction": "LONG", "size": 0.10000000000000001, "entry_price": 64000.5},
  {"id": "p-2", "symbol": "ETHUSDT", "direction": "SHORT", "size": "1.5", "entry_price": 3011.25}],
 "closed_positions": [{"id": 123456789012345678901234567890, "symbol": "SOLUSDT", "size": 10}]}
"#;
pub(super) const TWO_COUNTED: &str = r#"{"open_position_count": 2, "trades": [{"order_id": "o-77", "status": "filled", "order_size": 0.1, "filled_size": 0.10}]}"#;

pub(super) fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a path of the tests is one")
}

fn patterns(written: &[&str]) -> Patterns {
    let mut set = globset::GlobSetBuilder::new();
    for glob in written {
        set.add(globset::Glob::new(glob).expect("a glob of the tests is one"));
    }
    Patterns { written: written.iter().map(|glob| (*glob).to_owned()).collect(), set: set.build().expect("it builds") }
}

pub(super) fn spec(at: &str, role: Role, empty: Option<&str>, keys: &[(&str, &str)]) -> FileSpec {
    FileSpec {
        path: path(at),
        role,
        empty: empty.map(|text| text.as_bytes().into()),
        keys: keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        required: role.holds_money(),
        schema: None,
    }
}

pub(super) fn layout() -> Layout {
    let schema = serde_json::json!({
        "type": "object",
        "required": ["max_positions"],
        "properties": {"max_positions": {"type": "integer", "minimum": 1}},
    });
    let schema = jsonschema::validator_for(&schema).expect("it is a schema");
    let two = [("open_positions", "[]"), ("closed_positions", "[]")];
    let mut files = vec![
        spec(POSITIONS, Role::Positions, Some(EMPTY_POSITIONS), &two),
        spec(PORTFOLIO, Role::Portfolio, Some(EMPTY_PORTFOLIO), &[]),
        spec(CONFIG, Role::Config, Some(DEFAULT_CONFIG), &[]),
        spec(PLAIN_CONFIG, Role::Config, None, &[]),
        spec(OPTIONAL_CONFIG, Role::Config, None, &[]),
        spec(STATE, Role::State, Some(EMPTY_STATE), &[("symbols", "[]")]),
        spec(KNOWN, Role::State, None, &[]),
        spec(NESTED, Role::State, Some("{}"), &[]),
    ];
    files[2].schema = Some(Arc::new(schema));
    files[3].required = true;
    Layout {
        directories: ["logs", "config", "data", "logs/backups", "state", "state/heartbeats"].map(path).to_vec(),
        files,
        locks: patterns(&["state/**/*.lock"]),
        lock_age: Duration::from_secs(300),
        heartbeats: patterns(&["state/heartbeats/*.json"]),
        heartbeat_age: Duration::from_secs(600),
        json: patterns(&["state/**/*.json"]),
        bot: Some(BotPattern { command: "run.py".to_owned(), grace: Duration::from_secs(10) }),
    }
}

/// A file of that content, last written so many seconds ago.
pub(super) fn file(content: &[u8], age: u64) -> Entry {
    let nanos = (i128::from(NOW.millis()) - i128::from(age) * 1000) * 1_000_000;
    let version = Version {
        inode: 1,
        device: 1,
        len: content.len() as u64,
        modified_nanos: nanos,
        changed_nanos: nanos,
        sha256: String::new(),
        mode: 0o644,
        uid: 1000,
        gid: 1000,
    };
    Entry::File(FileSeen { version, content: Some(content.into()), access: OPEN })
}

/// A scan with these files and every folder above them.
pub(super) fn fixture(files: &[(&str, &[u8], u64)]) -> Scan {
    let mut scan = Scan { at: NOW, ..Scan::default() };
    for (at, content, age) in files {
        put(&mut scan, at, file(content, *age));
    }
    scan
}

/// Puts something there, and the folders above it that are not known.
pub(super) fn put(scan: &mut Scan, at: &str, entry: Entry) {
    let mut place = path(at).parent();
    while let Some(folder) = place {
        place = folder.parent();
        scan.entries.entry(folder).or_insert(Entry::Directory(OPEN));
    }
    scan.entries.insert(path(at), entry);
}

/// A workspace in which nothing is wrong.
pub(super) fn healthy() -> Scan {
    let mut scan = fixture(&[
        (POSITIONS, TWO_POSITIONS.as_bytes(), 60),
        (PORTFOLIO, TWO_COUNTED.as_bytes(), 60),
        (CONFIG, b"{\"max_positions\": 3}", OLD),
        (PLAIN_CONFIG, b"{\"hour\": 7}", OLD),
        (OPTIONAL_CONFIG, b"{}", OLD),
        (STATE, b"{\"symbols\": [\"BTCUSDT\"]}", 60),
        (KNOWN, b"[1, 2]", 60),
        (NESTED, b"{\"pid\": 7}", 60),
        (FREE, b"{\"a\": 1}", 60),
        (HEARTBEAT, b"{\"status\": \"running\"}", 60),
    ]);
    for folder in ["data", "logs/backups"] {
        put(&mut scan, folder, Entry::Directory(OPEN));
    }
    scan.heartbeats = vec![path(HEARTBEAT)];
    scan.json = vec![path(FREE)];
    scan
}

pub(super) fn lock(scan: &mut Scan, at: &str, holder: Holder) {
    put(scan, at, file(b"4711", OLD));
    scan.locks.insert(path(at), holder);
}

pub(super) fn orphan(pid: u32) -> BotProcess {
    BotProcess {
        pid,
        started_ticks: 99,
        started: NOW.minus(Duration::from_secs(OLD)),
        command: "python3 run.py".to_owned(),
        in_workspace: true,
        has_parent: false,
        supervisor: None,
        is_named: false,
    }
}

pub(super) fn planned(scan: &Scan) -> Plan {
    plan(&layout(), scan, Some(Mode::Paper), QUIET, NOW)
}

/// The plan of a round that a person asked for, with nothing remembered.
pub(super) fn plan(layout: &Layout, scan: &Scan, mode: Option<Mode>, quiet: Duration, now: Timestamp) -> Plan {
    crate::workspace::plan::plan(layout, scan, &Circumstances { mode, quiet, now, ..Circumstances::default() })
}

/// One finding on one line, everything of it.
pub(super) fn line(finding: &WorkspaceFinding) -> String {
    let WorkspaceFinding { code, severity, path, description, records, state, detail } = finding;
    let mut line = format!("{} {} {} {path}: {description}", severity.as_str(), code.as_str(), state.as_str());
    if !detail.is_empty() {
        line.push_str(&format!(" [{detail}]"));
    }
    if !records.is_empty() {
        line.push_str(&format!(" {records:?}"));
    }
    line
}

/// What the files of a scan hold; `None` for a folder, and for what stands there without being a file `!`.
pub(super) fn tree(scan: &Scan) -> BTreeMap<String, Option<Vec<u8>>> {
    let entries = scan.entries.iter().filter(|(_, entry)| **entry != Entry::Missing);
    let shown = entries.map(|(path, entry)| {
        let content = match entry {
            Entry::File(seen) => Some(seen.content.as_deref().unwrap_or(b"?").to_vec()),
            Entry::Directory(_) => None,
            _ => Some(b"!".to_vec()),
        };
        (path.to_string(), content)
    });
    shown.collect()
}
