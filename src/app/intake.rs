//! Accepted alerts get their one outcome each (ALR-1, ALR-2).

use crate::alerts::Watchdog;
use crate::alerts::routing::{self, Routed, Routing};
use crate::detect::rules::SUBSYSTEM_STATUS;
use crate::journal::{AlertPart, Episode, IssueFacts, Record, RungOrigin};
use crate::model::{
    AlertOutcome, AlertStatus, Criticality, EpisodeId, EpisodeKey, HOST, IntakeAlert, IssueSource, Severity, Timestamp,
};

use super::cycle::Cycle;
use super::draft::Draft;
use super::episodes::{Wish, grant};

impl Cycle {
    /// Takes one alert out of the intake.
    pub(super) fn take_alert(&mut self, draft: &mut Draft, number: u64, alert: &IntakeAlert) {
        if number <= draft.state.intake {
            return;
        }
        let known = |name: &str| name == HOST || self.world.index.contains_key(name);
        let is_action = |name: &str| (self.rules.catalog)(name).is_some();
        let held =
            draft.state.alerts.get(&alert.fingerprint).filter(|_| alert.status == AlertStatus::Resolved).cloned();
        let taken = match routing::route(alert, &self.rules.alerts, &known, &is_action) {
            // What holds an episode open may end it, whatever the routes have become since.
            _ if held.is_some() => self.take_resolved(draft, alert),
            Routed::Watchdog => {
                self.hear_watchdog(draft, alert);
                Taken::plain(AlertOutcome::Watchdog)
            }
            Routed::Own => Taken::plain(AlertOutcome::Own),
            Routed::Unrouted => Taken::plain(AlertOutcome::Unrouted),
            Routed::UnknownSubsystem(_) => Taken::plain(AlertOutcome::UnknownSubsystem),
            Routed::UnknownAction(_) => Taken::plain(AlertOutcome::UnknownAction),
            Routed::To(routing) => match alert.status {
                AlertStatus::Firing => self.take_firing(draft, alert, &routing),
                AlertStatus::Resolved => self.take_resolved(draft, alert),
            },
        };
        draft.push(Record::AlertTaken {
            intake: number,
            fingerprint: alert.fingerprint.clone(),
            status: alert.status,
            outcome: taken.outcome,
            episode: taken.episode.clone(),
            part: taken.part,
            ended_at: alert.ends_at,
        });
        if taken.outcome == AlertOutcome::ResolvedUnproven {
            self.world.unproven.insert(alert.fingerprint.clone());
        }
        self.world.dirty_episodes.extend(taken.episode);
    }

    fn take_firing(&mut self, draft: &mut Draft, alert: &IntakeAlert, routing: &Routing) -> Taken {
        let known = draft.state.alerts.get(&alert.fingerprint).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.unproven.is_none()) {
            return Taken { outcome: AlertOutcome::Deduplicated, episode: Some(known.episode.clone()), part: None };
        }
        let late = draft.state.closed_alerts.get(&alert.fingerprint).is_some_and(|ended| alert.starts_at <= *ended);
        if known.is_none() && late {
            return Taken::plain(AlertOutcome::Stale);
        }
        let wish = routing.action.clone().map(|action| Wish {
            action,
            origin: if routing.confirm_by_check {
                RungOrigin::AlertIfConfirmed(alert.fingerprint.clone())
            } else {
                RungOrigin::Alert(alert.fingerprint.clone())
            },
        });
        let id = match known.map(|known| known.episode.clone()).or_else(|| find(draft, routing)) {
            Some(id) => {
                self.join(draft, &id, routing, wish);
                id
            }
            None => {
                let kind = routing.kind.clone().unwrap_or_else(|| SUBSYSTEM_STATUS.into());
                let key = EpisodeKey { subsystem: routing.subsystem.clone(), symbol: routing.symbol.clone(), kind };
                let facts = self.facts_of_alert(alert, routing);
                self.open(draft, &key, facts, false, wish, Some(alert.starts_at))
            }
        };
        self.world.unproven.remove(&alert.fingerprint);
        self.world.clear_since.remove(&id);
        let part = AlertPart {
            fingerprint: alert.fingerprint.clone(),
            labels: alert.labels.clone(),
            starts_at: alert.starts_at,
            policy: routing.policy,
        };
        Taken { outcome: AlertOutcome::Accepted, episode: Some(id), part: Some(part) }
    }

    fn take_resolved(&mut self, draft: &Draft, alert: &IntakeAlert) -> Taken {
        let Some(known) = draft.state.alerts.get(&alert.fingerprint) else {
            let repeated = draft.state.closed_alerts.contains_key(&alert.fingerprint);
            return Taken::plain(if repeated { AlertOutcome::Deduplicated } else { AlertOutcome::ResolvedUnknown });
        };
        if alert.ends_at.is_some_and(|ended| ended < known.starts_at) {
            // It tells of an end before the present firing began.
            return Taken { outcome: AlertOutcome::Stale, episode: Some(known.episode.clone()), part: None };
        }
        let subsystem = draft.state.episodes.get(&known.episode).map(|episode| episode.key.subsystem.clone());
        let outcome = if subsystem.as_ref().is_none_or(|subsystem| self.is_proven(draft, subsystem)) {
            // Without it the check alone says how bad it is.
            self.world.dirty_subsystems.extend(subsystem.and_then(|subsystem| self.world.index.get(&subsystem)));
            AlertOutcome::Resolved
        } else if known.unproven.is_some() {
            AlertOutcome::Deduplicated
        } else {
            AlertOutcome::ResolvedUnproven
        };
        Taken { outcome, episode: Some(known.episode.clone()), part: None }
    }

    /// An alert joins an open episode: it may raise the severity, and have an action done that waited for a person.
    fn join(&mut self, draft: &mut Draft, id: &EpisodeId, routing: &Routing, wish: Option<Wish>) {
        let Some(episode) = draft.state.episodes.get(id).cloned() else { return };
        let Episode { facts, ladder, by_check, .. } = &*episode;
        let mut ladder = ladder.clone();
        let mut facts = facts.clone();
        let raised = routing.severity > facts.severity;
        if raised {
            facts.severity = routing.severity;
            facts.impacts_trading = facts.impacts_trading || self.impacts(&routing.subsystem, routing.severity);
        }
        let granted = wish.is_some_and(|wish| {
            let containing = self.is_containing(&wish.action);
            grant(&mut ladder, &wish, containing)
        });
        if raised || granted {
            self.change(draft, &episode, facts, ladder, *by_check);
        }
    }

    fn impacts(&self, subsystem: &str, severity: Severity) -> bool {
        self.criticality(subsystem) == Some(Criticality::Full) && severity >= Severity::High
    }

    fn facts_of_alert(&self, alert: &IntakeAlert, routing: &Routing) -> IssueFacts {
        let name = alert.labels.get("alertname").map_or("an alert without a name", String::as_str);
        let root = self.graph.root_cause(&routing.subsystem, |name| self.world.is_broken(name)).cloned();
        IssueFacts {
            severity: routing.severity,
            description: format!("alert {name} fires for {}", routing.subsystem),
            symptoms: alert.annotations.values().cloned().collect(),
            root_cause: root,
            impacts_trading: self.impacts(&routing.subsystem, routing.severity),
            moves_policy: self.criticality(&routing.subsystem) != Some(Criticality::None),
            affects_subsystems: self.graph.affected_by(&routing.subsystem).to_vec(),
            source: IssueSource::Alert,
        }
    }

    /// A Watchdog that fires is heard. One that says resolved is bad news: whoever sends alerts has fallen silent, so it
    /// counts as absent at once, until it is heard again.
    fn hear_watchdog(&mut self, draft: &Draft, alert: &IntakeAlert) {
        let at = alert.received_at.min(draft.now);
        let last = self.world.watchdog_at.unwrap_or(Timestamp::EPOCH);
        match alert.status {
            AlertStatus::Firing => self.world.watchdog_at = Some(at.max(last)),
            AlertStatus::Resolved => self.world.watchdog_at = Some(Timestamp::EPOCH),
        }
    }

    /// When the Watchdog counts as absent, if one is configured. A restart grants no new time: what was last heard by an
    /// earlier process counts. One that was never heard gets its time from the start, or from the reload that names it.
    pub(super) fn watchdog_absent_at(&self) -> Option<Timestamp> {
        let watchdog = self.rules.alerts.watchdog.as_ref()?;
        let last = match (self.world.watchdog_at, self.world.watchdog_from) {
            (Some(heard), Some(from)) if heard > Timestamp::EPOCH => heard.max(from),
            (Some(heard), _) => heard,
            (None, from) => from.unwrap_or(self.world.started_at),
        };
        Some(last.plus(watchdog.absent_after))
    }

    /// Why the Watchdog counts as absent.
    pub(super) fn watchdog_trouble(&self, watchdog: &Watchdog) -> String {
        let (name, limit) = (&watchdog.alertname, watchdog.absent_after.as_secs_f64());
        if self.world.watchdog_at == Some(Timestamp::EPOCH) {
            return format!("{name} has ended: whoever sends alerts has fallen silent");
        }
        format!("{name} has not been heard for {limit} s")
    }
}

struct Taken {
    outcome: AlertOutcome,
    episode: Option<EpisodeId>,
    part: Option<AlertPart>,
}

impl Taken {
    fn plain(outcome: AlertOutcome) -> Self {
        Self { outcome, episode: None, part: None }
    }
}

/// The open episode that a routed alert belongs to (DET-4): the one of its type, or without a type any of the
/// subsystem's, that of its status first.
fn find(draft: &Draft, routing: &Routing) -> Option<EpisodeId> {
    let key = |kind: &str| EpisodeKey {
        subsystem: routing.subsystem.clone(),
        symbol: routing.symbol.clone(),
        kind: kind.into(),
    };
    if let Some(kind) = &routing.kind {
        return draft.state.open.get(&key(kind)).cloned();
    }
    draft.state.open.get(&key(SUBSYSTEM_STATUS)).cloned().or_else(|| {
        let from = key("");
        draft
            .state
            .open
            .range(from..)
            .take_while(|(key, _)| key.subsystem == routing.subsystem)
            // A rehearsal is nobody's issue, and what is only expected is not what an alert tells of.
            .find(|(key, _)| {
                let apart = super::episodes::stands_apart(&key.kind) || crate::model::is_forecast(&key.kind);
                key.symbol == routing.symbol && !apart
            })
            .map(|(_, id)| id.clone())
    })
}
