//! What is done about what failure points find, with the real program, real files, commands and sockets (WSP-7): refreshed,
//! released, retried, proposed, restored; and the log of it.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::{Value, json};

use crate::common::{Chiron, Config, now_millis, script, wait_for};

/// The lines of the log.
fn log(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("logs/failure_point_healing.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// The steps of one failure point, each with its action.
fn steps(dir: &Path, category: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_it = log(dir).into_iter().filter(|line| line["category"] == category);
    of_it.map(|line| (text(&line["step"]), text(&line["action"]))).collect()
}

/// Waits until the log of a failure point ends with that step; its line.
fn wait_step(dir: &Path, category: &str, step: &str) -> Value {
    wait_for(&format!("`{step}` of {category} in the log"), || {
        let last = log(dir).into_iter().rfind(|line| line["category"] == category);
        last.filter(|line| line["step"] == step).ok_or_else(|| log(dir))
    })
}

/// No journal entry has two lines.
fn assert_told_once(dir: &Path) {
    let seqs: Vec<u64> = log(dir).iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "each entry is told once, in order: {seqs:?}");
}

fn put(dir: &Path, name: &str, value: &Value) {
    let (path, beside) = (dir.join(name), dir.join(format!("{name}.new")));
    fs::write(&beside, value.to_string()).expect("a file can be written");
    fs::rename(beside, path).expect("a file can be replaced");
}

fn start(dir: &Path, yaml: &str) -> Chiron {
    let config = Config::new(dir)
        .with("recovery: {cooldown: 0s, overall_budget: 100}\npolicy: {min_hold: 0s, relax_after_cycles: 1}\n")
        .with(yaml);
    Chiron::with_config(dir, config.text()).start()
}

/// WSP-7, ACT-4: stale intelligence is refreshed by what is bound to `platform`; it has worked when the failure point finds it
/// fresh, and the log tells each step once, also over a crash.
#[test]
fn stale_intelligence_is_refreshed() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    let refresh = script(
        &at.join("refresh.sh"),
        "printf '{\"timestamp\": %s}' \"$(date +%s)\" > data/i.new && mv data/i.new data/i.json",
    );
    let yaml = format!(
        "failure_points: {{every: 500ms, intelligence_freshness: {{path: data/i.json}}}}\nbindings:\n  \
         - {{action: refresh_intelligence, subsystem: platform, exec: {{argv: [{refresh:?}], cwd: {at:?}}}, \
         verify: {{settle: 50ms, within: 10s}}}}\n"
    );
    fs::create_dir_all(at.join("data")).expect("a folder can be made");
    put(at, "data/i.json", &json!({"timestamp": now_millis()}));
    let mut chiron = start(at, &yaml);
    for round in 1..=2 {
        put(at, "data/i.json", &json!({"timestamp": now_millis() - 121_000}));
        wait_for("the refresh to be verified", || {
            let all = steps(at, "intelligence_freshness");
            if all.iter().filter(|(step, _)| step == "verified").count() == round { Ok(()) } else { Err(all) }
        });
        chiron.kill9();
        chiron.restart();
    }
    let once = ["started", "verified"].map(|step| (step.to_owned(), "refresh_intelligence".to_owned()));
    assert_eq!(steps(at, "intelligence_freshness"), [once.clone(), once].concat());
    assert_told_once(at);
    let line = &log(at)[1];
    assert!(line["run"].as_str().is_some_and(|run| run.starts_with("platform_")), "{line}");
    let labels = [("action", "refresh_intelligence"), ("subsystem", "platform"), ("outcome", "verified")];
    assert_eq!(chiron.metric("chiron_actions_total", &labels), Some(0.0), "the series is there for the binding");
}

/// WSP-7: an overdue kill switch waits for a person; approved, it is released and seen released. One that is active by right is
/// left alone.
#[test]
fn an_overdue_kill_switch_is_released() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    let release = script(&at.join("release.sh"), "printf '{\"active\": false}' > k.new && mv k.new switch.json");
    let yaml = format!(
        "failure_points: {{every: 500ms, kill_switch: {{path: switch.json}}}}\nbindings:\n  \
         - {{action: release_kill_switch, subsystem: platform, exec: {{argv: [{release:?}], cwd: {at:?}}}, \
         verify: {{settle: 50ms, within: 10s}}}}\n"
    );
    put(at, "switch.json", &json!({"active": true, "blocked_until": now_millis() + 6_000}));
    let chiron = start(at, &yaml);
    wait_for("the kill switch to be an issue", || {
        let issues = chiron.get_json("/api/v1/issues");
        if issues.to_string().contains("kill switch active") { Ok(()) } else { Err(issues) }
    });
    assert_eq!(steps(at, "kill_switch"), [], "active by right");
    wait_step(at, "kill_switch", "asked");
    let asked = || {
        let all = chiron.get_json("/api/v1/recommendations");
        let one = all["recommendations"].as_array().and_then(|list| list.iter().find(|one| one["state"] == "approval"));
        one.filter(|one| one["approval"]["digest"].is_string()).cloned().ok_or(all.clone())
    };
    let begun = wait_for("the approval to be taken", || {
        let one = asked()?;
        let id = one["recommendation_id"].as_str().unwrap_or_default().to_owned();
        let body = json!({"digest": one["approval"]["digest"], "reason": "looked at it"}).to_string();
        let answer = chiron.post(&format!("/api/v1/recommendations/{id}/approve"), &body).expect("an answer");
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.json()) }
    });
    let last = wait_step(at, "kill_switch", "released");
    assert!(last["detail"].as_str().is_some_and(|detail| detail.starts_with("verified as released")), "{last}");
    let found: Value =
        serde_json::from_str(&fs::read_to_string(at.join("switch.json")).expect("it is there")).expect("JSON");
    assert_eq!(found, json!({"active": false}), "{begun}");
    let told = steps(at, "kill_switch");
    let told: Vec<&str> = told.iter().map(|(step, _)| step.as_str()).filter(|step| *step != "asked").collect();
    assert_eq!(told, ["started", "verified", "released"]);
    assert_told_once(at);
}

/// WSP-7: a host that comes back is found by a retry, without anything bound; every try is in the log.
#[test]
fn a_lost_host_is_retried() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let chiron = start(at, &format!("failure_points: {{every: 10m, network: {{hosts: [\"{address}\"]}}}}\n"));
    wait_for("the host to be reached", || {
        let found = chiron.get_json("/api/v1/failure-points/network");
        if found["status"] == "healthy" { Ok(()) } else { Err(found) }
    });
    drop(listener);
    wait_for("the loss to be seen", || {
        chiron.post("/health/force-check", "").expect("an answer");
        let seen = steps(at, "network");
        if seen.iter().any(|(step, _)| step == "failed") { Ok(()) } else { Err(seen) }
    });
    let _again = TcpListener::bind(address).expect("the port is free again");
    wait_step(at, "network", "verified");
    let told = steps(at, "network");
    let of_it: Vec<&str> =
        told.iter().filter(|(_, action)| action == "retry_connection").map(|(step, _)| step.as_str()).collect();
    assert_eq!(of_it[..3], ["started", "retried", "failed"], "{told:?}");
    assert_eq!(of_it[of_it.len() - 3..], ["started", "retried", "verified"], "{told:?}");
    let bindings = chiron.get_json("/api/v1/bindings");
    assert!(bindings.to_string().contains("retry_connection"), "{bindings}");
    assert_told_once(at);
}

/// WSP-7: limits that are reached get a suggestion, and nothing else.
#[test]
fn position_limits_are_proposed_about() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    let open = json!({"open_positions": [{"symbol": "BTC"}, {"symbol": "ETH"}, {"symbol": "ETH"}]});
    put(at, "positions.json", &open);
    let chiron = start(at, "failure_points: {every: 500ms, position_limits: {positions: positions.json, max: 2}}\n");
    let line = wait_step(at, "position_limits", "suggested");
    assert_eq!(line["action"], "review_position_limits");
    let text = "3 open of at most 2 (BTC 1, ETH 2): close 2 positions, or raise the limit where the bot has it";
    assert_eq!(line["detail"], text);
    put(at, "positions.json", &json!({"open_positions": []}));
    wait_step(at, "position_limits", "verified");
    assert_eq!(steps(at, "position_limits").len(), 2);
    assert!(chiron.journal().iter().all(|entry| entry["kind"] != "run_intended"), "nothing is carried out");
}

/// WSP-7, WSP-6: a configuration file that breaks while the bot runs is brought back by chiron itself, and the log names the
/// healing that undoes it.
#[test]
fn broken_configuration_is_restored() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    fs::create_dir_all(at.join("config")).expect("a folder can be made");
    let good = json!({"max_positions": 3});
    fs::write(at.join("config/default.json"), good.to_string()).expect("a file can be written");
    put(at, "config/trading_config.json", &good);
    let yaml = "heal: {every: 1h}\nfailure_points:\n  every: 500ms\n  \
                configuration: {files: {config/trading_config.json: {default: config/default.json}}}\n";
    let chiron = start(at, yaml);
    wait_for("the configuration to be whole", || {
        let found = chiron.get_json("/api/v1/failure-points/configuration");
        if found["status"] == "healthy" { Ok(()) } else { Err(found) }
    });
    fs::write(at.join("config/trading_config.json"), "{\"max_pos").expect("a file can be written");
    wait_for("the file to be whole again", || {
        let text = fs::read_to_string(at.join("config/trading_config.json")).unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            Ok(found) if found == good => Ok(()),
            _ => Err((text, log(at))),
        }
    });
    wait_step(at, "configuration", "verified");
    let restored = log(at).into_iter().find(|line| line["step"] == "restored").expect("it is told");
    assert!(restored["detail"].as_str().is_some_and(|detail| detail.contains("--rollback")), "{restored}");
    assert_told_once(at);
}

/// WSP-7: in the usual layout a configuration file that nobody needs and that is not there keeps no other from being restored; the
/// log tells that it has worked, and nothing as failed.
#[test]
fn configuration_is_restored_in_the_usual_layout() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let at = dir.path();
    fs::create_dir_all(at.join("config")).expect("a folder can be made");
    let good = json!({"max_positions": 3});
    put(at, "config/trading_config.json", &good);
    let yaml = "heal: {layout: quantum, every: 1h, quiet: 1s}\nfailure_points:\n  every: 500ms\n  \
                configuration: {files: {config/trading_config.json: {}}}\n";
    let chiron = start(at, yaml);
    wait_for("a good copy to be kept", || {
        chiron.post("/api/v1/workspace/heal", "{}").expect("an answer");
        let good = at.join(".chiron/backups");
        let kept = fs::read_dir(&good).map(|all| all.count()).unwrap_or_default();
        if kept > 0 { Ok(()) } else { Err(kept) }
    });
    fs::write(at.join("config/trading_config.json"), "{\"max_pos").expect("a file can be written");
    wait_step(at, "configuration", "verified");
    let text = fs::read_to_string(at.join("config/trading_config.json")).expect("it is there");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), good);
    let told = steps(at, "configuration");
    let told: Vec<&str> = told.iter().map(|(step, _)| step.as_str()).collect();
    assert_eq!(told, ["started", "restored", "verified"]);
    assert!(!at.join("config/golden_hour_config.json").exists(), "nobody has a default for it");
    assert_told_once(at);
    drop(chiron);
}
