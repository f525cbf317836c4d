//! How chiron watches its own long tasks: when one that ended is started anew, when one that lives has stalled, and
//! when the service manager may be told that all is well.
//!
//! **Invariant:** pure; the time since boot is an argument. What is started anew too often is not: chiron then ends, so
//! that whoever started it starts it whole.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::telemetry::Progress;

/// A task is started anew this often within [`WINDOW`]; the next end ends chiron.
pub const RESTARTS_MAX: usize = 3;
/// See [`RESTARTS_MAX`].
pub const WINDOW: Duration = Duration::from_secs(300);
/// Pauses before the first, second and third restart within the window.
const PAUSES: [Duration; RESTARTS_MAX] = [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(5)];

/// The decision task goes round at least every second; its policy is a lease of at least 5 s.
const DECIDER_STALLED: Duration = Duration::from_secs(5);
/// The others go round at least every second or so too, but may wait for a slow disk.
const OTHERS_STALLED: Duration = Duration::from_secs(10);

/// What to do about a task that has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it anew after this pause.
    Restart(Duration),
    /// It has ended too often.
    GiveUp,
}

/// Ends of tasks that nobody asked for.
#[derive(Debug, Default)]
pub struct Ends(BTreeMap<&'static str, VecDeque<Duration>>);

impl Ends {
    /// A task ended by itself at `now`.
    pub fn note(&mut self, task: &'static str, now: Duration) -> Verdict {
        let ends = self.0.entry(task).or_default();
        while ends.front().is_some_and(|end| now.saturating_sub(*end) >= WINDOW) {
            ends.pop_front();
        }
        ends.push_back(now);
        PAUSES.get(ends.len() - 1).map_or(Verdict::GiveUp, |pause| Verdict::Restart(*pause))
    }
}

/// The tasks that are watched, and since when each is expected to get on.
#[derive(Debug, Default)]
pub struct Watch {
    tasks: BTreeMap<&'static str, Progress>,
}

/// How the watched tasks stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The decision task does not get on.
    pub decider: Option<Duration>,
    /// Others that do not, each with how long.
    pub others: Vec<(&'static str, Duration)>,
}

impl Watch {
    /// A task is expected to get on from now on.
    pub fn begin(&mut self, task: &'static str, progress: Progress) {
        progress.beat();
        self.tasks.insert(task, progress);
    }

    /// How they stand. Checks that are stalled are noticed by the decision task, which misses what they find.
    pub fn look(&self) -> Standing {
        let mut standing = Standing::default();
        for (task, progress) in &self.tasks {
            let age = progress.age();
            match *task {
                "decider" if age > DECIDER_STALLED => standing.decider = Some(age),
                "decider" | "checks" => {}
                task if age > OTHERS_STALLED => standing.others.push((task, age)),
                _ => {}
            }
        }
        standing
    }

    /// Whether the service manager may be told that all is well, which it expects every `period` at the latest: decisions
    /// are made and connections are accepted.
    pub fn is_alive(&self, period: Duration) -> bool {
        // Both go round every second; less would be taken for a stall on a busy machine.
        let limit = (period / 3).max(Duration::from_millis(2_500));
        ["decider", "http"].iter().all(|task| self.tasks.get(task).is_some_and(|progress| progress.age() <= limit))
    }
}

/// Why the decision task is away, for those who would ask it.
#[derive(Clone, Debug, Default)]
pub struct Away(Arc<ArcSwapOption<String>>);

impl Away {
    /// It is away.
    pub fn set(&self, why: impl Into<String>) {
        self.0.store(Some(Arc::new(why.into())));
    }

    /// It is back.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// Why it is away, if it is.
    pub fn why(&self) -> Option<Arc<String>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::model::Timestamp;
    use crate::telemetry::Metrics;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// SPEC 14: a task is started anew three times within five minutes with growing pauses, then no more; each task is
    /// counted for itself, and what lies longer back counts no more.
    #[test]
    fn three_times_within_five_minutes() {
        let mut ends = Ends::default();
        let first: Vec<Verdict> = [10, 20, 30].map(|at| ends.note("decider", seconds(at))).into();
        assert_eq!(first, PAUSES.map(Verdict::Restart));
        assert_eq!(ends.note("publisher", seconds(31)), Verdict::Restart(PAUSES[0]));
        assert_eq!(ends.note("decider", seconds(309)), Verdict::GiveUp);
        let mut ends = Ends::default();
        for at in [10, 20, 30] {
            ends.note("decider", seconds(at));
        }
        assert_eq!(ends.note("decider", seconds(310)), Verdict::Restart(PAUSES[2]), "the first lies back 300 s");
    }

    /// OBS-5, POL-4: a task that does not get on is noticed after its limit, not before; the service manager hears
    /// nothing good while decisions or connections stall, and hears again when they go on.
    #[test]
    fn stalls_are_noticed() {
        let clock = Clock::manual(Timestamp::from_millis(1_763_861_696_000));
        let metrics = Metrics::new(&[], &[], &[]);
        let mut watch = Watch::default();
        assert!(!watch.is_alive(seconds(30)), "nothing runs yet");
        let progress = |task| metrics.progress(task, &clock);
        for task in ["decider", "http", "publisher", "checks"] {
            watch.begin(task, progress(task));
        }
        assert_eq!((watch.look(), watch.is_alive(seconds(30))), (Standing::default(), true));
        clock.advance(seconds(5));
        assert_eq!(
            (watch.look(), watch.is_alive(seconds(30)), watch.is_alive(seconds(6))),
            (Standing::default(), true, false)
        );
        progress("http").beat();
        clock.advance(seconds(5));
        progress("publisher").beat();
        clock.advance(Duration::from_millis(1));
        let stalled = Duration::from_millis(10_001);
        assert_eq!(watch.look(), Standing { decider: Some(stalled), others: Vec::new() });
        assert!(!watch.is_alive(seconds(30)));
        progress("decider").beat();
        assert!(watch.is_alive(seconds(30)));
        clock.jump(86_400_000);
        assert_eq!(watch.look(), Standing::default(), "by the time since boot");
        clock.advance(seconds(11));
        let standing = watch.look();
        assert_eq!(standing.others.iter().map(|(task, _)| *task).collect::<Vec<_>>(), ["http", "publisher"]);
    }
}
