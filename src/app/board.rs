//! What readers see: the latest state and health, without waiting for the decision task.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Serialize;

use crate::journal::State;
use crate::model::{
    Ending, EpisodeId, Health, Level, Name, PolicyDocument, PolicySource, Resources, SourceHold, Status, Summary,
    Timestamp,
};

use crate::observe::failure_points::POINTS;

use super::cycle::Rules;
use super::world::Waiting;

/// One consistent picture, published after each step.
#[derive(Clone, Debug)]
pub struct View {
    /// When it was made.
    pub at: Timestamp,
    /// The durable state.
    pub state: State,
    /// The settings it was decided under.
    pub rules: Arc<Rules>,
    /// The overall status.
    pub overall: Status,
    /// Counts per status.
    pub summary: Summary,
    /// Every check has answered since the start.
    pub started_up: bool,
    /// The host as last read.
    pub resources: Option<Arc<Resources>>,
    /// Every quantity that is followed, and when it is expected to cross its limit.
    pub forecasts: crate::model::Forecasts,
    /// Why each episode's next rung waits.
    pub waiting: imbl::OrdMap<EpisodeId, Waiting>,
    /// The policy.
    pub policy: Arc<PolicyDocument>,
    /// Conditions of blindness: name and why.
    pub blind: Vec<(String, String)>,
    /// Whether it acts on nothing.
    pub dry_run: bool,
    /// Whether too much is broken at once, so that only root causes are acted upon.
    pub stormy: bool,
    /// The policy's hooks.
    pub hooks: Vec<HookView>,
    /// The workspace has been looked at since the decision task began, or need not be.
    pub workspace_seen: bool,
}

/// A hook of the policy as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookView {
    /// Which.
    pub hook: Name,
    /// `idle`, `telling`, `followed`, `unproven`, `late` or `dry_run`.
    pub state: &'static str,
    /// What it does, one line.
    pub means: String,
    /// Whether the bot can be seen to follow.
    pub proof: bool,
    /// It is part of an issue.
    pub late: bool,
    /// The policy told last.
    pub policy: Option<Level>,
    /// Since when it is to be told.
    pub since: Option<Timestamp>,
    /// When it was told last.
    pub told_at: Option<Timestamp>,
    /// How often.
    pub attempts: u32,
    /// How the means answered last.
    pub ending: Option<Ending>,
    /// What it said.
    pub detail: String,
    /// When the bot was seen to follow.
    pub followed_at: Option<Timestamp>,
    /// Why it was not, when last looked at.
    pub seen: String,
}

/// The place where the decision task puts what readers take. One slot per subsystem, so that one change costs one
/// slot however many there are.
#[derive(Debug)]
pub struct Board {
    /// By index in the settings.
    pub healths: Box<[ArcSwap<Health>]>,
    /// The failure points, by index in the settings.
    pub points: Box<[ArcSwap<Health>]>,
    /// The rest.
    pub view: ArcSwap<View>,
}

impl Board {
    /// A board that shows `view` and unknown health.
    pub fn new(view: View) -> Self {
        let healths = view
            .rules
            .subsystems
            .iter()
            .map(|subsystem| ArcSwap::from_pointee(Health::unknown(subsystem.name.clone())))
            .collect();
        let points = view
            .rules
            .failure_points
            .iter()
            .map(|point| ArcSwap::from_pointee(Health::unknown(point.category.clone())))
            .collect();
        Self { healths, points, view: ArcSwap::from_pointee(view) }
    }

    /// The picture as it counts at `now`. Once the policy's lease has run out nobody decides: what was in force then is no
    /// longer known to hold, so new exposure is forbidden and the overall status is unknown.
    pub fn view_at(&self, now: Timestamp) -> Arc<View> {
        let view = self.view.load_full();
        if now <= view.policy.valid_until {
            return view;
        }
        let mut policy = PolicyDocument::clone(&view.policy);
        let floor = Level::NoNewTrades;
        policy.policy = policy.policy.max(floor);
        policy.restrictions = policy.restrictions.join(floor.restrictions());
        policy.reasons.push(SourceHold {
            source: PolicySource::Blindness,
            subject: "lease_expired".to_owned(),
            level: floor,
            reason: format!("nothing has been decided since {}", view.at),
            since: view.policy.valid_until,
            until: None,
        });
        Arc::new(View { policy: Arc::new(policy), overall: Status::Unknown, ..View::clone(&view) })
    }

    /// What was last found at every failure point, in the order of the registry; unknown where none is configured.
    pub fn points(&self) -> Vec<Arc<Health>> {
        POINTS
            .iter()
            .map(|spec| {
                let found =
                    self.points.iter().map(ArcSwap::load_full).find(|health| health.subsystem == *spec.category);
                found.unwrap_or_else(|| Arc::new(Health::unknown(spec.category.into())))
            })
            .collect()
    }

    /// Every subsystem's health now, by index.
    pub fn healths(&self) -> Vec<Arc<Health>> {
        self.healths.iter().map(ArcSwap::load_full).collect()
    }
}
