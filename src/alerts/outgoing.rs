//! chiron's own alerts: which are wanted now, and what is posted to an Alertmanager (ALR-3, ACT-5, REC-1).
//!
//! In: open issues, what waits for a person, the policy. Out: the whole set of alerts, each round anew, with an expiry,
//! so that a chiron that dies is not believed for long.
//! **Invariant:** pure; labels come from bounded sets (identities of issues are annotations), the number of alerts is
//! bounded, and no text of a check's output or of a foreign alert is repeated.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{OWN_SOURCE, Sending};
use crate::base::tree::redact;
use crate::model::{
    Issue, Level, PolicyDocument, PolicySource, Reason, Recommendation, RecommendationState, Severity, Timestamp,
    is_forecast,
};

/// Most alerts wanted at once; of more, the worst and oldest, and one that says so.
pub const WANTED_MAX: usize = 500;
/// An alert expires this many resend intervals after the last word, as Prometheus' own do.
const EXPIRES_AFTER: u32 = 4;
/// Longest text of an annotation, in characters.
const TEXT_MAX: usize = 512;
/// Reasons told of a policy.
const REASONS_TOLD: usize = 5;
/// What a start holds by itself is told only if it lasts longer than this.
const STARTUP_QUIET: Duration = Duration::from_secs(60);

/// Label names that chiron sets itself.
pub const RESERVED: [&str; 9] =
    ["alertname", "severity", "source", "subsystem", "issue_type", "symbol", "reason", "action", "policy"];

/// The identity of an alert.
pub type Labels = BTreeMap<String, String>;

/// An open issue and what is to be told about it.
#[derive(Clone, Debug)]
pub struct Case {
    /// The issue.
    pub issue: Issue,
    /// Why a person was told, if one was.
    pub escalated: Option<Reason>,
    /// What is proposed next.
    pub recommendation: Option<Recommendation>,
}

/// What readers see, as far as it matters.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Every open issue.
    pub cases: &'a [Case],
    /// The policy in force.
    pub policy: &'a PolicyDocument,
    /// chiron acts on nothing.
    pub dry_run: bool,
    /// The time.
    pub now: Timestamp,
}

/// What is told beside the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Since when.
    pub starts_at: Timestamp,
    /// `summary`, `description` and further ones.
    pub annotations: BTreeMap<String, String>,
    /// Where it is to be seen, below chiron's address.
    pub path: String,
}

/// Every alert that is wanted now.
pub fn outgoing(facts: &Facts<'_>, sending: &Sending) -> BTreeMap<Labels, Wanted> {
    let mut cases: Vec<&Case> = facts.cases.iter().filter(|case| !told_of(case).is_empty()).collect();
    cases.sort_by(|a, b| {
        let key = |case: &Case| (case.issue.timestamp, case.issue.issue_id.clone());
        b.issue.severity.cmp(&a.issue.severity).then_with(|| key(a).cmp(&key(b)))
    });
    let mut wanted = BTreeMap::new();
    let mut omitted = 0_usize;
    for case in cases {
        for kind in told_of(case) {
            if wanted.len() == WANTED_MAX {
                omitted += 1;
                continue;
            }
            let (labels, alert) = of_case(kind, case, facts, sending);
            wanted.insert(labels, alert);
        }
    }
    if omitted > 0 {
        let labels = labels(sending, "ChironAlertsOmitted", "warning", &[]);
        let summary = format!("{omitted} further alerts of chiron are not sent");
        let told = [("summary", summary), ("description", format!("At most {WANTED_MAX} are sent at once."))];
        wanted.insert(labels, alert(facts.now, &told, "api/v1/issues".to_owned(), sending));
    }
    wanted.extend(of_policy(facts, sending));
    wanted
}

/// The kinds of alert about an issue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Critical,
    Escalation(Reason),
    Manual,
    Forecast,
}

fn told_of(case: &Case) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if is_forecast(&case.issue.key.kind) {
        // Nothing is broken yet, whatever is proposed about it.
        return vec![Kind::Forecast];
    }
    if case.issue.severity == Severity::Critical {
        kinds.push(Kind::Critical);
    }
    kinds.extend(case.escalated.map(Kind::Escalation));
    if case.recommendation.as_ref().is_some_and(waits_for_person) {
        kinds.push(Kind::Manual);
    }
    kinds
}

/// Whether nothing happens before a person has done something.
fn waits_for_person(recommendation: &Recommendation) -> bool {
    recommendation.state == RecommendationState::Approval
        || matches!(recommendation.reason, Reason::Manual | Reason::ApprovalPending | Reason::Unbound)
}

fn of_case(kind: Kind, case: &Case, facts: &Facts<'_>, sending: &Sending) -> (Labels, Wanted) {
    let issue = &case.issue;
    let (subsystem, heavy) = (issue.key.subsystem.as_str(), issue.severity >= Severity::High);
    let mut told =
        vec![("issue_id", issue.issue_id.to_string()), ("issue_severity", issue.severity.as_str().to_owned())];
    let mut further = vec![("subsystem", subsystem), ("issue_type", issue.key.kind.as_str())];
    further.extend(issue.key.symbol.as_ref().map(|symbol| ("symbol", symbol.as_str())));
    let (name, severity, mut description) = match kind {
        Kind::Critical => {
            told.push(("summary", issue.description.clone()));
            ("ChironCriticalIssue", "critical", about(issue))
        }
        Kind::Forecast => {
            told.push(("summary", issue.description.clone()));
            let text = "It goes by the trend, and ends by itself if that does, or when the limit is crossed.";
            ("ChironForecast", "info", text.to_owned())
        }
        Kind::Escalation(reason) => {
            further.push(("reason", reason.as_str()));
            told.push(("summary", format!("a person is needed for {subsystem}: {}", issue.description)));
            ("ChironEscalation", if heavy { "critical" } else { "warning" }, advice(reason).to_owned())
        }
        Kind::Manual => {
            let recommendation = case.recommendation.as_ref().expect("this kind is told of a recommendation only");
            further.extend([("action", recommendation.action.as_str()), ("reason", recommendation.reason.as_str())]);
            let id = &recommendation.recommendation_id;
            told.push(("summary", format!("{} on {subsystem} waits for a person", recommendation.action)));
            told.push(("recommendation_id", id.clone()));
            let what = match recommendation.reason {
                Reason::Unbound => {
                    format!("Bind {} on {subsystem} under `bindings`, or do it by hand.", recommendation.action)
                }
                Reason::Manual => "chiron never does this by itself; do it by hand if it is right.".to_owned(),
                _ => format!("Approve or reject it: `chiron approve {id}`."),
            };
            (
                "ChironManualRecommendation",
                if heavy { "warning" } else { "info" },
                format!("{}. {what}", issue.description),
            )
        }
    };
    if facts.dry_run {
        description.push_str(" Dry-run: chiron acts on nothing.");
    }
    told.push(("description", description));
    let path = match kind {
        Kind::Manual => "api/v1/recommendations".to_owned(),
        _ => format!("api/v1/issues/{}", issue.issue_id),
    };
    (labels(sending, name, severity, &further), alert(issue.timestamp, &told, path, sending))
}

fn about(issue: &Issue) -> String {
    let mut text = format!("Open since {}.", issue.timestamp);
    if issue.impacts_trading {
        text.push_str(" Trading suffers.");
    }
    if let Some(root) = &issue.root_cause {
        text.push_str(&format!(" It depends on {root}, which is broken."));
    }
    if !issue.affects_subsystems.is_empty() {
        let names: Vec<&str> = issue.affects_subsystems.iter().take(20).map(|name| name.as_str()).collect();
        text.push_str(&format!(" It affects {}.", names.join(", ")));
    }
    text
}

fn advice(reason: Reason) -> &'static str {
    match reason {
        Reason::Indeterminate => {
            "Nobody knows how the last action ended: look whether it took effect, then recover the subsystem by hand."
        }
        Reason::ApprovalPending | Reason::Expired => {
            "An action waits for approval: approve or reject it, or recover the subsystem by hand."
        }
        Reason::Unbound => {
            "Nothing is bound to the action: bind it under `bindings`, or recover the subsystem by hand."
        }
        _ => "No action is left to try: recover the subsystem by hand.",
    }
}

/// One alert for the level in force. Each level is an alert of its own, so that every change reaches people.
fn of_policy(facts: &Facts<'_>, sending: &Sending) -> Option<(Labels, Wanted)> {
    let policy = facts.policy;
    let by_start = policy.reasons.iter().all(|hold| hold.source == PolicySource::Startup);
    let quiet = by_start && policy.reasons.iter().all(|hold| facts.now.since(hold.since) < STARTUP_QUIET);
    if policy.policy == Level::AllowAll || quiet && !policy.latched {
        return None;
    }
    let severity = if policy.policy == Level::EmergencyShutdown { "critical" } else { "warning" };
    let labels = labels(sending, "ChironPolicyRestricted", severity, &[("policy", policy.policy.as_str())]);
    let strictest = policy.reasons.iter().filter(|hold| hold.level == policy.policy);
    let why: Vec<String> =
        strictest.take(REASONS_TOLD).map(|hold| format!("{} ({})", hold.reason, hold.source.as_str())).collect();
    let mut description = format!("Why: {}.", why.join("; "));
    if policy.latched {
        description.push_str(" Latched: only a person releases it.");
    }
    if facts.dry_run {
        description.push_str(" Dry-run: chiron acts on nothing.");
    }
    let told = [("summary", format!("the safety policy is {}", policy.policy)), ("description", description)];
    let since = if policy.changed_at > Timestamp::EPOCH { policy.changed_at } else { facts.now };
    Some((labels, alert(since, &told, "api/v1/policy".to_owned(), sending)))
}

fn labels(sending: &Sending, name: &str, severity: &str, further: &[(&str, &str)]) -> Labels {
    let own = [("alertname", name), ("severity", severity), ("source", OWN_SOURCE)];
    let mut labels = sending.labels.clone();
    labels.extend(own.iter().chain(further).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    labels
}

fn alert(starts_at: Timestamp, told: &[(&str, String)], path: String, sending: &Sending) -> Wanted {
    let safe = |text: &str| redact(text).chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_MAX).collect();
    let mut annotations: BTreeMap<String, String> =
        told.iter().map(|(name, text)| ((*name).to_owned(), safe(text))).collect();
    if let Some(url) = &sending.external_url {
        annotations.insert("runbook_url".to_owned(), format!("{url}/"));
    }
    Wanted { starts_at, annotations, path }
}

/// What was told, and what has ended since and is told once more.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    current: BTreeMap<Labels, Wanted>,
    ended: BTreeMap<Labels, (Wanted, Timestamp)>,
    /// Rises when an alert begins or ends.
    pub version: u64,
}

impl Memory {
    /// Takes what is wanted now. A changed text is no news of its own; it goes with the next round.
    pub fn update(&mut self, wanted: BTreeMap<Labels, Wanted>, now: Timestamp, resend: Duration) {
        let changed = !wanted.keys().eq(self.current.keys());
        // A little more than a round, so that the round after the news tells it again.
        self.ended.retain(|labels, (_, at)| now.since(*at) <= resend * 3 / 2 && !wanted.contains_key(labels));
        for (labels, alert) in std::mem::replace(&mut self.current, wanted) {
            if !self.current.contains_key(&labels) {
                self.ended.insert(labels, (alert, now));
            }
        }
        if changed {
            self.version += 1;
        }
    }

    /// How many are wanted.
    pub fn wanted(&self) -> usize {
        self.current.len()
    }

    /// The body of one round: everything that is wanted, and what has just ended. `base` is chiron's address.
    pub fn round(&self, now: Timestamp, resend: Duration, base: &str) -> Vec<Posted> {
        let posted = |labels: &Labels, alert: &Wanted, ends_at: Timestamp| Posted {
            labels: labels.clone(),
            annotations: alert.annotations.clone(),
            // By a clock that was set back, a start may lie ahead; Alertmanager takes no alert that ends before it begins.
            starts_at: alert.starts_at.min(ends_at).min(now),
            ends_at,
            generator_url: format!("{}/{}", base.trim_end_matches('/'), alert.path),
        };
        let expiry = now.plus(resend * EXPIRES_AFTER);
        let current = self.current.iter().map(|(labels, alert)| posted(labels, alert, expiry));
        let ended = self.ended.iter().map(|(labels, (alert, at))| posted(labels, alert, *at));
        current.chain(ended).collect()
    }
}

/// One alert as `POST /api/v2/alerts` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Posted {
    /// Its identity.
    pub labels: Labels,
    /// For people.
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    #[serde(rename = "startsAt")]
    pub starts_at: Timestamp,
    /// When it expires, or when it ended.
    #[serde(rename = "endsAt")]
    pub ends_at: Timestamp,
    /// Where it is to be seen.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
}

#[cfg(test)]
mod tests;
