//! Who is connected: a bounded crowd in which the idle make room for those who come (SEC-2).
//!
//! A connection without a request under way is idle, also one that has not sent its first request yet. When the room is
//! full, the one that has been idle longest is sent away, so that thousands who only hold a connection cannot lock out a
//! scrape or a notification. Who asks is never sent away.
//!
//! **Invariant:** at most so many connections in all, and so many from one address that is not loopback; no clock, order
//! alone decides.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::rate::peer_of;

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Crowd {
    connections_max: usize,
    per_address_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Rises with everything that happens: names connections, and orders the idle ones.
    next: u64,
    present: HashMap<u64, Present>,
    /// The idle ones, longest first.
    idle: BTreeMap<u64, u64>,
    per_address: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Present {
    /// `None` is loopback, which has no limit of its own.
    address: Option<IpAddr>,
    requests: usize,
    /// Its key in `idle`, while it is idle.
    rank: u64,
    leave: CancellationToken,
}

impl Crowd {
    pub(super) fn new(connections_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self {
            connections_max: connections_max.max(1),
            per_address_max: per_address_max.max(1),
            inner: Mutex::default(),
        })
    }

    /// Takes a connection in, sending away an idle one if there is no room; `None` if nobody is idle.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = peer_of(peer);
        let address = (!peer.is_loopback()).then_some(peer);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = address
            && inner.per_address.get(&address).is_some_and(|count| *count >= self.per_address_max)
        {
            let fits = |inner: &Inner, id: &u64| inner.present.get(id).is_some_and(|one| one.address == Some(address));
            let id = inner.idle.values().find(|id| fits(&inner, id)).copied()?;
            inner.send_away(id);
        }
        if inner.present.len() >= self.connections_max {
            let id = inner.idle.values().next().copied()?;
            inner.send_away(id);
        }
        let id = inner.tick();
        let leave = CancellationToken::new();
        inner.present.insert(id, Present { address, requests: 0, rank: id, leave: leave.clone() });
        inner.idle.insert(id, id);
        if let Some(address) = address {
            *inner.per_address.entry(address).or_default() += 1;
        }
        Some(Place { crowd: Arc::clone(self), id, leave })
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn send_away(&mut self, id: u64) {
        if let Some(gone) = self.remove(id) {
            gone.leave.cancel();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Present> {
        let gone = self.present.remove(&id)?;
        self.idle.remove(&gone.rank);
        if let Some(address) = gone.address
            && let Some(count) = self.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        Some(gone)
    }
}

/// A connection's place; dropped, the place is free.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Arc<Crowd>,
    id: u64,
    leave: CancellationToken,
}

impl Place {
    /// Cancelled when the connection has to make room.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// Says that a request is under way until what is returned is dropped.
    pub(super) fn request(&self) -> Asking {
        let mut inner = self.crowd.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        if let Some(one) = inner.present.get_mut(&self.id) {
            if one.requests == 0 {
                inner.idle.remove(&one.rank);
            }
            one.requests += 1;
        }
        Asking { crowd: Arc::clone(&self.crowd), id: self.id }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.inner.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Asking {
    crowd: Arc<Crowd>,
    id: u64,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut inner = self.crowd.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = inner.tick();
        let inner = &mut *inner;
        if let Some(one) = inner.present.get_mut(&self.id) {
            one.requests -= 1;
            if one.requests == 0 {
                one.rank = rank;
                inner.idle.insert(rank, self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn away(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn gone(place: &Place) -> bool {
        place.leave().is_cancelled()
    }

    /// SEC-2: the longest idle makes room; who asks stays; when all ask, nobody more comes in.
    #[test]
    fn the_longest_idle_makes_room() {
        let crowd = Crowd::new(3, 9);
        let [a, b, c] = [1, 2, 3].map(|n| crowd.enter(away(n)).unwrap());
        let asking = a.request();
        let d = crowd.enter(HERE).unwrap();
        assert_eq!([&a, &b, &c, &d].map(gone), [false, true, false, false]);
        drop(b);
        drop(c.request());
        drop(asking);
        let e = crowd.enter(away(5)).unwrap();
        assert_eq!([&a, &c, &d, &e].map(gone), [false, false, true, false], "d has been idle longest");
        let busy = [a.request(), a.request(), c.request(), e.request()];
        assert!(crowd.enter(HERE).is_none(), "everybody asks");
        drop(busy);
        drop([a, c, d, e]);
        let inner = crowd.inner.lock().unwrap();
        assert!(inner.present.is_empty() && inner.idle.is_empty() && inner.per_address.is_empty(), "{inner:?}");
    }

    /// SEC-2: one address cannot take more than its share; loopback has no limit of its own.
    #[test]
    fn an_address_has_a_share() {
        let crowd = Crowd::new(100, 2);
        let first = crowd.enter(away(1)).unwrap();
        let second = crowd.enter(away(1)).unwrap();
        let other = crowd.enter(away(2)).unwrap();
        let third = crowd.enter(away(1)).unwrap();
        assert_eq!([&first, &second, &other, &third].map(gone), [true, false, false, false]);
        let busy = [second.request(), third.request()];
        assert!(crowd.enter(away(1)).is_none());
        assert!(crowd.enter(away(3)).is_some());
        drop(busy);
        let network = ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| crowd.enter(text.parse().unwrap()));
        assert!(gone(network[0].as_ref().unwrap()), "a /64 counts as one address");
        let here: Vec<_> = (0..50).map(|_| crowd.enter(HERE).unwrap()).collect();
        assert!(!here.iter().any(gone));
    }
}
