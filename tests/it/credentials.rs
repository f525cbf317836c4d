//! Users, tokens, roles and signatures, by curl and openssl.

use std::path::Path;

use crate::common::{Chiron, Config, Curled, alert, curl, hmac, notification, now_millis, wait_for};

const BOSS: &str = "0123456789abcdef-boss";
const CI: &str = "0123456789abcdef-ci";
const KEY: &str = "0123456789abcdef-key";

fn start(dir: &Path, web: &str) -> Chiron {
    for (name, text) in [("boss", BOSS), ("ci", CI), ("key", KEY)] {
        std::fs::write(dir.join(name), text).expect("a file can be written");
    }
    let text = Config::new(dir).with(web).text().to_owned();
    let mut chiron = Chiron::with_config(dir, &text);
    chiron.spawn();
    assert!(chiron.wait_listening(), "chiron listens: {}", chiron.log());
    chiron
}

const POLICY: &str = r#"{"level":"no_new_trades","reason":"a test","expires_in_seconds":60}"#;

/// SEC-1: with users every request needs a credential, by name and role; a new user needs no restart, one that is removed
/// is out at once.
#[test]
fn users_have_passwords_and_roles() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let hash = |password: &str| bcrypt::hash(password, 5).expect("a hash");
    let users = |list: &[(&str, &str)]| {
        let lines: String = list.iter().map(|(user, password)| format!("  {user}: {}\n", hash(password))).collect();
        std::fs::write(dir.path().join("web.yml"), format!("basic_auth_users:\n{lines}")).expect("a file");
    };
    users(&[("alice", "a:lice"), ("bob", "bob")]);
    let chiron = start(
        dir.path(),
        "web:\n  config_file: web.yml\n  user_roles: {alice: approve}\n  tokens: [{name: ci, role: operate, file: ci}]\n",
    );
    let url = format!("http://{}", chiron.address());
    let ask = |path: &str, arguments: &[&str]| curl(&format!("{url}{path}"), arguments);
    for path in ["/metrics", "/-/healthy", "/", "/api/v1/policy"] {
        let answer = ask(path, &[]);
        assert_eq!(answer.status, 401, "{path}: {answer:?}");
        assert!(answer.head.contains("www-authenticate: basic realm=\"chiron\""), "{answer:?}");
        assert_eq!(ask(path, &["-u", "bob:bob"]).status, 200, "{path}");
        assert_eq!(ask(path, &["-u", "bob:bobby"]).status, 401, "{path}");
        assert_eq!(ask(path, &["-u", "carol:bob"]).status, 401, "{path}");
        assert_eq!(ask(path, &["-H", &format!("Authorization: Bearer {CI}")]).status, 200, "{path}");
    }
    let tighten = |arguments: &[&str]| ask("/api/v1/policy", &[&["-d", POLICY], arguments].concat());
    let refused = tighten(&["-u", "bob:bob"]);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("`web.user_roles` gives"), "{refused:?}");
    assert_eq!(tighten(&[]).status, 401);
    wait_for("chiron to be ready", || match ask("/-/ready", &["-u", "bob:bob"]).status {
        200 => Ok(()),
        other => Err(other),
    });
    assert_eq!(tighten(&["-u", "alice:a:lice"]).status, 200);
    let policy = ask("/api/v1/policy", &["-u", "bob:bob"]);
    assert!(policy.body.contains("alice (basic)"), "it says who: {policy:?}");
    let foreign = tighten(&["-u", "alice:a:lice", "-H", "Origin: https://evil.example"]);
    assert!(foreign.status == 403 && foreign.body.contains("foreign_origin"), "{foreign:?}");
    let hook = ask("/api/v1/alerts/webhook", &["-u", "bob:bob", "-d", "{}"]);
    assert_eq!(hook.status, 403, "{hook:?}");

    users(&[("bob", "bob"), ("carol", "carol")]);
    wait_for("the new user", || match ask("/metrics", &["-u", "carol:carol"]).status {
        200 => Ok(()),
        other => Err(other),
    });
    assert_eq!(ask("/metrics", &["-u", "alice:a:lice"]).status, 401);
}

/// SEC-2: who fails too often is not looked at any more, per peer and group; nobody else is touched.
#[test]
fn guessing_is_slow() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(dir.path(), "web:\n  trusted_proxies: [127.0.0.1]\n  bearer_token_file: boss\n");
    let url = format!("http://{}/-/reload", chiron.address());
    let ask = |from: &str, token: &str| -> Curled {
        let headers = [format!("X-Forwarded-For: {from}"), format!("Authorization: Bearer {token}")];
        curl(&url, &["-X", "PUT", "-H", &headers[0], "-H", &headers[1]])
    };
    let statuses: Vec<u16> = (0..25).map(|n| ask("192.0.2.1", &format!("guess{n}")).status).collect();
    assert_eq!(statuses[..20], [401; 20]);
    assert!(statuses.contains(&429), "{statuses:?}");
    let limited = (0..5).map(|_| ask("192.0.2.1", "guess")).find(|answer| answer.status == 429).expect("limited");
    assert!(limited.head.contains("retry-after: "), "{limited:?}");
    assert_eq!(ask("192.0.2.2", "guess").status, 401, "another peer has its own count");
    assert_eq!(ask("192.0.2.1", BOSS).status, 200, "and who has the token is let in");
    assert!(chiron.metric_sum("chiron_http_requests_refused_total", &[("code", "rate_limited")]) >= 1.0);
}

/// SEC-2: signed notifications, as Grafana sends them: time and body, good once.
#[test]
fn notifications_can_be_signed() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(dir.path(), "alerts:\n  webhook: {hmac: {secret_file: key}}\n");
    let url = format!("http://{}/api/v1/alerts/webhook", chiron.address());
    let body = notification(&[alert("firing", &[("alertname", "A")])]);
    let send = |time: i64, key: &str, body: &str, signed: &str| {
        let signature = hmac(key, &format!("{time}:{signed}"));
        let headers =
            [format!("X-Grafana-Alerting-Signature: {signature}"), format!("X-Grafana-Alerting-Timestamp: {time}")];
        curl(&url, &["-H", &headers[0], "-H", &headers[1], "--data-binary", body])
    };
    let now = now_millis() / 1000;
    let first = send(now, KEY, &body, &body);
    assert_eq!(first.status, 200, "{first:?}");
    let again = send(now, KEY, &body, &body);
    assert!(again.status == 401 && again.body.contains("was here before"), "{again:?}");
    assert_eq!(send(now - 1, KEY, &body, &body).status, 200, "signed anew it is taken");
    for (what, answer) in [
        ("another key", send(now, "another", &body, &body)),
        ("another body", send(now, KEY, &body, "{}")),
        ("too old", send(now - 400, KEY, &body, &body)),
        ("too new", send(now + 400, KEY, &body, &body)),
        ("unsigned", curl(&url, &["--data-binary", &body])),
    ] {
        assert!(answer.status == 401 && answer.body.contains("bad_signature"), "{what}: {answer:?}");
    }
    assert_eq!(chiron.metric("chiron_webhook_refused_total", &[("reason", "bad_signature")]), Some(6.0));
    let counted = [("group", "webhook"), ("code", "bad_signature")];
    assert_eq!(chiron.metric("chiron_http_requests_refused_total", &counted), Some(6.0));
}

/// SEC-2: a change by a credential needs a signature over time, method, path and body besides.
#[test]
fn changes_can_be_signed() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(
        dir.path(),
        "web:\n  loopback: false\n  tokens: [{name: boss, role: admin, file: boss}]\n  signing: {secret_file: key}\n",
    );
    let send = |path: &str, signed: &str, time: i64| {
        let signature = hmac(KEY, &format!("{time}:{signed}:{POLICY}"));
        let headers = [
            format!("Authorization: Bearer {BOSS}"),
            format!("X-Chiron-Signature: {signature}"),
            format!("X-Chiron-Timestamp: {time}"),
        ];
        let url = format!("http://{}{path}", chiron.address());
        curl(&url, &["-H", &headers[0], "-H", &headers[1], "-H", &headers[2], "-d", POLICY])
    };
    wait_for("chiron to be ready", || match chiron.get("/-/ready").map(|answer| answer.status) {
        Ok(200) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let now = now_millis() / 1000;
    let path = "/health/force-check?why=test";
    let first = send(path, "POST:/health/force-check?why=test", now);
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(send(path, "POST:/health/force-check?why=test", now).status, 401, "once");
    assert_eq!(send(path, "POST:/health/force-check", now).status, 401, "the query counts");
    assert_eq!(send(path, "PUT:/health/force-check?why=test", now).status, 401, "the method counts");
    let url = format!("http://{}/api/v1/policy", chiron.address());
    let unsigned = curl(&url, &["-H", &format!("Authorization: Bearer {BOSS}"), "-d", POLICY]);
    assert!(unsigned.status == 401 && unsigned.body.contains("bad_signature"), "{unsigned:?}");
    assert_eq!(curl(&url, &["-d", POLICY]).status, 401, "loopback is no credential here");
    assert_eq!(curl(&url, &[]).status, 200, "reading needs no signature");
}
