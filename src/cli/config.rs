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

#[cfg(test)]
mod tests {
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
