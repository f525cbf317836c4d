//! Alerts that fire as far as chiron knows.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::http::router::Shared;

/// `GET /api/v1/alerts`, `GET /alerts`
pub(in crate::http) async fn active(State(shared): State<Arc<Shared>>) -> Response {
    Json(json!({ "alerts": shared.handle.active_alerts() })).into_response()
}
