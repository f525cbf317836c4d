//! Captured payloads of a real Alertmanager, a table of what is wrong with bodies, and properties over arbitrary ones.

use proptest::prelude::*;

use super::*;

macro_rules! sample {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/samples/alertmanager/", $name, ".json"))
    };
}

const SAMPLES: [&str; 8] = [
    sample!("firing-single"),
    sample!("resolved-single"),
    sample!("firing-group-of-5"),
    sample!("firing-group-of-5-two-resolved"),
    sample!("resolved-group-rest"),
    sample!("firing-one-group-no-group-by"),
    sample!("firing-truncated-max-alerts-2-of-5"),
    sample!("firing-unicode-labels"),
];

const LONG: &str = sample!("firing-long-labels");

const NOW: Timestamp = Timestamp::from_millis(1_795_311_420_000);

fn settings() -> Settings {
    Settings { replica_labels: vec!["replica".to_owned()], ..Settings::default() }
}

fn read(body: &str) -> Notification {
    parse(body.as_bytes(), NOW, &settings()).unwrap()
}

fn fault(body: impl AsRef<[u8]>) -> PayloadProblem {
    let problem = parse(body.as_ref(), NOW, &settings()).unwrap_err();
    assert!(PayloadProblem::CODES.contains(&problem.code), "{problem}");
    assert!(problem.detail.chars().count() <= DETAIL_CHARS_MAX, "{problem}");
    problem
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn date(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).unwrap()
}

/// ALR-1: a genuine notification, every field of its alert.
#[test]
fn a_single_alert_is_read() {
    let labels = map(&[
        ("alertname", "TargetDown"),
        ("instance", "10.0.0.12:8080"),
        ("job", "api"),
        ("replica", "2"),
        ("service", "api"),
        ("severity", "critical"),
    ]);
    let firing = IntakeAlert {
        received_at: NOW,
        receiver: "hook".into(),
        status: AlertStatus::Firing,
        fingerprint: fingerprint(&labels, &settings().replica_labels),
        labels,
        annotations: map(&[("summary", "api replica 2 does not answer")]),
        starts_at: date("2026-11-22T01:35:52.449Z"),
        ends_at: None,
        truncated: false,
    };
    let resolved = IntakeAlert {
        status: AlertStatus::Resolved,
        ends_at: Some(date("2026-11-22T01:35:52.959Z")),
        ..firing.clone()
    };
    for (body, alert) in [(SAMPLES[0], firing), (SAMPLES[1], resolved)] {
        let expected = Notification {
            receiver: "hook".into(),
            group_key: "{}:{alertname=\"TargetDown\", job=\"api\"}".to_owned(),
            truncated: 0,
            alerts: vec![alert],
        };
        assert_eq!(read(body), expected);
    }
}

/// ALR-1: each alert has its own status, whatever the notification's is.
#[test]
fn a_group_is_read_alert_by_alert() {
    use AlertStatus::{Firing, Resolved};
    let statuses = |body| read(body).alerts.iter().map(|alert| alert.status).collect::<Vec<_>>();
    assert_eq!(statuses(SAMPLES[2]), [Firing; 5]);
    assert_eq!(statuses(SAMPLES[3]), [Firing, Resolved, Firing, Resolved, Firing]);
    assert_eq!(statuses(SAMPLES[4]), [Resolved; 3]);
    let (before, after) = (read(SAMPLES[2]).alerts, read(SAMPLES[3]).alerts);
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before.fingerprint, after.fingerprint, "{index}");
        assert_eq!(before.labels["instance"], format!("10.0.0.{}:9100", index + 1));
        assert_eq!(after.ends_at.is_some(), after.status == Resolved);
        assert_eq!(after.annotations["description"], "4.2% (1.9 GiB) left");
    }
    let mut prints: Vec<_> = before.iter().map(|alert| &alert.fingerprint).collect();
    prints.sort_unstable();
    prints.dedup();
    assert_eq!(prints.len(), 5);
}

#[test]
fn a_group_without_common_labels_is_read() {
    let notification = read(SAMPLES[5]);
    let names: Vec<_> = notification.alerts.iter().map(|alert| alert.labels["alertname"].as_str()).collect();
    assert_eq!(names, ["TargetDown", "DiskAlmostFull", "DiskAlmostFull"]);
    assert_eq!(notification.group_key, "{}:{}");
    assert_eq!(notification.alerts[0].fingerprint, read(SAMPLES[0]).alerts[0].fingerprint);
}

/// ALR-2: what Alertmanager has left out is known to be missing, on every alert that came.
#[test]
fn a_truncated_notification_says_so() {
    let notification = read(SAMPLES[6]);
    assert_eq!((notification.truncated, notification.alerts.len()), (3, 2));
    assert!(notification.alerts.iter().all(|alert| alert.truncated));
    assert!(read(SAMPLES[2]).alerts.iter().all(|alert| !alert.truncated));
}

#[test]
fn unicode_and_shell_code_are_just_text() {
    let notification = read(SAMPLES[7]);
    let alert = &notification.alerts[0];
    assert_eq!(alert.labels.len(), 15);
    for (name, value) in [
        ("backslash", "C:\\svc\\log"),
        ("city", "Αθήνα"),
        ("emoji", "🔥🛠️👩\u{200d}🚒"),
        ("empty_like", " "),
        ("job", "オンライン決済"),
        ("line_sep", "a\u{2028}b"),
        ("newline", "line1\nline2\ttab"),
        ("quote", "say \"hi\" & <b>bold</b> 'x'"),
        ("shell", "$(touch x); `id` | rm -rf ${HOME} && echo"),
        ("zero_width", "a\u{200b}b"),
    ] {
        assert_eq!(alert.labels[name], value, "{name}");
    }
    assert_eq!(alert.annotations["summary"], "决済サービスの遅延 – p99 > 2 s");
    assert!(alert.annotations["description"].starts_with("Überwachung: größer"));
}

#[test]
fn long_labels_are_kept_and_long_annotations_cut() {
    let notification = read(LONG);
    let alert = &notification.alerts[0];
    assert_eq!((alert.labels.len(), alert.labels["long_ascii"].len()), (65, VALUE_BYTES_MAX));
    assert_eq!(alert.labels["label_059"], "value 59");
    assert_eq!(alert.annotations["description"].chars().count(), ANNOTATION_CHARS_MAX);
    assert_eq!(alert.annotations["summary"].chars().count(), 20);
}

/// An alert with further members, and a body around it; both are valid when nothing is added.
fn body(alert: &str, top: &str) -> String {
    format!(
        r#"{{"version":"4","receiver":"hook","truncatedAlerts":0,"groupKey":"g"{top},
        "alerts":[{{"status":"firing","labels":{{"alertname":"A"}},"startsAt":"2026-11-22T01:35:52Z"}},{alert}]}}"#
    )
}

const GOOD: &str = r#"{"status":"firing","labels":{"alertname":"B"},"startsAt":"2026-11-22T01:35:52Z"}"#;

fn with_labels(labels: &str) -> String {
    body(&format!(r#"{{"status":"firing","labels":{labels},"startsAt":"2026-11-22T01:35:52Z"}}"#), "")
}

fn with_times(times: &str) -> String {
    body(&format!(r#"{{"status":"resolved","labels":{{"a":"b"}},{times}}}"#), "")
}

/// Bad input: each fault has its code and names its place, and the good alert beside it is not accepted either.
#[test]
fn every_fault_has_a_code_and_a_place() {
    let many = |count: usize| {
        let labels: Vec<_> = (0..count).map(|index| format!("\"l{index}\":\"\"")).collect();
        format!("{{{}}}", labels.join(","))
    };
    let crowd =
        |count: usize| format!(r#"{{"version":"4","receiver":"r","alerts":[{}]}}"#, vec![GOOD; count].join(","));
    assert_eq!(parse(body(GOOD, "").as_bytes(), NOW, &settings()).unwrap().alerts.len(), 2);
    for (code, place, text) in [
        ("not_json", "line 1 column 0", String::new()),
        ("not_json", "", " ".to_owned()),
        ("not_json", "EOF", "{".to_owned()),
        ("not_json", "EOF", body(GOOD, "").trim_end_matches('}').to_owned()),
        ("not_json", "trailing characters", format!("{} {{}}", body(GOOD, ""))),
        ("not_json", "", format!("\u{feff}{}", body(GOOD, ""))),
        ("not_json", "", body(GOOD, r#","x":tru"#)),
        ("not_json", "", body(GOOD, r#","x":01"#)),
        ("not_json", "", body(GOOD, r#","x":NaN"#)),
        ("not_json", "", body(GOOD, ",'x':1")),
        ("not_json", "", with_labels("{\"a\":\"\u{0}\"}")),
        ("not_json", "", with_labels(r#"{"a":"\ud800"}"#)),
        ("not_json", "", with_labels(r#"{"a":"\x41"}"#)),
        ("not_json", "", with_labels(r#"{"a":"b",}"#)),
        ("wrong_type", "body", "[]".to_owned()),
        ("wrong_type", "body", "null".to_owned()),
        ("wrong_type", "body", "4".to_owned()),
        ("wrong_type", "receiver", body(GOOD, "").replace("\"hook\"", "null")),
        ("wrong_type", "alerts: ", r#"{"version":"4","receiver":"r","alerts":{}}"#.to_owned()),
        ("wrong_type", "alerts: ", r#"{"version":"4","receiver":"r","alerts":null}"#.to_owned()),
        ("wrong_type", "alerts[1]: ", body("null", "")),
        ("wrong_type", "alerts[1]: ", body("[]", "")),
        ("wrong_type", "alerts[1].labels", with_labels(r#"{"a":1}"#)),
        ("wrong_type", "alerts[1].labels", with_labels(r#"{"a":null}"#)),
        ("wrong_type", "alerts[1].labels", with_labels(r#"{"a":{"b":"c"}}"#)),
        ("wrong_type", "alerts[1].labels", with_labels("[]")),
        ("wrong_type", "alerts[1].labels", with_labels("null")),
        ("wrong_type", "alerts[1].annotations", with_times(r#""annotations":3,"startsAt":"2026-11-22T01:35:52Z""#)),
        ("wrong_type", "alerts[1].startsAt", with_times(r#""startsAt":1795311352"#)),
        ("wrong_type", "truncatedAlerts", body(GOOD, "").replace("Alerts\":0", "Alerts\":-1")),
        ("wrong_type", "truncatedAlerts", body(GOOD, "").replace("Alerts\":0", "Alerts\":1.5")),
        ("wrong_type", "truncatedAlerts", body(GOOD, "").replace("Alerts\":0", "Alerts\":99999999999999999999999")),
        ("not_json", "number out of range", body(GOOD, "").replace("Alerts\":0", "Alerts\":1e999")),
        ("wrong_version", "version: found \"3\"", body(GOOD, "").replace("\"4\"", "\"3\"")),
        ("wrong_version", "version", body(GOOD, "").replace("\"4\"", "4")),
        ("wrong_version", "version", body(GOOD, "").replace("\"4\"", "null")),
        ("missing_field", "version", body(GOOD, "").replace("\"version\"", "\"other\"")),
        ("missing_field", "receiver", body(GOOD, "").replace("\"receiver\"", "\"other\"")),
        ("missing_field", "alerts: ", r#"{"version":"4","receiver":"r"}"#.to_owned()),
        ("missing_field", "version", "{}".to_owned()),
        ("missing_field", "alerts[1].status", body("{}", "")),
        ("missing_field", "alerts[1].labels", body(r#"{"status":"firing"}"#, "")),
        ("missing_field", "alerts[1].labels", with_labels("{}")),
        ("missing_field", "alerts[1].startsAt", body(r#"{"status":"firing","labels":{"a":"b"}}"#, "")),
        ("duplicate_key", "receiver", body(GOOD, r#","receiver":"other""#)),
        ("duplicate_key", "alerts: ", body(GOOD, r#","alerts":[]"#)),
        ("duplicate_key", "alerts[1].labels", with_labels(r#"{"a":"b","a":"c"}"#)),
        ("duplicate_key", "alerts[1].labels", with_labels(r#"{"a":"b","\u0061":"b"}"#)),
        ("duplicate_key", "alerts[1].status", body(&GOOD.replacen('{', r#"{"status":"resolved","#, 1), "")),
        ("too_many_labels", "alerts[1].labels", with_labels(&many(LABELS_MAX + 1))),
        ("too_many_alerts", "alerts: ", crowd(ALERTS_MAX + 1)),
        ("too_long", "alerts[1].labels", with_labels(&format!(r#"{{"a":"{}"}}"#, "x".repeat(VALUE_BYTES_MAX + 1)))),
        ("too_long", "alerts[1].labels", with_labels(&format!(r#"{{"{}":"a"}}"#, "x".repeat(NAME_BYTES_MAX + 1)))),
        ("too_long", "receiver", body(GOOD, "").replace("hook", &"é".repeat(NAME_BYTES_MAX / 2 + 1))),
        ("bad_label", "alerts[1].labels", with_labels(r#"{"":"x"}"#)),
        ("bad_label", "alerts[1].labels", with_labels(r#"{"a":"x\u0000y"}"#)),
        ("bad_label", "alerts[1].labels", with_labels(r#"{"\u0000":"x"}"#)),
        ("bad_status", "alerts[1].status: found \"FIRING\"", body(&GOOD.replace("firing", "FIRING"), "")),
        ("bad_status", "alerts[1].status", body(&GOOD.replace("firing", ""), "")),
        ("bad_time", "alerts[1].startsAt", with_times(r#""startsAt":"yesterday""#)),
        ("bad_time", "alerts[1].startsAt", with_times(r#""startsAt":"2026-13-01T00:00:00Z""#)),
        ("bad_time", "alerts[1].startsAt", with_times(r#""startsAt":"""#)),
        ("bad_time", "alerts[1].endsAt", with_times(r#""startsAt":"2026-11-22T01:35:52Z","endsAt":"2026-11-22""#)),
        ("too_deep", "byte", body(GOOD, &format!(r#","x":{}{}"#, "[".repeat(64), "]".repeat(64)))),
        ("too_deep", "byte", "[".repeat(1_000_000)),
        ("too_deep", "byte", "{\"a\":".repeat(1_000_000)),
    ] {
        let problem = fault(&text);
        let shown: String = text.chars().take(300).collect();
        assert_eq!(problem.code, code, "{problem}\n{shown}");
        assert!(problem.detail.contains(place), "{problem} does not name {place}\n{shown}");
    }
    assert_eq!(fault(b"{\"version\":\"\xff\"}").to_string(), "not_utf8: found no UTF-8 at byte 12");
    assert_eq!(fault(vec![b' '; BODY_BYTES_MAX + 1]).code, "too_large");
    assert_eq!(fault(vec![b' '; BODY_BYTES_MAX]).code, "not_json");
    assert_eq!(read(&crowd(ALERTS_MAX)).alerts.len(), ALERTS_MAX);
    assert_eq!(read(&with_labels(&many(LABELS_MAX))).alerts[1].labels.len(), LABELS_MAX);
    assert_eq!(read(&with_labels(&format!(r#"{{"a":"{}"}}"#, "x".repeat(VALUE_BYTES_MAX)))).alerts.len(), 2);
}

/// What newer senders add, and what older ones leave out, changes nothing.
#[test]
fn unknown_and_absent_fields_are_accepted() {
    let extra =
        r#","notification_reason":"x","routeLabels":{"a":[1,{"b":null}],"":-1e999},"status":7,"commonLabels":null"#;
    assert_eq!(read(&body(GOOD, extra)), read(&body(GOOD, "")));
    let deep = format!(r#","x":{}{}"#, "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1));
    assert_eq!(read(&body(GOOD, &deep)), read(&body(GOOD, "")));
    let brackets = format!(r#","x":"\"{}\\""#, "[{".repeat(200));
    assert_eq!(read(&body(GOOD, &brackets)), read(&body(GOOD, "")));
    let least = r#"{"alerts":[],"receiver":"","version":"4"}"#;
    let expected = Notification { receiver: "".into(), group_key: String::new(), truncated: 0, alerts: Vec::new() };
    assert_eq!(read(least), expected);
    let late = body(GOOD, "").replace(r#""receiver":"hook","#, "").replace("]}", r#"],"receiver":"late"}"#);
    assert!(read(&late).alerts.iter().all(|alert| alert.receiver == "late"));
}

#[test]
fn times_that_are_not_set_are_not_times() {
    let end = |times: &str| read(&with_times(times)).alerts[1].ends_at;
    let start = r#""startsAt":"2026-11-22T01:35:52Z""#;
    assert_eq!(end(start), None);
    assert_eq!(end(&format!(r#"{start},"endsAt":null"#)), None);
    assert_eq!(end(&format!(r#"{start},"endsAt":"0001-01-01T00:00:00Z""#)), None);
    let set = end(&format!(r#"{start},"endsAt":"2026-11-22T02:35:52.5+01:00""#));
    assert_eq!(set, Some(date("2026-11-22T01:35:52.500Z")));
    let firing = GOOD.replace("\"startsAt\"", "\"endsAt\":\"2026-11-22T01:40:00Z\",\"startsAt\"");
    assert_eq!(read(&body(&firing, "")).alerts[1].ends_at, None, "it fires, so it has not ended");
    let unset = read(&body(&GOOD.replace("2026-11-22T01:35:52Z", "0001-01-01T00:00:00Z"), ""));
    assert_eq!(unset.alerts[1].starts_at, NOW);
}

#[test]
fn annotations_are_for_people_and_short() {
    let long = "é".repeat(ANNOTATION_CHARS_MAX + 1);
    let text = format!(r#"{{"summary":"a\u0000b","description":"{long}","runbook_url":{{"x":1}}}}"#);
    let with =
        |annotations: &str| with_times(&format!(r#""annotations":{annotations},"startsAt":"2026-11-22T01:35:52Z""#));
    let alert = &read(&with(&text)).alerts[1];
    assert_eq!(alert.annotations, map(&[("summary", "ab"), ("description", &long[..2 * ANNOTATION_CHARS_MAX])]));
    assert_eq!(read(&with("null")).alerts[1].annotations, BTreeMap::new());
}

/// DET-4: pinned, because stored alerts are recognised by it across versions.
#[test]
fn the_fingerprint_is_stable() {
    let print = |labels: &[(&str, &str)]| fingerprint(&map(labels), &settings().replica_labels);
    // printf '\0\0\0\0\0\0\0\1a\0\0\0\0\0\0\0\2bc' | sha256sum | cut -c1-32
    assert_eq!(print(&[("a", "bc")]), "3fafa1cf2f19a7c1129beb20cf0983f7");
    assert_ne!(print(&[("ab", "c")]), print(&[("a", "bc")]));
    assert_ne!(print(&[("a", "b"), ("c", "d")]), print(&[("a", "bcd")]));
    assert_eq!(print(&[("a", "b"), ("replica", "1")]), print(&[("a", "b"), ("replica", "2")]));
    assert_eq!(print(&[("a", "b"), ("replica", "1")]), print(&[("a", "b")]));
    assert_ne!(print(&[("a", "b"), ("replicas", "1")]), print(&[("a", "b")]));
    assert_ne!(print(&[("a", "replica")]), print(&[("b", "replica")]));
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z]{1,3}", "[a-c]{0,3}", 1..6)
}

fn as_json(labels: &[(String, String)]) -> String {
    let members: Vec<_> = labels.iter().map(|(name, value)| format!("{name:?}:{value:?}")).collect();
    with_labels(&format!("{{{}}}", members.join(",")))
}

proptest! {
    /// Bad input: whatever arrives, the answer is a notification or a fault of the fixed set.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if parse(&bytes, NOW, &settings()).is_err() {
            fault(&bytes);
        }
    }

    #[test]
    fn mutated_samples_never_panic(
        sample in prop::sample::select(SAMPLES.to_vec()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample.as_bytes().to_vec();
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, b"\"{}[]:,\\0"[usize::from(byte) % 9]),
                _ => { bytes.remove(at); }
            }
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match parse(&bytes, NOW, &settings()) {
            Err(_) => { fault(&bytes); }
            Ok(notification) => for alert in notification.alerts {
                prop_assert!(!alert.labels.is_empty() && alert.labels.len() <= LABELS_MAX);
                prop_assert_eq!(alert.fingerprint.len(), 32);
            },
        }
    }

    /// DET-4: neither the order of labels in a body nor a replica label is part of an alert's identity.
    #[test]
    fn identity_ignores_order_and_replicas(
        (labels, shuffled) in labels().prop_flat_map(|labels| {
            let list: Vec<_> = labels.into_iter().collect();
            (Just(list.clone()), Just(list).prop_shuffle())
        }),
        replica in "[0-9]{1,3}",
    ) {
        let mut with_replica = shuffled.clone();
        with_replica.insert(0, ("replica".to_owned(), replica));
        let expected = read(&as_json(&labels)).alerts[1].fingerprint.clone();
        prop_assert_eq!(&expected, &read(&as_json(&shuffled)).alerts[1].fingerprint);
        prop_assert_eq!(&expected, &read(&as_json(&with_replica)).alerts[1].fingerprint);
    }

    /// DET-4: other labels are another alert, also where names and values together read the same.
    #[test]
    fn other_labels_are_another_identity(one in labels(), other in labels()) {
        prop_assert_eq!(one == other, fingerprint(&one, &[]) == fingerprint(&other, &[]));
    }

    #[test]
    fn depth_is_counted_outside_of_strings(depth in 0_usize..200, text in "[\\[\\]{}a ]{0,40}") {
        let json = format!("{}{:?}{}", "[".repeat(depth), text, "]".repeat(depth));
        prop_assert_eq!(too_deep(json.as_bytes()).is_some(), depth > DEPTH_MAX);
    }
}
