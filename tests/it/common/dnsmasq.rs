//! A real DNS server: Debian's dnsmasq in the foreground, with records of its own and nobody to ask.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Process, free_port, tool};
use super::wait::wait_for;

/// A running dnsmasq on loopback. Dropped, it is killed.
pub(crate) struct Dnsmasq {
    log: PathBuf,
    port: u16,
    process: Process,
}

impl Dnsmasq {
    /// Starts one with these records (`--host-record=...`); it is the authority for `example`.
    pub(crate) fn start(dir: &Path, records: &[&str]) -> Self {
        let (log, port) = (dir.join("dnsmasq.log"), free_port());
        let process = run(&log, port, records);
        Self { log, port, process }
    }

    /// Ends it and starts another on the same port.
    pub(crate) fn replace(&mut self, records: &[&str]) {
        self.stop();
        self.process = run(&self.log, self.port, records);
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        self.process.kill9();
    }

    /// `IP:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn run(log: &Path, port: u16, records: &[&str]) -> Process {
    let said = || std::fs::read_to_string(log).unwrap_or_default().matches("started, version").count();
    let before = said();
    let mut command = Command::new(tool("dnsmasq"));
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args(["--listen-address=127.0.0.1", "--local=/example/", "--log-facility=-", "--pid-file="]);
    command.arg(format!("--port={port}")).args(records);
    let process = Process::start("dnsmasq", &mut command, log);
    wait_for("dnsmasq to start", || if said() > before { Ok(()) } else { Err(std::fs::read_to_string(log)) });
    process
}
