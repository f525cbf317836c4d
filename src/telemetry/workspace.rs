//! The series about the healing of the bot's workspace (WSP-4, WSP-6).
//!
//! **Invariant:** series exist exactly while healing is enabled; every label value is of a fixed set.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{
    ChangeKind, ChangeState, FindingCode, FindingState, HealingReport, HealingStats, Status, Timestamp,
};

use super::tables::{ACTION_BOUNDS, Histogram};
use super::text::{Kind, Text};

/// How a round may end.
const RESULTS: [&str; 4] = ["success", "critical", "failed", "error"];
/// Why a round may not be able to look; further reasons appear when they occur.
const REASONS: [&str; 4] = ["busy", "panicked", "state", "workspace"];
/// What a workspace may be; `unknown` before the first look.
const STATUSES: [Status; 4] = [Status::Healthy, Status::Degraded, Status::Critical, Status::Unknown];
/// Over how long the success ratio goes, and how many rounds it remembers.
const RATIO_WINDOW: Duration = Duration::from_secs(86_400);
const ROUNDS_MAX: usize = 20_000;

/// Everything that is counted.
struct Counts {
    results: [u64; RESULTS.len()],
    reasons: BTreeMap<&'static str, u64>,
    rounds: VecDeque<(Timestamp, bool)>,
    findings: BTreeMap<(FindingCode, FindingState), u64>,
    changes: BTreeMap<(ChangeKind, ChangeState), u64>,
    stats: HealingStats,
    last_at: Timestamp,
    duration: Histogram,
    score: Option<f64>,
    status: Status,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            results: [0; RESULTS.len()],
            reasons: REASONS.map(|reason| (reason, 0)).into(),
            rounds: VecDeque::new(),
            findings: BTreeMap::new(),
            changes: BTreeMap::new(),
            stats: HealingStats::default(),
            last_at: Timestamp::EPOCH,
            duration: Histogram::new(&[], &ACTION_BOUNDS),
            score: None,
            status: Status::Unknown,
        }
    }
}

impl Counts {
    fn ended(&mut self, result: usize, at: Timestamp) {
        self.results[result] += 1;
        self.rounds.push_back((at, result == 0));
        let from = at.minus(RATIO_WINDOW);
        while self.rounds.len() > ROUNDS_MAX || self.rounds.front().is_some_and(|(at, _)| *at < from) {
            self.rounds.pop_front();
        }
    }
}

/// The counts, if healing is enabled. Rounds are rare: a lock will do.
#[derive(Default)]
pub struct Workspace(Mutex<Option<Counts>>);

impl Workspace {
    fn with<T>(&self, change: impl FnOnce(&mut Option<Counts>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Healing is enabled, or is not: then there are no series.
    pub fn configure(&self, enabled: bool) {
        self.with(|counts| match (enabled, counts.is_some()) {
            (true, false) => *counts = Some(Counts::default()),
            (false, true) => *counts = None,
            _ => {}
        });
    }

    /// A round has looked; `at` is its end.
    pub fn looked(&self, report: &HealingReport, at: Timestamp) {
        self.with(|counts| {
            let Some(counts) = counts else { return };
            let result = match (report.critical, report.failed) {
                (0, 0) => 0,
                (0, _) => 2,
                _ => 1,
            };
            counts.ended(result, at);
            counts.findings.clear();
            for finding in &report.findings {
                *counts.findings.entry((finding.code, finding.state)).or_default() += 1;
            }
            let (all, new) = (&mut counts.stats, &report.stats);
            if !report.dry_run {
                all.files_created += new.files_created;
                all.files_repaired += new.files_repaired;
                all.directories_created += new.directories_created;
                all.heartbeats_reset += new.heartbeats_reset;
                all.locks_cleared += new.locks_cleared;
                all.orphans_killed += new.orphans_killed;
            }
            counts.last_at = at;
            counts.duration.observe(Duration::from_millis(report.duration_ms));
            counts.score = Some(report.validation.score);
            counts.status = report.validation.status;
        });
    }

    /// A round could not look.
    pub fn failed(&self, reason: &'static str, at: Timestamp) {
        self.with(|counts| {
            let Some(counts) = counts else { return };
            counts.ended(3, at);
            *counts.reasons.entry(reason).or_default() += 1;
        });
    }

    /// A change is in the audit log.
    pub fn changed(&self, kind: ChangeKind, state: ChangeState) {
        self.with(|counts| {
            if let Some(counts) = counts {
                *counts.changes.entry((kind, state)).or_default() += 1;
            }
        });
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        self.with(|counts| {
            if let Some(counts) = counts {
                counts.render(text);
            }
        });
    }
}

impl Counts {
    fn render(&self, text: &mut Text<'_>) {
        let help = "Rounds of healing the workspace, by how they ended.";
        let mut family = text.family("chiron_workspace_healings_total", Kind::Counter, help);
        for (result, count) in RESULTS.iter().zip(self.results) {
            family.count(&[("result", result)], count);
        }
        let help = "Rounds that could not look at the workspace, by reason.";
        let mut family = text.family("chiron_workspace_errors_total", Kind::Counter, help);
        for (reason, count) in &self.reasons {
            family.count(&[("reason", reason)], *count);
        }
        let help = "What the latest look at the workspace found, by what became of it.";
        let mut family = text.family("chiron_workspace_findings", Kind::Gauge, help);
        for code in FindingCode::ALL {
            for state in FindingState::ALL {
                let count = self.findings.get(&(code, state)).copied().unwrap_or_default();
                family.count(&[("code", code.as_str()), ("state", state.as_str())], count);
            }
        }
        let help = "Changes of the workspace that the audit log has, by whoever made them.";
        let mut family = text.family("chiron_workspace_changes_total", Kind::Counter, help);
        for kind in ChangeKind::ALL {
            for state in ChangeState::ALL.into_iter().filter(|state| *state != ChangeState::Planned) {
                let count = self.changes.get(&(kind, state)).copied().unwrap_or_default();
                family.count(&[("kind", kind.as_str()), ("result", state.as_str())], count);
            }
        }
        let stats = &self.stats;
        for (name, help, count) in [
            ("chiron_workspace_files_created_total", "Files that were missing and made.", stats.files_created),
            ("chiron_workspace_files_repaired_total", "Files whose content was put right.", stats.files_repaired),
            (
                "chiron_workspace_directories_created_total",
                "Folders that were missing and made.",
                stats.directories_created,
            ),
            ("chiron_workspace_heartbeats_reset_total", "Stale heartbeats that were reset.", stats.heartbeats_reset),
            ("chiron_workspace_locks_cleared_total", "Stale lock files that were removed.", stats.locks_cleared),
            ("chiron_workspace_orphans_killed_total", "Orphan processes that were ended.", stats.orphans_killed),
        ] {
            text.family(name, Kind::Counter, help).count(&[], count);
        }
        let help = "When the workspace was last looked at; 0 if never.";
        text.family("chiron_workspace_last_healing_timestamp_seconds", Kind::Gauge, help)
            .float(&[], self.last_at.seconds());
        let help = "How long a round of healing took.";
        let mut family = text.family("chiron_workspace_healing_duration_seconds", Kind::Histogram, help);
        self.duration.render(&mut family);
        let help = "Whether a bot may start in the workspace: 1 for the present status, unknown before the first look.";
        let mut family = text.family("chiron_workspace_status", Kind::Gauge, help);
        for status in STATUSES {
            family.flag(&[("status", status.as_str())], status == self.status);
        }
        if let Some(score) = self.score {
            let help = "The health score of the workspace, 0 to 100.";
            text.family("chiron_workspace_score", Kind::Gauge, help).float(&[], score);
        }
        if !self.rounds.is_empty() {
            let help = "Share of the rounds of the 24 hours up to the latest one that succeeded, 0 to 1.";
            let (mut all, mut good) = (0_u32, 0_u32);
            for (_, success) in &self.rounds {
                all += 1;
                good += u32::from(*success);
            }
            text.family("chiron_workspace_success_ratio", Kind::Gauge, help)
                .float(&[], f64::from(good) / f64::from(all));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HealingTrigger, Validation};

    fn page(workspace: &Workspace) -> String {
        let mut page = Vec::new();
        workspace.render(&mut Text::new(crate::telemetry::PageFormat::Text, &mut page));
        String::from_utf8(page).unwrap()
    }

    fn report(critical: u64, failed: u64, dry_run: bool) -> HealingReport {
        HealingReport {
            id: None,
            timestamp: Timestamp::EPOCH,
            trigger: HealingTrigger::Start,
            dry_run,
            success: critical + failed == 0,
            healed: 0,
            failed,
            critical,
            stats: HealingStats { files_created: 2, ..HealingStats::default() },
            findings: Vec::new(),
            changes: Vec::new(),
            diff: String::new(),
            validation: Validation { score: 90.0, status: Status::Healthy, parts: Vec::new() },
            visited: 1,
            duration_ms: 1,
        }
    }

    /// WSP-4, WSP-6: series exist exactly while healing is on; rounds count under one result each, what a rehearsal would do
    /// is not counted as done, and the success ratio forgets what is older than a day.
    #[test]
    fn rounds_are_counted() {
        let workspace = Workspace::default();
        workspace.looked(&report(0, 0, false), Timestamp::EPOCH);
        assert_eq!(page(&workspace), "", "healing is off");
        workspace.configure(true);
        let first = page(&workspace);
        assert!(first.contains("chiron_workspace_status{status=\"unknown\"} 1\n"), "{first}");
        assert!(!first.contains("chiron_workspace_score"), "{first}");
        let at = |hours: u64| Timestamp::EPOCH.plus(Duration::from_secs(3_600 * hours));
        workspace.failed("busy", at(0));
        workspace.looked(&report(1, 1, false), at(10));
        workspace.looked(&report(0, 1, true), at(20));
        workspace.looked(&report(0, 0, false), at(30));
        let page_now = page(&workspace);
        for line in [
            "chiron_workspace_healings_total{result=\"success\"} 1\n",
            "chiron_workspace_healings_total{result=\"critical\"} 1\n",
            "chiron_workspace_healings_total{result=\"failed\"} 1\n",
            "chiron_workspace_healings_total{result=\"error\"} 1\n",
            "chiron_workspace_errors_total{reason=\"busy\"} 1\n",
            "chiron_workspace_files_created_total 4\n",
            "chiron_workspace_success_ratio 0.3333333333333333\n",
            "chiron_workspace_score 90\n",
        ] {
            assert!(page_now.contains(line), "{line}: {page_now}");
        }
        workspace.configure(false);
        assert_eq!(page(&workspace), "");
    }
}
