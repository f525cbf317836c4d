//! The exporter-toolkit's web configuration file (SEC-1): the same keys, the same rules, every mistake with its place.
//!
//! Flow: file -> `base::tree` -> [`WebConfig`], or every problem. The files that it names are read with it, and all are
//! looked at again for changes by their content, so that a rotated certificate or a new user needs no reload.
//!
//! **Invariant:** a problem never shows what a secret key holds; a file with a problem gives no part of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::base::files::read_bounded;
use crate::base::tree::{FromNode as _, Position, Problems, SIZE_MAX, Section, Value, parse};
use crate::model::Problem;

use super::settings::RateLimit;
use super::tls::{ClientAuth, Part, Tls, Wanted, build};

/// The largest certificate or key file, in bytes.
const PEM_MAX: u64 = 1024 * 1024;

/// The dearest hash of a password: each step doubles the time, and 16 takes seconds.
const COST_MAX: u32 = 15;

/// The five headers that may be set, and the values they may have if only some are allowed.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];

/// What the file says, whole and right.
#[derive(Debug)]
pub(super) struct WebConfig {
    pub(super) tls: Option<Tls>,
    pub(super) http2: bool,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The bcrypt hash of each user's password.
    pub(super) users: BTreeMap<String, String>,
    pub(super) rate_limit: Option<RateLimit>,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self { tls: None, http2: true, headers: Vec::new(), users: BTreeMap::new(), rate_limit: None }
    }
}

/// The content of every file that was read, as hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Print(Vec<(PathBuf, [u8; 32])>);

impl Print {
    /// Whether any of the files has another content by now.
    pub(super) fn is_outdated(&self) -> bool {
        self.0.iter().any(|(path, known)| hash(&content(path, PEM_MAX)) != *known)
    }
}

fn content(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    read_bounded(path, max).map(|(bytes, _)| bytes).map_err(|problem| problem.to_string())
}

fn hash(content: &Result<Vec<u8>, String>) -> [u8; 32] {
    match content {
        Ok(bytes) => Sha256::digest(bytes).into(),
        Err(problem) => Sha256::digest(format!("\0{problem}")).into(),
    }
}

/// Every problem of the web configuration file at `path`, which is named `shown` in them; none if it is right.
pub fn check(path: &Path, shown: &str) -> Result<(), Vec<Problem>> {
    load(path, shown).0.map(|_| ())
}

/// The file at `path`, which is named `shown` in problems, and what was read.
pub(super) fn load(path: &Path, shown: &str) -> (Result<WebConfig, Vec<Problem>>, Print) {
    let problems = Problems::new(shown);
    let mut reader = Reader { folder: path.parent().unwrap_or(Path::new("")).to_owned(), print: Print::default() };
    let text = match reader.read(path, SIZE_MAX as u64) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "no UTF-8 text".to_owned()),
        Err(found) => Err(found),
    };
    let parsed = match text {
        Ok(text) => parse(&text, &problems),
        Err(found) => {
            problems.push(Position::default(), "", &found, "expected a readable web configuration file", None);
            None
        }
    };
    let config = parsed.and_then(|root| Some(take(Section::open(&root, "", &problems)?, &mut reader)));
    let result = match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems.into_vec()),
    };
    (result, reader.print)
}

/// Reads the files, and remembers what it read.
struct Reader {
    folder: PathBuf,
    print: Print,
}

impl Reader {
    fn read(&mut self, path: &Path, max: u64) -> Result<Vec<u8>, String> {
        let found = content(path, max);
        self.print.0.push((path.to_owned(), hash(&found)));
        found
    }
}

fn take(mut top: Section<'_>, reader: &mut Reader) -> WebConfig {
    let mut config = WebConfig::default();
    if let Some(mut section) = top.section("http_server_config") {
        config.http2 = section.or("http2", true);
        config.headers = headers(&mut section);
        section.finish();
    }
    if let Some(section) = top.section("tls_server_config") {
        config.tls = tls(section, reader, config.http2);
    }
    for (name, _, node) in top.entries("basic_auth_users") {
        let path = format!("basic_auth_users.{name}");
        let reject = |rule: &str| {
            top.problems().push(node.at, &path, "", rule, Some("`htpasswd -nBC 10 \"\"` prints one".to_owned()))
        };
        let Value::Scalar { text, .. } = &node.value else {
            reject("expected the bcrypt hash of a password");
            continue;
        };
        match text.parse::<bcrypt::HashParts>() {
            Ok(parts) if (4..=COST_MAX).contains(&parts.get_cost()) => {
                drop(config.users.insert(name.clone(), text.clone()))
            }
            Ok(_) => reject(&format!("expected a bcrypt hash of cost 4 to {COST_MAX}")),
            Err(_) => reject("expected the bcrypt hash of a password"),
        }
    }
    if let Some(section) = top.section("rate_limit") {
        config.rate_limit = rate_limit(section);
    }
    top.finish();
    config
}

fn headers(section: &mut Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
    for (name, at, node) in section.entries("headers") {
        let path = format!("{}.{name}", section.path_of("headers"));
        let problems = section.problems();
        let Some((known, allowed)) = HEADERS.iter().find(|(known, _)| known == name) else {
            let rule = format!("expected one of the headers {}", names.join(", "));
            problems.push(*at, &path, name, &rule, problems.suggest(name, &names));
            continue;
        };
        let Some(text) = String::take(node, &path, problems) else { continue };
        if !allowed.is_empty() && !allowed.contains(&text.as_str()) {
            problems.push(node.at, &path, &text, &format!("expected {}", allowed.join(" or ")), None);
            continue;
        }
        match HeaderValue::from_str(&text) {
            Ok(value) => headers.push((HeaderName::from_bytes(known.as_bytes()).expect("the five are names"), value)),
            Err(_) => problems.push(node.at, &path, &node.shown(), "expected a header value on one line", None),
        }
    }
    headers
}

fn rate_limit(mut section: Section<'_>) -> Option<RateLimit> {
    let interval = section.or("interval", Duration::ZERO);
    let burst = section.or("burst", 1_u32);
    if section.has("interval") && (interval.is_zero() || interval > Duration::from_secs(86_400)) {
        section.reject("interval", "expected a duration such as 100ms, above 0 and at most 1d", None);
    }
    if burst == 0 {
        section.reject("burst", "expected at least 1: with 0 no request would be answered", None);
    }
    section.finish();
    // As in the toolkit, no interval is no limit.
    (!interval.is_zero()).then(|| RateLimit { per_second: 1.0 / interval.as_secs_f64(), burst })
}

/// What is there inline or in a file, under which key.
fn material(
    section: &mut Section<'_>,
    (inline, file): (&'static str, &'static str),
    reader: &mut Reader,
) -> Option<(&'static str, Vec<u8>)> {
    let text = section.opt::<String>(inline);
    let named = section.opt::<PathBuf>(file);
    if text.is_some() && named.is_some() {
        section.reject(file, &format!("expected one of `{inline}` and `{file}`, not both"), None);
        return None;
    }
    if let Some(text) = text {
        return Some((inline, text.into_bytes()));
    }
    let path = reader.folder.join(named?);
    match reader.read(&path, PEM_MAX) {
        Ok(bytes) => Some((file, bytes)),
        Err(found) => {
            section.reject(file, &format!("expected a readable file, but it: {found}"), None);
            None
        }
    }
}

fn tls(mut section: Section<'_>, reader: &mut Reader, http2: bool) -> Option<Tls> {
    let before = section.problems().len();
    let certificate = material(&mut section, ("cert", "cert_file"), reader);
    let key = material(&mut section, ("key", "key_file"), reader);
    let ca = material(&mut section, ("client_ca", "client_ca_file"), reader);
    let named = |given: &Option<(&'static str, Vec<u8>)>, default| given.as_ref().map_or(default, |(key, _)| *key);
    let keys = [named(&certificate, "cert_file"), named(&key, "key_file"), named(&ca, "client_ca_file")];
    let wanted = Wanted {
        client_auth: client_auth(&mut section, ca.is_some()),
        allowed_names: section.opt("client_allowed_sans"),
        versions: versions(&mut section),
        suites: section.has("cipher_suites").then(|| suites(&mut section)),
        groups: section.has("curve_preferences").then(|| groups(&mut section)),
        server_chooses: section.or("prefer_server_cipher_suites", true),
        http2,
        certificate: certificate.map(|(_, pem)| pem).unwrap_or_default(),
        key: key.map(|(_, pem)| pem).unwrap_or_default(),
        client_ca: ca.map(|(_, pem)| pem),
    };
    for (pem, inline, file) in [(&wanted.certificate, "cert", "cert_file"), (&wanted.key, "key", "key_file")] {
        if pem.is_empty() && !section.has(inline) && !section.has(file) {
            section.reject(file, &format!("missing, expected `{inline}` or `{file}`"), None);
        }
    }
    let mut built = None;
    if section.problems().len() == before {
        match build(&wanted) {
            Ok(tls) => built = Some(tls),
            Err((part, found)) => {
                let [certificate, key, ca] = keys;
                let (at_fault, what) = match part {
                    Part::Certificate => (certificate, "a certificate in PEM"),
                    Part::Key => (key, "the certificate's private key in PEM"),
                    Part::ClientCa => (ca, "the certificates of an authority in PEM"),
                    Part::Suites => ("cipher_suites", "a suite for each version of TLS"),
                };
                let at = section.node(at_fault).map_or(section.position(), |node| node.at);
                let rule = format!("expected {what}, but there is {found}");
                section.problems().push(at, &section.path_of(at_fault), "", &rule, None);
            }
        }
    }
    section.finish();
    built
}

fn client_auth(section: &mut Section<'_>, has_ca: bool) -> ClientAuth {
    use ClientAuth::*;
    let words = [
        ("NoClientCert", NoClientCert),
        ("RequestClientCert", RequestClientCert),
        ("RequireAnyClientCert", RequireAnyClientCert),
        ("VerifyClientCertIfGiven", VerifyClientCertIfGiven),
        ("RequireAndVerifyClientCert", RequireAndVerifyClientCert),
    ];
    // The toolkit keeps the older name, and takes an empty one.
    let older = match section.node("client_auth_type").map(|node| &node.value) {
        Some(Value::Scalar { text, .. }) if text == "RequireClientCert" => Some(RequireAnyClientCert),
        Some(Value::Scalar { text, .. }) if text.is_empty() => Some(NoClientCert),
        _ => None,
    };
    let given = older.or_else(|| section.word("client_auth_type", &words));
    let auth = given.unwrap_or_default();
    let named_ca = section.has("client_ca") || section.has("client_ca_file");
    if auth == NoClientCert && named_ca && (given.is_some() || !section.has("client_auth_type")) {
        section.reject("client_auth_type", "expected `RequireAndVerifyClientCert` beside a client CA", None);
    }
    if auth.verifies() && !has_ca && !named_ca {
        let rule = "missing, expected the authority by which certificates are verified; the system's are not taken";
        section.reject("client_ca_file", rule, None);
    }
    auth
}

fn versions(section: &mut Section<'_>) -> Vec<&'static rustls::SupportedProtocolVersion> {
    let mut version = |key: &'static str, default: u8| -> u8 {
        let old = match section.node(key).map(|node| &node.value) {
            Some(Value::Scalar { text, .. }) if matches!(text.as_str(), "TLS10" | "TLS11") => Some(text.clone()),
            _ => None,
        };
        if let Some(old) = old {
            section.reject(key, "expected TLS12 or TLS13", Some(format!("{old} is broken and not offered here")));
            return default;
        }
        section.word(key, &[("TLS12", 12), ("TLS13", 13)]).unwrap_or(default)
    };
    let (min, max) = (version("min_version", 12), version("max_version", 13));
    if min > max {
        section.reject("max_version", "expected no version below `min_version`", None);
    }
    let all = [(13, &rustls::version::TLS13), (12, &rustls::version::TLS12)];
    all.into_iter().filter(|(number, _)| (min..=max).contains(number)).map(|(_, version)| version).collect()
}

/// What of a list of Go's names the library has; the others are refused by name.
fn chosen<T: Copy>(section: &mut Section<'_>, key: &'static str, known: &[(&'static str, T)]) -> Vec<T> {
    let mut found = Vec::new();
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    for (index, node) in section.list(key).iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of(key));
        let Some(text) = String::take(node, &path, section.problems()) else { continue };
        match known.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => found.push(*value),
            None => {
                let rule = format!("expected one of {}", names.join(", "));
                section.problems().push(node.at, &path, &node.shown(), &rule, None);
            }
        }
    }
    found
}

fn suites(section: &mut Section<'_>) -> Vec<rustls::SupportedCipherSuite> {
    use rustls::crypto::ring::cipher_suite::*;
    let known = [
        ("TLS_AES_128_GCM_SHA256", TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ];
    chosen(section, "cipher_suites", &known)
}

fn groups(section: &mut Section<'_>) -> Vec<&'static dyn rustls::crypto::SupportedKxGroup> {
    use rustls::crypto::ring::kx_group::*;
    let found =
        chosen(section, "curve_preferences", &[("X25519", X25519), ("CurveP256", SECP256R1), ("CurveP384", SECP384R1)]);
    if found.is_empty() {
        section.reject("curve_preferences", "expected at least one of X25519, CurveP256, CurveP384", None);
    }
    found
}
