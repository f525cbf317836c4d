//! A restart storm: a hundred subsystems flap for ten simulated minutes, and what is done to them stays within every limit,
//! as counted by the world and not by the decider (ACT-3, `docs/reliability.md` invariants 9, 21 and 22).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::sim::{Part, Sim, rules};
use crate::journal::Record;
use crate::model::{Class, Criticality, Ending, Name, RunKey, RunState, Status, Timestamp};

/// Subsystems: twenty trees of one that four others need.
const COUNT: usize = 100;
const SECONDS: u64 = 600;

/// A small generator whose numbers follow from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn names() -> &'static [&'static str] {
    static NAMES: std::sync::OnceLock<Vec<&'static str>> = std::sync::OnceLock::new();
    NAMES.get_or_init(|| (0..COUNT).map(|index| &*Box::leak(format!("part_{index:02}").into_boxed_str())).collect())
}

/// What varies between storms.
#[derive(Clone, Copy, Debug)]
struct Weather {
    seed: u64,
    /// Whether storm mode is on.
    mode: bool,
    crashes: bool,
    cooldown: u64,
    target: (u32, u64),
    overall: (u32, u64),
    concurrency: usize,
}

impl Weather {
    fn sim(&self) -> Sim {
        let parts: Vec<Part> = (0..COUNT)
            .map(|index| {
                let root = index / 5 * 5;
                let needs: &[&str] = if index == root { &[] } else { &names()[root..=root] };
                (names()[index], Criticality::Partial, needs)
            })
            .collect();
        let classes = [Class::OneShot, Class::Natural, Class::Keyed, Class::Probeable];
        let bindings: Vec<(&str, &str, Class)> =
            names().iter().enumerate().map(|(index, name)| ("restart_subsystem", *name, classes[index % 4])).collect();
        let mut rules = rules(&parts, &bindings);
        super::sim::with_evidence(&mut rules);
        rules.admit.storm.subsystems = if self.mode { 5 } else { 1_000_000 };
        rules.admit.storm.share = 0.2;
        rules.admit.cooldown = Duration::from_secs(self.cooldown);
        (rules.admit.target_budget, rules.admit.target_window) = (self.target.0, Duration::from_secs(self.target.1));
        (rules.admit.overall_budget, rules.admit.overall_window) =
            (self.overall.0, Duration::from_secs(self.overall.1));
        rules.admit.concurrency = self.concurrency;
        Sim::new(rules)
    }
}

/// What the world has counted.
#[derive(Debug, Default)]
struct Count {
    /// Effects in the order in which they began: when, on whom, and whether it was one that a crash had interrupted.
    effects: Vec<(Timestamp, Name, bool)>,
    seen: BTreeMap<RunKey, u32>,
    at_once: usize,
    stormy: u64,
    crashes: u64,
    /// Starts in the journal.
    journaled: usize,
}

impl Count {
    /// Looks at what the world has seen since.
    fn look(&mut self, sim: &Sim) {
        for (key, times) in &sim.effects {
            let seen = self.seen.entry(key.clone()).or_insert(0);
            while *seen < *times {
                let target = sim.state.runs.get(key).map(|run| run.target.clone());
                let ended = || sim.state.ended_runs.iter().find(|run| run.key == *key).map(|run| run.target.clone());
                let target = target.or_else(ended).expect("an effect has a run");
                self.effects.push((sim.now, target, *seen > 0));
                *seen += 1;
            }
        }
        self.at_once = self.at_once.max(sim.under_way.len());
        let targets: BTreeSet<&Name> = sim.under_way.iter().map(|(_, target)| target).collect();
        assert_eq!(targets.len(), sim.under_way.len(), "one at a time per target");
        self.stormy += u64::from(sim.cycle.is_stormy());
    }
}

/// Every interval holds at most `capacity + t * rate` effects, those left out that a crash had interrupted: these are done
/// once more without asking for a token, though they take one.
fn assert_within(effects: &[(Timestamp, bool)], (budget, window): (u32, u64), whose: &str) {
    let (budget, window) = (i128::from(budget), i128::from(window) * 1000);
    for (first, (from, _)) in effects.iter().enumerate() {
        let mut count = 0;
        for (to, again) in &effects[first..] {
            count += i128::from(!*again);
            let passed = i128::from(to.millis() - from.millis());
            assert!(count * window <= budget * window + passed * budget, "{whose}: {count} effects in {passed} ms");
        }
    }
}

fn storm(weather: Weather) -> Count {
    let mut dice = Dice(weather.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut sim = weather.sim();
    sim.check_all();
    let mut count = Count::default();
    for _ in 0..SECONDS {
        sim.pass(1);
        for name in names() {
            let broken = sim.truth[*name] != Status::Healthy;
            // Broken for half a minute, whole for a minute, on average.
            if dice.once_in(if broken { 30 } else { 60 }) {
                sim.break_(name, if broken { Status::Healthy } else { Status::Critical });
            }
        }
        let answers = dice.below(3);
        for _ in 0..answers {
            let ending = if dice.once_in(4) { Ending::Failed } else { Ending::Ok };
            if let Some(target) = sim.answer(ending)
                && dice.once_in(2)
            {
                sim.break_(&target, Status::Healthy);
            }
        }
        if weather.crashes && dice.once_in(25) {
            count.crashes += 1;
            if dice.once_in(2) {
                let inputs = sim.inputs();
                sim.step_or_die(inputs, true);
            } else {
                sim.crash();
            }
        }
        sim.check_all();
        count.look(&sim);
        sim.check_forced();
        count.look(&sim);
        let begun = sim.state.runs.values().filter(|run| run.state == RunState::Started).count();
        assert!(begun <= weather.concurrency, "{begun} at work at once");
    }
    // One that died between the commit and the effect has begun nothing.
    let intended = sim.entries.iter().filter_map(|entry| match &entry.record {
        Record::RunIntended { key, lowers_risk: true, .. } => Some(key),
        _ => None,
    });
    let holds: BTreeSet<&RunKey> = intended.collect();
    let journaled = |record: &Record| match record {
        Record::RunStarted { key, .. } | Record::RunResumed { key } => !holds.contains(key),
        _ => false,
    };
    count.journaled = sim.entries.iter().filter(|entry| journaled(&entry.record)).count();
    assert!(count.effects.len() <= count.journaled, "no effect without its record");
    assert!(weather.crashes || count.effects.len() == count.journaled, "nothing died on the way");
    count
}

/// One from `first` on in every run; `STORM_SEEDS` says how many in a long one.
#[expect(clippy::disallowed_methods, reason = "how long a test runs is asked of its environment")]
fn seeds(first: u64) -> std::ops::Range<u64> {
    let count = std::env::var("STORM_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    first..first + count
}

fn check(weather: Weather) -> Count {
    let count = storm(weather);
    let overall: Vec<_> = count.effects.iter().map(|(at, _, again)| (*at, *again)).collect();
    assert_within(&overall, weather.overall, "overall");
    let mut most = 0;
    for name in names() {
        let own = count.effects.iter().filter(|(_, target, _)| *target == **name);
        let own: Vec<_> = own.map(|(at, _, again)| (*at, *again)).collect();
        most = most.max(own.len());
        assert_within(&own, weather.target, name);
    }
    assert!(count.at_once <= weather.concurrency, "{} at once", count.at_once);
    let again = count.effects.iter().filter(|(_, _, again)| *again).count();
    eprintln!(
        "storm {weather:?}: {} effects ({again} again after a crash), at most {most} on one target, {} at once, {} of \
         {} looks in storm mode, {} crashes",
        count.effects.len(),
        count.at_once,
        count.stormy,
        SECONDS * 2,
        count.crashes,
    );
    count
}

const DEFAULTS: Weather = Weather {
    seed: 1,
    mode: false,
    crashes: false,
    cooldown: 60,
    target: (3, 900),
    overall: (10, 600),
    concurrency: 4,
};

/// ACT-3: with storm mode off the budgets alone hold, and they are used up.
#[test]
fn budgets_alone_hold_in_a_storm() {
    for seed in seeds(1) {
        let count = check(Weather { seed, ..DEFAULTS });
        assert!(count.effects.len() >= 15, "the budget of 10 + 10 in ten minutes is used: {}", count.effects.len());
        assert_eq!(count.stormy, 0);
        // Nothing but the target's own budget between it and a restart each second.
        let tight = Weather { seed, cooldown: 0, target: (2, 300), overall: (500, 600), concurrency: 8, ..DEFAULTS };
        let count = check(tight);
        assert!(count.effects.len() > 100, "{}", count.effects.len());
    }
}

/// ACT-3: storm mode besides: only root causes are acted upon while it lasts.
#[test]
fn storm_mode_holds_back_more() {
    for seed in seeds(1_000) {
        let loose = Weather { seed, cooldown: 0, target: (5, 300), overall: (500, 600), concurrency: 8, ..DEFAULTS };
        let (off, on) = (check(loose), check(Weather { mode: true, ..loose }));
        assert!(on.stormy > SECONDS, "a third is broken all the time: {}", on.stormy);
        assert!(on.effects.len() < off.effects.len(), "{} and {}", on.effects.len(), off.effects.len());
    }
}

/// ACT-3, invariant 21: crashes in between refill nothing.
#[test]
fn crashes_refill_nothing() {
    for seed in seeds(2_000) {
        for mode in [false, true] {
            let count = check(Weather { seed, mode, crashes: true, ..DEFAULTS });
            assert!(count.crashes > 5 && !count.effects.is_empty());
            let loose =
                Weather { seed, mode, crashes: true, cooldown: 0, target: (2, 300), overall: (60, 600), ..DEFAULTS };
            check(loose);
        }
    }
}
