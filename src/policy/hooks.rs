//! When the bot is told of the policy, when it is looked at, and when it is late (POL-5).
//!
//! In: a hook's rule, the level in force, what the hook has told so far, what was seen of the bot. Out: the next [`Step`].
//! **Invariant:** pure. A level counts as followed only if the bot was seen to follow it; a change of the level in force is
//! told at once, whatever was being told before.

use std::time::Duration;

use crate::model::{Level, Name, Timestamp};

/// At which levels a hook has something to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At every level.
    Always,
    /// At this level and stricter ones.
    AtLeast(Level),
    /// At milder levels than this.
    Below(Level),
}

impl When {
    /// Whether the hook has something to tell at that level.
    pub fn matches(self, level: Level) -> bool {
        match self {
            Self::Always => true,
            Self::AtLeast(least) => level >= least,
            Self::Below(bound) => level < bound,
        }
    }
}

/// A hook as far as deciding is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Unique.
    pub name: Name,
    /// At which levels it has something to tell.
    pub when: When,
    /// Whether the bot can be seen to follow; else the answer of the means is all there is.
    pub proof: bool,
    /// Pause before the second try; it doubles from try to try.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
    /// A bot that does not follow by then is an issue.
    pub deadline: Duration,
    /// How often a bot that follows is looked at again.
    pub recheck: Duration,
    /// Whose issue it is if the bot does not follow; the platform's if not said.
    pub subsystem: Option<Name>,
}

impl Rule {
    /// The pause after that try, 1 for the first.
    pub fn pause(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.checked_pow(attempt.saturating_sub(1)).and_then(|times| self.first.checked_mul(times));
        doubled.unwrap_or(self.max).min(self.max)
    }
}

/// What a hook has told last, and how far that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The level.
    pub level: Level,
    /// The mildest level that the bot may have been at before.
    pub from: Level,
    /// Since when this level is to be told.
    pub since: Timestamp,
    /// When it was told last.
    pub told_at: Timestamp,
    /// How often.
    pub attempts: u32,
    /// Whether the means said ok to the last try; `None` without an answer.
    pub answered: Option<bool>,
    /// The bot was seen to follow.
    pub followed: bool,
}

/// What was seen of the bot since this process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// The hook is telling or looking just now.
    pub under_way: bool,
    /// When the bot was last looked at since it was last told, and whether it showed the level.
    pub looked: Option<(Timestamp, bool)>,
}

/// What a hook does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before that time, if time alone brings something.
    Wait(Option<Timestamp>),
    /// It has nothing to tell any more: what it has told is forgotten.
    Forget,
    /// Look whether the bot shows the level.
    Look,
    /// Tell the level in force.
    Tell {
        /// 1 for the first try at this level.
        attempt: u32,
        /// The mildest level that the bot may be at.
        from: Level,
    },
}

/// The one decision about a hook.
pub fn decide(rule: &Rule, level: Level, heard: Option<&Heard>, sight: Sight, now: Timestamp) -> Step {
    if !rule.when.matches(level) {
        return if heard.is_some() { Step::Forget } else { Step::Wait(None) };
    }
    let Some(heard) = heard else { return Step::Tell { attempt: 1, from: Level::AllowAll } };
    if heard.level != level {
        let from = if heard.followed { heard.level } else { heard.level.min(heard.from) };
        return Step::Tell { attempt: 1, from };
    }
    if sight.under_way {
        return Step::Wait(None);
    }
    // A bot that was seen to follow and does not any more may be anywhere.
    let anew = Step::Tell { attempt: 1, from: Level::AllowAll };
    if heard.followed {
        return match sight.looked {
            Some((_, false)) => anew,
            Some((at, true)) if at <= now && now < at.plus(rule.recheck) => Step::Wait(Some(at.plus(rule.recheck))),
            Some(_) | None => Step::Look,
        };
    }
    let Some(ok) = heard.answered else {
        // A crash took the answer: the same try again, under the same key.
        return Step::Tell { attempt: heard.attempts, from: heard.from };
    };
    if ok && !rule.proof {
        return Step::Wait(None);
    }
    if now < heard.told_at {
        // The clock was set back: no pause is taken from it.
        return anew;
    }
    let due = heard.told_at.plus(rule.pause(heard.attempts));
    if now < due {
        return Step::Wait(Some(due));
    }
    let looked = sight.looked.is_some_and(|(at, _)| at >= due);
    if ok && !looked { Step::Look } else { Step::Tell { attempt: heard.attempts.saturating_add(1), from: heard.from } }
}

/// Whether what was told is settled: the bot was seen to follow, or said ok where nothing can be seen.
pub fn is_settled(rule: &Rule, heard: &Heard) -> bool {
    heard.followed || !rule.proof && heard.answered == Some(true)
}

/// When a bot that has not followed by then is an issue; `None` if what was told is settled.
pub fn late_at(rule: &Rule, heard: &Heard) -> Option<Timestamp> {
    (!is_settled(rule, heard)).then(|| heard.since.plus(rule.deadline))
}

/// Whether what the bot shows follows the level that it was told: that level, or a stricter one if it was told to tighten
/// from `from`. After loosening, a bot that stays strict does not follow.
pub fn follows(told: Level, from: Level, shown: Level) -> bool {
    shown == told || shown > told && told > from
}

#[cfg(test)]
mod tests;
