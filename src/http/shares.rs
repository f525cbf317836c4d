//! Places that are bounded in all and for each peer (SEC-2): who takes many takes them from themselves first.
//!
//! **Invariant:** a place is held only with a place of the peer's own share; who holds and waits for nothing is not
//! remembered.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::rate::peer_of;

/// So many places, and so many of them for one peer.
#[derive(Debug)]
pub(super) struct Shares {
    all: Arc<Semaphore>,
    per_peer: usize,
    peers: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

impl Shares {
    pub(super) fn new(all: usize, per_peer: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_peer, peers: Arc::default() }
    }

    /// Somebody who wants a place; remembered while this is there.
    fn comer(&self, peer: IpAddr) -> Comer {
        let peer = peer_of(peer);
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let own = Arc::clone(peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(self.per_peer))));
        Comer { peer, own, peers: Arc::clone(&self.peers) }
    }

    /// A place, if there is one now.
    pub(super) fn try_enter(&self, peer: IpAddr) -> Option<Share> {
        let comer = self.comer(peer);
        let own = Arc::clone(&comer.own).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Share { _all: all, _own: own, _comer: comer })
    }

    /// A place as soon as it is one's turn: first among the peer's own, then among all.
    pub(super) async fn enter(&self, peer: IpAddr) -> Share {
        let comer = self.comer(peer);
        let own = Arc::clone(&comer.own).acquire_owned().await.expect("never closed");
        let all = Arc::clone(&self.all).acquire_owned().await.expect("never closed");
        Share { _all: all, _own: own, _comer: comer }
    }
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _comer: Comer,
}

#[derive(Debug)]
struct Comer {
    peer: IpAddr,
    own: Arc<Semaphore>,
    peers: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

impl Drop for Comer {
    fn drop(&mut self) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and this one's: each permit and each other comer would be one more.
        if Arc::strong_count(&self.own) <= 2 {
            peers.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    /// SEC-2: a peer takes its share and no more; all together take no more than there is; nobody is remembered.
    #[tokio::test]
    async fn a_peer_has_its_share() {
        let shares = Shares::new(5, 2);
        let first = [shares.try_enter(peer(1)).unwrap(), shares.enter(peer(1)).await];
        assert!(shares.try_enter(peer(1)).is_none());
        let others = [2, 2, 3].map(|n| shares.try_enter(peer(n)).unwrap());
        assert!(shares.try_enter(peer(4)).is_none(), "all are taken");
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), shares.enter(peer(1)));
        assert!(waiting.await.is_err());
        assert_eq!(shares.peers.lock().unwrap().len(), 3, "who gave up waiting left nothing behind");
        drop(first);
        assert_eq!(shares.peers.lock().unwrap().len(), 2);
        assert!(shares.try_enter(peer(1)).is_some());
        drop(others);
        assert!(shares.peers.lock().unwrap().is_empty(), "{shares:?}");
        assert_eq!(shares.all.available_permits(), 5);
    }
}
