//! Who asks, and may they (SEC-1)? A pure decision over need, peer, credential and settings.
//!
//! In: what [`super::need`] says a request needs, and what it presents: address, headers, a bearer token, a user whose
//! password was found right, a verified client certificate. Out: the [`Caller`], or the problem.
//!
//! **Invariant:** every token is compared as a hash, in constant time, and none ends the comparison early; what is
//! presented counts: a credential that is wrong or too weak is never made up for by the address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::model::{Caller, Role};

use super::certificate::Names;
use super::need::{Group, Need};
use super::problem::Problem;
use super::settings::{RateLimit, Settings, Signing};

pub(super) type Digest = [u8; 32];

pub(super) fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

#[derive(Debug)]
struct Token {
    name: String,
    role: Role,
    digest: Digest,
}

/// What the settings say about access.
#[derive(Debug, Default)]
pub(super) struct Access {
    tokens: Vec<Token>,
    user_roles: BTreeMap<String, Role>,
    certificate_roles: BTreeMap<String, Role>,
    loopback: bool,
    anonymous_read: bool,
    external_host: Option<String>,
    pub(super) allow: BTreeMap<Group, Vec<IpNet>>,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) rate_limits: BTreeMap<Group, RateLimit>,
    pub(super) signing: Option<Signing>,
}

impl Access {
    pub(super) fn new(settings: &Settings) -> Self {
        let external = settings.external_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
        let web = settings.bearer_tokens.iter().map(|token| ("web", Role::Admin, token.as_str()));
        let named = settings
            .tokens
            .iter()
            .flat_map(|token| token.secrets.iter().map(|secret| (token.name.as_str(), token.role, secret.expose())));
        Self {
            tokens: web
                .chain(named)
                .map(|(name, role, token)| Token { name: name.to_owned(), role, digest: digest(token.as_bytes()) })
                .collect(),
            user_roles: settings.user_roles.clone(),
            certificate_roles: settings.certificate_roles.clone(),
            loopback: settings.loopback,
            anonymous_read: settings.anonymous_read,
            external_host: external.and_then(|url| url.host().map(str::to_ascii_lowercase)),
            allow: settings.allow.clone(),
            trusted_proxies: settings.trusted_proxies.clone(),
            rate_limits: settings.rate_limits.clone(),
            signing: settings.signing.clone(),
        }
    }

    fn is_proxy(&self, address: &IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(address))
    }

    /// Whether a request of this group is let through without a look at its credential.
    pub(super) fn is_open(&self, group: Group, users: bool) -> bool {
        !users
            && match group {
                Group::Probes => true,
                Group::Metrics | Group::Read => self.anonymous_read,
                Group::Push | Group::Change | Group::Webhook => false,
            }
    }
}

/// The credential of a request, after the password of a user was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// No Authorization header.
    None,
    /// The hash of a bearer token.
    Bearer(Digest),
    /// A user whose password is right.
    User(String),
    /// Anything else, and what is wrong with it.
    Wrong(&'static str),
}

/// What a request presents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presented<'a> {
    /// The other end of the connection, or the client behind trusted proxies.
    pub(super) peer: IpAddr,
    /// The other end of the connection itself.
    pub(super) socket: IpAddr,
    pub(super) headers: &'a HeaderMap,
    /// The authority of an HTTP/2 request, which stands for its Host header.
    pub(super) authority: Option<&'a str>,
    pub(super) credential: &'a Credential,
    /// Of a client certificate that was verified.
    pub(super) certificate: Option<&'a Names>,
}

/// What else the decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    pub(super) access: &'a Access,
    /// Whether the web configuration file has users; then every request needs a credential.
    pub(super) users: bool,
    /// The webhook's own tokens.
    pub(super) hook_tokens: &'a [String],
    /// Whether notifications must be signed, which is a credential too.
    pub(super) hook_signed: bool,
}

/// By which right a request was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Anonymous,
    Loopback,
    Credential,
}

/// Who asks, by which right; or why not.
pub(super) fn decide(need: Need, request: Presented<'_>, rules: Rules<'_>) -> Result<(Caller, Right), Problem> {
    if rules.access.is_open(need.group, rules.users) {
        // A page can make up every header but a token, a proxy's too: it is the connection that counts.
        let known = request.credential != &Credential::None && identity(request, rules).is_ok();
        if need.group == Group::Read && request.socket.to_canonical().is_loopback() && !known {
            not_from_a_foreign_page(request, rules.access, Right::Loopback)?;
        }
        return Ok((Caller { name: request.peer.to_canonical().to_string(), role: Role::Read }, Right::Anonymous));
    }
    let (caller, right) =
        if need.group == Group::Webhook { webhook(need, request, rules)? } else { general(need, request, rules)? };
    let changes = matches!(need.group, Group::Change | Group::Push | Group::Webhook);
    if changes || (need.group == Group::Read && right == Right::Loopback) {
        not_from_a_foreign_page(request, rules.access, right)?;
    }
    Ok((caller, right))
}

fn general(need: Need, request: Presented<'_>, rules: Rules<'_>) -> Result<(Caller, Right), Problem> {
    if let Some(identity) = identity(request, rules)? {
        return identity.sufficient(need.role);
    }
    if let Some(local) = local(request, rules) {
        return Ok(local);
    }
    if rules.users || !rules.access.tokens.is_empty() || !matches!(need.group, Group::Change | Group::Push) {
        return Err(unauthenticated(rules.users, "a credential is needed: a user's password or a bearer token"));
    }
    Err(forbidden(
        "changing requests are taken on loopback only; set `web.bearer_token_file` to take them from elsewhere",
    ))
}

/// A notification: by the webhook's own credential if it has one, else by any that may operate, a certificate, loopback.
fn webhook(need: Need, request: Presented<'_>, rules: Rules<'_>) -> Result<(Caller, Right), Problem> {
    let own = |name: &str| Ok((Caller { name: name.to_owned(), role: need.role }, Right::Credential));
    if !rules.hook_tokens.is_empty() {
        let found = |given: &Digest| {
            let known = rules.hook_tokens.iter().map(|token| digest(token.as_bytes()));
            bool::from(known.fold(Choice::from(0), |found, one| found | one.ct_eq(given)))
        };
        return match request.credential {
            Credential::Bearer(given) if found(given) => own("webhook token"),
            Credential::None => Err(unauthenticated(false, "the webhook's bearer token is needed")),
            _ => Err(unauthenticated(false, "the credential is not the webhook's bearer token")),
        };
    }
    if rules.hook_signed {
        return own("webhook signature");
    }
    match identity(request, rules)? {
        Some(identity) if identity.kind == Kind::Certificate => return Ok((identity.caller(), Right::Credential)),
        Some(identity) => return identity.sufficient(need.role),
        None => {}
    }
    if let Some(names) = request.certificate {
        return own(&format!("{} (certificate)", names.shown()));
    }
    if let Some(local) = local(request, rules) {
        return Ok(local);
    }
    if rules.users {
        return Err(unauthenticated(
            true,
            "a credential is needed: a user's password, a bearer token or a certificate",
        ));
    }
    Err(forbidden(
        "notifications are taken on loopback only; set `alerts.webhook.bearer_token_file` to take them from elsewhere",
    ))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Token,
    User,
    Certificate,
}

/// Somebody with a credential that is right.
#[derive(Debug)]
struct Identity {
    name: String,
    role: Role,
    kind: Kind,
}

impl Identity {
    fn caller(self) -> Caller {
        Caller { name: self.name, role: self.role }
    }

    fn sufficient(self, needed: Role) -> Result<(Caller, Right), Problem> {
        if self.role >= needed {
            return Ok((self.caller(), Right::Credential));
        }
        let key = match self.kind {
            Kind::Token => "web.tokens",
            Kind::User => "web.user_roles",
            Kind::Certificate => "web.certificate_roles",
        };
        let Self { name, role, .. } = self;
        Err(forbidden(format!("`{name}` has the role `{role}`, and this needs `{needed}`, which `{key}` gives")))
    }
}

/// Who presents a credential; an error if it is a wrong one.
fn identity(request: Presented<'_>, rules: Rules<'_>) -> Result<Option<Identity>, Problem> {
    let access = rules.access;
    match request.credential {
        Credential::Bearer(given) => {
            let mut found = None;
            for token in &access.tokens {
                if bool::from(token.digest.ct_eq(given)) {
                    found = Some(token);
                }
            }
            let token = found
                .ok_or_else(|| unauthenticated(rules.users, "the bearer token is not one of the configured ones"))?;
            Ok(Some(Identity { name: format!("token {}", token.name), role: token.role, kind: Kind::Token }))
        }
        Credential::User(name) => {
            let role = access.user_roles.get(name).copied().unwrap_or(Role::Read);
            Ok(Some(Identity { name: format!("{name} (basic)"), role, kind: Kind::User }))
        }
        Credential::Wrong(why) => Err(unauthenticated(rules.users, why)),
        Credential::None => {
            let Some(names) = request.certificate else { return Ok(None) };
            let listed = names
                .alternative
                .iter()
                .filter_map(|name| access.certificate_roles.get(name).map(|role| (*role, name)))
                .max_by_key(|(role, _)| *role);
            match listed {
                Some((role, name)) => {
                    Ok(Some(Identity { name: format!("{name} (certificate)"), role, kind: Kind::Certificate }))
                }
                // Where there are users, a certificate that is not listed is no substitute for a password.
                None if rules.users => Ok(None),
                None => {
                    let name = format!("{} (certificate)", names.shown());
                    Ok(Some(Identity { name, role: Role::Read, kind: Kind::Certificate }))
                }
            }
        }
    }
}

/// Loopback without a credential is an admin, unless the settings say otherwise, there are users, or it is a proxy.
fn local(request: Presented<'_>, rules: Rules<'_>) -> Option<(Caller, Right)> {
    let address = request.peer.to_canonical();
    let access = rules.access;
    let proxied = [address, request.socket.to_canonical()].iter().any(|one| access.is_proxy(one));
    let local = access.loopback && !rules.users && address.is_loopback() && !proxied && !is_passed_on(request.headers);
    local.then(|| (Caller { name: format!("{address} (loopback)"), role: Role::Admin }, Right::Loopback))
}

/// What a proxy adds, as a rule.
const PASSED_ON: [&str; 8] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-client-ip",
    "cf-connecting-ip",
];

/// A proxy on loopback passes on what others say.
fn is_passed_on(headers: &HeaderMap) -> bool {
    PASSED_ON.iter().any(|name| headers.contains_key(*name))
}

/// Refuses what a browser was talked into: a page of another origin, or a name that was rebound to our address.
/// A browser cannot know a token, so that a token makes any name good.
fn not_from_a_foreign_page(request: Presented<'_>, access: &Access, right: Right) -> Result<(), Problem> {
    let host = host(request)?;
    for origin in request.headers.get_all(header::ORIGIN) {
        let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest);
        let same = authority.is_some_and(|origin| host.is_some_and(|host| origin.eq_ignore_ascii_case(host)));
        if !same {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "foreign_origin",
                format!("the request comes from a page of another origin, {origin:?}"),
            ));
        }
    }
    match host {
        Some(host) if right == Right::Loopback && !is_our_name(host, access) => Err(Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "foreign_host",
            format!("the Host `{host}` is no address, not localhost and not the host of `external_url`"),
        )),
        _ => Ok(()),
    }
}

/// The one name that the request uses for us; `None` in HTTP/1.0.
fn host<'a>(request: Presented<'a>) -> Result<Option<&'a str>, Problem> {
    let mut named = request.headers.get_all(header::HOST).iter();
    let host = match (named.next(), request.authority) {
        (Some(value), _) => Some(value.to_str().map_err(|_| Problem::invalid("the Host header is not text"))?),
        (None, authority) => authority,
    };
    if named.next().is_some() {
        return Err(Problem::invalid("there is more than one Host header"));
    }
    Ok(host)
}

fn is_our_name(host: &str, access: &Access) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !host.contains('@')
        && (bare.parse::<IpAddr>().is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || access.external_host.as_deref().is_some_and(|ours| name.eq_ignore_ascii_case(ours)))
}

/// 401. Where there are users, browsers are told to ask for a password.
fn unauthenticated(users: bool, detail: &str) -> Problem {
    let scheme = if users { "Basic realm=\"chiron\", Bearer realm=\"chiron\"" } else { "Bearer realm=\"chiron\"" };
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static(scheme))
}

fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

#[cfg(test)]
mod tests;
