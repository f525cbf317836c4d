//! `tls`: until when does a server's certificate hold, and does it hold at all?

use std::sync::Arc;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use tokio::time::{Instant, timeout};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::tcp::is_address;
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::model::{Perfdata, Status};
use crate::observe::probes::handshake::{self, Shown};
use crate::observe::threshold::short;
use crate::observe::{access, params};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Tls::KIND, doc: DOC, build };

/// How many certificates of a chain, and how many names of one, are looked at.
const CHAIN_MAX: usize = 16;
const NAMES_MAX: usize = 8;
/// Longest name shown, in characters.
const NAME_MAX: usize = 100;
/// A certificate holds to the end of the second that it names.
const SECOND: Duration = Duration::from_secs(1);
const DAY_SECONDS: f64 = 86_400.0;

const DOC: &str = "\
# What it asks
Which certificates a server shows in a TLS handshake: until when they hold, whether an authority vouches for them, and
whether the first one is for the name. Of all certificates shown, the one that expires first counts, also one that some
clients may not need. Nothing is sent after the handshake, and no certificate of chiron's own is shown.

# Why it matters
A certificate ends at a moment that is known months before, and takes everything that trusts it down at once.

# Failure reasons
- `degraded`: the first expiry is `degraded_before` away or nearer.
- `critical`: it is `critical_before` away or nearer; a certificate has expired or holds not yet; no trusted authority
  vouches for it; it is for other names; no handshake within `timeout`. `error` says all of it that is so.

# Parameters
- `address`: `HOST:PORT`, `[IPv6]:PORT`.
- `server_name` (the host of `address`): the name that is asked for and that the certificate must have; an IP will do.
- `degraded_before`, `critical_before` (30d, 7d): the time left.
- `ca_file` (the machine's authorities): the only authorities to trust.
- `insecure_skip_verify` (`false`): look at the dates alone.
- `timeout` (5s): the time to wait for the handshake.
";

/// One server.
#[derive(Clone, Debug)]
pub struct Tls {
    address: String,
    server_name: ServerName<'static>,
    degraded_before: Duration,
    critical_before: Duration,
    /// `None` if only the dates are looked at.
    trusted: Option<Arc<RootCertStore>>,
    timeout: Duration,
    clock: Clock,
}

/// What a server has shown, and what is wrong with it whatever the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In the order of the chain.
    certificates: Vec<Certificate>,
    /// Why it is not to be believed, but for its dates.
    distrust: Vec<String>,
    protocol: Option<String>,
    asks_for_certificate: bool,
    latency: Duration,
}

/// A certificate, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Certificate {
    subject: String,
    issuer: String,
    names: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Certificate {
    fn of(der: &[u8]) -> Result<Self, String> {
        let (_, found) = X509Certificate::from_der(der).map_err(|error| format!("found no certificate: {error}"))?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_millis(time.timestamp().saturating_mul(1000));
        let alternative = found.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|extension| &extension.value.general_names).filter_map(name);
        Ok(Self {
            subject: short(&found.subject().to_string(), NAME_MAX),
            issuer: short(&found.issuer().to_string(), NAME_MAX),
            names: names.take(NAMES_MAX).collect(),
            not_before: at(found.validity().not_before),
            not_after: at(found.validity().not_after),
        })
    }

    /// What is wrong with its dates, if anything.
    fn misdated(&self, now: Timestamp) -> Option<String> {
        if now >= self.not_after.plus(SECOND) {
            let ago = days(now.since(self.not_after).as_secs_f64());
            Some(format!("the certificate `{}` expired at {}, {ago} ago", self.subject, self.not_after.rfc3339()))
        } else if now < self.not_before {
            let subject = &self.subject;
            Some(format!("the certificate `{subject}` holds not yet, only from {} on", self.not_before.rfc3339()))
        } else {
            None
        }
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(short(name, NAME_MAX)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

fn days(seconds: f64) -> String {
    format!("{:.1} days", seconds / DAY_SECONDS)
}

impl Tls {
    async fn ask(&self) -> Result<Seen, String> {
        let begun = Instant::now();
        let shown = handshake::handshake(&self.address, self.server_name.clone()).await?;
        let latency = begun.elapsed();
        self.seen(shown, latency, self.clock.now())
    }

    fn seen(&self, shown: Shown, latency: Duration, now: Timestamp) -> Result<Seen, String> {
        let Shown { chain, protocol, asks_for_certificate } = shown;
        let certificates: Result<Vec<_>, _> = chain.iter().take(CHAIN_MAX).map(|der| Certificate::of(der)).collect();
        let certificates = certificates?;
        if certificates.is_empty() {
            return Err("found a handshake without a certificate, expected one".to_owned());
        }
        let distrust = match &self.trusted {
            Some(trusted) => self.distrust(&chain, &certificates, trusted, now),
            None => Vec::new(),
        };
        Ok(Seen { certificates, distrust, protocol, asks_for_certificate, latency })
    }

    /// What is wrong but for the dates, which are judged by themselves: they are looked at as of a moment at which the
    /// certificates hold, if there is one.
    fn distrust(
        &self,
        chain: &[CertificateDer<'static>],
        certificates: &[Certificate],
        trusted: &RootCertStore,
        now: Timestamp,
    ) -> Vec<String> {
        let leaf = match ParsedCertificate::try_from(&chain[0]) {
            Ok(leaf) => leaf,
            Err(error) => return vec![format!("the certificate is not understood: {error}")],
        };
        let dated = certificates.iter().all(|certificate| certificate.misdated(now).is_none());
        let last = certificates.iter().map(|certificate| certificate.not_after).min().unwrap_or(now);
        let first = certificates.iter().map(|certificate| certificate.not_before).max().unwrap_or(now);
        let at = if dated { now } else { last.max(first.min(certificates[0].not_after)) };
        let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(at.millis()).unwrap_or(0)));
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        let mut distrust = Vec::new();
        let vouched = verify_server_cert_signed_by_trust_anchor(&leaf, trusted, &chain[1..], at, algorithms);
        match vouched {
            Ok(()) => {}
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
                let last = certificates.last().unwrap_or(&certificates[0]);
                let whom = if trusted.is_empty() { "this machine trusts no authority at all" } else { "expected one" };
                let text = format!("no authority that is trusted vouches for it: it was issued by `{}`", last.issuer);
                distrust.push(format!("{text}, {whom}"));
            }
            // Told of by its own date.
            Err(Error::InvalidCertificate(error)) if !dated && is_of_dates(&error) => {}
            Err(Error::InvalidCertificate(error)) => distrust.push(format!("it is not to be believed: {error}")),
            Err(error) => distrust.push(format!("it is not to be believed: {error}")),
        }
        if verify_server_name(&leaf, &self.server_name).is_err() {
            let names = &certificates[0].names;
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            distrust.push(format!("the certificate is for {names}, expected `{}`", self.server_name.to_str()));
        }
        distrust
    }

    /// The grade by the dates alone.
    fn dated(&self, certificates: &[Certificate], now: Timestamp) -> Status {
        let near = |before: Duration| certificates.iter().any(|shown| now >= shown.not_after.minus(before));
        if certificates.iter().any(|shown| shown.misdated(now).is_some()) || near(self.critical_before) {
            Status::Critical
        } else if near(self.degraded_before) {
            Status::Degraded
        } else {
            Status::Healthy
        }
    }

    /// When that grade changes next.
    fn next_change(&self, certificates: &[Certificate], now: Timestamp) -> Option<Timestamp> {
        let moments = certificates.iter().flat_map(|shown| {
            let end = shown.not_after;
            [shown.not_before, end.minus(self.degraded_before), end.minus(self.critical_before), end.plus(SECOND)]
        });
        let is_change = |at: &Timestamp| *at > now && self.dated(certificates, *at) != self.dated(certificates, now);
        moments.filter(is_change).min()
    }
}

fn is_of_dates(error: &CertificateError) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
}

impl Check for Tls {
    type Reading = Result<Seen, String>;
    const KIND: &'static str = "tls";

    async fn read(&self) -> Self::Reading {
        match timeout(self.timeout, self.ask()).await {
            Ok(seen) => seen.map_err(|why| format!("{}: {why}", self.address)),
            Err(_) => Err(format!("{}: no handshake within {:?}", self.address, self.timeout)),
        }
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let seen = match reading {
            Ok(seen) => seen,
            Err(error) => return Judgement::new(Status::Critical).with("error", error.as_str()),
        };
        let leaf = &seen.certificates[0];
        let first = seen.certificates.iter().min_by_key(|shown| shown.not_after).unwrap_or(leaf);
        // Milliseconds of a date fit a float for some hundred thousand years.
        let seconds = (first.not_after.millis() - now.millis()) as f64 / 1000.0;
        let by_date = self.dated(&seen.certificates, now);
        let mut judgement = Judgement::new(if seen.distrust.is_empty() { by_date } else { Status::Critical })
            .with("not_after", first.not_after.rfc3339())
            .with("days_left", (seconds / DAY_SECONDS * 100.0).round() / 100.0)
            .with("subject", leaf.subject.as_str())
            .with("issuer", leaf.issuer.as_str())
            .with("server_name", self.server_name.to_str().into_owned())
            .with("certificates", seen.certificates.len())
            .with("latency_ms", seen.latency.as_secs_f64() * 1000.0);
        if first != leaf {
            judgement = judgement.with("expires_first", first.subject.as_str());
        }
        if let Some(protocol) = &seen.protocol {
            judgement = judgement.with("protocol", protocol.as_str());
        }
        if seen.asks_for_certificate {
            judgement = judgement.with("asks_for_certificate", true);
        }
        let mut told: Vec<String> = seen.certificates.iter().filter_map(|shown| shown.misdated(now)).take(3).collect();
        if told.is_empty() && by_date != Status::Healthy {
            let (subject, at) = (&first.subject, first.not_after.rfc3339());
            told.push(format!("the certificate `{subject}` expires at {at}, in {}", days(seconds)));
        }
        told.extend(seen.distrust.iter().cloned());
        let told = format!("{}: {}", self.address, told.join("; "));
        judgement = match judgement.status {
            Status::Critical => judgement.with("error", told),
            Status::Degraded => judgement.with("warning", told),
            _ => judgement,
        };
        judgement.next_change_at =
            seen.distrust.is_empty().then(|| self.next_change(&seen.certificates, now)).flatten();
        judgement.perfdata.push(Perfdata {
            label: "certificate_expiry".into(),
            value: seconds,
            unit: "seconds".to_owned(),
        });
        judgement
    }

    fn cautions(&self) -> Vec<String> {
        let text = "the authority and the name of this certificate are not verified: only its dates are looked at";
        if self.trusted.is_none() { vec![text.to_owned()] } else { Vec::new() }
    }

    fn verifies_tls(&self) -> Option<bool> {
        Some(self.trusted.is_some())
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let address = params::required_text(section, "address").filter(|address| {
        let fits = is_address(address);
        if !fits {
            section.reject("address", "expected HOST:PORT", None);
        }
        fits
    });
    let named = params::text(section, "server_name");
    let degraded_before = params::span(section, "degraded_before").unwrap_or(Duration::from_secs(30 * 86_400));
    let critical_before = params::span(section, "critical_before").unwrap_or(Duration::from_secs(7 * 86_400));
    if critical_before > degraded_before {
        let rule = format!("expected at most degraded_before, which is {}s", degraded_before.as_secs_f64());
        section.reject("critical_before", &rule, None);
    }
    let authorities = access::certificates(section, context);
    let skip_verify = section.or("insecure_skip_verify", false);
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let (address, authorities) = (address?, authorities?);
    let host = address.rsplit_once(':').map_or("", |(host, _)| host).trim_start_matches('[').trim_end_matches(']');
    let key = if named.is_some() { "server_name" } else { "address" };
    let server_name = ServerName::try_from(named.unwrap_or_else(|| host.to_owned()))
        .map_err(|_| section.reject(key, "expected a DNS name or an IP address", None))
        .ok()?;
    let trusted = (!skip_verify).then(|| Arc::new(roots(authorities.as_deref())));
    let clock = context.clock.clone();
    Some(Arc::new(Tls { address, server_name, degraded_before, critical_before, trusted, timeout, clock }))
}

/// Those of a file, or the machine's; what is not understood is left out, as other programs do.
fn roots(pem: Option<&[u8]>) -> RootCertStore {
    let mut store = RootCertStore::empty();
    match pem {
        Some(pem) => drop(store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok))),
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    store
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::checks::testing::NOW;

    const DAY: Duration = Duration::from_secs(86_400);

    fn check() -> Tls {
        Tls {
            address: "host:443".to_owned(),
            server_name: ServerName::try_from("host").unwrap(),
            degraded_before: DAY * 30,
            critical_before: DAY * 7,
            trusted: None,
            timeout: SECOND,
            clock: Clock::manual(NOW),
        }
    }

    fn shown(subject: &str, not_before: Timestamp, not_after: Timestamp) -> Certificate {
        let issuer = "CN=authority".to_owned();
        Certificate { subject: subject.to_owned(), issuer, names: vec!["host".to_owned()], not_before, not_after }
    }

    fn seen(certificates: Vec<Certificate>) -> Seen {
        Seen { certificates, distrust: vec![], protocol: None, asks_for_certificate: false, latency: SECOND }
    }

    /// OBS-7: both sides of each limit, with the moment at which the grade changes; expired and not yet valid are told.
    #[test]
    fn dates_are_graded() {
        let (check, begun) = (check(), NOW.minus(DAY));
        let ms = Duration::from_millis(1);
        let table = [
            (NOW.plus(DAY * 30).plus(ms), Status::Healthy, Some(NOW.plus(ms)), ""),
            (NOW.plus(DAY * 30), Status::Degraded, Some(NOW.plus(DAY * 23)), "expires at"),
            (NOW.plus(DAY * 7).plus(ms), Status::Degraded, Some(NOW.plus(ms)), "in 7.0 days"),
            (NOW.plus(DAY * 7), Status::Critical, None, "in 7.0 days"),
            (NOW, Status::Critical, None, "in 0.0 days"),
            (NOW.minus(SECOND), Status::Critical, None, "expired at"),
            (NOW.minus(DAY * 3), Status::Critical, None, "expired at 2025-11-20T01:34:56Z, 3.0 days ago"),
        ];
        for (end, status, next, error) in table {
            let judgement = Check::judge(&check, &Ok(seen(vec![shown("CN=leaf", begun, end)])), NOW);
            assert_eq!((judgement.status, judgement.next_change_at), (status, next), "{judgement:?}");
            let told = judgement.details.get("error").or(judgement.details.get("warning"));
            assert!(told.map_or("", |told| told.as_str().unwrap()).contains(error), "{judgement:?}");
            assert_eq!(judgement.perfdata[0].value, (end.millis() - NOW.millis()) as f64 / 1000.0);
            if let Some(next) = next {
                let before = Timestamp::from_millis(next.millis() - 1);
                assert_eq!(check.dated(&[shown("", begun, end)], before), status);
                assert_ne!(check.dated(&[shown("", begun, end)], next), status);
            }
        }
        let early = Check::judge(&check, &Ok(seen(vec![shown("CN=leaf", NOW.plus(DAY), NOW.plus(DAY * 90))])), NOW);
        assert_eq!((early.status, early.next_change_at), (Status::Critical, Some(NOW.plus(DAY))));
        assert!(early.details["error"].as_str().unwrap().contains("holds not yet"), "{early:?}");
    }

    /// OBS-7: the certificate of the chain that expires first counts; what is distrusted stays critical.
    #[test]
    fn the_first_of_the_chain_counts() {
        let leaf = shown("CN=leaf", NOW.minus(DAY), NOW.plus(DAY * 90));
        let middle = shown("CN=middle", NOW.minus(DAY), NOW.plus(DAY * 8));
        let mut both = seen(vec![leaf, middle]);
        let judgement = Check::judge(&check(), &Ok(both.clone()), NOW);
        assert_eq!(judgement.status, Status::Degraded);
        assert_eq!(
            (&judgement.details["expires_first"], &judgement.details["days_left"]),
            (&"CN=middle".into(), &8.0.into())
        );
        both.distrust.push("the certificate is for other, expected `host`".to_owned());
        let judgement = Check::judge(&check(), &Ok(both), NOW);
        assert_eq!((judgement.status, judgement.next_change_at), (Status::Critical, None));
        let told = judgement.details["error"].as_str().unwrap();
        assert!(told.contains("CN=middle") && told.contains("is for other"), "{told}");
    }

    /// OBS-7: what is no TLS, and a server that closes or stays silent, are told as such.
    #[tokio::test]
    async fn servers_without_tls() {
        use tokio::io::AsyncWriteExt as _;
        for (answer, expected) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "no TLS"), (b"", "host: ")] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let check = Tls { address: address.clone(), ..check() };
            let serve = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(answer).await.unwrap();
            };
            let (reading, ()) = tokio::join!(Check::read(&check), serve);
            let told = reading.unwrap_err();
            assert!(told.contains(&expected.replace("host", &address)), "{told}");
        }
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let check = Tls { address, timeout: Duration::from_millis(100), ..check() };
        assert!(Check::read(&check).await.unwrap_err().contains("no handshake within 100ms"));
    }
}
