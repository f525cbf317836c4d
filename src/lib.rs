//! Chiron: a healer that stands beside an algorithmic-trading platform.
//!
//! ```text
//!  observe --Observation--> detect --Issue--> recommend --> admit --> execute --> verify
//!     ^                        |                              |           |          |
//!     |                        v                              v           v          v
//!  the platform             policy <---------------------- journal::State (one writer: app)
//!                              |                              ^
//!                              v                              | durable before 2xx
//!                        publish, http, telemetry          alerts <--- Alertmanager
//! ```

pub mod model;

pub mod base;

pub mod observe;

pub mod detect;

pub mod recommend;

pub mod admit;

pub mod execute;

pub mod verify;

pub mod policy;

pub mod publish;

pub mod journal;

pub mod store;

pub mod alerts;

pub mod clients;

pub mod workspace;

pub mod telemetry;

pub mod http;

pub mod config;

pub mod app;

pub mod demo;

pub mod cli;
