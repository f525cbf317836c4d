//! From a durable `started` to the means and back: builds the order, runs it as a task, tells the decision task.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::execute::{self, About, Answer, Binding, Order, ProbeAnswer, survivors};
use crate::journal::{Run, State};
use crate::model::{Class, Ending, Name, RunKey};

use super::cycle::{Answered, Inquired, Prepared};
use super::task::Event;
use super::tasks::Tasks;

/// How long a means may take to tell what its probe will compare with; without it the run is begun all the same.
const EVIDENCE_LIMIT: Duration = Duration::from_secs(5);

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
}

impl Executor {
    /// For one epoch of the journal.
    pub fn new(tasks: Tasks, events: mpsc::Sender<Event>, epoch: u64) -> Self {
        Self { tasks, events, epoch, closed: false, at_work: Arc::default() }
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
                (Some(binding), Class::Probeable) => binding.actuator.probe(&order).await,
                _ => ProbeAnswer::AskCheck,
            };
            send(&events, Event::Inquired(Inquired { key, probe })).await;
        });
    }
}

async fn send(events: &mpsc::Sender<Event>, event: Event) {
    // The decision task is gone only when chiron ends; the run is then resolved at the next start.
    let _ = events.send(event).await;
}
