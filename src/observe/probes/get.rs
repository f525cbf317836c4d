//! A GET of something that a peer shows: no redirect is followed, the body is bounded, and no secret is told.
//!
//! **Invariant:** what is told of a place holds neither credentials nor a query; the caller bounds the time.

use reqwest::header::{CONTENT_ENCODING, HeaderMap, LOCATION};
use reqwest::{Client, Response, Url};

use crate::base::http::told;
use crate::base::tree::shorten;

/// Scheme, host, port and path of an address.
pub fn place(url: &Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Asks; the head of the answer, whatever its status.
pub async fn ask(client: &Client, url: &Url, headers: &HeaderMap) -> Result<Response, String> {
    let request = client.get(url.clone()).headers(headers.clone());
    request.send().await.map_err(|error| told(&error.without_url()))
}

/// What is wrong with the head of an answer that should have content, if anything.
pub fn refusal(response: &Response) -> Option<String> {
    let status = response.status();
    if status.is_redirection() {
        let to = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let to = to.and_then(|to| response.url().join(to).ok()).map(|to| format!(" to {}", shorten(&place(&to))));
        let to = to.unwrap_or_default();
        return Some(format!(
            "found status {}, a redirect{to}, which is not followed; expected 200: ask where the content is",
            status.as_u16()
        ));
    }
    if !status.is_success() {
        return Some(format!("found status {}, expected 200", status.as_u16()));
    }
    let encoding = response.headers().get(CONTENT_ENCODING).filter(|value| value.as_bytes() != b"identity")?;
    let encoding = shorten(&String::from_utf8_lossy(encoding.as_bytes()));
    Some(format!("found a body in the encoding `{encoding}`, which was not asked for"))
}

/// The whole body, of at most `max` bytes.
pub async fn body(response: &mut Response, max: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| told(&error.without_url()))? {
        if body.len() + chunk.len() > max {
            return Err(format!("found more than {max} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-3: neither credentials nor a query are told.
    #[test]
    fn a_place_has_no_secrets() {
        let url = Url::parse("https://me:canary@host:9100/metrics?token=canary#canary").unwrap();
        assert_eq!(place(&url), "https://host:9100/metrics");
        assert_eq!(place(&Url::parse("http://host").unwrap()), "http://host/");
    }
}
