//! chiron's own environment, as it was when it started.
//!
//! What it answers: which values a command gets that asks for variables of chiron's own (`env_from`).
//! **Invariant:** read once; no value of it is ever shown.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Variables by name; only those that are text. Empty by default. Cloning shares them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl Environment {
    /// That of this process, now.
    pub fn of_this_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        Self(Arc::new(variables.into_iter().collect()))
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-3: whoever prints the inputs prints no value.
    #[test]
    fn no_value_is_shown() {
        let environment: Environment = [("TOKEN".to_owned(), "canary".to_owned())].into_iter().collect();
        assert_eq!((environment.get("TOKEN"), environment.get("HOME")), (Some("canary"), None));
        assert_eq!(format!("{environment:?}"), "Environment(1 variables)");
    }
}
