//! The Docker Engine's API, which podman serves too: what a container is, and its restart, start, stop and end.
//!
//! **Invariant:** every answer is bounded in time and size; a change is asked for once or not at all, and whether it was
//! asked for is known from the error.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use crate::base::redact;
use crate::base::request::{self, End, Fault, Heard, Reach};

/// The largest answer, in bytes. What an engine tells of a container with a large configuration is some 100 KiB.
const ANSWER_MAX: usize = 4 << 20;
/// How much of an engine's own words is told.
const MESSAGE_MAX: usize = 300;

/// Why the engine did not do or tell what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    /// One of [`Error::REASONS`].
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
}

impl Error {
    /// Every reason: nothing was asked; no answer came in time; the connection broke before one; there is no such
    /// container; the engine said no; its answer is too large, or is not to be understood.
    pub const REASONS: [&'static str; 7] =
        ["unreachable", "timeout", "closed", "not_found", "refused", "too_large", "malformed"];

    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// What is done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Stopped, if it runs, and started.
    Restart,
    /// Started, if it does not run.
    Start,
    /// Told to end, and killed if it does not.
    Stop,
    /// Sent a signal.
    Kill,
}

impl Operation {
    /// The word of the settings and of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Kill => "kill",
        }
    }
}

/// What the engine did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// What it was asked for.
    Changed,
    /// Nothing: the container was so already.
    Already,
}

/// A container as the engine tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id, which no other container ever has.
    pub id: String,
    /// `running`, `exited`, ...
    pub status: String,
    /// Whether its main process runs.
    pub running: bool,
    /// Its main process; 0 if there is none.
    pub pid: u64,
    /// How its main process ended last.
    pub exit_code: i64,
    /// When it was started last, as the engine writes it.
    pub started_at: String,
    /// How often the engine itself started it anew.
    pub restart_count: u64,
    /// It is held still.
    pub paused: bool,
    /// It has ended, and the engine is about to start it anew.
    pub restarting: bool,
    /// The kernel ended it for want of memory.
    pub oom_killed: bool,
    /// Why it could not be started; empty if it could.
    pub error: String,
    /// What its own health check says, if it has one.
    pub checked: Option<Checked>,
}

/// The health check that a container brings with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// How often in a row it has failed.
    pub failing: u64,
    /// What it printed last, shortened.
    pub output: String,
}

/// A client of one engine. Each request has a connection of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    reach: Reach,
    base: String,
}

impl Engine {
    /// Of a Unix socket.
    pub fn unix(socket: PathBuf) -> Self {
        // The host is said in the Host header and nowhere else.
        Self { reach: Reach { socket: Some(socket), ..Reach::default() }, base: "http://localhost".to_owned() }
    }

    /// Of `HOST:PORT`, over TLS or without.
    pub fn tcp(address: &str, tls: Option<Reach>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        Self { reach: tls.unwrap_or_default(), base: format!("{scheme}://{address}") }
    }

    /// Whether it answers.
    pub async fn ping(&self, limit: Duration) -> Result<(), Error> {
        let heard = self.ask(Method::GET, "/_ping", limit).await?;
        if heard.status.is_success() { Ok(()) } else { Err(refused(&heard)) }
    }

    /// What it knows of a container.
    pub async fn inspect(&self, name: &str, limit: Duration) -> Result<Container, Error> {
        let heard = self.ask(Method::GET, &format!("/containers/{name}/json"), limit).await?;
        if heard.status != StatusCode::OK {
            return Err(refused(&heard));
        }
        match heard.end {
            End::Whole => parse(&heard.body),
            End::Cut => Err(Error::new("too_large", format!("it answered more than {ANSWER_MAX} bytes"))),
            End::Late => Err(Error::new("timeout", format!("no whole answer within {limit:?}"))),
            End::Torn(why) => {
                Err(Error::new("closed", format!("the connection ended in the middle of its answer: {why}")))
            }
        }
    }

    /// Has it change a container. `pause` is how long the container may take to end before it is killed.
    pub async fn change(
        &self,
        name: &str,
        operation: Operation,
        pause: Duration,
        signal: &str,
        limit: Duration,
    ) -> Result<Done, Error> {
        let query = match operation {
            Operation::Restart | Operation::Stop => format!("?t={}", pause.as_millis().div_ceil(1000)),
            Operation::Kill => format!("?signal={signal}"),
            Operation::Start => String::new(),
        };
        let path = format!("/containers/{name}/{}{query}", operation.as_str());
        let heard = self.ask(Method::POST, &path, limit).await?;
        match heard.status {
            StatusCode::NOT_MODIFIED => Ok(Done::Already),
            status if status.is_success() => Ok(Done::Changed),
            _ => Err(refused(&heard)),
        }
    }

    async fn ask(&self, method: Method, path: &str, limit: Duration) -> Result<Heard, Error> {
        let url = format!("{}{path}", self.base);
        let heard = request::send(
            &self.reach,
            |client| client.request(method, url).build(),
            Instant::now() + limit,
            ANSWER_MAX,
        );
        heard.await.map_err(|fault| match fault {
            Fault::NotSent(why) => Error::new("unreachable", why),
            Fault::Silent => Error::new("timeout", format!("no answer within {limit:?}")),
            Fault::Broken(why) => Error::new("closed", format!("the connection ended before an answer: {why}")),
        })
    }
}

/// What the engine says when it says no: `{"message": "..."}`.
fn refused(heard: &Heard) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    let message = serde_json::from_slice::<Refusal>(&heard.body).map(|refusal| refusal.message).unwrap_or_default();
    let message = plain(&message);
    let reason = if heard.status == StatusCode::NOT_FOUND { "not_found" } else { "refused" };
    let detail = if message.is_empty() { format!("it answered {}", heard.status) } else { message };
    Error::new(reason, detail)
}

/// Words of another program on one line, shortened, without secrets.
fn plain(text: &str) -> String {
    redact::line(text, MESSAGE_MAX)
}

fn parse(body: &[u8]) -> Result<Container, Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Inspected {
        id: String,
        state: State,
        #[serde(default)]
        restart_count: u64,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct State {
        #[serde(default)]
        status: String,
        running: bool,
        #[serde(default)]
        pid: u64,
        #[serde(default)]
        exit_code: i64,
        started_at: String,
        #[serde(default)]
        paused: bool,
        #[serde(default)]
        restarting: bool,
        #[serde(default, rename = "OOMKilled")]
        oom_killed: bool,
        #[serde(default)]
        error: String,
        #[serde(default)]
        health: Option<Health>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Health {
        #[serde(default)]
        status: String,
        #[serde(default)]
        failing_streak: u64,
        #[serde(default)]
        log: Option<Vec<Run>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Run {
        #[serde(default)]
        output: String,
    }
    let malformed =
        |error: serde_json::Error| Error::new("malformed", format!("its answer is not understood: {error}"));
    let Inspected { id, state, restart_count } = serde_json::from_slice(body).map_err(malformed)?;
    let State { status, running, pid, exit_code, started_at, paused, restarting, oom_killed, error, health } = state;
    // `none`, or no word at all, is a container without a health check.
    let health = health.filter(|health| !matches!(health.status.as_str(), "" | "none"));
    let checked = health.map(|health| {
        let latest = health.log.unwrap_or_default().pop().map(|run| run.output).unwrap_or_default();
        Checked { status: health.status, failing: health.failing_streak, output: plain(&latest) }
    });
    let error = plain(&error);
    Ok(Container {
        id,
        status,
        running,
        pid,
        exit_code,
        started_at,
        restart_count,
        paused,
        restarting,
        oom_killed,
        error,
        checked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    const LIMIT: Duration = Duration::from_secs(5);

    /// Answers one request on a socket with these bytes; tells its first line.
    async fn answered<T>(answer: Vec<u8>, ask: impl AsyncFnOnce(Engine) -> T) -> (T, String) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&asked[..count]).lines().next().unwrap_or_default().to_owned()
        };
        tokio::join!(ask(Engine::unix(socket)), serve)
    }

    fn said(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// ACT-2: each operation asks for what it means.
    #[tokio::test]
    async fn operations_are_asked_for() {
        let table = [
            (Operation::Restart, "POST /containers/bot/restart?t=3 HTTP/1.1"),
            (Operation::Start, "POST /containers/bot/start HTTP/1.1"),
            (Operation::Stop, "POST /containers/bot/stop?t=3 HTTP/1.1"),
            (Operation::Kill, "POST /containers/bot/kill?signal=SIGHUP HTTP/1.1"),
        ];
        for (operation, line) in table {
            let pause = Duration::from_millis(2_500);
            let ask = async |engine: Engine| engine.change("bot", operation, pause, "SIGHUP", LIMIT).await;
            let (done, asked) = answered(said("204 No Content", ""), ask).await;
            assert_eq!((done, asked.as_str()), (Ok(Done::Changed), line));
            let (done, _) = answered(said("304 Not Modified", ""), ask).await;
            assert_eq!(done, Ok(Done::Already));
        }
    }

    /// STYLE section 4: every fault has its reason.
    #[tokio::test]
    async fn faults_have_reasons() {
        let mut huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ANSWER_MAX + 1).into_bytes();
        huge.resize(huge.len() + ANSWER_MAX + 1, b' ');
        let table = [
            (said("404 Not Found", r#"{"message": "no such container: bot"}"#), "not_found", "no such container: bot"),
            (said("500 Oh", r#"{"message": "cannot\u0007 stop"}"#), "refused", "cannot  stop"),
            (said("502 Bad Gateway", "<html>"), "refused", "it answered 502 Bad Gateway"),
            (said("200 OK", "[]"), "malformed", "its answer is not understood"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec(), "closed", "the connection ended in the middle"),
            (Vec::new(), "closed", "the connection ended before an answer"),
            (huge, "too_large", "it answered more than"),
        ];
        for (answer, reason, detail) in table {
            let ask = async |engine: Engine| engine.inspect("bot", LIMIT).await;
            let (result, _) = answered(answer, ask).await;
            let error = result.expect_err(reason);
            assert_eq!(error.reason, reason, "{error}");
            assert!(error.detail.starts_with(detail), "{error}");
            assert!(Error::REASONS.contains(&error.reason));
        }
        let nowhere = Engine::unix("/nowhere/socket".into()).ping(LIMIT).await.expect_err("no socket");
        assert_eq!(nowhere.reason, "unreachable", "{nowhere}");
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        let silent = Engine::unix(dir.path().join("socket")).ping(Duration::from_millis(100)).await;
        assert_eq!(silent, Err(Error::new("timeout", "no answer within 100ms")));
    }

    /// SEC-3: a secret in what a container printed goes before the rest is cut.
    #[test]
    fn no_half_of_a_secret_is_told() {
        redact::remember("docker-test-canary");
        let told = plain(&format!("{} docker-test-canary", "x".repeat(MESSAGE_MAX - 8)));
        assert!(told.ends_with("x <redact...") && !told.contains("docker"), "{told}");
    }

    /// What podman 4.3 answers is understood.
    #[test]
    fn a_container_is_read() {
        let body = br#"{"Id":"8b34","Created":"x","State":{"Status":"running","Running":true,"Pid":30698,"ExitCode":0,
            "StartedAt":"2026-11-22T17:04:46.106557472Z"},"RestartCount":2,"Name":"/a"}"#;
        let container = parse(body).unwrap();
        assert_eq!((container.id.as_str(), container.pid, container.restart_count), ("8b34", 30_698, 2));
        assert!(container.running && container.started_at.starts_with("2026-11-22T17:04:46"));
    }
}
