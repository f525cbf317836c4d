//! URLs, grades, and servers that misbehave.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::observe::checks::testing::NOW;

fn check(url: &str) -> Postgres {
    let Target { config, address, tls } = target(url).unwrap();
    Postgres {
        config,
        address,
        trust: tls.then(Trust::default),
        password_file: None,
        query: "SELECT 1".to_owned(),
        max_connections_percent: Some(80.0),
        degraded_latency: Some(Duration::from_millis(100)),
        timeout: Duration::from_secs(5),
        desk: Desk::default(),
        starting: Unready::default(),
        clock: Clock::manual(NOW),
    }
}

/// What the check makes of a server that does `serve` with its one connection.
async fn against<F: Future<Output = ()>>(serve: impl FnOnce(TcpStream) -> F) -> Judgement {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = check(&format!("postgres://bot@{}/trades", listener.local_addr().unwrap()));
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    };
    let reading = tokio::select! {
        reading = Check::read(&check) => reading,
        () = async { served.await; std::future::pending().await } => unreachable!(),
    };
    Check::judge(&check, &reading, NOW)
}

/// A message of the server: its type, its length, its content.
fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), content].concat()
}

/// What a server says that refuses.
fn refusal(code: &str, text: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0VFATAL\0C{code}\0M{text}\0\0").as_bytes())
}

/// OBS-7: what a server says of itself is told apart; what is chiron's own fault is no finding.
#[tokio::test]
async fn refusals_are_told_apart() {
    for (code, text, status, reason) in [
        ("28P01", "password authentication failed for user \"bot\"", Status::Unknown, "login"),
        ("28000", "role \"bot\" does not exist", Status::Unknown, "login"),
        ("3D000", "database \"trades\" does not exist", Status::Critical, "unknown_database"),
        ("53300", "sorry, too many clients already", Status::Critical, "too_many_connections"),
        ("57P03", "the database system is starting up", Status::Degraded, "starting_up"),
        ("57P03", "the database system is shutting down", Status::Critical, "shutting_down"),
        ("57P01", "terminating connection due to administrator command", Status::Critical, "shutting_down"),
    ] {
        let judgement = against(|mut stream| async move {
            let mut startup = [0; 1024];
            let _ = stream.read(&mut startup).await.unwrap();
            stream.write_all(&refusal(code, text)).await.unwrap();
        })
        .await;
        assert_eq!((judgement.status, judgement.unrunnable), (status, status == Status::Unknown), "{judgement:?}");
        assert_eq!(judgement.details["reason"], reason);
        let error = judgement.details["error"].as_str().unwrap();
        assert!(error.ends_with(&format!("/trades: {text} ({code})")), "{error}");
    }
}

/// OBS-7: nonsense, endless data, a giant announced and a giant sent each cost bounded memory and a sentence.
#[tokio::test]
async fn hostile_servers() {
    let greeting = message(b'R', &[0; 4]);
    let notice = message(b'N', &vec![b'x'; 60_000]);
    for (begin, endless, words) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), None, "/trades: "),
        (vec![], None, "connection closed"),
        (vec![0xff; 64], None, "invalid message length"),
        (vec![b'R', 0x7f, 0xff, 0xff, 0xff], Some(vec![b'x'; 65_536]), "sent more than 1048576 bytes"),
        (greeting, Some(notice), "sent more than 1048576 bytes"),
    ] {
        let judgement = against(|mut stream| async move {
            let mut startup = [0; 1024];
            let _ = stream.read(&mut startup).await.unwrap();
            stream.write_all(&begin).await.unwrap();
            while let Some(more) = &endless {
                if stream.write_all(more).await.is_err() {
                    break;
                }
            }
        })
        .await;
        assert_eq!(
            (judgement.status, &judgement.details["reason"]),
            (Status::Critical, &"broken".into()),
            "{judgement:?}"
        );
        let error = judgement.details["error"].as_str().unwrap();
        assert!(error.contains(words) && error.len() < 400, "{words}: {error}");
    }
}

/// OBS-5: a server that accepts and stays silent costs the timeout, and is told from one that refuses.
#[tokio::test(start_paused = true)]
async fn silence_is_not_refusal() {
    let judgement = against(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let error = judgement.details["error"].as_str().unwrap();
    assert!(error.ends_with("accepts connections, but gave no answer within 5s"), "{error}");
    assert_eq!((judgement.status, &judgement.details["reason"]), (Status::Critical, &"timeout".into()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = check(&format!("postgres://bot@{}/trades", listener.local_addr().unwrap()));
    drop(listener);
    let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
    assert_eq!((judgement.status, &judgement.details["reason"]), (Status::Critical, &"unreachable".into()));
}

/// OBS-7: TLS is the default off this machine, a certificate is always verified, and no password stands in a URL.
#[test]
fn urls() {
    for (url, place, tls) in [
        ("postgres://bot@127.0.0.1/trades", "127.0.0.1:5432/trades", false),
        ("postgresql://bot@localhost:1", "localhost:1/bot", false),
        ("postgres://bot@[::1]:7/t", "[::1]:7/t", false),
        ("postgres://bot@db.example/t", "db.example:5432/t", true),
        ("postgres://bot@db.example/t?sslmode=disable", "db.example:5432/t", false),
        ("postgres://bot@127.0.0.1/t?options=-c%20a&sslmode=verify-full", "127.0.0.1:5432/t", true),
        ("postgres://bot@/t?host=/run/postgresql", "/run/postgresql/.s.PGSQL.5432/t", false),
    ] {
        let found = target(url).unwrap_or_else(|error| panic!("{url}: {error:?}"));
        assert_eq!(found.tls, tls, "{url}");
        assert_eq!(check(url).place(), place);
    }
    for (url, rule) in [
        ("http://bot@a/t", "begins with postgres://"),
        ("postgres://bot:canary-in-a-url@a/t", "without a password"),
        ("postgres://bot@a/t?password=canary-in-a-url", "without a password"),
        ("postgres://a/t", "with a user"),
        ("postgres://bot@a,b/t", "one host"),
        ("postgres://bot@/t", "one host"),
        ("postgres://bot@a/t?sslmode=prefer", "sslmode to be"),
        ("postgres://bot@/t?host=/run&sslmode=require", "no sslmode"),
        ("postgres://bot@a:x/t", "such as postgres://"),
        ("postgres://bot@a/t?canary-in-a-url=1", "expected only the parameters sslmode, host"),
        ("postgres://bot@a/t?target%5Fsession_attrs=any", "expected only the parameters"),
        ("postgres://bot@a/t?target_session_attrs=read-write", "in the URL, not target_session_attrs"),
        ("postgres://bot@a/t?sslmode=disable&hostaddr=10.0.0.1", "in the URL, not hostaddr"),
        ("postgres://bot@a/t?connect_timeout=1", "in the URL, not connect_timeout"),
    ] {
        let (found, _) = target(url).err().unwrap_or_else(|| panic!("{url} is taken"));
        assert!(found.contains(rule) && !found.contains("canary"), "{url}: {found}");
    }
}

/// OBS-7: a server that starts up for ever is not merely degraded.
#[tokio::test]
async fn both_sides_of_starting_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = check(&format!("postgres://bot@{}/trades", listener.local_addr().unwrap()));
    for (advance, status) in [(0, Status::Degraded), (299, Status::Degraded), (1, Status::Critical)] {
        check.clock.advance(Duration::from_secs(advance));
        check.clock.jump(-86_400_000);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await.unwrap();
            stream.write_all(&refusal("57P03", "the database system is starting up")).await.unwrap();
        };
        let (reading, ()) = tokio::join!(Check::read(&check), serve);
        let judgement = Check::judge(&check, &reading, NOW);
        assert_eq!((judgement.status, &judgement.details["reason"]), (status, &"starting_up".into()), "{judgement:?}");
    }
}

/// OBS-7: a limit that cannot be judged is told, and nothing is where there is none.
#[test]
fn connections_that_are_not_told() {
    let mut check = check("postgres://bot@a/t");
    let reading = Ok(Answer::default());
    let judgement = Check::judge(&check, &reading, NOW);
    assert_eq!(judgement.status, Status::Degraded);
    assert!(judgement.details["warning"].as_str().unwrap().contains("does not tell how many"), "{judgement:?}");
    check.max_connections_percent = None;
    assert_eq!(Check::judge(&check, &reading, NOW).status, Status::Healthy);
}

#[test]
fn both_sides_of_the_limits() {
    for (millis, used, status) in
        [(99, 80, Status::Healthy), (100, 80, Status::Degraded), (0, 81, Status::Degraded), (100, 81, Status::Degraded)]
    {
        let answer = Answer {
            latency: Duration::from_millis(millis),
            version: Some("15.7".to_owned()),
            in_recovery: Some(true),
            connections: Some(used),
            connections_max: Some(100),
        };
        let judgement = Check::judge(&check("postgres://bot@a/t"), &Ok(answer), NOW);
        assert_eq!(judgement.status, status, "{millis} {used}");
        assert_eq!((&judgement.details["role"], judgement.perfdata.len()), (&"replica".into(), 2));
        let warning = judgement.details.get("warning").map_or("", |text| text.as_str().unwrap());
        assert_eq!(warning.contains("81 of 100 connections"), used > 80, "{warning}");
        assert_eq!(warning.contains("answer took"), millis >= 100, "{warning}");
    }
}
