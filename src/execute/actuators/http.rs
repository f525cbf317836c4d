//! `http`: one request to a server of the operator's.
//!
//! **Invariant:** the request is sent once or not at all; only fields of the order get into it, escaped; no secret gets
//! into what is told (SEC-3, SEC-5).
#![expect(clippy::disallowed_methods, reason = "reads secrets on a thread that may block")]

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ActuatorSpec;
use crate::base::redact;
use crate::base::request::{self, End, Fault, Heard, Reach};
use crate::base::secret::Secret;
use crate::execute::template::{Place, Template};
use crate::execute::{Actuator, Answer, Order, ProbeAnswer};
use crate::model::{Ending, Means};

mod settings;

/// How the registry lists it.
pub const SPEC: ActuatorSpec = ActuatorSpec { key: "http", doc: DOC, build: settings::build };

const DOC: &str = "\
## What it calls

`url` with `method` (POST), once, over a connection of its own: no second try, no redirect, no proxy of the environment.
`headers` are texts or `{file: PATH}`; `bearer_token_file` or `basic_auth: {username, password_file}` makes the
Authorization header. The body is `body`, a text, or `json`, whose texts are filled in and escaped. In `url` (path and query),
`headers`, `body` and `json`, `{{field}}` stands for action, subsystem, issue_id, issue_type, severity, run_key, rung, attempt,
epoch, policy or sequence; nothing else gets into a request.

An answer with one of `expect_status` (2xx) is success. The first 4 KiB of its body are kept, at most 64 KiB read. Without
a connection the action has not been started; when no answer comes in time, or the connection ends early, whether it
happened is not known.

## Permissions

The server must be reachable, by TLS with a certificate of the machine's authorities or of `tls.ca_file`, and must take the
credentials. Files with secrets must be readable for chiron's user and nobody else; they are read at each request.

## Idempotence

What the server offers. With `idempotency_key_header` the run's key is sent in that header, the same again after a crash:
class `keyed`, if the server recognises it. As `probeable`, `probe: {url, expect_status, expect_body}` is asked with GET: as
expected, it happened; another 2xx or body, 404 and 410, it did not; any other answer or none, it cannot be told. The
request of before may still be at work: that it did not happen is believed only if the answer is still the same when the
binding's timeout has passed since the first question, asked every 500 ms. Without a probe, the subsystem's check is asked.
";

/// How much of an answer is read.
const BODY_MAX: usize = 64 * 1024;
/// How much of it is kept.
const OUTPUT_MAX: usize = 4096;
/// The time for one question of a preflight or a probe.
const QUESTION_LIMIT: Duration = Duration::from_secs(5);
/// Between two questions of a probe.
const PROBE_PAUSE: Duration = Duration::from_millis(500);

/// A request with its parameters.
#[derive(Debug)]
pub struct Http {
    method: Method,
    url: Template,
    /// `POST http://host/path`, without the query, fields as they were written.
    shown: String,
    headers: Vec<(HeaderName, HeaderText)>,
    credentials: Credentials,
    body: Body,
    expect: Statuses,
    idempotency_key_header: Option<HeaderName>,
    reach: Reach,
    timeout: Option<Duration>,
    probe: Option<Question>,
    preflight: Option<Question>,
}

/// The value of a header.
#[derive(Clone, Debug)]
enum HeaderText {
    Template(Template),
    /// The first line of a file.
    File(PathBuf),
}

/// What the Authorization header is made of.
#[derive(Clone, Debug)]
enum Credentials {
    None,
    Bearer(PathBuf),
    Basic { username: String, password_file: PathBuf },
}

/// The body.
#[derive(Clone, Debug)]
enum Body {
    None,
    Text(Template, Place),
    Json(Shape),
}

/// A value of JSON whose texts are templates.
#[derive(Clone, Debug)]
enum Shape {
    Constant(serde_json::Value),
    Text(Template),
    List(Vec<Shape>),
    Map(Vec<(String, Shape)>),
}

impl Shape {
    fn fill(&self, order: &Order) -> serde_json::Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Text(template) => template.fill(order, Place::Plain).into(),
            Self::List(items) => items.iter().map(|item| item.fill(order)).collect(),
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, item)| (key.clone(), item.fill(order)));
                serde_json::Value::Object(entries.collect())
            }
        }
    }
}

/// A question that has no effect.
#[derive(Debug)]
struct Question {
    url: Template,
    expect: Statuses,
    body: Option<String>,
}

impl Question {
    /// What an answer says of the order, if nothing is at work any more.
    fn means(&self, heard: &Heard) -> ProbeAnswer {
        let status = heard.status.as_u16();
        let found = self
            .body
            .as_deref()
            .is_none_or(|wanted| heard.body.windows(wanted.len()).any(|window| window == wanted.as_bytes()));
        match (self.expect.hold(status), found, &heard.end) {
            (true, true, _) => ProbeAnswer::Happened,
            // It may stand in what did not come.
            (true, false, end) if *end != End::Whole => ProbeAnswer::Unknown,
            (true, false, _) => ProbeAnswer::DidNotHappen,
            // Whoever refuses to tell, cannot, or sends elsewhere, has not said no.
            (false, ..) if matches!(status, 200..=299 | 404 | 410) => ProbeAnswer::DidNotHappen,
            (false, ..) => ProbeAnswer::Unknown,
        }
    }
}

/// Statuses that are well: first and last of each range.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statuses(Vec<(u16, u16)>);

impl Statuses {
    fn success() -> Self {
        Self(vec![(200, 299)])
    }

    fn hold(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { " or " })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{}xx", first / 100)? }
        }
        Ok(())
    }
}

impl Http {
    /// Every header; secrets are read anew.
    async fn headers(&self, order: Option<&Order>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        match &self.body {
            Body::Json(_) => drop(headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"))),
            Body::Text(..) => drop(headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))),
            Body::None => {}
        }
        let mut secrets = Vec::new();
        for (name, value) in &self.headers {
            match value {
                HeaderText::File(file) => secrets.push((name.clone(), file.clone(), Form::Plain)),
                HeaderText::Template(template) => {
                    let text = order.map_or_else(|| template.sample(), |order| template.fill(order, Place::Header));
                    let value =
                        HeaderValue::from_str(&text).map_err(|_| format!("header `{name}` is no line of text"))?;
                    headers.insert(name, value);
                }
            }
        }
        match &self.credentials {
            Credentials::None => {}
            Credentials::Bearer(file) => secrets.push((AUTHORIZATION, file.clone(), Form::Bearer)),
            Credentials::Basic { username, password_file } => {
                secrets.push((AUTHORIZATION, password_file.clone(), Form::Basic(username.clone())));
            }
        }
        if let (Some(name), Some(order)) = (&self.idempotency_key_header, order) {
            let key = HeaderValue::from_str(&order.key.to_string()).map_err(|error| error.to_string())?;
            headers.insert(name, key);
        }
        if secrets.is_empty() {
            return Ok(headers);
        }
        let read = tokio::task::spawn_blocking(move || {
            secrets.into_iter().map(|(name, file, form)| Ok((name, form.of(&Secret::from_file(&file)?)?))).collect()
        });
        let read: Result<Vec<_>, String> = read.await.unwrap_or_else(|error| Err(error.to_string()));
        headers.extend(read?);
        Ok(headers)
    }

    /// Asks a question with the same credentials.
    async fn ask(&self, question: &Question, order: Option<&Order>) -> Result<Heard, Fault> {
        let until = Instant::now() + QUESTION_LIMIT;
        let mut headers = timeout_at(until, self.headers(order)).await.unwrap_or_else(late).map_err(Fault::NotSent)?;
        headers.remove(CONTENT_TYPE);
        if let Some(name) = &self.idempotency_key_header {
            headers.remove(name);
        }
        let url = order.map_or_else(|| question.url.sample(), |order| question.url.fill(order, Place::Url));
        let request = |client: &reqwest::Client| client.get(url).headers(headers).build();
        request::send(&self.reach, request, until, BODY_MAX).await
    }

    /// What became of a request, for people and for the engine.
    fn answer(&self, asked: &str, limit: Duration, heard: Result<Heard, Fault>) -> Answer {
        let heard = match heard {
            Err(Fault::NotSent(why)) => {
                return Answer::new(Ending::NotStarted, format!("{asked}: nothing was sent: {why}"));
            }
            Err(Fault::Silent) => {
                let detail = format!("{asked}: no answer within {limit:?}; whether it happened is not known");
                return Answer::new(Ending::Timeout, detail);
            }
            Err(Fault::Broken(why)) => {
                let detail =
                    format!("{asked}: the connection ended before an answer ({why}); whether it happened is not known");
                return Answer::new(Ending::Failed, detail);
            }
            Ok(heard) => heard,
        };
        let status = heard.status.as_u16();
        let mut answer = if !self.expect.hold(status) {
            let why = match status {
                401 | 403 | 407 => "; are the credentials right?",
                300..=399 => "; redirects are not followed",
                _ => "",
            };
            let detail = format!("{asked} answered {}, expected {}{why}", heard.status, self.expect);
            Answer::new(Ending::Failed, detail)
        } else {
            match &heard.end {
                End::Whole | End::Cut => Answer::new(Ending::Ok, format!("answered {}", heard.status)),
                End::Torn(why) => {
                    let detail = format!(
                        "{asked} answered {}, but the connection ended in the middle of it ({why}); whether it \
                         happened is not known",
                        heard.status
                    );
                    Answer::new(Ending::Failed, detail)
                }
                End::Late => {
                    let detail = format!(
                        "{asked} answered {}, but not to the end within {limit:?}; whether it happened is not known",
                        heard.status
                    );
                    Answer::new(Ending::Timeout, detail)
                }
            }
        };
        if answer.ending == Ending::Ok {
            answer.changed = format!("{asked} answered {status}");
        }
        answer.output = output(&heard.body);
        answer
    }
}

/// How a secret is put into a header.
enum Form {
    Plain,
    Bearer,
    Basic(String),
}

impl Form {
    fn of(&self, secret: &Secret) -> Result<HeaderValue, String> {
        let text = match self {
            Self::Plain => secret.expose().to_owned(),
            Self::Bearer => format!("Bearer {}", secret.expose()),
            Self::Basic(username) => {
                let both = format!("{username}:{}", secret.expose());
                let encoded = base64::engine::general_purpose::STANDARD.encode(both);
                // A server that shows what it was sent shows it in this form.
                redact::remember(&encoded);
                format!("Basic {encoded}")
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| "a secret is no line of text".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn late<T>(_: tokio::time::error::Elapsed) -> Result<T, String> {
    Err("secrets could not be read in time".to_owned())
}

/// The beginning of a body, without secrets. They go first: one that the end cuts in two would be known no longer.
fn output(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut text = redact::text(&text).into_owned();
    text.truncate(text.floor_char_boundary(OUTPUT_MAX));
    text
}

/// `http://host:81/path`, without credentials and query.
fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

#[async_trait]
impl Actuator for Http {
    fn means(&self) -> Means {
        Means::Http
    }

    async fn apply(&self, order: &Order) -> Answer {
        let limit = self.timeout.map_or(order.timeout, |own| own.min(order.timeout));
        let until = Instant::now() + limit;
        let not_started =
            |why: String| Answer::new(Ending::NotStarted, format!("{}: nothing was sent: {why}", self.shown));
        let url = match Url::parse(&self.url.fill(order, Place::Url)) {
            Ok(url) => url,
            Err(error) => return not_started(error.to_string()),
        };
        let headers = match timeout_at(until, self.headers(Some(order))).await.unwrap_or_else(late) {
            Ok(headers) => headers,
            Err(why) => return not_started(why),
        };
        let body = match &self.body {
            Body::None => None,
            Body::Text(template, place) => Some(template.fill(order, *place)),
            Body::Json(shape) => Some(shape.fill(order).to_string()),
        };
        let asked = format!("{} {}", self.method, place(&url));
        let request = |client: &reqwest::Client| {
            let request = client.request(self.method.clone(), url).headers(headers);
            body.into_iter().fold(request, reqwest::RequestBuilder::body).build()
        };
        let heard = request::send(&self.reach, request, until, BODY_MAX).await;
        self.answer(&asked, limit, heard)
    }

    async fn probe(&self, order: &Order) -> ProbeAnswer {
        let Some(question) = &self.probe else { return ProbeAnswer::AskCheck };
        // The request of before may still be at work there: its "not done" counts only once its time is over.
        let until = Instant::now() + order.timeout;
        loop {
            let Ok(heard) = self.ask(question, Some(order)).await else { return ProbeAnswer::Unknown };
            let told = question.means(&heard);
            if told != ProbeAnswer::DidNotHappen || Instant::now() >= until {
                return told;
            }
            sleep_until(until.min(Instant::now() + PROBE_PAUSE)).await;
        }
    }

    async fn preflight(&self) -> Vec<String> {
        let until = Instant::now() + QUESTION_LIMIT;
        let mut warnings = Vec::new();
        warnings.extend(timeout_at(until, self.headers(None)).await.unwrap_or_else(late).err());
        let urls = std::iter::once(&self.url).chain(self.probe.as_ref().map(|probe| &probe.url));
        let mut seen = Vec::new();
        for url in urls.filter_map(|url| Url::parse(&url.sample()).ok()) {
            let origin = url.origin().ascii_serialization();
            if seen.contains(&origin) {
                continue;
            }
            let reached = request::connect(&self.reach, url.as_str(), Instant::now() + QUESTION_LIMIT).await;
            warnings.extend(reached.err().map(|why| format!("`{origin}` cannot be reached: {why}")));
            seen.push(origin);
        }
        let Some(question) = self.preflight.as_ref().filter(|_| warnings.is_empty()) else { return warnings };
        let sample = question.url.sample();
        let asked = Url::parse(&sample).map_or(sample, |url| format!("GET {}", place(&url)));
        let warning = match self.ask(question, None).await {
            Ok(heard) if question.expect.hold(heard.status.as_u16()) => None,
            Ok(heard) => {
                let expected = &question.expect;
                let refused = matches!(heard.status.as_u16(), 401 | 403 | 407);
                let what = if refused { "refuses the credentials: it answered" } else { "answered" };
                Some(format!("`{asked}` {what} {}, expected {expected}", heard.status))
            }
            Err(Fault::NotSent(why) | Fault::Broken(why)) => Some(format!("`{asked}` cannot be asked: {why}")),
            Err(Fault::Silent) => Some(format!("`{asked}` does not answer within {QUESTION_LIMIT:?}")),
        };
        warnings.extend(warning);
        warnings
    }

    fn verifies_tls(&self) -> Option<bool> {
        let https = Url::parse(&self.url.sample()).is_ok_and(|url| url.scheme() == "https");
        https.then_some(!self.reach.insecure_skip_verify)
    }

    fn describe(&self) -> String {
        self.shown.clone()
    }
}

#[cfg(test)]
mod tests;
