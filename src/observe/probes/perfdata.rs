//! The output of a Nagios plugin: message, and performance data in base units.
//!
//! **Invariant:** pure; whatever is no performance data is skipped, never an error.

use crate::model::{Name, Perfdata};

/// How many numbers one plugin may report; each becomes a series.
const MAX_NUMBERS: usize = 256;
/// Longest label and message kept, in characters.
const MAX_LABEL: usize = 128;
const MAX_MESSAGE: usize = 1024;

/// What a plugin said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The first line up to its `|`.
    pub message: String,
    /// The numbers, in order.
    pub perfdata: Vec<Perfdata>,
}

/// The first line of a text, trimmed and of bounded length.
pub fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().chars().take(MAX_MESSAGE).collect()
}

/// Parses a plugin's output: `TEXT | PERFDATA`, then long text, then after another `|` further performance data.
pub fn parse(output: &str) -> Said {
    let mut lines = output.lines();
    let (text, data) = split(lines.next().unwrap_or_default());
    let mut said = Said { message: first_line(text), perfdata: Vec::new() };
    numbers(data, &mut said.perfdata);
    let mut in_data = false;
    for line in lines {
        if in_data {
            numbers(line, &mut said.perfdata);
        } else if line.contains('|') {
            in_data = true;
            numbers(split(line).1, &mut said.perfdata);
        }
    }
    said
}

fn split(line: &str) -> (&str, &str) {
    line.split_once('|').unwrap_or((line, ""))
}

/// Takes `'label'=value[UOM];[warn];[crit];[min];[max]`, separated by white space.
fn numbers(mut rest: &str, into: &mut Vec<Perfdata>) {
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || into.len() >= MAX_NUMBERS {
            return;
        }
        let Some((label, after)) = label(rest) else {
            // No label here: go on after the next white space.
            rest = rest.find(char::is_whitespace).map_or("", |end| &rest[end..]);
            continue;
        };
        let end = after.find(char::is_whitespace).unwrap_or(after.len());
        let value = after[..end].split(';').next().unwrap_or_default();
        rest = &after[end..];
        if let Some((value, unit)) = base_unit(value) {
            let label: String = label.chars().take(MAX_LABEL).collect();
            into.push(Perfdata { label: Name::from(label), value, unit: unit.to_owned() });
        }
    }
}

/// The label and what follows its `=`. Within single quotes a doubled one stands for itself.
fn label(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('\'') else {
        let (label, after) = text.split_once('=')?;
        let fits = !label.is_empty() && !label.contains(char::is_whitespace);
        return fits.then(|| (label.to_owned(), after));
    };
    let mut label = String::new();
    let mut rest = quoted;
    loop {
        let end = rest.find('\'')?;
        label.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('\'') {
            Some(after) => {
                label.push('\'');
                rest = after;
            }
            None => break,
        }
    }
    let after = rest.strip_prefix('=')?;
    (!label.is_empty()).then_some((label, after))
}

/// A number with its unit, in base units. `KB` and its kin are powers of 1000, `KiB` and its kin of 1024.
fn base_unit(text: &str) -> Option<(f64, &'static str)> {
    let is_digit = |letter: char| matches!(letter, '0'..='9' | '.' | ',' | '-' | '+');
    let mut end = text.find(|letter| !is_digit(letter)).unwrap_or(text.len());
    if let Some(exponent) = text[end..].strip_prefix(['e', 'E']) {
        let digits = exponent.find(|letter| !is_digit(letter)).unwrap_or(exponent.len());
        end += if digits > 0 { 1 + digits } else { 0 };
    }
    let (number, unit) = text.split_at(end);
    let number: f64 = number.replace(',', ".").parse().ok().filter(|number: &f64| number.is_finite())?;
    let (factor, base) = match unit {
        "s" => (1.0, "seconds"),
        "ms" => (1e-3, "seconds"),
        "us" => (1e-6, "seconds"),
        "ns" => (1e-9, "seconds"),
        "%" => (0.01, "ratio"),
        "B" => (1.0, "bytes"),
        "KB" | "kB" => (1e3, "bytes"),
        "MB" => (1e6, "bytes"),
        "GB" => (1e9, "bytes"),
        "TB" => (1e12, "bytes"),
        "KiB" => (1024.0, "bytes"),
        "MiB" => (1_048_576.0, "bytes"),
        "GiB" => (1_073_741_824.0, "bytes"),
        "TiB" => (1_099_511_627_776.0, "bytes"),
        "c" => (1.0, "total"),
        _ => (1.0, ""),
    };
    Some((number * factor, base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(output: &str) -> Vec<(String, f64, String)> {
        let data = parse(output).perfdata;
        data.into_iter().map(|data| (data.label.to_string(), data.value, data.unit)).collect()
    }

    /// OBS-7: every unit of the plugin guideline in its base unit.
    #[test]
    fn every_unit() {
        for (text, value, unit) in [
            ("1", 1.0, ""),
            ("-1.5", -1.5, ""),
            ("1,5", 1.5, ""),
            ("2s", 2.0, "seconds"),
            ("250ms", 0.25, "seconds"),
            ("500us", 0.0005, "seconds"),
            ("50%", 0.5, "ratio"),
            ("7B", 7.0, "bytes"),
            ("7KB", 7000.0, "bytes"),
            ("7MB", 7e6, "bytes"),
            ("7TB", 7e12, "bytes"),
            ("1MiB", 1_048_576.0, "bytes"),
            ("9c", 9.0, "total"),
            ("1e3s", 1000.0, "seconds"),
            ("1.5E-3", 0.0015, ""),
            ("3xyz", 3.0, ""),
        ] {
            let (found, found_unit) = base_unit(text).unwrap_or_else(|| panic!("{text}"));
            assert!((found - value).abs() <= value.abs() * 1e-12 && found_unit == unit, "{text}: {found} {found_unit}");
        }
        for text in ["", "U", "ms", "1.2.3", "--1", "e5"] {
            assert_eq!(base_unit(text), None, "{text}");
        }
    }

    #[test]
    fn labels_lines_and_nonsense() {
        let one = |label: &str, value| (label.to_owned(), value, String::new());
        assert_eq!(found("OK|a=1;2;3;0;9 'b c'=2 'it''s'=3"), [one("a", 1.0), one("b c", 2.0), one("it's", 3.0)]);
        assert_eq!(found("OK\nlong|b=1\nc=2 d=3\n"), [one("b", 1.0), one("c", 2.0), one("d", 3.0)]);
        assert_eq!(found("OK | junk a=1 'open=2"), [one("a", 1.0)]);
        assert_eq!(found("OK |a=U =4 b=;;; c=1"), [one("c", 1.0)]);
        assert_eq!(found("OK a=1"), []);
        assert_eq!(parse("PING OK - 1 ms |rta=1ms\nmore").message, "PING OK - 1 ms");
        let many: String = (0..1000).map(|index| format!("n{index}=1 ")).collect();
        assert_eq!(found(&format!("x|{many}")).len(), MAX_NUMBERS);
    }

    proptest! {
        #[test]
        fn no_output_makes_it_panic_or_invent_numbers(output in "[ -~|'=;\\nß]{0,200}") {
            for data in parse(&output).perfdata {
                prop_assert!(data.value.is_finite() && !data.label.is_empty());
            }
        }
    }
}
