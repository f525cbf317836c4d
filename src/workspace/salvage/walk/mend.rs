//! Where the brackets of a document do not fit together: what of it lies where it seems to, and where reading goes on.
//!
//! **Invariant:** what an opening bracket that is lost, or one too much, may have moved is never kept, and always told.

use super::{Broken, Ended, Inner, Level, Member, Walk, is_separator, shape};
use crate::workspace::salvage::account::excerpt;
use crate::workspace::salvage::repeated::has_repeated;
use crate::workspace::salvage::scan::{self, Kind, Rigour, is_blank, is_space, space};
use crate::workspace::salvage::tail::{self, Tail};

impl Walk<'_> {
    /// The document is closed; something may follow.
    pub(super) fn behind(&mut self, open: usize, end: usize) {
        let rest = &self.text[end..];
        if rest.iter().all(|byte| is_blank(*byte) || *byte == b',' || Kind::closed_by(*byte).is_some()) {
            let mut too_many = rest.iter().copied().filter_map(Kind::closed_by);
            let is_one = too_many.next() == Some(self.root.kind) && too_many.next().is_none();
            let is_balanced = rest.iter().all(|byte| Kind::closed_by(*byte).is_none());
            if is_balanced || self.is_end_by_its_lines(open, end) || (is_one && self.is_end_by_its_items()) {
                self.finish(end);
            } else if is_one && self.root.kind == Kind::Object && self.expected.keys.is_empty() {
                self.finish(end);
                self.losses
                    .push(end, self.text.len(), || "what a bracket too much behind the document closed".to_owned());
            } else {
                self.keep_certain(open, is_one);
                self.lose_rest(self.until);
            }
            return;
        }
        let tail = tail::tail(self.text, end, end, self.root.kind);
        let is_known = !self.expected.keys.is_empty();
        let (has_any, has_all) = (self.seen.contains(&true), !self.seen.contains(&false));
        let depth = tail.as_ref().map_or(usize::MAX, |tail| tail.open.len());
        let goes_on = matches!(self.text.get(space(self.text, end)), Some(b',' | b']' | b':'));
        let is_strange = self.root.kind == Kind::Object && is_known && !has_any;
        match tail {
            // What was read lies deeper than it seemed: it is no document at all.
            tail if depth > 1 && (goes_on || is_strange) => {
                let opener = self.out[0];
                self.out = vec![opener];
                (self.kept, self.root) = (0, Level::new(self.root.kind, None));
                self.members.clear();
                self.losses.rewind(0);
                let next = tail.map_or(self.text.len(), |tail| tail.below_root);
                self.lose(open, next);
                self.resume(next);
            }
            // The bracket that closed it did not belong there.
            Some(tail) if self.root.kind == Kind::Object && !(is_known && has_all) && tail.open.len() == 1 => {
                self.go_on(open, end, tail.below_root);
            }
            // A document, and the end of an older, longer one: what a bot leaves that does not cut off what it writes over.
            _ => {
                self.finish(end);
                self.lose_rest(end);
            }
        }
    }

    /// Whether the lines show that the document ends there: what it holds is indented, its last bracket is not.
    fn is_end_by_its_lines(&self, open: usize, end: usize) -> bool {
        let first = space(self.text, open + 1);
        let lead = &self.text[open + 1..first];
        self.text[end - 2] == b'\n' && lead.contains(&b'\n') && lead.last() != Some(&b'\n')
    }

    /// Whether one more bracket can only be one too much: had the one that it closes been lost before, what was read would end
    /// otherwise. A list of objects never holds a list directly, and what lies in the last list of an object is not closed by
    /// the object's bracket.
    fn is_end_by_its_items(&self) -> bool {
        match self.root.kind {
            Kind::List => scan::elements(&self.out, 0).all(|(start, _)| self.out[start] == b'{'),
            Kind::Object => {
                let place = |member: &Member| self.expected.place(&self.text[member.start..]);
                let found: Vec<_> = self.members.iter().filter_map(place).collect();
                let last = self.members.last().and_then(place).map(|at| self.expected.keys[at].1);
                found.len() >= self.expected.keys.len() && last.is_some_and(|kind| kind != Some(Kind::Object))
            }
        }
    }

    /// Of a document with brackets too much keeps what lies where it seems to for certain: an opening bracket may be lost
    /// anywhere before, and what lies behind it deeper than it seems. A member that is expected shows that none is lost before
    /// it; `is_one` if the bracket is one that closes an object, so that none is lost in a list.
    fn keep_certain(&mut self, open: usize, is_one: bool) {
        let text = self.text;
        let place = |member: &Member| self.expected.place(&text[member.start..]);
        let last = self.members.iter().rev().find_map(|member| place(member).map(|at| (member.start, at)));
        let until = last.map_or(open + 1, |(start, at)| {
            let value = scan::key(text, start, Rigour::Strict).unwrap_or(start);
            let inside = space(text, value + 1);
            let is_empty = Kind::opened_by(text[value]).is_some()
                && text.get(inside).is_some_and(|byte| Kind::closed_by(*byte).is_some());
            let is_certain = is_empty || (is_one && self.expected.keys[at].1 != Some(Kind::Object));
            if is_certain { scan::item_end(text, value) } else { start }
        });
        let (expected, kind, doubtful) = (self.expected, self.root.kind, self.doubtful);
        *self = Self { until, is_trusted: self.is_trusted, ..Self::new(text, expected, kind, doubtful) };
        self.out.push(text[open]);
        self.root.open = Some(open);
        if let Ended::Broken(broken) = self.run(open + 1) {
            self.until = self.until.max(broken.from);
        }
    }

    /// Goes on with the members behind a bracket too much, unless these repeat what was read: then they are of another document.
    fn go_on(&mut self, open: usize, end: usize, next: usize) {
        let before = (self.out.clone(), self.kept, self.losses.clone(), self.members.clone());
        let mut lost = end - 1;
        if self.expected.keys.is_empty() {
            self.out.truncate(self.out.iter().rposition(|byte| *byte == self.root.kind.closer()).unwrap_or(0));
            if self.root.end == Some(lost) && !matches!(self.text[end - 2], b'"' | b'}' | b']') {
                lost = self.members.last().map_or(lost, |member| member.start);
                self.drop_last();
            }
        } else {
            self.keep_certain(open, true);
            lost = self.until;
            self.until = usize::MAX;
        }
        self.lose_brackets(lost, next);
        self.resume(next);
        if has_repeated(&self.out) {
            (self.out, self.kept, self.losses, self.members) = before;
            self.root.items = 0;
            self.finish(end);
            self.lose_rest(end);
        }
    }

    /// Goes on behind a damage if the end of the document tells how deep that is.
    pub(super) fn mend(&mut self, broken: Broken) {
        let Broken { from, at, deeper, suspect } = broken;
        let mut open = vec![self.root.kind];
        open.extend(self.inner.as_ref().map(|inner| inner.level.kind));
        let found = tail::tail(self.text, from, at, self.root.kind);
        let found = found.filter(|tail| !tail::may_be_inside(&tail.open_there, &open, &deeper));
        let mut lost = from;
        if let Some((start, value, end)) = suspect {
            let is_nested = Kind::opened_by(self.text[value]).is_some();
            if is_nested && found.as_ref().is_some_and(|tail| tail.open.len() <= open.len()) {
                self.offer(start, value, end);
            } else {
                lost = start;
            }
        }
        if lost == from {
            lost = self.drop_misplaced(from).unwrap_or(from);
        }
        let Some(tail) = found else {
            self.lose_rest(lost);
            return;
        };
        self.reopen(&tail, from);
        let same = self.inner.as_ref().is_some_and(|inner| tail.open.get(1) == Some(inner.level.kind));
        let next = match tail.below_inner {
            Some(next) if same => next,
            _ => tail.below_root,
        };
        self.lose_brackets(lost, next);
        if same {
            self.damaged();
        } else if self.inner.is_some() {
            self.close_inner(None, from);
        }
        self.resume(next);
    }

    /// Loses what stands where brackets do not fit together. Even if that is only brackets, more may have stood there.
    pub(super) fn lose_brackets(&mut self, start: usize, end: usize) {
        let before = self.losses.total();
        self.lose(start, end);
        if self.losses.total() == before {
            let what = excerpt(self.text, start, start + 1);
            self.losses
                .push(start, end, || format!("what may have stood where the brackets do not fit, before {what}"));
        }
    }

    /// A value where a key should stand shows that the name and the bracket of a list are lost before it, and that the member
    /// that was copied last may have the first value of that list. Unless it is itself a list that is expected it goes.
    fn drop_misplaced(&mut self, from: usize) -> Option<usize> {
        let text = self.text;
        let (expected, level) = (self.expected, self.level());
        let (start, end) = (level.value.0, level.end?);
        let is_item = scan::value(text, from, Rigour::Strict)
            .is_ok_and(|end| matches!(text.get(space(text, end)), Some(b',' | b']')));
        let is_list = expected.place(&text[start..]).is_some_and(|at| expected.keys[at].1 == Some(Kind::List));
        if level.kind != Kind::Object || level.items == 0 || !is_item || is_list || !is_separator(&text[end..from]) {
            return None;
        }
        self.drop_last();
        Some(start)
    }

    /// Of a list that was not closed, the last item may be what follows an opening bracket too much: a list of objects that the
    /// list's own bracket has closed.
    pub(super) fn drop_list(&mut self) {
        let (text, level) = (self.text, self.level());
        let (start, end) = level.value;
        let is_odd = level.kind == Kind::List && level.items > 0 && level.lists == 1 && text.get(start) == Some(&b'[');
        if !is_odd || scan::elements(text, start).all(|(item, _)| text[item] != b'{') {
            return;
        }
        self.drop_last();
        if let Some(inner) = &mut self.inner {
            inner.is_torn = true;
        }
        self.losses.push(start, end, || format!("a list whose bracket is not certain: {}", excerpt(text, start, end)));
    }

    /// If the damage follows a list directly and its end lies inside one, a bracket too much has closed it.
    fn reopen(&mut self, tail: &Tail, from: usize) {
        let Some(member) = self.members.last().copied().filter(|member| member.is_whole) else { return };
        let (Some(end), Some(mark), None) = (self.root.end, self.root.last, &self.inner) else { return };
        let between = &self.text[end..from];
        if tail.open.get(1) != Some(Kind::List)
            || self.text[end - 1] != b']'
            || !between.iter().all(|byte| is_space(*byte) || *byte == b',')
        {
            return;
        }
        let Ok(value) = scan::key(self.text, member.start, Rigour::Strict) else { return };
        if self.text.get(value) != Some(&b'[') {
            return;
        }
        self.out.pop();
        self.kept -= 1;
        self.members.pop();
        let items = scan::count(self.text, value);
        let first = space(self.text, value + 1);
        let shape = (self.text.get(first) == Some(&b'{')).then(|| shape(self.text, first));
        let level = Level { items, is_wide: first > value + 1, ..Level::new(Kind::List, Some(value)) };
        self.inner = Some(Inner {
            level,
            mark,
            start: member.start,
            is_expected: true,
            only_nested: true,
            is_doubtful: true,
            is_torn: true,
            shape,
        });
    }
}
