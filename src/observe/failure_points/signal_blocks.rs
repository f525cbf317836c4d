//! `signal_blocks`: why is nothing trading? Which guards of the bot refuse its signals?

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::exchange_api::number;
use super::findings::Findings;
use super::source::{self, Absent, Place, Seen, Source, Trouble};
use super::{Built, PointContext, PointSpec};
use crate::base::clock::Clock;
use crate::base::tree::Section;
use crate::model::{Name, Severity, Status, Timestamp};
use crate::observe::check::{Check, Judgement};
use crate::observe::inbox::Slot;
use crate::observe::params;
use crate::observe::probes::state_file::parse_json;

/// The category as the registry lists it.
pub const SPEC: PointSpec = PointSpec { category: SignalBlocks::KIND, doc: DOC, advice: ADVICE, build };

const ADVICE: &str = "look at `top_blockers`: the guard that refuses the most signals is the one to look into";

const DOC: &str = "\
# What it asks
How many signals each guard, gate or filter of the bot refused, and whether any signal still passes: `blocked_signals`, a
mapping from guards to counts, and `signals_total`, in the vitals that bots push, or in a JSON document.

# Why it matters
\"Why is nothing trading?\" has an answer: `top_blockers` in the details. A guard that refuses everything looks, from outside,
like a quiet market.

# Failure reasons
- `degraded`, finding medium: every signal has been refused for `all_refused_for`, and there was one in that time. Guards
  may refuse the same signal twice.
- `degraded`, finding medium: the document is no JSON, or what stands there is no mapping of counts.
- `unknown`: nobody has pushed such vitals, or not for `stale_after`; the document is missing or may not be read; or, after a
  start or a reload, no signal has passed yet and `all_refused_for` has not: counts of the time before tell nothing of now.

# Parameters
- `from` (`vitals`): `vitals`, or a file or address.
- `bot` (all): with `vitals`, the subsystem whose `push` check listens to the bot.
- `all_refused_for` (15m): for so long every signal is refused before that is an issue.
- `counts` (`since_start`): whether counts only grow while the bot runs, or are of its latest period (`window`).
- `blocked` (`/blocked_signals`), `total` (`/signals_total`): where they stand. Without a total nobody knows what passed: the
  blockers are told, and nothing is an issue.
- `stale_after` (5m): vitals older than this are not believed.
";

/// Guards told and exported.
const TOP: usize = 10;
/// Guards looked at.
const GUARDS_MAX: usize = 128;

/// Where the counts stand, and how they are counted.
#[derive(Clone, Debug)]
struct Wanted {
    blocked: String,
    total: String,
    window: bool,
    all_refused_for: Duration,
    stale_after: Duration,
}

/// Counts of one bot.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    total: Option<f64>,
    /// Most first.
    blocked: Vec<(String, f64)>,
}

impl Counts {
    fn refused(&self) -> f64 {
        self.blocked.iter().map(|(_, count)| count).sum()
    }
}

fn counts(value: &Value, wanted: &Wanted) -> Result<Option<Counts>, String> {
    let fits = |count: f64| count.is_finite() && count >= 0.0;
    let total = value.pointer(&wanted.total).and_then(Value::as_f64).filter(|total| fits(*total));
    match value.pointer(&wanted.blocked) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(guards)) => {
            let mut blocked = Vec::new();
            for (guard, count) in guards.iter().take(GUARDS_MAX) {
                let Some(count) = count.as_f64().filter(|count| fits(*count)) else {
                    return Err(format!(
                        "found no count at `{}` for a guard, expected a number from 0",
                        wanted.blocked
                    ));
                };
                blocked.push((guard.chars().take(64).collect::<String>(), count));
            }
            blocked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            Ok(Some(Counts { total, blocked }))
        }
        Some(_) => Err(format!("found no mapping at `{}`, expected guards and their counts", wanted.blocked)),
    }
}

/// What is remembered of one bot. Times are since boot.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Memory {
    total: f64,
    refused: f64,
    /// Since when the counts are followed.
    since: Duration,
    /// It is known whether signals pass.
    known: bool,
    /// Since when no signal has passed.
    refusing: Option<Duration>,
    /// When one was refused last.
    refused_at: Option<Duration>,
}

/// What is known after counts of `now`.
fn remember(before: Option<Memory>, total: f64, refused: f64, wanted: &Wanted, now: Duration) -> Memory {
    let fresh = |before: Option<Memory>| Memory {
        total,
        refused,
        since: before.map_or(now, |before| before.since),
        known: before.is_some_and(|before| before.known),
        refusing: before.and_then(|before| before.refusing),
        refused_at: before.and_then(|before| before.refused_at),
    };
    let mut memory = fresh(before);
    // What came since the last look. A bot that began anew counts from zero.
    let (came, stopped) = match before {
        Some(before) if !wanted.window && total >= before.total => {
            (total - before.total, (refused - before.refused).max(0.0))
        }
        // What counts since the bot's start says nothing of now.
        None if !wanted.window => (0.0, 0.0),
        _ => (total, refused),
    };
    if came > stopped {
        (memory.refusing, memory.refused_at) = (None, None);
        memory.known = true;
    } else if stopped > 0.0 {
        memory.refusing = memory.refusing.or(Some(now));
        memory.refused_at = Some(now);
    }
    // A quiet market refuses nothing.
    if memory.refused_at.is_some_and(|at| now.saturating_sub(at) > wanted.all_refused_for) {
        (memory.refusing, memory.refused_at) = (None, None);
    }
    let followed = memory.refusing.unwrap_or(memory.since);
    memory.known |= now.saturating_sub(followed) >= wanted.all_refused_for;
    memory
}

/// Where the counts come from.
enum Origin {
    Vitals(Vec<(Name, Arc<Slot>)>),
    Document(Source<Option<Counts>>),
}

/// The counts of every bot.
struct SignalBlocks {
    from: Origin,
    wanted: Arc<Wanted>,
    clock: Clock,
    memory: Mutex<BTreeMap<Name, Memory>>,
}

/// What was found of one bot.
#[derive(Clone, Debug)]
struct Heard {
    bot: Name,
    counts: Counts,
    /// For how long no signal has passed.
    refusing: Option<Duration>,
    /// For how long the counts are followed without it being known whether signals pass.
    unknown: Option<Duration>,
}

/// What was found.
struct Looked {
    at: Timestamp,
    bots: Vec<Heard>,
    trouble: Option<Trouble>,
}

impl SignalBlocks {
    fn heard(&self, bot: &Name, counts: Counts) -> Heard {
        let now = self.clock.since_boot();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut refusing, mut unknown) = (None, None);
        if let Some(total) = counts.total {
            let known = remember(memory.get(bot).copied(), total, counts.refused(), &self.wanted, now);
            memory.insert(bot.clone(), known);
            refusing = known.refusing.map(|since| now.saturating_sub(since));
            unknown = (!known.known).then(|| now.saturating_sub(known.since));
        }
        Heard { bot: bot.clone(), counts, refusing, unknown }
    }
}

impl Check for SignalBlocks {
    type Reading = Looked;
    const KIND: &'static str = "signal_blocks";

    async fn read(&self) -> Looked {
        let mut looked = Looked { at: self.clock.now(), bots: Vec::new(), trouble: None };
        let of = |status, text: String| Some(Trouble { status, unrunnable: false, missing: false, text });
        match &self.from {
            Origin::Vitals(slots) => {
                let mut stale = false;
                for (bot, slot) in slots {
                    let Some(vitals) = slot.read().vitals else { continue };
                    if vitals.age > self.wanted.stale_after {
                        stale = true;
                        continue;
                    }
                    // Vitals were checked as they came in; what they hold is small.
                    match counts(&Value::Object(Map::clone(&vitals.told)), &self.wanted) {
                        Ok(Some(counts)) => looked.bots.push(self.heard(bot, counts)),
                        Ok(None) => {}
                        Err(why) => looked.trouble = of(Status::Degraded, format!("{bot}: {why}")),
                    }
                }
                if looked.bots.is_empty() && looked.trouble.is_none() {
                    let why = match (slots.is_empty(), stale) {
                        (true, _) => "no subsystem has a `push` check, so no bot can tell of its signals",
                        (_, true) => "the last vitals with blocked signals are too old",
                        (_, false) => "no bot has told of blocked signals yet",
                    };
                    looked.trouble = of(Status::Unknown, why.to_owned());
                }
            }
            Origin::Document(source) => {
                let seen: Seen<Option<Counts>> = source.read().await;
                match source.content(&seen, Status::Unknown) {
                    Ok(Some(counts)) => looked.bots.push(self.heard(&"document".into(), counts.clone())),
                    Ok(None) => {
                        let text = format!("{}: found nothing at `{}`", source.place(), self.wanted.blocked);
                        looked.trouble = of(Status::Unknown, text);
                    }
                    Err(mut trouble) => {
                        if matches!(seen, Err(Absent::Answer(_))) {
                            trouble.status = Status::Unknown;
                        }
                        looked.trouble = Some(trouble);
                    }
                }
            }
        }
        looked
    }

    fn judge(&self, reading: &Looked, now: Timestamp) -> Judgement {
        if let (Some(trouble), true) = (&reading.trouble, reading.bots.is_empty()) {
            return trouble.clone().judgement(Severity::Medium);
        }
        let limit = self.wanted.all_refused_for;
        let mut findings = Findings::default();
        if let Some(trouble) = &reading.trouble {
            findings.add(Status::Degraded, Severity::Medium, None, trouble.text.clone());
        }
        let (mut changes, mut unsettled) = (None, None);
        let mut bots = Vec::new();
        let mut by_guard: BTreeMap<&str, f64> = BTreeMap::new();
        for heard in &reading.bots {
            let refusing = heard.refusing.map(|refusing| refusing + now.since(reading.at));
            match refusing {
                Some(refusing) if refusing >= limit => {
                    let text = format!("every signal of {} has been refused for {limit:?} or longer", heard.bot);
                    findings.add(Status::Degraded, Severity::Medium, None, text);
                }
                Some(refusing) => changes = [changes, Some(now.plus(limit - refusing))].into_iter().flatten().min(),
                None => {}
            }
            if let Some(unknown) = heard.unknown {
                unsettled = unsettled.or(Some(&heard.bot));
                let known_at = reading.at.plus(limit.saturating_sub(unknown)).plus(Duration::from_millis(1));
                changes = [changes, Some(known_at)].into_iter().flatten().min();
            }
            for (guard, count) in &heard.counts.blocked {
                *by_guard.entry(guard).or_default() += count;
            }
            bots.push(json!({
                "bot": heard.bot,
                "signals": heard.counts.total,
                "refused": heard.counts.refused(),
                "all_refused_seconds": refusing.map(|refusing| refusing.as_secs_f64()),
            }));
        }
        let mut top: Vec<(&str, f64)> = by_guard.into_iter().collect();
        top.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        top.truncate(TOP);
        let blockers: Vec<Value> = top.iter().map(|(guard, count)| json!({"guard": guard, "refused": count})).collect();
        let mut judgement = findings.judgement().with("top_blockers", blockers).with("bots", bots);
        judgement.next_change_at = changes;
        if let (Status::Healthy, Some(bot)) = (judgement.status, unsettled) {
            judgement.status = Status::Unknown;
            let why = format!("{bot}: no signal has passed since chiron looks, and that is not for {limit:?} yet");
            judgement = judgement.with("error", why);
        }
        let total: Option<f64> = reading.bots.iter().map(|heard| heard.counts.total).sum();
        let refused = reading.bots.iter().map(|heard| heard.counts.refused()).sum();
        judgement.perfdata.extend(total.map(|total| number("signals", total, "")));
        judgement.perfdata.push(number("refused", refused, ""));
        judgement.perfdata.extend(top.iter().map(|(guard, count)| number(&format!("refused_by_{guard}"), *count, "")));
        judgement
    }

    fn blocking(&self) -> bool {
        matches!(&self.from, Origin::Document(source) if source.blocks())
    }
}

fn build(section: &mut Section<'_>, context: &PointContext<'_>) -> Option<Built> {
    let at = |found: Option<String>, default: &str| found.unwrap_or_else(|| default.to_owned());
    let wanted = Wanted {
        blocked: at(source::pointer(section, "blocked"), "/blocked_signals"),
        total: at(source::pointer(section, "total"), "/signals_total"),
        window: section.word("counts", &[("since_start", false), ("window", true)]).unwrap_or(false),
        all_refused_for: params::span(section, "all_refused_for").unwrap_or(Duration::from_secs(900)),
        stale_after: params::span(section, "stale_after").unwrap_or(Duration::from_secs(300)),
    };
    let wanted = Arc::new(wanted);
    let bot = params::text(section, "bot");
    let from = match params::text(section, "from").as_deref() {
        None | Some("vitals") => {
            let slots: Vec<_> = context
                .slots
                .iter()
                .filter(|(name, _)| bot.as_ref().is_none_or(|bot| *name == **bot))
                .cloned()
                .collect();
            if bot.is_some() && slots.is_empty() {
                section.reject("bot", "expected a subsystem whose check takes pushes", None);
            }
            Origin::Vitals(slots)
        }
        Some(_) => {
            if bot.is_some() {
                section.reject("bot", "expected only with `from: vitals`", None);
            }
            let place: Place = source::place(section, "from", context.checks)?;
            let for_parse = Arc::clone(&wanted);
            Origin::Document(Source::new(place, context.checks, move |bytes| counts(&parse_json(bytes)?, &for_parse)))
        }
    };
    let check = SignalBlocks { from, wanted, clock: context.checks.clock.clone(), memory: Mutex::default() };
    Some(Built { check: Arc::new(check), limit: super::LIMIT })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(window: bool) -> Wanted {
        Wanted {
            blocked: "/blocked_signals".to_owned(),
            total: "/signals_total".to_owned(),
            window,
            all_refused_for: Duration::from_secs(900),
            stale_after: Duration::from_secs(300),
        }
    }

    /// The minutes since when all signals are refused, after each of (minute, signals, refused).
    fn timeline(window: bool, story: &[(u64, f64, f64)]) -> Vec<Option<u64>> {
        let mut memory = None;
        let steps = story.iter().map(|(minute, total, refused)| {
            let now = Duration::from_secs(minute * 60);
            memory = Some(remember(memory, *total, *refused, &wanted(window), now));
            memory.unwrap().refusing.map(|since| since.as_secs() / 60)
        });
        steps.collect()
    }

    /// OBS-8: since when nothing passes, with counts that grow and with counts of a period; a signal that passes ends it, as
    /// do a quiet market and a restart of the bot with a signal that passes.
    #[test]
    fn since_when_everything_is_refused() {
        assert_eq!(
            timeline(
                false,
                &[(0, 10.0, 4.0), (1, 10.0, 4.0), (2, 12.0, 6.0), (3, 13.0, 7.0), (4, 14.0, 7.0), (5, 15.0, 8.0)]
            ),
            [None, None, Some(2), Some(2), None, Some(5)]
        );
        assert_eq!(timeline(false, &[(0, 15.0, 15.0), (1, 15.0, 15.0)]), [None, None], "the time before tells nothing");
        assert_eq!(
            timeline(false, &[(0, 4.0, 4.0), (1, 5.0, 5.0), (16, 5.0, 5.0), (17, 5.0, 5.0)]),
            [None, Some(1), Some(1), None],
            "quiet"
        );
        let refusing = [(0, 4.0, 4.0), (1, 5.0, 5.0)];
        assert_eq!(timeline(false, &[refusing[0], refusing[1], (2, 2.0, 1.0)])[1..], [Some(1), None], "begun anew");
        assert_eq!(
            timeline(false, &[refusing[0], refusing[1], (2, 2.0, 2.0)])[1..],
            [Some(1), Some(1)],
            "begun anew, still refusing"
        );
        assert_eq!(
            timeline(true, &[(0, 5.0, 4.0), (1, 5.0, 5.0), (2, 0.0, 0.0), (3, 5.0, 9.0)]),
            [None, Some(1), Some(1), Some(1)]
        );
    }

    /// OBS-8: after a start it is known whether signals pass once one does, or once nothing but refusals, or nothing at all,
    /// has come for so long. Until then an issue of before neither ends nor begins anew.
    #[test]
    fn when_it_is_known() {
        let known = |window: bool, story: &[(u64, f64, f64)]| {
            let mut memory = None;
            let steps = story.iter().map(|(minute, total, refused)| {
                memory = Some(remember(memory, *total, *refused, &wanted(window), Duration::from_secs(minute * 60)));
                memory.unwrap().known
            });
            steps.collect::<Vec<bool>>()
        };
        assert_eq!(
            known(false, &[(0, 9.0, 4.0), (1, 10.0, 5.0), (2, 11.0, 5.0), (3, 12.0, 6.0)]),
            [false, false, true, true]
        );
        assert_eq!(known(false, &[(0, 9.0, 4.0), (14, 9.0, 4.0), (15, 9.0, 4.0)]), [false, false, true], "quiet");
        assert_eq!(
            known(false, &[(0, 9.0, 4.0), (10, 10.0, 5.0), (15, 11.0, 6.0), (24, 12.0, 7.0), (25, 13.0, 8.0)]),
            [false, false, false, false, true],
            "refused for long enough"
        );
        assert_eq!(known(true, &[(0, 9.0, 4.0)]), [true], "a period tells of itself");
    }

    #[test]
    fn what_is_counted() {
        let counts = |value: Value| super::counts(&value, &wanted(false));
        let found = counts(json!({"blocked_signals": {"a": 1, "b": 3}, "signals_total": 9})).unwrap().unwrap();
        assert_eq!((found.blocked[0].0.as_str(), found.refused(), found.total), ("b", 4.0, Some(9.0)));
        assert_eq!(counts(json!({"signals_total": 9})), Ok(None));
        assert_eq!(counts(json!({"blocked_signals": {}, "signals_total": "x"})), Ok(Some(Counts::default())));
        assert!(counts(json!({"blocked_signals": {"a": "x"}})).unwrap_err().contains("no count"));
        assert!(counts(json!({"blocked_signals": [1]})).unwrap_err().contains("no mapping"));
    }
}
