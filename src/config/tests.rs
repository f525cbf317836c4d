//! The whole loader: defaults, every key, flags against file, warnings, and damage to good files.
#![expect(clippy::disallowed_methods, reason = "writes the files that are then read")]

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::load::assemble;
use super::*;
use crate::base::clock::Clock;
use crate::model::{Class, Criticality, Level, Problem, Severity, Timestamp};

const FULL: &str = include_str!("../../tests/config/full.good.yml");
const CONTRACT: &str = include_str!("../../tests/config/contract.good.yml");
const OLDER: &str = include_str!("../../tests/config/older_shape.good.yml");

fn clock() -> Clock {
    Clock::manual(Timestamp::from_millis(0))
}

fn with(text: &str, inputs: &Inputs) -> Result<Loaded, Vec<Problem>> {
    load_text(text, "tests/config/test.yml", inputs, clock())
}

fn good(text: &str) -> Loaded {
    with(text, &Inputs::default()).unwrap_or_else(|problems| panic!("{text}\n{}", told(&problems)))
}

fn told(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn bad(text: &str) -> String {
    told(&with(text, &Inputs::default()).err().unwrap_or_else(|| panic!("{text} loads")))
}

fn find<'s>(settings: &'s Settings, name: &str) -> Option<&'s SubsystemSettings> {
    settings.subsystems.iter().find(|entry| entry.subsystem.name == *name)
}

/// Without any configuration: profile quantum, the current folder, loopback, and nothing is acted upon (SPEC 14).
#[test]
fn nothing_at_all_gives_the_defaults() {
    let loaded = load(&Inputs::default(), clock()).expect("defaults are right");
    let settings = loaded.settings;
    let here: PathBuf = std::path::absolute(".").expect("a current folder").components().collect();
    assert_eq!(settings.file, None);
    assert_eq!(settings.digest, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_eq!(settings.profile, "quantum");
    assert_eq!((settings.mode, settings.admit.dry_run), (None, true));
    assert_eq!(settings.workspace, here);
    assert_eq!(settings.data_dir, here.join("data"));
    assert_eq!(settings.log_dir, here.join("logs"));
    assert_eq!(settings.state_dir, here.join(".chiron"));
    assert_eq!(settings.storage, store::Settings::Sqlite(here.join(".chiron/chiron.db")));
    assert_eq!(settings.policy_file, here.join("data/safety_policy.json"));
    assert_eq!(settings.report_file, here.join("data/self_healing_report.json"));
    assert_eq!(settings.disk_paths, [here]);
    assert_eq!(settings.http.listen, [SocketAddr::from(([127, 0, 0, 1], 19913))]);
    assert_eq!(settings.http.telemetry_path, "/metrics");
    assert_eq!(settings.subsystems.len(), 13);
    assert_eq!(settings.detect, detect::Settings::default());
    assert_eq!(settings.recommend, recommend::Settings::default());
    assert_eq!(settings.admit, admit::Settings::default());
    assert_eq!(settings.policy, policy::Settings::default());
    assert_eq!(settings.alerts, crate::alerts::Settings::default());
    assert!(settings.bindings.is_empty());
    assert_eq!(loaded.warnings, [""; 0]);
}

/// The example of SPEC 15 loads, and every key of it arrives.
#[test]
fn the_contract_loads() {
    let loaded = good(CONTRACT);
    let settings = &loaded.settings;
    assert_eq!((settings.mode, settings.admit.dry_run), (Some(Mode::Real), false));
    assert!(settings.recommend.auto_restart_enabled && settings.recommend.auto_pause_on_critical);
    assert_eq!(settings.storage, store::Settings::Sqlite("/var/lib/chiron/chiron.db".into()));
    assert_eq!(settings.state_dir, Path::new("/var/lib/chiron"));
    assert!(find(settings, "universe_os").is_none());
    assert_eq!(settings.subsystems.len(), 13);
    let router = &settings.subsystems[12];
    assert_eq!(router.subsystem.name, "order_router");
    assert_eq!(router.subsystem.criticality, Criticality::Full);
    assert_eq!(router.subsystem.depends_on, ["exchange_connection"]);
    assert_eq!(router.scheduled.interval, Duration::from_secs(5));
    assert_eq!(router.scheduled.timeout, Duration::from_secs(3));
    let binding = &settings.bindings[0];
    assert_eq!((binding.id.as_str(), binding.class), ("restart_subsystem@order_router", Class::Probeable));
    assert_eq!((binding.verify.settle, binding.verify.hold_down), (Duration::from_secs(2), 1));
    assert_eq!((binding.timeout, binding.retries), (Duration::from_secs(60), 0));
    let watchdog = settings.alerts.watchdog.as_ref().expect("a watchdog");
    assert_eq!((watchdog.absent_after, watchdog.policy), (Duration::from_secs(180), Level::NoNewTrades));
    let route = &settings.alerts.routes[0];
    assert_eq!(route.matches.get("alertname").map(String::as_str), Some("OrderRouterDown"));
    assert_eq!(route.policy, Some(Level::NoNewTrades));
    assert_eq!(settings.alerts.bearer_tokens, ["0123456789abcdef0123456789abcdef"]);
    let later: Vec<&String> =
        loaded.warnings.iter().filter(|line| line.contains("has no effect in this version")).collect();
    assert_eq!(later.len(), 2, "{:?}", loaded.warnings);
    assert!(later[0].starts_with("tests/config/test.yml:"), "{later:?}");
}

#[test]
fn every_key_arrives() {
    let settings = good(FULL).settings;
    let folder = std::path::absolute("tests/config").expect("a current folder");
    assert_eq!(settings.workspace, folder);
    assert_eq!(settings.data_dir, folder.join("user_data"));
    assert_eq!(settings.log_dir, Path::new("/var/log/bot"));
    assert_eq!(settings.state_dir, folder.join("../state"));
    assert_eq!(settings.storage, store::Settings::Sqlite(folder.join("state/journal.db")));
    assert_eq!(settings.disk_paths, [folder.clone(), "/".into()]);
    assert_eq!(settings.policy_file, folder.join("out/policy.json"));
    assert_eq!(settings.report_file, folder.join("out/report.json"));
    assert_eq!((settings.mode, settings.admit.dry_run), (Some(Mode::Paper), false));
    let detect = &settings.detect;
    assert_eq!((detect.max_consecutive_failures, detect.failed_after), (2, Duration::from_secs(90)));
    assert_eq!((detect.max_cpu_percent, detect.max_memory_percent, detect.max_disk_percent), (95.0, 90.5, 80.0));
    assert_eq!((detect.flap_openings, detect.flap_window.as_secs(), detect.flap_hold.as_secs()), (4, 1200, 600));
    assert_eq!((detect.max_latency_ms, detect.max_rate_limit_percent), (1500.0, 80.0));
    assert_eq!((detect.prediction.enabled, detect.prediction.horizon.as_secs()), (false, 7200));
    assert_eq!(detect.max_error_rate, 0.1);
    let names: Vec<&str> = settings.subsystems.iter().map(|entry| entry.subsystem.name.as_str()).collect();
    assert_eq!(names, ["feed", "router", "bot_pushing", "bot_writing", "bot_answering", "bot_measuring", "bot"]);
    assert_eq!(settings.subsystems[0].scheduled.interval, Duration::from_secs(2));
    assert_eq!(settings.subsystems[0].scheduled.timeout, Duration::from_millis(500));
    assert_eq!(settings.subsystems[1].scheduled.interval, Duration::from_secs(10));
    let binding = &settings.bindings[0];
    assert_eq!((binding.timeout.as_secs(), binding.retries, binding.verify.hold_down), (30, 2, 3));
    assert_eq!(settings.bindings[1].subsystem, "host");
    let alerts = &settings.alerts;
    let addresses: Vec<&str> = alerts.alertmanagers.iter().map(|target| target.url.as_str()).collect();
    assert_eq!(addresses, ["http://127.0.0.1:9093", "https://am.example/prefix", "https://b.example", "http://c"]);
    let [_, _, bearer, basic] = &alerts.alertmanagers[..] else { panic!("four") };
    let token = |token: &str| crate::alerts::Credentials::Bearer(crate::base::secret::Secret::new(token.to_owned()));
    assert_eq!(bearer.credentials, token("0123456789abcdef0123456789abcdef"));
    assert!(bearer.insecure_skip_verify && bearer.ca_pem.is_some());
    assert!(matches!(&basic.credentials, crate::alerts::Credentials::Basic { username, .. } if username == "chiron"));
    assert_eq!((alerts.poll_interval.as_secs(), alerts.restart_grace.as_secs()), (15, 120));
    assert_eq!((alerts.send.enabled, alerts.send.resend_interval.as_secs()), (true, 20));
    assert_eq!(alerts.send.labels.get("team").map(String::as_str), Some("trading"));
    assert_eq!(alerts.send.external_url.as_deref(), Some("https://chiron.example/ops"));
    assert_eq!(alerts.bearer_tokens.len(), 2);
    assert_eq!(alerts.replica_labels, ["prometheus_replica", "replica"]);
    assert_eq!(alerts.watchdog.as_ref().map(|watchdog| watchdog.policy), Some(Level::SafeRiskProfile));
    let route = &alerts.routes[0];
    assert_eq!((route.severity, route.confirm_by_check, route.allow_labels), (Some(Severity::High), true, false));
    assert_eq!((route.symbol_label.as_deref(), route.kind.as_deref()), (Some("symbol"), Some("router_down")));
    assert!(alerts.routes[1].allow_labels);
    let admit = &settings.admit;
    assert_eq!((admit.cooldown.as_secs(), admit.target_budget, admit.target_window.as_secs()), (0, 5, 1800));
    assert_eq!((admit.overall_budget, admit.overall_window.as_secs()), (20, 3600));
    assert_eq!((admit.concurrency, admit.not_after.as_secs()), (2, 120));
    let storm = &admit.storm;
    assert_eq!((storm.subsystems, storm.share, storm.calm.as_secs()), (3, 0.25, 120));
    let [routers] = &admit.groups[..] else { panic!("one group") };
    assert_eq!((routers.name.as_str(), routers.min_healthy), ("routers", 0.3));
    assert_eq!(routers.members, ["feed", "router"], "one that is not enabled does not count");
    let [weekly, nightly] = &admit.windows[..] else { panic!("two windows") };
    assert_eq!((weekly.plan.text(), weekly.plan.zone()), ("0 22 * * SAT", "Europe/Vienna"));
    assert_eq!((weekly.duration.as_secs(), nightly.duration.as_secs()), (14_400, 1_800));
    assert_eq!(
        (&weekly.subsystems[..], &weekly.actions[..]),
        (&["feed".into(), "host".into()][..], &["clear_cache".into()][..])
    );
    assert!(nightly.plan.zone() == "UTC" && nightly.subsystems.is_empty() && nightly.actions.is_empty());
    assert!(settings.recommend.allow_disable_module);
    assert_eq!(settings.recommend.ladders.len(), 2);
    assert_eq!(settings.recommend.ladders[0].actions, ["restart_subsystem", "no_new_trades"]);
    assert_eq!((settings.policy.relax_after_cycles, settings.policy.validity.as_secs()), (5, 60));
    let [stop, start, file, touch] = &settings.hooks[..] else { panic!("four hooks") };
    assert_eq!((stop.rule.first.as_secs(), stop.rule.max.as_secs(), stop.rule.deadline.as_secs()), (2, 20, 45));
    assert_eq!((stop.rule.recheck.as_secs(), stop.timeout.as_secs()), (30, 4));
    assert_eq!((stop.rule.subsystem.as_deref(), start.timeout.as_secs()), (Some("router"), 5));
    assert_eq!(stop.rule.when, policy::hooks::When::AtLeast(Level::NoNewTrades));
    assert_eq!(start.rule.when, policy::hooks::When::Below(Level::NoNewTrades));
    assert_eq!(file.rule.when, policy::hooks::When::Always);
    assert!(matches!((&start.confirm, &file.confirm), (Confirm::Check(_), Confirm::Shows(_))));
    assert!(stop.rule.proof && !touch.rule.proof);
    assert!(stop.place.ends_with(": policy.hooks[0]"), "{}", stop.place);
    assert_eq!(settings.http.listen.len(), 2);
    assert_eq!(settings.http.telemetry_path, "/internal/metrics");
    assert_eq!(settings.http.external_url.as_deref(), Some("https://chiron.example/ops"));
    assert_eq!(settings.http.bearer_tokens.len(), 1);
    assert_eq!(settings.textfile_dir, Some(folder.join("metrics.d")));
}

/// A flag wins over the file (SPEC 15).
#[test]
fn flags_win() {
    let workspace = tempfile::tempdir().expect("a folder");
    let inputs = Inputs {
        config_file: None,
        workspace: Some(workspace.path().to_owned()),
        mode: Some(Mode::Real),
        dry_run: true,
        storage_url: Some("memory:".into()),
        listen: vec![SocketAddr::from(([0, 0, 0, 0], 1))],
        telemetry_path: Some("/m".into()),
        external_url: Some("http://x/".into()),
        web_config_file: None,
        environment: crate::execute::Environment::default(),
    };
    let settings = with(FULL, &inputs).expect("right").settings;
    assert_eq!(settings.workspace, workspace.path());
    assert_eq!((settings.mode, settings.admit.dry_run), (Some(Mode::Real), true));
    assert_eq!(settings.storage, store::Settings::Memory);
    assert_eq!(settings.http.listen, inputs.listen);
    assert_eq!(settings.http.telemetry_path, "/m");
    assert_eq!(settings.http.external_url.as_deref(), Some("http://x"));
    let settings = with("", &Inputs { mode: Some(Mode::Paper), ..Inputs::default() }).expect("right").settings;
    assert!(!settings.admit.dry_run);
}

#[test]
fn a_wrong_flag_and_a_wrong_key_are_told_together() {
    let inputs =
        Inputs { storage_url: Some("mysql://u:p@h".into()), telemetry_path: Some("m".into()), ..Inputs::default() };
    let problems = with("storage: {url: x}\n", &inputs).expect_err("wrong");
    assert_eq!(
        told(&problems),
        "--storage.url: found `mysql://***@h`, expected `sqlite:PATH` or `memory:`\n\
         --web.telemetry-path: found `m`, expected a path such as /metrics\n\
         tests/config/test.yml:1:16: storage.url: found `x`, expected `sqlite:PATH` or `memory:`\n"
    );
}

/// Without `mode` nothing is acted upon, whatever `dry_run` says (SPEC 14).
#[test]
fn without_a_mode_it_is_a_dry_run() {
    let loaded = good("dry_run: false\n");
    assert!(loaded.settings.admit.dry_run);
    assert!(loaded.warnings[0].contains("dry_run: without `mode`"), "{:?}", loaded.warnings);
    assert!(!good("mode: paper\n").settings.admit.dry_run);
    assert!(good("mode: real\ndry_run: true\n").settings.admit.dry_run);
}

/// The older JSON shape loads as it is, and its port sets the listener unless something newer does (SPEC 14).
#[test]
fn the_older_shape_loads() {
    let loaded = good(OLDER);
    assert_eq!(loaded.settings.http.listen, [SocketAddr::from(([127, 0, 0, 1], 8080))]);
    for key in ["data_healing", "endpoint_healing", "monitoring", "endpoints"] {
        let text = format!("`{key}` is accepted and has no effect in this version");
        assert_eq!(loaded.warnings.iter().filter(|line| line.contains(&text)).count(), 1, "{:?}", loaded.warnings);
    }
    let both = "monitoring: {dashboard_port: 8080}\nweb: {listen_address: [\"127.0.0.1:1\"]}\n";
    assert_eq!(good(both).settings.http.listen[0].port(), 1);
    let inputs = Inputs { listen: vec![SocketAddr::from(([127, 0, 0, 1], 2))], ..Inputs::default() };
    assert_eq!(with(OLDER, &inputs).expect("right").settings.http.listen[0].port(), 2);
}

#[test]
fn a_preset_gives_way_to_single_thresholds() {
    let settings = good("preset: production\nthresholds: {max_cpu_percent: 99}\n").settings;
    assert_eq!((settings.detect.max_cpu_percent, settings.detect.max_memory_percent), (99.0, 80.0));
    assert_eq!(settings.detect.max_error_rate, 0.15);
    assert_eq!(good("preset: default").settings.detect.max_error_rate, 0.2);
}

/// A built-in subsystem is overridden key by key (OBS-3), and what a disabled one needed takes its place (OBS-6).
#[test]
fn built_in_subsystems_are_overridden_key_by_key() {
    let text = "subsystems:
  data_feed: {criticality: none, interval: 7s}
  model_supervisor: {depends_on: [ai_model]}
  logging: {depends_on: [model_supervisor], check: {kind: tcp, address: \"127.0.0.1:1\"}}
  ai_model:
";
    let settings = good(text).settings;
    let feed = find(&settings, "data_feed").expect("enabled");
    assert_eq!((feed.subsystem.criticality, feed.scheduled.interval.as_secs()), (Criticality::None, 7));
    assert_eq!(find(&settings, "logging").expect("enabled").subsystem.depends_on, ["model_supervisor"]);
    assert_eq!(settings.subsystems.len(), 13);
    let text = text.replace("depends_on: [ai_model]", "enabled: false, depends_on: [ai_model]");
    let settings = good(&text).settings;
    assert_eq!(settings.subsystems.len(), 12);
    assert_eq!(find(&settings, "logging").expect("enabled").subsystem.depends_on, ["ai_model"]);
    assert!(good("profile: none").settings.subsystems.is_empty());
    assert!(bad("profile: none\nsubsystems: {data_feed: {enabled: false}}").contains("missing, expected a check"));
}

#[test]
fn a_binding_has_exactly_one_means_and_its_own_time_limit() {
    let two = "bindings: [{action: clear_cache, subsystem: host, exec: {argv: [/bin/true]}, file: {path: x}}]";
    assert!(
        bad(two).contains(
            "bindings[0]: expected exactly one means of `exec`, `http`, `systemd`, `container`, `signal`, `file`, found exec and file"
        ),
        "{}",
        bad(two)
    );
    let own = "bindings: [{action: clear_cache, subsystem: host, exec: {argv: [/bin/true], timeout: 7s}}]";
    assert_eq!(good(own).settings.bindings[0].timeout, Duration::from_secs(7));
    assert_eq!(good(own).settings.bindings[0].class, Class::OneShot);
    let own = "bindings: [{action: clear_cache, subsystem: host, http: {url: \"http://127.0.0.1/\", timeout: 8s}}]";
    assert_eq!(good(own).settings.bindings[0].timeout, Duration::from_secs(8));
}

#[test]
fn what_is_probably_not_meant_is_warned_about() {
    let text = "subsystems:\n  data_feed: {enabled: false}\nalerts:\n  routes:\n  \
                - {match: {a: b}, subsystem: ai_model, action: restart_subsystem}\n  \
                - {match: {a: b, c: d}, subsystem: ai_model, action: no_new_trades}\n  \
                - {match: {a: b}, subsystem: data_feed}\n  - {match: {e: f}}\n";
    let warnings = good(text).warnings;
    let expected = [
        "routes[0].action: no binding for `restart_subsystem` of `ai_model`",
        "routes[1]: never reached: an earlier route matches all it does",
        "routes[2].subsystem: `data_feed` is not enabled",
        "routes[2]: never reached: an earlier route has the same `match`",
        "routes[3].subsystem: neither `subsystem` nor",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.starts_with("tests/config/test.yml:") && warning.contains(expected), "{warning}");
    }
    let missing = Inputs { workspace: Some("tests/config/nowhere".into()), ..Inputs::default() };
    assert!(with("", &missing).expect("right").warnings[0].contains("nowhere`: no such folder yet"));
    let file = Inputs { workspace: Some("Cargo.toml".into()), ..Inputs::default() };
    assert!(told(&with("", &file).expect_err("wrong")).contains("expected a folder, but it is not a folder"));
}

/// Tokens are read from files only, never told, and a file that anybody may read is warned about (SEC-3).
#[test]
fn tokens_open_to_everybody_are_warned_about_and_never_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("t");
    std::fs::write(&token, "0123456789abcdefSECRET\n").expect("written");
    let file = folder.path().join("chiron.yml");
    std::fs::write(&file, "web: {bearer_token_file: t}\n").expect("written");
    let inputs = Inputs { config_file: Some(file), ..Inputs::default() };
    for (mode, warned) in [(0o644, true), (0o640, false), (0o600, false)] {
        std::fs::set_permissions(&token, Permissions::from_mode(mode)).expect("ours");
        let loaded = load(&inputs, clock()).expect("right");
        assert_eq!(loaded.settings.http.bearer_tokens, ["0123456789abcdefSECRET"]);
        assert_eq!(loaded.warnings.iter().any(|line| line.contains("chmod o-rwx")), warned, "{mode:o}");
        assert!(!loaded.warnings.concat().contains("SECRET"));
    }
    std::fs::write(&token, "SECRET\n").expect("written");
    let problems = load(&inputs, clock()).expect_err("too short");
    assert!(!told(&problems).contains("SECRET"), "{problems:?}");
}

#[test]
fn unreadable_files_are_one_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let told_of = |path: &Path| {
        let inputs = Inputs { config_file: Some(path.to_owned()), ..Inputs::default() };
        told(&load(&inputs, clock()).expect_err("unreadable"))
    };
    assert!(told_of(&folder.path().join("no")).contains("found `no such file`, expected a readable settings file"));
    assert!(told_of(folder.path()).contains("found `no regular file`"));
    let file = folder.path().join("f");
    std::fs::write(&file, vec![b'#'; 1024 * 1024 + 1]).expect("written");
    assert!(told_of(&file).contains("more than 1048576 bytes"));
    std::fs::write(&file, b"mode: paper\n# \xc3\xa9\xff\n").expect("written");
    assert!(told_of(&file).contains(":2:4: expected UTF-8 text"), "{}", told_of(&file));
}

fn never_panics(text: &str) {
    thread_local! {
        static CLIENT: reqwest::Client = crate::base::http::client().expect("a client");
    }
    let answer = assemble(text, "tests/config/test.yml", &Inputs::default(), clock(), CLIENT.with(Clone::clone));
    if let Err(problems) = answer {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(problem.line > 0 && problem.column > 0, "{problem}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_text_gives_settings_or_problems(text in "(?s).{0,200}") {
        never_panics(&text);
    }

    #[test]
    fn any_damage_to_a_good_file_gives_settings_or_problems(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, 0..60_usize, "[ -~\n\t:{}\\[\\],é-]{0,3}"), 1..6),
        which in any::<bool>(),
    ) {
        let mut text: Vec<char> = if which { FULL } else { CONTRACT }.chars().collect();
        for (index, what, length, insert) in edits {
            let at = index.index(text.len() + 1);
            let end = (at + length).min(text.len());
            match what {
                0 => drop(text.splice(at..end, [])),
                1 => drop(text.splice(at..at, insert.chars())),
                _ => drop(text.splice(at..(at + 1).min(text.len()), insert.chars())),
            }
        }
        never_panics(&text.into_iter().collect::<String>());
    }
}
