//! `symbol_probation`: which symbols has the bot put on probation, since when, and do they recover?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::exchange_api::number;
use super::findings::{Findings, SYMBOLS_MAX, symbol};
use super::source::{self, Seen, Source};
use super::{Built, PointContext, PointSpec};
use crate::base::clock::Clock;
use crate::base::tree::{Section, shorten};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::probes::state_file::{parse_json, timestamp};

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: SymbolProbation::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "look at the symbol's recent trades; take it out of the universe if it does not recover";

const DOC: &str = "\
# What it asks
Which symbols the bot has put on probation, since when, and whether they recover.

# Why it matters
A symbol on probation trades in small sizes or not at all: the bot earns less than it seems to watch. Many at once are a sign
of a market, or a strategy, that has changed.

# Failure reasons
- `degraded`, finding medium, one for each symbol: on probation.
- `degraded`, finding low, one for each symbol: on probation, and recovering.
- `degraded`, finding medium: no JSON, or neither a list nor a mapping of symbols.
- `unknown`: missing, if `missing` says nothing else; or it may not be read.

# Parameters
- `path`: the file. Required.
- `pointer` (none): where in it the symbols stand. Without it, `symbols`, `probation` or `on_probation` at the top, or else
  the whole file.
- `missing` (`unknown`): the grade of a file that is not there: `unknown`, `healthy` (no symbol is on probation: the bot
  removes the file when it releases the last one), `degraded` or `critical`.

The symbols are a list of names, a list of mappings with `symbol`, or a mapping from names. What is said of a symbol is a
date, a flag (`false` and `null`: not on probation), or a mapping with `since` (or `started_at`, `probation_since`,
`timestamp`), `recovering`, or `status: recovering`, `reason`, and `active: false` if it is over. Without a date, it is since
chiron saw it first.
";

/// Symbols that are remembered.
const KNOWN_MAX: usize = 1000;
/// Keys that hold the symbols, where the settings do not say.
const PLACES: [&str; 3] = ["symbols", "probation", "on_probation"];
/// Keys with the date of the beginning.
const SINCE: [&str; 4] = ["since", "started_at", "probation_since", "timestamp"];

/// One symbol on probation.
#[derive(Clone, Debug, Default, PartialEq)]
struct Probation {
    since: Option<Timestamp>,
    recovering: bool,
    reason: Option<String>,
}

type Facts = BTreeMap<String, Probation>;

fn facts(bytes: &[u8], pointer: Option<&str>) -> Result<Facts, String> {
    let value = parse_json(bytes)?;
    let place = match pointer {
        Some(pointer) => value.pointer(pointer).ok_or_else(|| format!("found nothing at `{pointer}`"))?,
        None => PLACES.iter().find_map(|key| value.get(key)).unwrap_or(&value),
    };
    let mut found = Facts::new();
    let mut take = |name: &Value, said: &Value| {
        if let (Some(name), Some(probation)) = (symbol(name), probation(said))
            && (found.len() < KNOWN_MAX || found.contains_key(name))
        {
            found.insert(name.to_owned(), probation);
        }
    };
    match place {
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Object(_) => take(&item["symbol"], item),
                    name => take(name, &Value::Bool(true)),
                }
            }
        }
        Value::Object(entries) => entries.iter().for_each(|(name, said)| take(&Value::String(name.clone()), said)),
        other => {
            let found = shorten(&other.to_string());
            return Err(format!("found `{found}`, expected a list or mapping of symbols"));
        }
    }
    Ok(found)
}

/// What is said of one symbol; `None` if it is not on probation.
fn probation(said: &Value) -> Option<Probation> {
    match said {
        Value::Null | Value::Bool(false) => None,
        Value::Object(fields) => {
            let says = |key: &str, word: &str| {
                fields.get(key).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(word))
            };
            if fields.get("active").is_some_and(|active| *active == Value::Bool(false)) {
                return None;
            }
            let recovering = fields.get("recovering").and_then(Value::as_bool).unwrap_or(false);
            Some(Probation {
                since: SINCE.iter().find_map(|key| timestamp(fields.get(*key)?)),
                recovering: recovering || says("status", "recovering"),
                reason: fields.get("reason").and_then(Value::as_str).map(shorten),
            })
        }
        other => Some(Probation { since: timestamp(other), ..Probation::default() }),
    }
}

/// The symbols on probation.
struct SymbolProbation {
    source: Source<Facts>,
    missing: Status,
    clock: Clock,
    /// When each was seen first, for those without a date.
    first_seen: Mutex<BTreeMap<String, Timestamp>>,
}

/// What was found, and since when.
struct Looked {
    seen: Seen<Facts>,
    first_seen: BTreeMap<String, Timestamp>,
}

impl SymbolProbation {
    /// Remembers who is new and forgets who is gone. What cannot be read leaves the memory as it is.
    fn remember(&self, seen: &Seen<Facts>) -> BTreeMap<String, Timestamp> {
        let mut first_seen = self.first_seen.lock().unwrap_or_else(PoisonError::into_inner);
        let nobody = Facts::new();
        let facts = match self.source.content(seen, self.missing) {
            Ok(facts) => Some(facts),
            Err(trouble) => (trouble.missing && trouble.status == Status::Healthy).then_some(&nobody),
        };
        if let Some(facts) = facts {
            let now = self.clock.now();
            first_seen.retain(|symbol, _| facts.contains_key(symbol));
            for symbol in facts.keys() {
                first_seen.entry(symbol.clone()).or_insert(now);
            }
        }
        first_seen.clone()
    }
}

impl Check for SymbolProbation {
    type Reading = Looked;
    const KIND: &'static str = "symbol_probation";

    async fn read(&self) -> Looked {
        let seen = self.source.read().await;
        let first_seen = self.remember(&seen);
        Looked { seen, first_seen }
    }

    fn judge(&self, reading: &Looked, _now: Timestamp) -> Judgement {
        let facts = match self.source.content(&reading.seen, self.missing) {
            Ok(facts) => facts,
            Err(trouble) => return trouble.judgement(Severity::Medium),
        };
        let mut findings = Findings::default();
        let mut symbols = Vec::new();
        for (symbol, probation) in facts {
            let since = probation.since.or_else(|| reading.first_seen.get(symbol).copied());
            let (severity, word) =
                if probation.recovering { (Severity::Low, ", recovering") } else { (Severity::Medium, "") };
            let dated = since.map(|since| format!(" since {since}")).unwrap_or_default();
            findings.add(Status::Degraded, severity, Some(symbol), format!("{symbol} is on probation{dated}{word}"));
            if symbols.len() < SYMBOLS_MAX {
                symbols.push(json!({
                    "symbol": symbol,
                    "since": since,
                    "recovering": probation.recovering,
                    // Not in the finding: every change of one is journaled.
                    "reason": probation.reason,
                }));
            }
        }
        let recovering = facts.values().filter(|probation| probation.recovering).count();
        let mut judgement = findings
            .judgement()
            .with("on_probation", facts.len())
            .with("recovering", recovering)
            .with("symbols", symbols);
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
        for (label, value) in [("on_probation", facts.len()), ("recovering", recovering)] {
            judgement.perfdata.push(number(label, value as f64, ""));
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
    let place = source::place(section, "path", context.checks);
    let pointer = source::pointer(section, "pointer");
    let missing = source::missing(section);
    let source = Source::new(place?, context.checks, move |bytes| facts(bytes, pointer.as_deref()));
    let clock = context.checks.clock.clone();
    let check = SymbolProbation { source, missing, clock, first_seen: Mutex::default() };
    Some(Built { check: Arc::new(check), limit: super::LIMIT })
}
