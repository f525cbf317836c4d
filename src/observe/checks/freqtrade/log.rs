//! What a bot's log says of its exchange and of its strategy, by the modules that said it.
//!
//! **Invariant:** pure. What an exchange answered is told without its addresses, which may be signed.

use std::time::Duration;

use crate::clients::freqtrade::LogLine;
use crate::model::Timestamp;

/// How much of a line is told.
const TOLD_MAX: usize = 200;
/// A line that is dated further ahead is not believed: the clock was set back since.
const AHEAD: Duration = Duration::from_secs(60);

/// Whose trouble a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// A call to the exchange that failed for good, its repeats included.
    Exchange,
    /// An error of the strategy's own code.
    Strategy,
    /// Any other error.
    Other,
}

/// What the last lines of a log tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LogFacts {
    /// Every line that tells of trouble, oldest first.
    pub lines: Vec<(Timestamp, About, String)>,
    /// How the bot's latest stop came about.
    pub halt: Halt,
    /// The date of the oldest line, if older ones have been left out.
    pub cut_off: Option<Timestamp>,
}

/// What a log says of a stop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Halt {
    /// Nothing; what was said of it may have been pushed out.
    #[default]
    Unsaid,
    /// The bot ran, or was begun, after whatever stop there was before.
    Over,
    /// The bot stopped itself, for this reason.
    Because(String),
}

/// The troubles of one kind within a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found<'a> {
    /// How many.
    pub count: u64,
    /// The latest.
    pub latest: &'a str,
}

impl LogFacts {
    /// Reads the lines.
    pub(super) fn of(lines: &[LogLine], lines_max: usize) -> Self {
        let oldest = lines.first().filter(|_| lines.len() >= lines_max);
        let mut facts = Self { cut_off: oldest.map(|line| line.at), ..Self::default() };
        for line in lines {
            if let Some(about) = about(line) {
                facts.lines.push((line.at, about, told(&line.text)));
            }
            if line.module == "freqtrade.worker" {
                if line.text.starts_with("OperationalException. Stopping trader") {
                    facts.halt = Halt::Because(told(line.text.trim_end().rsplit('\n').next().unwrap_or_default()));
                } else if line.text.starts_with("Changing state") && !line.text.ends_with("to: STOPPED")
                    || line.text.starts_with("Starting worker")
                {
                    facts.halt = Halt::Over;
                }
            }
        }
        facts
    }

    /// The troubles of one kind in the `window` before `now`.
    pub(super) fn within(&self, about: About, window: Duration, now: Timestamp) -> Found<'_> {
        let mut found = Found::default();
        for (at, kind, text) in &self.lines {
            if *kind == about && now.since(*at) < window && at.since(now) <= AHEAD {
                found = Found { count: found.count + 1, latest: text };
            }
        }
        found
    }
}

fn about(line: &LogLine) -> Option<About> {
    let error = matches!(line.level.as_str(), "ERROR" | "CRITICAL");
    if !error && line.level != "WARNING" {
        return None;
    }
    let (module, text) = (line.module.as_str(), line.text.as_str());
    let begins = |starts: &[&str]| starts.iter().any(|start| text.starts_with(start));
    let of = |parent: &str| module == parent || module.strip_prefix(parent).is_some_and(|rest| rest.starts_with('.'));
    if of("freqtrade.exchange") {
        // A call that is tried again may yet succeed; the last try says `Giving up.` or is told by whoever waited for it.
        let failed = begins(&["Async code raised an exception", "Could not load ", "Error loading "])
            || text.contains("returned exception: ") && text.trim_end().ends_with("Giving up.");
        // What is given up in the background is told a second time by the module that waited.
        return (failed && !text.starts_with("_async")).then_some(About::Exchange);
    }
    if module == "freqtrade.worker" && begins(&["Error: "]) && text.contains(", retrying in ") {
        return Some(About::Exchange);
    }
    if module == "freqtrade.strategy.strategy_wrapper"
        || of("freqtrade.strategy") && begins(&["Unable to analyze candle"])
    {
        return Some(About::Strategy);
    }
    // What the API server says is about questions, chiron's own among them.
    (error && !of("freqtrade.rpc.api_server") && !of("uvicorn")).then_some(About::Other)
}

/// The beginning of a line. What an exchange answered follows `Message:` and holds the address that was asked.
fn told(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" Message:").next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(TOLD_MAX).collect();
    crate::base::tree::redact(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_378_600_000);

    fn line(before: u64, module: &str, level: &str, text: &str) -> LogLine {
        let at = NOW.minus(Duration::from_secs(before));
        LogLine { at, module: module.to_owned(), level: level.to_owned(), text: text.to_owned() }
    }

    /// OBS-9: lines as freqtrade 2026.9 writes them, each with whose trouble it tells.
    #[test]
    fn lines_are_told_apart() {
        let gone = "fetch_ticker() returned exception: \"Could not load ticker due to NetworkError. Message: binance GET \
                    https://api.binance.com/x?signature=canary\". ";
        let retry = format!("{gone}Retrying still for 2 times.");
        let given_up = format!("{gone}Giving up.");
        let table = [
            ("freqtrade.exchange.common", "WARNING", retry.as_str(), None),
            ("freqtrade.exchange.common", "WARNING", &given_up, Some(About::Exchange)),
            ("freqtrade.exchange.common", "WARNING", "_async_x() returned exception: \"y\". Giving up.", None),
            (
                "freqtrade.exchange.exchange",
                "WARNING",
                "Async code raised an exception: TemporaryError('Could not fetch historical candle (OHLCV) data for \
                 ETH/USDT, 1m, spot due to ExchangeNotAvailable. Message: binance GET http://127.0.0.1:1/x')",
                Some(About::Exchange),
            ),
            ("freqtrade.exchange.exchange", "ERROR", "Could not load markets.\nTraceback", Some(About::Exchange)),
            ("freqtrade.exchange.exchange", "INFO", "Could not load markets.", None),
            ("freqtrade.exchanges", "WARNING", "Could not load markets.", None),
            ("freqtrade.worker", "WARNING", "Error: x due to y, retrying in 30 seconds...", Some(About::Exchange)),
            (
                "freqtrade.strategy.strategy_wrapper",
                "ERROR",
                "Unexpected error KeyError('no such column') calling <bound method Probe.bot_loop_start>\nTraceback",
                Some(About::Strategy),
            ),
            (
                "freqtrade.strategy.strategy_wrapper",
                "WARNING",
                "Strategy caused the following exception: ValueError('x') in Probe.custom_exit:9, calling custom_exit",
                Some(About::Strategy),
            ),
            (
                "freqtrade.strategy.interface",
                "WARNING",
                "Unable to analyze candle (OHLCV) data for pair BTC/USDT: 'no such indicator'",
                Some(About::Strategy),
            ),
            ("freqtrade.strategy.interface", "WARNING", "Outdated history for pair BTC/USDT.", None),
            ("freqtrade.freqtradebot", "ERROR", "Unable to place a stoploss order on exchange. x", Some(About::Other)),
            ("freqtrade.freqtradebot", "WARNING", "Unable to create trade for BTC/USDT: x", None),
            ("freqtrade.rpc.api_server.webserver", "ERROR", "API Error calling: trader is not running", None),
            ("uvicorn.error", "ERROR", "Exception in ASGI application", None),
        ];
        for (module, level, text, expected) in table {
            let facts = LogFacts::of(&[line(1, module, level, text)], 9);
            assert_eq!(facts.lines.first().map(|(_, about, _)| *about), expected, "{module}: {text}");
            assert!(facts.lines.iter().all(|(.., told)| !told.contains("canary") && !told.contains("Traceback")));
        }
    }

    /// Both ends of the window, and a line from before the clock was set back.
    #[test]
    fn only_the_window_counts() {
        let wrapper = "freqtrade.strategy.strategy_wrapper";
        let mut lines: Vec<LogLine> =
            [300, 299, 1].map(|before| line(before, wrapper, "ERROR", &format!("e{before}"))).into();
        let mut ahead = line(0, wrapper, "ERROR", "ahead");
        ahead.at = NOW.plus(Duration::from_secs(61));
        lines.push(ahead);
        let facts = LogFacts::of(&lines, 5);
        assert_eq!((facts.cut_off, LogFacts::of(&lines, 4).cut_off), (None, Some(lines[0].at)));
        let found = facts.within(About::Strategy, Duration::from_secs(300), NOW);
        assert_eq!(found, Found { count: 2, latest: "e1" });
        assert_eq!(facts.within(About::Exchange, Duration::from_secs(300), NOW).count, 0);
    }

    #[test]
    fn a_bot_that_stopped_itself_says_why_until_it_runs_again() {
        let halt = line(
            9,
            "freqtrade.worker",
            "ERROR",
            "OperationalException. Stopping trader ...\nTraceback\nfreqtrade.X: no key\n",
        );
        let stopped = line(8, "freqtrade.worker", "INFO", "Changing state from RUNNING to: STOPPED");
        let running = line(7, "freqtrade.worker", "INFO", "Changing state from STOPPED to: RUNNING");
        let begun = line(7, "freqtrade.worker", "INFO", "Starting worker 2026.9");
        let halted = |lines: &[LogLine]| LogFacts::of(lines, 9).halt;
        let because = Halt::Because("freqtrade.X: no key".to_owned());
        assert_eq!(halted(&[halt.clone(), stopped.clone()]), because);
        assert_eq!(halted(&[halt.clone(), stopped.clone(), running, stopped.clone()]), Halt::Over);
        assert_eq!(halted(&[halt, stopped.clone(), begun, stopped.clone()]), Halt::Over);
        assert_eq!(halted(&[stopped]), Halt::Unsaid, "what came before may have been pushed out");
    }
}
