//! The failure points with what was found there, in the order of the catalog.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::problem::Problem;
use crate::http::query::{Segment, short};
use crate::http::router::Shared;

/// `GET /api/v1/failure-points`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let overall = shared.handle.report().failure_points.overall_status;
    Json(json!({ "overall_status": overall, "failure_points": shared.handle.failure_points() }))
}

/// `GET /api/v1/failure-points/{category}`
pub(in crate::http) async fn one(
    State(shared): State<Arc<Shared>>,
    Segment(category): Segment,
) -> Result<Response, Problem> {
    let found = shared.handle.failure_points().into_iter().find(|one| one["category"] == category.as_str());
    found.map(|one| Json(one).into_response()).ok_or_else(|| {
        let detail = format!("there is no failure point `{}`; /api/v1/failure-points lists them", short(&category));
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    })
}
