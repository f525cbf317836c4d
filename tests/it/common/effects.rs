//! What actions really did, written down outside chiron: one line per effect, appended by the action itself.

use std::path::{Path, PathBuf};

use super::config::script;

/// A script that appends its run's key and its first argument to a log, and that log.
pub(crate) struct Effects {
    log: PathBuf,
    /// The script's path, for `argv`.
    pub(crate) script: PathBuf,
}

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Effect {
    /// The run's key, `EPISODE/RUNG/ATTEMPT`.
    pub(crate) key: String,
    /// What the script was told: the action's class.
    pub(crate) class: String,
}

impl Effect {
    /// The episode of the run.
    pub(crate) fn episode(&self) -> &str {
        self.key.rsplitn(3, '/').nth(2).unwrap_or(&self.key)
    }
}

impl Effects {
    /// Makes the script in `dir`.
    pub(crate) fn new(dir: &Path) -> Self {
        let log = dir.join("run-effects.log");
        // One short line in one write to a file opened with O_APPEND is never torn or lost to another.
        let body = format!("echo \"${{CHIRON_RUN_KEY:?}} $1\" >> '{}'", log.display());
        Self { script: script(&dir.join("effect.sh"), &body), log }
    }

    /// Forgets what has happened: the keys of another journal may be the same.
    pub(crate) fn forget(&self) {
        let _ = std::fs::remove_file(&self.log);
    }

    /// Every effect so far.
    pub(crate) fn all(&self) -> Vec<Effect> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .map(|line| {
                let (key, class) = line.split_once(' ').unwrap_or_else(|| panic!("a torn line in the log: `{line}`"));
                Effect { key: key.to_owned(), class: class.to_owned() }
            })
            .collect()
    }

    /// Keys that appear more than once among the effects of a class, and episodes that saw more than one such effect.
    pub(crate) fn repeated(&self, class: &str) -> Vec<String> {
        let all = self.all();
        let mut keys: Vec<&str> = all.iter().filter(|effect| effect.class == class).map(|e| e.key.as_str()).collect();
        let mut episodes: Vec<&str> = all.iter().filter(|effect| effect.class == class).map(Effect::episode).collect();
        keys.sort_unstable();
        episodes.sort_unstable();
        let twice = |list: &[&str]| -> Vec<String> {
            list.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_owned()).collect()
        };
        twice(&keys).into_iter().chain(twice(&episodes)).collect()
    }
}
