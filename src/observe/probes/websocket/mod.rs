//! A WebSocket connection that is kept open: what it is like, and what was seen of it (EXC-1).
//!
//! ```text
//! session (sockets) --events--> protocol::Machine (pure) --actions--> session
//!                                      |
//!                                      v
//!                            Facts, read by the check
//! ```
//!
//! **Invariant:** ages come from the time since boot, so that no jump of the wall clock makes data young or old; whatever
//! the other side sends, memory and time are bounded, and a connection is open or about to be tried again.

pub mod pattern;
pub mod protocol;
pub mod rate;
pub mod session;
mod stream;

pub use pattern::{Pattern, Patterns};
pub use protocol::{Auth, Expected, Facts, Machine, Phase, Ping, Plan};
pub use session::{Link, Reading, Target, keep};
