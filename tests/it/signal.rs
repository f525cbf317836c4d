//! The means `signal` against real processes: whom it reaches, and whom it never does.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::common::{
    Chiron, Process, Systemd, ask_for, bound, ending, finished, kinds, pid_alive, script, settled, tool, wait_for,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// A name that no other process has, of at most 15 bytes.
fn unique(letter: char) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("c{letter}{}n{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A process of that name that sleeps.
fn sleeper(dir: &Path, name: &str, seconds: &str) -> Process {
    let path = dir.join(name);
    if !path.exists() {
        std::os::unix::fs::symlink(tool("sleep"), &path).expect("a link can be made");
    }
    let process = Process::start(name, Command::new(path).arg(seconds), &dir.join("processes.log"));
    let comm = format!("/proc/{}/comm", process.pid());
    wait_for("the process to be what it is started for", || match std::fs::read_to_string(&comm) {
        Ok(found) if found.trim() == name => Ok(()),
        found => Err(found),
    });
    process
}

/// A shell script that says in a file that it has set its traps.
fn trapping(dir: &Path, name: &str, traps: &str) -> Process {
    let ready = dir.join(format!("{name}.ready"));
    let body = format!("{traps}\necho > '{}'\nwhile :; do sleep 0.1; done", ready.display());
    let path = script(&dir.join(name), &body);
    // Whoever started the tests may ignore signals, and a shell cannot trap what it was born to ignore.
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal").arg(path);
    let process = Process::start(name, &mut command, &dir.join("processes.log"));
    wait_for("the traps to be set", || if ready.exists() { Ok(()) } else { Err("not yet") });
    process
}

fn pidfile(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(format!("{name}.pid"));
    std::fs::write(&path, text).expect("a pid file can be written");
    path
}

fn wait_ended(process: &mut Process) {
    wait_for("the process to end", || process.ended().map(drop).ok_or("it lives"));
}

/// ACT-2: the one process that a pid file, a name or a unit names gets the signal, and its end is waited for and told; a
/// HUP reaches its process, which lives on.
#[test]
fn a_signal_reaches_its_process() {
    let (dir, systemd) = (folder(), Systemd::start());
    let name = unique('a');
    let mut by_file = sleeper(dir.path(), &unique('f'), "1000");
    pidfile(dir.path(), "file", &format!("{}\nsecond line\n", by_file.pid()));
    let mut by_name = sleeper(dir.path(), &name, "1001");
    let mut other = sleeper(dir.path(), &name, "1002");
    systemd.unit("u.service", "[Service]\nExecStart=/bin/sleep 1000\n");
    systemd.ctl(&["start", "u.service"]);
    let by_unit = systemd.main_pid("u.service");
    let heard = dir.path().join("heard");
    let mut told = trapping(dir.path(), &unique('h'), &format!("trap 'echo HUP >> {}' HUP", heard.display()));
    pidfile(dir.path(), "told", &told.pid().to_string());
    let bindings = [
        ("file", "signal: {signal: TERM, pidfile: file.pid}".to_owned()),
        ("name", format!("signal: {{signal: USR1, expect: exit, process: {{name: {name}, cmdline: \" 1001\"}}}}")),
        ("unit", format!("signal: {{signal: KILL, unit: {{name: u.service, bus: \"{}\"}}}}", systemd.bus())),
        ("told", "signal: {signal: HUP, pidfile: told.pid}".to_owned()),
    ];
    let lines: Vec<_> = bindings.iter().map(|(name, line)| (*name, line.as_str())).collect();
    let chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &lines)).start();
    let pids = [by_file.pid(), by_name.pid(), by_unit, told.pid()];
    for ((subsystem, _), pid) in bindings.iter().zip(pids) {
        assert!(ask_for(&chiron, subsystem));
        let end = finished(&chiron, subsystem);
        assert_eq!(end["ending"], "ok", "{end}");
        let changed = end["changed"].as_str().unwrap_or_default();
        let last = if *subsystem == "told" { ") was sent HUP" } else { ") ended" };
        assert!(changed.starts_with(&format!("process {pid} (")) && changed.ends_with(last), "{end}");
    }
    wait_ended(&mut by_file);
    wait_ended(&mut by_name);
    wait_for("the unit's process to end", || if pid_alive(by_unit) { Err(by_unit) } else { Ok(()) });
    wait_for("the HUP to be heard", || match std::fs::read_to_string(&heard) {
        Ok(text) if text == "HUP\n" => Ok(()),
        other => Err(other.ok()),
    });
    assert!(told.ended().is_none(), "a HUP that is heard ends nothing");
    assert!(other.ended().is_none(), "the other process of that name is left alone");
    assert_eq!(systemd.show("u.service", "Result"), "signal");
}

/// ACT-2, SPEC 15: a recycled id, several processes, none, and pid files that are rubbish or worse: nothing is signalled,
/// and each says why.
#[test]
fn a_stranger_is_never_hit() {
    let dir = folder();
    let (twins, nobody) = (unique('t'), unique('n'));
    let mut strangers = [sleeper(dir.path(), &twins, "1000"), sleeper(dir.path(), &twins, "1000")];
    let (first, second) = (strangers[0].pid().min(strangers[1].pid()), strangers[0].pid().max(strangers[1].pid()));
    let pid = strangers[0].pid();
    // Written by a process that is gone, whose id the stranger has now.
    let recycled = pidfile(dir.path(), "recycled", &pid.to_string());
    let old = SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(recycled).and_then(|file| file.set_modified(old)).expect("its time can be set");
    let writable = pidfile(dir.path(), "writable", &pid.to_string());
    std::fs::set_permissions(writable, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("a mode can be set");
    for (name, text) in [
        ("empty", String::new()),
        ("rubbish", "1 2 kill me".to_owned()),
        ("negative", format!("-{pid}")),
        ("zero", "0".to_owned()),
        ("huge", "99999999999999999999".to_owned()),
        ("long", "7".repeat(10_000)),
        ("init", "1".to_owned()),
        ("gone", i32::MAX.to_string()),
        ("own", String::new()),
    ] {
        pidfile(dir.path(), name, &text);
    }
    std::fs::create_dir(dir.path().join("folder.pid")).expect("a folder can be made");
    let made = Command::new(tool("mkfifo")).arg(dir.path().join("fifo.pid")).status();
    assert!(made.is_ok_and(|status| status.success()));
    let twice = format!("process `{twins}`: found 2 processes ({first}, {second}), expected exactly one");
    let cases = [
        ("recycled", "another process has the id now".to_owned()),
        ("writable", "everybody may write to it, so it is not believed".to_owned()),
        ("empty", "it is empty, expected a process id".to_owned()),
        ("rubbish", "found \"1 2 kill me\", expected a process id".to_owned()),
        ("negative", "expected a process id".to_owned()),
        ("zero", "expected a process id".to_owned()),
        ("huge", "expected a process id".to_owned()),
        ("long", "found more than 4096 bytes, expected a process id".to_owned()),
        ("init", "process 1 is the host's own and never signalled".to_owned()),
        ("gone", format!("it names process {}, which does not run", i32::MAX)),
        ("own", "is chiron itself".to_owned()),
        ("folder", "is a directory".to_owned()),
        ("fifo", "is a FIFO".to_owned()),
        ("absent", "missing".to_owned()),
        ("twins", twice),
        ("nobody", format!("process `{nobody}`: no process matches")),
    ];
    let lines = cases.clone().map(|(name, _)| match name {
        "twins" | "nobody" => {
            let named = if name == "twins" { &twins } else { &nobody };
            format!("signal: {{signal: KILL, process: {{name: {named}}}}}")
        }
        _ => format!("signal: {{signal: KILL, pidfile: {name}.pid}}"),
    });
    let bindings: Vec<_> = cases.iter().zip(&lines).map(|((name, _), line)| (*name, line.as_str())).collect();
    let mut chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &bindings)).start();
    pidfile(dir.path(), "own", &chiron.pid().to_string());
    for (name, expected) in &cases {
        assert!(ask_for(&chiron, name));
        let (found, detail) = ending(&chiron, name);
        assert_eq!(found, "not_started", "{name}: {detail}");
        assert!(detail.starts_with("no signal was sent: ") && detail.contains(expected), "{name}: {detail}");
    }
    assert!(strangers.iter_mut().all(|stranger| stranger.ended().is_none()), "every stranger lives");
    assert!(chiron.ended().is_none());
}

/// ACT-2, SPEC 15: a process that ignores the signal is named at the timeout, lives on, and gets no other signal.
#[test]
fn a_process_that_ignores_it_is_named() {
    let dir = folder();
    let mut stubborn = trapping(dir.path(), &unique('s'), "trap '' TERM");
    pidfile(dir.path(), "stubborn", &stubborn.pid().to_string());
    let bindings = [("stubborn", "signal: {signal: TERM, pidfile: stubborn.pid}\ntimeout: 1s")];
    let chiron = Chiron::with_config(dir.path(), &bound(dir.path(), &bindings)).start();
    let begun = Instant::now();
    assert!(ask_for(&chiron, "stubborn"));
    let (found, detail) = ending(&chiron, "stubborn");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(found, "timeout", "{detail}");
    assert!(detail.starts_with(&format!("process {} (", stubborn.pid())), "{detail}");
    assert!(detail.ends_with(") has not ended 1s after TERM; it is left"), "{detail}");
    assert!(stubborn.ended().is_none());
}

/// ACT-3: chiron dies around the effect, and another process takes the place of the one that ended; the one that was
/// meant has ended, its successor lives, the run ends verified.
#[test]
fn a_crash_never_hits_the_successor() {
    for strike in ["effect.before=kill", "effect.after=kill", "finish.before_commit=kill"] {
        let dir = folder();
        let traps = format!("trap 'echo > \"{}\"; exit 0' TERM", dir.path().join("fresh").display());
        let mut meant = trapping(dir.path(), &unique('m'), &traps);
        pidfile(dir.path(), "a", &meant.pid().to_string());
        let bindings = [("a", "signal: {signal: TERM, pidfile: a.pid}\nclass: probeable")];
        let text = bound(dir.path(), &bindings);
        let mut chiron = Chiron::with_config(dir.path(), &text).env("CHIRON_FAILPOINTS", strike).start();
        assert!(ask_for(&chiron, "a"), "{strike}");
        wait_for(&format!("{strike} to strike"), || chiron.ended().map(drop).ok_or("it lives"));
        let is_sent = strike != "effect.before=kill";
        assert_eq!(meant.ended().is_some(), is_sent, "{strike}");
        let mut successor = is_sent.then(|| {
            let successor = sleeper(dir.path(), &unique('z'), "1000");
            pidfile(dir.path(), "a", &successor.pid().to_string());
            successor
        });
        // What was not done is done again only where it is still needed; the process makes it fresh as it ends.
        let fresh = dir.path().join("fresh");
        if !is_sent {
            std::fs::remove_file(&fresh).expect("a file can be removed");
        }
        chiron.set_env("CHIRON_FAILPOINTS", None);
        chiron.restart();
        assert!(ask_for(&chiron, "a"), "{strike}");
        let entries = wait_for(&format!("{strike}: the second life to settle"), || settled(&chiron));
        let ends: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "run_verified").collect();
        assert!(ends.len() == 1 && ends[0]["outcome"] == "verified", "{strike}: {ends:?}; {:?}", kinds(&entries));
        wait_ended(&mut meant);
        assert!(
            successor.as_mut().is_none_or(|successor| successor.ended().is_none()),
            "{strike}: the successor lives"
        );
        let told = entries.iter().find(|entry| entry["kind"] == "run_finished").map(|entry| entry["detail"].clone());
        let told = told.as_ref().and_then(Value::as_str).unwrap_or_default();
        let expected = if is_sent { "found done after a restart of chiron" } else { "TERM was sent to process" };
        assert!(told.starts_with(expected), "{strike}: {told}");
        let resumed = kinds(&entries).contains(&"run_resumed".to_owned());
        assert_eq!(resumed, !is_sent, "{strike}: {:?}", kinds(&entries));
    }
}
