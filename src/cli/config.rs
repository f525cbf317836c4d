//! `chiron config check FILE`: every mistake of a settings file, for people and for scripts.

use std::io::{self, Write};

use crate::base::clock::Clock;
use crate::config::{Inputs, excerpt, load, read_config};

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
            for warning in &loaded.warnings {
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
                if let Some(excerpt) = excerpt(&text, problem.line, problem.column) {
                    writeln!(out, "{excerpt}")?;
                }
            }
            writeln!(out, "{name}: {} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" })?;
            Ok(UNKNOWN)
        }
    }
}
