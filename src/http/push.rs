//! What a bot pushes, and the restart of chiron's own workers.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::model::{Caller, Pushed, Status};

use super::body;
use super::problem::Problem;
use super::router::{Shared, within};

/// The longest message of a bot and the longest reason of a person, in characters.
const TEXT_MAX: usize = 500;

/// `POST /api/v1/vitals`
pub(super) async fn push(State(shared): State<Arc<Shared>>, body: Body) -> Result<Response, Problem> {
    let mut vitals: Map<String, Value> = body::json(&shared, body).await?;
    let Some(Value::String(name)) = vitals.shift_remove("subsystem") else {
        return Err(Problem::invalid("`subsystem` is missing, expected the name of a subsystem with a `push` check"));
    };
    let pushed = pushed(&shared, name, vitals)?;
    shared.handle.push(pushed)?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `POST /api/v1/heartbeats/{name}`
pub(super) async fn heartbeat(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(&shared, body).await?;
    let told: Map<String, Value> = if bytes.iter().all(u8::is_ascii_whitespace) {
        Map::new()
    } else {
        let fault = |error| Problem::invalid(format!("the body does not fit: {error}"));
        serde_json::from_slice(&bytes).map_err(fault)?
    };
    if let Some(key) = told.keys().find(|key| !matches!(key.as_str(), "status" | "message")) {
        let key: String = key.chars().take(40).collect();
        let hint = "expected `status` and `message`; vitals go to /api/v1/vitals";
        return Err(Problem::invalid(format!("found `{key}`, {hint}")));
    }
    let pushed = pushed(&shared, name, told)?;
    shared.handle.push(pushed)?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// `GET /api/v1/vitals`
pub(super) async fn vitals(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "vitals": shared.handle.vitals() })).into_response()
}

fn pushed(shared: &Shared, name: String, mut told: Map<String, Value>) -> Result<Pushed, Problem> {
    let status = match told.shift_remove("status") {
        None | Some(Value::Null) => None,
        Some(Value::String(word)) if word == "healthy" => Some(Status::Healthy),
        Some(Value::String(word)) if word == "degraded" => Some(Status::Degraded),
        Some(Value::String(word)) if word == "critical" => Some(Status::Critical),
        Some(found) => {
            let found: String = found.to_string().chars().take(40).collect();
            let rule = "expected `healthy`, `degraded` or `critical`";
            return Err(Problem::invalid(format!("`status`: found {found}, {rule}")));
        }
    };
    let message = match told.shift_remove("message") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if text.chars().count() <= TEXT_MAX => text,
        Some(_) => {
            return Err(Problem::invalid(format!("`message`: expected a text of at most {TEXT_MAX} characters")));
        }
    };
    Ok(Pushed { name: name.into(), at: shared.clock.now(), status, message, vitals: told })
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    #[serde(default)]
    reason: String,
}

/// `POST /system/restart`
pub(super) async fn restart(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Problem> {
    let bytes = body::read(&shared, body).await?;
    let wish = if bytes.iter().all(u8::is_ascii_whitespace) {
        Restart::default()
    } else {
        let fault = |error| Problem::invalid(format!("the body does not fit: {error}"));
        serde_json::from_slice(&bytes).map_err(fault)?
    };
    let reason: String = wish.reason.trim().chars().take(TEXT_MAX).collect();
    within(shared.handle.restart(caller, reason)).await?;
    Ok(Json(json!({ "restarted": true })).into_response())
}
