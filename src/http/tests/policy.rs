//! POL-5 at the socket, on timelines of paused time: tags, long polls, the stream, the lease.

use super::*;
use crate::http::live::{WAITERS_MAX, WAITERS_PER_PEER};

/// A document that differs by its number.
fn numbered(sequence: u64, level: Level) -> Arc<PolicyDocument> {
    Arc::new(PolicyDocument { sequence, ..document(level) })
}

impl Running {
    fn publish(&self, document: Arc<PolicyDocument>) {
        self.fake.policies.0.send_replace(document);
    }

    /// What the decision task does about once a second: the same policy, with a new lease.
    fn renew(&self) {
        let now = self.clock.now();
        let last = self.fake.policy();
        let valid_until = now.plus(Duration::from_secs(30));
        self.publish(Arc::new(PolicyDocument { issued_at: now, valid_until, ..(*last).clone() }));
    }

    /// Lets time pass for the server's clock and its timers.
    async fn pass(&self, seconds: u64) {
        let by = Duration::from_secs(seconds);
        self.clock.advance(by);
        tokio::time::sleep(by).await;
    }

    fn poll(&self, wait: u64, tag: &str) -> reqwest::RequestBuilder {
        self.request(Method::GET, &format!("/api/v1/policy?wait={wait}")).header("if-none-match", tag)
    }
}

/// POL-5: the policy has an ETag; a 304 still tells until when the bot's copy is valid.
#[tokio::test]
async fn the_policy_has_an_etag() {
    let server = Running::new().await;
    let first = server.request(Method::GET, "/api/v1/policy").send().await.unwrap();
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, "W/\"7-no_new_trades\"");
    assert_eq!(first.json::<PolicyDocument>().await.unwrap(), document(Level::NoNewTrades));
    let latched = "\"7-no_new_trades-latched\"";
    for (tag, status) in [
        (etag.as_str(), 304),
        ("\"1-x\", \"7-no_new_trades\"", 304),
        ("*", 304),
        (latched, 200),
        ("\"7-allow_all\"", 200),
    ] {
        let request = server.request(Method::GET, "/api/v1/policy").header("if-none-match", tag);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{tag}");
        assert_eq!(response.headers()["chiron-valid-until"], "2025-11-23T01:55:26Z");
    }
    for query in ["wait=61", "wait=-1", "wait=1.5", "wait=", "waits=1"] {
        assert_eq!(server.get(&format!("/api/v1/policy?{query}")).await.1["code"], "invalid", "{query}");
    }
}

/// POL-5: a long poll ends with the change, or with 304 when its time is over; what changed before it began is answered
/// at once, so that no change is lost between two requests.
#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_the_change() {
    let server = Running::new().await;
    let begun = tokio::time::Instant::now();
    let without = server.request(Method::GET, "/api/v1/policy?wait=60").send().await.unwrap();
    assert_eq!(
        (without.status().as_u16(), begun.elapsed().as_secs()),
        (200, 0),
        "whoever has nothing waits for nothing"
    );

    let known = "\"7-no_new_trades\"";
    let over = server.poll(20, known).send().await.unwrap();
    assert_eq!((over.status().as_u16(), begun.elapsed().as_secs()), (304, 20));

    let (answer, ()) = tokio::join!(server.poll(60, known).send(), async {
        for _ in 0..5 {
            server.pass(1).await;
            server.renew();
        }
        server.publish(numbered(8, Level::DefensiveExit));
    });
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), begun.elapsed().as_secs()), (200, 25), "a renewed lease is no change");
    assert_eq!(answer.json::<PolicyDocument>().await.unwrap().policy, Level::DefensiveExit);

    // It changed there and back before the client asked again: the number tells.
    server.publish(numbered(9, Level::NoNewTrades));
    server.publish(numbered(10, Level::DefensiveExit));
    let missed = server.poll(60, "\"8-defensive_exit\"").send().await.unwrap();
    assert_eq!((missed.status().as_u16(), begun.elapsed().as_secs()), (200, 25));
}

/// POL-5: no change is lost, however the request and the change meet.
#[tokio::test]
async fn no_wake_up_is_lost() {
    let server = Running::new().await;
    let mut tag = "\"7-no_new_trades\"".to_owned();
    for sequence in 8..208 {
        let change = async {
            for _ in 0..sequence % 7 {
                tokio::task::yield_now().await;
            }
            server.publish(numbered(sequence, Level::NoNewTrades));
        };
        let (answer, ()) = tokio::join!(server.poll(30, &tag).send(), change);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "change {sequence} was lost");
        tag = answer.headers()["etag"].to_str().unwrap().to_owned();
    }
}

/// The events of a stream as they come: name, id and document; comments as their text.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(server: &Running) -> Self {
        Self::open_from(server, "127.0.0.1").await
    }

    async fn open_from(server: &Running, peer: &str) -> Self {
        let request = server.request(Method::GET, "/api/v1/policy/stream").header("last-event-id", "3");
        let response = request.header("x-forwarded-for", peer).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-cache");
        Self { response, text: String::new() }
    }

    /// The next block; `None` when the stream is over.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            self.text.push_str(std::str::from_utf8(&self.response.chunk().await.unwrap()?).unwrap());
        }
    }

    async fn policy(&mut self) -> PolicyDocument {
        let block = self.next().await.unwrap();
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        assert_eq!(field("event"), Some("policy"), "{block}");
        let document: PolicyDocument = serde_json::from_str(field("data").unwrap()).unwrap();
        assert_eq!(field("id"), Some(document.sequence.to_string().as_str()));
        document
    }
}

/// POL-5: the stream tells the policy at once, at each change, and every 5 s as its lease is renewed.
#[tokio::test(start_paused = true)]
async fn the_stream_tells_changes_and_renews() {
    let server = Running::new().await;
    let begun = tokio::time::Instant::now();
    let mut events = Events::open(&server).await;
    assert_eq!(events.policy().await, document(Level::NoNewTrades));
    let renewing = async {
        for _ in 0..7 {
            server.pass(1).await;
            server.renew();
        }
        server.publish(numbered(8, Level::AllowAll));
        std::future::pending::<()>().await;
    };
    let reading = async {
        let renewed = events.policy().await;
        assert_eq!((renewed.sequence, begun.elapsed().as_secs()), (7, 5), "the lease after 5 s");
        assert!(renewed.valid_until > document(Level::NoNewTrades).valid_until);
        let changed = events.policy().await;
        assert_eq!((changed.policy, begun.elapsed().as_secs()), (Level::AllowAll, 7), "the change at once");
    };
    tokio::select! { () = renewing => {}, () = reading => {} }
}

/// POL-5: a decision task that stalls renews nothing: the stream only comments, the lease runs out, and the gate answers
/// as under `no_new_trades` until there is a new one.
#[tokio::test(start_paused = true)]
async fn a_stalled_decision_task_lets_the_lease_expire() {
    let server = Running::new().await;
    server.publish(numbered(8, Level::AllowAll));
    let mut events = Events::open(&server).await;
    let until = events.policy().await.valid_until;
    let gate = async || {
        let (status, body) = server.get("/api/v1/gate/open_position").await;
        (status.as_u16(), body["policy"].as_str().unwrap().to_owned())
    };
    assert_eq!(gate().await, (200, "allow_all".to_owned()));
    server.pass(30).await;
    assert_eq!(server.clock.now(), until);
    assert_eq!(gate().await, (200, "allow_all".to_owned()), "valid up to its last moment");
    server.pass(1).await;
    assert_eq!(gate().await, (403, "no_new_trades".to_owned()), "after it, as no_new_trades");
    assert_eq!(server.get("/api/v1/gate/close_position").await.0, 200, "closing is always allowed");
    let answer = server.poll(1, "\"8-allow_all\"").send().await.unwrap();
    assert_eq!(answer.headers()["chiron-valid-until"].to_str().unwrap(), until.rfc3339(), "nobody claims a new lease");
    for _ in 0..6 {
        assert_eq!(events.next().await.unwrap(), ": the policy is not being renewed");
    }
    server.renew();
    assert_eq!(gate().await, (200, "allow_all".to_owned()));
    assert_eq!(events.policy().await.valid_until, server.clock.now().plus(Duration::from_secs(30)));
    // A clock that is set back must not make an old copy young.
    server.clock.jump(-60_000);
    assert_eq!(gate().await, (403, "no_new_trades".to_owned()));
}

/// POL-5: a client that does not read holds up nobody, and gets the latest policy once it does.
#[tokio::test]
async fn a_slow_client_gets_the_latest() {
    let server = Running::new().await;
    let mut events = Events::open(&server).await;
    assert_eq!(events.policy().await.sequence, 7);
    for sequence in 8..5_000 {
        // Never waits, whatever the client does.
        server.publish(numbered(sequence, Level::NoNewTrades));
    }
    let mut seen = 7;
    while seen < 4_999 {
        let next = events.policy().await.sequence;
        assert!(next > seen, "never back");
        seen = next;
    }
}

/// Long polls and streams are bounded in number; one more is put off, and asking without `wait` still works.
#[tokio::test(start_paused = true)]
async fn waiters_are_bounded() {
    let trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    let server = Running::with(Fake::default(), Settings { connections_max: 300, trusted_proxies, ..settings() }).await;
    let mut waiting = Vec::new();
    for n in 0..WAITERS_MAX {
        waiting.push(Events::open_from(&server, &format!("192.0.2.{}", n / WAITERS_PER_PEER)).await);
    }
    let refused = server.poll(5, "\"7-no_new_trades\"").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("retry-after")), (503, true));
    let (status, body) = server.get("/api/v1/policy/stream").await;
    assert_eq!((status.as_u16(), body["code"].as_str()), (503, Some("too_many_waiters")));
    assert_eq!(server.get("/api/v1/policy").await.0, 200);
    waiting.clear();
    // The server notices the first of the closed connections as it next writes.
    let mut tries = 0;
    while server.poll(1, "\"7-no_new_trades\"").send().await.unwrap().status() == 503 {
        server.pass(1).await;
        server.renew();
        tries += 1;
        assert!(tries < 60, "no place was given back");
    }
}

/// A stop ends long polls and streams at once; the server does not wait for its deadline.
#[tokio::test(start_paused = true)]
async fn a_stop_ends_what_lasts() {
    let mut server = Running::new().await;
    let mut events = Events::open(&server).await;
    events.policy().await;
    let begun = tokio::time::Instant::now();
    let (poll, ()) = tokio::join!(server.poll(60, "\"7-no_new_trades\"").send(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.stop.cancel();
    });
    assert_eq!(poll.unwrap().status(), 304);
    assert_eq!(events.next().await, None, "the stream is ended whole");
    drop(std::mem::take(&mut server.client));
    server.tasks.join_next().await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "the stop took {:?}", begun.elapsed());
}
