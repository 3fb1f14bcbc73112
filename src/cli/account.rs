//! account — builds the accounting files of a run again from its ledger, index and list.
//!
//! For files that were lost, and to prove that they hold nothing but what the ledger holds: as long
//! as the campaign is that of the run, events and messages come out the same, octet by octet. The
//! row of `runs` does not: its end is the time of the rebuilding.

use std::path::PathBuf;

use super::closing::{Closing, first_key};
use super::opening::{Opened, storage};
use super::{Exit, Failure};
use crate::report::{Engine, Report};
use crate::ring::Clock;
use crate::rundir::{CampaignDir, RunDir};
use crate::units::Utc;

/// Arguments of `mailshot account`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot account campaign.toml")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let opened = Opened::open(&args.campaign)?;
    let campaign = &opened.campaign;
    let runs = &campaign.runs.value;
    let lock =
        CampaignDir::lock(runs, &campaign.id.value, std::time::Duration::ZERO).map_err(storage)?;
    let Some((dir, manifest)) = lock.latest().map_err(storage)? else {
        return Err(Failure::new(Exit::Campaign, format!("{} has no run", campaign.id.value)));
    };
    let closing = Closing {
        dir: &dir,
        manifest: &manifest,
        campaign,
        list: &opened.press.list,
        columns: &opened.press.layout,
        key: first_key(&opened.press.signers),
    };
    // What a run that has ended knows of itself is kept: its end and its engine figures.
    let (engine, now) = match dir.is_finished() {
        true => ended(&dir)?,
        false => (Engine::default(), Clock::start().utc()),
    };
    let report = closing.close(engine, now)?;
    print!("{}", report.text());
    Ok(Exit::Done)
}

fn ended(dir: &RunDir) -> Result<(Engine, Utc), Failure> {
    let path = dir.file("report.json");
    let wrong = |why: String| Failure::new(Exit::Storage, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    Ok((report.engine, Utc(report.ended_us)))
}
