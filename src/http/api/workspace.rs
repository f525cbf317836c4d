//! The bot's workspace: the latest look at it, its healings, and a person's wish to heal it or to undo a healing
//! (WSP-4, WSP-6).
//!
//! Healing is what chiron does by itself anyway, so it needs no more than `operate`; undoing needs `approve`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::body::{self, Sent};
use crate::http::paging::{Place, Wanted};
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment};
use crate::http::router::{Shared, within};
use crate::model::{Caller, Timestamp};

const LIST: &str = "healings";

/// `GET /api/v1/workspace`
pub(in crate::http) async fn now(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.handle.workspace()).into_response()
}

/// `GET /api/v1/workspace/healings`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let healings = within(shared.handle.healings()).await?;
    let (page, next) = wanted.cut(healings, place, LIST);
    Ok(Json(json!({ "healings": page, "next": next })).into_response())
}

/// By when it was planned, the latest first.
fn place(healing: &Value) -> Place {
    let text = |key: &str| healing[key].as_str().unwrap_or_default();
    let at = Timestamp::parse_rfc3339(text("at")).unwrap_or_default();
    (-at.millis(), text("id").to_owned())
}

/// `GET /api/v1/workspace/healings/{id}`
pub(in crate::http) async fn one(State(shared): State<Arc<Shared>>, Segment(id): Segment) -> Result<Response, Problem> {
    Ok(Json(within(shared.handle.healing(id)).await?).into_response())
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    dry_run: bool,
}

/// `POST /api/v1/workspace/heal`
pub(in crate::http) async fn heal(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Wish = body::json_or_nothing(&shared, body).await?.unwrap_or_default();
    Ok(answer(within(shared.handle.heal(wish.dry_run, caller)).await?))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Undo {
    #[serde(default)]
    force: bool,
}

/// `POST /api/v1/workspace/healings/{id}/rollback`
pub(in crate::http) async fn undo(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Undo = body::json_or_nothing(&shared, body).await?.unwrap_or_default();
    Ok(answer(within(shared.handle.undo_healing(id, wish.force, caller)).await?))
}

/// The report; 202 if it goes on.
fn answer(report: Option<Value>) -> Response {
    match report {
        Some(report) => Json(report).into_response(),
        None => (StatusCode::ACCEPTED, Json(json!({ "busy": true }))).into_response(),
    }
}
