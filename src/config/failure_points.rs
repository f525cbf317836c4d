//! `failure_points`: which of the places where platforms usually break are looked at, and what of each (OBS-8).

use std::sync::Arc;
use std::time::Duration;

use super::intake::{Intake, span};
use super::subsystems::{GRACE, Known};
use super::{PointSettings, SubsystemSettings};
use crate::base::tree::Section;
use crate::model::{FailurePoint, Name, PLATFORM};
use crate::observe::check::{BuildContext, ScheduledCheck};
use crate::observe::failure_points::{POINTS, PointContext};
use crate::observe::inbox::Slot;

/// How often each is looked at, where the settings do not say (OBS-5).
const EVERY: Duration = Duration::from_secs(60);

/// The failure points that are configured, in the order of the registry, and how often they are looked at.
pub(super) fn failure_points(
    top: &mut Section<'_>,
    intake: &Intake<'_>,
    known: &Known,
    context: &BuildContext,
    subsystems: &[SubsystemSettings],
) -> (Vec<PointSettings>, Duration) {
    let Some(mut section) = top.section("failure_points") else { return (Vec::new(), EVERY) };
    let every = span(&mut section, "every", EVERY);
    let slots: Vec<(Name, Arc<Slot>)> = subsystems
        .iter()
        .filter_map(|one| Some((one.subsystem.name.clone(), Arc::clone(one.scheduled.check.slot()?))))
        .collect();
    let context = PointContext { checks: context, slots: &slots, every };
    let mut points = Vec::new();
    for spec in POINTS {
        let Some(mut point) = section.section(spec.category) else { continue };
        let subsystem = subsystem(&mut point, intake, known);
        let built = (spec.build)(&mut point, &context);
        point.finish();
        let Some(built) = built else { continue };
        points.push(PointSettings {
            point: FailurePoint { category: spec.category.into(), subsystem },
            scheduled: ScheduledCheck {
                subsystem: spec.category.into(),
                check: built.check,
                interval: every,
                timeout: built.limit.saturating_add(GRACE),
            },
        });
    }
    section.finish();
    (points, every)
}

/// Whose issues its findings are.
fn subsystem(section: &mut Section<'_>, intake: &Intake<'_>, known: &Known) -> Name {
    let platform = || Name::from(PLATFORM);
    let Some(text) = section.opt::<String>("subsystem") else { return platform() };
    if text == PLATFORM {
        return platform();
    }
    match known.find(&text, intake.problems) {
        Ok(name) if known.is_disabled(&name) => {
            section.reject("subsystem", "expected a subsystem that is enabled, or `platform`", None);
            platform()
        }
        Ok(name) => name,
        Err(hint) => {
            section.reject("subsystem", "expected a configured subsystem, or `platform`", hint);
            platform()
        }
    }
}
