//! The end of a damaged document read backwards: its last brackets tell how deep everything before them lies.
//!
//! **Invariant:** never looks further back than it is told to; what cannot be told for certain is not.

use super::scan::{Kind, Open, is_blank};

/// What is known of a document's end.
#[derive(Debug)]
pub(super) struct Tail {
    /// The brackets that are closed in it and opened before it, the document's own first.
    pub(super) open: Open,
    /// The same where the damage was noticed, or as far back as could be read.
    pub(super) open_there: Open,
    /// Where reading may go on directly below the document: a comma there or its last bracket.
    pub(super) below_root: usize,
    /// The same in the list or object one below, if the tail begins inside one.
    pub(super) below_inner: Option<usize>,
}

/// Reads backwards as long as everything fits, at most to `low`; `there` is where the damage was noticed. `None` if the document does not end with its own bracket.
pub(super) fn tail(text: &[u8], low: usize, there: usize, root: Kind) -> Option<Tail> {
    let mut at = text.len();
    while at > low && is_blank(text[at - 1]) {
        at -= 1;
    }
    if at <= low || Kind::closed_by(text[at - 1]) != Some(root) {
        return None;
    }
    let mut tail = Tail { open: Open::default(), open_there: Open::default(), below_root: at - 1, below_inner: None };
    let mut is_behind = true;
    while at > low {
        if is_behind && at <= there {
            tail.open_there = tail.open.clone();
            is_behind = false;
        }
        let byte = text[at - 1];
        if let Some(kind) = Kind::closed_by(byte) {
            tail.open.push(kind);
            if tail.open.len() == 2 {
                tail.below_inner = Some(at - 1);
            }
        } else if let Some(kind) = Kind::opened_by(byte) {
            if tail.open.last() != Some(kind) {
                break;
            }
            // The document itself begins before the damage: this is another one.
            if tail.open.len() == 1 {
                return None;
            }
            tail.open.pop();
            if tail.open.len() == 1 {
                tail.below_inner = None;
            }
        } else {
            match byte {
                b',' if tail.open.len() == 1 => tail.below_root = at - 1,
                b',' if tail.open.len() == 2 => tail.below_inner = Some(at - 1),
                b'"' => match string_start(text, at - 1, low) {
                    Some(start) => {
                        at = start;
                        continue;
                    }
                    None => break,
                },
                b'\t' | b'\n' | b'\r' | 0x20..0x7F => {}
                _ => break,
            }
        }
        at -= 1;
    }
    if is_behind {
        tail.open_there = tail.open.clone();
    }
    Some(tail)
}

/// The opening quote of the string whose closing one stands at `close`.
fn string_start(text: &[u8], close: usize, low: usize) -> Option<usize> {
    let mut at = close;
    while at > low {
        at -= 1;
        match text[at] {
            b'"' => {
                let escapes = text[low..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                if escapes % 2 == 0 {
                    return Some(at);
                }
                at -= escapes;
            }
            0 | b'\n' => return None,
            _ => {}
        }
    }
    None
}

/// Whether a tail could as well be the inside of what was open where the damage was noticed: a file that was cut off.
pub(super) fn may_be_inside(tail: &Open, open: &[Kind], deeper: &Open) -> bool {
    let total = open.len() + deeper.len();
    if tail.len() >= total {
        return false;
    }
    let innermost = |back: usize| {
        let at = total - 1 - back;
        if at < open.len() { open.get(at).copied() } else { deeper.get(at - open.len()) }
    };
    (0..tail.len()).all(|back| tail.get(tail.len() - 1 - back) == innermost(back))
}
