//! Identities: names from the configuration, episodes, runs, alert fingerprints.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A short shared text: the name of a subsystem, symbol, action or issue type. Cloning costs a counter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(Arc::from(text))
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What an episode is about (DET-4). The status rules of one subsystem share one `kind`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EpisodeKey {
    /// The subsystem that is broken; `host` for resources.
    pub subsystem: Name,
    /// The symbol, if the issue is scoped to one.
    pub symbol: Option<Name>,
    /// The issue type, a snake_case noun; serialised as `type`, because `kind` names the kind of a journal record.
    #[serde(rename = "type")]
    pub kind: Name,
}

/// The id of an episode and of its issue: `ai_model_20251123_013456`, with a suffix if taken (DET-2).
pub type EpisodeId = Name;

/// The identity of a run: (episode, rung, attempt), unique in the store (DET-4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    /// The episode it heals.
    pub episode: EpisodeId,
    /// 1-based position in the episode's ladder.
    pub rung: u32,
    /// 1-based number of the try on this rung.
    pub attempt: u32,
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.episode, self.rung, self.attempt)
    }
}

impl FromStr for RunKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("found `{text}`, expected EPISODE/RUNG/ATTEMPT");
        let mut parts = text.rsplitn(3, '/');
        let attempt = parts.next().and_then(|part| part.parse().ok()).ok_or_else(expected)?;
        let rung = parts.next().and_then(|part| part.parse().ok()).ok_or_else(expected)?;
        let episode = parts.next().filter(|part| !part.is_empty()).ok_or_else(expected)?;
        Ok(Self { episode: episode.into(), rung, attempt })
    }
}

impl Serialize for RunKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The identity of an alert: lower-case hex of the first 16 bytes of SHA-256 over its length-prefixed, sorted labels
/// without the configured replica labels (`facts`: Alertmanager's own is a 64-bit hash and its `startsAt` moves).
pub type Fingerprint = Name;
