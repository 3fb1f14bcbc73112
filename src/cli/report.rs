//! report — the report of a campaign's newest run, as it was printed at its end.

use std::path::PathBuf;

use super::{Exit, Failure, opening};
use crate::report::Report;
use crate::rundir;

/// Arguments of `mailshot report`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot report campaign.toml
  mailshot report campaign.toml --json | jq .sums")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
    /// Print report.json.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let (campaign, _) = opening::campaign(&args.campaign)?;
    let dir = campaign.runs.value.join(&campaign.id.value);
    let latest = rundir::latest(&dir).map_err(|error| Failure::new(Exit::Storage, error))?;
    let Some((run, manifest)) = latest else {
        return Err(Failure::new(Exit::Campaign, format!("{} has no run", campaign.id.value)));
    };
    let path = run.file("report.json");
    if !run.is_finished() {
        let message = format!("run {} has not ended; see mailshot status", manifest.run);
        return Err(Failure::new(Exit::Incomplete, message));
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", path.display())))?;
    if args.json {
        println!("{text}");
        return Ok(Exit::Done);
    }
    let report: Report = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", path.display())))?;
    print!("{}", report.text());
    Ok(Exit::Done)
}
