//! The box for what bots tell without being asked: the last word of each, in memory, under configured names only.
//!
//! ```text
//! POST -> Inbox::push -> Slot (one per `push` check) -> Check::read -> judge
//! ```
//!
//! **Invariant:** one slot per configured name, each of bounded size; how old a word is comes from the time since boot,
//! so that no jump of the wall clock makes it young again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Map, Value, json};

use super::vitals::{self, Fault};
use crate::base::clock::Clock;
use crate::model::{Name, Pushed, Status, Timestamp};

/// However often a bot speaks, its check is woken at most this often, unless it says something else of itself.
const WAKE_EVERY: Duration = Duration::from_millis(100);
/// Longest message, in characters.
const MESSAGE_MAX: usize = 500;
/// Names told to somebody who used another.
const NAMES_TOLD: usize = 20;

/// Why a push is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// No check listens under that name.
    #[error("no check that takes pushes listens for `{name}`; {known}")]
    Unknown {
        /// The name used.
        name: String,
        /// Which names there are.
        known: String,
    },
    /// It does not make sense.
    #[error(transparent)]
    Invalid(#[from] Fault),
}

/// Vitals as they were sent.
pub type Told = Arc<Map<String, Value>>;

/// What was heard last.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// When, by the wall clock then.
    pub at: Timestamp,
    /// How long ago.
    pub age: Duration,
    /// What the sender says of itself.
    pub status: Option<Status>,
    /// One line for people.
    pub message: String,
}

/// What lies in a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// When it was looked at.
    pub read_at: Timestamp,
    /// For how long the slot has been there.
    pub listening: Duration,
    /// The last push, if there was any.
    pub heard: Option<Heard>,
    /// The last vitals: a bare heartbeat leaves them.
    pub vitals: Option<ToldAt>,
}

/// Vitals as they came.
#[derive(Clone, Debug, PartialEq)]
pub struct ToldAt {
    /// How long ago they came.
    pub age: Duration,
    /// When they came, by the wall clock then.
    pub at: Timestamp,
    /// What they are.
    pub told: Told,
}

/// Times here are since boot.
#[derive(Debug)]
struct Kept {
    since: Duration,
    heard: Option<(Duration, Timestamp, Option<Status>, String)>,
    vitals: Option<(Duration, Timestamp, Told)>,
    woken: Option<Duration>,
}

/// Where one `push` check finds what was told.
#[derive(Debug)]
pub struct Slot {
    /// Shared with the slot of the same name of other settings, so that a reload forgets nothing.
    kept: ArcSwap<Mutex<Kept>>,
    clock: Clock,
}

impl Slot {
    /// An empty one, listening from now on.
    pub fn new(clock: Clock) -> Self {
        let kept = Kept { since: clock.since_boot(), heard: None, vitals: None, woken: None };
        Self { kept: ArcSwap::from_pointee(Mutex::new(kept)), clock }
    }

    /// What lies in it now.
    pub fn read(&self) -> Reading {
        let (now, read_at) = (self.clock.since_boot(), self.clock.now());
        let kept = self.kept.load();
        let kept = lock(&kept);
        let heard = kept.heard.as_ref().map(|(boot, at, status, message)| Heard {
            at: *at,
            age: now.saturating_sub(*boot),
            status: *status,
            message: message.clone(),
        });
        let vitals = kept.vitals.as_ref().map(|(boot, at, told)| ToldAt {
            age: now.saturating_sub(*boot),
            at: *at,
            told: Arc::clone(told),
        });
        Reading { read_at, listening: now.saturating_sub(kept.since), heard, vitals }
    }

    /// Takes a push. True if the check should look now.
    fn take(&self, pushed: Pushed, vitals: Map<String, Value>) -> bool {
        let now = self.clock.since_boot();
        let kept = self.kept.load();
        let mut kept = lock(&kept);
        let says_else = kept.heard.as_ref().is_none_or(|(_, _, status, _)| *status != pushed.status);
        let message: String = pushed.message.chars().take(MESSAGE_MAX).collect();
        kept.heard = Some((now, pushed.at, pushed.status, message));
        if !vitals.is_empty() {
            kept.vitals = Some((now, pushed.at, Arc::new(vitals)));
        }
        let wakes = says_else || kept.woken.is_none_or(|woken| now.saturating_sub(woken) >= WAKE_EVERY);
        if wakes {
            kept.woken = Some(now);
        }
        wakes
    }

    fn tell(&self) -> Value {
        let now = self.clock.since_boot();
        let kept = self.kept.load();
        let kept = lock(&kept);
        let age = |boot: Duration| now.saturating_sub(boot).as_secs_f64();
        let Some((boot, at, status, message)) = &kept.heard else { return Value::Null };
        let mut told = json!({
            "received_at": at,
            "age_seconds": age(*boot),
            "status": status,
            "message": message,
        });
        if let Some((boot, at, vitals)) = &kept.vitals {
            told["vitals_received_at"] = json!(at);
            told["vitals_age_seconds"] = json!(age(*boot));
            told["vitals"] = Value::Object(Map::clone(vitals));
        }
        told
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The slots in force: name, index of the subsystem in the settings, slot.
pub type Slots = Vec<(Name, usize, Arc<Slot>)>;

/// Every slot by its name.
#[derive(Debug, Default)]
pub struct Inbox(ArcSwap<BTreeMap<Name, (usize, Arc<Slot>)>>);

impl Inbox {
    /// Hands what was pushed under names that stay on to the slots of new settings. Both see later pushes, so that
    /// nothing is lost whether or not the new settings come into force.
    pub fn hand_on(&self, to: &Slots) {
        let slots = self.0.load();
        for (name, _, new) in to {
            if let Some((_, old)) = slots.get(name) {
                new.kept.store(old.kept.load_full());
            }
        }
    }

    /// From now on these slots listen, and no others.
    pub fn replace(&self, slots: Slots) {
        self.0.store(Arc::new(slots.into_iter().map(|(name, index, slot)| (name, (index, slot))).collect()));
    }

    /// Takes a push; the index of the check to run now, if it should be.
    pub fn push(&self, mut pushed: Pushed) -> Result<Option<usize>, PushError> {
        let slots = self.0.load();
        let Some((index, slot)) = slots.get(&pushed.name) else {
            let name = pushed.name.chars().take(60).collect();
            return Err(PushError::Unknown { name, known: names(&slots) });
        };
        if let Some(status @ (Status::Unknown | Status::Failed)) = pushed.status {
            let found = format!("`{status}`");
            let fault = Fault { key: "status".to_owned(), found, expected: "`healthy`, `degraded` or `critical`" };
            return Err(fault.into());
        }
        let vitals = vitals::checked(std::mem::take(&mut pushed.vitals))?;
        Ok(slot.take(pushed, vitals).then_some(*index))
    }

    /// What each told last, by name; `null` where nothing has been heard.
    pub fn tell(&self) -> Value {
        Value::Object(self.0.load().iter().map(|(name, (_, slot))| (name.to_string(), slot.tell())).collect())
    }

    /// The checks that take from here, by their index in the settings.
    pub fn indices(&self) -> Vec<usize> {
        self.0.load().values().map(|(index, _)| *index).collect()
    }
}

fn names(slots: &BTreeMap<Name, (usize, Arc<Slot>)>) -> String {
    if slots.is_empty() {
        return "no subsystem has a check that takes pushes".to_owned();
    }
    let listed: Vec<String> = slots.keys().take(NAMES_TOLD).map(|name| format!("`{name}`")).collect();
    let more = slots.len().saturating_sub(NAMES_TOLD);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("expected one of {}{more}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);

    fn pushed(name: &str, status: Option<Status>, vitals: Value) -> Pushed {
        let Value::Object(vitals) = vitals else { panic!("a mapping") };
        Pushed { name: name.into(), at: NOW, status, message: "all is well".to_owned(), vitals }
    }

    fn inbox(names: &[&str], clock: &Clock) -> (Inbox, Slots) {
        let slots: Slots = names
            .iter()
            .enumerate()
            .map(|(index, name)| ((*name).into(), index, Arc::new(Slot::new(clock.clone()))))
            .collect();
        let inbox = Inbox::default();
        inbox.hand_on(&slots);
        inbox.replace(slots.clone());
        (inbox, slots)
    }

    /// OBS-7: an unknown name is refused with the names there are; nothing is kept under it.
    #[test]
    fn only_configured_names() {
        let clock = Clock::manual(NOW);
        let (inbox, _) = inbox(&["bot", "feed"], &clock);
        let refused = inbox.push(pushed("bto", None, json!({}))).unwrap_err();
        assert_eq!(refused.to_string(), "no check that takes pushes listens for `bto`; expected one of `bot`, `feed`");
        assert_eq!(inbox.tell(), json!({"bot": null, "feed": null}));
        let refused = Inbox::default().push(pushed("bot", None, json!({}))).unwrap_err();
        assert!(refused.to_string().ends_with("no subsystem has a check that takes pushes"), "{refused}");
    }

    /// OBS-7: the last push is kept, with its age by the time since boot; a heartbeat leaves earlier vitals.
    #[test]
    fn the_last_word_is_kept() {
        let clock = Clock::manual(NOW);
        let (inbox, slots) = inbox(&["bot"], &clock);
        inbox.push(pushed("bot", Some(Status::Degraded), json!({"task_count": 3}))).unwrap();
        clock.advance(Duration::from_secs(7));
        inbox.push(pushed("bot", None, json!({}))).unwrap();
        clock.advance(Duration::from_secs(2));
        clock.jump(-3_600_000);
        let reading = slots[0].2.read();
        let heard = reading.heard.unwrap();
        assert_eq!((heard.age, heard.status), (Duration::from_secs(2), None));
        let ToldAt { age, told, at } = reading.vitals.unwrap();
        assert_eq!((age, told["task_count"].as_u64(), at), (Duration::from_secs(9), Some(3), NOW));
        let told = inbox.tell();
        assert_eq!(
            (told["bot"]["age_seconds"].as_f64(), told["bot"]["vitals"]["task_count"].as_u64()),
            (Some(2.0), Some(3))
        );
    }

    /// OBS-7: a refused push leaves what was there.
    #[test]
    fn refused_is_not_kept() {
        let clock = Clock::manual(NOW);
        let (inbox, slots) = inbox(&["bot"], &clock);
        for bad in [
            pushed("bot", Some(Status::Unknown), json!({})),
            pushed("bot", Some(Status::Failed), json!({})),
            pushed("bot", None, json!({"error_rate": 2})),
        ] {
            assert!(matches!(inbox.push(bad), Err(PushError::Invalid(_))));
        }
        assert_eq!(slots[0].2.read().heard, None);
    }

    /// OBS-5: a flood of the same word wakes the check ten times a second, another word at once.
    #[test]
    fn a_flood_wakes_seldom() {
        let clock = Clock::manual(NOW);
        let (inbox, _) = inbox(&["bot"], &clock);
        let mut woken = 0;
        for _ in 0..1_000 {
            woken += usize::from(inbox.push(pushed("bot", None, json!({}))).unwrap().is_some());
            clock.advance(Duration::from_millis(1));
        }
        assert_eq!(woken, 10);
        assert_eq!(inbox.push(pushed("bot", Some(Status::Critical), json!({}))).unwrap(), Some(0));
    }

    /// SPEC 14: new settings keep what was pushed under names that stay, before and after they come into force.
    #[test]
    fn a_reload_forgets_nothing() {
        let clock = Clock::manual(NOW);
        let (inbox, old) = inbox(&["bot", "gone"], &clock);
        inbox.push(pushed("bot", None, json!({"task_count": 3}))).unwrap();
        let new: Slots = vec![
            ("other".into(), 0, Arc::new(Slot::new(clock.clone()))),
            ("bot".into(), 1, Arc::new(Slot::new(clock.clone()))),
        ];
        clock.advance(Duration::from_secs(5));
        inbox.hand_on(&new);
        assert_eq!(new[1].2.read().heard.unwrap().age, Duration::from_secs(5));
        inbox.push(pushed("bot", Some(Status::Critical), json!({}))).unwrap();
        assert_eq!(new[1].2.read(), old[0].2.read(), "both see what came between");
        inbox.replace(new);
        assert_eq!(inbox.push(pushed("bot", None, json!({}))).unwrap(), Some(1));
        assert!(inbox.push(pushed("gone", None, json!({}))).is_err());
        assert_eq!(inbox.indices(), [1, 0], "by name");
    }
}
