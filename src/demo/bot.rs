//! A simulated bot: keeps its workspace fresh, answers for itself over HTTP, obeys the policy file, can be killed.
//!
//! In: [`BotOptions`]. Out: files, a log, one line per start in an effects log that judges outside the bot can read.
//! **Invariant:** what the bot reads or writes goes wrong loudly in its log and never ends it; only `stop`, SIGTERM,
//! SIGINT or a start that cannot be made do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::workspace;
use crate::base::clock::Clock;
use crate::model::{Level, Timestamp};

/// How the bot runs; the flags of `chiron demo bot`.
#[derive(Clone, Debug, clap::Args)]
pub struct BotOptions {
    /// The folder the bot keeps its files in; made if missing.
    #[arg(long, value_name = "DIR")]
    pub workspace: PathBuf,
    /// How often the bot writes its files; at least 10 ms.
    #[arg(long, default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Where `/health` and `/metrics` are served; port 0 takes a free one, told in `WORKSPACE/state/bot.address`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Holds the bot's process id while it runs; replaced atomically, removed at a clean end.
    #[arg(long, value_name = "PATH")]
    pub pid_file: Option<PathBuf>,
    /// Gets one line at each start.
    #[arg(long, value_name = "PATH")]
    pub effects_log: Option<PathBuf>,
    /// The policy file to obey.
    #[arg(long, value_name = "PATH")]
    pub policy_file: Option<PathBuf>,
}

/// What the cycles tell the HTTP side.
#[derive(Debug, Default)]
struct Shared {
    cycles: AtomicU64,
    trades: AtomicU64,
    level: AtomicU8,
}

impl Shared {
    fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed)) % Level::ALL.len()]
    }
}

/// Runs the bot until `stop`, SIGTERM or SIGINT; then it ends cleanly: its last cycle is whole, its pid file gone.
pub async fn run(options: BotOptions, stop: CancellationToken) -> anyhow::Result<()> {
    let clock = Clock::system();
    let dir = options.workspace.clone();
    workspace::create_workspace(&dir).with_context(|| format!("workspace `{}`", dir.display()))?;
    let database = workspace::open_database(&dir).with_context(|| format!("database `{}`", workspace::DATABASE))?;
    let listener = TcpListener::bind(options.listen).await.with_context(|| format!("listen on {}", options.listen))?;
    let address = listener.local_addr().context("own address")?;
    let mut terminate = signal(SignalKind::terminate()).context("signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signal handler")?;

    let pid = std::process::id();
    if let Some(path) = &options.effects_log {
        let line = format!("started pid={pid} at={}", clock.now());
        workspace::append_line(path, &line).with_context(|| format!("effects log `{}`", path.display()))?;
    }
    workspace::write_atomic(&dir.join("state/bot.address"), address.to_string().as_bytes()).context("address file")?;
    if let Some(path) = &options.pid_file {
        workspace::write_atomic(path, pid.to_string().as_bytes())
            .with_context(|| format!("pid file `{}`", path.display()))?;
    }

    let shared = Arc::new(Shared::default());
    let closing = stop.clone();
    let server = axum::serve(listener, router(Arc::clone(&shared)))
        .with_graceful_shutdown(async move { closing.cancelled().await })
        .into_future();
    tokio::pin!(server);
    let mut ticks = tokio::time::interval(options.interval.max(Duration::from_millis(10)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut served = Ok(());
    let mut serving = true;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            ended = &mut server, if serving => {
                serving = false;
                served = ended;
                if served.is_err() {
                    break;
                }
            }
            _ = ticks.tick() => cycle(&options, &shared, &database, clock.now()),
        }
    }
    stop.cancel();
    if serving {
        // A client that keeps its connection open does not keep the bot from ending.
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut server).await;
    }
    remove_pid_file(&options, pid);
    served.context("HTTP server")
}

fn interval(text: &str) -> Result<Duration, String> {
    crate::base::tree::parse_duration(text).ok_or_else(|| format!("found `{text}`, expected a duration such as 1s"))
}

/// One cycle: see the policy, trade if it may, write the files, say so in the log.
fn cycle(options: &BotOptions, shared: &Shared, database: &rusqlite::Connection, now: Timestamp) {
    let dir = &options.workspace;
    let number = shared.cycles.load(Ordering::Relaxed) + 1;
    let (level, why) = match &options.policy_file {
        None => (Level::AllowAll, "none"),
        Some(path) => see_policy(workspace::read_bounded(path).ok().as_deref(), now),
    };
    let index = Level::ALL.iter().position(|other| *other == level).unwrap_or(0);
    shared.level.store(u8::try_from(index).unwrap_or(0), Ordering::Relaxed);
    let opens = level.restrictions().open;
    let mut trouble = Vec::new();
    if opens {
        match workspace::record_trade(database, number, now) {
            Ok(()) => drop(shared.trades.fetch_add(1, Ordering::Relaxed)),
            Err(error) => trouble.push(format!("database: {error}")),
        }
    }
    if let Err(error) = workspace::write_cycle(dir, number, now) {
        trouble.push(format!("state files: {error}"));
    }
    let mut line = format!("{now} INFO cycle={number} policy={level} policy_file={why} opens={opens}");
    if !trouble.is_empty() {
        line = format!("{now} ERROR cycle={number} trouble=\"{}\"", trouble.join("; "));
    }
    let _ = workspace::append_line(&dir.join(workspace::LOG), &line);
    shared.cycles.store(number, Ordering::Relaxed);
}

/// What a bot makes of a policy file (POL-5): a missing, unreadable or expired one is `no_new_trades`.
fn see_policy(bytes: Option<&[u8]>, now: Timestamp) -> (Level, &'static str) {
    let Some(bytes) = bytes else { return (Level::NoNewTrades, "missing") };
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else { return (Level::NoNewTrades, "unreadable") };
    let level = document["policy"].as_str().and_then(Level::parse);
    let until = document["valid_until"].as_str().and_then(Timestamp::parse_rfc3339);
    match (level, until) {
        (Some(level), Some(until)) if now <= until => (level, "valid"),
        (Some(level), Some(_)) => (level.max(Level::NoNewTrades), "expired"),
        _ => (Level::NoNewTrades, "unreadable"),
    }
}

fn remove_pid_file(options: &BotOptions, pid: u32) {
    let Some(path) = &options.pid_file else { return };
    // Another instance may have put its own there meanwhile.
    if workspace::read_bounded(path).is_ok_and(|bytes| bytes == pid.to_string().as_bytes()) {
        let _ = rustix::fs::unlink(path);
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new().route("/health", get(health)).route("/metrics", get(metrics)).with_state(shared)
}

async fn health(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    axum::Json(json!({
        "status": "running",
        "cycle_count": shared.cycles.load(Ordering::Relaxed),
        "policy": shared.level(),
    }))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let text = format!(
        "# HELP bot_up Whether the bot runs.\n# TYPE bot_up gauge\nbot_up 1\n\
         # HELP bot_cycles_total Cycles since the start.\n# TYPE bot_cycles_total counter\nbot_cycles_total {}\n\
         # HELP bot_trades_total Trades since the start.\n# TYPE bot_trades_total counter\nbot_trades_total {}\n",
        shared.cycles.load(Ordering::Relaxed),
        shared.trades.load(Ordering::Relaxed),
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn options(dir: &std::path::Path) -> BotOptions {
        BotOptions {
            workspace: dir.to_path_buf(),
            interval: Duration::from_millis(20),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid_file: Some(dir.join("bot.pid")),
            effects_log: Some(dir.join("effects.log")),
            policy_file: Some(dir.join("policy.json")),
        }
    }

    async fn fetch(address: &str, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: bot\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// The bot's whole life: it writes its files, answers, tells its start, obeys the policy and ends cleanly.
    #[tokio::test]
    async fn lives_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let path = |name: &str| dir.path().join(name);
        let text = |name: &str| workspace::read_bounded(&path(name)).map(|bytes| String::from_utf8(bytes).unwrap());
        let watch = async {
            let address = loop {
                match text("state/bot.address") {
                    Ok(address) if text("bot.pid").is_ok() => break address,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            assert_eq!(text("bot.pid").unwrap(), std::process::id().to_string());
            assert!(fetch(&address, "/health").await.contains("\"status\":\"running\""));
            assert!(fetch(&address, "/metrics").await.contains("\nbot_up 1\n"));
            while !text("logs/bot.log").unwrap().contains("policy=no_new_trades policy_file=missing opens=false") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let until = Clock::system().now().plus(Duration::from_secs(60));
            let document = json!({"policy": "allow_all", "valid_until": until});
            workspace::write_json(&path("policy.json"), &document).unwrap();
            while !text("logs/bot.log").unwrap().contains("policy=allow_all policy_file=valid opens=true") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        };
        let both = async { tokio::join!(run(options(dir.path()), stop.clone()), watch) };
        let (ended, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("the bot lives and ends");
        ended.unwrap();
        assert!(text("bot.pid").is_err(), "a clean end removes the pid file");
        assert_eq!(text("effects.log").unwrap().lines().count(), 1);
        assert!(text("effects.log").unwrap().starts_with(&format!("started pid={} at=", std::process::id())));
    }

    /// POL-5: what a bot makes of each kind of policy file.
    #[test]
    fn policy_files() {
        let now = Timestamp::from_millis(1_000_000);
        let document = |policy: &str, until: i64| {
            json!({"policy": policy, "valid_until": Timestamp::from_millis(until)}).to_string().into_bytes()
        };
        let cases = [
            (None, Level::NoNewTrades, "missing"),
            (Some(b"{\"pol".to_vec()), Level::NoNewTrades, "unreadable"),
            (Some(b"{}".to_vec()), Level::NoNewTrades, "unreadable"),
            (Some(document("no_such", 2_000_000)), Level::NoNewTrades, "unreadable"),
            (Some(document("allow_all", 2_000_000)), Level::AllowAll, "valid"),
            (Some(document("defensive_exit", 2_000_000)), Level::DefensiveExit, "valid"),
            (Some(document("allow_all", 999_000)), Level::NoNewTrades, "expired"),
            (Some(document("emergency_shutdown", 999_000)), Level::EmergencyShutdown, "expired"),
        ];
        for (bytes, level, why) in cases {
            assert_eq!(see_policy(bytes.as_deref(), now), (level, why), "for {bytes:?}");
        }
    }
}
