//! The versioned API: one file per resource. What is asked for comes from [`super::Handle`] alone.

pub(super) mod actions;
pub(super) mod alerts;
pub(super) mod bindings;
pub(super) mod failure_points;
pub(super) mod gate;
pub(super) mod health;
pub(super) mod history;
pub(super) mod issues;
pub(super) mod maintenance;
pub(super) mod openapi;
pub(super) mod policy;
pub(super) mod push;
pub(super) mod recommendations;
pub(super) mod subsystems;
pub(super) mod workspace;
