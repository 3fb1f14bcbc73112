//! sorting — fresh rows in the order in which their groups will want them, from two walks over the
//! index: the first counts, the second puts each row into the place that is its group's.
//!
//! While it lasts it takes 8 octets a row, and sorts only within groups. Rows of domains without a
//! place are sorted by domain, behind all groups. It cannot fail; a row that is put and was not
//! counted is a mistake of the caller (panic).

use std::collections::BTreeMap;
use std::ops::Range;

use super::queue::Address;
use crate::destination::{DomainNo, GroupNo};
use crate::recipients::{ENGAGEMENT_MAX, Entry};

/// Rows being sorted.
pub(super) struct Sorting<'a> {
    ask: &'a dyn Fn(DomainNo) -> Option<Address>,
    /// What was answered, by domain.
    places: Vec<Option<Address>>,
    groups: Vec<Range<u32>>,
    domains: BTreeMap<DomainNo, Range<u32>>,
    keys: Vec<u64>,
}

/// Rows that are sorted.
pub(super) struct Sorted {
    /// Where the mail of each domain goes.
    pub(super) places: Vec<Option<Address>>,
    /// The rows' numbers.
    pub(super) rows: Vec<u32>,
    /// Which of them each group has.
    pub(super) groups: Vec<Range<u32>>,
    /// Which of them each domain without a place has.
    pub(super) domains: BTreeMap<DomainNo, Range<u32>>,
}

/// The order of fresh rows: the most engaged first, then that of the list.
pub(super) fn key(row: u32, engagement: u32) -> u64 {
    u64::from(ENGAGEMENT_MAX - engagement) << 32 | u64::from(row)
}

/// The row of a [`key`].
pub(super) fn row_of(key: u64) -> u32 {
    u32::try_from(key & u64::from(u32::MAX)).expect("32 bits were kept")
}

/// The domain of an accepted row.
pub(super) fn domain_of(entry: &Entry) -> DomainNo {
    entry.domain.expect("intake gives each accepted row a domain")
}

impl<'a> Sorting<'a> {
    /// Nothing yet; `ask` tells where the mail of a domain goes.
    pub(super) fn new(ask: &'a dyn Fn(DomainNo) -> Option<Address>) -> Sorting<'a> {
        let (groups, domains) = (Vec::new(), BTreeMap::new());
        Sorting { ask, places: Vec::new(), groups, domains, keys: Vec::new() }
    }

    /// Where the mail of the row's domain goes; each domain is asked for once.
    pub(super) fn place(&mut self, entry: &Entry) -> Option<Address> {
        let at = domain_of(entry);
        while self.places.len() <= at.index() {
            let next = u32::try_from(self.places.len()).expect("domain numbers have 32 bits");
            self.places.push((self.ask)(DomainNo(next)));
        }
        self.places[at.index()]
    }

    /// First walk: there is this row.
    pub(super) fn count(&mut self, entry: &Entry) {
        self.range(entry).end += 1;
    }

    /// Between the walks: makes room for the rows that were counted.
    pub(super) fn make_room(&mut self) {
        let mut next = 0;
        for range in self.groups.iter_mut().chain(self.domains.values_mut()) {
            let count = range.end;
            *range = next..next;
            next += count;
        }
        self.keys = vec![0; next as usize];
    }

    /// Second walk: the row, in its place.
    pub(super) fn put(&mut self, entry: &Entry) {
        let range = self.range(entry);
        let at = range.end;
        range.end += 1;
        self.keys[at as usize] = key(entry.row.0, entry.engagement);
    }

    /// The rows in their order.
    pub(super) fn finish(mut self) -> Sorted {
        for range in self.groups.iter().chain(self.domains.values()) {
            self.keys[range.start as usize..range.end as usize].sort_unstable();
        }
        let rows = self.keys.into_iter().map(row_of).collect();
        let Sorting { places, groups, domains, .. } = self;
        Sorted { places, rows, groups, domains }
    }

    /// Where the rows of the same group or domain are.
    fn range(&mut self, entry: &Entry) -> &mut Range<u32> {
        match self.place(entry) {
            None => self.domains.entry(domain_of(entry)).or_default(),
            Some(Address { group: GroupNo(group), .. }) => {
                let at = group as usize;
                if at >= self.groups.len() {
                    self.groups.resize(at + 1, 0..0);
                }
                &mut self.groups[at]
            }
        }
    }
}
