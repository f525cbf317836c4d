//! The matrix of who may ask for what.

use super::*;
use crate::base::secret::Secret;
use crate::http::NamedToken;
use crate::http::credentials::{Header, read};

const HERE: &str = "127.0.0.1";
const AWAY: &str = "192.0.2.7";
const READ: Need = Need { group: Group::Read, role: Role::Read };
const CHANGE: Need = Need { group: Group::Change, role: Role::Approve };
const HOOK: Need = Need { group: Group::Webhook, role: Role::Operate };

type Headers<'a> = &'a [(&'static str, &'static str)];

/// A request and the settings it meets.
#[derive(Clone, Default)]
struct Case<'a> {
    settings: Settings,
    users: bool,
    hook_tokens: Vec<String>,
    hook_signed: bool,
    headers: Headers<'a>,
    /// A user whose password was found right.
    user: Option<&'a str>,
    /// The other end of the connection, if the client is behind a proxy.
    socket: Option<&'a str>,
    /// Alternative names of a verified certificate of `CN=bot`.
    certificate: Option<&'a [&'a str]>,
}

impl Case<'_> {
    fn decide(&self, need: Need, peer: &str) -> Result<(Caller, Right), Problem> {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let credential = match (self.user, read(&map)) {
            (Some(user), _) => Credential::User(user.to_owned()),
            (None, Header::Plain(credential)) => credential,
            (None, Header::Basic(..)) => Credential::Wrong("the user or the password is wrong"),
        };
        let names = self.certificate.map(|names| Names {
            common: Some("bot".to_owned()),
            alternative: names.iter().map(|name| (*name).to_owned()).collect(),
        });
        let socket = self.socket.unwrap_or(peer).parse().unwrap();
        let peer = peer.parse().unwrap();
        let presented = Presented {
            peer,
            socket,
            headers: &map,
            authority: None,
            credential: &credential,
            certificate: names.as_ref(),
        };
        let access = Access::new(&self.settings);
        let rules =
            Rules { access: &access, users: self.users, hook_tokens: &self.hook_tokens, hook_signed: self.hook_signed };
        decide(need, presented, rules)
    }

    /// `NAME: ROLE`, or the code of the problem.
    fn told(&self, need: Need, peer: &str) -> String {
        match self.decide(need, peer) {
            Ok((caller, _)) => format!("{}: {}", caller.name, caller.role),
            Err(problem) => problem.code.to_owned(),
        }
    }
}

fn with_tokens(
    need: Need,
    peer: &str,
    headers: Headers<'_>,
    tokens: &[&str],
    hook: &[&str],
) -> Result<&'static str, &'static str> {
    let owned = |list: &[&str]| list.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>();
    let settings = Settings {
        external_url: Some("https://Chiron.example:8443/x".to_owned()),
        bearer_tokens: owned(tokens),
        ..Settings::default()
    };
    let case = Case { settings, headers, hook_tokens: owned(hook), ..Case::default() };
    match case.decide(need, peer) {
        Ok((_, Right::Loopback)) => Ok("loopback"),
        Ok((_, Right::Credential)) => Ok("credential"),
        Ok((_, Right::Anonymous)) => Ok("anonymous"),
        Err(problem) => Err(problem.code),
    }
}

fn token(name: &str, role: Role, secret: &str) -> NamedToken {
    NamedToken { name: name.to_owned(), role, secrets: vec![Secret::new("another"), Secret::new(secret)] }
}

/// SEC-1: each token has its role and its name; a refusal says which role is missing and which key gives it.
#[test]
fn tokens_have_roles() {
    let settings = Settings {
        bearer_tokens: vec!["root".to_owned()],
        tokens: vec![token("ci", Role::Operate, "c1"), token("boss", Role::Approve, "b0ss")],
        ..Settings::default()
    };
    let told = |headers: Headers<'_>, role: Role, group: Group| {
        Case { settings: settings.clone(), headers, ..Case::default() }.told(Need { group, role }, AWAY)
    };
    let (ci, boss) = (("authorization", "Bearer c1"), ("authorization", "Bearer b0ss"));
    let root = ("authorization", "Bearer root");
    assert_eq!(told(&[ci], Role::Operate, Group::Push), "token ci: operate");
    assert_eq!(told(&[ci], Role::Approve, Group::Change), "forbidden");
    assert_eq!(told(&[boss], Role::Approve, Group::Change), "token boss: approve");
    assert_eq!(told(&[boss], Role::Admin, Group::Change), "forbidden");
    assert_eq!(told(&[root], Role::Admin, Group::Change), "token web: admin");
    assert_eq!(told(&[("authorization", "Bearer another")], Role::Operate, Group::Push), "token boss: approve");
    let refused = Case { settings: settings.clone(), headers: &[ci], ..Case::default() }.decide(CHANGE, AWAY);
    assert_eq!(
        refused.unwrap_err().detail,
        "`token ci` has the role `operate`, and this needs `approve`, which `web.tokens` gives"
    );
    assert_eq!(told(&[ci], Role::Read, Group::Read), "192.0.2.7: read", "reading is open, and stays it");
}

/// SEC-1: with users every request needs a credential, on loopback too; a user that is not listed may only read.
#[test]
fn with_users_everybody_needs_a_credential() {
    let settings = Settings {
        bearer_tokens: vec!["root".to_owned()],
        user_roles: BTreeMap::from([("alice".to_owned(), Role::Approve)]),
        certificate_roles: BTreeMap::from([("ops.example".to_owned(), Role::Admin)]),
        ..Settings::default()
    };
    let case = Case { settings, users: true, ..Case::default() };
    let probes = Need { group: Group::Probes, role: Role::Read };
    let metrics = Need { group: Group::Metrics, role: Role::Read };
    for need in [probes, metrics, READ, CHANGE, HOOK] {
        for peer in [HERE, AWAY] {
            assert_eq!(case.told(need, peer), "unauthenticated", "{need:?} {peer}");
            let wrong = Case { headers: &[("authorization", "Basic YTpi")], ..case.clone() };
            assert_eq!(wrong.told(need, peer), "unauthenticated", "{need:?} {peer}");
            let problem = case.decide(need, peer).unwrap_err();
            assert!(format!("{problem:?}").contains("Basic realm"), "browsers are asked: {problem:?}");
        }
    }
    let (alice, bob) = (Case { user: Some("alice"), ..case.clone() }, Case { user: Some("bob"), ..case.clone() });
    assert_eq!(alice.told(READ, AWAY), "alice (basic): approve");
    assert_eq!(alice.told(CHANGE, AWAY), "alice (basic): approve");
    assert_eq!(alice.told(HOOK, AWAY), "alice (basic): approve");
    assert_eq!(bob.told(metrics, AWAY), "bob (basic): read");
    assert_eq!(bob.told(CHANGE, HERE), "forbidden", "what is presented counts, not the address");
    assert_eq!(bob.told(HOOK, AWAY), "forbidden");
    assert!(bob.decide(CHANGE, AWAY).unwrap_err().detail.ends_with("which `web.user_roles` gives"));
    let root = Case { headers: &[("authorization", "Bearer root")], ..case.clone() };
    assert_eq!(root.told(probes, AWAY), "token web: admin");
    let own =
        Case { hook_tokens: vec!["hook".to_owned()], headers: &[("authorization", "Bearer hook")], ..case.clone() };
    assert_eq!(own.told(HOOK, AWAY), "webhook token: operate");
    let alice = Case { hook_tokens: vec!["hook".to_owned()], ..alice };
    assert_eq!(alice.told(HOOK, AWAY), "unauthenticated", "the webhook's own credential is the only one");
    let unlisted = Case { certificate: Some(&["bot.example"]), ..case.clone() };
    assert_eq!(unlisted.told(READ, AWAY), "unauthenticated", "such a certificate is no substitute for a password");
    assert_eq!(unlisted.told(HOOK, AWAY), "bot (certificate): operate");
    let listed = Case { certificate: Some(&["bot.example", "ops.example"]), ..case };
    assert_eq!(listed.told(READ, AWAY), "ops.example (certificate): admin");
}

/// SEC-1: a verified certificate has the role of its best listed name, else it reads, and may notify.
#[test]
fn certificates_have_roles() {
    let roles = [("spiffe://bot".to_owned(), Role::Operate), ("ops.example".to_owned(), Role::Admin)];
    let settings = Settings { certificate_roles: BTreeMap::from(roles), anonymous_read: false, ..Settings::default() };
    let case = |names| Case { settings: settings.clone(), certificate: Some(names), ..Case::default() };
    assert_eq!(case(&["spiffe://bot", "ops.example"]).told(CHANGE, AWAY), "ops.example (certificate): admin");
    assert_eq!(case(&["spiffe://bot"]).told(CHANGE, AWAY), "forbidden");
    assert_eq!(case(&["x"]).told(READ, AWAY), "bot (certificate): read");
    assert_eq!(case(&["x"]).told(CHANGE, HERE), "forbidden", "what is presented counts, not the address");
    assert!(case(&["x"]).decide(CHANGE, HERE).unwrap_err().detail.ends_with("which `web.certificate_roles` gives"));
    assert_eq!(case(&["x"]).told(HOOK, AWAY), "bot (certificate): read");
    let own = Case { hook_tokens: vec!["hook".to_owned()], ..case(&["ops.example"]) };
    assert_eq!(own.told(HOOK, AWAY), "unauthenticated");
}

/// SEC-1: reading can be closed, loopback can be made like any other address; probes stay open.
#[test]
fn what_is_open_can_be_closed() {
    let probes = Need { group: Group::Probes, role: Role::Read };
    let settings = Settings { anonymous_read: false, ..Settings::default() };
    let closed = Case { settings: settings.clone(), ..Case::default() };
    assert_eq!(closed.told(READ, AWAY), "unauthenticated");
    assert_eq!(closed.told(READ, HERE), "127.0.0.1 (loopback): admin");
    assert_eq!(closed.told(probes, AWAY), "192.0.2.7: read");
    let settings = Settings { loopback: false, ..settings };
    let shut = Case { settings, ..Case::default() };
    assert_eq!(shut.told(READ, HERE), "unauthenticated");
    assert_eq!(shut.told(CHANGE, HERE), "forbidden");
    assert_eq!(shut.told(HOOK, HERE), "forbidden");
    let signed = Case { hook_signed: true, ..shut };
    assert_eq!(signed.told(HOOK, AWAY), "webhook signature: operate");
}

/// SEC-1: without credentials changes are taken on loopback only; with a token, from elsewhere too.
#[test]
fn changes_need_loopback_or_a_token() {
    let good = ("authorization", "Bearer s3cret");
    let other = ("authorization", "bearer second");
    let bad = ("authorization", "Bearer s3cre");
    let both = ["s3cret", "second"];
    type Case<'a> = (&'a str, &'a [(&'static str, &'static str)], &'a [&'a str], Result<&'static str, &'static str>);
    let cases: &[Case<'_>] = &[
        (HERE, &[], &[], Ok("loopback")),
        ("::1", &[], &[], Ok("loopback")),
        ("::ffff:127.0.0.1", &[], &[], Ok("loopback")),
        ("127.8.8.8", &[], &both, Ok("loopback")),
        (AWAY, &[], &[], Err("forbidden")),
        ("::", &[], &[], Err("forbidden")),
        (AWAY, &[], &both, Err("unauthenticated")),
        (AWAY, &[good], &both, Ok("credential")),
        (AWAY, &[other], &both, Ok("credential")),
        (AWAY, &[bad], &both, Err("unauthenticated")),
        (AWAY, &[good], &[], Err("unauthenticated")),
        (HERE, &[bad], &both, Err("unauthenticated")),
        (HERE, &[good], &both, Ok("credential")),
        (AWAY, &[("authorization", "Bearer ")], &both, Err("unauthenticated")),
        (AWAY, &[("authorization", "Basic czNjcmV0")], &both, Err("unauthenticated")),
        (AWAY, &[("authorization", "B")], &both, Err("unauthenticated")),
        (AWAY, &[good, bad], &both, Err("unauthenticated")),
        (HERE, &[("x-forwarded-for", "192.0.2.7")], &[], Err("forbidden")),
        (HERE, &[("forwarded", "for=192.0.2.7")], &both, Err("unauthenticated")),
        (HERE, &[("x-forwarded-for", "192.0.2.7"), good], &both, Ok("credential")),
    ];
    for (peer, headers, tokens, expected) in cases {
        assert_eq!(with_tokens(CHANGE, peer, headers, tokens, &[]), *expected, "{peer} {headers:?} {tokens:?}");
    }
}

/// SEC-1: the webhook has a credential of its own; once configured it is needed from everyone.
#[test]
fn the_webhook_has_its_own_credential() {
    let own = ("authorization", "Bearer hook");
    let api = ("authorization", "Bearer api");
    type Case<'a> = (&'a str, &'a [(&'static str, &'static str)], &'a [&'a str], Result<&'static str, &'static str>);
    let cases: &[Case<'_>] = &[
        (HERE, &[], &[], Ok("loopback")),
        (AWAY, &[], &[], Err("forbidden")),
        (AWAY, &[api], &[], Ok("credential")),
        (AWAY, &[own], &[], Err("unauthenticated")),
        (HERE, &[], &["hook"], Err("unauthenticated")),
        (HERE, &[own], &["hook"], Ok("credential")),
        (AWAY, &[own], &["hook"], Ok("credential")),
        (AWAY, &[api], &["hook"], Err("unauthenticated")),
        (HERE, &[("origin", "http://evil.example"), ("host", "127.0.0.1:19913")], &[], Err("foreign_origin")),
        (AWAY, &[own, ("host", "chiron:19913")], &["hook"], Ok("credential")),
    ];
    for (peer, headers, hook, expected) in cases {
        assert_eq!(with_tokens(HOOK, peer, headers, &["api"], hook), *expected, "{peer} {headers:?} {hook:?}");
    }
}

/// SEC-1: a page of another origin and a rebound name cannot use the operator's browser.
#[test]
fn a_browser_cannot_be_talked_into_a_change() {
    let ok = Ok("loopback");
    let origin = Err("foreign_origin");
    let host = Err("foreign_host");
    type Case<'a> = (&'a [(&'static str, &'static str)], Result<&'static str, &'static str>);
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
        assert_eq!(with_tokens(CHANGE, HERE, headers, &[], &[]), *expected, "{headers:?}");
    }
}

/// SEC-1: a name that was rebound to loopback reads nothing without a right token; metrics and probes stay open, and
/// off loopback any name will do.
#[test]
fn a_browser_cannot_be_talked_into_reading() {
    let settings = Settings { bearer_tokens: vec!["root".to_owned()], ..Settings::default() };
    let evil = ("host", "evil.example");
    let [metrics, probes] = [Group::Metrics, Group::Probes].map(|group| Need { group, role: Role::Read });
    fn with<'a>(settings: &Settings, headers: Headers<'a>) -> Case<'a> {
        Case { settings: settings.clone(), headers, ..Case::default() }
    }
    assert_eq!(with(&settings, &[evil]).told(READ, HERE), "foreign_host");
    assert_eq!(with(&settings, &[evil]).told(metrics, HERE), "127.0.0.1: read");
    assert_eq!(with(&settings, &[evil]).told(probes, HERE), "127.0.0.1: read");
    assert_eq!(with(&settings, &[evil]).told(READ, AWAY), "192.0.2.7: read");
    assert_eq!(
        Case { socket: Some(HERE), ..with(&settings, &[evil]) }.told(READ, AWAY),
        "foreign_host",
        "a header is made up"
    );
    assert_eq!(with(&settings, &[evil, ("authorization", "Bearer wrong")]).told(READ, HERE), "foreign_host");
    assert_eq!(with(&settings, &[evil, ("authorization", "Bearer root")]).told(READ, HERE), "127.0.0.1: read");
    assert_eq!(with(&settings, &[("host", "localhost:1")]).told(READ, HERE), "127.0.0.1: read");
    assert_eq!(with(&settings, &[]).told(READ, HERE), "127.0.0.1: read");
    let foreign: Headers<'_> = &[("host", "localhost:1"), ("origin", "http://evil.example")];
    assert_eq!(with(&settings, foreign).told(READ, HERE), "foreign_origin");
    let closed = Settings { anonymous_read: false, ..settings.clone() };
    assert_eq!(Case { settings: closed, ..with(&settings, &[evil]) }.told(READ, HERE), "foreign_host");
}

/// SEC-1: what came through a proxy is never loopback: neither with a header that proxies add, nor from the address of
/// one that is trusted.
#[test]
fn a_proxy_is_never_loopback() {
    let names = ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP"];
    for name in names.into_iter().chain(["X-Client-IP", "CF-Connecting-IP"]) {
        let name: &'static str = name.to_ascii_lowercase().leak();
        let header: Headers<'_> = &[(name, "x")];
        assert_eq!(Case { headers: header, ..Case::default() }.told(CHANGE, HERE), "forbidden", "{name}");
    }
    let settings = Settings { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..Settings::default() };
    let proxied = Case { settings, ..Case::default() };
    assert_eq!(proxied.told(CHANGE, HERE), "forbidden");
    assert_eq!(proxied.told(HOOK, HERE), "forbidden");
    assert_eq!(proxied.told(CHANGE, "127.0.0.2"), "127.0.0.2 (loopback): admin");
    assert_eq!(Case { socket: Some(HERE), ..proxied }.told(CHANGE, "127.0.0.2"), "forbidden", "a header is made up");
}
