//! A plan as a unified diff, for people: what `--dry-run` prints.
//!
//! **Invariant:** pure; no secret and no control character of a file reaches the terminal, and no file makes it long.

use std::fmt::Write as _;

use similar::TextDiff;

use super::{Plan, Remedy};
use crate::base::redact;
use crate::workspace::scan::{Entry, Scan};

/// Content beyond this is told by its size: nobody reads it, and comparing it takes long.
const BYTES_MAX: usize = 256 << 10;
/// The same for lines.
const LINES_MAX: usize = 10_000;
/// All of it; the report that carries it goes over HTTP.
const ALL_MAX: usize = 4 << 20;

/// The plan as a unified diff, for people. Lines of files without text are told by their size.
pub fn diff(plan: &Plan, scan: &Scan) -> String {
    let mut out = String::new();
    for (index, change) in plan.changes.iter().enumerate() {
        if out.len() > ALL_MAX {
            let left = plan.changes.len() - index;
            let _ = writeln!(out, "# {left} more changes are not shown");
            break;
        }
        let path = change.path.as_ref().map(|path| shown(path.as_str(), false)).unwrap_or_default();
        let before = change.path.as_ref().and_then(|path| match scan.entries.get(path)? {
            Entry::File(seen) => Some(seen),
            _ => None,
        });
        let len = before.map(|seen| seen.version.len);
        let old = before.and_then(|seen| seen.content.as_deref());
        match &change.remedy {
            Remedy::CreateDirectory => {
                let _ = writeln!(out, "# make the folder {path}/");
            }
            Remedy::CreateFile(content) => file(&mut out, (&path, true, true), (None, Some(&[])), content),
            Remedy::ReplaceFile { content, .. } => file(&mut out, (&path, false, true), (len, old), content),
            Remedy::RemoveFile => file(&mut out, (&path, false, false), (len, old), &[]),
            Remedy::EndProcess { pid, .. } => {
                let command = scan.processes.iter().find(|process| process.pid == *pid);
                let command = command.map_or("", |process| process.command.as_str());
                let _ = writeln!(out, "# end the process {pid}: {}", shown(&redact::line(command, 200), false));
            }
        }
    }
    out
}

/// One file: its path, whether it is made, whether it is there afterwards; what it holds before, and after.
fn file(out: &mut String, (path, is_new, stays): (&str, bool, bool), old: (Option<u64>, Option<&[u8]>), new: &[u8]) {
    let from = if is_new { "/dev/null".to_owned() } else { format!("a/{path}") };
    let to = if stays { format!("b/{path}") } else { "/dev/null".to_owned() };
    let _ = write!(out, "--- {from}\n+++ {to}\n");
    let (Some(before), Some(after)) = (old.1.and_then(text), text(new)) else {
        let before = old.0.map_or(0, |len| len);
        let _ = writeln!(out, "# {before} bytes before, {} bytes after, not shown", new.len());
        return;
    };
    // Whole lines are cleaned before they are compared, so that no half of a secret is left in a hunk.
    let (before, after) = (clean(before), clean(after));
    if before == after {
        let _ = writeln!(
            out,
            "# {} bytes before, {} bytes after, they differ in what is not shown",
            old.0.unwrap_or(0),
            new.len()
        );
        return;
    }
    let compared = TextDiff::from_lines(before.as_str(), after.as_str());
    let _ = write!(out, "{}", compared.unified_diff());
}

/// The content as text, if people can read it.
fn text(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let is_short = content.len() <= BYTES_MAX && text.lines().count() <= LINES_MAX;
    (is_short && !text.contains('\0')).then_some(text)
}

/// Without secrets that are known, values of keys that name a secret, logins of addresses, and control characters.
fn clean(text: &str) -> String {
    let known = redact::text(text);
    let members = members(&known);
    shown(&crate::base::tree::redact(&members), true)
}

/// JSON text in which the value of each key that names a secret is left out. The text may be broken, so every quote may
/// begin a key, whatever was before it.
pub(in crate::workspace) fn members(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(open) = rest.find('"') {
        let (before, from) = rest.split_at(open + 1);
        out.push_str(before);
        rest = from;
        let Some(close) = quote(from) else { break };
        let value = from[close + 1..].trim_start().strip_prefix(':').map(str::trim_start);
        let Some(value) = value.filter(|_| redact::names_a_secret(&from[..close])) else { continue };
        let end = match value.as_bytes().first() {
            Some(b'"') => quote(&value[1..]).map(|end| end + 2),
            Some(b'[') => value.find(']'),
            Some(b'{') => value.find('}'),
            _ => value.find([',', '}', ']', '\n', '"']),
        };
        out.push_str(&from[..from.len() - value.len()]);
        out.push_str(redact::REDACTED);
        rest = &value[end.unwrap_or(value.len())..];
    }
    out.push_str(rest);
    out
}

/// Where the next quote is that ends a string.
fn quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// The text with every character that moves a cursor or turns the direction of writing as its escape.
fn shown(text: &str, keeps_lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let moves = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if moves && !(keeps_lines && matches!(c, '\n' | '\t')) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
