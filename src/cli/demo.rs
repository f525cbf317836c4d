//! `chiron demo bot`: the simulated bot of [`crate::demo`].

use std::process::ExitCode;

use clap::Subcommand;
use tokio_util::sync::CancellationToken;

use crate::demo::bot;

/// Parts of the simulated platform.
#[derive(Debug, Subcommand)]
pub(super) enum DemoCommand {
    /// A simulated bot that keeps a workspace fresh until it is ended.
    Bot(bot::BotOptions),
}

/// Runs one part until it is ended.
pub(super) fn run(command: DemoCommand) -> ExitCode {
    let DemoCommand::Bot(options) = command;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            super::complain(&anyhow::Error::from(error));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(bot::run(options, CancellationToken::new())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::complain(&error);
            ExitCode::FAILURE
        }
    }
}
