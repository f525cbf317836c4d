//! Stage 3: issues to ranked recommendations.
//!
//! In: an issue's subsystem, type and severity. Out: its ladder, and the recommendation of the rung that is next.
//! **Invariant:** pure; the catalog of actions is passed in.

pub mod ladder;
pub mod selection;

pub use ladder::{Next, RungView, next};
pub use selection::{Step, autonomy, furthest, ladder_for, only_asks, only_overdue, own_ladder, recommendation};

use std::collections::BTreeMap;

use crate::model::{Autonomy, Name, Severity};

/// How recommendations are chosen (REC-1, DET-5). By default nothing runs by itself that the settings must allow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `restart_subsystem` may run by itself; default false.
    pub auto_restart_enabled: bool,
    /// `pause_trading` may run by itself; default false.
    pub auto_pause_on_critical: bool,
    /// `disable_module` may be the last rung of other subsystems' ladder; default false.
    pub allow_disable_module: bool,
    /// How far actions may go alone, where the operator says so (`actions.NAME.autonomy`).
    pub autonomy: BTreeMap<Name, Autonomy>,
    /// Ladders of the operator; the first that matches wins over the built-in ones.
    pub ladders: Vec<Ladder>,
}

/// An operator's ladder (`recovery.ladders` in the settings).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Only for this subsystem.
    pub subsystem: Option<Name>,
    /// Only for this issue type.
    pub kind: Option<Name>,
    /// Only for this severity.
    pub severity: Option<Severity>,
    /// The actions, mildest first; names of known actions.
    pub actions: Vec<Name>,
}
