//! settings — what the stage is told before it starts, what it may be told while it works, and what
//! it tells about itself.

use std::net::IpAddr;
use std::time::Duration;

use crate::destination::{GroupNo, Site, SourceNo};
use crate::rates::warmup::{Cap, Quota};
use crate::rates::{Limits, Who};
use crate::units::Rate;

/// What to do with a message whose final reply was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDoubt {
    /// Keep it as in doubt, list it, do not send it again.
    Hold,
    /// Send it again; it may arrive twice.
    Resend,
}

/// One of our addresses to send from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where connections come from; `None` lets the kernel choose.
    pub address: Option<IpAddr>,
    /// Its name in EHLO.
    pub ehlo_name: String,
    /// Its share of the messages, relative to the others; at least 1.
    pub weight: u32,
}

/// A group of mail hosts and how it may be approached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name in records: the provider's, or that of its first mail host.
    pub name: String,
    /// The provider, if the rate table knows it.
    pub provider: Option<String>,
    /// Its limits.
    pub limits: Limits,
}

/// What the lanes sent before this process began, for the rates that span it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Per lane, how long ago each message began, the oldest first.
    pub lanes: Vec<(GroupNo, SourceNo, Vec<Duration>)>,
    /// The same per group, from all sources.
    pub groups: Vec<(GroupNo, Vec<Duration>)>,
    /// The same for the run.
    pub run: Vec<Duration>,
}

/// Where, from where and how fast to deliver.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From where; at least one.
    pub sources: Vec<Source>,
    /// All groups, in the order of their numbers.
    pub groups: Vec<Group>,
    /// All sites, in the order of their numbers.
    pub sites: Vec<Site>,
    /// The port of all mail hosts.
    pub port: u16,
    /// Connections at a time to all groups together.
    pub connections: u32,
    /// Attempted recipients per period to all groups together; `None` means no limit.
    pub rate: Option<Rate>,
    /// What to do when a final reply is lost.
    pub on_doubt: OnDoubt,
    /// What was sent before.
    pub past: Past,
    /// What the warm-up leaves to lanes; those without are warm.
    pub quotas: Vec<(GroupNo, SourceNo, Quota)>,
    /// Which of the delivery threads this is, and of how many: it has the groups whose number
    /// leaves this remainder.
    pub thread: (u32, u32),
    /// Segments of the spool that this thread works with.
    pub segments: usize,
    /// How many times as fast as the clock the lanes' time runs: 1, but for rehearsals.
    pub speed: u32,
    /// Refuse to connect anywhere but to loopback (rehearsals).
    pub loopback_only: bool,
}

/// What the stage is told while it works.
#[derive(Clone, Debug)]
pub enum Order {
    /// A further group; its number is the next.
    Group(Group),
    /// A further site; its number is the next.
    Site(Site),
    /// Other limits for a group.
    Limits(GroupNo, Limits),
    /// Nothing begins in this scope until it is resumed.
    Park(Who),
    /// The scope was stopped because of a reply, and stays so until it is resumed.
    Halt(Who),
    /// Lifts every stop of the scope.
    Resume(Who),
    /// Half the pace for the scope, for a while.
    Slow(Who),
    /// What a lane may send of its warm-up from now on; `None` when it is warm.
    Cap(GroupNo, SourceNo, Option<Cap>),
    /// Every message that has not begun is given up.
    Cancel,
}

/// What the stage tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A reply stopped this scope for a time.
    Paused {
        /// What.
        who: Who,
        /// For how long at least.
        time: Duration,
        /// The group that replied.
        group: GroupNo,
        /// The rule and the reply's words.
        why: String,
    },
    /// A reply stopped this scope until somebody acts.
    Halted {
        /// What.
        who: Who,
        /// The group that replied.
        group: GroupNo,
        /// The rule and the reply's words.
        why: String,
    },
}
