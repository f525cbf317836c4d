//! Labelled series for the benchmark of predictions: seeded, with the moment at which the limit is really crossed, if it is.
//!
//! All series have a limit of 1 and last at most 12 h. They begin with a quiet time of 1 to 4 h. What is measured is the
//! truth plus noise (normal, heavy-tailed, or following itself), now and then a spike, now and then no sample.

/// A generator of numbers (splitmix64): the same seed gives the same series on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// Between two positive numbers, evenly by their logarithms.
    pub fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    pub fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[(self.next() % list.len() as u64) as usize]
    }

    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.share().max(1e-300).ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    /// Student's t with three degrees of freedom, of variance 1: tails as heavy as latency has them.
    pub fn heavy(&mut self) -> f64 {
        let chi: f64 = (0..3).map(|_| self.normal().powi(2)).sum();
        self.normal() / (chi / 3.0).sqrt() / 3.0_f64.sqrt()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cross the limit.
    Ramp,
    SlowRamp,
    LeakWithTeeth,
    Accelerating,
    Uneven,
    StepThenRamp,
    Stretching,
    /// Do not.
    Flat,
    FlatNearLimit,
    Wandering,
    Seasonal,
    Steps,
    Resets,
    Saturating,
    TooSlow,
    Bursts,
    /// Climb towards it and then stop, which nobody can know; told of apart.
    Stopping,
}

impl Kind {
    pub const POSITIVE: [Self; 7] = [
        Self::Ramp,
        Self::SlowRamp,
        Self::LeakWithTeeth,
        Self::Accelerating,
        Self::Uneven,
        Self::StepThenRamp,
        Self::Stretching,
    ];
    pub const NEGATIVE: [Self; 9] = [
        Self::Flat,
        Self::FlatNearLimit,
        Self::Wandering,
        Self::Seasonal,
        Self::Steps,
        Self::Resets,
        Self::Saturating,
        Self::TooSlow,
        Self::Bursts,
    ];
    pub const FLAT: [Self; 3] = [Self::Flat, Self::FlatNearLimit, Self::Bursts];
}

/// One series: samples of (seconds, value), the moment the truth crosses 1, and when the climb began.
pub struct Labelled {
    pub samples: Vec<(f64, f64)>,
    pub crosses: Option<f64>,
    pub begins: f64,
}

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;
const LENGTH: f64 = 12.0 * HOUR;

/// The truth as a function of time, in seconds.
type Truth = Box<dyn Fn(f64) -> f64>;

fn truth(kind: Kind, random: &mut Random, begins: f64) -> Truth {
    let level = random.between(0.2, 0.75);
    let after = move |t: f64| (t - begins).max(0.0);
    match kind {
        Kind::Ramp => {
            let slope = (1.0 - level) / random.scale(25.0 * MINUTE, 2.0 * HOUR);
            Box::new(move |t| level + slope * after(t))
        }
        Kind::SlowRamp => {
            let slope = (1.0 - level) / random.between(2.0 * HOUR, 6.0 * HOUR);
            Box::new(move |t| level + slope * after(t))
        }
        Kind::LeakWithTeeth => {
            let slope = (1.0 - level) / random.between(1.0 * HOUR, 5.0 * HOUR);
            let (period, height) = (random.scale(1.0 * MINUTE, 15.0 * MINUTE), random.between(0.02, 0.12));
            Box::new(move |t| level + slope * after(t) + height * ((t / period).fract() - 0.5))
        }
        Kind::Accelerating => {
            let (length, power) = (random.between(1.0 * HOUR, 4.0 * HOUR), random.between(1.3, 2.5));
            Box::new(move |t| level + (1.0 - level) * (after(t) / length).powf(power))
        }
        Kind::Uneven => {
            // The pace changes every few minutes, between a quarter and seven quarters of its mean.
            let pace = (1.0 - level) / random.between(45.0 * MINUTE, 4.0 * HOUR);
            let every = random.between(2.0 * MINUTE, 10.0 * MINUTE);
            let paces: Vec<f64> = (0..1000).map(|_| pace * random.between(0.25, 1.75)).collect();
            Box::new(move |t| {
                let (whole, part) = ((after(t) / every).floor(), (after(t) / every).fract());
                let done: f64 = paces[..(whole as usize).min(999)].iter().sum();
                level + every * (done + part * paces[(whole as usize).min(999)])
            })
        }
        Kind::StepThenRamp => {
            let (step, high) =
                (begins - random.between(10.0 * MINUTE, 50.0 * MINUTE), level + random.between(0.02, 0.2));
            let slope = (1.0 - level) / random.scale(30.0 * MINUTE, 3.0 * HOUR);
            Box::new(move |t| if t < step { high } else { level + slope * after(t) })
        }
        Kind::Stretching => {
            // The limit stands for 5 min; with fewer updates than some twenty nothing could be told.
            let length = random.between(1.0 * HOUR, 5.0 * HOUR);
            let base = random.scale(0.02, 0.25);
            Box::new(move |t| base + (1.0 - base) * after(t) / length)
        }
        Kind::Flat => Box::new(move |_| level),
        Kind::FlatNearLimit => {
            let level = random.between(0.8, 0.97);
            Box::new(move |_| level)
        }
        Kind::Wandering => Box::new(move |_| level * 0.9),
        Kind::Seasonal => {
            let top = random.between(0.6, 0.93);
            let height = random.between(0.05, 0.45) * top;
            let (period, phase) = (random.scale(10.0 * MINUTE, 2.5 * HOUR), random.share());
            Box::new(move |t| top - height * (1.0 - ((t / period + phase) * std::f64::consts::TAU).cos()) / 2.0)
        }
        Kind::Steps => {
            let every = random.between(30.0 * MINUTE, 3.0 * HOUR);
            let levels: Vec<f64> = (0..40).map(|_| random.between(0.2, 0.93)).collect();
            Box::new(move |t| levels[(t / every) as usize % 40])
        }
        Kind::Resets => {
            // A log that is rotated, a cache that is emptied: the same climb again and again, never to the limit.
            let (low, top) = (random.between(0.1, 0.5), random.between(0.6, 0.93));
            let (period, phase) = (random.scale(20.0 * MINUTE, 2.5 * HOUR), random.share());
            Box::new(move |t| low + (top - low) * (t / period + phase).fract())
        }
        Kind::Saturating => {
            let (top, pace) = (random.between(level, 0.93), random.scale(10.0 * MINUTE, 2.0 * HOUR));
            Box::new(move |t| level + (top - level) * (1.0 - (-after(t) / pace).exp()))
        }
        Kind::TooSlow => {
            // It would cross, but long after the last sample.
            let slope = (1.0 - level) / random.between(16.0 * HOUR, 60.0 * HOUR);
            Box::new(move |t| level + slope * after(t))
        }
        Kind::Bursts => {
            let (every, length) = (random.between(20.0 * MINUTE, 2.0 * HOUR), random.between(5.0, 90.0));
            let height = random.between(0.1, 1.0);
            Box::new(move |t| level + if t % every < length { height } else { 0.0 })
        }
        Kind::Stopping => {
            let slope = (1.0 - level) / random.scale(40.0 * MINUTE, 4.0 * HOUR);
            let top = level + (1.0 - level) * random.between(0.4, 0.85);
            Box::new(move |t| (level + slope * after(t)).min(top))
        }
    }
}

/// The series of a kind and a seed.
pub fn series(kind: Kind, seed: u64) -> Labelled {
    let mut random = Random::new(seed ^ ((kind as u64) << 40));
    let begins = random.between(1.0 * HOUR, 4.0 * HOUR);
    let truth = truth(kind, &mut random, begins);
    let crosses = if Kind::NEGATIVE.contains(&kind) || kind == Kind::Stopping {
        None
    } else {
        let first = (0..(LENGTH as u64)).map(|second| second as f64).find(|t| *t > begins && truth(*t) >= 1.0);
        first.filter(|t| *t < LENGTH - 60.0)
    };
    let interval = random.one_of(&[5.0, 15.0, 30.0, 60.0]);
    let missing = random.one_of(&[0.0, 0.0, 0.05, 0.3]);
    let noise = random.scale(0.001, 0.05);
    let follows = if kind == Kind::Wandering { random.between(0.8, 0.98) } else { random.one_of(&[0.0, 0.0, 0.5]) };
    let heavy = random.share() < 0.4;
    let spikes = random.one_of(&[0.0, 0.0, 0.01]);
    let gap = (random.share() < 0.15).then(|| random.between(0.5 * HOUR, 6.0 * HOUR));
    let mut samples = Vec::new();
    let (mut t, mut before) = (0.0, 0.0);
    while t < LENGTH && crosses.is_none_or(|at| t < at + 5.0 * MINUTE) {
        let fresh = if heavy { random.heavy() } else { random.normal() };
        before = follows * before + (1.0_f64 - follows * follows).sqrt() * fresh;
        let mut value = truth(t) + noise * before;
        if random.share() < spikes {
            value += random.between(0.1, 2.0);
        }
        let lost = random.share() < missing || gap.is_some_and(|at| t > at && t < at + 10.0 * MINUTE);
        if kind == Kind::Stretching {
            // The value is the time since the update before, in units of 5 min.
            let value = truth(t).max(0.002) * (1.0 + 4.0 * noise * before).clamp(0.3, 3.0);
            t += value * 300.0;
            samples.push((t, value));
            continue;
        }
        if !lost {
            samples.push((t, value));
        }
        // A schedule with jitter.
        t += interval * random.between(0.95, 1.05);
    }
    Labelled { samples, crosses, begins }
}
