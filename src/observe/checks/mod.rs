//! The registry of check kinds.

use std::sync::Arc;
use std::time::Duration;

use super::check::{AnyCheck, BuildContext, Check, CheckSpec, Judgement};
use crate::base::tree::Section;
use crate::model::{Details, Status, Timestamp};

/// Asks nothing.
#[derive(Debug)]
pub struct Nothing;

impl Check for Nothing {
    type Reading = ();
    const KIND: &'static str = "nothing";

    async fn read(&self) {}

    fn judge(&self, (): &(), _now: Timestamp) -> Judgement {
        Judgement {
            status: Status::Unknown,
            details: Details::new(),
            next_change_at: None,
            unrunnable: false,
            perfdata: Vec::new(),
        }
    }
}

fn build_http(section: &mut Section<'_>, _: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    section.opt::<Duration>("timeout");
    section.req::<String>("url")?;
    Some(Arc::new(Nothing))
}

fn build_tcp(section: &mut Section<'_>, _: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    section.opt::<Duration>("timeout");
    section.req::<String>("address")?;
    Some(Arc::new(Nothing))
}

fn build_path(section: &mut Section<'_>, _: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    section.req::<String>("path")?;
    Some(Arc::new(Nothing))
}

/// Every kind.
pub const CHECKS: [&CheckSpec; 8] = [
    &CheckSpec { kind: "file_age", doc: "", build: build_path },
    &CheckSpec { kind: "json", doc: "", build: build_path },
    &CheckSpec { kind: "file_set", doc: "", build: build_path },
    &CheckSpec { kind: "dir_age", doc: "", build: build_path },
    &CheckSpec { kind: "http", doc: "", build: build_http },
    &CheckSpec { kind: "tcp", doc: "", build: build_tcp },
    &CheckSpec { kind: "process", doc: "", build: build_path },
    &CheckSpec { kind: "exec", doc: "", build: build_path },
];

/// The kind of that name.
pub fn check(kind: &str) -> Option<&'static CheckSpec> {
    CHECKS.into_iter().find(|spec| spec.kind == kind)
}
