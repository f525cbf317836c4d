//! What the end-to-end tests share: processes that end with their test, a client, waiting with a deadline.
//!
//! **Invariant:** every process started here is ended when its owner is dropped, also by a panic, and by its own id;
//! a missing tool fails the test and says what to install; nothing here knows how chiron works inside.

mod alertmanager;
mod bot;
mod bound;
mod chiron;
mod config;
mod counting;
mod dnsmasq;
mod effects;
mod freqtrade;
mod http;
mod journal;
mod podman;
mod node_exporter;
mod policy_watch;
mod prometheus;
mod python;
mod samples;
mod stores;
mod self_test;
mod process;
mod systemd;
mod tls;
mod tls_front;
mod wait;
mod websocket;
mod workspace;

pub(crate) use alertmanager::Alertmanager;
pub(crate) use bot::{Bot, pid_alive, pid_of, restart_script};
pub(crate) use bound::{ask_for, bound, ending, finished};
pub(crate) use chiron::{Chiron, notify, series};
pub(crate) use config::{Config, script};
pub(crate) use counting::{HttpServer, Reply};
pub(crate) use dnsmasq::Dnsmasq;
pub(crate) use effects::Effects;
pub(crate) use freqtrade::{Freqtrade, PASSWORD as FREQTRADE_PASSWORD};
pub(crate) use http::request;
pub(crate) use journal::{in_order, kinds, runs, settled};
pub(crate) use node_exporter::NodeExporter;
pub(crate) use podman::{ContainerState, Podman};
pub(crate) use policy_watch::{PolicyWatch, obeyed, policy_file};
pub(crate) use process::{Process, free_port, now_millis, tool};
pub(crate) use prometheus::Prometheus;
pub(crate) use python::python_with;
pub(crate) use samples::{alert, notification, timestamp};
pub(crate) use stores::{PASSWORD, Postgres, Redis};
pub(crate) use systemd::Systemd;
pub(crate) use tls::{Authority, Curled, TlsServer, curl, hmac, s_client};
pub(crate) use tls_front::TlsFront;
pub(crate) use wait::{wait_for, wait_for_within};
pub(crate) use websocket::{Feed, hostile};
pub(crate) use workspace::{Entry, FOLDERS, PORTFOLIO, POSITIONS, Tree, Workspace, sample};
