//! The bytes below a WebSocket connection, taken no faster than is useful.
//!
//! **Invariant:** however fast the other side sends, in whatever pieces, no more than [`SHARE`] is taken per [`SPAN`]: the
//! rest waits in its own buffers, so that a flood costs a part of one core and no memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes taken per [`SPAN`]: 10 MiB/s, many times what the busiest feeds of exchanges send.
const SHARE: usize = 1024 * 1024;
/// See [`SHARE`].
const SPAN: Duration = Duration::from_millis(100);

/// Plain or TLS.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytes for S {}

/// A stream that is read slowly enough.
pub(super) struct Slowed<S> {
    inner: S,
    taken: usize,
    until: Instant,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<S> Slowed<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, taken: 0, until: Instant::now() + SPAN, pause: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Slowed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let now = Instant::now();
        if now >= self.until {
            (self.taken, self.until) = (0, now + SPAN);
        }
        self.taken += buffer.filled().len() - before;
        if self.taken >= SHARE {
            self.pause = Some(Box::pin(sleep_until(self.until)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Slowed<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// EXC-1: a flood is taken at the rate that is useful, and no faster.
    #[tokio::test(start_paused = true)]
    async fn a_flood_waits() {
        let begun = Instant::now();
        let mut slowed = Slowed::new(tokio::io::repeat(7));
        let mut buffer = vec![0; 128 * 1024];
        for _ in 0..80 {
            slowed.read_exact(&mut buffer).await.unwrap();
        }
        let took = begun.elapsed();
        assert!((Duration::from_millis(850)..Duration::from_millis(1_100)).contains(&took), "{took:?} for 10 MiB");
    }
}
