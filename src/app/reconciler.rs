//! Asks every Alertmanager what fires: at the start, at every interval, and after a truncated notification (ALR-2).
//!
//! In: the settings in force and what readers see. Out: alerts into the intake, like pushed ones.
//! **Invariant:** decides nothing but what [`reconcile`](crate::alerts::reconcile) says, and acts on nothing; a poll
//! that finds nothing, or nobody, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::alerts::reconcile::{self, Facts, History, Known, Listing};
use crate::alerts::{Settings, routing};
use crate::clients::alertmanager::{Client, Error};
use crate::http::Handle as _;
use crate::model::{Fingerprint, HOST, IntakeAlert, Name, Timestamp};
use crate::telemetry::Progress;

use super::board::View;
use super::handle::AppHandle;

/// How often the settings are looked at for new Alertmanagers.
const LOOK: Duration = Duration::from_secs(1);
/// Truncated notifications within this time cause one poll.
const COALESCE: Duration = Duration::from_millis(500);
/// Alerts taken in with one transaction.
const BATCH: usize = 500;

/// The task. Cloning shares its memory, so that one that is started again goes on where the other ended.
#[derive(Clone)]
pub struct Reconciler {
    handle: Arc<AppHandle>,
    progress: Progress,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    history: History,
    /// Who did not answer last time, so that trouble is logged when it begins and when it ends.
    silent: BTreeSet<Name>,
}

/// The Alertmanagers of one set of settings.
struct Targets {
    settings: Arc<Settings>,
    clients: Vec<(Name, Result<Client, String>)>,
}

impl Reconciler {
    /// Over what HTTP sees of chiron: its intake is the same.
    pub fn new(handle: Arc<AppHandle>, progress: Progress) -> Self {
        Self { handle, progress, memory: Arc::default() }
    }

    /// Polls until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut targets = self.targets();
        // What was missed while nobody asked is taken in at once.
        let mut at_once = true;
        let mut polls = 0_u32;
        loop {
            self.progress.beat();
            if !targets.clients.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.poll(&targets, at_once) => {}
                }
            }
            polls = polls.wrapping_add(1);
            let next = Instant::now() + jittered(targets.settings.poll_interval, polls);
            at_once = loop {
                self.progress.beat();
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.handle.poll_now.notified() => {
                        tokio::time::sleep(COALESCE).await;
                        break true;
                    }
                    () = tokio::time::sleep_until(next.min(Instant::now() + LOOK)) => {}
                }
                if !Arc::ptr_eq(&targets.settings, &self.settings()) {
                    targets = self.targets();
                    break true;
                }
                if Instant::now() >= next {
                    break false;
                }
            };
        }
    }

    fn settings(&self) -> Arc<Settings> {
        self.handle.webhook_settings()
    }

    fn targets(&self) -> Targets {
        let settings = self.settings();
        let unverified: Vec<(Name, bool)> =
            settings.alertmanagers.iter().map(|target| (target.name.clone(), target.insecure_skip_verify)).collect();
        for (name, _) in unverified.iter().filter(|(_, unverified)| *unverified) {
            tracing::warn!(alertmanager = %name, "the certificate of this Alertmanager is not verified");
        }
        self.handle.shared.metrics.alertmanagers.configure(&unverified);
        let clients = settings.alertmanagers.iter().map(|target| (target.name.clone(), Client::new(target))).collect();
        Targets { settings, clients }
    }

    async fn poll(&self, targets: &Targets, at_once: bool) {
        // What is known now, the Alertmanagers knew before they are asked.
        let view = self.handle.shared.board.load().view.load_full();
        let asked_at = self.handle.clock.now();
        let ask = |client: &Result<Client, String>| {
            let (client, settings) = (client.clone(), Arc::clone(&targets.settings));
            async move {
                let unusable = |detail| Error { reason: "unreachable", detail };
                client.map_err(unusable)?.list(asked_at, &settings).await
            }
        };
        let answers = join_all(targets.clients.iter().map(|(_, client)| ask(client))).await;
        let named = targets.clients.iter().map(|(name, _)| name).zip(answers);
        let answers: Vec<Option<Listing>> = named.map(|(name, answer)| self.note(name, answer, asked_at)).collect();
        let taken = {
            let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
            compare(&view, &targets.settings, &answers, at_once, asked_at, &mut memory.history)
        };
        for batch in taken.chunks(BATCH) {
            if let Err(refusal) = self.handle.accept(batch.to_vec(), 0).await {
                // The next poll finds them again.
                tracing::warn!("what a poll found could not be taken in: {refusal:?}");
                break;
            }
        }
    }

    /// Counts an answer, and tells of trouble when it begins and when it ends.
    fn note(&self, name: &Name, answer: Result<Listing, Error>, asked_at: Timestamp) -> Option<Listing> {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &self.handle.shared.metrics.alertmanagers;
        match answer {
            Ok(listing) => {
                counts.polled(name, Ok(asked_at));
                if memory.silent.remove(name) {
                    tracing::info!(alertmanager = %name, "Alertmanager answers again");
                }
                Some(listing)
            }
            Err(error) => {
                counts.polled(name, Err(error.reason));
                if memory.silent.insert(name.clone()) {
                    tracing::warn!(alertmanager = %name, reason = error.reason, "Alertmanager cannot be asked: {error}");
                }
                None
            }
        }
    }
}

/// [`reconcile::reconcile`] with what readers see.
fn compare(
    view: &View,
    settings: &Settings,
    answers: &[Option<Listing>],
    at_once: bool,
    asked_at: Timestamp,
    history: &mut History,
) -> Vec<IntakeAlert> {
    let known: BTreeMap<Fingerprint, Known> = view
        .state
        .alerts
        .iter()
        .map(|(fingerprint, alert)| {
            let known = Known { labels: alert.labels.clone(), starts_at: alert.starts_at, unproven: alert.unproven };
            (fingerprint.clone(), known)
        })
        .collect();
    let subsystems: BTreeSet<&str> = view.rules.subsystems.iter().map(|subsystem| subsystem.name.as_str()).collect();
    let is_subsystem = |name: &str| name == HOST || subsystems.contains(name);
    let is_action = |name: &str| (view.rules.catalog)(name).is_some();
    let facts = Facts {
        known: &known,
        closed: &|fingerprint| view.state.closed_alerts.get(fingerprint).copied(),
        route: &|alert| routing::route(alert, settings, &is_subsystem, &is_action),
        watchdog_at: view.state.watchdog_at.filter(|at| *at > Timestamp::EPOCH),
        settings,
        at_once,
        asked_at,
    };
    reconcile::reconcile(answers, &facts, history)
}

/// An interval up to a tenth longer or shorter, so that many chirons do not ask at once.
fn jittered(interval: Duration, polls: u32) -> Duration {
    // Which of the tenths is due; what matters is that it differs from process to process and poll to poll.
    let spread = polls.wrapping_add(std::process::id()).wrapping_mul(2_654_435_761) >> 16;
    interval * 9 / 10 + interval * (spread % 1000) / 5000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_a_tenth() {
        let interval = Duration::from_secs(30);
        let all: Vec<Duration> = (0..1000).map(|polls| jittered(interval, polls)).collect();
        assert!(all.iter().all(|one| (27_000..=33_000).contains(&one.as_millis())));
        assert!(all.iter().max() > all.iter().min());
    }
}
