//! Compares what the Alertmanagers list with what is known, because a push can be missed for good (ALR-2).
//!
//! In: each Alertmanager's answer or silence, the alerts that are known, the absences so far. Out: alerts to be taken in
//! like pushed ones, and the new [`History`].
//! **Invariant:** pure, and it acts on nothing: what it finds goes through the intake, where the decision task judges it
//! as it judges a push. Silence is no evidence: an alert ends only when every configured Alertmanager answers, has run
//! long enough to know, and does not list it, twice in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Deserialize;

use super::payload::{ALERTS_MAX, ANNOTATION_CHARS_MAX, LABELS_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX, fingerprint};
use super::routing::Routed;
use super::{POLL_RECEIVER, Settings};
use crate::model::{AlertStatus, Fingerprint, IntakeAlert, Timestamp};

/// Clocks of senders and Alertmanagers may differ by this much before a word counts as newer than an end.
const SKEW: Duration = Duration::from_secs(15);

/// One alert that an Alertmanager lists as not yet ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// As it would be taken in.
    pub alert: IntakeAlert,
    /// When its sender last said so, by the Alertmanager's clock.
    pub updated_at: Option<Timestamp>,
    /// Silenced, inhibited or muted: it fires, and nobody is to act upon it.
    pub suppressed: bool,
}

/// What one Alertmanager lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// What fires.
    pub alerts: Vec<Seen>,
    /// How long it has been running; `None` if it does not say.
    pub age: Option<Duration>,
    /// There was more than was taken; it says nothing about what is missing.
    pub cut: bool,
}

/// An alert that holds an episode open.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// When it began, by the sender's clock.
    pub starts_at: Timestamp,
    /// It said resolved, as of this time, without proof.
    pub unproven: Option<Timestamp>,
}

/// What is known beside the answers.
pub struct Facts<'a> {
    /// Alerts known before the Alertmanagers were asked.
    pub known: &'a BTreeMap<Fingerprint, Known>,
    /// When an alert that was closed ended, by the sender's clock.
    pub closed: &'a dyn Fn(&str) -> Option<Timestamp>,
    /// Where an alert leads.
    pub route: &'a dyn Fn(&IntakeAlert) -> Routed,
    /// When the Watchdog was last heard.
    pub watchdog_at: Option<Timestamp>,
    /// The settings.
    pub settings: &'a Settings,
    /// What fires is taken in at once; else only what has fired for a poll interval, so that a push comes first and
    /// what inhibits it has time to arrive.
    pub at_once: bool,
    /// When the Alertmanagers were asked.
    pub asked_at: Timestamp,
}

/// What is remembered from poll to poll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Known alerts that no Alertmanager listed: since when, in polls without a gap.
    absent: BTreeMap<Fingerprint, Timestamp>,
    /// Alerts that fired and were not taken in yet.
    fresh: BTreeSet<Fingerprint>,
}

/// Compares. Every answer counts as one poll; `None` is an Alertmanager that did not answer.
pub fn reconcile(answers: &[Option<Listing>], facts: &Facts<'_>, history: &mut History) -> Vec<IntakeAlert> {
    let mut seen: BTreeMap<&Fingerprint, &Seen> = BTreeMap::new();
    for found in answers.iter().flatten().flat_map(|listing| &listing.alerts) {
        // What one of them would deliver is delivered, and the latest word counts.
        seen.entry(&found.alert.fingerprint)
            .and_modify(|best| {
                let rank = |seen: &Seen| (!seen.suppressed, seen.updated_at);
                if rank(found) > rank(best) {
                    *best = found;
                }
            })
            .or_insert(found);
    }
    let mut taken = Vec::new();
    let mut fresh = BTreeSet::new();
    let mut watchdog_heard = false;
    for (fingerprint, found) in &seen {
        match (facts.route)(&found.alert) {
            // That it is silenced does not make it silent.
            Routed::Watchdog => {
                watchdog_heard = true;
                taken.push(found.alert.clone());
            }
            Routed::To(_) if !found.suppressed => {
                let Some(alert) = news(found, facts) else { continue };
                let old_enough = facts.asked_at.since(alert.starts_at) >= facts.settings.poll_interval;
                if facts.at_once || old_enough || history.fresh.contains(*fingerprint) {
                    taken.push(alert);
                } else {
                    fresh.insert((*fingerprint).clone());
                }
            }
            _ => {}
        }
    }
    history.fresh = fresh;
    if !says_all(answers, facts, watchdog_heard) {
        history.absent.clear();
        return taken;
    }
    let absent = |fingerprint: &&Fingerprint| !seen.contains_key(*fingerprint);
    let gone: BTreeMap<Fingerprint, Timestamp> = facts
        .known
        .keys()
        .filter(absent)
        .map(|fingerprint| (fingerprint.clone(), history.absent.get(fingerprint).copied().unwrap_or(facts.asked_at)))
        .collect();
    // Two polls in quick succession, as after a truncated notification, are one.
    let apart = facts.settings.poll_interval / 2;
    for (fingerprint, since) in gone.iter().filter(|(_, since)| facts.asked_at > since.plus(apart)) {
        if let Some(known) = facts.known.get(fingerprint).filter(|known| known.unproven.is_none()) {
            taken.push(ended(fingerprint, known, *since, facts));
        }
    }
    history.absent = gone;
    taken
}

/// Whether these answers can show that an alert has ended: every Alertmanager has answered in full and has run long
/// enough to have been told of everything that fires, and the Watchdog, where there is one, is heard.
fn says_all(answers: &[Option<Listing>], facts: &Facts<'_>, watchdog_heard: bool) -> bool {
    let knows = |answer: &Option<Listing>| {
        answer
            .as_ref()
            .is_some_and(|listing| !listing.cut && listing.age.is_some_and(|age| age >= facts.settings.restart_grace))
    };
    let alive = facts.settings.watchdog.as_ref().is_none_or(|watchdog| {
        watchdog_heard || facts.watchdog_at.is_some_and(|at| facts.asked_at.since(at) < watchdog.absent_after)
    });
    !answers.is_empty() && answers.iter().all(knows) && alive
}

/// A firing alert that is not known, as it is to be taken in. One that is known to have ended is news only if it began,
/// or its sender repeated it, after that: another Alertmanager may not have heard of the end (invariant 4).
fn news(found: &Seen, facts: &Facts<'_>) -> Option<IntakeAlert> {
    let fingerprint = &found.alert.fingerprint;
    let ended = match facts.known.get(fingerprint) {
        Some(known) => known.unproven?,
        None => match (facts.closed)(fingerprint) {
            None => return Some(found.alert.clone()),
            Some(ended) => ended,
        },
    };
    if found.alert.starts_at > ended {
        return Some(found.alert.clone());
    }
    let updated_at = found.updated_at.filter(|at| *at > ended.plus(SKEW))?;
    // It fires at least since then; its own start would make it look like a message that came late.
    Some(IntakeAlert { starts_at: updated_at.min(facts.asked_at), ..found.alert.clone() })
}

fn ended(fingerprint: &Fingerprint, known: &Known, since: Timestamp, facts: &Facts<'_>) -> IntakeAlert {
    IntakeAlert {
        received_at: facts.asked_at,
        receiver: POLL_RECEIVER.into(),
        status: AlertStatus::Resolved,
        fingerprint: fingerprint.clone(),
        labels: known.labels.clone(),
        annotations: BTreeMap::new(),
        starts_at: known.starts_at,
        // When it was first missed: what begins later is another alert.
        ends_at: Some(since.max(known.starts_at)),
        truncated: false,
    }
}

/// `GET /api/v2/alerts`, as far as it matters.
#[derive(Deserialize)]
struct Wire {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, serde_json::Value>>,
    #[serde(rename = "startsAt")]
    starts_at: String,
    #[serde(rename = "endsAt", default)]
    ends_at: Option<String>,
    #[serde(rename = "updatedAt", default)]
    updated_at: Option<String>,
    #[serde(default)]
    status: Option<WireStatus>,
}

#[derive(Default, Deserialize)]
struct WireStatus {
    #[serde(default)]
    state: Option<String>,
    #[serde(rename = "silencedBy", default)]
    silenced_by: Option<Vec<String>>,
    #[serde(rename = "inhibitedBy", default)]
    inhibited_by: Option<Vec<String>>,
    #[serde(rename = "mutedBy", default)]
    muted_by: Option<Vec<String>>,
}

impl WireStatus {
    fn is_suppressed(&self) -> bool {
        let by = [&self.silenced_by, &self.inhibited_by, &self.muted_by];
        self.state.as_deref() == Some("suppressed")
            || by.into_iter().any(|by| by.as_ref().is_some_and(|by| !by.is_empty()))
    }
}

/// Reads the list of an Alertmanager that was asked at `asked_at`, when its own clock said `theirs`. Unknown fields are
/// accepted. An alert that the webhook would not accept either is left out, as is one that has ended.
pub fn parse(body: &[u8], asked_at: Timestamp, theirs: Timestamp, settings: &Settings) -> Result<Listing, String> {
    let wire: Vec<Wire> =
        serde_json::from_slice(body).map_err(|error| format!("expected a list of alerts: {error}"))?;
    let cut = wire.len() > ALERTS_MAX;
    let alerts = wire.into_iter().take(ALERTS_MAX).filter_map(|wire| seen(wire, asked_at, theirs, settings)).collect();
    Ok(Listing { alerts, age: None, cut })
}

fn seen(wire: Wire, asked_at: Timestamp, theirs: Timestamp, settings: &Settings) -> Option<Seen> {
    let time = |text: &Option<String>| text.as_deref().and_then(Timestamp::parse_rfc3339);
    let acceptable = !wire.labels.is_empty()
        && wire.labels.len() <= LABELS_MAX
        && wire.labels.iter().all(|(name, value)| {
            let fits = name.len() <= NAME_BYTES_MAX && value.len() <= VALUE_BYTES_MAX;
            !name.is_empty() && fits && !name.contains('\0') && !value.contains('\0')
        });
    // Dates before the epoch stand for one that is not set.
    let over = time(&wire.ends_at).is_some_and(|end| end > Timestamp::EPOCH && end <= theirs);
    if !acceptable || over {
        return None;
    }
    let starts_at = Timestamp::parse_rfc3339(&wire.starts_at).filter(|at| *at > Timestamp::EPOCH).unwrap_or(asked_at);
    let annotations = wire.annotations.unwrap_or_default();
    let kept = annotations.into_iter().filter(|(name, _)| matches!(name.as_str(), "summary" | "description"));
    let alert = IntakeAlert {
        received_at: asked_at,
        receiver: POLL_RECEIVER.into(),
        status: AlertStatus::Firing,
        fingerprint: fingerprint(&wire.labels, &settings.replica_labels),
        labels: wire.labels,
        annotations: kept
            .filter_map(|(name, value)| {
                let text = value.as_str()?.chars().filter(|found| *found != '\0').take(ANNOTATION_CHARS_MAX).collect();
                Some((name, text))
            })
            .collect(),
        starts_at,
        ends_at: None,
        truncated: false,
    };
    let suppressed = wire.status.is_some_and(|status| status.is_suppressed());
    Some(Seen { alert, updated_at: time(&wire.updated_at), suppressed })
}

/// `GET /api/v2/status`: when the Alertmanager was started, by its own clock.
pub fn parse_started(body: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Status {
        uptime: String,
    }
    let status: Status = serde_json::from_slice(body).ok()?;
    Timestamp::parse_rfc3339(&status.uptime).filter(|at| *at > Timestamp::EPOCH)
}

#[cfg(test)]
mod tests;
