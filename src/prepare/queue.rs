//! queue — what is left to send, by group: rows that came back, retries whose time has come, rows
//! never attempted.
//!
//! Fresh rows are 4 octets each: their numbers stand in one list, sorted by group, then by
//! engagement (the most engaged first), then by their order in the list; each group has its place
//! in it. Rows of a domain whose mail hosts are not known yet stand behind them by domain, and join
//! their group when the domain is routed, without being moved: they are one more run of it, and the
//! runs are merged as rows are taken. A row that waits takes 24 octets.
//!
//! Whatever is asked of a group costs nothing for the other groups. Fails when the index cannot be
//! read. It knows neither who wants rows nor when; the time is an argument.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;

use super::sorting::{Sorted, Sorting, domain_of, key, row_of};
use crate::destination::{DomainNo, GroupNo, SiteNo, SourceNo};
use crate::ledger::{Book, Standing};
use crate::outcome::Row;
use crate::recipients::{Entry, Index, IndexError};
use crate::spool::handover::Again;
use crate::units::Utc;

/// Where the mail of a domain goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The site that takes it.
    pub site: SiteNo,
    /// The group of that site.
    pub group: GroupNo,
}

/// A message whose turn has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Its row.
    pub entry: Entry,
    /// Which attempt this is.
    pub attempt: u16,
    /// When the first attempt began, if there was one.
    pub first_attempt: Option<Utc>,
    /// The site that takes its mail.
    pub site: SiteNo,
    /// The source that it must come from, if its last attempt bound it to one.
    pub source: Option<SourceNo>,
}

/// A message that is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Left {
    /// Which row.
    pub row: Row,
    /// Which attempt would have been next.
    pub attempt: u16,
    /// When the first attempt began, if there was one.
    pub first_attempt: Option<Utc>,
    /// Its group; `None` while its domain has no mail hosts.
    pub group: Option<GroupNo>,
}

/// Everything that is left to send.
pub struct Queue {
    index: Index,
    /// Where the mail of each domain goes; `None` when it is not known yet.
    places: Vec<Option<Address>>,
    /// The numbers of the rows never attempted.
    fresh: Vec<u32>,
    groups: Vec<Group>,
    aside: BTreeMap<DomainNo, Aside>,
    left: u64,
}

/// What is left of one group.
#[derive(Default)]
struct Group {
    /// Rows that come first, in the order in which they came back.
    returned: VecDeque<Waiting>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// Its place in the list of fresh rows, unless there are several.
    fresh: Range<u32>,
    /// Two or more runs of fresh rows, the one with the most engaged row first.
    runs: BinaryHeap<Reverse<Run>>,
}

/// What is left of a domain whose mail hosts are not known.
#[derive(Default)]
struct Aside {
    waiting: Vec<Waiting>,
    fresh: Range<u32>,
}

/// A row that was attempted, or at least handed over. Its first fields are the order of retries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Utc,
    row: Row,
    attempt: u16,
    /// From 1; 0 for any.
    source: u16,
    /// [`NEVER`] for none.
    first_attempt: Utc,
}

const _: () = assert!(size_of::<Waiting>() == 24);

/// In place of the time of a first attempt that was not made.
const NEVER: Utc = Utc(i64::MIN);

impl Waiting {
    fn new(
        (due, row): (Utc, Row),
        attempt: u16,
        first_attempt: Option<Utc>,
        source: Option<SourceNo>,
    ) -> Waiting {
        let source = source.map_or(0, |source| source.0 + 1);
        let source = u16::try_from(source).expect("a campaign has fewer than 65535 sources");
        Waiting { due, row, attempt, source, first_attempt: first_attempt.unwrap_or(NEVER) }
    }

    fn of(again: &Again) -> Waiting {
        let Again { due, row, attempt, first_attempt, source, .. } = *again;
        Waiting::new((due, row), attempt, first_attempt, source)
    }

    fn first_attempt(&self) -> Option<Utc> {
        Some(self.first_attempt).filter(|first| *first != NEVER)
    }

    fn left(&self, group: Option<GroupNo>) -> Left {
        let first_attempt = self.first_attempt();
        Left { row: self.row, attempt: self.attempt, first_attempt, group }
    }

    fn source(&self) -> Option<SourceNo> {
        self.source.checked_sub(1).map(|source| SourceNo(u32::from(source)))
    }
}

/// Fresh rows in their order, the first of them known by its key.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    /// [`key`] of the row at `next`.
    key: u64,
    next: u32,
    end: u32,
}

impl Group {
    fn left(&self) -> u64 {
        let runs: u64 = self.runs.iter().map(|Reverse(run)| u64::from(run.end - run.next)).sum();
        self.returned.len() as u64 + self.waiting.len() as u64 + self.fresh.len() as u64 + runs
    }

    /// The next row that came back or is due.
    fn again(&mut self, now: Utc) -> Option<Waiting> {
        if let Some(returned) = self.returned.pop_front() {
            return Some(returned);
        }
        let Reverse(first) = self.waiting.peek()?;
        if first.due > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(first)| first)
    }

    /// Moves rows to `given` until that has `most`; whether there may be more.
    fn give_up(
        &mut self,
        group: Option<GroupNo>,
        fresh: &[u32],
        most: usize,
        given: &mut Vec<Left>,
    ) -> bool {
        while given.len() < most {
            let waiting = self.returned.pop_front();
            let waiting = waiting.or_else(|| self.waiting.pop().map(|Reverse(waiting)| waiting));
            if let Some(waiting) = waiting {
                given.push(waiting.left(group));
            } else if let Some(at) = self.fresh.next() {
                given.push(Left::fresh(fresh[at as usize], group));
            } else if let Some(Reverse(run)) = self.runs.pop() {
                self.fresh = run.next..run.end;
            } else {
                return false;
            }
        }
        true
    }
}

impl Left {
    fn fresh(row: u32, group: Option<GroupNo>) -> Left {
        Left { row: Row(row), attempt: 1, first_attempt: None, group }
    }
}

/// The group of that number, which is made if it is new.
fn of(groups: &mut Vec<Group>, group: GroupNo) -> &mut Group {
    if group.index() >= groups.len() {
        groups.resize_with(group.index() + 1, Group::default);
    }
    &mut groups[group.index()]
}

impl Queue {
    /// All rows of `index` that have not met their outcome according to `book`. `places` tells
    /// where the mail of a domain goes, `None` while nobody knows; `source_of` from which source a
    /// row that waits must come.
    ///
    /// # Errors
    /// When the index cannot be read.
    ///
    /// # Panics
    /// When the book is not that of the index.
    pub fn new(
        index: Index,
        book: Book,
        places: &dyn Fn(DomainNo) -> Option<Address>,
        source_of: &dyn Fn(Row) -> Option<SourceNo>,
    ) -> Result<Queue, IndexError> {
        assert_eq!(index.rows(), book.rows(), "the book has a page for each row of the index");
        let mut sorting = Sorting::new(places);
        index.each(&mut |entry| {
            if entry.excluded.is_none() && book.standing(entry.row) == Standing::Pending {
                sorting.count(entry);
            }
        })?;
        sorting.make_room();
        let mut waiting = Vec::new();
        index.each(&mut |entry| {
            if entry.excluded.is_some() {
                return;
            }
            match book.standing(entry.row) {
                Standing::Pending => sorting.put(entry),
                Standing::Waiting { attempt, until, first_attempt } => {
                    let (row, source) = (entry.row, source_of(entry.row));
                    let attempt = attempt + 1;
                    let row = Waiting::new((until, row), attempt, Some(first_attempt), source);
                    waiting.push((row, sorting.place(entry), domain_of(entry)));
                }
                Standing::InFlight { .. } | Standing::Final(_) => {}
            }
        })?;
        drop(book);
        Ok(Queue::of(index, sorting.finish(), waiting))
    }

    fn of(
        index: Index,
        sorted: Sorted,
        waiting: Vec<(Waiting, Option<Address>, DomainNo)>,
    ) -> Queue {
        let Sorted { places, rows: fresh, groups, domains } = sorted;
        let left = fresh.len() as u64 + waiting.len() as u64;
        let group = |fresh| Group { fresh, ..Group::default() };
        let mut groups: Vec<Group> = groups.into_iter().map(group).collect();
        let aside = |(domain, fresh)| (domain, Aside { fresh, waiting: Vec::new() });
        let mut aside: BTreeMap<DomainNo, Aside> = domains.into_iter().map(aside).collect();
        for (row, place, domain) in waiting {
            match place {
                Some(Address { group, .. }) => of(&mut groups, group).waiting.push(Reverse(row)),
                None => aside.entry(domain).or_default().waiting.push(row),
            }
        }
        Queue { index, places, fresh, groups, aside, left }
    }

    /// One more than the highest number of a group that has or had rows.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Another attempt of a message, later.
    pub fn later(&mut self, again: Again) {
        self.left += 1;
        of(&mut self.groups, again.group).waiting.push(Reverse(Waiting::of(&again)));
    }

    /// A message that was not attempted after all; the next of its group, behind those that came
    /// back before it.
    pub fn returned(&mut self, again: Again) {
        self.left += 1;
        of(&mut self.groups, again.group).returned.push_back(Waiting::of(&again));
    }

    /// The mail of a domain goes there from now on. Its rows join the group if they were kept aside
    /// until now; rows that have a group already stay in it.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn routed(&mut self, domain: DomainNo, address: Address) -> Result<(), IndexError> {
        if domain.index() >= self.places.len() {
            self.places.resize(domain.index() + 1, None);
        }
        self.places[domain.index()] = Some(address);
        let Some(aside) = self.aside.remove(&domain) else { return Ok(()) };
        let joining = self.run(aside.fresh)?;
        let group = of(&mut self.groups, address.group);
        group.waiting.extend(aside.waiting.into_iter().map(Reverse));
        let Some(joining) = joining else { return Ok(()) };
        if group.runs.is_empty() && group.fresh.is_empty() {
            group.fresh = joining.next..joining.end;
            return Ok(());
        }
        group.runs.push(Reverse(joining));
        let alone = std::mem::take(&mut group.fresh);
        let alone = self.run(alone)?;
        of(&mut self.groups, address.group).runs.extend(alone.map(Reverse));
        Ok(())
    }

    /// A run of the rows at `range`, unless that is empty.
    fn run(&self, range: Range<u32>) -> Result<Option<Run>, IndexError> {
        if range.is_empty() {
            return Ok(None);
        }
        let row = self.fresh[range.start as usize];
        let engagement = self.index.entry(Row(row))?.engagement;
        Ok(Some(Run { key: key(row, engagement), next: range.start, end: range.end }))
    }

    /// How many rows a group has, those that wait included.
    pub fn left(&self, group: GroupNo) -> u64 {
        self.groups.get(group.index()).map_or(0, Group::left)
    }

    /// Whether nothing is left, not even for later.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// When the first of the group's waiting rows is due; `None` when none waits.
    pub fn next_due(&self, group: GroupNo) -> Option<Utc> {
        let Reverse(first) = self.groups.get(group.index())?.waiting.peek()?;
        Some(first.due)
    }

    /// Up to `most` messages of a group whose turn has come: those that were returned, then retries
    /// that are due (the longest due first), then fresh rows (the most engaged first).
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn take(&mut self, group: GroupNo, most: usize, now: Utc) -> Result<Vec<Turn>, IndexError> {
        let Some(of_group) = self.groups.get_mut(group.index()) else { return Ok(Vec::new()) };
        let mut again: Vec<Waiting> = Vec::new();
        while again.len() < most
            && let Some(waiting) = of_group.again(now)
        {
            again.push(waiting);
        }
        let mut turns = Vec::with_capacity(again.len());
        for waiting in &again {
            let entry = self.index.entry(waiting.row)?;
            turns.push(Turn {
                entry,
                attempt: waiting.attempt,
                first_attempt: waiting.first_attempt(),
                site: self.site(&entry),
                source: waiting.source(),
            });
        }
        for entry in self.take_fresh(group, most - turns.len())? {
            let site = self.site(&entry);
            turns.push(Turn { entry, attempt: 1, first_attempt: None, site, source: None });
        }
        self.left -= turns.len() as u64;
        Ok(turns)
    }

    fn site(&self, entry: &Entry) -> SiteNo {
        let place = self.places.get(domain_of(entry).index()).copied().flatten();
        place.expect("a row joins a group when its domain has a place").site
    }

    fn take_fresh(&mut self, group: GroupNo, most: usize) -> Result<Vec<Entry>, IndexError> {
        if !self.groups[group.index()].runs.is_empty() {
            // What a part of was given up is one of the runs again.
            let begun = std::mem::take(&mut self.groups[group.index()].fresh);
            let begun = self.run(begun)?;
            self.groups[group.index()].runs.extend(begun.map(Reverse));
        }
        let Group { fresh, runs, .. } = &mut self.groups[group.index()];
        let mut entries = Vec::new();
        while entries.len() < most
            && let Some(Reverse(run)) = runs.pop()
        {
            if runs.is_empty() {
                *fresh = run.next..run.end;
                break;
            }
            entries.push(self.index.entry(Row(row_of(run.key)))?);
            if run.next + 1 < run.end {
                let row = self.fresh[run.next as usize + 1];
                let key = key(row, self.index.entry(Row(row))?.engagement);
                runs.push(Reverse(Run { key, next: run.next + 1, end: run.end }));
            }
        }
        let more = (most - entries.len()).min(fresh.len());
        let more = fresh.start as usize..fresh.start as usize + more;
        fresh.start += u32::try_from(more.len()).expect("no more than the range has");
        entries.extend(self.index.entries(&self.fresh[more])?);
        Ok(entries)
    }

    /// Removes up to `most` rows of a group, or without one of the whole queue, for good. Fewer
    /// than `most` are all that were left.
    pub fn give_up(&mut self, group: Option<GroupNo>, most: usize) -> Vec<Left> {
        let mut given = Vec::new();
        match group {
            Some(_) => {
                let of_group = group.and_then(|number| self.groups.get_mut(number.index()));
                if let Some(of_group) = of_group {
                    of_group.give_up(group, &self.fresh, most, &mut given);
                }
            }
            None => self.give_up_all(most, &mut given),
        }
        self.left -= given.len() as u64;
        given
    }

    /// Groups and domains that have nothing any more are removed, so that no call looks at them
    /// again.
    fn give_up_all(&mut self, most: usize, given: &mut Vec<Left>) {
        while let Some(last) = self.groups.len().checked_sub(1) {
            let number = GroupNo(u32::try_from(last).expect("group numbers have 32 bits"));
            if self.groups[last].give_up(Some(number), &self.fresh, most, given) {
                return;
            }
            self.groups.pop();
        }
        while let Some(mut first) = self.aside.first_entry() {
            // A group of its own, for as long as this takes.
            let aside = first.get_mut();
            let mut group = Group { fresh: aside.fresh.clone(), ..Group::default() };
            group.returned = std::mem::take(&mut aside.waiting).into();
            let more = group.give_up(None, &self.fresh, most, given);
            *aside = Aside { fresh: group.fresh, waiting: group.returned.into() };
            if more {
                return;
            }
            first.remove();
        }
    }
}

#[cfg(test)]
mod tests;
