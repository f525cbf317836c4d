//! The bot's processes, and what speaks for each of them: parent, supervisor, a file that names it.
//!
//! **Invariant:** reads only; chiron itself and those that started it are never the bot's; what cannot be read counts for the
//! process, so that nobody is taken for an orphan by mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;
use rustix::process::Pid;

use super::{BotProcess, Entry, FileSeen, Locks, workspaces};
use crate::base::procfs::{self, Process};
use crate::base::redact;
use crate::model::Timestamp;
use crate::workspace::Settings;
use crate::workspace::holders::{self, Naming};
use crate::workspace::layout::RelPath;
use crate::workspace::root::{Root, Trouble};

/// How much of a command line is shown.
const COMMAND_MAX: usize = 200;
/// Larger than any lock or pid file that names a process.
const NAMING_BYTES_MAX: u64 = 64 << 10;
/// How many ancestors this process can have.
const ANCESTORS_MAX: usize = 64;
/// Names of what adopts orphans: a host's init and its like for users and containers.
const REAPERS: [&str; 7] = ["systemd", "init", "tini", "dumb-init", "docker-init", "catatonit", "podman-init"];
/// A container's init starts its command at once.
const START_OF_CONTAINER: Duration = Duration::from_secs(5);
/// Units that start processes without looking after them.
const LAUNCHERS: [&str; 5] = ["cron.service", "crond.service", "atd.service", "ssh.service", "sshd.service"];
/// Programs that show, edit or carry files: the bot's name in their command line is that of a file.
const VIEWERS: [&str; 40] = [
    "tail",
    "less",
    "more",
    "most",
    "head",
    "cat",
    "bat",
    "multitail",
    "lnav",
    "grep",
    "egrep",
    "fgrep",
    "zgrep",
    "rg",
    "ag",
    "awk",
    "sed",
    "vi",
    "vim",
    "nvim",
    "view",
    "nano",
    "emacs",
    "emacsclient",
    "micro",
    "hx",
    "watch",
    "ssh",
    "scp",
    "rsync",
    "tmux",
    "screen",
    "inotifywait",
    "pgrep",
    "pkill",
    "strace",
    "gdb",
    "tar",
    "cp",
    "git",
];
/// Programs that wait for the one that they have started.
const WRAPPERS: [&str; 12] =
    ["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "sudo", "su", "timeout", "flock", "script"];
/// Names in a folder that are looked at for pid files.
const NAMES_MAX: usize = 10_000;
/// Names of programs that look after their children, as the kernel keeps them (15 bytes).
const SUPERVISORS: [&str; 11] = [
    "supervisord",
    "runsv",
    "s6-supervise",
    "supervise",
    "containerd-shim",
    "docker-containe",
    "conmon",
    "circusd",
    "pm2",
    "monit",
    "chiron",
];

/// Every process whose command line is the bot's, at `now`. `named` gives what young files of the workspace say; it is asked
/// only if there is such a process.
pub(super) fn of_bot(root: &Root, settings: &Settings, now: Timestamp, named: impl Fn() -> Named) -> Vec<BotProcess> {
    let Some(bot) = settings.layout.bot.as_ref().filter(|bot| !bot.command.trim().is_empty()) else {
        return Vec::new();
    };
    let own = lineage();
    let mut found: Vec<(Process, Vec<String>)> = procfs::all()
        .filter(|process| process.lives() && !own.contains(&process.pid))
        .filter_map(|process| Some((process, procfs::arguments(process.pid)?)))
        .filter(|(process, words)| is_line(words, &bot.command) && !is_chiron(process.pid, words))
        .collect();
    // A shell that waits for the bot is not the bot.
    let parents: BTreeSet<i32> = found.iter().map(|(process, _)| process.parent).collect();
    found.retain(|(process, words)| !(is_wrapper(words) && parents.contains(&process.pid)));
    found.sort_by_key(|(process, _)| process.pid);
    if found.is_empty() {
        return Vec::new();
    }
    let (named, roots, own) = (named(), workspaces(root, settings), cgroups(own_pid()));
    let seen = found.into_iter().filter_map(|(process, words)| {
        let pid = u32::try_from(process.pid).ok()?;
        let parent = Parent::of(&process);
        let supervisor = supervisor(&cgroups(process.pid), &own).or(parent.supervisor);
        // One that ended meanwhile, whose id may be another's by now, is left out.
        procfs::process(process.pid).filter(|now| now.started == process.started && now.lives())?;
        let in_workspace = is_in(&roots, process.pid, &words);
        // By the time since boot, so that a step of the clock makes nobody old.
        let started = now.minus(process.age());
        Some(BotProcess {
            pid,
            started_ticks: process.started,
            started,
            command: shown(&words),
            in_workspace,
            has_parent: parent.lives,
            supervisor,
            is_named: named.names(pid, started, in_workspace),
        })
    });
    seen.collect()
}

/// Whether a command line is the bot's.
pub(super) fn is_command(words: &Option<Vec<String>>, command: &str) -> bool {
    words.as_ref().is_some_and(|words| is_line(words, command))
}

/// Whether it holds the text that tells the bot, and is not that of a program which only looks at the bot's files.
fn is_line(words: &[String], command: &str) -> bool {
    if words.is_empty() || !words.join(" ").contains(command) {
        return false;
    }
    let script = words.iter().position(|word| word == "-c").and_then(|at| words.get(at + 1)).map(|script| {
        let first = script.split_ascii_whitespace().find(|word| *word != "exec").unwrap_or_default();
        program(first)
    });
    let shown_by = |name: &str| VIEWERS.contains(&name.to_ascii_lowercase().as_str());
    !(shown_by(program(&words[0])) || is_wrapper(words) && script.is_some_and(shown_by))
}

/// `tmux` of `/usr/bin/tmux: server`, `sh` of `-sh`.
fn program(word: &str) -> &str {
    let word = word.split([' ', ':']).next().unwrap_or(word);
    let name = word.rsplit('/').next().unwrap_or(word);
    name.strip_prefix('-').unwrap_or(name)
}

fn is_wrapper(words: &[String]) -> bool {
    words.first().is_some_and(|word| WRAPPERS.contains(&program(word)))
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// This process and those that started it.
fn lineage() -> BTreeSet<i32> {
    let mut own = BTreeSet::from([own_pid()]);
    let mut at = own_pid();
    for _ in 0..ANCESTORS_MAX {
        match procfs::process(at) {
            Some(process) if process.parent > 0 && own.insert(process.parent) => at = process.parent,
            _ => break,
        }
    }
    own
}

/// Whether it is another chiron, whose command line may hold the bot's: `chiron gate -- python bot.py`.
fn is_chiron(pid: i32, words: &[String]) -> bool {
    let program = words.first().and_then(|word| word.rsplit('/').next());
    let same = |path: String| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    let own = same("/proc/self/exe".to_owned());
    program == Some("chiron") || procfs::name(pid).as_deref() == Some("chiron") || {
        own.is_some() && same(format!("/proc/{pid}/exe")) == own
    }
}

/// The command line for people.
fn shown(words: &[String]) -> String {
    redact::line(&redact::arguments(words).join(" "), COMMAND_MAX)
}

/// What the parent says.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    /// It lives, and is none that adopts orphans.
    lives: bool,
    /// It looks after its children.
    supervisor: Option<String>,
}

impl Parent {
    fn of(process: &Process) -> Self {
        if process.parent == 0 {
            let who = if process.pid == 1 { "the container itself" } else { "a process outside of this container" };
            return Self { lives: true, supervisor: Some(who.to_owned()) };
        }
        let Some(parent) = procfs::process(process.parent) else {
            return Self::unseen(process);
        };
        let name = procfs::name(parent.pid).unwrap_or_default();
        let line = procfs::arguments(parent.pid).and_then(|words| words.into_iter().next()).unwrap_or_default();
        judge(process, &parent, (&name, &line), !procfs::is_first_namespace())
    }

    /// Of a parent that `/proc` does not show: it may be hidden, or has ended just now.
    fn unseen(process: &Process) -> Self {
        if let Some(now) = procfs::process(process.pid).filter(|now| now.parent != process.parent) {
            // It has been adopted meanwhile, and its next look at its parent tells more.
            return match now.parent {
                1 | 0 => Self::of(&now),
                _ => Self { lives: true, supervisor: None },
            };
        }
        let is_gone = Pid::from_raw(process.parent)
            .is_some_and(|parent| rustix::process::test_kill_process(parent) == Err(Errno::SRCH));
        Self { lives: !is_gone, supervisor: None }
    }
}

/// The same from what is known of both: the parent's name, and the first word of its command line. A parent that has ended but
/// still is one has threads that live.
fn judge(process: &Process, parent: &Process, (name, line): (&str, &str), is_container: bool) -> Parent {
    let program = line.rsplit('/').next().unwrap_or_default();
    // pm2 gives itself the name `PM2 v5.3.0: God Daemon`.
    if SUPERVISORS.contains(&name) || SUPERVISORS.contains(&program) || name.starts_with("PM2 ") {
        return Parent {
            lives: parent.pid != 1,
            supervisor: Some(format!("its parent `{name}`, process {}", parent.pid)),
        };
    }
    let is_reaper = parent.pid == 1 || REAPERS.contains(&name) || REAPERS.contains(&program);
    if !is_reaper {
        return Parent { lives: true, supervisor: None };
    }
    // One whose own parent is outside is a container's first process: what it has adopted belongs to the container, which
    // ends with it. A system's own init in a container looks after its units alone, as on a machine.
    let is_system = matches!(name, "systemd" | "init");
    let is_first = parent.parent == 0 && (parent.pid != 1 || is_container);
    // It may also not tell that it is in one: then by what it has started, at once or in its own session, which no process
    // leaves by losing its parent.
    let (first, begun) = (parent.began(), process.began());
    let is_own = parent.pid == 1 && (process.session == parent.session || begun.since(first) <= START_OF_CONTAINER);
    let looks_after = !is_system && (is_first || is_own);
    Parent { lives: false, supervisor: looks_after.then(|| format!("the container's first process, `{name}`")) }
}

/// The paths of its control groups, that of systemd and version 2 alone.
fn cgroups(pid: i32) -> Vec<String> {
    let text =
        procfs::read(pid, "cgroup").map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let path = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        matches!(controllers, "" | "name=systemd").then(|| path.to_owned())
    };
    text.lines().filter_map(path).collect()
}

/// The unit or container that owns a process by its control groups. `own` are those of chiron itself: the container that it
/// runs in says nothing about those beside it.
fn supervisor(cgroups: &[String], own: &[String]) -> Option<String> {
    if cgroups.is_empty() && !own.is_empty() {
        return Some("unknown: its control groups cannot be read".to_owned());
    }
    if let Some(container) = container(cgroups).filter(|found| container(own).as_ref() != Some(found)) {
        return Some(format!("container `{container}`"));
    }
    let unit = cgroups.iter().find_map(|path| {
        // The innermost service counts, its own subgroups included. A user's manager starts what nobody looks after.
        let service = path.rsplit('/').find(|part| part.ends_with(".service"))?;
        let looks_after = !service.starts_with("user@") && !LAUNCHERS.contains(&service);
        looks_after.then(|| service.to_owned())
    });
    unit.map(|unit| format!("unit `{unit}`"))
}

/// The container of these control groups, if it is one.
fn container(cgroups: &[String]) -> Option<String> {
    let is_id = |part: &str| part.len() >= 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_scope = |part: &str| {
        let scopes = ["docker-", "libpod-", "crio-", "cri-containerd-", "machine-"];
        part.ends_with(".scope") && scopes.iter().any(|scope| part.starts_with(scope))
    };
    let folders = ["docker", "lxc", "kubepods", "libpod_parent", "buildkit"];
    cgroups.iter().find_map(|path| {
        let parts: Vec<&str> = path.split('/').collect();
        let in_folder =
            |at: usize| at > 0 && parts[..at].iter().any(|part| folders.iter().any(|known| part.starts_with(known)));
        let found =
            parts.iter().enumerate().rev().find(|(at, part)| {
                is_scope(part) || part.starts_with("lxc.payload") || (is_id(part) && in_folder(*at))
            });
        found.map(|(_, part)| (*part).to_owned())
    })
}

/// Whether its working folder or an argument lies in the workspace.
fn is_in(roots: &[PathBuf], pid: i32, words: &[String]) -> bool {
    let below = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let folder = rustix::fs::readlink(format!("/proc/{pid}/cwd"), Vec::new());
    folder.is_ok_and(|path| below(Path::new(OsStr::from_bytes(path.to_bytes()))))
        || words.iter().any(|word| {
            let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
            [word.as_str(), value].iter().any(|path| below(Path::new(path)))
        })
}

/// What the files of a workspace say of its processes.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Named by a young heartbeat, lock or pid file.
    pids: BTreeSet<u32>,
    /// Named by a pid file of any age, and when that was written.
    kept: Vec<(u32, Timestamp)>,
    /// Some process writes a heartbeat that does not say which.
    has_nameless: bool,
}

impl Named {
    /// Whether a process that began then is named. A pid file speaks for the process that had begun when it was written.
    fn names(&self, pid: u32, began: Timestamp, in_workspace: bool) -> bool {
        self.pids.contains(&pid)
            || (self.has_nameless && in_workspace)
            || self.kept.iter().any(|(of, written)| *of == pid && began <= written.plus(holders::DOUBT))
    }
}

/// What heartbeats, locks and pid files say; `age` is how old one may be to speak for a process at all, pid files aside.
pub(super) fn named(
    root: &Root,
    entries: &BTreeMap<RelPath, Entry>,
    heartbeats: &BTreeSet<RelPath>,
    (locks, pid_files): (&Locks<'_>, &[RelPath]),
    (folders, age): (&[RelPath], Duration),
    now: Timestamp,
) -> Named {
    let mut named = Named::default();
    let is_young = |modified: Timestamp| now.since(modified) < age;
    let naming = |path: &RelPath| {
        if let Some(Entry::File(FileSeen { version, content: Some(content), .. })) = entries.get(path) {
            return Some((holders::naming(content), version.modified()));
        }
        let written = root.stat(path).ok()?.version.modified();
        let read = || root.read(path, NAMING_BYTES_MAX);
        // The bot writes it right now; once more.
        let read = match read() {
            Err(Trouble::Changed) => read().ok(),
            first => first.ok(),
        };
        Some((read.map_or(Naming::Nobody, |(content, _)| holders::naming(&content)), written))
    };
    for path in heartbeats {
        match naming(path).filter(|(_, written)| is_young(*written)) {
            Some((Naming::Process(pid), _)) => _ = named.pids.insert(pid),
            Some((Naming::Nobody, _)) => named.has_nameless = true,
            Some((Naming::Elsewhere, _)) | None => {}
        }
    }
    for path in locks.old.iter().chain(&locks.young).map(|(path, _)| *path) {
        if let Some((Naming::Process(pid), _)) = naming(path).filter(|(_, written)| is_young(*written)) {
            named.pids.insert(pid);
        }
    }
    let pid_files: BTreeSet<RelPath> = pid_files.iter().cloned().chain(pid_files_in(root, folders)).collect();
    for path in &pid_files {
        if let Some((Naming::Process(pid), written)) = naming(path) {
            named.kept.push((pid, written));
            named.pids.extend(is_young(written).then_some(pid));
        }
    }
    named
}

/// The pid files directly in the workspace and in these folders.
fn pid_files_in(root: &Root, folders: &[RelPath]) -> Vec<RelPath> {
    let mut found = Vec::new();
    for folder in std::iter::once(None).chain(folders.iter().map(Some)) {
        let Some(mut dir) = root.open_folder(folder).ok().and_then(|fd| Dir::new(fd).ok()) else { continue };
        let names = std::iter::from_fn(|| dir.read()).take(NAMES_MAX).map_while(Result::ok);
        found.extend(names.filter(|entry| entry.file_type() != FileType::Directory).filter_map(|entry| {
            let name = entry.file_name().to_str().ok().filter(|name| name.ends_with(".pid"))?;
            RelPath::parse(&folder.map_or_else(|| name.to_owned(), |folder| format!("{folder}/{name}"))).ok()
        }));
    }
    found
}

/// Whether something looks after what this process leaves behind: the unit it runs in, or its container's first process.
#[cfg(test)]
pub(super) fn tests_are_owned() -> bool {
    let own = cgroups(own_pid());
    supervisor(&own, &own).is_some() || !procfs::is_first_namespace()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "starts a process that ends")]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32, started: u64) -> Process {
        Process { pid, state: b'S', parent, group: pid, session, started }
    }

    /// WSP-2: who looks after a process is told by the parent; who only adopts it is none.
    #[test]
    fn parents_are_judged() {
        let late = 100_000;
        let (host, container) = (false, true);
        for (name, line, (parent, above), session, started, place, lives, supervised) in [
            ("bash", "-bash", (50, 1), 50, late, host, true, false),
            ("tmux: server", "tmux", (50, 1), 60, late, host, true, false),
            ("systemd", "/lib/systemd/systemd", (50, 1), 60, late, host, false, false),
            ("systemd", "/sbin/init", (1, 0), 60, late, host, false, false),
            ("systemd", "/sbin/init", (1, 0), 1, 0, host, false, false),
            ("systemd", "/sbin/init", (1, 0), 60, late, container, false, false),
            ("tini", "/usr/bin/tini", (1, 0), 60, late, host, false, false),
            ("tini", "/usr/bin/tini", (1, 0), 60, late, container, false, true),
            ("tini", "/usr/bin/tini", (50, 0), 60, late, host, false, true),
            ("tini", "/usr/bin/tini", (50, 40), 60, late, host, false, false),
            ("tini", "/usr/bin/tini", (1, 0), 1, late, host, false, true),
            ("dumb-init", "dumb-init", (1, 0), 60, 100, host, false, true),
            ("sh", "/entrypoint.sh", (1, 0), 1, late, host, false, true),
            ("sh", "/entrypoint.sh", (1, 0), 60, late, host, false, false),
            ("sh", "/entrypoint.sh", (1, 0), 60, late, container, false, true),
            ("supervisord", "/usr/bin/python3", (50, 1), 60, late, host, true, true),
            ("python3", "/usr/bin/supervisord", (50, 1), 60, late, host, true, true),
            ("supervisord", "/usr/bin/python3", (1, 0), 60, late, host, false, true),
            ("runsv", "runsv", (50, 1), 60, late, host, true, true),
            ("containerd-shim", "/usr/bin/containerd-shim-runc-v2", (50, 1), 60, late, host, true, true),
            ("PM2 v5.3.0: God", "PM2 v5.3.0: God Daemon (/root/.pm2)", (50, 1), 60, late, host, true, true),
            ("chiron", "/usr/bin/chiron", (50, 1), 60, late, host, true, true),
            ("monitor.sh", "sh", (50, 1), 60, late, host, true, false),
        ] {
            let above = process(parent, above, parent, 0);
            let found = judge(&process(70, parent, session, started), &above, (name, line), place);
            assert_eq!(
                (found.lives, found.supervisor.is_some()),
                (lives, supervised),
                "{name} {line} {session} {place}: {found:?}"
            );
        }
    }

    /// WSP-2: a parent that cannot be seen lives, unless the kernel says that there is none.
    #[test]
    fn unseen_parents_live() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let gone = i32::try_from(child.id()).unwrap();
        // No process has this id, so none is found to have been adopted.
        assert!(!Parent::unseen(&process(i32::MAX, gone, 1, 0)).lives);
        assert!(Parent::unseen(&process(i32::MAX, 1, 1, 0)).lives);
    }

    /// WSP-2: programs that look at the bot's files are not the bot; nor is a shell of them.
    #[test]
    fn those_who_look_are_not_the_bot() {
        let words = |line: &str| line.split('|').map(str::to_owned).collect::<Vec<_>>();
        for (line, is_bot) in [
            ("python3|/srv/bot/bot.py", true),
            ("/srv/bot/bot.py|--live", true),
            ("sh|-c|python3 bot.py", true),
            ("-bash|-c|exec ./bot.py", true),
            ("tail|-f|/srv/bot/bot.py.log", false),
            ("/usr/bin/vim|bot.py", false),
            ("grep|-r|bot.py|.", false),
            ("ssh|host|python3 bot.py", false),
            ("tmux: server|new|python3 bot.py", false),
            ("SCREEN|-dm|python3|bot.py", false),
            ("sh|-c|tail -f bot.py.log", false),
            ("bash|-c|exec less bot.py", false),
            ("python3|-c|tail bot.py", true),
            ("python3|other.py", false),
        ] {
            assert_eq!(is_line(&words(line), "bot.py"), is_bot, "{line}");
        }
        assert!(!is_line(&[], "bot.py"));
    }

    /// WSP-2: a pid file speaks for the process that had begun when it was written; a heartbeat without an id for all.
    #[test]
    fn files_name_processes() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let named = Named { pids: BTreeSet::from([1]), kept: vec![(2, at(10_000))], has_nameless: false };
        assert!(named.names(1, at(50_000), false));
        assert!(named.names(2, at(9_000), false) && named.names(2, at(10_600), false));
        assert!(!named.names(2, at(10_601), false) && !named.names(3, at(0), true));
        let nameless = Named { has_nameless: true, ..Named::default() };
        assert!(nameless.names(3, at(0), true) && !nameless.names(3, at(0), false));
    }

    /// WSP-2: a service or another container owns its processes; a user's manager, a session, cron and chiron's own
    /// container do not.
    #[test]
    fn control_groups_name_the_owner() {
        let id = "4a7c0ddf981d5d455656bac3e663a03b4a7c0ddf981d5d455656bac3e663a03b";
        let (scope, folder) = (format!("/system.slice/docker-{id}.scope"), format!("/docker/{id}"));
        let pod = format!("/kubepods/besteffort/pod1/{id}");
        let inner = format!("/docker/{id}/system.slice/bot.service");
        for (path, own, expected) in [
            ("/system.slice/bot.service", "/", Some("unit `bot.service`")),
            ("/system.slice/bot.service/worker", "/", Some("unit `bot.service`")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/bot.service", "/", Some("unit `bot.service`")),
            ("/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope", "/", None),
            ("/user.slice/user-1000.slice/user@1000.service", "/", None),
            ("/user.slice/user-1000.slice/session-3.scope", "/", None),
            ("/system.slice/cron.service", "/", None),
            ("/init.scope", "/", None),
            ("/", "/", None),
            (&scope, "/", Some(&*format!("container `docker-{id}.scope`"))),
            (&folder, "/", Some(&*format!("container `{id}`"))),
            (&pod, "/", Some(&*format!("container `{id}`"))),
            (&scope, &scope, None),
            (&folder, &folder, None),
            (&inner, &folder, Some("unit `bot.service`")),
            (&format!("/{id}"), "/", None),
        ] {
            let found = supervisor(&[path.to_owned()], &[own.to_owned()]);
            assert_eq!(found.as_deref(), expected, "{path} beside {own}");
        }
        assert!(supervisor(&[], &["/".to_owned()]).is_some());
        assert_eq!(supervisor(&[], &[]), None);
    }

    /// SEC-3: a command line is shown without secrets, and not whole if it is long.
    #[test]
    fn command_lines_are_shown_without_secrets() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(shown(&words("python bot.py --token=scan-canary -v")), "python bot.py --token=<redacted> -v");
        assert_eq!(shown(&words("bot redis://u:scan-canary@h/0")), "bot redis://***@h/0");
        let long = shown(&words(&"x ".repeat(COMMAND_MAX)));
        assert_eq!(long.chars().count(), COMMAND_MAX + 3);
    }

    /// WSP-2: neither this process nor any that started it is ever taken for the bot.
    #[test]
    fn chiron_is_not_the_bot() {
        let own = lineage();
        assert!(own.contains(&own_pid()) && own.contains(&procfs::process(own_pid()).unwrap().parent));
        assert!(is_chiron(own_pid(), &[]) && is_chiron(i32::MAX, &["/usr/bin/chiron".to_owned()]));
        assert!(!is_chiron(1, &["/sbin/init".to_owned()]));
    }
}
