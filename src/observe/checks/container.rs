//! `container`: does a container run, and does its own health check pass?

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::base::request::{self, Reach};
use crate::clients::docker::{self, Engine, Error};
use crate::clients::named::{SOCKET, is_address, is_container};
use crate::model::{Perfdata, Status};
use crate::observe::age::Missing;
use crate::observe::params;
use crate::observe::probes::restarts::Restarts;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Container::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
The Docker Engine's API, as Docker and podman serve it: the state of a container, what its own health check says, how it
ended, and how often the engine itself has started it anew of late. Nothing is changed.

# Why it matters
A container that is up may be held still, be restarted again and again, or fail its own health check.

# Failure reasons
- `critical`: it does not run, is paused, is being restarted, or was ended for want of memory; its health check says
  `unhealthy`; the engine has started it anew more than `max_restarts` times within `restart_window`;
  a start by somebody else begins a new count.
- `degraded`: its health check says `starting`.
- as `missing` says: the engine knows no such container.
- `unknown`, and not run: the engine does not answer within `timeout`, or refuses.

# Parameters
- `name`: the container's name.
- `socket` (`unix:///var/run/docker.sock`): `unix:///PATH`, or `tcp://HOST:PORT` with
  `tls: {ca_file, cert_file, key_file}`. Whoever may use it is root on the engine's machine: a proxy that lets nothing but
  `GET /containers/NAME/json` pass is enough here.
- `expect` (`running`): `running`; `success` for what does its work and ends: at work, or ended with exit code 0.
- `max_restarts` (3), `restart_window` (10m): more restarts by the engine within this time are critical.
- `missing` (`critical`): `unknown`, `degraded` or `critical`.
- `timeout` (5s): for the answer.
";

/// Which state is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It runs.
    Running,
    /// It runs, or has ended with exit code 0.
    Success,
}

/// The state of one container.
#[derive(Debug)]
pub struct Container {
    name: String,
    /// As the settings have it.
    socket: String,
    engine: Engine,
    expect: Expect,
    max_restarts: u64,
    window: Duration,
    missing: Missing,
    timeout: Duration,
    restarts: Restarts,
    clock: Clock,
}

/// What the engine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    container: docker::Container,
    /// Restarts within the window.
    restarts: u64,
}

impl Container {
    /// The grade, and what is wrong.
    fn grade(&self, found: &docker::Container) -> (Status, String) {
        let name = &self.name;
        let critical = |what: String| (Status::Critical, what);
        let memory = if found.oom_killed { ", for want of memory" } else { "" };
        let why = if found.error.is_empty() { String::new() } else { format!(": {}", found.error) };
        let ended = format!("`{name}` is {}, exit code {}{memory}{why}", found.status, found.exit_code);
        if found.restarting {
            return critical(format!(
                "`{name}` has ended and waits to be started anew: exit code {}{memory}",
                found.exit_code
            ));
        }
        if found.paused {
            return critical(format!("`{name}` is paused"));
        }
        if !found.running {
            let has_ended = matches!(found.status.as_str(), "exited" | "stopped");
            let is_done = has_ended && found.exit_code == 0 && !found.oom_killed && found.error.is_empty();
            return match self.expect {
                Expect::Success if is_done => (Status::Healthy, String::new()),
                _ => critical(ended),
            };
        }
        match &found.checked {
            Some(checked) if checked.status == "unhealthy" => {
                let said = if checked.output.is_empty() { String::new() } else { format!(": {}", checked.output) };
                critical(format!("the health check of `{name}` has failed {} times in a row{said}", checked.failing))
            }
            Some(checked) if checked.status != "healthy" => {
                (Status::Degraded, format!("the health check of `{name}` says {}", checked.status))
            }
            _ => (Status::Healthy, String::new()),
        }
    }
}

impl Check for Container {
    type Reading = Result<Told, Error>;
    const KIND: &'static str = "container";

    async fn read(&self) -> Self::Reading {
        let container = self.engine.inspect(&self.name, self.timeout).await?;
        let count = container.restart_count;
        // A container made anew counts from the beginning.
        let run = container.running.then_some(container.started_at.as_str());
        let restarts = self.restarts.within(&container.id, count, run, self.clock.since_boot(), self.window);
        Ok(Told { container, restarts })
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let Self { name, socket, .. } = self;
        let Told { container, restarts } = match reading {
            Ok(told) => told,
            Err(error) if error.reason == "not_found" => {
                let error = format!("no such container `{name}` at {socket}");
                return Judgement::new(self.missing.status()).with("error", error);
            }
            Err(error) if error.reason == "unreachable" => {
                return Judgement::unrunnable(format!("the engine at {socket} cannot be reached: {error}"));
            }
            Err(error) => {
                return Judgement::unrunnable(format!("the engine at {socket}, asked about `{name}`: {error}"));
            }
        };
        let (mut status, mut problem) = self.grade(container);
        if *restarts > self.max_restarts {
            status = Status::Critical;
            let began = if problem.is_empty() { String::new() } else { format!("{problem}; ") };
            problem = format!(
                "{began}started anew {restarts} times within {:?}, expected at most {}",
                self.window, self.max_restarts
            );
        }
        let mut judgement = Judgement::new(status)
            .with("state", container.status.as_str())
            .with("id", container.id.chars().take(12).collect::<String>())
            .with("started_at", container.started_at.as_str())
            .with("restarts", *restarts)
            .with("restarts_total", container.restart_count);
        match status {
            Status::Healthy => {}
            Status::Degraded => judgement = judgement.with("warning", problem),
            _ => judgement = judgement.with("error", problem),
        }
        if container.running {
            judgement = judgement.with("pid", container.pid);
        } else {
            judgement = judgement.with("exit_code", container.exit_code).with("oom_killed", container.oom_killed);
        }
        if let Some(checked) = &container.checked {
            judgement = judgement.with("health_check", checked.status.as_str());
        }
        #[expect(clippy::cast_precision_loss, reason = "exporters speak in floats")]
        let value = container.restart_count as f64;
        judgement.perfdata.push(Perfdata { label: "restarts".into(), value, unit: "total".to_owned() });
        judgement
    }
}

/// `tls`: whom to believe, and chiron's own certificate.
fn tls(section: &mut Section<'_>, context: &BuildContext) -> Reach {
    let mut file = |key: &'static str| params::secret_path(section, key, context);
    let (ca_file, certificate, key) = (file("ca_file"), file("cert_file"), file("key_file"));
    let exists = |path: &PathBuf| crate::base::files::stat(path).is_ok();
    if ca_file.as_ref().is_some_and(|path| exists(path) && request::certificates(path).is_err()) {
        section.reject("ca_file", "expected a file with certificates in PEM", None);
    }
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.reject("key_file", "missing, expected the key of `cert_file`", None);
            None
        }
        (None, Some(_)) => {
            section.reject("cert_file", "missing, expected the certificate of `key_file`", None);
            None
        }
    };
    Reach { ca_file, identity, ..Reach::default() }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    const EXPECT: [(&str, Expect); 2] = [("running", Expect::Running), ("success", Expect::Success)];
    let name = params::required_text(section, "name");
    if name.as_deref().is_some_and(|name| !is_container(name)) {
        let rule = "expected the name of a container: letters, digits, `_`, `.` and `-`, the first a letter or digit";
        section.reject("name", rule, None);
    }
    let socket = params::text(section, "socket").unwrap_or_else(|| SOCKET.to_owned());
    let reach = section.section("tls").map(|mut section| {
        let reach = tls(&mut section, context);
        section.finish();
        reach
    });
    let engine = match (socket.strip_prefix("unix://"), socket.strip_prefix("tcp://")) {
        (Some(path), _) if path.starts_with('/') && !path.contains('\0') => {
            if reach.is_some() {
                section.reject("tls", "expected only with a socket `tcp://HOST:PORT`", None);
            }
            Some(Engine::unix(path.into()))
        }
        (_, Some(address)) if is_address(address) => Some(Engine::tcp(address, reach)),
        _ => {
            section.reject("socket", "expected unix:///PATH or tcp://HOST:PORT", None);
            None
        }
    };
    let expect = section.word("expect", &EXPECT).unwrap_or(Expect::Running);
    let max_restarts = params::whole(section, "max_restarts").unwrap_or(3);
    let window = params::span(section, "restart_window").unwrap_or(Duration::from_secs(600));
    let missing = if section.has("missing") { params::missing(section) } else { Missing::Critical };
    let timeout = params::span(section, "timeout").unwrap_or(Duration::from_secs(5));
    Some(Arc::new(Container {
        name: name?,
        socket,
        engine: engine?,
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
    use crate::clients::docker::Checked;
    use crate::observe::checks::testing::NOW;

    fn check(expect: Expect) -> Container {
        Container {
            name: "bot".to_owned(),
            socket: SOCKET.to_owned(),
            engine: Engine::unix("/nowhere".into()),
            expect,
            max_restarts: 3,
            window: Duration::from_secs(600),
            missing: Missing::Critical,
            timeout: Duration::from_secs(5),
            restarts: Restarts::default(),
            clock: Clock::manual(NOW),
        }
    }

    fn found(status: &str, exit_code: i64) -> docker::Container {
        docker::Container {
            id: "0123456789abcdef".to_owned(),
            status: status.to_owned(),
            running: matches!(status, "running" | "paused"),
            pid: 7,
            exit_code,
            started_at: String::new(),
            restart_count: 0,
            paused: status == "paused",
            restarting: status == "restarting",
            oom_killed: false,
            error: String::new(),
            checked: None,
        }
    }

    fn judged(expect: Expect, container: docker::Container, restarts: u64) -> Judgement {
        Check::judge(&check(expect), &Ok(Told { container, restarts }), NOW)
    }

    /// OBS-7: every state of a container, and what its health check says.
    #[test]
    fn every_state() {
        use Status::{Critical as C, Healthy as H};
        for (status, exit_code, running, success) in [
            ("running", 0, H, H),
            ("paused", 0, C, C),
            ("restarting", 1, C, C),
            ("exited", 0, C, H),
            ("exited", 137, C, C),
            ("created", 0, C, C),
            ("dead", 0, C, C),
            ("removing", 0, C, C),
        ] {
            let judged = |expect| judged(expect, found(status, exit_code), 0).status;
            assert_eq!((judged(Expect::Running), judged(Expect::Success)), (running, success), "{status} {exit_code}");
        }
        let killed = docker::Container { oom_killed: true, ..found("exited", 0) };
        let judgement = judged(Expect::Success, killed, 0);
        assert!(judgement.details["error"].as_str().unwrap().contains("for want of memory"), "{judgement:?}");
        for (says, status) in [("healthy", H), ("starting", Status::Degraded), ("unhealthy", C)] {
            let checked = Some(Checked { status: says.to_owned(), failing: 4, output: "no feed".to_owned() });
            let judgement = judged(Expect::Running, docker::Container { checked, ..found("running", 0) }, 0);
            assert_eq!((judgement.status, &judgement.details["health_check"]), (status, &says.into()));
        }
    }

    /// OBS-7, OBS-1: restarts on both sides of the limit; no such container, no engine.
    #[test]
    fn restarts_absence_and_silence() {
        for (restarts, status) in [(3, Status::Healthy), (4, Status::Critical)] {
            assert_eq!(judged(Expect::Running, found("running", 0), restarts).status, status);
        }
        for reason in Error::REASONS {
            let error = Error { reason, detail: "why".to_owned() };
            let judgement = Check::judge(&check(Expect::Running), &Err(error), NOW);
            assert_eq!(judgement.unrunnable, reason != "not_found", "{reason}");
            assert_eq!(judgement.status == Status::Critical, reason == "not_found", "{reason}");
        }
    }
}
