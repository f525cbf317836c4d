//! Request bodies, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::alerts::payload;

use super::problem::Problem;
use super::router::Shared;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Bodies that are read at once; more wait, so that memory stays bounded whatever arrives.
pub(super) const BODIES_MAX: usize = 32;

/// The whole body, or why not.
pub(super) async fn read(shared: &Shared, body: Body) -> Result<Bytes, Problem> {
    let reading = async {
        let _permit = shared.bodies.acquire().await;
        Limited::new(body, shared.body_max).collect().await.map(http_body_util::Collected::to_bytes)
    };
    match tokio::time::timeout(BODY_TIMEOUT, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("the body is larger than {} bytes", shared.body_max),
        )),
        Ok(Err(error)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "unreadable",
            format!("the body ended before it was complete: {error}"),
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            format!("the body took longer than {} s to arrive", BODY_TIMEOUT.as_secs()),
        )),
    }
}

/// A JSON body; a mistake names line and column.
pub(super) async fn json<T: DeserializeOwned>(shared: &Shared, body: Body) -> Result<T, Problem> {
    let bytes = read(shared, body).await?;
    check_depth(&bytes)?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::invalid(format!("the body does not fit: {error}")))
}

/// Refuses JSON that is nested deeper than the webhook takes it.
pub(super) fn check_depth(bytes: &[u8]) -> Result<(), Problem> {
    match payload::too_deep(bytes) {
        Some(at) => {
            let detail = format!("found more than {} levels of nesting at byte {at}", payload::DEPTH_MAX);
            Err(Problem::invalid(detail).coded("too_deep"))
        }
        None => Ok(()),
    }
}

/// A JSON body, or nothing at all.
pub(super) async fn json_or_nothing<T: DeserializeOwned>(shared: &Shared, body: Body) -> Result<Option<T>, Problem> {
    let bytes = read(shared, body).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    check_depth(&bytes)?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| Problem::invalid(format!("the body does not fit: {error}")))
}
