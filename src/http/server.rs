//! The listener: binds, accepts under a limit, serves, and stops in time.
//!
//! **Invariant:** every connection is bounded in number, headers, body and time; none outlives [`Server::run`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::alerts::payload;
use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::model::Problem;
use crate::telemetry::Progress;

use super::Settings;
use super::body::Bodies;
use super::certificate::Names;
use super::crowd::{Crowd, Place};
use super::door::{AccessControl, Door};
use super::guard::Peer;
use super::handle::Handle;
use super::identify::Ids;
use super::live::Live;
use super::metrics::Pages;
use super::router::{PATHS, Shared, router};
use super::socket::{Answer, Guarded};
use super::web_config::Print;
use super::webhook::ParseNotification;

/// How long the headers of a request may take, and how long a connection may be idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that wait to be accepted; the system may allow fewer.
const QUEUE_MAX: u32 = 4096;

/// Files and connections of the rest of chiron, beside those of the server.
const FILES_SPARE: usize = 512;

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
    /// The web configuration file has problems.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    WebConfig(Vec<Problem>),
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
    crowd: Arc<Crowd>,
    handle: Arc<dyn Handle>,
    /// The web configuration as it was read.
    print: Print,
    progress: Option<Progress>,
    /// Ends long polls and streams.
    ending: CancellationToken,
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
        let listener = listen(*address).map_err(fault)?;
        let bound = listener.local_addr().map_err(fault)?;
        listeners.push((Arc::new(listener), bound));
    }
    let (access, print) = AccessControl::new(settings, &*handle).map_err(Error::WebConfig)?;
    let shared = Arc::new(Shared {
        handle: Arc::clone(&handle),
        started: clock.since_boot(),
        clock,
        parse,
        access: access.clone(),
        pages: Pages::default(),
        body_max: settings.body_max,
        bodies: Bodies::default(),
        telemetry_path: path.clone(),
        told: Mutex::default(),
        ids: Ids::default(),
        live: Live::default(),
    });
    let ending = shared.live.ending.clone();
    let connections_max = with_files(settings.connections_max);
    let crowd = Crowd::new(connections_max, settings.connections_per_address_max);
    Ok(Server { listeners, router: router(shared), access, crowd, handle, print, progress: None, ending })
}

/// Like `TcpListener::bind`, with a longer queue: who does not fit into it is not refused, but waits a second.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(QUEUE_MAX)
}

/// Sees to it that so many connections find a file descriptor each; else how many do. Running out of them would stop
/// the journal and the policy file too.
fn with_files(connections: usize) -> usize {
    let wanted = u64::try_from(connections.saturating_add(FILES_SPARE)).unwrap_or(u64::MAX);
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = limit.maximum.map_or(Some(wanted), |maximum| Some(maximum.min(wanted)));
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let possible = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(FILES_SPARE).max(16);
    if possible < connections {
        tracing::warn!(possible, connections, "fewer connections than `web.connections_max`: raise LimitNOFILE");
    }
    connections.min(possible)
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
        let Self { router, access, crowd, handle, print, progress, ending, .. } = self;
        let door = Arc::clone(&access.0);
        let until = stop.clone();
        listeners.spawn(async move { door.watch(print, handle, until).await });
        let stopped = stop.clone();
        listeners.spawn(async move {
            stopped.cancelled().await;
            ending.cancel();
        });
        for (listener, address) in self.listeners {
            let room = Room {
                router: router.clone(),
                door: Arc::clone(&access.0),
                crowd: Arc::clone(&crowd),
                both: connection_builder(),
                http1: connection_builder().http1_only(),
                progress: progress.clone(),
                stop: stop.clone(),
            };
            listeners.spawn(async move { accept(listener, address, Arc::new(room)).await });
        }
        while let Some(ended) = listeners.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended");
                return;
            }
        }
    }
}

/// What every connection of a listener shares.
struct Room {
    router: Router,
    door: Arc<Door>,
    crowd: Arc<Crowd>,
    both: auto::Builder<TokioExecutor>,
    http1: auto::Builder<TokioExecutor>,
    progress: Option<Progress>,
    stop: CancellationToken,
}

async fn accept(listener: Arc<TcpListener>, address: SocketAddr, room: Arc<Room>) {
    let mut connections = JoinSet::new();
    let stop = room.stop.clone();
    let mut turned_away = false;
    let mut turns = tokio::time::interval(TURN);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = turns.tick() => {
                room.crowd.sweep(Instant::now());
                turn(room.progress.as_ref()).await;
                continue;
            }
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => match room.crowd.enter(peer.ip(), Instant::now()) {
                Some(place) => {
                    turned_away = false;
                    let room = Arc::clone(&room);
                    connections.spawn(async move { welcome(stream, peer, Arc::new(place), &room).await });
                }
                None if !turned_away => {
                    turned_away = true;
                    tracing::warn!(%peer, "a connection was closed: too many requests are under way; more are not logged");
                }
                None => tracing::debug!(%peer, "a connection was closed: too many requests are under way"),
            },
            Err(error) => {
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

/// Serves a connection until it ends, has to make room, or everything stops.
async fn welcome(stream: TcpStream, peer: SocketAddr, place: Arc<Place>, room: &Room) {
    // An answer is written at once; waiting for more of it only delays it.
    let _ = stream.set_nodelay(true);
    let leave = place.leave().clone();
    tokio::select! {
        biased;
        () = leave.cancelled() => tracing::debug!(%peer, "a connection made room: it was idle, or took no answer"),
        () = greet(stream, peer, place, room) => {}
    }
}

/// The TLS handshake, if there is to be one, and then what is spoken over it.
async fn greet(stream: TcpStream, peer: SocketAddr, place: Arc<Place>, room: &Room) {
    // Asked before the configuration, so that one that is replaced in between ends this connection too.
    let era = room.door.era();
    let web = room.door.web.load_full();
    let builder = if web.http2 { &room.both } else { &room.http1 };
    let Some(tls) = &web.tls else {
        let peer = Peer { address: peer, certificate: None };
        return serve(stream, peer, place, room, builder, &era).await;
    };
    let handshake = TlsAcceptor::from(Arc::clone(&tls.config)).accept(stream);
    let handshake = tokio::select! {
        () = room.stop.cancelled() => return,
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
    };
    let certificate = tls.verifies.then(|| stream.get_ref().1.peer_certificates()?.first()).flatten();
    let certificate = certificate.and_then(|der| Names::of(der).ok()).map(Arc::new);
    let peer = Peer { address: peer, certificate };
    serve(stream, peer, place, room, builder, &era).await;
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: Peer,
    place: Arc<Place>,
    room: &Room,
    builder: &auto::Builder<TokioExecutor>,
    era: &CancellationToken,
) {
    let address = peer.address;
    let router = room.router.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        let asking = place.request(Instant::now());
        let answer = router.clone().call(request);
        async move {
            // The request is under way until its answer is sent, or given up.
            let response = answer.await?;
            let stream = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
            asking.answered(stream, Instant::now());
            Ok::<_, std::convert::Infallible>(response.map(|body| Answer { body, _asking: asking }))
        }
    });
    let connection = builder.serve_connection(TokioIo::new(Guarded::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { () = room.stop.cancelled() => {}, () = era.cancelled() => {} } } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(peer = %address, error = &*error, "a connection ended early");
    }
}
