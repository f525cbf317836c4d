//! Closes healings that a crash left open: what was made and what was not is found out by looking.
//!
//! **Invariant:** nothing is rolled forward or back, except that a file of the bot which an exchange has displaced comes back
//! to its place; the healing ends as `interrupted`. What lies beside a file goes only if it can be spared (`aside`).

use std::ffi::OsStr;

use super::Ledger;
use super::record::{Done, Stored, StoredChange};
use crate::model::{ChangeKind, ChangeState, HealingEnd, Name, Timestamp};
use crate::workspace::Error;
use crate::workspace::apply::aside::{Aside, Known, unproven};
use crate::workspace::apply::exchange::{Undone, rename_back, second_name, undo};
use crate::workspace::apply::{put_back, temporary};
use crate::workspace::backup::Backups;
use crate::workspace::holders;
use crate::workspace::layout::RelPath;
use crate::workspace::root::{Kind, Place, Root, Trouble, hash_whole};
use crate::workspace::scan::Version;

/// Healings that are over and yet looked through for what they left beside files.
const LOOKED_BACK: usize = 50;

/// Settles every healing that has no end, and clears away what those that are over could not. Returns the ids of those that
/// were settled, oldest first.
pub(in crate::workspace) fn settle(
    root: &Root,
    ledger: &Ledger,
    backups: &Backups,
    now: Timestamp,
) -> Result<Vec<Name>, Error> {
    let mut settled = Vec::new();
    for stored in ledger.unfinished()? {
        let id = stored.head.id.clone();
        let mut journal = ledger.resume(&id)?;
        for done in look_at_all(root, backups, &stored) {
            journal.done(done)?;
        }
        journal.finish(HealingEnd::Interrupted, now)?;
        tracing::warn!(healing = %id, "chiron ended in the middle of a healing; what was changed and what was not is known now");
        settled.push(id);
    }
    for stored in ledger.newest_finished(LOOKED_BACK)? {
        clear_up(root, ledger, backups, &stored)?;
    }
    Ok(settled)
}

/// Clears away what a healing that is over has left beside files, and writes down the copies that were kept for that.
fn clear_up(root: &Root, ledger: &Ledger, backups: &Backups, stored: &Stored) -> Result<(), Error> {
    for (n, change) in stored.changes.iter().enumerate() {
        let (Some(path), Some(done)) = (&change.planned.path, &change.done) else { continue };
        if matches!(change.planned.kind, ChangeKind::CreateDirectory | ChangeKind::RemoveDirectory) {
            continue;
        }
        let beside = temporary(&stored.head.id, n);
        let second = second_name(&beside);
        let names = [beside.as_os_str(), second.as_os_str()];
        let mut aside = Aside::default();
        let known = change.planned.after.as_deref().map(Known::content);
        if let Some(place) = with_left(root, path, &names) {
            for name in names {
                aside.clear(backups, &place, name, known);
            }
        }
        if aside.left == done.left && aside.strays.is_empty() {
            continue;
        }
        let mut again = done.clone();
        again.left.clone_from(&aside.left);
        again.strays.extend(aside.strays.iter().cloned());
        aside.tell(&mut again.detail);
        ledger.resume(&stored.head.id)?.done(again)?;
    }
    Ok(())
}

/// The place of a change beside which one of these names lies: where its path leads, or its path itself if the bot has put
/// a link there since.
fn with_left(root: &Root, path: &RelPath, names: &[&OsStr]) -> Option<Place> {
    let has_left = |place: &Place| names.iter().any(|name| place.beside(name).is_ok_and(|left| left.stat().is_ok()));
    let itself = place_itself(root, path).ok().filter(has_left);
    itself.or_else(|| root.place(path).ok().filter(has_left))
}

fn place_itself(root: &Root, path: &RelPath) -> Result<Place, Trouble> {
    Ok(Place { folder: root.open_folder(path.parent().as_ref())?, name: path.name().into() })
}

fn look_at_all(root: &Root, backups: &Backups, stored: &Stored) -> Vec<Done> {
    let open = stored.changes.iter().enumerate().filter(|(_, change)| change.done.is_none());
    open.map(|(n, change)| {
        let mut aside = Aside::default();
        let (state, mut detail, now) = if change.is_begun {
            let seen = look(root, backups, &mut aside, &stored.head.id, n, change);
            seen.unwrap_or_else(|trouble| abandoned(format!("it cannot be looked at: {trouble}")))
        } else {
            abandoned("it was not begun")
        };
        aside.tell(&mut detail);
        Done { n, state, detail, now, strays: aside.strays, left: aside.left }
    })
    .collect()
}

type Seen = (ChangeState, String, Option<Version>);

fn abandoned(why: impl Into<String>) -> Seen {
    (ChangeState::Abandoned, why.into(), None)
}

fn applied(now: Option<Version>) -> Seen {
    (ChangeState::Applied, "chiron ended right after it was made".to_owned(), now)
}

fn look(
    root: &Root,
    backups: &Backups,
    aside: &mut Aside,
    id: &Name,
    n: usize,
    change: &StoredChange,
) -> Result<Seen, Trouble> {
    let planned = &change.planned;
    let Some(path) = &planned.path else {
        let alive = planned.process.map(crate::workspace::apply::process::is_alive);
        return Ok(match alive {
            Some(Ok(false)) => applied(None),
            Some(Ok(true)) => abandoned("the process still runs"),
            Some(Err(why)) => abandoned(why),
            None => abandoned("it names no process"),
        });
    };
    let stands = |path: &RelPath| match root.stat(path) {
        Ok(seen) => Ok(Some(seen.kind)),
        Err(Trouble::Missing | Trouble::Dangling(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    };
    let beside = temporary(id, n);
    let after = planned.after.as_deref();
    match planned.kind {
        ChangeKind::CreateDirectory if stands(path)? == Some(Kind::Directory) => Ok(applied(None)),
        ChangeKind::RemoveDirectory if stands(path)?.is_none() => Ok(applied(None)),
        ChangeKind::CreateDirectory | ChangeKind::RemoveDirectory | ChangeKind::EndProcess => Ok(abandoned("")),
        ChangeKind::CreateFile => {
            let place = place_itself(root, path)?;
            aside.clear(backups, &place, &beside, after.map(Known::content));
            Ok(by_hash(&place, None, after))
        }
        ChangeKind::ReplaceFile => {
            let second = second_name(&beside);
            let place = match with_left(root, path, &[&beside, &second]) {
                Some(place) => place,
                None => root.place(path)?,
            };
            let before = planned.before.as_ref().map(|kept| kept.version.sha256.as_str());
            let replaced = Replaced { backups, place: &place, before, after };
            if let Some(seen) = replaced.second(aside, &second)? {
                aside.clear(backups, &place, &beside, after.map(Known::content));
                return Ok(seen);
            }
            replaced.look(aside, &beside)
        }
        ChangeKind::RemoveFile => {
            let place = place_itself(root, path)?;
            if place.beside(&beside)?.stat().is_ok() {
                // Its name was taken away and it was not removed yet. Whether somebody uses it by now is not asked: it
                // comes back, and the next round decides anew.
                return match put_back(aside, backups, &place, &beside) {
                    Ok(()) => Ok(abandoned("")),
                    Err(stop) => Ok((ChangeState::Applied, format!("it cannot be put back: {stop}"), None)),
                };
            }
            Ok(if place.stat().is_ok() { abandoned("") } else { applied(None) })
        }
    }
}

fn hash(place: &Place) -> Option<Version> {
    place.open().and_then(|file| hash_whole(&file)).ok()
}

/// What was made, as the file's content tells.
fn by_hash(place: &Place, before: Option<&str>, after: Option<&str>) -> Seen {
    match hash(place) {
        Some(now) if Some(now.sha256.as_str()) == after => applied(Some(now)),
        Some(now) if Some(now.sha256.as_str()) == before => abandoned(""),
        None if before.is_none() => abandoned(""),
        _ => abandoned("it is neither as it was nor as planned, so the bot has written it since; it was left alone"),
    }
}

fn is(version: Option<&Version>, sha: Option<&str>) -> bool {
    version.is_some_and(|version| Some(version.sha256.as_str()) == sha)
}

/// Whether nobody is writing the file, for certain.
fn is_free(version: &Version) -> bool {
    holders::writers(version.device, version.inode).is_ok_and(|by| by.is_empty())
}

/// A file that was to be replaced.
struct Replaced<'a> {
    backups: &'a Backups,
    place: &'a Place,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl Replaced<'_> {
    fn look(&self, aside: &mut Aside, beside: &OsStr) -> Result<Seen, Trouble> {
        let left = self.place.beside(beside)?;
        if left.stat().is_err() {
            return Ok(by_hash(self.place, self.before, self.after));
        }
        let (stands, displaced) = (hash(self.place), hash(&left));
        let Some(written) = stands.filter(|written| Some(written.sha256.as_str()) == self.after) else {
            // What lies beside was never in use, unless the bot has replaced what chiron had put in its place.
            aside.clear(self.backups, self.place, beside, self.after.map(Known::content));
            // Should it not be durable, it is cleared away again.
            let _ = self.place.sync();
            return Ok(by_hash(self.place, self.before, self.after));
        };
        if is(displaced.as_ref(), self.before) && displaced.as_ref().is_some_and(is_free) {
            return Ok(self.made(aside, beside, written));
        }
        // The bot has written it between the look and the exchange, so its file comes back.
        Ok(match undo(aside, self.backups, self.place, beside, &written) {
            Undone::Back => abandoned("the bot had written it meanwhile; its file was put back"),
            Undone::Stands(why) => {
                (ChangeState::Applied, format!("the bot had written it meanwhile, but {why}"), Some(written))
            }
        })
    }

    /// The same where the file got a second name first. `None` if it has none, or has its first one still.
    fn second(&self, aside: &mut Aside, second: &OsStr) -> Result<Option<Seen>, Trouble> {
        let left = self.place.beside(second)?;
        let Ok(seen) = left.stat() else { return Ok(None) };
        let id = |version: &Version| (version.device, version.inode);
        if self.place.stat().is_ok_and(|stands| id(&stands.version) == id(&seen.version)) {
            aside.clear(self.backups, self.place, second, None);
            return Ok(None);
        }
        let (stands, displaced) = (hash(self.place), hash(&left));
        let Some(written) = stands.filter(|written| Some(written.sha256.as_str()) == self.after) else {
            aside.clear(self.backups, self.place, second, None);
            return Ok(None);
        };
        if is(displaced.as_ref(), self.before) && displaced.as_ref().is_some_and(is_free) {
            return Ok(Some(self.made(aside, second, written)));
        }
        Ok(Some(match rename_back(aside, self.backups, self.place, second, &written) {
            Undone::Back => abandoned("the bot had written it meanwhile; its file was put back"),
            Undone::Stands(why) => {
                (ChangeState::Applied, format!("the bot had written it meanwhile, but {why}"), Some(written))
            }
        }))
    }

    fn made(&self, aside: &mut Aside, name: &OsStr, written: Version) -> Seen {
        aside.clear(self.backups, self.place, name, None);
        let (state, mut detail, now) = applied(Some(written));
        let unproven = unproven(self.place.sync());
        if !unproven.is_empty() {
            detail = format!("{detail}, {unproven}");
        }
        (state, detail, now)
    }
}
