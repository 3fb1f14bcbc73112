//! orders — `set`, `pause`, `resume` and `cancel`: what an operator wants of a campaign's newest
//! run. An order is a line in the run's `control.jsonl`; a running process sees it within a tenth
//! of a second, and one that is started later begins with what stands there.

use std::path::{Path, PathBuf};

use super::opening::{self, storage};
use super::{Exit, Failure, lookups, terrain};
use crate::campaign::{self, Campaign, Route};
use crate::problem::suggest;
use crate::ring::Clock;
use crate::routes::Directory;
use crate::rundir::control::{self, By, Command, Entry, Scope};
use crate::rundir::{self, RunDir};

/// Arguments of `mailshot set`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot set campaign.toml rate.google=1000/h
  mailshot set campaign.toml connections.yahoo=2 messages_per_connection.yahoo=20
  mailshot set campaign.toml rate.google=none            no limit

Keys: rate, rate_total, connections, connections_total, messages_per_connection; each with a
provider of the rate table, the name of a group that `status` shows, or \"all\".")]
pub(super) struct Set {
    /// The campaign file, or the directory of a run.
    campaign: PathBuf,
    /// What to set: KEY.PROVIDER=VALUE.
    #[arg(required = true, value_parser = control::parse_setting)]
    settings: Vec<Command>,
    #[command(flatten)]
    why: Why,
}

/// Arguments of `mailshot pause`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot pause campaign.toml                        everything; messages under way are finished
  mailshot pause campaign.toml google                 one provider
  mailshot pause campaign.toml google@192.0.2.1       one source at one provider")]
pub(super) struct Pause {
    /// The campaign file, or the directory of a run.
    campaign: PathBuf,
    /// all, a provider, a source, or provider@source.
    #[arg(value_parser = control::parse_scope, default_value = "all")]
    scope: Scope,
    #[command(flatten)]
    why: Why,
}

/// Arguments of `mailshot resume`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot resume campaign.toml                       everything
  mailshot resume campaign.toml google                one provider, after a look at why it halted")]
pub(super) struct Resume {
    /// The campaign file, or the directory of a run.
    campaign: PathBuf,
    /// all, a provider, a source, or provider@source.
    #[arg(value_parser = control::parse_scope, default_value = "all")]
    scope: Scope,
    #[command(flatten)]
    why: Why,
}

/// Arguments of `mailshot cancel`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot cancel campaign.toml --why \"wrong price in the subject\"

Messages under way are finished; every other row ends as cancelled. If no process works on the run,
run it once more to close its books.")]
pub(super) struct Cancel {
    /// The campaign file, or the directory of a run.
    campaign: PathBuf,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, clap::Args)]
struct Why {
    /// The reason, for the record.
    #[arg(long, default_value = "")]
    why: String,
}

pub(super) fn set(args: &Set) -> Result<Exit, Failure> {
    for setting in &args.settings {
        if let Command::Set { scope, what } = setting {
            refuse(scope, what)?;
        }
    }
    let meant = newest(&args.campaign)?;
    for setting in &args.settings {
        if let Command::Set { scope, .. } = setting {
            meant.has(scope)?;
        }
    }
    for setting in &args.settings {
        order(&meant.run, setting.clone(), &args.why.why)?;
    }
    Ok(Exit::Done)
}

/// What delivery cannot do is not put on record.
fn refuse(scope: &Scope, what: &control::Setting) -> Result<(), Failure> {
    let message = match scope {
        Scope::Source(_) | Scope::Lane(..) => {
            "limits hold for each source of a provider alike; leave the source out"
        }
        Scope::All if what.is_total() => {
            "the ceilings over all providers are those of the campaign file; name a provider"
        }
        Scope::All | Scope::Provider(_) => return Ok(()),
    };
    Err(Failure::new(Exit::Usage, format!("{}.{scope}: {message}", what.key())))
}

pub(super) fn pause(args: &Pause) -> Result<Exit, Failure> {
    let meant = newest(&args.campaign)?;
    meant.has(&args.scope)?;
    order(&meant.run, Command::Pause(args.scope.clone()), &args.why.why)
}

pub(super) fn resume(args: &Resume) -> Result<Exit, Failure> {
    let meant = newest(&args.campaign)?;
    meant.has(&args.scope)?;
    order(&meant.run, Command::Resume(args.scope.clone()), &args.why.why)
}

pub(super) fn cancel(args: &Cancel) -> Result<Exit, Failure> {
    order(&newest(&args.campaign)?.run, Command::Cancel, &args.why.why)
}

/// The run that is meant, and what it was begun with as far as that is known.
struct Meant {
    run: RunDir,
    /// The campaign and its file; none for the directory of a run.
    campaign: Option<(Campaign, PathBuf)>,
}

/// The run of a directory, or a campaign's newest.
fn newest(path: &Path) -> Result<Meant, Failure> {
    let meant = match path.join("manifest.json").exists() {
        true => Meant { run: RunDir::open(path.to_owned()), campaign: None },
        false => {
            let (campaign, _) = opening::campaign(path)?;
            let dir = campaign.runs.value.join(&campaign.id.value);
            let latest = rundir::latest(&dir).map_err(storage)?;
            let id = &campaign.id.value;
            let none = || Failure::new(Exit::Campaign, format!("{id} has no run yet"));
            Meant { run: latest.ok_or_else(none)?.0, campaign: Some((campaign, path.to_owned())) }
        }
    };
    match meant.run.is_finished() {
        true => {
            let shown = meant.run.path().display();
            Err(Failure::new(Exit::Campaign, format!("the run in {shown} has ended")))
        }
        false => Ok(meant),
    }
}

impl Meant {
    /// Refuses a scope that is not of this run: a misspelt name would stop nobody, without a word.
    fn has(&self, scope: &Scope) -> Result<(), Failure> {
        let Some((campaign, file)) = &self.campaign else { return Ok(()) };
        if let Some(source) = scope.source() {
            let sources = terrain::sources(campaign);
            if !sources.iter().any(|known| known.address == Some(source)) {
                let message = format!("{scope}: no source of the campaign has this address");
                return Err(Failure::new(Exit::Usage, message));
            }
        }
        let Some(name) = scope.provider() else { return Ok(()) };
        let names = self.names(campaign, file)?;
        if names.iter().any(|known| known == name) {
            return Ok(());
        }
        let help = match suggest(name, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => "`mailshot status` shows the providers that have mail left".to_owned(),
        };
        let message = format!("{scope}: no provider of this run is called {name:?}; {help}");
        Err(Failure::new(Exit::Usage, message))
    }

    /// The providers of the rate table, and the groups of the run.
    fn names(&self, campaign: &Campaign, file: &Path) -> Result<Vec<String>, Failure> {
        if let Route::Host { host, .. } = &campaign.delivery.route.value {
            return Ok(vec![match host {
                campaign::Host::Ip(ip) => ip.to_string(),
                campaign::Host::Name(name) => name.clone(),
            }]);
        }
        let table = terrain::table(campaign, file)?;
        let mut names: Vec<String> = table.rows.into_iter().map(|row| row.name).collect();
        let text = std::fs::read_to_string(self.run.file(lookups::FILE)).unwrap_or_default();
        // A run that has just begun has none yet.
        if let Ok(directory) = Directory::decode(&text) {
            names.extend(directory.groups().iter().map(|group| group.name.clone()));
        }
        Ok(names)
    }
}

fn order(run: &RunDir, command: Command, why: &str) -> Result<Exit, Failure> {
    let (time, why) = (Clock::start().utc(), why.to_owned());
    let entry = Entry { time, by: By::Operator, command, why };
    control::append(run, &entry).map_err(storage)?;
    Ok(Exit::Done)
}
