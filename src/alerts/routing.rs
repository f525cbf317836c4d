//! stub
use crate::model::{IntakeAlert, Level, Name, Severity};
#[expect(missing_docs, reason = "stub")]
#[derive(Clone, Debug, PartialEq)]
pub enum Routed {
    Watchdog,
    Unrouted,
    UnknownSubsystem(String),
    UnknownAction(String),
    To(Routing),
}
#[expect(missing_docs, reason = "stub")]
#[derive(Clone, Debug, PartialEq)]
pub struct Routing {
    pub subsystem: Name,
    pub kind: Option<Name>,
    pub symbol: Option<Name>,
    pub action: Option<Name>,
    pub policy: Option<Level>,
    pub severity: Severity,
    pub confirm_by_check: bool,
}
#[expect(missing_docs, reason = "stub")]
pub fn route(_a: &IntakeAlert, _s: &super::Settings, _k: &dyn Fn(&str) -> bool, _i: &dyn Fn(&str) -> bool) -> Routed {
    Routed::Unrouted
}
