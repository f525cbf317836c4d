//! The line a problem is on, with a caret under the place; for people.

use crate::base::tree::redact;

/// The most characters of a line that are shown.
const WIDTH: usize = 120;

/// `line` (1-based) of `text` and a caret under `column` (1-based); `None` if there is no such line, or if it holds
/// credentials.
pub fn excerpt(text: &str, line: usize, column: usize) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let text = text.replace("\r\n", "\n");
    let found = text.split(['\n', '\r']).nth(line.checked_sub(1)?)?;
    if found.trim().is_empty() || redact(found) != found {
        return None;
    }
    let column = column.checked_sub(1)?;
    let skipped = column.saturating_sub(WIDTH / 2);
    let shown: String = found.chars().skip(skipped).take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let indent = " ".repeat(column - skipped);
    Some(format!("  {number} | {}\n  {margin} | {indent}^", shown.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        assert_eq!(excerpt("a: 1\n\tb: é2\n", 2, 6).as_deref(), Some("  2 |  b: é2\n    |      ^"));
        assert_eq!(excerpt("a: 1", 1, 5).as_deref(), Some("  1 | a: 1\n    |     ^"));
        assert_eq!(excerpt("a: 1", 2, 1), None);
        assert_eq!(excerpt("a: 1", 0, 0), None);
        assert_eq!(excerpt("u: postgres://me:secret@host/db", 1, 4), None);
        let long = excerpt(&"x".repeat(1000), 1, 500).expect("an excerpt");
        assert!(long.lines().all(|line| line.len() < 140), "{long}");
    }
}
