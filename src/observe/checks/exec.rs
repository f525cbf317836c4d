//! `exec`: what does a Nagios plugin say?
#![expect(clippy::disallowed_methods, reason = "plugins are programs; this is the one place where checks start them")]

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::model::Status;
use crate::observe::params;
use crate::observe::probes::perfdata;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Exec::KIND, doc: DOC, build };

/// How much output is kept; the rest is read and dropped, so that the plugin does not wait for us.
const MAX_OUTPUT: u64 = 64 * 1024;

/// A plugin that prints more than this prints for ever.
const ENDLESS: u64 = 16 * 1024 * 1024;

/// How long output may still come after the plugin ended, from children that inherited its pipes.
const AFTER_EXIT: Duration = Duration::from_millis(100);

const DOC: &str = "\
# What it asks
What a program answers in the convention of Nagios plugins: exit code 0 is healthy, 1 degraded, 2 critical, 3 unknown;
the first line of output is the message; performance data after `|` becomes metrics, in seconds, bytes and ratios.

# Why it matters
Thousands of such plugins exist, and any script can be one.

# Failure reasons
- `degraded`, `critical`: the program said so.
- `unknown`, and not run: exit code 3 or any other, killed by a signal, cannot be started, more than 16 MiB of output, or
  still running after `timeout`. `error` says which.

At the end of a reading, however it ends, what is left of the program's process group is killed; only what gave itself a
session of its own lives on.

# Parameters
- `argv`: the program, as an absolute path, and its arguments. There is no shell.
- `timeout` (10s): the time it may take.
- `env` (none): a mapping of environment variables; otherwise it gets `PATH=/usr/bin:/bin` alone.
- `cwd` (the workspace): the folder it starts in.
";

/// One program and how to run it.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Absolute path of the program, and its arguments.
    pub argv: Vec<String>,
    /// The time it may take.
    pub timeout: Duration,
    /// Environment besides `PATH`.
    pub env: Vec<(String, String)>,
    /// The folder it starts in.
    pub cwd: PathBuf,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// By itself.
    Exited {
        /// Its exit status.
        status: ExitStatus,
        /// The start of what it wrote to its output.
        output: String,
        /// The start of what it wrote to its error output.
        complaint: String,
    },
    /// It could not be started, or was killed by us.
    Not(String),
}

/// Kills the process group of a plugin that is given up, also when the check itself is dropped.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Exec {
    async fn run(&self) -> Result<Ended, std::io::Error> {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.cwd)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        // Declared after the child, so dropped before it: the group is killed while its leader cannot have been reaped.
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let mut stdout = child.stdout.take().expect("the output is piped");
        let mut stderr = child.stderr.take().expect("the error output is piped");
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may swap their descriptor; this owns one"
        )]
        let leader = group.0.and_then(|pid| AsyncFd::new(pidfd_open(pid, PidfdFlags::empty()).ok()?).ok());
        {
            let mut reading = std::pin::pin!(async {
                tokio::try_join!(keep_start(&mut stdout, &mut output), keep_start(&mut stderr, &mut complaint))
            });
            let mut done = false;
            // The end is seen and not taken note of yet, so that the group's number stays the group's.
            let mut ended = std::pin::pin!(async {
                match &leader {
                    Some(leader) => leader.readable().await.map(drop),
                    // Without a descriptor (an old kernel, too many open files) the end of the output has to do.
                    None => std::future::pending().await,
                }
            });
            loop {
                tokio::select! {
                    read = &mut reading, if !done => {
                        if read.is_err() {
                            let error = format!("{}: more than {ENDLESS} bytes of output, killed", self.argv[0]);
                            return Ok(Ended::Not(error));
                        }
                        done = true;
                        if leader.is_none() {
                            break;
                        }
                    }
                    ended = &mut ended => {
                        ended?;
                        break;
                    }
                }
            }
            if !done {
                let _ = timeout(AFTER_EXIT, reading).await;
            }
        }
        if leader.is_some() {
            drop(group);
        }
        let status = child.wait().await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended::Exited { status, output: text(output), complaint: text(complaint) })
    }
}

/// Output without an end.
struct Endless;

/// Reads to the end and keeps the first [`MAX_OUTPUT`] bytes; an error if there is no end to it.
async fn keep_start(from: &mut (impl AsyncRead + Unpin), kept: &mut Vec<u8>) -> Result<(), Endless> {
    let (mut buffer, mut total) = ([0; 4096], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        total += read as u64;
        if total > ENDLESS {
            return Err(Endless);
        }
        let room = usize::try_from(MAX_OUTPUT).unwrap_or(usize::MAX).saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    Ok(())
}

impl Check for Exec {
    type Reading = Ended;
    const KIND: &'static str = "exec";

    async fn read(&self) -> Self::Reading {
        match timeout(self.timeout, self.run()).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Ended::Not(format!("{}: {error}", self.argv[0])),
            Err(_) => Ended::Not(format!("{}: no answer within {:?}, killed", self.argv[0], self.timeout)),
        }
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let (status, output, complaint) = match reading {
            Ended::Exited { status, output, complaint } => (status, output, complaint),
            Ended::Not(error) => return Judgement::unrunnable(error.as_str()),
        };
        let said = perfdata::parse(output);
        let message = if said.message.is_empty() { perfdata::first_line(complaint) } else { said.message };
        let mut judgement = match status.code() {
            Some(0) => Judgement::new(Status::Healthy),
            Some(1) => Judgement::new(Status::Degraded),
            Some(2) => Judgement::new(Status::Critical),
            Some(3) => Judgement::unrunnable(format!("{}: it says unknown: {message}", self.argv[0])),
            Some(code) => Judgement::unrunnable(format!("{}: exit code {code}, expected 0 to 3", self.argv[0])),
            None => {
                let signal = status.signal().unwrap_or_default();
                Judgement::unrunnable(format!("{}: ended by signal {signal}", self.argv[0]))
            }
        };
        if let Some(code) = status.code() {
            judgement = judgement.with("exit_code", code);
        }
        judgement.perfdata = said.perfdata;
        judgement.with("message", message)
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let argv = params::texts(section, "argv");
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(10));
    let mut env = Vec::new();
    for (name, at, node) in section.entries("env") {
        match params::scalar(node) {
            Some(value) if !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0') => {
                env.push((name.clone(), value.to_owned()));
            }
            _ => {
                let path = format!("{}.{name}", section.path_of("env"));
                section.problems().push(*at, &path, "", "expected a variable's name and a text", None);
            }
        }
    }
    let cwd = params::text(section, "cwd").map_or_else(|| context.workspace.clone(), |cwd| context.workspace.join(cwd));
    match argv.first() {
        None => section.reject("argv", "expected a list of the program and its arguments", None),
        Some(program) if !program.starts_with('/') => {
            let hint = Some("there is no shell and no search along PATH".to_owned());
            section.reject("argv", "expected an absolute path as its first item", hint);
        }
        Some(_) if argv.iter().any(|argument| argument.contains('\0')) => {
            section.reject("argv", "expected texts without NUL characters", None);
        }
        Some(_) => return Some(Arc::new(Exec { argv, timeout, env, cwd })),
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::checks::testing::NOW;

    fn exec(script: &str) -> Exec {
        Exec {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
            timeout: Duration::from_secs(20),
            env: vec![("GREETING".to_owned(), "hello".to_owned())],
            cwd: "/".into(),
        }
    }

    async fn run(script: &str) -> Judgement {
        let check = exec(script);
        Check::judge(&check, &Check::read(&check).await, NOW)
    }

    /// OBS-7: the exit codes of Nagios plugins, and every other way to end.
    #[tokio::test]
    async fn every_way_to_end() {
        for (script, status, unrunnable, error) in [
            ("echo fine", Status::Healthy, false, ""),
            ("exit 1", Status::Degraded, false, ""),
            ("exit 2", Status::Critical, false, ""),
            ("echo lost; exit 3", Status::Unknown, true, "/bin/sh: it says unknown: lost"),
            ("exit 4", Status::Unknown, true, "/bin/sh: exit code 4, expected 0 to 3"),
            ("kill -9 $$", Status::Unknown, true, "/bin/sh: ended by signal 9"),
        ] {
            let judgement = run(script).await;
            assert_eq!((judgement.status, judgement.unrunnable), (status, unrunnable), "{script}");
            assert_eq!(judgement.details.get("error").map_or("", |error| error.as_str().unwrap()), error, "{script}");
        }
        let missing = Exec { argv: vec!["/nonexistent/plugin".to_owned()], ..exec("") };
        let judgement = Check::judge(&missing, &Check::read(&missing).await, NOW);
        assert!(judgement.unrunnable);
        assert!(judgement.details["error"].as_str().unwrap().starts_with("/nonexistent/plugin: No such file"));
    }

    #[tokio::test]
    async fn message_perfdata_and_a_bare_environment() {
        let judgement = run("echo \"$GREETING $PATH $HOME|load=50%;80;90 time=250ms\"; echo more >&2").await;
        assert_eq!(judgement.details["message"], "hello /usr/bin:/bin");
        let numbers: Vec<_> = judgement.perfdata.iter().map(|data| (&*data.label, data.value, &*data.unit)).collect();
        assert_eq!(numbers, [("load", 0.5, "ratio"), ("time", 0.25, "seconds")]);
        assert_eq!(run("echo broken >&2; exit 2").await.details["message"], "broken");
    }

    #[tokio::test]
    async fn endless_output_neither_fills_memory_nor_blocks_the_plugin() {
        let check = exec("head -c 1000000 /dev/zero | tr '\\0' x; exit 1");
        let Ended::Exited { status, output, .. } = Check::read(&check).await else { panic!("it ends") };
        assert_eq!((status.code(), output.len()), (Some(1), 65_536));
    }

    /// OBS-5: at the timeout the whole process group dies, grandchildren too, and so it does when the check is dropped.
    #[tokio::test]
    async fn the_group_is_killed_at_the_timeout() {
        let folder = tempfile::tempdir().unwrap();
        let alive = folder.path().join("alive");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &alive,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // The grandchild holds the FIFO open for writing; its reader sees the end when the last holder is dead.
        let script = format!("exec 3>{}; echo x >&3; sleep 1000 & wait", alive.display());
        let check = Exec { timeout: Duration::from_millis(300), ..exec(&script) };
        let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&alive).unwrap();
        let mut seen = Vec::new();
        let wait_for_end = async {
            reader.readable().await.unwrap();
            reader.read_to_end(&mut seen).await.unwrap();
        };
        let (ended, ()) = tokio::join!(Check::read(&check), wait_for_end);
        let Ended::Not(error) = ended else { panic!("it was killed") };
        assert_eq!(error, "/bin/sh: no answer within 300ms, killed");
    }

    /// OBS-7: a child that keeps the pipes holds nothing back, and is gone once the answer is there.
    #[tokio::test]
    async fn a_child_left_behind_does_not_hold_the_answer_back() {
        let judgement = run("trap '' TERM; sleep 86415.5 & echo $!").await;
        assert_eq!(judgement.status, Status::Healthy);
        let child = judgement.details["message"].as_str().unwrap().parse().unwrap();
        let is_over = || match crate::observe::probes::process::process(std::path::Path::new("/proc"), child) {
            Ok(Some(found)) => found.state == 'Z' || !found.command.contains("sleep"),
            _ => true,
        };
        let until = tokio::time::Instant::now() + Duration::from_secs(10);
        while !is_over() && tokio::time::Instant::now() < until {
            tokio::task::yield_now().await;
        }
        assert!(is_over(), "process {child} lives on");
    }

    /// SPEC 15: output without an end is ended, long before the timeout.
    #[tokio::test]
    async fn output_without_an_end_is_ended() {
        for script in ["yes", "yes >&2"] {
            let judgement = run(script).await;
            assert!(judgement.unrunnable);
            assert_eq!(judgement.details["error"], "/bin/sh: more than 16777216 bytes of output, killed");
        }
    }
}
