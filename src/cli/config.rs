//! `chiron config check|show`: every mistake of a settings file, and the settings in force.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::SettingsArgs;
use super::client::{Client, Remote};
use super::output::{Console, Output};
use crate::app::preflight;
use crate::base::clock::Clock;
use crate::config::{Inputs, excerpt, load, read_config};
use crate::execute::Binding;

/// Nagios: all is well.
const OK: i32 = 0;
/// Nagios: cannot tell; wrong settings end so.
const UNKNOWN: i32 = 3;

/// Checks the settings that `inputs` name and writes each problem on its line, with the place, then their number.
/// 0 if there are none, 3 if there are, or if `out` cannot be written.
pub fn check(inputs: &Inputs, out: &mut dyn Write) -> i32 {
    write(inputs, out).unwrap_or(UNKNOWN)
}

fn write(inputs: &Inputs, out: &mut dyn Write) -> io::Result<i32> {
    let name = inputs.config_file.as_ref().map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
    match load(inputs, Clock::system()) {
        Ok(loaded) => {
            for warning in loaded.warnings.iter().chain(&doubts(&preflight::asked(&loaded.settings))) {
                writeln!(out, "warning: {warning}")?;
            }
            let settings = &loaded.settings;
            let count = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
            writeln!(
                out,
                "{name}: ok, {}, {}, {}",
                count(settings.subsystems.len(), "subsystem"),
                count(settings.bindings.len(), "binding"),
                count(settings.alerts.routes.len(), "route")
            )?;
            Ok(OK)
        }
        Err(problems) => {
            let text = inputs.config_file.as_ref().and_then(|file| read_config(file).ok()).unwrap_or_default();
            for problem in &problems {
                writeln!(out, "{problem}")?;
                // The lines of another file, one with secrets at that, are not shown.
                if problem.file == name
                    && let Some(excerpt) = excerpt(&text, problem.line, problem.column)
                {
                    writeln!(out, "{excerpt}")?;
                }
            }
            writeln!(out, "{name}: {} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" })?;
            Ok(UNKNOWN)
        }
    }
}

/// What would keep each binding and each hook from working now, with its place; asked once, here and as whoever runs this.
fn doubts(bindings: &[Binding]) -> Vec<String> {
    if bindings.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![format!("the bindings cannot be asked whether they would work: {error}")],
    };
    let doubts = runtime.block_on(preflight::once(bindings));
    // One that hangs in a file system is not waited for.
    runtime.shutdown_background();
    let placed = bindings.iter().zip(doubts);
    placed.flat_map(|(binding, doubts)| doubts.into_iter().map(|doubt| format!("{}: {doubt}", binding.place))).collect()
}

/// The same as JSON: `problems` and `warnings`.
pub(super) fn check_json(inputs: &Inputs, out: &mut dyn Write) -> io::Result<i32> {
    let (problems, warnings) = match load(inputs, Clock::system()) {
        Ok(loaded) => {
            let doubts = doubts(&preflight::asked(&loaded.settings));
            (Vec::new(), loaded.warnings.into_iter().chain(doubts).collect())
        }
        Err(problems) => (problems, Vec::new()),
    };
    writeln!(out, "{:#}", json!({ "problems": problems, "warnings": warnings }))?;
    Ok(if problems.is_empty() { OK } else { UNKNOWN })
}

/// `chiron config show`
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Of this file instead of a running chiron.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Ask no running chiron: what the flags and a file, if one is named, would give here.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    pub(super) remote: Remote,
}

/// Tells the settings in force.
pub(super) async fn show(arguments: &ShowArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let mut inputs = arguments.settings.inputs();
    inputs.config_file = arguments.file.clone().or(inputs.config_file);
    let shown = if arguments.offline || inputs.config_file.is_some() {
        let loaded = load(&inputs, Clock::system()).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            anyhow::anyhow!("{}", lines.join("\n"))
        })?;
        Value::clone(&loaded.settings.shown)
    } else {
        Client::new(&arguments.remote)?.get("/api/v1/config").await?
    };
    if console.output == Output::Table {
        let mut text = String::new();
        let from = shown["file"].as_str().unwrap_or("no file: defaults and flags");
        text.push_str(&format!("# {}\n", super::output::clean(from)));
        yaml(if shown["settings"].is_object() { &shown["settings"] } else { &shown }, 0, &mut text);
        write!(console.out, "{text}")?;
    } else {
        console.json(&shown)?;
    }
    Ok(super::OK)
}

/// A value as YAML; short lists and mappings of scalars on one line.
fn yaml(value: &Value, indent: usize, out: &mut String) {
    let blanks = " ".repeat(indent);
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                out.push_str(&format!("{blanks}{}:", scalar(&json!(key))));
                nested(value, indent + 2, out);
            }
        }
        Value::Array(list) => {
            for value in list {
                out.push_str(&format!("{blanks}-"));
                nested(value, indent + 2, out);
            }
        }
        other => out.push_str(&format!("{blanks}{}\n", scalar(other))),
    }
}

/// What stands behind a key or a dash.
fn nested(value: &Value, indent: usize, out: &mut String) {
    match flow(value) {
        Some(text) => out.push_str(&format!(" {text}\n")),
        None => {
            out.push('\n');
            yaml(value, indent, out);
        }
    }
}

/// The widest value that stays on one line.
const FLOW_MAX: usize = 90;

fn flow(value: &Value) -> Option<String> {
    let plain = |value: &Value| !value.is_object() && !value.is_array();
    let text = match value {
        Value::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Array(list) if list.is_empty() => "[]".to_owned(),
        Value::Object(entries) if entries.values().all(plain) => {
            let parts: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", scalar(&json!(key)), scalar(value))).collect();
            format!("{{{}}}", parts.join(", "))
        }
        Value::Array(list) if list.iter().all(plain) => {
            format!("[{}]", list.iter().map(scalar).collect::<Vec<_>>().join(", "))
        }
        Value::Object(_) | Value::Array(_) => return None,
        other => return Some(scalar(other)),
    };
    (text.len() <= FLOW_MAX).then_some(text)
}

/// A scalar as YAML reads it back: plain where that cannot be mistaken, else in double quotes.
fn scalar(value: &Value) -> String {
    let Value::String(text) = value else { return value.to_string() };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '<' | '>');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '<'))
        && text.chars().all(legal)
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
        );
    let duration = crate::base::tree::parse_duration(text).is_some();
    if plain || duration { text.clone() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "writes a settings file to be checked")]

    use std::path::PathBuf;

    use super::*;

    fn answer(file: &str) -> (i32, String) {
        let inputs = Inputs { config_file: Some(PathBuf::from(file)), ..Inputs::default() };
        let mut out = Vec::new();
        let code = check(&inputs, &mut out);
        (code, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn a_good_file_ends_with_0() {
        let (code, text) = answer("tests/config/minimal.good.yml");
        assert_eq!(
            (code, text.as_str()),
            (0, "tests/config/minimal.good.yml: ok, 13 subsystems, 0 bindings, 0 routes\n")
        );
    }

    /// ACT-2: what would keep a binding from working is a warning with its place, and no mistake.
    #[test]
    fn what_would_not_work_is_a_warning() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("chiron.yml");
        let text = "profile: none\nworkspace: .\nsubsystems: {feed: {check: {kind: tcp, address: \"127.0.0.1:1\"}}}\nbindings:\n  \
                    - {action: clear_cache, subsystem: feed, exec: {argv: [/no/such/program]}}\n  \
                    - {action: reload_config, subsystem: feed, exec: {argv: [/bin/true]}}\n  \
                    - {action: disable_module, subsystem: feed, file: {path: nowhere/flag, touch: true}}\npolicy:\n  \
                    hooks: [{name: bot, exec: {argv: [/no/such/bot]}, confirm: {check: {kind: tcp, address: \"127.0.0.1:1\"}}, when: {at_least: no_new_trades}}]\n";
        std::fs::write(&file, text).expect("a file");
        let (code, said) = answer(file.to_str().expect("text"));
        let at = file.display();
        let expected = [
            format!("warning: {at}:5:5: bindings[0]: `/no/such/program` cannot be executed: No such file"),
            format!("warning: {at}:7:5: bindings[2]: `{}/nowhere` is not a directory", folder.path().display()),
            format!("warning: {at}:9:11: policy.hooks[0]: `/no/such/bot` cannot be executed: No such file"),
            format!("{at}: ok, 1 subsystem, 3 bindings, 0 routes"),
        ];
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!((code, lines.len()), (0, 4), "{said}");
        for (line, expected) in lines.iter().zip(&expected) {
            assert!(line.starts_with(expected), "{line}\n{expected}");
        }
        let mut json = Vec::new();
        let inputs = Inputs { config_file: Some(file), ..Inputs::default() };
        assert_eq!(check_json(&inputs, &mut json).expect("written"), 0);
        let json: Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["warnings"].as_array().map(Vec::len), Some(3), "{json}");
    }

    #[test]
    fn a_bad_file_ends_with_3_and_shows_each_place() {
        let (code, text) = answer("tests/config/storage_path.bad.yml");
        assert_eq!(code, 3);
        let expected = "tests/config/storage_path.bad.yml:1:16: storage.url: found `/var/lib/chiron/chiron.db`, expected \
                        `sqlite:PATH` or `memory:` (hint: write sqlite:/var/lib/chiron/chiron.db)\n  \
                        1 | storage: {url: /var/lib/chiron/chiron.db}\n    |                ^\n\
                        tests/config/storage_path.bad.yml: 1 problem\n";
        assert_eq!(text, expected);
        let (code, text) = answer("tests/config/nowhere.yml");
        assert_eq!(code, 3);
        assert!(text.ends_with("tests/config/nowhere.yml: 1 problem\n"), "{text}");
        let (_, text) = answer("tests/config/storage_later.bad.yml");
        assert!(!text.contains("secret"), "{text}");
    }
}
