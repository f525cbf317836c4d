//! Hostile pid files, recycled ids, and names that fit too many.

use super::*;
use crate::base::clock::Clock;

/// ACT-2: only a whole number in the first line is an id.
#[test]
fn pid_files_are_parsed_strictly() {
    for (text, pid) in
        [("12", 12), ("12\n", 12), (" 12 \r\n/var/lib\nmore", 12), ("0012", 12), ("2147483647", i32::MAX)]
    {
        assert_eq!(parse_pidfile(text.as_bytes()), Ok(pid), "{text:?}");
    }
    for text in
        ["", "\n12", "-1", "+1", "0", "1 2", "12a", "0x12", "1.5", "2147483648", "99999999999999999999", "\u{661}"]
    {
        assert!(parse_pidfile(text.as_bytes()).is_err(), "{text:?}");
    }
    for bytes in [&b"\xff\xfe"[..], b"\0", b"12\0", &[b'1'; 5000]] {
        let told = parse_pidfile(bytes).unwrap_err();
        assert!(told.len() < 300, "{told}");
    }
}

/// ACT-2: a process that began after the file was written is a stranger; the tolerance covers the grain of the clocks.
#[test]
fn a_process_younger_than_its_file_is_recycled() {
    let written = Timestamp::from_millis(1_000_000);
    for (began, recycled) in [(0, false), (1_000_000, false), (1_000_500, false), (1_000_501, true), (9_000_000, true)]
    {
        assert_eq!(is_recycled(Timestamp::from_millis(began), written), recycled, "{began}");
    }
}

#[test]
fn a_start_is_told_by_the_clock_of_the_host() {
    let mut child = sleeper();
    let pid = i32::try_from(child.id()).unwrap();
    let age = Clock::system().now().since(procfs::process(pid).unwrap().began());
    assert!(age < Duration::from_secs(5), "{age:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn names_and_command_lines_fit() {
    for (kept, line, name, cmdline, expected) in [
        ("bot", "/opt/bot\0--live\0", "bot", None, true),
        ("bot", "/opt/bot\0--live\0", "bot", Some("--live"), true),
        ("bot", "/opt/bot\0--live\0", "bot", Some("bot --live"), true),
        ("bot", "/opt/bot\0--live\0", "bot", Some("--paper"), false),
        ("bot", "/opt/bot\0", "bo", None, false),
        ("MainThread", "/opt/bot\0", "bot", None, true),
        ("python3", "python3\0bot.py\0", "bot.py", None, false),
        ("python3", "python3\0bot.py\0", "python3", Some("bot.py"), true),
        ("order-router-li", "/opt/order-router-live\0", "order-router-live", None, true),
        ("order-router-li", "/opt/order-router-lite\0", "order-router-live", None, false),
        ("kworker/0:1", "", "kworker", None, false),
        ("", "", "bot", None, false),
    ] {
        assert_eq!(fits(kept, line, name, cmdline), expected, "{kept} {line:?} {name} {cmdline:?}");
    }
}

#[test]
fn an_identity_is_read_back_and_is_of_one_boot() {
    let identity = Identity { pid: 12, started: 34 };
    assert_eq!(Identity::parse(&identity.to_text()), Some(Some(identity)));
    assert!(!boot().is_empty());
    assert_eq!(Identity::parse("pid=12 started=34 boot=another"), Some(None));
    for rubbish in ["", "pid=12", "pid=x started=1 boot=", "invocation= active=active"] {
        assert_eq!(Identity::parse(rubbish), None, "{rubbish}");
    }
}

/// ACT-2: the process is held; process 1, this one, threads and what does not run are not.
#[test]
fn only_another_process_is_held() {
    let mut child = sleeper();
    let pid = i32::try_from(child.id()).unwrap();
    let (held, _) = hold(pid).unwrap().unwrap();
    assert_eq!((held.identity.pid, held_id(&held.fd)), (pid, Some(pid)));
    assert!(held.identity.lives());
    assert!(hold(1).unwrap_err().contains("process 1"));
    assert!(hold(i32::try_from(std::process::id()).unwrap()).unwrap_err().contains("chiron itself"));
    assert!(hold(0).is_err() && hold(-5).is_err());
    assert!(hold(i32::MAX).unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    // Gone and reaped: whoever has the id next is not the one that is held.
    assert!(!held.identity.lives());
    assert_eq!(held_id(&held.fd).filter(|id| *id > 0), None);
}

#[expect(clippy::disallowed_methods, reason = "a real process to be looked at")]
fn sleeper() -> std::process::Child {
    std::process::Command::new("/bin/sleep").arg("100").spawn().unwrap()
}

/// ACT-2: whose group may write is not believed, root's own aside.
#[test]
fn files_that_others_may_write_are_not_believed() {
    for (mode, user, group, believed) in [
        (0o100_644, 1000, 1000, true),
        (0o100_664, 1000, 1000, false),
        (0o100_664, 0, 0, true),
        (0o100_664, 0, 1000, false),
        (0o100_664, 1000, 0, false),
        (0o100_646, 0, 0, false),
        (0o100_666, 1000, 1000, false),
    ] {
        assert_eq!(distrust(mode, user, group).is_none(), believed, "{mode:o} {user}:{group}");
    }
}
