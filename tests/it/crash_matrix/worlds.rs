//! What is acted upon, one world per means, each with a count of its own.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::{Effects, HttpServer, Podman, Process, Reply, Systemd, script, wait_for};

/// One means and what it acts upon. It counts by itself and knows nothing of chiron.
pub(super) trait World {
    /// For people.
    fn name(&self) -> &'static str;
    /// The binding's class.
    fn class(&self) -> &'static str;
    /// The binding's means, as a key of YAML with a flow value.
    fn means(&self) -> String;
    /// The file that is there while all is well.
    fn beat(&self) -> PathBuf;
    /// Takes the beat away; only an effect brings it back.
    fn break_(&self) {
        let _ = std::fs::remove_file(self.beat());
    }
    /// Brings it back from outside, without that being counted.
    fn mend(&self) {
        std::fs::write(self.beat(), "").expect("a file can be written");
    }
    /// Makes what it has reachable below the workspace of a story that begins.
    fn adopt(&self, workspace: &Path) {
        let beat = self.beat();
        link(beat.parent().expect("a beat is in a folder"), workspace);
    }
    /// Effects so far.
    fn effects(&self) -> usize;
}

/// Builds a world.
pub(super) type Build = fn() -> Box<dyn World>;

/// Every means.
pub(super) const WORLDS: [Build; 6] = [
    || Box::new(Commands::new()),
    || Box::new(Written::new()),
    || Box::new(Signalled::new()),
    || Box::new(Asked::new()),
    || Box::new(Unit::new()),
    || Box::new(Container::new()),
];

fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("chiron-world-").tempdir().expect("a temporary folder can be made")
}

/// `exec`: a command that writes one line each time.
struct Commands {
    dir: tempfile::TempDir,
    effects: Effects,
    script: PathBuf,
    /// Effects of earlier stories.
    earlier: Cell<usize>,
}

impl Commands {
    fn new() -> Self {
        let dir = folder();
        let effects = Effects::new(dir.path());
        let body = format!("{} one_shot\n: > '{}'", effects.script.display(), dir.path().join("beat").display());
        let script = script(&dir.path().join("restart.sh"), &body);
        Self { dir, effects, script, earlier: Cell::new(0) }
    }
}

impl World for Commands {
    fn name(&self) -> &'static str {
        "exec"
    }
    fn class(&self) -> &'static str {
        "one_shot"
    }
    fn means(&self) -> String {
        format!("exec: {{argv: [{:?}]}}", self.script)
    }
    fn beat(&self) -> PathBuf {
        self.dir.path().join("beat")
    }
    fn adopt(&self, workspace: &Path) {
        link(self.dir.path(), workspace);
        // Each story has a journal of its own: the keys of two within one second may be the same.
        self.earlier.set(self.effects());
        self.effects.forget();
    }
    fn effects(&self) -> usize {
        let twice = self.effects.repeated("one_shot");
        assert!(twice.is_empty(), "a one_shot happened twice: {twice:?}");
        self.earlier.get() + self.effects.all().len()
    }
}

/// `file`: its effects are the files that came to stand at its path, told apart by their inode and time.
struct Written {
    /// In the workspace of the story that is told: a folder that is a link would be refused.
    path: Arc<Mutex<PathBuf>>,
    seen: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    watch: Option<JoinHandle<()>>,
}

impl Written {
    fn new() -> Self {
        let (seen, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let path = Arc::new(Mutex::new(PathBuf::new()));
        let (mine, stopped, place) = (Arc::clone(&seen), Arc::clone(&stop), Arc::clone(&path));
        let watch = std::thread::spawn(move || {
            let mut last = None;
            while !stopped.load(Ordering::Relaxed) {
                let path = place.lock().expect("nobody panics with it").clone();
                let metadata = std::fs::metadata(path).ok().filter(|found| found.len() == 5);
                let now = metadata.map(|found| (found.ino(), found.mtime(), found.mtime_nsec()));
                if now.is_some() && now != last {
                    mine.fetch_add(1, Ordering::SeqCst);
                }
                last = now.or(last);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { path, seen, stop, watch: Some(watch) }
    }
}

impl World for Written {
    fn name(&self) -> &'static str {
        "file"
    }
    fn class(&self) -> &'static str {
        "natural"
    }
    fn means(&self) -> String {
        "file: {path: world/beat, write: fresh}".to_owned()
    }
    fn beat(&self) -> PathBuf {
        self.path.lock().expect("nobody panics with it").clone()
    }
    fn adopt(&self, workspace: &Path) {
        let folder = workspace.join("world");
        std::fs::create_dir(&folder).expect("a folder can be made");
        *self.path.lock().expect("nobody panics with it") = folder.join("beat");
    }
    fn effects(&self) -> usize {
        // Whoever has just verified it has seen it later than it was written.
        std::thread::sleep(Duration::from_millis(20));
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(watch) = self.watch.take() {
            let _ = watch.join();
        }
    }
}

/// `signal`: a process that ends by it and is started anew by its parent, each time with another pid.
struct Signalled {
    dir: tempfile::TempDir,
    parent: Process,
}

impl Signalled {
    fn new() -> Self {
        let dir = folder();
        let at = |name: &str| dir.path().join(name).display().to_string();
        // Its pid file is there before its beat, and stays older than its next process is not.
        let child = script(
            &dir.path().join("child.sh"),
            &format!(
                "echo $$ >> '{}'\necho $$ > '{}.new' && mv '{}.new' '{}'\n: > '{}'\nexec sleep 100000",
                at("pids"),
                at("pid"),
                at("pid"),
                at("pid"),
                at("beat"),
            ),
        );
        let body = format!(
            "trap 'kill $child; exit 0' TERM\nwhile :; do\n'{}' & child=$!\nwait $child\ndone",
            child.display()
        );
        let parent = script(&dir.path().join("parent.sh"), &body);
        let parent = Process::start("parent", &mut Command::new(parent), &dir.path().join("parent.log"));
        let world = Self { dir, parent };
        wait_for("the first process", || if world.beat().exists() { Ok(()) } else { Err("no beat") });
        world
    }

    fn pids(&self) -> usize {
        std::fs::read_to_string(self.dir.path().join("pids")).unwrap_or_default().lines().count()
    }
}

impl World for Signalled {
    fn name(&self) -> &'static str {
        "signal"
    }
    fn class(&self) -> &'static str {
        "probeable"
    }
    fn means(&self) -> String {
        "signal: {signal: TERM, pidfile: world/pid}".to_owned()
    }
    fn beat(&self) -> PathBuf {
        self.dir.path().join("beat")
    }
    fn effects(&self) -> usize {
        self.pids().saturating_sub(1)
    }
}

impl Drop for Signalled {
    fn drop(&mut self) {
        self.parent.terminate();
    }
}

/// `http`: a server that knows the keys it has seen, and does nothing for them a second time.
struct Asked {
    dir: tempfile::TempDir,
    server: HttpServer,
    /// Effects of earlier stories, and how many requests those received: each story has a journal of its own, so that the
    /// keys of two within one second may be the same.
    earlier: Mutex<(usize, usize)>,
}

impl Asked {
    fn new() -> Self {
        let dir = folder();
        let beat = dir.path().join("beat");
        let server = HttpServer::answering(move |request| {
            if request.method == "POST" {
                std::fs::write(&beat, "").expect("a file can be written");
            }
            Reply::Status(200, "ok".to_owned())
        });
        Self { dir, server, earlier: Mutex::default() }
    }
}

impl World for Asked {
    fn name(&self) -> &'static str {
        "http"
    }
    fn class(&self) -> &'static str {
        "keyed"
    }
    fn means(&self) -> String {
        format!("http: {{url: {:?}, idempotency_key_header: Idempotency-Key}}", self.server.url("/restart"))
    }
    fn beat(&self) -> PathBuf {
        self.dir.path().join("beat")
    }
    fn adopt(&self, workspace: &Path) {
        link(self.dir.path(), workspace);
        let effects = self.effects();
        *self.earlier.lock().expect("nobody panics with it") = (effects, self.server.received().len());
    }
    fn effects(&self) -> usize {
        let (effects, requests) = *self.earlier.lock().expect("nobody panics with it");
        let received = self.server.received();
        let keys = received[requests..]
            .iter()
            .filter(|request| request.method == "POST")
            .filter_map(|request| request.header("Idempotency-Key"));
        effects + keys.collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// `systemd`: a unit whose starts it counts itself.
struct Unit {
    systemd: Systemd,
}

impl Unit {
    fn new() -> Self {
        let systemd = Systemd::start();
        let beat = systemd.dir().join("beat");
        let body = format!(": > '{}'\nexec sleep 100000", beat.display());
        let service = script(&systemd.dir().join("service.sh"), &body);
        systemd.counted("router.service", &service.display().to_string(), "");
        systemd.ctl(&["start", "router.service"]);
        wait_for("the unit's first start", || if beat.exists() { Ok(()) } else { Err("no beat") });
        Self { systemd }
    }
}

impl World for Unit {
    fn name(&self) -> &'static str {
        "systemd"
    }
    fn class(&self) -> &'static str {
        "probeable"
    }
    fn means(&self) -> String {
        format!("systemd: {{unit: router.service, bus: {:?}}}", self.systemd.bus())
    }
    fn beat(&self) -> PathBuf {
        self.systemd.dir().join("beat")
    }
    fn effects(&self) -> usize {
        self.systemd.starts("router.service").len().saturating_sub(1)
    }
}

/// `container`: one whose starts the engine counts.
struct Container {
    podman: Podman,
    first: Cell<usize>,
}

impl Container {
    fn new() -> Self {
        let podman = Podman::start();
        podman.run("router");
        wait_for(
            "the container's first start",
            || if podman.beat("router").exists() { Ok(()) } else { Err("no beat") },
        );
        let first = Cell::new(podman.starts("router"));
        Self { podman, first }
    }
}

impl World for Container {
    fn name(&self) -> &'static str {
        "container"
    }
    fn class(&self) -> &'static str {
        "probeable"
    }
    fn means(&self) -> String {
        format!("container: {{name: router, socket: {:?}, stop_timeout: 5s}}", self.podman.url())
    }
    fn beat(&self) -> PathBuf {
        self.podman.beat("router")
    }
    fn effects(&self) -> usize {
        self.podman.starts("router") - self.first.get()
    }
}

/// Makes a folder reachable as `world` below the workspace of a story.
fn link(folder: &Path, workspace: &Path) {
    std::os::unix::fs::symlink(folder, workspace.join("world")).expect("a link can be made");
}
