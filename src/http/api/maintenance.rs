//! Maintenance: the windows of the settings, and what people announce (ACT-3).
//!
//! Announcing only holds back, so it needs no more than `operate`; ending early lets things run again, so it needs
//! `approve`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Deserializer};
use serde_json::json;

use crate::base::tree::parse_duration;
use crate::http::body::{self, Sent};
use crate::http::control::{checked_reason, optional_reason};
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment, short};
use crate::http::router::{Shared, within};
use crate::model::{Caller, Timestamp};

/// The longest list of subsystems or actions.
const LIST_MAX: usize = 1_000;

/// `GET /api/v1/maintenance`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.handle.maintenance()).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    #[serde(default)]
    subsystems: Vec<String>,
    #[serde(default)]
    actions: Vec<String>,
    #[serde(default, deserialize_with = "said")]
    until: Option<String>,
    #[serde(default, deserialize_with = "said")]
    r#for: Option<String>,
    reason: String,
}

/// Text, if the key is there: null says neither when it ends nor that it does.
fn said<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value).map(Some)
}

/// `POST /api/v1/maintenance`
pub(in crate::http) async fn announce(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Wish = body::json(&shared, body).await?;
    let reason = checked_reason(wish.reason)?;
    let until = until(wish.until.as_deref(), wish.r#for.as_deref(), shared.clock.now())?;
    for (key, list) in [("subsystems", &wish.subsystems), ("actions", &wish.actions)] {
        if list.len() > LIST_MAX {
            let detail = format!("found {} {key}, expected at most {LIST_MAX}", list.len());
            return Err(Problem::invalid(detail));
        }
    }
    let id = within(shared.handle.announce(wish.subsystems, wish.actions, until, caller, reason)).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id, "until": until }))).into_response())
}

/// When it ends: said as a date or as a duration from now. Whether that is a time to end at is not for here to say.
fn until(until: Option<&str>, duration: Option<&str>, now: Timestamp) -> Result<Timestamp, Problem> {
    match (until, duration) {
        (Some(text), None) => Timestamp::parse_rfc3339(text).ok_or_else(|| {
            Problem::invalid(format!("found until `{}`, expected a date such as 2026-01-31T22:00:00Z", short(text)))
        }),
        (None, Some(text)) => {
            let span = parse_duration(text).filter(|span| *span >= Duration::from_secs(1));
            let expected = || format!("found for `{}`, expected a duration such as 2h, from 1s", short(text));
            Ok(now.plus(span.ok_or_else(|| Problem::invalid(expected()))?))
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(Problem::invalid("expected either `until`, a date, or `for`, a duration: it ends by itself"))
        }
    }
}

/// `DELETE /api/v1/maintenance/{id}`
pub(in crate::http) async fn end(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    params: Params,
) -> Result<Response, Problem> {
    let reason = optional_reason(params.text("reason").map(str::to_owned))?;
    within(shared.handle.end_maintenance(id.clone(), caller, reason)).await?;
    Ok(Json(json!({ "id": id, "ended": true })).into_response())
}
