//! The policy on its way to a bot: the examples of the manual, run as they stand, and the stream with curl.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Chiron, Config, policy_file, timestamp, tool, wait_for, wait_for_within};

const MANUAL: &str = include_str!("../../docs/bot.md");

/// How long a copy is valid in these tests; the shortest that the settings take.
const VALIDITY: Duration = Duration::from_secs(5);

/// The block of the manual after this mark.
fn example(name: &str) -> &'static str {
    let (_, rest) = MANUAL.split_once(&format!("<!-- example: {name} -->")).expect("the manual marks its examples");
    let block = rest.trim_start().split_once('\n').expect("a block has lines").1;
    block.split("```").next().expect("a block ends")
}

/// The one-line block under this heading.
fn line_under(heading: &str) -> &'static str {
    let (_, rest) = MANUAL.split_once(heading).expect("the manual has the heading");
    rest.split("```sh\n").nth(1).expect("a block follows").split("```").next().expect("a block ends").trim()
}

/// Whether the bot may open a position, by the example in this language.
fn may_open(language: &str, address: &str) -> bool {
    let mut command = match language {
        "shell" => {
            let mut command = Command::new(tool("sh"));
            command.arg("-c").arg(format!("{}\nmay_open", example("shell")));
            command
        }
        "python" => {
            let mut command = Command::new(tool("python3"));
            command.arg("-c").arg(format!("{}\nimport sys; sys.exit(not may_open())", example("python")));
            command
        }
        other => panic!("no example in {other}"),
    };
    let output = command.env("CHIRON", address).output().expect("the example starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("Error") && !said.contains("not found"), "{language}: {said}");
    output.status.success()
}

fn config(dir: &Path) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let text = "subsystems:\n  router: {criticality: partial, check: {kind: file_age, path: fresh, \
                degraded_after: 10h, critical_after: 20h}}\n\
                policy: {validity: 5s, min_hold: 0s, relax_after_cycles: 1}\n";
    Config::new(dir).with(text).text().to_owned()
}

fn hold(chiron: &Chiron, level: &str, seconds: u64) {
    let body = format!(r#"{{"level":"{level}","reason":"a test's wish","expires_in_seconds":{seconds}}}"#);
    let answer = chiron.post("/api/v1/policy", &body).expect("chiron answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lax = ["allow_all", "safe_risk_profile"].contains(&answer.json()["policy"].as_str().unwrap_or_default());
    assert!(lax || level != "allow_all", "the answer holds the policy in force: {}", answer.body);
}

fn wait_allowed(chiron: &Chiron) {
    wait_for("the policy to allow", || {
        let policy = chiron.get_json("/api/v1/policy");
        if policy["policy"] == "allow_all" { Ok(()) } else { Err(policy) }
    });
}

/// POL-5: the examples of the manual obey: allowed, forbidden, chiron gone, and the file that it left expiring.
#[test]
fn the_manuals_examples_obey() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path())).start();
    let (network, file) =
        (format!("http://{}/api/v1/policy", chiron.address()), format!("file://{}", policy_file(dir.path()).display()));
    let gate = line_under("## The gate, in one line").replace("127.0.0.1:19913", chiron.address());
    let gate = || Command::new(tool("sh")).arg("-c").arg(&gate).output().expect("a shell starts").status.success();
    wait_allowed(&chiron);
    let all = [("shell", &network), ("python", &network), ("shell", &file), ("python", &file)];
    for (language, address) in all {
        wait_for(&format!("{language} to be allowed by {address}"), || {
            may_open(language, address).then_some(()).ok_or(())
        });
    }
    assert!(gate(), "the gate allows");

    hold(&chiron, "no_new_trades", 600);
    for (language, address) in all {
        let what = format!("{language} to be forbidden by {address}");
        wait_for_within(&what, Duration::from_secs(3), || (!may_open(language, address)).then_some(()).ok_or(()));
    }
    assert!(!gate(), "the gate forbids");

    assert_eq!(chiron.post("/api/v1/policy/release", r#"{"reason":"over"}"#).expect("it answers").status, 200);
    wait_allowed(&chiron);
    wait_for("the file to allow", || may_open("shell", &file).then_some(()).ok_or(()));
    chiron.kill9();
    let gone = Instant::now();
    for language in ["shell", "python"] {
        assert!(!may_open(language, &network), "{language}: unreachable counts as no_new_trades");
    }
    assert!(!gate(), "an unreachable gate forbids");
    for language in ["shell", "python"] {
        let what = format!("the copy that a killed chiron left to expire for {language}");
        wait_for_within(&what, VALIDITY * 2, || (!may_open(language, &file)).then_some(()).ok_or(gone.elapsed()));
    }
    let left = std::fs::read_to_string(policy_file(dir.path())).expect("the file is still there");
    assert!(left.contains("\"policy\": \"allow_all\""), "it was the date that forbade: {left}");
}

/// Answers every request with these bodies by turns.
fn stub(bodies: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for (stream, body) in listener.incoming().zip(bodies.iter().cycle()) {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let length = body.len();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
        }
    });
    format!("http://{address}/")
}

fn document(sequence: &str, valid_until: &str, open: &str) -> String {
    format!(r#"{{"sequence":{sequence},"valid_until":{valid_until},"restrictions":{{"open":{open}}}}}"#)
}

/// POL-5: what is garbled or expired counts as `no_new_trades`, and Python takes nothing older than it has seen.
#[test]
fn the_manuals_examples_distrust() {
    let later = format!("\"{}\"", timestamp(60_000).replace("+00:00", "Z"));
    let past = format!("\"{}\"", timestamp(-5_000).replace("+00:00", "Z"));
    for language in ["shell", "python"] {
        assert!(may_open(language, &stub(vec![document("5", &later, "true")])), "{language}: the stub is understood");
        for bad in [
            document("5", &past, "true"),
            document("5", &later, "false"),
            document("5", &later, "null"),
            document("5", &later, "\"true\""),
            document("5", "null", "true"),
            document("5", "{}", "true"),
            document("5", "\"\"", "true"),
            document("5", &later, "true").replace('}', ""),
            "<html>a proxy's page</html>".to_owned(),
            "[]".to_owned(),
            String::new(),
        ] {
            assert!(!may_open(language, &stub(vec![bad.clone()])), "{language}: {bad}");
        }
    }
    let order = [document("7", &later, "true"), document("6", &later, "true"), document("7", &later, "true")];
    let asked = format!("{}\nprint(may_open(), may_open(), may_open())", example("python"));
    let output = Command::new(tool("python3")).arg("-c").arg(asked).env("CHIRON", stub(order.to_vec())).output();
    let said = output.expect("python starts").stdout;
    assert_eq!(String::from_utf8_lossy(&said).trim(), "True False True", "a lower sequence is not taken");
}

/// POL-5: curl hears of a change at once and of the lease every few seconds; a long poll ends with the change; a stop of
/// chiron waits for neither.
#[test]
fn curl_follows_the_stream() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path())).start();
    wait_allowed(&chiron);
    let address = format!("http://{}/api/v1/policy", chiron.address());
    let mut curl = Command::new(tool("curl"))
        .args(["-sN", "--max-time", "60", &format!("{address}/stream")])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl starts");
    let (events, heard) = std::sync::mpsc::channel();
    let out = BufReader::new(curl.stdout.take().expect("it is piped"));
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if let Some(data) = line.strip_prefix("data: ") {
                let document: serde_json::Value = serde_json::from_str(data).expect("an event holds a policy");
                let _ = events.send((Instant::now(), document));
            }
        }
    });
    let next = || heard.recv_timeout(Duration::from_secs(10)).expect("an event within 10 s");
    let (first_at, first) = next();
    let (renewed_at, renewed) = next();
    assert_eq!(first["sequence"], renewed["sequence"]);
    assert!(renewed["valid_until"].as_str() > first["valid_until"].as_str(), "{first} {renewed}");
    let age = renewed_at - first_at;
    assert!(age < Duration::from_secs(3), "renewed before a third of {VALIDITY:?} and a tick have gone: {age:?}");

    let tag = format!("W/\"{}-allow_all\"", first["sequence"]);
    let poll = |wait: u32| {
        let mut command = Command::new(tool("curl"));
        command.args(["-s", "-w", "%{http_code}", "-o", "/dev/null", "-H", &format!("If-None-Match: {tag}")]);
        command.arg(format!("{address}?wait={wait}")).stdout(Stdio::piped()).spawn().expect("curl starts")
    };
    let ended = |child: std::process::Child| String::from_utf8(child.wait_with_output().expect("curl ends").stdout);
    assert_eq!(ended(poll(1)).expect("digits"), "304");
    let waiting = poll(60);
    let begun = Instant::now();
    hold(&chiron, "defensive_exit", 600);
    assert_eq!(ended(waiting).expect("digits"), "200");
    let changed = loop {
        let (at, document) = next();
        if document["policy"] == "defensive_exit" {
            break at;
        }
    };
    assert!(changed.duration_since(begun) < Duration::from_secs(2), "{:?}", changed.duration_since(begun));

    let begun = Instant::now();
    assert!(chiron.terminate().success(), "a clean end");
    assert!(begun.elapsed() < Duration::from_secs(4), "a stream does not hold up the stop: {:?}", begun.elapsed());
    let status = curl.wait().expect("curl ends");
    assert!(status.success(), "the stream ended whole: {status}");
}
