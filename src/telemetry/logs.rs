//! Log lines on stderr: logfmt for people, JSON for machines; one event, one line, one write.
//!
//! **Invariant:** a value can never break out of its line or its quotes.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

use crate::base::clock::Clock;
use crate::base::redact;

/// `--log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `ts=... level=... msg="..." key=value`.
    #[default]
    Logfmt,
    /// One object per line, with the same keys.
    Json,
}

impl LogFormat {
    /// The format of that name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "logfmt" => Some(Self::Logfmt),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The level of that name (`--log.level`).
pub fn parse_level(text: &str) -> Option<Level> {
    match text {
        "trace" => Some(Level::TRACE),
        "debug" => Some(Level::DEBUG),
        "info" => Some(Level::INFO),
        "warn" => Some(Level::WARN),
        "error" => Some(Level::ERROR),
        _ => None,
    }
}

/// Logs were set up before.
#[derive(Debug, thiserror::Error)]
#[error("logs are set up already, expected once per process")]
pub struct AlreadySetUp(#[source] tracing_subscriber::util::TryInitError);

/// Sends every event of chiron at `level` or worse to stderr; libraries say only what is `warn` or worse, or `info`
/// where `level` is `debug`.
pub fn init(level: Level, format: LogFormat) -> Result<(), AlreadySetUp> {
    let libraries = if level >= Level::DEBUG { LevelFilter::INFO } else { LevelFilter::WARN };
    let wanted = Targets::new().with_default(libraries.min(level.into())).with_target("chiron", level);
    let lines = Lines { format, clock: Clock::system() };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(lines);
    tracing_subscriber::registry().with(layer.with_filter(wanted)).try_init().map_err(AlreadySetUp)
}

/// Writes an event as one line.
struct Lines {
    format: LogFormat,
    clock: Clock,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let ts = self.clock.now().rfc3339();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => "debug",
        };
        let target = metadata.target();
        match self.format {
            LogFormat::Logfmt => logfmt(&mut out, &ts, level, target, &fields)?,
            LogFormat::Json => json(&mut out, &ts, level, target, &fields)?,
        }
        out.write_char('\n')
    }
}

/// What an event carries, in order.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, mut value: serde_json::Value) {
        redact::value(&mut value);
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            self.rest.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, serde_json::Number::from_f64(value).map_or_else(|| value.to_string().into(), Into::into));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        self.put(field, text.into());
    }
}

fn logfmt(out: &mut dyn fmt::Write, ts: &str, level: &str, target: &str, fields: &Fields) -> fmt::Result {
    write!(out, "ts={ts} level={level} target={target} msg=")?;
    quoted(out, &fields.message)?;
    for (key, value) in &fields.rest {
        write!(out, " {key}=")?;
        match value {
            serde_json::Value::String(text) => quoted(out, text)?,
            other => write!(out, "{other}")?,
        }
    }
    Ok(())
}

/// A value bare where that is unambiguous, else in quotes with everything unprintable escaped.
fn quoted(out: &mut dyn fmt::Write, value: &str) -> fmt::Result {
    let bare = |c: char| c > ' ' && c != '"' && c != '=' && c != '\\' && c != '\u{7f}' && !c.is_control();
    if !value.is_empty() && value.chars().all(bare) {
        return out.write_str(value);
    }
    out.write_char('"')?;
    for c in value.chars() {
        match c {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            c if c.is_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char('"')
}

fn json(out: &mut dyn fmt::Write, ts: &str, level: &str, target: &str, fields: &Fields) -> fmt::Result {
    let mut line = serde_json::Map::new();
    for (key, value) in [("ts", ts), ("level", level), ("target", target), ("msg", &fields.message)] {
        line.insert(key.to_owned(), value.into());
    }
    for (key, value) in &fields.rest {
        // A field may not pass itself off as one of ours.
        let taken = line.contains_key(*key);
        line.insert(if taken { format!("{key}_") } else { (*key).to_owned() }, value.clone());
    }
    write!(out, "{}", serde_json::Value::Object(line))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use crate::model::Timestamp;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, say: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let clock = Clock::manual(Timestamp::from_millis(1_763_862_896_000));
        let layer =
            tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).event_format(Lines { format, clock });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// SEC-3: a secret that is known is in no line, wherever an event holds it.
    #[test]
    fn known_secrets_are_left_out() {
        redact::remember("logged-secret-71");
        for format in [LogFormat::Logfmt, LogFormat::Json] {
            let said = logged(
                format,
                || tracing::warn!(target: "chiron::x", detail = "logged-secret-71", "x: logged-secret-71"),
            );
            assert!(!said.contains("logged-secret-71") && said.matches("<redacted>").count() == 2, "{said}");
        }
    }

    fn say() {
        tracing::warn!(
            target: "chiron::x",
            subsystem = "data_feed",
            count = 3,
            ratio = 0.5,
            ok = true,
            empty = "",
            level = "mine",
            nasty = "a b=\"c\"\nlevel=error \u{1b}",
            "2 issues, one \"critical\""
        );
    }

    #[test]
    fn logfmt_quotes_what_needs_it_and_stays_on_one_line() {
        assert_eq!(
            logged(LogFormat::Logfmt, say),
            "ts=2025-11-23T01:54:56Z level=warn target=chiron::x msg=\"2 issues, one \\\"critical\\\"\" \
             subsystem=data_feed count=3 ratio=0.5 ok=true empty=\"\" level=mine \
             nasty=\"a b=\\\"c\\\"\\nlevel=error \\u001b\"\n"
        );
    }

    #[test]
    fn json_is_one_object_with_the_same_keys() {
        let line = logged(LogFormat::Json, say);
        assert_eq!(line.matches('\n').count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["ts"], "2025-11-23T01:54:56Z");
        assert_eq!(read["level"], "warn");
        assert_eq!(read["level_"], "mine");
        assert_eq!(read["msg"], "2 issues, one \"critical\"");
        assert_eq!(read["count"], 3);
        assert_eq!(read["nasty"], "a b=\"c\"\nlevel=error \u{1b}");
    }

    #[test]
    fn names_of_levels_and_formats() {
        assert_eq!(parse_level("warn"), Some(Level::WARN));
        assert_eq!(parse_level("loud"), None);
        assert_eq!(LogFormat::parse("json"), Some(LogFormat::Json));
        assert_eq!(LogFormat::parse("xml"), None);
    }
}
