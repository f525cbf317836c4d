//! What predictions are worth: labelled series are played to a track, and every forecast is compared with what came.

use super::labelled::{Kind, Labelled};

/// What came of some series.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// Series that crossed the limit.
    pub positive: u32,
    /// Of these, with a forecast at least ten minutes before, and none given up since.
    pub told: u32,
    /// Forecasts in all.
    pub forecasts: u32,
    /// Of these, followed by a crossing within one and a half horizons.
    pub right: u32,
    /// Series without any trend at all.
    pub flat: u32,
    /// Of these, with a forecast.
    pub alarmed: u32,
    /// Minutes from the forecast that stood at the crossing to it.
    pub leads: Vec<f64>,
    /// The crossing was within the interval that was told with it.
    pub within: u32,
    /// Samples.
    pub samples: u64,
}

impl Score {
    pub fn precision(&self) -> f64 {
        f64::from(self.right) / f64::from(self.forecasts.max(1))
    }

    pub fn recall(&self) -> f64 {
        f64::from(self.told) / f64::from(self.positive.max(1))
    }

    pub fn alarms_on_flat(&self) -> f64 {
        f64::from(self.alarmed) / f64::from(self.flat.max(1))
    }

    pub fn add(&mut self, other: &Self) {
        self.positive += other.positive;
        self.told += other.told;
        self.forecasts += other.forecasts;
        self.right += other.right;
        self.flat += other.flat;
        self.alarmed += other.alarmed;
        self.leads.extend(&other.leads);
        self.within += other.within;
        self.samples += other.samples;
    }

    /// Plays a series, in milliseconds, to whatever forecasts, and judges it. `take` answers with the interval of the forecast
    /// that stands, if one does, and whether one has just ended because the limit was crossed.
    pub fn play<T: Default>(
        &mut self,
        kind: Kind,
        series: &Labelled,
        mut take: impl FnMut(&mut T, i64, f64) -> (Option<(f64, f64)>, bool),
    ) {
        let (mut forecaster, mut open) = (T::default(), false);
        let mut told: Vec<(f64, Option<f64>, f64, f64)> = Vec::new();
        for (second, value) in &series.samples {
            #[expect(clippy::cast_possible_truncation, reason = "half a day of milliseconds")]
            let at = (second * 1000.0) as i64;
            let (stands, crossed) = take(&mut forecaster, at, *value);
            match (stands, told.last_mut()) {
                (Some((earliest, latest)), _) if !open => told.push((*second, None, earliest / 1e3, latest / 1e3)),
                (None, Some(last)) if open && !crossed => last.1 = Some(*second),
                _ => {}
            }
            open = stands.is_some();
        }
        self.judge(kind, series, &told);
    }

    /// Judges the forecasts of one series: each began at, ended at if it did, and the interval it first told, in seconds.
    fn judge(&mut self, kind: Kind, series: &Labelled, told: &[(f64, Option<f64>, f64, f64)]) {
        self.samples += series.samples.len() as u64;
        self.forecasts += u32::try_from(told.len()).expect("few");
        if Kind::FLAT.contains(&kind) {
            self.flat += 1;
            self.alarmed += u32::from(!told.is_empty());
        }
        let Some(crosses) = series.crosses else { return };
        self.positive += 1;
        let before = |begun: f64| begun <= crosses && begun >= series.begins;
        let right = |begun: f64| before(begun) && crosses - begun <= 1.5 * 3600.0;
        self.right += u32::try_from(told.iter().filter(|(begun, ..)| right(*begun)).count()).expect("few");
        // It must stand until (nearly) the crossing.
        let stood =
            told.iter().find(|(begun, ended, ..)| before(*begun) && ended.is_none_or(|ended| ended > crosses - 120.0));
        if let Some((begun, _, earliest, latest)) = stood {
            self.leads.push((crosses - begun) / 60.0);
            self.told += u32::from(crosses - begun >= 600.0);
            self.within += u32::from((*earliest..=*latest).contains(&crosses));
        }
    }

    /// The lead that this share of the forecasts did not reach, in minutes.
    pub fn lead(&self, share: f64) -> f64 {
        let mut leads = self.leads.clone();
        leads.sort_by(f64::total_cmp);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place within the list"
        )]
        let place = (leads.len().saturating_sub(1) as f64 * share) as usize;
        leads.get(place).copied().unwrap_or(0.0)
    }
}
