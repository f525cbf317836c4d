//! Text to tree: saphyr's events become [`Node`]s that know their line and column.
//!
//! **Invariant:** bounded in size and depth; whatever the text, the answer is a tree or a problem with a position inside
//! the text.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput};

use super::{Node, Position, Problems, Value, shorten};

/// The largest settings file in bytes.
pub const SIZE_MAX: usize = 1024 * 1024;
/// The deepest nesting. People do not nest deeper; recursion here and in the takers stays small.
const DEPTH_MAX: usize = 64;
/// After so many problems the rest would only repeat what is wrong.
const REFUSALS_MAX: usize = 100;

/// Reads YAML (JSON is YAML too). At most 1 MiB, no aliases, no duplicate keys, one document, depth at most 64.
/// A syntax error is one problem and gives `None`.
pub fn parse(text: &str, problems: &Problems) -> Option<Node> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = Position { line: 1, column: 1 };
    if text.len() > SIZE_MAX {
        problems.push(first, "", &format!("{} bytes", text.len()), "expected at most 1 MiB", None);
        return None;
    }
    if let Some((at, found)) = unprintable(text) {
        problems.push(at, "", &found, "expected printable text", Some("remove the control character".into()));
        return None;
    }
    let mut builder = Builder { parser: Parser::new_from_str(text), ends: line_ends(text), problems, refusals: 0 };
    match builder.document() {
        Ok(node) => Some(node),
        Err(Stop::Told) => None,
        Err(Stop::Syntax(error)) => {
            let at = builder.position(error.marker());
            let line = text.lines().nth(at.line - 1).unwrap_or_default();
            let indented_by_tab = line[..line.len() - line.trim_start().len()].contains('\t');
            let hint = if indented_by_tab || error.info().contains("tab") {
                Some("indent with spaces, not with tabs".to_owned())
            } else {
                Some("look here and just before for a missing `:`, quote or bracket, or a wrong indent".to_owned())
            };
            problems.push(at, "", "", &format!("expected valid YAML, but {}", shorten(error.info())), hint);
            None
        }
    }
}

enum Stop {
    /// The problem has been pushed.
    Told,
    Syntax(ScanError),
}

struct Builder<'t, 'p> {
    parser: Parser<'t, StrInput<'t>>,
    /// Length of each line in characters.
    ends: Vec<usize>,
    problems: &'p Problems,
    refusals: usize,
}

impl<'t> Builder<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Position), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, self.position(&span.start))),
            Some(Err(error)) => Err(Stop::Syntax(error)),
            None => Ok((Event::StreamEnd, self.last())),
        }
    }

    fn document(&mut self) -> Result<Node, Stop> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentStart(_) if root.is_some() => {
                    let hint = Some("remove the `---` and what follows".to_owned());
                    self.problems.push(at, "", "", "expected one document, found a second", hint);
                    return Err(Stop::Told);
                }
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
                event => root = Some(self.node(event, at, "", 0)?),
            }
        }
        Ok(root.unwrap_or(Node { value: Value::Null, at: Position { line: 1, column: 1 } }))
    }

    fn node(&mut self, event: Event<'t>, at: Position, path: &str, depth: usize) -> Result<Node, Stop> {
        if depth > DEPTH_MAX {
            let rule = format!("expected at most {DEPTH_MAX} levels of nesting");
            self.problems.push(at, &shorten(path), "", &rule, None);
            return Err(Stop::Told);
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_only(at, path, anchor, tag.as_deref())?;
                scalar(&text, style)
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_only(at, path, anchor, tag.as_deref())?;
                self.sequence(path, depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_only(at, path, anchor, tag.as_deref())?;
                self.mapping(path, depth)?
            }
            Event::Alias(_) => {
                self.refuse(at, path, "*", "expected a value, not an alias", "write the value out")?;
                Value::Null
            }
            _ => Value::Null,
        };
        Ok(Node { value, at })
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                return Ok(Value::List(items));
            }
            let path = format!("{path}[{}]", items.len());
            items.push(self.node(event, at, &path, depth + 1)?);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Result<Value, Stop> {
        let mut entries: Vec<(String, Position, Node)> = Vec::new();
        let mut seen: HashMap<String, Position> = HashMap::new();
        loop {
            let (event, key_at) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Value::Map(entries));
            }
            let key = self.node(event, key_at, path, depth + 1)?;
            let name = match &key.value {
                Value::Scalar { text, .. } if !text.is_empty() => Some(text.clone()),
                _ => None,
            };
            let path = match &name {
                Some(name) if path.is_empty() => name.clone(),
                Some(name) => format!("{path}.{name}"),
                None => path.to_owned(),
            };
            let (event, at) = self.next()?;
            // Where nothing is written the parser points at whatever comes next; the key is the better place.
            let at = if nothing(&event) { key_at } else { at };
            let node = self.node(event, at, &path, depth + 1)?;
            let Some(name) = name else {
                self.refuse(key_at, &path, &key.shown(), "expected a word as the key", "quote the key")?;
                continue;
            };
            if let Some(first) = seen.get(&name) {
                let rule = format!("duplicate key, first at line {}, column {}", first.line, first.column);
                self.refuse(key_at, &path, "", &rule, "keep one of them")?;
                continue;
            }
            seen.insert(name.clone(), key_at);
            entries.push((name, key_at, node));
        }
    }

    fn plain_only(
        &mut self,
        at: Position,
        path: &str,
        anchor: usize,
        tag: Option<&saphyr_parser::Tag>,
    ) -> Result<(), Stop> {
        if anchor > 0 {
            self.refuse(at, path, "&", "expected a value without an anchor", "remove the `&name`")?;
        }
        if let Some(tag) = tag {
            self.refuse(at, path, &tag.to_string(), "expected a value without a tag", "remove the tag")?;
        }
        Ok(())
    }

    fn refuse(&mut self, at: Position, path: &str, found: &str, rule: &str, hint: &str) -> Result<(), Stop> {
        self.problems.push(at, &shorten(path), found, rule, Some(hint.to_owned()));
        self.refusals += 1;
        if self.refusals < REFUSALS_MAX { Ok(()) } else { Err(Stop::Told) }
    }

    /// A marker as a 1-based position inside the text: the parser may point past a line or the last one.
    fn position(&self, marker: &Marker) -> Position {
        let line = marker.line().clamp(1, self.ends.len());
        let column = if marker.line() > self.ends.len() { usize::MAX } else { marker.col().saturating_add(1) };
        Position { line, column: column.clamp(1, self.ends[line - 1] + 1) }
    }

    fn last(&self) -> Position {
        let line = self.ends.len();
        Position { line, column: self.ends[line - 1] + 1 }
    }
}

fn nothing(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(text, ScalarStyle::Plain, 0, None) if text.is_empty())
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    let quoted = style != ScalarStyle::Plain;
    if !quoted && matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar { text: text.to_owned(), quoted }
}

/// The first character that YAML does not allow, and how to name it. The parser would take a NUL for the end.
fn unprintable(text: &str) -> Option<(Position, String)> {
    let bad = |c: char| {
        (c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    let (index, found) = text.char_indices().find(|(_, c)| bad(*c))?;
    let ends = line_ends(&text[..index]);
    let position = Position { line: ends.len(), column: ends.last().copied().unwrap_or_default() + 1 };
    Some((position, format!("U+{:04X}", u32::from(found))))
}

/// The length of every line in characters; breaks are `\n`, `\r\n` and `\r`, as YAML has them. Never empty.
fn line_ends(text: &str) -> Vec<usize> {
    let mut ends = vec![0];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\r' => ends.push(0),
            _ => {
                if let Some(end) = ends.last_mut() {
                    *end += 1;
                }
            }
        }
    }
    ends
}
