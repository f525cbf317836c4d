//! `chiron audit verify|export`: the audit log, and whether anything was taken out of it or changed (SEC-4).
//!
//! **Invariant:** each line's digest is computed here from what the line says; chiron is not asked whether it is right.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, Remote};
use super::output::{Console, Output, clean, count, waiting};
use super::{CRITICAL, OK};
use crate::base::files;
use crate::journal::AuditEntry;

/// Lines asked for at once.
const PAGE: usize = 1_000;
/// The longest line of a file, in bytes.
const LINE_MAX: u64 = 16 * 1024 * 1024;

/// The audit log.
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    pub(super) remote: Remote,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Compute every digest anew: no line may be missing, changed or out of order.
    ///
    /// A log whose end was cut off still holds together; --expect with a point noted elsewhere finds that out.
    ///
    /// Exit codes: 0 whole, 2 broken, 3 it could not be read.
    Verify {
        /// A point that must be in the log, as an earlier `verify` printed it; repeatable. The point just before the
        /// first line of a file lets that file begin in the middle.
        #[arg(long, value_name = "NUMBER:DIGEST", value_parser = point)]
        expect: Vec<Point>,
        /// A file that `audit export` wrote, instead of the log of a running chiron.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Write the log, one JSON object a line.
    ///
    /// Exit codes: 0, or 3 unreachable or refused.
    Export {
        /// Only lines with a greater number.
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
    },
}

/// A line by its number and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    number: u64,
    digest: String,
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.digest)
    }
}

fn point(text: &str) -> Result<Point, String> {
    let split = text.split_once(':').and_then(|(number, digest)| Some((number.parse().ok()?, digest)));
    match split {
        Some((number, digest)) if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(Point { number, digest: digest.to_ascii_lowercase() })
        }
        _ => Err("expected NUMBER:DIGEST with a digest of 64 hex digits".to_owned()),
    }
}

/// The chain so far. Pure: lines go in, the first breach comes out.
#[derive(Debug, Default)]
struct Chain {
    expected: Vec<Point>,
    first: Option<Point>,
    last: Option<Point>,
    count: u64,
}

impl Chain {
    fn new(expected: &[Point]) -> Self {
        Self { expected: expected.to_vec(), ..Self::default() }
    }

    /// Takes the next line, or says how it breaks the chain.
    fn push(&mut self, entry: &AuditEntry) -> Result<(), String> {
        let number = entry.number;
        match &self.last {
            Some(last) if number != last.number + 1 => {
                return Err(format!("after number {} comes {number}, expected {}", last.number, last.number + 1));
            }
            Some(last) if entry.previous != last.digest => {
                return Err(format!(
                    "number {number} does not follow from the line before it: {} was changed",
                    last.number
                ));
            }
            None if number == 1 && entry.previous != AuditEntry::START => {
                return Err("number 1 names a line before it, expected none".to_owned());
            }
            None if number != 1 => self.anchored(entry)?,
            _ => {}
        }
        let digest = entry.chained();
        if digest != entry.digest {
            return Err(format!("number {number} was changed: its digest is {digest}, the line says {}", entry.digest));
        }
        if let Some(point) = self.expected.iter().find(|point| point.number == number && point.digest != digest) {
            return Err(format!("number {number} has the digest {digest}, expected {}", point.digest));
        }
        let point = Point { number, digest };
        self.first.get_or_insert_with(|| point.clone());
        self.last = Some(point);
        self.count += 1;
        Ok(())
    }

    /// A log that begins in the middle is believed only behind a point that is known.
    fn anchored(&self, entry: &AuditEntry) -> Result<(), String> {
        let number = entry.number;
        let before = number.saturating_sub(1);
        match self.expected.iter().find(|point| point.number == before) {
            Some(point) if point.digest == entry.previous => Ok(()),
            Some(point) => Err(format!("number {number} follows {}, expected {}", entry.previous, point.digest)),
            None => {
                Err(format!("the first line has number {number}, expected 1, or --expect {before}:{}", entry.previous))
            }
        }
    }

    /// The log is at its end: every expected point must have come by, or lie before its first line.
    fn finish(&self) -> Result<(), String> {
        let last = self.last.as_ref().map_or(0, |last| last.number);
        match self.expected.iter().find(|point| point.number > last || point.number == 0) {
            Some(point) if point.number > last => {
                Err(format!("the log ends with number {last}, expected {} in it: its end was cut off", point.number))
            }
            _ => Ok(()),
        }
    }
}

/// `chiron audit ...`
pub(super) async fn run(arguments: &AuditArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    match &arguments.command {
        AuditCommand::Export { after } => export(&Client::new(&arguments.remote)?, *after, console).await,
        AuditCommand::Verify { expect, file: Some(file) } => {
            let mut chain = Chain::new(expect);
            let broken = in_file(file, &mut chain)?;
            verdict(&chain, broken, console)
        }
        AuditCommand::Verify { expect, file: None } => {
            let client = Client::new(&arguments.remote)?;
            let mut chain = Chain::new(expect);
            let broken = waiting(console.progress, "reading the audit log", over_http(&client, &mut chain)).await?;
            verdict(&chain, broken, console)
        }
    }
}

/// A page of lines, and where the next one begins.
async fn page(client: &Client, after: u64) -> anyhow::Result<(Vec<Value>, u64)> {
    let mut answer = client.get(&format!("/api/v1/audit?after={after}&limit={PAGE}")).await?;
    let Value::Array(entries) = answer["entries"].take() else {
        anyhow::bail!("found no list `entries` in the answer, expected the audit log");
    };
    let next = entries.last().and_then(|entry| entry["number"].as_u64()).unwrap_or(after);
    if !entries.is_empty() && next <= after {
        anyhow::bail!("found number {next} after {after}, expected greater numbers: the log does not end");
    }
    Ok((entries, next))
}

fn parsed(value: Value) -> Result<AuditEntry, String> {
    serde_json::from_value(value).map_err(|error| format!("found a line that is none of the audit log: {error}"))
}

/// Takes every line of a running chiron; the first breach, if any.
async fn over_http(client: &Client, chain: &mut Chain) -> anyhow::Result<Option<String>> {
    let mut after = 0;
    loop {
        let (entries, next) = page(client, after).await?;
        if entries.is_empty() {
            return Ok(chain.finish().err());
        }
        for value in entries {
            if let Err(broken) = parsed(value).and_then(|entry| chain.push(&entry)) {
                return Ok(Some(broken));
            }
        }
        after = next;
    }
}

/// The same of a file.
fn in_file(path: &Path, chain: &mut Chain) -> anyhow::Result<Option<String>> {
    let shown = path.display();
    let (file, _) =
        files::open(path).map_err(|found| anyhow::anyhow!("`{shown}`: {found}, expected a readable file"))?;
    let mut reader = BufReader::new(file);
    for line_number in 1_u64.. {
        let mut line = Vec::new();
        reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let entry = serde_json::from_slice(&line).map_err(|error| format!("found no JSON: {error}")).and_then(parsed);
        if let Err(broken) = entry.and_then(|entry| chain.push(&entry)) {
            return Ok(Some(format!("{shown}:{line_number}: {broken}")));
        }
    }
    Ok(chain.finish().err())
}

fn verdict(chain: &Chain, broken: Option<String>, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let code = if broken.is_some() { CRITICAL } else { OK };
    let shown = |point: &Option<Point>| point.as_ref().map(Point::to_string);
    if console.output != Output::Table {
        console.json(&json!({
            "whole": broken.is_none(),
            "count": chain.count,
            "first": shown(&chain.first),
            "last": shown(&chain.last),
            "broken": broken,
        }))?;
        return Ok(code);
    }
    let lines = count(usize::try_from(chain.count).unwrap_or(usize::MAX), "line");
    match &broken {
        Some(broken) => console.line(&format!("broken after {lines}: {}", clean(broken)))?,
        None => console.line(&format!("whole, {lines}"))?,
    }
    for (name, point) in [("first", &chain.first), ("last", &chain.last)] {
        if let Some(point) = point {
            console.line(&format!("{name} {point}"))?;
        }
    }
    Ok(code)
}

async fn export(client: &Client, after: u64, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let mut after = after;
    loop {
        let (entries, next) = page(client, after).await?;
        if entries.is_empty() {
            console.out.flush()?;
            return Ok(OK);
        }
        for entry in &entries {
            serde_json::to_writer(&mut *console.out, entry).map_err(io::Error::from)?;
            console.out.write_all(b"\n")?;
        }
        after = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    /// A log of `count` lines, with figures that are hard to print.
    fn log(count: u64) -> Vec<AuditEntry> {
        let mut previous = AuditEntry::START.to_owned();
        (1..=count)
            .map(|number| {
                let detail = json!({ "action": "restart_subsystem", "took": 0.083957 * 1.1_f64.powi(i32::try_from(number).unwrap()),
                                     "text": "ü\u{7}\"", "big": u64::MAX, "none": null });
                let mut entry = AuditEntry {
                    number,
                    at: Timestamp::from_millis(1_700_000_000_000 + i64::try_from(number).unwrap() * 250),
                    actor: "chiron".to_owned(),
                    event: "run_started".to_owned(),
                    subject: format!("feed_1/{number}/1"),
                    detail: detail.as_object().unwrap().clone(),
                    previous: previous.clone(),
                    digest: String::new(),
                };
                entry.digest = entry.chained();
                previous.clone_from(&entry.digest);
                // As it comes over HTTP: printed and read back.
                serde_json::from_str(&serde_json::to_string(&entry).unwrap()).unwrap()
            })
            .collect()
    }

    fn judged(entries: &[AuditEntry], expected: &[Point]) -> Result<u64, String> {
        let mut chain = Chain::new(expected);
        for entry in entries {
            chain.push(entry)?;
        }
        chain.finish().map(|()| chain.count)
    }

    fn at(entries: &[AuditEntry], number: usize) -> Point {
        Point { number: number as u64, digest: entries[number - 1].digest.clone() }
    }

    /// SEC-4: a log that was left alone holds together, figures that are hard to print included.
    #[test]
    fn a_whole_log_is_whole() {
        assert_eq!(judged(&[], &[]), Ok(0));
        let log = log(300);
        assert_eq!(judged(&log, &[]), Ok(300));
        assert_eq!(judged(&log, &[at(&log, 1), at(&log, 300)]), Ok(300));
        assert_eq!(judged(&log[100..], &[at(&log, 100)]), Ok(200));
    }

    /// SEC-4: every change, gap, exchange and cut is found, by number.
    #[test]
    fn every_breach_is_found() {
        type Change<'a> = &'a dyn Fn(&mut Vec<AuditEntry>);
        let good = log(20);
        let broken = |change: Change<'_>, expected: &[Point]| {
            let mut log = good.clone();
            change(&mut log);
            judged(&log, expected).expect_err("it is broken")
        };
        let changes: [(Change<'_>, &str); 9] = [
            (&|log| log[6].actor = "somebody".to_owned(), "number 7 was changed"),
            (&|log| drop(log[6].detail.insert("took".to_owned(), json!(1))), "number 7 was changed"),
            (&|log| log[6].at = Timestamp::EPOCH, "number 7 was changed"),
            (&|log| drop(log.remove(6)), "after number 6 comes 8, expected 7"),
            (&|log| log.swap(6, 7), "after number 6 comes 8, expected 7"),
            (&|log| drop(log.remove(0)), "the first line has number 2, expected 1"),
            (&|log| log[6].digest = "0".repeat(64), "number 7 was changed"),
            // Whoever computes the digest of a changed line anew breaks the line after it.
            (
                &|log| {
                    log[6].subject = "other".to_owned();
                    log[6].digest = log[6].chained();
                },
                "number 8 does not follow from the line before it: 7 was changed",
            ),
            (&|log| log[0].previous = "1".repeat(64), "number 1 names a line before it"),
        ];
        for (change, expected) in changes {
            let told = broken(change, &[]);
            assert!(told.contains(expected), "{told} / {expected}");
        }
        let point = at(&good, 20);
        assert!(broken(&|log| log.truncate(15), std::slice::from_ref(&point)).contains("its end was cut off"));
        // A log that was computed anew from some line on holds together; the point noted earlier tells.
        let anew = |log: &mut Vec<AuditEntry>| {
            log[10].actor = "somebody".to_owned();
            for index in 10..log.len() {
                log[index].previous = log[index - 1].digest.clone();
                log[index].digest = log[index].chained();
            }
        };
        assert!(broken(&anew, std::slice::from_ref(&point)).contains("number 20 has the digest"));
        let mut forged = good.clone();
        anew(&mut forged);
        assert_eq!(judged(&forged, &[]), Ok(20), "only a point noted elsewhere finds this");
        assert!(judged(&good[10..], &[Point { number: 10, digest: "1".repeat(64) }]).is_err());
    }

    #[test]
    fn points_are_read_as_they_are_printed() {
        let digest = "ab".repeat(32);
        let read = point(&format!("12:{}", digest.to_uppercase())).unwrap();
        assert_eq!(read.to_string(), format!("12:{digest}"));
        for text in ["", "12", "12:ab", &format!("x:{digest}"), &format!("12:{}", "g".repeat(64))] {
            assert!(point(text).is_err(), "{text}");
        }
    }
}
