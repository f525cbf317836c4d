//! JSON text as a tree that keeps every number as it is written, for judging records of money.
//!
//! **Invariant:** pure; no number is ever read as a float, and no depth of nesting overflows the stack.

/// Deeper than this nothing is looked at; `serde_json` stops there too.
const DEPTH_MAX: usize = 128;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    /// As written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In order; of a key that stands twice the last counts, as bots read it.
    Object(Vec<(String, Node)>),
    /// Nested too deep to be looked at.
    Deep,
}

impl Node {
    /// The value of a key, if this is an object that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What kind of value it is, for messages.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
            Self::Deep => "nested too deep",
        }
    }

    /// The value as it may be shown, short.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Bool(value) => format!("`{value}`"),
            Self::Number(text) => format!("`{}`", super::short(text)),
            Self::Text(text) => format!("`\"{}\"`", super::short(text)),
            Self::Null => "`null`".to_owned(),
            other => other.kind().to_owned(),
        }
    }
}

/// Reads JSON text; `None` if it is none. Whether a bot can read it is for `salvage::is_sound` to say.
pub(super) fn parse(bytes: &[u8]) -> Option<Node> {
    let mut reader = Reader { text: std::str::from_utf8(bytes).ok()?, at: 0 };
    let node = reader.value(0)?;
    reader.blanks();
    (reader.at == bytes.len()).then_some(node)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Whether the next character is that one; it is taken then.
    fn take(&mut self, byte: u8) -> bool {
        self.blanks();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Option<Node> {
        self.blanks();
        match self.peek()? {
            b'{' | b'[' if depth >= DEPTH_MAX => self.skip(),
            b'{' => self.object(depth),
            b'[' => self.list(depth),
            b'"' => self.string().map(Node::Text),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Node> {
        self.at += 1;
        let mut members = Vec::new();
        if self.take(b'}') {
            return Some(Node::Object(members));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            if !self.take(b':') {
                return None;
            }
            members.push((key, self.value(depth + 1)?));
            if self.take(b'}') {
                return Some(Node::Object(members));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn list(&mut self, depth: usize) -> Option<Node> {
        self.at += 1;
        let mut items = Vec::new();
        if self.take(b']') {
            return Some(Node::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if self.take(b']') {
                return Some(Node::List(items));
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    /// The raw text of a string, quotes included.
    fn raw_string(&mut self) -> Option<&str> {
        let start = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at)
    }

    fn string(&mut self) -> Option<String> {
        let raw = self.raw_string()?;
        // Half a surrogate pair is no text for Rust, but is for many a bot.
        Some(serde_json::from_str(raw).unwrap_or_else(|_| raw[1..raw.len() - 1].to_owned()))
    }

    fn word(&mut self) -> Option<Node> {
        let rest = self.text.get(self.at..)?;
        let end = rest.find([',', ']', '}', ':', '"', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        match word {
            "null" => Some(Node::Null),
            "true" => Some(Node::Bool(true)),
            "false" => Some(Node::Bool(false)),
            // What Python writes for numbers that are none: a number to a bot, and never one that is worth something.
            "NaN" | "Infinity" | "-Infinity" => Some(Node::Number(word.to_owned())),
            number if number.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                super::decimal::Decimal::parse(number).map(|_| Node::Number(number.to_owned()))
            }
            _ => None,
        }
    }

    /// Passes over a list or object without looking into it.
    fn skip(&mut self) -> Option<Node> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.raw_string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Some(Node::Deep);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WSP-3: what is judged is what is written: digits stay, the last of two keys counts, depth does not matter.
    #[test]
    fn reads_what_is_written() {
        let text = r#" {"a": [1, -2.50e+3, 0.10000000000000001], "b": null, "a\"": "x\u0041", "t": true, "b": {}} "#;
        let node = parse(text.as_bytes()).expect("it is JSON");
        let number = |text: &str| Node::Number(text.to_owned());
        let expected = Node::List(vec![number("1"), number("-2.50e+3"), number("0.10000000000000001")]);
        assert_eq!(node.get("a"), Some(&expected));
        assert_eq!(node.get("b"), Some(&Node::Object(Vec::new())));
        assert_eq!(node.get("a\""), Some(&Node::Text("xA".to_owned())));
        let deep = format!("{}{}", "[".repeat(300_000), "]".repeat(300_000));
        assert!(parse(deep.as_bytes()).is_some());
        let lone = parse(br#"{"a": "\ud800"}"#).expect("it is JSON to a bot");
        assert_eq!(lone.get("a"), Some(&Node::Text("\\ud800".to_owned())));
        assert_eq!(parse(b"[NaN, -Infinity]"), Some(Node::List(vec![number("NaN"), number("-Infinity")])));
    }

    /// WSP-3: everything that `serde_json` reads is read to the same value, and nothing that bots refuse.
    #[test]
    fn agrees_with_serde_json() {
        for text in ["", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"a", "{\"a\":1,}", "[", "\"\\", "--1", "[1}", "{]"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        for text in ["0", "\"\"", "[]", "{}", "[[],{}]", "{\"a\":{\"b\":[true,false,null]}}", " [ 1 , 2 ] "] {
            assert!(parse(text.as_bytes()).is_some(), "{text}");
        }
    }
}
