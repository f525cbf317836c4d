//! `POST /api/v1/alerts/webhook`: Alertmanager's notifications (ALR-1).
//!
//! **Invariant:** 2xx only once the alerts are durable; 4xx only for what can never be accepted; else 5xx, so that
//! Alertmanager retries. Never 429, which it takes for a final no.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::alerts::payload::{Notification, PayloadProblem};
use crate::alerts::{self};
use crate::model::Timestamp;

use super::body::{self, Sender, Sent};
use super::problem::Problem;
use super::router::Shared;

/// Alertmanager gives up after 10 s at the earliest; it is answered before that.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(8);

/// Codes that a notification is refused with before its payload is looked at; the payload has its own.
pub const REFUSALS: [&str; 11] = [
    "address_not_allowed",
    "rate_limited",
    "bad_signature",
    "unauthenticated",
    "forbidden",
    "foreign_origin",
    "foreign_host",
    "invalid",
    "too_slow",
    "unreadable",
    "unavailable",
];

/// Understands the body of a notification; `alerts::payload::parse` but in tests.
pub type ParseNotification = fn(&[u8], Timestamp, &alerts::Settings) -> Result<Notification, PayloadProblem>;

/// Takes a notification in. The guard has let it through.
pub(super) async fn receive(State(shared): State<Arc<Shared>>, body: Sent) -> Response {
    match take(&shared, body).await {
        Ok(accepted) => Json(json!({ "accepted": accepted })).into_response(),
        Err(problem) => {
            shared.refuse(&problem);
            problem.into_response()
        }
    }
}

/// A body that did not arrive is not the notification's fault: 408 and 400 would end Alertmanager's attempts.
pub(super) fn retryable(problem: Problem) -> Problem {
    match problem.status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::BAD_REQUEST => {
            Problem::unavailable(problem.detail).coded(problem.code)
        }
        _ => problem,
    }
}

async fn take(shared: &Shared, body: Sent) -> Result<usize, Problem> {
    let bytes = body::read(shared, body, Sender::Known).await.map_err(retryable)?;
    let settings = shared.handle.webhook_settings();
    let notification = (shared.parse)(&bytes, shared.clock.now(), &settings).map_err(|problem| {
        let large = problem.code == "too_large";
        let status = if large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
        Problem::new(status, problem.code, problem.detail)
    })?;
    drop(bytes);
    let accepted = notification.alerts.len();
    let accepting = shared.handle.accept(notification.alerts, notification.truncated);
    match tokio::time::timeout(ACCEPT_TIMEOUT, accepting).await {
        Ok(result) => result?,
        Err(_) => {
            let limit = ACCEPT_TIMEOUT.as_secs();
            return Err(Problem::unavailable(format!("the alerts could not be made durable within {limit} s")));
        }
    }
    Ok(accepted)
}
