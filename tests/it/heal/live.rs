//! Living processes: locks that are held, a bot that writes meanwhile, bots that run on alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::{found, heal};
use crate::common::{PORTFOLIO, POSITIONS, Process, Workspace, pid_alive, tool, wait_for, wait_for_within};

fn open(path: &Path) -> std::fs::File {
    std::fs::File::options().read(true).write(true).open(path).expect("a lock can be opened")
}

/// WSP-2: a lock that a living process holds by flock, by fcntl or by its id inside stays, however old; let go, it is
/// removed.
#[test]
fn held_locks_stay() {
    let workspace = Workspace::whole();
    let settings = workspace.beside("chiron.yml");
    // A process is no holder by its id if it began after the lock was written: so the locks are young, and old enough.
    std::fs::write(&settings, "heal: {lock_age: 100ms, quiet: 0s}\n").expect("settings");
    let flag = format!("--config.file={}", settings.display());
    let names = ["state/flock.lock", "state/fcntl.lock", "logs/pid.lock"];
    for name in names {
        workspace.write(name, b"");
    }
    let own = format!("{}\n", std::process::id());
    std::fs::write(workspace.path(names[2]), own).expect("a lock can be written");
    let before = workspace.tree();
    // One that nobody holds and that is no older than the last: once it goes, that one is old enough as well.
    std::fs::write(workspace.path("state/free.lock"), "").expect("a lock can be written");
    let (one, two) = (open(&workspace.path(names[0])), open(&workspace.path(names[1])));
    flock(&one, FlockOperation::LockExclusive).expect("nobody has it");
    fcntl_lock(&two, FlockOperation::LockExclusive).expect("nobody has it");
    wait_for("the free one to go", || {
        let report = heal(&workspace, "real", &[&flag]).ended(0).json();
        if workspace.path("state/free.lock").exists() { Err(report) } else { Ok(()) }
    });
    workspace.tree().assert_same(&before, "the others are held");
    drop((one, two));
    workspace.write(names[2], b"4194305\n");
    let report = heal(&workspace, "real", &[&flag]).ended(0).json();
    assert_eq!(report["stats"]["locks_cleared"], 3, "{report:#}");
    assert!(names.iter().all(|name| !workspace.path(name).exists()), "{report:#}");
}

/// WSP-6, SPEC 8: another chiron at the same workspace is told as such, and nothing is changed meanwhile.
#[test]
fn another_chiron_is_told() {
    let workspace = Workspace::whole();
    workspace.remove("data");
    heal(&workspace, "paper", &[]).ended(0);
    workspace.remove("data");
    let mut held = Vec::new();
    lock_all(&workspace.path(".chiron"), &mut held);
    assert!(!held.is_empty(), "there is a lock among chiron's own files");
    let said = heal(&workspace, "paper", &[]).ended(3);
    assert!(said.err.contains("heals this workspace just now"), "{said:?}");
    assert!(!workspace.path("data").exists());
    heal(&workspace, "paper", &["--dry-run"]).ended(1);
    drop(held);
    heal(&workspace, "paper", &[]).ended(0);
}

/// Takes every lock that somebody could want below a folder: on files and on folders.
fn lock_all(folder: &Path, held: &mut Vec<std::fs::File>) {
    for place in std::iter::once(folder.to_path_buf())
        .chain(std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()))
    {
        if place.is_dir() && place != folder {
            lock_all(&place, held);
            continue;
        }
        let file = std::fs::File::open(&place).expect("it can be opened");
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            held.push(file);
        }
    }
}

/// A bot that rewrites its positions without end, and looks each time whether the file still holds what it wrote last.
const WRITER: &str = r#"
import json, os, sys, time
path, way, stop, report = sys.argv[1:5]
last, number = open(path, "rb").read(), 0
while not os.path.exists(stop):
    found = open(path, "rb").read()
    if found != last:
        open(report, "w").write("lost after %d: %r and not %r" % (number, found, last))
        sys.exit(1)
    number += 1
    last = json.dumps({"open_positions": [], "number": number}).encode() + b"\n"
    if way == "atomic":
        with open(path + ".new", "wb") as file:
            file.write(last)
        os.rename(path + ".new", path)
    else:
        with open(path, "r+b") as file:
            file.truncate()
            file.write(last[:9])
            file.flush()
            time.sleep(0.002)
            file.write(last[9:])
    time.sleep(0.003)
open(report, "w").write("kept %d" % number)
"#;

/// WSP-6: while a bot rewrites a file, whole or in place, no round touches it and no write is lost; another file is healed
/// at once; when the bot has been silent for a while, its file is healed with the last that it wrote.
#[test]
fn a_live_bot_wins() {
    for way in ["atomic", "in_place"] {
        let workspace = Workspace::whole();
        workspace.write(POSITIONS, b"{\"open_positions\": [], \"number\": 0}\n");
        let (stop, report) = (workspace.beside("stop"), workspace.beside("report"));
        let mut command = Command::new(tool("python3"));
        command.args(["-c", WRITER]).arg(workspace.path(POSITIONS)).arg(way).arg(&stop).arg(&report);
        let mut bot = Process::start("bot", &mut command, &workspace.beside("bot.log"));
        wait_for("the bot to write", || {
            let text = std::fs::read_to_string(workspace.path(POSITIONS)).unwrap_or_default();
            if text.contains("\"number\": 0") { Err(text) } else { Ok(()) }
        });
        for round in 0..12 {
            workspace.write(PORTFOLIO, b"");
            let said = heal(&workspace, "paper", &[]);
            assert_eq!(
                workspace.text(PORTFOLIO),
                "{\"open_position_count\": 0, \"trades\": []}\n",
                "{round}: {said:?}"
            );
            let lines = found(&said.json());
            assert!(
                !lines.iter().any(|line| line.contains("healed") && line.contains(POSITIONS)),
                "{way}, round {round}: {lines:?}"
            );
            assert!(bot.ended().is_none(), "{way}: {}", std::fs::read_to_string(&report).unwrap_or_default());
        }
        std::fs::write(&stop, "").expect("a file can be made");
        wait_for("the bot to end", || bot.ended().ok_or(()));
        let said = std::fs::read_to_string(&report).expect("the bot reports");
        let number = said.strip_prefix("kept ").unwrap_or_else(|| panic!("{way}: {said}")).to_owned();
        wait_for("the file to have rested", || {
            let report = heal(&workspace, "paper", &[]).json();
            let line = format!("keys_missing healed {POSITIONS}");
            if found(&report).contains(&line) { Ok(()) } else { Err(found(&report)) }
        });
        let text = workspace.text(POSITIONS);
        assert!(text.contains(&format!("\"number\": {number}")) && text.contains("closed_positions"), "{way}: {text}");
    }
}

/// A process of a bot whose parent is gone. Dropped, it is killed by its id.
struct Orphan(u32);

impl Orphan {
    fn start(workspace: &Workspace, mark: &str, stubborn: bool) -> Self {
        let file: PathBuf = workspace.beside(&format!("{stubborn}.pid"));
        let handler = if stubborn { "signal.SIG_IGN" } else { "signal.SIG_DFL" };
        let code = format!(
            "import os, signal, time; signal.signal(signal.SIGTERM, {handler}); open({:?}, 'w').write(str(os.getpid())); time.sleep(600)",
            file.display().to_string()
        );
        // The shell ends at once, and nobody waits for what it started.
        let status = Command::new(tool("setsid"))
            .args(["sh", "-c", "\"$@\" < /dev/null > /dev/null 2>&1 &", "sh"])
            .arg(tool("python3"))
            .args(["-c", &code, mark])
            .current_dir(workspace.root())
            .status()
            .expect("a shell runs");
        assert!(status.success());
        let pid = wait_for("the orphan", || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.parse().map_err(|_| text)
        });
        Self(pid)
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.0).ok().and_then(Pid::from_raw).filter(|_| pid_alive(self.0)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// WSP-2: a process of the bot without parent, supervisor and heartbeat is ended in paper mode, one that does not listen by
/// SIGKILL; in real mode it is only told; a child of a living parent is left alone in both.
#[test]
fn orphans() {
    let workspace = Workspace::whole();
    let mark = format!("orphan-bot-{}", std::process::id());
    let settings = workspace.beside("chiron.yml");
    let text = format!("heal:\n  heartbeat_age: 1s\n  bot: {{match: {mark}, grace: 500ms}}\n");
    std::fs::write(&settings, text).expect("settings");
    let flag = format!("--config.file={}", settings.display());
    let one = Orphan::start(&workspace, &mark, false);
    let two = Orphan::start(&workspace, &mark, true);
    let mut command = Command::new(tool("python3"));
    command.args(["-c", "import time; time.sleep(600)", &mark]).current_dir(workspace.root());
    let mut child = Process::start("child", &mut command, &workspace.beside("child.log"));

    let mut expected = [one.0, two.0].map(|pid| pid.to_string());
    expected.sort();
    wait_for_within("both to be older than a heartbeat may be", Duration::from_secs(20), || {
        let report = heal(&workspace, "real", &[&flag]).json();
        let mut pids: Vec<String> = found(&report)
            .iter()
            .filter_map(|line| line.strip_prefix("orphan_process standing ").map(str::to_owned))
            .collect();
        pids.sort();
        if pids == expected { Ok(()) } else { Err(report) }
    });
    assert!(pid_alive(one.0) && pid_alive(two.0), "in real mode they are only told");
    let report = heal(&workspace, "paper", &[&flag]).json();
    assert_eq!(report["stats"]["orphans_killed"], 2, "{report:#}");
    assert!(!pid_alive(one.0) && !pid_alive(two.0), "{report:#}");
    assert!(child.ended().is_none(), "a child of a living parent is nobody's orphan");
    let report = heal(&workspace, "paper", &[&flag]).ended(0).json();
    assert!(found(&report).iter().all(|line| !line.starts_with("orphan")), "{report:#}");
}
