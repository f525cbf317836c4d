//! Keys that a document names twice.
//!
//! **Invariant:** what is kept is copied byte for byte; of two different values one is kept and the other told.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::account::{Losses, excerpt};
use super::scan::{self, Kind};
use super::walk;

/// Whether the object that `text` is, and that is sound, names a key twice. Other documents name none.
pub(super) fn has_repeated(text: &[u8]) -> bool {
    let at = scan::space(text, 0);
    if text.get(at) != Some(&b'{') {
        return false;
    }
    let mut seen = HashSet::new();
    scan::members(text, at).any(|member| !seen.insert(plain(&text[member.start..member.key_end])))
}

/// The document with each key once. Every parser reads the last, so the last whole one stays; a value that differs from it is
/// lost. `met` is where each member stands in the file and whether it is whole, if that is not where it stands here.
pub(super) fn once(text: Vec<u8>, kept: &mut usize, met: &[walk::Member], losses: &mut Losses) -> Vec<u8> {
    if !has_repeated(&text) {
        return text;
    }
    let open = scan::space(&text, 0);
    let members: Vec<scan::Member> = scan::members(&text, open).collect();
    let met = |at: usize| met.get(at).copied().unwrap_or(walk::Member { start: members[at].start, is_whole: true });
    let mut chosen: HashMap<Cow<'_, [u8]>, usize> = HashMap::new();
    for (at, member) in members.iter().enumerate() {
        let place = chosen.entry(plain(&text[member.start..member.key_end])).or_insert(at);
        if met(at).is_whole || !met(*place).is_whole {
            *place = at;
        }
    }
    let mut out = text[..=open].to_vec();
    let mut before: Option<usize> = None;
    for (at, member) in members.iter().enumerate() {
        let stays = chosen[&plain(&text[member.start..member.key_end])];
        if stays != at {
            let is_list = Kind::opened_by(text[member.value]) == Some(Kind::List);
            *kept -= 1 + if is_list { scan::count(&text, member.value) } else { 0 };
            if text[member.value..member.end] != text[members[stays].value..members[stays].end] {
                let start = met(at).start;
                losses.push(start, start + (member.end - member.start), || {
                    format!("another value of {}", excerpt(&text, member.start, member.end))
                });
            }
            continue;
        }
        let lead = &text[scan::space_before(&text, member.start, 0)..member.start];
        match before {
            Some(before) if before + 1 == at => out.extend_from_slice(&text[members[before].end..member.start]),
            Some(_) => {
                out.push(b',');
                out.extend_from_slice(lead);
            }
            None => out.extend_from_slice(&text[open + 1..members[0].start]),
        }
        out.extend_from_slice(&text[member.start..member.end]);
        before = Some(at);
    }
    let end = members.last().map_or(open + 1, |member| member.end);
    out.extend_from_slice(&text[end..]);
    out
}

/// A quoted key without its escapes, as far as they can be resolved.
pub(super) fn plain(quoted: &[u8]) -> Cow<'_, [u8]> {
    if quoted.contains(&b'\\')
        && let Ok(text) = serde_json::from_slice::<String>(quoted)
    {
        return Cow::Owned(text.into_bytes());
    }
    Cow::Borrowed(&quoted[1..quoted.len().saturating_sub(1).max(1)])
}
