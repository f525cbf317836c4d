//! One line of Prometheus' text format 0.0.4 and of OpenMetrics 1.0.0.
//!
//! Shared by those who take a whole page ([`super::parse`]) and those who look for one metric on somebody else's.
//! **Invariant:** pure; never panics; what is expected is told without a quotation.

/// A sample as a line has it.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleLine<'a> {
    /// The name of the metric, with its suffix.
    pub name: &'a str,
    /// Its labels, unescaped, in the order of the line.
    pub labels: Vec<(&'a str, String)>,
    /// Its value.
    pub value: f64,
    /// What stands behind the value: a timestamp, in milliseconds or, in OpenMetrics, in seconds.
    pub timestamp: Option<f64>,
}

impl<'a> SampleLine<'a> {
    /// Reads a line that is neither empty nor a comment; what was expected, if it is something else. An exemplar is left out.
    pub fn parse(line: &'a str) -> Result<Self, &'static str> {
        let (name, labels, rest) = series(line)?;
        let mut parts = rest.split(BLANKS).filter(|part| !part.is_empty());
        let value = parts.next().and_then(|text| text.parse().ok()).ok_or("expected a number")?;
        let mut timestamp = None;
        match parts.next() {
            None | Some("#") => {}
            Some(text) => {
                timestamp = Some(text.parse().map_err(|_| "expected a timestamp after the value")?);
                if parts.next().is_some_and(|next| next != "#") {
                    return Err("expected nothing after the timestamp");
                }
            }
        }
        Ok(Self { name, labels, value, timestamp })
    }
}

/// A series: the name of its metric, its labels, and what follows them on the line.
pub(super) type Series<'a> = (&'a str, Vec<(&'a str, String)>, &'a str);

/// The beginning of a line that is neither empty nor a comment.
pub(super) fn series(line: &str) -> Result<Series<'_>, &'static str> {
    let mut cursor = Cursor { rest: line.trim_start_matches(BLANKS) };
    let name = cursor.word(true).ok_or("expected the name of a metric")?;
    cursor.skip();
    let labels = if cursor.take('{') { labels(&mut cursor)? } else { Vec::new() };
    cursor.skip();
    Ok((name, labels, cursor.rest))
}

/// `a="b",c="d"}`; the opening brace is taken already. What was expected, if it is something else.
fn labels<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<(&'a str, String)>, &'static str> {
    let mut labels: Vec<(&str, String)> = Vec::new();
    loop {
        cursor.skip();
        if cursor.take('}') {
            return Ok(labels);
        }
        let name = cursor.word(false).ok_or("expected the name of a label")?;
        if name.starts_with("__") || labels.iter().any(|(label, _)| *label == name) {
            return Err("expected each label once, and none that begins with `__`");
        }
        cursor.skip();
        if !cursor.take('=') {
            return Err("expected `=` after the name of a label");
        }
        cursor.skip();
        labels.push((name, cursor.quoted().ok_or("expected a label's value in quotes, escaped by backslashes")?));
        cursor.skip();
        if !cursor.take(',') && !cursor.rest.starts_with('}') {
            return Err("expected `,` or `}` after a label");
        }
    }
}

pub(super) const BLANKS: [char; 2] = [' ', '\t'];

/// What is left of a line.
pub(super) struct Cursor<'a> {
    pub(super) rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// Skips blanks; whether there were any.
    pub(super) fn skip(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches(BLANKS);
        self.rest.len() < before
    }

    fn take(&mut self, wanted: char) -> bool {
        let stripped = self.rest.strip_prefix(wanted);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    /// The name of a metric, or of a label, which has no colon.
    pub(super) fn word(&mut self, colon: bool) -> Option<&'a str> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colon && c == ':');
        let end = self.rest.find(|c| !legal(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() || word.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.rest = rest;
        Some(word)
    }

    fn quoted(&mut self) -> Option<String> {
        let inside = self.rest.strip_prefix('"')?;
        let mut escaped = false;
        let end = inside.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        self.rest = &inside[end + 1..];
        unescape(&inside[..end], true)
    }
}

/// Without its escapes; `None` if there is one that the format does not have.
pub(super) fn unescape(text: &str, quotes: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next()? {
                '\\' => out.push('\\'),
                'n' => out.push('\n'),
                '"' if quotes => out.push('"'),
                _ => return None,
            },
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OBS-7: values, escapes, timestamps and exemplars of both formats; what is none is told.
    #[test]
    fn lines_of_both_formats() {
        let read = |line| SampleLine::parse(line).map(|line| (line.name, line.labels, line.value, line.timestamp));
        let label = |name, value: &str| (name, value.to_owned());
        let cases = [
            ("up 1", ("up", vec![], 1.0, None)),
            ("  a:b\t{ }\t2e3 1700000000000", ("a:b", vec![], 2000.0, Some(1.7e12))),
            ("t -Inf 1700000000.5", ("t", vec![], f64::NEG_INFINITY, Some(1_700_000_000.5))),
            (
                r#"p{path="C:\\D\n\"x\"", b = "}," ,} +Inf"#,
                ("p", vec![label("path", "C:\\D\n\"x\""), label("b", "},")], f64::INFINITY, None),
            ),
            (r#"h_bucket{le="1.0"} 7 # {trace="a"} 0.5"#, ("h_bucket", vec![label("le", "1.0")], 7.0, None)),
            (r#"h_total 7 12.5 # {trace="a"} 0.5 12"#, ("h_total", vec![], 7.0, Some(12.5))),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line), Ok(expected), "{line}");
        }
        assert!(read("nan NaN").unwrap().2.is_nan());
        for (line, expected) in [
            ("<html>", "name of a metric"),
            ("7up 1", "name of a metric"),
            ("up", "a number"),
            ("up down", "a number"),
            ("up 1 soon", "a timestamp"),
            ("up 1 2 3", "nothing after the timestamp"),
            (r#"up{a="b} 1"#, "in quotes"),
            (r#"up{a="\t"} 1"#, "in quotes"),
            (r#"up{a="b",a="c"} 1"#, "each label once"),
            (r#"up{a"b"} 1"#, "expected `=`"),
            (r#"up{a="b" c="d"} 1"#, "expected `,`"),
        ] {
            assert!(read(line).unwrap_err().contains(expected), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_panics(line in ".{0,80}") {
            let _ = SampleLine::parse(&line);
        }
    }
}
