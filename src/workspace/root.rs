//! The one door to the files of a workspace: everything is opened relative to its folder and beneath it.
//!
//! **Invariant:** no link, `..` or mount trick leads out of the workspace (`openat2` with `RESOLVE_BENEATH`, Linux 5.6 or
//! newer); nothing waits on a FIFO or device.

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::layout::RelPath;
use super::scan::{Access, Version};
use super::{Error, ErrorKind};

/// How often a lookup is tried again while somebody renames folders in its way; the kernel says `EAGAIN` each time.
const TRIES: usize = 256;

/// Links that a file may stand behind; the kernel's own bound.
const LINKS_MAX: usize = 40;

/// An open workspace.
#[derive(Clone, Debug)]
pub struct Root {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// The folder.
    pub fd: Arc<OwnedFd>,
}

/// What stands under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A link; only a listing says so, everything else follows it.
    Link,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character or block device.
    Device,
    /// The file system does not tell.
    Unknown,
}

impl Kind {
    fn of(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Link,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::CharacterDevice | FileType::BlockDevice => Self::Device,
            FileType::Unknown => Self::Unknown,
        }
    }

    /// The kind with its article, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Directory => "a folder",
            Self::File => "a file",
            Self::Link => "a link",
            Self::Fifo => "a FIFO",
            Self::Socket => "a socket",
            Self::Device => "a device",
            Self::Unknown => "something unknown",
        }
    }
}

/// What is known of a name without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is, links inside the workspace followed.
    pub kind: Kind,
    /// Which version; its `sha256` is empty.
    pub version: Version,
    /// Names that the file has.
    pub names: u64,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name, which may be no UTF-8.
    pub name: OsString,
    /// What the listing says it is; links are not followed.
    pub kind: Kind,
}

/// Why a name could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nothing is there.
    #[error("it is not there")]
    Missing,
    /// A part of the path before the last is no folder.
    #[error("a part of its path is no folder")]
    NotInFolder,
    /// A link in it points to nothing. What the link says, if it is the last part.
    #[error("a dangling link to `{0}`")]
    Dangling(String),
    /// A link in it leads out of the workspace, or starts with `/`.
    #[error("a link that leaves the workspace")]
    Leaves,
    /// Links that lead to each other.
    #[error("links that lead to each other")]
    Loop,
    /// It is something else than what was asked for.
    #[error("{found}, expected {expected}", found = found.name(), expected = expected.name())]
    Other {
        /// What it is.
        found: Kind,
        /// What was asked for.
        expected: Kind,
    },
    /// It is larger than what is read.
    #[error("{len} bytes, more than the {max} that are read")]
    TooLarge {
        /// Its size.
        len: u64,
        /// What is read at most.
        max: u64,
    },
    /// It was written while it was read.
    #[error("it changed while it was read")]
    Changed,
    /// The system is older than Linux 5.6.
    #[error("the system has no `openat2`, expected Linux 5.6 or newer, and a sandbox that allows the call")]
    TooOld,
    /// The system says no.
    #[error("{0}")]
    System(Errno),
}

impl Trouble {
    /// What the system said, if it did.
    pub const fn errno(&self) -> Option<Errno> {
        match self {
            Self::System(errno) => Some(*errno),
            _ => None,
        }
    }

    fn of(errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing,
            Errno::NOTDIR => Self::NotInFolder,
            Errno::XDEV => Self::Leaves,
            Errno::LOOP => Self::Loop,
            Errno::NOSYS => Self::TooOld,
            other => Self::System(other),
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        Self::of(errno)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::of(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

/// Where a file truly is, links followed: its folder, open, and its name in it.
#[derive(Debug)]
pub struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// The name in it.
    pub name: OsString,
}

impl Place {
    /// What stands under the name itself, a link not followed.
    pub fn stat(&self) -> Result<Seen, Trouble> {
        Ok(seen(&rustix::fs::statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Another name in the same folder. One that would lead out of it is refused: it may stem from a file that somebody forged.
    pub fn beside(&self, name: &OsStr) -> Result<Self, Trouble> {
        let bytes = name.as_bytes();
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') || bytes.contains(&0) {
            return Err(Trouble::System(Errno::INVAL));
        }
        Ok(Self { folder: self.folder.as_fd().try_clone_to_owned()?, name: name.to_owned() })
    }

    /// Opens the regular file of that name, never a link, never waiting.
    pub fn open(&self) -> Result<File, Trouble> {
        let found = self.stat()?.kind;
        if found != Kind::File {
            return Err(Trouble::Other { found, expected: Kind::File });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = File::from(rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())?);
        must_be(&file, Kind::File)?;
        Ok(file)
    }

    /// Makes what happened to names of the folder durable.
    pub fn sync(&self) -> Result<(), Trouble> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::fsync(rustix::fs::openat(&self.folder, ".", flags, Mode::empty())?)?)
    }
}

impl Root {
    /// Opens the folder at `path`; a link to the workspace itself is followed.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(|errno| {
            let context = format!("`{}` cannot be opened, expected the workspace's folder", path.display());
            Error::io(ErrorKind::Workspace, context, errno.into())
        })?;
        let root = Self { path: path.to_owned(), fd: Arc::new(fd) };
        root.beneath(OsStr::new("."), OFlags::PATH).map_err(|trouble| {
            Error::new(ErrorKind::Workspace, format!("`{}` cannot be looked into: {trouble}", path.display()))
        })?;
        Ok(root)
    }

    /// Opens a path beneath the workspace. Every other function goes through this one.
    fn beneath(&self, path: &OsStr, flags: OFlags) -> Result<OwnedFd, Trouble> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut last = Errno::AGAIN;
        for _ in 0..TRIES {
            match rustix::fs::openat2(&*self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Ok(fd) => return Ok(fd),
                Err(Errno::AGAIN | Errno::INTR) => last = Errno::AGAIN,
                Err(errno) => return Err(Trouble::of(errno)),
            }
        }
        Err(Trouble::of(last))
    }

    /// What stands under the path, links inside the workspace followed. Reads nothing.
    pub fn stat(&self, path: &RelPath) -> Result<Seen, Trouble> {
        let fd = self.beneath(OsStr::new(path.as_str()), OFlags::PATH).map_err(|t| self.dangling(path, t))?;
        Ok(seen(&rustix::fs::fstat(&fd)?))
    }

    /// A lookup that found nothing although a link stands there tells of the link.
    fn dangling(&self, path: &RelPath, trouble: Trouble) -> Trouble {
        if !matches!(trouble, Trouble::Missing) {
            return trouble;
        }
        match self.read_link(path) {
            Ok(Some(target)) => Trouble::Dangling(target.to_string_lossy().into_owned()),
            _ => trouble,
        }
    }

    /// What the link of that path says; `None` if it is no link.
    pub fn read_link(&self, path: &RelPath) -> Result<Option<OsString>, Trouble> {
        let folder = self.open_folder(path.parent().as_ref())?;
        match rustix::fs::readlinkat(&folder, path.name(), Vec::new()) {
            Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a regular file to read. Anything else is refused without being opened, so nothing waits.
    pub fn open_file(&self, path: &RelPath) -> Result<File, Trouble> {
        let found = self.stat(path)?.kind;
        if found != Kind::File {
            return Err(Trouble::Other { found, expected: Kind::File });
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.beneath(OsStr::new(path.as_str()), flags)?);
        // Asked again of what was really opened: the name may lead elsewhere by now.
        must_be(&file, Kind::File)?;
        Ok(file)
    }

    /// Reads a regular file of at most `max` bytes, with the version that was read.
    pub fn read(&self, path: &RelPath, max: u64) -> Result<(Arc<[u8]>, Version), Trouble> {
        read_whole(&self.open_file(path)?, max)
    }

    /// The version of a regular file of any size, with the hash of its content.
    pub fn hash(&self, path: &RelPath) -> Result<Version, Trouble> {
        hash_whole(&self.open_file(path)?)
    }

    /// What is in a folder (`None`: the workspace itself), by name. No `.` and `..`.
    pub fn list(&self, path: Option<&RelPath>) -> Result<Vec<Listed>, Trouble> {
        list(self.open_folder(path)?)
    }

    /// Opens a folder (`None`: the workspace itself).
    pub fn open_folder(&self, path: Option<&RelPath>) -> Result<OwnedFd, Trouble> {
        let path = path.map_or(".", RelPath::as_str);
        self.beneath(OsStr::new(path), OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// What this process may do with a file or folder: by its effective user, read-only mounts included.
    pub fn access(&self, path: &RelPath) -> Result<Access, Trouble> {
        let fd = self.beneath(OsStr::new(path.as_str()), OFlags::PATH)?;
        let is_folder = seen(&rustix::fs::fstat(&fd)?).kind == Kind::Directory;
        // Asked of what is open, not of the name again; `faccessat2` with an empty path is newer than `openat2`.
        let name = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let may = |wish: rustix::fs::Access| {
            let wish = if is_folder { wish | rustix::fs::Access::EXEC_OK } else { wish };
            match rustix::fs::accessat(CWD, name.as_str(), wish, AtFlags::EACCESS) {
                Ok(()) => Ok(true),
                Err(Errno::ACCESS | Errno::ROFS | Errno::PERM | Errno::TXTBSY) => Ok(false),
                Err(errno) => Err(Trouble::from(errno)),
            }
        };
        Ok(Access { read: may(rustix::fs::Access::READ_OK)?, write: may(rustix::fs::Access::WRITE_OK)? })
    }

    /// Makes a folder, whose own folder must be there. Its mode is 0755; if root makes it, it belongs to the owner of the
    /// folder it lies in. What went wrong after it was made is the inner answer: it is there then, and may not be durable.
    pub fn create_dir(&self, path: &RelPath) -> Result<Result<(), Trouble>, Trouble> {
        let parent = self.open_folder(path.parent().as_ref())?;
        rustix::fs::mkdirat(&parent, path.name(), Mode::from_raw_mode(0o755))?;
        Ok(finish_dir(&parent, path.name()))
    }

    /// Removes a folder if it is empty. The inner answer is whether that is durable.
    pub fn remove_dir(&self, path: &RelPath) -> Result<Result<(), Trouble>, Trouble> {
        let parent = self.open_folder(path.parent().as_ref())?;
        rustix::fs::unlinkat(&parent, path.name(), AtFlags::REMOVEDIR)?;
        Ok(rustix::fs::fsync(&parent).map_err(Trouble::from))
    }

    /// Where the file of that path truly is: links are followed to the folder in which its name stands, so that it and not
    /// a link to it is replaced. The file itself need not be there.
    pub fn place(&self, path: &RelPath) -> Result<Place, Trouble> {
        let mut at = OsString::from(path.as_str());
        for _ in 0..LINKS_MAX {
            let (folder, name) = split(&at);
            if matches!(name.as_bytes(), b"" | b"." | b"..") {
                return Err(Trouble::Other { found: Kind::Directory, expected: Kind::File });
            }
            let (folder, name) = (folder.to_owned(), name.to_owned());
            let open = self.beneath(&folder, OFlags::PATH | OFlags::DIRECTORY)?;
            let target = match rustix::fs::readlinkat(&open, &name, Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(Errno::INVAL | Errno::NOENT) => return Ok(Place { folder: open, name }),
                Err(errno) => return Err(errno.into()),
            };
            if target.first() == Some(&b'/') {
                return Err(Trouble::Leaves);
            }
            // Joined as text and resolved by the kernel, so that a `..` behind a link means what it should.
            let mut next = folder.into_vec();
            next.push(b'/');
            next.extend_from_slice(&target);
            at = OsString::from_vec(next);
        }
        Err(Trouble::Loop)
    }
}

/// Gives a folder that was just made its owner and mode, durably.
fn finish_dir(parent: &OwnedFd, name: &str) -> Result<(), Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    belong_to(&made, parent)?;
    // Whatever the mask of this process is.
    rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755))?;
    rustix::fs::fsync(&made)?;
    Ok(rustix::fs::fsync(parent)?)
}

/// The folder and the last name of a path.
fn split(path: &OsStr) -> (&OsStr, &OsStr) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])),
        None => (OsStr::new("."), path),
    }
}

/// Gives what root makes to the owner of the folder it lies in; does nothing for anybody else.
pub(super) fn belong_to(made: impl AsFd, parent: impl AsFd) -> Result<(), Trouble> {
    if rustix::process::geteuid().is_root() {
        let parent = rustix::fs::fstat(parent)?;
        let (owner, group) = (rustix::fs::Uid::from_raw(parent.st_uid), rustix::fs::Gid::from_raw(parent.st_gid));
        rustix::fs::fchown(made, Some(owner), Some(group))?;
    }
    Ok(())
}

/// What is in an open folder, by name.
pub(super) fn list(folder: OwnedFd) -> Result<Vec<Listed>, Trouble> {
    let mut found = Vec::new();
    let mut dir = Dir::new(folder)?;
    while let Some(entry) = dir.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            let name = OsStr::from_bytes(name).to_owned();
            found.push(Listed { name, kind: Kind::of(entry.file_type()) });
        }
    }
    found.sort();
    Ok(found)
}

fn must_be(file: &File, expected: Kind) -> Result<(), Trouble> {
    let found = seen(&rustix::fs::fstat(file)?).kind;
    if found == expected { Ok(()) } else { Err(Trouble::Other { found, expected }) }
}

/// What a `stat` says.
pub(super) fn seen(stat: &Stat) -> Seen {
    let nanos = |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let version = Version {
        inode: stat.st_ino,
        device: stat.st_dev,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        modified_nanos: nanos(stat.st_mtime, stat.st_mtime_nsec),
        changed_nanos: nanos(stat.st_ctime, stat.st_ctime_nsec),
        sha256: String::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
    };
    Seen { kind: Kind::of(FileType::from_raw_mode(stat.st_mode)), version, names: stat.st_nlink }
}

/// The version of an open file, without its hash.
pub(super) fn version_of(file: impl AsFd) -> Result<Version, Trouble> {
    Ok(seen(&rustix::fs::fstat(file)?).version)
}

/// Everything in an open file of at most `max` bytes, from its start, and which version it was.
pub(super) fn read_whole(file: &File, max: u64) -> Result<(Arc<[u8]>, Version), Trouble> {
    let before = version_of(file)?;
    if before.len > max {
        return Err(Trouble::TooLarge { len: before.len, max });
    }
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
    let mut bytes = Vec::with_capacity(usize::try_from(before.len).unwrap_or(0).saturating_add(1));
    Read::take(file, max.saturating_add(1)).read_to_end(&mut bytes)?;
    let len = bytes.len() as u64;
    if len > max {
        return Err(Trouble::TooLarge { len, max });
    }
    if version_of(file)? != before || len != before.len {
        return Err(Trouble::Changed);
    }
    let sha256 = sha256(&bytes);
    Ok((bytes.into(), Version { sha256, ..before }))
}

/// The version of an open file with the hash of what it holds, whatever its size.
pub(super) fn hash_whole(file: &File) -> Result<Version, Trouble> {
    let before = version_of(file)?;
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match Read::read(&mut &*file, &mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    if version_of(file)? != before {
        return Err(Trouble::Changed);
    }
    Ok(Version { sha256: hex(&hasher.finalize()), ..before })
}

/// SHA-256 of some bytes, hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
