//! Answers that a real chiron gives only after a while: many pages, offers that change, drills that fail, a log that was
//! forged.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::fake::Fake;
use super::{chiron, command, run};

/// SPEC 14: a list is complete over all its pages, in JSON and as a table, and the exit code is of all of it.
#[test]
fn lists_are_complete_over_their_pages() {
    let fake = Fake::start(|line, _| {
        let page = |from: usize, next: Value| {
            let issues: Vec<Value> = (from..from + 2)
                .map(|n| {
                    let severity = if n == 5 { "critical" } else { "low" };
                    json!({"issue_id": format!("feed_{n}"), "subsystem": "feed", "severity": severity, "status": "open",
                           "timestamp": "2026-11-22T11:44:47Z", "description": "feed is\u{1b}[31m late", "symptoms": []})
                })
                .collect();
            json!({"issues": issues, "next": next}).to_string()
        };
        match line.split_once("cursor=").map(|(_, cursor)| cursor) {
            None => (200, page(1, json!("a b"))),
            Some("a%20b") => (200, page(3, json!("c"))),
            Some("c") => (200, page(5, Value::Null)),
            Some(_) => (400, String::new()),
        }
    });
    let all = chiron(&["issues", "--all", "--subsystem", "feed", "--url", &fake.url, "--output=json"]).ended(2).json();
    let ids: Vec<&str> =
        all["issues"].as_array().expect("a list").iter().filter_map(|one| one["issue_id"].as_str()).collect();
    assert_eq!(ids, ["feed_1", "feed_2", "feed_3", "feed_4", "feed_5", "feed_6"]);
    assert!(all.get("next").is_none(), "{all}");
    let asked: Vec<String> = fake.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(asked[0], "GET /api/v1/issues?status=all&subsystem=feed");
    assert_eq!(asked[1], "GET /api/v1/issues?status=all&subsystem=feed&cursor=a%20b");
    let few = chiron(&["issues", "--limit=3", "--url", &fake.url]).ended(1);
    assert_eq!(few.out.lines().count(), 4, "a heading and three rows: {few:?}");
    assert!(!few.out.contains('\u{1b}'), "what a page says cannot draw: {few:?}");

    let endless = Fake::start(|_, _| (200, json!({"actions": [], "next": "same"}).to_string()));
    let said = chiron(&["actions", "--url", &endless.url]).ended(3);
    assert!(said.err.contains("do not end"), "{said:?}");
}

fn offer(digest: &str) -> String {
    let expires = "2199-01-01T00:00:00Z";
    json!({"next": null, "recommendations": [
        {"recommendation_id": "rec_1_feed_1", "issue_id": "feed_1", "subsystem": "feed", "action": "restart_subsystem",
         "priority": 1, "description": "feed is critical", "expected_result": "subsystem restored",
         "risks": ["brief interruption"], "state": "approval", "reason": "approval_pending", "not_before": null,
         "approval": {"digest": digest, "means": "exec /usr/local/bin/restart-feed", "asked_at": "2026-11-22T11:44:47Z",
                      "expires_at": expires}},
        {"recommendation_id": "rec_1_router_1", "issue_id": "router_1", "subsystem": "router", "action": "reload_config",
         "priority": 2, "state": "waiting", "reason": "manual", "not_before": null, "risks": []},
    ]})
    .to_string()
}

/// SPEC 14, invariant 13: what is sent back is what was shown; without a person or a word for it, nothing is approved.
#[test]
fn an_approval_is_bound_to_what_was_shown() {
    let fake = Fake::start(|line, body| match line {
        "GET /api/v1/recommendations" => (200, offer("d1")),
        "GET /api/v1/policy" => (200, json!({"policy": "no_new_trades"}).to_string()),
        "POST /api/v1/recommendations/rec_1_feed_1/approve" if body.contains("\"digest\":\"d1\"") => {
            (200, json!({"run": "feed_1/1/1"}).to_string())
        }
        "POST /api/v1/recommendations/rec_1_feed_1/reject" => (200, json!({"rejected": "rec_1_feed_1"}).to_string()),
        _ => (404, String::new()),
    });
    let url = ["--url", fake.url.as_str()];
    let posts = || fake.asked().into_iter().filter(|asked| asked.line.starts_with("POST")).collect::<Vec<_>>();
    let list = run(command(&["recommendations"]).args(url)).ended(1);
    assert!(list.out.contains("exec /usr/local/bin/restart-feed") && list.out.contains("rec_1_router_1"), "{list:?}");
    let pending = run(command(&["recommendations", "--pending", "--output=json"]).args(url)).ended(1).json();
    assert_eq!(pending["recommendations"].as_array().map(Vec::len), Some(1));

    let said = run(command(&["approve", "rec_1_feed_1"]).args(url)).ended(3);
    for shown in
        ["restart_subsystem", "feed", "exec /usr/local/bin/restart-feed", "feed is critical", "no_new_trades", "d1"]
    {
        assert!(said.err.contains(shown), "{shown}: {said:?}");
    }
    assert!(said.err.contains("--yes, or --digest d1"), "{said:?}");
    run(command(&["approve", "rec_1_feed_1", "--digest", "d0"]).args(url)).ended(3);
    run(command(&["approve", "rec_1_router_1", "--yes"]).args(url)).ended(3);
    let said = run(command(&["approve", "rec_1_fed_1", "--yes"]).args(url)).ended(3);
    assert!(said.err.contains("did you mean `rec_1_feed_1`?"), "{said:?}");
    assert!(posts().is_empty(), "nothing was approved so far");

    let said = run(command(&["approve", "rec_1_feed_1", "--yes", "--reason", "seen"]).args(url)).ended(0);
    assert_eq!(said.out, "approved: restart_subsystem of feed, run feed_1/1/1\n");
    assert_eq!(posts()[0].body, "{\"digest\":\"d1\",\"reason\":\"seen\"}");
    let said = run(command(&["approve", "rec_1_feed_1", "--digest", "d1", "--output=json"]).args(url)).ended(0);
    assert_eq!(said.json()["run"], "feed_1/1/1");
    let said = run(command(&["reject", "rec_1_feed_1", "--reason", "no"]).args(url)).ended(0);
    assert_eq!(said.out, "rejected: restart_subsystem of feed\n");
    assert_eq!(posts()[2].body, "{\"digest\":\"d1\",\"reason\":\"no\"}");
}

/// SPEC 14: a person at a terminal is asked; anything but a yes is a no. The terminal is that of `script`.
#[test]
fn a_person_is_asked() {
    let fake = Fake::start(|line, _| match line {
        "GET /api/v1/recommendations" => (200, offer("d1")),
        "GET /api/v1/policy" => (200, json!({"policy": "no_new_trades"}).to_string()),
        _ => (200, json!({"run": "feed_1/1/1"}).to_string()),
    });
    let answered = |word: &str| {
        let line = format!(
            "sleep 0.5; printf '{word}\\n' | {} -qec '{} approve rec_1_feed_1 --url {}' /dev/null",
            crate::common::tool("script").display(),
            env!("CARGO_BIN_EXE_chiron"),
            fake.url
        );
        let mut shell = std::process::Command::new("sh");
        run(shell.arg("-c").arg(line).env_remove("CHIRON_CREDENTIALS"))
    };
    let no = answered("n").ended(1);
    assert!(no.out.contains("Approve this? [y/N]") && no.out.contains("not approved"), "{no:?}");
    assert!(!fake.asked().iter().any(|asked| asked.line.starts_with("POST")));
    let yes = answered("y").ended(0);
    assert!(yes.out.contains("approved: restart_subsystem of feed"), "{yes:?}");
}

/// ACT-3: a drill ends as its actions did: 0 verified, 2 not, 3 refused or without an outcome in time.
#[test]
fn a_drill_is_followed_to_its_outcome() {
    let drill = |states: &'static [(&'static str, &'static str)]| {
        let step = AtomicUsize::new(0);
        Fake::start(move |line, _| {
            let path = line.split('?').next().unwrap_or_default();
            match path {
                "POST /api/v1/drills" => (202, json!({"issue_id": "feed_1"}).to_string()),
                "GET /api/v1/issues/feed_1" => {
                    let done = step.load(Ordering::SeqCst) >= states.len();
                    (200, json!({"issue_id": "feed_1", "status": if done { "resolved" } else { "open" }}).to_string())
                }
                "GET /api/v1/actions" => {
                    let at = step.fetch_add(1, Ordering::SeqCst).min(states.len() - 1);
                    let (state, outcome) = states[at];
                    let outcome = if outcome.is_empty() { Value::Null } else { json!(outcome) };
                    let other = json!({"key": "feed_0/1/1", "state": "verified", "outcome": "verified"});
                    let run = json!({"key": "feed_1/1/1", "action": "restart_subsystem", "target": "feed", "state": state,
                                     "outcome": outcome, "detail": "as told"});
                    (200, json!({"actions": [run, other], "next": null}).to_string())
                }
                _ => (404, String::new()),
            }
        })
    };
    type Case = (&'static [(&'static str, &'static str)], i32, &'static str);
    let cases: [Case; 3] = [
        (&[("intended", ""), ("started", ""), ("verified", "verified")], 0, "drill of feed: verified\n"),
        (&[("started", ""), ("verified", "unverified")], 2, "drill of feed: failed\n"),
        (&[("started", ""), ("indeterminate", "indeterminate")], 2, "drill of feed: failed\n"),
    ];
    for (states, code, last) in cases {
        let fake = drill(states);
        let said = chiron(&["drill", "feed", "--reason", "r", "--url", &fake.url]).ended(code);
        assert!(said.out.ends_with(last) && said.out.contains("restart_subsystem of feed"), "{said:?}");
        assert!(said.err.is_empty(), "no progress in a pipe: {said:?}");
    }
    let stuck = drill(&[("started", ""); 1000]);
    let said =
        chiron(&["drill", "feed", "--reason", "r", "--timeout=2s", "--output=json", "--url", &stuck.url]).ended(3);
    assert_eq!(said.json()["outcome"], "unknown");
    let refused = Fake::start(|_, _| {
        (409, json!({"code": "conflict", "detail": "`feed` is critical, expected healthy"}).to_string())
    });
    let said = chiron(&["drill", "feed", "--reason", "r", "--url", &refused.url]).ended(3);
    assert!(said.err.contains("expected healthy"), "{said:?}");
}
