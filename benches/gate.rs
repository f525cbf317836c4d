//! How soon the gate answers: the real program on a loopback port under 1,000 requests a second, beside a bare handler of
//! the same framework in the same run. `cargo bench --bench gate`; `-- SECONDS ROUNDS` changes the length of a round and
//! how many there are.
//!
//! The requests are sent by the clock, not by the answers: each of eight keep-alive connections has its own times. An
//! answer is late from the moment its request was due, or, if the connection was free then, from when it was sent, so
//! that the server's delay is counted and the client's sleep is not.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures the machine and prints")]

mod common {
    pub mod program;
}

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router};
use common::program::{Program, load};
use serde_json::json;

/// Requests a second, over all connections.
const RATE: u32 = 1_000;
/// Keep-alive connections.
const CONNECTIONS: u32 = 8;
/// What a bot asks.
const PATH: &str = "/api/v1/gate/open_position?symbol=BTCUSDT&leverage=3";
/// The limit for the 99th percentile.
const LIMIT: Duration = Duration::from_millis(1);

fn config(folder: &std::path::Path) -> String {
    std::fs::write(folder.join("f"), "x").expect("space for a file");
    let mut text = format!(
        "profile: none\nworkspace: {folder:?}\nmode: paper\n\
         thresholds: {{max_cpu_percent: 100, max_memory_percent: 100, max_disk_percent: 100}}\n\
         storage: {{url: \"sqlite:{}/chiron.db\"}}\nsubsystems:\n",
        folder.display()
    );
    for index in 0..13 {
        let _ = writeln!(
            text,
            "  s{index}: {{check: {{kind: file_age, path: f, degraded_after: 1d, critical_after: 2d}}}}"
        );
    }
    text
}

/// The least that answers the same: no guard, no policy, no request id.
fn bare() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.set_nonblocking(true).expect("a socket takes options");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime starts").block_on(async {
            let answer =
                || async { Json(json!({"allowed": true, "policy": "allow_all", "reason": "allow_all is in force"})) };
            let router = Router::new().route("/api/v1/gate/{intent}", get(answer));
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener can be handed on");
            let listener = axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
            axum::serve(listener, router).await.expect("it serves");
        });
    });
    address
}

/// One connection's requests, each at its time; how long each answer took.
fn ask(address: SocketAddr, number: u32, begun: Instant, length: Duration) -> Vec<Duration> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a socket takes options");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket takes options");
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut buffer = vec![0; 4_096];
    let mut took = Vec::new();
    let mut free_at = begun;
    for turn in 0.. {
        let due = begun + Duration::from_secs(1) * (turn * CONNECTIONS + number) / RATE;
        if due >= begun + length {
            return took;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let from = if free_at > due { due } else { Instant::now() };
        stream.write_all(request.as_bytes()).expect("the connection stays");
        answer(&mut stream, &mut buffer);
        free_at = Instant::now();
        took.push(free_at.saturating_duration_since(from));
    }
    took
}

/// Reads one answer, which has to be a yes.
fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let (mut filled, mut end) = (0, usize::MAX);
    while filled < end {
        let read = stream.read(&mut buffer[filled..]).expect("an answer in time");
        assert!(read > 0, "the server closed the connection");
        filled += read;
        if end == usize::MAX
            && let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&buffer[..head]).expect("a head is text");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).expect("an answer has a length");
            end = head + 4 + length;
        }
    }
    assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
}

/// A round against one server: every answer's time, sorted.
fn round(address: SocketAddr, length: Duration) -> Vec<Duration> {
    let begun = Instant::now() + Duration::from_millis(20);
    let mut took: Vec<Duration> = std::thread::scope(|scope| {
        let asking: Vec<_> =
            (0..CONNECTIONS).map(|number| scope.spawn(move || ask(address, number, begun, length))).collect();
        asking.into_iter().flat_map(|thread| thread.join().expect("a connection that lasts")).collect()
    });
    took.sort_unstable();
    took
}

fn at(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn median(mut figures: Vec<Duration>) -> Duration {
    figures.sort_unstable();
    figures[figures.len() / 2]
}

fn main() {
    let words: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let length = Duration::from_secs(words.first().copied().unwrap_or(5));
    let rounds = words.get(1).copied().unwrap_or(5);
    let folder = std::env::temp_dir().join(format!("chiron-bench-gate-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("space for a folder");
    let program = Program::start(&folder, &config(&folder));
    while program.metric("chiron_new_positions_allowed") < 1.0 {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(program.client().get(PATH).0, 200, "the gate allows");
    let bare = bare();
    for address in [program.address, bare] {
        round(address, Duration::from_secs(1));
    }
    println!("{RATE} requests/s, {CONNECTIONS} connections, {rounds} rounds of {length:?}, load {:.2}", load());
    let (mut gates, mut bares, mut cpu) = (Vec::new(), Vec::new(), Duration::ZERO);
    for _ in 0..rounds {
        let before = program.cpu();
        gates.push(round(program.address, length));
        cpu += program.cpu() - before;
        bares.push(round(bare, length));
    }
    let of = |rounds: &[Vec<Duration>], percent| median(rounds.iter().map(|round| at(round, percent)).collect());
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    for (name, rounds) in [("bare handler", &bares), ("gate", &gates)] {
        let most = rounds.iter().flatten().max().copied().unwrap_or_default();
        let (p50, p99) = (ms(of(rounds, 50)), ms(of(rounds, 99)));
        println!("{name:<14} p50 {p50:.3} ms  p99 {p99:.3} ms  max {:.2} ms", ms(most));
    }
    let answers = gates.iter().map(Vec::len).sum::<usize>();
    let each = cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(answers).unwrap_or(u32::MAX));
    let ratio = |percent| ms(of(&gates, percent)) / ms(of(&bares, percent));
    println!("ratio          p50 {:.2}  p99 {:.2}", ratio(50), ratio(99));
    println!("CPU {each:.0} us each, checks included; {:.1} MB resident", program.resident());
    let verdict = if of(&gates, 99) < LIMIT { "met" } else { "missed" };
    println!("p99 under {LIMIT:?}: {verdict}; load {:.2}", load());
    drop(program);
    let _ = std::fs::remove_dir_all(folder);
}
