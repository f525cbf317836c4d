//! The file that says who asks: `--credentials`.
//!
//! ```yaml
//! bearer_token_file: token       # or bearer_token
//! # username: alice              # or basic auth, with password_file or password
//! # password_file: password
//! # ca_file: ca.pem              # whom to believe, besides nobody else
//! # client_cert_file: me.pem     # with client_key_file
//! # client_key_file: me.key
//! # signing_secret_file: secret  # sign every request (SEC-2)
//! # insecure_skip_verify: false
//! ```
//!
//! **Invariant:** no secret is ever told, not in a message and not in `Debug`.
#![expect(clippy::disallowed_methods, reason = "looks at who may read the file")]

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::base::files;
use crate::base::tree::{FromNode, Problems, Section, parse};

/// The largest of these files, in bytes.
const FILE_MAX: u64 = 256 * 1024;

/// How to log in.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) enum Login {
    /// Not at all.
    #[default]
    None,
    /// With a bearer token.
    Bearer(String),
    /// With a name and a password.
    Basic(String, String),
}

/// What the file says.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    /// How to log in.
    pub(super) login: Login,
    /// Certificates to believe, PEM; only these if there are any.
    pub(super) authorities: Option<Vec<u8>>,
    /// Certificate and key to show, PEM.
    pub(super) identity: Option<Vec<u8>>,
    /// The secret that requests are signed with.
    pub(super) signing_secret: Option<Vec<u8>>,
    /// Believe any certificate.
    pub(super) insecure: bool,
    /// What is probably not as meant.
    pub(super) warnings: Vec<String>,
    /// The file, as it was named.
    pub(super) file: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads the file, or tells every mistake in it, one a line.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let expected = "expected a readable file with credentials; name another with --credentials";
        let (bytes, _) =
            files::read_bounded(path, FILE_MAX).map_err(|found| format!("`{shown}`: {found}, {expected}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}`: expected UTF-8 text"))?;
        let problems = Problems::new(path.to_string_lossy());
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut credentials = Self { file: Some(path.to_owned()), ..Self::default() };
        let mut secret_here = false;
        if let Some(root) = parse(&text, &problems)
            && let Some(mut section) = Section::open(&root, "", &problems)
        {
            let mut files = Files { folder: &folder, warnings: Vec::new() };
            secret_here = section.has("bearer_token") || section.has("password");
            credentials.login = login(&mut section, &mut files);
            credentials.authorities = files.bytes(&mut section, "ca_file", false);
            credentials.identity = identity(&mut section, &mut files);
            credentials.signing_secret = files.secret(&mut section, "signing_secret_file").map(String::into_bytes);
            credentials.insecure = section.or("insecure_skip_verify", false);
            section.finish();
            credentials.warnings = files.warnings;
        }
        let told: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
        if !told.is_empty() {
            return Err(told.join("\n"));
        }
        if secret_here {
            credentials.warnings.extend(open_to_others(path));
        }
        if credentials.insecure {
            credentials.warnings.push(format!("`{shown}`: insecure_skip_verify: any certificate is believed"));
        }
        Ok(credentials)
    }
}

fn login(section: &mut Section<'_>, files: &mut Files<'_>) -> Login {
    let token = either(section, files, "bearer_token", "bearer_token_file");
    let password = either(section, files, "password", "password_file");
    let name = section.opt::<String>("username");
    let has_password = section.has("password") || section.has("password_file");
    match (token, name, password) {
        (Some(_), Some(_), _) => {
            section.reject("username", "expected either a bearer token or a name and password", None);
            Login::None
        }
        (Some(token), None, _) => Login::Bearer(token),
        (None, Some(name), Some(password)) => Login::Basic(name, password),
        (None, Some(_), None) if !has_password => {
            section.reject("password_file", "missing, expected a file with the password of `username`", None);
            Login::None
        }
        (None, None, _) if has_password => {
            section.reject("username", "missing, expected the name that the password belongs to", None);
            Login::None
        }
        _ => Login::None,
    }
}

/// A secret that stands in the file itself or in another one, but not both.
fn either(
    section: &mut Section<'_>,
    files: &mut Files<'_>,
    key: &'static str,
    file_key: &'static str,
) -> Option<String> {
    let (here, there) = (section.has(key), section.has(file_key));
    if here && there {
        // Without `reject`, which would tell what was found.
        let at = section.position();
        let path = section.path_of(file_key);
        section.problems().push(at, &path, "", &format!("expected either `{key}` or `{file_key}`"), None);
        return None;
    }
    // Without `opt`, which would tell what was found.
    let inline = |section: &mut Section<'_>| section.node(key).map(|node| String::from_node(node).unwrap_or_default());
    let secret = if there { files.secret(section, file_key)? } else { inline(section)? };
    let legal = !secret.is_empty() && secret.chars().all(|c| !c.is_control());
    if !legal {
        let at = section.position();
        let path = section.path_of(if there { file_key } else { key });
        section.problems().push(at, &path, "", "expected one line of text that is not empty", None);
    }
    legal.then_some(secret)
}

fn identity(section: &mut Section<'_>, files: &mut Files<'_>) -> Option<Vec<u8>> {
    let (has_cert, has_key) = (section.has("client_cert_file"), section.has("client_key_file"));
    let certificate = files.bytes(section, "client_cert_file", false);
    let key = files.bytes(section, "client_key_file", true);
    if has_cert != has_key {
        let missing = if has_cert { "client_key_file" } else { "client_cert_file" };
        section.reject(missing, "missing, expected the certificate and its key", None);
    }
    let mut both = certificate?;
    both.push(b'\n');
    both.extend(key?);
    Some(both)
}

/// The files that a credentials file names; relative ones are below its folder.
struct Files<'a> {
    folder: &'a Path,
    warnings: Vec<String>,
}

impl Files<'_> {
    fn bytes(&mut self, section: &mut Section<'_>, key: &'static str, secret: bool) -> Option<Vec<u8>> {
        let path = self.folder.join(section.opt::<PathBuf>(key)?);
        match files::read_bounded(&path, FILE_MAX) {
            Ok((bytes, _)) => {
                if secret {
                    self.warnings.extend(open_to_others(&path));
                }
                Some(bytes)
            }
            Err(found) => {
                section.reject(key, &format!("expected a readable file, but it is {found}"), None);
                None
            }
        }
    }

    fn secret(&mut self, section: &mut Section<'_>, key: &'static str) -> Option<String> {
        let bytes = self.bytes(section, key, true)?;
        match String::from_utf8(bytes) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(_) => {
                section.reject(key, "expected a file of UTF-8 text", None);
                None
            }
        }
    }
}

fn open_to_others(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let text = "can be read by every user of this machine: chmod o-rwx it";
    (mode & 0o007 != 0).then(|| format!("`{}` {text}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// SPEC 14: credentials come from a file, and one that everybody can read is told of.
    #[test]
    fn a_file_gives_a_login_and_warns_of_others() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "token", " s3cret-token \n", 0o600);
        let path = write(dir.path(), "a.yml", "bearer_token_file: token\n", 0o644);
        let credentials = Credentials::load(&path).unwrap();
        assert!(credentials.login == Login::Bearer("s3cret-token".to_owned()));
        assert_eq!(credentials.warnings, Vec::<String>::new(), "the file itself holds no secret");
        assert!(!format!("{credentials:?}").contains("s3cret"));

        let path = write(dir.path(), "b.yml", "{username: alice, password: canary-1}\n", 0o644);
        let credentials = Credentials::load(&path).unwrap();
        assert!(credentials.login == Login::Basic("alice".to_owned(), "canary-1".to_owned()));
        assert_eq!(credentials.warnings.len(), 1);
        assert!(credentials.warnings[0].ends_with("chmod o-rwx it"), "{:?}", credentials.warnings);

        write(dir.path(), "open", "s3cret-token", 0o604);
        let path = write(dir.path(), "c.yml", "bearer_token_file: open\ninsecure_skip_verify: true\n", 0o600);
        assert_eq!(Credentials::load(&path).unwrap().warnings.len(), 2);
    }

    /// SEC-3: a mistake in the file is told without the secret.
    #[test]
    fn mistakes_are_told_without_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "token", "canary", 0o600);
        let table = [
            ("{bearer_token: canary, bearer_token_file: token}", "either `bearer_token` or `bearer_token_file`"),
            ("{bearer_token: canary, username: alice}", "either a bearer token or a name"),
            ("{username: alice}", "missing, expected a file with the password"),
            ("{password: canary}", "missing, expected the name"),
            ("{bearer_token: \"canary\\n2\"}", "one line of text"),
            ("{bearer_token: \"\"}", "one line of text"),
            ("{bearer_token: [canary]}", "one line of text"),
            ("{bearer_tokens: canary}", "did you mean `bearer_token`?"),
            ("{bearer_token_file: nowhere}", "expected a readable file, but it is missing"),
            ("{client_cert_file: token}", "client_key_file: missing"),
            ("{bearer_tokn_file: token}", "bearer_token_file"),
        ];
        for (text, expected) in table {
            let path = write(dir.path(), "bad.yml", text, 0o600);
            let told = Credentials::load(&path).expect_err(text);
            assert!(told.contains(expected), "{text}: {told}");
            assert!(!told.contains("canary"), "{text}: {told}");
        }
        assert!(Credentials::load(&dir.path().join("none")).expect_err("none").contains("missing"));
    }
}
