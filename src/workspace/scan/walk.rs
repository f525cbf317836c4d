//! Names that match the patterns of a layout: listings only, no look at what matches nothing.
//!
//! A pattern is walked from its fixed part: `state/**/*.lock` from `state`. The kernel's listings tell folders from files, so that
//! a name costs no system call of its own.
//! **Invariant:** bounded in depth and names, and says what was left out; no link is walked through and no other file system
//! entered, the fixed parts of patterns aside.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags};
use rustix::io::Errno;

use super::Own;
use crate::workspace::layout::{Layout, PACKAGE_LOCKS, Patterns, RelPath};
use crate::workspace::root::{Root, Trouble};

/// A listing's buffer: about 2,000 names.
const BUFFER_BYTES: usize = 64 << 10;
/// Names that could not be handled, told one by one.
const REFUSED_MAX: usize = 1_000;
/// Folders of package managers, in which no lock is the bot's.
const PACKAGE_FOLDERS: [&str; 3] = ["node_modules", ".venv", "site-packages"];
/// Pid files stand in no pattern, but tell of living processes.
const PID_FILE: &[u8] = b".pid";

/// Where walking stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Folders within folders.
    pub(super) depth: usize,
    /// Names that are looked at.
    pub(super) names: u64,
    /// Names that match.
    pub(super) matches: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 64, names: 2_000_000, matches: 50_000 }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) locks: Vec<RelPath>,
    pub(super) heartbeats: Vec<RelPath>,
    pub(super) json: Vec<RelPath>,
    /// `*.pid` in the folders that were listed.
    pub(super) pid_files: Vec<RelPath>,
    pub(super) refused: Vec<(String, String)>,
    pub(super) visited: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Lock,
    Heartbeat,
    Json,
}

/// One pattern, as far as walking needs it; whether a path matches is for the compiled globs to say.
#[derive(Debug)]
struct Reach {
    sort: Sort,
    /// The folders before the first wildcard.
    fixed: Vec<String>,
    /// How many parts a path that matches can have.
    parts_max: usize,
    /// What a name that matches must end in.
    tail: Vec<u8>,
}

impl Reach {
    fn of(sort: Sort, pattern: &str) -> Self {
        const WILD: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];
        let parts: Vec<&str> = pattern.split('/').collect();
        let (name, folders) = parts.split_last().map_or(("", &[][..]), |(name, folders)| (*name, folders));
        // An alternative may hold a `/`, so that what looks like a folder of the path is none.
        let fixed = folders.iter().take_while(|part| !part.contains(WILD)).map(|part| (*part).to_owned()).collect();
        let is_deep = parts.iter().any(|part| part.contains("**"));
        let tail = name.rfind(WILD).map_or(name, |at| &name[at + 1..]);
        // `{a,b/c}.lock` ends in the same; `{a.lock,b/c.lock}` has no tail that counts.
        Self { sort, fixed, parts_max: if is_deep { usize::MAX } else { parts.len() }, tail: tail.as_bytes().to_vec() }
    }
}

/// A folder that is still to be walked.
struct Pending {
    /// The folder it lies in; `None`: it is opened from the workspace, a link inside it followed.
    parent: Option<Rc<OwnedFd>>,
    name: CString,
    /// Empty for the workspace itself.
    path: String,
    depth: usize,
    /// Patterns that may match below it.
    active: Rc<[usize]>,
}

/// Walks the workspace for everything that a pattern of the layout names.
pub(super) fn walk(root: &Root, layout: &Layout, own: &Own, limits: Limits) -> Found {
    let sorts = [(Sort::Lock, &layout.locks), (Sort::Heartbeat, &layout.heartbeats), (Sort::Json, &layout.json)];
    let reaches = sorts.iter().flat_map(|(sort, patterns)| patterns.written.iter().map(|text| Reach::of(*sort, text)));
    let reaches: Vec<Reach> = reaches.collect();
    let mut walk = Walk { root, layout, own, limits, reaches: &reaches, found: Found::default(), left: Vec::new() };
    if !reaches.is_empty() {
        let active = (0..reaches.len()).collect();
        walk.left.push(Pending { parent: None, name: CString::default(), path: String::new(), depth: 0, active });
    }
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    let mut is_whole = true;
    while let Some(folder) = walk.left.pop() {
        is_whole = walk.folder(&folder, buffer.spare_capacity_mut());
        if !is_whole {
            break;
        }
    }
    let mut found = walk.found;
    let more = found.refused.len().saturating_sub(REFUSED_MAX);
    found.refused.truncate(REFUSED_MAX);
    if more > 0 {
        found.refused.push((".".to_owned(), format!("{more} more names that cannot be handled")));
    }
    if !is_whole {
        let Limits { names, matches, .. } = limits;
        let why = format!("more than {names} names, or {matches} that match: the rest was not looked at");
        found.refused.push((".".to_owned(), why));
    }
    found
}

struct Walk<'a> {
    root: &'a Root,
    layout: &'a Layout,
    own: &'a Own,
    limits: Limits,
    reaches: &'a [Reach],
    found: Found,
    left: Vec<Pending>,
}

impl Walk<'_> {
    /// One folder; `false` once a limit is reached.
    fn folder(&mut self, folder: &Pending, buffer: &mut [MaybeUninit<u8>]) -> bool {
        let (on_the_way, here): (Vec<usize>, Vec<usize>) =
            folder.active.iter().partition(|at| folder.depth < self.reaches[**at].fixed.len());
        if folder.depth > self.limits.depth {
            let why = format!("deeper than {} folders, not looked at", self.limits.depth);
            self.found.refused.push((shown(&folder.path), why));
            return true;
        }
        if here.is_empty() {
            // Nothing here can match: straight on along the fixed parts, without a listing.
            let names: BTreeSet<&str> =
                on_the_way.iter().map(|at| self.reaches[*at].fixed[folder.depth].as_str()).collect();
            for name in names {
                self.follow(folder, name, &on_the_way);
            }
            return true;
        }
        match self.open(folder) {
            Ok(Opened::Folder(fd)) => self.list(folder, &Rc::new(fd), (&on_the_way, &here), buffer),
            Ok(Opened::Gone) => true,
            Ok(Opened::Mounted) => {
                self.mounted(folder);
                true
            }
            Err(why) => {
                self.found.refused.push((shown(&folder.path), why));
                true
            }
        }
    }

    /// Goes on to a folder that fixed parts of patterns name.
    fn follow(&mut self, folder: &Pending, name: &str, on_the_way: &[usize]) {
        let is_meant = |at: &&usize| self.reaches[**at].fixed[folder.depth] == name;
        let active = on_the_way.iter().filter(is_meant).copied().collect();
        self.later(Pending {
            parent: None,
            name: CString::default(),
            path: joined(&folder.path, name),
            depth: folder.depth + 1,
            active,
        });
    }

    fn later(&mut self, folder: Pending) {
        if !folder.active.is_empty() && !self.own.holds(&folder.path) {
            self.left.push(folder);
        }
    }

    /// A folder of another file system: only patterns whose fixed part names it reach into it.
    fn mounted(&mut self, folder: &Pending) {
        let (meant, others): (Vec<usize>, Vec<usize>) =
            folder.active.iter().partition(|at| folder.depth <= self.reaches[**at].fixed.len());
        if !others.is_empty() {
            let why = "another file system, or a folder from elsewhere, is mounted there; not looked at".to_owned();
            self.found.refused.push((shown(&folder.path), why));
        }
        let path = folder.path.clone();
        let (parent, name, depth) = (None, CString::default(), folder.depth);
        self.later(Pending { parent, name, path, depth, active: meant.into() });
    }

    /// Opens a folder.
    fn open(&self, folder: &Pending) -> Result<Opened, String> {
        let said = |errno: Errno| format!("cannot be listed: {}", std::io::Error::from(errno));
        let Some(parent) = &folder.parent else {
            let path = match folder.path.as_str() {
                "" => None,
                text => Some(RelPath::parse(text)?),
            };
            return match self.root.open_folder(path.as_ref()) {
                Ok(fd) => Ok(Opened::Folder(fd)),
                Err(Trouble::Missing | Trouble::NotInFolder | Trouble::Dangling(_)) => Ok(Opened::Gone),
                Err(Trouble::System(errno)) => Err(said(errno)),
                Err(trouble) => Err(format!("{trouble}, nothing in it is looked at")),
            };
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // The kernel tells a mount from a folder, also one that shows a part of the same file system.
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&**parent, &*folder.name, flags, Mode::empty(), resolve) {
            Ok(fd) => {
                // Some file systems hold others without a mount.
                let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev).map_err(said);
                let is_other = device(&fd)? != device(parent)?;
                Ok(if is_other { Opened::Mounted } else { Opened::Folder(fd) })
            }
            Err(Errno::XDEV) => Ok(Opened::Mounted),
            // It went away, or became something else, since it was listed.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Opened::Gone),
            Err(errno) => Err(said(errno)),
        }
    }

    fn list(
        &mut self,
        folder: &Pending,
        fd: &Rc<OwnedFd>,
        (on_the_way, here): (&[usize], &[usize]),
        buffer: &mut [MaybeUninit<u8>],
    ) -> bool {
        let reaches = self.reaches;
        let deeper: Vec<usize> = here.iter().copied().filter(|at| folder.depth + 2 <= reaches[*at].parts_max).collect();
        let without_locks = deeper.iter().copied().filter(|at| reaches[*at].sort != Sort::Lock).collect();
        let below = Below { all: deeper.into(), without_locks };
        let mut tails: Vec<(Option<Sort>, &[u8])> =
            here.iter().map(|at| (Some(reaches[*at].sort), reaches[*at].tail.as_slice())).collect();
        tails.push((None, PID_FILE));
        let mut path = if folder.path.is_empty() { String::new() } else { format!("{}/", folder.path) };
        let prefix = path.len();
        let mut listing = RawDir::new(&**fd, buffer);
        while let Some(entry) = listing.next() {
            let (name, kind) = match &entry {
                Ok(entry) => (entry.file_name(), entry.file_type()),
                Err(errno) => {
                    let why = format!("cannot be listed: {}", std::io::Error::from(*errno));
                    self.found.refused.push((shown(&folder.path), why));
                    return true;
                }
            };
            let bytes = name.to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            self.found.visited += 1;
            if self.found.visited > self.limits.names {
                return false;
            }
            match self.kind(fd, name, kind) {
                FileType::Directory => self.below(folder, fd, name, on_the_way, &below),
                kind => {
                    if kind == FileType::Symlink
                        && let Ok(text) = name.to_str()
                        && on_the_way.iter().any(|at| reaches[*at].fixed[folder.depth] == text)
                    {
                        self.follow(folder, text, on_the_way);
                    }
                    if tails.iter().any(|(_, tail)| bytes.ends_with(tail)) {
                        path.truncate(prefix);
                        self.name(&mut path, bytes, &tails);
                    }
                }
            }
            let Found { locks, heartbeats, json, .. } = &self.found;
            if locks.len() + heartbeats.len() + json.len() > self.limits.matches {
                return false;
            }
        }
        true
    }

    /// The kind that a listing says, asked for where the file system does not tell.
    fn kind(&self, fd: &OwnedFd, name: &CStr, kind: FileType) -> FileType {
        match kind {
            FileType::Unknown => rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
            known => known,
        }
    }

    /// A folder in a folder that is listed.
    fn below(&mut self, folder: &Pending, fd: &Rc<OwnedFd>, name: &CStr, on_the_way: &[usize], below: &Below) {
        let Ok(text) = name.to_str() else {
            if !below.all.is_empty() {
                let path = joined(&folder.path, &name.to_string_lossy());
                let why = "its name is no UTF-8, nothing in it is looked at".to_owned();
                self.found.refused.push((shown(&path), why));
            }
            return;
        };
        let mut active = match PACKAGE_FOLDERS.contains(&text) {
            true => Rc::clone(&below.without_locks),
            false => Rc::clone(&below.all),
        };
        let meant = on_the_way.iter().filter(|at| self.reaches[**at].fixed[folder.depth] == text);
        let meant: Vec<usize> = meant.copied().collect();
        if !meant.is_empty() {
            active = active.iter().copied().chain(meant).collect();
        }
        let path = joined(&folder.path, text);
        let parent = Some(Rc::clone(fd));
        self.later(Pending { parent, name: name.to_owned(), path, depth: folder.depth + 1, active });
    }

    /// A name whose end is that of a pattern. `path` holds the folder.
    fn name(&mut self, path: &mut String, name: &[u8], tails: &[(Option<Sort>, &[u8])]) {
        let Ok(text) = std::str::from_utf8(name) else {
            let whole = [path.as_bytes(), name].concat();
            let matches = |sort: &Option<Sort>| {
                sort.is_some_and(|sort| self.patterns(sort).set.is_match(OsStr::from_bytes(&whole)))
            };
            if tails.iter().any(|(sort, tail)| name.ends_with(tail) && matches(sort)) {
                let path = shown(&String::from_utf8_lossy(&whole));
                self.found.refused.push((path, "its name is no UTF-8, not looked at".to_owned()));
            }
            return;
        };
        path.push_str(text);
        if self.own.holds(path) {
            return;
        }
        for sort in [Some(Sort::Lock), Some(Sort::Heartbeat), Some(Sort::Json), None] {
            let has_tail = tails.iter().any(|(of, tail)| *of == sort && name.ends_with(tail));
            let is_package = sort == Some(Sort::Lock) && PACKAGE_LOCKS.contains(&text);
            let matches = sort.is_none_or(|sort| self.patterns(sort).matches(path));
            if !has_tail || is_package || !matches {
                continue;
            }
            let Ok(found) = RelPath::parse(path) else { continue };
            match sort {
                Some(Sort::Lock) => self.found.locks.push(found),
                Some(Sort::Heartbeat) => self.found.heartbeats.push(found),
                Some(Sort::Json) => self.found.json.push(found),
                None => self.found.pid_files.push(found),
            }
        }
    }

    const fn patterns(&self, sort: Sort) -> &Patterns {
        match sort {
            Sort::Lock => &self.layout.locks,
            Sort::Heartbeat => &self.layout.heartbeats,
            Sort::Json => &self.layout.json,
        }
    }
}

/// What came of opening a folder.
enum Opened {
    Folder(OwnedFd),
    /// It went away, or is none.
    Gone,
    /// It is of another file system.
    Mounted,
}

/// Patterns that may match below the folders of one that is listed.
struct Below {
    all: Rc<[usize]>,
    without_locks: Rc<[usize]>,
}

fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A path as it can be shown on one line.
fn shown(path: &str) -> String {
    match path {
        "" => ".".to_owned(),
        path => path.replace(char::is_control, "?"),
    }
}
