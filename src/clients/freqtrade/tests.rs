//! The answers of freqtrade 2026.9 as they came, and hostile ones.

use super::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers connections with these bytes, one each; tells what was asked.
async fn answered<T>(answers: Vec<Vec<u8>>, ask: impl AsyncFnOnce(Freqtrade) -> T) -> (T, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1/", listener.local_addr().unwrap());
    let client = crate::base::http::client().unwrap();
    let bot = Freqtrade::new(client, Url::parse(&url).unwrap(), "chiron".to_owned());
    let serve = async {
        let mut asked = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            let _ = stream.write_all(&answer).await;
            asked.push(String::from_utf8_lossy(&request[..count]).into_owned());
        }
        asked
    };
    tokio::join!(ask(bot), serve)
}

fn said(status: &str, body: &str) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    format!("{head}{body}").into_bytes()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn password() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "correct-horse\n").unwrap();
    file
}

/// OBS-9: each question asks the right path, with the password, and understands what freqtrade answers.
#[tokio::test]
async fn questions_and_answers() {
    let file = password();
    let bodies = [
        r#"{"version":"2026.9","strategy_version":null,"dry_run":true,"max_open_trades":2.0,"timeframe":"1m",
            "timeframe_ms":60000,"state":"running","runmode":"dry_run","available_capital":null}"#,
        r#"{"last_process":"2026-11-22T20:14:58.719868Z","last_process_ts":1795378498,"bot_start_ts":1,"bot_startup_ts":null}"#,
        r#"{"current":1,"max":2,"total_stake":0.0}"#,
        r#"[{"trade_id": 1, "orders": []}, {}]"#,
        &format!(r#"{{"{PAIRS}":["BTC/USDT","ETH/USDT"],"length":2}}"#),
        r#"{"pair":"BTC/USDT","data":[],"data_stop":"","data_stop_ts":1795378380000}"#,
        r#"{"pair":"BTC/USDT","data":[],"data_stop":"","data_stop_ts":0}"#,
        r#"{"log_count":1,"logs":[["2026-11-22 20:14:41",1795378481707.518,"freqtrade.worker","INFO","Bot heartbeat."]]}"#,
    ];
    let answers = bodies.iter().map(|body| self::said("200 OK", body)).collect();
    let ((), asked) = answered(answers, async |bot: Freqtrade| {
        let access = bot.log_in(file.path(), soon()).await.unwrap();
        let config = access.show_config(soon()).await.unwrap();
        assert_eq!((config.state.as_str(), config.timeframe_ms, config.max_open_trades), ("running", 60_000, 2.0));
        let turns = access.health(soon()).await.unwrap();
        assert_eq!(turns, Turns { last_process: Some(Timestamp::from_millis(1_795_378_498_000)), startup: None });
        assert_eq!(access.count(soon()).await, Ok(1));
        assert_eq!(access.trades(soon()).await, Ok(2));
        assert_eq!(access.pairs(soon()).await.unwrap(), ["BTC/USDT", "ETH/USDT"]);
        let candle = access.newest_candle("BTC/USDT", "1m", soon()).await;
        assert_eq!(candle, Ok(Some(Timestamp::from_millis(1_795_378_380_000))));
        assert_eq!(access.newest_candle("BTC/USDT", "1m", soon()).await, Ok(None));
        let lines = access.logs(200, soon()).await.unwrap();
        assert_eq!((lines[0].at.millis(), lines[0].module.as_str()), (1_795_378_481_707, "freqtrade.worker"));
    })
    .await;
    let paths: Vec<&str> = asked.iter().map(|request| request.split(' ').nth(1).unwrap()).collect();
    let candles = "/api/v1/pair_candles?pair=BTC%2FUSDT&timeframe=1m&limit=1";
    assert_eq!(paths[0..4], ["/api/v1/show_config", "/api/v1/health", "/api/v1/count", "/api/v1/status"]);
    assert_eq!(paths[5..], [candles, candles, "/api/v1/logs?limit=200"]);
    let basic = "basic y2hpcm9uomnvcnjly3qtag9yc2u="; // `chiron:correct-horse`, in lower case
    for request in asked {
        assert!(request.to_lowercase().contains(&format!("authorization: {basic}")), "{request}");
    }
}

/// OBS-1: every bad answer has its kind, names the place, and tells neither password nor query.
#[tokio::test]
async fn bad_answers_are_told_apart() {
    let file = password();
    let endless = |length: &str| {
        let mut answer = format!("HTTP/1.1 200 OK\r\n{length}\r\n").into_bytes();
        answer.resize(answer.len() + ANSWER_MAX + 2, b' ');
        answer
    };
    let table = [
        (self::said("401 Unauthorized", r#"{"detail":"Unauthorized"}"#), Trouble::Unauthorized, "status 401: expected"),
        (
            self::said("502 Bad Gateway", r#"{"error":"Error querying /api/v1/count: trader is not running"}"#),
            Trouble::Refused,
            "status 502: Error querying /api/v1/count: trader is not running",
        ),
        (
            self::said("500 Internal Server Error", "Internal Server Error"),
            Trouble::Refused,
            "status 500, expected 200",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            Trouble::Refused,
            "status 302",
        ),
        (self::said("200 OK", "<html>"), Trouble::Strange, "not understood"),
        (self::said("200 OK", r#"{"current": -1}"#), Trouble::Strange, "not understood"),
        (endless("Content-Length: 104857600\r\n"), Trouble::Strange, "more than 1048576 bytes"),
        (endless(""), Trouble::Strange, "more than 1048576 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 80\r\n\r\n{".to_vec(), Trouble::Gone, "count: "),
        (Vec::new(), Trouble::Gone, "count: "),
    ];
    for (answer, trouble, text) in table {
        let (found, _) = answered(vec![answer], async |bot: Freqtrade| {
            bot.log_in(file.path(), soon()).await.unwrap().count(soon()).await
        })
        .await;
        let error = found.unwrap_err();
        assert_eq!(error.trouble, trouble, "{error}");
        assert!(error.detail.starts_with("http://127.0.0.1:") && error.detail.contains(text), "{text}: {error}");
        assert!(!error.detail.contains("correct-horse") && error.detail.len() < 400, "{error}");
    }
}

/// A peer that is down, one that is silent, and a password that is not there.
#[tokio::test(start_paused = true)]
async fn nobody_silence_and_no_password() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let bot = Freqtrade::new(crate::base::http::client().unwrap(), url, "chiron".to_owned());
    assert_eq!(bot.ping(soon()).await.unwrap_err().trouble, Trouble::Silent);
    drop(listener);
    let error = bot.ping(soon()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Gone, "{error}");
    assert!(error.detail.contains("/api/v1/ping: "), "{error}");
    let error = bot.log_in(Path::new("/nowhere/password"), soon()).await.unwrap_err();
    assert_eq!(error.trouble, Trouble::Unauthorized);
    assert!(error.detail.contains("`/nowhere/password`: missing"), "{error}");
}
