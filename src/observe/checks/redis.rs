//! `redis`: does a Redis server serve?
//!
//! Each reading is one connection that ends with it, over which four small commands go: `AUTH`, `SELECT`, `PING` and `INFO`. The
//! protocol is spoken here and not by a crate: what is needed of it are four kinds of replies, and a server that announces
//! a gigabyte must be refused before anything is set aside for it.
//!
//! **Invariant:** nothing is written on the server; at most [`BYTES_MAX`] bytes are read; no password is in what is told.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::tcp::judge_latency;
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::model::{Perfdata, Status};
use crate::observe::params;
use crate::observe::probes::peer::{Address, Desk, Duplex, Trust, Unready, line};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Redis::KIND, doc: DOC, build };

/// All that a server may send in one reading, in bytes. `INFO` has about six thousand.
const BYTES_MAX: usize = 256 * 1024;
/// From this time on a server that still loads is critical.
const LOADING_MAX: Duration = Duration::from_secs(300);

const DOC: &str = "\
# What it asks
Whether a Redis server lets chiron in and answers `PING`, how soon, and what `INFO` says: its role, whether it still loads
its data, its memory, the link to its primary, and whether it could save.

# Why it matters
A Redis that is still loading, has lost its primary or cannot save accepts connections all the same, and refuses or
loses what the bot writes.

# Failure reasons
- `degraded`: `reason` is `loading` (to restart it would only begin that anew); the link to its primary is down; the last
  save to disk failed; more memory than `max_memory_bytes` is in use, or `INFO` does not tell how much; the answer took
  `degraded_latency` or longer.
- `critical`: it has been `loading` for 5 minutes; `reason` is `unreachable`, `timeout` (no answer in time), `tls`, `primary_down` (a replica that refuses to
  answer without its primary), `cannot_save` (it refuses to write), `too_many_connections`, `refused` (any other refusal),
  or `broken` (no Redis, a connection that breaks, too much data).
- unknown, and not run: `reason` is `login` (password missing, wrong, or without the right to ask) or `settings` (the file
  of the password or of the authority cannot be used); `error` says which.

# Parameters
- `url`: `redis://HOST:PORT/DB`, `rediss://...` for TLS, or `unix:///PATH` for a socket. Never the password.
- `username` (none): the user; without it the default one.
- `password_file` (none): a file with the password on its first line, read anew each time.
- `ca_file` (the machine's authorities): a file with the certificates (PEM) that vouch for the server.
- `max_memory_bytes` (none): above it degraded.
- `degraded_latency` (none): from this time on degraded, connecting included.
- `timeout` (5s): the time to wait for all of it.
";

/// One server and what is expected of it.
#[derive(Debug)]
pub struct Redis {
    target: Target,
    /// With TLS, if whom to trust is given.
    trust: Option<Trust>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    max_memory_bytes: Option<u64>,
    degraded_latency: Option<Duration>,
    timeout: Duration,
    cautions: Vec<String>,
    desk: Desk,
    loading: Unready,
    clock: Clock,
}

/// What a URL says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    address: Address,
    database: u32,
    tls: bool,
}

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    latency: Duration,
    info: BTreeMap<String, String>,
    /// How long it has been loading its data.
    loading_for: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    reason: &'static str,
    error: String,
    /// How long it has been loading its data.
    loading_for: Duration,
}

impl Fault {
    fn new(reason: &'static str, error: impl Into<String>) -> Self {
        Self { reason, error: error.into(), loading_for: Duration::ZERO }
    }

    /// Tells apart what a server refuses with; its first word is a code.
    fn refusal(said: &str) -> Self {
        let reason = match said.split(' ').next().unwrap_or_default() {
            "NOAUTH" | "WRONGPASS" | "NOPERM" => "login",
            // Servers before version 6, and passwords where none is set.
            "ERR" if said.contains("invalid password") || said.contains("AUTH") => "login",
            "ERR" if said.contains("max number of clients") => "too_many_connections",
            "LOADING" => "loading",
            "MASTERDOWN" => "primary_down",
            "MISCONF" => "cannot_save",
            _ => "refused",
        };
        Self::new(reason, line(said))
    }
}

/// A reply, as far as these commands have it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reply {
    Text(String),
    Refusal(String),
}

/// One conversation.
struct Wire {
    stream: Box<dyn Duplex>,
    buffer: Vec<u8>,
}

impl Wire {
    async fn ask(&mut self, words: &[&str]) -> Result<Reply, Fault> {
        let broken = |error: std::io::Error| Fault::new("broken", line(&error.to_string()));
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.write_all(command.as_bytes()).await.map_err(broken)?;
        self.stream.flush().await.map_err(broken)?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Reply, Fault> {
        let head = self.head().await?;
        let strange = || Fault::new("broken", format!("answers `{}`, expected a reply of Redis", line(&head)));
        match head.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(Reply::Text(text.to_owned())),
            Some(("-", text)) => Ok(Reply::Refusal(text.to_owned())),
            Some(("$", length)) => {
                let length: usize = length.parse().map_err(|_| strange())?;
                if length > BYTES_MAX {
                    let error = format!("announces a reply of {length} bytes, expected at most {BYTES_MAX}");
                    return Err(Fault::new("broken", error));
                }
                while self.buffer.len() < length + 2 {
                    self.more().await?;
                }
                let text: Vec<u8> = self.buffer.drain(..length + 2).take(length).collect();
                Ok(Reply::Text(String::from_utf8_lossy(&text).into_owned()))
            }
            _ => Err(strange()),
        }
    }

    /// The first line of a reply. No genuine one has more than some hundred bytes.
    async fn head(&mut self) -> Result<String, Fault> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            if self.buffer.len() > 4096 {
                let begins = line(&String::from_utf8_lossy(&self.buffer[..40]));
                return Err(Fault::new("broken", format!("answers `{begins}...`, expected a reply of Redis")));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Fault> {
        let mut part = [0; 4096];
        match self.stream.read(&mut part).await {
            Ok(0) => Err(Fault::new("broken", "the server closed the connection")),
            Ok(read) => {
                self.buffer.extend_from_slice(&part[..read]);
                Ok(())
            }
            Err(error) => Err(Fault::new("broken", line(&error.to_string()))),
        }
    }
}

impl Redis {
    async fn ask(&self) -> Result<Answer, Fault> {
        let settings = |error| Fault::new("settings", error);
        let until = Instant::now() + self.timeout;
        let password = self.desk.secret(self.password_file.as_deref(), until).await.map_err(settings)?;
        let tls = match &self.trust {
            Some(trust) => {
                let name = self.target.address.server_name().map_err(settings)?;
                Some((TlsConnector::from(trust.config(&self.desk, until).await.map_err(settings)?), name))
            }
            None => None,
        };
        let begun = Instant::now();
        let stream = match timeout_at(until, self.target.address.connect(BYTES_MAX)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Fault::new("unreachable", error.to_string())),
            Err(_) => return Err(Fault::new("timeout", format!("no connection within {:?}", self.timeout))),
        };
        let talk = async {
            let stream: Box<dyn Duplex> = match tls {
                Some((connector, name)) => {
                    let shaken = connector.connect(name, stream).await;
                    Box::new(shaken.map_err(|error| Fault::new("tls", line(&error.to_string())))?)
                }
                None => Box::new(stream),
            };
            let mut wire = Wire { stream, buffer: Vec::new() };
            let password = password.as_ref().map(|password| password.expose());
            self.converse(&mut wire, password, begun).await
        };
        let silent =
            || Fault::new("timeout", format!("accepts connections, but gave no answer within {:?}", self.timeout));
        timeout_at(until, talk).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn converse(&self, wire: &mut Wire, password: Option<&str>, begun: Instant) -> Result<Answer, Fault> {
        let must = |reply: Reply| match reply {
            Reply::Text(text) => Ok(text),
            Reply::Refusal(said) => Err(Fault::refusal(&said)),
        };
        if let Some(password) = password {
            let words: Vec<&str> = ["AUTH"].into_iter().chain(self.username.as_deref()).chain([password]).collect();
            must(wire.ask(&words).await?)?;
        }
        if self.target.database != 0 {
            must(wire.ask(&["SELECT", &self.target.database.to_string()]).await?)?;
        }
        let pong = must(wire.ask(&["PING"]).await?)?;
        if pong != "PONG" {
            return Err(Fault::new("broken", format!("answers `{}` to PING, expected `PONG`", line(&pong))));
        }
        let latency = begun.elapsed();
        // A user may be allowed to ping and no more; that the server serves is known all the same.
        let info = match wire.ask(&["INFO"]).await? {
            Reply::Text(text) => parse_info(&text),
            Reply::Refusal(said) => [("refused".to_owned(), line(&said))].into(),
        };
        Ok(Answer { latency, info, loading_for: Duration::ZERO })
    }

    fn place(&self) -> String {
        self.target.address.to_string()
    }

    fn judge_fault(&self, fault: &Fault) -> Judgement {
        let error = format!("{}: {}", self.place(), fault.error);
        let judgement = match fault.reason {
            "login" | "settings" => Judgement::unrunnable(error),
            "loading" if fault.loading_for >= LOADING_MAX => {
                let error = format!("{error}; it has been so for {} s", fault.loading_for.as_secs());
                Judgement::new(Status::Critical).with("error", error)
            }
            "loading" => Judgement::new(Status::Degraded).with("error", error),
            _ => Judgement::new(Status::Critical).with("error", error),
        };
        judgement.with("reason", fault.reason)
    }
}

/// Reasons that say nothing of whether a server is still loading.
const NOT_HEARD: [&str; 5] = ["unreachable", "timeout", "tls", "broken", "settings"];

fn is_loading(answer: &Answer) -> bool {
    answer.info.get("loading").is_some_and(|loading| loading == "1")
}

/// The lines `key:value` of `INFO`.
fn parse_info(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), line(value))).collect()
}

impl Check for Redis {
    type Reading = Result<Answer, Fault>;
    const KIND: &'static str = "redis";

    async fn read(&self) -> Self::Reading {
        let mut reading = self.ask().await;
        let is_ready = match &reading {
            Ok(answer) => Some(!is_loading(answer)),
            Err(fault) if fault.reason == "loading" => Some(false),
            Err(fault) if NOT_HEARD.contains(&fault.reason) => None,
            Err(_) => Some(true),
        };
        let loading_for = self.loading.lasts(is_ready, self.clock.since_boot());
        match &mut reading {
            Ok(answer) => answer.loading_for = loading_for,
            Err(fault) => fault.loading_for = loading_for,
        }
        reading
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let answer = match reading {
            Ok(answer) => answer,
            Err(fault) => return self.judge_fault(fault),
        };
        let word = |key: &str| answer.info.get(key).map(String::as_str);
        let number = |key: &str| word(key).and_then(|text| text.parse::<u64>().ok());
        let mut judgement = judge_latency(Judgement::new(Status::Healthy), answer.latency, self.degraded_latency);
        let mut warnings: Vec<String> =
            judgement.details.get("warning").and_then(|text| text.as_str()).map(str::to_owned).into_iter().collect();
        for (key, shown) in [
            ("redis_version", "server_version"),
            ("role", "role"),
            ("master_link_status", "primary_link"),
            ("refused", "info"),
        ] {
            if let Some(text) = word(key) {
                // Redis says `master` and `slave`; everywhere else here they are a primary and its replica.
                let text = match (key, text) {
                    ("role", "master") => "primary",
                    ("role", "slave") => "replica",
                    (_, text) => text,
                };
                judgement = judgement.with(shown, text);
            }
        }
        for (key, label, unit) in [
            ("used_memory", "used_memory", "bytes"),
            ("maxmemory", "memory_max", "bytes"),
            ("connected_clients", "connections", ""),
        ] {
            if let Some(value) = number(key) {
                #[expect(clippy::cast_precision_loss, reason = "bytes and counts stay far below 2^53")]
                let shown = value as f64;
                judgement.perfdata.push(Perfdata { label: label.into(), value: shown, unit: unit.to_owned() });
                judgement =
                    judgement.with(&if unit.is_empty() { label.to_owned() } else { format!("{label}_{unit}") }, value);
            }
        }
        let loads_for_long = is_loading(answer) && answer.loading_for >= LOADING_MAX;
        if is_loading(answer) {
            judgement = judgement.with("reason", "loading");
            if !loads_for_long {
                warnings.push("still loads its data".to_owned());
            }
        }
        if word("master_link_status").is_some_and(|status| status != "up") {
            warnings.push("the link to its primary is down, what it answers grows old".to_owned());
        }
        for (key, what) in [
            ("rdb_last_bgsave_status", "last snapshot"),
            ("aof_last_write_status", "last write to the append-only file"),
        ] {
            if word(key).is_some_and(|status| status != "ok") {
                warnings.push(format!("its {what} failed"));
            }
        }
        match (number("used_memory"), self.max_memory_bytes) {
            (Some(used), Some(max)) if used > max => {
                warnings.push(format!("{used} bytes of memory are in use, expected at most {max}"));
            }
            (None, Some(_)) if word("refused").is_some() => {
                warnings.push(
                    "INFO is refused, its memory is not known: `max_memory_bytes` needs the right to it".to_owned(),
                );
            }
            (None, Some(_)) => warnings.push("INFO has no `used_memory`, its memory is not known".to_owned()),
            _ => {}
        }
        if !warnings.is_empty() {
            judgement = judgement.at_least(Status::Degraded).with("warning", warnings.join("; "));
        }
        if loads_for_long {
            let error = format!("{}: has been loading its data for {} s", self.place(), answer.loading_for.as_secs());
            judgement = judgement.at_least(Status::Critical).with("error", error);
        }
        judgement
    }

    fn cautions(&self) -> Vec<String> {
        self.cautions.clone()
    }
}

/// The bytes of a path of a URL, each `%XX` as the byte that it stands for; `None` if that is none, or stands for NUL.
fn decoded(path: &str) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::with_capacity(path.len()), path.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match first {
            b'%' => {
                let (digits, after) = after.split_at_checked(2)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                (u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|byte| *byte != 0)?, after)
            }
            byte => (*byte, after),
        };
        out.push(byte);
        rest = after;
    }
    Some(out)
}

/// Takes a URL apart; what is wrong is a rule and a hint, neither with anything of the URL.
fn target(text: &str) -> Result<Target, (&'static str, Option<&'static str>)> {
    const RULE: &str = "expected a URL such as redis://HOST:6379/0, rediss://HOST or unix:///PATH";
    let url = reqwest::Url::parse(text).map_err(|_| (RULE, None))?;
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "write `username`, and the password into a file that `password_file` names";
        return Err(("expected a URL without a login", Some(hint)));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(("expected a URL without parameters", None));
    }
    let tls = url.scheme() == "rediss";
    if url.scheme() == "unix" {
        let path = PathBuf::from(OsString::from_vec(decoded(url.path()).ok_or((RULE, None))?));
        let fits = url.host_str().is_none_or(str::is_empty) && path.parent().is_some();
        return if fits { Ok(Target { address: Address::Unix(path), database: 0, tls }) } else { Err((RULE, None)) };
    }
    if !tls && url.scheme() != "redis" {
        return Err((RULE, None));
    }
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or((RULE, None))?;
    let database = match url.path().trim_start_matches('/') {
        "" => 0,
        number => number.parse().map_err(|_| ("expected the number of a database after the host", None))?,
    };
    let (host, port) = (host.trim_matches(['[', ']']).to_owned(), url.port().unwrap_or(6379));
    Ok(Target { address: Address::Tcp { host, port }, database, tls })
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let target = params::required_text(section, "url").and_then(|url| match target(&url) {
        Ok(target) => Some(target),
        Err((rule, hint)) => {
            section.reject("url", rule, hint.map(str::to_owned));
            None
        }
    });
    let username = params::text(section, "username");
    let password_file = params::secret_path(section, "password_file", context);
    let ca_file = params::secret_path(section, "ca_file", context);
    let max_memory_bytes = params::whole(section, "max_memory_bytes");
    let degraded_latency = params::span(section, "degraded_latency");
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let target = target?;
    if username.is_some() && password_file.is_none() {
        section.reject("username", "expected `password_file` beside it", None);
    }
    if ca_file.is_some() && !target.tls {
        section.reject("ca_file", "expected only with rediss://", None);
    }
    let mut cautions = Vec::new();
    if password_file.is_some() && !target.tls && !target.address.is_local() {
        let caution =
            "the password goes to this server without TLS: whoever stands between can read it; write rediss://";
        cautions.push(caution.to_owned());
    }
    let trust = target.tls.then(|| Trust::new(ca_file));
    Some(Arc::new(Redis {
        target,
        trust,
        username,
        password_file,
        max_memory_bytes,
        degraded_latency,
        timeout,
        cautions,
        desk: Desk::default(),
        loading: Unready::default(),
        clock: context.clock.clone(),
    }))
}

#[cfg(test)]
mod tests;
