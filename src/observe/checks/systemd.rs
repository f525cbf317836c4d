//! `systemd`: does a unit run, and does it stay up?

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::clients::named::{BusName, UnitName};
use crate::clients::systemd::{Bus, Client, Error, Unit};
use crate::model::{Perfdata, Status};
use crate::observe::age::Missing;
use crate::observe::params;
use crate::observe::probes::restarts::Restarts;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Systemd::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
The manager of systemd, over D-Bus: the state of a unit, since when, how its last run ended, its main process, and how
often systemd itself has started it anew of late. Each reading has a connection of its own, which nothing else waits for.

# Why it matters
A service that is started anew again and again runs whenever somebody looks; only its count of restarts tells.

# Failure reasons
- `critical`: the unit is in another state than `expect` allows; its last run failed; it waits to be started anew after a
  failure; systemd has started it anew more than `max_restarts` times within `restart_window`, since somebody else
  started it; it is masked, or its file cannot be loaded.
- `degraded`: it is about to start or to stop; with `expect: success`, it was last not started because a condition of its
  file was not met.
- `unknown`: with `expect: success`, systemd knows of no run of it yet: its timer may be off, or has not come to it.
- as `missing` says: systemd knows no such unit.
- `unknown`, and not run: the bus or systemd does not answer within `timeout`, or does not permit it.

# Parameters
- `unit`: the full name, such as `router.service`.
- `bus` (`system`): `system`, `user`, or an address such as `unix:path=/run/user/1000/bus`.
- `expect` (`active`): `active`; `success` for what does its work and rests, as a oneshot or what a timer starts: at work
  or at rest, but the last run must have succeeded; `inactive` for what must not run.
- `max_restarts` (3), `restart_window` (10m): more restarts by systemd within this time are critical.
- `missing` (`critical`): `unknown`, `degraded` or `critical`.
- `timeout` (5s): for all of a reading.
";

/// Which state is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It runs.
    Active,
    /// It works or rests, and has not failed.
    Success,
    /// It does not run.
    Inactive,
}

/// The state of one unit.
#[derive(Debug)]
pub struct Systemd {
    unit: String,
    bus: Bus,
    expect: Expect,
    max_restarts: u64,
    window: Duration,
    missing: Missing,
    timeout: Duration,
    restarts: Restarts,
    clock: Clock,
}

/// What systemd tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    unit: Unit,
    /// Restarts within the window.
    restarts: u64,
}

impl Systemd {
    async fn ask(&self) -> Result<Unit, Error> {
        Client::connect(&self.bus).await?.unit(&self.unit).await
    }

    fn absent(&self, status: Status, why: &str) -> Judgement {
        Judgement::new(status).with("error", format!("unit `{}` on {}: {why}", self.unit, self.bus.shown()))
    }

    /// The grade of a unit that is loaded, and what is wrong.
    fn grade(&self, unit: &Unit) -> (Status, String) {
        let shown = format!("`{}` is {} ({})", self.unit, unit.active, unit.sub);
        let failed = !matches!(unit.result.as_str(), "" | "success");
        let ended = match (failed, unit.exit_status) {
            (false, _) => String::new(),
            (true, 0) => format!(", its last run ended with {}", unit.result),
            (true, status) => format!(", its last run ended with {} ({status})", unit.result),
        };
        let wrong = |expected: &str| (Status::Critical, format!("{shown}{ended}, expected {expected}"));
        let right = (Status::Healthy, String::new());
        match (unit.active.as_str(), self.expect) {
            ("failed", Expect::Inactive) => right,
            ("failed", _) => (Status::Critical, format!("{shown}{ended}")),
            // `auto-restart-queued` from version 254 on.
            ("activating", Expect::Active | Expect::Success) if unit.sub.starts_with("auto-restart") => {
                (Status::Critical, format!("`{}` has ended and waits to be started anew{ended}", self.unit))
            }
            ("active" | "reloading" | "refreshing", Expect::Active | Expect::Success) => right,
            ("activating" | "deactivating", Expect::Success) => right,
            ("inactive", Expect::Success) if failed => wrong("success"),
            ("inactive", Expect::Success) if unit.is_unmet => {
                let told = format!("`{}` was last not started: a condition of its file was not met", self.unit);
                (Status::Degraded, told)
            }
            ("inactive", Expect::Success) if unit.invocation.is_empty() && unit.since == 0 => {
                (Status::Unknown, format!("`{}` has not run yet, as far as systemd knows: what starts it?", self.unit))
            }
            ("inactive", Expect::Success | Expect::Inactive) => right,
            ("deactivating", Expect::Inactive) | ("activating" | "deactivating", Expect::Active) => {
                (Status::Degraded, shown)
            }
            ("inactive", Expect::Active) if unit.is_unmet => wrong("active: a condition of its file was not met"),
            ("inactive", Expect::Active) => wrong("active"),
            (_, Expect::Inactive) => wrong("inactive"),
            _ => wrong("active"),
        }
    }
}

impl Check for Systemd {
    type Reading = Result<Told, Error>;
    const KIND: &'static str = "systemd";

    async fn read(&self) -> Self::Reading {
        let late = || Error { reason: "timeout", detail: format!("no answer within {:?}", self.timeout) };
        let unit = timeout(self.timeout, self.ask()).await.unwrap_or_else(|_| Err(late()))?;
        // With a start in the queue the count may have risen before the next run begins.
        let is_settled = unit.job.is_none() && unit.sub != "auto-restart-queued";
        let run = is_settled.then_some(unit.invocation.as_str());
        let restarts = self.restarts.within("", u64::from(unit.restarts), run, self.clock.since_boot(), self.window);
        Ok(Told { unit, restarts })
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let Told { unit, restarts } = match reading {
            Ok(told) => told,
            Err(error) if error.reason == "missing" => return self.absent(self.missing.status(), &error.detail),
            Err(error) if error.reason == "masked" => return self.absent(Status::Critical, "it is masked"),
            Err(error) => {
                let told = format!("systemd on {}, asked about `{}`: {error}", self.bus.shown(), self.unit);
                return Judgement::unrunnable(told);
            }
        };
        match unit.load.as_str() {
            "loaded" => {}
            "not-found" => return self.absent(self.missing.status(), "there is no such unit"),
            // One that runs while its file is masked or broken is lost with its next start.
            "masked" => return self.absent(Status::Critical, "it is masked"),
            other => {
                let why = format!("its file cannot be loaded: {other}, {}", unit.load_error);
                return self.absent(Status::Critical, &why);
            }
        }
        let (mut status, mut problem) = self.grade(unit);
        if *restarts > self.max_restarts && self.expect != Expect::Inactive {
            status = Status::Critical;
            let began = if problem.is_empty() { String::new() } else { format!("{problem}; ") };
            problem = format!(
                "{began}started anew {restarts} times within {:?}, expected at most {}",
                self.window, self.max_restarts
            );
        }
        let mut judgement = Judgement::new(status).with("active", unit.active.as_str()).with("sub", unit.sub.as_str());
        match status {
            Status::Healthy => {}
            Status::Degraded | Status::Unknown => judgement = judgement.with("warning", problem),
            _ => judgement = judgement.with("error", problem),
        }
        if unit.since > 0 {
            let since = Timestamp::from_millis(i64::try_from(unit.since / 1000).unwrap_or(i64::MAX));
            judgement = judgement.with("since", since.rfc3339());
        }
        if !unit.result.is_empty() {
            judgement = judgement
                .with("result", unit.result.as_str())
                .with("exit_status", unit.exit_status)
                .with("restarts", *restarts)
                .with("restarts_total", unit.restarts);
            judgement.perfdata.push(number("restarts", f64::from(unit.restarts), "total"));
        }
        if unit.main_pid > 0 {
            judgement = judgement.with("pid", unit.main_pid);
        }
        #[expect(clippy::cast_precision_loss, reason = "exporters speak in floats")]
        for (label, value, unit) in [("memory", unit.memory, "bytes"), ("tasks", unit.tasks, "")] {
            if let Some(value) = value {
                judgement = judgement.with(if unit.is_empty() { label } else { "memory_bytes" }, value);
                judgement.perfdata.push(number(label, value as f64, unit));
            }
        }
        judgement
    }
}

fn number(label: &str, value: f64, unit: &str) -> Perfdata {
    Perfdata { label: label.into(), value, unit: unit.to_owned() }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    const EXPECT: [(&str, Expect); 3] =
        [("active", Expect::Active), ("success", Expect::Success), ("inactive", Expect::Inactive)];
    let unit = section.req::<UnitName>("unit");
    let bus = if section.has("bus") { section.opt::<BusName>("bus").map(|bus| bus.0) } else { Some(Bus::System) };
    let expect = section.word("expect", &EXPECT).unwrap_or(Expect::Active);
    let max_restarts = params::whole(section, "max_restarts").unwrap_or(3);
    let window = params::span(section, "restart_window").unwrap_or(Duration::from_secs(600));
    let missing = if section.has("missing") { params::missing(section) } else { Missing::Critical };
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    Some(Arc::new(Systemd {
        unit: unit?.0,
        bus: bus?,
        expect,
        max_restarts,
        window,
        missing,
        timeout,
        restarts: Restarts::default(),
        clock: context.clock.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::checks::testing::NOW;

    fn check(expect: Expect) -> Systemd {
        Systemd {
            unit: "router.service".to_owned(),
            bus: Bus::User,
            expect,
            max_restarts: 3,
            window: Duration::from_secs(600),
            missing: Missing::Critical,
            timeout: Duration::from_secs(5),
            restarts: Restarts::default(),
            clock: Clock::manual(NOW),
        }
    }

    fn unit(active: &str, sub: &str, result: &str) -> Unit {
        let text = |text: &str| text.to_owned();
        let (load, invocation) = (text("loaded"), text("8b34"));
        Unit { load, active: text(active), sub: text(sub), result: text(result), invocation, ..Unit::default() }
    }

    /// OBS-7: what never ran, and what was not let run, is not taken for what ran well.
    #[test]
    fn what_has_not_run_is_not_healthy() {
        use Status::{Critical as C, Degraded as D, Healthy as H, Unknown as U};
        for (invocation, since, is_unmet, [on, success, off], words) in [
            ("", 0, false, [C, U, H], "has not run yet"),
            ("8b34", 0, false, [C, H, H], ""),
            ("", 1, false, [C, H, H], ""),
            ("", 0, true, [C, D, H], "a condition of its file was not met"),
            ("8b34", 1, true, [C, D, H], "a condition of its file was not met"),
        ] {
            for (expect, status) in [(Expect::Active, on), (Expect::Success, success), (Expect::Inactive, off)] {
                let unit =
                    Unit { invocation: invocation.to_owned(), since, is_unmet, ..unit("inactive", "dead", "success") };
                let judgement = Check::judge(&check(expect), &Ok(Told { unit, restarts: 0 }), NOW);
                assert_eq!((judgement.status, judgement.unrunnable), (status, false), "{expect:?} {judgement:?}");
                let told = judgement.details.get("warning").map_or("", |text| text.as_str().unwrap());
                assert_eq!(told.is_empty(), !matches!(status, D | U), "{judgement:?}");
                assert!(expect != Expect::Success || told.contains(words), "{judgement:?}");
            }
        }
    }

    /// OBS-7: every state of systemd under every expectation.
    #[test]
    fn every_state_under_every_expectation() {
        use Status::{Critical as C, Degraded as D, Healthy as H};
        for (active, sub, result, [on, success, off]) in [
            ("active", "running", "success", [H, H, C]),
            ("active", "exited", "success", [H, H, C]),
            ("reloading", "reload", "success", [H, H, C]),
            ("activating", "start", "success", [D, H, C]),
            ("activating", "auto-restart", "exit-code", [C, C, C]),
            ("activating", "auto-restart-queued", "exit-code", [C, C, C]),
            ("deactivating", "stop-sigterm", "success", [D, H, D]),
            ("inactive", "dead", "success", [C, H, H]),
            ("inactive", "dead", "exit-code", [C, C, H]),
            ("inactive", "dead", "", [C, H, H]),
            ("failed", "failed", "exit-code", [C, C, H]),
            ("maintenance", "", "", [C, C, C]),
        ] {
            for (expect, status) in [(Expect::Active, on), (Expect::Success, success), (Expect::Inactive, off)] {
                let told = Told { unit: unit(active, sub, result), restarts: 0 };
                let judgement = Check::judge(&check(expect), &Ok(told), NOW);
                assert_eq!(judgement.status, status, "{active} {sub} {result} {expect:?}");
                assert_eq!(judgement.details.contains_key("error"), status == C, "{judgement:?}");
                assert_eq!(judgement.details.contains_key("warning"), status == D, "{judgement:?}");
            }
        }
    }

    /// OBS-7, OBS-1: restarts on both sides of the limit; no such unit, no systemd.
    #[test]
    fn restarts_absence_and_silence() {
        for (restarts, status) in [(3, Status::Healthy), (4, Status::Critical)] {
            let told = Told { unit: unit("active", "running", "success"), restarts };
            assert_eq!(Check::judge(&check(Expect::Active), &Ok(told), NOW).status, status);
        }
        let told = |load: &str| {
            let unit = Unit { load: load.to_owned(), ..unit("inactive", "dead", "success") };
            Check::judge(&check(Expect::Active), &Ok(Told { unit, restarts: 0 }), NOW)
        };
        for load in ["not-found", "masked", "bad-setting"] {
            assert_eq!((told(load).status, told(load).unrunnable), (Status::Critical, false), "{load}");
        }
        for reason in Error::REASONS {
            let error = Error { reason, detail: "why".to_owned() };
            let judgement = Check::judge(&check(Expect::Active), &Err(error), NOW);
            let is_finding = matches!(reason, "missing" | "masked");
            assert_eq!(judgement.unrunnable, !is_finding, "{reason}");
            assert!(judgement.details["error"].as_str().unwrap().contains("`router.service`"), "{judgement:?}");
        }
    }
}
