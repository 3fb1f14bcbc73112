//! site — the mail hosts that share some domains' mail: which of their addresses is next, which
//! messages wait for them, which connections to them could take one.
//!
//! Addresses are tried in the order of preference (RFC 5321 §5.1), those of equal preference in
//! turn. One that cannot be reached, or whose host turns us away, rests for a while and the next is
//! tried; when all rest, the site does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::destination::{GroupNo, Host, Site as Hosts, SourceNo};
use crate::rates::IpPolicy;
use crate::ring::ConnId;
use crate::smtp::session::Tag;
use crate::units::Tick;

/// The first rest of an address after trouble.
const REST_MIN: Duration = Duration::from_secs(1);
/// The longest: a host that was down for a night is found within five minutes.
const REST_MAX: Duration = Duration::from_secs(300);

/// One address of a mail host.
struct Address {
    host: usize,
    preference: u16,
    to: SocketAddr,
    rests_until: Tick,
    rest: Duration,
}

/// A site in delivery.
pub(super) struct Site {
    pub(super) group: GroupNo,
    hosts: Vec<Host>,
    addresses: Vec<Address>,
    turn: usize,
    /// Since when no address has taken a message.
    down_since: Option<Tick>,
    /// Messages that may come from any source.
    ready: VecDeque<Tag>,
    /// Messages that must come from one.
    bound: VecDeque<(SourceNo, Tag)>,
    /// Connections that may be idle; checked when used.
    pub(super) idle: Vec<ConnId>,
    /// Connections that may take an envelope behind their message; checked when used.
    pub(super) behind: VecDeque<ConnId>,
    /// Connections that have not greeted.
    pub(super) greeting: u32,
    /// It is on its group's list of sites with messages.
    pub(super) listed: bool,
}

impl Site {
    /// A site whose addresses are those that `policy` allows.
    pub(super) fn new(site: Hosts, port: u16, policy: IpPolicy) -> Site {
        let mut addresses = Vec::new();
        for (number, host) in site.hosts.iter().enumerate() {
            for ip in in_order(host, policy) {
                addresses.push(Address {
                    host: number,
                    preference: host.preference,
                    to: SocketAddr::new(ip, port),
                    rests_until: Tick(0),
                    rest: Duration::ZERO,
                });
            }
        }
        Site {
            group: site.group,
            hosts: site.hosts,
            addresses,
            turn: 0,
            down_since: None,
            ready: VecDeque::new(),
            bound: VecDeque::new(),
            idle: Vec::new(),
            behind: VecDeque::new(),
            greeting: 0,
            listed: false,
        }
    }

    /// The name of the host with this address of the site.
    pub(super) fn host(&self, address: usize) -> &str {
        let host = self.addresses.get(address).map_or(0, |address| address.host);
        &self.hosts[host].name
    }

    /// The name of its first host.
    pub(super) fn first_host(&self) -> &str {
        &self.hosts[0].name
    }

    /// The address for the next connection: of those that do not rest, the most preferred, in turn.
    pub(super) fn next_address(&mut self, now: Tick) -> Option<(usize, SocketAddr)> {
        let awake = |address: &Address| address.rests_until <= now;
        let best = self.addresses.iter().filter(|a| awake(a)).map(|a| a.preference).min()?;
        let count = self.addresses.len();
        let chosen = (0..count).map(|step| (self.turn + step) % count).find(|at| {
            let address = &self.addresses[*at];
            awake(address) && address.preference == best
        })?;
        self.turn = (chosen + 1) % count;
        Some((chosen, self.addresses[chosen].to))
    }

    /// When the site may be approached again; past when it may be now, and never when no address
    /// is allowed.
    pub(super) fn wakes_at(&self) -> Tick {
        let wakes = self.addresses.iter().map(|address| address.rests_until);
        wakes.min().unwrap_or(Tick(u64::MAX))
    }

    /// Whether there is any address to try.
    pub(super) fn has_address(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// The address failed. Whether that leaves none, and is news.
    pub(super) fn failed(&mut self, address: usize, now: Tick) -> bool {
        let failed = &mut self.addresses[address];
        if failed.rests_until > now {
            return false;
        }
        failed.rest = failed.rest.clamp(REST_MIN, REST_MAX);
        failed.rests_until = now.after(failed.rest);
        failed.rest = (failed.rest * 2).min(REST_MAX);
        let down = self.wakes_at() > now;
        if down {
            self.down_since.get_or_insert(now);
        }
        down
    }

    /// The address took a message.
    pub(super) fn took(&mut self, address: usize) {
        let took = &mut self.addresses[address];
        took.rest = Duration::ZERO;
        took.rests_until = Tick(0);
        self.down_since = None;
    }

    /// How long no address has taken a message although some were tried.
    pub(super) fn down_for(&self, now: Tick) -> Duration {
        self.down_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// A message waits for the site, as the last one or as the next.
    pub(super) fn push(&mut self, tag: Tag, source: Option<SourceNo>, first: bool) {
        match (source, first) {
            (Some(source), true) => self.bound.push_front((source, tag)),
            (Some(source), false) => self.bound.push_back((source, tag)),
            (None, true) => self.ready.push_front(tag),
            (None, false) => self.ready.push_back(tag),
        }
    }

    /// The next message for a connection from `source`.
    pub(super) fn next(&self, source: SourceNo) -> Option<Tag> {
        let bound = self.bound.iter().find(|(of, _)| *of == source);
        bound.map(|(_, tag)| *tag).or_else(|| self.ready.front().copied())
    }

    /// Takes what [`next`](Self::next) says.
    pub(super) fn take(&mut self, source: SourceNo) -> Option<Tag> {
        match self.bound.iter().position(|(of, _)| *of == source) {
            Some(at) => self.bound.remove(at).map(|(_, tag)| tag),
            None => self.ready.pop_front(),
        }
    }

    /// What was bound to a source may come from any.
    pub(super) fn unbind(&mut self, source: SourceNo) {
        let (free, bound): (Vec<_>, Vec<_>) =
            self.bound.drain(..).partition(|(of, _)| *of == source);
        self.bound = bound.into();
        self.ready.extend(free.into_iter().map(|(_, tag)| tag));
    }

    /// The message that [`take_any`](Self::take_any) takes.
    pub(super) fn first(&self) -> Option<Tag> {
        self.ready.front().copied().or_else(|| self.bound.front().map(|(_, tag)| *tag))
    }

    /// Takes this message, if it waits first or is bound.
    pub(super) fn remove(&mut self, tag: Tag) -> bool {
        if self.ready.front() == Some(&tag) {
            return self.ready.pop_front().is_some();
        }
        let at = self.bound.iter().position(|(_, of)| *of == tag);
        at.and_then(|at| self.bound.remove(at)).is_some()
    }

    /// Takes any message, to be sent back or charged.
    pub(super) fn take_any(&mut self) -> Option<Tag> {
        self.ready.pop_front().or_else(|| self.bound.pop_front().map(|(_, tag)| tag))
    }

    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.ready.len() + self.bound.len()
    }

    /// Messages that a connection from `source` could take.
    pub(super) fn waiting_for(&self, source: SourceNo) -> usize {
        self.ready.len() + self.bound.iter().filter(|(of, _)| *of == source).count()
    }
}

fn in_order(host: &Host, policy: IpPolicy) -> impl Iterator<Item = std::net::IpAddr> {
    let four = host.addresses.iter().copied().filter(|ip| ip.is_ipv4());
    let six = host.addresses.iter().copied().filter(|ip| ip.is_ipv6());
    let (first, second): (Vec<_>, Vec<_>) = match policy {
        IpPolicy::V4Only => (four.collect(), Vec::new()),
        IpPolicy::V6Only => (six.collect(), Vec::new()),
        IpPolicy::V4First => (four.collect(), six.collect()),
        IpPolicy::V6First => (six.collect(), four.collect()),
    };
    first.into_iter().chain(second)
}
