//! `data_feed`: is the universe snapshot fresh, and are there symbols in it?

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::{AgeLimits, BuiltIn};
use crate::base::clock::Clock;
use crate::model::{Criticality, Status, Timestamp};
use crate::observe::age::{Missing, judge_problem};
use crate::observe::check::{BuildContext, Check, Judgement};
use crate::observe::probes::state_file::{FileReading, Stamp, StateFile, TIMESTAMP_KEYS, parse_json, stamp_of};

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "data_feed",
    criticality: Criticality::Full,
    depends_on: &["exchange_connection"],
    build: |context| Arc::new(Snapshot::new(context)),
    doc: "Age and content of `data/universe_snapshot.json`: healthy below 5 minutes (`stale_data_seconds`), degraded \
          up to \
          60 or when missing, critical beyond, without symbols or when it is no JSON.",
};

/// Beyond this age the snapshot is useless, unless it is allowed to be older.
const CRITICAL_AFTER: Duration = Duration::from_secs(3600);

struct Snapshot {
    file: StateFile<Facts>,
    limits: AgeLimits,
}

/// What a snapshot holds.
struct Facts {
    stamp: Option<Stamp>,
    /// `None` if there is no list of them.
    symbols: Option<usize>,
}

impl Snapshot {
    fn new(context: &BuildContext) -> Self {
        Self::of(context.data_dir.join("universe_snapshot.json"), context.stale_after, context.clock.clone())
    }

    fn of(path: std::path::PathBuf, stale_after: Duration, clock: Clock) -> Self {
        let keys = TIMESTAMP_KEYS.map(str::to_owned);
        let file = StateFile::new(path, clock, move |bytes| {
            let value = parse_json(bytes)?;
            let symbols = match value.get("symbols") {
                Some(Value::Array(list)) => Some(list.len()),
                Some(Value::Object(map)) => Some(map.len()),
                _ => None,
            };
            Ok(Facts { stamp: stamp_of(&value, &keys), symbols })
        });
        Self { file, limits: AgeLimits::new(stale_after, CRITICAL_AFTER.max(stale_after)) }
    }
}

impl Check for Snapshot {
    type Reading = FileReading<Facts>;
    const KIND: &'static str = "data_feed";

    async fn read(&self) -> Self::Reading {
        self.file.read()
    }

    fn judge(&self, reading: &Self::Reading, now: Timestamp) -> Judgement {
        let place = || self.file.path().display();
        let (meta, content) = match reading {
            Ok(found) => found,
            Err(problem) => return judge_problem(self.file.path(), problem, Missing::Degraded),
        };
        let facts = match &**content {
            Ok(facts) => facts,
            Err(error) => return Judgement::new(Status::Critical).with("error", format!("{}: {error}", place())),
        };
        let judgement = match facts.stamp {
            Some(stamp) => self.limits.judge("Snapshot", stamp.at, TIMESTAMP_KEYS[stamp.key], now),
            None => self.limits.judge("Snapshot", meta.modified, "mtime", now),
        };
        let judgement = judgement.with("symbols", facts.symbols.unwrap_or(0));
        match facts.symbols {
            Some(1..) => judgement,
            _ => Judgement { status: Status::Critical, next_change_at: None, ..judgement }
                .with("error", format!("{}: no symbols in it", place())),
        }
    }

    fn blocking(&self) -> bool {
        true
    }

    fn watches(&self) -> Vec<std::path::PathBuf> {
        vec![self.file.path().to_owned()]
    }
}
