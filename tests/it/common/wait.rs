//! Waiting for something with a deadline, and telling what was seen when it does not come.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How much of a log a failure shows.
const TAIL_BYTES: u64 = 6000;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);

thread_local! {
    static LOGS: RefCell<Vec<PathBuf>> = const { RefCell::new(Vec::new()) };
}

/// Shows the end of this log, should a wait of this thread fail.
pub(crate) fn show_on_failure(log: &Path) {
    LOGS.with_borrow_mut(|logs| {
        if !logs.iter().any(|known| known == log) {
            logs.push(log.to_path_buf());
        }
    });
}

/// Waits up to 30 s.
pub(crate) fn wait_for<T, S: Debug>(what: &str, look: impl FnMut() -> Result<T, S>) -> T {
    wait_for_within(what, Duration::from_secs(30), look)
}

/// Looks every 50 ms until `look` is `Ok`; panics at the deadline with what it saw last and the end of every log.
pub(crate) fn wait_for_within<T, S: Debug>(
    what: &str,
    deadline: Duration,
    mut look: impl FnMut() -> Result<T, S>,
) -> T {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if begun.elapsed() >= deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {seen:?}{}", tails())
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// The end of every log of this thread's processes.
pub(crate) fn tails() -> String {
    LOGS.with_borrow(|logs| logs.iter().map(|log| format!("\n--- {}\n{}", log.display(), tail(log))).collect())
}

fn tail(log: &Path) -> String {
    let Ok(mut file) = std::fs::File::open(log) else { return "(gone)".to_owned() };
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let _ = file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)));
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
