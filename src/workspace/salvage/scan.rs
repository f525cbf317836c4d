//! The grammar of JSON over bytes, without recursion: where a value ends, and where the next one may begin.
//!
//! **Invariant:** every function is linear in what it passes and keeps one bit for each open bracket.

/// What holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    List,
}

impl Kind {
    pub(super) fn opened_by(byte: u8) -> Option<Self> {
        match byte {
            b'{' => Some(Self::Object),
            b'[' => Some(Self::List),
            _ => None,
        }
    }

    pub(super) fn closed_by(byte: u8) -> Option<Self> {
        match byte {
            b'}' => Some(Self::Object),
            b']' => Some(Self::List),
            _ => None,
        }
    }

    pub(super) const fn closer(self) -> u8 {
        match self {
            Self::Object => b'}',
            Self::List => b']',
        }
    }
}

/// The brackets that are open, one bit each.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    bits: Vec<u64>,
    len: usize,
}

impl Open {
    pub(super) fn push(&mut self, kind: Kind) {
        let (word, bit) = (self.len / 64, self.len % 64);
        if word == self.bits.len() {
            self.bits.push(0);
        }
        let mask = 1 << bit;
        match kind {
            Kind::Object => self.bits[word] |= mask,
            Kind::List => self.bits[word] &= !mask,
        }
        self.len += 1;
    }

    pub(super) fn get(&self, at: usize) -> Option<Kind> {
        if at >= self.len {
            return None;
        }
        Some(if self.bits[at / 64] >> (at % 64) & 1 == 1 { Kind::Object } else { Kind::List })
    }

    pub(super) fn last(&self) -> Option<Kind> {
        self.get(self.len.checked_sub(1)?)
    }

    pub(super) fn pop(&mut self) -> Option<Kind> {
        let last = self.last()?;
        self.len -= 1;
        Some(last)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }
}

/// How strictly values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rigour {
    /// As RFC 8259 has it.
    Strict,
    /// The same and the words `NaN`, `Infinity` and `-Infinity`, which Python writes and reads.
    Read,
    /// Words that are no values (`NaN`, `None`, `1.2.3`) and strings with control characters or unknown escapes pass too:
    /// damage that says nothing about the brackets around it.
    Lenient,
}

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Behind the white space.
pub(super) fn space(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && is_space(text[at]) {
        at += 1;
    }
    at
}

/// Where the white space before `at` begins, not before `low`.
pub(super) fn space_before(text: &[u8], mut at: usize, low: usize) -> usize {
    while at > low && is_space(text[at - 1]) {
        at -= 1;
    }
    at
}

/// The end of the value that begins at `at`, or where it could not be read on and what was open there. What follows a number is
/// for the caller to look at.
pub(super) fn value(text: &[u8], at: usize, rigour: Rigour) -> Result<usize, (usize, Open)> {
    let mut open = Open::default();
    walk(text, at, rigour, &mut open).map_err(|at| (at, open))
}

fn walk(text: &[u8], mut at: usize, rigour: Rigour, open: &mut Open) -> Result<usize, usize> {
    loop {
        let kind = text.get(at).copied().and_then(Kind::opened_by);
        if let Some(kind) = kind {
            open.push(kind);
            at = space(text, at + 1);
            if text.get(at) != Some(&kind.closer()) {
                if kind == Kind::Object {
                    at = key(text, at, rigour)?;
                }
                continue;
            }
        } else {
            at = scalar(text, at, rigour)?;
        }
        // What may follow a value, until another one is due.
        loop {
            let Some(kind) = open.last() else { return Ok(at) };
            at = space(text, at);
            match text.get(at) {
                Some(b',') => {
                    at = space(text, at + 1);
                    if kind == Kind::Object {
                        at = key(text, at, rigour)?;
                    }
                    break;
                }
                Some(byte) if *byte == kind.closer() => {
                    open.pop();
                    at += 1;
                }
                _ => return Err(at),
            }
        }
    }
}

/// Behind a key, its colon and the space after it.
pub(super) fn key(text: &[u8], at: usize, rigour: Rigour) -> Result<usize, usize> {
    let end = space(text, string(text, at, rigour)?);
    if text.get(end) == Some(&b':') { Ok(space(text, end + 1)) } else { Err(end) }
}

/// Behind a string, number or word.
fn scalar(text: &[u8], at: usize, rigour: Rigour) -> Result<usize, usize> {
    if text.get(at) == Some(&b'"') {
        return string(text, at, rigour);
    }
    if rigour == Rigour::Lenient {
        let end = word(text, at);
        return if end > at { Ok(end) } else { Err(at) };
    }
    let rest = &text[at.min(text.len())..];
    let starts = |names: &[&[u8]]| names.iter().find(|name| rest.starts_with(name)).map(|name| at + name.len());
    let odd = || if rigour == Rigour::Read { starts(&[b"NaN", b"Infinity", b"-Infinity"]) } else { None };
    if let Some(end) = starts(&[b"true", b"false", b"null"]).or_else(odd) {
        return Ok(end);
    }
    number(text, at)
}

/// Behind what looks like a number or a bare word.
pub(super) fn word(text: &[u8], mut at: usize) -> usize {
    while at < text.len() && (text[at].is_ascii_alphanumeric() || b"+-._".contains(&text[at])) {
        at += 1;
    }
    at
}

fn number(text: &[u8], mut at: usize) -> Result<usize, usize> {
    let digits = |from: usize| {
        let end = from + text[from.min(text.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if end > from { Ok(end) } else { Err(from) }
    };
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        if matches!(text.get(at), Some(b'+' | b'-')) {
            at += 1;
        }
        at = digits(at)?;
    }
    Ok(at)
}

/// Behind the closing quote of the string that begins at `at`.
pub(super) fn string(text: &[u8], at: usize, rigour: Rigour) -> Result<usize, usize> {
    if text.get(at) != Some(&b'"') {
        return Err(at);
    }
    let strict = rigour != Rigour::Lenient;
    let mut is_ascii = true;
    let mut end = at + 1;
    loop {
        match text.get(end) {
            None | Some(0) => return Err(end),
            Some(b'"') => break,
            Some(b'\\') => {
                let escape = match text.get(end + 1) {
                    None | Some(0) => return Err(end),
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
                    Some(b'u') if is_hex(text, end + 2) => 6,
                    Some(_) if strict => return Err(end),
                    Some(_) => 2,
                };
                end += escape;
            }
            Some(byte) if *byte < 0x20 && strict => return Err(end),
            Some(byte) => {
                is_ascii &= byte.is_ascii();
                end += 1;
            }
        }
    }
    if !is_ascii && let Err(fault) = std::str::from_utf8(&text[at..end]) {
        return Err(at + fault.valid_up_to());
    }
    Ok(end + 1)
}

fn is_hex(text: &[u8], at: usize) -> bool {
    text.get(at..at + 4).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
}

/// Behind the closing quote, whatever stands in the string; `None` if it is never closed.
pub(super) fn raw_string(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        match *text.get(end)? {
            b'"' => return Some(end + 1),
            b'\\' => end += 2,
            _ => end += 1,
        }
    }
}

/// From inside a container to the comma or bracket that ends the present item, strings and inner brackets passed over.
pub(super) fn item_end(text: &[u8], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => match raw_string(text, at) {
                Some(end) => {
                    at = end;
                    continue;
                }
                None => return text.len(),
            },
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Whether every bracket from `at` on has its partner and only the last one closes what the first one opened, and no string
/// shows that a quote is lost: by NUL bytes in it, or by what follows it.
pub(super) fn is_balanced(text: &[u8], mut at: usize) -> bool {
    let mut open = Open::default();
    while let Some(byte) = text.get(at).copied() {
        if byte == b'"' {
            let Some(end) = raw_string(text, at) else { return false };
            let follows = text.get(space(text, end)).copied();
            if text[at..end].contains(&0) || !follows.is_some_and(|byte| b",:]}".contains(&byte)) {
                return false;
            }
            at = end;
            continue;
        }
        if byte == b'\\' {
            return false;
        }
        if let Some(kind) = Kind::opened_by(byte) {
            open.push(kind);
        } else if let Some(kind) = Kind::closed_by(byte) {
            if open.pop() != Some(kind) {
                return false;
            }
            if open.len() == 0 {
                return text[at + 1..].iter().all(|byte| is_blank(*byte));
            }
        }
        at += 1;
    }
    false
}

/// White space, or what is left of pages that were never written.
pub(super) const fn is_blank(byte: u8) -> bool {
    is_space(byte) || byte == 0
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Its key's opening quote.
    pub(super) start: usize,
    /// Behind its key's closing quote.
    pub(super) key_end: usize,
    pub(super) value: usize,
    pub(super) end: usize,
}

/// Passes the members of the object that begins at `at` and is sound.
pub(super) fn members(text: &[u8], at: usize) -> impl Iterator<Item = Member> {
    let mut at = space(text, at + 1);
    std::iter::from_fn(move || {
        if text.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = raw_string(text, at)?;
        let value = space(text, space(text, key_end) + 1);
        let next = item_end(text, value);
        let found = Member { start: at, key_end, value, end: space_before(text, next, value) };
        at = if text.get(next) == Some(&b',') { space(text, next + 1) } else { text.len() };
        Some(found)
    })
}

/// Where each value begins and ends of the list that begins at `at` and is sound.
pub(super) fn elements(text: &[u8], at: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = space(text, at + 1);
    std::iter::from_fn(move || {
        if text.get(at).is_none_or(|byte| Kind::closed_by(*byte).is_some()) {
            return None;
        }
        let (start, end) = (at, item_end(text, at));
        at = if text.get(end) == Some(&b',') { space(text, end + 1) } else { text.len() };
        Some((start, space_before(text, end, start)))
    })
}

/// The keys of the object that begins at `at` and is sound, as they are written, without quotes.
pub(super) fn keys(text: &[u8], at: usize) -> Vec<&[u8]> {
    members(text, at).map(|member| &text[member.start + 1..member.key_end - 1]).collect()
}

/// How many values the list or object that begins at `at` and is sound holds.
pub(super) fn count(text: &[u8], at: usize) -> usize {
    let mut at = space(text, at + 1);
    if text.get(at).is_none_or(|byte| Kind::closed_by(*byte).is_some()) {
        return 0;
    }
    let mut found = 1;
    loop {
        at = item_end(text, at);
        if text.get(at) != Some(&b',') {
            return found;
        }
        found += 1;
        at += 1;
    }
}
