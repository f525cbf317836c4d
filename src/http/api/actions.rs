//! Runs of actions and recommendations that never ran, latest first, and the story of each.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::handle::WantedRuns;
use crate::http::paging::{Place, Wanted};
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment};
use crate::http::router::{Shared, within};
use crate::model::{Outcome, Timestamp};

const LIST: &str = "actions";

/// Where a run stands, and where a recommendation without one does.
const STATES: [&str; 9] =
    ["intended", "started", "finished", "verified", "cancelled", "indeterminate", "waiting", "approval", "ended"];

/// `GET /api/v1/actions`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let outcome = params.word("outcome", &Outcome::ALL, Outcome::as_str)?;
    let state = params.word("state", &STATES, |word| word)?;
    let (after, limit) = wanted.reach();
    let runs = shared.handle.runs(&WantedRuns {
        subsystem: params.text("subsystem"),
        issue: params.text("issue"),
        action: params.text("action"),
        state,
        outcome,
        after,
        limit,
    });
    let (page, next) = wanted.cut(runs, place, LIST);
    Ok(Json(json!({ "actions": page, "next": next })).into_response())
}

/// `GET /api/v1/actions/{id}`
pub(in crate::http) async fn one(State(shared): State<Arc<Shared>>, Segment(id): Segment) -> Result<Response, Problem> {
    Ok(Json(within(shared.handle.story(id)).await?).into_response())
}

/// By when it was decided, or recommended if it never was.
fn place(run: &Value) -> Place {
    let text = |key: &str| run[key].as_str().unwrap_or_default();
    let at = |key: &str| Timestamp::parse_rfc3339(text(key));
    let decided = at("intended_at").or_else(|| at("recommended_at")).unwrap_or_default();
    let id = if text("id").is_empty() { text("key") } else { text("id") };
    (-decided.millis(), id.to_owned())
}
