//! Which part of a text is the document: one, the last of several, a stream of records, or what is left of a torn one.
//!
//! **Invariant:** records of two documents are never put together; a part of a document is never taken for a whole one.

use super::account::{Losses, excerpt};
use super::expected::Expected;
use super::scan::{self, Kind, Rigour, is_blank, is_space, space, space_before};
use super::walk::{Doubtful, Member, Walk};
use super::{is_json, repeated};

/// What was saved, in terms of the decoded text.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) content: Vec<u8>,
    pub(super) kept: usize,
    pub(super) losses: Losses,
}

/// The document of `text`; `Err` if none of the expected kind can be read.
pub(super) fn saved(text: &[u8], expected: &Expected) -> Result<Saved, Losses> {
    let without = (!is_json(text)).then(|| without_trailing_commas(text)).filter(|without| is_json(without));
    if let Some(without) = without {
        let open = space(&without, 0);
        if fits(&without, open, expected) {
            return Ok(complete(whole(&without, (open, without.len()), Losses::default()), expected));
        }
        return Err(Losses::default());
    }
    let start = blank(text, 0);
    let opens = |byte: &u8| Kind::opened_by(*byte).is_some_and(|kind| expected.kind.is_none_or(|other| other == kind));
    let Some(first) = text.get(start) else { return Err(Losses::default()) };
    if Kind::opened_by(*first).is_some() {
        return from(text, start, expected, Losses::default());
    }
    // Something stands before the document, if that has a beginning at all.
    let open = text.iter().position(opens);
    if let Some(open) = open {
        let is_harmless = text[start..open].iter().all(|byte| !b"\":,{}[]\0".contains(byte));
        let is_known = !expected.keys.is_empty()
            && next(text, open).is_some_and(|(at, _)| expected.are_all_in(&scan::keys(text, at)));
        if is_harmless || is_known {
            let mut losses = Losses::default();
            losses.push(start, open, || format!("what stands before the document: {}", excerpt(text, start, open)));
            return from(text, open, expected, losses);
        }
    }
    let kind = expected.kind.ok_or_else(Losses::default)?;
    finished(walked(text, expected, kind, Walk::headless), expected, Losses::default())
}

fn from(text: &[u8], start: usize, expected: &Expected, mut losses: Losses) -> Result<Saved, Losses> {
    let kind = Kind::opened_by(text[start]).unwrap_or(Kind::Object);
    let (mut at, mut count, mut chosen) = (start, 0_usize, None);
    let mut first = None;
    while let Some(found) = next(text, at) {
        let is_better = chosen.is_none() || first.is_some_and(|first| resembles(text, found.0, first, expected));
        if fits(text, found.0, expected) && is_better {
            chosen = Some(found);
        }
        first = first.or(chosen.map(|(open, _)| open));
        (at, count) = (found.1, count + 1);
    }
    let rest = blank(text, at);
    let is_all = rest == text.len();
    let continues = text.get(rest).is_some_and(|byte| Kind::opened_by(*byte).is_some());
    if expected.kind == Some(Kind::List) && kind == Kind::Object && (count > 1 || (count == 1 && continues)) {
        return Ok(stream(text, start, losses));
    }
    if let Some(found) = chosen.filter(|_| is_all || continues || count > 1) {
        // Pages that were never written may have held the beginning.
        let is_certain = !text[..found.0].contains(&0) || found.0 != start;
        if !is_certain && !is_any(text, found.0, expected) {
            return Err(losses);
        }
        others(text, start, found, rest, &mut losses);
        return Ok(whole(text, found, losses));
    }
    if let Some(found) = later(text, start, expected) {
        losses.push(start, found.0, || format!("a document cut off: {}", excerpt(text, start, found.0)));
        return Ok(whole(text, found, losses));
    }
    if expected.kind.is_some_and(|other| other != kind) {
        return Err(losses);
    }
    let is_balanced = scan::is_balanced(text, start);
    let walk = walked(text, expected, kind, |walk| walk.document(start, is_balanced));
    // Where the beginning may be lost, or the end lies elsewhere, a nested object is not taken for the document.
    let is_certain = count == 0 && !text[..start].contains(&0);
    if !is_certain && kind == Kind::Object && !expected.keys.is_empty() && !walk.seen.contains(&true) {
        return Err(losses);
    }
    finished(walk, expected, losses)
}

/// Walks once, and again if what was met first shows that records in doubt cannot be kept.
fn walked<'a>(text: &'a [u8], expected: &'a Expected, kind: Kind, go: impl Fn(&mut Walk<'a>)) -> Walk<'a> {
    let mut walk = Walk::new(text, expected, kind, Doubtful::Kept);
    go(&mut walk);
    let doubt = expected.doubt(&walk.seen);
    if walk.doubts > 0 && doubt != Doubtful::Kept {
        walk = Walk::new(text, expected, kind, doubt);
        go(&mut walk);
    }
    walk
}

fn finished(walk: Walk<'_>, expected: &Expected, mut losses: Losses) -> Result<Saved, Losses> {
    let Walk { out, mut kept, losses: more, members, .. } = walk;
    losses.append(more);
    if kept == 0 {
        return Err(losses);
    }
    let content = repeated::once(out, &mut kept, &members, &mut losses);
    Ok(complete(Saved { content, kept, losses }, expected))
}

/// Where commas or brackets were put right, a member that is expected and not there may be lost with them.
fn complete(mut saved: Saved, expected: &Expected) -> Saved {
    let found = scan::keys(&saved.content, space(&saved.content, 0));
    if expected.kind == Some(Kind::Object) && saved.losses.is_empty() && !expected.are_all_in(&found) {
        saved.losses.push(0, 0, || "what may have been there: a member that is expected is not".to_owned());
    }
    saved
}

/// A document that is sound but for keys that it names twice, with the white space around it.
fn whole(text: &[u8], (open, end): (usize, usize), mut losses: Losses) -> Saved {
    let end = scan::value(text, open, Rigour::Strict).unwrap_or(end);
    let mut kept = records(text, open);
    let met: Vec<Member> = if text[open] == b'{' && repeated::has_repeated(&text[open..end]) {
        scan::members(text, open).map(|member| Member { start: member.start, is_whole: true }).collect()
    } else {
        Vec::new()
    };
    let before = space_before(text, open, 0);
    let around = if before == 0 { 0 } else { open }..space(text, end);
    let content = repeated::once(text[around].to_vec(), &mut kept, &met, &mut losses);
    Saved { content, kept, losses }
}

/// Elements of a list; members of an object and elements of the lists that it holds.
pub(super) fn records(text: &[u8], open: usize) -> usize {
    match text.get(open) {
        Some(b'[') => scan::count(text, open),
        Some(b'{') => scan::members(text, open)
            .map(|member| if text[member.value] == b'[' { 1 + scan::count(text, member.value) } else { 1 })
            .sum(),
        _ => 0,
    }
}

/// Records one behind the other become a list.
fn stream(text: &[u8], start: usize, mut losses: Losses) -> Saved {
    let (mut content, mut kept, mut at) = (vec![b'['], 0, start);
    loop {
        while let Some((open, end)) = next(text, at) {
            if text[open] == b'{' {
                content.extend_from_slice(if kept > 0 { b",\n" } else { b"\n" });
                content.extend_from_slice(&text[open..end]);
                kept += 1;
            } else {
                losses.push(open, end, || format!("what begins with {}", excerpt(text, open, end)));
            }
            at = end;
        }
        let torn = blank(text, at);
        if torn == text.len() {
            break;
        }
        // The next line is the next record: no line ends inside a string.
        at = text[torn + 1..].windows(2).position(|pair| pair == b"\n{").map_or(text.len(), |found| torn + 1 + found);
        losses.push(torn, at, || format!("the record that begins with {}", excerpt(text, torn, at)));
    }
    content.extend_from_slice(b"\n]\n");
    Saved { content, kept, losses }
}

/// Tells of every document but the chosen one, and of what follows the last.
fn others(text: &[u8], start: usize, chosen: (usize, usize), rest: usize, losses: &mut Losses) {
    let mut at = start;
    while let Some((open, end)) = next(text, at) {
        if (open, end) != chosen && text[open..end] != text[chosen.0..chosen.1] {
            losses.push(open, end, || format!("another document in the file: {}", excerpt(text, open, end)));
        }
        at = end;
    }
    if rest < text.len() {
        losses.push(rest, text.len(), || format!("what follows the document: {}", excerpt(text, rest, text.len())));
    }
}

/// A whole document on a line of its own at the end, behind one that was cut off.
fn later(text: &[u8], start: usize, expected: &Expected) -> Option<(usize, usize)> {
    let line = text.windows(2).rposition(|pair| pair[0] == b'\n' && Kind::opened_by(pair[1]).is_some())? + 1;
    if line <= start || text[line] != text[start] || text[line] != b'{' {
        return None;
    }
    let found = next(text, line)?;
    let keys = scan::keys(text, found.0);
    let first = scan::raw_string(text, space(text, start + 1)).map(|end| &text[space(text, start + 1) + 1..end - 1]);
    let is_known = if expected.keys.is_empty() {
        keys.first().copied() == first && text[space(text, start + 1)] == b'"'
    } else {
        expected.are_all_in(&keys)
    };
    (is_known && fits(text, found.0, expected) && blank(text, found.1) == text.len()).then_some(found)
}

/// The next document, if nothing but blanks stands before it.
fn next(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let open = blank(text, at);
    Kind::opened_by(*text.get(open)?)?;
    scan::value(text, open, Rigour::Strict).ok().map(|end| (open, end))
}

/// Behind white space, NUL bytes, byte order marks and record separators.
fn blank(text: &[u8], mut at: usize) -> usize {
    loop {
        if text.get(at).is_some_and(|byte| is_blank(*byte) || *byte == 0x1E) {
            at += 1;
        } else if text.get(at..).is_some_and(|rest| rest.starts_with(b"\xEF\xBB\xBF")) {
            at += 3;
        } else {
            return at;
        }
    }
}

fn fits(text: &[u8], open: usize, expected: &Expected) -> bool {
    let kind = text.get(open).copied().and_then(Kind::opened_by);
    kind.is_some() && expected.kind.is_none_or(|other| kind == Some(other))
}

fn is_any(text: &[u8], open: usize, expected: &Expected) -> bool {
    text[open] != b'{' || expected.is_any_in(&scan::keys(text, open))
}

/// Whether a later document says the same kind of thing as the first that fits.
fn resembles(text: &[u8], open: usize, first: usize, expected: &Expected) -> bool {
    if text[open] != text[first] {
        return false;
    }
    if text[open] == b'[' {
        return true;
    }
    let keys = scan::keys(text, open);
    if !expected.keys.is_empty() {
        return expected.are_all_in(&keys);
    }
    let mut known = scan::keys(text, first);
    let mut keys = keys;
    known.sort_unstable();
    keys.sort_unstable();
    known == keys
}

/// Without commas that stand before a closing bracket.
fn without_trailing_commas(text: &[u8]) -> Vec<u8> {
    let end = text.iter().rposition(|byte| !is_blank(*byte)).map_or(0, |last| last + 1);
    let mut out = Vec::with_capacity(end);
    let mut at = 0;
    while at < end {
        if text[at] == b'"' {
            let next = scan::raw_string(text, at).unwrap_or(end).min(end);
            out.extend_from_slice(&text[at..next]);
            at = next;
            continue;
        }
        let follows = || text.get(space(text, at + 1)).is_some_and(|byte| Kind::closed_by(*byte).is_some());
        let is_behind_value =
            out.iter().rposition(|byte| !is_space(*byte)).is_some_and(|last| !b"[{,".contains(&out[last]));
        if text[at] != b',' || !follows() || !is_behind_value {
            out.push(text[at]);
        }
        at += 1;
    }
    out.extend(text[end..].iter().filter(|byte| is_space(**byte)));
    out
}
