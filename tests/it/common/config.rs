//! Configurations and scripts for the tests.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A configuration being written: quick checks, no profile, paper money, state in `dir/state`.
pub(crate) struct Config {
    text: String,
}

impl Config {
    /// The least of it.
    pub(crate) fn new(dir: &Path) -> Self {
        Self::in_folder(dir, &dir.join("state"))
    }

    /// The same with the journal in another folder.
    pub(crate) fn in_folder(dir: &Path, state: &Path) -> Self {
        for folder in [dir.join("data"), dir.join("logs"), state.to_path_buf()] {
            std::fs::create_dir_all(folder).expect("a folder can be made");
        }
        let text = format!(
            "profile: none\nworkspace: {dir:?}\nmode: paper\ncheck_interval: 1s\ncritical_check_interval: 1s\n\
             thresholds: {{max_cpu_percent: 100, max_memory_percent: 100}}\n\
             storage: {{url: \"sqlite:{}/chiron.db\"}}\n",
            state.display()
        );
        Self { text }
    }

    /// Adds top-level keys.
    pub(crate) fn with(mut self, yaml: &str) -> Self {
        self.text.push_str(yaml.trim_start_matches('\n'));
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Writes an executable shell script.
pub(crate) fn script(path: &Path, body: &str) -> PathBuf {
    std::fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("a script can be written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("a script can be made executable");
    path.to_path_buf()
}
