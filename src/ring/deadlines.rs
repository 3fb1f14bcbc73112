//! deadlines — one deadline for each connection, cheap to move forward.
//!
//! SMTP moves a connection's deadline with each reply, several times a message, and almost never
//! lets one pass. So the true deadline lies in an array, and the heap holds at most one entry for
//! each connection, which may be too early: when it comes up, it is put back for the true time.
//! Moving a deadline forward costs a store; moving it back costs one heap entry more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::ConnId;
use crate::units::Tick;

/// No deadline.
const NEVER: Tick = Tick(u64::MAX);

/// The deadlines of a ring's connections.
#[derive(Default)]
pub struct Deadlines {
    /// By connection: the true deadline, and the earliest heap entry that stands for it.
    slots: Vec<(Tick, Tick)>,
    heap: BinaryHeap<Reverse<(Tick, u32)>>,
}

impl Deadlines {
    /// Sets or replaces the deadline of `conn`.
    pub fn set(&mut self, conn: ConnId, at: Tick) {
        let index = conn.0 as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, (NEVER, NEVER));
        }
        let (deadline, queued) = &mut self.slots[index];
        *deadline = at;
        if at < *queued {
            *queued = at;
            self.heap.push(Reverse((at, conn.0)));
        }
    }

    /// Forgets the deadline of `conn`.
    pub fn clear(&mut self, conn: ConnId) {
        if let Some((deadline, _)) = self.slots.get_mut(conn.0 as usize) {
            *deadline = NEVER;
        }
    }

    /// When to look again; may be earlier than the next true deadline.
    pub fn next(&self) -> Option<Tick> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next connection whose deadline has passed; its deadline is cleared.
    pub fn pop(&mut self, now: Tick) -> Option<ConnId> {
        while let Some(Reverse((at, index))) = self.heap.peek().copied() {
            if at > now {
                return None;
            }
            self.heap.pop();
            let (deadline, queued) = &mut self.slots[index as usize];
            if *queued != at {
                continue; // an older entry of a deadline that was moved back
            }
            *queued = NEVER;
            if *deadline <= now {
                *deadline = NEVER;
                return Some(ConnId(index));
            }
            if *deadline != NEVER {
                *queued = *deadline;
                self.heap.push(Reverse((*deadline, index)));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moved_deadline_fires_once_at_its_last_time() {
        let mut deadlines = Deadlines::default();
        deadlines.set(ConnId(3), Tick(10));
        deadlines.set(ConnId(3), Tick(50));
        deadlines.set(ConnId(3), Tick(20));
        assert_eq!(deadlines.pop(Tick(15)), None);
        assert_eq!(deadlines.pop(Tick(20)), Some(ConnId(3)));
        assert_eq!(deadlines.pop(Tick(100)), None);
    }

    proptest! {
        /// Against the obvious array: every operation sequence fires the same connections.
        #[test]
        fn agrees_with_a_plain_array(
            steps in proptest::collection::vec((0u32..8, 0u64..40, any::<bool>()), 1..200),
        ) {
            let mut deadlines = Deadlines::default();
            let mut plain = [None::<u64>; 8];
            let mut now = 0;
            for (conn, delta, clear) in steps {
                if clear {
                    deadlines.clear(ConnId(conn));
                    plain[conn as usize] = None;
                } else {
                    deadlines.set(ConnId(conn), Tick(now + delta));
                    plain[conn as usize] = Some(now + delta);
                }
                now += delta / 3;
                let due = std::iter::from_fn(|| deadlines.pop(Tick(now)));
                let mut fired: Vec<u32> = due.map(|conn| conn.0).collect();
                fired.sort_unstable();
                let mut expected = Vec::new();
                for (index, slot) in plain.iter_mut().enumerate() {
                    if slot.is_some_and(|at| at <= now) {
                        *slot = None;
                        expected.push(u32::try_from(index).expect("eight slots"));
                    }
                }
                prop_assert_eq!(fired, expected);
                if let Some(next) = plain.iter().flatten().min() {
                    prop_assert!(deadlines.next().is_some_and(|at| at <= Tick(*next)));
                }
            }
        }
    }
}
