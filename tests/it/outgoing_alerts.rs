//! chiron's own alerts at real Alertmanagers: they arrive, come back, end and expire.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::{Alertmanager, Chiron, Config, tool, wait_for};

const OWN: [(&str, &str); 1] = [("source", "chiron")];

/// A router whose health is a file's presence, that nothing is bound to, and Alertmanagers to tell of it.
fn config(dir: &Path, alertmanagers: &[&str], more: &str) -> Config {
    let urls: Vec<String> = alertmanagers.iter().map(|address| format!("http://{address}")).collect();
    Config::new(dir).with(&format!(
        r#"
policy: {{min_hold: 1s, relax_after_cycles: 1}}
auto_restart_enabled: true
subsystems:
  order_router:
    criticality: partial
    check: {{kind: file_age, path: fresh, degraded_after: 10h, critical_after: 20h, missing: critical}}
alerts:
  alertmanagers: {urls:?}
  poll_interval: 1s
  send: {{resend_interval: 1s, labels: {{team: trading}}}}
  routes:
    - match: {{source: chiron}}
      subsystem: order_router
      action: restart_subsystem
      policy: emergency_shutdown
{more}
"#
    ))
}

fn names(alertmanager: &Alertmanager) -> BTreeSet<String> {
    let listed = alertmanager.listed(&OWN);
    listed.iter().filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
}

fn wait_names(alertmanager: &Alertmanager, expected: &[&str]) {
    wait_for(&format!("{expected:?} at an Alertmanager"), || {
        let found = names(alertmanager);
        if found.iter().eq(expected) { Ok(()) } else { Err(found) }
    });
}

fn looping(address: &str, webhook: &str) -> Alertmanager {
    let config = json!({
        "route": {"receiver": "chiron", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s",
                  "repeat_interval": "2s"},
        "receivers": [{"name": "chiron", "webhook_configs": [{"url": webhook, "send_resolved": true}]}],
    });
    Alertmanager::configured(address, &config, &[])
}

/// ALR-3, ACT-5, REC-1: a critical issue, its escalation, what waits for a person and the policy are at both Alertmanagers,
/// for the API and for amtool; they come back by the webhook and set nothing off; healed, they end at both.
#[test]
fn own_alerts_arrive_come_back_and_end() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let addresses = [Alertmanager::free_address(), Alertmanager::free_address()];
    let config = config(dir.path(), &[&addresses[0], &addresses[1]], "");
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    let webhook = format!("http://{}/api/v1/alerts/webhook", chiron.address());
    let pair = [looping(&addresses[0], &webhook), looping(&addresses[1], &webhook)];
    let told = ["ChironCriticalIssue", "ChironEscalation", "ChironManualRecommendation", "ChironPolicyRestricted"];
    for alertmanager in &pair {
        wait_names(alertmanager, &told);
    }
    let critical: Value = pair[1].listed(&[("alertname", "ChironCriticalIssue")])[0].clone();
    let labels = json!({"alertname": "ChironCriticalIssue", "severity": "critical", "source": "chiron",
        "subsystem": "order_router", "issue_type": "subsystem_status", "team": "trading"});
    assert_eq!(critical["labels"], labels);
    let issue = critical["annotations"]["issue_id"].as_str().expect("the issue is named").to_owned();
    let url = format!("http://{}/api/v1/issues/{issue}", chiron.address());
    assert_eq!(critical["generatorURL"], url);
    assert_eq!(critical["annotations"]["summary"], "order_router is critical");
    let queried = Command::new(tool("amtool"))
        .args(["alert", "query", "--output=json", "source=chiron", "alertname=ChironPolicyRestricted"])
        .arg(format!("--alertmanager.url=http://{}", pair[0].address()))
        .env("HOME", dir.path())
        .output()
        .expect("amtool runs");
    let queried: Value = serde_json::from_slice(&queried.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&queried.stderr)));
    assert_eq!(queried[0]["labels"]["policy"], "no_new_trades", "{queried}");
    wait_for("them to come back", || {
        let own = chiron.metric_sum("chiron_alerts_received_total", &[("outcome", "own"), ("status", "firing")]);
        if own >= 8.0 { Ok(()) } else { Err(own) }
    });
    assert_eq!(chiron.metric_sum("chiron_alerts_received_total", &[("outcome", "accepted")]), 0.0);
    assert_eq!(chiron.metric_sum("chiron_issues_opened_total", &[]), 1.0);
    assert_eq!(chiron.metric("chiron_policy_latched", &[]), Some(0.0));
    for address in &addresses {
        let name = format!("http://{address}");
        let sent = chiron.metric("chiron_alerts_sent_total", &[("alertmanager", &name), ("outcome", "sent")]);
        assert!(sent >= Some(4.0), "{sent:?}");
    }
    std::fs::write(dir.path().join("fresh"), "").expect("a file can be written");
    for alertmanager in &pair {
        wait_names(alertmanager, &[]);
    }
    let resolved = || chiron.metric_sum("chiron_alerts_received_total", &[("outcome", "own"), ("status", "resolved")]);
    wait_for("their ends to come back", || if resolved() >= 8.0 { Ok(()) } else { Err(resolved()) });
}

/// SEC-2, SEC-3: over TLS with a password: refused while the authority is not known or the password is wrong, told after a
/// reload that mends both, also where nothing is verified, which is exported; the password is nowhere to be seen.
#[test]
fn tls_is_verified_and_credentials_are_sent() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let file = |name: &str| dir.path().join(name);
    let made = Command::new(tool("openssl"))
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(file("key.pem"))
        .arg("-out")
        .arg(file("cert.pem"))
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::write(file("word"), "canary-of-the-test\n").expect("a file can be written");
    std::fs::write(file("wrong"), "canary-of-another\n").expect("a file can be written");
    let hash = bcrypt::hash("canary-of-the-test", 4).expect("a password can be hashed");
    let web = json!({"tls_server_config": {"cert_file": file("cert.pem"), "key_file": file("key.pem")},
                     "basic_auth_users": {"chiron": hash}});
    std::fs::write(file("web.yml"), web.to_string()).expect("a file can be written");
    let address = Alertmanager::free_address();
    let routes = json!({"route": {"receiver": "nobody"}, "receivers": [{"name": "nobody"}]});
    let flags = [format!("--web.config.file={}", file("web.yml").display())];
    let _alertmanager = Alertmanager::unready(&address, &routes, &flags);
    let text = |entry: &str| {
        let list = format!("alertmanagers: [\"http://{address}\"]");
        let entry = format!("alertmanagers: [{{url: \"https://{address}\", {entry}}}]");
        self::config(dir.path(), &[&address], "").text().replace(&list, &entry)
    };
    let auth = |file: &str| format!("basic_auth: {{username: chiron, password_file: {file}}}");
    let chiron = Chiron::with_config(dir.path(), &text(&auth("word"))).start();
    let name = format!("https://{address}");
    let failed = |reason: &str| {
        chiron.metric("chiron_alertmanager_poll_errors_total", &[("alertmanager", &name), ("reason", reason)])
    };
    let sent = || chiron.metric("chiron_alerts_sent_total", &[("alertmanager", &name), ("outcome", "sent")]);
    wait_for("a refused certificate", || if failed("unreachable") >= Some(2.0) { Ok(()) } else { Err(chiron.log()) });
    let reload = |text: &str| {
        chiron.rewrite_config(text);
        let answer = chiron.post("/-/reload", "").expect("chiron answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    reload(&text(&format!("{}, ca_file: cert.pem", auth("wrong"))));
    wait_for("a refused password", || if failed("status") >= Some(2.0) { Ok(()) } else { Err(chiron.log()) });
    assert_eq!(sent(), Some(0.0));
    reload(&text(&format!("{}, ca_file: cert.pem", auth("word"))));
    let up = || chiron.metric("chiron_alertmanager_up", &[("alertmanager", &name)]);
    wait_for("both to fit", || if sent() > Some(0.0) && up() == Some(1.0) { Ok(()) } else { Err(chiron.log()) });
    let unverified = || chiron.metric("chiron_tls_verification_disabled", &[("target", &name)]);
    assert_eq!(unverified(), Some(0.0));
    let before = sent();
    reload(&text(&format!("{}, insecure_skip_verify: true", auth("word"))));
    wait_for("sending without verification", || {
        if sent() > before && unverified() == Some(1.0) { Ok(()) } else { Err(sent()) }
    });
    let log = chiron.log();
    assert!(log.contains("not verified"), "{log}");
    assert!(!log.contains("canary") && !chiron.metrics().contains("canary"), "{log}");
}

/// ALR-3: an Alertmanager that takes connections and never answers delays no other; in dry-run people are told all the
/// same; and when chiron dies, its alerts expire.
#[test]
fn own_alerts_expire_with_chiron() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let hole = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let hole_address = hole.local_addr().expect("a bound socket has an address").to_string();
    let address = Alertmanager::free_address();
    let alertmanager = looping(&address, &format!("http://{}/", Alertmanager::free_address()));
    let config = config(dir.path(), &[&hole_address, &address], "");
    let mut chiron = Chiron::with_config(dir.path(), config.text()).arg("--dry-run").start();
    wait_names(&alertmanager, &["ChironCriticalIssue", "ChironPolicyRestricted"]);
    let name = format!("http://{address}");
    let sent = || chiron.metric("chiron_alerts_sent_total", &[("alertmanager", &name), ("outcome", "sent")]);
    wait_for("some rounds", || if sent() >= Some(8.0) { Ok(()) } else { Err(sent()) });
    let listed = alertmanager.listed(&OWN);
    let told = listed[0]["annotations"]["description"].as_str().unwrap_or_default();
    assert!(told.contains("Dry-run"), "{listed:?}");
    let hole_name = format!("http://{hole_address}");
    let sent = chiron.metric("chiron_alerts_sent_total", &[("alertmanager", &hole_name), ("outcome", "sent")]);
    assert_eq!(sent, Some(0.0));
    chiron.kill9();
    wait_names(&alertmanager, &[]);
}
