//! Certificates by openssl, and the clients that operators use: curl and openssl s_client.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::{Process, now_millis, tool};
use super::wait::wait_for;

/// A certificate authority in a folder.
pub(crate) struct Authority {
    dir: PathBuf,
    name: String,
}

impl Authority {
    /// Makes one.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let authority = Self { dir: dir.to_path_buf(), name: name.to_owned() };
        let subject = format!("/CN={name}");
        let (key, certificate) = (authority.path("key"), authority.certificate());
        openssl(
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"],
            |c| c.args(["-subj", &subject]).arg("-keyout").arg(&key).arg("-out").arg(&certificate),
        );
        authority
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.path("pem")
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.dir.join(format!("{}.{ending}", self.name))
    }

    /// Issues a certificate to `NAME.pem`, its key to `NAME.key`.
    pub(crate) fn issue(&self, name: &str, alternative: &str) -> (PathBuf, PathBuf) {
        let of = |ending: &str| self.dir.join(format!("{name}.{ending}"));
        let (certificate, key, request, extensions) = (of("pem"), of("key"), of("csr"), of("ext"));
        let subject = format!("/CN={name}");
        std::fs::write(&extensions, format!("subjectAltName={alternative}\n")).expect("a file can be written");
        openssl(&["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"], |c| {
            c.args(["-subj", &subject]).arg("-keyout").arg(&key).arg("-out").arg(&request)
        });
        openssl(&["x509", "-req", "-days", "1", "-CAcreateserial"], |c| {
            c.arg("-in").arg(&request).arg("-out").arg(&certificate).arg("-extfile").arg(&extensions);
            c.arg("-CA").arg(self.certificate()).arg("-CAkey").arg(self.path("key"))
        });
        (certificate, key)
    }
}

impl Authority {
    /// Issues one that holds between two moments, as milliseconds from now.
    pub(crate) fn issue_dated(&self, name: &str, alternative: &str, (from, to): (i64, i64)) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue(name, alternative);
        let of = |ending: &str| self.dir.join(format!("{name}.{ending}"));
        let date = |millis: i64| {
            let at = chrono::DateTime::from_timestamp_millis(now_millis() + millis).expect("a date of this age");
            at.format("%Y%m%d%H%M%SZ").to_string()
        };
        let config = format!(
            "[ca]\ndefault_ca=all\n[all]\nnew_certs_dir={dir}\ndatabase={index}\ndefault_md=sha256\npolicy=any\n\
             rand_serial=yes\nunique_subject=no\n[any]\ncommonName=supplied\n",
            dir = self.dir.display(),
            index = of("index").display()
        );
        std::fs::write(of("conf"), config).expect("a file can be written");
        std::fs::write(of("index"), "").expect("a file can be written");
        openssl(&["ca", "-batch", "-notext", "-startdate", &date(from), "-enddate", &date(to)], |c| {
            c.arg("-config").arg(of("conf")).arg("-extfile").arg(of("ext")).arg("-in").arg(of("csr"));
            c.arg("-out").arg(&certificate).arg("-cert").arg(self.certificate()).arg("-keyfile").arg(self.path("key"))
        });
        (certificate, key)
    }
}

/// A running `openssl s_server`. Dropped, it is killed.
pub(crate) struct TlsServer {
    _process: Process,
    port: u16,
}

impl TlsServer {
    /// Starts one on loopback with this certificate and key, and further arguments.
    pub(crate) fn start((certificate, key): &(PathBuf, PathBuf), arguments: &[&str]) -> Self {
        let log = certificate.with_extension("log");
        let mut command = Command::new(tool("openssl"));
        command.args(["s_server", "-www", "-accept", "127.0.0.1:0", "-cert"]).arg(certificate).arg("-key").arg(key);
        let process = Process::start("openssl s_server", command.args(arguments), &log);
        let port = wait_for("openssl s_server to listen", || {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let line = said.lines().find_map(|line| line.strip_prefix("ACCEPT "));
            line.and_then(|line| line.rsplit(':').next()?.trim().parse().ok()).ok_or(said)
        });
        Self { _process: process, port }
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

fn openssl(arguments: &[&str], more: impl FnOnce(&mut Command) -> &mut Command) {
    let mut command = Command::new(tool("openssl"));
    let out = more(command.args(arguments)).stdin(Stdio::null()).output().expect("openssl runs");
    assert!(out.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// The hex HMAC-SHA256 of `content`.
pub(crate) fn hmac(key: &str, content: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new(tool("openssl"));
    command.args(["dgst", "-sha256", "-hmac", key, "-r"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("openssl runs");
    child.stdin.take().expect("it is piped").write_all(content.as_bytes()).expect("openssl reads");
    let out = child.wait_with_output().expect("openssl ends");
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().expect("a digest").to_owned()
}

/// What curl was answered: status (0 if there was no answer), headers and body.
#[derive(Debug)]
pub(crate) struct Curled {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One request by curl.
pub(crate) fn curl(url: &str, arguments: &[&str]) -> Curled {
    let mut command = Command::new(tool("curl"));
    command.args(["--silent", "--include", "--max-time", "15", "--noproxy", "*"]).args(arguments).arg(url);
    let out = command.stdin(Stdio::null()).output().expect("curl runs");
    let text = String::from_utf8_lossy(&out.stdout).replace("\r\n", "\n");
    // With --expect100 or a proxy there may be heads before the last one.
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Curled { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// What openssl s_client says of a server, and whether the handshake came to its end.
pub(crate) fn s_client(address: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(tool("openssl"));
    command.args(["s_client", "-connect", address]).args(arguments).stdin(Stdio::null());
    let out = command.output().expect("openssl runs");
    let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    (out.status.success(), text)
}
