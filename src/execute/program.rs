//! Whether the kernel would execute what stands at a path: found, marked executable, of a format and for a machine that
//! it knows, with an interpreter that is there.
//!
//! **Invariant:** reads only, and only the first bytes; says what is wrong, never that all will be well.
#![expect(clippy::disallowed_methods, reason = "looks at programs before they are needed, every read bounded")]

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::identity::Identity;

/// What the kernel itself reads of a program to tell how to execute it.
const HEAD_BYTES: u64 = 256;

/// How many interpreters may stand one behind the other.
const DEPTH_MAX: u32 = 5;

/// Why the program could not be executed now, by chiron itself or by `user`.
pub(super) fn unusable(program: &Path, user: Option<&Identity>) -> Option<String> {
    let shown = program.display();
    let metadata = match std::fs::metadata(program) {
        Err(error) => return Some(format!("`{shown}` cannot be executed: {error}")),
        Ok(metadata) if !metadata.is_file() => {
            return Some(format!("`{shown}` is not a regular file, expected a program"));
        }
        Ok(metadata) => metadata,
    };
    let allowed = match user {
        None => rustix::fs::access(program, rustix::fs::Access::EXEC_OK).map_err(|error| error.to_string()),
        Some(user) if may_execute(metadata.mode(), (metadata.uid(), metadata.gid()), user) => Ok(()),
        Some(_) => Err("Permission denied".to_owned()),
    };
    if let Err(why) = allowed {
        return Some(format!("`{shown}` cannot be executed: {why}; is it marked executable?"));
    }
    bad_format(program, 0)
}

/// Whether the permission bits let a user execute a file; supplementary groups are none.
fn may_execute(mode: u32, (owner, group): (u32, u32), user: &Identity) -> bool {
    let bit = match user {
        Identity { uid: 0, .. } => 0o111,
        Identity { uid, .. } if *uid == owner => 0o100,
        Identity { gid, .. } if *gid == group => 0o010,
        _ => 0o001,
    };
    mode & bit != 0
}

/// Why the kernel would not execute the file, as far as its first bytes tell. One that cannot be read is not judged.
pub(super) fn bad_format(program: &Path, depth: u32) -> Option<String> {
    let shown = program.display();
    let begins = head(program)?;
    if let Some(line) = begins.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let interpreter = line.split(|byte| matches!(byte, b' ' | b'\t' | 0)).find(|word| !word.is_empty());
        let interpreter = interpreter.map(String::from_utf8_lossy).unwrap_or_default();
        let path = Path::new(interpreter.as_ref());
        return match std::fs::metadata(path) {
            Err(error) => Some(format!("`{shown}` cannot be executed: its interpreter `{interpreter}`: {error}")),
            Ok(_) if depth < DEPTH_MAX => bad_format(path, depth + 1),
            Ok(_) => Some(format!("`{shown}` cannot be executed: more than {DEPTH_MAX} interpreters")),
        };
    }
    match (machine(&begins), head(Path::new("/proc/self/exe")).as_deref().and_then(machine)) {
        (None, _) => Some(format!("`{shown}` is neither a program of this machine nor a script that begins with `#!`")),
        (Some(theirs), Some(ours)) if theirs != ours => {
            Some(format!("`{shown}` is a program for another machine than this one"))
        }
        _ => None,
    }
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Word size, byte order and machine of an ELF program.
fn machine(head: &[u8]) -> Option<[u8; 4]> {
    let rest = head.strip_prefix(b"\x7fELF")?;
    Some([*rest.first()?, *rest.get(1)?, *rest.get(14)?, *rest.get(15)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(folder: &Path, name: &str, content: &[u8]) -> std::path::PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// ACT-2: what would not start at 3 am is said beforehand.
    #[test]
    fn what_the_kernel_refuses_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let says = |name: &str, content: &[u8]| unusable(&program(folder.path(), name, content), None);
        assert_eq!(says("good", b"#!/bin/sh\nexit 0\n"), None);
        assert_eq!(says("blanks", b"#! /bin/sh -e\nexit 0\n"), None);
        assert_eq!(unusable(Path::new("/bin/true"), None), None);
        assert!(
            says("gone", b"#!/no/such/python\n").unwrap().contains("its interpreter `/no/such/python`: No such file")
        );
        assert!(says("empty", b"").unwrap().contains("neither a program"));
        assert!(says("text", b"echo hello\n").unwrap().contains("begins with `#!`"));
        let mut elf = std::fs::read("/proc/self/exe").unwrap()[..64].to_vec();
        assert!(says("torn", &elf[..6]).unwrap().contains("neither a program"));
        elf[18..20].copy_from_slice(&0xfe_u16.to_le_bytes());
        assert!(says("foreign", &elf).unwrap().contains("for another machine"));
        let own = folder.path().join("loop");
        let line = format!("#!{}\n", own.display());
        assert!(says("loop", line.as_bytes()).unwrap().contains("more than 5 interpreters"));
    }

    #[test]
    fn the_bits_that_count_are_those_of_the_user() {
        let user = |uid, gid| Identity { uid, gid, home: String::new() };
        for (mode, uid, gid, expected) in [
            (0o700, 5, 9, true),
            (0o077, 5, 9, false),
            (0o010, 6, 7, true),
            (0o701, 6, 7, false),
            (0o001, 6, 9, true),
            (0o770, 6, 9, false),
            (0o010, 0, 0, true),
            (0o666, 0, 0, false),
        ] {
            assert_eq!(may_execute(mode, (5, 7), &user(uid, gid)), expected, "{mode:o} {uid} {gid}");
        }
    }
}
