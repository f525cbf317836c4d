//! What of a corrupt JSON file can still be read: every complete record, byte for byte, and an account of the rest.
//!
//! **Invariant:** pure; nothing is invented: what comes out was there, whole, or is the empty structure that was given.

mod account;
mod decode;
mod documents;
mod expected;
mod repeated;
mod scan;
mod tail;
mod walk;

#[cfg(test)]
mod corruptions;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use account::Losses;
use decode::Encoding;
use expected::Expected;
use scan::Rigour;

/// What was saved of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salvaged {
    /// JSON text in UTF-8.
    pub content: Arc<[u8]>,
    /// Complete records (elements of lists, members of the top-level object) that were kept.
    pub kept: usize,
    /// What was lost, most important first.
    pub lost: Vec<Loss>,
    /// Nothing shows that a record was lost: only damage around the records was put right.
    pub is_lossless: bool,
}

/// Something that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where in the original, bytes from its start.
    pub offset: usize,
    /// How many bytes.
    pub len: usize,
    /// What it was, for people: `the record that begins with {"id": "p-2"`.
    pub what: String,
}

/// Whether a file's content is JSON as a bot reads it, without anything to put right: UTF-8 without a mark, one document, and
/// no key of that document named twice.
///
/// What `json.load` of Python or `JSON.parse` of JavaScript reads is sound and never rewritten, even if other parsers (that of
/// this program among them) refuse it: any depth of nesting, numbers of any length and size (`1e999`), halves of surrogate
/// pairs (`"\ud800"`), and the words `NaN`, `Infinity` and `-Infinity`, which Python alone writes and reads. Keys of the
/// document named twice are the exception: both read the last, and what else was there would be gone with the next write.
pub fn is_sound(bytes: &[u8]) -> bool {
    is_value(bytes, Rigour::Read) && !repeated::has_repeated(bytes)
}

/// Whether it is one value by the grammar of RFC 8259.
fn is_json(bytes: &[u8]) -> bool {
    is_value(bytes, Rigour::Strict)
}

fn is_value(bytes: &[u8], rigour: Rigour) -> bool {
    let end = scan::value(bytes, scan::space(bytes, 0), rigour);
    end.is_ok_and(|end| scan::space(bytes, end) == bytes.len())
}

/// A member of a JSON object, by where it stands in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its key without escapes.
    pub(super) key: String,
    /// The opening quote of its key.
    pub(super) start: usize,
    /// Behind the closing quote of its key.
    pub(super) key_end: usize,
    /// Where its value begins.
    pub(super) value: usize,
    /// Behind its value.
    pub(super) end: usize,
}

/// The members of the JSON object that `text` is, in their order; `None` if it is none.
pub(super) fn members(text: &[u8]) -> Option<Vec<Member>> {
    let open = scan::space(text, 0);
    if text.get(open) != Some(&b'{') || !is_json(text) {
        return None;
    }
    let member = |found: scan::Member| Member {
        key: String::from_utf8_lossy(&repeated::plain(&text[found.start..found.key_end])).into_owned(),
        start: found.start,
        key_end: found.key_end,
        value: found.value,
        end: found.end,
    };
    Some(scan::members(text, open).map(member).collect())
}

/// Saves what can be read of `bytes`; `empty` is the structure to give if nothing can, and tells whether a list or an object
/// is expected and with which keys. An `empty` that is neither (`null`) expects nothing: whatever the file holds is kept.
///
/// - **A record** is an element of the top-level list, a member of the top-level object, or an element of a list that is such
///   a member. It is kept byte for byte if it is whole by the grammar of JSON, and lost if it is not, however much of it could
///   be read. An object that is a member is taken apart the same way if it is torn and `empty` has an object there, or all that
///   it holds are lists and objects.
/// - **Damage that loses nothing**: a byte order mark, UTF-16, Windows-1252, NUL bytes or white space behind the document,
///   commas too much, commas that lack between records (a piece taken out between two commas leaves no other trace), a
///   member that is there twice with the same value, and brackets too much behind a document that certainly ends before
///   them. Whatever else is put right is told, and the file is never called lossless then, nor if it holds nothing.
/// - **Brackets that do not fit**: an opening bracket may be lost anywhere before, so that members of a record surface in the
///   document. Of a document that is closed too early only what stands before the last member that `empty` names is kept, and
///   that member if it cannot be meant; of a list nothing. The end is certain if the lines show it (what the document holds
///   is indented, its last bracket stands first on a line) or, of one bracket too much, if the list holds objects alone or the
///   document has every member of `empty`, a list or single value of these last. Where `empty` names none, the members before one
///   bracket too much are kept, and told as uncertain.
/// - **Gaps**: behind damage of which it cannot be told where it ends, reading goes on where the last brackets of the file,
///   read backwards, prove how deep the text lies. If those are lost too, the rest is. Records behind a gap in which the name
///   of another list may have stood are kept only if every list of `empty` is named elsewhere, or, if `empty` names none,
///   if they have the same keys as those before the gap.
/// - **Several documents**: the last whole one of the same structure is the document, the others are lost; their records are
///   never put together. Records one behind the other become a list if `empty` is a list.
/// - **Keys named twice** in the document: the last whole value stays, as every parser reads it; a different one is lost. Inside
///   a record nothing is changed.
///
/// Content that is sound comes back as it is, and what comes out is sound. Time and memory are linear in the size of the file.
pub fn salvage(bytes: &[u8], empty: &[u8]) -> Salvaged {
    let expected = Expected::of(empty);
    let decoded = decode::decode(bytes);
    let text = decoded.text.as_ref();
    let open = scan::space(bytes, 0);
    let found = bytes.get(open).copied().and_then(scan::Kind::opened_by);
    if (expected.kind.is_none() || expected.kind == found) && is_sound(bytes) {
        let kept = documents::records(bytes, open);
        return Salvaged { content: bytes.into(), kept, lost: Vec::new(), is_lossless: true };
    }
    match documents::saved(text, &expected) {
        // Whatever a file holds, what is not sound is never written.
        Ok(saved) if !is_json(&saved.content) || repeated::has_repeated(&saved.content) => {
            nothing(bytes, text, empty, Losses::default(), decoded.encoding)
        }
        Ok(saved) => Salvaged {
            content: saved.content.into(),
            kept: saved.kept,
            is_lossless: saved.losses.is_empty(),
            lost: saved.losses.told(bytes, decoded.encoding),
        },
        Err(losses) => nothing(bytes, text, empty, losses, decoded.encoding),
    }
}

fn nothing(bytes: &[u8], text: &[u8], empty: &[u8], mut losses: Losses, encoding: Encoding) -> Salvaged {
    let content = if is_json(empty) { empty } else { b"null" };
    let holds_something = text.iter().any(|byte| !scan::is_blank(*byte));
    if !holds_something {
        losses.push(0, text.len(), || "whatever the file held: there is nothing in it".to_owned());
    } else if losses.is_empty() {
        losses.push(0, text.len(), || {
            format!("the whole file, which begins with {}", account::excerpt(text, 0, text.len()))
        });
    }
    Salvaged { content: content.into(), kept: 0, is_lossless: false, lost: losses.told(bytes, encoding) }
}
