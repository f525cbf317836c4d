//! The metrics page as its readers take it: Prometheus, promtool, and the parsers of `prometheus_client`.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::common::{Chiron, Config, Prometheus, alert, notification, python_with, request, script, wait_for};
use crate::no_config::check_metrics;

const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0";

/// What an operator's job might write; clean under promtool.
const OWN: &str = r#"# HELP backup_duration_seconds How "long" it took, in C:\\backup.
# TYPE backup_duration_seconds histogram
backup_duration_seconds_bucket{target="a\\b",le="1"} 1
backup_duration_seconds_bucket{target="a\\b",le="+Inf"} 2
backup_duration_seconds_sum{target="a\\b"} 7.5
backup_duration_seconds_count{target="a\\b"} 2
# HELP backup_runs_total Runs.
# TYPE backup_runs_total counter
backup_runs_total{target="say \"hi\"\n"} 3
# HELP backup_size_bytes Size.
# TYPE backup_size_bytes gauge
backup_size_bytes 1.5e+09
"#;

/// What is legal in the text format and has no like in OpenMetrics.
const ODD: &str = "# TYPE odd_counter counter\nodd_counter 1\nodd_plain{b=\"2\",a=\"1\"} NaN\n\
                   # TYPE odd_summary summary\nodd_summary_count 2\nodd_summary{quantile=\"1\"} 1\nodd_summary_sum 3\n\
                   odd_summary{quantile=\"0.5\"} 0.5\n";

/// A platform with trouble: a critical subsystem whose plugin prints awkward labels, an alert, and an operator's file.
fn start(dir: &Path) -> Chiron {
    let plugin = script(
        &dir.join("plugin.sh"),
        "printf '%s\\n' \"CRITICAL - no | 'quote\\\"and\\\\slash'=3s plain=25%\"\nexit 2",
    );
    std::fs::create_dir(dir.join("metrics.d")).expect("a folder can be made");
    std::fs::write(dir.join("metrics.d/own.prom"), OWN).expect("a file can be written");
    let config = Config::new(dir).with(&format!(
        "subsystems:\n  feed:\n    check: {{kind: exec, argv: [{plugin:?}]}}\nmetrics: {{textfile_dir: metrics.d}}\n"
    ));
    let chiron = Chiron::with_config(dir, config.text()).start();
    let body = notification(&[alert("firing", &[("alertname", "Odd \"one\" \\ of them")])])
        .replace("\"receiver\":\"chiron\"", "\"receiver\":\"a \\\"b\\\" \\\\ c\"");
    assert_eq!(chiron.notify(None, body.as_bytes()).expect("the webhook answers").status, 200);
    wait_for("an issue and the alert to be counted", || {
        let issues = chiron.metric_sum("chiron_issues", &[("subsystem", "feed")]);
        let alerts = chiron.metric_sum("chiron_alerts_received_total", &[]);
        if issues == 1.0 && alerts == 1.0 { Ok(()) } else { Err((issues, alerts)) }
    });
    chiron
}

fn get(chiron: &Chiron, accept: &str) -> String {
    let headers = [("Accept", accept)];
    let answer = request(chiron.address(), "GET", "/metrics", &headers, b"", Duration::from_secs(10));
    let answer = answer.expect("chiron answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let wanted = if accept.contains("openmetrics") {
        "application/openmetrics-text; version=1.0.0"
    } else {
        "text/plain; version=0.0.4"
    };
    assert_eq!(answer.header("content-type"), Some(&*format!("{wanted}; charset=utf-8")), "{}", answer.head);
    answer.body
}

/// Reads a page with a parser of `prometheus_client`: every sample as name, labels and value.
fn read_by_python(dir: &Path, parser: &str, page: &str) -> Vec<(String, Value, f64)> {
    const PROGRAM: &str = "import json, sys\n\
        from importlib import import_module\n\
        parse = import_module(sys.argv[1]).text_string_to_metric_families\n\
        page = open(sys.argv[2], encoding='utf-8', newline='').read()\n\
        samples = [[s.name, s.labels, str(s.value)] for family in parse(page) for s in family.samples]\n\
        print(json.dumps(samples))\n";
    let file = dir.join("page.txt");
    std::fs::write(&file, page).expect("a file can be written");
    let output = Command::new(python_with(&["prometheus_client==0.26.0"]))
        .args(["-c", PROGRAM, parser])
        .arg(&file)
        .output()
        .expect("python runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{parser} refuses the page: {complaint}\n{page}");
    let samples: Vec<(String, Value, String)> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    samples.into_iter().map(|(name, labels, value)| (name, labels, value.parse().expect("a number"))).collect()
}

fn value(samples: &[(String, Value, f64)], name: &str, labels: &Value) -> Option<f64> {
    samples.iter().find(|(found, with, _)| found == name && with == labels).map(|(_, _, value)| *value)
}

/// EXP-1, EXP-2: the strict OpenMetrics parser and the text parser of `prometheus_client` accept the page and read the
/// same series from both formats; promtool has nothing to say.
#[test]
fn strict_parsers_accept_both_formats() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(dir.path());
    check_metrics(&get(&chiron, "*/*"));

    std::fs::write(dir.path().join("metrics.d/odd.prom"), ODD).expect("a file can be written");
    let strict = read_by_python(dir.path(), "prometheus_client.openmetrics.parser", &get(&chiron, OPENMETRICS));
    let text = read_by_python(dir.path(), "prometheus_client.parser", &get(&chiron, "text/plain"));
    for samples in [&strict, &text] {
        for (name, labels, expected) in [
            ("chiron_subsystem_status", serde_json::json!({"subsystem": "feed", "status": "critical"}), 1.0),
            (
                "chiron_check_perfdata",
                serde_json::json!({"subsystem": "feed", "label": "quote\"and\\slash", "unit": "seconds"}),
                3.0,
            ),
            (
                "chiron_alerts_received_total",
                serde_json::json!({"receiver": "a \"b\" \\ c", "status": "firing", "outcome": "unrouted"}),
                1.0,
            ),
            ("backup_runs_total", serde_json::json!({"target": "say \"hi\"\n"}), 3.0),
            ("backup_duration_seconds_bucket", serde_json::json!({"target": "a\\b", "le": "1.0"}), 1.0),
            ("backup_duration_seconds_sum", serde_json::json!({"target": "a\\b"}), 7.5),
            ("backup_size_bytes", serde_json::json!({}), 1.5e9),
            ("odd_summary", serde_json::json!({"quantile": "0.5"}), 0.5),
            ("chiron_textfile_scrape_error", serde_json::json!({}), 0.0),
        ] {
            assert_eq!(value(samples, name, &labels), Some(expected), "{name}{labels}");
        }
    }
    assert_eq!(value(&strict, "odd_counter", &serde_json::json!({})), Some(1.0), "its name stays in OpenMetrics");
    assert!(strict.iter().any(|(name, _, value)| name == "odd_plain" && value.is_nan()));
    let series = |samples: &[(String, Value, f64)]| -> BTreeSet<String> {
        let own = samples.iter().filter(|(name, ..)| !name.starts_with("odd_counter"));
        own.map(|(name, labels, _)| format!("{name}{labels}")).collect()
    };
    assert_eq!(series(&strict), series(&text));
    assert!(strict.len() > 150, "{}", strict.len());
}

/// What passed through a relay: the heads of requests and answers.
#[derive(Clone, Default)]
struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    fn find(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.0.lock().expect("no writer panics").iter().find(|head| wanted(head)).cloned()
    }
}

/// Stands between Prometheus and chiron and writes down what they say; ends with the test's process.
fn relay(to: &str) -> (String, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    let (to, heads) = (to.to_owned(), Heads::default());
    let kept = heads.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { return };
            let copies = client.try_clone().and_then(|client| Ok((client, server.try_clone()?)));
            let Ok((client_again, server_again)) = copies else { return };
            for (from, into) in [(client, server), (server_again, client_again)] {
                let heads = kept.clone();
                std::thread::spawn(move || pass_on(from, into, &heads));
            }
        }
    });
    (address, heads)
}

fn pass_on(mut from: TcpStream, mut into: TcpStream, heads: &Heads) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        let text = String::from_utf8_lossy(&chunk[..read]);
        if text.starts_with("GET ") || text.starts_with("HTTP/1.1 ") {
            let head = text.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
            heads.0.lock().expect("no writer panics").push(head);
        }
        if into.write_all(&chunk[..read]).is_err() {
            break;
        }
    }
    let _ = into.shutdown(std::net::Shutdown::Both);
}

/// EXP-2: a real Prometheus negotiates OpenMetrics and gzip by its own headers, and every series arrives.
#[test]
fn prometheus_scrapes_openmetrics_compressed() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = start(dir.path());
    let (address, heads) = relay(chiron.address());
    let prometheus = Prometheus::start("groups: []", &[&address], &[]);
    wait_for("Prometheus to have scraped", || {
        let up = prometheus.query("up{job=\"chiron\"} == 1");
        if up.len() == 1 { Ok(()) } else { Err(up) }
    });
    let asked = heads.find(|head| head.starts_with("get /metrics ")).expect("Prometheus has asked");
    assert!(asked.contains("application/openmetrics-text") && asked.contains("accept-encoding: gzip"), "{asked}");
    let answered = heads.find(|head| head.starts_with("http/1.1 200 ")).expect("chiron has answered");
    for line in [
        "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8",
        "content-encoding: gzip",
        "vary: accept, accept-encoding",
    ] {
        assert!(answered.contains(line), "`{line}` is missing: {answered}");
    }
    for (query, expected) in [
        ("chiron_subsystem_status{subsystem=\"feed\",status=\"critical\"}", 1.0),
        ("chiron_check_perfdata{label=\"quote\\\"and\\\\slash\"}", 3.0),
        ("chiron_issues_opened_total{subsystem=\"feed\",severity=\"critical\"}", 1.0),
        ("backup_runs_total{target=\"say \\\"hi\\\"\\n\"}", 3.0),
        ("backup_duration_seconds_bucket{le=\"1.0\"}", 1.0),
        ("count(chiron_action_duration_seconds_bucket{action=\"restart_subsystem\",le=\"1.0\"})", 1.0),
        ("count(chiron_scrape_duration_seconds > 0)", 1.0),
        ("count(process_cpu_seconds_total)", 1.0),
    ] {
        let found = prometheus.query(query);
        assert_eq!(found.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [expected], "{query}");
    }
    let samples = get(&chiron, OPENMETRICS).lines().filter(|line| !line.starts_with('#')).count();
    let scraped = prometheus.query("scrape_samples_scraped{job=\"chiron\"}");
    #[expect(clippy::cast_precision_loss, reason = "a page has some hundred samples")]
    let samples = samples as f64;
    assert_eq!(scraped.first().map(|(_, value)| *value), Some(samples), "as many as the page has");
}

/// SPEC 12: with `--web.telemetry-path` the page is there and nowhere else; GET and HEAD alike.
#[test]
fn the_page_moves_with_its_flag() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let chiron = Chiron::without_config(dir.path()).arg("--web.telemetry-path=/own/page").start();
    assert_eq!(chiron.get("/metrics").expect("chiron answers").status, 404);
    let page = chiron.get("/own/page").expect("chiron answers");
    assert!(page.status == 200 && page.body.contains("chiron_build_info{"), "{}", page.head);
    let head = request(chiron.address(), "HEAD", "/own/page", &[], b"", Duration::from_secs(10));
    // Its length is that of the page which it does not have, so the little client finds it cut short.
    assert!(head.is_err_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof));
    let landing = chiron.get("/").expect("chiron answers");
    assert!(landing.body.contains("href=\"own/page\""), "{}", landing.body);
}
