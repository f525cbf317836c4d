//! When the workspace is only looked at: chiron may not act at all, or a person is at work there.
//!
//! **Invariant:** pure. What cannot be journaled is not begun: healing is no exception.

use crate::app::board::View;
use crate::model::{Name, PLATFORM, Timestamp, WORKSPACE};

/// Maintenance that lets this run lets healing run.
const HEALING: &str = "restore_configuration";

/// Why chiron may begin nothing by itself nor for a person, as far as what was decided last says.
pub(super) fn may_not_act(view: &View) -> Option<String> {
    if view.at == Timestamp::EPOCH {
        return Some("nothing has been decided since the start".to_owned());
    }
    let hinders = |condition: &str| condition.starts_with("journal_") || condition == "actuator_panicked";
    let (condition, why) = view.blind.iter().find(|(condition, _)| hinders(condition))?;
    Some(format!("chiron may not act ({condition}): {why}"))
}

/// Which maintenance covers the workspace and does not let it be healed.
pub(super) fn maintained(view: &View, now: Timestamp) -> Option<String> {
    let windows = view.rules.admit.windows.iter().filter(|window| holds_up(&window.subsystems, &window.actions));
    let announced = view.state.maintenance.iter().filter(|(_, one)| holds_up(&one.subsystems, &one.actions));
    let open = windows.filter(|window| window.open_at(now).is_some()).map(|window| &window.name);
    let name = open.chain(announced.map(|(id, _)| id)).next()?;
    Some(format!("maintenance `{name}` covers the workspace"))
}

fn holds_up(subsystems: &[Name], actions: &[Name]) -> bool {
    let covers = |name: &Name| *name == *PLATFORM || *name == *WORKSPACE;
    (subsystems.is_empty() || subsystems.iter().any(covers)) && actions.iter().all(|action| *action != *HEALING)
}
