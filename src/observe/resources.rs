//! Readings of the host (OBS-4): memory by `sysinfo`, the rest from `/proc` and the file systems.
//!
//! **Invariant:** what cannot be read stays at zero and is left out of `disks`; a reading never fails as a whole.

use std::path::{Path, PathBuf};

use crate::base::failpoint;
use crate::base::files;
use crate::model::{DiskUse, Name, Resources, Timestamp};

/// Files of `/proc` read here are a few kilobytes; `stat` grows with the number of interrupts.
const MAX_BYTES: u64 = 1024 * 1024;

/// A CPU share over fewer ticks than this, of all cores together, says nothing: one tick of 10 ms could be 100 %.
const LEAST_TICKS: u64 = 50;

/// Reads the host's resources; remembers the CPU times of the reading before.
#[derive(Debug)]
pub struct ResourceReader {
    paths: Vec<PathBuf>,
    root: PathBuf,
    cpu: CpuTimes,
    cpu_percent: f64,
    /// `None` where the platform does not tell.
    system: Option<sysinfo::System>,
}

impl ResourceReader {
    /// A reader of the host and of the file systems that hold `paths`. CPU use is measured from here on; until enough
    /// of it has passed, the mean since boot stands in.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self::below(PathBuf::from("/proc"), paths)
    }

    fn below(root: PathBuf, paths: Vec<PathBuf>) -> Self {
        let cpu = cpu_times(&text(&root, "stat"));
        Self { paths, root, cpu_percent: cpu.percent(), cpu, system: sysinfo::System::new().ok() }
    }

    /// Reads everything. Blocks, for microseconds unless a file system hangs.
    pub fn read(&mut self, now: Timestamp) -> Resources {
        let cpu = cpu_times(&text(&self.root, "stat"));
        let since =
            CpuTimes { busy: cpu.busy.saturating_sub(self.cpu.busy), total: cpu.total.saturating_sub(self.cpu.total) };
        if since.total >= LEAST_TICKS {
            self.cpu_percent = since.percent();
            self.cpu = cpu;
        }
        let (total, available) = self.system.as_mut().map_or((0, 0), |system| {
            system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::nothing().with_ram());
            (system.total_memory(), system.available_memory())
        });
        let used = total.saturating_sub(available);
        let connections = established(&text(&self.root, "net/snmp"));
        Resources {
            timestamp: now,
            cpu_percent: self.cpu_percent,
            memory_percent: failpoint::injected_memory_percent().unwrap_or_else(|| percent(used, total)),
            memory_used_bytes: used,
            memory_total_bytes: total,
            disks: self.paths.iter().filter_map(|path| disk(path)).collect(),
            open_files: first_number(&text(&self.root, "sys/fs/file-nr")),
            connections,
            threads: threads(&text(&self.root, "loadavg")),
        }
    }
}

fn text(root: &Path, name: &str) -> String {
    let read = files::read_start(&root.join(name), MAX_BYTES);
    read.map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    total: u64,
}

impl CpuTimes {
    fn percent(self) -> f64 {
        percent(self.busy, self.total)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; guest times are within
/// user's. Waiting for a disk is not work; time stolen by the hypervisor is not ours to count as idle.
fn cpu_times(stat: &str) -> CpuTimes {
    let line = stat.lines().next().and_then(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let times: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let total = times.iter().sum();
    let idle: u64 = times.iter().skip(3).take(2).sum();
    CpuTimes { busy: total - idle, total }
}

fn first_number(text: &str) -> u64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// `CurrEstab` of `/proc/net/snmp`: established TCP connections, IPv6 included; costs nothing per connection.
fn established(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let column = names.split_ascii_whitespace().position(|name| name == "CurrEstab");
    column.and_then(|column| values.split_ascii_whitespace().nth(column)?.parse().ok()).unwrap_or(0)
}

/// The number after the slash in `/proc/loadavg`.
fn threads(loadavg: &str) -> u64 {
    let counts = loadavg.split_ascii_whitespace().nth(3).and_then(|counts| counts.split_once('/'));
    counts.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

/// Sizes as `df` counts them: what is reserved for root is neither used nor available, so it is left out of the size.
pub(super) fn disk(path: &Path) -> Option<DiskUse> {
    let found = rustix::fs::statvfs(path).ok()?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    Some(DiskUse {
        path: Name::from(path.to_string_lossy().into_owned()),
        size_bytes: used.saturating_add(found.f_bavail).saturating_mul(found.f_frsize),
        available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
        inodes: found.f_files,
        inodes_free: found.f_ffree,
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]
mod tests {
    use super::*;

    /// OBS-4: this host gives plausible figures for everything.
    #[test]
    fn this_host() {
        let mut reader = ResourceReader::new(vec!["/".into(), "/nonexistent".into()]);
        let found = reader.read(Timestamp::from_millis(7));
        assert_eq!(found.timestamp, Timestamp::from_millis(7));
        assert!((0.0..=100.0).contains(&found.cpu_percent) && (0.1..=100.0).contains(&found.memory_percent));
        assert!(found.memory_used_bytes < found.memory_total_bytes);
        assert!(found.open_files > 0 && found.threads > 1);
        assert_eq!(found.disks.len(), 1);
        assert!((0.0..=100.0).contains(&found.disks[0].used_percent()));
    }

    #[test]
    fn cpu_is_the_share_between_two_readings() {
        let folder = tempfile::tempdir().unwrap();
        let stat = |busy: u64, idle: u64| {
            std::fs::write(folder.path().join("stat"), format!("cpu  {busy} 0 0 {idle} 0 0 0 0 9 9\ncpu0 1\n"))
                .unwrap();
        };
        stat(100, 300);
        let mut reader = ResourceReader::below(folder.path().into(), Vec::new());
        let mut read = || reader.read(Timestamp::EPOCH).cpu_percent;
        let is = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        is(read(), 25.0);
        stat(110, 300);
        // Ten busy ticks are not yet 100 %.
        is(read(), 25.0);
        stat(190, 310);
        is(read(), 90.0);
        stat(190, 410);
        is(read(), 0.0);
        std::fs::write(folder.path().join("stat"), "nonsense").unwrap();
        is(read(), 0.0);
    }

    #[test]
    fn parts_of_proc() {
        assert_eq!(cpu_times("cpu  1 2 3 4 5 6 7 8 9 10"), CpuTimes { busy: 27, total: 36 });
        assert_eq!(cpu_times(""), CpuTimes::default());
        assert_eq!(established("Ip: x\nTcp: A CurrEstab B\nTcp: 1 42 3\nUdp: y\n"), 42);
        assert_eq!(established("Tcp: A B\nTcp: 1 2\n"), 0);
        assert_eq!((threads("0.1 0.2 0.3 2/345 678"), threads("x")), (345, 0));
        assert_eq!((first_number("1824\t0\t9223"), first_number("")), (1824, 0));
    }
}
