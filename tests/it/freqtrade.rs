//! The check kind `freqtrade` with a real freqtrade: its process, its loop, its exchange and its strategy fail one by one, and
//! chiron names the right one each time.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Chiron, Config, FREQTRADE_PASSWORD, Freqtrade, wait_for_within};

/// Time for a problem to be seen or to be over, on a machine with other work.
const SOON: Duration = Duration::from_secs(60);

/// `bot` is looked at as usual, with a short memory of its log; `quick` has little patience with its loop, and chiron asks the
/// exchange for it; `locked` has the wrong password.
fn start(dir: &Path, freqtrade: &Freqtrade) -> Chiron {
    let (url, probe) = (freqtrade.url(), freqtrade.exchange_ping());
    std::fs::write(dir.join("password"), FREQTRADE_PASSWORD).expect("a password can be written");
    std::fs::write(dir.join("wrong"), "not-the-password").expect("a password can be written");
    let yaml = format!(
        r#"
flap: {{openings: 50}}
subsystems:
  bot:
    check: {{kind: freqtrade, url: "{url}", username: chiron, password_file: password, log_window: 10s,
      max_log_errors: 1, timeout: 3s}}
  quick:
    check:
      {{kind: freqtrade, url: "{url}", username: chiron, password_file: password, exchange_probe: "{probe}",
        degraded_after: 4s, critical_after: 8s, log_window: 10s, timeout: 3s}}
  locked:
    check: {{kind: freqtrade, url: "{url}", username: chiron, password_file: wrong, timeout: 3s}}
"#
    );
    Chiron::with_config(dir, Config::new(dir).with(&yaml).text()).start()
}

fn health(chiron: &Chiron, subsystem: &str) -> Value {
    chiron.get_json("/status")["subsystem_health"][subsystem].clone()
}

/// The types of the open issues of a subsystem.
fn issues(chiron: &Chiron, subsystem: &str) -> Vec<Value> {
    let page = chiron.get_json(&format!("/api/v1/issues?subsystem={subsystem}"));
    page["issues"].as_array().expect("a list").clone()
}

fn kinds(issues: &[Value]) -> Vec<&str> {
    issues.iter().filter_map(|issue| issue["type"].as_str()).collect()
}

/// Waits until exactly these types are open for a subsystem; gives its issues and its health.
fn open(chiron: &Chiron, subsystem: &str, expected: &[&str]) -> (Vec<Value>, Value) {
    let begun = Instant::now();
    let seen = wait_for_within(&format!("{subsystem} to have {expected:?}"), SOON, || {
        let (found, health) = (issues(chiron, subsystem), health(chiron, subsystem));
        if kinds(&found) == expected { Ok((found, health)) } else { Err((found, health)) }
    });
    eprintln!("{subsystem}: {expected:?} after {:?}", begun.elapsed());
    seen
}

/// Waits until a detail of a health is so.
fn detail(chiron: &Chiron, subsystem: &str, key: &str, expected: &str) -> Value {
    wait_for_within(&format!("{subsystem}: {key} {expected}"), SOON, || {
        let health = health(chiron, subsystem);
        if health["details"][key] == expected { Ok(health) } else { Err(health) }
    })
}

fn symptom(issues: &[Value]) -> &str {
    issues[0]["symptoms"][0].as_str().unwrap_or_default()
}

/// OBS-9, DET-1, OBS-1: frozen candles and an exchange that is away are a problem of the exchange, a strategy that throws is one of
/// the strategy, a loop that sleeps is one of the loop, and a process that is halted or killed is one of the process; paused is
/// healthy, stopped is degraded, and a wrong password is none of the bot's problems.
#[test]
fn a_real_freqtrade_fails_part_by_part() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut freqtrade = Freqtrade::start(dir.path());
    let chiron = start(dir.path(), &freqtrade);
    let loop_is_fresh = |health: &Value| health["details"]["loop_age_seconds"].as_f64().is_some_and(|age| age < 60.0);

    // Candles that stand still leave the loop and the log as they were.
    let (found, seen) = open(&chiron, "bot", &["bot_exchange"]);
    assert!(symptom(&found).starts_with("its newest candle of BTC/USDT began "), "{found:?}");
    assert_eq!((&found[0]["severity"], &seen["status"]), (&"high".into(), &"critical".into()), "{seen}");
    assert!(loop_is_fresh(&seen) && seen["details"]["problem"] == "exchange", "{seen}");
    let locked = wait_for_within("a wrong password", SOON, || match health(&chiron, "locked") {
        health if health["details"]["error"].as_str().is_some_and(|error| error.contains("status 401")) => Ok(health),
        health => Err(health),
    });
    assert_ne!(locked["details"]["problem"], "process", "{locked}");

    freqtrade.exchange("well");
    open(&chiron, "bot", &[]);
    let seen = detail(&chiron, "bot", "state", "running");
    assert_eq!((&seen["status"], &seen["details"]["dry_run"]), (&"healthy".into(), &true.into()), "{seen}");
    wait_for_within("a trade", SOON, || {
        let open = chiron.metric("chiron_check_perfdata", &[("subsystem", "bot"), ("label", "open_trades")]);
        if open == Some(1.0) { Ok(()) } else { Err(open) }
    });

    // Paused is well; stopped is degraded and no problem of the loop, however long its last turn is ago.
    freqtrade.tell("pause");
    assert_eq!(detail(&chiron, "bot", "state", "paused")["status"], "healthy");
    freqtrade.tell("stop");
    let stopped = detail(&chiron, "bot", "state", "stopped");
    assert_eq!((&stopped["status"], &stopped["details"]["open_trades"]), (&"degraded".into(), &1.into()), "{stopped}");
    open(&chiron, "bot", &["subsystem_status"]);
    freqtrade.tell("start");
    open(&chiron, "bot", &[]);

    // A strategy that throws at each turn, which only the log tells.
    freqtrade.order("throw");
    let (found, seen) = open(&chiron, "bot", &["bot_strategy"]);
    assert!(symptom(&found).contains("KeyError('no such column')"), "{found:?}");
    assert!(loop_is_fresh(&seen) && seen["status"] == "degraded", "{seen}");
    freqtrade.order("");
    open(&chiron, "bot", &[]);
    open(&chiron, "quick", &[]);

    // A loop that is held up answers pings all the while.
    freqtrade.order("sleep");
    let (found, seen) = open(&chiron, "quick", &["bot_loop"]);
    assert!(symptom(&found).starts_with("its loop last turned "), "{found:?}");
    assert_eq!((&seen["details"]["state"], &seen["details"]["problem"]), (&"running".into(), &"loop".into()), "{seen}");
    assert_eq!(kinds(&issues(&chiron, "bot")), Vec::<&str>::new(), "it has more patience");
    freqtrade.order("");
    open(&chiron, "quick", &[]);

    // A halted process takes connections and answers nothing.
    freqtrade.signal(Signal::STOP);
    let (found, _) = open(&chiron, "bot", &["bot_process"]);
    assert!(symptom(&found).ends_with("/api/v1/ping: no answer in time"), "{found:?}");
    freqtrade.signal(Signal::CONT);
    open(&chiron, "bot", &[]);
    open(&chiron, "quick", &[]);

    // An exchange that is away is seen by chiron's own probe, and by the calls that the bot's log tells of.
    freqtrade.exchange("away");
    let (found, seen) = open(&chiron, "quick", &["bot_exchange"]);
    assert!(symptom(&found).contains("/api/v3/ping: status 503"), "{found:?}");
    assert_eq!(seen["details"]["problem"], "exchange", "{seen}");
    let (found, seen) = open(&chiron, "bot", &["bot_exchange"]);
    let told = symptom(&found);
    assert!(told.contains("calls to the exchange failed in 10s") && !told.contains("://"), "{found:?}");
    assert!(loop_is_fresh(&seen), "its loop turns on: {seen}");
    freqtrade.exchange("well");
    open(&chiron, "bot", &[]);

    freqtrade.kill9();
    let (found, _) = open(&chiron, "bot", &["bot_process"]);
    assert_eq!((&found[0]["severity"], &found[0]["subsystem"]), (&"critical".into(), &"bot".into()), "{found:?}");
    assert!(symptom(&found).contains("/api/v1/ping: "), "{found:?}");
    let steps = chiron.get_json("/api/v1/recommendations").to_string();
    assert!(steps.contains("restart_subsystem for bot"), "{steps}");
    assert!(!chiron.log().contains(FREQTRADE_PASSWORD) && !chiron.metrics().contains(FREQTRADE_PASSWORD));
}
