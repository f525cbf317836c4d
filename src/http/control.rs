//! Requests to chiron itself, behind the guard: reload, restart, forced checks, drills.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::model::Caller;

use super::body::{self, Sent};
use super::problem::Problem;
use super::router::{Shared, within};

/// The longest reason a person may give, in characters.
const REASON_MAX: usize = 500;

/// The longest name of a subsystem, in bytes.
const NAME_MAX: usize = 128;

/// `POST /-/reload`
pub(super) async fn reload(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    shared
        .handle
        .reload(caller)
        .await
        .map_err(|reason| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "reload_failed", reason))?;
    Ok("configuration reloaded\n".into_response())
}

/// `POST /health/force-check`
pub(super) async fn force_check(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let report = within(shared.handle.force_check()).await?;
    let issues: Vec<_> = report
        .detected_issues
        .iter()
        .map(|issue| {
            json!({ "subsystem": issue.key.subsystem, "severity": issue.severity, "description": issue.description })
        })
        .collect();
    Ok(Json(json!({ "timestamp": report.timestamp, "status": report.overall_status, "issues": issues }))
        .into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Restart {
    reason: Option<String>,
}

/// `POST /system/restart`: answers when the workers run again.
pub(super) async fn restart(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Restart = body::json_or_nothing(&shared, body).await?.unwrap_or_default();
    let reason = optional_reason(wish.reason)?;
    within(shared.handle.restart(caller, reason)).await?;
    Ok(Json(json!({ "restarted": true })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Drill {
    subsystem: String,
    reason: String,
}

/// `POST /api/v1/drills`: answers as soon as the drill's issue is open; its actions tell the rest.
pub(super) async fn drill(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Drill = body::json(&shared, body).await?;
    let length = wish.subsystem.len();
    if !(1..=NAME_MAX).contains(&length) {
        return Err(Problem::invalid(format!("found a subsystem of {length} bytes, expected 1 to {NAME_MAX}")));
    }
    let reason = checked_reason(wish.reason)?;
    let issue = within(shared.handle.drill(wish.subsystem, caller, reason)).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({ "issue_id": issue }))).into_response())
}

/// A reason that a person has to give.
pub(super) fn checked_reason(reason: String) -> Result<String, Problem> {
    let reason = reason.trim();
    let length = reason.chars().count();
    if (1..=REASON_MAX).contains(&length) {
        return Ok(reason.to_owned());
    }
    Err(Problem::invalid(format!("found a reason of {length} characters, expected 1 to {REASON_MAX}")))
}

/// A reason that a person may give; empty if they do not.
pub(super) fn optional_reason(reason: Option<String>) -> Result<String, Problem> {
    reason.filter(|reason| !reason.trim().is_empty()).map_or(Ok(String::new()), checked_reason)
}
