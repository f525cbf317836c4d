//! `network`: are the machines that the platform needs found and reached?

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::timeout;

use super::exchange_api::number;
use super::findings::Findings;
use super::window::{Pace, Recent, Tally, Window, withheld};
use super::{Built, PointContext, PointSpec};
use crate::base::tree::Section;
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::checks::tcp::Tcp;
use crate::observe::params;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: Network::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "look at the machine's network, its resolver and the route to the hosts that the finding names";

const DOC: &str = "\
# What it asks
Whether the name of each host resolves, and whether its port accepts a connection, and how soon. Nothing is sent.

# Why it matters
It tells an exchange that is down from a machine that has lost its network or its resolver.

# Failure reasons
- `critical`, finding critical: none of the hosts is reached, twice in a row.
- `degraded`, finding high: one or some of several are not reached, twice in a row: the name does not resolve, the connection
  is refused, or there is no answer within `timeout`.
- `degraded`, finding medium: a connection took `degraded_latency` or longer.
- `unknown`: a host was not reached once, and the next look, soon after, will tell.

What is not reached is tried again by `retry_connection` 1 s after it was found, then 5 s and 25 s after the try before,
and each try is logged.

# Parameters
- `hosts`: a list of up to 32, each `HOST:PORT` or `[IPv6]:PORT`. Required.
- `degraded_latency` (none): from this time on slow.
- `timeout` (5s): the time for resolving, and again for connecting.
";

/// The most hosts.
const HOSTS_MAX: usize = 32;

/// Every host.
struct Network {
    hosts: Vec<(Tcp, Window)>,
    degraded_latency: Option<Duration>,
    pace: Pace,
    recent: Recent<Vec<Reached>>,
}

/// How one host was reached.
#[derive(Clone, Debug)]
struct Reached {
    host: String,
    /// Addresses of its name.
    resolved: Result<usize, String>,
    /// How long connecting took.
    connected: Result<Duration, String>,
    tally: Tally,
}

async fn reach(tcp: &Tcp, window: &Window, now: Duration) -> Reached {
    let host = tcp.address.clone();
    let resolved = match timeout(tcp.timeout, tokio::net::lookup_host(&tcp.address)).await {
        Ok(Ok(addresses)) => Ok(addresses.count()),
        Ok(Err(error)) => Err(format!("{host} does not resolve: {error}")),
        Err(_) => Err(format!("{host} does not resolve within {:?}", tcp.timeout)),
    };
    let connected = match &resolved {
        Ok(_) => Check::read(tcp).await,
        Err(why) => Err(why.clone()),
    };
    let tally = window.note(connected.is_err(), now);
    Reached { host, resolved, connected, tally }
}

impl Check for Network {
    type Reading = Vec<Reached>;
    const KIND: &'static str = "network";

    async fn read(&self) -> Self::Reading {
        let (now, recent) = self.recent.look();
        if let Some(recent) = recent {
            return recent;
        }
        let reached = join_all(self.hosts.iter().map(|(tcp, window)| reach(tcp, window, now))).await;
        self.recent.keep(now, &reached);
        reached
    }

    fn ask_anew(&self) {
        self.recent.forget();
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let mut findings = Findings::default();
        let unreachable = reading.iter().filter(|reached| reached.connected.is_err()).count();
        let unresolved = reading.iter().filter(|reached| reached.resolved.is_err()).count();
        let (status, severity) = if reading.iter().all(|reached| reached.tally.is_down()) {
            (Status::Critical, Severity::Critical)
        } else {
            (Status::Degraded, Severity::High)
        };
        for reached in reading {
            match (&reached.connected, self.degraded_latency) {
                (Err(why), _) if reached.tally.is_down() => findings.add(status, severity, None, why.clone()),
                (Ok(latency), Some(limit)) if *latency >= limit => {
                    let text = format!("{} took {limit:?} or longer to connect", reached.host);
                    findings.add(Status::Degraded, Severity::Medium, None, text);
                }
                _ => {}
            }
        }
        let hosts: Vec<_> = reading
            .iter()
            .map(|reached| {
                json!({
                    "host": reached.host,
                    "resolved": reached.resolved.is_ok(),
                    "reachable": reached.connected.is_ok(),
                    "latency_ms": reached.connected.as_ref().ok().map(|latency| latency.as_secs_f64() * 1000.0),
                })
            })
            .collect();
        let mut judgement =
            findings.judgement().with("hosts", hosts).with("unreachable", unreachable).with("unresolved", unresolved);
        let slowest = reading.iter().filter_map(|reached| reached.connected.as_ref().ok()).max();
        judgement.perfdata.extend(slowest.map(|latency| number("latency", latency.as_secs_f64(), "seconds")));
        #[expect(clippy::cast_precision_loss, reason = "few hosts")]
        judgement.perfdata.push(number("unreachable", unreachable as f64, ""));
        let doubtful = reading.iter().find(|reached| reached.tally.is_doubtful());
        let doubt = doubtful.and_then(|reached| reached.connected.as_ref().err());
        withheld(judgement, doubt.map(|why| format!("failed once: {why}")), None, self.pace.again(now))
    }
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let hosts = params::texts(section, "hosts");
    let fits = |host: &String| crate::observe::checks::tcp::is_address(host);
    if hosts.is_empty() || hosts.len() > HOSTS_MAX || !hosts.iter().all(fits) {
        let rule = format!("expected a list of up to {HOSTS_MAX} hosts, each HOST:PORT");
        section.reject("hosts", &rule, None);
    }
    let degraded_latency = params::span(section, "degraded_latency");
    let limit = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let pace = Pace(context.every);
    let tcp = |address| (Tcp { address, degraded_latency, timeout: limit }, Window::new(1, pace));
    let hosts: Vec<(Tcp, Window)> = hosts.into_iter().take(HOSTS_MAX).map(tcp).collect();
    if hosts.is_empty() {
        return None;
    }
    let recent = Recent::new(context.checks.clock.clone(), pace);
    let check = Network { hosts, degraded_latency, pace, recent };
    Some(Built { check: Arc::new(check), limit: limit.saturating_mul(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(millis: Option<u64>) -> Reached {
        after(millis, if millis.is_some() { 0 } else { 2 })
    }

    fn after(millis: Option<u64>, in_a_row: u32) -> Reached {
        let connected = millis.map(Duration::from_millis).ok_or_else(|| "h:1: refused".to_owned());
        let tally = Tally { in_a_row, ..Tally::default() };
        Reached { host: "h:1".to_owned(), resolved: Ok(1), connected, tally }
    }

    /// OBS-8: some hosts away is worse than slow and better than all away; away once is not known.
    #[test]
    fn some_and_all() {
        let pace = Pace(Duration::from_secs(60));
        let recent = Recent::new(crate::base::clock::Clock::manual(Timestamp::EPOCH), pace);
        let check = Network { hosts: Vec::new(), degraded_latency: Some(Duration::from_millis(100)), pace, recent };
        for (reading, status, severity) in [
            (vec![reached(Some(99)), reached(Some(1))], Status::Healthy, None),
            (vec![reached(Some(100)), reached(Some(1))], Status::Degraded, Some(Severity::Medium)),
            (vec![reached(None), reached(Some(1))], Status::Degraded, Some(Severity::High)),
            (vec![reached(None), reached(None)], Status::Critical, Some(Severity::Critical)),
            (vec![after(None, 1)], Status::Unknown, None),
            (vec![after(None, 1), reached(Some(100))], Status::Unknown, None),
            (vec![after(None, 1), reached(None)], Status::Degraded, Some(Severity::High)),
        ] {
            let judgement = Check::judge(&check, &reading, Timestamp::EPOCH);
            assert_eq!(judgement.status, status, "{reading:?}");
            let found = judgement.signals.findings.first().map(|finding| finding.severity);
            assert_eq!(found, severity, "{reading:?}");
        }
    }

    /// A name that nobody has is told apart from a host that does not answer.
    #[tokio::test]
    async fn a_name_that_does_not_resolve() {
        let timeout = Duration::from_secs(5);
        let tcp = Tcp { address: "nobody.invalid:1".to_owned(), degraded_latency: None, timeout };
        let reached = reach(&tcp, &Window::new(1, Pace(timeout)), timeout).await;
        assert!(reached.resolved.is_err() && reached.connected.unwrap_err().contains("does not resolve"));
    }
}
