//! The real program under measurement, a raw HTTP/1.1 client for it, and what the kernel says about it.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Kernel clock ticks a second in `/proc`; 100 on every Linux of the last twenty years.
const TICKS: f64 = 100.0;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `chiron run` of the release build. Dropped, it is killed.
pub struct Program {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Program {
    /// Starts it with this configuration in `folder` and waits until every check has answered.
    pub fn start(folder: &Path, config: &str) -> Self {
        let (file, log) = (folder.join("chiron.yml"), folder.join("chiron.log"));
        std::fs::write(&file, config).expect("a configuration can be written");
        let out = File::create(&log).expect("a log can be written");
        let child = Command::new(env!("CARGO_BIN_EXE_chiron"))
            .args(["run", "--web.listen-address=127.0.0.1:0"])
            .arg(format!("--config.file={}", file.display()))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a file can be shared"))
            .stderr(out)
            .spawn()
            .expect("the program starts");
        let mut program = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let begun = Instant::now();
        program.address = loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(address) = listening(&text) {
                break address;
            }
            let ended = program.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not listen ({ended:?}):\n{text}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let checked = program.client().post("/health/force-check", "");
        assert_eq!(checked, 200, "every check answers");
        while program.client().get("/-/ready").0 != 200 {
            assert!(begun.elapsed() < PATIENCE, "it does not become ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        program
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_nodelay(true).expect("a socket takes options");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes options");
        Client { stream, buffer: vec![0; 64 * 1024] }
    }

    /// CPU time that all its threads have used so far, children aside; on a grain of 10 ms.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("ticks are a number")).sum();
        Duration::from_secs_f64(ticks / TICKS)
    }

    /// Resident memory in MB (10^6 bytes).
    pub fn resident(&self) -> f64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has a size");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a size is a number") * 1024.0 / 1e6
    }

    /// The first series of that name without labels.
    pub fn metric(&self, name: &str) -> f64 {
        let (status, page) = self.client().get("/metrics");
        assert_eq!(status, 200, "metrics are served");
        let found = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        found.unwrap_or_else(|| panic!("there is no `{name}` on the page"))
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the program still runs")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn listening(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("msg=listening"))?;
    let address = line.split("address=").nth(1)?.trim_start_matches('"').trim_start_matches("http://");
    address.split(|c: char| c.is_whitespace() || c == '"' || c == '/').next()?.parse().ok()
}

/// One keep-alive connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// POST of JSON; the status.
    pub fn post(&mut self, path: &str, body: &str) -> u16 {
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.ask(&[head.as_bytes(), body.as_bytes()].concat()).0
    }

    /// GET; the status and the body.
    pub fn get(&mut self, path: &str) -> (u16, String) {
        let (status, head, end) = self.ask(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes());
        (status, String::from_utf8_lossy(&self.buffer[head..end]).into_owned())
    }

    /// The status and where in the buffer the body is.
    fn ask(&mut self, request: &[u8]) -> (u16, usize, usize) {
        self.stream.write_all(request).expect("the connection stays");
        let mut filled = 0;
        let mut body: Option<(usize, usize)> = None;
        loop {
            if let Some((_, end)) = body
                && filled >= end
            {
                break;
            }
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let read = match self.stream.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("an answer in time"),
            };
            assert!(read > 0, "the program closed the connection");
            filled += read;
            if body.is_none() {
                body = parse_head(&self.buffer[..filled]);
                if let Some((_, end)) = body
                    && end > self.buffer.len()
                {
                    self.buffer.resize(end, 0);
                }
            }
        }
        let (head, end) = body.expect("a head was read");
        let status = std::str::from_utf8(&self.buffer[9..12]).ok().and_then(|status| status.parse().ok());
        (status.expect("an answer begins with its status"), head, end)
    }
}

/// Where the body begins and ends, once the head is whole.
fn parse_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("a head is text");
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).expect("an answer with a length");
    Some((head, head + length))
}

/// The machine's load average over a minute: above about 1.5 on two cores a figure is another's as well.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}
