//! The ledger with the real program: every recommendation ends in one outcome, counted once, and its story is whole.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::chiron as command;
use crate::common::{Chiron, Config, script, wait_for};

/// What each subsystem is for, and its ladder.
const STORIES: [(&str, &str); 6] = [
    ("heals", "[restart_subsystem]"),
    ("fails", "[restart_subsystem]"),
    ("waits", "[restart_subsystem, restart_subsystem]"),
    ("passes", "[close_all_positions]"),
    ("asks", "[defensive_exit]"),
    ("lacks", "[fallback_to_backup]"),
];

/// Six subsystems whose checks exit with what a file says, each with a ladder and a means of its own.
fn config(dir: &Path, more: &str) -> String {
    let (mut subsystems, mut ladders) = (String::new(), String::new());
    for (name, ladder) in STORIES {
        say(dir, name, 0);
        let check = script(&dir.join(format!("{name}.check")), &format!("exit $(cat {:?})", state(dir, name)));
        subsystems += &format!("  {name}: {{criticality: none, check: {{kind: exec, argv: [{check:?}]}}}}\n");
        ladders +=
            &format!("    - {{subsystem: {name}, type: subsystem_status, severity: critical, actions: {ladder}}}\n");
    }
    let heal = script(&dir.join("heal"), &format!("echo healed; echo 0 > {:?}", state(dir, "heals")));
    let fail = script(&dir.join("fail"), "echo cannot; exit 7");
    // The second try helps.
    let marker = dir.join("second");
    let second =
        format!("if [ -e {marker:?} ]; then echo 0 > {:?}; else touch {marker:?}; exit 1; fi", state(dir, "waits"));
    let second = script(&dir.join("second.sh"), &second);
    let close = script(&dir.join("close"), &format!("touch {:?}", dir.join("closed")));
    let mut bindings = String::new();
    for (action, name, means) in [
        ("restart_subsystem", "heals", &heal),
        ("restart_subsystem", "fails", &fail),
        ("restart_subsystem", "waits", &second),
        ("close_all_positions", "passes", &close),
    ] {
        bindings += &format!(
            "  - {{action: {action}, subsystem: {name}, exec: {{argv: [{means:?}]}}, class: natural, \
             verify: {{settle: 100ms, within: 5s}}}}\n"
        );
    }
    let recovery = format!("recovery:\n  cooldown: 2s\n  storm: {{subsystems: 100}}\n  ladders:\n{ladders}");
    let all = format!("auto_restart_enabled: true\nsubsystems:\n{subsystems}bindings:\n{bindings}{recovery}{more}");
    Config::new(dir).with(&all).text().to_owned()
}

fn state(dir: &Path, name: &str) -> std::path::PathBuf {
    dir.join(format!("{name}.state"))
}

/// What the check of a subsystem exits with from now on.
fn say(dir: &Path, name: &str, code: u8) {
    let path = state(dir, name);
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("{code}\n")).expect("a file can be written");
    std::fs::rename(&beside, path).expect("a file can be replaced");
}

fn actions(chiron: &Chiron, query: &str) -> Vec<Value> {
    chiron.get_json(&format!("/api/v1/actions?{query}"))["actions"].as_array().expect("a list").clone()
}

/// The oldest recommendation about a subsystem with that outcome.
fn ended(chiron: &Chiron, subsystem: &str, outcome: &str) -> Value {
    wait_for(&format!("{subsystem} to have one that is {outcome}"), || {
        let all = actions(chiron, &format!("subsystem={subsystem}"));
        let one = all.iter().rev().find(|one| one["outcome"] == outcome && one["issue"]["resolved_at"].is_string());
        one.cloned().ok_or(all)
    })
}

fn steps(story: &Value) -> Vec<String> {
    let timeline = story["timeline"].as_array().expect("a timeline");
    timeline.iter().map(|step| step["what"].as_str().expect("a word").to_owned()).collect()
}

/// The story by the id that the list gave, once by API and once by command; both ways of writing a key.
fn story(chiron: &Chiron, entry: &Value) -> Value {
    let id = entry["id"].as_str().expect("an id");
    let story = chiron.get_json(&format!("/api/v1/actions/{}", id.replace('/', "%2F")));
    assert_eq!(story, chiron.get_json(&format!("/api/v1/actions/{}", id.replace('/', "~"))));
    let url = format!("http://{}", chiron.address());
    assert_eq!(command(&["actions", id, "--url", &url, "--output=json"]).ended(0).json(), story);
    let told = command(&["actions", id, "--url", &url]).ended(0).out;
    for part in [&story["why"], &story["issue"]["id"], &story["recommendation_id"], &json!("issue resolved")] {
        let part = part.as_str().expect("text");
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    story
}

/// Breaks everything, answers what is asked, lets everything recover.
fn play(dir: &Path, chiron: &Chiron) {
    for (name, _) in STORIES {
        say(dir, name, 2);
    }
    let wait = |subsystem: &str, state: &str| {
        wait_for(&format!("{subsystem} to be {state}"), || {
            let all = actions(chiron, &format!("subsystem={subsystem}"));
            all.iter().find(|one| one["state"] == state).cloned().ok_or(all)
        })
    };
    let asked = wait("asks", "approval");
    wait("passes", "approval");
    wait("lacks", "waiting");
    let id = asked["recommendation_id"].as_str().expect("an id");
    let digest = wait_for("a digest", || {
        let all = chiron.get_json("/api/v1/recommendations");
        let list = all["recommendations"].as_array().expect("a list");
        let one = list.iter().find(|one| one["recommendation_id"] == id);
        one.and_then(|one| one["approval"]["digest"].as_str().map(str::to_owned)).ok_or(all)
    });
    let body = json!({ "digest": digest, "reason": "the market is calm" }).to_string();
    let response = chiron.post(&format!("/api/v1/recommendations/{id}/reject"), &body).expect("an answer");
    assert_eq!(response.status, 200, "{}", response.body);
    wait_for("the failing one to have failed", || {
        let all = actions(chiron, "subsystem=fails&outcome=failed");
        if all.is_empty() { Err(all) } else { Ok(()) }
    });
    for name in ["fails", "passes", "asks", "lacks"] {
        say(dir, name, 0);
    }
    wait_for("every issue to be over", || {
        let open = chiron.get_json("/api/v1/issues")["issues"].clone();
        if open.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(open) }
    });
}

/// ACT-3, ACT-4, REC-2, SPEC 12, 14: verified, failed, held back and then run, never run because the issue ended, rejected,
/// unbound: each tells its whole story, in the API and in the command, and is counted once; durations are of what ran alone.
#[test]
fn each_tells_its_whole_story_and_is_counted_once() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), "")).start();
    play(dir.path(), &chiron);

    let healed = story(&chiron, &ended(&chiron, "heals", "verified"));
    assert_eq!(healed["recommendation_outcome"], "verified");
    assert_eq!(healed["output"], "healed\n");
    assert_eq!(healed["verification"]["outcome"], "verified");
    assert_eq!(healed["before"]["status"], "critical");
    assert_eq!(healed["why"], "heals is critical (critical); rung 1 of the ladder");
    for key in ["to_detect", "to_act", "duration", "to_recover"] {
        assert!(healed[key].as_f64().is_some_and(|value| (0.0..60.0).contains(&value)), "{key}: {healed}");
    }
    assert!(healed["to_recover"].as_f64() > healed["to_act"].as_f64(), "{healed}");
    let expected =
        ["trouble began", "issue opened", "recommended", "decided", "begun", "answered", "verified", "issue resolved"];
    assert_eq!(steps(&healed), expected);

    let failed = story(&chiron, &ended(&chiron, "fails", "failed"));
    assert!(failed["answer"].as_str().is_some_and(|answer| answer.contains('7')), "{failed}");
    assert_eq!((&failed["output"], &failed["recommendation_outcome"]), (&json!("cannot\n"), &json!("failed")));
    assert_eq!(failed["to_recover"], Value::Null);

    let second = story(&chiron, &ended(&chiron, "waits", "verified"));
    assert!(second["key"].as_str().is_some_and(|key| key.ends_with("/2/1")), "{second}");
    let reasons: Vec<&Value> = second["held"].as_array().expect("a list").iter().map(|held| &held["reason"]).collect();
    assert_eq!(reasons, ["cooldown"], "{second}");
    assert!(second["held"][0]["not_before"].is_string(), "{second}");

    let passed = story(&chiron, &ended(&chiron, "passes", "not_needed"));
    assert_eq!((&passed["state"], &passed["reason"]), (&json!("ended"), &json!("resolved")));
    assert_eq!(passed["why"], "never ran: the need for it passed first");
    assert!(!dir.path().join("closed").exists(), "nothing was closed");

    let rejected = story(&chiron, &ended(&chiron, "asks", "rejected"));
    assert_eq!(rejected["approval"]["how"], "rejected");
    assert_eq!(rejected["approval"]["reason"], "the market is calm");
    assert!(rejected["approval"]["by"].as_str().is_some_and(|by| by.contains("loopback")), "{rejected}");

    let unbound = story(&chiron, &ended(&chiron, "lacks", "unbound"));
    assert_eq!((&unbound["reason"], &unbound["means"]), (&json!("unbound"), &Value::Null));

    let page = chiron.metrics();
    let ends = |labels: &[(&str, &str)]| {
        crate::common::series(&page, "chiron_recommendations_ended_total", labels).iter().sum::<f64>()
    };
    for (action, outcome, count) in [
        ("restart_subsystem", "verified", 2.0),
        ("restart_subsystem", "failed", 2.0),
        ("close_all_positions", "not_needed", 1.0),
        ("defensive_exit", "rejected", 1.0),
        ("fallback_to_backup", "unbound", 1.0),
    ] {
        assert_eq!(ends(&[("action", action), ("outcome", outcome)]), count, "{action} {outcome}");
    }
    assert_eq!(ends(&[]), 7.0, "and nothing else");
    let sum = |name: &str, labels: &[(&str, &str)]| crate::common::series(&page, name, labels).iter().sum::<f64>();
    let status = ("type", "subsystem_status");
    assert_eq!(sum("chiron_detection_duration_seconds_count", &[status]), 6.0);
    assert_eq!(sum("chiron_issue_recovery_duration_seconds_count", &[status]), 6.0);
    assert_eq!(sum("chiron_reaction_duration_seconds_count", &[]), 4.0, "four runs were begun");
    assert_eq!(sum("chiron_action_duration_seconds_count", &[]), 4.0, "what did not run took no time");
    assert_eq!(sum("chiron_issue_actions_total", &[status, ("outcome", "verified")]), 2.0);
    assert_eq!(
        sum("chiron_issue_actions_total", &[status, ("action", "defensive_exit"), ("outcome", "rejected")]),
        1.0
    );

    // The story survives, and a restart begins and ends nothing anew.
    let before = actions(&chiron, "");
    chiron.restart();
    assert_eq!(actions(&chiron, ""), before);
    assert_eq!(chiron.metric_sum("chiron_recommendations_ended_total", &[]), 0.0);
    let by_issue = format!("issue={}", healed["issue"]["id"].as_str().expect("an id"));
    assert_eq!(actions(&chiron, &by_issue).len(), 1);
    assert_eq!(actions(&chiron, "action=restart_subsystem&outcome=failed").len(), 2);
    assert_eq!(actions(&chiron, "state=ended").len(), 3);
    for (id, status) in [("heals_20200101_000000~1~1", 404), ("nonsense", 404)] {
        assert_eq!(chiron.get(&format!("/api/v1/actions/{id}")).expect("an answer").status, status, "{id}");
    }
}

/// ACT-3: in dry-run a story says that it was only rehearsed; it is counted as that, and as no duration.
#[test]
fn a_rehearsal_is_told_as_one() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), "dry_run: true\n")).start();
    say(dir.path(), "heals", 2);
    wait_for("the rehearsal", || {
        let all = actions(&chiron, "subsystem=heals");
        if all.iter().any(|one| one["outcome"] == "dry_run") { Ok(()) } else { Err(all) }
    });
    say(dir.path(), "heals", 0);
    let story = story(&chiron, &ended(&chiron, "heals", "dry_run"));
    assert!(story["why"].as_str().is_some_and(|why| why.ends_with("only rehearsed: dry-run")), "{story}");
    assert_eq!((&story["duration"], &story["to_act"]), (&Value::Null, &Value::Null));
    assert_eq!(story["recommendation_outcome"], "dry_run");
    let labels = [("action", "restart_subsystem"), ("outcome", "dry_run")];
    assert_eq!(chiron.metric("chiron_recommendations_ended_total", &labels), Some(1.0));
    assert_eq!(chiron.metric_sum("chiron_action_duration_seconds_count", &[]), 0.0);
}
