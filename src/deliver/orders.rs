//! orders — what the stage is told while it works: further groups and sites, other limits, stops.

use std::sync::atomic::Ordering;

use super::{Delivery, Order, Past};
use crate::destination::GroupNo;
use crate::outcome::Kind;
use crate::rates::Who;
use crate::ring::Ring;
use crate::spool::handover::Back;

impl<R: Ring> Delivery<'_, R> {
    pub(super) fn take_orders(&mut self) {
        while let Ok(order) = self.channels.orders.try_recv() {
            self.obey(order);
        }
    }

    fn obey(&mut self, order: Order) {
        let now = self.ring.now();
        match order {
            Order::Group(group) => self.add_group(group),
            Order::Site(site) => self.add_site(site),
            Order::Limits(group, limits) => {
                self.pace.change(group, limits, now);
                self.activate(group);
            }
            Order::Park(who) => {
                self.pace.park(who);
                self.leave(who);
            }
            Order::Halt(who) => {
                self.pace.halt(who);
                self.leave(who);
            }
            Order::Resume(who) => {
                self.pace.resume(who, now);
                self.activate_all();
            }
            Order::Slow(who) => self.pace.slow(who, now),
            Order::Cap(group, source, cap) => {
                self.pace.set_cap(group, source, cap);
                self.activate(group);
            }
            Order::Cancel => self.cancel(),
        }
    }

    fn activate_all(&mut self) {
        for group in 0..self.groups.len() {
            self.activate(GroupNo(u32::try_from(group).expect("groups count in 32 bits")));
        }
    }

    /// Nothing begins any more; what has not begun goes back, and preparation ends it.
    fn cancel(&mut self) {
        self.pace.park(Who::Everything);
        for group in 0..self.groups.len() {
            self.groups[group].given_up = true;
            self.send_back(GroupNo(u32::try_from(group).expect("groups count in 32 bits")));
        }
        let why = "cancelled by the operator".to_owned();
        self.back(Back::GiveUp(None, Kind::Cancelled, why));
    }

    /// Counts what was sent before this process began.
    pub(super) fn remember(&mut self, past: &Past) {
        let now = self.ring.now();
        for (group, source, ages) in &past.lanes {
            self.pace.remember(*group, *source, now, ages);
        }
        for (group, ages) in &past.groups {
            self.pace.remember_total(*group, now, ages);
        }
        self.pace.remember_ceiling(now, &past.run);
        for (group, source, quota) in &self.settings.quotas {
            self.pace.warm_up(*group, *source, Some(*quota));
        }
        self.live.connections.store(0, Ordering::Relaxed);
    }
}
