//! SEC-2 at the socket: what one hostile client may not take from all others.
#![expect(clippy::disallowed_methods, reason = "a web configuration file is written")]

use hmac::{Hmac, KeyInit as _, Mac as _};
use tokio::time::{Instant, timeout};

use super::*;
use crate::base::secret::Secret;

const HOOK: &str = "/api/v1/alerts/webhook";

/// Everybody is behind a proxy on loopback, so that a test can be many peers.
fn proxied() -> Settings {
    Settings { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], connections_max: 400, ..settings() }
}

fn signed_hook() -> Fake {
    let hmac = alerts::Hmac {
        secrets: vec![Secret::new("key-of-the-hook")],
        signature_header: "x-sig".to_owned(),
        timestamp_header: "x-time".to_owned(),
        window: Duration::from_secs(300),
    };
    Fake { hook_hmac: Some(hmac), ..Fake::default() }
}

fn signature(time: i64, body: &str) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"key-of-the-hook").unwrap();
    mac.update(format!("{time}:{body}").as_bytes());
    mac.finalize().into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl Running {
    /// Sends a request's head and the beginning of its body, and keeps the connection.
    async fn begin(&self, path: &str, headers: &str, length: usize, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    async fn vitals(&self, peer: &str) -> StatusCode {
        let request = self.request(Method::POST, "/api/v1/vitals").bearer_auth("operator");
        request.header("x-forwarded-for", peer).body(r#"{"subsystem":"bot"}"#).send().await.unwrap().status()
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text).await;
    String::from_utf8_lossy(&text).into_owned()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SEC-2: an HTTP/2 client that opens no window for its answer, and answers every ping, is let go after a minute.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_ends() {
    let server = Running::new().await;
    let begun = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let get = [&[0x82, 0x86, 0x84, 0x41, 9][..], b"localhost"].concat();
    let hello = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // SETTINGS_INITIAL_WINDOW_SIZE 0, then GET /.
        frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]),
        frame(1, 5, 1, &get),
    ];
    stream.write_all(&hello.concat()).await.unwrap();
    let mut answered = false;
    let held = async {
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut payload).await.unwrap();
            answered |= head[3] == 1;
            let reply = match (head[3], head[4]) {
                (4, 0) => frame(4, 1, 0, &[]),
                (6, 0) => frame(6, 1, 0, &payload),
                _ => continue,
            };
            if stream.write_all(&reply).await.is_err() {
                break;
            }
        }
    };
    timeout(Duration::from_secs(300), held).await.expect("the connection is held for ever");
    assert!(answered, "the answer was begun");
    let held = begun.elapsed().as_secs();
    assert!((55..=70).contains(&held), "held for {held} s");
}

/// SEC-2: slow notifications of an unknown sender hold up nobody else, and only so many of their own address.
#[tokio::test(start_paused = true)]
async fn bodies_of_strangers_are_apart() {
    let server = Running::with(signed_hook(), proxied()).await;
    let time = NOW.millis() / 1000;
    let headers = format!("x-time: {time}\r\nx-sig: {}\r\nx-forwarded-for: 192.0.2.66\r\n", "0".repeat(64));
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(server.begin(HOOK, &headers, 7, "{").await);
    }
    let begun = Instant::now();
    assert_eq!(server.vitals("192.0.2.1").await, 202);
    let body = r#"{"n":1}"#;
    let request = server.request(Method::POST, HOOK).header("x-forwarded-for", "192.0.2.2").header("x-time", time);
    assert_eq!(request.header("x-sig", signature(time, body)).body(body).send().await.unwrap().status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(2), "they waited for strangers: {:?}", begun.elapsed());
}

/// SEC-2: without headers that may be right the body of a notification is not even waited for.
#[tokio::test(start_paused = true)]
async fn a_body_is_read_only_for_headers_that_may_be_right() {
    let server = Running::with(signed_hook(), proxied()).await;
    let time = NOW.millis() / 1000;
    let zeros = "0".repeat(64);
    for headers in [
        String::new(),
        format!("x-time: {time}\r\n"),
        format!("x-sig: {zeros}\r\n"),
        format!("x-time: {time}\r\nx-sig: 12\r\n"),
        format!("x-time: {}\r\nx-sig: {zeros}\r\n", time - 301),
    ] {
        let begun = Instant::now();
        let answer = rest(server.begin(HOOK, &headers, 7, "").await).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{headers}: {answer}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{headers}: {:?}", begun.elapsed());
    }
}

/// SEC-2: one peer has a share of the bodies that are read; whoever waits for a turn has all their time left then.
#[tokio::test(start_paused = true)]
async fn a_peer_has_a_share_of_the_bodies() {
    let server = Running::with(Fake::default(), proxied()).await;
    let headers = |peer: u8| format!("authorization: Bearer operator\r\nx-forwarded-for: 192.0.2.{peer}\r\n");
    let body = r#"{"subsystem":"bot"}"#;
    let mut slow = Vec::new();
    for _ in 0..40 {
        slow.push(server.begin("/api/v1/vitals", &headers(66), 19, "{").await);
    }
    let begun = Instant::now();
    assert_eq!(server.vitals("192.0.2.1").await, 202);
    assert!(begun.elapsed() < Duration::from_secs(2), "waited for one peer: {:?}", begun.elapsed());
    for peer in [67, 68, 69, 70].repeat(9) {
        slow.push(server.begin("/api/v1/vitals", &headers(peer), 19, "{").await);
    }
    let mut late = server.begin("/api/v1/vitals", &headers(2), 19, &body[..5]).await;
    tokio::time::sleep(Duration::from_secs(12)).await;
    late.write_all(&body.as_bytes()[5..]).await.unwrap();
    let answer = rest(late).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

/// SEC-2: wrong signatures from an address do not end the right ones from there.
#[tokio::test]
async fn a_right_signature_is_never_too_often() {
    let server = Running::with(signed_hook(), proxied()).await;
    let time = NOW.millis() / 1000;
    let post = |body: &'static str, signature: String| {
        let request = server.request(Method::POST, HOOK).header("x-forwarded-for", "192.0.2.1");
        answer(request.header("x-time", time).header("x-sig", signature).body(body))
    };
    for n in 0..25 {
        let (status, _) = post(r#"{"n":1}"#, "0".repeat(64)).await;
        assert_eq!(status, if n < 20 { 401 } else { 503 }, "{n}");
    }
    assert_eq!(post(r#"{"n":2}"#, signature(time, r#"{"n":2}"#)).await.0, 200);
    assert_eq!(post(r#"{"n":1}"#, "0".repeat(64)).await.0, 503);
}

/// SEC-2: wrong passwords from an address do not end the one that was right from there.
#[tokio::test]
async fn a_password_that_was_right_is_never_too_often() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yml");
    let hash = bcrypt::hash("pass", 4).unwrap();
    std::fs::write(&file, format!("basic_auth_users:\n  alice: {hash}\n  bob: {hash}\n")).unwrap();
    let server = Running::with(Fake::default(), Settings { web_config: Some(file), ..proxied() }).await;
    let scrape = |user: &'static str, password: String, peer: &'static str| {
        let request = server.request(Method::GET, "/metrics").header("x-forwarded-for", peer);
        answer(request.basic_auth(user, Some(password)))
    };
    let pass = || "pass".to_owned();
    assert_eq!(scrape("alice", pass(), "192.0.2.1").await.0, 200);
    for n in 0..25 {
        let _ = scrape("alice", n.to_string(), "192.0.2.1").await;
    }
    assert_eq!(scrape("alice", "other".to_owned(), "192.0.2.1").await.0, 429);
    assert_eq!(scrape("alice", pass(), "192.0.2.1").await.0, 200, "it was right from there before");
    assert_eq!(scrape("bob", pass(), "192.0.2.1").await.0, 429, "this one was not");
    assert_eq!(scrape("bob", pass(), "192.0.2.2").await.0, 200);
}

/// SEC-2: one peer has a share of the long polls and streams.
#[tokio::test(start_paused = true)]
async fn a_peer_has_a_share_of_the_streams() {
    let server = Running::with(Fake::default(), proxied()).await;
    let open = |peer: &'static str| {
        server.request(Method::GET, "/api/v1/policy/stream").header("x-forwarded-for", peer).send()
    };
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(open("192.0.2.1").await.unwrap());
        assert_eq!(held.last().unwrap().status(), 200);
    }
    let refused = open("192.0.2.1").await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_waiters");
    assert_eq!(*server.fake.turned_away.lock().unwrap(), ["read too_many_waiters"], "it is counted");
    assert_eq!(open("192.0.2.2").await.unwrap().status(), 200);
}

/// SEC-1: a name rebound to loopback reads nothing, whatever headers its page makes up; metrics and probes stay open.
#[tokio::test]
async fn a_rebound_name_reads_nothing() {
    for settings in [settings(), Settings { anonymous_read: false, ..settings() }, proxied()] {
        let server = Running::with(Fake::default(), settings.clone()).await;
        let get = |path: &str, host: &str| server.request(Method::GET, path).header("host", host);
        for path in ["/", "/api/v1/config", "/api/v1/report", "/status", "/api/v1/policy/stream"] {
            assert_eq!(answer(get(path, "evil.example")).await.0, 421, "{path}");
        }
        let evil = || get("/status", "evil.example");
        assert_eq!(answer(evil().bearer_auth("operator")).await.0, 200, "no page knows a token");
        if settings.anonymous_read {
            assert_eq!(answer(evil().bearer_auth("wrong")).await.0, 421);
            assert_eq!(answer(evil().header("x-forwarded-for", "192.0.2.1")).await.0, 421);
            assert_eq!(answer(get("/status", "localhost:1").header("origin", "http://evil.example")).await.0, 403);
            assert_eq!(answer(get("/status", "localhost:1").header("origin", "http://localhost:1")).await.0, 200);
            assert_eq!(answer(get("/metrics", "evil.example")).await.0, 200);
        }
        assert_eq!(answer(get("/-/healthy", "evil.example")).await.0, 200);
    }
}
