//! status — where a campaign's newest run stands, from its `status.json`.

use std::path::PathBuf;

use super::progress::{Status, words};
use super::{Exit, Failure, opening};
use crate::rundir;

/// Arguments of `mailshot status`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot status campaign.toml")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let (campaign, _) = opening::campaign(&args.campaign)?;
    let dir = campaign.runs.value.join(&campaign.id.value);
    let latest = rundir::latest(&dir).map_err(|error| Failure::new(Exit::Storage, error))?;
    let Some((run, manifest)) = latest else {
        println!("{} has no run yet", campaign.id.value);
        return Ok(Exit::Done);
    };
    let state = if run.is_finished() { "ended" } else { "not ended" };
    println!(
        "{} · run {} · started {} · {state}",
        manifest.campaign, manifest.run, manifest.started
    );
    if let Ok(text) = std::fs::read_to_string(run.file("status.json")) {
        let status: Status = serde_json::from_str(&text)
            .map_err(|error| Failure::new(Exit::Storage, format!("status.json: {error}")))?;
        let alive = std::path::Path::new(&format!("/proc/{}", status.pid)).exists();
        let writer = if alive && !run.is_finished() { "running" } else { "not running" };
        println!("{}/{} settled at {}", status.settled, status.to_settle, status.updated);
        println!("{} · process {} {writer}", words(&status), status.pid);
    }
    println!("{}", run.path().display());
    Ok(Exit::Done)
}
