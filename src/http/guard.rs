//! The guard before every route: from where, how often, who asks, and may they?
//!
//! ```text
//!  allow list -> rate limit -> credential and role -> Host and Origin -> signature -> route
//! ```
//!
//! **Invariant:** a request that changes something passes here before its body is read, but for the signature, which is
//! looked at last and over a body within its limits. The webhook is never answered with 429.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::model::Caller;

use super::access::{Credential, Presented, Right, Rules, decide};
use super::body::{Sender, Sent};
use super::certificate::Names;
use super::credentials::{Header, read};
use super::need::{Group, Need, need};
use super::problem::Problem;
use super::rate::peer_of;
use super::router::Shared;
use super::signature::{Claim, Scheme, Tag};
use super::{allow, body, webhook};

/// The headers of a signed request to the API.
const SIGNATURE: &str = "x-chiron-signature";
const TIMESTAMP: &str = "x-chiron-timestamp";

/// The other end of the connection, put into every request by the server.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Of its certificate, if that was verified.
    pub(super) certificate: Option<Arc<Names>>,
}

/// The client's address: the other end, or who is behind trusted proxies. In every request that goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) IpAddr);

/// Lets through what has the right to be answered. Every request that goes on carries its [`Caller`].
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let group = need(request.method(), request.uri().path(), &shared.telemetry_path).group;
    let (parts, body) = request.into_parts();
    let response = match admit(&shared, parts, body).await {
        Ok((request, tag)) => {
            let response = next.run(request).await;
            if let Some(problem) = response.extensions().get::<Problem>().filter(|problem| problem.quiet) {
                shared.handle.turned_away(group, problem.code);
            }
            // Whoever is told to come again must be able to.
            if let Some(tag) = tag
                && response.status().is_server_error()
            {
                shared.access.0.used.forget(&tag);
            }
            response
        }
        Err(problem) => {
            shared.handle.turned_away(group, problem.code);
            if group == Group::Webhook {
                shared.refuse(&problem);
            }
            problem.into_response()
        }
    };
    finish(&shared, response)
}

async fn admit(shared: &Shared, mut parts: Parts, body: Body) -> Result<(Request, Option<Tag>), Problem> {
    let door = &*shared.access.0;
    let need = need(&parts.method, parts.uri.path(), &shared.telemetry_path);
    let Some(Peer { address, certificate }) = parts.extensions.get::<Peer>().cloned() else {
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", "the other end of the connection is not known"));
    };
    let access = door.access.load_full();
    let client = allow::client(address.ip(), &parts.headers, &access.trusted_proxies)?;
    allow::check(client, need.group, &access.allow)?;
    let now = shared.clock.since_boot();
    door.take(need.group, client, now).map_err(|wait| too_often(need.group, wait, "requests"))?;
    let (caller, right) = identify(shared, need, &parts, (address.ip(), client), certificate.as_deref(), now).await?;
    let webhook = shared.handle.webhook_settings();
    let remembered = now.saturating_sub(shared.started);
    let scheme = match (need.group, &webhook.hmac, &access.signing) {
        (Group::Webhook, Some(hmac), _) => Some(Scheme {
            secrets: &hmac.secrets,
            signature_header: &hmac.signature_header,
            timestamp_header: &hmac.timestamp_header,
            window: hmac.window,
            remembered,
        }),
        // Who comes over loopback without any credential has no key either.
        (Group::Change | Group::Push, _, Some(signing)) if right == Right::Credential => Some(Scheme {
            secrets: &signing.secrets,
            signature_header: SIGNATURE,
            timestamp_header: TIMESTAMP,
            window: signing.window,
            remembered,
        }),
        _ => None,
    };
    parts.extensions.insert(caller);
    parts.extensions.insert(Client(client));
    let Some(scheme) = scheme else { return Ok((Request::from_parts(parts, body), None)) };
    // A right signature cannot be guessed, so that failures before it do not matter; but who failed too often is given
    // no time. The webhook's own token is a credential beside the signature, so that its sender is known.
    let stranger = need.group == Group::Webhook && webhook.bearer_tokens.is_empty();
    let hurried = door.may_try(need.group, client, now).is_err();
    let sender = if stranger { Sender::Stranger { hurried } } else { Sender::Known };
    let sent = Sent { body, peer: client };
    let (body, tag) = signed(shared, need, &parts, sent, sender, scheme).await.map_err(|problem| {
        let guessed = problem.code == "bad_signature" || stranger && matches!(problem.code, "too_slow" | "unreadable");
        let failed = if guessed { door.failed(need.group, client, now) } else { Ok(()) };
        failed.err().map_or(problem, |wait| too_often(need.group, wait, "failures"))
    })?;
    Ok((Request::from_parts(parts, body), Some(tag)))
}

/// Who asks. A peer that fails too often is not told any more whether it was right.
async fn identify(
    shared: &Shared,
    need: Need,
    parts: &Parts,
    (socket, client): (IpAddr, IpAddr),
    certificate: Option<&Names>,
    now: Duration,
) -> Result<(Caller, Right), Problem> {
    let door = &*shared.access.0;
    let (access, web, webhook) = (door.access.load_full(), door.web.load_full(), shared.handle.webhook_settings());
    let users = !web.users.is_empty();
    let own = need.group == Group::Webhook && (!webhook.bearer_tokens.is_empty() || webhook.hmac.is_some());
    let credential = match read(&parts.headers) {
        Header::Plain(credential) => credential,
        // A password is looked at only where it counts: that is dear.
        Header::Basic(..) if own || access.is_open(need.group, users) => Credential::Wrong("a bearer token is needed"),
        Header::Basic(user, password) => {
            let peer = peer_of(client);
            if !door.proven.has(peer, &user, &password) {
                door.may_try(need.group, client, now).map_err(|wait| too_often(need.group, wait, "failures"))?;
            }
            let checked = door.passwords.check(user.clone(), password.clone(), &web.users).await;
            let checked = checked.ok_or_else(|| Problem::overloaded("too many passwords wait to be looked at"))?;
            door.proven.note(peer, &user, &password, matches!(checked, Credential::User(_)));
            checked
        }
    };
    let presented = Presented {
        peer: client,
        socket,
        headers: &parts.headers,
        authority: parts.uri.authority().map(axum::http::uri::Authority::as_str),
        credential: &credential,
        certificate,
    };
    let rules =
        Rules { access: &access, users, hook_tokens: &webhook.bearer_tokens, hook_signed: webhook.hmac.is_some() };
    decide(need, presented, rules).map_err(|problem| {
        // Only who presents something guesses.
        let guessed = problem.status == StatusCode::UNAUTHORIZED && credential != Credential::None;
        let failed = if guessed { door.failed(need.group, client, now) } else { Ok(()) };
        failed.err().map_or(problem, |wait| too_often(need.group, wait, "failures"))
    })
}

/// Looks at the headers, reads the body and looks at the signature over it; gives the body on.
async fn signed(
    shared: &Shared,
    need: Need,
    parts: &Parts,
    sent: Sent,
    sender: Sender,
    scheme: Scheme<'_>,
) -> Result<(Body, Tag), Problem> {
    let webhook = need.group == Group::Webhook;
    let claim = Claim::of(scheme, &parts.headers, shared.clock.now())?;
    let bytes = body::read(shared, sent, sender)
        .await
        .map_err(|problem| if webhook { webhook::retryable(problem) } else { problem })?;
    let target = parts.uri.path_and_query().map_or("/", axum::http::uri::PathAndQuery::as_str);
    let api = [parts.method.as_str().as_bytes(), b":", target.as_bytes(), b":", &bytes];
    let content = if webhook { &api[4..] } else { &api };
    let tag = claim.verify(scheme, content)?;
    shared.access.0.used.remember(tag, scheme.window, shared.clock.since_boot())?;
    Ok((Body::from(bytes), tag))
}

/// 429, but 503 from the webhook: Alertmanager gives up on a 429.
fn too_often(group: Group, wait: Duration, of: &str) -> Problem {
    let status = if group == Group::Webhook { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::TOO_MANY_REQUESTS };
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let group = group.as_str();
    Problem::new(status, "rate_limited", format!("too many {of} in the group `{group}`; come again in {seconds} s"))
        .with(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
}

fn finish(shared: &Shared, mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    for (name, value) in &shared.access.0.web.load().headers {
        headers.entry(name).or_insert_with(|| value.clone());
    }
    response
}
