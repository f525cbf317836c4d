//! Storm mode: when too much is broken at once, only root causes are acted upon (`docs/reliability.md`, invariant 22).
//!
//! **Invariant:** pure. A storm begins at once and ends only after it has been calm for a while.

use std::time::Duration;

use crate::model::{Name, Timestamp};

/// What a storm is. Both limits have to be reached.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// So many enabled subsystems are broken, at least 1; default 5. More than there are means never.
    pub subsystems: u32,
    /// And so large a share of all enabled ones, 0 to 1; default 0.5.
    pub share: f64,
    /// A storm is over when it has been below one of the limits for so long; default 60 s.
    pub calm: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { subsystems: 5, share: 0.5, calm: Duration::from_secs(60) }
    }
}

impl Settings {
    /// Whether so many of all are too many.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer subsystems than a float has whole numbers")]
    fn is_reached(&self, broken: usize, all: usize) -> bool {
        broken >= self.subsystems as usize && broken as f64 >= self.share * all as f64 - 1e-9
    }
}

/// Whether there is a storm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storm {
    /// There is none.
    #[default]
    Calm,
    /// There is one.
    Raging {
        /// Since when it has been below a limit, if it is.
        below_since: Option<Timestamp>,
    },
}

impl Storm {
    /// How it goes on, now that so many of all enabled subsystems are broken.
    #[must_use]
    pub fn next(self, broken: usize, all: usize, settings: &Settings, now: Timestamp) -> Self {
        if settings.is_reached(broken, all) {
            return Self::Raging { below_since: None };
        }
        let Self::Raging { below_since } = self else { return Self::Calm };
        let since = below_since.unwrap_or(now);
        // A clock that was set back makes it longer, never shorter.
        if now.since(since) >= settings.calm { Self::Calm } else { Self::Raging { below_since: Some(since) } }
    }

    /// Whether there is one.
    pub fn is_on(self) -> bool {
        self != Self::Calm
    }
}

/// Whether a subsystem is a root cause: broken, nothing that it needs is, and something that needs it is.
pub fn is_root(name: &str, needs: &[Name], affects: &[Name], is_broken: impl Fn(&str) -> bool) -> bool {
    is_broken(name) && !needs.iter().any(|need| is_broken(need)) && affects.iter().any(|one| is_broken(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn after(seconds: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(seconds))
    }

    /// ACT-3: both limits have to be reached.
    #[test]
    fn when_a_storm_begins() {
        let settings = Settings::default();
        for (broken, all, expected) in [
            (0, 0, false),
            (4, 4, false),
            (5, 5, true),
            (5, 10, true),
            (5, 11, false),
            (6, 11, true),
            (49, 100, false),
            (50, 100, true),
        ] {
            assert_eq!(Storm::Calm.next(broken, all, &settings, NOW).is_on(), expected, "{broken} of {all}");
        }
        let never = Settings { subsystems: 1_000_000, ..settings };
        assert!(!Storm::Calm.next(100, 100, &never, NOW).is_on());
    }

    /// ACT-3: it is over only when it has been calm for a while without interruption.
    #[test]
    fn when_a_storm_ends() {
        let settings = Settings::default();
        let mut storm = Storm::Calm;
        let mut seen = Vec::new();
        for (second, broken) in [(0, 5), (1, 4), (60, 4), (61, 5), (62, 0), (121, 0), (122, 0), (123, 4)] {
            storm = storm.next(broken, 5, &settings, after(second));
            seen.push((second, storm.is_on()));
        }
        let expected =
            [(0, true), (1, true), (60, true), (61, true), (62, true), (121, true), (122, false), (123, false)];
        assert_eq!(seen, expected);
        let back = Storm::Raging { below_since: Some(after(60)) };
        assert!(back.next(0, 5, &settings, NOW).is_on(), "a clock that goes back ends no storm");
    }

    /// OBS-6: a root cause is broken, needs nothing that is, and is needed by something that is.
    #[test]
    fn what_a_root_cause_is() {
        let names = |list: &[&str]| -> Vec<Name> { list.iter().map(|name| Name::from(*name)).collect() };
        // a <- b <- c; d stands alone.
        let needs = |name: &str| {
            names(match name {
                "b" => &["a"],
                "c" => &["b", "a"],
                _ => &[],
            })
        };
        let affects = |name: &str| {
            names(match name {
                "a" => &["b", "c"],
                "b" => &["c"],
                _ => &[],
            })
        };
        for (broken, roots) in [
            (&["a", "b", "c", "d"] as &[&str], &["a"] as &[&str]),
            (&["b", "c"], &["b"]),
            (&["a", "c"], &["a"]),
            (&["c", "d"], &[]),
            (&["a", "d"], &[]),
            (&[], &[]),
        ] {
            let found: Vec<&str> = ["a", "b", "c", "d"]
                .into_iter()
                .filter(|name| is_root(name, &needs(name), &affects(name), |one| broken.contains(&one)))
                .collect();
            assert_eq!(found, roots, "{broken:?}");
        }
    }
}
