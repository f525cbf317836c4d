//! What `/proc` says about processes: just enough to know a group's members, to recognise a process again, and to tell
//! whose child it is.
//!
//! Where it sits: below `execute`, which signals processes, and `workspace`, which looks for the bot's.
//! **Invariant:** reads only; a process that vanishes while it is looked at is absent, never an error.
#![expect(clippy::disallowed_methods, reason = "reads /proc, every read bounded")]

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use super::clock::Clock;
use crate::model::Timestamp;

/// Larger than any sane command line or environment; what is longer is not recognised.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Clock ticks per second in `/proc`: 100 wherever Linux runs today.
const TICKS: u64 = 100;

/// One process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// `R`, `S`, `D`, `Z`, ...
    pub state: u8,
    /// Its parent's id; 0 if that is outside of what this process can see.
    pub parent: i32,
    /// The process group's id.
    pub group: i32,
    /// The session's id.
    pub session: i32,
    /// Clock ticks from boot to its start; with the pid it identifies a process. Survives an `exec`.
    pub started: u64,
}

impl Process {
    /// Neither ended nor waiting to be reaped.
    pub const fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// When it began, by the host's clock as it is set now.
    pub fn began(&self) -> Timestamp {
        Clock::system().now().minus(self.age())
    }

    /// How long ago it began, however the host's clock was set meanwhile.
    pub fn age(&self) -> Duration {
        let begun = Duration::from_millis(self.started.saturating_mul(1000 / TICKS));
        Clock::system().since_boot().saturating_sub(begun)
    }
}

/// Whose files a process may write, and its ids, as `/proc/PID/status` has them for everybody to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its effective user.
    pub user: u32,
    /// Its effective group and all others it is in.
    pub groups: Vec<u32>,
    /// Its id in the innermost namespace of ids that it is in: 1 for the first process of a container.
    pub inner_pid: i32,
}

/// The process of that id, if there is one.
pub fn process(pid: i32) -> Option<Process> {
    parse_stat(pid, &read(pid, "stat")?)
}

/// Every process that this one can see.
pub fn all() -> impl Iterator<Item = Process> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(process)
}

/// Whether any member of the group still runs.
pub fn group_lives(group: i32) -> bool {
    all().any(|process| process.group == group && process.lives())
}

/// A file of `/proc/PID`, `None` if it cannot be read or is too long.
pub fn read(pid: i32, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{name}")).ok()?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes)
}

/// The name that the kernel keeps, at most 15 bytes, as it can be shown.
pub fn name(pid: i32) -> Option<String> {
    let bytes = read(pid, "comm")?;
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned();
    Some(text.replace(char::is_control, "?"))
}

/// The words of a command line; none for a kernel's thread.
pub fn arguments(pid: i32) -> Option<Vec<String>> {
    let bytes = read(pid, "cmdline")?;
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    Some(bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// The user that a process runs as.
pub fn user(pid: i32) -> Option<u32> {
    status(pid).map(|status| status.user)
}

/// Whose files a process may write, and its ids.
pub fn status(pid: i32) -> Option<Status> {
    parse_status(pid, &String::from_utf8_lossy(&read(pid, "status")?))
}

fn parse_status(pid: i32, text: &str) -> Option<Status> {
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(rest.split_ascii_whitespace())
    };
    // Real, effective, saved, file system: whose files it could write counts.
    let user = field("Uid")?.nth(1)?.parse().ok()?;
    let group = field("Gid")?.nth(1)?.parse().ok()?;
    let others = field("Groups").into_iter().flatten().filter_map(|word| word.parse().ok());
    let groups = std::iter::once(group).chain(others).collect();
    let inner_pid = field("NSpid").and_then(|mut ids| ids.next_back()?.parse().ok()).unwrap_or(pid);
    Some(Status { user, groups, inner_pid })
}

/// Whether this process is in the machine's first namespace of process ids, so that every process of it can be seen. `false` in
/// a container of its own, and when that cannot be told.
pub fn is_first_namespace() -> bool {
    // `PROC_PID_INIT_INO` of the kernel, the same on every machine.
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]")
}

/// The fields after the command's name, which is in brackets and may itself contain brackets and blanks.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some(Process { pid, state, parent, group, session, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_hostile_name() {
        let line = b"42 (a) Z 1 (b)) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200\n";
        let expected = Process { pid: 42, state: b'S', parent: 1, group: 40, session: 39, started: 987_654 };
        assert_eq!(parse_stat(42, line), Some(expected));
        for broken in [&b""[..], b"42 (x", b"42 (x) S 1 2", b"42 (x) S a b c d", b"42 (\xff) \xff"] {
            assert_eq!(parse_stat(42, broken), None);
        }
    }

    #[test]
    fn a_status_tells_user_groups_and_inner_id() {
        let text = "Name:\tx\nUid:\t1\t1000\t1\t1\nGid:\t2\t1001\t2\t2\nGroups:\t27 30 \nNSpid:\t4711\t7\n";
        let expected = Status { user: 1000, groups: vec![1001, 27, 30], inner_pid: 7 };
        assert_eq!(parse_status(4711, text), Some(expected));
        let short = "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n";
        assert_eq!(parse_status(9, short), Some(Status { user: 0, groups: vec![0], inner_pid: 9 }));
        assert_eq!(parse_status(9, "Name:\tx\n"), None);
    }

    #[test]
    fn this_process_is_found_alive() {
        let me = i32::try_from(std::process::id()).unwrap();
        let found = process(me).unwrap();
        assert!(found.lives() && found.pid == me);
        assert!(all().any(|process| process.pid == me));
        assert!(group_lives(found.group));
        assert_eq!(found.parent, i32::try_from(std::os::unix::process::parent_id()).unwrap());
        let words: Vec<String> = std::env::args().collect();
        assert_eq!(arguments(me), Some(words));
        assert!(found.began() <= Clock::system().now());
        assert_eq!(user(me), Some(rustix::process::geteuid().as_raw()));
        assert_eq!((process(i32::MAX), arguments(i32::MAX)), (None, None));
    }
}
