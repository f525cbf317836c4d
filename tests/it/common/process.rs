//! A child process that ends with its owner.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{show_on_failure, wait_for_within};

/// A running child whose output goes to a log file. Dropped, it is killed and reaped.
pub(crate) struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = File::options().create(true).append(true).open(log).expect("the log of a child can be written");
        let err = out.try_clone().expect("a file can be shared");
        show_on_failure(log);
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        Self { name: name.to_owned(), child: child.unwrap_or_else(|error| panic!("{name} does not start: {error}")) }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked")
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a child has a process id");
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{} cannot be signalled: {error}", self.name));
    }

    /// SIGKILL, and reaped.
    pub(crate) fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and how it ended; killed if it does not end within 20 s.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        if self.ended().is_none() {
            self.signal(Signal::TERM);
        }
        let what = format!("{} to end after SIGTERM", self.name);
        wait_for_within(&what, Duration::from_secs(20), || self.ended().ok_or("still running"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// The path of a tool; panics with what to install if it is missing.
pub(crate) fn tool(name: &str) -> PathBuf {
    let package = match name {
        "prometheus" | "promtool" => "prometheus",
        "prometheus-alertmanager" | "amtool" => "prometheus-alertmanager",
        "mount" | "umount" => "mount",
        "mkfifo" => "coreutils",
        "openssl" => "openssl",
        "busybox" => "busybox-static",
        "setsid" | "setpriv" => "util-linux",
        "psql" => "postgresql",
        "chgrp" => "coreutils",
        "systemd" | "systemctl" | "busctl" => "systemd",
        "dbus-daemon" => "dbus",
        "dnsmasq" => "dnsmasq-base",
        "python3" => "python3 python3-venv",
        other => other,
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("`{name}` is missing: apt-get install -y --no-install-recommends {package}"))
}

/// A port that was free a moment ago, for programs that cannot take port 0.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
