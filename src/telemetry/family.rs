//! A metric family as data: what the `prometheus` registry gathers and what an operator's file says, written as chiron's
//! own series are.
//!
//! **Invariant:** pure.

use prometheus::proto::{MetricFamily, MetricType};

use super::text::{Kind, Text, prepare};

/// A family and its samples, in the order in which they are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FamilyData {
    /// As in the text format, so with `_total`.
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    pub(super) help: Option<Box<str>>,
    pub(super) samples: Vec<Sample>,
}

/// One sample of a family.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// What its name has beyond the family's.
    pub(super) suffix: &'static str,
    /// Written beforehand as `{a="b"}`, in the order of their names; empty without any.
    pub(super) labels: Box<str>,
    /// The labels without `le` and `quantile`: what the samples of one histogram or summary have in common.
    pub(super) group: Box<str>,
    /// `le` or `quantile`; 0 where there is none.
    pub(super) bound: f64,
    pub(super) value: f64,
}

/// Writes the metadata of a family; its samples follow by [`samples`], from as many places as there are.
pub(super) fn family(text: &mut Text<'_>, name: &str, kind: Kind, help: &str, parts: &[&[Sample]]) {
    let mut family = text.family(name, kind, help);
    for sample in parts.iter().copied().flatten() {
        family.suffixed_float(sample.suffix, &sample.labels, sample.value);
    }
}

/// What a registry of plain counters and gauges has gathered. Histograms and summaries are not taken from a registry:
/// chiron's own are in its tables.
pub(super) fn gathered(families: &[MetricFamily]) -> Vec<FamilyData> {
    families
        .iter()
        .filter_map(|family| {
            let kind = match family.get_field_type() {
                MetricType::COUNTER => Kind::Counter,
                MetricType::GAUGE => Kind::Gauge,
                MetricType::UNTYPED | MetricType::HISTOGRAM | MetricType::SUMMARY => return None,
            };
            let samples = family.get_metric().iter().map(|metric| {
                let labels: Vec<_> = metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
                let value = match kind {
                    Kind::Counter => metric.get_counter().get_value(),
                    _ => metric.get_gauge().get_value(),
                };
                Sample { suffix: "", labels: prepare(&labels), group: Box::default(), bound: 0.0, value }
            });
            let (name, help) = (family.name().into(), Some(family.help().into()));
            Some(FamilyData { name, kind, help, samples: samples.collect() })
        })
        .collect()
}
