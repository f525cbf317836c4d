//! Undoes a healing, byte for byte, as a healing of its own.
//!
//! Content, mode, owner, extended attributes and modification time of files come back; so do folders. The modification
//! times of folders, and processes that were ended, do not.
//! **Invariant:** what has changed since is left alone unless a person insists, and then it is backed up first.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::apply::Step;
use super::backup::Backups;
use super::ledger::folder::{Folder, state};
use super::ledger::record::{Kept, Stored, StoredChange};
use super::root::{Kind, Root, Trouble};
use super::scan::Version;
use super::{Error, ErrorKind, Settings, ledger};
use crate::model::{ChangeKind, ChangeRecord, ChangeState, Name};

/// How many files an error names.
const NAMED_MAX: usize = 20;

/// What undoing a healing takes.
#[derive(Debug, Default)]
pub(super) struct Undoing {
    /// In the order they are made: the last change first.
    pub(super) steps: Vec<Step>,
    /// What cannot be undone, and why.
    pub(super) told: Vec<ChangeRecord>,
    /// Files that changed since, and how.
    changed: Vec<String>,
}

/// What undoing that healing would take: nothing is locked, settled or written, not even below `STATE_DIR`.
pub(super) fn look_only(settings: &Settings, root: &Root, id: &Name, force: bool) -> Result<Undoing, Error> {
    let folder = Folder::open(settings, root)?.ok_or_else(|| ledger::unknown(id))?;
    let context = || format!("the copies in `{}` cannot be read", folder.path.display());
    let backups = Backups::open(&folder).map_err(|trouble| state(context(), &trouble))?;
    let (stored, undone_by) = ledger::find(&folder, id)?;
    undoing(root, &backups, &stored, undone_by, force)
}

/// Finds out what undoing takes, or why it is refused. Reads only.
pub(super) fn undoing(
    root: &Root,
    backups: &Backups,
    stored: &Stored,
    undone_by: Option<Name>,
    force: bool,
) -> Result<Undoing, Error> {
    let id = &stored.head.id;
    let settled = |why: String| Err(Error::new(ErrorKind::Settled, why));
    if let Some(by) = undone_by {
        return settled(format!("healing `{id}` has been undone already, by `{by}`; undo that one to have it again"));
    }
    if stored.end.is_none() {
        return settled(format!("healing `{id}` is not over yet"));
    }
    let mut undoing = Undoing::default();
    for change in stored.changes.iter().rev().filter(|change| change.state() == ChangeState::Applied) {
        undo_change(root, backups, change, force, &mut undoing)?;
    }
    if !force && !undoing.changed.is_empty() {
        let mut named = undoing.changed.clone();
        named.truncate(NAMED_MAX);
        let more = undoing.changed.len() - named.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let context = format!(
            "healing `{id}` is not undone, and nothing was changed: {}{more}; with `--force` what is there now is copied \
             and then replaced",
            named.join(", ")
        );
        return Err(Error::new(ErrorKind::Changed, context));
    }
    if undoing.steps.is_empty() {
        return match undoing.told.first() {
            Some(told) => settled(format!("healing `{id}` cannot be undone: {} ({})", told.detail, told.path)),
            None => settled(format!("healing `{id}` has left nothing to undo")),
        };
    }
    Ok(undoing)
}

/// What stands under a path now.
enum Now {
    Nothing,
    Folder,
    File(Version),
    Else(String),
}

fn look(root: &Root, change: &StoredChange) -> Result<Now, Error> {
    let Some(path) = &change.planned.path else { return Ok(Now::Nothing) };
    match root.stat(path) {
        Ok(seen) if seen.kind == Kind::Directory => Ok(Now::Folder),
        Ok(seen) if seen.kind == Kind::File => match root.hash(path) {
            Ok(version) => Ok(Now::File(version)),
            Err(trouble) => Ok(Now::Else(trouble.to_string())),
        },
        Ok(seen) => Ok(Now::Else(format!("is {} now", seen.kind.name()))),
        Err(Trouble::Missing) => Ok(Now::Nothing),
        Err(trouble @ Trouble::TooOld) => Err(Error::new(ErrorKind::Workspace, trouble.to_string())),
        Err(trouble) => Ok(Now::Else(trouble.to_string())),
    }
}

/// Whether the file is what the healing has left: content, mode and owner.
fn is_left(change: &StoredChange, now: &Version) -> bool {
    let rights = |version: &Version| (version.mode, version.uid, version.gid);
    let left = change.done.as_ref().and_then(|done| done.now.as_ref());
    change.planned.after.as_deref() == Some(now.sha256.as_str()) && left.is_none_or(|left| rights(left) == rights(now))
}

/// Whether the file is what was there before the healing.
fn is_back(kept: Option<&Kept>, now: &Version) -> bool {
    let rights = |version: &Version| (version.mode, version.uid, version.gid);
    kept.is_some_and(|kept| kept.version.sha256 == now.sha256 && rights(&kept.version) == rights(now))
}

fn undo_change(
    root: &Root,
    backups: &Backups,
    change: &StoredChange,
    force: bool,
    undoing: &mut Undoing,
) -> Result<(), Error> {
    let planned = &change.planned;
    let kept = planned.before.as_ref();
    let place = planned.place();
    let mut step = Step {
        kind: planned.kind,
        code: planned.code,
        path: planned.path.clone(),
        process: None,
        content: None,
        keep_times: false,
        restore: kept.cloned(),
        before: None,
        detail: String::new(),
        lost: Vec::new(),
    };
    let told = |detail: String| ChangeRecord {
        kind: planned.kind,
        code: planned.code,
        path: place.clone(),
        state: ChangeState::Failed,
        before: None,
        after: None,
        detail,
    };
    let now = look(root, change)?;
    match (planned.kind, now) {
        (ChangeKind::EndProcess, _) => {
            undoing.told.push(told("a process that was ended is not started again".to_owned()));
            return Ok(());
        }
        (ChangeKind::CreateDirectory, Now::Folder) => step.kind = ChangeKind::RemoveDirectory,
        (ChangeKind::RemoveDirectory, Now::Nothing) => step.kind = ChangeKind::CreateDirectory,
        // Undone by somebody else already.
        (ChangeKind::CreateDirectory | ChangeKind::CreateFile, Now::Nothing)
        | (ChangeKind::RemoveDirectory, Now::Folder) => return Ok(()),
        (ChangeKind::ReplaceFile | ChangeKind::RemoveFile, Now::File(version)) if is_back(kept, &version) => {
            return Ok(());
        }
        (ChangeKind::CreateFile, Now::File(version)) => {
            if !is_left(change, &version) {
                undoing.changed.push(format!("`{place}` has changed since"));
            }
            step.kind = ChangeKind::RemoveFile;
            step.restore = None;
            step.before = Some(version);
        }
        (ChangeKind::ReplaceFile | ChangeKind::RemoveFile, now) => {
            match now {
                Now::Nothing => {
                    if planned.kind == ChangeKind::ReplaceFile {
                        undoing.changed.push(format!("`{place}` is gone since"));
                    }
                    step.kind = ChangeKind::CreateFile;
                }
                Now::File(version) => {
                    if planned.kind == ChangeKind::RemoveFile || !is_left(change, &version) {
                        undoing.changed.push(format!("`{place}` has changed since"));
                    }
                    step.kind = ChangeKind::ReplaceFile;
                    step.before = Some(version);
                }
                Now::Folder => {
                    stands_in_the_way(undoing, told(String::new()), "is a folder now".to_owned());
                    return Ok(());
                }
                Now::Else(what) => {
                    stands_in_the_way(undoing, told(String::new()), what);
                    return Ok(());
                }
            }
            match content(backups, kept) {
                Ok(content) => step.content = Some(content),
                Err(why) if force => {
                    undoing.told.push(told(why));
                    return Ok(());
                }
                Err(why) => {
                    let context = format!("`{place}` cannot be given back, and nothing was changed: {why}");
                    return Err(Error::new(ErrorKind::Settled, context));
                }
            }
        }
        (_, Now::Folder) => {
            stands_in_the_way(undoing, told(String::new()), "is a folder now".to_owned());
            return Ok(());
        }
        (_, Now::File(_)) => {
            stands_in_the_way(undoing, told(String::new()), "is a file now".to_owned());
            return Ok(());
        }
        (_, Now::Else(what)) => {
            stands_in_the_way(undoing, told(String::new()), what);
            return Ok(());
        }
    }
    undoing.steps.push(step);
    Ok(())
}

/// Something else than a file stands there: no rollback replaces it, not even by force.
fn stands_in_the_way(undoing: &mut Undoing, told: ChangeRecord, what: String) {
    undoing.changed.push(format!("`{}` {what}", told.path));
    undoing.told.push(ChangeRecord { detail: what, ..told });
}

fn content(backups: &Backups, kept: Option<&Kept>) -> Result<Arc<[u8]>, String> {
    let kept = kept.ok_or_else(|| "nothing is known of what was there".to_owned())?;
    backups.get(&kept.version.sha256, kept.version.len).map_err(|lost| lost.to_string())
}
