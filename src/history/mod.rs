//! history — what each source has sent to each provider, over all runs below a runs directory.
//!
//! Rates such as `50000/24h`, warm-up and idle times reach beyond one run. What they need is told
//! by the ledgers of the other runs alone: hour by hour, how much was attempted and what came of it
//! ([`Summary`]). A run that ended keeps its summary in its directory as `history.tsv`, which
//! [`read`] takes if it fits the ledger beside it; otherwise, and for a run that was killed or that
//! another process is working on, it reads the ledger up to the last commit and changes nothing. So
//! the file is a cache: without it the answer is the same and comes later.
//!
//! An hour is the finest that is kept. Where the age of a message matters, all messages of an hour
//! count as sent at its end, or now if it is not over: a resumed rate waits up to an hour too long
//! and never sends too early. Of a killed run, messages under way at its end have no outcome and
//! are not counted, at most one for each connection, until the run goes on.
//!
//! How it fails: [`HistoryError`], with the run whose ledger cannot be read; to leave it out in
//! silence would let limits be exceeded. It must not know campaigns, limits or the clock.

mod runs;
mod summary;

use std::io;
use std::iter::repeat_n;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

pub use runs::{of_ledger, read, save};
pub use summary::Summary;

use crate::ledger::LedgerError;
use crate::rates::tally::Tally;
use crate::rates::warmup::Day;
use crate::rundir::RunDirError;
use crate::units::Utc;

const HOUR: i64 = 3_600_000_000;
const HOURS_OF_A_DAY: i64 = 24;

/// Why it cannot be told what was sent.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// A directory cannot be looked into.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ledger of another run cannot be read.
    #[error(
        "what the run in {} has sent cannot be told, and limits could be exceeded; mend it, or \
         move the directory away if its mail need not count", run.display()
    )]
    Ledger {
        /// The run's directory.
        run: PathBuf,
        /// What is wrong with it.
        source: LedgerError,
    },
    /// The summary cannot be written.
    #[error(transparent)]
    Save(#[from] RunDirError),
}

/// What was sent in the past.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past(Summary);

impl Past {
    /// Counts what `summary` has as well; that of the run itself, when it goes on.
    pub fn add(&mut self, summary: &Summary) {
        self.0.add(summary);
    }

    /// How long ago each attempt of the last `period` was made from `source` at `provider`, oldest
    /// first, for [`Bucket::resumed`](crate::rates::Bucket::resumed).
    ///
    /// Ages are those of the end of each hour: too young by up to an hour, never too old.
    pub fn recent(
        &self,
        source: IpAddr,
        provider: &str,
        now: Utc,
        period: Duration,
    ) -> impl Iterator<Item = Duration> {
        self.ages(Some(source), provider, now, period)
    }

    /// The same for all sources together, and so for each signing domain that all of them use.
    pub fn recent_total(
        &self,
        provider: &str,
        now: Utc,
        period: Duration,
    ) -> impl Iterator<Item = Duration> {
        self.ages(None, provider, now, period)
    }

    fn ages(
        &self,
        source: Option<IpAddr>,
        provider: &str,
        now: Utc,
        period: Duration,
    ) -> impl Iterator<Item = Duration> {
        let micros = i64::try_from(period.as_micros()).unwrap_or(i64::MAX);
        // The first hour that ended at the beginning of the period or later.
        let from = now.0.saturating_sub(micros).saturating_sub(1).div_euclid(HOUR);
        self.hours(source, provider, from).flat_map(move |(hour, tally)| {
            let age = now.since(Utc((hour + 1).saturating_mul(HOUR)));
            repeat_n(age, usize::try_from(tally.attempts).unwrap_or(usize::MAX))
        })
    }

    /// What came of each day's mail from `source` to `provider`, oldest first; days without any are
    /// left out.
    pub fn days(&self, source: IpAddr, provider: &str) -> Vec<Day> {
        self.by_day(Some(source), provider)
    }

    /// The same for all sources together.
    pub fn days_total(&self, provider: &str) -> Vec<Day> {
        self.by_day(None, provider)
    }

    fn by_day(&self, source: Option<IpAddr>, provider: &str) -> Vec<Day> {
        let mut days: Vec<Day> = Vec::new();
        for (hour, tally) in self.hours(source, provider, i64::MIN) {
            let day = hour.div_euclid(HOURS_OF_A_DAY);
            match days.last_mut() {
                Some(last) if last.day == day => last.tally.add(tally),
                _ => days.push(Day { day, tally: *tally }),
            }
        }
        days
    }

    /// How much was attempted from `source` at `provider` on the UTC day of `now`, and how much of
    /// that in its hour; for [`Quota::new`](crate::rates::warmup::Quota::new).
    pub fn today(&self, source: IpAddr, provider: &str, now: Utc) -> (u64, u64) {
        let (this, first) = (now.0.div_euclid(HOUR), now.day() * HOURS_OF_A_DAY);
        let (mut day, mut hour) = (0, 0);
        for (at, tally) in self.hours(Some(source), provider, first) {
            day += tally.attempts;
            hour += if at >= this { tally.attempts } else { 0 };
        }
        (day, hour)
    }

    /// Since when nothing was sent from `source` to `provider`: the end of the last hour with an
    /// attempt. `None` when nothing ever was.
    pub fn idle_since(&self, source: IpAddr, provider: &str) -> Option<Utc> {
        let last = self.hours(Some(source), provider, i64::MIN).last()?.0;
        Some(Utc((last + 1).saturating_mul(HOUR)))
    }

    /// The hours since `from` with attempts, oldest first; one for each source.
    fn hours(
        &self,
        source: Option<IpAddr>,
        provider: &str,
        from: i64,
    ) -> impl Iterator<Item = (i64, &Tally)> {
        const LEAST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        self.0
            .provider(provider)
            .into_iter()
            .flat_map(move |slots| slots.range((from, LEAST)..))
            .filter(move |((_, of), _)| source.is_none_or(|source| source == *of))
            .map(|((hour, _), tally)| (*hour, tally))
    }
}

#[cfg(test)]
mod tests;
