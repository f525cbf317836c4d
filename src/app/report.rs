//! The report of SPEC 12 from what readers see.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::detect::rules::RULES;
use crate::journal::Episode;
use crate::model::{
    EpisodeId, HOST, Health, Level, Name, Offer, PLATFORM, PointsReport, Recommendation, RecommendationState, Report,
    RunKey, Severity, SourceHold, Status, WORKSPACE,
};
use crate::policy::{
    self,
    document::{REASONS_MAX, Reasons},
};
use crate::recommend::{self, selection::Proposal};

use super::board::View;
use super::cycle::Rules;
use super::episodes::issue_of;

/// Open episodes in detection order: the table's, then resources, then the platform, then the workspace, then what only alerts know, each by age.
fn in_detection_order(view: &View) -> Vec<&Arc<Episode>> {
    let place = |episode: &Episode| {
        let table = view.rules.subsystems.iter().position(|subsystem| subsystem.name == episode.key.subsystem);
        let rule = RULES.iter().position(|rule| episode.key.kind == rule.kind).unwrap_or(RULES.len());
        let beside = match episode.key.subsystem.as_str() {
            HOST => usize::MAX - 3,
            PLATFORM => usize::MAX - 2,
            WORKSPACE => usize::MAX - 1,
            _ => usize::MAX,
        };
        (table.unwrap_or(beside), rule)
    };
    let mut episodes: Vec<&Arc<Episode>> = view.state.episodes.values().collect();
    episodes.sort_by_cached_key(|episode| (place(episode), episode.opened_at, episode.id.clone()));
    episodes
}

/// The whole report.
pub fn report(view: &View, healths: &[Arc<Health>], points: &[Arc<Health>]) -> Report {
    let by_name: BTreeMap<&str, &Arc<Health>> =
        healths.iter().map(|health| (health.subsystem.as_str(), health)).collect();
    let episodes = in_detection_order(view);
    let issues = episodes
        .iter()
        .map(|episode| issue_of(episode, by_name.get(episode.key.subsystem.as_str()).map(|health| &***health)))
        .collect();
    let mut recommendations: Vec<Recommendation> =
        episodes.iter().filter_map(|episode| recommendation(view, episode)).collect();
    recommendations.sort_by_key(|recommendation| recommendation.priority);
    let critical = view.state.episodes.values().any(|episode| episode.facts.severity == Severity::Critical);
    Report {
        timestamp: view.at,
        overall_status: view.overall,
        current_safety_policy: view.policy.policy,
        subsystem_health: healths.iter().map(|health| (health.subsystem.to_string(), (**health).clone())).collect(),
        detected_issues: issues,
        recovery_recommendations: recommendations,
        trading_should_continue: view.policy.policy <= Level::SafeRiskProfile,
        requires_immediate_action: critical || matches!(view.overall, Status::Critical | Status::Failed),
        summary: view.summary,
        failure_points: PointsReport::of(points.iter().map(|health| &**health), &view.rules.failure_points),
    }
}

/// The recommendation for an episode's next rung, if it has one (REC-2).
pub fn recommendation(view: &View, episode: &Episode) -> Option<Recommendation> {
    let waiting = view.waiting.get(&episode.id)?;
    let rung = episode.ladder.get((waiting.rung as usize).checked_sub(1)?)?;
    let spec = (view.rules.catalog)(&rung.action)?;
    let proposal = Proposal {
        issue_id: &episode.id,
        subsystem: &episode.key.subsystem,
        severity: episode.facts.severity,
        problem: &episode.facts.description,
        rung: waiting.rung,
        spec,
        autonomy: rung.autonomy,
    };
    let mut recommendation = recommend::recommendation(&proposal, waiting.state, waiting.reason, waiting.not_before);
    if waiting.state == RecommendationState::Approval {
        recommendation.approval = offer(view, &episode.id, waiting.rung);
    }
    Some(recommendation)
}

/// What a person is asked to approve for a rung.
fn offer(view: &View, id: &EpisodeId, rung: u32) -> Option<Offer> {
    let from = RunKey { episode: id.clone(), rung, attempt: 0 };
    let (_, question) =
        view.state.questions.range(from..).next().filter(|(key, _)| key.episode == *id && key.rung == rung)?;
    Some(Offer {
        digest: question.digest.clone(),
        means: super::approvals::means(&view.rules, &question.action, &question.target),
        asked_at: question.asked_at,
        expires_at: question.expires_at,
    })
}

/// Action and state of every open recommendation, for the exporter.
pub fn recommendation_states(view: &View) -> Vec<(Name, RecommendationState)> {
    view.waiting
        .iter()
        .filter_map(|(id, waiting)| {
            let episode = view.state.episodes.get(id)?;
            let rung = episode.ladder.get((waiting.rung as usize).checked_sub(1)?)?;
            Some((rung.action.clone(), waiting.state))
        })
        .collect()
}

/// What the state holds, as the policy document lists it; of very many, the strictest.
fn source_holds(state: &crate::journal::State) -> Vec<SourceHold> {
    let mut holds: Vec<_> = state.holds.iter().collect();
    if holds.len() > REASONS_MAX {
        holds.select_nth_unstable_by(REASONS_MAX - 1, |a, b| b.1.level.cmp(&a.1.level).then_with(|| a.0.cmp(b.0)));
        holds.truncate(REASONS_MAX);
    }
    holds
        .into_iter()
        .map(|(key, hold)| SourceHold {
            source: key.source,
            subject: key.subject.to_string(),
            level: hold.level,
            reason: hold.reason.clone(),
            since: hold.since,
            until: hold.until,
        })
        .collect()
}

/// The policy document of a state.
pub fn policy_document(
    state: &crate::journal::State,
    rules: &Rules,
    sequence: u64,
    now: crate::model::Timestamp,
) -> crate::model::PolicyDocument {
    let mut holds = source_holds(state);
    if let Some(reason) = &state.latch {
        // A latch outlives what closed it, and is told as a reason of its own.
        holds.push(SourceHold {
            source: crate::model::PolicySource::Evaluation,
            subject: "latch".to_owned(),
            level: Level::EmergencyShutdown,
            reason: format!("latched until a person releases it: {reason}"),
            since: state.latched_at,
            until: None,
        });
    }
    let levels = state.holds.values().map(|hold| hold.level);
    let held = state.holds.len() + usize::from(state.latch.is_some());
    let reasons = Reasons { strictest: holds, held };
    policy::document::document(
        levels,
        reasons,
        state.latch.is_some(),
        sequence,
        state.policy_changed_at,
        &rules.policy,
        now,
    )
}
