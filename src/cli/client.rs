//! The one HTTP client of the commands that concern a running chiron.
//!
//! **Invariant:** certificates are verified unless the credentials say otherwise, which is told; an answer is bounded
//! in size and time; a redirect is not followed, so that no credential goes elsewhere.
#![expect(clippy::print_stderr, reason = "warnings about credentials come before any answer")]

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::{Method, Url};
use serde_json::{Value, json};
use sha2::Sha256;

use super::credentials::{Credentials, Login};
use super::output::{Output, clean};
use crate::base::clock::Clock;
use crate::base::http::install_tls;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// chiron itself gives up on a forced check after 60 s.
const TIMEOUT: Duration = Duration::from_secs(75);
/// The largest answer taken, in bytes.
const ANSWER_MAX: usize = 256 * 1024 * 1024;
/// The most pages of one list.
const PAGES_MAX: usize = 100_000;

/// Which chiron is asked, by whom, and how the answer is shown.
#[derive(Clone, Debug, Args)]
pub(super) struct Remote {
    /// Where chiron is.
    #[arg(long, value_name = "URL", env = "CHIRON_URL", default_value = "http://127.0.0.1:19913", global = true)]
    url: String,
    /// A file that says who asks: a YAML mapping with `bearer_token_file`, or `username` and `password_file`; also
    /// `ca_file`, `client_cert_file`, `client_key_file`, `signing_secret_file`.
    #[arg(long, value_name = "FILE", env = "CHIRON_CREDENTIALS", global = true)]
    credentials: Option<PathBuf>,
    /// How the answer is shown; `nagios` is for `check` alone.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table", global = true)]
    pub(super) output: Output,
}

/// What stands in the way, for a person: what was found, what was expected, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Trouble {
    /// One sentence.
    message: String,
    /// The status and the stable code of a refusal by chiron itself.
    pub(super) refusal: Option<(u16, String)>,
}

impl Trouble {
    fn new(message: String) -> Self {
        Self { message, refusal: None }
    }

    /// Whether there is nothing of that name.
    pub(super) fn is_missing(&self) -> bool {
        self.refusal.as_ref().is_some_and(|(status, _)| *status == 404)
    }
}

/// A client with its address and credentials.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    credentials: Credentials,
    clock: Clock,
}

impl Client {
    /// A client for what the arguments name; warns about the credentials on stderr.
    pub(super) fn new(remote: &Remote) -> Result<Self, Trouble> {
        let credentials = match &remote.credentials {
            Some(file) => Credentials::load(file).map_err(Trouble::new)?,
            None => Credentials::default(),
        };
        for warning in &credentials.warnings {
            eprintln!("chiron: warning: {warning}");
        }
        Self::with(&remote.url, credentials)
    }

    /// The same with credentials at hand.
    fn with(url: &str, credentials: Credentials) -> Result<Self, Trouble> {
        let (base, loopback, plain) = address(url)?;
        if plain && !loopback && credentials.login != Login::None {
            eprintln!("chiron: warning: credentials go over the network in the clear; use https");
        }
        install_tls();
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .user_agent(concat!("chiron/", env!("CARGO_PKG_VERSION")));
        if loopback {
            builder = builder.no_proxy();
        }
        let wrong = |what: &str, error: &reqwest::Error| Trouble::new(format!("{what}: {}", told(error)));
        if let Some(pem) = &credentials.authorities {
            let list = reqwest::Certificate::from_pem_bundle(pem).map_err(|error| wrong("`ca_file`", &error))?;
            if list.is_empty() {
                return Err(Trouble::new("`ca_file`: found no certificate, expected at least one in PEM".to_owned()));
            }
            builder = builder.tls_certs_only(list);
        } else if plain {
            // A machine without certificates of its own can still ask its neighbour on loopback.
            builder = builder.tls_certs_only([]);
        }
        if let Some(pem) = &credentials.identity {
            let identity = reqwest::Identity::from_pem(pem)
                .map_err(|error| wrong("`client_cert_file` and `client_key_file`", &error))?;
            builder = builder.identity(identity);
        }
        if credentials.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let http = builder.build().map_err(|error| wrong("no HTTP client", &error))?;
        Ok(Self { http, base, credentials, clock: Clock::system() })
    }

    /// GET.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Trouble> {
        self.ask(Method::GET, path, None).await
    }

    /// POST of a JSON body.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Trouble> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// DELETE without a body.
    pub(super) async fn delete(&self, path: &str) -> Result<Value, Trouble> {
        self.ask(Method::DELETE, path, None).await
    }

    /// A list over all its pages: `{"<key>": [...]}`, at most `limit` items of it.
    pub(super) async fn list(&self, path: &str, key: &str, limit: Option<usize>) -> Result<Value, Trouble> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let separator = if path.contains('?') { '&' } else { '?' };
            let wanted = match &cursor {
                None => path.to_owned(),
                Some(cursor) => format!("{path}{separator}cursor={}", encoded(cursor)),
            };
            let mut page = self.get(&wanted).await?;
            let Some(items) = page.get_mut(key).and_then(Value::as_array_mut) else {
                return Err(Trouble::new(format!("{}{path}: found no list `{key}` in the answer", self.base)));
            };
            all.append(items);
            let next = match &page["next"] {
                Value::Null => None,
                Value::String(next) => Some(next.clone()),
                other => Some(other.to_string()),
            };
            if limit.is_some_and(|limit| all.len() >= limit) {
                all.truncate(limit.unwrap_or(usize::MAX));
                return Ok(json!({ key: all }));
            }
            match next {
                None => return Ok(json!({ key: all })),
                next if next == cursor => break,
                next => cursor = next,
            }
        }
        Err(Trouble::new(format!("{}{path}: the pages of `{key}` do not end", self.base)))
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Trouble> {
        let url = format!("{}{path}", self.base);
        let bytes = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let mut request = self.http.request(method.clone(), &url).header("accept", "application/json");
        request = match &self.credentials.login {
            Login::None => request,
            Login::Bearer(token) => request.bearer_auth(token),
            Login::Basic(name, password) => request.basic_auth(name, Some(password)),
        };
        if let Some(secret) = &self.credentials.signing_secret {
            for (name, value) in signature(secret, self.clock.now().millis() / 1000, method.as_str(), &url, &bytes) {
                request = request.header(name, value);
            }
        }
        if body.is_some() {
            request = request.header("content-type", "application/json").body(bytes);
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if answer.len() + chunk.len() > ANSWER_MAX {
                return Err(Trouble::new(format!("{url}: the answer is longer than {ANSWER_MAX} bytes")));
            }
            answer.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            return Err(self.refused(status, path, &answer));
        }
        serde_json::from_slice(&answer)
            .map_err(|error| Trouble::new(format!("{url}: found no JSON ({error}), expected chiron there")))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let cause = told(error);
        let told = cause.to_ascii_lowercase();
        let (found, hint) = if error.is_timeout() {
            ("no answer in time".to_owned(), "is chiron stuck, or a firewall in between?")
        } else if told.contains("connection refused") {
            ("connection refused".to_owned(), "is chiron running there? --url or CHIRON_URL names another address")
        } else if told.contains("invalid peer certificate") {
            (cause, "name the authority to believe with `ca_file` in the file of --credentials")
        } else if told.contains("certificaterequired") || told.contains("certificate required") {
            (cause, "name `client_cert_file` and `client_key_file` in the file of --credentials")
        } else if told.contains("corrupt message") || told.contains("invalidcontenttype") {
            (cause, "is it http instead of https?")
        } else {
            (cause, "--url or CHIRON_URL names another address")
        };
        Trouble::new(format!("{}: {}; {hint}", self.base, clean(&found)))
    }

    fn refused(&self, status: reqwest::StatusCode, path: &str, answer: &[u8]) -> Trouble {
        let problem: Value = serde_json::from_slice(answer).unwrap_or_default();
        let (Some(code), Some(detail)) = (problem["code"].as_str(), problem["detail"].as_str()) else {
            let hint = if status.is_redirection() {
                "a redirect is not followed: name the address itself with --url"
            } else {
                "is there something else at --url, or a proxy in between?"
            };
            let found = format!("{}{path}: answered {status}, and not in chiron's manner; {hint}", self.base);
            let refusal = Some((status.as_u16(), String::new()));
            return Trouble { message: found, refusal };
        };
        let hint = match (status.as_u16(), code) {
            (401, _) => match &self.credentials.file {
                None => "; name who you are with --credentials or CHIRON_CREDENTIALS".to_owned(),
                Some(file) => format!("; the credentials of `{}` are not taken", file.display()),
            },
            (404, "unknown_path") => "; is this chiron of another version than this program?".to_owned(),
            _ => String::new(),
        };
        let message = format!("{}: refused, {}{hint} ({}, {code})", self.base, clean(detail), status.as_u16());
        Trouble { message, refusal: Some((status.as_u16(), code.to_owned())) }
    }
}

/// The address without a slash at its end, whether it is on loopback, and whether it is without TLS.
fn address(text: &str) -> Result<(String, bool, bool), Trouble> {
    let wrong = |hint: &str| {
        let text = crate::base::tree::shorten(text);
        Trouble::new(format!("found `{text}`, expected an address such as http://127.0.0.1:19913{hint}"))
    };
    let url = Url::parse(text).map_err(|_| wrong(""))?;
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong(""))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&format!("; write http://{}", crate::base::tree::shorten(text))));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong(", without `?` and `#`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("; a name and a password belong into the file of --credentials"));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let loopback =
        bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    Ok((text.trim_end_matches('/').to_owned(), loopback, url.scheme() == "http"))
}

/// The headers of a signed request (SEC-2): HMAC-SHA256, in hex, over `TIMESTAMP:METHOD:PATH?QUERY:BODY`.
fn signature(secret: &[u8], seconds: i64, method: &str, url: &str, body: &[u8]) -> [(&'static str, String); 2] {
    let target = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or("/");
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(format!("{seconds}:{method}:{target}:").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    [("x-chiron-timestamp", seconds.to_string()), ("x-chiron-signature", digest)]
}

/// `text` as a part of a path or a value of a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// An error and its causes, without its address, which is told already.
fn told(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
        cause = error.source();
    }
    if parts.is_empty() { error.to_string() } else { parts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        let good = [
            ("http://127.0.0.1:19913/", "http://127.0.0.1:19913", true, true),
            ("http://[::1]:1", "http://[::1]:1", true, true),
            ("http://localhost", "http://localhost", true, true),
            ("https://chiron.example/ops/", "https://chiron.example/ops", false, false),
        ];
        for (text, base, loopback, plain) in good {
            assert_eq!(address(text).unwrap(), (base.to_owned(), loopback, plain), "{text}");
        }
        for text in ["", "127.0.0.1:19913", "chiron", "ftp://x", "http://", "http://a?b", "http://me:canary@host"] {
            let told = address(text).expect_err(text).to_string();
            assert!(told.contains("expected an address such as"), "{text}: {told}");
            assert!(!told.contains("canary"), "{told}");
        }
    }

    /// SEC-2: what is signed is the time, the method, the target and the body. Compared with `openssl dgst -hmac`.
    #[test]
    fn requests_are_signed() {
        let [(_, at), (_, signed)] =
            signature(b"key", 1_700_000_000, "POST", "http://h:1/api/v1/policy?x=1", b"{\"a\":1}");
        assert_eq!(at, "1700000000");
        assert_eq!(signed, "cda36191a3aadc78429defbf4c413abcdc846ef19840dd9f71d90b3827ab82b0");
    }

    #[test]
    fn text_is_encoded_for_a_path() {
        assert_eq!(encoded("a b/ü&?"), "a%20b%2F%C3%BC%26%3F");
        assert_eq!(encoded("order_router-1.2~"), "order_router-1.2~");
    }
}
