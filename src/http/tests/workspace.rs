//! The workspace over HTTP: the latest look, pages of healings, wishes of people and what they may.

use super::*;

fn healing(minute: u32) -> Value {
    json!({"id": format!("20251123T01{minute:02}00Z-0000{minute:02}"), "at": format!("2025-11-23T01:{minute:02}:00Z"),
           "trigger": "schedule", "changes": minute})
}

/// WSP-4, WSP-6: the latest look, the healings in pages with the latest first, and one of them; what is not there is 404.
#[tokio::test]
async fn healings_are_paged() {
    let healings = (1..=5).map(healing).collect();
    let server = Running::with(Fake { healings, ..Fake::default() }, settings()).await;
    assert_eq!(server.get("/api/v1/workspace").await.1["enabled"], true);
    let (mut pages, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let (status, page) = server.get(&format!("/api/v1/workspace/healings{query}")).await;
        assert_eq!(status, 200, "{page}");
        pages.push(page["healings"].as_array().unwrap().iter().map(|one| one["changes"].clone()).collect::<Vec<_>>());
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(pages, [&[5, 4][..], &[3, 2], &[1]]);
    let (_, page) = server.get("/api/v1/workspace/healings?limit=1").await;
    let next = page["next"].as_str().unwrap();
    let parameters = &super::openapi::parsed()["paths"]["/api/v1/workspace/healings"]["get"]["parameters"];
    let pattern = parameters[1]["schema"]["pattern"].as_str().unwrap();
    assert!(next.starts_with("6865616c696e67737c") && pattern.starts_with("^6865616c696e67737c"), "{next} {pattern}");
    assert_eq!(server.get("/api/v1/workspace/healings/h1").await.1["id"], "h1");
    *server.fake.refusal.lock().unwrap() = Some(Refusal::NotFound("no healing `h2` is kept".to_owned()));
    let (status, body) = server.get("/api/v1/workspace/healings/h2").await;
    assert_eq!((status.as_u16(), &body["code"]), (404, &json!("not_found")));
}

/// WSP-6: a person has the workspace healed, or only looked at; it is refused while it is being healed, and 202 says that
/// it goes on.
#[tokio::test]
async fn healing_is_asked_for() {
    let server = Running::new().await;
    let path = "/api/v1/workspace/heal";
    assert_eq!(server.post(path, "").await, (StatusCode::OK, json!({"healed": 2})));
    assert_eq!(server.post(path, r#"{"dry_run":true}"#).await.0, 200);
    assert_eq!(server.fake.asked(), ["heal false `127.0.0.1 (loopback)`", "heal true `127.0.0.1 (loopback)`"]);
    for bad in [r#"{"dryrun":true}"#, r#"{"dry_run":1}"#, "x"] {
        assert_eq!(server.post(path, bad).await.0, 400, "{bad}");
    }
    assert_eq!(server.fake.asked(), [""; 0]);
    server.fake.hangs.store(true, Ordering::SeqCst);
    assert_eq!(server.post(path, "{}").await, (StatusCode::ACCEPTED, json!({"busy": true})));
    *server.fake.refusal.lock().unwrap() = Some(Refusal::Conflict("the workspace is being healed already".to_owned()));
    let (status, body) = server.post(path, "{}").await;
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("conflict")));
}

/// SEC-2: a body that is no object is refused on every route that takes one, and nothing is done: the elements of a list would
/// be taken for the fields in their order.
#[tokio::test]
async fn only_objects_are_wishes() {
    let server = Running::new().await;
    let document = super::openapi::parsed();
    let mut routes = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            // Alertmanager's notifications are read by rules of their own.
            if operation["requestBody"].is_null() || path == crate::http::need::WEBHOOK {
                continue;
            }
            assert_eq!(method, "post", "{path}");
            routes += 1;
            let concrete = path.replace(['{', '}'], "");
            for bad in ["[]", " [true]", "[[]]", "null", "true", "1", "\"dry_run\"", r#"[true, "a", {}]"#] {
                let (status, body) = server.post(&concrete, bad).await;
                assert_eq!(status, 400, "{path} {bad}: {body}");
            }
        }
    }
    assert!(routes >= 10, "{routes}");
    assert_eq!(server.fake.asked(), [""; 0]);
}

/// WSP-6: a healing is undone; a refusal names the files that have changed since.
#[tokio::test]
async fn a_healing_is_undone() {
    let server = Running::new().await;
    let path = "/api/v1/workspace/healings/h1/rollback";
    assert_eq!(server.post(path, "").await, (StatusCode::OK, json!({"healed": 1})));
    assert_eq!(server.post(path, r#"{"force":true}"#).await.0, 200);
    assert_eq!(server.fake.asked(), ["undo h1 false `127.0.0.1 (loopback)`", "undo h1 true `127.0.0.1 (loopback)`"]);
    assert_eq!(server.post(path, r#"{"forced":true}"#).await.0, 400);
    let changed = Refusal::Changed("changed since: logs/positions_futures.json".to_owned());
    *server.fake.refusal.lock().unwrap() = Some(changed);
    let (status, body) = server.post(path, "").await;
    assert_eq!((status.as_u16(), &body["code"]), (409, &json!("changed_since")));
    assert!(body["detail"].as_str().unwrap().contains("logs/positions_futures.json"), "{body}");
}
