//! TLS and client certificates by the exporter-toolkit's web configuration file, with the clients that operators use.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::common::{Alertmanager, Authority, Chiron, Config, Prometheus, curl, s_client, tool, wait_for};

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).expect("a file can be written");
}

/// A chiron that listens by this web configuration.
fn start(dir: &Path, web_config: &str, more: &str) -> Chiron {
    write(dir, "web.yml", web_config);
    let text = Config::new(dir).with("web:\n  config_file: web.yml\n").with(more).text().to_owned();
    let mut chiron = Chiron::with_config(dir, &text);
    chiron.spawn();
    assert!(chiron.wait_listening(), "chiron listens: {}", chiron.log());
    chiron
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders are UTF-8")
}

/// SEC-1: old versions are refused, ALPN follows `http2`, and a certificate that is replaced is served without a restart; a
/// broken one is not, is told once, and the old one stays.
#[test]
fn certificates_rotate_without_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "authority");
    let ca = authority.certificate();
    authority.issue("server", "IP:127.0.0.1,DNS:localhost");
    let web = "tls_server_config: {cert_file: server.pem, key_file: server.key}\n";
    let chiron = start(dir.path(), web, "");
    let (address, url) = (chiron.address().to_owned(), format!("https://{}", chiron.address()));
    assert!(chiron.log().contains("address=https://"), "the log says where: {}", chiron.log());
    let check = ["-CAfile", text(&ca), "-verify_return_error", "-verify_ip", "127.0.0.1"];
    for (version, good) in [("-tls1_3", true), ("-tls1_2", true), ("-tls1_1", false), ("-tls1", false)] {
        let arguments = [&check[..], &[version, "-cipher", "DEFAULT@SECLEVEL=0"]].concat();
        let (served, told) = s_client(&address, &arguments);
        assert_eq!(served, good, "{version}: {told}");
        // The refusal is the server's, not openssl's own.
        assert!(good || told.contains("SSL alert number"), "{version}: {told}");
    }
    let alpn = |offered: &str| s_client(&address, &[&check[..], &["-alpn", offered]].concat()).1;
    assert!(alpn("h2,http/1.1").contains("ALPN protocol: h2"), "{}", alpn("h2,http/1.1"));
    assert!(alpn("http/1.1").contains("ALPN protocol: http/1.1"));
    let get = |path: &str| curl(&format!("{url}{path}"), &["--cacert", text(&ca)]);
    assert_eq!(get("/-/healthy").status, 200);
    assert!(get("/-/healthy").head.starts_with("http/2 200"), "{:?}", get("/-/healthy"));
    let ok =
        |value: &str| get("/metrics").body.contains(&format!("chiron_web_config_last_reload_successful {value}\n"));
    assert!(ok("1"));
    assert!(get("/metrics").body.contains("chiron_web_certificate_not_after_timestamp_seconds 1"));

    let served = || {
        let (_, told) = s_client(&address, &check);
        told.lines().find(|line| line.trim_start().starts_with("0 s:")).unwrap_or("none").to_owned()
    };
    assert!(served().contains("CN = server"), "{}", served());
    let (new, key) = authority.issue("rotated", "IP:127.0.0.1");
    std::fs::rename(key, dir.path().join("server.key")).expect("a key can be replaced");
    std::fs::rename(new, dir.path().join("server.pem")).expect("a certificate can be replaced");
    wait_for("the new certificate", || if served().contains("CN = rotated") { Ok(()) } else { Err(served()) });
    wait_for("its success to be told", || if ok("1") { Ok(()) } else { Err(()) });

    write(dir.path(), "server.pem", "-----BEGIN NONSENSE");
    wait_for("the broken one to be told", || if ok("0") { Ok(()) } else { Err(get("/metrics").status) });
    assert!(served().contains("CN = rotated"), "the old one stays: {}", served());
    let complaints = || chiron.log().matches("not taken over, the old one stays").count();
    let before = complaints();
    write(dir.path(), "web.yml", &web.replace("}", ", min_version: TLS13}"));
    let (good, key) = authority.issue("again", "IP:127.0.0.1");
    wait_for("the other change to be seen", || if complaints() > before { Ok(()) } else { Err(complaints()) });
    std::fs::rename(key, dir.path().join("server.key")).expect("a key can be replaced");
    std::fs::rename(good, dir.path().join("server.pem")).expect("a certificate can be replaced");
    wait_for("the good one", || if served().contains("CN = again") { Ok(()) } else { Err(served()) });
    assert!(complaints() <= before + 2, "one line for each content, not for each look: {}", chiron.log());
    assert!(!s_client(&address, &[&check[..], &["-tls1_2"]].concat()).0, "and the new lowest version holds");
}

/// SEC-1: without a certificate of the right authority and name nobody is served; roles go by the certificate's names.
#[test]
fn client_certificates_are_demanded() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "authority");
    let ca = authority.certificate();
    authority.issue("server", "IP:127.0.0.1");
    let ops = authority.issue("ops", "DNS:ops.example");
    let bot = authority.issue("bot", "URI:spiffe://bot");
    let stranger = authority.issue("stranger", "DNS:stranger.example");
    let foreign = Authority::new(dir.path(), "foreign").issue("forged", "DNS:ops.example");
    let chiron = start(
        dir.path(),
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: authority.pem\n  \
         client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [ops.example, 'spiffe://bot']\n\
         http_server_config: {http2: false, headers: {X-Frame-Options: deny}}\n",
        "  certificate_roles: {ops.example: admin}\n",
    );
    let url = format!("https://{}", chiron.address());
    let ask = |path: &str, identity: Option<&(std::path::PathBuf, std::path::PathBuf)>, more: &[&str]| {
        let mut arguments = vec!["--cacert", text(&ca)];
        if let Some((certificate, key)) = identity {
            arguments.extend(["--cert", text(certificate), "--key", text(key)]);
        }
        arguments.extend(more);
        curl(&format!("{url}{path}"), &arguments)
    };
    assert_eq!(ask("/-/healthy", None, &[]).status, 0, "without a certificate");
    assert_eq!(ask("/-/healthy", Some(&foreign), &[]).status, 0, "of another authority");
    assert_eq!(ask("/-/healthy", Some(&stranger), &[]).status, 0, "of another name");
    let answer = ask("/-/healthy", Some(&bot), &[]);
    assert_eq!((answer.status, answer.head.contains("x-frame-options: deny")), (200, true), "{answer:?}");
    assert!(answer.head.starts_with("http/1.1 "), "http2 is off: {answer:?}");
    let refused = ask("/-/reload", Some(&bot), &["-X", "POST"]);
    assert_eq!(refused.status, 403, "{refused:?}");
    assert!(refused.body.contains("`bot (certificate)` has the role `read`"), "{refused:?}");
    assert!(refused.body.contains("`web.certificate_roles` gives"), "{refused:?}");
    assert_eq!(ask("/-/reload", Some(&ops), &["-X", "POST"]).status, 200);
    let told = |page: String| {
        page.lines()
            .filter(|line| line.contains("requests_refused_total{group=\"change\",code=\"forbidden\"}"))
            .map(str::to_owned)
            .collect::<String>()
    };
    assert!(told(ask("/metrics", Some(&bot), &[]).body).ends_with(" 1"));
}

/// SEC-1: a real Prometheus scrapes over TLS with basic auth.
#[test]
fn prometheus_scrapes_by_tls_and_password() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "authority");
    authority.issue("server", "IP:127.0.0.1");
    let hash = bcrypt::hash("s3cret pass", 5).expect("a hash");
    let web = format!(
        "tls_server_config: {{cert_file: server.pem, key_file: server.key}}\nbasic_auth_users: {{prometheus: {hash}}}\n"
    );
    let chiron = start(dir.path(), &web, "");
    let scrape = |password: &str| {
        json!({"job_name": "chiron", "scheme": "https", "static_configs": [{"targets": [chiron.address()]}],
               "tls_config": {"ca_file": authority.certificate()},
               "basic_auth": {"username": "prometheus", "password": password}})
    };
    let prometheus = Prometheus::scraping("groups: []\n", &scrape("s3cret pass"), &[]);
    wait_for("the scrape", || match prometheus.query("up{job=\"chiron\"}").as_slice() {
        [(_, 1.0)] => Ok(()),
        other => Err(other.to_vec()),
    });
    wait_for("a series", || {
        let found = prometheus.query("chiron_web_config_last_reload_successful");
        if found.iter().any(|(_, value)| *value == 1.0) { Ok(()) } else { Err(found) }
    });
    let wrong = Prometheus::scraping("groups: []\n", &scrape("wrong"), &[]);
    wait_for("the refused scrape", || match wrong.query("up{job=\"chiron\"}").as_slice() {
        [(_, 0.0)] => Ok(()),
        other => Err(other.to_vec()),
    });
}

/// SEC-1, ALR-1: a real Alertmanager notifies by its client certificate; who has none cannot.
#[test]
fn alertmanager_notifies_by_certificate() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "authority");
    let ca = authority.certificate();
    authority.issue("server", "IP:127.0.0.1");
    let (certificate, key) = authority.issue("alertmanager", "DNS:alertmanager.example");
    write(dir.path(), "fresh", "");
    let chiron = start(
        dir.path(),
        "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n  client_ca_file: authority.pem\n  \
         client_auth_type: RequireAndVerifyClientCert\n",
        "subsystems:\n  router:\n    criticality: partial\n    check: {kind: file_age, path: fresh}\n\
         alerts:\n  routes:\n    - {match: {alertname: RouterDown}, subsystem: router, policy: no_new_trades}\n",
    );
    let url = format!("https://{}", chiron.address());
    let hook = format!("{url}/api/v1/alerts/webhook");
    let alertmanager = Alertmanager::notifying(&[json!({"url": hook, "send_resolved": true, "http_config":
        {"tls_config": {"ca_file": ca, "cert_file": certificate, "key_file": key}}})]);
    alertmanager.fire(&[("alertname", "RouterDown"), ("severity", "critical")]);
    let identity = ["--cacert", text(&ca), "--cert", text(&certificate), "--key", text(&key)];
    wait_for("the alert to be taken and acted upon", || {
        let alerts = curl(&format!("{url}/alerts"), &identity).body;
        let policy = curl(&format!("{url}/api/v1/policy"), &identity).body;
        if alerts.contains("RouterDown") && policy.contains("\"no_new_trades\"") {
            Ok(())
        } else {
            Err((alerts, policy))
        }
    });
    let plain = curl(&hook, &["--cacert", text(&ca), "-X", "POST", "-d", "{}"]);
    assert_eq!(plain.status, 0, "{plain:?}");
    let in_clear = curl(&hook.replace("https", "http"), &["-X", "POST", "-d", "{}"]);
    assert_eq!(in_clear.status, 0, "{in_clear:?}");
}

/// SEC-1: what chiron takes of the keys that Debian's promtool knows, promtool takes too; a bad file refuses the start.
#[test]
fn promtool_takes_the_same_files() {
    let folder = Path::new("tests/config/web");
    for file in ["toolkit.yml", "users.yml", "empty.yml", "if_given.yml", "unverified.yml"] {
        let path = folder.join(file);
        let mut command = Command::new(tool("promtool"));
        let checked = command.args(["check", "web-config"]).arg(&path).output().expect("promtool runs");
        assert!(checked.status.success(), "{file}: {}", String::from_utf8_lossy(&checked.stderr));
        assert_eq!(chiron::http::check_web_config(&path, file), Ok(()), "{file}");
    }
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let web = std::path::absolute(folder.join("bad.yml")).expect("a current folder");
    let mut chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).text())
        .arg(&format!("--web.config.file={}", text(&web)));
    chiron.spawn();
    assert!(!chiron.wait_listening(), "it does not start");
    assert_eq!(chiron.ended().and_then(|status| status.code()), Some(3));
    assert!(chiron.log().contains("bad.yml:1:1: tls_config: unknown key"), "{}", chiron.log());
    assert!(!chiron.log().contains("SECRET"), "no secret is shown: {}", chiron.log());
}
