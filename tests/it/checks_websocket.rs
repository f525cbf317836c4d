//! A feed that is watched through a connection kept open: a real WebSocket server with troubles, and a hostile one.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Authority, Chiron, Config, Feed, hostile, wait_for, wait_for_within};
use crate::loop_with_alertmanager::wait_status;

const TOKEN: &str = "canary-of-the-feed-0123456789";

fn details(chiron: &Chiron, subsystem: &str) -> Value {
    chiron.get_json("/status")["subsystem_health"][subsystem]["details"].clone()
}

fn perfdata(chiron: &Chiron, label: &str) -> Option<f64> {
    chiron.metric("chiron_check_perfdata", &[("subsystem", "feed"), ("label", label)])
}

/// A check whose interval is so long that only what wakes it can be what is seen.
fn config(dir: &Path, url: &str, more: &str) -> String {
    let yaml = format!(
        "subsystems:\n  feed:\n    criticality: partial\n    interval: 1h\n    check:\n      kind: websocket\n      url: \"{url}\"\n\
         \x20     subscribe: '{{\"op\":\"subscribe\",\"key\":\"{{{{token}}}}\"}}'\n      token_file: feed.token\n\
         \x20     ignore: [{{channel: heartbeat}}, {{op: subscribe}}]\n\
         \x20     ping: {{every: 200ms, within: 5s, message: '{{\"op\":\"ping\"}}', expect: {{op: pong}}}}\n{more}"
    );
    std::fs::write(dir.join("feed.token"), format!("{TOKEN}\n")).expect("a file can be written");
    Config::new(dir).with(&yaml).text().to_owned()
}

/// EXC-1, OBS-7: a feed is accepted, flows, falls silent with its heartbeat going on, is slow, is dropped, is away, and refuses the
/// credentials; each is seen by itself, at once and told in words, and each passes.
#[test]
fn a_feed_through_its_troubles() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let well = json!({"login": TOKEN});
    let feed = Feed::start(dir.path(), &well, None);
    let text = config(
        dir.path(),
        &format!("ws://127.0.0.1:{}/feed", feed.port()),
        "      stale_after: 1s\n      degraded_latency: 400ms\n      down_after: 2s\n      auth:\n\
         \x20       send: '{\"op\":\"login\",\"token\":\"{{token}}\"}'\n        expect: {op: login, success: true}\n        reject: {op: login, success: false}\n",
    );
    let chiron = Chiron::with_config(dir.path(), &text).start();
    wait_status(&chiron, "feed", "healthy");
    wait_for("a latency", || perfdata(&chiron, "websocket_latency").ok_or("none"));
    wait_for("data", || if perfdata(&chiron, "websocket_data_flowing") == Some(1.0) { Ok(()) } else { Err("none") });
    let found = details(&chiron, "feed");
    for key in ["connected", "authenticated", "data_flowing"] {
        assert_eq!(found[key], true, "{key}: {found}");
    }
    assert_eq!((&found["state"], &found["reconnect_count"]), (&json!("open"), &json!(0)), "{found}");
    assert!(found["last_update"].is_string() && found["latency_ms"].is_number(), "{found}");

    // Heartbeats and pongs go on, data does not.
    let silenced = Instant::now();
    feed.set(&json!({"login": TOKEN, "data": false}));
    wait_status(&chiron, "feed", "critical");
    assert!(silenced.elapsed() < Duration::from_secs(5), "its interval is an hour: {:?}", silenced.elapsed());
    let found = details(&chiron, "feed");
    assert!(found["error"].as_str().is_some_and(|error| error.contains("no data for 1.")), "{found}");
    assert_eq!((&found["connected"], &found["data_flowing"]), (&json!(true), &json!(false)), "{found}");
    feed.set(&well);
    wait_status(&chiron, "feed", "healthy");

    feed.set(&json!({"login": TOKEN, "delay": 0.7}));
    wait_status(&chiron, "feed", "degraded");
    let found = details(&chiron, "feed");
    assert!(found["warning"].as_str().is_some_and(|warning| warning.contains("a ping took")), "{found}");
    feed.set(&well);
    wait_status(&chiron, "feed", "healthy");

    // A good connection lasts for 5 s; this one has by now, so the first pause is the shortest.
    let dropped = Instant::now();
    feed.set(&json!({"login": TOKEN, "drop": 1}));
    wait_status(&chiron, "feed", "degraded");
    assert!(dropped.elapsed() < Duration::from_secs(2), "at once: {:?}", dropped.elapsed());
    wait_status(&chiron, "feed", "healthy");
    let found = details(&chiron, "feed");
    assert_eq!(found["reconnect_count"], 1, "{found}");
    assert!(found["last_error"].as_str().is_some_and(|error| error.contains("code 1012: service restart")), "{found}");

    // Away: four attempts, each after about twice the pause.
    let begun = feed.seen().len();
    feed.set(&json!({"login": TOKEN, "drop": 2, "reject": 503}));
    wait_status(&chiron, "feed", "critical");
    let found = details(&chiron, "feed");
    let error = found["error"].as_str().unwrap_or_default();
    assert!(error.contains("not connected for") && error.contains("status 503"), "{found}");
    let attempts = wait_for_within("four attempts", Duration::from_secs(40), || {
        let seen = feed.seen();
        let attempts: Vec<f64> =
            seen[begun..].iter().filter(|(_, what)| what == "rejected").map(|(at, _)| *at).collect();
        if attempts.len() >= 4 { Ok(attempts) } else { Err(attempts) }
    });
    let pauses: Vec<f64> = attempts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0] * 1.1), "{pauses:?}");
    feed.set(&json!({"login": TOKEN, "drop": 2}));
    wait_for_within("the feed to be back", Duration::from_secs(40), || {
        let found = details(&chiron, "feed");
        if found["state"] == "open" && found["data_flowing"] == true { Ok(()) } else { Err(found) }
    });
    wait_status(&chiron, "feed", "healthy");

    feed.set(&json!({"login": TOKEN, "drop": 3, "refuse": true}));
    wait_status(&chiron, "feed", "critical");
    // The pause goes on from the last one if the connection between was shorter than a good one.
    wait_for_within("the refusal", Duration::from_secs(80), || {
        let found = details(&chiron, "feed");
        let error = found["error"].as_str().unwrap_or_default().to_owned();
        if error.contains("does not accept the credentials") { Ok(()) } else { Err(found) }
    });
    let found = details(&chiron, "feed");
    assert_eq!(found["authenticated"], false, "{found}");
    assert!(feed.seen().iter().any(|(_, what)| what == "subscribe"), "the token was filled in: {:?}", feed.seen());
    for told in [chiron.get_json("/status").to_string(), chiron.metrics(), chiron.log()] {
        assert!(!told.contains(TOKEN), "the token is told: {told}");
    }
}

/// EXC-1, SEC-2: TLS by the authority of the settings; another's is refused, and the certificate is named as the reason.
#[test]
fn a_feed_behind_tls() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let authority = Authority::new(dir.path(), "authority");
    let other = Authority::new(dir.path(), "other");
    let (certificate, key) = authority.issue("feed", "IP:127.0.0.1");
    let feed = Feed::start(dir.path(), &json!({}), Some((&certificate, &key)));
    let url = format!("wss://127.0.0.1:{}/feed", feed.port());
    let with =
        |more: &str| config(dir.path(), &url, &format!("      stale_after: 5s\n      down_after: 1s\n      {more}\n"));
    let chiron = Chiron::with_config(dir.path(), &with(&format!("ca_file: {:?}", authority.certificate()))).start();
    wait_status(&chiron, "feed", "healthy");
    for (more, status, words) in [
        (format!("ca_file: {:?}", other.certificate()), "critical", "certificate"),
        ("insecure_skip_verify: true".to_owned(), "healthy", ""),
        ("down_after: 1s".to_owned(), "critical", "certificate"),
        ("ca_file: not-there.pem".to_owned(), "critical", "not-there.pem"),
    ] {
        let text = with(&more).replacen(
            "      down_after: 1s\n",
            if more.starts_with("down") { "" } else { "      down_after: 1s\n" },
            1,
        );
        chiron.rewrite_config(&text);
        assert_eq!(chiron.post("/-/reload", "").expect("chiron answers").status, 200, "{more}");
        wait_for(&format!("{status} with {more}"), || {
            let found = chiron.get_json("/status")["subsystem_health"]["feed"].clone();
            let error = found["details"]["error"].as_str().unwrap_or_default().to_owned();
            if found["status"] == status && error.contains(words) { Ok(()) } else { Err(found) }
        });
    }
}

/// EXC-1: without a limit the rhythm is learnt, and then the end of data is seen, five seconds after it.
#[test]
fn a_rhythm_is_learnt() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let feed = Feed::start(dir.path(), &json!({}), None);
    let url = format!("ws://127.0.0.1:{}/feed", feed.port());
    let text = config(dir.path(), &url, "").replace("interval: 1h", "interval: 500ms");
    let chiron = Chiron::with_config(dir.path(), &text).start();
    wait_status(&chiron, "feed", "healthy");
    assert_eq!(details(&chiron, "feed")["stale_after_source"], "learning");
    wait_for_within("the rhythm to be learnt", Duration::from_secs(60), || {
        let found = details(&chiron, "feed");
        if found["stale_after_source"] == "learnt" { Ok(()) } else { Err(found) }
    });
    assert_eq!(details(&chiron, "feed")["stale_after_seconds"], 5.0);
    feed.set(&json!({"data": false}));
    let silenced = Instant::now();
    wait_status(&chiron, "feed", "critical");
    assert!((4..9).contains(&silenced.elapsed().as_secs()), "{:?}", silenced.elapsed());
}

/// EXC-1: frames without end, bombs, floods, slow and silent servers and one that leads elsewhere: each is told in a clear word,
/// memory is bounded, and everything else goes on.
#[test]
fn hostile_servers() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let (_server, port) = hostile(dir.path());
    let paths = [
        ("huge", "more than the limit of 4194304"),
        ("large", "more than the limit of 4194304"),
        ("fragments", "more than the limit of 4194304"),
        ("utf8", "no UTF-8"),
        ("bomb", "compressed frame, though no compression was agreed"),
        ("masked", "masked frame"),
        ("silent", "waited for the answer to the upgrade"),
        ("loris", "waited for the answer to the upgrade"),
        ("redirect", "it leads to ws://198.51.100.7/other, redirects are not followed"),
    ];
    let endless = ["messages", "pings", "pongs", "empty_fragments"];
    let names = paths.iter().map(|(name, _)| *name).chain(endless);
    let checks: String = names
        .map(|name| {
            format!(
                "  {name}: {{criticality: none, check: {{kind: websocket, url: \"ws://127.0.0.1:{port}/{name}\", \
                 connect_timeout: 2s, down_after: 1s, stale_after: 3s, ping: {{every: 500ms, within: 5s}}}}}}\n"
            )
        })
        .collect();
    let text = Config::new(dir.path()).with(&format!("subsystems:\n{checks}")).text().to_owned();
    let chiron = Chiron::with_config(dir.path(), &text).start();
    for (name, words) in paths {
        wait_for_within(&format!("{name} to be told"), Duration::from_secs(60), || {
            let found = chiron.get_json("/status")["subsystem_health"][name].clone();
            let error = found["details"]["error"].as_str().unwrap_or_default().to_owned();
            if found["status"] == "critical" && error.contains(words) { Ok(()) } else { Err(found) }
        });
    }
    // Pongs that nobody asked for are no data, and neither is a message that never ends.
    for (name, status) in
        [("messages", "healthy"), ("pongs", "critical"), ("pings", "critical"), ("empty_fragments", "critical")]
    {
        wait_for_within(&format!("{name} to be {status}"), Duration::from_secs(60), || {
            let found = chiron.get_json("/status")["subsystem_health"][name].clone();
            if found["status"] == status { Ok(()) } else { Err(found) }
        });
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", chiron.pid())).expect("a process has a status");
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .expect("a process has a peak");
    eprintln!("peak of memory under hostile servers: {} MiB", peak / 1024);
    assert!(peak < 256 * 1024, "{peak} kB");
    assert!(chiron.get_json("/api/v1/report").is_object());
}
