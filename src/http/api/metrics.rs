//! The metrics page, below the path that the settings choose.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use crate::http::handle::PageFormat;
use crate::http::router::Shared;

/// `GET /metrics`
pub(in crate::http) async fn page(State(shared): State<Arc<Shared>>) -> Response {
    let page = shared.pages.fill(|out| shared.handle.metrics_page(PageFormat::Text, out));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], page).into_response()
}
