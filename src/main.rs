//! mailshot — the program: reads the command line, does it, ends with an exit code.

use std::process::ExitCode;

use clap::Parser;
use mailshot::cli::{self, Cli};

fn main() -> ExitCode {
    match cli::main(Cli::parse()) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            eprintln!("mailshot: {failure}");
            ExitCode::from(failure.exit as u8)
        }
    }
}
