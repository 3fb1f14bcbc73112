//! predict — what a campaign would do: its delivery in virtual time, from its first message to its
//! last, as fast as the machine can.
//!
//! The delivery stage, its limits and its ledger are the real ones; the providers are simulated and
//! have no limits of their own, only the habits that somebody assumes of them. Each site gets one
//! host with an address of its own for each kind that its real hosts have, so that the policy for
//! addresses holds and nothing else depends on the real ones.
//!
//! How it fails: without room for a small spool and the ledger (in memory, where that can be had).
//! What the sender itself would never finish is counted and no error.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam::channel::unbounded;
use rustix::fs::statvfs;

use super::calendar::Calendar;
use super::ring::STALLED;
use super::{Chance, Feeder, Habits, Latency, Making, Providers, SimRing, Work};
use crate::deliver::{self, Channels, DeliverError, Live, Order, Settings};
use crate::destination::{GroupNo, Host, Site, SiteNo};
use crate::ledger::{self, Desk, LedgerError, Record, Tail, Writer};
use crate::outcome::{Binding, Kind, Outcome, Row};
use crate::ring::RingError;
use crate::spool::{self, SpoolError};
use crate::units::{Tick, Utc};

/// Segments of the small spool.
const SEGMENTS: usize = 16;
/// Room for some 300 messages of the simulation.
const SEGMENT_BYTES: usize = 64 << 10;
/// Where files are in memory.
const MEMORY: &str = "/dev/shm";
/// Room in the ledger for a row: measured are 330 octets with a deferral of 2 %; three times that.
const ROW_BYTES: u64 = 1 << 10;
/// The name of the run in its ledger.
const RUN: &str = "simulated";

/// What is predicted.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    /// Groups, sites, sources, limits and ceilings, as delivery would have them. Threads, speed and
    /// addresses do not matter.
    pub settings: &'a Settings,
    /// The rows of each site, in the order of the sites.
    pub rows: &'a [u32],
    /// What the stage is told on its way, such as the shares of a new day.
    pub orders: &'a [(Utc, Order)],
    /// How the providers are taken to behave.
    pub assumptions: &'a Assumptions,
    /// When the run would begin.
    pub begun: Utc,
    /// The same seed makes the same prediction.
    pub seed: u64,
}

/// How the providers are taken to behave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assumptions {
    /// All that are not named.
    pub usual: Assumed,
    /// Some groups.
    pub groups: Vec<(GroupNo, Assumed)>,
}

/// How one provider is taken to behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    /// How long replies take.
    pub latency: Latency,
    /// Attempts of a thousand that are deferred, each on its own.
    pub deferred: u32,
    /// Recipients of a thousand that do not exist.
    pub bad: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Each group, in the order of the settings.
    pub groups: Vec<Predicted>,
    /// All together.
    pub total: Predicted,
}

/// What came of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predicted {
    /// Its rows.
    pub rows: u64,
    /// From the start of the run to the first attempt; `None` without any.
    pub first: Option<Duration>,
    /// From the start of the run to the last outcome.
    pub last: Option<Duration>,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages refused for good.
    pub bounced: u64,
    /// Messages given up.
    pub expired: u64,
    /// Attempts deferred; they are made again.
    pub deferred: u64,
    /// Messages that would never end: nothing is left that could happen to them.
    pub unfinished: u64,
    /// Of the attempts, how many had waited last for which limit; the most frequent first.
    pub bindings: Vec<(Binding, u64)>,
}

impl Predicted {
    /// What kept most of its messages waiting.
    pub fn binding(&self) -> Binding {
        self.bindings.first().map_or(Binding::Nothing, |(binding, _)| *binding)
    }

    /// The share of the attempts that had waited for this limit, from 0 to 1.
    pub fn share(&self, binding: Binding) -> f64 {
        let all: u64 = self.bindings.iter().map(|(_, count)| count).sum();
        let of = self.bindings.iter().find(|(of, _)| *of == binding);
        of.map_or(0.0, |(_, count)| *count as f64 / all as f64)
    }

    fn count(&mut self, outcome: &Outcome<'_>, begun: Utc) {
        if outcome.session.key > 0 {
            let first = outcome.first_attempt.since(begun);
            self.first = Some(self.first.map_or(first, |known| known.min(first)));
            match self.bindings.iter_mut().find(|(binding, _)| *binding == outcome.limit) {
                Some((_, count)) => *count += 1,
                None => self.bindings.push((outcome.limit, 1)),
            }
        }
        self.last = self.last.max(Some(outcome.time.since(begun)));
        let counter = match outcome.kind {
            Kind::Delivered => &mut self.delivered,
            Kind::Bounced => &mut self.bounced,
            Kind::Deferred => &mut self.deferred,
            Kind::Expired | Kind::InDoubt | Kind::Failed | Kind::Cancelled => &mut self.expired,
        };
        *counter += 1;
    }

    fn close(&mut self) {
        self.unfinished = self.rows - self.delivered - self.bounced - self.expired;
        self.bindings.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    }
}

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// No directory for spool and ledger.
    #[error("making a directory for the simulation")]
    Directory(#[from] std::io::Error),
    /// No spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// No ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The stage ended early.
    #[error(transparent)]
    Deliver(DeliverError),
}

/// Predicts a run from its first message to its last.
///
/// # Errors
/// [`PredictError`]: the machine has no room for it.
///
/// # Panics
/// When there are not as many counts of rows as sites.
pub fn predict(plan: &Plan<'_>) -> Result<Prediction, PredictError> {
    assert_eq!(plan.rows.len(), plan.settings.sites.len(), "each site has a count of rows");
    let directory = directory(plan.rows.iter().map(|rows| u64::from(*rows)).sum())?;
    let (ledger_dir, spool_dir) = (directory.path().join("ledger"), directory.path().join("spool"));
    std::fs::create_dir(&ledger_dir)?;
    std::fs::create_dir(&spool_dir)?;
    run(plan, &ledger_dir, &spool_dir)?;
    add_up(plan, &ledger_dir)
}

/// A directory for spool and ledger of so many rows: in memory, as nothing of it is worth a disk,
/// where there is room (containers often have 64 MiB).
fn directory(rows: u64) -> std::io::Result<tempfile::TempDir> {
    let free = statvfs(MEMORY).map_or(0, |of| of.f_bavail * of.f_frsize);
    match free / ROW_BYTES > rows {
        true => tempfile::tempdir_in(MEMORY).or_else(|_| tempfile::tempdir()),
        false => tempfile::tempdir(),
    }
}

fn run(plan: &Plan<'_>, ledger_dir: &Path, spool_dir: &Path) -> Result<(), PredictError> {
    let writer = Desk::new(Writer::open(ledger_dir, RUN, plan.begun, &Tail::default())?);
    let segments = spool::create(spool_dir, 0, SEGMENTS, SEGMENT_BYTES)?;
    let settings = settings(plan.settings);
    let (feed, fed) = unbounded();
    let (back, backed) = unbounded();
    // Nobody listens; without an end the stage would see it closed.
    let (orders, ordered) = unbounded();
    let (notices, _noticed) = unbounded();
    let making = Making {
        retry: settings.groups.iter().map(|group| group.limits.retry.clone()).collect(),
        message: |_, _, text| text.extend_from_slice(b"Subject: simulated\r\n\r\nNothing.\r\n"),
        unmakeable: 0,
        unasked: false,
    };
    let feeder = Feeder::new((feed, backed), segments, work(plan), making);
    let providers = Providers::new(habits(plan, &settings), plan.seed);
    let ring = SimRing::new(providers, feeder, plan.begun, Tick(0));
    let mut ring = Calendar::new(ring, orders, plan.orders);
    let channels = Channels { feed: fed, back, orders: ordered, notices };
    let stop = AtomicBool::new(false);
    let done = deliver::run(&mut ring, &settings, &channels, &writer, &Live::default(), &stop);
    match done {
        // What is halted waits for somebody, and nobody is here.
        Ok(_) | Err(DeliverError::Ring(RingError::Broken { doing: STALLED, .. })) => {}
        Err(error) => return Err(PredictError::Deliver(error)),
    }
    let writer = writer.into_writer();
    Ok(writer.close(plan.begun)?)
}

/// The settings with addresses of its own for each site.
fn settings(real: &Settings) -> Settings {
    let mut settings = real.clone();
    for (number, site) in (0..).zip(&mut settings.sites) {
        let name = site.hosts.first().map_or_else(String::new, |host| host.name.clone());
        let host = Host { preference: 0, name, addresses: addresses(number, &site.hosts) };
        *site = Site { group: site.group, hosts: vec![host] };
    }
    Settings { thread: (0, 1), segments: SEGMENTS, speed: 1, loopback_only: false, ..settings }
}

/// The addresses of a site: one of each kind that its hosts have. Nothing is ever sent to them.
fn addresses(site: u32, hosts: &[Host]) -> Vec<IpAddr> {
    let mut real = hosts.iter().flat_map(|host| &host.addresses);
    let four = real.clone().any(IpAddr::is_ipv4);
    let six = real.any(IpAddr::is_ipv6);
    // From 10.0.0.0 on there is room for more sites than rows.
    let v4 = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + site));
    // fd00::/8 is for private use (RFC 4193).
    let v6 = IpAddr::V6(Ipv6Addr::from_bits((0xfd00 << 112) + u128::from(site)));
    four.then_some(v4).into_iter().chain(six.then_some(v6)).collect()
}

fn habits(plan: &Plan<'_>, settings: &Settings) -> Vec<Habits> {
    let mut hosts: Vec<Vec<IpAddr>> = vec![Vec::new(); settings.groups.len()];
    for site in &settings.sites {
        let of_site = site.hosts.iter().flat_map(|host| &host.addresses);
        hosts[site.group.index()].extend(of_site);
    }
    let mut assumed = vec![plan.assumptions.usual; settings.groups.len()];
    for (group, of_group) in &plan.assumptions.groups {
        assumed[group.index()] = *of_group;
    }
    let habits = |(hosts, assumed): (Vec<IpAddr>, Assumed)| {
        let Assumed { latency, deferred, bad } = assumed;
        Habits { deferred, bad, ..Habits::plain(hosts, latency) }
    };
    hosts.into_iter().zip(assumed).map(habits).collect()
}

/// All rows, numbered site by site, those of a group in any order: lists are not sorted by site.
fn work(plan: &Plan<'_>) -> Work {
    let mut fresh: Vec<VecDeque<(Row, SiteNo)>> = vec![VecDeque::new(); plan.settings.groups.len()];
    let mut row = 0;
    for ((count, site), number) in plan.rows.iter().zip(&plan.settings.sites).zip(0..) {
        for _ in 0..*count {
            row += 1;
            fresh[site.group.index()].push_back((Row(row), SiteNo(number)));
        }
    }
    let mut chance = Chance::new(plan.seed);
    for rows in &mut fresh {
        for last in (1..rows.len()).rev() {
            let other = usize::try_from(chance.between(0, last as u64)).expect("at most `last`");
            rows.swap(last, other);
        }
    }
    Work { fresh, waiting: Vec::new() }
}

/// Reads the ledger back.
fn add_up(plan: &Plan<'_>, ledger_dir: &Path) -> Result<Prediction, PredictError> {
    let mut groups = vec![Predicted::default(); plan.settings.groups.len()];
    let mut total = Predicted::default();
    // The last row of each site.
    let mut lasts = Vec::with_capacity(plan.rows.len());
    for (count, site) in plan.rows.iter().zip(&plan.settings.sites) {
        total.rows += u64::from(*count);
        groups[site.group.index()].rows += u64::from(*count);
        lasts.push(total.rows);
    }
    let mut see = |_, record: Record<'_>| {
        let Record::Outcome(outcome) = record else { return };
        let site = lasts.partition_point(|last| *last < u64::from(outcome.row.0));
        let group = plan.settings.sites[site].group;
        groups[group.index()].count(&outcome, plan.begun);
        total.count(&outcome, plan.begun);
    };
    ledger::replay(ledger_dir, RUN, &mut see)?;
    groups.iter_mut().chain([&mut total]).for_each(Predicted::close);
    Ok(Prediction { groups, total })
}

#[cfg(test)]
mod tests;
