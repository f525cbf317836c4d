//! Real commands, and the rules that keep shells out.
#![expect(clippy::disallowed_methods, reason = "writes scripts and looks at what they did")]

use super::*;
use crate::base::tree::Position;
use crate::execute::actuators::tests::scalar;
use crate::execute::survivors;
use crate::model::RunKey;

fn order(timeout: Duration) -> Order {
    Order {
        key: RunKey { episode: "order_router_20251123_013456".into(), rung: 1, attempt: 2 },
        action: "restart_subsystem".into(),
        target: "order_router".into(),
        epoch: 42,
        timeout,
        about: crate::execute::About::default(),
        evidence: None,
    }
}

const LONG: Duration = Duration::from_secs(30);

fn exec(argv: &[&str]) -> Exec {
    Exec { argv: words(argv), timeout: None, env: BTreeMap::new(), cwd: "/".into(), probe: None }
}

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

fn list(words: &[&str]) -> Node {
    let items = words.iter().map(|word| scalar(word, false)).collect();
    Node { value: Value::List(items), at: Position::default() }
}

#[tokio::test]
async fn endings_are_told_apart() {
    let answer = exec(&["/bin/echo", "done"]).apply(&order(LONG)).await;
    let expected = Answer {
        ending: Ending::Ok,
        detail: "exit code 0".to_owned(),
        output: "done\n".to_owned(),
        changed: String::new(),
    };
    assert_eq!(answer, expected);
    let answer = exec(&["/bin/false"]).apply(&order(LONG)).await;
    assert_eq!((answer.ending, answer.detail.as_str()), (Ending::Failed, "exit code 1"));
    let answer = exec(&["/no/such/program"]).apply(&order(LONG)).await;
    assert_eq!(answer.ending, Ending::NotStarted);
    assert!(
        answer.detail.starts_with("`/no/such/program` cannot be executed in `/`: No such file"),
        "{}",
        answer.detail
    );
}

/// The shorter of the command's own timeout and the order's ends it.
#[tokio::test]
async fn the_shorter_timeout_counts() {
    let sleep = exec(&["/bin/sleep", "300"]);
    let answer = sleep.apply(&order(Duration::from_millis(300))).await;
    assert_eq!(answer.ending, Ending::Timeout);
    assert_eq!(answer.detail, "not done after 300ms, process group ended by SIGTERM");
    let own = Exec { timeout: Some(Duration::from_millis(250)), ..sleep };
    assert_eq!(own.apply(&order(LONG)).await.detail, "not done after 250ms, process group ended by SIGTERM");
}

#[tokio::test]
async fn the_environment_is_cleared_and_filled() {
    let env = BTreeMap::from([("PATH".to_owned(), "/opt/bin".to_owned()), ("MODE".to_owned(), "paper".to_owned())]);
    let exec = Exec { env, ..exec(&["/usr/bin/env"]) };
    let output = exec.apply(&order(LONG)).await.output;
    let mut lines: Vec<_> = output.lines().collect();
    lines.sort_unstable();
    let id = format!("CHIRON_COMMAND_ID={}", command_id(&exec.argv));
    assert_eq!(
        lines,
        [
            "CHIRON_ACTION=restart_subsystem",
            id.as_str(),
            "CHIRON_EPOCH=42",
            "CHIRON_RUN_KEY=order_router_20251123_013456/1/2",
            "CHIRON_SUBSYSTEM=order_router",
            "MODE=paper",
            "PATH=/opt/bin",
        ]
    );
}

/// Invariant 7: a dropped run is what a crash leaves behind; its command is found as a survivor, its probe is not.
#[tokio::test]
async fn a_command_that_outlives_chiron_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slow.sh");
    std::fs::write(&path, "echo up > \"${0%/*}/up\"; sleep 300").unwrap();
    let exec = exec(&["/bin/sh", path.to_str().unwrap()]);
    let mut order = order(LONG);
    order.key.episode = format!("survivor_{}", std::process::id()).into();
    let run = exec.apply(&order);
    let started = async {
        while !folder.path().join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = run => panic!("{answer:?}"),
        () = started => {}
    }
    let found = survivors::find(&order.key);
    assert_eq!(found.len(), 1);
    assert_eq!(survivors::await_end(found, Duration::ZERO).await, survivors::Aftermath::Killed);
    assert_eq!(survivors::find(&order.key), []);

    let probing = Exec { probe: Some(exec.argv.clone()), ..exec };
    std::fs::remove_file(folder.path().join("up")).unwrap();
    let started = async {
        while !folder.path().join("up").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        answer = probing.probe(&order) => panic!("{answer:?}"),
        () = started => {}
    }
    assert_eq!(survivors::find(&order.key), []);
    for process in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let key = format!("CHIRON_RUN_KEY={}", order.key);
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        if environment.split(|&byte| byte == 0).any(|variable| variable == key.as_bytes()) {
            let pid = process.file_name().to_str().unwrap().parse().unwrap();
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

#[tokio::test]
async fn a_probe_is_believed_by_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("probe.sh");
    std::fs::write(&path, "exit $1").unwrap();
    let path = path.to_str().unwrap();
    for (code, expected) in [
        ("0", ProbeAnswer::Happened),
        ("1", ProbeAnswer::DidNotHappen),
        ("2", ProbeAnswer::Unknown),
        ("127", ProbeAnswer::Unknown),
    ] {
        let exec = Exec { probe: Some(words(&["/bin/sh", path, code])), ..exec(&["/bin/false"]) };
        assert_eq!(exec.probe(&order(LONG)).await, expected, "{code}");
    }
    let exec = Exec { probe: Some(words(&["/no/such/program"])), ..exec(&["/bin/false"]) };
    assert_eq!(exec.probe(&order(LONG)).await, ProbeAnswer::Unknown);
    let exec = Exec { probe: None, ..exec };
    assert_eq!(exec.probe(&order(LONG)).await, ProbeAnswer::AskCheck);
}

#[tokio::test]
async fn preflight_names_what_is_missing() {
    assert_eq!(exec(&["/bin/true"]).preflight().await, Vec::<String>::new());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notes.txt");
    std::fs::write(&file, "").unwrap();
    let warning = async |program: &str| exec(&[program]).preflight().await.join("; ");
    assert!(warning("/no/such/program").await.contains("No such file"));
    assert!(warning(folder.path().to_str().unwrap()).await.contains("not a regular file"));
    assert!(warning(file.to_str().unwrap()).await.contains("is it marked executable?"));
    let warnings = Exec { cwd: file, probe: Some(words(&["/no/probe"])), ..exec(&["/bin/true"]) }.preflight().await;
    assert!(warnings[0].contains("/no/probe") && warnings[1].contains("not a directory"), "{warnings:?}");
}

#[test]
fn it_says_what_it_would_run() {
    let exec = exec(&["/usr/local/bin/restart-router", "--now", "two words", ""]);
    assert_eq!(exec.describe(), "run /usr/local/bin/restart-router --now \"two words\" \"\"");
    assert_eq!(exec.means(), Means::Exec);
}

/// SEC-5: no shell gets code from the settings, directly or behind another program.
#[test]
fn a_shell_with_code_is_refused() {
    for bad in [
        &["/bin/sh", "-c", "reboot"][..],
        &["/bin/bash", "-lc", "reboot"],
        &["/bin/bash", "-e", "-u", "-c", "reboot"],
        &["/bin/bash", "--norc", "-c", "reboot"],
        &["/bin/bash", "-O", "extglob", "-c", "reboot"],
        &["/bin/bash", "-o", "pipefail", "-ec", "reboot"],
        &["/bin/sh", "-creboot"],
        &["/usr/bin/fish", "--command=reboot"],
        &["/usr/bin/fish", "-C", "reboot"],
        &["/usr/bin/env", "bash", "-c", "reboot"],
        &["/usr/bin/env", "A=b", "sh", "-c", "reboot"],
        &["/usr/bin/sudo", "-n", "/bin/zsh", "-c", "reboot"],
        &["/bin/busybox", "sh", "-c", "reboot"],
        &["/usr/bin/docker", "exec", "bot", "sh", "-c", "reboot"],
    ] {
        let (rule, hint) = check_argv(&words(bad)).unwrap_err();
        assert!(rule.contains("no shell") && hint.is_some_and(|hint| hint.contains("script")), "{bad:?}");
        assert!(Argv::from_node(&list(bad)).unwrap_err().unwrap().contains("script"), "{bad:?}");
    }
    for good in [
        &["/bin/sh", "/opt/restart.sh"][..],
        &["/bin/sh", "/opt/restart.sh", "-c", "chiron.conf"],
        &["/bin/bash", "-eu", "/opt/restart.sh"],
        &["/bin/sh", "--", "-c"],
        &["/usr/bin/systemctl", "restart", "router"],
        &["/usr/bin/tail", "-c", "5", "/tmp/x"],
        &["/usr/bin/python3", "/opt/x.py", "-c"],
    ] {
        assert_eq!(check_argv(&words(good)), Ok(()), "{good:?}");
        assert_eq!(Argv::from_node(&list(good)).unwrap().0, words(good));
    }
}

#[test]
fn a_command_line_is_a_list_with_an_absolute_program() {
    let hint = |node: &Node| Argv::from_node(node).unwrap_err().unwrap_or_default();
    assert!(hint(&scalar("/bin/true --now", false)).contains("no shell"));
    assert!(hint(&list(&[])).contains("at least the program"));
    assert!(hint(&list(&["systemctl", "restart"])).contains("command -v systemctl"));
    assert!(hint(&list(&["./restart"])).contains("command -v"));
    assert!(hint(&list(&["/bin/true", "a\0b"])).contains("without NUL"));
    let nested = Node { value: Value::List(vec![scalar("/bin/true", false), list(&["a"])]), at: Position::default() };
    assert!(hint(&nested).contains("every item is one word"));
    assert!(Argv::from_node(&Node { value: Value::Null, at: Position::default() }).is_err());
}

#[test]
fn variables_are_checked() {
    let map = |entries: &[(&str, Node)]| Node {
        value: Value::Map(entries.iter().map(|(key, node)| ((*key).to_owned(), node.at, node.clone())).collect()),
        at: Position::default(),
    };
    let env = Env::from_node(&map(&[("MODE", scalar("paper", false)), ("EMPTY", scalar("", true))])).unwrap().0;
    let expected = [("EMPTY".to_owned(), String::new()), ("MODE".to_owned(), "paper".to_owned())];
    assert_eq!(env, BTreeMap::from(expected));
    for (key, value) in [
        ("CHIRON_EPOCH", scalar("1", false)),
        ("A=B", scalar("1", false)),
        ("", scalar("1", false)),
        ("A", scalar("\0", true)),
        ("A", list(&["1"])),
    ] {
        assert!(Env::from_node(&map(&[(key, value)])).unwrap_err().is_some(), "{key}");
    }
    assert!(Env::from_node(&list(&["A=b"])).is_err());
}
