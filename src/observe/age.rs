//! How old is too old: the grade of an age, and the exact moment at which it changes.
//!
//! **Invariant:** pure; the grade just before `next_change_at` differs from the grade at it.

use std::path::Path;
use std::time::Duration;

use super::check::Judgement;
use crate::base::files::FileProblem;
use crate::model::{Measure, Quantity, Status, Timestamp};

/// How far a timestamp may lie in the future before it is doubted: clocks of one host differ by less.
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(5);

/// The limits of an age. Below `degraded_after` is healthy; up to and including `critical_after` degraded; beyond,
/// critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AgeLimits {
    /// From this age on degraded; without it never.
    pub degraded_after: Option<Duration>,
    /// Beyond this age critical; without it never.
    pub critical_after: Option<Duration>,
}

impl AgeLimits {
    /// Both limits.
    pub const fn new(degraded_after: Duration, critical_after: Duration) -> Self {
        Self { degraded_after: Some(degraded_after), critical_after: Some(critical_after) }
    }

    /// 5 minutes and 60 minutes, as most state files have it (OBS-3).
    pub const fn state_file() -> Self {
        Self::new(Duration::from_secs(300), Duration::from_secs(3600))
    }

    /// 1 minute and 5 minutes (OBS-3).
    pub const fn live_file() -> Self {
        Self::new(Duration::from_secs(60), Duration::from_secs(300))
    }

    /// The grade of an age.
    pub fn grade(&self, age: Duration) -> Status {
        if self.critical_after.is_some_and(|limit| age > limit) {
            Status::Critical
        } else if self.degraded_after.is_some_and(|limit| age >= limit) {
            Status::Degraded
        } else {
            Status::Healthy
        }
    }

    /// When the grade of something dated `at` changes next, seen from `now`.
    fn next_change(&self, at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let degraded = self.degraded_after.map(|limit| at.plus(limit));
        // The limit itself is still degraded; a millisecond is the grain of a timestamp.
        let critical = self.critical_after.map(|limit| at.plus(limit).plus(Duration::from_millis(1)));
        let current = self.grade(now.since(at));
        let mut moments: Vec<_> = [degraded, critical].into_iter().flatten().filter(|moment| *moment > now).collect();
        moments.sort();
        moments.into_iter().find(|moment| self.grade(moment.since(at)) != current)
    }

    /// Grades something dated `at`; `what` begins the sentence of the warning (`Snapshot 320s old (stale)`), `source`
    /// is where the date comes from.
    pub fn judge(&self, what: &str, at: Timestamp, source: &str, now: Timestamp) -> Judgement {
        if at > now.plus(FUTURE_TOLERANCE) {
            let ahead = at.since(now).as_secs();
            let mut judgement = Judgement::new(Status::Degraded)
                .with("warning", format!("{what}: timestamp lies {ahead} s in the future"))
                .with("age_seconds", -at.since(now).as_secs_f64())
                .with("timestamp_source", source);
            judgement.next_change_at = Some(at.minus(FUTURE_TOLERANCE));
            return judgement;
        }
        let age = now.since(at);
        let mut judgement =
            Judgement::new(self.grade(age)).with("age_seconds", age.as_secs_f64()).with("timestamp_source", source);
        if judgement.status != Status::Healthy {
            judgement = judgement.with("warning", format!("{what} {}s old (stale)", age.as_secs()));
        }
        if let Some(limit) = self.degraded_after.or(self.critical_after) {
            let (value, limit) = (at.seconds(), limit.as_secs_f64());
            judgement.signals.measures.push(Measure { quantity: Quantity::UpdatedAt, value, limit });
        }
        judgement.next_change_at = self.next_change(at, now);
        judgement
    }
}

/// The grade of a file that is not there; absence is an outcome (OBS-1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// No data yet.
    #[default]
    Unknown,
    /// It should be there.
    Degraded,
    /// Nothing works without it.
    Critical,
}

impl Missing {
    /// The status it stands for.
    pub const fn status(self) -> Status {
        match self {
            Self::Unknown => Status::Unknown,
            Self::Degraded => Status::Degraded,
            Self::Critical => Status::Critical,
        }
    }
}

/// Grades a path that gave no content: absence as configured, something else in its place critical, no access
/// unrunnable.
pub fn judge_problem(path: &Path, problem: &FileProblem, missing: Missing) -> Judgement {
    let error = format!("{}: {problem}", path.display());
    if problem.is_missing() {
        Judgement::new(missing.status()).with("error", error)
    } else if problem.is_finding() {
        Judgement::new(Status::Critical).with("error", error)
    } else {
        Judgement::unrunnable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_861_690_000);

    fn at_age(millis: i64) -> Timestamp {
        Timestamp::from_millis(NOW.millis() - millis)
    }

    /// OBS-3: both sides of each limit, to the millisecond.
    #[test]
    fn both_sides_of_each_limit() {
        for (age, status, change_in) in [
            (0, Status::Healthy, Some(300_000)),
            (299_999, Status::Healthy, Some(1)),
            (300_000, Status::Degraded, Some(3_300_001)),
            (3_600_000, Status::Degraded, Some(1)),
            (3_600_001, Status::Critical, None),
            (-5_000, Status::Healthy, Some(305_000)),
            (-5_001, Status::Degraded, Some(1)),
        ] {
            let judgement = AgeLimits::state_file().judge("Snapshot", at_age(age), "mtime", NOW);
            assert_eq!(judgement.status, status, "{age}");
            assert_eq!(judgement.next_change_at.map(|at| at.millis() - NOW.millis()), change_in, "{age}");
        }
    }

    #[test]
    fn the_warning_has_its_fixed_wording() {
        let limits = AgeLimits::state_file();
        let stale = limits.judge("Snapshot", at_age(320_999), "timestamp", NOW);
        assert_eq!(stale.details["warning"], "Snapshot 320s old (stale)");
        assert_eq!(stale.details["timestamp_source"], "timestamp");
        assert!(!limits.judge("Snapshot", at_age(299_000), "mtime", NOW).details.contains_key("warning"));
        let ahead = limits.judge("Snapshot", at_age(-90_000), "mtime", NOW);
        assert_eq!(ahead.details["warning"], "Snapshot: timestamp lies 90 s in the future");
    }

    #[test]
    fn without_limits_nothing_ever_changes() {
        let judgement = AgeLimits::default().judge("File", Timestamp::EPOCH, "mtime", NOW);
        assert_eq!((judgement.status, judgement.next_change_at), (Status::Healthy, None));
    }

    #[test]
    fn what_stands_in_the_place_of_a_file() {
        let path = Path::new("/srv/a.json");
        for (problem, missing, status, unrunnable) in [
            (FileProblem::Missing, Missing::Unknown, Status::Unknown, false),
            (FileProblem::Missing, Missing::Degraded, Status::Degraded, false),
            (FileProblem::Missing, Missing::Critical, Status::Critical, false),
            (FileProblem::Fifo, Missing::Unknown, Status::Critical, false),
            (FileProblem::DanglingLink("/x".into()), Missing::Unknown, Status::Critical, false),
            (FileProblem::PermissionDenied, Missing::Critical, Status::Unknown, true),
        ] {
            let judgement = judge_problem(path, &problem, missing);
            assert_eq!((judgement.status, judgement.unrunnable), (status, unrunnable), "{problem}");
            assert_eq!(judgement.details["error"], format!("/srv/a.json: {problem}"));
        }
    }

    proptest! {
        #[test]
        fn the_grade_holds_until_the_moment_it_changes(
            degraded in 0u64..5_000, more in 0u64..5_000, age in -20_000i64..20_000,
        ) {
            let limits = AgeLimits::new(Duration::from_millis(degraded), Duration::from_millis(degraded + more));
            let at = at_age(age);
            let now = limits.judge("x", at, "mtime", NOW);
            match now.next_change_at {
                Some(moment) => {
                    prop_assert!(moment > NOW);
                    let before = Timestamp::from_millis(moment.millis() - 1);
                    prop_assert_eq!(limits.judge("x", at, "mtime", before).status, now.status);
                    let after = limits.judge("x", at, "mtime", moment);
                    // A date that stops being doubted may turn out to be stale at once, which is the same grade.
                    prop_assert!(after.status != now.status || at > NOW);
                }
                None => {
                    let later = limits.judge("x", at, "mtime", NOW.plus(Duration::from_secs(99)));
                    prop_assert_eq!(later.status, now.status);
                }
            }
        }
    }
}
