//! Request bodies, bounded in size and time, and in number for each peer.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::alerts::payload;

use super::guard::Client;
use super::problem::Problem;
use super::router::Shared;
use super::shares::Shares;

/// How long a body may take to arrive, once it is its turn.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for a stranger who was wrong too often.
const HURRIED_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a body may wait for its turn; longer than one that is read, so that a full room of slow ones is outlasted.
const TURN_TIMEOUT: Duration = Duration::from_secs(15);

/// Bodies that are read at once; more wait, so that memory stays bounded whatever arrives.
const BODIES_MAX: usize = 32;

/// Bodies that are read at once although their sender is known only after that: signed notifications.
const STRANGERS_MAX: usize = 16;

/// The part of either that one peer may take.
const PART: usize = 4;

/// The turns of all bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    known: Shares,
    strangers: Shares,
}

impl Default for Bodies {
    fn default() -> Self {
        let shares = |all: usize| Shares::new(all, all / PART);
        Self { known: shares(BODIES_MAX), strangers: shares(STRANGERS_MAX) }
    }
}

/// Who sends a body, which says with whom it shares its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Let in already.
    Known,
    /// Known only by what is in the body; `hurried` if too much of that was wrong before.
    Stranger { hurried: bool },
}

/// A body and the peer it comes from.
pub(super) struct Sent {
    pub(super) body: Body,
    pub(super) peer: IpAddr,
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let Some(Client(peer)) = request.extensions().get().copied() else {
            let detail = "the other end of the connection is not known";
            return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail));
        };
        Ok(Self { body: request.into_body(), peer })
    }
}

/// The whole body, or why not.
pub(super) async fn read(shared: &Shared, sent: Sent, sender: Sender) -> Result<Bytes, Problem> {
    let (shares, patience) = match sender {
        Sender::Known => (&shared.bodies.known, BODY_TIMEOUT),
        Sender::Stranger { hurried: false } => (&shared.bodies.strangers, BODY_TIMEOUT),
        Sender::Stranger { hurried: true } => (&shared.bodies.strangers, HURRIED_TIMEOUT),
    };
    let turn = tokio::time::timeout(TURN_TIMEOUT, shares.enter(sent.peer)).await;
    let Ok(_turn) = turn else {
        return Err(Problem::overloaded(format!("no turn to read the body within {} s", TURN_TIMEOUT.as_secs())));
    };
    let reading = Limited::new(sent.body, shared.body_max).collect();
    match tokio::time::timeout(patience, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
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
            format!("the body took longer than {} s to arrive", patience.as_secs()),
        )),
    }
}

/// A JSON body; a mistake names line and column.
pub(super) async fn json<T: DeserializeOwned>(shared: &Shared, sent: Sent) -> Result<T, Problem> {
    object(&read(shared, sent, Sender::Known).await?)
}

/// What a JSON object says. A list is refused: its elements would be taken for the fields in their order, and `[]` for all
/// of them left out.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check_depth(bytes)?;
    let first = bytes.trim_ascii_start().first();
    if let Some(first) = first.filter(|first| **first != b'{') {
        let found = char::from(*first).escape_default();
        return Err(Problem::invalid(format!(
            "the body does not fit: found `{found}` at its beginning, expected an object"
        )));
    }
    serde_json::from_slice(bytes).map_err(|error| Problem::invalid(format!("the body does not fit: {error}")))
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
pub(super) async fn json_or_nothing<T: DeserializeOwned>(shared: &Shared, sent: Sent) -> Result<Option<T>, Problem> {
    let bytes = read(shared, sent, Sender::Known).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    object(&bytes).map(Some)
}
