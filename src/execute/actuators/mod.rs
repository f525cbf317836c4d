//! The registry of means.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Actuator, Answer, Order, ProbeAnswer};
use crate::base::tree::Section;
use crate::model::{Ending, Means};

/// A means as the registry lists it.
#[derive(Clone, Copy, Debug)]
pub struct ActuatorSpec {
    /// The key in a binding.
    pub key: &'static str,
    /// The doc page.
    pub doc: &'static str,
    /// Builds it.
    pub build: fn(&mut Section<'_>, &ActuatorContext) -> Option<Arc<dyn Actuator>>,
}

/// What an actuator may need when it is built.
#[derive(Clone, Debug)]
pub struct ActuatorContext {
    /// Relative paths are below it.
    pub workspace: PathBuf,
    /// The probe's argv.
    pub probe: Option<Vec<String>>,
}

struct Nothing(Means);

#[async_trait]
impl Actuator for Nothing {
    fn means(&self) -> Means {
        self.0
    }

    async fn apply(&self, _: &Order) -> Answer {
        Answer { ending: Ending::NotStarted, detail: String::new(), output: String::new() }
    }

    async fn probe(&self, _: &Order) -> ProbeAnswer {
        ProbeAnswer::Unknown
    }

    fn preflight(&self) -> Vec<String> {
        Vec::new()
    }

    fn describe(&self) -> String {
        String::new()
    }
}

fn build_exec(section: &mut Section<'_>, _: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    section.has("env");
    section.has("cwd");
    section.req::<Vec<String>>("argv")?;
    Some(Arc::new(Nothing(Means::Exec)))
}

fn build_file(section: &mut Section<'_>, _: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    for key in ["write", "touch", "delete", "content"] {
        section.has(key);
    }
    section.req::<String>("path")?;
    Some(Arc::new(Nothing(Means::File)))
}

/// Every means.
pub const ACTUATORS: [&ActuatorSpec; 2] = [
    &ActuatorSpec { key: "exec", doc: "", build: build_exec },
    &ActuatorSpec { key: "file", doc: "", build: build_file },
];
