//! What the bot may do: levels held by sources, their join, slow relaxing, the latch.
//!
//! In: overall status, open issues, alerts, blindness. Out: which level each source wants ([`evaluation`]), when a held
//! level may fall ([`relax`]), the document a bot obeys ([`document`]), and when it is told
//! ([`hooks`]).
//! **Invariant:** pure. The join only tightens; a held level never falls here without proof.

pub mod document;
pub mod evaluation;
pub mod hooks;
pub mod relax;

use std::time::Duration;

use crate::model::Level;

/// How the policy moves (POL-3, POL-4, POL-5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Healthy cycles before a hold relaxes; default 3.
    pub relax_after_cycles: u32,
    /// Least time a level is held; default 60 s.
    pub min_hold: Duration,
    /// What blindness holds; default `no_new_trades`, never above it.
    pub blindness_level: Level,
    /// How long a copy of the policy is valid; default 30 s, 5 s to 120 s.
    pub validity: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            relax_after_cycles: 3,
            min_hold: Duration::from_secs(60),
            blindness_level: Level::NoNewTrades,
            validity: Duration::from_secs(30),
        }
    }
}
