//! Sends chiron's own alerts to every Alertmanager: at once on a change, and again at every interval (ALR-3).
//!
//! In: what readers see. Out: the whole set of alerts, to each Alertmanager by itself.
//! **Invariant:** constant work: each round tells everything that is wanted, and of what waits only the latest round is
//! kept. One Alertmanager that is slow or gone delays no other, and nothing that chiron does waits for one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::alerts::Settings;
use crate::alerts::outgoing::{self, Case, Facts, Memory};
use crate::clients::alertmanager::{Client, Error};
use crate::http::Handle as _;
use crate::model::{Name, Reason, RecommendationState, Severity, Timestamp};
use crate::telemetry::Progress;

use super::board::View;
use super::episodes::issue_of;
use super::handle::AppHandle;
use super::report::recommendation;

/// How often it is looked whether something else is wanted.
const LOOK: Duration = Duration::from_millis(500);
/// The pause after a first failure; it doubles up to the resend interval.
const BACKOFF: Duration = Duration::from_secs(1);

/// The task. Cloning shares its memory, so that one that is started again goes on where the other ended.
#[derive(Clone)]
pub struct Sender {
    handle: Arc<AppHandle>,
    listening: String,
    progress: Progress,
    memory: Arc<Mutex<Memory>>,
}

/// One Alertmanager and how far it has been told.
struct Outlet {
    name: Name,
    client: Client,
    busy: bool,
    /// Which version it was told last, and when.
    told: Option<(u64, Instant)>,
    failures: u32,
    not_before: Instant,
}

/// The Alertmanagers of one set of settings.
struct Outlets {
    generation: u64,
    settings: Arc<Settings>,
    list: Vec<Outlet>,
}

/// The end of one post.
struct Ended {
    generation: u64,
    outlet: usize,
    version: u64,
    alerts: usize,
    begun: Instant,
    result: Result<(), Error>,
}

impl Sender {
    /// Over what HTTP sees of chiron; `listening` is its address where no external one is set.
    pub fn new(handle: Arc<AppHandle>, (scheme, listening): (&str, &[SocketAddr]), progress: Progress) -> Self {
        let address = listening.first().map_or_else(String::new, |address| {
            let host = match address.ip() {
                ip if !ip.is_unspecified() => ip,
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            format!("{scheme}://{}", SocketAddr::new(host, address.port()))
        });
        Self { handle, listening: address, progress, memory: Arc::default() }
    }

    /// Sends until told to stop. What is then still wanted expires by itself.
    pub async fn run(self, stop: CancellationToken) {
        let mut outlets = self.outlets(0);
        let mut under_way: FuturesUnordered<BoxFuture<'static, Ended>> = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(ended) = under_way.next() => self.note(&mut outlets, ended),
                _ = look.tick() => {
                    self.progress.beat();
                    if !Arc::ptr_eq(&outlets.settings, &self.handle.webhook_settings()) {
                        outlets = self.outlets(outlets.generation + 1);
                    }
                    self.look(&outlets.settings);
                }
            }
            self.begin(&mut outlets, &under_way);
        }
    }

    fn outlets(&self, generation: u64) -> Outlets {
        let settings = self.handle.webhook_settings();
        let now = Instant::now();
        let mut list = Vec::new();
        for target in settings.alertmanagers.iter().filter(|_| settings.send.enabled) {
            let name = target.name.clone();
            match Client::new(target) {
                Ok(client) => {
                    list.push(Outlet { name, client, busy: false, told: None, failures: 0, not_before: now });
                }
                Err(why) => tracing::error!(alertmanager = %name, "no alert can be sent to it: {why}"),
            }
        }
        Outlets { generation, settings, list }
    }

    /// Works out what is wanted now; before the first decision nothing is known.
    fn look(&self, settings: &Settings) {
        let view = self.handle.shared.board.load().view.load_full();
        if view.at == Timestamp::EPOCH || settings.alertmanagers.is_empty() || !settings.send.enabled {
            return;
        }
        let now = self.handle.clock.now();
        let cases = cases(&view);
        let facts = Facts { cases: &cases, policy: &view.policy, dry_run: view.dry_run, now };
        let wanted = outgoing::outgoing(&facts, &settings.send);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.update(wanted, now, settings.send.resend_interval);
        self.handle.shared.metrics.alertmanagers.wanted(memory.wanted());
    }

    /// Begins a round for every Alertmanager that is due and not still being told.
    fn begin(&self, outlets: &mut Outlets, under_way: &FuturesUnordered<BoxFuture<'static, Ended>>) {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Outlets { generation, settings, list } = outlets;
        let (generation, resend) = (*generation, settings.send.resend_interval);
        let due = |outlet: &Outlet| {
            !outlet.busy
                && now >= outlet.not_before
                && outlet.told.is_none_or(|(version, at)| version != memory.version || now >= at + resend)
        };
        for (index, outlet) in list.iter_mut().enumerate().filter(|(_, outlet)| due(outlet)) {
            let base = settings.send.external_url.as_deref().unwrap_or(&self.listening);
            let round = memory.round(self.handle.clock.now(), resend, base);
            let version = memory.version;
            if round.is_empty() {
                outlet.told = Some((version, now));
                continue;
            }
            outlet.busy = true;
            let client = outlet.client.clone();
            under_way.push(Box::pin(async move {
                let result = client.post(&round).await;
                Ended { generation, outlet: index, version, alerts: round.len(), begun: now, result }
            }));
        }
    }

    fn note(&self, outlets: &mut Outlets, ended: Ended) {
        if ended.generation != outlets.generation {
            return;
        }
        let resend = outlets.settings.send.resend_interval;
        let Some(outlet) = outlets.list.get_mut(ended.outlet) else { return };
        outlet.busy = false;
        self.handle.shared.metrics.alertmanagers.sent(&outlet.name, ended.alerts, ended.result.is_ok());
        match ended.result {
            Ok(()) => {
                if outlet.failures > 0 {
                    tracing::info!(alertmanager = %outlet.name, "alerts can be sent again");
                }
                outlet.failures = 0;
                outlet.told = Some((ended.version, ended.begun));
            }
            Err(error) => {
                if outlet.failures == 0 {
                    let reason = error.reason;
                    tracing::error!(alertmanager = %outlet.name, reason, "alerts cannot be sent: {error}");
                }
                outlet.failures = outlet.failures.saturating_add(1);
                outlet.not_before = Instant::now() + backoff(outlet.failures, resend);
            }
        }
    }
}

/// Every open issue that there may be something to tell about.
fn cases(view: &View) -> Vec<Case> {
    let waits = |id: &Name| {
        view.waiting.get(id).is_some_and(|waiting| {
            waiting.state == RecommendationState::Approval
                || matches!(waiting.reason, Reason::Manual | Reason::ApprovalPending | Reason::Unbound)
        })
    };
    view.state
        .episodes
        .values()
        .filter(|episode| {
            episode.facts.severity == Severity::Critical
                || episode.escalated.is_some()
                || waits(&episode.id) && !super::episodes::is_to_be_seen_only(episode)
        })
        .map(|episode| Case {
            issue: issue_of(episode, None),
            escalated: episode.escalated,
            recommendation: recommendation(view, episode),
        })
        .collect()
}

/// The pause after so many failures in a row.
fn backoff(failures: u32, resend: Duration) -> Duration {
    (BACKOFF * 2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(resend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_the_interval() {
        let resend = Duration::from_secs(60);
        let pauses: Vec<u64> = [1, 2, 3, 6, 7, 1000].map(|failures| backoff(failures, resend).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60]);
    }
}
