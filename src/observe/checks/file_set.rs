//! `file_set`: how many of a set of files are there?

use std::path::PathBuf;
use std::sync::Arc;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::files::{self, FileProblem};
use crate::model::Status;
use crate::observe::params;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: FileSet::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
How many of the named files exist.

# Why it matters
A set of models, keys or modules may lose a member and go on; below a number it should not.

# Failure reasons
- `degraded`: fewer than `healthy_at` exist, but at least `degraded_at`.
- `critical`: fewer than `degraded_at` exist. `missing` lists those that do not, with the reason where it is not
  absence.
- `unknown`, and not run: a folder on the way may not be entered, so their number cannot be told.

# Parameters
- `paths`: the files; relative ones are below the workspace.
- `healthy_at` (all of them): from this number on healthy.
- `degraded_at` (1): from this number on degraded.
";

/// The parameters of [`FileSet`].
#[derive(Clone, Debug)]
pub struct FileSet {
    /// The files.
    pub paths: Vec<PathBuf>,
    /// From this number on healthy.
    pub healthy_at: usize,
    /// From this number on degraded.
    pub degraded_at: usize,
    /// The detail that holds how many exist.
    pub count_key: &'static str,
}

impl Check for FileSet {
    type Reading = Vec<Result<(), FileProblem>>;
    const KIND: &'static str = "file_set";

    async fn read(&self) -> Self::Reading {
        let look = |path: &PathBuf| match files::stat(path) {
            Ok(meta) if meta.is_dir => Err(FileProblem::Directory),
            Ok(_) => Ok(()),
            Err(problem) => Err(problem),
        };
        self.paths.iter().map(look).collect()
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let existing = reading.iter().filter(|found| found.is_ok()).count();
        let problems = self.paths.iter().zip(reading).filter_map(|(path, found)| Some((path, found.as_ref().err()?)));
        let unseen = problems.clone().filter(|(_, problem)| !problem.is_finding()).count();
        if let Some((path, problem)) = problems.clone().find(|(_, problem)| !problem.is_finding())
            && existing < self.healthy_at
            && existing + unseen >= self.degraded_at
        {
            return Judgement::unrunnable(format!("{}: {problem}", path.display()));
        }
        let status = if existing >= self.healthy_at {
            Status::Healthy
        } else if existing >= self.degraded_at {
            Status::Degraded
        } else {
            Status::Critical
        };
        let missing: Vec<String> = problems
            .map(|(path, problem)| {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                if problem.is_missing() { name.into_owned() } else { format!("{name}: {problem}") }
            })
            .collect();
        let mut judgement = Judgement::new(status).with(self.count_key, existing).with("total", self.paths.len());
        if status != Status::Healthy {
            let warning =
                format!("{existing} of {} files exist, expected at least {}", self.paths.len(), self.healthy_at);
            judgement = judgement.with("warning", warning);
        }
        if !missing.is_empty() {
            judgement = judgement.with("missing", missing);
        }
        judgement
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let paths: Vec<PathBuf> =
        params::texts(section, "paths").into_iter().map(|path| context.workspace.join(path)).collect();
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let healthy_at = params::whole(section, "healthy_at").map_or(paths.len(), size);
    let degraded_at = params::whole(section, "degraded_at").map_or(healthy_at.min(1), size);
    if paths.is_empty() {
        section.reject("paths", "expected a list of at least one path", None);
        return None;
    }
    if healthy_at > paths.len() {
        section.reject("healthy_at", &format!("expected at most the number of paths, {}", paths.len()), None);
    }
    if degraded_at > healthy_at {
        section.reject("degraded_at", &format!("expected at most healthy_at, which is {healthy_at}"), None);
    }
    Some(Arc::new(FileSet { paths, healthy_at, degraded_at, count_key: "existing" }))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]
mod tests {
    use super::*;
    use crate::observe::checks::testing::{NOW, run_at};

    /// OBS-3, OBS-7: both sides of both numbers.
    #[test]
    fn every_number_of_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..4).map(|index| folder.path().join(format!("{index}.pkl"))).collect();
        let check = FileSet { paths: paths.clone(), healthy_at: 3, degraded_at: 2, count_key: "existing" };
        let expected = [Status::Critical, Status::Critical, Status::Degraded, Status::Healthy, Status::Healthy];
        for (existing, status) in expected.into_iter().enumerate() {
            let judgement = run_at(&check, NOW);
            assert_eq!(judgement.status, status, "{existing}");
            assert_eq!((&judgement.details["existing"], &judgement.details["total"]), (&existing.into(), &4.into()));
            if let Some(path) = paths.get(existing) {
                assert_eq!(judgement.details["missing"][0], format!("{existing}.pkl"));
                std::fs::write(path, "").unwrap();
            }
        }
    }

    #[test]
    fn a_folder_or_a_link_to_nothing_is_no_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::os::unix::fs::symlink("gone", folder.path().join("b")).unwrap();
        let paths = vec![folder.path().join("a"), folder.path().join("b")];
        let judgement = run_at(&FileSet { paths, healthy_at: 2, degraded_at: 1, count_key: "existing" }, NOW);
        assert_eq!(judgement.status, Status::Critical);
        assert_eq!(judgement.details["missing"], serde_json::json!(["a: is a directory", "b: dangling link to gone"]));
    }

    #[test]
    fn what_cannot_be_seen_counts_only_where_it_decides() {
        let check = FileSet {
            paths: vec!["a".into(), "b".into(), "c".into()],
            healthy_at: 3,
            degraded_at: 2,
            count_key: "existing",
        };
        let denied = || Err(FileProblem::PermissionDenied);
        let gone = || Err(FileProblem::Missing);
        assert!(Check::judge(&check, &vec![Ok(()), Ok(()), denied()], NOW).unrunnable);
        assert!(Check::judge(&check, &vec![Ok(()), gone(), denied()], NOW).unrunnable);
        assert_eq!(Check::judge(&check, &vec![gone(), gone(), denied()], NOW).status, Status::Critical);
    }
}
