//! Which path is answered by what: one table, from which the router is built and against which the OpenAPI document is
//! held.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, MethodRouter, get, on};

use crate::base::clock::Clock;

use super::api::{
    actions, alerts, bindings, failure_points, gate, health, history, issues, maintenance, openapi, policy, push,
    recommendations, subsystems, workspace,
};
use super::body::Bodies;
use super::door::AccessControl;
use super::guard::guard;
use super::handle::{Handle, Refusal};
use super::identify::{Ids, identify};
use super::live::Live;
use super::metrics::{self, Pages};
use super::need::WEBHOOK;
use super::problem::Problem;
use super::query::Params;
use super::webhook::ParseNotification;
use super::{control, page, webhook};

/// How long a changing request may take before it is answered with 503; forced checks need the most.
const HANDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    /// As axum and OpenAPI write it, parameters in braces.
    pub(super) path: &'static str,
    /// The query parameters it knows; others are refused. `None` looks at no query at all.
    pub(super) parameters: Option<&'static [&'static str]>,
    answer: fn(MethodFilter) -> MethodRouter<Arc<Shared>>,
}

const fn route(
    method: Method,
    path: &'static str,
    parameters: Option<&'static [&'static str]>,
    answer: fn(MethodFilter) -> MethodRouter<Arc<Shared>>,
) -> Route {
    Route { method, path, parameters, answer }
}

const GET: Method = Method::GET;
const POST: Method = Method::POST;
const PUT: Method = Method::PUT;
const DELETE: Method = Method::DELETE;
const PAGED: Option<&[&str]> = Some(&["limit", "cursor"]);
const NUMBERED: Option<&[&str]> = Some(&["after", "limit"]);
const NONE: Option<&[&str]> = Some(&[]);
const ISSUES: Option<&[&str]> = Some(&["status", "subsystem", "severity", "limit", "cursor"]);
const ACTIONS: Option<&[&str]> = Some(&["issue", "subsystem", "action", "outcome", "state", "limit", "cursor"]);

/// Every route but the metrics page, whose path the settings choose. GET answers HEAD too.
pub(super) const ROUTES: &[Route] = &[
    route(GET, "/", None, |m| on(m, page::landing)),
    route(GET, "/-/healthy", None, |m| on(m, health::healthy)),
    route(GET, "/-/ready", None, |m| on(m, health::ready)),
    route(POST, "/-/reload", None, |m| on(m, control::reload)),
    route(PUT, "/-/reload", None, |m| on(m, control::reload)),
    route(GET, "/health", None, |m| on(m, health::health)),
    route(GET, "/health/system", None, |m| on(m, health::health)),
    route(POST, "/health/force-check", None, |m| on(m, control::force_check)),
    route(GET, "/status", None, |m| on(m, health::report)),
    route(GET, "/alerts", None, |m| on(m, alerts::active)),
    route(POST, "/system/restart", None, |m| on(m, control::restart)),
    route(POST, WEBHOOK, None, |m| on(m, webhook::receive)),
    route(GET, "/api/v1/report", NONE, |m| on(m, health::report)),
    route(GET, "/api/v1/subsystems", PAGED, |m| on(m, subsystems::list)),
    route(GET, "/api/v1/subsystems/{name}", NONE, |m| on(m, subsystems::one)),
    route(GET, "/api/v1/failure-points", NONE, |m| on(m, failure_points::list)),
    route(GET, "/api/v1/failure-points/{category}", NONE, |m| on(m, failure_points::one)),
    route(GET, "/api/v1/issues", ISSUES, |m| on(m, issues::list)),
    route(GET, "/api/v1/issues/{issue_id}", NONE, |m| on(m, issues::one)),
    route(GET, "/api/v1/recommendations", PAGED, |m| on(m, recommendations::list)),
    route(POST, "/api/v1/recommendations/{recommendation_id}/approve", NONE, |m| on(m, recommendations::approve)),
    route(POST, "/api/v1/recommendations/{recommendation_id}/reject", NONE, |m| on(m, recommendations::reject)),
    route(GET, "/api/v1/actions", ACTIONS, |m| on(m, actions::list)),
    route(GET, "/api/v1/actions/{id}", NONE, |m| on(m, actions::one)),
    route(GET, "/api/v1/bindings", PAGED, |m| on(m, bindings::list)),
    route(GET, "/api/v1/alerts", NONE, |m| on(m, alerts::active)),
    route(GET, "/api/v1/policy", Some(&["wait"]), |m| on(m, policy::current)),
    route(POST, "/api/v1/policy", NONE, |m| on(m, policy::set)),
    route(GET, "/api/v1/policy/stream", NONE, |m| on(m, policy::stream)),
    route(GET, "/api/v1/policy/hooks", NONE, |m| on(m, policy::hooks)),
    route(POST, "/api/v1/policy/release", NONE, |m| on(m, policy::release)),
    route(GET, "/api/v1/maintenance", NONE, |m| on(m, maintenance::list)),
    route(POST, "/api/v1/maintenance", NONE, |m| on(m, maintenance::announce)),
    route(DELETE, "/api/v1/maintenance/{id}", Some(&["reason"]), |m| on(m, maintenance::end)),
    route(GET, "/api/v1/workspace", NONE, |m| on(m, workspace::now)),
    route(POST, "/api/v1/workspace/heal", NONE, |m| on(m, workspace::heal)),
    route(GET, "/api/v1/workspace/healings", PAGED, |m| on(m, workspace::list)),
    route(GET, "/api/v1/workspace/healings/{id}", NONE, |m| on(m, workspace::one)),
    route(POST, "/api/v1/workspace/healings/{id}/rollback", NONE, |m| on(m, workspace::undo)),
    route(GET, "/api/v1/gate/{intent}", Some(&["symbol", "leverage"]), |m| on(m, gate::ask)),
    route(GET, "/api/v1/vitals", NONE, |m| on(m, push::told)),
    route(POST, "/api/v1/vitals", NONE, |m| on(m, push::vitals)),
    route(POST, "/api/v1/heartbeats/{name}", NONE, |m| on(m, push::heartbeat)),
    route(GET, "/api/v1/journal", NUMBERED, |m| on(m, history::journal)),
    route(GET, "/api/v1/audit", NUMBERED, |m| on(m, history::audit)),
    route(GET, "/api/v1/config", NONE, |m| on(m, history::config)),
    route(POST, "/api/v1/drills", NONE, |m| on(m, control::drill)),
    route(GET, "/api/v1/openapi.json", NONE, |m| on(m, openapi::document)),
];

/// Fixed paths, which the telemetry path must not take.
pub(super) const PATHS: [&str; ROUTES.len()] = {
    let mut paths = [""; ROUTES.len()];
    let mut index = 0;
    while index < paths.len() {
        paths[index] = ROUTES[index].path;
        index += 1;
    }
    paths
};

/// What every request handler may use.
pub(super) struct Shared {
    pub(super) handle: Arc<dyn Handle>,
    pub(super) clock: Clock,
    /// Time since boot as the server was made.
    pub(super) started: Duration,
    pub(super) parse: ParseNotification,
    pub(super) access: AccessControl,
    pub(super) pages: Pages,
    pub(super) body_max: usize,
    pub(super) bodies: Bodies,
    pub(super) telemetry_path: String,
    /// Codes of refused notifications that have been told of once.
    pub(super) told: Mutex<HashSet<&'static str>>,
    /// Names for requests.
    pub(super) ids: Ids,
    /// Requests that last: long polls and streams.
    pub(super) live: Live,
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
    let mut router = Router::new().route(&shared.telemetry_path, get(metrics::metrics));
    for route in ROUTES {
        let filter = MethodFilter::try_from(route.method.clone()).expect("the table holds ordinary methods");
        let mut answer = (route.answer)(filter);
        if let Some(known) = route.parameters {
            answer = answer.route_layer(from_fn(move |request: Request, next: Next| async move {
                match Params::of(request.uri()).only(known) {
                    Ok(()) => next.run(request).await,
                    Err(problem) => problem.into_response(),
                }
            }));
        }
        router = router.route(route.path, answer);
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&shared), guard))
        .layer(from_fn_with_state(Arc::clone(&shared), identify))
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
