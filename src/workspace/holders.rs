//! Who holds a file: locks of the kernel, open descriptors, memory, the process whose id stands in it.
//!
//! ```text
//!  locks: /proc/locks, F_GETLK ---------+
//!  open: descriptors and mappings ------+--> holder, writers, openers
//!  inside: whose id stands in the file -+
//! ```
//!
//! **Invariant:** reads only, never waits; what cannot be found out is never "nobody".
#![expect(clippy::disallowed_methods, reason = "reads /proc")]

mod inside;
mod locks;
mod open;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use self::inside::Inside;
pub use self::locks::is_locked;
use self::locks::{Table, is_seen_locked};
use self::open::{Open, Unseen, WITHIN};
use super::layout::RelPath;
use super::root::Root;
use super::scan::{Holder, Version};
use crate::base::procfs;

/// A process that began this much after a file was written may still be the one whose id was written. Start times are
/// counted in hundredths of a second, and a file's time in ticks of the kernel.
const TOLERANCE: Duration = Duration::from_secs(1);
/// One that began up to this much after it gets the benefit of the doubt: clocks are set, and a server has its own.
pub(super) const DOUBT: Duration = Duration::from_secs(600);
/// Holders that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// Which file: its file system and its number there.
pub(super) type FileId = (u64, u64);

/// Processes that have the file open for writing, or mapped so that they write it: `process 4711 (python3)`. A file that
/// is being written is not replaced. `inode` and `device` tell the file; whose it is, is told by a descriptor of this
/// process. `Err` says why it cannot be told: a process that may not be looked into could write it.
pub fn writers(device: u64, inode: u64) -> Result<Vec<String>, String> {
    asked((device, inode), Use::Write)
}

/// The same of all that have it open or mapped, to read it too.
pub fn openers(device: u64, inode: u64) -> Result<Vec<String>, String> {
    asked((device, inode), Use::Any)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Write,
    Any,
}

fn asked(file: FileId, wanted: Use) -> Result<Vec<String>, String> {
    let open = Open::of(&BTreeSet::from([file]), WITHIN);
    let by = open.by.get(&file).map(Vec::as_slice).unwrap_or_default();
    let found: Vec<String> = by.iter().filter(|by| by.writes || wanted == Use::Any).map(|by| shown(by.pid)).collect();
    // Who is found is there, whatever else cannot be told.
    match open.unsure(file.0, rights_of(file).as_ref(), wanted, own_user()).filter(|_| found.is_empty()) {
        Some(why) => Err(why),
        None => Ok(found),
    }
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rights {
    uid: u32,
    gid: u32,
    mode: u32,
}

/// Whose the file is, if this process has it open; who asks for writers usually has.
fn rights_of(file: FileId) -> Option<Rights> {
    std::fs::read_dir("/proc/self/fd").ok()?.flatten().find_map(|entry| {
        let stat = rustix::fs::stat(entry.path()).ok()?;
        let found = Rights { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode };
        ((stat.st_dev, stat.st_ino) == file).then_some(found)
    })
}

impl Open {
    /// Why it cannot be told who has a file; `None` if everybody who could was looked at.
    ///
    /// A process that may not be looked into counts if it runs as the file's owner, or is in the file's group and that may.
    /// Those of `own`, this process's user, do not: what hides from its own user (an agent for keys, a log-in) is no bot.
    /// Root's do for root's files only; its services are on every machine, and none of them is told from a bot.
    fn unsure(&self, device: u64, rights: Option<&Rights>, wanted: Use, own: u32) -> Option<String> {
        if self.is_cut {
            return Some(format!("not all processes could be looked at within {} s", WITHIN.as_secs()));
        }
        let group_bits = if wanted == Use::Write { 0o020 } else { 0o060 };
        let could = |unseen: &&Unseen| {
            let may = match rights {
                Some(rights) => {
                    let is_member = unseen.groups.contains(&rights.gid) && rights.mode & group_bits != 0;
                    unseen.user == rights.uid || (is_member && unseen.user != 0)
                }
                None => unseen.user != 0,
            };
            unseen.user != own && may
        };
        if let Some(unseen) = self.unseen.iter().find(could) {
            let user = unseen.user;
            return Some(format!(
                "{} of user {user} may not be looked into, and could have it open",
                shown(unseen.pid)
            ));
        }
        let foreign = match rights {
            Some(rights) if rights.uid == own => return None,
            Some(rights) => format!("user {}", rights.uid),
            None => "another user".to_owned(),
        };
        if self.hides {
            return Some(format!("the system hides the processes of other users, and it may be that of {foreign}"));
        }
        // Whoever runs as its owner runs elsewhere, and shares this volume.
        let is_elsewhere = rights.is_some_and(|rights| !self.users.contains(&rights.uid)) && is_volume(device);
        (self.is_container && is_elsewhere).then(|| {
            format!("it belongs to {foreign}, who runs nothing in this container, and its volume may be shared")
        })
    }
}

/// Whether a file system is another than that of the container itself.
fn is_volume(device: u64) -> bool {
    rustix::fs::stat("/").is_ok_and(|root| root.st_dev != device)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether a device as `/proc` writes it (`fe:00`) is that of a file. File systems without a device of their own (btrfs,
/// overlays) say one thing to `stat` and another there.
fn is_on(place: &str, device: u64) -> bool {
    let hex = |part: &str| u32::from_str_radix(part, 16).ok();
    let Some((major, minor)) = place.split_once(':').and_then(|(major, minor)| Some((hex(major)?, hex(minor)?))) else {
        return false;
    };
    let (of_major, of_minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    (major, minor) == (of_major, of_minor) || major == 0 || of_major == 0
}

/// A process with its name.
pub(super) fn shown(pid: i32) -> String {
    match procfs::name(pid) {
        Some(name) => format!("process {pid} ({name})"),
        None => format!("process {pid}"),
    }
}

/// Everything that is asked of `/proc` for a scan's lock files, once.
#[derive(Debug)]
pub(super) struct Look {
    open: Open,
    table: Table,
    /// The bot lives, in some way or other.
    bot_lives: bool,
}

impl Look {
    /// Looks at who has these files.
    pub(super) fn at(files: &BTreeSet<FileId>, bot_lives: bool) -> Self {
        Self { open: Open::of(files, WITHIN), table: Table::read(), bot_lives }
    }
}

/// Who holds a lock file, and the ids of those who do, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) holder: Holder,
    pub(super) pids: BTreeSet<i32>,
}

impl Held {
    fn of(holder: Holder, pids: impl IntoIterator<Item = i32>) -> Self {
        Self { holder, pids: pids.into_iter().collect() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::of(Holder::Unknown(why.into()), [])
    }
}

/// Who holds a lock file. `content` is what stands in it, `None` if it was too large; `is_bot` tells whether a command line
/// is the bot's.
pub(super) fn holder(
    root: &Root,
    path: &RelPath,
    (version, content): (&Version, Option<&[u8]>),
    look: &Look,
    is_bot: impl Fn(i32) -> bool,
) -> Held {
    let (open, file) = (&look.open, (version.device, version.inode));
    match is_seen_locked(root, path, &look.table) {
        Ok(false) => {}
        Ok(true) => {
            let pids = look.table.holders(file);
            let who = if pids.is_empty() { "a process that cannot be seen".to_owned() } else { several(&pids) };
            return Held::of(Holder::Process(format!("{who} (it has a lock of the kernel on the file)")), pids);
        }
        Err(why) => return Held::unknown(why),
    }
    if let Some(by) = open.by.get(&file) {
        let pids = by.iter().map(|by| by.pid).collect();
        return Held::of(Holder::Process(format!("{} (it has the file open)", several(&pids))), pids);
    }
    let Some(content) = content else {
        return Held::unknown("it is too large, or may not be read, to see whose id stands in it");
    };
    match inside::inside(content) {
        Inside::Nobody if look.bot_lives => {
            return Held::unknown("the bot lives and the lock says nothing about who holds it");
        }
        Inside::Nobody => {}
        Inside::Unclear(why) => return Held::unknown(why),
        Inside::Process { pid, host } => {
            let held = named(pid, host.as_deref(), version, open, is_bot);
            if held.holder != Holder::Nobody {
                return held;
            }
        }
    }
    if open.is_cut {
        return Held::unknown(format!("not all processes could be looked at within {} s", WITHIN.as_secs()));
    }
    // As with writers: what hides from its own user is no bot.
    if open.unseen.iter().any(|unseen| unseen.user == version.uid && unseen.user != own_user()) {
        let uid = version.uid;
        return Held::unknown(format!(
            "a process of its owner, user {uid}, may not be looked into, and may have it open"
        ));
    }
    if open.hides && own_user() != version.uid {
        return Held::unknown("the system hides the processes of other users, its owner is another user");
    }
    Held::of(Holder::Nobody, [])
}

fn several(pids: &BTreeSet<i32>) -> String {
    let named: Vec<String> = pids.iter().take(NAMED_MAX).map(|pid| shown(*pid)).collect();
    let more = pids.len().saturating_sub(NAMED_MAX);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

/// Whether the process whose id stands in a file still is the one that was meant.
fn named(pid: u32, host: Option<&str>, version: &Version, open: &Open, is_bot: impl Fn(i32) -> bool) -> Held {
    if let Some(host) = host.filter(|host| !is_own(host)) {
        let own = own_host();
        return Held::unknown(format!("it names process {pid} of host `{host}`, and this is `{own}`"));
    }
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Held::of(Holder::Nobody, []) };
    let pid = id.as_raw_nonzero().get();
    let is_self = u32::try_from(pid) == Ok(std::process::id());
    let unknown = |pid: i32, why: &str| Held::of(Holder::Unknown(format!("{}{why}", shown(pid))), [pid]);
    match procfs::process(pid).filter(|_| !is_self) {
        Some(process) if process.lives() => {
            let (began, written) = (process.began(), version.modified());
            if began <= written.plus(TOLERANCE) {
                return Held::of(Holder::Process(format!("{} (its id stands in the file)", shown(pid))), [pid]);
            }
            // Another process has the id now, unless a clock was set.
            let after = ", whose id stands in it, began after it was written, but ";
            if procfs::user(pid).is_none_or(|user| user == version.uid) {
                return unknown(pid, &format!("{after}is of its owner's"));
            }
            if is_bot(pid) {
                return unknown(pid, &format!("{after}is a process of the bot"));
            }
            if began <= written.plus(DOUBT) {
                return unknown(pid, &format!("{after}less than {} min", DOUBT.as_secs() / 60));
            }
        }
        Some(_) => {}
        None if is_self => {}
        None => match rustix::process::test_kill_process(id) {
            Err(Errno::SRCH) => {}
            _ => return unknown(pid, ", whose id stands in it, is there but cannot be seen"),
        },
    }
    // Nobody here. An id says nothing of other containers unless the file names this one.
    if open.is_container && host.is_none_or(is_nameless) {
        return Held::unknown(format!(
            "process {pid}, whose id stands in it, does not run in this container, but may in another"
        ));
    }
    let inner = open.inner.get(&pid).into_iter().flatten().copied();
    let mut inner = inner.filter(|pid| procfs::user(*pid) == Some(version.uid) || is_bot(*pid));
    match inner.next() {
        Some(outer) => unknown(outer, &format!(" has the id {pid}, which stands in it, in its container")),
        None => Held::of(Holder::Nobody, []),
    }
}

/// This machine's name.
fn own_host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Names that every machine has for itself.
fn is_nameless(host: &str) -> bool {
    matches!(host.to_ascii_lowercase().as_str(), "localhost" | "127.0.0.1" | "::1")
}

/// Whether a name means this machine: its name, with or without its domain.
pub(super) fn is_own(host: &str) -> bool {
    let own = own_host().to_ascii_lowercase();
    let host = host.to_ascii_lowercase();
    let label = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let is_short = !host.contains('.') || !own.contains('.');
    is_nameless(&host) || host == own || (is_short && label(&host) == label(&own))
}

/// What a text says of the process that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// It names no process, or not so that it is understood.
    Nobody,
    /// That one of this host.
    Process(u32),
    /// One of another host.
    Elsewhere,
}

/// Which process a text names.
pub(super) fn naming(content: &[u8]) -> Naming {
    match inside::inside(content) {
        Inside::Process { pid, host } if host.as_deref().is_none_or(is_own) => Naming::Process(pid),
        Inside::Process { .. } => Naming::Elsewhere,
        Inside::Nobody | Inside::Unclear(_) => Naming::Nobody,
    }
}
