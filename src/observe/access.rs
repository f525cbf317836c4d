//! How a check reaches an HTTP server: where it is, whom to believe, and with which credentials.
//!
//! **Invariant:** secrets come from files, and are nowhere in an address; all mistakes go to the section's problems.

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Client, Url};

use super::check::BuildContext;
use super::params;
use crate::base::secret::Secret;
use crate::base::tree::Section;
use crate::base::{files, http};

/// The largest file with certificates, in bytes.
const CERTIFICATES_MAX: u64 = 1024 * 1024;

/// A server, and how to ask it.
#[derive(Clone, Debug)]
pub struct Access {
    /// The client; without redirects.
    pub client: Client,
    /// The address, without credentials.
    pub url: Url,
    /// What is sent with each request.
    pub headers: HeaderMap,
    /// Whether the server's certificate is verified; `None` without TLS.
    pub verifies_tls: Option<bool>,
    /// What an operator should know of these settings.
    pub cautions: Vec<String>,
}

impl Access {
    /// Takes the address under `key`, and `bearer_token_file`, `basic_auth`, `ca_file`, `insecure_skip_verify`.
    pub fn take(section: &mut Section<'_>, key: &'static str, context: &BuildContext) -> Option<Self> {
        let mut cautions = Vec::new();
        let url = url(section, key);
        let token = section
            .has("bearer_token_file")
            .then(|| secret(section, "bearer_token_file", context, &mut cautions))
            .map(|token| token.map(|token| format!("Bearer {}", token.expose())));
        let basic = section.section("basic_auth").map(|mut basic| {
            let name = params::required_text(&mut basic, "username");
            if name.as_ref().is_some_and(|name| name.contains(':')) {
                basic.reject("username", "expected a name without `:`", None);
            }
            let password = secret(&mut basic, "password_file", context, &mut cautions);
            basic.finish();
            let both = format!("{}:{}", name?, password?.expose());
            Some(format!("Basic {}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, both)))
        });
        if token.is_some() && basic.is_some() {
            section.reject("basic_auth", "expected either `bearer_token_file` or `basic_auth`", None);
        }
        let authorities = certificates(section, context);
        let skip_verify = section.or("insecure_skip_verify", false);
        let mut headers = HeaderMap::new();
        if let Some(credentials) = token.or(basic) {
            let mut value = HeaderValue::from_str(&credentials?)
                .map_err(|_| section.reject("bearer_token_file", "expected a token of printable ASCII", None))
                .ok()?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let url = url?;
        let is_tls = url.scheme() == "https";
        if is_tls && skip_verify {
            cautions.push(unverified());
        }
        let client = match (authorities?, skip_verify) {
            (None, false) => context.http.clone(),
            (pem, skip) => http::client_for(pem.as_deref(), skip)
                .map_err(|why| section.reject("ca_file", &format!("expected certificates in PEM, but {why}"), None))
                .ok()?,
        };
        Some(Self { client, url, headers, verifies_tls: is_tls.then_some(!skip_verify), cautions })
    }
}

/// What is said of a server whose certificate is not verified.
pub fn unverified() -> String {
    "the certificate of this server is not verified: whoever stands between can read and forge all of it".to_owned()
}

/// An address of a web server, without credentials.
fn url(section: &mut Section<'_>, key: &'static str) -> Option<Url> {
    let text = params::required_text(section, key)?;
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        section.reject(key, "expected a URL that begins with http:// or https://", None);
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "write basic_auth: {username: ..., password_file: ...}";
        section.reject(key, "expected an address without credentials", Some(hint.to_owned()));
        return None;
    }
    Some(url)
}

/// The secret in the file under `key`, which must be there.
fn secret(
    section: &mut Section<'_>,
    key: &'static str,
    context: &BuildContext,
    cautions: &mut Vec<String>,
) -> Option<Secret> {
    let path = params::required_secret_path(section, key, context)?;
    match Secret::from_file(&path) {
        Ok(secret) => {
            if files::is_open_to_all(&path) {
                cautions.push(format!("`{}` is open to every user of this machine: chmod o-rwx it", path.display()));
            }
            Some(secret)
        }
        Err(_) => {
            let rule = match files::stat(&path) {
                Err(problem) => format!("expected a readable file with a secret, but it is {problem}"),
                Ok(_) => "expected a file with a secret on its first line".to_owned(),
            };
            section.reject(key, &rule, None);
            None
        }
    }
}

/// The certificates (PEM) in `ca_file`, if it is given; the outer `None` if they are refused.
pub fn certificates(section: &mut Section<'_>, context: &BuildContext) -> Option<Option<Vec<u8>>> {
    if !section.has("ca_file") {
        return Some(None);
    }
    let path = params::secret_path(section, "ca_file", context)?;
    let rule = match files::read_bounded(&path, CERTIFICATES_MAX) {
        Ok((pem, _)) => match reqwest::Certificate::from_pem_bundle(&pem) {
            Ok(found) if !found.is_empty() => return Some(Some(pem)),
            _ => "expected a file with certificates in PEM".to_owned(),
        },
        Err(problem) => format!("expected a readable file with certificates in PEM, but it is {problem}"),
    };
    section.reject("ca_file", &rule, None);
    None
}
