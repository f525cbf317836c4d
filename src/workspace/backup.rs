//! Copies of files before their first change, by their content, and the last good copies of configuration files.
//!
//! **Invariant:** a copy is durable before the change it is for is begun, and is never changed.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::RelPath;
use super::ledger::folder::{Folder, state};
use super::root::{Root, Trouble, hash_whole, hex, sha256};
use super::{Error, ErrorKind, Settings};
use crate::model::Timestamp;

/// The folder of copies in `STATE_DIR`.
const BACKUPS: &str = "backups";

/// The file in `STATE_DIR` that tells the last good copy of each configuration file.
const GOOD: &str = "good.json";

/// Where it goes if its text is broken.
const GOOD_BROKEN: &str = "good.broken.json";

/// Its largest size.
const GOOD_MAX: u64 = 16 << 20;

/// Good copies of each configuration file that are kept.
const GOOD_COPIES: usize = 3;

/// The folder of copies: `STATE_DIR/backups/ab/abcdef...`, one file for each content.
#[derive(Clone, Debug)]
pub struct Backups {
    /// Where.
    pub folder: PathBuf,
    state: Folder,
    copies: Option<Folder>,
}

/// Which copies of each configuration file are good.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct GoodIndex {
    format: u32,
    files: BTreeMap<RelPath, Good>,
}

/// The newest of them, and those before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Good {
    sha256: String,
    at: Timestamp,
    /// Newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    older: Vec<OlderGood>,
}

/// One that has been good before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OlderGood {
    sha256: String,
    at: Timestamp,
}

impl Good {
    /// Their hashes, the newest first.
    fn hashes(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.sha256).chain(self.older.iter().map(|older| &older.sha256))
    }
}

/// Why the index of good copies cannot be used.
enum NoIndex {
    /// Its text is broken.
    Broken,
    /// A newer chiron wrote it.
    Newer(u32),
    /// It cannot be read.
    Unreadable(Trouble),
}

/// What may stay of copies that nothing needs any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spare {
    /// Those written before that time go; `None`: none goes for its age.
    pub(super) since: Option<Timestamp>,
    /// Bytes that the rest may take; beyond, the oldest go first.
    pub(super) room: u64,
}

/// Why a copy could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// It is not there.
    #[error("the copy {0} is not there")]
    Missing(String),
    /// It holds something else than its name says.
    #[error("the copy {0} is spoiled: its content has another checksum")]
    Spoiled(String),
    /// It cannot be read.
    #[error("the copy {0} cannot be read: {1}")]
    Unreadable(String, Trouble),
}

/// The last good copy of a configuration file, if one is kept; for the scan. A copy that is spoiled is none; then it is the
/// one before.
pub fn good(settings: &Settings, path: &RelPath) -> Option<Arc<[u8]>> {
    let root = Root::open(&settings.workspace).ok()?;
    let state = Folder::open(settings, &root).ok()??;
    let backups = Backups::open(&state).ok()?;
    let index = backups.index().ok()?;
    index.files.get(path)?.hashes().find_map(|sha| match backups.get(sha, settings.file_max) {
        Ok(bytes) => Some(bytes),
        Err(lost) => {
            tracing::warn!(path = %path, error = %lost, "a good copy of a configuration file cannot be used");
            None
        }
    })
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Backups {
    /// The copies below `STATE_DIR`, to read; there may be none.
    pub fn open(state: &Folder) -> Result<Self, Trouble> {
        Ok(Self { folder: state.path.join(BACKUPS), state: state.clone(), copies: state.folder(BACKUPS)? })
    }

    /// The same, to write.
    pub fn create(state_folder: &Folder) -> Result<Self, Error> {
        let folder = state_folder.path.join(BACKUPS);
        let copies = state_folder.make_folder(BACKUPS);
        let copies = copies.map_err(|trouble| state(format!("`{}` cannot be made", folder.display()), &trouble))?;
        Ok(Self { folder, state: state_folder.clone(), copies: Some(copies) })
    }

    fn shelf(&self, sha: &str) -> Result<Option<Folder>, Trouble> {
        match &self.copies {
            Some(copies) if is_hash(sha) => copies.folder(&sha[..2]),
            _ => Ok(None),
        }
    }

    /// Copies an open file from its start; durable when this returns. Returns its hash.
    pub fn put_file(&self, file: &File) -> Result<String, Trouble> {
        rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
        self.put_from(file)
    }

    /// Keeps some bytes; durable when this returns. Returns their hash.
    pub fn put(&self, bytes: &[u8]) -> Result<String, Trouble> {
        let sha = sha256(bytes);
        if self.holds(&sha)? {
            return Ok(sha);
        }
        self.put_from(bytes)
    }

    /// Whether a whole copy of that content is there. It is durable then, and counts as written now.
    fn holds(&self, sha: &str) -> Result<bool, Trouble> {
        let (Some(copies), Some(shelf)) = (&self.copies, self.shelf(sha)?) else { return Ok(false) };
        let Ok(copy) = shelf.file(sha) else { return Ok(false) };
        if !hash_whole(&copy).is_ok_and(|version| version.sha256 == sha) {
            return Ok(false);
        }
        // Whoever wrote it may have ended before it was durable.
        let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let last_modification = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        rustix::fs::futimens(&copy, &Timestamps { last_access, last_modification })?;
        copy.sync_all()?;
        shelf.sync()?;
        copies.sync()?;
        Ok(true)
    }

    fn put_from(&self, mut source: impl Read) -> Result<String, Trouble> {
        const BESIDE: &str = "copy.tmp";
        let copies = self.copies.as_ref().ok_or(Trouble::Missing)?;
        copies.remove(BESIDE)?;
        let mut copy = copies.make_file(BESIDE)?;
        let sha = match copy_and_hash(&mut source, &mut copy) {
            Ok(sha) => sha,
            Err(trouble) => {
                let _ = copies.remove(BESIDE);
                return Err(trouble);
            }
        };
        let shelf = copies.make_folder(&sha[..2])?;
        // One that is there is as good only if it still holds what its name says; else this one takes its place.
        if self.holds(&sha)? {
            copies.remove(BESIDE)?;
            return Ok(sha);
        }
        copy.sync_all()?;
        copies.rename(BESIDE, &format!("{}/{sha}", &sha[..2]))?;
        shelf.sync()?;
        copies.sync()?;
        Ok(sha)
    }

    /// The content of a copy of at most `max` bytes, proven to be what its name says.
    pub fn get(&self, sha: &str, max: u64) -> Result<Arc<[u8]>, Lost> {
        let unreadable = |trouble| Lost::Unreadable(sha.to_owned(), trouble);
        let shelf = self.shelf(sha).map_err(unreadable)?.ok_or_else(|| Lost::Missing(sha.to_owned()))?;
        let bytes = shelf.read(sha, max).map_err(unreadable)?.ok_or_else(|| Lost::Missing(sha.to_owned()))?;
        if sha256(&bytes) == sha { Ok(bytes) } else { Err(Lost::Spoiled(sha.to_owned())) }
    }

    /// The index of good copies; empty if there is none.
    fn index(&self) -> Result<GoodIndex, NoIndex> {
        match self.state.read(GOOD, GOOD_MAX) {
            Ok(Some(bytes)) => {
                let format = serde_json::from_slice(&bytes).map_err(|_| NoIndex::Broken);
                let format = format.and_then(|value: serde_json::Value| {
                    value.get("format").and_then(serde_json::Value::as_u64).ok_or(NoIndex::Broken)
                })?;
                match u32::try_from(format) {
                    Ok(1) => serde_json::from_slice(&bytes).map_err(|_| NoIndex::Broken),
                    Ok(newer) if newer > 1 => Err(NoIndex::Newer(newer)),
                    _ => Err(NoIndex::Broken),
                }
            }
            Ok(None) => Ok(GoodIndex { format: 1, ..GoodIndex::default() }),
            Err(Trouble::TooLarge { .. }) => Err(NoIndex::Broken),
            Err(trouble) => Err(NoIndex::Unreadable(trouble)),
        }
    }

    /// The hashes of the good copies; `None` if that cannot be told.
    pub(super) fn good_hashes(&self) -> Option<BTreeSet<String>> {
        let index = self.index().ok()?;
        Some(index.files.values().flat_map(Good::hashes).cloned().collect())
    }

    /// Whether exactly this content is already kept as the last good one.
    pub fn is_good(&self, path: &RelPath, sha: &str) -> bool {
        self.index().is_ok_and(|index| index.files.get(path).is_some_and(|good| good.sha256 == sha))
            && self.shelf(sha).ok().flatten().is_some_and(|shelf| shelf.len(sha).is_ok())
    }

    /// Keeps the content as the last good one of a configuration file, and those before it. Writes nothing if it is kept
    /// already.
    pub fn keep(&self, path: &RelPath, bytes: &[u8], now: Timestamp) -> Result<(), Error> {
        let context = || format!("the good copy of `{path}` cannot be kept in `{}`", self.folder.display());
        let trouble = |trouble: Trouble| state(context(), &trouble);
        let sha = sha256(bytes);
        if self.is_good(path, &sha) {
            return Ok(());
        }
        let mut index = match self.index() {
            Ok(index) => index,
            // Begun anew, and what it named is lost but not overwritten.
            Err(NoIndex::Broken) => {
                tracing::warn!(folder = %self.state.path.display(), "`{GOOD}` is broken; it is moved to `{GOOD_BROKEN}`");
                self.state.rename(GOOD, GOOD_BROKEN).and_then(|()| self.state.sync()).map_err(trouble)?;
                GoodIndex { format: 1, ..GoodIndex::default() }
            }
            Err(NoIndex::Newer(format)) => {
                let why = format!("{}: `{GOOD}` has format {format}, expected 1; a newer chiron wrote it", context());
                return Err(Error::new(ErrorKind::State, why));
            }
            Err(NoIndex::Unreadable(why)) => return Err(trouble(why)),
        };
        self.put(bytes).map_err(trouble)?;
        let before = index.files.remove(path);
        let mut older: Vec<OlderGood> = before
            .into_iter()
            .flat_map(|good| std::iter::once(OlderGood { sha256: good.sha256, at: good.at }).chain(good.older))
            .filter(|older| older.sha256 != sha)
            .collect();
        older.truncate(GOOD_COPIES - 1);
        index.files.insert(path.clone(), Good { sha256: sha, at: now, older });
        let text = serde_json::to_vec_pretty(&index).map_err(|error| trouble(std::io::Error::from(error).into()))?;
        self.state.replace(GOOD, &text).map_err(trouble)
    }

    /// Removes copies that are not among those: the old ones, and of the others those for which there is no room.
    pub(super) fn remove_others(&self, needed: &BTreeSet<String>, spare: Spare) -> Result<u64, Error> {
        let trouble = |trouble: Trouble| {
            let context = format!("the copies in `{}` cannot be cleared up", self.folder.display());
            match trouble.errno() {
                Some(errno) => Error::io(ErrorKind::State, context, errno.into()),
                None => Error::new(ErrorKind::State, format!("{context}: {trouble}")),
            }
        };
        let Some(copies) = &self.copies else { return Ok(0) };
        let mut others = Vec::new();
        for name in copies.names().map_err(trouble)? {
            if name.len() != 2 {
                continue;
            }
            let Some(shelf) = copies.folder(&name).map_err(trouble)? else { continue };
            for sha in shelf.names().map_err(trouble)? {
                if is_hash(&sha) && !needed.contains(&sha) {
                    let version = shelf.seen(&sha).map_err(trouble)?.version;
                    others.push((version.modified(), version.len, name.clone(), sha));
                }
            }
        }
        // The newest first.
        others.sort_by(|one, other| other.cmp(one));
        let (mut bytes, mut removed) = (0_u64, 0);
        for (modified, len, name, sha) in others {
            bytes = bytes.saturating_add(len);
            let is_old = spare.since.is_some_and(|since| modified < since);
            if (is_old || bytes > spare.room)
                && let Some(shelf) = copies.folder(&name).map_err(trouble)?
            {
                shelf.remove(&sha).map_err(trouble)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn copy_and_hash(source: &mut impl Read, copy: &mut File) -> Result<String, Trouble> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher.finalize())),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                copy.write_all(&buffer[..read])?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}
