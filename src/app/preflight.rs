//! Asks every binding whether it would work: at the start, after each reload, and again and again (ACT-2).
//!
//! In: the bindings in force, and the policy hooks as if they were some. Out: what keeps each from working now, for the log, the metrics and `GET /api/v1/bindings`.
//! **Invariant:** nothing that chiron does waits for an answer, and no doubt stops anything. A means that panics or does
//! not answer is a doubt; one that still has not answered is not asked again beside itself, whatever is configured or
//! started anew meanwhile. What is unknown is not ready.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::base::redact;
use crate::config::{PolicyHook, Settings};
use crate::execute::{Binding, VerifySettings};
use crate::model::{Class, Means, Name, Timestamp};
use crate::telemetry::Progress;
use crate::telemetry::metrics::Metrics;

use super::tasks::Tasks;

/// What a hook is bound to, in the place of an action; no action is called so.
const POLICY: &str = "policy";
/// What one binding gets for its answer.
const LIMIT: Duration = Duration::from_secs(10);
/// Bindings that are asked at once.
const AT_ONCE: usize = 8;
/// How often it is looked who is due, and whether the settings are others.
const LOOK: Duration = Duration::from_millis(500);

/// The bindings in force and what each said last; shared by the task, by HTTP and by whoever reloads.
#[derive(Debug)]
pub struct Readiness {
    wanted: ArcSwap<Wanted>,
    told: ArcSwap<Vec<Told>>,
    /// The doubts that the log has, by binding; kept across reloads, so that only what changes is said.
    logged: Mutex<HashMap<Name, Vec<String>>>,
    /// Who is being asked, and since when; kept across reloads and restarts of the task.
    at_work: Mutex<HashMap<Name, Instant>>,
}

#[derive(Debug)]
struct Wanted {
    bindings: Vec<Arc<Binding>>,
    every: Duration,
}

/// What is known of one binding.
#[derive(Clone, Debug)]
struct Told {
    action: Name,
    subsystem: Name,
    means: Means,
    describe: String,
    class: Class,
    dry_run: bool,
    doubts: Vec<String>,
    checked_at: Option<Timestamp>,
}

impl Readiness {
    /// Of these bindings, each asked every so often; none has been asked yet.
    pub fn new(bindings: &[Binding], every: Duration, metrics: &Metrics) -> Self {
        let new = Self {
            wanted: ArcSwap::from_pointee(Wanted { bindings: Vec::new(), every }),
            told: ArcSwap::default(),
            logged: Mutex::default(),
            at_work: Mutex::default(),
        };
        new.replace(bindings, every, metrics);
        new
    }

    /// The bindings are others now: all are asked anew.
    pub fn replace(&self, bindings: &[Binding], every: Duration, metrics: &Metrics) {
        let one = |binding: &Binding| (binding.action.clone(), binding.subsystem.clone(), binding.actuator.means());
        metrics.bindings.configure(bindings.iter().map(one));
        let told = |binding: &Binding| Told {
            action: binding.action.clone(),
            subsystem: binding.subsystem.clone(),
            means: binding.actuator.means(),
            describe: redact::text(&binding.actuator.describe()).into_owned(),
            class: binding.class,
            dry_run: binding.dry_run,
            doubts: Vec::new(),
            checked_at: None,
        };
        self.told.store(Arc::new(bindings.iter().map(told).collect()));
        self.logged().retain(|id, _| bindings.iter().any(|binding| binding.id == *id));
        let bindings = bindings.iter().cloned().map(Arc::new).collect();
        self.wanted.store(Arc::new(Wanted { bindings, every }));
    }

    /// For people, by action and subsystem.
    pub fn tell(&self) -> Vec<Value> {
        let one = |told: &Told| {
            json!({
                "action": told.action,
                "subsystem": told.subsystem,
                "means": told.means,
                "describe": told.describe,
                "class": told.class,
                "dry_run": told.dry_run,
                "ready": told.checked_at.is_some() && told.doubts.is_empty(),
                "doubts": told.doubts,
                "checked_at": told.checked_at,
            })
        };
        self.told.load().iter().map(one).collect()
    }

    fn logged(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Vec<String>>> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_work(&self) -> std::sync::MutexGuard<'_, HashMap<Name, Instant>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One has answered, or has not in time.
    fn note(&self, binding: &Binding, doubts: Vec<String>, at: Timestamp, metrics: &Metrics) {
        metrics.bindings.checked(&binding.action, &binding.subsystem, doubts.is_empty(), at);
        let (action, subsystem) = (binding.action.as_str(), binding.subsystem.as_str());
        let means = binding.actuator.means().as_str();
        let before = self.logged().insert(binding.id.clone(), doubts.clone()).unwrap_or_default();
        for doubt in doubts.iter().filter(|doubt| !before.contains(doubt)) {
            tracing::warn!(action, subsystem, means, place = binding.place, doubt, "binding would not work now");
        }
        if doubts.is_empty() && !before.is_empty() {
            tracing::info!(action, subsystem, means, "binding would work again");
        }
        self.told.rcu(|all| {
            let mut all = Vec::clone(all);
            let mine = |told: &&mut Told| told.action == binding.action && told.subsystem == binding.subsystem;
            if let Some(told) = all.iter_mut().find(mine) {
                told.doubts.clone_from(&doubts);
                told.checked_at = Some(at);
            }
            all
        });
    }
}

/// What is asked, of these settings: the bindings, and as one each the hooks that tell the bot of the policy.
pub fn asked(settings: &Settings) -> Vec<Binding> {
    let hook = |hook: &Arc<PolicyHook>| Binding {
        id: format!("hook:{}", hook.rule.name).into(),
        action: POLICY.into(),
        subsystem: hook.rule.name.clone(),
        class: Class::Natural,
        verify: VerifySettings { settle: Duration::ZERO, within: Duration::ZERO, hold_down: 1 },
        retries: 0,
        timeout: hook.timeout,
        dry_run: false,
        place: hook.place.clone(),
        actuator: Arc::clone(&hook.actuator),
    };
    super::builtin::bindings(settings).into_iter().chain(settings.hooks.iter().map(hook)).collect()
}

/// What keeps a binding from working now. As long as its means takes.
async fn ask(binding: &Binding) -> Vec<String> {
    let asked = AssertUnwindSafe(async { binding.actuator.preflight().await }).catch_unwind().await;
    let mut doubts = asked.unwrap_or_else(|_| vec!["its means panicked when it was asked".to_owned()]);
    doubts.iter_mut().for_each(redact::string);
    doubts
}

/// The doubt about a means that does not answer.
fn late() -> String {
    format!("no answer within {} s", LIMIT.as_secs())
}

/// The doubt about a means that cannot be asked, because it does not answer what it was asked under other settings.
fn stuck() -> String {
    "it cannot be asked: what was asked before the settings were read again is still not answered".to_owned()
}

/// Being asked; over when it is dropped.
struct AtWork {
    readiness: Arc<Readiness>,
    id: Name,
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.readiness.at_work().remove(&self.id);
    }
}

/// Asks all of them once, a few at a time, and waits for each as long as it may take: the doubts of each, in order.
pub async fn once(bindings: &[Binding]) -> Vec<Vec<String>> {
    let one =
        async |binding: &Binding| tokio::time::timeout(LIMIT, ask(binding)).await.unwrap_or_else(|_| vec![late()]);
    futures_util::stream::iter(bindings).map(one).buffered(AT_ONCE).collect().await
}

/// The long task. Cloning shares what it works on.
#[derive(Clone)]
pub struct Preflight {
    readiness: Arc<Readiness>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    progress: Progress,
}

/// Where one binding stands.
#[derive(Clone, Copy)]
struct Turn {
    due: Instant,
    /// It is being asked under these settings.
    asked: bool,
    /// It has been told that it does not answer.
    late: bool,
}

/// One answer; the address of its generation tells it from those of other settings.
type Answered = (Arc<Wanted>, usize, Vec<String>);

impl Preflight {
    /// Over what the others see of it.
    pub fn new(readiness: Arc<Readiness>, metrics: Arc<Metrics>, tasks: Tasks, progress: Progress) -> Self {
        Self { readiness, metrics, tasks, progress }
    }

    /// Asks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let (answers, mut answered) = mpsc::channel::<Answered>(AT_ONCE);
        let mut wanted = self.readiness.wanted.load_full();
        let mut turns = turns(&wanted);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some((of, index, doubts)) = answered.recv() => {
                    if Arc::ptr_eq(&of, &wanted) {
                        turns[index] = Turn { due: Instant::now() + wanted.every, asked: false, late: false };
                        self.note(&wanted.bindings[index], doubts);
                    }
                }
                _ = look.tick() => {
                    self.progress.beat();
                    let now = self.readiness.wanted.load_full();
                    if !Arc::ptr_eq(&now, &wanted) {
                        wanted = now;
                        turns = self::turns(&wanted);
                    }
                    for (turn, binding) in turns.iter_mut().zip(&wanted.bindings) {
                        let since = self.readiness.at_work().get(&binding.id).copied();
                        if !turn.late && since.is_some_and(|since| since.elapsed() >= LIMIT) {
                            turn.late = true;
                            self.note(binding, vec![if turn.asked { late() } else { stuck() }]);
                        }
                    }
                }
            }
            self.begin(&wanted, &mut turns, &answers, &stop);
        }
    }

    /// Asks who is due, as long as not too many are asked at once.
    fn begin(
        &self,
        wanted: &Arc<Wanted>,
        turns: &mut [Turn],
        answers: &mpsc::Sender<Answered>,
        stop: &CancellationToken,
    ) {
        let at_work = self.readiness.at_work().clone();
        // Whoever does not answer takes nobody's place.
        let asked = at_work.values().filter(|since| since.elapsed() < LIMIT).count();
        let now = Instant::now();
        let due = turns
            .iter_mut()
            .zip(&wanted.bindings)
            .enumerate()
            .filter(|(_, (turn, binding))| !turn.asked && turn.due <= now && !at_work.contains_key(&binding.id));
        for (index, (turn, binding)) in due.take(AT_ONCE.saturating_sub(asked)) {
            *turn = Turn { asked: true, late: false, ..*turn };
            self.readiness.at_work().insert(binding.id.clone(), now);
            let over = AtWork { readiness: Arc::clone(&self.readiness), id: binding.id.clone() };
            let (wanted, answers, stop) = (Arc::clone(wanted), answers.clone(), stop.clone());
            self.tasks.spawn_short(async move {
                let asked = async {
                    let doubts = ask(&wanted.bindings[index]).await;
                    drop(over);
                    // The task is gone only if it was started anew; it then asks again.
                    let _ = answers.send((Arc::clone(&wanted), index, doubts)).await;
                };
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = asked => {}
                }
            });
        }
    }

    fn note(&self, binding: &Binding, doubts: Vec<String>) {
        self.readiness.note(binding, doubts, self.progress.clock().now(), &self.metrics);
    }
}

fn turns(wanted: &Wanted) -> Vec<Turn> {
    vec![Turn { due: Instant::now(), asked: false, late: false }; wanted.bindings.len()]
}

#[cfg(test)]
mod tests;
