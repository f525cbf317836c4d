//! The schema says what the loader does: the same keys, the same words, the same defaults.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::base::clock::Clock;
use crate::base::tree::asked;
use crate::config::{Inputs, load_text};
use crate::execute::actions::ACTIONS;
use crate::model::{Class, Level, Severity, Timestamp};
use crate::observe::checks::CHECKS;

/// One check of every kind, with every key that is only asked for where another one stands.
const KINDS: &str = r#"
profile: none
subsystems:
  a: {check: {kind: file_age, path: x}}
  b: {check: {kind: json, path: x, ranges: {total: {min: 0, max: 1}}}}
  c: {check: {kind: file_set, paths: [x]}}
  d: {check: {kind: dir_age, path: x}}
  e: {check: {kind: http, url: "http://127.0.0.1:1"}}
  f: {check: {kind: tcp, address: "127.0.0.1:1"}}
  g: {check: {kind: process, match: x}}
  h: {check: {kind: exec, argv: [/bin/true]}}
  i: {check: {kind: push}}
  dns: {check: {kind: dns, name: example.org}}
  tls: {check: {kind: tls, address: "127.0.0.1:1"}}
  promql:
    check: {kind: promql, server: "https://127.0.0.1:1", query: up, critical: 1, basic_auth: {username: a, password_file: webhook.token}}
  metric:
    check: {kind: metric, url: "http://127.0.0.1:1", name: up, critical: 1, basic_auth: {username: a, password_file: webhook.token}}
  p: {check: {kind: postgres, url: "postgres://bot@127.0.0.1/trades"}}
  q: {check: {kind: redis, url: "redis://127.0.0.1"}}
  r: {check: {kind: sqlite, path: x}}
  socket: {check: {kind: websocket, url: "ws://127.0.0.1:1", auth: {send: a, expect: b}, ping: {message: c, expect: d}}}
  j: {check: {kind: systemd, unit: a.service}}
  k: {check: {kind: container, name: a, socket: "tcp://a:1", tls: {}}}
bindings:
  - {action: restart_subsystem, subsystem: a, exec: {argv: [/bin/true]}}
  - {action: disable_module, subsystem: a, file: {path: x, touch: true}}
monitoring: {dashboard_port: 8080}
"#;
const FILES: [&str; 8] = [
    include_str!("../../../tests/config/full.good.yml"),
    include_str!("../../../tests/config/web_access.good.yml"),
    include_str!("../../../tests/config/contract.good.yml"),
    include_str!("../../../tests/config/older_shape.good.yml"),
    include_str!("../../../tests/config/means.good.yml"),
    include_str!("../../../tests/config/failure_points.good.yml"),
    include_str!("../../../tests/config/heal.good.yml"),
    KINDS,
];

fn schema() -> Value {
    serde_json::from_str(SCHEMA).expect("the schema is JSON")
}

/// Every path that the loader asks for while it reads `text`.
fn asked_for(text: &str) -> BTreeSet<String> {
    let load = || load_text(text, "tests/config/test.yml", &Inputs::default(), Clock::manual(Timestamp::EPOCH));
    let (loaded, asked) = asked::during(load);
    if let Err(problems) = loaded {
        panic!("{text}\n{problems:?}");
    }
    asked
}

/// `bindings[3].exec.argv` as `bindings`, `[]`, `exec`, `argv`.
fn steps(path: &str) -> Vec<String> {
    let mut steps = Vec::new();
    // A path of a file is one step, whatever dots are in it.
    for above in ["heal.files", "failure_points.configuration.files"] {
        let rest = path.strip_prefix(above).and_then(|rest| rest.strip_prefix('.'));
        if let Some((file, key)) = rest.and_then(|rest| rest.rsplit_once('.')) {
            return above.split('.').chain([file, key]).map(str::to_owned).collect();
        }
    }
    for part in path.split('.') {
        let (name, rest) = part.split_once('[').map_or((part, None), |(name, rest)| (name, Some(rest)));
        if !name.is_empty() {
            steps.push(name.to_owned());
        }
        if rest.is_some() {
            steps.push("[]".to_owned());
        }
    }
    steps
}

/// Every part of the schema that `part` stands for, whatever the case.
fn alternatives<'s>(part: &'s Value, schema: &'s Value) -> Vec<&'s Value> {
    let mut found = vec![part];
    let mut at = 0;
    while let Some(part) = found.get(at).copied() {
        at += 1;
        let target = resolved(part, schema);
        if !std::ptr::eq(target, part) {
            found.push(target);
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            found.extend(part[key].as_array().into_iter().flatten());
        }
        found.extend(part.get("then"));
    }
    found
}

/// The parts of the schema behind one step.
fn behind<'s>(part: &'s Value, step: &str, schema: &'s Value) -> Vec<&'s Value> {
    let parts = alternatives(part, schema).into_iter();
    parts
        .filter_map(|part| match step {
            "[]" => part.get("items"),
            _ => part["properties"]
                .get(step)
                .or_else(|| part.get("additionalProperties").filter(|more| more.is_object())),
        })
        .collect()
}

/// The paths of every property that the schema names, with `*` for a name and `[]` for an item.
fn properties(part: &Value, schema: &Value, path: &str, out: &mut BTreeSet<String>) {
    for part in alternatives(part, schema) {
        for (key, value) in part["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            properties(value, schema, &path, out);
            out.insert(path);
        }
        if let Some(more) = part.get("additionalProperties").filter(|more| more.is_object()) {
            properties(more, schema, &format!("{path}.*"), out);
        }
        if let Some(item) = part.get("items") {
            properties(item, schema, &format!("{path}[]"), out);
        }
    }
}

/// SPEC 14: every key that the loader takes is in the schema.
#[test]
fn the_schema_has_every_key_of_the_loader() {
    let schema = schema();
    let mut missing = BTreeSet::new();
    for text in FILES {
        for path in asked_for(text) {
            let mut parts = vec![&schema];
            for step in steps(&path) {
                parts = parts.into_iter().flat_map(|part| behind(part, &step, &schema)).collect();
            }
            if parts.is_empty() {
                missing.insert(path);
            }
        }
    }
    assert!(
        missing.is_empty(),
        "the loader takes these keys, src/config/schema.json does not have them: {}",
        missing.into_iter().collect::<Vec<_>>().join(", ")
    );
}

/// SPEC 14: the loader takes every key of the schema.
#[test]
fn the_loader_takes_every_key_of_the_schema() {
    let schema = schema();
    let mut named = BTreeSet::new();
    properties(&schema, &schema, "", &mut named);
    assert!(named.len() > 100, "{}", named.len());
    let mut asked = BTreeSet::new();
    for text in FILES {
        for path in asked_for(text) {
            let mut steps = steps(&path);
            let named = ["subsystems", "actions", "groups"];
            if steps.first().is_some_and(|first| named.iter().any(|name| first == name)) && steps.len() > 1 {
                steps[1] = "*".to_owned();
            }
            let by_name = ["allow", "rate_limit", "user_roles", "certificate_roles"];
            if steps.len() > 2 && steps[0] == "web" && by_name.contains(&steps[1].as_str()) {
                steps[2] = "*".to_owned();
            }
            if steps.len() > 4 && steps[2] == "check" && steps[3] == "ranges" {
                steps[4] = "*".to_owned();
            }
            if steps.len() > 4 && steps[2] == "check" && steps[3] == "series" {
                steps[4] = "*".to_owned();
            }
            if steps.len() > 3 && steps[0] == "failure_points" && steps[2] == "files" {
                steps[3] = "*".to_owned();
            }
            if steps.len() > 3 && steps[0] == "heal" && steps[1] == "files" {
                steps[2] = "*".to_owned();
            }
            if steps.len() > 4 && steps[2] == "http" && steps[3] == "headers" {
                steps[4] = "*".to_owned();
            }
            asked.insert(steps.join(".").replace(".[]", "[]"));
        }
    }
    // Bounds of a range are taken from their entry without a section.
    // A hook's check has the keys of any check, and its means those of a binding's.
    let means = |path: &str| {
        let key = path.strip_prefix("policy.hooks[].");
        key.is_some_and(|key| asked.contains(&format!("bindings[].{key}")))
    };
    let elsewhere = |path: &str| {
        path.starts_with("subsystems.*.check.ranges.*")
            || path.starts_with("policy.hooks[].confirm.check.")
            || means(path)
    };
    let unknown: Vec<&String> = named.iter().filter(|path| !asked.contains(*path) && !elsewhere(path)).collect();
    assert!(
        unknown.is_empty(),
        "src/config/schema.json has these keys; the loader asks for none of them while it reads the files of this test \
         (add a missing section to tests/config/full.good.yml): {unknown:?}"
    );
}

/// SPEC 14: what may stand where a word is expected comes from the registries.
#[test]
fn the_schema_has_every_word() {
    let schema = schema();
    let words = |pointer: &str| -> Vec<String> {
        let list = schema.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer} is a list"));
        list.iter().map(|word| word.as_str().expect("a word").to_owned()).collect()
    };
    assert_eq!(words("/$defs/check/properties/kind/enum"), CHECKS.map(|spec| spec.kind), "kinds of checks");
    assert_eq!(words("/$defs/action/enum"), ACTIONS.map(|spec| spec.name), "actions");
    assert_eq!(words("/$defs/level/enum"), Level::ALL.map(Level::as_str), "levels");
    assert_eq!(words("/$defs/blindness_level/enum"), Level::ALL.map(Level::as_str)[..3], "levels of blindness");
    assert_eq!(words("/$defs/severity/enum"), Severity::ALL.map(Severity::as_str), "severities");
    let classes = [Class::Natural, Class::Keyed, Class::Probeable, Class::OneShot].map(|class| json!(class));
    assert_eq!(schema["$defs"]["binding"]["properties"]["class"]["enum"], json!(classes), "classes");
    for spec in CHECKS {
        let kind = spec.kind;
        let defined = &schema["$defs"][format!("check_{kind}")];
        assert_eq!(defined["properties"]["kind"]["const"], kind, "$defs/check_{kind}");
        let reference = format!("#/$defs/check_{kind}");
        let branches = schema["$defs"]["check"]["allOf"].as_array().expect("a list");
        assert!(branches.iter().any(|branch| branch["then"]["$ref"] == reference), "a branch to {reference}");
    }
}

/// SPEC 14: the defaults of the schema are those of the loader.
#[test]
fn the_schema_has_the_defaults_of_the_loader() {
    let loaded = load_text("", "", &Inputs::default(), Clock::manual(Timestamp::EPOCH)).expect("defaults are right");
    let mut differing = Vec::new();
    compare(&defaults(), &loaded.settings.shown["settings"], "", &mut differing);
    assert!(differing.is_empty(), "{differing:#?}");
}

fn compare(schema: &Value, loader: &Value, path: &str, out: &mut Vec<String>) {
    match (schema, loader) {
        (Value::Object(schema), Value::Object(loader)) => {
            for (key, value) in schema {
                compare(value, &loader[key.as_str()], &format!("{path}.{key}"), out);
            }
        }
        (schema, loader) if schema != loader => out.push(format!("{path}: schema {schema}, loader {loader}")),
        _ => {}
    }
}
