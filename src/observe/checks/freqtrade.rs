//! `freqtrade`: is a freqtrade bot well, and if not, is it its process, its loop, the exchange or its strategy?

mod judge;
mod log;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::time::{Instant, sleep, timeout_at};

use self::judge::{Facts, Limits, Process, Progress};
use self::log::{Halt, LogFacts};
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::base::{files, http};
use crate::clients::freqtrade::{Error, Freqtrade, ShowConfig, Trouble};
use crate::model::Status;
use crate::observe::age::AgeLimits;
use crate::observe::params;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Bot::KIND, doc: DOC, build };

/// How many lines of its log are read: all that a bot keeps.
const LOG_LINES: usize = 1000;
/// Pairs whose candles are looked at.
const PAIRS_MAX: usize = 10;
/// The largest file of certificates, in bytes.
const CERTIFICATES_MAX: u64 = 1024 * 1024;
/// A reload takes the API away for less than this, so a bot that is not there is asked once more.
const RELOAD: Duration = Duration::from_millis(1500);

const DOC: &str = "\
# What it asks
A freqtrade bot's REST API: whether it answers, its state, when its loop last turned, its open trades, the age of its newest
candle, and the errors in its log. With `exchange_probe` also whether the exchange answers chiron itself.

# Why it matters
A bot answers pings while its loop is stuck, turns while its candles stand still, and trades on while its strategy fails
at every turn. Each needs another remedy, so each is told apart: `problem` names the outermost part that is broken, and
the issue is `bot_process`, `bot_loop`, `bot_exchange` or `bot_strategy`.

# Failure reasons
- `critical`, process: nobody listens (asked twice, 1.5 s apart, since a reload takes the API away that long), no answer in
  time, or an answer that no freqtrade gives.
- `critical`, loop: the loop of a bot that is running, paused or told to reload last turned longer than `critical_after`
  ago; it has not turned once, for so long that chiron has watched; or the bot stopped itself after an error, until it is
  started again.
- `critical`, exchange: the probe fails, more than `max_log_errors` calls to the exchange failed for good within
  `log_window`, or the newest candle of a pair is older than `max_candle_age`. A loop that stands still meanwhile waits for
  the exchange.
- `degraded`, strategy: its code failed more than `max_log_errors` times within `log_window`.
- `degraded`: the loop is slow to turn, the bot is reloading, other errors in the log, a question without an answer, clocks
  that differ; and, as `stopped` says, a bot that was stopped. A paused bot is healthy.
- `unknown`, and not run: user or password are refused, the password cannot be read, the address does not resolve, the
  certificate does not hold.

# Parameters
- `url`: the bot's `api_server`, such as `http://127.0.0.1:8080`.
- `username`, `password_file`: its user, and a file with the password; a relative path is below the workspace. It is read
  anew each time.
- `ca_file` (the machine's authorities): the certificates that vouch for an `https` address.
- `degraded_after` (60s), `critical_after` (120s): limits of the time since the loop last turned. They must exceed the bot's
  `process_throttle_secs`, and the 30 s that it waits after a failed call.
- `max_candle_age` (two candles and 5m): from its beginning.
- `pairs` (the first that the bot trades): whose candles are looked at, at most 10.
- `log_window` (5m), `max_log_errors` (3): more errors than this of one kind are trouble. A bot keeps 1000 lines; `warning` says so
  when they do not reach as far back.
- `stopped` (`degraded`): the grade of a bot that was stopped: `healthy`, `degraded` or `critical`.
- `exchange_probe` (none): a URL of the exchange that answers 200 to 299 while it is up.
- `timeout` (10s): the time for all questions together.
";

/// A bot and what is expected of it.
#[derive(Debug)]
struct Bot {
    bot: Freqtrade,
    password_file: PathBuf,
    limits: Limits,
    pairs: Vec<String>,
    probe: Option<Url>,
    client: Client,
    timeout: Duration,
    clock: Clock,
    watched: Mutex<Watched>,
}

/// What was seen over time, by a clock that nobody sets.
#[derive(Debug, Default)]
struct Watched {
    /// The date of the loop's latest turn, if it had one; the outer `None` if it was never seen.
    turned: Option<Option<Timestamp>>,
    first_seen: Duration,
    /// When another date, or a bot at rest, was seen last.
    other_seen: Option<Duration>,
    last_seen: Duration,
    /// Why the bot stopped itself.
    halted: Option<String>,
}

impl Bot {
    async fn ask(&self, until: Instant) -> Facts {
        let mut facts = Facts::default();
        if let Err(error) = self.question(&mut facts, until).await {
            facts.process = match error.trouble {
                Trouble::Unauthorized => Process::Locked(error.detail),
                Trouble::Unreachable => Process::Unreachable(error.detail),
                Trouble::Gone | Trouble::Silent | Trouble::Refused | Trouble::Strange => Process::Gone(error.detail),
            };
        }
        facts
    }

    /// Asks one thing after the other. What the bot does not answer beyond its first two answers is noted as missed.
    async fn question(&self, facts: &mut Facts, until: Instant) -> Result<(), Error> {
        self.bot.ping(until).await?;
        let access = self.bot.log_in(&self.password_file, until).await?;
        let config = access.show_config(until).await?;
        let mut missed = Vec::new();
        let mut keep = |error: Error| missed.push(error);
        if config.runmode != "webserver" {
            facts.turns = access.health(until).await.map_err(&mut keep).ok();
            let lines = access.logs(LOG_LINES, until).await.map_err(&mut keep).ok();
            facts.log = lines.map(|lines| LogFacts::of(&lines, LOG_LINES));
            let open = if config.state == "stopped" { access.trades(until).await } else { access.count(until).await };
            facts.open_trades = open.map_err(&mut keep).ok();
        }
        if let (ShowConfig { timeframe: Some(timeframe), .. }, "running" | "paused") = (&config, config.state.as_str())
        {
            let pairs = if self.pairs.is_empty() {
                access.pairs(until).await.map_err(&mut keep).unwrap_or_default().into_iter().take(1).collect()
            } else {
                self.pairs.clone()
            };
            for pair in pairs {
                if let Ok(candle) = access.newest_candle(&pair, timeframe, until).await.map_err(&mut keep) {
                    facts.candles.push((pair, candle));
                }
            }
        }
        if let Some(gone) = missed.iter().find(|error| error.trouble == Trouble::Gone) {
            return Err(gone.clone());
        }
        facts.missed = missed.into_iter().map(|error| error.detail).collect();
        facts.config = Some(config);
        Ok(())
    }

    async fn probe(&self, until: Instant) -> Option<Result<(), String>> {
        let url = self.probe.clone()?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let place = format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path());
        Some(match timeout_at(until, self.client.get(url).send()).await {
            Ok(Ok(answer)) if answer.status().is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("{place}: status {}, expected 200 to 299", answer.status().as_u16())),
            Ok(Err(error)) => Err(format!("{place}: {}", http::told(&error.without_url()))),
            Err(_) => Err(format!("{place}: no answer within {:?}", self.timeout)),
        })
    }

    /// Notes the date of the latest turn; tells how long ago it can have been. The loop of a bot at rest need not turn.
    fn watch(&self, turned: Option<Timestamp>, at_rest: bool) -> Progress {
        let now = self.clock.since_boot();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.turned != Some(turned) {
            watched.other_seen = watched.turned.is_some().then_some(watched.last_seen);
            watched.turned = Some(turned);
            watched.first_seen = now;
        }
        if at_rest {
            (watched.first_seen, watched.other_seen) = (now, Some(now));
        }
        watched.last_seen = now;
        Progress {
            at_least: now.saturating_sub(watched.first_seen),
            at_most: watched.other_seen.map(|seen| now.saturating_sub(seen)),
        }
    }

    /// Why the bot stopped itself, for as long as it is stopped: its log forgets, its state does not.
    fn remember(&self, is_stopped: bool, log: Option<&LogFacts>) -> Option<String> {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match log.map(|log| &log.halt) {
            Some(Halt::Because(why)) => watched.halted = Some(why.clone()),
            Some(Halt::Over) => watched.halted = None,
            Some(Halt::Unsaid) | None => {}
        }
        if !is_stopped {
            watched.halted = None;
        }
        watched.halted.clone()
    }
}

impl Check for Bot {
    type Reading = Facts;
    const KIND: &'static str = "freqtrade";

    async fn read(&self) -> Facts {
        let until = Instant::now() + self.timeout;
        let asked = async {
            let facts = self.ask(until).await;
            if matches!(facts.process, Process::Gone(_)) && until.duration_since(Instant::now()) > RELOAD {
                sleep(RELOAD).await;
                return self.ask(until).await;
            }
            facts
        };
        let (mut facts, probe) = tokio::join!(asked, self.probe(until));
        facts.probe = probe;
        if let Some(config) = &facts.config {
            let is_stopped = config.state == "stopped";
            facts.progress = facts.turns.map(|turns| self.watch(turns.last_process, is_stopped));
            facts.halted = self.remember(is_stopped, facts.log.as_ref());
        }
        facts
    }

    fn judge(&self, reading: &Facts, now: Timestamp) -> Judgement {
        judge::judge(reading, &self.limits, now)
    }

    fn raises(&self) -> &'static [&'static str] {
        &["bot_process", "bot_loop", "bot_exchange", "bot_strategy"]
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let before = section.problems().len();
    let url = params::required_text(section, "url").and_then(|text| url(section, "url", &text));
    let username = params::required_text(section, "username");
    if username.as_ref().is_some_and(|name| name.contains(':')) {
        section.reject("username", "expected a name without `:`", None);
    }
    let password_file = params::required_secret_path(section, "password_file", context);
    let client = match params::secret_path(section, "ca_file", context) {
        None => Some(context.http.clone()),
        Some(path) => {
            let client = files::read_bounded(&path, CERTIFICATES_MAX).map_err(|problem| problem.to_string());
            let client = client.and_then(|(pem, _)| http::client_for(Some(&pem), false));
            client
                .map_err(|why| {
                    section.reject("ca_file", &format!("expected a file with certificates in PEM: {why}"), None);
                })
                .ok()
        }
    };
    let defaults = AgeLimits::new(Duration::from_secs(60), Duration::from_secs(120));
    let words = [("healthy", Status::Healthy), ("degraded", Status::Degraded), ("critical", Status::Critical)];
    let limits = Limits {
        loop_age: params::age_limits(section, defaults),
        max_candle_age: params::span(section, "max_candle_age"),
        log_window: params::span(section, "log_window").unwrap_or(Duration::from_secs(300)),
        max_log_errors: params::whole(section, "max_log_errors").unwrap_or(3),
        stopped: section.word("stopped", &words).unwrap_or(Status::Degraded),
    };
    let pairs = params::texts(section, "pairs");
    if pairs.len() > PAIRS_MAX {
        section.reject("pairs", &format!("expected at most {PAIRS_MAX} pairs"), None);
    }
    let probe = params::text(section, "exchange_probe").and_then(|text| self::url(section, "exchange_probe", &text));
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(10));
    if section.problems().len() > before {
        return None;
    }
    let client = client?;
    Some(Arc::new(Bot {
        bot: Freqtrade::new(client, url?, username?),
        password_file: password_file?,
        limits,
        pairs,
        probe,
        client: context.http.clone(),
        timeout,
        clock: context.clock.clone(),
        watched: Mutex::default(),
    }))
}

fn url(section: &Section<'_>, key: &'static str, text: &str) -> Option<Url> {
    let rule = match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            "expected a URL that begins with http:// or https://"
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => "expected a URL without credentials",
        Ok(url) if key == "url" && url.query().is_some() => "expected a URL without a query",
        Ok(url) => return Some(url),
        Err(_) => "expected a URL that begins with http:// or https://",
    };
    section.reject(key, rule, None);
    None
}

#[cfg(test)]
mod tests;
