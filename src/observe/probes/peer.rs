//! A connection to a server that is asked something: found, encrypted if wanted, and bounded in bytes.
//!
//! Where it sits: below the checks of databases. It reports, it never judges.
//! **Invariant:** a peer sends at most as many bytes as the caller allowed, whatever it announces; a certificate is always
//! verified; secrets and certificates are read from their files on a thread that may block.
#![expect(clippy::disallowed_methods, reason = "reads secrets and certificates on a thread that may block")]

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

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
    pub async fn config(&self) -> Result<Arc<ClientConfig>, String> {
        let Some(path) = self.ca_file.clone() else {
            if let Some(config) = self.machine.get() {
                return Ok(Arc::clone(config));
            }
            let config = off_thread(|| tls::client(None, false).map(Arc::new)).await?;
            return Ok(Arc::clone(self.machine.get_or_init(|| config)));
        };
        off_thread(move || {
            let shown = path.display();
            let (pem, _) = files::read_bounded(&path, PEM_MAX).map_err(|problem| format!("`{shown}`: {problem}"))?;
            tls::client(Some(&pem), false).map(Arc::new).map_err(|why| format!("`{shown}`: {why}"))
        })
        .await
    }
}

/// The secret in a file, if one is named.
pub async fn secret(path: Option<&Path>) -> Result<Option<Secret>, String> {
    let Some(path) = path.map(Path::to_owned) else { return Ok(None) };
    off_thread(move || Secret::from_file(&path)).await.map(Some)
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
}

/// What a server said, on one line of bounded length, without secrets that are known.
pub fn line(said: &str) -> String {
    let clean = redact::text(said);
    let mut chars = clean.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(SHOWN_MAX).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
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
