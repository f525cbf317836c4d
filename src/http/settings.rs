//! What the settings say about HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::base::secret::Secret;
use crate::model::Role;

use super::need::Group;

/// Where and how to listen, and who may ask for what.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Addresses; default `127.0.0.1:19913`. Port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// The address under which people reach us; its host is taken in the Host header of changing requests.
    pub external_url: Option<String>,
    /// Path of the metrics page; default `/metrics`.
    pub telemetry_path: String,
    /// Bearer tokens of the name `web` with role admin.
    pub bearer_tokens: Vec<String>,
    /// Further bearer tokens.
    pub tokens: Vec<NamedToken>,
    /// Roles of the users of the web configuration file; who is not listed has `read`.
    pub user_roles: BTreeMap<String, Role>,
    /// Roles of client certificates by a subject alternative name; who is not listed has `read`.
    pub certificate_roles: BTreeMap<String, Role>,
    /// Whether loopback without a credential is an admin; default true. With users it never is.
    pub loopback: bool,
    /// Whether anybody may read; default true. With users nobody may.
    pub anonymous_read: bool,
    /// Addresses that may ask for a group at all; a group that is not named is open to all.
    pub allow: BTreeMap<Group, Vec<IpNet>>,
    /// Proxies whose X-Forwarded-For counts.
    pub trusted_proxies: Vec<IpNet>,
    /// Limits per peer of a group, where they differ from the built-in ones.
    pub rate_limits: BTreeMap<Group, RateLimit>,
    /// Signatures that changing requests need.
    pub signing: Option<Signing>,
    /// The exporter-toolkit's web configuration file.
    pub web_config: Option<PathBuf>,
    /// Largest body in bytes; default 8 MiB.
    pub body_max: usize,
    /// Connections at once; default 1024.
    pub connections_max: usize,
    /// Connections at once from one address that is not loopback; default 64.
    pub connections_per_address_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 19913))],
            external_url: None,
            telemetry_path: "/metrics".to_owned(),
            bearer_tokens: Vec::new(),
            tokens: Vec::new(),
            user_roles: BTreeMap::new(),
            certificate_roles: BTreeMap::new(),
            loopback: true,
            anonymous_read: true,
            allow: BTreeMap::new(),
            trusted_proxies: Vec::new(),
            rate_limits: BTreeMap::new(),
            signing: None,
            web_config: None,
            body_max: 8 * 1024 * 1024,
            connections_max: 1024,
            connections_per_address_max: 64,
        }
    }
}

/// Like the derived one, but for the tokens, of which only the number is shown (SEC-3).
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listen, external_url, telemetry_path, bearer_tokens, tokens, user_roles, .. } = self;
        let Self { certificate_roles, loopback, anonymous_read, allow, trusted_proxies, rate_limits, .. } = self;
        let Self { signing, web_config, body_max, connections_max, connections_per_address_max, .. } = self;
        f.debug_struct("Settings")
            .field("listen", listen)
            .field("external_url", external_url)
            .field("telemetry_path", telemetry_path)
            .field("bearer_tokens", &bearer_tokens.len())
            .field("tokens", tokens)
            .field("user_roles", user_roles)
            .field("certificate_roles", certificate_roles)
            .field("loopback", loopback)
            .field("anonymous_read", anonymous_read)
            .field("allow", allow)
            .field("trusted_proxies", trusted_proxies)
            .field("rate_limits", rate_limits)
            .field("signing", signing)
            .field("web_config", web_config)
            .field("body_max", body_max)
            .field("connections_max", connections_max)
            .field("connections_per_address_max", connections_per_address_max)
            .finish()
    }
}

/// A bearer token with a name and a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedToken {
    /// Told to the audit.
    pub name: String,
    /// What it is good for.
    pub role: Role,
    /// The token; two while one is exchanged for the other.
    pub secrets: Vec<Secret>,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateLimit {
    /// In the long run.
    pub per_second: f64,
    /// At once, after a pause.
    pub burst: u32,
}

/// `web.signing`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The key; two while one is exchanged for the other.
    pub secrets: Vec<Secret>,
    /// How far the request's time may be from ours; default 5 min.
    pub window: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-3: debug output of the settings tells no token.
    #[test]
    fn no_token_is_shown() {
        let token = NamedToken { name: "ci".to_owned(), role: Role::Read, secrets: vec![Secret::new("canary-named")] };
        let bearer_tokens = vec!["canary-web".to_owned()];
        let shown = format!("{:?}", Settings { bearer_tokens, tokens: vec![token], ..Settings::default() });
        assert!(shown.contains("bearer_tokens: 1") && !shown.contains("canary"), "{shown}");
    }
}
