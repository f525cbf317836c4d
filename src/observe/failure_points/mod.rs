//! Registry of failure points: the eleven places where platforms of this kind usually break (OBS-8), one file each, listed
//! once in [`POINTS`].
//!
//! In: their settings and, for what bots push, the slots of the inbox. Out: checks, which the runner schedules behind those
//! of the subsystems. A category is also the type of its issues.
//! **Invariant:** every file of this folder but the shared ones is in the list; a test reads the folder.

mod configuration;
mod exchange_api;
mod file_system;
mod findings;
mod intelligence_api;
mod intelligence_freshness;
mod kill_switch;
mod network;
mod position_limits;
mod signal_blocks;
mod source;
mod strategy_overlap;
mod symbol_probation;
mod window;

use std::sync::Arc;
use std::time::Duration;

use super::check::{AnyCheck, BuildContext};
use super::inbox::Slot;
use crate::base::tree::Section;
use crate::model::Name;

/// How long a look may take where nothing of it says otherwise.
const LIMIT: Duration = Duration::from_secs(10);

/// What a failure point may need when it is built from its settings.
#[derive(Clone, Copy, Debug)]
pub struct PointContext<'a> {
    /// What every check may need.
    pub checks: &'a BuildContext,
    /// Where what bots push can be read, by the name of the subsystem.
    pub slots: &'a [(Name, Arc<Slot>)],
    /// How often it is looked at.
    pub every: Duration,
}

/// A failure point that is built.
pub struct Built {
    /// What looks at it.
    pub check: Arc<dyn AnyCheck>,
    /// How long one look may take.
    pub limit: Duration,
}

/// A failure point as the registry lists it.
#[derive(Clone, Copy, Debug)]
pub struct PointSpec {
    /// The key below `failure_points:`, and the type of its issues.
    pub category: &'static str,
    /// The doc page, under the fixed headings.
    pub doc: &'static str,
    /// What a person is told to do about its issues.
    pub advice: &'static str,
    /// Takes the parameters from its section; mistakes go to the section's problems.
    pub build: fn(&mut Section<'_>, &PointContext<'_>) -> Option<Built>,
}

/// Every failure point, in the order of the catalog.
pub const POINTS: [&PointSpec; 11] = [
    &exchange_api::SPEC,
    &intelligence_api::SPEC,
    &kill_switch::SPEC,
    &strategy_overlap::SPEC,
    &symbol_probation::SPEC,
    &file_system::SPEC,
    &network::SPEC,
    &intelligence_freshness::SPEC,
    &position_limits::SPEC,
    &configuration::SPEC,
    &signal_blocks::SPEC,
];

/// The failure point of that category.
pub fn point(category: &str) -> Option<&'static PointSpec> {
    POINTS.into_iter().find(|spec| spec.category == category)
}

/// `docs/failure-points.md`: every page, in the order of the registry.
pub fn catalog() -> String {
    let mut text = INTRODUCTION.to_owned();
    for spec in POINTS {
        text.push_str(&format!("\n## `{}`\n\n", spec.category));
        for line in spec.doc.lines() {
            match line.strip_prefix("# ") {
                Some(heading) => text.push_str(&format!("### {heading}\n\n")),
                None => text.push_str(&format!("{line}\n")),
            }
        }
    }
    text
}

const INTRODUCTION: &str = "\
# Failure points

Made from the sources by `UPDATE_GOLDEN=1 cargo test --lib failure_points`; do not edit.

The places where platforms of this kind usually break. Each is looked at every `failure_points.every` (60 s) if it stands
below `failure_points:` in the settings, beside the subsystems and after the same fashion: within its own time, and none
holds up another. What is not configured is `unknown`. A file is looked at again when its date runs out, not only at the next
turn. An address or host is not asked again before a quarter of `every`, or 5 s if that is less, has passed: until then its
last answer counts, whoever looks.

What is found wrong is an issue whose type is the category, of the subsystem that `subsystem` names (`platform` if it does
not): one issue in all, and one for each symbol where the finding is about a symbol. It ends with the first look that no
longer finds it. A point that is `unknown` neither opens nor ends an issue; one that could not be looked at
`max_consecutive_failures` (3) times in a row, because a file may not be read or a look did not end, is an issue of the
severity `high`. A critical finding holds `no_new_trades`, or
`defensive_exit` if its subsystem has the criticality `full`. Findings of one symbol are never critical and never count as
impacting all trading. More than 100 symbols of one point are one issue besides the first 100. A finding of the severity
`medium` or `low` that no action is for (a limit is reached, a symbol is on probation) is an issue to be seen and calls no
person. No trend is projected of what failure points measure.

Together they are `CRITICAL` if one is critical, else `WARNING` if one is degraded or if one that is configured was looked at
and is `unknown`, else `HEALTHY` if one is healthy, else `UNKNOWN`. That, which are configured, and what each found, goes to
`logs/failure_point_monitor.jsonl` at every turn, and to `logs/failure_point_monitor_summary.json`, which is replaced. Neither
is written while no failure point is configured, but a summary that is there is replaced once by one that says so. They are
chiron's own files: their age says nothing of the bot. What is done about what they find goes to
`logs/failure_point_healing.jsonl`, step by step; [recovery.md](recovery.md) tells of both.

Wherever a file can be named, `http://` or `https://` names an address that answers with the same JSON, of at most 1 MiB,
within 5 s; a file may have 16 MiB. A file that is not JSON, or says something else than it should, is `degraded` with a
medium finding where its page says nothing else; one that may not be read is `unknown`. A place in a JSON document is a JSON
pointer (`/limits/max`). Dates are RFC 3339, or Unix seconds or milliseconds.
";

#[cfg(test)]
mod tests;
