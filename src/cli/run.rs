//! `chiron run`: reads the settings, starts everything, waits for signals.
#![expect(clippy::print_stderr, reason = "problems of the settings come before any log")]

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::wiring::App;
use crate::base::clock::Clock;
use crate::base::failpoint;
use crate::config::{self, Inputs, Loaded, Settings};
use crate::telemetry::logs;

use super::{RunArgs, UNKNOWN, complain};

/// Runs until told to stop. 0 after a clean stop, 1 if something made it end, 3 if the settings are wrong.
pub(super) fn run(arguments: &RunArgs) -> ExitCode {
    if let Err(error) = logs::init(arguments.log_level, arguments.log_format) {
        eprintln!("chiron: {error}");
        return ExitCode::FAILURE;
    }
    // A task that panics is started anew; the log says where it was.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let inputs = arguments.settings.inputs();
    let clock = Clock::system();
    let loaded = match config::load(&inputs, clock.clone()) {
        Ok(loaded) => loaded,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            let s = if problems.len() == 1 { "" } else { "s" };
            eprintln!("chiron: {} problem{s} in the settings; nothing was started", problems.len());
            return ExitCode::from(UNKNOWN);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let result = runtime.context("the runtime could not be started").and_then(|runtime| {
        let result = runtime.block_on(serve(loaded, inputs, clock));
        // A check that hangs in a system call must not hold up the end.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn serve(loaded: Loaded, inputs: Inputs, clock: Clock) -> anyhow::Result<()> {
    let Loaded { settings, warnings } = loaded;
    if failpoint::is_under_test() {
        tracing::warn!("failpoints or injected figures are set in the environment; this process is under test");
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    announce(&settings);
    // Signals are taken from here on, so that none is lost while the journal is read.
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be handled")?;
    let seed = seed(&clock);
    let app = App::start(settings, inputs, clock, seed).await?;
    for address in app.addresses() {
        let address = format!("{}://{address}", app.scheme());
        tracing::info!(address, "listening");
    }
    let stop = CancellationToken::new();
    let (reload, reloads) = mpsc::channel(8);
    let running = app.run(stop.clone(), reloads);
    tokio::pin!(running);
    loop {
        tokio::select! {
            result = &mut running => return result,
            _ = hangup.recv() => drop(reload.try_send(())),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    stop.cancel();
    tokio::select! {
        result = &mut running => result,
        _ = terminate.recv() => anyhow::bail!("forced by a second signal; actions under way are resolved at the next start"),
        _ = interrupt.recv() => anyhow::bail!("forced by a second signal; actions under way are resolved at the next start"),
    }
}

/// Says at start what it is about to do; above all, when it acts on nothing.
fn announce(settings: &Settings) {
    let file = settings.file.as_ref().map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = file,
        profile = settings.profile.as_str(),
        workspace = %settings.workspace.display(),
        subsystems = settings.subsystems.len(),
        bindings = settings.bindings.len(),
        "starting chiron"
    );
    if settings.admit.dry_run {
        tracing::warn!(
            "dry-run: nothing is acted upon; `mode: paper` or `mode: real` in the settings file changes that"
        );
    }
}

/// Different for every process: no two spread their checks alike, no two share an incarnation.
fn seed(clock: &Clock) -> u64 {
    let boot = u64::try_from(clock.since_boot().as_nanos()).unwrap_or_default();
    let pid = u64::from(std::process::id());
    boot.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ pid.rotate_left(32)
}
