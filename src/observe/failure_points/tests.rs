//! Each failure point over real files and servers, as the settings build it: both sides of what it looks for.
#![expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::source::context;
use super::*;
use crate::base::clock::Clock;
use crate::base::tree::{Problems, parse};
use crate::model::{Pushed, Severity, Status, Timestamp};
use crate::observe::check::Judgement;
use crate::observe::checks::testing::{NOW, date, files_of, torture};
use crate::observe::inbox::Inbox;

/// A failure point built from YAML.
fn built(category: &str, yaml: &str, checks: &BuildContext, slots: &[(Name, Arc<Slot>)]) -> Arc<dyn AnyCheck> {
    let problems = Problems::new("");
    let node = parse(yaml, &problems).expect("the test's YAML is right");
    let mut section = Section::open(&node, "", &problems).unwrap();
    let context = PointContext { checks, slots, every: Duration::from_secs(60) };
    let built = (point(category).unwrap().build)(&mut section, &context);
    section.finish();
    let told = problems.into_vec();
    assert!(told.is_empty(), "{told:?}");
    built.unwrap().check
}

async fn look(check: &Arc<dyn AnyCheck>, now: Timestamp) -> Judgement {
    check.judge(&check.read().await, now)
}

fn told(judgement: &Judgement) -> Vec<(String, Severity, String)> {
    let findings = judgement.signals.findings.iter();
    findings
        .map(|finding| {
            let symbol = finding.symbol.as_deref().unwrap_or("").to_owned();
            (symbol, finding.severity, finding.description.clone())
        })
        .collect()
}

/// The finding of a failure point over one file.
async fn of_file(category: &str, key: &str, more: &str, content: &str) -> Judgement {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state.json"), content).unwrap();
    date(&folder.path().join("state.json"), NOW.minus(Duration::from_secs(10)));
    let yaml = format!("{key}: state.json\n{more}\n");
    look(&built(category, &yaml, &context(folder.path()), &[]), NOW).await
}

/// OBS-8: categories are unique, every file of the folder is in the list, every page has its headings.
#[test]
fn the_registry_is_complete() {
    let mut names: Vec<&str> = POINTS.iter().map(|spec| spec.category).collect();
    names.sort_unstable();
    assert_eq!(names, files_of("src/observe/failure_points", &["mod", "findings", "source", "tests", "window"]));
    for spec in POINTS {
        let headings: Vec<&str> = spec.doc.lines().filter_map(|line| line.strip_prefix("# ")).collect();
        assert_eq!(headings, ["What it asks", "Why it matters", "Failure reasons", "Parameters"], "{}", spec.category);
        assert!(!spec.advice.is_empty());
    }
    assert!(point("none").is_none());
}

/// OBS-8: the catalog is what the registry says. `UPDATE_GOLDEN=1` rewrites it.
#[test]
fn the_catalog_is_the_golden_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/failure-points.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, catalog()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == catalog(), "docs/failure-points.md is not what the sources say; UPDATE_GOLDEN=1 rewrites it");
}

/// OBS-8, kill switch: active or not, until when, and whether its time has passed without release; noticed at that moment.
#[tokio::test]
async fn kill_switch() {
    let until = |millis: i64| Timestamp::from_millis(NOW.millis() + millis);
    for (content, status, text) in [
        (json!({"active": false}), Status::Healthy, ""),
        (json!({"active": 0, "blocked_until": until(1)}), Status::Healthy, ""),
        (json!({"active": true}), Status::Critical, "kill switch active"),
        (json!({"active": true, "blocked_until": until(1)}), Status::Critical, "; until "),
        (json!({"active": true, "blocked_until": until(0)}), Status::Critical, "without release"),
        (json!({"active": true, "blocked_until": NOW.millis() / 1000 - 1}), Status::Critical, "without release"),
        (json!({"active": "true", "blocked_until": NOW.millis() + 1}), Status::Critical, "; until "),
        (json!({"blocked_until": until(1)}), Status::Critical, "; until "),
        (json!({"blocked_until": until(0)}), Status::Healthy, ""),
        (json!({"active": "perhaps"}), Status::Critical, "expected true or false"),
        (json!({"active": true, "blocked_until": "soon"}), Status::Critical, "expected a date"),
        (json!({"other": 1}), Status::Critical, "found nothing at `/active`"),
        (json!([1]), Status::Critical, "found nothing at `/active`"),
    ] {
        let judgement = of_file("kill_switch", "path", "", &content.to_string()).await;
        assert_eq!(judgement.status, status, "{content}");
        let found = told(&judgement);
        assert_eq!(found.len(), usize::from(status != Status::Healthy), "{content}");
        assert!(found.iter().all(|(_, _, found)| found.contains(text)), "{content}: {found:?}");
    }
    // The reason may be another with every trade that the bot refuses; the finding stays the same.
    for reason in ["3 losses", "4 losses"] {
        let content = json!({"active": true, "reason": reason}).to_string();
        let judgement = of_file("kill_switch", "path", "", &content).await;
        let text = "kill switch active".to_owned();
        assert_eq!(told(&judgement), [(String::new(), Severity::Critical, text)]);
        assert_eq!(judgement.details["reason"], reason);
    }
    let waits =
        of_file("kill_switch", "path", "", &json!({"active": true, "blocked_until": until(5000)}).to_string()).await;
    assert_eq!(waits.next_change_at, Some(until(5000)));
    let other = "active: /s/on\nblocked_until: /s/till";
    let elsewhere = json!({"s": {"on": true, "till": until(-1)}}).to_string();
    assert_eq!(of_file("kill_switch", "path", other, &elsewhere).await.details["release_overdue"], true);
}

/// OBS-8: a bot that removes its file when there is nothing to say; without `missing: healthy`, nobody knows.
#[tokio::test]
async fn a_file_that_the_bot_removes() {
    for (category, key, more) in [
        ("kill_switch", "path", ""),
        ("symbol_probation", "path", ""),
        ("position_limits", "positions", "max: 1\n"),
        ("strategy_overlap", "positions", ""),
    ] {
        for (missing, status, findings) in [
            ("", Status::Unknown, 0),
            ("missing: unknown\n", Status::Unknown, 0),
            ("missing: healthy\n", Status::Healthy, 0),
            ("missing: degraded\n", Status::Degraded, 1),
            ("missing: critical\n", Status::Critical, 1),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let yaml = format!("{key}: gone.json\n{more}{missing}");
            let judgement = look(&built(category, &yaml, &context(folder.path()), &[]), NOW).await;
            let found = (judgement.status, judgement.signals.findings.len(), judgement.unrunnable);
            assert_eq!(found, (status, findings, false), "{category} {missing}");
            assert!(format!("{:?}", judgement.details).contains("gone.json: missing"), "{judgement:?}");
        }
    }
    let judgement = of_file("kill_switch", "path", "missing: degraded", "not: missing").await;
    assert_eq!(judgement.status, Status::Critical, "a text that ends like it is not a file that is missing");
    let gone = json!({"active": "x: missing"}).to_string();
    assert_eq!(of_file("kill_switch", "path", "missing: healthy", &gone).await.status, Status::Critical);
}

/// OBS-8: two strategies on one symbol and direction are one finding of that symbol; all else is none.
#[tokio::test]
async fn strategy_overlap() {
    let position = |symbol: &str, direction: &str, strategy: &str| json!({"symbol": symbol, "direction": direction, "strategy": strategy});
    let judgement = of_file(
        "strategy_overlap",
        "positions",
        "",
        &json!({"open_positions": [
            position("BTCUSDT", "LONG", "momentum"), position("BTCUSDT", "long", "carry"), position("BTCUSDT", "SHORT", "x"),
            position("ETHUSDT", "LONG", "carry"), position("ETHUSDT", "LONG", "carry"), position("SOLUSDT", "LONG", "a"),
            position("SOLUSDT", "SHORT", "b"), {"symbol": "X", "direction": "LONG"}, {"symbol": 7}, 3, null
        ]})
        .to_string(),
    )
    .await;
    let text = "2 strategies hold BTCUSDT LONG: carry, momentum".to_owned();
    assert_eq!(told(&judgement), [("BTCUSDT".to_owned(), Severity::Medium, text)]);
    assert_eq!((judgement.status, &judgement.details["without_strategy"]), (Status::Degraded, &json!(1)));
    let sample = std::fs::read_to_string("tests/samples/positions_futures.json").unwrap_or_else(|_| {
        json!({"open_positions": [position("BTCUSDT", "LONG", "momentum"), position("ETHUSDT", "SHORT", "carry")]})
            .to_string()
    });
    assert_eq!(of_file("strategy_overlap", "positions", "", &sample).await.status, Status::Healthy);
    for (content, text) in
        [("{}", "found nothing at"), ("{\"open_positions\": 3}", "found `3`"), ("\"x\"", "found nothing")]
    {
        let judgement = of_file("strategy_overlap", "positions", "", content).await;
        assert_eq!(judgement.status, Status::Degraded, "{content}");
        assert!(told(&judgement)[0].2.contains(text), "{judgement:?}");
    }
}

/// OBS-8: below, at and beyond the limit, in all and of a symbol.
#[tokio::test]
async fn position_limits() {
    let positions =
        json!({"open_positions": [{"symbol": "BTC"}, {"symbol": "BTC"}, {"symbol": "ETH"}], "max": 3}).to_string();
    for (more, found) in [
        ("max: 4", vec![]),
        ("max: 3", vec![("", Severity::Medium, "open positions at the limit of 3")]),
        ("max: 2", vec![("", Severity::High, "open positions beyond the limit of 2")]),
        ("max_pointer: /max", vec![("", Severity::Medium, "open positions at the limit of 3")]),
        ("max_per_symbol: 2", vec![("BTC", Severity::Medium, "open positions of BTC at the limit of 2")]),
        (
            "max_per_symbol: 2\nsymbols: {BTC: 3, ETH: 0}",
            vec![("ETH", Severity::High, "open positions of ETH beyond the limit of 0")],
        ),
    ] {
        let judgement = of_file("position_limits", "positions", more, &positions).await;
        let expected: Vec<_> = found
            .iter()
            .map(|(symbol, severity, text)| ((*symbol).to_owned(), *severity, (*text).to_owned()))
            .collect();
        assert_eq!(told(&judgement), expected, "{more}");
        assert_eq!(judgement.details["current"], 3);
    }
    for (content, status) in [
        (json!([1, 2]), Status::Degraded),
        (json!({"open_positions": {"BTC": {}, "ETH": {}}}), Status::Degraded),
        (json!({"open_positions": 1}), Status::Healthy),
        (json!({"open_positions": "many"}), Status::Degraded),
        (json!({}), Status::Degraded),
    ] {
        assert_eq!(
            of_file("position_limits", "positions", "max: 2", &content.to_string()).await.status,
            status,
            "{content}"
        );
    }
}

/// OBS-8: which symbols, since when, recovering or not; without a date, since they were seen first.
#[tokio::test]
async fn symbol_probation() {
    for content in [
        json!({"symbols": {"BTC": {"since": "2025-11-23T00:00:00Z"}, "ETH": {"recovering": true}, "SOL": false}}),
        json!({"probation": [{"symbol": "BTC", "since": 1_763_856_000}, {"symbol": "ETH", "status": "recovering"},
            {"symbol": "SOL", "active": false}, {"no": 1}, 3]}),
        json!({"BTC": 1_763_856_000_000_i64, "ETH": {"recovering": true}}),
    ] {
        let judgement = of_file("symbol_probation", "path", "", &content.to_string()).await;
        let expected = [
            ("BTC".to_owned(), Severity::Medium, "BTC is on probation since 2025-11-23T00:00:00Z".to_owned()),
            ("ETH".to_owned(), Severity::Low, format!("ETH is on probation since {NOW}, recovering")),
        ];
        assert_eq!(told(&judgement), expected, "{content}");
        assert_eq!((&judgement.details["on_probation"], &judgement.details["recovering"]), (&json!(2), &json!(1)));
    }
    for content in ["{}", "[]", "{\"symbols\": {}}"] {
        assert_eq!(of_file("symbol_probation", "path", "", content).await.status, Status::Healthy, "{content}");
    }
    assert_eq!(of_file("symbol_probation", "path", "", "3").await.status, Status::Degraded);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.json");
    let checks = context(folder.path());
    let check = built("symbol_probation", "path: p.json", &checks, &[]);
    let mut since = Vec::new();
    for content in ["[\"A\"]", "[\"A\"]", "[]", "[\"A\"]"] {
        std::fs::write(&path, content).unwrap();
        date(&path, checks.clock.now());
        let judgement = look(&check, checks.clock.now()).await;
        since.push(told(&judgement).first().map(|(_, _, text)| text.clone()));
        checks.clock.advance(Duration::from_secs(60));
    }
    let at = |minutes: u64| Some(format!("A is on probation since {}", NOW.plus(Duration::from_secs(60 * minutes))));
    assert_eq!(since, [at(0), at(0), None, at(3)]);
}

/// OBS-8: both sides of 120 s, by the date inside and by the file's.
#[tokio::test]
async fn intelligence_freshness() {
    for (age, status, changes) in [
        (0, Status::Healthy, Some(120_001)),
        (120_000, Status::Healthy, Some(1)),
        (120_001, Status::Degraded, None),
        (-5_000, Status::Healthy, Some(125_001)),
        (-5_001, Status::Degraded, Some(1)),
    ] {
        for content in [json!({"updated_at": NOW.millis() - age}).to_string(), "{}".to_owned()] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("i.json");
            std::fs::write(&path, &content).unwrap();
            let by_file = content == "{}";
            date(&path, Timestamp::from_millis(NOW.millis() - if by_file { age } else { 1_000_000 }));
            let check = built("intelligence_freshness", "path: i.json", &context(folder.path()), &[]);
            let judgement = look(&check, NOW).await;
            assert_eq!(judgement.status, status, "{age} {content}");
            assert_eq!(judgement.next_change_at.map(|at| at.millis() - NOW.millis()), changes, "{age} {content}");
        }
    }
    let judgement = of_file("intelligence_freshness", "path", "pointer: /none", "{}").await;
    assert!(told(&judgement)[0].2.ends_with("found no date at `/none`"));
}

/// OBS-8: there, readable and writable; what is wrong is named with its path, and nothing is changed.
#[tokio::test]
async fn file_system() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("ok.json"), "{}").unwrap();
    std::fs::create_dir(at("folder.json")).unwrap();
    let checks = context(folder.path());
    let full = "max_used: 1\n";
    let well = built("file_system", &format!("{full}critical_files: [ok.json]"), &checks, &[]);
    let judgement = look(&well, NOW).await;
    assert_eq!(judgement.status, Status::Healthy, "{judgement:?}");
    assert_eq!(std::fs::read(at("ok.json")).unwrap(), b"{}");
    let ill =
        built("file_system", &format!("{full}critical_files: [none.json, folder.json]\npaths: [gone]"), &checks, &[]);
    let judgement = look(&ill, NOW).await;
    assert_eq!(judgement.status, Status::Critical);
    let text = &told(&judgement)[0].2;
    for part in ["gone missing", "none.json missing", "folder.json is a directory, expected a file"] {
        assert!(text.contains(part), "{text}");
    }
    let little = built("file_system", "max_used: 0.000000001", &checks, &[]);
    assert!(told(&look(&little, NOW).await)[0].2.contains("more than 0 % full"));
    // The rights of a file count where they bind: nothing binds root.
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(at("ok.json"), std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(told(&look(&well, NOW).await)[0].2.contains("ok.json may not be written"));
    }
    let read_only = built("file_system", &format!("{full}critical_files: [/proc/version]"), &checks, &[]);
    let readable =
        built("file_system", &format!("{full}critical_files: [/proc/version]\nwritable: false"), &checks, &[]);
    let _ = look(&read_only, NOW).await;
    assert_eq!(look(&readable, NOW).await.status, Status::Healthy);
}

/// OBS-8: missing, invalid, against its schema; JSON and YAML. No value of the file is told.
#[tokio::test]
async fn configuration() {
    let folder = tempfile::tempdir().unwrap();
    let schema = std::fs::canonicalize("tests/config/trading.schema.json").unwrap();
    let checks = context(folder.path());
    let yaml = format!("files:\n  c.json: {{schema: {schema:?}}}\n  c.yml: {{schema: {schema:?}}}\n");
    let check = built("configuration", &yaml, &checks, &[]);
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        date(&folder.path().join(name), NOW.minus(Duration::from_secs(10)));
    };
    let missing = look(&check, NOW).await;
    assert_eq!((missing.status, told(&missing)[0].1), (Status::Degraded, Severity::High));
    assert_eq!(missing.details["broken"], 2);
    write("c.yml", "max_positions: 3\n");
    for (index, (content, text)) in [
        (r#"{"max_positions": 1}"#, None),
        (r#"{"max_positions": 0}"#, Some("against its schema at `/max_positions`")),
        (r#"{"max_positions": 1, "api_key": "canary-secret"}"#, Some("against its schema at `/api_key`")),
        ("{}", Some("\"max_positions\" is a required property")),
        ("{\"max_positions\": 1", Some("not JSON")),
        ("", Some("empty")),
        ("{\"a\": [[[", Some("not JSON")),
    ]
    .into_iter()
    .enumerate()
    {
        write("c.json", content);
        // Each another file than the one before, as a real clock would have it.
        date(&folder.path().join("c.json"), NOW.minus(Duration::from_secs(20 + index as u64)));
        let judgement = look(&check, NOW).await;
        assert_eq!(judgement.status == Status::Healthy, text.is_none(), "{content}: {judgement:?}");
        let shown = format!("{judgement:?}");
        assert!(text.is_none_or(|text| told(&judgement)[0].2.contains(text)), "{content}: {shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
    write("c.json", r#"{"max_positions": 1}"#);
    write("c.yml", "max_positions: [1, 2\n");
    assert!(told(&look(&check, NOW).await)[0].2.contains("not YAML"));
}

/// Whatever stands in the place of a file: a clear text, bounded, and never a panic; a missing file is as configured.
#[tokio::test]
async fn torture_of_bad_files() {
    for (category, key, more) in [
        ("kill_switch", "path", ""),
        ("strategy_overlap", "positions", ""),
        ("symbol_probation", "path", ""),
        ("intelligence_freshness", "path", "missing: unknown\n"),
        ("position_limits", "positions", "max: 1\n"),
        ("signal_blocks", "from", ""),
    ] {
        for case in torture() {
            let yaml = format!("{key}: {:?}\n{more}", case.path);
            let judgement = look(&built(category, &yaml, &context(Path::new("/")), &[]), NOW).await;
            let unknown = case.name == "missing";
            assert_eq!(judgement.status == Status::Unknown, unknown, "{category} {}: {judgement:?}", case.name);
            let text = judgement.details.get("error").or(judgement.details.get("warning")).unwrap().as_str().unwrap();
            assert!(text.contains(case.error), "{category} {}: {text}", case.name);
        }
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        // Looking for a date alone builds nothing, however deep it is.
        if category != "intelligence_freshness" {
            let judgement = of_file(category, key, more, &deep).await;
            assert!(told(&judgement)[0].2.contains("not JSON"), "{category}");
        }
        for content in ["null", "true", "[]", "\"x\"", "1e300", "{\"open_positions\": [[], {}, null]}"] {
            let _ = of_file(category, key, more, content).await;
        }
    }
}

/// A server that gives each connection the next answer; an empty one is never given.
async fn server(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::runtime::Handle::current().spawn(async move {
        let mut held = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            if answer.is_empty() {
                held.push(stream);
                continue;
            }
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        std::future::pending::<()>().await;
    });
    format!("http://{address}")
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// OBS-8: an exchange that answers, fails, hangs and is away; one failure is no proof of anything, and few probes are none that
/// all is well. The error rate over the last probes outlives the failure. Whoever looks too soon hears the last answer.
#[tokio::test]
async fn exchange_api_over_a_server() {
    let well = || answer("200 OK", "{}");
    let answers = vec![well(), answer("503 Service Unavailable", ""), String::new(), well(), well(), well()];
    let url = server(answers).await;
    let yaml = format!("url: \"{url}/ping?key=canary\"\ntimeout: 200ms\n");
    let checks = context(Path::new("/"));
    let check = built("exchange_api", &yaml, &checks, &[]);
    for (status, text) in [
        (Status::Unknown, "too few probes yet"),
        (Status::Unknown, "status 503, expected 200 to 299"),
        (Status::Critical, "no answer within 200ms"),
        (Status::Unknown, "too few probes yet"),
        (Status::Degraded, "failed more than 20 % of the last probes"),
    ] {
        for _ in 0..5 {
            let judgement = look(&check, checks.clock.now()).await;
            assert_eq!(judgement.status, status, "{judgement:?}");
            assert_eq!(judgement.signals.findings.is_empty(), status == Status::Unknown);
            assert!(format!("{:?}", judgement.details).contains(text), "{judgement:?}");
            assert!(!format!("{judgement:?}").contains("canary"));
            checks.clock.advance(Duration::from_millis(999));
        }
        checks.clock.advance(Duration::from_millis(5));
    }
}

/// OBS-8: one of two addresses that is away is of high severity while the other one answers.
#[tokio::test]
async fn one_of_two_addresses_is_away() {
    let url = server(vec![answer("200 OK", "{}"); 2]).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let checks = context(Path::new("/"));
    let check = built("exchange_api", &format!("url: [\"{url}\", \"http://{gone}\"]\n"), &checks, &[]);
    assert_eq!(look(&check, checks.clock.now()).await.status, Status::Unknown);
    checks.clock.advance(Duration::from_secs(5));
    let judgement = look(&check, checks.clock.now()).await;
    assert_eq!((judgement.status, told(&judgement)[0].1), (Status::Degraded, Severity::High), "{judgement:?}");
}

/// OBS-8: the provider's data by a date in its answer and by the bot's file of it, both sides of 120 s.
#[tokio::test]
async fn intelligence_api_over_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("i.json");
    std::fs::write(&path, json!({"timestamp": NOW}).to_string()).unwrap();
    date(&path, NOW.minus(Duration::from_secs(10)));
    let dated = |age: i64| answer("200 OK", &json!({"at": NOW.millis() - age}).to_string());
    let busy = || answer("429 Too Many Requests", "");
    let url = server(vec![dated(120_000), dated(120_001), answer("200 OK", "<html>"), busy(), busy()]).await;
    let yaml = format!("url: \"{url}\"\npointer: /at\ndata: i.json\nmax_error_rate: 1\n");
    let checks = context(folder.path());
    let check = built("intelligence_api", &yaml, &checks, &[]);
    for (status, severity, text) in [
        (Status::Healthy, None, ""),
        (Status::Degraded, Some(Severity::Medium), "is stale: older than 120s"),
        (Status::Degraded, Some(Severity::Medium), "not JSON"),
        (Status::Unknown, None, ""),
        (Status::Critical, Some(Severity::High), "found status 429, expected 200"),
    ] {
        let judgement = look(&check, NOW).await;
        checks.clock.advance(Duration::from_secs(5));
        let found = told(&judgement);
        assert_eq!((judgement.status, found.first().map(|one| one.1)), (status, severity), "{judgement:?}");
        assert!(found.first().is_none_or(|one| one.2.contains(text)), "{found:?}");
    }
}

/// OBS-8: what bots push answers "why is nothing trading?"; after 15 min of nothing but refusals it is an issue.
#[tokio::test]
async fn signal_blocks_from_vitals() {
    let mut checks = context(Path::new("/"));
    checks.clock = Clock::manual(NOW);
    let slot = Arc::new(Slot::new(checks.clock.clone()));
    let inbox = Inbox::default();
    inbox.replace(vec![("bot".into(), 0, Arc::clone(&slot))]);
    let check = built("signal_blocks", "from: vitals", &checks, &[("bot".into(), slot)]);
    let at = |checks: &BuildContext| checks.clock.now();
    assert_eq!(look(&check, at(&checks)).await.status, Status::Unknown, "nothing was pushed yet");
    let push = |passed: u64, minutes: u64| {
        let refused = 12 + minutes;
        let vitals = json!({"blocked_signals": {"max_positions": refused, "volatility_guard": 3}, "signals_total": refused + 3 + passed});
        let Value::Object(vitals) = vitals else { unreachable!() };
        let pushed = Pushed { name: "bot".into(), at: NOW, status: None, message: String::new(), vitals };
        inbox.push(pushed).unwrap();
    };
    let mut grades = Vec::new();
    for minute in 0..19 {
        push(u64::from(minute > 17), minute);
        let judgement = look(&check, at(&checks)).await;
        // What was refused before the first look tells nothing of now.
        if minute == 0 {
            assert_eq!(judgement.details["top_blockers"][0], json!({"guard": "max_positions", "refused": 12.0}));
            assert_eq!(judgement.next_change_at, Some(NOW.plus(Duration::from_millis(900_001))));
        }
        assert_eq!(judgement.status == Status::Unknown, minute < 16, "{judgement:?}");
        grades.push(judgement.status == Status::Degraded);
        checks.clock.advance(Duration::from_secs(60));
    }
    let expected: Vec<bool> = (0..19).map(|minute| (16..18).contains(&minute)).collect();
    assert_eq!(grades, expected);
    checks.clock.advance(Duration::from_secs(600));
    assert_eq!(look(&check, at(&checks)).await.status, Status::Unknown, "silence is not believed");
}

/// OBS-8: a host that listens and one that does not.
#[tokio::test]
async fn network_over_real_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let gone = {
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        other.local_addr().unwrap()
    };
    let checks = context(Path::new("/"));
    let both = built("network", &format!("hosts: [\"{here}\", \"{gone}\"]"), &checks, &[]);
    for _ in 0..3 {
        assert_eq!(look(&both, NOW).await.status, Status::Unknown, "failed once, and not asked again so soon");
    }
    checks.clock.advance(Duration::from_secs(5));
    let judgement = look(&both, NOW).await;
    assert_eq!((judgement.status, told(&judgement)[0].1), (Status::Degraded, Severity::High));
    assert!(told(&judgement)[0].2.contains(&gone.to_string()) && !told(&judgement)[0].2.contains(&here.to_string()));
    let well = built("network", &format!("hosts: [\"{here}\"]"), &checks, &[]);
    assert_eq!(look(&well, NOW).await.status, Status::Healthy);
}
