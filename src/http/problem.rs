//! Every refusal as `application/problem+json` (RFC 9457), with a stable code.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::handle::Refusal;

/// A refusal on its way to the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    /// Stable, snake_case, from a fixed set.
    pub(super) code: &'static str,
    /// What was found, what was expected, what to do.
    pub(super) detail: String,
    header: Option<(HeaderName, HeaderValue)>,
    /// Too much is asked at once, which anybody can bring about: not worth a line of the log each.
    pub(super) quiet: bool,
}

impl Problem {
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), header: None, quiet: false }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// 503, to be asked again: also Alertmanager retries on it (never on a 4xx).
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    }

    /// The same because too much is asked at once.
    pub(super) fn overloaded(detail: impl Into<String>) -> Self {
        Self { quiet: true, ..Self::unavailable(detail) }
    }

    /// The same under a code of its own.
    pub(super) fn coded(self, code: &'static str) -> Self {
        Self { code, ..self }
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unavailable(detail) => Self::unavailable(detail),
            Refusal::Invalid(detail) => Self::invalid(detail),
            Refusal::NotFound(detail) => Self::new(StatusCode::NOT_FOUND, "not_found", detail),
            Refusal::Forbidden(detail) => Self::new(StatusCode::FORBIDDEN, "forbidden", detail),
            Refusal::Conflict(detail) => Self::new(StatusCode::CONFLICT, "conflict", detail),
            Refusal::Changed(detail) => Self::new(StatusCode::CONFLICT, "changed_since", detail),
        }
    }
}

impl Problem {
    /// The body; `instance` names the request, once that is known.
    pub(super) fn body(&self, request_id: Option<&str>) -> String {
        let mut body = json!({
            "type": format!("urn:chiron:problem:{}", self.code),
            "title": self.status.canonical_reason().unwrap_or("refused"),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if let Some(id) = request_id {
            body["instance"] = format!("urn:chiron:request:{id}").into();
        }
        body.to_string()
    }
}

impl IntoResponse for Problem {
    /// The problem itself goes along, for the body that names the request and for the log.
    fn into_response(self) -> Response {
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let mut response = (self.status, [content_type], self.body(None)).into_response();
        if let Some((name, value)) = self.header.clone() {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}
