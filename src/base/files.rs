//! Bounded reading, atomic writing and rotating logs: the only way to files that others may have spoilt.
//!
//! Where it sits: below `observe`, `publish`, `workspace` and `config`. All of it blocks, but never on what is no
//! regular file.
//! **Invariant:** nothing here waits on a FIFO or device, reads more than it was allowed to, or leaves half a file
//! behind.
#![expect(clippy::disallowed_methods, reason = "this is where files are read and written")]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::model::Timestamp;

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMeta {
    /// When its content last changed.
    pub modified: Timestamp,
    /// Bytes.
    pub len: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// When its content last changed, in nanoseconds since the Unix epoch; tells versions apart.
    pub modified_nanos: i128,
    /// Number of the file on its file system; a file that was replaced has another.
    pub inode: u64,
    /// The file system.
    pub device: u64,
}

impl FileMeta {
    fn from_stat(stat: &Stat) -> Self {
        let nanos = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        Self {
            modified: Timestamp::from_millis(i64::try_from(nanos.div_euclid(1_000_000)).unwrap_or(i64::MAX)),
            len: u64::try_from(stat.st_size).unwrap_or(0),
            is_dir: FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            modified_nanos: nanos,
            inode: stat.st_ino,
            device: stat.st_dev,
        }
    }
}

/// Why a file could not be read. Each displays as a clause that completes "`PATH`: ...".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileProblem {
    /// There is nothing under that name.
    #[error("missing")]
    Missing,
    /// A folder where a file was expected.
    #[error("is a directory")]
    Directory,
    /// Something else where a folder was expected.
    #[error("is not a directory")]
    NotDirectory,
    /// Reading it could wait for ever.
    #[error("is a FIFO")]
    Fifo,
    /// It can only be connected to.
    #[error("is a socket")]
    Socket,
    /// Reading it may have effects.
    #[error("is a device")]
    Device,
    /// A symbolic link to nothing.
    #[error("dangling link to {}", .0.display())]
    DanglingLink(PathBuf),
    /// Symbolic links that lead to each other.
    #[error("is a loop of links")]
    LinkLoop,
    /// It may not be read, or a folder on the way may not be entered.
    #[error("permission denied")]
    PermissionDenied,
    /// A part of the path that should be a folder is none.
    #[error("a folder of its path is not a folder")]
    NotInFolder,
    /// More than the caller wanted to hold in memory.
    #[error("{len} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes found, at least.
        len: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Anything else the system said.
    #[error("{0}")]
    Other(String),
}

impl FileProblem {
    /// Nothing is there; a dangling link is not nothing, somebody meant a file to be there.
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }

    /// Whether the file says something about itself, as opposed to us being unable to ask.
    pub const fn is_finding(&self) -> bool {
        !matches!(self, Self::PermissionDenied | Self::NotInFolder | Self::Other(_))
    }

    fn from_errno(errno: Errno, path: &Path) -> Self {
        match errno {
            Errno::NOENT => match std::fs::read_link(path) {
                Ok(target) => Self::DanglingLink(target),
                Err(_) => Self::Missing,
            },
            Errno::ACCESS | Errno::PERM => Self::PermissionDenied,
            Errno::LOOP => Self::LinkLoop,
            Errno::NOTDIR => Self::NotInFolder,
            Errno::ISDIR => Self::Directory,
            Errno::NXIO => Self::Socket,
            other => Self::Other(io::Error::from(other).to_string()),
        }
    }
}

/// What is under `path`, links followed. Costs one system call; nothing is opened.
pub fn stat(path: &Path) -> Result<FileMeta, FileProblem> {
    match rustix::fs::stat(path) {
        Ok(stat) => {
            special(&stat)?;
            Ok(FileMeta::from_stat(&stat))
        }
        Err(errno) => Err(FileProblem::from_errno(errno, path)),
    }
}

/// Refuses what is neither file nor folder.
fn special(stat: &Stat) -> Result<(), FileProblem> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => Ok(()),
        FileType::Fifo => Err(FileProblem::Fifo),
        FileType::Socket => Err(FileProblem::Socket),
        FileType::CharacterDevice | FileType::BlockDevice => Err(FileProblem::Device),
        _ => Err(FileProblem::Other("is neither file nor folder".to_owned())),
    }
}

/// Whether every user of the machine may read, write or execute what is under `path`.
pub fn is_open_to_all(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.mode() & 0o007 != 0)
}

/// Opens a regular file to read, without ever waiting for the other end of a FIFO.
pub fn open(path: &Path) -> Result<(File, FileMeta), FileProblem> {
    if stat(path)?.is_dir {
        return Err(FileProblem::Directory);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| FileProblem::from_errno(errno, path))?;
    // Asked again of what was really opened: the name may lead elsewhere by now.
    let stat = rustix::fs::fstat(&fd).map_err(|errno| FileProblem::from_errno(errno, path))?;
    special(&stat)?;
    let meta = FileMeta::from_stat(&stat);
    if meta.is_dir { Err(FileProblem::Directory) } else { Ok((File::from(fd), meta)) }
}

/// Reads a regular file of at most `max` bytes.
pub fn read_bounded(path: &Path, max: u64) -> Result<(Vec<u8>, FileMeta), FileProblem> {
    let (file, meta) = open(path)?;
    if meta.len > max {
        return Err(FileProblem::TooLarge { len: meta.len, limit: max });
    }
    // The size is a hint: the file may grow while it is read, and files of /proc claim to be empty.
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len).unwrap_or(0).saturating_add(1));
    let read = (&file).take(max.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| FileProblem::Other(error.to_string()))?;
    let len = bytes.len() as u64;
    if len > max { Err(FileProblem::TooLarge { len, limit: max }) } else { Ok((bytes, meta)) }
}

/// Reads at most `max` bytes from the start of a regular file of any size.
pub fn read_start(path: &Path, max: u64) -> Result<(Vec<u8>, FileMeta), FileProblem> {
    let (file, meta) = open(path)?;
    let mut bytes = Vec::new();
    (&file).take(max).read_to_end(&mut bytes).map_err(|error| FileProblem::Other(error.to_string()))?;
    Ok((bytes, meta))
}

/// Replaces `path` by a file with `bytes`, durably: a reader, or a crash, sees the old content or the new, nothing
/// else. Keeps the old file's permissions and, where allowed, its owner; a link stays and its target is replaced.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let target = if path.is_symlink() { path.canonicalize().unwrap_or_else(|_| path.into()) } else { path.into() };
    replace(&target, bytes)
}

/// Like [`write_atomic`], but a link in its place is replaced itself, never followed.
pub fn replace(target: &Path, bytes: &[u8]) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name =
        target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let folder = folder_of(target);
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    let temporary = folder.join(temporary);
    let written = replace_by(&temporary, target, bytes);
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn replace_by(temporary: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(temporary)?;
    if let Ok(old) = std::fs::symlink_metadata(target)
        && old.is_file()
    {
        // The owner first: changing it may clear bits of the mode. Without the right to give files away ours stays.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
        file.set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(temporary, target)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Appends `line` and a line end to a log of at most `max_bytes`; a fuller one is first moved to the same name with
/// `.1` appended, over the one before it. A line torn by a crash is ended first, so that it spoils no other; one that a
/// full disk cuts short is taken back.
pub fn append_line(path: &Path, line: &str, max_bytes: u64) -> io::Result<()> {
    let mut file = open_log(path)?;
    let mut len = file.metadata()?.len();
    if len > 0 && len.saturating_add(line.len() as u64 + 1) > max_bytes {
        let mut older = path.as_os_str().to_owned();
        older.push(".1");
        std::fs::rename(path, &older)?;
        file = open_log(path)?;
        len = file.metadata()?.len();
    }
    let mut text = Vec::with_capacity(line.len() + 2);
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != [b'\n'] {
        text.push(b'\n');
    }
    text.extend(line.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
    text.push(b'\n');
    // On a full disk a part may have been written; half a line helps nobody.
    file.write_all(&text).inspect_err(|_| drop(file.set_len(len)))
}

fn open_log(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).append(true).create(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn fifo(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    }

    /// OBS-1: whatever stands where a file should is named at once; a FIFO without a writer would hang a plain open.
    #[test]
    fn everything_that_is_no_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("dir")).unwrap();
        fifo(&at("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        std::fs::write(at("big"), b"12345678901").unwrap();
        std::fs::write(at("ok"), b"1234567890").unwrap();
        for (name, expected) in [
            ("none", "missing"),
            ("dir", "is a directory"),
            ("fifo", "is a FIFO"),
            ("socket", "is a socket"),
            ("dangling", "dangling link to nowhere"),
            ("loop", "is a loop of links"),
            ("ok/below", "a folder of its path is not a folder"),
            ("big", "11 bytes, more than the limit of 10"),
        ] {
            assert_eq!(read_bounded(&at(name), 10).unwrap_err().to_string(), expected, "{name}");
        }
        assert_eq!(read_bounded(Path::new("/dev/null"), 10).unwrap_err(), FileProblem::Device);
        let (bytes, meta) = read_bounded(&at("ok"), 10).unwrap();
        assert_eq!((bytes.as_slice(), meta.len, meta.is_dir), (&b"1234567890"[..], 10, false));
        assert!(stat(&at("dir")).unwrap().is_dir);
        assert_eq!(read_start(&at("big"), 3).unwrap().0, b"123");
        // A file of /proc claims to be empty and is read all the same, within the limit.
        assert!(!read_bounded(Path::new("/proc/self/stat"), 4096).unwrap().0.is_empty());
        assert!(matches!(read_bounded(Path::new("/proc/self/stat"), 4), Err(FileProblem::TooLarge { .. })));
    }

    #[test]
    fn the_time_of_change_is_exact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let when = std::time::UNIX_EPOCH + std::time::Duration::new(1_700_000_000, 123_456_789);
        File::create(&path).unwrap().set_modified(when).unwrap();
        let meta = stat(&path).unwrap();
        assert_eq!(meta.modified, Timestamp::from_millis(1_700_000_000_123));
        assert_eq!(meta.modified_nanos, 1_700_000_000_123_456_789);
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write_atomic(&path, b"one").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let link = folder.path().join("link.json");
        symlink("state.json", &link).unwrap();
        write_atomic(&link, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        // A folder in its place is refused and the temporary file is gone.
        std::fs::create_dir(folder.path().join("dir")).unwrap();
        write_atomic(&folder.path().join("dir"), b"x").unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_full_log_moves_aside_and_a_torn_line_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        std::fs::write(&path, b"{\"torn").unwrap();
        append_line(&path, "{}", 10).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"torn\n{}\n");
        append_line(&path, "{\"a\":1}", 10).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"a\":1}\n");
        assert_eq!(std::fs::read(folder.path().join("run.jsonl.1")).unwrap(), b"{\"torn\n{}\n");
        // A line larger than the limit is still written, alone.
        append_line(&path, "{\"long\":\"line\"}", 10).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"long\":\"line\"}\n");
        fifo(&folder.path().join("fifo"));
        append_line(&folder.path().join("fifo"), "x", 10).unwrap_err();
    }

    /// What a full disk takes only in part is taken back: the log goes on with whole lines.
    #[test]
    fn a_full_disk_leaves_no_half_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mount = |program: &str, arguments: &[&str]| {
            std::process::Command::new(program).args(arguments).arg(folder.path()).status().is_ok_and(|it| it.success())
        };
        assert!(mount("mount", &["-t", "tmpfs", "-o", "size=16k", "tmpfs"]), "this test mounts a tmpfs and needs root");
        let path = folder.path().join("run.jsonl");
        let line = "x".repeat(2_999);
        let mut whole = 0;
        let refused = loop {
            match append_line(&path, &line, 1 << 20) {
                Ok(()) => whole += 1,
                Err(error) => break error,
            }
        };
        let found = std::fs::read(&path).unwrap();
        assert!(mount("umount", &["-l"]));
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert!(whole > 1 && found.len() == whole * 3_000, "{whole} lines, {} bytes", found.len());
    }
}
