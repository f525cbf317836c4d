//! The folder itself: lists it, reads what has changed, and answers scrapes.
//!
//! A thread of its own reads, because a folder on a network may hang; a scrape waits for it only so long.
//! **Invariant:** one reading at a time, begun by a scrape; what is read is bounded; a link leads out of the folder to
//! nowhere.
#![expect(clippy::disallowed_methods, reason = "lists a folder; files are read by base::files")]

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::family::FamilyData;
use super::Fault;
use super::merge::{Read, Section, merge};
use super::parse::parse;
use crate::base::clock::Clock;
use crate::base::files::{self, FileMeta};

/// Files taken; those beyond, by name, are left out.
const FILES_MAX: usize = 100;
/// Names looked at in the folder.
const ENTRIES_MAX: usize = 10_000;
/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// All files together, in bytes; they are held in memory.
const ALL_BYTES_MAX: u64 = 16 << 20;
/// How long a scrape waits for a reading. Prometheus' own limit is 10 s, and the rest of the page must not miss it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A folder and its thread, which ends with it.
pub(in super::super) struct Folder {
    path: PathBuf,
    clock: Clock,
    shared: Arc<Shared>,
    /// What is told when the folder does not answer.
    silent: Arc<Section>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// When the reading under way was asked for.
    begun: Option<Duration>,
    /// Readings that have ended.
    ended: u64,
    section: Arc<Section>,
    closed: bool,
    told_silent: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    /// Starts the thread.
    pub(in super::super) fn new(path: &Path, clock: Clock) -> Self {
        let shared = Arc::new(Shared::default());
        let mut reader =
            Reader { path: path.to_owned(), cache: HashMap::new(), told: HashSet::new(), last: Vec::new() };
        let work = Arc::clone(&shared);
        let started = std::thread::Builder::new().name("textfiles".to_owned()).spawn(move || reader.serve(&work));
        if let Err(error) = started {
            tracing::error!(%error, "the textfile folder is not read");
            shared.lock().closed = true;
        }
        let fault = Fault::new("silent", "the folder does not answer");
        let silent = Arc::new(merge(&[], vec![(String::new(), fault)]));
        Self { path: path.to_owned(), clock, shared, silent }
    }

    /// Which one.
    pub(in super::super) fn path(&self) -> &Path {
        &self.path
    }

    /// What its files say now. Blocks while they are read; one reading answers every scrape that waits for it.
    pub(in super::super) fn read(&self) -> Arc<Section> {
        let now = self.clock.since_boot();
        let mut state = self.shared.lock();
        let stuck = state.begun.is_some_and(|begun| now.saturating_sub(begun) > PATIENCE);
        if !stuck {
            let wanted = state.ended + 1;
            if state.begun.is_none() {
                state.begun = Some(now);
                self.shared.changed.notify_all();
            }
            let waits = |state: &mut State| state.ended < wanted && !state.closed;
            let waited = self.shared.changed.wait_timeout_while(state, PATIENCE, waits);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.ended >= wanted {
                state.told_silent = false;
                return Arc::clone(&state.section);
            }
        }
        if !std::mem::replace(&mut state.told_silent, true) {
            let folder = self.path.display();
            tracing::warn!(%folder, "textfile folder does not answer");
        }
        Arc::clone(&self.silent)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// What tells versions of a file apart.
type Version = (i128, u64, u64, u64);

fn version(meta: &FileMeta) -> Version {
    (meta.modified_nanos, meta.len, meta.inode, meta.device)
}

type Parsed = Result<Arc<Vec<FamilyData>>, Fault>;

/// What keeps files from being read, by name; the folder's own have none.
type Troubles = Vec<(String, Fault)>;

/// The thread's side.
struct Reader {
    path: PathBuf,
    cache: HashMap<String, (Version, Parsed)>,
    /// What was logged and is still so.
    told: HashSet<(String, &'static str, Option<Version>)>,
    /// The files of the section that stands.
    last: Vec<(String, Option<Version>)>,
}

impl Reader {
    fn serve(&mut self, shared: &Shared) {
        loop {
            let state = shared.changed.wait_while(shared.lock(), |state| state.begun.is_none() && !state.closed);
            let state = state.unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return;
            }
            let standing = Arc::clone(&state.section);
            drop(state);
            let section = self.collect().unwrap_or(standing);
            let mut state = shared.lock();
            state.section = section;
            state.begun = None;
            state.ended += 1;
            drop(state);
            shared.changed.notify_all();
        }
    }

    /// Reads what has changed; `None` if nothing has.
    fn collect(&mut self) -> Option<Arc<Section>> {
        let (names, mut troubles) = match list(&self.path) {
            Ok(listed) => listed,
            Err(detail) => (Vec::new(), vec![(String::new(), Fault::new("unreadable", detail))]),
        };
        let real = std::fs::canonicalize(&self.path);
        let mut files = Vec::with_capacity(names.len());
        let mut seen = Vec::with_capacity(names.len());
        let mut room = ALL_BYTES_MAX;
        for name in names {
            let path = self.path.join(&name);
            let (version, families, modified) = match real.as_deref().map_err(ToString::to_string) {
                Ok(real) => self.one(real, &path, &name, &mut room),
                Err(detail) => (None, Err(Fault::new("unreadable", detail)), 0.0),
            };
            seen.push((name.clone(), version));
            files.push(Read { file: name, modified, families });
        }
        // Troubles of the folder, and files whose content is not known, are looked at anew each time.
        let settled = troubles.is_empty() && seen.iter().all(|(_, version)| version.is_some());
        if settled && seen == self.last && !self.last.is_empty() {
            return None;
        }
        self.cache.retain(|name, _| seen.iter().any(|(seen, _)| seen == name));
        let section = merge(&files, std::mem::take(&mut troubles));
        self.tell(&section, &seen);
        self.last = if settled { seen } else { Vec::new() };
        Some(Arc::new(section))
    }

    /// One file as it is now, if it fits into `room`, which it then takes.
    fn one(&mut self, real: &Path, path: &Path, name: &str, room: &mut u64) -> (Option<Version>, Parsed, f64) {
        if path.is_symlink() && !path.canonicalize().is_ok_and(|target| target.starts_with(real)) {
            let fault = Fault::new("link_outside", "expected a link to a file in the folder");
            return (None, Err(fault), 0.0);
        }
        let meta = match files::stat(path) {
            Ok(meta) => meta,
            Err(problem) => return (None, Err(Fault::new("unreadable", problem.to_string())), 0.0),
        };
        if meta.len > *room {
            let detail = format!("expected at most {ALL_BYTES_MAX} bytes in all files");
            return (None, Err(Fault::new("too_large", detail)), 0.0);
        }
        *room -= meta.len;
        let key = version(&meta);
        let modified = meta.modified.seconds();
        if let Some((known, parsed)) = self.cache.get(name)
            && *known == key
        {
            return (Some(key), parsed.clone(), modified);
        }
        let (bytes, meta) = match files::read_bounded(path, FILE_BYTES_MAX) {
            Ok(read) => read,
            Err(problem @ files::FileProblem::TooLarge { .. }) => {
                return (None, Err(Fault::new("too_large", problem.to_string())), 0.0);
            }
            Err(problem) => return (None, Err(Fault::new("unreadable", problem.to_string())), 0.0),
        };
        let unchanged = files::stat(path).is_ok_and(|after| version(&after) == version(&meta));
        if !unchanged || meta.len != bytes.len() as u64 {
            return (None, Err(Fault::new("half_written", "it changed while it was read")), 0.0);
        }
        let parsed = match std::str::from_utf8(&bytes) {
            Ok(text) => parse(text).map(Arc::new),
            Err(error) => {
                Err(Fault::new("syntax", format!("expected UTF-8, found none at byte {}", error.valid_up_to())))
            }
        };
        self.cache.insert(name.to_owned(), (version(&meta), parsed.clone()));
        (Some(version(&meta)), parsed, meta.modified.seconds())
    }

    /// One line for each file that is left out, and no more until its version or the reason changes.
    fn tell(&mut self, section: &Section, seen: &[(String, Option<Version>)]) {
        let mut still = HashSet::new();
        for (file, fault) in &section.left_out {
            let version = seen.iter().find(|(name, _)| name == file).and_then(|(_, version)| *version);
            let key = (file.clone(), fault.reason, version);
            if !self.told.contains(&key) {
                let path = self.path.join(file).display().to_string();
                tracing::warn!(path, reason = fault.reason, detail = fault.detail, "textfile left out");
            }
            still.insert(key);
        }
        self.told = still;
    }
}

/// The names of a folder that end in `.prom`, in order, at most [`FILES_MAX`]; what is beyond is a trouble.
fn list(path: &Path) -> Result<(Vec<String>, Troubles), String> {
    let mut names = Vec::new();
    let mut troubles = Vec::new();
    let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
    for (index, entry) in entries.enumerate() {
        if index >= ENTRIES_MAX {
            let detail = format!("expected at most {ENTRIES_MAX} names in the folder");
            troubles.push((String::new(), Fault::new("too_many", detail)));
            break;
        }
        let name = entry.map_err(|error| error.to_string())?.file_name();
        if name.as_encoded_bytes().starts_with(b".") || !name.as_encoded_bytes().ends_with(b".prom") {
            continue;
        }
        match name.into_string() {
            Ok(name) => names.push(name),
            Err(name) => {
                let shown = name.to_string_lossy().into_owned();
                troubles.push((shown, Fault::new("unreadable", "expected a name in UTF-8")));
            }
        }
    }
    names.sort_unstable();
    for name in names.split_off(names.len().min(FILES_MAX)) {
        troubles.push((name, Fault::new("too_many", format!("expected at most {FILES_MAX} files"))));
    }
    Ok((names, troubles))
}

#[cfg(test)]
mod tests;
