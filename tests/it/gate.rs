//! `chiron gate` with the real binary: whom it lets in, what becomes of the command, and a real systemd that asks it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{Said, run};
use crate::common::{PORTFOLIO, POSITIONS, Systemd, Workspace, tool, wait_for};

/// The command with a mode and what follows.
fn gate(workspace: &Workspace, mode: &str, more: &[&str]) -> Command {
    workspace.command("gate", &[&["--mode", mode], more].concat())
}

fn asked(workspace: &Workspace, mode: &str, more: &[&str]) -> Said {
    run(&mut gate(workspace, mode, more))
}

/// Positions that contradict the portfolio.
fn contradict(workspace: &Workspace) {
    workspace.write(PORTFOLIO, b"{\"open_position_count\": 7, \"trades\": []}\n");
}

/// A person puts that right, as an editor does: beside it, then over it.
fn mend(workspace: &Workspace) {
    workspace.write("logs/.mended", b"{\"open_position_count\": 2, \"trades\": []}\n");
    std::fs::rename(workspace.path("logs/.mended"), workspace.path(PORTFOLIO)).expect("it can be renamed");
}

/// WSP-5: who may start, and how it answers without a command: paper always, real only if nothing is critical; what can be
/// healed is healed first, and not with `--no-heal`.
#[test]
fn who_may_start() {
    type Break = fn(&Workspace);
    let missing: Break = |workspace| {
        workspace.remove("data");
        workspace.remove(POSITIONS);
        workspace.remove(PORTFOLIO);
    };
    let torn: Break = |workspace| workspace.write(POSITIONS, b"{\"open_positions\": [{\"id\": \"p-9\", \"symb");
    let table: [(&str, Break, i32); 4] = [
        ("nothing wrong", |_| {}, 0),
        ("what can be healed", missing, 0),
        ("a contradiction", contradict, 2),
        ("a torn record", torn, 2),
    ];
    for (name, breaks, real) in table {
        for (mode, expected) in [("real", real), ("paper", 0)] {
            let workspace = Workspace::whole();
            breaks(&workspace);
            let said = asked(&workspace, mode, &[]);
            assert_eq!(said.code, expected, "{name}, {mode}: {said:?}");
            let opening = if expected == 0 { "gate open" } else { "gate closed" };
            assert!(said.out.starts_with(opening), "{name}, {mode}: {said:?}");
            assert_eq!(said.out.contains("real money would not be let in"), mode == "paper" && real == 2, "{said:?}");
            if real == 2 {
                assert!(said.out.contains("because "), "it says why: {said:?}");
            }
            let json = asked(&workspace, mode, &["--output=json"]);
            assert_eq!((json.code, json.json()["open"].as_bool()), (expected, Some(expected == 0)), "{json:?}");
            assert_eq!(json.json()["healing"]["trigger"], "gate");
        }
    }
    let workspace = Workspace::whole();
    workspace.remove("data");
    asked(&workspace, "paper", &["--no-heal"]).ended(0);
    assert!(!workspace.path("data").exists() && !workspace.path(".chiron").exists());
    asked(&workspace, "paper", &[]).ended(0);
    assert!(workspace.path("data").exists());
}

/// WSP-5: a release folder that is not complete, or not the active one, keeps real money out.
#[test]
fn an_incomplete_release() {
    let workspace = Workspace::whole();
    let settings = workspace.beside("chiron.yml");
    std::fs::write(&settings, "heal: {slot: {path: releases/blue}}\n").expect("settings");
    let flag = format!("--config.file={}", settings.display());
    let manifest = |active: bool, digest: &str| {
        let text =
            format!("{{\"slot\": \"blue\", \"active\": {active}, \"files\": {{\"run.py\": \"sha256:{digest}\"}}}}\n");
        workspace.write("releases/blue/slot_manifest.json", text.as_bytes());
    };
    // `printf test | sha256sum`
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    workspace.write("releases/blue/run.py", b"test");
    manifest(true, digest);
    asked(&workspace, "real", &[&flag]).ended(0);
    manifest(true, &digest.replace('9', "8"));
    let said = asked(&workspace, "real", &[&flag]).ended(2);
    assert!(said.out.contains("slot") && said.out.contains("run.py"), "{said:?}");
    manifest(false, digest);
    asked(&workspace, "real", &[&flag]).ended(2);
    workspace.remove("releases");
    let said = asked(&workspace, "real", &[&flag]).ended(2);
    assert!(said.out.contains("slot 0"), "{said:?}");
    asked(&workspace, "paper", &[&flag]).ended(0);
}

/// WSP-5: without a mode nobody knows whether money is at stake, and wrong settings or a workspace that is not there let
/// nobody in with real money.
#[test]
fn what_cannot_be_told() {
    let workspace = Workspace::whole();
    let started = workspace.beside("started");
    let touch = ["--", "touch", started.to_str().expect("UTF-8")];
    let said = run(&mut workspace.command("gate", &touch)).ended(3);
    assert!(said.err.contains("--mode paper or --mode real"), "{said:?}");
    asked(&workspace, "real", &[&["--config.file=/nowhere.yml"], &touch[..]].concat()).ended(3);
    asked(&workspace, "paper", &[&["--wait=soon"], &touch[..]].concat()).ended(3);
    let nowhere = Workspace::at(&workspace.beside("nowhere"));
    let said = asked(&nowhere, "real", &touch).ended(3);
    assert!(said.err.contains("nowhere"), "{said:?}");
    assert!(!started.exists());
    let said = asked(&nowhere, "paper", &touch).ended(0);
    assert!(said.err.contains("open all the same") && started.exists(), "paper says it and starts: {said:?}");
}

/// A gate with pipes, that becomes a shell.
fn shell(workspace: &Workspace, script: &str) -> Child {
    let mut command = gate(workspace, "real", &["--", "sh", "-c", script, "sh", "an argument"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir("/").env("OF_THE_BOT", "kept").spawn().expect("chiron runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// SPEC 8, WSP-5: the command takes the place of the process: id, arguments, folder, environment, input, output and exit code
/// are its own; chiron's descriptors are closed, no signal is blocked or ignored, and stdout is the command's alone.
#[test]
fn the_command_takes_over() {
    let workspace = Workspace::whole();
    workspace.remove("data");
    // The shell itself reads its signals: while it starts a program it blocks them all.
    let script = "read line; echo $$ $1 $PWD $OF_THE_BOT $line; ls /proc/$$/fd; \
                  while read key value; do case $key in SigBlk:|SigIgn:) echo $value;; esac; done </proc/$$/status; exit 7";
    let mut child = shell(&workspace, script);
    let pid = child.id();
    std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"from outside\n").expect("it reads");
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
    assert_eq!(status.code(), Some(7), "{}", text(&stderr));
    let out = text(&stdout);
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some(format!("{pid} an argument / kept from outside").as_str()), "{out}");
    let rest: Vec<&str> = lines.collect();
    // What a shell has that the test itself starts: descriptors and signals that were handed down to the test count for both.
    let plain =
        Command::new(tool("sh")).args(["-c", script, "sh", "x"]).stdin(Stdio::piped()).output().expect("a shell runs");
    let plain = text(&plain.stdout);
    assert_eq!(rest, plain.lines().skip(1).collect::<Vec<_>>(), "{out}");
    assert!(text(&stderr).starts_with("gate open: mode real"), "{}", text(&stderr));
    assert!(workspace.path("data").exists(), "it was healed before");
}

/// WSP-5: signals reach the command, and its end by a signal is its own.
#[test]
fn signals_reach_the_command() {
    let workspace = Workspace::whole();
    let up = workspace.beside("up");
    let waits = format!("touch {}; while :; do sleep 0.02; done", up.display());
    for (trap, expected) in [("trap 'exit 9' TERM; ", (Some(9), None)), ("", (None, Some(15)))] {
        let mut child = shell(&workspace, &format!("{trap}{waits}"));
        wait_for("the command to run", || if up.exists() { Ok(()) } else { Err(child.try_wait()) });
        signal(&child, Signal::TERM);
        let status = child.wait().expect("it ends");
        assert_eq!((status.code(), status.signal()), expected, "{trap}");
        std::fs::remove_file(&up).expect("it is there");
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("a process id");
    kill_process(pid, signal).expect("it lives");
}

/// WSP-5: a command that cannot be started ends as a shell would end, and says which and why.
#[test]
fn commands_that_do_not_start() {
    let workspace = Workspace::whole();
    workspace.write("plain.txt", b"no program");
    workspace.write("script", b"#!/no/such/interpreter\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(workspace.path("script"), mode).expect("its mode can be set");
    let at = |name: &str| workspace.path(name).to_str().expect("UTF-8").to_owned();
    for (command, code, why) in [
        ("no-such-command-anywhere".to_owned(), 127, "in no folder of PATH"),
        (at("nothing"), 127, "is not there"),
        (at("plain.txt"), 126, "Permission denied"),
        (at("logs"), 126, "Permission denied"),
        (at("script"), 126, "interpreter"),
    ] {
        let said = asked(&workspace, "paper", &["--", &command]).ended(code);
        assert!(said.err.contains(&command) && said.err.contains(why), "{said:?}");
    }
}

/// WSP-5: with `--wait` a closed gate opens as soon as a person has put things right, and stays closed when the time is over;
/// SIGTERM ends the waiting at once.
#[test]
fn waiting() {
    let workspace = Workspace::whole();
    contradict(&workspace);
    let begun = Instant::now();
    asked(&workspace, "real", &["--wait=1500ms", "--", "true"]).ended(2);
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());

    let log = workspace.beside("gate.log");
    let waiting = |workspace: &Workspace| {
        let file = std::fs::File::create(&log).expect("a log");
        let mut command = gate(workspace, "real", &["--wait=60s", "--", "sh", "-c", "exit 5"]);
        let child = command.stderr(file).spawn().expect("chiron runs");
        wait_for("the gate to say that it is closed", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains("gate closed") { Ok(()) } else { Err(said) }
        });
        child
    };
    let mut child = waiting(&workspace);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().expect("it ends").signal(), Some(15));

    let mut child = waiting(&workspace);
    mend(&workspace);
    let status = wait_for("the command", || child.try_wait().expect("a child").ok_or("still waiting"));
    let said = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(status.code(), Some(5), "{said}");
    assert_eq!(said.matches("gate closed").count(), 1, "what has not changed is said once: {said}");
    assert!(said.contains("gate open"), "{said}");
}

/// SPEC 8: as ExecCondition of a unit of a real systemd: closed, the unit is skipped and not failed; open, it starts; and the
/// gate as ExecStart hands its process over to the bot.
#[test]
fn systemd_asks_the_gate() {
    let (workspace, systemd) = (Workspace::whole(), Systemd::start());
    contradict(&workspace);
    let chiron = Path::new(env!("CARGO_BIN_EXE_chiron")).display();
    let line = format!("{chiron} gate --workspace {} --mode real", workspace.root().display());
    systemd.counted("bot.service", "sleep 1000", &format!("ExecCondition={line}"));
    // A unit that nobody refers to is forgotten with its result.
    systemd.unit("keeps.service", "[Unit]\nAfter=bot.service\n[Service]\nExecStart=/bin/sleep 1000\n");
    systemd.ctl(&["start", "keeps.service"]);
    systemd.ctl(&["start", "bot.service"]);
    wait_for("the unit to be skipped", || {
        let seen = ["ActiveState", "Result"].map(|name| systemd.show("bot.service", name));
        if seen == ["inactive", "exec-condition"] { Ok(()) } else { Err(seen) }
    });
    assert!(systemd.starts("bot.service").is_empty());
    mend(&workspace);
    systemd.ctl(&["start", "bot.service"]);
    wait_for("the unit to start", || match systemd.starts("bot.service") {
        starts if starts.len() == 1 => Ok(()),
        starts => Err((starts, systemd.show("bot.service", "Result"))),
    });
    assert_eq!(systemd.show("bot.service", "ActiveState"), "active");

    let sleep = tool("sleep");
    let text = format!("[Service]\nType=exec\nExecStart={line} -- {} 1000\n", sleep.display());
    systemd.unit("direct.service", &text);
    systemd.ctl(&["start", "direct.service"]);
    let pid = systemd.main_pid("direct.service");
    wait_for("the main process to be the bot", || {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == "sleep" { Ok(()) } else { Err(name) }
    });
}
