//! Means that answer, panic, hang and change their mind, on a paused clock.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;

use super::*;
use crate::base::clock::Clock;
use crate::execute::{Actuator, Answer, Order, ProbeAnswer, VerifySettings};
use crate::model::Ending;
use crate::telemetry::PageFormat;

/// What a means answers when it is asked.
#[derive(Clone, Copy)]
enum Says {
    Well,
    Doubt(&'static str),
    Panics,
    Nothing,
    /// Well, after so many seconds.
    Slow(u64),
}

#[derive(Default)]
struct Script {
    /// One for each time it is asked; the last one counts for all that follow.
    says: Vec<Says>,
    asked: AtomicUsize,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

#[async_trait]
impl Actuator for Script {
    fn means(&self) -> Means {
        Means::Exec
    }

    async fn apply(&self, _order: &Order) -> Answer {
        Answer::new(Ending::Ok, "")
    }

    async fn probe(&self, _order: &Order) -> ProbeAnswer {
        ProbeAnswer::Unknown
    }

    async fn preflight(&self) -> Vec<String> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst).min(self.says.len() - 1);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        match self.says[turn] {
            Says::Well => Vec::new(),
            Says::Slow(seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Vec::new()
            }
            Says::Doubt(doubt) => vec![doubt.to_owned()],
            Says::Panics => panic!("asked for a panic"),
            Says::Nothing => std::future::pending().await,
        }
    }

    fn describe(&self) -> String {
        "a script".to_owned()
    }
}

fn binding(subsystem: &str, script: &Arc<Script>) -> Binding {
    Binding {
        id: format!("clear_cache@{subsystem}").into(),
        action: "clear_cache".into(),
        subsystem: subsystem.into(),
        class: Class::Natural,
        verify: VerifySettings { settle: Duration::ZERO, within: Duration::ZERO, hold_down: 1 },
        retries: 0,
        timeout: Duration::from_secs(60),
        dry_run: false,
        place: String::new(),
        actuator: Arc::clone(script) as Arc<dyn Actuator>,
    }
}

fn script(says: &[Says]) -> Arc<Script> {
    Arc::new(Script { says: says.to_vec(), ..Script::default() })
}

const EVERY: Duration = Duration::from_secs(300);

struct Stage {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
}

/// The task at work on these bindings.
fn play(bindings: &[Binding]) -> Stage {
    let metrics = Arc::new(Metrics::new(&[], &[], &[]));
    let readiness = Arc::new(Readiness::new(bindings, EVERY, &metrics));
    let (tasks, _) = Tasks::new(CancellationToken::new());
    let clock = Clock::manual(Timestamp::from_millis(1_763_861_696_000));
    let progress = metrics.progress("bindings", &clock);
    let stop = CancellationToken::new();
    let task = Preflight::new(Arc::clone(&readiness), Arc::clone(&metrics), tasks.clone(), progress);
    let until = stop.clone();
    tasks.spawn_short(async move { task.run(until).await });
    Stage { readiness, metrics, stop }
}

impl Stage {
    /// `ready`, the doubts, and whether it was ever asked, of one binding.
    fn told(&self, index: usize) -> (bool, Vec<String>, bool) {
        let told = self.readiness.tell()[index].clone();
        let doubts = told["doubts"].as_array().unwrap().iter().map(|doubt| doubt.as_str().unwrap().to_owned());
        (told["ready"] == true, doubts.collect(), !told["checked_at"].is_null())
    }

    fn metric(&self, subsystem: &str) -> String {
        let mut page = Vec::new();
        self.metrics.page(PageFormat::Text, &mut page);
        let page = String::from_utf8(page).unwrap();
        let line = page.lines().find(|line| line.starts_with("chiron_binding_ready") && line.contains(subsystem));
        line.unwrap_or_default().rsplit(' ').next().unwrap_or_default().to_owned()
    }
}

async fn after(time: Duration) {
    tokio::time::sleep(time).await;
}

/// ACT-2: who is asked answers at the start, again at every interval, and a change is seen then.
#[tokio::test(start_paused = true)]
async fn every_binding_is_asked_at_the_start_and_again() {
    let well = script(&[Says::Well]);
    let mends = script(&[Says::Doubt("no such unit"), Says::Well]);
    let stage = play(&[binding("feed", &well), binding("router", &mends)]);
    assert_eq!(stage.told(0), (false, vec![], false), "what is unknown is not ready");
    assert_eq!(stage.metric("feed"), "0");
    after(Duration::from_secs(2)).await;
    assert_eq!((stage.told(0), stage.metric("feed").as_str()), ((true, vec![], true), "1"));
    assert_eq!((stage.told(1), stage.metric("router").as_str()), ((false, vec!["no such unit".into()], true), "0"));
    after(Duration::from_secs(290)).await;
    assert_eq!(mends.asked.load(Ordering::SeqCst), 1, "not before the interval is over");
    after(Duration::from_secs(15)).await;
    assert_eq!((stage.told(1), stage.metric("router").as_str()), ((true, vec![], true), "1"));
    assert_eq!(well.asked.load(Ordering::SeqCst), 2);
    stage.stop.cancel();
}

/// ACT-2: a means that panics is a doubt, and so is one that does not answer; neither keeps the others from being asked,
/// and one that hangs is not asked again beside itself.
#[tokio::test(start_paused = true)]
async fn a_panic_and_a_silence_are_doubts() {
    let silent: Vec<Arc<Script>> = (0..20).map(|_| script(&[Says::Nothing])).collect();
    let panics = script(&[Says::Panics, Says::Well]);
    let well = script(&[Says::Well]);
    let mut bindings: Vec<Binding> =
        silent.iter().enumerate().map(|(number, one)| binding(&format!("s{number}"), one)).collect();
    bindings.extend([binding("panics", &panics), binding("well", &well)]);
    let stage = play(&bindings);
    after(Duration::from_secs(60)).await;
    assert_eq!(stage.told(20), (false, vec!["its means panicked when it was asked".into()], true));
    assert!(stage.told(21).0, "{:?}", stage.told(21));
    for (index, one) in silent.iter().enumerate() {
        assert_eq!(stage.told(index), (false, vec!["no answer within 10 s".into()], true));
        assert_eq!(one.asked.load(Ordering::SeqCst), 1);
    }
    after(EVERY * 3).await;
    assert!(stage.told(20).0 && silent.iter().all(|one| one.asked.load(Ordering::SeqCst) == 1));
    stage.stop.cancel();
}

/// ACT-2: a hundred bindings are asked a few at a time, and all of them; after a reload all are asked at once again.
#[tokio::test(start_paused = true)]
async fn a_few_are_asked_at_a_time_and_a_reload_asks_anew() {
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let one = || {
        let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
        Arc::new(Script { says: vec![Says::Well], asked: AtomicUsize::new(0), under_way, most })
    };
    let bindings: Vec<Binding> = (0..100).map(|number| binding(&format!("s{number}"), &one())).collect();
    let stage = play(&bindings);
    after(Duration::from_secs(20)).await;
    assert!((0..100).all(|index| stage.told(index).0));
    assert_eq!(most.load(Ordering::SeqCst), AT_ONCE);
    stage.readiness.replace(&bindings[..3], EVERY, &stage.metrics);
    assert_eq!((stage.told(2), stage.metric("s2").as_str()), ((false, vec![], false), "0"));
    after(Duration::from_secs(2)).await;
    assert_eq!((stage.told(2), stage.metric("s2").as_str()), ((true, vec![], true), "1"));
    stage.stop.cancel();
}

/// ACT-2: whoever hangs is not asked again beside itself, however often the settings are read again or the task starts
/// anew; as soon as it answers it is asked under the settings in force.
#[tokio::test(start_paused = true)]
async fn a_reload_asks_nobody_beside_itself() {
    let hangs = script(&[Says::Nothing]);
    let slow = script(&[Says::Slow(30), Says::Well]);
    let bindings = [binding("feed", &hangs), binding("router", &slow)];
    let stage = play(&bindings);
    for _ in 0..5 {
        after(Duration::from_secs(2)).await;
        stage.readiness.replace(&bindings, EVERY, &stage.metrics);
    }
    after(Duration::from_secs(15)).await;
    let asked = || (hangs.asked.load(Ordering::SeqCst), slow.asked.load(Ordering::SeqCst));
    assert_eq!(asked(), (1, 1));
    for index in [0, 1] {
        assert_eq!(stage.told(index), (false, vec![stuck()], true));
    }
    after(Duration::from_secs(10)).await;
    assert_eq!((asked(), stage.told(1)), ((1, 2), (true, vec![], true)), "the first answer was under other settings");
    stage.stop.cancel();
}

/// ACT-2: asked once for all, as by `chiron config check`, with the same limits.
#[tokio::test(start_paused = true)]
async fn once_is_bounded_too() {
    let all = [Says::Well, Says::Doubt("closed"), Says::Panics, Says::Nothing];
    let bindings: Vec<Binding> = all.iter().map(|says| binding("feed", &script(&[*says]))).collect();
    let begun = Instant::now();
    let doubts = once(&bindings).await;
    assert_eq!(begun.elapsed(), LIMIT);
    let expected: [&[&str]; 4] =
        [&[], &["closed"], &["its means panicked when it was asked"], &["no answer within 10 s"]];
    assert_eq!(doubts, expected.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>()));
}
