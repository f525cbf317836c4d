//! The story of each action and of each recommendation that never ran: why, what it changed, and how it ended.
//!
//! In: the state, as it is or as it was, and why things wait now. Out: what `/api/v1/actions` tells.
//! **Invariant:** pure; every recommendation that is remembered is told of, by its runs or, if it had none, by itself.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::WantedRuns;
use crate::journal::{Episode, Record, Reply, Run, RungOrigin, State};
use crate::model::{EpisodeId, Name, Outcome, Reason, RecommendationState, RunKey, Timestamp};

use super::approvals::means;
use super::board::View;
use super::cycle::Rules;
use super::world::Waiting;

/// What stories are made from.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) state: &'a State,
    pub(super) rules: &'a Rules,
    /// Why things wait; `None` for the past.
    pub(super) waiting: Option<&'a imbl::OrdMap<EpisodeId, Waiting>>,
    pub(super) dry_run: bool,
}

/// What an action is called: one of its runs, or the recommendation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) episode: EpisodeId,
    /// 1-based.
    rung: u32,
    /// 1-based; `None` for the recommendation.
    attempt: Option<u32>,
}

impl Id {
    /// `ISSUE/RUNG/ATTEMPT`, also with `~` for `/`, or `rec_RUNG_ISSUE`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let slashed = if text.contains('/') { text.to_owned() } else { text.replace('~', "/") };
        if let Ok(key) = slashed.parse::<RunKey>() {
            return Some(Self { episode: key.episode, rung: key.rung, attempt: Some(key.attempt) });
        }
        let (rung, episode) = text.strip_prefix("rec_")?.split_once('_')?;
        let rung = rung.parse().ok().filter(|rung| *rung > 0)?;
        (!episode.is_empty()).then(|| Self { episode: episode.into(), rung, attempt: None })
    }

    /// When its issue was opened, as the id says.
    pub(super) fn opened_at(&self) -> Option<Timestamp> {
        // NAME_20251123_013456, with a suffix if that was taken.
        let parts: Vec<&str> = self.episode.split('_').collect();
        let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        let place = parts.windows(2).rposition(|pair| digits(pair[0], 8) && digits(pair[1], 6))?;
        let (day, time) = (parts[place], parts[place + 1]);
        let text = format!("{}-{}-{}T{}:{}:{}Z", &day[..4], &day[4..6], &day[6..], &time[..2], &time[2..4], &time[4..]);
        Timestamp::parse_rfc3339(&text)
    }
}

/// The episode that a record is about, if it is part of an action's story.
pub(super) fn subject(record: &Record) -> Option<&EpisodeId> {
    match record {
        Record::EpisodeOpened { id, .. }
        | Record::EpisodeChanged { id, .. }
        | Record::EpisodeResolved { id }
        | Record::EpisodeEscalated { id, .. } => Some(id),
        Record::RungSkipped { episode, .. } | Record::RecommendationHeld { episode, .. } => Some(episode),
        Record::AlertTaken { episode, .. } => episode.as_ref(),
        Record::AlertBelieved { episode, .. } => Some(episode),
        Record::RunIntended { key, .. }
        | Record::RunStarted { key, .. }
        | Record::RunResumed { key }
        | Record::RunFinished { key, .. }
        | Record::RunVerified { key, .. }
        | Record::RunCancelled { key, .. }
        | Record::RunIndeterminate { key, .. }
        | Record::ApprovalAsked { key, .. }
        | Record::ApprovalEnded { key, .. } => Some(&key.episode),
        _ => None,
    }
}

/// A run, or a recommendation without one.
enum One<'a> {
    Run(&'a Run, Option<&'a Episode>),
    /// And the index of its rung.
    Unrun(&'a Episode, usize),
}

impl One<'_> {
    fn fits(&self, facts: &Facts<'_>, wanted: &WantedRuns<'_>) -> bool {
        let (target, issue, action, outcome) = match self {
            One::Run(run, _) => (&run.target, &run.key.episode, &run.action, run.outcome),
            One::Unrun(episode, index) => {
                let rung = &episode.ladder[*index];
                (&episode.key.subsystem, &episode.id, &rung.action, rung.outcome)
            }
        };
        wanted.subsystem.is_none_or(|wanted| *target == *wanted)
            && wanted.issue.is_none_or(|wanted| *issue == *wanted)
            && wanted.action.is_none_or(|wanted| *action == *wanted)
            && wanted.outcome.is_none_or(|wanted| outcome == Some(wanted))
            && wanted.state.is_none_or(|wanted| wanted == self.state(facts))
    }

    fn state(&self, facts: &Facts<'_>) -> &'static str {
        match self {
            One::Run(run, _) => run.state.as_str(),
            One::Unrun(episode, index) => facts.unrun_state(episode, *index),
        }
    }

    /// Where it is listed: latest first.
    fn place(&self) -> (i64, String) {
        match self {
            One::Run(run, _) => (-run.intended_at.millis(), run.key.to_string()),
            One::Unrun(episode, index) => {
                let at = episode.ladder[*index].recommended_at.unwrap_or_default();
                (-at.millis(), unrun_id(episode, *index))
            }
        }
    }

    fn tell(&self, facts: &Facts<'_>) -> Value {
        match self {
            One::Run(run, episode) => facts.run(run, *episode),
            One::Unrun(episode, index) => facts.unrun(episode, *index),
        }
    }
}

/// The id of a recommendation.
fn unrun_id(episode: &Episode, index: usize) -> String {
    format!("rec_{}_{}", super::recovery::number(index), episode.id)
}

/// What is wanted of all runs that are remembered and of the recommendations without one, latest first. No more is told,
/// which takes most of the time.
pub(super) fn actions(facts: Facts<'_>, wanted: &WantedRuns<'_>) -> Vec<Value> {
    let state = facts.state;
    let ended: HashMap<&EpisodeId, &Arc<Episode>> =
        state.ended_episodes.iter().map(|episode| (&episode.id, episode)).collect();
    let episode = |id: &EpisodeId| state.episodes.get(id).or_else(|| ended.get(id).copied());
    let runs = state.runs.values().chain(state.ended_runs.iter());
    let runs = runs.map(|run| One::Run(run, episode(&run.key.episode).map(|episode| &**episode)));
    let unrun = state.episodes.values().chain(state.ended_episodes.iter()).flat_map(|episode| {
        let rungs = episode.ladder.iter().enumerate();
        rungs
            .filter(|(_, rung)| rung.recommended_at.is_some() && rung.attempts == 0)
            .map(|(index, _)| One::Unrun(episode, index))
    });
    let fitting = runs.chain(unrun).filter(|one| one.fits(&facts, wanted)).map(|one| (one.place(), one));
    let mut told: Vec<((i64, String), One<'_>)> =
        fitting.filter(|(place, _)| wanted.after.is_none_or(|after| place > after)).collect();
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    told.into_iter().take(wanted.limit).map(|(_, one)| one.tell(&facts)).collect()
}

/// The whole story of one, with what happened in order.
pub(super) fn story(facts: Facts<'_>, id: &Id) -> Option<Value> {
    let state = facts.state;
    let episode = || state.ended_episodes.iter().rev().find(|episode| episode.id == id.episode);
    let episode = state.episodes.get(&id.episode).or_else(episode);
    let open = state.runs.values().chain(state.ended_runs.iter());
    let mut runs: Vec<&Run> =
        open.filter(|run| run.key.episode == id.episode && run.key.rung == id.rung).map(|run| &**run).collect();
    runs.sort_by_key(|run| run.key.attempt);
    let index = (id.rung as usize).checked_sub(1)?;
    let run = match id.attempt {
        Some(attempt) => Some(*runs.iter().find(|run| run.key.attempt == attempt)?),
        None => runs.last().copied(),
    };
    let mut value = match (run, episode) {
        (Some(run), episode) => facts.run(run, episode.map(|episode| &**episode)),
        (None, Some(episode)) => {
            episode.ladder.get(index).filter(|rung| rung.recommended_at.is_some())?;
            facts.unrun(episode, index)
        }
        (None, None) => return None,
    };
    let spec = value["action"].as_str().and_then(|action| (facts.rules.catalog)(action));
    value["expected_result"] = json!(spec.map(|spec| spec.expected_result));
    value["risk"] = json!(spec.map(|spec| spec.risk));
    value["runs"] = json!(runs.iter().map(|run| &run.key).collect::<Vec<_>>());
    value["timeline"] = json!(timeline(episode.map(|episode| &**episode), index, &runs));
    Some(value)
}

impl<'a> Facts<'a> {
    /// As things are.
    pub(super) fn of(view: &'a View) -> Self {
        Self { state: &view.state, rules: &view.rules, waiting: Some(&view.waiting), dry_run: view.dry_run }
    }

    /// As things were, in a state made from the journal.
    pub(super) fn past(state: &'a State, view: &'a View) -> Self {
        Self { state, rules: &view.rules, waiting: None, dry_run: view.dry_run }
    }

    fn run(&self, run: &Run, episode: Option<&Episode>) -> Value {
        let key = &run.key;
        let index = (key.rung as usize).saturating_sub(1);
        let mut value = serde_json::to_value(run).unwrap_or_default();
        let verified = run.state == crate::model::RunState::Verified && !run.dry_run;
        let opened = episode.map(|episode| episode.opened_at);
        let since = |from: Option<Timestamp>, to: Option<Timestamp>| Some(to?.since(from?).as_secs_f64());
        let answered = run.ending.is_some() && !run.dry_run;
        let verification = verified.then(|| json!({"outcome": run.outcome, "detail": run.detail, "at": run.closed_at}));
        let recovered = run.closed_at.filter(|_| verified && run.outcome == Some(Outcome::Verified));
        #[expect(clippy::cast_precision_loss, reason = "a run takes less than 2^53 ms")]
        let took = answered.then_some(run.duration_ms as f64 / 1_000.0);
        let reply = episode.and_then(|episode| reply(episode, key.rung, Some(key.attempt)));
        let parts = json!({
            "id": key,
            "verification": verification,
            "to_act": since(opened, run.started_at.filter(|_| !run.dry_run)),
            "duration": took,
            "to_recover": since(opened, recovered),
            "approval": reply.map(told_reply),
            "held": held(episode, key.rung, Some(run.intended_at)),
            "why": why_run(run, episode, reply),
        });
        merge(&mut value, parts);
        let about = self.about(episode, &key.episode, index, &run.action, &run.target);
        merge(&mut value, about);
        value
    }

    /// Where a recommendation without a run stands.
    fn unrun_state(&self, episode: &Episode, index: usize) -> &'static str {
        let rung = super::recovery::number(index);
        let now = self.waiting.and_then(|waiting| waiting.get(&episode.id)).filter(|waiting| waiting.rung == rung);
        let asked = || self.state.questions.contains_key(&RunKey { episode: episode.id.clone(), rung, attempt: 1 });
        match (episode.ladder[index].outcome, now.map(|now| now.state)) {
            (Some(_), _) => "ended",
            (None, Some(RecommendationState::Approval)) => "approval",
            (None, _) if asked() => "approval",
            (None, _) => "waiting",
        }
    }

    fn unrun(&self, episode: &Episode, index: usize) -> Value {
        let rung = &episode.ladder[index];
        let (action, target) = (&rung.action, &episode.key.subsystem);
        let number = super::recovery::number(index);
        let binding = self.rules.bindings.get(&(action.clone(), target.clone()));
        let now = self.waiting.and_then(|waiting| waiting.get(&episode.id)).filter(|waiting| waiting.rung == number);
        let outcome = rung.outcome;
        let note = episode.last_note(number).map(|note| note.reason);
        let reason = match (outcome, note) {
            (None, note) => now.map(|now| now.reason).or(note),
            (Some(Outcome::NotNeeded), Some(Reason::Superseded)) => note,
            (Some(Outcome::NotNeeded), _) => Some(Reason::Resolved),
            (Some(Outcome::Unbound), _) => Some(Reason::Unbound),
            (Some(_), _) => None,
        };
        let key = RunKey { episode: episode.id.clone(), rung: number, attempt: 1 };
        let question = self.state.questions.get(&key);
        let asked = question.map(|question| {
            json!({"how": "pending", "by": null, "reason": null, "asked_at": question.asked_at, "at": null,
                   "expires_at": question.expires_at})
        });
        let reply = reply(episode, number, None);
        let closed_at = outcome.map(|outcome| ended_at(episode, number, outcome));
        let not_before = now.and_then(|now| now.not_before).filter(|_| outcome.is_none());
        let mut value = json!({
            "id": unrun_id(episode, index),
            "key": null,
            "action": action,
            "target": target,
            "binding": binding.map(|binding| &binding.id),
            "class": binding.map(|binding| binding.class),
            "dry_run": self.dry_run,
            "lowers_risk": (self.rules.catalog)(action).is_some_and(|spec| spec.lowers_risk),
            "state": self.unrun_state(episode, index),
            "intended_at": null,
            "not_after": null,
            "started_at": null,
            "ended_at": null,
            "ending": null,
            "detail": "",
            "output": "",
            "outcome": outcome,
            "reason": reason,
            "closed_at": closed_at,
            "crashes": 0,
            "evidence": null,
            "duration_ms": 0,
            "changed": "",
            "before": null,
            "bound": null,
            "answer": "",
            "verification": null,
            "to_act": null,
            "duration": null,
            "to_recover": null,
            "approval": asked.or_else(|| reply.map(told_reply)),
            "held": held(Some(episode), number, None),
            "why": why_not(outcome, reason, not_before, reply),
        });
        merge(&mut value, self.about(Some(episode), &episode.id, index, action, target));
        value
    }

    /// What a run and a recommendation without one have in common.
    fn about(&self, episode: Option<&Episode>, id: &EpisodeId, index: usize, action: &Name, target: &Name) -> Value {
        let binding = self.rules.bindings.get(&(action.clone(), target.clone()));
        let holds = (self.rules.catalog)(action).is_some_and(|spec| spec.holds.is_some());
        let word = binding.map(|binding| binding.actuator.means().as_str()).or(holds.then_some("internal"));
        let rung = episode.and_then(|episode| episode.ladder.get(index));
        let detected = episode.and_then(|episode| Some(episode.opened_at.since(episode.began_at?).as_secs_f64()));
        json!({
            "recommendation_id": format!("rec_{}_{id}", index + 1),
            "recommended_at": rung.and_then(|rung| rung.recommended_at),
            "recommendation_outcome": episode.and_then(|episode| episode.ended(index)),
            "means": word,
            "describe": means(self.rules, action, target),
            "to_detect": detected,
            "issue": episode.map(issue),
        })
    }
}

fn merge(value: &mut Value, more: Value) {
    if let (Value::Object(fields), Value::Object(more)) = (value, more) {
        fields.extend(more);
    }
}

fn issue(episode: &Episode) -> Value {
    let alerts: Vec<Value> = episode
        .told
        .iter()
        .map(|told| json!({"alertname": told.alertname, "fingerprint": told.fingerprint, "at": told.at}))
        .collect();
    json!({
        "id": episode.id,
        "type": episode.key.kind,
        "severity": episode.facts.severity,
        "description": episode.facts.description,
        "source": episode.facts.source,
        "began_at": episode.began_at,
        "opened_at": episode.opened_at,
        "resolved_at": episode.resolved_at,
        "alerts": alerts,
    })
}

/// Why a rung did not run, up to a time.
fn held(episode: Option<&Episode>, rung: u32, until: Option<Timestamp>) -> Vec<Value> {
    let notes = episode.into_iter().flat_map(|episode| &episode.notes);
    notes
        .filter(|note| note.rung == rung && until.is_none_or(|until| note.at <= until))
        .map(|note| json!({"at": note.at, "reason": note.reason, "not_before": note.not_before}))
        .collect()
}

/// The last that became of questions about a rung, or about one try of it.
fn reply(episode: &Episode, rung: u32, attempt: Option<u32>) -> Option<&Reply> {
    let is_it = |reply: &&Reply| reply.rung == rung && attempt.is_none_or(|attempt| reply.attempt == attempt);
    episode.replies.iter().rev().find(is_it)
}

fn told_reply(reply: &Reply) -> Value {
    json!({"how": reply.how, "by": reply.by, "reason": reply.reason, "asked_at": reply.asked_at, "at": reply.at,
           "expires_at": null})
}

/// When a recommendation without a run came to its end.
fn ended_at(episode: &Episode, rung: u32, outcome: Outcome) -> Timestamp {
    let said = match outcome {
        Outcome::Rejected => reply(episode, rung, None).map(|reply| reply.at),
        Outcome::NotNeeded => {
            let ends = |reason| matches!(reason, Reason::Superseded | Reason::Resolved);
            episode.last_note(rung).filter(|note| ends(note.reason)).map(|note| note.at)
        }
        _ => None,
    };
    said.or(episode.resolved_at).unwrap_or(episode.opened_at)
}

fn origin(episode: &Episode, index: usize) -> String {
    match episode.ladder.get(index).map(|rung| &rung.origin) {
        Some(RungOrigin::Alert(by) | RungOrigin::AlertIfConfirmed(by)) => {
            let name =
                episode.told.iter().find(|told| told.fingerprint == *by).map_or("an alert", |told| &told.alertname);
            format!("alert {name} asks for it")
        }
        Some(RungOrigin::Undo(rung)) => format!("it undoes rung {rung}, which made things worse"),
        Some(RungOrigin::Reverse(run)) => format!("it undoes {run}, whose issue is over"),
        Some(RungOrigin::Ladder) | None => format!("rung {} of the ladder", index + 1),
    }
}

fn why_run(run: &Run, episode: Option<&Episode>, reply: Option<&Reply>) -> String {
    let index = (run.key.rung as usize).saturating_sub(1);
    let cause = episode.map_or_else(
        || format!("issue {}", run.key.episode),
        |episode| {
            format!("{} ({}); {}", episode.facts.description, episode.facts.severity.as_str(), origin(episode, index))
        },
    );
    let by = match reply.filter(|reply| reply.how == crate::journal::ApprovalEnd::Approved) {
        Some(reply) => format!("; approved by {}", reply.by),
        None => String::new(),
    };
    let not = match run.reason {
        Some(reason) => format!("; not begun: {}", reason.as_str()),
        None if run.dry_run => "; only rehearsed: dry-run".to_owned(),
        None => String::new(),
    };
    format!("{cause}{by}{not}")
}

fn why_not(
    outcome: Option<Outcome>,
    reason: Option<Reason>,
    not_before: Option<Timestamp>,
    reply: Option<&Reply>,
) -> String {
    match (outcome, reason) {
        (None, reason) => {
            let until = not_before.map_or_else(String::new, |at| format!(" until {at}"));
            format!("waits: {}{until}", reason.map_or("for its turn", Reason::as_str))
        }
        (Some(Outcome::NotNeeded), Some(Reason::Superseded)) => {
            "never ran: another recommendation took its place".to_owned()
        }
        (Some(Outcome::NotNeeded), _) => "never ran: the need for it passed first".to_owned(),
        (Some(Outcome::Unbound), _) => "never ran: nothing is bound to it".to_owned(),
        (Some(Outcome::Rejected), _) => match reply {
            Some(reply) if reply.reason.is_empty() => format!("never ran: rejected by {}", reply.by),
            Some(reply) => format!("never ran: rejected by {}: {}", reply.by, reply.reason),
            None => "never ran: a person rejected it".to_owned(),
        },
        (Some(outcome), _) => format!("never ran: {}", outcome.as_str()),
    }
}

/// What happened about a recommendation, in order.
fn timeline(episode: Option<&Episode>, index: usize, runs: &[&Run]) -> Vec<Value> {
    let rung = super::recovery::number(index);
    let mut told: Vec<(Timestamp, &str, String)> = Vec::new();
    if let Some(episode) = episode {
        let began = episode.began_at.into_iter();
        told.extend(began.map(|at| (at, "trouble began", "at the earliest".to_owned())));
        told.push((episode.opened_at, "issue opened", episode.facts.description.clone()));
        told.extend(episode.told.iter().map(|alert| (alert.at, "alert taken", alert.alertname.clone())));
        let recommended = episode.ladder.get(index).and_then(|rung| rung.recommended_at);
        told.extend(recommended.map(|at| (at, "recommended", origin(episode, index))));
        for note in episode.notes.iter().filter(|note| note.rung == rung) {
            let until = note.not_before.map_or_else(String::new, |at| format!(" until {at}"));
            told.push((note.at, "held", format!("{}{until}", note.reason.as_str())));
        }
        for reply in episode.replies.iter().filter(|reply| reply.rung == rung) {
            told.push((reply.asked_at, "approval asked for", String::new()));
            let why = if reply.reason.is_empty() { String::new() } else { format!(": {}", reply.reason) };
            told.push((reply.at, "approval ended", format!("{} by {}{why}", reply.how.as_str(), reply.by)));
        }
    }
    for run in runs {
        let before = run.before.as_ref().map_or_else(String::new, |before| format!("target was {}", before.status));
        told.push((run.intended_at, "decided", before));
        if run.dry_run {
            told.extend(run.closed_at.map(|at| (at, "rehearsed", run.detail.clone())));
            continue;
        }
        told.extend(run.started_at.map(|at| (at, "begun", String::new())));
        if let Some((at, ending)) = run.ended_at.zip(run.ending) {
            let changed = if run.changed.is_empty() { String::new() } else { format!("; changed: {}", run.changed) };
            let ending = serde_json::to_value(ending).unwrap_or_default();
            let said = format!("{}: {}{changed}", ending.as_str().unwrap_or_default(), run.answer);
            told.push((at, "answered", said));
        }
        if let Some((at, outcome)) = run.closed_at.zip(run.outcome) {
            let detail = run.reason.map_or(run.detail.as_str(), |reason| reason.as_str());
            told.push((at, outcome.as_str(), detail.to_owned()));
        }
    }
    told.extend(episode.and_then(|episode| Some((episode.resolved_at?, "issue resolved", String::new()))));
    // What comes at the same time stays in the order of the steps above.
    told.sort_by_key(|(at, ..)| *at);
    told.into_iter().map(|(at, what, detail)| json!({"at": at, "what": what, "detail": detail})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs and recommendations have names that can be told apart, whatever the subsystem is called.
    #[test]
    fn ids() {
        let id = |text: &str| Id::parse(text).map(|id| (id.episode.to_string(), id.rung, id.attempt));
        let issue = "order_router_20251123_013456".to_owned();
        assert_eq!(id("order_router_20251123_013456/2/1"), Some((issue.clone(), 2, Some(1))));
        assert_eq!(id("order_router_20251123_013456~2~1"), Some((issue.clone(), 2, Some(1))));
        assert_eq!(id("rec_2_order_router_20251123_013456"), Some((issue, 2, None)));
        for bad in ["", "order_router", "rec_0_x", "rec_x_y", "rec_1_", "/1/1", "x/1", "x/1/a"] {
            assert_eq!(id(bad), None, "{bad}");
        }
        let opened = |text: &str| Id::parse(text).and_then(|id| id.opened_at()).map(Timestamp::rfc3339);
        let at = Timestamp::parse_rfc3339("2025-11-23T01:34:56Z").map(Timestamp::rfc3339);
        assert_eq!(opened("rec_1_a_20251123_013456_2"), at);
        assert_eq!(opened("a_20251123_013456/1/1"), at);
        assert_eq!(opened("a/1/1"), None);
    }
}
