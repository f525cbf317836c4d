//! `container`: a container of the Docker Engine's API, restarted, started, stopped or sent a signal.
//!
//! **Invariant:** the engine is asked for a change once or not at all; whether it happened is told by the container's own
//! id, start and process, never by the engine's word alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::{ActuatorContext, ActuatorSpec, Span, Text, tls};
use crate::base::tree::Section;
use crate::clients::docker::{self, Done, Engine, Operation};
use crate::clients::named::{SOCKET, is_address, is_container as is_name};
use crate::execute::{Actuator, Answer, Order, ProbeAnswer};
use crate::model::{Ending, Means};

/// How the registry lists it.
pub const SPEC: ActuatorSpec = ActuatorSpec { key: "container", doc: DOC, build };

const DOC: &str = "\
## What it calls

The Docker Engine's API, as Docker and podman serve it, at `socket` (`unix:///var/run/docker.sock`; or `tcp://HOST:PORT`
with `tls: {ca_file, cert_file, key_file}`): `operation` (restart; or start, stop, kill) on the container `name`. Before the
restart and the stop the container gets `stop_timeout` (10s) to end by itself; `kill` sends `signal` (SIGKILL). The container
is looked at before and after; what differs is told.

A container that is not there, or an engine that cannot be reached, leaves the action not started. `timeout` of the binding
should be longer than `stop_timeout`.

## Permissions

Read and write on the socket, or a client certificate that the engine takes. Whoever has that is root on the engine's
machine: prefer an engine that runs as an own user, or a proxy that lets nothing but these requests pass.

## Idempotence

Class `probeable` fits: the container's id, start and process are written down before, and compared after a crash. Started
since, a restart happened; not started since, once `stop_timeout` has passed, it did not. A container made anew
under the same name cannot be told. A start or a stop done twice is the same as once, so `natural` fits them too.
";

/// The time of one question that changes nothing.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// How often a probe looks again while the engine may still be at work.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// What an engine may need beyond the time in which the container may end.
const AT_WORK: Duration = Duration::from_secs(5);
/// The longest time for a container to end by itself.
const STOP_MAX: Duration = Duration::from_secs(3600);

/// A container with what is done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    name: String,
    operation: Operation,
    /// As the settings have it.
    socket: String,
    engine: Engine,
    stop_timeout: Duration,
    signal: String,
}

/// What a probe compares with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Evidence {
    id: String,
    started_at: String,
    pid: u64,
    restart_count: u64,
    running: bool,
}

impl From<docker::Container> for Evidence {
    fn from(found: docker::Container) -> Self {
        let docker::Container { id, started_at, pid, restart_count, running, .. } = found;
        Self { id, started_at, pid, restart_count, running }
    }
}

impl Container {
    async fn look(&self) -> Result<docker::Container, docker::Error> {
        self.engine.inspect(&self.name, LOOK_LIMIT).await
    }

    /// An error as a sentence that names the container and the engine.
    fn told(&self, error: &docker::Error) -> String {
        let Self { name, socket, .. } = self;
        match error.reason {
            "not_found" => format!("no such container `{name}` at {socket}"),
            "unreachable" => format!("the engine at {socket} cannot be reached: {error}"),
            _ => format!("the engine at {socket}, asked about `{name}`: {error}"),
        }
    }

    /// What is true of the container after the engine has said yes.
    fn judge(&self, done: Done, before: &docker::Container, after: &docker::Container) -> Answer {
        let (name, operation) = (&self.name, self.operation.as_str());
        let failed = |found: String| {
            let detail = format!("the engine answered that it did {operation} `{name}`, but {found}");
            Answer { changed: changed(before, after), ..Answer::new(Ending::Failed, detail) }
        };
        let now = || format!("it is {} now, exit code {}", after.status, after.exit_code);
        if before.id != after.id {
            return failed("it was made anew under the same name meanwhile".to_owned());
        }
        match self.operation {
            Operation::Restart if before.started_at == after.started_at => {
                return failed(format!("it was last started at {}, as before", short(&after.started_at)));
            }
            Operation::Restart | Operation::Start if !after.running => return failed(now()),
            Operation::Stop if after.running => return failed("it still runs".to_owned()),
            _ => {}
        }
        let detail = match (done, self.operation) {
            (Done::Already, Operation::Start) => format!("`{name}` ran already"),
            (Done::Already, _) => format!("`{name}` was stopped already"),
            (Done::Changed, Operation::Restart) => format!("`{name}` restarted"),
            (Done::Changed, Operation::Start) => format!("`{name}` started"),
            (Done::Changed, Operation::Stop) => format!("`{name}` stopped"),
            (Done::Changed, Operation::Kill) => format!("{} sent to `{name}`", self.signal),
        };
        Answer { changed: changed(before, after), ..Answer::new(Ending::Ok, detail) }
    }
}

/// What differs, in one sentence; empty if nothing does.
fn changed(before: &docker::Container, after: &docker::Container) -> String {
    let mut parts = Vec::new();
    if before.id != after.id {
        let id = |container: &docker::Container| container.id.chars().take(12).collect::<String>();
        parts.push(format!("container {} -> {}", id(before), id(after)));
    }
    if before.started_at != after.started_at {
        parts.push(format!("started {} -> {}", short(&before.started_at), short(&after.started_at)));
    }
    let pid = |container: &docker::Container| match container.pid {
        pid if container.running && pid > 0 => pid.to_string(),
        _ => "none".to_owned(),
    };
    let (was, is) = (pid(before), pid(after));
    if was != is {
        parts.push(format!("process {was} -> {is}"));
    }
    if before.status != after.status || !parts.is_empty() {
        parts.push(after.status.clone());
    }
    parts.join(", ")
}

/// A time to the millisecond: engines write nanoseconds.
fn short(time: &str) -> String {
    match time.split_once('.') {
        Some((seconds, rest)) => {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).take(3).collect();
            format!("{seconds}.{digits}Z")
        }
        None => time.to_owned(),
    }
}

/// Whether it happened, as far as one look tells; `None` while the engine may still be at it.
fn compared(operation: Operation, deadly: bool, before: &Evidence, now: &Evidence) -> Option<ProbeAnswer> {
    use ProbeAnswer::{Happened, Unknown};
    if before.id != now.id {
        return Some(Unknown);
    }
    let started_since = before.started_at != now.started_at;
    match operation {
        Operation::Restart if started_since && now.running => Some(Happened),
        // Started, and ended again since.
        Operation::Restart if started_since => Some(Unknown),
        Operation::Start if now.running || started_since => Some(Happened),
        Operation::Stop if !now.running => Some(Happened),
        // Somebody started it since.
        Operation::Stop if started_since => Some(Unknown),
        Operation::Kill if deadly && (!now.running || started_since) => Some(Happened),
        Operation::Kill if !deadly => Some(Unknown),
        _ => None,
    }
}

/// What holds when the engine cannot be at work any more and nothing has changed.
fn unchanged(operation: Operation, before: &Evidence, now: &Evidence) -> ProbeAnswer {
    // A restart that stopped it and did not start it: half of it happened.
    if operation == Operation::Restart && before.running && !now.running {
        return ProbeAnswer::Unknown;
    }
    ProbeAnswer::DidNotHappen
}

#[async_trait]
impl Actuator for Container {
    fn means(&self) -> Means {
        Means::Container
    }

    fn takes_evidence(&self) -> bool {
        true
    }

    async fn evidence(&self, _order: &Order) -> Option<String> {
        let evidence = Evidence::from(self.look().await.ok()?);
        serde_json::to_string(&evidence).ok()
    }

    async fn apply(&self, order: &Order) -> Answer {
        let until = Instant::now() + order.timeout;
        let limit = LOOK_LIMIT.min(order.timeout);
        let before = match self.engine.inspect(&self.name, limit).await {
            Ok(before) => before,
            // Nothing but a question was asked.
            Err(error) => return Answer::new(Ending::NotStarted, self.told(&error)),
        };
        let left = until.saturating_duration_since(Instant::now());
        let asked = self.engine.change(&self.name, self.operation, self.stop_timeout, &self.signal, left).await;
        let operation = self.operation.as_str();
        let mut answer = match asked {
            Ok(done) => {
                return match self.look().await {
                    Ok(after) => self.judge(done, &before, &after),
                    Err(error) if error.reason == "not_found" => {
                        let detail = format!("`{}` is gone since the {operation}", self.name);
                        Answer::new(Ending::Failed, detail)
                    }
                    Err(error) => {
                        let detail = format!("{operation} done; what it is now is not known: {}", self.told(&error));
                        Answer::new(Ending::Ok, detail)
                    }
                };
            }
            Err(error) => {
                let told = self.told(&error);
                let unknown = "whether it happened is not known";
                match error.reason {
                    "unreachable" => return Answer::new(Ending::NotStarted, told),
                    "timeout" => Answer::new(Ending::Timeout, format!("{operation}: {told}; {unknown}")),
                    "closed" => Answer::new(Ending::Failed, format!("{operation}: {told}; {unknown}")),
                    "not_found" => {
                        let detail = format!("`{}` was there and is gone: {told}", self.name);
                        return Answer::new(Ending::Failed, detail);
                    }
                    _ => Answer::new(Ending::Failed, format!("{operation}: {told}")),
                }
            }
        };
        if let Ok(after) = self.look().await {
            answer.changed = changed(&before, &after);
        }
        answer
    }

    async fn probe(&self, order: &Order) -> ProbeAnswer {
        let before = order.evidence.as_deref().and_then(|text| serde_json::from_str::<Evidence>(text).ok());
        let Some(before) = before else { return ProbeAnswer::Unknown };
        let deadly = matches!(self.signal.as_str(), "SIGKILL" | "KILL" | "9");
        // An engine goes on with what it was asked for when the asker dies: until it must be through, "not yet" is no "no".
        let pause = match self.operation {
            Operation::Restart | Operation::Stop => self.stop_timeout,
            Operation::Start | Operation::Kill => Duration::ZERO,
        };
        let until = Instant::now() + pause + AT_WORK;
        loop {
            let now = self.look().await.map(Evidence::from);
            let over = Instant::now() >= until;
            match now {
                Ok(now) => match compared(self.operation, deadly, &before, &now) {
                    Some(answer) => return answer,
                    None if over => return unchanged(self.operation, &before, &now),
                    None => {}
                },
                Err(error) if over || error.reason == "not_found" => return ProbeAnswer::Unknown,
                Err(_) => {}
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn preflight(&self) -> Vec<String> {
        if let Err(error) = self.engine.ping(LOOK_LIMIT).await {
            return vec![format!("the engine at {} does not answer: {error}", self.socket)];
        }
        self.look().await.err().map(|error| self.told(&error)).into_iter().collect()
    }

    fn describe(&self) -> String {
        let Self { name, operation, socket, signal, .. } = self;
        match operation {
            Operation::Kill => format!("send {signal} to container `{name}` at {socket}"),
            _ => format!("{} container `{name}` at {socket}", operation.as_str()),
        }
    }
}

fn build(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    const OPERATIONS: [(&str, Operation); 4] = [
        ("restart", Operation::Restart),
        ("start", Operation::Start),
        ("stop", Operation::Stop),
        ("kill", Operation::Kill),
    ];
    let before = section.problems().len();
    let name = section.req::<Text>("name").map(|text| text.0);
    if name.as_deref().is_some_and(|name| !is_name(name)) {
        let rule = "expected the name of a container: letters, digits, `_`, `.` and `-`, the first a letter or digit";
        section.reject("name", rule, None);
    }
    let operation = section.word("operation", &OPERATIONS).unwrap_or(Operation::Restart);
    let stop_timeout = section.opt::<Span>("stop_timeout").map(|span| span.0);
    if stop_timeout.is_some() && !matches!(operation, Operation::Restart | Operation::Stop) {
        section.reject("stop_timeout", "expected only with `operation: restart` or `stop`", None);
    } else if stop_timeout.is_some_and(|time| time > STOP_MAX) {
        section.reject("stop_timeout", "expected at most 1h", None);
    }
    let signal = section.opt::<Text>("signal").map(|text| text.0);
    if signal.is_some() && operation != Operation::Kill {
        section.reject("signal", "expected only with `operation: kill`", None);
    } else if signal.as_deref().is_some_and(|signal| !is_signal(signal)) {
        section.reject("signal", "expected the name of a signal such as SIGHUP", None);
    }
    let socket = section.opt::<Text>("socket").map_or_else(|| SOCKET.to_owned(), |text| text.0);
    let reach = section.section("tls").map(|mut section| {
        let reach = tls(&mut section, context, true);
        section.finish();
        reach
    });
    let has_tls = reach.is_some();
    let engine = match (socket.strip_prefix("unix://"), socket.strip_prefix("tcp://")) {
        (Some(path), _) if path.starts_with('/') && !path.contains('\0') => {
            if has_tls {
                section.reject("tls", "expected only with a socket `tcp://HOST:PORT`", None);
            }
            Some(Engine::unix(path.into()))
        }
        (_, Some(address)) if is_address(address) => {
            if !has_tls {
                let text = "the engine is asked without TLS: whoever reaches this port is root on its machine";
                let at = section.node("socket").map_or(section.position(), |node| node.at);
                context.warn(at, &section.path_of("socket"), text);
            }
            Some(Engine::tcp(address, reach))
        }
        _ => {
            section.reject("socket", "expected unix:///PATH or tcp://HOST:PORT", None);
            None
        }
    };
    if context.probe.is_some() {
        let hint = "the container itself is asked whether it was started since".to_owned();
        section.reject("probe", "expected no program as `probe` beside `container`", Some(hint));
    }
    if section.problems().len() > before {
        return None;
    }
    let stop_timeout = stop_timeout.unwrap_or(Duration::from_secs(10));
    let signal = signal.unwrap_or_else(|| "SIGKILL".to_owned());
    Some(Arc::new(Container { name: name?, operation, socket, engine: engine?, stop_timeout, signal }))
}

fn is_signal(signal: &str) -> bool {
    let number = signal.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let named = signal.strip_prefix("SIG").is_some_and(|name| {
        (2..=8).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    });
    number || named
}

#[cfg(test)]
mod tests;
