//! `alerts.alertmanagers` and `alerts.send`: whom to ask and to tell, with which credentials (ALR-2, ALR-3, SEC-2, SEC-3).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::alerts::is_label;
use super::intake::{Intake, address, span};
use super::read::bounded;
use super::secret::bearer_tokens;
use crate::alerts::{Credentials, Sending, TARGETS_MAX, Target, outgoing};
use crate::base::secret::Secret;
use crate::base::tree::{FromNode, Node, Problems, Section, Value};

/// The largest file with a password, in bytes.
const PASSWORD_MAX: usize = 4096;
/// The largest file with certificates, in bytes.
const CERTIFICATES_MAX: usize = 1024 * 1024;

/// `alertmanagers`: addresses, or mappings with an address.
pub(super) fn targets(section: &mut Section<'_>, intake: &Intake<'_>) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for (index, node) in section.list("alertmanagers").iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of("alertmanagers"));
        let Some(target) = target(node, &path, section.problems(), intake) else { continue };
        if targets.iter().any(|earlier| earlier.url == target.url) {
            let rule = "expected each Alertmanager once";
            section.problems().push(node.at, &path, &node.shown(), rule, None);
            continue;
        }
        targets.push(target);
    }
    if targets.len() > TARGETS_MAX {
        section.reject("alertmanagers", &format!("expected at most {TARGETS_MAX} entries"), None);
    }
    targets
}

fn target(node: &Node, path: &str, problems: &Problems, intake: &Intake<'_>) -> Option<Target> {
    if !matches!(node.value, Value::Map(_)) {
        let text = String::take(node, path, problems)?;
        return match checked_address(&text) {
            Ok(url) => Some(plain(url)),
            Err((rule, hint)) => {
                problems.push(node.at, path, &node.shown(), &rule, hint);
                None
            }
        };
    }
    let mut section = Section::open(node, path, problems)?;
    let url = section.req::<String>("url").and_then(|text| match checked_address(&text) {
        Ok(url) => Some(url),
        Err((rule, hint)) => {
            section.reject("url", &rule, hint);
            None
        }
    });
    let token = bearer_tokens(&mut section, intake).into_iter().next();
    let basic = basic_auth(&mut section, intake);
    if token.is_some() && basic.is_some() {
        section.reject("basic_auth", "expected either `bearer_token_file` or `basic_auth`", None);
    }
    let ca_pem = certificates(&mut section, intake);
    let insecure_skip_verify = section.or("insecure_skip_verify", false);
    if insecure_skip_verify {
        let text =
            "the certificate of this Alertmanager is not verified: whoever stands between can read and forge alerts";
        intake.warn_key(&mut section, "insecure_skip_verify", text);
    }
    section.finish();
    let credentials = match (token, basic) {
        (Some(token), _) => Credentials::Bearer(Secret::new(token)),
        (None, Some(basic)) => basic,
        (None, None) => Credentials::None,
    };
    Some(Target { credentials, ca_pem, insecure_skip_verify, ..plain(url?) })
}

fn plain(url: String) -> Target {
    let name = url.as_str().into();
    Target { name, url, credentials: Credentials::None, ca_pem: None, insecure_skip_verify: false }
}

/// An address without credentials: those have keys of their own, and come from files.
fn checked_address(text: &str) -> Result<String, super::intake::Refusal> {
    let url = address(text)?;
    let holds_credentials =
        reqwest::Url::parse(&url).is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
    if holds_credentials {
        let hint = "write {url: ..., basic_auth: {username: ..., password_file: ...}}";
        return Err(("expected an address without credentials".to_owned(), Some(hint.to_owned())));
    }
    Ok(url)
}

fn basic_auth(section: &mut Section<'_>, intake: &Intake<'_>) -> Option<Credentials> {
    let mut section = section.section("basic_auth")?;
    let username = section.req::<String>("username");
    let file = section.req::<PathBuf>("password_file");
    let password = file.and_then(|named| match bounded(&intake.folder.join(&named), PASSWORD_MAX) {
        Ok((bytes, mode)) => {
            if mode & 0o007 != 0 {
                let text = format!("`{}` is open to every user of this machine: chmod o-rwx it", named.display());
                intake.warn_key(&mut section, "password_file", &text);
            }
            let text = String::from_utf8(bytes).ok().map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
            let text = text.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
            if text.is_none() {
                section.reject("password_file", "expected a file with one line of text", None);
            }
            text
        }
        Err(found) => {
            let rule = format!("expected a readable file with a password, but there is {found}");
            section.reject("password_file", &rule, None);
            None
        }
    });
    if username.as_ref().is_some_and(|name| name.is_empty() || name.contains(':')) {
        section.reject("username", "expected a name without `:`", None);
    }
    section.finish();
    Some(Credentials::Basic { username: username?, password: Secret::new(password?) })
}

fn certificates(section: &mut Section<'_>, intake: &Intake<'_>) -> Option<Vec<u8>> {
    let named = section.opt::<PathBuf>("ca_file")?;
    let rule = match bounded(&intake.folder.join(&named), CERTIFICATES_MAX) {
        Ok((bytes, _)) => match reqwest::Certificate::from_pem_bundle(&bytes) {
            Ok(found) if !found.is_empty() => return Some(bytes),
            _ => "expected a file with certificates in PEM".to_owned(),
        },
        Err(found) => format!("expected a readable file with certificates in PEM, but there is {found}"),
    };
    section.reject("ca_file", &rule, None);
    None
}

/// `send`.
pub(super) fn sending(section: &mut Section<'_>, intake: &Intake<'_>, nobody: bool) -> Sending {
    let mut sending = Sending::default();
    let Some(mut section) = section.section("send") else { return sending };
    sending.enabled = section.or("enabled", true);
    sending.resend_interval = span(&mut section, "resend_interval", sending.resend_interval);
    sending.labels = section.or("labels", BTreeMap::new());
    if let Some(label) =
        sending.labels.keys().find(|label| !is_label(label) || outgoing::RESERVED.contains(&label.as_str()))
    {
        let rule = format!("expected label names that chiron does not set itself, but there is `{label}`");
        section.reject("labels", &rule, None);
    }
    if nobody && sending.enabled && section.has("enabled") {
        intake.warn_key(&mut section, "enabled", "nothing is sent without an entry in `alertmanagers`");
    }
    section.finish();
    sending
}
