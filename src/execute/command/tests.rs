//! Real processes, small scripts, generous limits: nothing here depends on how fast the machine is.
#![expect(clippy::disallowed_methods, reason = "writes scripts and looks at what they did")]

use std::path::Path;

use super::*;

/// A command line for a script, handed to `sh` as a file.
fn script(folder: &Path, code: &str) -> Line {
    let path = folder.join("script.sh");
    std::fs::write(&path, code).unwrap();
    Line {
        argv: vec!["/bin/sh".to_owned(), path.to_str().unwrap().to_owned(), "one two".to_owned()],
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("KEY".to_owned(), "value".to_owned())],
        cwd: folder.to_owned(),
        ids: None,
    }
}

async fn play(code: &str, limit: Duration) -> (End, String) {
    let folder = tempfile::tempdir().unwrap();
    run(&script(folder.path(), code), Instant::now() + limit).await
}

const LONG: Duration = Duration::from_secs(30);

fn long() -> Instant {
    Instant::now() + LONG
}

fn pid_in(path: &Path) -> i32 {
    std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
}

fn lives(pid: i32) -> bool {
    procfs::process(pid).is_some_and(|process| process.lives())
}

#[tokio::test]
async fn exit_codes_signals_and_output_are_told() {
    let (end, output) = play("echo out; echo err >&2; echo \"$1\"; exit 0", LONG).await;
    assert!(matches!(end, End::Exited(status) if describe(status) == "exit code 0"), "{end:?}");
    assert_eq!(output, "out\nerr\none two\n");
    let (end, _) = play("exit 3", LONG).await;
    assert!(matches!(end, End::Exited(status) if describe(status) == "exit code 3"), "{end:?}");
    let (end, output) = play("printf before; kill -SEGV $$", LONG).await;
    assert!(matches!(end, End::Exited(status) if describe(status) == "killed by SIGSEGV"), "{end:?}");
    assert_eq!(output, "before");
}

#[tokio::test]
async fn the_environment_is_what_was_given_and_stdin_is_empty() {
    let (_, output) = play("env | grep -v '^PWD=\\|^_=\\|^OLDPWD=\\|^SHLVL=' | sort; cat; pwd", LONG).await;
    let (env, cwd) = output.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(env, "KEY=value\nPATH=/usr/bin:/bin");
    assert!(Path::new(cwd).is_absolute());
}

#[tokio::test]
async fn it_leads_a_group_of_its_own_in_our_session() {
    let (_, output) = play("cut -d' ' -f5,6 /proc/$$/stat; echo $$", LONG).await;
    let words: Vec<i32> = output.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let me = procfs::process(i32::try_from(std::process::id()).unwrap()).unwrap();
    assert_eq!((words[0], words[1]), (words[2], me.session));
}

/// ACT-3: what provably never began is told apart from what has failed.
#[tokio::test]
async fn what_cannot_be_executed_never_began() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, "\u{7f}ELF and nothing more").unwrap();
    let line = |program: &Path, cwd: &Path| Line {
        argv: vec![program.to_str().unwrap().to_owned()],
        env: Vec::new(),
        cwd: cwd.to_owned(),
        ids: None,
    };
    let not_started = |end: &End, what: &str| match end {
        End::NotStarted(why) => assert!(why.contains(what), "{why}"),
        other => panic!("{other:?}"),
    };
    let (end, _) = run(&line(&folder.path().join("absent"), folder.path()), long()).await;
    not_started(&end, "No such file");
    let (end, _) = run(&line(&garbage, folder.path()), long()).await;
    not_started(&end, "Permission denied");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&garbage, mode).unwrap();
    let (end, _) = run(&line(&garbage, folder.path()), long()).await;
    not_started(&end, "Exec format");
    let (end, _) = run(&line(folder.path(), folder.path()), long()).await;
    not_started(&end, "Permission denied");
    let (end, _) = run(&line(Path::new("/bin/true"), &folder.path().join("absent")), long()).await;
    not_started(&end, "No such file");
    let (end, _) = run(
        &Line { argv: vec!["/bin/true".to_owned(), "\0".to_owned()], ..line(Path::new("/"), folder.path()) },
        long(),
    )
    .await;
    not_started(&end, "nul byte");
    let (end, _) =
        run(&Line { argv: Vec::new(), env: Vec::new(), cwd: folder.path().to_owned(), ids: None }, long()).await;
    assert!(matches!(end, End::NotStarted(_)), "{end:?}");
}

/// A command that writes without end to both streams neither blocks nor fills our memory, and its last words are kept.
#[tokio::test]
async fn the_end_of_a_flood_is_kept() {
    let (end, output) = play("head -c 3000000 /dev/zero | tr '\\0' z; echo last >&2", LONG).await;
    assert!(matches!(end, End::Exited(status) if status.success()), "{end:?}");
    assert_eq!(output.len(), OUTPUT_BYTES_MAX);
    assert!(output.ends_with("zzz\nlast\n") || output.ends_with("zzzlast\n"), "{}", &output[4000..]);
}

/// ACT-2: the end is the exit of the process; a daemon that holds the pipe lives on and is not waited for.
#[tokio::test]
async fn a_daemon_that_holds_the_pipe_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let line = script(folder.path(), "sleep 300 & echo $! > pid; setsid sleep 301 & echo $! > pid2; echo started");
    let (end, output) = run(&line, long()).await;
    let took = begun.elapsed();
    assert!(matches!(end, End::Exited(status) if status.success()), "{end:?}");
    assert_eq!(output, "started\n");
    assert!(took < Duration::from_secs(10), "{took:?}");
    for file in ["pid", "pid2"] {
        let pid = pid_in(&folder.path().join(file));
        assert!(lives(pid), "{file}");
        rustix::process::kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    }
}

/// ACT-3: at the timeout a polite group ends at once, long before the grace is over.
#[tokio::test]
async fn a_polite_group_ends_by_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let code = "trap 'echo bye; exit 0' TERM; sleep 300 & echo $! > pid; echo up; wait";
    let begun = Instant::now();
    let (end, output) = run(&script(folder.path(), code), Instant::now() + Duration::from_millis(700)).await;
    assert_eq!(end, End::TimedOut("SIGTERM"));
    assert_eq!(output, "up\nbye\n");
    assert!(begun.elapsed() < Duration::from_millis(700) + TERM_GRACE, "{:?}", begun.elapsed());
    assert!(!lives(pid_in(&folder.path().join("pid"))));
}

/// ACT-3: what ignores SIGTERM, be it the command or a child that it left behind, does not survive SIGKILL.
#[tokio::test]
async fn a_stubborn_group_ends_by_sigkill() {
    for code in [
        "trap '' TERM; echo $$ > pid; (trap '' TERM; while :; do sleep 1; done) & echo $! > pid2; while :; do sleep 1; done",
        "(trap '' TERM; while :; do sleep 1; done) & echo $! > pid2; echo $$ > pid; sleep 300",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let (end, _) = run(&script(folder.path(), code), Instant::now() + Duration::from_millis(500)).await;
        assert_eq!(end, End::TimedOut("SIGKILL"));
        assert!(begun.elapsed() >= TERM_GRACE, "{:?}", begun.elapsed());
        for file in ["pid", "pid2"] {
            assert!(!lives(pid_in(&folder.path().join(file))), "{file}");
        }
    }
}

/// ACT-3: a command that is stopped (SIGSTOP) is let go on, so that it may end politely, and is gone at the timeout.
#[tokio::test]
async fn a_stopped_group_is_ended() {
    for (code, how, said) in [
        ("trap 'echo bye; exit 0' TERM; echo $$ > pid; kill -STOP $$; while :; do sleep 0.1; done", "SIGTERM", "bye\n"),
        ("trap '' TERM; echo $$ > pid; kill -STOP $$; while :; do sleep 0.1; done", "SIGKILL", ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (end, output) = run(&script(folder.path(), code), Instant::now() + Duration::from_millis(700)).await;
        assert_eq!((end, output.as_str()), (End::TimedOut(how), said));
        assert!(!lives(pid_in(&folder.path().join("pid"))));
    }
}

/// ACT-3: a script whose interpreter is missing, and a program for another machine, have provably not begun.
#[tokio::test]
async fn what_has_no_interpreter_or_another_machine_never_began() {
    let folder = tempfile::tempdir().unwrap();
    let mut foreign = std::fs::read("/bin/true").unwrap();
    foreign[18..20].copy_from_slice(&0xfe_u16.to_le_bytes());
    for (name, content, why) in
        [("script", b"#!/no/such/interpreter\n".to_vec(), "No such file"), ("foreign", foreign, "Exec format")]
    {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let argv = vec![path.to_str().unwrap().to_owned()];
        let (end, _) = run(&Line { argv, env: Vec::new(), cwd: folder.path().to_owned(), ids: None }, long()).await;
        assert!(matches!(&end, End::NotStarted(found) if found.contains(why)), "{name}: {end:?}");
    }
}

/// A command that has closed its output early is waited for, and its exit is noticed without the pipe.
#[tokio::test]
async fn closing_the_output_is_not_the_end() {
    let begun = Instant::now();
    let (end, output) = play("echo a; exec >&- 2>&-; sleep 0.5; exit 7", LONG).await;
    assert!(matches!(end, End::Exited(status) if status.code() == Some(7)), "{end:?}");
    assert_eq!(output, "a\n");
    assert!(begun.elapsed() >= Duration::from_millis(450));
}

/// Without a process descriptor the exit is polled for, and the child is still there to be reaped.
#[tokio::test]
async fn the_exit_can_be_polled_for() {
    let mut child = std::process::Command::new("/bin/sleep").arg("0.2").spawn().unwrap();
    let pid = Pid::from_child(&child);
    tokio::time::timeout(LONG, wait_by_polling(pid)).await.unwrap();
    assert!(child.try_wait().unwrap().unwrap().success());
}

#[test]
fn the_tail_is_valid_text_of_at_most_its_size() {
    let keep = |parts: &[&[u8]]| {
        let mut tail = Tail::default();
        parts.iter().for_each(|part| tail.push(part));
        tail.into_string()
    };
    assert_eq!(keep(&[b"", b"ab", b"c"]), "abc");
    assert_eq!(keep(&[&[b'a'; 5000], b"end"]), format!("{}end", "a".repeat(4093)));
    assert_eq!(keep(&[&[b'a'; 4095], &[b'b'; 4095]]), format!("a{}", "b".repeat(4095)));
    // A character of four bytes torn by the cut disappears; one in the middle of broken bytes is replaced.
    assert_eq!(keep(&["🔥".repeat(1025).as_bytes()[1..].as_ref(), b"x"]), format!("{}x", "🔥".repeat(1023)));
    assert_eq!(keep(&[b"a\xffb"]), "a\u{fffd}b");
    let broken = keep(&[&[0xff; 9000]]);
    assert!(broken.len() <= OUTPUT_BYTES_MAX && broken.chars().all(|found| found == '\u{fffd}'), "{}", broken.len());
}

#[test]
fn signals_have_names() {
    assert_eq!(
        [1, 9, 11, 15, 31, 0, 34, -1].map(signal_name),
        ["SIGHUP", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGSYS", "signal 0", "signal 34", "signal -1"]
    );
}

/// ACT-3: nothing begins after its time.
#[tokio::test]
async fn a_command_whose_time_is_over_never_begins() {
    let folder = tempfile::tempdir().unwrap();
    let (end, _) = run(&script(folder.path(), "touch began; sleep 300"), Instant::now()).await;
    assert_eq!(end, End::NotStarted("its time was over before it could begin".to_owned()));
    assert!(!folder.path().join("began").exists());
}

/// ACT-3: after the deadline a stubborn group is ended and reaped although nobody waits for the answer any more.
#[tokio::test]
async fn an_end_that_has_begun_is_brought_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let code = "trap 'touch told' TERM; echo $$ > pid; while :; do sleep 0.1; done";
    let line = script(folder.path(), code);
    let told = async {
        while !folder.path().join("told").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        ended = run(&line, Instant::now() + Duration::from_millis(500)) => panic!("{ended:?}"),
        () = told => {}
    }
    let pid = pid_in(&folder.path().join("pid"));
    let gone = async {
        while procfs::process(pid).is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(LONG, gone).await.is_ok(), "{:?}", procfs::process(pid));
}

/// SEC-3: a secret that the beginning of what is kept cuts in two is gone as a whole.
#[test]
fn secrets_go_before_the_beginning_is_cut() {
    const SECRET: &str = "command-output-canary-0123456789";
    redact::remember(SECRET);
    for (before, after) in [(0, OUTPUT_BYTES_MAX - 10), (100_000, OUTPUT_BYTES_MAX - 10), (9_000, OUTPUT_BYTES_MAX)] {
        let mut tail = Tail::default();
        for part in ["x".repeat(before).as_str(), SECRET, &"y".repeat(after)] {
            tail.push(part.as_bytes());
        }
        let kept = tail.into_string();
        assert!(kept.len() <= OUTPUT_BYTES_MAX && kept.ends_with("yyy"), "{}", kept.len());
        assert!(!kept.contains("0123") && !kept.contains("789"), "{}", &kept[..60]);
    }
    // Many of them shrink what is kept, and must not bring up what was cut before.
    let mut tail = Tail::default();
    (0..1000).for_each(|_| tail.push(SECRET.as_bytes()));
    let kept = tail.into_string();
    assert!(kept.replace("<redacted>", "").is_empty(), "{}", &kept[..60]);
}
