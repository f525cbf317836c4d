//! Maintenance in the cycle: windows that open by their plan, and what people announce.
//!
//! **Invariant:** maintenance only holds back. What lowers risk and what a person approves runs in it as always; while the
//! clock is not to be trusted nothing that was announced ends by itself.

use std::time::Duration;

use crate::admit::window::{Window, holds_up};
use crate::journal::{Record, State};
use crate::model::{Caller, HOST, Name, Reason, Timestamp};

use super::cycle::{Cycle, Refused, TICK};
use super::draft::Draft;
use super::world::WindowSeen;

/// Announcements in force at once.
const ANNOUNCED_MAX: usize = 100;
/// The longest one.
pub const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// Maintenance that a person announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// On which subsystems; empty for all.
    pub subsystems: Vec<String>,
    /// What may run all the same.
    pub actions: Vec<String>,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Who.
    pub by: Caller,
    /// Why.
    pub reason: String,
}

impl Cycle {
    /// Sees which windows are open now, and ends announcements whose time is up.
    pub(super) fn note_maintenance(&mut self, draft: &mut Draft) {
        let mut moved = false;
        let seen = &mut self.world.windows;
        seen.resize(self.rules.admit.windows.len(), None);
        for (window, seen) in self.rules.admit.windows.iter().zip(seen) {
            if seen.is_none_or(|seen| draft.now < seen.at || draft.now >= seen.until) {
                let now = look_at(window, draft.now);
                moved |= seen.is_none_or(|before| before.open != now.open);
                *seen = Some(now);
            }
        }
        if !self.world.blind.contains_key("clock_jump") {
            let over = draft.state.maintenance.iter().filter(|(_, announced)| announced.until <= draft.now);
            let over: Vec<Name> = over.map(|(id, _)| id.clone()).collect();
            for id in over {
                moved = true;
                draft.push(Record::MaintenanceEnded { id, by: None, reason: None });
            }
        }
        if moved {
            self.world.rouse(|reason| reason == Reason::Maintenance);
        }
    }

    /// Until when maintenance holds up an action on a target, if it does.
    pub(super) fn maintenance_until(&self, draft: &Draft, target: &Name, action: &Name) -> Option<Timestamp> {
        let windows = self.rules.admit.windows.iter().zip(&self.world.windows);
        let planned = windows
            .filter(|(window, _)| holds_up(&window.subsystems, &window.actions, target, action))
            .filter_map(|(_, seen)| seen.filter(|seen| seen.open).map(|seen| seen.until));
        let announced = draft.state.maintenance.values();
        let announced = announced
            .filter(|one| holds_up(&one.subsystems, &one.actions, target, action))
            // What should be over, and is not because of the clock, is looked at again.
            .map(|one| if one.until > draft.now { one.until } else { draft.now.plus(TICK) });
        planned.chain(announced).max()
    }

    /// Announces maintenance; its id.
    pub(super) fn announce(&mut self, draft: &mut Draft, wish: &Announcement) -> Result<String, Refused> {
        let conflict = |why: String| Err(Refused::Conflict(why));
        if wish.reason.trim().is_empty() || wish.by.name.trim().is_empty() {
            return conflict("maintenance is announced with a reason and a name".to_owned());
        }
        if wish.until <= draft.now || wish.until > draft.now.plus(LONGEST) {
            let days = LONGEST.as_secs() / 86_400;
            return conflict(format!(
                "found an end at {}, expected one that is to come, within the next {days} days",
                wish.until
            ));
        }
        let known = |name: &String| *name == *HOST || self.world.index.contains_key(name.as_str());
        if let Some(name) = wish.subsystems.iter().find(|name| !known(name)) {
            return Err(Refused::NotFound(format!("no subsystem `{name}` is configured and enabled")));
        }
        if let Some(name) = wish.actions.iter().find(|name| (self.rules.catalog)(name).is_none()) {
            return Err(Refused::NotFound(format!("there is no action `{name}`")));
        }
        if draft.state.maintenance.len() >= ANNOUNCED_MAX {
            return conflict(format!("{ANNOUNCED_MAX} announcements are in force; end one first"));
        }
        let id = new_id(&draft.state, draft.now);
        let names = |list: &[String]| list.iter().map(|name| Name::from(name.as_str())).collect();
        draft.push(Record::MaintenanceSet {
            id: id.clone(),
            subsystems: names(&wish.subsystems),
            actions: names(&wish.actions),
            until: wish.until,
            by: wish.by.name.clone(),
            reason: wish.reason.clone(),
        });
        Ok(id.to_string())
    }

    /// Ends announced maintenance early: things run again.
    pub(super) fn end_maintenance(
        &mut self,
        draft: &mut Draft,
        id: &str,
        by: &str,
        reason: &str,
    ) -> Result<String, Refused> {
        if !draft.state.maintenance.contains_key(id) {
            let why =
                format!("no announced maintenance `{id}` is in force; a window ends by its plan, see `maintenance`");
            return Err(Refused::NotFound(why));
        }
        self.may_loosen()?;
        draft.push(Record::MaintenanceEnded {
            id: id.into(),
            by: Some(by.to_owned()),
            reason: (!reason.is_empty()).then(|| reason.to_owned()),
        });
        self.world.rouse(|reason| reason == Reason::Maintenance);
        Ok(id.to_owned())
    }
}

/// Whether a window is open, and until when that is so.
fn look_at(window: &Window, now: Timestamp) -> WindowSeen {
    match window.open_at(now) {
        Some((_, until)) => WindowSeen { at: now, until, open: true },
        None => WindowSeen { at: now, until: window.plan.after(now).unwrap_or(now.plus(LONGEST)), open: false },
    }
}

fn new_id(state: &State, now: Timestamp) -> Name {
    let base = format!("maintenance_{}", now.to_datetime().format("%Y%m%d_%H%M%S"));
    let others = (2..).map(|suffix: u32| format!("{base}_{suffix}"));
    let free = std::iter::once(base.clone()).chain(others).find(|id| !state.maintenance.contains_key(id.as_str()));
    free.unwrap_or(base).into()
}
