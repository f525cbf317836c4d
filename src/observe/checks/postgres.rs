//! `postgres`: does a PostgreSQL server answer a query?
//!
//! Each reading is one connection that ends with it. The query runs in a transaction of its own that may only read, with
//! a limit of time that the server keeps (`SET LOCAL`, so that a pool such as PgBouncer hands nothing of it on).
//! `tokio_postgres` speaks the protocol over a stream that is bounded in bytes, so that what a server announces or sends
//! costs no more than that; it holds no message longer than what has arrived.
//!
//! **Invariant:** nothing is changed on the server; no password is in what is told; no connection outlives its reading.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::tcp::judge_latency;
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::base::http::told;
use crate::model::{Perfdata, Status};
use crate::observe::params;
use crate::observe::probes::peer::{Address, Bounded, Desk, Trust, Unready, line};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Postgres::KIND, doc: DOC, build };

/// All that a server may send in one reading, in bytes. An answer to `SELECT 1` takes some hundred.
const BYTES_MAX: usize = 1024 * 1024;
/// What a server gets to hear the goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// From this time on a server that is still starting up is critical.
const STARTING_MAX: Duration = Duration::from_secs(300);
/// What is asked besides, for the details. Everybody may see these numbers; whose connections they are, only superusers.
const ABOUT: &str = "SELECT current_setting('server_version'), pg_is_in_recovery(), \
                     (SELECT sum(numbackends) FROM pg_stat_database), \
                     current_setting('max_connections')";

const DOC: &str = "\
# What it asks
Whether a PostgreSQL server lets chiron in and answers a query, and how soon. The query can only read. Server version,
replica or primary, and the connections in use come with the answer.

# Why it matters
A port that accepts connections says nothing of a server that is out of connections, still recovering, or stuck.

# Failure reasons
- `degraded`: the answer took `degraded_latency` or longer; more connections are in use than
  `max_connections_percent`, or the server does not tell how many there are; the server is starting up (`reason`
  `starting_up`): to restart it would only begin its recovery anew.
- `critical`: it has been starting up for 5 minutes; `reason` is `unreachable` (refused, no route, a name that does not resolve), `timeout` (no answer in time),
  `tls` (a certificate that does not hold, or no TLS), `unknown_database`, `too_many_connections`, `shutting_down`,
  `query` (the query fails), or `broken` (no PostgreSQL, a connection that breaks, too much data).
- unknown, and not run: `reason` is `login` (user or password refused) or `settings` (the file of the password or of the
  authority cannot be used); `error` says which.

# Parameters
- `url`: `postgres://USER@HOST:PORT/DATABASE`, or `postgres://USER@/DATABASE?host=/var/run/postgresql` for a socket.
  `?sslmode=verify-full` wants TLS with a certificate for HOST, `?sslmode=disable` none. Without it: TLS, unless HOST is
  this machine. Other parameters of the URL: `host`, `port`, `user`, `dbname`, `options`, `channel_binding`. Never the
  password.
- `password_file` (none): a file with the password on its first line, read anew each time.
- `ca_file` (the machine's authorities): a file with the certificates (PEM) that vouch for the server.
- `query` (`SELECT 1`): one statement that reads.
- `max_connections_percent` (none): above this share of `max_connections` degraded.
- `degraded_latency` (none): from this time on degraded, connecting included.
- `timeout` (5s): the time to wait for all of it; the server ends the query then, too.
";

/// One server and what is expected of it.
#[derive(Debug)]
pub struct Postgres {
    config: Config,
    address: Address,
    /// With TLS, if whom to trust is given.
    trust: Option<Trust>,
    password_file: Option<PathBuf>,
    query: String,
    max_connections_percent: Option<f64>,
    degraded_latency: Option<Duration>,
    timeout: Duration,
    desk: Desk,
    starting: Unready,
    clock: Clock,
}

/// What a server answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    latency: Duration,
    version: Option<String>,
    in_recovery: Option<bool>,
    connections: Option<u64>,
    connections_max: Option<u64>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    reason: &'static str,
    error: String,
    /// How long it has been starting up.
    starting_for: Duration,
}

impl Fault {
    fn new(reason: &'static str, error: impl Into<String>) -> Self {
        Self { reason, error: error.into(), starting_for: Duration::ZERO }
    }
}

impl Postgres {
    async fn ask(&self) -> Result<Answer, Fault> {
        let settings = |error| Fault::new("settings", error);
        let mut config = self.config.clone();
        let until = Instant::now() + self.timeout;
        if let Some(password) = self.desk.secret(self.password_file.as_deref(), until).await.map_err(settings)? {
            config.password(password.expose());
        }
        let tls = match &self.trust {
            Some(trust) => Some(trust.config(&self.desk, until).await.map_err(settings)?),
            None => None,
        };
        let begun = Instant::now();
        let stream = match timeout_at(until, self.address.connect(BYTES_MAX)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Fault::new("unreachable", error.to_string())),
            Err(_) => return Err(Fault::new("timeout", format!("no connection within {:?}", self.timeout))),
        };
        let talk = async {
            match (tls, &self.address) {
                (Some(tls), Address::Tcp { host, .. }) => {
                    let mut maker = MakeRustlsConnect::new((*tls).clone());
                    let made = MakeTlsConnect::<Bounded>::make_tls_connect(&mut maker, host);
                    config.ssl_mode(SslMode::Require);
                    let tls = made.map_err(|error| Fault::new("tls", error.to_string()))?;
                    self.converse(&config, stream, tls, begun).await
                }
                _ => {
                    config.ssl_mode(SslMode::Disable);
                    self.converse(&config, stream, NoTls, begun).await
                }
            }
        };
        // The server's own limit comes first where it can; a server that hangs keeps none.
        let silent =
            || Fault::new("timeout", format!("accepts connections, but gave no answer within {:?}", self.timeout));
        timeout_at(until, talk).await.unwrap_or_else(|_| Err(silent()))
    }

    async fn converse<T>(&self, config: &Config, stream: Bounded, tls: T, begun: Instant) -> Result<Answer, Fault>
    where
        T: TlsConnect<Bounded>,
        T::Stream: AsyncRead + AsyncWrite + Unpin,
    {
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(|error| fault(&error))?;
        let mut connection = pin!(connection);
        let answer = tokio::select! {
            biased;
            answer = self.query(&client, begun) => answer,
            ended = connection.as_mut() => Err(match ended {
                Ok(()) => Fault::new("broken", "the server closed the connection"),
                Err(error) => fault(&error),
            }),
        };
        // With the client gone the connection says goodbye and ends; a server that does not listen loses it all the same.
        drop(client);
        let _ = timeout(GOODBYE, connection).await;
        answer
    }

    async fn query(&self, client: &Client, begun: Instant) -> Result<Answer, Fault> {
        let limit = self.timeout.as_millis().max(1);
        let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {limit}");
        client.simple_query(&begin).await.map_err(|error| fault(&error))?;
        client.query(&self.query, &[]).await.map_err(|error| fault(&error))?;
        let mut answer = Answer { latency: begun.elapsed(), ..Answer::default() };
        // What speaks the protocol without being PostgreSQL may know nothing of this; the answer counts all the same.
        let about = client.simple_query(ABOUT).await.unwrap_or_default();
        for message in about {
            if let SimpleQueryMessage::Row(row) = message {
                let number = |index| row.get(index).and_then(|text: &str| text.parse().ok());
                answer.version = row.get(0).map(line);
                answer.in_recovery = row.get(1).map(|text| text == "t");
                (answer.connections, answer.connections_max) = (number(2), number(3));
            }
        }
        Ok(answer)
    }

    fn place(&self) -> String {
        format!("{}/{}", self.address, self.config.get_dbname().unwrap_or_default())
    }
}

/// Reasons that say nothing of whether a server is still starting up.
const NOT_HEARD: [&str; 6] = ["unreachable", "timeout", "tls", "broken", "shutting_down", "settings"];

/// Tells apart what a server or a connection says.
fn fault(error: &Error) -> Fault {
    let Some(said) = error.as_db_error() else {
        let text = told(error);
        let reason = if text.starts_with("error performing TLS handshake") { "tls" } else { "broken" };
        let text = text.trim_start_matches("error performing TLS handshake: ");
        return Fault::new(reason, line(text.trim_start_matches("error communicating with the server: ")));
    };
    let code = said.code();
    let message = line(said.message());
    let reason = if code.code().starts_with("28") {
        "login"
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        "unknown_database"
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        "too_many_connections"
    } else if *code == SqlState::CANNOT_CONNECT_NOW && !message.contains("shutting down") {
        "starting_up"
    } else if ["57P01", "57P02", "57P03"].contains(&code.code()) {
        "shutting_down"
    } else if *code == SqlState::QUERY_CANCELED {
        "timeout"
    } else {
        "query"
    };
    Fault::new(reason, format!("{message} ({})", code.code()))
}

impl Check for Postgres {
    type Reading = Result<Answer, Fault>;
    const KIND: &'static str = "postgres";

    async fn read(&self) -> Self::Reading {
        let mut reading = self.ask().await;
        let is_ready = match &reading {
            Err(fault) if fault.reason == "starting_up" => Some(false),
            Err(fault) if NOT_HEARD.contains(&fault.reason) => None,
            _ => Some(true),
        };
        let starting_for = self.starting.lasts(is_ready, self.clock.since_boot());
        if let Err(fault) = &mut reading {
            fault.starting_for = starting_for;
        }
        reading
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let answer = match reading {
            Ok(answer) => answer,
            Err(fault) => return self.judge_fault(fault),
        };
        let mut judgement = judge_latency(Judgement::new(Status::Healthy), answer.latency, self.degraded_latency);
        if let Some(version) = &answer.version {
            judgement = judgement.with("server_version", version.as_str());
        }
        if let Some(in_recovery) = answer.in_recovery {
            judgement = judgement.with("role", if in_recovery { "replica" } else { "primary" });
        }
        if let (Some(used), Some(max)) = (answer.connections, answer.connections_max) {
            judgement = judgement.with("connections", used).with("connections_max", max);
            for (label, value) in [("connections", used), ("connections_max", max)] {
                #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
                let value = value as f64;
                judgement.perfdata.push(Perfdata { label: label.into(), value, unit: String::new() });
            }
            #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
            let percent = 100.0 * used as f64 / max.max(1) as f64;
            if let Some(limit) = self.max_connections_percent.filter(|limit| percent > *limit) {
                let warning = format!("{used} of {max} connections are in use, expected at most {limit} %");
                judgement = warned(judgement, warning);
            }
        } else if self.max_connections_percent.is_some() {
            let warning =
                "the server does not tell how many connections are in use: `max_connections_percent` cannot be judged";
            judgement = warned(judgement, warning.to_owned());
        }
        judgement
    }
}

fn warned(judgement: Judgement, warning: String) -> Judgement {
    let warning = match judgement.details.get("warning").and_then(|text| text.as_str()) {
        Some(before) => format!("{before}; {warning}"),
        None => warning,
    };
    judgement.at_least(Status::Degraded).with("warning", warning)
}

impl Postgres {
    fn judge_fault(&self, fault: &Fault) -> Judgement {
        let error = format!("{}: {}", self.place(), fault.error);
        let judgement = match fault.reason {
            "login" | "settings" => Judgement::unrunnable(error),
            "starting_up" if fault.starting_for >= STARTING_MAX => {
                let error = format!("{error}; it has been so for {} s", fault.starting_for.as_secs());
                Judgement::new(Status::Critical).with("error", error)
            }
            "starting_up" => Judgement::new(Status::Degraded).with("error", error),
            _ => Judgement::new(Status::Critical).with("error", error),
        };
        judgement.with("reason", fault.reason)
    }
}

/// What a URL says.
struct Target {
    config: Config,
    address: Address,
    tls: bool,
}

/// Parameters of a URL that do something here, besides `sslmode`.
const HEEDED: [&str; 6] = ["host", "port", "user", "dbname", "options", "channel_binding"];
/// Those of libpq that would do nothing.
const UNHEEDED: [&str; 19] = [
    "application_name",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
    "passfile",
    "service",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// Refuses what would be taken and not heeded; tells a name only if it is a known one.
fn refuse_unheeded(parameters: &[&str]) -> Result<(), (String, Option<String>)> {
    for pair in parameters {
        let name = pair.split('=').next().unwrap_or_default();
        if name == "password" || HEEDED.contains(&name) {
            continue;
        }
        let hint = match name {
            "connect_timeout" | "tcp_user_timeout" => Some("write `timeout` beside `url`".to_owned()),
            "sslrootcert" => Some("write `ca_file` beside `url`".to_owned()),
            "passfile" => Some("write `password_file` beside `url`".to_owned()),
            _ => None,
        };
        let only = format!("expected only the parameters sslmode, {} in the URL", HEEDED.join(", "));
        return Err(match UNHEEDED.iter().find(|known| **known == name) {
            Some(known) => (format!("{only}, not {known}"), hint),
            None => (only, None),
        });
    }
    Ok(())
}

/// Takes a URL apart; what is wrong is a rule and a hint, neither with anything of the URL.
fn target(url: &str) -> Result<Target, (String, Option<String>)> {
    let rule = |rule: &str| (rule.to_owned(), None);
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(rule("expected a URL that begins with postgres://"));
    }
    let (plain, parameters) = url.split_once('?').unwrap_or((url, ""));
    let (modes, others): (Vec<&str>, Vec<&str>) =
        parameters.split('&').filter(|pair| !pair.is_empty()).partition(|pair| pair.starts_with("sslmode="));
    refuse_unheeded(&others)?;
    let wanted = match modes.as_slice() {
        [] => None,
        ["sslmode=disable"] => Some(false),
        ["sslmode=require" | "sslmode=verify-ca" | "sslmode=verify-full"] => Some(true),
        _ => {
            let hint = "a certificate is always verified: write sslmode=verify-full";
            return Err(("expected sslmode to be disable or verify-full".to_owned(), Some(hint.to_owned())));
        }
    };
    let rest = if others.is_empty() { plain.to_owned() } else { format!("{plain}?{}", others.join("&")) };
    // The parser's own message may repeat a part of the URL.
    let mut config: Config =
        rest.parse().map_err(|_| rule("expected a URL such as postgres://USER@HOST:5432/DATABASE"))?;
    if config.get_password().is_some() {
        let hint = "write the password into a file and name it as `password_file`";
        return Err(("expected a URL without a password".to_owned(), Some(hint.to_owned())));
    }
    let Some(user) = config.get_user().filter(|user| !user.is_empty()).map(str::to_owned) else {
        return Err(rule("expected a URL with a user: postgres://USER@HOST/DATABASE"));
    };
    if config.get_dbname().is_none_or(str::is_empty) {
        config.dbname(user);
    }
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let address = match config.get_hosts() {
        [Host::Tcp(host)] if !host.is_empty() => Address::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port },
        [Host::Unix(folder)] => Address::Unix(folder.join(format!(".s.PGSQL.{port}"))),
        _ => return Err(rule("expected a URL with one host, or ?host=FOLDER for a socket")),
    };
    let tls = wanted.unwrap_or(!address.is_local());
    if tls && matches!(address, Address::Unix(_)) {
        return Err(rule("expected no sslmode with a socket"));
    }
    config.application_name("chiron");
    Ok(Target { config, address, tls })
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let target = params::required_text(section, "url").and_then(|url| match target(&url) {
        Ok(target) => Some(target),
        Err((rule, hint)) => {
            section.reject("url", &rule, hint);
            None
        }
    });
    let password_file = params::secret_path(section, "password_file", context);
    let ca_file = params::secret_path(section, "ca_file", context);
    let query = params::text(section, "query").filter(|query| !query.trim().is_empty());
    let max_connections_percent = params::number(section, "max_connections_percent");
    let degraded_latency = params::span(section, "degraded_latency");
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    let Target { config, address, tls } = target?;
    if ca_file.is_some() && !tls {
        section.reject("ca_file", "expected only with TLS: add ?sslmode=verify-full to `url`", None);
    }
    Some(Arc::new(Postgres {
        config,
        address,
        trust: tls.then(|| Trust::new(ca_file)),
        password_file,
        query: query.unwrap_or_else(|| "SELECT 1".to_owned()),
        max_connections_percent,
        degraded_latency,
        timeout,
        desk: Desk::default(),
        starting: Unready::default(),
        clock: context.clock.clone(),
    }))
}

#[cfg(test)]
mod tests;
