//! `sqlite`: is an SQLite database there, sound, and free to be written?
//!
//! Each reading looks at the file from outside. SQLite's own check of its integrity runs on a slower cycle and is
//! remembered: a short one within the reading, and one that takes longer on a thread of its own, kept by the session, so
//! that a database of many gigabytes delays no reading. Why none of it disturbs the bot is told in `probes::sqlite`.
//!
//! **Invariant:** nothing is written and no lock is taken that a writer waits for; ages are measured by the time since boot.

use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::base::files::FileProblem;
use crate::model::{Perfdata, Status};
use crate::observe::age::{Missing, judge_problem};
use crate::observe::check::{Session, Wake};
use crate::observe::params;
use crate::observe::probes::sqlite::{GiveUp, Held, Look, Stamp, Verdict, look, verify};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Sqlite::KIND, doc: DOC, build };

/// What a check of the integrity may take within a reading: enough for some hundred megabytes. Longer ones go to the session.
const QUICK: Duration = Duration::from_millis(500);
/// After a try that told nothing, or of a damaged file that has changed, so many times its length passes before the next.
const PAUSE: u32 = 10;
/// From so many unfinished tries in a row on the database counts as unchecked, and the next ones come ever more seldom.
const UNFINISHED_MAX: u32 = 3;
/// But at least so often.
const SELDOM: Duration = Duration::from_secs(86_400);

const DOC: &str = "\
# What it asks
Whether a file is an SQLite database, how large it is, whether somebody has locked it for long, and, on a slower cycle,
what SQLite's own check of its integrity says. The database is never written, no file beside it is made, and no writer
ever waits.

# Why it matters
A damaged database answers most questions for weeks and loses trades at the one that matters; a hung transaction keeps
every other program from writing.

# Failure reasons
- `degraded`: larger than `max_size_bytes`; one program has locked it for `locked_after` without writing; a write was
  interrupted by a crash and nobody has opened the database since; the reading took `degraded_latency` or longer; three
  checks of the integrity in a row did not finish within `integrity_timeout`. The next ones then come ever more seldom, at
  least once a day.
- `critical`: empty, no database, or damaged, with SQLite's first message; something else in its place.
- as `missing` says: there is no such file.
- unknown, and not run: it may not be read.

# Parameters
- `path`: the file.
- `missing` (`unknown`): the status if there is no such file: `unknown`, `degraded`, `critical`.
- `integrity` (`quick`): `quick` for SQLite's quick_check, `full` for its integrity_check, which also compares indexes
  with their tables, `none` for neither.
- `integrity_every` (10m): the time between two such checks. A file that was replaced is checked at once.
- `integrity_timeout` (1m): the longest that one may take.
- `max_size_bytes` (none): above it degraded; the WAL counts.
- `locked_after` (15s): see above.
- `degraded_latency` (none): from this time on degraded.
";

/// What to look at, and the limits.
#[derive(Clone, Debug)]
pub struct SqliteParams {
    /// The file.
    pub path: PathBuf,
    /// The grade if there is none.
    pub missing: Missing,
    /// How its integrity is checked, if at all.
    pub integrity: Option<Integrity>,
    /// Above it degraded.
    pub max_size_bytes: Option<u64>,
    /// How long it may be locked without being written.
    pub locked_after: Duration,
    /// From this time on degraded.
    pub degraded_latency: Option<Duration>,
}

/// The slower cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// SQLite's integrity_check instead of its quick_check.
    pub thorough: bool,
    /// The time between two.
    pub every: Duration,
    /// The longest that one may take.
    pub timeout: Duration,
}

impl Default for Integrity {
    fn default() -> Self {
        Self { thorough: false, every: Duration::from_secs(600), timeout: Duration::from_secs(60) }
    }
}

impl SqliteParams {
    /// The defaults for a file.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            missing: Missing::default(),
            integrity: Some(Integrity::default()),
            max_size_bytes: None,
            locked_after: Duration::from_secs(15),
            degraded_latency: None,
        }
    }
}

/// One database.
#[derive(Debug)]
pub struct Sqlite {
    params: SqliteParams,
    clock: Clock,
    memory: Arc<Memory>,
}

/// What is remembered from one reading to the next.
#[derive(Debug, Default)]
struct Memory {
    known: Mutex<Known>,
    /// A check of the integrity was too long for a reading.
    long: Notify,
    /// Somebody runs the long one.
    has_session: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// What SQLite said last, of which version of the file, and when.
    verdict: Option<(Verdict, Stamp, Timestamp)>,
    /// Why the latest try told nothing, if so.
    note: Option<String>,
    /// Tries in a row that took all of their time.
    unfinished: u32,
    /// The next turn, as time since boot.
    next: Duration,
    /// The same for a file that was replaced, or was damaged and has changed.
    soonest: Duration,
    /// The long one is under way.
    under_way: bool,
    /// Since when the same one holds the same version of the file.
    held: Option<(Held, Stamp, Duration)>,
}

/// A database as found, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    look: Look,
    took: Duration,
    held_for: Duration,
    integrity: Option<(Verdict, Timestamp)>,
    note: Option<String>,
    unfinished: u32,
}

impl Memory {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time, so that no one else begins.
    fn begin(&self, look: &Look, now: Duration) -> bool {
        let mut known = self.lock();
        if known.under_way {
            return false;
        }
        let changed = match &known.verdict {
            None => false,
            Some((Verdict::Damaged(_), stamp, _)) => *stamp != look.stamp,
            Some((_, stamp, _)) => stamp.is_of_another_file(&look.stamp),
        };
        known.under_way = now >= if changed { known.soonest } else { known.next };
        known.under_way
    }

    /// Takes what came of it.
    fn end(&self, verdict: Verdict, stamp: Stamp, at: Timestamp, took: Duration, now: Duration, pace: Integrity) {
        let mut known = self.lock();
        let every = pace.every;
        known.under_way = false;
        known.next = now.saturating_add(every);
        known.soonest = now.saturating_add(every.min(took.saturating_mul(PAUSE)));
        known.note = match verdict {
            Verdict::Sound | Verdict::Damaged(_) => {
                known.verdict = Some((verdict, stamp, at));
                known.unfinished = 0;
                None
            }
            Verdict::Unfinished => {
                // One that was given up sooner says nothing: nobody was there to go on with it.
                if took >= pace.timeout {
                    known.unfinished = known.unfinished.saturating_add(1);
                }
                let longer = 1 << known.unfinished.saturating_sub(UNFINISHED_MAX - 1).min(20);
                let pause = every.saturating_mul(longer).min(SELDOM.max(every));
                known.next = now.saturating_add(pause);
                Some(format!("not finished after {}", rounded(took)))
            }
            Verdict::Unclear(why) => {
                known.next = known.soonest;
                Some(why)
            }
        };
    }

    /// How long the same one has held it without a write.
    fn held_for(&self, look: &Look, now: Duration) -> Duration {
        let mut known = self.lock();
        let since = match (&known.held, look.held) {
            (_, None) => {
                known.held = None;
                return Duration::ZERO;
            }
            (Some((held, stamp, since)), Some(by)) if *held == by && *stamp == look.stamp => *since,
            (_, Some(by)) => {
                known.held = Some((by, look.stamp, now));
                now
            }
        };
        now.saturating_sub(since)
    }
}

fn rounded(span: Duration) -> String {
    format!("{} s", (span.as_secs_f64() * 10.0).round() / 10.0)
}

impl Sqlite {
    /// A check of one database.
    pub fn new(params: SqliteParams, clock: Clock) -> Self {
        Self { params, clock, memory: Arc::default() }
    }

    fn look(&self) -> Result<Reading, FileProblem> {
        let begun = self.clock.since_boot();
        let found = look(&self.params.path)?;
        let now = self.clock.since_boot();
        if let Some(pace) = self.params.integrity.filter(|_| found.is_database)
            && self.memory.begin(&found, now)
        {
            self.check_integrity(found.stamp, pace);
        }
        let known = self.memory.lock().clone();
        Ok(Reading {
            look: found,
            took: now.saturating_sub(begun),
            held_for: self.memory.held_for(&found, now),
            integrity: known.verdict.map(|(verdict, _, at)| (verdict, at)),
            note: known.note,
            unfinished: known.unfinished,
        })
    }

    fn check_integrity(&self, stamp: Stamp, pace: Integrity) {
        let (begun, limit) = (self.clock.since_boot(), pace.timeout.min(QUICK));
        let clock = self.clock.clone();
        let give_up: GiveUp = Arc::new(move || clock.since_boot().saturating_sub(begun) >= limit);
        let verdict = verify(&self.params.path, pace.thorough, &give_up);
        if verdict == Verdict::Unfinished && pace.timeout > QUICK && self.memory.has_session.load(Ordering::SeqCst) {
            // `under_way` stays: the session goes on with it.
            self.memory.lock().note = Some("under way".to_owned());
            self.memory.long.notify_one();
            return;
        }
        let now = self.clock.since_boot();
        self.memory.end(verdict, stamp, self.clock.now(), now.saturating_sub(begun), now, pace);
    }
}

/// Runs what is too long for a reading, one at a time, for as long as it is polled.
async fn run_long(path: PathBuf, pace: Integrity, clock: Clock, memory: Arc<Memory>, wake: Wake) {
    struct Gone(Arc<Memory>, Arc<AtomicBool>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.1.store(true, Ordering::SeqCst);
            self.0.has_session.store(false, Ordering::SeqCst);
            self.0.lock().under_way = false;
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let _gone = Gone(Arc::clone(&memory), Arc::clone(&stop));
    memory.has_session.store(true, Ordering::SeqCst);
    loop {
        memory.long.notified().await;
        let (tell, told) = oneshot::channel();
        let (begun, limit) = (clock.since_boot(), pace.timeout);
        let (ticking, stopped, of) = (clock.clone(), Arc::clone(&stop), path.clone());
        let give_up: GiveUp =
            Arc::new(move || stopped.load(Ordering::SeqCst) || ticking.since_boot().saturating_sub(begun) >= limit);
        // Not one of the runtime's threads: its end would have to wait for a disk that hangs.
        let started = std::thread::Builder::new().name("chiron-sqlite".to_owned()).spawn(move || {
            let stamp = look(&of).map(|look| look.stamp);
            let verdict = verify(&of, pace.thorough, &give_up);
            // Whoever waited may have gone.
            let _ = tell.send((verdict, stamp));
        });
        let done = match started {
            Ok(_) => told.await.ok(),
            Err(_) => None,
        };
        let now = clock.since_boot();
        let took = now.saturating_sub(begun);
        match done {
            Some((verdict, Ok(stamp))) => memory.end(verdict, stamp, clock.now(), took, now, pace),
            // The next reading tells what is wrong with the file, or begins anew.
            _ => memory.lock().under_way = false,
        }
        wake.wake();
    }
}

impl Check for Sqlite {
    type Reading = Result<Reading, FileProblem>;
    const KIND: &'static str = "sqlite";

    async fn read(&self) -> Self::Reading {
        self.look()
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        match reading {
            Ok(reading) => self.params.judge(reading),
            Err(problem) => judge_problem(&self.params.path, problem, self.params.missing),
        }
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<PathBuf> {
        vec![self.params.path.clone()]
    }

    fn session(&self, wake: Wake) -> Option<Session> {
        let pace = self.params.integrity.filter(|pace| pace.timeout > QUICK)?;
        let (path, clock) = (self.params.path.clone(), self.clock.clone());
        Some(Box::pin(run_long(path, pace, clock, Arc::clone(&self.memory), wake)))
    }
}

impl SqliteParams {
    fn judge(&self, reading: &Reading) -> Judgement {
        let look = &reading.look;
        let mut judgement = Judgement::new(Status::Healthy).with("size_bytes", look.size);
        if let Some(wal) = look.wal_size {
            judgement = judgement.with("wal_size_bytes", wal);
        }
        let number = |label: &str, value: u64| Perfdata {
            label: label.into(),
            #[expect(clippy::cast_precision_loss, reason = "sizes stay far below 2^53")]
            value: value as f64,
            unit: "bytes".to_owned(),
        };
        judgement.perfdata.push(number("size", look.size));
        judgement.perfdata.extend(look.wal_size.map(|wal| number("wal_size", wal)));
        let error = match &reading.integrity {
            _ if look.size == 0 => Some("empty, expected an SQLite database".to_owned()),
            _ if !look.is_database => Some("does not begin as an SQLite database does".to_owned()),
            Some((Verdict::Damaged(message), _)) => Some(format!("damaged, SQLite found: {message}")),
            _ => None,
        };
        if look.is_database {
            judgement = judgement.with("journal_mode", if look.wal_mode { "wal" } else { "rollback" });
            judgement = self.tell_integrity(judgement, reading);
        }
        let warnings = self.warnings(reading);
        judgement = judgement.with("latency_ms", reading.took.as_secs_f64() * 1000.0);
        if !warnings.is_empty() {
            judgement = judgement.at_least(Status::Degraded).with("warning", warnings.join("; "));
        }
        match error {
            Some(error) => {
                judgement.at_least(Status::Critical).with("error", format!("{}: {error}", self.path.display()))
            }
            None => judgement,
        }
    }

    fn tell_integrity(&self, judgement: Judgement, reading: &Reading) -> Judgement {
        if self.integrity.is_none() {
            return judgement;
        }
        let (word, at) = match &reading.integrity {
            Some((Verdict::Damaged(_), at)) => ("damaged", Some(at)),
            Some((_, at)) => ("sound", Some(at)),
            None => ("unknown", None),
        };
        let judgement = judgement.with("integrity", word);
        let judgement = match at {
            Some(at) => judgement.with("integrity_checked_at", at.to_string()),
            None => judgement,
        };
        match &reading.note {
            Some(note) => judgement.with("integrity_note", format!("not checked anew: {note}")),
            None => judgement,
        }
    }

    fn warnings(&self, reading: &Reading) -> Vec<String> {
        let mut warnings = Vec::new();
        let (held_for, size) = (reading.held_for, reading.look.size + reading.look.wal_size.unwrap_or(0));
        if held_for >= self.locked_after {
            let held_for = rounded(held_for);
            match reading.look.held {
                Some(Held::Lock(Some(pid))) => {
                    warnings.push(format!("locked by process {pid} for {held_for} without a write"));
                }
                Some(Held::Lock(None)) => warnings.push(format!("locked for {held_for} without a write")),
                Some(Held::Journal) => warnings.push(format!(
                    "a write was interrupted, its journal has been there for {held_for}; the next program that opens the \
                     database undoes it"
                )),
                None => {}
            }
        }
        if let Some(pace) = self.integrity.filter(|_| reading.unfinished >= UNFINISHED_MAX) {
            warnings.push(format!(
                "its integrity could not be checked: {} tries in a row did not finish within {}; set a longer \
                 `integrity_timeout`, or `integrity: none`",
                reading.unfinished,
                rounded(pace.timeout)
            ));
        }
        if let Some(max) = self.max_size_bytes.filter(|max| size > *max) {
            warnings.push(format!("{size} bytes, expected at most {max}"));
        }
        if let Some(limit) = self.degraded_latency.filter(|limit| reading.took >= *limit) {
            let took = reading.took.as_millis();
            warnings.push(format!("answer took {took} ms, expected less than {limit:?}"));
        }
        warnings
    }
}

/// Where a path leads, as far as it exists; `.` and `..` of the rest are taken as they are written.
fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let mut plain = PathBuf::new();
    for part in std::path::absolute(path).as_deref().unwrap_or(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    let found = plain.ancestors().find_map(|above| {
        let real = above.canonicalize().ok()?;
        Some(real.join(plain.strip_prefix(above).ok()?))
    });
    found.unwrap_or(plain)
}

/// Refuses chiron's own journal: looking at it would cost its lock.
fn refuse_own(section: &Section<'_>, path: &Path, context: &BuildContext) -> bool {
    let own = context.own_files.iter().any(|own| real(own) == real(path));
    if own {
        section.reject("path", "expected a database of the platform's, this one is chiron's own", None);
    }
    own
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let path = params::path(section, "path", context);
    let missing = params::missing(section);
    let words = [("quick", Some(false)), ("full", Some(true)), ("none", None)];
    let integrity = section.word("integrity", &words).unwrap_or(Some(false));
    let defaults = Integrity::default();
    let every = params::span(section, "integrity_every").unwrap_or(defaults.every);
    let timeout = params::span(section, "integrity_timeout").unwrap_or(defaults.timeout);
    let max_size_bytes = params::whole(section, "max_size_bytes");
    let locked_after = params::span(section, "locked_after");
    let degraded_latency = params::span(section, "degraded_latency");
    let path = path.filter(|path| !refuse_own(section, path, context))?;
    let plain = SqliteParams::new(path);
    let integrity = integrity.map(|thorough| Integrity { thorough, every, timeout });
    let locked_after = locked_after.unwrap_or(plain.locked_after);
    let params = SqliteParams { missing, integrity, max_size_bytes, locked_after, degraded_latency, ..plain };
    Some(Arc::new(Sqlite::new(params, context.clock.clone())))
}

#[cfg(test)]
mod tests;
