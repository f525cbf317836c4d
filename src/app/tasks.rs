//! The only place that spawns long tasks. Every one of them has a name, and its end is always noticed.
//!
//! What a task must not take with it when it panics is lent to it: see [`Lent`].
#![expect(clippy::disallowed_methods, reason = "this is where tasks are spawned")]

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a named task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// Which.
    pub name: &'static str,
    /// Which of that name, counted over all.
    pub id: u64,
    /// It panicked.
    pub panicked: bool,
}

/// A long task that was spawned.
#[derive(Clone, Debug)]
pub struct Spawned {
    /// As in its [`TaskEnd`].
    pub id: u64,
    /// Ends it where it waits next, should it not end when it is told to.
    pub abort: AbortHandle,
}

/// Spawns tasks and tells of their ends. Cloning shares the set.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    next: Arc<AtomicU64>,
    ends: mpsc::Sender<TaskEnd>,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set, and where ends are told.
    pub fn new(stop: CancellationToken) -> (Self, mpsc::Receiver<TaskEnd>) {
        let (ends, told) = mpsc::channel(64);
        (Self { tracker: TaskTracker::new(), next: Arc::default(), ends, stop }, told)
    }

    /// Told to stop when this is cancelled.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a long task; its end is told whether it returns or panics.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> Spawned {
        let ends = self.ends.clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let running = self.tracker.spawn(task);
        let abort = running.abort_handle();
        self.tracker.spawn(async move {
            let panicked = running.await.is_err_and(|end| end.is_panic());
            // Nobody listens any more only when everything is being torn down.
            let _ = ends.send(TaskEnd { name, id, panicked }).await;
        });
        Spawned { id, abort }
    }

    /// Runs a short task whose end its own result tells.
    pub fn spawn_short(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Waits until every task has ended.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Something lent to a task, which is back at its home when the task ends, however it ends.
#[derive(Debug)]
pub struct Lent<T> {
    thing: Option<T>,
    home: Home<T>,
}

/// Where a thing that can be lent lies meanwhile.
#[derive(Debug)]
pub struct Home<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Home<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Home<T> {
    /// A home with the thing in it.
    pub fn new(thing: T) -> Self {
        Self(Arc::new(Mutex::new(Some(thing))))
    }

    /// Lends the thing; `None` while somebody has it.
    pub fn lend(&self) -> Option<Lent<T>> {
        let thing = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Lent { thing: Some(thing), home: self.clone() })
    }
}

impl<T> From<T> for Lent<T> {
    fn from(thing: T) -> Self {
        Self { thing: Some(thing), home: Home(Arc::default()) }
    }
}

impl<T> Deref for Lent<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.thing.as_ref().expect("it is given back only when it is dropped")
    }
}

impl<T> DerefMut for Lent<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.thing.as_mut().expect("it is given back only when it is dropped")
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = self.thing.take();
    }
}

/// Runs blocking work off the async threads. A panic in it is given on.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(end) => std::panic::resume_unwind(end.into_panic()),
    }
}
