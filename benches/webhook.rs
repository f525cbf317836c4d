//! From a notification to durability, and from a notification to a command that runs: the real program on a loopback
//! port, beside what the disk and the spawning of processes allow in the same run. `cargo bench --bench webhook`;
//! `-- SECONDS ROUNDS FOLDER` changes the length of a figure, how often it is taken, and the place of the journal.
//!
//! An accepted alert is one answered 200, which is after its fsync. A command has started when its first instruction
//! of `main` reads the clock; the command is the same small one for the program and for the bare limit.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures the machine and prints")]
#![expect(clippy::cast_precision_loss, reason = "counts and times of a benchmark are small")]

mod common {
    pub mod disk;
    pub mod program;
    pub mod started;
}

use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::disk::{Figure, WRITERS, appends, grouped};
use common::program::{Client, Program, load};
use common::started::{Starts, compile, now};

/// Subsystems, each with a check and a binding.
const SUBSYSTEMS: usize = 2_000;
/// How many connections wait for commands at once, as the measured peer was asked by.
const CONNECTIONS: usize = 32;
/// The subsystems that commands are started for: at rest, back to back, and by many connections.
const AT_REST: Range<usize> = 0..500;
const BACK_TO_BACK: Range<usize> = 500..1_000;
const AT_ONCE: Range<usize> = 1_000..SUBSYSTEMS;
/// Between two notifications at rest.
const PAUSE: Duration = Duration::from_millis(10);

/// What all figures share: the command, and the sockets that it tells.
struct Bench {
    program: String,
    starts: Vec<Starts>,
}

/// The least that has all the subsystems; `starts` gets what the commands tell: the first socket for one connection,
/// the others by turns.
fn config(folder: &Path, bench: &Bench) -> String {
    std::fs::write(folder.join("f"), "x").expect("space for a file");
    let mut text = format!(
        "profile: none\nworkspace: {folder:?}\nmode: paper\ncheck_interval: 1h\ncritical_check_interval: 1h\n\
         thresholds: {{max_cpu_percent: 100, max_memory_percent: 100, max_disk_percent: 100}}\n\
         storage: {{url: \"sqlite:{}/chiron.db\"}}\n\
         recovery: {{cooldown: 0s, target_budget: 100000, overall_budget: 1000000, concurrency: 64, storm: {{subsystems: 1000000}}}}\n\
         alerts:\n  routes:\n  - match: {{alertname: Down}}\n    allow_labels: true\n    action: restart_subsystem\n  \
         - match: {{alertname: Seen}}\n    allow_labels: true\nsubsystems:\n",
        folder.display()
    );
    for index in 0..SUBSYSTEMS {
        let _ = writeln!(
            text,
            "  s{index}: {{check: {{kind: file_age, path: f, degraded_after: 1d, critical_after: 2d}}}}"
        );
    }
    text.push_str("bindings:\n");
    for index in 0..SUBSYSTEMS {
        let place = if AT_ONCE.contains(&index) { 1 + index % CONNECTIONS } else { 0 };
        let command = bench.starts[place].command(&bench.program, index);
        let _ = writeln!(
            text,
            "- {{action: restart_subsystem, subsystem: s{index}, exec: {{argv: {command:?}}}, class: natural, \
             verify: {{settle: 0s}}}}"
        );
    }
    text
}

/// A notification of one alert, as Alertmanager writes it.
fn notification(name: &str, subsystem: usize, instance: &str) -> String {
    format!(
        r#"{{"receiver":"chiron","status":"firing","alerts":[{{"status":"firing","labels":{{"alertname":"{name}","instance":"{instance}","job":"platform","subsystem":"s{subsystem}"}},"annotations":{{"summary":"{instance} is down"}},"startsAt":"2026-11-22T01:35:53.961727375Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://prometheus.example:9090/graph?g0.expr=up+%3D%3D+0&g0.tab=1","fingerprint":"9072ddd1d832740f"}}],"groupLabels":{{"alertname":"{name}"}},"commonLabels":{{"alertname":"{name}","job":"platform"}},"commonAnnotations":{{}},"externalURL":"http://alertmanager.example:9093","version":"4","groupKey":"{{}}:{{alertname=\"{name}\"}}","truncatedAlerts":0}}"#
    )
}

const WEBHOOK: &str = "/api/v1/alerts/webhook";

/// What the program did with a stream of alerts.
#[derive(Default)]
struct Acceptance {
    figure: Figure,
    refused: usize,
    cpu: Duration,
    drained: Duration,
}

impl Acceptance {
    /// A round: so many connections, each posting distinct alerts as fast as they are answered, to a fresh program.
    fn round(&mut self, folder: &Path, bench: &Bench, connections: usize, length: Duration) {
        let program = Program::start(folder, &config(folder, bench));
        let before = program.cpu();
        let begun = Instant::now();
        let answers = std::thread::scope(|scope| {
            let posting: Vec<_> = (0..connections)
                .map(|number| (number, program.client()))
                .map(|(number, client)| scope.spawn(move || post_until(client, number, begun, length)))
                .collect();
            posting.into_iter().map(|thread| thread.join().expect("a connection that lasts")).collect::<Vec<_>>()
        });
        let elapsed = begun.elapsed();
        let (took, refused): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
        self.refused += refused.iter().sum::<usize>();
        self.figure.add(took.concat(), elapsed);
        let done = Instant::now();
        while program.metric("chiron_intake_pending") > 0.0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.drained += done.elapsed();
        self.cpu += program.cpu() - before;
    }

    /// Microseconds.
    fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.figure.count() as f64
    }
}

fn post_until(mut client: Client, number: usize, begun: Instant, length: Duration) -> (Vec<Duration>, usize) {
    let (mut took, mut refused, mut count) = (Vec::new(), 0, 0_usize);
    while begun.elapsed() < length {
        count += 1;
        let body = notification("Seen", (count * 61 + number * 37) % SUBSYSTEMS, &format!("host-{number}-{count}"));
        let at = Instant::now();
        match client.post(WEBHOOK, &body) {
            200 => took.push(at.elapsed()),
            503 => {
                refused += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            other => panic!("an alert was answered {other}"),
        }
    }
    (took, refused)
}

/// From before the POST until the command runs, one alert after the other.
fn posted(
    client: &mut Client,
    starts: &Starts,
    indices: impl Iterator<Item = usize>,
    pause: Duration,
) -> Vec<Duration> {
    let one = |index: usize| {
        std::thread::sleep(pause);
        let body = notification("Down", index, &format!("host-{index}"));
        let before = now();
        assert_eq!(client.post(WEBHOOK, &body), 200, "an alert is accepted");
        let start = starts.next();
        assert_eq!(start.index, index, "the command that was asked for");
        start.at.saturating_sub(before)
    };
    indices.map(one).collect()
}

/// From before the spawning until the command runs, one after the other.
fn spawned(program: &str, starts: &Starts, indices: impl Iterator<Item = usize>) -> Vec<Duration> {
    let one = |index: usize| {
        let [program, words @ ..] = starts.command(program, index);
        let before = now();
        let child = Command::new(program)
            .args(words)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let start = starts.next();
        let ended = child.and_then(|mut child| child.wait()).expect("a command ends");
        assert!(ended.success() && start.index == index, "the command that was asked for");
        start.at.saturating_sub(before)
    };
    indices.map(one).collect()
}

/// Does the same on many threads, each with its own socket and its share of the indices.
fn at_once(starts: &[Starts], threads: usize, one: impl Fn(usize, &Starts) -> Vec<Duration> + Sync) -> Vec<Duration> {
    let one = &one;
    std::thread::scope(|scope| {
        let running: Vec<_> =
            starts.iter().enumerate().take(threads).map(|(n, s)| scope.spawn(move || one(n, s))).collect();
        running.into_iter().flat_map(|thread| thread.join().expect("a thread that lasts")).collect()
    })
}

fn timed(work: impl FnOnce() -> Vec<Duration>) -> (Vec<Duration>, Duration) {
    let begun = Instant::now();
    let took = work();
    (took, begun.elapsed())
}

/// The figures of POST to command.
#[derive(Default)]
struct Commands {
    limit_one: Figure,
    limit_two: Figure,
    limit_many: Figure,
    at_rest: Figure,
    back_to_back: Figure,
    at_once: Figure,
    resident: f64,
}

impl Commands {
    fn round(&mut self, folder: &Path, bench: &Bench) {
        let Bench { program: command, starts } = bench;
        let share = AT_ONCE.len() / CONNECTIONS;
        let add = |figure: &mut Figure, (took, elapsed): (Vec<Duration>, Duration)| figure.add(took, elapsed);
        add(&mut self.limit_one, timed(|| spawned(command, &starts[0], BACK_TO_BACK)));
        add(&mut self.limit_two, timed(|| at_once(starts, 2, |_, starts| spawned(command, starts, 0..share * 8))));
        add(
            &mut self.limit_many,
            timed(|| at_once(starts, CONNECTIONS, |_, starts| spawned(command, starts, 0..share))),
        );
        let program = Program::start(folder, &config(folder, bench));
        let mut client = program.client();
        add(&mut self.at_rest, timed(|| posted(&mut client, &starts[0], AT_REST, PAUSE)));
        add(&mut self.back_to_back, timed(|| posted(&mut client, &starts[0], BACK_TO_BACK, Duration::ZERO)));
        let mine = |number: usize| AT_ONCE.filter(move |index| index % CONNECTIONS == number);
        let connection =
            |number: usize, starts: &Starts| posted(&mut program.client(), starts, mine(number), Duration::ZERO);
        add(&mut self.at_once, timed(|| at_once(&starts[1..], CONNECTIONS, connection)));
        self.resident = self.resident.max(program.resident());
        let begun = Instant::now();
        while program.metric("chiron_runs_open") > 0.0 {
            assert!(begun.elapsed() < Duration::from_secs(60), "every run comes to its end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn row(name: &str, figure: &Figure, limit: Option<&Figure>, target: &str) {
    let ratio = limit.map_or_else(String::new, |limit| format!("{:.2}", figure.ratio(limit)));
    let (rate, p50, p99) = (figure.rate(), figure.quantile(0.5), figure.quantile(0.99));
    println!("{name:<52} {rate:>8.0} {p50:>8.2} {p99:>8.2} {ratio:>6}  {target}");
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let seconds: f64 = words.first().and_then(|word| word.parse().ok()).unwrap_or(2.0);
    let rounds: usize = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(3);
    let place = words.get(2).map_or_else(std::env::temp_dir, PathBuf::from);
    let length = Duration::from_secs_f64(seconds);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let compiled = tempfile::tempdir().expect("a folder for the command");
    let starts = (0..=CONNECTIONS).map(|_| Starts::listen()).collect();
    let bench = Bench { program: compile(compiled.path()), starts };
    let (mut single, mut group) = (Figure::default(), Figure::default());
    let (mut one, mut many) = (Acceptance::default(), Acceptance::default());
    let mut commands = Commands::default();
    let before = load();
    for _ in 0..rounds {
        let folder = || tempfile::tempdir_in(&place).expect("a folder for the benchmark");
        let disk = folder();
        let (took, elapsed) = appends(&disk.path().join("single"), length);
        single.add(took, elapsed);
        one.round(folder().path(), &bench, 1, length);
        let (took, elapsed) = runtime.block_on(grouped(&disk.path().join("group"), length));
        group.add(took, elapsed);
        many.round(folder().path(), &bench, WRITERS, length);
        commands.round(folder().path(), &bench);
    }
    println!(
        "{rounds} rounds of {seconds} s in {}; {SUBSYSTEMS} subsystems; a notification is {} bytes; load {before:.1} to {:.1}",
        place.display(),
        notification("Seen", 0, "host-0-0").len(),
        load()
    );
    println!("{:<52} {:>8} {:>8} {:>8} {:>6}  target", "durable acceptance", "per s", "p50 ms", "p99 ms", "ratio");
    row("limit: append of 300 bytes + fdatasync", &single, None, "");
    row("POST of one alert, 1 connection", &one.figure, Some(&single), "0.8");
    row("limit: group commit, 64 writers", &group, None, "");
    row("POST of one alert, 64 connections", &many.figure, Some(&group), "0.5, p99 under 10 ms");
    for (name, accepted) in [("1 connection", &one), ("64 connections", &many)] {
        let drained = accepted.drained.as_secs_f64() * 1e3 / rounds as f64;
        println!(
            "{name}: {:.0} us of CPU per accepted alert, decided upon; {} refused with 503; {drained:.0} ms to decide upon the last",
            accepted.cpu_each(),
            accepted.refused,
        );
    }
    println!("{:<52} {:>8} {:>8} {:>8} {:>6}  target", "command started", "per s", "p50 ms", "p99 ms", "ratio");
    row("limit: spawn and wait, one at a time", &commands.limit_one, None, "");
    row("limit: spawn and wait, two at a time", &commands.limit_two, None, "");
    row("limit: spawn and wait, 32 at a time", &commands.limit_many, None, "");
    row("POST to command, 1 connection, every 10 ms", &commands.at_rest, None, "p50 1.3 ms, p99 2.0 ms");
    let target = "p50 1.3 ms, p99 2.0 ms; 0.8";
    row("POST to command, 1 connection, back to back", &commands.back_to_back, Some(&commands.limit_one), target);
    let target = "p99 half of 30-46 ms; 0.8";
    row("POST to command, 32 connections", &commands.at_once, Some(&commands.limit_many), target);
    println!("Resident after {SUBSYSTEMS} commands: {:.1} MB.", commands.resident);
    println!("A ratio is the median over the rounds of the rate divided by the limit's in the same round.");
}
