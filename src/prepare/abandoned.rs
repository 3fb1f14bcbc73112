//! abandoned — the groups of which no message is made any more, and why.
//!
//! What is left of such a group becomes fates, and so does what comes back of it later. It cannot
//! fail.

use std::collections::{BTreeMap, VecDeque};

use crate::destination::GroupNo;
use crate::outcome::Kind;

/// The abandoned groups; `None` stands for all of them.
#[derive(Default)]
pub(super) struct Abandoned {
    of: BTreeMap<Option<GroupNo>, Why>,
    /// Those that may have rows in the queue.
    to_clear: VecDeque<Option<GroupNo>>,
}

struct Why {
    kind: Kind,
    reason: String,
    in_line: bool,
}

impl Abandoned {
    /// A group, or all, is abandoned.
    pub(super) fn add(&mut self, group: Option<GroupNo>, kind: Kind, reason: String) {
        let in_line = self.of.get(&group).is_some_and(|known| known.in_line);
        self.of.insert(group, Why { kind, reason, in_line });
        self.clear(group);
    }

    /// Whether the group is abandoned.
    pub(super) fn has(&self, group: GroupNo) -> bool {
        self.key(Some(group)).is_some()
    }

    /// What its rows end in, and why.
    ///
    /// # Panics
    /// When it is not abandoned.
    pub(super) fn why(&self, group: Option<GroupNo>) -> (Kind, String) {
        let key = self.key(group).expect("only rows of abandoned groups are given up");
        let Why { kind, reason, .. } = &self.of[&key];
        (*kind, reason.clone())
    }

    /// A row of the group came into the queue; if it is abandoned, the row must leave again.
    pub(super) fn came_back(&mut self, group: GroupNo) {
        if let Some(key) = self.key(Some(group)) {
            self.clear(key);
        }
    }

    /// How many groups may have rows in the queue.
    pub(super) fn to_clear(&self) -> usize {
        self.to_clear.len()
    }

    /// The next group whose rows must leave the queue.
    pub(super) fn next(&mut self) -> Option<Option<GroupNo>> {
        let group = self.to_clear.pop_front()?;
        self.of.get_mut(&group).expect("only abandoned groups are in line").in_line = false;
        Some(group)
    }

    /// The group, which is abandoned, may still have rows in the queue.
    pub(super) fn clear(&mut self, group: Option<GroupNo>) {
        let why = self.of.get_mut(&group).expect("only abandoned groups are cleared");
        if !why.in_line {
            why.in_line = true;
            self.to_clear.push_back(group);
        }
    }

    /// Under what the group is abandoned: its own name, or that of all.
    fn key(&self, group: Option<GroupNo>) -> Option<Option<GroupNo>> {
        [group, None].into_iter().find(|key| self.of.contains_key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_group_comes_before_that_of_all() {
        let mut abandoned = Abandoned::default();
        let (one, two) = (GroupNo(1), GroupNo(2));
        abandoned.came_back(one);
        assert!(!abandoned.has(one));
        assert_eq!(abandoned.next(), None);
        abandoned.add(Some(one), Kind::Expired, "too late".into());
        assert_eq!((abandoned.has(one), abandoned.has(two)), (true, false));
        abandoned.add(None, Kind::Cancelled, "by the operator".into());
        assert!(abandoned.has(two));
        assert_eq!(abandoned.why(Some(one)), (Kind::Expired, "too late".into()));
        assert_eq!(abandoned.why(Some(two)), (Kind::Cancelled, "by the operator".into()));
        assert_eq!(abandoned.why(None), (Kind::Cancelled, "by the operator".into()));
        abandoned.came_back(one);
        assert_eq!(abandoned.to_clear(), 2);
        assert_eq!([abandoned.next(), abandoned.next()], [Some(Some(one)), Some(None)]);
        abandoned.came_back(two);
        assert_eq!([abandoned.next(), abandoned.next()], [Some(None), None]);
    }
}
