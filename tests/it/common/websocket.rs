//! WebSocket servers: a real one whose troubles are chosen by a file, and one that breaks the protocol.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::process::{Process, tool};
use super::python::python_with;
use super::wait::wait_for;

/// The server of `websocket_server.py`.
pub(crate) struct Feed {
    dir: PathBuf,
    port: u16,
    _process: Process,
}

impl Feed {
    /// Starts it in `dir`, with TLS if there is a certificate and its key.
    pub(crate) fn start(dir: &Path, mode: &Value, tls: Option<(&Path, &Path)>) -> Self {
        let feed = |port, process| Self { dir: dir.to_path_buf(), port, _process: process };
        std::fs::write(dir.join("mode.json"), mode.to_string()).expect("a file can be written");
        let mut command = Command::new(python_with(&["websockets==15.0.1"]));
        command.arg(script("websocket_server.py"));
        command.args([dir.join("mode.json"), dir.join("feed.port"), dir.join("feed.seen")]);
        if let Some((certificate, key)) = tls {
            command.args([certificate, key]);
        }
        let process = Process::start("the feed", &mut command, &dir.join("feed.log"));
        feed(port(&dir.join("feed.port")), process)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on it behaves like this.
    pub(crate) fn set(&self, mode: &Value) {
        let beside = self.dir.join("mode.new");
        std::fs::write(&beside, mode.to_string()).expect("a file can be written");
        std::fs::rename(&beside, self.dir.join("mode.json")).expect("a file can be replaced");
    }

    /// What it has seen so far: when, in seconds, and what.
    pub(crate) fn seen(&self) -> Vec<(f64, String)> {
        let text = std::fs::read_to_string(self.dir.join("feed.seen")).unwrap_or_default();
        let one = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            Some((line["at"].as_f64()?, line["what"].as_str()?.to_owned()))
        };
        text.lines().filter_map(one).collect()
    }
}

/// Starts the server of `websocket_hostile.py`; its port.
pub(crate) fn hostile(dir: &Path) -> (Process, u16) {
    let mut command = Command::new(tool("python3"));
    command.arg(script("websocket_hostile.py")).arg(dir.join("hostile.port"));
    let process = Process::start("the hostile server", &mut command, &dir.join("hostile.log"));
    (process, port(&dir.join("hostile.port")))
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/common").join(name)
}

fn port(file: &Path) -> u16 {
    wait_for("the server's port", || {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        text.parse().map_err(|_| text)
    })
}
