//! Maintenance windows: when only listed actions run, by a plan in cron's manner or announced by a person.
//!
//! **Invariant:** pure; whether a window is open follows from the time that is given, whenever it is asked.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

use crate::model::{Name, Timestamp};

/// A window that comes again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its name, unique.
    pub name: Name,
    /// When it opens.
    pub plan: Plan,
    /// How long it stays open.
    pub duration: Duration,
    /// On which subsystems; empty for all, the host included.
    pub subsystems: Vec<Name>,
    /// What may run all the same; what lowers risk always may.
    pub actions: Vec<Name>,
}

impl Window {
    /// The latest opening that is not over at `now`: from when to when.
    pub fn open_at(&self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let from = self.plan.at_or_before(now)?;
        let until = from.plus(self.duration);
        (now < until).then_some((from, until))
    }
}

/// Whether a window on those subsystems that lets those actions run holds up an action on a target.
pub fn holds_up(subsystems: &[Name], actions: &[Name], target: &Name, action: &Name) -> bool {
    (subsystems.is_empty() || subsystems.contains(target)) && !actions.contains(action)
}

/// Moments by the clocks of a time zone, in cron's five fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    text: String,
    cron: Cron,
    zone: Tz,
}

impl Plan {
    /// Reads five fields; on `Err` what is wrong with them. `now` is any time: a plan without a moment after it is none.
    pub fn parse(text: &str, zone: Tz, now: Timestamp) -> Result<Self, String> {
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| error.to_string().to_lowercase())?;
        let plan = Self { text: text.to_owned(), cron, zone };
        if plan.after(now).is_none() {
            return Err("it never comes".to_owned());
        }
        Ok(plan)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whose clocks.
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The latest moment that is not after `now`.
    pub fn at_or_before(&self, now: Timestamp) -> Option<Timestamp> {
        self.cron.find_previous_occurrence(&self.local(now), true).ok().map(stamp)
    }

    /// The next moment after `now`.
    pub fn after(&self, now: Timestamp) -> Option<Timestamp> {
        self.cron.find_next_occurrence(&self.local(now), false).ok().map(stamp)
    }

    /// In whole seconds: plans know nothing finer.
    fn local(&self, now: Timestamp) -> DateTime<Tz> {
        Timestamp::from_millis(now.millis().div_euclid(1000) * 1000).to_datetime().with_timezone(&self.zone)
    }
}

fn stamp(date: DateTime<Tz>) -> Timestamp {
    date.with_timezone(&Utc).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).expect("a date")
    }

    fn window(cron: &str, zone: Tz, hours: u64) -> Window {
        Window {
            name: "weekly".into(),
            plan: Plan::parse(cron, zone, at("2025-01-01T00:00:00Z")).expect("a plan"),
            duration: Duration::from_secs(hours * 3600),
            subsystems: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// What is open at a time: from when to when.
    fn table(window: &Window, rows: &[(&str, Option<(&str, &str)>)]) {
        for (now, expected) in rows {
            let expected = expected.map(|(from, until)| (at(from), at(until)));
            assert_eq!(window.open_at(at(now)), expected, "{} at {now}", window.plan.text());
        }
    }

    /// ACT-3: open from the very moment, and no longer at the end; across midnight too.
    #[test]
    fn when_it_is_open() {
        let saturday = Some(("2025-11-22T22:00:00Z", "2025-11-23T02:00:00Z"));
        table(
            &window("0 22 * * SAT", Tz::UTC, 4),
            &[
                ("2025-11-22T21:59:59.999Z", None),
                ("2025-11-22T22:00:00Z", saturday),
                ("2025-11-22T22:00:00.001Z", saturday),
                ("2025-11-23T01:59:59.999Z", saturday),
                ("2025-11-23T02:00:00Z", None),
            ],
        );
        // Longer than the time between two openings: always open.
        let hourly = window("0 * * * *", Tz::UTC, 2);
        table(&hourly, &[("2025-11-22T21:59:59Z", Some(("2025-11-22T21:00:00Z", "2025-11-22T23:00:00Z")))]);
    }

    /// By the clocks of the zone: an hour earlier by UTC in summer.
    #[test]
    fn by_the_clocks_of_its_zone() {
        table(
            &window("0 22 * * SAT", Tz::Europe__Vienna, 1),
            &[
                ("2025-07-05T20:30:00Z", Some(("2025-07-05T20:00:00Z", "2025-07-05T21:00:00Z"))),
                ("2025-12-06T20:30:00Z", None),
                ("2025-12-06T21:30:00Z", Some(("2025-12-06T21:00:00Z", "2025-12-06T22:00:00Z"))),
            ],
        );
    }

    /// A spring night without 02:30 (Vienna, 2025-03-30, 02:00 becomes 03:00 at 01:00Z): the window of that night falls
    /// out, and none opens twice; one that is open lasts as long as it says.
    #[test]
    fn when_clocks_go_forward() {
        table(
            &window("30 2 * * *", Tz::Europe__Vienna, 1),
            &[
                ("2025-03-29T01:30:00Z", Some(("2025-03-29T01:30:00Z", "2025-03-29T02:30:00Z"))),
                ("2025-03-30T00:59:59Z", None),
                ("2025-03-30T03:00:00Z", None),
                ("2025-03-31T00:30:00Z", Some(("2025-03-31T00:30:00Z", "2025-03-31T01:30:00Z"))),
            ],
        );
        table(
            &window("0 1 * * *", Tz::Europe__Vienna, 3),
            &[
                ("2025-03-30T02:59:59Z", Some(("2025-03-30T00:00:00Z", "2025-03-30T03:00:00Z"))),
                ("2025-03-30T03:00:00Z", None),
            ],
        );
    }

    /// An autumn night with 02:30 twice (Vienna, 2025-10-26, 03:00 becomes 02:00 at 01:00Z): the window opens at the first.
    #[test]
    fn when_clocks_go_back() {
        let first = Some(("2025-10-26T00:30:00Z", "2025-10-26T01:30:00Z"));
        table(
            &window("30 2 * * *", Tz::Europe__Vienna, 1),
            &[
                ("2025-10-26T00:29:59Z", None),
                ("2025-10-26T00:30:00Z", first),
                ("2025-10-26T01:29:59Z", first),
                ("2025-10-26T01:30:00Z", None),
                ("2025-10-26T02:00:00Z", None),
                ("2025-10-27T01:30:00Z", Some(("2025-10-27T01:30:00Z", "2025-10-27T02:30:00Z"))),
            ],
        );
        table(
            &window("0 1 * * *", Tz::Europe__Vienna, 3),
            &[("2025-10-26T01:59:59Z", Some(("2025-10-25T23:00:00Z", "2025-10-26T02:00:00Z")))],
        );
    }

    /// A leap day comes every four years, and the search for it finds both sides.
    #[test]
    fn on_a_leap_day() {
        let window = window("0 12 29 2 *", Tz::UTC, 1);
        table(
            &window,
            &[
                ("2027-02-28T12:30:00Z", None),
                ("2028-02-29T12:30:00Z", Some(("2028-02-29T12:00:00Z", "2028-02-29T13:00:00Z"))),
                ("2028-03-01T12:30:00Z", None),
            ],
        );
        assert_eq!(window.plan.after(at("2025-01-01T00:00:00Z")), Some(at("2028-02-29T12:00:00Z")));
        assert_eq!(window.plan.at_or_before(at("2027-01-01T00:00:00Z")), Some(at("2024-02-29T12:00:00Z")));
    }

    #[test]
    fn what_is_no_plan() {
        for text in ["", "0 22 * *", "0 0 22 * * SAT", "61 * * * *", "0 22 * * SOMEDAY", "0 0 30 2 *", "@reboot"] {
            let refused = Plan::parse(text, Tz::UTC, at("2025-01-01T00:00:00Z"));
            assert!(refused.is_err(), "{text}: {refused:?}");
        }
    }

    #[test]
    fn whom_it_holds_up() {
        let (restart, feed) = (Name::from("restart_subsystem"), Name::from("data_feed"));
        let [listed, other] = [[restart.clone()], [Name::from("clear_cache")]];
        let [there, elsewhere] = [[feed.clone()], [Name::from("database")]];
        assert!(holds_up(&[], &[], &feed, &restart));
        assert!(holds_up(&there, &other, &feed, &restart));
        assert!(!holds_up(&there, &listed, &feed, &restart));
        assert!(!holds_up(&elsewhere, &[], &feed, &restart));
    }
}
