//! The queue against a plain list that does the same.

use std::collections::BTreeSet;
use std::io::{Cursor, Write};

use proptest::prelude::*;

use super::*;
use crate::ledger::{At, Record};
use crate::outcome::{Class, Kind, Outcome};
use crate::recipients::{IndexWriter, Reason};

/// What a row is before the process begins.
#[derive(Clone, Copy, Debug)]
struct Given {
    domain: u32,
    engagement: u32,
    excluded: bool,
    /// When its next attempt is due, or nothing if it is final.
    deferred: Option<Option<i64>>,
}

#[derive(Clone, Debug)]
enum Step {
    Take {
        group: u32,
        most: usize,
        now: i64,
    },
    /// Of the rows out, the one at this place waits for another attempt.
    Later {
        out: usize,
        due: i64,
    },
    Returned {
        out: usize,
    },
    Routed {
        domain: u32,
        group: u32,
    },
    GiveUp {
        group: Option<u32>,
        most: usize,
    },
}

const DOMAINS: u32 = 6;
const GROUPS: u32 = 4;

fn given() -> impl Strategy<Value = Given> {
    let deferred = proptest::option::weighted(0.3, proptest::option::of(0..100_i64));
    (0..DOMAINS, 0..4_u32, proptest::bool::weighted(0.2), deferred).prop_map(
        |(domain, engagement, excluded, deferred)| Given { domain, engagement, excluded, deferred },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let group = 0..GROUPS;
    prop_oneof![
        6 => (group.clone(), 0..6_usize, 0..100_i64)
            .prop_map(|(group, most, now)| Step::Take { group, most, now }),
        2 => (0..9_usize, 0..100_i64).prop_map(|(out, due)| Step::Later { out, due }),
        2 => (0..9_usize).prop_map(|out| Step::Returned { out }),
        2 => (0..DOMAINS, group.clone())
            .prop_map(|(domain, group)| Step::Routed { domain, group }),
        1 => (proptest::option::of(group), 0..9_usize)
            .prop_map(|(group, most)| Step::GiveUp { group, most }),
    ]
}

/// Domains 0 and 1 have group 0, 2 has group 2, and nobody knows about the others.
fn place(domain: DomainNo) -> Option<Address> {
    let group = [Some(0), Some(0), Some(2)].get(domain.index()).copied().flatten()?;
    Some(Address { site: SiteNo(domain.0 + 10), group: GroupNo(group) })
}

fn source(row: Row) -> Option<SourceNo> {
    (row.0 % 3).checked_sub(1).map(SourceNo)
}

fn entry(row: u32, given: &Given) -> Entry {
    Entry {
        row: Row(row),
        offset: 7 * u64::from(row),
        len: 7,
        line: row + 1,
        check: row,
        excluded: given.excluded.then_some(Reason::NullMx),
        engagement: given.engagement,
        detail: 0,
        domain: Some(DomainNo(given.domain)),
    }
}

fn index(entries: impl Iterator<Item = Entry>) -> Index {
    let mut writer = IndexWriter::new(Cursor::new(Vec::new())).unwrap();
    entries.for_each(|entry| writer.push(&entry).unwrap());
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(writer.finish().unwrap().get_ref()).unwrap();
    Index::open(file.path()).unwrap()
}

fn book(rows: &[Given]) -> Book {
    let mut book = Book::new(rows.len() as u32);
    for (row, given) in (1..).map(Row).zip(rows) {
        let (Some(due), false) = (given.deferred, given.excluded) else { continue };
        let kind = if due.is_some() { Kind::Deferred } else { Kind::Delivered };
        let end = (kind, Class::RenderError);
        let outcome = Outcome::unconnected((row, 3), end, (Utc(9), Utc(-5)), "");
        let outcome = Outcome { next_attempt: due.map(Utc), ..outcome };
        book.apply(At::default(), &Record::Outcome(outcome)).unwrap();
    }
    book
}

/// A row that is out, or that the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    due: i64,
    row: u32,
    attempt: u16,
    source: Option<SourceNo>,
    first_attempt: Option<Utc>,
}

/// The queue as one would write it if rows were few.
struct Model {
    rows: Vec<Given>,
    places: Vec<Option<Address>>,
    returned: Vec<(u32, Known)>,
    /// Group or, in the second, domain, and row.
    waiting: BTreeSet<(Option<u32>, Known)>,
    fresh: BTreeSet<(Option<u32>, Reverse<u32>, u32)>,
}

impl Model {
    fn new(rows: &[Given]) -> Model {
        let places: Vec<_> = (0..DOMAINS).map(|domain| place(DomainNo(domain))).collect();
        let mut model = Model {
            rows: rows.to_vec(),
            places,
            returned: Vec::new(),
            waiting: BTreeSet::new(),
            fresh: BTreeSet::new(),
        };
        for (row, given) in (1..).zip(rows) {
            let group = model.group(given.domain);
            match given.deferred {
                _ if given.excluded => {}
                None => drop(model.fresh.insert((group, Reverse(given.engagement), row))),
                Some(None) => {}
                Some(Some(due)) => {
                    let first_attempt = Some(Utc(-5));
                    let source = source(Row(row));
                    let known = Known { due, row, attempt: 4, source, first_attempt };
                    model.waiting.insert((group, known));
                }
            }
        }
        model
    }

    fn group(&self, domain: u32) -> Option<u32> {
        self.places[domain as usize].map(|place| place.group.0)
    }

    fn take(&mut self, group: u32, most: usize, now: i64) -> Vec<Known> {
        let mut taken = Vec::new();
        while taken.len() < most {
            if let Some(at) = self.returned.iter().position(|(of, _)| *of == group) {
                taken.push(self.returned.remove(at).1);
            } else if let Some(first) = self
                .waiting
                .iter()
                .find(|(of, known)| *of == Some(group) && known.due <= now)
                .copied()
            {
                self.waiting.remove(&first);
                taken.push(first.1);
            } else if let Some(first) =
                self.fresh.iter().find(|(of, ..)| *of == Some(group)).copied()
            {
                self.fresh.remove(&first);
                let (attempt, source, first_attempt) = (1, None, None);
                taken.push(Known { due: 0, row: first.2, attempt, source, first_attempt });
            } else {
                break;
            }
        }
        taken
    }

    /// Rows of a group that are known only from now on.
    fn routed(&mut self, domain: u32, group: u32) {
        let joins = self.places[domain as usize].is_none();
        let site = SiteNo(domain + 20);
        self.places[domain as usize] = Some(Address { site, group: GroupNo(group) });
        if !joins {
            return;
        }
        let of = |row: u32| self.rows[row as usize - 1].domain == domain;
        let placed = |known: Option<u32>, row| {
            if known.is_none() && of(row) { Some(group) } else { known }
        };
        self.waiting = std::mem::take(&mut self.waiting)
            .into_iter()
            .map(|(known, row)| (placed(known, row.row), row))
            .collect();
        self.fresh = std::mem::take(&mut self.fresh)
            .into_iter()
            .map(|(known, engagement, row)| (placed(known, row), engagement, row))
            .collect();
    }

    fn left(&self, group: u32) -> usize {
        let returned = self.returned.iter().filter(|(of, _)| *of == group).count();
        let waiting = self.waiting.iter().filter(|(of, _)| *of == Some(group)).count();
        returned + waiting + self.fresh.iter().filter(|(of, ..)| *of == Some(group)).count()
    }

    fn all(&self) -> usize {
        self.returned.len() + self.waiting.len() + self.fresh.len()
    }

    /// Removes what was given up, if it was there.
    fn remove(&mut self, left: &Left) {
        let row = left.row.0;
        let before = self.all();
        let group = left.group.map(|group| group.0);
        self.returned.retain(|(of, known)| Some(*of) != group || known.row != row);
        self.waiting.retain(|(of, known)| *of != group || known.row != row);
        self.fresh.retain(|(of, _, other)| *of != group || *other != row);
        assert_eq!(self.all(), before - 1, "{left:?} was there once");
    }
}

fn known(turn: &Turn, due: i64) -> Known {
    let Turn { attempt, source, first_attempt, .. } = *turn;
    Known { due, row: turn.entry.row.0, attempt, source, first_attempt }
}

fn again(turn: &Turn, group: u32, due: i64, attempts: u16) -> Again {
    Again {
        due: Utc(due),
        row: turn.entry.row,
        attempt: turn.attempt + attempts,
        first_attempt: turn.first_attempt.or((attempts > 0).then_some(Utc(1))),
        site: turn.site,
        group: GroupNo(group),
        source: if attempts > 0 { Some(SourceNo(7)) } else { turn.source },
    }
}

proptest! {
    #[test]
    fn it_gives_what_a_plain_list_would_give(
        rows in proptest::collection::vec(given(), 0..40),
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let index = index((1..).zip(&rows).map(|(row, given)| entry(row, given)));
        let mut queue = Queue::new(index, book(&rows), &place, &source).unwrap();
        let mut model = Model::new(&rows);
        let mut out: Vec<(u32, Turn)> = Vec::new();
        for step in steps {
            match step {
                Step::Take { group, most, now } => {
                    let turns = queue.take(GroupNo(group), most, Utc(now)).unwrap();
                    let expected = model.take(group, most, now);
                    let found = turns.iter().zip(&expected).map(|(t, e)| known(t, e.due));
                    prop_assert_eq!(found.collect::<Vec<_>>(), expected.clone());
                    prop_assert_eq!(turns.len(), expected.len());
                    for turn in turns {
                        let given = &rows[turn.entry.row.0 as usize - 1];
                        prop_assert_eq!(turn.entry, entry(turn.entry.row.0, given));
                        let place = model.places[given.domain as usize];
                        prop_assert_eq!(Some(turn.site), place.map(|place| place.site));
                        out.push((group, turn));
                    }
                }
                Step::Later { out: at, due } if at < out.len() => {
                    let (group, turn) = out.remove(at);
                    let again = again(&turn, group, due, 1);
                    queue.later(again);
                    let Again { attempt, first_attempt, source, row: Row(row), .. } = again;
                    let known = Known { due, row, attempt, source, first_attempt };
                    model.waiting.insert((Some(group), known));
                }
                Step::Returned { out: at } if at < out.len() => {
                    let (group, turn) = out.remove(at);
                    queue.returned(again(&turn, group, 0, 0));
                    model.returned.push((group, known(&turn, 0)));
                }
                Step::Routed { domain, group } => {
                    let (site, group) = (SiteNo(domain + 20), GroupNo(group));
                    queue.routed(DomainNo(domain), Address { site, group }).unwrap();
                    model.routed(domain, group.0);
                }
                Step::GiveUp { group, most } => {
                    let of = group.map_or(model.all(), |group| model.left(group));
                    let given = queue.give_up(group.map(GroupNo), most);
                    prop_assert_eq!(given.len(), most.min(of));
                    prop_assert!(group.is_none()
                        || given.iter().all(|left| left.group == group.map(GroupNo)));
                    given.iter().for_each(|left| model.remove(left));
                }
                _ => {}
            }
            for group in 0..GROUPS {
                let due = model.waiting.iter().find(|(of, _)| *of == Some(group));
                let due = due.map(|(_, known)| Utc(known.due));
                prop_assert_eq!(queue.next_due(GroupNo(group)), due);
                prop_assert_eq!(queue.left(GroupNo(group)), model.left(group) as u64);
            }
            prop_assert_eq!(queue.is_empty(), model.all() == 0);
        }
    }
}

#[test]
fn rows_of_many_runs_come_in_the_order_of_their_engagement() {
    let given = |row: u32| Given {
        domain: row % 50,
        engagement: row * 7919 % 100,
        excluded: false,
        deferred: None,
    };
    let rows: Vec<Given> = (1..=5000).map(given).collect();
    let index = index((1..).zip(&rows).map(|(row, given)| entry(row, given)));
    let address = Address { site: SiteNo(3), group: GroupNo(1) };
    let book = Book::new(5000);
    let mut queue = Queue::new(index, book, &|_| None, &|_| None).unwrap();
    assert_eq!(queue.take(GroupNo(1), 10, Utc(0)).unwrap(), []);
    assert!(!queue.is_empty());
    for domain in 0..50 {
        queue.routed(DomainNo(domain), address).unwrap();
    }
    assert_eq!(queue.left(GroupNo(1)), 5000);
    let mut found = Vec::new();
    while !queue.is_empty() {
        found.extend(queue.take(GroupNo(1), 37, Utc(0)).unwrap());
    }
    let found: Vec<_> =
        found.iter().map(|turn| (Reverse(turn.entry.engagement), turn.entry.row.0)).collect();
    assert_eq!(found.len(), 5000);
    assert!(found.is_sorted());
}
