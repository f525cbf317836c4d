//! A name for every request: in the answer's `X-Request-Id`, in every refusal as `instance`, and in the log.
//!
//! **Invariant:** outermost; every answer passes here, also the one of a handler that panicked.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use super::problem::Problem;
use super::router::Shared;

/// The header, both ways.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken from a request.
const ID_MAX: usize = 64;

/// Names requests that bring no name.
pub(super) struct Ids {
    /// Differs from process to process.
    prefix: u64,
    next: AtomicU64,
}

impl Default for Ids {
    fn default() -> Self {
        Self { prefix: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }
}

impl Ids {
    /// What the request calls itself, if that is sane, else a new name.
    fn of(&self, headers: &HeaderMap) -> String {
        let mut given = headers.get_all(HEADER).iter();
        match (given.next().and_then(|id| id.to_str().ok()).filter(|id| is_sane(id)), given.next()) {
            (Some(id), None) => id.to_owned(),
            _ => format!("{:016x}-{}", self.prefix, self.next.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

fn is_sane(id: &str) -> bool {
    (1..=ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Names the request, and the answer after it.
pub(super) async fn identify(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let id = shared.ids.of(request.headers());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        let detail = "the request met a fault of chiron's own; its log tells more under the request's id";
        let mut response = Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response();
        // The guard, which sets these on every other answer, has gone with the handler.
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    });
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = problem.body(Some(&id)).into();
        if problem.status.is_server_error() {
            tell(&problem, &id, method.as_str(), uri.path());
        }
    }
    let value = HeaderValue::try_from(id).expect("ids are letters, digits, `-`, `_` and `.`");
    response.headers_mut().insert(HEADER, value);
    response
}

/// Whether anybody can bring this about as often as they like, so that a line each would fill the log.
fn is_quiet(problem: &Problem) -> bool {
    problem.quiet || matches!(problem.code, "rate_limited" | "too_slow" | "unreadable")
}

/// The log of a refusal that is not the client's fault. What asks again and again is told of quietly: the state behind
/// it is logged where it arises.
fn tell(problem: &Problem, request_id: &str, method: &str, path: &str) {
    let Problem { status, code, detail, .. } = problem;
    let (status, path): (_, String) = (status.as_u16(), path.chars().take(100).collect());
    match (*code, status) {
        _ if is_quiet(problem) => tracing::debug!(request_id, method, path, status, code, detail, "too much at once"),
        ("not_ready", _) => tracing::debug!(request_id, method, path, status, code, detail, "not ready"),
        (_, 500) => tracing::error!(request_id, method, path, status, code, detail, "a request failed"),
        _ => tracing::info!(request_id, method, path, status, code, detail, "a request was put off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-2: what a client brings about by asking too much is no line of the log; our own trouble is one.
    #[test]
    fn overload_is_told_of_quietly() {
        let limited = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "rate_limited", "x");
        let slow = Problem::unavailable("x").coded("too_slow");
        let waiters = Problem::overloaded("x").coded("too_many_waiters");
        for problem in [limited, slow, waiters, Problem::overloaded("x")] {
            assert!(is_quiet(&problem), "{problem:?}");
        }
        assert!(!is_quiet(&Problem::unavailable("the journal cannot be written")));
    }

    #[test]
    fn a_sane_id_is_kept_and_another_replaced() {
        let ids = Ids::default();
        let of = |given: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for id in given {
                headers.append(HEADER, HeaderValue::from_static(id));
            }
            ids.of(&headers)
        };
        assert_eq!(of(&["Ab-1_2.x"]), "Ab-1_2.x");
        let long = "x".repeat(65).leak();
        for given in [&[][..], &[""], &["a b"], &["a\"b"], &["a/b"], &["a", "b"], &[long]] {
            let id = of(given);
            assert!(is_sane(&id) && !given.contains(&id.as_str()), "{given:?}: {id}");
        }
        assert_ne!(of(&[]), of(&[]));
    }
}
