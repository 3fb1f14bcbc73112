//! plan — how long a campaign takes and which limits make it so, before anything is sent.
//!
//! Reads what `check` reads, asks the DNS for the list's domains, and holds the rows of each
//! provider against the rate table, the warm-up of the sources and what earlier runs have sent.
//! It connects to no mail host and leaves nothing on disk. What receivers will defer or refuse is
//! not foreseen and comes on top; a simulation has it as far as it is assumed. A day of a warm-up
//! is taken to begin with the run, although the next stage comes at midnight UTC, so the plan of a
//! warm-up is late rather than early.

mod forecast;
mod show;
mod simulation;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::memory::{HISTORY, Memory};
use super::opening::{Opened, chain};
use super::render::take_in;
use super::terrain::{self, Terrain};
use super::{Exit, Failure, schedules};
use crate::campaign::{Campaign, Route};
use crate::destination::{DomainNo, GroupNo};
use crate::history::{self, Past};
use crate::outcome::Binding;
use crate::rates::warmup::Schedule;
use crate::rates::{Bucket, Table};
use crate::recipients::{Counts, Index, Reason};
use crate::ring::Clock;
use crate::units::{self, Human, Tick, Utc};
use forecast::{Bind, Forecast, Ground, Need, Sender, Warming, families};
use simulation::Simulation;

/// Arguments of `mailshot plan`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot plan campaign.toml                  how long, until when, and what holds it up
  mailshot plan campaign.toml --deadline 24h   how many sources that would need
  mailshot plan campaign.toml --sources 16     as if there were 16 like the first
  mailshot plan campaign.toml --simulate       deliver it in virtual time, retries and all
  mailshot plan campaign.toml --json           the same numbers for programs")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
    /// Say what it would take to finish within this time, for example 24h.
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    deadline: Option<Duration>,
    /// How long one message is assumed to occupy a connection.
    #[arg(long, value_name = "TIME", value_parser = latency, default_value = "500ms")]
    latency: Duration,
    /// Plan as if there were so many sources like the first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    sources: Option<u32>,
    /// Deliver it in virtual time too, to receivers that behave as assumed.
    #[arg(long)]
    simulate: bool,
    /// The same seed makes the same simulation.
    #[arg(long, value_name = "N", default_value = "1", requires = "simulate")]
    seed: u64,
    /// Attempts that the receivers of a simulation put off.
    #[arg(long, value_name = "SHARE", value_parser = permille, default_value = "2%",
          requires = "simulate")]
    deferral: Permille,
    /// Recipients that do not exist in a simulation.
    #[arg(long, value_name = "SHARE", value_parser = permille, default_value = "1%",
          requires = "simulate")]
    bad: Permille,
    /// Show every provider and not only the slowest.
    #[arg(long)]
    all: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn latency(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        Duration::ZERO => Err("no message takes no time".to_owned()),
        latency => Ok(latency),
    }
}

/// So many of a thousand.
#[derive(Clone, Copy, Debug)]
struct Permille(u32);

/// A percentage with at most one decimal place.
fn permille(text: &str) -> Result<Permille, String> {
    let wrong = || format!("{text:?} is not such a share; write for example \"2%\" or \"0.5%\"");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() > 1 {
        return Err(wrong());
    }
    let permille: u32 = format!("{whole}{tenth}").parse().map_err(|_| wrong())?;
    if permille <= 1_000 { Ok(Permille(permille)) } else { Err(wrong()) }
}

/// The plan, as text and JSON show it.
#[derive(Debug, Serialize)]
struct Plan {
    /// Of this form; another meaning of a field is another version.
    version: u32,
    campaign: String,
    /// When it was made; all times begin here.
    at: String,
    /// What was assumed of each message.
    latency_ms: u128,
    rows: u32,
    /// Rows that are sent to; those of `unresolved` are among them.
    accepted: u64,
    /// Rows by the word of their reason.
    excluded: BTreeMap<&'static str, u64>,
    /// The dead domains with the most rows.
    dead: Vec<(String, &'static str, u64)>,
    unresolved: Unresolved,
    sources: Vec<Origin>,
    /// The slowest first.
    providers: Vec<Forecast>,
    total: Total,
    deadline: Option<Deadline>,
    /// Only when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    simulation: Option<Simulation>,
}

/// What the DNS did not answer for.
#[derive(Debug, Default, Serialize)]
struct Unresolved {
    domains: u64,
    rows: u64,
}

/// A source.
#[derive(Debug, Serialize)]
struct Origin {
    count: u32,
    address: Option<String>,
    ehlo_name: String,
    weight: u32,
    warm_up: Vec<Warmth>,
}

/// How far a source is at some providers.
#[derive(Debug, Serialize)]
struct Warmth {
    schedule: String,
    since: String,
    /// From 1; `None` when it is warm there.
    stage: Option<usize>,
    stages: usize,
    /// Today's share.
    cap: String,
    /// How many providers, and the slowest of them.
    providers: u64,
    such_as: Vec<String>,
}

/// The whole.
#[derive(Debug, Serialize)]
struct Total {
    recipients: u64,
    takes_seconds: Option<f64>,
    finish: Option<String>,
    /// The slowest provider; `None` when a limit of the whole run binds.
    provider: Option<String>,
    binds: Bind,
    #[serde(skip)]
    takes: Duration,
}

/// What a deadline asks for.
#[derive(Debug, Serialize)]
struct Deadline {
    seconds: f64,
    met: bool,
    /// How many sources would do; `None` when no number does.
    sources: Option<u32>,
    /// Each provider that is late.
    missed: Vec<Need>,
    /// A limit of the whole run that is too narrow.
    ceiling: Option<Bind>,
    #[serde(skip)]
    wanted: Duration,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let plan = made(args)?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&plan).expect("a plan has no odd keys") + "\n",
        false => show::text(&plan, args.all),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough (`| head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, error))
        }
        _ => Ok(Exit::Done),
    }
}

fn made(args: &Args) -> Result<Plan, Failure> {
    let now = Clock::start().utc();
    let opened = Opened::open(&args.campaign)?;
    let campaign = &opened.campaign;
    let table = terrain::table(campaign, &opened.file)?;
    let schedules = schedules::schedules(campaign)?;
    let (counts, index) = take_in(&opened)?;
    opened.try_out(&index, now)?;
    let rows = rows_of(&counts, &index)?;
    let terrain = terrain_of(campaign, &table, &counts, (now, args.json))?;
    let memory = Memory::of_others(past(campaign, now)?);
    let senders = senders(campaign, &schedules, args.sources);
    let ground = Ground {
        terrain: &terrain,
        table: &table,
        smarthost: match campaign.delivery.route.value {
            Route::Mx => None,
            Route::Host { .. } => Some(campaign.delivery.route.place.clone()),
        },
        senders: &senders,
        past: &memory.all,
        now,
        latency: args.latency,
        families: families(&terrain),
    };
    let mut plan = Plan {
        version: 1,
        campaign: campaign.id.value.clone(),
        at: now.to_string(),
        latency_ms: args.latency.as_millis(),
        rows: counts.rows,
        accepted: u64::from(counts.accepted),
        excluded: BTreeMap::new(),
        dead: Vec::new(),
        unresolved: Unresolved::default(),
        sources: Vec::new(),
        providers: forecasts(&ground, &rows),
        total: nothing(),
        deadline: None,
        simulation: None,
    };
    leave_out(&mut plan, &counts, &terrain, &rows);
    plan.sources = from(campaign, &ground, &plan.providers);
    let ceiling = ceiling(campaign, &ground, &plan.providers);
    plan.total = total(&plan.providers, ceiling.as_ref(), now);
    plan.deadline = args.deadline.map(|wanted| deadline(&ground, &plan, ceiling, wanted));
    if args.simulate {
        let simulated = simulation::simulation(args, &opened, &ground, &memory, &rows)?;
        plan.simulation = Some(simulated);
    }
    Ok(plan)
}

/// Accepted rows by the number of their domain.
fn rows_of(counts: &Counts, index: &Index) -> Result<Vec<u64>, Failure> {
    let mut rows = vec![0; counts.domains.len()];
    let each = index.each(&mut |entry| {
        if let Some(domain) = entry.domain.filter(|_| entry.excluded.is_none()) {
            rows[domain.index()] += 1;
        }
    });
    each.map_err(|error| Failure::new(Exit::Internal, chain(&error)))?;
    Ok(rows)
}

fn terrain_of(
    campaign: &Campaign,
    table: &Table,
    counts: &Counts,
    when: (Utc, bool),
) -> Result<Terrain, Failure> {
    match campaign.delivery.route.value {
        Route::Host { .. } => Terrain::smarthost(campaign, false),
        Route::Mx => {
            let directory = terrain::directory(campaign, table, &counts.domains, when)?;
            Ok(Terrain::of(directory, table, campaign.delivery.port))
        }
    }
}

/// What earlier runs have sent, as far back as a run looks.
fn past(campaign: &Campaign, now: Utc) -> Result<Past, Failure> {
    let since = Utc(now.0 - i64::try_from(HISTORY.as_micros()).unwrap_or(0));
    history::read(&campaign.runs.value, since, "")
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))
}

/// The sources to plan with.
fn senders<'a>(
    campaign: &'a Campaign,
    schedules: &'a [Schedule],
    like_the_first: Option<u32>,
) -> Vec<Sender<'a>> {
    let sender = |source: &'a crate::campaign::Source| Sender {
        count: like_the_first.unwrap_or(1),
        address: source.address.as_ref().map(|address| address.value),
        warming: source.warmup.as_ref().map(|warming| Warming {
            schedule: schedules::named(schedules, &warming.schedule.value)
                .expect("every name was looked up when the schedules were read"),
            from: warming.from,
            place: &warming.schedule.place,
        }),
    };
    let most = if like_the_first.is_some() { 1 } else { usize::MAX };
    terrain::pool(campaign).take(most).map(sender).collect()
}

/// All groups that have rows, the slowest first.
fn forecasts(ground: &Ground<'_>, rows: &[u64]) -> Vec<Forecast> {
    let mut of = vec![(0, 0); ground.terrain.groups.len()];
    for (domain, count) in (0..).map(DomainNo).zip(rows) {
        if let Some((_, group)) = ground.terrain.place(domain) {
            let (recipients, domains) = &mut of[group.index()];
            *recipients += count;
            *domains += 1;
        }
    }
    let groups = (0..).map(GroupNo).zip(of).filter(|(_, (recipients, _))| *recipients > 0);
    let mut all: Vec<Forecast> = groups
        .map(|(group, (recipients, domains))| ground.forecast(group, recipients, domains))
        .collect();
    all.sort_by(|a, b| (b.takes, b.recipients, &a.name).cmp(&(a.takes, a.recipients, &b.name)));
    all
}

/// Dead domains of which the text and JSON have the names.
const DEAD_NAMED: usize = 10;

/// Counts what is not sent to, and what is not known yet.
fn leave_out(plan: &mut Plan, counts: &Counts, terrain: &Terrain, rows: &[u64]) {
    for reason in Reason::ALL.iter().filter(|reason| counts.excluded(**reason) > 0) {
        plan.excluded.insert(reason.word(), u64::from(counts.excluded(*reason)));
    }
    let Some(directory) = &terrain.directory else { return };
    for (domain, rows) in (0..).map(DomainNo).zip(rows) {
        if let Some(reason) = terrain::dead(directory, domain) {
            *plan.excluded.entry(reason.word()).or_default() += rows;
            plan.accepted -= rows;
            plan.dead.push((directory.name(domain).to_owned(), reason.word(), *rows));
        }
    }
    plan.dead.sort_by(|a, b| (b.2, &a.0).cmp(&(a.2, &b.0)));
    plan.dead.truncate(DEAD_NAMED);
    for domain in directory.unresolved() {
        plan.unresolved.domains += 1;
        plan.unresolved.rows += rows[domain.index()];
    }
}

/// Providers named where a source is warming up.
const WARMTH_NAMED: usize = 3;

/// The sources, and how far each is in its warm-up.
fn from(campaign: &Campaign, ground: &Ground<'_>, providers: &[Forecast]) -> Vec<Origin> {
    let mut all = Vec::new();
    for (sender, source) in ground.senders.iter().zip(terrain::sources(campaign)) {
        let mut stages: BTreeMap<Option<usize>, Warmth> = BTreeMap::new();
        for provider in providers {
            let Some(warming) = &sender.warming else { break };
            let cold = ground.stage(sender, &provider.name);
            let stage = cold.as_ref().map(|(stage, ..)| stage + 1);
            let warmth = stages.entry(stage).or_insert_with(|| Warmth {
                schedule: warming.schedule.name.clone(),
                since: warming.from.date(),
                stage,
                stages: warming.schedule.stages.len(),
                cap: cold.map_or_else(|| "no cap".to_owned(), |(_, cap, _)| forecast::share(&cap)),
                providers: 0,
                such_as: Vec::new(),
            });
            warmth.providers += 1;
            if warmth.such_as.len() < WARMTH_NAMED {
                warmth.such_as.push(provider.name.clone());
            }
        }
        all.push(Origin {
            count: sender.count,
            address: source.address.map(|address| address.to_string()),
            ehlo_name: source.ehlo_name,
            weight: source.weight,
            warm_up: stages.into_values().collect(),
        });
    }
    all
}

/// What the limits of the whole run make of all recipients, where mail goes to many providers.
fn ceiling(
    campaign: &Campaign,
    ground: &Ground<'_>,
    providers: &[Forecast],
) -> Option<(Duration, Bind)> {
    let delivery = &campaign.delivery;
    let recipients: u64 = providers.iter().map(|provider| provider.recipients).sum();
    if delivery.route.value != Route::Mx || recipients == 0 {
        return None;
    }
    let latency = ground.latency.as_secs_f64();
    let place = format!("{} [delivery]", delivery.route.place.file);
    let connections = delivery.connections;
    let words = format!("connections {connections} to all at {} a message", Human(ground.latency));
    let busy = recipients as f64 / f64::from(connections) * latency;
    let mut narrowest = (busy, Bind::new(Binding::Ceiling, words, place.clone()));
    if let Some(rate) = delivery.rate {
        let interval = Bucket::new(rate, Tick(0)).interval().as_secs_f64();
        let seconds = (recipients - 1) as f64 * interval + latency;
        if seconds > narrowest.0 {
            let words = format!("rate {rate} to all");
            narrowest = (seconds, Bind::new(Binding::Ceiling, words, place));
        }
    }
    Some((Duration::try_from_secs_f64(narrowest.0).unwrap_or(Duration::MAX), narrowest.1))
}

fn nothing() -> Total {
    Total {
        recipients: 0,
        takes_seconds: Some(0.0),
        finish: None,
        provider: None,
        binds: Bind::new(Binding::Nothing, "nothing", String::new()),
        takes: Duration::ZERO,
    }
}

/// The slowest provider, or the limit of the whole run if that is slower still.
fn total(providers: &[Forecast], ceiling: Option<&(Duration, Bind)>, now: Utc) -> Total {
    let Some(slowest) = providers.first() else { return nothing() };
    let (takes, provider, binds) = match ceiling {
        Some((takes, binds)) if *takes > slowest.takes => (*takes, None, binds),
        _ => (slowest.takes, Some(slowest.name.clone()), &slowest.binds),
    };
    let never = takes == Duration::MAX;
    Total {
        recipients: providers.iter().map(|provider| provider.recipients).sum(),
        takes_seconds: (!never).then_some(takes.as_secs_f64()),
        finish: (!never).then(|| now.after(takes).to_string()),
        provider,
        binds: binds.clone(),
        takes,
    }
}

fn deadline(
    ground: &Ground<'_>,
    plan: &Plan,
    ceiling: Option<(Duration, Bind)>,
    wanted: Duration,
) -> Deadline {
    let late = plan.providers.iter().filter(|provider| provider.takes > wanted);
    let missed: Vec<Need> = late.map(|provider| ground.need(provider, wanted)).collect();
    let ceiling = ceiling.filter(|(takes, _)| *takes > wanted).map(|(_, binds)| binds);
    let has = ground.senders.iter().map(|sender| sender.count).sum();
    let enough = missed.iter().try_fold(has, |most: u32, need| Some(most.max(need.sources?)));
    Deadline {
        seconds: wanted.as_secs_f64(),
        met: missed.is_empty() && ceiling.is_none(),
        sources: enough.filter(|_| ceiling.is_none()),
        missed,
        ceiling,
        wanted,
    }
}
