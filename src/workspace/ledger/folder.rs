//! The folder in which chiron keeps what it did to a workspace: opened once, everything in it relative to it.
//!
//! **Invariant:** it is this process's own, nobody else may look into it, and no name in it is followed as a link.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use crate::workspace::layout::RelPath;
use crate::workspace::root::{Place, Root, Seen, Trouble, list, read_whole, seen};
use crate::workspace::{Error, ErrorKind, Settings};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// `STATE_DIR`, or a folder in it, open.
#[derive(Clone, Debug)]
pub struct Folder {
    /// Where it is, for messages.
    pub path: PathBuf,
    fd: Arc<OwnedFd>,
    /// To whom root gives what it makes there, so that the unprivileged chiron of this workspace can go on with it.
    owner: Option<(Uid, Gid)>,
}

impl Folder {
    /// Opens `STATE_DIR`; `None` if it is not there.
    pub fn open(settings: &Settings, root: &Root) -> Result<Option<Self>, Error> {
        let path = &settings.state_dir;
        let refuse = |trouble: &Trouble| Error::new(ErrorKind::State, format!("`{}` is {trouble}", path.display()));
        let opened = match below(settings) {
            Some(below) => root.open_folder(Some(&below)),
            None => rustix::fs::open(path, FOLDER | OFlags::NOFOLLOW, Mode::empty()).map_err(Trouble::from),
        };
        let fd = match opened {
            Ok(fd) => fd,
            Err(Trouble::Missing) => match below(settings).and_then(|below| root.read_link(&below).ok().flatten()) {
                Some(link) => return Err(refuse(&Trouble::Dangling(link.to_string_lossy().into_owned()))),
                None => return Ok(None),
            },
            Err(trouble @ (Trouble::System(_) | Trouble::NotInFolder)) => {
                let context = format!("`{}` cannot be opened, expected a folder of chiron's own", path.display());
                return Err(state(context, &trouble));
            }
            Err(trouble) => return Err(refuse(&trouble)),
        };
        let context = || format!("`{}` cannot be looked at", path.display());
        let stat = rustix::fs::fstat(&fd).map_err(|errno| state(context(), &errno.into()))?;
        let above = rustix::fs::fstat(&*root.fd).map_err(|errno| state(context(), &errno.into()))?;
        let me = rustix::process::geteuid();
        let ours = stat.st_uid == me.as_raw() || me.is_root() && stat.st_uid == above.st_uid;
        if !ours {
            let expected = match me.is_root() {
                true => format!("root, as whom chiron runs, or user {}, to whom the workspace belongs", above.st_uid),
                false => format!("user {}, as whom chiron runs", me.as_raw()),
            };
            let context = format!(
                "`{}` belongs to user {}, expected {expected}; whoever owns it can forge what a healing did, so it is not used",
                path.display(),
                stat.st_uid,
            );
            return Err(Error::new(ErrorKind::State, context));
        }
        let owner = me.is_root().then(|| (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)));
        Ok(Some(Self { path: path.clone(), fd: Arc::new(fd), owner }))
    }

    /// Opens `STATE_DIR`, making it if it is not there, and sees to it that nobody else may look into it.
    pub fn create(settings: &Settings, root: &Root) -> Result<Self, Error> {
        if let Some(found) = Self::open(settings, root)? {
            found.close_to_others()?;
            return Ok(found);
        }
        let path = &settings.state_dir;
        let made = match below(settings) {
            // What is not right with it then is found when it is opened.
            Some(below) => root.create_dir(&below).map(|_| ()),
            None => rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o700)).map_err(Trouble::from),
        };
        match made {
            Ok(()) | Err(Trouble::System(Errno::EXIST)) => {}
            Err(trouble) => return Err(state(format!("`{}` cannot be made", path.display()), &trouble)),
        }
        let gone = || Error::new(ErrorKind::State, format!("`{}` was removed as soon as it was made", path.display()));
        let found = Self::open(settings, root)?.ok_or_else(gone)?;
        found.close_to_others()?;
        Ok(found)
    }

    fn close_to_others(&self) -> Result<(), Error> {
        let mode = rustix::fs::fstat(&*self.fd).map(|stat| stat.st_mode & 0o7777);
        if mode == Ok(0o700) {
            return Ok(());
        }
        rustix::fs::fchmod(&*self.fd, Mode::from_raw_mode(0o700)).map_err(|errno| {
            let context = format!("`{}` cannot be closed to others (mode 0700)", self.path.display());
            state(context, &errno.into())
        })
    }

    /// A folder in it; `None` if it is not there.
    pub fn folder(&self, name: &str) -> Result<Option<Self>, Trouble> {
        match rustix::fs::openat(&*self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { path: self.path.join(name), fd: Arc::new(fd), owner: self.owner })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The same, made if it is not there.
    pub fn make_folder(&self, name: &str) -> Result<Self, Trouble> {
        if let Some(found) = self.folder(name)? {
            return Ok(found);
        }
        match rustix::fs::mkdirat(&*self.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let made = self.folder(name)?.ok_or(Trouble::Missing)?;
        self.give(&*made.fd)?;
        rustix::fs::fsync(&*made.fd)?;
        self.sync()?;
        Ok(made)
    }

    fn give(&self, made: impl std::os::fd::AsFd) -> Result<(), Trouble> {
        if let Some((owner, group)) = self.owner {
            rustix::fs::fchown(made, Some(owner), Some(group))?;
        }
        Ok(())
    }

    /// The names in it with what they are.
    pub fn names(&self) -> Result<Vec<String>, Trouble> {
        let again = rustix::fs::openat(&*self.fd, ".", FOLDER, Mode::empty())?;
        Ok(list(again)?.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect())
    }

    /// Makes a file that is not there yet. Its name is not durable before [`Folder::sync`].
    pub fn make_file(&self, name: &str) -> Result<File, Trouble> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(&*self.fd, name, flags, Mode::from_raw_mode(0o600))?);
        self.give(&file)?;
        Ok(file)
    }

    /// Opens a regular file to read and append.
    pub fn append(&self, name: &str) -> Result<File, Trouble> {
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(&*self.fd, name, flags, Mode::empty())?))
    }

    /// Opens the file of that name to be locked, made if it is not there.
    pub fn lock_file(&self, name: &str) -> Result<File, Trouble> {
        match self.append(name) {
            Err(Trouble::Missing) => match self.make_file(name) {
                Err(Trouble::System(Errno::EXIST)) => self.append(name),
                made => made,
            },
            found => found,
        }
    }

    /// Opens a regular file to read.
    pub fn file(&self, name: &str) -> Result<File, Trouble> {
        let folder =
            rustix::fs::openat(&*self.fd, ".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Place { folder, name: name.into() }.open()
    }

    /// What a file of at most `max` bytes holds; `None` if it is not there.
    pub fn read(&self, name: &str, max: u64) -> Result<Option<Arc<[u8]>>, Trouble> {
        match self.file(name).and_then(|file| read_whole(&file, max)) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(Trouble::Missing) => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Size of a file.
    pub fn len(&self, name: &str) -> Result<u64, Trouble> {
        Ok(self.seen(name)?.version.len)
    }

    /// What stands under a name, a link not followed.
    pub fn seen(&self, name: &str) -> Result<Seen, Trouble> {
        Ok(seen(&rustix::fs::statat(&*self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Replaces a file durably: a crash leaves the old or the new.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let beside = format!("{name}.tmp");
        self.remove(&beside)?;
        let mut file = self.make_file(&beside)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Trouble::from);
        let named = written.and_then(|()| self.rename(&beside, name));
        if named.is_err() {
            // It is in nobody's way; the next call removes it.
            let _ = self.remove(&beside);
        }
        named?;
        self.sync()
    }

    /// Gives a file another name, over what has it.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), Trouble> {
        Ok(rustix::fs::renameat(&*self.fd, from, &*self.fd, to)?)
    }

    /// Removes a file; one that is not there is removed already.
    pub fn remove(&self, name: &str) -> Result<(), Trouble> {
        match rustix::fs::unlinkat(&*self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes what happened to its names durable.
    pub fn sync(&self) -> Result<(), Trouble> {
        Ok(rustix::fs::fsync(&*self.fd)?)
    }
}

/// `STATE_DIR` below the workspace, as it usually is.
fn below(settings: &Settings) -> Option<RelPath> {
    let below = settings.state_dir.strip_prefix(&settings.workspace).ok()?;
    RelPath::parse(below.to_str()?).ok()
}

/// The folder of healings and backups says no.
pub fn state(context: String, trouble: &Trouble) -> Error {
    match trouble.errno() {
        Some(errno) => Error::io(ErrorKind::State, context, errno.into()),
        None => Error::new(ErrorKind::State, format!("{context}: {trouble}")),
    }
}
