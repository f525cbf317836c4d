//! The newest file below a folder.
//!
//! **Invariant:** bounded in entries and depth; follows no link but the folder's own name.
#![expect(clippy::disallowed_methods, reason = "folders are listed here")]

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use crate::base::files::{self, FileProblem};
use crate::model::Timestamp;

/// How far a walk goes before it is content with what it saw.
pub const MAX_ENTRIES: usize = 10_000;
/// Levels of folders.
pub const MAX_DEPTH: usize = 6;

/// Which files of a folder count.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Shell pattern; on the name if it holds no slash, else on the path below the folder. Without it all.
    pattern: Option<(GlobMatcher, bool)>,
    /// Files, or folders with all below them, that never count.
    own_files: Vec<PathBuf>,
}

impl Filter {
    /// A filter; the error says what is wrong with the pattern.
    pub fn new(pattern: Option<&str>, own_files: &[PathBuf]) -> Result<Self, String> {
        let pattern = match pattern {
            Some(text) => {
                let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(|error| error.to_string())?;
                Some((glob.compile_matcher(), text.contains('/')))
            }
            None => None,
        };
        Ok(Self { pattern, own_files: own_files.iter().map(|path| path.components().collect()).collect() })
    }

    /// Whether a file counts, by its path below the folder and its whole path.
    pub fn accepts(&self, below: &Path, whole: &Path) -> bool {
        let matched = match &self.pattern {
            None => true,
            Some((glob, true)) => glob.is_match(below),
            Some((glob, false)) => below.file_name().is_some_and(|name| glob.is_match(name)),
        };
        matched && !self.own_files.iter().any(|own| is_own(whole, own))
    }
}

/// Whether `path` is `own`, is below it, is what it was rotated to, or is its next version being written.
pub fn is_own(path: &Path, own: &Path) -> bool {
    if path.starts_with(own) {
        return true;
    }
    let (Some(name), Some(own_name)) = (path.file_name(), own.file_name()) else { return false };
    if path.parent() != own.parent() {
        return false;
    }
    let begins = |start: &OsString| name.as_bytes().starts_with(start.as_bytes());
    let mut rotated = own_name.to_owned();
    rotated.push(".");
    let mut temporary = OsString::from(".");
    temporary.push(&rotated);
    begins(&rotated) || begins(&temporary)
}

/// What a walk saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The file that changed last, as a path below the folder, and when.
    pub newest: Option<(PathBuf, Timestamp)>,
    /// Regular files that count.
    pub files: usize,
    /// Whether the folder holds more than was looked at.
    pub truncated: bool,
    /// Folders below that could not be listed.
    pub unreadable: usize,
}

/// Walks `folder`. Blocks.
pub fn newest(folder: &Path, filter: &Filter) -> Result<Walk, FileProblem> {
    // `components` drops `.` and doubled slashes, so that own files compare equal.
    let folder: PathBuf = folder.components().collect();
    if !files::stat(&folder)?.is_dir {
        return Err(FileProblem::NotDirectory);
    }
    let mut walk = Walk::default();
    let mut seen = 0;
    let mut open = vec![(folder.clone(), 1)];
    while let Some((current, depth)) = open.pop() {
        let entries = match std::fs::read_dir(&current) {
            Ok(entries) => entries,
            Err(error) if current == folder => {
                return Err(match error.kind() {
                    std::io::ErrorKind::PermissionDenied => FileProblem::PermissionDenied,
                    std::io::ErrorKind::NotFound => FileProblem::Missing,
                    _ => FileProblem::Other(error.to_string()),
                });
            }
            Err(_) => {
                walk.unreadable += 1;
                continue;
            }
        };
        for entry in entries.flatten() {
            seen += 1;
            if seen > MAX_ENTRIES {
                walk.truncated = true;
                return Ok(walk);
            }
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                if depth < MAX_DEPTH {
                    open.push((path, depth + 1));
                } else {
                    walk.truncated = true;
                }
            } else if kind.is_file() {
                let below = path.strip_prefix(&folder).unwrap_or(&path);
                if filter.accepts(below, &path)
                    && let Ok(meta) = files::stat(&path)
                {
                    walk.files += 1;
                    if walk.newest.as_ref().is_none_or(|(_, newest)| *newest < meta.modified) {
                        walk.newest = Some((below.to_owned(), meta.modified));
                    }
                }
            }
        }
    }
    Ok(walk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn touch(path: &Path, seconds: u64) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::File::create(path).unwrap().set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    fn newest_of(folder: &Path, filter: &Filter) -> Option<(String, i64)> {
        let walk = newest(folder, filter).unwrap();
        walk.newest.map(|(path, at)| (path.display().to_string(), at.millis() / 1000))
    }

    /// OBS-3: chiron's own files, their rotated and half-written versions never count; neither do links.
    #[test]
    fn only_the_files_of_others_count() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        touch(&at("bot.log"), 100);
        touch(&at("sub/trades.log"), 200);
        touch(&at("own.jsonl"), 900);
        touch(&at("own.jsonl.1"), 800);
        touch(&at(".own.jsonl.77-0.tmp"), 950);
        touch(&at("state/chiron.db"), 990);
        std::os::unix::fs::symlink("/etc", at("link")).unwrap();
        std::os::unix::fs::symlink("own.jsonl", at("alias.log")).unwrap();
        let own = [at("./own.jsonl"), at("state")];
        let filter = |pattern| Filter::new(pattern, &own).unwrap();
        assert_eq!(newest_of(folder.path(), &filter(None)), Some(("sub/trades.log".into(), 200)));
        assert_eq!(newest_of(folder.path(), &filter(Some("b*.log"))), Some(("bot.log".into(), 100)));
        assert_eq!(newest_of(folder.path(), &filter(Some("sub/*.log"))), Some(("sub/trades.log".into(), 200)));
        assert_eq!(newest_of(folder.path(), &filter(Some("*.csv"))), None);
        assert_eq!(newest_of(folder.path(), &Filter::default()), Some(("state/chiron.db".into(), 990)));
        assert!(Filter::new(Some("a["), &[]).is_err());
    }

    #[test]
    fn depth_and_number_are_bounded_and_said() {
        let folder = tempfile::tempdir().unwrap();
        touch(&folder.path().join("1/2/3/4/5/in.log"), 100);
        touch(&folder.path().join("1/2/3/4/5/6/out.log"), 200);
        let walk = newest(folder.path(), &Filter::default()).unwrap();
        assert_eq!((walk.files, walk.truncated), (1, true));
        for index in 0..=MAX_ENTRIES {
            std::fs::File::create(folder.path().join(format!("f{index}"))).unwrap();
        }
        let walk = newest(folder.path(), &Filter::default()).unwrap();
        assert!(walk.truncated && walk.files <= MAX_ENTRIES);
    }

    #[test]
    fn what_is_no_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        touch(&file, 1);
        assert_eq!(newest(&file, &Filter::default()), Err(FileProblem::NotDirectory));
        assert_eq!(newest(&folder.path().join("none"), &Filter::default()), Err(FileProblem::Missing));
    }
}
