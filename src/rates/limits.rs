//! limits — what one group of mail hosts bears, as plain numbers.
//!
//! `table` reads them from files and knows where each number comes from; whoever only keeps them
//! sees these.

use std::time::Duration;

use super::Retry;
use crate::units::Rate;

/// The limits of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time from one source; at least 1.
    pub connections: u32,
    /// Connections at a time from all sources together.
    pub connections_total: Option<u32>,
    /// Messages on one connection; `None` for no limit.
    pub messages_per_connection: Option<u32>,
    /// Attempted recipients per period from one source; each of them holds.
    pub rates: Vec<Rate>,
    /// The same for all sources together.
    pub rates_total: Vec<Rate>,
    /// The same for each signing domain; each message of a run carries all of its signatures, so
    /// within a run this is like `rates_total`.
    pub rates_dkim: Vec<Rate>,
    /// The shortest time between opening two connections from one source.
    pub ramp: Option<Duration>,
    /// When deferred messages are tried again, and when they are given up.
    pub retry: Retry,
    /// How far the connections are protected.
    pub tls: Tls,
    /// Which addresses of the mail hosts are used.
    pub ip: IpPolicy,
    /// What to leave out although the receiver offers it.
    pub quirks: Vec<Quirk>,
}

/// How far connections are protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    None,
    /// Where it is offered.
    #[default]
    Opportunistic,
    /// Always; the certificate is not looked at.
    Required,
    /// Always, with a certificate that is valid for the mail host's name.
    Verified,
}

/// Which addresses of mail hosts are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpPolicy {
    /// IPv4 only: what most receivers' reputation systems still expect.
    #[default]
    V4Only,
    /// IPv6 only.
    V6Only,
    /// IPv4, then IPv6.
    V4First,
    /// IPv6, then IPv4.
    V6First,
}

/// A receiver's peculiarity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quirk {
    /// It announces PIPELINING and does not bear it.
    NoPipelining,
}
