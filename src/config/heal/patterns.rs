//! Which globs may stand for locks, heartbeats and JSON files.
//!
//! **Invariant:** no lock pattern matches what is no lock by its name, and none of them a file of the layout.

use globset::{GlobBuilder, GlobSetBuilder};

use super::super::intake::{Intake, Refusal};
use super::raw::{OWN_FOLDER, RawPattern, Spot};
use crate::workspace::layout::Patterns;

/// What a pattern is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// What matches is removed.
    Locks,
    /// What matches is reset.
    Heartbeats,
    /// What matches is salvaged.
    Json,
}

/// How the names of lock files end.
const LOCK_ENDINGS: [&str; 3] = [".lock", ".lck", ".pid"];
/// How the names of files end that hold what nobody wants to lose.
const DATA_ENDINGS: [&str; 16] = [
    ".json", ".jsonl", ".csv", ".parquet", ".feather", ".db", ".sqlite", ".wal", ".yml", ".yaml", ".toml", ".log",
    ".txt", ".py", ".pkl", ".bak",
];
const PATTERN_MAX: usize = 1000;
/// Characters that are more than themselves in a pattern.
const WILD: [char; 7] = ['*', '?', '[', ']', '{', '}', '\\'];

/// The patterns that are right, compiled; the others are told.
pub(super) fn compiled(raw: &[RawPattern], of: For, intake: &Intake<'_>) -> Patterns {
    let mut builder = GlobSetBuilder::new();
    let mut written = Vec::new();
    for RawPattern { text, spot } in raw {
        let glob = fault(text, of).map_or_else(
            || {
                let glob = GlobBuilder::new(text).literal_separator(true).build();
                glob.map_err(|error| (format!("expected a glob, but {}", error.kind()), None))
            },
            Err,
        );
        match (glob, spot) {
            (Ok(glob), _) => {
                builder.add(glob);
                written.push(text.clone());
                if let Some(spot) = spot.as_ref().filter(|_| of == For::Heartbeats && is_broad(text)) {
                    let text = "whatever matches this is taken for a heartbeat, and reset when it is old";
                    intake.warn(spot.at, &spot.path, text);
                }
            }
            (Err((rule, hint)), Some(spot)) => {
                intake.problems.push(spot.at, &spot.path, &spot.found, &rule, hint);
            }
            (Err(_), None) => {}
        }
    }
    match builder.build() {
        Ok(set) => Patterns { written, set },
        Err(error) => {
            if let Some(Spot { at, path, found }) = raw.iter().find_map(|pattern| pattern.spot.clone()) {
                intake.problems.push(at, &path, &found, &format!("expected globs, but {}", error.kind()), None);
            }
            Patterns::default()
        }
    }
}

/// What is wrong with a pattern, its syntax aside.
fn fault(text: &str, of: For) -> Option<Refusal> {
    let below = "expected a pattern of paths below the workspace, without `.`, `..` and empty parts";
    if text.is_empty() || text.len() > PATTERN_MAX || text.chars().any(char::is_control) {
        return Some((format!("expected a pattern of at most {PATTERN_MAX} printable characters"), None));
    }
    if text.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Some((below.to_owned(), None));
    }
    if text.split('/').next() == Some(OWN_FOLDER) {
        return Some((format!("expected a pattern outside `{OWN_FOLDER}`, which is chiron's own"), None));
    }
    let name = text.rsplit('/').next().unwrap_or(text);
    let is_literal = !name.contains(WILD);
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    match of {
        For::Locks if ends(&LOCK_ENDINGS) || (is_literal && !ends(&DATA_ENDINGS)) => None,
        For::Locks => {
            let rule = "expected a pattern that ends in `.lock`, `.lck`, `.pid` or the whole name of a lock file";
            Some((rule.to_owned(), Some("what matches is removed when it is old, such as state/**/*.lock".to_owned())))
        }
        For::Heartbeats if is_literal || has_ending(name) => None,
        For::Heartbeats => {
            let rule = "expected a pattern that ends in an extension such as `.json` or the whole name of a file";
            Some((rule.to_owned(), Some("what matches is reset when it is old".to_owned())))
        }
        For::Json if name.ends_with(".json") || (is_literal && !ends(&DATA_ENDINGS)) => None,
        For::Json => {
            let rule = "expected a pattern that ends in `.json` or the whole name of a file with JSON";
            Some((rule.to_owned(), Some("what matches and is no JSON is made JSON again".to_owned())))
        }
    }
}

/// Whether it ends in letters after a dot, whatever stands before.
fn has_ending(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    ending.is_some_and(|ending| !ending.is_empty() && ending.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether a pattern of heartbeats says of none of them that it is one.
fn is_broad(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let name = text.rsplit('/').next().unwrap_or(&text);
    name.contains(WILD) && !["beat", "alive"].iter().any(|word| text.contains(word))
}
