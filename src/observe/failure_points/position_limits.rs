//! `position_limits`: how close is the bot to the number of positions it may hold?

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::exchange_api::number;
use super::findings::{Findings, SYMBOLS_MAX, symbol};
use super::source::{self, Seen, Source};
use super::strategy_overlap::field;
use super::{Built, PointContext, PointSpec};
use crate::base::tree::{Section, shorten};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::params;
use crate::observe::probes::state_file::parse_json;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: PositionLimits::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "close what is not worth its place, or raise the limit where the bot has it";

const DOC: &str = "\
# What it asks
How many positions are open against how many may be, in all and, if limits are given for them, by symbol.

# Why it matters
At the limit every further signal is refused, whatever it promises; beyond it the bot no longer keeps its own rules.

# Failure reasons
- `degraded`, finding medium: at the limit. A limit of one symbol gives a finding of that symbol.
- `degraded`, finding high: beyond the limit.
- `degraded`, finding medium: no list or count where one should be, no maximum at `max_pointer`, or no JSON.
- `unknown`: missing, if `missing` says nothing else; or it may not be read.

At a limit or beyond it, `suggestion` in the details says what is open of how many, by symbol, and what to close or raise.
`review_position_limits` shows it to a person; chiron does nothing by itself.

# Parameters
- `positions`: the file. Required.
- `pointer` (`/open_positions`): where in it the positions stand: a list, a mapping, or how many they are. A file that is a
  list itself is that list.
- `max`: how many may be open; or `max_pointer`: where in the file that stands.
- `max_per_symbol` (none): how many of each symbol.
- `symbols` (none): a mapping from symbol to how many of it; wins over `max_per_symbol`.
- `symbol` (`symbol`): the field of a position with its symbol.
- `missing` (`unknown`): the grade of a file that is not there: `unknown`, `healthy` (no position is open: the bot removes
  the file then), `degraded` or `critical`.

One of `max`, `max_pointer`, `max_per_symbol` and `symbols` is required.
";

/// What is wanted of the file.
#[derive(Clone, Debug)]
struct Wanted {
    pointer: String,
    max_pointer: Option<String>,
    symbol: String,
}

/// The limits of the settings.
#[derive(Clone, Debug, Default)]
struct Limits {
    max: Option<u64>,
    per_symbol: Option<u64>,
    symbols: BTreeMap<String, u64>,
}

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Facts {
    current: u64,
    max: Option<u64>,
    by_symbol: BTreeMap<String, u64>,
}

fn facts(bytes: &[u8], wanted: &Wanted) -> Result<Facts, String> {
    let value = parse_json(bytes)?;
    let max = match &wanted.max_pointer {
        None => None,
        Some(pointer) => match value.pointer(pointer).and_then(Value::as_u64) {
            Some(max) => Some(max),
            None => return Err(format!("found no whole number at `{pointer}`")),
        },
    };
    let at = if value.is_array() { Some(&value) } else { value.pointer(&wanted.pointer) };
    let mut facts = Facts { max, ..Facts::default() };
    let mut count = |symbol: Option<&str>| {
        facts.current += 1;
        if let Some(symbol) = symbol {
            *facts.by_symbol.entry(symbol.to_owned()).or_default() += 1;
        }
    };
    match at {
        Some(Value::Array(items)) => {
            items.iter().for_each(|item| count(field(item, &wanted.symbol).and_then(symbol)));
        }
        Some(Value::Object(entries)) => {
            for (name, entry) in entries {
                let name = Value::String(name.clone());
                count(field(entry, &wanted.symbol).and_then(symbol).or_else(|| symbol(&name)));
            }
        }
        Some(Value::Number(number)) if number.is_u64() => facts.current = number.as_u64().unwrap_or_default(),
        Some(other) if !other.is_null() => {
            let found = shorten(&other.to_string());
            return Err(format!("found `{found}` at `{}`, expected positions or their number", wanted.pointer));
        }
        _ => return Err(format!("found nothing at `{}`, expected positions or their number", wanted.pointer)),
    }
    Ok(facts)
}

/// The open positions of a bot and how many they may be.
struct PositionLimits {
    source: Source<Facts>,
    limits: Limits,
    missing: Status,
}

impl PositionLimits {
    /// What a person may do about limits that are reached; nothing if none is.
    fn suggestion(&self, facts: &Facts) -> Option<String> {
        let mut parts = Vec::new();
        // So many that there is room for another.
        let excess = |current: u64, max: u64| current - max + 1;
        let plural = |count: u64| if count == 1 { "position" } else { "positions" };
        if let Some(max) = facts.max.or(self.limits.max)
            && facts.current >= max
        {
            let held: Vec<String> = facts
                .by_symbol
                .iter()
                .take(SUGGESTED_MAX)
                .map(|(symbol, current)| format!("{symbol} {current}"))
                .collect();
            let more = facts.by_symbol.len().saturating_sub(SUGGESTED_MAX);
            let held = match (held.is_empty(), more) {
                (true, _) => String::new(),
                (false, 0) => format!(" ({})", held.join(", ")),
                (false, more) => format!(" ({}, and {more} more symbols)", held.join(", ")),
            };
            let (current, close) = (facts.current, excess(facts.current, max));
            parts.push(format!("{current} open of at most {max}{held}: close {close} {}", plural(close)));
        }
        let reached = facts.by_symbol.iter().filter_map(|(symbol, current)| {
            let max = self.limits.symbols.get(symbol).copied().or(self.limits.per_symbol)?;
            (*current >= max).then_some((symbol, *current, max))
        });
        for (symbol, current, max) in reached.take(SUGGESTED_MAX) {
            let close = excess(current, max);
            parts.push(format!("{symbol}: {current} open of at most {max}: close {close} {}", plural(close)));
        }
        (!parts.is_empty()).then(|| format!("{}, or raise the limit where the bot has it", parts.join("; ")))
    }
}

/// Symbols named in a suggestion.
const SUGGESTED_MAX: usize = 10;

/// What is wrong with a number of positions, if anything.
fn against(current: u64, max: u64) -> Option<(Severity, &'static str)> {
    match current.cmp(&max) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => Some((Severity::Medium, "at")),
        std::cmp::Ordering::Greater => Some((Severity::High, "beyond")),
    }
}

impl Check for PositionLimits {
    type Reading = Seen<Facts>;
    const KIND: &'static str = "position_limits";

    async fn read(&self) -> Self::Reading {
        self.source.read().await
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let facts = match self.source.content(reading, self.missing) {
            Ok(facts) => facts,
            Err(trouble) => return trouble.judgement(Severity::Medium),
        };
        let mut findings = Findings::default();
        let max = facts.max.or(self.limits.max);
        if let Some(max) = max
            && let Some((severity, word)) = against(facts.current, max)
        {
            findings.add(Status::Degraded, severity, None, format!("open positions {word} the limit of {max}"));
        }
        for (symbol, current) in &facts.by_symbol {
            let max = self.limits.symbols.get(symbol).copied().or(self.limits.per_symbol);
            if let Some(max) = max
                && let Some((severity, word)) = against(*current, max)
            {
                let text = format!("open positions of {symbol} {word} the limit of {max}");
                findings.add(Status::Degraded, severity, Some(symbol), text);
            }
        }
        let mut judgement = findings.judgement().with("current", facts.current);
        if let Some(max) = max {
            judgement = judgement.with("max", max).with("left", max.saturating_sub(facts.current));
        }
        let most: Vec<Value> = facts
            .by_symbol
            .iter()
            .take(SYMBOLS_MAX)
            .map(|(symbol, current)| json!({"symbol": symbol, "current": current}))
            .collect();
        judgement = judgement.with("symbols", most);
        if let Some(text) = self.suggestion(facts) {
            judgement = judgement.with("suggestion", text);
        }
        #[expect(clippy::cast_precision_loss, reason = "nobody holds 2^53 positions")]
        for (label, value) in [("current", Some(facts.current)), ("max", max)] {
            judgement.perfdata.extend(value.map(|value| number(label, value as f64, "")));
        }
        judgement
    }

    fn blocking(&self) -> bool {
        self.source.blocks()
    }

    fn watches(&self) -> Vec<std::path::PathBuf> {
        self.source.path().into_iter().collect()
    }
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let place = source::place(section, "positions", context.checks);
    let pointer = source::pointer(section, "pointer").unwrap_or_else(|| "/open_positions".to_owned());
    let mut limits = Limits {
        max: params::whole(section, "max"),
        per_symbol: params::whole(section, "max_per_symbol"),
        symbols: BTreeMap::new(),
    };
    let max_pointer = source::pointer(section, "max_pointer");
    let base = section.path_of("symbols");
    for (name, at, node) in section.entries("symbols") {
        match params::scalar(node).and_then(|text| text.parse().ok()) {
            Some(max) => drop(limits.symbols.insert(name.clone(), max)),
            None => {
                let rule = "expected a whole number, 0 or more";
                section.problems().push(*at, &format!("{base}.{name}"), &node.shown(), rule, None);
            }
        }
    }
    if max_pointer.is_some() && limits.max.is_some() {
        section.reject("max_pointer", "expected either max or max_pointer", None);
    }
    let any = limits.max.is_some() || max_pointer.is_some() || limits.per_symbol.is_some();
    if !any && !section.has("symbols") && !section.has("max") && !section.has("max_per_symbol") {
        section.reject("max", "missing, expected a limit: max, max_pointer, max_per_symbol or symbols", None);
    }
    let symbol = params::text(section, "symbol").unwrap_or_else(|| "symbol".to_owned());
    let missing = source::missing(section);
    let wanted = Wanted { pointer, max_pointer, symbol };
    let source = Source::new(place?, context.checks, move |bytes| facts(bytes, &wanted));
    Some(Built { check: Arc::new(PositionLimits { source, limits, missing }), limit: super::LIMIT })
}
