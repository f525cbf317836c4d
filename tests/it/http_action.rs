//! The means `http`: real requests to real servers, also to those that behave badly.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{
    Authority, Chiron, Config, HttpServer, Reply, TlsFront, alert, free_port, kinds, notification, settled, wait_for,
    wait_for_within,
};
use crate::crash::{deliver, settle};

const TOKEN: &str = "http-action-canary-token-1";

/// Healthy subsystems, each with its restart by `http` and an alert that asks for it.
fn config(dir: &Path, class: &str, bindings: &[(&str, String)]) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    std::fs::write(dir.join("token"), format!("{TOKEN}\n")).expect("a file can be written");
    let mut subsystems = "subsystems:\n".to_owned();
    let mut bound = "bindings:\n".to_owned();
    let mut routes = "alerts:\n  routes:\n".to_owned();
    for (name, http) in bindings {
        subsystems.push_str(&format!(
            "  {name}: {{criticality: partial, check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h, missing: critical}}}}\n"
        ));
        bound.push_str(&format!(
            "  - {{action: restart_subsystem, subsystem: {name}, class: {class}, timeout: 2s, \
             verify: {{settle: 50ms, within: 10s}}, http: {{{http}}}}}\n"
        ));
        routes.push_str(&format!(
            "    - {{match: {{alertname: {name}}}, subsystem: {name}, action: restart_subsystem}}\n"
        ));
    }
    let limits = "recovery: {cooldown: 0s, overall_budget: 1000, concurrency: 16}\n";
    Config::new(dir).with(&format!("{limits}{subsystems}{bound}{routes}")).text().to_owned()
}

fn body(names: &[&str]) -> String {
    let alerts: Vec<Value> =
        names.iter().map(|name| alert("firing", &[("alertname", name), ("severity", "critical")])).collect();
    notification(&alerts)
}

/// The first end of a run of each subsystem, by its name.
fn ends(entries: &[Value]) -> BTreeMap<String, Value> {
    let targets: BTreeMap<&str, &str> = entries
        .iter()
        .filter(|entry| entry["kind"] == "run_intended")
        .filter_map(|entry| Some((entry["key"].as_str()?, entry["target"].as_str()?)))
        .collect();
    let mut ends = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry["kind"] == "run_finished") {
        let target = targets[entry["key"].as_str().expect("a run has a key")];
        ends.entry(target.to_owned()).or_insert_with(|| entry.clone());
    }
    ends
}

/// ACT-2, SEC-3, SEC-5: the request is received once, with its method, headers, secrets and filled body; what the server
/// shows of the secret is not in the journal.
#[test]
fn a_request_is_received_once_with_all_that_belongs_to_it() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    // It answers with what it was sent, as careless servers do.
    let server = HttpServer::answering(|request| {
        Reply::Status(202, format!("you said {}", request.header("authorization").unwrap_or_default()))
    });
    let http = format!(
        "method: PUT, url: {:?}, bearer_token_file: token, headers: {{X-Epoch: \"e{{{{epoch}}}}\", X-Key: {{file: token}}}}, \
         json: {{what: \"{{{{action}}}} {{{{subsystem}}}}\", why: [\"{{{{severity}}}}\", 1, true]}}, \
         idempotency_key_header: Idempotency-Key, expect_status: [202]",
        server.url("/bots/{{subsystem}}?run={{run_key}}")
    );
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), "keyed", &[("router", http)])).start();
    assert!(deliver(&mut chiron, &body(&["router"])));
    wait_for("the request", || if server.received().is_empty() { Err("none") } else { Ok(()) });
    let entries = wait_for("the journal to settle", || settled(&chiron));
    let received = server.received();
    let finished = &ends(&entries)["router"];
    let key = finished["key"].as_str().expect("a run has a key");
    // The other connection is that of the question whether it would work, which sends nothing.
    assert_eq!((received.len(), server.connections()), (1, 2), "{received:?}");
    let request = &received[0];
    assert_eq!((request.method.as_str(), request.header("idempotency-key")), ("PUT", Some(key)));
    assert_eq!(request.path, format!("/bots/router?run={}", key.replace('/', "%2F")));
    assert_eq!(request.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert_eq!((request.header("x-key"), request.header("content-type")), (Some(TOKEN), Some("application/json")));
    assert!(request.header("x-epoch").is_some_and(|epoch| epoch.len() > 1 && epoch.starts_with('e')), "{request:?}");
    let sent: Value = serde_json::from_str(&request.body).expect("the body is JSON");
    assert_eq!(sent, json!({"what": "restart_subsystem router", "why": ["critical", 1, true]}));
    assert_eq!((&finished["ending"], &finished["output"]), (&json!("ok"), &json!("you said Bearer <redacted>")));
    assert_eq!(finished["changed"], format!("PUT http://{}/bots/router answered 202", server.address()));
    assert!(!chiron.log().contains(TOKEN) && !entries.iter().any(|entry| entry.to_string().contains(TOKEN)));
}

/// ACT-3, SEC-2: whatever a server does, the run ends named and in time.
#[test]
fn servers_that_behave_badly_have_named_outcomes() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "ours");
    let (certificate, key) = authority.issue("server", "IP:127.0.0.1");
    let server = HttpServer::answering(|request| match request.path.as_str() {
        "/silent" => Reply::Never,
        "/late" => Reply::Late(Duration::from_secs(4), 200),
        "/close" => Reply::Close,
        "/torn" => Reply::Torn,
        "/redirect" => Reply::With(307, "Location: /ok".to_owned(), String::new()),
        "/endless" => Reply::Endless,
        "/refuse" => Reply::Status(401, "who are you".to_owned()),
        "/broken" => Reply::Status(500, "no".to_owned()),
        _ => Reply::Status(200, "ok".to_owned()),
    });
    let front = TlsFront::start(dir.path(), (&certificate, &key), None, server.address());
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    let secure = format!("https://{}/secure", front.address());
    let ca = authority.certificate();
    let unknown = "whether it happened is not known";
    let table: [(&str, String, &str, &str); 14] = [
        ("silent", server.url("/silent"), "timeout", unknown),
        ("late", server.url("/late"), "timeout", unknown),
        ("close", server.url("/close"), "failed", unknown),
        ("torn", server.url("/torn"), "failed", unknown),
        (
            "redirect",
            server.url("/redirect"),
            "failed",
            "answered 307 Temporary Redirect, expected 2xx; redirects are not",
        ),
        ("endless", server.url("/endless"), "ok", "answered 200 OK"),
        (
            "refuse",
            server.url("/refuse"),
            "failed",
            "answered 401 Unauthorized, expected 2xx; are the credentials right?",
        ),
        ("broken", server.url("/broken"), "failed", "answered 500 Internal Server Error, expected 2xx"),
        ("nobody", nobody, "not_started", "nothing was sent: Connection refused"),
        ("nowhere", "http://chiron-test.invalid/".to_owned(), "not_started", "nothing was sent"),
        ("stranger", secure.clone(), "not_started", "nothing was sent: invalid peer certificate"),
        ("trusted", format!("{secure}\", tls: {{ca_file: {ca:?}}}, x: \""), "ok", "answered 200 OK"),
        (
            "anybody",
            format!("https://{}/anybody\", tls: {{insecure_skip_verify: true}}, x: \"", front.address()),
            "ok",
            "answered 200 OK",
        ),
        (
            "token_gone",
            format!("{}\", bearer_token_file: nowhere, x: \"", server.url("/gone")),
            "not_started",
            "missing",
        ),
    ];
    let bindings: Vec<(&str, String)> =
        table.iter().map(|(name, url, ..)| (*name, format!("url: \"{url}\"").replace(", x: \"\"", ""))).collect();
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), "one_shot", &bindings)).start();
    let begun = Instant::now();
    assert!(deliver(&mut chiron, &body(&table.each_ref().map(|row| row.0))));
    let ends = wait_for_within("every run to end", Duration::from_secs(20), || {
        let ends = ends(&chiron.journal());
        if ends.len() == table.len() { Ok(ends) } else { Err(ends.into_keys().collect::<Vec<_>>()) }
    });
    eprintln!("{} runs ended within {:?}", ends.len(), begun.elapsed());
    for (name, _, ending, detail) in table {
        let end = &ends[name];
        assert_eq!(end["ending"], ending, "{name}: {end}");
        assert!(end["detail"].as_str().is_some_and(|told| told.contains(detail)), "{name}: {end}");
        assert!(end["duration_ms"].as_u64().is_some_and(|time| time < 3_000), "{name}: the timeout is 2 s: {end}");
        assert!(end["output"].as_str().unwrap_or_default().len() <= 4096, "{name}");
    }
    for (name, disabled) in [("anybody", Some(1.0)), ("trusted", Some(0.0)), ("late", None)] {
        let target = format!("restart_subsystem@{name}");
        let found = chiron.metric("chiron_tls_verification_disabled", &[("target", &target)]);
        assert_eq!(found, disabled, "{name}");
    }
    let entries = wait_for("the journal to settle", || settled(&chiron));
    let mut paths: Vec<String> = server.received().into_iter().map(|request| request.path).collect();
    paths.sort();
    let mut once = paths.clone();
    once.dedup();
    assert_eq!(paths, once, "no request twice: {:?}", kinds(&entries));
    assert!(!paths.contains(&"/ok".to_owned()) && !paths.contains(&"/gone".to_owned()), "{paths:?}");
}

/// One alert, killed at `failpoint`, a second life; what the server received, and the journal's kinds.
fn crash(class: &str, failpoint: &str) -> (Vec<(String, String)>, Vec<String>) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let done = std::sync::Mutex::new(Vec::new());
    let healed = dir.path().join("fresh");
    // It remembers the keys of what it did, and tells; what it does is to write the file that the check looks at.
    let server = HttpServer::answering(move |request| {
        let mut done = done.lock().expect("no panic here");
        let key = request.path.split("key=").nth(1).unwrap_or_default().to_owned();
        if request.method == "POST" {
            done.push(key);
            std::fs::write(&healed, "").expect("a file can be written");
            return Reply::Status(200, "done".to_owned());
        }
        if done.contains(&key) { Reply::Status(200, "was done".to_owned()) } else { Reply::Status(404, String::new()) }
    });
    let url = server.url("/restart?key={{run_key}}");
    let http = match class {
        "keyed" => format!("url: {url:?}, idempotency_key_header: Idempotency-Key"),
        _ => format!("url: {url:?}, probe: {{url: {url:?}, expect_body: was done}}"),
    };
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), class, &[("router", http)]));
    std::fs::remove_file(dir.path().join("fresh")).expect("the file is there");
    chiron.set_env("CHIRON_FAILPOINTS", Some(&format!("{failpoint}=kill")));
    chiron.spawn();
    assert!(chiron.wait_listening());
    deliver(&mut chiron, &body(&["router"]));
    wait_for("the strike", || chiron.ended().ok_or("still running"));
    chiron.set_env("CHIRON_FAILPOINTS", None);
    chiron.restart();
    // A keyed run is done again only while it is still needed.
    assert!(deliver(&mut chiron, &body(&["router"])), "{failpoint}: the second life stays");
    assert!(settle(&mut chiron, failpoint), "{failpoint}: the second life stays");
    let posts = server.received().into_iter().filter(|request| request.method == "POST");
    let keys = posts.map(|post| (post.header("idempotency-key").unwrap_or_default().to_owned(), post.path));
    (keys.collect(), kinds(&chiron.journal()))
}

/// ACT-3: killed before the request, it is sent once; killed after, it is sent again under the very same key.
#[test]
fn a_keyed_request_keeps_its_key_after_a_crash() {
    let (posts, kinds) = crash("keyed", "effect.before");
    assert_eq!(posts.len(), 1, "{posts:?} {kinds:?}");
    for failpoint in ["effect.after", "finish.before_commit"] {
        let (posts, kinds) = crash("keyed", failpoint);
        assert_eq!(posts.len(), 2, "{failpoint}: {posts:?} {kinds:?}");
        assert!(posts[0] == posts[1] && posts[0].0.ends_with("/1/1"), "{failpoint}: {posts:?}");
    }
}

/// ACT-3: a server that can be asked is asked, and receives the request exactly once, whenever chiron was killed.
#[test]
fn a_probeable_request_is_received_exactly_once() {
    for failpoint in ["effect.before", "effect.after", "finish.before_commit"] {
        let (posts, kinds) = crash("probeable", failpoint);
        assert_eq!(posts.len(), 1, "{failpoint}: {posts:?} {kinds:?}");
        assert!(kinds.iter().any(|kind| kind == "run_verified"), "{failpoint}: {kinds:?}");
        assert!(!kinds.iter().any(|kind| kind == "run_indeterminate"), "{failpoint}: {kinds:?}");
    }
}
