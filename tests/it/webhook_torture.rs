//! JSON that no Alertmanager writes, through the real server: the webhook says no to what can never be accepted, asks
//! again for what broke off, never accepts what it did not understand, and goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Chiron, Config, alert, notification, wait_for};

/// What a body deserves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// 200, and so many alerts are durable.
    Taken(u64),
    /// 4xx with this code, and nothing of it is durable.
    Never(&'static str),
}
use Fate::{Never, Taken};

fn good() -> Value {
    alert("firing", &[("alertname", "Torture")])
}

/// A notification with raw JSON in place of the alert list.
fn alerts(raw: &str) -> Vec<u8> {
    format!(r#"{{"version":"4","receiver":"chiron","alerts":{raw}}}"#).into_bytes()
}

/// A notification of one alert, a key of which has raw JSON as its value.
fn with(key: &str, raw: &str) -> Vec<u8> {
    let mut one = good();
    one[key] = json!("@");
    alerts(&format!("[{}]", one.to_string().replace("\"@\"", raw)))
}

/// A notification with a further top-level key.
fn beside(key: &str, raw: &str) -> Vec<u8> {
    format!(r#"{{"version":"4","receiver":"chiron","{key}":{raw},"alerts":[{}]}}"#, good()).into_bytes()
}

fn labels(raw: &str) -> Vec<u8> {
    with("labels", raw)
}

/// What JSON parsers are known to stumble over: form, numbers, strings, encodings.
fn form() -> Vec<(String, Vec<u8>, Fate)> {
    let whole = notification(&[good()]).into_bytes();
    let mut cases: Vec<(String, Vec<u8>, Fate)> = Vec::new();
    let mut case = |what: &str, body: Vec<u8>, fate: Fate| cases.push((what.to_owned(), body, fate));
    for length in [0, 1, 2, 17, whole.len() / 2, whole.len() - 2, whole.len() - 1] {
        case(&format!("cut off after {length} bytes"), whole[..length].to_vec(), Never("not_json"));
    }
    for raw in ["null", "true", "1", "\"4\"", "[]", "[{}]"] {
        case(raw, raw.into(), Never("wrong_type"));
    }
    case("an empty object", b"{}".to_vec(), Never("missing_field"));
    case("a second document", [&whole[..], b"{}"].concat(), Never("not_json"));
    case("text after it", [&whole[..], b"x"].concat(), Never("not_json"));
    case("blanks around it", [b" \t\r\n", &whole[..], b"\n\n"].concat(), Taken(1));
    case("a form feed before it", [b"\x0c", &whole[..]].concat(), Never("not_json"));
    case("a byte order mark", [b"\xef\xbb\xbf", &whole[..]].concat(), Never("not_json"));
    case("UTF-16", whole.iter().flat_map(|byte| [*byte, 0]).collect(), Never("not_json"));
    case("UTF-16 with its mark", [b"\xff\xfe".to_vec(), whole.clone()].concat(), Never("not_utf8"));
    case("a NUL after it", [&whole[..], b"\0"].concat(), Never("not_json"));
    case("a NUL between", alerts("[\0]"), Never("not_json"));
    case("compressed", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], Never("not_utf8"));
    case("a form", b"payload=%7B%7D".to_vec(), Never("not_json"));
    for raw in
        ["[,]", "[1,]", "{\"a\":1,}", "{a:1}", "{'a':1}", "[1 2]", "{\"a\" 1}", "{\"a\":}", "{1:1}", "/*c*/1", "[", "]"]
    {
        case(&format!("beside it {raw}"), beside("extra", raw), Never("not_json"));
    }
    for raw in
        ["NaN", "Infinity", "-Infinity", "+1", "01", "1.", ".5", "1e", "1e+", "0x1", "--1", "1_000", "-", "tru", "nul"]
    {
        case(&format!("no number: {raw}"), beside("extra", raw), Never("not_json"));
    }
    let huge = "9".repeat(10_000);
    for raw in
        ["1e999", "-1e999", "1e-999", "-0", "0.1e1", &huge, "123456789012345678901234567890", "{\"\":{}}", "[[]]"]
    {
        case(&format!("a key that is not looked at: {}", &raw[..raw.len().min(20)]), beside("extra", raw), Taken(1));
    }
    for raw in ["1e999", "-1", "1.5", "18446744073709551616", "\"0\"", "null", "{}", &huge] {
        let code = if raw == "1e999" || raw == huge { "not_json" } else { "wrong_type" };
        case(&format!("truncatedAlerts {}", &raw[..raw.len().min(20)]), beside("truncatedAlerts", raw), Never(code));
    }
    for raw in [
        r#""\ud800""#,
        r#""\udc00""#,
        r#""\ud800\u0041""#,
        r#""\ud8""#,
        r#""\x41""#,
        r#""\u00zz""#,
        "\"\u{1}\"",
        "\"a\nb\"",
        "\"\t\"",
    ] {
        case(&format!("no string: {raw:?}"), beside("groupKey", raw), Never("not_json"));
        case(&format!("no label: {raw:?}"), labels(&format!("{{\"alertname\":{raw}}}")), Never("not_json"));
    }
    case("a pair of surrogates", labels(r#"{"alertname":"\ud83d\ude00"}"#), Taken(1));
    case("characters that are none", labels("{\"alertname\":\"\u{fffe}\u{ffff}\u{200b}\u{202e}\"}"), Taken(1));
    for bytes in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
        let body = labels("{\"alertname\":\"@\"}");
        let at = body.windows(3).position(|window| window == b"\"@\"").expect("the mark is there") + 1;
        let body = [&body[..at], bytes, &body[at + 1..]].concat();
        case(&format!("no UTF-8: {bytes:02x?}"), body, Never("not_utf8"));
    }
    cases
}

/// The meaning of a notification: types, missing and doubled keys, limits.
fn meaning() -> Vec<(String, Vec<u8>, Fate)> {
    let mut cases: Vec<(String, Vec<u8>, Fate)> = Vec::new();
    let mut case = |what: &str, body: Vec<u8>, fate: Fate| cases.push((what.to_owned(), body, fate));
    let whole = notification(&[good()]);
    for (key, raw) in [("version", "4"), ("version", "null"), ("version", "\"04\""), ("version", "[\"4\"]")] {
        let body = whole.replace("\"version\":\"4\"", &format!("\"{key}\":{raw}"));
        case(&format!("{key} {raw}"), body.into_bytes(), Never("wrong_version"));
    }
    let wrong = ["null", "true", "0", "\"text\"", "[]", "{}"];
    for (key, may) in [("labels", ""), ("status", ""), ("startsAt", ""), ("endsAt", "null"), ("annotations", "null {}")]
    {
        for raw in wrong {
            let fate = match (key, raw) {
                (_, raw) if may.split(' ').any(|may| may == raw) => Taken(1),
                ("labels", "{}") => Never("missing_field"),
                ("status", "\"text\"") => Never("bad_status"),
                ("startsAt" | "endsAt", "\"text\"") => Never("bad_time"),
                _ => Never("wrong_type"),
            };
            case(&format!("{key} {raw}"), with(key, raw), fate);
        }
    }
    for raw in wrong.into_iter().filter(|raw| *raw != "[]") {
        case(&format!("alerts {raw}"), alerts(raw), Never("wrong_type"));
        let one = alerts(&format!("[{},{raw}]", good()));
        let code = if raw == "{}" { "missing_field" } else { "wrong_type" };
        case(&format!("a second alert {raw}"), one, Never(code));
        case(
            &format!("receiver {raw}"),
            whole.replace("\"receiver\":\"chiron\"", &format!("\"receiver\":{raw}")).into(),
            if raw == "\"text\"" { Taken(1) } else { Never("wrong_type") },
        );
    }
    case("no alerts at all", alerts("[]"), Taken(0));
    for key in ["version", "receiver", "alerts", "status\":\"firing\",\"x"] {
        let body = match key {
            "version" | "receiver" => whole.replacen('{', &format!("{{\"{key}\":\"4\","), 1),
            "alerts" => whole.replacen('{', "{\"alerts\":[],", 1),
            _ => String::from_utf8(alerts(&format!(
                "[{}]",
                good().to_string().replacen('{', "{\"status\":\"firing\",", 1)
            )))
            .expect("text"),
        };
        case(&format!("{key} twice"), body.into_bytes(), Never("duplicate_key"));
    }
    case("a label twice", labels(r#"{"a":"1","a":"1"}"#), Never("duplicate_key"));
    case("a label twice, once escaped", labels(r#"{"a":"1","\u0061":"2"}"#), Never("duplicate_key"));
    case("a label without a name", labels(r#"{"":"1"}"#), Never("bad_label"));
    case("a NUL in a label", labels(r#"{"a":"1\u00002"}"#), Never("bad_label"));
    for raw in ["1", "null", "true", "{}", "[\"1\"]"] {
        case(&format!("a label {raw}"), labels(&format!(r#"{{"a":{raw}}}"#)), Never("wrong_type"));
    }
    for date in
        ["0000-00-00T00:00:00Z", "2026-11-22", "2026-11-22T25:00:00Z", "1763862896", "+99999-01-01T00:00:00Z", ""]
    {
        case(&format!("begun {date}"), with("startsAt", &format!("\"{date}\"")), Never("bad_time"));
    }
    case("begun in year 1", with("startsAt", "\"0001-01-01T00:00:00Z\""), Taken(1));
    case("begun in year 9999", with("startsAt", "\"9999-12-31T23:59:59.999999999Z\""), Taken(1));
    for (levels, fate) in [(61, Taken(1)), (64, Never("too_deep")), (100_000, Never("too_deep"))] {
        let raw = "[".repeat(levels) + &"]".repeat(levels);
        case(&format!("{levels} lists"), beside("extra", &raw), fate);
        let raw = "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
        case(&format!("{levels} objects"), beside("extra", &raw), fate);
    }
    case("lists without an end", "[".repeat(1 << 20).into_bytes(), Never("too_deep"));
    let many = |count: usize| {
        alerts(&format!(
            "[{}]",
            vec![r#"{"status":"firing","labels":{"a":"1"},"startsAt":"2026-11-22T01:35:53Z"}"#; count].join(",")
        ))
    };
    case("10,001 alerts", many(10_001), Never("too_many_alerts"));
    let wide = |count: usize| {
        labels(&format!("{{{}}}", (0..count).map(|n| format!("\"l{n}\":\"\"")).collect::<Vec<_>>().join(",")))
    };
    case("128 labels", wide(128), Taken(1));
    case("129 labels", wide(129), Never("too_many_labels"));
    case("100,000 labels", wide(100_000), Never("too_many_labels"));
    let long = |length: usize| labels(&format!("{{\"a\":\"{}\"}}", "x".repeat(length)));
    case("a value of 4096 bytes", long(4096), Taken(1));
    case("a value of 4097 bytes", long(4097), Never("too_long"));
    case("a value of 7 MiB", long(7 << 20), Never("too_long"));
    case("a name of 7 MiB", labels(&format!("{{\"{}\":\"\"}}", "x".repeat(7 << 20))), Never("too_long"));
    case(
        "a text of 7 MiB that is not looked at",
        beside("externalURL", &format!("\"{}\"", "x".repeat(7 << 20))),
        Taken(1),
    );
    case("9 MiB", beside("externalURL", &format!("\"{}\"", "x".repeat(9 << 20))), Never("too_large"));
    cases
}

/// Alerts that chiron has counted, whatever became of them.
fn counted(chiron: &Chiron) -> f64 {
    chiron.metric_sum("chiron_alerts_received_total", &[])
}

/// ALR-1, SEC-2: every case gets what it deserves, nothing of a refused body is durable, nothing panics, and a genuine
/// notification is still taken afterwards.
#[test]
fn the_webhook_survives_every_json() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).text()).start();
    let (mut wrong, mut taken) = (Vec::new(), 0);
    let cases = [form(), meaning()].concat();
    for (what, body, fate) in &cases {
        let answer = chiron.notify(None, body).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = match answer.status {
            200 => answer.json()["accepted"]
                .as_u64()
                .map_or_else(|| answer.body.clone(), |count| format!("Taken({count})")),
            status => format!("{status} {}", answer.json()["code"]),
        };
        let expected = match fate {
            Taken(count) => {
                taken += count;
                format!("Taken({count})")
            }
            Never(code @ "too_large") => format!("413 \"{code}\""),
            Never(code) => format!("400 \"{code}\""),
        };
        if found != expected {
            wrong.push(format!("{what}: found {found}, expected {expected}: {}", answer.body));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // Of a refused body nothing was taken: every alert counted is one that was accepted.
    wait_for("the accepted alerts", || if counted(&chiron) >= taken as f64 { Ok(()) } else { Err(counted(&chiron)) });
    genuine(&mut chiron, taken);
}

/// A captured notification is taken, all that was accepted is counted and no more, and nothing panicked.
fn genuine(chiron: &mut Chiron, before: u64) {
    let sample = include_bytes!("../samples/alertmanager/firing-group-of-5.json");
    let answer = chiron.notify(None, sample).expect("the webhook answers");
    assert_eq!((answer.status, answer.json()), (200, json!({"accepted": 5})));
    let all = (before + 5) as f64;
    wait_for("the genuine alerts", || if counted(chiron) >= all { Ok(()) } else { Err(counted(chiron)) });
    assert_eq!(counted(chiron), all);
    assert!(chiron.ended().is_none() && !chiron.log().contains("panicked"), "{}", chiron.log());
    assert_eq!(chiron.get("/-/ready").expect("chiron answers").status, 200);
}

/// Sends bytes with pauses between them, then reads what comes.
fn raw(chiron: &Chiron, parts: &[&[u8]], pause: Duration) -> String {
    let mut stream = TcpStream::connect(chiron.address()).expect("chiron listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket takes options");
    for part in parts {
        if stream.write_all(part).is_err() {
            break;
        }
        std::thread::sleep(pause);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// ALR-1, SEC-2: bodies in strange pieces. What arrives whole is taken; what breaks off or takes too long is asked for
/// again (a 4xx would end Alertmanager's attempts); a wrong frame is refused. Never 429.
#[test]
fn bodies_in_pieces() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut chiron = Chiron::with_config(dir.path(), Config::new(dir.path()).text()).start();
    let body = notification(&[good()]).into_bytes();
    let head = |rest: &str| {
        format!("POST /api/v1/alerts/webhook HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{rest}\r\n")
            .into_bytes()
    };
    let chunked = head("transfer-encoding: chunked\r\n");
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let now = Duration::ZERO;
    let single: Vec<Vec<u8>> = body.iter().map(|byte| chunk(&[*byte])).collect();
    let single = [single.concat(), b"0\r\n\r\n".to_vec()].concat();
    let length = head(&format!("content-length: {}\r\n", body.len()));
    let long = head(&format!("content-length: {}\r\n", body.len() + 10));
    let both = head(&format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", body.len()));
    let started = |answer: &str| answer.get(..12).unwrap_or(answer).to_owned();

    assert_eq!(started(&raw(&chiron, &[&chunked, &single], now)), "HTTP/1.1 200", "a chunk for each byte");
    let halves = [&length[..], &body[..20], &body[20..]];
    assert_eq!(started(&raw(&chiron, &halves, Duration::from_millis(300))), "HTTP/1.1 200", "with pauses");
    for (what, parts, expected) in [
        ("a wrong chunk size", vec![&chunked[..], b"zz\r\n"], ["HTTP/1.1 503", "HTTP/1.1 400"]),
        ("a chunk of 2^64 bytes", vec![&chunked[..], b"ffffffffffffffffff\r\n"], ["HTTP/1.1 503", "HTTP/1.1 400"]),
        // Chunks win over the length, and the body is none.
        ("two lengths", vec![&both[..], &body], ["HTTP/1.1 503", "HTTP/1.1 400"]),
        ("no length and no chunks", vec![&head("")[..], &body], ["HTTP/1.1 400", "HTTP/1.1 400"]),
    ] {
        let answer = started(&raw(&chiron, &parts, now));
        assert!(expected.contains(&answer.as_str()) || answer.is_empty(), "{what}: {answer}");
        assert!(!answer.contains("429"), "{what}");
    }
    // Broken off: the connection is closed for writing in the middle.
    let mut broken = TcpStream::connect(chiron.address()).expect("chiron listens");
    broken.write_all(&[&long[..], &body].concat()).expect("it listens");
    broken.shutdown(std::net::Shutdown::Write).expect("a socket can be half closed");
    let mut answer = String::new();
    let _ = broken.read_to_string(&mut answer);
    assert!(answer.is_empty() || started(&answer) == "HTTP/1.1 503", "broken off: {answer}");
    let begun = Instant::now();
    let slow = raw(&chiron, &[&long, &body], now);
    assert_eq!(started(&slow), "HTTP/1.1 503", "too slow is asked for again: {slow}");
    assert!(begun.elapsed() < Duration::from_secs(15), "a slow body is let go: {:?}", begun.elapsed());
    let before = counted(&chiron);
    assert_eq!(before, 2.0, "only two came whole");
    genuine(&mut chiron, before as u64);
}
