//! The integration tests, one module per feature.

mod config_golden;
