//! Every `tests/config/*.good.yml` loads; every `*.bad.yml` gives exactly the problems of its `*.bad.txt`.
//!
//! `UPDATE_GOLDEN=1` rewrites the expected problems.
#![expect(clippy::disallowed_methods, reason = "reads and rewrites the expected problems")]

use std::path::{Path, PathBuf};

use chiron::base::clock::Clock;
use chiron::config::{Inputs, Loaded, load};
use chiron::model::{Problem, Timestamp};

const FOLDER: &str = "tests/config";

fn files(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(FOLDER).read_dir().expect("tests run in the package's folder");
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    files.sort();
    files
}

fn loaded(path: &Path) -> Result<Loaded, Vec<Problem>> {
    let inputs = Inputs { config_file: Some(path.to_owned()), ..Inputs::default() };
    load(&inputs, Clock::manual(Timestamp::from_millis(0)))
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn good_files_load() {
    let files = files(".good.yml");
    assert!(files.len() >= 4, "{files:?}");
    for path in files {
        if let Err(problems) = loaded(&path) {
            panic!("{} is good, but:\n{}", path.display(), told(&problems));
        }
    }
}

#[test]
fn bad_files_give_exactly_their_problems() {
    let files = files(".bad.yml");
    assert!(files.len() >= 12, "{files:?}");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = String::new();
    for path in files {
        let found = match loaded(&path) {
            Ok(_) => panic!("{} is bad, but loads", path.display()),
            Err(problems) => told(&problems),
        };
        let golden = path.with_extension("txt");
        if update {
            std::fs::write(&golden, &found).expect("the golden file is writable");
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if found != expected {
            differing.push_str(&format!("{}\nexpected:\n{expected}found:\n{found}\n", golden.display()));
        }
    }
    assert!(differing.is_empty(), "UPDATE_GOLDEN=1 rewrites them\n{differing}");
}
