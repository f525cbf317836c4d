//! The versioned API at the socket: pages, filters, what a person and a bot send.

use super::*;

fn issue(minute: u32, name: &str, severity: &str) -> Value {
    json!({
        "issue_id": format!("{name}_{minute:02}"), "subsystem": name, "severity": severity, "status": "resolved",
        "timestamp": format!("2025-11-23T00:{minute:02}:00Z"), "resolved_at": "2025-11-23T01:00:00Z",
    })
}

/// Every id of a list, page by page.
async fn walk(server: &Running, path: &str, list: &str, id: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let (status, page) = server.get(&format!("{path}{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        let items = page[list].as_array().unwrap();
        pages.push(items.iter().map(|item| item[id].as_str().unwrap().to_owned()).collect());
        match &page["next"] {
            Value::Null => return pages,
            Value::String(next) => cursor = format!("&cursor={next}"),
            other => panic!("a cursor is text or null: {other}"),
        }
    }
}

/// SPEC 12: issues open and over, latest first, filtered and in pages.
#[tokio::test]
async fn issues_are_filtered_and_paged() {
    let ended = vec![issue(3, "disk", "low"), issue(2, "ai_model", "high"), issue(2, "disk", "low")];
    let server = Running::with(Fake { ended, ..Fake::default() }, settings()).await;
    let (_, open) = server.get("/api/v1/issues").await;
    let mut expected = serde_json::to_value(&report().detected_issues).unwrap();
    expected[0]["status"] = "open".into();
    assert_eq!(open, json!({"issues": expected, "next": null}));
    let now = "ai_model_20251123_013456";
    let ids = async |query: &str| walk(&server, &format!("/api/v1/issues?{query}"), "issues", "issue_id").await;
    assert_eq!(ids("status=all").await, [[now, "disk_03", "ai_model_02", "disk_02"]]);
    assert_eq!(ids("status=all&limit=3").await, [&[now, "disk_03", "ai_model_02"][..], &["disk_02"]]);
    assert_eq!(ids("status=all&limit=2").await, [[now, "disk_03"], ["ai_model_02", "disk_02"]]);
    assert_eq!(ids("status=resolved&subsystem=disk&limit=1").await, [["disk_03"], ["disk_02"]]);
    assert_eq!(ids("status=all&severity=high").await, [["ai_model_02"]]);
    assert_eq!(ids("subsystem=nobody").await, [[""; 0]]);
    assert_eq!(server.get("/api/v1/issues/disk_02").await.1["resolved_at"], "2025-11-23T01:00:00Z");
    assert_eq!(server.get(&format!("/api/v1/issues/{now}")).await.1["status"], "open");
    for (query, part) in [
        ("status=closed", "expected one of open, resolved, all"),
        ("severity=bad", "expected one of low, medium, high, critical"),
        ("limit=0", "expected a whole number from 1 to 1000"),
        ("limit=1001", "found limit `1001`"),
        ("state=open", "expected only status, subsystem, severity, limit, cursor"),
        ("limit=1&limit=1", "`limit` twice"),
        ("cursor=00", "found a cursor that is none of issues"),
    ] {
        let (status, body) = server.get(&format!("/api/v1/issues?{query}")).await;
        assert_eq!(status, 400, "{query}");
        assert!(body["detail"].as_str().unwrap().contains(part), "{query}: {body}");
    }
    let (_, page) = server.get("/api/v1/issues?status=all&limit=1").await;
    let foreign = format!("/api/v1/actions?cursor={}", page["next"].as_str().unwrap());
    assert_eq!(server.get(&foreign).await.1["code"], "bad_cursor", "a cursor belongs to its list");
}

#[tokio::test]
async fn runs_and_subsystems_are_paged() {
    let run = |minute: u32, target: &str, outcome: Option<&str>| {
        json!({"key": format!("{target}/1/{minute}"), "target": target, "outcome": outcome,
               "intended_at": format!("2025-11-23T00:{minute:02}:00.5Z")})
    };
    let runs = vec![run(1, "a", Some("verified")), run(3, "b", None), run(2, "b", Some("failed"))];
    let subsystems = ["a", "b", "c"].map(|name| json!({"subsystem": name, "criticality": "full", "depends_on": []}));
    let fake = Fake { runs, subsystems: subsystems.to_vec(), ..Fake::default() };
    let server = Running::with(fake, settings()).await;
    let keys = async |query: &str| walk(&server, &format!("/api/v1/actions?{query}"), "actions", "key").await;
    assert_eq!(keys("limit=2").await, [&["b/1/3", "b/1/2"][..], &["a/1/1"]]);
    assert_eq!(keys("subsystem=b&outcome=failed").await, [["b/1/2"]]);
    assert_eq!(keys("issue=b").await, [&["b/1/3", "b/1/2"][..]]);
    for bad in ["outcome=won", "state=done"] {
        assert_eq!(server.get(&format!("/api/v1/actions?{bad}")).await.0, 400, "{bad}");
    }
    assert_eq!(server.get("/api/v1/actions/b%2F1%2F3").await.1["id"], "b/1/3", "a slash is part of the id");
    let names = walk(&server, "/api/v1/bindings?limit=1", "bindings", "subsystem").await;
    assert_eq!(names.concat(), ["a", "b"]);
    let names = walk(&server, "/api/v1/subsystems?limit=2", "subsystems", "subsystem").await;
    assert_eq!(names, [&["a", "b"][..], &["c"]]);
    assert_eq!(server.get("/api/v1/subsystems/b").await.1, subsystems[1]);
}

#[tokio::test]
async fn the_journal_and_the_audit_are_paged_within_bounds() {
    let server = Running::new().await;
    for (path, word) in [("/api/v1/journal", "history"), ("/api/v1/audit", "audit")] {
        assert_eq!(server.get(path).await.1, json!({"entries": [], "next": null}));
        assert_eq!(server.get(&format!("{path}?after=5&limit=1000")).await.0, 200);
        assert_eq!(server.fake.asked(), [format!("{word} 0 100"), format!("{word} 5 1000")]);
        for query in ["limit=0", "limit=1001", "limit=x", "after=-1", "after=9007199254740992", "before=1"] {
            assert_eq!(server.get(&format!("{path}?{query}")).await.0, 400, "{query}");
        }
    }
}

/// SPEC 12: what a person approves and rejects is bound to the digest that they were shown.
#[tokio::test]
async fn offers_are_answered() {
    let server = Running::new().await;
    let path = "/api/v1/recommendations/rec_1_x";
    let (status, run) = server.post(&format!("{path}/approve"), r#"{"digest":"abc"}"#).await;
    assert_eq!((status.as_u16(), run), (200, json!({"run": "x/1/1"})));
    let (status, _) = server.post(&format!("{path}/approve"), r#"{"digest":"abc","reason":" seen "}"#).await;
    assert_eq!(status, 200);
    assert_eq!(server.post(&format!("{path}/reject"), r#"{"digest":"abc","reason":"no"}"#).await.0, 200);
    let by = "`127.0.0.1 (loopback)`";
    let asked = ["approve rec_1_x abc BY ``", "approve rec_1_x abc BY `seen`", "reject rec_1_x abc BY `no`"];
    assert_eq!(server.fake.asked(), asked.map(|line| line.replace("BY", by)));
    for (verb, body, part) in [
        ("approve", "{}", "missing field `digest`"),
        ("approve", r#"{"digest":""}"#, "a digest of 0 bytes"),
        ("approve", r#"{"digest":"a","by":"me"}"#, "unknown field `by`"),
        ("reject", r#"{"digest":"a"}"#, "a reason of 0 characters"),
    ] {
        let (status, answer) = server.post(&format!("{path}/{verb}"), body).await;
        assert_eq!(status, 400, "{verb} {body}");
        assert!(answer["detail"].as_str().unwrap().contains(part), "{answer}");
    }
    assert_eq!(server.fake.asked(), [""; 0]);
    for (refusal, status, code) in [
        (Refusal::Conflict("it has changed".to_owned()), 409, "conflict"),
        (Refusal::NotFound("there is none".to_owned()), 404, "not_found"),
        (Refusal::Forbidden("not you".to_owned()), 403, "forbidden"),
    ] {
        *server.fake.refusal.lock().unwrap() = Some(refusal);
        let (found, answer) = server.post(&format!("{path}/approve"), r#"{"digest":"abc"}"#).await;
        assert_eq!((found.as_u16(), answer["code"].as_str()), (status, Some(code)));
    }
}

/// OBS-7: vitals and heartbeats reach whoever listens; the body of a heartbeat may be empty.
#[tokio::test]
async fn a_bot_tells_about_itself() {
    let server = Running::new().await;
    let vitals = r#"{"subsystem":"bot","status":"degraded","error_rate":0.5,"queue":3}"#;
    assert_eq!(server.post("/api/v1/vitals", vitals).await.0, 202);
    assert_eq!(server.post("/api/v1/heartbeats/bot", "").await.0, 202);
    assert_eq!(server.post("/api/v1/heartbeats/bot", r#"{"status":"healthy"}"#).await.0, 202);
    assert_eq!(server.fake.asked(), ["push bot 2", "push bot 0", "push bot 0"]);
    assert_eq!(server.get("/api/v1/vitals").await.1, json!({"bot": {"error_rate": 0.5}}));
    for (path, body) in [
        ("vitals", "{}"),
        ("vitals", r#"{"subsystem":5}"#),
        ("vitals", "[]"),
        ("heartbeats/bot", "5"),
        ("heartbeats/bot", r#"{"queue":1}"#),
        ("heartbeats/bot", r#"{"status":"failed"}"#),
    ] {
        assert_eq!(server.post(&format!("/api/v1/{path}"), body).await.1["code"], "invalid", "{path} {body}");
    }
    assert_eq!(server.fake.asked(), [""; 0]);
    *server.fake.refusal.lock().unwrap() = Some(Refusal::NotFound("no check listens".to_owned()));
    assert_eq!(server.post("/api/v1/heartbeats/bot", "").await.0, 404);
}

#[tokio::test]
async fn restarts_and_drills_are_handed_on() {
    let server = Running::new().await;
    assert_eq!(server.post("/system/restart", "").await.1, json!({"restarted": true}));
    assert_eq!(server.post("/system/restart", r#"{"reason":"stuck"}"#).await.0, 200);
    let (status, body) = server.post("/api/v1/drills", r#"{"subsystem":"router","reason":"rehearsal"}"#).await;
    assert_eq!((status.as_u16(), body), (202, json!({"issue_id": "router_drill"})));
    let asked = ["restart BY ``", "restart BY `stuck`", "drill router BY `rehearsal`"];
    assert_eq!(server.fake.asked(), asked.map(|line| line.replace("BY", "`127.0.0.1 (loopback)`")));
    for body in ["", "{}", r#"{"subsystem":"router"}"#, r#"{"subsystem":"","reason":"r"}"#] {
        assert_eq!(server.post("/api/v1/drills", body).await.0, 400, "{body}");
    }
    assert_eq!(server.get("/api/v1/config").await.1, json!({"mode": "paper"}));
}

/// Every answer carries the request's name; a refusal holds it too.
#[tokio::test]
async fn requests_have_names() {
    let server = Running::new().await;
    let ask = async |path: &str, id: &str| {
        let response = server.request(Method::GET, path).header("x-request-id", id).send().await.unwrap();
        (response.headers()["x-request-id"].to_str().unwrap().to_owned(), response.text().await.unwrap())
    };
    assert_eq!(ask("/health", "mine-1").await.0, "mine-1");
    let (id, body) = ask("/nothing", "mine-2").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((id.as_str(), body["instance"].as_str()), ("mine-2", Some("urn:chiron:request:mine-2")));
    let (first, second) = (ask("/health", "not sane").await.0, ask("/health", "").await.0);
    assert!(first != second && first.len() > 16 && !first.contains(' '), "{first} {second}");
}

/// A fault of our own is answered under the request's name, and the connection goes on.
#[tokio::test]
async fn a_panic_is_a_500() {
    let server = Running::new().await;
    server.fake.panics.store(true, Ordering::SeqCst);
    let (status, body) = server.get("/api/v1/config").await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (500, Some("internal")));
    assert!(!body.to_string().contains("invariant"), "what broke is for the log");
    assert_eq!(server.get("/health").await.0, 200);
}

/// RFC 9457: a path that is no text is refused like everything else, as a problem.
#[tokio::test]
async fn a_path_that_is_no_text_is_a_problem() {
    let server = Running::new().await;
    for path in ["/api/v1/subsystems/%ff", "/api/v1/issues/%ff", "/api/v1/gate/%ff"] {
        let (status, answer) = server.get(path).await;
        assert_eq!((status.as_u16(), answer["code"].as_str()), (400, Some("invalid")), "{path}: {answer}");
    }
}
