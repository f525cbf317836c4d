//! The registry of actions; one file per verb.

use crate::model::ActionSpec;

/// Every action, in the order of SPEC 6.
pub const ACTIONS: [&ActionSpec; 0] = [];

/// The action of that name.
pub fn action(name: &str) -> Option<&'static ActionSpec> {
    ACTIONS.into_iter().find(|spec| spec.name == name)
}
