//! `dir_age`: is something in a folder still being written?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::files::FileProblem;
use crate::observe::age::{AgeLimits, Missing, judge_problem};
use crate::observe::params;
use crate::observe::probes::folder::{Filter, Walk, newest};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: DirAge::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
When the newest regular file below a folder was last written. Links are not followed, files that chiron writes itself do
not count, and the walk ends after 10,000 entries or six levels (`truncated` then says so).

# Why it matters
Logs, candles and exports come under new names; only the folder as a whole shows whether they still come.

# Failure reasons
- `degraded`: the newest file's age reached `degraded_after`, or its date lies more than 5 s in the future.
- `critical`: its age exceeds `critical_after`; or something other than a folder stands in its place.
- as `missing` says: there is no such folder, or no file in it that counts.
- `unknown`, and not run: the folder may not be listed.

# Parameters
- `path`: the folder; a relative one is below the workspace.
- `pattern` (every file): a shell pattern such as `*.log`; with a slash it is matched against the path below the folder.
- `degraded_after` (5m), `critical_after` (60m), `missing` (`unknown`): as with `file_age`.
";

/// The freshness of one folder.
#[derive(Clone, Debug)]
pub struct DirAge {
    /// The folder.
    pub path: PathBuf,
    /// Which files count.
    pub filter: Filter,
    /// Begins the warning: `Newest log` in `Newest log 120s old (stale)`.
    pub what: String,
    /// When it is too old.
    pub limits: AgeLimits,
    /// The grade of an absent folder, or of one without files.
    pub missing: Missing,
}

impl Check for DirAge {
    type Reading = Result<Walk, FileProblem>;
    const KIND: &'static str = "dir_age";

    async fn read(&self) -> Self::Reading {
        newest(&self.path, &self.filter)
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let walk = match reading {
            Ok(walk) => walk,
            Err(problem) => return judge_problem(&self.path, problem, self.missing),
        };
        let mut judgement = match &walk.newest {
            Some((file, at)) => {
                self.limits.judge(&self.what, *at, "mtime", now).with("newest", file.to_string_lossy().into_owned())
            }
            None => {
                let warning = format!("no files in {}", self.path.display());
                Judgement::new(self.missing.status()).with("warning", warning)
            }
        };
        judgement = judgement.with("files", walk.files);
        if walk.truncated {
            judgement = judgement.with("truncated", true);
        }
        if walk.unreadable > 0 {
            judgement = judgement.with("unreadable_folders", walk.unreadable);
        }
        judgement
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn heeds(&self, changed: &Path) -> bool {
        let folder: PathBuf = self.path.components().collect();
        self.filter.accepts(changed.strip_prefix(&folder).unwrap_or(changed), changed)
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let path = params::path(section, "path", context);
    let pattern = params::text(section, "pattern");
    let filter = Filter::new(pattern.as_deref(), &context.own_files)
        .map_err(|error| section.reject("pattern", &format!("expected a shell pattern: {error}"), None))
        .ok();
    let limits = params::age_limits(section, AgeLimits::state_file());
    let missing = params::missing(section);
    let what = "Newest file".to_owned();
    Some(Arc::new(DirAge { path: path?, filter: filter?, what, limits, missing }))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]
mod tests {
    use super::*;
    use crate::model::Status;
    use crate::observe::checks::testing::{NOW, date, run_at};
    use std::time::Duration;

    fn check(path: PathBuf, missing: Missing) -> DirAge {
        let filter = Filter::new(Some("*.log"), &[]).unwrap();
        DirAge { path, filter, what: "Newest log".to_owned(), limits: AgeLimits::live_file(), missing }
    }

    /// OBS-7: the newest file decides, on both sides of each limit.
    #[test]
    fn the_newest_file_decides() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old.log"), "").unwrap();
        date(&folder.path().join("old.log"), Timestamp::EPOCH);
        std::fs::write(folder.path().join("new.log"), "").unwrap();
        for (age, status) in [
            (59_999, Status::Healthy),
            (60_000, Status::Degraded),
            (300_000, Status::Degraded),
            (300_001, Status::Critical),
        ] {
            date(&folder.path().join("new.log"), NOW.minus(Duration::from_millis(age)));
            let judgement = run_at(&check(folder.path().to_owned(), Missing::Degraded), NOW);
            assert_eq!(judgement.status, status, "{age}");
            assert_eq!(judgement.details["newest"], "new.log");
        }
    }

    #[test]
    fn absence_emptiness_and_other_things_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        for (path, missing, status) in [
            (folder.path().join("none"), Missing::Unknown, Status::Unknown),
            (folder.path().join("none"), Missing::Degraded, Status::Degraded),
            (folder.path().to_owned(), Missing::Degraded, Status::Degraded),
            (folder.path().to_owned(), Missing::Critical, Status::Critical),
            (file, Missing::Unknown, Status::Critical),
        ] {
            assert_eq!(run_at(&check(path.clone(), missing), NOW).status, status, "{path:?}");
        }
    }
}
