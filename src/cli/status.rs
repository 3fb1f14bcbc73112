//! status — where a campaign's newest run stands, from its `status.json`.

use std::path::PathBuf;

use super::progress::{Provider, Status, words};
use super::{Exit, Failure, opening};
use crate::rundir::control::{Command, Entry, Fold, Follow, Scope};
use crate::rundir::{self, RunDir};

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
        print!("{}", providers(&status));
    }
    for stop in stops(&run)? {
        println!("{}", stop_line(&stop));
    }
    println!("{}", run.path().display());
    Ok(Exit::Done)
}

/// The groups with the most left, and what keeps each waiting.
fn providers(status: &Status) -> String {
    let mut text = String::new();
    for provider in &status.providers {
        let Provider { name, left, delivered, deferred_attempts, bounced, binding } = provider;
        let name = if name.is_empty() { "(no mail host yet)" } else { name };
        text.push_str(&format!(
            "{name:<32} {left:>9} left · {delivered} delivered · {deferred_attempts} deferrals · \
             {bounced} bounced · waits for {binding}\n"
        ));
    }
    text
}

/// What is stopped until somebody acts.
pub(super) fn stops(run: &RunDir) -> Result<Vec<Stop>, Failure> {
    let mut fold = Fold::default();
    let entries = Follow::open(run).next();
    for entry in entries.map_err(|error| Failure::new(Exit::Storage, error))? {
        fold.apply(&entry);
    }
    let stop = |entry: &Entry| {
        let (halted, scope) = match &entry.command {
            Command::Halt(scope) => (true, scope.clone()),
            Command::Pause(scope) => (false, scope.clone()),
            _ => return None,
        };
        Some(Stop { halted, scope, entry: entry.clone() })
    };
    Ok(fold.stops().filter_map(stop).collect())
}

/// A scope that is stopped until somebody acts.
pub(super) struct Stop {
    /// By a reply or a threshold; else by the operator.
    pub(super) halted: bool,
    pub(super) scope: Scope,
    entry: Entry,
}

/// Since when and why, in one line.
pub(super) fn stop_line(stop: &Stop) -> String {
    let what = if stop.halted { "halted" } else { "paused" };
    format!("{} {what} since {}: {}", stop.scope, stop.entry.time, stop.entry.why)
}
