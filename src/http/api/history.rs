//! What happened, by number: the journal and the audit log; and the settings in force.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::paging::{LIMIT, LIMIT_MAX};
use crate::http::problem::Problem;
use crate::http::query::Params;
use crate::http::router::{Shared, within};

/// The highest number that SQLite and every client can hold exactly.
const NUMBER_MAX: u64 = (1 << 53) - 1;

fn wanted(params: &Params) -> Result<(u64, usize), Problem> {
    let after = params.number("after", 0..=NUMBER_MAX)?.unwrap_or(0);
    Ok((after, params.number("limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT)))
}

/// Entries with `next`, which is the `after` of the next page if this one is full.
fn answer(entries: &[Value], limit: usize, number: &str) -> Response {
    let last = entries.last().filter(|_| entries.len() >= limit);
    Json(json!({ "entries": entries, "next": last.map(|entry| &entry[number]) })).into_response()
}

/// `GET /api/v1/journal`
pub(in crate::http) async fn journal(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let (after, limit) = wanted(&params)?;
    let mut history = within(shared.handle.history(after, limit)).await?;
    let entries = history["entries"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(answer(&entries, limit, "seq"))
}

/// `GET /api/v1/audit`
pub(in crate::http) async fn audit(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let (after, limit) = wanted(&params)?;
    let entries = within(shared.handle.audit(after, limit)).await?;
    let entries: Vec<Value> = entries.iter().map(|entry| json!(entry)).collect();
    Ok(answer(&entries, limit, "number"))
}

/// `GET /api/v1/config`
pub(in crate::http) async fn config(State(shared): State<Arc<Shared>>) -> Response {
    Json(&*shared.handle.config()).into_response()
}
