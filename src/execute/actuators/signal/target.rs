//! Which process is meant, held so that a later one with the same id is never taken for it.
//!
//! **Invariant:** the process is held (as a pidfd) before its identity is looked at, and what was read counts only if
//! the held process was still there afterwards; reads only, and never on a thread that must not wait.
#![expect(clippy::disallowed_methods, reason = "reads pid files and /proc off the async threads")]

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use tokio::time::{Instant, timeout_at};

use crate::base::files::{self, FileMeta, FileProblem};
use crate::base::procfs::{self, Process};
use crate::clients::systemd::{Bus, Client};
use crate::model::Timestamp;

/// A process that began this much after its pid file was written cannot be the one that the file names. Start times are
/// counted in hundredths of a second, and a file's time in ticks of the kernel.
const TOLERANCE: Duration = Duration::from_millis(500);
/// Longer than any sane pid file; PostgreSQL's has a few more lines.
const PIDFILE_BYTES_MAX: u64 = 4096;
/// How often several processes of one name are looked at: a process that starts a program is two for a moment.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(50);

/// How the process is named in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The file that holds its id, and what it must be besides.
    Pidfile { path: PathBuf, named: Option<Named> },
    /// The only process of that name.
    Process(Named),
    /// A unit's main process.
    Unit { name: String, bus: Bus },
}

/// A process by its name, and a text in its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) cmdline: Option<String>,
}

impl Named {
    /// Whether the process has that name, as the kernel keeps it (15 bytes) or as its command line begins.
    fn is(&self, pid: i32) -> bool {
        let line = || procfs::read(pid, "cmdline").map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let kept = procfs::name(pid).unwrap_or_default();
        fits(&kept, &line().unwrap_or_default(), &self.name, self.cmdline.as_deref())
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process `{}`", self.name)?;
        self.cmdline.as_ref().map_or(Ok(()), |text| write!(f, " with `{text}`"))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pidfile { path, named: None } => write!(f, "the process of `{}`", path.display()),
            Self::Pidfile { path, named: Some(named) } => write!(f, "{named} of `{}`", path.display()),
            Self::Process(named) => named.fmt(f),
            Self::Unit { name, bus } => write!(f, "the main process of unit `{name}` on {}", bus.shown()),
        }
    }
}

/// A process, by what no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Clock ticks from boot to its start.
    pub(super) started: u64,
}

impl Identity {
    /// Whether this very process still runs.
    pub(super) fn lives(self) -> bool {
        procfs::process(self.pid).is_some_and(|process| process.lives() && process.started == self.started)
    }

    /// The same, off the async threads; what cannot be told by `until` is taken to live.
    pub(super) async fn still_lives(self, until: Instant) -> bool {
        matches!(timeout_at(until, blocking(move || self.lives())).await, Err(_) | Ok(Ok(true) | Err(_)))
    }

    /// Its text in the journal; starts count from a boot, which is therefore named.
    pub(super) fn to_text(self) -> String {
        format!("pid={} started={} boot={}", self.pid, self.started, boot())
    }

    /// Reads it back; `Some(None)` is a process of another boot, which has ended.
    pub(super) fn parse(text: &str) -> Option<Option<Self>> {
        let (pid, rest) = text.strip_prefix("pid=")?.split_once(" started=")?;
        let (started, of) = rest.split_once(" boot=")?;
        let identity = Self { pid: pid.parse().ok()?, started: started.parse().ok()? };
        Some((of == boot()).then_some(identity))
    }
}

fn boot() -> String {
    let read = files::read_start(Path::new("/proc/sys/kernel/random/boot_id"), 64);
    read.map_or_else(|_| String::new(), |(bytes, _)| String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// A process that is held: a signal reaches it or nobody.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) fd: OwnedFd,
    pub(super) identity: Identity,
    /// Its name, for people.
    pub(super) name: String,
}

/// Finds the process and holds it; else why there is none that may be signalled.
pub(super) async fn find(target: &Target) -> Result<Held, String> {
    match target {
        Target::Pidfile { path, named } => {
            let (path, named) = (path.clone(), named.clone());
            blocking(move || of_pidfile(&path, named.as_ref())).await?
        }
        Target::Process(named) => {
            let mut looks = 1;
            loop {
                let named = named.clone();
                match blocking(move || of_name(&named)).await? {
                    Err(Found::Several(_)) if looks < LOOKS => {
                        looks += 1;
                        tokio::time::sleep(PAUSE).await;
                    }
                    found => return found.map_err(|found| format!("{target}: {found}")),
                }
            }
        }
        Target::Unit { name, bus } => of_unit(name, bus).await,
    }
}

/// Looks on a thread that may wait: a file system may hang, and so may `/proc` of a process that the kernel holds.
async fn blocking<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(look).await.map_err(|error| format!("it cannot be looked at: {error}"))
}

/// Holds the process of that id, whoever it is now; `None` if there is none.
fn hold(pid: i32) -> Result<Option<(Held, Process)>, String> {
    if pid == 1 {
        return Err("process 1 is the host's own and never signalled".to_owned());
    }
    if u32::try_from(pid) == Ok(std::process::id()) {
        return Err(format!("process {pid} is chiron itself"));
    }
    let id = Some(pid).filter(|&pid| pid > 0).and_then(Pid::from_raw);
    let id = id.ok_or_else(|| format!("{pid} is no process id"))?;
    let fd = match pidfd_open(id, PidfdFlags::empty()) {
        Ok(fd) => fd,
        Err(Errno::SRCH) => return Ok(None),
        Err(Errno::INVAL | Errno::NOENT) => return Err(format!("{pid} is a thread, expected a process")),
        Err(error) => return Err(format!("process {pid} cannot be held: {error}")),
    };
    let Some(process) = procfs::process(pid) else { return Ok(None) };
    let name = procfs::name(pid).unwrap_or_default();
    // What was read belongs to the held process only if it had its id until now.
    if !process.lives() || held_id(&fd) != Some(pid) {
        return Ok(None);
    }
    Ok(Some((Held { fd, identity: Identity { pid, started: process.started }, name }, process)))
}

/// The id of a held process, until it has ended and been reaped.
fn held_id(fd: &OwnedFd) -> Option<i32> {
    let (text, _) = files::read_start(Path::new(&format!("/proc/self/fdinfo/{}", fd.as_raw_fd())), 4096).ok()?;
    let text = String::from_utf8(text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

/// Opens a pid file that is a file itself, not a link to one; with it the user whom its folder belongs to.
fn open_pidfile(path: &Path) -> Result<(File, FileMeta, u32), String> {
    let told = |errno: Errno| match errno {
        Errno::NOENT => FileProblem::Missing.to_string(),
        Errno::ACCESS => FileProblem::PermissionDenied.to_string(),
        other => std::io::Error::from(other).to_string(),
    };
    let name = path.file_name().ok_or_else(|| "expected the path of a file".to_owned())?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let at = OFlags::PATH | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, at | OFlags::DIRECTORY, Mode::empty()).map_err(told)?;
    let found = rustix::fs::openat(&folder, name, at | OFlags::NOFOLLOW, Mode::empty()).map_err(told)?;
    let stat = rustix::fs::fstat(&found).map_err(told)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err("it is a symbolic link, which is not followed; name the file that it points to".to_owned());
    }
    // Exactly what was found, whatever has the name by now.
    let found = format!("/proc/self/fd/{}", found.as_raw_fd());
    let (file, meta) = files::open(Path::new(&found)).map_err(|problem| problem.to_string())?;
    Ok((file, meta, rustix::fs::fstat(&folder).map_err(told)?.st_uid))
}

/// Why a pid file is not believed that has that mode, that user and that group: others could have written it.
fn distrust(mode: u32, user: u32, group: u32) -> Option<&'static str> {
    if mode & 0o002 != 0 {
        Some("everybody may write to it, so it is not believed; `chmod o-w` helps")
    } else if mode & 0o020 != 0 && (user, group) != (0, 0) {
        Some("its group may write to it, so it is not believed; `chmod g-w` helps")
    } else {
        None
    }
}

fn of_pidfile(path: &Path, wanted: Option<&Named>) -> Result<Held, String> {
    let shown = path.display();
    let named = |why: String| format!("pid file `{shown}`: {why}");
    let (file, meta, folder) = open_pidfile(path).map_err(named)?;
    let owner = file.metadata().map_err(|error| named(error.to_string()))?;
    if let Some(why) = distrust(owner.mode(), owner.uid(), owner.gid()) {
        return Err(named(why.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(PIDFILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| named(error.to_string()))?;
    let pid = parse_pidfile(&bytes).map_err(named)?;
    let held = hold(pid).map_err(|why| named(format!("it names what may not be signalled: {why}")))?;
    let Some((held, process)) = held else { return Err(named(format!("it names process {pid}, which does not run"))) };
    let began = process.began();
    if is_recycled(began, meta.modified) {
        let (began, written) = (began.rfc3339(), meta.modified.rfc3339());
        return Err(named(format!(
            "it was written {written}, but process {pid} (`{}`) began {began}: another process has the id now",
            held.name
        )));
    }
    // Whoever can write to the file could else have chiron signal the processes of others.
    let user = procfs::user(pid);
    if owner.uid() != 0 && user != Some(owner.uid()) {
        return Err(named(format!("it belongs to user {}, process {pid} does not", owner.uid())));
    }
    if folder != 0 && user != Some(folder) && folder != geteuid().as_raw() {
        return Err(named(format!(
            "its folder belongs to user {folder}, who may put any file there; expected root, chiron's user or that of \
             process {pid}"
        )));
    }
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is(pid)) {
        return Err(named(format!("it names process {pid} (`{}`), expected {wanted}", held.name)));
    }
    if held_id(&held.fd) != Some(pid) {
        return Err(named(format!("it names process {pid}, which has just ended")));
    }
    Ok(held)
}

/// The id in a pid file's first line.
fn parse_pidfile(bytes: &[u8]) -> Result<i32, String> {
    if bytes.len() as u64 > PIDFILE_BYTES_MAX {
        return Err(format!("found more than {PIDFILE_BYTES_MAX} bytes, expected a process id"));
    }
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default().trim_ascii();
    let shown: String = String::from_utf8_lossy(line).chars().take(40).collect();
    let pid = std::str::from_utf8(line).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match pid.and_then(|text| text.parse().ok()) {
        Some(pid) if pid > 0 => Ok(pid),
        _ if line.is_empty() => Err("it is empty, expected a process id".to_owned()),
        _ => Err(format!("found {shown:?}, expected a process id")),
    }
}

/// Whether a process that began then cannot be the one whose id was written then.
fn is_recycled(began: Timestamp, written: Timestamp) -> bool {
    began > written.plus(TOLERANCE)
}

/// Why no process is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    None,
    Several(Vec<i32>),
    Not(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no process matches"),
            Self::Several(pids) => {
                let shown: Vec<String> = pids.iter().take(10).map(i32::to_string).collect();
                let more = if pids.len() > 10 { ", ..." } else { "" };
                write!(f, "found {} processes ({}{more}), expected exactly one", pids.len(), shown.join(", "))
            }
            Self::Not(why) => f.write_str(why),
        }
    }
}

fn of_name(named: &Named) -> Result<Held, Found> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut pids: Vec<i32> = procfs::all()
        .filter(|process| process.pid != own && process.lives() && named.is(process.pid))
        .map(|process| process.pid)
        .collect();
    pids.sort_unstable();
    match pids[..] {
        [] => Err(Found::None),
        [pid] => match hold(pid).map_err(Found::Not)? {
            // Read once more: the first look was at whoever had the id before it was held.
            Some((held, _)) if named.is(pid) && held_id(&held.fd) == Some(pid) => Ok(held),
            _ => Err(Found::None),
        },
        _ => Err(Found::Several(pids)),
    }
}

fn fits(kept: &str, line: &str, name: &str, cmdline: Option<&str>) -> bool {
    let program = line.split('\0').next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    let is_kept = if name.len() > 15 {
        program.is_empty() && name.as_bytes().get(..15) == Some(kept.as_bytes())
    } else {
        kept == name
    };
    let words = line.trim_end_matches('\0').replace('\0', " ");
    (is_kept || program == name) && cmdline.is_none_or(|text| words.contains(text))
}

async fn of_unit(name: &str, bus: &Bus) -> Result<Held, String> {
    let told = |error: crate::clients::systemd::Error| format!("unit `{name}` on {}: {error}", bus.shown());
    let manager = Client::connect(bus).await.map_err(told)?;
    let unit = manager.unit(name).await.map_err(told)?;
    if unit.load != "loaded" {
        return Err(format!("unit `{name}` on {} is not loaded, found {}", bus.shown(), unit.load));
    }
    let pid = i32::try_from(unit.main_pid).unwrap_or(0);
    if pid == 0 {
        return Err(format!("unit `{name}` has no main process, it is {} ({})", unit.active, unit.sub));
    }
    let held = blocking(move || hold(pid)).await?.map_err(|why| format!("unit `{name}`: {why}"))?;
    // systemd reaps its main processes itself: as long as it names this one, nobody else can have the id.
    let again = manager.unit(name).await.map_err(told)?;
    match held {
        Some((held, _)) if again.main_pid == unit.main_pid && again.invocation == unit.invocation => Ok(held),
        _ => Err(format!("the main process {pid} of unit `{name}` has just ended")),
    }
}

#[cfg(test)]
mod tests;
