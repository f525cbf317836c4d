//! `chiron completions` and `chiron man`: made from the same description of the command line that reads the arguments.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Cli;

/// Print completions for a shell, to be sourced or put where it looks for them.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

/// Print the manual page, or write the pages of all commands.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write `chiron.1`, `chiron-check.1` and so on into this folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `chiron completions`
pub(super) fn completions(arguments: &CompletionsArgs, out: &mut dyn Write) -> io::Result<()> {
    // Into memory first: the generator panics if its output goes away.
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "chiron", &mut text);
    out.write_all(&text)
}

/// `chiron man`
pub(super) fn man(arguments: &ManArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    match &arguments.dir {
        None => Ok(Man::new(Cli::command()).render(out)?),
        Some(dir) => pages(dir, out),
    }
}

fn pages(dir: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
    let wrong = |error: io::Error| anyhow::anyhow!("`{}`: {error}, expected a folder to write to", dir.display());
    clap_mangen::generate_to(Cli::command(), dir).map_err(wrong)?;
    writeln!(out, "{}", dir.join("chiron.1").display())?;
    Ok(())
}
