//! Which path is answered by what.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::base::clock::Clock;

use super::door::AccessControl;
use super::guard::guard;
use super::handle::{Handle, Refusal};
use super::need::WEBHOOK;
use super::pool::Pool;
use super::problem::Problem;
use super::webhook::ParseNotification;
use super::{api, control, page, push, webhook};

/// How long a changing request may take before it is answered with 503; forced checks need the most.
const HANDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Fixed paths, which the telemetry path must not take.
pub(super) const PATHS: [&str; 19] = [
    "/",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "/health",
    "/health/system",
    "/health/force-check",
    "/status",
    "/alerts",
    WEBHOOK,
    "/api/v1/policy",
    "/api/v1/policy/release",
    "/api/v1/report",
    "/api/v1/issues",
    "/api/v1/recommendations",
    "/api/v1/actions",
    "/api/v1/journal",
    "/api/v1/vitals",
    "/system/restart",
];

/// What every request handler may use.
pub(super) struct Shared {
    pub(super) handle: Arc<dyn Handle>,
    pub(super) clock: Clock,
    pub(super) parse: ParseNotification,
    pub(super) access: AccessControl,
    pub(super) pages: Pool,
    pub(super) body_max: usize,
    pub(super) bodies: Semaphore,
    pub(super) telemetry_path: String,
    /// Codes of refused notifications that have been told of once.
    pub(super) told: Mutex<HashSet<&'static str>>,
}

impl Shared {
    /// Counts a notification that was refused, and logs the first of its kind: Alertmanager repeats itself.
    pub(super) fn refuse(&self, problem: &Problem) {
        self.handle.refused(problem.code);
        let first = self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(problem.code);
        let (code, detail) = (problem.code, &problem.detail);
        if first {
            tracing::warn!(code, detail, "refused a notification; more of this kind are counted, not logged");
        } else {
            tracing::debug!(code, detail, "refused a notification");
        }
    }
}

/// Every route behind the guard.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::landing))
        .route(&shared.telemetry_path, get(api::metrics))
        .route("/-/healthy", get(api::healthy))
        .route("/-/ready", get(api::ready))
        .route("/-/reload", post(control::reload).put(control::reload))
        .route("/health", get(api::health))
        .route("/health/system", get(api::health))
        .route("/health/force-check", post(control::force_check))
        .route("/status", get(api::report))
        .route("/alerts", get(api::alerts))
        .route(WEBHOOK, post(webhook::receive))
        .route("/api/v1/policy", get(api::policy).post(control::set_policy))
        .route("/api/v1/policy/release", post(control::release_policy))
        .route("/api/v1/gate/{intent}", get(api::ask_gate))
        .route("/api/v1/report", get(api::report))
        .route("/api/v1/issues", get(api::issues))
        .route("/api/v1/recommendations", get(api::recommendations))
        .route("/api/v1/actions", get(api::actions))
        .route("/api/v1/journal", get(api::journal))
        .route("/api/v1/vitals", get(push::vitals).post(push::push))
        .route("/api/v1/heartbeats/{name}", post(push::heartbeat))
        .route("/system/restart", post(push::restart))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .with_state(shared)
}

async fn not_found(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(100).collect();
    Problem::new(StatusCode::NOT_FOUND, "unknown_path", format!("there is nothing at `{path}`; `/` links to what is"))
}

async fn method_not_allowed(request: Request) -> Problem {
    let method: String = request.method().as_str().chars().take(20).collect();
    let detail = format!("`{method}` is not answered here; the Allow header names what is");
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// Waits for the rest of chiron, but not for ever.
pub(super) async fn within<T>(asked: impl Future<Output = Result<T, Refusal>>) -> Result<T, Problem> {
    match tokio::time::timeout(HANDLE_TIMEOUT, asked).await {
        Ok(result) => result.map_err(Problem::from),
        Err(_) => Err(Problem::unavailable(format!("no answer within {} s", HANDLE_TIMEOUT.as_secs()))),
    }
}
