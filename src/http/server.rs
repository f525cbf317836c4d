//! The listener: binds, accepts under a limit, serves, and stops in time.
//!
//! **Invariant:** every connection is bounded in number, headers, body and time; none outlives [`Server::run`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::alerts::payload;
use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::telemetry::Progress;

use super::Settings;
use super::access::AccessControl;
use super::body::BODIES_MAX;
use super::guard::Peer;
use super::handle::Handle;
use super::pool::Pool;
use super::router::{PATHS, Shared, router};
use super::socket::Guarded;
use super::webhook::ParseNotification;

/// How long the headers of a request may take, and how long a connection may be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Headers of one request, in bytes.
const HEADERS_MAX: usize = 16 * 1024;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 32;

/// How long a stop waits for requests under way.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when the system can give no more connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How often the loop that accepts goes round although nobody connects.
const TURN: Duration = Duration::from_secs(1);

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`: {found}; {hint}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What is in the way.
        found: String,
        /// What to do.
        hint: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is nothing to listen on.
    #[error("found no listen address, expected at least one, such as `127.0.0.1:19913`")]
    NoAddress,
    /// The metrics page would take another page's place, or cannot be reached.
    #[error("found telemetry path `{0}`, expected a path of its own, such as `/metrics`")]
    TelemetryPath(String),
}

impl Error {
    fn listen(address: SocketAddr, source: io::Error) -> Self {
        let (found, hint) = match source.kind() {
            io::ErrorKind::AddrInUse => {
                ("the port is in use".to_owned(), "stop what holds it, or choose another with --web.listen-address")
            }
            io::ErrorKind::PermissionDenied => {
                ("not permitted".to_owned(), "ports below 1024 need a privilege; choose a higher one")
            }
            io::ErrorKind::AddrNotAvailable => {
                ("this machine has no such address".to_owned(), "choose one of its own with --web.listen-address")
            }
            _ => (source.to_string(), "choose another with --web.listen-address"),
        };
        Self::Listen { address, found, hint, source }
    }
}

/// A server that listens, and serves once it runs. Cloning shares the listeners, so that a server that has ended by
/// itself is run anew on the same ones.
#[derive(Clone)]
pub struct Server {
    listeners: Vec<(Arc<TcpListener>, SocketAddr)>,
    router: Router,
    access: AccessControl,
    connections: Arc<Semaphore>,
    progress: Option<Progress>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// Listens on every address of the settings, or on none.
pub async fn bind(settings: &Settings, handle: Arc<dyn Handle>, clock: Clock) -> Result<Server, Error> {
    bind_with(settings, handle, clock, payload::parse).await
}

/// Like [`bind`], with another reader of notifications.
pub async fn bind_with(
    settings: &Settings,
    handle: Arc<dyn Handle>,
    clock: Clock,
    parse: ParseNotification,
) -> Result<Server, Error> {
    let path = &settings.telemetry_path;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    if !path.starts_with('/') || !path.bytes().all(plain) || PATHS.contains(&path.as_str()) {
        return Err(Error::TelemetryPath(path.clone()));
    }
    if settings.listen.is_empty() {
        return Err(Error::NoAddress);
    }
    let mut listeners = Vec::with_capacity(settings.listen.len());
    for address in &settings.listen {
        let fault = |source| Error::listen(*address, source);
        let listener = TcpListener::bind(address).await.map_err(fault)?;
        let bound = listener.local_addr().map_err(fault)?;
        listeners.push((Arc::new(listener), bound));
    }
    let access = AccessControl::new(settings);
    let shared = Arc::new(Shared {
        handle,
        clock,
        parse,
        access: access.clone(),
        pages: Pool::default(),
        body_max: settings.body_max,
        bodies: Semaphore::new(BODIES_MAX),
        telemetry_path: path.clone(),
        told: Mutex::default(),
    });
    let connections = Arc::new(Semaphore::new(settings.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    Ok(Server { listeners, router: router(shared), access, connections, progress: None })
}

impl Server {
    /// Where it listens, with the ports that were taken for 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(_, address)| *address).collect()
    }

    /// For a reload: to change who may ask for changes.
    pub fn access(&self) -> AccessControl {
        self.access.clone()
    }

    /// Tells there, about once a second, that connections are accepted.
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Serves until `stop`; then takes nothing new, and ends within 5 s what is under way. Ends by itself if a listener
    /// does.
    pub async fn run(self, stop: CancellationToken) {
        let mut listeners = JoinSet::new();
        for (listener, address) in self.listeners {
            let (router, connections, stop) = (self.router.clone(), Arc::clone(&self.connections), stop.clone());
            let progress = self.progress.clone();
            listeners.spawn(async move { accept(listener, address, router, connections, progress, stop).await });
        }
        while let Some(ended) = listeners.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended");
                return;
            }
        }
    }
}

async fn accept(
    listener: Arc<TcpListener>,
    address: SocketAddr,
    router: Router,
    limit: Arc<Semaphore>,
    progress: Option<Progress>,
    stop: CancellationToken,
) {
    let server = Arc::new(connection_builder());
    let mut connections = JoinSet::new();
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Before the accept: what is beyond the limit waits in the system's queue and costs us nothing.
        let permit = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                _ = turns.tick() => turn(progress.as_ref()).await,
                permit = Arc::clone(&limit).acquire_owned() => break Some(permit.expect("the limit is never closed")),
            }
        };
        let Some(permit) = permit else { break };
        let accepted = loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                _ = turns.tick() => turn(progress.as_ref()).await,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => break Some(accepted),
            }
        };
        match accepted {
            None => break,
            Some(Ok((stream, peer))) => {
                let (router, server, stop) = (router.clone(), Arc::clone(&server), stop.clone());
                connections.spawn(async move {
                    let _permit = permit;
                    serve(stream, peer, router, &server, stop).await;
                });
            }
            Some(Err(error)) => {
                tracing::warn!(%address, %error, "a connection could not be accepted");
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::warn!(%address, left = connections.len(), "requests under way were cut off by the stop");
        connections.shutdown().await;
    }
}

/// The loop that accepts goes round.
async fn turn(progress: Option<&Progress>) {
    failpoint::pass_task("http.turn").await;
    if let Some(progress) = progress {
        progress.beat();
    }
}

fn connection_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADERS_MAX)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(HEADERS_MAX).expect("16 KiB fit"))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    server: &auto::Builder<TokioExecutor>,
    stop: CancellationToken,
) {
    // An answer is written at once; waiting for more of it only delays it.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().call(request)
    });
    let connection = server.serve_connection(TokioIo::new(Guarded::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &*error, "a connection ended early");
    }
}
