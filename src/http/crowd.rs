//! Who is connected: a bounded crowd in which the idle make room for those who come (SEC-2).
//!
//! A connection without a request under way is idle, also one that has not sent its first request yet. When the room is
//! full, the one that has been idle longest is sent away, so that thousands who only hold a connection cannot lock out a
//! scrape or a notification. Who asks is sent away only once a request of theirs takes too long: an answer that is ready
//! and not taken makes room after [`SENDING_CROWDED`], and nothing lasts longer than its kind may.
//!
//! **Invariant:** at most so many connections in all, and so many from one address that is not loopback; some places are
//! for loopback alone; time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::rate::peer_of;

/// Places that only loopback may take, so that who is on the machine is heard when all others are too many; an eighth
/// of a small room.
const RESERVED: usize = 16;

/// How long a request may take until its answer is ready: a body, a wait for its turn, and a forced check.
const ASKING_MAX: Duration = Duration::from_secs(120);

/// How long an ordinary answer may take to be sent once it is ready.
const SENDING_MAX: Duration = Duration::from_secs(60);

/// The same when there is no room for a newcomer.
const SENDING_CROWDED: Duration = Duration::from_secs(10);

/// How long a stream may last; it ends by itself a little earlier if the client reads it.
const LASTING_MAX: Duration = Duration::from_secs(3_660);

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Crowd {
    connections_max: usize,
    /// How many of them may be from elsewhere than loopback.
    away_max: usize,
    per_address_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Rises with everything that happens: names connections and requests, and orders the idle ones.
    next: u64,
    present: HashMap<u64, Present>,
    /// The idle ones, longest first.
    idle: BTreeMap<u64, u64>,
    per_address: HashMap<IpAddr, usize>,
    /// Connections from elsewhere than loopback.
    away: usize,
}

#[derive(Debug)]
struct Present {
    /// `None` is loopback, which has no limit of its own.
    address: Option<IpAddr>,
    /// The requests under way.
    requests: HashMap<u64, Stage>,
    /// Its key in `idle`, while it is idle.
    rank: u64,
    leave: CancellationToken,
}

/// How far a request is, and since when.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Asking(Instant),
    Sending(Instant),
    Lasting(Instant),
}

impl Stage {
    /// When it has taken too long.
    fn due(self, crowded: bool) -> Instant {
        match self {
            Self::Asking(since) => since + ASKING_MAX,
            Self::Sending(since) => since + if crowded { SENDING_CROWDED } else { SENDING_MAX },
            Self::Lasting(since) => since + LASTING_MAX,
        }
    }
}

/// Whose connection may have to make room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whose {
    Any,
    Away,
    Of(IpAddr),
}

impl Crowd {
    pub(super) fn new(connections_max: usize, per_address_max: usize) -> Arc<Self> {
        let connections_max = connections_max.max(1);
        Arc::new(Self {
            connections_max,
            away_max: connections_max - RESERVED.min(connections_max / 8),
            per_address_max: per_address_max.max(1),
            inner: Mutex::default(),
        })
    }

    /// Takes a connection in, sending away another if there is no room; `None` if nobody can be.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Option<Place> {
        let peer = peer_of(peer);
        let address = (!peer.is_loopback()).then_some(peer);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = address {
            if inner.per_address.get(&address).is_some_and(|count| *count >= self.per_address_max) {
                inner.make_room(Whose::Of(address), now)?;
            }
            if inner.away >= self.away_max {
                inner.make_room(Whose::Away, now)?;
            }
        }
        if inner.present.len() >= self.connections_max {
            inner.make_room(Whose::Any, now)?;
        }
        let id = inner.tick();
        let leave = CancellationToken::new();
        inner.present.insert(id, Present { address, requests: HashMap::new(), rank: id, leave: leave.clone() });
        inner.idle.insert(id, id);
        if let Some(address) = address {
            *inner.per_address.entry(address).or_default() += 1;
            inner.away += 1;
        }
        Some(Place { crowd: Arc::clone(self), id, leave })
    }

    /// Sends everybody away who has a request that has taken too long.
    pub(super) fn sweep(&self, now: Instant) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let late = |one: &Present| one.requests.values().any(|stage| stage.due(false) <= now);
        let late: Vec<u64> = inner.present.iter().filter(|(_, one)| late(one)).map(|(id, _)| *id).collect();
        for id in late {
            inner.send_away(id);
        }
    }
}

impl Inner {
    fn tick(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Sends away who has been idle longest, else whose request is over its time by most; `None` if there is neither.
    fn make_room(&mut self, whose: Whose, now: Instant) -> Option<()> {
        let fits = |one: &Present| match whose {
            Whose::Any => true,
            Whose::Away => one.address.is_some(),
            Whose::Of(address) => one.address == Some(address),
        };
        let idle = self.idle.values().find(|id| self.present.get(id).is_some_and(fits)).copied();
        let late = || {
            let due = |one: &Present| one.requests.values().map(|stage| stage.due(true)).min();
            let all = self.present.iter().filter(|(_, one)| fits(one));
            let late = all.filter_map(|(id, one)| Some((due(one).filter(|due| *due <= now)?, *id)));
            late.min().map(|(_, id)| id)
        };
        let id = idle.or_else(late)?;
        self.send_away(id);
        Some(())
    }

    fn send_away(&mut self, id: u64) {
        if let Some(gone) = self.remove(id) {
            gone.leave.cancel();
        }
    }

    fn remove(&mut self, id: u64) -> Option<Present> {
        let gone = self.present.remove(&id)?;
        self.idle.remove(&gone.rank);
        if let Some(address) = gone.address {
            self.away -= 1;
            if let Some(count) = self.per_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.per_address.remove(&address);
                }
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
    pub(super) fn request(&self, now: Instant) -> Asking {
        let mut inner = self.crowd.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let request = inner.tick();
        let inner = &mut *inner;
        if let Some(one) = inner.present.get_mut(&self.id) {
            if one.requests.is_empty() {
                inner.idle.remove(&one.rank);
            }
            one.requests.insert(request, Stage::Asking(now));
        }
        Asking { crowd: Arc::clone(&self.crowd), id: self.id, request }
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
    request: u64,
}

impl Asking {
    /// Says that the answer is ready, and whether it is a stream, which lasts.
    pub(super) fn answered(&self, lasts: bool, now: Instant) {
        let mut inner = self.crowd.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stage) = inner.present.get_mut(&self.id).and_then(|one| one.requests.get_mut(&self.request)) {
            *stage = if lasts { Stage::Lasting(now) } else { Stage::Sending(now) };
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut inner = self.crowd.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let rank = inner.tick();
        let inner = &mut *inner;
        if let Some(one) = inner.present.get_mut(&self.id) {
            one.requests.remove(&self.request);
            if one.requests.is_empty() {
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

    fn at(seconds: u64) -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
    }

    /// SEC-2: the longest idle makes room; who asks stays; when all ask, nobody more comes in.
    #[test]
    fn the_longest_idle_makes_room() {
        let crowd = Crowd::new(3, 9);
        let [a, b, c] = [1, 2, 3].map(|n| crowd.enter(away(n), at(0)).unwrap());
        let asking = a.request(at(0));
        let d = crowd.enter(HERE, at(0)).unwrap();
        assert_eq!([&a, &b, &c, &d].map(gone), [false, true, false, false]);
        drop(b);
        drop(c.request(at(0)));
        drop(asking);
        let e = crowd.enter(away(5), at(0)).unwrap();
        assert_eq!([&a, &c, &d, &e].map(gone), [false, false, true, false], "d has been idle longest");
        let busy = [a.request(at(0)), a.request(at(0)), c.request(at(0)), e.request(at(0))];
        assert!(crowd.enter(HERE, at(0)).is_none(), "everybody asks");
        drop(busy);
        drop([a, c, d, e]);
        let inner = crowd.inner.lock().unwrap();
        assert!(inner.present.is_empty() && inner.idle.is_empty() && inner.per_address.is_empty(), "{inner:?}");
    }

    /// SEC-2: one address cannot take more than its share; loopback has no limit of its own.
    #[test]
    fn an_address_has_a_share() {
        let crowd = Crowd::new(100, 2);
        let first = crowd.enter(away(1), at(0)).unwrap();
        let second = crowd.enter(away(1), at(0)).unwrap();
        let other = crowd.enter(away(2), at(0)).unwrap();
        let third = crowd.enter(away(1), at(0)).unwrap();
        assert_eq!([&first, &second, &other, &third].map(gone), [true, false, false, false]);
        let busy = [second.request(at(0)), third.request(at(0))];
        assert!(crowd.enter(away(1), at(0)).is_none());
        assert!(crowd.enter(away(3), at(0)).is_some());
        drop(busy);
        let network =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| crowd.enter(text.parse().unwrap(), at(0)));
        assert!(gone(network[0].as_ref().unwrap()), "a /64 counts as one address");
        let here: Vec<_> = (0..50).map(|_| crowd.enter(HERE, at(0)).unwrap()).collect();
        assert!(!here.iter().any(gone));
    }

    /// SEC-2: an answer that nobody takes makes room after 10 s and ends after 60; a request that is not answered yet
    /// has 120 s, a stream an hour.
    #[test]
    fn who_takes_too_long_makes_room() {
        let crowd = Crowd::new(4, 9);
        let [a, b, c, d] = [1, 2, 3, 4].map(|n| crowd.enter(away(n), at(0)).unwrap());
        let [asks, stuck, more, streams] = [a.request(at(0)), b.request(at(0)), c.request(at(0)), d.request(at(0))];
        stuck.answered(false, at(5));
        more.answered(false, at(4));
        streams.answered(true, at(0));
        assert!(crowd.enter(away(9), at(13)).is_none(), "nobody is late yet");
        let e = crowd.enter(away(5), at(15)).unwrap();
        assert_eq!([&a, &b, &c, &d].map(gone), [false, false, true, false], "the latest goes first");
        let last = e.request(at(15));
        crowd.sweep(at(64));
        assert_eq!([&a, &b, &d, &e].map(gone), [false; 4]);
        crowd.sweep(at(65));
        assert_eq!([&a, &b, &d, &e].map(gone), [false, true, false, false], "60 s to send it");
        crowd.sweep(at(119));
        assert!(!gone(&a));
        crowd.sweep(at(120));
        assert!(gone(&a) && !gone(&d) && !gone(&e));
        drop(last);
        crowd.sweep(at(3_659));
        assert!(!gone(&d));
        crowd.sweep(at(3_660));
        assert!(gone(&d) && !gone(&e), "who is idle is not late");
        drop((asks, stuck, more, streams));
    }

    /// SEC-2: some places are for loopback, however many come from elsewhere.
    #[test]
    fn loopback_has_places_of_its_own() {
        let crowd = Crowd::new(1024, 64);
        let peer = |n: u32| IpAddr::from((0xc633_6400 + n).to_be_bytes());
        let busy: Vec<_> = (0..1024)
            .map_while(|n| crowd.enter(peer(n / 64), at(0)))
            .map(|place| (place.request(at(0)), place))
            .collect();
        assert_eq!(busy.len(), 1024 - RESERVED);
        let here: Vec<_> = (0..RESERVED).map(|_| crowd.enter(HERE, at(0)).unwrap()).collect();
        assert!(crowd.enter(peer(999), at(0)).is_none(), "the idle ones on loopback make no room for those");
        assert!(crowd.enter(HERE, at(0)).is_some(), "but for one of their own");
        assert!(gone(&here[0]) && !busy.iter().any(|(_, place)| gone(place)));
    }
}
