//! Named places where a test can kill the program or make a step fail.
//!
//! Set `CHIRON_FAILPOINTS=name=kill;other=error` in the environment of the process. Unset, a place costs one atomic load.
//! `name=kill@3` strikes at the third passing, `name=kill@3+` at the third and every later one.
#![expect(clippy::disallowed_methods, reason = "the environment is read once, at the first passing")]

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

/// What a failpoint does to whoever passes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The process ends at once, as by SIGKILL.
    Kill,
    /// The caller is to behave as if the step had failed.
    Error,
    /// The task that passes panics.
    Panic,
    /// The task that passes goes on no more.
    Stall,
}

struct Armed {
    strike: Strike,
    left: AtomicI64,
    /// At every passing from then on.
    again: bool,
}

/// Every failpoint of the program. A test walks over this list, so that no step is forgotten.
pub const NAMES: [&str; 12] = [
    "accept.before_commit",
    "accept.after_commit",
    "plan.before_commit",
    "plan.after_commit",
    "effect.before",
    "effect.after",
    "finish.before_commit",
    "finish.after_commit",
    "verify.before_commit",
    "verify.after_commit",
    "snapshot.before_commit",
    "snapshot.after_commit",
];

/// Places within the long tasks, which may `panic` or `stall` there; the test of supervision walks over this list.
pub const TASKS: [&str; 7] = [
    "decider.gathered",
    "decider.committed",
    "decider.decided",
    "checks.turn",
    "publisher.turn",
    "http.turn",
    "healer.turn",
];

/// Steps of a healing of the workspace and of its rollback, in order; the tests of both walk over this list. At `write.*`,
/// `exchange.*`, `checked` and `applied.*` once for each change.
pub const HEALING: [&str; 26] = [
    "heal.planned.before",
    "heal.planned.after",
    "heal.backup.before",
    "heal.backup.after",
    "heal.write.before",
    "heal.write.after",
    "heal.exchange.before",
    "heal.exchange.after",
    "heal.checked",
    "heal.applied.before",
    "heal.applied.after",
    "heal.finished.before",
    "heal.finished.after",
    "rollback.planned.before",
    "rollback.planned.after",
    "rollback.backup.before",
    "rollback.backup.after",
    "rollback.write.before",
    "rollback.write.after",
    "rollback.exchange.before",
    "rollback.exchange.after",
    "rollback.checked",
    "rollback.applied.before",
    "rollback.applied.after",
    "rollback.finished.before",
    "rollback.finished.after",
];

fn armed() -> &'static HashMap<String, Armed> {
    static ARMED: OnceLock<HashMap<String, Armed>> = OnceLock::new();
    ARMED.get_or_init(|| std::env::var("CHIRON_FAILPOINTS").map(|text| parse(&text)).unwrap_or_default())
}

/// What `CHIRON_TEST_MEMORY_PERCENT` says instead of the host's memory, 0 to 100; for the reference report. An absolute path
/// names a file that holds the figure and is read each time, so that an action of a test can lower it.
pub fn injected_memory_percent() -> Option<f64> {
    static INJECTED: OnceLock<Option<String>> = OnceLock::new();
    let text = INJECTED.get_or_init(|| std::env::var("CHIRON_TEST_MEMORY_PERCENT").ok()).as_deref()?;
    if text.starts_with('/') { std::fs::read_to_string(text).ok()?.trim().parse().ok() } else { text.parse().ok() }
}

/// Whether this process is under test: it dies or lies on purpose. Said in the log at start.
pub fn is_under_test() -> bool {
    !armed().is_empty() || injected_memory_percent().is_some()
}

fn parse(text: &str) -> HashMap<String, Armed> {
    text.split(';')
        .filter_map(|part| {
            let (name, strike) = part.split_once('=')?;
            let (strike, at) = strike.split_once('@').unwrap_or((strike, "1"));
            let strike = match strike {
                "kill" => Strike::Kill,
                "error" => Strike::Error,
                "panic" => Strike::Panic,
                "stall" => Strike::Stall,
                _ => return None,
            };
            let (at, again) = at.strip_suffix('+').map_or((at, false), |at| (at, true));
            Some((name.to_owned(), Armed { strike, left: AtomicI64::new(at.parse().ok()?), again }))
        })
        .collect()
}

/// Passes the failpoint `name`. Returns true if the caller is to fail; does not return if it kills.
pub fn pass(name: &str) -> bool {
    match strike(name) {
        None => false,
        Some(Strike::Kill) => {
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
            true
        }
        Some(Strike::Panic) => panic!("failpoint `{name}`"),
        Some(Strike::Error | Strike::Stall) => true,
    }
}

/// Passes a failpoint of a long task: one that panics or stalls there does not return.
pub async fn pass_task(name: &str) {
    match strike(name) {
        Some(Strike::Panic) => panic!("failpoint `{name}`"),
        Some(Strike::Stall) => std::future::pending().await,
        Some(Strike::Kill | Strike::Error) | None => {}
    }
}

fn strike(name: &str) -> Option<Strike> {
    let armed = armed();
    if armed.is_empty() {
        return None;
    }
    let point = armed.get(name)?;
    let left = point.left.fetch_sub(1, Ordering::SeqCst);
    (left == 1 || point.again && left < 1).then_some(point.strike)
}
