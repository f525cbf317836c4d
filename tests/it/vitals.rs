//! A live bot, a process of its own, that tells how it is in each of the four ways; with Python as the bot.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::common::{Chiron, Config, Process, in_order, kinds, script, tool, wait_for};
use crate::loop_with_alertmanager::wait_status;

/// The bot: `bot.py WAY FOLDER [CHIRON]`. SIGUSR2 takes its connection away, SIGUSR1 has it connect again.
const BOT: &str = r##"
import http.server, json, os, signal, sys, threading, time, urllib.request
way, folder = sys.argv[1:3]
up = True
def lose(*_):
    global up
    up = False
def repair(*_):
    global up
    up = True
signal.signal(signal.SIGUSR2, lose)
signal.signal(signal.SIGUSR1, repair)

def vitals():
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"websocket_status": {"connected": up, "latency_ms": 12, "last_error": None if up else "reset by peer"},
            "rate_limit_status": {"BTC/USD": {"percentage": 40}}, "memory_usage": 0.5, "task_count": 3, "last_update": now}

def replace(name, text):
    with open(os.path.join(folder, name + ".new"), "w") as file:
        file.write(text)
    os.rename(os.path.join(folder, name + ".new"), os.path.join(folder, name))

class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if way == "http":
            page = json.dumps({"version": "2.1", "bot": vitals()})
        else:
            page = "# TYPE bot_up gauge\nbot_up %d\nbot_ping_seconds 0.012\nbot_limit_ratio{symbol=\"BTC/USD\"} 0.4\nbot_memory_ratio 0.5\n" % up
        self.send_response(200)
        self.end_headers()
        self.wfile.write(page.encode())
    def log_message(self, *_):
        pass

if way in ("http", "metrics"):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    replace("bot.port", str(server.server_port))
replace("bot.pid", str(os.getpid()))
while True:
    if way == "file":
        replace("vitals.json", json.dumps(vitals()))
    if way == "push":
        body = json.dumps({"subsystem": "bot", **vitals()}).encode()
        request = urllib.request.Request("http://%s/api/v1/vitals" % sys.argv[3], body, {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=2).read()
        except OSError:
            pass
    time.sleep(0.2)
"##;

fn bot(way: &str, dir: &Path, chiron: &str) -> Process {
    let program = dir.join("bot.py");
    std::fs::write(&program, BOT).expect("a program can be written");
    let mut command = Command::new(tool("python3"));
    let process = Process::start("bot", command.arg(program).arg(way).arg(dir).arg(chiron), &dir.join("bot.log"));
    wait_for("the bot's pid file", || read(dir, "bot.pid"));
    process
}

fn read(dir: &Path, name: &str) -> Result<String, String> {
    std::fs::read_to_string(dir.join(name)).map_err(|error| error.to_string())
}

fn config(dir: &Path, check: &str) -> Config {
    let repair = script(&dir.join("repair.sh"), &format!("kill -USR1 \"$(cat {:?})\"", dir.join("bot.pid")));
    Config::new(dir).with(&format!(
        "subsystems:\n  bot:\n    criticality: partial\n    interval: 500ms\n    check: {{kind: vitals, {check}, degraded_after: 2s, critical_after: 4s}}\n\
         bindings:\n  - {{action: repair_websocket, subsystem: bot, exec: {{argv: [{repair:?}]}}, verify: {{settle: 100ms, within: 30s}}}}\n"
    ))
}

/// From a connection that is lost to a repair that is verified by what the bot then says, and what its silence leads to.
fn story(way: &str) {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = dir.path();
    let before = (way != "push").then(|| bot(way, dir, ""));
    let port = || read(dir, "bot.port").expect("the bot listens");
    let check = match way {
        "push" => "from: push".to_owned(),
        "file" => "from: file, path: vitals.json".to_owned(),
        "http" => format!("from: http, url: \"http://127.0.0.1:{}/\", pointer: /bot, timeout: 1s", port()),
        _ => format!(
            "from: metrics, url: \"http://127.0.0.1:{}/metrics\", timeout: 1s, series: {{websocket_status.connected: bot_up, \
             websocket_status.latency_ms: {{series: bot_ping_seconds, factor: 1000}}, memory_usage: bot_memory_ratio, \
             rate_limit_status: {{series: bot_limit_ratio, factor: 100}}}}",
            port()
        ),
    };
    let chiron = Chiron::with_config(dir, config(dir, &check).text()).start();
    let bot = before.unwrap_or_else(|| bot(way, dir, chiron.address()));
    wait_status(&chiron, "bot", "healthy");
    let issues = || {
        let labels = [("subsystem", "bot"), ("type", "websocket_disconnected"), ("severity", "critical")];
        ["chiron_issues", "chiron_issues_opened_total"].map(|family| chiron.metric(family, &labels))
    };
    assert_eq!(issues(), [Some(0.0), Some(0.0)], "{way}: the series is there from the start");
    let of_bot = [("subsystem", "bot")];
    wait_for("the vitals as metrics", || {
        let found = ["connected", "latency_seconds"]
            .map(|what| chiron.metric(&format!("chiron_vitals_websocket_{what}"), &of_bot));
        let limits = chiron.metric("chiron_vitals_rate_limit_ratio", &[("subsystem", "bot"), ("symbol", "BTC/USD")]);
        let found = (found, limits, chiron.metric("chiron_vitals_memory_ratio", &of_bot));
        if found == ([Some(1.0), Some(0.012)], Some(0.4), Some(0.5)) { Ok(()) } else { Err(found) }
    });

    bot.signal(Signal::USR2);
    wait_for("the journal to tell the story", || {
        let story =
            ["episode_opened", "run_intended", "run_started", "run_finished", "run_verified", "episode_resolved"];
        in_order(&kinds(&chiron.journal()), &story)
    });
    let run = &chiron.get_json("/api/v1/actions")["actions"][0];
    assert_eq!((&run["action"], &run["outcome"]), (&"repair_websocket".into(), &"verified".into()), "{way}: {run}");
    let opened = chiron.journal().iter().filter(|entry| entry["kind"] == "episode_opened").count();
    assert_eq!(opened, 1, "{way}: one trouble is one issue");
    wait_status(&chiron, "bot", "healthy");
    assert_eq!(issues(), [Some(0.0), Some(1.0)], "{way}");

    bot.signal(Signal::STOP);
    wait_status(&chiron, "bot", "critical");
    let health = chiron.get_json("/status")["subsystem_health"]["bot"].clone();
    let told = health["details"]["warning"].as_str().or(health["details"]["error"].as_str()).unwrap_or_default();
    let expected = if matches!(way, "push" | "file") { "old (stale)" } else { "no whole answer within 1s" };
    assert!(told.contains(expected), "{way}: {health}");
    assert_eq!(chiron.metric("chiron_vitals_websocket_connected", &of_bot), None, "{way}: old vitals are no vitals");
    bot.signal(Signal::CONT);
    wait_status(&chiron, "bot", "healthy");
}

/// OBS-9, DET-1, REC-1, ACT-4: by push.
#[test]
fn a_bot_that_pushes() {
    story("push");
}

/// OBS-9, DET-1, REC-1, ACT-4: by a file.
#[test]
fn a_bot_that_writes_a_file() {
    story("file");
}

/// OBS-9, DET-1, REC-1, ACT-4: polled over HTTP as JSON.
#[test]
fn a_bot_that_answers_with_json() {
    story("http");
}

/// OBS-9, DET-1, REC-1, ACT-4: scraped from its own metrics.
#[test]
fn a_bot_with_metrics() {
    story("metrics");
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// OBS-7, OBS-9: a file of 1 GB, half a file, no number where one belongs: a clear detail each, in bounded memory, and what is
/// well again is healthy again.
#[test]
fn a_bot_that_writes_nonsense() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = dir.path();
    let path = dir.join("vitals.json");
    let write = |text: &str| {
        std::fs::write(dir.join("new"), text).expect("a file can be written");
        std::fs::rename(dir.join("new"), &path).expect("a file can be renamed");
    };
    write("{}");
    let check = "from: file, path: vitals.json, degraded_after: 1h, critical_after: 2h";
    let yaml =
        format!("subsystems:\n  bot: {{criticality: partial, interval: 200ms, check: {{kind: vitals, {check}}}}}\n");
    let chiron = Chiron::with_config(dir, Config::new(dir).with(&yaml).text()).start();
    wait_status(&chiron, "bot", "healthy");
    let before = resident(chiron.pid());
    let big = || {
        let file = File::create(dir.join("new")).expect("a file can be made");
        file.set_len(1 << 30).expect("a file can be long");
        std::fs::rename(dir.join("new"), &path).expect("a file can be renamed");
    };
    let table: [(&dyn Fn(), &str); 5] = [
        (&big, "1073741824 bytes, more than the limit of"),
        (&|| write("{\"error_rate\": 0."), "not JSON: EOF"),
        (&|| write("{\"error_rate\": NaN}"), "not JSON: expected value"),
        (
            &|| write("{\"websocket_status\": {\"connected\": \"yes\"}}"),
            "`websocket_status.connected`: found `\"yes\"`, expected true or false",
        ),
        (&|| write("[]"), "found no mapping, expected vitals"),
    ];
    for (spoil, told) in table {
        spoil();
        wait_for(told, || {
            let health = chiron.get_json("/status")["subsystem_health"]["bot"].clone();
            let error = health["details"]["error"].as_str().unwrap_or_default();
            if health["status"] == "critical" && error.contains(told) && error.contains("vitals.json") {
                Ok(())
            } else {
                Err(health)
            }
        });
    }
    let grown = resident(chiron.pid()).saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
    write("{\"error_rate\": 0}");
    wait_status(&chiron, "bot", "healthy");
}

/// DET-2, EXC-3: what is done about one symbol is told which, and the issue has it.
#[test]
fn an_action_is_told_its_symbol() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let dir = dir.path();
    let vitals = r#"{"rate_limit_status": {"BTC/USD": {"percentage": 99}, "ETH/USD": {"percentage": 5}}}"#;
    std::fs::write(dir.join("vitals.json"), vitals).expect("a file can be written");
    let recover = script(
        &dir.join("recover.sh"),
        "printf '%s' \"$CHIRON_SYMBOL\" > recovered; printf '{\"rate_limit_status\": {}}' > vitals.json",
    );
    let yaml = format!(
        "subsystems:\n  bot: {{criticality: full, interval: 300ms, check: {{kind: vitals, from: file, path: vitals.json, degraded_after: 1h, critical_after: 2h}}}}\n\
         bindings:\n  - {{action: recover_rate_limit, subsystem: bot, exec: {{argv: [{recover:?}]}}, verify: {{settle: 100ms, within: 30s}}}}\n"
    );
    let chiron = Chiron::with_config(dir, Config::new(dir).with(&yaml).text()).start();
    wait_for("the journal to tell the story", || {
        in_order(&kinds(&chiron.journal()), &["episode_opened", "run_started", "run_verified", "episode_resolved"])
    });
    assert_eq!(read(dir, "recovered").as_deref(), Ok("BTC/USD"));
    let journal = chiron.journal();
    let opened: Vec<&Value> = journal.iter().filter(|entry| entry["kind"] == "episode_opened").collect();
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert!(opened[0].to_string().contains("BTC/USD"), "{opened:?}");
}
