//! Packages from PyPI in an environment of their own, below the build folder.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::process::tool;

/// What is installed, each at a version that these tests were written against.
const PACKAGES: [&str; 1] = ["prometheus_client==0.26.0"];

/// A Python that has them. Made once for all runs; a failure to make it fails the test.
pub(crate) fn python() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(make).clone()
}

fn make() -> PathBuf {
    let tag = PACKAGES.join("+").replace("==", "-");
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
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES));
    std::fs::write(done, "").expect("the folder can be written");
    python
}
