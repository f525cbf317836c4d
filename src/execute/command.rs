//! Runs one command to its end: spawn, bounded output, timeout with its whole process group.
//!
//! Where it sits: below the actuators, which decide what an exit code means.
//! **Invariant:** the end is the exit of the process, never the closing of its pipes; a process group is ended only at
//! the deadline, and then to the end, whoever still waits for it; a command whose spawning has failed has provably not
//! begun, and none begins after its deadline.
#![expect(clippy::disallowed_methods, reason = "spawns commands")]

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::begin::{self, Begun};
use crate::base::procfs;
use crate::base::redact;

/// How much of the end of the output is kept.
pub(super) const OUTPUT_BYTES_MAX: usize = 4096;

/// How much more is read before secrets are removed: one of at most this size, cut in two where the kept end begins, is
/// still known as a whole.
const SECRET_BYTES_MAX: usize = 8192;

/// Between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long a process may take to vanish after SIGKILL; longer means that the kernel holds it.
const KILL_GRACE: Duration = Duration::from_secs(1);

/// After the exit at most this much more is read: a pipe's largest size by default, so that all the command itself
/// wrote is seen, and a daemon that goes on writing cannot hold us.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// A command, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// The program, absolute, and its arguments.
    pub(super) argv: Vec<String>,
    /// The whole environment.
    pub(super) env: Vec<(String, String)>,
    /// The working directory.
    pub(super) cwd: PathBuf,
    /// The ids of the user and the group to run as; chiron's own by default. Only root may.
    pub(super) ids: Option<(u32, u32)>,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It provably never began; why.
    NotStarted(String),
    /// Whether it began is not known; why.
    Lost(String),
    /// By itself.
    Exited(ExitStatus),
    /// By us, after the deadline; what it took.
    TimedOut(&'static str),
    /// Its start has not come back by the deadline; if it still does, the command is ended at once.
    Hangs,
}

/// Runs a command until `deadline`, then ends its process group. Gives the end of stdout and stderr, interleaved.
///
/// Dropping the future before the deadline leaves the command running: chiron may stop while a command of its own goes on.
/// After the deadline the command is ended and reaped whether the future is dropped or not.
pub(super) async fn run(line: &Line, deadline: Instant) -> (End, String) {
    let mut tail = Tail::default();
    let (child, mut pipe) = match spawn(line, deadline).await {
        Ok(begun) => begun,
        Err(end) => return (end, String::new()),
    };
    let mut leader = Leader::new(child);
    let in_time = timeout_at(deadline, copy_until(leader.exited(), &mut pipe, &mut tail)).await.is_ok();
    let end = if in_time {
        match leader.child.try_wait() {
            Ok(Some(status)) => End::Exited(status),
            other => End::Lost(format!("its exit status cannot be read: {other:?}")),
        }
    } else {
        let (told, ended) = oneshot::channel();
        tokio::spawn(async move { leader.end(told).await });
        let mut how = "SIGKILL";
        copy_until(async { how = ended.await.unwrap_or(how) }, &mut pipe, &mut tail).await;
        End::TimedOut(how)
    };
    drain(pipe, &mut tail);
    (end, tail.into_string())
}

/// Starts the command, if that is not too late. `posix_spawn` does it as long as nothing but a group and a directory is
/// asked for, so the cost does not grow with our memory; another user needs a `fork`, and gets no supplementary groups.
/// On a blocking thread, because a file system that hangs would stop a worker.
async fn spawn(line: &Line, deadline: Instant) -> Result<(Child, Receiver), End> {
    let prepare = || -> std::io::Result<_> {
        let (reader, writer) = std::io::pipe()?;
        let receiver = Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok((receiver, writer.try_clone()?, writer))
    };
    let (receiver, stdout, stderr) =
        prepare().map_err(|error| End::NotStarted(format!("no pipe for its output: {error}")))?;
    let line = line.clone();
    let spawned = begin::before(deadline, move || {
        let (program, arguments) = line.argv.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let mut command = std::process::Command::new(program);
        if let Some((uid, gid)) = line.ids {
            command.uid(uid).gid(gid);
        }
        command
            .args(arguments)
            .env_clear()
            .envs(line.env)
            .current_dir(line.cwd)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
    });
    match spawned.await {
        Begun::Done(Ok(child)) => Ok((child, receiver)),
        Begun::Done(Err(error)) => Err(End::NotStarted(error.to_string())),
        Begun::Not(why) => Err(End::NotStarted(why)),
        Begun::Broken(why) => Err(End::Lost(why)),
        Begun::Hangs(start) => {
            tokio::spawn(async move {
                if let Ok(Some(Ok(child))) = start.await {
                    Leader::new(child).end(oneshot::channel().0).await;
                }
            });
            Err(End::Hangs)
        }
    }
}

/// The process that leads the group. It stays unreaped until the group has been dealt with, so that its pid, which is
/// the group's id too, cannot pass to a stranger meanwhile.
struct Leader {
    child: Child,
    pid: Pid,
    pidfd: Option<AsyncFd<OwnedFd>>,
}

impl Leader {
    fn new(child: Child) -> Self {
        let pid = Pid::from_child(&child);
        // Without a descriptor (an old kernel, too many open files) the exit is polled for.
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may swap their descriptor; this owns one"
        )]
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok().and_then(|fd| AsyncFd::new(fd).ok());
        Self { child, pid, pidfd }
    }

    /// Ends its group, tells what it took, and reaps it, however long that takes.
    async fn end(mut self, told: oneshot::Sender<&'static str>) {
        let how = end_group(self.pid).await;
        let gone = matches!(self.child.try_wait(), Ok(Some(_)));
        // Whoever asked may have left.
        let _ = told.send(how);
        if !gone {
            self.exited().await;
            let _ = self.child.try_wait();
        }
    }

    /// Ends with the exit of the process; does not reap it.
    async fn exited(&self) {
        if let Some(pidfd) = &self.pidfd
            && pidfd.readable().await.is_ok()
        {
            return;
        }
        wait_by_polling(self.pid).await;
    }
}

/// Ends with the exit of a child; does not reap it.
async fn wait_by_polling(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    while let Ok(None) = rustix::process::waitid(WaitId::Pid(pid), options) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads on until `done`, so that nothing ever blocks on a full pipe.
async fn copy_until(done: impl Future<Output = ()>, pipe: &mut Receiver, tail: &mut Tail) {
    let mut done = std::pin::pin!(done);
    let mut buffer = [0; 8192];
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            () = &mut done => return,
            read = pipe.read(&mut buffer), if open => match read {
                Ok(count) if count > 0 => tail.push(&buffer[..count]),
                _ => open = false,
            },
        }
    }
}

/// Takes what is in the pipe now and closes it; waits for nothing.
fn drain(pipe: Receiver, tail: &mut Tail) {
    let Ok(fd) = pipe.into_nonblocking_fd() else { return };
    let mut pipe = std::fs::File::from(fd);
    let mut buffer = [0; 8192];
    let mut left = DRAIN_BYTES_MAX;
    while left > 0 {
        match pipe.read(&mut buffer) {
            Ok(count) if count > 0 => {
                tail.push(&buffer[..count]);
                left = left.saturating_sub(count);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// SIGTERM, a grace, SIGKILL to every process of the group; says what was needed. The group's leader must be our
/// unreaped child, or known by its start time to be the same process.
pub(super) async fn end_group(group: Pid) -> &'static str {
    let _ = rustix::process::kill_process_group(group, Signal::TERM);
    // What is stopped gets the chance too.
    let _ = rustix::process::kill_process_group(group, Signal::CONT);
    let polite = gone_within(group, TERM_GRACE).await;
    // Also when none is left to be seen: one that was born while we looked must not stay.
    let _ = rustix::process::kill_process_group(group, Signal::KILL);
    if polite {
        "SIGTERM"
    } else if gone_within(group, KILL_GRACE).await {
        "SIGKILL"
    } else {
        "SIGKILL, which a process has not obeyed yet"
    }
}

/// Whether no member of the group runs any more, looked at until `limit`.
async fn gone_within(group: Pid, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(5);
    loop {
        let number = group.as_raw_nonzero().get();
        // With every thread taken that may wait it cannot be looked at, and must be ended all the same.
        let look = tokio::task::spawn_blocking(move || procfs::group_lives(number));
        if let Ok(Ok(false)) = timeout_at(deadline, look).await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(80));
    }
}

/// The last [`OUTPUT_BYTES_MAX`] bytes of a stream, and some before them.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    const BYTES_MAX: usize = OUTPUT_BYTES_MAX + SECRET_BYTES_MAX;

    fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(Self::BYTES_MAX)..];
        let excess = (self.0.len() + bytes.len()).saturating_sub(Self::BYTES_MAX);
        self.0.drain(..excess);
        self.0.extend_from_slice(bytes);
    }

    /// As valid UTF-8 of at most [`OUTPUT_BYTES_MAX`] bytes, without secrets. They go first: one that the cut tears would
    /// be known no longer.
    fn into_string(self) -> String {
        // A replacement character is longer than the byte it stands for.
        let text = String::from_utf8_lossy(&self.0);
        let end = |text: &str| text.ceil_char_boundary(text.len().saturating_sub(OUTPUT_BYTES_MAX));
        let shown = redact::from(&text, end(&text));
        // What stands in the place of a secret may be longer than it.
        shown[end(&shown)..].to_owned()
    }
}

/// `exit code 3`, `killed by SIGSEGV`.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by {}", signal_name(signal)),
        (None, None) => format!("ended as {status}"),
    }
}

/// The name of a Linux signal, or its number.
fn signal_name(signal: i32) -> String {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    let index = usize::try_from(signal - 1).ok();
    index.and_then(|index| NAMES.get(index)).map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}

#[cfg(test)]
mod tests;
