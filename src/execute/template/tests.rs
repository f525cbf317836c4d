//! Tables and properties of templates.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::execute::About;
use crate::model::RunKey;

fn order(issue_type: &str) -> Order {
    Order {
        key: RunKey { episode: "feed_1".into(), rung: 2, attempt: 3 },
        action: "restart_subsystem".into(),
        target: "feed".into(),
        epoch: 7,
        timeout: Duration::from_secs(1),
        about: About {
            issue_type: issue_type.to_owned(),
            severity: "critical",
            symbol: "BTC/USD".to_owned(),
            policy: "no_new_trades",
            sequence: 41,
        },
        evidence: None,
    }
}

/// SEC-5: every field has its value, from the order alone.
#[test]
fn every_field_is_filled() {
    let values = [
        ("action", "restart_subsystem"),
        ("subsystem", "feed"),
        ("issue_id", "feed_1"),
        ("issue_type", "stale"),
        ("severity", "critical"),
        ("symbol", "BTC/USD"),
        ("run_key", "feed_1/2/3"),
        ("rung", "2"),
        ("attempt", "3"),
        ("epoch", "7"),
        ("policy", "no_new_trades"),
        ("sequence", "41"),
    ];
    assert_eq!(values.map(|(field, _)| field), FIELDS);
    for (field, value) in values {
        let template = Template::parse(&format!("a {{{{ {field} }}}}b{{{{{field}}}}}")).unwrap();
        assert_eq!(template.fill(&order("stale"), Place::Plain), format!("a {value}b{value}"));
        assert!(!template.is_constant());
    }
    let constant = Template::parse("{ } }} {a}").unwrap();
    assert!(constant.is_constant());
    assert_eq!(constant.fill(&order("stale"), Place::Url), "{ } }} {a}");
}

/// SEC-5: an unknown field is refused with what is known, or what was probably meant.
#[test]
fn unknown_fields_are_refused() {
    let table = [
        ("{{subsytem}}", "expected known fields only, but there is `{{subsytem}}`", "did you mean `subsystem`?"),
        (
            "{{labels.instance}}",
            "expected known fields only, but there is `{{labels.instance}}`",
            "known fields: action, ",
        ),
        ("{{}}", "expected known fields only, but there is `{{}}`", "known fields: action, "),
        ("a {{action", "expected `}}` after each `{{`", "known fields: action, "),
    ];
    for (text, rule, hint) in table {
        let (found, told) = Template::parse(text).unwrap_err();
        assert_eq!(found, rule);
        assert!(told.as_deref().unwrap_or_default().starts_with(hint), "{text}: {told:?}");
    }
}

proptest! {
    /// SEC-5: whatever a value is, it stays inside the string of JSON it was put into.
    #[test]
    fn no_value_leaves_a_string_of_json(value in any::<String>()) {
        let template = Template::parse(r#"{"a": "<{{issue_type}}>", "b": 1}"#).unwrap();
        let filled: serde_json::Value = serde_json::from_str(&template.fill(&order(&value), Place::Json)).unwrap();
        prop_assert_eq!(filled, serde_json::json!({"a": format!("<{value}>"), "b": 1}));
    }

    /// SEC-5: whatever a value is, it neither leads to another host or path nor adds a parameter.
    #[test]
    fn no_value_leads_a_url_elsewhere(value in any::<String>()) {
        let template = Template::parse("http://host:81/a/{{issue_type}}/b?c={{issue_type}}&d=1").unwrap();
        let url = reqwest::Url::parse(&template.fill(&order(&value), Place::Url)).unwrap();
        prop_assert_eq!((url.host_str(), url.port()), (Some("host"), Some(81)));
        let segments: Vec<_> = url.path_segments().unwrap().collect();
        prop_assert_eq!((segments.len(), segments[0], segments[2]), (3, "a", "b"));
        let pairs: Vec<_> = url.query_pairs().collect();
        prop_assert_eq!(pairs.len(), 2);
        if !value.bytes().all(|byte| byte == b'.') {
            prop_assert_eq!(pairs[0].1.as_ref(), value.as_str());
        }
        prop_assert_eq!(url.fragment(), None);
    }

    /// SEC-5: whatever a value is, a header stays one line.
    #[test]
    fn no_value_begins_another_header(value in any::<String>()) {
        let filled = Template::parse("{{issue_type}}").unwrap().fill(&order(&value), Place::Header);
        prop_assert!(reqwest::header::HeaderValue::from_str(&filled).is_ok());
    }

    /// No text makes the parser panic, and one without `{{` is taken as it is.
    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        if let Ok(template) = Template::parse(&text) && template.is_constant() {
            prop_assert_eq!(template.sample(), text);
        }
    }
}
