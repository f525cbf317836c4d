//! The document that describes this API, OpenAPI 3.1. It is kept by hand beside the table of routes; tests hold one
//! against the other, and the answers of the program against the document.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

/// The document.
pub(in crate::http) const DOCUMENT: &str = include_str!("../openapi.json");

/// `GET /api/v1/openapi.json`
pub(in crate::http) async fn document() -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT).into_response()
}
