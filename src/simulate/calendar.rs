//! calendar — a ring that gives the delivery stage orders at set times, as an operator or a new day
//! would.
//!
//! It cannot fail: once the stage has ended nobody waits for its orders. It must not know what they
//! say.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use crossbeam::channel::Sender;

use crate::deliver::Order;
use crate::ring::{ConnId, Events, Parcel, Ring, RingError};
use crate::units::{Tick, Utc};

/// A ring with orders to come.
pub(super) struct Calendar<R> {
    ring: R,
    orders: Sender<Order>,
    /// The earliest first; the ring's own time.
    coming: VecDeque<(Tick, Order)>,
}

impl<R: Ring> Calendar<R> {
    /// Each order is given at its time.
    pub(super) fn new(ring: R, orders: Sender<Order>, coming: &[(Utc, Order)]) -> Calendar<R> {
        let (now, utc) = (ring.now(), ring.utc());
        let tick = |(at, order): &(Utc, Order)| (now.after(at.since(utc)), order.clone());
        let mut coming: Vec<(Tick, Order)> = coming.iter().map(tick).collect();
        coming.sort_by_key(|(at, _)| *at);
        Calendar { ring, orders, coming: coming.into() }
    }
}

impl<R: Ring> Ring for Calendar<R> {
    fn now(&self) -> Tick {
        self.ring.now()
    }

    fn utc(&self) -> Utc {
        self.ring.utc()
    }

    fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<ConnId> {
        self.ring.connect(to, from)
    }

    fn send(&mut self, conn: ConnId, parcel: Parcel) {
        self.ring.send(conn, parcel);
    }

    fn deadline(&mut self, conn: ConnId, at: Tick) {
        self.ring.deadline(conn, at);
    }

    fn close(&mut self, conn: ConnId) {
        self.ring.close(conn);
    }

    fn wait(&mut self, until: Tick, events: &mut Events) -> Result<(), RingError> {
        let next = self.coming.front().map_or(Tick(u64::MAX), |(at, _)| *at);
        self.ring.wait(until.min(next), events)?;
        while let Some((at, order)) = self.coming.pop_front() {
            if at > self.ring.now() {
                self.coming.push_front((at, order));
                break;
            }
            // The stage holds the other end as long as it waits here.
            drop(self.orders.send(order));
        }
        Ok(())
    }
}
