//! The series about the policy's hooks: whether the bot follows, how often it was told, how long that took (POL-5).
//!
//! **Invariant:** series exist exactly for the hooks that are configured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::model::{Ending, Name, Timestamp};

use super::tables::{Histogram, RECOVERY_BOUNDS};
use super::text::{Kind, Text};

/// What is true of a hook now.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Which.
    pub hook: &'a Name,
    /// Whether the bot can be seen to follow.
    pub proof: bool,
    /// The bot shows what was told last.
    pub followed: bool,
    /// It did not by the deadline.
    pub late: bool,
    /// When it was told last.
    pub told_at: Option<Timestamp>,
}

/// How a try may end; hooks are not rehearsed.
const ENDINGS: [Ending; 4] = [Ending::Ok, Ending::Failed, Ending::Timeout, Ending::NotStarted];

/// One hook.
struct Hook {
    proof: bool,
    followed: bool,
    late: bool,
    told_at: Option<Timestamp>,
    attempts: [AtomicU64; ENDINGS.len()],
    follow: Histogram,
}

/// Every hook by name. They change seldom: a lock will do.
#[derive(Default)]
pub struct Hooks(Mutex<BTreeMap<Name, Hook>>);

impl Hooks {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<Name, Hook>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes what is true now of every hook that is configured; the others vanish.
    pub fn show<'a>(&self, rows: impl Iterator<Item = Row<'a>>) {
        self.with(|hooks| {
            let mut old = std::mem::take(hooks);
            for Row { hook, proof, followed, late, told_at } in rows {
                let (name, row) = old.remove_entry(hook).unwrap_or_else(|| {
                    let follow = Histogram::new(&[("hook", hook)], &RECOVERY_BOUNDS);
                    let attempts = Default::default();
                    (hook.clone(), Hook { proof, followed, late, told_at, attempts, follow })
                });
                hooks.insert(name, Hook { proof, followed, late, told_at, ..row });
            }
        });
    }

    /// The means of a hook has answered.
    pub fn answered(&self, hook: &Name, ending: Ending) {
        let index = ENDINGS.iter().position(|one| *one == ending);
        self.with(|hooks| {
            if let (Some(hook), Some(index)) = (hooks.get(hook), index) {
                hook.attempts[index].fetch_add(1, Relaxed);
            }
        });
    }

    /// The bot was seen to follow, `took` after the level came in force.
    pub fn followed(&self, hook: &Name, took: Duration) {
        self.with(|hooks| {
            if let Some(hook) = hooks.get(hook) {
                hook.follow.observe(took);
            }
        });
    }

    pub(super) fn render(&self, text: &mut Text<'_>) {
        self.with(|hooks| {
            if hooks.is_empty() {
                return;
            }
            type Pick = fn(&Hook) -> bool;
            let flags: [(&str, &str, Pick); 3] = [
                (
                    "chiron_policy_hook_followed",
                    "Whether the bot was seen to follow what the hook told last.",
                    |hook| hook.followed,
                ),
                (
                    "chiron_policy_hook_late",
                    "Whether the bot has not followed by the hook's deadline, which is an issue.",
                    |hook| hook.late,
                ),
                (
                    "chiron_policy_hook_proof",
                    "Whether the bot can be seen to follow; 0 if only the answer of the means is known.",
                    |hook| hook.proof,
                ),
            ];
            for (name, help, pick) in flags {
                let mut family = text.family(name, Kind::Gauge, help);
                hooks.iter().for_each(|(name, hook)| family.flag(&[("hook", name)], pick(hook)));
            }
            let help = "When the hook last told the bot; 0 if it has nothing to tell.";
            let mut family = text.family("chiron_policy_hook_told_timestamp_seconds", Kind::Gauge, help);
            for (name, hook) in &*hooks {
                family.float(&[("hook", name)], hook.told_at.map_or(0.0, Timestamp::seconds));
            }
            let help = "Times a hook told the bot, by how its means answered.";
            let mut family = text.family("chiron_policy_hook_attempts_total", Kind::Counter, help);
            for (name, hook) in &*hooks {
                for (ending, count) in ENDINGS.iter().zip(&hook.attempts) {
                    family.count(&[("hook", name), ("outcome", ending.as_str())], count.load(Relaxed));
                }
            }
            let help = "From a policy in force to the bot seen to follow it.";
            let mut family = text.family("chiron_policy_hook_follow_duration_seconds", Kind::Histogram, help);
            hooks.values().for_each(|hook| hook.follow.render(&mut family));
        });
    }
}
