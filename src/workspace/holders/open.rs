//! Who has which file open or in its memory, as far as this process may see, and who may not be looked into.
//!
//! **Invariant:** reads `/proc` only, once for all files that are asked for, within a time; what was not looked at is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;

use super::FileId;
use crate::base::clock::Clock;
use crate::base::procfs;

/// How long looking through all processes may take; a machine with 10,000 of them needs about one second.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// A process that has the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpenBy {
    pub(super) pid: i32,
    pub(super) writes: bool,
}

/// A process that may not be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unseen {
    pub(super) pid: i32,
    pub(super) user: u32,
    pub(super) groups: Vec<u32>,
}

/// Who has which file.
#[derive(Debug, Default)]
pub(super) struct Open {
    pub(super) by: BTreeMap<FileId, Vec<OpenBy>>,
    pub(super) unseen: Vec<Unseen>,
    /// Processes of other users are not even listed (`hidepid`).
    pub(super) hides: bool,
    /// Not all were looked at in time.
    pub(super) is_cut: bool,
    /// Users with a process that can be seen.
    pub(super) users: BTreeSet<u32>,
    /// Processes of containers on this machine, by the id they have there.
    pub(super) inner: BTreeMap<i32, Vec<i32>>,
    /// Processes of the machine, or of other containers, cannot be seen from here.
    pub(super) is_container: bool,
}

impl Open {
    /// Looks through the descriptors and mappings of every process but this one, once for all these files.
    pub(super) fn of(files: &BTreeSet<FileId>, within: Duration) -> Self {
        let mut open = Self {
            hides: !Path::new("/proc/1/stat").exists(),
            is_container: !procfs::is_first_namespace(),
            ..Self::default()
        };
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let clock = Clock::system();
        let until = clock.since_boot() + within;
        for pid in procfs::all().filter(|process| process.lives() && process.pid != own).map(|process| process.pid) {
            if clock.since_boot() >= until {
                open.is_cut = true;
                break;
            }
            // One that has ended meanwhile has no user any more.
            let Some(status) = procfs::status(pid) else { continue };
            if status.inner_pid != pid {
                open.inner.entry(status.inner_pid).or_default().push(pid);
            }
            open.users.insert(status.user);
            let is_seen = open.descriptors(pid, files) && open.mappings(pid, files);
            if !is_seen && procfs::process(pid).is_some_and(|process| process.lives()) {
                open.unseen.push(Unseen { pid, user: status.user, groups: status.groups });
            }
        }
        open
    }

    fn add(&mut self, file: FileId, pid: i32, writes: bool) {
        let by = self.by.entry(file).or_default();
        match by.iter_mut().find(|by| by.pid == pid) {
            Some(by) => by.writes |= writes,
            None => by.push(OpenBy { pid, writes }),
        }
    }

    /// Whether its descriptors could be looked at.
    fn descriptors(&mut self, pid: i32, files: &BTreeSet<FileId>) -> bool {
        let entries = match std::fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(entries) => entries,
            Err(error) => return has_nothing(&error),
        };
        for entry in entries.flatten() {
            let Some(file) = identity(&entry.path()) else { continue };
            if files.contains(&file) {
                let writes = writes(pid, &entry.file_name().to_string_lossy());
                self.add(file, pid, writes);
            }
        }
        true
    }

    /// Whether its memory could be looked at: a file stays mapped when its descriptor is closed.
    fn mappings(&mut self, pid: i32, files: &BTreeSet<FileId>) -> bool {
        let maps = match File::open(format!("/proc/{pid}/maps")) {
            Ok(maps) => maps,
            Err(error) => return has_nothing(&error),
        };
        let numbers: Vec<String> = files.iter().map(|(_, inode)| inode.to_string()).collect();
        let mut reader = BufReader::with_capacity(64 << 10, maps);
        let mut line = Vec::new();
        loop {
            line.clear();
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return has_nothing(&error),
            }
            // Most lines are of libraries, so the number alone is looked at first.
            let number = line.split(|byte| *byte == b' ').nth(4).unwrap_or_default();
            if !numbers.iter().any(|wanted| wanted.as_bytes() == number) {
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            let Some(mapped) = mapped(&text) else { continue };
            for file in files.iter().filter(|file| file.1 == mapped.inode && mapped.is(pid, **file)) {
                self.add(*file, pid, mapped.writes);
            }
        }
    }
}

/// Whether a process has nothing to look at: it has ended, or is a thread of the kernel, without memory of its own.
fn has_nothing(error: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// A file in a process's memory.
#[derive(Debug, PartialEq, Eq)]
struct Mapped<'a> {
    place: &'a str,
    inode: u64,
    /// What is written there gets into the file.
    writes: bool,
    path: &'a str,
}

impl Mapped<'_> {
    /// Whether it is that file, its number being the same. Where the device differs as it may on some file systems, the path
    /// is asked: numbers alone are the same for many.
    fn is(&self, pid: i32, file: FileId) -> bool {
        let exact = format!("{:02x}:{:02x}", rustix::fs::major(file.0), rustix::fs::minor(file.0));
        self.place == exact || {
            let path = format!("/proc/{pid}/root{}", self.path);
            super::is_on(self.place, file.0) && self.path.starts_with('/') && identity(Path::new(&path)) == Some(file)
        }
    }
}

/// Which file stands there, a server that does not answer never asked.
fn identity(path: &Path) -> Option<FileId> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::STATX_DONT_SYNC, StatxFlags::INO).ok()?;
    Some((rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}

/// A line of `/proc/PID/maps`: `7f00-7f10 rw-s 00000000 fe:00 1234    /path`.
fn mapped(line: &str) -> Option<Mapped<'_>> {
    let mut words = line.trim_end().splitn(6, ' ');
    let (_, rights, _, place) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let inode = words.next()?.parse().ok().filter(|inode| *inode != 0)?;
    let writes = rights.ends_with('s') && rights.as_bytes().get(1) == Some(&b'w');
    Some(Mapped { place, inode, writes, path: words.next().unwrap_or_default().trim_start() })
}

/// Whether a descriptor was opened for writing; one that cannot be asked counts as such.
fn writes(pid: i32, descriptor: &str) -> bool {
    let Some(bytes) = procfs::read(pid, &format!("fdinfo/{descriptor}")) else { return true };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let flags = text.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    // `O_WRONLY` and `O_RDWR`; a path alone (`O_PATH`) says neither.
    flags.is_none_or(|flags| flags & 0o3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WSP-6: what is mapped to be shared and written writes the file; what is mapped else only has it.
    #[test]
    fn mappings_are_read() {
        let line = |rights: &str| format!("7f1c2000-7f1c3000 {rights} 00000000 fe:00 1234      /srv/bot/a b.json\n");
        for (rights, writes) in [("rw-s", true), ("-w-s", true), ("r--s", false), ("rw-p", false), ("r-xp", false)] {
            let expected = Mapped { place: "fe:00", inode: 1234, writes, path: "/srv/bot/a b.json" };
            assert_eq!(mapped(&line(rights)), Some(expected), "{rights}");
        }
        assert_eq!(mapped("7ffd1000-7ffd2000 rw-p 00000000 00:00 0     [stack]\n"), None);
        assert_eq!((mapped(""), mapped("what is this")), (None, None));
    }
}
