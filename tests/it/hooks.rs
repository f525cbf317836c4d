//! POL-5 "and by an actuator on each change": real bots that are told, refuse, pretend, forget, and are seen to follow.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Chiron, Config, Process, request, script, tool, wait_for};

/// A bot as people write them: POST /stopentry and /start, GET /show. It appends what reaches it to a log of its own.
const BOT: &str = r#"
import http.server, json, os, sys

log, trouble, port = sys.argv[1:]
state = {"policy": "allow_all"}

def left(kind):
    try:
        with open(trouble) as file:
            wanted = json.load(file)
    except FileNotFoundError:
        return False
    if wanted.get(kind, 0) <= 0:
        return False
    wanted[kind] -= 1
    with open(trouble + ".new", "w") as file:
        json.dump(wanted, file)
    os.rename(trouble + ".new", trouble)
    return True

class Bot(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, json.dumps(state).encode())

    def do_POST(self):
        said = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        with open(log, "a") as file:
            file.write(f"{self.path} {said}\n")
        if left("refuse"):
            return self.answer(503)
        if not left("ignore"):
            state["policy"] = said.split(" ")[0]
        self.answer(200)

    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("127.0.0.1", int(port)), Bot)
with open(log + ".port", "w") as file:
    file.write(str(server.server_port))
server.serve_forever()
"#;

struct HttpBot {
    dir: PathBuf,
    process: Process,
    port: u16,
}

impl HttpBot {
    fn start(dir: &Path) -> Self {
        std::fs::write(dir.join("bot.py"), BOT).expect("a file can be written");
        let (process, port) = Self::spawn(dir, 0);
        Self { dir: dir.to_path_buf(), process, port }
    }

    fn spawn(dir: &Path, port: u16) -> (Process, u16) {
        let said = dir.join("bot.log.port");
        let _ = std::fs::remove_file(&said);
        let mut command = Command::new(tool("python3"));
        command.arg(dir.join("bot.py")).arg(dir.join("bot.log")).arg(dir.join("trouble.json")).arg(port.to_string());
        let process = Process::start("bot", &mut command, &dir.join("bot-process.log"));
        let port = wait_for("the bot to listen", || {
            let text = std::fs::read_to_string(&said).map_err(|error| error.to_string())?;
            text.parse::<u16>().map_err(|error| error.to_string())
        });
        (process, port)
    }

    /// SIGKILL, and a new process at the same address that knows nothing of what it was told.
    fn restart(&mut self) {
        self.process.kill9();
        (self.process, _) = Self::spawn(&self.dir, self.port);
    }

    /// It refuses so many requests, then says ok to so many and does nothing.
    fn trouble(&self, refuse: u32, ignore: u32) {
        let text = json!({ "refuse": refuse, "ignore": ignore }).to_string();
        std::fs::write(self.dir.join("trouble.json"), text).expect("a file can be written");
    }

    /// What the bot itself says it is at.
    fn level(&self) -> String {
        let address = format!("127.0.0.1:{}", self.port);
        let answer = request(&address, "GET", "/show", &[], b"", Duration::from_secs(5)).expect("the bot answers");
        answer.json()["policy"].as_str().expect("a level").to_owned()
    }

    /// Every request that reached it: path, level, sequence.
    fn told(&self) -> Vec<(String, String, u64)> {
        let text = std::fs::read_to_string(self.dir.join("bot.log")).unwrap_or_default();
        text.lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let [path, level, sequence] = words[..] else { panic!("a torn line: `{line}`") };
                (path.to_owned(), level.to_owned(), sequence.parse().expect("a number"))
            })
            .collect()
    }

    fn wait_level(&self, level: &str) {
        wait_for(&format!("the bot to be at {level}"), || {
            let now = self.level();
            if now == level { Ok(()) } else { Err((now, self.told())) }
        });
    }
}

/// A script that sends the policy to a path of the bot.
fn teller(dir: &Path, port: u16, path: &str) -> PathBuf {
    let curl = tool("curl");
    let body = format!(
        "exec {} -fsS -m 5 -d \"$CHIRON_POLICY $CHIRON_POLICY_SEQUENCE\" http://127.0.0.1:{port}{path}",
        curl.display()
    );
    script(&dir.join(format!("tell{}.sh", path.replace('/', "-"))), &body)
}

/// Hooks for a bot that listens: one to stop it, one to let it go on. Quick ones, so that the tests are.
fn config(dir: &Path, port: u16, more: &str) -> String {
    let (stop, start) = (teller(dir, port, "/stopentry"), teller(dir, port, "/start"));
    let shows = format!("confirm: {{shows: {{url: \"http://127.0.0.1:{port}/show\", pointer: /policy}}}}");
    let often = "retry: {first: 200ms, max: 1s}, deadline: 2s, recheck: 1s";
    Config::new(dir)
        .with(&format!(
            "policy:\n  min_hold: 0s\n  relax_after_cycles: 1\n  hooks:\n    \
             - {{name: bot_stop, when: {{at_least: no_new_trades}}, exec: {{argv: [{stop:?}]}}, {shows}, {often}}}\n    \
             - {{name: bot_start, when: {{below: no_new_trades}}, exec: {{argv: [{start:?}]}}, {shows}, {often}}}\n{more}"
        ))
        .text()
        .to_owned()
}

fn hold(chiron: &Chiron, level: &str) {
    let seconds = if level == "allow_all" { 1 } else { 600 };
    let body = json!({ "level": level, "reason": "test", "expires_in_seconds": seconds }).to_string();
    let answer = chiron.post("/api/v1/policy", &body).expect("chiron answers");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// One hook as chiron tells of it.
fn hook(chiron: &Chiron, name: &str) -> Value {
    let answer = chiron.get_json("/api/v1/policy/hooks");
    let hooks = answer["hooks"].as_array().expect("a list");
    hooks.iter().find(|hook| hook["hook"] == name).unwrap_or_else(|| panic!("no hook {name}: {answer}")).clone()
}

fn wait_state(chiron: &Chiron, name: &str, state: &str) -> Value {
    wait_for(&format!("hook {name} to be {state}"), || {
        let hook = hook(chiron, name);
        if hook["state"] == state { Ok(hook) } else { Err(hook) }
    })
}

/// The open issue that the bot does not follow.
fn issue(chiron: &Chiron) -> Option<Value> {
    let answer = chiron.get_json("/api/v1/issues?status=open");
    let issues = answer["issues"].as_array().expect("a list");
    issues.iter().find(|issue| issue["type"] == "policy_not_followed").cloned()
}

/// POL-5: the bot is told of each change with the level and the number of the policy document, and is seen to follow; the
/// state is exported, and its words and keys are the documented ones.
#[test]
fn a_bot_is_told_of_each_change() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let bot = HttpBot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), bot.port, "")).start();
    wait_state(&chiron, "bot_start", "followed");
    hold(&chiron, "no_new_trades");
    bot.wait_level("no_new_trades");
    let told = wait_state(&chiron, "bot_stop", "followed");
    assert_eq!(
        (&told["policy"], &told["ending"], &told["attempts"]),
        (&json!("no_new_trades"), &json!("ok"), &json!(1))
    );
    assert_eq!(hook(&chiron, "bot_start")["state"], "idle");
    let sequence = chiron.get_json("/api/v1/policy")["sequence"].as_u64().expect("a number");
    assert_eq!(bot.told().last(), Some(&("/stopentry".to_owned(), "no_new_trades".to_owned(), sequence)));
    hold(&chiron, "emergency_shutdown");
    bot.wait_level("emergency_shutdown");
    let release = chiron.post("/api/v1/policy/release", r#"{"reason":"test"}"#).expect("chiron answers");
    assert_eq!(release.status, 200, "{}", release.body);
    bot.wait_level("allow_all");
    wait_state(&chiron, "bot_start", "followed");
    assert_eq!(bot.told().last().map(|(path, ..)| path.as_str()), Some("/start"));

    let of = |hook| [("hook", hook)];
    wait_for("the series to say the same", || {
        let followed = chiron.metric("chiron_policy_hook_followed", &of("bot_start"));
        let idle = chiron.metric("chiron_policy_hook_told_timestamp_seconds", &of("bot_stop"));
        if (followed, idle) == (Some(1.0), Some(0.0)) { Ok(()) } else { Err((followed, idle)) }
    });
    let ok = [("hook", "bot_stop"), ("outcome", "ok")];
    assert!(chiron.metric("chiron_policy_hook_attempts_total", &ok).is_some_and(|count| count >= 2.0));
    assert!(
        chiron.metric("chiron_policy_hook_follow_duration_seconds_count", &of("bot_stop")).is_some_and(|n| n >= 2.0)
    );
    let document = chiron.get_json("/api/v1/openapi.json");
    let schema = &document["components"]["schemas"]["PolicyHook"];
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().expect("a mapping").keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&schema["properties"]), keys(&told));

    // A reload without hooks forgets them.
    chiron.rewrite_config(Config::new(dir.path()).text());
    chiron.hang_up();
    wait_for("the hooks to be forgotten", || {
        let answer = chiron.get_json("/api/v1/policy/hooks");
        let page = chiron.metrics();
        if answer == json!({ "hooks": [] }) && !page.contains("chiron_policy_hook") { Ok(()) } else { Err(answer) }
    });
}

/// POL-5: a bot that refuses is told again until it follows; an ok without effect is no proof; past the deadline it is an
/// issue of its own, of which a person is told, and which ends when the bot follows.
#[test]
fn a_bot_that_does_not_follow_is_an_issue() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let bot = HttpBot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), bot.port, "")).start();
    wait_state(&chiron, "bot_start", "followed");
    let before = bot.told().len();
    bot.trouble(2, 1);
    hold(&chiron, "no_new_trades");
    bot.wait_level("no_new_trades");
    wait_state(&chiron, "bot_stop", "followed");
    assert_eq!(bot.told().len() - before, 4, "refused twice, ignored once, then followed: {:?}", bot.told());
    let failed = [("hook", "bot_stop"), ("outcome", "failed")];
    assert_eq!(chiron.metric("chiron_policy_hook_attempts_total", &failed), Some(2.0));
    assert!(issue(&chiron).is_none());

    // It says ok and does nothing, for longer than the deadline.
    bot.trouble(0, 1_000);
    hold(&chiron, "defensive_exit");
    let found = wait_for("the bot's issue", || issue(&chiron).ok_or_else(|| hook(&chiron, "bot_stop")));
    assert_eq!((&found["subsystem"], &found["severity"]), (&json!("platform"), &json!("critical")));
    assert_eq!(found["description"], "the bot does not follow the policy defensive_exit (bot_stop)");
    let late = wait_state(&chiron, "bot_stop", "late");
    assert!(late["seen"].as_str().is_some_and(|why| why.contains("shows `no_new_trades`")), "{late}");
    assert_eq!(bot.level(), "no_new_trades");
    wait_for("the series and the person to be told", || {
        let late = chiron.metric("chiron_policy_hook_late", &[("hook", "bot_stop")]);
        let labels = [("subsystem", "platform"), ("type", "policy_not_followed"), ("severity", "critical")];
        let open = chiron.metric("chiron_issues", &labels);
        let log = std::fs::read_to_string(dir.path().join("logs/operator_alerts.jsonl")).unwrap_or_default();
        if (late, open, log.contains("does not follow")) == (Some(1.0), Some(1.0), true) {
            Ok(())
        } else {
            Err((late, open, log))
        }
    });
    let policy = chiron.get_json("/api/v1/policy");
    assert_eq!(policy["policy"], "defensive_exit", "a bot that does not follow moves no policy");

    bot.trouble(0, 0);
    bot.wait_level("defensive_exit");
    wait_for("the issue to be over", || issue(&chiron).map_or(Ok(()), Err));
    wait_state(&chiron, "bot_stop", "followed");
}

/// POL-5: a bot that restarts and has forgotten its state is seen, and told again.
#[test]
fn a_bot_that_forgets_is_told_again() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let mut bot = HttpBot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), bot.port, "")).start();
    hold(&chiron, "no_new_trades");
    bot.wait_level("no_new_trades");
    wait_state(&chiron, "bot_stop", "followed");
    bot.restart();
    bot.wait_level("no_new_trades");
    wait_state(&chiron, "bot_stop", "followed");
}

/// POL-5 and invariant 9: chiron is killed after `hook_told` is durable, before the bot hears of it and after; the next one
/// tells the same try again, and sees the bot follow.
#[test]
fn kill_9_between_told_and_followed() {
    for (point, heard) in [("effect.before", 1), ("effect.after", 2)] {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let bot = HttpBot::start(dir.path());
        let mut chiron = Chiron::with_config(dir.path(), &config(dir.path(), bot.port, "")).start();
        wait_state(&chiron, "bot_start", "followed");
        // The bot follows already, so that this one has nothing to tell until the policy changes.
        chiron.set_env("CHIRON_FAILPOINTS", Some(&format!("{point}=kill")));
        chiron.restart();
        let told = bot.told().len();
        let begun = chiron.journal().len() as u64;
        let body = json!({ "level": "no_new_trades", "reason": "test", "expires_in_seconds": 600 }).to_string();
        // Whoever asked may hear nothing any more.
        let _ = chiron.post("/api/v1/policy", &body);
        wait_for("chiron to die", || chiron.ended().map(drop).ok_or("alive"));
        chiron.set_env("CHIRON_FAILPOINTS", None);
        chiron.spawn();
        chiron.wait_ready();
        wait_state(&chiron, "bot_stop", "followed");
        assert_eq!(bot.level(), "no_new_trades", "{point}");
        assert_eq!(bot.told().len() - told, heard, "{point}: {:?}", bot.told());
        let journal = chiron.journal_after(begun);
        let tries: Vec<&Value> =
            journal.iter().filter(|entry| entry["kind"] == "hook_told").map(|entry| &entry["attempt"]).collect();
        assert_eq!(tries, [1, 1], "{point}: the same try: {:?}", crate::common::kinds(&journal));
    }
}

/// POL-5, POL-4: a chiron whose journal cannot be used acts on nothing, and yet tells the bot to stop, since that lowers risk.
/// The bot's yes is not enough for it to be let go again.
#[test]
fn without_a_journal_the_bot_is_told_to_stop() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let bot = HttpBot::start(dir.path());
    let text = config(dir.path(), bot.port, "");
    std::fs::write(dir.path().join("state/chiron.db"), "this is no journal\n".repeat(1_000))
        .expect("a file can be written");
    let mut chiron = Chiron::with_config(dir.path(), &text);
    chiron.spawn();
    assert!(chiron.wait_listening(), "it exports all the same");
    bot.wait_level("no_new_trades");
    wait_state(&chiron, "bot_stop", "followed");
    assert_eq!(chiron.metric("chiron_blind", &[("reason", "journal_corrupt")]), Some(1.0));
    assert!(bot.told().iter().all(|(path, ..)| path == "/stopentry"), "{:?}", bot.told());
}

/// POL-5: a bot that reads a file and shows its state in another, told by the means `file`, which knows one text; no exit
/// code and no network.
#[test]
fn a_bot_that_reads_files() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    // The bot: it is stopped while the file `stop` is there, and says so in `state/bot.json`.
    std::fs::create_dir_all(dir.path().join("state")).expect("a folder can be made");
    let body = "cd \"$1\" || exit 1\nwhile :; do\n  \
                if [ -e stop ]; then level=no_new_trades; else level=allow_all; fi\n  \
                printf '{\"policy\": \"%s\"}' \"$level\" > state/bot.new && mv state/bot.new state/bot.json\n  \
                sleep 0.05\ndone";
    let program = script(&dir.path().join("bot.sh"), body);
    let mut command = Command::new(program);
    command.arg(dir.path());
    let mut bot = Process::start("bot", &mut command, &dir.path().join("bot-process.log"));
    let often = "retry: {first: 200ms, max: 1s}, deadline: 2s, recheck: 1s";
    let confirm = "confirm: {shows: {file: state/bot.json, pointer: /policy}}";
    let config = Config::new(dir.path()).with(&format!(
        "policy:\n  min_hold: 0s\n  relax_after_cycles: 1\n  hooks:\n    \
         - {{name: bot_stop, when: {{at_least: no_new_trades}}, file: {{path: stop, touch: true}}, {confirm}, {often}}}\n    \
         - {{name: bot_start, when: {{below: no_new_trades}}, file: {{path: stop, delete: true}}, {confirm}, {often}}}\n"
    ));
    let chiron = Chiron::with_config(dir.path(), config.text()).start();
    let shown = || std::fs::read_to_string(dir.path().join("state/bot.json")).unwrap_or_default();
    wait_state(&chiron, "bot_start", "followed");
    hold(&chiron, "no_new_trades");
    wait_state(&chiron, "bot_stop", "followed");
    assert!(shown().contains("no_new_trades") && dir.path().join("stop").exists());
    // Somebody removes the file behind chiron's back.
    std::fs::remove_file(dir.path().join("stop")).expect("it is there");
    wait_for("the file to be back", || if dir.path().join("stop").exists() { Ok(()) } else { Err(shown()) });
    wait_state(&chiron, "bot_stop", "followed");
    // A dead bot shows its last words; what it does not follow is an issue.
    bot.kill9();
    let release = chiron.post("/api/v1/policy/release", r#"{"reason":"test"}"#).expect("chiron answers");
    assert_eq!(release.status, 200, "{}", release.body);
    let found = wait_for("the bot's issue", || issue(&chiron).ok_or_else(|| hook(&chiron, "bot_start")));
    assert_eq!(found["severity"], "medium", "a bot that stays strict is no danger");
}

/// SPEC 14: in dry-run the bot hears nothing, and the state says why.
#[test]
fn dry_run_tells_nothing() {
    let dir = tempfile::tempdir().expect("a temporary folder can be made");
    let bot = HttpBot::start(dir.path());
    let chiron = Chiron::with_config(dir.path(), &config(dir.path(), bot.port, "dry_run: true\n")).start();
    hold(&chiron, "no_new_trades");
    wait_for("chiron to say what it would have done", || {
        let log = chiron.log();
        if log.contains("would have told the bot of the policy") { Ok(()) } else { Err(log) }
    });
    assert_eq!(hook(&chiron, "bot_stop")["state"], "dry_run");
    assert_eq!(bot.told(), []);
}
