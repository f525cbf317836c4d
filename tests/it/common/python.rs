//! Packages from PyPI, each set of them in an environment of its own below the build folder.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::process::tool;

/// A Python that has these packages (`name==version`). Made once for all runs; a failure to make it fails the test.
pub(crate) fn python_with(packages: &[&str]) -> PathBuf {
    static MADE: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let tag = packages.join("+").replace("==", "-");
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(tag).or_insert_with_key(|tag| make(tag, packages)).clone()
}

fn make(tag: &str, packages: &[&str]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("python-{tag}"));
    let python = folder.join("bin/python3");
    let done = folder.join("complete");
    if done.is_file() {
        return python;
    }
    let run = |command: &mut Command| {
        let output = command.output().expect("python3 runs");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command:?}: {said}; is python3-venv installed, and PyPI within reach?");
    };
    run(Command::new(tool("python3")).args(["-m", "venv", "--clear"]).arg(&folder));
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages));
    std::fs::write(done, "").expect("the folder can be written");
    python
}
