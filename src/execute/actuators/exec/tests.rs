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
    Exec {
        argv: words(argv),
        timeout: None,
        env: BTreeMap::new(),
        inherited: Inherited::default(),
        run_as: None,
        cwd: "/".into(),
        probe: None,
    }
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

/// ACT-2: of chiron's own environment only what is named is passed on; what `env` says wins, and what was not there is a
/// doubt, not an empty text.
#[tokio::test]
async fn named_variables_are_passed_on() {
    let environment: Environment =
        [("HOME", "/srv/bot"), ("LANG", "C.UTF-8"), ("API_TOKEN", "canary-of-env-from"), ("OTHER", "kept back")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
    let context = ActuatorContext {
        workspace: "/".into(),
        probe: None,
        folder: "/".into(),
        class: crate::model::Class::OneShot,
        environment,
        warnings: Default::default(),
    };
    let built = |yaml: &str| {
        let problems = crate::base::tree::Problems::new("test.yml");
        let root = crate::base::tree::parse(yaml, &problems).unwrap();
        let mut section = Section::open(&root, "exec", &problems).unwrap();
        let built = build(&mut section, &context);
        section.finish();
        (built, problems.into_vec().iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let (exec, problems) = built("{argv: [/usr/bin/env], env_from: [HOME, LANG, API_TOKEN, NOWHERE], env: {LANG: C}}");
    assert_eq!(problems, [] as [String; 0]);
    let exec = exec.unwrap();
    let output = exec.apply(&order(LONG)).await.output;
    let lines: Vec<_> = output.lines().filter(|line| !line.starts_with("CHIRON_")).collect();
    // A secret is passed on, and known as one.
    assert_eq!(lines, ["API_TOKEN=<redacted>", "HOME=/srv/bot", "LANG=C", "PATH=/usr/bin:/bin"]);
    assert_eq!(redact::text("it says canary-of-env-from"), "it says <redacted>");
    let doubts = exec.preflight().await;
    assert_eq!(doubts, ["`NOWHERE` of `env_from` is not in chiron's environment, so it is not passed on"]);
    for (bad, why) in [
        ("env_from: [CHIRON_EPOCH]", "names beginning with CHIRON_"),
        ("env_from: [\"A=B\"]", "expected names of variables"),
        ("group: bot", "expected `user` beside it"),
        ("user: a/b", "expected the name of an account"),
        ("user: \"\"", "expected the name of an account"),
    ] {
        let (_, problems) = built(&format!("{{argv: [/bin/true], {bad}}}"));
        assert!(problems.len() == 1 && problems[0].contains(why), "{bad}: {problems:?}");
    }
}

/// The account that every machine has beside root's.
fn nobody() -> Option<RunAs> {
    Some(RunAs { user: "nobody".to_owned(), group: None })
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// ACT-2: another user, its primary group and no other, its own home; without root nothing is begun, and it is said
/// beforehand.
#[tokio::test]
async fn another_user_is_for_root_alone() {
    let id = Exec { run_as: nobody(), ..exec(&["/usr/bin/id"]) };
    let answer = id.apply(&order(LONG)).await;
    if !is_root() {
        assert_eq!(answer.ending, Ending::NotStarted);
        assert!(answer.detail.contains("expected root"), "{}", answer.detail);
        assert!(id.preflight().await[0].contains("expected root"));
        return;
    }
    assert_eq!((answer.ending, id.preflight().await), (Ending::Ok, Vec::new()), "{answer:?}");
    assert!(answer.output.starts_with("uid=65534(nobody) gid=65534("), "{}", answer.output);
    assert_eq!(answer.output.matches("groups=65534(").count(), 1, "{}", answer.output);
    assert!(!answer.output.contains(','), "no supplementary group: {}", answer.output);
    assert_eq!(id.describe(), "run /usr/bin/id as nobody");

    let env = BTreeMap::from([("LOGNAME".to_owned(), "given".to_owned())]);
    let shown = Exec { env, ..Exec { run_as: nobody(), ..exec(&["/usr/bin/env"]) } }.apply(&order(LONG)).await.output;
    for line in ["HOME=/nonexistent", "USER=nobody", "LOGNAME=given"] {
        assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
    }
    let group = Some(RunAs { user: "nobody".to_owned(), group: Some("daemon".to_owned()) });
    let output = Exec { run_as: group, ..exec(&["/usr/bin/id", "-gn"]) }.apply(&order(LONG)).await.output;
    assert_eq!(output, "daemon\n");
}

/// ACT-3: what cannot be run as another user has provably not been started, and no shell takes its place.
#[tokio::test]
async fn what_another_user_cannot_run_is_not_started() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, code: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, code).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let no_format = script("no_format", "touch \"${0%/*}/ran\"\n", 0o755);
    let private = script("private", "#!/bin/sh\nexit 0\n", 0o700);
    let user = |user: &str, group: Option<&str>| Some(RunAs { user: user.to_owned(), group: group.map(str::to_owned) });
    for (program, run_as, why) in [
        (no_format.as_str(), nobody(), "begins with `#!`"),
        (private.as_str(), nobody(), "Permission denied"),
        ("/bin/true", user("no_such_user", None), "no user `no_such_user` in /etc/passwd"),
        ("/bin/true", user("nobody", Some("no_such_group")), "no group `no_such_group` in /etc/group"),
    ] {
        let exec = Exec { run_as, ..exec(&[program]) };
        let answer = exec.apply(&order(LONG)).await;
        assert_eq!(answer.ending, Ending::NotStarted, "{answer:?}");
        assert!(answer.detail.contains(why), "{why}: {}", answer.detail);
        let doubts = exec.preflight().await.join("; ");
        assert!(doubts.contains(why), "{why}: {doubts}");
        let probing = Exec { probe: Some(exec.argv.clone()), ..exec };
        assert_eq!(probing.probe(&order(LONG)).await, ProbeAnswer::Unknown);
    }
    assert!(!folder.path().join("ran").exists(), "no shell has run it");
}

/// Invariant 7: a command of another user is found after a crash, and ended at its timeout.
#[tokio::test]
async fn a_command_of_another_user_is_found_and_ended() {
    if !is_root() {
        return;
    }
    let sleep = Exec { run_as: nobody(), ..exec(&["/bin/sleep", "306"]) };
    let mut order = order(LONG);
    order.key.episode = format!("other_user_{}", std::process::id()).into();
    let found = async {
        loop {
            let found = survivors::find(&order.key);
            if !found.is_empty() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::select! {
        answer = sleep.apply(&order) => panic!("{answer:?}"),
        found = found => found,
    };
    assert_eq!(found.len(), 1);
    assert_eq!(survivors::await_end(found, Duration::ZERO).await, survivors::Aftermath::Killed);
    assert_eq!(survivors::find(&order.key), []);
    order.timeout = Duration::from_millis(300);
    let answer = sleep.apply(&order).await;
    assert_eq!((answer.ending, survivors::find(&order.key)), (Ending::Timeout, Vec::new()), "{answer:?}");
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
    let other = folder.path().join("other");
    std::fs::write(&other, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(warning(other.to_str().unwrap()).await.contains("its interpreter `/no/such/interpreter`"));
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

/// ACT-3: with every thread taken that may wait, chiron answers at the timeout that nothing was begun, and nothing is begun
/// later.
#[test]
fn what_waits_for_its_turn_too_long_never_begins() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let began = folder.path().join("began");
    let touch = exec(&["/usr/bin/touch", began.to_str().unwrap()]);
    for exec in [touch.clone(), Exec { run_as: nobody(), ..touch }] {
        let (release, held) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            drop(tokio::task::spawn_blocking(move || held.recv()));
            let answer = exec.apply(&order(Duration::from_millis(200))).await;
            assert_eq!(answer.ending, Ending::NotStarted, "{answer:?}");
            release.send(()).unwrap();
            // Its turn has come and gone once the next one's has.
            tokio::task::spawn_blocking(|| ()).await.unwrap();
        });
        assert!(!began.exists());
    }
}

/// SEC-3: secrets in a command line are not shown, however short, and those of command line and environment are known.
#[test]
fn secrets_of_the_settings_are_not_shown() {
    let telling =
        exec(&["/bin/curl", "--token", "ab", "-u", "bot:pw", "--password=x y", "https://u:pw@h/p?k=1", "plain"]);
    let shown =
        "run /bin/curl --token <redacted> -u bot:<redacted> --password=<redacted> \"https://***@h/p?<redacted>\" plain";
    assert_eq!(telling.describe(), shown);
    let problems = crate::base::tree::Problems::new("");
    let yaml = "{argv: [/bin/true, --token, exec-canary-1], env: {BOT_PASS: exec-canary-2, CREDENTIALS: exec-canary-3, \
                SIGNING_KEY: exec-canary-4, KEY_FILE: /exec/canary-5, PLAIN: exec-canary-6}}";
    let root = crate::base::tree::parse(yaml, &problems).unwrap();
    let mut section = Section::open(&root, "exec", &problems).unwrap();
    let context = ActuatorContext {
        workspace: "/".into(),
        probe: None,
        folder: "/".into(),
        class: crate::model::Class::OneShot,
        environment: Environment::default(),
        warnings: Default::default(),
    };
    assert!(build(&mut section, &context).is_some());
    for number in 1..=4 {
        assert_eq!(redact::text(&format!("exec-canary-{number}")), REDACTED);
    }
    assert_eq!(redact::text("/exec/canary-5 exec-canary-6"), "/exec/canary-5 exec-canary-6");
}
