//! Every source against well and spoilt bots; ages by a clock that is set.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]

use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::base::tree::{Problems, parse};
use crate::model::Pushed;
use crate::observe::checks::testing::{NOW, date, run_at, torture};
use crate::observe::inbox::Inbox;

fn context(workspace: &Path, clock: &Clock) -> BuildContext {
    BuildContext {
        folder: workspace.into(),
        workspace: workspace.to_owned(),
        data_dir: workspace.join("data"),
        log_dir: workspace.join("logs"),
        stale_after: Duration::from_secs(300),
        own_files: Arc::new(Vec::new()),
        clock: clock.clone(),
        http: crate::base::http::client().unwrap(),
        max_error_rate: 0.2,
        max_latency: Duration::from_secs(2),
    }
}

fn try_built(yaml: &str, workspace: &Path, clock: &Clock) -> Result<Arc<dyn AnyCheck>, Vec<String>> {
    let problems = Problems::new("test.yml");
    let root = parse(yaml, &problems).unwrap();
    let mut section = Section::open(&root, "check", &problems).unwrap();
    let built = build(&mut section, &context(workspace, clock));
    section.finish();
    let told: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    if told.is_empty() { Ok(built.unwrap()) } else { Err(told) }
}

fn built(yaml: &str, workspace: &Path, clock: &Clock) -> Arc<dyn AnyCheck> {
    try_built(yaml, workspace, clock).unwrap_or_else(|told| panic!("{told:?}"))
}

fn error(judgement: &Judgement) -> String {
    judgement.details.get("error").map_or(String::new(), |error| error.as_str().unwrap().to_owned())
}

fn change_in(judgement: &Judgement, now: Timestamp) -> Option<i64> {
    judgement.next_change_at.map(|at| at.millis() - now.millis())
}

const FILE: &str = "{from: file, path: vitals.json, degraded_after: 30s, critical_after: 60s}";

/// OBS-9: a file's vitals are as old as they say, else as the file; both sides of each limit, when the rules lose them, and
/// when the grade changes next.
#[test]
fn the_age_of_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vitals.json");
    for (key, dated_by) in [(None, "mtime"), (Some("timestamp"), "timestamp"), (Some("last_update"), "last_update")] {
        for (age, status, given, told, next) in [
            (0, Status::Healthy, true, true, Some(30_000)),
            (29_999, Status::Healthy, true, true, Some(1)),
            (30_000, Status::Degraded, false, true, Some(30_001)),
            (60_000, Status::Degraded, false, true, Some(1)),
            (60_001, Status::Critical, false, false, None),
            (-6_000, Status::Degraded, false, true, Some(1_000)),
        ] {
            let clock = Clock::manual(NOW);
            let check = built(FILE, folder.path(), &clock);
            let at = Timestamp::from_millis(NOW.millis() - age);
            let mut vitals = json!({"task_count": 3});
            key.inspect(|key| vitals[key] = json!(at.rfc3339()));
            std::fs::write(&path, vitals.to_string()).unwrap();
            date(&path, if key.is_some() { NOW.plus(Duration::from_secs(7)) } else { at });
            let found = run_at(&*check, NOW);
            assert_eq!((found.status, found.signals.vitals.is_some()), (status, given), "{key:?} {age}");
            assert_eq!((found.perfdata.len(), change_in(&found, NOW)), (usize::from(told), next), "{key:?} {age}");
            assert_eq!(found.details["timestamp_source"], dated_by);
        }
    }
}

/// OBS-9: a clock that is set makes vitals neither young nor old; only what has passed since boot does.
#[test]
fn a_clock_that_is_set_revives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(NOW);
    let check = built(FILE, folder.path(), &clock);
    let told =
        json!({"timestamp": NOW.rfc3339(), "websocket_status": {"connected": true, "last_update": NOW.rfc3339()}});
    std::fs::write(folder.path().join("vitals.json"), told.to_string()).unwrap();
    for (jump, status) in
        [(-86_400_000, Status::Healthy), (200_000_000, Status::Healthy), (-113_600_000, Status::Healthy)]
    {
        clock.advance(Duration::from_secs(5));
        let before = run_at(&*check, clock.now());
        clock.jump(jump);
        let found = run_at(&*check, clock.now());
        assert_eq!((before.status, found.status), (status, status), "{jump}: {:?}", found.details);
        let socket = found.signals.vitals.unwrap().websocket.clone().unwrap();
        assert_eq!(socket.data_flowing, Some(true), "{jump}");
    }
    clock.advance(Duration::from_secs(46));
    for jump in [-61_000, -86_400_000, 86_400_000] {
        clock.jump(jump);
        let found = run_at(&*check, clock.now());
        assert_eq!((found.status, found.signals.vitals.is_some()), (Status::Critical, false), "{jump}");
    }
}

/// OBS-7, OBS-9: a file that is no vitals is critical and says where and why, in bounded memory; a missing one is as
/// configured.
#[test]
fn spoilt_files() {
    let clock = Clock::manual(NOW);
    for spoilt in torture() {
        let yaml = format!("{{from: file, path: {:?}, missing: degraded}}", spoilt.path);
        let found = run_at(&*built(&yaml, Path::new("/"), &clock), NOW);
        let expected = if spoilt.name == "missing" { Status::Degraded } else { Status::Critical };
        assert_eq!(found.status, expected, "{}", spoilt.name);
        assert!(error(&found).contains(spoilt.error) && error(&found).contains("state.json"), "{}", error(&found));
        assert!(found.signals.vitals.is_none());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vitals.json");
    for (content, told) in [
        (r#"{"error_rate": NaN}"#.to_owned(), "not JSON: expected value"),
        (r#"{"error_rate": "0.1"}"#.to_owned(), "`error_rate`: found `\"0.1\"`, expected a number from 0 to 1"),
        (r#"{"websocket_status": []}"#.to_owned(), "`websocket_status`: found `[]`, expected a mapping"),
        (r#"{"timestamp": {}}"#.to_owned(), "`timestamp`: found `{}`, expected a date"),
        ("[1]".to_owned(), "found no mapping, expected vitals"),
        (format!("[{}1]", "1,".repeat(JSON_MAX)), "expected vitals of at most 1048576"),
    ] {
        std::fs::write(&path, &content).unwrap();
        date(&path, Timestamp::from_millis(NOW.millis() - 10_000));
        let found = run_at(&*built(FILE, folder.path(), &clock), NOW);
        assert_eq!(found.status, Status::Critical, "{told}");
        assert!(error(&found).contains(told), "{}", error(&found));
    }
}

/// OBS-9: what is shown to everybody may have texts of its own, vitals below a pointer, and a word on itself.
#[test]
fn a_status_page_has_vitals_somewhere() {
    let page = br#"{"version": "2.1", "bot": {"status": "degraded", "message": "slow", "mood": "fine", "pnl": -1, "error_rate": 0}}"#;
    let found = shown(page, Some("/bot")).unwrap();
    assert_eq!(found.told.keys().collect::<Vec<_>>(), ["pnl", "error_rate"]);
    assert_eq!(found.claim, Claim { status: Some(Status::Degraded), message: "slow".to_owned() });
    assert!(shown(page, Some("/bots")).unwrap_err().contains("found no mapping at `/bots`"));
    assert_eq!(shown(br#"{"status": "running"}"#, None).unwrap(), Shown::default());
}

/// OBS-9: pushed vitals are as old as they say if that is older than their receipt; a heartbeat alone keeps no vitals young.
#[test]
fn pushed_vitals_have_an_age_of_their_own() {
    let clock = Clock::manual(NOW);
    let check =
        built("{from: push, degraded_after: 30s, critical_after: 60s, missing: critical}", Path::new("/"), &clock);
    let inbox = Inbox::default();
    inbox.replace(vec![("bot".into(), 0, Arc::clone(check.slot().unwrap()))]);
    let look = || {
        let read = std::pin::pin!(check.read());
        let waker = std::task::Waker::noop();
        match std::future::Future::poll(read, &mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(reading) => check.judge(&reading, clock.now()),
            std::task::Poll::Pending => panic!("a slot does not wait"),
        }
    };
    let push = |vitals: Value| {
        let Value::Object(vitals) = vitals else { unreachable!() };
        let pushed = Pushed { name: "bot".into(), at: clock.now(), status: None, message: String::new(), vitals };
        inbox.push(pushed).unwrap();
    };
    assert_eq!(look().status, Status::Unknown);
    push(json!({"task_count": 1}));
    assert_eq!((look().status, look().details["age_seconds"].as_f64()), (Status::Healthy, Some(0.0)));
    clock.advance(Duration::from_secs(31));
    push(json!({}));
    let found = look();
    assert_eq!((found.status, found.signals.vitals.is_some()), (Status::Degraded, false), "a heartbeat has no vitals");
    assert_eq!(found.details["warning"], "Vitals 31s old (stale)");
    push(json!({"task_count": 1, "timestamp": clock.now().minus(Duration::from_secs(40)).rfc3339()}));
    assert_eq!(look().details["age_seconds"].as_f64(), Some(40.0), "it was under way for long");
    clock.jump(-40_000);
    assert_eq!(look().status, Status::Degraded);
    push(json!({"task_count": 1, "error_rate": 0.3}));
    assert_eq!(look().details["warning"], "30.0% of its requests fail, expected at most 20.0%");
    clock.advance(Duration::from_secs(61));
    assert_eq!((look().status, look().perfdata.len()), (Status::Critical, 0));
}

/// Serves `answers`, one connection each, to a check; what it makes of the last.
async fn ask(yaml: &str, answers: &[String], clock: &Clock) -> (Judgement, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = yaml.replace("URL", &format!("http://{}/vitals?token=canary-query", listener.local_addr().unwrap()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "canary-of-the-token\n").unwrap();
    let check = built(&yaml, folder.path(), clock);
    let mut last = None;
    for answer in answers {
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            // It may hang up before it has all of it.
            let _ = stream.write_all(answer.as_bytes()).await;
            String::from_utf8_lossy(&request[..read]).into_owned()
        };
        let (reading, request) = tokio::join!(check.read(), serve);
        last = Some((check.judge(&reading, clock.now()), request));
    }
    last.unwrap()
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// OBS-9: JSON is polled with the headers and the token asked for; whatever else comes is critical, told without a secret.
#[tokio::test]
async fn polled_as_json() {
    let yaml = "{from: http, url: URL, headers: {X-Bot: one}, bearer_token_file: token, timeout: 2s}";
    let clock = Clock::manual(NOW);
    let well = ok(r#"{"websocket_status": {"connected": false, "last_error": "closed"}, "version": "1"}"#);
    let (found, request) = ask(yaml, &[well], &clock).await;
    assert_eq!((found.status, found.signals.own_status), (Status::Critical, Some(Status::Healthy)));
    assert_eq!(found.details["warning"], "its WebSocket is not connected: closed");
    assert_eq!(found.details["timestamp_source"], "received");
    let request = request.to_ascii_lowercase();
    assert!(
        request.contains("x-bot: one") && request.contains("authorization: bearer canary-of-the-token"),
        "{request}"
    );
    for (answer, told) in [
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/x\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "found status 302, a redirect to http://127.0.0.1:1/x, which is not followed",
        ),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_owned(), "found status 500"),
        (ok("<html>"), "not JSON"),
        (ok(""), "empty"),
        (ok("[]"), "found no mapping"),
        (ok(r#"{"memory_usage": 91}"#), "`memory_usage`: found `91`"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 80\r\n\r\n{".to_owned(), "end of file"),
        (ok(&format!("[{}", "1,".repeat(JSON_MAX))), "found more than 1048576 bytes"),
        (String::new(), "/vitals: "),
    ] {
        let (found, _) = ask(yaml, &[answer], &clock).await;
        assert_eq!((found.status, found.signals.vitals.is_none()), (Status::Critical, true), "{told}");
        let error = error(&found);
        assert!(error.contains(told) && error.contains("http://127.0.0.1:") && !error.contains("canary"), "{error}");
    }
}

/// OBS-9: a page that is served and whose date stands still is a bot that has fallen silent.
#[tokio::test]
async fn a_date_that_stands_still_is_silence() {
    let clock = Clock::manual(NOW);
    let at = NOW.minus(Duration::from_secs(59)).rfc3339();
    let yaml = "{from: http, url: URL, degraded_after: 30s, critical_after: 60s}";
    let (found, _) = ask(yaml, &[ok(&format!("{{\"timestamp\": \"{at}\"}}"))], &clock).await;
    assert_eq!((found.status, change_in(&found, NOW)), (Status::Degraded, Some(1_001)));
    assert_eq!(found.details["warning"], "Vitals 59s old (stale)");
}

/// OBS-7: a bot that answers byte by byte costs the timeout and no more.
#[tokio::test(start_paused = true)]
async fn an_answer_without_end() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let yaml = format!("{{from: http, url: \"http://{}/\", timeout: 3s}}", listener.local_addr().unwrap());
    let clock = Clock::manual(NOW);
    let check = built(&yaml, Path::new("/"), &clock);
    let begun = tokio::time::Instant::now();
    let found = check.judge(&check.read().await, NOW);
    assert!(error(&found).ends_with("no whole answer within 3s"), "{}", error(&found));
    assert_eq!(begun.elapsed().as_secs(), 3);
}

const METRICS: &str = "{from: metrics, url: URL, series: {websocket_status.connected: 'bot_ws_up{venue=\"k\"}', \
    websocket_status.latency_ms: {series: bot_ping_seconds, factor: 1000}, error_rate: bot_error_ratio, \
    rate_limit_status: {series: bot_rate_limit_ratio, factor: 100, symbol_label: pair}, task_count: bot_tasks, \
    timestamp: bot_loop_timestamp_seconds}}";

/// OBS-9: series become vitals by name and labels, in the unit of the key; what is absent or no number is unknown.
#[tokio::test]
async fn scraped_from_metrics() {
    let clock = Clock::manual(NOW);
    let page = "# TYPE bot_ws_up gauge\nbot_ws_up{venue=\"k\"} 1\nbot_ws_up{venue=\"other\"} 0\nbot_ping_seconds 0.25\n\
                bot_error_ratio NaN\nbot_rate_limit_ratio{pair=\"BTC/USD\"} 0.86\nbot_rate_limit_ratio{pair=\"ETH/USD\"} 0.1\n\
                bot_tasks 17\nbot_loop_timestamp_seconds 1763861691\n";
    let (found, request) = ask(METRICS, &[ok(page)], &clock).await;
    assert!(request.contains("text/plain;version=0.0.4"), "{request}");
    assert_eq!(found.status, Status::Healthy, "{:?}", found.details);
    assert_eq!((found.details["age_seconds"].as_f64(), &found.details["absent"]), (Some(5.0), &json!(["error_rate"])));
    let vitals = found.signals.vitals.unwrap();
    let socket = vitals.websocket.clone().unwrap();
    assert_eq!((socket.connected, socket.latency_ms), (Some(true), Some(250.0)));
    assert_eq!(vitals.rate_limits, Some(vec![("BTC/USD".into(), 86.0), ("ETH/USD".into(), 10.0)]));
    assert_eq!((vitals.task_count, vitals.error_rate), (Some(17), None));
    for (page, told) in [
        ("<html>\n", "line 1: expected a metric in the text format"),
        ("bot_error_ratio 0.\nbot_tasks 17\nbot_error_ratio 0.1\n", "found a series of `bot_error_ratio` twice"),
        // Cut off within `0.95`: no number is better than a wrong one.
        ("bot_tasks 17\nbot_error_ratio 0.", "the page is cut off: expected a line end after the last line"),
        ("", "found none of the series"),
        ("bot_ws_up{venue=\"k\"} 2\n", "`websocket_status.connected`: found 2, expected 0 or 1"),
        ("bot_error_ratio +Inf\n", "`error_rate`: found inf, expected a number"),
        ("bot_error_ratio 1.5\n", "`error_rate`: found `1.5`, expected a number from 0 to 1"),
        ("bot_error_ratio{a=\"1\"} 0\nbot_error_ratio 0\n", "stands for 2 series, expected one"),
        ("bot_rate_limit_ratio 1\n", "without the label `pair`"),
        ("bot_tasks 1.5\n", "`task_count`: found `1.5`"),
        ("bot_tasks one\n", "line 1: expected a number"),
    ] {
        let (found, _) = ask(METRICS, &[ok(page)], &clock).await;
        assert_eq!(found.status, Status::Critical, "{page}");
        assert!(error(&found).contains(told) && error(&found).contains("/vitals: "), "{page}: {}", error(&found));
    }
    for (end, status) in [("", Status::Critical), ("# EOF", Status::Healthy), ("# EOF\n", Status::Healthy)] {
        let page = ok(&format!("bot_error_ratio 0.1\n{end}"));
        let page = page.replacen("\r\n", "\r\ncontent-type: application/openmetrics-text; version=1.0.0\r\n", 1);
        let (found, _) = ask(METRICS, &[page], &clock).await;
        assert_eq!(found.status, status, "{end:?}: {:?}", found.details);
    }
}

/// OBS-9: each source has its own keys; what belongs to another is refused by name.
#[test]
fn mistakes_in_the_settings() {
    let clock = Clock::manual(NOW);
    for (yaml, told) in [
        ("{}", "check.from: missing, expected one of `push`, `file`, `http`, `metrics`"),
        ("{from: pipe}", "check.from"),
        ("{from: file}", "check.path"),
        ("{from: push, path: x}", "check.path: found `x`, expected no `path` with `from: push`"),
        ("{from: file, path: x, url: 'http://a/'}", "expected no `url` with `from: file`"),
        ("{from: file, path: x, pointer: bot}", "expected a JSON pointer"),
        ("{from: http, url: 'ftp://a/'}", "expected a URL that begins with"),
        ("{from: http, url: 'http://u:p@a/'}", "expected a URL without credentials"),
        ("{from: http, url: 'http://a/', headers: {Authorization: x}}", "expected a secret to come from a file"),
        ("{from: http, url: 'http://a/', series: {a: b}}", "expected no `series` with `from: http`"),
        ("{from: metrics, url: 'http://a/'}", "check.series: missing"),
        ("{from: metrics, url: 'http://a/', series: {}}", "expected at least one vital"),
        ("{from: metrics, url: 'http://a/', series: {websocket_status.mood: b}}", "expected a key of vitals"),
        ("{from: metrics, url: 'http://a/', series: {a: 'b{'}}", "check.series.a"),
        ("{from: metrics, url: 'http://a/', series: {a: {factor: 2}}}", "check.series.a.series"),
        ("{from: push, degraded_after: 2m, critical_after: 1m}", "expected at least degraded_after"),
    ] {
        let refused = try_built(yaml, Path::new("/"), &clock).map(|_| ()).unwrap_err();
        assert!(refused.iter().any(|problem| problem.contains(told)), "{yaml}: {refused:?}");
    }
}
