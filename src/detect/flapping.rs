//! Whether an episode comes and goes too often, and how long it is then held open (DET-3).

use crate::model::Timestamp;

use super::Settings;

/// Whether the openings of one key, the latest included, make it flap.
pub fn is_flapping(openings: &[Timestamp], settings: &Settings, now: Timestamp) -> bool {
    let recent = openings.iter().filter(|opened| now.since(**opened) < settings.flap_window).count();
    recent >= settings.flap_openings as usize
}

/// Whether an episode that nothing holds open any more since `clear_since` may be resolved at `now`.
pub fn may_resolve(flapping: bool, clear_since: Timestamp, settings: &Settings, now: Timestamp) -> bool {
    !flapping || now.since(clear_since) >= settings.flap_hold
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DET-3: three openings within ten minutes flap, and flapping is damped for five minutes.
    #[test]
    fn flaps_at_the_third_opening() {
        let settings = Settings::default();
        let at = |second: i64| Timestamp::from_millis(second * 1000);
        assert!(!is_flapping(&[at(0), at(60)], &settings, at(60)));
        assert!(is_flapping(&[at(0), at(60), at(120)], &settings, at(120)));
        assert!(!is_flapping(&[at(0), at(60), at(600)], &settings, at(600)), "the first is out of the window");
        assert!(!may_resolve(true, at(0), &settings, at(299)));
        assert!(may_resolve(true, at(0), &settings, at(300)));
        assert!(may_resolve(false, at(0), &settings, at(0)));
    }
}
