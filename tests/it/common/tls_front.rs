//! A server that ends TLS and passes the bytes on, for servers that cannot do TLS themselves.

use std::path::Path;
use std::process::Command;

use super::process::{Process, tool};
use super::wait::wait_for;

const SCRIPT: &str = r#"
import socket, ssl, sys, threading
certificate, key, client_ca, target = sys.argv[1:5]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
if client_ca:
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
listener = socket.create_server(("127.0.0.1", 0))
print("port", listener.getsockname()[1], flush=True)

def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass

def serve(plain):
    try:
        outer = context.wrap_socket(plain, server_side=True)
    except (ssl.SSLError, OSError) as error:
        print("handshake", error, flush=True)
        return plain.close()
    if target.startswith("/"):
        inner = socket.socket(socket.AF_UNIX)
        inner.connect(target)
    else:
        host, port = target.rsplit(":", 1)
        inner = socket.create_connection((host, int(port)))
    threading.Thread(target=copy, args=(outer, inner), daemon=True).start()
    copy(inner, outer)
    outer.close()

while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// A running one. Dropped, it is killed.
pub(crate) struct TlsFront {
    _process: Process,
    address: String,
}

impl TlsFront {
    /// Shows this certificate, demands one of `client_ca` if given, and passes on to a socket's path or to `HOST:PORT`.
    pub(crate) fn start(
        dir: &Path,
        (certificate, key): (&Path, &Path),
        client_ca: Option<&Path>,
        target: &str,
    ) -> Self {
        let log = tempfile::NamedTempFile::new_in(dir).expect("a log can be made").into_temp_path();
        let log = log.keep().expect("a log can be kept");
        let mut command = Command::new(tool("python3"));
        command.arg("-c").arg(SCRIPT).arg(certificate).arg(key).arg(client_ca.unwrap_or(Path::new(""))).arg(target);
        let process = Process::start("tls front", &mut command, &log);
        let port = wait_for("the port of the tls front", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let port = said.lines().find_map(|line| line.strip_prefix("port ")?.parse::<u16>().ok());
            port.ok_or(said)
        });
        Self { _process: process, address: format!("127.0.0.1:{port}") }
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}
