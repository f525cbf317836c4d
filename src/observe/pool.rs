//! A few threads for checks that block: cheap while files answer, replaced when one hangs.
//!
//! **Invariant:** at most [`MOST_THREADS`] threads, stuck ones included; every job ends in exactly one [`Done`] that is
//! not `Freed`.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::check::{AnyCheck, Judgement};
use super::resources::ResourceReader;
use crate::base::clock::Clock;
use crate::model::{Resources, Timestamp};

/// Threads that stay when there is nothing to do. Files in the page cache need no more.
const FEW_THREADS: usize = 2;
/// Threads in all. As many checks can hang before the others wait.
const MOST_THREADS: usize = 32;
/// A job that waits this long for a thread gets a new one.
const PATIENCE: Duration = Duration::from_millis(10);
/// A thread beyond the few ends after this time without work.
const LINGER: Duration = Duration::from_secs(30);
/// Results wait for company so that the runner wakes less often: until the queue is empty, or so many, or so long.
const BATCH: usize = 512;
const BATCH_WAIT: Duration = Duration::from_millis(2);
/// Jobs waiting that make a second thread worth waking.
const BACKLOG: usize = 32;

/// What a thread is to do.
#[derive(Clone)]
pub(super) enum Work {
    /// Read and judge.
    Check(Arc<dyn AnyCheck>),
    /// Read the host.
    Resources(Arc<Mutex<ResourceReader>>),
}

/// A unit of work; `index` and `seq` come back with its result.
pub(super) struct Job {
    pub(super) index: usize,
    pub(super) seq: u64,
    pub(super) work: Work,
    pub(super) limit: Duration,
}

/// How a job ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The check was read and judged.
    Judged(Judgement),
    /// The host was read.
    Resources(Resources),
    /// The check panicked or waited; the sentence says so.
    Broken(String),
    /// It was given up after its limit; its thread is stuck in it until `Freed` comes.
    Stuck,
    /// No thread took it within its limit.
    Starved,
    /// The thread that was stuck came back. What it brought is too old to be told.
    Freed,
}

/// A result.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) index: usize,
    pub(super) seq: u64,
    pub(super) began: Timestamp,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
}

/// What a thread is at.
struct Current {
    index: usize,
    seq: u64,
    began: Timestamp,
    since: Duration,
    limit: Duration,
}

struct Thread {
    id: u64,
    current: Option<Current>,
    abandoned: bool,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(Job, Duration)>,
    threads: Vec<Thread>,
    idle: usize,
    next_id: u64,
    done: Vec<Done>,
    first_done: Duration,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    results: Notify,
    clock: Clock,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool. Dropping it lets idle threads end and leaves stuck ones to themselves.
pub(super) struct Pool {
    shared: Arc<Shared>,
    outstanding: usize,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        state.jobs.clear();
        self.shared.work.notify_all();
    }
}

impl Pool {
    pub(super) fn new(clock: Clock) -> Self {
        let shared = Shared { state: Mutex::default(), work: Condvar::new(), results: Notify::new(), clock };
        Self { shared: Arc::new(shared), outstanding: 0 }
    }

    /// Jobs without a result yet.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Completes when there are results to collect.
    pub(super) async fn results(&self) {
        self.shared.results.notified().await;
    }

    /// Queues jobs and empties the vector.
    pub(super) fn submit(&mut self, jobs: &mut Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        self.outstanding += jobs.len();
        let now = self.shared.clock.since_boot();
        let mut state = self.shared.lock();
        state.jobs.extend(jobs.drain(..).map(|job| (job, now)));
        for _ in state.threads.len()..FEW_THREADS.min(state.jobs.len()) {
            start_thread(&self.shared, &mut state);
        }
        if state.idle > 0 {
            self.shared.work.notify_one();
        }
    }

    /// Takes the results there are, gives up what is stuck, and adds a thread where jobs wait for one.
    pub(super) fn collect(&mut self, into: &mut Vec<Done>) {
        if self.outstanding == 0 && into.is_empty() {
            // Only threads that come back late can have left something.
            into.append(&mut self.shared.lock().done);
            return;
        }
        let now = self.shared.clock.since_boot();
        let mut state = self.shared.lock();
        let mut done = std::mem::take(&mut state.done);
        for thread in state.threads.iter_mut().filter(|thread| !thread.abandoned) {
            if let Some(current) = &thread.current
                && now.saturating_sub(current.since) >= current.limit
            {
                thread.abandoned = true;
                done.push(Done {
                    index: current.index,
                    seq: current.seq,
                    began: current.began,
                    took: now.saturating_sub(current.since),
                    outcome: Outcome::Stuck,
                });
            }
        }
        while let Some((job, queued)) = state.jobs.front()
            && now.saturating_sub(*queued) >= job.limit
        {
            let took = now.saturating_sub(*queued);
            let (index, seq, began) = (job.index, job.seq, self.shared.clock.now().minus(took));
            done.push(Done { index, seq, began, took, outcome: Outcome::Starved });
            state.jobs.pop_front();
        }
        let waiting = state.jobs.front().is_some_and(|(_, queued)| now.saturating_sub(*queued) >= PATIENCE);
        let present = state.threads.iter().filter(|thread| !thread.abandoned).count();
        if state.idle == 0
            && state.threads.len() < MOST_THREADS
            && (waiting || (present == 0 && !state.jobs.is_empty()))
        {
            start_thread(&self.shared, &mut state);
        }
        drop(state);
        self.outstanding -= done.iter().filter(|done| !matches!(done.outcome, Outcome::Freed)).count();
        into.append(&mut done);
    }

    #[cfg(test)]
    pub(super) fn threads(&self) -> usize {
        self.shared.lock().threads.len()
    }
}

/// Starts a thread; if the system has none to give, the next collection tries again.
fn start_thread(shared: &Arc<Shared>, state: &mut State) {
    let id = state.next_id;
    state.next_id += 1;
    let own = Arc::clone(shared);
    let started = std::thread::Builder::new().name("chiron-check".to_owned()).spawn(move || work(&own, id));
    if started.is_ok() {
        state.threads.push(Thread { id, current: None, abandoned: false });
    }
}

/// The life of a thread: one lock between two jobs, for the result of the one and the start of the other.
fn work(shared: &Shared, id: u64) {
    let mut state = shared.lock();
    loop {
        if state.closed {
            return;
        }
        let Some((job, _)) = state.jobs.pop_front() else {
            state.idle += 1;
            let (woken, waited) = shared.work.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.jobs.is_empty() && state.threads.len() > FEW_THREADS {
                state.threads.retain(|thread| thread.id != id);
                return;
            }
            continue;
        };
        if state.jobs.len() >= BACKLOG && state.idle > 0 {
            shared.work.notify_one();
        }
        let since = shared.clock.since_boot();
        let began = shared.clock.now();
        let (index, seq, limit) = (job.index, job.seq, job.limit);
        if let Some(own) = state.threads.iter_mut().find(|thread| thread.id == id) {
            own.current = Some(Current { index, seq, began, since, limit });
        }
        drop(state);
        let outcome = perform(&job.work, &shared.clock);
        drop(job);
        let now = shared.clock.since_boot();
        state = shared.lock();
        let abandoned = match state.threads.iter_mut().find(|thread| thread.id == id) {
            Some(own) => {
                own.current = None;
                own.abandoned
            }
            None => true,
        };
        let outcome = if abandoned { Outcome::Freed } else { outcome };
        if state.done.is_empty() {
            state.first_done = now;
        }
        state.done.push(Done { index, seq, began, took: now.saturating_sub(since), outcome });
        let ripe =
            state.jobs.is_empty() || state.done.len() >= BATCH || now.saturating_sub(state.first_done) >= BATCH_WAIT;
        if ripe || abandoned {
            shared.results.notify_one();
        }
        if abandoned {
            state.threads.retain(|thread| thread.id != id);
            return;
        }
    }
}

fn perform(work: &Work, clock: &Clock) -> Outcome {
    let performed = catch_unwind(AssertUnwindSafe(|| match work {
        Work::Check(check) => {
            let mut read = pin!(check.read());
            match read.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(reading) => Outcome::Judged(check.judge(&reading, clock.now())),
                Poll::Pending => Outcome::Broken(format!("check waits: a blocking `{}` does not", check.kind())),
            }
        }
        Work::Resources(reader) => {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            Outcome::Resources(reader.read(clock.now()))
        }
    }));
    performed.unwrap_or_else(|panic| Outcome::Broken(panic_text(&*panic)))
}

/// The sentence for a check that panicked.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic.downcast_ref::<&str>().copied();
    let message = message.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("check panicked: {}", message.unwrap_or("no message"))
}
