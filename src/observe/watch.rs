//! Sees at once that a file of a check has changed, by inotify; the schedule stays for where that cannot tell (OBS-7).
//!
//! In: the paths of [`super::check::Check::watches`]. Out: the checks that are worth a look.
//! Files are watched through their folder, as they are mostly replaced by renaming; a folder that is not there yet through
//! the nearest one that is; a folder on the way by its going or being moved.
//! **Invariant:** only watches, and never blocks: ways are walked on short-lived threads, of which a few may hang; a change
//! is told late or twice rather than never; chiron's own files wake nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep_until};

use super::check::{AnyCheck, ScheduledCheck};
use super::pace::{FILE_GAP, FOLDER_GAP};
use super::probes::folder::is_own;
use crate::telemetry::Watching;

mod way;

use way::{Place, Role, Walker, Way};

/// Watches of one process; each costs the kernel about a kilobyte.
const WATCHES_MAX: usize = 16_384;
/// Between two readings of what happened: a busy folder wakes us no more often.
const BREATH: Duration = Duration::from_millis(10);
/// Events of one reading; the rest waits.
const READ_MAX: usize = 4_096;
/// All ways are walked anew this often: a mount that hides a folder tells nobody.
const ROUND: Duration = Duration::from_secs(60);
/// Between two walks, and how many times as long as a walk took; up to the last.
const WALK_PAUSE: Duration = Duration::from_millis(20);
const WALK_SHARE: u32 = 20;
const WALK_PAUSE_MAX: Duration = Duration::from_secs(2);
/// A way that takes longer leads to where nobody answers.
const WALK_LIMIT: Duration = Duration::from_secs(10);
/// Threads that may hang on their way.
const HUNG_MAX: usize = 4;

/// A check that is worth a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Its index.
    pub(super) check: usize,
    /// Whoever changed something is done with it.
    pub(super) settled: bool,
    /// Between two looks.
    pub(super) gap: Duration,
}

/// One folder with names that checks look at.
struct Spot {
    place: Arc<Place>,
    checks: HashMap<OsString, Vec<usize>>,
    /// As the last walk found it.
    watches: BTreeSet<i32>,
    others: HashSet<OsString>,
    trouble: Option<Errno>,
    walked: bool,
    hung: bool,
}

/// A watch of the kernel, and what it stands for.
struct Watched {
    /// Spots whose way leads through it; apart, as there may be many.
    through: HashSet<usize>,
    /// What else it is, by spot.
    roles: HashMap<usize, Vec<Role>>,
    /// What the kernel was asked to tell.
    asked: WatchFlags,
}

impl Default for Watched {
    fn default() -> Self {
        Self { through: HashSet::new(), roles: HashMap::new(), asked: WatchFlags::empty() }
    }
}

impl Watched {
    fn add(&mut self, spot: usize, role: Role) {
        self.asked |= role.mask();
        if role == Role::Through {
            self.through.insert(spot);
            return;
        }
        let roles = self.roles.entry(spot).or_default();
        if !roles.contains(&role) {
            roles.push(role);
        }
    }

    fn remove(&mut self, spot: usize) {
        self.through.remove(&spot);
        self.roles.remove(&spot);
    }

    /// Nothing needs it, or it tells more than anything needs.
    fn is_needless(&self) -> bool {
        let through = if self.through.is_empty() { WatchFlags::empty() } else { Role::Through.mask() };
        let roles = self.roles.values().flatten();
        roles.fold(through, |mask, role| mask | role.mask()) != self.asked || self.asked.is_empty()
    }
}

/// What a walking thread tells.
enum Told {
    Way { batch: u64, spot: usize, way: Way },
    End { batch: u64 },
}

/// Ways that are being walked.
struct Batch {
    number: u64,
    left: Vec<usize>,
    all: Vec<usize>,
    begun: Instant,
    heard: Instant,
    abandoned: Arc<AtomicBool>,
    /// Something happened in a watch that is not known yet.
    strays: bool,
}

/// What is known, apart from where it is heard.
#[derive(Default)]
struct Known {
    spots: Vec<Spot>,
    checks: Vec<Arc<dyn AnyCheck>>,
    own_files: Vec<PathBuf>,
    watched: HashMap<i32, Watched>,
    /// Spots whose way is to be walked anew.
    pending: BTreeSet<usize>,
    /// By check: settled, and the gap.
    changed: BTreeMap<usize, (bool, Duration)>,
    overflowed: bool,
    stray: bool,
}

/// Watches the files of checks.
pub(super) struct Watcher {
    known: Known,
    /// `None` while the kernel has none to give.
    inotify: Option<Arc<AsyncFd<OwnedFd>>>,
    batch: Option<Batch>,
    batches: u64,
    hung: usize,
    tell: Sender<Told>,
    told: Receiver<Told>,
    /// Not to be read, or walked, before.
    read_at: Instant,
    walk_at: Instant,
    round_at: Instant,
    most: usize,
    warned: bool,
    counts: Watching,
}

impl Watcher {
    /// A watcher of these checks; `None` if there is nothing to watch.
    pub(super) fn new<'a>(
        checks: impl Iterator<Item = &'a ScheduledCheck>,
        own_files: &[PathBuf],
        counts: Watching,
    ) -> Option<Self> {
        let own_files: Vec<PathBuf> = own_files.iter().map(|path| path.components().collect()).collect();
        let mut known = Known { own_files, ..Known::default() };
        let mut places: HashMap<PathBuf, BTreeMap<OsString, Vec<usize>>> = HashMap::new();
        for (index, scheduled) in checks.enumerate() {
            known.checks.push(Arc::clone(&scheduled.check));
            for path in scheduled.check.watches() {
                // `components` drops `.` and doubled slashes, so that own files compare equal.
                let Ok(path) = std::path::absolute(path.components().collect::<PathBuf>()) else { continue };
                let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
                if known.is_own(&path) {
                    continue;
                }
                let names = places.entry(folder.to_owned()).or_default();
                names.entry(name.to_owned()).or_default().push(index);
            }
        }
        counts.holds(0, places.len());
        if places.is_empty() {
            return None;
        }
        let mut places: Vec<_> = places.into_iter().collect();
        places.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        for (folder, checks) in places {
            let names = checks.keys().cloned().collect();
            known.spots.push(Spot {
                place: Arc::new(Place { folder, names }),
                checks: checks.into_iter().collect(),
                watches: BTreeSet::new(),
                others: HashSet::new(),
                trouble: None,
                walked: false,
                hung: false,
            });
        }
        let (tell, told) = channel(64);
        let now = Instant::now();
        let mut watcher = Self {
            known,
            inotify: None,
            batch: None,
            batches: 0,
            hung: 0,
            tell,
            told,
            read_at: now,
            walk_at: now,
            round_at: now + ROUND,
            most: WATCHES_MAX,
            warned: false,
            counts,
        };
        watcher.open();
        Some(watcher)
    }

    /// Waits until checks are worth a look. What has been heard is not lost if this is dropped.
    pub(super) async fn changes(&mut self) -> Vec<Changed> {
        loop {
            self.begin_walk();
            let turn = self.next_turn();
            tokio::select! {
                biased;
                Some(told) = self.told.recv() => self.take(told),
                () = readable(self.inotify.as_deref(), self.read_at) => self.listen(),
                () = sleep_until(turn) => self.turn(),
            }
            if !self.known.changed.is_empty() {
                let changed = std::mem::take(&mut self.known.changed);
                self.counts.changed(changed.len());
                return changed.into_iter().map(|(check, (settled, gap))| Changed { check, settled, gap }).collect();
            }
        }
    }

    /// Gets an ear from the kernel, which has only so many to give.
    fn open(&mut self) {
        let opened = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from);
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may swap their descriptor; this owns one"
        )]
        let opened = opened.and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE));
        match opened {
            Ok(fd) => {
                self.inotify = Some(Arc::new(fd));
                self.known.pending = (0..self.known.spots.len()).collect();
            }
            Err(error) => self.warn(&error.to_string(), "raise `fs.inotify.max_user_instances`"),
        }
    }

    fn warn(&mut self, error: &str, advice: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(error, advice, "not all files can be watched; their checks run by their schedule alone");
        }
    }

    fn next_turn(&self) -> Instant {
        let mut turn = self.round_at;
        match &self.batch {
            Some(batch) => turn = turn.min(batch.heard + WALK_LIMIT),
            None if self.inotify.is_some() && !self.known.pending.is_empty() && self.hung < HUNG_MAX => {
                turn = turn.min(self.walk_at)
            }
            None => {}
        }
        turn
    }

    /// Something is due by time alone.
    fn turn(&mut self) {
        let now = Instant::now();
        if self.batch.as_ref().is_some_and(|batch| now >= batch.heard + WALK_LIMIT) {
            self.abandon();
        }
        if now < self.round_at {
            return;
        }
        self.round_at = now + ROUND;
        if self.inotify.is_none() {
            self.open();
        }
        let spots = self.known.spots.iter().enumerate();
        self.known.pending.extend(spots.filter(|(_, spot)| !spot.hung).map(|(index, _)| index));
    }

    /// Has a thread walk the ways that are pending.
    fn begin_walk(&mut self) {
        let now = Instant::now();
        let Some(inotify) = &self.inotify else { return };
        if self.batch.is_some() || self.known.pending.is_empty() || now < self.walk_at || self.hung >= HUNG_MAX {
            return;
        }
        let spots: Vec<usize> = std::mem::take(&mut self.known.pending).into_iter().collect();
        self.batches += 1;
        let (number, tell, fd) = (self.batches, self.tell.clone(), Arc::clone(inotify));
        let places: Vec<_> = spots.iter().map(|spot| (*spot, Arc::clone(&self.known.spots[*spot].place))).collect();
        let (known, most) = (self.known.watched.keys().copied().collect(), self.most);
        let abandoned = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&abandoned);
        let walk = move || {
            let mut walker = Walker { inotify: fd.get_ref(), known, most };
            for (spot, place) in places {
                let way = walker.walk(&place);
                // An error means that nobody watches any more.
                if tell.blocking_send(Told::Way { batch: number, spot, way }).is_err() || stop.load(Ordering::Relaxed) {
                    return;
                }
            }
            let _ = tell.blocking_send(Told::End { batch: number });
        };
        self.known.stray = false;
        match std::thread::Builder::new().name("chiron-watch".to_owned()).spawn(walk) {
            Ok(_) => {
                let left = spots.clone();
                self.batch = Some(Batch { number, left, all: spots, begun: now, heard: now, abandoned, strays: false });
            }
            Err(_) => {
                self.known.pending.extend(spots);
                self.walk_at = now + WALK_PAUSE_MAX;
            }
        }
    }

    /// Gives up the thread that walks: it hangs. The ways it has not come to are walked by another.
    fn abandon(&mut self) {
        let Some(batch) = self.batch.take() else { return };
        batch.abandoned.store(true, Ordering::Relaxed);
        self.hung += 1;
        let mut left = batch.left.into_iter();
        if let Some(spot) = left.next() {
            let spot = &mut self.known.spots[spot];
            spot.hung = true;
            let folder = spot.place.folder.display();
            tracing::warn!(%folder, "a folder does not answer and is not watched; its checks run by their schedule alone");
        }
        self.known.pending.extend(left);
        self.count();
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Way { batch: number, spot, way } => match &mut self.batch {
                Some(batch) if batch.number == number => {
                    batch.heard = Instant::now();
                    batch.left.retain(|left| *left != spot);
                    batch.strays |= self.known.stray;
                    self.known.learn(spot, way);
                }
                // A thread that hung has come back; what it found is old.
                _ => {
                    self.hung = self.hung.saturating_sub(1);
                    self.known.spots[spot].hung = false;
                    self.known.pending.insert(spot);
                }
            },
            Told::End { batch: number } if self.batch.as_ref().is_some_and(|batch| batch.number == number) => {
                let batch = self.batch.take().expect("it was there a line before");
                let took = batch.begun.elapsed();
                self.walk_at = Instant::now() + (took * WALK_SHARE).clamp(WALK_PAUSE, WALK_PAUSE_MAX);
                if batch.strays || self.known.stray {
                    // It may have concerned any of them, and their ways too.
                    batch.all.iter().for_each(|spot| self.known.wake(*spot, false));
                    self.known.pending.extend(batch.all);
                }
                self.drop_needless();
                self.count();
            }
            Told::End { .. } => {}
        }
    }

    /// Ends watches that nothing needs, or that tell more than is needed. Only while no thread adds any.
    fn drop_needless(&mut self) {
        let Some(fd) = &self.inotify else { return };
        let needless = |(number, watched): (&i32, &Watched)| watched.is_needless().then_some(*number);
        let needless: Vec<i32> = self.known.watched.iter().filter_map(needless).collect();
        for number in needless {
            let _ = inotify::remove_watch(fd.get_ref(), number);
            if let Some(watched) = self.known.watched.remove(&number) {
                // They ask for it again, and for no more than they need.
                self.known.pending.extend(watched.through.into_iter().chain(watched.roles.into_keys()));
            }
        }
    }

    fn count(&mut self) {
        let troubles: Vec<Errno> = self.known.spots.iter().filter_map(|spot| spot.trouble).collect();
        let unwatched = self.known.spots.iter().filter(|spot| spot.trouble.is_some() || spot.hung || !spot.walked);
        self.counts.holds(self.known.watched.len(), unwatched.count());
        match troubles.iter().find(|errno| **errno == Errno::NOSPC).or(troubles.first()) {
            Some(errno @ &Errno::NOSPC) => self.warn(&errno.to_string(), "raise `fs.inotify.max_user_watches`"),
            Some(errno) => self.warn(&errno.to_string(), "let chiron list the folders of these files"),
            None => {}
        }
    }

    /// Reads what happened.
    fn listen(&mut self) {
        self.read_at = Instant::now() + BREATH;
        let Some(fd) = self.inotify.clone() else { return };
        let known = &mut self.known;
        let heard = fd.try_io(Interest::READABLE, |fd| {
            let mut buffer = [MaybeUninit::<u8>::uninit(); 8 * 1024];
            let mut reader = Reader::new(fd, &mut buffer);
            for _ in 0..READ_MAX {
                let event = reader.next().map_err(io::Error::from)?;
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                known.heard(event.wd(), event.events(), name);
            }
            // What was read is whole: an event is never torn between two readings.
            while !reader.is_buffer_empty() {
                let event = reader.next().map_err(io::Error::from)?;
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                known.heard(event.wd(), event.events(), name);
            }
            Ok(())
        });
        if let Err(error) = heard
            && error.kind() != io::ErrorKind::WouldBlock
        {
            self.warn(&error.to_string(), "");
            self.inotify = None;
            self.known.watched.clear();
            self.batch.take().iter().for_each(|batch| batch.abandoned.store(true, Ordering::Relaxed));
        }
        if std::mem::take(&mut self.known.overflowed) {
            self.counts.overflowed();
            (0..self.known.spots.len()).for_each(|spot| self.known.wake(spot, true));
            self.known.pending.extend(0..self.known.spots.len());
        }
    }
}

/// Completes when there is something to read, not before `at`; never without an ear.
async fn readable(fd: Option<&AsyncFd<OwnedFd>>, at: Instant) {
    let Some(fd) = fd else { return std::future::pending().await };
    sleep_until(at).await;
    // An error shows again when it is read.
    let _ = fd.readable().await;
}

impl Known {
    fn is_own(&self, path: &Path) -> bool {
        self.own_files.iter().any(|own| is_own(path, own))
    }

    fn note(&mut self, check: usize, settled: bool, gap: Duration) {
        let (old_settled, old_gap) = self.changed.entry(check).or_insert((settled, gap));
        // What happened last tells whether somebody is still at it.
        *old_settled = settled;
        *old_gap = gap.min(*old_gap);
    }

    /// Every check of a spot is worth a look.
    fn wake(&mut self, spot: usize, settled: bool) {
        let all: Vec<usize> = self.spots[spot].checks.values().flatten().copied().collect();
        all.into_iter().for_each(|check| self.note(check, settled, FILE_GAP));
    }

    /// Checks of one name of a spot are.
    fn wake_name(&mut self, spot: usize, name: &OsStr, settled: bool, gap: Duration) -> bool {
        let Some(checks) = self.spots[spot].checks.get(name).cloned() else { return false };
        checks.into_iter().for_each(|check| self.note(check, settled, gap));
        true
    }

    /// Takes over what a walk found.
    fn learn(&mut self, spot: usize, way: Way) {
        let watches: BTreeSet<i32> = way.marks.iter().map(|(number, _)| *number).collect();
        for number in &self.spots[spot].watches {
            if let Some(watched) = self.watched.get_mut(number) {
                watched.remove(spot);
            }
        }
        for (number, role) in way.marks {
            self.watched.entry(number).or_default().add(spot, role);
        }
        if way.unsteady {
            self.pending.insert(spot);
        }
        let known = &mut self.spots[spot];
        let moved = known.walked && known.watches != watches;
        (known.watches, known.others, known.trouble, known.walked) = (watches, way.others, way.trouble, true);
        if moved {
            // What came while nobody listened there is seen now.
            self.wake(spot, false);
        }
    }

    /// Takes one event.
    fn heard(&mut self, number: i32, what: ReadFlags, name: Option<&OsStr>) {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.overflowed = true;
            return;
        }
        let is_over = what.contains(ReadFlags::IGNORED);
        let Some(watched) = self.watched.remove(&number) else {
            self.stray |= !is_over;
            return;
        };
        if name.is_none() {
            watched.through.iter().for_each(|spot| self.heard_itself(*spot, &Role::Through, what));
        }
        for (spot, roles) in &watched.roles {
            for role in roles {
                match name {
                    Some(name) => self.heard_of(*spot, role, what, name),
                    None => self.heard_itself(*spot, role, what),
                }
            }
        }
        if !is_over {
            self.watched.insert(number, watched);
        }
    }

    /// Something happened to what is watched itself.
    fn heard_itself(&mut self, spot: usize, role: &Role, what: ReadFlags) {
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if what.intersects(gone) {
            self.pending.insert(spot);
        }
        match role {
            Role::Tree { name, .. } => drop(self.wake_name(spot, name, false, FOLDER_GAP)),
            Role::Alias { of, .. } => drop(self.wake_name(spot, of, false, FILE_GAP)),
            Role::Through | Role::Leaf | Role::Awaits(_) => self.wake(spot, false),
        }
    }

    /// Something happened to a name in a folder that is watched.
    fn heard_of(&mut self, spot: usize, role: &Role, what: ReadFlags, name: &OsStr) {
        let came = what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        let went = what.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM);
        let is_folder = what.contains(ReadFlags::ISDIR);
        let settled = what.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO | ReadFlags::ATTRIB);
        match role {
            Role::Through => {}
            Role::Awaits(next) => {
                if came && next == name {
                    self.pending.insert(spot);
                }
            }
            Role::Leaf => {
                if !self.wake_name(spot, name, settled, FILE_GAP) {
                    return;
                }
                if came && (is_folder || self.spots[spot].others.contains(name)) {
                    self.pending.insert(spot);
                } else if went {
                    self.spots[spot].others.insert(name.to_owned());
                }
            }
            Role::Alias { file, of } => {
                if file == name {
                    let _ = self.wake_name(spot, of, settled, FILE_GAP);
                    if went || came {
                        self.pending.insert(spot);
                    }
                }
            }
            Role::Tree { name: root, below } => {
                if is_folder && (came || went) {
                    self.pending.insert(spot);
                }
                let mut path = self.spots[spot].place.folder.join(root);
                path.push(below);
                path.push(name);
                if is_folder && !came && !went || self.is_own(&path) {
                    return;
                }
                let checks = self.spots[spot].checks.get(root).cloned().unwrap_or_default();
                for check in checks {
                    if is_folder || self.checks[check].heeds(&path) {
                        self.note(check, settled, FOLDER_GAP);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
