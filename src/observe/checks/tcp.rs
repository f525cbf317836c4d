//! `tcp`: does something accept connections at an address?

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::model::{Measure, Quantity, Status};
use crate::observe::params;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Tcp::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
Whether a TCP connection to an address is accepted, and how soon. Nothing is sent.

# Why it matters
A service that no longer accepts connections is down for everybody, whatever its own status page says.

# Failure reasons
- `degraded`: the connection took `degraded_latency` or longer.
- `critical`: refused, unreachable, a name that does not resolve, or no answer within `timeout`; `error` says which.

# Parameters
- `address`: `HOST:PORT`, `[IPv6]:PORT`.
- `degraded_latency` (none): from this time on degraded.
- `timeout` (5s): the time to wait.
";

/// One address.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// `HOST:PORT`.
    pub address: String,
    /// From this time on degraded.
    pub degraded_latency: Option<Duration>,
    /// The time to wait.
    pub timeout: Duration,
}

impl Check for Tcp {
    type Reading = Result<Duration, String>;
    const KIND: &'static str = "tcp";

    async fn read(&self) -> Self::Reading {
        let begun = Instant::now();
        match timeout(self.timeout, TcpStream::connect(&self.address)).await {
            Ok(Ok(_)) => Ok(begun.elapsed()),
            Ok(Err(error)) => Err(format!("{}: {error}", self.address)),
            Err(_) => Err(format!("{}: no answer within {:?}", self.address, self.timeout)),
        }
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        match reading {
            Ok(latency) => judge_latency(Judgement::new(Status::Healthy), *latency, self.degraded_latency),
            Err(error) => Judgement::new(Status::Critical).with("error", error.as_str()),
        }
    }
}

/// Adds `latency_ms` and makes the grade at least degraded from `limit` on.
pub fn judge_latency(judgement: Judgement, latency: Duration, limit: Option<Duration>) -> Judgement {
    let mut judgement = judgement.with("latency_ms", latency.as_secs_f64() * 1000.0);
    if let Some(limit) = limit {
        let (value, limit) = (latency.as_secs_f64(), limit.as_secs_f64());
        judgement.signals.measures.push(Measure { quantity: Quantity::Latency, value, limit });
    }
    match limit {
        Some(limit) if latency >= limit => judgement
            .at_least(Status::Degraded)
            .with("warning", format!("answer took {} ms, expected less than {limit:?}", latency.as_millis())),
        _ => judgement,
    }
}

/// Whether a text is `HOST:PORT` with a port of 1 to 65535.
pub(in crate::observe) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_fits = if host.starts_with('[') { host.ends_with(']') } else { !host.contains(':') };
    !host.is_empty() && host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn build(section: &mut Section<'_>, _context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let address = params::required_text(section, "address");
    let degraded_latency = params::span(section, "degraded_latency");
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let address = address?;
    if !is_address(&address) {
        section.reject("address", "expected HOST:PORT", None);
        return None;
    }
    Some(Arc::new(Tcp { address, degraded_latency, timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::checks::testing::NOW;

    fn check(address: &str) -> Tcp {
        let degraded_latency = Some(Duration::from_millis(100));
        Tcp { address: address.to_owned(), degraded_latency, timeout: Duration::from_secs(5) }
    }

    /// OBS-7: an open port is healthy, the same port once closed is critical.
    #[tokio::test]
    async fn open_then_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = check(&listener.local_addr().unwrap().to_string());
        assert!(Check::read(&check).await.is_ok());
        drop(listener);
        let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
        assert_eq!(judgement.status, Status::Critical);
        assert!(judgement.details["error"].as_str().unwrap().contains("refused"));
    }

    #[test]
    fn both_sides_of_the_latency() {
        for (millis, status) in [(99, Status::Healthy), (100, Status::Degraded)] {
            assert_eq!(Check::judge(&check("a:1"), &Ok(Duration::from_millis(millis)), NOW).status, status, "{millis}");
        }
    }

    #[test]
    fn addresses_and_what_is_none() {
        for (text, fits) in [
            ("localhost:80", true),
            ("[::1]:80", true),
            ("::1:80", false),
            ("localhost", false),
            (":80", false),
            ("a:0", false),
            ("a:65536", false),
        ] {
            assert_eq!(is_address(text), fits, "{text}");
        }
    }
}
