//! What the answers of a bot add up to: which of its parts is broken, and how bad the rest is.
//!
//! **Invariant:** pure. A part behind a broken one is unknown, and so is one that could not be asked about; what is unknown
//! is never called well.

use std::sync::Arc;
use std::time::Duration;

use super::log::{About, LogFacts};
use crate::clients::freqtrade::{ShowConfig, Turns};
use crate::model::{BotPart, Perfdata, Signals, Status, Timestamp, Vitals};
use crate::observe::age::{AgeLimits, FUTURE_TOLERANCE};
use crate::observe::check::Judgement;

/// A bot's own test of its candles has this beyond two of them, too.
const CANDLE_GRACE: Duration = Duration::from_secs(300);

/// What is expected of a bot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limits {
    /// Of the time since its loop last turned.
    pub loop_age: AgeLimits,
    /// Of the time since its newest candle began; by its timeframe if not given.
    pub max_candle_age: Option<Duration>,
    /// How far back its log is looked at.
    pub log_window: Duration,
    /// So many errors of one kind in the window are well.
    pub max_log_errors: u64,
    /// The grade of a bot that was stopped.
    pub stopped: Status,
}

/// What a question to the process came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Process {
    /// It answers.
    #[default]
    Answers,
    /// It does not, or what answers is no bot.
    Gone(String),
    /// It does, but chiron's user or password is refused or not to be had.
    Locked(String),
    /// It could not be asked.
    Unreachable(String),
}

/// How long a loop may have stood still by a clock that nobody sets, whatever its own date says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// At least so long: since its date, or that it has none, was first seen at work.
    pub at_least: Duration,
    /// At most so long: since another date was last seen, or the bot at rest, if either ever was.
    pub at_most: Option<Duration>,
}

/// What a bot answered; what is `None` was not asked or not answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub process: Process,
    pub config: Option<ShowConfig>,
    pub turns: Option<Turns>,
    pub progress: Option<Progress>,
    pub open_trades: Option<u64>,
    /// By pair, when its newest candle began, if it has any.
    pub candles: Vec<(String, Option<Timestamp>)>,
    pub log: Option<LogFacts>,
    /// Why the bot stopped itself, if its log said so once and it has not left that state since.
    pub halted: Option<String>,
    /// What chiron's own question to the exchange came to.
    pub probe: Option<Result<(), String>>,
    /// Questions without a usable answer.
    pub missed: Vec<String>,
}

/// Grades what was seen at `now`.
pub(super) fn judge(facts: &Facts, limits: &Limits, now: Timestamp) -> Judgement {
    let Some(config) = &facts.config else { return without_config(facts, now) };
    let mut verdict = Verdict::new(now);
    verdict.part(BotPart::Process, None);
    verdict.told(config, facts);
    match config.state.as_str() {
        "running" | "paused" => at_work(&mut verdict, config, facts, limits),
        "stopped" => stopped(&mut verdict, facts, limits),
        "reload_config" => reloading(&mut verdict, facts, limits),
        "" if config.runmode == "webserver" => {
            verdict.warn(Status::Degraded, "it runs as a web server only, expected a bot that trades".to_owned());
        }
        other => {
            let state: String = other.chars().take(40).flat_map(char::escape_default).collect();
            let text = format!("its state is `{state}`, expected running, paused or stopped");
            verdict.warn(Status::Degraded, text);
        }
    }
    if !facts.missed.is_empty() {
        verdict.warn(Status::Degraded, facts.missed.join("; "));
    }
    verdict.finish()
}

/// Nothing is known but whether somebody answers.
fn without_config(facts: &Facts, now: Timestamp) -> Judgement {
    let mut verdict = Verdict::new(now);
    match &facts.process {
        Process::Gone(why) => verdict.part(BotPart::Process, Some(why.clone())),
        Process::Answers => {
            let why = facts.missed.first().map_or("it answers a ping and no question", String::as_str);
            verdict.part(BotPart::Process, Some(why.to_owned()));
        }
        Process::Locked(why) => {
            verdict.part(BotPart::Process, None);
            return verdict.unrunnable(why);
        }
        Process::Unreachable(why) => return verdict.unrunnable(why),
    }
    verdict.finish()
}

/// A bot whose loop should turn.
fn at_work(verdict: &mut Verdict, config: &ShowConfig, facts: &Facts, limits: &Limits) {
    let now = verdict.now;
    let log = facts.log.as_ref();
    let within = |about| log.map(|log| log.within(about, limits.log_window, now)).unwrap_or_default();
    let (exchange, strategy, other) = (within(About::Exchange), within(About::Strategy), within(About::Other));
    if log.is_some() {
        verdict.number("log_errors", other.count, "log_errors", "");
        verdict.detail("exchange_errors", exchange.count);
        verdict.detail("strategy_errors", strategy.count);
    }
    let span = format!("in {:?}", limits.log_window);
    if let Some(covered) = log.and_then(|log| log.cut_off).map(|oldest| now.since(oldest))
        && covered < limits.log_window
    {
        let (lines, covered) = (super::LOG_LINES, covered.as_secs());
        let text = format!(
            "the {lines} lines that its log keeps are of the last {covered} s: {:?} are not covered",
            limits.log_window
        );
        verdict.warn(Status::Healthy, text);
    }
    let failing = match &facts.probe {
        Some(Err(why)) => Some(format!("exchange_probe: {why}")),
        _ if exchange.count > limits.max_log_errors => {
            Some(format!("{} calls to the exchange failed {span}, the latest: {}", exchange.count, exchange.latest))
        }
        _ => None,
    };

    let mut stuck = None;
    match graded_loop(verdict, facts, limits) {
        Turning::Unknown => {}
        Turning::Yes => verdict.part(BotPart::Loop, None),
        Turning::Slow(text) => {
            verdict.part(BotPart::Loop, None);
            verdict.warn(Status::Degraded, text);
        }
        // A call to an exchange that hangs holds the loop up; to restart the bot would not help.
        Turning::No(text) if failing.is_some() => stuck = Some(text),
        Turning::No(text) => return verdict.part(BotPart::Loop, Some(text)),
    }

    let blind = strategy.count > 0 && strategy.latest.starts_with("Unable to analyze candle");
    let frozen = candle_trouble(verdict, config, facts, limits);
    match (failing, frozen) {
        (Some(why), _) => {
            let why = stuck.map_or(why.clone(), |stuck| format!("{why}; {stuck}"));
            return verdict.part(BotPart::Exchange, Some(why));
        }
        // A strategy that fails on every candle leaves the last one that it could analyse behind.
        (None, Some(_)) if blind => verdict.part(BotPart::Exchange, None),
        (None, Some(why)) => return verdict.part(BotPart::Exchange, Some(why)),
        (None, None) => {
            if log.is_some() || !facts.candles.is_empty() || facts.probe.is_some() {
                verdict.part(BotPart::Exchange, None);
            }
        }
    }

    if log.is_none() {
        return;
    }
    let failing = strategy.count > limits.max_log_errors;
    let text = || format!("its strategy failed {} times {span}, the latest: {}", strategy.count, strategy.latest);
    verdict.part(BotPart::Strategy, failing.then(text));
    if other.count > limits.max_log_errors {
        let text = format!("{} errors in its log {span}, the latest: {}", other.count, other.latest);
        verdict.warn(Status::Degraded, text);
    }
}

/// A bot that was told to read its settings anew, which its loop does between two turns: one that is stuck never does.
fn reloading(verdict: &mut Verdict, facts: &Facts, limits: &Limits) {
    let probe = facts.probe.as_ref().and_then(|probe| probe.as_ref().err());
    match (graded_loop(verdict, facts, limits), probe) {
        (Turning::No(text), Some(why)) => {
            let text = format!("exchange_probe: {why}; it was told to reload and {text}");
            return verdict.part(BotPart::Exchange, Some(text));
        }
        (Turning::No(text), None) => {
            return verdict.part(BotPart::Loop, Some(format!("it was told to reload and {text}")));
        }
        (Turning::Slow(text), _) => {
            verdict.part(BotPart::Loop, None);
            verdict.warn(Status::Degraded, format!("it was told to reload and {text}"));
        }
        (turning, _) => {
            if matches!(turning, Turning::Yes) {
                verdict.part(BotPart::Loop, None);
            }
            verdict.warn(Status::Degraded, "it is reloading its configuration".to_owned());
        }
    }
    if let Some(probe) = &facts.probe {
        verdict.part(BotPart::Exchange, probe.as_ref().err().map(|why| format!("exchange_probe: {why}")));
    }
}

/// Whether the loop turns; if not soon enough, in words.
enum Turning {
    Unknown,
    Yes,
    Slow(String),
    No(String),
}

fn graded_loop(verdict: &mut Verdict, facts: &Facts, limits: &Limits) -> Turning {
    let turned = loop_age(facts, verdict.now);
    let never = matches!(turned, LoopAge::Never(_));
    let (age, text) = match turned {
        LoopAge::Unknown => return Turning::Unknown,
        LoopAge::Doubted(ahead) => {
            let text =
                format!("its loop last turned {} s in the future: its clock and this one differ", ahead.as_secs());
            verdict.warn(Status::Degraded, text);
            return Turning::Unknown;
        }
        LoopAge::Known(age) => (age, format!("its loop last turned {} s ago", age.as_secs())),
        LoopAge::Never(age) => {
            (age, format!("its loop has not turned once in the {} s that it was seen", age.as_secs()))
        }
    };
    verdict.number("loop_age_seconds", age.as_secs_f64(), "loop_age", "seconds");
    match limits.loop_age.grade(age) {
        Status::Critical => Turning::No(text),
        // One that has yet to turn is not known to be well.
        Status::Healthy if never => Turning::Unknown,
        Status::Healthy => Turning::Yes,
        _ if never => {
            verdict.warn(Status::Degraded, text);
            Turning::Unknown
        }
        _ => Turning::Slow(text),
    }
}

/// A bot whose loop stands still because it was told to, or because it gave up. How old its last turn and its candles are
/// says nothing.
fn stopped(verdict: &mut Verdict, facts: &Facts, limits: &Limits) {
    if let Some(why) = &facts.halted {
        return verdict.part(BotPart::Loop, Some(format!("it stopped itself: {why}")));
    }
    if let Some(probe) = &facts.probe {
        verdict.part(BotPart::Exchange, probe.as_ref().err().map(|why| format!("exchange_probe: {why}")));
    }
    let text = match facts.open_trades {
        Some(open) if open > 0 => format!("it is stopped with {open} open trades: nobody looks after their exits"),
        _ => "it is stopped: it enters nothing and exits nothing".to_owned(),
    };
    verdict.warn(limits.stopped, text);
}

enum LoopAge {
    Unknown,
    Known(Duration),
    /// Not since the process began, and it has been watched for so long.
    Never(Duration),
    Doubted(Duration),
}

/// How long ago the loop turned: by its own date, within what is known from having watched it. A loop without a date has not
/// turned yet; since when it should have is known from having watched it alone, for the start that the bot tells of comes
/// from its database and may be that of the process before.
fn loop_age(facts: &Facts, now: Timestamp) -> LoopAge {
    let Some(turns) = facts.turns else { return LoopAge::Unknown };
    let Some(turned) = turns.last_process else {
        return facts.progress.map_or(LoopAge::Unknown, |watched| LoopAge::Never(watched.at_least));
    };
    let ahead = turned.since(now);
    let watched = facts.progress.unwrap_or(Progress { at_least: Duration::ZERO, at_most: None });
    if ahead > FUTURE_TOLERANCE && watched.at_most.is_none() {
        return LoopAge::Doubted(ahead);
    }
    let age = now.since(turned).max(watched.at_least);
    LoopAge::Known(watched.at_most.map_or(age, |most| age.min(most)))
}

/// What is wrong with the candles, if anything.
fn candle_trouble(verdict: &mut Verdict, config: &ShowConfig, facts: &Facts, limits: &Limits) -> Option<String> {
    let now = verdict.now;
    let timeframe = Duration::from_millis(config.timeframe_ms);
    let most = limits.max_candle_age.unwrap_or_else(|| timeframe.saturating_mul(2).saturating_add(CANDLE_GRACE));
    // A bot that has just been started has had no time to see any.
    let turned = facts.turns.filter(|turns| turns.last_process.is_some());
    let up = turned.and_then(|turns| turns.startup).map(|startup| now.since(startup));
    let mut oldest: Option<(Duration, &str)> = None;
    let mut without = None;
    for (pair, at) in &facts.candles {
        match at {
            Some(at) => {
                let age = now.since(*at);
                if oldest.is_none_or(|(most, _)| age > most) {
                    oldest = Some((age, pair));
                }
            }
            None if up.is_some_and(|up| up > most) => without = Some(format!("it has no candle of {pair}")),
            None => {}
        }
    }
    if let Some((age, _)) = oldest {
        verdict.number("candle_age_seconds", age.as_secs_f64(), "candle_age", "seconds");
    }
    let (limit, old) = (most.as_secs(), oldest.filter(|(age, _)| *age > most));
    let text = |(age, pair): (Duration, &str)| {
        format!("its newest candle of {pair} began {} s ago, expected at most {limit} s", age.as_secs())
    };
    old.map(text).or(without)
}

/// A judgement in the making.
struct Verdict {
    now: Timestamp,
    judgement: Judgement,
    parts: Vec<(BotPart, Option<String>)>,
    warnings: Vec<String>,
}

impl Verdict {
    fn new(now: Timestamp) -> Self {
        Self { now, judgement: Judgement::new(Status::Healthy), parts: Vec::new(), warnings: Vec::new() }
    }

    fn part(&mut self, part: BotPart, trouble: Option<String>) {
        self.parts.push((part, trouble));
    }

    /// Something that no rule of the parts raises.
    fn warn(&mut self, status: Status, text: String) {
        let judgement = std::mem::replace(&mut self.judgement, Judgement::new(Status::Healthy));
        self.judgement = judgement.at_least(status);
        self.warnings.push(text);
    }

    fn detail(&mut self, key: &str, value: impl Into<serde_json::Value>) {
        self.judgement.details.insert(key.to_owned(), value.into());
    }

    fn number<N>(&mut self, key: &str, value: N, label: &str, unit: &str)
    where
        N: Into<serde_json::Value>,
    {
        let value = value.into();
        let number = value.as_f64().unwrap_or_default();
        self.judgement.perfdata.push(Perfdata { label: label.into(), value: number, unit: unit.to_owned() });
        self.detail(key, value);
    }

    fn told(&mut self, config: &ShowConfig, facts: &Facts) {
        let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
        self.detail("state", short(&config.state));
        self.detail("runmode", short(&config.runmode));
        self.detail("dry_run", config.dry_run);
        self.detail("version", short(&config.version));
        self.detail("max_open_trades", config.max_open_trades);
        if let Some(open) = facts.open_trades {
            self.number("open_trades", open, "open_trades", "");
        }
    }

    fn unrunnable(self, why: &str) -> Judgement {
        let vitals = Vitals { at: self.now, parts: self.parts, ..Vitals::default() };
        let signals = Signals { vitals: Some(Arc::new(vitals)), ..Signals::default() };
        Judgement { signals, ..Judgement::unrunnable(why) }
    }

    fn finish(self) -> Judgement {
        let own = self.judgement.status;
        let mut judgement = self.judgement;
        if !self.warnings.is_empty() {
            judgement = judgement.with("warning", self.warnings.join("; "));
        }
        let broken = self.parts.iter().find_map(|(part, trouble)| Some((*part, trouble.as_ref()?)));
        if let Some((part, trouble)) = broken {
            // A strategy that fails leaves a bot that still manages its exits.
            let status = if part == BotPart::Strategy { Status::Degraded } else { Status::Critical };
            judgement = judgement.at_least(status).with("problem", part.as_str()).with("error", trouble.as_str());
        }
        let vitals = Vitals { at: self.now, parts: self.parts, ..Vitals::default() };
        judgement.signals = Signals { vitals: Some(Arc::new(vitals)), own_status: Some(own), ..Signals::default() };
        judgement
    }
}

#[cfg(test)]
mod tests;
