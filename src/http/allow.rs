//! From where a request really comes, and whether that address may ask for it at all (SEC-2).
//!
//! **Invariant:** pure; X-Forwarded-For counts only as far as it was written by proxies that the settings trust.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, StatusCode};
use ipnet::IpNet;

use super::need::Group;
use super::problem::Problem;

/// The address of the client: the other end of the connection, or behind trusted proxies the rightmost address of
/// X-Forwarded-For that is not one of theirs.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Result<IpAddr, Problem> {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return Ok(peer);
    }
    let mut client = peer;
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    for value in values.into_iter().rev() {
        let text = value.to_str().map_err(|_| unreadable())?;
        for hop in text.split(',').rev() {
            client = address(hop.trim()).ok_or_else(unreadable)?.to_canonical();
            if !is_trusted(&client) {
                return Ok(client);
            }
        }
    }
    Ok(client)
}

fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
}

fn unreadable() -> Problem {
    Problem::invalid("a trusted proxy sent an X-Forwarded-For that is no list of addresses")
}

/// Refuses an address that the group's list does not hold.
pub(super) fn check(address: IpAddr, group: Group, lists: &BTreeMap<Group, Vec<IpNet>>) -> Result<(), Problem> {
    match lists.get(&group) {
        Some(list) if !list.iter().any(|net| net.contains(&address)) => Err(Problem::new(
            StatusCode::FORBIDDEN,
            "address_not_allowed",
            format!("`{address}` is not in `web.allow.{}`", group.as_str()),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().unwrap()).collect()
    }

    /// SEC-2: X-Forwarded-For counts only as far as trusted proxies wrote it.
    #[test]
    fn the_rightmost_untrusted_address_is_the_client() {
        let proxies = nets(&["10.0.0.0/8", "127.0.0.0/8", "fd00::/8"]);
        type Case<'a> = (&'a str, &'a [&'static str], Option<&'a str>);
        let cases: &[Case<'_>] = &[
            ("192.0.2.1", &[], Some("192.0.2.1")),
            ("192.0.2.1", &["10.1.1.1"], Some("192.0.2.1")),
            ("::ffff:192.0.2.1", &["127.0.0.1"], Some("192.0.2.1")),
            ("10.0.0.1", &[], Some("10.0.0.1")),
            ("10.0.0.1", &["192.0.2.9"], Some("192.0.2.9")),
            ("::ffff:10.0.0.1", &["::ffff:192.0.2.9"], Some("192.0.2.9")),
            ("10.0.0.1", &["127.0.0.1, 192.0.2.9, 10.2.2.2"], Some("192.0.2.9")),
            ("10.0.0.1", &["127.0.0.1, 192.0.2.9", "10.2.2.2"], Some("192.0.2.9")),
            ("10.0.0.1", &["nonsense, 192.0.2.9"], Some("192.0.2.9")),
            ("10.0.0.1", &["192.0.2.9:4711"], Some("192.0.2.9")),
            ("10.0.0.1", &["[2001:db8::7]:4711"], Some("2001:db8::7")),
            ("10.0.0.1", &["[2001:db8::7]"], Some("2001:db8::7")),
            ("fd00::1", &["10.9.9.9"], Some("10.9.9.9")),
            ("10.0.0.1", &["192.0.2.9, unknown"], None),
            ("10.0.0.1", &[""], None),
        ];
        for (peer, forwarded, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in *forwarded {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            let found = client(peer.parse().unwrap(), &headers, &proxies).ok();
            assert_eq!(found, expected.map(|text| text.parse().unwrap()), "{peer} {forwarded:?}");
        }
    }

    /// SEC-2: a list closes its group to all others, and no other group.
    #[test]
    fn a_list_closes_its_group() {
        let lists = BTreeMap::from([(Group::Metrics, nets(&["192.0.2.0/24", "2001:db8::/32"])), (Group::Push, vec![])]);
        for (address, group, good) in [
            ("192.0.2.7", Group::Metrics, true),
            ("2001:db8::7", Group::Metrics, true),
            ("192.0.3.7", Group::Metrics, false),
            ("127.0.0.1", Group::Metrics, false),
            ("192.0.3.7", Group::Read, true),
            ("192.0.2.7", Group::Push, false),
        ] {
            let found = check(address.parse().unwrap(), group, &lists);
            assert_eq!(found.is_ok(), good, "{address} {group:?}");
            assert!(found.err().is_none_or(|problem| problem.code == "address_not_allowed"));
        }
    }
}
