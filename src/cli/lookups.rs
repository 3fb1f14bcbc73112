//! lookups — asks again, while a run goes on, for the mail hosts of domains that the DNS could not
//! tell at its start.
//!
//! A domain that has them then joins the others; one that turns out to be dead, or that nobody
//! could tell of for as long as its messages live, ends with its reason. What is known is kept in
//! the run's directory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::Sender;

use super::stages::Lines;
use super::terrain::{Guide, row};
use crate::deliver::{Group, Order};
use crate::destination::{DomainNo, GroupNo, Site};
use crate::outcome::Kind;
use crate::rates::{Retry, Table};
use crate::ring::Clock;
use crate::routes::{Directory, Standing};
use crate::rundir::RunDir;
use crate::spool::handover::Back;
use crate::units::Utc;

/// Between two rounds. RFC 2308 §5 lets resolvers remember a failure for five minutes at most.
const ASK_EVERY: Duration = Duration::from_secs(5 * 60);
/// How soon a stop is noticed.
const NAP: Duration = Duration::from_millis(100);

/// The file of what is known, in the run's directory.
pub(super) const FILE: &str = "routes.tsv";

/// What is asked, and what is done with the answers.
pub(super) struct Lookups<'a> {
    pub(super) guide: Guide,
    pub(super) directory: Directory,
    pub(super) table: &'a Table,
    pub(super) dir: &'a RunDir,
    /// The group of what ends without ever having had a mail host.
    pub(super) nowhere: GroupNo,
    /// When the run began: the time of its messages counts from then.
    pub(super) begun: Utc,
    /// Whether the run goes on: rows of a domain that has died since its start are still there.
    pub(super) resumed: bool,
}

impl Lookups<'_> {
    /// Asks from time to time until nothing is unresolved any more, or `stop` is set.
    pub(super) fn work(
        mut self,
        lines: &Lines,
        back: &Sender<Back>,
        (clock, stop): (Clock, &AtomicBool),
    ) {
        if self.resumed {
            let dead =
                |domain: &DomainNo| matches!(self.directory.standing(*domain), Standing::Dead(_));
            let dead: Vec<DomainNo> =
                (0..self.directory.domains()).map(DomainNo).filter(dead).collect();
            dead.into_iter().for_each(|domain| self.tell(domain, back, clock.utc()));
        }
        let mut next = clock.tick().after(ASK_EVERY);
        while !stop.load(Ordering::Relaxed) && self.directory.unresolved().next().is_some() {
            std::thread::sleep(NAP);
            if clock.tick() < next {
                continue;
            }
            next = clock.tick().after(ASK_EVERY);
            let unresolved: Vec<DomainNo> = self.directory.unresolved().collect();
            let now = clock.utc();
            if let Err(failure) = self.round(&unresolved, lines, back, now) {
                eprintln!("mailshot: domains could not be asked for again: {failure}");
            }
        }
    }

    fn round(
        &mut self,
        unresolved: &[DomainNo],
        lines: &Lines,
        back: &Sender<Back>,
        now: Utc,
    ) -> Result<(), super::Failure> {
        let (groups, sites) = (self.directory.groups().len(), self.directory.sites().len());
        let asked = unresolved.iter().copied();
        self.guide.ask(&mut self.directory, asked, self.table, (now, true))?;
        for group in &self.directory.groups()[groups..] {
            let limits = row(self.table, group.provider.as_deref()).limits();
            let (name, provider) = (group.name.clone(), group.provider.clone());
            lines.tell(&Order::Group(Group { name, provider, limits }));
        }
        for site in &self.directory.sites()[sites..] {
            let group = numbered(site.group, self.nowhere);
            lines.tell(&Order::Site(Site { group, hosts: site.hosts.clone() }));
        }
        for domain in unresolved {
            self.tell(*domain, back, now);
        }
        if let Err(error) = self.dir.write_soon(FILE, self.directory.encode().as_bytes()) {
            // It is a cache: the next process asks again.
            eprintln!("mailshot: what the DNS said was not kept: {error}");
        }
        Ok(())
    }

    /// Tells preparation what became of a domain. It may have ended already.
    fn tell(&self, domain: DomainNo, back: &Sender<Back>, now: Utc) {
        let retry = |group: GroupNo| -> Retry {
            let provider = self.directory.groups()[group.index()].provider.as_deref();
            row(self.table, provider).limits().retry
        };
        let expire_after = self.table.default.limits().retry.expire_after;
        let (kind, why) = match self.directory.standing(domain) {
            Standing::Routed(site) => {
                let group = self.directory.sites()[site.index()].group;
                let number = numbered(group, self.nowhere);
                drop(back.send(Back::Routed(domain, *site, number, retry(group))));
                return;
            }
            Standing::Dead(death) => (Kind::Bounced, format!("{death:?}: no mail can be sent")),
            Standing::Unresolved { why } if now.since(self.begun) > expire_after => {
                (Kind::Expired, format!("the mail hosts could not be found: {why}"))
            }
            Standing::Unresolved { .. } => return,
        };
        let schedule = self.table.default.limits().retry;
        let routed = Back::Routed(domain, crate::destination::SiteNo(0), self.nowhere, schedule);
        drop(back.send(routed));
        drop(back.send(Back::GiveUp(Some(self.nowhere), kind, why)));
    }
}

/// The number in delivery of a group of the directory: `nowhere` stands between those of the start
/// and those that came later.
pub(super) fn numbered(group: GroupNo, nowhere: GroupNo) -> GroupNo {
    match group < nowhere {
        true => group,
        false => GroupNo(group.0 + 1),
    }
}
