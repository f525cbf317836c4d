//! URLs, grades, and servers that misbehave.

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::observe::checks::testing::NOW;

fn check(url: &str) -> Redis {
    Redis {
        target: target(url).unwrap(),
        trust: None,
        username: None,
        password_file: None,
        max_memory_bytes: Some(1000),
        degraded_latency: Some(Duration::from_millis(100)),
        timeout: Duration::from_secs(5),
        cautions: Vec::new(),
        desk: Desk::default(),
        loading: Unready::default(),
        clock: Clock::manual(NOW),
    }
}

/// What the check makes of a server that does `serve` with its one connection.
async fn against<F: Future<Output = ()>>(serve: impl FnOnce(TcpStream) -> F) -> Judgement {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = check(&format!("redis://{}", listener.local_addr().unwrap()));
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

/// Answers each command with the next of `replies`.
async fn replying(replies: &[&str]) -> Judgement {
    against(|mut stream| async move {
        let mut command = [0; 1024];
        for reply in replies {
            let _ = stream.read(&mut command).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    })
    .await
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// OBS-7: what a server refuses with is told apart; what is chiron's own fault is no finding.
#[tokio::test]
async fn refusals_are_told_apart() {
    for (reply, status, reason) in [
        ("-NOAUTH Authentication required.\r\n", Status::Unknown, "login"),
        ("-WRONGPASS invalid username-password pair or user is disabled.\r\n", Status::Unknown, "login"),
        ("-NOPERM this user has no permissions to run the 'ping' command\r\n", Status::Unknown, "login"),
        ("-LOADING Redis is loading the dataset in memory\r\n", Status::Degraded, "loading"),
        ("-MASTERDOWN Link with MASTER is down\r\n", Status::Critical, "primary_down"),
        ("-MISCONF Redis is configured to save RDB snapshots\r\n", Status::Critical, "cannot_save"),
        ("-ERR max number of clients reached\r\n", Status::Critical, "too_many_connections"),
        ("-DENIED Redis is running in protected mode\r\n", Status::Critical, "refused"),
    ] {
        let judgement = replying(&[reply]).await;
        assert_eq!((judgement.status, judgement.unrunnable), (status, status == Status::Unknown), "{reply}");
        assert_eq!(judgement.details["reason"], reason);
        let error = judgement.details["error"].as_str().unwrap();
        assert!(error.starts_with("127.0.0.1:") && error.ends_with(reply[1..].trim_end()), "{error}");
    }
}

/// OBS-7: `INFO` decides beyond the `PONG`.
#[tokio::test]
async fn what_info_says() {
    let plain = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nused_memory:1000\r\nloading:0\r\n";
    for (info, status, warning) in [
        (plain.to_owned(), Status::Healthy, ""),
        (plain.replace("1000", "1001"), Status::Degraded, "1001 bytes of memory are in use, expected at most 1000"),
        (plain.replace("loading:0", "loading:1"), Status::Degraded, "still loads its data"),
        (format!("{plain}master_link_status:down\r\n"), Status::Degraded, "the link to its primary is down"),
        (format!("{plain}master_link_status:up\r\n"), Status::Healthy, ""),
        (format!("{plain}rdb_last_bgsave_status:err\r\n"), Status::Degraded, "its last snapshot failed"),
        (format!("{plain}aof_last_write_status:err\r\n"), Status::Degraded, "its last write to"),
    ] {
        let judgement = replying(&["+PONG\r\n", &bulk(&info)]).await;
        assert_eq!(judgement.status, status, "{info}");
        assert_eq!(
            (&judgement.details["role"], &judgement.details["server_version"]),
            (&"primary".into(), &"7.0.15".into())
        );
        let found = judgement.details.get("warning").map_or("", |text| text.as_str().unwrap());
        assert!(found.starts_with(warning) && found.is_empty() == warning.is_empty(), "{found}");
    }
    // What was asked for and cannot be known is not healthy.
    for (info, warning) in [
        ("-NOPERM no permissions\r\n".to_owned(), "INFO is refused, its memory is not known"),
        (bulk("role:master\r\n"), "INFO has no `used_memory`"),
    ] {
        let judgement = replying(&["+PONG\r\n", &info]).await;
        assert_eq!(judgement.status, Status::Degraded, "{info}");
        assert!(judgement.details["warning"].as_str().unwrap().starts_with(warning), "{judgement:?}");
    }
    let check = Redis { max_memory_bytes: None, ..check("redis://a") };
    let info = [("refused".to_owned(), "NOPERM no permissions".to_owned())].into();
    let judgement = Check::judge(&check, &Ok(Answer { info, ..Answer::default() }), NOW);
    assert_eq!((judgement.status, &judgement.details["info"]), (Status::Healthy, &"NOPERM no permissions".into()));
}

/// OBS-7: nonsense, endless data, a giant announced and a giant sent each cost bounded memory and a sentence.
#[tokio::test]
async fn hostile_servers() {
    for (begin, endless, words) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "", "answers `HTTP/1.1 400 Bad Request`, expected a reply of Redis"),
        ("+OK\r\n", "", "answers `OK` to PING"),
        ("", "", "closed the connection"),
        ("$1073741824\r\n", "x", "announces a reply of 1073741824 bytes"),
        ("$-1\r\n", "", "answers `$-1`"),
        ("*1\r\n$4\r\nPONG\r\n", "", "answers `*1`"),
        ("", "x", "answers `xxxx"),
        ("$262000\r\n", "x", "answers `"),
        ("+PONG\r\n$262144\r\n", "x", "sent more than 262144 bytes"),
    ] {
        let judgement = against(|mut stream| async move {
            let mut command = [0; 1024];
            let _ = stream.read(&mut command).await.unwrap();
            stream.write_all(begin.as_bytes()).await.unwrap();
            let more = endless.repeat(65_536);
            while !more.is_empty() && stream.write_all(more.as_bytes()).await.is_ok() {}
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
    let check = check(&format!("redis://{}", listener.local_addr().unwrap()));
    drop(listener);
    let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
    assert_eq!((judgement.status, &judgement.details["reason"]), (Status::Critical, &"unreachable".into()));
}

/// OBS-7: no password stands in a URL.
#[test]
fn urls() {
    for (url, place, database, tls) in [
        ("redis://127.0.0.1", "127.0.0.1:6379", 0, false),
        ("redis://cache.example:1/3", "cache.example:1", 3, false),
        ("rediss://[::1]:7/", "[::1]:7", 0, true),
        ("unix:///run/redis/redis.sock", "/run/redis/redis.sock", 0, false),
        ("unix:///run/my%20redis/a%C3%A4", "/run/my redis/a\u{e4}", 0, false),
        ("unix:///run/my redis/\u{e4}", "/run/my redis/\u{e4}", 0, false),
    ] {
        let found = target(url).unwrap_or_else(|error| panic!("{url}: {error:?}"));
        assert_eq!((found.address.to_string().as_str(), found.database, found.tls), (place, database, tls), "{url}");
    }
    for (url, rule) in [
        ("http://a", "such as redis://"),
        ("redis://", "such as redis://"),
        ("unix://host/path", "such as redis://"),
        ("unix:///run/a%zz", "such as redis://"),
        ("unix:///run/a%00", "such as redis://"),
        ("redis://:canary-in-a-url@a", "without a login"),
        ("redis://user@a", "without a login"),
        ("redis://a/x", "number of a database"),
        ("redis://a?password=canary-in-a-url", "without parameters"),
    ] {
        let (found, _) = target(url).err().unwrap_or_else(|| panic!("{url} is taken"));
        assert!(found.contains(rule), "{url}: {found}");
    }
}

#[test]
fn both_sides_of_the_latency() {
    for (millis, status) in [(99, Status::Healthy), (100, Status::Degraded)] {
        let answer = Answer { latency: Duration::from_millis(millis), ..Answer::default() };
        let check = Redis { max_memory_bytes: None, ..check("redis://a") };
        assert_eq!(Check::judge(&check, &Ok(answer), NOW).status, status, "{millis}");
    }
}

/// OBS-7: a server that loads for ever is not merely degraded, whether it says so to `PING` or in `INFO`.
#[tokio::test]
async fn both_sides_of_loading() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = Redis {
        max_memory_bytes: None,
        degraded_latency: None,
        ..check(&format!("redis://{}", listener.local_addr().unwrap()))
    };
    let info = ["+PONG\r\n".to_owned(), bulk("loading:1\r\n")];
    let refusal = ["-LOADING Redis is loading the dataset in memory\r\n".to_owned()];
    for (advance, replies, status) in [
        (0, &refusal[..], Status::Degraded),
        (299, &info[..], Status::Degraded),
        (1, &info[..], Status::Critical),
        (0, &refusal[..], Status::Critical),
    ] {
        check.clock.advance(Duration::from_secs(advance));
        check.clock.jump(-86_400_000);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            for reply in replies {
                let _ = stream.read(&mut [0; 1024]).await.unwrap();
                stream.write_all(reply.as_bytes()).await.unwrap();
            }
        };
        let (reading, ()) = tokio::join!(Check::read(&check), serve);
        let judgement = Check::judge(&check, &reading, NOW);
        assert_eq!((judgement.status, &judgement.details["reason"]), (status, &"loading".into()), "{judgement:?}");
        assert_eq!(
            status == Status::Critical,
            judgement.details.get("error").is_some_and(|error| { error.as_str().unwrap().contains("300 s") }),
            "{judgement:?}"
        );
    }
}
