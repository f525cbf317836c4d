//! An Alertmanager's API v2: its list of alerts, its age, and the alerts posted to it (ALR-2, ALR-3).
//!
//! **Invariant:** every answer is bounded in time and size; credentials go into the request's header and nowhere else.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use tokio::time::timeout;

use crate::alerts::outgoing::Posted;
use crate::alerts::reconcile::{self, Listing};
use crate::alerts::{Credentials, Settings, Target};
use crate::base::http;
use crate::model::Timestamp;

/// Time for a list, or for what is told, with the whole answer. The task that asks counts as stalled after 10 s.
const LIMIT: Duration = Duration::from_secs(6);
/// Time for the question how old it is.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// Largest list of alerts, in bytes; about 20,000 alerts.
const LIST_BYTES_MAX: usize = 32 << 20;
/// Largest status, in bytes; it holds the Alertmanager's whole configuration.
const STATUS_BYTES_MAX: usize = 8 << 20;

/// Why an Alertmanager could not be asked or told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Error {
    /// One of [`Error::REASONS`].
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
}

impl Error {
    /// Every reason, as labels use them.
    pub const REASONS: [&'static str; 5] = ["unreachable", "timeout", "status", "too_large", "malformed"];

    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    fn of(error: reqwest::Error) -> Self {
        Self::new("unreachable", http::told(&error.without_url()))
    }
}

/// A client of one Alertmanager. Cloning shares its connections.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Credentials,
}

impl Client {
    /// For one entry of the settings.
    pub fn new(target: &Target) -> Result<Self, String> {
        let http = http::client_for(target.ca_pem.as_deref(), target.insecure_skip_verify)?;
        Ok(Self { http, base: target.url.clone(), credentials: target.credentials.clone() })
    }

    /// Every alert that has not ended, and how long the Alertmanager has been running.
    pub async fn list(&self, asked_at: Timestamp, settings: &Settings) -> Result<Listing, Error> {
        let path = "/api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true";
        let (body, date) = within(LIMIT, self.get(path, LIST_BYTES_MAX)).await?;
        let mut listing = reconcile::parse(&body, asked_at, date.unwrap_or(asked_at), settings)
            .map_err(|detail| Error::new("malformed", detail))?;
        // Without it the list counts all the same, but not as proof of an end.
        if let Ok((body, date)) = within(STATUS_LIMIT, self.get("/api/v2/status", STATUS_BYTES_MAX)).await {
            let now = date.unwrap_or(asked_at);
            listing.age = reconcile::parse_started(&body).map(|started| now.since(started));
        }
        Ok(listing)
    }

    /// Posts alerts; accepted is accepted as a whole.
    pub async fn post(&self, alerts: &[Posted]) -> Result<(), Error> {
        let request = self.request(Method::POST, "/api/v2/alerts").json(alerts);
        within(LIMIT, async {
            let response = request.send().await.map_err(Error::of)?;
            expect_success(&response)
        })
        .await
    }

    /// The body, and the time by the other's clock.
    async fn get(&self, path: &str, bytes_max: usize) -> Result<(Vec<u8>, Option<Timestamp>), Error> {
        let mut response = self.request(Method::GET, path).send().await.map_err(Error::of)?;
        expect_success(&response)?;
        let date = response.headers().get("date").and_then(|value| value.to_str().ok()).and_then(parse_date);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Error::of)? {
            if body.len() + chunk.len() > bytes_max {
                return Err(Error::new("too_large", format!("found more than {bytes_max} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, date))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer_auth(token.expose()),
            Credentials::Basic { username, password } => request.basic_auth(username, Some(password.expose())),
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || Error::new("timeout", format!("no whole answer within {} s", limit.as_secs()));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}

fn expect_success(response: &Response) -> Result<(), Error> {
    let status = response.status();
    if status.is_success() { Ok(()) } else { Err(Error::new("status", format!("found {status}, expected 200"))) }
}

fn parse_date(text: &str) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|date| Timestamp::from(date.to_utc()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::secret::Secret;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn target(url: String, credentials: Credentials) -> Target {
        Target { name: url.as_str().into(), url, credentials, ca_pem: None, insecure_skip_verify: false }
    }

    /// Answers the first request with these bytes and returns what was asked, while `ask` runs.
    async fn answered<T>(answer: Vec<u8>, ask: impl AsyncFnOnce(Client) -> T, credentials: Credentials) -> (T, String) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/prefix", listener.local_addr().unwrap());
        let client = Client::new(&target(url, credentials)).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 4096];
            let count = stream.read(&mut asked).await.unwrap();
            asked.truncate(count);
            // A client that has heard enough may hang up.
            let _ = stream.write_all(&answer).await;
            String::from_utf8_lossy(&asked).into_owned()
        };
        tokio::join!(ask(client), serve)
    }

    fn ok(body: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nDate: Sun, 23 Nov 2025 01:35:00 GMT\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
            .into_bytes()
    }

    /// ALR-2, SEC-3: the list is asked for whole, with the credentials; an Alertmanager without a status has no age.
    #[tokio::test]
    async fn the_list_is_asked_for() {
        let credentials = Credentials::Basic { username: "a".to_owned(), password: Secret::new("b".to_owned()) };
        let ask = async |client: Client| client.list(Timestamp::EPOCH, &Settings::default()).await;
        let (listing, asked) = answered(ok("[]"), ask, credentials).await;
        assert_eq!(listing, Ok(Listing::default()));
        let first = "GET /prefix/api/v2/alerts?active=true&silenced=true&inhibited=true&unprocessed=true HTTP/1.1";
        assert_eq!(asked.lines().next(), Some(first));
        assert!(asked.to_lowercase().contains("authorization: basic ytpi"), "{asked}");
        let bearer = Credentials::Bearer(Secret::new("canary".to_owned()));
        assert!(!format!("{bearer:?}").contains("canary"));
        let (_, asked) = answered(ok("[]"), ask, bearer).await;
        assert!(asked.to_lowercase().contains("authorization: bearer canary"), "{asked}");
    }

    /// STYLE section 4: every fault has its reason.
    #[tokio::test]
    async fn faults_have_reasons() {
        let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LIST_BYTES_MAX + 1);
        let mut huge = huge.into_bytes();
        huge.resize(huge.len() + LIST_BYTES_MAX + 1, b' ');
        for (answer, reason) in [
            (ok("{}"), "malformed"),
            (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n".to_vec(), "status"),
            (b"HTTP/1.1 302 No\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".to_vec(), "status"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[".to_vec(), "unreachable"),
            (huge, "too_large"),
        ] {
            let ask = async |client: Client| client.list(Timestamp::EPOCH, &Settings::default()).await;
            let (result, _) = answered(answer, ask, Credentials::None).await;
            let error = result.expect_err(reason);
            assert_eq!(error.reason, reason, "{error}");
            assert!(Error::REASONS.contains(&error.reason));
        }
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let client = Client::new(&target(url, Credentials::None)).unwrap();
        assert_eq!(client.post(&[]).await.map_err(|error| error.reason), Err("unreachable"));
    }
}
