//! memory — what a process must know of those before it: what its own run has sent lately, and what
//! other runs have sent from the same sources.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::opening::chain;
use super::{Exit, Failure};
use crate::deliver::{Group, Past, Settings};
use crate::destination::{GroupNo, SourceNo};
use crate::history::{self, Summary};
use crate::ledger::{self, Record};
use crate::outcome::{Class, Kind, Row};
use crate::rates::Limits;
use crate::units::{Rate, Utc};

/// How far back other runs are looked at: longer than any published warm-up (45 days) and the
/// pause after which it begins again (30).
pub(super) const HISTORY: Duration = Duration::from_secs(92 * 86_400);

/// What was sent before this process.
pub(super) struct Memory {
    /// The number of the run's last connection.
    pub(super) last_connection: u64,
    /// When attempts of this run began, by provider and source, the oldest first.
    own: BTreeMap<(String, IpAddr), Vec<Utc>>,
    /// Rows that a greylist knows by this source.
    bound: HashMap<Row, IpAddr>,
    /// What other runs have sent.
    others: history::Past,
    /// The same with what this run has sent before this process: what a warm-up counts.
    pub(super) all: history::Past,
}

impl Memory {
    /// Of a run that has not begun.
    pub(super) fn of_others(others: history::Past) -> Memory {
        let (own, bound) = (BTreeMap::new(), HashMap::new());
        let all = others.clone();
        Memory { last_connection: 0, own, bound, others, all }
    }

    /// Reads the run's own ledger, and those of the other runs beside it.
    pub(super) fn read(
        (runs, ledger, run): (&Path, &Path, &str),
        longest: Duration,
        now: Utc,
    ) -> Result<Memory, Failure> {
        let broken = |error: &dyn std::error::Error| Failure::new(Exit::Storage, chain(error));
        let since = Utc(now.0 - i64::try_from(HISTORY.as_micros()).unwrap_or(0));
        let others = history::read(runs, since, run).map_err(|error| broken(&error))?;
        let mut memory = Memory::of_others(others);
        let mut sent = Summary::default();
        ledger::replay(ledger, run, &mut |_, record| {
            let Record::Outcome(outcome) = record else { return };
            sent.see(&outcome);
            let session = &outcome.session;
            memory.last_connection = memory.last_connection.max(session.key);
            let Some(source) = session.source else { return };
            match outcome.kind {
                Kind::Deferred if outcome.class == Class::Greylisted => {
                    memory.bound.insert(outcome.row, source);
                }
                _ => drop(memory.bound.remove(&outcome.row)),
            }
            let began = Utc(outcome.time.0 - i64::try_from(outcome.took.as_micros()).unwrap_or(0));
            if now.since(began) <= longest {
                let lane = (outcome.provider.to_owned(), source);
                memory.own.entry(lane).or_default().push(began);
            }
        })
        .map_err(|error| broken(&error))?;
        memory.own.values_mut().for_each(|times| times.sort_unstable());
        memory.all.add(&sent);
        Ok(memory)
    }

    /// The source that a greylist knows this row by.
    pub(super) fn source_of(&self, row: Row, sources: &[Option<IpAddr>]) -> Option<SourceNo> {
        let source = self.bound.get(&row)?;
        let at = sources.iter().position(|known| known.as_ref() == Some(source))?;
        u32::try_from(at).ok().map(SourceNo)
    }

    /// Everything that the rates of `settings` must count.
    ///
    /// Attempts that were cut off before their message left are on no record; there can be two on
    /// each connection of a lane that was in use, and they count as made just now.
    pub(super) fn past(&self, settings: &Settings, now: Utc) -> Past {
        let mut past = Past::default();
        let only = settings.sources.len() == 1;
        for (number, group) in (0..).zip(&settings.groups) {
            let group_no = GroupNo(number);
            let mut total = Vec::new();
            for (from, source) in (0..).zip(&settings.sources) {
                let ages = self.lane(group, source.address.filter(|_| !only), now);
                if !ages.is_empty() {
                    total.extend_from_slice(&ages);
                    past.lanes.push((group_no, SourceNo(from), ages));
                }
            }
            if !total.is_empty() {
                total.sort_unstable_by(|a, b| b.cmp(a));
                past.run.extend_from_slice(&total);
                past.groups.push((group_no, total));
            }
        }
        past.run.sort_unstable_by(|a, b| b.cmp(a));
        past
    }

    /// How long ago the messages of a lane went, the oldest first; of all sources without one.
    fn lane(&self, group: &Group, source: Option<IpAddr>, now: Utc) -> Vec<Duration> {
        let longest = longest(&group.limits);
        if longest.is_zero() {
            return Vec::new();
        }
        let ours = |(name, from): &(String, IpAddr)| {
            *name == group.name && source.is_none_or(|source| source == *from)
        };
        let own = self.own.iter().filter(|(lane, _)| ours(lane));
        let mut ages: Vec<Duration> = own
            .flat_map(|(_, times)| times.iter().map(|began| now.since(*began)))
            .filter(|age| *age <= longest)
            .collect();
        if !ages.is_empty() {
            let unrecorded = 2 * group.limits.connections as usize;
            ages.extend(std::iter::repeat_n(Duration::ZERO, unrecorded));
        }
        match source {
            Some(source) => ages.extend(self.others.recent(source, &group.name, now, longest)),
            None => ages.extend(self.others.recent_total(&group.name, now, longest)),
        }
        ages.sort_unstable_by(|a, b| b.cmp(a));
        ages
    }
}

/// The longest period of any rate of these limits.
pub(super) fn longest(limits: &Limits) -> Duration {
    let all = limits.rates.iter().chain(&limits.rates_total).chain(&limits.rates_dkim);
    all.map(|rate: &Rate| rate.period).max().unwrap_or_default()
}
