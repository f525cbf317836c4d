//! What stands under one path.
//!
//! **Invariant:** reads only; holds at most [`CONTENT_FACTOR`] times the largest file that is read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Access, Entry, FileSeen};
use crate::base::redact;
use crate::model::Timestamp;
use crate::workspace::layout::RelPath;
use crate::workspace::root::{Kind, Root, Seen, Trouble};
use rustix::io::Errno;

/// How many of the largest files are held at once.
const CONTENT_FACTOR: u64 = 4;
/// How often a file that is being written is read again.
const TRIES: usize = 5;
/// How much of what a link says is shown.
const TARGET_MAX: usize = 200;

/// Looks at paths, each once, and keeps what it saw.
pub(super) struct Look<'a> {
    root: &'a Root,
    file_max: u64,
    /// Bytes that may still be held.
    left: u64,
    /// What was seen.
    pub(super) entries: BTreeMap<RelPath, Entry>,
    /// What was not read though it should have been.
    pub(super) refused: Vec<(String, String)>,
}

impl<'a> Look<'a> {
    pub(super) fn new(root: &'a Root, file_max: u64) -> Self {
        let left = file_max.saturating_mul(CONTENT_FACTOR);
        Self { root, file_max, left, entries: BTreeMap::new(), refused: Vec::new() }
    }

    /// Looks at a path, and reads it if it is a file and `reads`.
    pub(super) fn at(&mut self, path: &RelPath, reads: bool) {
        if !self.entries.contains_key(path) {
            let entry = self.see(path, |_| reads);
            self.entries.insert(path.clone(), entry);
        }
    }

    /// Looks at a path, and reads it if it is a file that has not changed for `age`.
    pub(super) fn file_older(&mut self, path: &RelPath, now: Timestamp, age: Duration) {
        if !self.entries.contains_key(path) {
            let entry = self.see(path, |seen| now.since(seen.version.modified()) >= age);
            self.entries.insert(path.clone(), entry);
        }
    }

    /// Looks at every folder above what was seen.
    pub(super) fn folders_above(&mut self) {
        let mut left: Vec<RelPath> = self.entries.keys().filter_map(RelPath::parent).collect();
        while let Some(folder) = left.pop() {
            if !self.entries.contains_key(&folder) {
                left.extend(folder.parent());
                self.at(&folder, false);
            }
        }
    }

    fn see(&mut self, path: &RelPath, reads: impl Fn(&Seen) -> bool) -> Entry {
        let seen = match self.root.stat(path) {
            Ok(seen) => seen,
            Err(trouble) => return entry_of(&trouble),
        };
        let access = match seen.kind {
            Kind::Directory | Kind::File => match self.root.access(path) {
                Ok(access) => access,
                Err(trouble) => return entry_of(&trouble),
            },
            other => return Entry::Other(other.name().to_owned()),
        };
        if seen.kind == Kind::Directory {
            return Entry::Directory(access);
        }
        let wanted = access.read && seen.version.len <= self.file_max && reads(&seen);
        if wanted && seen.version.len > self.left {
            self.refused.push((path.to_string(), "too much is read at once already, not read".to_owned()));
        } else if wanted {
            return self.read(path, access);
        }
        Entry::File(FileSeen { version: seen.version, content: None, access })
    }

    fn read(&mut self, path: &RelPath, access: Access) -> Entry {
        let max = self.file_max.min(self.left);
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.root.read(path, max) {
                Ok((content, version)) => {
                    self.left = self.left.saturating_sub(content.len() as u64);
                    return Entry::File(FileSeen { version, content: Some(content), access });
                }
                // Somebody writes it right now.
                Err(Trouble::Changed) if tries > 0 => {}
                Err(Trouble::TooLarge { .. }) => {
                    let seen = self.root.stat(path).map(|seen| seen.version);
                    let large = |version| Entry::File(FileSeen { version, content: None, access });
                    return seen.map_or_else(|trouble| entry_of(&trouble), large);
                }
                Err(trouble) => return entry_of(&trouble),
            }
        }
    }
}

/// What a path is that could not be looked at.
fn entry_of(trouble: &Trouble) -> Entry {
    match trouble {
        Trouble::Missing => Entry::Missing,
        Trouble::Dangling(target) => {
            Entry::Other(format!("a dangling link to {}", redact::line(&target.to_string(), TARGET_MAX)))
        }
        Trouble::Leaves | Trouble::Loop => Entry::Other(trouble.to_string()),
        Trouble::Other { found, .. } => Entry::Other(found.name().to_owned()),
        Trouble::System(Errno::ACCESS | Errno::PERM) => Entry::Unreadable("permission denied".to_owned()),
        Trouble::System(errno) => Entry::Unreadable(std::io::Error::from(*errno).to_string()),
        Trouble::NotInFolder | Trouble::TooLarge { .. } | Trouble::Changed | Trouble::TooOld => {
            Entry::Unreadable(trouble.to_string())
        }
    }
}
