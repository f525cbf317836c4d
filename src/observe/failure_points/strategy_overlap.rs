//! `strategy_overlap`: do several strategies hold the same symbol in the same direction?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::exchange_api::number;
use super::findings::{Findings, SYMBOLS_MAX, symbol};
use super::source::{self, Seen, Source, scalar};
use super::{Built, PointContext, PointSpec};
use crate::base::tree::{Section, shorten};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::params;
use crate::observe::probes::state_file::parse_json;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: StrategyOverlap::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "decide which strategy keeps the symbol, and take it out of the other's universe";

const DOC: &str = "\
# What it asks
Whether two or more strategies hold positions in one symbol and direction, by the list of open positions.

# Why it matters
Each strategy keeps to its own limit, and together they carry twice the risk on one bet.

# Failure reasons
- `degraded`, finding medium, one for each symbol: two or more strategies on it in one direction. Letters of either case are
  the same direction.
- `degraded`, finding medium: the list is not there, is no list, or the file is no JSON.
- `unknown`: missing, if `missing` says nothing else; or it may not be read.

# Parameters
- `positions`: the file. Required.
- `pointer` (`/open_positions`): where in it the list of positions stands. A file that is a list itself is that list.
- `keys` (`[symbol, direction]`): the fields that make two positions the same bet, the symbol first.
- `strategy` (`strategy`): the field with the name of the strategy. Positions without it are counted and left out.
- `missing` (`unknown`): the grade of a file that is not there: `unknown`, `healthy` (no position is open: the bot removes
  the file then), `degraded` or `critical`.
";

/// Strategies named in one finding.
const NAMED_MAX: usize = 8;

/// What is wanted of a list of positions.
#[derive(Clone, Debug)]
struct Wanted {
    pointer: String,
    keys: Vec<String>,
    strategy: String,
}

/// One bet of several strategies.
#[derive(Clone, Debug, PartialEq)]
struct Overlap {
    symbol: String,
    /// The direction, and whatever further fields make the bet.
    rest: String,
    strategies: Vec<String>,
}

/// What the list says.
#[derive(Clone, Debug, Default, PartialEq)]
struct Facts {
    positions: usize,
    without_strategy: usize,
    overlaps: Vec<Overlap>,
}

/// The list at `pointer`, or the value itself if it is one.
pub(super) fn list<'v>(value: &'v Value, pointer: &str) -> Result<&'v [Value], String> {
    if let Value::Array(items) = value {
        return Ok(items);
    }
    match value.pointer(pointer) {
        Some(Value::Array(items)) => Ok(items),
        Some(Value::Null) | None => Err(format!("found nothing at `{pointer}`, expected a list")),
        Some(other) => Err(format!("found `{}` at `{pointer}`, expected a list", shorten(&other.to_string()))),
    }
}

/// A field of an entry: by its name, or by a JSON pointer.
pub(super) fn field<'v>(entry: &'v Value, name: &str) -> Option<&'v Value> {
    if name.starts_with('/') { entry.pointer(name) } else { entry.get(name) }
}

fn facts(bytes: &[u8], wanted: &Wanted) -> Result<Facts, String> {
    let value = parse_json(bytes)?;
    let positions = list(&value, &wanted.pointer)?;
    let mut bets: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let mut facts = Facts { positions: positions.len(), ..Facts::default() };
    for position in positions {
        let Some((first, rest)) = wanted.keys.split_first() else { break };
        let Some(symbol) = field(position, first).and_then(symbol) else { continue };
        let words: Vec<String> = rest.iter().filter_map(|key| field(position, key).and_then(scalar)).collect();
        if words.len() != rest.len() {
            continue;
        }
        match field(position, &wanted.strategy).and_then(scalar).filter(|name| !name.is_empty()) {
            Some(strategy) => {
                let bet = (symbol.to_owned(), words.join(" ").to_uppercase());
                bets.entry(bet).or_default().insert(strategy);
            }
            None => facts.without_strategy += 1,
        }
    }
    // One more than can have an issue of its own, so that it is told that there are more.
    let overlaps = bets.into_iter().filter(|(_, strategies)| strategies.len() > 1);
    facts.overlaps = overlaps
        .map(|((symbol, rest), strategies)| Overlap { symbol, rest, strategies: strategies.into_iter().collect() })
        .take(SYMBOLS_MAX * 2)
        .collect();
    Ok(facts)
}

/// The open positions of a bot.
struct StrategyOverlap {
    source: Source<Facts>,
    missing: Status,
}

impl Check for StrategyOverlap {
    type Reading = Seen<Facts>;
    const KIND: &'static str = "strategy_overlap";

    async fn read(&self) -> Self::Reading {
        self.source.read().await
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let facts = match self.source.content(reading, self.missing) {
            Ok(facts) => facts,
            Err(trouble) => return trouble.judgement(Severity::Medium),
        };
        let mut findings = Findings::default();
        for overlap in &facts.overlaps {
            let count = overlap.strategies.len();
            let mut names = overlap.strategies[..count.min(NAMED_MAX)].join(", ");
            if count > NAMED_MAX {
                names.push_str(&format!(" and {} more", count - NAMED_MAX));
            }
            let text = format!("{count} strategies hold {} {}: {names}", overlap.symbol, overlap.rest);
            findings.add(Status::Degraded, Severity::Medium, Some(&overlap.symbol), text);
        }
        let overlaps: Vec<Value> = facts.overlaps.iter().take(SYMBOLS_MAX).map(told).collect();
        let mut judgement = findings
            .judgement()
            .with("positions", facts.positions)
            .with("without_strategy", facts.without_strategy)
            .with("overlaps", overlaps);
        #[expect(clippy::cast_precision_loss, reason = "a file holds few of them")]
        judgement.perfdata.push(number("overlaps", facts.overlaps.len() as f64, ""));
        judgement
    }

    fn blocking(&self) -> bool {
        self.source.blocks()
    }

    fn watches(&self) -> Vec<std::path::PathBuf> {
        self.source.path().into_iter().collect()
    }
}

fn told(overlap: &Overlap) -> Value {
    let strategies = &overlap.strategies[..overlap.strategies.len().min(NAMED_MAX)];
    json!({"symbol": overlap.symbol, "direction": overlap.rest, "strategies": strategies})
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let place = source::place(section, "positions", context.checks);
    let pointer = source::pointer(section, "pointer").unwrap_or_else(|| "/open_positions".to_owned());
    let mut keys = params::texts(section, "keys");
    if keys.is_empty() {
        keys = ["symbol", "direction"].map(str::to_owned).to_vec();
    } else if keys.len() > 4 || keys.iter().any(String::is_empty) {
        section.reject("keys", "expected one to four names of fields, the symbol's first", None);
    }
    let strategy = params::text(section, "strategy").unwrap_or_else(|| "strategy".to_owned());
    let missing = source::missing(section);
    let wanted = Wanted { pointer, keys, strategy };
    let source = Source::new(place?, context.checks, move |bytes| facts(bytes, &wanted));
    Some(Built { check: Arc::new(StrategyOverlap { source, missing }), limit: super::LIMIT })
}
