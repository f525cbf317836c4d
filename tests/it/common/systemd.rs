//! A real systemd user manager of the test's own, with a real message bus.
//!
//! **Invariant:** its units live in a folder and a control group of their own, so that managers of other tests never
//! meet them; it and everything that it started are killed by their ids when it is dropped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::process::{Process, tool};
use super::wait::wait_for;

/// A private `systemd --user`. Units have the names they are given; nothing else of the host's units is known to it.
pub(crate) struct Systemd {
    dir: TempDir,
    slice: String,
    manager: Process,
}

impl Systemd {
    /// Starts the manager and waits until it answers on its bus. The host need not be run by systemd.
    pub(crate) fn start() -> Self {
        // Its presence is what systemd's programs take for a running systemd.
        std::fs::create_dir_all("/run/systemd/system").expect("the folder `/run/systemd/system` can be made");
        let dir = tempfile::Builder::new().prefix("sd").tempdir().expect("a temporary folder can be made");
        let slice =
            format!("chirontest{}", dir.path().file_name().map_or_else(String::new, |n| n.to_string_lossy().into()));
        let slice = format!("{}.slice", slice.replace(|c: char| !c.is_ascii_alphanumeric(), "x"));
        let daemon = tool("dbus-daemon");
        for (name, text) in [
            ("default.target", "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=dbus.service\n".to_owned()),
            ("basic.target", "[Unit]\nDescription=Basic\n".to_owned()),
            ("shutdown.target", "[Unit]\nDefaultDependencies=no\n".to_owned()),
            (slice.as_str(), "[Unit]\nDefaultDependencies=no\n".to_owned()),
            ("dbus.socket", "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=%t/bus\n".to_owned()),
            (
                "dbus.service",
                format!(
                    "[Unit]\nDefaultDependencies=no\nRequires=dbus.socket\n[Service]\nType=notify\nNotifyAccess=main\n\
                     ExecStart={} --session --address=systemd: --nofork --nopidfile --systemd-activation\n",
                    daemon.display()
                ),
            ),
            ("service.d/slice.conf", format!("[Service]\nSlice={slice}\n")),
        ] {
            write(&dir.path().join("units").join(name), &text);
        }
        let mut command = Command::new(tool("systemd"));
        command.args(["--user", "--log-target=console", "--log-level=info"]);
        environment(&mut command, dir.path());
        let manager = Process::start("systemd --user", &mut command, &dir.path().join("manager.log"));
        let systemd = Self { dir, slice, manager };
        let asked = ["call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner"];
        wait_for("the manager to answer on its bus", || {
            let said = systemd.run("busctl", &[&asked[..], &["s", "org.freedesktop.systemd1"]].concat());
            if said.as_deref().map(str::trim) == Ok("b true") { Ok(()) } else { Err(said) }
        });
        systemd
    }

    /// The address of its bus, for `bus:`.
    pub(crate) fn bus(&self) -> String {
        format!("unix:path={}", self.runtime_dir().join("bus").display())
    }

    /// Its `XDG_RUNTIME_DIR`, for whoever asks for the `user` bus.
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// A folder for what a test's units write.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a unit's file, or another text for one that is there, and has the manager read it.
    pub(crate) fn unit(&self, name: &str, text: &str) {
        write(&self.dir.path().join("units").join(name), text);
        self.ctl(&["daemon-reload"]);
    }

    /// Masks a unit.
    pub(crate) fn mask(&self, name: &str) {
        let path = self.dir.path().join("units").join(name);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/null", path).expect("a link can be made");
        self.ctl(&["daemon-reload"]);
    }

    /// Writes a service that counts its starts, one invocation id a line, then is `command`; starts nothing.
    /// `more` are further lines of its section `[Service]`.
    pub(crate) fn counted(&self, name: &str, command: &str, more: &str) {
        let log = self.starts_log(name);
        let text = format!(
            "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=simple\nExecStart=/bin/sh -c 'echo $$INVOCATION_ID >> {}; exec {command}'\n{more}\n",
            log.display()
        );
        self.unit(name, &text);
    }

    /// The invocations of a counted service, as it wrote them itself at each of its starts.
    pub(crate) fn starts(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.starts_log(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn starts_log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.starts"))
    }

    /// `systemctl --user ARGUMENTS` that must succeed.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|said| panic!("systemctl --user {}: {said}", arguments.join(" ")))
    }

    /// `systemctl --user ARGUMENTS`: what it printed, or why it failed.
    pub(crate) fn try_ctl(&self, arguments: &[&str]) -> Result<String, String> {
        self.run("systemctl", &[&["--no-pager", "--no-ask-password"], arguments].concat())
    }

    /// A property of a unit, as `systemctl show` has it.
    pub(crate) fn show(&self, unit: &str, property: &str) -> String {
        self.ctl(&["show", unit, "--value", &format!("--property={property}")]).trim().to_owned()
    }

    /// The main process of a service; 0 if it has none.
    pub(crate) fn main_pid(&self, unit: &str) -> u32 {
        self.show(unit, "MainPID").parse().expect("a main process is a number")
    }

    /// The manager's own process, to be stopped or killed by a test.
    pub(crate) fn manager(&mut self) -> &mut Process {
        &mut self.manager
    }

    /// Every process below the manager now; for a test that kills the manager itself.
    pub(crate) fn processes(&self) -> Below {
        Below(descendants(self.manager.pid()))
    }

    /// A program of systemd's, asked for this manager.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(tool(program));
        command.arg("--user").args(arguments);
        environment(&mut command, self.dir.path());
        let output = command.output().map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{}: {}", output.status, text(&output.stderr)))
        }
    }
}

/// Processes that a manager started.
pub(crate) struct Below(BTreeSet<u32>);

impl Below {
    /// Kills them; only once their manager is gone, which would start some again.
    pub(crate) fn end(self) {
        for pid in self.0.into_iter().filter_map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw)) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // The manager first: it would kill what shares a control group, or start again what is killed.
        let below = self.processes();
        self.manager.kill9();
        below.end();
        // Empty control groups stay behind a killed manager; one that still holds a process refuses to go.
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let groups = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).map(|folder| folder.join(&self.slice));
        let mut left: Vec<_> = groups.filter(|group| group.is_dir()).collect();
        let begun = Instant::now();
        while !left.is_empty() && begun.elapsed() < Duration::from_secs(2) {
            left.iter().for_each(|group| remove_groups(group));
            left.retain(|group| group.is_dir());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The environment of the manager and of whoever asks it: nothing of the user's own session.
fn environment(command: &mut Command, dir: &Path) {
    let run = dir.join("run");
    if !run.is_dir() {
        std::fs::create_dir_all(&run).expect("a folder can be made");
    }
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", dir)
        .env("XDG_RUNTIME_DIR", &run)
        .env("XDG_CONFIG_HOME", dir.join("config"))
        .env("XDG_DATA_HOME", dir.join("data"))
        .env("SYSTEMD_UNIT_PATH", dir.join("units"))
        .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", run.join("bus").display()));
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a unit's file is in a folder")).expect("a folder can be made");
    std::fs::write(path, text).expect("a unit's file can be written");
}

fn remove_groups(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// Every process below that one; what a service leaves behind comes back to its manager.
fn descendants(of: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = BTreeSet::new();
    let mut left = vec![of];
    while let Some(parent) = left.pop() {
        left.extend(parents.iter().filter(|(pid, above)| *above == parent && found.insert(*pid)).map(|(pid, _)| pid));
    }
    found
}
