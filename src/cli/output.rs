//! How the one-shot commands speak: a table for people, JSON for programs, one line for Nagios.
//!
//! **Invariant:** stdout holds the answer and nothing else; what came from elsewhere cannot move the cursor, change a
//! colour or turn the direction of the text.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ColumnConstraint, ContentArrangement, Table, Width};
use serde_json::Value;

use crate::base::clock::Clock;
use crate::model::Timestamp;

/// `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    Table,
    /// What the API answers, lists complete.
    Json,
    /// One line with performance data, for Nagios and its kin; only `check` has it.
    Nagios,
}

/// A meaning that a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
    Worst,
    Unsure,
    Quiet,
}

/// Marks of no width around a coloured word while a table is laid out; nothing from elsewhere keeps one.
const TONES: [(Tone, char, &str); 6] = [
    (Tone::Good, '\u{206a}', "\x1b[32m"),
    (Tone::Warning, '\u{206b}', "\x1b[33m"),
    (Tone::Bad, '\u{206c}', "\x1b[31m"),
    (Tone::Worst, '\u{206d}', "\x1b[1;31m"),
    (Tone::Unsure, '\u{206e}', "\x1b[35m"),
    (Tone::Quiet, '\u{206f}', "\x1b[2m"),
];
const END: char = '\u{2064}';
const RESET: &str = "\x1b[0m";

/// Below this the last column of a table is not narrowed, whatever the terminal.
const LAST_MIN: u16 = 24;
/// A terminal that does not tell its width.
const WIDTH: u16 = 100;

/// Where a command writes, and how.
pub(super) struct Console<'a> {
    /// The answer.
    pub(super) out: &'a mut dyn Write,
    /// In which form.
    pub(super) output: Output,
    /// Whether colours are shown.
    pub(super) colour: bool,
    /// How wide a table may be; `None` as wide as it likes.
    pub(super) width: Option<u16>,
    /// Whether progress is shown, on stderr.
    pub(super) progress: bool,
    /// Whether a person can be asked.
    pub(super) person: bool,
    /// Against which times are told.
    pub(super) clock: Clock,
}

impl<'a> Console<'a> {
    /// The console of this process.
    pub(super) fn new(out: &'a mut dyn Write, output: Output) -> Self {
        let terminal = io::stdout().is_terminal();
        let columns = std::env::var_os("COLUMNS").and_then(|text| text.to_str()?.parse().ok());
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col).filter(|width| *width > 0);
        Self {
            out,
            output,
            colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            width: terminal.then(|| size.or(columns).unwrap_or(WIDTH)),
            progress: io::stderr().is_terminal(),
            person: io::stdin().is_terminal() && io::stderr().is_terminal(),
            clock: Clock::system(),
        }
    }

    /// Writes a value as JSON.
    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        writeln!(self.out, "{value:#}")
    }

    /// Writes a line with the marks of [`toned`] in it.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{}", painted(text, self.colour))
    }

    /// Writes a table. The last column takes what width is left.
    pub(super) fn table<const N: usize>(&mut self, headings: [&str; N], rows: Vec<[String; N]>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_preset(NOTHING).set_header(headings);
        table.set_content_arrangement(ContentArrangement::Disabled);
        for row in rows {
            table.add_row(row);
        }
        if let Some(width) = self.width {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        let last = N.saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { 2 }));
            column.set_constraint(match (self.width, index == last) {
                (Some(_), true) => ColumnConstraint::LowerBoundary(Width::Fixed(LAST_MIN)),
                _ => ColumnConstraint::ContentWidth,
            });
        }
        for line in table.trim_fmt().lines() {
            self.line(line)?;
        }
        Ok(())
    }

    /// The time as it is when something is told: an answer is later than its question.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// How long ago or ahead `at` is, for people.
    pub(super) fn relative(&self, at: Option<Timestamp>) -> String {
        let now = self.now();
        match at {
            None => "-".to_owned(),
            Some(Timestamp::EPOCH) => "never".to_owned(),
            Some(at) if at > now => format!("in {}", rough(at.since(now))),
            Some(at) => format!("{} ago", rough(now.since(at))),
        }
    }
}

/// A duration in its greatest unit.
pub(super) fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Milliseconds for people.
pub(super) fn millis(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1} ms"),
        value if value < 1000.0 => format!("{value:.0} ms"),
        value => format!("{:.1} s", value / 1000.0),
    }
}

/// `text` with the marks of a tone, harmless without colours.
pub(super) fn toned(text: &str, tone: Option<Tone>) -> String {
    let text = clean(text);
    match TONES.iter().find(|(one, ..)| Some(*one) == tone) {
        Some((_, mark, _)) => format!("{mark}{text}{END}"),
        None => text,
    }
}

/// Marks become colours, or nothing.
fn painted(text: &str, colour: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let code = TONES.iter().find(|(_, mark, _)| *mark == c).map(|(.., code)| *code);
        let code = code.or((c == END).then_some(RESET));
        match code {
            Some(code) if colour => out.push_str(code),
            Some(_) => {}
            None => out.push(c),
        }
    }
    out
}

/// `text` on one line, without anything that a terminal obeys or that turns the direction of text.
pub(super) fn clean(text: &str) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.trim_end().chars().map(|c| if obeyed(c) { ' ' } else { c }).collect()
}

/// A text of a JSON object, cleaned; empty without one.
pub(super) fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

/// A date of a JSON object.
pub(super) fn date(value: &Value, key: &str) -> Option<Timestamp> {
    value[key].as_str().and_then(Timestamp::parse_rfc3339)
}

/// The items of a list of a JSON object.
pub(super) fn items<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The tone of a status, severity, outcome or level.
pub(super) fn tone(word: &str) -> Option<Tone> {
    Some(match word {
        "healthy" | "verified" | "allow_all" | "ok" | "resolved" => Tone::Good,
        "degraded" | "medium" | "safe_risk_profile" | "no_new_trades" | "approval" | "unbound" => Tone::Warning,
        "critical" | "high" | "defensive_exit" | "unverified" | "timeout" => Tone::Bad,
        "failed" | "emergency_shutdown" => Tone::Worst,
        "unknown" | "indeterminate" | "quarantined" => Tone::Unsure,
        "low" | "dry_run" | "cancelled" | "skipped" => Tone::Quiet,
        _ => return None,
    })
}

/// A word in the tone it has.
pub(super) fn word(text: &str) -> String {
    toned(text, tone(text))
}

/// `1 issue`, `2 issues`.
pub(super) fn count(number: usize, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Shows on a terminal that `work` takes its time, and how long it has taken.
pub(super) async fn waiting<T>(show: bool, what: &str, work: impl Future<Output = T>) -> T {
    if !show {
        return work.await;
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut passed = 0_u32;
    tokio::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = ticks.tick() => {
                let dots = [".  ", ".. ", "..."][passed as usize % 3];
                let _ = write!(io::stderr(), "\r\x1b[K{what} {dots} {} s", passed / 5);
                let _ = io::stderr().flush();
                passed += 1;
            }
        }
    };
    let _ = write!(io::stderr(), "\r\x1b[K");
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(width: Option<u16>, colour: bool) -> String {
        let mut out = Vec::new();
        let clock = Clock::manual(Timestamp::from_millis(1_000_000_000));
        let output = Output::Table;
        let mut console = Console { out: &mut out, output, colour, width, progress: false, person: false, clock };
        let rows = vec![
            ["feed".to_owned(), word("critical"), "a fairly long sentence about what was found".to_owned()],
            ["order_router".to_owned(), word("healthy"), String::new()],
        ];
        console.table(["SUBSYSTEM", "STATUS", "WHAT"], rows).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// SPEC 14: tables for people, in colour on a terminal and nowhere else, as wide as the terminal.
    #[test]
    fn tables_fit_and_colours_take_no_room() {
        let plain = shown(None, false);
        assert_eq!(
            plain,
            "SUBSYSTEM     STATUS    WHAT\n\
             feed          critical  a fairly long sentence about what was found\n\
             order_router  healthy\n"
        );
        let colour = shown(None, true);
        assert!(colour.contains("feed          \x1b[31mcritical\x1b[0m  a fairly"), "{colour:?}");
        assert_eq!(colour.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[0m", ""), plain);
        let narrow = shown(Some(50), true);
        for line in narrow.replace("\x1b[31m", "").replace("\x1b[32m", "").replace("\x1b[0m", "").lines() {
            assert!(line.chars().count() <= 50, "{line}");
        }
        assert!(narrow.lines().count() > 3, "{narrow}");
    }

    /// SEC-5: the labels of an alert cannot draw on an operator's terminal.
    #[test]
    fn what_comes_from_elsewhere_cannot_move_the_cursor() {
        assert_eq!(clean("a\x1b[2Jb\r\nc\u{202e}d\u{206a}e"), "a [2Jb  c d e");
        assert_eq!(painted(&word("healthy"), true), "\x1b[32mhealthy\x1b[0m");
        assert_eq!(painted(&toned("x\u{2064}", Some(Tone::Bad)), true), "\x1b[31mx \x1b[0m");
        assert_eq!(painted(&word("healthy"), false), "healthy");
    }

    #[test]
    fn times_are_told_as_people_tell_them() {
        let mut out = Vec::new();
        let now = Timestamp::from_millis(10_000_000_000);
        let output = Output::Table;
        let console = Console {
            out: &mut out,
            output,
            colour: false,
            width: None,
            progress: false,
            person: false,
            clock: Clock::manual(now),
        };
        let table = [
            (Some(now), "0 s ago"),
            (Some(now.minus(Duration::from_secs(119))), "119 s ago"),
            (Some(now.minus(Duration::from_secs(190))), "3 min ago"),
            (Some(now.minus(Duration::from_secs(7300))), "2 h ago"),
            (Some(now.minus(Duration::from_secs(200_000))), "2 d ago"),
            (Some(now.plus(Duration::from_secs(90))), "in 90 s"),
            (Some(Timestamp::EPOCH), "never"),
            (None, "-"),
        ];
        for (at, expected) in table {
            assert_eq!(console.relative(at), expected);
        }
        assert_eq!([millis(0.123), millis(45.6), millis(1234.0)], ["0.1 ms", "46 ms", "1.2 s"]);
    }
}
