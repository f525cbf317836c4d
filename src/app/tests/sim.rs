//! A small world around the pure decider: a journal in memory, a clock that is pushed, effects that are counted by
//! somebody who knows nothing of the decider, and crashes at any point between decision and answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::alerts;
use crate::app::cycle::{Answered, Command, Cycle, Decision, Effect, Inputs, Inquired, Prepared, Refused, Rules};
use crate::app::hooks::Hooked;
use crate::execute::{Actuator, Answer, Binding, Order, ProbeAnswer, VerifySettings, actions};
use crate::journal::{Entry, Record, State};
use crate::model::{
    AlertStatus, Class, Criticality, Ending, Health, IntakeAlert, Level, Means, Name, RunKey, Status, Subsystem,
    Timestamp,
};
use crate::observe::Observation;
use crate::{admit, detect, policy, recommend};

/// An actuator that is never called: the simulation plays its part.
pub(super) struct Played {
    pub evidence: bool,
}

#[async_trait]
impl Actuator for Played {
    fn means(&self) -> Means {
        Means::Exec
    }
    async fn apply(&self, _: &Order) -> Answer {
        Answer::new(Ending::Ok, "")
    }
    async fn probe(&self, _: &Order) -> ProbeAnswer {
        ProbeAnswer::AskCheck
    }
    fn takes_evidence(&self) -> bool {
        self.evidence
    }
    async fn preflight(&self) -> Vec<String> {
        Vec::new()
    }
    fn describe(&self) -> String {
        "played".to_owned()
    }
}

/// A subsystem of the simulated platform: name, criticality, needs.
pub(super) type Part = (&'static str, Criticality, &'static [&'static str]);

/// Rules for some subsystems, live, with everything automatic and quick.
pub(super) fn rules(parts: &[Part], bindings: &[(&str, &str, Class)]) -> Rules {
    let route = |subsystem: &str, action: Option<&str>, policy| alerts::Route {
        matches: BTreeMap::from([("alertname".to_owned(), format!("{subsystem}_down"))]),
        subsystem: Some(subsystem.into()),
        action: action.map(Name::from),
        policy,
        ..alerts::Route::default()
    };
    Rules {
        subsystems: parts
            .iter()
            .map(|(name, criticality, needs)| Subsystem {
                name: (*name).into(),
                criticality: *criticality,
                depends_on: needs.iter().map(|need| (*need).into()).collect(),
            })
            .collect(),
        intervals: vec![Duration::from_secs(5); parts.len()],
        failure_points: Vec::new(),
        raises: Vec::new(),
        detect: detect::Settings::default(),
        recommend: recommend::Settings {
            auto_restart_enabled: true,
            auto_pause_on_critical: true,
            ..recommend::Settings::default()
        },
        admit: admit::Settings { dry_run: false, ..admit::Settings::default() },
        policy: policy::Settings::default(),
        alerts: Arc::new(alerts::Settings {
            routes: parts
                .iter()
                .flat_map(|(name, ..)| {
                    let down = route(name, Some("restart_subsystem"), Some(Level::NoNewTrades));
                    let slow = alerts::Route {
                        matches: BTreeMap::from([("alertname".to_owned(), format!("{name}_slow"))]),
                        kind: Some("slowness".into()),
                        ..down.clone()
                    };
                    [down, slow]
                })
                .collect(),
            ..alerts::Settings::default()
        }),
        bindings: bindings
            .iter()
            .map(|(action, subsystem, class)| {
                let binding = Binding {
                    id: format!("{action}@{subsystem}").into(),
                    action: (*action).into(),
                    subsystem: (*subsystem).into(),
                    class: *class,
                    verify: VerifySettings {
                        settle: Duration::from_secs(1),
                        within: Duration::from_secs(30),
                        hold_down: 1,
                    },
                    retries: 0,
                    timeout: Duration::from_secs(10),
                    dry_run: false,
                    place: String::new(),
                    actuator: Arc::new(Played { evidence: false }),
                };
                ((binding.action.clone(), binding.subsystem.clone()), Arc::new(binding))
            })
            .collect::<HashMap<_, _>>(),
        hooks: Arc::default(),
        stalled_after: Duration::from_secs(60),
        heals: false,
        money_files: Arc::new([]),
        real_money: false,
        catalog: actions::action,
    }
}

/// Lets every probeable means tell what its probe will compare with, before a run is begun.
pub(super) fn with_evidence(rules: &mut Rules) {
    for binding in rules.bindings.values_mut().filter(|binding| binding.class == Class::Probeable) {
        *binding = Arc::new(Binding { actuator: Arc::new(Played { evidence: true }), ..Binding::clone(binding) });
    }
}

/// The simulated world.
pub(super) struct Sim {
    pub rules: Rules,
    pub cycle: Cycle,
    pub state: State,
    pub entries: Vec<Entry>,
    /// Entries from here on were decided in memory only, while the journal could not be written.
    durable: usize,
    pub journal_ok: bool,
    /// The journal replayed entry by entry, beside the decider's own state.
    replayed: State,
    pub now: Timestamp,
    /// What each subsystem really is.
    pub truth: BTreeMap<Name, Status>,
    /// Accepted alerts, durable by themselves.
    pub intake: Vec<(u64, IntakeAlert)>,
    /// Effects under way: begun for real, not yet answered.
    pub under_way: Vec<(RunKey, Name)>,
    /// How often each run's effect happened, counted by the world.
    pub effects: BTreeMap<RunKey, u32>,
    /// Runs that are to be prepared.
    pub preparing: Vec<RunKey>,
    /// Interrupted runs to be asked about.
    pub inquiries: Vec<RunKey>,
    /// Subsystems whose check was asked for at once.
    pub forced: BTreeSet<usize>,
    pub answers: Vec<Answered>,
    /// What the policy's hooks were to do, not yet done.
    pub hook_effects: Vec<Effect>,
    /// What became of it.
    pub hooked: Vec<Hooked>,
    pub refused: Option<Refused>,
    pub begun: Option<String>,
}

impl Sim {
    pub fn new(rules: Rules) -> Self {
        let now = Timestamp::from_millis(1_763_861_696_000);
        let truth = rules.subsystems.iter().map(|subsystem| (subsystem.name.clone(), Status::Healthy)).collect();
        let mut sim = Self {
            cycle: Cycle::new(rules.clone(), now),
            rules,
            state: State::default(),
            entries: Vec::new(),
            durable: 0,
            journal_ok: true,
            replayed: State::default(),
            now,
            truth,
            intake: Vec::new(),
            under_way: Vec::new(),
            effects: BTreeMap::new(),
            preparing: Vec::new(),
            inquiries: Vec::new(),
            forced: BTreeSet::new(),
            answers: Vec::new(),
            hook_effects: Vec::new(),
            hooked: Vec::new(),
            refused: None,
            begun: None,
        };
        sim.boot();
        sim
    }

    /// A process begins: the journal is replayed, interrupted runs are asked about.
    fn boot(&mut self) {
        self.entries.truncate(self.durable);
        self.journal_ok = true;
        self.cycle = Cycle::new(self.rules.clone(), self.now);
        self.replayed = State::default().replay(&self.entries).expect("the journal is legal");
        self.state = self.replayed.clone();
        let instance = Record::InstanceStarted {
            incarnation: "sim".to_owned(),
            version: "0".to_owned(),
            dry_run: self.rules.admit.dry_run,
        };
        let (records, state, effects) = self.cycle.after_restart(&self.state, instance, self.now);
        self.durable(records, state);
        self.carry_out(effects);
    }

    /// The process dies. What was begun goes on by itself, and nobody hears its answer.
    pub fn crash(&mut self) {
        self.under_way.clear();
        self.answers.clear();
        self.hook_effects.clear();
        self.hooked.clear();
        self.inquiries.clear();
        self.preparing.clear();
        self.forced.clear();
        self.boot();
    }

    fn durable(&mut self, records: Vec<Record>, state: State) {
        for record in records {
            let entry = Entry { seq: self.entries.len() as u64 + 1, at: self.now, record };
            self.replayed.apply(&entry).expect("the journal is legal");
            self.entries.push(entry);
        }
        if self.journal_ok {
            self.durable = self.entries.len();
        }
        self.state = state;
    }

    /// The next commit fails: what was decided is decided again in memory, where nothing may be begun.
    pub fn lose_journal(&mut self) {
        if !self.journal_ok {
            return;
        }
        let inputs = self.inputs();
        // Discarded: it never became durable.
        let _ = self.cycle.step(&self.state, &inputs, self.now);
        self.journal_ok = false;
        self.cycle.set_journal_ok(false);
        self.cycle.not_durable(&self.state);
        self.inquiries.extend(inputs.inquiries.into_iter().map(|inquired| inquired.key));
        let again =
            Inputs { answers: inputs.answers, prepared: inputs.prepared, hooked: inputs.hooked, ..Inputs::default() };
        self.step(again);
    }

    /// The journal takes what was decided in memory, and everything after it.
    pub fn regain_journal(&mut self) {
        if !self.journal_ok {
            self.journal_ok = true;
            self.durable = self.entries.len();
            self.cycle.set_journal_ok(true);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            // Whatever lowers risk wherever the bot is goes on, and so does looking.
            let harmless = match &effect {
                Effect::ForceCheck(_) | Effect::Look(_) | Effect::WouldTell { .. } => true,
                Effect::Tell(telling) => telling.tightens(),
                _ => false,
            };
            if !self.journal_ok && !harmless {
                panic!("{effect:?} while nothing can be written");
            }
            match effect {
                Effect::Start(key) => {
                    let target = self.state.runs[&key].target.clone();
                    assert!(
                        !self.under_way.iter().any(|(_, other)| *other == target),
                        "one at a time per target: {key} while another is under way on {target}"
                    );
                    *self.effects.entry(key.clone()).or_insert(0) += 1;
                    self.under_way.push((key, target));
                }
                Effect::Prepare(key) => self.preparing.push(key),
                Effect::Inquire(key) => self.inquiries.push(key),
                Effect::Tell(_) | Effect::Look(_) | Effect::WouldTell { .. } => self.hook_effects.push(effect),
                Effect::ForceCheck(index) => {
                    self.forced.insert(index);
                }
            }
        }
    }

    /// One step with everything that waits; `die` ends the process after the commit and before the effects.
    pub fn step_or_die(&mut self, inputs: Inputs, die: bool) {
        let Decision { records, state, effects, answer, .. } = self.cycle.step(&self.state, &inputs, self.now);
        (self.begun, self.refused) = match answer {
            Some(Ok(begun)) => (Some(begun), None),
            Some(Err(refused)) => (None, Some(refused)),
            None => (None, None),
        };
        self.durable(records, state);
        if die {
            self.crash();
        } else {
            self.carry_out(effects);
        }
        self.check_invariants();
    }

    pub fn step(&mut self, inputs: Inputs) {
        self.step_or_die(inputs, false);
    }

    /// What waits for the decider right now.
    pub fn inputs(&mut self) -> Inputs {
        let taken = self.state.intake;
        let hooked = std::mem::take(&mut self.hooked);
        if !self.journal_ok {
            return Inputs { answers: std::mem::take(&mut self.answers), hooked, ..Inputs::default() };
        }
        Inputs {
            hooked,
            alerts: self.intake.iter().filter(|(number, _)| *number > taken).cloned().collect(),
            answers: std::mem::take(&mut self.answers),
            prepared: std::mem::take(&mut self.preparing)
                .into_iter()
                .map(|key| Prepared { key, evidence: Some("before".to_owned()) })
                .collect(),
            inquiries: std::mem::take(&mut self.inquiries)
                .into_iter()
                .map(|key| Inquired { key, probe: ProbeAnswer::AskCheck })
                .collect(),
            ..Inputs::default()
        }
    }

    /// Every check answers with the truth.
    pub fn check_all(&mut self) {
        let mut inputs = self.inputs();
        inputs.observations = (0..self.rules.subsystems.len()).map(|index| self.observation(index)).collect();
        self.forced.clear();
        self.step(inputs);
    }

    /// One check answers with the truth.
    pub fn check_one(&mut self, subsystem: &str) {
        let mut inputs = self.inputs();
        let index = self.rules.subsystems.iter().position(|one| one.name == *subsystem).expect("it is configured");
        inputs.observations = vec![self.observation(index)];
        self.step(inputs);
    }

    /// The checks that were asked for answer with the truth.
    pub fn check_forced(&mut self) {
        let mut inputs = self.inputs();
        // Failure points stand behind the subsystems; a test that has some answers for them itself.
        let points = self.forced.split_off(&self.rules.subsystems.len());
        inputs.observations =
            std::mem::replace(&mut self.forced, points).into_iter().map(|index| self.observation(index)).collect();
        self.step(inputs);
    }

    fn observation(&self, index: usize) -> Observation {
        let name = self.rules.subsystems[index].name.clone();
        let mut health = Health::unknown(name.clone());
        health.status = self.truth[&name];
        health.timestamp = self.now;
        Observation::Health { index, health }
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    /// Time passes second by second, with all checks every five.
    pub fn live(&mut self, seconds: u64) {
        for second in 0..seconds {
            self.pass(1);
            if second % 5 == 4 {
                self.check_all();
            } else {
                self.check_forced();
            }
        }
    }

    /// An alert is accepted, durably, whatever the decider does.
    pub fn alert(&mut self, subsystem: &str, status: AlertStatus, starts_at: Timestamp) {
        self.alert_named(&format!("{subsystem}_down"), status, starts_at);
    }

    /// The same with the alert's name; `NAME_slow` is of a type of its own.
    pub fn alert_named(&mut self, alertname: &str, status: AlertStatus, starts_at: Timestamp) {
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let labels = BTreeMap::from([label("alertname", alertname), label("severity", "critical")]);
        let alert = IntakeAlert {
            received_at: self.now,
            receiver: "chiron".into(),
            status,
            fingerprint: format!("fp-{alertname}").into(),
            labels,
            annotations: BTreeMap::new(),
            starts_at,
            ends_at: (status == AlertStatus::Resolved).then_some(self.now),
            truncated: false,
        };
        self.intake.push((self.intake.len() as u64 + 1, alert));
    }

    /// The means of the oldest effect answers.
    pub fn answer(&mut self, ending: Ending) -> Option<Name> {
        if self.under_way.is_empty() {
            return None;
        }
        let (key, target) = self.under_way.remove(0);
        let answer = Answer::new(ending, format!("{ending:?}"));
        self.answers.push(Answered { key, answer, duration: Duration::from_millis(5) });
        Some(target)
    }

    pub fn command(&mut self, command: Command) -> Option<Refused> {
        let inputs = Inputs { command: Some(command), ..Inputs::default() };
        self.step(inputs);
        self.refused.clone()
    }

    pub fn break_(&mut self, subsystem: &str, status: Status) {
        self.truth.insert(subsystem.into(), status);
    }

    /// The words of the records' kinds since entry `from`.
    pub fn kinds(&self, from: usize) -> Vec<&'static str> {
        self.entries[from..].iter().map(|entry| entry.record.kind()).collect()
    }

    /// What must hold after every step, whatever happened.
    pub fn check_invariants(&self) {
        assert!(self.replayed == self.state, "replaying the journal gives the live state");
        for (key, count) in &self.effects {
            let run = self.state.runs.get(key).or_else(|| self.state.ended_runs.iter().find(|run| run.key == *key));
            let Some(run) = run else { continue };
            if run.class == Class::OneShot {
                assert!(*count <= 1, "one_shot {key} happened {count} times");
            }
        }
        for episode in self.state.episodes.values() {
            let critical = episode.facts.severity == crate::model::Severity::Critical && episode.facts.moves_policy;
            let wanted = match (critical, episode.facts.impacts_trading) {
                (true, true) => Level::DefensiveExit,
                (true, false) => Level::NoNewTrades,
                _ => Level::AllowAll,
            };
            assert!(self.state.level() >= wanted, "{} is open, yet the policy is {}", episode.id, self.state.level());
        }
    }
}
