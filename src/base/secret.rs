//! A text that nobody must see.
//!
//! **Invariant:** its content leaves only through [`Secret::expose`]; `Debug` shows none of it, and there is no `Display`.

use std::fmt;
use std::path::Path;

use super::{files, redact};

/// The largest file with a secret, in bytes.
const FILE_MAX: u64 = 64 * 1024;

/// A token, password or key (SEC-3).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown, here and wherever else it may turn up.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        redact::remember(&text);
        Self(text)
    }

    /// The first line of a file that is not empty. Blocks; what is told of a failure holds nothing of the content.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let (bytes, _) = files::read_bounded(path, FILE_MAX).map_err(|problem| format!("`{shown}`: {problem}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is no UTF-8 text, expected a secret"))?;
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        let line = line.ok_or_else(|| format!("`{shown}` is empty, expected a secret on one line"))?;
        Ok(Self::new(line))
    }

    /// The content, for those who must use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(redact::REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-3: no debug output of anything that holds a secret tells it.
    #[test]
    fn it_is_not_shown() {
        assert_eq!(
            format!("{:?} {:#?}", Secret::new("canary"), vec![Secret::new("canary")]),
            "<redacted> [\n    <redacted>,\n]"
        );
        assert_eq!(Secret::new("canary").expose(), "canary");
    }
}
