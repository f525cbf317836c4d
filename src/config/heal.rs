//! `heal`: what is expected in the bot's workspace, and how it is healed (SPEC 8).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::intake::{Intake, span};
use crate::base::tree::Section;
use crate::model::Mode;
use crate::workspace::{Layout, Retention, Settings};

/// What is known before the section is read.
pub(super) struct Around<'a> {
    /// `quantum` or `none`.
    pub(super) profile: &'a str,
    pub(super) workspace: PathBuf,
    pub(super) mode: Option<Mode>,
    pub(super) dry_run: bool,
    pub(super) own_files: Arc<Vec<PathBuf>>,
}

/// The settings of healing.
pub(super) fn heal(top: &mut Section<'_>, _intake: &Intake<'_>, around: Around<'_>) -> Settings {
    let mut section = top.section("heal");
    let by_default = around.profile == "quantum" || section.is_some();
    let every = Duration::from_secs(600);
    let (enabled, every) = section
        .as_mut()
        .map_or((by_default, every), |section| (section.or("enabled", by_default), span(section, "every", every)));
    section.into_iter().for_each(Section::finish);
    Settings {
        enabled,
        every,
        state_dir: around.workspace.join(".chiron"),
        workspace: around.workspace,
        mode: around.mode,
        dry_run: around.dry_run,
        layout: Arc::new(Layout::default()),
        own_files: around.own_files,
        slot: None,
        retention: Retention::default(),
        quiet: Duration::from_secs(2),
        file_max: 64 << 20,
    }
}
