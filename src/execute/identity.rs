//! Another user for a command: who that is, and whether chiron may become it.
//!
//! What it answers: the ids and the home folder of `user` and `group`, by the files of this machine.
//! **Invariant:** reads only, bounded; looked up at each use, so that an account that was changed is not remembered.
#![expect(clippy::disallowed_methods, reason = "reads the account files and its own status, every read bounded")]

use std::fs::File;
use std::io::Read;

/// The largest account file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What another user needs, and why: to become it, to end its commands, to find them again after a crash.
const CAPABILITIES: [(u32, &str); 4] = [(5, "CAP_KILL"), (6, "CAP_SETGID"), (7, "CAP_SETUID"), (19, "CAP_SYS_PTRACE")];

/// Whom a command is to run as, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// The user.
    pub user: String,
    /// The group; the user's primary one by default.
    pub group: Option<String>,
}

/// The same by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The user's id.
    pub(super) uid: u32,
    /// The group's id.
    pub(super) gid: u32,
    /// The user's home folder.
    pub(super) home: String,
}

impl RunAs {
    /// Who that is, or why a command cannot run so. Reads files, so it is for a blocking thread.
    pub(super) fn resolve(&self) -> Result<Identity, String> {
        may_change(&text("/proc/self/status")?)
            .map_err(|why| format!("it cannot be run as the user `{}`: {why}", self.user))?;
        let mut identity = find_user(&text("/etc/passwd")?, &self.user)
            .ok_or_else(|| format!("there is no user `{}` in /etc/passwd", self.user))?;
        if let Some(group) = &self.group {
            identity.gid = find_group(&text("/etc/group")?, group)
                .ok_or_else(|| format!("there is no group `{group}` in /etc/group"))?;
        }
        Ok(identity)
    }
}

fn text(path: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| format!("`{path}` cannot be read: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `name:password:uid:gid:comment:home:shell`
fn find_user(passwd: &str, name: &str) -> Option<Identity> {
    let fields = line_of(passwd, name)?;
    let [_, _, uid, gid, _, home, ..] = fields[..] else { return None };
    Some(Identity { uid: uid.parse().ok()?, gid: gid.parse().ok()?, home: home.to_owned() })
}

/// `name:password:gid:members`
fn find_group(group: &str, name: &str) -> Option<u32> {
    line_of(group, name)?.get(2)?.parse().ok()
}

fn line_of<'t>(file: &'t str, name: &str) -> Option<Vec<&'t str>> {
    file.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))
}

/// Whether a process with this `/proc/PID/status` may run a command as somebody else.
fn may_change(status: &str) -> Result<(), String> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = field("Uid:").and_then(|ids| ids.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
    match effective {
        Some(0) => {}
        Some(uid) => {
            return Err(format!(
                "chiron runs as the user with id {uid}, expected root; leave `user` out, or run it as root"
            ));
        }
        None => return Err("which user chiron runs as cannot be read".to_owned()),
    }
    let held = field("CapEff:").and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let missing: Vec<&str> =
        CAPABILITIES.iter().filter(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("chiron lacks {}", missing.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/bash\nbroken\nbot:x:1001:1002:The bot,,,:/srv/bot:/bin/sh\nodd:x:a:b:c:d\n";

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let bot = Identity { uid: 1001, gid: 1002, home: "/srv/bot".to_owned() };
        assert_eq!(find_user(PASSWD, "bot"), Some(bot));
        for absent in ["bo", "broken", "odd", ""] {
            assert_eq!(find_user(PASSWD, absent), None, "{absent}");
        }
        assert_eq!(find_group("root:x:0:\ntrading:x:77:bot,root\n", "trading"), Some(77));
        assert_eq!(find_group("root:x:0:\n", "trading"), None);
    }

    /// ACT-2: another user only with all that it takes to begin, to end and to find its command.
    #[test]
    fn only_root_with_its_capabilities_may_change_the_user() {
        let status =
            |uid: u32, caps: &str| format!("Name:\tchiron\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nCapEff:\t{caps}\n");
        assert_eq!(may_change(&status(0, "000001ffffffffff")), Ok(()));
        assert!(may_change(&status(1000, "0000000000000000")).unwrap_err().contains("id 1000, expected root"));
        // What a container has by default.
        assert_eq!(may_change(&status(0, "00000000a80425fb")), Err("chiron lacks CAP_SYS_PTRACE".to_owned()));
        assert!(may_change("").unwrap_err().contains("cannot be read"));
    }
}
