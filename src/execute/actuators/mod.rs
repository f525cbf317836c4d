//! The registry of means; one file each.
//!
//! What it answers: by which keys of a binding an action can be carried out, and how each means is built from settings.
//! **Invariant:** the list is explicit and ordered, and every file of this folder is in it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::base::request::Reach;
use crate::base::secret::Secret;
use crate::base::tree::{FromNode, Node, Position, Section, Value, parse_duration};
use crate::base::{files, request};
use crate::model::Class;

use super::{Actuator, Environment};

mod container;
mod exec;
mod file;
mod http;
mod signal;
mod systemd;

pub use container::Container;
pub use exec::{Exec, Inherited};
pub use file::{File, Write};
pub use http::Http;
pub use signal::Signal;
pub use systemd::Systemd;

/// What an actuator may need when it is built from its settings.
#[derive(Debug)]
pub struct ActuatorContext {
    /// Relative paths are below it.
    pub workspace: PathBuf,
    /// The binding's `probe`: the command that tells after a crash whether the effect happened.
    pub probe: Option<Vec<String>>,
    /// Relative paths of files with secrets and certificates are below it: the folder of the settings file.
    pub folder: PathBuf,
    /// The binding's class.
    pub class: Class,
    /// chiron's own environment, for what a binding passes on.
    pub environment: Environment,
    /// What works, but probably not as meant: where it stands, its path, and the sentence.
    pub warnings: RefCell<Vec<(Position, String, String)>>,
}

impl ActuatorContext {
    /// Tells of something that works, but probably not as meant.
    fn warn(&self, at: Position, path: &str, text: &str) {
        self.warnings.borrow_mut().push((at, path.to_owned(), text.to_owned()));
    }
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
pub const ACTUATORS: [&ActuatorSpec; 6] =
    [&exec::SPEC, &http::SPEC, &systemd::SPEC, &container::SPEC, &signal::SPEC, &file::SPEC];

/// The headings of a means' page, in order.
pub const HEADINGS: [&str; 3] = ["What it calls", "Permissions", "Idempotence"];

/// The means of that key.
pub fn actuator(key: &str) -> Option<&'static ActuatorSpec> {
    ACTUATORS.into_iter().find(|spec| spec.key == key)
}

/// The path of a file with a secret. It is read when it is needed, so that an exchanged secret counts at once; a file that
/// is there already is read once, so that its secret is removed from all that is shown.
fn secret_file(section: &mut Section<'_>, key: &'static str, context: &ActuatorContext) -> Option<PathBuf> {
    let at = section.node(key).map_or(section.position(), |node| node.at);
    let named = section.opt::<PathBuf>(key)?;
    let path = context.folder.join(&named);
    if Secret::from_file(&path).is_ok() && files::is_open_to_all(&path) {
        let text = format!("`{}` is open to every user of this machine: chmod o-rwx it", named.display());
        context.warn(at, &section.path_of(key), &text);
    }
    Some(path)
}

/// `tls`: whom to believe, and, where a certificate of chiron's own may be asked for, which.
fn tls(section: &mut Section<'_>, context: &ActuatorContext, identity: bool) -> Reach {
    let file = |section: &mut Section<'_>, key| section.opt::<PathBuf>(key).map(|named| context.folder.join(named));
    let mut reach = Reach { ca_file: file(section, "ca_file"), ..Reach::default() };
    // Missing ones are told by the preflight; what is there and no certificate is a mistake.
    let missing = |path: &PathBuf| files::stat(path).is_err();
    if reach.ca_file.as_ref().is_some_and(|path| !missing(path) && request::certificates(path).is_err()) {
        section.reject("ca_file", "expected a file with certificates in PEM", None);
    }
    if identity {
        match (file(section, "cert_file"), file(section, "key_file")) {
            (Some(certificate), Some(key)) => {
                let both = (certificate, key);
                if !missing(&both.0) && !missing(&both.1) && request::own(&both).is_err() {
                    section.reject(
                        "cert_file",
                        "expected a certificate and, in `key_file`, its key, both in PEM",
                        None,
                    );
                }
                reach.identity = Some(both);
            }
            (None, None) => {}
            (Some(_), None) => section.reject("key_file", "missing, expected the key of `cert_file`", None),
            (None, Some(_)) => section.reject("cert_file", "missing, expected the certificate of `key_file`", None),
        }
    } else {
        reach.insecure_skip_verify = section.or("insecure_skip_verify", false);
        if reach.insecure_skip_verify {
            let at = section.node("insecure_skip_verify").map_or(section.position(), |node| node.at);
            let text =
                "the certificate of this server is not verified: whoever stands between can read and forge all of it";
            context.warn(at, &section.path_of("insecure_skip_verify"), text);
        }
    }
    reach
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
