//! A few series out of a metrics page, whatever else is on it.
//!
//! **Invariant:** pure; what is kept is bounded by the series asked for, a line and the page by limits of their own. Only
//! lines that begin with a wanted name are taken apart.

/// The largest page, in bytes.
const PAGE_MAX: usize = 16 * 1024 * 1024;
/// The longest line.
const LINE_MAX: usize = 64 * 1024;
/// Samples kept in all.
const FOUND_MAX: usize = 2_000;

/// Names and values of labels.
type Labels = Vec<(String, String)>;

const BLANKS: [char; 2] = [' ', '\t'];

/// A series, or all that have these labels among theirs: `name{label="value"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    name: String,
    labels: Labels,
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        if self.labels.is_empty() {
            return Ok(());
        }
        let labels: Vec<String> = self.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", labels.join(","))
    }
}

impl Selector {
    /// From its text; what was expected, if it is something else.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, labels, rest) = series(text.trim())?;
        if rest.is_empty() {
            Ok(Self { name: name.to_owned(), labels })
        } else {
            Err("expected nothing after the series")
        }
    }

    fn fits(&self, labels: &[(String, String)]) -> bool {
        self.labels.iter().all(|wanted| labels.contains(wanted))
    }
}

/// A sample of a wanted series.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Which of the wanted ones.
    pub wanted: usize,
    /// All its labels.
    pub labels: Vec<(String, String)>,
    /// Its value; may be no number.
    pub value: f64,
}

/// Reads a page in pieces.
#[derive(Debug)]
pub struct Reader<'a> {
    wanted: Vec<&'a Selector>,
    line: Vec<u8>,
    bytes: usize,
    found: Vec<Found>,
}

impl<'a> Reader<'a> {
    /// Looks for these.
    pub fn new(wanted: Vec<&'a Selector>) -> Self {
        Self { wanted, line: Vec::new(), bytes: 0, found: Vec::new() }
    }

    /// The next piece of the page.
    pub fn take(&mut self, piece: &[u8]) -> Result<(), String> {
        self.bytes += piece.len();
        if self.bytes > PAGE_MAX {
            return Err(format!("found more than {PAGE_MAX} bytes, expected a metrics page of at most that"));
        }
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            let line = std::mem::take(&mut self.line);
            self.one(&line)?;
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        if self.line.len() > LINE_MAX {
            return Err(format!("found a line of more than {LINE_MAX} bytes, expected a metrics page"));
        }
        Ok(())
    }

    /// What was found, once the page is read.
    pub fn finish(mut self) -> Result<Vec<Found>, String> {
        let line = std::mem::take(&mut self.line);
        self.one(&line)?;
        Ok(self.found)
    }

    fn one(&mut self, line: &[u8]) -> Result<(), String> {
        let named = line.iter().position(|byte| !name_byte(*byte)).map_or(line, |end| &line[..end]);
        if !self.wanted.iter().any(|selector| selector.name.as_bytes() == named) {
            return Ok(());
        }
        let broken = |expected: &str| {
            let shown: String = String::from_utf8_lossy(line).chars().take(60).collect();
            format!("found the line `{shown}`: {expected}")
        };
        let text = std::str::from_utf8(line).map_err(|_| broken("expected UTF-8"))?;
        let (_, labels, rest) = series(text).map_err(broken)?;
        // A date or an exemplar may follow.
        let value = rest.split(BLANKS).find(|part| !part.is_empty()).and_then(|part| part.parse::<f64>().ok());
        let value = value.ok_or_else(|| broken("expected a number after the series"))?;
        for (wanted, _) in self
            .wanted
            .iter()
            .enumerate()
            .filter(|(_, selector)| selector.name.as_bytes() == named && selector.fits(&labels))
        {
            if self.found.len() == FOUND_MAX {
                return Err(format!("found more than {FOUND_MAX} wanted samples; expected fewer, or further labels"));
            }
            self.found.push(Found { wanted, labels: labels.clone(), value });
        }
        Ok(())
    }
}

const fn name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

/// The name and the labels at the beginning of a text, and what follows them.
fn series(text: &str) -> Result<(&str, Labels, &str), &'static str> {
    let end = text.find(|c: char| !c.is_ascii() || !name_byte(c as u8)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("expected the name of a series, such as bot_error_ratio");
    }
    let rest = rest.trim_start_matches(BLANKS);
    let Some(mut rest) = rest.strip_prefix('{') else { return Ok((name, Vec::new(), rest)) };
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches(BLANKS);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((name, labels, after.trim_start_matches(BLANKS)));
        }
        let (label, after) = rest.split_once('=').ok_or("expected `label=\"value\"` inside the braces")?;
        let (value, after) =
            quoted(after.trim_start_matches(BLANKS)).ok_or("expected the value of a label in double quotes")?;
        labels.push((label.trim_matches(BLANKS).to_owned(), value));
        rest = after.trim_start_matches(BLANKS);
        rest = match rest.strip_prefix(',') {
            Some(after) => after,
            None if rest.starts_with('}') => rest,
            None => return Err("expected `,` or `}` after a label"),
        };
    }
}

/// The text in the quotes at the beginning, without its escapes, and what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &inside[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Read = Result<Vec<(usize, Labels, f64)>, String>;

    fn read(wanted: &[&str], page: &str, piece: usize) -> Read {
        let selectors: Vec<Selector> = wanted.iter().map(|text| Selector::parse(text).unwrap()).collect();
        let mut reader = Reader::new(selectors.iter().collect());
        page.as_bytes().chunks(piece).try_for_each(|piece| reader.take(piece))?;
        Ok(reader.finish()?.into_iter().map(|found| (found.wanted, found.labels, found.value)).collect())
    }

    /// OBS-9: series are found by name and labels on a page of either format, cut anywhere; dates, exemplars, escapes and
    /// lines of others do not matter.
    #[test]
    fn series_are_found() {
        let page = "# HELP bot_up Whether.\n# TYPE bot_up gauge\nbot_up 1\nbot_up_other 2\n garbage {{{\n\n\
                    bot_use{symbol=\"BTC/\\\"USD\\\"\",venue=\"k\"} 0.86 1763861696\n\
                    bot_use{ symbol = \"ETH\" , venue=\"b\", } 4.2e1 # {trace=\"1\"} 0.1\nbot_nan NaN\n# EOF";
        for piece in [1, 7, 1000] {
            let found = read(&["bot_up", "bot_use", "bot_use{venue=\"b\"}", "bot_nan", "none"], page, piece).unwrap();
            let values: Vec<(usize, f64)> = found.iter().map(|(wanted, _, value)| (*wanted, *value)).collect();
            assert_eq!(values[..4], [(0, 1.0), (1, 0.86), (1, 42.0), (2, 42.0)]);
            assert!(values[4].0 == 3 && values[4].1.is_nan());
            assert_eq!(found[1].1[0], ("symbol".to_owned(), "BTC/\"USD\"".to_owned()));
        }
    }

    /// OBS-7: a wanted line that is none, a line or a page without an end, and too many samples are refused with what was
    /// found; nothing of it is kept.
    #[test]
    fn bad_pages() {
        for (page, told) in [
            ("up one\n", "expected a number after the series"),
            ("up{a=1} 1\n", "expected the value of a label in double quotes"),
            ("up{a=\"1\" b=\"2\"} 1\n", "expected `,` or `}` after a label"),
            ("up{a=\"1\n", "expected the value of a label in double quotes"),
            ("up{\u{fffd}} 1", "expected `label="),
        ] {
            let refused = read(&["up"], page, 3).unwrap_err();
            assert!(refused.contains(told), "{page}: {refused}");
        }
        assert!(read(&["up"], &"x".repeat(LINE_MAX + 1), 4096).unwrap_err().contains("a line of more than"));
        assert!(
            read(&["up"], &format!("{}\n", "#".repeat(60_000)).repeat(PAGE_MAX / 60_000 + 1), 1 << 20)
                .unwrap_err()
                .contains("at most that")
        );
        let many: String = (0..=FOUND_MAX).map(|index| format!("up{{a=\"{index}\"}} 1\n")).collect();
        assert!(read(&["up"], &many, 4096).unwrap_err().contains("more than 2000 wanted samples"));
        for text in ["", "1up", "up{", "up{a=b}", "up 1", "up{a=\"b\"} 1"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        assert_eq!(Selector::parse(" up{a=\"b\"} ").unwrap().to_string(), "up{a=\"b\"}");
    }

    proptest! {
        /// OBS-7: no page makes it panic, and where it is cut changes nothing.
        #[test]
        fn cuts_change_nothing(page in "(up|x|[{}\"\\\\=,# \n1.a]){0,60}", piece in 1usize..9) {
            prop_assert_eq!(
                format!("{:?}", read(&["up", "up{a=\"1\"}"], &page, piece)),
                format!("{:?}", read(&["up", "up{a=\"1\"}"], &page, 1000))
            );
        }
    }
}
