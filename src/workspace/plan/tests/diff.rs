//! The plan as a unified diff, word for word.

use super::fixture::*;
use crate::workspace::plan::diff;
use crate::workspace::scan::{Entry, Holder};

/// WSP-6: a dry run shows folders, files and processes; each kind of change looks like this.
#[test]
fn looks_like_a_diff() {
    let mut scan = healthy();
    put(&mut scan, "data", Entry::Missing);
    put(&mut scan, CONFIG, file(b"{\n  \"api_key\": \"abc\",\n  \"max_positions\": 0,\n  \"url\": \"https://u:p@host/x\",\n  \"x\": \"\x1b[2J\"\n}\n", OLD));
    scan.good.insert(path(CONFIG), b"{\n  \"api_key\": \"def\",\n  \"max_positions\": 3\n}\n".as_slice().into());
    put(&mut scan, PLAIN_CONFIG, Entry::Missing);
    scan.good.insert(path(PLAIN_CONFIG), b"{\"hour\": 7}\n".as_slice().into());
    put(&mut scan, STATE, file(&[0, 0, 0], OLD));
    lock(&mut scan, LOCK, Holder::Nobody);
    scan.processes.push(orphan(4711));
    let expected = r#"# make the folder data/
--- /dev/null
+++ b/config/golden_hour_config.json
@@ -0,0 +1 @@
+{"hour": 7}
--- a/config/trading_config.json
+++ b/config/trading_config.json
@@ -1,6 +1,4 @@
 {
   "api_key": <redacted>,
-  "max_positions": 0,
-  "url": "https://***@host/x",
-  "x": "\u{1b}[2J"
+  "max_positions": 3
 }
--- a/state/bot.lock
+++ /dev/null
@@ -1 +0,0 @@
-4711
\ No newline at end of file
--- a/state/universe.json
+++ b/state/universe.json
# 3 bytes before, 15 bytes after, not shown
# end the process 4711: python3 run.py
"#;
    assert_eq!(diff(&planned(&scan), &scan), expected);
    assert_eq!(diff(&planned(&healthy()), &healthy()), "");
}

/// SEC-3: a secret of a configuration file that is broken in whatever way is not shown; nor is what differs in it alone.
#[test]
fn secrets_are_not_shown() {
    let broken = [
        "{\"api_key\": \"hunter2\", \"a\": 1",
        "{\"a\": \"x, \"api_key\": \"hunter2\"}",
        "{\"db_password\":'hunter2'",
        "{\"tokens\": [\"a\", \"hunter2\"], ",
        "{\"credentials\": {\"x\": \"hunter2\"}, ",
        "{\"url\": \"postgres://u:hunter2@h/d\", ",
        "{\"api_secret\"\n :\n \"hunter2",
    ];
    for text in broken {
        let mut scan = healthy();
        put(&mut scan, CONFIG, file(text.as_bytes(), OLD));
        let plan = planned(&scan);
        assert_eq!(plan.changes.len(), 1, "{text}");
        let shown = diff(&plan, &scan);
        assert!(shown.contains("+++ b/config/trading_config.json") && !shown.contains("hunter2"), "{text}: {shown}");
        assert!(!format!("{:?}", plan.findings).contains("hunter2"), "{text}");
    }
}
