//! A real PostgreSQL, a real Redis, and a bot that writes an SQLite database; each in a temporary folder.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::process::{Process, free_port, tool};
use super::wait::wait_for;

/// A PostgreSQL on loopback and on a socket, run by the user `postgres`, with a role `bot` and a database `trades`.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
}

/// The password of the role `bot`.
pub(crate) const PASSWORD: &str = "postgres-canary-password";

impl Postgres {
    /// Makes and starts one; `settings` are of the form `name=value`.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).expect("a folder can be opened");
        std::fs::write(dir.path().join("superuser"), PASSWORD).expect("a file can be written");
        let data = dir.path().join("data");
        let mut initdb = as_postgres(&program("initdb"));
        initdb.arg("-D").arg(&data).args(["-U", "bot", "-A", "scram-sha-256", "--no-sync", "--no-instructions"]);
        run(initdb.arg("--pwfile").arg(dir.path().join("superuser")));
        let arguments = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut postgres = Self { dir, port: free_port(), arguments, process: None };
        postgres.resume();
        postgres.sql("postgres", "CREATE DATABASE trades");
        postgres
    }

    /// Starts it again.
    pub(crate) fn resume(&mut self) {
        let mut command = as_postgres(&program("postgres"));
        command.arg("-D").arg(self.dir.path().join("data")).arg("-k").arg(self.dir.path());
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-F"]);
        for setting in &self.arguments {
            command.args(["-c", setting]);
        }
        self.process = Some(Process::start("postgres", &mut command, &self.dir.path().join("log")));
        wait_for("PostgreSQL to take queries", || self.try_sql("postgres", "SELECT 1"));
    }

    /// Its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, in which its socket is.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// What psql prints of a statement.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        self.try_sql(database, statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    fn try_sql(&self, database: &str, statement: &str) -> Result<String, String> {
        let mut psql = Command::new(tool("psql"));
        psql.args([
            "-h",
            "127.0.0.1",
            "-U",
            "bot",
            "-At",
            "-d",
            database,
            "-c",
            statement,
            "-p",
            &self.port.to_string(),
        ]);
        let out = psql.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "5").output().expect("psql runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
    }

    /// Sends a signal to the server and every process of it.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it was started");
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        let children = std::fs::read_to_string(children).expect("the kernel lists children");
        process.signal(signal);
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            // One of them may have ended meanwhile.
            let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a pid"), signal);
        }
    }

    /// Ends it at once, connections or not, as an operator would (SIGQUIT); its children end with it.
    pub(crate) fn stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::QUIT);
            wait_for("PostgreSQL to end", || process.ended().ok_or("it runs"));
        }
        self.process = None;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its workers notice the end of their parent only while they run.
        if self.process.as_mut().is_some_and(|process| process.ended().is_none()) {
            self.signal_all(Signal::CONT);
            self.process.as_ref().expect("it runs").signal(Signal::QUIT);
            for _ in 0..100 {
                if self.process.as_mut().is_some_and(|process| process.ended().is_some()) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

/// A program of PostgreSQL's, which Debian keeps out of the path.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.is_file());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("`{name}` is missing: apt-get install -y --no-install-recommends postgresql"))
}

/// PostgreSQL refuses to be run by root.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new(tool("setpriv"));
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
    } else {
        command.arg("--");
    }
    command.arg(program).current_dir("/").env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A Redis on loopback.
pub(crate) struct Redis {
    dir: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Redis {
    /// Starts one with further arguments, such as `--requirepass`.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let mut redis = Self { dir, port: free_port(), arguments, process: None };
        redis.resume();
        redis
    }

    /// Starts it again, or makes it go on.
    pub(crate) fn resume(&mut self) {
        let mut command = Command::new(tool("redis-server"));
        command.current_dir(self.dir.path()).args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]).args(&self.arguments);
        self.process = Some(Process::start("redis", &mut command, &self.dir.path().join("log")));
        wait_for("Redis to listen", || std::net::TcpStream::connect(("127.0.0.1", self.listens())).map(drop));
    }

    /// With `--port 0` it listens for TLS alone.
    fn listens(&self) -> u16 {
        let tls = self.arguments.iter().position(|argument| argument == "--tls-port");
        tls.map_or(self.port, |at| self.arguments[at + 1].parse().expect("a port"))
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it was started").signal(signal);
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) {
        self.process = None;
    }
}
