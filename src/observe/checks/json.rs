//! `json`: does a JSON file say what it should?

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::model::Status;
use crate::observe::age::{AgeLimits, Missing, judge_problem};
use crate::observe::params;
use crate::observe::probes::state_file::{FileReading, Stamp, StateFile, TIMESTAMP_KEYS, parse_json, stamp_of};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Json::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
Whether a file is JSON, holds the keys it should, lists that are not empty and numbers within their ranges; and, if age
limits are given, how old it is, by the date inside it or its modification time as with `file_age`.

# Why it matters
A file can be fresh and useless: a universe without symbols, a balance below zero, a state cut off in mid-write.

# Failure reasons
- `critical`: empty, half-written, no JSON, more than 16 MiB, a folder, FIFO, socket, device or dangling link; a
  required key is absent or null; a value that should not be empty is; a number is outside its range or is no number;
  or older than `critical_after`. `violations` lists every one of them. A file changed within the last two seconds is
  read again shortly before it is called broken.
- `degraded`: the age reached `degraded_after`, or the date lies more than 5 s in the future.
- as `missing` says: there is no such file.
- `unknown`, and not run: the file may not be read.

# Parameters
- `path`: the file; a relative one is below the workspace.
- `require`: keys that must be there and not null: names at the top, or JSON pointers (`/limits/max`).
- `non_empty`: keys whose list, mapping or text must not be empty.
- `ranges`: a mapping from key to `{min, max}`, both inclusive, either optional.
- `degraded_after`, `critical_after` (none), `missing` (`unknown`), `timestamp_keys`: as with `file_age`.
";

/// A place in a JSON value, as configured and as a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    name: String,
    pointer: String,
}

impl Place {
    /// From a name at the top or a JSON pointer.
    pub fn new(name: &str) -> Self {
        let pointer = if name.starts_with('/') {
            name.to_owned()
        } else {
            format!("/{}", name.replace('~', "~0").replace('/', "~1"))
        };
        Self { name: name.to_owned(), pointer }
    }
}

/// A range of numbers, both ends inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// No less than this.
    pub min: Option<f64>,
    /// No more than this.
    pub max: Option<f64>,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (Some(min), Some(max)) => write!(f, "{min} to {max}"),
            (Some(min), None) => write!(f, "at least {min}"),
            (None, Some(max)) => write!(f, "at most {max}"),
            (None, None) => f.write_str("a number"),
        }
    }
}

/// The parameters of [`Json`].
#[derive(Clone, Debug, Default)]
pub struct JsonParams {
    /// The file.
    pub path: PathBuf,
    /// Begins the warning about its age.
    pub what: String,
    /// Must be there and not null.
    pub require: Vec<Place>,
    /// Must not be empty.
    pub non_empty: Vec<Place>,
    /// Must be numbers within a range.
    pub ranges: Vec<(Place, Range)>,
    /// When it is too old.
    pub limits: AgeLimits,
    /// The grade of a missing file.
    pub missing: Missing,
    /// Keys that hold its date, most telling first.
    pub timestamp_keys: Vec<String>,
}

impl JsonParams {
    /// A file with the usual timestamp keys and no demands yet.
    pub fn new(path: PathBuf, what: &str) -> Self {
        let timestamp_keys = TIMESTAMP_KEYS.map(str::to_owned).to_vec();
        Self { path, what: what.to_owned(), timestamp_keys, ..Self::default() }
    }
}

/// What stands at one place.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// `null`.
    Null,
    /// A list, mapping or text, and whether it is empty.
    Many(bool),
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Flag,
}

impl Found {
    fn at(value: &Value, place: &Place) -> Self {
        match value.pointer(&place.pointer) {
            None => Self::Absent,
            Some(Value::Null) => Self::Null,
            Some(Value::Bool(_)) => Self::Flag,
            Some(Value::Number(number)) => number.as_f64().map_or(Self::Flag, Self::Number),
            Some(Value::String(text)) => Self::Many(text.is_empty()),
            Some(Value::Array(list)) => Self::Many(list.is_empty()),
            Some(Value::Object(map)) => Self::Many(map.is_empty()),
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Many(true) => "empty",
            Self::Many(false) | Self::Flag => "no number",
            Self::Number(_) => "a number",
        }
    }
}

/// What a file holds at the places asked for; the rest of it is forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    stamp: Option<Stamp>,
    require: Vec<Found>,
    non_empty: Vec<Found>,
    ranges: Vec<Found>,
}

/// The content of one JSON file.
#[derive(Debug)]
pub struct Json {
    file: StateFile<Facts>,
    params: Arc<JsonParams>,
}

impl Json {
    /// A check of one file.
    pub fn new(params: JsonParams, clock: Clock) -> Self {
        let params = Arc::new(params);
        let wanted = Arc::clone(&params);
        let file = StateFile::new(params.path.clone(), clock, move |bytes| {
            let value = parse_json(bytes)?;
            let all = |places: &[Place]| places.iter().map(|place| Found::at(&value, place)).collect();
            Ok(Facts {
                stamp: stamp_of(&value, &wanted.timestamp_keys),
                require: all(&wanted.require),
                non_empty: all(&wanted.non_empty),
                ranges: wanted.ranges.iter().map(|(place, _)| Found::at(&value, place)).collect(),
            })
        });
        Self { file, params }
    }

    fn violations(&self, facts: &Facts) -> Vec<String> {
        let mut violations = Vec::new();
        for (place, found) in self.params.require.iter().zip(&facts.require) {
            if matches!(found, Found::Absent | Found::Null) {
                violations.push(format!("`{}` is {}, expected a value", place.name, found.word()));
            }
        }
        for (place, found) in self.params.non_empty.iter().zip(&facts.non_empty) {
            if *found != Found::Many(false) {
                let what = match found {
                    Found::Number(_) | Found::Flag => "neither list, mapping nor text",
                    other => other.word(),
                };
                violations.push(format!("`{}` is {what}, expected something in it", place.name));
            }
        }
        for ((place, range), found) in self.params.ranges.iter().zip(&facts.ranges) {
            match found {
                Found::Number(number)
                    if range.min.is_none_or(|min| *number >= min) && range.max.is_none_or(|max| *number <= max) => {}
                Found::Number(number) => violations.push(format!("`{}` is {number}, expected {range}", place.name)),
                other => violations.push(format!("`{}` is {}, expected {range}", place.name, other.word())),
            }
        }
        violations
    }
}

impl Check for Json {
    type Reading = FileReading<Facts>;
    const KIND: &'static str = "json";

    async fn read(&self) -> Self::Reading {
        self.file.read()
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let (meta, content) = match reading {
            Ok(found) => found,
            Err(problem) => return judge_problem(self.file.path(), problem, self.params.missing),
        };
        let facts = match &**content {
            Ok(facts) => facts,
            Err(error) => {
                let error = format!("{}: {error}", self.file.path().display());
                return Judgement::new(Status::Critical).with("error", error);
            }
        };
        let limits = &self.params.limits;
        let judgement = match facts.stamp {
            Some(stamp) => limits.judge(&self.params.what, stamp.at, &self.params.timestamp_keys[stamp.key], now),
            None => limits.judge(&self.params.what, meta.modified, "mtime", now),
        };
        let violations = self.violations(facts);
        if violations.is_empty() {
            return judgement;
        }
        let error = format!("{}: {}", self.file.path().display(), violations.join("; "));
        // Nothing but new content changes this grade.
        let judgement = Judgement { status: Status::Critical, next_change_at: None, ..judgement };
        judgement.with("error", error).with("violations", violations)
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<PathBuf> {
        vec![self.file.path().to_owned()]
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let path = params::path(section, "path", context);
    let places = |names: Vec<String>| names.iter().map(|name| Place::new(name)).collect::<Vec<_>>();
    let require = places(params::texts(section, "require"));
    let non_empty = places(params::texts(section, "non_empty"));
    let mut ranges = Vec::new();
    let base = section.path_of("ranges");
    for (name, _, node) in section.entries("ranges") {
        let Some(mut entry) = Section::open(node, &format!("{base}.{name}"), section.problems()) else { continue };
        let range = Range { min: params::number(&mut entry, "min"), max: params::number(&mut entry, "max") };
        if let (Some(min), Some(max)) = (range.min, range.max)
            && max < min
        {
            entry.reject("max", &format!("expected at least min, which is {min}"), None);
        }
        entry.finish();
        ranges.push((Place::new(name), range));
    }
    let limits = params::age_limits(section, AgeLimits::default());
    let missing = params::missing(section);
    let keys = section.has("timestamp_keys").then(|| params::texts(section, "timestamp_keys"));
    let path = path?;
    let what = path.file_name().map_or_else(|| "File".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut taken = JsonParams { require, non_empty, ranges, limits, missing, ..JsonParams::new(path, &what) };
    if let Some(keys) = keys {
        taken.timestamp_keys = keys;
    }
    Some(Arc::new(Json::new(taken, context.clock.clone())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]
mod tests {
    use super::*;
    use crate::observe::checks::testing::{NOW, run_at, torture};

    fn check(path: PathBuf) -> Json {
        let mut params = JsonParams::new(path, "Snapshot");
        params.require = vec![Place::new("source"), Place::new("/limits/max")];
        params.non_empty = vec![Place::new("symbols")];
        params.ranges = vec![(Place::new("/limits/max"), Range { min: Some(1.0), max: Some(10.0) })];
        params.limits = AgeLimits::state_file();
        Json::new(params, Clock::manual(NOW))
    }

    /// OBS-7: required keys, non-empty lists and value ranges, both sides of each.
    #[test]
    fn every_demand_and_its_violation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let stamp = NOW.millis();
        for (content, violations) in [
            (r#""source": 1, "symbols": ["A"], "limits": {"max": 10}"#, &[][..]),
            (r#""source": 1, "symbols": {"A": 1}, "limits": {"max": 1}"#, &[]),
            (r#""source": 1, "symbols": [], "limits": {"max": 5}"#, &["`symbols` is empty, expected something in it"]),
            (
                r#""source": 1, "symbols": 7, "limits": {"max": 5}"#,
                &["`symbols` is neither list, mapping nor text, expected something in it"],
            ),
            (r#""source": null, "symbols": "x", "limits": {"max": 5}"#, &["`source` is null, expected a value"]),
            (r#""source": 1, "symbols": "x", "limits": {"max": 10.5}"#, &["`/limits/max` is 10.5, expected 1 to 10"]),
            (r#""source": 1, "symbols": "x", "limits": {"max": 0.5}"#, &["`/limits/max` is 0.5, expected 1 to 10"]),
            (
                r#""source": 1, "symbols": "x", "limits": {"max": "5"}"#,
                &["`/limits/max` is no number, expected 1 to 10"],
            ),
            (
                r#""x": 1"#,
                &[
                    "`source` is absent, expected a value",
                    "`/limits/max` is absent, expected a value",
                    "`symbols` is absent, expected something in it",
                    "`/limits/max` is absent, expected 1 to 10",
                ],
            ),
        ] {
            std::fs::write(&path, format!(r#"{{"timestamp": {stamp}, {content}}}"#)).unwrap();
            let judgement = run_at(&check(path.clone()), NOW);
            let expected = if violations.is_empty() { Status::Healthy } else { Status::Critical };
            assert_eq!(judgement.status, expected, "{content}");
            let found = judgement.details.get("violations").cloned().unwrap_or_else(|| Value::Array(Vec::new()));
            assert_eq!(found, serde_json::json!(violations), "{content}");
        }
    }

    /// OBS-1, OBS-3: spoilt content is critical; only absence is graded as configured.
    #[test]
    fn torture_of_bad_files() {
        for case in torture() {
            let judgement = run_at(&check(case.path.clone()), NOW);
            let expected = if case.name == "missing" { Status::Unknown } else { Status::Critical };
            assert_eq!(judgement.status, expected, "{}", case.name);
            let error = judgement.details["error"].as_str().unwrap();
            assert!(error.contains(case.error), "{}: {error}", case.name);
        }
    }

    #[test]
    fn names_and_pointers() {
        assert_eq!(Place::new("a/b~c").pointer, "/a~1b~0c");
        assert_eq!(Place::new("/a/b").pointer, "/a/b");
    }
}
