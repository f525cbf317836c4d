//! Whether a workspace is fit for a bot to start in: the score of the gate (WSP-5).
//!
//! Four parts have a score of 0 to 100 each, the share of what is right in them by weight:
//!
//! | part | weight | what counts | critical |
//! |---|---|---|---|
//! | `structure` | 55 | folders (1 each) and files but configuration (money 4, other 2): there, and readable as what they are | a file of money that is not JSON, or is missing and cannot be made; a required one that is not right and cannot be made |
//! | `slot` | 15 | files of the release that are as its manifest says; 0 if the release is not there or not active | anything wrong |
//! | `permissions` | 15 | folders and files that may be read and written (configuration: read); missing ones that can be made; the workspace's own folder if it may not be written | folders of state and logs, and what they stand in |
//! | `configuration` | 15 | configuration files: JSON that keeps to its schema; an optional one may be missing | a required one that is not right |
//!
//! The score is the mean of the parts by weight. A part with nothing to look at, such as a slot that is not configured, is
//! left out, and the rest weighs accordingly. Structure weighs more than all else together, so that a workspace of which
//! nothing is there is below the gate's 50 whatever the rest says.
//! The status is critical if a part is, degraded below 100, healthy otherwise.
//! **Invariant:** looks at what is there to start with, never at how fresh a bot keeps it. Putting one thing right never
//! lowers the score.

use std::collections::BTreeSet;

use serde_json::Value;

use super::layout::{FileSpec, Layout, Patterns, RelPath, Role};
use super::scan::{Entry, Scan};
use crate::model::{PartScore, RECORDS_MAX, Status, Validation, ValidationPart};

mod slot;
#[cfg(test)]
mod tests;

pub use slot::{SlotSeen, look_at_slot};

/// How much each part weighs.
const WEIGHTS: [(ValidationPart, f64); 4] = [
    (ValidationPart::Slot, 15.0),
    (ValidationPart::Structure, 55.0),
    (ValidationPart::Permissions, 15.0),
    (ValidationPart::Configuration, 15.0),
];
/// What a file that holds money counts for, where a folder counts for one.
const MONEY_WEIGHT: f64 = 4.0;
/// The same of any other file.
const FILE_WEIGHT: f64 = 2.0;

/// Grades the workspace as a scan shows it, after healing.
pub fn validate(layout: &Layout, scan: &Scan, slot: Option<&SlotSeen>) -> Validation {
    let view = View { layout, scan };
    let parts = [
        slot.map(of_slot),
        view.structure().part(ValidationPart::Structure),
        view.permissions().part(ValidationPart::Permissions),
        view.configuration().part(ValidationPart::Configuration),
    ];
    let parts: Vec<PartScore> = parts.into_iter().flatten().collect();
    let weight = |part: ValidationPart| WEIGHTS.iter().find(|(of, _)| *of == part).map_or(0.0, |(_, weight)| *weight);
    let whole: f64 = parts.iter().map(|part| weight(part.part)).sum();
    let is_whole = parts.iter().all(|part| part.score >= 100.0);
    let sum: f64 = parts.iter().map(|part| weight(part.part) * part.score).sum();
    // Rounded down, so that nothing passes a limit by being rounded.
    let score = if is_whole { 100.0 } else { (sum / whole * 10.0).floor() / 10.0 };
    let status = if parts.iter().any(|part| part.critical) {
        Status::Critical
    } else if is_whole {
        Status::Healthy
    } else {
        Status::Degraded
    };
    Validation { score, status, parts }
}

fn of_slot(seen: &SlotSeen) -> PartScore {
    let mut tally = Tally::default();
    let wrong = seen.files.saturating_sub(seen.files_right);
    tally.total = f64::from(u32::try_from(seen.files).unwrap_or(u32::MAX)).max(1.0);
    tally.right = if seen.usable && (seen.problems.is_empty() || wrong > 0) {
        tally.total - f64::from(u32::try_from(wrong).unwrap_or(u32::MAX))
    } else {
        0.0
    };
    tally.critical = tally.right < tally.total;
    tally.problems.clone_from(&seen.problems);
    tally.problems.truncate(RECORDS_MAX);
    tally.score(ValidationPart::Slot)
}

/// What is right in a part, of all there is.
#[derive(Default)]
struct Tally {
    right: f64,
    total: f64,
    critical: bool,
    problems: Vec<String>,
}

impl Tally {
    /// Counts one thing; `wrong` says what is wrong with it, and whether that is critical.
    fn count(&mut self, weight: f64, wrong: Option<(String, bool)>) {
        self.total += weight;
        match wrong {
            None => self.right += weight,
            Some((problem, critical)) => {
                self.critical |= critical;
                if self.problems.len() < RECORDS_MAX {
                    self.problems.push(problem);
                }
            }
        }
    }

    /// `None` if there was nothing to look at.
    fn part(self, part: ValidationPart) -> Option<PartScore> {
        (self.total > 0.0).then(|| self.score(part))
    }

    fn score(self, part: ValidationPart) -> PartScore {
        let score = 100.0 * self.right / self.total;
        PartScore { part, score, critical: self.critical, problems: self.problems }
    }
}

/// What a file turned out to hold.
enum Held {
    /// What it should.
    Right,
    /// Nothing is there.
    Missing,
    /// JSON, but not all that it should hold: with the next healing, or by hand.
    Short(String),
    /// Nothing that can be used.
    Broken(String),
}

struct View<'a> {
    layout: &'a Layout,
    scan: &'a Scan,
}

impl View<'_> {
    fn entry(&self, path: &RelPath) -> &Entry {
        self.scan.entries.get(path).unwrap_or(&Entry::Missing)
    }

    /// Whether something could be made there: the lowest folder above it that is there may be written.
    fn can_be_made(&self, path: &RelPath) -> bool {
        let above = std::iter::successors(path.parent(), RelPath::parent);
        let lowest = above.map(|folder| self.entry(&folder)).find(|entry| **entry != Entry::Missing);
        // Nothing above it but the workspace itself.
        lowest.map_or(self.scan.root_access.write, |entry| matches!(entry, Entry::Directory(access) if access.write))
    }

    fn held(&self, spec: &FileSpec) -> Held {
        let path = &spec.path;
        let file = match self.entry(path) {
            Entry::Missing => return Held::Missing,
            Entry::File(file) => file,
            Entry::Directory(_) => return Held::Broken(format!("`{path}` is a folder, expected a file")),
            Entry::Other(what) => return Held::Broken(format!("`{path}` is {what}, expected a file")),
            Entry::Unreadable(why) => return Held::Broken(format!("`{path}` cannot be read: {why}")),
        };
        let Some(content) = &file.content else {
            return Held::Broken(format!("`{path}` of {} bytes cannot be read whole", file.version.len));
        };
        if content.iter().all(u8::is_ascii_whitespace) {
            return Held::Short(format!("`{path}` is empty"));
        }
        let value: Value = match serde_json::from_slice(content) {
            Ok(value) => value,
            Err(error) => return Held::Broken(format!("`{path}` is not JSON: {error}")),
        };
        if !value.is_object() && !value.is_array() {
            return Held::Broken(format!("`{path}` holds neither a mapping nor a list"));
        }
        if value.as_object().is_some_and(serde_json::Map::is_empty) {
            return Held::Short(format!("`{path}` is empty"));
        }
        if let Some((key, _)) = spec.keys.iter().find(|(key, _)| value.get(key).is_none()) {
            return Held::Short(format!("`{path}` lacks the key `{key}`"));
        }
        match spec.schema.as_ref().and_then(|schema| schema.validate(&value).err()) {
            // The text of an error may hold what is at fault, which may be a secret.
            Some(error) => {
                Held::Short(format!("`{path}` breaks its schema at `{}`: {}", error.instance_path(), error.masked()))
            }
            None => Held::Right,
        }
    }

    /// Folders and files of the layout are there and readable as what they are.
    fn structure(&self) -> Tally {
        let mut tally = Tally::default();
        for path in &self.layout.directories {
            let wrong = match self.entry(path) {
                Entry::Directory(_) => None,
                Entry::Missing => Some(format!("the folder `{path}` is missing")),
                Entry::File(_) => Some(format!("`{path}` is a file, expected a folder")),
                Entry::Other(what) => Some(format!("`{path}` is {what}, expected a folder")),
                Entry::Unreadable(why) => Some(format!("`{path}` cannot be looked at: {why}")),
            };
            tally.count(1.0, wrong.map(|problem| (problem, false)));
        }
        for spec in self.layout.files.iter().filter(|spec| spec.role != Role::Config) {
            let must = spec.role.holds_money() || spec.required;
            let is_expected = spec.required || spec.empty.is_some();
            let wrong = match self.held(spec) {
                Held::Right => None,
                Held::Missing if !is_expected => None,
                Held::Missing => {
                    let can_be_made = spec.empty.is_some() && self.can_be_made(&spec.path);
                    let why = if can_be_made { "" } else { " and cannot be made" };
                    Some((format!("`{}` is missing{why}", spec.path), must && !can_be_made))
                }
                Held::Short(problem) => Some((problem, false)),
                Held::Broken(problem) => Some((problem, must)),
            };
            tally.count(if spec.role.holds_money() { MONEY_WEIGHT } else { FILE_WEIGHT }, wrong);
        }
        tally
    }

    /// They may be read and written.
    fn permissions(&self) -> Tally {
        let mut tally = Tally::default();
        let essential = essential(self.layout);
        let has_layout = !self.layout.directories.is_empty() || !self.layout.files.is_empty();
        if has_layout && !self.scan.root_access.write {
            let problem = "the folder of the workspace itself may not be written".to_owned();
            tally.count(1.0, Some((problem, false)));
        }
        for path in &self.layout.directories {
            let read_is_enough = !essential.contains(path) && holds_config_alone(self.layout, path);
            let wrong = match self.entry(path) {
                Entry::Directory(access) if access.read && (access.write || read_is_enough) => None,
                Entry::Directory(access) if access.read => Some(format!("the folder `{path}` may not be written")),
                Entry::Directory(_) => Some(format!("the folder `{path}` may not be listed")),
                Entry::Missing if self.can_be_made(path) => None,
                Entry::Missing => Some(format!("the folder `{path}` is missing and cannot be made")),
                Entry::File(_) | Entry::Other(_) => Some(format!("`{path}` is no folder")),
                Entry::Unreadable(why) => Some(format!("`{path}` cannot be looked at: {why}")),
            };
            tally.count(1.0, wrong.map(|problem| (problem, essential.contains(path))));
        }
        for spec in &self.layout.files {
            let path = &spec.path;
            let is_expected = spec.required || spec.empty.is_some();
            let wrong = match self.entry(path) {
                Entry::File(file) if !file.access.read => Some(format!("`{path}` may not be read")),
                Entry::File(file) if !file.access.write && spec.role != Role::Config => {
                    Some(format!("`{path}` may not be written"))
                }
                Entry::File(_) => None,
                Entry::Missing if !is_expected || self.can_be_made(path) => None,
                Entry::Missing => Some(format!("`{path}` is missing and cannot be made")),
                Entry::Directory(_) | Entry::Other(_) => Some(format!("`{path}` is no file")),
                Entry::Unreadable(why) => Some(format!("`{path}` cannot be read: {why}")),
            };
            tally.count(1.0, wrong.map(|problem| (problem, false)));
        }
        tally
    }

    /// Configuration files are there, are JSON, and keep to their schemas.
    fn configuration(&self) -> Tally {
        let mut tally = Tally::default();
        for spec in self.layout.files.iter().filter(|spec| spec.role == Role::Config) {
            let wrong = match self.held(spec) {
                Held::Right => None,
                Held::Missing if !spec.required && spec.empty.is_none() => None,
                Held::Missing => Some(format!("`{}` is missing", spec.path)),
                Held::Short(problem) | Held::Broken(problem) => Some(problem),
            };
            tally.count(1.0, wrong.map(|problem| (problem, spec.required)));
        }
        tally
    }
}

/// Folders without which a bot cannot keep what it does: those that hold its files of money and state, its heartbeats and
/// its locks, and the folders above them.
fn essential(layout: &Layout) -> BTreeSet<RelPath> {
    let files = layout.files.iter().filter(|spec| spec.role != Role::Config).filter_map(|spec| spec.path.parent());
    let patterns = [&layout.heartbeats, &layout.locks].into_iter().flat_map(literal_folders);
    let lowest: Vec<RelPath> = files.chain(patterns).collect();
    let all = lowest.into_iter().flat_map(|path| std::iter::successors(Some(path), RelPath::parent));
    all.filter(|path| layout.directories.contains(path)).collect()
}

/// `state/heartbeats` of `state/heartbeats/*.json`.
fn literal_folders(patterns: &Patterns) -> impl Iterator<Item = RelPath> {
    patterns.written.iter().filter_map(|text| {
        let end = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
        RelPath::parse(text[..end].rsplit_once('/')?.0).ok()
    })
}

/// Whether every file of the layout directly in a folder is configuration, and there is one.
fn holds_config_alone(layout: &Layout, folder: &RelPath) -> bool {
    let mut roles =
        layout.files.iter().filter(|spec| spec.path.parent().as_ref() == Some(folder)).map(|spec| spec.role).peekable();
    roles.peek().is_some() && roles.all(|role| role == Role::Config)
}
