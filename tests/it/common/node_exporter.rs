//! A real node_exporter.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::http::request;
use super::process::{Process, free_port, tool};
use super::wait::wait_for;

/// A running one, which also shows the `*.prom` files of a folder. Dropped, it is killed.
pub(crate) struct NodeExporter {
    address: String,
    process: Process,
}

impl NodeExporter {
    /// Starts one.
    pub(crate) fn start(dir: &Path, textfiles: &Path) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(tool("prometheus-node-exporter"));
        command.args(["--collector.disable-defaults", "--collector.loadavg", "--collector.textfile"]);
        command.arg(format!("--collector.textfile.directory={}", textfiles.display()));
        command.arg(format!("--web.listen-address={address}"));
        let process = Process::start("node_exporter", &mut command, &dir.join("node_exporter.log"));
        wait_for("node_exporter to answer", || {
            match request(&address, "GET", "/metrics", &[], b"", Duration::from_secs(5)) {
                Ok(response) if response.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        Self { address, process }
    }

    /// Its page.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/metrics", self.address)
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        self.process.kill9();
    }
}
