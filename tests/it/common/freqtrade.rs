//! A real freqtrade in dry-run beside an exchange on loopback, both of which can be made to fail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::http::request;
use super::process::{Process, free_port};
use super::python::python_with;
use super::wait::{wait_for, wait_for_within};

/// The version that the facts and the log lines of the tests are of.
const PACKAGE: &str = "freqtrade==2026.9";
const CONFIG: &str = include_str!("freqtrade/config.json");
/// `chiron:correct-horse-battery`.
const BASIC: &str = "Basic Y2hpcm9uOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ==";
const LIMIT: Duration = Duration::from_secs(10);

/// The password of its API's user, `chiron`.
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// Both processes. Dropped, they are killed.
pub(crate) struct Freqtrade {
    bot: Process,
    _exchange: Process,
    address: String,
    exchange: String,
    order: PathBuf,
}

impl Freqtrade {
    /// Starts an exchange whose candles ended ten minutes ago, and a bot that trades there; waits until it answers.
    pub(crate) fn start(dir: &Path) -> Self {
        let python = python_with(&[PACKAGE]);
        let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/common/freqtrade");
        let told = dir.join("exchange.address");
        let mut command = Command::new(&python);
        command.arg(parts.join("exchange.py")).arg(&told);
        let exchange_process = Process::start("exchange", &mut command, &dir.join("exchange.log"));
        let exchange = wait_for("the exchange's address", || std::fs::read_to_string(&told));

        std::fs::create_dir_all(dir.join("user_data")).expect("a folder can be made");
        std::fs::copy(parts.join("Obedient.py"), dir.join("Obedient.py")).expect("the strategy can be copied");
        let port = free_port();
        let text = CONFIG
            .replace("EXCHANGE", &exchange)
            .replace("FOLDER", &dir.display().to_string())
            .replace("65535", &port.to_string());
        let config = dir.join("freqtrade.json");
        std::fs::write(&config, text).expect("a configuration can be written");
        let order = dir.join("order");
        let mut command = Command::new(python.with_file_name("freqtrade"));
        command.args(["trade", "--config"]).arg(&config).env("OBEDIENT_ORDER", &order).current_dir(dir);
        let mut bot = Process::start("freqtrade", &mut command, &dir.join("freqtrade.log"));
        let address = format!("127.0.0.1:{port}");
        wait_for_within("freqtrade to answer", Duration::from_secs(120), || {
            if let Some(status) = bot.ended() {
                return Ok(Err(status));
            }
            request(&address, "GET", "/api/v1/ping", &[], b"", LIMIT).map(|_| Ok(()))
        })
        .unwrap_or_else(|status| panic!("freqtrade ended at its start: {status}"));
        Self { bot, _exchange: exchange_process, address, exchange, order }
    }

    /// `http://HOST:PORT` of its API server.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A URL of the exchange that answers while it is well.
    pub(crate) fn exchange_ping(&self) -> String {
        format!("http://{}/api/v3/ping", self.exchange)
    }

    /// Makes the exchange `well`, `away` or `frozen`.
    pub(crate) fn exchange(&self, mode: &str) {
        let path = format!("/control?mode={mode}");
        let answer = request(&self.exchange, "GET", &path, &[], b"", LIMIT).expect("the exchange answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    /// What the strategy does at each turn from now on: `throw`, `sleep`, or nothing.
    pub(crate) fn order(&self, order: &str) {
        std::fs::write(&self.order, order).expect("an order can be written");
    }

    /// Tells the bot to `start`, `pause` or `stop`, as an operator would.
    pub(crate) fn tell(&self, command: &str) {
        let headers = [("Authorization", BASIC)];
        let path = format!("/api/v1/{command}");
        let answer = request(&self.address, "POST", &path, &headers, b"", LIMIT).expect("the bot answers");
        assert_eq!(answer.status, 200, "{command}: {}", answer.body);
    }

    /// A signal to the bot's process.
    pub(crate) fn signal(&self, signal: Signal) {
        self.bot.signal(signal);
    }

    /// SIGKILL to the bot.
    pub(crate) fn kill9(&mut self) {
        self.bot.kill9();
    }
}
