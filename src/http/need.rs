//! What each request needs: the group whose allow list and limits it falls under, and the role it asks for.
//!
//! **Invariant:** pure; a request that the table does not name needs the strictest.

use axum::http::Method;

use crate::model::Role;

/// Routes that share an allow list, a rate limit and a kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// The metrics page.
    Metrics,
    /// `/-/healthy` and `/-/ready`.
    Probes,
    /// Everything that only tells, the operator's page included.
    Read,
    /// What a bot pushes: vitals and heartbeats.
    Push,
    /// Everything that changes something.
    Change,
    /// Alertmanager's notifications.
    Webhook,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 6] = [Self::Metrics, Self::Probes, Self::Read, Self::Push, Self::Change, Self::Webhook];

    /// The word used in the settings and as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Probes => "probes",
            Self::Read => "read",
            Self::Push => "push",
            Self::Change => "change",
            Self::Webhook => "webhook",
        }
    }

    /// The group of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == text)
    }
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) group: Group,
    pub(super) role: Role,
}

/// The webhook's path.
pub(super) const WEBHOOK: &str = "/api/v1/alerts/webhook";

/// What a request needs, by method and path.
pub(super) fn need(method: &Method, path: &str, telemetry_path: &str) -> Need {
    let of = |group, role| Need { group, role };
    if path == WEBHOOK {
        return of(Group::Webhook, Role::Operate);
    }
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return match path {
            "/-/healthy" | "/-/ready" => of(Group::Probes, Role::Read),
            path if path == telemetry_path => of(Group::Metrics, Role::Read),
            _ => of(Group::Read, Role::Read),
        };
    }
    match path {
        "/api/v1/vitals" => of(Group::Push, Role::Operate),
        // Setting a policy may loosen what the operator holds; the decision task refuses that without `approve`.
        "/health/force-check" | "/api/v1/policy" => of(Group::Change, Role::Operate),
        // Announcing maintenance only holds back; ending it early lets things run again.
        "/api/v1/maintenance" => of(Group::Change, Role::Operate),
        path if path.starts_with("/api/v1/maintenance/") => of(Group::Change, Role::Approve),
        "/api/v1/workspace/heal" => of(Group::Change, Role::Operate),
        path if path.starts_with("/api/v1/workspace/healings/") => of(Group::Change, Role::Approve),
        "/api/v1/policy/release" => of(Group::Change, Role::Approve),
        path if path.starts_with("/api/v1/heartbeats/") => of(Group::Push, Role::Operate),
        path if path.starts_with("/api/v1/recommendations/") => of(Group::Change, Role::Approve),
        _ => of(Group::Change, Role::Admin),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-1: what is not named needs the strictest role.
    #[test]
    fn every_request_has_a_need() {
        let table = [
            (Method::GET, "/metrics", Group::Metrics, Role::Read),
            (Method::HEAD, "/-/ready", Group::Probes, Role::Read),
            (Method::GET, "/api/v1/policy", Group::Read, Role::Read),
            (Method::GET, "/nowhere", Group::Read, Role::Read),
            (Method::POST, WEBHOOK, Group::Webhook, Role::Operate),
            (Method::POST, "/api/v1/policy", Group::Change, Role::Operate),
            (Method::POST, "/api/v1/policy/release", Group::Change, Role::Approve),
            (Method::POST, "/api/v1/recommendations/rec_1_x/approve", Group::Change, Role::Approve),
            (Method::POST, "/api/v1/heartbeats/bot", Group::Push, Role::Operate),
            (Method::POST, "/api/v1/vitals", Group::Push, Role::Operate),
            (Method::POST, "/api/v1/maintenance", Group::Change, Role::Operate),
            (Method::DELETE, "/api/v1/maintenance/m1", Group::Change, Role::Approve),
            (Method::POST, "/api/v1/workspace/heal", Group::Change, Role::Operate),
            (Method::POST, "/api/v1/workspace/healings/h1/rollback", Group::Change, Role::Approve),
            (Method::POST, "/-/reload", Group::Change, Role::Admin),
            (Method::POST, "/system/restart", Group::Change, Role::Admin),
            (Method::DELETE, "/nowhere", Group::Change, Role::Admin),
        ];
        for (method, path, group, role) in table {
            assert_eq!(need(&method, path, "/metrics"), Need { group, role }, "{method} {path}");
        }
    }
}
