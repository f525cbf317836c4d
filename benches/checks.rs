//! What checks cost while nothing happens, and how soon an action follows a file that goes stale or is replaced: the real program on a
//! loopback port. `cargo bench --bench checks`; `-- SHARE` shortens every figure, 0.1 to a tenth of its time.
//!
//! CPU is that of the whole program, its decisions and a scrape each 10 s included.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures the machine and prints")]
#![expect(clippy::cast_precision_loss, reason = "counts and times of a benchmark are small")]

mod common {
    pub mod program;
    pub mod started;
}

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::program::{Program, load};
use common::started::{Starts, compile, now};

/// Series of a page that belong to one subsystem, and those that are there without any.
const SERIES_EACH: usize = 21;
const SERIES_FIXED: usize = 250;
/// Between two scrapes of a figure that is not about scrapes.
const SCRAPE_EVERY: Duration = Duration::from_secs(10);
/// Files that go stale.
const STALE: usize = 50;
/// Hung checks beside those that are scraped.
const HUNG: usize = 8;

/// Every file gets its action at once: no budget, no pause, and many broken ones are no storm.
const RECOVERY: &str = "auto_restart_enabled: true\nrecovery: {cooldown: 1h, target_budget: 1000, \
    overall_budget: 100000, concurrency: 64, storm: {subsystems: 1000}}\nsubsystems:\n";

/// What every configuration here begins with.
fn head(folder: &Path, interval: &str) -> String {
    format!(
        "profile: none\nworkspace: {folder:?}\nmode: paper\ncheck_interval: {interval}\n\
         critical_check_interval: {interval}\n\
         thresholds: {{max_cpu_percent: 100, max_memory_percent: 100, max_disk_percent: 100}}\n\
         storage: {{url: \"sqlite:{}/chiron.db\"}}\n",
        folder.display()
    )
}

/// So many checks of the age of a file each.
fn files(folder: &Path, count: usize, interval: &str) -> String {
    let mut text = head(folder, interval) + "subsystems:\n";
    for index in 0..count {
        std::fs::write(folder.join(format!("f{index}")), "alive").expect("space for a file");
        let _ = writeln!(
            text,
            "  s{index:05}: {{check: {{kind: file_age, path: f{index}, degraded_after: 1d, critical_after: 2d}}}}"
        );
    }
    text
}

/// Answers every request on a port of its own with 200, and closes; on threads of the benchmark, whose CPU does not count.
fn web_server() -> u16 {
    use std::io::Read as _;
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    for _ in 0..4 {
        let listener = listener.try_clone().expect("a listener can be shared");
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                // Whoever asks may go away meanwhile.
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nok\n");
            }
        });
    }
    port
}

/// So many checks of one URL or one address each.
fn probes(folder: &Path, kind: &str, count: usize, port: u16) -> String {
    let mut text = head(folder, "1s") + "subsystems:\n";
    for index in 0..count {
        let what = match kind {
            "http" => format!("url: \"http://127.0.0.1:{port}/health\""),
            _ => format!("address: \"127.0.0.1:{port}\""),
        };
        let _ = writeln!(text, "  s{index:05}: {{check: {{kind: {kind}, {what}}}}}");
    }
    text
}

/// A folder for one figure.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the benchmark")
}

/// Watches a program for a while: its share of a core, and the worst lag that was seen.
fn watch(program: &Program, length: Duration) -> (f64, f64) {
    let (cpu, begun, mut lag) = (program.cpu(), Instant::now(), 0.0_f64);
    while let Some(left) = length.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left.min(SCRAPE_EVERY));
        lag = lag.max(program.metric("chiron_check_lag_seconds"));
    }
    ((program.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64(), lag)
}

/// One figure of idle running.
fn idle(name: &str, program: &Program, rate: f64, length: Duration, target: &str) {
    let (share, lag) = watch(program, length);
    let each = if rate > 0.0 { format!("{:.1}", share * 1e6 / rate) } else { String::new() };
    println!(
        "{name:<44} {rate:>8.1} {:>8.2} {each:>9} {lag:>7.3} {:>8.1} {:>5.1}  {target}",
        share * 100.0,
        program.resident(),
        load()
    );
}

fn quantile(sorted: &[Duration], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the list")]
    let place = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}

/// Scrapes a page of about so many series, 100 times a second, while its checks run each second and some others hang.
fn scrapes(series: usize, length: Duration, target: &str) {
    let folder = folder();
    // Its connections are made by the kernel, and nobody ever answers on them.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = deaf.local_addr().expect("a bound socket has an address").port();
    let count = series.saturating_sub(SERIES_FIXED) / SERIES_EACH - HUNG;
    let mut text = files(folder.path(), count, "1s");
    for index in 0..HUNG {
        let _ =
            writeln!(text, "  hung{index}: {{check: {{kind: http, url: \"http://127.0.0.1:{port}/\", timeout: 5s}}}}");
    }
    let program = Program::start(folder.path(), &text);
    let mut client = program.client();
    let (mut took, mut size, mut samples) = (Vec::new(), 0, 0);
    let (cpu, begun) = (program.cpu(), Instant::now());
    while begun.elapsed() < length {
        let at = Instant::now();
        let (status, page) = client.get("/metrics");
        took.push(at.elapsed());
        assert_eq!(status, 200, "metrics are served");
        size = page.len();
        if samples == 0 {
            samples = page.lines().filter(|line| !line.starts_with('#')).count();
        }
        std::thread::sleep(Duration::from_millis(10).saturating_sub(at.elapsed()));
    }
    let share = (program.cpu() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    took.sort_unstable();
    println!(
        "{:<44} {:>8} {:>8.2} {:>8.2} {:>8.1} {:>8.1} {:>5.1}  {target}",
        format!("scrape of {samples} series, {} kB", size / 1000),
        took.len(),
        quantile(&took, 0.5),
        quantile(&took, 0.99),
        share * 100.0,
        program.resident(),
        load()
    );
}

/// From the moment at which a file is too old until the first instruction of the action's command.
fn stale(busy: bool, target: &str) {
    const CRITICAL: Duration = Duration::from_secs(20);
    /// From here until the first file is too old: the time to start.
    const LEAD: Duration = Duration::from_secs(6);
    const APART: Duration = Duration::from_millis(100);
    let folder = folder();
    let path = folder.path();
    let (starts, program) = (Starts::listen(), compile(path));
    // The interval is so long that nothing but the deadline can wake the check.
    let mut text = head(path, "1h") + RECOVERY;
    let begun = now();
    let mut due = Vec::new();
    for index in 0..STALE {
        let file = File::create(path.join(format!("f{index}"))).expect("space for a file");
        let at = begun + LEAD + APART * u32::try_from(index).expect("few files");
        file.set_modified(SystemTime::UNIX_EPOCH + (at - CRITICAL)).expect("a file takes a time");
        due.push(at);
        let _ = writeln!(
            text,
            "  s{index}: {{check: {{kind: file_age, path: f{index}, degraded_after: 10s, critical_after: 20s}}}}"
        );
    }
    text.push_str("bindings:\n");
    for index in 0..STALE {
        let command = starts.command(&program, index);
        let _ = writeln!(
            text,
            "- {{action: restart_subsystem, subsystem: s{index}, exec: {{argv: {command:?}}}, class: natural, \
             verify: {{settle: 0s, within: 100ms}}}}"
        );
    }
    let done = AtomicBool::new(false);
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        if busy {
            scope.spawn(|| {
                let mut file = File::create(path.join("busy")).expect("a file in the benchmark's folder");
                while !done.load(Ordering::Relaxed) {
                    file.write_all(&[0; 65_536]).expect("space for an append");
                    file.sync_data().expect("a disk that syncs");
                }
            });
        }
        let program = Program::start(path, &text);
        assert!(now() < due[0], "it starts before the first file is too old");
        let took = (0..STALE).map(|_| {
            let start = starts.next();
            start.at.saturating_sub(due[start.index])
        });
        let took = took.collect();
        done.store(true, Ordering::Relaxed);
        drop(program);
        took
    });
    took.sort_unstable();
    println!(
        "{:<44} {:>8} {:>8.2} {:>8.2} {:>8} {:>8} {:>5.1}  {target}",
        if busy { "file stale to command, disk busy" } else { "file stale to command" },
        took.len(),
        quantile(&took, 0.5),
        quantile(&took, 0.99),
        "",
        "",
        load()
    );
}

/// From the moment at which a file was replaced until the first instruction of the action's command.
fn changed(target: &str) {
    let folder = folder();
    let path = folder.path();
    let (starts, program) = (Starts::listen(), compile(path));
    // The interval is so long that nothing but the change can wake the check.
    let mut text = head(path, "1h") + RECOVERY;
    for index in 0..STALE {
        std::fs::write(path.join(format!("f{index}")), "{\"lag\": 1}").expect("space for a file");
        let _ = writeln!(text, "  s{index}: {{check: {{kind: json, path: f{index}, ranges: {{lag: {{max: 10}}}}}}}}");
    }
    text.push_str("bindings:\n");
    for index in 0..STALE {
        let command = starts.command(&program, index);
        let _ = writeln!(
            text,
            "- {{action: restart_subsystem, subsystem: s{index}, exec: {{argv: {command:?}}}, class: natural, \
             verify: {{settle: 0s, within: 100ms}}}}"
        );
    }
    let program = Program::start(path, &text);
    while program.metric("chiron_unwatched_folders") > 0.0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut took: Vec<Duration> = (0..STALE)
        .map(|index| {
            std::thread::sleep(Duration::from_millis(100));
            std::fs::write(path.join("new"), "{\"lag\": 11}").expect("space for a file");
            let at = now();
            std::fs::rename(path.join("new"), path.join(format!("f{index}"))).expect("a file can be replaced");
            starts.next().at.saturating_sub(at)
        })
        .collect();
    drop(program);
    took.sort_unstable();
    println!(
        "{:<44} {:>8} {:>8.2} {:>8.2} {:>8} {:>8} {:>5.1}  {target}",
        "file replaced to command",
        took.len(),
        quantile(&took, 0.5),
        quantile(&took, 0.99),
        "",
        "",
        load()
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let share: f64 = words.first().and_then(|word| word.parse().ok()).unwrap_or(1.0);
    let length = |seconds: f64| Duration::from_secs_f64((seconds * share).max(1.0));
    println!(
        "{:<44} {:>8} {:>8} {:>9} {:>7} {:>8} {:>5}  target",
        "idle", "checks/s", "CPU %", "us/check", "lag s", "RSS MB", "load"
    );
    {
        let folder = folder();
        chiron::demo::create_workspace(folder.path()).expect("a workspace can be made");
        let text = head(folder.path(), "30s").replace("profile: none", "profile: quantum");
        let text = text.replace("critical_check_interval: 30s", "critical_check_interval: 5s");
        let program = Program::start(folder.path(), &text);
        // Four of the thirteen are critical for trading and so are checked each 5 s.
        idle("13 built-in", &program, 4.0 / 5.0 + 9.0 / 30.0, length(20.0), "0.2 % of a core, 15 MB");
    }
    for (count, interval, seconds, target) in [
        (10_000, 30, 40.0, "5 us, a tenth of a core, 60 MB at 100,000 series"),
        (1_000, 1, 20.0, "5 us"),
        (10_000, 1, 20.0, "5 us, one core"),
    ] {
        let folder = folder();
        let program = Program::start(folder.path(), &files(folder.path(), count, &format!("{interval}s")));
        let rate = count as f64 / f64::from(interval);
        idle(&format!("{count} file_age, each {interval} s"), &program, rate, length(seconds), target);
    }
    for (kind, target) in [("http", "110 us; blackbox_exporter 902"), ("tcp", "blackbox_exporter 583")] {
        let folder = folder();
        let program = Program::start(folder.path(), &probes(folder.path(), kind, 500, web_server()));
        idle(&format!("500 {kind}, each 1 s, closed each time"), &program, 500.0, length(15.0), target);
    }
    {
        let folder = folder();
        let count = (100_000 - SERIES_FIXED) / SERIES_EACH;
        let program = Program::start(folder.path(), &files(folder.path(), count, "30s"));
        let mut client = program.client();
        let pages: Vec<usize> =
            (0..3).map(|_| client.get("/metrics").1.lines().filter(|line| !line.starts_with('#')).count()).collect();
        println!(
            "{count} subsystems, {} series, scraped 3 times: {:.1} MB resident; target 60 MB",
            pages[2],
            program.resident()
        );
    }
    println!(
        "{:<44} {:>8} {:>8} {:>8} {:>8} {:>8} {:>5}  target",
        "latency", "samples", "p50 ms", "p99 ms", "CPU %", "RSS MB", "load"
    );
    scrapes(1_000, length(10.0), "p99 1 ms");
    scrapes(10_000, length(10.0), "p99 5 ms");
    stale(false, "p99 20 ms");
    stale(true, "p99 50 ms");
    changed("p99 50 ms");
}
