//! The bot's processes, and what speaks for each of them: parent, supervisor, a file that names it.
//!
//! **Invariant:** reads only; chiron itself and those that started it are never the bot's; what cannot be read counts for the
//! process, so that nobody is taken for an orphan by mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{BotProcess, Entry, FileSeen, Locks, workspaces};
use crate::base::procfs::{self, Process};
use crate::base::redact;
use crate::model::Timestamp;
use crate::workspace::Settings;
use crate::workspace::holders;
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

/// Every process whose command line is the bot's. `named` gives the ids that young files of the workspace name; it is
/// asked only if there is such a process.
pub(super) fn of_bot(root: &Root, settings: &Settings, named: impl Fn() -> BTreeSet<u32>) -> Vec<BotProcess> {
    let Some(bot) = settings.layout.bot.as_ref().filter(|bot| !bot.command.trim().is_empty()) else {
        return Vec::new();
    };
    let own = lineage();
    let mut found: Vec<(Process, Vec<String>)> = procfs::all()
        .filter(|process| process.lives() && !own.contains(&process.pid))
        .filter_map(|process| Some((process, procfs::arguments(process.pid)?)))
        .filter(|(process, words)| is_line(words, &bot.command) && !is_chiron(process.pid, words))
        .collect();
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
        let still = procfs::process(process.pid).filter(|now| now.started == process.started && now.lives());
        still.map(|_| BotProcess {
            pid,
            started_ticks: process.started,
            started: process.began(),
            command: shown(&words),
            in_workspace: is_in(&roots, process.pid, &words),
            has_parent: parent.lives,
            supervisor,
            is_named: named.contains(&pid),
        })
    });
    seen.collect()
}

/// Whether a command line holds the text that tells the bot.
pub(super) fn is_command(words: &Option<Vec<String>>, command: &str) -> bool {
    words.as_ref().is_some_and(|words| is_line(words, command))
}

fn is_line(words: &[String], command: &str) -> bool {
    !words.is_empty() && words.join(" ").contains(command)
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
        let Some(parent) = procfs::process(process.parent).filter(Process::lives) else {
            // It ended just now, and the process has been adopted.
            return Self { lives: false, supervisor: None };
        };
        let name = procfs::name(parent.pid).unwrap_or_default();
        let line = procfs::arguments(parent.pid).and_then(|words| words.into_iter().next()).unwrap_or_default();
        judge(process, &parent, &name, &line)
    }
}

/// The same from what is known of both. `line` is the first word of the parent's command line.
fn judge(process: &Process, parent: &Process, name: &str, line: &str) -> Parent {
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
    // In a container process 1 may be the very one that has started the bot: then at once, or in its own session, which no
    // process leaves by losing its parent.
    let is_host = matches!(name, "systemd" | "init");
    let (first, begun) = (parent.began(), process.began());
    let is_own =
        parent.pid == 1 && !is_host && (process.session == parent.session || begun.since(first) <= START_OF_CONTAINER);
    Parent { lives: false, supervisor: is_own.then(|| format!("the container's first process, `{name}`")) }
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

/// The ids that heartbeats, locks and pid files name which are not older than `age`.
pub(super) fn named(
    root: &Root,
    entries: &BTreeMap<RelPath, Entry>,
    heartbeats: &BTreeSet<RelPath>,
    (locks, pid_files): (&Locks, &[RelPath]),
    age: Duration,
    now: Timestamp,
) -> BTreeSet<u32> {
    let is_young = |modified: Timestamp| now.since(modified) < age;
    let pid = |path: &RelPath| {
        if let Some(Entry::File(FileSeen { version, content: Some(content), .. })) = entries.get(path) {
            return is_young(version.modified()).then(|| holders::named_in(content)).flatten();
        }
        let young = root.stat(path).is_ok_and(|seen| is_young(seen.version.modified()));
        match young.then(|| root.read(path, NAMING_BYTES_MAX)) {
            Some(Ok((content, _))) => holders::named_in(&content),
            // The bot writes it right now; once more.
            Some(Err(Trouble::Changed)) => {
                root.read(path, NAMING_BYTES_MAX).ok().and_then(|(content, _)| holders::named_in(&content))
            }
            _ => None,
        }
    };
    heartbeats.iter().chain(locks.old.keys()).chain(&locks.young).chain(pid_files).filter_map(pid).collect()
}

/// The unit that this process runs in, which owns what it has started.
#[cfg(test)]
pub(super) fn owner_of_tests() -> Option<String> {
    let own = cgroups(own_pid());
    supervisor(&own, &own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32, started: u64) -> Process {
        Process { pid, state: b'S', parent, group: pid, session, started }
    }

    /// WSP-2: who looks after a process is told by the parent; who only adopts it is none.
    #[test]
    fn parents_are_judged() {
        let late = 100_000;
        for (name, line, parent, session, started, lives, supervised) in [
            ("bash", "-bash", 50, 50, late, true, false),
            ("tmux: server", "tmux", 50, 60, late, true, false),
            ("systemd", "/lib/systemd/systemd", 50, 60, late, false, false),
            ("systemd", "/sbin/init", 1, 60, late, false, false),
            ("systemd", "/sbin/init", 1, 1, 0, false, false),
            ("tini", "/usr/bin/tini", 1, 60, late, false, false),
            ("tini", "/usr/bin/tini", 1, 1, late, false, true),
            ("dumb-init", "dumb-init", 1, 60, 100, false, true),
            ("sh", "/entrypoint.sh", 1, 1, late, false, true),
            ("sh", "/entrypoint.sh", 1, 60, late, false, false),
            ("supervisord", "/usr/bin/python3", 50, 60, late, true, true),
            ("python3", "/usr/bin/supervisord", 50, 60, late, true, true),
            ("supervisord", "/usr/bin/python3", 1, 60, late, false, true),
            ("runsv", "runsv", 50, 60, late, true, true),
            ("containerd-shim", "/usr/bin/containerd-shim-runc-v2", 50, 60, late, true, true),
            ("PM2 v5.3.0: God", "PM2 v5.3.0: God Daemon (/root/.pm2)", 50, 60, late, true, true),
            ("chiron", "/usr/bin/chiron", 50, 60, late, true, true),
            ("monitor.sh", "sh", 50, 60, late, true, false),
        ] {
            let found = judge(&process(70, parent, session, started), &process(parent, 0, parent, 0), name, line);
            assert_eq!(
                (found.lives, found.supervisor.is_some()),
                (lives, supervised),
                "{name} {line} {session}: {found:?}"
            );
        }
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
