//! A metric, or several, of somebody else's page, read as it comes.
//!
//! Flow: chunks of a body -> [`PageReader::push`] -> lines -> the samples that are wanted.
//! **Invariant:** pure; memory is bounded whatever the page holds: no line but the one at hand is kept, and of what fits,
//! a bounded number. A page that is cut off, or is none, is told.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use crate::observe::threshold::Sample;
use crate::telemetry::SampleLine;

/// The longest line that is understood, in bytes.
const LINE_MAX: usize = 64 * 1024;
/// The last line of OpenMetrics.
const END: &[u8] = b"# EOF";
/// How many series may fit, in all.
pub const SERIES_MAX: usize = 10_000;

/// Which series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name of the metric, with its suffix.
    pub name: String,
    /// Labels and their values, which a series must have among others; an empty value stands for a label it has not.
    pub labels: Vec<(String, String)>,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Look<'w> {
    /// Which series.
    pub wanted: &'w Wanted,
    /// The label whose value is kept whole, if one is.
    pub kept: Option<&'w str>,
}

/// What a page has of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The samples that fit, in the order of the page.
    pub samples: Vec<Sample>,
    /// The value of the label that is kept, for each sample; empty if none is to be.
    pub kept: Vec<Option<String>>,
    /// How many stood there a second time; they are left out.
    pub repeated: usize,
    /// The smallest timestamp beside them, as it is written there.
    pub oldest: Option<f64>,
}

/// Why a page is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is none, or is cut off.
    Page(String),
    /// More series fit than anybody can have meant.
    Wanted(String),
}

/// Takes a page in chunks.
#[derive(Debug)]
pub struct PageReader<'w> {
    looks: Vec<Look<'w>>,
    open_metrics: bool,
    /// The beginning of a line whose end has not come yet.
    carry: Vec<u8>,
    /// Whether that line is too long and of no interest.
    skipping: bool,
    line: usize,
    ended: bool,
    seen: HashSet<u64>,
    hasher: RandomState,
    /// One for each that is wanted.
    found: Vec<Found>,
}

impl<'w> PageReader<'w> {
    /// A reader at the beginning of a page.
    pub fn new(wanted: &'w Wanted, open_metrics: bool) -> Self {
        Self::several(vec![Look { wanted, kept: None }], open_metrics)
    }

    /// One that looks for several.
    pub fn several(looks: Vec<Look<'w>>, open_metrics: bool) -> Self {
        Self {
            found: vec![Found::default(); looks.len()],
            looks,
            open_metrics,
            carry: Vec::new(),
            skipping: false,
            line: 0,
            ended: false,
            seen: HashSet::new(),
            hasher: RandomState::new(),
        }
    }

    /// Takes the next chunk.
    pub fn push(&mut self, mut rest: &[u8]) -> Result<(), Fault> {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (part, after) = (&rest[..end], &rest[end + 1..]);
            rest = after;
            self.line += 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.carry.is_empty() {
                self.take(part)?;
            } else {
                let mut line = std::mem::take(&mut self.carry);
                line.extend_from_slice(part);
                self.take(&line)?;
                line.clear();
                self.carry = line;
            }
        }
        if !self.skipping {
            self.carry.extend_from_slice(rest);
            if self.carry.len() > LINE_MAX {
                self.line += 1;
                let line = std::mem::take(&mut self.carry);
                self.take(&line)?;
                self.line -= 1;
                self.skipping = true;
            }
        }
        Ok(())
    }

    /// What was found of the only one that is wanted, if the page has come to its end.
    pub fn finish(self) -> Result<Found, Fault> {
        Ok(self.finish_all()?.pop().unwrap_or_default())
    }

    /// What was found of each, if the page has come to its end.
    pub fn finish_all(self) -> Result<Vec<Found>, Fault> {
        let cut = |expected: &str| Err(Fault::Page(format!("the page is cut off: expected {expected}")));
        // The line end after it is optional.
        let ended = self.ended || self.open_metrics && !self.skipping && self.carry.trim_ascii_start() == END;
        if self.skipping || !(self.carry.is_empty() || ended && !self.ended) {
            return cut("a line end after the last line");
        }
        if self.open_metrics && !ended {
            return cut("`# EOF` as the last line of OpenMetrics");
        }
        Ok(self.found)
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Fault> {
        let number = self.line;
        let at = |expected: &str| Fault::Page(format!("line {number}: {expected}"));
        let line = line.trim_ascii_start();
        if self.ended {
            return Err(at("expected nothing after `# EOF`"));
        }
        let Some(first) = line.first() else { return Ok(()) };
        if *first == b'#' {
            self.ended = self.open_metrics && line == END;
            return Ok(());
        }
        if !first.is_ascii_alphabetic() && !matches!(first, b'_' | b':') && !is_quoted_name(line) {
            return Err(at("expected a metric in the text format of Prometheus or in OpenMetrics"));
        }
        let named = |look: &Look<'_>| {
            let rest = line.strip_prefix(look.wanted.name.as_bytes());
            rest.is_some_and(|rest| matches!(rest.first(), Some(b'{' | b' ' | b'\t')))
        };
        if !self.looks.iter().any(named) {
            return Ok(());
        }
        if line.len() > LINE_MAX {
            return Err(at(&format!("expected at most {LINE_MAX} bytes")));
        }
        let text = std::str::from_utf8(line).map_err(|_| at("expected UTF-8"))?;
        let mut sample = SampleLine::parse(text).map_err(at)?;
        sample.labels.sort_unstable();
        let fits = |wanted: &Wanted| {
            wanted.name == sample.name && wanted.labels.iter().all(|(name, value)| has(&sample.labels, name, value))
        };
        let mut all: usize = self.found.iter().map(|found| found.samples.len()).sum();
        for (index, (look, found)) in self.looks.iter().zip(&mut self.found).enumerate() {
            if !fits(look.wanted) {
                continue;
            }
            if !self.seen.insert(self.hasher.hash_one((index, &sample.labels))) {
                found.repeated += 1;
                continue;
            }
            if all >= SERIES_MAX {
                let why = format!("more than {SERIES_MAX} series fit, expected fewer: name more labels");
                return Err(Fault::Wanted(why));
            }
            all += 1;
            if let Some(time) = sample.timestamp {
                found.oldest = Some(found.oldest.map_or(time, |oldest| oldest.min(time)));
            }
            let labels = sample.labels.iter().map(|(name, value)| (*name, value.as_str()));
            found.samples.push(Sample::new(sample.value, labels));
            if let Some(name) = look.kept {
                let label = sample.labels.iter().find(|(label, _)| *label == name);
                found.kept.push(label.map(|(_, value)| value.clone()));
            }
        }
        Ok(())
    }
}

/// A line that begins with the name of a metric in quotes, which is of no interest, and not a line of JSON.
fn is_quoted_name(line: &[u8]) -> bool {
    line.starts_with(b"{\"") && line.trim_ascii_end().last().is_some_and(u8::is_ascii_alphanumeric)
}

/// Whether there is that label with that value. The bounds of buckets and quantiles are compared as numbers, as they are
/// written differently in the two formats.
fn has(labels: &[(&str, String)], name: &str, value: &str) -> bool {
    let Some((_, found)) = labels.iter().find(|(label, _)| *label == name) else { return value.is_empty() };
    if found == value {
        return true;
    }
    let number = |text: &str| text.parse::<f64>().ok();
    matches!(name, "le" | "quantile") && number(found).is_some() && number(found) == number(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(name: &str, labels: &[(&str, &str)]) -> Wanted {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Wanted { name: name.to_owned(), labels }
    }

    fn read(page: &str, wanted: &Wanted, chunk: usize) -> Result<Found, Fault> {
        let mut reader = PageReader::new(wanted, page.contains("# EOF"));
        for chunk in page.as_bytes().chunks(chunk) {
            reader.push(chunk)?;
        }
        reader.finish()
    }

    fn values(page: &str, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        let found = read(page, &wanted(name, labels), 7).unwrap();
        found.samples.iter().map(|sample| sample.value).collect()
    }

    const PAGE: &str = "# HELP up Is it?\n# TYPE up gauge\nup{job=\"a\",path=\"C:\\\\x\\n\\\"y\\\"\"} 1\nup{job=\"b\"} 0 1700000000000\n\
        up_total 9\n\nup{job=\"b\"} 7\nlatency_bucket{le=\"1.0\"} 3 # {trace=\"x\"} 0.5\nlatency_bucket{le=\"+Inf\"} 4\n\
        latency_sum NaN\nup 5\n{\"with.dot\"} 1\n";

    /// OBS-7: the name is whole, labels are matched unescaped, an empty value means no such label, the first of two equal
    /// series counts, bounds are numbers.
    #[test]
    fn series_are_found() {
        assert_eq!(values(PAGE, "up", &[]), [1.0, 0.0, 5.0]);
        assert_eq!(values(PAGE, "up", &[("path", "C:\\x\n\"y\"")]), [1.0]);
        assert_eq!(values(PAGE, "up", &[("job", "")]), [5.0]);
        assert_eq!(values(PAGE, "up", &[("job", "c")]), [0.0; 0]);
        assert_eq!(values(PAGE, "latency_bucket", &[("le", "1")]), [3.0]);
        assert_eq!(values(PAGE, "latency_bucket", &[("le", "+Inf")]), [4.0]);
        assert!(values(PAGE, "latency_sum", &[])[0].is_nan());
        assert_eq!(values(PAGE, "latency", &[]), [0.0; 0]);
        assert_eq!(values("", "up", &[]), [0.0; 0]);
        let found = read(PAGE, &wanted("up", &[("job", "b")]), 3).unwrap();
        assert_eq!((found.repeated, found.oldest), (1, Some(1.7e12)));
    }

    /// OBS-9: several are looked for at once, each by itself; a series that fits two is found for both.
    #[test]
    fn several_at_once() {
        let (up, of_b, sum) = (wanted("up", &[]), wanted("up", &[("job", "b")]), wanted("latency_sum", &[]));
        for chunk in [1, 7, 1000] {
            let looks = [(&up, Some("job")), (&of_b, None), (&sum, None)];
            let looks = looks.map(|(wanted, kept)| Look { wanted, kept }).to_vec();
            let mut reader = PageReader::several(looks, false);
            PAGE.as_bytes().chunks(chunk).try_for_each(|chunk| reader.push(chunk)).unwrap();
            let found = reader.finish_all().unwrap();
            let values: Vec<Vec<f64>> =
                found.iter().map(|found| found.samples.iter().map(|sample| sample.value).collect()).collect();
            assert_eq!(values[..2], [vec![1.0, 0.0, 5.0], vec![0.0]]);
            assert!(values[2].len() == 1 && values[2][0].is_nan());
            assert_eq!(found[0].kept, [Some("a".to_owned()), Some("b".to_owned()), None]);
            assert_eq!(found.iter().map(|found| found.repeated).collect::<Vec<_>>(), [1, 1, 0]);
        }
    }

    /// OBS-7: what is no page of metrics, or not all of one, is told with its place.
    #[test]
    fn bad_pages_are_told() {
        for (page, expected) in [
            ("<!DOCTYPE html>\n<html></html>\n", "line 1: expected a metric"),
            ("{\"status\": \"ok\"}\n", "line 1: expected a metric"),
            ("{\n  \"up\": 1\n}\n", "line 1: expected a metric"),
            ("other 1\nup 1", "cut off: expected a line end"),
            ("other 1\nup yes\n", "line 2: expected a number"),
            ("up 1\n# EOF\nup 2\n", "line 3: expected nothing after"),
            ("up{a=\"b} 1\n", "line 1: expected a label's value in quotes"),
        ] {
            match read(page, &wanted("up", &[]), 5) {
                Err(Fault::Page(told)) => assert!(told.contains(expected), "{told}"),
                other => panic!("{page}: {other:?}"),
            }
        }
        let wanted = wanted("up", &[]);
        let mut reader = PageReader::new(&wanted, true);
        reader.push(b"up 1\n").unwrap();
        assert!(matches!(reader.finish(), Err(Fault::Page(told)) if told.contains("`# EOF`")));
        // OpenMetrics leaves the line end after its end to whoever writes; a comment that is cut is no end.
        assert_eq!(values("up 1\n# EOF", "up", &[]), [1.0]);
        let mut reader = PageReader::new(&wanted, true);
        reader.push(b"up 1\n# EO").unwrap();
        assert!(matches!(reader.finish(), Err(Fault::Page(told)) if told.contains("cut off")));
        // A broken line of another metric is no concern of this one's.
        assert_eq!(values("other yes\nup 1\n", "up", &[]), [1.0]);
    }

    /// OBS-7: memory stays bounded: a line without an end, and more series than anybody means.
    #[test]
    fn memory_is_bounded() {
        let only = wanted("up", &[]);
        let mut reader = PageReader::new(&only, false);
        for _ in 0..200 {
            reader.push(&[b'x'; 32 * 1024]).unwrap();
            assert!(reader.carry.capacity() <= 4 * LINE_MAX, "{}", reader.carry.capacity());
        }
        reader.push(b"\nup 3\n").unwrap();
        assert_eq!((reader.line, reader.finish().unwrap().samples[0].value), (2, 3.0));
        let long = format!("other 1\nup{{a=\"{}\"}} 1\n", "x".repeat(LINE_MAX));
        assert!(
            matches!(read(&long, &only, 1000), Err(Fault::Page(told)) if told.contains("line 2: expected at most"))
        );
        let many: String = (0..=SERIES_MAX).map(|index| format!("up{{a=\"{index}\"}} 1\n")).collect();
        assert!(matches!(read(&many, &only, 4096), Err(Fault::Wanted(_))));
        assert_eq!(read(&many, &wanted("up", &[("a", "7")]), 4096).unwrap().samples.len(), 1);
    }

    proptest::proptest! {
        /// Where a page is cut into chunks changes nothing.
        #[test]
        fn chunks_do_not_matter(size in 1usize..600) {
            let wanted = wanted("up", &[]);
            proptest::prop_assert_eq!(read(PAGE, &wanted, size), read(PAGE, &wanted, 100_000));
        }

        #[test]
        fn no_page_panics(page in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let wanted = wanted("up", &[]);
            let mut reader = PageReader::new(&wanted, false);
            if reader.push(&page).is_ok() {
                let _ = reader.finish();
            }
        }
    }
}
