//! What the disk allows: bare durable appends, one by one and grouped, and the latencies of a figure.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// The size of the appends in the measured limits.
pub const BYTES: usize = 300;
/// How many write at once in the grouped figures.
pub const WRITERS: usize = 64;

/// The latencies of one figure over all rounds, and how long it ran.
#[derive(Default)]
pub struct Figure {
    took: Vec<Duration>,
    elapsed: Duration,
    /// The rate of each round.
    pub rates: Vec<f64>,
}

impl Figure {
    /// Takes a round.
    pub fn add(&mut self, took: Vec<Duration>, elapsed: Duration) {
        self.rates.push(took.len() as f64 / elapsed.as_secs_f64());
        self.took.extend(took);
        self.elapsed += elapsed;
    }

    /// Operations of all rounds.
    pub fn count(&self) -> usize {
        self.took.len()
    }

    /// Operations a second.
    pub fn rate(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64()
    }

    /// A latency in milliseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.took.clone();
        sorted.sort();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the list")]
        let place = (sorted.len().saturating_sub(1) as f64 * share) as usize;
        sorted.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
    }

    /// The median over the rounds of this rate divided by the limit's in the same round.
    pub fn ratio(&self, limit: &Self) -> f64 {
        let mut ratios: Vec<f64> = self.rates.iter().zip(&limit.rates).map(|(mine, limit)| mine / limit).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

/// Appends that are each synced by themselves.
pub fn appends(path: &Path, length: Duration) -> (Vec<Duration>, Duration) {
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

/// So many at once do one thing again and again.
pub async fn writers<F, O>(count: usize, length: Duration, one: F) -> (Vec<Duration>, Duration)
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

/// Appends of [`WRITERS`] writers that share their syncs.
pub async fn grouped(path: &Path, length: Duration) -> (Vec<Duration>, Duration) {
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
