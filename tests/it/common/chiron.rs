//! The program under test, as an operator runs it.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::http::{Response, request};
use super::process::Process;
use super::wait::{tails, wait_for_within};

/// The binary that the tests were built with.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_chiron");

/// How long an ordinary request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A `chiron run`, or one that can be started. Dropped, its process is killed.
pub(crate) struct Chiron {
    dir: PathBuf,
    config: Option<PathBuf>,
    log: PathBuf,
    environment: BTreeMap<String, String>,
    arguments: Vec<String>,
    wrapper: Vec<String>,
    process: Option<Process>,
    address: String,
    begun: u64,
}

impl Chiron {
    /// Prepares a run in `dir` with this configuration, written to `dir/chiron.yml`.
    pub(crate) fn with_config(dir: &Path, text: &str) -> Self {
        let path = dir.join("chiron.yml");
        std::fs::write(&path, text).expect("a configuration can be written");
        let mut chiron = Self::without_config(dir);
        chiron.config = Some(path);
        chiron
    }

    /// Prepares a run in `dir` without any configuration.
    pub(crate) fn without_config(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            config: None,
            log: std::env::temp_dir().join(format!("chiron-test-{}.log", unique())),
            environment: BTreeMap::new(),
            arguments: Vec::new(),
            wrapper: Vec::new(),
            process: None,
            address: String::new(),
            begun: 0,
        }
    }

    /// Sets an environment variable for the starts to come.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.set_env(name, Some(value));
        self
    }

    /// Sets or removes an environment variable for the starts to come.
    pub(crate) fn set_env(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => drop(self.environment.insert(name.to_owned(), value.to_owned())),
            None => drop(self.environment.remove(name)),
        }
    }

    /// Adds a flag for the starts to come.
    pub(crate) fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Has another program start it, which must end by executing its arguments.
    pub(crate) fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn start(mut self) -> Self {
        self.spawn();
        self.wait_ready();
        self
    }

    /// Starts the process and waits for nothing.
    pub(crate) fn spawn(&mut self) {
        self.begun = std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        self.address.clear();
        let mut command = match self.wrapper.split_first() {
            Some((program, first)) => {
                let mut command = Command::new(program);
                command.args(first).arg(BINARY);
                command
            }
            None => Command::new(BINARY),
        };
        command.arg("run").arg("--web.listen-address=127.0.0.1:0").current_dir(&self.dir);
        if let Some(config) = &self.config {
            command.arg(format!("--config.file={}", config.display()));
        }
        command.args(&self.arguments).envs(&self.environment);
        self.process = Some(Process::start("chiron", &mut command, &self.log));
    }

    /// Waits until it listens; `false` if it ended before.
    pub(crate) fn wait_listening(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            if self.listening() {
                return true;
            }
            if self.ended().is_some() {
                return false;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "no line with msg=\"listening\" and address=http://... within 20 s{}",
                tails()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it has said by now where it listens.
    pub(crate) fn listening(&mut self) -> bool {
        if let Some(address) = self.announced() {
            self.address = address;
        }
        !self.address.is_empty()
    }

    /// Waits until `/-/ready` says so.
    pub(crate) fn wait_ready(&mut self) {
        if !self.wait_listening() {
            panic!("chiron ended at its start: {:?}{}", self.ended(), tails());
        }
        wait_for_within("chiron to be ready", Duration::from_secs(30), || {
            if let Some(status) = self.ended() {
                panic!("chiron ended before it was ready: {status:?}{}", tails());
            }
            match self.get("/-/ready") {
                Ok(response) if response.status == 200 => Ok(()),
                Ok(response) => Err(format!("{} {}", response.status, response.body)),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// How the process ended, if it has (or never began).
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// `HOST:PORT` it listens on.
    pub(crate) fn address(&self) -> &str {
        assert!(!self.address.is_empty(), "chiron was started and listens");
        &self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("chiron was started").pid()
    }

    /// The folder it runs in.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its log since the last start.
    pub(crate) fn log(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = std::fs::File::open(&self.log) {
            let _ = file.seek(SeekFrom::Start(self.begun));
            let _ = file.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
    }

    /// SIGTERM, waiting for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.process.as_mut().expect("chiron was started").terminate()
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.process.as_ref().expect("chiron was started").signal(Signal::HUP);
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("chiron was started").signal(signal);
    }

    /// Kills it if it runs, starts it again, waits until it is ready. The address changes.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        self.spawn();
        self.wait_ready();
    }

    /// Writes another configuration over the one it was started with.
    pub(crate) fn rewrite_config(&self, text: &str) {
        let path = self.config.as_ref().expect("it was started with a configuration");
        let beside = path.with_extension("yml.new");
        std::fs::write(&beside, text).expect("a configuration can be written");
        std::fs::rename(&beside, path).expect("a configuration can be replaced");
    }

    /// GET.
    pub(crate) fn get(&self, path: &str) -> io::Result<Response> {
        request(self.address(), "GET", path, &[], b"", LIMIT)
    }

    /// GET of something that must be there.
    pub(crate) fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).unwrap_or_else(|error| panic!("GET {path}: {error}{}", tails()));
        assert_eq!(response.status, 200, "GET {path}: {}", response.body);
        response.json()
    }

    /// POST without a token.
    pub(crate) fn post(&self, path: &str, body: &str) -> io::Result<Response> {
        request(self.address(), "POST", path, &[], body.as_bytes(), LIMIT)
    }

    /// POST of a notification to the webhook, with a bearer token.
    pub(crate) fn notify(&self, token: Option<&str>, body: &[u8]) -> io::Result<Response> {
        notify(self.address(), token, body)
    }

    /// The metrics page.
    pub(crate) fn metrics(&self) -> String {
        let response = self.get("/metrics").unwrap_or_else(|error| panic!("GET /metrics: {error}{}", tails()));
        assert_eq!(response.status, 200, "GET /metrics: {}", response.body);
        response.body
    }

    /// The value of the first series of that name that has these labels, among others.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        series(&self.metrics(), name, labels).first().copied()
    }

    /// The sum over all series of that name that have these labels, among others.
    pub(crate) fn metric_sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        series(&self.metrics(), name, labels).iter().sum()
    }

    fn announced(&self) -> Option<String> {
        self.log().lines().find_map(|line| {
            if !["msg=listening", "msg=\"listening\"", "\"msg\":\"listening\""].iter().any(|said| line.contains(said)) {
                return None;
            }
            let address = line.split("address").nth(1)?.split("://").nth(1)?;
            let end = address.find(|c: char| c.is_whitespace() || c == '"' || c == '/').unwrap_or(address.len());
            Some(address[..end].to_owned())
        })
    }
}

impl Drop for Chiron {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("chiron's log is kept: {}", self.log.display());
        } else {
            let _ = std::fs::remove_file(&self.log);
        }
    }
}

/// POST of a notification, as Alertmanager would.
pub(crate) fn notify(address: &str, token: Option<&str>, body: &[u8]) -> io::Result<Response> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json"), ("User-Agent", "Alertmanager/0.25.0")];
    if let Some(bearer) = &bearer {
        headers.push(("Authorization", bearer));
    }
    request(address, "POST", "/api/v1/alerts/webhook", &headers, body, LIMIT)
}

/// The values of all series of that name that have these labels, among others, in the text format.
pub(crate) fn series(page: &str, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
    page.lines()
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let fits = found == name
                && labels.iter().all(|(key, value)| {
                    let wanted = format!("{key}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
                    rest.match_indices(&wanted).any(|(at, _)| at == 0 || rest.as_bytes()[at - 1] == b',')
                });
            fits.then(|| value.parse().ok()).flatten()
        })
        .collect()
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
