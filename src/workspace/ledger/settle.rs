//! Closes a healing that a crash left open: what was made and what was not is found out by looking.
//!
//! **Invariant:** nothing is rolled forward or back, except that a file of the bot which an exchange has displaced comes back
//! to its place; the healing ends as `interrupted`.

use super::Ledger;
use super::record::{Done, Stored, StoredChange};
use crate::model::{ChangeKind, ChangeState, HealingEnd, Name, Timestamp};
use crate::workspace::Error;
use crate::workspace::apply::exchange::{keep_stray, neighbour, undo};
use crate::workspace::apply::{put_back, temporary, unlink};
use crate::workspace::backup::Backups;
use crate::workspace::holders;
use crate::workspace::layout::RelPath;
use crate::workspace::root::{Kind, Place, Root, Trouble, hash_whole};
use crate::workspace::scan::Version;

/// Settles the last healing if it has no end. Returns its id if there was something to settle.
pub(in crate::workspace) fn settle(
    root: &Root,
    ledger: &Ledger,
    backups: &Backups,
    now: Timestamp,
) -> Result<Option<Name>, Error> {
    let Some(stored) = ledger.unfinished()? else { return Ok(None) };
    let id = stored.head.id.clone();
    let mut journal = ledger.resume(&id)?;
    for done in look_at_all(root, backups, &stored) {
        journal.done(done)?;
    }
    journal.finish(HealingEnd::Interrupted, now)?;
    tracing::warn!(healing = %id, "chiron ended in the middle of a healing; what was changed and what was not is known now");
    Ok(Some(id))
}

fn look_at_all(root: &Root, backups: &Backups, stored: &Stored) -> Vec<Done> {
    let open = stored.changes.iter().enumerate().filter(|(_, change)| change.done.is_none());
    open.map(|(n, change)| {
        let (state, detail, now) = if change.is_begun {
            let seen = look(root, backups, &stored.head.id, n, change);
            seen.unwrap_or_else(|trouble| abandoned(format!("it cannot be looked at: {trouble}")))
        } else {
            abandoned("it was not begun")
        };
        Done { n, state, detail, now }
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

fn look(root: &Root, backups: &Backups, id: &Name, n: usize, change: &StoredChange) -> Result<Seen, Trouble> {
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
    match planned.kind {
        ChangeKind::CreateDirectory if stands(path)? == Some(Kind::Directory) => Ok(applied(None)),
        ChangeKind::RemoveDirectory if stands(path)?.is_none() => Ok(applied(None)),
        ChangeKind::CreateDirectory | ChangeKind::RemoveDirectory | ChangeKind::EndProcess => Ok(abandoned("")),
        ChangeKind::CreateFile => {
            let place = Place { folder: root.open_folder(path.parent().as_ref())?, name: path.name().into() };
            unlink(&place, &temporary(id, n));
            Ok(by_hash(&place, None, planned.after.as_deref()))
        }
        ChangeKind::ReplaceFile => {
            let place = root.place(path)?;
            let before = planned.before.as_ref().map(|kept| kept.version.sha256.as_str());
            replaced(backups, &place, id, n, before, planned.after.as_deref())
        }
        ChangeKind::RemoveFile => {
            let place = Place { folder: root.open_folder(path.parent().as_ref())?, name: path.name().into() };
            let beside = temporary(id, n);
            if neighbour(&place, &beside)?.stat().is_ok() {
                // Its name was taken away and it was not removed yet. Whether somebody uses it by now is not asked: it
                // comes back, and the next round decides anew.
                if place.stat().is_ok() {
                    keep_stray(backups, &neighbour(&place, &beside)?);
                }
                return match put_back(&place, &beside) {
                    Ok(()) => Ok(abandoned("")),
                    Err(stop) => Ok(abandoned(format!("it cannot be put back: {stop:?}"))),
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

fn replaced(
    backups: &Backups,
    place: &Place,
    id: &Name,
    n: usize,
    before: Option<&str>,
    after: Option<&str>,
) -> Result<Seen, Trouble> {
    let beside = temporary(id, n);
    let left = neighbour(place, &beside)?;
    if left.stat().is_err() {
        return Ok(by_hash(place, before, after));
    }
    let (stands, displaced) = (hash(place), hash(&left));
    let is = |version: &Option<Version>, sha: Option<&str>| {
        version.as_ref().is_some_and(|version| Some(version.sha256.as_str()) == sha)
    };
    match stands {
        Some(written) if Some(written.sha256.as_str()) == after => {
            let is_free = displaced.as_ref().is_some_and(|it| holders::writers(it.device, it.inode).is_empty());
            if is(&displaced, before) && is_free {
                unlink(place, &beside);
                place.sync()?;
                return Ok(applied(Some(written)));
            }
            // The bot has written it between the look and the exchange, so its file comes back.
            Ok(match undo(backups, place, &beside, &written) {
                Ok(()) => abandoned("the bot had written it meanwhile; its file was put back"),
                Err(stop) => abandoned(format!("the bot had written it meanwhile: {stop:?}")),
            })
        }
        stands => {
            // What lies beside was never in use, unless the bot has replaced what chiron had put in its place.
            if !is(&stands, before) && !is(&displaced, after) {
                keep_stray(backups, &left);
            }
            unlink(place, &beside);
            place.sync()?;
            Ok(by_hash(place, before, after))
        }
    }
}
