//! What a bot tells about itself: vitals and heartbeats (OBS-7, OBS-9).
//!
//! **Invariant:** only the form is judged here; whether anybody listens, and whether the values make sense, the inbox knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::http::body::{self, Sent};
use crate::http::problem::Problem;
use crate::http::query::{Segment, short};
use crate::http::router::Shared;
use crate::model::{Pushed, Status};

/// The longest name of a subsystem, in bytes.
const NAME_MAX: usize = 128;
/// The longest message, in characters.
const MESSAGE_MAX: usize = 500;
/// What a sender may say of itself.
const STATUSES: [Status; 3] = [Status::Healthy, Status::Degraded, Status::Critical];

/// `GET /api/v1/vitals`: what each told last.
pub(in crate::http) async fn told(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.handle.vitals()).into_response()
}

/// `POST /api/v1/vitals`
pub(in crate::http) async fn vitals(State(shared): State<Arc<Shared>>, body: Sent) -> Result<Response, Problem> {
    let mut told: Map<String, Value> = body::json(&shared, body).await?;
    let name = match told.shift_remove("subsystem") {
        Some(Value::String(name)) => name,
        Some(_) => return Err(Problem::invalid("found a `subsystem` that is no text, expected its name")),
        None => {
            return Err(Problem::invalid("found no `subsystem`, expected the name of one whose check takes pushes"));
        }
    };
    take(&shared, name, told)
}

/// `POST /api/v1/heartbeats/{name}`
pub(in crate::http) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
    body: Sent,
) -> Result<Response, Problem> {
    let told: Map<String, Value> = body::json_or_nothing(&shared, body).await?.unwrap_or_default();
    if let Some(key) = told.keys().find(|key| !matches!(key.as_str(), "status" | "message")) {
        let detail = format!("found the key `{}`, expected only status, message; vitals take the rest", short(key));
        return Err(Problem::invalid(detail));
    }
    take(&shared, name, told)
}

fn take(shared: &Shared, name: String, told: Map<String, Value>) -> Result<Response, Problem> {
    let pushed = pushed(name, told).map_err(Problem::invalid)?;
    let pushed = Pushed { at: shared.clock.now(), ..pushed };
    shared.handle.push(pushed)?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "accepted": true }))).into_response())
}

/// What was told, if it keeps to the form.
fn pushed(name: String, mut told: Map<String, Value>) -> Result<Pushed, String> {
    if !(1..=NAME_MAX).contains(&name.len()) {
        return Err(format!("found a name of {} bytes, expected 1 to {NAME_MAX}", name.len()));
    }
    let status =
        match told.shift_remove("status") {
            None => None,
            Some(value) => {
                let known = || STATUSES.map(Status::as_str).join(", ");
                let found = STATUSES.into_iter().find(|status| value == status.as_str());
                Some(found.ok_or_else(|| {
                    format!("found status {}, expected one of {}", short(&value.to_string()), known())
                })?)
            }
        };
    let message = match told.shift_remove("message") {
        None => String::new(),
        Some(Value::String(message)) if message.chars().count() <= MESSAGE_MAX => message,
        Some(_) => return Err(format!("found another `message` than text of at most {MESSAGE_MAX} characters")),
    };
    Ok(Pushed { name: name.into(), at: crate::model::Timestamp::EPOCH, status, message, vitals: told })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(told: Value) -> Result<Pushed, String> {
        let Value::Object(told) = told else { panic!("an object") };
        pushed("bot".to_owned(), told)
    }

    /// OBS-9: who it is, what it says of itself, and the rest as vitals.
    #[test]
    fn a_push_keeps_to_its_form() {
        let taken = read(json!({"status": "degraded", "message": "slow", "error_rate": 0.5, "queue": -3})).unwrap();
        assert_eq!((taken.status, taken.message.as_str(), taken.vitals.len()), (Some(Status::Degraded), "slow", 2));
        assert_eq!(read(json!({})).unwrap().status, None);
        for (bad, part) in [
            (json!({"status": "failed"}), "expected one of healthy, degraded, critical"),
            (json!({"status": 1}), "found status 1"),
            (json!({"message": 5}), "`message`"),
            (json!({"message": "x".repeat(501)}), "`message`"),
        ] {
            let found = read(bad.clone()).unwrap_err();
            assert!(found.contains(part), "{bad}: {found}");
        }
    }
}
