//! A JSON document that a bot keeps: in a file, or at an address.
//!
//! **Invariant:** bounded in bytes and time; what is not wanted of it is forgotten as soon as it is read.
#![expect(clippy::disallowed_methods, reason = "reads a file on a thread that may block, one at a time")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Url};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::findings::Findings;
use crate::base::files::FileProblem;
use crate::base::tree::{Section, redact};
use crate::model::{Severity, Status, Timestamp};
use crate::observe::age::FUTURE_TOLERANCE;
use crate::observe::check::{BuildContext, Judgement};
use crate::observe::params;
use crate::observe::probes::shown;
use crate::observe::probes::state_file::{Content, StateFile, parse_json, parse_stamp, timestamp};

/// The time for an answer of an address that stands in the place of a file.
const ANSWER: Duration = Duration::from_secs(5);

/// Where it is, and what is made of it.
pub(super) enum Source<T> {
    /// In a file.
    File(Arc<StateFile<T>>, Arc<Semaphore>),
    /// In the answer to a GET.
    Url(Client, Url, Parse<T>),
}

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

/// What was found there: when it last changed, if that is known, and what it says.
pub(super) type Seen<T> = Result<(Option<Timestamp>, Content<T>), Absent>;

/// Why there is no content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// What stands in the place of the file.
    File(FileProblem),
    /// The address gave no answer, or none of use.
    Answer(String),
    /// The file is still being read since an earlier look.
    Busy,
}

impl<T: Send + Sync + 'static> Source<T> {
    /// `place` is a path or a URL, already checked.
    pub(super) fn new(
        place: Place,
        context: &BuildContext,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        match place {
            Place::File(path) => {
                Self::File(Arc::new(StateFile::new(path, context.clock.clone(), parse)), Arc::new(Semaphore::new(1)))
            }
            Place::Url(url) => Self::Url(context.http.clone(), url, Box::new(parse)),
        }
    }

    /// Whether [`Source::read`] blocks its thread; it then completes in one poll.
    pub(super) const fn blocks(&self) -> bool {
        matches!(self, Self::File(..))
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File(file, _) => file.path().display().to_string(),
            Self::Url(_, url, _) => address(url),
        }
    }

    /// The file, if it is one.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::File(file, _) => Some(file.path().to_owned()),
            Self::Url(..) => None,
        }
    }

    /// Looks at it.
    pub(super) async fn read(&self) -> Seen<T> {
        match self {
            Self::File(file, _) => of_file(file),
            Self::Url(client, url, parse) => match timeout(ANSWER, shown::ask(client, url)).await {
                Ok(Ok(body)) => Ok((None, Arc::new(parse(&body)))),
                Ok(Err(why)) => Err(Absent::Answer(why)),
                Err(_) => Err(Absent::Answer(format!("no answer within {ANSWER:?}"))),
            },
        }
    }

    /// The same from a check that does not block: a file is read on a thread of its own, and never by two at once.
    pub(super) async fn read_apart(&self) -> Seen<T> {
        let Self::File(file, one) = self else { return self.read().await };
        let Ok(permit) = Arc::clone(one).try_acquire_owned() else { return Err(Absent::Busy) };
        let file = Arc::clone(file);
        let read = tokio::task::spawn_blocking(move || {
            let seen = of_file(&file);
            drop(permit);
            seen
        });
        read.await.unwrap_or(Err(Absent::Busy))
    }

    /// What it says, or why that is not known; `missing` is the grade of a file that is not there.
    pub(super) fn content<'s>(&self, seen: &'s Seen<T>, missing: Status) -> Result<&'s T, Trouble> {
        let place = self.place();
        let of = |status, unrunnable, why: &str| Trouble {
            status,
            unrunnable,
            missing: false,
            text: format!("{place}: {why}"),
        };
        match seen {
            Ok((_, content)) => (**content).as_ref().map_err(|why| of(Status::Degraded, false, why)),
            Err(Absent::File(problem)) if problem.is_missing() => {
                Err(Trouble { missing: true, ..of(missing, false, "missing") })
            }
            Err(Absent::File(problem)) if problem.is_finding() => {
                Err(of(Status::Degraded, false, &problem.to_string()))
            }
            Err(Absent::File(problem)) => Err(of(Status::Unknown, true, &problem.to_string())),
            Err(Absent::Answer(why)) => Err(of(Status::Degraded, false, why)),
            Err(Absent::Busy) => Err(of(Status::Unknown, true, "is still being read since an earlier look")),
        }
    }
}

fn of_file<T>(file: &StateFile<T>) -> Seen<T> {
    let (meta, content) = file.read().map_err(Absent::File)?;
    Ok((Some(meta.modified), content))
}

/// A URL without what may be secret.
pub(super) fn address(url: &Url) -> String {
    let text = redact(url.as_str());
    text.split(['?', '#']).next().unwrap_or_default().to_owned()
}

/// Why a document says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// The grade.
    pub(super) status: Status,
    /// It could not be looked at.
    pub(super) unrunnable: bool,
    /// There is no such file.
    pub(super) missing: bool,
    /// One line.
    pub(super) text: String,
}

impl Trouble {
    /// The judgement, with a finding of that severity unless nothing is known or nothing is wrong with it.
    pub(super) fn judgement(self, severity: Severity) -> Judgement {
        if self.unrunnable {
            return Judgement::unrunnable(self.text);
        }
        if self.status == Status::Unknown {
            return Judgement::new(Status::Unknown).with("error", self.text);
        }
        let mut findings = Findings::default();
        if self.status == Status::Healthy {
            return findings.judgement().with("message", self.text);
        }
        findings.add(self.status, severity, None, self.text);
        findings.judgement()
    }
}

/// A checked path or URL.
pub(super) enum Place {
    File(PathBuf),
    Url(Url),
}

/// A key that holds a path below the workspace or a URL.
pub(super) fn place(section: &mut Section<'_>, key: &'static str, context: &BuildContext) -> Option<Place> {
    let text = params::required_text(section, key)?;
    if text.contains("://") {
        return url(section, key, &text).map(Place::Url);
    }
    Some(Place::File(context.workspace.join(text)))
}

/// A text that must be a URL of HTTP.
pub(super) fn url(section: &Section<'_>, key: &str, text: &str) -> Option<Url> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            section.reject(key, "expected a URL that begins with http:// or https://", None);
            None
        }
    }
}

/// A key that holds a JSON pointer.
pub(super) fn pointer(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = params::text(section, key)?;
    if text.is_empty() || text.starts_with('/') {
        return Some(text);
    }
    section.reject(key, "expected a JSON pointer such as /open_positions", Some(format!("write /{text}")));
    None
}

/// `missing`: the grade of a state file that is not there. Some bots remove theirs when there is nothing to say.
pub(super) fn missing(section: &mut Section<'_>) -> Status {
    let words =
        [Status::Unknown, Status::Healthy, Status::Degraded, Status::Critical].map(|word| (word.as_str(), word));
    section.word("missing", &words).unwrap_or(Status::Unknown)
}

/// A key that holds a share above 0 and up to 1.
pub(super) fn share(section: &mut Section<'_>, key: &'static str, default: f64) -> f64 {
    let Some(share) = params::number(section, key) else { return default };
    if share > 0.0 && share <= 1.0 {
        return share;
    }
    let hint = (share > 1.0 && share <= 100.0).then(|| format!("write {}", share / 100.0));
    section.reject(key, "expected a share above 0 and up to 1", hint);
    default
}

/// What a value of a list or mapping calls itself, or its number or flag as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.chars().take(64).collect()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// The keys under which intelligence data dates itself, most telling first.
const DATE_KEYS: [&str; 4] = ["last_cycle", "timestamp", "last_update", "updated_at"];

/// Where a document's date stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Dating {
    /// Here, and nowhere else.
    pub(super) pointer: Option<String>,
    /// The document is no JSON: only the file's date counts.
    pub(super) opaque: bool,
}

impl Dating {
    /// The date in a document; `None` leaves it to the file's.
    pub(super) fn date(&self, bytes: &[u8]) -> Result<Option<Timestamp>, String> {
        let Some(pointer) = &self.pointer else {
            if self.opaque {
                return Ok(None);
            }
            let keys = DATE_KEYS.map(str::to_owned);
            return parse_stamp(bytes, &keys).map(|stamp| stamp.map(|stamp| stamp.at));
        };
        let value = parse_json(bytes)?;
        let found = value.pointer(pointer).and_then(timestamp);
        found.map(Some).ok_or_else(|| format!("found no date at `{pointer}`"))
    }
}

/// How old something is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Age {
    /// In seconds; below zero in the future.
    pub(super) seconds: f64,
    /// What is wrong with that.
    pub(super) wrong: Option<String>,
    /// When that changes by itself.
    pub(super) changes_at: Option<Timestamp>,
}

/// The age of what is dated `at`: older than `limit` is stale, and so is what lies in the future.
pub(super) fn age(at: Timestamp, limit: Duration, now: Timestamp) -> Age {
    if at > now.plus(FUTURE_TOLERANCE) {
        let wrong = Some("is dated in the future".to_owned());
        return Age { seconds: -at.since(now).as_secs_f64(), wrong, changes_at: Some(at.minus(FUTURE_TOLERANCE)) };
    }
    let age = now.since(at);
    let stale = age > limit;
    let wrong = stale.then(|| format!("is stale: older than {}s", limit.as_secs_f64()));
    let changes_at = (!stale).then(|| at.plus(limit).plus(Duration::from_millis(1)));
    Age { seconds: age.as_secs_f64(), wrong, changes_at }
}

/// A clock for a [`Source`] of tests.
#[cfg(test)]
pub(super) fn context(workspace: &std::path::Path) -> BuildContext {
    let _ = rustls::crypto::ring::default_provider().install_default();
    BuildContext {
        folder: workspace.into(),
        workspace: workspace.to_owned(),
        data_dir: workspace.join("data"),
        log_dir: workspace.join("logs"),
        stale_after: Duration::from_secs(300),
        own_files: Arc::default(),
        clock: crate::base::clock::Clock::manual(crate::observe::checks::testing::NOW),
        http: Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap(),
        max_error_rate: 0.2,
        max_latency: Duration::from_secs(2),
    }
}
