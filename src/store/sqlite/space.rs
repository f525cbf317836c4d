//! How much room the file system has, and a ballast file that is given up when safety needs the last of it.
//!
//! **Invariant:** only `accept` is refused for want of room; what tightens is refused by the disk alone.
#![expect(clippy::disallowed_methods, reason = "this creates and removes the ballast file")]

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::base::clock::Clock;

/// What is kept free by default, unless a hundredth of the file system is less.
const RESERVE_DEFAULT: u64 = 16 << 20;
/// How long a look at the file system holds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The room around one journal.
#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    ballast: PathBuf,
    ballast_bytes: u64,
    /// `accept` is refused when less than this is free.
    pub(super) reserve: u64,
    clock: Clock,
    looked: Option<(Duration, u64)>,
}

/// Free and total bytes; `None` if the file system does not say.
fn room(folder: &Path) -> Option<(u64, u64)> {
    let stat = statvfs(folder).ok()?;
    Some((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}

impl Space {
    /// Around the journal `file`; `reserve` is in bytes, by default 16 MiB or a hundredth of the file system.
    pub(super) fn around(file: &Path, reserve: Option<u64>, ballast_bytes: u64, clock: Clock) -> Self {
        let folder = file.parent().unwrap_or(Path::new("/")).to_path_buf();
        let total = room(&folder).map_or(u64::MAX, |(_, total)| total);
        let reserve = reserve.unwrap_or_else(|| RESERVE_DEFAULT.min(total / 100));
        let ballast = file.with_extension("ballast");
        Self { folder, ballast, ballast_bytes, reserve, clock, looked: None }
    }

    /// Bytes that the write-ahead log may reach before it is checkpointed: 4 MiB, less on a tiny file system.
    pub(super) fn log_limit(&self) -> u64 {
        room(&self.folder).map_or(4 << 20, |(_, total)| (total / 16).clamp(64 << 10, 4 << 20))
    }

    /// Bytes missing to the reserve, if any. Looks at the file system at most once a second.
    pub(super) fn missing(&mut self) -> Option<u64> {
        let now = self.clock.since_boot();
        let free = match self.looked {
            Some((at, free)) if now.saturating_sub(at) < LOOK_EVERY => free,
            _ => {
                let free = room(&self.folder).map_or(u64::MAX, |(free, _)| free);
                self.looked = Some((now, free));
                free
            }
        };
        self.reserve.checked_sub(free).filter(|missing| *missing > 0)
    }

    /// Puts the ballast in place if it is absent and there is ample room; a failure is told and otherwise harmless.
    pub(super) fn load_ballast(&self) {
        let wanted = self.ballast_bytes;
        let ample = room(&self.folder).is_some_and(|(free, _)| free > self.reserve.saturating_add(2 * wanted));
        if wanted == 0 || !ample || self.ballast.exists() {
            return;
        }
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.ballast).and_then(|file| {
            fallocate(&file, FallocateFlags::empty(), 0, wanted).map_err(std::io::Error::from).or_else(|_| {
                std::io::copy(&mut std::io::Read::take(std::io::repeat(0xff), wanted), &mut &file).map(drop)
            })?;
            file.sync_all()
        });
        if let Err(error) = made {
            let _ = std::fs::remove_file(&self.ballast);
            tracing::warn!(path = %self.ballast.display(), %error, "no ballast beside the journal");
        }
    }

    /// Gives the ballast up. Returns whether there was one.
    pub(super) fn drop_ballast(&mut self) -> bool {
        self.looked = None;
        let freed = std::fs::remove_file(&self.ballast).is_ok();
        if freed {
            tracing::warn!(path = %self.ballast.display(), "the disk is full; ballast given up for a tightening");
        }
        freed
    }
}
