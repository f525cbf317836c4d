//! How settings name what the clients speak to: units and buses of systemd, containers and their engine.
//!
//! **Invariant:** pure; what is taken here is safe in a D-Bus call and in the path of a URL.

use super::systemd::Bus;
use crate::base::tree::{FromNode, Node, Value};

/// Where Docker listens.
pub const SOCKET: &str = "unix:///var/run/docker.sock";

/// The manager of systemd that is asked.
#[derive(Clone, Debug)]
pub struct BusName(pub Bus);

impl FromNode for BusName {
    const EXPECTED: &'static str = "`system`, `user` or an address such as unix:path=/run/user/1000/bus";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let Value::Scalar { text, .. } = &node.value else { return Err(None) };
        match text.as_str() {
            "system" => Ok(Self(Bus::System)),
            "user" => Ok(Self(Bus::User)),
            // Other transports would start programs or leave the host.
            address if address.strip_prefix("unix:path=/").is_some_and(|path| !path.contains([',', ';', '\0'])) => {
                Ok(Self(Bus::Address(address.to_owned())))
            }
            _ => Err(None),
        }
    }
}

/// The full name of one unit.
#[derive(Clone, Debug)]
pub struct UnitName(pub String);

impl FromNode for UnitName {
    const EXPECTED: &'static str = "the full name of a unit such as router.service";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        const KINDS: [&str; 6] = ["service", "socket", "timer", "target", "path", "mount"];
        let Value::Scalar { text, .. } = &node.value else { return Err(None) };
        let (stem, kind) = text.rsplit_once('.').ok_or_else(|| Some(format!("did you mean `{text}.service`?")))?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
        if !KINDS.contains(&kind) {
            return Err(Some(format!("the name of a unit ends in .{}", KINDS.join(", ."))));
        }
        if stem.is_empty() || stem.starts_with('@') || text.len() > 255 || !text.bytes().all(is_plain) {
            return Err(None);
        }
        if stem.ends_with('@') {
            return Err(Some(format!("this is a template; name an instance, such as {stem}1.{kind}")));
        }
        Ok(Self(text.clone()))
    }
}

/// As the engine itself wants it; nothing in it means anything in a URL.
pub fn is_container(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= 255 && name.bytes().all(fits) && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// `HOST:PORT` and nothing else.
pub fn is_address(address: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(&format!("http://{address}/")) else { return false };
    let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/" && url.query().is_none();
    let port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    plain && port && url.has_host() && url.fragment().is_none()
}
