//! `kill_switch`: has the bot switched itself off, and should it be on again by now?

use std::sync::Arc;

use serde_json::Value;

use super::exchange_api::number;
use super::findings::Findings;
use super::source::{self, Seen, Source};
use super::{Built, PointContext, PointSpec};
use crate::base::tree::{Section, shorten};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::probes::state_file::{parse_json, timestamp};

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: KillSwitch::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "find out why the kill switch was drawn, then release it in the bot; chiron never does before its time, nor unasked";

const DOC: &str = "\
# What it asks
Whether the bot's kill switch is active, why and since when, until when the bot is blocked, and whether that time has passed
without a release. The reason is told in the details alone (`reason`), as a bot may change it at any time.

# Why it matters
A bot behind its kill switch neither opens nor mends anything; one whose switch was not released after its time stays off
until somebody notices.

# Failure reasons
- `critical`, finding critical: active. The finding says if `blocked_until` has passed without release; that is noticed at
  that moment. Without `active`, a `blocked_until` that has not passed counts as active.
- `critical`, finding high: the file says neither, or is no JSON, so that nobody knows.
- `unknown`: missing, if `missing` says nothing else; or it may not be read.

Nothing is done about a switch that is active by right: before `blocked_until`, or without one. Once its time has passed,
`release_kill_switch` is offered for a person's approval, if it is bound. A release, whoever made it, is logged as verified.

# Parameters
- `path`: the state file. Required.
- `active` (`/active`), `blocked_until` (`/blocked_until`), `reason` (`/reason`), `since` (`/activated_at`): where in it each
  stands. `active` is `true`, `false`, `1` or `0`.
- `missing` (`unknown`): the grade of a file that is not there: `unknown`, `healthy`, `degraded` or `critical`. Write `healthy`
  if the bot removes the file when it releases the switch: with `unknown` an issue stays open until the file is there again.
";

/// What the state file says.
#[derive(Clone, Debug, PartialEq)]
struct Facts {
    active: Option<bool>,
    blocked_until: Option<Timestamp>,
    reason: Option<String>,
    since: Option<Timestamp>,
}

/// Where in the file it says so.
#[derive(Clone, Debug)]
struct Keys {
    active: String,
    blocked_until: String,
    reason: String,
    since: String,
}

/// One kill switch.
struct KillSwitch {
    source: Source<Facts>,
    missing: Status,
}

fn facts(bytes: &[u8], keys: &Keys) -> Result<Facts, String> {
    let value = parse_json(bytes)?;
    let at = |pointer: &str| value.pointer(pointer).filter(|value| !value.is_null());
    let active = match at(&keys.active) {
        None => None,
        Some(found) => match flag(found) {
            Some(flag) => Some(flag),
            None => {
                let found = shorten(&found.to_string());
                return Err(format!("found `{found}` at `{}`, expected true or false", keys.active));
            }
        },
    };
    let blocked_until = match at(&keys.blocked_until) {
        None => None,
        Some(found) => match timestamp(found) {
            Some(date) => Some(date),
            None => {
                let found = shorten(&found.to_string());
                return Err(format!("found `{found}` at `{}`, expected a date", keys.blocked_until));
            }
        },
    };
    if active.is_none() && blocked_until.is_none() {
        return Err(format!("found nothing at `{}`, expected true or false", keys.active));
    }
    let reason = at(&keys.reason).and_then(Value::as_str).map(shorten);
    Ok(Facts { active, blocked_until, reason, since: at(&keys.since).and_then(timestamp) })
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) if number.as_u64() == Some(1) => Some(true),
        Value::Number(number) if number.as_u64() == Some(0) => Some(false),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

fn judge_facts(facts: &Facts, now: Timestamp) -> Judgement {
    let blocked = facts.blocked_until.is_some_and(|until| until > now);
    let active = facts.active.unwrap_or(blocked);
    let overdue = active && facts.blocked_until.is_some_and(|until| until <= now);
    let mut findings = Findings::default();
    if active {
        // Not the reason: bots count positions in it, and every change of a finding is journaled.
        let text = match facts.blocked_until {
            Some(until) if overdue => format!("kill switch active; its time passed at {until} without release"),
            Some(until) => format!("kill switch active; until {until}"),
            None => "kill switch active".to_owned(),
        };
        findings.add(Status::Critical, Severity::Critical, None, text);
    }
    let mut judgement = findings.judgement().with("active", active).with("release_overdue", overdue);
    judgement.signals.overdue = overdue;
    for (key, date) in [("blocked_until", facts.blocked_until), ("activated_at", facts.since)] {
        if let Some(date) = date {
            judgement = judgement.with(key, date.rfc3339());
        }
    }
    if let Some(reason) = &facts.reason {
        judgement = judgement.with("reason", reason.as_str());
    }
    if let Some(until) = facts.blocked_until.filter(|_| active && !overdue) {
        judgement = judgement.with("blocked_seconds", until.since(now).as_secs_f64());
        judgement.next_change_at = Some(until);
    }
    judgement.perfdata.push(number("active", f64::from(u8::from(active)), ""));
    judgement.perfdata.push(number("release_overdue", f64::from(u8::from(overdue)), ""));
    judgement
}

impl Check for KillSwitch {
    type Reading = Seen<Facts>;
    const KIND: &'static str = "kill_switch";

    async fn read(&self) -> Self::Reading {
        self.source.read().await
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        match self.source.content(reading, self.missing) {
            Ok(facts) => judge_facts(facts, now),
            // Whether the bot is off is not to be guessed.
            Err(mut trouble) => {
                if trouble.status == Status::Degraded && !trouble.missing {
                    trouble.status = Status::Critical;
                }
                let is_released = trouble.status == Status::Healthy;
                let mut judgement = trouble.judgement(Severity::High);
                if is_released {
                    judgement = judgement.with("active", false).with("release_overdue", false);
                    judgement.perfdata.extend(["active", "release_overdue"].map(|label| number(label, 0.0, "")));
                }
                judgement
            }
        }
    }

    fn blocking(&self) -> bool {
        self.source.blocks()
    }

    fn watches(&self) -> Vec<std::path::PathBuf> {
        self.source.path().into_iter().collect()
    }
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let place = source::place(section, "path", context.checks);
    let at = |found: Option<String>, default: &str| found.unwrap_or_else(|| default.to_owned());
    let keys = Keys {
        active: at(source::pointer(section, "active"), "/active"),
        blocked_until: at(source::pointer(section, "blocked_until"), "/blocked_until"),
        reason: at(source::pointer(section, "reason"), "/reason"),
        since: at(source::pointer(section, "since"), "/activated_at"),
    };
    let missing = source::missing(section);
    let source = Source::new(place?, context.checks, move |bytes| facts(bytes, &keys));
    Some(Built { check: Arc::new(KillSwitch { source, missing }), limit: super::LIMIT })
}
