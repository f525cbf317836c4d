//! Writes a metrics page into a byte buffer, in Prometheus' text format 0.0.4 or in OpenMetrics 1.0.0.
//!
//! The two differ in their metadata only: sample lines are the same, so that a series is the same whichever is asked for.
//! **Invariant:** pure; allocates nothing per sample; no blank line.

/// In which format the metrics page is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PageFormat {
    /// Prometheus' text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl PageFormat {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Text, Self::OpenMetrics];
}

/// The kind of a family, as its `TYPE` line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    Untyped,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }
}

/// Units that end a family's name and get a `UNIT` line.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// How OpenMetrics names a family, and of which type it says it is. A counter without `_total` is none there, and its
/// name stays all the same.
pub(super) fn in_openmetrics(name: &str, kind: Kind) -> (&str, &'static str) {
    match kind {
        Kind::Counter => name.strip_suffix("_total").map_or((name, "unknown"), |base| (base, "counter")),
        Kind::Untyped => (name, "unknown"),
        other => (name, other.as_str()),
    }
}

/// A page being written, family by family.
pub(super) struct Text<'a> {
    out: &'a mut Vec<u8>,
    format: PageFormat,
    integers: itoa::Buffer,
    floats: ryu::Buffer,
}

impl<'a> Text<'a> {
    /// Appends to `out`.
    pub(super) fn new(format: PageFormat, out: &'a mut Vec<u8>) -> Self {
        Self { out, format, integers: itoa::Buffer::new(), floats: ryu::Buffer::new() }
    }

    /// In which format it writes.
    pub(super) fn format(&self) -> PageFormat {
        self.format
    }

    /// Opens a family: its metadata.
    pub(super) fn family<'t>(&'t mut self, name: &'t str, kind: Kind, help: &str) -> Family<'t, 'a> {
        match self.format {
            PageFormat::Text => {
                for part in ["# HELP ", name, " "] {
                    self.raw(part);
                }
                self.help(help);
                for part in ["\n# TYPE ", name, " ", kind.as_str(), "\n"] {
                    self.raw(part);
                }
            }
            PageFormat::OpenMetrics => {
                let (base, word) = in_openmetrics(name, kind);
                for part in ["# TYPE ", base, " ", word, "\n"] {
                    self.raw(part);
                }
                let ends_in = |unit: &&&str| base.strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_'));
                if let Some(unit) = UNITS.iter().find(ends_in) {
                    for part in ["# UNIT ", base, " ", unit, "\n"] {
                        self.raw(part);
                    }
                }
                for part in ["# HELP ", base, " "] {
                    self.raw(part);
                }
                self.help(help);
                self.raw("\n");
            }
        }
        Family { text: self, name }
    }

    /// Ends the page.
    pub(super) fn end(&mut self) {
        if self.format == PageFormat::OpenMetrics {
            self.raw("# EOF\n");
        }
    }

    /// Appends what was written beforehand in the same format.
    pub(super) fn prepared(&mut self, part: &[u8]) {
        self.out.extend_from_slice(part);
    }

    fn help(&mut self, help: &str) {
        for byte in help.bytes() {
            match byte {
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'"' if self.format == PageFormat::OpenMetrics => self.out.extend_from_slice(b"\\\""),
                other => self.out.push(other),
            }
        }
    }

    #[inline]
    fn raw(&mut self, part: &str) {
        self.out.extend_from_slice(part.as_bytes());
    }

    #[inline]
    fn unsigned(&mut self, value: u64) {
        self.out.extend_from_slice(self.integers.format(value).as_bytes());
    }

    #[inline]
    fn signed(&mut self, value: i64) {
        self.out.extend_from_slice(self.integers.format(value).as_bytes());
    }

    /// Integers without a fraction where they are exact, else the shortest text that reads back the same.
    fn float(&mut self, value: f64) {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "an integer below 2^53")]
            self.signed(value as i64);
        } else if value.is_finite() {
            self.out.extend_from_slice(self.floats.format_finite(value).as_bytes());
        } else if value.is_nan() {
            self.raw("NaN");
        } else {
            self.raw(if value > 0.0 { "+Inf" } else { "-Inf" });
        }
    }
}

/// The open family of a [`Text`].
pub(super) struct Family<'t, 'a> {
    text: &'t mut Text<'a>,
    name: &'t str,
}

impl Family<'_, '_> {
    #[inline]
    fn open(&mut self, labels: &[(&'static str, &str)]) {
        self.text.raw(self.name);
        let mut before = "{";
        for (label, value) in labels {
            self.text.raw(before);
            self.text.raw(label);
            self.text.raw("=\"");
            escape_label(value, self.text.out);
            before = "\",";
        }
        self.text.raw(if labels.is_empty() { " " } else { "\"} " });
    }

    /// A sample with a float value.
    #[inline]
    pub(super) fn float(&mut self, labels: &[(&'static str, &str)], value: f64) {
        self.open(labels);
        self.text.float(value);
        self.text.out.push(b'\n');
    }

    /// A sample with a count.
    #[inline]
    pub(super) fn count(&mut self, labels: &[(&'static str, &str)], value: u64) {
        self.open(labels);
        self.text.unsigned(value);
        self.text.out.push(b'\n');
    }

    /// A sample that is 1 or 0.
    #[inline]
    pub(super) fn flag(&mut self, labels: &[(&'static str, &str)], value: bool) {
        self.open(labels);
        self.text.raw(if value { "1\n" } else { "0\n" });
    }

    /// A sample whose labels were written beforehand as `{a="b"}`.
    #[inline]
    pub(super) fn prepared(&mut self, labels: &str, value: u64) {
        self.suffixed("", labels, value);
    }

    /// Like `prepared`, for the `_bucket` and `_count` samples of a histogram.
    #[inline]
    pub(super) fn suffixed(&mut self, suffix: &'static str, labels: &str, value: u64) {
        for part in [self.name, suffix, labels, " "] {
            self.text.raw(part);
        }
        self.text.unsigned(value);
        self.text.out.push(b'\n');
    }

    /// The same with a float value.
    pub(super) fn suffixed_float(&mut self, suffix: &'static str, labels: &str, value: f64) {
        for part in [self.name, suffix, labels, " "] {
            self.text.raw(part);
        }
        self.text.float(value);
        self.text.out.push(b'\n');
    }
}

/// Appends a label value with backslash, quote and line break escaped.
#[inline]
pub(super) fn escape_label(value: &str, out: &mut Vec<u8>) {
    if !value.bytes().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

/// A bound of a bucket, or a quantile, as both formats spell it: like the Go client in OpenMetrics, so that `1` is `1.0`.
pub(super) fn bound(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    format!("{value:?}")
}

/// Writes labels once, as `{a="b",c="d"}`, for samples that are written again and again.
pub(super) fn prepare(labels: &[(&str, &str)]) -> Box<str> {
    if labels.is_empty() {
        return Box::default();
    }
    let mut out = Vec::with_capacity(64);
    for (index, (label, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        escape_label(value, &mut out);
        out.push(b'"');
    }
    out.push(b'}');
    String::from_utf8(out).expect("labels are text and escaping keeps them so").into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (0.25, "0.25"),
            (1_763_862_896.123, "1763862896.123"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (1e300, "1e300"),
            (1e-7, "1e-7"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ] {
            let mut out = Vec::new();
            Text::new(PageFormat::Text, &mut out).float(value);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn label_values_are_escaped_in_both_ways_of_writing() {
        let nasty = "a\\b\"c\nd";
        let mut out = Vec::new();
        Text::new(PageFormat::Text, &mut out).family("m", Kind::Gauge, "h").flag(&[("x", nasty), ("y", "plain")], true);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# HELP m h\n# TYPE m gauge\nm{x=\"a\\\\b\\\"c\\nd\",y=\"plain\"} 1\n"
        );
        assert_eq!(&*prepare(&[("x", nasty)]), "{x=\"a\\\\b\\\"c\\nd\"}");
    }

    /// EXP-2: metadata of both formats; samples are the same.
    #[test]
    fn metadata_follows_the_format() {
        let help = "a \"b\"\\c\nd";
        for (name, kind, text, openmetrics) in [
            (
                "a_total",
                Kind::Counter,
                "a_total a \"b\"\\\\c\\nd\n# TYPE a_total counter",
                "# TYPE a counter\n# HELP a",
            ),
            ("a", Kind::Counter, "a a \"b\"\\\\c\\nd\n# TYPE a counter", "# TYPE a unknown\n# HELP a"),
            (
                "a_seconds_total",
                Kind::Counter,
                "a_seconds_total a \"b\"\\\\c\\nd\n# TYPE a_seconds_total counter",
                "# TYPE a_seconds counter\n# UNIT a_seconds seconds\n# HELP a_seconds",
            ),
            (
                "a_total",
                Kind::Gauge,
                "a_total a \"b\"\\\\c\\nd\n# TYPE a_total gauge",
                "# TYPE a_total gauge\n# HELP a_total",
            ),
            (
                "seconds",
                Kind::Untyped,
                "seconds a \"b\"\\\\c\\nd\n# TYPE seconds untyped",
                "# TYPE seconds unknown\n# HELP seconds",
            ),
        ] {
            let written = |format| {
                let mut out = Vec::new();
                let mut page = Text::new(format, &mut out);
                page.family(name, kind, help).flag(&[], true);
                page.end();
                String::from_utf8(out).unwrap()
            };
            assert_eq!(written(PageFormat::Text), format!("# HELP {text}\n{name} 1\n"));
            let expected = format!("{openmetrics} a \\\"b\\\"\\\\c\\nd\n{name} 1\n# EOF\n");
            assert_eq!(written(PageFormat::OpenMetrics), expected);
        }
    }

    #[test]
    fn bounds_are_spelt_as_the_go_client_spells_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (300.0, "300.0"),
            (123_456.0, "123456.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(bound(value), text);
        }
    }
}
