//! `file_age`: is a file kept up to date?

use std::path::PathBuf;
use std::sync::Arc;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::model::Status;
use crate::observe::age::{AgeLimits, Missing, judge_problem};
use crate::observe::params;
use crate::observe::probes::state_file::{FileReading, Stamp, StateFile, TIMESTAMP_KEYS, parse_stamp};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: FileAge::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
How long ago a file was last written. If the file is JSON and dates itself, under `last_cycle`, `timestamp` or
`last_update`, as RFC 3339, Unix seconds or milliseconds, that date counts; otherwise the modification time does.
`timestamp_source` says which.

# Why it matters
A part of a bot that still runs but has stopped working shows it first by no longer writing its state.

# Failure reasons
- `degraded`: the age reached `degraded_after`; or the date lies more than 5 s in the future; or a file named `*.json`
  is empty, half-written or no JSON and still young by its modification time.
- `critical`: the age exceeds `critical_after`; or a folder, FIFO, socket, device or dangling link stands in its place.
- as `missing` says: there is no such file.
- `unknown`, and not run: the file may not be read.

# Parameters
- `path`: the file; a relative one is below the workspace.
- `degraded_after` (5m), `critical_after` (60m): the limits.
- `missing` (`unknown`): `unknown`, `degraded` or `critical`.
- `timestamp_keys`: the keys to look under, most telling first; an empty list stands for the modification time alone.
";

/// The age of one file.
#[derive(Debug)]
pub struct FileAge {
    file: StateFile<Option<Stamp>>,
    keys: Vec<String>,
    what: String,
    limits: AgeLimits,
    missing: Missing,
}

/// The parameters of [`FileAge`].
#[derive(Clone, Debug)]
pub struct FileAgeParams {
    /// The file.
    pub path: PathBuf,
    /// Begins the warning: `Snapshot` in `Snapshot 320s old (stale)`.
    pub what: String,
    /// When it is too old.
    pub limits: AgeLimits,
    /// The grade of a missing file.
    pub missing: Missing,
    /// Keys of a JSON file that hold its date, most telling first.
    pub timestamp_keys: Vec<String>,
}

impl FileAgeParams {
    /// A state file with the usual keys that is `unknown` when missing.
    pub fn new(path: PathBuf, what: &str, limits: AgeLimits) -> Self {
        let timestamp_keys = TIMESTAMP_KEYS.map(str::to_owned).to_vec();
        Self { path, what: what.to_owned(), limits, missing: Missing::Unknown, timestamp_keys }
    }
}

impl FileAge {
    /// A check of one file.
    pub fn new(params: FileAgeParams, clock: Clock) -> Self {
        let keys = params.timestamp_keys.clone();
        let is_json = params.path.extension().is_some_and(|extension| extension == "json");
        let file = StateFile::new(params.path, clock, move |bytes| {
            if keys.is_empty() {
                return Ok(None);
            }
            // Any file may date itself, but only one named so is expected to be JSON.
            let parsed = parse_stamp(bytes, &keys);
            if is_json { parsed } else { Ok(parsed.unwrap_or(None)) }
        });
        Self { file, keys: params.timestamp_keys, what: params.what, limits: params.limits, missing: params.missing }
    }
}

impl Check for FileAge {
    type Reading = FileReading<Option<Stamp>>;
    const KIND: &'static str = "file_age";

    async fn read(&self) -> Self::Reading {
        self.file.read()
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let (meta, content) = match reading {
            Ok(found) => found,
            Err(problem) => return judge_problem(self.file.path(), problem, self.missing),
        };
        match &**content {
            Ok(Some(stamp)) => self.limits.judge(&self.what, stamp.at, &self.keys[stamp.key], now),
            Ok(None) => self.limits.judge(&self.what, meta.modified, "mtime", now),
            Err(error) => self
                .limits
                .judge(&self.what, meta.modified, "mtime", now)
                .at_least(Status::Degraded)
                .with("error", format!("{}: {error}", self.file.path().display())),
        }
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
    let limits = params::age_limits(section, AgeLimits::state_file());
    let missing = params::missing(section);
    let keys = section.has("timestamp_keys").then(|| params::texts(section, "timestamp_keys"));
    let path = path?;
    let what = path.file_name().map_or_else(|| "File".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut taken = FileAgeParams { missing, ..FileAgeParams::new(path, &what, limits) };
    if let Some(keys) = keys {
        taken.timestamp_keys = keys;
    }
    Some(Arc::new(FileAge::new(taken, context.clock.clone())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]
mod tests {
    use super::*;
    use crate::observe::checks::testing::{NOW, run_at, torture};

    fn check(path: PathBuf, missing: Missing) -> FileAge {
        let params = FileAgeParams { missing, ..FileAgeParams::new(path, "State", AgeLimits::state_file()) };
        FileAge::new(params, Clock::manual(NOW))
    }

    /// OBS-3: a date inside the file is preferred over its modification time, and the check says which it used.
    #[test]
    fn the_date_inside_wins() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let stale = NOW.minus(std::time::Duration::from_secs(320));
        for (text, source, status) in [
            (format!(r#"{{"timestamp": "{stale}"}}"#), "timestamp", Status::Degraded),
            (format!(r#"{{"last_update": {}}}"#, NOW.millis()), "last_update", Status::Healthy),
            (
                format!(r#"{{"last_cycle": "{stale}", "last_update": {}}}"#, NOW.millis()),
                "last_cycle",
                Status::Degraded,
            ),
            ("{\"timestamp\": null}".to_owned(), "mtime", Status::Healthy),
            ("[]".to_owned(), "mtime", Status::Healthy),
        ] {
            std::fs::write(&path, &text).unwrap();
            std::fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .set_modified(
                    std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(NOW.millis()).unwrap()),
                )
                .unwrap();
            let judgement = run_at(&check(path.clone(), Missing::Unknown), NOW);
            assert_eq!(judgement.details["timestamp_source"], source, "{text}");
            assert_eq!(judgement.status, status, "{text}");
        }
    }

    /// OBS-1, OBS-3: no spoilt file makes the check panic, hang or call it healthy.
    #[test]
    fn torture_of_bad_files() {
        for case in torture() {
            let judgement = run_at(&check(case.path.clone(), Missing::Unknown), NOW);
            let expected = match case.name {
                "missing" => Status::Unknown,
                "half-written" | "empty" | "huge" | "not json" => Status::Degraded,
                _ => Status::Critical,
            };
            assert_eq!(judgement.status, expected, "{}: {judgement:?}", case.name);
            let error = judgement.details["error"].as_str().unwrap();
            assert!(error.contains(case.error), "{}: {error}", case.name);
            assert!(!judgement.unrunnable);
        }
    }

    #[test]
    fn absence_is_graded_as_configured() {
        for (missing, status) in [
            (Missing::Unknown, Status::Unknown),
            (Missing::Degraded, Status::Degraded),
            (Missing::Critical, Status::Critical),
        ] {
            let judgement = run_at(&check("/nonexistent/state.json".into(), missing), NOW);
            assert_eq!((judgement.status, judgement.unrunnable), (status, false));
        }
    }

    #[test]
    fn a_file_that_is_not_named_json_may_hold_anything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heartbeat");
        std::fs::write(&path, "alive").unwrap();
        let now = crate::base::files::stat(&path).unwrap().modified;
        assert_eq!(run_at(&check(path, Missing::Unknown), now).status, Status::Healthy);
    }
}
