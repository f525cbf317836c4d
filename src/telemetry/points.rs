//! The series of the failure points (OBS-8).

use std::sync::Arc;

use crate::model::{Health, PointsStatus, Status};

use super::exposition::PERFDATA_MAX;
use super::text::{Kind, Text};

/// The statuses that a failure point may have; none of them fails for good.
const STATUSES: [Status; 4] = [Status::Healthy, Status::Degraded, Status::Critical, Status::Unknown];

/// Writes the families of the failure points.
pub(super) fn render(points: &[Arc<Health>], text: &mut Text<'_>) {
    if points.is_empty() {
        return;
    }
    let overall = PointsStatus::of(points.iter().map(|health| &**health));
    let help = "The failure points together: 1 for the present status.";
    let mut family = text.family("chiron_failure_points_overall", Kind::Gauge, help);
    for status in PointsStatus::ALL {
        family.flag(&[("status", status.as_str())], status == overall);
    }
    let help = "The status of a failure point: 1 for the present one, unknown if it is not configured.";
    let mut family = text.family("chiron_failure_point_status", Kind::Gauge, help);
    for health in points {
        for status in STATUSES {
            family.flag(&[("category", &health.subsystem), ("status", status.as_str())], status == health.status);
        }
    }
    type Pick = fn(&Health) -> f64;
    #[expect(clippy::cast_precision_loss, reason = "findings are bounded")]
    let numbers: [(&str, &str, Pick); 3] = [
        ("chiron_failure_point_findings", "What the latest look at a failure point found wrong.", |health| {
            health.signals.findings.len() as f64
        }),
        (
            "chiron_failure_point_check_timestamp_seconds",
            "When the latest look at a failure point began; 0 if never.",
            |health| health.timestamp.seconds(),
        ),
        (
            "chiron_failure_point_check_duration_seconds",
            "How long the latest look at a failure point took.",
            |health| health.response_time_ms / 1000.0,
        ),
    ];
    for (name, help, pick) in numbers {
        let mut family = text.family(name, Kind::Gauge, help);
        for health in points {
            family.float(&[("category", &health.subsystem)], pick(health));
        }
    }
    if points.iter().all(|health| health.perfdata.is_empty()) {
        return;
    }
    let help = "Numbers that the latest look at a failure point gave, in their base unit.";
    let mut family = text.family("chiron_failure_point_value", Kind::Gauge, help);
    for health in points {
        let values = &health.perfdata[..health.perfdata.len().min(PERFDATA_MAX)];
        for (index, value) in values.iter().enumerate() {
            if !values[..index].iter().any(|other| other.label == value.label && other.unit == value.unit) {
                let labels = [("category", &*health.subsystem), ("label", &value.label), ("unit", &value.unit)];
                family.float(&labels, value.value);
            }
        }
    }
}
