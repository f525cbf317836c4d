//! A connection that cannot be held without using it: it must begin to speak in time and take its answers in time.
//!
//! The HTTP library's own limit on reading headers starts only once it knows the version that is spoken, which a client
//! can put off for ever by sending nothing or a part of HTTP/2's preface.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::crowd::Asking;

/// How long a client may take until it is clear which version of HTTP it speaks.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may be stuck because the client reads none of it.
const STUCK_TIMEOUT: Duration = Duration::from_secs(30);

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream under both limits.
pub(super) struct Guarded<S> {
    stream: S,
    /// Armed until the version is clear.
    hello: Option<Pin<Box<Sleep>>>,
    /// How much of the preface has come so far.
    matched: usize,
    /// Armed while a write is stuck.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, hello: Some(Box::pin(sleep(HELLO_TIMEOUT))), matched: 0, stuck: None }
    }

    /// Ends a write: disarms the limit after progress, arms or asks it while there is none.
    fn written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.stuck = None;
            return result;
        }
        let limit = self.stuck.get_or_insert_with(|| Box::pin(sleep(STUCK_TIMEOUT)));
        match limit.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(hello) = &mut this.hello else { return result };
        match &result {
            Poll::Ready(_) => {
                let new = &buf.filled()[before..];
                let rest = &PREFACE[this.matched..];
                this.matched += new.len().min(rest.len());
                if this.matched == PREFACE.len() || !rest.starts_with(new) {
                    this.hello = None;
                }
                result
            }
            Poll::Pending if hello.deadline() <= Instant::now() || hello.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// The body of an answer, whose request is under way as long as it is there.
pub(super) struct Answer {
    pub(super) body: axum::body::Body,
    pub(super) _asking: Asking,
}

impl HttpBody for Answer {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
