//! The only reader of the clock; everything else takes the time as an argument or asks this.
#![expect(clippy::disallowed_methods, reason = "this is the clock")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::model::Timestamp;

/// Wall time and time since boot. Cloning shares the clock.
#[derive(Clone, Debug)]
pub struct Clock(Inner);

#[derive(Clone, Debug)]
enum Inner {
    System,
    Manual { wall: Arc<AtomicI64>, since_boot: Arc<AtomicI64> },
}

impl Clock {
    /// The machine's clock.
    pub const fn system() -> Self {
        Self(Inner::System)
    }

    /// A clock that stands still until it is advanced; for tests.
    pub fn manual(start: Timestamp) -> Self {
        Self(Inner::Manual {
            wall: Arc::new(AtomicI64::new(start.millis())),
            since_boot: Arc::new(AtomicI64::new(1_000_000)),
        })
    }

    /// Wall time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Inner::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
            }
            Inner::Manual { wall, .. } => Timestamp::from_millis(wall.load(Ordering::SeqCst)),
        }
    }

    /// Time since boot, suspended time included (CLOCK_BOOTTIME); never jumps.
    pub fn since_boot(&self) -> Duration {
        match &self.0 {
            Inner::System => {
                let spec = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                Duration::new(u64::try_from(spec.tv_sec).unwrap_or(0), u32::try_from(spec.tv_nsec).unwrap_or(0))
            }
            Inner::Manual { since_boot, .. } => {
                Duration::from_millis(u64::try_from(since_boot.load(Ordering::SeqCst)).unwrap_or(0))
            }
        }
    }

    /// Lets time pass on a manual clock; does nothing to the machine's.
    pub fn advance(&self, by: Duration) {
        if let Inner::Manual { wall, since_boot } = &self.0 {
            let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            wall.fetch_add(millis, Ordering::SeqCst);
            since_boot.fetch_add(millis, Ordering::SeqCst);
        }
    }

    /// Moves only the wall time of a manual clock, as an operator or NTP would.
    pub fn jump(&self, by_millis: i64) {
        if let Inner::Manual { wall, .. } = &self.0 {
            wall.fetch_add(by_millis, Ordering::SeqCst);
        }
    }
}
