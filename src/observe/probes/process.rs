//! What `/proc` tells of processes.
//!
//! **Invariant:** a process that ends while it is looked at is reported as not there, never as an error.
#![expect(clippy::disallowed_methods, reason = "/proc is listed here")]

use std::path::Path;

use crate::base::files::{self, FileProblem};

/// Units of CPU time and start time in `/proc`; fixed on every Linux architecture that we build for.
pub const TICKS_PER_SECOND: u64 = 100;

/// How much of a command line is looked at.
const MAX_COMMAND: u64 = 64 * 1024;

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// The kernel's letter for its state.
    pub state: char,
    /// CPU time in ticks, of all its threads.
    pub cpu_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, in ticks since boot.
    pub start_ticks: u64,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// Its command line, arguments joined by spaces; for a zombie or kernel thread its short name.
    pub command: String,
}

/// Looks at one process; `None` if there is none of that id.
pub fn process(root: &Path, pid: i32) -> Result<Option<Process>, FileProblem> {
    let folder = root.join(pid.to_string());
    let Some(stat) = read(&folder.join("stat"))? else { return Ok(None) };
    let Some(mut found) = parse_stat(&stat) else { return Ok(None) };
    let Some(status) = read(&folder.join("status"))? else { return Ok(None) };
    found.rss_bytes = parse_rss(&status);
    if let Some(command) = command(root, pid)? {
        found.command = command;
    }
    Ok(Some(found))
}

/// The command line of a process; `None` if it has none or is gone.
pub fn command(root: &Path, pid: i32) -> Result<Option<String>, FileProblem> {
    let path = root.join(pid.to_string()).join("cmdline");
    let bytes = match files::read_start(&path, MAX_COMMAND) {
        Ok((bytes, _)) => bytes,
        Err(problem) if is_gone(&problem) => return Ok(None),
        Err(problem) => return Err(problem),
    };
    let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ");
    Ok((!text.is_empty()).then_some(text))
}

/// The ids of all processes.
pub fn pids(root: &Path) -> Result<Vec<i32>, FileProblem> {
    let entries = std::fs::read_dir(root).map_err(|error| FileProblem::Other(error.to_string()))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// How many files a process holds open; `None` if we may not see.
pub fn open_files(root: &Path, pid: i32) -> Option<usize> {
    Some(std::fs::read_dir(root.join(pid.to_string()).join("fd")).ok()?.count())
}

fn read(path: &Path) -> Result<Option<String>, FileProblem> {
    match files::read_start(path, MAX_COMMAND) {
        Ok((bytes, _)) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(problem) if is_gone(&problem) => Ok(None),
        Err(problem) => Err(problem),
    }
}

/// A process that ends between opening and reading its file gives ESRCH.
fn is_gone(problem: &FileProblem) -> bool {
    let gone = std::io::Error::from(rustix::io::Errno::SRCH).to_string();
    problem.is_missing() || matches!(problem, FileProblem::Other(text) if *text == gone)
}

/// Parses `/proc/PID/stat`. The name stands in brackets and may hold anything, brackets and spaces too.
fn parse_stat(text: &str) -> Option<Process> {
    let (pid, rest) = text.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Field 3 of the manual page, the state, is the first here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        state: fields.first()?.chars().next()?,
        cpu_ticks: number(14)?.saturating_add(number(15)?),
        threads: number(20)?,
        start_ticks: number(22)?,
        rss_bytes: 0,
        command: name.to_owned(),
    })
}

fn parse_rss(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_brackets_and_spaces() {
        let text = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 500 70 0 0 20 0 7 0 1234 99 88 0";
        let found = parse_stat(text).unwrap();
        assert_eq!((found.pid, found.state, &*found.command), (42, 'S', "a) b (c"));
        assert_eq!((found.cpu_ticks, found.threads, found.start_ticks), (570, 7, 1234));
        for text in ["", "42", "42 (a", "42 (a) S 1", "x (a) S 1 42 42 0 -1 4194560 1 2 3 4 500 70 0 0 20 0 7 0 1234"] {
            assert_eq!(parse_stat(text), None, "{text}");
        }
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t  12 kB\n"), 12 * 1024);
        assert_eq!(parse_rss("Name:\tx\n"), 0);
    }

    #[test]
    fn this_very_process() {
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let root = Path::new("/proc");
        let found = process(root, me).unwrap().unwrap();
        assert!(found.rss_bytes > 0 && found.threads > 0 && found.command.contains("chiron"), "{found:?}");
        assert!(pids(root).unwrap().contains(&me));
        assert!(open_files(root, me).unwrap() > 2);
        assert_eq!(process(root, i32::MAX).unwrap(), None);
    }
}
