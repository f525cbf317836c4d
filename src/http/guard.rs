//! The guard before every route: who asks, and may they?
//!
//! **Invariant:** a request that changes something passes here before its body is read.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::model::{Caller, Role};

use super::access::{Presented, changing, webhook as webhook_access};
use super::need::{Group, need};
use super::problem::Problem;
use super::router::Shared;

/// The other end of the connection, put into every request by the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Lets through what only asks, and of what may change something only what has the right to. Every request that goes on
/// carries its [`Caller`].
pub(super) async fn guard(State(shared): State<Arc<Shared>>, mut request: Request, next: Next) -> Response {
    match admit(&shared, &request) {
        Ok(caller) => request.extensions_mut().insert(caller),
        Err(problem) => return finish(problem.into_response()),
    };
    finish(next.run(request).await)
}

fn admit(shared: &Shared, request: &Request) -> Result<Caller, Problem> {
    let need = need(request.method(), request.uri().path(), &shared.telemetry_path);
    let Some(Peer(peer)) = request.extensions().get::<Peer>() else {
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "the other end of the connection is not known"));
    };
    let address = peer.ip().to_canonical();
    if matches!(need.group, Group::Metrics | Group::Probes | Group::Read) {
        return Ok(Caller { name: address.to_string(), role: Role::Read });
    }
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let presented = Presented { peer: peer.ip(), headers: request.headers(), authority };
    let access = shared.access.0.load();
    let right = if need.group == Group::Webhook {
        let settings = shared.handle.webhook_settings();
        webhook_access(presented, &settings.bearer_tokens, &access).inspect_err(|problem| shared.refuse(problem))?
    } else {
        changing(presented, &access)?
    };
    Ok(Caller { name: format!("{address} ({})", right.as_str()), role: Role::Admin })
}

fn finish(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
