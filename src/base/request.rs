//! One request over one connection of its own: sent once or not at all, and whether it was sent is known.
//!
//! What it answers: whether an effect that a request asks for may have happened. A pool of connections would send again
//! what met a connection just closed; here there is no pool, no second try, no redirect and no proxy of the environment.
//!
//! **Invariant:** [`Fault::NotSent`] means that not one byte of the request has left; time and bytes are bounded.
#![expect(clippy::disallowed_methods, reason = "reads certificates on a thread that may block")]

use std::error::Error;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use reqwest::{Client, Request, Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use tower::{Layer, Service};

use super::{files, http};

/// The largest file with certificates or a key, in bytes.
const PEM_MAX: u64 = 1024 * 1024;

/// How a peer is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// A Unix socket instead of the address in the URL.
    pub socket: Option<PathBuf>,
    /// Only what these certificates (PEM) vouch for is trusted; the machine's authorities if not given.
    pub ca_file: Option<PathBuf>,
    /// chiron's own certificate and its key, both PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Any certificate is believed.
    pub insecure_skip_verify: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was sent: no certificate, no address, no connection, no TLS. The sentence says which.
    NotSent(String),
    /// It was sent, or may have been; no answer came in time.
    Silent,
    /// It was sent, or may have been; the connection broke before an answer.
    Broken(String),
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is here.
    Whole,
    /// There was more than the bound; the rest was not read.
    Cut,
    /// The connection broke in the middle.
    Torn(String),
    /// The time was over in the middle.
    Late,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The status.
    pub status: StatusCode,
    /// The beginning of the body.
    pub body: Vec<u8>,
    /// How it ended.
    pub end: End,
}

/// Sends what `request` makes of a client and reads at most `bytes_max` of the answer's body, all until `until`.
pub async fn send(
    reach: &Reach,
    request: impl FnOnce(&Client) -> reqwest::Result<Request>,
    until: Instant,
    bytes_max: usize,
) -> Result<Heard, Fault> {
    let watch = Watch::new(false);
    let connected = Arc::clone(&watch.connected);
    let begun = async {
        let client = client(reach, watch).await.map_err(Fault::NotSent)?;
        let request = request(&client).map_err(|error| Fault::NotSent(told(error)))?;
        let response = client.execute(request).await;
        response.map_err(|error| {
            let sent = connected.load(Ordering::SeqCst);
            if sent { Fault::Broken(told(error)) } else { Fault::NotSent(told(error)) }
        })
    };
    match timeout_at(until, begun).await {
        Ok(Ok(response)) => Ok(read(response, until, bytes_max).await),
        Ok(Err(fault)) => Err(fault),
        Err(_) if connected.load(Ordering::SeqCst) => Err(Fault::Silent),
        Err(_) => Err(Fault::NotSent("no connection in time".to_owned())),
    }
}

/// Connects as [`send`] would, TLS included, and sends nothing.
pub async fn connect(reach: &Reach, url: &str, until: Instant) -> Result<(), String> {
    let tried = async {
        let client = client(reach, Watch::new(true)).await?;
        match client.get(url).send().await {
            Err(error) if is_reached(&error) => Ok(()),
            Err(error) => Err(told(error)),
            Ok(_) => Err("the connection was used, though nothing was to be sent".to_owned()),
        }
    };
    timeout_at(until, tried).await.unwrap_or_else(|_| Err("no connection in time".to_owned()))
}

async fn read(mut response: Response, until: Instant, bytes_max: usize) -> Heard {
    let status = response.status();
    let mut body = Vec::new();
    let end = loop {
        match timeout_at(until, response.chunk()).await {
            Err(_) => break End::Late,
            Ok(Err(error)) => break End::Torn(told(error)),
            Ok(Ok(None)) => break End::Whole,
            Ok(Ok(Some(chunk))) => {
                let room = bytes_max - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    break End::Cut;
                }
            }
        }
    };
    Heard { status, body, end }
}

/// The innermost cause, which is the telling one, without the URL, which may hold a secret.
fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// A client for one request. The files are read anew each time, so that an exchanged certificate counts at once.
async fn client(reach: &Reach, watch: Watch) -> Result<Client, String> {
    let reach = reach.clone();
    let built = tokio::task::spawn_blocking(move || build(&reach, watch)).await;
    built.unwrap_or_else(|error| Err(error.to_string()))
}

fn build(reach: &Reach, watch: Watch) -> Result<Client, String> {
    http::install_tls();
    let files =
        (reach.ca_file.as_deref().map(certificates).transpose()?, reach.identity.as_ref().map(own).transpose()?);
    let (authorities, identity) = files;
    let builder = || {
        let mut builder = http::builder()
            .retry(reqwest::retry::never())
            .http1_only()
            .pool_max_idle_per_host(0)
            .connector_layer(watch.clone())
            .tls_danger_accept_invalid_certs(reach.insecure_skip_verify);
        if let Some(socket) = &reach.socket {
            builder = builder.unix_socket(socket.as_path());
        }
        if let Some(identity) = &identity {
            builder = builder.identity(identity.clone());
        }
        builder
    };
    let told = |error: reqwest::Error| http::told(&error);
    match authorities {
        Some(authorities) => builder().tls_certs_only(authorities).build().map_err(told),
        None if reach.socket.is_some() => builder().tls_certs_only([]).build().map_err(told),
        // On a machine without certificates plain HTTP works all the same.
        None => builder().build().or_else(|_| builder().tls_certs_only([]).build()).map_err(told),
    }
}

/// The certificates in a file.
pub fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let found = reqwest::Certificate::from_pem_bundle(&pem(path)?).unwrap_or_default();
    if found.is_empty() {
        return Err(format!("`{}` holds no certificate, expected certificates in PEM", path.display()));
    }
    Ok(found)
}

/// A certificate with its key.
pub fn own((certificate, key): &(PathBuf, PathBuf)) -> Result<reqwest::Identity, String> {
    let mut both = pem(certificate)?;
    both.push(b'\n');
    both.extend(pem(key)?);
    http::install_tls();
    reqwest::Identity::from_pem(&both).map_err(|_| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("`{certificate}` and `{key}` are no certificate and its key, expected both in PEM")
    })
}

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    let read = files::read_bounded(path, PEM_MAX);
    read.map(|(bytes, _)| bytes).map_err(|problem| format!("`{}`: {problem}", path.display()))
}

/// Notes in a client's connector that there is a connection, or ends there.
#[derive(Clone, Debug)]
struct Watch {
    connected: Arc<AtomicBool>,
    stop: bool,
}

impl Watch {
    fn new(stop: bool) -> Self {
        Self { connected: Arc::default(), stop }
    }
}

impl<S> Layer<S> for Watch {
    type Service = Watched<S>;

    fn layer(&self, inner: S) -> Watched<S> {
        Watched { inner, watch: self.clone() }
    }
}

/// A connector that is watched.
#[derive(Clone, Debug)]
struct Watched<S> {
    inner: S,
    watch: Watch,
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, R> Service<R> for Watched<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, asked: R) -> Self::Future {
        let connecting = self.inner.call(asked);
        let watch = self.watch.clone();
        Box::pin(async move {
            let connection = connecting.await?;
            if watch.stop {
                return Err(Reached.into());
            }
            watch.connected.store(true, Ordering::SeqCst);
            Ok(connection)
        })
    }
}

/// The end of an attempt that was only to connect.
#[derive(Debug, thiserror::Error)]
#[error("connected")]
struct Reached;

fn is_reached(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<Reached>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests;
