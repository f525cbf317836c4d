//! What the commands make of an address, credentials and a server that misbehaves.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::fake::Fake;
use super::{chiron, command, run, secret_file};
use crate::common::{Process, free_port, tool, wait_for_within};

/// Every command that asks a running chiron, with arguments that are right.
const ASKING: [&[&str]; 15] = [
    &["check"],
    &["issues"],
    &["issues", "feed_1"],
    &["actions"],
    &["recommendations"],
    &["policy", "get"],
    &["policy", "hooks"],
    &["policy", "set", "no_new_trades", "--reason", "r", "--for", "1h"],
    &["policy", "release", "--reason", "r"],
    &["approve", "rec_1_feed", "--yes"],
    &["reject", "rec_1_feed", "--reason", "r"],
    &["drill", "feed", "--reason", "r"],
    &["audit", "verify"],
    &["audit", "export"],
    &["config", "show"],
];

/// SPEC 14: when nothing listens every command ends with 3, says where it looked and what to do, and prints no answer.
#[test]
fn nothing_listens() {
    let url = format!("http://127.0.0.1:{}", free_port());
    for arguments in ASKING {
        let said = run(command(arguments).args(["--url", &url])).ended(3);
        assert!(said.out.is_empty(), "{arguments:?}: {said:?}");
        assert!(said.err.contains(&url) && said.err.contains("connection refused"), "{arguments:?}: {said:?}");
        assert!(said.err.contains("is chiron running there?"), "{arguments:?}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{arguments:?}: {said:?}");
    }
    let said = run(command(&["check", "--output=nagios"]).env("CHIRON_URL", &url)).ended(3);
    assert!(said.out.starts_with("CHIRON UNKNOWN - "), "what Nagios shows is on stdout: {said:?}");
}

/// SPEC 14: an answer that is none of chiron's, or a refusal, ends with 3 and the reason.
#[test]
fn a_server_that_misbehaves() {
    let problem = |status: u16, code: &str| {
        json!({"type": format!("urn:chiron:problem:{code}"), "title": "t", "status": status, "code": code,
               "detail": "found x, expected y\u{1b}[2J"})
        .to_string()
    };
    let cases = [
        (200, "<html>".to_owned(), "found no JSON"),
        (200, "{}".to_owned(), "found no list `issues`"),
        (301, String::new(), "a redirect is not followed"),
        (502, "<html>bad gateway".to_owned(), "not in chiron's manner"),
        (401, problem(401, "unauthenticated"), "name who you are with --credentials"),
        (404, problem(404, "unknown_path"), "of another version"),
        (403, problem(403, "forbidden"), "refused, found x, expected y"),
        (503, problem(503, "unavailable"), "(503, unavailable)"),
    ];
    for (status, body, expected) in cases {
        let fake = Fake::start(move |_, _| (status, body.clone()));
        let said = chiron(&["issues", "--url", &fake.url]).ended(3);
        assert!(said.err.contains(expected), "{status}: {said:?} / {expected}");
        assert!(said.out.is_empty() && !said.err.contains('\u{1b}'), "{said:?}");
    }
    let said = chiron(&["issues", "--url", "ftp://x"]).ended(3);
    assert!(said.err.contains("expected an address such as"), "{said:?}");
}

/// SPEC 14: credentials come from a file, are sent as they should be, and are never told.
#[test]
fn credentials_are_sent_and_never_told() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let policy = json!({"policy": "allow_all", "restrictions": {}, "reasons": []}).to_string();
    let fake = Fake::start(move |_, _| (200, policy.clone()));
    let file = dir.path().join("who.yml");
    let name = file.to_str().expect("UTF-8");
    secret_file(&dir.path().join("token"), "canary-token-1\n");
    secret_file(&dir.path().join("key"), "canary-key\n");
    secret_file(&file, "bearer_token_file: token\nsigning_secret_file: key\n");
    let said = chiron(&["policy", "get", "--url", &fake.url, "--credentials", name]).ended(0);
    assert!(said.err.is_empty(), "{said:?}");
    secret_file(&file, "{username: alice, password: canary-2}");
    run(command(&["policy", "get"]).env("CHIRON_URL", &fake.url).env("CHIRON_CREDENTIALS", name)).ended(0);
    let asked = fake.asked();
    assert_eq!(asked[0].header("authorization"), Some("Bearer canary-token-1"));
    assert_eq!(asked[1].header("authorization"), Some("Basic YWxpY2U6Y2FuYXJ5LTI="));
    // SEC-2: what openssl computes over the same is what was sent.
    let at = asked[0].header("x-chiron-timestamp").expect("a signed request has a time");
    let signed = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "printf '%s' '{at}:GET:/api/v1/policy:' | {} dgst -sha256 -hmac canary-key -r",
            tool("openssl").display()
        ))
        .output()
        .expect("openssl runs");
    let expected = String::from_utf8_lossy(&signed.stdout).split(' ').next().unwrap_or_default().to_owned();
    assert_eq!(asked[0].header("x-chiron-signature"), Some(expected.as_str()));

    secret_file(&file, "bearer_token: [canary-3]\nusernme: canary\n");
    let said = chiron(&["policy", "get", "--url", &fake.url, "--credentials", name]).ended(3);
    assert!(said.err.contains("who.yml") && said.err.contains("did you mean `username`?"), "{said:?}");
    assert!(!said.err.contains("canary-3"), "{said:?}");
    std::fs::write(dir.path().join("open.yml"), "bearer_token: canary-4\n").expect("a file can be written");
    let open = dir.path().join("open.yml");
    let said = chiron(&["policy", "get", "--url", &fake.url, "--credentials", open.to_str().expect("UTF-8")]).ended(0);
    assert!(said.err.contains("warning") && said.err.contains("chmod o-rwx"), "{said:?}");
    assert!(!said.err.contains("canary"), "{said:?}");
}

/// SEC-2: TLS is verified; an unknown authority and a missing client certificate are told with what to do. The server
/// is `openssl s_server`.
#[test]
fn tls_is_verified() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let make = format!(
        "set -e; exec 2>/dev/null; \
         new='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2'; \
         {0} req -x509 $new -keyout ca.key -out ca.pem -subj /CN=authority; \
         {0} req -x509 $new -keyout key.pem -out cert.pem -subj /CN=chiron -CA ca.pem -CAkey ca.key \
         -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1; \
         mkdir -p api/v1; printf 'HTTP/1.0 200 OK\\r\\nContent-Type: application/json\\r\\n\\r\\n%s' \
         '{{\"policy\":\"no_new_trades\",\"restrictions\":{{}},\"reasons\":[]}}' > api/v1/policy",
        tool("openssl").display()
    );
    let made = Command::new("sh").arg("-c").arg(make).current_dir(dir.path()).output().expect("sh runs");
    assert!(made.status.success(), "{made:?}");
    let serve = |port: u16, more: &[&str]| {
        let mut server = Command::new(tool("openssl"));
        let accept = format!("127.0.0.1:{port}");
        server.args(["s_server", "-quiet", "-HTTP", "-accept", &accept, "-cert", "cert.pem", "-key", "key.pem"]);
        let process =
            Process::start("openssl s_server", server.args(more).current_dir(dir.path()), &dir.path().join("log"));
        wait_for_within("openssl to listen", Duration::from_secs(20), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        process
    };
    let credentials = |text: &str| {
        let file = dir.path().join("who.yml");
        secret_file(&file, text);
        file.to_str().expect("UTF-8").to_owned()
    };
    let port = free_port();
    let _server = serve(port, &[]);
    let url = format!("https://127.0.0.1:{port}");
    let said = chiron(&["policy", "get", "--url", &url]).ended(3);
    assert!(said.err.contains("invalid peer certificate") && said.err.contains("`ca_file`"), "{said:?}");
    chiron(&["policy", "get", "--url", &url, "--credentials", &credentials("ca_file: ca.pem")]).ended(1);
    let said =
        chiron(&["policy", "get", "--url", &url, "--credentials", &credentials("insecure_skip_verify: true")]).ended(1);
    assert!(said.err.contains("any certificate is believed"), "{said:?}");
    let said = chiron(&["policy", "get", "--url", &format!("http://127.0.0.1:{port}")]).ended(3);
    assert!(said.err.starts_with("chiron: http://"), "{said:?}");

    let port = free_port();
    let _strict = serve(port, &["-Verify", "1", "-CAfile", "ca.pem", "-verify_return_error"]);
    let url = format!("https://127.0.0.1:{port}");
    chiron(&["policy", "get", "--url", &url, "--credentials", &credentials("ca_file: ca.pem")]).ended(3);
    let both = "{ca_file: ca.pem, client_cert_file: cert.pem, client_key_file: key.pem}";
    chiron(&["policy", "get", "--url", &url, "--credentials", &credentials(both)]).ended(1);
}
