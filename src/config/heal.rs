//! `heal`: what is expected in the bot's workspace, and how it is healed (SPEC 8).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::intake::{Intake, below, checked};
use crate::base::tree::{Node, Section, Value};
use crate::model::Mode;
use crate::workspace::layout::BotPattern;
use crate::workspace::{Retention, Settings, SlotSettings};

mod content;
mod layout;
mod patterns;
mod raw;
mod shown;
#[cfg(test)]
mod tests;

pub(super) use shown::shown;

/// What is known before the section is read.
pub(super) struct Around<'a> {
    /// `quantum` or `none`.
    pub(super) profile: &'a str,
    pub(super) workspace: PathBuf,
    /// Absolute.
    pub(super) data_dir: PathBuf,
    /// Absolute.
    pub(super) log_dir: PathBuf,
    pub(super) mode: Option<Mode>,
    pub(super) dry_run: bool,
    pub(super) own_files: Arc<Vec<PathBuf>>,
}

/// The folder of healings and backups below a workspace.
pub(super) fn state_dir(workspace: &Path) -> PathBuf {
    workspace.join(raw::OWN_FOLDER)
}

/// The settings of healing.
pub(super) fn heal(top: &mut Section<'_>, intake: &Intake<'_>, around: Around<'_>) -> Settings {
    let by_default = around.profile == "quantum" || top.has("heal");
    let nothing = Node { value: Value::Null, at: top.position() };
    let mut section = match top.section("heal") {
        Some(section) => section,
        None => Section::open(&nothing, "heal", intake.problems).expect("null opens as an empty mapping"),
    };
    let enabled = section.or("enabled", by_default);
    if enabled && around.mode.is_some() {
        not_everything(top, &around.workspace);
    }
    let rule = "expected a duration such as 10m, from 100ms to 1d";
    let bounds = Duration::from_millis(100)..=Duration::from_secs(86_400);
    let every = checked(&mut section, "every", Duration::from_secs(600), rule, |value| bounds.contains(value));
    let named = section.word("layout", &[("quantum", true), ("none", false)]);
    let is_quantum = named.unwrap_or(around.profile == "quantum");
    let mut layout = layout::layout(top, &mut section, intake, &around, (is_quantum, enabled));
    layout.bot = bot(&mut section);
    let slot = slot(&mut section, &around.workspace);
    let retention = retention(&mut section);
    let rule = "expected a duration such as 2s, at most 1h";
    let quiet = Duration::from_secs(2);
    let quiet = checked(&mut section, "quiet", quiet, rule, |value| *value <= Duration::from_secs(3600));
    let rule = "expected bytes from 4096 to 1073741824 (1 GiB)";
    let file_max = checked(&mut section, "file_max", 64 << 20, rule, |value| (4096..=1 << 30).contains(value));
    section.finish();
    Settings {
        enabled,
        every,
        state_dir: state_dir(&around.workspace),
        workspace: around.workspace,
        mode: around.mode,
        dry_run: around.dry_run,
        layout: Arc::new(layout),
        own_files: around.own_files,
        slot,
        retention,
        quiet,
        file_max,
    }
}

/// Folders directly below `/` that belong to the machine or to everybody on it.
const OF_THE_MACHINE: [&str; 20] = [
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib64",
    "media",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
    "lost+found",
];

/// Refuses to heal what is more than a bot's folder: `/`, a folder of the machine, somebody's home.
fn not_everything(top: &Section<'_>, workspace: &Path) {
    let real = std::fs::canonicalize(workspace).unwrap_or_else(|_| workspace.to_owned());
    let parts: Vec<_> = real.iter().skip(1).filter_map(|part| part.to_str()).collect();
    let is_too_much = match parts[..] {
        [] => true,
        [only] => OF_THE_MACHINE.contains(&only),
        ["home", _] => true,
        _ => false,
    };
    if is_too_much {
        let rule = format!("expected the bot's own folder to heal, but `{}` holds more than a bot", real.display());
        let hint = "name the bot's folder, or write `heal: {enabled: false}`";
        top.reject("workspace", &rule, Some(hint.to_owned()));
    }
}

/// Programs that run whatever they are given.
const INTERPRETERS: [&str; 9] = ["python", "python3", "node", "java", "bash", "perl", "ruby", "docker", "systemd"];

/// How processes of the bot are told.
fn bot(section: &mut Section<'_>) -> Option<BotPattern> {
    let mut section = section.section("bot")?;
    let command = section.req::<String>("match").filter(|text| {
        let rule = if text.trim().chars().count() < 4 || text.chars().any(char::is_control) {
            "expected a part of the bot's command line, of at least 4 characters on one line"
        } else if INTERPRETERS.contains(&text.trim()) {
            "expected what only the bot has in its command line, such as the path of its script"
        } else {
            return true;
        };
        section.reject("match", rule, Some("in paper mode orphans that match are ended".to_owned()));
        false
    });
    let rule = "expected a duration such as 10s, from 100ms to 10m";
    let bounds = Duration::from_millis(100)..=Duration::from_secs(600);
    let grace = checked(&mut section, "grace", Duration::from_secs(10), rule, |value| bounds.contains(value));
    section.finish();
    Some(BotPattern { command: command?, grace })
}

/// The release folder.
fn slot(section: &mut Section<'_>, workspace: &Path) -> Option<SlotSettings> {
    let mut section = section.section("slot")?;
    let path = section.req::<PathBuf>("path").map(|path| below(workspace, &path));
    let manifest = section.or("manifest", "slot_manifest.json".to_owned());
    let manifest = crate::workspace::layout::RelPath::parse(&manifest).map_err(|_| {
        section.reject("manifest", "expected a path below the release folder, without `.`, `..` and empty parts", None);
    });
    section.finish();
    Some(SlotSettings { path: path?, manifest: PathBuf::from(manifest.ok()?.as_str()) })
}

/// How long backups are kept.
fn retention(section: &mut Section<'_>) -> Retention {
    let basis = Retention::default();
    let Some(mut section) = section.section("backups") else { return basis };
    let rule = "expected a duration such as 30d, from 1h to 3650d";
    let bounds = Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);
    let keep = checked(&mut section, "keep", basis.keep, rule, |value| bounds.contains(value));
    let rule = "expected bytes from 1048576 (1 MiB) to 1099511627776 (1 TiB)";
    let bounds = 1 << 20..=1 << 40;
    let bytes_max = checked(&mut section, "max_bytes", basis.bytes_max, rule, |value| bounds.contains(value));
    let rule = "expected a whole number from 1 to 1000000";
    let bounds = 1..=1_000_000;
    let healings_max = checked(&mut section, "healings", basis.healings_max, rule, |value| bounds.contains(value));
    section.finish();
    Retention { keep, bytes_max, healings_max }
}
