//! The gate: may the bot do this now? The decision itself is pure and stands in `http::gate`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::http::gate::gate;
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment, short};
use crate::http::router::Shared;
use crate::model::Intent;

/// `GET /api/v1/gate/{intent}`: 200 if it may, 403 if it may not. No restriction is scoped to a symbol yet, so that a
/// symbol is taken and changes nothing.
pub(in crate::http) async fn ask(
    State(shared): State<Arc<Shared>>,
    Segment(intent): Segment,
    params: Params,
) -> Result<Response, Problem> {
    let intent = Intent::parse(&intent).ok_or_else(|| {
        let known = Intent::ALL.map(Intent::as_str).join(", ");
        Problem::new(StatusCode::NOT_FOUND, "unknown_intent", format!("expected one of the intents {known}"))
    })?;
    let leverage =
        match params.text("leverage") {
            None => None,
            Some(text) => Some(leverage(text).ok_or_else(|| {
                Problem::invalid(format!("found leverage `{}`, expected a number from 0", short(text)))
            })?),
        };
    let answer = gate(&shared.handle.policy(), intent, leverage, shared.clock.now());
    let status = if answer.allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
    Ok((status, Json(answer)).into_response())
}

/// A number as JSON writes it, from 0.
fn leverage(text: &str) -> Option<f64> {
    serde_json::from_str(text).ok().filter(|leverage: &f64| *leverage >= 0.0)
}
