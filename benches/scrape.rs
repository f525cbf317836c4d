//! How much a scrape costs: CPU per series in process and over HTTP, beside the `prometheus` crate's own encoder with as
//! many series in the same run. `cargo bench --bench scrape`.
//!
//! The CPU over HTTP is that of every thread but the client's, so of the server with its system calls.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chiron::alerts;
use chiron::base::clock::Clock;
use chiron::http::{self, Group, Handle, PageFormat, Refusal};
use chiron::journal::AuditEntry;
use chiron::model::*;
use chiron::telemetry::{Metrics, Page, render};
use prometheus::{Encoder as _, IntGaugeVec, Opts, Registry, TextEncoder};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// CPU time of the whole process so far.
fn cpu() -> Duration {
    spent(ClockId::ProcessCPUTime)
}

/// CPU time of every thread but this one so far.
fn cpu_of_others() -> Duration {
    cpu().saturating_sub(spent(ClockId::ThreadCPUTime))
}

fn spent(clock: ClockId) -> Duration {
    let spent = clock_gettime(clock);
    Duration::new(u64::try_from(spent.tv_sec).unwrap_or(0), u32::try_from(spent.tv_nsec).unwrap_or(0))
}

/// A platform of so many subsystems, and what is counted about it.
struct Platform {
    healths: Vec<Arc<Health>>,
    criticalities: Vec<Criticality>,
    policy: PolicyDocument,
    metrics: Metrics,
}

impl Platform {
    fn new(subsystems: usize) -> Self {
        let names: Vec<Name> = (0..subsystems).map(|index| format!("subsystem_{index:05}").into()).collect();
        let bindings: Vec<_> =
            names.iter().take(13).map(|name| (Name::from("restart_subsystem"), name.clone())).collect();
        let healths = names.iter().enumerate().map(|(index, name)| {
            let mut health = Health::unknown(name.clone());
            health.status = if index % 50 == 0 { Status::Degraded } else { Status::Healthy };
            health.timestamp = Timestamp::from_millis(1_763_862_896_123);
            health.response_time_ms = 0.173;
            Arc::new(health)
        });
        let level = Level::AllowAll;
        Self {
            healths: healths.collect(),
            criticalities: vec![Criticality::Partial; subsystems],
            policy: PolicyDocument {
                sequence: 1,
                changed_at: Timestamp::EPOCH,
                issued_at: Timestamp::EPOCH,
                valid_until: Timestamp::EPOCH,
                policy: level,
                restrictions: level.restrictions(),
                latched: false,
                reasons: Vec::new(),
                reasons_omitted: 0,
            },
            metrics: Metrics::new(&names, &bindings, &[]),
        }
    }

    /// A platform whose page has about so many series.
    fn of(series: usize) -> Self {
        let fixed = count(&Self::new(13).rendered()).saturating_sub(13 * 21);
        Self::new(series.saturating_sub(fixed) / 21)
    }

    fn render(&self, format: PageFormat, out: &mut Vec<u8>) {
        let page = Page {
            healths: &self.healths,
            points: &[],
            criticalities: &self.criticalities,
            overall: Status::Healthy,
            recommendations: &[],
            policy: &self.policy,
            resources: None,
            forecasts: &chiron::model::Forecasts::new(),
            dry_run: false,
            stormy: false,
            windows: &[],
            announced: 0,
            ready: true,
            open_runs: 0,
            check_lag_seconds: 0.0,
            journal_seq: 1,
            intake_pending: 0,
        };
        render(&page, &self.metrics, format, out);
    }

    fn rendered(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.render(PageFormat::Text, &mut out);
        out
    }
}

#[async_trait]
impl Handle for Platform {
    fn metrics_page(&self, format: PageFormat, out: &mut Vec<u8>) {
        self.render(format, out);
    }
    fn report(&self) -> Arc<Report> {
        Arc::new(Report {
            timestamp: Timestamp::EPOCH,
            overall_status: Status::Healthy,
            current_safety_policy: Level::AllowAll,
            subsystem_health: BTreeMap::new(),
            detected_issues: Vec::new(),
            recovery_recommendations: Vec::new(),
            trading_should_continue: true,
            requires_immediate_action: false,
            summary: Summary::default(),
            failure_points: Default::default(),
        })
    }
    fn policy(&self) -> Arc<PolicyDocument> {
        Arc::new(self.policy.clone())
    }
    fn subsystems(&self) -> Vec<Value> {
        Vec::new()
    }
    fn active_alerts(&self) -> Vec<Value> {
        Vec::new()
    }
    async fn story(&self, _: String) -> Result<Value, Refusal> {
        unreachable!("only the page is asked for")
    }
    fn runs(&self, _: &chiron::http::WantedRuns<'_>) -> Vec<Value> {
        Vec::new()
    }
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
    fn dry_run(&self) -> bool {
        true
    }
    fn webhook_settings(&self) -> Arc<alerts::Settings> {
        Arc::default()
    }
    fn refused(&self, _: &'static str) {}
    fn policies(&self) -> watch::Receiver<Arc<PolicyDocument>> {
        watch::channel(self.policy()).1
    }
    fn ended_issues(&self) -> Vec<Value> {
        Vec::new()
    }
    fn config(&self) -> Arc<Value> {
        Arc::default()
    }
    fn turned_away(&self, _: Group, _: &'static str) {}
    fn push(&self, _: Pushed) -> Result<(), Refusal> {
        Err(not_here())
    }
    fn vitals(&self) -> Value {
        Value::Null
    }
    async fn restart(&self, _: Caller, _: String) -> Result<(), Refusal> {
        Err(not_here())
    }
    async fn approve(&self, _: String, _: String, _: Caller, _: String) -> Result<Value, Refusal> {
        Err(not_here())
    }
    async fn reject(&self, _: String, _: String, _: Caller, _: String) -> Result<(), Refusal> {
        Err(not_here())
    }
    fn maintenance(&self) -> Value {
        Value::Null
    }
    async fn announce(
        &self,
        _: Vec<String>,
        _: Vec<String>,
        _: Timestamp,
        _: Caller,
        _: String,
    ) -> Result<String, Refusal> {
        Ok(String::new())
    }
    async fn end_maintenance(&self, _: String, _: Caller, _: String) -> Result<(), Refusal> {
        Ok(())
    }
    async fn drill(&self, _: String, _: Caller, _: String) -> Result<String, Refusal> {
        Err(not_here())
    }
    async fn audit(&self, _: u64, _: usize) -> Result<Vec<AuditEntry>, Refusal> {
        Err(not_here())
    }
    async fn accept(&self, _: Vec<IntakeAlert>, _: u64) -> Result<(), Refusal> {
        Err(not_here())
    }
    async fn force_check(&self) -> Result<Arc<Report>, Refusal> {
        Err(not_here())
    }
    async fn reload(&self, _: Caller) -> Result<(), String> {
        Err(not_here().to_string())
    }
    async fn set_policy(&self, _: Level, _: String, _: Caller, _: Option<Timestamp>) -> Result<(), Refusal> {
        Err(not_here())
    }
    async fn release_policy(&self, _: Caller, _: String) -> Result<(), Refusal> {
        Err(not_here())
    }
    fn workspace(&self) -> Value {
        Value::Null
    }
    async fn healings(&self) -> Result<Vec<Value>, Refusal> {
        Err(not_here())
    }
    async fn healing(&self, _: String) -> Result<Value, Refusal> {
        Err(not_here())
    }
    async fn heal(&self, _: bool, _: Caller) -> Result<Option<Value>, Refusal> {
        Err(not_here())
    }
    async fn undo_healing(&self, _: String, _: bool, _: Caller) -> Result<Option<Value>, Refusal> {
        Err(not_here())
    }
    async fn history(&self, _: u64, _: usize) -> Result<Value, Refusal> {
        Err(not_here())
    }
}

fn not_here() -> Refusal {
    Refusal::Unavailable("a benchmark serves metrics only".to_owned())
}

/// Samples of a page.
fn count(page: &[u8]) -> usize {
    page.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count()
}

/// As many gauges in the `prometheus` crate's registry, with labels as ours.
fn peer(series: usize) -> Result<Registry, prometheus::Error> {
    let registry = Registry::new();
    let mut left = series;
    for family in 0..21 {
        let opts = Opts::new(format!("peer_subsystem_family_{family:02}"), "As many series as chiron's page.");
        let gauges = IntGaugeVec::new(opts, &["subsystem", "status"])?;
        let here = left.min(series.div_ceil(21));
        for index in 0..here {
            gauges.with_label_values(&[&format!("subsystem_{index:05}"), "healthy"]).set(1);
        }
        left -= here;
        registry.register(Box::new(gauges))?;
    }
    Ok(registry)
}

/// Median CPU of one call, over `times` calls after two to warm up.
fn median_cpu(times: usize, mut call: impl FnMut()) -> Duration {
    call();
    call();
    let mut spent: Vec<Duration> = (0..times)
        .map(|_| {
            let before = cpu();
            call();
            cpu() - before
        })
        .collect();
    spent.sort_unstable();
    spent[spent.len() / 2]
}

fn per_series(spent: Duration, series: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / f64::from(u32::try_from(series).unwrap_or(u32::MAX))
}

/// What a scraper asks for: a name, and its headers.
const WAYS: [(&str, &str); 4] = [
    ("text", ""),
    ("openmetrics", "accept: application/openmetrics-text;version=1.0.0\r\n"),
    ("text gzip", "accept-encoding: gzip\r\n"),
    ("openmetrics gzip", "accept: application/openmetrics-text;version=1.0.0\r\naccept-encoding: gzip\r\n"),
];

/// One keep-alive GET; returns the size of the body.
fn scrape(stream: &mut TcpStream, headers: &str, buffer: &mut [u8]) -> Result<usize, Box<dyn Error>> {
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes())?;
    let mut filled = 0;
    let head = loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        filled += read;
        if let Some(end) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let length: usize = std::str::from_utf8(&buffer[..head])?
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .ok_or("the answer has no length")?
        .parse()?;
    let mut left = (head + length).saturating_sub(filled);
    while left > 0 {
        let most = left.min(buffer.len());
        let read = stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        left -= read;
    }
    Ok(length)
}

/// Many scrapes in one way.
struct Scraped {
    /// CPU of the server per scrape.
    spent: Duration,
    /// Wall times, sorted.
    walls: Vec<Duration>,
    /// Of the body.
    bytes: usize,
}

/// Scrapes again and again on one connection.
fn over_http(address: SocketAddr, headers: &str, times: usize) -> Result<Scraped, Box<dyn Error>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    for _ in 0..5 {
        bytes = scrape(&mut stream, headers, &mut buffer)?;
    }
    let mut walls = Vec::with_capacity(times);
    let before = cpu_of_others();
    for _ in 0..times {
        let start = Instant::now();
        scrape(&mut stream, headers, &mut buffer)?;
        walls.push(start.elapsed());
    }
    let spent = cpu_of_others().saturating_sub(before) / u32::try_from(times)?;
    walls.sort_unstable();
    Ok(Scraped { spent, walls, bytes })
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("series   way               bytes     render us/series  http us/series  http p50 ms  http p99 ms");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for wanted in [1_000, 10_000, 100_000] {
        let platform = Arc::new(Platform::of(wanted));
        let page = platform.rendered();
        let series = count(&page);
        let times = (2_000_000 / wanted).clamp(40, 2_000);
        let settings = http::Settings {
            listen: vec!["127.0.0.1:0".parse()?],
            body_max: 1024,
            connections_max: 16,
            ..http::Settings::default()
        };
        let server =
            runtime.block_on(http::bind(&settings, Arc::clone(&platform) as Arc<dyn Handle>, Clock::system()))?;
        let (address, stop) = (server.addresses()[0], CancellationToken::new());
        let serving = runtime.handle().clone();
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || serving.block_on(server.run(stopping)));
        let mut ours = Duration::ZERO;
        for (way, headers) in WAYS {
            let format = if way.starts_with("text") { PageFormat::Text } else { PageFormat::OpenMetrics };
            let mut out = Vec::with_capacity(page.len());
            ours = median_cpu(times, || {
                out.clear();
                platform.render(format, &mut out);
            });
            let Scraped { spent, walls, bytes } = over_http(address, headers, times)?;
            println!(
                "{series:<8} {way:<17} {bytes:<9} {:<17.3} {:<15.3} {:<12.3} {:<12.3}",
                per_series(ours, series),
                per_series(spent, series),
                walls[walls.len() / 2].as_secs_f64() * 1e3,
                walls[walls.len() * 99 / 100].as_secs_f64() * 1e3,
            );
        }
        stop.cancel();
        thread.join().map_err(|_| "the server panicked")?;

        let registry = peer(series)?;
        let mut out = Vec::with_capacity(page.len());
        let theirs = median_cpu(times.min(200), || {
            out.clear();
            let _ = TextEncoder::new().encode(&registry.gather(), &mut out);
        });
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!(
            "{series:<8} peer, text        {:<9} {:<17.3} ratio {ratio:.3}",
            out.len(),
            per_series(theirs, series)
        );
    }
    Ok(())
}
