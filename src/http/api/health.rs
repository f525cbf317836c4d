//! Probes, the health of everything in short, and the whole report.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::http::problem::Problem;
use crate::http::router::Shared;
use crate::model::Severity;

/// `GET /-/healthy`
pub(in crate::http) async fn healthy() -> &'static str {
    "chiron is healthy\n"
}

/// `GET /-/ready`
pub(in crate::http) async fn ready(State(shared): State<Arc<Shared>>) -> Result<&'static str, Problem> {
    match shared.handle.ready() {
        Ok(()) => Ok("chiron is ready\n"),
        Err(reason) => Err(Problem::unavailable(reason).coded("not_ready")),
    }
}

/// `GET /health`, always 200.
pub(in crate::http) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let report = shared.handle.report();
    let critical = report.detected_issues.iter().filter(|issue| issue.severity == Severity::Critical).count();
    Json(json!({
        "overall_status": report.overall_status,
        "safety_policy": report.current_safety_policy,
        "trading_allowed": report.trading_should_continue,
        "issues": report.detected_issues.len(),
        "critical_issues": critical,
        "summary": report.summary,
    }))
    .into_response()
}

/// `GET /api/v1/report`, `GET /status`
pub(in crate::http) async fn report(State(shared): State<Arc<Shared>>) -> Response {
    Json(&*shared.handle.report()).into_response()
}
