//! The settings in force as a value, in the shape of the file: what the file says, every default, what flags and presets
//! made of it.
//!
//! Three layers, each above the one before: the defaults that the schema names, the file without its secrets, and what
//! [`Settings`] holds.
//! **Invariant:** no secret is in it. Contents of secret files never are; values that may be secret are redacted.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Mode, Settings, schema};
use crate::base::redact::{self, REDACTED};
use crate::base::tree::{self, Node, redact as without_login};
use crate::store;

/// Parts of keys whose values are secrets, unless they name a file.
const SECRET_KEYS: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "credential"];
/// Mappings whose values may be secrets: environments and request headers; and contents.
const SECRET_VALUES: [&str; 9] =
    ["env", "headers", "http_headers", "write", "body", "json", "send", "subscribe", "message"];
/// Lists of arguments, of which some may be secrets.
const ARGUMENTS: [&str; 2] = ["argv", "probe"];

/// The settings for people: `file`, `digest` and `settings`.
pub(super) fn shown(settings: &Settings, root: &Node) -> Value {
    let mut all = schema::defaults();
    merge(&mut all, json!({"heal": {"layout": settings.profile}}));
    merge(&mut all, without_secrets("", plain(root)));
    merge(&mut all, in_force(settings));
    redact::value(&mut all);
    json!({
        "file": settings.file.as_ref().map(|file| file.display().to_string()),
        "digest": settings.digest,
        "settings": all,
    })
}

/// A node as JSON.
fn plain(node: &Node) -> Value {
    match &node.value {
        tree::Value::Null => Value::Null,
        tree::Value::Scalar { text, quoted: true } => json!(text),
        tree::Value::Scalar { text, quoted: false } => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            // Only what JSON itself calls a number: `007` and `0x7` stay texts.
            _ => serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| json!(text), Value::Number),
        },
        tree::Value::List(items) => Value::Array(items.iter().map(plain).collect()),
        tree::Value::Map(entries) => {
            Value::Object(entries.iter().map(|(key, _, value)| (key.clone(), plain(value))).collect())
        }
    }
}

/// `value`, which stands under `key`, with everything redacted that may be secret.
fn without_secrets(key: &str, value: Value) -> Value {
    let name = key.to_ascii_lowercase().replace('-', "_");
    let names_a_file = ["_file", "_files", "_path", "_dir"].iter().any(|ending| name.ends_with(ending));
    if !names_a_file && SECRET_KEYS.iter().any(|part| name.contains(part)) {
        // A mapping under such a key is looked into: `tokens: [{name: ci, role: read, hash: ...}]`.
        return match value {
            Value::Null | Value::Bool(_) => value,
            Value::Object(_) => nested(value),
            Value::Array(list) if list.iter().all(Value::is_object) => {
                Value::Array(list.into_iter().map(nested).collect())
            }
            value => hidden(&value),
        };
    }
    match value {
        Value::Null => Value::Null,
        // `alerts.send` is a mapping of settings; a WebSocket's `send` is a message, or a list of them.
        value if SECRET_VALUES.contains(&name.as_str()) && !(name == "send" && value.is_object()) => match value {
            Value::Object(entries) => entries
                .into_iter()
                .map(|(key, value)| {
                    let shown = if is_secret(&key) { hidden(&value) } else { json!(REDACTED) };
                    (key, shown)
                })
                .collect(),
            _ => json!(REDACTED),
        },
        Value::Array(list) if ARGUMENTS.contains(&name.as_str()) => arguments(list),
        Value::Array(list) => Value::Array(list.into_iter().map(|item| without_secrets(key, item)).collect()),
        Value::String(text) => json!(address(&text)),
        value => nested(value),
    }
}

/// A secret in the place of its value; from now on it is removed from all that chiron says, such as a command's output.
fn hidden(value: &Value) -> Value {
    match value {
        // `Bearer TOKEN`, `Basic ...`: the word before is none.
        Value::String(text) => redact::remember(text.rsplit(' ').next().unwrap_or(text)),
        Value::Array(list) => list.iter().for_each(|item| drop(hidden(item))),
        _ => {}
    }
    json!(REDACTED)
}

/// Whether a name, of a key or an argument, is that of a secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    SECRET_KEYS.iter().any(|part| name.contains(part)) || name == "authorization"
}

fn nested(value: Value) -> Value {
    match value {
        Value::Object(entries) => entries
            .into_iter()
            .map(|(key, value)| {
                let value = without_secrets(&key, value);
                (key, value)
            })
            .collect(),
        Value::Array(list) => Value::Array(list.into_iter().map(nested).collect()),
        Value::String(text) => json!(address(&text)),
        other => other,
    }
}

/// A text without the credentials and the query of an address in it.
fn address(text: &str) -> String {
    let login = text.split_once("://").and_then(|(_, rest)| rest.split(['/', '?', '#']).next()?.rsplit_once('@'));
    if let Some((_, password)) = login.and_then(|(login, _)| login.split_once(':')) {
        redact::remember(password);
    }
    let text = without_login(text);
    match (text.contains("://"), text.split_once('?')) {
        (true, Some((before, _))) => format!("{before}?{REDACTED}"),
        _ => text,
    }
}

/// Arguments of a program: `--token=X` and `--token X` lose X, as do words with a secret's name in them.
fn arguments(list: Vec<Value>) -> Value {
    let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
    let words: Vec<String> = list.iter().map(text).collect();
    redact::secrets(&words).into_iter().for_each(redact::remember);
    json!(redact::arguments(&words))
}

/// Puts `upper` over `lower`: mappings key by key, lists of as many mappings item by item, all else as a whole.
fn merge(lower: &mut Value, upper: Value) {
    match (lower, upper) {
        (Value::Object(lower), Value::Object(upper)) => {
            for (key, value) in upper {
                match lower.get_mut(&key) {
                    Some(under) => merge(under, value),
                    None => drop(lower.insert(key, value)),
                }
            }
        }
        (Value::Array(lower), Value::Array(upper))
            if lower.len() == upper.len() && upper.iter().all(Value::is_object) =>
        {
            for (under, value) in lower.iter_mut().zip(upper) {
                merge(under, value);
            }
        }
        // A section that is there without a value is as if it were not there.
        (lower, Value::Null) if lower.is_object() => {}
        (lower, upper) => *lower = upper,
    }
}

/// What the settings hold, in the shape of the file.
fn in_force(settings: &Settings) -> Value {
    let Settings { detect, recommend, admit, policy, http, .. } = settings;
    let listen: Vec<String> = http.listen.iter().map(ToString::to_string).collect();
    json!({
        "profile": settings.profile,
        "mode": settings.mode.map(|mode| match mode { Mode::Paper => "paper", Mode::Real => "real" }),
        "dry_run": admit.dry_run,
        "workspace": settings.workspace,
        "data_dir": settings.data_dir,
        "log_dir": settings.log_dir,
        "state_dir": settings.state_dir,
        "disks": settings.disk_paths,
        "check_interval": span(settings.check_interval),
        "critical_check_interval": span(settings.critical_check_interval),
        "max_consecutive_failures": detect.max_consecutive_failures,
        "failed_after": span(detect.failed_after),
        "auto_restart_enabled": recommend.auto_restart_enabled,
        "auto_pause_on_critical": recommend.auto_pause_on_critical,
        "actions": actions(settings),
        "thresholds": {
            "max_cpu_percent": detect.max_cpu_percent,
            "max_memory_percent": detect.max_memory_percent,
            "max_disk_percent": detect.max_disk_percent,
            "max_error_rate": settings.detect.max_error_rate,
            "max_latency": span(std::time::Duration::from_secs_f64(detect.max_latency_ms / 1e3)),
            "max_rate_limit_percent": detect.max_rate_limit_percent,
        },
        "flap": {
            "openings": detect.flap_openings,
            "window": span(detect.flap_window),
            "hold": span(detect.flap_hold),
        },
        "prediction": {"enabled": detect.prediction.enabled, "horizon": span(detect.prediction.horizon)},
        "storage": {"url": match &settings.storage {
            store::Settings::Memory => "memory:".to_owned(),
            store::Settings::Sqlite(path) => format!("sqlite:{}", path.display()),
        }},
        "subsystems": subsystems(settings),
        "failure_points": failure_points(settings),
        "bindings": bindings(settings),
        "recovery": {
            "cooldown": span(admit.cooldown),
            "retry_backoff": {"first": span(admit.retry_backoff.first), "max": span(admit.retry_backoff.max)},
            "preflight_every": span(settings.preflight_every),
            "approval_valid": span(admit.approval_valid),
            "target_budget": admit.target_budget,
            "target_window": span(admit.target_window),
            "overall_budget": admit.overall_budget,
            "overall_window": span(admit.overall_window),
            "concurrency": admit.concurrency,
            "not_after": span(admit.not_after),
            "storm": {
                "subsystems": admit.storm.subsystems,
                "share": admit.storm.share,
                "calm": span(admit.storm.calm),
            },
            "allow_disable_module": recommend.allow_disable_module,
        },
        "groups": groups(settings),
        "maintenance": maintenance(settings),
        "policy": {
            "relax_after_cycles": policy.relax_after_cycles,
            "min_hold": span(policy.min_hold),
            "blindness_level": policy.blindness_level,
            "validity": span(policy.validity),
            "file": settings.policy_file,
            "hooks": hooks(settings),
        },
        "report": {"file": settings.report_file},
        "heal": without_secrets("heal", super::heal::shown(&settings.heal)),
        "web": {
            "listen_address": listen,
            "external_url": http.external_url,
            "telemetry_path": http.telemetry_path,
        },
    })
}

fn subsystems(settings: &Settings) -> Value {
    let one = |entry: &super::SubsystemSettings| {
        let (subsystem, scheduled) = (&entry.subsystem, &entry.scheduled);
        let shown = json!({
            "enabled": true,
            "criticality": subsystem.criticality,
            "depends_on": subsystem.depends_on,
            "interval": span(scheduled.interval),
            "timeout": span(scheduled.timeout),
            "check": {"kind": scheduled.check.kind()},
        });
        (subsystem.name.to_string(), shown)
    };
    Value::Object(settings.subsystems.iter().map(one).collect::<Map<_, _>>())
}

fn failure_points(settings: &Settings) -> Value {
    let one =
        |entry: &super::PointSettings| (entry.point.category.to_string(), json!({"subsystem": entry.point.subsystem}));
    let mut all: Map<_, _> = settings.failure_points.iter().map(one).collect();
    all.insert("every".to_owned(), json!(span(settings.failure_points_every)));
    Value::Object(all)
}

/// How far every action may go alone here, and which are only rehearsed.
fn actions(settings: &Settings) -> Value {
    let one = |spec: &&crate::model::ActionSpec| {
        let autonomy = crate::recommend::autonomy(spec, &settings.recommend);
        let dry_run = settings.admit.dry_run_actions.contains(spec.name);
        (spec.name.to_owned(), json!({"autonomy": autonomy, "dry_run": dry_run}))
    };
    Value::Object(crate::execute::actions::ACTIONS.iter().map(one).collect::<Map<_, _>>())
}

fn groups(settings: &Settings) -> Value {
    let one = |group: &crate::admit::group::Group| {
        (group.name.to_string(), json!({"members": group.members, "min_healthy": group.min_healthy}))
    };
    Value::Object(settings.admit.groups.iter().map(one).collect::<Map<_, _>>())
}

fn maintenance(settings: &Settings) -> Value {
    let one = |window: &crate::admit::window::Window| {
        json!({
            "name": window.name,
            "cron": window.plan.text(),
            "duration": span(window.duration),
            "timezone": window.plan.zone(),
        })
    };
    Value::Array(settings.admit.windows.iter().map(one).collect())
}

fn bindings(settings: &Settings) -> Value {
    let one = |binding: &crate::execute::Binding| {
        json!({
            "action": binding.action,
            "subsystem": binding.subsystem,
            "class": binding.class,
            "retries": binding.retries,
            "dry_run": binding.dry_run,
            "timeout": span(binding.timeout),
            "verify": {
                "settle": span(binding.verify.settle),
                "within": span(binding.verify.within),
                "hold_down": binding.verify.hold_down,
            },
        })
    };
    Value::Array(settings.bindings.iter().map(one).collect())
}

fn hooks(settings: &Settings) -> Value {
    let one = |hook: &std::sync::Arc<super::PolicyHook>| {
        let rule = &hook.rule;
        json!({
            "name": rule.name,
            "retry": {"first": span(rule.first), "max": span(rule.max)},
            "deadline": span(rule.deadline),
            "recheck": span(rule.recheck),
            "timeout": span(hook.timeout),
        })
    };
    Value::Array(settings.hooks.iter().map(one).collect())
}

/// A duration as the file has it.
pub fn span(duration: Duration) -> String {
    let mut left = duration.as_millis();
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= millis {
            text.push_str(&format!("{}{unit}", left / millis));
            left %= millis;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::base::tree::parse_duration;
    use crate::config::{Inputs, load_text};
    use crate::model::Timestamp;

    fn of(text: &str, inputs: &Inputs) -> Value {
        let loaded = load_text(text, "tests/config/test.yml", inputs, Clock::manual(Timestamp::EPOCH));
        let loaded = loaded.unwrap_or_else(|problems| panic!("{text}\n{problems:?}"));
        Value::clone(&loaded.settings.shown)
    }

    /// SPEC 14: what is shown is what is in force: file, defaults, presets and flags.
    #[test]
    fn every_layer_is_shown() {
        let inputs = Inputs { telemetry_path: Some("/m".to_owned()), ..Inputs::default() };
        let text = "preset: production\ncheck_interval: 90s\nactions: {reload_config: {autonomy: automatic}, restart_subsystem: {dry_run: true}}\nsubsystems:\n  feed: {check: {kind: tcp, address: \"127.0.0.1:1\"}}\n  \
                    universe_os: {enabled: false}\nbindings:\n  - {action: restart_subsystem, subsystem: feed, exec: {argv: [/bin/true]}}\n";
        let shown = of(text, &inputs);
        assert!(shown["file"].as_str().unwrap().ends_with("tests/config/test.yml"));
        assert_eq!(shown["digest"].as_str().unwrap().len(), 64);
        let settings = &shown["settings"];
        assert_eq!(settings["preset"], "production");
        assert_eq!(settings["thresholds"]["max_cpu_percent"], 85.0, "the preset's");
        assert_eq!(settings["check_interval"], "1m30s");
        assert_eq!(settings["mode"], Value::Null);
        assert_eq!(settings["dry_run"], true, "in force, since no mode is given");
        assert_eq!(settings["web"]["telemetry_path"], "/m", "the flag's");
        assert_eq!(settings["recovery"]["cooldown"], "1m", "a default");
        assert_eq!(settings["recovery"]["retry_backoff"], json!({"first": "5s", "max": "5m"}));
        assert_eq!(
            settings["actions"]["reload_config"],
            json!({"autonomy": "automatic", "dry_run": false}),
            "the file's"
        );
        assert_eq!(settings["actions"]["restart_subsystem"], json!({"autonomy": "approval", "dry_run": true}));
        assert_eq!(settings["bindings"][0]["dry_run"], false);
        assert_eq!(settings["bindings"][0]["verify"]["settle"], "2s", "the action's own");
        assert_eq!(settings["subsystems"]["feed"]["check"], json!({"kind": "tcp", "address": "127.0.0.1:1"}));
        assert_eq!(settings["subsystems"]["feed"]["interval"], "1m30s");
        assert_eq!(settings["subsystems"]["universe_os"], json!({"enabled": false}));
        assert_eq!(settings["subsystems"]["ai_model"]["enabled"], true, "a built-in one");
        let binding = &settings["bindings"][0];
        assert_eq!((&binding["exec"]["argv"], &binding["class"]), (&json!(["/bin/true"]), &json!("one_shot")));
    }

    /// SEC-3: 28 canaries in every place that may hold a secret; none is shown.
    #[test]
    fn no_secret_is_shown() {
        let text = r#"
profile: none
subsystems:
  a: {check: {kind: http, url: "http://u:canary1@h/x?token=canary2", headers: {Authorization: canary3, X-Any: canary4}}}
  b: {check: {kind: exec, argv: [/bin/true, --password=canary5, --token, canary6, "PASSWORD:canary7", "http://u:canary8@h"], env: {ANY: canary9}}}
  c: {check: {kind: websocket, url: "ws://h/", subscribe: '{"key":"canary27"}', ping: {message: '{"key":"canary28"}', expect: pong}}}
bindings:
  - action: restart_subsystem
    subsystem: a
    class: probeable
    probe: [/bin/true, --api-key, canary10]
    exec: {argv: [/bin/true, "--secret", canary11, "https://h/x?k=canary12"], env: {K: canary13}}
  - {action: disable_module, subsystem: a, file: {path: x, write: canary14}}
  - action: clear_cache
    subsystem: a
    http: {url: "http://127.0.0.1/x/{{run_key}}?key=canary21", headers: {X-Any: canary22}, json: {a: [canary23], b: {c: canary24}}}
  - action: reload_config
    subsystem: a
    http: {url: "http://127.0.0.1/", headers: {X-Any: {file: tests/config/two.token}}, body: "a canary25", probe: {url: "http://127.0.0.1/?canary26"}}
endpoints: {market_data: [{url: "https://u:canary16@h", api_key: canary17, nested: {client_secret: canary18}}]}
data: {tokens: [canary19, canary15], password: {a: 1, secret: canary20}}
"#;
        let shown = of(text, &Inputs::default()).to_string();
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("/bin/true") && shown.contains("--password=<redacted>"), "{shown}");
        assert!(shown.contains("\"Authorization\":\"<redacted>\""), "{shown}");
    }

    /// Where a secret's file is, is no secret.
    #[test]
    fn names_of_files_are_shown() {
        let value = json!({"bearer_token_file": "/etc/x.token", "password_file": "p", "tokens": [{"name": "ci", "role": "read"}]});
        assert_eq!(nested(value.clone()), value);
    }

    #[test]
    fn durations_are_read_back() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 90_000, 3_600_000, 5_400_250, 86_400_000, 31 * 86_400_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&span(duration)), Some(duration), "{}", span(duration));
        }
    }

    #[test]
    fn layers_are_merged_key_by_key() {
        let mut lower = json!({"a": {"b": 1, "c": 2}, "l": [{"x": 1}], "m": [1, 2], "s": {"t": 1}});
        merge(&mut lower, json!({"a": {"c": 3}, "l": [{"y": 2}], "m": [3], "s": null, "n": null}));
        assert_eq!(lower, json!({"a": {"b": 1, "c": 3}, "l": [{"x": 1, "y": 2}], "m": [3], "s": {"t": 1}, "n": null}));
    }
}
