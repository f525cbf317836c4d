//! `chiron config schema` judges files as the loader does: `check-jsonschema` from PyPI validates the schema itself, takes
//! every good file of this repository, and refuses what the loader refuses for its shape.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::tool;

/// The validator; its version is fixed so that nothing changes under the tests.
const VALIDATOR: &str = "check-jsonschema==0.39.0";

/// The validator in a virtual environment below `target/tmp`, made if it is not there.
fn validator() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-jsonschema");
    let program = folder.join("bin/check-jsonschema");
    if !program.is_file() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
            assert!(output.status.success(), "{command:?}: {output:?}");
        };
        run(Command::new(tool("python3")).args(["-m", "venv", "--clear"]).arg(&folder));
        run(Command::new(folder.join("bin/pip")).args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            VALIDATOR,
        ]));
    }
    program
}

/// What the validator says of some files.
fn validate(schema: &Path, files: &[PathBuf]) -> Output {
    Command::new(validator())
        .arg("--schemafile")
        .arg(schema)
        .args(["--default-filetype", "yaml", "--no-cache"])
        .args(files)
        .output()
        .expect("the validator runs")
}

fn schema(dir: &Path) -> PathBuf {
    let path = dir.join("schema.json");
    std::fs::write(&path, super::cli::chiron(&["config", "schema"]).ended(0).out).expect("a file can be written");
    path
}

fn files(ending: &str) -> Vec<PathBuf> {
    let entries = Path::new("tests/config").read_dir().expect("tests run in the package's folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

/// SPEC 14: one test, since the environment is made once. The schema is one of 2020-12; every good file and every example
/// fits; files that are bad for their shape do not.
#[test]
fn the_schema_judges_as_the_loader_does() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let schema = schema(dir.path());
    let meta = Command::new(validator()).arg("--check-metaschema").arg(&schema).output().expect("the validator runs");
    assert!(meta.status.success(), "{}", String::from_utf8_lossy(&meta.stdout));

    let mut good = files(".good.yml");
    good.push("docs/examples/chiron.yml".into());
    let said = validate(&schema, &good);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));

    // Bad for their shape: a key, a word or a kind of value that the loader does not take, wherever it stands.
    let shapes = [
        "chek_interval: 30s",
        "thresholds: {max_cpu: 90}",
        "mode: live",
        "check_interval: 30",
        "check_interval: 5m1h",
        "auto_restart_enabled: yes",
        "max_consecutive_failures: 0",
        "disks: []",
        "storage: {url: /var/lib/chiron.db}",
        "storage: {url: \"sqlite:x\", path: y}",
        "subsystems: {Feed: {enabled: false}}",
        "subsystems: {feed: {check: {address: \"127.0.0.1:1\"}}}",
        "subsystems: {feed: {check: {kind: tpc, address: \"127.0.0.1:1\"}}}",
        "subsystems: {feed: {check: {kind: tcp}}}",
        "subsystems: {feed: {check: {kind: tcp, address: \"127.0.0.1:1\", url: x}}}",
        "subsystems: {feed: {criticality: high}}",
        "bindings: [{action: restart, subsystem: feed, exec: {argv: [/bin/true]}}]",
        "bindings: [{action: restart_subsystem, subsystem: feed}]",
        "bindings: [{action: restart_subsystem, subsystem: feed, exec: {argv: [/bin/true]}, file: {path: x, touch: true}}]",
        "bindings: [{action: restart_subsystem, subsystem: feed, exec: {}}]",
        "bindings: [{action: restart_subsystem, subsystem: feed, class: twice, exec: {argv: [/bin/true]}}]",
        "alerts: {routes: [{subsystem: feed}]}",
        "alerts: {routes: [{match: {alertname: X}, policy: stop}]}",
        "alerts: {watchdog: {policy: emergency_shutdown}}",
        "recovery: {concurrency: 100}",
        "recovery: {ladders: [{actions: []}]}",
        "policy: {blindness_level: defensive_exit}",
        "web: {listen_address: [\"localhost:1\"]}",
        "web: {telemetry_path: metrics}",
    ];
    for (index, text) in shapes.iter().enumerate() {
        let path = dir.path().join(format!("{index}.yml"));
        std::fs::write(&path, format!("{text}\n")).expect("a file can be written");
        let name = path.to_str().expect("UTF-8");
        super::cli::chiron(&["config", "check", name]).ended(3);
        let said = validate(&schema, std::slice::from_ref(&path));
        assert_eq!(said.status.code(), Some(1), "{text}: {}", String::from_utf8_lossy(&said.stdout));
    }
    let unknown = validate(&schema, &[PathBuf::from("tests/config/unknown_keys.bad.yml")]);
    let told = String::from_utf8_lossy(&unknown.stdout).into_owned();
    assert_eq!(unknown.status.code(), Some(1), "{told}");
    assert!(told.contains("were unexpected") || told.contains("was unexpected"), "{told}");
}
