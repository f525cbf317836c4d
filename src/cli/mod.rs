//! The command line; one file per command. What concerns a running chiron is asked over HTTP.
//!
//! **Invariant:** exit codes follow the Nagios convention for one-shot commands (0 ok, 1 warning, 2 critical, 3 unknown,
//! wrong arguments and settings included); `run` ends with 0 or 1,
//! or 3 before it begins if its settings are wrong.
#![expect(clippy::print_stderr, reason = "the command line talks to a person")]

mod approve;
mod audit;
mod check;
mod client;
pub mod config;
mod credentials;
mod demo;
mod drill;
mod gate;
mod heal;
mod issues;
mod maintenance;
mod output;
mod policy;
mod run;
mod shell;
mod story;
mod workspace;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::Inputs;
use crate::telemetry::logs;
use output::{Console, Output};

/// Nagios: all is well.
const OK: u8 = 0;
/// Nagios: warning.
const WARNING: u8 = 1;
/// Nagios: critical.
const CRITICAL: u8 = 2;
/// Nagios: cannot tell; also wrong arguments and settings.
const UNKNOWN: u8 = 3;

/// The healer that stands beside an algorithmic-trading platform.
///
/// Without a command it runs. One-shot commands ask a running chiron over HTTP, print a table or, with --output json,
/// JSON, and end with 0, 1, 2 or 3 in the convention of Nagios plugins. Wrong arguments end with 3.
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
    Check(check::CheckArgs),
    Issues(issues::IssuesArgs),
    Actions(issues::ActionsArgs),
    Recommendations(approve::RecommendationsArgs),
    Approve(approve::ApproveArgs),
    Reject(approve::RejectArgs),
    Policy(policy::PolicyArgs),
    Heal(Box<heal::HealArgs>),
    Gate(Box<gate::GateArgs>),
    Drill(drill::DrillArgs),
    Maintenance(maintenance::MaintenanceArgs),
    Audit(audit::AuditArgs),
    /// Look at settings.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    /// Simulated parts of a platform.
    Demo {
        #[command(subcommand)]
        command: demo::DemoCommand,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Tell every mistake of a settings file, each with file, line and column.
    ///
    /// Exit codes: 0 no mistake, 3 mistakes, or no such file.
    Check {
        /// The file; the one of `--config.file` otherwise.
        file: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsArgs,
        /// How the answer is shown.
        #[arg(long, value_name = "FORMAT", value_enum, default_value = "table")]
        output: Output,
    },
    /// Print the JSON Schema of the settings file, for editors and linters.
    Schema,
    /// Tell the settings in force with every default, without secrets: of a running chiron, or of a file.
    ///
    /// Exit codes: 0, or 3 unreachable, refused, or mistakes in the file.
    Show(Box<config::ShowArgs>),
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

impl Command {
    /// In which form its answer is wanted.
    fn output(&self) -> Output {
        match self {
            Self::Check(args) => args.remote.output,
            Self::Issues(args) => args.remote.output,
            Self::Actions(args) => args.remote.output,
            Self::Recommendations(args) => args.remote.output,
            Self::Approve(args) => args.remote.output,
            Self::Reject(args) => args.remote.output,
            Self::Policy(args) => args.remote.output,
            Self::Heal(args) => args.output,
            Self::Gate(args) => args.output,
            Self::Drill(args) => args.remote.output,
            Self::Maintenance(args) => args.remote.output,
            Self::Audit(args) => args.remote.output,
            Self::Config { command: ConfigCommand::Check { output, .. } } => *output,
            Self::Config { command: ConfigCommand::Show(args) } => args.remote.output,
            Self::Config { command: ConfigCommand::Schema }
            | Self::Run(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Demo { .. } => Output::Table,
        }
    }
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
            environment: crate::execute::Environment::of_this_process(),
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
    let Some(command) = cli.command else { return run::run(&cli.run) };
    let mut out = io::stdout().lock();
    match command {
        Command::Run(arguments) => {
            drop(out);
            run::run(&arguments)
        }
        Command::Demo { command } => {
            drop(out);
            demo::run(command)
        }
        command => {
            let result = one_shot(command, &mut out);
            ended(result.and_then(|code| Ok(out.flush().map(|()| code)?)))
        }
    }
}

/// Commands that print their answer and end.
fn one_shot(command: Command, out: &mut dyn Write) -> anyhow::Result<u8> {
    if command.output() == Output::Nagios && !matches!(command, Command::Check(_)) {
        anyhow::bail!("found --output nagios, which is for `check` alone; expected table or json");
    }
    match command {
        Command::Run(_) | Command::Demo { .. } => unreachable!("neither is a one-shot command"),
        Command::Check(args) => asked(args.remote.output, out, async |console| check::run(&args, console).await),
        Command::Issues(args) => asked(args.remote.output, out, async |console| issues::issues(&args, console).await),
        Command::Actions(args) => asked(args.remote.output, out, async |console| issues::actions(&args, console).await),
        Command::Recommendations(args) => {
            asked(args.remote.output, out, async |console| approve::list(&args, console).await)
        }
        Command::Approve(args) => {
            asked(args.remote.output, out, async |console| approve::approve(&args, console).await)
        }
        Command::Reject(args) => asked(args.remote.output, out, async |console| approve::reject(&args, console).await),
        Command::Policy(args) => asked(args.remote.output, out, async |console| policy::run(&args, console).await),
        Command::Heal(args) => heal::run(&args, &mut Console::new(out, args.output)),
        Command::Gate(args) => gate::run(&args, &mut Console::new(out, args.output)),
        Command::Drill(args) => asked(args.remote.output, out, async |console| drill::run(&args, console).await),
        Command::Maintenance(args) => {
            asked(args.remote.output, out, async |console| maintenance::run(&args, console).await)
        }
        Command::Audit(args) => asked(args.remote.output, out, async |console| audit::run(&args, console).await),
        Command::Config { command: ConfigCommand::Check { file, settings, output } } => {
            let mut inputs = settings.inputs();
            inputs.config_file = file.or(inputs.config_file);
            let code = match output {
                Output::Json => config::check_json(&inputs, out)?,
                _ => config::check(&inputs, out),
            };
            Ok(u8::try_from(code).unwrap_or(UNKNOWN))
        }
        Command::Config { command: ConfigCommand::Schema } => {
            out.write_all(crate::config::SCHEMA.as_bytes())?;
            Ok(OK)
        }
        Command::Config { command: ConfigCommand::Show(args) } => {
            asked(args.remote.output, out, async |console| config::show(&args, console).await)
        }
        Command::Completions(args) => Ok(shell::completions(&args, out).map(|()| OK)?),
        Command::Man(args) => shell::man(&args, out).map(|()| OK),
    }
}

/// Runs a command that may ask a running chiron.
fn asked(
    output: Output,
    out: &mut dyn Write,
    command: impl AsyncFnOnce(&mut Console<'_>) -> anyhow::Result<u8>,
) -> anyhow::Result<u8> {
    let mut console = Console::new(out, output);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(command(&mut console))
}

/// A reader that has seen enough, such as `head`, is no mistake.
fn ended(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(UNKNOWN)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Says an error and its causes on one line of stderr.
fn complain(error: &anyhow::Error) {
    eprintln!("chiron: {error:#}");
}
