//! What chiron proposes, and a person's answer to what it asks approval for.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::http::body::{self, Sent};
use crate::http::control::{checked_reason, optional_reason};
use crate::http::paging::Wanted;
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment};
use crate::http::router::{Shared, within};
use crate::model::{Caller, Recommendation};

const LIST: &str = "recommendations";

/// The longest digest that may be one of ours, in bytes.
const DIGEST_MAX: usize = 128;

/// `GET /api/v1/recommendations`, the most urgent first.
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let all = shared.handle.report().recovery_recommendations.clone();
    let place = |one: &Recommendation| (i64::from(one.priority), one.recommendation_id.clone());
    let (page, next) = wanted.cut(all, place, LIST);
    Ok(Json(json!({ "recommendations": page, "next": next })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    digest: String,
    reason: Option<String>,
}

impl Answer {
    fn checked(self) -> Result<(String, Option<String>), Problem> {
        let length = self.digest.len();
        if (1..=DIGEST_MAX).contains(&length) {
            return Ok((self.digest, self.reason));
        }
        let detail = format!("found a digest of {length} bytes, expected `approval.digest` of the recommendation");
        Err(Problem::invalid(detail))
    }
}

/// `POST /api/v1/recommendations/{recommendation_id}/approve`
pub(in crate::http) async fn approve(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    body: Sent,
) -> Result<Response, Problem> {
    let (digest, reason) = body::json::<Answer>(&shared, body).await?.checked()?;
    let reason = optional_reason(reason)?;
    Ok(Json(within(shared.handle.approve(id, digest, caller, reason)).await?).into_response())
}

/// `POST /api/v1/recommendations/{recommendation_id}/reject`
pub(in crate::http) async fn reject(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    body: Sent,
) -> Result<Response, Problem> {
    let (digest, reason) = body::json::<Answer>(&shared, body).await?.checked()?;
    let reason = checked_reason(reason.unwrap_or_default())?;
    within(shared.handle.reject(id.clone(), digest, caller, reason)).await?;
    Ok(Json(json!({ "rejected": id })).into_response())
}
