//! Commands that ask nobody: help, completions, manual pages, settings.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use super::{chiron, command, run};
use crate::common::tool;

/// SPEC 14: wrong arguments end with 3, which is no status of anything; help and version are answers.
#[test]
fn arguments() {
    for arguments in [
        &["chek"] as &[&str],
        &["policy", "set", "no_new_trade", "--reason", "r"],
        &["policy", "set", "no_new_trades"],
        &["policy", "set", "no_new_trades", "--reason", "r", "--for", "40d"],
        &["reject", "rec_1_x"],
        &["issues", "--output", "xml"],
        &["issues", "--limit", "0"],
        &["audit", "verify", "--expect", "1:ab"],
        &["approve"],
    ] {
        let said = chiron(arguments).ended(3);
        assert!(said.out.is_empty() && !said.err.is_empty(), "{arguments:?}: {said:?}");
    }
    let said = chiron(&["actions", "--output=nagios"]).ended(3);
    assert!(said.err.contains("which is for `check` alone"), "{said:?}");
    let said = chiron(&["policy", "set", "no_new_trades", "--reason", "r"]).ended(3);
    assert!(said.err.contains("--for 2h"), "{said:?}");
    let version = chiron(&["--version"]).ended(0);
    assert_eq!(version.out, concat!("chiron ", env!("CARGO_PKG_VERSION"), "\n"));
}

/// STYLE 1, row 1: every command has a help text, and those that ask a running chiron tell their exit codes.
#[test]
fn help() {
    let top = chiron(&["--help"]).ended(0).out;
    let commands = [
        "run",
        "check",
        "issues",
        "actions",
        "recommendations",
        "approve",
        "reject",
        "policy",
        "heal",
        "gate",
        "drill",
        "audit",
        "config",
        "completions",
        "man",
        "demo",
    ];
    for name in commands {
        let listed = top.lines().any(|line| line.trim_start().starts_with(&format!("{name} ")));
        assert!(listed, "{name} with what it does: {top}");
    }
    for path in [
        &["check"] as &[&str],
        &["issues"],
        &["actions"],
        &["recommendations"],
        &["approve"],
        &["reject"],
        &["policy", "get"],
        &["policy", "set"],
        &["policy", "release"],
        &["heal"],
        &["gate"],
        &["drill"],
        &["audit", "verify"],
        &["audit", "export"],
        &["config", "show"],
        &["config", "check"],
    ] {
        let text = run(command(path).arg("--help")).ended(0).out;
        assert!(text.contains("Exit codes: 0"), "{path:?}: {text}");
    }
}

/// SPEC 14: completions for every shell; bash takes its own.
#[test]
fn completions() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = chiron(&["completions", shell]).ended(0);
        assert!(said.out.contains("recommendations") && said.out.contains("policy"), "{shell}: {}", said.out.len());
    }
    let script = chiron(&["completions", "bash"]).out;
    let ask = "COMP_WORDS=(chiron poli); COMP_CWORD=1; _chiron chiron poli chiron; echo \"${COMPREPLY[@]}\"";
    let output = Command::new(tool("bash")).arg("-c").arg(format!("{script}\n{ask}")).output().expect("bash runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "policy", "{output:?}");
}

/// SPEC 14: a manual page on stdout, and one for each command into a folder.
#[test]
fn manual_pages() {
    let page = chiron(&["man"]).ended(0).out;
    assert!(page.contains(".TH chiron 1"), "{page}");
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let path = dir.path().to_str().expect("UTF-8");
    chiron(&["man", "--dir", path]).ended(0);
    for name in ["chiron.1", "chiron-check.1", "chiron-policy-set.1", "chiron-audit-verify.1", "chiron-config-show.1"] {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(text.contains(".TH"), "{name}");
    }
    let said = chiron(&["man", "--dir", "/nowhere/at/all"]).ended(3);
    assert!(said.err.contains("expected a folder to write to"), "{said:?}");
}

/// SPEC 14: `config check` tells every mistake, as text and as JSON.
#[test]
fn config_check() {
    let bad = "tests/config/numbers.bad.yml";
    let text = chiron(&["config", "check", bad]).ended(3);
    let json = chiron(&["config", "check", bad, "--output=json"]).ended(3).json();
    let problems = json["problems"].as_array().expect("a list");
    assert!(!problems.is_empty() && text.out.contains(&format!("{} problems", problems.len())), "{json} {}", text.out);
    assert!(problems[0]["line"].as_u64().is_some_and(|line| line > 0), "{json}");
    let good = chiron(&["config", "check", "tests/config/full.good.yml", "--output=json"]).ended(0).json();
    assert_eq!(good["problems"], serde_json::json!([]));
}

/// SPEC 14: the settings that a file gives, with every default and without secrets; what is printed loads again.
#[test]
fn config_show_of_a_file() {
    let shown = chiron(&["config", "show", "tests/config/contract.good.yml", "--output=json"]).ended(0).json();
    assert!(shown["file"].as_str().is_some_and(|file| file.ends_with("contract.good.yml")), "{shown}");
    let settings = &shown["settings"];
    assert_eq!(settings["recovery"]["concurrency"], 4, "a default");
    assert_eq!(settings["subsystems"]["order_router"]["criticality"], "full", "of the file");
    assert_eq!(settings["subsystems"]["ai_model"]["enabled"], true, "a built-in one");
    let text = chiron(&["config", "show", "tests/config/contract.good.yml"]).ended(0).out;
    assert!(text.lines().any(|line| line == "check_interval: 30s"), "{text}");

    let defaults = chiron(&["config", "show", "--offline"]).ended(0).out;
    assert!(defaults.starts_with("# no file"), "{defaults}");
    let flags = chiron(&["config", "show", "--offline", "--mode=paper", "--output=json"]).ended(0).json();
    assert_eq!(flags["settings"]["mode"], "paper");
    let said = chiron(&["config", "show", "tests/config/numbers.bad.yml"]).ended(3);
    assert!(said.out.is_empty() && said.err.contains("numbers.bad.yml:"), "{said:?}");

    // A file without built-in subsystems, whose own checks are shown whole, gives itself.
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let file = dir.path().join("chiron.yml");
    let original = "profile: none\nmode: paper\nsubsystems:\n  feed: {check: {kind: tcp, address: \"127.0.0.1:1\", timeout: 1500ms}}\n\
                    bindings:\n  - {action: restart_subsystem, subsystem: feed, exec: {argv: [/bin/echo, \"a: b\", yes, \"1\"]}}\n\
                    alerts:\n  routes:\n    - match: {alertname: \"Feed#Down\", team: \"on\"}\n      subsystem: feed\n";
    std::fs::write(&file, original).expect("a file can be written");
    let name = file.to_str().expect("UTF-8");
    let once = chiron(&["config", "show", name]).ended(0).out;
    let again = dir.path().join("again.yml");
    let without_null = once.lines().filter(|line| !line.ends_with(": null")).collect::<Vec<_>>().join("\n");
    std::fs::write(&again, without_null).expect("a file can be written");
    let twice = chiron(&["config", "show", again.to_str().expect("UTF-8")]).ended(0).out;
    let body = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned()).expect("lines");
    assert_eq!(body(&once), body(&twice));
}

/// SPEC 14: nothing but data in a pipe, without colour; a reader that has seen enough is no mistake.
#[test]
fn pipes() {
    let mut child =
        command(&["config", "schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut first = [0; 10];
    let mut out = child.stdout.take().expect("a pipe");
    out.read_exact(&mut first).expect("it writes");
    drop(out);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // Nothing of it goes to a closed stdin either.
    let mut child = command(&["man"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(b"y\n").expect("it can be written to");
    assert!(child.wait_with_output().expect("it ends").status.success());
}
