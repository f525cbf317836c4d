//! How fast alerts become durable, against what the same disk allows in the same run.
//!
//! Four figures alternate, so that a noisy machine disturbs all alike: bare appends of 300 bytes, each synced by itself;
//! the same grouped over 64 writers; and `accept` of one alert on SQLite with 1 and 64 writers.
//! Run with `cargo bench --bench journal`; `-- SECONDS ROUNDS FOLDER` changes the length and the place.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark measures the machine and prints")]
#![expect(clippy::cast_precision_loss, reason = "counts and times of a benchmark are small")]

mod common {
    pub mod disk;
}

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chiron::journal::JournalStore;
use chiron::model::{AlertStatus, IntakeAlert, Timestamp};
use chiron::store::SqliteStore;
use common::disk::{Figure, WRITERS, appends, grouped, writers};

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
        let ratio = figure.ratio(&figures[limit]);
        let (rate, p50, p99) = (figure.rate(), figure.quantile(0.5), figure.quantile(0.99));
        println!("{name:<44} {rate:>9.0} {p50:>9.2} {p99:>9.2} {ratio:>7.2}  {target}");
    }
    println!("A ratio is the median over the rounds of the rate divided by the limit's in the same round.");
}
