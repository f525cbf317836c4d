//! What is compared, told and refused.

use super::*;
use crate::base::tree::{Problems, parse};
use crate::model::Class;

fn built(text: &str) -> (Option<Arc<dyn Actuator>>, Vec<String>, usize) {
    let problems = Problems::new("");
    let node = parse(text, &problems).unwrap_or_else(|| panic!("{text}"));
    let mut section = Section::open(&node, "container", &problems).unwrap();
    let context = ActuatorContext {
        environment: crate::execute::Environment::default(),
        workspace: "/w".into(),
        probe: None,
        folder: "/nowhere".into(),
        class: Class::Probeable,
        warnings: Default::default(),
    };
    let actuator = build(&mut section, &context);
    section.finish();
    (actuator, problems.into_vec().iter().map(ToString::to_string).collect(), context.warnings.take().len())
}

/// ACT-2: what cannot work is refused when the settings load.
#[test]
fn mistakes_are_told() {
    let table = [
        ("{}", "container.name: missing, expected a text"),
        ("name: a/b", "expected the name of a container"),
        ("name: ../x", "expected the name of a container"),
        ("{name: a, operation: pause}", "expected one of `restart`, `start`, `stop`, `kill`"),
        ("{name: a, operation: start, stop_timeout: 1s}", "expected only with `operation: restart` or `stop`"),
        ("{name: a, stop_timeout: 2h}", "expected at most 1h"),
        ("{name: a, signal: SIGHUP}", "expected only with `operation: kill`"),
        ("{name: a, operation: kill, signal: \"SIGHUP&x\"}", "expected the name of a signal such as SIGHUP"),
        ("{name: a, socket: /var/run/docker.sock}", "expected unix:///PATH or tcp://HOST:PORT"),
        ("{name: a, socket: \"tcp://host\"}", "expected unix:///PATH or tcp://HOST:PORT"),
        ("{name: a, socket: \"tcp://u@host:1/x\"}", "expected unix:///PATH or tcp://HOST:PORT"),
        ("{name: a, tls: {ca_file: x}}", "expected only with a socket `tcp://HOST:PORT`"),
        ("{name: a, socket: \"tcp://h:1\", tls: {cert_file: x}}", "key_file: missing, expected the key of `cert_file`"),
        ("{name: a, socket: \"tcp://h:1\", tls: {insecure_skip_verify: true}}", "insecure_skip_verify: unknown key"),
    ];
    for (text, told) in table {
        let (_, problems, _) = built(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].contains(told), "{text}: {problems:?}");
    }
}

#[test]
fn it_is_described() {
    let table = [
        ("name: bot", "restart container `bot` at unix:///var/run/docker.sock", 0),
        (
            "{name: bot, operation: kill, signal: SIGHUP, socket: \"unix:///x\"}",
            "send SIGHUP to container `bot` at unix:///x",
            0,
        ),
        ("{name: bot, operation: stop, socket: \"tcp://h:2375\"}", "stop container `bot` at tcp://h:2375", 1),
        ("{name: bot, socket: \"tcp://h:2376\", tls: {}}", "restart container `bot` at tcp://h:2376", 0),
    ];
    for (text, described, doubts) in table {
        let (actuator, problems, warnings) = built(text);
        let actuator = actuator.unwrap_or_else(|| panic!("{problems:?}"));
        assert_eq!((actuator.describe().as_str(), warnings), (described, doubts), "{text}");
        assert!(actuator.takes_evidence() && actuator.means() == Means::Container);
    }
}

fn seen(id: &str, started_at: &str, pid: u64) -> docker::Container {
    docker::Container {
        id: id.to_owned(),
        status: if pid > 0 { "running" } else { "exited" }.to_owned(),
        running: pid > 0,
        pid,
        started_at: started_at.to_owned(),
        ..docker::Container::default()
    }
}

/// ACT-3: what a probe concludes at a look, and what when the engine must be through.
#[test]
fn a_probe_compares() {
    use Operation::{Kill, Restart, Start, Stop};
    use ProbeAnswer::{DidNotHappen, Happened, Unknown};
    let (running, stopped) = (seen("a", "1", 10), seen("a", "1", 0));
    let (anew, anew_over) = (seen("a", "2", 11), seen("a", "2", 0));
    let other = seen("b", "2", 11);
    let table = [
        (Restart, true, &running, &anew, Some(Happened), None),
        (Restart, true, &running, &running, None, Some(DidNotHappen)),
        (Restart, true, &running, &stopped, None, Some(Unknown)),
        (Restart, true, &stopped, &stopped, None, Some(DidNotHappen)),
        (Restart, true, &running, &anew_over, Some(Unknown), None),
        (Restart, true, &running, &other, Some(Unknown), None),
        (Start, true, &stopped, &anew, Some(Happened), None),
        (Start, true, &stopped, &anew_over, Some(Happened), None),
        (Start, true, &stopped, &stopped, None, Some(DidNotHappen)),
        (Stop, true, &running, &stopped, Some(Happened), None),
        (Stop, true, &running, &running, None, Some(DidNotHappen)),
        (Stop, true, &running, &anew, Some(Unknown), None),
        (Kill, true, &running, &stopped, Some(Happened), None),
        (Kill, true, &running, &anew, Some(Happened), None),
        (Kill, true, &running, &running, None, Some(DidNotHappen)),
        (Kill, false, &running, &running, Some(Unknown), None),
        (Kill, false, &running, &other, Some(Unknown), None),
    ];
    for (operation, deadly, before, now, at_once, at_last) in table {
        let (before, now) = (Evidence::from(before.clone()), Evidence::from(now.clone()));
        let what = format!("{operation:?} {before:?} {now:?}");
        assert_eq!(compared(operation, deadly, &before, &now), at_once, "{what}");
        if let Some(at_last) = at_last {
            assert_eq!(unchanged(operation, &before, &now), at_last, "{what}");
        }
    }
}

/// ACT-4: the engine's word alone is no success.
#[test]
fn the_container_is_believed_not_the_engine() {
    let container = Container {
        name: "bot".to_owned(),
        operation: Operation::Restart,
        socket: SOCKET.to_owned(),
        engine: Engine::unix("/x".into()),
        stop_timeout: Duration::from_secs(1),
        signal: "SIGKILL".to_owned(),
    };
    let with = |operation| Container { operation, ..container.clone() };
    let first = "2026-11-22T17:05:08.851958442Z";
    let (running, stopped) = (seen("a", first, 10), seen("a", first, 0));
    let anew = seen("a", "2026-11-22T17:05:12.268698998Z", 11);
    let ok = with(Operation::Restart).judge(Done::Changed, &running, &anew);
    assert_eq!((ok.ending, ok.detail.as_str()), (Ending::Ok, "`bot` restarted"));
    assert_eq!(ok.changed, "started 2026-11-22T17:05:08.851Z -> 2026-11-22T17:05:12.268Z, process 10 -> 11, running");
    let table = [
        (Operation::Restart, &running, &running, "but it was last started at 2026-11-22T17:05:08.851Z, as before"),
        (Operation::Start, &stopped, &stopped, "but it is exited now, exit code 0"),
        (Operation::Stop, &running, &running, "but it still runs"),
        (Operation::Restart, &running, &seen("b", "3", 12), "but it was made anew under the same name meanwhile"),
    ];
    for (operation, before, after, told) in table {
        let answer = with(operation).judge(Done::Changed, before, after);
        assert_eq!(answer.ending, Ending::Failed, "{answer:?}");
        assert!(answer.detail.ends_with(told), "{answer:?}");
    }
    let already = with(Operation::Start).judge(Done::Already, &running, &running);
    assert_eq!((already.detail.as_str(), already.changed.as_str()), ("`bot` ran already", ""));
    let stop = with(Operation::Stop).judge(Done::Changed, &running, &stopped);
    assert_eq!((stop.detail.as_str(), stop.changed.as_str()), ("`bot` stopped", "process 10 -> none, exited"));
}
