//! Checks that ask the network, beside real servers: dnsmasq, openssl, Prometheus, node_exporter; and servers that misbehave.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{
    Authority, Chiron, Config, Dnsmasq, HttpServer, NodeExporter, Prometheus, Reply, TlsServer, free_port, wait_for,
};

const DAY: i64 = 86_400_000;

/// A chiron with one subsystem for each check (the inside of its braces), each read every 200 ms.
fn watching(dir: &Path, checks: &[(&str, String)]) -> Chiron {
    watching_with(dir, "", checks)
}

/// The same with further top-level keys.
fn watching_with(dir: &Path, more: &str, checks: &[(&str, String)]) -> Chiron {
    let lines: String = checks
        .iter()
        .map(|(name, check)| format!("  {name}: {{criticality: partial, interval: 200ms, check: {{{check}}}}}\n"))
        .collect();
    let text = Config::new(dir).with(&format!("{more}\nsubsystems:\n{lines}")).text().to_owned();
    Chiron::with_config(dir, &text).start()
}

/// What the report says of a subsystem.
fn health(chiron: &Chiron, name: &str) -> Value {
    chiron.get_json("/status")["subsystem_health"][name].clone()
}

/// Waits for a status, as the metrics page has it, and for these words in the details of the report.
fn expect(chiron: &Chiron, name: &str, status: &str, words: &[&str]) -> Value {
    wait_for(&format!("{name} to be {status} with {words:?}"), || {
        let health = health(chiron, name);
        let told = health["details"].to_string().replace("\\\"", "\"");
        let exported = chiron.metric("chiron_subsystem_status", &[("subsystem", name), ("status", status)]);
        let fits = exported == Some(1.0) && health["status"] == status && words.iter().all(|word| told.contains(word));
        if fits { Ok(health["details"].clone()) } else { Err(health) }
    })
}

/// OBS-7: a real DNS server: records of every kind, over TCP where an answer is too long, names that do not exist; a changed
/// answer counts at the next reading, as nothing is cached; a server that is gone is told.
#[test]
fn names_resolve_as_they_should() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let many: Vec<String> = (1..=120).map(|index| format!("--host-record=many.example,10.1.0.{index},3600")).collect();
    let records = |address: &str| {
        let mut records: Vec<String> = vec![
            format!("--host-record=order.example,{address},fd00::1,3600"),
            "--cname=alias.example,order.example".to_owned(),
            "--mx-host=order.example,Mail.example,10".to_owned(),
            "--txt-record=order.example,v=spf1 -all".to_owned(),
            "--srv-host=_sip._tcp.example,sip.example,5060,1,2".to_owned(),
        ];
        records.extend(many.iter().cloned());
        records
    };
    let start = |records: &[String]| records.iter().map(String::as_str).collect::<Vec<_>>().join("\n");
    let first = start(&records("10.0.0.1"));
    let mut server = Dnsmasq::start(dir.path(), &first.lines().collect::<Vec<_>>());
    let fails = failing_name_server();
    let check = |name: &str, more: &str| {
        format!("kind: dns, name: {name}, server: \"{}\", timeout: 2s, {more}", server.address())
    };
    let chiron = watching(
        dir.path(),
        &[
            ("plain", check("order.example", "expect: 10.0.0.1")),
            ("alias", check("alias.example", "expect: [10.0.0.1]")),
            ("six", check("order.example", "record: AAAA, expect: [\"fd00:0::1\"]")),
            ("mail", check("order.example", "record: MX, expect: [\"10 mail.example.\"]")),
            ("text", check("order.example", "record: TXT, expect: [\"v=spf1 -all\"]")),
            ("service", check("_sip._tcp.example", "record: SRV, expect: [\"1 2 5060 sip.example\"]")),
            ("reverse", check("10.0.0.1", "record: PTR, expect: order.example")),
            ("long", check("many.example", "expect: [10.1.0.1, 10.1.0.120]")),
            ("other", check("order.example", "expect: [10.0.0.1, 10.9.9.9]")),
            ("nobody", check("nobody.example", "")),
            ("typeless", check("order.example", "record: NS")),
            ("foreign", check("elsewhere.test", "")),
            ("slow", check("order.example", "degraded_latency: 1ms")),
            ("failing", format!("kind: dns, name: order.example, server: \"{fails}\", timeout: 2s")),
        ],
    );
    for name in ["plain", "alias", "six", "mail", "text", "service", "reverse", "long"] {
        expect(&chiron, name, "healthy", &["answers", "latency_ms"]);
    }
    assert_eq!(health(&chiron, "long")["details"]["total"], 120, "all of them came, over TCP");
    assert_eq!(health(&chiron, "mail")["details"]["answers"][0], "10 mail.example");
    expect(&chiron, "other", "critical", &["`order.example` resolves to 10.0.0.1, expected 10.9.9.9 among it"]);
    expect(&chiron, "nobody", "critical", &["`nobody.example` does not exist (NXDOMAIN), says 127.0.0.1:"]);
    expect(&chiron, "typeless", "critical", &["`order.example` has no NS record"]);
    expect(&chiron, "foreign", "critical", &["found REFUSED, expected an answer"]);
    expect(&chiron, "failing", "critical", &["found SERVFAIL, expected an answer"]);

    let second = start(&records("10.0.0.2"));
    server.replace(&second.lines().collect::<Vec<_>>());
    expect(&chiron, "plain", "critical", &["resolves to 10.0.0.2, expected 10.0.0.1"]);
    server.replace(&first.lines().collect::<Vec<_>>());
    expect(&chiron, "plain", "healthy", &["10.0.0.1"]);
    server.stop();
    expect(&chiron, "plain", "critical", &[&server.address(), "order.example"]);
}

/// A name server on loopback that answers every question with SERVFAIL.
fn failing_name_server() -> String {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = socket.local_addr().expect("a bound socket has an address").to_string();
    // It ends with the tests' process, and waits until then.
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            packet[2] |= 0x80;
            packet[3] = (packet[3] & 0xf0) | 2;
            let _ = socket.send_to(&packet[..length], from);
        }
    });
    address
}

/// OBS-7: real TLS servers whose certificates are good, end soon, have ended, begin later, are for another name, of an
/// authority that nobody trusts, or come with one in between that ends sooner; each is told by its date or its name.
#[test]
fn certificates_are_told_by_what_is_wrong_with_them() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "authority");
    let stranger = Authority::new(dir.path(), "stranger");
    let ca = authority.certificate();
    let issue = |name: &str, alternative: &str, days: (i64, i64)| {
        authority.issue_dated(name, alternative, (days.0 * DAY, days.1 * DAY + 60_000))
    };
    let own = "DNS:router.example,IP:127.0.0.1";
    let good = TlsServer::start(&issue("good", own, (-1, 90)), &[]);
    let old = TlsServer::start(&issue("old", own, (-1, 90)), &["-tls1_2"]);
    let soon = TlsServer::start(&issue("soon", own, (-1, 20)), &[]);
    let nearly = TlsServer::start(&issue("nearly", own, (-1, 3)), &[]);
    let ended = TlsServer::start(&issue("ended", own, (-30, -3)), &[]);
    let later = TlsServer::start(&issue("later", own, (2, 90)), &[]);
    let wrong = TlsServer::start(&issue("wrong", "DNS:other.example", (-40, -2)), &[]);
    let forged = TlsServer::start(&stranger.issue_dated("forged", own, (-DAY, 90 * DAY)), &[]);
    let (short, _) = issue("short", "DNS:between.example", (-1, 10));
    let chain = ["-cert_chain", short.to_str().expect("UTF-8")];
    let chained = TlsServer::start(&issue("chained", own, (-1, 90)), &chain);
    let demand = ["-Verify", "1", "-verifyCAfile", ca.to_str().expect("UTF-8")];
    let demanding = TlsServer::start(&issue("demanding", own, (-1, 90)), &demand);
    let demanding_old = [&demand[..], &["-tls1_2"]].concat();
    let demanding_old = TlsServer::start(&issue("demanding_old", own, (-1, 90)), &demanding_old);
    let plain = NodeExporter::start(dir.path(), dir.path());
    let plain = (plain.url().replace("http://", "").replace("/metrics", ""), plain);
    let closed = free_port();
    let trusting = format!("ca_file: {:?}, timeout: 10s", ca.display());
    let check = |port: u16, more: &str| {
        format!("kind: tls, address: \"127.0.0.1:{port}\", server_name: router.example, {trusting}, {more}")
    };
    let chiron = watching(
        dir.path(),
        &[
            ("good", check(good.port(), "")),
            ("old", check(old.port(), "")),
            ("by_ip", format!("kind: tls, address: \"127.0.0.1:{}\", {trusting}", good.port())),
            ("soon", check(soon.port(), "")),
            ("nearly", check(nearly.port(), "")),
            ("ended", check(ended.port(), "")),
            ("later", check(later.port(), "")),
            ("wrong", check(wrong.port(), "")),
            ("forged", check(forged.port(), "")),
            ("unverified", check(forged.port(), "insecure_skip_verify: true")),
            ("machine", format!("kind: tls, address: \"127.0.0.1:{}\"", good.port())),
            ("chained", check(chained.port(), "")),
            ("demanding", check(demanding.port(), "")),
            ("demanding_old", check(demanding_old.port(), "")),
            ("no_tls", format!("kind: tls, address: \"{}\", {trusting}", plain.0)),
            ("closed", check(closed, "")),
        ],
    );
    let told = expect(&chiron, "good", "healthy", &["CN=good", "TLSv1_3"]);
    assert!((89.9..90.1).contains(&told["days_left"].as_f64().expect("a number")), "{told}");
    let seconds = chiron.metric("chiron_check_perfdata", &[("subsystem", "good"), ("label", "certificate_expiry")]);
    assert!(seconds.is_some_and(|left| (89.0 * 86_400.0..91.0 * 86_400.0).contains(&left)), "{seconds:?}");
    expect(&chiron, "old", "healthy", &["TLSv1_2"]);
    expect(&chiron, "by_ip", "healthy", &["127.0.0.1"]);
    expect(&chiron, "soon", "degraded", &["`CN=soon` expires at 20", "in 20.0 days"]);
    expect(&chiron, "nearly", "critical", &["`CN=nearly` expires at 20", "in 3.0 days"]);
    let told = expect(&chiron, "ended", "critical", &["`CN=ended` expired at 20", "3.0 days ago"]);
    assert!(!told["error"].as_str().expect("a text").contains("believed"), "by its date alone: {told}");
    expect(&chiron, "later", "critical", &["`CN=later` holds not yet, only from 20"]);
    let both = ["`CN=wrong` expired at 20", "the certificate is for other.example, expected `router.example`"];
    expect(&chiron, "wrong", "critical", &both);
    expect(
        &chiron,
        "forged",
        "critical",
        &["no authority that is trusted vouches for it: it was issued by `CN=stranger`"],
    );
    expect(&chiron, "unverified", "healthy", &["CN=forged"]);
    expect(&chiron, "machine", "critical", &["no authority that is trusted vouches for it"]);
    expect(&chiron, "chained", "degraded", &["\"expires_first\":\"CN=short\"", "in 10.0 days"]);
    expect(&chiron, "demanding", "healthy", &["asks_for_certificate"]);
    expect(&chiron, "demanding_old", "healthy", &["asks_for_certificate"]);
    expect(&chiron, "no_tls", "critical", &["found an answer that is no TLS"]);
    expect(&chiron, "closed", "critical", &[&format!("127.0.0.1:{closed}: "), "refused"]);
    // SEC-2: what is not verified is logged and exported.
    assert!(chiron.log().contains("only its dates are looked at"), "{}", chiron.log());
    let disabled =
        |name: &str| chiron.metric("chiron_tls_verification_disabled", &[("target", &format!("check:{name}"))]);
    assert_eq!((disabled("unverified"), disabled("good")), (Some(1.0), Some(0.0)));
}

/// OBS-7: a real Prometheus that scrapes a real node_exporter: values, worst of a vector, nothing, NaN, mistakes of a query;
/// once it is gone the check cannot be run.
#[test]
fn prometheus_is_asked() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let shown = dir.path().join("shown");
    std::fs::create_dir(&shown).expect("a folder can be made");
    std::fs::write(shown.join("bot.prom"), "bot_lag{symbol=\"BTC\"} 2\nbot_lag{symbol=\"ETH\"} 70\n").expect("a file");
    let exporter = NodeExporter::start(dir.path(), &shown);
    let target = exporter.url().replace("http://", "").replace("/metrics", "");
    let prometheus = Prometheus::start("groups: []\n", &[&target], &[]);
    wait_for("the first scrape", || match prometheus.query("bot_lag").len() {
        2 => Ok(()),
        other => Err(other),
    });
    let server = format!("http://{}", prometheus.address());
    let check = |query: &str, more: &str| format!("kind: promql, server: \"{server}\", query: '{query}', {more}");
    let chiron = watching_with(
        dir.path(),
        "max_consecutive_failures: 100",
        &[
            ("up", check("up", "critical: \"< 1\"")),
            ("scalar", check("scalar(vector(7))", "degraded: 5, critical: 10")),
            ("worst", check("bot_lag", "degraded: \"> 1\", critical: \"> 50\"")),
            ("nothing", check("bot_lag > 1000", "degraded: \"> 0\", missing: healthy")),
            ("absent", check("no_such_metric", "missing: critical")),
            ("nan", check("vector(0) / 0", "critical: 1, missing: degraded")),
            ("range", check("bot_lag[5m]", "critical: 1")),
            ("mistake", check("sum(((", "critical: 1")),
            ("elsewhere", format!("kind: promql, server: \"http://{target}\", query: up, critical: 1")),
        ],
    );
    let told = expect(&chiron, "up", "healthy", &["job"]);
    assert_eq!((&told["value"], &told["results"]), (&1.0.into(), &1.into()));
    expect(&chiron, "scalar", "degraded", &["found 7, which is > 5"]);
    expect(&chiron, "worst", "critical", &["found 70, which is > 50", "symbol=", "ETH"]);
    let value = chiron.metric("chiron_check_perfdata", &[("subsystem", "worst"), ("label", "value")]);
    assert_eq!(value, Some(70.0));
    expect(&chiron, "nothing", "healthy", &["\"results\":0"]);
    expect(&chiron, "absent", "critical", &["found nothing, expected at least one series"]);
    expect(&chiron, "nan", "degraded", &["found NaN"]);
    // OBS-1: what could not be run says nothing of the platform.
    expect(&chiron, "range", "unknown", &["found a matrix, expected a vector"]);
    expect(&chiron, "mistake", "unknown", &["the query is not answered (bad_data)", "parse error"]);
    expect(&chiron, "elsewhere", "unknown", &["/api/v1/query: "]);
    drop(prometheus);
    expect(&chiron, "up", "unknown", &["/api/v1/query: ", "refused"]);
}

/// OBS-7: a real node_exporter's page: a value, labels, a sum, what is not there; once it is gone, critical.
#[test]
fn a_metric_of_an_exporter_is_read() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let shown = dir.path().join("shown");
    std::fs::create_dir(&shown).expect("a folder can be made");
    let page = "# TYPE bot_lag gauge\nbot_lag{symbol=\"BTC\"} 2\nbot_lag{symbol=\"E\\\"TH\"} 70\n\
                # TYPE bot_latency_seconds histogram\nbot_latency_seconds_bucket{le=\"0.5\"} 9\n\
                bot_latency_seconds_bucket{le=\"+Inf\"} 10\nbot_latency_seconds_sum 4\nbot_latency_seconds_count 10\n";
    std::fs::write(shown.join("bot.prom"), page).expect("a file can be written");
    let mut exporter = NodeExporter::start(dir.path(), &shown);
    let check = |name: &str, more: &str| format!("kind: metric, url: \"{}\", name: {name}, {more}", exporter.url());
    let chiron = watching(
        dir.path(),
        &[
            ("load", check("node_load1", "critical: \"> 100000\"")),
            ("worst", check("bot_lag", "degraded: \"> 50\"")),
            ("one", check("bot_lag", "labels: {symbol: BTC}, degraded: \"> 50\"")),
            ("quoted", check("bot_lag", "labels: {symbol: 'E\"TH'}, critical: \"== 70\"")),
            ("sum", check("bot_lag", "aggregate: sum, critical: \">= 72\"")),
            ("bucket", check("bot_latency_seconds_bucket", "labels: {le: \"0.50\"}, critical: \"< 10\"")),
            ("missing", check("bot_lagg", "missing: degraded")),
        ],
    );
    expect(&chiron, "load", "healthy", &["value", "page_bytes"]);
    expect(&chiron, "worst", "degraded", &["found 70, which is > 50"]);
    let told = expect(&chiron, "one", "healthy", &["BTC"]);
    assert_eq!((&told["value"], &told["results"]), (&2.0.into(), &1.into()));
    expect(&chiron, "quoted", "critical", &["found 70, which is == 70"]);
    expect(&chiron, "sum", "critical", &["found 72, which is >= 72", "\"results\":2"]);
    expect(&chiron, "bucket", "critical", &["found 9, which is < 10"]);
    expect(&chiron, "missing", "degraded", &["found nothing, expected `bot_lagg`"]);
    exporter.stop();
    expect(&chiron, "load", "critical", &["/metrics: ", "refused"]);
}

/// OBS-5, OBS-7: peers that misbehave are told as what they are: redirects, HTML, pages cut off, headers without end, another
/// encoding; and one that sends a byte a second costs its own timeout and no other check anything.
#[test]
fn peers_that_misbehave() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let secret = "canary-of-the-token";
    std::fs::write(dir.path().join("token"), secret).expect("a file can be written");
    let elsewhere = HttpServer::answering(|_| Reply::Status(200, "lag 1\n".to_owned()));
    let target = elsewhere.url("/metrics?token=canary-of-the-query");
    let open_metrics = "Content-Type: application/openmetrics-text; version=1.0.0";
    let peer = HttpServer::answering(move |request| match request.path.split('?').next().unwrap_or_default() {
        "/redirect" | "/redirect/api/v1/query" => Reply::With(302, format!("Location: {target}"), String::new()),
        "/html" => {
            Reply::With(200, "Content-Type: text/html".to_owned(), "<html><body>lag 1</body></html>\n".to_owned())
        }
        "/torn" => Reply::Torn,
        "/cut" => Reply::With(200, open_metrics.to_owned(), "# TYPE lag gauge\nlag 1\n".to_owned()),
        "/whole" => Reply::With(200, open_metrics.to_owned(), "lag 1 1700000000.5 # {a=\"b\"} 2\n# EOF\n".to_owned()),
        "/headers" => Reply::Raw(format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\nlag 1\n", "x".repeat(8_000_000))),
        "/gzip" => Reply::With(200, "Content-Encoding: gzip".to_owned(), "lag 1\n".to_owned()),
        "/slow" | "/slow/api/v1/query" => Reply::Slowly(Duration::from_secs(1)),
        "/endless/api/v1/query" => Reply::Endless,
        "/forbidden" => Reply::Status(403, "no".to_owned()),
        _ => match request.header("authorization") {
            Some("Bearer canary-of-the-token") => Reply::Status(200, "lag 1\n".to_owned()),
            other => Reply::Status(401, format!("{other:?}")),
        },
    });
    let check =
        |path: &str, more: &str| format!("kind: metric, url: \"{}\", name: lag, critical: 1e9, {more}", peer.url(path));
    let query = |path: &str, more: &str| {
        format!("kind: promql, server: \"{}\", query: up, critical: 1e9, {more}", peer.url(path))
    };
    let listener = HttpServer::start();
    let chiron = watching(
        dir.path(),
        &[
            ("steady", format!("kind: tcp, address: \"{}\"", listener.address())),
            ("redirect", check("/redirect", "")),
            ("html", check("/html", "")),
            ("torn", check("/torn", "")),
            ("cut", check("/cut", "")),
            ("whole", check("/whole", "")),
            ("headers", check("/headers", "")),
            ("gzip", check("/gzip", "")),
            ("forbidden", check("/forbidden", "")),
            ("slow", check("/slow", "timeout: 3s")),
            ("token", check("/token?key=canary-of-the-key", "bearer_token_file: token")),
            ("query_redirect", query("/redirect", "")),
            ("query_slow", query("/slow", "timeout: 3s")),
            ("query_endless", query("/endless", "")),
        ],
    );
    let begun = Instant::now();
    let place = format!("302, a redirect to http://{}/metrics, which is not followed", elsewhere.address());
    expect(&chiron, "redirect", "critical", &[&place]);
    let checked = || health(&chiron, "steady")["timestamp"].clone();
    let mut seen = vec![checked()];
    wait_for("other checks to go on meanwhile", || {
        let now = checked();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        if seen.len() > 4 { Ok(()) } else { Err(seen.clone()) }
    });
    expect(&chiron, "html", "critical", &["line 1: expected a metric", "text/html"]);
    expect(&chiron, "torn", "critical", &["/torn: "]);
    expect(&chiron, "cut", "critical", &["the page is cut off: expected `# EOF`"]);
    expect(&chiron, "whole", "healthy", &["2023-11-14T22:13:20.500Z"]);
    expect(&chiron, "headers", "critical", &["/headers: "]);
    expect(&chiron, "gzip", "critical", &["encoding `gzip`, which was not asked for"]);
    expect(&chiron, "forbidden", "critical", &["found status 403, expected 200"]);
    expect(&chiron, "slow", "critical", &["/slow: no whole page within 3s"]);
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
    expect(&chiron, "token", "healthy", &["\"value\":1.0"]);
    expect(&chiron, "query_redirect", "critical", &["a redirect to http://"]);
    expect(&chiron, "query_slow", "critical", &["no answer within 3s"]);
    expect(&chiron, "query_endless", "critical", &["more than 1048576 bytes: aggregate the query"]);
    assert_eq!(elsewhere.received(), [], "the redirect is not followed");
    let steady = health(&chiron, "steady");
    assert_eq!(steady["status"], "healthy", "{steady}");
    // SEC-3: neither the token nor the queries of addresses are shown anywhere.
    for text in [chiron.get_json("/status").to_string(), chiron.metrics(), chiron.log()] {
        assert!(!text.contains("canary-of"), "{text}");
    }
}

/// OBS-7: a page of 100 MB is read to its last line, and costs no memory to speak of.
#[test]
fn a_large_page_costs_no_memory() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let block: String =
        (0..10_000).map(|index| format!("other{{index=\"{index}\",long=\"{}\"}} 1\n", "x".repeat(60))).collect();
    let times = 100_000_000 / block.len() + 1;
    let peer = HttpServer::answering(move |request| match request.path.as_str() {
        "/small" => Reply::Status(200, "lag 1\n".to_owned()),
        "/line" => Reply::Blocks("X: y".to_owned(), "x".repeat(1_000_000), 100, "\nlag 3\n".to_owned()),
        _ => Reply::Blocks("Content-Type: text/plain".to_owned(), block.clone(), times, "lag 2\n".to_owned()),
    });
    let subsystem = |name: &str, interval: &str| {
        format!(
            "  {name}: {{criticality: partial, interval: {interval}, check: {{kind: metric, url: \"{}\", name: lag, critical: 1e9, timeout: 60s}}}}\n",
            peer.url(&format!("/{name}"))
        )
    };
    let config = |more: &str| {
        let small = subsystem("small", "200ms");
        Config::new(dir.path()).with(&format!("subsystems:\n{small}{more}")).text().to_owned()
    };
    let chiron = Chiron::with_config(dir.path(), &config("")).start();
    expect(&chiron, "small", "healthy", &["\"value\":1.0"]);
    let before = peak_memory(chiron.pid());
    chiron.rewrite_config(&config(&(subsystem("large", "1h") + &subsystem("line", "1h"))));
    chiron.hang_up();
    wait_for("the new settings", || match chiron.get_json("/status")["subsystem_health"].get("large") {
        Some(_) => Ok(()),
        None => Err(chiron.log()),
    });
    let told = expect(&chiron, "large", "healthy", &["\"value\":2.0"]);
    assert!(told["page_bytes"].as_u64().is_some_and(|bytes| bytes >= 100_000_000), "{told}");
    let told = expect(&chiron, "line", "healthy", &["\"value\":3.0"]);
    assert!(told["page_bytes"].as_u64().is_some_and(|bytes| bytes >= 100_000_000), "{told}");
    let grown = peak_memory(chiron.pid()) - before;
    eprintln!("two pages of 100 MB: {grown} KiB more at the peak, {before} KiB before");
    assert!(grown < 32 * 1024, "{grown} KiB more than the {before} KiB before");
}

/// The largest resident memory of a process so far, in KiB.
fn peak_memory(pid: u32) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("chiron runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
