//! `web`: where to listen, and who may ask for what (SEC-1, SEC-2).

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::intake::{Intake, Refusal, address, below, checked};
use super::load::Inputs;
use super::secret::{bearer_tokens, secrets};
use crate::base::tree::{FromNode, Node, Section, Value};
use crate::http::{Group, NamedToken, RateLimit, Settings, Signing, check_web_config};
use crate::model::Role;

/// The longest name of a token or user.
const NAME_MAX: usize = 64;

/// `web`; `dashboard_port` of the older shape comes after it.
pub(super) fn web(
    top: &mut Section<'_>,
    intake: &Intake<'_>,
    inputs: &Inputs,
    dashboard_port: Option<u16>,
) -> Settings {
    let nothing = Node { value: Value::Null, at: top.position() };
    let mut section = match top.section("web") {
        Some(section) => section,
        None => Section::open(&nothing, "web", intake.problems).expect("null opens as an empty mapping"),
    };
    let basis = Settings::default();
    let from_file = section.opt::<Vec<SocketAddr>>("listen_address");
    if from_file.as_ref().is_some_and(Vec::is_empty) {
        section.reject("listen_address", "expected at least one address", None);
    }
    let from_file = from_file.or_else(|| dashboard_port.map(|port| vec![SocketAddr::from(([127, 0, 0, 1], port))]));
    let listen = if inputs.listen.is_empty() { from_file.unwrap_or(basis.listen) } else { inputs.listen.clone() };
    let flag = ("--web.telemetry-path", inputs.telemetry_path.as_deref());
    let telemetry_path = intake.flag_or_key(&mut section, "telemetry_path", flag, telemetry_path);
    let flag = ("--web.external-url", inputs.external_url.as_deref());
    let rule = |key: &'static str, section: &mut Section<'_>, default: usize, max: usize| {
        let rule = format!("expected a whole number from 1 to {max}");
        checked(section, key, default, &rule, |value| (1..=max).contains(value))
    };
    let settings = Settings {
        listen,
        external_url: intake.flag_or_key(&mut section, "external_url", flag, address),
        telemetry_path: telemetry_path.unwrap_or(basis.telemetry_path),
        bearer_tokens: bearer_tokens(&mut section, intake),
        tokens: tokens(&mut section, intake),
        user_roles: roles(&mut section, "user_roles"),
        certificate_roles: roles(&mut section, "certificate_roles"),
        loopback: section.or("loopback", basis.loopback),
        anonymous_read: section.or("anonymous_read", basis.anonymous_read),
        allow: by_group(&mut section, "allow", nets),
        trusted_proxies: section
            .node("trusted_proxies")
            .and_then(|node| nets(node, &section.path_of("trusted_proxies"), &section))
            .unwrap_or_default(),
        rate_limits: by_group(&mut section, "rate_limit", rate_limit),
        signing: signing(&mut section, intake),
        web_config: web_config(&mut section, intake, inputs),
        body_max: {
            let rule = "expected bytes from 1024 to 8388608 (8 MiB)";
            let bounds = 1024..=basis.body_max;
            checked(&mut section, "body_max", basis.body_max, rule, |value| bounds.contains(value))
        },
        connections_max: rule("connections_max", &mut section, basis.connections_max, 100_000),
        connections_per_address_max: rule(
            "connections_per_address_max",
            &mut section,
            basis.connections_per_address_max,
            100_000,
        ),
    };
    let has_credentials = !settings.bearer_tokens.is_empty() || !settings.tokens.is_empty();
    if has_credentials
        && settings.web_config.is_none()
        && settings.trusted_proxies.is_empty()
        && settings.listen.iter().any(|address| !address.ip().to_canonical().is_loopback())
    {
        let text = "listens off loopback without TLS: tokens can be read on the way; see `config_file`";
        intake.warn_key(&mut section, "listen_address", text);
    }
    section.finish();
    settings
}

fn tokens(section: &mut Section<'_>, intake: &Intake<'_>) -> Vec<NamedToken> {
    let mut tokens = Vec::new();
    let mut names = HashSet::new();
    for (index, node) in section.list("tokens").iter().enumerate() {
        let path = format!("{}[{index}]", section.path_of("tokens"));
        let Some(mut entry) = Section::open(node, &path, section.problems()) else { continue };
        let name = entry.req::<String>("name");
        if let Some(name) = &name {
            if !is_plain(name) {
                let rule = format!("expected at most {NAME_MAX} letters, digits and `._-`");
                entry.reject("name", &rule, None);
            } else if !names.insert(name.clone()) || name == "web" {
                let hint = (name == "web").then(|| "`web` is the name of `web.bearer_token_file`".to_owned());
                entry.reject("name", "expected a name that no other token has", hint);
            }
        }
        let role = role(&mut entry, "role");
        if !entry.has("role") {
            entry.reject("role", "missing, expected `read`, `operate`, `approve` or `admin`", None);
        }
        if !entry.has("file") {
            entry.reject("file", "missing, expected a path", None);
        }
        let secrets = secrets(&mut entry, "file", intake);
        entry.finish();
        if let (Some(name), Some(role)) = (name, role)
            && !secrets.is_empty()
        {
            tokens.push(NamedToken { name, role, secrets });
        }
    }
    tokens
}

fn is_plain(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn role(section: &mut Section<'_>, key: &'static str) -> Option<Role> {
    section.word(key, &Role::ALL.map(|role| (role.as_str(), role)))
}

fn roles(section: &mut Section<'_>, key: &'static str) -> BTreeMap<String, Role> {
    let mut roles = BTreeMap::new();
    for (name, _, node) in section.entries(key) {
        let path = format!("{}.{name}", section.path_of(key));
        let Some(text) = String::take(node, &path, section.problems()) else { continue };
        match Role::parse(&text) {
            Some(role) => drop(roles.insert(name.clone(), role)),
            None => {
                let hint = section.problems().suggest(&text, &Role::ALL.map(Role::as_str));
                let rule = "expected one of `read`, `operate`, `approve`, `admin`";
                section.problems().push(node.at, &path, &node.shown(), rule, hint);
            }
        }
    }
    roles
}

fn by_group<T>(
    section: &mut Section<'_>,
    key: &'static str,
    take: impl Fn(&Node, &str, &Section<'_>) -> Option<T>,
) -> BTreeMap<Group, T> {
    let mut map = BTreeMap::new();
    for (name, at, node) in section.entries(key) {
        let path = format!("{}.{name}", section.path_of(key));
        match Group::parse(name) {
            Some(group) => {
                if let Some(value) = take(node, &path, section) {
                    map.insert(group, value);
                }
            }
            None => {
                let words = Group::ALL.map(Group::as_str);
                let rule = format!("expected one of the groups {}", words.join(", "));
                section.problems().push(*at, &path, name, &rule, section.problems().suggest(name, &words));
            }
        }
    }
    map
}

/// A list of networks; an address stands for itself.
fn nets(node: &Node, path: &str, section: &Section<'_>) -> Option<Vec<IpNet>> {
    let problems = section.problems();
    let texts = Vec::<String>::take(node, path, problems)?;
    if texts.is_empty() {
        problems.push(node.at, path, "", "expected at least one network: an empty list would close the group", None);
    }
    let Value::List(items) = &node.value else { return None };
    let mut nets = Vec::new();
    for (index, (text, item)) in texts.iter().zip(items).enumerate() {
        match text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            Ok(net) => nets.push(canonical(net)),
            Err(_) => {
                let path = format!("{path}[{index}]");
                let rule = "expected a network such as 192.0.2.0/24, or an address";
                problems.push(item.at, &path, &item.shown(), rule, None);
            }
        }
    }
    (nets.len() == items.len()).then_some(nets)
}

/// An IPv4 network written as IPv6 is the IPv4 network: addresses are compared so.
fn canonical(net: IpNet) -> IpNet {
    if let (IpNet::V6(six), IpAddr::V4(four)) = (net, net.addr().to_canonical())
        && six.prefix_len() >= 96
        && let Ok(net) = IpNet::new(IpAddr::V4(four), six.prefix_len() - 96)
    {
        return net;
    }
    net
}

fn rate_limit(node: &Node, path: &str, section: &Section<'_>) -> Option<RateLimit> {
    let mut entry = Section::open(node, path, section.problems())?;
    let per_second = entry.req::<f64>("per_second");
    if per_second.is_some_and(|value| !(0.001..=1_000_000.0).contains(&value)) {
        entry.reject("per_second", "expected a number from 0.001 to 1000000", None);
    }
    let rule = "expected a whole number from 1 to 1000000";
    let burst = checked(&mut entry, "burst", 0, rule, |value: &u32| (1..=1_000_000).contains(value));
    if !entry.has("burst") {
        entry.reject("burst", &format!("missing, {rule}"), None);
    }
    entry.finish();
    Some(RateLimit { per_second: per_second?, burst })
}

fn signing(section: &mut Section<'_>, intake: &Intake<'_>) -> Option<Signing> {
    let mut entry = section.section("signing")?;
    let signing = Signing { secrets: required_secrets(&mut entry, intake), window: window(&mut entry) };
    entry.finish();
    Some(signing)
}

/// `secret_file` of a section that cannot be without.
pub(super) fn required_secrets(entry: &mut Section<'_>, intake: &Intake<'_>) -> Vec<crate::base::secret::Secret> {
    if !entry.has("secret_file") {
        entry.reject("secret_file", "missing, expected a path", None);
    }
    secrets(entry, "secret_file", intake)
}

/// How far the time of a signed request may be from ours.
pub(super) fn window(entry: &mut Section<'_>) -> Duration {
    let rule = "expected a duration such as 5m, from 1s to 1h";
    checked(entry, "window", Duration::from_secs(300), rule, |value| {
        (Duration::from_secs(1)..=Duration::from_secs(3600)).contains(value)
    })
}

/// The web configuration file: read and checked whole, so that its problems are told with all others.
fn web_config(section: &mut Section<'_>, intake: &Intake<'_>, inputs: &Inputs) -> Option<PathBuf> {
    let named = section.opt::<PathBuf>("config_file");
    let (path, shown) = match &inputs.web_config_file {
        Some(path) => (std::path::absolute(path).unwrap_or_else(|_| path.clone()), path.clone()),
        None => {
            let named = named?;
            let beside = std::path::Path::new(intake.file).parent().unwrap_or(std::path::Path::new(""));
            (below(&intake.folder, &named), beside.join(&named))
        }
    };
    match check_web_config(&path, &shown.to_string_lossy()) {
        Ok(()) => Some(path),
        Err(problems) => {
            intake.elsewhere.borrow_mut().extend(problems);
            None
        }
    }
}

/// First parts of paths that chiron answers under itself (SPEC 12).
const TAKEN: [&str; 9] = ["-", "api", "health", "status", "alerts", "data", "endpoints", "system", "gateway"];

fn telemetry_path(text: &str) -> Result<String, Refusal> {
    let refusal = |rule: &str| Err((rule.to_owned(), None));
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.');
    if !text.starts_with('/')
        || text.len() < 2
        || text.ends_with('/')
        || text.contains("//")
        || !text.chars().all(legal)
    {
        return refusal("expected a path such as /metrics");
    }
    let first = text.trim_start_matches('/').split('/').next().unwrap_or_default();
    if TAKEN.contains(&first) || text.split('/').any(|part| matches!(part, "." | "..")) {
        return refusal("expected a path that no other page has");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;
    use crate::model::Timestamp;

    /// SEC-1, SEC-2: every key of access arrives, and the flag wins over `config_file`.
    #[test]
    fn every_key_of_access_arrives() {
        let clock = || Clock::manual(Timestamp::from_millis(0));
        let load = |text: &str, inputs: &Inputs| {
            crate::config::load_text(text, "tests/config/test.yml", inputs, clock()).expect("right").settings
        };
        let settings = load(include_str!("../../tests/config/web_access.good.yml"), &Inputs::default());
        let http = settings.http;
        let tokens: Vec<_> = http.tokens.iter().map(|t| (t.name.as_str(), t.role, t.secrets.len())).collect();
        assert_eq!(tokens, [("ci", Role::Operate, 2), ("boss.1", Role::Approve, 1)]);
        assert_eq!(http.bearer_tokens.len(), 1);
        assert_eq!(http.user_roles.get("alice"), Some(&Role::Approve));
        assert_eq!(http.certificate_roles.get("spiffe://bot/1"), Some(&Role::Operate));
        assert_eq!((http.loopback, http.anonymous_read), (false, false));
        let shown = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&http.allow[&Group::Metrics]), ["192.0.2.0/24", "2001:db8::/32", "127.0.0.1/32"]);
        assert_eq!(shown(&http.allow[&Group::Change]), ["10.0.0.0/8"], "an IPv4 network in IPv6 clothes");
        assert_eq!(shown(&http.trusted_proxies), ["10.0.0.1/32"]);
        assert_eq!(http.rate_limits[&Group::Read], RateLimit { per_second: 0.5, burst: 10 });
        assert_eq!(http.signing.map(|signing| (signing.secrets.len(), signing.window.as_secs())), Some((1, 30)));
        assert_eq!((http.body_max, http.connections_max, http.connections_per_address_max), (65_536, 2_000, 100));
        let hmac = settings.alerts.hmac.expect("a key");
        assert_eq!((hmac.signature_header.as_str(), hmac.timestamp_header.as_str()), ("x-sig", "x-time"));
        assert_eq!((hmac.secrets.len(), hmac.window.as_secs()), (2, 60));

        let text = "profile: none\nweb: {config_file: web/bad.yml}\n";
        let flag = Inputs { web_config_file: Some("tests/config/web/users.yml".into()), ..Inputs::default() };
        let file = load(text, &flag).http.web_config.expect("a file");
        assert!(file.is_absolute() && file.ends_with("tests/config/web/users.yml"), "{file:?}");
        let defaults = load("profile: none\n", &Inputs::default()).http;
        assert_eq!(defaults, Settings::default());
    }
}
