//! From what a check says to what a subsystem is: consecutive failures, and when critical becomes failed (OBS-1).

use std::time::Duration;

use crate::model::{Status, Timestamp};

use super::Settings;

/// What recovery can still do for a subsystem that is critical; told by the caller, who knows the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// A healing rung is under way, or may still run by itself.
    Open,
    /// The ladder's healing rungs have ended, at least one of them failed or unverified.
    Spent,
    /// Nothing that heals may run by itself.
    Nobody,
    /// Dry-run: nothing is ever tried, so nothing is ever failed.
    DryRun,
}

/// The memory between two checks of one subsystem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    /// Checks in a row that could not be run.
    pub unrunnable: u32,
    /// Checks in a row that were critical, unrunnable ones that count as such included.
    pub critical: u32,
    /// When that row began.
    pub critical_since: Option<Timestamp>,
    /// Whether the row has become `Failed`.
    pub failed: bool,
    /// When the last look began that counted.
    pub counted_at: Option<Timestamp>,
}

/// What one look at a subsystem said.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// The grade.
    pub said: Status,
    /// The check could not be run.
    pub unrunnable: bool,
    /// When it began.
    pub at: Timestamp,
    /// Looks closer together than this count as one: a file that is being written, or a check that is forced, makes many
    /// in no time.
    pub apart: Duration,
}

/// The next streak and the status in force, given what the latest check said.
pub fn grade(streak: Streak, look: Look, chance: Chance, settings: &Settings, now: Timestamp) -> (Streak, Status) {
    let Look { said, unrunnable, at, apart } = look;
    // A clock that was set back makes no two looks one.
    let begins = streak.unrunnable == 0 && streak.critical == 0;
    let counts = begins || streak.counted_at.is_none_or(|last| at >= last.plus(apart) || at < last);
    let counted_at = if counts { Some(at) } else { streak.counted_at };
    let more = |count: u32| count.saturating_add(u32::from(counts || count == 0));
    let unrunnable_count = if unrunnable { more(streak.unrunnable) } else { 0 };
    let is_critical = match said {
        Status::Critical | Status::Failed => true,
        Status::Unknown => unrunnable && unrunnable_count >= settings.max_consecutive_failures,
        Status::Healthy | Status::Degraded => false,
    };
    if !is_critical {
        return (Streak { unrunnable: unrunnable_count, counted_at, ..Streak::default() }, said);
    }
    let since = streak.critical_since.unwrap_or(now);
    let mut next = Streak {
        unrunnable: unrunnable_count,
        critical: more(streak.critical),
        critical_since: Some(since),
        failed: streak.failed,
        counted_at,
    };
    let often = next.critical >= settings.max_consecutive_failures;
    next.failed = next.failed
        || often
            && match chance {
                Chance::Open | Chance::DryRun => false,
                Chance::Spent => true,
                Chance::Nobody => now.since(since) >= settings.failed_after,
            };
    (next, if next.failed { Status::Failed } else { Status::Critical })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(said: &[(Status, bool)], chance: Chance, step_seconds: i64) -> Vec<Status> {
        let settings = Settings::default();
        let mut streak = Streak::default();
        said.iter()
            .enumerate()
            .map(|(index, (status, unrunnable))| {
                let now = Timestamp::from_millis(1_000_000 + index as i64 * step_seconds * 1000);
                let look = Look { said: *status, unrunnable: *unrunnable, at: now, apart: Duration::from_secs(1) };
                let (next, graded) = grade(streak, look, chance, &settings, now);
                streak = next;
                graded
            })
            .collect()
    }

    const C: (Status, bool) = (Status::Critical, false);
    const H: (Status, bool) = (Status::Healthy, false);
    const U: (Status, bool) = (Status::Unknown, true);
    const MISSING: (Status, bool) = (Status::Unknown, false);

    /// OBS-1: a check that cannot be run is unknown, and critical the third time in a row; a missing file never is.
    #[test]
    fn unrunnable_becomes_critical_at_the_limit() {
        use Status::{Critical, Healthy, Unknown};
        assert_eq!(run(&[U, U, U, U, H, U], Chance::Open, 5), [Unknown, Unknown, Critical, Critical, Healthy, Unknown]);
        assert_eq!(run(&[MISSING; 5], Chance::Open, 5), [Unknown; 5]);
        assert_eq!(run(&[U, U, MISSING, U], Chance::Open, 5), [Unknown; 4], "a row is uninterrupted");
    }

    /// OBS-1: looks in quick succession are one: a file caught three times in the middle of being written is not yet critical.
    #[test]
    fn looks_in_quick_succession_are_one() {
        let settings = Settings::default();
        let mut streak = Streak::default();
        let mut look = |millis: i64, said, unrunnable| {
            let now = Timestamp::from_millis(1_000_000 + millis);
            let look = Look { said, unrunnable, at: now, apart: Duration::from_secs(1) };
            let (next, graded) = grade(streak, look, Chance::Spent, &settings, now);
            streak = next;
            graded
        };
        for millis in [0, 50, 100, 999] {
            assert_eq!(look(millis, Status::Unknown, true), Status::Unknown, "{millis}");
        }
        assert_eq!(look(1_000, Status::Unknown, true), Status::Unknown);
        assert_eq!(look(2_000, Status::Unknown, true), Status::Critical);
        assert_eq!(look(2_050, Status::Healthy, false), Status::Healthy);
        for millis in [3_000, 3_050, 3_100, 4_000, 4_050] {
            assert_eq!(look(millis, Status::Critical, false), Status::Critical, "{millis}");
        }
        assert_eq!(look(5_000, Status::Critical, false), Status::Failed);
    }

    /// OBS-1: failed only when recovery has had its chance, and cleared by any check that is not critical.
    #[test]
    fn failed_needs_a_spent_chance() {
        use Status::{Critical, Degraded, Failed, Healthy};
        assert_eq!(run(&[C, C, C, C], Chance::Open, 5), [Critical; 4]);
        assert_eq!(run(&[C, C, C, C], Chance::Spent, 5), [Critical, Critical, Failed, Failed]);
        assert_eq!(run(&[C, C, C, H, C], Chance::Spent, 5), [Critical, Critical, Failed, Healthy, Critical]);
        assert_eq!(run(&[C, C, C, (Degraded, false)], Chance::Spent, 5)[3], Degraded);
        assert_eq!(run(&[C; 9], Chance::DryRun, 600), [Critical; 9], "dry-run never leads to failed");
    }

    /// OBS-1: where nothing may run by itself, `failed_after` (5 min) has to pass first.
    #[test]
    fn failed_after_counts_from_the_first_critical() {
        let graded = run(&[C; 7], Chance::Nobody, 60);
        assert_eq!(graded[4], Status::Critical, "240 s");
        assert_eq!(graded[5], Status::Failed, "300 s");
    }
}
