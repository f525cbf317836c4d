//! What is really there: subsystems that break and heal, and means that act on them. It counts its own effects, and knows
//! nothing of the decider.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dice::Dice;
use crate::execute::ProbeAnswer;
use crate::model::{Class, Ending, Name, RunKey, Status, Subsystem};

/// How an effect changes its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Heals,
    Nothing,
    Worsens,
}

/// A command, request or call under way, or one that still has its effect to come.
#[derive(Debug)]
struct Order {
    key: RunKey,
    target: Name,
    class: Class,
    /// When its effect happens, if it does.
    effect_at: Option<Duration>,
    answer_at: Duration,
    ending: Ending,
    change: Change,
    answered: bool,
    /// Whoever began it has died: nobody hears its answer.
    orphan: bool,
}

/// The world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) truth: BTreeMap<Name, Status>,
    pub(super) flapping: Vec<Name>,
    needs: BTreeMap<Name, Vec<Name>>,
    orders: Vec<Order>,
    /// How often each run's effect happened.
    pub(super) effects: BTreeMap<RunKey, u32>,
    /// How often each was asked for.
    pub(super) asked: BTreeMap<RunKey, u32>,
    /// Nothing fails any more, and everything heals what it is done to.
    pub(super) kind: bool,
}

impl World {
    pub(super) fn new(subsystems: &[Subsystem]) -> Self {
        Self {
            truth: subsystems.iter().map(|one| (one.name.clone(), Status::Healthy)).collect(),
            flapping: Vec::new(),
            needs: subsystems.iter().map(|one| (one.name.clone(), one.depends_on.clone())).collect(),
            orders: Vec::new(),
            effects: BTreeMap::new(),
            asked: BTreeMap::new(),
            kind: false,
        }
    }

    fn dependants(&self, of: &Name) -> Vec<Name> {
        self.needs.iter().filter(|(_, needs)| needs.contains(of)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn harm(&mut self, target: &Name, status: Status, dice: &mut Dice) {
        self.truth.insert(target.clone(), status);
        for dependant in self.dependants(target) {
            if status == Status::Critical && dice.percent(40) {
                self.truth.insert(dependant, Status::Critical);
            }
        }
    }

    fn heal(&mut self, target: &Name, dice: &mut Dice) {
        let root_broken = self.needs[target].iter().any(|need| self.truth[need].is_broken());
        if root_broken && !self.kind {
            return;
        }
        self.truth.insert(target.clone(), Status::Healthy);
        for dependant in self.dependants(target) {
            if dice.percent(50) {
                self.truth.insert(dependant, Status::Healthy);
            }
        }
    }

    pub(super) fn heal_all(&mut self) {
        self.flapping.clear();
        self.truth.values_mut().for_each(|status| *status = Status::Healthy);
        self.kind = true;
    }

    /// Subsystems that cannot make up their mind.
    pub(super) fn flap(&mut self, dice: &mut Dice) {
        for name in self.flapping.clone() {
            if dice.percent(40) {
                let status = dice.pick(&[Status::Healthy, Status::Critical, Status::Degraded, Status::Unknown]);
                self.truth.insert(name, status);
            }
        }
    }

    /// A means is told to do it. Another order that still works on the same target, if there is one.
    pub(super) fn begin(
        &mut self,
        key: &RunKey,
        target: &Name,
        class: Class,
        timeout: Duration,
        now: Duration,
        dice: &mut Dice,
    ) -> Option<RunKey> {
        let other = self.orders.iter().find(|order| order.target == *target && !order.answered);
        let other = other.map(|order| order.key.clone());
        *self.asked.entry(key.clone()).or_insert(0) += 1;
        let limit = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
        let soon = dice.millis(0, 1_500.min(limit));
        let (effect_at, answer_at, ending) = match if self.kind { 0 } else { dice.below(100) } {
            // Done and answered; at the last moment for some.
            0..50 => (Some(soon), soon + dice.millis(0, 300), Ending::Ok),
            50..60 => {
                let late = dice.millis(limit / 2, limit);
                (Some(late), late, Ending::Ok)
            }
            60..70 => (None, soon, Ending::Failed),
            70..77 => (Some(soon), soon + dice.millis(0, 500), Ending::Failed),
            77..84 => (None, dice.millis(0, 50), Ending::NotStarted),
            // Silent until the engine answers for it: with the effect, without it, or with one that comes after all.
            84..90 => (Some(dice.millis(0, limit)), timeout + dice.millis(0, 5_000), Ending::Timeout),
            90..95 => (None, timeout + dice.millis(0, 5_000), Ending::Timeout),
            95..97 => (Some(timeout + dice.millis(5_000, 30_000)), timeout + dice.millis(0, 5_000), Ending::Timeout),
            // Says that all is well and does nothing.
            _ => (None, soon, Ending::Ok),
        };
        let change = match if self.kind { 0 } else { dice.below(100) } {
            0..65 => Change::Heals,
            65..88 => Change::Nothing,
            _ => Change::Worsens,
        };
        self.orders.push(Order {
            key: key.clone(),
            target: target.clone(),
            class,
            effect_at: effect_at.map(|after| now + after),
            answer_at: now + answer_at,
            ending,
            change,
            answered: false,
            orphan: false,
        });
        other
    }

    /// Whoever gives the orders has died: some of what is under way dies with it, the rest goes on unheard.
    pub(super) fn orphan(&mut self, now: Duration, dice: &mut Dice) {
        self.orders.retain_mut(|order| {
            let survives = order.answered || dice.percent(50);
            order.orphan = true;
            // One whose effect has happened may be just about to answer.
            survives || order.effect_at.is_some_and(|at| at <= now)
        });
    }

    /// Until when something of a run is still at work; ended at `limit`.
    pub(super) fn await_end(&mut self, key: &RunKey, limit: Duration) -> Option<Duration> {
        let working = self.orders.iter_mut().filter(|order| order.key == *key && order.orphan && !order.answered);
        working
            .map(|order| {
                order.answer_at = order.answer_at.min(limit);
                order.answer_at
            })
            .max()
    }

    /// What the probe of a means answers that can tell.
    pub(super) fn probe(&self, key: &RunKey) -> ProbeAnswer {
        if self.effects.contains_key(key) { ProbeAnswer::Happened } else { ProbeAnswer::DidNotHappen }
    }

    /// Whether any order is not over.
    pub(super) fn is_at_work(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Time has passed: effects happen, answers are given to those who still listen.
    pub(super) fn advance(&mut self, now: Duration, dice: &mut Dice) -> Vec<(RunKey, Ending)> {
        let mut due: Vec<(Duration, usize)> = Vec::new();
        for (index, order) in self.orders.iter().enumerate() {
            due.extend(order.effect_at.filter(|at| *at <= now).map(|at| (at, index)));
        }
        due.sort_unstable();
        for (_, index) in due {
            self.happen(index, dice);
        }
        let mut answers = Vec::new();
        self.orders.retain_mut(|order| {
            if !order.answered && order.answer_at <= now {
                order.answered = true;
                if order.orphan {
                    // Whoever waited for its end has ended it.
                    order.effect_at = None;
                } else {
                    answers.push((order.key.clone(), order.ending));
                }
            }
            !order.answered || order.effect_at.is_some()
        });
        answers
    }

    fn happen(&mut self, index: usize, dice: &mut Dice) {
        let order = &mut self.orders[index];
        order.effect_at = None;
        let (key, target, change, class) = (order.key.clone(), order.target.clone(), order.change, order.class);
        let seen = self.effects.entry(key).or_insert(0);
        // The target of a keyed order knows the key already.
        if class == Class::Keyed && *seen > 0 {
            return;
        }
        *seen += 1;
        match change {
            Change::Heals => self.heal(&target, dice),
            Change::Nothing => {}
            Change::Worsens => self.harm(&target, Status::Critical, dice),
        }
    }
}
