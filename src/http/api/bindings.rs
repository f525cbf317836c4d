//! The bindings with what keeps each from working, by action and subsystem.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::paging::Wanted;
use crate::http::problem::Problem;
use crate::http::query::Params;
use crate::http::router::Shared;

const LIST: &str = "bindings";

/// `GET /api/v1/bindings`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    let place = |one: &Value| (0, format!("{}@{}", text(one, "action"), text(one, "subsystem")));
    let (page, next) = wanted.cut(shared.handle.bindings(), place, LIST);
    Ok(Json(json!({ "bindings": page, "next": next })).into_response())
}
