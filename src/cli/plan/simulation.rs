//! simulation — the same campaign through the delivery stage itself, in virtual time, against
//! receivers that behave as assumed.
//!
//! The arithmetic of a forecast knows each limit by itself; here they act together, with retries,
//! pauses and the ceilings of the whole run. A day of a warm-up is taken to pass.
//!
//! How it fails: without room for the ledger of a simulated run. It must not know how it looks.

use std::time::Duration;

use serde::Serialize;

use super::super::memory::Memory;
use super::super::opening::chain;
use super::super::terrain;
use super::super::{Exit, Failure};
use super::forecast::{Ground, Sender, per_day};
use super::{Args, Opened};
use crate::campaign::Campaign;
use crate::deliver::{Order, Settings};
use crate::destination::{DomainNo, GroupNo, SourceNo};
use crate::rates::warmup::Quota;
use crate::simulate::{self, Assumed, Assumptions, Latency, Predicted};
use crate::units::Utc;

/// Replies that a message waits for one after the other: that to its envelope, whose commands go
/// together (RFC 2920), and that to its dot.
const REPLIES: u32 = 2;
/// How many times as long as usual the slowest of twenty replies takes: an assumption.
const TAIL: u32 = 4;

/// What a simulation showed.
#[derive(Debug, Serialize)]
pub(super) struct Simulation {
    pub(super) seed: u64,
    /// The assumptions, as shares of attempts and of recipients.
    pub(super) deferral: f64,
    pub(super) bad: f64,
    /// The last to finish first.
    pub(super) providers: Vec<Simulated>,
    pub(super) total: Simulated,
}

/// What it showed of one group, or of all.
#[derive(Debug, Serialize)]
pub(super) struct Simulated {
    /// The group's name; of the total, the group that was the last.
    pub(super) name: String,
    pub(super) recipients: u64,
    /// From the start to the first attempt, and to the last outcome.
    pub(super) first_seconds: Option<f64>,
    pub(super) last_seconds: Option<f64>,
    pub(super) finish: Option<String>,
    pub(super) delivered: u64,
    pub(super) bounced: u64,
    pub(super) expired: u64,
    /// Attempts, not recipients.
    pub(super) deferred: u64,
    /// Recipients for whom nothing would happen any more.
    pub(super) unfinished: u64,
    /// The word of the limit that most attempts had waited for last, and their share.
    pub(super) binds: &'static str,
    pub(super) share: f64,
    #[serde(skip)]
    pub(super) first: Option<Duration>,
    #[serde(skip)]
    pub(super) last: Option<Duration>,
}

/// Simulates the run that a plan is about; `rows` are those of each domain.
pub(super) fn simulation(
    args: &Args,
    opened: &Opened,
    ground: &Ground<'_>,
    memory: &Memory,
    rows: &[u64],
) -> Result<Simulation, Failure> {
    let rows = by_site(ground, rows);
    let mut settings = settings(&opened.campaign, ground, args.sources);
    settings.past = memory.past(&settings, ground.now);
    settings.quotas = quotas(ground, &settings);
    let orders = new_days(ground, &settings, &rows);
    let p50 = args.latency / REPLIES;
    let latency = Latency { p50, p95: p50 * TAIL };
    let (deferred, bad) = (args.deferral.0, args.bad.0);
    let usual = Assumed { latency, deferred, bad };
    let assumptions = Assumptions { usual, groups: Vec::new() };
    let predicted = simulate::predict(&simulate::Plan {
        settings: &settings,
        rows: &rows,
        orders: &orders,
        assumptions: &assumptions,
        begun: ground.now,
        seed: args.seed,
    });
    let predicted = predicted.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    let named = settings.groups.iter().zip(&predicted.groups).filter(|(_, of)| of.rows > 0);
    let mut providers: Vec<Simulated> =
        named.map(|(group, of)| Simulated::of(&group.name, of, ground.now)).collect();
    providers.sort_by(|a, b| (b.last, b.recipients, &a.name).cmp(&(a.last, a.recipients, &b.name)));
    let last = providers.first().map_or("", |slowest| slowest.name.as_str());
    let total = Simulated::of(last, &predicted.total, ground.now);
    let share = |permille: u32| f64::from(permille) / 1_000.0;
    Ok(Simulation { seed: args.seed, deferral: share(deferred), bad: share(bad), providers, total })
}

impl Simulated {
    fn of(name: &str, of: &Predicted, now: Utc) -> Simulated {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        Simulated {
            name: name.to_owned(),
            recipients: of.rows,
            first_seconds: seconds(of.first),
            last_seconds: seconds(of.last),
            finish: of.last.filter(|_| of.unfinished == 0).map(|last| now.after(last).to_string()),
            delivered: of.delivered,
            bounced: of.bounced,
            expired: of.expired,
            deferred: of.deferred,
            unfinished: of.unfinished,
            binds: of.binding().word(),
            share: of.share(of.binding()),
            first: of.first,
            last: of.last,
        }
    }
}

/// The rows of each site.
fn by_site(ground: &Ground<'_>, rows: &[u64]) -> Vec<u32> {
    let mut of = vec![0; ground.terrain.sites.len()];
    for (domain, count) in (0..).map(DomainNo).zip(rows) {
        if let Some((site, _)) = ground.terrain.place(domain) {
            of[site.index()] += u32::try_from(*count).expect("rows count in 32 bits");
        }
    }
    of
}

/// What the run would tell the delivery stage.
fn settings(campaign: &Campaign, ground: &Ground<'_>, sources: Option<u32>) -> Settings {
    let mut settings = terrain::settings(campaign, ground.terrain);
    if let Some(count) = sources {
        let first = settings.sources.first().expect("a campaign has a source").clone();
        settings.sources = vec![first; count as usize];
    }
    settings
}

/// Every source of the settings with the sender that it is one of.
fn senders<'g>(ground: &'g Ground<'_>) -> impl Iterator<Item = (SourceNo, &'g Sender<'g>)> {
    let each = ground.senders.iter().flat_map(|sender| (0..sender.count).map(move |_| sender));
    (0..).map(SourceNo).zip(each)
}

/// What the warm-up leaves to each lane today.
fn quotas(ground: &Ground<'_>, settings: &Settings) -> Vec<(GroupNo, SourceNo, Quota)> {
    let mut quotas = Vec::new();
    for (source, sender) in senders(ground).filter(|(_, sender)| sender.warming.is_some()) {
        for (number, group) in (0..).map(GroupNo).zip(&settings.groups) {
            let Some((_, cap, _)) = ground.stage(sender, &group.name) else { continue };
            let sent = |address| ground.past.today(address, &group.name, ground.now);
            let (day, hour) = sender.address.map_or((0, 0), sent);
            quotas.push((number, source, Quota::new(cap, ground.now, day, hour)));
        }
    }
    quotas
}

/// The shares of the days to come, at each midnight, where a group has more rows than today's.
fn new_days(ground: &Ground<'_>, settings: &Settings, rows: &[u32]) -> Vec<(Utc, Order)> {
    let mut of = vec![0; settings.groups.len()];
    for (site, count) in settings.sites.iter().zip(rows) {
        of[site.group.index()] += u64::from(*count);
    }
    let mut orders = Vec::new();
    for (source, sender) in senders(ground) {
        let Some(warming) = &sender.warming else { continue };
        let stages = &warming.schedule.stages;
        for (number, group) in (0..).map(GroupNo).zip(&settings.groups) {
            let Some((stage, cap, _)) = ground.stage(sender, &group.name) else { continue };
            if per_day(&cap).is_some_and(|cap| of[number.index()] <= cap) {
                continue;
            }
            for (day, stage) in (1..).zip(stage + 1..=stages.len()) {
                let midnight = Utc((ground.now.day() + day) * 86_400_000_000);
                let cap = stages.get(stage).copied();
                orders.push((midnight, Order::Cap(number, source, cap)));
            }
        }
    }
    orders
}
