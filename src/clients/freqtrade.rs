//! freqtrade's REST API: what a bot says of itself.
//!
//! **Invariant:** every answer is bounded in time and size, no redirect is followed, and the password leaves in the header of
//! a request only; whether anybody answered at all is known from the error.
#![expect(clippy::disallowed_methods, reason = "reads the password on a thread that may block")]

use std::io::ErrorKind;
use std::path::Path;

use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::base::secret::Secret;
use crate::model::Timestamp;

/// The largest answer, in bytes; what a bot tells of its settings is some 2 KiB.
const ANSWER_MAX: usize = 1 << 20;
/// The largest answer about its trades, in bytes.
const LIST_MAX: usize = 4 << 20;
/// The largest about its log, in bytes: 1000 lines, each with a traceback of 8 KiB.
const LOG_MAX: usize = 8 << 20;
/// How much of a bot's own words is told.
const MESSAGE_MAX: usize = 200;
/// freqtrade's word for the pairs it trades.
const PAIRS: &str = concat!("white", "list");

/// What kind of trouble a question met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody listens there, or whoever did has gone in the middle.
    Gone,
    /// A connection, perhaps, and no whole answer in time.
    Silent,
    /// Nobody was asked: no address, no trust, no network.
    Unreachable,
    /// The user or the password is not the bot's.
    Unauthorized,
    /// The bot says no.
    Refused,
    /// What came is not what a bot answers.
    Strange,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    /// The kind.
    pub trouble: Trouble,
    /// What was asked and what was found.
    pub detail: String,
}

/// The part of its settings that tells how it runs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ShowConfig {
    /// `running`, `paused`, `stopped` or `reload_config`.
    pub state: String,
    /// `live`, `dry_run` or `webserver`.
    #[serde(default)]
    pub runmode: String,
    /// Its orders are simulated.
    #[serde(default)]
    pub dry_run: bool,
    /// freqtrade's own version.
    #[serde(default)]
    pub version: String,
    /// The length of a candle, `5m`.
    #[serde(default)]
    pub timeframe: Option<String>,
    /// The same in milliseconds.
    #[serde(default)]
    pub timeframe_ms: u64,
    /// At most so many trades at once; below 0 is no limit.
    #[serde(default)]
    pub max_open_trades: f64,
}

/// When it last did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turns {
    /// Its loop last came to the end of a turn.
    pub last_process: Option<Timestamp>,
    /// It was last started; from its database, so that right after a start it may be that of the process before.
    pub startup: Option<Timestamp>,
}

/// A line of its log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// By its clock.
    pub at: Timestamp,
    /// The module that said it.
    pub module: String,
    /// `INFO`, `WARNING`, `ERROR` ...
    pub level: String,
    /// The text, with a traceback below it perhaps.
    pub text: String,
}

/// A bot that is asked.
#[derive(Clone, Debug)]
pub struct Freqtrade {
    client: Client,
    base: Url,
    username: String,
}

impl Freqtrade {
    /// The bot whose API server is at `url`. The client must follow no redirects.
    pub fn new(client: Client, mut url: Url, username: String) -> Self {
        let path = url.path().trim_end_matches('/').trim_end_matches("/api/v1").trim_end_matches('/').to_owned();
        url.set_path(&format!("{path}/api/v1/"));
        Self { client, base: url, username }
    }

    /// Where it is, as it may be told.
    pub fn place(&self) -> String {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.base.scheme(), self.base.host_str().unwrap_or_default())
    }

    /// Whether a freqtrade answers there. The only question that needs no password.
    pub async fn ping(&self, until: Instant) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Pong {
            status: String,
        }
        let Pong { status } = self.ask("ping", &[], None, ANSWER_MAX, until).await?;
        if status == "pong" {
            return Ok(());
        }
        Err(self.error(Trouble::Strange, "ping", "it answered something else than a pong"))
    }

    /// The same bot, with the password in this file.
    pub async fn log_in(&self, password_file: &Path, until: Instant) -> Result<Access<'_>, Error> {
        let path = password_file.to_path_buf();
        let read = timeout_at(until, tokio::task::spawn_blocking(move || Secret::from_file(&path)));
        let problem = match read.await {
            Ok(Ok(Ok(password))) => return Ok(Access { bot: self, password }),
            Ok(Ok(Err(problem))) => problem,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("`{}` could not be read in time", password_file.display()),
        };
        Err(Error { trouble: Trouble::Unauthorized, detail: format!("password_file: {problem}") })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        password: Option<&Secret>,
        bytes_max: usize,
        until: Instant,
    ) -> Result<T, Error> {
        let mut url = self.base.join(path).map_err(|_| self.error(Trouble::Unreachable, path, "no such address"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.get(url);
        if let Some(password) = password {
            request = request.basic_auth(&self.username, Some(password.expose()));
        }
        let heard = timeout_at(until, async {
            let response = request.send().await.map_err(|error| self.lost(path, error))?;
            let status = response.status();
            Ok((status, self.body(path, response, bytes_max).await?))
        });
        let (status, body) = match heard.await {
            Ok(heard) => heard?,
            Err(_) => return Err(self.error(Trouble::Silent, path, "no answer in time")),
        };
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| self.error(Trouble::Strange, path, &format!("its answer is not understood: {error}"))),
            StatusCode::UNAUTHORIZED => {
                let text = "status 401: expected `username` and `password_file` to be those of its api_server";
                Err(self.error(Trouble::Unauthorized, path, text))
            }
            _ => Err(self.error(Trouble::Refused, path, &said(status, &body))),
        }
    }

    async fn body(&self, path: &str, mut response: Response, bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(path, error))? {
            if body.len() + chunk.len() > bytes_max {
                let text = format!("it answered more than {bytes_max} bytes");
                return Err(self.error(Trouble::Strange, path, &text));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn lost(&self, path: &str, error: reqwest::Error) -> Error {
        let error = error.without_url();
        let mut trouble = if error.is_connect() { Trouble::Unreachable } else { Trouble::Gone };
        if error.is_timeout() {
            trouble = Trouble::Silent;
        }
        let mut cause: &dyn std::error::Error = &error;
        loop {
            match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::HostUnreachable) => {
                    trouble = Trouble::Gone;
                }
                Some(ErrorKind::TimedOut) => trouble = Trouble::Silent,
                _ => {}
            }
            match cause.source() {
                Some(deeper) => cause = deeper,
                None => break,
            }
        }
        self.error(trouble, path, &cause.to_string())
    }

    fn error(&self, trouble: Trouble, path: &str, text: &str) -> Error {
        Error { trouble, detail: format!("{}/api/v1/{path}: {text}", self.place()) }
    }
}

/// A bot that is asked with its password.
#[derive(Debug)]
pub struct Access<'a> {
    bot: &'a Freqtrade,
    password: Secret,
}

impl Access<'_> {
    async fn ask<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)], until: Instant) -> Result<T, Error> {
        self.bot.ask(path, query, Some(&self.password), ANSWER_MAX, until).await
    }

    /// How it runs.
    pub async fn show_config(&self, until: Instant) -> Result<ShowConfig, Error> {
        self.ask("show_config", &[], until).await
    }

    /// When its loop last turned. A bot whose loop is stuck answers this all the same.
    pub async fn health(&self, until: Instant) -> Result<Turns, Error> {
        #[derive(Deserialize)]
        struct Health {
            last_process_ts: Option<i64>,
            bot_startup_ts: Option<i64>,
        }
        let health: Health = self.ask("health", &[], until).await?;
        let at = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        Ok(Turns { last_process: health.last_process_ts.map(at), startup: health.bot_startup_ts.map(at) })
    }

    /// How many trades are open. A bot that is stopped refuses this; see [`Access::trades`].
    pub async fn count(&self, until: Instant) -> Result<u64, Error> {
        #[derive(Deserialize)]
        struct Count {
            current: u64,
        }
        self.ask("count", &[], until).await.map(|count: Count| count.current)
    }

    /// How many trades are open, by their list, which a bot that is stopped tells too.
    pub async fn trades(&self, until: Instant) -> Result<u64, Error> {
        let list: Vec<IgnoredAny> = self.bot.ask("status", &[], Some(&self.password), LIST_MAX, until).await?;
        Ok(u64::try_from(list.len()).unwrap_or(u64::MAX))
    }

    /// The pairs that it trades.
    pub async fn pairs(&self, until: Instant) -> Result<Vec<String>, Error> {
        let found: Value = self.ask(PAIRS, &[], until).await?;
        let listed = found.get(PAIRS).and_then(Value::as_array);
        let listed =
            listed.ok_or_else(|| self.bot.error(Trouble::Strange, PAIRS, "its answer holds no list of pairs"))?;
        Ok(listed.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// When the newest candle that it has analysed of a pair began, if there is any.
    pub async fn newest_candle(&self, pair: &str, timeframe: &str, until: Instant) -> Result<Option<Timestamp>, Error> {
        #[derive(Deserialize)]
        struct Candles {
            data_stop_ts: i64,
        }
        let query = [("pair", pair), ("timeframe", timeframe), ("limit", "1")];
        let Candles { data_stop_ts } = self.ask("pair_candles", &query, until).await?;
        Ok((data_stop_ts > 0).then(|| Timestamp::from_millis(data_stop_ts)))
    }

    /// The last `limit` lines of its log, oldest first.
    pub async fn logs(&self, limit: usize, until: Instant) -> Result<Vec<LogLine>, Error> {
        #[derive(Deserialize)]
        struct Logs {
            logs: Vec<(IgnoredAny, f64, String, String, String)>,
        }
        let query = [("limit", limit.to_string())];
        let query = query.each_ref().map(|(key, value)| (*key, value.as_str()));
        let Logs { logs } = self.bot.ask("logs", &query, Some(&self.password), LOG_MAX, until).await?;
        let line = |(_, millis, module, level, text): (IgnoredAny, f64, String, String, String)| {
            #[expect(clippy::cast_possible_truncation, reason = "a cast of a float saturates")]
            let at = Timestamp::from_millis(millis as i64);
            LogLine { at, module, level, text }
        };
        Ok(logs.into_iter().map(line).collect())
    }
}

/// What a bot says when it says no: `{"error": "..."}`, `{"detail": "..."}`, or plain text of its server.
fn said(status: StatusCode, body: &[u8]) -> String {
    let text = serde_json::from_slice::<Value>(body).ok().and_then(|value| {
        let text = value.get("error").or_else(|| value.get("detail"))?;
        Some(text.as_str()?.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect::<String>())
    });
    match text {
        Some(text) if !text.is_empty() => format!("status {}: {text}", status.as_u16()),
        _ => format!("status {}, expected 200", status.as_u16()),
    }
}

#[cfg(test)]
mod tests;
