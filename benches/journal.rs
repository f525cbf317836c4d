//! How fast alerts become durable, against what the same disk allows in the same run.
//!
//! Four figures alternate, so that a noisy machine disturbs all alike: bare appends of 300 bytes, each synced by itself;
//! the same grouped over 64 writers; and `accept` of one alert on SQLite with 1 and 64 writers.
//! Run with `cargo bench --bench journal`; `-- SECONDS ROUNDS FOLDER` changes the length and the place.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures the machine and prints")]
#![expect(clippy::cast_precision_loss, reason = "counts and times of a benchmark are small")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use chiron::journal::JournalStore;
use chiron::model::{AlertStatus, IntakeAlert, Timestamp};
use chiron::store::SqliteStore;
use tokio::sync::oneshot;

/// The size of the appends in the measured limits.
const BYTES: usize = 300;
/// How many write at once in the grouped figures.
const WRITERS: usize = 64;

/// The latencies of one figure over all rounds, and how long it ran.
#[derive(Default)]
struct Figure {
    took: Vec<Duration>,
    elapsed: Duration,
    rates: Vec<f64>,
}

impl Figure {
    fn add(&mut self, took: Vec<Duration>, elapsed: Duration) {
        self.rates.push(took.len() as f64 / elapsed.as_secs_f64());
        self.took.extend(took);
        self.elapsed += elapsed;
    }

    fn rate(&self) -> f64 {
        self.took.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the list")]
        let place = ((sorted.len() - 1) as f64 * share) as usize;
        sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }
}

/// An alert whose JSON is about as long as an append.
fn alert() -> IntakeAlert {
    let text = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    IntakeAlert {
        received_at: Timestamp::from_millis(1_763_861_696_123),
        receiver: "chiron".into(),
        status: AlertStatus::Firing,
        fingerprint: "0123456789abcdef0123456789abcdef".into(),
        labels: BTreeMap::from([text("alertname", "OrderRouterDown"), text("severity", "critical")]),
        annotations: BTreeMap::from([text("summary", "the order router is down")]),
        starts_at: Timestamp::from_millis(1_763_861_690_000),
        ends_at: None,
        truncated: false,
    }
}

fn appends(path: &Path, length: Duration) -> (Vec<Duration>, Duration) {
    let mut file = File::create(path).expect("a file in the benchmark's folder");
    let (line, mut took, begun) = (vec![b'x'; BYTES], Vec::new(), Instant::now());
    while begun.elapsed() < length {
        let at = Instant::now();
        file.write_all(&line).expect("space for an append");
        file.sync_data().expect("a disk that syncs");
        took.push(at.elapsed());
    }
    (took, begun.elapsed())
}

type Waiting = oneshot::Sender<()>;

/// A thread that writes everything queued, syncs once and answers all.
fn group(path: &Path) -> SyncSender<(Vec<u8>, Waiting)> {
    let (queue, lines) = sync_channel::<(Vec<u8>, Waiting)>(4096);
    let mut file = File::create(path).expect("a file in the benchmark's folder");
    std::thread::spawn(move || {
        while let Ok((mut buffer, first)) = lines.recv() {
            let mut waiting = vec![first];
            while let Ok((line, next)) = lines.try_recv() {
                buffer.extend_from_slice(&line);
                waiting.push(next);
            }
            file.write_all(&buffer).expect("space for an append");
            file.sync_data().expect("a disk that syncs");
            waiting.into_iter().for_each(|reply| reply.send(()).expect("a writer that waits"));
        }
    });
    queue
}

async fn writers<F, O>(count: usize, length: Duration, one: F) -> (Vec<Duration>, Duration)
where
    F: Fn() -> O + Clone + Send + 'static,
    O: Future<Output = ()> + Send,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let one = one.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                while begun.elapsed() < length {
                    let at = Instant::now();
                    one().await;
                    took.push(at.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.expect("a writer that ends"));
    }
    (took, begun.elapsed())
}

async fn grouped(path: &Path, length: Duration) -> (Vec<Duration>, Duration) {
    let queue = group(path);
    let one = move || {
        let queue = queue.clone();
        async move {
            let (reply, answer) = oneshot::channel();
            queue.send((vec![b'x'; BYTES], reply)).expect("a thread that writes");
            answer.await.expect("an answer");
        }
    };
    writers(WRITERS, length, one).await
}

async fn accepts(path: &Path, count: usize, length: Duration) -> (Vec<Duration>, Duration) {
    let store: Arc<dyn JournalStore> = Arc::new(SqliteStore::open(path).await.expect("a journal"));
    let one = move || {
        let store = store.clone();
        async move { store.accept(vec![alert()]).await.expect("an accepted alert") }
    };
    writers(count, length, one).await
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let seconds: f64 = words.first().and_then(|word| word.parse().ok()).unwrap_or(2.0);
    let rounds: usize = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(5);
    let place = words.get(2).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(place).expect("a folder for the benchmark");
    let length = Duration::from_secs_f64(seconds);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let mut figures: [Figure; 4] = Default::default();
    for round in 0..rounds {
        let path = |name: &str| folder.path().join(format!("{name}-{round}"));
        let (took, elapsed) = appends(&path("single"), length);
        figures[0].add(took, elapsed);
        let (took, elapsed) = runtime.block_on(accepts(&path("one"), 1, length));
        figures[1].add(took, elapsed);
        let (took, elapsed) = runtime.block_on(grouped(&path("group"), length));
        figures[2].add(took, elapsed);
        let (took, elapsed) = runtime.block_on(accepts(&path("many"), WRITERS, length));
        figures[3].add(took, elapsed);
    }
    let json = serde_json::to_string(&alert()).expect("an alert as JSON").len();
    println!("{rounds} rounds of {seconds} s each, in {}; an alert is {json} bytes of JSON", folder.path().display());
    println!("{:<44} {:>9} {:>9} {:>9} {:>7}  target", "", "per s", "p50 ms", "p99 ms", "ratio");
    let names = [
        ("limit: append of 300 bytes + fdatasync", 0, ""),
        ("SQLite accept, 1 writer", 0, "0.8"),
        ("limit: group commit, 64 writers", 2, ""),
        ("SQLite accept, 64 writers", 2, "0.5, p99 under 10 ms"),
    ];
    for (figure, (name, limit, target)) in figures.iter().zip(names) {
        let mut ratios: Vec<f64> =
            figure.rates.iter().zip(&figures[limit].rates).map(|(mine, limit)| mine / limit).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = ratios[ratios.len() / 2];
        let (rate, p50, p99) = (figure.rate(), figure.quantile(0.5), figure.quantile(0.99));
        println!("{name:<44} {rate:>9.0} {p50:>9.2} {p99:>9.2} {ratio:>7.2}  {target}");
    }
    println!("A ratio is the median over the rounds of the rate divided by the limit's in the same round.");
}
