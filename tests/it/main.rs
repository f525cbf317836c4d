//! The program as its operators meet it: the real binary, beside a real Prometheus and a real Alertmanager.
#![expect(clippy::disallowed_methods, reason = "these tests judge the program from outside: files, clock, processes")]
#![expect(clippy::print_stderr, reason = "figures and seeds are told to whoever runs the tests")]

mod common;

mod api;
mod approvals;
mod bad_input;
mod bindings;
mod canaries;
mod catalog;
mod checks_net;
mod checks_stores;
mod checks_units;
mod checks_websocket;
mod cli;
mod cli_schema;
mod config_golden;
mod container;
mod crash;
mod crash_matrix;
mod credentials;
mod exec_action;
mod failure_points;
mod freqtrade;
mod hooks;
mod http_action;
mod kills;
mod ledger;
mod limits;
mod logs;
mod loop_alone;
mod loop_with_alertmanager;
mod maintenance;
mod metrics_formats;
mod no_config;
mod outgoing_alerts;
mod policy_stream;
mod plugins;
mod points_healing;
mod push;
mod reconcile;
mod reference_report;
mod recovery;
mod reload;
mod samples;
mod signal;
mod stop;
mod supervision;
mod systemd;
mod textfile;
mod tls;
mod two_alertmanagers;
mod vitals;
mod watching;
mod webhook_torture;
