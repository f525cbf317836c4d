//! The commands against a running chiron.

use std::path::Path;

use serde_json::Value;

use super::{Said, chiron, command, run, secret_file};
use crate::common::{Chiron, Config, Effects, wait_for};

/// Feed is healthy, model is critical, journal of the bot is degraded; nothing may heal by itself.
fn settings(dir: &Path) -> Config {
    for name in ["fresh", "late"] {
        std::fs::write(dir.join(name), "x").expect("a file can be written");
    }
    Config::new(dir).with(
        "subsystems:\n  \
         feed: {criticality: none, check: {kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}\n  \
         model: {criticality: full, check: {kind: file_age, path: absent, missing: critical}}\n  \
         notes: {criticality: none, check: {kind: file_age, path: late, degraded_after: 1ms, critical_after: 20h}}\n",
    )
}

fn asked(running: &Chiron, arguments: &[&str]) -> Said {
    run(command(arguments).args(["--url", &format!("http://{}", running.address())]))
}

/// SPEC 14: `check` runs every check now, tells a table, JSON or Nagios' line, and ends as things are.
#[test]
fn check_tells_how_things_are() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let running = Chiron::with_config(dir.path(), settings(dir.path()).text()).start();
    let table = asked(&running, &["check"]).ended(2);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(lines[0].starts_with("overall critical, policy ") && lines[0].ends_with(" issues"), "{table:?}");
    assert!(lines[2].starts_with("SUBSYSTEM") && lines.len() == 6, "{table:?}");
    assert!(lines.iter().any(|line| line.starts_with("model") && line.contains(" critical ")), "{table:?}");
    assert!(table.err.is_empty() && !table.out.contains('\u{1b}'), "no progress and no colour in a pipe: {table:?}");

    asked(&running, &["check", "feed"]).ended(0);
    asked(&running, &["check", "notes", "feed"]).ended(1);
    let said = asked(&running, &["check", "modle"]).ended(3);
    assert!(said.out.is_empty() && said.err.contains("did you mean `model`?"), "{said:?}");

    let before = running.metric("chiron_subsystem_check_timestamp_seconds", &[("subsystem", "feed")]);
    let json = asked(&running, &["check", "--output=json"]).ended(2).json();
    assert_eq!(json["overall_status"], "critical");
    assert_eq!(json["subsystem_health"]["feed"]["status"], "healthy");
    assert!(
        running.metric("chiron_subsystem_check_timestamp_seconds", &[("subsystem", "feed")]) > before,
        "it was run"
    );
    let part = asked(&running, &["check", "feed", "--output=json", "--last"]).ended(0).json();
    assert_eq!((part["status"].as_str(), part["subsystems"].as_array().map(Vec::len)), (Some("healthy"), Some(1)));

    let nagios = asked(&running, &["check", "--output=nagios"]).ended(2);
    let first = nagios.out.lines().next().expect("a line");
    let (text, data) = first.split_once(" | ").expect("performance data");
    assert!(text.starts_with("CHIRON CRITICAL - critical, policy "), "{first}");
    for part in data.split(' ') {
        let (label, figures) = part.split_once('=').expect("label=value");
        assert!(
            !label.is_empty() && figures.split(';').next().is_some_and(|value| value.parse::<f64>().is_ok()),
            "{part}"
        );
    }
    assert!(data.contains("healthy=1;") && data.contains("critical=1;"), "{data}");
}

/// OBS-7: chiron's own exec check takes `chiron check --output nagios` as it takes any plugin.
#[test]
fn another_chiron_takes_it_as_a_plugin() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let running = Chiron::with_config(dir.path(), settings(dir.path()).text()).start();
    let other = tempfile::tempdir().expect("a temporary folder can be made");
    let check = format!(
        "subsystems:\n  peer: {{criticality: none, check: {{kind: exec, argv: [{:?}, check, --output, nagios, --url, \
         \"http://{}\"]}}}}\n",
        env!("CARGO_BIN_EXE_chiron"),
        running.address()
    );
    let watching = Chiron::with_config(other.path(), Config::new(other.path()).with(&check).text()).start();
    wait_for("the peer to be critical, with its figures", || {
        let report = watching.get_json("/status");
        let status = report["subsystem_health"]["peer"]["status"].as_str().unwrap_or_default().to_owned();
        let issues =
            watching.metric_sum("chiron_check_perfdata", &[("subsystem", "peer"), ("label", "critical_issues")]);
        if matches!(status.as_str(), "critical" | "failed") && issues >= 1.0 { Ok(()) } else { Err((status, issues)) }
    });
}

/// SPEC 14: `issues` and `actions` list what there is; the exit code tells whether something critical is open.
#[test]
fn issues_and_actions() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let binding = format!(
        "auto_restart_enabled: true\nbindings:\n  - {{action: restart_subsystem, subsystem: model, class: natural, \
         exec: {{argv: [{:?}, natural]}}, verify: {{settle: 100ms, within: 1s}}}}\n",
        effects.script
    );
    let running = Chiron::with_config(dir.path(), settings(dir.path()).with(&binding).text()).start();
    wait_for("an action to have ended", || {
        let said = asked(&running, &["actions", "--output=json"]).ended(0).json();
        let ended =
            said["actions"].as_array().is_some_and(|list| list.iter().any(|run| run["outcome"] == "unverified"));
        if ended { Ok(()) } else { Err(said) }
    });
    let table = asked(&running, &["issues"]).ended(2);
    assert!(table.out.starts_with("SEVERITY") && table.out.contains("model is critical"), "{table:?}");
    let json = asked(&running, &["issues", "--output=json"]).ended(2).json();
    let issue =
        json["issues"].as_array().expect("a list").iter().find(|one| one["subsystem"] == "model").expect("it is open");
    assert!(issue["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "absolute in JSON: {issue}");
    let actions = asked(&running, &["actions"]).ended(0);
    assert!(actions.out.contains("restart_subsystem") && actions.out.contains("unverified"), "{actions:?}");
    assert!(actions.out.contains(" s ago"), "relative for people: {actions:?}");
}

/// SPEC 7: a person's hold is set, shown and released, and the exit code of `get` tells the level.
#[test]
fn policy_is_held_and_released() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(dir.path().join("fresh"), "x").expect("a file can be written");
    let text = "policy: {min_hold: 0s, relax_after_cycles: 1}\nsubsystems:\n  \
                feed: {criticality: full, check: {kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h}}\n";
    let running = Chiron::with_config(dir.path(), Config::new(dir.path()).with(text).text()).start();
    let level = |wanted: &str, code: i32| {
        wait_for(&format!("the policy to be {wanted}"), || {
            let said = asked(&running, &["policy", "get", "--output=json"]);
            if said.json()["policy"] == wanted && said.code == code { Ok(()) } else { Err(said) }
        });
    };
    level("allow_all", 0);
    let set =
        asked(&running, &["policy", "set", "defensive_exit", "--reason", "exchange says so", "--for", "2h"]).ended(0);
    assert!(set.out.starts_with("defensive_exit, since "), "the answer shows the change: {set:?}");
    let row = set.out.lines().find(|line| line.contains("exchange says so")).expect("the hold is listed");
    assert!(row.contains("operator") && (row.contains("in 119 min") || row.contains("in 2 h")), "{row}");
    level("defensive_exit", 2);
    let released = asked(&running, &["policy", "release", "--reason", "over", "--output=json"]).ended(0).json();
    assert!(!released.to_string().contains("exchange says so"), "{released}");
    level("allow_all", 0);
    asked(&running, &["policy", "set", "safe_risk_profile", "--reason", "quiet", "--for", "30m"]).ended(0);
    level("safe_risk_profile", 1);
    asked(&running, &["policy", "set", "allow_all", "--reason", "over"]).ended(0);
    level("allow_all", 0);
    asked(&running, &["policy", "set", "emergency_shutdown", "--reason", "stop"]).ended(0);
    level("emergency_shutdown", 2);
    let get = asked(&running, &["policy", "get"]).ended(2);
    assert!(get.out.contains("latched until a person releases it") && get.out.contains("trades nothing"), "{get:?}");
    asked(&running, &["policy", "release", "--reason", "checked"]).ended(0);
    level("allow_all", 0);
}

/// SEC-1: a wrong token ends with 3 and names the file; a right one is taken.
#[test]
fn wrong_credentials() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    secret_file(&dir.path().join("web.token"), "0123456789abcdef-right\n");
    let config = settings(dir.path()).with("web: {bearer_token_file: web.token}\n");
    let running = Chiron::with_config(dir.path(), config.text()).start();
    let file = dir.path().join("who.yml");
    let name = file.to_str().expect("UTF-8");
    secret_file(&file, "bearer_token: 0123456789abcdef-wrong\n");
    let said = asked(&running, &["check", "--credentials", name]).ended(3);
    assert!(
        said.out.is_empty() && said.err.contains("(401, unauthenticated)") && said.err.contains("who.yml"),
        "{said:?}"
    );
    assert!(!said.err.contains("0123456789"), "{said:?}");
    secret_file(&file, "bearer_token_file: web.token\n");
    asked(&running, &["check", "--credentials", name]).ended(2);
}

/// ACT-2: what waits for a person is shown, approved with what was shown, and begun.
#[test]
fn an_approval_begins_the_action() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let binding = format!(
        "bindings:\n  - {{action: restart_subsystem, subsystem: model, class: natural, exec: {{argv: [{:?}, natural]}}, \
         verify: {{settle: 100ms, within: 1s}}}}\n",
        effects.script
    );
    let running = Chiron::with_config(dir.path(), settings(dir.path()).with(&binding).text()).start();
    let waiting = || {
        let id = wait_for("something to wait for an approval", || {
            let said = asked(&running, &["recommendations", "--pending", "--output=json"]);
            let found = said.json()["recommendations"][0].clone();
            if found.is_null() || said.code != 1 { Err(said) } else { Ok(found) }
        });
        id["recommendation_id"].as_str().expect("an id").to_owned()
    };
    let id = waiting();
    let said = asked(&running, &["approve", &id]).ended(3);
    assert!(said.err.contains("effect.sh") && said.err.contains("model is critical"), "{said:?}");
    assert!(effects.all().is_empty(), "nothing ran without a word");
    asked(&running, &["approve", &id, "--digest", &"0".repeat(64)]).ended(3);
    let said = asked(&running, &["approve", &id, "--yes", "--reason", "seen", "--output=json"]).ended(0).json();
    let run = said["run"].as_str().expect("the run's key").to_owned();
    wait_for("the approved action to run", || {
        let all = effects.all();
        if all.iter().any(|effect| effect.key == run) { Ok(()) } else { Err(all) }
    });
    let id = waiting();
    asked(&running, &["reject", &id, "--reason", "not now"]).ended(0);
    let said = asked(&running, &["reject", &id, "--reason", "not now"]).ended(3);
    assert!(said.err.contains(&id), "{said:?}");
}

/// ACT-3: a drill carries the real action out and verifies it.
#[test]
fn a_drill_is_verified() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let effects = Effects::new(dir.path());
    let binding = format!(
        "bindings:\n  - {{action: restart_subsystem, subsystem: feed, class: natural, exec: {{argv: [{:?}, natural]}}, \
         verify: {{settle: 100ms, within: 20s}}}}\n",
        effects.script
    );
    let running = Chiron::with_config(dir.path(), settings(dir.path()).with(&binding).text()).start();
    let said = asked(&running, &["drill", "feed", "--reason", "friday", "--timeout=60s"]).ended(0);
    assert!(said.out.ends_with("drill of feed: verified\n"), "{said:?}");
    assert_eq!(effects.all().len(), 1);
    let said = asked(&running, &["drill", "model", "--reason", "friday"]).ended(3);
    assert!(said.err.contains("expected healthy"), "{said:?}");
    asked(&running, &["drill", "nobody", "--reason", "friday"]).ended(3);
}

/// SEC-4: the audit log is verified line by line; a changed, a lost and a cut line are found.
#[test]
fn the_audit_log_is_verified() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let running = Chiron::with_config(dir.path(), settings(dir.path()).text()).start();
    for reason in ["one", "two", "three"] {
        asked(&running, &["policy", "set", "no_new_trades", "--reason", reason, "--for", "90m"]).ended(0);
    }
    let noted = asked(&running, &["audit", "verify", "--output=json"]).ended(0).json();
    assert!(noted["count"].as_u64().is_some_and(|count| count >= 3), "{noted}");
    let point = noted["last"].as_str().expect("a point").to_owned();
    asked(&running, &["policy", "set", "no_new_trades", "--reason", "four", "--for", "90m"]).ended(0);
    asked(&running, &["audit", "verify", "--expect", &point]).ended(0);
    let number = point.split(':').next().expect("a number");
    let said = asked(&running, &["audit", "verify", "--expect", &format!("{number}:{}", "0".repeat(64))]).ended(2);
    assert!(said.out.contains(&format!("number {number} has the digest")), "{said:?}");
    asked(&running, &["audit", "verify", "--expect", &format!("999999:{}", "0".repeat(64))]).ended(2);

    let export = asked(&running, &["audit", "export"]).ended(0).out;
    let lines: Vec<&str> = export.lines().collect();
    let file = dir.path().join("audit.jsonl");
    let verified = |text: String, code: i32| {
        std::fs::write(&file, text).expect("a file can be written");
        chiron(&["audit", "verify", "--file", file.to_str().expect("UTF-8"), "--expect", &point]).ended(code)
    };
    verified(export.clone(), 0);
    assert!(export.contains("three"), "what a person said is in the log: {export}");
    let said = verified(export.replacen("three", "thr33", 1), 2);
    assert!(said.out.contains("was changed"), "{said:?}");
    let noted: usize = number.parse().expect("a number");
    let said = verified(lines[..noted - 1].join("\n"), 2);
    assert!(said.out.contains("its end was cut off"), "{said:?}");
    let said = verified([&lines[..1], &lines[2..]].concat().join("\n"), 2);
    assert!(said.out.contains("expected 2"), "{said:?}");
    let said = verified("no log\n".to_owned(), 2);
    assert!(said.out.contains("audit.jsonl:1: found no JSON"), "{said:?}");
    chiron(&["audit", "verify", "--file", "/nowhere"]).ended(3);
    let some = asked(&running, &["audit", "export", "--after", "2"]).ended(0).out;
    assert_eq!(some.lines().count(), lines.len() - 2);
}

/// SPEC 14, SEC-3: the settings in force are told by the running chiron, after a reload the new ones, without secrets.
#[test]
fn config_show_of_a_running_chiron() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    secret_file(&dir.path().join("hook.token"), "0123456789-canary-hook\n");
    let config = |interval: &str| {
        let more = "alerts:\n  webhook: {bearer_token_file: hook.token}\nbindings:\n  - {action: restart_subsystem, subsystem: \
                    feed, exec: {argv: [/bin/true, --token=canary-a], env: {KEY: canary-b}}}\n";
        settings(dir.path()).with(more).with(&format!("failed_after: {interval}\n")).text().to_owned()
    };
    let running = Chiron::with_config(dir.path(), &config("90s")).start();
    let shown = asked(&running, &["config", "show", "--output=json"]).ended(0).json();
    assert_eq!(shown["settings"]["failed_after"], "1m30s");
    assert!(shown["file"].as_str().is_some_and(|file| file.ends_with("chiron.yml")), "{shown}");
    assert_eq!(shown["settings"]["bindings"][0]["exec"]["env"]["KEY"], "<redacted>");
    assert!(!shown.to_string().contains("canary"), "{shown}");
    running.rewrite_config(&config("2m"));
    assert_eq!(running.post("/-/reload", "").expect("it answers").status, 200);
    let shown = asked(&running, &["config", "show", "--output=json"]).ended(0).json();
    assert_eq!(shown["settings"]["failed_after"], Value::from("2m"));
    let text = asked(&running, &["config", "show"]).ended(0).out;
    assert!(text.contains("failed_after: 2m\n") && !text.contains("canary"), "{text}");
}

/// SPEC 14: on a terminal the table is in colour and progress is shown; NO_COLOR is heeded. The terminal is that of
/// `script`.
#[test]
fn colours_and_progress_on_a_terminal() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let running = Chiron::with_config(dir.path(), settings(dir.path()).text()).start();
    let on_terminal = |before: &str| {
        let line = format!(
            "{before} {} -qec '{} check --url http://{}' /dev/null",
            crate::common::tool("script").display(),
            env!("CARGO_BIN_EXE_chiron"),
            running.address()
        );
        run(std::process::Command::new("sh").arg("-c").arg(line).env_remove("NO_COLOR")).ended(2)
    };
    let colour = on_terminal("").out;
    assert!(colour.contains("\u{1b}[31mcritical\u{1b}[0m") && colour.contains("\u{1b}[32mhealthy"), "{colour:?}");
    assert!(colour.contains("running every check"), "{colour:?}");
    let plain = on_terminal("NO_COLOR=1").out;
    assert!(plain.contains("critical") && !plain.contains("\u{1b}[3"), "{plain:?}");
}
