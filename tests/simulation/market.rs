//! market — worlds of several providers and several sources: made from a seed, run to their end,
//! with a kill or a stop in between where the seed says so.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crossbeam::channel::unbounded;
use mailshot::deliver::{
    self, Channels, DeliverError, Group, Live, OnDoubt, Past, Settings, Source, Tally,
};
use mailshot::destination::{GroupNo, Host, Site, SiteNo, SourceNo};
use mailshot::ledger::{self, Book, Desk, Standing, Writer};
use mailshot::outcome::{Row, Stage};
use mailshot::rates::Limits;
use mailshot::ring::{Ring, RingError};
use mailshot::simulate::provider::COMPLAINTS;
use mailshot::simulate::{
    Chance, Feeder, Habits, Latency, Making, Providers, SimRing, Trouble, What, Witness, Work,
};
use mailshot::spool;
use mailshot::spool::handover::Again;
use mailshot::units::{Rate, Tick};

use crate::ring::{BEGUN, Notes, Plan, Watched};
use crate::world::{limits, retry, room};

const SEGMENTS: usize = 8;
const SEGMENT_BYTES: usize = 16 << 10;
const LEDGER_BYTES: u64 = 256 << 10;
const MINUTE: u64 = 60;
const S: u64 = 1_000_000_000;
/// What Yahoo's rule asks for (datasets/rules.toml).
const COMPLAINTS_SILENCE: Duration = Duration::from_secs(2 * 3_600);

/// A provider as the world has it.
pub(crate) struct Party {
    pub(crate) habits: Habits,
    pub(crate) rows: u32,
    /// It has no limits below ours, and nothing ever goes wrong with it.
    pub(crate) is_clean: bool,
}

/// A world before it begins.
pub(crate) struct Market {
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    pub(crate) parties: Vec<Party>,
    /// How late the process wakes at most, in microseconds.
    pub(crate) late: u64,
    pub(crate) killed_at: Option<u64>,
    pub(crate) stopped_at: Option<u64>,
}

/// A world after its end.
pub(crate) struct Ended {
    pub(crate) witnesses: Vec<Witness>,
    pub(crate) notes: Vec<Notes>,
    pub(crate) tallies: Vec<Option<Tally>>,
    pub(crate) book: Book,
}

/// An address of a mail host.
fn host(party: usize, number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 1, party as u8, number as u8 + 1))
}

fn source(number: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 2, 0, number as u8 + 1))
}

fn rate(chance: &mut Chance) -> Rate {
    let period = chance.one_of(&[1, MINUTE, 10 * MINUTE]);
    let most = if period == 1 { 20 } else { 200 };
    Rate { messages: chance.between(1, most) as u32, period: Duration::from_secs(period) }
}

fn some_limits(chance: &mut Chance) -> Limits {
    let steps = chance.one_of(&[&[60][..], &[300, 900], &[5, 30, 600], &[1_200]]);
    // Pauses of hours end before the messages do.
    let schedule = retry(steps, chance.one_of(&[6 * 3_600, 24 * 3_600]));
    let messages = chance.one_of(&[None, Some(1), Some(3), Some(20)]);
    let connections = chance.between(1, 5) as u32;
    let total = chance.happens(250).then(|| chance.between(1, 8) as u32);
    let ramp = chance.happens(250).then(|| Duration::from_secs(chance.between(1, 30)));
    let rates = (0..chance.between(0, 2)).map(|_| rate(chance)).collect();
    let rates_total = (0..chance.between(0, 3) / 3).map(|_| rate(chance)).collect();
    Limits {
        connections_total: total,
        rates,
        rates_total,
        ramp,
        ..limits(connections, messages, schedule)
    }
}

/// Makes a provider's life hard; what the rate table calls it.
fn troubled(habits: &mut Habits, connections: u32, chance: &mut Chance) -> Option<String> {
    let from = Tick(chance.between(0, 300) * S);
    let to = from.after(Duration::from_secs(chance.between(1, 3_600)));
    let host = chance.happens(500).then_some(0);
    match chance.between(0, 9) {
        0 | 8 => {
            let period = Duration::from_secs(chance.one_of(&[1, 10, 60]));
            habits.rates = vec![Rate { messages: chance.between(1, 10) as u32, period }];
            habits.rate_at = chance.one_of(&[Stage::Mail, Stage::Dot]);
            return Some("google".to_owned());
        }
        1 | 9 => {
            let what = What::Demands(COMPLAINTS, COMPLAINTS_SILENCE);
            habits.troubles.push(Trouble { host: None, from, to, what });
            return Some("yahoo".to_owned());
        }
        2 => habits.messages_per_connection = Some(chance.between(1, 5) as u32),
        3 => habits.greylist = Some(Duration::from_secs(chance.between(30, 600))),
        4 => habits.troubles.push(Trouble { host, from, to, what: What::Refuses }),
        5 => habits.troubles.push(Trouble { host, from, to, what: What::Silent }),
        6 => {
            let what = What::Greets(chance.one_of(&["554 5.7.1 no", "421 4.3.2 bye"]));
            habits.troubles.push(Trouble { host, from, to, what });
        }
        _ => habits.connections = Some(chance.between(1, connections.into()) as u32),
    }
    None
}

impl Market {
    /// Anything.
    pub(crate) fn random(seed: u64) -> Market {
        let mut chance = Chance::new(seed ^ 0x006d_6172_6b65_7400);
        let sources = chance.between(1, 4) as usize;
        let (mut groups, mut sites, mut parties) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..chance.between(1, 6) as usize {
            let limits = some_limits(&mut chance);
            let p50 = Duration::from_millis(chance.one_of(&[1, 20, 200, 1_000]));
            let latency = Latency { p50, p95: p50 * chance.between(1, 6) as u32 };
            let count = chance.between(1, 3) as usize;
            let hosts = (0..count).map(|host_no| host(number, host_no)).collect();
            let mut habits = Habits::plain(hosts, latency);
            habits.pipelining = chance.happens(700);
            habits.way = Duration::from_micros(chance.one_of(&[0, 100, 5_000]));
            habits.watched = [&limits.rates[..], &limits.rates_total[..]].concat();
            habits.noting = true;
            habits.bad = chance.one_of(&[0, 0, 50, 500]);
            let is_clean = chance.happens(500);
            let mut provider = None;
            if !is_clean {
                habits.deferred = chance.one_of(&[0, 100, 400]);
                provider = troubled(&mut habits, limits.connections, &mut chance);
            }
            // One site of all hosts, or a site for each.
            let group = GroupNo(number as u32);
            let one = |ips: &[IpAddr], name: String| {
                let addresses = ips.to_vec();
                Site { group, hosts: vec![Host { preference: 1, name, addresses }] }
            };
            match chance.happens(500) {
                true => sites.push(one(&habits.hosts, format!("mx.p{number}.example"))),
                false => sites.extend(habits.hosts.iter().map(|ip| one(&[*ip], format!("{ip}")))),
            }
            groups.push(Group { name: format!("p{number}"), provider, limits });
            let rows = chance.one_of(&[0, 1, 10, 40]) + chance.between(0, 20) as u32;
            parties.push(Party { habits, rows, is_clean });
        }
        let wait = chance.between(1, 800);
        let (killed, stopped) = (chance.happens(150), chance.happens(150));
        let settings = Settings {
            sources: (0..sources)
                .map(|number| Source {
                    address: Some(source(number)),
                    ehlo_name: "sender.example".to_owned(),
                    weight: chance.one_of(&[1, 1, 3]),
                })
                .collect(),
            groups,
            sites,
            port: 25,
            connections: chance.one_of(&[1_000, 1_000, 6]),
            rate: chance.happens(150).then(|| rate(&mut chance)),
            on_doubt: OnDoubt::Hold,
            past: Past::default(),
            quotas: Vec::new(),
            thread: (0, 1),
            segments: SEGMENTS,
            speed: 1,
            loopback_only: true,
        };
        let late = chance.one_of(&[0, 0, 50, 4_000]);
        let killed_at = killed.then_some(wait);
        let stopped_at = (stopped && !killed).then_some(wait);
        Market { seed, settings, parties, late, killed_at, stopped_at }
    }

    /// The same world with the mail of one provider only.
    pub(crate) fn alone(mut self, party: usize) -> Market {
        for (number, other) in self.parties.iter_mut().enumerate() {
            other.rows *= u32::from(number == party);
        }
        self
    }

    pub(crate) fn rows(&self) -> u32 {
        self.parties.iter().map(|party| party.rows).sum()
    }

    /// Which site takes the mail of each row, in the order of the rows.
    fn places(&self) -> Vec<SiteNo> {
        let mut places = Vec::new();
        for (group, party) in self.parties.iter().enumerate() {
            let sites = (0..).zip(&self.settings.sites);
            let of_group = sites.filter(|(_, site)| site.group.index() == group);
            let of_group: Vec<u32> = of_group.map(|(number, _)| number).collect();
            places.extend((0..party.rows as usize).map(|n| SiteNo(of_group[n % of_group.len()])));
        }
        places
    }

    /// Runs the world to its end: again after a kill or a stop.
    pub(crate) fn run(&self) -> Ended {
        let dir = room();
        let (mut ledger_dir, spool_dir) = (dir.path().join("1"), dir.path().join("spool"));
        std::fs::create_dir(&ledger_dir).unwrap();
        std::fs::create_dir(&spool_dir).unwrap();
        let habits = self.parties.iter().map(|party| party.habits.clone()).collect();
        let mut providers = Providers::new(habits, self.seed);
        let (mut notes, mut tallies) = (Vec::new(), Vec::new());
        let mut now = Tick(0);
        loop {
            let number = notes.len();
            let run = self.process(number, (&ledger_dir, &spool_dir), now, providers);
            let (of_process, tally);
            (of_process, tally, now, providers) = run;
            notes.push(of_process);
            if tally.is_none() {
                // The sync thread of the dead process still has its hands on the old files.
                let next = dir.path().join(format!("{}", number + 2));
                crate::world::copy(&ledger_dir, &next);
                ledger_dir = next;
            }
            tallies.push(tally);
            if number > 0 || self.killed_at.is_none() && self.stopped_at.is_none() {
                let (book, _) = ledger::recover(&ledger_dir, "sim", self.rows()).unwrap();
                let witnesses = providers.witnesses().cloned().collect();
                return Ended { witnesses, notes, tallies, book };
            }
        }
    }

    fn process(
        &self,
        number: usize,
        (ledger_dir, spool_dir): (&Path, &Path),
        now: Tick,
        mut providers: Providers,
    ) -> (Notes, Option<Tally>, Tick, Providers) {
        providers.hung_up();
        let utc = BEGUN.after(Duration::from_nanos(now.0));
        let (book, tail) = ledger::recover(ledger_dir, "sim", self.rows()).unwrap();
        let writer = Writer::open_sized(ledger_dir, "sim", utc, &tail, LEDGER_BYTES).unwrap();
        let writer = Desk::new(writer);
        let (feed, fed) = unbounded();
        let (back, backed) = unbounded();
        let (operator, orders) = unbounded();
        let (notices, _noticed) = unbounded();
        let segments = spool::create(spool_dir, 7, SEGMENTS, SEGMENT_BYTES).unwrap();
        let groups = &self.settings.groups;
        let making = Making {
            retry: groups.iter().map(|group| group.limits.retry.clone()).collect(),
            message: |row, _, text| text.extend(format!("X-Row: {row}\r\n\r\n").bytes()),
            unmakeable: 0,
            unasked: false,
        };
        let feeder = Feeder::new((feed, backed), segments, self.work(&book), making);
        let first = number == 0;
        let plan = Plan {
            killed_at: self.killed_at.filter(|_| first),
            stopped_at: self.stopped_at.filter(|_| first),
            ledger: (ledger_dir.to_owned(), 0),
        };
        let past = past(&providers, now);
        let settings = Settings { past, ..self.settings.clone() };
        let stop = AtomicBool::new(false);
        let seed = |salt| Chance::new(self.seed ^ salt ^ number as u64);
        let ring = SimRing::new(providers, feeder, BEGUN, now).waking_late(self.late, seed(1));
        let mut ring = Watched::new(ring, plan, seed(2), (&stop, operator));
        let channels = Channels { feed: fed, back, orders, notices };
        let last_connection = AtomicU64::new(1_000_000 * number as u64);
        let live = Live { last_connection, ..Live::default() };
        let done = deliver::run(&mut ring, &settings, &channels, &writer, &live, &stop);
        let tally = match done {
            Ok(tally) => Some(tally),
            Err(DeliverError::Ring(RingError::Broken { doing: "being killed", .. })) => None,
            Err(error) => panic!("the stage ended: {error}"),
        };
        if tally.is_some() {
            writer.into_writer().close(ring.utc()).unwrap();
        }
        ring.ring.run_dry();
        let now = Tick(ring.now().0 + 1_000_000);
        (ring.notes, tally, now, ring.ring.receivers)
    }

    fn work(&self, book: &Book) -> Work {
        let mut fresh = vec![VecDeque::new(); self.parties.len()];
        let mut waiting = Vec::new();
        for (row, site) in (1..).map(Row).zip(self.places()) {
            let group = self.settings.sites[site.index()].group;
            match book.standing(row) {
                Standing::Pending => fresh[group.index()].push_back((row, site)),
                Standing::Waiting { attempt, until, first_attempt } => waiting.push(Again {
                    due: until,
                    row,
                    attempt: attempt + 1,
                    first_attempt: Some(first_attempt),
                    site,
                    group,
                    source: None,
                }),
                Standing::InFlight { .. } | Standing::Final(_) => {}
            }
        }
        Work { fresh, waiting }
    }
}

/// What was sent before, as those know who received it.
fn past(providers: &Providers, now: Tick) -> Past {
    let mut past = Past::default();
    let mut all = Vec::new();
    for (group, witness) in (0..).map(GroupNo).zip(providers.witnesses()) {
        let ages = |of: Option<usize>| -> Vec<Duration> {
            let begins = witness.begins.iter();
            let begins = begins.filter(|(_, source)| of.is_none_or(|of| of == *source));
            begins.map(|(at, _)| now.since(*at)).collect()
        };
        for (number, counters) in witness.sources.iter().enumerate() {
            let Some(IpAddr::V4(ip)) = counters.source else { continue };
            let lane = SourceNo(u32::from(ip.octets()[3]) - 1);
            past.lanes.push((group, lane, ages(Some(number))));
        }
        past.groups.push((group, ages(None)));
        all.extend(ages(None));
    }
    all.sort_by_key(|age| std::cmp::Reverse(*age));
    past.run = all;
    past
}

/// How long after it heard of a silence the sender may still be heard: it wakes late to what it
/// hears and late again to what leaves.
pub(crate) fn reaction(market: &Market, party: usize) -> Duration {
    let way = market.parties[party].habits.way;
    Duration::from_micros(2 * market.late) + way + Duration::from_millis(1)
}
