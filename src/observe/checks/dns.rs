//! `dns`: does a name resolve, and to what it should?

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use tokio::time::{Instant, timeout};

use super::tcp::judge_latency;
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::model::Status;
use crate::observe::params;
use crate::observe::threshold::short;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Dns::KIND, doc: DOC, build };

/// How many answers are told, and how much of each, in characters.
const ANSWERS_MAX: usize = 32;
const ANSWER_MAX: usize = 256;
/// A name server that is lost once is asked again within the time limit.
const TRIES: u32 = 2;

const DOC: &str = "\
# What it asks
Which records of one type a name has: of one name server, or of those in `/etc/resolv.conf`. Each reading asks anew;
nothing is cached here, `/etc/hosts` is not looked at, and the name is complete as it stands (no search domains).

# Why it matters
A platform whose names stop resolving loses its exchange while every process still runs. A name that resolves to
something else sends its orders elsewhere.

# Failure reasons
- `degraded`: the answer took `degraded_latency` or longer.
- `critical`: the name does not exist (NXDOMAIN), has no record of that type, a value of `expect` is not among the
  answers, the server refuses or fails (SERVFAIL), or nothing answers within `timeout`; `error` says which.
- Could not be run: there is no name server in `/etc/resolv.conf`.

# Parameters
- `name`: the name; for `PTR` an IP address will do.
- `record` (`A`): `A`, `AAAA`, `CNAME`, `MX`, `NS`, `PTR`, `SOA`, `SRV` or `TXT`.
- `server` (those of the system): `IP` or `IP:PORT` of the name server.
- `expect` (none): values that must all be among the answers, written as the details show them.
- `degraded_latency` (none): from this time on degraded.
- `timeout` (5s): the time to wait for an answer.
";

/// The types that may be asked for.
const RECORDS: [(&str, RecordType); 9] = [
    ("A", RecordType::A),
    ("AAAA", RecordType::AAAA),
    ("CNAME", RecordType::CNAME),
    ("MX", RecordType::MX),
    ("NS", RecordType::NS),
    ("PTR", RecordType::PTR),
    ("SOA", RecordType::SOA),
    ("SRV", RecordType::SRV),
    ("TXT", RecordType::TXT),
];

/// One question.
#[derive(Clone, Debug)]
pub struct Dns {
    name: Name,
    record: RecordType,
    server: Option<SocketAddr>,
    expect: Vec<String>,
    degraded_latency: Option<Duration>,
    timeout: Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The values of the records, sorted, and how long they took.
    Answers(Vec<String>, Duration),
    /// Why there is none.
    Nothing(String),
    /// Nobody could be asked.
    Unasked(String),
}

impl Dns {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.server {
            Some(server) => {
                let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                connections.iter_mut().for_each(|connection| connection.port = server.port());
                let server = NameServerConfig::new(server.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                Resolver::builder_with_config(config, TokioRuntimeProvider::default())
                    .with_options(ResolverOpts::default())
            }
            None => TokioResolver::builder_tokio()?,
        };
        let options = builder.options_mut();
        options.timeout = self.timeout / TRIES;
        options.attempts = TRIES as usize - 1;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build()
    }

    /// Whom it asks, in words.
    fn whom(&self) -> String {
        self.server.map_or_else(|| "the name servers in `/etc/resolv.conf`".to_owned(), |server| server.to_string())
    }

    async fn ask(&self) -> Found {
        // A resolver of its own for each question: no cache, no memory of which server was quick.
        let resolver = match self.resolver() {
            Ok(resolver) => resolver,
            Err(error) => return Found::Unasked(format!("`/etc/resolv.conf`: {error}; name a `server`")),
        };
        let begun = Instant::now();
        match resolver.lookup(self.name.clone(), self.record).await {
            Ok(lookup) => {
                let records = lookup.answers().iter().filter(|record| record.record_type() == self.record);
                let mut answers: Vec<String> = records.map(|record| value(&record.data)).collect();
                answers.sort_unstable();
                answers.dedup();
                if answers.is_empty() {
                    return Found::Nothing(self.no_record());
                }
                Found::Answers(answers, begun.elapsed())
            }
            Err(error) => Found::Nothing(self.told(&error)),
        }
    }

    fn no_record(&self) -> String {
        format!("`{}` has no {} record, says {}", self.shown(), self.record, self.whom())
    }

    fn told(&self, error: &NetError) -> String {
        let (name, whom) = (self.shown(), self.whom());
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
                format!("`{name}` does not exist (NXDOMAIN), says {whom}")
            }
            NetError::Dns(DnsError::NoRecordsFound(_)) => self.no_record(),
            NetError::Dns(DnsError::ResponseCode(code)) => {
                let word = match code {
                    ResponseCode::ServFail => "SERVFAIL".to_owned(),
                    ResponseCode::Refused => "REFUSED".to_owned(),
                    other => other.to_string(),
                };
                format!("{whom} could not resolve `{name}`: found {word}, expected an answer")
            }
            NetError::Timeout => self.late(),
            other => format!("{whom} could not be asked for `{name}`: {}", short(&other.to_string(), ANSWER_MAX)),
        }
    }

    fn late(&self) -> String {
        format!("no answer for `{}` from {} within {:?}", self.shown(), self.whom(), self.timeout)
    }

    fn shown(&self) -> String {
        bare(&self.name.to_ascii())
    }
}

impl Check for Dns {
    type Reading = Found;
    const KIND: &'static str = "dns";

    async fn read(&self) -> Found {
        timeout(self.timeout, self.ask()).await.unwrap_or_else(|_| Found::Nothing(self.late()))
    }

    fn judge(&self, reading: &Found, _now: Timestamp) -> Judgement {
        let (answers, latency) = match reading {
            Found::Answers(answers, latency) => (answers, *latency),
            Found::Nothing(error) => return Judgement::new(Status::Critical).with("error", error.as_str()),
            Found::Unasked(error) => return Judgement::unrunnable(error.as_str()),
        };
        let shown: Vec<String> = answers.iter().take(ANSWERS_MAX).map(|answer| short(answer, ANSWER_MAX)).collect();
        let missing: Vec<&str> =
            self.expect.iter().filter(|wanted| !answers.contains(wanted)).map(String::as_str).collect();
        let mut judgement = Judgement::new(Status::Healthy);
        if !missing.is_empty() {
            let error = format!(
                "`{}` resolves to {}, expected {} among it",
                self.shown(),
                short(&shown.join(", "), ANSWER_MAX),
                short(&missing.join(", "), ANSWER_MAX)
            );
            judgement = Judgement::new(Status::Critical).with("error", error);
        }
        let judgement =
            judgement.with("answers", shown).with("total", answers.len()).with("record", self.record.to_string());
        judge_latency(judgement, latency, self.degraded_latency)
    }
}

/// A record's value as it is written in `expect`: names in lower case without the last dot.
fn value(data: &RData) -> String {
    match data {
        RData::TXT(text) => text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect(),
        other => other.to_string().split(' ').map(bare).collect::<Vec<_>>().join(" "),
    }
}

fn bare(name: &str) -> String {
    name.strip_suffix('.').filter(|rest| !rest.is_empty()).unwrap_or(name).to_ascii_lowercase()
}

/// An expected value in the same writing.
fn expected(record: RecordType, text: &str) -> Option<String> {
    match record {
        RecordType::A => text.parse::<std::net::Ipv4Addr>().ok().map(|address| address.to_string()),
        RecordType::AAAA => text.parse::<std::net::Ipv6Addr>().ok().map(|address| address.to_string()),
        RecordType::TXT => Some(text.to_owned()),
        _ => Some(text.split_whitespace().map(bare).collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty()),
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    let address = text.parse().ok().or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)));
    address.filter(|address| address.port() > 0)
}

fn build(section: &mut Section<'_>, _context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let record = if section.has("record") { section.word("record", &RECORDS) } else { Some(RecordType::A) };
    let name = params::required_text(section, "name").and_then(|text| {
        let mut name = match text.parse::<IpAddr>() {
            Ok(address) if record == Some(RecordType::PTR) => Name::from(address),
            Ok(_) => {
                section.reject("name", "expected a name; an address has names to look up only with record: PTR", None);
                return None;
            }
            Err(_) => Name::from_str(&text).map_err(|_| section.reject("name", "expected a domain name", None)).ok()?,
        };
        name.set_fqdn(true);
        Some(name)
    });
    let at = params::text(section, "server");
    let server = at.as_deref().and_then(server);
    if at.is_some() && server.is_none() {
        section.reject("server", "expected IP or IP:PORT of a name server", None);
    }
    let texts = params::texts(section, "expect");
    let degraded_latency = params::span(section, "degraded_latency");
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let record = record?;
    let expect: Vec<String> = texts.iter().filter_map(|text| expected(record, text)).collect();
    if expect.len() != texts.len() {
        section.reject("expect", &format!("expected values that a record of type {record} can have"), None);
    }
    Some(Arc::new(Dns { name: name?, record, server, expect, degraded_latency, timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::checks::testing::NOW;

    fn check(server: &str, expect: &[&str]) -> Dns {
        Dns {
            name: Name::from_str("order.example.").unwrap(),
            record: RecordType::A,
            server: super::server(server),
            expect: expect.iter().map(|text| (*text).to_owned()).collect(),
            degraded_latency: Some(Duration::from_millis(100)),
            timeout: Duration::from_millis(400),
        }
    }

    fn found(answers: &[&str], millis: u64) -> Found {
        Found::Answers(answers.iter().map(|text| (*text).to_owned()).collect(), Duration::from_millis(millis))
    }

    /// OBS-7: all of `expect` must be among the answers; a slow answer is degraded; no answer is critical.
    #[test]
    fn answers_are_compared() {
        let check = check("127.0.0.1", &["10.0.0.1", "10.0.0.2"]);
        for (reading, status, error) in [
            (found(&["10.0.0.1", "10.0.0.2", "10.0.0.3"], 99), Status::Healthy, ""),
            (found(&["10.0.0.1", "10.0.0.2"], 100), Status::Degraded, ""),
            (found(&["10.0.0.1"], 100), Status::Critical, "resolves to 10.0.0.1, expected 10.0.0.2 among it"),
            (Found::Nothing("no answer".to_owned()), Status::Critical, "no answer"),
        ] {
            let judgement = Check::judge(&check, &reading, NOW);
            assert_eq!(judgement.status, status, "{reading:?}");
            let told = judgement.details.get("error").map_or("", |error| error.as_str().unwrap());
            assert!(told.contains(error), "{told}");
        }
        assert!(Check::judge(&check, &Found::Unasked("none".to_owned()), NOW).unrunnable);
        let many: Vec<String> = (0..5000).map(|index| format!("{index}-{}", "x".repeat(1000))).collect();
        let judgement = Check::judge(&check, &Found::Answers(many, Duration::ZERO), NOW);
        assert!(serde_json::to_string(&judgement.details).unwrap().len() < 20_000);
        assert_eq!(judgement.details["total"], 5000);
    }

    #[test]
    fn addresses_of_servers_and_values() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1:53")),
            ("10.0.0.1:5353", Some("10.0.0.1:5353")),
            ("::1", Some("[::1]:53")),
            ("[::1]:54", Some("[::1]:54")),
            ("localhost", None),
            ("10.0.0.1:0", None),
        ] {
            assert_eq!(server(text).map(|at| at.to_string()).as_deref(), expected, "{text}");
        }
        for (record, text, value) in [
            (RecordType::A, "10.0.0.1", Some("10.0.0.1")),
            (RecordType::A, "::1", None),
            (RecordType::AAAA, "2001:DB8:0:0::1", Some("2001:db8::1")),
            (RecordType::MX, "10  Mail.Example.", Some("10 mail.example")),
            (RecordType::NS, " ", None),
            (RecordType::TXT, "v=spf1 -All", Some("v=spf1 -All")),
        ] {
            assert_eq!(expected(record, text).as_deref(), value, "{text}");
        }
    }

    /// OBS-7: a server that stays silent costs the timeout; one that answers nonsense or is not there is told.
    #[tokio::test]
    async fn servers_that_do_not_answer() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = silent.local_addr().unwrap().to_string();
        let begun = Instant::now();
        let judgement = Check::judge(&check(&at, &[]), &Check::read(&check(&at, &[])).await, NOW);
        assert_eq!(judgement.status, Status::Critical);
        let told = judgement.details["error"].as_str().unwrap();
        assert!(told.contains(&format!("no answer for `order.example` from {at} within 400ms")), "{told}");
        assert!(begun.elapsed() < Duration::from_secs(2));
        drop(silent);
        let judgement = Check::judge(&check(&at, &[]), &Check::read(&check(&at, &[])).await, NOW);
        assert_eq!(judgement.status, Status::Critical, "{judgement:?}");
        assert!(judgement.details["error"].as_str().unwrap().contains(&at), "{judgement:?}");
    }
}
