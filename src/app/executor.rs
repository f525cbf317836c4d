//! From a durable `started` to the means and back: builds the order, runs it as a task, tells the decision task.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use crate::base::clock::Clock;
use crate::base::redact;
use crate::base::tree::shorten;
use crate::config::{Confirm, PolicyHook};
use crate::execute::{self, About, Answer, Binding, Order, ProbeAnswer, survivors};
use crate::journal::{Episode, Run, State};
use crate::model::{Class, Ending, IssueSource, Level, Name, PLATFORM, RunKey, Status};
use crate::policy::hooks::follows;

use super::cycle::{Answered, Inquired, Prepared};
use super::hooks::{Hooked, Telling};
use super::task::Event;
use super::tasks::Tasks;

/// How long a means may take to tell what its probe will compare with; without it the run is begun all the same.
const EVIDENCE_LIMIT: Duration = Duration::from_secs(5);

/// How long a look at the bot may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// The longest symbol that an action is told, in bytes.
const SYMBOL_MAX: usize = 64;
/// The verb of an order that tells the policy.
const HOOK_ACTION: &str = "policy_hook";

/// Bindings by action and subsystem.
type Bindings = HashMap<(Name, Name), Arc<Binding>>;

/// Carries effects out.
#[derive(Clone, Debug)]
pub struct Executor {
    tasks: Tasks,
    events: mpsc::Sender<Event>,
    epoch: u64,
    closed: bool,
    /// Effects at work in this process, whichever decision task began them: their answers are on their way.
    at_work: Arc<Mutex<HashSet<RunKey>>>,
    /// Hooks whose look at a file has not come back: one that hangs takes one thread, not one for each try.
    looking: Arc<Mutex<HashSet<Name>>>,
}

impl Executor {
    /// For one epoch of the journal.
    pub fn new(tasks: Tasks, events: mpsc::Sender<Event>, epoch: u64) -> Self {
        Self { tasks, events, epoch, closed: false, at_work: Arc::default(), looking: Arc::default() }
    }

    /// For another epoch in the same process: it knows what is still at work.
    pub fn for_epoch(&self, epoch: u64) -> Self {
        Self { epoch, closed: false, ..self.clone() }
    }

    fn at_work(&self) -> MutexGuard<'_, HashSet<RunKey>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins nothing any more. What was decided but not begun is told as such.
    pub fn close(&mut self) {
        self.closed = true;
    }

    fn order(&self, state: &State, run: &Run, timeout: Duration) -> Order {
        let facts = state.episodes.get(&run.key.episode);
        let about = About {
            issue_type: facts.map_or_else(String::new, |episode| episode.key.kind.to_string()),
            severity: facts.map_or("", |episode| episode.facts.severity.as_str()),
            symbol: facts.and_then(|episode| symbol(episode)).map_or_else(String::new, Name::to_string),
            policy: state.level().as_str(),
            sequence: 0,
        };
        Order {
            key: run.key.clone(),
            action: run.action.clone(),
            target: run.target.clone(),
            epoch: self.epoch,
            timeout,
            about,
            evidence: run.evidence.clone(),
        }
    }

    /// Asks the means of a run that is durably intended what its probe will compare with.
    pub fn prepare(&self, state: &State, bindings: &Bindings, key: &RunKey) {
        let Some(run) = state.runs.get(key) else { return };
        let binding = bindings.get(&(run.action.clone(), run.target.clone())).cloned();
        let (events, key) = (self.events.clone(), key.clone());
        let order = self.order(state, run, EVIDENCE_LIMIT);
        self.tasks.spawn_short(async move {
            let evidence = match binding {
                Some(binding) => execute::engine::evidence(&order, Arc::clone(&binding.actuator)).await,
                None => None,
            };
            send(&events, Event::Prepared(Prepared { key, evidence })).await;
        });
    }

    /// Carries out a run that is durably started.
    pub fn start(&self, state: &State, bindings: &Bindings, key: &RunKey) {
        let Some(run) = state.runs.get(key) else { return };
        let binding = bindings.get(&(run.action.clone(), run.target.clone())).cloned();
        let events = self.events.clone();
        let Some(binding) = binding.filter(|_| !self.closed) else {
            let detail = if self.closed { "chiron is stopping" } else { "its binding is configured no longer" };
            let answer = Answer::new(Ending::NotStarted, detail);
            let answered = Answered { key: key.clone(), answer, duration: Duration::ZERO };
            return self.tasks.spawn_short(async move { send(&events, Event::Answered(answered)).await });
        };
        let order = self.order(state, run, binding.timeout);
        let key = key.clone();
        let at_work = Arc::clone(&self.at_work);
        self.at_work().insert(key.clone());
        self.tasks.spawn_short(async move {
            let (answer, duration) = execute::engine::carry_out(order, Arc::clone(&binding.actuator)).await;
            // Before the answer is sent: a decision task that dies with it in its hands leaves the run to be asked about.
            at_work.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            send(&events, Event::Answered(Answered { key, answer, duration })).await;
        });
    }

    /// Finds out what became of a run that a crash interrupted: first what is left of it is waited for, up to the end of
    /// its time, then its means is asked. One whose effect is still at work in this very process will answer by itself.
    pub fn inquire(&self, state: &State, bindings: &Bindings, key: &RunKey) {
        let Some(run) = state.runs.get(key) else { return };
        if self.at_work().contains(key) {
            return;
        }
        let binding = bindings.get(&(run.action.clone(), run.target.clone())).cloned();
        let order = self.order(state, run, binding.as_ref().map_or(Duration::from_secs(60), |binding| binding.timeout));
        let (class, key, events) = (run.class, key.clone(), self.events.clone());
        self.tasks.spawn_short(async move {
            let found = {
                let key = key.clone();
                super::tasks::blocking(move || survivors::find(&key)).await
            };
            survivors::await_end(found, order.timeout).await;
            let probe = match (&binding, class) {
                (Some(binding), Class::Probeable) => {
                    execute::engine::probe(&order, Arc::clone(&binding.actuator)).await
                }
                _ => ProbeAnswer::AskCheck,
            };
            send(&events, Event::Inquired(Inquired { key, probe })).await;
        });
    }
}

/// The symbol that an action is told: one that a check has found, not one that an alert merely names (SEC-5), and one that is
/// written as symbols are.
fn symbol(episode: &Episode) -> Option<&Name> {
    let found = matches!(episode.facts.source, IssueSource::Vitals | IssueSource::FailurePoint);
    let plain = |symbol: &&Name| {
        symbol.len() <= SYMBOL_MAX
            && symbol.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/:@+-".contains(&byte))
            && !symbol.starts_with('-')
    };
    episode.key.symbol.as_ref().filter(|_| found).filter(plain)
}

impl Executor {
    /// Tells the bot of the policy by a hook, if there is a sequence number to tell, and then looks whether it follows.
    pub fn hook(&self, hook: &Arc<PolicyHook>, telling: Telling, sequence: Option<u64>, clock: &Clock) {
        let order = sequence.map(|sequence| Order {
            key: hook_key(&telling),
            action: HOOK_ACTION.into(),
            target: hook.rule.subsystem.clone().unwrap_or_else(|| PLATFORM.into()),
            epoch: self.epoch,
            timeout: hook.timeout,
            about: About {
                issue_type: String::new(),
                severity: "",
                symbol: String::new(),
                policy: telling.level.as_str(),
                sequence: sequence.max(1),
            },
            evidence: None,
        });
        let (hook, events, clock) = (Arc::clone(hook), self.events.clone(), clock.clone());
        let looking = Arc::clone(&self.looking);
        self.tasks.spawn_short(async move {
            let answer = match order {
                Some(order) => Some(execute::engine::carry_out(order, Arc::clone(&hook.actuator)).await.0),
                None => None,
            };
            let shown = look(&hook, &telling, &clock, &looking).await;
            send(&events, Event::Hooked(Hooked { telling, answer, shown })).await;
        });
    }
}

/// The key of a hook's try: the same after a crash, another for each try and each change of the level.
fn hook_key(telling: &Telling) -> RunKey {
    let Telling { hook, level, since, attempt, .. } = telling;
    let episode = format!("hook-{hook}-{level}-{}", since.millis());
    RunKey { episode: episode.into(), rung: 1, attempt: *attempt }
}

/// Whether the bot shows the level that it was told, and why not; `None` if it cannot be looked at.
async fn look(
    hook: &Arc<PolicyHook>,
    telling: &Telling,
    clock: &Clock,
    looking: &Arc<Mutex<HashSet<Name>>>,
) -> Option<Result<(), String>> {
    let blocks = match &hook.confirm {
        Confirm::Check(check) => check.blocking(),
        Confirm::Shows(shown) => shown.blocks(),
        Confirm::Nothing => return None,
    };
    let limit = hook.timeout.min(LOOK_LIMIT);
    let (name, hook, telling, clock) = (hook.rule.name.clone(), Arc::clone(hook), telling.clone(), clock.clone());
    let seen = async move { AssertUnwindSafe(seen(&hook, &telling, &clock)).catch_unwind().await };
    let looked = if blocks {
        let set = |looking: &Mutex<HashSet<Name>>, name: &Name, on: bool| {
            let mut looking = looking.lock().unwrap_or_else(PoisonError::into_inner);
            if on { looking.insert(name.clone()) } else { looking.remove(name) }
        };
        if !set(looking, &name, true) {
            return Some(Err("the look before has not come back".to_owned()));
        }
        let looking = Arc::clone(looking);
        let back = super::tasks::blocking(move || {
            let seen = seen.now_or_never();
            set(&looking, &name, false);
            seen
        });
        tokio::time::timeout(limit, back).await.map(|seen| seen.unwrap_or(Ok(Err("the look waited".to_owned()))))
    } else {
        tokio::time::timeout(limit, seen).await
    };
    let mut shown = match looked {
        Ok(Ok(shown)) => shown,
        Ok(Err(_)) => Err("the look panicked".to_owned()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    };
    if let Err(why) = &mut shown {
        redact::string(why);
    }
    Some(shown)
}

async fn seen(hook: &PolicyHook, telling: &Telling, clock: &Clock) -> Result<(), String> {
    match &hook.confirm {
        Confirm::Check(check) => {
            let reading = check.read().await;
            let judgement = check.judge(&reading, clock.now());
            if judgement.status == Status::Healthy {
                return Ok(());
            }
            let why = ["error", "warning", "message"].iter().find_map(|key| judgement.details.get(*key)?.as_str());
            Err(format!("the check is {}: {}", judgement.status, why.unwrap_or("it says no more")))
        }
        Confirm::Shows(shown) => {
            let text = shown.read().await?;
            match Level::parse(&text) {
                Some(level) if follows(telling.level, telling.from, level) => Ok(()),
                _ => Err(format!("the bot shows `{}`, expected `{}`", shorten(&text), telling.level)),
            }
        }
        Confirm::Nothing => Ok(()),
    }
}

async fn send(events: &mpsc::Sender<Event>, event: Event) {
    // The decision task is gone only when chiron ends; the run is then resolved at the next start.
    let _ = events.send(event).await;
}
