//! The command line; one file per command.
//!
//! **Invariant:** exit codes follow the Nagios convention for one-shot commands (0 ok, 1 warning, 2 critical, 3 unknown,
//! wrong arguments and settings included); `run` ends with 0 or 1,
//! or 3 before it begins if its settings are wrong.
#![expect(clippy::print_stderr, reason = "the command line talks to a person")]

pub mod config;
mod demo;
mod run;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Inputs;
use crate::telemetry::logs;

/// Exit code for wrong arguments and settings.
const UNKNOWN: u8 = 3;

/// The healer that stands beside an algorithmic-trading platform.
#[derive(Debug, Parser)]
#[command(name = "chiron", version, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Observe, export, recommend and heal until stopped; the default.
    Run(Box<RunArgs>),
    /// Look at settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Simulated parts of a platform.
    Demo {
        #[command(subcommand)]
        command: demo::DemoCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tell every mistake of a settings file, each with file, line and column.
    Check {
        /// The file; the one of `--config.file` otherwise.
        file: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

/// Flags that settings may also hold; a flag wins over the file.
#[derive(Clone, Debug, Args)]
struct SettingsArgs {
    /// The settings file, YAML or JSON; without one: profile quantum, dry-run, loopback.
    #[arg(long = "config.file", value_name = "FILE", env = "CHIRON_CONFIG_FILE")]
    config_file: Option<PathBuf>,
    /// Where to listen; repeatable. Port 0 takes a free one. [default: 127.0.0.1:19913]
    #[arg(long = "web.listen-address", value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// The address under which people reach chiron; its host is taken in changing requests.
    #[arg(long = "web.external-url", value_name = "URL", env = "CHIRON_WEB_EXTERNAL_URL")]
    external_url: Option<String>,
    /// The path of the metrics page. [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH", env = "CHIRON_WEB_TELEMETRY_PATH")]
    telemetry_path: Option<String>,
    /// A web configuration file of the exporter-toolkit: TLS, client certificates, users.
    #[arg(long = "web.config.file", value_name = "FILE", env = "CHIRON_WEB_CONFIG_FILE")]
    web_config_file: Option<PathBuf>,
    /// Where the journal is kept: sqlite:PATH or memory: [default: sqlite:WORKSPACE/.chiron/chiron.db]
    #[arg(long = "storage.url", value_name = "URL", env = "CHIRON_STORAGE_URL")]
    storage_url: Option<String>,
    /// The bot's workspace. [default: .]
    #[arg(long, value_name = "DIR", env = "CHIRON_WORKSPACE")]
    workspace: Option<PathBuf>,
    /// Whether money is at stake; without a mode nothing is acted upon.
    #[arg(long, value_name = "MODE", env = "CHIRON_MODE")]
    mode: Option<Mode>,
    /// Act on nothing, whatever the file says.
    #[arg(long)]
    dry_run: bool,
}

/// `--mode`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Simulated money.
    Paper,
    /// Real money.
    Real,
}

#[derive(Clone, Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The least severe messages that are logged: error, warn, info, debug or trace.
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = level, env = "CHIRON_LOG_LEVEL")]
    log_level: tracing::Level,
    /// How messages are written: logfmt or json.
    #[arg(long = "log.format", value_name = "FORMAT", default_value = "logfmt", value_parser = format, env = "CHIRON_LOG_FORMAT")]
    log_format: logs::LogFormat,
}

fn level(text: &str) -> Result<tracing::Level, String> {
    logs::parse_level(text).ok_or_else(|| "expected error, warn, info, debug or trace".to_owned())
}

fn format(text: &str) -> Result<logs::LogFormat, String> {
    logs::LogFormat::parse(text).ok_or_else(|| "expected logfmt or json".to_owned())
}

impl SettingsArgs {
    fn inputs(&self) -> Inputs {
        Inputs {
            config_file: self.config_file.clone(),
            workspace: self.workspace.clone(),
            mode: self.mode.map(|mode| match mode {
                Mode::Paper => crate::config::Mode::Paper,
                Mode::Real => crate::config::Mode::Real,
            }),
            dry_run: self.dry_run,
            storage_url: self.storage_url.clone(),
            listen: self.listen.clone(),
            telemetry_path: self.telemetry_path.clone(),
            external_url: self.external_url.clone(),
            web_config_file: self.web_config_file.clone(),
        }
    }
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; the parser's own code for mistakes would read as critical.
            let wanted = !error.use_stderr();
            let _ = error.print();
            return if wanted { ExitCode::SUCCESS } else { ExitCode::from(UNKNOWN) };
        }
    };
    // TLS has one provider in this program; a second installation is no harm.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        None => run::run(&cli.run),
        Some(Command::Run(arguments)) => run::run(&arguments),
        Some(Command::Config { command: ConfigCommand::Check { file, settings } }) => {
            let mut inputs = settings.inputs();
            inputs.config_file = file.or(inputs.config_file);
            let code = config::check(&inputs, &mut std::io::stdout().lock());
            ExitCode::from(u8::try_from(code).unwrap_or(UNKNOWN))
        }
        Some(Command::Demo { command }) => demo::run(command),
    }
}

/// Says an error and its causes on one line of stderr.
fn complain(error: &anyhow::Error) {
    eprintln!("chiron: {error:#}");
}
