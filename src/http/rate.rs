//! How often a peer may ask: token buckets (SEC-2).
//!
//! **Invariant:** pure but for its own state; time is an argument; the number of peers is bounded, and who comes when it
//! is reached shares one bucket with all who do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::settings::RateLimit;

/// Peers with a bucket of their own, per group.
const PEERS_MAX: usize = 4096;

/// What counts as one peer: an IPv4 address, or the /64 network of an IPv6 address, which one machine has as a rule.
pub(super) fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            // All of `::/64` is loopback and its kind.
            if (a, b, c, d) == (0, 0, 0, 0) {
                IpAddr::V6(address)
            } else {
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        }
        address => address,
    }
}

/// One bucket: what is left in it, and when that was true.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// How far it is from full, so that the default is a full one.
    missing: f64,
    at: Duration,
}

impl Bucket {
    fn refill(&mut self, limit: RateLimit, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.missing = (self.missing - passed * limit.per_second).max(0.0);
        self.at = self.at.max(now);
    }

    /// `Err` tells how long until something is left.
    fn look(&mut self, limit: RateLimit, now: Duration) -> Result<(), Duration> {
        self.refill(limit, now);
        let left = f64::from(limit.burst) - self.missing;
        if left >= 1.0 {
            return Ok(());
        }
        // No limit is slower than one in a day.
        Err(Duration::from_secs_f64(((1.0 - left) / limit.per_second).clamp(0.0, 86_400.0)))
    }

    /// Takes one out; `Err` tells when to come again.
    pub(super) fn take(&mut self, limit: RateLimit, now: Duration) -> Result<(), Duration> {
        self.look(limit, now)?;
        self.missing += 1.0;
        Ok(())
    }
}

/// One bucket for each peer.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    peers: HashMap<IpAddr, Bucket>,
    others: Bucket,
}

impl Buckets {
    /// Takes one out of the peer's bucket; `Err` tells when to come again.
    pub(super) fn take(&mut self, peer: IpAddr, limit: RateLimit, now: Duration) -> Result<(), Duration> {
        if !self.peers.contains_key(&peer) && self.peers.len() >= PEERS_MAX {
            self.forget_full(limit, now);
            if self.peers.len() >= PEERS_MAX {
                return self.others.take(limit, now);
            }
        }
        self.peers.entry(peer).or_default().take(limit, now)
    }

    /// Whether something is left, without taking it.
    pub(super) fn look(&mut self, peer: IpAddr, limit: RateLimit, now: Duration) -> Result<(), Duration> {
        let crowded = self.peers.len() >= PEERS_MAX;
        match self.peers.get_mut(&peer) {
            Some(bucket) => bucket.look(limit, now),
            None if crowded => self.others.look(limit, now),
            None => Ok(()),
        }
    }

    /// A bucket that is full again says nothing that an absent one does not.
    fn forget_full(&mut self, limit: RateLimit, now: Duration) {
        self.peers.retain(|_, bucket| {
            bucket.refill(limit, now);
            bucket.missing > 0.0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { per_second: 2.0, burst: 3 };

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    /// SEC-2: a burst, then the steady rate, told when to come again; full again after a pause and never fuller.
    #[test]
    fn a_bucket_over_time() {
        let mut bucket = Bucket::default();
        let steps = [
            (1000.0, Ok(())),
            (1000.0, Ok(())),
            (1000.0, Ok(())),
            (1000.0, Err(at(0.5))),
            (1000.25, Err(at(0.25))),
            (1000.5, Ok(())),
            (1000.5, Err(at(0.5))),
            // The clock never goes back, and if it did nothing would be gained.
            (900.0, Err(at(0.5))),
            (1000.5, Err(at(0.5))),
            (5000.0, Ok(())),
            (5000.0, Ok(())),
            (5000.0, Ok(())),
            (5000.0, Err(at(0.5))),
        ];
        for (index, (now, expected)) in steps.into_iter().enumerate() {
            assert_eq!(bucket.take(LIMIT, at(now)), expected, "step {index}");
        }
    }

    /// SEC-2: memory stays bounded; who comes too late shares, and does not take from those who came before.
    #[test]
    fn peers_are_bounded() {
        let mut buckets = Buckets::default();
        let peer = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..10_000 {
            let _ = buckets.take(peer(n), LIMIT, at(1.0));
        }
        assert_eq!(buckets.peers.len(), PEERS_MAX);
        assert!(buckets.take(peer(9_999_999), LIMIT, at(1.0)).is_err(), "the newcomers' bucket is empty");
        assert!(buckets.look(peer(9_999_999), LIMIT, at(1.0)).is_err());
        assert!(buckets.take(peer(7), LIMIT, at(1.0)).is_ok(), "peer 7 has its own");
        assert!(buckets.take(peer(9_999_999), LIMIT, at(10.0)).is_ok());
        assert_eq!(buckets.peers.len(), 1, "full buckets are forgotten");
    }

    #[test]
    fn what_is_one_peer() {
        for (address, peer) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("::1", "::1"),
        ] {
            assert_eq!(peer_of(address.parse().unwrap()), peer.parse::<IpAddr>().unwrap());
        }
    }
}
