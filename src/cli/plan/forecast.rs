//! forecast — one group of mail hosts: how long its mail takes from the sources there are, and
//! which limit makes it so.
//!
//! The arithmetic is that of `rates::estimate`. Added here is what it does not know: which sources
//! can reach the hosts at all, how far each is in its warm-up, what earlier runs have used up of
//! the rates, and where each limit stands. Ceilings of the whole run are the caller's. It cannot
//! fail, and must not know lists or how a plan looks.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::super::terrain::{Terrain, row};
use crate::destination::{GroupNo, Host};
use crate::history::Past;
use crate::outcome::Binding;
use crate::problem::Place;
use crate::rates::table::{Layered, Values};
use crate::rates::warmup::{Cap, Schedule, Stage, stage_on};
use crate::rates::{Bucket, Demand, Estimate, IpPolicy, Limits, Table, estimate, sources_for};
use crate::units::{Human, Rate, Tick, Utc};

const DAY: f64 = 86_400.0;

/// A source to send from, or several that are alike.
pub(super) struct Sender<'a> {
    /// How many there are.
    pub(super) count: u32,
    /// `None` for what the system chooses.
    pub(super) address: Option<IpAddr>,
    /// How it is warmed up.
    pub(super) warming: Option<Warming<'a>>,
}

/// The warm-up of a source.
pub(super) struct Warming<'a> {
    pub(super) schedule: &'a Schedule,
    /// The first day.
    pub(super) from: Utc,
    /// Where the campaign says so.
    pub(super) place: &'a Place,
}

/// Everything that is known before the first connection.
pub(super) struct Ground<'a> {
    pub(super) terrain: &'a Terrain,
    pub(super) table: &'a Table,
    /// Where a smarthost's limits stand; `None` where the table has them.
    pub(super) smarthost: Option<Place>,
    pub(super) senders: &'a [Sender<'a>],
    pub(super) past: &'a Past,
    pub(super) now: Utc,
    /// How long one message is assumed to occupy a connection.
    pub(super) latency: Duration,
    /// By number, which kinds of addresses the hosts of each group have.
    pub(super) families: Vec<Families>,
}

/// Which kinds of addresses there are.
#[derive(Clone, Copy, Default)]
pub(super) struct Families {
    v4: bool,
    v6: bool,
}

/// What binds, in words.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bind {
    /// The word of [`Binding`].
    pub(super) limit: &'static str,
    /// The limit with its number.
    pub(super) words: String,
    /// Where it stands, as `file:line`; empty when nothing binds.
    pub(super) place: String,
}

/// What is foreseen for one group.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Forecast {
    /// The group's name.
    pub(super) name: String,
    /// Its provider, if the rate table has it.
    pub(super) provider: Option<String>,
    pub(super) recipients: u64,
    pub(super) domains: u64,
    /// Sources that can reach it.
    pub(super) lanes: u32,
    /// Connections at a time from all of them.
    pub(super) connections: u64,
    /// What its rates permit in an hour, from all lanes; `None` without any rate.
    pub(super) permitted_per_hour: Option<f64>,
    /// `None` for never.
    pub(super) takes_seconds: Option<f64>,
    pub(super) finish: Option<String>,
    pub(super) binds: Bind,
    #[serde(skip)]
    pub(super) takes: Duration,
    #[serde(skip)]
    pub(super) group: GroupNo,
}

/// What a deadline asks of one group.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Need {
    /// The group's name.
    pub(super) name: String,
    /// Sources that it has now.
    pub(super) has: u32,
    /// Sources that would do; `None` when no number does.
    pub(super) sources: Option<u32>,
    /// What stands in the way besides their number; empty for nothing.
    pub(super) why: String,
}

impl Bind {
    pub(super) fn new(limit: Binding, words: impl Into<String>, place: String) -> Bind {
        Bind { limit: limit.word(), words: words.into(), place }
    }
}

/// Which kinds of addresses the hosts of each group have.
pub(super) fn families(terrain: &Terrain) -> Vec<Families> {
    let mut families = vec![Families::default(); terrain.groups.len()];
    for site in &terrain.sites {
        let of = &mut families[site.group.index()];
        for address in site.hosts.iter().flat_map(|host: &Host| &host.addresses) {
            of.v4 |= address.is_ipv4();
            of.v6 |= address.is_ipv6();
        }
    }
    families
}

/// `file:line`, as people read it.
pub(super) fn line_of(place: &Place) -> String {
    Place { column: 0, ..place.clone() }.to_string()
}

impl Ground<'_> {
    /// What is foreseen for a group with so many recipients at so many domains.
    pub(super) fn forecast(&self, group: GroupNo, recipients: u64, domains: u64) -> Forecast {
        let name = &self.terrain.groups[group.index()].name;
        let limits = self.limits(group);
        let senders = self.usable(group);
        let lanes = lanes(&senders);
        let (takes, binds) = match lanes {
            0 => (Duration::MAX, self.out_of_reach(group)),
            _ => self.takes(group, recipients, &senders),
        };
        let never = takes == Duration::MAX;
        let all = u64::from(lanes) * u64::from(limits.connections);
        Forecast {
            name: name.clone(),
            provider: self.terrain.groups[group.index()].provider.clone(),
            recipients,
            domains,
            lanes,
            connections: limits.connections_total.map_or(all, |total| all.min(total.into())),
            permitted_per_hour: permitted(limits, lanes),
            takes_seconds: (!never).then_some(takes.as_secs_f64()),
            finish: (!never).then(|| self.now.after(takes).to_string()),
            binds,
            takes,
            group,
        }
    }

    /// How many sources would finish a group in time that is now too late.
    pub(super) fn need(&self, of: &Forecast, deadline: Duration) -> Need {
        let senders = self.usable(of.group);
        let demand = self.demand(of.group, of.recipients, of.lanes.max(1));
        let sources = sources_for(demand, deadline).filter(|_| of.lanes > 0);
        let cold = senders.iter().any(|sender| self.stage(sender, &of.name).is_some());
        let why = match sources {
            None if of.lanes == 0 => of.binds.words.clone(),
            None => {
                let endless = Demand { sources: u32::MAX, ..demand };
                let Bind { words, place, .. } = self.binds(of.group, estimate(endless), &senders);
                match place.is_empty() {
                    true => format!("one message takes {}", Human(self.latency)),
                    false => format!("{words} · {place}"),
                }
            }
            Some(_) if cold => "when they are warm".to_owned(),
            Some(enough) if enough <= of.lanes => {
                "when what was sent before does not count any more".to_owned()
            }
            Some(_) => String::new(),
        };
        Need { name: of.name.clone(), has: of.lanes, sources, why }
    }

    /// What a sender's warm-up allows at a group: the stage from 0, its share and why; `None` when
    /// it is warm.
    pub(super) fn stage(&self, sender: &Sender<'_>, group: &str) -> Option<(usize, Cap, String)> {
        let Warming { schedule, from, .. } = sender.warming.as_ref()?;
        let days = match sender.address {
            Some(address) => self.past.days(address, group),
            None => self.past.days_total(group),
        };
        match stage_on(schedule, from.day(), self.now.day(), &days) {
            Stage::Cold { stage, cap, why } => Some((stage, cap, why)),
            Stage::Warm => None,
        }
    }

    fn limits(&self, group: GroupNo) -> &Limits {
        &self.terrain.groups[group.index()].limits
    }

    /// The senders that the addresses of the hosts and the policy of the table leave.
    fn usable(&self, group: GroupNo) -> Vec<&Sender<'_>> {
        let of = self.families[group.index()];
        let (v4, v6) = match self.limits(group).ip {
            IpPolicy::V4Only => (of.v4, false),
            IpPolicy::V6Only => (false, of.v6),
            IpPolicy::V4First | IpPolicy::V6First => (of.v4, of.v6),
        };
        let reaches = |sender: &&Sender<'_>| match sender.address {
            Some(IpAddr::V4(_)) => v4,
            Some(IpAddr::V6(_)) => v6,
            None => v4 || v6,
        };
        self.senders.iter().filter(reaches).collect()
    }

    fn demand(&self, group: GroupNo, recipients: u64, sources: u32) -> Demand<'_> {
        let limits = self.limits(group);
        Demand { recipients, limits, sources, share: 1.0, latency: self.latency, daily: &|_| None }
    }

    /// How long the mail of a group takes from these senders, and what makes it so.
    fn takes(&self, group: GroupNo, recipients: u64, senders: &[&Sender<'_>]) -> (Duration, Bind) {
        let free = self.demand(group, recipients, lanes(senders));
        let unhindered = estimate(free);
        let name = &self.terrain.groups[group.index()].name;
        let days = self.days(name, self.able(group), senders);
        let daily = |day: u32| days.caps.get(day as usize).copied();
        let mut found = estimate(Demand { daily: &daily, ..free });
        // Beside warm sources the cold ones only help, unless most of the time is theirs.
        if days.beside_warm && found.takes < unhindered.takes.saturating_mul(2) {
            found.binding = unhindered.binding;
        }
        let mut takes = found.takes;
        let mut binds = self.binds(group, found, senders);
        for (binding, key, rate) in rates(free.limits) {
            let (delay, used) = self.behind(name, (binding, rate), senders);
            if used == 0 {
                continue;
            }
            let abreast = if binding == Binding::Rate { free.sources.into() } else { 1_u64 };
            let last = recipients.div_ceil(abreast).saturating_sub(1);
            let interval = Bucket::new(rate, Tick(0)).interval().as_secs_f64();
            let seconds = delay.as_secs_f64() + last as f64 * interval;
            let own = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            if own.saturating_add(self.latency) > takes {
                takes = own.saturating_add(self.latency);
                let words = format!("{key} {rate}, {used} of it sent before");
                binds = Bind::new(binding, words, self.place(group, key));
            }
        }
        (takes, binds)
    }

    /// Messages that one source can send to a group in a day.
    fn able(&self, group: GroupNo) -> f64 {
        let limits = self.limits(group);
        let rate = |rate: &Rate| DAY / Bucket::new(*rate, Tick(0)).interval().as_secs_f64();
        let connections = f64::from(limits.connections) * DAY / self.latency.as_secs_f64();
        limits.rates.iter().map(rate).fold(connections, f64::min)
    }

    /// What the warm-up leaves to all senders together on each day while one of them is cold.
    fn days(&self, group: &str, able: f64, senders: &[&Sender<'_>]) -> Days {
        let mut cold = Vec::new();
        for sender in senders {
            if let (Some((stage, ..)), Some(warming)) = (self.stage(sender, group), &sender.warming)
            {
                let sent = sender.address.map(|address| self.past.today(address, group, self.now));
                let sent = sent.map_or(0, |(today, _)| today);
                cold.push((sender.count, &warming.schedule.stages[stage..], sent));
            }
        }
        let all_days = cold.iter().map(|(_, stages, _)| stages.len()).max().unwrap_or(0);
        let warm = lanes(senders) - cold.iter().map(|(count, ..)| count).sum::<u32>();
        let cap = |day: usize| {
            let of = |(count, stages, sent): &(u32, &[Cap], u64)| {
                let share = stages.get(day).and_then(per_day).map_or(able, |cap| cap as f64);
                let sent = if day == 0 { *sent as f64 } else { 0.0 };
                f64::from(*count) * (share - sent).clamp(0.0, able)
            };
            (cold.iter().map(of).sum::<f64>() + f64::from(warm) * able) as u64
        };
        Days { caps: (0..all_days).map(cap).collect(), beside_warm: warm > 0 }
    }

    /// How long a rate makes the senders wait for what was sent before, and how much that was.
    fn behind(
        &self,
        group: &str,
        (binding, rate): (Binding, Rate),
        senders: &[&Sender<'_>],
    ) -> (Duration, u64) {
        let all = || self.past.recent_total(group, self.now, rate.period).collect::<Vec<_>>();
        let delay = |ages: Vec<Duration>| {
            let used = ages.len() as u64;
            (Bucket::resumed(rate, Tick(0), ages).next().since(Tick(0)), used)
        };
        if binding != Binding::Rate {
            return delay(all());
        }
        let (mut waits, mut sent) = (Duration::ZERO, 0);
        for sender in senders {
            let ages = match sender.address {
                Some(of) => self.past.recent(of, group, self.now, rate.period).collect(),
                None => all(),
            };
            let (wait, used) = delay(ages);
            waits = waits.saturating_add(wait.saturating_mul(sender.count));
            sent += used * u64::from(sender.count);
        }
        (waits / lanes(senders).max(1), sent)
    }

    /// A limit in words, with its number and where it stands.
    fn binds(&self, group: GroupNo, of: Estimate, senders: &[&Sender<'_>]) -> Bind {
        let nothing = || Bind::new(Binding::Nothing, "nothing", String::new());
        if of.takes <= self.latency {
            return nothing();
        }
        let (limits, binding) = (self.limits(group), of.binding);
        let latency = Human(self.latency);
        let (words, key) = match binding {
            Binding::Rate | Binding::RateTotal => {
                // Of several the one that waits longest between two messages; there is one.
                let interval = |rate: Rate| Bucket::new(rate, Tick(0)).interval();
                let all = rates(limits).filter(|(of, ..)| *of == binding);
                match all.min_by_key(|(_, _, rate)| std::cmp::Reverse(interval(*rate))) {
                    Some((_, key, rate)) => (format!("{key} {rate}"), key),
                    None => return nothing(),
                }
            }
            Binding::Connections => {
                let count = limits.connections;
                (format!("connections {count} at {latency} a message"), "connections")
            }
            Binding::ConnectionsTotal => {
                let count = limits.connections_total.unwrap_or(limits.connections);
                (format!("connections_total {count} at {latency} a message"), "connections_total")
            }
            Binding::WarmUp => return self.warm_up(group, senders),
            _ => return nothing(),
        };
        Bind::new(binding, words, self.place(group, key))
    }

    /// The warm-up in words: that of the first cold source.
    fn warm_up(&self, group: GroupNo, senders: &[&Sender<'_>]) -> Bind {
        let name = &self.terrain.groups[group.index()].name;
        let first = senders.iter().find_map(|sender| {
            let (stage, cap, _) = self.stage(sender, name)?;
            Some((sender.warming.as_ref()?, stage, cap))
        });
        match first {
            None => Bind::new(Binding::WarmUp, "warm-up", String::new()),
            Some((warming, stage, cap)) => {
                let (schedule, of) = (&warming.schedule.name, warming.schedule.stages.len());
                let words =
                    format!("warm-up {schedule}, stage {} of {of}: {}", stage + 1, share(&cap));
                Bind::new(Binding::WarmUp, words, line_of(warming.place))
            }
        }
    }

    fn out_of_reach(&self, group: GroupNo) -> Bind {
        let words = "no source has an address of the kind that its hosts have and ip allows";
        Bind::new(Binding::Unreachable, words, self.place(group, "ip"))
    }

    /// Where a limit of a group stands.
    fn place(&self, group: GroupNo, key: &str) -> String {
        fn of<T>(value: &Layered<T>) -> Option<&Place> {
            value.in_force().map(|found| &found.place)
        }
        if let Some(place) = &self.smarthost {
            return format!("{} [delivery]", place.file);
        }
        let provider = self.terrain.groups[group.index()].provider.as_deref();
        let values: &Values = &row(self.table, provider).values;
        let place = match key {
            "rate" => of(&values.rates),
            "rate_total" => of(&values.rates_total),
            "rate_dkim" => of(&values.rates_dkim),
            "connections" => of(&values.connections),
            "connections_total" => of(&values.connections_total),
            _ => of(&values.ip),
        };
        place.map_or_else(String::new, line_of)
    }
}

/// What the warm-up leaves.
struct Days {
    /// Messages of all senders, by day from the start; no cap after the last.
    caps: Vec<u64>,
    /// Whether some senders are warm.
    beside_warm: bool,
}

/// A day's share in words.
pub(super) fn share(cap: &Cap) -> String {
    let parts = [(cap.daily, "a day"), (cap.hourly, "an hour")];
    let parts = parts.into_iter().filter_map(|(cap, per)| Some(format!("{} {per}", cap?)));
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "no cap".to_owned() } else { parts.join(", ") }
}

/// What a stage admits in a day.
pub(super) fn per_day(cap: &Cap) -> Option<u64> {
    cap.daily.into_iter().chain(cap.hourly.map(|hourly| hourly.saturating_mul(24))).min()
}

fn lanes(senders: &[&Sender<'_>]) -> u32 {
    senders.iter().map(|sender| sender.count).sum()
}

/// Every rate of a group with its key.
fn rates(limits: &Limits) -> impl Iterator<Item = (Binding, &'static str, Rate)> {
    let own = limits.rates.iter().map(|rate| (Binding::Rate, "rate", *rate));
    let total = limits.rates_total.iter().map(|rate| (Binding::RateTotal, "rate_total", *rate));
    let dkim = limits.rates_dkim.iter().map(|rate| (Binding::RateTotal, "rate_dkim", *rate));
    own.chain(total).chain(dkim)
}

/// What the rates of a group permit in an hour.
fn permitted(limits: &Limits, lanes: u32) -> Option<f64> {
    let hourly = |(binding, _, rate): (Binding, &str, Rate)| {
        let one = f64::from(rate.messages) * 3600.0 / rate.period.as_secs_f64();
        if binding == Binding::Rate { one * f64::from(lanes) } else { one }
    };
    rates(limits).map(hourly).min_by(f64::total_cmp)
}
