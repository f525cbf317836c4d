//! Folders and files that the layout expects: missing, empty, without their keys; and what stands in their place (WSP-1).
//!
//! **Invariant:** pure; only files that the layout lists are made or filled, and what cannot be read is never missing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Draft, Found, bounded, finding};
use crate::model::{FindingCode, FindingState, Severity, WorkspaceFinding};
use crate::workspace::layout::{FileSpec, Layout, RelPath, Role};
use crate::workspace::plan::Remedy;
use crate::workspace::scan::{Entry, Scan};
use crate::workspace::{edit, salvage};

/// Folders that are not there.
pub(super) fn folders(layout: &Layout, scan: &Scan) -> Vec<Found> {
    let wanted: BTreeSet<&RelPath> = layout.directories.iter().collect();
    let missing = wanted.into_iter().filter(|path| scan.entries.get(path) == Some(&Entry::Missing));
    missing.map(|path| folder(path, "there is no such folder, expected one".to_owned())).collect()
}

fn folder(path: &RelPath, description: String) -> Found {
    let finding = finding(FindingCode::DirectoryMissing, Severity::Low, path.as_str(), description);
    Found { finding, remedy: Some(Remedy::CreateDirectory) }
}

/// Folders that have to be made for what is made in them.
pub(super) fn parents(scan: &Scan, found: &[Found]) -> Vec<Found> {
    let made = |found: &&Found| matches!(found.remedy, Some(Remedy::CreateDirectory | Remedy::CreateFile(_)));
    let mut needed: BTreeMap<RelPath, &str> = BTreeMap::new();
    for found in found.iter().filter(made) {
        let mut place = RelPath::parse(&found.finding.path).ok().and_then(|path| path.parent());
        while let Some(parent) = place {
            place = parent.parent();
            if scan.entries.get(&parent) == Some(&Entry::Missing) {
                let first = needed.entry(parent).or_insert(&found.finding.path);
                *first = (*first).min(&found.finding.path);
            }
        }
    }
    for found in found.iter().filter(|found| found.remedy == Some(Remedy::CreateDirectory)) {
        needed.retain(|path, _| path.as_str() != found.finding.path);
    }
    let made =
        needed.iter().map(|(path, child)| folder(path, format!("there is no such folder, expected one for `{child}`")));
    made.collect()
}

/// Whether something can be made or replaced in a folder, which may be one that is made first; `None` is the workspace.
pub(super) fn can_write_in(scan: &Scan, folder: Option<RelPath>) -> Result<(), (FindingState, String)> {
    let stands = |why| Err((FindingState::Standing, why));
    let mut place = folder;
    while let Some(path) = place {
        match scan.entries.get(&path) {
            Some(Entry::Directory(access)) if access.write => return Ok(()),
            Some(Entry::Directory(_)) => {
                return Err((FindingState::Failed, format!("the folder `{path}` may not be written")));
            }
            Some(Entry::Missing) => place = path.parent(),
            Some(Entry::File(_) | Entry::Other(_)) => return stands(format!("`{path}` is no folder")),
            Some(Entry::Unreadable(why)) => return stands(format!("the folder `{path}` cannot be read: {why}")),
            None => return stands(format!("the folder `{path}` was not looked at")),
        }
    }
    Ok(())
}

/// What stands in the place of something else, and what the system lets nobody see.
pub(super) fn inaccessible(layout: &Layout, scan: &Scan) -> Vec<Found> {
    let wanted_folders: BTreeSet<&RelPath> = layout.directories.iter().collect();
    let wanted_files: BTreeMap<&RelPath, Role> = layout.files.iter().map(|spec| (&spec.path, spec.role)).collect();
    let severity = |path: &RelPath| {
        let holds_money = wanted_files.get(path).is_some_and(|role| role.holds_money());
        if holds_money { Severity::High } else { Severity::Medium }
    };
    // Folders above what is wanted are wanted too.
    let above: BTreeSet<RelPath> = wanted_folders
        .iter()
        .chain(wanted_files.keys())
        .flat_map(|path| std::iter::successors(path.parent(), RelPath::parent))
        .collect();
    let is_folder = |path: &RelPath| wanted_folders.contains(path) || above.contains(path);
    let mut found = Vec::new();
    let mut tell = |code, path: &RelPath, description: String| {
        found.push(Found::standing(finding(code, severity(path), path.as_str(), description)));
    };
    for (path, entry) in &scan.entries {
        let expected = if is_folder(path) { "a folder" } else { "a file" };
        let is_wanted = is_folder(path) || wanted_files.contains_key(path);
        match entry {
            Entry::Other(what) => {
                let what = super::short(what);
                tell(FindingCode::Misplaced, path, format!("{what} stands here, expected {expected}"));
            }
            Entry::Unreadable(why) => {
                let why = super::short(why);
                tell(FindingCode::Inaccessible, path, format!("it cannot be looked at ({why}), expected {expected}"));
            }
            Entry::Directory(_) if wanted_files.contains_key(path) && !is_folder(path) => {
                tell(FindingCode::Misplaced, path, "a folder stands here, expected a file".to_owned());
            }
            Entry::File(_) if is_folder(path) => {
                tell(FindingCode::Misplaced, path, "a file stands here, expected a folder".to_owned());
            }
            Entry::Directory(access) if is_wanted && !access.read => {
                tell(FindingCode::Inaccessible, path, "the folder may not be listed, expected that it may".to_owned());
            }
            Entry::File(seen) if !seen.access.read && !scan.locks.contains_key(path) => {
                tell(FindingCode::Inaccessible, path, "the file may not be read, expected that it may".to_owned());
            }
            _ => {}
        }
    }
    for path in wanted_folders.into_iter().chain(wanted_files.keys().copied()).collect::<BTreeSet<_>>() {
        if !scan.entries.contains_key(path) {
            tell(FindingCode::Inaccessible, path, "it was not looked at, so nothing is known of it".to_owned());
        }
    }
    let refused: BTreeSet<&(String, String)> = scan.refused.iter().collect();
    found.extend(refused.into_iter().map(|(path, why)| {
        let description = format!("it cannot be handled: {}", super::short(why));
        Found::standing(finding(FindingCode::Inaccessible, Severity::Medium, path, description))
    }));
    found
}

/// Whether a file of the layout holds JSON.
pub(super) fn is_json(spec: &FileSpec) -> bool {
    let has_name = spec.path.name().to_ascii_lowercase().ends_with(".json");
    let is_sound = |empty: &Arc<[u8]>| salvage::is_sound(empty);
    has_name || !spec.keys.is_empty() || spec.schema.is_some() || spec.empty.as_ref().is_some_and(is_sound)
}

/// What a file holds when there is nothing to say, every required key included.
fn empty(spec: &FileSpec) -> Option<Arc<[u8]>> {
    let empty = spec.empty.as_ref()?;
    let whole = if lacking(empty, spec).is_empty() { None } else { edit::with_keys(empty, &spec.keys) };
    Some(whole.map_or_else(|| Arc::clone(empty), Into::into))
}

/// A file that is not there.
pub(super) fn missing(spec: &FileSpec, had_records: bool) -> Vec<Found> {
    let content = empty(spec);
    let severity = match (&content, spec.required) {
        (None, false) => return Vec::new(),
        (None, true) => Severity::High,
        (Some(_), _) => Severity::Medium,
    };
    let description = "there is no such file, expected one".to_owned();
    let mut finding = finding(FindingCode::FileMissing, severity, spec.path.as_str(), description);
    if content.is_none() {
        "the layout does not say what it would hold".clone_into(&mut finding.detail);
    }
    let mut found = vec![Found { finding, remedy: content.map(Remedy::CreateFile) }];
    if had_records && spec.role.holds_money() {
        found
            .push(Found::standing(all_lost(&spec.path, "the file is missing, and had records when it was last whole")));
    }
    found
}

/// A file with positions or trades that holds nothing any more.
fn all_lost(path: &RelPath, what: &str) -> WorkspaceFinding {
    let description = format!("{what}: they may be positions or trades");
    let mut finding = finding(FindingCode::RecordsLost, Severity::Critical, path.as_str(), description);
    finding.records = vec!["everything that the file held".to_owned()];
    finding
}

/// A file that holds nothing gets its empty structure.
pub(super) fn fill(draft: &mut Draft<'_>, spec: &FileSpec, had_records: bool) {
    let is_blank = super::is_blank(&draft.content);
    let content = empty(spec);
    let is_bare = super::is_bare(&draft.content) && content.as_ref().is_some_and(|content| !super::is_bare(content));
    if !is_blank && !is_bare {
        return;
    }
    // Blanks and NUL bytes are what a crash leaves of a file; one without bytes is new if nothing else is known of it.
    if is_blank && spec.role.holds_money() && (had_records || !draft.content.is_empty()) {
        let what = match draft.content.is_empty() {
            true => "the file has no bytes, and had records when it was last whole",
            false => "the file has blanks or NUL bytes alone where records may have stood",
        };
        draft.standing.push(all_lost(draft.path, what));
    }
    let what = if is_blank { super::blank_words(&draft.content) } else { "the file holds `{}`".to_owned() };
    let finding = |severity| {
        let description = format!("{what}, expected its empty structure");
        finding(FindingCode::FileEmpty, severity, draft.path.as_str(), description)
    };
    match content {
        Some(content) => {
            let finding = finding(Severity::Medium);
            draft.heal(finding, content);
        }
        // A log that nothing was written to yet is right as it is.
        None if !is_json(spec) => {}
        None => {
            let mut finding = finding(if spec.required { Severity::High } else { Severity::Low });
            "the layout does not say what it would hold".clone_into(&mut finding.detail);
            draft.standing.push(finding);
        }
    }
}

/// What was salvaged and holds nothing gets the empty structure at once.
pub(super) fn refill(draft: &mut Draft<'_>, spec: &FileSpec) {
    if draft.content != *draft.original
        && super::is_bare(&draft.content)
        && let Some(content) = empty(spec)
    {
        draft.content = content;
    }
}

/// Keys that are not there; none if it is no JSON object.
fn lacking<'a>(content: &[u8], spec: &'a FileSpec) -> Vec<&'a str> {
    match super::json::parse(content) {
        Some(node @ super::json::Node::Object(_)) => {
            spec.keys.iter().map(|(key, _)| key.as_str()).filter(|key| node.get(key).is_none()).collect()
        }
        _ => Vec::new(),
    }
}

/// Required keys that are missing are added; the data stays as it is, byte for byte.
pub(super) fn keys(draft: &mut Draft<'_>, spec: &FileSpec) {
    if spec.keys.is_empty() || super::sound(&draft.content).is_err() {
        return;
    }
    let Some(node) = super::json::parse(&draft.content) else { return };
    let quoted = |keys: &[&str]| keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let all: Vec<&str> = spec.keys.iter().map(|(key, _)| key.as_str()).collect();
    let tell = |description| finding(FindingCode::KeysMissing, Severity::Medium, draft.path.as_str(), description);
    if !matches!(node, super::json::Node::Object(_)) {
        let finding = tell(format!("the file holds {}, expected an object with {}", node.kind(), quoted(&all)));
        draft.standing.push(finding);
        return;
    }
    let missing = lacking(&draft.content, spec);
    if missing.is_empty() {
        return;
    }
    let mut finding = tell(format!("the file lacks {}", quoted(&missing)));
    finding.records = bounded(missing.iter().map(|key| (*key).to_owned()));
    let whole = edit::with_keys(&draft.content, &spec.keys);
    match whole.filter(|whole| super::sound(whole).is_ok() && lacking(whole, spec).is_empty()) {
        Some(whole) => draft.heal(finding, whole.into()),
        None => {
            "they cannot be added without changing what is there".clone_into(&mut finding.detail);
            draft.standing.push(finding);
        }
    }
}

/// Whether what the file will hold keeps to its schema; that it does not is for a person.
pub(super) fn schema(draft: &mut Draft<'_>, spec: &FileSpec) {
    let Some(schema) = &spec.schema else { return };
    if super::sound(&draft.content).is_err() {
        return;
    }
    if let Some(breach) = super::breach(schema, &draft.content) {
        let severity = if spec.role.holds_money() { Severity::High } else { Severity::Medium };
        let description = format!("the file breaks its schema {breach}");
        draft.standing.push(finding(FindingCode::JsonCorrupt, severity, draft.path.as_str(), description));
    }
}
