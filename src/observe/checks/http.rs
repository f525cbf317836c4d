//! `http`: does a URL answer as it should?

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Response, StatusCode, Url};
use tokio::time::{Instant, timeout};

use super::tcp::judge_latency;
use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::tree::{Node, Value};
use crate::model::Status;
use crate::observe::params;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Http::KIND, doc: DOC, build };

/// How much of a body is looked at.
const MAX_BODY: usize = 1024 * 1024;

const DOC: &str = "\
# What it asks
Whether a URL answers with the expected status, body and speed. Redirects are not followed: they are answers.

# Why it matters
It is the one question that goes all the way through a service: its port, its event loop and its own health logic.

# Failure reasons
- `degraded`: the answer took `degraded_latency` or longer.
- `critical`: another status, a body without `expect_body` in its first MiB, a refused or broken connection, a
  certificate that does not hold, a name that does not resolve, or no answer within `timeout`; `error` says which.

# Parameters
- `url`: `http://` or `https://`.
- `method` (`GET`): the request method.
- `expect_status` (200 to 299): one status or a list.
- `expect_body` (none): a text that the body must contain.
- `degraded_latency` (none): from this time on degraded, body included.
- `timeout` (5s): the time to wait for all of it.
- `headers`: a mapping of request headers.
";

/// One request and the answer it should get.
#[derive(Debug)]
pub struct Http {
    client: Client,
    request: Request,
    expect: Expect,
}

/// What answer is expected, and when.
#[derive(Clone, Debug)]
pub struct Expect {
    /// The statuses that are well; none stands for 200 to 299.
    pub status: Vec<u16>,
    /// A text that the body must contain.
    pub body: Option<String>,
    /// From this time on degraded.
    pub degraded_latency: Option<Duration>,
    /// The time to wait.
    pub timeout: Duration,
}

/// The answer, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    status: StatusCode,
    latency: Duration,
    body_fits: bool,
}

impl Http {
    /// A check that sends `request` without a body.
    pub fn new(client: Client, request: Request, expect: Expect) -> Self {
        Self { client, request, expect }
    }

    async fn ask(&self) -> Result<Answer, String> {
        let request = self.request.try_clone().expect("a request without a body can be cloned");
        let begun = Instant::now();
        let response = self.client.execute(request).await.map_err(|error| self.tell(error))?;
        let status = response.status();
        let body_fits = self.body_fits(response).await.map_err(|error| self.tell(error))?;
        Ok(Answer { status, latency: begun.elapsed(), body_fits })
    }

    /// Reads the body, also when nothing is expected of it: a server that stops in the middle has not answered.
    async fn body_fits(&self, mut response: Response) -> reqwest::Result<bool> {
        let wanted = self.expect.body.as_deref().unwrap_or_default().as_bytes();
        let mut body = Vec::new();
        let mut seen = 0;
        while let Some(chunk) = response.chunk().await? {
            seen += chunk.len();
            if !wanted.is_empty() {
                body.extend_from_slice(&chunk[..chunk.len().min(MAX_BODY.saturating_sub(body.len()))]);
            }
            if seen >= MAX_BODY {
                break;
            }
        }
        Ok(wanted.is_empty() || body.windows(wanted.len()).any(|window| window == wanted))
    }

    /// The innermost cause, which is the telling one, without the query, which may hold a secret.
    fn tell(&self, error: reqwest::Error) -> String {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("{}: {cause}", self.place())
    }

    fn place(&self) -> String {
        let url = self.request.url();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
    }
}

impl Check for Http {
    type Reading = Result<Answer, String>;
    const KIND: &'static str = "http";

    async fn read(&self) -> Self::Reading {
        match timeout(self.expect.timeout, self.ask()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("{}: no answer within {:?}", self.place(), self.expect.timeout)),
        }
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let answer = match reading {
            Ok(answer) => answer,
            Err(error) => return Judgement::new(Status::Critical).with("error", error.as_str()),
        };
        let status = answer.status.as_u16();
        let fits = if self.expect.status.is_empty() {
            answer.status.is_success()
        } else {
            self.expect.status.contains(&status)
        };
        let judgement = if !fits {
            let expected: Vec<String> = self.expect.status.iter().map(u16::to_string).collect();
            let expected = if expected.is_empty() { "200 to 299".to_owned() } else { expected.join(", ") };
            let error = format!("{}: status {status}, expected {expected}", self.place());
            Judgement::new(Status::Critical).with("error", error)
        } else if !answer.body_fits {
            let expected = self.expect.body.as_deref().unwrap_or_default();
            let error = format!("{}: body does not contain `{expected}`", self.place());
            Judgement::new(Status::Critical).with("error", error)
        } else {
            Judgement::new(Status::Healthy)
        };
        judge_latency(judgement.with("status_code", status), answer.latency, self.expect.degraded_latency)
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let url = params::required_text(section, "url").and_then(|text| match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(url),
        _ => {
            section.reject("url", "expected a URL that begins with http:// or https://", None);
            None
        }
    });
    let method = params::text(section, "method").unwrap_or_else(|| "GET".to_owned());
    let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
        .map_err(|_| section.reject("method", "expected a request method such as GET", None));
    let status = section.node("expect_status").map_or_else(Vec::new, |node| statuses(node, section));
    let expect = Expect {
        status,
        body: params::text(section, "expect_body").filter(|text| !text.is_empty()),
        degraded_latency: params::span(section, "degraded_latency"),
        timeout: params::span(section, "timeout").unwrap_or(Duration::from_secs(5)),
    };
    let mut headers = HeaderMap::new();
    for (name, at, node) in section.entries("headers") {
        let value = params::scalar(node).and_then(|text| HeaderValue::from_str(text).ok());
        match (HeaderName::from_bytes(name.as_bytes()), value) {
            (Ok(name), Some(value)) => drop(headers.insert(name, value)),
            _ => {
                let path = format!("{}.{name}", section.path_of("headers"));
                section.problems().push(*at, &path, "", "expected a header name and a value of one line", None);
            }
        }
    }
    let mut request = Request::new(method.ok()?, url?);
    *request.headers_mut() = headers;
    Some(Arc::new(Http::new(context.http.clone(), request, expect)))
}

fn statuses(node: &Node, section: &Section<'_>) -> Vec<u16> {
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let taken: Vec<u16> = items
        .iter()
        .filter_map(|item| params::scalar(item)?.parse().ok())
        .filter(|status| (100..=599).contains(status))
        .collect();
    if taken.len() != items.len() || taken.is_empty() {
        section.reject("expect_status", "expected a status such as 200, or a list of them", None);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::checks::testing::NOW;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn check(url: &str, status: Vec<u16>, body: Option<&str>) -> Http {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let request = Request::new(Method::GET, Url::parse(url).unwrap());
        let body = body.map(str::to_owned);
        let degraded_latency = Some(Duration::from_millis(100));
        Http::new(client, request, Expect { status, body, degraded_latency, timeout: Duration::from_secs(5) })
    }

    /// Answers one connection with `answer` and returns what the check makes of it.
    async fn ask(answer: &str, status: Vec<u16>, body: Option<&str>) -> Judgement {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/health?token=secret", listener.local_addr().unwrap());
        let check = check(&url, status, body);
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (reading, ()) = tokio::join!(Check::read(&check), serve);
        Check::judge(&check, &reading, NOW)
    }

    /// OBS-7: status and body decide; a redirect is an answer; a broken answer is critical and betrays no query.
    #[tokio::test]
    async fn statuses_and_bodies() {
        let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 8\r\n\r\nall well";
        let away = "HTTP/1.1 302 Found\r\nlocation: /x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 80\r\n\r\nall";
        for (answer, status, body, expected, error) in [
            (ok, vec![], None, Status::Healthy, ""),
            (ok, vec![], Some("well"), Status::Healthy, ""),
            (ok, vec![], Some("ill"), Status::Critical, "body does not contain `ill`"),
            (ok, vec![204, 301], None, Status::Critical, "status 200, expected 204, 301"),
            (away, vec![], None, Status::Critical, "status 302, expected 200 to 299"),
            (away, vec![302], None, Status::Healthy, ""),
            (broken, vec![], None, Status::Critical, "end of file"),
            ("nonsense\r\n\r\n", vec![], None, Status::Critical, "/health: "),
        ] {
            let judgement = ask(answer, status, body).await;
            assert_eq!(judgement.status, expected, "{answer}");
            let found = judgement.details.get("error").map_or("", |error| error.as_str().unwrap());
            assert!(found.contains(error) && !found.contains("secret"), "{found}");
        }
    }

    #[tokio::test]
    async fn nobody_listens() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = check(&format!("http://{}/", listener.local_addr().unwrap()), vec![], None);
        drop(listener);
        let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
        assert_eq!(judgement.status, Status::Critical);
        assert!(judgement.details["error"].as_str().unwrap().contains("refused"), "{judgement:?}");
    }

    /// OBS-5: a server that accepts and stays silent costs the timeout and no more.
    #[tokio::test(start_paused = true)]
    async fn silence_is_critical_after_the_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = check(&format!("http://{}/", listener.local_addr().unwrap()), vec![], None);
        let judgement = Check::judge(&check, &Check::read(&check).await, NOW);
        assert_eq!(judgement.status, Status::Critical);
        assert!(judgement.details["error"].as_str().unwrap().ends_with("no answer within 5s"));
    }

    #[test]
    fn both_sides_of_the_latency() {
        for (millis, status) in [(99, Status::Healthy), (100, Status::Degraded)] {
            let answer = Answer { status: StatusCode::OK, latency: Duration::from_millis(millis), body_fits: true };
            assert_eq!(Check::judge(&check("http://a/", vec![], None), &Ok(answer), NOW).status, status, "{millis}");
        }
    }
}
