//! cli — the command line: one file for each subcommand, its help text on top.
//!
//! Two layers: clap fills the [`Cli`] struct with what was typed; each command then builds what it
//! needs once and passes it down. Data goes to stdout, everything else to stderr. Commands return
//! how to end; only `main` ends the process.

mod account;
mod check;
mod closing;
mod demo;
mod exit;
mod inspect;
mod lookups;
mod memory;
mod opening;
mod orders;
mod plan;
mod progress;
mod rates;
mod render;
mod report;
mod run;
mod schedules;
mod signals;
mod stages;
mod status;
mod steering;
mod terrain;
mod warming;

use clap::{Parser, Subcommand};

pub use exit::{Exit, Failure};

/// Batch-oriented bulk mail: plan, render, sign, deliver and prove every message of a campaign.
#[derive(Debug, Parser)]
#[command(
    name = "mailshot",
    version,
    about,
    before_help = "\
Examples:
  mailshot demo                          see it work, on this machine only
  mailshot check campaign.toml           find every mistake before anything is sent
  mailshot plan campaign.toml            how long it takes, and what holds it up
  mailshot run campaign.toml             send; run it again to resume",
    after_help = exit::HELP,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a sample campaign, killed and resumed, on this machine only.
    Demo(demo::Args),
    /// Send a campaign, or resume it.
    Run(run::Args),
    /// Check a campaign, its templates, keys and list without sending.
    Check(check::Args),
    /// Say how long a campaign takes and which limits make it so, without sending.
    Plan(plan::Args),
    /// Make the message of one row to look at.
    Render(render::Args),
    /// Show the rate table: what each mailbox provider bears, and who says so.
    Rates(rates::Args),
    /// Change a limit of a running campaign, for example rate.google=1000/h.
    Set(orders::Set),
    /// Begin no further message: at all, at a provider, or from a source.
    Pause(orders::Pause),
    /// Lift a pause or a halt.
    Resume(orders::Resume),
    /// End a campaign; what was not sent is not sent.
    Cancel(orders::Cancel),
    /// Say where a campaign's newest run stands.
    Status(status::Args),
    /// Print the report of a campaign's newest run.
    Report(report::Args),
    /// Build the accounting files of a campaign's newest run again from its ledger.
    Account(account::Args),
    /// Show the records of a spool segment or a ledger file.
    Inspect(inspect::Args),
}

/// Does what the command line says.
///
/// # Errors
/// Whatever ends the command early, with its exit code.
pub fn main(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Inspect(args) => inspect::main(&args),
        Command::Demo(args) => demo::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Check(args) => check::main(&args),
        Command::Plan(args) => plan::main(&args),
        Command::Render(args) => render::main(&args),
        Command::Rates(args) => rates::main(&args),
        Command::Set(args) => orders::set(&args),
        Command::Pause(args) => orders::pause(&args),
        Command::Resume(args) => orders::resume(&args),
        Command::Cancel(args) => orders::cancel(&args),
        Command::Status(args) => status::main(&args),
        Command::Report(args) => report::main(&args),
        Command::Account(args) => account::main(&args),
    }
}
