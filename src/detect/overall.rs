//! The overall status under the criticality cap (OBS-2), kept as counts so that one change costs one step.

use crate::model::{Criticality, Status, Summary};

const CRITICALITIES: [Criticality; 3] = [Criticality::Full, Criticality::Partial, Criticality::None];

/// How many subsystems of each criticality have each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([[usize; 5]; 3]);

fn status_index(status: Status) -> usize {
    Status::ALL.iter().position(|other| *other == status).unwrap_or(4)
}

fn criticality_index(criticality: Criticality) -> usize {
    CRITICALITIES.iter().position(|other| *other == criticality).unwrap_or(2)
}

impl Counts {
    /// Counts a subsystem in.
    pub fn add(&mut self, criticality: Criticality, status: Status) {
        self.0[criticality_index(criticality)][status_index(status)] += 1;
    }

    /// Takes a subsystem that was counted in out again.
    pub fn remove(&mut self, criticality: Criticality, status: Status) {
        let count = &mut self.0[criticality_index(criticality)][status_index(status)];
        *count = count.saturating_sub(1);
    }

    /// How many have this criticality and status.
    pub fn count(&self, criticality: Criticality, status: Status) -> usize {
        self.0[criticality_index(criticality)][status_index(status)]
    }

    /// How many are critical or failed.
    pub fn broken(&self) -> usize {
        let of = |status| CRITICALITIES.iter().map(|criticality| self.count(*criticality, status)).sum::<usize>();
        Status::ALL.into_iter().filter(|status| status.is_broken()).map(of).sum()
    }

    /// The worst status after the cap; unknown never worsens it; all unknown gives unknown.
    pub fn overall(&self) -> Status {
        self.worst(&CRITICALITIES)
    }

    /// The same without subsystems of criticality `none`, which never move the policy.
    pub fn overall_for_policy(&self) -> Status {
        self.worst(&[Criticality::Full, Criticality::Partial])
    }

    fn worst(&self, of: &[Criticality]) -> Status {
        let mut worst = None;
        for criticality in of {
            for status in [Status::Healthy, Status::Degraded, Status::Critical, Status::Failed] {
                if self.count(*criticality, status) > 0 {
                    let capped = status.rank().min(criticality.cap().rank());
                    worst = worst.max(capped);
                }
            }
        }
        match worst {
            None => Status::Unknown,
            Some(0) => Status::Healthy,
            Some(1) => Status::Degraded,
            Some(2) => Status::Critical,
            Some(_) => Status::Failed,
        }
    }

    /// Counts per status.
    pub fn summary(&self) -> Summary {
        let sum = |status| CRITICALITIES.iter().map(|criticality| self.count(*criticality, status)).sum();
        Summary {
            healthy: sum(Status::Healthy),
            degraded: sum(Status::Degraded),
            critical: sum(Status::Critical),
            failed: sum(Status::Failed),
            unknown: sum(Status::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overall(of: &[(Criticality, Status)]) -> Status {
        let mut counts = Counts::default();
        for (criticality, status) in of {
            counts.add(*criticality, *status);
        }
        counts.overall()
    }

    /// OBS-2: the cap, row by row.
    #[test]
    fn caps() {
        use Criticality::{Full, None, Partial};
        use Status::{Critical, Degraded, Failed, Healthy, Unknown};
        assert_eq!(overall(&[(Full, Failed)]), Failed);
        assert_eq!(overall(&[(Partial, Failed)]), Critical);
        assert_eq!(overall(&[(None, Failed), (Full, Healthy)]), Degraded);
        assert_eq!(overall(&[(Partial, Critical), (Full, Degraded)]), Critical);
        assert_eq!(overall(&[(Full, Unknown), (Partial, Healthy)]), Healthy);
        assert_eq!(overall(&[(Full, Unknown)]), Unknown);
        assert_eq!(overall(&[]), Unknown);
    }

    fn any_pair() -> impl Strategy<Value = (Criticality, Status)> {
        (proptest::sample::select(&CRITICALITIES[..]), proptest::sample::select(&Status::ALL[..]))
    }

    proptest! {
        /// OBS-2: evaluation is monotone; one more known subsystem never makes a known overall status better.
        #[test]
        fn adding_never_improves(of in prop::collection::vec(any_pair(), 0..8), more in any_pair()) {
            let before = overall(&of);
            let mut after = of.clone();
            after.push(more);
            if before != Status::Unknown {
                prop_assert!(overall(&after).rank() >= before.rank());
            }
        }
    }
}
