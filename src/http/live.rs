//! Requests that last, long polls and streams: bounded in number, ended when chiron stops.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;

/// Long polls and streams at once; each holds a connection and little else.
pub(super) const WAITERS_MAX: usize = 256;

/// The places for them.
pub(super) struct Live {
    places: Arc<Semaphore>,
    /// Cancelled when the server stops, so that none holds up the stop.
    pub(super) ending: CancellationToken,
}

impl Default for Live {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(WAITERS_MAX)), ending: CancellationToken::new() }
    }
}

impl Live {
    /// A place, given back when it is dropped.
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let detail = format!("{WAITERS_MAX} long polls and streams are open; ask without `wait`, or later");
            Problem::unavailable(detail).coded("too_many_waiters")
        })
    }
}
