//! A page of a bot or an exporter, read over HTTP in bounded pieces.
//!
//! **Invariant:** time and memory are bounded; no file is read on a thread that others wait for; redirects are not followed; neither a query nor a secret is
//! in what is told.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION,
};
use reqwest::{Client, Response, Url};
use tokio::time::{Instant, timeout};

use crate::base::http::told;
use crate::base::secret::Secret;
use crate::base::tree::Section;
use crate::observe::check::BuildContext;
use crate::observe::params;
use crate::observe::probes::get;
use crate::observe::probes::page::{Fault, Found, Look, PageReader};
use crate::observe::probes::peer::Desk;

/// The largest metrics page, in bytes.
const METRICS_MAX: usize = 16 * 1024 * 1024;

/// One page and how to ask for it.
#[derive(Clone, Debug)]
pub struct Page {
    client: Client,
    url: Url,
    headers: HeaderMap,
    bearer_token_file: Option<PathBuf>,
    desk: Desk,
    timeout: Duration,
}

impl Page {
    /// Takes `url`, `headers`, `bearer_token_file` and `timeout` from a section; it is asked for content of type `accept`.
    pub fn take(section: &mut Section<'_>, accept: &'static str, context: &BuildContext) -> Option<Self> {
        let url = params::required_text(section, "url").and_then(|text| match checked(&text) {
            Ok(url) => Some(url),
            Err((rule, hint)) => {
                section.reject("url", rule, hint);
                None
            }
        });
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        for (name, at, node) in section.entries("headers") {
            let value = params::scalar(node).and_then(|text| HeaderValue::from_str(text).ok());
            let rule = match (HeaderName::from_bytes(name.as_bytes()), value) {
                (Ok(name), Some(_)) if [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(&name) => {
                    "expected a secret to come from a file: `bearer_token_file`"
                }
                (Ok(name), Some(value)) => {
                    headers.insert(name, value);
                    continue;
                }
                _ => "expected a header name and a value of one line",
            };
            let path = format!("{}.{name}", section.path_of("headers"));
            section.problems().push(*at, &path, "", rule, None);
        }
        let bearer_token_file = params::secret_path(section, "bearer_token_file", context);
        if let Some(path) = &bearer_token_file {
            // One that is there already is known as a secret from now on; a missing one is told by the check.
            let _ = Secret::from_file(path);
        }
        let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
        let client = context.http.clone();
        Some(Self { client, url: url?, headers, bearer_token_file, desk: Desk::default(), timeout })
    }

    /// Reads all of it, at most `max` bytes. What is told of a failure names the place.
    pub async fn body(&self, max: usize) -> Result<Vec<u8>, String> {
        self.within(async { get::body(&mut self.ask().await?, max).await }).await
    }

    /// What a metrics page has of each that is looked for. A page that is cut off has nothing.
    pub async fn series(&self, looks: Vec<Look<'_>>) -> Result<Vec<Found>, String> {
        let why = |fault: Fault| match fault {
            Fault::Page(why) | Fault::Wanted(why) => why,
        };
        let read = async {
            let mut response = self.ask().await?;
            let kind = response.headers().get(CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
            let mut reader = PageReader::several(looks, kind.starts_with(b"application/openmetrics-text"));
            let mut bytes = 0;
            while let Some(chunk) = response.chunk().await.map_err(|error| told(&error.without_url()))? {
                bytes += chunk.len();
                if bytes > METRICS_MAX {
                    return Err(format!("the page is larger than {METRICS_MAX} bytes"));
                }
                reader.push(&chunk).map_err(why)?;
                // A page that comes quickly must not keep this thread from other checks.
                tokio::task::consume_budget().await;
            }
            reader.finish_all().map_err(why)
        };
        self.within(read).await
    }

    async fn within<T>(&self, read: impl Future<Output = Result<T, String>>) -> Result<T, String> {
        let limit = self.timeout;
        let read = timeout(limit, read).await;
        read.unwrap_or_else(|_| Err(format!("no whole answer within {limit:?}")))
            .map_err(|why| format!("{}: {why}", self.place()))
    }

    async fn ask(&self) -> Result<Response, String> {
        let mut headers = self.headers.clone();
        if let Some(token) = self.desk.secret(self.bearer_token_file.as_deref(), Instant::now() + self.timeout).await? {
            let token = format!("Bearer {}", token.expose());
            let token = HeaderValue::from_str(&token).map_err(|_| "found no token of one line".to_owned())?;
            headers.insert(AUTHORIZATION, token);
        }
        let response = get::ask(&self.client, &self.url, &headers).await?;
        match get::refusal(&response) {
            Some(refusal) => Err(refusal),
            None => Ok(response),
        }
    }

    /// The URL without what may hold a secret.
    pub fn place(&self) -> String {
        get::place(&self.url)
    }
}

fn checked(text: &str) -> Result<Url, (&'static str, Option<String>)> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or(("expected a URL that begins with http:// or https://", None))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("expected a URL without credentials", Some("write bearer_token_file: PATH".to_owned())));
    }
    Ok(url)
}
