//! Small changes of JSON text that leave every other byte as it is.
//!
//! **Invariant:** pure; what is not named is returned byte for byte, numbers with every digit.

use super::salvage::members;
use crate::model::Timestamp;

/// The word that tells a heartbeat that was reset from one that a bot wrote.
const RESET: &str = "reset";

/// `text`, a JSON object, with each missing top-level key added behind the last member; keys that are there stay. The
/// values are JSON text. `None` if it is no JSON object.
///
/// What stands before the last member also stands before each new one: in a file that has each member on a line of its own,
/// so have these. An object without members stays on one line.
pub fn with_keys(text: &[u8], keys: &[(String, String)]) -> Option<Vec<u8>> {
    let present = members(text)?;
    let has = |key: &str| present.iter().any(|member| member.key == key);
    let mut missing: Vec<&(String, String)> = Vec::new();
    for pair in keys {
        if !has(&pair.0) && missing.iter().all(|other| other.0 != pair.0) {
            missing.push(pair);
        }
    }
    if missing.is_empty() {
        return Some(text.to_vec());
    }
    let space_before =
        |at: usize| text[..at].iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |at| at + 1);
    let (end, lead, colon) = match present.last() {
        Some(last) => {
            // The first member follows the bracket directly in `{"a": 1, "b": 2}`.
            let lead = &text[space_before(last.start)..last.start];
            let lead = if present.len() == 1 && lead.is_empty() { b" " } else { lead };
            (last.end, lead, &text[last.key_end..last.value])
        }
        None => (text.iter().position(|byte| *byte == b'{')? + 1, &b" "[..], &b": "[..]),
    };
    let mut out = text[..end].to_vec();
    for (at, (key, value)) in missing.iter().enumerate() {
        if at > 0 || !present.is_empty() {
            out.push(b',');
            out.extend_from_slice(lead);
        }
        out.extend_from_slice(serde_json::Value::from(key.as_str()).to_string().as_bytes());
        out.extend_from_slice(colon);
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(&text[end..]);
    Some(out)
}

/// What a heartbeat becomes when it is reset: the members it had, and `status` = `"reset"`, `reset_at` and `last_seen` (when
/// it was last written). Text that is no JSON object becomes an object with these three alone. One that was reset already
/// stays as it is: its `last_seen` is when the bot wrote it, which is what counts.
pub fn reset_heartbeat(text: &[u8], last_seen: Timestamp, now: Timestamp) -> Vec<u8> {
    if is_reset(text) {
        return text.to_vec();
    }
    let values = [("status", RESET.to_owned()), ("reset_at", now.rfc3339()), ("last_seen", last_seen.rfc3339())];
    let mut out = if members(text).is_some() { text.to_vec() } else { b"{}\n".to_vec() };
    for (key, value) in values {
        out = with_value(&out, key, &format!("\"{value}\""));
    }
    out
}

/// `text`, a JSON object, with that value for a key: each place where it is named gets it, so that no parser reads another.
fn with_value(text: &[u8], key: &str, value: &str) -> Vec<u8> {
    let Some(present) = members(text) else { return text.to_vec() };
    let (mut out, mut at) = (Vec::with_capacity(text.len() + value.len()), 0);
    for member in present.iter().filter(|member| member.key == key) {
        out.extend_from_slice(&text[at..member.value]);
        out.extend_from_slice(value.as_bytes());
        at = member.end;
    }
    out.extend_from_slice(&text[at..]);
    with_keys(&out, &[(key.to_owned(), value.to_owned())]).unwrap_or(out)
}

/// Whether a heartbeat was reset and not written since: it says so, and when.
pub fn is_reset(text: &[u8]) -> bool {
    let Some(present) = members(text) else { return false };
    let last = |key: &str| present.iter().rev().find(|member| member.key == key);
    let is_date = |key: &str| {
        let written =
            last(key).and_then(|member| serde_json::from_slice::<String>(&text[member.value..member.end]).ok());
        written.is_some_and(|text| Timestamp::parse_rfc3339(&text).is_some())
    };
    let says = last("status").and_then(|member| serde_json::from_slice::<String>(&text[member.value..member.end]).ok());
    says.as_deref() == Some(RESET) && is_date("reset_at") && is_date("last_seen")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(text: &str, keys: &[(&str, &str)]) -> Option<String> {
        let keys: Vec<_> = keys.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        with_keys(text.as_bytes(), &keys).map(|text| String::from_utf8(text).expect("it is UTF-8"))
    }

    /// WSP-1: missing keys are added behind the last, in the file's own manner; everything else stays byte for byte.
    #[test]
    fn keys_are_added() {
        let keys = [("a", "[]"), ("b", "{\"x\": 1}")];
        for (text, expected) in [
            ("{}", r#"{"a": [], "b": {"x": 1}}"#),
            (" {} \n", " {\"a\": [], \"b\": {\"x\": 1}} \n"),
            (r#"{"a":1e999}"#, r#"{"a":1e999, "b":{"x": 1}}"#),
            (r#"{"b": 0.10000000000000001,"a":1}"#, r#"{"b": 0.10000000000000001,"a":1}"#),
            (r#"{"z":"\u00e9","y":2}"#, r#"{"z":"\u00e9","y":2,"a":[],"b":{"x": 1}}"#),
            ("{\n  \"z\": [\n    1\n  ]\n}\n", "{\n  \"z\": [\n    1\n  ],\n  \"a\": [],\n  \"b\": {\"x\": 1}\n}\n"),
            ("{\r\n\t\"a\" : 1\r\n}", "{\r\n\t\"a\" : 1,\r\n\t\"b\" : {\"x\": 1}\r\n}"),
            ("{\"\\u0061\": 1, \"b\": 2}", "{\"\\u0061\": 1, \"b\": 2}"),
            (r#"{"n": {"a": 1}, "b": 2}"#, r#"{"n": {"a": 1}, "b": 2, "a": []}"#),
        ] {
            assert_eq!(with(text, &keys).as_deref(), Some(expected), "{text}");
            assert_eq!(with(expected, &keys).as_deref(), Some(expected), "twice: {text}");
        }
        assert_eq!(with("{}", &[("a\"b", "1"), ("a\"b", "2")]).as_deref(), Some(r#"{"a\"b": 1}"#));
        for other in ["", "[]", "null", "{", "{}{}", "\u{feff}{}", "{\"a\": NaN}"] {
            assert_eq!(with(other, &keys), None, "{other}");
        }
    }

    fn reset(text: &str) -> String {
        let seen = Timestamp::from_millis(1_763_861_690_000);
        let now = Timestamp::from_millis(1_763_862_690_000);
        String::from_utf8(reset_heartbeat(text.as_bytes(), seen, now)).expect("it is UTF-8")
    }

    /// WSP-2: a heartbeat that is reset says so, keeps what it had, and is reset once.
    #[test]
    fn heartbeats() {
        let three =
            "\"status\": \"reset\", \"reset_at\": \"2025-11-23T01:51:30Z\", \"last_seen\": \"2025-11-23T01:34:50Z\"";
        for (text, expected) in [
            ("", format!("{{{three}}}\n")),
            ("12345", format!("{{{three}}}\n")),
            ("{\"status\": \"ok", format!("{{{three}}}\n")),
            (r#"{"pid": 12}"#, format!("{{\"pid\": 12, {three}}}")),
            (r#"{"status": "running", "n": 1.10}"#, format!("{{{}, \"n\": 1.10, {}}}", &three[..17], &three[19..])),
            (
                r#"{"status": {"a": 1}, "status": 2}"#,
                format!("{{{}, {}, {}}}", &three[..17], &three[..17], &three[19..]),
            ),
        ] {
            assert!(!is_reset(text.as_bytes()), "{text}");
            let found = reset(text);
            assert_eq!(found, expected, "{text}");
            assert!(is_reset(found.as_bytes()), "{found}");
            let later = Timestamp::from_millis(1_763_999_999_000);
            assert_eq!(reset_heartbeat(found.as_bytes(), later, later), found.as_bytes(), "twice");
        }
        // A bot that says so itself was not reset by anybody; one that goes on has written over it.
        assert!(!is_reset(br#"{"status": "reset"}"#));
        assert!(!is_reset(reset("{}").replace("\"reset\"", "\"running\"").as_bytes()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// WSP-1: whatever it is, nothing panics, and adding twice is adding once.
        #[test]
        fn any_text(text in "[{}\\[\\]\":, a-c0-9\\\\\n]{0,40}", key in "[a-c\"\\\\]{0,3}") {
            let keys = [(key, "[1]".to_owned())];
            if let Some(once) = with_keys(text.as_bytes(), &keys) {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(&once).is_ok());
                prop_assert_eq!(with_keys(&once, &keys), Some(once));
            }
            let found = reset_heartbeat(text.as_bytes(), Timestamp::EPOCH, Timestamp::EPOCH);
            prop_assert!(is_reset(&found));
        }
    }
}
