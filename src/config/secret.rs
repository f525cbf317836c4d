//! Bearer tokens and signing keys, read from files; the settings file itself never holds one (SEC-3).

use std::path::{Path, PathBuf};

use super::intake::{Intake, Refusal};
use super::read::bounded;
use crate::base::redact;
use crate::base::secret::Secret;
use crate::base::tree::Section;

/// The largest file with tokens, in bytes.
const FILE_MAX: usize = 64 * 1024;
/// The shortest token. A shorter one could be guessed over the network.
const TOKEN_MIN: usize = 16;
/// The old and the new one while a token is exchanged.
const TOKENS_MAX: usize = 2;

/// The tokens of `bearer_token_file`, one a line, at most two; empty without the key.
pub(super) fn bearer_tokens(section: &mut Section<'_>, intake: &Intake<'_>) -> Vec<String> {
    from_file(section, "bearer_token_file", intake)
}

/// The same of another key, not to be shown.
pub(super) fn secrets(section: &mut Section<'_>, key: &'static str, intake: &Intake<'_>) -> Vec<Secret> {
    from_file(section, key, intake).into_iter().map(Secret::new).collect()
}

/// A relative path is below the folder of the settings file.
fn from_file(section: &mut Section<'_>, key: &'static str, intake: &Intake<'_>) -> Vec<String> {
    let Some(named) = section.opt::<PathBuf>(key) else { return Vec::new() };
    let path = intake.folder.join(&named);
    match bounded_tokens(&path) {
        Ok((tokens, mode)) => {
            if mode & 0o007 != 0 {
                let text = format!("`{}` is open to every user of this machine: chmod o-rwx it", named.display());
                intake.warn_key(section, key, &text);
            }
            // Whatever keeps them may show itself; nothing that chiron says does.
            tokens.iter().for_each(|token| redact::remember(token));
            tokens
        }
        Err((rule, hint)) => {
            section.reject(key, &rule, hint);
            Vec::new()
        }
    }
}

fn bounded_tokens(path: &Path) -> Result<(Vec<String>, u32), Refusal> {
    let hint = || Some(format!("one line of at least {TOKEN_MIN} characters, such as `openssl rand -hex 32` prints"));
    let (bytes, mode) = bounded(path, FILE_MAX)
        .map_err(|found| (format!("expected a readable file with a token, but there is {found}"), hint()))?;
    Ok((tokens(&bytes).map_err(|rule| (rule, hint()))?, mode))
}

/// The tokens in a file's content, or the rule it breaks. The content itself is never told.
fn tokens(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "expected a file of UTF-8 text".to_owned())?;
    let tokens: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    if tokens.is_empty() {
        return Err("expected a token in the file, but it is empty".to_owned());
    }
    if tokens.len() > TOKENS_MAX {
        return Err(format!(
            "expected at most {TOKENS_MAX} tokens in the file, one a line, but it has {}",
            tokens.len()
        ));
    }
    for token in &tokens {
        if token.len() < TOKEN_MIN {
            let found = token.len();
            return Err(format!("expected tokens of at least {TOKEN_MIN} characters in the file, but one has {found}"));
        }
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("expected tokens of printable ASCII without blanks in the file".to_owned());
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed_long_enough_and_at_most_two() {
        assert_eq!(tokens(b"  0123456789abcdef \r\n\n"), Ok(vec!["0123456789abcdef".to_owned()]));
        assert_eq!(tokens(b"0123456789abcdef\n0123456789abcdeF\n").map(|list| list.len()), Ok(2));
        let table: [(&[u8], &str); 6] = [
            (b"", "empty"),
            (b" \n\n", "empty"),
            (b"0123456789abcde", "at least 16"),
            (b"0123456789abcdef 1", "without blanks"),
            (b"\xff123456789abcdef", "UTF-8"),
            (b"0123456789abcdef\n0123456789abcdef\n0123456789abcdef\n", "at most 2"),
        ];
        for (bytes, rule) in table {
            assert!(tokens(bytes).expect_err(rule).contains(rule), "{rule}");
        }
    }
}
