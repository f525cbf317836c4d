//! `GET /metrics`: the page in the format and coding that the scraper takes (EXP-2).
//!
//! **Invariant:** what may take long, a large page or one that waits for files, is made off the async threads, and only
//! a few of those at once.
#![expect(clippy::disallowed_methods, reason = "a page is made on a blocking thread, and its request waits for it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::accept;
use super::handle::{Handle, PageFormat};
use super::pool::Pool;
use super::problem::Problem;
use super::router::Shared;

/// A page of so many bytes takes about half a millisecond to write.
const WRITE_INLINE_MAX: usize = 512 << 10;

/// And one of so many bytes as long to write and to compress.
const GZIP_INLINE_MAX: usize = 128 << 10;

/// Large pages made at once; a further scrape waits for one of them.
const LARGE_MAX: usize = 4;

/// What scrapes share.
pub(super) struct Pages {
    pool: Pool,
    /// How large the latest page was, from which the next is judged.
    size: AtomicUsize,
    large: Arc<Semaphore>,
}

impl Default for Pages {
    fn default() -> Self {
        Self { pool: Pool::default(), size: AtomicUsize::new(0), large: Arc::new(Semaphore::new(LARGE_MAX)) }
    }
}

/// `GET /metrics`
pub(super) async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Result<Response, Problem> {
    let (format, gzip) = (accept::format(&headers), accept::gzip(&headers));
    let most = if gzip { GZIP_INLINE_MAX } else { WRITE_INLINE_MAX };
    let body = if shared.pages.size.load(Relaxed) <= most && !shared.handle.metrics_page_waits() {
        shared.pages.make(&*shared.handle, format, gzip)
    } else {
        let permit = Arc::clone(&shared.pages.large).acquire_owned().await.expect("the semaphore is never closed");
        let made = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            shared.pages.make(&*shared.handle, format, gzip)
        });
        made.await.map_err(|_| Problem::unavailable("the page could not be made; the log says more"))?
    };
    let fixed = [
        (header::CONTENT_TYPE, HeaderValue::from_static(accept::content_type(format))),
        (header::VARY, HeaderValue::from_static("Accept, Accept-Encoding")),
    ];
    let mut response = (fixed, body).into_response();
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

impl Pages {
    fn make(&self, handle: &dyn Handle, format: PageFormat, gzip: bool) -> Bytes {
        let page = self.pool.fill(|out| handle.metrics_page(format, out));
        self.size.store(page.len(), Relaxed);
        if gzip { self.pool.gzip(&page) } else { page }
    }
}
