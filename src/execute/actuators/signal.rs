//! `signal`: a signal to one process, and where it is to end, its end.
//!
//! **Invariant:** a signal goes to the process that was identified or to nobody, never to a later one with the same id;
//! no other signal than the configured one is ever sent.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::io::Errno;
use rustix::process::{Pid, Signal as Number, pidfd_send_signal, test_kill_process};
use tokio::time::{Instant, timeout_at};

use self::target::{Held, Identity, Named, Target, find};
use super::systemd::bus;
use super::{ActuatorContext, ActuatorSpec, Text};
use crate::base::tree::Section;
use crate::clients::named::UnitName;
use crate::execute::{Actuator, Answer, Order, ProbeAnswer};
use crate::model::{Ending, Means};

mod target;

/// How the registry lists it.
pub const SPEC: ActuatorSpec = ActuatorSpec { key: "signal", doc: DOC, build };

const DOC: &str = "\
## What it calls

`pidfd_send_signal`, for the one process that `pidfile`, `process` or `unit` names. The process is held before its
identity is looked at, so that another one with the same id is never hit:

- `pidfile`: the first line is its id. A process that began after the file was written has taken over the id, and is left
  alone. So is process 1, chiron itself, and whatever a file names that everybody or its group (other than root's own) may
  write to, or that belongs to another user than root and the process's own, or stands in a folder of another user than
  those and chiron's. A symbolic link in its place is not followed. With `process` beside it, the process of the file must
  have that name and that text too. A file written inside a container names an id of the container, which is a stranger's
  here.
- `process`: the only process of that name (as `ps -C` has it, or the program's file name), with the text of `cmdline` in
  its command line if given. None or several are refused; several are named.
- `unit`: the main process of a unit of systemd, on the bus `bus`.

With `expect: exit` (the default for TERM, INT, QUIT, ABRT and KILL) success is its end, which is waited for; at the
timeout it is named and left alone. With `expect: none` success is that the signal was sent. There is no second signal:
what should follow a TERM that is ignored is the next rung of the ladder.

## Permissions

chiron runs as root, or as the process's own user.

## Idempotence

A process has ended or it has not: with `class: probeable` and `expect: exit` the process of before is looked for by its
id and start. It still runs: the signal did not work or was not sent. It is gone: it happened. Whether a signal without a
visible end was sent cannot be told. A process that ends by itself before the signal is sent counts as ended, and the one
in its place is left alone.
";

/// How long a probe waits for a process that may be ending.
const ENDING: Duration = Duration::from_secs(2);

/// How often the end of a process is looked for; its id and start tell it, so that holding it is not needed for that.
const PAUSE: Duration = Duration::from_millis(20);

/// The signals by their names, and whether a process is expected to end by them.
const SIGNALS: [(&str, (Number, bool)); 11] = [
    ("TERM", (Number::TERM, true)),
    ("HUP", (Number::HUP, false)),
    ("INT", (Number::INT, true)),
    ("QUIT", (Number::QUIT, true)),
    ("ABRT", (Number::ABORT, true)),
    ("KILL", (Number::KILL, true)),
    ("USR1", (Number::USR1, false)),
    ("USR2", (Number::USR2, false)),
    ("CONT", (Number::CONT, false)),
    ("STOP", (Number::STOP, false)),
    ("WINCH", (Number::WINCH, false)),
];

/// A signal and whom it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    number: Number,
    /// Its process is to end.
    ends: bool,
    target: Target,
}

impl Signal {
    fn word(&self) -> &'static str {
        SIGNALS.iter().find(|(_, (number, _))| *number == self.number).map_or("?", |(word, _)| word)
    }

    /// The process that the order was about is another than the one that is there now.
    async fn has_ended_before(&self, order: &Order, now: Option<Identity>, until: Instant) -> Option<Identity> {
        let before = order.evidence.as_deref().filter(|_| self.ends).and_then(Identity::parse)??;
        (now != Some(before) && !before.still_lives(until).await).then_some(before)
    }

    /// Waits for the end of a process that was told.
    async fn end(&self, held: Held, until: Instant, order: &Order) -> Answer {
        let Held { identity, name, .. } = held;
        let (pid, word) = (identity.pid, self.word());
        while identity.still_lives(until).await {
            if Instant::now() >= until {
                let limit = order.timeout;
                let detail = format!("process {pid} ({name}) has not ended {limit:?} after {word}; it is left");
                return Answer::new(Ending::Timeout, detail);
            }
            tokio::time::sleep_until(until.min(Instant::now() + PAUSE)).await;
        }
        Answer {
            changed: format!("process {pid} ({name}) ended"),
            ..Answer::new(Ending::Ok, format!("{word} was sent to process {pid} ({name}), which ended"))
        }
    }
}

#[async_trait]
impl Actuator for Signal {
    fn means(&self) -> Means {
        Means::Signal
    }

    fn takes_evidence(&self) -> bool {
        self.ends
    }

    async fn evidence(&self, _order: &Order) -> Option<String> {
        find(&self.target).await.ok().map(|held| held.identity.to_text())
    }

    async fn apply(&self, order: &Order) -> Answer {
        let until = Instant::now() + order.timeout;
        let found = match timeout_at(until, find(&self.target)).await {
            Ok(found) => found,
            Err(_) => Err(format!("{} was not found within {:?}", self.target, order.timeout)),
        };
        let now = found.as_ref().ok().map(|held| held.identity);
        if let Some(before) = self.has_ended_before(order, now, until).await {
            let changed = format!("process {} ended", before.pid);
            let detail = format!("process {} ended before {} was sent; no other is signalled", before.pid, self.word());
            return Answer { changed, ..Answer::new(Ending::Ok, detail) };
        }
        let held = match found {
            Ok(held) => held,
            Err(why) => return Answer::new(Ending::NotStarted, format!("no signal was sent: {why}")),
        };
        let (pid, name, word) = (held.identity.pid, held.name.clone(), self.word());
        match pidfd_send_signal(&held.fd, self.number) {
            Ok(()) if self.ends => self.end(held, until, order).await,
            Ok(()) => Answer {
                changed: format!("process {pid} ({name}) was sent {word}"),
                ..Answer::new(Ending::Ok, format!("{word} was sent to process {pid} ({name})"))
            },
            Err(Errno::SRCH) if self.ends => Answer {
                changed: format!("process {pid} ({name}) ended"),
                ..Answer::new(Ending::Ok, format!("process {pid} ({name}) ended before {word} was sent"))
            },
            Err(Errno::SRCH) => {
                Answer::new(Ending::NotStarted, format!("process {pid} ({name}) ended before {word} was sent"))
            }
            Err(error) => {
                Answer::new(Ending::NotStarted, format!("{word} cannot be sent to process {pid} ({name}): {error}"))
            }
        }
    }

    async fn probe(&self, order: &Order) -> ProbeAnswer {
        if !self.ends {
            return ProbeAnswer::Unknown;
        }
        let Some(before) = order.evidence.as_deref().and_then(Identity::parse) else { return ProbeAnswer::AskCheck };
        let until = Instant::now() + ENDING.min(order.timeout);
        // It may have been told, and be on its way out.
        let Some(before) = before else { return ProbeAnswer::Happened };
        while before.still_lives(until).await {
            if Instant::now() >= until {
                return ProbeAnswer::DidNotHappen;
            }
            tokio::time::sleep(PAUSE).await;
        }
        ProbeAnswer::Happened
    }

    async fn preflight(&self) -> Vec<String> {
        let held = match find(&self.target).await {
            Ok(held) => held,
            Err(why) => return vec![format!("no process could be signalled now: {why}")],
        };
        let allowed = Pid::from_raw(held.identity.pid).map_or(Err(Errno::SRCH), test_kill_process);
        let Err(error) = allowed else { return Vec::new() };
        vec![format!("process {} ({}) may not be signalled: {error}", held.identity.pid, held.name)]
    }

    fn describe(&self) -> String {
        let end = if self.ends { " and wait for its end" } else { "" };
        format!("send {} to {}{end}", self.word(), self.target)
    }
}

fn build(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    if !section.has("signal") {
        section.reject("signal", "missing, expected the name of a signal such as TERM", None);
    }
    let signal = section.word("signal", &SIGNALS);
    let has_expect = section.has("expect");
    let expect = section.word("expect", &[("exit", true), ("none", false)]);
    let target = target(section, context);
    if context.probe.is_some() {
        section.reject("probe", "expected no probe beside `signal`: the process itself is looked for", None);
        return None;
    }
    let (number, ends) = signal?;
    let ends = if has_expect { expect? } else { ends };
    Some(Arc::new(Signal { number, ends, target: target? }))
}

fn target(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Target> {
    let has = ["pidfile", "process", "unit"].map(|key| section.has(key));
    let is_one = matches!(has, [true, _, false] | [false, true, false] | [false, false, true]);
    if !is_one {
        section.reject("pidfile", "expected exactly one of `pidfile`, `process` and `unit`", None);
    }
    let pidfile = section.opt::<Text>("pidfile").map(|path| path.0);
    if pidfile.as_ref().is_some_and(|path| path.is_empty() || path.contains('\0')) {
        section.reject("pidfile", "expected the path of a file", None);
        return None;
    }
    let path = pidfile.map(|path| context.workspace.join(path));
    let process = section.section("process").and_then(|mut inner| {
        let name = inner.req::<Text>("name").map(|name| name.0);
        let cmdline = inner.opt::<Text>("cmdline").map(|text| text.0);
        if name.as_ref().is_some_and(|name| name.is_empty() || name.contains('/')) {
            inner.reject("name", "expected a name without `/`", None);
        }
        if cmdline.as_ref().is_some_and(String::is_empty) {
            inner.reject("cmdline", "expected a text of at least one character", None);
        }
        inner.finish();
        Some(Named { name: name?, cmdline })
    });
    let unit = section.section("unit").and_then(|mut inner| {
        let name = inner.req::<UnitName>("name");
        let bus = bus(&mut inner);
        inner.finish();
        Some(Target::Unit { name: name?.0, bus: bus? })
    });
    let target = match (path, process) {
        // A mistake in `process` is told already, and must not widen what is meant.
        (Some(_), None) if has[1] => None,
        (Some(path), named) => Some(Target::Pidfile { path, named }),
        (None, Some(named)) => Some(Target::Process(named)),
        (None, None) => unit,
    };
    target.filter(|_| is_one)
}

#[cfg(test)]
mod tests;
