//! A connection to a server that is asked something: found, encrypted if wanted, and bounded in bytes.
//!
//! Where it sits: below the checks of databases. It reports, it never judges.
//! **Invariant:** a peer sends at most as many bytes as the caller allowed, whatever it announces; a certificate is always
//! verified; secrets and certificates are read from their files on a thread that may block, one file of a check at a time.
#![expect(clippy::disallowed_methods, reason = "reads secrets and certificates on a thread that may block")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::base::secret::Secret;
use crate::base::{files, redact, tls};

/// The largest file with certificates, in bytes.
const PEM_MAX: u64 = 1024 * 1024;
/// What a server says is shown up to this many characters.
const SHOWN_MAX: usize = 200;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A name or address, and a port.
    Tcp {
        /// Without brackets, also if it is an IPv6 address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection from which at most so many bytes are read.
pub struct Bounded {
    inner: Box<dyn Duplex>,
    left: usize,
    allowed: usize,
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bounded").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Bounded {
    /// Bounds a connection.
    pub fn new(inner: impl Duplex + 'static, bytes_max: usize) -> Self {
        Self { inner: Box::new(inner), left: bytes_max, allowed: bytes_max }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let text = format!("sent more than {} bytes, expected less", self.allowed);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        let room = self.left.min(out.remaining());
        let (inner, mut part) = (&mut self.inner, ReadBuf::new(out.initialize_unfilled_to(room)));
        ready!(Pin::new(inner).poll_read(context, &mut part))?;
        let read = part.filled().len();
        out.advance(read);
        self.left -= read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
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

impl Address {
    /// Connects. Dropping the connection closes it.
    pub async fn connect(&self, bytes_max: usize) -> io::Result<Bounded> {
        match self {
            Self::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                // The exchange is a few small messages, each of which is waited for.
                stream.set_nodelay(true)?;
                Ok(Bounded::new(stream, bytes_max))
            }
            Self::Unix(path) => Ok(Bounded::new(UnixStream::connect(path).await?, bytes_max)),
        }
    }

    /// The name that a certificate must be for.
    pub fn server_name(&self) -> Result<ServerName<'static>, String> {
        match self {
            Self::Tcp { host, .. } => ServerName::try_from(host.clone())
                .map_err(|_| format!("{self}: `{host}` is no name that a certificate can be for")),
            Self::Unix(_) => Err(format!("{self}: a socket has no name that a certificate can be for")),
        }
    }

    /// Whether what is sent stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
            Self::Unix(_) => true,
        }
    }
}

/// Whom TLS trusts.
#[derive(Debug, Default)]
pub struct Trust {
    /// Only what these certificates (PEM) vouch for; the machine's authorities if not given.
    ca_file: Option<PathBuf>,
    /// What the machine's authorities make, which takes a while to read.
    machine: OnceLock<Arc<ClientConfig>>,
}

impl Trust {
    /// Trusts what the file vouches for, or the machine's authorities.
    pub fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, machine: OnceLock::new() }
    }

    /// Settings of TLS. The file is read anew each time, so that an exchanged authority counts at once.
    pub async fn config(&self, desk: &Desk, until: Instant) -> Result<Arc<ClientConfig>, String> {
        let Some(path) = self.ca_file.clone() else {
            if let Some(config) = self.machine.get() {
                return Ok(Arc::clone(config));
            }
            let authorities = "the machine's authorities".to_owned();
            let config = desk.read(authorities, until, || tls::client(None, false).map(Arc::new)).await?;
            return Ok(Arc::clone(self.machine.get_or_init(|| config)));
        };
        let shown = format!("`{}`", path.display());
        let told = shown.clone();
        let read = move || {
            let (pem, _) = files::read_bounded(&path, PEM_MAX).map_err(|problem| format!("{told}: {problem}"))?;
            tls::client(Some(&pem), false).map(Arc::new).map_err(|why| format!("{told}: {why}"))
        };
        desk.read(shown, until, read).await
    }
}

/// Where the files of one check are read, one at a time: a disk that hangs keeps one thread and no more.
#[derive(Clone, Debug)]
pub struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Desk {
    /// The secret in a file, if one is named.
    pub async fn secret(&self, path: Option<&Path>, until: Instant) -> Result<Option<Secret>, String> {
        let Some(path) = path.map(Path::to_owned) else { return Ok(None) };
        let shown = format!("`{}`", path.display());
        self.read(shown, until, move || Secret::from_file(&path)).await.map(Some)
    }

    /// Does `work` on a thread that may block, once what was begun before has ended.
    async fn read<T, F>(&self, what: String, until: Instant, work: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T, String> + Send + 'static,
    {
        let seat = Arc::clone(&self.0);
        let read = async {
            let seat = seat.acquire_owned().await.map_err(|error| error.to_string())?;
            let done = tokio::task::spawn_blocking(move || {
                let read = work();
                drop(seat);
                read
            });
            done.await.unwrap_or_else(|error| Err(error.to_string()))
        };
        let late = || Err(format!("{what} could not be read in time: does its disk answer?"));
        timeout_at(until, read).await.unwrap_or_else(|_| late())
    }
}

/// Since when a server has not been ready, as time since boot.
#[derive(Debug, Default)]
pub struct Unready(Mutex<Option<Duration>>);

impl Unready {
    /// How long it has not been ready by `now`. `is_ready` is `None` if that is not known: then what was known stays.
    pub fn lasts(&self, is_ready: Option<bool>, now: Duration) -> Duration {
        let mut since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match is_ready {
            Some(true) => *since = None,
            Some(false) => *since = since.or(Some(now)),
            None => {}
        }
        since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }
}

/// What a server said, on one line of bounded length, without secrets that are known.
pub fn line(said: &str) -> String {
    redact::line(said, SHOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// OBS-7: whatever a peer sends, only so much of it is read.
    #[tokio::test]
    async fn endless_data_ends_at_the_bound() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut bounded = Bounded::new(ours, 5000);
        let flood = async { while theirs.write_all(&[b'x'; 512]).await.is_ok() {} };
        let read = async {
            let mut all = Vec::new();
            let error = bounded.read_to_end(&mut all).await.unwrap_err();
            drop(bounded);
            (all.len(), error.to_string())
        };
        let ((), (read, error)) = tokio::join!(flood, read);
        assert_eq!((read, error.as_str()), (5000, "sent more than 5000 bytes, expected less"));
    }

    /// OBS-5: a file on a disk that hangs costs the deadline, and one thread, however often it is asked for.
    #[tokio::test]
    async fn a_disk_that_hangs_keeps_one_thread() {
        let desk = Desk::default();
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (release, hang) = std::sync::mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let ask = |limit: u64| {
            let (begun, hang) = (Arc::clone(&begun), Arc::clone(&hang));
            let work = move || {
                begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                hang.lock().unwrap().recv().map_err(|error| error.to_string())
            };
            desk.read("`/net/secret`".to_owned(), Instant::now() + Duration::from_millis(limit), work)
        };
        for _ in 0..3 {
            let error = ask(50).await.unwrap_err();
            assert_eq!(error, "`/net/secret` could not be read in time: does its disk answer?");
        }
        assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 1);
        release.send(()).unwrap();
        release.send(()).unwrap();
        assert_eq!(ask(20_000).await, Ok(()), "once the disk answers, so does the desk");
    }

    /// OBS-7: what is not known changes nothing; only a ready server begins anew.
    #[test]
    fn how_long_a_server_is_not_ready() {
        let unready = Unready::default();
        for (is_ready, at, expected) in [
            (None, 5, 0),
            (Some(false), 10, 0),
            (Some(false), 40, 30),
            (None, 50, 40),
            (Some(false), 70, 60),
            (Some(true), 80, 0),
            (Some(false), 90, 0),
        ] {
            assert_eq!(unready.lasts(is_ready, Duration::from_secs(at)), Duration::from_secs(expected), "{at}");
        }
    }

    #[test]
    fn what_is_said_is_one_short_line() {
        assert_eq!(line(" a\nb\u{0}c "), "a b c");
        assert_eq!(line(&"x".repeat(500)).len(), SHOWN_MAX + 3);
    }

    #[test]
    fn addresses_show_themselves() {
        let tcp = |host: &str| Address::Tcp { host: host.to_owned(), port: 1 };
        assert_eq!(tcp("::1").to_string(), "[::1]:1");
        assert_eq!(tcp("db.example").to_string(), "db.example:1");
        assert!(tcp("::1").is_local() && tcp("localhost").is_local() && !tcp("db.example").is_local());
        assert!(tcp("db.example").server_name().is_ok() && Address::Unix("/run/x".into()).server_name().is_err());
    }
}
