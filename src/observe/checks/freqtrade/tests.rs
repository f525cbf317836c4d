//! The order of the questions, a reload, a bot that is gone or stands still, and hostile ones.
#![expect(clippy::disallowed_methods, reason = "a password is laid out")]

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const NOW: Timestamp = Timestamp::from_millis(1_795_378_500_000);

/// A bot that answers by path; what is not listed is 404.
struct Served {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    _ends: tokio::task::JoinSet<()>,
}

async fn serve(answers: &[(&str, Vec<u8>)]) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answers: BTreeMap<String, Vec<u8>> =
        answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&asked);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            let line = String::from_utf8_lossy(&request[..count]).into_owned();
            let path = line.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
            let name = path.trim_start_matches("/api/v1/").to_owned();
            let answer = answers.get(&name).cloned().unwrap_or_else(|| said("404 Not Found", "{}"));
            told.lock().unwrap().push(name);
            let _ = stream.write_all(&answer).await;
        }
    });
    Served { address, asked, _ends: tasks }
}

fn said(status: &str, body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    format!("{head}{body}").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    said("200 OK", body)
}

fn bot(state: &str) -> Vec<(&'static str, Vec<u8>)> {
    let config = format!(
        r#"{{"version":"2026.9","dry_run":true,"max_open_trades":2.0,"timeframe":"1m","timeframe_ms":60000,
             "state":"{state}","runmode":"dry_run"}}"#
    );
    vec![
        ("ping", ok(r#"{"status":"pong"}"#)),
        ("show_config", ok(&config)),
        ("health", ok(r#"{"last_process_ts":1795378498,"bot_startup_ts":1795370000}"#)),
        ("logs", ok(r#"{"logs":[]}"#)),
        ("count", ok(r#"{"current":1}"#)),
        ("status", ok("[{}]")),
        (concat!("white", "list"), ok(concat!(r#"{"white"#, r#"list":["BTC/USDT","ETH/USDT"]}"#))),
        ("pair_candles", ok(r#"{"data_stop_ts":1795378380000}"#)),
    ]
}

fn check(address: &str) -> (Bot, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let password_file = folder.path().join("password");
    std::fs::write(&password_file, "correct-horse\n").unwrap();
    let client = http::client().unwrap();
    let url = Url::parse(&format!("http://{address}")).unwrap();
    let check = Bot {
        bot: Freqtrade::new(client.clone(), url, "chiron".to_owned()),
        password_file,
        limits: Limits {
            loop_age: AgeLimits::new(Duration::from_secs(60), Duration::from_secs(120)),
            max_candle_age: None,
            log_window: Duration::from_secs(300),
            max_log_errors: 3,
            stopped: Status::Degraded,
        },
        pairs: Vec::new(),
        probe: None,
        client,
        timeout: Duration::from_secs(5),
        clock: Clock::manual(NOW),
        watched: Mutex::default(),
    };
    (check, folder)
}

fn problem(judgement: &Judgement) -> &str {
    judgement.details.get("problem").and_then(|value| value.as_str()).unwrap_or_default()
}

/// OBS-9: a bot at work is asked everything once, the first of its pairs only; a stopped one is not asked what it refuses.
#[tokio::test]
async fn the_right_questions_in_order() {
    let served = serve(&bot("running")).await;
    let (check, _folder) = check(&served.address);
    let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
    assert_eq!(judgement.status, Status::Healthy, "{judgement:?}");
    let list = concat!("white", "list");
    let asked = std::mem::take(&mut *served.asked.lock().unwrap());
    assert_eq!(asked, ["ping", "show_config", "health", "logs", "count", list, "pair_candles"]);

    let served = serve(&bot("stopped")).await;
    let (check, _folder) = self::check(&served.address);
    let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
    assert_eq!((judgement.status, judgement.details["open_trades"].as_u64()), (Status::Degraded, Some(1)));
    assert_eq!(*served.asked.lock().unwrap(), ["ping", "show_config", "health", "logs", "status"]);
}

/// A reload takes the API away for a moment: that is no problem of the process. A bot that stays away is one.
#[tokio::test]
async fn a_reload_is_sat_out() {
    let served = serve(&bot("running")).await;
    let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = front.local_addr().unwrap().to_string();
    let (check, _folder) = check(&address);
    let closed = AtomicUsize::new(0);
    let reload = async {
        // The first connection is lost; later ones reach the bot.
        drop(front.accept().await.unwrap());
        closed.fetch_add(1, Ordering::SeqCst);
        loop {
            let (mut here, _) = front.accept().await.unwrap();
            let mut there = tokio::net::TcpStream::connect(&served.address).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
        }
    };
    let facts = tokio::select! { facts = Check::read(&check) => facts, () = reload => unreachable!() };
    assert_eq!(closed.load(Ordering::SeqCst), 1);
    assert_eq!(Check::judge(&check, &facts, NOW).status, Status::Healthy, "{facts:?}");

    drop(front);
    let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
    assert_eq!((judgement.status, problem(&judgement)), (Status::Critical, "process"));
    assert!(judgement.details["error"].as_str().unwrap().contains(&address), "{judgement:?}");
}

/// A stopped process takes connections and answers nothing: the whole reading costs `timeout`.
#[tokio::test(start_paused = true)]
async fn silence_is_a_problem_of_the_process() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (check, _folder) = check(&listener.local_addr().unwrap().to_string());
    let begun = Instant::now();
    let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
    assert_eq!(problem(&judgement), "process", "{judgement:?}");
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

/// OBS-1: hostile answers cost bounded memory and are told with their place; the password and 401 are no problem of the bot.
#[tokio::test]
async fn hostile_answers() {
    let huge = |count: usize| {
        let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n".to_vec();
        answer.resize(answer.len() + count, b'[');
        answer
    };
    let away = b"HTTP/1.1 307 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec();
    for (path, answer, expected, word) in [
        ("ping", huge(2 << 20), "process", "ping: it answered more than"),
        ("ping", away.clone(), "process", "ping: status 307"),
        ("ping", ok(r#"{"status":"ok"}"#), "process", "something else than a pong"),
        (
            "show_config",
            said("500 Internal Server Error", "Internal Server Error"),
            "process",
            "show_config: status 500",
        ),
        ("show_config", ok("{}"), "process", "show_config: its answer is not understood"),
        ("show_config", said("401 Unauthorized", "{}"), "", "status 401"),
        ("logs", huge(9 << 20), "", "logs: it answered more than 8388608 bytes"),
        ("logs", ok(r#"{"logs":[[1]]}"#), "", "logs: its answer is not understood"),
        ("health", away, "", "health: status 307"),
        ("pair_candles", said("500 Internal Server Error", "plain"), "", "pair_candles: status 500, expected 200"),
    ] {
        let mut answers = bot("running");
        answers.iter_mut().filter(|(name, _)| *name == path).for_each(|(_, kept)| kept.clone_from(&answer));
        let served = serve(&answers).await;
        let (check, _folder) = check(&served.address);
        let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
        let told = format!("{:?}", judgement.details);
        assert_eq!(problem(&judgement), expected, "{path}: {told}");
        assert!(told.contains(word) && !told.contains("correct-horse"), "{path}: {told}");
        assert_ne!(judgement.status, Status::Healthy, "{path}");
        assert_eq!(judgement.unrunnable, word == "status 401", "{path}");
    }
}

/// chiron's own question to the exchange tells an exchange problem while the bot looks well.
#[tokio::test]
async fn the_exchange_is_probed() {
    let exchange = serve(&[("ok", ok("{}")), ("down", said("503 Service Unavailable", ""))]).await;
    let served = serve(&bot("running")).await;
    for (path, expected) in [("ok", ""), ("down", "exchange"), ("elsewhere", "exchange")] {
        let (mut check, _folder) = check(&served.address);
        check.probe = Some(Url::parse(&format!("http://{}/api/v1/{path}?key=canary", exchange.address)).unwrap());
        let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
        assert_eq!(problem(&judgement), expected, "{judgement:?}");
        assert!(!format!("{judgement:?}").contains("canary"), "{judgement:?}");
    }
}

/// The clock may jump: a loop that was seen to turn is not old, and one that was seen to stand is not young. One that need not
/// turn does not stand still, and one without a date has stood still for no longer than it was watched.
#[test]
fn a_loop_is_watched() {
    let (check, _folder) = check("127.0.0.1:1");
    let at = |millis| Some(Timestamp::from_millis(millis));
    let step = Duration::from_secs(10);
    let seen = |turned, at_rest| {
        let progress = check.watch(turned, at_rest);
        check.clock.advance(step);
        (progress.at_least.as_secs(), progress.at_most.map(|most| most.as_secs()))
    };
    assert_eq!(seen(at(1), false), (0, None));
    assert_eq!(seen(at(1), false), (10, None));
    assert_eq!(seen(at(2), false), (0, Some(10)));
    check.clock.jump(3_600_000);
    assert_eq!(seen(at(2), false), (10, Some(20)));
    assert_eq!(seen(at(2), true), (0, Some(0)), "it was stopped");
    assert_eq!(seen(at(2), false), (10, Some(10)), "and runs again, with the date of its last turn before");
    assert_eq!(seen(None, false), (0, Some(10)), "another process");
    assert_eq!(seen(None, false), (10, Some(20)));
}

/// OBS-9: a bot that stopped itself stays one when its log has forgotten it, and until it leaves that state.
#[tokio::test]
async fn a_halt_is_remembered() {
    let halt = r#"{"logs":[["",1795378481707.0,"freqtrade.worker","ERROR","OperationalException. Stopping trader ...\nno key"],
                  ["",1795378481708.0,"freqtrade.worker","INFO","Changing state from RUNNING to: STOPPED"]]}"#;
    let beats = r#"{"logs":[["",1795378499000.0,"freqtrade.worker","INFO","Bot heartbeat."]]}"#;
    let begun = r#"{"logs":[["",1795378499000.0,"freqtrade.worker","INFO","Starting worker 2026.9"]]}"#;
    let (mut check, _folder) = check("127.0.0.1:1");
    let mut served;
    for (state, log, expected) in [
        ("stopped", beats, ""),
        ("stopped", halt, "loop"),
        ("stopped", beats, "loop"),
        ("stopped", r#"{"logs":[[1]]}"#, "loop"),
        ("running", beats, ""),
        ("stopped", beats, ""),
        ("stopped", halt, "loop"),
        ("stopped", begun, ""),
        ("stopped", beats, ""),
    ] {
        let mut answers = bot(state);
        answers.iter_mut().filter(|(name, _)| *name == "logs").for_each(|(_, kept)| *kept = ok(log));
        served = serve(&answers).await;
        let url = Url::parse(&format!("http://{}", served.address)).unwrap();
        check.bot = Freqtrade::new(check.client.clone(), url, "chiron".to_owned());
        let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
        assert_eq!(problem(&judgement), expected, "{state} {log}: {judgement:?}");
    }
}
