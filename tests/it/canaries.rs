//! SEC-3: secrets planted in every place that takes one, and looked for in everything that chiron says.

use std::path::Path;

use serde_json::json;

use crate::common::{Alertmanager, Chiron, Config, alert, curl, hmac, notification, now_millis, script, wait_for};

/// Twenty-one secrets that are found nowhere else.
fn canary(number: usize) -> String {
    format!("canary-{number:02}-{}", "9f3c1a7e5b".chars().rev().collect::<String>())
}

fn file(dir: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode can be set");
}

/// The configuration with canaries 0 to 17 and 20; 18 and 19 are the password of a user and a wrong token.
fn config(dir: &Path, alertmanager: &str) -> String {
    file(dir, "web.token", &format!("{}\n{}\n", canary(0), canary(1)));
    file(dir, "hook.token", &format!("{}\n{}\n", canary(2), canary(3)));
    file(dir, "hmac.key", &canary(4));
    file(dir, "read.token", &canary(5));
    file(dir, "operate.token", &canary(6));
    file(dir, "approve.token", &canary(7));
    file(dir, "admin.token", &canary(8));
    file(dir, "signing.key", &canary(9));
    file(dir, "am.token", &canary(10));
    file(dir, "am.password", &canary(11));
    let hash = bcrypt::hash(canary(18), 5).expect("a hash");
    file(dir, "web.yml", &format!("basic_auth_users:\n  alice: {hash}\n"));
    let tell =
        script(&dir.join("tell.sh"), "echo \"environment: $(env | tr '\\n' ' ') arguments: $*\"; exit ${EXIT:-0}");
    Config::new(dir)
        .with(&format!(
            r#"
subsystems:
  teller:
    criticality: partial
    check: {{kind: exec, argv: [{tell:?}, "--token", "{c12}"], env: {{API_SECRET: "{c13}", EXIT: "2"}}}}
  page:
    criticality: none
    check: {{kind: http, url: "http://127.0.0.1:1/health", headers: {{Authorization: "Bearer {c14}"}}}}
bindings:
  - action: restart_subsystem
    subsystem: teller
    exec: {{argv: [{tell:?}, "--password={c15}"], env: {{EXCHANGE_API_KEY: "{c16}", EXIT: "1", DB_PASSWORD: "{c17}"}}}}
    verify: {{settle: 0s, within: 1s}}
auto_restart_enabled: true
policy:
  hooks:
    - {{name: bot, exec: {{argv: [{tell:?}, "--token={c20}"], env: {{BOT_TOKEN: "{c20}"}}}}, confirm: none}}
alerts:
  webhook: {{bearer_token_file: hook.token, hmac: {{secret_file: hmac.key}}}}
  alertmanagers:
    - {{url: "http://{alertmanager}", bearer_token_file: am.token}}
    - {{url: "http://127.0.0.1:1", basic_auth: {{username: chiron, password_file: am.password}}}}
  routes:
    - {{match: {{alertname: Any}}, subsystem: teller, policy: no_new_trades}}
web:
  config_file: web.yml
  bearer_token_file: web.token
  tokens:
    - {{name: r, role: read, file: read.token}}
    - {{name: o, role: operate, file: operate.token}}
    - {{name: a, role: approve, file: approve.token}}
    - {{name: adm, role: admin, file: admin.token}}
  signing: {{secret_file: signing.key}}
"#,
            c12 = canary(12),
            c13 = canary(13),
            c14 = canary(14),
            c15 = canary(15),
            c16 = canary(16),
            c17 = canary(17),
            c20 = canary(20),
        ))
        .text()
        .to_owned()
}

/// SEC-3: 21 canaries in every secret field, looked for in every answer, metric, file and log line at the finest level:
/// none is found. A command and a check that print all they were given do not give them away either.
#[test]
fn canaries_are_never_shown() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let alertmanager = Alertmanager::start(&[]);
    let text = config(dir.path(), alertmanager.address());
    let mut chiron = Chiron::with_config(dir.path(), &text).arg("--log.level=debug");
    chiron.spawn();
    assert!(chiron.wait_listening(), "chiron listens: {}", chiron.log());
    let url = format!("http://{}", chiron.address());
    let admin = format!("Authorization: Bearer {}", canary(8));
    let ask = |path: &str| curl(&format!("{url}{path}"), &["-H", &admin]);
    wait_for("the command that tells everything to have run", || {
        let answer = ask("/api/v1/actions");
        if answer.body.contains("arguments: --password=") { Ok(()) } else { Err(answer) }
    });
    wait_for("the hook that tells everything to have been told", || {
        let answer = ask("/api/v1/policy/hooks");
        if answer.body.contains("\"ending\":\"ok\"") { Ok(()) } else { Err(answer) }
    });
    // Those who come with something wrong, and a notification and a change that are right.
    let wrong = format!("Authorization: Bearer {}", canary(19));
    assert_eq!(curl(&format!("{url}/status"), &["-H", &wrong]).status, 401);
    assert_eq!(curl(&format!("{url}/status"), &["-u", &format!("alice:{}", canary(18))]).status, 200);
    assert_eq!(curl(&format!("{url}/status"), &["-u", &format!("bob:{}", canary(18))]).status, 401);
    let now = now_millis() / 1000;
    let body = notification(&[alert("firing", &[("alertname", "Any")])]);
    let signature = hmac(&canary(4), &format!("{now}:{body}"));
    let taken = curl(
        &format!("{url}/api/v1/alerts/webhook"),
        &[
            "-H",
            &format!("Authorization: Bearer {}", canary(2)),
            "-H",
            &format!("X-Grafana-Alerting-Signature: {signature}"),
            "-H",
            &format!("X-Grafana-Alerting-Timestamp: {now}"),
            "-d",
            &body,
        ],
    );
    assert_eq!(taken.status, 200, "{taken:?}");
    let change = json!({"level": "no_new_trades", "reason": "a test", "expires_in_seconds": 60}).to_string();
    let signature = hmac(&canary(9), &format!("{now}:POST:/api/v1/policy:{change}"));
    let changed = curl(
        &format!("{url}/api/v1/policy"),
        &[
            "-H",
            &admin,
            "-H",
            &format!("X-Chiron-Signature: {signature}"),
            "-H",
            &format!("X-Chiron-Timestamp: {now}"),
            "-d",
            &change,
        ],
    );
    assert_eq!(changed.status, 200, "{changed:?}");

    let document: serde_json::Value = serde_json::from_str(&ask("/api/v1/openapi.json").body).expect("the document");
    let paths = document["paths"].as_object().expect("paths");
    let plain =
        paths.iter().filter(|(path, of)| of.get("get").is_some() && !path.contains(['{']) && !path.ends_with("stream"));
    let mut said: Vec<(String, String)> = plain
        .map(|(path, _)| {
            let answer = ask(path);
            (path.clone(), format!("{}\n{}", answer.head, answer.body))
        })
        .collect();
    for path in ["/api/v1/subsystems/teller", "/api/v1/gate/trade", "/nowhere", "/metrics", "/"] {
        let answer = ask(path);
        said.push((path.to_owned(), format!("{}\n{}", answer.head, answer.body)));
    }
    assert!(said.len() > 20, "{}", said.len());
    let hook = |path: &str, part: &str| said.iter().any(|(of, text)| of == path && text.contains(part));
    assert!(hook("/api/v1/bindings", "\"action\":\"policy\",\"subsystem\":\"bot\",\"means\":\"exec\""));
    assert!(hook("/metrics", "chiron_binding_ready{action=\"policy\",subsystem=\"bot\",means=\"exec\"}"));
    assert!(said.iter().any(|(path, text)| path == "/api/v1/config" && text.contains("<redacted>")));
    assert!(said.iter().any(|(path, text)| path == "/api/v1/actions" && text.contains("DB_PASSWORD=<redacted>")));
    chiron.terminate();
    said.push(("log".to_owned(), chiron.log()));
    for folder in ["data", "logs", "state"] {
        for entry in std::fs::read_dir(dir.path().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let bytes = std::fs::read(&path).expect("a file");
                said.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    let mut hits = Vec::new();
    for number in 0..=20 {
        let places = said.iter().filter(|(_, text)| text.contains(&canary(number))).map(|(place, _)| place.as_str());
        hits.extend(places.map(|place| format!("canary {number} in {place}")));
    }
    assert!(hits.is_empty(), "{hits:#?}");
}
