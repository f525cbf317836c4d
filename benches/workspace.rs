//! What a look at a large workspace costs beside `find`, and a heal of the built-in layout from process start to exit.
//! `cargo bench --bench workspace`; `-- SHARE` shortens it, 0.1 to a tenth of the files and rounds.
//!
//! Both scans are of the same files, warm, in turns. The heal needs a program that knows `heal`.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures the machine and prints")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chiron::base::clock::Clock;
use chiron::workspace::layout::{Layout, Patterns};
use chiron::workspace::root::Root;
use chiron::workspace::scan::scan;
use chiron::workspace::{Retention, Settings};
use globset::{GlobBuilder, GlobSetBuilder};

/// Folders of the large workspace, and files in each.
const FOLDERS: usize = 1_000;
const FILES_EACH: usize = 100;
/// How often each figure is taken.
const ROUNDS: usize = 15;

fn patterns(written: &[&str]) -> Patterns {
    let mut set = GlobSetBuilder::new();
    for text in written {
        set.add(GlobBuilder::new(text).literal_separator(true).build().expect("the pattern is one"));
    }
    let set = set.build().expect("the patterns can be compiled");
    Patterns { written: written.iter().map(|text| (*text).to_owned()).collect(), set }
}

/// The patterns of the layout `quantum`.
fn layout() -> Layout {
    Layout {
        locks: patterns(&["state/**/*.lock", "logs/**/*.lock"]),
        lock_age: Duration::from_secs(300),
        heartbeats: patterns(&["state/heartbeats/*.json"]),
        heartbeat_age: Duration::from_secs(600),
        ..Layout::default()
    }
}

fn settings(workspace: &Path) -> Settings {
    Settings {
        enabled: true,
        every: Duration::from_secs(600),
        workspace: workspace.to_owned(),
        state_dir: workspace.join(".chiron"),
        mode: None,
        dry_run: true,
        layout: Arc::new(layout()),
        own_files: Arc::new(Vec::new()),
        slot: None,
        retention: Retention::default(),
        quiet: Duration::from_secs(2),
        file_max: 64 << 20,
    }
}

/// Makes the files below `state`, where every pattern has to look at all of them.
fn fill(workspace: &Path, folders: usize) {
    for folder in 0..folders {
        let folder = workspace.join(format!("state/symbols/s{folder:04}"));
        std::fs::create_dir_all(&folder).expect("a folder can be made");
        for file in 0..FILES_EACH {
            std::fs::write(folder.join(format!("candles_{file:03}.json")), "{}").expect("space for a file");
        }
    }
}

/// The least and the median of some times, in milliseconds.
fn figures(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |place: usize| times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    (at(0), at(times.len() / 2))
}

fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let begun = Instant::now();
    let answer = run();
    (begun.elapsed(), answer)
}

fn find(folder: &Path) -> usize {
    let out = Command::new("find").arg(folder).args(["-type", "f", "-newermt", "1 hour ago"]).output();
    let out = out.expect("find is installed");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout.iter().filter(|byte| **byte == b'\n').count()
}

fn scans(folders: usize, rounds: usize) {
    let folder = tempfile::tempdir().expect("a folder for the benchmark");
    fill(folder.path(), folders);
    let (settings, clock) = (settings(folder.path()), Clock::system());
    let root = Root::open(folder.path()).expect("it is a folder");
    let files = (folders * FILES_EACH) as u64;
    let (mut ours, mut finds) = (Vec::new(), Vec::new());
    for round in 0..=rounds {
        let (time, found) = timed(|| scan(&root, &settings, clock.now()).expect("it can be looked at"));
        assert!(found.visited >= files && found.refused.is_empty(), "{} of {files}", found.visited);
        let (theirs, count) = timed(|| find(folder.path()));
        assert_eq!(count as u64, files);
        // The first round warms the cache.
        if round > 0 {
            ours.push(time);
            finds.push(theirs);
        }
    }
    let ((least, median), (find_least, find_median)) = (figures(ours), figures(finds));
    println!("scan of {files} files in {folders} folders, {rounds} rounds   minimum   median");
    println!("  chiron                                       {least:>8.1} ms {median:>8.1} ms");
    println!("  find -type f -newermt                        {find_least:>8.1} ms {find_median:>8.1} ms");
    println!(
        "  ratio                                        {:>8.2}    {:>8.2}     at most 3",
        least / find_least,
        median / find_median
    );
}

/// One run of the program over a workspace; `None` if it does not heal.
fn heal(workspace: &Path) -> Option<Duration> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chiron"));
    command.arg("heal").arg("--workspace").arg(workspace).args(["--mode", "paper"]);
    command.current_dir(workspace).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (time, status) = timed(|| command.status().expect("the program starts"));
    (status.success() && workspace.join("state/heartbeats").is_dir()).then_some(time)
}

fn heals(rounds: usize) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let (mut first, mut second, mut count) = (Vec::new(), Vec::new(), 0);
    for _ in 0..=rounds {
        let folder = tempfile::tempdir().expect("a folder for the benchmark");
        let Some(time) = heal(folder.path()) else {
            println!("heal of the layout `quantum`: this program does not heal");
            return;
        };
        first.push(time);
        second.extend(heal(folder.path()));
        count = entries(folder.path());
    }
    println!("heal of the layout `quantum`, process start to exit ({profile})   minimum   median");
    for (name, times) in [("everything missing", first), ("nothing to do", second)] {
        let (least, median) = figures(times);
        println!("  {name:<44} {least:>8.1} ms {median:>8.1} ms     under 50 ms");
    }
    println!("  files and folders made: {count}");
}

/// Files and folders below a folder, chiron's own aside.
fn entries(folder: &Path) -> usize {
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    let mut count = 0;
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).expect("it can be listed").flatten() {
            if entry.file_name() != ".chiron" {
                count += 1;
                left.extend(entry.path().is_dir().then(|| entry.path()));
            }
        }
    }
    count
}

fn main() {
    let share: f64 = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small counts"
    )]
    let part = |whole: usize| ((whole as f64 * share).ceil() as usize).max(1);
    scans(part(FOLDERS), part(ROUNDS));
    heals(part(ROUNDS));
}
