//! Parses arguments, calls `cli`, turns the result into an exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    chiron::cli::main()
}
