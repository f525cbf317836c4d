//! Buffers for metrics pages, used again and again, so that a scrape allocates nothing large.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept; more scrapes than that at once allocate.
const KEPT_MAX: usize = 4;

/// A buffer larger than this is given back to the system.
const CAPACITY_MAX: usize = 64 << 20;

/// Buffers that are not in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<u8>>>>);

impl Pool {
    /// Fills a buffer and hands it out as a body; it comes back when the body has been sent.
    pub(super) fn fill(&self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        buffer.clear();
        write(&mut buffer);
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }
}

struct Lent {
    buffer: Vec<u8>,
    home: Pool,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut kept = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX && self.buffer.capacity() <= CAPACITY_MAX {
            kept.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_body_is_gone() {
        let pool = Pool::default();
        let body = pool.fill(|out| out.extend_from_slice(b"one"));
        let part = body.slice(1..);
        drop(body);
        assert_eq!((&*part, pool.0.lock().unwrap().len()), (&b"ne"[..], 0));
        drop(part);
        assert_eq!(pool.0.lock().unwrap().len(), 1);
        assert_eq!(pool.fill(|out| out.push(b'x')), "x");
    }
}
