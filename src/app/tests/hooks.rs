//! POL-5 on a simulated clock: a bot that is told of the policy, and follows, or does not.

use std::sync::Arc;
use std::time::Duration;

use super::sim::{Played, Sim, rules};
use crate::app::cycle::{Command, Effect, Rules};
use crate::app::hooks::{Hooked, Telling};
use crate::config::{Confirm, PolicyHook};
use crate::execute::Answer;
use crate::journal::{Record, State};
use crate::model::{
    Caller, Criticality, Ending, Level, Name, PLATFORM, POLICY_NOT_FOLLOWED, Reason, Role, Severity, Status, Timestamp,
};
use crate::policy::hooks::{Rule, When, follows};

fn hook(name: &str, when: When) -> Arc<PolicyHook> {
    Arc::new(PolicyHook {
        rule: Rule {
            name: name.into(),
            when,
            proof: true,
            first: Duration::from_secs(1),
            max: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
            recheck: Duration::from_secs(60),
            subsystem: None,
        },
        timeout: Duration::from_secs(10),
        place: String::new(),
        actuator: Arc::new(Played { evidence: false }),
        confirm: Confirm::Nothing,
    })
}

/// One whose effect nothing shows.
fn unproven(name: &str, when: When) -> Arc<PolicyHook> {
    let hook = PolicyHook::clone(&hook(name, when));
    Arc::new(PolicyHook { rule: Rule { proof: false, ..hook.rule.clone() }, ..hook })
}

/// A bot beside the decider: what it is at, and how it takes what it is told.
struct Bot {
    sim: Sim,
    begun: Timestamp,
    level: Level,
    /// It refuses this many times.
    refuses: u32,
    /// It says ok to this many and does nothing.
    ignores: u32,
    /// It answers nothing, and nothing happens.
    hangs: bool,
    /// Every telling that reached it: second, level, try.
    told: Vec<(u64, Level, u32)>,
    looks: usize,
    rehearsed: Vec<Level>,
}

impl Bot {
    fn new(hooks: &[Arc<PolicyHook>]) -> Self {
        Self::with(hooks, |_| ())
    }

    fn with(hooks: &[Arc<PolicyHook>], change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = rules(&[("feed", Criticality::Full, &[])], &[]);
        rules.hooks = hooks.to_vec().into();
        change(&mut rules);
        let mut sim = Sim::new(rules);
        // The first checks are healthy, so that what the start holds is over before anybody is told.
        sim.check_all();
        let begun = sim.now;
        let mut bot = Self {
            sim,
            begun,
            level: Level::AllowAll,
            refuses: 0,
            ignores: 0,
            hangs: false,
            told: Vec::new(),
            looks: 0,
            rehearsed: Vec::new(),
        };
        bot.settle();
        bot.told.clear();
        bot
    }

    /// What the hooks were to do is done, and the decider hears of it, until there is nothing more in this second.
    fn settle(&mut self) {
        for _ in 0..20 {
            self.act();
            if self.sim.hooked.is_empty() {
                return;
            }
            self.sim.check_forced();
        }
        panic!("the hooks do not come to rest: {:?}", self.told);
    }

    /// The effects happen; their answers wait for the decider.
    fn act(&mut self) {
        for effect in std::mem::take(&mut self.sim.hook_effects) {
            match effect {
                Effect::Tell(telling) => self.tell(telling),
                Effect::Look(telling) => {
                    self.looks += 1;
                    self.look(telling, None);
                }
                Effect::WouldTell { level, .. } => self.rehearsed.push(level),
                other => panic!("{other:?} is none of a hook's"),
            }
        }
    }

    fn tell(&mut self, telling: Telling) {
        self.told.push((self.sim.now.since(self.begun).as_secs(), telling.level, telling.attempt));
        if self.hangs {
            return;
        }
        let ending = if self.refuses > 0 {
            self.refuses -= 1;
            Ending::Failed
        } else if self.ignores > 0 {
            self.ignores -= 1;
            Ending::Ok
        } else {
            self.level = telling.level;
            Ending::Ok
        };
        self.look(telling, Some(Answer::new(ending, format!("{ending:?}"))));
    }

    fn look(&mut self, telling: Telling, answer: Option<Answer>) {
        let follows = follows(telling.level, telling.from, self.level);
        let shown = if follows { Ok(()) } else { Err(format!("the bot shows {}", self.level)) };
        let proof = self.sim.rules.hooks.iter().any(|hook| hook.rule.name == telling.hook && hook.rule.proof);
        self.sim.hooked.push(Hooked { telling, answer, shown: proof.then_some(shown) });
    }

    fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.sim.pass(1);
            if self.sim.now.since(self.begun).as_secs() % 5 == 4 {
                self.sim.check_all();
            } else {
                self.sim.check_forced();
            }
            self.settle();
        }
    }

    fn set(&mut self, level: Level) {
        let by = Caller { name: "ada".to_owned(), role: Role::Admin };
        let command = Command::SetPolicy { level, reason: "test".to_owned(), by, until: None };
        assert_eq!(self.sim.command(command), None);
    }

    fn told(&self, hook: &str) -> crate::journal::Told {
        self.sim.state.hooks[&Name::from(hook)].clone()
    }

    fn issue(&self) -> Option<Arc<crate::journal::Episode>> {
        let mut open = self.sim.state.episodes.values().filter(|episode| episode.key.kind == *POLICY_NOT_FOLLOWED);
        let found = open.next().cloned();
        assert!(open.next().is_none(), "one issue for one bot");
        found
    }

    fn records(&self, kind: &str) -> usize {
        self.sim.entries.iter().filter(|entry| entry.record.kind() == kind).count()
    }
}

const STOP: When = When::AtLeast(Level::NoNewTrades);
const START: When = When::Below(Level::NoNewTrades);

/// POL-5: the step that tightens tells the bot, and by the time it has answered it is seen to follow.
#[test]
fn the_bot_is_told_in_the_same_step() {
    let mut bot = Bot::new(&[hook("bot_stop", STOP), hook("bot_start", START)]);
    bot.set(Level::NoNewTrades);
    assert_eq!(bot.sim.kinds(bot.sim.entries.len() - 3), ["hold_set", "hook_told", "hook_ended"]);
    bot.settle();
    assert_eq!((bot.level, bot.told.as_slice()), (Level::NoNewTrades, &[(0, Level::NoNewTrades, 1)][..]));
    assert!(bot.told("bot_stop").followed_at.is_some());
    assert!(!bot.sim.state.hooks.contains_key(&Name::from("bot_start")), "it has nothing to tell");
    bot.set(Level::AllowAll);
    bot.settle();
    assert_eq!(bot.level, Level::AllowAll);
    assert_eq!(bot.sim.state.hooks.keys().map(Name::as_str).collect::<Vec<_>>(), ["bot_start"]);
    assert!(bot.issue().is_none());
    // The same level again is told again: the bot was elsewhere meanwhile.
    bot.set(Level::NoNewTrades);
    bot.settle();
    assert_eq!(bot.level, Level::NoNewTrades);
}

/// POL-5: a bot that refuses is told again after 1, 2, 4 ... s; past the deadline it is an issue of its own, which a person
/// is told of at once, and which ends as soon as the bot follows. It moves no policy.
#[test]
fn a_bot_that_refuses_is_an_issue_of_its_own() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.refuses = 6;
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(29);
    assert_eq!(bot.told.iter().map(|(second, ..)| *second).collect::<Vec<_>>(), [0, 1, 3, 7, 15]);
    assert!(bot.issue().is_none(), "not before the deadline");
    let level = bot.sim.state.level();
    bot.live(1);
    let issue = bot.issue().expect("30 s have passed");
    assert_eq!((issue.key.subsystem.as_str(), issue.facts.severity), (PLATFORM, Severity::Critical));
    assert!(issue.facts.impacts_trading && !issue.facts.moves_policy && issue.by_check && issue.ladder.is_empty());
    assert_eq!(issue.facts.description, "the bot does not follow the policy no_new_trades (bot)");
    assert!(
        issue.facts.symptoms[0].contains("told 5 times, last answer: Failed; the bot shows allow_all"),
        "{issue:?}"
    );
    bot.sim.step(crate::app::cycle::Inputs::default());
    assert_eq!(bot.issue().and_then(|issue| issue.escalated), Some(Reason::Exhausted), "a person is told at once");
    assert_eq!(bot.sim.state.level(), level, "an issue about the policy moves none");
    bot.live(31);
    assert_eq!(bot.told.last(), Some(&(61, Level::NoNewTrades, 7)));
    assert!(bot.told("bot").followed_at.is_some());
    bot.live(1);
    assert!(bot.issue().is_none(), "it follows");
    assert_eq!(bot.records("episode_opened"), 1);
}

/// POL-5: ok without effect is no proof. The bot is looked at before it is told again, and one that takes its time is not
/// told twice.
#[test]
fn an_answer_is_no_proof() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.ignores = 2;
    bot.set(Level::DefensiveExit);
    bot.settle();
    assert!(bot.told("bot").followed_at.is_none(), "it said ok and did nothing");
    bot.live(3);
    assert_eq!(bot.told.iter().map(|(second, ..)| *second).collect::<Vec<_>>(), [0, 1, 3]);
    assert_eq!(bot.level, Level::DefensiveExit);
    bot.ignores = 1;
    bot.set(Level::EmergencyShutdown);
    bot.settle();
    // It takes half a second to do what it said it would.
    bot.level = Level::EmergencyShutdown;
    let told = bot.told.len();
    bot.live(2);
    assert_eq!(bot.told.len(), told, "seen to follow at the next look");
    assert!(bot.told("bot").followed_at.is_some());
}

/// POL-5: a change of the level is told at once, whatever is being told or waited for.
#[test]
fn a_change_starts_anew() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.hangs = true;
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(2);
    assert_eq!(bot.told.len(), 1, "one at a time");
    bot.hangs = false;
    bot.set(Level::EmergencyShutdown);
    bot.settle();
    assert_eq!(bot.told.last(), Some(&(2, Level::EmergencyShutdown, 1)));
    assert_eq!(bot.level, Level::EmergencyShutdown);
}

/// POL-5: what was overtaken and is done last is seen: the bot is looked at again, and told again.
#[test]
fn what_was_overtaken_is_seen() {
    let mut bot = Bot::new(&[hook("bot_stop", STOP), hook("bot_start", START)]);
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.set(Level::AllowAll);
    let [Effect::Tell(late)] = &bot.sim.hook_effects[..] else { panic!("one hook tells") };
    let late = late.clone();
    bot.sim.hook_effects.clear();
    bot.set(Level::NoNewTrades);
    bot.settle();
    assert_eq!(bot.level, Level::NoNewTrades);
    bot.live(1);
    // The slow one comes through now.
    bot.tell(late);
    assert_eq!(bot.level, Level::AllowAll);
    bot.live(1);
    assert_eq!(bot.level, Level::NoNewTrades, "{:?}", bot.told);
}

/// POL-5: the same where nothing shows the bot's level: it is told again, once.
#[test]
fn what_was_overtaken_is_told_again_without_proof() {
    let mut bot = Bot::new(&[unproven("bot_stop", STOP), unproven("bot_start", START)]);
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.set(Level::AllowAll);
    let [Effect::Tell(late)] = &bot.sim.hook_effects[..] else { panic!("one hook tells") };
    let late = late.clone();
    bot.sim.hook_effects.clear();
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.tell(late);
    assert_eq!(bot.level, Level::AllowAll);
    bot.live(2);
    assert_eq!(bot.level, Level::NoNewTrades, "{:?}", bot.told);
    let told = bot.told.len();
    bot.live(30);
    assert_eq!(bot.told.len(), told, "once");
}

/// POL-5: a clock that is set while a hook tells stops nothing: a bot that refused is told again.
#[test]
fn the_clock_is_set_while_it_tells() {
    for off in [-3_600_000_i64, 3_600_000] {
        let mut bot = Bot::new(&[hook("bot", When::Always)]);
        bot.refuses = 1;
        bot.set(Level::NoNewTrades);
        bot.sim.now = crate::model::Timestamp::from_millis(bot.sim.now.millis() + off);
        bot.sim.cycle.shift_clock(off);
        bot.settle();
        bot.live(5);
        assert_eq!(bot.level, Level::NoNewTrades, "{off}: {:?}", bot.told);
    }
}

/// POL-5: a bot that falls back, after a restart of its own, is seen within a minute and told again.
#[test]
fn a_bot_that_falls_back_is_told_again() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(30);
    bot.level = Level::AllowAll;
    bot.live(29);
    assert_eq!(bot.told.len(), 1);
    bot.live(1);
    assert_eq!(bot.told, [(0, Level::NoNewTrades, 1), (60, Level::NoNewTrades, 1)]);
    assert_eq!(bot.level, Level::NoNewTrades);
    assert!(bot.issue().is_none());
}

/// POL-5: late stays late while the policy moves on; when the hook has nothing to tell, the issue is over.
#[test]
fn lateness_survives_a_change_and_ends_with_the_need() {
    let mut bot = Bot::new(&[hook("bot_stop", STOP)]);
    bot.refuses = 1000;
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(31);
    let first = bot.issue().expect("late").id.clone();
    bot.set(Level::EmergencyShutdown);
    bot.settle();
    bot.live(2);
    let issue = bot.issue().expect("still late");
    assert_eq!(issue.id, first);
    assert!(issue.facts.description.contains("emergency_shutdown"), "{}", issue.facts.description);
    let by = "ada".to_owned();
    assert_eq!(bot.sim.command(Command::ReleasePolicy { by, reason: "test".to_owned() }), None);
    bot.settle();
    bot.live(2);
    assert!(bot.issue().is_none() && bot.sim.state.hooks.is_empty());
}

/// Invariant 9: a crash before the effect, before the answer and after it: the bot is told the same try again, the deadline
/// goes on, and in the end it follows.
#[test]
fn a_crash_at_each_point() {
    for point in 0..3 {
        let mut bot = Bot::new(&[hook("bot", When::Always)]);
        bot.set(Level::NoNewTrades);
        let since = bot.told("bot").since;
        match point {
            0 => {}
            1 => bot.act(),
            _ => {
                bot.refuses = 1;
                bot.settle();
            }
        }
        let before = bot.told("bot");
        bot.sim.crash();
        bot.sim.check_all();
        bot.settle();
        bot.live(3);
        let after = bot.told("bot");
        assert_eq!(bot.level, Level::NoNewTrades, "point {point}");
        assert!(after.followed_at.is_some(), "point {point}");
        if point < 2 {
            assert_eq!((after.since, after.attempts), (since, before.attempts), "point {point}: the same try");
        }
        let replayed = State::default().replay(&bot.sim.entries).expect("the journal is legal");
        assert_eq!(replayed.hooks, bot.sim.state.hooks, "point {point}");
    }
}

/// POL-5: after a restart a bot that follows is looked at, not told.
#[test]
fn after_a_restart_the_bot_is_looked_at() {
    // Held while the checks of the new process have not answered, and by the person: no change of the level.
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.set(Level::NoNewTrades);
    bot.settle();
    let (told, looks) = (bot.told.len(), bot.looks);
    bot.sim.crash();
    bot.sim.check_all();
    bot.settle();
    assert_eq!((bot.told.len(), bot.looks), (told, looks + 1));
    bot.sim.crash();
    bot.level = Level::AllowAll;
    bot.sim.check_all();
    bot.settle();
    assert_eq!(bot.level, Level::NoNewTrades, "and told if it has fallen back meanwhile");
}

/// POL-5, POL-4: while the journal cannot be written, the bot is told what tightens and not what loosens.
#[test]
fn without_a_journal_only_what_tightens_is_told() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.sim.lose_journal();
    bot.settle();
    bot.set(Level::DefensiveExit);
    bot.settle();
    assert_eq!(bot.level, Level::DefensiveExit);
    // A person's hold ends by itself.
    let mut loosened = bot.sim.state.clone();
    loosened.holds.clear();
    bot.sim.cycle.set_blind("journal_unavailable", None);
    let decision = bot.sim.cycle.step(&loosened, &crate::app::cycle::Inputs::default(), bot.sim.now);
    assert!(!decision.effects.iter().any(|effect| matches!(effect, Effect::Tell(_))), "{:?}", decision.effects);
    assert!(!decision.records.iter().any(|record| matches!(record, Record::HookTold { .. })));
    bot.sim.cycle.set_journal_ok(true);
    let decision = bot.sim.cycle.step(&loosened, &crate::app::cycle::Inputs::default(), bot.sim.now);
    assert!(decision.effects.iter().any(|effect| matches!(effect, Effect::Tell(_))), "{:?}", decision.effects);
}

/// SPEC 14: in dry-run the bot is told nothing, and what it would have been told is said.
#[test]
fn dry_run_is_silent() {
    let mut bot = Bot::with(&[hook("bot", When::Always)], |rules| rules.admit.dry_run = true);
    bot.rehearsed.clear();
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(40);
    assert_eq!((bot.told.as_slice(), bot.rehearsed.as_slice()), (&[][..], &[Level::NoNewTrades][..]));
    assert!(bot.issue().is_none() && bot.sim.state.hooks.is_empty());
    assert_eq!(bot.sim.cycle.hook_views(&bot.sim.state)[0].state, "dry_run");
}

/// POL-5: once chiron ends nothing is begun; while it only begins no actions, the bot is still told what tightens.
#[test]
fn a_stop_begins_nothing() {
    for ending in [false, true] {
        let mut bot = Bot::new(&[hook("bot", When::Always)]);
        bot.sim.cycle.set_stopping();
        if ending {
            bot.sim.cycle.set_ending();
        }
        bot.set(Level::NoNewTrades);
        bot.settle();
        assert_eq!(bot.level == Level::NoNewTrades, !ending);
    }
}

/// POL-5: a hook that a reload removes is forgotten, with its issue.
#[test]
fn a_removed_hook_is_forgotten() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.refuses = 1000;
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(31);
    assert!(bot.issue().is_some());
    bot.sim.rules.hooks = Arc::default();
    let (rules, state, now) = (bot.sim.rules.clone(), bot.sim.state.clone(), bot.sim.now);
    bot.sim.cycle.reconfigure(rules, &state, now);
    bot.sim.check_all();
    bot.sim.check_all();
    assert!(bot.issue().is_none() && bot.sim.state.hooks.is_empty());
    assert!(bot.sim.cycle.hook_views(&bot.sim.state).is_empty());
}

/// POL-5: the issue belongs to the subsystem that the hook names, where the operator's ladder for it is bound.
#[test]
fn an_operators_ladder_is_climbed() {
    use crate::recommend::Ladder;
    let mut named = PolicyHook::clone(&hook("bot", When::Always));
    named.rule.subsystem = Some("feed".into());
    let mut bot = Bot::with(&[Arc::new(named)], |rules| {
        let bound = super::sim::rules(
            &[("feed", Criticality::Full, &[])],
            &[("restart_subsystem", "feed", crate::model::Class::Natural)],
        );
        rules.bindings = bound.bindings;
        rules.recommend.ladders = vec![Ladder {
            subsystem: None,
            kind: Some(POLICY_NOT_FOLLOWED.into()),
            severity: None,
            actions: vec!["restart_subsystem".into()],
        }];
    });
    bot.refuses = 1000;
    bot.set(Level::NoNewTrades);
    bot.settle();
    bot.live(31);
    let issue = bot.issue().expect("late");
    assert_eq!(issue.key.subsystem, "feed");
    assert_eq!(bot.sim.under_way.len(), 1, "the restart is begun");
    assert_eq!(bot.sim.state.level(), Level::NoNewTrades);
    // The restart works, and the feed's own check is healthy all along: that is no proof that the bot follows.
    bot.sim.answer(Ending::Ok);
    bot.live(10);
    assert_eq!(bot.issue().and_then(|issue| issue.escalated), Some(Reason::Exhausted));
    bot.refuses = 0;
    bot.live(40);
    assert!(bot.issue().is_none());
}

/// POL-5: the start of chiron itself holds a level, and the bot is told of it like of any other.
#[test]
fn a_failed_check_tells_the_bot() {
    let mut bot = Bot::new(&[hook("bot", When::Always)]);
    bot.sim.break_("feed", Status::Critical);
    bot.live(20);
    assert_eq!(bot.level, Level::DefensiveExit);
    assert_eq!(bot.told("bot").level, Level::DefensiveExit);
}
