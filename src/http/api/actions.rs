//! Runs of actions, latest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::paging::{Place, Wanted};
use crate::http::problem::Problem;
use crate::http::query::Params;
use crate::http::router::Shared;
use crate::model::{Outcome, Timestamp};

const LIST: &str = "actions";

/// `GET /api/v1/actions`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let outcome = params.word("outcome", &Outcome::ALL, Outcome::as_str)?;
    let subsystem = params.text("subsystem");
    let runs = shared.handle.runs().into_iter().filter(|run| {
        subsystem.is_none_or(|wanted| run["target"] == wanted)
            && outcome.is_none_or(|wanted| run["outcome"] == wanted.as_str())
    });
    let (page, next) = wanted.cut(runs, place, LIST);
    Ok(Json(json!({ "actions": page, "next": next })).into_response())
}

/// By when it was decided.
fn place(run: &Value) -> Place {
    let text = |key: &str| run[key].as_str().unwrap_or_default();
    let decided = Timestamp::parse_rfc3339(text("intended_at")).unwrap_or_default();
    (-decided.millis(), text("key").to_owned())
}
