//! Requests that change something, behind the guard.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::model::{Caller, Level};

use super::body;
use super::problem::Problem;
use super::router::{Shared, within};

/// The longest reason a person may give, in characters.
const REASON_MAX: usize = 500;

/// The longest an override may last: a month.
const EXPIRY_MAX: u64 = 31 * 24 * 3600;

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetPolicy {
    level: String,
    reason: String,
    expires_in_seconds: Option<u64>,
}

/// `POST /api/v1/policy`
pub(super) async fn set_policy(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Problem> {
    let wish: SetPolicy = body::json(&shared, body).await?;
    let level = Level::parse(&wish.level).ok_or_else(|| {
        let known = Level::ALL.map(Level::as_str).join(", ");
        Problem::invalid(format!("found level `{}`, expected one of {known}", shortened(&wish.level)))
    })?;
    let reason = checked_reason(wish.reason)?;
    let until = match wish.expires_in_seconds {
        Some(seconds) if !(1..=EXPIRY_MAX).contains(&seconds) => {
            return Err(Problem::invalid(format!("found expires_in_seconds {seconds}, expected 1 to {EXPIRY_MAX}")));
        }
        Some(seconds) => Some(shared.clock.now().plus(Duration::from_secs(seconds))),
        None => None,
    };
    within(shared.handle.set_policy(level, reason, caller, until)).await?;
    Ok(Json(&*shared.handle.policy()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleasePolicy {
    reason: String,
}

/// `POST /api/v1/policy/release`
pub(super) async fn release_policy(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response, Problem> {
    let wish: ReleasePolicy = body::json(&shared, body).await?;
    let reason = checked_reason(wish.reason)?;
    within(shared.handle.release_policy(caller, reason)).await?;
    Ok(Json(&*shared.handle.policy()).into_response())
}

fn checked_reason(reason: String) -> Result<String, Problem> {
    let reason = reason.trim();
    let length = reason.chars().count();
    if (1..=REASON_MAX).contains(&length) {
        return Ok(reason.to_owned());
    }
    Err(Problem::invalid(format!("found a reason of {length} characters, expected 1 to {REASON_MAX}")))
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
