//! What the service manager (systemd) is told: ready, status, reloading, stopping, and that chiron is alive.
//!
//! **Invariant:** never waits: a manager that does not listen costs a message, not a decision. Without `NOTIFY_SOCKET`
//! nothing is told to anybody.
#![expect(
    clippy::disallowed_methods,
    reason = "the service manager is named by the environment, read once at the start"
)]

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// It expects a sign of life this often.
    watchdog: Option<Duration>,
    /// When it last got one, since boot.
    fed: Option<Duration>,
    status: String,
    troubled: bool,
}

impl Notifier {
    /// The one that the environment names.
    pub fn from_environment() -> Self {
        let named = std::env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty());
        let socket = named.and_then(|name| match reach(&name) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(%error, "the service manager's socket `{name}` cannot be used");
                None
            }
        });
        Self { socket, watchdog: sd_notify::watchdog_enabled(), fed: None, status: String::new(), troubled: false }
    }

    /// It listens.
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How often it expects a sign of life.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|period| self.is_there() && !period.is_zero())
    }

    /// chiron serves and decides.
    pub fn ready(&mut self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// One line for people, told when it changes.
    pub fn status(&mut self, line: String) {
        if line != self.status && self.tell(&[NotifyState::Status(&line)]) {
            self.status = line;
        }
    }

    /// The settings are loaded again; [`Notifier::ready`] follows.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        };
    }

    /// chiron stops.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// Three times per period, if it is due at `now` (since boot) and `alive` says so.
    pub fn feed(&mut self, now: Duration, alive: impl FnOnce(Duration) -> bool) {
        let Some(period) = self.watchdog() else { return };
        let due = self.fed.is_none_or(|fed| now.saturating_sub(fed) >= period / 3);
        if due && alive(period) && self.tell(&[NotifyState::Watchdog]) {
            self.fed = Some(now);
        }
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) -> bool {
        let Some((socket, address)) = &self.socket else { return false };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        match socket.send_to_addr(lines.as_bytes(), address) {
            Ok(_) => {
                self.troubled = false;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.troubled, true) {
                    tracing::warn!(%error, "the service manager cannot be told: {}", lines.trim_end());
                }
                false
            }
        }
    }
}

fn reach(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
