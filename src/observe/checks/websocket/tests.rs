//! The grade of what was seen, and the settings that are taken and refused.

use super::*;
use crate::base::clock::Clock;
use crate::base::tree::{Problems, parse};
use crate::observe::checks::testing::NOW;
use crate::observe::probes::websocket::Expected;

const BOOT: Duration = Duration::from_secs(10_000);
const PLACE: &str = "wss://h/feed";

fn limits() -> Limits {
    Limits {
        down_after: Duration::from_secs(10),
        degraded_latency: Some(Duration::from_millis(500)),
        max_latency: Duration::from_secs(2),
    }
}

fn ago(millis: u64) -> Duration {
    BOOT - Duration::from_millis(millis)
}

/// A connection that is well.
fn well() -> Facts {
    let machine = Machine::new(Arc::new(Plan::default()), 0);
    Facts {
        phase: Phase::Open,
        ever_up: true,
        authenticated: Some(true),
        latency: Some(Duration::from_millis(20)),
        connections: 3,
        last_error: Some("code 1006".to_owned()),
        data_at: Some(ago(1_000)),
        silent_since: ago(1_000),
        expected: Expected::Set(Duration::from_secs(5)),
        ..machine.facts().clone()
    }
}

fn judged(facts: Facts) -> Judgement {
    judge(&Reading { read_at: NOW, since_boot: BOOT, facts }, PLACE, &limits(), NOW)
}

fn seen(judgement: &Judgement) -> (Option<bool>, Option<bool>, Option<bool>) {
    let vitals = judgement.signals.vitals.as_ref().unwrap();
    let status = vitals.websocket.as_ref().unwrap();
    (status.connected, status.authenticated, status.data_flowing)
}

/// EXC-1: both sides of each limit: the grade, the grade without what the rules for vitals raise, what those see, and when
/// it changes next.
#[test]
fn both_sides_of_each_limit() {
    use Status::{Critical, Degraded, Healthy, Unknown};
    let (yes, no) = (Some(true), Some(false));
    let silent = |millis| Facts { data_at: Some(ago(millis)), silent_since: ago(millis), ..well() };
    let slow = |millis| Facts { latency: Some(Duration::from_millis(millis)), ..well() };
    let away = |millis, phase| Facts { phase, down_since: Some(ago(millis)), authenticated: no, ..well() };
    let waiting = Phase::Waiting(BOOT + Duration::from_secs(2));
    let first = |millis| Facts { ever_up: false, data_at: None, ..away(millis, Phase::Connecting) };
    let learning = |millis| Facts { expected: Expected::Learning(Duration::from_secs(60)), ..silent(millis) };
    let refused = Facts { refused: Some("no such key".to_owned()), ..away(10, waiting) };
    for (name, facts, status, own, vitals, change) in [
        ("well", well(), Healthy, Healthy, (yes, yes, yes), Some(4_000)),
        ("no credentials", Facts { authenticated: None, ..well() }, Healthy, Healthy, (yes, None, yes), Some(4_000)),
        ("nearly stale", silent(4_999), Healthy, Healthy, (yes, yes, yes), Some(1)),
        ("stale", silent(5_000), Critical, Healthy, (yes, yes, no), None),
        ("slow", slow(500), Degraded, Degraded, (yes, yes, yes), Some(4_000)),
        ("fast enough", slow(499), Healthy, Healthy, (yes, yes, yes), Some(4_000)),
        (
            "pong is late",
            Facts { pinged_at: Some(ago(700)), ..well() },
            Degraded,
            Degraded,
            (yes, yes, yes),
            Some(4_000),
        ),
        ("first try", first(9_999), Unknown, Unknown, (None, None, None), Some(1)),
        ("never came", first(10_000), Critical, Healthy, (no, None, None), None),
        ("just lost", away(0, waiting), Degraded, Healthy, (None, None, None), Some(10_000)),
        ("lost", away(10_000, waiting), Critical, Healthy, (no, None, None), None),
        ("slow for its rule too", slow(2_001), Degraded, Healthy, (yes, yes, yes), Some(4_000)),
        ("refused", refused, Critical, Healthy, (None, no, None), Some(9_990)),
        ("unanswered", away(10_000, Phase::Authenticating), Critical, Healthy, (None, no, None), None),
        ("not answered yet", away(9_999, Phase::Authenticating), Degraded, Healthy, (None, None, None), Some(1)),
        ("no data yet", Facts { data_at: None, ..learning(1_000) }, Unknown, Unknown, (yes, yes, None), Some(59_000)),
        ("no data ever", Facts { data_at: None, ..learning(60_000) }, Critical, Healthy, (yes, yes, no), None),
        (
            "new, no data yet",
            Facts { silent_since: ago(900), ..well() },
            Healthy,
            Healthy,
            (yes, yes, None),
            Some(4_100),
        ),
        ("some data", learning(59_999), Healthy, Healthy, (yes, yes, yes), Some(1)),
        ("no more data", learning(60_000), Critical, Healthy, (yes, yes, no), None),
    ] {
        let judgement = judged(facts);
        assert_eq!(judgement.status, status, "{name}: {judgement:?}");
        assert_eq!(judgement.signals.own_status, Some(own), "{name}");
        assert_eq!(seen(&judgement), vitals, "{name}");
        let update = judgement.signals.vitals.as_ref().and_then(|vitals| vitals.websocket.as_ref()?.last_update);
        assert!(update.is_none() || vitals.2.is_some(), "{name}: its age is not judged by a rule of its own");
        assert_eq!(judgement.next_change_at.map(|at| at.millis() - NOW.millis()), change, "{name}");
        let told = ["error", "warning"].iter().any(|key| judgement.details.contains_key(*key));
        assert_eq!(told, status != Healthy, "{name}: {judgement:?}");
        assert!(!judgement.unrunnable, "{name}");
    }
    let idle = judged(Facts { phase: Phase::Idle, ..well() });
    assert_eq!((idle.status, idle.signals.vitals), (Status::Unknown, None));
}

/// EXC-1: what was found, what was expected, where, and what comes next.
#[test]
fn sentences_and_numbers() {
    let stale = judged(Facts { silent_since: ago(12_000), ..well() });
    assert_eq!(stale.details["error"], "wss://h/feed: no data for 12s, expected some within 5.0s (configured)");
    let phase = Phase::Waiting(BOOT + Duration::from_millis(1_500));
    let lost = judged(Facts { phase, down_since: Some(ago(11_000)), ..well() });
    assert_eq!(lost.details["error"], "wss://h/feed: not connected for 11s: code 1006; next attempt in 1.5s");
    let well = judged(well());
    let expected = [
        ("state", serde_json::json!("open")),
        ("connected", true.into()),
        ("authenticated", true.into()),
        ("data_flowing", true.into()),
        ("latency_ms", 20.0.into()),
        ("reconnect_count", 2.into()),
        ("last_error", "code 1006".into()),
        ("last_update", "2025-11-23T01:34:55Z".into()),
        ("stale_after_seconds", 5.0.into()),
        ("stale_after_source", "configured".into()),
        ("data_age_seconds", 1.0.into()),
    ];
    for (key, value) in &expected {
        let found = &well.details[*key];
        let same = found == value || found.as_str().is_some_and(|text| text.starts_with("2025-11-23T01:34:55"));
        assert!(same, "{key}: {found}");
    }
    let number = |label: &str| well.perfdata.iter().find(|one| &*one.label == label).map(|one| one.value);
    assert_eq!(number("websocket_latency"), Some(0.02));
    assert_eq!(number("websocket_reconnects"), Some(2.0));
    assert_eq!(number("websocket_data_age"), Some(1.0));
}

/// EXC-1: a wall clock that is set makes data neither young nor old: only time that passed since the reading counts.
#[test]
fn a_clock_that_is_set_revives_nothing() {
    let facts = Facts { data_at: Some(ago(6_000)), silent_since: ago(6_000), ..well() };
    for jump in [-86_400_000, -6_000, 0] {
        let now = Timestamp::from_millis(NOW.millis() + jump);
        let reading = Reading { read_at: NOW, since_boot: BOOT, facts: facts.clone() };
        assert_eq!(judge(&reading, PLACE, &limits(), now).status, Status::Critical, "{jump}");
    }
    let clock = Clock::manual(NOW);
    let target = Target {
        url: "ws://h/".to_owned(),
        headers: Vec::new(),
        token_file: None,
        ca_file: None,
        insecure_skip_verify: false,
        connect_timeout: Duration::from_secs(1),
    };
    let link = Link::new(target, Machine::new(Arc::new(Plan::default()), 0), clock.clone());
    let before = link.read();
    clock.jump(-3_600_000);
    clock.advance(Duration::from_secs(1));
    assert_eq!(link.read().since_boot - before.since_boot, Duration::from_secs(1));
}

/// EXC-1, REC-1: refused credentials are one trouble with one issue, which says so and says that no restart is the answer.
#[test]
fn a_refusal_is_told_as_one() {
    let phase = Phase::Waiting(BOOT + Duration::from_secs(16));
    let last_error = Some("status 401".to_owned());
    let refused = Facts {
        refused: last_error.clone(),
        last_error,
        authenticated: Some(false),
        phase,
        down_since: Some(ago(1)),
        ..well()
    };
    let judgement = judged(refused);
    let said = "the credentials are refused, which no restart mends: status 401";
    assert_eq!(judgement.details["error"], format!("{PLACE}: {said}"));
    assert_eq!(judgement.signals.own_status, Some(Status::Healthy), "the rule of vitals raises it");
    let vitals = judgement.signals.vitals.unwrap();
    assert_eq!(vitals.websocket.as_ref().unwrap().last_error.as_deref(), Some(said));
}

fn built(yaml: &str) -> Result<Arc<dyn AnyCheck>, String> {
    let problems = Problems::new("test.yml");
    let root = parse(yaml, &problems).unwrap();
    let mut section = Section::open(&root, "check", &problems).unwrap();
    let context = BuildContext {
        folder: "/nowhere".into(),
        workspace: "/nowhere".into(),
        data_dir: "/nowhere".into(),
        log_dir: "/nowhere".into(),
        stale_after: Duration::from_secs(300),
        own_files: Arc::default(),
        clock: Clock::manual(NOW),
        http: crate::base::http::client().unwrap(),
        max_error_rate: 0.2,
        max_latency: Duration::from_secs(2),
    };
    let built = build(&mut section, &context);
    let told: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    if told.is_empty() { Ok(built.unwrap()) } else { Err(told.join("\n")) }
}

/// SEC-2: a server whose certificate is believed whatever it says is known as one, and told; without TLS there is none.
#[test]
fn an_unverified_server_is_told() {
    for (yaml, verifies, cautions) in [
        ("{url: 'wss://h/', insecure_skip_verify: true}", Some(false), 1),
        ("{url: 'WSS://h/', insecure_skip_verify: true}", Some(false), 1),
        ("{url: 'wss://h/'}", Some(true), 0),
        ("{url: 'ws://h/', insecure_skip_verify: true}", None, 0),
    ] {
        let check = built(yaml).unwrap();
        assert_eq!((check.verifies_tls(), check.cautions().len()), (verifies, cautions), "{yaml}");
    }
}

/// SEC-3: the headers that are secrets come from a file.
#[test]
fn no_secret_in_a_header() {
    for name in ["Authorization", "cookie", "Proxy-Authorization"] {
        let told = built(&format!("{{url: 'ws://h/', headers: {{{name}: 'Bearer abc'}}}}")).err().unwrap();
        assert!(told.contains("write `{{token}}` for it, and `token_file`") && !told.contains("abc"), "{told}");
        let from_file =
            format!("{{url: 'ws://h/', token_file: t, headers: {{{name}: 'Bearer {{{{token}}}}', X-Any: y}}}}");
        assert!(built(&from_file).is_ok(), "{name}");
    }
}
