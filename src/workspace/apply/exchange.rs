//! Exchanges the names of two files, looks at what came out, and undoes it where the bot was faster.
//!
//! **Invariant:** what the bot wrote last ends under the file's name; what it wrote before that and chiron has displaced is
//! kept as a copy before it goes.

use std::ffi::OsString;
use std::os::fd::AsFd;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Hands, Stop, gone, is_same, open_again, unlink};
use crate::workspace::backup::Backups;
use crate::workspace::holders;
use crate::workspace::root::{Place, Trouble, hash_whole};
use crate::workspace::scan::Version;

/// How often an exchange is undone anew because the bot was faster again.
const UNDOINGS_MAX: usize = 16;

/// The file of another name in the same folder.
pub(in crate::workspace) fn neighbour(place: &Place, name: &OsString) -> Result<Place, Trouble> {
    let folder = place.folder.as_fd().try_clone_to_owned()?;
    Ok(Place { folder, name: name.clone() })
}

impl Hands<'_> {
    /// Puts the file `beside` in the place, if what is displaced is the version that was looked at.
    pub(super) fn exchange(
        &self,
        place: &Place,
        beside: &OsString,
        before: &Version,
        written: &Version,
    ) -> Result<(), Stop> {
        match renameat_with(&place.folder, beside, &place.folder, &place.name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(gone()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::renameat(&place.folder, beside, &place.folder, &place.name)?;
                let _ = self.point("exchange.after").and_then(|()| self.point("checked"));
                return Ok(place.sync()?);
            }
            Err(errno) => return Err(errno.into()),
        }
        let displaced = neighbour(place, beside)?;
        let checked = self.point("exchange.after").and_then(|()| {
            self.must_rest(&open_again(&displaced)?, before, false)?;
            self.point("checked")
        });
        if let Err(stop) = checked {
            undo(self.backups, place, beside, written)?;
            return Err(stop);
        }
        place.sync()?;
        rustix::fs::unlinkat(&place.folder, beside, rustix::fs::AtFlags::empty())?;
        Ok(place.sync()?)
    }
}

/// Whether the file of that name is that version and nobody is writing it.
fn rests(place: &Place, expected: &Version) -> bool {
    let Ok(file) = place.open() else { return false };
    let is_free = holders::writers(expected.device, expected.inode).is_empty();
    is_free && hash_whole(&file).is_ok_and(|now| is_same(&now, expected, false))
}

/// Undoes an exchange: the file `beside` comes back under the place's name. If the bot has meanwhile put something newer
/// there, or has written into what chiron had put there, that stays.
pub(in crate::workspace) fn undo(
    backups: &Backups,
    place: &Place,
    beside: &OsString,
    written: &Version,
) -> Result<(), Stop> {
    let out = neighbour(place, beside)?;
    let mut put = written.clone();
    for _ in 0..UNDOINGS_MAX {
        let Ok(next) = out.open().and_then(|file| hash_whole(&file).or_else(|_| super::version_of(&file))) else {
            return Err(Stop::Failed("what was displaced cannot be looked at".to_owned()));
        };
        match renameat_with(&place.folder, beside, &place.folder, &place.name, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // The bot has removed the file meanwhile, and that is its last word.
            Err(Errno::NOENT) => {
                keep_stray(backups, &out);
                unlink(place, beside);
                return Ok(place.sync()?);
            }
            Err(errno) => return Err(errno.into()),
        }
        // What came out is what chiron had put there: nobody was faster.
        if rests(&out, &put) {
            if put.inode != written.inode {
                keep_stray(backups, &out);
            }
            unlink(place, beside);
            return Ok(place.sync()?);
        }
        // It is newer than what now stands there: once more.
        put = next;
    }
    keep_stray(backups, &out);
    unlink(place, beside);
    place.sync()?;
    Err(Stop::Failed("somebody writes it all the time; both versions are kept as copies".to_owned()))
}

/// Keeps a copy of what is about to go although nobody planned it.
pub(in crate::workspace) fn keep_stray(backups: &Backups, place: &Place) {
    match place.open().and_then(|file| backups.put_file(&file)) {
        Ok(sha256) => tracing::warn!(%sha256, "a version that the bot has replaced meanwhile is kept as a copy"),
        Err(trouble) => {
            tracing::warn!(error = %trouble, "a version that the bot has replaced cannot be kept as a copy")
        }
    }
}

/// After a change that was not made: removes what was written beside.
pub(super) fn clear_up(backups: &Backups, place: &Place, beside: &OsString, written: &Version) {
    let Ok(left) = neighbour(place, beside) else { return };
    match left.stat() {
        Ok(seen) if seen.version.inode == written.inode => {}
        Ok(_) => keep_stray(backups, &left),
        Err(_) => return,
    }
    unlink(place, beside);
}
