//! From the bytes of a file to UTF-8, and back to where something stood.
//!
//! **Invariant:** what cannot be read becomes a byte that no UTF-8 text holds, so that no record with it is ever kept.

use std::borrow::Cow;

use super::is_sound;

/// Stands for what could not be decoded; never part of UTF-8.
const UNREADABLE: u8 = 0xFF;
/// The characters of Windows-1252 from 0x80 to 0x9F; 0 where there is none.
const WINDOWS: [u16; 32] = [
    0x20AC, 0, 0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017D, 0, 0,
    0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0, 0x017E, 0x0178,
];

/// How a file's bytes stand for characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, as JSON has to be, behind a mark of so many bytes.
    Utf8 { mark: usize },
    /// UTF-16 behind a mark of so many bytes.
    Utf16 { mark: usize, is_big: bool },
    /// One byte for each character.
    Windows1252,
}

/// A file's text.
#[derive(Debug)]
pub(super) struct Decoded<'a> {
    pub(super) text: Cow<'a, [u8]>,
    pub(super) encoding: Encoding,
}

/// Decodes a file. Windows-1252 (of which Latin-1 is a part) is assumed only if nothing in the file is UTF-8 beyond ASCII and
/// the whole is sound when read like this: otherwise the bytes are damage, not another encoding.
pub(super) fn decode(bytes: &[u8]) -> Decoded<'_> {
    let encoding = encoding(bytes);
    match encoding {
        Encoding::Utf8 { mark } => {
            let text = &bytes[mark..];
            if let Some(latin) = windows(text) {
                return Decoded { text: latin.into(), encoding: Encoding::Windows1252 };
            }
            Decoded { text: text.into(), encoding }
        }
        Encoding::Utf16 { mark, is_big } => {
            let mut text = Vec::with_capacity(bytes.len() / 2 + 16);
            utf16(&bytes[mark..], is_big, |c| {
                push(&mut text, c);
                true
            });
            Decoded { text: text.into(), encoding }
        }
        Encoding::Windows1252 => Decoded { text: bytes.into(), encoding },
    }
}

/// Where in the file the text's byte `at` comes from.
pub(super) fn origin(bytes: &[u8], encoding: Encoding, at: usize) -> usize {
    let mut passed = 0;
    match encoding {
        Encoding::Utf8 { mark } => at + mark,
        Encoding::Utf16 { mark, is_big } => {
            let mut origin = mark;
            utf16(&bytes[mark..], is_big, |c| {
                let len = c.map_or(1, char::len_utf8);
                if passed + len > at {
                    return false;
                }
                passed += len;
                origin += c.map_or(2, |c| 2 * c.len_utf16());
                true
            });
            origin.min(bytes.len())
        }
        Encoding::Windows1252 => bytes
            .iter()
            .position(|byte| {
                let len = single(*byte).map_or(1, char::len_utf8);
                let is_there = passed + len > at;
                passed += len;
                is_there
            })
            .unwrap_or(bytes.len()),
    }
}

fn encoding(bytes: &[u8]) -> Encoding {
    match bytes {
        [0xEF, 0xBB, 0xBF, ..] => Encoding::Utf8 { mark: 3 },
        [0xFF, 0xFE, ..] => Encoding::Utf16 { mark: 2, is_big: false },
        [0xFE, 0xFF, ..] => Encoding::Utf16 { mark: 2, is_big: true },
        // JSON begins with two ASCII characters (RFC 4627, section 3).
        [b'{' | b'[', 0, second, 0, ..] if second.is_ascii() && *second != 0 => {
            Encoding::Utf16 { mark: 0, is_big: false }
        }
        [0, b'{' | b'[', 0, second, ..] if second.is_ascii() && *second != 0 => {
            Encoding::Utf16 { mark: 0, is_big: true }
        }
        _ => Encoding::Utf8 { mark: 0 },
    }
}

fn utf16(bytes: &[u8], is_big: bool, mut take: impl FnMut(Option<char>) -> bool) {
    let unit = |pair: &[u8]| if is_big { [pair[0], pair[1]] } else { [pair[1], pair[0]] };
    let units = bytes.chunks(2).map(|pair| if pair.len() == 2 { u16::from_be_bytes(unit(pair)) } else { 0xDC00 });
    for decoded in char::decode_utf16(units) {
        if !take(decoded.ok()) {
            return;
        }
    }
}

fn push(text: &mut Vec<u8>, c: Option<char>) {
    match c {
        Some(c) => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        None => text.push(UNREADABLE),
    }
}

fn single(byte: u8) -> Option<char> {
    let code = match byte {
        0x80..=0x9F => match WINDOWS[usize::from(byte - 0x80)] {
            0 => return None,
            code => u32::from(code),
        },
        // What erased memory holds, far more often than the letter.
        0xFF => return None,
        _ => u32::from(byte),
    };
    char::from_u32(code)
}

fn windows(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let mut is_utf8 = true;
    // Chunks that are valid and not plain ASCII are characters of UTF-8: then the file is UTF-8, and damaged.
    while let Err(fault) = std::str::from_utf8(rest) {
        is_utf8 = false;
        if !rest[..fault.valid_up_to()].is_ascii() {
            return None;
        }
        rest = &rest[fault.valid_up_to() + 1..];
    }
    if is_utf8 || !rest.is_ascii() {
        return None;
    }
    let mut text = Vec::with_capacity(bytes.len() + bytes.len() / 8);
    for byte in bytes {
        push(&mut text, Some(single(*byte)?));
    }
    is_sound(text.trim_ascii_end()).then_some(text)
}
