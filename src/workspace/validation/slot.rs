//! The release folder that is about to run: there, active, and complete against its manifest.
//!
//! What was hashed once is known by its inode, size and times, so that a round of a running chiron hashes only what is new.
//! A file whose times are too young to tell a change in the same instant is hashed again.
//! **Invariant:** reads only, in bounded pieces; nothing outside of the release folder is opened, and nothing waits on a
//! FIFO or device.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::SlotSettings;
use super::super::layout::RelPath;
use super::super::root::{hex, version_of};
use super::super::scan::Version;
use crate::base::clock::Clock;
use crate::model::RECORDS_MAX;

/// The largest manifest.
const MANIFEST_MAX: u64 = 4 << 20;
/// The most files of a release.
const FILES_MAX: usize = 100_000;
/// The largest file of a release; hashing more would keep a bot from starting for minutes.
const FILE_MAX: u64 = 16 << 30;
/// How much is read at once.
const CHUNK: usize = 256 * 1024;
/// How long one look may hash; what is left is told as a problem, and the next look goes on with it.
const WITHIN: Duration = Duration::from_secs(300);
/// Times of files are as coarse as the kernel's tick, or as a server's clock: a younger file may change without showing it.
const SETTLED: Duration = Duration::from_secs(3);

/// Digests by version.
type Known = BTreeMap<Key, String>;

/// Which version of a file: file system, inode, size, and the times of content and inode.
type Key = (u64, u64, u64, i128, i128);

/// What this process has hashed.
static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());

/// What was found of the release folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSeen {
    /// What is wrong, one sentence each: missing, not the active one, a file that is missing or differs.
    pub problems: Vec<String>,
    /// Files of the manifest, and how many of them are as it says.
    pub files: usize,
    /// The same.
    pub files_right: usize,
    /// The folder is there, its manifest can be read, and it is the active one.
    pub usable: bool,
}

/// Looks at the release folder. Blocking.
pub fn look_at_slot(slot: &SlotSettings) -> SlotSeen {
    let mut known = std::mem::take(&mut *KNOWN.lock().unwrap_or_else(PoisonError::into_inner));
    let seen = look_within(slot, WITHIN, &mut known);
    *KNOWN.lock().unwrap_or_else(PoisonError::into_inner) = known;
    seen
}

/// The same within a time, with what is known, which is replaced by what this release holds.
pub(super) fn look_within(slot: &SlotSettings, within: Duration, known: &mut Known) -> SlotSeen {
    let clock = Clock::system();
    let mut hashes = Hashes { until: clock.since_boot() + within, clock, known, used: Known::new() };
    let seen =
        look(slot, &mut hashes).unwrap_or_else(|problem| SlotSeen { problems: vec![problem], ..SlotSeen::default() });
    *known = hashes.used;
    seen
}

/// Hashes files, each version once.
struct Hashes<'a> {
    clock: Clock,
    /// When hashing ends, by the time since boot.
    until: Duration,
    known: &'a Known,
    used: Known,
}

/// Why a file has no digest.
enum Unhashed {
    /// The time was over.
    Late,
    Wrong(String),
}

impl From<String> for Unhashed {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

impl From<&str> for Unhashed {
    fn from(why: &str) -> Self {
        Self::Wrong(why.to_owned())
    }
}

impl Hashes<'_> {
    fn digest(&mut self, file: File) -> Result<String, Unhashed> {
        let version = |file: &File| version_of(file).map_err(|trouble| format!("cannot be looked at: {trouble}"));
        let before = version(&file)?;
        let key = key(&before);
        if let Some(known) = self.known.get(&key).or_else(|| self.used.get(&key)) {
            let known = known.clone();
            self.used.insert(key, known.clone());
            return Ok(known);
        }
        let begun = self.clock.now();
        // No further than the size it had: what grows meanwhile differs anyway.
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut start = Read::take(&file, before.len.saturating_add(1));
        loop {
            if self.clock.since_boot() >= self.until {
                return Err(Unhashed::Late);
            }
            match start.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => hash.update(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("cannot be read: {error}").into()),
            }
        }
        let found = hex(&hash.finalize());
        let last = before.modified_nanos.max(before.changed_nanos).div_euclid(1_000_000);
        let is_settled = i128::from(begun.millis()) - last >= i128::try_from(SETTLED.as_millis()).unwrap_or(i128::MAX);
        if is_settled && version(&file)? == before {
            self.used.insert(key, found.clone());
        }
        Ok(found)
    }
}

fn key(version: &Version) -> Key {
    (version.device, version.inode, version.len, version.modified_nanos, version.changed_nanos)
}

fn look(slot: &SlotSettings, hashes: &mut Hashes<'_>) -> Result<SlotSeen, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(&slot.path, flags, Mode::empty())
        .map_err(|errno| format!("the release folder `{}` cannot be opened: {}", slot.path.display(), said(errno)))?;
    let shown = slot.manifest.display();
    let manifest = manifest(folder.as_fd(), &slot.manifest).map_err(|why| format!("the manifest `{shown}` {why}"))?;
    let mut seen = SlotSeen::default();
    match manifest.get("active") {
        Some(Value::Bool(true)) => seen.usable = true,
        Some(Value::Bool(false)) => seen.problems.push(format!("the release is not the active one, as `{shown}` says")),
        _ => seen.problems.push(format!("the manifest `{shown}` does not say `active: true` or `false`")),
    }
    let Some(files) = manifest.get("files").and_then(Value::as_object) else {
        return Err(format!("the manifest `{shown}` names no `files`"));
    };
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(format!("the manifest `{shown}` names {} files, expected 1 to {FILES_MAX}", files.len()));
    }
    seen.files = files.len();
    let mut late = 0_usize;
    for (name, digest) in files {
        match compared(folder.as_fd(), name, digest, hashes) {
            Ok(()) => seen.files_right += 1,
            Err(Unhashed::Late) => late += 1,
            Err(Unhashed::Wrong(why)) if seen.problems.len() < RECORDS_MAX => {
                seen.problems.push(format!("`{}` {why}", short(name)));
            }
            Err(Unhashed::Wrong(_)) => {}
        }
    }
    if late > 0 {
        // First, so that no flood of others hides it.
        let why = format!("{late} of {} files could not be compared in time; the next look goes on", files.len());
        seen.problems.insert(0, why);
    }
    Ok(seen)
}

fn manifest(folder: BorrowedFd<'_>, path: &Path) -> Result<Value, String> {
    let (file, _) = open(folder, path)?;
    let mut bytes = Vec::new();
    file.take(MANIFEST_MAX + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > MANIFEST_MAX {
        return Err(format!("has more than {MANIFEST_MAX} bytes"));
    }
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| format!("is no JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err("holds no mapping".to_owned()) }
}

/// A regular file beneath the folder, and its size.
fn open(folder: BorrowedFd<'_>, path: &Path) -> Result<(File, u64), String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let fd = rustix::fs::openat2(folder, path, flags, Mode::empty(), resolve).map_err(|errno| match errno {
        Errno::NOENT => "is missing".to_owned(),
        Errno::XDEV => "lies outside of the release folder".to_owned(),
        other => format!("cannot be opened: {}", said(other)),
    })?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| format!("cannot be looked at: {}", said(errno)))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("is no regular file".to_owned());
    }
    Ok((File::from(fd), u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Whether a file is there with that digest.
fn compared(folder: BorrowedFd<'_>, name: &str, digest: &Value, hashes: &mut Hashes<'_>) -> Result<(), Unhashed> {
    let wanted = digest.as_str().and_then(|text| text.strip_prefix("sha256:"));
    let wanted = wanted.filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let wanted = wanted.ok_or("has no digest in the manifest, expected `sha256:` and 64 hexadecimal digits")?;
    let path = RelPath::parse(name).map_err(|_| "is no path below the release folder")?;
    let (file, len) = open(folder, Path::new(path.as_str()))?;
    if len > FILE_MAX {
        return Err(format!("has {len} bytes, expected at most {FILE_MAX}").into());
    }
    let found = hashes.digest(file)?;
    if found.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    let why =
        format!("differs from the manifest: its SHA-256 begins with {}, expected {}", &found[..12], &wanted[..12]);
    Err(why.into())
}

fn said(errno: Errno) -> std::io::Error {
    std::io::Error::from(errno)
}

/// A name that somebody else wrote, fit for a message.
fn short(name: &str) -> String {
    crate::base::tree::shorten(name)
}
