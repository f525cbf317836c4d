//! Configuration files: missing or invalid ones come back from the last good copy or the operator's default (WSP-7).
//!
//! **Invariant:** pure; nothing is salvaged here: half a limit is worse than none. What is restored is itself valid.

use std::sync::Arc;
use std::time::Duration;

use super::json::{self, Node};
use super::{Found, finding, layout};
use crate::model::{FindingCode, Severity, Timestamp};
use crate::workspace::edit;
use crate::workspace::layout::{FileSpec, Layout, RelPath, Role};
use crate::workspace::plan::Remedy;
use crate::workspace::scan::{Entry, FileSeen, Scan};

/// A configuration file that is not there.
pub(super) fn missing(spec: &FileSpec, scan: &Scan) -> Vec<Found> {
    let description = "there is no such file, expected the configuration".to_owned();
    vec![restored(spec, scan, FindingCode::ConfigMissing, description, Remedy::CreateFile)]
}

/// A configuration file that is there.
pub(super) fn judge(spec: &FileSpec, seen: &FileSeen, scan: &Scan) -> Vec<Found> {
    let Some(content) = &seen.content else { return super::unread(&spec.path, seen, false) };
    let replace = |content| Remedy::ReplaceFile { content, keep_times: false };
    if let Some(wrong) = wrong(spec, content, scan) {
        return vec![restored(spec, scan, FindingCode::ConfigInvalid, wrong, replace)];
    }
    let mut draft = super::Draft::new(&spec.path, content);
    layout::keys(&mut draft, spec);
    // Keys that break the schema would be an invalid file of our own making.
    if invalid(spec, &draft.content).is_some() {
        draft.content = Arc::clone(content);
    }
    draft.finish()
}

/// What is wrong with a content, if it is not what a bot can start with.
fn wrong(spec: &FileSpec, content: &[u8], scan: &Scan) -> Option<String> {
    if let Some(wrong) = invalid(spec, content) {
        return Some(wrong);
    }
    // One that says nothing is valid if nobody knows anything better.
    let hollow = hollow(spec, content)?;
    let is_fuller = |(source, _): (Arc<[u8]>, _)| self::hollow(spec, &source).is_none();
    source(spec, scan).is_some_and(is_fuller).then(|| format!("the file holds {hollow}, expected the configuration"))
}

/// What a JSON file holds that configures nothing: `{}`, `[]`, null, or a value that is neither object nor list.
fn hollow(spec: &FileSpec, content: &[u8]) -> Option<String> {
    if !layout::is_json(spec) {
        return None;
    }
    match json::parse(content)? {
        Node::Object(members) => members.is_empty().then(|| "`{}`".to_owned()),
        Node::List(items) => items.is_empty().then(|| "`[]`".to_owned()),
        Node::Deep => None,
        other => Some(other.kind().to_owned()),
    }
}

/// Whether a content is fit to be kept as the last good copy of a configuration file: sound for every reader, in keeping
/// with its schema, and more than nothing.
pub fn is_good_config(content: &[u8], spec: &FileSpec) -> bool {
    invalid(spec, content).is_none() && hollow(spec, content).is_none()
}

/// What is wrong with a content by itself.
fn invalid(spec: &FileSpec, content: &[u8]) -> Option<String> {
    if super::is_blank(content) {
        return Some(format!("{}, expected the configuration", super::blank_words(content)));
    }
    if !layout::is_json(spec) {
        return None;
    }
    if let Err(why) = super::sound(content) {
        return Some(format!("the file is no sound JSON: {}", crate::base::redact::line(&why, 200)));
    }
    let breach = spec.schema.as_ref().and_then(|schema| super::breach(schema, content))?;
    Some(format!("the file breaks its schema {breach}"))
}

/// What a file is restored from, and what that is called. With the missing keys, so that nothing is left to do.
fn source(spec: &FileSpec, scan: &Scan) -> Option<(Arc<[u8]>, &'static str)> {
    let good = scan.good.get(&spec.path).filter(|content| hollow(spec, content).is_none());
    let sources = [
        (good, "restored from its last good copy"),
        (spec.empty.as_ref(), "restored from the default in the settings"),
    ];
    sources.into_iter().find_map(|(content, words)| {
        let content = content.filter(|content| invalid(spec, content).is_none())?;
        let whole = edit::with_keys(content, &spec.keys).filter(|whole| invalid(spec, whole).is_none());
        let whole = whole.filter(|_| !spec.keys.is_empty());
        Some((whole.map_or_else(|| Arc::clone(content), Into::into), words))
    })
}

fn restored(
    spec: &FileSpec,
    scan: &Scan,
    code: FindingCode,
    description: String,
    remedy: impl Fn(Arc<[u8]>) -> Remedy,
) -> Found {
    let source = source(spec, scan);
    let severity = match (&source, spec.required) {
        (Some(_), _) => Severity::Medium,
        (None, true) => Severity::High,
        (None, false) => Severity::Low,
    };
    let mut finding = finding(code, severity, spec.path.as_str(), description);
    let detail = source.as_ref().map_or("there is no good copy and no default to restore it from", |(_, words)| words);
    detail.clone_into(&mut finding.detail);
    Found { finding, remedy: source.map(|(content, _)| remedy(content)) }
}

/// Configuration files whose content is good, has rested, and is not the copy that is kept already.
pub(in crate::workspace) fn keep(layout: &Layout, scan: &Scan, quiet: Duration, now: Timestamp) -> Vec<RelPath> {
    let mut keep = Vec::new();
    for spec in layout.files.iter().filter(|spec| spec.role == Role::Config) {
        let Some(Entry::File(seen)) = scan.entries.get(&spec.path) else { continue };
        let Some(content) = &seen.content else { continue };
        let is_known = scan.good.get(&spec.path) == Some(content);
        if !is_known && is_good_config(content, spec) && super::is_young(&seen.version, quiet, now).is_none() {
            keep.push(spec.path.clone());
        }
    }
    keep.sort();
    keep.dedup();
    keep
}
