//! `vitals`: how is a live bot, by its own word?

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::push::{ends_after, judge_never};
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::base::files::FileProblem;
use crate::model::Status;
use crate::observe::age::{AgeLimits, Missing, judge_problem};
use crate::observe::bot::{self, Claim, Said};
use crate::observe::inbox::{Slot, Told};
use crate::observe::probes::polled::Page;
use crate::observe::probes::state_file::{StateFile, parse_json};
use crate::observe::{params, vitals};

mod scraped;

use scraped::Series;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Vitals::KIND, doc: DOC, build };

/// The largest file or answer with vitals in JSON, in bytes.
const JSON_MAX: usize = 1024 * 1024;

const DOC: &str = "\
# What it asks
How a live bot is by its own word: its WebSocket, its rate limits, latency, errors and memory; and how old that word is. The
bot pushes it (`POST /api/v1/vitals`), writes it to a file, answers with it as JSON, or has it on its metrics page. The keys
are the same everywhere; what makes no sense is refused whole.

# Why it matters
A process can run, listen and answer while its connection to the exchange is gone. Only the bot knows; and one that falls
silent is stale, never healthy.

# Failure reasons
- `degraded`: the vitals are as old as `degraded_after`, or dated more than 5 s in the future; the bot says so of itself; more
  of its requests fail than `thresholds.max_error_rate`; or its WebSocket brings no data.
- `critical`: the vitals are older than `critical_after`; the bot says so of itself; its WebSocket is not connected or not
  authenticated; there is no answer, another status than 200 (redirects are not followed), no JSON, a metrics page that
  is cut off (its last line has no end, or OpenMetrics no `# EOF`), a value that makes no sense, or none of the series.
- as `missing` says: there is no such file; or nothing was ever pushed, for `critical_after` since chiron began to listen.
- `unknown`: nothing was ever pushed, before that. And not run: the file may not be read.

Issues of their own are raised for the WebSocket, rate limits, latency and memory, while the vitals are younger than
`degraded_after`; the subsystem's own issue leaves them out.

# Parameters
- `from`: `push`, `file`, `http` or `metrics`.
- `degraded_after` (1m), `critical_after` (5m): the limits of their age. It counts from `timestamp`, else `last_update` in the
  vitals; else from the push, the file's modification time, or the answer.
- `missing` (`unknown`): `unknown`, `degraded` or `critical`; with `push` and `file`.
- `path`: the file; with `file`. A relative one is below the workspace.
- `pointer` (none): where in the JSON the vitals are; with `file` and `http`.
- `url`, `headers` (none), `bearer_token_file` (none), `timeout` (5s): how to ask; with `http` and `metrics`.
- `series`: a mapping from the key of a vital to its series; with `metrics`. A series is `name` or `name{label=\"value\"}`, or a
  mapping `{series, factor, symbol_label}`: its value is multiplied by `factor` (1), and `rate_limit_status` has one series per
  symbol, which `symbol_label` (`symbol`) names. Keys below `websocket_status` are written with a dot.
";

/// The vitals of one bot.
#[derive(Debug)]
pub struct Vitals {
    source: Source,
    limits: AgeLimits,
    missing: Missing,
    max_error_rate: f64,
    clock: Clock,
    dated: Mutex<Option<Dated>>,
}

/// Where they come from.
enum Source {
    Push(Arc<Slot>),
    File(StateFile<Shown>),
    Http(Page, Option<String>),
    Metrics(Page, Vec<Series>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Push(_) => "push",
            Self::File(_) => "file",
            Self::Http(..) => "http",
            Self::Metrics(..) => "metrics",
        })
    }
}

/// What a bot shows to whoever looks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shown {
    told: Told,
    claim: Claim,
    /// Keys whose series were not there.
    absent: Vec<String>,
}

/// A date that was seen, when by the time since boot, and how old it was then. What it is later comes from the time since
/// boot alone, so that no clock that is set makes it young or old.
#[derive(Clone, Copy, Debug)]
struct Dated {
    at: Timestamp,
    seen: Duration,
    age_millis: i64,
}

/// What was found, or why nothing was.
#[derive(Debug)]
pub struct Reading {
    read_at: Timestamp,
    found: Result<Found, Trouble>,
}

#[derive(Debug)]
struct Found {
    shown: Shown,
    /// How old it is; negative if it is dated in the future.
    age_millis: i64,
    /// When it was true by the bot's clock.
    by_bot: Timestamp,
    /// What dates it.
    dated_by: &'static str,
}

#[derive(Debug)]
enum Trouble {
    /// Nothing was ever pushed, for so long.
    Never(Duration),
    /// There is no such file, or something else in its place.
    File(PathBuf, FileProblem),
    /// It answers wrongly, or not at all.
    Wrong(String),
}

impl Vitals {
    fn new(source: Source, limits: AgeLimits, missing: Missing, context: &BuildContext) -> Self {
        let (max_error_rate, clock) = (context.max_error_rate, context.clock.clone());
        Self { source, limits, missing, max_error_rate, clock, dated: Mutex::default() }
    }

    /// How old something dated `at` is, in milliseconds.
    fn age(&self, at: Timestamp) -> i64 {
        let (now, since_boot) = (self.clock.now(), self.clock.since_boot());
        let mut dated = self.dated.lock().unwrap_or_else(PoisonError::into_inner);
        let first = dated.filter(|dated| dated.at == at).unwrap_or(Dated {
            at,
            seen: since_boot,
            age_millis: now.millis() - at.millis(),
        });
        *dated = Some(first);
        first.age_millis.saturating_add(millis(since_boot.saturating_sub(first.seen)))
    }

    /// What was shown just now, or written when `written` says.
    fn found(&self, shown: Shown, written: Option<Timestamp>) -> Found {
        match (bot::stamp(&shown.told), written) {
            (Some((at, dated_by)), _) => Found { age_millis: self.age(at), by_bot: at, dated_by, shown },
            (None, Some(at)) => Found { age_millis: self.age(at), by_bot: at, dated_by: "mtime", shown },
            (None, None) => Found { age_millis: 0, by_bot: self.clock.now(), dated_by: "received", shown },
        }
    }

    fn pushed(&self, slot: &Slot) -> Result<Found, Trouble> {
        let reading = slot.read();
        let Some(vitals) = reading.vitals else { return Err(Trouble::Never(reading.listening)) };
        let claim = reading.heard.map(|heard| Claim { status: heard.status, message: heard.message });
        let (by_bot, dated_by) = bot::stamp(&vitals.told).unwrap_or((vitals.at, "received"));
        let at_receipt = vitals.at.millis() - by_bot.millis();
        let shown = Shown { told: vitals.told, claim: claim.unwrap_or_default(), absent: Vec::new() };
        Ok(Found { shown, age_millis: millis(vitals.age).saturating_add(at_receipt), by_bot, dated_by })
    }
}

impl Check for Vitals {
    type Reading = Reading;
    const KIND: &'static str = "vitals";

    async fn read(&self) -> Reading {
        let found = match &self.source {
            Source::Push(slot) => self.pushed(slot),
            Source::File(file) => match file.read() {
                Ok((meta, content)) => match &*content {
                    Ok(shown) => Ok(self.found(shown.clone(), Some(meta.modified))),
                    Err(why) => Err(Trouble::Wrong(format!("{}: {why}", file.path().display()))),
                },
                Err(problem) => Err(Trouble::File(file.path().to_owned(), problem)),
            },
            Source::Http(page, pointer) => {
                polled(page, pointer.as_deref()).await.map(|shown| self.found(shown, None)).map_err(Trouble::Wrong)
            }
            Source::Metrics(page, series) => {
                scraped::read(page, series).await.map(|shown| self.found(shown, None)).map_err(Trouble::Wrong)
            }
        };
        Reading { read_at: self.clock.now(), found }
    }

    fn judge(&self, reading: &Reading, now: Timestamp) -> Judgement {
        let limits = &self.limits;
        let since_read = now.since(reading.read_at);
        let found = match &reading.found {
            Ok(found) => found,
            Err(Trouble::Never(listening)) => {
                return judge_never(*listening + since_read, limits, self.missing, "no vitals have", now);
            }
            Err(Trouble::File(path, problem)) => return judge_problem(path, problem, self.missing),
            Err(Trouble::Wrong(why)) => return Judgement::new(Status::Critical).with("error", why.as_str()),
        };
        let at_millis = |from: Timestamp| Timestamp::from_millis(from.millis().saturating_sub(found.age_millis));
        let true_at = at_millis(now.minus(since_read));
        let mut judgement = limits.judge("Vitals", true_at, found.dated_by, now);
        let doubted = true_at > now.plus(crate::observe::age::FUTURE_TOLERANCE);
        let age = now.since(true_at);
        let fresh = !doubted && limits.degraded_after.is_none_or(|limit| age < limit);
        let told = limits.critical_after.is_none_or(|limit| age <= limit);
        let said = told.then(|| {
            let vitals = bot::vitals(&found.shown.told, at_millis(reading.read_at), found.by_bot);
            Said { told: &found.shown.told, vitals, age, fresh }
        });
        let ends = ends_after(age, limits).map(|in_| now.plus(in_));
        if !found.shown.absent.is_empty() {
            judgement = judgement.with("absent", found.shown.absent.clone());
        }
        let mut judgement = bot::graded(judgement, &found.shown.claim, said, self.max_error_rate);
        judgement.next_change_at = judgement.next_change_at.into_iter().chain(ends).min();
        judgement
    }

    fn blocking(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    fn slot(&self) -> Option<&Arc<Slot>> {
        if let Source::Push(slot) = &self.source { Some(slot) } else { None }
    }

    fn raises(&self) -> &'static [&'static str] {
        bot::ISSUES
    }

    fn watches(&self) -> Vec<PathBuf> {
        if let Source::File(file) = &self.source { vec![file.path().to_owned()] } else { Vec::new() }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

async fn polled(page: &Page, pointer: Option<&str>) -> Result<Shown, String> {
    let body = page.body(JSON_MAX).await?;
    shown(&body, pointer).map_err(|why| format!("{}: {why}", page.place()))
}

/// The vitals in JSON that a bot shows. Texts under keys of its own are left alone; a known key has to make sense.
fn shown(bytes: &[u8], pointer: Option<&str>) -> Result<Shown, String> {
    if bytes.len() > JSON_MAX {
        return Err(format!("found {} bytes, expected vitals of at most {JSON_MAX}", bytes.len()));
    }
    let mut value = parse_json(bytes)?;
    let found = match pointer {
        None => value.take(),
        Some(pointer) => value.pointer_mut(pointer).map(Value::take).unwrap_or_default(),
    };
    let Value::Object(map) = found else {
        let at = pointer.map_or(String::new(), |pointer| format!(" at `{pointer}`"));
        return Err(format!("found no mapping{at}, expected vitals"));
    };
    let words = [Status::Healthy, Status::Degraded, Status::Critical];
    let status = map.get("status").and_then(Value::as_str);
    let status = words.into_iter().find(|word| status == Some(word.as_str()));
    let message: String = map.get("message").and_then(Value::as_str).unwrap_or_default().chars().take(500).collect();
    taken(vitals::among(map), Claim { status, message })
}

/// Vitals that make sense, or what does not.
pub(super) fn taken(map: Map<String, Value>, claim: Claim) -> Result<Shown, String> {
    let told = vitals::checked(map).map_err(|fault| fault.to_string())?;
    Ok(Shown { told: Arc::new(told), claim, absent: Vec::new() })
}

/// The keys of each source.
const KEYS: [(&str, &[&str]); 4] = [
    ("push", &["missing"]),
    ("file", &["path", "pointer", "missing"]),
    ("http", &["url", "headers", "bearer_token_file", "timeout", "pointer"]),
    ("metrics", &["url", "headers", "bearer_token_file", "timeout", "series"]),
];

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let words = KEYS.map(|(word, _)| (word, word));
    let from = if section.has("from") {
        section.word("from", &words)
    } else {
        section.reject("from", "missing, expected one of `push`, `file`, `http`, `metrics`", None);
        None
    };
    let limits = params::age_limits(section, AgeLimits::live_file());
    let (_, own) = KEYS.into_iter().find(|(word, _)| Some(*word) == from)?;
    let source = match from? {
        "push" => Some(Source::Push(Arc::new(Slot::new(context.clock.clone())))),
        "file" => {
            let pointer = pointer(section);
            params::path(section, "path", context).map(|path| {
                let parse = move |bytes: &[u8]| shown(bytes, pointer.as_deref());
                Source::File(StateFile::new(path, context.clock.clone(), parse))
            })
        }
        "http" => {
            let pointer = pointer(section);
            Page::take(section, "application/json", context).map(|page| Source::Http(page, pointer))
        }
        _ => {
            let series = scraped::take(section);
            let page = Page::take(section, "text/plain;version=0.0.4", context);
            page.zip(series).map(|(page, series)| Source::Metrics(page, series))
        }
    };
    let missing = if own.contains(&"missing") { params::missing(section) } else { Missing::Unknown };
    for key in KEYS.iter().flat_map(|(_, keys)| keys.iter()).filter(|key| !own.contains(*key)) {
        if section.has(key) {
            section.reject(key, &format!("expected no `{key}` with `from: {}`", from.unwrap_or_default()), None);
        }
    }
    Some(Arc::new(Vitals::new(source?, limits, missing, context)))
}

fn pointer(section: &mut Section<'_>) -> Option<String> {
    let pointer = params::text(section, "pointer")?;
    if !pointer.starts_with('/') {
        section.reject("pointer", "expected a JSON pointer, such as /bot/vitals", None);
    }
    Some(pointer)
}

#[cfg(test)]
mod tests;
