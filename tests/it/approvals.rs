//! What waits for a person, drills, and the audit log, with the real program and a real process that is restarted.

use serde_json::{Value, json};

use crate::common::{Bot, Chiron, pid_of, wait_for};
use crate::loop_with_alertmanager::{assert_restarted_once, config, wait_status};

/// A chiron whose restarts wait for a person, beside a bot that is dead.
fn asking(dir: &std::path::Path) -> (Chiron, Bot) {
    let mut bot = Bot::start(dir);
    let chiron = Chiron::with_config(dir, config(dir, false).text()).start();
    wait_status(&chiron, "order_router", "healthy");
    bot.kill9();
    (chiron, bot)
}

/// The recommendation that waits for approval: its id and its digest.
fn question(chiron: &Chiron) -> (String, String) {
    let found = wait_for("a question to a person", || {
        let all = chiron.get_json("/api/v1/recommendations");
        let one = all["recommendations"].as_array().and_then(|list| list.iter().find(|one| one["state"] == "approval"));
        one.filter(|one| one["approval"]["digest"].is_string()).cloned().ok_or(all.clone())
    });
    assert!(found["approval"]["means"].as_str().is_some_and(|means| means.contains("restart")), "{found}");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    (text(&found["recommendation_id"]), text(&found["approval"]["digest"]))
}

fn answer(chiron: &Chiron, verb: &str, id: &str, digest: &str) -> (u16, Value) {
    let body = json!({ "digest": digest, "reason": "looked at it" }).to_string();
    let response = chiron.post(&format!("/api/v1/recommendations/{id}/{verb}"), &body).expect("an answer");
    (response.status, response.json())
}

fn audit(chiron: &Chiron) -> Vec<Value> {
    chiron.get_json("/api/v1/audit?limit=1000")["entries"].as_array().expect("entries").clone()
}

/// ACT-3: nothing happens before a person says yes; a wrong or used digest is refused; the audit log names who it was.
#[test]
fn a_restart_waits_for_a_yes() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (chiron, bot) = asking(dir.path());
    let (id, digest) = question(&chiron);
    let (status, problem) = answer(&chiron, "approve", &id, &"0".repeat(64));
    assert_eq!((status, problem["code"].as_str()), (409, Some("conflict")), "{problem}");
    assert_eq!(bot.starts().len(), 1, "nothing was begun without a yes");
    let (status, begun) = answer(&chiron, "approve", &id, &digest);
    assert_eq!(status, 200, "{begun}");
    assert_restarted_once(&chiron, &bot);
    let (status, _) = answer(&chiron, "approve", &id, &digest);
    assert!(matches!(status, 404 | 409), "an approval is used once: {status}");
    assert_eq!(bot.starts().len(), 2);
    let lines = audit(&chiron);
    let yes = lines.iter().find(|line| line["detail"]["how"] == "approved").expect("the yes is in the audit log");
    assert!(yes["actor"].as_str().is_some_and(|actor| actor.contains("loopback")), "{yes}");
    assert_eq!(yes["subject"], begun["run"]);
}

/// ACT-3, ACT-5: a no leaves the process alone, and is counted.
#[test]
fn a_no_leaves_it_alone() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (chiron, bot) = asking(dir.path());
    let (id, digest) = question(&chiron);
    let (status, found) = answer(&chiron, "reject", &id, &digest);
    assert_eq!(status, 200, "{found}");
    wait_for("the no to be counted", || {
        let labels = [("action", "restart_subsystem"), ("outcome", "rejected")];
        let sum = chiron.metric_sum("chiron_actions_total", &labels);
        if sum >= 1.0 { Ok(()) } else { Err(sum) }
    });
    assert_eq!(bot.starts().len(), 1);
}

/// ACT-3, SEC-4: a question survives `kill -9`, and so does the chain of the audit log.
#[test]
fn a_question_survives_a_crash() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (mut chiron, bot) = asking(dir.path());
    let (id, digest) = question(&chiron);
    let before = audit(&chiron);
    chiron.kill9();
    chiron.restart();
    wait_status(&chiron, "order_router", "critical");
    let after = audit(&chiron);
    assert_eq!(after[..before.len()], before[..], "no line is lost or changed");
    let entries: Vec<chiron::journal::AuditEntry> =
        after.into_iter().map(|line| serde_json::from_value(line).expect("an audit line")).collect();
    let start = (0, chiron::journal::AuditEntry::START.to_owned());
    chiron::journal::audit::follow(start, &entries).expect("a whole chain");
    // The policy shown with it may have changed meanwhile; then it was asked anew.
    let (_, now) = question(&chiron);
    let (status, found) = answer(&chiron, "approve", &id, &now);
    assert_eq!(status, 200, "{found}; first asked as {digest}");
    assert_restarted_once(&chiron, &bot);
}

/// ACT-3: a drill restarts a healthy process for real, verifies it, and moves no policy.
#[test]
fn a_drill_restarts_for_real() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let bot = Bot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), config(dir.path(), true).text()).start();
    wait_status(&chiron, "order_router", "healthy");
    wait_for("the policy to allow all", || {
        let policy = chiron.get_json("/api/v1/policy")["policy"].clone();
        if policy == "allow_all" { Ok(()) } else { Err(policy) }
    });
    let body = json!({ "subsystem": "order_router", "reason": "monthly rehearsal" }).to_string();
    let response = chiron.post("/api/v1/drills", &body).expect("an answer");
    assert_eq!(response.status, 202, "{}", response.body);
    let issue = response.json()["issue_id"].as_str().expect("an id").to_owned();
    let run = wait_for("the drill to be verified", || {
        let all = chiron.get_json("/api/v1/actions");
        let runs = all["actions"].as_array().expect("runs").clone();
        let one =
            runs.iter().find(|run| run["key"].to_string().contains(&issue) && run["outcome"].is_string()).cloned();
        one.ok_or(all)
    });
    assert_eq!(run["outcome"], "verified", "{run}");
    assert_ne!(pid_of(dir.path()), Some(bot.first_pid()), "the process is another one");
    let nowhere = chiron.post("/api/v1/drills", r#"{"subsystem":"nowhere","reason":"x"}"#).expect("an answer");
    assert_eq!(nowhere.status, 404, "{}", nowhere.body);
}
