//! Plans over workspaces in memory: every finding alone and in pairs, exact messages, the tree after, properties.

mod circumstances;
mod combined;
mod dangerous;
mod diff;
mod fixture;
mod random;
mod single;
