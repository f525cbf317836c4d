//! The chain of digests that exposes a flipped bit, a lost row or a lost tail of the journal.
//!
//! **Invariant:** pure, and part of the stored format: changing it needs a new format version.

use sha2::{Digest as _, Sha256};

/// SHA-256.
pub(super) type Digest = [u8; 32];

/// The digest of an entry, given that of the one before it.
pub(super) fn entry(previous: &Digest, seq: u64, epoch: u64, at_ms: i64, body: &[u8]) -> Digest {
    let mut sha = Sha256::new();
    sha.update(previous);
    sha.update(seq.to_le_bytes());
    sha.update(epoch.to_le_bytes());
    sha.update(at_ms.to_le_bytes());
    sha.update(body);
    sha.finalize().into()
}

/// The digest of a snapshot standing at `seq`, whose entry has the digest `chain`.
pub(super) fn snapshot(seq: u64, chain: &Digest, body: &[u8]) -> Digest {
    let mut sha = Sha256::new();
    sha.update(seq.to_le_bytes());
    sha.update(chain);
    sha.update(body);
    sha.finalize().into()
}

/// The digest of an accepted alert.
pub(super) fn alert(body: &[u8]) -> Digest {
    Sha256::digest(body).into()
}
