//! What is wrong in a workspace: the rules WSP-1, WSP-2, WSP-3 and WSP-7 over a scan.
//!
//! ```text
//!  each file:  missing -> empty -> corrupt -> heartbeat -> keys      one content at the end, however much was wrong
//!  then:       locks, orphans, dangerous findings, what may not be touched now (dangerous, young, read-only)
//! ```
//! **Invariant:** pure; dangerous findings (WSP-3) never come with a remedy, and no file that one names is changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::layout::{Layout, RelPath, Role};
use super::plan::{Circumstances, Remedy, Scope};
use super::scan::{Entry, FileSeen, Scan, Version};
use crate::base::redact;
use crate::model::{FindingCode, FindingState, RECORDS_MAX, Severity, Timestamp, WorkspaceFinding};

pub mod configuration;
pub mod dangerous;
mod decimal;
mod json;
mod layout;
mod runtime;

/// A modification time this far ahead of the clock is one that was set, or a clock that was; within it clocks differ.
const AHEAD_MAX: Duration = Duration::from_secs(5);
/// Longest part of a workspace's own text in a message.
const SHOWN_MAX: usize = 80;

/// One finding and what would put it right, if anything may.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What was found; its state is `standing` until it is planned or done.
    pub finding: WorkspaceFinding,
    /// What would put it right; `None` for what only a person may touch.
    pub remedy: Option<Remedy>,
}

impl Found {
    /// Something that only a person may touch.
    fn standing(finding: WorkspaceFinding) -> Self {
        Self { finding, remedy: None }
    }
}

pub use configuration::is_good_config;

/// Everything that is wrong.
pub fn findings(layout: &Layout, scan: &Scan, at: &Circumstances) -> Vec<Found> {
    let now = at.now;
    let mut found = layout::inaccessible(layout, scan);
    found.extend(layout::folders(layout, scan));
    for (path, known) in watched(layout, scan) {
        found.extend(file(layout, scan, &path, &known, at));
    }
    found.extend(runtime::locks(layout, scan, now));
    found.extend(runtime::orphans(layout, scan, at.mode, now));
    let dangers = dangerous::dangers(layout, scan);
    let mut named = BTreeMap::new();
    for danger in &dangers {
        for path in &danger.files {
            named.entry(path.clone()).or_insert(danger.finding.code);
        }
    }
    found.extend(dangers.into_iter().map(|danger| Found::standing(danger.finding)));
    for found in &mut found {
        hold(found, layout, scan, &named, at);
    }
    let parents = layout::parents(scan, &found);
    // A folder that is needed now is made, whatever else was to be said of it.
    found.retain(|one| one.remedy.is_some() || parents.iter().all(|parent| !is_same_place(one, parent)));
    found.extend(parents);
    found.sort_by(|one, other| order(&one.finding).cmp(&order(&other.finding)));
    found
}

/// The order findings are told in: by kind, then by place.
pub(super) fn order(finding: &WorkspaceFinding) -> (FindingCode, &str, &str) {
    (finding.code, &finding.path, &finding.description)
}

fn is_same_place(one: &Found, other: &Found) -> bool {
    (one.finding.code, &one.finding.path) == (other.finding.code, &other.finding.path)
}

/// Files that are looked into: those of the layout, heartbeats, and JSON files that a pattern names; no lock among the
/// latter.
fn watched(layout: &Layout, scan: &Scan) -> BTreeMap<RelPath, Known> {
    let mut files: BTreeMap<RelPath, Known> = BTreeMap::new();
    for (index, spec) in layout.files.iter().enumerate() {
        files.entry(spec.path.clone()).or_default().spec.get_or_insert(index);
    }
    let is_lock = |path: &RelPath| scan.locks.contains_key(path) || layout.locks.matches(path.as_str());
    for path in scan.heartbeats.iter().filter(|path| !is_lock(path)) {
        files.entry(path.clone()).or_default().heartbeat = true;
    }
    for path in scan.json.iter().filter(|path| !is_lock(path) && !holds_lines(path)) {
        files.entry(path.clone()).or_default().json = true;
    }
    files
}

/// Why a file is looked into.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Its place in the layout.
    spec: Option<usize>,
    heartbeat: bool,
    json: bool,
}

/// JSON lines: many documents in one file are right there, and would be taken for damage.
fn holds_lines(path: &RelPath) -> bool {
    let name = path.name().to_ascii_lowercase();
    name.ends_with(".jsonl") || name.ends_with(".ndjson")
}

fn file(layout: &Layout, scan: &Scan, path: &RelPath, known: &Known, at: &Circumstances) -> Vec<Found> {
    let had_records = at.had_records.contains(path);
    let spec = known.spec.and_then(|index| layout.files.get(index));
    let seen = match (scan.entries.get(path), spec) {
        (Some(Entry::File(seen)), _) => seen,
        (Some(Entry::Missing), Some(spec)) if spec.role == Role::Config => return configuration::missing(spec, scan),
        (Some(Entry::Missing), Some(spec)) => return layout::missing(spec, had_records),
        // What stands there instead, and what may not be read, was told already; it is never missing.
        _ => return Vec::new(),
    };
    if let Some(spec) = spec.filter(|spec| spec.role == Role::Config) {
        return configuration::judge(spec, seen, scan);
    }
    let Some(original) = &seen.content else {
        return unread(path, seen, spec.is_some_and(|spec| spec.role.holds_money()));
    };
    let mut draft = Draft::new(path, original);
    if let Some(spec) = spec {
        layout::fill(&mut draft, spec, had_records);
    }
    if known.json || spec.is_some_and(layout::is_json) {
        runtime::corrupt(&mut draft, spec);
        if let Some(spec) = spec {
            layout::refill(&mut draft, spec);
        }
    }
    if known.heartbeat && !spec.is_some_and(|spec| spec.role.holds_money()) {
        runtime::heartbeat(&mut draft, &seen.version, layout.heartbeat_age, at.now);
    }
    if let Some(spec) = spec {
        layout::keys(&mut draft, spec);
        layout::schema(&mut draft, spec);
    }
    draft.finish()
}

/// A file that was too large or closed to chiron.
fn unread(path: &RelPath, seen: &FileSeen, holds_money: bool) -> Vec<Found> {
    // One that may not be read at all is told with everything else that is inaccessible.
    if !seen.access.read {
        return Vec::new();
    }
    let description = format!("the file has {} bytes and was not read, expected fewer", seen.version.len);
    let severity = if holds_money { Severity::High } else { Severity::Medium };
    vec![Found::standing(finding(FindingCode::Inaccessible, severity, path.as_str(), description))]
}

/// A file on its way from what it holds to what it should hold.
struct Draft<'a> {
    path: &'a RelPath,
    original: &'a Arc<[u8]>,
    content: Arc<[u8]>,
    keep_times: bool,
    healed: Vec<WorkspaceFinding>,
    standing: Vec<WorkspaceFinding>,
}

impl<'a> Draft<'a> {
    fn new(path: &'a RelPath, original: &'a Arc<[u8]>) -> Self {
        Self {
            path,
            original,
            content: Arc::clone(original),
            keep_times: false,
            healed: Vec::new(),
            standing: Vec::new(),
        }
    }

    /// Something that this content puts right.
    fn heal(&mut self, finding: WorkspaceFinding, content: Arc<[u8]>) {
        self.healed.push(finding);
        self.content = content;
    }

    /// Every finding of the file, those that are put right with the one content that does it.
    fn finish(self) -> Vec<Found> {
        let content = (self.content != *self.original).then_some(self.content);
        let remedy = content.map(|content| Remedy::ReplaceFile { content, keep_times: self.keep_times });
        let healed = self.healed.into_iter().map(|finding| Found { finding, remedy: remedy.clone() });
        healed.chain(self.standing.into_iter().map(Found::standing)).collect()
    }
}

/// Takes the remedy away where nothing may be touched now, and says why.
fn hold(found: &mut Found, layout: &Layout, scan: &Scan, named: &BTreeMap<RelPath, FindingCode>, at: &Circumstances) {
    let Some(remedy) = &found.remedy else { return };
    let only = at.only.map(|Scope::Configuration| (FindingState::Deferred, "this round is about configuration files"));
    let path = match (remedy, RelPath::parse(&found.finding.path)) {
        (Remedy::EndProcess { .. }, _) | (_, Err(_)) => {
            if let Some((state, why)) = only {
                (found.remedy, found.finding.state, found.finding.detail) = (None, state, why.to_owned());
            }
            return;
        }
        (_, Ok(path)) => path,
    };
    let is_config = layout.file(path.as_str()).is_some_and(|spec| spec.role == Role::Config);
    let seen = match scan.entries.get(&path) {
        Some(Entry::File(seen)) => Some(seen),
        _ => None,
    };
    let may_write = seen.is_none_or(|seen| seen.access.write || *remedy == Remedy::RemoveFile);
    let (state, why) = if let Some(code) = named.get(&path) {
        (FindingState::Standing, format!("left alone: `{}` names the file, and a person must look", code.as_str()))
    } else if let Some(by) = rolled_back(at, &path, seen) {
        let why = format!(
            "left alone until it changes: a person has undone its healing (`{by}`); `chiron heal --again` heals it again"
        );
        (FindingState::Standing, why)
    } else if let Some((state, why)) = only.filter(|_| !is_config) {
        (state, why.to_owned())
    } else if let Err((state, why)) = layout::can_write_in(scan, path.parent()) {
        (state, why)
    } else if !may_write {
        (FindingState::Standing, "the file may not be written".to_owned())
    } else if let Some(why) = seen.and_then(|seen| is_young(&seen.version, at.quiet, at.now)) {
        (FindingState::Deferred, why)
    } else if let Some(why) = at.config_rest.filter(|_| is_config).and_then(|rest| is_edited(at, &path, seen, rest)) {
        // Until then the bot would start without it.
        found.finding.severity = found.finding.severity.max(Severity::High);
        (FindingState::Deferred, why)
    } else {
        return;
    };
    found.remedy = None;
    found.finding.state = state;
    found.finding.detail = why;
}

/// The rollback that has left the path as it is now.
fn rolled_back<'a>(at: &'a Circumstances, path: &RelPath, seen: Option<&FileSeen>) -> Option<&'a crate::model::Name> {
    let left = at.rolled_back.get(path)?;
    let is_as_left = match (&left.sha256, seen) {
        (Some(sha256), Some(seen)) => *sha256 == seen.version.sha256,
        (None, None) => true,
        _ => false,
    };
    is_as_left.then_some(&left.by)
}

/// Why a configuration file that is broken or missing is left to the person who may be at it.
fn is_edited(at: &Circumstances, path: &RelPath, seen: Option<&FileSeen>, rest: Duration) -> Option<String> {
    if at.edited.contains(path) {
        return Some("an editor has it open, as a file of its beside it tells".to_owned());
    }
    let since = match seen {
        Some(seen) => return is_young(&seen.version, rest, at.now),
        None => *at.gone_since.get(path)?,
    };
    let rested = i128::from(at.now.millis()) * 1_000_000 - since;
    let is_long = rested >= i128::try_from(rest.as_nanos()).unwrap_or(i128::MAX);
    (!is_long).then(|| format!("its folder changed less than {} ago, somebody may be at it", span(rest)))
}

/// Why a file has not rested long enough. A modification time far ahead of the clock was set by somebody and says nothing;
/// then the time of the inode counts, which nobody can set. If that lies ahead too, the clock was turned back: wait.
pub(super) fn is_young(version: &Version, quiet: Duration, now: Timestamp) -> Option<String> {
    let nanos = i128::from(now.millis()) * 1_000_000;
    let ahead = i128::try_from(AHEAD_MAX.as_nanos()).unwrap_or(i128::MAX);
    let quiet_nanos = i128::try_from(quiet.as_nanos()).unwrap_or(i128::MAX);
    let is_set = version.modified_nanos > nanos + ahead;
    let last = if is_set { version.changed_nanos } else { version.modified_nanos };
    let rested = nanos - last;
    if quiet.is_zero() || rested >= quiet_nanos {
        return None;
    }
    Some(if rested < -ahead {
        "its times lie ahead of the clock, so whether the bot is at it cannot be told".to_owned()
    } else {
        format!("it changed less than {} ago, the bot may be at it", span(quiet))
    })
}

/// A finding that stands.
fn finding(code: FindingCode, severity: Severity, path: &str, description: String) -> WorkspaceFinding {
    WorkspaceFinding {
        code,
        severity,
        path: path.to_owned(),
        description,
        records: Vec::new(),
        state: FindingState::Standing,
        detail: String::new(),
    }
}

/// At most [`RECORDS_MAX`] of them.
fn bounded(records: impl IntoIterator<Item = String>) -> Vec<String> {
    records.into_iter().take(RECORDS_MAX).collect()
}

/// A text of the workspace as it may be shown: one short line without secrets.
fn short(text: &str) -> String {
    redact::line(text, SHOWN_MAX)
}

/// `5 min`, `90 s`, `500 ms`.
fn span(duration: Duration) -> String {
    match duration.as_millis() {
        millis if millis % 60_000 == 0 && millis > 0 => format!("{} min", millis / 60_000),
        millis if millis % 1_000 == 0 => format!("{} s", millis / 1_000),
        millis => format!("{millis} ms"),
    }
}

/// `1 record`, `2 records`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What JSON can be to every reader alike; `Err` says what is wrong.
pub(super) fn sound(bytes: &[u8]) -> Result<(), String> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Err(format!("byte {} is no UTF-8", error.valid_up_to()));
    }
    if super::salvage::is_sound(bytes) {
        return Ok(());
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("readers differ in what they make of it".to_owned()),
    }
}

/// Where and how a content breaks a schema; values are not shown.
fn breach(schema: &jsonschema::Validator, content: &[u8]) -> Option<String> {
    let value = match serde_json::from_slice::<serde_json::Value>(content) {
        Ok(value) => value,
        Err(error) => return Some(error.to_string()),
    };
    let mut errors = schema.iter_errors(&value);
    let first = errors.next()?;
    let more = errors.take(RECORDS_MAX).count();
    let place = first.instance_path().to_string();
    let place = if place.is_empty() { "at the top".to_owned() } else { format!("at `{}`", short(&place)) };
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    Some(format!("{place}: {}{more}", redact::line(&first.masked().to_string(), 200)))
}

/// What a reader that is not strict makes JSON of: without a byte order mark and blanks or NUL bytes at the end, and of a
/// key that stands twice the last. `None` if no reader can.
pub(super) fn readable(bytes: &[u8]) -> Option<&[u8]> {
    let mut bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    while let [rest @ .., 0 | b' ' | b'\t' | b'\n' | b'\r'] = bytes {
        bytes = rest;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let is_read = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    (sound(bytes).is_ok() || is_read()).then_some(bytes)
}

/// Whether a file with positions or trades says more than its empty structure does: records, or a number that is not zero.
pub(super) fn has_records(bytes: &[u8]) -> bool {
    let is_filled = |node: &json::Node| match node {
        json::Node::List(items) => !items.is_empty(),
        json::Node::Object(members) => !members.is_empty(),
        json::Node::Number(text) => decimal::Decimal::parse(text) != decimal::Decimal::parse("0"),
        json::Node::Deep => true,
        json::Node::Null | json::Node::Bool(_) | json::Node::Text(_) => false,
    };
    match json::parse(bytes) {
        Some(json::Node::Object(members)) => members.iter().any(|(_, node)| is_filled(node)),
        Some(node) => is_filled(&node),
        None => false,
    }
}

/// Whether a file holds nothing at all: no bytes, or only blanks and NUL bytes, behind a byte order mark or not.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0)
}

/// Whether a file holds an object without members and nothing else.
fn is_bare(bytes: &[u8]) -> bool {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii();
    bytes.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// What a blank file holds, for messages.
fn blank_words(bytes: &[u8]) -> String {
    match bytes.len() {
        0 => "the file has no bytes".to_owned(),
        len => format!("the file has {} of blanks or NUL alone", count(len, "byte")),
    }
}
