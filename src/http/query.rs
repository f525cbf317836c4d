//! The parameters of a request: known ones only, each once, each within its bounds.
//!
//! **Invariant:** pure; a parameter that is misspelt is refused, never ignored.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;

use super::problem::Problem;

/// The longest text of a parameter, in characters.
const TEXT_MAX: usize = 1024;

/// The parameters as they came, percent-decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::of(&parts.uri))
    }
}

/// The one parameter of a path, percent-decoded.
#[derive(Clone, Debug)]
pub(super) struct Segment(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|rejection| {
            Problem::invalid(format!("found a path that is no text: {}", rejection.body_text()))
        })?;
        Ok(Self(text))
    }
}

impl Params {
    /// Those of an address. What is no text becomes U+FFFD, which no parameter takes.
    pub(super) fn of(uri: &Uri) -> Self {
        if uri.query().is_none_or(str::is_empty) {
            return Self::default();
        }
        Self(Query::try_from_uri(uri).map(|Query(pairs)| pairs).unwrap_or_default())
    }

    /// Refuses others than the `known` ones, and one that comes twice.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for (index, (name, value)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let expected = match known {
                    [] => "none here".to_owned(),
                    known => format!("only {}", known.join(", ")),
                };
                return Err(Problem::invalid(format!("found the parameter `{}`, expected {expected}", short(name))));
            }
            if self.0[..index].iter().any(|(other, _)| other == name) {
                return Err(Problem::invalid(format!("found `{name}` twice, expected it once")));
            }
            let length = value.chars().count();
            if !(1..=TEXT_MAX).contains(&length) || value.contains(['\0', '\u{fffd}']) {
                let detail = format!("found `{name}` with {length} characters, expected text of 1 to {TEXT_MAX}");
                return Err(Problem::invalid(detail));
            }
        }
        Ok(())
    }

    /// The text of a parameter.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A whole number within bounds.
    pub(super) fn number<T>(&self, name: &str, bounds: RangeInclusive<T>) -> Result<Option<T>, Problem>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        // A leading `+` would parse, but is no number in JSON nor in the document.
        let number = Some(text).filter(|text| !text.starts_with('+')).and_then(|text| text.parse().ok());
        number.filter(|number| bounds.contains(number)).map(Some).ok_or_else(|| {
            let (least, most) = bounds.into_inner();
            Problem::invalid(format!("found {name} `{}`, expected a whole number from {least} to {most}", short(text)))
        })
    }

    /// One of the words of `all`.
    pub(super) fn word<T: Copy>(
        &self,
        name: &str,
        all: &[T],
        word: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        all.iter().copied().find(|one| word(*one) == text).map(Some).ok_or_else(|| {
            let known = all.iter().map(|one| word(*one)).collect::<Vec<_>>().join(", ");
            Problem::invalid(format!("found {name} `{}`, expected one of {known}", short(text)))
        })
    }
}

/// The beginning of what a client wrote, for a refusal.
pub(super) fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &'static str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn parameters_are_known_and_come_once() {
        let detail = |query| params(query).only(&["limit", "cursor"]).map_err(|problem| problem.detail);
        for good in ["", "limit=1", "cursor=x&limit=%31"] {
            assert_eq!(detail(good), Ok(()), "{good}");
        }
        for (bad, part) in [
            ("limits=1", "the parameter `limits`, expected only limit, cursor"),
            ("limit=1&limit=2", "`limit` twice"),
            ("cursor=", "`cursor` with 0 characters"),
            ("cursor=%00", "expected text"),
            ("cursor=%ff", "expected text"),
            ("=1", "the parameter ``"),
        ] {
            assert!(detail(bad).unwrap_err().contains(part), "{bad}: {:?}", detail(bad));
        }
        assert!(params("a=1").only(&[]).unwrap_err().detail.contains("expected none here"));
    }

    #[test]
    fn numbers_and_words_keep_their_bounds() {
        assert_eq!(params("n=5").number("n", 1..=5).unwrap(), Some(5));
        assert_eq!(params("m=5").number("n", 1..=5).unwrap(), None);
        for bad in ["n=6", "n=0", "n=-1", "n=+5", "n=", "n=1.0", "n=x", "n=99999999999999999999"] {
            assert!(params(bad).number("n", 1..=5).is_err(), "{bad}");
        }
        assert_eq!(params("w=b").word("w", &["a", "b"], |word| word).unwrap(), Some("b"));
        let refused = params("w=c").word("w", &["a", "b"], |word| word).unwrap_err();
        assert_eq!(refused.detail, "found w `c`, expected one of a, b");
    }
}
