//! What a WebSocket connection says and waits for, as a state machine: events and the time in, actions out.
//!
//! **Invariant:** pure; times are since boot and only ever passed in. A pong, a heartbeat and whatever else is ignored by
//! the settings is no data.

use std::sync::Arc;
use std::time::Duration;

use super::pattern::{Looked, Patterns};
use super::rate::{PROVISIONAL_MIN, Rate};

/// A connection that lasted so long was a good one: the next loss begins with the shortest pause again.
pub const STEADY: Duration = Duration::from_secs(5);
/// The longest pause between two attempts, but for one that the server asks for.
pub const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Whoever was refused is not welcome a second later: 2^4 s.
const REFUSED_STEPS: u32 = 4;
/// A server that asks for more is asked again all the same.
const ASKED_MAX: Duration = Duration::from_secs(3600);
/// Updates closer together than this count as one; what comes so soon after data need not be looked into.
const SKIM: Duration = Duration::from_millis(50);
/// Messages looked into within [`LOOK_SPAN`], so that a flood costs little.
const LOOKS_MAX: u32 = 500;
const LOOK_SPAN: Duration = Duration::from_millis(100);

/// What to say, and what to expect.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// How to show who we are, if need be.
    pub auth: Option<Auth>,
    /// Sent once the connection stands and the server knows who we are.
    pub subscribe: Vec<String>,
    /// Messages that are no data: heartbeats, status, answers.
    pub ignore: Patterns,
    /// How the latency is measured.
    pub ping: Ping,
    /// Silence from which on the feed is dead; learnt if not given.
    pub stale_after: Option<Duration>,
}

/// An exchange of messages.
#[derive(Clone, Debug)]
pub struct Auth {
    /// What is sent.
    pub send: Vec<String>,
    /// The answer of a server that accepts.
    pub expect: Patterns,
    /// The answer of one that does not.
    pub reject: Patterns,
    /// The time for either.
    pub within: Duration,
}

/// Pings.
#[derive(Clone, Debug)]
pub struct Ping {
    /// How often.
    pub every: Duration,
    /// After so long without an answer it is given up.
    pub within: Duration,
    /// A message instead of the protocol's own ping.
    pub message: Option<String>,
    /// The answer to that message.
    pub expect: Patterns,
}

impl Default for Ping {
    fn default() -> Self {
        let (every, within) = (Duration::from_secs(10), Duration::from_secs(10));
        Self { every, within, message: None, expect: Patterns::default() }
    }
}

/// A message of the server.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// A text.
    Text(&'a str),
    /// Anything else, which is not looked into.
    Binary,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this text, with the secrets filled in.
    Send(String),
    /// Send a ping with this payload.
    Ping(Vec<u8>),
    /// End the connection.
    Drop(Loss),
    /// Have the check look now.
    Wake,
}

/// Why there is no connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// One line, without secrets.
    pub text: String,
    /// The server does not accept who we say we are.
    pub refused: bool,
    /// The pause that the server asks for.
    pub retry_after: Option<Duration>,
}

impl Loss {
    /// A loss for no other reason than this.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody keeps it.
    Idle,
    /// Between two attempts; the next is at this time.
    Waiting(Duration),
    /// Being made.
    Connecting,
    /// It stands; the server has not accepted us yet.
    Authenticating,
    /// It stands.
    Open,
}

impl Phase {
    /// The word in details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting(_) => "waiting",
            Self::Connecting => "connecting",
            Self::Authenticating => "authenticating",
            Self::Open => "open",
        }
    }
}

/// The silence from which on the feed is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Configured.
    Set(Duration),
    /// Learnt.
    Learnt(Duration),
    /// Too little is known yet; so long is taken for dead until then.
    Learning(Duration),
}

impl Expected {
    /// The time, known or provisional.
    pub fn limit(self) -> Duration {
        match self {
            Self::Set(limit) | Self::Learnt(limit) | Self::Learning(limit) => limit,
        }
    }

    /// The word in details.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set(_) => "configured",
            Self::Learnt(_) => "learnt",
            Self::Learning(_) => "learning",
        }
    }
}

/// What was seen of the connection. Times are since boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Where it stands.
    pub phase: Phase,
    /// Since when it has not been usable: made, accepted, and not about to break at once as the ones before it.
    pub down_since: Option<Duration>,
    /// It has been usable before.
    pub ever_up: bool,
    /// Whether the server accepts us, where that is asked.
    pub authenticated: Option<bool>,
    /// Why it does not.
    pub refused: Option<String>,
    /// From the last ping to its pong.
    pub latency: Option<Duration>,
    /// When the ping was sent whose pong is awaited.
    pub pinged_at: Option<Duration>,
    /// Connections made.
    pub connections: u64,
    /// Why it was lost last.
    pub last_error: Option<String>,
    /// When data came last, on this connection or an earlier one.
    pub data_at: Option<Duration>,
    /// From when on silence counts; the time without a connection is left out.
    pub silent_since: Duration,
    /// The silence from which on the feed is dead.
    pub expected: Expected,
}

impl Facts {
    /// Whether the feed is dead at `now`, as far as the connection stands.
    pub fn is_stale(&self, now: Duration) -> bool {
        now.saturating_sub(self.silent_since) >= self.expected.limit()
    }

    /// Whether nobody can say if data is due: none has ever come, and nobody said how often it should.
    pub fn is_rhythm_unknown(&self) -> bool {
        self.data_at.is_none() && matches!(self.expected, Expected::Learning(_))
    }
}

/// One connection and those after it.
#[derive(Debug)]
pub struct Machine {
    plan: Arc<Plan>,
    facts: Facts,
    rate: Rate,
    /// What no server can guess: it makes pings of ours out of those that anybody could answer unasked.
    seed: u64,
    random: u64,
    /// When the phase or, once open, the proof of being usable ends.
    until: Duration,
    opened_at: Option<Duration>,
    /// Attempts in a row that led to nothing lasting.
    failures: u32,
    /// Connections in a row that broke at once.
    brief: u32,
    ping_due: Duration,
    ping_number: u64,
    heard_since_ping: bool,
    /// When data came last on this connection.
    updated_at: Option<Duration>,
    looks: (Duration, u32),
    /// The silence of the connections before this one, since data came last.
    carried: Duration,
}

impl Machine {
    /// Not begun. `seed` decides the jitter.
    pub fn new(plan: Arc<Plan>, seed: u64) -> Self {
        let expected = plan.stale_after.map_or(Expected::Learning(PROVISIONAL_MIN), Expected::Set);
        Self {
            facts: Facts {
                phase: Phase::Idle,
                down_since: None,
                ever_up: false,
                authenticated: plan.auth.as_ref().map(|_| false),
                refused: None,
                latency: None,
                pinged_at: None,
                connections: 0,
                last_error: None,
                data_at: None,
                silent_since: Duration::ZERO,
                expected,
            },
            plan,
            rate: Rate::default(),
            seed,
            random: seed,
            until: Duration::MAX,
            opened_at: None,
            failures: 0,
            brief: 0,
            ping_due: Duration::MAX,
            ping_number: 0,
            heard_since_ping: false,
            updated_at: None,
            looks: (Duration::ZERO, 0),
            carried: Duration::ZERO,
        }
    }

    /// What has been seen so far.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A connection is being made.
    pub fn connecting(&mut self, now: Duration) {
        self.carry(now);
        self.facts.phase = Phase::Connecting;
        self.facts.down_since.get_or_insert(now);
        self.until = Duration::MAX;
    }

    /// The connection stands.
    pub fn connected(&mut self, now: Duration) -> Vec<Action> {
        self.facts.connections += 1;
        self.opened_at = Some(now);
        self.updated_at = None;
        self.facts.latency = None;
        self.facts.pinged_at = None;
        let plan = Arc::clone(&self.plan);
        match &plan.auth {
            Some(auth) => {
                self.facts.phase = Phase::Authenticating;
                self.until = now.saturating_add(auth.within);
                auth.send.iter().cloned().map(Action::Send).collect()
            }
            None => self.open(now),
        }
    }

    fn open(&mut self, now: Duration) -> Vec<Action> {
        self.facts.phase = Phase::Open;
        self.facts.authenticated = self.plan.auth.as_ref().map(|_| true);
        self.facts.refused = None;
        self.ping_due = now;
        // A new connection is no data: the silence goes on where the loss cut it off.
        self.facts.silent_since = now.saturating_sub(self.carried);
        let mut actions: Vec<Action> = self.plan.subscribe.iter().cloned().map(Action::Send).collect();
        // One that breaks at once, again and again, is not usable for having been made again.
        self.until = if self.brief == 0 { now } else { now.saturating_add(STEADY) };
        actions.extend(self.tick(now));
        actions
    }

    /// A message came.
    pub fn message(&mut self, body: Body<'_>, now: Duration) -> Vec<Action> {
        self.heard_since_ping = true;
        match self.facts.phase {
            Phase::Authenticating => self.answer(body, now),
            Phase::Open => self.take(body, now),
            Phase::Idle | Phase::Waiting(_) | Phase::Connecting => Vec::new(),
        }
    }

    fn answer(&mut self, body: Body<'_>, now: Duration) -> Vec<Action> {
        let plan = Arc::clone(&self.plan);
        let (Body::Text(text), Some(auth), true) = (body, &plan.auth, self.may_look(now)) else { return Vec::new() };
        let mut message = Looked::new(text);
        if auth.reject.match_message(&mut message) {
            let text = format!("the server does not accept the credentials: {text}");
            return vec![Action::Drop(Loss { refused: true, ..Loss::new(text) })];
        }
        if !auth.expect.match_message(&mut message) {
            return Vec::new();
        }
        self.open(now)
    }

    fn take(&mut self, body: Body<'_>, now: Duration) -> Vec<Action> {
        let plan = Arc::clone(&self.plan);
        let awaits_pong = plan.ping.message.is_some() && self.facts.pinged_at.is_some();
        let recent = self.updated_at.is_some_and(|at| now.saturating_sub(at) < SKIM);
        if recent && !awaits_pong {
            return Vec::new();
        }
        if let Body::Text(text) = body {
            if (awaits_pong || !plan.ignore.is_empty()) && !self.may_look(now) {
                return Vec::new();
            }
            let mut message = Looked::new(text);
            if awaits_pong && plan.ping.expect.match_message(&mut message) {
                return self.answered(now);
            }
            // The late answer to a ping that was given up is no data either.
            if plan.ignore.match_message(&mut message) || plan.ping.expect.match_message(&mut message) {
                return Vec::new();
            }
        }
        if recent { Vec::new() } else { self.updated(now) }
    }

    /// Whether one more message may be looked into.
    fn may_look(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.looks.0) >= LOOK_SPAN {
            self.looks = (now, 0);
        }
        self.looks.1 += 1;
        self.looks.1 <= LOOKS_MAX
    }

    /// Data came.
    fn updated(&mut self, now: Duration) -> Vec<Action> {
        let first = self.updated_at.is_none();
        let was_stale = self.facts.is_stale(now);
        if self.facts.data_at.is_some() && self.plan.stale_after.is_none() {
            self.rate.learn(now.saturating_sub(self.facts.silent_since));
            let learning = || Expected::Learning(self.rate.provisional());
            self.facts.expected = self.rate.limit().map_or_else(learning, Expected::Learnt);
        }
        self.updated_at = Some(now);
        self.facts.data_at = Some(now);
        self.facts.silent_since = now;
        self.carried = Duration::ZERO;
        if first || was_stale { vec![Action::Wake] } else { Vec::new() }
    }

    /// A pong of the protocol came.
    pub fn pong(&mut self, payload: &[u8], now: Duration) -> Vec<Action> {
        self.heard_since_ping = true;
        if self.plan.ping.message.is_none() && payload == self.payload() {
            return self.answered(now);
        }
        Vec::new()
    }

    /// A ping of the server came; the answer is not ours to send.
    pub fn heard(&mut self) {
        self.heard_since_ping = true;
    }

    fn answered(&mut self, now: Duration) -> Vec<Action> {
        let Some(at) = self.facts.pinged_at.take() else { return Vec::new() };
        let first = self.facts.latency.is_none();
        self.facts.latency = Some(now.saturating_sub(at));
        if first { vec![Action::Wake] } else { Vec::new() }
    }

    fn payload(&self) -> Vec<u8> {
        format!("chiron {:x} {}", self.seed, self.ping_number).into_bytes()
    }

    /// What is due at `now`.
    pub fn tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.facts.phase == Phase::Authenticating && now >= self.until {
            let within = self.plan.auth.as_ref().map_or(Duration::ZERO, |auth| auth.within);
            let text = format!("the server did not answer to the credentials within {within:?}");
            return vec![Action::Drop(Loss::new(text))];
        }
        if self.facts.phase != Phase::Open {
            return actions;
        }
        if now >= self.until {
            self.until = Duration::MAX;
            self.facts.down_since = None;
            self.facts.ever_up = true;
            actions.push(Action::Wake);
        }
        let within = self.plan.ping.within;
        if self.facts.pinged_at.is_some_and(|at| now.saturating_sub(at) >= within) {
            if !self.heard_since_ping {
                let text = format!("no answer to a ping within {within:?}, and nothing else either");
                return vec![Action::Drop(Loss::new(text))];
            }
            // It lives, but does not answer to pings: how slow it is is not known.
            self.facts.pinged_at = None;
            self.facts.latency = None;
        }
        if now >= self.ping_due && self.facts.pinged_at.is_none() {
            self.ping_due = now.saturating_add(self.plan.ping.every);
            self.ping_number += 1;
            self.facts.pinged_at = Some(now);
            self.heard_since_ping = false;
            actions.push(match &self.plan.ping.message {
                Some(message) => Action::Send(message.clone()),
                None => Action::Ping(self.payload()),
            });
        }
        actions
    }

    /// When [`Machine::tick`] has something to do next.
    pub fn deadline(&self) -> Duration {
        match self.facts.phase {
            Phase::Authenticating => self.until,
            Phase::Open => {
                let ping = match self.facts.pinged_at {
                    Some(at) => at.saturating_add(self.plan.ping.within),
                    None => self.ping_due,
                };
                self.until.min(ping)
            }
            Phase::Idle | Phase::Waiting(_) | Phase::Connecting => Duration::MAX,
        }
    }

    /// The connection was lost, or could not be made. When to try again.
    pub fn lost(&mut self, loss: Loss, now: Duration) -> Duration {
        self.carry(now);
        if let Some(opened) = self.opened_at.take() {
            let steady = self.facts.phase == Phase::Open && now.saturating_sub(opened) >= STEADY;
            self.brief = if steady { 0 } else { self.brief.saturating_add(1) };
            self.failures = if steady { 0 } else { self.failures };
        }
        self.facts.down_since.get_or_insert(now);
        self.facts.authenticated = self.plan.auth.as_ref().map(|_| false);
        self.facts.refused = loss.refused.then(|| loss.text.clone());
        if loss.refused {
            self.facts.authenticated = Some(false);
        }
        self.facts.last_error = Some(loss.text);
        self.facts.latency = None;
        self.facts.pinged_at = None;
        let steps = if loss.refused { self.failures.max(REFUSED_STEPS) } else { self.failures };
        self.failures = self.failures.saturating_add(1);
        let asked = loss.retry_after.unwrap_or_default().min(ASKED_MAX);
        let at = now.saturating_add(self.pause(steps).max(asked));
        self.facts.phase = Phase::Waiting(at);
        at
    }

    /// Keeps the silence of a connection that ends.
    fn carry(&mut self, now: Duration) {
        if self.facts.phase == Phase::Open {
            self.carried = now.saturating_sub(self.facts.silent_since);
        }
    }

    /// `2^steps` s, at most [`PAUSE_MAX`], and up to a quarter more or less, so that many do not come at once.
    fn pause(&mut self, steps: u32) -> Duration {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let thousandth = u32::try_from((mixed >> 32) % 500).unwrap_or(0);
        let base = Duration::from_secs(1).saturating_mul(2u32.saturating_pow(steps)).min(PAUSE_MAX);
        base * (750 + thousandth) / 1000
    }
}

#[cfg(test)]
mod tests;
