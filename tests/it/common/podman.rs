//! A container engine of a test's own: podman with folders of its own, which serves the Docker API on a socket of its own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::process::{Process, tool};
use super::wait::wait_for;

/// The image that every container is made of: busybox and nothing else.
const IMAGE: &str = "localhost/busybox:1";

/// A running engine. Dropped, its service is killed, its containers are removed by name, and its folders go.
pub(crate) struct Podman {
    dir: tempfile::TempDir,
    service: Option<Process>,
    names: RefCell<Vec<String>>,
}

/// What the engine says of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerState {
    /// Another one after the container was made anew under the same name.
    pub(crate) id: String,
    /// The main process; 0 if none runs.
    pub(crate) pid: u64,
    /// When it was started last.
    pub(crate) started_at: String,
    /// Whether it runs.
    pub(crate) running: bool,
}

impl Podman {
    /// Starts an engine with the image in it.
    pub(crate) fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("chiron-podman-").tempdir().expect("a temporary folder can be made");
        let mut podman = Self { dir, service: None, names: RefCell::default() };
        podman.import_image();
        podman.start_service();
        podman
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// The socket as a binding names it.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Runs a container that writes its [`Podman::beat`] at each start and ends at once when it is told to stop.
    pub(crate) fn run(&self, name: &str) -> ContainerState {
        self.run_script(name, &format!("trap 'exit 0' TERM; : > /shared/{name}; sleep 100000 & wait"))
    }

    /// The same, but it takes no notice of being told to stop.
    pub(crate) fn run_stubborn(&self, name: &str) -> ContainerState {
        self.run_script(name, &format!("trap '' TERM; : > /shared/{name}; while :; do sleep 1; done"))
    }

    /// The file, outside, that a container writes when it is started.
    pub(crate) fn beat(&self, name: &str) -> PathBuf {
        self.dir.path().join("shared").join(name)
    }

    /// Removes the file, so that only another start brings it back.
    pub(crate) fn break_beat(&self, name: &str) {
        wait_for("the container's file", || std::fs::remove_file(self.beat(name)));
    }

    /// Runs a container whose main process is a shell with this script.
    pub(crate) fn run_script(&self, name: &str, script: &str) -> ContainerState {
        self.run_with(name, &[], script)
    }

    /// The same with further options of `podman run`.
    pub(crate) fn run_with(&self, name: &str, options: &[&str], script: &str) -> ContainerState {
        self.names.borrow_mut().push(name.to_owned());
        let volume = format!("--volume={}:/shared", self.dir.path().join("shared").display());
        let first = ["run", "--detach", "--name", name, "--ulimit=nofile=20000:20000", "--ulimit=nproc=1000:1000"];
        let last = ["--net=none", &volume, IMAGE, "/bin/sh", "-c", script];
        self.podman(&[&first[..], options, &last[..]].concat());
        self.state(name).unwrap_or_else(|| panic!("container `{name}` was run"))
    }

    /// What is known of a container; `None` if there is none of that name. Needs no service.
    pub(crate) fn state(&self, name: &str) -> Option<ContainerState> {
        let output = self.command(&["inspect", "--type=container", name]).output().expect("podman runs");
        if !output.status.success() {
            return None;
        }
        let all: Value = serde_json::from_slice(&output.stdout).expect("podman inspect prints JSON");
        let (one, state) = (&all[0], &all[0]["State"]);
        Some(ContainerState {
            id: one["Id"].as_str().unwrap_or_default().to_owned(),
            pid: state["Pid"].as_u64().unwrap_or_default(),
            started_at: state["StartedAt"].as_str().unwrap_or_default().to_owned(),
            running: state["Running"].as_bool().unwrap_or_default(),
        })
    }

    /// How often a container of that name was started, the first time included: the engine's own count.
    pub(crate) fn starts(&self, name: &str) -> usize {
        let filter = format!("container={name}");
        let arguments = ["events", "--stream=false", "--since=24h", "--filter", &filter, "--format={{.Status}}"];
        let output = self.podman(&arguments);
        String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.trim() == "start").count()
    }

    /// `podman VERB NAME`, for what people do to containers.
    pub(crate) fn tell(&self, verb: &str, name: &str) {
        self.podman(&[verb, name]);
    }

    /// Has the container's own health check run once, as a timer of systemd would; whether it passed.
    pub(crate) fn check(&self, name: &str) -> bool {
        self.command(&[concat!("health", "check"), "run", name]).output().expect("podman runs").status.success()
    }

    /// Ends a container and removes it.
    pub(crate) fn remove(&self, name: &str) {
        self.podman(&["rm", "--force", "--time=0", name]);
        self.names.borrow_mut().retain(|known| known != name);
    }

    /// SIGKILL to the container's main process, from outside; returns once the engine has noticed.
    pub(crate) fn kill(&self, name: &str) {
        self.podman(&["kill", "--signal=KILL", name]);
        wait_for("the container to be seen dead", || match self.state(name) {
            Some(state) if state.running => Err(state),
            _ => Ok(()),
        });
    }

    /// SIGKILL to the service; its containers live on, its socket's file stays.
    pub(crate) fn kill_service(&mut self) {
        self.service = None;
    }

    /// Starts the service, where none runs, and waits until it answers.
    pub(crate) fn start_service(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let mut command = self.command(&["system", "service", "--time=0", &self.url()]);
        self.service = Some(Process::start("podman", &mut command, &self.dir.path().join("service.log")));
        let socket = self.socket();
        wait_for("podman's socket", || std::os::unix::net::UnixStream::connect(&socket).map(drop));
    }

    /// The process id of the service.
    pub(crate) fn service_pid(&self) -> u32 {
        self.service.as_ref().expect("the service runs").pid()
    }

    fn import_image(&self) {
        let bin = self.dir.path().join("image/bin");
        std::fs::create_dir_all(&bin).expect("a folder can be made");
        std::fs::create_dir(self.dir.path().join("shared")).expect("a folder can be made");
        let busybox = tool("busybox");
        std::fs::copy(&busybox, bin.join("busybox")).expect("busybox can be copied");
        for applet in ["sh", "sleep", "kill"] {
            std::os::unix::fs::symlink("busybox", bin.join(applet)).expect("a link can be made");
        }
        let archive = self.dir.path().join("image.tar");
        let packed = Command::new(tool("tar"))
            .arg("-C")
            .arg(self.dir.path().join("image"))
            .arg("-cf")
            .arg(&archive)
            .arg(".")
            .status();
        assert!(packed.expect("tar runs").success(), "tar packs the image");
        self.podman(&["import", &archive.display().to_string(), IMAGE]);
    }

    /// Runs podman to its end; panics with what it said if it fails.
    fn podman(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("podman runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {said}; are runc and busybox-static installed?");
        output
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let folder = |name: &str| -> PathBuf { Path::join(self.dir.path(), name) };
        let mut command = Command::new(tool("podman"));
        command
            .arg("--root")
            .arg(folder("root"))
            .arg("--runroot")
            .arg(folder("run"))
            .arg("--tmpdir")
            .arg(folder("tmp"));
        command.arg("--runtime").arg(tool("runc"));
        command.args(["--storage-driver=vfs", "--events-backend=file", "--cgroup-manager=cgroupfs"]);
        command.args(arguments).stdin(Stdio::null());
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // First of all, so that it does not start again what is just removed.
        self.service = None;
        for name in self.names.borrow().iter() {
            let _ = self.command(&["rm", "--force", "--ignore", "--time=0", name]).output();
        }
    }
}
