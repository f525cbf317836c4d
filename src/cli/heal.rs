//! `chiron heal`: looks at a bot's workspace and puts right what may be put right, without a running chiron.

use clap::Args;

use super::SettingsArgs;
use super::output::{Console, Output};
use super::{CRITICAL, OK};
use crate::base::clock::Clock;
use crate::config::load;
use crate::model::{HealingTrigger, Name};
use crate::workspace::{Request, heal, rollback};

/// Heal a bot's workspace now: folders, files, locks, heartbeats, configuration.
///
/// Exit codes: 0 nothing critical, 2 a critical finding stands or something failed, 3 it could not be looked at.
#[derive(Debug, Args)]
pub(super) struct HealArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// Undo an earlier healing.
    #[arg(long, value_name = "ID")]
    rollback: Option<String>,
    /// With --rollback: also undo what has changed since.
    #[arg(long, requires = "rollback")]
    force: bool,
    /// How the answer is shown.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(super) output: Output,
}

/// Runs it.
pub(super) fn run(arguments: &HealArgs, console: &mut Console<'_>) -> anyhow::Result<u8> {
    let clock = Clock::system();
    let loaded = load(&arguments.settings.inputs(), clock.clone()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(lines.join("\n"))
    })?;
    let settings = &loaded.settings.heal;
    let report = match &arguments.rollback {
        Some(id) => rollback(settings, &Name::from(id.as_str()), arguments.force, None, &clock)?,
        None => heal(settings, &Request { trigger: HealingTrigger::Command, by: None, dry_run: false }, &clock)?,
    };
    console.json(&serde_json::to_value(&report)?)?;
    Ok(if report.success { OK } else { CRITICAL })
}
