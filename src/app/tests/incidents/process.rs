//! The process between the decider and the store, as `app::task` is: commits, then acts; settles what is ambiguous; goes
//! on in memory while the journal cannot be written; and dies at any point.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures_util::FutureExt as _;

use super::watcher::Broken;
use super::{Incident, Sabotage};
use crate::app::cycle::{Answered, Command, Cycle, Decision, Effect, Inputs, Inquired, Prepared, Refused, Rules};
use crate::execute::{Answer, ProbeAnswer};
use crate::journal::{Epoch, JournalStore, Record, State, StoreErrorKind};
use crate::model::{Class, Ending, Level, RunKey, Timestamp};
use crate::observe::Observation;

const ALERTS_MAX: usize = 512;
const SETTLE_TRIES: u32 = 10;
const PROBE_EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
const JUMP_MIN: i64 = 2_000;
const JUMP_CARE: Duration = Duration::from_secs(60);

/// Where in a turn the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Not at all.
    None,
    /// The decision is made, and not written.
    BeforeCommit,
    /// It is durable, and nothing of it is begun.
    AfterCommit,
    /// Some of it is begun.
    BetweenEffects,
}

/// One life.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) rules: Rules,
    pub(super) cycle: Cycle,
    pub(super) state: State,
    pub(super) epoch: Epoch,
    pub(super) journal_ok: bool,
    /// The journal is given up until the next life.
    pub(super) gone: bool,
    pub(super) stopping: bool,
    pub(super) forced: BTreeSet<usize>,
    pub(super) refused: Option<Refused>,
    resolved: bool,
    again: Inputs,
    unflushed: VecDeque<(Timestamp, Vec<Record>)>,
    last_tried: Option<Duration>,
    last_written: Option<Duration>,
    clocks: Option<(Timestamp, Duration)>,
    jumped: Option<Duration>,
    last_observed: Duration,
    pub(super) backlog: u64,
    preparing: Vec<(RunKey, Duration, Option<String>)>,
    inquiring: Vec<(RunKey, Duration, bool)>,
}

impl Incident {
    /// A life begins: the journal is taken over and replayed, and what was under way is looked into.
    pub(super) fn boot(&mut self) -> Result<(), Broken> {
        let recovered = loop {
            match now(self.store.acquire("simulated", self.wall)) {
                Ok(recovered) => break recovered,
                // It is started again and again.
                Err(error) if error.kind == StoreErrorKind::Unavailable => self.store.set_fault_rate(self.faults / 2.0),
                Err(_) => {}
            }
        };
        let old = self.process.as_ref().map(|process| process.epoch);
        let snapshot = recovered.snapshot.as_ref().map(|(_, body)| serde_json::from_slice::<State>(body));
        let state = match snapshot {
            Some(state) => state.map_err(|error| Broken::new("replay_is_live", format!("a snapshot: {error}")))?,
            None => State::default(),
        };
        let state =
            state.replay(&recovered.entries).map_err(|illegal| Broken::new("replay_is_live", illegal.to_string()))?;
        self.compared = (0, 0);
        let rules = self.rules.clone();
        let mut cycle = Cycle::new(rules.clone(), self.wall);
        cycle.note_config(format!("settings {}", self.generation), None);
        if self.published.1 && state.latch.is_none() {
            cycle.remember_latch();
        }
        cycle.look_at_everything(&state);
        self.process = Some(Process {
            rules,
            cycle,
            state,
            epoch: recovered.epoch,
            journal_ok: true,
            gone: false,
            stopping: false,
            forced: BTreeSet::new(),
            refused: None,
            resolved: false,
            again: Inputs::default(),
            unflushed: VecDeque::new(),
            last_tried: None,
            last_written: None,
            clocks: None,
            jumped: None,
            last_observed: self.since_boot,
            backlog: 0,
            preparing: Vec::new(),
            inquiring: Vec::new(),
        });
        self.watch_takeover(old)?;
        self.turn(None, Vec::new(), Death::None)
    }

    /// The process is killed, and started again.
    pub(super) fn crash(&mut self) -> Result<(), Broken> {
        self.trace(|| "crash".to_owned());
        self.catch_up()?;
        let before = self.watcher.lasting_level(self.wall);
        self.world.orphan(self.since_boot, &mut self.dice);
        if self.sabotage == Sabotage::LoosenAtCrash {
            self.loosen_behind_its_back();
        }
        self.boot()?;
        self.watcher.a_crash_never_loosens(before, self.process().state.level())
    }

    pub(super) fn process(&self) -> &Process {
        self.process.as_ref().expect("a process lives")
    }

    pub(super) fn life(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process lives")
    }

    /// One turn of the decision task.
    pub(super) fn turn(
        &mut self,
        command: Option<Command>,
        observations: Vec<Observation>,
        death: Death,
    ) -> Result<(), Broken> {
        self.turns += 1;
        self.turned_at.insert(self.wall, self.elapsed);
        let released = matches!(command, Some(Command::ReleasePolicy { .. }));
        let latched = self.process().state.latch.is_some() && !self.process().gone;
        let mut inputs = self.gather();
        inputs.command = command;
        inputs.observations = observations;
        self.look_at_clock();
        self.look_at_checks(&inputs);
        self.look_at_journal();
        if self.process().journal_ok && !self.process().resolved {
            self.after_restart()?;
        }
        if !self.process().journal_ok {
            self.life().again.inquiries.append(&mut inputs.inquiries);
            inputs.alerts.clear();
        }
        let waiting = self.process().backlog > inputs.alerts.len() as u64;
        self.life().cycle.set_alerts_waiting(waiting);
        let (wall, state) = (self.wall, self.process().state.clone());
        let decision = self.life().cycle.step(&state, &inputs, wall);
        if death == Death::BeforeCommit {
            return self.crash();
        }
        let committed = if self.process().journal_ok { self.commit(decision.records.clone()) } else { Ok(()) };
        match committed {
            Ok(()) => {
                if death == Death::AfterCommit && self.process().journal_ok {
                    return self.crash();
                }
                self.adopt(&inputs, decision, death)?;
                if death == Death::BetweenEffects {
                    return self.crash();
                }
            }
            Err(kind) => {
                if self.sabotage == Sabotage::SkipJournal {
                    self.carry_out_unwritten(decision.effects)?;
                }
                self.journal_failed(kind);
                let life = self.life();
                life.cycle.not_durable(&state);
                life.again.inquiries.append(&mut inputs.inquiries);
                inputs.alerts.clear();
                inputs.observations.clear();
                let decision = life.cycle.step(&state, &inputs, wall);
                self.adopt(&inputs, decision, Death::None)?;
            }
        }
        let Process { state, .. } = self.process();
        self.published = (state.level(), state.latch.is_some());
        self.catch_up()?;
        self.watch_turn(latched, released)
    }

    fn gather(&mut self) -> Inputs {
        let (boot, answers) = (self.since_boot, self.world.advance(self.since_boot, &mut self.dice));
        self.send();
        let mut inputs = std::mem::take(&mut self.life().again);
        inputs.answers.extend(answers.into_iter().map(|(key, ending)| Answered {
            key,
            answer: Answer::new(ending, format!("{ending:?}")),
            duration: Duration::from_millis(5),
        }));
        let life = self.process.as_mut().expect("a process lives");
        life.preparing.retain(|(key, at, evidence)| {
            let ready = *at <= boot;
            if ready {
                inputs.prepared.push(Prepared { key: key.clone(), evidence: evidence.clone() });
            }
            !ready
        });
        let ready: Vec<(RunKey, bool)> = life
            .inquiring
            .iter()
            .filter(|(_, at, _)| *at <= boot)
            .map(|(key, _, tells)| (key.clone(), *tells))
            .collect();
        life.inquiring.retain(|(_, at, _)| *at > boot);
        for (key, tells) in ready {
            let probe = match (tells, self.dice.percent(10)) {
                (true, false) => self.world.probe(&key),
                (true, true) => ProbeAnswer::Unknown,
                (false, _) => ProbeAnswer::AskCheck,
            };
            self.watcher.probed.insert(key.clone(), probe);
            inputs.inquiries.push(Inquired { key, probe });
        }
        if self.process().journal_ok {
            inputs.alerts = self.pending();
        }
        inputs
    }

    fn pending(&mut self) -> Vec<(u64, crate::model::IntakeAlert)> {
        match now(self.store.pending(self.process().state.intake, ALERTS_MAX)) {
            Ok(alerts) => {
                if alerts.is_empty() {
                    self.life().backlog = 0;
                }
                for (number, alert) in &alerts {
                    self.watcher.rows.insert(*number, alert.receiver.clone());
                }
                alerts
            }
            Err(error) => {
                self.journal_failed(error.kind);
                Vec::new()
            }
        }
    }

    /// Whoever sends alerts sends each until it is answered well.
    fn send(&mut self) {
        for alert in std::mem::take(&mut self.unsent) {
            match now(self.store.accept(vec![alert.clone()])) {
                Ok(()) => {
                    self.watcher.accepted.insert(alert.receiver);
                    self.life().backlog += 1;
                }
                Err(_) => self.unsent.push(alert),
            }
        }
    }

    fn after_restart(&mut self) -> Result<(), Broken> {
        let (before, wall) = (self.process().state.clone(), self.wall);
        let instance = Record::InstanceStarted {
            incarnation: format!("life {}", self.process().epoch.0),
            version: "0".to_owned(),
            dry_run: self.process().rules.admit.dry_run,
        };
        let (records, state, effects) = self.life().cycle.after_restart(&before, instance, wall);
        match self.commit(records) {
            Ok(()) => {
                let life = self.life();
                life.state = state;
                life.resolved = true;
                self.carry_out(effects, Death::None)
            }
            Err(kind) => {
                self.journal_failed(kind);
                Ok(())
            }
        }
    }

    fn adopt(&mut self, inputs: &Inputs, decision: Decision, death: Death) -> Result<(), Broken> {
        let Decision { records, state, effects, answer, .. } = decision;
        let wall = self.wall;
        let life = self.life();
        life.state = state;
        life.refused = answer.and_then(Result::err);
        life.backlog = life.backlog.saturating_sub(inputs.alerts.len() as u64);
        if life.journal_ok {
            return self.carry_out(effects, death);
        }
        if !life.gone && !records.is_empty() {
            life.unflushed.push_back((wall, records));
        }
        let checks = effects.into_iter().filter(|effect| matches!(effect, Effect::ForceCheck(_))).collect();
        self.carry_out(checks, Death::None)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, death: Death) -> Result<(), Broken> {
        self.catch_up()?;
        let kept = if death == Death::BetweenEffects { self.dice.below(effects.len() + 1) } else { effects.len() };
        for effect in effects.into_iter().take(kept) {
            self.trace(|| format!("    {effect:?}"));
            match effect {
                Effect::ForceCheck(index) => _ = self.life().forced.insert(index),
                Effect::Prepare(key) => {
                    let at = self.since_boot
                        + if self.dice.percent(20) { self.dice.millis(0, 5_000) } else { Duration::ZERO };
                    let evidence = (!self.dice.percent(15)).then(|| "before".to_owned());
                    self.life().preparing.push((key, at, evidence));
                }
                Effect::Start(key) => {
                    self.start(&key)?;
                    if self.sabotage == Sabotage::TwiceAtOnce {
                        self.start(&key)?;
                    }
                }
                Effect::Inquire(key) => self.inquire(key)?,
                Effect::Tell(_) | Effect::Look(_) | Effect::WouldTell { .. } => {
                    unreachable!("no hooks of the policy are in these stories")
                }
            }
        }
        Ok(())
    }

    /// What a decider without a journal would do.
    fn carry_out_unwritten(&mut self, effects: Vec<Effect>) -> Result<(), Broken> {
        for effect in effects {
            if let Effect::Start(key) = effect {
                self.watcher.effect_begins(&key, self.wall, self.world.asked.get(&key).copied().unwrap_or(0))?;
            }
        }
        Ok(())
    }

    fn start(&mut self, key: &RunKey) -> Result<(), Broken> {
        let Some(run) = self.process().state.runs.get(key).cloned() else { return Ok(()) };
        let binding = self.process().rules.bindings.get(&(run.action.clone(), run.target.clone())).cloned();
        let Some(binding) = binding.filter(|_| !self.process().stopping) else {
            let answer = Answer::new(Ending::NotStarted, "not begun");
            self.life().again.answers.push(Answered { key: key.clone(), answer, duration: Duration::ZERO });
            return Ok(());
        };
        self.watcher.effect_begins(key, self.wall, self.world.asked.get(key).copied().unwrap_or(0))?;
        let (boot, dice) = (self.since_boot, &mut self.dice);
        let other = self.world.begin(key, &run.target, run.class, binding.timeout, boot, dice);
        self.watcher.one_at_a_time(key, other.as_ref())
    }

    fn inquire(&mut self, key: RunKey) -> Result<(), Broken> {
        let Some(run) = self.process().state.runs.get(&key).cloned() else { return Ok(()) };
        if self.sabotage == Sabotage::RescueAll {
            return self.start(&key);
        }
        let binding = self.process().rules.bindings.get(&(run.action.clone(), run.target.clone())).cloned();
        let limit = self.since_boot + binding.as_ref().map_or(Duration::from_secs(60), |binding| binding.timeout);
        let ended = self.world.await_end(&key, limit).unwrap_or(self.since_boot);
        let tells = run.class == Class::Probeable
            && binding.is_some_and(|binding| binding.actuator.takes_evidence())
            && run.evidence.is_some();
        let at = ended + self.dice.millis(0, 200);
        self.life().inquiring.push((key, at, tells));
        Ok(())
    }

    fn commit(&mut self, records: Vec<Record>) -> Result<(), StoreErrorKind> {
        if records.is_empty() {
            return Ok(());
        }
        self.life().last_written = Some(self.since_boot);
        self.write(self.process().state.seq, self.wall, &records)
    }

    /// Appends records after entry `durable`; an ambiguous answer is settled by reading the journal again.
    fn write(&self, durable: u64, at: Timestamp, records: &[Record]) -> Result<(), StoreErrorKind> {
        if self.process().gone {
            return Err(StoreErrorKind::Unavailable);
        }
        let kind = match now(self.store.commit(self.process().epoch, at, records.to_vec())) {
            Ok(_) => return Ok(()),
            Err(error) => error.kind,
        };
        if kind != StoreErrorKind::Ambiguous {
            return Err(kind);
        }
        let mut tries = 0;
        let entries = loop {
            match now(self.store.history(durable, records.len() + 1)) {
                Ok(entries) => break entries,
                Err(_) if tries < SETTLE_TRIES => tries += 1,
                Err(_) => return Err(StoreErrorKind::Ambiguous),
            }
        };
        if entries.is_empty() {
            return Err(StoreErrorKind::Unavailable);
        }
        if entries.iter().map(|entry| &entry.record).eq(records) { Ok(()) } else { Err(StoreErrorKind::Corrupt) }
    }

    fn journal_failed(&mut self, kind: StoreErrorKind) {
        self.trace(|| format!("    the journal fails: {}", kind.as_str()));
        let life = self.life();
        life.journal_ok = false;
        life.cycle.set_journal_ok(false);
        life.cycle.set_blind("journal_unavailable", Some(kind.as_str().to_owned()));
        if !matches!(kind, StoreErrorKind::Unavailable | StoreErrorKind::Full) {
            life.gone = true;
            life.unflushed.clear();
        }
    }

    fn look_at_journal(&mut self) {
        let (boot, wall) = (self.since_boot, self.wall);
        if self.process().journal_ok {
            if self.process().last_written.is_some_and(|last| boot.saturating_sub(last) < PROBE_EVERY) {
                return;
            }
            self.life().last_written = Some(boot);
            if now(self.store.probe(wall)).is_err() {
                self.journal_failed(StoreErrorKind::Unavailable);
            }
            return;
        }
        if self.process().gone || self.process().last_tried.is_some_and(|last| boot.saturating_sub(last) < TICK) {
            return;
        }
        self.life().last_tried = Some(boot);
        while let Some((at, records)) = self.process().unflushed.front().cloned() {
            let kept: usize = self.process().unflushed.iter().map(|(_, records)| records.len()).sum();
            let durable = self.process().state.seq - kept as u64;
            if let Err(kind) = self.write(durable, at, &records) {
                return self.journal_failed(kind);
            }
            self.life().unflushed.pop_front();
        }
        if now(self.store.probe(wall)).is_err() {
            return self.journal_failed(StoreErrorKind::Unavailable);
        }
        self.trace(|| "    the journal is back".to_owned());
        let life = self.life();
        life.journal_ok = true;
        life.cycle.set_blind("journal_unavailable", None);
        life.cycle.set_journal_ok(true);
    }

    fn look_at_clock(&mut self) {
        let (wall, boot) = (self.wall, self.since_boot);
        let life = self.life();
        if let Some((wall_before, boot_before)) = life.clocks.replace((wall, boot)) {
            let expected = wall_before.plus(boot.saturating_sub(boot_before));
            let off = wall.millis() - expected.millis();
            if off.abs() > JUMP_MIN {
                life.cycle.shift_clock(off);
                life.cycle.set_blind("clock_jump", Some(format!("the clock was set by {off} ms")));
                life.jumped = Some(boot);
            }
        }
        if life.jumped.is_some_and(|jumped| boot.saturating_sub(jumped) >= JUMP_CARE) {
            life.jumped = None;
            life.cycle.set_blind("clock_jump", None);
        }
    }

    fn look_at_checks(&mut self, inputs: &Inputs) {
        let boot = self.since_boot;
        let life = self.life();
        if !inputs.observations.is_empty() {
            life.last_observed = boot;
        }
        let stalled = boot.saturating_sub(life.last_observed) > life.rules.stalled_after;
        life.cycle.set_blind("checks_stalled", stalled.then(|| "no check has answered".to_owned()));
    }

    /// The state is stored whole, so that the next life replays less.
    pub(super) fn snapshot(&mut self) -> Result<(), Broken> {
        let Process { state, epoch, journal_ok, .. } = self.process();
        if *journal_ok {
            let bytes = serde_json::to_vec(state).expect("a state is JSON");
            // The next start only replays more without it.
            let _ = now(self.store.snapshot(*epoch, state.seq, bytes, u64::MAX));
        }
        Ok(())
    }

    /// What a decider that forgets would do: the levels held are gone from the journal.
    fn loosen_behind_its_back(&mut self) {
        self.store.set_fault_rate(0.0);
        let held = self.watcher.replayed.holds.keys().filter(|_| self.watcher.replayed.level() > Level::NoNewTrades);
        let records: Vec<Record> = held
            .map(|key| Record::HoldEnded {
                source: key.source,
                subject: key.subject.clone(),
                by: Some("bug".to_owned()),
                reason: None,
            })
            .collect();
        let epoch = self.process().epoch;
        if !records.is_empty() {
            now(self.store.commit(epoch, self.wall, records)).expect("the memory store takes it");
        }
        self.store.set_fault_rate(self.faults);
    }
}

/// The memory store answers at once.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the memory store never waits")
}
