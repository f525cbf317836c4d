//! Everything that only tells: metrics, probes, report, policy, gate, history.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::model::{Intent, PolicyDocument, Severity};

use super::gate::gate;
use super::handle::PageFormat;
use super::problem::Problem;
use super::router::{Shared, within};

/// Journal entries per page, unless asked for fewer.
const HISTORY_MAX: usize = 1_000;

/// `GET /metrics`
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let page = shared.pages.fill(|out| shared.handle.metrics_page(PageFormat::Text, out));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], page).into_response()
}

/// `GET /-/healthy`
pub(super) async fn healthy() -> &'static str {
    "chiron is healthy\n"
}

/// `GET /-/ready`
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Result<&'static str, Problem> {
    match shared.handle.ready() {
        Ok(()) => Ok("chiron is ready\n"),
        Err(reason) => Err(Problem::unavailable(reason).coded("not_ready")),
    }
}

/// `GET /health`, always 200.
pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
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

/// `GET /status`
pub(super) async fn report(State(shared): State<Arc<Shared>>) -> Response {
    Json(&*shared.handle.report()).into_response()
}

/// `GET /alerts`
pub(super) async fn alerts(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "alerts": shared.handle.active_alerts() })).into_response()
}

/// `GET /api/v1/issues`
pub(super) async fn issues(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "issues": shared.handle.report().detected_issues })).into_response()
}

/// `GET /api/v1/recommendations`
pub(super) async fn recommendations(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "recommendations": shared.handle.report().recovery_recommendations })).into_response()
}

/// `GET /api/v1/actions`
pub(super) async fn actions(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "actions": shared.handle.runs() })).into_response()
}

#[derive(Deserialize)]
pub(super) struct HistoryQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

/// `GET /api/v1/journal`
pub(super) async fn journal(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(100);
    if !(1..=HISTORY_MAX).contains(&limit) {
        return Err(Problem::invalid(format!("found limit {limit}, expected 1 to {HISTORY_MAX}")));
    }
    Ok(Json(within(shared.handle.history(query.after, limit)).await?).into_response())
}

/// `GET /api/v1/policy`. A 304 also tells, as a header, until when the copy that the bot has is valid.
pub(super) async fn policy(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let document = shared.handle.policy();
    let etag = etag(&document);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag);
    let mut response = if known { StatusCode::NOT_MODIFIED.into_response() } else { Json(&*document).into_response() };
    let values = [
        (header::ETAG, format!("W/{etag}")),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::HeaderName::from_static("chiron-valid-until"), document.valid_until.rfc3339()),
    ];
    for (name, value) in values {
        let value = HeaderValue::try_from(value).expect("numbers and dates are valid header values");
        response.headers_mut().insert(name, value);
    }
    response
}

/// Same tag, same policy; `issued_at` and `valid_until` move under it, so that it is a weak one.
fn etag(document: &PolicyDocument) -> String {
    format!("\"{}-{}\"", document.sequence, if document.latched { "latched" } else { "free" })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GateQuery {
    leverage: Option<f64>,
    /// Told by the bot; no restriction is scoped to a symbol yet.
    #[serde(rename = "symbol")]
    _symbol: Option<String>,
}

/// `GET /api/v1/gate/{intent}`
pub(super) async fn ask_gate(
    State(shared): State<Arc<Shared>>,
    Path(intent): Path<String>,
    query: Result<Query<GateQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let intent = Intent::parse(&intent).ok_or_else(|| {
        let known = Intent::ALL.map(Intent::as_str).join(", ");
        Problem::new(StatusCode::NOT_FOUND, "unknown_intent", format!("expected one of the intents {known}"))
    })?;
    let Query(query) = query.map_err(|rejection| Problem::invalid(rejection.body_text()))?;
    if let Some(leverage) = query.leverage.filter(|leverage| !leverage.is_finite() || *leverage < 0.0) {
        return Err(Problem::invalid(format!("found leverage {leverage}, expected a number from 0")));
    }
    let answer = gate(&shared.handle.policy(), intent, query.leverage, shared.clock.now());
    let status = if answer.allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
    Ok((status, Json(answer)).into_response())
}
