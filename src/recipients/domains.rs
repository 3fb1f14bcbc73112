//! domains — the unique domains of the accepted rows, numbered in the order of the list.
//!
//! All names stand behind each other in one string. While the list is read, a table leads from the
//! keyed 64-bit hash of a name to its number; it is dropped at the end. A million domains of 20
//! octets take 28 MiB, and 35 MiB more (53 MiB while it doubles) for the table. It cannot fail.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::fmt;

use super::seen::Seen;
use crate::destination::DomainNo;

/// The unique domains of a list: lower case, A-labels.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Domains {
    names: String,
    /// Where each name ends in `names`.
    ends: Vec<usize>,
}

impl Domains {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether the list has no accepted row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The domain's name.
    ///
    /// # Panics
    /// When the list has no such domain.
    pub fn name(&self, domain: DomainNo) -> &str {
        let at = domain.index();
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.names[start..self.ends[at]]
    }

    /// All names, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..).map(DomainNo).map_while(|at| (at.index() < self.len()).then(|| self.name(at)))
    }

    fn push(&mut self, name: &str) {
        self.names.push_str(name);
        self.ends.push(self.names.len());
    }
}

impl fmt::Debug for Domains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Gives domains their numbers.
pub(super) struct Numbering {
    known: Seen<DomainNo>,
    domains: Domains,
}

impl Numbering {
    /// No domain yet.
    pub(super) fn new() -> Numbering {
        Numbering { known: Seen::new(RandomState::new()), domains: Domains::default() }
    }

    /// The number of `name`, a new one if it was not seen before.
    pub(super) fn number(&mut self, name: &str) -> DomainNo {
        let Numbering { known, domains } = self;
        let next = u32::try_from(domains.len()).expect("a list has fewer than 2^32 rows");
        let same = |other: DomainNo| Ok::<_, Infallible>(domains.name(other) == name);
        let Ok(known) = known.first(name, DomainNo(next), same);
        known.unwrap_or_else(|| {
            domains.push(name);
            DomainNo(next)
        })
    }

    /// All of them.
    pub(super) fn finish(self) -> Domains {
        let Domains { mut names, mut ends } = self.domains;
        names.shrink_to_fit();
        ends.shrink_to_fit();
        Domains { names, ends }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_first_appearance() {
        let mut numbering = Numbering::new();
        let told: Vec<u32> = ["b.org", "a.org", "b.org", "c.org", "a.org", "org.b"]
            .map(|name| numbering.number(name).0)
            .to_vec();
        assert_eq!(told, [0, 1, 0, 2, 1, 3]);
        let domains = numbering.finish();
        assert_eq!((domains.len(), domains.is_empty()), (4, false));
        assert_eq!(domains.name(DomainNo(2)), "c.org");
        assert_eq!(domains.iter().collect::<Vec<_>>(), ["b.org", "a.org", "c.org", "org.b"]);
        assert_eq!(format!("{:?}", Numbering::new().finish()), "[]");
    }

    #[test]
    fn a_hundred_thousand_domains_keep_their_numbers() {
        let mut numbering = Numbering::new();
        for round in 0..2 {
            for at in 0..100_000 {
                let number = numbering.number(&format!("d{at}.example"));
                assert_eq!(number, DomainNo(at), "round {round}");
            }
        }
    }
}
