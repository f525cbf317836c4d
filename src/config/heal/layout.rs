//! From what is built in, what failure points name and what the settings say to one [`Layout`].
//!
//! **Invariant:** what contradicts itself is told at its place in the settings, never resolved by guessing.

use std::path::Path;
use std::time::Duration;

use globset::GlobBuilder;

use super::super::intake::Intake;
use super::Around;
use super::content::{Content, has_records};
use super::patterns::{For, compiled};
use super::raw::{Raw, RawFile, RawPattern, Spot, Written, path, read, schema};
use crate::base::tree::{Problems, Section, parse};
use crate::workspace::layout::{FileSpec, Layout, QUANTUM, RelPath, Role};

const LOCK_AGE: Duration = Duration::from_secs(300);
const HEARTBEAT_AGE: Duration = Duration::from_secs(600);

/// The layout `quantum`, with what lies below its `logs` and `data` where those folders really are; and which of them
/// lie outside of the workspace, so that nothing is expected of them.
fn built_in(around: &Around<'_>) -> (Raw, Vec<&'static str>) {
    let problems = Problems::new("quantum.yml");
    let root = parse(QUANTUM, &problems).expect("the built-in layout is YAML, as a test shows");
    let mut section = Section::open(&root, "heal", &problems).expect("the built-in layout is a mapping");
    let mut raw = read(&mut section, Path::new("/"), true);
    section.finish();
    debug_assert!(problems.is_empty(), "{problems:?}");
    let folders = [("logs", "log_dir", &around.log_dir), ("data", "data_dir", &around.data_dir)]
        .map(|(name, key, folder)| (name, key, inside(&around.workspace, folder)));
    let follow = |text: &str, escape: bool| -> Option<String> {
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        let Some((.., place)) = folders.iter().find(|(name, ..)| *name == first) else { return Some(text.to_owned()) };
        let place = place.as_deref()?;
        let place = if escape { globset::escape(place) } else { place.to_owned() };
        let parts: Vec<&str> = [place.as_str(), rest].into_iter().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("/"))
    };
    let moved = |path: &RelPath| follow(path.as_str(), false).and_then(|text| RelPath::parse(&text).ok());
    raw.directories.retain_mut(|(path, _)| moved(path).map(|to| *path = to).is_some());
    raw.files.retain_mut(|(path, ..)| moved(path).map(|to| *path = to).is_some());
    for patterns in [&mut raw.locks, &mut raw.heartbeats, &mut raw.json].into_iter().flatten() {
        patterns.retain_mut(|pattern| follow(&pattern.text, true).map(|to| pattern.text = to).is_some());
    }
    (raw, folders.iter().filter(|(.., place)| place.is_none()).map(|(_, key, _)| *key).collect())
}

/// `folder` below the workspace, empty for the workspace itself.
fn inside(workspace: &Path, folder: &Path) -> Option<String> {
    let text = folder.strip_prefix(workspace).ok()?.to_str()?.to_owned();
    (text.is_empty() || path(&text).is_ok()).then_some(text)
}

/// Configuration files that the failure point `configuration` names with a default.
fn of_failure_point(top: &mut Section<'_>, around: &Around<'_>, intake: &Intake<'_>) -> Vec<(RelPath, RawFile)> {
    let section = top.section("failure_points").and_then(|mut section| section.section("configuration"));
    let Some(mut section) = section else { return Vec::new() };
    let base = section.path_of("files");
    let mut found = Vec::new();
    for (name, at, node) in section.entries("files") {
        let Some(mut entry) = Section::open(node, &format!("{base}.{name}"), intake.problems) else { continue };
        let Some(default) = entry.opt::<String>("default") else { continue };
        let whole = around.workspace.join(name);
        let below = whole.strip_prefix(&around.workspace).ok().and_then(Path::to_str);
        let Some(file) = below.and_then(|text| path(text).ok()) else { continue };
        let spot = |key: &'static str, entry: &mut Section<'_>| Spot {
            at: entry.node(key).map_or(*at, |node| node.at),
            path: entry.path_of(key),
            found: String::new(),
        };
        let default_spot = spot("default", &mut entry);
        let warn = |why: &str| {
            let text = format!("`{file}` is not restored when it is missing or broken: {why}");
            intake.warn(default_spot.at, &default_spot.path, &text);
        };
        if [".yml", ".yaml"].iter().any(|ending| name.ends_with(ending)) {
            warn("only JSON is");
            continue;
        }
        let content = Content::of_file(&around.workspace.join(&default), default_spot.clone());
        let against = entry.opt::<String>("schema").and_then(|text| schema(&around.workspace.join(text)).ok());
        match content {
            Err(why) => warn(&format!("its default `{default}` cannot be used, {why}")),
            Ok(content) => match content.fault(Role::Config, &[], against.as_deref()) {
                Some(rule) => warn(&format!("its default `{default}` cannot be used, {rule}")),
                None => {
                    let spot = Some(spot("default", &mut entry));
                    let role = Some(Role::Config);
                    found.push((
                        file,
                        RawFile { spot, role, content: Some(content), schema: against, ..RawFile::default() },
                    ));
                }
            },
        }
    }
    found
}

/// The layout in force.
pub(super) fn layout(
    top: &mut Section<'_>,
    section: &mut Section<'_>,
    intake: &Intake<'_>,
    around: &Around<'_>,
    (is_quantum, enabled): (bool, bool),
) -> Layout {
    let own = read(section, &intake.folder, false);
    let (below, outside) = if is_quantum { built_in(around) } else { (Raw::default(), Vec::new()) };
    for key in outside.into_iter().filter(|_| enabled) {
        let text = format!("`{key}` lies outside of the workspace: nothing of the layout below it is healed");
        intake.warn_key(top, key, &text);
    }
    let mut files = Files::default();
    for (path, _, written) in below.files {
        if let Written::File(file) = written {
            files.put(path, *file);
        }
    }
    if enabled {
        for (path, file) in of_failure_point(top, around, intake) {
            if !own.files.iter().any(|(own, ..)| *own == path) {
                files.put(path, file);
            }
        }
    }
    for (path, spot, written) in own.files {
        match written {
            Written::File(file) => files.put(path, *file),
            Written::Disabled => drop(files.take(&path)),
            Written::Null if files.take(&path).is_some() => {}
            Written::Null => {
                let rule = "expected settings, since no such file is built in that could be taken out";
                let hint = Some("write {} for a file without anything special".to_owned());
                intake.problems.push(spot.at, &spot.path, &spot.found, rule, hint);
            }
        }
    }
    let folders = folders(below.directories, own.directories, &files, intake.problems);
    let locks = own.locks.or(below.locks).unwrap_or_default();
    let heartbeats = own.heartbeats.or(below.heartbeats).unwrap_or_default();
    apart(&files, &locks, &heartbeats, intake.problems);
    let specs = files.0.into_iter().filter_map(|(path, file)| spec(path, file, around, intake)).collect();
    let layout = Layout {
        directories: folders,
        files: specs,
        locks: compiled(&locks, For::Locks, intake),
        lock_age: own.lock_age.or(below.lock_age).unwrap_or(LOCK_AGE),
        heartbeats: compiled(&heartbeats, For::Heartbeats, intake),
        heartbeat_age: own.heartbeat_age.or(below.heartbeat_age).unwrap_or(HEARTBEAT_AGE),
        json: compiled(&own.json.or(below.json).unwrap_or_default(), For::Json, intake),
        bot: None,
    };
    for role in [Role::Positions, Role::Portfolio] {
        let several: Vec<&str> =
            layout.files.iter().filter(|file| file.role == role).map(|file| file.path.as_str()).collect();
        if let [first, .., last] = several[..] {
            let text = format!(
                "`{first}` and `{last}` both have the role {}: only the first is compared with the other side",
                role.as_str()
            );
            intake.warn_key(section, "files", &text);
        }
    }
    layout
}

/// Files in the order in which they were first named.
#[derive(Default)]
struct Files(Vec<(RelPath, RawFile)>);

impl Files {
    fn put(&mut self, path: RelPath, file: RawFile) {
        match self.0.iter_mut().find(|(other, _)| *other == path) {
            Some((_, under)) => *under = std::mem::take(under).under(file),
            None => self.0.push((path, file)),
        }
    }

    fn take(&mut self, path: &RelPath) -> Option<RawFile> {
        let index = self.0.iter().position(|(other, _)| other == path)?;
        Some(self.0.remove(index).1)
    }
}

/// Every folder above a path, the highest first.
fn above(path: &RelPath) -> Vec<RelPath> {
    let mut found: Vec<RelPath> = std::iter::successors(path.parent(), RelPath::parent).collect();
    found.reverse();
    found
}

/// Every folder that is expected, parents first: those that are named, and those that files are made in. What is named
/// both as a file and as a folder is told.
fn folders(
    built_in: Vec<(RelPath, Option<Spot>)>,
    own: Vec<(RelPath, Option<Spot>)>,
    files: &Files,
    problems: &Problems,
) -> Vec<RelPath> {
    let mut found: Vec<RelPath> = Vec::new();
    let mut add = |path: &RelPath| {
        if !found.contains(path) {
            found.push(path.clone());
        }
    };
    let file_at = |path: &RelPath| files.0.iter().find(|(file, _)| file == path);
    for (path, spot) in built_in.into_iter().chain(own) {
        for folder in above(&path).iter().chain([&path]) {
            add(folder);
            if let Some((file, raw)) = file_at(folder)
                && let Some(spot) = spot.as_ref().or(raw.spot.as_ref())
            {
                let rule = format!("expected no folder, since `{file}` is a file of the layout");
                problems.push(spot.at, &spot.path, &spot.found, &rule, Some("a path is one of the two".to_owned()));
            }
        }
    }
    for (path, raw) in &files.0 {
        for folder in above(path) {
            if raw.content.is_some() {
                add(&folder);
            }
            if let (Some((file, other)), spot) = (file_at(&folder), raw.spot.as_ref())
                && let Some(spot) = spot.or(other.spot.as_ref())
            {
                let rule = format!("expected no path below `{file}`, which is a file of the layout");
                problems.push(spot.at, &spot.path, &spot.found, &rule, None);
            }
        }
    }
    found
}

/// Tells of files that a pattern of locks or heartbeats matches, and of patterns that stand for both.
fn apart(files: &Files, locks: &[RawPattern], heartbeats: &[RawPattern], problems: &Problems) {
    let matcher = |pattern: &RawPattern| {
        GlobBuilder::new(&pattern.text).literal_separator(true).build().ok().map(|glob| glob.compile_matcher())
    };
    let end = [(locks, "lock", "removed"), (heartbeats, "heartbeat", "reset")];
    for (patterns, kind, done) in end {
        for pattern in patterns {
            let Some(glob) = matcher(pattern) else { continue };
            let hit = files.0.iter().find(|(path, _)| glob.is_match(path.as_str()));
            let Some((path, file)) = hit else { continue };
            let Some(spot) = pattern.spot.as_ref().or(file.spot.as_ref()) else { continue };
            let rule = format!(
                "expected no {kind} pattern to match a file of the layout, but `{}` matches `{path}`",
                pattern.text
            );
            let hint = Some(format!("what a {kind} pattern matches is {done} when it is old"));
            problems.push(spot.at, &spot.path, &spot.found, &rule, hint);
        }
    }
    for heartbeat in heartbeats {
        let both = locks.iter().find(|lock| matcher(lock).is_some_and(|glob| glob.is_match(&heartbeat.text)));
        let Some(lock) = both else { continue };
        let Some(spot) = heartbeat.spot.as_ref().or(lock.spot.as_ref()) else { continue };
        let rule = format!("expected no heartbeat that is a lock as well, but `{}` is among the locks", heartbeat.text);
        problems.push(spot.at, &spot.path, &spot.found, &rule, None);
    }
}

/// One file, checked; `None` if something is wrong with it.
fn spec(path: RelPath, file: RawFile, around: &Around<'_>, intake: &Intake<'_>) -> Option<FileSpec> {
    let role = file.role.unwrap_or(Role::State);
    let keys = file.keys.unwrap_or_default();
    let tell = |spot: &Spot, rule: &str| intake.problems.push(spot.at, &spot.path, &spot.found, rule, None);
    let before = intake.problems.len();
    if let Some(spot) = &file.spot {
        if around.own_files.iter().any(|own| *own == around.workspace.join(path.as_str())) {
            tell(spot, "expected a file of the bot, but chiron itself writes it");
        }
        let made_up = |text: &String| serde_json::from_str(text).is_ok_and(|value| has_records(&value));
        if role.holds_money() && keys.iter().any(|(_, default)| made_up(default)) {
            tell(spot, "expected lists without entries in `keys`: no position or trade may be made up");
        }
    }
    if let Some(content) = &file.content {
        let place = if content.spot.at.line > 0 { Some(&content.spot) } else { None };
        let place = file.spot.as_ref().and(place);
        if let Some(spot) = place {
            if content.from_file && role != Role::Config {
                tell(spot, "expected `default` only with `role: config`; others have `empty`");
            }
            if let Some(rule) = content.fault(role, &keys, file.schema.as_deref()) {
                tell(spot, &rule);
            }
        }
    }
    (intake.problems.len() == before).then(|| FileSpec {
        path,
        role,
        empty: file.content.map(|content| content.bytes),
        keys,
        required: file.required.unwrap_or(false),
        schema: file.schema,
    })
}
