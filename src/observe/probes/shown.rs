//! A text that a bot shows of itself: in a file of its own, or at an address.
//!
//! **Invariant:** bounded in what is read; the caller bounds the time. What the text means is for others to say.

use std::path::PathBuf;

use reqwest::header::HeaderMap;
use reqwest::{Client, Url};
use serde_json::Value;

use super::get;
use crate::base::files;
use crate::base::tree::shorten;

/// How much is read.
const MAX: usize = 1024 * 1024;

/// Where a bot shows it.
#[derive(Clone, Debug)]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In the answer to a GET.
    Url(Client, Url),
}

/// A text at a place.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Where.
    pub place: Place,
    /// Where in it, as a JSON pointer; without one, the place holds nothing but the text.
    pub pointer: Option<String>,
}

impl Shown {
    /// Whether [`Shown::read`] blocks its thread; it then completes in one poll.
    pub fn blocks(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// What is shown now, or why nothing is.
    pub async fn read(&self) -> Result<String, String> {
        let bytes = match &self.place {
            Place::File(path) => match files::read_bounded(path, MAX as u64) {
                Ok((bytes, _)) => bytes,
                Err(problem) => return Err(format!("`{}`: {problem}", path.display())),
            },
            Place::Url(client, url) => ask(client, url).await.map_err(|why| format!("{}: {why}", get::place(url)))?,
        };
        text(&bytes, self.pointer.as_deref())
    }
}

/// The body of the answer to a GET, of at most 1 MiB; anything but a success says what was found.
pub(in crate::observe) async fn ask(client: &Client, url: &Url) -> Result<Vec<u8>, String> {
    let mut response = get::ask(client, url, &HeaderMap::new()).await?;
    match get::refusal(&response) {
        Some(why) => Err(why),
        None => get::body(&mut response, MAX).await,
    }
}

/// The text in `bytes`, or at a pointer of the JSON in them.
fn text(bytes: &[u8], pointer: Option<&str>) -> Result<String, String> {
    let Some(pointer) = pointer else {
        let text = std::str::from_utf8(bytes).map_err(|_| "found no UTF-8 text".to_owned())?;
        return Ok(text.trim().to_owned());
    };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("found no JSON: {error}"))?;
    match value.pointer(pointer) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("found `{}` at `{pointer}`, expected a text", shorten(&other.to_string()))),
        None => Err(format!("found nothing at `{pointer}`, expected a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// POL-5: what a bot shows is one text, at a pointer or alone; anything else says what was found.
    #[test]
    fn texts() {
        let ok = |text: &str| Ok::<String, String>(text.to_owned());
        assert_eq!(text(b" no_new_trades\n", None), ok("no_new_trades"));
        assert_eq!(text(br#"{"a":{"policy":"allow_all"}}"#, Some("/a/policy")), ok("allow_all"));
        assert!(text(br#"{"policy":3}"#, Some("/policy")).unwrap_err().contains("found `3` at `/policy`"));
        assert!(text(b"{}", Some("/policy")).unwrap_err().contains("found nothing at `/policy`"));
        assert!(text(b"{", Some("/policy")).unwrap_err().contains("found no JSON"));
        assert!(text(b"\xff", None).unwrap_err().contains("UTF-8"));
    }

    /// SEC-3: the place of a failure is told without its query.
    #[tokio::test]
    async fn a_query_is_not_told() {
        crate::base::http::install_tls();
        let url = Url::parse("http://me:canary@127.0.0.1:1/state?token=canary").unwrap();
        let shown = Shown { place: Place::Url(Client::new(), url), pointer: None };
        let error = shown.read().await.unwrap_err();
        assert!(error.starts_with("http://127.0.0.1:1/state: ") && !error.contains("canary"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_missing_is_told() {
        let shown = Shown { place: Place::File("/nonexistent/state.json".into()), pointer: None };
        assert!(shown.blocks());
        assert!(shown.read().await.unwrap_err().contains("/nonexistent/state.json"));
    }
}
