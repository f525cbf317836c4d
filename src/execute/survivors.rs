//! Finds the commands that a crash of chiron has left running, and waits for their end.
//!
//! A run that was `started` when chiron died may still be under way. Before its class decides what follows, its command
//! must have ended, or the same action would run twice at once.
//!
//! **Invariant:** only the ordered command itself is found: the leader of the group that chiron gave it, still under the
//! command line that was ordered. What it started on purpose carries its environment too, but leads a session or runs
//! another command line, and is left alone. A command that has replaced itself by another program (`exec` in a script)
//! or changed its user can therefore not be recognised.

use std::time::Duration;

use rustix::process::Pid;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::command::end_group;
use crate::base::procfs::{self, Process};
use crate::model::RunKey;

/// Names the run in the environment of a command and of everything that it starts.
pub(super) const RUN_KEY_VARIABLE: &str = "CHIRON_RUN_KEY";

/// Tells the ordered command line, as [`command_id`], so that it is recognised by its environment alone.
pub(super) const COMMAND_VARIABLE: &str = "CHIRON_COMMAND_ID";

/// How often the end is looked for.
const PAUSE: Duration = Duration::from_millis(100);

/// A command that outlived the chiron that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survivor {
    /// Its id, which is its process group's id too.
    pub pid: i32,
    /// Clock ticks from boot to its start; tells it from a stranger with the same id.
    started: u64,
}

impl Survivor {
    fn lives(self) -> bool {
        procfs::process(self.pid).is_some_and(|process| process.lives() && process.started == self.started)
    }
}

/// How survivors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aftermath {
    /// There was none, or all ended by themselves.
    Ended,
    /// At least one had to be ended, with its process group.
    Killed,
}

/// The commands of run `key` that still run. Looks at every process once (milliseconds); for a blocking thread.
pub fn find(key: &RunKey) -> Vec<Survivor> {
    let key = format!("{RUN_KEY_VARIABLE}={key}");
    let leads_group_only = |process: &Process| process.group == process.pid && process.session != process.pid;
    procfs::all()
        .filter(|process| process.lives() && leads_group_only(process))
        .filter(|process| is_ordered(process.pid, key.as_bytes()).unwrap_or(false))
        // Read again, because a pid may have passed on between the two files.
        .filter(|process| procfs::process(process.pid).is_some_and(|now| now.started == process.started))
        .map(|process| Survivor { pid: process.pid, started: process.started })
        .collect()
}

/// Waits until every survivor has ended; at `limit` their process groups are ended as at a timeout.
pub async fn await_end(survivors: Vec<Survivor>, limit: Duration) -> Aftermath {
    let deadline = Instant::now() + limit;
    let mut aftermath = Aftermath::Ended;
    for survivor in survivors {
        while survivor.lives() && Instant::now() < deadline {
            tokio::time::sleep(PAUSE.min(deadline - Instant::now())).await;
        }
        if let Some(group) = Pid::from_raw(survivor.pid)
            && survivor.lives()
        {
            end_group(group).await;
            aftermath = Aftermath::Killed;
        }
    }
    aftermath
}

/// Whether a process carries `key` (`NAME=VALUE`) and still runs the command line that it was ordered to.
fn is_ordered(pid: i32, key: &[u8]) -> Option<bool> {
    let environment = procfs::read(pid, "environ")?;
    let mut variables = environment.split(|&byte| byte == 0);
    if !variables.any(|variable| variable == key) {
        return Some(false);
    }
    let prefix = format!("{COMMAND_VARIABLE}=");
    let ordered = environment.split(|&byte| byte == 0).find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
    Some(ends_with_command(&procfs::read(pid, "cmdline")?, ordered))
}

/// Whether a `/proc/PID/cmdline` ends with the command line of that id. A script's begins with its interpreter, which
/// may be a script too; the kernel goes five deep, with one argument each.
fn ends_with_command(cmdline: &[u8], id: &[u8]) -> bool {
    let Some(cmdline) = cmdline.strip_suffix(b"\0") else { return false };
    let words: Vec<&[u8]> = cmdline.split(|&byte| byte == 0).collect();
    (0..words.len().min(11)).any(|skip| id_of(words[skip..].iter().copied()).as_bytes() == id)
}

/// The identity of a command line.
pub(super) fn command_id(argv: &[String]) -> String {
    id_of(argv.iter().map(String::as_bytes))
}

fn id_of<'a>(words: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update((word.len() as u64).to_be_bytes());
        hash.update(word);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
