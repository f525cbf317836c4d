//! Issues, open and over, latest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::http::paging::{Place, Wanted};
use crate::http::problem::Problem;
use crate::http::query::{Params, Segment, short};
use crate::http::router::Shared;
use crate::model::{Issue, Severity, Timestamp};

const LIST: &str = "issues";

/// `GET /api/v1/issues`
pub(in crate::http) async fn list(State(shared): State<Arc<Shared>>, params: Params) -> Result<Response, Problem> {
    let wanted = Wanted::of(&params, LIST)?;
    let status = params.word("status", &["open", "resolved", "all"], |word| word)?.unwrap_or("open");
    let severity = params.word("severity", &Severity::ALL, Severity::as_str)?;
    let subsystem = params.text("subsystem");
    let mut issues = Vec::new();
    if status != "resolved" {
        issues.extend(open(&shared));
    }
    if status != "open" {
        issues.extend(shared.handle.ended_issues());
    }
    issues.retain(|issue| {
        subsystem.is_none_or(|wanted| issue["subsystem"] == wanted)
            && severity.is_none_or(|wanted| issue["severity"] == wanted.as_str())
    });
    let (page, next) = wanted.cut(issues, place, LIST);
    Ok(Json(json!({ "issues": page, "next": next })).into_response())
}

/// `GET /api/v1/issues/{issue_id}`
pub(in crate::http) async fn one(State(shared): State<Arc<Shared>>, Segment(id): Segment) -> Result<Response, Problem> {
    let is_it = |issue: &Value| issue["issue_id"] == id.as_str();
    let found = open(&shared).find(is_it).or_else(|| shared.handle.ended_issues().into_iter().find(is_it));
    found.map(|issue| Json(issue).into_response()).ok_or_else(|| {
        let detail = format!("there is no issue `{}` any more; /api/v1/issues?status=all lists them", short(&id));
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    })
}

fn open(shared: &Shared) -> impl Iterator<Item = Value> {
    let issues = shared.handle.report().detected_issues.clone();
    issues.into_iter().map(|issue: Issue| {
        let mut value = serde_json::to_value(issue).unwrap_or_default();
        value["status"] = "open".into();
        value
    })
}

/// Latest first; an issue keeps its place when it is resolved.
fn place(issue: &Value) -> Place {
    let text = |key: &str| issue[key].as_str().unwrap_or_default();
    let opened = Timestamp::parse_rfc3339(text("timestamp")).unwrap_or_default();
    (-opened.millis(), text("issue_id").to_owned())
}
