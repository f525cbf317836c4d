//! Signals to real processes of the test's own, and what a probe says of them.
#![expect(clippy::disallowed_methods, reason = "starts processes and writes their pid files")]

use std::process::{Child, Command};

use super::*;
use crate::execute::About;
use crate::model::RunKey;

fn order(evidence: Option<String>) -> Order {
    Order {
        key: RunKey { episode: "router_20251123_013456".into(), rung: 1, attempt: 1 },
        action: "restart_subsystem".into(),
        target: "router".into(),
        epoch: 1,
        timeout: Duration::from_millis(300),
        about: About::default(),
        evidence,
    }
}

/// A process that ends with its test, and its pid file.
struct Sleeper(Child, tempfile::TempDir);

impl Sleeper {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new("/bin/sleep").arg("100").spawn().unwrap();
        std::fs::write(dir.path().join("a.pid"), child.id().to_string()).unwrap();
        Self(child, dir)
    }

    fn signal(&self, number: Number, ends: bool) -> Signal {
        Signal { number, ends, target: Target::Pidfile(self.1.path().join("a.pid")) }
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// ACT-3: who was meant and lives was not hit; who is gone was; a boot or a process that nobody knows is told apart.
#[tokio::test]
async fn a_probe_looks_for_the_process_of_before() {
    let sleeper = Sleeper::start();
    let term = sleeper.signal(Number::TERM, true);
    let before = term.evidence(&order(None)).await.unwrap();
    assert_eq!(term.probe(&order(Some(before.clone()))).await, ProbeAnswer::DidNotHappen);
    assert_eq!(term.probe(&order(None)).await, ProbeAnswer::AskCheck);
    assert_eq!(term.probe(&order(Some("rubbish".to_owned()))).await, ProbeAnswer::AskCheck);
    assert_eq!(term.probe(&order(Some("pid=1 started=1 boot=other".to_owned()))).await, ProbeAnswer::Happened);
    assert_eq!(sleeper.signal(Number::HUP, false).probe(&order(Some(before.clone()))).await, ProbeAnswer::Unknown);
    let answer = term.apply(&order(Some(before.clone()))).await;
    let pid = sleeper.0.id();
    assert_eq!((answer.ending, answer.changed), (Ending::Ok, format!("process {pid} (sleep) ended")));
    assert_eq!(term.probe(&order(Some(before))).await, ProbeAnswer::Happened);
}

/// ACT-2: a process that ended between the look and the signal counts as ended, and its successor is left alone.
#[tokio::test]
async fn a_successor_is_left_alone() {
    let (mut first, second) = (Sleeper::start(), Sleeper::start());
    let term = first.signal(Number::TERM, true);
    let before = term.evidence(&order(None)).await;
    first.0.kill().unwrap();
    first.0.wait().unwrap();
    let pid = first.0.id();
    let answer = term.apply(&order(before.clone())).await;
    assert_eq!((answer.ending, answer.changed), (Ending::Ok, format!("process {pid} ended")));
    std::fs::write(first.1.path().join("a.pid"), second.0.id().to_string()).unwrap();
    let answer = term.apply(&order(before)).await;
    let expected = format!("process {pid} ended before TERM was sent; no other is signalled");
    assert_eq!((answer.ending, answer.detail), (Ending::Ok, expected));
    let lives = crate::execute::processes::process(i32::try_from(second.0.id()).unwrap());
    assert!(lives.is_some_and(|process| process.lives()));
    // Without a look before, whoever the file names is the one that is meant.
    let answer = first.signal(Number::TERM, true).apply(&order(None)).await;
    assert_eq!(answer.ending, Ending::Ok, "{answer:?}");
}

#[tokio::test]
async fn what_would_be_done_is_told() {
    let sleeper = Sleeper::start();
    let term = sleeper.signal(Number::TERM, true);
    let shown = sleeper.1.path().join("a.pid");
    assert_eq!(term.describe(), format!("send TERM to the process of `{}` and wait for its end", shown.display()));
    assert_eq!(term.preflight().await, [] as [String; 0]);
    std::fs::remove_file(&shown).unwrap();
    let told = term.preflight().await;
    assert!(told.len() == 1 && told[0].ends_with("a.pid`: missing"), "{told:?}");
    let name = "no such process".to_owned();
    let target = Target::Process { name, cmdline: Some("x".to_owned()) };
    let hup = Signal { number: Number::HUP, ends: false, target };
    assert_eq!(hup.describe(), "send HUP to process `no such process` with `x`");
    assert!(!hup.takes_evidence() && hup.preflight().await.len() == 1);
    let answer = hup.apply(&order(None)).await;
    assert_eq!(answer.ending, Ending::NotStarted);
}
