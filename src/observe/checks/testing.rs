//! What the tests of checks share: a fixed moment, a way to run a blocking check, and a folder of spoilt files.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{AnyCheck, Judgement, Timestamp};

/// 2025-11-23T01:34:56Z.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);

/// Reads and judges; the read has to complete in one poll.
pub(crate) fn run_at(check: &dyn AnyCheck, now: Timestamp) -> Judgement {
    assert!(check.blocking());
    let read = pin!(check.read());
    match { read }.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reading) => check.judge(&reading, now),
        Poll::Pending => panic!("a blocking check waits"),
    }
}

/// A spoilt file and words its error must hold.
pub(crate) struct Spoilt {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) error: &'static str,
    _folder: std::sync::Arc<tempfile::TempDir>,
}

/// One of each, dated [`NOW`] where it has a date. An unreadable file is left out: tests may run as root, whom no mode
/// stops; `age::judge_problem` has its own test with `PermissionDenied`.
pub(crate) fn torture() -> Vec<Spoilt> {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).join("state.json");
    for name in ["half-written", "empty", "huge", "not json", "directory", "fifo", "dangling", "missing"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(at("half-written"), r#"{"timestamp": "2025-11-23T01:3"#).unwrap();
    std::fs::write(at("empty"), "").unwrap();
    std::fs::File::create(at("huge")).unwrap().set_len(1 << 40).unwrap();
    std::fs::write(at("not json"), [0xff, 0xfe, 0x00]).unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    for name in ["half-written", "empty", "huge", "not json"] {
        date(&at(name), NOW);
    }
    [
        ("half-written", "not JSON: EOF"),
        ("empty", "empty"),
        ("huge", "1099511627776 bytes, more than the limit of"),
        ("not json", "not JSON: "),
        ("directory", "is a directory"),
        ("fifo", "is a FIFO"),
        ("dangling", "dangling link to nowhere"),
        ("missing", "missing"),
    ]
    .map(|(name, error)| Spoilt { name, path: at(name), error, _folder: folder.clone() })
    .into()
}

/// Sets a file's modification time.
pub(crate) fn date(path: &Path, at: Timestamp) {
    let when = std::time::UNIX_EPOCH + std::time::Duration::from_millis(u64::try_from(at.millis()).unwrap());
    std::fs::File::options().append(true).open(path).unwrap().set_modified(when).unwrap();
}

/// The names of the Rust files of a source folder, sorted, without `except`.
pub(crate) fn files_of(folder: &str, except: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = names
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !except.contains(&name.as_str()))
        .collect();
    names.sort_unstable();
    names
}
