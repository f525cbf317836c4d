//! The only place that spawns long tasks. Every one of them has a name, and its end is always noticed.
#![expect(clippy::disallowed_methods, reason = "this is where tasks are spawned")]

use std::future::Future;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a named task ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskEnd {
    /// Which.
    pub name: &'static str,
    /// It panicked.
    pub panicked: bool,
}

/// Spawns tasks and tells of their ends. Cloning shares the set.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    ends: mpsc::Sender<TaskEnd>,
    stop: CancellationToken,
}

impl Tasks {
    /// An empty set, and where ends are told.
    pub fn new(stop: CancellationToken) -> (Self, mpsc::Receiver<TaskEnd>) {
        let (ends, told) = mpsc::channel(64);
        (Self { tracker: TaskTracker::new(), ends, stop }, told)
    }

    /// Told to stop when this is cancelled.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs a long task; its end is told whether it returns or panics.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let ends = self.ends.clone();
        let running = self.tracker.spawn(task);
        self.tracker.spawn(async move {
            let panicked = running.await.is_err_and(|end| end.is_panic());
            // Nobody listens any more only when everything is being torn down.
            let _ = ends.send(TaskEnd { name, panicked }).await;
        });
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

/// Runs blocking work off the async threads. A panic in it is given on.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(end) => std::panic::resume_unwind(end.into_panic()),
    }
}
