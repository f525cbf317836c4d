//! A watched disk is nearly full, in space or inodes (OBS-4).

use crate::model::{DiskUse, Severity, Timestamp};

use super::super::{RuleSpec, Settings, Subject, Verdict};
use super::host_issue;

/// See the doc page.
pub(super) const SPEC: RuleSpec = RuleSpec {
    kind: "disk_pressure",
    doc: "\
# disk_pressure

## Raised when
A watched path's file system is used above `thresholds.max_disk_percent` (90), in space or in inodes. Severity `critical`.

## Cleared when
Every watched path is at the limit or below.

## Why it matters
State files are cut short, databases stop, and chiron itself cannot journal: alerts are then refused and nothing is acted upon.

## Ladder
`clear_cache`, `reduce_memory`, `switch_to_safe_profile`. It does not count as impacting trading by itself: open positions
are not closed because a disk fills.

## False alarms
A small file system that is meant to be full; name other paths under `disks`.
",
    evaluate,
};

fn evaluate(subject: Subject<'_>, settings: &Settings, now: Timestamp) -> Verdict {
    let Subject::Host { resources, all } = subject else { return Verdict::Unknown };
    let worst = resources
        .disks
        .iter()
        .flat_map(|disk| [(disk, disk.used_percent(), "space"), (disk, inodes_used_percent(disk), "inodes")])
        .filter(|(_, used, _)| *used > settings.max_disk_percent)
        .map(|(disk, used, what)| (&disk.path, used, what))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let issue = worst.map(|(path, used, what)| {
        let description = format!("Disk usage critically high: {used:.1}% of {what} at {path}");
        host_issue(SPEC.kind, Severity::Critical, false, description, all, now)
    });
    issue.into()
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
fn inodes_used_percent(disk: &DiskUse) -> f64 {
    if disk.inodes == 0 { 0.0 } else { 100.0 * (1.0 - disk.inodes_free as f64 / disk.inodes as f64) }
}
