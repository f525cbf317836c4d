//! A manager of systemd over D-Bus: its units, their states, and jobs followed to their end.
//!
//! **Invariant:** every call is bounded in time; whether a refused call is certain to have changed nothing is always
//! told; only [`Client::begin`] and [`Client::cancel`] change anything.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use zbus::connection::Builder;
use zbus::message::Type;
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, fdo};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const JOB: &str = "org.freedesktop.systemd1.Job";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Time to connect, and for the answer to one call.
pub const LIMIT: Duration = Duration::from_secs(5);
/// How often a job is looked at whose end has not been heard of.
const LOOK: Duration = Duration::from_secs(2);

/// Which bus the manager is asked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The host's: the manager that is process 1.
    System,
    /// The one of the user that chiron runs as: `DBUS_SESSION_BUS_ADDRESS`, else `XDG_RUNTIME_DIR/bus`.
    User,
    /// Any other, as a D-Bus address: `unix:path=/run/user/1000/bus`.
    Address(String),
}

impl Bus {
    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Self::System => "the system bus".to_owned(),
            Self::User => "the user bus".to_owned(),
            Self::Address(address) => format!("the bus `{address}`"),
        }
    }
}

/// Why systemd could not be asked or told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Error {
    /// One of [`Error::REASONS`].
    pub reason: &'static str,
    /// What was found.
    pub detail: String,
}

impl Error {
    /// Every reason, as labels use them.
    pub const REASONS: [&'static str; 8] =
        ["unreachable", "absent", "timeout", "lost", "missing", "masked", "denied", "refused"];

    fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Whether the call that failed may have been carried out all the same.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self.reason, "timeout" | "lost")
    }

    /// Of a call on a connection that stands.
    fn of(error: zbus::Error) -> Self {
        match &error {
            zbus::Error::MethodError(name, detail, _) => {
                let reason = match name.as_str() {
                    "org.freedesktop.systemd1.NoSuchUnit" => "missing",
                    "org.freedesktop.systemd1.UnitMasked" => "masked",
                    _ => "refused",
                };
                Self::new(reason, detail.clone().unwrap_or_else(|| name.to_string()))
            }
            zbus::Error::FDO(inner) => match &**inner {
                fdo::Error::ServiceUnknown(detail) | fdo::Error::NameHasNoOwner(detail) => {
                    Self::new("absent", detail.clone())
                }
                fdo::Error::AccessDenied(detail)
                | fdo::Error::AuthFailed(detail)
                | fdo::Error::InteractiveAuthorizationRequired(detail) => Self::new("denied", detail.clone()),
                fdo::Error::NoReply(detail) | fdo::Error::Disconnected(detail) => Self::new("lost", detail.clone()),
                fdo::Error::Timeout(detail) | fdo::Error::TimedOut(detail) => Self::new("timeout", detail.clone()),
                other => Self::new("refused", other.to_string()),
            },
            zbus::Error::InputOutput(inner) if inner.kind() == std::io::ErrorKind::TimedOut => {
                Self::new("timeout", format!("no answer within {} s", LIMIT.as_secs()))
            }
            // Anything else is a connection that broke, or bytes that are no answer: the call had been sent.
            other => Self::new("lost", other.to_string()),
        }
    }
}

/// What is done to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Stopped if it runs, then started.
    Restart,
    /// Started unless it runs.
    Start,
    /// Stopped.
    Stop,
    /// Asked to read its settings again.
    Reload,
    /// Reloaded if it can be, else restarted.
    ReloadOrRestart,
}

impl Verb {
    /// The word of the settings, and of people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::ReloadOrRestart => "reload-or-restart",
        }
    }

    const fn method(self) -> &'static str {
        match self {
            Self::Restart => "RestartUnit",
            Self::Start => "StartUnit",
            Self::Stop => "StopUnit",
            Self::Reload => "ReloadUnit",
            Self::ReloadOrRestart => "ReloadOrRestartUnit",
        }
    }
}

/// A job that was queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number; never 0.
    pub id: u32,
    path: OwnedObjectPath,
}

/// A unit, as its properties have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load: String,
    /// Why it is not loaded; empty if it is.
    pub load_error: String,
    /// `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
    pub active: String,
    /// The same in the words of its type: `running`, `dead`, `auto-restart`.
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `masked`, or empty.
    pub file: String,
    /// What tells one start from the next, in hexadecimal; empty if it was never started.
    pub invocation: String,
    /// The main process of a service; 0 if there is none.
    pub main_pid: u32,
    /// How often systemd itself started the service anew.
    pub restarts: u32,
    /// How the service last ended: `success`, `exit-code`, `timeout`; empty if it is no service.
    pub result: String,
    /// How its main process ended last: an exit code, or the number of a signal; 0 if it is no service.
    pub exit_status: i32,
    /// Since when it is in this state, in microseconds since 1970; 0 if it never left its first one.
    pub since: u64,
    /// Memory of its control group, in bytes, where that is counted.
    pub memory: Option<u64>,
    /// Its tasks, where they are counted.
    pub tasks: Option<u64>,
    /// The job at work on it.
    pub job: Option<Job>,
    /// Whether it may be started by hand.
    pub can_start: bool,
    /// Whether it may be stopped by hand.
    pub can_stop: bool,
    /// Whether it can be reloaded.
    pub can_reload: bool,
    /// It was last not started because a condition of its file was not met.
    pub is_unmet: bool,
    /// Its file has changed since systemd read it.
    pub is_outdated: bool,
}

impl Unit {
    fn of(mut unit: Properties, mut service: Properties) -> Self {
        let job = unit.take::<(u32, OwnedObjectPath)>("Job").filter(|(id, _)| *id != 0);
        let invocation = unit.take::<Vec<u8>>("InvocationID").unwrap_or_default();
        let looked_at = unit.take::<u64>("ConditionTimestampMonotonic").unwrap_or(0);
        let load_error = unit.take::<(String, String)>("LoadError").unwrap_or_default();
        Self {
            load: unit.text("LoadState"),
            load_error: load_error.1,
            active: unit.text("ActiveState"),
            sub: unit.text("SubState"),
            file: unit.text("UnitFileState"),
            invocation: invocation.iter().map(|byte| format!("{byte:02x}")).collect(),
            main_pid: service.take("MainPID").unwrap_or(0),
            restarts: service.take("NRestarts").unwrap_or(0),
            result: service.text("Result"),
            exit_status: service.take("ExecMainStatus").unwrap_or(0),
            since: unit.take("StateChangeTimestamp").unwrap_or(0),
            // What is not known is the largest number there is.
            memory: service.take("MemoryCurrent").filter(|bytes| *bytes != u64::MAX),
            tasks: service.take("TasksCurrent").filter(|tasks| *tasks != u64::MAX),
            job: job.map(|(id, path)| Job { id, path }),
            can_start: unit.take("CanStart").unwrap_or(false),
            can_stop: unit.take("CanStop").unwrap_or(false),
            can_reload: unit.take("CanReload").unwrap_or(false),
            is_unmet: looked_at != 0 && unit.take("ConditionResult") == Some(false),
            is_outdated: unit.take("NeedDaemonReload").unwrap_or(false),
        }
    }
}

/// The properties of one interface; what is absent or of another type reads as nothing.
#[derive(Debug, Default)]
struct Properties(HashMap<String, OwnedVariant>);

impl Properties {
    fn take<T: TryFrom<OwnedVariant>>(&mut self, name: &str) -> Option<T> {
        T::try_from(self.0.remove(name)?).ok()
    }

    fn text(&mut self, name: &str) -> String {
        self.take(name).unwrap_or_default()
    }
}

/// How following a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With this result: `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped`, ...
    Result(String),
    /// It had not ended in time.
    Late,
    /// Its end can no longer be heard of.
    Lost(String),
}

/// The ends of jobs, heard from the moment this exists.
pub struct Jobs(MessageStream);

impl std::fmt::Debug for Jobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jobs").finish_non_exhaustive()
    }
}

/// A connection to one manager.
#[derive(Clone, Debug)]
pub struct Client(Connection);

impl Client {
    /// Connects to the bus, within [`LIMIT`]. Whether systemd is on it shows with the first call.
    pub async fn connect(bus: &Bus) -> Result<Self, Error> {
        let builder = match bus {
            Bus::System => Builder::system(),
            Bus::User => Builder::session(),
            Bus::Address(address) => Builder::address(address.as_str()),
        };
        let shown = bus.shown();
        match timeout(LIMIT, builder.method_timeout(LIMIT).build()).await {
            Ok(Ok(connection)) => Ok(Self(connection)),
            Ok(Err(error)) => Err(Error::new("unreachable", format!("{shown} does not answer: {error}"))),
            Err(_) => Err(Error::new("timeout", format!("{shown} does not answer within {} s", LIMIT.as_secs()))),
        }
    }

    /// A unit's state. One that systemd does not know has the load state `not-found`.
    pub async fn unit(&self, name: &str) -> Result<Unit, Error> {
        let path: OwnedObjectPath = self.ask(PATH, MANAGER, "LoadUnit", &name).await?;
        let properties = async |interface: &str| -> Result<Properties, Error> {
            self.ask(path.as_str(), PROPERTIES, "GetAll", &interface).await.map(Properties)
        };
        let service = if name.ends_with(".service") { properties(SERVICE).await? } else { Properties::default() };
        // Read last: what tells of a job under way must not be older than the rest.
        Ok(Unit::of(properties(UNIT).await?, service))
    }

    /// Listens for the ends of jobs; to be called before [`Client::begin`].
    pub async fn listen(&self) -> Result<Jobs, Error> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(NAME)
            .path(PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .build()
            .map_err(Error::of)?;
        let stream = MessageStream::for_match_rule(rule, &self.0, None).await.map_err(Error::of)?;
        // systemd tells nobody of its jobs until somebody asks it to.
        match self.ask::<_, ()>(PATH, MANAGER, "Subscribe", &()).await {
            Err(error) if error.is_in_doubt() || error.reason == "absent" => Err(error),
            _ => Ok(Jobs(stream)),
        }
    }

    /// Queues a job that takes the place of one that contradicts it.
    pub async fn begin(&self, verb: Verb, unit: &str) -> Result<Job, Error> {
        let path: OwnedObjectPath = self.ask(PATH, MANAGER, verb.method(), &(unit, "replace")).await?;
        let id = path.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
        let id = id.ok_or_else(|| Error::new("lost", format!("expected a job, found `{path}`")))?;
        Ok(Job { id, path })
    }

    /// Keeps what systemd knows of a unit at rest, as long as this connection stands. Where that is not permitted, systemd
    /// may forget it at once, and nothing else is amiss.
    pub async fn pin(&self, unit: &str) -> Result<(), Error> {
        match self.ask::<_, ()>(PATH, MANAGER, "RefUnit", &unit).await {
            Err(error) if error.is_in_doubt() => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes a job out of the queue.
    pub async fn cancel(&self, job: &Job) -> Result<(), Error> {
        self.ask(job.path.as_str(), JOB, "Cancel", &()).await
    }

    /// `waiting` or `running`; `None` if there is no such job any more.
    pub async fn job_state(&self, job: &Job) -> Result<Option<String>, Error> {
        let asked: Result<OwnedVariant, Error> = self.ask(job.path.as_str(), PROPERTIES, "Get", &(JOB, "State")).await;
        match asked {
            Ok(state) => Ok(String::try_from(state).ok()),
            Err(error) if error.reason == "refused" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a name can be asked on this bus, as polkit's.
    pub async fn has_program(&self, name: &str) -> Result<bool, Error> {
        let bus = "org.freedesktop.DBus";
        let call = self.0.call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "ListActivatableNames", &());
        let names: Vec<String> = body(&call.await.map_err(Error::of)?)?;
        if names.iter().any(|known| known == name) { Ok(true) } else { self.owns(name).await }
    }

    /// Whether somebody has that name now; answered by the bus itself.
    async fn owns(&self, name: &str) -> Result<bool, Error> {
        let bus = "org.freedesktop.DBus";
        let call = self.0.call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "NameHasOwner", &name);
        body(&call.await.map_err(Error::of)?)
    }

    async fn ask<B, T>(&self, path: &str, interface: &str, method: &str, with: &B) -> Result<T, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
        T: serde::de::DeserializeOwned + zbus::Type,
    {
        let call = self.0.call_method(Some(NAME), path, Some(interface), method, with);
        body(&call.await.map_err(Error::of)?)
    }
}

fn body<T: serde::de::DeserializeOwned + zbus::Type>(answer: &Message) -> Result<T, Error> {
    answer.body().deserialize().map_err(|error| Error::new("lost", format!("an answer cannot be read: {error}")))
}

impl Jobs {
    /// Follows a job to its end, at most until `until`.
    pub async fn follow(&mut self, manager: &Client, job: &Job, until: Instant) -> End {
        let mut look = Instant::now() + LOOK;
        let mut absent = false;
        loop {
            tokio::select! {
                message = self.0.next() => match message {
                    Some(Ok(message)) => if let Some(result) = result_of(&message, job) {
                        return End::Result(result);
                    },
                    Some(Err(error)) => return End::Lost(error.to_string()),
                    None => return End::Lost("the connection to the bus has ended".to_owned()),
                },
                () = sleep_until(look.min(until)) => {
                    if Instant::now() >= until {
                        return End::Late;
                    }
                    // Where systemd starts what is asked for, a call to a manager that is gone waits for ever.
                    let Ok(owned) = timeout_at(until, manager.owns(NAME)).await else { return End::Late };
                    match owned {
                        Ok(true) => absent = false,
                        // Between two executions of its own it is not there for a moment.
                        Ok(false) if !absent => {
                            absent = true;
                            look = Instant::now() + LOOK;
                            continue;
                        }
                        Ok(false) => return End::Lost("systemd has left the bus".to_owned()),
                        Err(error) if error.reason != "timeout" => return End::Lost(error.detail),
                        Err(_) => {}
                    }
                    // A manager that was executed anew may have said it while nobody listened.
                    let Ok(state) = timeout_at(until, manager.job_state(job)).await else { return End::Late };
                    match state {
                        Ok(None) => return self.heard(job),
                        Err(error) if error.reason != "timeout" => return End::Lost(error.detail),
                        _ => look = Instant::now() + LOOK,
                    }
                }
            }
        }
    }

    /// What has been heard by now of a job that is gone.
    fn heard(&mut self, job: &Job) -> End {
        while let Some(Some(Ok(message))) = self.0.next().now_or_never() {
            if let Some(result) = result_of(&message, job) {
                return End::Result(result);
            }
        }
        End::Lost("systemd has ended the job without a word of its result".to_owned())
    }
}

/// The result, if that message tells of that job.
fn result_of(message: &Message, job: &Job) -> Option<String> {
    let (id, path, _unit, result): (u32, OwnedObjectPath, String, String) = message.body().deserialize().ok()?;
    (id == job.id && path == job.path).then_some(result)
}
