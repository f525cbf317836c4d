//! Who takes more than their share: idle and slow clients, many requests, addresses that are not allowed.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::common::{Chiron, Config, alert, curl, notification, wait_for};

fn start(dir: &Path, more: &str) -> Chiron {
    Chiron::with_config(dir, Config::new(dir).with(more).text()).start()
}

/// SEC-2: a thousand idle connections, and more than may be connected at once, beside clients that send their headers
/// slowly, change nothing for a scrape and a notification.
#[test]
fn idle_and_slow_clients_lock_out_nobody() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("the limit of open files can be raised");
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(dir.path(), "");
    let connect = || TcpStream::connect(chiron.address()).expect("a connection is taken");
    let slow = |stream: &mut TcpStream, text: &[u8]| drop(stream.write_all(text));
    let mut worst = Duration::ZERO;
    for wanted in [1_000, 1_500] {
        let mut idle: Vec<TcpStream> = (0..wanted).map(|_| connect()).collect();
        let mut slow_ones: Vec<TcpStream> = (0..50).map(|_| connect()).collect();
        for (index, stream) in slow_ones.iter_mut().enumerate() {
            let beginning: &[u8] =
                if index % 2 == 0 { b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-" } else { b"PRI * HTTP" };
            slow(stream, beginning);
        }
        for round in 0..20 {
            for stream in slow_ones.iter_mut().step_by(2) {
                slow(stream, b"a");
            }
            let begun = Instant::now();
            let page = chiron.get("/metrics").expect("a scrape is answered");
            assert!(page.status == 200 && page.body.contains("chiron_build_info"), "{}", page.status);
            let scraped = begun.elapsed();
            let begun = Instant::now();
            let number = format!("{wanted}-{round}");
            let body = notification(&[alert("firing", &[("alertname", "A"), ("number", &number)])]);
            let answer = chiron.notify(None, body.as_bytes()).expect("a notification is answered");
            assert_eq!(answer.status, 200, "{}", answer.body);
            worst = worst.max(scraped).max(begun.elapsed());
            if idle.len() > 1_000 {
                // The flood goes on: each newcomer pushes the longest idle one out.
                idle.extend((0..10).map(|_| connect()));
            }
        }
    }
    eprintln!("idle and slow clients: the slowest answer took {worst:?}");
    assert!(worst < Duration::from_secs(2), "the slowest answer took {worst:?}");
}

/// SEC-2: an address that is not in a group's list is refused before all else; the list is per group, and is behind
/// trusted proxies the client's.
#[test]
fn addresses_are_allowed_per_group() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(
        dir.path(),
        "web:\n  trusted_proxies: [127.0.0.1]\n  allow:\n    metrics: [192.0.2.0/24]\n    webhook: [127.0.0.1, '2001:db8::/32']\n",
    );
    let ask = |path: &str, from: Option<&str>| {
        let header = format!("X-Forwarded-For: {}", from.unwrap_or_default());
        let arguments = if from.is_some() { vec!["-H", &header] } else { Vec::new() };
        curl(&format!("http://{}{path}", chiron.address()), &arguments)
    };
    let refused = ask("/metrics", None);
    assert!(refused.status == 403 && refused.body.contains("address_not_allowed"), "{refused:?}");
    assert!(refused.body.contains("web.allow.metrics"), "{refused:?}");
    for (path, from, status) in [
        ("/metrics", Some("192.0.2.9"), 200),
        ("/metrics", Some("::ffff:192.0.2.9"), 200),
        ("/metrics", Some("192.0.2.9, 198.51.100.1"), 403),
        ("/metrics", Some("198.51.100.1, 192.0.2.9"), 200),
        ("/status", None, 200),
        ("/status", Some("198.51.100.1"), 200),
    ] {
        assert_eq!(ask(path, from).status, status, "{path} {from:?}");
    }
    // Past the list it is the missing credential that refuses.
    let hook = |from: &str| ask("/api/v1/alerts/webhook", Some(from)).body;
    assert!(hook("198.51.100.1").contains("address_not_allowed"), "{}", hook("198.51.100.1"));
    assert!(hook("2001:db8::1").contains("\"forbidden\""), "{}", hook("2001:db8::1"));
}

/// SEC-2: beyond its rate a peer is told to come again: 429, but 503 from the webhook, which Alertmanager tries again.
#[test]
fn rates_are_limited_per_group_and_peer() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    std::fs::write(dir.path().join("web.yml"), "rate_limit: {interval: 1h, burst: 6}\n").expect("a file");
    let chiron = start(
        dir.path(),
        "web:\n  trusted_proxies: [127.0.0.1]\n  rate_limit:\n    read: {per_second: 0.01, burst: 3}\n    \
         webhook: {per_second: 0.01, burst: 2}\n",
    );
    let ask = |from: &str, path: &str, more: &[&str]| {
        let header = format!("X-Forwarded-For: {from}");
        curl(&format!("http://{}{path}", chiron.address()), &[&["-H", &header], more].concat())
    };
    let read = |from: &str| ask(from, "/status", &[]).status;
    assert_eq!([(); 4].map(|()| read("192.0.2.1")), [200, 200, 200, 429]);
    let limited = ask("192.0.2.1", "/status", &[]);
    assert!(limited.head.contains("retry-after: "), "{limited:?}");
    assert_eq!(read("192.0.2.2"), 200);
    assert_eq!(ask("192.0.2.1", "/metrics", &[]).status, 200, "another group has its own count");
    let hook = |from: &str| ask(from, "/api/v1/alerts/webhook", &["-d", "{}"]);
    assert_eq!([(); 2].map(|()| hook("192.0.2.1").status), [403, 403]);
    let limited = hook("192.0.2.1");
    assert!(limited.status == 503 && limited.body.contains("rate_limited"), "{limited:?}");
    assert!(limited.head.contains("retry-after: "), "{limited:?}");

    // The toolkit's own limit is one for all, and never the webhook's.
    let text = Config::new(dir.path()).with("web: {config_file: web.yml}\n").text().to_owned();
    chiron.rewrite_config(&text);
    chiron.hang_up();
    wait_for("the toolkit's limit", || match ask("192.0.2.3", "/-/healthy", &[]).status {
        429 => Ok(()),
        other => Err(other),
    });
    let body = notification(&[alert("firing", &[("alertname", "A")])]);
    assert_eq!(chiron.notify(None, body.as_bytes()).expect("an answer").status, 200);
}

/// SEC-2: bodies and JSON have their limits.
#[test]
fn bodies_are_limited() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(dir.path(), "web: {body_max: 2048}\n");
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let large = format!("\"{}\"", "x".repeat(2048));
    for (body, code) in [(&deep, "too_deep"), (&large, "too_large")] {
        let answer = chiron.post("/api/v1/policy", body).expect("an answer");
        assert!(answer.body.contains(code), "{code}: {}", answer.body);
        let answer = chiron.notify(None, body.as_bytes()).expect("an answer");
        assert!(answer.body.contains(code), "{code}: {}", answer.body);
    }
}
