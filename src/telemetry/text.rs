//! Writes Prometheus' text format 0.0.4 into a byte buffer.
//!
//! **Invariant:** pure; allocates nothing per sample.

/// The kind of a family, as its `TYPE` line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A page being written, family by family.
pub(super) struct Text<'a> {
    out: &'a mut Vec<u8>,
    integers: itoa::Buffer,
    floats: ryu::Buffer,
}

impl<'a> Text<'a> {
    /// Appends to `out`.
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, integers: itoa::Buffer::new(), floats: ryu::Buffer::new() }
    }

    /// Opens a family: one HELP and one TYPE line. The help text holds no backslash and no line break.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_, 'a> {
        debug_assert!(!help.contains(['\\', '\n']), "help of {name} needs escaping");
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind.as_str(), "\n"] {
            self.raw(part);
        }
        Family { text: self, name }
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
    name: &'static str,
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

    /// Like `prepared`, for the `_sum` sample of a histogram.
    pub(super) fn sum(&mut self, labels: &str, value: f64) {
        for part in [self.name, "_sum", labels, " "] {
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

/// Writes labels once, as `{a="b",c="d"}`, for samples that are written again and again.
pub(super) fn prepare(labels: &[(&str, &str)]) -> Box<str> {
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
            Text::new(&mut out).float(value);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn label_values_are_escaped_in_both_ways_of_writing() {
        let nasty = "a\\b\"c\nd";
        let mut out = Vec::new();
        Text::new(&mut out).family("m", Kind::Gauge, "h").flag(&[("x", nasty), ("y", "plain")], true);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# HELP m h\n# TYPE m gauge\nm{x=\"a\\\\b\\\"c\\nd\",y=\"plain\"} 1\n"
        );
        assert_eq!(&*prepare(&[("x", nasty)]), "{x=\"a\\\\b\\\"c\\nd\"}");
    }
}
