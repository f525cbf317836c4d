//! The pause before the same target is touched again, counted from the end of the last action.

use crate::model::Timestamp;

use super::Settings;

/// When the pause ends, if it has not. An end in the future (the clock went back) counts as now: a jump never
/// shortens a pause.
pub(super) fn until(ended_at: Option<Timestamp>, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    let until = ended_at?.min(now).plus(settings.cooldown);
    (now < until).then_some(until)
}
