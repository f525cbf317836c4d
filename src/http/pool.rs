//! Buffers for metrics pages, used again and again, so that a scrape allocates nothing large; and gzip into them.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Buffers kept, and as many compressors; more scrapes than that at once allocate.
const KEPT_MAX: usize = 4;

/// A buffer larger than this is given back to the system.
const CAPACITY_MAX: usize = 64 << 20;

/// A scrape is compressed once and read once, mostly on the same machine or network: the fastest level.
const LEVEL: Compression = Compression::fast();

/// A member's header (RFC 1952): deflate, no name, no time, fastest level, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 4, 255];

/// Room that is made at once.
const STEP: usize = 64 << 10;

/// Buffers and compressors that are not in use.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    compressors: Vec<Compress>,
}

impl Pool {
    /// Fills a buffer and hands it out as a body; it comes back when the body has been sent.
    pub(super) fn fill(&self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut buffer = self.lock().buffers.pop().unwrap_or_default();
        buffer.clear();
        write(&mut buffer);
        Bytes::from_owner(Lent { buffer, home: self.clone() })
    }

    /// The same page compressed.
    pub(super) fn gzip(&self, page: &[u8]) -> Bytes {
        let kept = self.lock().compressors.pop();
        let mut compressor = kept.unwrap_or_else(|| Compress::new(LEVEL, false));
        compressor.reset();
        let body = self.fill(|out| gzip(page, &mut compressor, out));
        let mut kept = self.lock();
        if kept.compressors.len() < KEPT_MAX {
            kept.compressors.push(compressor);
        }
        body
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One member of a gzip stream.
fn gzip(page: &[u8], compressor: &mut Compress, out: &mut Vec<u8>) {
    out.extend_from_slice(&HEADER);
    let mut taken = 0;
    loop {
        out.reserve(STEP);
        let before = compressor.total_in();
        let status = compressor.compress_vec(&page[taken..], out, FlushCompress::Finish);
        taken += usize::try_from(compressor.total_in() - before).expect("no more is taken than was given");
        match status.expect("compressing without a dictionary does not fail") {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError => {}
        }
    }
    let mut checksum = Crc::new();
    checksum.update(page);
    out.extend_from_slice(&checksum.sum().to_le_bytes());
    out.extend_from_slice(&checksum.amount().to_le_bytes());
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
        let mut kept = self.home.lock();
        if kept.buffers.len() < KEPT_MAX && self.buffer.capacity() <= CAPACITY_MAX {
            kept.buffers.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_body_is_gone() {
        let pool = Pool::default();
        let body = pool.fill(|out| out.extend_from_slice(b"one"));
        let part = body.slice(1..);
        drop(body);
        assert_eq!((&*part, pool.lock().buffers.len()), (&b"ne"[..], 0));
        drop(part);
        assert_eq!(pool.lock().buffers.len(), 1);
        assert_eq!(pool.fill(|out| out.push(b'x')), "x");
    }

    /// EXP-2: what is compressed reads back the same, whatever its size, with a compressor used before.
    #[test]
    fn gzip_reads_back() {
        let pool = Pool::default();
        let mut seed = 1_u32;
        for length in [0, 1, 1_000, STEP - 1, STEP, 3 * STEP + 17, 2_000_000] {
            let noise = |_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_le_bytes()[3]
            };
            let random: Vec<u8> = (0..length).map(noise).collect();
            for page in [vec![b'a'; length], random] {
                let body = pool.gzip(&page);
                let mut read = Vec::new();
                flate2::read::GzDecoder::new(&*body).read_to_end(&mut read).unwrap();
                assert!(read == page, "{length} bytes");
            }
        }
        assert_eq!(pool.lock().compressors.len(), 1);
    }
}
