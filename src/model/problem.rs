//! A mistake in the settings, told so that a person can mend it.

use serde::Serialize;

/// One mistake in a settings file: where, what was found, which rule it breaks, and a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named; empty for a flag.
    pub file: String,
    /// 1-based line; 0 if the problem has no position.
    pub line: usize,
    /// 1-based column; 0 if the problem has no position.
    pub column: usize,
    /// The dotted key path, e.g. `subsystems.order_router.check.url`.
    pub path: String,
    /// What was found, shortened; empty if something is missing.
    pub found: String,
    /// The rule that is broken, as "expected ...".
    pub rule: String,
    /// What to do, where we can tell.
    pub hint: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}", self.file)?;
            if self.line > 0 {
                write!(f, ":{}:{}", self.line, self.column)?;
            }
            f.write_str(": ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        if !self.found.is_empty() {
            write!(f, "found `{}`, ", self.found)?;
        }
        f.write_str(&self.rule)?;
        if let Some(hint) = &self.hint {
            write!(f, " (hint: {hint})")?;
        }
        Ok(())
    }
}
