//! Ends a process of the bot: SIGTERM, the grace, SIGKILL.
//!
//! **Invariant:** a signal goes only to the very process that was found, told by when it started, through a handle that no
//! other process can take over.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Hands, Step, Stop};
use crate::base::clock::Clock;
use crate::workspace::ledger::record::ProcessId;

/// How often the end of a process is asked for.
const STEP: Duration = Duration::from_millis(20);

/// How long the kernel may take to end a process that was killed; one that waits for a disk takes longer.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// Whether the process still runs; one that has ended and waits to be collected does not.
pub(in crate::workspace) fn is_alive(process: ProcessId) -> Result<bool, String> {
    let path = format!("/proc/{}/stat", process.pid);
    let bytes = match crate::base::files::read_start(Path::new(&path), 4096) {
        Ok((bytes, _)) => bytes,
        Err(crate::base::files::FileProblem::Missing) => return Ok(false),
        // It ended between the opening and the reading.
        Err(_) if !Path::new(&path).exists() => return Ok(false),
        Err(problem) => return Err(format!("`{path}` cannot be read: {problem}")),
    };
    // The name stands in parentheses and may hold any character.
    let text = String::from_utf8_lossy(&bytes);
    let mut fields = text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace()).into_iter().flatten();
    let state = fields.next().unwrap_or("X");
    // Field 22 of `proc(5)`; the state is the third.
    let ticks = fields.nth(18).and_then(|ticks| ticks.parse::<u64>().ok());
    Ok(ticks == Some(process.started_ticks) && !matches!(state, "Z" | "X" | "x"))
}

impl Hands<'_> {
    /// Ends the process of a change.
    pub(super) fn end_process(&self, step: &Step) -> Result<(), Stop> {
        let grace = self.grace.ok_or_else(|| Stop::Deferred("processes are ended in paper mode only".to_owned()))?;
        let process = step.process.ok_or_else(|| Stop::Failed("it names no process".to_owned()))?;
        let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).filter(|pid| pid.as_raw_nonzero().get() > 1);
        let pid = pid.ok_or_else(|| Stop::Failed(format!("{} is no process that may be ended", process.pid)))?;
        self.point("write.before")?;
        let ended = || Stop::Deferred("it has ended by itself".to_owned());
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Err(ended()),
            Err(errno) => return Err(errno.into()),
        };
        // Asked only now: the handle is of whatever has the id since it was opened.
        if !is_alive(process).map_err(Stop::Failed)? {
            return Err(ended());
        }
        self.point("exchange.before")?;
        for (signal, within) in [(Signal::TERM, grace), (Signal::KILL, KILLED_WITHIN)] {
            match pidfd_send_signal(&handle, signal) {
                Ok(()) => {}
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
            let _ = self.point("exchange.after");
            if has_ended_within(process, within)? {
                let _ = self.point("checked");
                return Ok(());
            }
        }
        Err(Stop::Failed(format!("it still runs {} s after SIGKILL", KILLED_WITHIN.as_secs())))
    }
}

fn has_ended_within(process: ProcessId, within: Duration) -> Result<bool, Stop> {
    let clock = Clock::system();
    let until = clock.since_boot() + within;
    loop {
        if !is_alive(process).map_err(Stop::Failed)? {
            return Ok(true);
        }
        if clock.since_boot() >= until {
            return Ok(false);
        }
        std::thread::sleep(STEP);
    }
}
