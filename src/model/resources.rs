//! What the host has left (OBS-4).

use serde::{Deserialize, Serialize};

use super::{Name, Timestamp};

/// One path's file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskUse {
    /// The path as configured.
    pub path: Name,
    /// Bytes in all.
    pub size_bytes: u64,
    /// Bytes free to us.
    pub available_bytes: u64,
    /// Inodes in all; 0 if the file system has no such limit.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

impl DiskUse {
    /// Share of the space in use, 0 to 100, as `df` computes it (used / (used + available)).
    #[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
    pub fn used_percent(&self) -> f64 {
        if self.size_bytes == 0 {
            return 0.0;
        }
        100.0 * (1.0 - self.available_bytes as f64 / self.size_bytes as f64)
    }
}

/// One reading of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// When it was read.
    pub timestamp: Timestamp,
    /// Host CPU in use over the last interval, 0 to 100.
    pub cpu_percent: f64,
    /// Host memory in use (total minus available), 0 to 100.
    pub memory_percent: f64,
    /// Host memory in use, bytes.
    pub memory_used_bytes: u64,
    /// Host memory in all, bytes.
    pub memory_total_bytes: u64,
    /// Each watched path.
    pub disks: Vec<DiskUse>,
    /// Files open on the host.
    pub open_files: u64,
    /// TCP connections established on the host.
    pub connections: u64,
    /// Threads on the host.
    pub threads: u64,
}
