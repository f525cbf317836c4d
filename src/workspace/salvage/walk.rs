//! Through a damaged document, from one record to the next: whole ones are copied, the others told.
//!
//! The document is the first level, a list or object directly in it the second; what lies deeper is kept or lost with the
//! record that holds it. **Invariant:** only text that is whole by the grammar is copied, and only where its depth is known.

mod mend;

use super::account::{Losses, excerpt};
use super::expected::Expected;
use super::scan::{self, Kind, Open, Rigour, is_blank, is_space, space, space_before};
use super::tail;

/// What becomes of records behind a gap in which the name of another list may have stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doubtful {
    /// They are kept: every list that is expected has its name elsewhere.
    Kept,
    /// Those are kept that have the same keys as the records before the gap.
    SameShape,
    /// They are lost.
    Lost,
}

/// A member of the document as it was kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    /// Where it begins in the text.
    pub(super) start: usize,
    /// Nothing of it is missing.
    pub(super) is_whole: bool,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    out: usize,
    kept: usize,
    losses: usize,
    members: usize,
}

#[derive(Debug)]
struct Level {
    kind: Kind,
    items: usize,
    /// Behind the item that was copied last, unless something was left out since.
    end: Option<usize>,
    /// Before the item that was copied last.
    last: Option<Mark>,
    /// Where its value begins and ends in the text.
    value: (usize, usize),
    /// How many items are lists.
    lists: usize,
    /// The items stand on lines of their own.
    is_wide: bool,
    /// Its opening bracket, if that is there.
    open: Option<usize>,
}

#[derive(Debug)]
struct Inner {
    level: Level,
    /// Before the member.
    mark: Mark,
    start: usize,
    /// It holds records by what is expected, or is a list.
    is_expected: bool,
    only_nested: bool,
    /// Something else may have stood in a gap of it.
    is_doubtful: bool,
    /// Something of it was lost.
    is_torn: bool,
    shape: Option<Vec<Vec<u8>>>,
}

/// Where a level could not be followed any further.
#[derive(Debug)]
struct Broken {
    from: usize,
    /// Where it was noticed, and what was open there of the item.
    at: usize,
    deeper: Open,
    /// A whole value that the damage follows directly: it may have been closed too early.
    suspect: Option<(usize, usize, usize)>,
}

#[derive(Debug)]
enum Ended {
    Closed(usize),
    Broken(Broken),
}

/// The way through one document.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    text: &'a [u8],
    expected: &'a Expected,
    doubtful: Doubtful,
    is_trusted: bool,
    /// Where reading stops.
    until: usize,
    root: Level,
    inner: Option<Inner>,
    pub(super) out: Vec<u8>,
    pub(super) kept: usize,
    pub(super) losses: Losses,
    pub(super) members: Vec<Member>,
    /// Which expected keys the document has.
    pub(super) seen: Vec<bool>,
    /// How many records were in doubt.
    pub(super) doubts: usize,
}

impl Level {
    const fn new(kind: Kind, open: Option<usize>) -> Self {
        Self { kind, items: 0, end: None, last: None, value: (0, 0), lists: 0, is_wide: false, open }
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(text: &'a [u8], expected: &'a Expected, kind: Kind, doubtful: Doubtful) -> Self {
        Self {
            text,
            expected,
            doubtful,
            is_trusted: false,
            until: usize::MAX,
            root: Level::new(kind, None),
            inner: None,
            out: Vec::new(),
            kept: 0,
            losses: Losses::default(),
            members: Vec::new(),
            seen: vec![false; expected.keys.len()],
            doubts: 0,
        }
    }

    /// Walks the document whose first bracket stands at `open`; `is_balanced` if every bracket has its partner.
    pub(super) fn document(&mut self, open: usize, is_balanced: bool) {
        self.is_trusted = is_balanced;
        self.out.push(self.text[open]);
        self.root.open = Some(open);
        match self.run(open + 1) {
            Ended::Closed(end) => self.behind(open, end),
            Ended::Broken(broken) => self.mend(broken),
        }
    }

    /// Walks what is left of a document whose beginning is lost.
    pub(super) fn headless(&mut self) {
        let Some(tail) = tail::tail(self.text, 0, 0, self.root.kind) else { return self.lose_rest(0) };
        self.out.push(if self.root.kind == Kind::Object { b'{' } else { b'[' });
        self.lose(0, tail.below_root);
        self.resume(tail.below_root);
    }

    fn resume(&mut self, next: usize) {
        self.is_trusted = true;
        self.level().end = None;
        match self.run(next) {
            Ended::Closed(end) => self.finish(end),
            Ended::Broken(Broken { from, suspect, .. }) => {
                self.lose_rest(suspect.map_or(from, |(start, ..)| start));
            }
        }
    }

    /// Nothing can be told of the rest: what is open is closed.
    fn lose_rest(&mut self, from: usize) {
        let text = self.text;
        let from = from.min(text.len());
        let has_more = text[from..].iter().any(|byte| !is_blank(*byte) && *byte != b',');
        if has_more {
            self.lose_brackets(from, text.len());
        } else if !self.out.is_empty() && !self.is_finished() {
            self.losses
                .push(text.len(), text.len(), || "what followed: the file ends before its last bracket".to_owned());
        }
        if self.inner.is_some() {
            self.close_inner(None, text.len());
        }
        if !self.out.is_empty() && !self.is_finished() {
            self.drop_list();
            if self.root.is_wide {
                self.out.push(b'\n');
            }
            self.out.push(self.root.kind.closer());
            self.root.kind_closed(text.len());
        }
    }

    const fn is_finished(&self) -> bool {
        self.root.items == usize::MAX
    }

    /// Behind the document: white space is kept.
    fn finish(&mut self, end: usize) {
        if !self.is_finished() {
            let after = space(self.text, end);
            self.out.extend_from_slice(&self.text[end..after]);
            self.root.kind_closed(end);
        }
    }

    fn level(&mut self) -> &mut Level {
        self.inner.as_mut().map_or(&mut self.root, |inner| &mut inner.level)
    }

    fn mark(&self) -> Mark {
        Mark { out: self.out.len(), kept: self.kept, losses: self.losses.total(), members: self.members.len() }
    }

    fn run(&mut self, mut at: usize) -> Ended {
        loop {
            while at < self.text.len() && (is_space(self.text[at]) || self.text[at] == b',') {
                at += 1;
            }
            let kind = self.level().kind;
            let Some(byte) = self.text.get(at).copied().filter(|_| at < self.until) else {
                return Ended::Broken(Broken { from: at, at, deeper: Open::default(), suspect: None });
            };
            let next = match Kind::closed_by(byte) {
                Some(closed) if closed == kind => {
                    if self.inner.is_none() {
                        self.put_closer(at);
                        return Ended::Closed(at + 1);
                    }
                    self.close_inner(Some(at), at + 1);
                    Ok(at + 1)
                }
                Some(_) => Err(Broken { from: at, at, deeper: Open::default(), suspect: None }),
                None => self.item(at, kind),
            };
            match next {
                Ok(next) => at = next,
                Err(broken) => return Ended::Broken(broken),
            }
        }
    }

    /// Passes one item; where the next may begin.
    fn item(&mut self, start: usize, kind: Kind) -> Result<usize, Broken> {
        let text = self.text;
        let value = match kind {
            Kind::List => start,
            Kind::Object => match scan::key(text, start, Rigour::Strict) {
                Ok(value) => value,
                Err(at) => return self.flaw(start, kind, (at, Open::default()), None),
            },
        };
        let is_member = self.inner.is_none() && kind == Kind::Object;
        if is_member {
            self.expected.note(&mut self.seen, &text[start..value]);
        }
        match scan::value(text, value, Rigour::Strict) {
            Ok(end) if is_cut(text, value, end) => self.flaw(start, kind, (end, Open::default()), None),
            Ok(end) if is_suspect(text, value, end, kind) && !(self.is_trusted && b"{[".contains(&text[value])) => {
                self.flaw(start, kind, (end, Open::default()), Some((start, value, end)))
            }
            // A list that has become an object, or the other way round, lost its bracket.
            Ok(end) if is_member && !self.expected.may_hold(&text[start..value], text[value]) => {
                self.lose(start, end);
                Ok(end)
            }
            Ok(end) => {
                self.offer(start, value, end);
                Ok(end)
            }
            Err(_) if is_member && Kind::opened_by(text[value.min(text.len() - 1)]).is_some() && value < text.len() => {
                self.open_inner(start, value);
                Ok(value + 1)
            }
            Err(fault) => self.flaw(start, kind, fault, None),
        }
    }

    /// Something that is not whole. Goes on behind it if it can be told where it ends.
    fn flaw(
        &mut self,
        start: usize,
        kind: Kind,
        (at, deeper): (usize, Open),
        suspect: Option<(usize, usize, usize)>,
    ) -> Result<usize, Broken> {
        let local = if suspect.is_none() { local_end(self.text, start, kind) } else { None };
        let end = match local {
            Some(end) => end,
            None if self.is_trusted => {
                self.damaged();
                scan::item_end(self.text, start).max(start + 1)
            }
            None => {
                let from = suspect.map_or(start, |(_, _, end)| end);
                return Err(Broken { from, at, deeper, suspect });
            }
        };
        self.lose(start, end);
        Ok(end)
    }

    /// A gap in which anything may have stood.
    fn damaged(&mut self) {
        if let Some(inner) = &mut self.inner {
            inner.is_doubtful = true;
        }
    }

    /// A whole item: copied, if it is certain where it belongs.
    fn offer(&mut self, start: usize, value: usize, end: usize) {
        let text = self.text;
        if let Some(inner) = &mut self.inner {
            let shaped = inner.level.kind == Kind::List && text[value] == b'{';
            if inner.is_doubtful {
                self.doubts += 1;
                let may = match self.doubtful {
                    Doubtful::Kept => true,
                    Doubtful::SameShape => {
                        shaped && inner.shape.as_ref().is_some_and(|known| *known == shape(text, value))
                    }
                    Doubtful::Lost => false,
                };
                if !may {
                    inner.is_torn = true;
                    inner.level.end = None;
                    let what = excerpt(text, start, end);
                    return self
                        .losses
                        .push(start, end, || format!("a record behind a gap, of which list is not certain: {what}"));
                }
            } else if shaped && inner.shape.is_none() {
                inner.shape = Some(shape(text, value));
            }
            inner.only_nested &= Kind::opened_by(text[value]).is_some();
            self.put(start, end);
            self.kept += 1;
            return;
        }
        self.put(start, end);
        self.kept += 1;
        if self.root.kind == Kind::Object {
            self.members.push(Member { start, is_whole: true });
            if text[value] == b'[' {
                self.kept += scan::count(text, value);
            }
        }
    }

    /// Copies `start..end` behind what was copied before, with the text between them if that was in order.
    fn put(&mut self, start: usize, end: usize) {
        let (text, mark) = (self.text, self.mark());
        let lead = &text[space_before(text, start, 0)..start];
        let level = self.inner.as_mut().map_or(&mut self.root, |inner| &mut inner.level);
        let between = level.end.map(|end| &text[end..start]).filter(|between| is_separator(between));
        match between {
            Some(between) => self.out.extend_from_slice(between),
            None => {
                let first = level.open.map_or(&lead[..0], |open| &text[open + 1..space(text, open + 1)]);
                if level.items > 0 {
                    self.out.push(b',');
                    self.out.extend_from_slice(lead);
                } else {
                    self.out.extend_from_slice(first);
                }
            }
        }
        self.out.extend_from_slice(&text[start..end]);
        level.items += 1;
        level.end = Some(end);
        level.last = Some(mark);
        level.value = (start, end);
        level.lists += usize::from(text[start] == b'[');
        level.is_wide = lead.contains(&b'\n');
    }

    fn drop_last(&mut self) {
        let Some(mark) = self.level().last.take() else { return };
        self.rewind(mark);
        let level = self.level();
        level.items -= 1;
        level.end = None;
    }

    fn rewind(&mut self, mark: Mark) {
        self.out.truncate(mark.out);
        self.kept = mark.kept;
        self.losses.rewind(mark.losses);
        self.members.truncate(mark.members);
    }

    fn put_closer(&mut self, at: usize) {
        let text = self.text;
        self.out.extend_from_slice(&text[space_before(text, at, 0)..=at]);
    }

    fn open_inner(&mut self, start: usize, value: usize) {
        let (mark, kind) = (self.mark(), Kind::opened_by(self.text[value]).unwrap_or(Kind::List));
        let is_expected = kind == Kind::List || self.expected.is_object(&self.text[start..value]);
        self.put(start, value + 1);
        self.root.end = None;
        self.inner = Some(Inner {
            level: Level::new(kind, Some(value)),
            mark,
            start,
            is_expected,
            only_nested: true,
            is_doubtful: false,
            is_torn: false,
            shape: None,
        });
    }

    /// Closes the list or object one below the document, at its bracket or, if that is lost, before `end`.
    fn close_inner(&mut self, at: Option<usize>, end: usize) {
        if at.is_none() {
            self.drop_list();
        }
        let Some(inner) = self.inner.take() else { return };
        let is_kept = inner.is_expected || (inner.only_nested && inner.level.items > 0);
        if !is_kept {
            self.rewind(inner.mark);
            self.root.items -= 1;
            self.root.end = None;
            let what = name_of(self.text, inner.start, end);
            return self.losses.push(inner.start, end, || format!("{what}, of which a part cannot be read"));
        }
        match at {
            Some(at) => self.put_closer(at),
            None => {
                if inner.level.is_wide && self.root.is_wide {
                    let lead = space_before(self.text, inner.start, 0);
                    self.out.extend_from_slice(&self.text[lead..inner.start]);
                }
                self.out.push(inner.level.kind.closer());
            }
        }
        self.root.end = at.map(|at| at + 1);
        self.root.last = Some(inner.mark);
        self.root.value = (inner.start, end);
        if inner.level.kind == Kind::Object {
            self.kept = inner.mark.kept;
        }
        self.kept += 1;
        self.members.push(Member { start: inner.start, is_whole: !inner.is_torn && at.is_some() });
    }

    fn lose(&mut self, start: usize, end: usize) {
        let text = self.text;
        let in_list = self.level().kind == Kind::List;
        self.level().end = None;
        let list = self.inner.as_mut().map(|inner| {
            inner.is_torn = true;
            inner.start
        });
        // Brackets, commas and blanks alone are no record.
        if text[start..end.max(start)].iter().all(|byte| is_blank(*byte) || b",]}[{:".contains(byte)) {
            if text[start..end.max(start)].iter().any(|byte| b"{[".contains(byte) || *byte == 0) {
                self.losses.push(start, end, || "bytes that hold nothing".to_owned());
            }
            return;
        }
        self.losses.push(start, end, || {
            let what = if in_list {
                format!("the record that begins with {}", excerpt(text, start, end))
            } else {
                name_of(text, start, end)
            };
            match list {
                Some(list) => format!("{what} (in {})", excerpt(text, list, key_end(text, list))),
                None => what,
            }
        });
    }
}

impl Level {
    /// Nothing is written to it any more.
    const fn kind_closed(&mut self, end: usize) {
        self.items = usize::MAX;
        self.end = Some(end);
    }
}

fn key_end(text: &[u8], start: usize) -> usize {
    scan::string(text, start, Rigour::Lenient).unwrap_or(start)
}

fn name_of(text: &[u8], start: usize, end: usize) -> String {
    match scan::string(text, start, Rigour::Strict) {
        Ok(key) if text.get(space(text, key)) == Some(&b':') && key <= end => {
            format!("the member {}", excerpt(text, start, key))
        }
        _ => format!("what begins with {}", excerpt(text, start, end)),
    }
}

fn shape(text: &[u8], at: usize) -> Vec<Vec<u8>> {
    scan::keys(text, at).into_iter().map(<[u8]>::to_vec).collect()
}

fn is_separator(between: &[u8]) -> bool {
    between.iter().filter(|byte| **byte == b',').count() == 1
        && between.iter().all(|byte| is_space(*byte) || *byte == b',')
}

/// Whether a number or word may go on behind its end: only a blank, a comma or a bracket shows that it is whole.
fn is_cut(text: &[u8], value: usize, end: usize) -> bool {
    let is_bare = !matches!(text[value], b'"' | b'{' | b'[');
    let is_word = text[value].is_ascii_lowercase() && end == text.len();
    is_bare && !is_word && !text.get(end).is_some_and(|byte| is_space(*byte) || matches!(byte, b',' | b']' | b'}'))
}

/// Whether what follows a whole value shows that it was no value, or was closed too early.
fn is_suspect(text: &[u8], value: usize, end: usize, kind: Kind) -> bool {
    let after = space(text, end);
    let is_member = |at: usize| {
        text.get(at) == Some(&b'"')
            && scan::raw_string(text, at).is_some_and(|end| text.get(space(text, end)) == Some(&b':'))
    };
    match text.get(after) {
        None | Some(b'}' | b']' | b'{' | b'[' | 0) => false,
        Some(b',') => kind == Kind::List && is_member(space(text, after + 1)),
        Some(b':') => true,
        // A comma that lacks between two texts is none that a quote too much has hidden.
        Some(b'"') if kind == Kind::List => after == end || text[value] != b'"' || is_member(after),
        Some(b'"') => !is_member(after),
        Some(_) => after == end,
    }
}

/// The end of an item in which only words are wrong, not brackets or quotes.
fn local_end(text: &[u8], start: usize, kind: Kind) -> Option<usize> {
    let value = match kind {
        Kind::List => start,
        Kind::Object => scan::key(text, start, Rigour::Lenient).ok()?,
    };
    let end = scan::value(text, value, Rigour::Lenient).ok()?;
    matches!(text.get(space(text, end)), Some(b',' | b'}' | b']')).then_some(end)
}
