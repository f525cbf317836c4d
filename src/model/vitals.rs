//! What a live bot is like from inside, in the units that rules compare (OBS-9).

use super::{Name, Timestamp};

/// The vitals of one bot, or of one WebSocket connection. What is `None` is unknown: it neither raises an issue nor clears
/// one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vitals {
    /// When they were true, by chiron's clock.
    pub at: Timestamp,
    /// Its connection to the exchange.
    pub websocket: Option<WebSocketStatus>,
    /// Use of the exchange's rate limit by symbol, in percent of it; may exceed 100.
    pub rate_limits: Option<Vec<(Name, f64)>>,
    /// From a decision to the exchange's answer, in milliseconds.
    pub execution_latency_ms: Option<f64>,
    /// Failed requests as a share of all, 0 to 1.
    pub error_rate: Option<f64>,
    /// Memory in use as a share of what it may use, 0 to 1.
    pub memory_usage: Option<f64>,
    /// Tasks, threads or workers at work.
    pub task_count: Option<u64>,
    /// The parts of a bot that were looked at from outside, each with what is wrong with it, if anything.
    pub parts: Vec<(BotPart, Option<String>)>,
}

/// A WebSocket connection as its user sees it (EXC-1).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WebSocketStatus {
    /// The connection stands.
    pub connected: Option<bool>,
    /// The server has accepted the credentials, where any are needed.
    pub authenticated: Option<bool>,
    /// Data has come within its expected time; a pong or a heartbeat is no data.
    pub data_flowing: Option<bool>,
    /// From a ping to its pong, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Connections made after the first.
    pub reconnect_count: Option<u64>,
    /// Why the connection was lost last.
    pub last_error: Option<String>,
    /// When data came last.
    pub last_update: Option<Timestamp>,
}

/// What of a bot may be broken by itself, from the outermost inwards: while one is broken, those behind it are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BotPart {
    /// Its process answers.
    Process,
    /// Its trading loop turns.
    Loop,
    /// The exchange answers it.
    Exchange,
    /// Its strategy runs without errors.
    Strategy,
}

impl BotPart {
    /// Every part, outermost first.
    pub const ALL: [Self; 4] = [Self::Process, Self::Loop, Self::Exchange, Self::Strategy];

    /// The word in details, metrics and issue types.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Loop => "loop",
            Self::Exchange => "exchange",
            Self::Strategy => "strategy",
        }
    }
}
