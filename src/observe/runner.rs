//! Runs every check on its schedule, each within its time, and hands on what they found (OBS-5).
//!
//! In: [`ScheduledCheck`]s and hints to check something now. Out: batches of [`Observation`]s.
//! **Invariant:** a check never runs twice at once; a hung, slow or panicking one delays no other and is reported as
//! one that cannot be run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::{Permit, Sender};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Observation;
use super::check::{AnyCheck, Judgement, ScheduledCheck, Wake};
use super::pace::Pace;
use super::pool::{Done, Job, Outcome, Pool, Work, panic_text};
use super::resources::ResourceReader;
use super::watch::{Changed, Watcher};
use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::base::redact;
use crate::model::{Health, Status, Timestamp};
use crate::telemetry::{Progress, Watching};

/// With fewer checks than this all run at once at the start, so that the first report is complete soon.
const AT_ONCE: usize = 100;
/// Due times lie on a grid, so that many checks share a wake-up, which costs more than a look at a file. Checks that wait
/// for others are spread finer, so that not too many connections are opened at once.
const GRID: Duration = Duration::from_millis(10);
/// The same for checks that block: a tenth of the interval, at most this.
const GRID_BLOCKING: Duration = Duration::from_millis(100);
/// How often running blocking checks are looked after.
const SWEEP: Duration = Duration::from_millis(10);
/// The schedule is looked at this often at least, so that whoever watches sees that it is.
const TURN: Duration = Duration::from_secs(1);
/// The pause before what a check keeps going is begun anew.
const SESSION_PAUSE: Duration = Duration::from_secs(1);
/// Later than any check is due.
const PAST_ALL: Duration = Duration::from_secs(1 << 32);
/// A reading of the host that takes longer is given up.
const RESOURCE_LIMIT: Duration = Duration::from_secs(10);

/// Asks the runner for checks outside their schedule.
#[derive(Clone, Debug)]
pub struct RunnerHandle(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    wishes: Mutex<Wishes>,
    wake: Notify,
    total: usize,
}

#[derive(Debug, Default)]
struct Wishes {
    /// Each index at most once: `listed` says which.
    indices: Vec<usize>,
    listed: Vec<bool>,
    all: Vec<oneshot::Sender<()>>,
    /// The runner has ended.
    closed: bool,
}

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RunnerHandle {
    /// Has one check run now, by its index in the list given to [`Runner::new`]. If it is running, it runs again after.
    pub fn force(&self, index: usize) {
        if index >= self.0.total {
            return;
        }
        let mut wishes = self.0.lock();
        if wishes.closed || std::mem::replace(&mut wishes.listed[index], true) {
            return;
        }
        wishes.indices.push(index);
        drop(wishes);
        self.0.wake.notify_one();
    }

    /// Has every check and the host read now. Returns when each has completed once since this call and been sent, or
    /// when the runner ends.
    pub async fn force_all(&self) {
        let (told, all) = oneshot::channel();
        {
            let mut wishes = self.0.lock();
            if wishes.closed {
                return;
            }
            wishes.all.push(told);
        }
        self.0.wake.notify_one();
        // An error means that the runner has ended.
        let _ = all.await;
    }

    /// How many checks there are.
    pub fn checks_total(&self) -> usize {
        self.0.total
    }
}

/// Lets go of whoever waits when the runner ends, however it ends.
#[derive(Debug)]
struct Closer(Arc<Asked>);

impl Drop for Closer {
    fn drop(&mut self) {
        let mut wishes = self.0.lock();
        wishes.closed = true;
        wishes.all.clear();
        wishes.indices.clear();
    }
}

/// One check, or the host, and where it stands.
struct Entry {
    work: Work,
    /// `None` for the host.
    scheduled: Option<ScheduledCheck>,
    interval: Duration,
    limit: Duration,
    blocking: bool,
    /// When it is due by its schedule.
    due: Instant,
    /// When it is looked at next if nothing changes, and when the timer rings for it.
    next: Instant,
    armed: Instant,
    /// What changed of its files.
    pace: Pace,
    /// Its newest entry in the timer; older ones are void.
    generation: u32,
    /// The number of the run under way.
    running: Option<u64>,
    /// It was asked for while it ran.
    again: bool,
    /// A thread hangs in it.
    stuck: bool,
}

impl Entry {
    /// Moves the due time past `now` by whole intervals, so that nothing drifts.
    fn skip_past(&mut self, now: Instant) {
        if self.due <= now {
            let missed = now.duration_since(self.due).as_nanos() / self.interval.as_nanos();
            self.due += self.interval * u32::try_from(missed + 1).unwrap_or(u32::MAX);
        }
    }
}

/// Somebody waiting for all checks.
struct Waiter {
    /// Runs up to this number began before the call.
    since: u64,
    waits: Vec<bool>,
    left: usize,
    told: oneshot::Sender<()>,
}

/// A result ready to be sent.
struct Ready {
    index: usize,
    seq: u64,
    observation: Option<Observation>,
}

/// The schedule and everything under way.
pub struct Runner {
    entries: Vec<Entry>,
    timer: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    seq: u64,
    pool: Pool,
    jobs: Vec<Job>,
    tasks: JoinSet<Done>,
    /// What checks keep going between their readings; each ends with its index.
    sessions: JoinSet<usize>,
    ready: Vec<Ready>,
    waiters: Vec<Waiter>,
    clock: Clock,
    seed: u64,
    progress: Option<Progress>,
    /// chiron's own files, and where to tell of the watching; without it nothing is watched.
    watching: Option<(Arc<Vec<PathBuf>>, Watching)>,
    watcher: Option<Watcher>,
    asked: Arc<Asked>,
    /// Last, so that waiting callers are let go after everything else is gone.
    _closer: Closer,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("checks", &self.asked.total).finish_non_exhaustive()
    }
}

impl Runner {
    /// A runner of `checks`, whose order gives the indices of the observations. `seed` decides how they spread.
    pub fn new(
        checks: Vec<ScheduledCheck>,
        resources: ResourceReader,
        resource_interval: Duration,
        clock: Clock,
        seed: u64,
    ) -> (Self, RunnerHandle) {
        let total = checks.len();
        let asked = Arc::new(Asked { wishes: Mutex::default(), wake: Notify::new(), total });
        let handle = RunnerHandle(asked);
        (Self::anew(checks, resources, resource_interval, clock, seed, &handle), handle)
    }

    /// A runner of the same checks in the place of one that has ended: who has its handle need not know.
    pub fn anew(
        checks: Vec<ScheduledCheck>,
        resources: ResourceReader,
        resource_interval: Duration,
        clock: Clock,
        seed: u64,
        handle: &RunnerHandle,
    ) -> Self {
        let asked = Arc::clone(&handle.0);
        *asked.lock() = Wishes { listed: vec![false; asked.total], ..Wishes::default() };
        let entry = |work, scheduled, interval: Duration, limit, blocking| Entry {
            work,
            scheduled,
            interval: interval.max(Duration::from_millis(1)),
            limit,
            blocking,
            // Given by `run`, whose beginning is the schedule's.
            due: Instant::now(),
            next: Instant::now(),
            armed: Instant::now(),
            pace: Pace::default(),
            generation: 0,
            running: None,
            again: false,
            stuck: false,
        };
        let mut entries: Vec<Entry> = checks
            .into_iter()
            .map(|scheduled| {
                let limit = scheduled.timeout;
                let (check, blocking) = (Arc::clone(&scheduled.check), scheduled.check.blocking());
                let interval = scheduled.interval;
                entry(Work::Check(check), Some(scheduled), interval, limit, blocking)
            })
            .collect();
        let host = Work::Resources(Arc::new(Mutex::new(resources)));
        entries.push(entry(host, None, resource_interval, RESOURCE_LIMIT, true));
        Self {
            entries,
            timer: BinaryHeap::new(),
            seq: 0,
            pool: Pool::new(clock.clone()),
            jobs: Vec::new(),
            tasks: JoinSet::new(),
            sessions: JoinSet::new(),
            ready: Vec::new(),
            waiters: Vec::new(),
            clock,
            seed,
            progress: None,
            watching: None,
            watcher: None,
            _closer: Closer(Arc::clone(&asked)),
            asked,
        }
    }

    /// Tells there, at least every [`TURN`], that it gets on.
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Looks at checks whose files change at once; changes of `own_files` do not count.
    pub fn with_watching(mut self, own_files: Arc<Vec<PathBuf>>, counts: Watching) -> Self {
        self.watching = Some((own_files, counts));
        self
    }

    /// Runs until `stop` or until nobody receives any more; what is under way is then dropped.
    pub async fn run(mut self, out: Sender<Vec<Observation>>, stop: CancellationToken) {
        self.plan(Instant::now());
        (0..self.asked.total).for_each(|index| self.begin_session(index));
        if let Some((own_files, counts)) = self.watching.take() {
            let checks = self.entries.iter().filter_map(|entry| entry.scheduled.as_ref());
            self.watcher = Watcher::new(checks, &own_files, counts);
        }
        let asked = Arc::clone(&self.asked);
        let mut timer = std::pin::pin!(sleep_until(Instant::now()));
        loop {
            failpoint::pass_task("checks.turn").await;
            if let Some(progress) = &self.progress {
                progress.beat();
            }
            self.collect();
            self.take_wishes();
            self.start_due(Instant::now());
            self.pool.submit(&mut self.jobs);
            let wake = self.next_wake();
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                permit = out.reserve(), if !self.ready.is_empty() => match permit {
                    Ok(permit) => self.send(permit),
                    Err(_) => break,
                },
                () = asked.wake.notified() => {}
                () = self.pool.results() => {}
                changes = changes(&mut self.watcher) => self.take_changes(&changes),
                Some(joined) = self.tasks.join_next(), if !self.tasks.is_empty() => self.take_joined(joined),
                Some(Ok(index)) = self.sessions.join_next(), if !self.sessions.is_empty() => self.begin_session(index),
                () = &mut timer => {}
            }
        }
    }

    /// Gives every check its first and second due time.
    fn plan(&mut self, start: Instant) {
        let at_once = self.asked.total < AT_ONCE;
        let mut random = self.seed;
        for index in 0..self.entries.len() {
            let entry = &mut self.entries[index];
            let coarse = if entry.blocking { (entry.interval / 10).min(GRID_BLOCKING) } else { GRID };
            let offset = spread(&mut random, entry.interval, coarse.max(GRID));
            let first = if at_once || entry.scheduled.is_none() { start } else { start + offset };
            // After a first round at once the second one spreads, within one interval.
            entry.due = if first == start { start + offset } else { first };
            entry.generation += 1;
            (entry.next, entry.armed) = (first, first);
            self.timer.push(Reverse((first, index, entry.generation)));
        }
    }

    fn take_changes(&mut self, changes: &[Changed]) {
        let now = Instant::now();
        for Changed { check, settled, gap } in changes {
            let entry = &mut self.entries[*check];
            // A thread that hangs in it does so with every change.
            if !entry.stuck {
                entry.pace.changed(now, *settled, *gap, entry.interval);
                self.arm(*check);
            }
        }
    }

    /// Sets the timer of a check that does not run to when it is looked at next.
    fn arm(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        let at = entry.pace.due().map_or(entry.next, |due| due.min(entry.next));
        if entry.running.is_none() && at < entry.armed {
            entry.armed = at;
            entry.generation = entry.generation.wrapping_add(1);
            self.timer.push(Reverse((at, index, entry.generation)));
        }
    }

    /// Begins what a check keeps going, if it does. It should never end; if it does all the same, it is begun anew, not at once.
    fn begin_session(&mut self, index: usize) {
        let Work::Check(check) = &self.entries[index].work else { return };
        let handle = RunnerHandle(Arc::clone(&self.asked));
        let Some(session) = check.session(Wake::new(move || handle.force(index))) else { return };
        self.sessions.spawn(async move {
            if AssertUnwindSafe(session).catch_unwind().await.is_err() {
                tracing::error!(index, "what a check keeps going has panicked; it is begun anew");
            }
            tokio::time::sleep(SESSION_PAUSE).await;
            index
        });
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let due = self.timer.peek().map_or(now + TURN, |Reverse((due, ..))| (*due).min(now + TURN));
        if self.pool.outstanding() > 0 { due.min(now + SWEEP) } else { due }
    }

    fn start_due(&mut self, now: Instant) {
        while let Some(Reverse((due, index, generation))) = self.timer.peek().copied()
            && due <= now
        {
            self.timer.pop();
            let entry = &mut self.entries[index];
            if entry.generation != generation || entry.running.is_some() {
                continue;
            }
            if entry.next <= now || entry.pace.due().is_some_and(|due| due <= now) {
                self.begin(index, now);
            } else {
                // Somebody is at its files still, so that it is looked at later than it seemed.
                entry.armed = now + PAST_ALL;
                self.arm(index);
            }
        }
    }

    /// Starts a check that is not running.
    fn begin(&mut self, index: usize, now: Instant) {
        self.seq += 1;
        let seq = self.seq;
        let entry = &mut self.entries[index];
        entry.running = Some(seq);
        entry.again = false;
        entry.pace.begins(now);
        entry.skip_past(now);
        if entry.stuck {
            // One thread hangs in it already; a second would hang too.
            let began = self.clock.now();
            self.finish(Done { index, seq, began, took: Duration::ZERO, outcome: Outcome::Stuck });
            return;
        }
        let limit = entry.limit;
        match &entry.work {
            Work::Check(check) if !entry.blocking => {
                let (check, clock) = (Arc::clone(check), self.clock.clone());
                self.tasks.spawn(ask(check, clock, index, seq, limit));
            }
            work => self.jobs.push(Job { index, seq, work: work.clone(), limit }),
        }
    }

    fn collect(&mut self) {
        let mut done = Vec::new();
        self.pool.collect(&mut done);
        for done in done {
            self.finish(done);
        }
        while let Some(joined) = self.tasks.try_join_next() {
            self.take_joined(joined);
        }
    }

    fn take_joined(&mut self, joined: Result<Done, tokio::task::JoinError>) {
        // Panics are caught within the task, and only dropping the runner aborts one.
        if let Ok(done) = joined {
            self.finish(done);
        }
    }

    fn take_wishes(&mut self) {
        let (indices, all) = {
            let mut wishes = self.asked.lock();
            wishes.all.retain(|told| !told.is_closed());
            if wishes.indices.is_empty() && wishes.all.is_empty() {
                return;
            }
            wishes.listed.fill(false);
            (std::mem::take(&mut wishes.indices), std::mem::take(&mut wishes.all))
        };
        let now = Instant::now();
        for index in indices {
            self.wish(index, now);
        }
        if all.is_empty() {
            return;
        }
        let since = self.seq;
        let waits = vec![true; self.entries.len()];
        for told in all {
            self.waiters.push(Waiter { since, left: waits.len(), waits: waits.clone(), told });
        }
        for index in 0..self.entries.len() {
            self.wish(index, now);
        }
    }

    fn wish(&mut self, index: usize, now: Instant) {
        if self.entries[index].running.is_some() {
            self.entries[index].again = true;
        } else {
            self.begin(index, now);
        }
    }

    /// Takes the end of a run: keeps what it found to be sent, and plans the next one.
    fn finish(&mut self, done: Done) {
        let Done { index, seq, began, took, outcome } = done;
        let entry = &mut self.entries[index];
        if matches!(outcome, Outcome::Freed) {
            entry.stuck = false;
            return;
        }
        if entry.running != Some(seq) {
            return;
        }
        entry.running = None;
        let healthy = matches!(&outcome, Outcome::Judged(judgement) if judgement.status == Status::Healthy);
        entry.pace.ended(took, healthy);
        let (again, limit) = (entry.again, entry.limit);
        let mut stuck = false;
        let observed = match outcome {
            Outcome::Judged(judgement) => Some(Ok(judgement)),
            Outcome::Resources(resources) => Some(Err(resources)),
            Outcome::Broken(error) => Some(Ok(Judgement::unrunnable(error))),
            Outcome::Stuck => {
                stuck = true;
                Some(Ok(Judgement::unrunnable(format!("no answer within {limit:?}"))))
            }
            Outcome::Starved => {
                Some(Ok(Judgement::unrunnable(format!("no thread was free within {limit:?}: other checks hang"))))
            }
            Outcome::Freed => None,
        };
        entry.stuck = stuck && entry.blocking;
        let next_change = match &observed {
            Some(Ok(judgement)) => judgement.next_change_at,
            _ => None,
        };
        let observation = match (observed, &entry.scheduled) {
            (Some(Ok(judgement)), Some(scheduled)) => {
                Some(Observation::Health { index, health: health(scheduled, judgement, began, took) })
            }
            (Some(Ok(judgement)), None) => {
                tracing::warn!(error = ?judgement.details.get("error"), "the host's resources cannot be read");
                None
            }
            (Some(Err(resources)), _) => Some(Observation::Resources(resources)),
            (None, _) => None,
        };
        self.ready.push(Ready { index, seq, observation });
        self.plan_next(index, next_change);
        if again {
            self.begin(index, Instant::now());
        }
        self.bound_ready();
    }

    /// Sets the timer of a check to its due time, or to the moment its grade changes if that is sooner.
    fn plan_next(&mut self, index: usize, next_change: Option<Timestamp>) {
        let now = Instant::now();
        let entry = &mut self.entries[index];
        // A run longer than its interval has missed turns.
        entry.skip_past(now);
        let mut at = entry.due;
        if let Some(change) = next_change {
            // A millisecond at least, so that a moment which has just come does not spin.
            let wait = change.since(self.clock.now()).max(Duration::from_millis(1));
            at = now.checked_add(wait).map_or(at, |moment| at.min(moment));
        }
        entry.next = at;
        entry.armed = now + PAST_ALL;
        self.arm(index);
    }

    /// While nobody receives, only the newest result of each check is kept.
    fn bound_ready(&mut self) {
        if self.ready.len() <= 4 * self.entries.len() + 64 {
            return;
        }
        let mut newest = vec![0; self.entries.len()];
        for ready in &self.ready {
            newest[ready.index] = ready.seq.max(newest[ready.index]);
        }
        self.ready.retain(|ready| newest[ready.index] == ready.seq);
    }

    fn send(&mut self, permit: Permit<'_, Vec<Observation>>) {
        let mut batch = Vec::with_capacity(self.ready.len());
        let mut sent = Vec::with_capacity(self.ready.len());
        for ready in self.ready.drain(..) {
            sent.push((ready.index, ready.seq));
            batch.extend(ready.observation);
        }
        if !batch.is_empty() {
            permit.send(batch);
        }
        if self.waiters.is_empty() {
            return;
        }
        for waiter in &mut self.waiters {
            for (index, seq) in &sent {
                if *seq > waiter.since && std::mem::replace(&mut waiter.waits[*index], false) {
                    waiter.left -= 1;
                }
            }
        }
        for waiter in std::mem::take(&mut self.waiters) {
            if waiter.left == 0 {
                // Whoever asked may have gone.
                let _ = waiter.told.send(());
            } else if !waiter.told.is_closed() {
                self.waiters.push(waiter);
            }
        }
    }
}

/// What changed; never returns where nothing is watched.
async fn changes(watcher: &mut Option<Watcher>) -> Vec<Changed> {
    match watcher {
        Some(watcher) => watcher.changes().await,
        None => std::future::pending().await,
    }
}

fn health(scheduled: &ScheduledCheck, mut judgement: Judgement, began: Timestamp, took: Duration) -> Health {
    // What a plugin prints or a server answers may repeat a credential.
    judgement.details.values_mut().for_each(redact::value);
    Health {
        subsystem: scheduled.subsystem.clone(),
        status: judgement.status,
        timestamp: began,
        response_time_ms: (took.as_secs_f64() * 1e6).round() / 1e3,
        error_count: 0,
        details: judgement.details,
        perfdata: judgement.perfdata,
        unrunnable: judgement.unrunnable,
        signals: judgement.signals,
    }
}

/// Runs a check that waits rather than blocks.
async fn ask(check: Arc<dyn AnyCheck>, clock: Clock, index: usize, seq: u64, limit: Duration) -> Done {
    let (began, since) = (clock.now(), clock.since_boot());
    let reading = timeout(limit, async {
        let read = catch_unwind(AssertUnwindSafe(|| check.read()));
        let mut read = read.map_err(|panic| panic_text(&*panic))?;
        std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| read.as_mut().poll(context))) {
            Ok(Poll::Ready(reading)) => Poll::Ready(Ok(reading)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic_text(&*panic))),
        })
        .await
    })
    .await;
    let outcome = match reading {
        Ok(Ok(reading)) => match catch_unwind(AssertUnwindSafe(|| check.judge(&reading, clock.now()))) {
            Ok(judgement) => Outcome::Judged(judgement),
            Err(panic) => Outcome::Broken(panic_text(&*panic)),
        },
        Ok(Err(panic)) => Outcome::Broken(panic),
        Err(_) => Outcome::Stuck,
    };
    Done { index, seq, began, took: clock.since_boot().saturating_sub(since), outcome }
}

/// A moment within `(0, interval]`, on the grid where the interval allows it.
fn spread(random: &mut u64, interval: Duration, grid: Duration) -> Duration {
    // SplitMix64: every seed gives a good sequence, and no dependency is needed.
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let grid = grid.as_nanos().min(interval.as_nanos());
    let steps = (interval.as_nanos() / grid).max(1);
    let step = u128::from(mixed) % steps + 1;
    Duration::from_nanos(u64::try_from(step * grid).unwrap_or(u64::MAX)).min(interval)
}

#[cfg(test)]
mod tests;
