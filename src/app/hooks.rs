//! Tells the bot of the policy through its hooks, sees whether it follows, and makes an issue of a bot that does not (POL-5).
//!
//! **Invariant:** nothing is begun whose `hook_told` is not durable, but for what tightens while the journal cannot be
//! written: that lowers risk. Followed is only what was seen. To tell a level twice is the same as once, so that a try
//! whose answer a crash has taken is simply told again.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::redact;
use crate::journal::{Episode, IssueFacts, Record, State, Told};
use crate::model::{Ending, EpisodeKey, IssueSource, Level, Name, PLATFORM, POLICY_NOT_FOLLOWED, Severity, Timestamp};
use crate::policy::hooks::{Heard, Rule, Sight, Step, decide, is_settled, late_at};

use super::board::HookView;
use super::cycle::{Cycle, Effect, TICK};
use super::draft::Draft;

/// One try of a hook, or a look at what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Which hook.
    pub hook: Name,
    /// The level to be told.
    pub level: Level,
    /// The mildest level that the bot may be at.
    pub from: Level,
    /// Since when the level is to be told.
    pub since: Timestamp,
    /// 1 for the first try.
    pub attempt: u32,
}

impl Telling {
    /// Whether it lowers risk wherever the bot may be.
    pub fn tightens(&self) -> bool {
        self.level > self.from
    }
}

/// What became of a [`Telling`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooked {
    /// Which.
    pub telling: Telling,
    /// How the means answered; `None` if the bot was only looked at.
    pub answer: Option<crate::execute::Answer>,
    /// Whether the bot shows the level, and why not; `None` if it cannot be looked at.
    pub shown: Option<Result<(), String>>,
}

/// What is known of a hook and need not survive.
#[derive(Clone, Debug, Default)]
pub(super) struct HookSeen {
    /// It is telling or looking now.
    under_way: bool,
    /// When the bot was last looked at since it was last told, and whether it showed the level.
    looked: Option<(Timestamp, bool)>,
    /// Why it did not.
    why: String,
    /// What was overtaken may have been done after it: where nothing shows the bot's level, it is told again.
    overtaken: bool,
    /// It is part of the issue until the bot follows.
    late: bool,
    /// In dry-run: the level that would have been told.
    rehearsed: Option<Level>,
}

impl HookSeen {
    /// What was looked at says nothing any more.
    pub(super) fn look_again(&mut self) {
        self.looked = None;
    }

    /// A try that was overtaken has been done after the latest.
    fn overtake(&mut self) {
        self.looked = None;
        self.overtaken = true;
    }
}

impl Cycle {
    /// Hooks have told, or looked.
    pub(super) fn take_hooked(&mut self, draft: &mut Draft, hooked: &[Hooked]) {
        for Hooked { telling, answer, shown } in hooked {
            let Telling { hook, level, since, attempt, .. } = telling;
            let of = |told: &&Told| (told.level, told.since, told.attempts) == (*level, *since, *attempt);
            let Some(told) = draft.state.hooks.get(hook).filter(of).cloned() else {
                if answer.is_some() {
                    // What was overtaken may have been done last: where the bot is now has to be seen.
                    self.world.hooks.values_mut().for_each(HookSeen::overtake);
                }
                continue;
            };
            let seen = self.world.hooks.entry(hook.clone()).or_default();
            seen.under_way = false;
            if let Some(answer) = answer {
                draft.push(Record::HookAnswered {
                    hook: hook.clone(),
                    level: *level,
                    ending: answer.ending,
                    detail: answer.detail.clone(),
                });
            }
            match shown {
                Some(Ok(())) => {
                    seen.looked = Some((draft.now, true));
                    seen.why.clear();
                    if told.followed_at.is_none() {
                        draft.push(Record::HookFollowed { hook: hook.clone(), level: *level });
                    }
                }
                Some(Err(why)) => {
                    seen.looked = Some((draft.now, false));
                    seen.why.clone_from(why);
                }
                None => {}
            }
        }
    }

    /// Tells what is to be told now. When to look again, if time alone brings something.
    pub(super) fn tell_hooks(&mut self, draft: &mut Draft, effects: &mut Vec<Effect>) -> Option<Timestamp> {
        if self.world.ending || self.rules.hooks.is_empty() && draft.state.hooks.is_empty() && !self.world.orphan_hooks
        {
            return None;
        }
        self.forget_removed(draft);
        let level = draft.state.level();
        let mut wake: Option<Timestamp> = None;
        let mut by = |at: Timestamp| wake = Some(wake.map_or(at, |before| before.min(at)));
        for hook in self.rules.hooks.clone().iter() {
            let rule = &hook.rule;
            let late = self.is_known_late(&draft.state, rule);
            let seen =
                self.world.hooks.entry(rule.name.clone()).or_insert_with(|| HookSeen { late, ..HookSeen::default() });
            if self.rules.admit.dry_run {
                let told = rule.when.matches(level).then_some(level);
                if seen.rehearsed != told {
                    seen.rehearsed = told;
                    effects.extend(told.map(|level| Effect::WouldTell { hook: rule.name.clone(), level }));
                }
                continue;
            }
            let heard = draft.state.hooks.get(&rule.name).map(heard);
            let sight = Sight { under_way: seen.under_way, looked: seen.looked };
            let mut step = decide(rule, level, heard.as_ref(), sight, draft.now);
            if seen.overtaken && !seen.under_way {
                seen.overtaken = false;
                if !rule.proof && step == Step::Wait(None) && heard.is_some() {
                    step = Step::Tell { attempt: 1, from: Level::AllowAll };
                }
            }
            match step {
                Step::Wait(until) => until.into_iter().for_each(&mut by),
                Step::Forget => {
                    *seen = HookSeen::default();
                    draft.push(Record::HookEnded { hook: rule.name.clone() });
                }
                Step::Look => {
                    seen.under_way = true;
                    effects.extend(telling(&draft.state, &rule.name).map(Effect::Look));
                }
                Step::Tell { from, .. } if level <= from && (!self.world.journal_ok || self.world.stopping) => {
                    // What loosens waits until it can be remembered.
                    by(draft.now.plus(TICK));
                }
                Step::Tell { attempt, from } => {
                    *seen = HookSeen { under_way: true, late: seen.late, ..HookSeen::default() };
                    draft.push(Record::HookTold { hook: rule.name.clone(), level, attempt, from: Some(from) });
                    effects.extend(telling(&draft.state, &rule.name).map(Effect::Tell));
                }
            }
        }
        self.note_late(draft, level).into_iter().for_each(&mut by);
        wake
    }

    /// Hooks that are configured no longer have nothing to tell, and in dry-run none has.
    fn forget_removed(&mut self, draft: &mut Draft) {
        let hooks = &self.rules.hooks;
        let stays = |name: &Name| !self.rules.admit.dry_run && hooks.iter().any(|hook| hook.rule.name == *name);
        let gone: Vec<Name> = draft.state.hooks.keys().filter(|name| !stays(name)).cloned().collect();
        for hook in gone {
            self.world.hooks.remove(&hook);
            draft.push(Record::HookEnded { hook });
        }
        self.world.hooks.retain(|name, _| hooks.iter().any(|hook| hook.rule.name == *name));
    }

    /// Whether an earlier process has made an issue of it.
    fn is_known_late(&self, state: &State, rule: &Rule) -> bool {
        open(state, &key(rule)).is_some_and(|episode| episode.by_check)
    }

    /// Opens, changes and ends the issues of bots that do not follow. When the next hook becomes late.
    fn note_late(&mut self, draft: &mut Draft, level: Level) -> Option<Timestamp> {
        let mut next: Option<Timestamp> = None;
        let mut late: BTreeMap<EpisodeKey, Vec<Name>> = BTreeMap::new();
        let mut keys: BTreeSet<EpisodeKey> = BTreeSet::new();
        for hook in self.rules.hooks.iter() {
            let rule = &hook.rule;
            keys.insert(key(rule));
            let Some(seen) = self.world.hooks.get_mut(&rule.name) else { continue };
            let heard = draft.state.hooks.get(&rule.name).map(heard).filter(|heard| heard.level == level);
            let Some(at) = heard.and_then(|heard| late_at(rule, &heard)) else {
                seen.late = false;
                continue;
            };
            // Late once, it is so until the bot follows, whatever it is told meanwhile.
            seen.late |= draft.now >= at;
            if seen.late {
                late.entry(key(rule)).or_default().push(rule.name.clone());
            } else {
                next = Some(next.map_or(at, |before| before.min(at)));
            }
        }
        if std::mem::take(&mut self.world.orphan_hooks) {
            let ours = draft.state.open.keys().filter(|key| key.kind == *POLICY_NOT_FOLLOWED);
            keys.extend(ours.cloned());
        }
        for key in keys {
            let open = open(&draft.state, &key).cloned();
            match (late.get(&key), open) {
                (Some(hooks), open) => self.raise(draft, &key, open.as_ref(), hooks, level),
                (None, Some(episode)) if episode.by_check => {
                    let (facts, ladder) = (episode.facts.clone(), episode.ladder.clone());
                    self.change(draft, &episode, facts, ladder, false);
                }
                (None, _) => {}
            }
        }
        // A person is told at once.
        if self.world.dirty_episodes.is_empty() { next } else { Some(draft.now) }
    }

    fn raise(&mut self, draft: &mut Draft, key: &EpisodeKey, open: Option<&Episode>, hooks: &[Name], level: Level) {
        let opens = level.restrictions().open;
        let names: Vec<&str> = hooks.iter().map(Name::as_str).collect();
        let facts = IssueFacts {
            severity: if opens { Severity::Medium } else { Severity::Critical },
            description: format!("the bot does not follow the policy {level} ({})", names.join(", ")),
            symptoms: hooks.iter().map(|hook| self.symptom(&draft.state, hook)).collect(),
            root_cause: None,
            impacts_trading: !opens,
            // A policy that is not followed is not followed better for being stricter.
            moves_policy: false,
            affects_subsystems: Vec::new(),
            source: IssueSource::Policy,
        };
        let Some(episode) = open else {
            self.open(draft, key, facts, true, None, None);
            return;
        };
        let same = IssueFacts { symptoms: episode.facts.symptoms.clone(), ..facts.clone() } == episode.facts;
        if same && episode.by_check {
            return;
        }
        let ladder = if facts.severity == episode.facts.severity {
            episode.ladder.clone()
        } else {
            self.ladder(&key.subsystem, &key.kind, facts.severity, &episode.ladder)
        };
        self.change(draft, episode, facts, ladder, true);
    }

    fn symptom(&self, state: &State, hook: &Name) -> String {
        let why = self.world.hooks.get(hook).map_or("", |seen| seen.why.as_str());
        let Some(told) = state.hooks.get(hook) else { return hook.to_string() };
        let said = if told.detail.is_empty() { "no answer" } else { &told.detail };
        let seen = if why.is_empty() { String::new() } else { format!("; {why}") };
        format!("{hook}: told {} times, last answer: {said}{seen}", told.attempts)
    }

    /// Every hook for people and for the exporter.
    pub(super) fn hook_views(&self, state: &State) -> Vec<HookView> {
        let one = |hook: &std::sync::Arc<crate::config::PolicyHook>| {
            let rule = &hook.rule;
            let told = state.hooks.get(&rule.name);
            let seen = self.world.hooks.get(&rule.name);
            let late = seen.is_some_and(|seen| seen.late);
            let word = match told {
                _ if self.rules.admit.dry_run => "dry_run",
                None => "idle",
                Some(told) if told.followed_at.is_some() => "followed",
                Some(told) if is_settled(rule, &heard(told)) => "unproven",
                Some(_) if late => "late",
                Some(_) => "telling",
            };
            HookView {
                hook: rule.name.clone(),
                state: word,
                means: redact::text(&hook.actuator.describe()).into_owned(),
                proof: rule.proof,
                late,
                policy: told.map(|told| told.level),
                since: told.map(|told| told.since),
                told_at: told.map(|told| told.told_at),
                attempts: told.map_or(0, |told| told.attempts),
                ending: told.and_then(|told| told.ending),
                detail: told.map_or_else(String::new, |told| told.detail.clone()),
                followed_at: told.and_then(|told| told.followed_at),
                seen: seen.map_or_else(String::new, |seen| seen.why.clone()),
            }
        };
        self.rules.hooks.iter().map(one).collect()
    }
}

/// What the issue of a bot that does not follow is about.
fn key(rule: &Rule) -> EpisodeKey {
    let subsystem = rule.subsystem.clone().unwrap_or_else(|| PLATFORM.into());
    EpisodeKey { subsystem, symbol: None, kind: POLICY_NOT_FOLLOWED.into() }
}

fn open<'s>(state: &'s State, key: &EpisodeKey) -> Option<&'s Episode> {
    state.open.get(key).and_then(|id| state.episodes.get(id)).map(|episode| &**episode)
}

/// What the journal knows of a hook, as its rule sees it.
fn heard(told: &Told) -> Heard {
    Heard {
        level: told.level,
        from: told.from.unwrap_or(Level::AllowAll),
        since: told.since,
        told_at: told.told_at,
        attempts: told.attempts,
        answered: told.ending.map(|ending| ending == Ending::Ok),
        followed: told.followed_at.is_some(),
    }
}

/// The try that the journal knows last.
fn telling(state: &State, hook: &Name) -> Option<Telling> {
    let told = state.hooks.get(hook)?;
    Some(Telling {
        hook: hook.clone(),
        level: told.level,
        from: told.from.unwrap_or(Level::AllowAll),
        since: told.since,
        attempt: told.attempts,
    })
}
