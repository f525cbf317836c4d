//! The OpenAPI document against the code: routes, parameters, roles, keys of what is answered, stable codes.
#![expect(clippy::disallowed_methods, reason = "reads the sources and the manual")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::http::api::openapi::DOCUMENT;
use crate::http::need::need;
use crate::http::router::ROUTES;

use super::*;

pub(super) fn parsed() -> Value {
    serde_json::from_str(DOCUMENT).expect("the document is JSON")
}

/// Every method and path of the table is in the document and the other way round, with the same query parameters, and
/// under the role that the guard asks for.
#[test]
fn the_document_has_every_route() {
    let document = parsed();
    let parameters = |operation: &Value, place: &str| -> BTreeSet<String> {
        let all = operation["parameters"].as_array().cloned().unwrap_or_default();
        let wanted = all.iter().filter(|parameter| parameter["in"] == place);
        wanted.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let query = parameters(operation, "query");
            let braces: BTreeSet<String> =
                path.split('{').skip(1).map(|part| part.split('}').next().unwrap().to_owned()).collect();
            assert_eq!(parameters(operation, "path"), braces, "{method} {path}");
            let concrete = path.replace(['{', '}'], "");
            let need = need(&method.to_uppercase().parse().unwrap(), &concrete, "/metrics");
            let role = if need.group == Group::Webhook { "webhook" } else { need.role.as_str() };
            assert_eq!(operation["x-role"], role, "{method} {path}");
            documented.insert((method.to_uppercase(), path.clone(), query));
        }
    }
    let metrics = ("GET".to_owned(), "/metrics".to_owned(), BTreeSet::new());
    let table = ROUTES.iter().map(|route| {
        let known = route.parameters.unwrap_or_default().iter().map(|name| (*name).to_owned()).collect();
        (route.method.to_string(), route.path.to_owned(), known)
    });
    assert_eq!(documented, table.chain([metrics]).collect::<BTreeSet<_>>());
}

/// Every reference leads somewhere, and every schema is referred to.
#[test]
fn the_documents_references_hold() {
    let document = parsed();
    let used: BTreeSet<&str> =
        DOCUMENT.split("\"$ref\": \"#/components/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    for reference in &used {
        assert!(document.pointer(&format!("/components/{reference}")).is_some(), "{reference} is nowhere");
    }
    for kind in ["schemas", "responses", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(format!("{kind}/{name}").as_str()), "{kind}/{name} is not used");
        }
    }
}

/// What the program writes has exactly the documented keys, nested ones included.
#[test]
fn schemas_name_every_key() {
    let document = parsed();
    let mut report = report();
    let at = NOW;
    let offer = Offer { digest: "ab".to_owned(), means: "exec".to_owned(), asked_at: at, expires_at: at };
    report.recovery_recommendations[0].approval = Some(offer);
    let health = report.subsystem_health.get_mut("ai_model").unwrap();
    health.perfdata.push(Perfdata { label: "x".into(), value: 1.0, unit: String::new() });
    let audit = AuditEntry {
        number: 1,
        at,
        actor: "chiron".to_owned(),
        event: "e".to_owned(),
        subject: "s".to_owned(),
        detail: serde_json::Map::new(),
        previous: AuditEntry::START.to_owned(),
        digest: AuditEntry::START.to_owned(),
    };
    let answer = gate(&super::document(Level::AllowAll), Intent::Trade, None, at);
    for (schema, value) in [
        ("Report", json!(report)),
        ("Policy", json!(super::document(Level::NoNewTrades))),
        ("GateAnswer", json!(answer)),
        ("AuditEntry", json!(audit)),
        ("HealingReport", json!(healing_report())),
        ("Healing", json!(healing())),
    ] {
        keys_match(&document, &json!({"$ref": format!("#/components/schemas/{schema}")}), &value, schema);
    }
}

fn change() -> ChangeRecord {
    ChangeRecord {
        kind: ChangeKind::ReplaceFile,
        code: FindingCode::JsonCorrupt,
        path: "logs/a.json".to_owned(),
        state: ChangeState::Applied,
        before: Some("00".to_owned()),
        after: Some("ff".to_owned()),
        detail: "d".to_owned(),
    }
}

/// A healing with every key.
fn healing() -> Healing {
    let (id, other) = (Name::from("h2"), Name::from("h1"));
    let (trigger, end) = (HealingTrigger::Rollback, Some(HealingEnd::Finished));
    let by = Some("ana".to_owned());
    Healing {
        id,
        at: NOW,
        trigger,
        by,
        undoes: Some(other.clone()),
        end,
        undone_by: Some(other),
        accepted: Some(Acceptance { at: NOW, by: "ana".to_owned(), reason: "r".to_owned() }),
        changes: vec![change()],
    }
}

/// A report with every key.
fn healing_report() -> HealingReport {
    let part = |part| PartScore { part, score: 50.0, critical: false, problems: vec!["p".to_owned()] };
    HealingReport {
        id: Some("h1".into()),
        timestamp: NOW,
        trigger: HealingTrigger::Request,
        dry_run: true,
        success: false,
        healed: 1,
        failed: 0,
        critical: 0,
        stats: HealingStats::default(),
        findings: vec![WorkspaceFinding {
            code: FindingCode::StateMismatch,
            severity: Severity::Critical,
            path: "logs/a.json".to_owned(),
            description: "d".to_owned(),
            records: vec!["BTC/USDT".to_owned()],
            state: FindingState::Standing,
            detail: "d".to_owned(),
        }],
        changes: vec![change()],
        diff: "+".to_owned(),
        validation: Validation { score: 50.0, status: Status::Degraded, parts: ValidationPart::ALL.map(part).into() },
        visited: 1,
        duration_ms: 1,
    }
}

fn keys_match(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference}")),
        None => schema,
    };
    match value {
        Value::Object(found) => {
            if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
                found.values().for_each(|value| keys_match(document, each, value, &format!("{place}.*")));
                return;
            }
            let Some(properties) = schema["properties"].as_object() else { return };
            let documented: BTreeSet<&String> = properties.keys().collect();
            assert_eq!(documented, found.keys().collect(), "{place}");
            for (key, value) in found {
                keys_match(document, &properties[key], value, &format!("{place}.{key}"));
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| keys_match(document, &schema["items"], item, &format!("{place}[]")));
        }
        Value::String(text) => {
            if let Some(words) = schema["enum"].as_array() {
                assert!(words.contains(value), "{place}: `{text}` is no documented word");
            }
        }
        _ => {}
    }
}

/// The words of the document are those of the model.
#[test]
fn enumerations_are_those_of_the_model() {
    let document = parsed();
    let words = |pointer: &str| -> Vec<String> {
        let found = document.pointer(&format!("/components/schemas/{pointer}")).unwrap_or_else(|| panic!("{pointer}"));
        found.as_array().unwrap().iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    assert_eq!(words("Status/enum"), Status::ALL.map(Status::as_str));
    assert_eq!(words("Severity/enum"), Severity::ALL.map(Severity::as_str));
    assert_eq!(words("Level/enum"), Level::ALL.map(Level::as_str));
    assert_eq!(words("Hold/properties/source/enum"), PolicySource::ALL.map(PolicySource::as_str));
    assert_eq!(words("Run/properties/outcome/enum"), Outcome::ALL.map(Outcome::as_str));
    assert_eq!(
        words("Recommendation/properties/state/enum"),
        RecommendationState::ALL.map(RecommendationState::as_str)
    );
    let triggers = ["start", "schedule", "request", "command", "gate", "rollback", "action"];
    assert_eq!(words("HealingTrigger/enum"), triggers);
    assert_eq!(words("FindingCode/enum"), FindingCode::ALL.map(FindingCode::as_str));
    assert_eq!(words("Finding/properties/state/enum"), FindingState::ALL.map(FindingState::as_str));
    assert_eq!(words("Change/properties/kind/enum"), ChangeKind::ALL.map(ChangeKind::as_str));
    assert_eq!(words("Change/properties/state/enum"), ChangeState::ALL.map(ChangeState::as_str));
    let gate = document.pointer("/paths/~1api~1v1~1gate~1{intent}/get/parameters/0/schema/enum").unwrap();
    assert_eq!(*gate, json!(Intent::ALL.map(Intent::as_str)));
}

/// Each stable code that the source answers with is in the manual.
#[test]
fn every_code_is_documented() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = fs::read_to_string(root.join("docs/api.md")).unwrap();
    let mut codes: BTreeSet<String> = alerts::payload::PayloadProblem::CODES.map(str::to_owned).into();
    for folder in ["src/http", "src/http/api"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap();
                let (built, coded) = (code.split("Problem::new(").skip(1), code.split(".coded(").skip(1));
                codes.extend(built.chain(coded).filter_map(first_word));
            }
        }
    }
    assert!(codes.len() > 25 && codes.contains("bad_cursor") && codes.contains("foreign_host"), "{codes:?}");
    let missing: Vec<&String> = codes.iter().filter(|code| !manual.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "docs/api.md does not tell of {missing:?}");
}

/// The first string of a call that looks like a code.
fn first_word(call: &str) -> Option<String> {
    let statement = call.split(';').next()?;
    let mut strings = statement.split('"').skip(1).step_by(2);
    strings
        .next()
        .filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
        .map(str::to_owned)
}
