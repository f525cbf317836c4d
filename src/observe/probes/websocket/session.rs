//! The sockets of a WebSocket connection: makes it, keeps it, makes it again.
//!
//! **Invariant:** every wait has an end: making a connection, sending, saying goodbye. What the other side sends is
//! bounded in size and taken at a bounded rate; a redirect is not followed; secrets are read for each connection anew, go
//! to the server of the settings and nowhere else, and are in nothing that is told.
#![expect(clippy::disallowed_methods, reason = "reads secrets and certificates on a thread that may block")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes as Payload;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::protocol::{Action, Body, Facts, Loss, Machine};
use super::stream::{Bytes, Slowed};
use crate::base::clock::Clock;
use crate::base::secret::Secret;
use crate::base::{files, redact, tls};
use crate::model::Timestamp;
use crate::observe::check::Wake;

/// Stands for the secret of `token_file` in the URL's query, in headers and in what is sent.
pub const TOKEN: &str = "{{token}}";
/// The largest frame and message taken. The largest snapshots of order books are below 1 MiB.
const MESSAGE_MAX: usize = 4 * 1024 * 1024;
/// What is kept of our own words and pongs while the other side does not read.
const UNSENT_MAX: usize = 1024 * 1024;
/// The time for a message to leave.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// The time for a goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// Messages taken within [`SPAN`] before the rest has to wait for its end.
const MESSAGES_MAX: u32 = 5_000;
/// See [`MESSAGES_MAX`].
const SPAN: Duration = Duration::from_millis(100);
/// The longest text of a server that is told on, in characters.
const TOLD_MAX: usize = 200;
/// The largest file with certificates, in bytes.
const PEM_MAX: u64 = 1024 * 1024;
/// A longer `Retry-After` is believed of a server that counts requests only: another may be back long before.
const ASKED_MAX: Duration = Duration::from_secs(300);

type Socket = WebSocketStream<Slowed<Box<dyn Bytes>>>;

/// Whom to connect to, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// `ws://` or `wss://`; may hold [`TOKEN`] in its query.
    pub url: String,
    /// Headers of the upgrade; values may hold [`TOKEN`].
    pub headers: Vec<(HeaderName, String)>,
    /// Its first line is [`TOKEN`].
    pub token_file: Option<PathBuf>,
    /// Only what these certificates (PEM) vouch for is trusted.
    pub ca_file: Option<PathBuf>,
    /// Any certificate is believed.
    pub insecure_skip_verify: bool,
    /// The time for address, connection, TLS and upgrade together.
    pub connect_timeout: Duration,
}

impl Target {
    /// Scheme, host and path; no query, which may be a secret.
    pub fn place(&self) -> String {
        Url::parse(&self.url).map_or_else(|_| "the server".to_owned(), |url| place(&url))
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        Url::parse(&self.url.replace(TOKEN, "x")).is_ok_and(|url| url.scheme() == "wss")
    }
}

fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// A connection and what was seen of it, shared by who keeps it and who reads it.
#[derive(Debug)]
pub struct Link {
    target: Target,
    machine: Mutex<Machine>,
    clock: Clock,
}

/// What was seen, and when that was.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// By the wall clock.
    pub read_at: Timestamp,
    /// Since boot.
    pub since_boot: Duration,
    /// What was seen.
    pub facts: Facts,
}

impl Link {
    /// A connection that nobody keeps yet.
    pub fn new(target: Target, machine: Machine, clock: Clock) -> Self {
        Self { target, machine: Mutex::new(machine), clock }
    }

    /// What has been seen by now.
    pub fn read(&self) -> Reading {
        let facts = self.machine().facts().clone();
        Reading { read_at: self.clock.now(), since_boot: self.clock.since_boot(), facts }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    fn now(&self) -> Duration {
        self.clock.since_boot()
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the connection for as long as it is polled.
pub async fn keep(link: Arc<Link>, wake: Wake) {
    loop {
        link.machine().connecting(link.now());
        let (loss, token) = match connect(&link.target).await {
            Ok((socket, token)) => (drive(&link, socket, token.as_ref(), &wake).await, token),
            Err((loss, token)) => (loss, token),
        };
        let loss = Loss { text: told(&loss.text, token.as_ref()), ..loss };
        let retry_at = link.machine().lost(loss, link.now());
        wake.wake();
        sleep(retry_at.saturating_sub(link.now())).await;
    }
}

/// Whatever a server says is one line, not too long, and without the secret that it may have been told.
fn told(text: &str, token: Option<&Secret>) -> String {
    let text = redact::text(text).into_owned();
    let text = token
        .map(forms)
        .unwrap_or_default()
        .iter()
        .fold(text, |text, form| if form.is_empty() { text } else { text.replace(form, redact::REDACTED) });
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TOLD_MAX).collect();
    if text.chars().nth(TOLD_MAX).is_some() { format!("{line}...") } else { line }
}

/// The text with the secret in the place of its placeholder.
fn filled(text: &str, token: Option<&Secret>, form: impl Fn(&str) -> String) -> String {
    match token {
        Some(token) if text.contains(TOKEN) => text.replace(TOKEN, &form(token.expose())),
        _ => text.to_owned(),
    }
}

/// A secret as it may stand in what a server says: as it is, and in each form that it is sent or written in. Those with
/// escapes come first, since what is left of them without the plain one would tell something.
fn forms(token: &Secret) -> [String; 5] {
    let (plain, query) = (token.expose(), in_query(token.expose()));
    let lower = escaped(plain, |byte| format!("%{byte:02x}"));
    let json = in_json(plain);
    [json.replace('/', "\\/"), json, query, lower, plain.to_owned()]
}

fn in_json(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn in_message(text: &str, token: Option<&Secret>) -> String {
    let is_json = text.trim_start().starts_with(['{', '[']);
    filled(text, token, |secret| if is_json { in_json(secret) } else { secret.to_owned() })
}

fn in_query(secret: &str) -> String {
    escaped(secret, |byte| format!("%{byte:02X}"))
}

fn escaped(secret: &str, escape: impl Fn(u8) -> String) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => escape(byte),
    };
    secret.bytes().map(byte).collect()
}

/// What lies in files.
type Files = (Option<Secret>, Option<Arc<rustls::ClientConfig>>);

fn read_files(target: &Target, encrypted: bool) -> Result<Files, String> {
    let token = target.token_file.as_deref().map(Secret::from_file).transpose()?;
    token.iter().flat_map(forms).for_each(|form| redact::remember(&form));
    if !encrypted {
        return Ok((token, None));
    }
    let pem = match &target.ca_file {
        Some(path) => {
            let read = files::read_bounded(path, PEM_MAX);
            Some(read.map_err(|problem| format!("`{}`: {problem}", path.display()))?.0)
        }
        None => None,
    };
    let mut config =
        tls::client(pem.as_deref(), target.insecure_skip_verify).map_err(|problem| match &target.ca_file {
            Some(path) => format!("`{}`: {problem}", path.display()),
            None => problem,
        })?;
    // An upgrade is of HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((token, Some(Arc::new(config))))
}

/// Makes a connection within its time.
async fn connect(target: &Target) -> Result<(Socket, Option<Secret>), (Loss, Option<Secret>)> {
    // What is being waited for, and the secret as soon as it is read: whatever is told of a failure must not hold it.
    let reached = Mutex::new(("the files with secrets", None));
    let at = |step| lock(&reached).0 = step;
    let made = async {
        let own = target.clone();
        let encrypted = target.is_tls();
        let files = tokio::task::spawn_blocking(move || read_files(&own, encrypted)).await;
        let (secret, tls) = files.map_err(|error| Loss::new(error.to_string()))?.map_err(Loss::new)?;
        lock(&reached).1 = secret.clone();
        let url = filled(&target.url, secret.as_ref(), in_query);
        let url = Url::parse(&url).map_err(|error| Loss::new(format!("the URL with its token: {error}")))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or(80);
        at("a TCP connection");
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| Loss::new(error.to_string()))?;
        // A ping must not wait for other bytes; without it the latency would only be greater.
        let _ = stream.set_nodelay(true);
        let stream: Box<dyn Bytes> = match tls {
            None => Box::new(stream),
            Some(config) => {
                at("the TLS handshake");
                let name = rustls_pki_types::ServerName::try_from(host)
                    .map_err(|_| Loss::new("the host is no name that a certificate could be of"))?;
                let made = TlsConnector::from(config).connect(name, stream).await;
                Box::new(made.map_err(|error| Loss::new(format!("TLS: {error}")))?)
            }
        };
        at("the answer to the upgrade");
        let mut request = url.as_str().into_client_request().map_err(|error| lost_by(&error))?;
        request
            .headers_mut()
            .insert("user-agent", HeaderValue::from_static(concat!("chiron/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &target.headers {
            let value = filled(value, secret.as_ref(), str::to_owned);
            let value = HeaderValue::from_str(&value)
                .map_err(|_| Loss::new(format!("the header `{name}` with its token is no text of one line")))?;
            request.headers_mut().insert(name, value);
        }
        let config = WebSocketConfig::default()
            .read_buffer_size(16 * 1024)
            .write_buffer_size(0)
            .max_write_buffer_size(UNSENT_MAX)
            .max_message_size(Some(MESSAGE_MAX))
            .max_frame_size(Some(MESSAGE_MAX));
        let made = client_async_with_config(request, Slowed::new(stream), Some(config)).await;
        let (socket, _) = made.map_err(|error| lost_by(&error))?;
        Ok(socket)
    };
    let made = timeout(target.connect_timeout, made).await;
    let (step, token) = lock(&reached).clone();
    match made {
        Ok(Ok(socket)) => Ok((socket, token)),
        Ok(Err(loss)) => Err((loss, token)),
        Err(_) => {
            let text = format!("no connection within {:?}, waited for {step}", target.connect_timeout);
            Err((Loss::new(text), token))
        }
    }
}

/// Keeps a connection until it is lost.
async fn drive(link: &Link, mut socket: Socket, token: Option<&Secret>, wake: &Wake) -> Loss {
    let mut actions = link.machine().connected(link.now());
    let (mut taken, mut span_ends) = (0, link.now() + SPAN);
    loop {
        for action in actions {
            let sent = match action {
                Action::Wake => {
                    wake.wake();
                    continue;
                }
                Action::Send(text) => Message::Text(in_message(&text, token).into()),
                Action::Ping(payload) => Message::Ping(Payload::from(payload)),
                Action::Drop(loss) => {
                    // Whether the goodbye arrives is nothing to wait for.
                    let _ = timeout(CLOSE_LIMIT, socket.close(None)).await;
                    return loss;
                }
            };
            match timeout(SEND_LIMIT, socket.send(sent)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return lost_by(&error),
                Err(_) => return Loss::new(format!("the server reads nothing of what is sent for {SEND_LIMIT:?}")),
            }
        }
        let now = link.now();
        let deadline = link.machine().deadline();
        if now >= deadline {
            actions = link.machine().tick(now);
            continue;
        }
        if now >= span_ends {
            (taken, span_ends) = (0, now + SPAN);
        } else if taken >= MESSAGES_MAX {
            sleep(span_ends - now).await;
            actions = Vec::new();
            continue;
        }
        let next = tokio::select! {
            biased;
            next = socket.next() => next,
            () = sleep(deadline - now) => {
                actions = Vec::new();
                continue;
            }
        };
        taken += 1;
        let now = link.now();
        actions = match next {
            None => return Loss::new("the connection ended without a close frame"),
            Some(Err(error)) => return lost_by(&error),
            Some(Ok(Message::Close(frame))) => {
                let _ = timeout(CLOSE_LIMIT, socket.flush()).await;
                return Loss::new(match frame {
                    Some(frame) if frame.reason.is_empty() => {
                        format!("the server closed the connection with code {}", u16::from(frame.code))
                    }
                    Some(frame) => {
                        format!(
                            "the server closed the connection with code {}: {}",
                            u16::from(frame.code),
                            frame.reason
                        )
                    }
                    None => "the server closed the connection without a code".to_owned(),
                });
            }
            Some(Ok(Message::Text(text))) => link.machine().message(Body::Text(text.as_str()), now),
            Some(Ok(Message::Binary(_))) => link.machine().message(Body::Binary, now),
            Some(Ok(Message::Pong(payload))) => link.machine().pong(&payload, now),
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => {
                link.machine().heard();
                Vec::new()
            }
        };
    }
}

/// What went wrong, in words of ours where the library's are not plain.
fn lost_by(error: &Error) -> Loss {
    let text = match error {
        Error::Http(response) => return refused_by(response),
        Error::Io(error) => error.to_string(),
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            format!("the server sent a message of {size} bytes, more than the limit of {max_size}")
        }
        Error::Capacity(_) | Error::AttackAttempt => {
            "the answer to the upgrade is too long or in too many pieces".to_owned()
        }
        Error::Protocol(ProtocolError::NonZeroReservedBits) => {
            "the server sent a compressed frame, though no compression was agreed".to_owned()
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed => "the connection ended without a close frame".to_owned(),
        Error::Protocol(ProtocolError::MaskedFrameFromServer) => {
            "the server sent a masked frame, which only clients may".to_owned()
        }
        Error::Utf8(_) => "the server sent a text that is no UTF-8".to_owned(),
        Error::WriteBufferFull(_) => "the server reads nothing of what is sent".to_owned(),
        Error::Protocol(error) => format!("the server breaks the protocol: {error}"),
        other => other.to_string(),
    };
    Loss::new(text)
}

/// An answer to the upgrade that is none.
fn refused_by(response: &Response) -> Loss {
    let status = response.status();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let mut text = format!("the upgrade was answered with status {}, expected 101", status.as_u16());
    let refused = matches!(status.as_u16(), 401 | 403);
    if status.is_redirection() {
        let to = header("location").map_or_else(
            || "nowhere".to_owned(),
            |location| Url::parse(location).map_or_else(|_| "another path".to_owned(), |url| place(&url)),
        );
        text.push_str(&format!("; it leads to {to}, redirects are not followed"));
    } else if refused {
        text.push_str("; check the credentials");
    }
    let retry_after = header("retry-after").and_then(|value| value.trim().parse().ok()).map(Duration::from_secs);
    if let Some(pause) = retry_after {
        text.push_str(&format!("; the server asks to wait {pause:?}"));
    }
    let body = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let body = body.trim();
    if !body.is_empty() && !status.is_redirection() {
        text.push_str(&format!(": {body}"));
    }
    let counts = matches!(status.as_u16(), 418 | 429);
    Loss { text, refused, retry_after: retry_after.map(|pause| if counts { pause } else { pause.min(ASKED_MAX) }) }
}

#[cfg(test)]
mod tests;
