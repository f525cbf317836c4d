//! The way to what is watched: every folder and link on it, and the folder in which the change will show.
//!
//! In: a folder as configured, and names in it. Out: what of the kernel's watches stands for what.
//! **Invariant:** blocks, so never on an async thread; each folder is watched before it is looked into, so that nothing
//! that happens in between is missed; bounded in links, depth, entries and watches.
#![expect(clippy::disallowed_methods, reason = "folders are listed here")]

use std::collections::{HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::inotify::{self, WatchFlags};
use rustix::io::Errno;

use crate::observe::probes::folder::{MAX_DEPTH, MAX_ENTRIES};

/// Folders below one that is watched as a whole.
const TREE_MAX: usize = 512;
/// Links on one way; the kernel follows as many.
const LINKS_MAX: usize = 40;
/// Looks at a name that comes and goes while the way is walked.
const TRIES: usize = 3;

/// It went or was moved itself.
const SELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF);
/// Something of a name appears in it.
const APPEARS: WatchFlags = SELF.union(WatchFlags::CREATE).union(WatchFlags::MOVED_TO);
/// Anything in it changes. Who has a file open that is gone changes nothing that can be seen.
const CHANGES: WatchFlags = APPEARS
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::EXCL_UNLINK);

/// A folder, and the names in it that matter.
#[derive(Debug)]
pub(super) struct Place {
    /// As configured, absolute.
    pub(super) folder: PathBuf,
    /// Files or folders.
    pub(super) names: Vec<OsString>,
}

/// What a watched folder, or link, is to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The way leads through it.
    Through,
    /// The way goes on with that name, which is not there yet.
    Awaits(OsString),
    /// It is the place's folder.
    Leaf,
    /// A name of the place is a link to that file in it.
    Alias {
        /// The file in it.
        file: OsString,
        /// The place's name.
        of: OsString,
    },
    /// It is, or is below, what is watched as a whole.
    Tree {
        /// The place's name.
        name: OsString,
        /// The path from there to here.
        below: PathBuf,
    },
}

impl Role {
    /// What the kernel is asked to tell of it.
    pub(super) const fn mask(&self) -> WatchFlags {
        match self {
            Self::Through => SELF,
            Self::Awaits(_) => APPEARS,
            Self::Leaf | Self::Alias { .. } | Self::Tree { .. } => CHANGES,
        }
    }
}

/// The way to one place, as found.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// The kernel's number of a watch, and what it stands for.
    pub(super) marks: Vec<(i32, Role)>,
    /// Names that were no plain files: absent, links, folders.
    pub(super) others: HashSet<OsString>,
    /// Why something cannot be watched.
    pub(super) trouble: Option<Errno>,
    /// Something went while it was looked at; look again.
    pub(super) unsteady: bool,
}

/// Where a path leads.
enum End {
    Folder(PathBuf),
    File(PathBuf, OsString),
    /// Nowhere yet, or nowhere that can be told.
    Nowhere,
}

enum Kind {
    Folder,
    Link,
    Other,
    Absent,
    Unseen(Errno),
}

/// Walks ways, and has the kernel watch them.
pub(super) struct Walker<'a> {
    pub(super) inotify: &'a OwnedFd,
    /// Watches that there are, by their numbers.
    pub(super) known: HashSet<i32>,
    /// How many there may be.
    pub(super) most: usize,
}

impl Walker<'_> {
    /// The way to a place. Blocks.
    pub(super) fn walk(&mut self, place: &Place) -> Way {
        let mut way = Way::default();
        let End::Folder(folder) = self.follow(&mut way, Path::new("/"), components(&place.folder), false) else {
            return way;
        };
        let kind_of = |name: &OsStr| kind(&folder.join(name));
        // A folder that holds nothing but folders of interest is not listened to: they tell by themselves.
        let all_folders = place.names.iter().all(|name| matches!(kind_of(name), Kind::Folder));
        if !all_folders {
            self.mark(&mut way, &folder, WatchFlags::ONLYDIR, Role::Leaf);
        }
        for name in &place.names {
            let end = match kind_of(name) {
                Kind::Other => continue,
                Kind::Folder => End::Folder(folder.join(name)),
                Kind::Link => self.follow(&mut way, &folder, VecDeque::from([name.clone()]), true),
                Kind::Absent | Kind::Unseen(_) => {
                    way.unsteady |= all_folders;
                    End::Nowhere
                }
            };
            way.others.insert(name.clone());
            match end {
                End::Folder(root) => self.tree(&mut way, name, root),
                End::File(parent, file) => {
                    self.mark(&mut way, &parent, WatchFlags::ONLYDIR, Role::Alias { file, of: name.clone() });
                }
                End::Nowhere => {}
            }
        }
        way
    }

    /// Follows names from a folder on, links included, as the kernel does, and watches each step.
    fn follow(&mut self, way: &mut Way, from: &Path, mut left: VecDeque<OsString>, to_file: bool) -> End {
        let (mut current, mut links, mut tries) = (from.to_path_buf(), 0, 0);
        while let Some(name) = left.pop_front() {
            if name == ".." {
                current.pop();
                continue;
            }
            let path = current.join(&name);
            match kind(&path) {
                Kind::Folder => {
                    self.mark(way, &path, WatchFlags::ONLYDIR, Role::Through);
                    current = path;
                }
                Kind::Link if links < LINKS_MAX => {
                    links += 1;
                    self.mark(way, &path, WatchFlags::DONT_FOLLOW, Role::Through);
                    let Ok(target) = std::fs::read_link(&path) else {
                        way.unsteady = true;
                        return End::Nowhere;
                    };
                    if target.is_absolute() {
                        current = PathBuf::from("/");
                    }
                    for part in components(&target).into_iter().rev() {
                        left.push_front(part);
                    }
                }
                Kind::Other if to_file && left.is_empty() => return End::File(current, name),
                Kind::Unseen(errno) => {
                    way.trouble = way.trouble.or(Some(errno));
                    return End::Nowhere;
                }
                Kind::Other | Kind::Absent | Kind::Link => {
                    tries += 1;
                    self.mark(way, &current, WatchFlags::ONLYDIR, Role::Awaits(name.clone()));
                    // Now that it would be heard of: it may have come meanwhile.
                    if matches!(kind(&path), Kind::Folder) {
                        if tries >= TRIES {
                            way.unsteady = true;
                            return End::Nowhere;
                        }
                        left.push_front(name);
                        continue;
                    }
                    return End::Nowhere;
                }
            }
        }
        End::Folder(current)
    }

    /// Watches a folder and those below it.
    fn tree(&mut self, way: &mut Way, name: &OsStr, root: PathBuf) {
        let mut open = vec![(root, PathBuf::new(), 1)];
        let (mut seen, mut folders) = (0, 0);
        while let Some((path, below, depth)) = open.pop() {
            folders += 1;
            if folders > TREE_MAX {
                way.trouble = way.trouble.or(Some(Errno::NOSPC));
                return;
            }
            let role = Role::Tree { name: name.to_owned(), below: below.clone() };
            self.mark(way, &path, WatchFlags::ONLYDIR, role);
            let Ok(entries) = std::fs::read_dir(&path) else { continue };
            for entry in entries.flatten() {
                seen += 1;
                if seen > MAX_ENTRIES {
                    return;
                }
                if depth < MAX_DEPTH && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    open.push((entry.path(), below.join(entry.file_name()), depth + 1));
                }
            }
        }
    }

    fn mark(&mut self, way: &mut Way, path: &Path, how: WatchFlags, role: Role) {
        match inotify::add_watch(self.inotify, path, role.mask() | how | WatchFlags::MASK_ADD) {
            Ok(number) => {
                if !self.known.contains(&number) && self.known.len() >= self.most {
                    let _ = inotify::remove_watch(self.inotify, number);
                    way.trouble = way.trouble.or(Some(Errno::NOSPC));
                    return;
                }
                self.known.insert(number);
                way.marks.push((number, role));
            }
            Err(Errno::NOENT | Errno::NOTDIR) => way.unsteady = true,
            // What may be entered but not listed cannot be watched; the way goes on all the same.
            Err(Errno::ACCESS) if role == Role::Through => {}
            Err(errno) => way.trouble = way.trouble.or(Some(errno)),
        }
    }
}

/// The names on a path, and each `..`.
fn components(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

fn kind(path: &Path) -> Kind {
    match rustix::fs::lstat(path) {
        Ok(stat) => match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
            rustix::fs::FileType::Directory => Kind::Folder,
            rustix::fs::FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        },
        Err(Errno::NOENT | Errno::NOTDIR) => Kind::Absent,
        Err(errno) => Kind::Unseen(errno),
    }
}
