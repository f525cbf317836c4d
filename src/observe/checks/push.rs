//! `push`: does the bot still tell about itself, and what does it say?

use std::sync::Arc;
use std::time::Duration;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::model::Status;
use crate::observe::age::{AgeLimits, Missing};
use crate::observe::bot::{self, Claim, Said};
use crate::observe::inbox::{Reading, Slot, ToldAt};
use crate::observe::params;

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: Push::KIND, doc: DOC, build };

const DOC: &str = "\
# What it asks
How long ago the bot last sent a heartbeat (`POST /api/v1/heartbeats/NAME`) or its vitals (`POST /api/v1/vitals`), and
what it said of itself. The worse of both counts. Ages are measured by the time since boot.

# Why it matters
A bot knows best how it is. And one that hangs or is gone says nothing: silence is noticed without asking.

# Failure reasons
- `degraded`: nothing was heard for `degraded_after`; or the bot says so of itself; or, by its vitals, more of its requests
  fail than `thresholds.max_error_rate`, or its WebSocket brings no data.
- `critical`: nothing was heard for longer than `critical_after`; or the bot says so of itself; or, by its vitals, its
  WebSocket is not connected or not authenticated.
- as `missing` says: nothing has ever been heard, for `critical_after` since chiron began to listen.
- `unknown`: nothing has ever been heard, before that.

# Parameters
- `degraded_after` (1m), `critical_after` (5m): the limits of silence.
- `missing` (`unknown`): `unknown`, `degraded` or `critical`.
";

/// The freshness of what one bot tells.
#[derive(Debug)]
pub struct Push {
    slot: Arc<Slot>,
    limits: AgeLimits,
    missing: Missing,
    max_error_rate: f64,
}

impl Push {
    /// A check of what is put into `slot`.
    pub fn new(slot: Arc<Slot>, limits: AgeLimits, missing: Missing, max_error_rate: f64) -> Self {
        Self { slot, limits, missing, max_error_rate }
    }
}

impl Check for Push {
    type Reading = Reading;
    const KIND: &'static str = "push";

    async fn read(&self) -> Reading {
        self.slot.read()
    }

    fn judge(&self, reading: &Reading, now: Timestamp) -> Judgement {
        judge(reading, &self.limits, self.missing, self.max_error_rate, now)
    }

    fn raises(&self) -> &'static [&'static str] {
        bot::ISSUES
    }

    fn slot(&self) -> Option<&Arc<Slot>> {
        Some(&self.slot)
    }
}

/// The grade of a reading. Only time that has passed since the reading counts from the wall clock, and only forward.
fn judge(reading: &Reading, limits: &AgeLimits, missing: Missing, max_error_rate: f64, now: Timestamp) -> Judgement {
    let since_read = now.since(reading.read_at);
    let Some(heard) = &reading.heard else {
        return judge_never(reading.listening + since_read, limits, missing, "nothing has", now);
    };
    let age = heard.age + since_read;
    let mut judgement = limits.judge("Last push", now.minus(age), "received", now);
    judgement.details.insert("age_seconds".to_owned(), age.as_secs_f64().into());
    let claim = Claim { status: heard.status, message: heard.message.clone() };
    // Old numbers are no numbers: their series end with the last word that could be believed.
    let said = reading.vitals.as_ref().and_then(|vitals| said(vitals, reading.read_at, limits, now));
    let ends = said.as_ref().and_then(|said| ends_after(said.age, limits));
    let mut judgement = bot::graded(judgement, &claim, said, max_error_rate);
    judgement.next_change_at = judgement.next_change_at.into_iter().chain(ends.map(|in_| now.plus(in_))).min();
    judgement
}

/// Vitals that came by a push, if they are young enough to be told; the rules get them only until the bot is stale.
fn said<'a>(vitals: &'a ToldAt, read_at: Timestamp, limits: &AgeLimits, now: Timestamp) -> Option<Said<'a>> {
    let by_bot = bot::stamp(&vitals.told).map_or(vitals.at, |(at, _)| at);
    // What was under way for long is no younger for having come late.
    let at_receipt = vitals.at.since(by_bot);
    let age = vitals.age + at_receipt + now.since(read_at);
    let at = read_at.minus(vitals.age + at_receipt);
    let fresh = limits.degraded_after.is_none_or(|limit| age < limit);
    let told = limits.critical_after.is_none_or(|limit| age <= limit);
    told.then(|| Said { told: &vitals.told, vitals: bot::vitals(&vitals.told, at, by_bot), age, fresh })
}

/// In how long vitals of that age are too old for the rules, or then for anybody.
pub(super) fn ends_after(age: Duration, limits: &AgeLimits) -> Option<Duration> {
    let too_old = limits.critical_after.map(|limit| limit + Duration::from_millis(1));
    let ends = limits.degraded_after.into_iter().chain(too_old);
    ends.filter_map(|end| end.checked_sub(age)).filter(|in_| !in_.is_zero()).min()
}

/// The grade of what was never heard of; `what` begins the sentence.
pub(super) fn judge_never(
    listening: Duration,
    limits: &AgeLimits,
    missing: Missing,
    what: &str,
    now: Timestamp,
) -> Judgement {
    let patience = limits.critical_after.unwrap_or_default();
    let over = missing != Missing::Unknown && listening > patience;
    let status = if over { missing.status() } else { Status::Unknown };
    let mut judgement =
        Judgement::new(status).with("warning", format!("{what} been pushed since chiron began to listen"));
    if missing != Missing::Unknown && !over {
        judgement.next_change_at = Some(now.plus(patience - listening).plus(Duration::from_millis(1)));
    }
    judgement
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let limits = params::age_limits(section, AgeLimits::live_file());
    let missing = params::missing(section);
    Some(Arc::new(Push::new(Arc::new(Slot::new(context.clock.clone())), limits, missing, context.max_error_rate)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::clock::Clock;
    use crate::model::{Health, Pushed};
    use crate::observe::Observation;
    use crate::observe::check::ScheduledCheck;
    use crate::observe::inbox::Heard;
    use crate::observe::inbox::Inbox;
    use crate::observe::resources::ResourceReader;
    use crate::observe::runner::{Runner, RunnerHandle};

    const NOW: Timestamp = Timestamp::from_millis(1_763_861_696_000);
    const LIMITS: AgeLimits = AgeLimits::new(Duration::from_secs(30), Duration::from_secs(60));

    fn reading(age_ms: u64, status: Option<Status>) -> Reading {
        let age = Duration::from_millis(age_ms);
        let heard = Heard { at: NOW.minus(age), age, status, message: String::new() };
        Reading { read_at: NOW, listening: Duration::from_secs(999), heard: Some(heard), vitals: None }
    }

    /// OBS-7: both sides of each limit, what the sender says taken with it, and when the grade changes next.
    #[test]
    fn both_sides_of_each_limit() {
        use Status::{Critical, Degraded, Healthy};
        for (age, claimed, status, change_in) in [
            (0, None, Healthy, Some(30_000)),
            (29_999, Some(Healthy), Healthy, Some(1)),
            (30_000, None, Degraded, Some(30_001)),
            (30_000, Some(Healthy), Degraded, Some(30_001)),
            (60_000, Some(Healthy), Degraded, Some(1)),
            (60_001, Some(Healthy), Critical, None),
            (0, Some(Degraded), Degraded, Some(30_000)),
            (60_001, Some(Degraded), Critical, None),
            (0, Some(Critical), Critical, Some(30_000)),
        ] {
            let judgement = judge(&reading(age, claimed), &LIMITS, Missing::Unknown, 0.2, NOW);
            assert_eq!(judgement.status, status, "{age} {claimed:?}");
            assert_eq!(judgement.next_change_at.map(|at| at.millis() - NOW.millis()), change_in, "{age} {claimed:?}");
            assert_eq!(judgement.details.contains_key("warning"), status != Healthy, "{age} {claimed:?}");
            assert!(!judgement.unrunnable);
        }
        let stale = judge(&reading(45_000, None), &LIMITS, Missing::Unknown, 0.2, NOW);
        assert_eq!(
            (stale.details["warning"].as_str(), stale.details["timestamp_source"].as_str()),
            (Some("Last push 45s old (stale)"), Some("received"))
        );
        let mut said = reading(0, Some(Critical));
        said.heard.as_mut().unwrap().message = "margin call".to_owned();
        let said = judge(&said, &LIMITS, Missing::Unknown, 0.2, NOW);
        assert_eq!(said.details["warning"], "says of itself that it is critical: margin call");
    }

    /// OBS-7: a wall clock that is set makes nothing young or old: only time that passed since the reading counts.
    #[test]
    fn a_clock_that_is_set_revives_nothing() {
        for (moved, status) in [(-3_600_000, Status::Degraded), (0, Status::Degraded), (15_001, Status::Critical)] {
            let now = Timestamp::from_millis(NOW.millis() + moved);
            assert_eq!(judge(&reading(45_000, None), &LIMITS, Missing::Unknown, 0.2, now).status, status, "{moved}");
        }
        let clock = Clock::manual(NOW);
        let slot = Arc::new(Slot::new(clock.clone()));
        let inbox = Inbox::default();
        inbox.replace(vec![("bot".into(), 0, Arc::clone(&slot))]);
        inbox.push(pushed(None)).unwrap();
        clock.advance(Duration::from_secs(61));
        for jump in [-61_000, -86_400_000, 86_400_000] {
            clock.jump(jump);
            assert_eq!(
                judge(&slot.read(), &LIMITS, Missing::Unknown, 0.2, clock.now()).status,
                Status::Critical,
                "{jump}"
            );
        }
    }

    /// OBS-7, OBS-1: what was never heard of is unknown; where the operator says so, only until it had its time.
    #[test]
    fn never_heard_of() {
        for (missing, listening, status, change_in) in [
            (Missing::Unknown, 999_000, Status::Unknown, None),
            (Missing::Critical, 0, Status::Unknown, Some(60_001)),
            (Missing::Critical, 60_000, Status::Unknown, Some(1)),
            (Missing::Critical, 60_001, Status::Critical, None),
            (Missing::Degraded, 60_001, Status::Degraded, None),
        ] {
            let listening = Duration::from_millis(listening);
            let reading = Reading { read_at: NOW, listening, heard: None, vitals: None };
            let judgement = judge(&reading, &LIMITS, missing, 0.2, NOW);
            assert_eq!((judgement.status, judgement.unrunnable), (status, false), "{missing:?} {listening:?}");
            assert_eq!(judgement.next_change_at.map(|at| at.millis() - NOW.millis()), change_in);
        }
    }

    /// OBS-9: numbers are told while they can be believed, and not longer.
    #[test]
    fn numbers_end_with_their_freshness() {
        let serde_json::Value::Object(vitals) = json!({"task_count": 3, "error_rate": 0.25}) else { unreachable!() };
        let vitals = Arc::new(vitals);
        for (age, told) in [(0, true), (60_000, true), (60_001, false)] {
            let age = Duration::from_millis(age);
            let reading = Reading {
                vitals: Some(ToldAt { age, at: NOW.minus(age), told: Arc::clone(&vitals) }),
                ..reading(0, None)
            };
            let judgement = judge(&reading, &LIMITS, Missing::Unknown, 0.2, NOW);
            assert_eq!(
                (judgement.perfdata.len(), judgement.details.contains_key("vitals")),
                if told { (2, true) } else { (0, false) }
            );
        }
    }

    fn pushed(status: Option<Status>) -> Pushed {
        Pushed { name: "bot".into(), at: NOW, status, message: String::new(), vitals: serde_json::Map::new() }
    }

    /// One bot, its check in a real runner, time that is pushed millisecond by millisecond.
    struct Timeline {
        clock: Clock,
        inbox: Inbox,
        runner: RunnerHandle,
        out: mpsc::Receiver<Vec<Observation>>,
        at: u64,
        last: Option<Status>,
        /// Every change: when, in milliseconds, and to what.
        changes: Vec<(u64, Status)>,
    }

    impl Timeline {
        fn begin() -> Self {
            let clock = Clock::manual(NOW);
            let slot = Arc::new(Slot::new(clock.clone()));
            let check = Push::new(Arc::clone(&slot), LIMITS, Missing::Unknown, 0.2);
            let inbox = Inbox::default();
            inbox.replace(vec![("bot".into(), 0, slot)]);
            // So seldom that only pushes and deadlines can be what is seen.
            let interval = Duration::from_secs(86_400);
            let scheduled = ScheduledCheck {
                subsystem: "bot".into(),
                check: Arc::new(check),
                interval,
                timeout: Duration::from_secs(5),
            };
            let (host, far) = (ResourceReader::new(Vec::new()), Duration::from_secs(1_000_000));
            let (runner, handle) = Runner::new(vec![scheduled], host, far, clock.clone(), 7);
            let (send, out) = mpsc::channel(64);
            tokio::runtime::Handle::current().spawn(runner.run(send, CancellationToken::new()));
            Self { clock, inbox, runner: handle, out, at: 0, last: None, changes: Vec::new() }
        }

        async fn until(&mut self, millis: u64) {
            while self.at < millis {
                self.clock.advance(Duration::from_millis(1));
                tokio::time::sleep(Duration::from_millis(1)).await;
                self.at += 1;
                self.look();
            }
        }

        fn look(&mut self) {
            while let Ok(batch) = self.out.try_recv() {
                for observation in batch {
                    let Observation::Health { health: Health { status, .. }, .. } = observation else { continue };
                    if self.last.replace(status) != Some(status) {
                        self.changes.push((self.at, status));
                    }
                }
            }
        }

        fn push(&self, status: Option<Status>) {
            if let Some(index) = self.inbox.push(pushed(status)).unwrap() {
                self.runner.force(index);
            }
        }
    }

    /// OBS-7: heartbeats at 0, 10 and 20 s, then silence: degraded 30 s after the last, critical 60 s after it, each
    /// within milliseconds though the check's interval is a day; the next heartbeat heals at once, and a word of trouble
    /// is heard at once.
    #[tokio::test(start_paused = true)]
    async fn a_timeline_of_heartbeats() {
        let mut timeline = Timeline::begin();
        timeline.until(5).await;
        for at in [1_000, 11_000, 21_000] {
            timeline.until(at).await;
            timeline.push(None);
        }
        timeline.until(95_000).await;
        timeline.push(None);
        timeline.until(96_000).await;
        timeline.push(Some(Status::Critical));
        timeline.until(97_000).await;
        timeline.push(None);
        timeline.until(98_000).await;
        let expected = [
            (0, Status::Unknown),
            (1_000, Status::Healthy),
            (51_000, Status::Degraded),
            (81_001, Status::Critical),
            (95_000, Status::Healthy),
            (96_000, Status::Critical),
            (97_000, Status::Healthy),
        ];
        assert_eq!(timeline.changes.len(), expected.len(), "{:?}", timeline.changes);
        for ((found_at, found), (at, status)) in timeline.changes.iter().zip(expected) {
            assert_eq!(*found, status, "{:?}", timeline.changes);
            assert!((at..=at + 12).contains(found_at), "{status} at {found_at}, expected {at}");
        }
    }
}
