//! A file that somebody rewrites now and then: what it says and when it was written.
//!
//! **Invariant:** an unchanged file costs one system call; a file caught in mid-write is looked at again before it is
//! called broken.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use crate::base::clock::Clock;
use crate::base::files::{self, FileMeta, FileProblem};
use crate::model::Timestamp;

/// The largest state file that is read.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The keys under which state files date themselves, most telling first (OBS-3).
pub const TIMESTAMP_KEYS: [&str; 3] = ["last_cycle", "timestamp", "last_update"];

/// A file changed so recently may be changed again without a new modification time, so its content is not remembered.
const RACY: Duration = Duration::from_millis(100);

/// A broken file changed so recently may be being written, so it gets the pauses below to become whole.
const BEING_WRITTEN: Duration = Duration::from_secs(2);
const PAUSES: usize = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// What a file's bytes were understood as, or why they were not.
pub type Content<T> = Arc<Result<T, String>>;

/// A file as found.
pub type FileReading<T> = Result<(FileMeta, Content<T>), FileProblem>;

type Parse<T> = Box<dyn Fn(&[u8]) -> Result<T, String> + Send + Sync>;

/// A file whose parsed content is remembered until modification time, length or inode differ.
pub struct StateFile<T> {
    path: PathBuf,
    clock: Clock,
    parse: Parse<T>,
    seen: Mutex<Option<(FileMeta, Content<T>)>>,
}

impl<T> std::fmt::Debug for StateFile<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<T> StateFile<T> {
    /// Watches `path`; `parse` makes sense of at most [`MAX_BYTES`].
    pub fn new(
        path: PathBuf,
        clock: Clock,
        parse: impl Fn(&[u8]) -> Result<T, String> + Send + Sync + 'static,
    ) -> Self {
        Self { path, clock, parse: Box::new(parse), seen: Mutex::new(None) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks at the file, and into it if it changed. Blocks.
    pub fn read(&self) -> FileReading<T> {
        let meta = files::stat(&self.path)?;
        if let Some((seen, content)) = &*self.seen.lock().unwrap_or_else(PoisonError::into_inner)
            && *seen == meta
        {
            return Ok((meta, Arc::clone(content)));
        }
        let (mut meta, mut content) = self.read_once()?;
        for _ in 0..PAUSES {
            if content.is_ok() || self.distance(meta) > BEING_WRITTEN {
                break;
            }
            std::thread::sleep(PAUSE);
            (meta, content) = self.read_once()?;
        }
        let content = Arc::new(content);
        let remembered = (self.distance(meta) > RACY).then(|| (meta, Arc::clone(&content)));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = remembered;
        Ok((meta, content))
    }

    fn read_once(&self) -> Result<(FileMeta, Result<T, String>), FileProblem> {
        match files::read_bounded(&self.path, MAX_BYTES) {
            Ok((bytes, meta)) => Ok((meta, (self.parse)(&bytes))),
            Err(problem @ FileProblem::TooLarge { .. }) => Ok((files::stat(&self.path)?, Err(problem.to_string()))),
            Err(problem) => Err(problem),
        }
    }

    /// How far the file's last change lies from now, in either direction.
    fn distance(&self, meta: FileMeta) -> Duration {
        let now = self.clock.now();
        now.since(meta.modified).max(meta.modified.since(now))
    }
}

/// The date a file gives itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Index of the key among those asked for.
    pub key: usize,
    /// The date.
    pub at: Timestamp,
}

/// Reads a timestamp: RFC 3339, or Unix seconds or milliseconds as number or text. `None` if it is none of them.
pub fn timestamp(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => unix(number.as_f64()?),
        Value::String(text) => {
            let text = text.trim();
            Timestamp::parse_rfc3339(text).or_else(|| unix(text.parse().ok()?))
        }
        _ => None,
    }
}

/// Seconds as a date lie below this number until the year 5138; milliseconds above it since 1973.
const FIRST_MILLISECONDS: f64 = 1e11;
/// Later dates than the year 9999 are no dates.
const LAST_MILLISECONDS: f64 = 2.534e14;

#[expect(clippy::cast_possible_truncation, reason = "bounded above, and rounded")]
fn unix(number: f64) -> Option<Timestamp> {
    let millis = if number.abs() < FIRST_MILLISECONDS { number * 1000.0 } else { number };
    (0.0..LAST_MILLISECONDS).contains(&millis).then(|| Timestamp::from_millis(millis.round() as i64))
}

/// The first of `keys` at the top of a parsed value that holds a timestamp.
pub fn stamp_of(value: &Value, keys: &[String]) -> Option<Stamp> {
    keys.iter().enumerate().find_map(|(key, name)| Some(Stamp { key, at: timestamp(value.get(name)?)? }))
}

/// Parses JSON; the error says where it stops being JSON.
pub fn parse_json(bytes: &[u8]) -> Result<Value, String> {
    not_empty(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| format!("not JSON: {error}"))
}

/// Looks for the date alone: checks that the whole is JSON and builds nothing of the rest.
pub fn parse_stamp(bytes: &[u8], keys: &[String]) -> Result<Option<Stamp>, String> {
    not_empty(bytes)?;
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = TopLevel(keys);
    let found = seed.deserialize(&mut deserializer).and_then(|found| deserializer.end().map(|()| found));
    let found = found.map_err(|error| format!("not JSON: {error}"))?;
    Ok(found.iter().enumerate().find_map(|(key, at)| at.map(|at| Stamp { key, at })))
}

fn not_empty(bytes: &[u8]) -> Result<(), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) { Err("empty".to_owned()) } else { Ok(()) }
}

/// Takes the wanted keys of the outermost mapping and skips the rest; of anything else it takes nothing.
struct TopLevel<'k>(&'k [String]);

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = Vec<Option<Timestamp>>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = Vec<Option<Timestamp>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.0.iter().position(|key| *key == *name) {
                Some(key) => found[key] = timestamp(&map.next_value::<Value>()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files are laid out to be looked at")]
mod tests {
    use super::*;
    use serde_json::json;

    fn keys() -> Vec<String> {
        TIMESTAMP_KEYS.map(str::to_owned).to_vec()
    }

    /// OBS-3: RFC 3339, Unix seconds and milliseconds, as numbers or texts, name the same moment.
    #[test]
    fn every_way_to_write_a_moment() {
        let moment = Some(Timestamp::from_millis(1_763_861_690_412));
        for value in [
            json!("2025-11-23T01:34:50.412Z"),
            json!("2025-11-23T02:34:50.412+01:00"),
            json!(1_763_861_690.412),
            json!(1_763_861_690_412_i64),
            json!("1763861690.412"),
            json!(" 1763861690412 "),
        ] {
            assert_eq!(timestamp(&value), moment, "{value}");
        }
        assert_eq!(timestamp(&json!(1_763_861_690)), Some(Timestamp::from_millis(1_763_861_690_000)));
        for value in
            [json!(null), json!("soon"), json!("2025-11-23T01:34:50"), json!(-1), json!(1e18), json!([1]), json!("NaN")]
        {
            assert_eq!(timestamp(&value), None, "{value}");
        }
    }

    #[test]
    fn the_most_telling_key_wins_and_the_whole_must_be_json() {
        let stamp = |text: &str| parse_stamp(text.as_bytes(), &keys());
        let at = |key, seconds: i64| Ok(Some(Stamp { key, at: Timestamp::from_millis(seconds * 1000) }));
        assert_eq!(stamp(r#"{"last_update": 2, "x": [{}], "timestamp": 1}"#), at(1, 1));
        assert_eq!(stamp(r#"{"timestamp": "soon", "last_update": 2}"#), at(2, 2));
        for text in ["[1, 2]", "{}", "1", "-1", "1.5", "null", "true", "\"text\"", r#"{"trades": {"timestamp": 1}}"#] {
            assert_eq!(stamp(text), Ok(None), "{text}");
        }
        assert_eq!(stamp(" \n"), Err("empty".to_owned()));
        for text in [r#"{"timestamp": 1"#, r#"{"timestamp": 1} x"#, "\u{0}\u{0}", "{\"a\": NaN}", &"[".repeat(10_000)] {
            assert!(stamp(text).unwrap_err().starts_with("not JSON: "), "{text}");
        }
        let value = parse_json(br#"{"last_update": 2, "timestamp": 1}"#).unwrap();
        assert_eq!(Ok(stamp_of(&value, &keys())), at(1, 1));
    }

    #[test]
    fn an_unchanged_file_is_parsed_once_and_a_changed_one_again() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        let write = |text: &str, seconds: u64| {
            std::fs::write(&path, text).unwrap();
            let when = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(when).unwrap();
        };
        let parsed = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&parsed);
        let file = StateFile::new(path.clone(), Clock::manual(Timestamp::from_millis(2_000_000)), move |bytes| {
            count.fetch_add(1, Ordering::SeqCst);
            parse_json(bytes)
        });
        write("1", 1000);
        for _ in 0..3 {
            assert_eq!(*file.read().unwrap().1, Ok(json!(1)));
        }
        assert_eq!(parsed.load(Ordering::SeqCst), 1);
        write("2", 1001);
        assert_eq!(*file.read().unwrap().1, Ok(json!(2)));
        assert_eq!(parsed.load(Ordering::SeqCst), 2);
        // Changed at the very moment of reading: not remembered, so a second change within the clock's grain is seen.
        write("3", 2000);
        assert_eq!(*file.read().unwrap().1, Ok(json!(3)));
        std::fs::remove_file(&path).unwrap();
        write("4", 2000);
        assert_eq!(*file.read().unwrap().1, Ok(json!(4)));
        // Broken long ago: said once, without pauses.
        write("{", 1002);
        assert!(file.read().unwrap().1.is_err());
        assert_eq!(parsed.load(Ordering::SeqCst), 5);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.read().unwrap_err(), FileProblem::Missing);
    }

    #[test]
    fn a_file_caught_in_mid_write_gets_time_to_become_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        std::fs::write(&path, "{").unwrap();
        let reads = Mutex::new(0);
        let file = StateFile::new(path, Clock::system(), move |bytes| {
            // The writer finishes between the second and the third look.
            let mut reads = reads.lock().unwrap();
            *reads += 1;
            if *reads < 3 { parse_json(bytes) } else { Ok(json!("whole")) }
        });
        assert_eq!(*file.read().unwrap().1, Ok(json!("whole")));
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.json");
        std::fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let file = StateFile::new(path, Clock::manual(Timestamp::EPOCH), |_| Ok(()));
        assert_eq!(*file.read().unwrap().1, Err("16777217 bytes, more than the limit of 16777216".to_owned()));
    }
}
