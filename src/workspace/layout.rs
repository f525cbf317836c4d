//! What is expected in a workspace (`heal` in the settings); the built-in layout `quantum` is such data too.
//!
//! **Invariant:** pure; nothing here looks at a file.

use std::sync::Arc;
use std::time::Duration;

use jsonschema::Validator;

/// A path below the workspace: `/` between the parts, none of which is empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(Arc<str>);

impl RelPath {
    /// The path of that text, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if trimmed.is_empty() || trimmed.starts_with('/') {
            return Err("expected a path below the workspace".to_owned());
        }
        if trimmed.contains('\0') || trimmed.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err("expected a path below the workspace without `.`, `..` and empty parts".to_owned());
        }
        Ok(Self(trimmed.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it lies in; `None` directly below the workspace.
    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(folder, _)| Self(folder.into()))
    }

    /// Its last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl TryFrom<String> for RelPath {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.0.as_ref().to_owned()
    }
}

impl std::fmt::Display for RelPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is expected.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Folders that must be there, parents first.
    pub directories: Vec<RelPath>,
    /// Files that are known by name.
    pub files: Vec<FileSpec>,
    /// Lock files; a package manager's never count.
    pub locks: Patterns,
    /// How old an unheld lock file may be; default 5 min.
    pub lock_age: Duration,
    /// Heartbeat files.
    pub heartbeats: Patterns,
    /// How old a heartbeat may be; default 10 min.
    pub heartbeat_age: Duration,
    /// Further JSON files that are salvaged when they are corrupt; never created.
    pub json: Patterns,
    /// How processes of the bot are told, for orphans; `None`: nobody is ended.
    pub bot: Option<BotPattern>,
}

/// Globs below the workspace.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    /// As written, `state/**/*.lock`.
    pub written: Vec<String>,
    /// Compiled.
    pub set: globset::GlobSet,
}

impl Patterns {
    /// Whether a path below the workspace matches one of them.
    pub fn matches(&self, path: &str) -> bool {
        !self.written.is_empty() && self.set.is_match(path)
    }
}

/// How a process of the bot is recognised.
#[derive(Clone, Debug)]
pub struct BotPattern {
    /// A part of its command line, the arguments joined by blanks (`heal.bot.match`).
    pub command: String,
    /// How long after SIGTERM SIGKILL follows; default 10 s.
    pub grace: Duration,
}

/// What a file is to the bot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Open and closed positions: records that stand for money.
    Positions,
    /// The portfolio and its trades: the same.
    Portfolio,
    /// Anything else that the bot writes.
    State,
    /// What people write and the bot reads.
    Config,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Positions, Self::Portfolio, Self::State, Self::Config];

    /// The word used in the settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Positions => "positions",
            Self::Portfolio => "portfolio",
            Self::State => "state",
            Self::Config => "config",
        }
    }

    /// Whether a lost record may be a lost position.
    pub const fn holds_money(self) -> bool {
        matches!(self, Self::Positions | Self::Portfolio)
    }
}

/// One file of the layout.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Where.
    pub path: RelPath,
    /// What it is.
    pub role: Role,
    /// The JSON text that it holds when there is nothing to say: made if the file is missing or has no bytes. `None`: it is
    /// neither made nor filled. For `Role::Config` that is the operator's default.
    pub empty: Option<Arc<[u8]>>,
    /// Top-level keys that must be there, with the JSON text that each gets if it is missing.
    pub keys: Vec<(String, String)>,
    /// The bot does not start without it: its lack is a finding even if nothing can be done about it.
    pub required: bool,
    /// Its JSON Schema.
    pub schema: Option<Arc<Validator>>,
}

impl Layout {
    /// What is known of the file of that path.
    pub fn file(&self, path: &str) -> Option<&FileSpec> {
        self.files.iter().find(|file| file.path.as_str() == path)
    }

    /// The first file of a role.
    pub fn of_role(&self, role: Role) -> Option<&FileSpec> {
        self.files.iter().find(|file| file.role == role)
    }
}

/// The built-in layout; its keys are those of `heal` in the settings, and the loader of the settings reads it.
pub const QUANTUM: &str = include_str!("quantum.yml");

/// Lock files of package managers: they say what was installed, and nobody ever holds them.
pub const PACKAGE_LOCKS: [&str; 18] = [
    "Cargo.lock",
    "Gemfile.lock",
    "Pipfile.lock",
    "Podfile.lock",
    "bun.lock",
    "composer.lock",
    "conda.lock",
    "deno.lock",
    "devbox.lock",
    "flake.lock",
    "gradle.lock",
    "mix.lock",
    "pdm.lock",
    "pixi.lock",
    "poetry.lock",
    "pylock.lock",
    "uv.lock",
    "yarn.lock",
];
