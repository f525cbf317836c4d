//! `file_system`: is there room, and may what has to be read and written be read and written?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde_json::json;

use super::exchange_api::number;
use super::findings::Findings;
use super::source;
use super::{Built, PointContext, PointSpec};
use crate::base::files;
use crate::base::tree::{FromNode, Section};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::params;
use crate::observe::resources::disk;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: FileSystem::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "make room, or give back the permissions; the finding names the paths";

const DOC: &str = "\
# What it asks
How full the file systems of `paths` are, in space and inodes; whether each path is a folder, or a file, that may be read
and written; and the same of `critical_files`. Nothing is opened or written: the system is asked for chiron's own rights.

# Why it matters
A bot that can no longer write its positions forgets them with the next restart.

# Failure reasons
- `critical`, finding critical: more than `max_used` of the space or of the inodes is used; a path or critical file is
  missing, something else than it should be, or may not be read or written; the file system is read-only.

# Parameters
- `paths` (`[.]`): folders or files, up to 32; a relative one is below the workspace.
- `max_used` (0.9): a share above 0 and up to 1.
- `critical_files` (none): files, up to 128.
- `writable` (`true`): `false` asks for reading alone, for a chiron that may not write there while the bot may.
";

/// What is asked.
struct FileSystem {
    paths: Vec<PathBuf>,
    files: Vec<PathBuf>,
    max_used: f64,
    writable: bool,
}

/// What was found at one path.
struct Looked {
    path: String,
    /// What is wrong with its rights, or with what it is.
    wrong: Option<String>,
    /// Space and inodes in use, 0 to 1; of critical files nobody asks.
    used: Option<(f64, f64)>,
}

impl FileSystem {
    fn look(&self, path: &Path, is_file: bool) -> Option<String> {
        let meta = match files::stat(path) {
            Ok(meta) => meta,
            Err(problem) => return Some(problem.to_string()),
        };
        if is_file && meta.is_dir {
            return Some("is a directory, expected a file".to_owned());
        }
        let may = |what: Access| access(path, what);
        let mut wrong = Vec::new();
        if may(Access::READ_OK).is_err() {
            wrong.push("may not be read");
        }
        if meta.is_dir && may(Access::EXEC_OK).is_err() {
            wrong.push("may not be entered");
        }
        if self.writable {
            match may(Access::WRITE_OK) {
                Ok(()) => {}
                Err(Errno::ROFS) => wrong.push("is on a read-only file system"),
                Err(_) => wrong.push("may not be written"),
            }
        }
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }
}

/// Inodes in use, 0 to 1; nothing where there is no such limit.
#[expect(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
fn inodes(disk: &crate::model::DiskUse) -> f64 {
    if disk.inodes == 0 { 0.0 } else { 1.0 - disk.inodes_free as f64 / disk.inodes as f64 }
}

impl Check for FileSystem {
    type Reading = (Vec<Looked>, Vec<Looked>);
    const KIND: &'static str = "file_system";

    async fn read(&self) -> Self::Reading {
        let looked = |path: &PathBuf, is_file: bool| Looked {
            path: path.display().to_string(),
            wrong: self.look(path, is_file),
            used: if is_file { None } else { disk(path).map(|disk| (disk.used_percent() / 100.0, inodes(&disk))) },
        };
        let paths = self.paths.iter().map(|path| looked(path, false)).collect();
        (paths, self.files.iter().map(|path| looked(path, true)).collect())
    }

    fn judge(&self, (paths, files): &Self::Reading, _now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        let percent = self.max_used * 100.0;
        for looked in paths.iter().chain(files) {
            let mut find = |text: String| findings.add(Status::Critical, Severity::Critical, None, text);
            if let Some(wrong) = &looked.wrong {
                find(format!("{} {wrong}", looked.path));
            }
            if let Some((space, inodes)) = looked.used {
                if space > self.max_used {
                    find(format!("disk of {} more than {percent:.0} % full", looked.path));
                }
                if inodes > self.max_used {
                    find(format!("inodes of {} more than {percent:.0} % used", looked.path));
                }
            }
        }
        let told = |looked: &Looked| match looked.used {
            Some((space, inodes)) => {
                json!({"path": looked.path, "problem": looked.wrong, "used": space, "inodes_used": inodes})
            }
            None => json!({"path": looked.path, "problem": looked.wrong}),
        };
        let troubled = paths.iter().chain(files).filter(|looked| looked.wrong.is_some()).count();
        let mut judgement = findings
            .judgement()
            .with("paths", paths.iter().map(told).collect::<Vec<_>>())
            .with("critical_files", files.iter().map(told).collect::<Vec<_>>())
            .with("troubled", troubled);
        let fullest =
            |pick: fn((f64, f64)) -> f64| paths.iter().filter_map(|looked| looked.used.map(pick)).reduce(f64::max);
        judgement.perfdata.extend(fullest(|used| used.0).map(|value| number("disk_used", value, "ratio")));
        judgement.perfdata.extend(fullest(|used| used.1).map(|value| number("inodes_used", value, "ratio")));
        judgement
    }

    fn blocking(&self) -> bool {
        true
    }
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let mut paths = |key: &'static str, most: usize, default: &[&str]| -> Vec<PathBuf> {
        let mut texts = params::texts(section, key);
        if texts.len() > most || texts.iter().any(String::is_empty) {
            section.reject(key, &format!("expected a list of up to {most} paths"), None);
        }
        if texts.is_empty() {
            texts = default.iter().map(|text| (*text).to_owned()).collect();
        }
        texts.truncate(most);
        let below = |text: &String| context.checks.workspace.join(text).components().collect();
        texts.iter().map(below).collect()
    };
    let (folders, files) = (paths("paths", 32, &["."]), paths("critical_files", 128, &[]));
    let max_used = source::share(section, "max_used", 0.9);
    let writable = match section.node("writable") {
        Some(node) => bool::take(node, &section.path_of("writable"), section.problems()).unwrap_or(true),
        None => true,
    };
    let check = FileSystem { paths: folders, files, max_used, writable };
    Some(Built { check: Arc::new(check), limit: super::LIMIT })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-8: both sides of the limit for space and for inodes.
    #[test]
    fn both_sides_of_the_limit() {
        let check = FileSystem { paths: Vec::new(), files: Vec::new(), max_used: 0.9, writable: true };
        for (used, status, text) in [
            ((0.9, 0.9), Status::Healthy, ""),
            ((0.9001, 0.0), Status::Critical, "disk of /x more than 90 % full"),
            ((0.0, 0.9001), Status::Critical, "inodes of /x more than 90 % used"),
        ] {
            let looked = Looked { path: "/x".to_owned(), wrong: None, used: Some(used) };
            let judgement = Check::judge(&check, &(vec![looked], Vec::new()), Timestamp::EPOCH);
            assert_eq!(judgement.status, status, "{text}");
            assert!(judgement.signals.findings.iter().all(|finding| finding.description == text));
        }
    }
}
