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
        Signal { number, ends, target: Target::Pidfile { path: self.1.path().join("a.pid"), named: None } }
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
    let lives = crate::base::procfs::process(i32::try_from(second.0.id()).unwrap());
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
    let target = Target::Process(named("no such process", Some("x")));
    let hup = Signal { number: Number::HUP, ends: false, target };
    assert_eq!(hup.describe(), "send HUP to process `no such process` with `x`");
    assert!(!hup.takes_evidence() && hup.preflight().await.len() == 1);
    let answer = hup.apply(&order(None)).await;
    assert_eq!(answer.ending, Ending::NotStarted);
}

fn named(name: &str, cmdline: Option<&str>) -> Named {
    Named { name: name.to_owned(), cmdline: cmdline.map(str::to_owned) }
}

/// ACT-2: a link in the place of a pid file is not followed, and one that its group may write to is not believed; nobody
/// is signalled.
#[tokio::test]
async fn a_pid_file_that_others_may_turn_is_not_believed() {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
    let sleeper = Sleeper::start();
    let (term, path) = (sleeper.signal(Number::TERM, true), sleeper.1.path().join("a.pid"));
    let refused = async |why: &str| {
        let answer = term.apply(&order(None)).await;
        assert_eq!(answer.ending, Ending::NotStarted, "{why}: {answer:?}");
        assert!(answer.detail.contains(why), "{why}: {}", answer.detail);
    };
    std::fs::rename(&path, sleeper.1.path().join("b.pid")).unwrap();
    symlink("b.pid", &path).unwrap();
    refused("it is a symbolic link, which is not followed").await;
    std::fs::rename(sleeper.1.path().join("b.pid"), &path).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    // The group of root may do what root may.
    if !rustix::process::geteuid().is_root() {
        mode(0o664);
        refused("its group may write to it").await;
    } else {
        chown(&path, None, Some(12_345)).unwrap();
        mode(0o664);
        refused("its group may write to it").await;
        mode(0o644);
        chown(sleeper.1.path(), Some(12_345), None).unwrap();
        refused("its folder belongs to user 12345").await;
        chown(sleeper.1.path(), Some(0), None).unwrap();
    }
    mode(0o644);
    assert_eq!(term.apply(&order(None)).await.ending, Ending::Ok, "a file that is believed is obeyed");
}

/// ACT-2: with a name beside the pid file both must fit, and then it is that process alone, however many have the name.
#[tokio::test]
async fn a_pid_file_and_a_name_must_both_fit() {
    let (sleeper, other) = (Sleeper::start(), Sleeper::start());
    let path = sleeper.1.path().join("a.pid");
    let with =
        |named| Signal { number: Number::TERM, ends: true, target: Target::Pidfile { path: path.clone(), named } };
    for wrong in [named("router", None), named("sleep", Some("--live"))] {
        let told = format!("expected {wrong}");
        let answer = with(Some(wrong)).apply(&order(None)).await;
        assert_eq!(answer.ending, Ending::NotStarted, "{answer:?}");
        assert!(answer.detail.contains(&told), "{}", answer.detail);
    }
    let both = with(Some(named("sleep", Some("100"))));
    let expected = format!("send TERM to process `sleep` with `100` of `{}` and wait for its end", path.display());
    assert_eq!(both.describe(), expected);
    assert_eq!(both.apply(&order(None)).await.ending, Ending::Ok);
    assert!(!processes_live(&sleeper) && processes_live(&other));
}

fn processes_live(sleeper: &Sleeper) -> bool {
    let found = crate::base::procfs::process(i32::try_from(sleeper.0.id()).unwrap());
    found.is_some_and(|process| process.lives())
}

/// ACT-3: a look that hangs holds no worker, and is over at the order's timeout.
#[test]
fn a_look_that_hangs_ends_at_the_timeout() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let sleeper = Sleeper::start();
    let answer = runtime.block_on(async {
        // The only thread that may wait is taken, as if by a file system that hangs.
        drop(tokio::task::spawn_blocking(move || held.recv()));
        sleeper.signal(Number::TERM, true).apply(&order(None)).await
    });
    release.send(()).unwrap();
    assert_eq!(answer.ending, Ending::NotStarted);
    assert!(answer.detail.contains("was not found within 300ms"), "{}", answer.detail);
    assert!(processes_live(&sleeper));
}

/// Which of the three name a process together.
#[test]
fn a_pid_file_may_stand_with_a_name() {
    let built = |text: &str| {
        let problems = crate::base::tree::Problems::new("");
        let node = crate::base::tree::parse(text, &problems).unwrap();
        let mut section = Section::open(&node, "signal", &problems).unwrap();
        let context = ActuatorContext {
            environment: crate::execute::Environment::default(),
            workspace: "/w".into(),
            probe: None,
            folder: "/".into(),
            class: crate::model::Class::OneShot,
            warnings: Default::default(),
        };
        let built = build(&mut section, &context);
        section.finish();
        built.map(|signal| signal.describe()).ok_or_else(|| problems.into_vec().len())
    };
    let both = built("{signal: HUP, pidfile: a.pid, process: {name: bot}}");
    assert_eq!(both.as_deref(), Ok("send HUP to process `bot` of `/w/a.pid`"));
    assert_eq!(built("{signal: HUP, pidfile: a.pid}").as_deref(), Ok("send HUP to the process of `/w/a.pid`"));
    assert_eq!(built("{signal: HUP, process: {name: bot}}").as_deref(), Ok("send HUP to process `bot`"));
    for bad in ["signal: HUP", "{signal: HUP, pidfile: a.pid, process: {cmdline: x}}"] {
        assert_eq!(built(bad), Err(1), "{bad}");
    }
    assert!(built("{signal: HUP, pidfile: a.pid, unit: {name: a.service}}").is_err());
    assert!(built("{signal: HUP, process: {name: bot}, unit: {name: a.service}}").is_err());
}
