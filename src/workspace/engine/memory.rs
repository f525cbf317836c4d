//! What earlier rounds have left behind that a round must know: losses, rollbacks, files that had records.
//!
//! In: the healings that are kept, and `STATE_DIR/money.json`. Out: findings that stand until a person has settled them, and
//! the [`Circumstances`] of a plan.
//! **Invariant:** reads only, but for [`note`]; what a healing has lost stands until it is undone or accepted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{CONFIG_REST, Look};
use crate::model::{ChangeKind, ChangeState, FindingCode, FindingState, Name, RECORDS_MAX, Severity, WorkspaceFinding};
use crate::workspace::layout::{Layout, RelPath, Role};
use crate::workspace::ledger::folder::{Folder, state};
use crate::workspace::ledger::record::Stored;
use crate::workspace::ledger::{stored, told};
use crate::workspace::plan::{Circumstances, RolledBack};
use crate::workspace::root::{Root, version_of};
use crate::workspace::scan::{Entry, FileSeen, Scan};
use crate::workspace::{Error, Settings, findings};

/// The file in `STATE_DIR` that tells which files with positions or trades had records.
const MONEY: &str = "money.json";

/// Its largest size.
const MONEY_MAX: u64 = 1 << 20;

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What each healing has lost that is neither undone nor accepted: the file, the records, the healing.
    losses: Vec<(String, Vec<String>, Name)>,
    rolled_back: BTreeMap<RelPath, RolledBack>,
    /// Files that had records when they were last seen whole.
    pub(super) had_records: BTreeSet<RelPath>,
}

/// What [`MONEY`] holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Money {
    format: u32,
    /// Whether a file had records when it was last seen whole.
    files: BTreeMap<RelPath, bool>,
}

impl Memory {
    /// Reads what is kept; nothing if there is no folder for it.
    pub(super) fn read(settings: &Settings, root: &Root) -> Result<Self, Error> {
        let Some(folder) = Folder::open(settings, root)? else { return Ok(Self::default()) };
        let stored = stored(&folder)?;
        let context = || format!("`{}` cannot be read", folder.path.join(MONEY).display());
        let bytes = folder.read(MONEY, MONEY_MAX).map_err(|trouble| state(context(), &trouble))?;
        // One that is spoiled says nothing, and is written anew.
        let money: Money = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let had_records = money.files.into_iter().filter(|(_, had)| *had).map(|(path, _)| path).collect();
        Ok(Self { losses: lost(&stored), rolled_back: rolled_back(&stored), had_records })
    }

    /// What stands until a person has settled it, one finding for each file.
    pub(super) fn losses(&self) -> Vec<WorkspaceFinding> {
        let mut files: BTreeMap<&str, (Vec<String>, Vec<&Name>)> = BTreeMap::new();
        for (path, records, id) in &self.losses {
            let (all, ids) = files.entry(path).or_default();
            all.extend(records.iter().cloned());
            ids.push(id);
        }
        let told = files.into_iter().map(|(path, (mut records, ids))| {
            let named = ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
            let parts = if records.len() == 1 { "part" } else { "parts" };
            let description = format!(
                "{} {parts} of this file could not be kept by healing {named} and may be positions or trades: compare its \
                 backup",
                records.len()
            );
            records.truncate(RECORDS_MAX);
            let ways = ids.iter().map(|id| {
                format!(
                    "undo it with `chiron heal --rollback {id}`, or, if the records are not needed, \
                     `chiron heal --accept-loss {id}`"
                )
            });
            WorkspaceFinding {
                code: FindingCode::RecordsLost,
                severity: Severity::Critical,
                path: path.to_owned(),
                description,
                records,
                state: FindingState::Standing,
                detail: ways.collect::<Vec<_>>().join("; "),
            }
        });
        told.collect()
    }

    /// Which files with positions or trades have records, as far as this scan can tell; of the others what was known stays.
    pub(super) fn had_records(&self, layout: &Layout, scan: &Scan) -> BTreeSet<RelPath> {
        let files = layout.files.iter().filter(|spec| spec.role.holds_money()).map(|spec| &spec.path);
        let has = files.filter(|path| match scan.entries.get(*path) {
            Some(Entry::File(FileSeen { content: Some(content), .. }))
                if !findings::is_blank(content) && findings::sound(content).is_ok() =>
            {
                findings::has_records(content)
            }
            _ => self.had_records.contains(*path),
        });
        has.cloned().collect()
    }
}

/// Writes down which files have records. It is evidence for later, so its failure stops nothing.
pub(super) fn note(folder: &Folder, had_records: &BTreeSet<RelPath>) {
    let money = Money { format: 1, files: had_records.iter().map(|path| (path.clone(), true)).collect() };
    let text = serde_json::to_vec_pretty(&money).unwrap_or_default();
    if let Err(trouble) = folder.replace(MONEY, &text) {
        tracing::warn!(error = %trouble, "which files have records cannot be written down in `{MONEY}`");
    }
}

fn lost(stored: &[Stored]) -> Vec<(String, Vec<String>, Name)> {
    let open =
        stored.iter().zip(told(stored)).filter(|(stored, told)| stored.needs_person() && told.undone_by.is_none());
    let losses = open.flat_map(|(stored, _)| {
        stored.losses().map(|planned| (planned.place(), planned.lost.clone(), stored.head.id.clone()))
    });
    losses.collect()
}

/// What each path holds since a person has undone a healing of it, unless it was healed again since.
fn rolled_back(stored: &[Stored]) -> BTreeMap<RelPath, RolledBack> {
    let mut undoing: BTreeMap<&Name, bool> = BTreeMap::new();
    let mut left = BTreeMap::new();
    for healing in stored {
        let head = &healing.head;
        // Undoing a rollback heals again.
        let is_undoing = head.undoes.as_ref().is_some_and(|undone| !undoing.get(undone).copied().unwrap_or(false));
        undoing.insert(&head.id, is_undoing);
        for change in healing.changes.iter().filter(|change| change.state() == ChangeState::Applied) {
            let Some(path) = &change.planned.path else { continue };
            if is_undoing {
                let is_there = matches!(change.planned.kind, ChangeKind::CreateFile | ChangeKind::ReplaceFile);
                let sha256 = change.planned.after.clone().filter(|_| is_there);
                left.insert(path.clone(), RolledBack { sha256, by: head.id.clone() });
            } else {
                left.remove(path);
            }
        }
    }
    left
}

/// Everything that a plan must know besides the scan.
pub(super) fn circumstances(root: &Root, settings: &Settings, scan: &Scan, look: &Look<'_>) -> Circumstances {
    let request = look.request;
    let rest = request.is_unattended().then(|| settings.quiet.max(CONFIG_REST));
    let mut at = Circumstances {
        mode: settings.mode,
        quiet: settings.quiet,
        config_rest: rest,
        now: look.now,
        only: request.only,
        had_records: look.memory.had_records.clone(),
        rolled_back: if request.again { BTreeMap::new() } else { look.memory.rolled_back.clone() },
        ..Circumstances::default()
    };
    if rest.is_none() {
        return at;
    }
    for spec in settings.layout.files.iter().filter(|spec| spec.role == Role::Config) {
        let path = &spec.path;
        if scan.entries.get(path) == Some(&Entry::Missing)
            && let Some(changed) = folder_changed(root, path.parent().as_ref())
        {
            at.gone_since.insert(path.clone(), changed);
        }
    }
    at.edited.clone_from(&scan.edited);
    at
}

/// When something last came into a folder or went from it, nanoseconds; `None` if it is not there.
pub(super) fn folder_changed(root: &Root, folder: Option<&RelPath>) -> Option<i128> {
    let open = root.open_folder(folder).ok()?;
    Some(version_of(&open).ok()?.modified_nanos)
}
