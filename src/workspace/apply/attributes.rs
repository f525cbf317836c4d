//! Mode, owner and extended attributes of a file: read from one, given to another.
//!
//! **Invariant:** all of them or an error; a file never gets more rights than the one it stands for had.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::Stop;
use crate::workspace::ledger::record::Kept;
use crate::workspace::root::{Trouble, version_of};
use crate::workspace::scan::Version;

/// Attributes that the system gives each file by itself; where they cannot be given they are left as they are.
const OWN_OF_SYSTEM: [&str; 3] = ["security.selinux", "security.ima", "security.evm"];

/// Mode, owner, extended attributes and, in a rollback, the modification time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: BTreeMap<String, Vec<u8>>,
    pub(super) modified_nanos: Option<i128>,
}

impl Attributes {
    /// Those of an open file; its time is not among them.
    pub(crate) fn read(file: impl AsFd) -> Result<Self, Trouble> {
        let version = version_of(&file)?;
        let xattrs = xattrs(file)?;
        Ok(Self { mode: version.mode, uid: version.uid, gid: version.gid, xattrs, modified_nanos: None })
    }

    /// Those that a healing has kept, with the time. Bits that let a file act as its owner, and capabilities, are never
    /// given back: whoever could write the healing's file would have a way to them.
    pub(crate) fn of_kept(kept: &Kept) -> Self {
        let version = &kept.version;
        let decode = |(name, value): (&String, &String)| Some((name.clone(), STANDARD.decode(value).ok()?));
        let mut xattrs: BTreeMap<String, Vec<u8>> = kept.xattrs.iter().filter_map(decode).collect();
        xattrs.remove("security.capability");
        let modified_nanos = Some(version.modified_nanos);
        Self { mode: version.mode & 0o1777, uid: version.uid, gid: version.gid, xattrs, modified_nanos }
    }

    /// What a healing keeps of an open file of that version.
    pub(crate) fn keep(file: impl AsFd, version: &Version) -> Result<Kept, Trouble> {
        let encode = |(name, value): (String, Vec<u8>)| (name, STANDARD.encode(value));
        Ok(Kept { version: version.clone(), xattrs: xattrs(file)?.into_iter().map(encode).collect() })
    }

    /// Gives them to an open file or folder.
    pub(super) fn give(&self, file: impl AsFd) -> Result<(), Stop> {
        let file = file.as_fd();
        let now = version_of(file)?;
        // The owner first: changing it clears bits of the mode.
        if (now.uid, now.gid) != (self.uid, self.gid) {
            let given = rustix::fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)));
            given.map_err(|errno| {
                Stop::Failed(format!("its owner (user {}, group {}) cannot be kept: {errno}", self.uid, self.gid))
            })?;
        }
        let present = xattrs(file)?;
        for (name, value) in &self.xattrs {
            if present.get(name) == Some(value) {
                continue;
            }
            match rustix::fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                Err(_) if OWN_OF_SYSTEM.contains(&name.as_str()) => {}
                Err(errno) => return Err(Stop::Failed(format!("its attribute `{name}` cannot be kept: {errno}"))),
            }
        }
        // What the folder hands down to every new file, an ACL that the old one has not.
        for name in present.keys().filter(|name| !self.xattrs.contains_key(*name)) {
            match rustix::fs::fremovexattr(file, name.as_str()) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(_) if name.starts_with("security.") => {}
                Err(errno) => return Err(Stop::Failed(format!("its attribute `{name}` cannot be removed: {errno}"))),
            }
        }
        // The mode last: it is also the mask of an ACL.
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))
            .map_err(|errno| Stop::Failed(format!("its mode {:o} cannot be kept: {errno}", self.mode)))
    }
}

/// Gives an open file a modification time.
pub(super) fn set_modified(file: impl AsFd, nanos: i128) -> Result<(), Stop> {
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or(0);
    let rest = i64::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0);
    let last_modification = Timespec { tv_sec: seconds, tv_nsec: rest };
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Ok(rustix::fs::futimens(file, &Timestamps { last_access, last_modification })?)
}

/// The extended attributes of an open file. File systems without them have none.
fn xattrs(file: impl AsFd) -> Result<BTreeMap<String, Vec<u8>>, Trouble> {
    let file = file.as_fd();
    let names = match read_grown(|buffer| rustix::fs::flistxattr(file, buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(BTreeMap::new()),
        Err(errno) => return Err(errno.into()),
    };
    let mut found = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let text = std::str::from_utf8(name).map_err(|_| Trouble::System(Errno::ILSEQ))?;
        let name = CString::new(name).map_err(|_| Trouble::System(Errno::INVAL))?;
        match read_grown(|buffer| rustix::fs::fgetxattr(file, &name, buffer)) {
            Ok(value) => drop(found.insert(text.to_owned(), value)),
            // Removed since it was listed, or one that only its owner may read.
            Err(Errno::NODATA) => {}
            Err(_) if OWN_OF_SYSTEM.contains(&text) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(found)
}

/// Reads something whose size is not known before.
fn read_grown(mut read: impl FnMut(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    // The kernel's own bound of a value and of a list.
    const LARGEST: usize = 65_536;
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(len) => {
                buffer.truncate(len);
                return Ok(buffer);
            }
            Err(Errno::RANGE) if buffer.len() < LARGEST => buffer.resize(LARGEST, 0),
            Err(errno) => return Err(errno),
        }
    }
}
