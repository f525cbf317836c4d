//! Who may ask for a change (SEC-1): a pure decision over peer, headers and settings.
//!
//! **Invariant:** every token is compared as a hash, in constant time, and none ends the comparison early.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::http::uri::{Authority, Uri};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};

use super::Settings;
use super::problem::Problem;

type Digest = [u8; 32];

fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

/// What the settings say about access.
#[derive(Debug, Default)]
pub(super) struct Access {
    tokens: Vec<Digest>,
    external_host: Option<String>,
}

impl Access {
    pub(super) fn new(settings: &Settings) -> Self {
        let external = settings.external_url.as_ref().and_then(|url| url.parse::<Uri>().ok());
        Self {
            tokens: settings.bearer_tokens.iter().map(|token| digest(token.as_bytes())).collect(),
            external_host: external.and_then(|url| url.host().map(str::to_ascii_lowercase)),
        }
    }
}

/// Lets a reload change the tokens and the external address of a server that is running.
#[derive(Clone, Debug)]
pub struct AccessControl(pub(super) Arc<ArcSwap<Access>>);

impl AccessControl {
    pub(super) fn new(settings: &Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Access::new(settings))))
    }

    /// Takes `bearer_tokens` and `external_url` over; the rest of the settings needs a restart.
    pub fn replace(&self, settings: &Settings) {
        self.0.store(Arc::new(Access::new(settings)));
    }
}

/// What a request says about where it comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presented<'a> {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    pub(super) headers: &'a HeaderMap,
    /// The authority of an HTTP/2 request, which stands for its Host header.
    pub(super) authority: Option<&'a str>,
}

/// By which right a request was let through; told to the audit as who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Loopback,
    Token,
}

impl Right {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Token => "bearer token",
        }
    }
}

/// A request that changes something: from loopback, or with one of the tokens.
pub(super) fn changing(request: Presented<'_>, access: &Access) -> Result<Right, Problem> {
    let right = match token(request.headers)? {
        Some(token) if matches_any(&token, &access.tokens) => Right::Token,
        Some(_) => return Err(unauthenticated("the bearer token is not one of the configured ones")),
        None if is_local(request) => Right::Loopback,
        None if access.tokens.is_empty() => {
            return Err(forbidden(
                "changing requests are taken on loopback only; set `web.bearer_token_file` to take them from elsewhere",
            ));
        }
        None => return Err(unauthenticated("a bearer token is needed for a change from off loopback")),
    };
    not_from_a_foreign_page(request, access, right)?;
    Ok(right)
}

/// A notification: with the webhook's own token from everyone if it has one, else from loopback.
pub(super) fn webhook(request: Presented<'_>, tokens: &[String], access: &Access) -> Result<Right, Problem> {
    let right = if tokens.is_empty() {
        if !is_local(request) {
            return Err(forbidden(
                "notifications are taken on loopback only; set `alerts.webhook.bearer_token_file` to take them from \
                 elsewhere",
            ));
        }
        Right::Loopback
    } else {
        let digests: Vec<Digest> = tokens.iter().map(|token| digest(token.as_bytes())).collect();
        match token(request.headers)? {
            Some(token) if matches_any(&token, &digests) => Right::Token,
            Some(_) => return Err(unauthenticated("the bearer token is not the webhook's")),
            None => return Err(unauthenticated("the webhook's bearer token is needed")),
        }
    };
    not_from_a_foreign_page(request, access, right)?;
    Ok(right)
}

/// Loopback, and not merely a proxy on loopback that passes on what others say.
fn is_local(request: Presented<'_>) -> bool {
    const PASSED_ON: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
    request.peer.to_canonical().is_loopback() && !PASSED_ON.iter().any(|name| request.headers.contains_key(*name))
}

/// The hash of the bearer token, if the request has credentials at all.
fn token(headers: &HeaderMap) -> Result<Option<Digest>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let split = value.as_bytes().split_at_checked(7);
    match split {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") && values.next().is_none() => {
            Ok(Some(digest(token.trim_ascii())))
        }
        _ => Err(unauthenticated("the Authorization header has another form than one `Bearer TOKEN`")),
    }
}

fn matches_any(token: &Digest, known: &[Digest]) -> bool {
    known.iter().fold(Choice::from(0), |found, one| found | one.ct_eq(token)).into()
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

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
        .with(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"chiron\""))
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "127.0.0.1";
    const AWAY: &str = "192.0.2.7";

    fn decide(
        rule: impl Fn(Presented<'_>, &Access) -> Result<Right, Problem>,
        peer: &str,
        headers: &[(&'static str, &'static str)],
        tokens: &[&str],
    ) -> Result<Right, &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let access = Access::new(&Settings {
            listen: Vec::new(),
            external_url: Some("https://Chiron.example:8443/x".to_owned()),
            telemetry_path: "/metrics".to_owned(),
            bearer_tokens: tokens.iter().map(|token| (*token).to_owned()).collect(),
            body_max: 1,
            connections_max: 1,
        });
        let presented = Presented { peer: peer.parse().unwrap(), headers: &map, authority: None };
        rule(presented, &access).map_err(|problem| problem.code)
    }

    /// SEC-1: without credentials changes are taken on loopback only; with a token, from elsewhere too.
    #[test]
    fn changes_need_loopback_or_a_token() {
        let good = ("authorization", "Bearer s3cret");
        let other = ("authorization", "bearer second");
        let bad = ("authorization", "Bearer s3cre");
        let both = ["s3cret", "second"];
        type Case<'a> = (&'a str, &'a [(&'static str, &'static str)], &'a [&'a str], Result<Right, &'static str>);
        let cases: &[Case<'_>] = &[
            (HERE, &[], &[], Ok(Right::Loopback)),
            ("::1", &[], &[], Ok(Right::Loopback)),
            ("::ffff:127.0.0.1", &[], &[], Ok(Right::Loopback)),
            ("127.8.8.8", &[], &both, Ok(Right::Loopback)),
            (AWAY, &[], &[], Err("forbidden")),
            ("::", &[], &[], Err("forbidden")),
            (AWAY, &[], &both, Err("unauthenticated")),
            (AWAY, &[good], &both, Ok(Right::Token)),
            (AWAY, &[other], &both, Ok(Right::Token)),
            (AWAY, &[bad], &both, Err("unauthenticated")),
            (AWAY, &[good], &[], Err("unauthenticated")),
            (HERE, &[bad], &both, Err("unauthenticated")),
            (HERE, &[good], &both, Ok(Right::Token)),
            (AWAY, &[("authorization", "Bearer ")], &both, Err("unauthenticated")),
            (AWAY, &[("authorization", "Basic czNjcmV0")], &both, Err("unauthenticated")),
            (AWAY, &[("authorization", "B")], &both, Err("unauthenticated")),
            (AWAY, &[good, bad], &both, Err("unauthenticated")),
            (HERE, &[("x-forwarded-for", "192.0.2.7")], &[], Err("forbidden")),
            (HERE, &[("forwarded", "for=192.0.2.7")], &both, Err("unauthenticated")),
            (HERE, &[("x-forwarded-for", "192.0.2.7"), good], &both, Ok(Right::Token)),
        ];
        for (peer, headers, tokens, expected) in cases {
            assert_eq!(decide(changing, peer, headers, tokens), *expected, "{peer} {headers:?} {tokens:?}");
        }
    }

    /// SEC-1: the webhook has a credential of its own; once configured it is needed from everyone.
    #[test]
    fn the_webhook_has_its_own_credential() {
        let own = ("authorization", "Bearer hook");
        let api = ("authorization", "Bearer api");
        type Case<'a> = (&'a str, &'a [(&'static str, &'static str)], &'a [&'a str], Result<Right, &'static str>);
        let cases: &[Case<'_>] = &[
            (HERE, &[], &[], Ok(Right::Loopback)),
            (AWAY, &[], &[], Err("forbidden")),
            (AWAY, &[api], &[], Err("forbidden")),
            (HERE, &[], &["hook"], Err("unauthenticated")),
            (HERE, &[own], &["hook"], Ok(Right::Token)),
            (AWAY, &[own], &["hook"], Ok(Right::Token)),
            (AWAY, &[api], &["hook"], Err("unauthenticated")),
            (HERE, &[("origin", "http://evil.example"), ("host", "127.0.0.1:19913")], &[], Err("foreign_origin")),
            (AWAY, &[own, ("host", "chiron:19913")], &["hook"], Ok(Right::Token)),
        ];
        for (peer, headers, hook, expected) in cases {
            let hook: Vec<String> = hook.iter().map(|token| (*token).to_owned()).collect();
            let rule = |presented: Presented<'_>, access: &Access| webhook(presented, &hook, access);
            assert_eq!(decide(rule, peer, headers, &["api"]), *expected, "{peer} {headers:?} {hook:?}");
        }
    }

    /// SEC-1: a page of another origin and a rebound name cannot use the operator's browser.
    #[test]
    fn a_browser_cannot_be_talked_into_a_change() {
        let ok = Ok(Right::Loopback);
        let origin = Err("foreign_origin");
        let host = Err("foreign_host");
        type Case<'a> = (&'a [(&'static str, &'static str)], Result<Right, &'static str>);
        let cases: &[Case<'_>] = &[
            (&[("host", "127.0.0.1:19913")], ok),
            (&[("host", "[::1]:19913")], ok),
            (&[("host", "localhost:19913")], ok),
            (&[("host", "LOCALHOST")], ok),
            (&[("host", "chiron.example")], ok),
            (&[("host", "evil.example:19913")], host),
            (&[("host", "127.0.0.1.evil.example")], host),
            (&[("host", "localhost@evil.example")], host),
            (&[("host", "evil.example@localhost")], host),
            (&[("host", "")], host),
            (&[("host", "localhost"), ("host", "evil.example")], Err("invalid")),
            (&[("host", "localhost:1"), ("origin", "http://localhost:1")], ok),
            (&[("host", "localhost:1"), ("origin", "http://localhost:2")], origin),
            (&[("host", "localhost:1"), ("origin", "http://evil.example")], origin),
            (&[("host", "localhost:1"), ("origin", "null")], origin),
            (&[("origin", "http://localhost:1")], origin),
            (&[("host", "evil.example"), ("origin", "http://evil.example")], host),
        ];
        for (headers, expected) in cases {
            assert_eq!(decide(changing, HERE, headers, &[]), *expected, "{headers:?}");
        }
    }
}
