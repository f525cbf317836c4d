//! Who holds a file: locks of the kernel, open descriptors, the process whose id stands in it.
//!
//! A lock of the kernel is looked for in two ways: `/proc/locks` names it, and taking it for an instant proves that nobody has one,
//! also nobody in another container, whose locks `/proc/locks` does not show.
//! **Invariant:** reads only, never waits; what cannot be found out is never "nobody".
#![expect(clippy::disallowed_methods, reason = "reads /proc")]

mod inside;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use self::inside::Inside;
use super::layout::RelPath;
use super::root::{Root, Trouble};
use super::scan::{Holder, Version};
use crate::base::{files, procfs};

/// A process that began this much after a file was written cannot be the one whose id was written. Start times are
/// counted in hundredths of a second, and a file's time in ticks of the kernel.
const TOLERANCE: Duration = Duration::from_secs(1);
/// Longer than any sane table of locks: about 200,000 of them.
const LOCKS_BYTES_MAX: u64 = 16 << 20;
/// Holders that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// Which file: its file system and its number there.
pub(super) type FileId = (u64, u64);

/// Processes that have the file open for writing, as far as this process may see: `process 4711 (python3)`. A file that
/// is open for writing is not replaced. `inode` and `device` tell the file.
pub fn writers(device: u64, inode: u64) -> Result<Vec<String>, String> {
    let open = Open::of(&BTreeSet::from([(device, inode)]));
    let by = open.by.get(&(device, inode)).map(Vec::as_slice).unwrap_or_default();
    Ok(by.iter().filter(|by| by.writes).map(|by| shown(by.pid)).collect())
}

/// Processes that have the file open at all, to read too: a lock file is open before it is locked.
pub fn openers(device: u64, inode: u64) -> Result<Vec<String>, String> {
    let open = Open::of(&BTreeSet::from([(device, inode)]));
    let by = open.by.get(&(device, inode)).map(Vec::as_slice).unwrap_or_default();
    Ok(by.iter().map(|by| shown(by.pid)).collect())
}

/// Whether a lock of the kernel is on the file, which none is if one can be taken on it now.
pub fn is_locked(root: &Root, path: &RelPath) -> Result<bool, String> {
    let file = match root.open_file(path) {
        Ok(file) => file,
        // Somebody has a lease on it: opening it would have to wait.
        Err(Trouble::System(Errno::AGAIN)) => return Ok(true),
        Err(Trouble::System(Errno::ACCESS | Errno::PERM)) => {
            let seen = root.stat(path).map_err(|trouble| trouble.to_string())?;
            return match listed(seen.version.device, seen.version.inode)?.is_empty() {
                true => Err("it may not be read, so no lock can be tried on it".to_owned()),
                false => Ok(true),
            };
        }
        Err(trouble) => return Err(trouble.to_string()),
    };
    let stat = rustix::fs::fstat(&file).map_err(|errno| errno.to_string())?;
    // Asked first: it disturbs nobody.
    let witness = listed(stat.st_dev, stat.st_ino);
    if witness.as_ref().is_ok_and(|held| !held.is_empty()) {
        return Ok(true);
    }
    probe(&file, witness.is_ok())
}

/// Tries both kinds of locks, for an instant. `has_witness`: no lock of this file is listed, so one that cannot be tried is not
/// there either, as far as this system goes.
fn probe(file: &File, has_witness: bool) -> Result<bool, String> {
    // A lock that excludes everybody needs a descriptor to write through, on some file systems for `flock` too. Nothing
    // is written, and the file's times stay.
    let name = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let writable: Result<OwnedFd, Errno> = rustix::fs::open(name.as_str(), flags, Mode::empty());
    let tried = match &writable {
        Ok(writable) => {
            let posix = tried(rustix::fs::fcntl_lock(writable, FlockOperation::NonBlockingLockExclusive));
            posix.and_then(|held| {
                Ok(held || tried(rustix::fs::flock(writable, FlockOperation::NonBlockingLockExclusive))?)
            })
        }
        Err(Errno::AGAIN) => return Ok(true),
        Err(errno) if has_witness => {
            // Against those who write, a lock to read will do; those who only read are in the table.
            let posix = tried(rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockShared));
            let both = posix
                .and_then(|held| Ok(held || tried(rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive))?));
            both.map_err(|_| *errno)
        }
        Err(errno) => Err(*errno),
    };
    tried.map_err(|errno| format!("no lock can be tried on it: {}", std::io::Error::from(errno)))
}

/// Whether somebody else has the lock that was asked for.
fn tried(answer: Result<(), Errno>) -> Result<bool, Errno> {
    match answer {
        Ok(()) => Ok(false),
        Err(Errno::AGAIN | Errno::ACCESS) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Processes that hold a lock on the file by the kernel's table, 0 for one without a process of its own.
fn listed(device: u64, inode: u64) -> Result<Vec<u32>, String> {
    let path = Path::new("/proc/locks");
    let (bytes, _) =
        files::read_bounded(path, LOCKS_BYTES_MAX).map_err(|problem| format!("`/proc/locks`: {problem}"))?;
    Ok(listed_in(&String::from_utf8_lossy(&bytes), device, inode))
}

/// The same from the table's text: `1: POSIX  ADVISORY  WRITE 708 08:01:1234 0 EOF`, `1: -> ...` for one who waits.
fn listed_in(table: &str, device: u64, inode: u64) -> Vec<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let of = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().skip(1).filter(|word| *word != "->").collect();
        let [_, _, _, pid, file, ..] = *words else { return None };
        let mut parts = file.split(':');
        let hex = |part: Option<&str>| u32::from_str_radix(part?, 16).ok();
        let (of_major, of_minor) = (hex(parts.next())?, hex(parts.next())?);
        let is_file = parts.next()?.parse() == Ok(inode);
        // File systems without a device of their own (btrfs, overlays) say one thing to `stat` and another here.
        let is_there = (of_major, of_minor) == (major, minor) || of_major == 0 || major == 0;
        (is_file && is_there).then(|| pid.parse().unwrap_or(0))
    };
    table.lines().filter_map(of).collect()
}

/// A descriptor of some process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenBy {
    pid: i32,
    writes: bool,
}

/// Who has which file open, as far as this process may see.
#[derive(Debug, Default)]
pub(super) struct Open {
    by: BTreeMap<FileId, Vec<OpenBy>>,
    /// Users with a process that may not be looked into.
    unseen: BTreeSet<u32>,
    /// Processes of other users are not even listed (`hidepid`).
    hides: bool,
}

impl Open {
    /// Looks through the descriptors of every process but this one, once for all these files.
    pub(super) fn of(files: &BTreeSet<FileId>) -> Self {
        let mut open = Self { hides: !Path::new("/proc/1/stat").exists(), ..Self::default() };
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        for pid in procfs::all().filter(|process| process.lives() && process.pid != own).map(|process| process.pid) {
            let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
                // One that has ended meanwhile has no user any more.
                open.unseen.extend(procfs::user(pid));
                continue;
            };
            for entry in entries.flatten() {
                // Never asks a server that does not answer.
                let flags = AtFlags::STATX_DONT_SYNC;
                let Ok(stat) = rustix::fs::statx(CWD, entry.path(), flags, StatxFlags::INO) else { continue };
                let file = (rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino);
                if files.contains(&file) {
                    let writes = writes(pid, &entry.file_name().to_string_lossy());
                    let by = open.by.entry(file).or_default();
                    match by.iter_mut().find(|by| by.pid == pid) {
                        Some(by) => by.writes |= writes,
                        None => by.push(OpenBy { pid, writes }),
                    }
                }
            }
        }
        open
    }
}

/// Whether a descriptor was opened for writing; one that cannot be asked counts as such.
fn writes(pid: i32, descriptor: &str) -> bool {
    let Some(bytes) = procfs::read(pid, &format!("fdinfo/{descriptor}")) else { return true };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let flags = text.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    // `O_WRONLY` and `O_RDWR`; a path alone (`O_PATH`) says neither.
    flags.is_none_or(|flags| flags & 0o3 != 0)
}

/// A process with its name.
pub(super) fn shown(pid: i32) -> String {
    match procfs::name(pid) {
        Some(name) => format!("process {pid} ({name})"),
        None => format!("process {pid}"),
    }
}

/// Who holds a lock file. `content` is what stands in it, `None` if it was too large; `is_bot` tells whether a command line
/// is the bot's.
pub(super) fn holder(
    root: &Root,
    path: &RelPath,
    (version, content): (&Version, Option<&[u8]>),
    open: &Open,
    is_bot: impl Fn(i32) -> bool,
) -> Holder {
    match is_locked(root, path) {
        Ok(false) => {}
        Ok(true) => return Holder::Process(locked_by(version)),
        Err(why) => return Holder::Unknown(why),
    }
    if let Some(by) = open.by.get(&(version.device, version.inode)) {
        return Holder::Process(format!("{} (it has the file open)", several(by.iter().map(|by| by.pid))));
    }
    let Some(content) = content else {
        return Holder::Unknown("it is too large, or may not be read, to see whose id stands in it".to_owned());
    };
    match inside::inside(content) {
        Inside::Nobody => {}
        Inside::Unclear(why) => return Holder::Unknown(why),
        Inside::Process { pid, host } => match named(pid, host.as_deref(), version, is_bot) {
            Holder::Nobody => {}
            held => return held,
        },
    }
    if open.unseen.contains(&version.uid) {
        let uid = version.uid;
        return Holder::Unknown(format!(
            "a process of its owner, user {uid}, may not be looked into, and may have it open"
        ));
    }
    if open.hides && rustix::process::geteuid().as_raw() != version.uid {
        return Holder::Unknown("the system hides the processes of other users, its owner is another user".to_owned());
    }
    Holder::Nobody
}

/// Who has the kernel's lock, if the table tells.
fn locked_by(version: &Version) -> String {
    let pids = listed(version.device, version.inode).unwrap_or_default();
    let pids: BTreeSet<i32> =
        pids.into_iter().filter_map(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0).collect();
    match pids.is_empty() {
        true => "a process that cannot be seen (it has a lock of the kernel on the file)".to_owned(),
        false => format!("{} (it has a lock of the kernel on the file)", several(pids.into_iter())),
    }
}

fn several(pids: impl Iterator<Item = i32>) -> String {
    let pids: Vec<i32> = pids.collect();
    let named: Vec<String> = pids.iter().take(NAMED_MAX).map(|pid| shown(*pid)).collect();
    let more = pids.len().saturating_sub(NAMED_MAX);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// Whether the process whose id stands in a file still is the one that was meant.
fn named(pid: u32, host: Option<&str>, version: &Version, is_bot: impl Fn(i32) -> bool) -> Holder {
    if let Some(host) = host.filter(|host| !is_own(host)) {
        let own = own_host();
        return Holder::Unknown(format!("it names process {pid} of host `{host}`, and this is `{own}`"));
    }
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Holder::Nobody };
    let pid = id.as_raw_nonzero().get();
    match procfs::process(pid) {
        Some(process) if !process.lives() => Holder::Nobody,
        Some(process) if process.began() <= version.modified().plus(TOLERANCE) => {
            Holder::Process(format!("{} (its id stands in the file)", shown(pid)))
        }
        // Another process has the id now. One of the bot gets the benefit of the doubt: the host's clock may have been
        // set forward since the file was written.
        Some(_) if is_bot(pid) => {
            Holder::Unknown(format!("{} began after the file was written, but is a process of the bot", shown(pid)))
        }
        Some(_) => Holder::Nobody,
        None => match rustix::process::test_kill_process(id) {
            Err(Errno::SRCH) => Holder::Nobody,
            _ => Holder::Unknown(format!("process {pid}, whose id stands in it, is there but cannot be seen")),
        },
    }
}

/// This machine's name.
fn own_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a name means this machine: its name, with or without its domain.
pub(super) fn is_own(host: &str) -> bool {
    let own = own_host().to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let label = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let is_short = !host.contains('.') || !own.contains('.');
    matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1")
        || host == own
        || (is_short && label(&host) == label(&own))
}

/// The process of this host that a text names, if it names one.
pub(super) fn named_in(content: &[u8]) -> Option<u32> {
    match inside::inside(content) {
        Inside::Process { pid, host } if host.as_deref().is_none_or(is_own) => Some(pid),
        _ => None,
    }
}
