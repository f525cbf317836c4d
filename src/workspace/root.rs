//! The one door to the files of a workspace: everything is opened relative to its folder and beneath it.
//!
//! **Invariant:** no link, `..` or mount trick leads out of the workspace (`openat2` with `RESOLVE_BENEATH`, Linux 5.6 or
//! newer); nothing waits on a FIFO or device.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Error, ErrorKind};

/// An open workspace.
#[derive(Clone, Debug)]
pub struct Root {
    /// Where it is, for messages.
    pub path: PathBuf,
    /// The folder.
    pub fd: Arc<OwnedFd>,
}

impl Root {
    /// Opens the folder at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        use rustix::fs::{Mode, OFlags};
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = fd.map_err(|errno| {
            let context = format!("`{}` cannot be opened, expected the workspace's folder", path.display());
            Error::io(ErrorKind::Workspace, context, errno.into())
        })?;
        Ok(Self { path: path.to_owned(), fd: Arc::new(fd) })
    }
}
