//! The subsystems with their health, by name.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::http::paging::Wanted;
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment, short};
use crate::http::router::Shared;

const LIST: &str = "subsystems";

/// `GET /api/v1/subsystems`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let name = |one: &serde_json::Value| one["subsystem"].as_str().unwrap_or_default().to_owned();
    let (page, next) = wanted.cut(shared.handle.subsystems(), |one| (0, name(one)), LIST);
    Ok(Json(json!({ "subsystems": page, "next": next })).into_response())
}

/// `GET /api/v1/subsystems/{name}`
pub(in crate::http) async fn one(
    State(shared): State<Arc<Shared>>,
    Segment(name): Segment,
) -> Result<Response, Problem> {
    let found = shared.handle.subsystems().into_iter().find(|one| one["subsystem"] == name.as_str());
    found.map(|one| Json(one).into_response()).ok_or_else(|| {
        let detail = format!("there is no subsystem `{}`; /api/v1/subsystems lists them", short(&name));
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    })
}
