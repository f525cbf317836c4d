//! Every part on both sides of its limits, and the traps of a stopped, paused, reloading or jumping bot.

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_378_600_000);

fn ago(seconds: u64) -> Timestamp {
    NOW.minus(Duration::from_secs(seconds))
}

fn limits() -> Limits {
    Limits {
        loop_age: AgeLimits::new(Duration::from_secs(60), Duration::from_secs(120)),
        max_candle_age: None,
        log_window: Duration::from_secs(300),
        max_log_errors: 3,
        stopped: Status::Degraded,
    }
}

/// A bot of one-minute candles that is well.
fn well() -> Facts {
    Facts {
        config: Some(ShowConfig {
            state: "running".to_owned(),
            runmode: "live".to_owned(),
            timeframe: Some("1m".to_owned()),
            timeframe_ms: 60_000,
            max_open_trades: 3.0,
            ..ShowConfig::default()
        }),
        turns: Some(Turns { last_process: Some(ago(3)), startup: Some(ago(9000)) }),
        open_trades: Some(1),
        candles: vec![("BTC/USDT".to_owned(), Some(ago(100)))],
        log: Some(LogFacts::default()),
        ..Facts::default()
    }
}

fn with(change: impl FnOnce(&mut Facts)) -> Facts {
    let mut facts = well();
    change(&mut facts);
    facts
}

fn state(state: &str) -> Facts {
    with(|facts| facts.config.as_mut().unwrap().state = state.to_owned())
}

fn errors(about: About, count: usize, text: &str) -> Option<LogFacts> {
    let lines = (0..count).map(|_| (ago(9), about, text.to_owned())).collect();
    Some(LogFacts { lines, ..LogFacts::default() })
}

/// The parts as four marks in their order: `?` unknown, `-` well, `!` broken.
fn marks(judgement: &Judgement) -> String {
    let vitals = judgement.signals.vitals.as_ref().expect("vitals");
    assert_eq!(vitals.at, NOW);
    let mark = |part: BotPart| match vitals.parts.iter().find(|(found, _)| *found == part) {
        None => '?',
        Some((_, None)) => '-',
        Some((_, Some(_))) => '!',
    };
    BotPart::ALL.map(mark).iter().collect()
}

/// OBS-9: the table of what is told apart: status, grade without the rules of the parts, parts, and a word of the details.
#[test]
fn the_parts_are_told_apart() {
    use Status::{Critical, Degraded, Healthy};
    let old_loop = |facts: &mut Facts| facts.turns.as_mut().unwrap().last_process = Some(ago(121));
    let away = Some(Err("http://x/ping: status 503".to_owned()));
    let unable = "Unable to analyze candle (OHLCV) data for pair BTC/USDT: 'x'";
    let table: Vec<(&str, Facts, Status, Status, &str, &str)> = vec![
        ("well", well(), Healthy, Healthy, "----", ""),
        ("paused", state("paused"), Healthy, Healthy, "----", ""),
        ("reloading", state("reload_config"), Degraded, Degraded, "--??", "it is reloading"),
        (
            "about to reload",
            with(|f| {
                f.turns.as_mut().unwrap().last_process = Some(ago(120));
                f.config.as_mut().unwrap().state = "reload_config".to_owned();
            }),
            Degraded,
            Degraded,
            "--??",
            "it was told to reload and its loop last turned 120 s ago",
        ),
        (
            "never reloading",
            with(|f| {
                old_loop(f);
                f.config.as_mut().unwrap().state = "reload_config".to_owned();
            }),
            Critical,
            Healthy,
            "-!??",
            "it was told to reload and its loop last turned 121 s ago",
        ),
        (
            "never reloading for the exchange",
            with(|f| {
                old_loop(f);
                f.probe = away.clone();
                f.config.as_mut().unwrap().state = "reload_config".to_owned();
            }),
            Critical,
            Healthy,
            "-?!?",
            "status 503; it was told to reload and its loop last turned 121 s ago",
        ),
        ("odd", state("flying"), Degraded, Degraded, "-???", "its state is `flying`"),
        ("stopped", state("stopped"), Degraded, Degraded, "-???", "stopped with 1 open trades"),
        (
            "stopped for long",
            with(|f| {
                old_loop(f);
                f.candles[0].1 = Some(ago(9000));
                f.open_trades = Some(0);
                f.config.as_mut().unwrap().state = "stopped".to_owned();
            }),
            Degraded,
            Degraded,
            "-???",
            "it enters nothing",
        ),
        (
            "stopped itself",
            with(|f| {
                f.config.as_mut().unwrap().state = "stopped".to_owned();
                f.halted = Some("no key".to_owned());
            }),
            Critical,
            Healthy,
            "-!??",
            "it stopped itself: no key",
        ),
        (
            "loop at 60 s",
            with(|f| f.turns.as_mut().unwrap().last_process = Some(ago(60))),
            Degraded,
            Degraded,
            "----",
            "60 s ago",
        ),
        (
            "loop at 120 s",
            with(|f| f.turns.as_mut().unwrap().last_process = Some(ago(120))),
            Degraded,
            Degraded,
            "----",
            "",
        ),
        ("loop beyond", with(old_loop), Critical, Healthy, "-!??", "its loop last turned 121 s ago"),
        (
            "never turned",
            with(|f| {
                f.turns = Some(Turns { last_process: None, startup: Some(ago(9)) });
                f.progress = Some(Progress { at_least: Duration::from_secs(121), at_most: None });
            }),
            Critical,
            Healthy,
            "-!??",
            "its loop has not turned once in the 121 s that it was seen",
        ),
        (
            "just begun, and its database tells of the process before",
            with(|f| {
                f.turns = Some(Turns { last_process: None, startup: Some(ago(9000)) });
                f.progress = Some(Progress { at_least: Duration::ZERO, at_most: None });
                f.candles[0].1 = None;
            }),
            Healthy,
            Healthy,
            "-?--",
            "",
        ),
        (
            "a log that does not reach back",
            with(|f| f.log = Some(LogFacts { cut_off: Some(ago(299)), ..LogFacts::default() })),
            Healthy,
            Healthy,
            "----",
            "are of the last 299 s: 300s are not covered",
        ),
        (
            "one that does",
            with(|f| f.log = Some(LogFacts { cut_off: Some(ago(300)), ..LogFacts::default() })),
            Healthy,
            Healthy,
            "----",
            "",
        ),
        ("never said", with(|f| f.turns = Some(Turns::default())), Healthy, Healthy, "-?--", ""),
        (
            "probe fails",
            with(|f| f.probe = away.clone()),
            Critical,
            Healthy,
            "--!?",
            "exchange_probe: http://x/ping: status 503",
        ),
        (
            "a loop that waits for the exchange",
            with(|f| {
                old_loop(f);
                f.probe = away.clone();
            }),
            Critical,
            Healthy,
            "-?!?",
            "status 503; its loop last turned 121 s ago",
        ),
        ("three failed calls", with(|f| f.log = errors(About::Exchange, 3, "x")), Healthy, Healthy, "----", ""),
        (
            "four failed calls",
            with(|f| f.log = errors(About::Exchange, 4, "x")),
            Critical,
            Healthy,
            "--!?",
            "4 calls to the exchange failed in 300s, the latest: x",
        ),
        ("candle at its limit", with(|f| f.candles[0].1 = Some(ago(420))), Healthy, Healthy, "----", ""),
        (
            "candle beyond",
            with(|f| f.candles[0].1 = Some(ago(421))),
            Critical,
            Healthy,
            "--!?",
            "its newest candle of BTC/USDT began 421 s ago, expected at most 420 s",
        ),
        (
            "the oldest of several",
            with(|f| f.candles.push(("ETH/USDT".to_owned(), Some(ago(421))))),
            Critical,
            Healthy,
            "--!?",
            "of ETH/USDT",
        ),
        ("no candle", with(|f| f.candles[0].1 = None), Critical, Healthy, "--!?", "it has no candle of BTC/USDT"),
        (
            "no candle yet",
            with(|f| {
                f.candles[0].1 = None;
                f.turns.as_mut().unwrap().startup = Some(ago(420));
            }),
            Healthy,
            Healthy,
            "----",
            "",
        ),
        (
            "three errors of the strategy",
            with(|f| f.log = errors(About::Strategy, 3, "x")),
            Healthy,
            Healthy,
            "----",
            "",
        ),
        (
            "four",
            with(|f| f.log = errors(About::Strategy, 4, "x")),
            Degraded,
            Healthy,
            "---!",
            "its strategy failed 4 times in 300s, the latest: x",
        ),
        (
            "a strategy that cannot analyse leaves old candles",
            with(|f| {
                f.candles[0].1 = Some(ago(9000));
                f.log = errors(About::Strategy, 4, unable);
            }),
            Degraded,
            Healthy,
            "---!",
            "Unable to analyze",
        ),
        (
            "four other errors",
            with(|f| f.log = errors(About::Other, 4, "x")),
            Degraded,
            Degraded,
            "----",
            "4 errors in its log",
        ),
        (
            "nothing but its state",
            with(|f| {
                (f.turns, f.log, f.open_trades) = (None, None, None);
                f.candles.clear();
                f.missed = vec!["a".to_owned(), "b".to_owned()];
            }),
            Degraded,
            Degraded,
            "-???",
            "a; b",
        ),
        (
            "gone",
            Facts { process: Process::Gone("refused".to_owned()), ..Facts::default() },
            Critical,
            Healthy,
            "!???",
            "refused",
        ),
    ];
    for (name, facts, status, own, parts, word) in table {
        let judgement = judge(&facts, &limits(), NOW);
        assert_eq!((judgement.status, marks(&judgement).as_str()), (status, parts), "{name}: {judgement:?}");
        assert_eq!(judgement.signals.own_status, Some(own), "{name}");
        assert!(!judgement.unrunnable, "{name}");
        let told =
            |key: &str| judgement.details.get(key).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
        assert!(told("error").contains(word) || told("warning").contains(word), "{name}: {judgement:?}");
        let broken = parts.find('!').map_or("", |at| BotPart::ALL[at].as_str());
        assert_eq!(told("problem"), broken, "{name}");
    }
}

/// OBS-1: refused credentials are chiron's trouble, not the bot's; its process is known to answer.
#[test]
fn what_cannot_be_asked_is_not_run() {
    let locked = Facts { process: Process::Locked("status 401".to_owned()), ..Facts::default() };
    let judgement = judge(&locked, &limits(), NOW);
    assert!(
        judgement.unrunnable && judgement.status == Status::Unknown && marks(&judgement) == "-???",
        "{judgement:?}"
    );
    let unreachable = Facts { process: Process::Unreachable("no such name".to_owned()), ..Facts::default() };
    let judgement = judge(&unreachable, &limits(), NOW);
    assert!(judgement.unrunnable && marks(&judgement) == "????", "{judgement:?}");
}

/// A stopped bot has the grade that the settings give it.
#[test]
fn stopped_is_as_configured() {
    for stopped in [Status::Healthy, Status::Degraded, Status::Critical] {
        let judgement = judge(&state("stopped"), &Limits { stopped, ..limits() }, NOW);
        assert_eq!((judgement.status, judgement.signals.own_status), (stopped, Some(stopped)));
    }
}

/// A date in the future is doubted, and a clock that jumps makes a loop neither old nor young that was watched meanwhile.
#[test]
fn clocks_that_jump() {
    let seconds = Duration::from_secs;
    let watched =
        |at_least, at_most: Option<u64>| Some(Progress { at_least: seconds(at_least), at_most: at_most.map(seconds) });
    let at = |turned: Timestamp, progress| {
        with(|facts| {
            facts.turns.as_mut().unwrap().last_process = Some(turned);
            facts.progress = progress;
        })
    };
    let ahead = NOW.plus(seconds(3600));
    for (name, facts, parts) in [
        ("within the tolerance", at(NOW.plus(seconds(5)), None), "----"),
        ("in the future, never watched", at(ahead, watched(0, None)), "-?--"),
        ("set back, and the loop turned", at(ahead, watched(0, Some(10))), "----"),
        ("set back, and the loop stands", at(ahead, watched(121, Some(131))), "-!??"),
        ("set forward, and the loop turned", at(ago(3600), watched(0, Some(10))), "----"),
        ("set forward, and the loop stands", at(ago(3600), watched(130, Some(140))), "-!??"),
        ("old already when first seen", at(ago(3600), watched(0, None)), "-!??"),
    ] {
        assert_eq!(marks(&judge(&facts, &limits(), NOW)), parts, "{name}");
    }
}

/// OBS-3: the details and numbers that scripts rely on.
#[test]
fn details_have_fixed_keys() {
    let judgement = judge(&well(), &limits(), NOW);
    let keys: Vec<&String> = judgement.details.keys().collect();
    let mut expected = [
        "state",
        "runmode",
        "dry_run",
        "version",
        "max_open_trades",
        "open_trades",
        "log_errors",
        "exchange_errors",
        "strategy_errors",
        "loop_age_seconds",
        "candle_age_seconds",
    ];
    expected.sort_unstable();
    let mut found: Vec<&str> = keys.iter().map(|key| key.as_str()).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    let numbers: Vec<(&str, f64)> = judgement.perfdata.iter().map(|one| (one.label.as_str(), one.value)).collect();
    assert_eq!(numbers, [("open_trades", 1.0), ("log_errors", 0.0), ("loop_age", 3.0), ("candle_age", 100.0)]);
}
