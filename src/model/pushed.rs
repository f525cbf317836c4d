//! What a bot tells about itself without being asked (OBS-7 push, OBS-9).

use serde_json::{Map, Value};

use super::{Name, Status, Timestamp};

/// One heartbeat or one set of vitals.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// The subsystem whose check takes pushes.
    pub name: Name,
    /// When it reached us.
    pub at: Timestamp,
    /// What the sender says of itself; `None` counts as healthy for as long as it is fresh.
    pub status: Option<Status>,
    /// One line for people.
    pub message: String,
    /// Its vitals, as sent; empty for a bare heartbeat.
    pub vitals: Map<String, Value>,
}
