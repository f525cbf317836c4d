//! The log as an operator searches it: events with constant texts and fixed keys, in both formats (SPEC 14).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::common::{Chiron, Config, script, wait_for};
use crate::loop_with_alertmanager::wait_status;

/// One line: its event, and everything else by key.
type Line = (String, BTreeMap<String, String>);

/// The documented events: levels and keys by text.
fn documented() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/logs.md");
    let text = std::fs::read_to_string(path).expect("the manual is there");
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let mut events = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').collect();
        let levels: BTreeSet<String> = cells[2].split(',').map(|level| level.trim().to_owned()).collect();
        for event in quoted(cells[1]) {
            events.insert(event, (levels.clone(), quoted(cells[3]).into_iter().collect()));
        }
    }
    events
}

/// A line in logfmt, read strictly: `key=value` parted by single blanks, values bare or in quotes.
fn logfmt(line: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').unwrap_or_else(|| panic!("no key: `{rest}` of {line}"));
        assert!(!key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "`{key}` of {line}");
        let value;
        if let Some(inside) = after.strip_prefix('"') {
            let mut escaped = false;
            let end = inside.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            let end = end.unwrap_or_else(|| panic!("open quotes: {line}")) + 2;
            // The escapes are those of JSON.
            value = serde_json::from_str(&after[..end]).unwrap_or_else(|error| panic!("{error}: {line}"));
            rest = &after[end..];
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            value = after[..end].to_owned();
            assert!(!value.is_empty() && !value.contains(['"', '=']), "`{value}` of {line}");
            rest = &after[end..];
        }
        pairs.push((key.to_owned(), value));
        rest = match rest.strip_prefix(' ') {
            Some(rest) => rest,
            None => {
                assert!(rest.is_empty(), "`{rest}` of {line}");
                rest
            }
        };
    }
    pairs
}

fn json(line: &str) -> Vec<(String, String)> {
    let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let object = read.as_object().unwrap_or_else(|| panic!("no object: {line}"));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    object.iter().map(|(key, value)| (key.clone(), text(value))).collect()
}

fn lines(log: &str, read: fn(&str) -> Vec<(String, String)>) -> Vec<Line> {
    log.lines()
        .map(|line| {
            let pairs = read(line);
            let first: Vec<&str> = pairs.iter().take(4).map(|(key, _)| key.as_str()).collect();
            assert_eq!(first, ["ts", "level", "target", "msg"], "{line}");
            let count = pairs.len();
            let mut keys: BTreeMap<_, _> = pairs.into_iter().collect();
            assert_eq!(keys.len(), count, "a key comes twice: {line}");
            (keys.remove("msg").expect("it is there"), keys)
        })
        .collect()
}

/// Runs a failure and its recovery, and returns every line of the log.
fn story(dir: &Path, format: &str, read: fn(&str) -> Vec<(String, String)>) -> Vec<Line> {
    let alive = dir.join("alive");
    std::fs::write(&alive, "").expect("a file can be written");
    let check = script(&dir.join("check.sh"), &format!("test -e {alive:?} && exit 0\necho 'not \"alive\"'\nexit 2"));
    let restart = script(&dir.join("restart.sh"), &format!("touch {alive:?}"));
    let config = Config::new(dir).with(&format!(
        r#"
auto_restart_enabled: true
subsystems:
  order_router: {{check: {{kind: exec, argv: [{check:?}]}}}}
bindings:
  - {{action: restart_subsystem, subsystem: order_router, class: natural, exec: {{argv: [{restart:?}]}}, verify: {{settle: 100ms, within: 20s}}}}
policy: {{min_hold: 0s, relax_after_cycles: 1}}
"#
    ));
    let flags = ["--log.level=debug", &format!("--log.format={format}")].map(str::to_owned);
    let mut chiron = Chiron::with_config(dir, config.text()).arg(&flags[0]).arg(&flags[1]).start();
    wait_status(&chiron, "order_router", "healthy");
    std::fs::remove_file(&alive).expect("a file can be removed");
    wait_for("the story to be told", || {
        let told = lines(&whole(&chiron.log()), read);
        let healed = told.iter().position(|(event, _)| event == "healed").ok_or("not healed")?;
        let relaxed = told[healed..].iter().any(|(event, keys)| event == "policy changed" && keys["to"] == "allow_all");
        if relaxed { Ok(()) } else { Err("not relaxed") }
    });
    assert_eq!(chiron.post("/health/force-check", "").expect("chiron answers").status, 200);
    assert!(chiron.terminate().success());
    lines(&chiron.log(), read)
}

/// Without a last line that is still being written.
fn whole(log: &str) -> String {
    log.rfind('\n').map_or_else(String::new, |end| log[..=end].to_owned())
}

/// SPEC 14: check complete, policy changed, critical issues, action started and ended, healed; every line parses, every
/// event has exactly the keys that the manual names, and both formats say the same.
#[test]
fn both_formats_tell_the_story_with_fixed_keys() {
    let manual = documented();
    let mut told = Vec::new();
    for (format, read) in [("logfmt", logfmt as fn(&str) -> Vec<(String, String)>), ("json", json)] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let lines = story(dir.path(), format, read);
        let mut events = BTreeSet::new();
        for (event, keys) in &lines {
            let Some((levels, documented)) = manual.get(event) else {
                assert_ne!(
                    keys["target"], "chiron::app::account",
                    "{format}: `{event}` is not in the manual: {keys:?}"
                );
                continue;
            };
            let found: BTreeSet<String> =
                keys.keys().filter(|key| !["ts", "level", "target"].contains(&key.as_str())).cloned().collect();
            assert_eq!(found, *documented, "{format}: keys of `{event}`");
            assert!(levels.contains(&keys["level"]), "{format}: `{event}` at {}", keys["level"]);
            events.insert(event.clone());
        }
        let with = |event: &str, key: &str, value: &str| {
            let found = lines.iter().any(|(found, keys)| found == event && keys.get(key).is_some_and(|is| is == value));
            assert!(found, "{format}: no `{event}` with {key}={value}: {lines:?}");
        };
        with("check complete", "status", "critical");
        with("check complete", "forced", "true");
        with("check complete", "level", "debug");
        with("issue opened", "type", "subsystem_status");
        with("critical issues", "count", "1");
        with("critical issues", "count", "0");
        with("policy changed", "to", "no_new_trades");
        with("policy changed", "to", "allow_all");
        with("action started", "action", "restart_subsystem");
        with("action ended", "outcome", "verified");
        with("issue resolved", "subsystem", "order_router");
        with("healed", "count", "1");
        for event in ["starting chiron", "listening", "stopping", "stopped"] {
            assert!(events.contains(event), "{format}: no `{event}`");
        }
        let count = |event: &str, level: &str| {
            lines.iter().filter(|(found, keys)| found == event && keys["level"] == level).count()
        };
        for (_, keys) in lines.iter().filter(|(event, _)| event == "check complete") {
            let news = keys["status"] != keys["previous"] || keys["forced"] == "true";
            assert_eq!(keys["level"], if news { "info" } else { "debug" }, "{format}: {keys:?}");
        }
        assert_eq!(count("healed", "info"), 1);
        told.push(events);
    }
    assert_eq!(told[0], told[1], "both formats tell the same events");
}
