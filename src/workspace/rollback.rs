//! Undoes a healing, byte for byte, as a healing of its own.
//!
//! **Invariant:** what has changed since is left alone unless a person insists, and then it is backed up first.
