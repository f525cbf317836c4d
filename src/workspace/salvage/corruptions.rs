//! Many generated corruptions of generated workspaces' files, each from its seed.
//!
//! `CHIRON_CORRUPTIONS` sets how many (20,000), `CHIRON_SEED` the first seed (20261122). Of each it is held that nothing panics,
//! that what comes out is sound and salvaging it again changes nothing, and, of a single damage:
//!
//! - cut off: exactly the records that were whole before the cut;
//! - a NUL run, junk, a byte flipped or put in: every record before it that it neither touches nor adjoins is kept, unless the
//!   file's beginning then reads as a whole document with more behind it: then a bracket is lost or too much, and what
//!   may lie deeper than it seems is told as lost (so it is with a range taken out anywhere);
//! - any of them inside a flat record that it does not leave, and that takes, adds, escapes or bares no quote: every record
//!   behind it too (elsewhere brackets may be lost, and where nothing proves how deep the text lies it is told as lost);
//! - at most one record that is kept was never there, and that one stands in the file with the damage in it or beside it (a
//!   changed digit is not to be seen); none where NUL bytes stand or the file is cut off;
//! - what is told as lossless lacks no record, unless what is left is sound or differs from that by commas alone;
//! - commas too much or too few between records, a mark, NUL bytes behind the end, another encoding: every record.

use super::properties::{holds, records};
use super::*;

/// A small generator of numbers; the same seed gives the same ones.
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is below a usize")
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Cut,
    Nul,
    Junk,
    TakenOut,
    Flipped,
    PutIn,
    Commas,
    NulTail,
    Mark,
    Utf16,
    Several,
}

const DAMAGES: [Damage; 11] = [
    Damage::Cut,
    Damage::Nul,
    Damage::Junk,
    Damage::TakenOut,
    Damage::Flipped,
    Damage::PutIn,
    Damage::Commas,
    Damage::NulTail,
    Damage::Mark,
    Damage::Utf16,
    Damage::Several,
];

fn record(dice: &mut Dice, number: usize, is_closed: bool) -> String {
    let size = ["0.10000000000000001", "1e999", "123456789012345678901234567890", "1.50", "-0"][dice.below(5)];
    let note = ["", "a \\\"quoted\\\" one", "}], {[", "\u{e9}\u{20ac}", "\\\\", ", \\\"size\\\": 1"][dice.below(6)];
    let exit = if is_closed { ", \"exit_price\": 2.50" } else { "" };
    let nested = match dice.below(4) {
        0 => ", \"fills\": [{\"id\": 1, \"size\": 2}, {\"id\": 2, \"size\": 3}]",
        1 => ", \"stop\": {\"price\": 1.0, \"legs\": [1, [2, 3]]}",
        _ => "",
    };
    format!("{{\"id\": \"p-{number}\", \"size\": {size}, \"note\": \"{note}\"{exit}{nested}, \"leverage\": 3}}")
}

/// A file as bots write them, and the structure that is expected of it.
fn file(dice: &mut Dice) -> (String, &'static str) {
    let (gap, lead) = [("", " "), ("\n  ", "\n    "), ("", "")][dice.below(3)];
    let list = |dice: &mut Dice, is_closed: bool| {
        let count = dice.below(6);
        let all: Vec<String> = (0..count).map(|number| format!("{lead}{}", record(dice, number, is_closed))).collect();
        format!("[{}{gap}]", all.join(","))
    };
    let (open, closed) = (list(dice, false), list(dice, true));
    match dice.below(3) {
        0 => (open, "[]"),
        1 => (
            format!(
                "{{{gap}\"open_positions\": {open},{gap}\"updated\": 1763861690.412,{gap}\"closed_positions\": {closed}}}"
            ),
            r#"{"open_positions": [], "closed_positions": []}"#,
        ),
        _ => (format!("{{\"trades\": {open}, \"status\": \"running\"}}\n"), r#"{"trades": []}"#),
    }
}

/// The damaged file, and which bytes of the whole one were touched.
fn damage(dice: &mut Dice, text: &[u8], kind: Damage) -> (Vec<u8>, std::ops::Range<usize>) {
    let mut bytes = text.to_vec();
    let start = dice.below(text.len());
    let longest = [1, 8, 60][dice.below(3)];
    let len = 1 + dice.below(longest);
    let end = (start + len).min(text.len());
    match kind {
        Damage::Cut => {
            bytes.truncate(start);
            return (bytes, start..text.len());
        }
        Damage::Nul => bytes[start..end].fill(0),
        Damage::Junk => bytes[start..end].iter_mut().for_each(|byte| *byte = b"#\x01\xFFzq;"[dice.below(6)]),
        Damage::TakenOut => {
            bytes.drain(start..end);
        }
        Damage::Flipped => {
            bytes[start] ^= 1 << dice.below(8);
            return (bytes, start..start + 1);
        }
        Damage::PutIn => {
            bytes.insert(start, b"{}[]\",:#\\1 \0"[dice.below(12)]);
            return (bytes, start..start);
        }
        Damage::Commas => {
            let commas: Vec<usize> =
                text.windows(2).enumerate().filter(|(_, pair)| pair == b"},").map(|(at, _)| at + 1).collect();
            // Those alone that stand between two records of a list of the document.
            let all = records(text);
            let is_between = |at: &usize| {
                all.iter().any(|one| {
                    let from = one.as_ptr() as usize - text.as_ptr() as usize;
                    *at == from + one.len() && text[from] == b'{'
                })
            };
            let commas: Vec<usize> = commas.into_iter().filter(is_between).collect();
            if let Some(at) = commas.get(dice.below(commas.len())) {
                if dice.below(2) == 0 {
                    bytes.remove(*at);
                } else {
                    bytes.insert(*at, b',');
                }
            }
            return (bytes, 0..0);
        }
        Damage::NulTail => bytes.extend(vec![0; len]),
        Damage::Mark => {
            bytes.splice(0..0, [0xEF, 0xBB, 0xBF]);
        }
        Damage::Utf16 => {
            let text = std::str::from_utf8(text).expect("it is UTF-8");
            bytes = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        }
        Damage::Several => {
            for _ in 0..=dice.below(4) {
                let kind = DAMAGES[dice.below(7)];
                if !bytes.is_empty() && kind != Damage::Commas {
                    bytes = damage(dice, &bytes.clone(), kind).0;
                }
            }
        }
    }
    (bytes, start..end)
}

/// Whether a list that is expected has no name in a file.
fn lacks_a_list(empty: &str, bytes: &[u8]) -> bool {
    ["\"open_positions\"", "\"closed_positions\"", "\"trades\""]
        .iter()
        .any(|name| empty.contains(name) && !bytes.windows(name.len()).any(|window| window == name.as_bytes()))
}

/// One corruption; what does not hold, and how many records were kept and lost.
fn play(seed: u64) -> Result<(usize, usize), String> {
    let mut dice = Dice(seed);
    let (text, empty) = file(&mut dice);
    let kind = DAMAGES[dice.below(DAMAGES.len())];
    let (bytes, touched) = damage(&mut dice, text.as_bytes(), kind);
    let told = |what: String| {
        format!(
            "{kind:?} at {touched:?}: {what}\nwas {text:?}\nis {:?}\nsaved {:?}",
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(&salvage(&bytes, empty.as_bytes()).content)
        )
    };
    let found = holds(&bytes, empty.as_bytes()).map_err(told)?;
    let (all, saved) = (records(text.as_bytes()), records(&found.content));
    if kind == Damage::Several {
        return Ok((saved.len(), all.len()));
    }
    let place = |record: &[u8]| record.as_ptr() as usize - text.as_ptr() as usize;
    // The damage and the blanks and commas around it.
    let is_gap = |at: usize| b" \n,".contains(&text.as_bytes()[at]);
    let (mut first, mut last) = (touched.start.min(text.len()), touched.end);
    while first > 0 && is_gap(first - 1) {
        first -= 1;
    }
    while last < text.len() && is_gap(last) {
        last += 1;
    }
    let is_near = |record: &[u8]| place(record) <= last + 2 && first <= place(record) + record.len() + 2;
    // A flat record that holds the damage whole: nothing else than it can be lost.
    let is_mark = |byte: &u8| matches!(byte, b'"' | b'\\');
    let is_quote = text.as_bytes()[first.min(text.len())..touched.end.min(text.len())].contains(&b'"')
        || touched.start.checked_sub(1).is_some_and(|at| text.as_bytes()[at] == b'\\')
        || bytes.iter().filter(|byte| is_mark(byte)).count() != text.bytes().filter(|byte| is_mark(byte)).count();
    let is_inside = !is_quote
        && all.iter().any(|record| {
            let is_flat =
                record.starts_with(b"{") && record[1..record.len() - 1].iter().all(|byte| !b"{}[]".contains(byte));
            is_flat && place(record) + 1 < touched.start && touched.end + 2 < place(record) + record.len()
        });
    let is_whole = matches!(kind, Damage::Commas | Damage::NulTail | Damage::Mark | Damage::Utf16);
    if is_whole && (saved != all || !found.is_lossless) {
        return Err(told("a record is lost".to_owned()));
    }
    // What came out and was not there touches the damage; nothing is there more often.
    let plain = |text: &[u8]| text.iter().copied().filter(|byte| !b", \n".contains(byte)).collect::<Vec<_>>();
    let is_mended_by_commas = plain(&bytes) == plain(&found.content);
    let mut left = all.clone();
    let mut changed = 0;
    for record in &saved {
        match left.iter().position(|one| one == record) {
            Some(at) => {
                left.remove(at);
            }
            None => {
                changed += 1;
                // It stands in the file, and the damage in it or beside it.
                let end = if kind == Damage::TakenOut { touched.start } else { touched.end.max(touched.start + 1) };
                let mut places = bytes.windows(record.len()).enumerate().filter(|(_, window)| window == record);
                if bytes.is_ascii()
                    && !is_mended_by_commas
                    && !places.any(|(at, _)| at <= end + 2 && touched.start <= at + record.len() + 2)
                {
                    return Err(told(format!("{} was never there", String::from_utf8_lossy(record))));
                }
            }
        }
    }
    if changed > 1 || (changed > 0 && (kind == Damage::Cut || kind == Damage::Nul)) {
        return Err(told(format!("{changed} records were never there")));
    }
    // A piece taken out with nothing but commas around it leaves no trace.
    let is_traceless =
        is_sound(&bytes) || (kind == Damage::TakenOut && is_mended_by_commas && !lacks_a_list(empty, &bytes));
    if found.is_lossless && !is_traceless && left.len() > changed {
        return Err(told("told as lossless".to_owned()));
    }
    // The names of the lists tell where what follows a gap belongs; a bracket that closes a list of records tells its end.
    let is_told = match kind {
        Damage::Cut => false,
        _ => ["\"open_positions\": [", "\"closed_positions\": [", "\"trades\": ["]
            .iter()
            .all(|name| !text.contains(name) || bytes.windows(name.len()).any(|window| window == name.as_bytes())),
    };
    // What begins like a whole document may have lost an opening bracket or have a closing one too much.
    let is_early = matches!(scan::value(&bytes, 0, Rigour::Lenient), Ok(end) if end < bytes.trim_ascii_end().len());
    let edge = is_early || touched.start <= 2 || touched.end + 3 >= text.trim_end().len();
    if is_told && !edge && !is_whole {
        for record in &all {
            if (is_inside || (kind != Damage::TakenOut && place(record) < first))
                && !is_near(record)
                && !saved.contains(record)
            {
                return Err(told(format!("lost {}", String::from_utf8_lossy(record))));
            }
        }
    }
    if kind == Damage::Cut {
        let before = all.iter().filter(|record| {
            let end = place(record) + record.len();
            let is_number = text.as_bytes()[end - 1].is_ascii_digit();
            end + usize::from(is_number) <= touched.start
        });
        if saved != before.copied().collect::<Vec<_>>() {
            return Err(told("not what was whole before the cut".to_owned()));
        }
    }
    Ok((saved.len(), all.len()))
}

#[expect(clippy::disallowed_methods, reason = "how long a test runs is asked of its environment")]
fn setting(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name}: found `{text}`, expected a number"))
}

/// WSP-2: 20,000 corruptions, each from its seed, lose no record that can be told and invent none.
#[test]
fn corruptions() {
    let (count, first) = (setting("CHIRON_CORRUPTIONS", 20_000), setting("CHIRON_SEED", 20_261_122));
    let (mut kept, mut all, mut faults) = (0, 0, Vec::new());
    for seed in first..first + count {
        match std::panic::catch_unwind(|| play(seed)) {
            Ok(Ok((saved, were))) => (kept, all) = (kept + saved, all + were),
            Ok(Err(fault)) => faults.push((seed, fault)),
            Err(_) => faults.push((seed, "it panicked".to_owned())),
        }
        if faults.len() >= 20 {
            break;
        }
    }
    let last = first + count - 1;
    eprintln!("corruptions {count} (seeds {first} to {last}): {kept} of {all} records kept; {} faults", faults.len());
    for (seed, fault) in &faults {
        eprintln!("corruption CHIRON_SEED={seed} CHIRON_CORRUPTIONS=1: {fault}\n");
    }
    assert!(faults.is_empty(), "replay the first with CHIRON_SEED={} CHIRON_CORRUPTIONS=1", faults[0].0);
}
