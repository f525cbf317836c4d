//! The vitals of a live bot (OBS-9): which keys there are, which values make sense, which numbers are exported.
//!
//! **Invariant:** pure; what is kept is bounded in keys, text and depth, whatever was sent.

use serde_json::{Map, Number, Value};

use super::bot::STAMPS;
use super::probes::state_file::timestamp;
use crate::model::Perfdata;

/// Keys at the top, and keys of each mapping below it.
const KEYS_MAX: usize = 128;
/// Symbols of `rate_limit_status`.
const SYMBOLS_MAX: usize = 1_000;
/// Longest key and longest text, in characters.
const KEY_MAX: usize = 128;
const TEXT_MAX: usize = 500;
/// Numbers exported per bot; the page shows no more of any check.
const EXPORTED_MAX: usize = 64;

/// A value that makes no sense: where, what was found, what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: found {found}, expected {expected}")]
pub struct Fault {
    /// The key, with dots between its parts.
    pub key: String,
    /// What was found, shortened.
    pub found: String,
    /// What would have been right.
    pub expected: &'static str,
}

/// What a key of the top holds.
#[derive(Clone, Copy)]
enum Holds {
    /// A number from 0 to the bound.
    Number(Option<f64>),
    Count,
    WebSocket,
    Symbols,
    /// A date.
    Moment,
    /// A mapping from names to counts.
    Counts,
    /// A word, a flag, a number, or a mapping of those.
    Anything,
}

const NUMBER: &str = "a number from 0";
const SHARE: &str = "a number from 0 to 1";
const COUNT: &str = "a whole number from 0";
const MOMENT: &str = "a date as in RFC 3339, or seconds or milliseconds since 1970";

fn holds(key: &str) -> Option<Holds> {
    Some(match key {
        "websocket_status" => Holds::WebSocket,
        "rate_limit_status" => Holds::Symbols,
        "blocked_signals" => Holds::Counts,
        "portfolio_sync" => Holds::Anything,
        "execution_latency" => Holds::Number(None),
        "error_rate" | "memory_usage" => Holds::Number(Some(1.0)),
        "task_count" => Holds::Count,
        "timestamp" | "last_update" => Holds::Moment,
        _ => return None,
    })
}

/// What a page that a bot shows to everybody has of vitals: the known keys, and numbers under any other.
pub fn among(mut shown: Map<String, Value>) -> Map<String, Value> {
    shown.retain(|key, value| holds(key).is_some() || value.is_number());
    shown
}

/// Takes vitals as they were sent; `null` stands for a key that is absent. The first value that makes no sense refuses
/// them whole.
pub fn checked(sent: Map<String, Value>) -> Result<Map<String, Value>, Fault> {
    bounded("", sent.len(), KEYS_MAX, "at most 128 keys")?;
    let mut kept = Map::new();
    for (key, value) in sent {
        name("", &key)?;
        match holds(&key) {
            _ if value.is_null() => continue,
            Some(Holds::Number(top)) => number(&key, &value, top)?,
            Some(Holds::Count) => count(&key, &value)?,
            Some(Holds::WebSocket) => web_socket(&key, &value)?,
            Some(Holds::Symbols) => symbols(&key, &value)?,
            Some(Holds::Moment) => moment(&key, &value)?,
            Some(Holds::Counts) => {
                let counts = mapping(&key, &value, KEYS_MAX, "at most 128 keys")?;
                counts.iter().try_for_each(|(name, value)| number(&format!("{key}.{name}"), value, None))?;
            }
            Some(Holds::Anything) => anything(&key, &value)?,
            None if value.is_number() => {}
            None => return Err(fault(key, &value, "a number, as every key has that is not among the known ones")),
        }
        kept.insert(key, value);
    }
    Ok(kept)
}

fn web_socket(path: &str, value: &Value) -> Result<(), Fault> {
    for (key, value) in mapping(path, value, KEYS_MAX, "at most 128 keys")? {
        let path = format!("{path}.{key}");
        match key.as_str() {
            _ if value.is_null() => {}
            "connected" | "authenticated" | "data_flowing" if value.is_boolean() => {}
            "connected" | "authenticated" | "data_flowing" => return Err(fault(path, value, "true or false")),
            "latency_ms" => number(&path, value, None)?,
            "last_update" => moment(&path, value)?,
            "reconnect_count" => count(&path, value)?,
            _ => scalar(&path, value)?,
        }
    }
    Ok(())
}

fn symbols(path: &str, value: &Value) -> Result<(), Fault> {
    for (symbol, value) in mapping(path, value, SYMBOLS_MAX, "at most 1000 symbols")? {
        let path = format!("{path}.{symbol}");
        for (key, value) in mapping(&path, value, KEYS_MAX, "at most 128 keys")? {
            let path = format!("{path}.{key}");
            match key.as_str() {
                _ if value.is_null() => {}
                "percentage" => number(&path, value, None)?,
                _ => scalar(&path, value)?,
            }
        }
    }
    Ok(())
}

fn anything(path: &str, value: &Value) -> Result<(), Fault> {
    if !value.is_object() {
        return scalar(path, value);
    }
    for (key, value) in mapping(path, value, KEYS_MAX, "at most 128 keys")? {
        scalar(&format!("{path}.{key}"), value)?;
    }
    Ok(())
}

fn mapping<'a>(path: &str, value: &'a Value, most: usize, rule: &'static str) -> Result<&'a Map<String, Value>, Fault> {
    let Value::Object(map) = value else { return Err(fault(path.to_owned(), value, "a mapping")) };
    bounded(path, map.len(), most, rule)?;
    map.keys().try_for_each(|key| name(path, key))?;
    Ok(map)
}

fn scalar(path: &str, value: &Value) -> Result<(), Fault> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
        Value::String(text) if text.chars().count() <= TEXT_MAX => Ok(()),
        _ => Err(fault(path.to_owned(), value, "a number, true, false, or a text of at most 500 characters")),
    }
}

fn number(path: &str, value: &Value, top: Option<f64>) -> Result<(), Fault> {
    let fits = |number: f64| number.is_finite() && number >= 0.0 && top.is_none_or(|top| number <= top);
    if value.as_f64().is_some_and(fits) {
        return Ok(());
    }
    Err(fault(path.to_owned(), value, if top.is_some() { SHARE } else { NUMBER }))
}

fn moment(path: &str, value: &Value) -> Result<(), Fault> {
    if timestamp(value).is_some() { Ok(()) } else { Err(fault(path.to_owned(), value, MOMENT)) }
}

fn count(path: &str, value: &Value) -> Result<(), Fault> {
    if value.is_u64() { Ok(()) } else { Err(fault(path.to_owned(), value, COUNT)) }
}

fn bounded(path: &str, found: usize, most: usize, expected: &'static str) -> Result<(), Fault> {
    if found <= most {
        return Ok(());
    }
    let key = if path.is_empty() { "vitals" } else { path };
    Err(Fault { key: key.to_owned(), found: format!("{found} keys"), expected })
}

fn name(path: &str, key: &str) -> Result<(), Fault> {
    if !key.is_empty() && key.chars().count() <= KEY_MAX && !key.chars().any(char::is_control) {
        return Ok(());
    }
    let key: String = key.chars().take(40).flat_map(char::escape_default).collect();
    let key = if path.is_empty() { key } else { format!("{path}.{key}") };
    Err(Fault { key, found: "a key like that".to_owned(), expected: "a name of 1 to 128 characters" })
}

fn fault(key: String, value: &Value, expected: &'static str) -> Fault {
    let found: String = value.to_string().chars().take(60).collect();
    Fault { key, found: format!("`{found}`"), expected }
}

/// The numbers of vitals for the exporter, in base units.
pub fn perfdata(vitals: &Map<String, Value>) -> Vec<Perfdata> {
    let mut numbers = Vec::new();
    let mut push = |label: &str, value: Option<f64>, unit: &str| {
        if let Some(value) = value.filter(|value| value.is_finite())
            && numbers.len() < EXPORTED_MAX
        {
            numbers.push(Perfdata { label: label.into(), value, unit: unit.to_owned() });
        }
    };
    if let Some(Value::Object(socket)) = vitals.get("websocket_status") {
        let flag = |key: &str| socket.get(key).and_then(Value::as_bool).map(|flag| f64::from(u8::from(flag)));
        push("websocket_connected", flag("connected"), "");
        push("websocket_authenticated", flag("authenticated"), "");
        push("websocket_data_flowing", flag("data_flowing"), "");
        push("websocket_latency", socket.get("latency_ms").and_then(Value::as_f64).map(|ms| ms / 1e3), "seconds");
        push("websocket_reconnects", socket.get("reconnect_count").and_then(Value::as_f64), "total");
    }
    if let Some(Value::Object(symbols)) = vitals.get("rate_limit_status") {
        let used = symbols.values().filter_map(|symbol| symbol.get("percentage").and_then(Value::as_f64));
        push(
            "rate_limit_highest",
            used.fold(None, |most: Option<f64>, one| Some(most.unwrap_or(0.0).max(one))).map(|most| most / 1e2),
            "ratio",
        );
    }
    for (key, value) in vitals {
        let value = value.as_f64();
        match key.as_str() {
            "execution_latency" => push(key, value.map(|ms| ms / 1e3), "seconds"),
            "error_rate" | "memory_usage" => push(key, value, "ratio"),
            // A date is no measurement.
            key if STAMPS.contains(&key) => {}
            _ => push(key, value, ""),
        }
    }
    numbers
}

/// The numbers at the top of vitals, as they were sent.
pub fn numbers(vitals: &Map<String, Value>) -> impl Iterator<Item = (&String, &Number)> {
    let numbers = vitals.iter().filter(|(key, _)| !STAMPS.contains(&key.as_str()));
    numbers.filter_map(|(key, value)| Some((key, value.as_number()?))).take(EXPORTED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn taken(value: Value) -> Result<Map<String, Value>, String> {
        let Value::Object(map) = value else { panic!("a mapping") };
        checked(map).map_err(|fault| fault.to_string())
    }

    /// OBS-9: every documented key is taken as documented, further numbers too; `null` is absent.
    #[test]
    fn documented_vitals_are_taken() {
        let kept = taken(json!({
            "websocket_status": {
                "connected": true, "authenticated": true, "data_flowing": false, "latency_ms": 12.5,
                "reconnect_count": 3, "last_error": null, "last_update": "2025-11-23T01:34:56Z"
            },
            "rate_limit_status": {"BTC/USD": {"percentage": 42.0}, "ETH/USD": {"percentage": 86, "calls": 9}},
            "portfolio_sync": {"in_sync": true, "drift": 0.01},
            "execution_latency": 250, "error_rate": 0.5, "memory_usage": 1, "task_count": 17,
            "pnl": -12.5, "uptime": null
        }))
        .unwrap();
        assert_eq!(kept.len(), 8, "{kept:?}");
        let found: Vec<(String, f64, String)> =
            perfdata(&kept).into_iter().map(|one| (one.label.to_string(), one.value, one.unit)).collect();
        for (label, value, unit) in [
            ("websocket_connected", 1.0, ""),
            ("websocket_data_flowing", 0.0, ""),
            ("websocket_latency", 0.0125, "seconds"),
            ("websocket_reconnects", 3.0, "total"),
            ("rate_limit_highest", 0.86, "ratio"),
            ("execution_latency", 0.25, "seconds"),
            ("error_rate", 0.5, "ratio"),
            ("memory_usage", 1.0, "ratio"),
            ("task_count", 17.0, ""),
            ("pnl", -12.5, ""),
        ] {
            assert!(found.contains(&(label.to_owned(), value, unit.to_owned())), "{label}: {found:?}");
        }
        let top: Vec<&String> = numbers(&kept).map(|(key, _)| key).collect();
        assert_eq!(top, ["execution_latency", "error_rate", "memory_usage", "task_count", "pnl"]);
    }

    /// OBS-9: values that make no sense are refused, with the name of their key.
    #[test]
    fn nonsense_is_refused_by_its_key() {
        for (vitals, told) in [
            (json!({"error_rate": 1.01}), "`error_rate`: found `1.01`, expected a number from 0 to 1"),
            (json!({"error_rate": -0.1}), "`error_rate`"),
            (json!({"error_rate": "NaN"}), "`error_rate`: found `\"NaN\"`"),
            (json!({"memory_usage": 91.3}), "`memory_usage`"),
            (json!({"execution_latency": -1}), "`execution_latency`: found `-1`, expected a number from 0"),
            (json!({"task_count": 1.5}), "`task_count`: found `1.5`, expected a whole number from 0"),
            (json!({"task_count": -1}), "`task_count`"),
            (json!({"websocket_status": "up"}), "`websocket_status`: found `\"up\"`, expected a mapping"),
            (json!({"websocket_status": {"connected": "yes"}}), "`websocket_status.connected`"),
            (json!({"websocket_status": {"latency_ms": -5}}), "`websocket_status.latency_ms`"),
            (json!({"websocket_status": {"extra": {"deep": 1}}}), "`websocket_status.extra`"),
            (json!({"rate_limit_status": {"BTC/USD": 85}}), "`rate_limit_status.BTC/USD`"),
            (json!({"rate_limit_status": {"BTC/USD": {"percentage": "85"}}}), "`rate_limit_status.BTC/USD.percentage`"),
            (json!({"mood": "good"}), "`mood`: found `\"good\"`, expected a number"),
            (json!({"list": [1, 2]}), "`list`"),
            (json!({"timestamp": "soon"}), "`timestamp`: found `\"soon\"`, expected a date"),
            (json!({"websocket_status": {"last_update": true}}), "`websocket_status.last_update`"),
            (json!({"": 1}), "expected a name of 1 to 128 characters"),
            (json!({"portfolio_sync": "x".repeat(501)}), "`portfolio_sync`"),
        ] {
            let refused = taken(vitals.clone()).unwrap_err();
            assert!(refused.contains(told), "{vitals}: {refused}");
        }
        let many: Map<String, Value> = (0..=KEYS_MAX).map(|index| (format!("n{index}"), json!(1))).collect();
        assert!(checked(many).unwrap_err().to_string().contains("at most 128 keys"));
    }

    proptest! {
        /// OBS-9: whatever is taken exports finite, bounded numbers.
        #[test]
        fn what_is_exported_is_finite_and_bounded(values in prop::collection::btree_map("[a-z_]{1,12}", any::<f64>(), 0..130)) {
            let sent: Map<String, Value> = values.into_iter().map(|(key, value)| (key, json!(value))).collect();
            if let Ok(kept) = checked(sent) {
                let exported = perfdata(&kept);
                prop_assert!(exported.len() <= EXPORTED_MAX);
                prop_assert!(exported.iter().all(|one| one.value.is_finite()));
            }
        }
    }
}
