//! What a bot tells, as the rules want it: from keys to [`Vitals`], and the grade of a check with what they say.
//!
//! ```text
//! pushed, read, polled or scraped -> vitals::checked -> vitals -> graded -> Health with Signals
//! ```
//!
//! **Invariant:** pure. What a rule raises by itself is kept out of `Signals::own_status`, so that one trouble is one issue.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::check::Judgement;
use super::probes::state_file::timestamp;
use super::vitals as keys;
use crate::model::{Name, Status, Timestamp, Vitals, WebSocketStatus};

/// The issue types that rules tell from what a bot tells.
pub const ISSUES: &[&str] =
    &["websocket_disconnected", "websocket_data_stale", "rate_limit_critical", "high_latency", "memory_pressure"];

/// Data flows while an update has come within this time (EXC-1).
const FLOWING: Duration = Duration::from_secs(5);

/// The keys by which vitals date themselves, most telling first.
pub const STAMPS: [&str; 2] = ["timestamp", "last_update"];

/// When vitals were true by their own word, and the key that says so.
pub fn stamp(told: &Map<String, Value>) -> Option<(Timestamp, &'static str)> {
    STAMPS.into_iter().find_map(|key| Some((timestamp(told.get(key)?)?, key)))
}

/// Vitals in the units that rules compare. They were true `at`, by chiron's clock, which was `by_bot` by the bot's, so that
/// no difference between the two makes a feed old.
pub fn vitals(told: &Map<String, Value>, at: Timestamp, by_bot: Timestamp) -> Vitals {
    let number = |key: &str| told.get(key).and_then(Value::as_f64);
    Vitals {
        at,
        websocket: told.get("websocket_status").and_then(Value::as_object).map(|told| web_socket(told, at, by_bot)),
        rate_limits: told.get("rate_limit_status").and_then(Value::as_object).and_then(rate_limits),
        execution_latency_ms: number("execution_latency"),
        error_rate: number("error_rate"),
        memory_usage: number("memory_usage"),
        task_count: told.get("task_count").and_then(Value::as_u64),
        parts: Vec::new(),
    }
}

fn web_socket(told: &Map<String, Value>, at: Timestamp, by_bot: Timestamp) -> WebSocketStatus {
    let flag = |key: &str| told.get(key).and_then(Value::as_bool);
    let silent = told.get("last_update").and_then(timestamp).map(|update| by_bot.since(update));
    let data_flowing = match (flag("data_flowing"), silent) {
        // A flag that was true once is not believed beside an update that is too old.
        (Some(true) | None, Some(silent)) => Some(silent <= FLOWING),
        (said, _) => said,
    };
    WebSocketStatus {
        connected: flag("connected"),
        authenticated: flag("authenticated"),
        data_flowing,
        latency_ms: told.get("latency_ms").and_then(Value::as_f64),
        reconnect_count: told.get("reconnect_count").and_then(Value::as_u64),
        last_error: told.get("last_error").and_then(Value::as_str).map(str::to_owned),
        last_update: silent.map(|silent| at.minus(silent)),
    }
}

/// The symbols whose use is told. If some are named and of none it is told, nothing is known.
fn rate_limits(told: &Map<String, Value>) -> Option<Vec<(Name, f64)>> {
    let used = |value: &Value| value.get("percentage").and_then(Value::as_f64);
    let known: Vec<(Name, f64)> =
        told.iter().filter_map(|(symbol, value)| Some((symbol.as_str().into(), used(value)?))).collect();
    (told.is_empty() || !known.is_empty()).then_some(known)
}

/// What a bot says of itself as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The status.
    pub status: Option<Status>,
    /// One line for people.
    pub message: String,
}

/// Vitals with their age.
#[derive(Clone, Debug)]
pub struct Said<'a> {
    /// As they were told.
    pub told: &'a Map<String, Value>,
    /// For the rules.
    pub vitals: Vitals,
    /// How old they are.
    pub age: Duration,
    /// Whether they are young enough for the rules.
    pub fresh: bool,
}

/// The grade of how old a bot's last word is, with what it says: of itself, and in its vitals, as far as they may be told
/// at all. An error rate above `max_error_rate` degrades (EXC-4).
pub fn graded(mut judgement: Judgement, claim: &Claim, said: Option<Said<'_>>, max_error_rate: f64) -> Judgement {
    let mut warnings: Vec<String> = Vec::new();
    // Of a bot that has fallen silent the last word still counts: silence makes nothing better.
    let silent = judgement.status != Status::Healthy;
    let vitals = said.as_ref().filter(|said| said.fresh || silent).map(|said| &said.vitals);
    let (raised, trouble) = vitals.map_or((Status::Healthy, None), raised_by_rules);
    let errors = vitals.and_then(|vitals| vitals.error_rate).filter(|rate| *rate > max_error_rate);
    if let Some(rate) = errors {
        judgement = judgement.at_least(Status::Degraded);
        let (rate, most) = (rate * 100.0, max_error_rate * 100.0);
        warnings.push(format!("{rate:.1}% of its requests fail, expected at most {most:.1}%"));
    }
    if let Some(status) = claim.status {
        // What it says of itself because of what a rule raises is that same trouble.
        if status.rank() > raised.rank() {
            judgement = judgement.at_least(status);
        }
        judgement = judgement.with("claimed_status", status.as_str());
        if status != Status::Healthy {
            warnings.insert(0, told_claim(status, &claim.message));
        }
    }
    if !claim.message.is_empty() {
        judgement = judgement.with("message", claim.message.clone());
    }
    let own = judgement.status;
    judgement = judgement.at_least(raised).at_least(claim.status.unwrap_or(Status::Healthy));
    if own != judgement.status {
        judgement.signals.own_status = Some(own);
    }
    warnings.extend(trouble);
    if judgement.status != Status::Healthy && !judgement.details.contains_key("warning") && !warnings.is_empty() {
        judgement = judgement.with("warning", warnings.join("; "));
    }
    if let Some(said) = said {
        judgement.perfdata = keys::perfdata(said.told);
        let told = keys::numbers(said.told).map(|(key, number)| (key.clone(), Value::Number(number.clone())));
        judgement =
            judgement.with("vitals", Value::Object(told.collect())).with("vitals_age_seconds", said.age.as_secs_f64());
        judgement.signals.vitals = said.fresh.then(|| Arc::new(said.vitals));
    }
    judgement
}

/// How bad the bot as a whole is for what rules raise of it, and a sentence. Issues of single symbols, latency and memory
/// leave its status alone.
fn raised_by_rules(vitals: &Vitals) -> (Status, Option<String>) {
    let Some(socket) = &vitals.websocket else { return (Status::Healthy, None) };
    let (status, what) = match (socket.connected, socket.authenticated, socket.data_flowing) {
        (Some(false), ..) => (Status::Critical, "is not connected"),
        (_, Some(false), _) => (Status::Critical, "is not authenticated"),
        (.., Some(false)) => (Status::Degraded, "brings no data"),
        _ => return (Status::Healthy, None),
    };
    let why = socket.last_error.as_deref().filter(|error| !error.is_empty());
    (status, Some(format!("its WebSocket {what}{}", why.map_or_else(String::new, |why| format!(": {why}")))))
}

fn told_claim(status: Status, message: &str) -> String {
    if message.is_empty() {
        format!("says of itself that it is {status}")
    } else {
        format!("says of itself that it is {status}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);

    fn map(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("a mapping") };
        map
    }

    fn of(value: Value) -> Vitals {
        vitals(&map(value), NOW, NOW)
    }

    /// OBS-9: every key arrives in the unit of the rules; what is absent stays unknown.
    #[test]
    fn keys_become_vitals() {
        let full = of(json!({
            "websocket_status": {"connected": true, "authenticated": false, "latency_ms": 12, "reconnect_count": 2,
                "last_error": "closed"},
            "rate_limit_status": {"BTC/USD": {"percentage": 86}, "ETH/USD": {"calls": 3}},
            "execution_latency": 250, "error_rate": 0.5, "memory_usage": 0.913, "task_count": 17
        }));
        let socket = full.websocket.clone().unwrap();
        assert_eq!((socket.connected, socket.authenticated, socket.data_flowing), (Some(true), Some(false), None));
        assert_eq!((socket.latency_ms, socket.reconnect_count), (Some(12.0), Some(2)));
        assert_eq!(socket.last_error.as_deref(), Some("closed"));
        assert_eq!(full.rate_limits, Some(vec![("BTC/USD".into(), 86.0)]));
        assert_eq!((full.execution_latency_ms, full.error_rate), (Some(250.0), Some(0.5)));
        assert_eq!((full.memory_usage, full.task_count), (Some(0.913), Some(17)));
        assert_eq!(of(json!({"pnl": 1})), Vitals { at: NOW, ..Vitals::default() });
        assert_eq!(of(json!({"rate_limit_status": {}})).rate_limits, Some(Vec::new()));
        assert_eq!(of(json!({"rate_limit_status": {"BTC/USD": {"calls": 3}}})).rate_limits, None);
    }

    /// EXC-1: data flows while an update has come within 5 s before the bot told it, whatever a flag says that was true
    /// once, and however far the bot's clock is from ours.
    #[test]
    fn data_flows_for_five_seconds() {
        let flowing = |said: Value, age: i64, skew: i64| {
            let by_bot = Timestamp::from_millis(NOW.millis() + skew);
            let update = Timestamp::from_millis(by_bot.millis() - age).rfc3339();
            let told = map(json!({"websocket_status": {"data_flowing": said, "last_update": update}}));
            let socket = vitals(&told, NOW, by_bot).websocket.unwrap();
            assert_eq!(socket.last_update.map(|at| NOW.since(at)), Some(Duration::from_millis(age.unsigned_abs())));
            socket.data_flowing
        };
        for skew in [-3_600_000, 0, 3_600_000] {
            assert_eq!(flowing(Value::Null, 5_000, skew), Some(true), "{skew}");
            assert_eq!(flowing(Value::Null, 6_000, skew), Some(false), "{skew}");
            assert_eq!(flowing(json!(true), 6_000, skew), Some(false), "{skew}");
            assert_eq!(flowing(json!(false), 0, skew), Some(false), "{skew}");
        }
        let told = of(json!({"websocket_status": {"data_flowing": true}})).websocket.unwrap();
        assert_eq!((told.data_flowing, told.last_update), (Some(true), None));
    }

    fn grade(age: Status, claimed: Option<Status>, told: Value, fresh: bool) -> Judgement {
        let told = map(told);
        let said = Said { told: &told, vitals: vitals(&told, NOW, NOW), age: Duration::ZERO, fresh };
        let claim = Claim { status: claimed, message: String::new() };
        graded(Judgement::new(age), &claim, Some(said), 0.2)
    }

    /// EXC-4, DET-1: what a rule raises counts for the status and not for what is the subsystem's own; a claim that says no
    /// more than that is the same trouble; an error rate above its limit is the subsystem's own.
    #[test]
    fn one_trouble_is_one_issue() {
        use Status::{Critical, Degraded, Healthy};
        let off = json!({"websocket_status": {"connected": false, "last_error": "reset by peer"}});
        let quiet = json!({"websocket_status": {"connected": true, "data_flowing": false}});
        let errors = json!({"error_rate": 0.21});
        for (age, claimed, told, fresh, status, own) in [
            (Healthy, None, json!({"error_rate": 0.2}), true, Healthy, Healthy),
            (Healthy, None, errors.clone(), true, Degraded, Degraded),
            (Healthy, None, errors.clone(), false, Healthy, Healthy),
            (Healthy, None, off.clone(), true, Critical, Healthy),
            (Healthy, Some(Critical), off.clone(), true, Critical, Healthy),
            (Healthy, Some(Degraded), off.clone(), true, Critical, Healthy),
            (Healthy, Some(Critical), quiet.clone(), true, Critical, Critical),
            (Healthy, None, quiet.clone(), true, Degraded, Healthy),
            (Degraded, None, quiet, true, Degraded, Degraded),
            (Degraded, None, off.clone(), false, Critical, Degraded),
            (Healthy, None, off.clone(), false, Healthy, Healthy),
            (Healthy, Some(Critical), errors, true, Critical, Critical),
            (
                Healthy,
                None,
                json!({"rate_limit_status": {"A": {"percentage": 99}}, "memory_usage": 1}),
                true,
                Healthy,
                Healthy,
            ),
        ] {
            let found = grade(age, claimed, told.clone(), fresh);
            let of_it = found.signals.own_status.unwrap_or(found.status);
            assert_eq!((found.status, of_it), (status, own), "{age} {claimed:?} {told} {fresh}");
            assert_eq!(found.signals.vitals.is_some(), fresh, "old vitals reach no rule");
            assert_eq!(found.details.contains_key("warning"), found.status != Healthy, "{told}");
        }
        let warned = grade(Healthy, None, off, true).details["warning"].clone();
        assert_eq!(warned, "its WebSocket is not connected: reset by peer");
        let warned = grade(Healthy, None, json!({"error_rate": 0.25}), true).details["warning"].clone();
        assert_eq!(warned, "25.0% of its requests fail, expected at most 20.0%");
    }
}
