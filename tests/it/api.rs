//! The API as strangers meet it: schemathesis walks through the OpenAPI document against the running program.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Chiron, Config, tool, wait_for};

/// From PyPI; another version generates other requests.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Not walked through: the stream has no end, and is tested on its own.
const ENDLESS: &str = "/api/v1/policy/stream";

/// Runs, with what it prints on failure.
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    said
}

/// Installs schemathesis below the build folder, once.
fn schemathesis() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(SCHEMATHESIS);
    let (program, done) = (folder.join("bin/st"), folder.join("installed"));
    if !done.is_file() {
        let _ = std::fs::remove_dir_all(&folder);
        succeed(Command::new(tool("python3")).args(["-m", "venv"]).arg(&folder));
        let pip = folder.join("bin/pip");
        succeed(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]));
        std::fs::write(done, "").expect("a file can be written");
    }
    program
}

fn config(dir: &Path) -> String {
    std::fs::write(dir.join("fresh"), "").expect("a file can be written");
    let stale = std::fs::File::create(dir.join("stale")).expect("a file can be made");
    let old = std::time::SystemTime::now() - Duration::from_secs(30 * 3_600);
    stale.set_modified(old).expect("a file can be made old");
    let file =
        |path: &str| format!("check: {{kind: file_age, path: {path}, degraded_after: 10h, critical_after: 20h}}");
    let text = format!(
        "subsystems:\n  feed: {{criticality: full, {}}}\n  router: {{criticality: partial, depends_on: [feed], {}}}\n",
        file("fresh"),
        file("stale")
    );
    Config::new(dir).with(&text).text().to_owned()
}

/// SPEC 12: the document is true. Every operation, with requests that fit it and requests that do not: no server error,
/// answers as documented, what does not fit is refused, what fits is not.
#[test]
fn the_document_is_true() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let program = schemathesis();
    let mut chiron = Chiron::with_config(dir.path(), &config(dir.path())).start();
    let begun = Instant::now();
    let said = succeed(
        Command::new(program)
            .current_dir(dir.path())
            .args(["run", &format!("http://{}/api/v1/openapi.json", chiron.address())])
            .args(["--exclude-path", ENDLESS])
            .args(["--phases", "examples,coverage,fuzzing", "--max-examples", "15", "--seed", "3"])
            .args(["--generation-database", "none", "--no-shrink", "--request-timeout", "10"])
            .args(["--warnings", "off", "--no-color"]),
    );
    let took = begun.elapsed();
    let cases = said.lines().find(|line| line.contains("generated")).unwrap_or_default().trim();
    eprintln!("schemathesis: {cases} in {took:?}");
    assert!(took < Duration::from_secs(180), "{took:?}:\n{said}");
    assert!(chiron.ended().is_none(), "chiron lives on: {}", chiron.log());
    for level in ["level=ERROR", "level=error"] {
        let log = chiron.log();
        let faults: Vec<&str> = log.lines().filter(|line| line.contains(level) && line.contains("request")).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
    assert_eq!(chiron.get("/-/healthy").expect("chiron answers").status, 200);
}

/// SPEC 12: an issue is listed while it is open and kept when it is over, and is found by its id all the time.
#[test]
fn an_issue_is_open_and_then_resolved() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::with_config(dir.path(), &config(dir.path())).start();
    let listed = |status: &str| -> Vec<Value> {
        let page = chiron.get_json(&format!("/api/v1/issues?status={status}&subsystem=router"));
        page["issues"].as_array().cloned().unwrap_or_default()
    };
    let open = wait_for("the issue", || listed("open").first().cloned().ok_or("none"));
    assert_eq!((&open["status"], open.get("resolved_at")), (&"open".into(), None));
    let router = chiron.get_json("/api/v1/subsystems/router");
    assert_eq!((&router["criticality"], &router["depends_on"][0]), (&"partial".into(), &"feed".into()));
    assert_eq!(listed("resolved"), [] as [Value; 0]);
    std::fs::write(dir.path().join("stale"), "").expect("a file can be written");
    let over = wait_for("its end", || listed("resolved").first().cloned().ok_or_else(|| listed("all")));
    assert_eq!((&over["status"], &over["issue_id"]), (&"resolved".into(), &open["issue_id"]));
    assert!(over["resolved_at"].as_str() > open["timestamp"].as_str(), "{over}");
    let id = open["issue_id"].as_str().expect("an id is text");
    assert_eq!(chiron.get_json(&format!("/api/v1/issues/{id}")), over);
    assert_eq!(listed("open"), [] as [Value; 0]);
}
