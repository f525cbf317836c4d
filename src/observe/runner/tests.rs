//! The runner against fake checks, on a paused clock; blocking ones against a manual clock and real threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc as blocking;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use super::*;
use crate::model::{Name, Status};
use crate::observe::check::Check;

const START: Timestamp = Timestamp::from_millis(1_763_861_696_000);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A check that waits, then panics or not, and says when its grade changes.
#[derive(Default)]
struct Fake {
    takes: Duration,
    panics: bool,
    judge_panics: bool,
    changes_in: Option<Duration>,
    starts: Mutex<Vec<Instant>>,
    inside: AtomicUsize,
    twice_at_once: AtomicBool,
}

impl Fake {
    fn taking(takes: Duration) -> Arc<Self> {
        Arc::new(Self { takes, ..Self::default() })
    }

    /// Starts, in milliseconds since `from`.
    fn starts(&self, from: Instant) -> Vec<u64> {
        let starts = self.starts.lock().unwrap();
        starts.iter().map(|at| u64::try_from(at.duration_since(from).as_millis()).unwrap()).collect()
    }
}

impl Check for Fake {
    type Reading = ();
    const KIND: &'static str = "fake";

    async fn read(&self) {
        self.starts.lock().unwrap().push(Instant::now());
        if self.inside.fetch_add(1, Ordering::SeqCst) > 0 {
            self.twice_at_once.store(true, Ordering::SeqCst);
        }
        tokio::time::sleep(self.takes).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics, "read went wrong");
    }

    fn judge(&self, (): &(), now: Timestamp) -> Judgement {
        assert!(!self.judge_panics, "judge went wrong");
        Judgement { next_change_at: self.changes_in.map(|wait| now.plus(wait)), ..Judgement::new(Status::Healthy) }
    }
}

fn scheduled(name: &str, check: Arc<dyn AnyCheck>, interval: Duration) -> ScheduledCheck {
    ScheduledCheck { subsystem: name.into(), check, interval, timeout: seconds(5) }
}

struct Running {
    handle: RunnerHandle,
    out: Receiver<Vec<Observation>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    start: Instant,
}

/// Runs checks; the host is read on a real thread, so it is left out by a long interval where time is paused.
/// Without the host: its reading comes from a thread of its own, which a paused clock does not wait for.
fn run(checks: Vec<ScheduledCheck>, clock: Clock) -> Running {
    run_with(checks, clock, false)
}

fn run_with(checks: Vec<ScheduledCheck>, clock: Clock, host: bool) -> Running {
    let (mut runner, handle) = Runner::new(checks, ResourceReader::new(Vec::new()), seconds(1_000_000), clock, 7);
    if !host {
        runner.entries.pop();
    }
    let (send, out) = channel(64);
    let stop = CancellationToken::new();
    let start = Instant::now();
    let task = tokio::runtime::Handle::current().spawn(runner.run(send, stop.clone()));
    Running { handle, out, stop, task, start }
}

impl Running {
    /// The next health of a check.
    async fn next(&mut self, wanted: &str) -> Health {
        loop {
            for observation in self.out.recv().await.expect("the runner runs") {
                if let Observation::Health { health, .. } = observation
                    && health.subsystem == *wanted
                {
                    return health;
                }
            }
        }
    }

    /// Receives until `until` after the start, and returns every health.
    async fn all_until(&mut self, until: Duration) -> Vec<Health> {
        let mut all = Vec::new();
        while let Ok(batch) = tokio::time::timeout_at(self.start + until, self.out.recv()).await {
            for observation in batch.expect("the runner runs") {
                if let Observation::Health { health, .. } = observation {
                    all.push(health);
                }
            }
        }
        all
    }
}

fn error(health: &Health) -> &str {
    health.details["error"].as_str().unwrap()
}

/// OBS-5: one hung check is reported after its limit, and the others keep their pace meanwhile.
#[tokio::test(start_paused = true)]
async fn a_hung_check_delays_no_other() {
    let (hung, quick) = (Fake::taking(seconds(1_000_000)), Fake::taking(Duration::ZERO));
    let checks = vec![scheduled("hung", hung.clone(), seconds(30)), scheduled("quick", quick.clone(), seconds(1))];
    let mut running = run(checks, Clock::manual(START));
    let all = running.all_until(Duration::from_millis(20_500)).await;
    let found: Vec<_> = all.iter().filter(|health| health.subsystem == *"hung").collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].status, found[0].unrunnable, error(found[0])), (Status::Unknown, true, "no answer within 5s"));
    let starts = quick.starts(running.start);
    assert!((20..=22).contains(&starts.len()), "{starts:?}");
    assert!(!quick.twice_at_once.load(Ordering::SeqCst));
}

/// OBS-5: each due time is the one before plus the interval, however long a run takes; a run that overruns its
/// interval skips a turn instead of running twice at once.
#[tokio::test(start_paused = true)]
async fn nothing_drifts_and_nothing_runs_twice_at_once() {
    for (takes, step) in [(300, 1000), (2500, 3000)] {
        let check = Fake::taking(Duration::from_millis(takes));
        let mut running = run(vec![scheduled("a", check.clone(), seconds(1))], Clock::manual(START));
        running.all_until(seconds(30)).await;
        let starts = check.starts(running.start);
        assert_eq!(starts[0], 0, "the first round is at once");
        assert!(starts[2..].windows(2).all(|pair| pair[1] - pair[0] == step), "{starts:?}");
        assert!(starts.len() > 8 && !check.twice_at_once.load(Ordering::SeqCst));
    }
}

/// OBS-5: many checks spread over their interval, by the seed alone.
#[tokio::test(start_paused = true)]
async fn many_checks_spread_over_the_interval() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let fakes: Vec<_> = (0..200).map(|_| Fake::taking(Duration::ZERO)).collect();
        let checks = fakes.iter().map(|fake| scheduled("x", fake.clone(), seconds(10))).collect();
        let mut running = run(checks, Clock::manual(START));
        running.all_until(Duration::from_millis(10_050)).await;
        let firsts: Vec<u64> = fakes.iter().map(|fake| fake.starts(running.start)[0]).collect();
        for second in 0..10 {
            let within = firsts.iter().filter(|at| (second * 1000..=second * 1000 + 1000).contains(*at)).count();
            assert!((5..50).contains(&within), "{within} in second {second}");
        }
        seen.push(firsts);
    }
    assert_eq!(seen[0], seen[1]);
}

/// OBS-5: a panic in reading or judging is that check's own affair.
#[tokio::test(start_paused = true)]
async fn a_panic_is_caught_and_told() {
    let reads = Arc::new(Fake { panics: true, ..Fake::default() });
    let judges = Arc::new(Fake { judge_panics: true, ..Fake::default() });
    let checks = vec![scheduled("reads", reads, seconds(1)), scheduled("judges", judges, seconds(1))];
    let mut running = run(checks, Clock::manual(START));
    let all = running.all_until(Duration::from_millis(3500)).await;
    assert!(all.len() >= 6);
    for health in all {
        let what = if health.subsystem == *"reads" { "read" } else { "judge" };
        assert_eq!(error(&health), format!("check panicked: {what} went wrong"));
        assert!(health.unrunnable && health.status == Status::Unknown);
    }
}

/// OBS-5: a check runs again at the very moment its grade changes, without disturbing its schedule.
#[tokio::test(start_paused = true)]
async fn a_check_runs_when_its_grade_changes() {
    let check = Arc::new(Fake { changes_in: Some(Duration::from_millis(1500)), ..Fake::default() });
    let mut running = run(vec![scheduled("a", check.clone(), seconds(1_000))], Clock::manual(START));
    running.all_until(Duration::from_millis(4700)).await;
    let starts = check.starts(running.start);
    assert_eq!(starts.len(), 4, "{starts:?}");
    for (index, at) in starts.iter().enumerate() {
        let expected = u64::try_from(index).unwrap() * 1500;
        assert!((expected..expected + 10).contains(at), "{starts:?}");
    }
}

/// OBS-5: a moment that is past already does not make the runner spin.
#[tokio::test(start_paused = true)]
async fn a_change_that_is_due_already_does_not_spin() {
    let check = Arc::new(Fake { changes_in: Some(Duration::ZERO), ..Fake::default() });
    let mut running = run(vec![scheduled("a", check.clone(), seconds(1_000))], Clock::manual(START));
    running.all_until(Duration::from_millis(100)).await;
    assert!(check.starts(running.start).len() <= 101);
}

/// OBS-5: a check can be forced now; one that is running runs once more after, however often it was asked for.
#[tokio::test(start_paused = true)]
async fn a_forced_check_runs_now_or_once_more() {
    let check = Fake::taking(Duration::from_millis(400));
    let mut running = run(vec![scheduled("a", check.clone(), seconds(1_000_000))], Clock::manual(START));
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.handle.force(0);
    running.handle.force(0);
    running.handle.force(99);
    running.all_until(Duration::from_millis(1900)).await;
    running.handle.force(0);
    running.all_until(seconds(3)).await;
    let starts = check.starts(running.start);
    assert_eq!(starts.len(), 3, "{starts:?}");
    assert!((400..410).contains(&starts[1]) && (1900..1910).contains(&starts[2]), "{starts:?}");
    assert_eq!(running.handle.checks_total(), 1);
}

/// OBS-5: all are forced, and the caller goes on when each has run from start to end since the call and been sent; a
/// run that was under way does not count, and one that hangs counts when it is given up.
#[tokio::test]
async fn force_all_waits_for_every_check() {
    tokio::time::pause();
    let (slow, hung) = (Fake::taking(seconds(2)), Fake::taking(seconds(1_000_000)));
    let checks =
        vec![scheduled("slow", slow.clone(), seconds(1_000_000)), scheduled("hung", hung.clone(), seconds(1_000_000))];
    let mut running = run(checks, Clock::system());
    running.next("slow").await;
    running.next("hung").await;
    let (handle, start) = (running.handle.clone(), Instant::now());
    let forced = tokio::runtime::Handle::current().spawn(async move {
        handle.force_all().await;
        Instant::now()
    });
    // The results have to be taken for them to count as sent.
    let (mut out, took) = (running.out, forced);
    let drain = tokio::runtime::Handle::current().spawn(async move { while out.recv().await.is_some() {} });
    let took = took.await.unwrap().duration_since(start);
    assert!((5000..5100).contains(&took.as_millis()), "{took:?}");
    assert_eq!((slow.starts(running.start).len(), hung.starts(running.start).len()), (2, 2));
    running.stop.cancel();
    running.task.await.unwrap();
    drain.await.unwrap();
    // Nobody waits for a runner that has ended.
    running.handle.force_all().await;
    running.handle.force(0);
}

/// The first batch of a small set holds every check and the host, and nobody waits for a runner that was never run.
#[tokio::test]
async fn the_first_round_is_complete_at_once() {
    let checks: Vec<_> = (0..13).map(|_| scheduled("x", Fake::taking(Duration::ZERO), seconds(30))).collect();
    let mut running = run_with(checks, Clock::system(), true);
    let (mut healths, mut hosts) = (0, 0);
    while healths < 13 || hosts < 1 {
        for observation in running.out.recv().await.unwrap() {
            match observation {
                Observation::Health { .. } => healths += 1,
                Observation::Resources(_) => hosts += 1,
            }
        }
    }
    let (runner, handle) = Runner::new(Vec::new(), ResourceReader::new(Vec::new()), seconds(1), Clock::system(), 1);
    drop(runner);
    handle.force_all().await;
}

/// While nobody receives, results replace each other instead of piling up, and checks go on.
#[tokio::test(start_paused = true)]
async fn a_slow_receiver_gets_the_newest() {
    let check = Fake::taking(Duration::ZERO);
    let mut running = run(vec![scheduled("a", check.clone(), Duration::from_millis(100))], Clock::manual(START));
    tokio::time::sleep(seconds(100)).await;
    assert!(check.starts(running.start).len() > 900);
    let mut received = 0;
    while let Ok(batch) = running.out.try_recv() {
        received += batch.len();
    }
    // Piled up they would be 1,000; a batch may hold more than one.
    assert!(received <= 200, "{received}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(running.out.recv().await.unwrap().len() <= 80);
}

/// A blocking check that hangs until it is let go.
struct Blocks {
    gate: Mutex<blocking::Receiver<()>>,
    reads: AtomicUsize,
}

impl Blocks {
    fn new() -> (Arc<Self>, blocking::Sender<()>) {
        let (open, gate) = blocking::channel();
        (Arc::new(Self { gate: Mutex::new(gate), reads: AtomicUsize::new(0) }), open)
    }
}

impl Check for Blocks {
    type Reading = ();
    const KIND: &'static str = "blocks";

    async fn read(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // An error means that the test is over.
        let _ = self.gate.lock().unwrap().recv();
    }

    fn judge(&self, (): &(), _: Timestamp) -> Judgement {
        Judgement::new(Status::Healthy)
    }

    fn blocking(&self) -> bool {
        true
    }
}

/// OBS-5: a blocking check that hangs is given up after its limit, is not started a second time while its thread hangs,
/// delays no other, and works again once the thread is back.
#[tokio::test]
async fn a_thread_that_hangs_is_given_up_and_comes_back() {
    let clock = Clock::manual(START);
    let (hung, open) = Blocks::new();
    let checks = vec![
        scheduled("hung", hung.clone(), seconds(1_000_000)),
        scheduled("quick", Arc::new(Quick { waits: false, panics: false }), Duration::from_millis(5)),
    ];
    let mut running = run(checks, clock.clone());
    for _ in 0..10 {
        assert_eq!(running.next("quick").await.status, Status::Healthy);
    }
    clock.advance(seconds(5));
    let health = running.next("hung").await;
    assert_eq!((error(&health), health.unrunnable), ("no answer within 5s", true));
    running.handle.force(0);
    assert_eq!(error(&running.next("hung").await), "no answer within 5s");
    assert_eq!(hung.reads.load(Ordering::SeqCst), 1);
    open.send(()).unwrap();
    open.send(()).unwrap();
    loop {
        running.handle.force(0);
        if running.next("hung").await.status == Status::Healthy {
            break;
        }
    }
    assert_eq!(hung.reads.load(Ordering::SeqCst), 2);
}

/// A blocking check that answers, waits or panics.
struct Quick {
    waits: bool,
    panics: bool,
}

impl Check for Quick {
    type Reading = ();
    const KIND: &'static str = "quick";

    async fn read(&self) {
        assert!(!self.panics, "no disk");
        if self.waits {
            std::future::pending::<()>().await;
        }
    }

    fn judge(&self, (): &(), _: Timestamp) -> Judgement {
        Judgement::new(Status::Healthy)
    }

    fn blocking(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_blocking_check_that_panics_or_waits_is_told() {
    let checks = vec![
        scheduled("panics", Arc::new(Quick { waits: false, panics: true }), seconds(1)),
        scheduled("waits", Arc::new(Quick { waits: true, panics: false }), seconds(1)),
    ];
    let mut running = run(checks, Clock::system());
    let mut errors = std::collections::BTreeSet::new();
    while errors.len() < 2 {
        for observation in running.out.recv().await.unwrap() {
            if let Observation::Health { health, .. } = observation {
                assert!(health.unrunnable);
                errors.insert(error(&health).to_owned());
            }
        }
    }
    assert_eq!(Vec::from_iter(errors), ["check panicked: no disk", "check waits: a blocking `quick` does not"]);
}

/// OBS-5: never more than 32 threads; what finds none in time is reported too.
#[test]
fn threads_are_bounded_and_every_job_ends() {
    let clock = Clock::manual(START);
    let mut pool = Pool::new(clock.clone());
    let (hung, _open): (Vec<_>, Vec<_>) = (0..40).map(|_| Blocks::new()).unzip();
    let job = |(index, check): (usize, &Arc<Blocks>)| Job {
        index,
        seq: 1,
        work: Work::Check(check.clone()),
        limit: seconds(5),
    };
    pool.submit(&mut hung.iter().enumerate().map(job).collect());
    let mut done = Vec::new();
    while pool.threads() < 32 {
        clock.advance(Duration::from_millis(1));
        pool.collect(&mut done);
    }
    // Until each thread is inside its check, so that none has a job left to take.
    while hung.iter().map(|check| check.reads.load(Ordering::SeqCst)).sum::<usize>() < 32 {
        std::thread::yield_now();
    }
    assert!(done.iter().all(|done| matches!(done.outcome, Outcome::Stuck | Outcome::Starved)));
    clock.advance(seconds(5));
    pool.collect(&mut done);
    pool.collect(&mut done);
    let stuck = done.iter().filter(|done| matches!(done.outcome, Outcome::Stuck)).count();
    let starved = done.iter().filter(|done| matches!(done.outcome, Outcome::Starved)).count();
    assert_eq!((stuck, starved, pool.outstanding(), pool.threads()), (32, 8, 0, 32));
}

/// Every check of a fair number ends once per round, with the pool's batching in the way.
#[tokio::test]
async fn a_thousand_blocking_checks_all_report() {
    let checks: Vec<_> = (0..1000)
        .map(|index| {
            let check = Arc::new(Quick { waits: false, panics: false });
            scheduled(&Name::from(format!("n{index}")), check, Duration::from_millis(200))
        })
        .collect();
    let mut running = run(checks, Clock::system());
    let mut seen = vec![0; 1000];
    while seen.iter().any(|times| *times < 2) {
        for observation in running.out.recv().await.unwrap() {
            if let Observation::Health { index, .. } = observation {
                seen[index] += 1;
            }
        }
    }
}

/// A check of a real file that counts its looks and keeps what it saw last.
struct Looks {
    path: PathBuf,
    looks: AtomicUsize,
    seen: Mutex<String>,
}

impl Check for Looks {
    type Reading = ();
    const KIND: &'static str = "looks";

    #[expect(clippy::disallowed_methods, reason = "a file of the test")]
    async fn read(&self) {
        self.looks.fetch_add(1, Ordering::SeqCst);
        *self.seen.lock().unwrap() = std::fs::read_to_string(&self.path).unwrap_or_default();
    }

    fn judge(&self, (): &(), _now: Timestamp) -> Judgement {
        Judgement::new(Status::Healthy)
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
}

/// OBS-7: a file that is replaced 1,000 times a second is looked at 20 times a second at most, and the last of all is seen;
/// its interval has no part in that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "a file of the test")]
async fn a_file_that_changes_all_the_time_costs_little_and_its_end_is_seen() {
    const WRITES: u32 = 1_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let looks = Arc::new(Looks { path: path.clone(), looks: AtomicUsize::new(0), seen: Mutex::default() });
    let checks = vec![scheduled("a", looks.clone(), seconds(1_000_000))];
    let counts = Watching::default();
    let (runner, _handle) =
        Runner::new(checks, ResourceReader::new(Vec::new()), seconds(1_000_000), Clock::system(), 7);
    let runner = runner.with_watching(Arc::default(), counts.clone());
    let (send, mut out) = channel(64);
    let stop = CancellationToken::new();
    let task = tokio::runtime::Handle::current().spawn(runner.run(send, stop.clone()));
    let drain = tokio::runtime::Handle::current().spawn(async move { while out.recv().await.is_some() {} });
    let until = |what: &'static str, holds: &dyn Fn() -> bool| {
        let begun = std::time::Instant::now();
        while !holds() {
            assert!(begun.elapsed() < seconds(10), "{what}: {} looks", looks.looks.load(Ordering::SeqCst));
            std::thread::sleep(Duration::from_millis(1));
        }
        begun.elapsed()
    };
    until("the way to be walked", &|| counts.held() != (0, 1) && looks.looks.load(Ordering::SeqCst) > 0);
    let (before, begun) = (looks.looks.load(Ordering::SeqCst), std::time::Instant::now());
    for number in 1..=WRITES {
        std::fs::write(folder.path().join("new"), number.to_string()).unwrap();
        std::fs::rename(folder.path().join("new"), &path).unwrap();
        std::thread::sleep(Duration::from_micros(900));
    }
    let took = begun.elapsed();
    until("the last to be seen", &|| *looks.seen.lock().unwrap() == WRITES.to_string());
    let found = looks.looks.load(Ordering::SeqCst) - before;
    let most = usize::try_from(took.as_millis() / 50).unwrap() + 2;
    assert!((5..=most).contains(&found), "{found} looks in {took:?}, expected at most {most}");
    stop.cancel();
    task.await.unwrap();
    drain.await.unwrap();
}

/// OBS-5: checks that block share few wake-ups, those that wait for others are spread finely; all within their first interval.
#[tokio::test(start_paused = true)]
async fn checks_that_block_share_their_wake_ups() {
    for (interval, blocking, wake_ups) in [(1_000, true, 10), (50, true, 5), (1_000, false, 100), (30_000, true, 300)] {
        let checks = (0..500).map(|_| scheduled("a", Fake::taking(Duration::ZERO), Duration::from_millis(interval)));
        let (host, clock) = (ResourceReader::new(Vec::new()), Clock::manual(START));
        let (mut runner, _handle) = Runner::new(checks.collect(), host, seconds(1_000_000), clock, 7);
        runner.entries.iter_mut().for_each(|entry| entry.blocking = blocking);
        let start = Instant::now();
        runner.plan(start);
        let due = runner.entries.iter().filter(|entry| entry.scheduled.is_some()).map(|entry| entry.due - start);
        let due: std::collections::BTreeSet<Duration> = due.collect();
        assert!(due.iter().all(|due| *due <= Duration::from_millis(interval)), "{interval}");
        assert!(due.len() <= wake_ups && due.len() * 2 > wake_ups, "{interval} {blocking}: {}", due.len());
    }
}
