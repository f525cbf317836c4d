//! What `/proc` says about processes: just enough to know a group's members and to recognise a process again.
//!
//! **Invariant:** reads only; a process that vanishes while it is looked at is absent, never an error.
#![expect(clippy::disallowed_methods, reason = "reads /proc, every read bounded")]

use std::fs::File;
use std::io::Read;

/// Larger than any sane command line or environment; what is longer is not recognised.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// One process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: i32,
    /// `R`, `S`, `D`, `Z`, ...
    pub(super) state: u8,
    /// The process group's id.
    pub(super) group: i32,
    /// The session's id.
    pub(super) session: i32,
    /// Clock ticks from boot to its start; with the pid it identifies a process. Survives an `exec`.
    pub(super) started: u64,
}

impl Process {
    /// Neither ended nor waiting to be reaped.
    pub(super) const fn lives(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// The process of that id, if there is one.
pub(super) fn process(pid: i32) -> Option<Process> {
    parse_stat(pid, &read(pid, "stat")?)
}

/// Every process that this one can see.
pub(super) fn all() -> impl Iterator<Item = Process> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(process)
}

/// Whether any member of the group still runs.
pub(super) fn group_lives(group: i32) -> bool {
    all().any(|process| process.group == group && process.lives())
}

/// A file of `/proc/PID`, `None` if it cannot be read or is too long.
pub(super) fn read(pid: i32, name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(format!("/proc/{pid}/{name}")).ok()?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes)
}

/// The name that the kernel keeps, at most 15 bytes, as it can be shown.
pub(super) fn name(pid: i32) -> Option<String> {
    let bytes = read(pid, "comm")?;
    let text = String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned();
    Some(text.replace(char::is_control, "?"))
}

/// The user that a process runs as.
pub(super) fn user(pid: i32) -> Option<u32> {
    let status = String::from_utf8(read(pid, "status")?).ok()?;
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    // Real, effective, saved, file system: whose files it could write counts.
    ids.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The fields after the command's name, which is in brackets and may itself contain brackets and blanks.
fn parse_stat(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let group = fields.nth(1)?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let started = fields.nth(15)?.parse().ok()?;
    Some(Process { pid, state, group, session, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_hostile_name() {
        let line = b"42 (a) Z 1 (b)) S 1 40 39 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 100 200\n";
        let expected = Process { pid: 42, state: b'S', group: 40, session: 39, started: 987_654 };
        assert_eq!(parse_stat(42, line), Some(expected));
        for broken in [&b""[..], b"42 (x", b"42 (x) S 1 2", b"42 (x) S a b c d", b"42 (\xff) \xff"] {
            assert_eq!(parse_stat(42, broken), None);
        }
    }

    #[test]
    fn this_process_is_found_alive() {
        let me = i32::try_from(std::process::id()).unwrap();
        let found = process(me).unwrap();
        assert!(found.lives() && found.pid == me);
        assert!(all().any(|process| process.pid == me));
        assert!(group_lives(found.group));
        assert_eq!(process(i32::MAX), None);
    }
}
