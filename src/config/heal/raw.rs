//! The keys of a layout as they are written, in `heal` of the settings and in the built-in layout alike.
//!
//! **Invariant:** one reader for both; what is built in has no place in the file of the settings.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jsonschema::Validator;
use serde_json::Value as Json;

use super::super::intake::{below, span};
use super::super::read::bounded;
use super::content::{Content, json_text};
use crate::base::tree::{FromNode, Node, Position, Section, Value};
use crate::workspace::layout::{RelPath, Role};

/// Chiron's own folder in the workspace.
pub(super) const OWN_FOLDER: &str = ".chiron";
/// The most files, folders and patterns of each kind.
const ENTRIES_MAX: usize = 1024;
/// The largest schema, and the largest default.
const FILE_MAX: usize = 1024 * 1024;

/// Where something was written in the settings.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    pub(super) at: Position,
    pub(super) path: String,
    pub(super) found: String,
}

/// One file; what was not written is `None`.
#[derive(Clone, Debug, Default)]
pub(super) struct RawFile {
    /// `None` for what is built in.
    pub(super) spot: Option<Spot>,
    pub(super) role: Option<Role>,
    pub(super) content: Option<Content>,
    pub(super) keys: Option<Vec<(String, String)>>,
    pub(super) required: Option<bool>,
    pub(super) schema: Option<Arc<Validator>>,
}

impl RawFile {
    /// Itself with what `upper` says put over it.
    pub(super) fn under(self, upper: Self) -> Self {
        Self {
            spot: upper.spot.or(self.spot),
            role: upper.role.or(self.role),
            content: upper.content.or(self.content),
            keys: upper.keys.or(self.keys),
            required: upper.required.or(self.required),
            schema: upper.schema.or(self.schema),
        }
    }
}

/// What stands under the path of a file.
#[derive(Clone, Debug)]
pub(super) enum Written {
    /// Settings.
    File(Box<RawFile>),
    /// `{enabled: false}`: it is no file of the layout.
    Disabled,
    /// Nothing: it is taken out of what is built in.
    Null,
}

/// One pattern.
#[derive(Clone, Debug)]
pub(super) struct RawPattern {
    pub(super) text: String,
    pub(super) spot: Option<Spot>,
}

/// A layout as it is written.
#[derive(Clone, Debug, Default)]
pub(super) struct Raw {
    pub(super) directories: Vec<(RelPath, Option<Spot>)>,
    pub(super) files: Vec<(RelPath, Spot, Written)>,
    pub(super) locks: Option<Vec<RawPattern>>,
    pub(super) lock_age: Option<Duration>,
    pub(super) heartbeats: Option<Vec<RawPattern>>,
    pub(super) heartbeat_age: Option<Duration>,
    pub(super) json: Option<Vec<RawPattern>>,
}

/// Takes the keys of a layout from a section. Schemas and defaults are below `folder`.
pub(super) fn read(section: &mut Section<'_>, folder: &Path, is_built_in: bool) -> Raw {
    let directories = directories(section, is_built_in);
    let files = files(section, folder, is_built_in);
    let locks = patterns(section, "lock_patterns", is_built_in);
    let lock_age = age(section, "lock_age");
    let heartbeats = patterns(section, "heartbeat_patterns", is_built_in);
    let heartbeat_age = age(section, "heartbeat_age");
    let json = patterns(section, "json_patterns", is_built_in);
    Raw { directories, files, locks, lock_age, heartbeats, heartbeat_age, json }
}

fn age(section: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    section.has(key).then(|| span(section, key, Duration::ZERO))
}

/// A path below the workspace that chiron may heal, or the rule that it breaks.
pub(super) fn path(text: &str) -> Result<RelPath, String> {
    let path = RelPath::parse(text)?;
    if text.chars().any(char::is_control) || text.len() > 4000 || text.split('/').any(|part| part.len() > 255) {
        return Err("expected a path that a file can have, without control characters".to_owned());
    }
    if path.as_str().split('/').next() == Some(OWN_FOLDER) {
        return Err(format!("expected a path outside `{OWN_FOLDER}`, which is chiron's own"));
    }
    Ok(path)
}

fn texts(section: &mut Section<'_>, key: &'static str) -> Vec<(String, Spot)> {
    let nodes = section.list(key);
    if nodes.len() > ENTRIES_MAX {
        section.reject(key, &format!("expected at most {ENTRIES_MAX} entries"), None);
    }
    let taken = nodes.iter().take(ENTRIES_MAX).enumerate().filter_map(|(index, node)| {
        let path = format!("{}[{index}]", section.path_of(key));
        let text = String::take(node, &path, section.problems())?;
        Some((text, Spot { at: node.at, path, found: node.shown() }))
    });
    taken.collect()
}

fn directories(section: &mut Section<'_>, is_built_in: bool) -> Vec<(RelPath, Option<Spot>)> {
    let mut taken: Vec<(RelPath, Option<Spot>)> = Vec::new();
    for (text, spot) in texts(section, "directories") {
        let tell = |rule: &str| section.problems().push(spot.at, &spot.path, &spot.found, rule, None);
        match path(&text) {
            Err(rule) => tell(&rule),
            Ok(path) if taken.iter().any(|(other, _)| *other == path) => tell("expected each folder once"),
            Ok(path) => taken.push((path, (!is_built_in).then(|| spot.clone()))),
        }
    }
    taken
}

fn patterns(section: &mut Section<'_>, key: &'static str, is_built_in: bool) -> Option<Vec<RawPattern>> {
    section.has(key).then(|| {
        let mut taken: Vec<RawPattern> = Vec::new();
        for (text, spot) in texts(section, key) {
            if taken.iter().any(|other| other.text == text) {
                section.problems().push(spot.at, &spot.path, &spot.found, "expected each pattern once", None);
                continue;
            }
            taken.push(RawPattern { text, spot: (!is_built_in).then_some(spot) });
        }
        taken
    })
}

fn files(section: &mut Section<'_>, folder: &Path, is_built_in: bool) -> Vec<(RelPath, Spot, Written)> {
    let base = section.path_of("files");
    let entries = section.entries("files");
    if entries.len() > ENTRIES_MAX {
        section.reject("files", &format!("expected at most {ENTRIES_MAX} entries"), None);
    }
    let mut taken: Vec<(RelPath, Spot, Written)> = Vec::new();
    for (name, at, node) in entries.iter().take(ENTRIES_MAX) {
        let spot = Spot { at: *at, path: format!("{base}.{name}"), found: name.clone() };
        let tell = |rule: &str| section.problems().push(spot.at, &spot.path, &spot.found, rule, None);
        let read = file(node, &spot, section, folder, is_built_in);
        match path(name) {
            Err(rule) => tell(&rule),
            Ok(_) if name.ends_with('/') => tell("expected the path of a file, without `/` at its end"),
            Ok(path) if taken.iter().any(|(other, ..)| *other == path) => tell("expected each file once"),
            Ok(path) => taken.push((path, spot, read)),
        }
    }
    taken
}

/// One file.
fn file(node: &Node, spot: &Spot, section: &Section<'_>, folder: &Path, is_built_in: bool) -> Written {
    if node.value == Value::Null {
        return Written::Null;
    }
    let Some(mut entry) = Section::open(node, &spot.path, section.problems()) else { return Written::Disabled };
    let enabled = entry.or("enabled", true);
    let role = entry.word("role", &Role::ALL.map(|role| (role.as_str(), role)));
    let empty = entry.node("empty").and_then(|node| {
        let content = Content::of_node(node, entry.path_of("empty"));
        content.map_err(|rule| entry.problems().push(node.at, &entry.path_of("empty"), "", &rule, None)).ok()
    });
    let default = entry.opt::<String>("default").and_then(|text| {
        let spot = Spot { at: entry.node("default")?.at, path: entry.path_of("default"), found: text.clone() };
        let read = Content::of_file(&below(folder, Path::new(&text)), spot);
        read.map_err(|why| entry.reject("default", &format!("expected a file with JSON, but {why}"), None)).ok()
    });
    if entry.has("empty") && entry.has("default") {
        entry.reject("default", "expected either `empty` or `default`", None);
    }
    let keys = entry.has("keys").then(|| keys(&mut entry));
    let required = entry.opt("required");
    let schema = entry.opt::<String>("schema").and_then(|text| {
        let read = schema(&below(folder, Path::new(&text)));
        let told = |why| entry.reject("schema", &format!("expected a file with a JSON schema, but {why}"), None);
        read.map_err(told).ok()
    });
    entry.finish();
    let spot = (!is_built_in).then(|| spot.clone());
    if !enabled {
        return Written::Disabled;
    }
    Written::File(Box::new(RawFile { spot, role, content: default.or(empty), keys, required, schema }))
}

fn keys(entry: &mut Section<'_>) -> Vec<(String, String)> {
    let entries = entry.entries("keys");
    entries.iter().map(|(key, _, node)| (key.clone(), json_text(node))).collect()
}

/// The JSON Schema in a file; nothing is fetched for it.
pub(super) fn schema(path: &Path) -> Result<Arc<Validator>, String> {
    let (bytes, _) = bounded(path, FILE_MAX)?;
    let value: Json = serde_json::from_slice(&bytes).map_err(|error| format!("it holds no JSON: {error}"))?;
    if !value.is_object() && !value.is_boolean() {
        return Err("it holds no mapping".to_owned());
    }
    let built = jsonschema::validator_for(&value);
    built.map(Arc::new).map_err(|error| format!("it holds no such schema: {error}"))
}

/// What a default holds.
pub(super) fn bytes_of(path: &Path) -> Result<Vec<u8>, String> {
    bounded(path, FILE_MAX).map(|(bytes, _)| bytes)
}
