//! The policy to the bot (POL-5): asked for, waited for, streamed; and what a person holds.
//!
//! **Invariant:** a change between two requests is never missed: what is compared is what the client has, not when it
//! asked. A client that is slower than the changes gets the latest; nobody waits for a client.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::http::body::{self, Sent};
use crate::http::control::checked_reason;
use crate::http::guard::Client;
use crate::http::problem::Problem;
use crate::http::query::{Params, short};
use crate::http::router::{Shared, within};
use crate::http::shares::Share;
use crate::model::{Caller, Level, PolicyDocument};

/// The longest a client may wait for a change.
const WAIT_MAX: u64 = 60;
/// How often a stream renews the lease at the latest; a third of its validity if that is sooner.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// How soon a client should come back when its stream ended.
const RETRY: Duration = Duration::from_secs(1);
/// How long a stream lasts; whoever listens is then asked for their right again.
const STREAM_MAX: Duration = Duration::from_secs(3_600);
/// The longest an override may last, in seconds: a month.
const EXPIRY_MAX: f64 = 31.0 * 24.0 * 3_600.0;

type Documents = watch::Receiver<Arc<PolicyDocument>>;

/// `GET /api/v1/policy`. A 304 also tells, as a header, until when the copy that the bot has is valid. With `wait`, what
/// would be a 304 is held back until the policy changes, for so many seconds at most.
pub(in crate::http) async fn current(
    State(shared): State<Arc<Shared>>,
    Extension(Client(peer)): Extension<Client>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let wait = params.number("wait", 0..=WAIT_MAX)?.unwrap_or(0);
    let known = Known::of(&headers);
    let mut documents = shared.handle.policies();
    let mut document = Arc::clone(&documents.borrow_and_update());
    if wait > 0 && known.has(&document) {
        let _place = shared.live.enter(peer)?;
        document = changed(&known, documents, &shared.live.ending, Duration::from_secs(wait)).await;
    }
    let mut response =
        if known.has(&document) { StatusCode::NOT_MODIFIED.into_response() } else { Json(&*document).into_response() };
    let values = [
        (header::ETAG, format!("W/{}", tag(&document))),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (HeaderName::from_static("chiron-valid-until"), document.valid_until.rfc3339()),
    ];
    for (name, value) in values {
        let value = HeaderValue::try_from(value).expect("numbers, words and dates are valid header values");
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// The first document that the client does not know, or the latest when the time is over or chiron stops.
async fn changed(
    known: &Known,
    mut documents: Documents,
    ending: &CancellationToken,
    wait: Duration,
) -> Arc<PolicyDocument> {
    let until = Instant::now() + wait;
    loop {
        let latest = Arc::clone(&documents.borrow_and_update());
        if !known.has(&latest) {
            return latest;
        }
        tokio::select! {
            biased;
            () = ending.cancelled() => return latest,
            changed = documents.changed() => if changed.is_err() { return latest },
            () = sleep_until(until) => return Arc::clone(&documents.borrow()),
        }
    }
}

/// Same tag, same policy; `issued_at` and `valid_until` move under it, so that it is a weak one. The level is in it
/// because two runs without a journal may count from the same number.
fn tag(document: &PolicyDocument) -> String {
    format!("\"{}-{}{}\"", document.sequence, document.policy, if document.latched { "-latched" } else { "" })
}

/// The tags that a client says it has.
struct Known(Vec<String>);

impl Known {
    fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tags = values.flat_map(|value| value.split(',')).map(str::trim);
        Self(tags.map(|tag| tag.strip_prefix("W/").unwrap_or(tag).to_owned()).collect())
    }

    fn has(&self, document: &PolicyDocument) -> bool {
        let tag = tag(document);
        self.0.iter().any(|known| known == "*" || *known == tag)
    }
}

/// `GET /api/v1/policy/stream`. `Last-Event-ID` is of no use: the first event is always the whole policy in force.
pub(in crate::http) async fn stream(
    State(shared): State<Arc<Shared>>,
    Extension(Client(peer)): Extension<Client>,
) -> Result<Response, Problem> {
    let place = shared.live.enter(peer)?;
    let now = Instant::now();
    let follower = Follower {
        documents: shared.handle.policies(),
        sent: None,
        renew_at: now,
        until: now + STREAM_MAX,
        ending: shared.live.ending.clone(),
        _place: place,
    };
    let mut response = Sse::new(stream::unfold(follower, Follower::next)).into_response();
    // A proxy that gathers an answer before it passes it on would hold the policy back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// One client of the stream.
struct Follower {
    documents: Documents,
    sent: Option<Arc<PolicyDocument>>,
    renew_at: Instant,
    until: Instant,
    ending: CancellationToken,
    _place: Share,
}

impl Follower {
    /// The next event; asked for only when the client has taken the one before.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            let latest = Arc::clone(&self.documents.borrow_and_update());
            let Some(sent) = &self.sent else {
                return Some((Ok(self.event(latest).retry(RETRY)), self));
            };
            if tag(sent) != tag(&latest) {
                return Some((Ok(self.event(latest)), self));
            }
            let now = Instant::now();
            if now >= self.until || self.ending.is_cancelled() {
                return None;
            }
            if now >= self.renew_at {
                if latest.issued_at == sent.issued_at {
                    // Nothing decides any more: the lease is left to expire. The comment finds clients that have gone.
                    self.renew_at = now + RENEW_EVERY;
                    return Some((Ok(Event::default().comment("the policy is not being renewed")), self));
                }
                return Some((Ok(self.event(latest)), self));
            }
            let wake_at = self.renew_at.min(self.until);
            tokio::select! {
                biased;
                () = self.ending.cancelled() => return None,
                changed = self.documents.changed() => if changed.is_err() { return None },
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn event(&mut self, document: Arc<PolicyDocument>) -> Event {
        let third = document.valid_until.since(document.issued_at) / 3;
        self.renew_at = Instant::now() + third.clamp(Duration::from_secs(1), RENEW_EVERY);
        let data = serde_json::to_string(&*document).expect("a policy is JSON");
        let event = Event::default().event("policy").id(document.sequence.to_string()).data(data);
        self.sent = Some(document);
        event
    }
}

/// `GET /api/v1/policy/hooks`: how far each hook has brought the policy to the bot.
pub(in crate::http) async fn hooks(State(shared): State<Arc<Shared>>) -> Response {
    Json(serde_json::json!({ "hooks": shared.handle.policy_hooks() })).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    level: String,
    reason: String,
    /// A whole number; JSON has no other way to say so than to write it as one.
    expires_in_seconds: Option<f64>,
}

/// `POST /api/v1/policy`: a person holds a level.
pub(in crate::http) async fn set(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Wish = body::json(&shared, body).await?;
    let level = Level::parse(&wish.level).ok_or_else(|| {
        let known = Level::ALL.map(Level::as_str).join(", ");
        Problem::invalid(format!("found level `{}`, expected one of {known}", short(&wish.level)))
    })?;
    let reason = checked_reason(wish.reason)?;
    let until = match wish.expires_in_seconds {
        Some(seconds) if (1.0..=EXPIRY_MAX).contains(&seconds) && seconds.fract() == 0.0 => {
            Some(shared.clock.now().plus(Duration::from_secs_f64(seconds)))
        }
        Some(seconds) => {
            let detail = format!("found expires_in_seconds {seconds}, expected a whole number from 1 to {EXPIRY_MAX}");
            return Err(Problem::invalid(detail));
        }
        None if level == Level::EmergencyShutdown => None,
        None => {
            return Err(Problem::invalid(format!(
                "found no expires_in_seconds, expected 1 to {EXPIRY_MAX}: what a person holds ends by itself; only \
                 emergency_shutdown stays until it is released"
            )));
        }
    };
    within(shared.handle.set_policy(level, reason, caller, until)).await?;
    Ok(Json(&*shared.handle.policy()).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    reason: String,
}

/// `POST /api/v1/policy/release`: ends what a person holds, and the latch.
pub(in crate::http) async fn release(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Sent,
) -> Result<Response, Problem> {
    let wish: Release = body::json(&shared, body).await?;
    let reason = checked_reason(wish.reason)?;
    within(shared.handle.release_policy(caller, reason)).await?;
    Ok(Json(&*shared.handle.policy()).into_response())
}
