//! wants — which groups delivery waits for messages of, and whose turn it is.
//!
//! A group that wants messages is either ready, in a line with the others of its delivery thread,
//! or dry: it has nothing now, and is looked at again when the first of its waiting rows is due or
//! when a row comes back. Nothing is polled, and no call looks at more than one group.
//!
//! It cannot fail. It knows no rows; the queue does.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::destination::GroupNo;
use crate::units::Utc;

/// The open wants of all groups.
pub(super) struct Wants {
    groups: Vec<Wanted>,
    /// Groups in line, by delivery thread.
    lines: Vec<VecDeque<GroupNo>>,
    /// When dry groups are looked at again. A time that is not that of its group is passed over.
    dry: BinaryHeap<Reverse<(Utc, GroupNo)>>,
}

#[derive(Clone, Copy, Default)]
struct Wanted {
    /// Messages wanted and not made.
    open: u64,
    in_line: bool,
    dry_until: Option<Utc>,
    /// What was last told of it.
    told_dry: bool,
}

impl Wants {
    /// No wants, of groups that belong to so many delivery threads.
    pub(super) fn new(threads: usize) -> Wants {
        assert!(threads > 0, "somebody must deliver");
        Wants { groups: Vec::new(), lines: vec![VecDeque::new(); threads], dry: BinaryHeap::new() }
    }

    /// The delivery thread that a group belongs to.
    pub(super) fn thread(&self, group: GroupNo) -> usize {
        group.index() % self.lines.len()
    }

    /// So many more messages are wanted.
    pub(super) fn want(&mut self, group: GroupNo, more: u32) {
        if group.index() >= self.groups.len() {
            self.groups.resize(group.index() + 1, Wanted::default());
        }
        self.groups[group.index()].open += u64::from(more);
        self.look_again(group);
    }

    /// Nothing is wanted any more, of one group or of any.
    pub(super) fn cancel(&mut self, group: Option<GroupNo>) {
        match group {
            Some(group) => {
                if let Some(wanted) = self.groups.get_mut(group.index()) {
                    wanted.open = 0;
                }
            }
            None => self.groups.iter_mut().for_each(|wanted| wanted.open = 0),
        }
    }

    /// The group has something now: if it is wanted, it stands in line.
    pub(super) fn look_again(&mut self, group: GroupNo) {
        let thread = self.thread(group);
        let Some(wanted) = self.groups.get_mut(group.index()) else { return };
        if wanted.open > 0 && !wanted.in_line {
            wanted.in_line = true;
            self.lines[thread].push_back(group);
        }
    }

    /// The group will have something at `due`.
    pub(super) fn look_at(&mut self, group: GroupNo, due: Utc) {
        let Some(wanted) = self.groups.get_mut(group.index()) else { return };
        let sooner = wanted.dry_until.is_none_or(|known| due < known);
        if wanted.open > 0 && !wanted.in_line && sooner {
            wanted.dry_until = Some(due);
            self.dry.push(Reverse((due, group)));
        }
    }

    /// Groups whose time has come stand in line.
    pub(super) fn wake(&mut self, now: Utc) {
        while let Some(Reverse((due, group))) = self.dry.peek().copied()
            && due <= now
        {
            self.dry.pop();
            let wanted = &mut self.groups[group.index()];
            if wanted.dry_until == Some(due) {
                wanted.dry_until = None;
                self.look_again(group);
            }
        }
    }

    /// When the next dry group is to be looked at.
    pub(super) fn earliest(&self) -> Option<Utc> {
        self.dry.peek().map(|Reverse((due, _))| *due)
    }

    /// Whether groups of this thread stand in line.
    pub(super) fn is_ready(&self, thread: usize) -> bool {
        !self.lines[thread].is_empty()
    }

    /// The group of this thread whose turn it is, and how many messages it wants. It has left the
    /// line until it is [`served`](Wants::served).
    pub(super) fn next(&mut self, thread: usize) -> Option<(GroupNo, u64)> {
        loop {
            let group = self.lines[thread].pop_front()?;
            let wanted = &mut self.groups[group.index()];
            wanted.in_line = false;
            if wanted.open > 0 {
                return Some((group, wanted.open));
            }
        }
    }

    /// Whether the group is `dry` is news.
    pub(super) fn turned(&mut self, group: GroupNo, dry: bool) -> bool {
        std::mem::replace(&mut self.groups[group.index()].told_dry, dry) != dry
    }

    /// So many messages of the group were made. It goes to the end of the line if it wants more,
    /// unless it is `dry`.
    pub(super) fn served(&mut self, group: GroupNo, made: u64, dry: bool) {
        let wanted = &mut self.groups[group.index()];
        wanted.open = wanted.open.checked_sub(made).expect("no more is made than the group wanted");
        if !dry {
            self.look_again(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The groups of a thread in the order of their turns, each served once with up to `quantum`.
    fn turns(wants: &mut Wants, thread: usize, quantum: u64) -> Vec<(u32, u64)> {
        let mut turns = Vec::new();
        while let Some((group, open)) = wants.next(thread) {
            let made = open.min(quantum);
            turns.push((group.0, made));
            wants.served(group, made, false);
        }
        turns
    }

    #[test]
    fn groups_are_served_in_turn_by_their_thread() {
        let mut wants = Wants::new(2);
        wants.want(GroupNo(4), 5);
        wants.want(GroupNo(0), 2);
        wants.want(GroupNo(3), 1);
        wants.want(GroupNo(4), 1);
        wants.want(GroupNo(2), 3);
        assert_eq!(turns(&mut wants, 0, 2), [(4, 2), (0, 2), (2, 2), (4, 2), (2, 1), (4, 2)]);
        assert_eq!(turns(&mut wants, 1, 2), [(3, 1)]);
        assert!(!wants.is_ready(0) && !wants.is_ready(1));
    }

    #[test]
    fn a_dry_group_is_looked_at_when_it_has_something() {
        let mut wants = Wants::new(1);
        let group = GroupNo(7);
        wants.look_at(group, Utc(5));
        wants.look_again(group);
        assert_eq!((wants.earliest(), wants.is_ready(0)), (None, false), "nobody wants it");
        wants.want(group, 10);
        assert_eq!(wants.next(0), Some((group, 10)));
        wants.served(group, 3, true);
        assert_eq!(wants.next(0), None);
        wants.look_at(group, Utc(50));
        wants.look_at(group, Utc(30));
        wants.look_at(group, Utc(40));
        assert_eq!(wants.earliest(), Some(Utc(30)));
        wants.wake(Utc(29));
        assert_eq!(wants.next(0), None);
        wants.wake(Utc(30));
        assert_eq!(wants.next(0), Some((group, 7)));
        wants.served(group, 0, true);
        wants.look_at(group, Utc(60));
        wants.wake(Utc(50));
        assert_eq!(wants.next(0), None, "the time before was overtaken by an earlier one");
        wants.look_again(group);
        assert_eq!(wants.next(0), Some((group, 7)));
    }

    #[test]
    fn a_change_is_news_once() {
        let mut wants = Wants::new(1);
        wants.want(GroupNo(0), 1);
        let news = [false, true, true, false].map(|dry| wants.turned(GroupNo(0), dry));
        assert_eq!(news, [false, true, false, true]);
    }

    #[test]
    fn what_is_cancelled_has_no_turn() {
        let mut wants = Wants::new(1);
        for group in 0..3 {
            wants.want(GroupNo(group), 1);
        }
        wants.cancel(Some(GroupNo(1)));
        wants.cancel(Some(GroupNo(9)));
        assert_eq!(turns(&mut wants, 0, 1), [(0, 1), (2, 1)]);
        wants.want(GroupNo(1), 1);
        wants.cancel(None);
        assert_eq!(wants.next(0), None);
    }
}
