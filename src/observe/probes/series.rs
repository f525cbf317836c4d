//! A series as an operator writes it: `name{label="value"}`.
//!
//! **Invariant:** pure; what is written as it was read is the same.

use super::page::Wanted;

/// Names and values of labels.
type Labels = Vec<(String, String)>;

const BLANKS: [char; 2] = [' ', '\t'];

/// A series, or all that have these labels among theirs: `name{label="value"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Wanted);

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)?;
        if self.0.labels.is_empty() {
            return Ok(());
        }
        let labels: Vec<String> = self.0.labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        write!(f, "{{{}}}", labels.join(","))
    }
}

impl Selector {
    /// From its text; what was expected, if it is something else.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, labels, rest) = series(text.trim())?;
        if rest.is_empty() {
            Ok(Self(Wanted { name: name.to_owned(), labels }))
        } else {
            Err("expected nothing after the series")
        }
    }

    /// What to look for on a page.
    pub fn wanted(&self) -> &Wanted {
        &self.0
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

    /// OBS-9: a series is named with its labels, whatever blanks and escapes stand there, and shown as it is meant.
    #[test]
    fn selectors() {
        let labels = |text: &str| Selector::parse(text).unwrap().wanted().labels.clone();
        assert_eq!(Selector::parse(" up{a=\"b\"} ").unwrap().to_string(), "up{a=\"b\"}");
        assert_eq!(Selector::parse("bot:up_total").unwrap().wanted().name, "bot:up_total");
        assert_eq!(labels("up"), []);
        let two = labels("up{ symbol = \"BTC/\\\"USD\\\"\" , venue=\"k\", }");
        assert_eq!(two, [("symbol".to_owned(), "BTC/\"USD\"".to_owned()), ("venue".to_owned(), "k".to_owned())]);
        for text in ["", "1up", "up{", "up{a=b}", "up{a=\"b}", "up{a=\"1\" b=\"2\"}", "up 1", "up{a=\"b\"} 1"] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
