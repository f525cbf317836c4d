//! Reads one file in Prometheus' text format 0.0.4.
//!
//! **Invariant:** pure; never panics; what it returns can be written in both formats without breaking a rule of either.

use std::collections::{HashMap, HashSet};

use super::super::family::{FamilyData, Sample};
use super::super::text::{Kind, bound, prepare};
use super::line::{BLANKS, Cursor, series, unescape};
use super::{Fault, RESERVED, SERIES_MAX};

/// Largest count that a float holds exactly.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// Every family of a file that has samples, or the first fault.
pub(super) fn parse(text: &str) -> Result<Vec<FamilyData>, Fault> {
    let mut file = File::default();
    let Some(body) = text.strip_suffix('\n') else {
        return if text.is_empty() {
            Ok(Vec::new())
        } else {
            Err(Fault::new("half_written", "expected a line end after the last line"))
        };
    };
    for (index, line) in body.split('\n').enumerate() {
        file.line(index + 1, line)?;
    }
    file.finish()
}

#[derive(Default)]
struct File {
    families: Vec<Open>,
    index: HashMap<Box<str>, usize>,
    series: usize,
}

/// A family being read.
struct Open {
    data: FamilyData,
    typed: bool,
    helped: bool,
    seen: HashSet<(&'static str, Box<str>)>,
    /// The line of its first sample.
    line: usize,
}

impl File {
    fn line(&mut self, number: usize, line: &str) -> Result<(), Fault> {
        let line = line.trim_start_matches(BLANKS);
        if line.is_empty() {
            return Ok(());
        }
        if let Some(comment) = line.strip_prefix('#') {
            return self.comment(number, comment);
        }
        let syntax = |expected: &str| Fault::at(number, "syntax", expected);
        let (name, labels, rest) = series(line).map_err(syntax)?;
        let mut rest = rest.split(BLANKS).filter(|part| !part.is_empty());
        let value = rest.next().and_then(|text| text.parse().ok()).ok_or_else(|| syntax("expected a number"))?;
        if rest.next().is_some() {
            return Err(Fault::at(number, "timestamp", "expected nothing after the value: timestamps are not taken"));
        }
        self.sample(number, name, labels, value)
    }

    fn comment(&mut self, number: usize, comment: &str) -> Result<(), Fault> {
        let mut cursor = Cursor { rest: comment.trim_start_matches(BLANKS) };
        let is_help = match cursor.word(false) {
            Some("HELP") => true,
            Some("TYPE") => false,
            _ => return Ok(()),
        };
        let syntax = |expected: &str| Fault::at(number, "syntax", expected);
        if !cursor.skip() {
            return Ok(());
        }
        let name = cursor.word(true).ok_or_else(|| syntax("expected the name of a metric"))?;
        if !cursor.skip() && !cursor.rest.is_empty() {
            return Err(syntax("expected the name of a metric"));
        }
        let index = self.family(number, name)?;
        let family = &mut self.families[index];
        if is_help {
            if std::mem::replace(&mut family.helped, true) {
                return Err(syntax("expected one HELP for each metric"));
            }
            let help =
                unescape(cursor.rest, false).ok_or_else(|| syntax("expected `\\\\` or `\\n` after a backslash"))?;
            family.data.help = (!help.is_empty()).then(|| help.into());
            return Ok(());
        }
        if family.typed || !family.data.samples.is_empty() {
            return Err(syntax("expected one TYPE for each metric, before its samples"));
        }
        family.typed = true;
        family.data.kind = match cursor.rest.trim_end_matches(BLANKS) {
            "counter" => Kind::Counter,
            "gauge" => Kind::Gauge,
            "histogram" => Kind::Histogram,
            "summary" => Kind::Summary,
            "untyped" => Kind::Untyped,
            _ => return Err(syntax("expected counter, gauge, histogram, summary or untyped")),
        };
        Ok(())
    }

    /// The family of that name, made if need be.
    fn family(&mut self, number: usize, name: &str) -> Result<usize, Fault> {
        if let Some(index) = self.index.get(name) {
            return Ok(*index);
        }
        if RESERVED.iter().any(|prefix| name.starts_with(prefix)) {
            let expected = format!("expected a name that begins otherwise than with {}", RESERVED.join(" or "));
            return Err(Fault::at(number, "reserved_name", &expected));
        }
        let data = FamilyData { name: name.into(), kind: Kind::Untyped, help: None, samples: Vec::new() };
        self.families.push(Open { data, typed: false, helped: false, seen: HashSet::new(), line: number });
        self.index.insert(name.into(), self.families.len() - 1);
        Ok(self.families.len() - 1)
    }

    /// Which family a sample of that name belongs to, and the suffix it has there.
    fn home(&self, name: &str) -> Option<(usize, &'static str)> {
        ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| {
            let index = *self.index.get(name.strip_suffix(suffix)?)?;
            let fits = match self.families[index].data.kind {
                Kind::Histogram => true,
                Kind::Summary => suffix != "_bucket",
                Kind::Counter | Kind::Gauge | Kind::Untyped => false,
            };
            fits.then_some((index, suffix))
        })
    }

    fn sample(&mut self, number: usize, name: &str, mut labels: Vec<(&str, String)>, value: f64) -> Result<(), Fault> {
        let (index, suffix) = match self.home(name) {
            Some(home) => home,
            None => (self.family(number, name)?, ""),
        };
        self.series += 1;
        if self.series > SERIES_MAX {
            return Err(Fault::at(number, "too_many", &format!("expected at most {SERIES_MAX} series")));
        }
        let family = &mut self.families[index];
        let wrong = |expected: &str| Fault::at(number, "bad_value", expected);
        let special = match (family.data.kind, suffix) {
            (Kind::Histogram, "") => {
                return Err(wrong("expected `_bucket`, `_sum` or `_count` after a histogram's name"));
            }
            (Kind::Histogram, "_bucket") => Some("le"),
            (Kind::Summary, "") => Some("quantile"),
            _ => None,
        };
        labels.sort_unstable();
        let mut at = 0.0;
        let mut group = Box::default();
        if let Some(special) = special {
            let found = labels.iter_mut().find(|(label, _)| *label == special);
            let (_, text) = found.ok_or_else(|| wrong("expected `le` on a bucket and `quantile` on a quantile"))?;
            at =
                text.parse().ok().filter(|at: &f64| !at.is_nan()).ok_or_else(|| wrong("expected a number as bound"))?;
            if special == "quantile" && !(0.0..=1.0).contains(&at) {
                return Err(wrong("expected a quantile from 0 to 1"));
            }
            *text = bound(at);
        }
        if !legal(family.data.kind, suffix, value) {
            return Err(wrong("expected a number that a sample of this type can have"));
        }
        let borrowed: Vec<_> = labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
        let written = prepare(&borrowed);
        if !family.seen.insert((suffix, written.clone())) {
            return Err(Fault::at(number, "duplicate", "expected each series once"));
        }
        if matches!(family.data.kind, Kind::Histogram | Kind::Summary) {
            let others: Vec<_> = borrowed.into_iter().filter(|(label, _)| Some(*label) != special).collect();
            group = prepare(&others);
        }
        if family.data.samples.is_empty() {
            family.line = number;
        }
        family.data.samples.push(Sample { suffix, labels: written, group, bound: at, value });
        Ok(())
    }

    fn finish(self) -> Result<Vec<FamilyData>, Fault> {
        let mut families = Vec::with_capacity(self.families.len());
        for Open { mut data, line, .. } in self.families {
            if data.samples.is_empty() {
                continue;
            }
            if matches!(data.kind, Kind::Histogram | Kind::Summary) {
                in_groups(&mut data.samples);
            }
            if data.kind == Kind::Histogram && !data.samples.chunk_by(|a, b| a.group == b.group).all(is_histogram) {
                let expected =
                    "expected of each histogram rising buckets up to `+Inf`, a sum, and a count equal to the last";
                return Err(Fault::at(line, "bad_value", expected));
            }
            families.push(data);
        }
        Ok(families)
    }
}

/// Samples of one histogram or summary together: bounds in order, then sum, then count.
fn in_groups(samples: &mut [Sample]) {
    let mut order: HashMap<Box<str>, usize> = HashMap::new();
    for sample in samples.iter() {
        let next = order.len();
        order.entry(sample.group.clone()).or_insert(next);
    }
    let rank = |sample: &Sample| match sample.suffix {
        "_sum" => 1,
        "_count" => 2,
        _ => 0,
    };
    samples.sort_by(|a, b| {
        let places = (order[&a.group], rank(a)).cmp(&(order[&b.group], rank(b)));
        places.then(a.bound.total_cmp(&b.bound))
    });
}

fn is_histogram(group: &[Sample]) -> bool {
    let [buckets @ .., sum, count] = group else { return false };
    let Some(last) = buckets.last() else { return false };
    sum.suffix == "_sum"
        && count.suffix == "_count"
        && buckets.iter().all(|bucket| bucket.suffix == "_bucket")
        && buckets.is_sorted_by(|a, b| a.bound < b.bound && a.value <= b.value)
        && last.bound == f64::INFINITY
        && last.value == count.value
}

/// What both formats allow: counts are whole, and nothing that counts is negative or not a number.
fn legal(kind: Kind, suffix: &str, value: f64) -> bool {
    match (kind, suffix) {
        (_, "_bucket" | "_count") => (0.0..=COUNT_MAX).contains(&value) && value.fract() == 0.0,
        (Kind::Counter, _) | (_, "_sum") => value >= 0.0,
        (Kind::Summary, _) => value.is_nan() || value >= 0.0,
        (Kind::Gauge | Kind::Untyped | Kind::Histogram, _) => true,
    }
}

#[cfg(test)]
mod tests;
