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

/// Its largest size.
const GOOD_MAX: u64 = 16 << 20;

/// The folder of copies: `STATE_DIR/backups/ab/abcdef...`, one file for each content.
#[derive(Clone, Debug)]
pub struct Backups {
    /// Where.
    pub folder: PathBuf,
    state: Folder,
    copies: Option<Folder>,
}

/// Which copy of each configuration file is the last good one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct GoodIndex {
    format: u32,
    files: BTreeMap<RelPath, Good>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Good {
    sha256: String,
    at: Timestamp,
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

/// The last good copy of a configuration file, if one is kept; for the scan. A copy that is spoiled is none.
pub fn good(settings: &Settings, path: &RelPath) -> Option<Arc<[u8]>> {
    let root = Root::open(&settings.workspace).ok()?;
    let state = Folder::open(settings, &root).ok()??;
    let backups = Backups::open(&state).ok()?;
    let sha = backups.index()?.files.get(path)?.sha256.clone();
    match backups.get(&sha, settings.file_max) {
        Ok(bytes) => Some(bytes),
        Err(lost) => {
            tracing::warn!(path = %path, error = %lost, "the last good copy of a configuration file cannot be used");
            None
        }
    }
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
        if self.get(&sha256(bytes), bytes.len() as u64).is_ok() {
            return Ok(sha256(bytes));
        }
        self.put_from(bytes)
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
        let is_there = shelf.file(&sha).and_then(|file| hash_whole(&file)).is_ok_and(|version| version.sha256 == sha);
        if is_there {
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

    /// The index of last good copies; empty if there is none, `None` if it cannot be read.
    fn index(&self) -> Option<GoodIndex> {
        match self.state.read(GOOD, GOOD_MAX) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).ok().filter(|index: &GoodIndex| index.format == 1),
            Ok(None) => Some(GoodIndex { format: 1, ..GoodIndex::default() }),
            Err(_) => None,
        }
    }

    /// The hashes of the last good copies; `None` if that cannot be told.
    pub(super) fn good_hashes(&self) -> Option<BTreeSet<String>> {
        Some(self.index()?.files.into_values().map(|good| good.sha256).collect())
    }

    /// Whether exactly this content is already kept as the last good one.
    pub fn is_good(&self, path: &RelPath, sha: &str) -> bool {
        self.index().is_some_and(|index| index.files.get(path).is_some_and(|good| good.sha256 == sha))
            && self.shelf(sha).ok().flatten().is_some_and(|shelf| shelf.len(sha).is_ok())
    }

    /// Keeps the content as the last good one of a configuration file. Writes nothing if it is kept already.
    pub fn keep(&self, path: &RelPath, bytes: &[u8], now: Timestamp) -> Result<(), Error> {
        let trouble = |trouble: Trouble| {
            state(format!("the good copy of `{path}` cannot be kept in `{}`", self.folder.display()), &trouble)
        };
        let sha = sha256(bytes);
        if self.is_good(path, &sha) {
            return Ok(());
        }
        self.put(bytes).map_err(trouble)?;
        // An index that cannot be read is begun anew: what it named is lost, not what is kept from now on.
        let mut index = self.index().unwrap_or(GoodIndex { format: 1, ..GoodIndex::default() });
        index.files.insert(path.clone(), Good { sha256: sha, at: now });
        let text = serde_json::to_vec_pretty(&index).map_err(|error| trouble(std::io::Error::from(error).into()))?;
        self.state.replace(GOOD, &text).map_err(trouble)
    }

    /// Removes every copy but those.
    pub(super) fn remove_others(&self, needed: &BTreeSet<String>) -> Result<u64, Error> {
        let trouble = |trouble: Trouble| {
            let context = format!("the copies in `{}` cannot be cleared up", self.folder.display());
            match trouble.errno() {
                Some(errno) => Error::io(ErrorKind::State, context, errno.into()),
                None => Error::new(ErrorKind::State, format!("{context}: {trouble}")),
            }
        };
        let Some(copies) = &self.copies else { return Ok(0) };
        let mut removed = 0;
        for name in copies.names().map_err(trouble)? {
            if name.len() != 2 {
                continue;
            }
            let Some(shelf) = copies.folder(&name).map_err(trouble)? else { continue };
            for sha in shelf.names().map_err(trouble)? {
                if is_hash(&sha) && !needed.contains(&sha) {
                    shelf.remove(&sha).map_err(trouble)?;
                    removed += 1;
                }
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
