//! `database`: is the SQLite file there, and is it one?

use std::path::PathBuf;
use std::sync::Arc;

use super::BuiltIn;
use crate::base::files::{self, FileProblem};
use crate::model::{Criticality, Status, Timestamp};
use crate::observe::age::{Missing, judge_problem};
use crate::observe::check::{Check, Judgement};

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "database",
    criticality: Criticality::Partial,
    depends_on: &[],
    build: |context| {
        Arc::new(Database { path: context.workspace.join("backend").join("data").join("quantum_trader.db") })
    },
    doc: "`backend/data/quantum_trader.db`: healthy if it exists and begins as an SQLite database does, critical \
          otherwise.",
};

/// The first bytes of every SQLite database.
const HEADER: &[u8; 16] = b"SQLite format 3\0";

struct Database {
    path: PathBuf,
}

/// The start of the file, and its size.
struct Start {
    bytes: Vec<u8>,
    size: u64,
}

impl Check for Database {
    type Reading = Result<Start, FileProblem>;
    const KIND: &'static str = "database";

    async fn read(&self) -> Self::Reading {
        let (bytes, meta) = files::read_start(&self.path, HEADER.len() as u64)?;
        Ok(Start { bytes, size: meta.len })
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let start = match reading {
            Ok(start) => start,
            Err(problem) => return judge_problem(&self.path, problem, Missing::Critical),
        };
        let error = if start.bytes.is_empty() {
            Some("empty, expected an SQLite database")
        } else if start.bytes != HEADER {
            Some("does not begin as an SQLite database does")
        } else {
            None
        };
        let judgement = match error {
            Some(error) => Judgement::new(Status::Critical).with("error", format!("{}: {error}", self.path.display())),
            None => Judgement::new(Status::Healthy),
        };
        judgement.with("size_bytes", start.size)
    }

    fn blocking(&self) -> bool {
        true
    }
}
