//! Requests that last, long polls and streams: bounded in number, in all and for each peer; ended when chiron stops.

use std::net::IpAddr;

use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::shares::{Share, Shares};

/// Long polls and streams at once; each holds a connection and little else.
pub(super) const WAITERS_MAX: usize = 256;

/// How many of them one peer may have.
pub(super) const WAITERS_PER_PEER: usize = 64;

/// The places for them.
pub(super) struct Live {
    places: Shares,
    /// Cancelled when the server stops, so that none holds up the stop.
    pub(super) ending: CancellationToken,
}

impl Default for Live {
    fn default() -> Self {
        Self { places: Shares::new(WAITERS_MAX, WAITERS_PER_PEER), ending: CancellationToken::new() }
    }
}

impl Live {
    /// A place, given back when it is dropped.
    pub(super) fn enter(&self, peer: IpAddr) -> Result<Share, Problem> {
        self.places.try_enter(peer).ok_or_else(|| {
            let detail = format!(
                "{WAITERS_MAX} long polls and streams are open, or {WAITERS_PER_PEER} from your address; ask without \
                 `wait`, or later"
            );
            Problem::overloaded(detail).coded("too_many_waiters")
        })
    }
}
