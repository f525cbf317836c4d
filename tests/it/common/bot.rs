//! The simulated bot as a process that can be killed and started again by an action.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::chiron::BINARY;
use super::config::script;
use super::process::{Process, tool};
use super::wait::wait_for;

/// A running bot. Dropped, it is killed, and so is whoever took over its pid file.
pub(crate) struct Bot {
    dir: PathBuf,
    process: Process,
}

impl Bot {
    /// Starts a bot with its workspace in `dir` and waits for its pid file, `state/bot.pid`.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments(dir));
        let log = dir.join("bot-process.log");
        let bot = Self { dir: dir.to_path_buf(), process: Process::start("bot", &mut command, &log) };
        let own = bot.process.pid();
        wait_for("the bot's pid file", || match pid_of(dir) {
            Some(pid) if pid == own => Ok(()),
            other => Err(other),
        });
        bot
    }

    /// The process id of the bot started first.
    pub(crate) fn first_pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGKILL to the bot started first.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// `HOST:PORT` that the bot of this workspace listens on.
    pub(crate) fn address(&self) -> String {
        std::fs::read_to_string(self.dir.join("state/bot.address")).expect("the bot tells its address")
    }

    /// The lines of its effects log: one per start, whoever started it.
    pub(crate) fn starts(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.join("effects.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.process.kill9();
        let Some(pid) = pid_of(&self.dir) else { return };
        // Only a process that was started for this very workspace: a pid may have been given to another meanwhile.
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&line).contains(&*self.dir.to_string_lossy());
        if ours && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The pid in the pid file of the bot in `dir`.
pub(crate) fn pid_of(dir: &Path) -> Option<u32> {
    std::fs::read_to_string(dir.join("state/bot.pid")).ok()?.trim().parse().ok()
}

/// Whether a process of that id runs (a zombie does not).
pub(crate) fn pid_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Writes the script that starts the bot of `dir` as a daemon; it leaves its output open on purpose (ACT-2).
pub(crate) fn restart_script(dir: &Path) -> PathBuf {
    let quoted: Vec<String> = arguments(dir).into_iter().map(|argument| format!("'{argument}'")).collect();
    let body = format!("'{}' '{BINARY}' {} &\nexit 0", tool("setsid").display(), quoted.join(" "));
    script(&dir.join("restart-bot.sh"), &body)
}

fn arguments(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).display().to_string();
    ["demo", "bot", "--interval", "200ms", "--workspace"]
        .into_iter()
        .map(str::to_owned)
        .chain([dir.display().to_string(), "--pid-file".to_owned(), path("state/bot.pid")])
        .chain(["--effects-log".to_owned(), path("effects.log")])
        .chain(["--policy-file".to_owned(), path("data/safety_policy.json")])
        .collect()
}
