//! Puts a file in another's place, looks at what was displaced, and undoes it where the bot was faster.
//!
//! The two names are exchanged. Where the file system cannot do that, the old file gets a second name first, so that it is
//! still there to be looked at when the new one has taken its place.
//! **Invariant:** what the bot wrote last ends under the file's name, whether it can be opened or not; nothing else of the
//! bot's goes before it is durable as a copy.

use std::ffi::{OsStr, OsString};

use rustix::fs::{AtFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::aside::{Aside, Known, unproven};
use super::{Hands, Made, Step, Stop, gone, open_again};
use crate::workspace::backup::Backups;
use crate::workspace::holders;
use crate::workspace::root::{Place, Trouble, hash_whole};
use crate::workspace::scan::Version;

/// How often an exchange is undone anew because the bot was faster again.
const UNDOINGS_MAX: usize = 16;

/// What stands after an exchange was to be undone.
#[derive(Debug)]
pub(in crate::workspace) enum Undone {
    /// What the bot wrote last.
    Back,
    /// What chiron has put there, and why.
    Stands(String),
}

/// The second name of a file that is replaced where names cannot be exchanged.
pub(in crate::workspace) fn second_name(beside: &OsStr) -> OsString {
    let mut name = beside.to_owned();
    name.push("-old");
    name
}

impl Hands<'_> {
    /// Puts the file `beside` in the place, if what is displaced is the version that was looked at.
    pub(super) fn exchange(
        &self,
        place: &Place,
        beside: &OsStr,
        step: &Step,
        before: &Version,
        written: &Version,
    ) -> Result<Made, Stop> {
        match swap(place, beside) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Err(gone()),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                return self.replace_by_link(place, beside, step, before, written);
            }
            Err(errno) => return Err(errno.into()),
        }
        let checked = self.point("exchange.after").and_then(|()| {
            self.must_rest(&open_again(&place.beside(beside)?)?, before, false, step)?;
            self.point("checked")
        });
        if let Err(stop) = checked {
            let undone = undo(&mut self.aside.borrow_mut(), self.backups, place, beside, written);
            return match undone {
                Undone::Back => Err(stop),
                Undone::Stands(why) => Ok(Made { now: Some(written.clone()), detail: format!("{stop}, but {why}") }),
            };
        }
        let detail = unproven(place.sync());
        self.clear(place, beside, Some(Known::file(before)));
        // What was removed comes back at worst, and is removed then.
        let _ = place.sync();
        Ok(Made { now: Some(written.clone()), detail })
    }

    fn replace_by_link(
        &self,
        place: &Place,
        beside: &OsStr,
        step: &Step,
        before: &Version,
        written: &Version,
    ) -> Result<Made, Stop> {
        let second = second_name(beside);
        let is_linked = match link(place, &second) {
            Ok(()) => true,
            Err(Errno::NOENT) => return Err(gone()),
            Err(errno) if step.may_hold_records() => {
                return Err(Stop::Deferred(format!(
                    "the file system can neither exchange names nor give a file a second one ({errno}), so what the bot \
                     writes meanwhile could be lost"
                )));
            }
            Err(_) => false,
        };
        // Looked at again right before; the second name has changed the inode's own time.
        let replaced = open_again(place)
            .and_then(|file| self.must_rest(&file, before, !is_linked, step))
            .and_then(|()| Ok(rustix::fs::renameat(&place.folder, beside, &place.folder, &place.name)?));
        if let Err(stop) = replaced {
            self.clear(place, &second, None);
            return Err(stop);
        }
        let struck = self.point("exchange.after");
        if !is_linked {
            // It is made; a step that is struck here can only kill.
            let _ = self.point("checked");
            return Ok(Made { now: Some(written.clone()), detail: unproven(place.sync()) });
        }
        let checked = struck.and_then(|()| {
            self.must_rest(&open_again(&place.beside(&second)?)?, before, false, step)?;
            self.point("checked")
        });
        if let Err(stop) = checked {
            let undone = rename_back(&mut self.aside.borrow_mut(), self.backups, place, &second, written);
            return match undone {
                Undone::Back => Err(stop),
                Undone::Stands(why) => Ok(Made { now: Some(written.clone()), detail: format!("{stop}, but {why}") }),
            };
        }
        let detail = unproven(place.sync());
        self.clear(place, &second, Some(Known::file(before)));
        let _ = place.sync();
        Ok(Made { now: Some(written.clone()), detail })
    }
}

/// Whether a name still leads to that file as it was, as far as can be told without opening it.
fn is_unwritten(now: &Version, put: &Version) -> bool {
    let id = |version: &Version| (version.device, version.inode, version.len, version.modified_nanos);
    id(now) == id(put)
}

/// Whether the file of that name is the one that was put there, and nobody has written it since. What chiron itself wrote must
/// also still hold that, and nobody may be about to write it; one that cannot be opened is known by inode, size and time.
fn rests(place: &Place, put: &Version) -> bool {
    if !place.stat().is_ok_and(|now| is_unwritten(&now.version, put)) {
        return false;
    }
    // Whoever writes is asked for first: once nobody can write, what is read afterwards stays.
    let is_own = !put.sha256.is_empty();
    if is_own && holders::writers(put.device, put.inode).is_ok_and(|by| !by.is_empty()) {
        return false;
    }
    let content = place.open().and_then(|file| hash_whole(&file));
    !is_own || content.map_or(true, |now| now.sha256 == put.sha256)
}

/// Undoes an exchange: the file `beside` comes back under the place's name. That takes names alone, so it works whatever
/// the file is and whether it can be opened. If the bot has meanwhile put something newer there, or has written into what
/// chiron had put there, that stays.
pub(in crate::workspace) fn undo(
    aside: &mut Aside,
    backups: &Backups,
    place: &Place,
    beside: &OsStr,
    written: &Version,
) -> Undone {
    let out = match place.beside(beside) {
        Ok(out) => out,
        Err(trouble) => return stands(aside, beside, &trouble),
    };
    let mut put = Some(written.clone());
    for _ in 0..UNDOINGS_MAX {
        let next = out.stat().ok().map(|seen| seen.version);
        match swap(place, beside) {
            Ok(()) => {}
            Err(Errno::NOENT) if next.is_none() => {
                return Undone::Stands("what it had displaced is gone".to_owned());
            }
            // The bot has removed the file meanwhile, and that is its last word.
            Err(Errno::NOENT) => break,
            Err(errno) => return stands(aside, beside, &errno.into()),
        }
        // What came out is what was put there: nobody was faster.
        if put.is_none_or(|put| rests(&out, &put)) {
            break;
        }
        // It is newer than what now stands there: once more.
        put = next;
    }
    aside.clear(backups, place, beside, Some(Known::file(written)));
    // What stands there now is looked at when the healing is settled, should it not be durable.
    let _ = place.sync();
    Undone::Back
}

fn stands(aside: &mut Aside, name: &OsStr, trouble: &Trouble) -> Undone {
    aside.leave(name, "it could not be put back");
    Undone::Stands(format!("what stood there could not be put back: {trouble}"))
}

/// Gives the file its name back that only has its second one any more, unless the bot has put something newer there.
pub(in crate::workspace) fn rename_back(
    aside: &mut Aside,
    backups: &Backups,
    place: &Place,
    second: &OsStr,
    written: &Version,
) -> Undone {
    let is_ours = rests(place, written);
    if is_ours && let Err(errno) = rustix::fs::renameat(&place.folder, second, &place.folder, &place.name) {
        return stands(aside, second, &errno.into());
    }
    if !is_ours {
        aside.clear(backups, place, second, None);
    }
    let _ = place.sync();
    Undone::Back
}

/// Exchanges the place's name with the other.
fn swap(place: &Place, beside: &OsStr) -> Result<(), Errno> {
    #[cfg(test)]
    if let Some(errno) = testing::REFUSED.get().0 {
        return Err(errno);
    }
    renameat_with(&place.folder, beside, &place.folder, &place.name, RenameFlags::EXCHANGE)
}

/// Gives the file a second name.
fn link(place: &Place, second: &OsStr) -> Result<(), Errno> {
    #[cfg(test)]
    if let Some(errno) = testing::REFUSED.get().1 {
        return Err(errno);
    }
    rustix::fs::linkat(&place.folder, &place.name, &place.folder, second, AtFlags::empty())
}

/// File systems that can less than the one the tests run on.
#[cfg(test)]
pub(in crate::workspace) mod testing {
    use std::cell::Cell;

    use rustix::io::Errno;

    thread_local! {
        /// What this thread's next exchanges of names, and second names, are answered.
        pub(in crate::workspace) static REFUSED: Cell<(Option<Errno>, Option<Errno>)> = const { Cell::new((None, None)) };
    }
}
