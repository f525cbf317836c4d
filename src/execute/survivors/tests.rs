//! Real processes, started the way an actuator starts them.
#![expect(clippy::disallowed_methods, reason = "starts the processes that are to be found")]

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use super::*;

/// A process as chiron would have left it: its own group, the two variables.
fn start(key: &RunKey, argv: &[&str], ordered: &[&str]) -> Child {
    let ordered: Vec<String> = ordered.iter().map(|&word| word.to_owned()).collect();
    Command::new(argv[0])
        .args(&argv[1..])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env(RUN_KEY_VARIABLE, key.to_string())
        .env(COMMAND_VARIABLE, command_id(&ordered))
        .process_group(0)
        .spawn()
        .unwrap()
}

fn key(episode: &str) -> RunKey {
    RunKey { episode: format!("{episode}_{}", std::process::id()).into(), rung: 2, attempt: 1 }
}

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

fn end(mut child: Child) {
    let _ = rustix::process::kill_process_group(Pid::from_child(&child), rustix::process::Signal::KILL);
    child.wait().unwrap();
}

fn wait_for(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Invariant 7: the ordered command is found by its run's key, and by no other.
#[test]
fn the_ordered_command_is_found() {
    let key = key("found");
    let child = start(&key, &["/bin/sleep", "300"], &["/bin/sleep", "300"]);
    // A machine under load may take a moment to let the process begin.
    let looked = || find(&key).iter().map(|survivor| survivor.pid).collect::<Vec<i32>>();
    let found = (0..200).map(|_| looked()).find(|found| {
        std::thread::sleep(Duration::from_millis(if found.is_empty() { 20 } else { 0 }));
        !found.is_empty()
    });
    assert_eq!(found, Some(vec![pid(&child)]));
    assert_eq!(find(&RunKey { attempt: 2, ..key.clone() }), []);
    assert_eq!(find(&RunKey { attempt: 11, ..key.clone() }), []);
    end(child);
    assert_eq!(find(&key), []);
}

/// A script is found although the kernel has put its interpreter in front.
#[test]
fn a_script_is_found_behind_its_interpreter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recover.sh");
    std::fs::write(&path, "while :; do sleep 1; done\n").unwrap();
    let path = path.to_str().unwrap();
    let key = key("script");
    let child = start(&key, &["/bin/sh", "-e", path, "now"], &[path, "now"]);
    assert_eq!(find(&key).iter().map(|survivor| survivor.pid).collect::<Vec<_>>(), [pid(&child)]);
    end(child);
}

/// ACT-2: what the command started on purpose is not the command, whether it stays in its group, opens a group or a
/// session of its own.
#[test]
fn daemons_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("start.sh");
    let code = "cd \"${0%/*}\"; set -m\nsleep 310 & echo $! > group\nset +m\nsleep 311 & echo $! > member\n\
                setsid sleep 312 & echo $! > session\necho done > all\n";
    std::fs::write(&path, code).unwrap();
    let argv = ["/bin/bash", path.to_str().unwrap()];
    let key = key("daemons");
    let mut child = start(&key, &argv, &argv);
    child.wait().unwrap();
    wait_for(&folder.path().join("all"));
    for file in ["group", "member", "session"] {
        let pid = wait_for(&folder.path().join(file)).trim().parse().unwrap();
        while !procfs::read(pid, "cmdline").unwrap().starts_with(b"sleep") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(find(&key), [], "{file}");
        let process = procfs::process(pid).unwrap();
        assert!(process.lives(), "{file}");
        assert_eq!(process.group == pid, file != "member", "{file}");
        let environment = procfs::read(pid, "environ").unwrap();
        let environment = String::from_utf8_lossy(&environment);
        assert!(
            environment.contains(&key.to_string()),
            "{file} carries the key and is still not taken for the command"
        );
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    }
}

/// The command of another binding under the same key (a probe) is not the ordered command.
#[test]
fn another_command_line_is_not_it() {
    let key = key("probe");
    let child = start(&key, &["/bin/sleep", "300"], &["/bin/sleep", "301"]);
    assert_eq!(find(&key), []);
    end(child);
}

#[tokio::test]
async fn the_end_is_awaited() {
    let key = key("awaited");
    let child = start(&key, &["/bin/sleep", "0.5"], &["/bin/sleep", "0.5"]);
    let survivors = find(&key);
    assert_eq!(survivors.len(), 1);
    // Nobody has reaped it: that it is a zombie is end enough.
    assert_eq!(await_end(survivors.clone(), Duration::from_secs(30)).await, Aftermath::Ended);
    assert!(!survivors[0].lives());
    end(child);
    assert_eq!(await_end(Vec::new(), Duration::ZERO).await, Aftermath::Ended);
}

/// At the limit the group ends as at a timeout, and a stranger with the same pid would not.
#[tokio::test]
async fn at_the_limit_the_group_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stubborn.sh");
    std::fs::write(&path, "cd \"${0%/*}\"; sleep 300 & echo $! > member\nwhile :; do sleep 1; done\n").unwrap();
    let argv = ["/bin/sh", path.to_str().unwrap()];
    let key = key("limit");
    let child = start(&key, &argv, &argv);
    let member: i32 = wait_for(&folder.path().join("member")).trim().parse().unwrap();
    let survivors = find(&key);
    let stranger = Survivor { started: survivors[0].started + 1, ..survivors[0] };
    assert_eq!(await_end(vec![stranger], Duration::ZERO).await, Aftermath::Ended);
    assert!(survivors[0].lives(), "a stranger's end is not ours to make");
    assert_eq!(await_end(survivors.clone(), Duration::from_millis(200)).await, Aftermath::Killed);
    assert!(!survivors[0].lives());
    assert!(!procfs::process(member).is_some_and(|process| process.lives()));
    end(child);
}

#[test]
fn a_command_line_has_one_identity() {
    let id = |argv: &[&str]| command_id(&argv.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
    assert_ne!(id(&["/a", "b c"]), id(&["/a", "b", "c"]));
    assert_ne!(id(&["/a", ""]), id(&["/a"]));
    assert_eq!(id(&["/a", "b"]).len(), 16);
    let ordered = id(&["/x/run", "", "-v"]);
    assert!(ends_with_command(b"/x/run\0\0-v\0", ordered.as_bytes()));
    assert!(ends_with_command(b"/bin/sh\0-e\0/x/run\0\0-v\0", ordered.as_bytes()));
    for other in [&b""[..], b"\0", b"/x/run\0\0-v", b"/x/run\0-v\0", b"/x/run\0\0-v\0more\0"] {
        assert!(!ends_with_command(other, ordered.as_bytes()), "{other:?}");
    }
}
