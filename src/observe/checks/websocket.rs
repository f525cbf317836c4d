//! `websocket`: does a WebSocket connection stand, are we accepted, and does data flow?

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, PROXY_AUTHORIZATION};

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::tree::{Node, Value};
use crate::base::{files, redact};
use crate::model::{Perfdata, Status, Vitals, WebSocketStatus};
use crate::observe::access;
use crate::observe::check::{Session, Wake};
use crate::observe::params;
use crate::observe::probes::websocket::session::{Reading, TOKEN};
use crate::observe::probes::websocket::{
    Auth, Facts, Link, Machine, Pattern, Patterns, Phase, Ping, Plan, Target, keep,
};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: WebSocket::KIND, doc: DOC, build };

/// Messages sent of each kind, and ways to match one.
const LIST_MAX: usize = 100;
/// Headers of the upgrade that are the protocol's.
const OWN_HEADERS: [&str; 7] = [
    "host",
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "content-length",
];

const DOC: &str = "\
# What it asks
Whether a WebSocket connection stands, whether the server accepts our credentials, whether data flows, and how long a
ping takes. The connection is kept open and made again when it is lost, after 2^n s (at most 1 min, a quarter more or
less, or as long as `Retry-After` says, of which at most 5 min are believed but with status 418 and 429). A loss, a return and the end of data are seen at once, whatever the interval.

# Why it matters
A feed that is connected and silent looks well to everybody but the strategy that trades on its last price.

# Failure reasons
- `unknown`: the first connection is being made, for `down_after` at most; or no data has come yet and `stale_after` is not
  set, for 1 min at most.
- `degraded`: it was lost less than `down_after` ago; or a ping took `degraded_latency` or longer.
- `critical`: not connected, or not accepted, for `down_after`; at once if the server refuses the credentials (also by
  status 401 or 403); or no data for `stale_after`. A pong, an ignored message and a ping of the server are no data, and
  neither is a new connection: the silence of the one before counts on. `error` says which, and what the server said.

A connection that is lost, not accepted or refused raises `websocket_disconnected`, silence `websocket_data_stale`, a ping
beyond `thresholds.max_latency` `high_latency`; the rest is the check's own status.

# Parameters
- `url`: `ws://` or `wss://`, without credentials before its host.
- `headers`: a mapping of headers for the upgrade; `Authorization` and `Cookie` only with `{{token}}`.
- `token_file`: a file whose first line stands for `{{token}}` in `url`, `headers`, `auth.send`, `subscribe` and
  `ping.message`; read for each connection.
- `ca_file`: trust only what these certificates (PEM) vouch for; `insecure_skip_verify` (`false`): trust any; logged.
- `connect_timeout` (10s): for address, connection, TLS and upgrade together.
- `auth`: `send` (messages), `expect` (the answer of acceptance), `reject` (that of refusal), `within` (10s).
- `subscribe`: messages to send once the connection stands and is accepted.
- `ignore`: messages that are no data: heartbeats, status, answers to subscriptions.
- `ping`: `every` (10s), `within` (10s: the answer has so long), and instead of the protocol's own ping `message` and
  `expect`, its answer.
- `stale_after` (learnt): silence from which on the feed is dead. Learnt from the gaps between updates, within 5 s and
  1 h, from 30 s of data on and at least 20 gaps; before that 1 min, or four times the longest gap so far. A feed that may be
  silent for longer from the start needs it set.
- `degraded_latency` (none): from this time of a ping on degraded.
- `down_after` (10s): how long a connection may be away.

A match (`expect`, `reject`, `ignore`) is a text that the message contains, or a mapping from JSON names or pointers to
values that must all be there; of a list one must match. Messages beyond 64 KiB match nothing.
";

/// One connection and what is expected of it.
#[derive(Clone, Debug)]
pub struct WebSocket {
    link: Arc<Link>,
    place: String,
    limits: Limits,
    verifies_tls: Option<bool>,
    cautions: Vec<String>,
}

/// What is well.
#[derive(Clone, Copy, Debug)]
struct Limits {
    down_after: Duration,
    degraded_latency: Option<Duration>,
    /// Beyond it a rule of vitals raises an issue.
    max_latency: Duration,
}

impl Check for WebSocket {
    type Reading = Reading;
    const KIND: &'static str = "websocket";

    async fn read(&self) -> Reading {
        self.link.read()
    }

    fn judge(&self, reading: &Reading, now: Timestamp) -> Judgement {
        judge(reading, &self.place, &self.limits, now)
    }

    fn raises(&self) -> &'static [&'static str] {
        &["websocket_disconnected", "websocket_data_stale", "high_latency"]
    }

    fn cautions(&self) -> Vec<String> {
        self.cautions.clone()
    }

    fn verifies_tls(&self) -> Option<bool> {
        self.verifies_tls
    }

    fn session(&self, wake: Wake) -> Option<Session> {
        Some(Box::pin(keep(Arc::clone(&self.link), wake)))
    }
}

/// How long the connection has been away, and what follows.
enum Usable {
    Yes,
    /// Away, but not for too long.
    Soon(Duration),
    No(Duration),
}

/// The grade of a reading. Only time that has passed since it counts from the wall clock, and only forward.
fn judge(reading: &Reading, place: &str, limits: &Limits, now: Timestamp) -> Judgement {
    let facts = &reading.facts;
    let at = reading.since_boot.saturating_add(now.since(reading.read_at));
    if facts.phase == Phase::Idle {
        return Judgement::new(Status::Unknown).with("warning", format!("{place}: no connection is kept yet"));
    }
    let away = facts.down_since.map(|since| at.saturating_sub(since));
    let usable = match away {
        None => Usable::Yes,
        Some(away) if away < limits.down_after => Usable::Soon(away),
        Some(away) => Usable::No(away),
    };
    let unaccepted = facts.phase == Phase::Authenticating;
    let stale = matches!(usable, Usable::Yes) && facts.is_stale(at);
    let latency = latency(facts, at);
    let slow = limits.degraded_latency.zip(latency).filter(|(limit, latency)| latency >= limit);

    // Own is the grade without what the rules for vitals raise.
    let (mut judgement, own) = match (&facts.refused, &usable) {
        (Some(why), _) => told(Status::Critical, "error", place, &refused(why), Status::Healthy),
        (None, Usable::Yes) if stale => {
            let (expected, source) = (facts.expected.limit(), facts.expected.as_str());
            let silent = seconds(at.saturating_sub(facts.silent_since));
            let text = format!("no data for {silent}, expected some within {} ({source})", seconds(expected));
            told(Status::Critical, "error", place, &text, Status::Healthy)
        }
        (None, Usable::Yes) if facts.is_rhythm_unknown() => {
            told(Status::Unknown, "warning", place, "no data yet, its rhythm is not known", Status::Unknown)
        }
        (None, Usable::Yes) => (Judgement::new(Status::Healthy), Status::Healthy),
        (None, Usable::Soon(_)) if !facts.ever_up => {
            told(Status::Unknown, "warning", place, &trouble(facts, at, "not connected yet"), Status::Unknown)
        }
        (None, Usable::Soon(away)) => {
            let text = trouble(facts, at, &format!("not connected for {}", seconds(*away)));
            told(Status::Degraded, "warning", place, &text, Status::Healthy)
        }
        (None, Usable::No(away)) if unaccepted => {
            let text = trouble(facts, at, &format!("connected, but not accepted for {}", seconds(*away)));
            told(Status::Critical, "error", place, &text, Status::Healthy)
        }
        (None, Usable::No(away)) => {
            let text = trouble(facts, at, &format!("not connected for {}", seconds(*away)));
            told(Status::Critical, "error", place, &text, Status::Healthy)
        }
    };
    let mut own = own;
    if let Some((limit, latency)) = slow {
        let text = format!("{place}: a ping took {} ms, expected less than {limit:?}", latency.as_millis());
        if !judgement.details.contains_key("warning") {
            judgement = judgement.with("warning", text);
        }
        judgement = judgement.at_least(Status::Degraded);
        if latency <= limits.max_latency {
            own = if own == Status::Healthy { Status::Degraded } else { own };
        }
    }
    judgement.next_change_at = next_change(facts, &usable, limits, at, stale).map(|wait| now.plus(wait));
    let status = status(facts, &usable, stale, latency, reading);
    tell(judgement, own, status, reading, at, now)
}

fn told(status: Status, key: &str, place: &str, text: &str, own: Status) -> (Judgement, Status) {
    (Judgement::new(status).with(key, format!("{place}: {text}")), own)
}

/// A sentence about a server that does not accept who we say we are.
fn refused(why: &str) -> String {
    format!("the credentials are refused, which no restart mends: {why}")
}

/// A sentence about a connection that does not stand.
fn trouble(facts: &Facts, at: Duration, what: &str) -> String {
    let mut text = what.to_owned();
    if let Some(error) = &facts.last_error {
        text.push_str(&format!(": {error}"));
    }
    if let Phase::Waiting(until) = facts.phase {
        text.push_str(&format!("; next attempt in {}", seconds(until.saturating_sub(at))));
    }
    text
}

fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) { format!("{:.1}s", time.as_secs_f64()) } else { format!("{}s", time.as_secs()) }
}

/// A ping that has been under way for longer than the last took says more.
fn latency(facts: &Facts, at: Duration) -> Option<Duration> {
    let under_way = facts.pinged_at.map(|since| at.saturating_sub(since));
    facts.latency.map(|last| under_way.map_or(last, |under_way| last.max(under_way)))
}

fn next_change(facts: &Facts, usable: &Usable, limits: &Limits, at: Duration, stale: bool) -> Option<Duration> {
    match usable {
        Usable::Yes if stale => None,
        Usable::Yes => Some(facts.silent_since.saturating_add(facts.expected.limit()).saturating_sub(at)),
        Usable::Soon(away) => Some(limits.down_after.saturating_sub(*away)),
        Usable::No(_) => None,
    }
}

/// What the rules for vitals see. What stands behind a trouble is unknown, so that one trouble is one issue.
fn status(
    facts: &Facts,
    usable: &Usable,
    stale: bool,
    latency: Option<Duration>,
    reading: &Reading,
) -> WebSocketStatus {
    let connected = match usable {
        Usable::Yes => Some(true),
        // A refusal is told as such.
        _ if facts.refused.is_some() || facts.phase == Phase::Authenticating => None,
        Usable::Soon(_) => None,
        Usable::No(_) => Some(false),
    };
    let is_known = match usable {
        Usable::Yes => true,
        Usable::Soon(_) => facts.refused.is_some(),
        Usable::No(_) => facts.refused.is_some() || facts.phase == Phase::Authenticating,
    };
    let authenticated = facts.authenticated.filter(|_| is_known);
    let data_flowing = match connected {
        Some(true) if stale => Some(false),
        // Before the first update of a connection there is nothing to say.
        Some(true) => facts.data_at.filter(|at| *at >= facts.silent_since).map(|_| true),
        _ => None,
    };
    WebSocketStatus {
        connected,
        authenticated,
        data_flowing,
        latency_ms: latency.map(|latency| latency.as_secs_f64() * 1000.0),
        reconnect_count: Some(facts.connections.saturating_sub(1)),
        last_error: facts.refused.as_deref().map(refused).or_else(|| facts.last_error.clone()),
        // Its age would be judged by itself where nothing is said of the flow.
        last_update: data_flowing.and_then(|_| last_update(reading)),
    }
}

/// When data came last, by the wall clock.
fn last_update(reading: &Reading) -> Option<Timestamp> {
    reading.facts.data_at.map(|at| reading.read_at.minus(reading.since_boot.saturating_sub(at)))
}

/// Puts everything that was seen into details, numbers and signals.
fn tell(
    mut judgement: Judgement,
    own: Status,
    status: WebSocketStatus,
    reading: &Reading,
    at: Duration,
    now: Timestamp,
) -> Judgement {
    let facts = &reading.facts;
    let stands = matches!(facts.phase, Phase::Authenticating | Phase::Open);
    let flows = status.data_flowing == Some(true);
    judgement = judgement.with("state", facts.phase.as_str()).with("connected", stands);
    if let Some(authenticated) = facts.authenticated {
        judgement = judgement.with("authenticated", authenticated);
    }
    judgement = judgement.with("data_flowing", flows);
    if let Some(millis) = status.latency_ms {
        judgement = judgement.with("latency_ms", millis);
    }
    judgement = judgement.with("reconnect_count", status.reconnect_count.unwrap_or(0));
    if let Some(error) = &status.last_error {
        judgement = judgement.with("last_error", error.as_str());
    }
    if let Some(update) = last_update(reading) {
        judgement = judgement.with("last_update", update.to_string());
    }
    judgement = judgement.with("stale_after_source", facts.expected.as_str());
    let mut numbers = vec![
        ("websocket_connected", f64::from(u8::from(stands)), ""),
        ("websocket_data_flowing", f64::from(u8::from(flows)), ""),
        ("websocket_reconnects", status.reconnect_count.unwrap_or(0) as f64, "total"),
    ];
    if let Some(authenticated) = facts.authenticated {
        numbers.push(("websocket_authenticated", f64::from(u8::from(authenticated)), ""));
    }
    if let Some(millis) = status.latency_ms {
        numbers.push(("websocket_latency", millis / 1000.0, "seconds"));
    }
    if let Some(data_at) = facts.data_at {
        let age = at.saturating_sub(data_at).as_secs_f64();
        judgement = judgement.with("data_age_seconds", age);
        numbers.push(("websocket_data_age", age, "seconds"));
    }
    let limit = facts.expected.limit().as_secs_f64();
    judgement = judgement.with("stale_after_seconds", limit);
    numbers.push(("websocket_stale_after", limit, "seconds"));
    let perfdata = |(label, value, unit): (&str, f64, &str)| Perfdata { label: label.into(), value, unit: unit.into() };
    judgement.perfdata = numbers.into_iter().map(perfdata).collect();
    judgement.signals.own_status = Some(own);
    judgement.signals.vitals = Some(Arc::new(Vitals { at: now, websocket: Some(status), ..Vitals::default() }));
    judgement
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let url = params::required_text(section, "url").filter(|url| fits(url, section));
    let headers = headers(section);
    let token_file = params::secret_path(section, "token_file", context);
    let ca_file = params::secret_path(section, "ca_file", context);
    let insecure_skip_verify = section.or("insecure_skip_verify", false);
    let connect_timeout = span(section, "connect_timeout", 10, Duration::from_millis(100));
    let auth = section.section("auth").map(|mut auth| {
        let taken = Auth {
            send: messages(&mut auth, "send", true),
            expect: patterns(&mut auth, "expect", true),
            reject: patterns(&mut auth, "reject", false),
            within: span(&mut auth, "within", 10, Duration::from_millis(100)),
        };
        auth.finish();
        taken
    });
    let ping = section.section("ping").map_or_else(Ping::default, |mut ping| {
        let message = params::text(&mut ping, "message").filter(|text| !text.is_empty());
        let expect = patterns(&mut ping, "expect", message.is_some());
        if message.is_none() && !expect.is_empty() {
            ping.reject("expect", "expected a `message` beside it, whose answer it is", None);
        }
        let taken = Ping {
            every: span(&mut ping, "every", 10, Duration::from_millis(100)),
            within: span(&mut ping, "within", 10, Duration::from_millis(100)),
            message,
            expect,
        };
        ping.finish();
        taken
    });
    let plan = Plan {
        auth,
        subscribe: messages(section, "subscribe", false),
        ignore: patterns(section, "ignore", false),
        ping,
        stale_after: params::span(section, "stale_after"),
    };
    let limits = Limits {
        down_after: span(section, "down_after", 10, Duration::from_millis(1)),
        degraded_latency: params::span(section, "degraded_latency"),
        max_latency: context.max_latency,
    };
    let url = url?;
    let sent = plan.subscribe.iter().chain(plan.auth.iter().flat_map(|auth| &auth.send)).chain(&plan.ping.message);
    let used = sent.chain(headers.iter().map(|(_, value)| value)).chain([&url]).any(|text| text.contains(TOKEN));
    if used != token_file.is_some() {
        let rule = if used {
            "missing, expected the file that `{{token}}` comes from"
        } else {
            "expected a `{{token}}` that it stands for"
        };
        section.reject("token_file", rule, None);
        return None;
    }
    let target = Target { url, headers, token_file, ca_file, insecure_skip_verify, connect_timeout };
    let (place, is_tls) = (target.place(), target.is_tls());
    let verifies_tls = is_tls.then_some(!insecure_skip_verify);
    let open = target.token_file.iter().filter(|path| files::is_open_to_all(path));
    let open = open.map(|path| format!("`{}` is open to every user of this machine: chmod o-rwx it", path.display()));
    let cautions = open.chain((verifies_tls == Some(false)).then(access::unverified)).collect();
    // Connections of one process differ in when they were made ready, those of many in their URLs.
    let seed =
        target.url.bytes().fold(u64::try_from(context.clock.since_boot().as_nanos()).unwrap_or(0), |seed, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let machine = Machine::new(Arc::new(plan), seed);
    let link = Arc::new(Link::new(target, machine, context.clock.clone()));
    Some(Arc::new(WebSocket { link, place, limits, verifies_tls, cautions }))
}

/// Whether a URL is one of a WebSocket, and holds no login; what it should be goes to the problems.
fn fits(url: &str, section: &Section<'_>) -> bool {
    match Url::parse(&url.replace(TOKEN, "x")) {
        Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            let hint = "put them into `headers` or `auth`, with `{{token}}` and `token_file`";
            section.reject("url", "expected no credentials in it", Some(hint.to_owned()));
            false
        }
        Ok(parsed) if matches!(parsed.scheme(), "ws" | "wss") && parsed.has_host() && parsed.fragment().is_none() => {
            true
        }
        _ => {
            section.reject("url", "expected a URL that begins with ws:// or wss://", None);
            false
        }
    }
}

fn span(section: &mut Section<'_>, key: &'static str, seconds: u64, least: Duration) -> Duration {
    let default = Duration::from_secs(seconds);
    let Some(span) = params::span(section, key) else { return default };
    let most = Duration::from_secs(3600);
    if span < least || span > most {
        section.reject(key, &format!("expected a duration from {least:?} to 1h"), None);
        return default;
    }
    span
}

fn headers(section: &mut Section<'_>) -> Vec<(HeaderName, String)> {
    let mut headers = Vec::new();
    for (name, at, node) in section.entries("headers") {
        let header = HeaderName::from_bytes(name.as_bytes()).ok();
        let value = params::scalar(node).filter(|text| HeaderValue::from_str(&text.replace(TOKEN, "x")).is_ok());
        let rule = match (header, value) {
            (Some(header), Some(_)) if OWN_HEADERS.contains(&header.as_str()) => {
                "expected another header, this one is the protocol's"
            }
            (Some(header), Some(value))
                if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&header) && !value.contains(TOKEN) =>
            {
                "expected a secret to come from a file: write `{{token}}` for it, and `token_file`"
            }
            (Some(header), Some(value)) => {
                if redact::names_a_secret(name) && !value.contains(TOKEN) {
                    redact::remember(value.rsplit(' ').next().unwrap_or_default());
                }
                headers.push((header, value.to_owned()));
                continue;
            }
            _ => "expected a header name and a value of one line",
        };
        let path = format!("{}.{name}", section.path_of("headers"));
        section.problems().push(*at, &path, "", rule, None);
    }
    headers
}

/// Messages to be sent: a text or a list of them.
fn messages(section: &mut Section<'_>, key: &'static str, required: bool) -> Vec<String> {
    let texts = params::texts(section, key);
    let wrong = texts.len() > LIST_MAX || texts.iter().any(String::is_empty) || (required && texts.is_empty());
    if wrong {
        section.reject(key, &format!("expected messages, 1 to {LIST_MAX}, none of them empty"), None);
    }
    texts
}

/// One match or a list of them.
fn patterns(section: &mut Section<'_>, key: &'static str, required: bool) -> Patterns {
    let node = section.node(key);
    let items = match node.map(|node| (&node.value, node)) {
        None => &[],
        Some((Value::List(items), _)) => items.as_slice(),
        Some((_, node)) => std::slice::from_ref(node),
    };
    let taken: Vec<Pattern> = items.iter().filter_map(pattern).collect();
    if taken.len() != items.len() || taken.len() > LIST_MAX || (required && taken.is_empty()) {
        let hint = Some(format!("such as {key}: {{channel: heartbeat}} or {key}: \"heartbeat\""));
        section.reject(key, "expected a text or a mapping of JSON names to values, or a list of those", hint);
    }
    Patterns(taken)
}

fn pattern(node: &Node) -> Option<Pattern> {
    let Value::Map(entries) = &node.value else {
        return params::scalar(node).filter(|text| !text.is_empty()).map(|text| Pattern::Contains(text.to_owned()));
    };
    let field = |name: &String, value: &Node| {
        let pointer = if name.starts_with('/') {
            name.clone()
        } else {
            format!("/{}", name.replace('~', "~0").replace('/', "~1"))
        };
        let value = match &value.value {
            Value::Null => "null",
            _ => params::scalar(value)?,
        };
        Some((pointer, value.to_owned()))
    };
    let fields: Option<Vec<_>> = entries.iter().map(|(name, _, value)| field(name, value)).collect();
    fields.filter(|fields| !fields.is_empty()).map(Pattern::Fields)
}

#[cfg(test)]
mod tests;
