//! What happens in an incident, one thing after another, and how it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::process::Death;
use super::watcher::{Broken, lasting_level};
use super::{Incident, platform};
use crate::app::approvals::Answer;
use crate::app::cycle::Command;
use crate::app::reverse::REVERSE;
use crate::model::{
    AlertStatus, Caller, Health, IntakeAlert, Level, Name, PolicySource, Reason, Role, Status, Timestamp,
};
use crate::observe::Observation;

/// How long the world may take to come to rest, in turns of 20 s.
const REST_TURNS: u32 = 500;

impl Incident {
    fn some_subsystem(&mut self) -> Name {
        let index = self.dice.below(self.rules.subsystems.len());
        self.rules.subsystems[index].name.clone()
    }

    /// One more thing happens, some time passes, and the process takes a turn.
    pub(super) fn happen(&mut self) -> Result<(), Broken> {
        match self.dice.below(100) {
            0..14 => {
                let name = self.some_subsystem();
                let status = self.dice.pick(&[Status::Critical, Status::Critical, Status::Degraded, Status::Unknown]);
                self.trace(|| format!("{name} is {status}"));
                self.world.harm(&name, status, &mut self.dice);
            }
            14..19 => {
                let name = self.some_subsystem();
                self.trace(|| format!("{name} recovers by itself"));
                self.world.truth.insert(name, Status::Healthy);
            }
            19..21 => {
                let name = self.some_subsystem();
                self.trace(|| format!("{name} flaps"));
                self.world.flapping.push(name);
            }
            21..36 => self.some_alert(),
            36..42 => return self.crash(),
            42..46 => return self.die_in_a_turn(),
            46..49 => self.store_trouble(),
            49..52 => return self.set_clock(),
            52..55 => return self.reload(),
            55..57 => self.stop()?,
            57..67 => return self.some_person(),
            67..69 => self.snapshot()?,
            69..71 => self.watchdog(self.wall),
            _ => {}
        }
        let time = match self.dice.below(10) {
            0 => Duration::ZERO,
            1..4 => self.dice.millis(1, 999),
            4..8 => self.dice.millis(1_000, 6_000),
            8 => self.dice.millis(6_000, 61_000),
            _ => self.dice.millis(61_000, 400_000),
        };
        self.pass(time);
        self.world.flap(&mut self.dice);
        let observations = self.look();
        self.turn(None, observations, Death::None)
    }

    /// What the checks see now: all of them, those that were asked for, or none.
    fn look(&mut self) -> Vec<Observation> {
        let all = match self.dice.below(10) {
            0..5 => true,
            5..8 => false,
            _ => return Vec::new(),
        };
        self.looked(all)
    }

    fn looked(&mut self, all: bool) -> Vec<Observation> {
        let forced = std::mem::take(&mut self.life().forced);
        let wanted = (0..self.rules.subsystems.len()).filter(|index| all || forced.contains(index));
        let wanted: Vec<usize> = wanted.collect();
        let mut seen = Vec::new();
        for index in wanted {
            let name = self.rules.subsystems[index].name.clone();
            let mut health = Health::unknown(name.clone());
            health.status = self.world.truth[&name];
            health.unrunnable = health.status == Status::Unknown && self.dice.percent(50);
            // A check takes its time: it began a little earlier.
            health.timestamp = self.wall.minus(self.dice.millis(0, 40));
            seen.push(Observation::Health { index, health });
        }
        seen
    }

    fn some_alert(&mut self) {
        let name = self.some_subsystem();
        let kind = self.dice.pick(&["down", "down", "slow", "nobody_knows"]);
        let alertname = format!("{name}_{kind}");
        let known = self.fires.iter().position(|(fired, _)| *fired == format!("fp-{alertname}").as_str());
        let resolves = known.is_some() && self.dice.percent(40);
        let starts_at = match known {
            // Said again, with its own start or one a little earlier.
            Some(index) => self.fires[index].1.minus(Duration::from_secs(if self.dice.percent(20) { 30 } else { 0 })),
            // Late, now and then.
            None if self.dice.percent(20) => self.wall.minus(self.dice.millis(0, 600_000)),
            None => self.wall,
        };
        let status = if resolves || self.dice.percent(8) { AlertStatus::Resolved } else { AlertStatus::Firing };
        self.alert(&alertname, status, starts_at);
    }

    fn alert(&mut self, alertname: &str, status: AlertStatus, starts_at: Timestamp) {
        self.trace(|| format!("alert {alertname} {}", status.as_str()));
        let fingerprint = Name::from(format!("fp-{alertname}"));
        let latest = self.told.entry(alertname.to_owned()).or_insert(starts_at);
        *latest = starts_at.max(*latest);
        let latest = *latest;
        self.fires.retain(|(fired, _)| *fired != fingerprint);
        if status == AlertStatus::Firing {
            self.fires.push((fingerprint.clone(), starts_at));
        }
        self.sent += 1;
        let severity = ["critical", "warning", "info"][self.sent as usize % 3];
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        self.unsent.push(IntakeAlert {
            received_at: self.wall,
            // The mark by which its way is followed.
            receiver: format!("number {}", self.sent).into(),
            status,
            fingerprint,
            labels: BTreeMap::from([label("alertname", alertname), label("severity", severity)]),
            annotations: BTreeMap::new(),
            starts_at,
            // Its sender's clock does not step with ours.
            ends_at: (status == AlertStatus::Resolved).then_some(self.wall.max(latest)),
            truncated: false,
        });
    }

    fn watchdog(&mut self, at: Timestamp) {
        if self.rules.alerts.watchdog.is_some() {
            self.alert("Watchdog", AlertStatus::Firing, at);
        }
    }

    fn die_in_a_turn(&mut self) -> Result<(), Broken> {
        let death =
            self.dice.pick(&[Death::BeforeCommit, Death::AfterCommit, Death::AfterCommit, Death::BetweenEffects]);
        self.trace(|| format!("dies {death:?}"));
        let observations = self.looked(true);
        self.turn(None, observations, death)
    }

    fn store_trouble(&mut self) {
        self.faults = self.dice.pick(&[0.0, 0.0, 0.02, 0.1, 0.5, 1.0]);
        let faults = self.faults;
        self.trace(|| format!("a share {faults} of the store's calls fails"));
        self.store.set_fault_rate(faults);
    }

    /// 15: a clock that is set loosens nothing.
    fn set_clock(&mut self) -> Result<(), Broken> {
        self.turn(None, Vec::new(), Death::None)?;
        // Set back, pauses and holds last that much longer, so an incident that is to end sees no whole day of it.
        let by = self.dice.pick(&[3_000, 60_000, 3_600_000, 86_400_000, -3_000, -60_000, -600_000]);
        self.trace(|| format!("the clock is set by {by} ms"));
        let before = lasting_level(&self.process().state, self.wall);
        self.wall = Timestamp::from_millis(self.wall.millis() + by);
        self.elapsed += Duration::from_millis(u64::try_from(by).unwrap_or(0));
        self.turn(None, Vec::new(), Death::None)?;
        self.loosens_nothing("a clock that is set", before)
    }

    /// 15: a reload loosens nothing by itself.
    fn reload(&mut self) -> Result<(), Broken> {
        self.turn(None, Vec::new(), Death::None)?;
        let before = lasting_level(&self.process().state, self.wall);
        self.rules = platform::other_settings(&mut self.dice, &self.rules);
        self.generation += 1;
        self.watcher.note_settings(&self.rules.admit);
        self.trace(|| "settings are loaded".to_owned());
        let (rules, generation, wall) = (self.rules.clone(), self.generation, self.wall);
        let life = self.life();
        life.rules = rules.clone();
        let state = life.state.clone();
        life.cycle.reconfigure(rules, &state, wall);
        life.cycle.note_config(format!("settings {generation}"), None);
        if life.stopping {
            life.cycle.set_stopping();
        }
        self.turn(None, Vec::new(), Death::None)?;
        self.loosens_nothing("a reload", before)
    }

    fn loosens_nothing(&self, what: &str, before: Level) -> Result<(), Broken> {
        let after = self.process().state.level();
        if after >= before {
            return Ok(());
        }
        Err(Broken::new("nothing_loosens_but_health_and_time", format!("{what} took {before} to {after}")))
    }

    /// The process is told to stop, ends what is under way or not, and is started again.
    fn stop(&mut self) -> Result<(), Broken> {
        self.trace(|| "it is told to stop".to_owned());
        let life = self.life();
        life.stopping = true;
        life.cycle.set_stopping();
        for _ in 0..self.dice.below(4) {
            let time = self.dice.millis(0, 3_000);
            self.pass(time);
            self.turn(None, Vec::new(), Death::None)?;
        }
        self.crash()
    }

    fn some_person(&mut self) -> Result<(), Broken> {
        let by = "ana".to_owned();
        let reason = "seen".to_owned();
        let command = match self.dice.below(10) {
            0..5 => match self.answer() {
                Some(answer) if self.dice.percent(65) => Command::Approve(answer),
                Some(answer) => Command::Reject(answer),
                None => return self.turn(None, Vec::new(), Death::None),
            },
            5..7 => Command::SetPolicy {
                level: self.dice.pick(&Level::ALL[..4]),
                reason,
                by: Caller { name: by, role: self.dice.pick(&[Role::Operate, Role::Approve]) },
                until: Some(self.wall.plus(self.dice.millis(1_000, 600_000))),
            },
            7 => Command::ReleasePolicy { by, reason },
            _ => Command::Drill { subsystem: self.some_subsystem().to_string(), by, reason },
        };
        self.trace(|| format!("a person: {command:?}"));
        let observations = self.look();
        self.turn(Some(command), observations, Death::None)
    }

    /// The answer to what is asked now, or to what was shown before.
    fn answer(&mut self) -> Option<Answer> {
        let asked = self.process().state.questions.clone();
        for (key, question) in &asked {
            let shown = (format!("rec_{}_{}", key.rung, key.episode), question.digest.clone());
            if !self.shown.contains(&shown) {
                self.shown.push(shown);
            }
        }
        if self.shown.is_empty() {
            return None;
        }
        let stale = self.dice.percent(20) || asked.is_empty();
        let (recommendation, digest) = if stale {
            self.shown[self.dice.below(self.shown.len())].clone()
        } else {
            let which = self.dice.below(asked.len());
            let (key, question) = asked.iter().nth(which)?;
            (format!("rec_{}_{}", key.rung, key.episode), question.digest.clone())
        };
        Some(Answer { recommendation, digest, by: "ana".to_owned(), reason: "seen".to_owned() })
    }

    /// Everything heals and nothing fires any more, the store and the means work: the world comes to rest. Half the time
    /// there is a person, who allows what is asked and releases the latch.
    pub(super) fn come_to_rest(&mut self) -> Result<(), Broken> {
        let person = self.dice.percent(50);
        self.trace(|| format!("everything heals; there is {} person", if person { "a" } else { "no" }));
        self.faults = 0.0;
        self.store.set_fault_rate(0.0);
        self.world.heal_all();
        for (alertname, starts_at) in self.told.clone() {
            if alertname != "Watchdog" {
                self.alert(&alertname, AlertStatus::Resolved, starts_at);
            }
        }
        let mut why = String::new();
        for turn in 0..REST_TURNS {
            self.step += 1;
            if self.process().gone {
                self.crash()?;
            }
            // Who verifies looks often.
            let busy = !self.process().state.runs.is_empty();
            self.pass(if busy { Duration::from_millis(600) } else { Duration::from_secs(20) });
            if turn % 5 == 0 {
                self.watchdog(self.wall);
            }
            let observations = self.looked(true);
            self.turn(None, observations, Death::None)?;
            self.world.heal_all();
            if person {
                self.attend()?;
            }
            match self.restless(person) {
                None if turn > 1 => {
                    self.watcher.every_alert_is_taken()?;
                    return Ok(());
                }
                None => {}
                Some(what) => why = what,
            }
        }
        Err(Broken::new("it_comes_to_rest", why))
    }

    /// A person looks after what waits.
    fn attend(&mut self) -> Result<(), Broken> {
        let (by, reason) = ("ana".to_owned(), "all is well".to_owned());
        if self.process().state.latch.is_some() {
            return self.turn(Some(Command::ReleasePolicy { by, reason }), Vec::new(), Death::None);
        }
        let own = self.process().state.holds.keys().any(|key| key.source == PolicySource::Operator);
        if own && self.process().cycle.started_up() {
            let by = Caller { name: by, role: Role::Approve };
            let allow = Command::SetPolicy { level: Level::AllowAll, reason, by, until: None };
            return self.turn(Some(allow), Vec::new(), Death::None);
        }
        let Some((key, question)) = self.process().state.questions.get_min().cloned() else { return Ok(()) };
        let recommendation = format!("rec_{}_{}", key.rung, key.episode);
        let answer = Answer { recommendation, digest: question.digest, by, reason };
        self.turn(Some(Command::Approve(answer)), Vec::new(), Death::None)
    }

    /// What is not at rest, if anything is.
    fn restless(&self, person: bool) -> Option<String> {
        let state = &self.process().state;
        if let Some(key) = state.runs.keys().next() {
            return Some(format!("run {key} is open: {:?}", state.runs.get(key)));
        }
        if self.world.is_at_work() {
            return Some("the world is still at work".to_owned());
        }
        if !self.unsent.is_empty() {
            return Some("alerts are not accepted".to_owned());
        }
        // A clock that was set back makes a person's hold last longer.
        let held = state.holds.iter().filter(|(key, _)| key.source == PolicySource::Operator);
        let held = held.map(|(_, hold)| hold).filter(|hold| hold.until.is_some_and(|until| self.wall < until));
        let held = held.map(|hold| hold.level).max().unwrap_or(Level::AllowAll);
        let shut = state.latch.is_some() || held > Level::AllowAll;
        for episode in state.episodes.values() {
            // What undoes may wait for a person's word, or for a level that a person holds or has to release.
            let waits = state.questions.keys().any(|key| key.episode == episode.id) || shut;
            let waits = waits || matches!(episode.escalated, Some(Reason::Indeterminate | Reason::Exhausted));
            let manual = episode.ladder.iter().any(|rung| rung.autonomy == crate::model::Autonomy::Manual);
            if !(episode.key.kind == *REVERSE && (!person && waits || manual)) {
                let waits = self.process().cycle.waiting().get(&episode.id).copied();
                return Some(format!("{} is open and waits for {waits:?}: {episode:?}", episode.id));
            }
        }
        let rest = if state.latch.is_some() { Level::EmergencyShutdown } else { held };
        let rest = if person { Level::AllowAll } else { rest };
        (state.level() != rest).then(|| format!("the policy is {}, held by {:?}", state.level(), state.holds))
    }
}
