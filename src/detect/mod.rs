//! Stage 2: facts to issues.

use std::time::Duration;

/// Limits of detection.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Unrunnable or critical checks in a row that count (OBS-1); default 3, at least 1.
    pub max_consecutive_failures: u32,
    /// How long a subsystem that nothing may heal stays critical before it is failed; default 5 min.
    pub failed_after: Duration,
    /// Host CPU above this is an issue, 0 to 100; default 90.
    pub max_cpu_percent: f64,
    /// Host memory above this is an issue, 0 to 100; default 85.
    pub max_memory_percent: f64,
    /// Disk use above this is a critical issue, 0 to 100; default 90.
    pub max_disk_percent: f64,
    /// An episode that opened this often within `flap_window` is flapping; default 3, at least 2.
    pub flap_openings: u32,
    /// See `flap_openings`; default 10 min.
    pub flap_window: Duration,
    /// A flapping episode is resolved only after this long without a word of it; default 5 min.
    pub flap_hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_consecutive_failures: 3,
            failed_after: Duration::from_secs(300),
            max_cpu_percent: 90.0,
            max_memory_percent: 85.0,
            max_disk_percent: 90.0,
            flap_openings: 3,
            flap_window: Duration::from_secs(600),
            flap_hold: Duration::from_secs(300),
        }
    }
}
