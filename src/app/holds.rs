//! Which levels are held, for what: wants are computed from scratch, then held levels follow them (POL-1 to POL-4).

use std::collections::BTreeMap;

use crate::journal::{Episode, HoldKey, Record};
use crate::model::{Caller, Level, Name, Outcome, PolicySource, Role, Severity, Status, Timestamp};
use crate::policy::evaluation;
use crate::policy::relax::{self, Move};

use super::cycle::{Command, Cycle, Effect, Refused};
use super::draft::Draft;

type Wants = BTreeMap<HoldKey, (Level, String)>;

impl Cycle {
    /// Moves every hold towards what is wanted now: up at once, down when it may.
    pub(super) fn hold(&mut self, draft: &mut Draft) {
        self.note_weights(draft);
        let wants = self.wants(draft);
        let mut relaxing = std::collections::HashMap::new();
        // Most holds are just what is wanted; only the others are looked at.
        let holds = &draft.state.holds;
        let level_wanted = |key: &HoldKey| wants.get(key).map(|(level, _)| *level);
        let differs = holds.iter().filter(|(key, hold)| level_wanted(key) != Some(hold.level)).map(|(key, _)| key);
        let new = wants.keys().filter(|key| !holds.contains_key(*key));
        let keys: Vec<HoldKey> = differs.chain(new).cloned().collect();
        for key in keys {
            let held = draft.state.holds.get(&key).map(|hold| hold.level);
            let wanted = wants.get(&key).map(|(level, _)| *level);
            let since = self.world.relaxing.get(&key).copied();
            let falls = held.is_some_and(|held| wanted.is_none_or(|wanted| wanted < held));
            if falls && self.world.alerts_waiting {
                relaxing.extend(since.map(|since| (key, since)));
                continue;
            }
            match relax::decide(key.source, held, wanted, since, self.world.cycle, &self.rules.policy, draft.now) {
                Move::Keep(None) => {}
                Move::Keep(Some(since)) => drop(relaxing.insert(key, since)),
                Move::Set(level) => {
                    let reason = wants.get(&key).map_or_else(String::new, |(_, reason)| reason.clone());
                    self.set_hold(draft, key, level, reason, (None, None));
                }
                Move::End => {
                    draft.push(Record::HoldEnded { source: key.source, subject: key.subject, by: None, reason: None })
                }
            }
        }
        self.world.relaxing = relaxing;
        if std::mem::take(&mut self.world.latch_lost) && draft.state.latch.is_none() && !self.rules.admit.dry_run {
            draft.push(Record::Latched { reason: "the policy published last was latched".to_owned() });
        }
        // A level held since a dry-run is latched as soon as chiron acts.
        let shut = draft.state.holds.values().find(|hold| hold.level == Level::EmergencyShutdown);
        if let Some(hold) = shut.filter(|_| draft.state.latch.is_none() && !self.rules.admit.dry_run) {
            draft.push(Record::Latched { reason: hold.reason.clone() });
        }
    }

    /// Holds a level; `emergency_shutdown` is latched with it, except in dry-run (OBS-1, POL-3). `until` when, and `by` which
    /// person, if a person holds it.
    pub(super) fn set_hold(
        &self,
        draft: &mut Draft,
        key: HoldKey,
        level: Level,
        reason: String,
        (until, by): (Option<Timestamp>, Option<String>),
    ) {
        if level == Level::EmergencyShutdown && draft.state.latch.is_none() && !self.rules.admit.dry_run {
            draft.push(Record::Latched { reason: reason.clone() });
        }
        draft.push(Record::HoldSet { source: key.source, subject: key.subject, level, reason, until, by });
    }

    /// Keeps the episodes and alerts that want a level, so that each step costs what they are and not what is open.
    fn note_weights(&mut self, draft: &Draft) {
        let (weighty, asking) = (&mut self.world.weighty, &mut self.world.asking_level);
        for record in &draft.records {
            match record {
                Record::EpisodeOpened { id, .. } | Record::EpisodeChanged { id, .. } => _ = weighty.insert(id.clone()),
                Record::RunIndeterminate { key, .. } => _ = weighty.insert(key.episode.clone()),
                Record::AlertTaken { fingerprint, part: Some(_), .. } => _ = asking.insert(fingerprint.clone()),
                _ => {}
            }
        }
        let state = &draft.state;
        weighty.retain(|id| state.episodes.get(id).is_some_and(|episode| is_heavy(episode) || is_unresolved(episode)));
        asking.retain(|fingerprint| state.alerts.get(fingerprint).is_some_and(|alert| alert.policy.is_some()));
    }

    /// Every level that somebody has a reason to hold now.
    fn wants(&self, draft: &Draft) -> Wants {
        let mut wants = Wants::new();
        let state = &draft.state;
        let mut want = |source, subject: Name, level: Level, reason: &dyn Fn() -> String| {
            let key = HoldKey { source, subject };
            let stricter = wants.get(&key).is_none_or(|(held, _): &(Level, String)| level > *held);
            if stricter && level > Level::AllowAll {
                // A hold that stays as it is keeps its reason.
                let stays = state.holds.get(&key).is_some_and(|hold| hold.level == level);
                let reason = if stays { String::new() } else { reason() };
                wants.insert(key, (level, reason));
            }
        };
        let weighty: Vec<&Episode> =
            self.world.weighty.iter().filter_map(|id| state.episodes.get(id).map(|episode| &**episode)).collect();
        let critical_open = weighty.iter().any(|episode| is_heavy(episode));
        let overall = self.world.counts.overall_for_policy();
        for (row, level) in evaluation::of_overall(overall, critical_open) {
            want(PolicySource::Evaluation, row.into(), level, &|| format!("overall status is {overall}"));
        }
        for episode in weighty.iter().filter(|episode| is_heavy(episode)) {
            let level = evaluation::of_critical_issue(episode.facts.impacts_trading);
            want(PolicySource::Evaluation, episode.id.clone(), level, &|| episode.facts.description.clone());
        }
        // While an episode is open its holds never fall (POL-3).
        for (key, hold) in &state.holds {
            let of_episode = matches!(key.source, PolicySource::Evaluation | PolicySource::Action);
            if of_episode && state.episodes.contains_key(&key.subject) {
                want(key.source, key.subject.clone(), hold.level, &|| hold.reason.clone());
            }
        }
        for episode in weighty.iter().filter(|episode| is_unresolved(episode)) {
            let (subsystem, issue) = (&episode.key.subsystem, &episode.facts.description);
            let reason = || format!("nobody knows how an action on {subsystem} ended ({issue})");
            want(PolicySource::Action, episode.id.clone(), Level::NoNewTrades, &reason);
        }
        let asking = self.world.asking_level.iter().filter_map(|fingerprint| state.alerts.get(fingerprint));
        for alert in asking {
            if let Some(level) = alert.policy {
                let name = alert.labels.get("alertname").map_or("an alert", String::as_str);
                want(PolicySource::Alert, alert.fingerprint.clone(), level, &|| format!("{name} fires"));
            }
        }
        for (condition, (level, why)) in &self.world.blind {
            want(PolicySource::Blindness, condition.clone(), *level, &|| why.clone());
        }
        self.want_sight(draft, &mut want);
        self.want_workspace(draft, &mut want);
        for (key, hold) in &state.holds {
            // While the clock is not to be trusted, nothing expires.
            let unsure = self.world.blind.contains_key("clock_jump");
            if key.source == PolicySource::Operator && (unsure || hold.until.is_none_or(|until| draft.now < until)) {
                want(key.source, key.subject.clone(), hold.level, &|| hold.reason.clone());
            }
        }
        wants
    }

    /// What is unknown is never healthy: start-up, unknown subsystems, a Watchdog that is not heard (POL-4, OBS-2).
    fn want_sight(&self, draft: &Draft, want: &mut impl FnMut(PolicySource, Name, Level, &dyn Fn() -> String)) {
        let blind = self.rules.policy.blindness_level;
        if self.world.unseen > 0 {
            let reason = || format!("checks that have not answered since the start: {}", self.world.unseen);
            want(PolicySource::Startup, "first_checks".into(), Level::NoNewTrades, &reason);
        }
        // One that was not checked yet since the start is the start's matter.
        let trading = |index: usize| self.rules.subsystems[index].criticality == crate::model::Criticality::Full;
        let seen = self.world.subsystems.iter().enumerate().filter(|(_, seen)| seen.seen);
        let unknown = if self.world.counts.count(crate::model::Criticality::Full, Status::Unknown) == 0 {
            0
        } else {
            seen.filter(|(index, seen)| trading(*index) && seen.health.status == Status::Unknown).count()
        };
        if unknown > 0 {
            let reason = || format!("subsystems that trading depends on and that are unknown: {unknown}");
            want(PolicySource::Blindness, "unknown_subsystem".into(), blind, &reason);
        }
        if let (Some(absent_at), Some(watchdog)) = (self.watchdog_absent_at(), &self.rules.alerts.watchdog)
            && draft.now >= absent_at
        {
            let reason = || self.watchdog_trouble(watchdog);
            want(PolicySource::Blindness, "watchdog_absent".into(), watchdog.policy, &reason);
        }
    }

    /// What a person asks for: what it began, if anything. A refusal says why.
    pub(super) fn take_command(
        &mut self,
        draft: &mut Draft,
        command: &Command,
        effects: &mut Vec<Effect>,
    ) -> Result<String, Refused> {
        let nothing = |()| String::new();
        match command {
            Command::SetPolicy { level, reason, by, until } => {
                self.set_policy(draft, *level, reason, by, *until).map(nothing)
            }
            Command::ReleasePolicy { by, reason } => self.release(draft, by, reason).map(nothing),
            Command::Approve(answer) => self.approve(draft, answer, effects),
            Command::Reject(answer) => self.reject(draft, answer),
            Command::Drill { subsystem, by, reason } => self.drill(draft, subsystem, (by, reason), effects),
            Command::SetMaintenance(wish) => self.announce(draft, wish),
            Command::EndMaintenance { id, by, reason } => self.end_maintenance(draft, id, by, reason),
            Command::NoteRestart { by, reason } => {
                draft.push(Record::RestartAsked { by: by.clone(), reason: reason.clone() });
                Ok(String::new())
            }
        }
    }

    pub(super) fn may_loosen(&self) -> Result<(), Refused> {
        if self.world.journal_ok {
            return Ok(());
        }
        let why = "the journal cannot be written; nothing is loosened that would be forgotten";
        Err(Refused::Conflict(why.to_owned()))
    }

    fn set_policy(
        &mut self,
        draft: &mut Draft,
        level: Level,
        reason: &str,
        by: &Caller,
        until: Option<Timestamp>,
    ) -> Result<(), Refused> {
        if reason.trim().is_empty() || by.name.trim().is_empty() {
            return Err(Refused::Conflict("a policy is set with a reason and a name".to_owned()));
        }
        let held: Vec<(HoldKey, Level, Option<Timestamp>)> = draft
            .state
            .holds
            .iter()
            .filter(|(key, _)| key.source == PolicySource::Operator)
            .map(|(key, hold)| (key.clone(), hold.level, hold.until))
            .collect();
        // Each level is held by itself, so that a stricter one for a minute takes nothing with it when it ends.
        let same = held.iter().find(|(_, one, _)| *one == level);
        let sooner = same.is_some_and(|(_, _, held)| match (held, until) {
            (None, Some(_)) => true,
            (Some(held), Some(until)) => until < *held,
            (_, None) => false,
        });
        let may_loosen = by.role >= Role::Approve;
        if (level == Level::AllowAll && !held.is_empty()) || sooner {
            self.may_loosen()?;
            if !may_loosen {
                let strictest = held.iter().map(|(_, level, _)| *level).max().unwrap_or(Level::AllowAll);
                let what = format!("{strictest} is held, and {} has the role {}", by.name, by.role);
                return Err(Refused::Forbidden(format!("{what}; loosening it needs the role approve")));
            }
        }
        // Whoever may loosen says what holds from now on; others only add to it.
        if may_loosen && (level == Level::AllowAll || self.world.journal_ok) {
            for (key, _, _) in held.iter().filter(|(_, one, _)| *one != level) {
                draft.push(Record::HoldEnded {
                    source: key.source,
                    subject: key.subject.clone(),
                    by: Some(by.name.clone()),
                    reason: Some(reason.to_owned()),
                });
            }
        }
        if level == Level::AllowAll {
            return Ok(());
        }
        let key = match same {
            Some((key, _, _)) => key.clone(),
            None => HoldKey { source: PolicySource::Operator, subject: level.as_str().into() },
        };
        self.set_hold(draft, key, level, format!("{}: {reason}", by.name), (until, Some(by.name.clone())));
        Ok(())
    }

    fn release(&mut self, draft: &mut Draft, by: &str, reason: &str) -> Result<(), Refused> {
        self.may_loosen()?;
        let conflict = |why: String| Err(Refused::Conflict(why));
        if reason.trim().is_empty() || by.trim().is_empty() {
            return conflict("a release needs a reason and a name".to_owned());
        }
        let overall = self.world.counts.overall_for_policy();
        if overall == Status::Failed {
            return conflict(
                "the overall status is still failed; recover it first, or the latch would close again".to_owned(),
            );
        }
        if let Some(alert) = draft.state.alerts.values().find(|alert| alert.policy == Some(Level::EmergencyShutdown)) {
            let name = alert.labels.get("alertname").map_or("an alert", String::as_str);
            return conflict(format!("{name} still fires and asks for emergency_shutdown"));
        }
        if draft.state.latch.is_some() {
            draft.push(Record::LatchReleased { by: by.to_owned(), reason: reason.to_owned() });
        }
        let ended: Vec<HoldKey> = draft
            .state
            .holds
            .iter()
            .filter(|(key, hold)| key.source == PolicySource::Operator || hold.level == Level::EmergencyShutdown)
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            self.world.relaxing.remove(&key);
            let (by, reason) = (Some(by.to_owned()), Some(reason.to_owned()));
            draft.push(Record::HoldEnded { source: key.source, subject: key.subject, by, reason });
        }
        Ok(())
    }
}

/// Whether an episode wants a level for how bad it is.
fn is_heavy(episode: &Episode) -> bool {
    episode.facts.severity == Severity::Critical && episode.facts.moves_policy
}

/// Whether nobody knows how one of its actions ended.
fn is_unresolved(episode: &Episode) -> bool {
    // What undoes is begun only where the policy permits what it does; a level of its own would keep it from being asked about.
    episode.key.kind != *super::reverse::REVERSE
        && episode.ladder.iter().any(|rung| rung.outcome == Some(Outcome::Indeterminate))
}
