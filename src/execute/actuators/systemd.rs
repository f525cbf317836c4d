//! `systemd`: a unit restarted, started, stopped or reloaded, and its job followed to the end.
//!
//! **Invariant:** one job is queued per order, never two; nothing is queued for a unit that is missing or masked.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout, timeout_at};

use super::{ActuatorContext, ActuatorSpec};
use crate::base::tree::Section;
use crate::clients::named::{BusName, UnitName};
use crate::clients::systemd::{Bus, Client, End, Error, Job, Jobs, Unit, Verb};
use crate::execute::{Actuator, Answer, Order, ProbeAnswer};
use crate::model::{Ending, Means};

/// How the registry lists it.
pub const SPEC: ActuatorSpec = ActuatorSpec { key: "systemd", doc: DOC, build };

const DOC: &str = "\
## What it calls

The manager of systemd, over D-Bus: `RestartUnit`, `StartUnit`, `StopUnit`, `ReloadUnit` or `ReloadOrRestartUnit` with the
mode `replace`, as `systemctl` does. `bus` says which manager: `system` (the default, process 1), `user` (the manager of
the user that chiron runs as, found by `DBUS_SESSION_BUS_ADDRESS` or `XDG_RUNTIME_DIR`), or an address (`unix:path=...`).

The job is followed to its end. `done` is success, unless the unit has failed by then; any other result is a failure that
names the unit's own. A unit that is masked or missing, and a call that systemd refuses, has not been started. At the
timeout a job that still waits in systemd's queue is cancelled; one at work goes on, and that is said.

## Permissions

On the system bus, root or what polkit allows: `org.freedesktop.systemd1.manage-units`, best by a rule for the one unit
and verb. On a user's bus, the same user. Whether polkit allows it cannot be asked without doing it; a host without polkit
allows it to root alone, and that is told before.

## Idempotence

None is promised by systemd, so with `class: probeable` the unit is asked after a crash. Every start has an invocation id
of its own: after a restart another one, on a unit that has not failed, shows that it happened; the same one, that it did
not. A stop shows by the unit being inactive. A job still under way is followed first. A reload leaves no trace, so it
cannot be told.
";

/// Time to look at a unit or a job after the order's own time, so that an answer comes within the grace.
const LOOK: Duration = Duration::from_secs(1);

const VERBS: [(&str, Verb); 5] = [
    (Verb::Restart.as_str(), Verb::Restart),
    (Verb::Start.as_str(), Verb::Start),
    (Verb::Stop.as_str(), Verb::Stop),
    (Verb::Reload.as_str(), Verb::Reload),
    (Verb::ReloadOrRestart.as_str(), Verb::ReloadOrRestart),
];

/// A unit and what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Systemd {
    /// Its full name: `order-router.service`.
    pub unit: String,
    /// What is done.
    pub verb: Verb,
    /// Where its manager is asked.
    pub bus: Bus,
}

impl Systemd {
    /// Everything that can fail before anything is changed: the manager, an ear for its jobs, and the unit as it was.
    async fn ready(&self) -> Result<(Client, Jobs, Unit), String> {
        let told = |error: Error| self.told(&error);
        let manager = Client::connect(&self.bus).await.map_err(told)?;
        let jobs = manager.listen().await.map_err(told)?;
        let unit = manager.unit(&self.unit).await.map_err(told)?;
        if let Some(why) = self.hindrance(&unit) {
            return Err(why);
        }
        manager.pin(&self.unit).await.map_err(told)?;
        Ok((manager, jobs, unit))
    }

    fn told(&self, error: &Error) -> String {
        let (unit, shown) = (&self.unit, self.bus.shown());
        match error.reason {
            "unreachable" => error.detail.clone(),
            "absent" => format!("no systemd answers on {shown}: {}", error.detail),
            "missing" => format!("unit `{unit}` is not known to systemd on {shown}: {}", error.detail),
            "masked" => format!("unit `{unit}` is masked: {}", error.detail),
            "denied" => {
                format!("systemd on {shown} does not permit it for `{unit}` ({}); a polkit rule can", error.detail)
            }
            "refused" => format!("systemd on {shown} refuses it for `{unit}`: {}", error.detail),
            _ => format!("systemd on {shown} cannot be asked: {error}"),
        }
    }

    /// What about the unit keeps the job from being queued.
    fn hindrance(&self, unit: &Unit) -> Option<String> {
        let name = &self.unit;
        let verb = self.verb.as_str();
        match unit.load.as_str() {
            "loaded" => {}
            "not-found" => {
                return Some(format!(
                    "unit `{name}` is not known to systemd on {}; is it installed?",
                    self.bus.shown()
                ));
            }
            "masked" => return Some(format!("unit `{name}` is masked; `systemctl unmask {name}` permits it again")),
            other => return Some(format!("unit `{name}` is not loaded, found {other}: {}", unit.load_error)),
        }
        let permitted = match self.verb {
            Verb::Restart | Verb::Start | Verb::ReloadOrRestart => unit.can_start,
            Verb::Stop => unit.can_stop,
            Verb::Reload => unit.can_reload,
        };
        let why = if self.verb == Verb::Reload { "it has no ExecReload=" } else { "its file refuses it" };
        (!permitted).then(|| format!("unit `{name}` cannot be asked to {verb}: {why}"))
    }

    /// The job has ended with `result`.
    async fn ended(&self, manager: &Client, before: &Unit, result: &str) -> Answer {
        let (name, verb) = (&self.unit, self.verb.as_str());
        let after = match timeout(LOOK, manager.unit(name)).await {
            Ok(Ok(after)) => after,
            _ => {
                let ending = if result == "done" { Ending::Ok } else { Ending::Failed };
                return Answer::new(
                    ending,
                    format!("{verb} of `{name}`: {result}; its state cannot be read afterwards"),
                );
            }
        };
        let (ending, detail) = judge_end(self.verb, name, result, &after);
        Answer { changed: changed(before, &after), ..Answer::new(ending, detail) }
    }

    /// The order's time is over and the job is not.
    async fn late(&self, manager: &Client, job: &Job, before: &Unit, order: &Order) -> Answer {
        let fate = match timeout(LOOK, manager.job_state(job)).await {
            // One that was there before is somebody else's too.
            Ok(Ok(Some(state))) if state == "waiting" && before.job.as_ref() != Some(job) => {
                match timeout(LOOK, manager.cancel(job)).await {
                    Ok(Ok(())) => "it still waited in systemd's queue and was cancelled",
                    _ => "it waits in systemd's queue",
                }
            }
            Ok(Ok(Some(_))) => "it goes on in systemd",
            Ok(Ok(None)) => "it has ended just now",
            _ => "systemd does not say what becomes of it",
        };
        let state = match timeout(LOOK, manager.unit(&self.unit)).await {
            Ok(Ok(unit)) => format!("; the unit is {}", shown(&unit)),
            _ => String::new(),
        };
        let (verb, name, limit) = (self.verb.as_str(), &self.unit, order.timeout);
        Answer::new(Ending::Timeout, format!("the job ({verb} of `{name}`) is not done after {limit:?}: {fate}{state}"))
    }

    /// The unit once no job is at work on it, or `None` if that cannot be told by `until`.
    async fn at_rest(&self, until: Instant) -> Option<Unit> {
        let manager = Client::connect(&self.bus).await.ok()?;
        loop {
            let mut jobs = manager.listen().await.ok()?;
            let unit = manager.unit(&self.unit).await.ok()?;
            let Some(job) = &unit.job else { return Some(unit) };
            if jobs.follow(&manager, job, until).await == End::Late {
                return None;
            }
        }
    }
}

#[async_trait]
impl Actuator for Systemd {
    fn means(&self) -> Means {
        Means::Systemd
    }

    fn takes_evidence(&self) -> bool {
        self.verb != Verb::Reload
    }

    async fn evidence(&self, _order: &Order) -> Option<String> {
        let manager = Client::connect(&self.bus).await.ok()?;
        let unit = manager.unit(&self.unit).await.ok()?;
        (unit.load == "loaded").then(|| Evidence { invocation: unit.invocation, active: unit.active }.to_text())
    }

    async fn apply(&self, order: &Order) -> Answer {
        let until = Instant::now() + order.timeout;
        let (manager, mut jobs, before) = match timeout_at(until, self.ready()).await {
            Ok(Ok(ready)) => ready,
            Ok(Err(why)) => return Answer::new(Ending::NotStarted, why),
            Err(_) => {
                let detail = format!("systemd on {} has not answered within {:?}", self.bus.shown(), order.timeout);
                return Answer::new(Ending::NotStarted, detail);
            }
        };
        let doubt = "whether it happened is not known";
        let job = match timeout_at(until, manager.begin(self.verb, &self.unit)).await {
            Ok(Ok(job)) => job,
            Ok(Err(error)) if error.is_in_doubt() => {
                return Answer::new(Ending::Failed, format!("{doubt}: {}", self.told(&error)));
            }
            Ok(Err(error)) => return Answer::new(Ending::NotStarted, self.told(&error)),
            Err(_) => {
                return Answer::new(Ending::Timeout, format!("{doubt}: no answer of systemd in {:?}", order.timeout));
            }
        };
        match jobs.follow(&manager, &job, until).await {
            End::Result(result) => self.ended(&manager, &before, &result).await,
            End::Late => self.late(&manager, &job, &before, order).await,
            End::Lost(why) => {
                let detail =
                    format!("{doubt}: the job ({} of `{}`) was queued, then {why}", self.verb.as_str(), self.unit);
                Answer::new(Ending::Failed, detail)
            }
        }
    }

    async fn probe(&self, order: &Order) -> ProbeAnswer {
        let until = Instant::now() + order.timeout;
        match timeout_at(until + LOOK, self.at_rest(until)).await {
            Ok(Some(unit)) => {
                judge_probe(self.verb, order.evidence.as_deref().and_then(Evidence::parse).as_ref(), &unit)
            }
            _ => ProbeAnswer::Unknown,
        }
    }

    async fn preflight(&self) -> Vec<String> {
        let manager = match Client::connect(&self.bus).await {
            Ok(manager) => manager,
            Err(error) => return vec![self.told(&error)],
        };
        let unit = match manager.unit(&self.unit).await {
            Ok(unit) => unit,
            Err(error) => return vec![self.told(&error)],
        };
        let mut warnings: Vec<_> = self.hindrance(&unit).into_iter().collect();
        if unit.is_outdated && warnings.is_empty() {
            let name = &self.unit;
            warnings
                .push(format!("the file of `{name}` has changed since systemd read it; run `systemctl daemon-reload`"));
        }
        let is_root = rustix::process::geteuid().is_root();
        if self.bus == Bus::System && !is_root && manager.has_program("org.freedesktop.PolicyKit1").await == Ok(false) {
            let name = &self.unit;
            warnings
                .push(format!("systemd lets root alone change `{name}`: chiron is not root, and there is no polkit"));
        }
        warnings
    }

    fn describe(&self) -> String {
        format!("{} unit {} on {}", self.verb.as_str(), self.unit, self.bus.shown())
    }
}

/// What a unit was before, as a text that only the probe reads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Evidence {
    invocation: String,
    active: String,
}

impl Evidence {
    fn to_text(&self) -> String {
        format!("invocation={} active={}", self.invocation, self.active)
    }

    fn parse(text: &str) -> Option<Self> {
        let (invocation, active) = text.strip_prefix("invocation=")?.split_once(" active=")?;
        Some(Self { invocation: invocation.to_owned(), active: active.to_owned() })
    }
}

/// Whether a job that ended with `result` reached what it was for.
fn judge_end(verb: Verb, name: &str, result: &str, after: &Unit) -> (Ending, String) {
    let (word, state) = (verb.as_str(), shown(after));
    let own = if matches!(after.result.as_str(), "" | "success") {
        String::new()
    } else {
        format!(", its result is {}", after.result)
    };
    if result != "done" {
        let hint = if result == "failed" { format!("; see `journalctl -u {name}`") } else { String::new() };
        return (
            Ending::Failed,
            format!("{word} of `{name}`: the job ended with {result}, the unit is {state}{own}{hint}"),
        );
    }
    match verb {
        Verb::Stop if !matches!(after.active.as_str(), "inactive" | "failed") => {
            (Ending::Failed, format!("{word} of `{name}` is done, yet the unit is {state}"))
        }
        Verb::Stop | Verb::Reload => (Ending::Ok, format!("{word} of `{name}` is done{own}")),
        Verb::Restart | Verb::Start | Verb::ReloadOrRestart => {
            if after.active == "failed" {
                (Ending::Failed, format!("{word} of `{name}` is done, but the unit has failed since{own}"))
            } else if after.active == "inactive" && after.is_unmet {
                (Ending::Failed, format!("`{name}` was not started: a condition of its file is not met"))
            } else {
                (Ending::Ok, format!("{word} of `{name}` is done"))
            }
        }
    }
}

/// Whether an interrupted job happened, told by a unit that no job is at work on.
fn judge_probe(verb: Verb, before: Option<&Evidence>, now: &Unit) -> ProbeAnswer {
    use ProbeAnswer::{AskCheck, DidNotHappen, Happened, Unknown};
    let (is_active, has_failed) = (matches!(now.active.as_str(), "active" | "reloading"), now.active == "failed");
    if now.load != "loaded" || verb == Verb::Reload {
        return Unknown;
    }
    let Some(before) = before else {
        return match verb {
            Verb::Stop if !is_active && now.active != "activating" => Happened,
            Verb::Start if is_active => Happened,
            _ => AskCheck,
        };
    };
    let same = before.invocation == now.invocation;
    // A unit at rest that systemd has forgotten since has no invocation; one that never had any says nothing either.
    let is_forgotten = now.invocation.is_empty() && !before.invocation.is_empty();
    match verb {
        Verb::Stop if matches!(now.active.as_str(), "inactive" | "failed") => Happened,
        Verb::Stop if same && is_active => DidNotHappen,
        Verb::Start if is_active => Happened,
        Verb::Restart | Verb::Start | Verb::ReloadOrRestart if is_forgotten => Unknown,
        // A reload leaves the invocation as it is.
        Verb::ReloadOrRestart if same && matches!(before.active.as_str(), "active" | "reloading") => Unknown,
        Verb::Restart | Verb::Start | Verb::ReloadOrRestart if same => DidNotHappen,
        // Started anew, by whomever; one that failed thereafter may be what systemd itself tried.
        Verb::Restart | Verb::Start | Verb::ReloadOrRestart if !has_failed => Happened,
        _ => Unknown,
    }
}

/// `active (running)`.
fn shown(unit: &Unit) -> String {
    format!("{} ({})", unit.active, unit.sub)
}

/// What is different between two looks.
fn changed(before: &Unit, after: &Unit) -> String {
    let short = |invocation: &str| match invocation.get(..8) {
        Some(start) => start.to_owned(),
        None => "none".to_owned(),
    };
    let process = |pid: u32| if pid == 0 { "none".to_owned() } else { pid.to_string() };
    let mut parts = Vec::new();
    if before.invocation != after.invocation {
        parts.push(format!("invocation {} -> {}", short(&before.invocation), short(&after.invocation)));
    }
    if before.main_pid != after.main_pid {
        parts.push(format!("main process {} -> {}", process(before.main_pid), process(after.main_pid)));
    }
    let (was, is) = (shown(before), shown(after));
    match (parts.is_empty(), was == is) {
        (true, true) => parts.push(format!("nothing, {is} as before")),
        (false, true) => parts.push(is),
        (_, false) => parts.push(format!("{was} -> {is}")),
    }
    parts.join(", ")
}

fn build(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    let unit = section.req::<UnitName>("unit");
    let has_job = section.has("job");
    let verb = section.word("job", &VERBS);
    let bus = bus(section);
    if context.probe.is_some() {
        section.reject("probe", "expected no probe beside `systemd`: systemd itself is asked", None);
        return None;
    }
    let verb = if has_job { verb? } else { Verb::Restart };
    Some(Arc::new(Systemd { unit: unit?.0, verb, bus: bus? }))
}

/// The key `bus`; `None` if it is wrong.
pub(super) fn bus(section: &mut Section<'_>) -> Option<Bus> {
    if !section.has("bus") {
        return Some(Bus::System);
    }
    section.opt::<BusName>("bus").map(|bus| bus.0)
}

#[cfg(test)]
mod tests;
