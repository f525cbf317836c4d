//! Maintenance from the command line and over HTTP, with the real program and a real process that is restarted.

use serde_json::{Value, json};

use crate::cli::chiron as command;
use crate::common::{Bot, Chiron, in_order, kinds, request, wait_for};
use crate::loop_with_alertmanager::{assert_restarted_once, config, wait_status};

/// How long a request may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// What the next rung of the router waits for.
fn waits_for(chiron: &Chiron, reason: &str) -> Value {
    wait_for(&format!("the restart to wait for {reason}"), || {
        let all = chiron.get_json("/api/v1/recommendations");
        let list = all["recommendations"].as_array().cloned().unwrap_or_default();
        list.into_iter().find(|one| one["reason"] == reason).ok_or(all)
    })
}

/// ACT-3: while announced maintenance lasts a dead process is left alone, across a restart of chiron too; as soon as it is
/// ended the process is restarted.
#[test]
fn a_process_is_left_alone_in_maintenance() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut bot = Bot::start(dir.path());
    let windows = "maintenance: [{name: yearly, cron: '0 0 29 2 *', duration: 1h, actions: [clear_cache]}]\n";
    let settings = config(dir.path(), true).with(windows);
    let mut chiron = Chiron::with_config(dir.path(), settings.text()).start();
    wait_status(&chiron, "order_router", "healthy");
    let url = format!("http://{}", chiron.address());

    let list = ["maintenance", "list", "--url", &url, "--output", "json"];
    let planned = command(&list).ended(0).json();
    assert_eq!((&planned["windows"][0]["open"], &planned["announced"]), (&json!(false), &json!([])), "{planned}");
    assert!(planned["windows"][0]["next"].as_str().is_some_and(|next| next.ends_with("-02-29T00:00:00Z")), "{planned}");

    let wrong = ["maintenance", "set", "--url", &url, "--subsystem", "router", "--for", "1h", "--reason", "disks"];
    let refused = command(&wrong).ended(3);
    assert!(refused.err.contains("no subsystem `router` is configured"), "{refused:?}");
    let set = ["maintenance", "set", "--url", &url, "--subsystem", "order_router", "--for", "1h", "--reason", "disks"];
    let said = command(&set).ended(0);
    assert!(said.out.starts_with("announced: maintenance_"), "{said:?}");
    let id = said.out["announced: ".len()..].split(',').next().expect("an id").to_owned();
    assert_eq!(chiron.metric("chiron_maintenance_announced", &[]), Some(1.0));
    assert_eq!(chiron.metric("chiron_maintenance", &[("window", "yearly")]), Some(0.0));

    bot.kill9();
    let waiting = waits_for(&chiron, "maintenance");
    let listed = command(&list).ended(0).json();
    assert_eq!(waiting["not_before"], listed["announced"][0]["until"], "{waiting} {listed}");
    chiron.restart();
    let url = format!("http://{}", chiron.address());
    waits_for(&chiron, "maintenance");
    assert_eq!(bot.starts().len(), 1, "it was left alone");
    assert!(chiron.metric("chiron_admissions_refused_total", &[("reason", "maintenance")]) >= Some(1.0));

    let said = command(&["maintenance", "end", &id, "--url", &url, "--reason", "done"]).ended(0);
    assert!(said.out.starts_with("ended: "), "{said:?}");
    assert_restarted_once(&chiron, &bot);
    let story = ["maintenance_set", "episode_opened", "maintenance_ended", "run_started", "run_verified"];
    wait_for("the journal to tell the story", || in_order(&kinds(&chiron.journal()), &story));
    let again = command(&["maintenance", "end", &id, "--url", &url]).ended(3);
    assert!(again.err.contains("no announced maintenance"), "{again:?}");
    let log = chiron.log();
    assert!(log.contains("maintenance ended"), "the log of the second process: {log}");
    let audit = chiron.get_json("/api/v1/audit?limit=1000").to_string();
    assert!(audit.contains("maintenance_set") && audit.contains("\"reason\":\"done\""), "{audit}");
}

/// What is no announcement is refused with what was expected, and changes nothing.
#[test]
fn what_is_no_announcement() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::with_config(dir.path(), config(dir.path(), true).text()).start();
    for (body, status, said) in [
        (json!({"reason": "disks"}), 400, "either `until`"),
        (json!({"reason": "disks", "for": "1h", "until": "2030-01-01T00:00:00Z"}), 400, "either `until`"),
        (json!({"reason": "disks", "for": "soon"}), 400, "expected a duration"),
        (json!({"reason": "disks", "until": "2020-01-01T00:00:00Z"}), 409, "to come"),
        (json!({"reason": "disks", "for": "1h", "until": null}), 400, "null"),
        (json!({"reason": "disks", "for": null, "until": "2030-01-01T00:00:00Z"}), 400, "null"),
        (json!({"reason": " ", "for": "1h"}), 400, "a reason of 0 characters"),
        (json!({"reason": "disks", "for": "31d"}), 409, "within the next 30 days"),
        (json!({"reason": "disks", "for": "1h", "actions": ["restart"]}), 404, "no action `restart`"),
        (json!({"reason": "disks", "for": "1h", "whose": "mine"}), 400, "whose"),
    ] {
        let response = chiron.post("/api/v1/maintenance", &body.to_string()).expect("an answer");
        let told = response.json();
        assert_eq!(response.status, status, "{body}: {told}");
        assert!(told["detail"].as_str().is_some_and(|detail| detail.contains(said)), "{body}: {told}");
    }
    let gone =
        request(chiron.address(), "DELETE", "/api/v1/maintenance/maintenance_1", &[], b"", LIMIT).expect("an answer");
    assert_eq!(gone.status, 404);
    assert_eq!(chiron.get_json("/api/v1/maintenance")["announced"], json!([]));
}
