//! The registry of means; one file each.
//!
//! What it answers: by which keys of a binding an action can be carried out, and how each means is built from settings.
//! **Invariant:** the list is explicit and ordered, and every file of this folder is in it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::tree::{FromNode, Node, Section, Value, parse_duration};

use super::Actuator;

mod exec;
mod file;

pub use exec::Exec;
pub use file::{File, Write};

/// What an actuator may need when it is built from its settings.
#[derive(Clone, Debug)]
pub struct ActuatorContext {
    /// Relative paths are below it.
    pub workspace: PathBuf,
    /// The binding's `probe`: the command that tells after a crash whether the effect happened.
    pub probe: Option<Vec<String>>,
}

/// A means as the registry lists it.
#[derive(Clone, Copy, Debug)]
pub struct ActuatorSpec {
    /// The key of a binding under which its parameters stand.
    pub key: &'static str,
    /// The doc page, under the fixed headings What it calls / Permissions / Idempotence.
    pub doc: &'static str,
    /// Builds it from its settings; mistakes go to the section's problems and give `None`.
    /// The caller calls `finish` on the section afterwards.
    pub build: fn(&mut Section<'_>, &ActuatorContext) -> Option<Arc<dyn Actuator>>,
}

/// Every means, in the order of ACT-2.
pub const ACTUATORS: [&ActuatorSpec; 2] = [&exec::SPEC, &file::SPEC];

/// The headings of a means' page, in order.
pub const HEADINGS: [&str; 3] = ["What it calls", "Permissions", "Idempotence"];

/// The means of that key.
pub fn actuator(key: &str) -> Option<&'static ActuatorSpec> {
    ACTUATORS.into_iter().find(|spec| spec.key == key)
}

/// A scalar, as its text.
struct Text(String);

impl FromNode for Text {
    const EXPECTED: &'static str = "a text";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        match &node.value {
            Value::Scalar { text, .. } => Ok(Self(text.clone())),
            _ => Err(None),
        }
    }
}

/// The word `true`; `false` is refused, because to ask for nothing is a mistake.
struct Yes;

impl FromNode for Yes {
    const EXPECTED: &'static str = "true";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        match &node.value {
            Value::Scalar { text, quoted: false } if text == "true" => Ok(Self),
            _ => Err(None),
        }
    }
}

/// A duration above zero.
struct Span(Duration);

impl FromNode for Span {
    const EXPECTED: &'static str = "a duration above zero such as 30s";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        match &node.value {
            Value::Scalar { text, .. } => parse_duration(text).filter(|span| !span.is_zero()).map(Self).ok_or(None),
            _ => Err(None),
        }
    }
}

#[cfg(test)]
mod tests;
