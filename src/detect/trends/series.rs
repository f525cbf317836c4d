//! A quantity over time, in bounded memory: tiers of buckets, each four times as wide as those of the one before.
//!
//! The first tier's buckets are [`GRAIN_PART`]ths of the horizon wide (15 s for 1 h) and hold the mean of what came in them.
//! A bucket of a further tier holds the median of the four it stands for, so that short peaks are lost on the way. With
//! [`SLOTS`] buckets each, the tiers look back 0.13, 0.53, 2.1 and 8.5 horizons.
//! **Invariant:** times are milliseconds of one clock that is never set; whoever calls moves them (see [`super::Tracker`]).
//! At most [`TIERS`] times [`SLOTS`] values of four bytes are kept, and none before the first arrives.

/// The horizon, divided by this, is the width of the finest bucket.
pub const GRAIN_PART: i64 = 240;
/// How many tiers there are.
pub const TIERS: usize = 4;
/// How many buckets a tier keeps.
pub const SLOTS: usize = 32;
/// How many buckets of a tier make one of the next.
pub const RATIO: i64 = 4;

/// One resolution. A slot without a value is NaN; bucket `b` is in slot `b` modulo [`SLOTS`].
#[derive(Clone, Debug, Default)]
struct Tier {
    slots: Vec<f32>,
    /// The latest bucket that is complete.
    head: i64,
}

impl Tier {
    fn slot(bucket: i64) -> usize {
        usize::try_from(bucket.rem_euclid(SLOTS as i64)).unwrap_or(0)
    }

    /// Takes the value of a complete bucket; those between it and the one before were empty.
    fn put(&mut self, bucket: i64, value: f32) {
        if self.slots.is_empty() {
            self.slots = vec![f32::NAN; SLOTS];
            self.head = bucket - 1;
        }
        let skipped = bucket.saturating_sub(self.head).saturating_sub(1).clamp(0, SLOTS as i64);
        for empty in 1..=skipped {
            self.slots[Self::slot(bucket - empty)] = f32::NAN;
        }
        self.slots[Self::slot(bucket)] = value;
        self.head = bucket;
    }

    /// The value of a bucket, if there is one that is still kept.
    fn get(&self, bucket: i64) -> Option<f32> {
        if self.slots.is_empty() || bucket > self.head || bucket <= self.head - SLOTS as i64 {
            return None;
        }
        Some(self.slots[Self::slot(bucket)]).filter(|value| !value.is_nan())
    }
}

/// What is kept of one quantity.
#[derive(Clone, Debug, Default)]
pub struct Series {
    tiers: [Tier; TIERS],
    /// The bucket of the first tier that is being filled: its number, the sum and the number of its samples.
    open: Option<(i64, f64, u32)>,
}

/// A point of a tier: the middle of a bucket in milliseconds, and its value.
pub type Point = (f64, f64);

impl Series {
    /// Takes a sample. `grain` is the width of the finest bucket, the same in every call. What is older than the latest
    /// sample's bucket is left out.
    pub fn push(&mut self, at: i64, value: f64, grain: i64) {
        let bucket = at.div_euclid(grain.max(1));
        match &mut self.open {
            Some((open, sum, count)) if *open == bucket => {
                *sum += value;
                *count += 1;
            }
            Some((open, ..)) if *open > bucket => {}
            _ => {
                self.close();
                self.open = Some((bucket, value, 1));
            }
        }
        self.roll(bucket);
    }

    /// Puts the bucket that was being filled into the first tier.
    #[expect(clippy::cast_possible_truncation, reason = "seven digits of a measurement are enough")]
    fn close(&mut self) {
        if let Some((bucket, sum, count)) = self.open.take() {
            self.tiers[0].put(bucket, (sum / f64::from(count.max(1))) as f32);
        }
    }

    /// Completes the buckets of the further tiers that lie before `bucket` of the first.
    fn roll(&mut self, bucket: i64) {
        let mut now = bucket;
        for tier in 1..TIERS {
            now = now.div_euclid(RATIO);
            let (finer, coarser) = self.tiers.split_at_mut(tier);
            let (finer, coarser) = (&finer[tier - 1], &mut coarser[0]);
            if finer.slots.is_empty() {
                return;
            }
            // Of the finer tier, only the group of its latest bucket can be complete and not yet taken.
            let group = finer.head.div_euclid(RATIO);
            if group >= now || (!coarser.slots.is_empty() && coarser.head >= group) {
                return;
            }
            let mut values: Vec<f64> =
                (group * RATIO..(group + 1) * RATIO).filter_map(|b| finer.get(b)).map(f64::from).collect();
            let Some(middle) = super::fit::median(&mut values) else { return };
            #[expect(clippy::cast_possible_truncation, reason = "it was one before")]
            coarser.put(group, middle as f32);
        }
    }

    /// The points of a tier no older than `buckets` of it before its latest, oldest first, into `out`.
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 53 bits")]
    pub fn points(&self, tier: usize, buckets: usize, grain: i64, out: &mut Vec<Point>) {
        out.clear();
        let width = grain.saturating_mul(RATIO.pow(u32::try_from(tier).unwrap_or(0)));
        let kept = &self.tiers[tier];
        let from = kept.head - buckets.min(SLOTS) as i64;
        let middle = |bucket: i64| (bucket as f64 + 0.5) * width as f64;
        out.extend((from + 1..=kept.head).filter_map(|b| Some((middle(b), f64::from(kept.get(b)?)))));
    }

    /// The middle of the latest values: of half a tier of the finest.
    pub fn recent(&self) -> Option<f64> {
        let tier = &self.tiers[0];
        let from = tier.head - SLOTS as i64 / 4;
        super::fit::median(&mut (from + 1..=tier.head).filter_map(|b| tier.get(b)).map(f64::from).collect::<Vec<_>>())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
