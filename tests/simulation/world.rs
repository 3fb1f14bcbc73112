//! world — one campaign's delivery in a simulated world: made from a seed, run to its end, with a
//! kill or a stop in between where the seed says so.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crossbeam::channel::unbounded;
use mailshot::deliver::{
    self, Channels, DeliverError, Group, Live, OnDoubt, Past, Settings, Source, Tally,
};
use mailshot::destination::{GroupNo, Host, Site, SiteNo};
use mailshot::ledger::{self, Book, Desk, Record, Standing, Writer};
use mailshot::outcome::{Enhanced, Kind, Row, Stage};
use mailshot::rates::{IpPolicy, Limits, Retry, Tls};
use mailshot::ring::{Ring, RingError};
use mailshot::simulate::{Chance, Feeder, Making, SimRing, Work};
use mailshot::spool;
use mailshot::spool::handover::Again;
use mailshot::units::{Rate, Tick, Utc};

use crate::personality::Personality;
use crate::receiver::Office;
use crate::ring::{BEGUN, Closing, Crowd, Notes, Plan, Watched, tick, write_message};

const SEGMENTS: usize = 3;
/// Room for one to four of the longest messages.
const SEGMENT_BYTES: usize = 8 << 10;
/// Small, so that the replays of a run are cheap; runs of a thousand attempts rotate.
const LEDGER_BYTES: u64 = 256 << 10;

/// A world before it begins.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) rows: u32,
    pub(crate) settings: Settings,
    pub(crate) receivers: Vec<Rc<Personality>>,
    pub(crate) late: u64,
    pub(crate) killed_at: Option<u64>,
    pub(crate) stopped_at: Option<u64>,
    pub(crate) unmakeable: u32,
    /// Of so many messages one is looked up in the ledger before it leaves; 0 for none.
    pub(crate) look_up: u64,
}

/// An outcome as the ledger has it, without what the laws do not ask for.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) row: u32,
    pub(crate) attempt: u16,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) code: u16,
    pub(crate) enhanced: Option<Enhanced>,
    pub(crate) response: String,
    pub(crate) at: Tick,
    pub(crate) time: Utc,
    pub(crate) first_attempt: Utc,
    /// Connection and place on it.
    pub(crate) session: (u64, u32),
}

/// One process of a run.
pub(crate) struct Process {
    pub(crate) notes: Notes,
    /// The most MAIL commands that one connection carried.
    pub(crate) mails_most: u32,
    pub(crate) ended: Vec<Ended>,
    /// `None` when it was killed.
    pub(crate) tally: Option<Tally>,
}

/// A world after its end.
pub(crate) struct History {
    pub(crate) office: Office,
    pub(crate) processes: Vec<Process>,
    /// Attempts noted as started, over all processes.
    pub(crate) started: Vec<(u32, u16)>,
    pub(crate) book: Book,
}

impl History {
    pub(crate) fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.processes.iter().flat_map(|process| &process.ended)
    }

    /// The messages of each state, as the ledger counts them.
    pub(crate) fn counts(&self) -> ledger::Counts {
        self.book.counts()
    }

    pub(crate) fn trace(&self) -> Vec<u64> {
        self.processes.iter().map(|process| process.notes.trace).collect()
    }

    pub(crate) fn closings(&self) -> &[Closing] {
        &self.processes[0].notes.closings
    }
}

impl World {
    /// A quiet world of one receiver and one connection.
    pub(crate) fn of(personality: Personality, rows: u32) -> World {
        World {
            seed: 1,
            rows,
            settings: settings(1, limits(1, None, retry(&[900], 1_800)), OnDoubt::Hold),
            receivers: vec![Rc::new(personality)],
            late: 0,
            killed_at: None,
            stopped_at: None,
            unmakeable: 0,
            look_up: 1,
        }
    }

    /// Anything.
    pub(crate) fn random(seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let addresses = chance.between(1, 3) as u8;
        let receivers: Vec<_> =
            (0..addresses).map(|_| Rc::new(Personality::random(&mut chance))).collect();
        let rate = Rate {
            messages: chance.between(1, 200) as u32,
            period: Duration::from_secs(chance.one_of(&[1, 60, 600])),
        };
        let steps: &[u64] =
            chance.one_of(&[&[60][..], &[900, 3_600], &[1, 5, 30], &[], &[600, 600, 40_000]]);
        let connections = chance.between(1, 8) as u32;
        let most = chance.one_of(&[None, None, Some(1), Some(2), Some(3), Some(10)]);
        let rates = chance.happens(400).then_some(rate).into_iter().collect();
        // At most some sixty attempts of each message.
        let retry = retry(steps, steps.last().unwrap_or(&1) * chance.one_of(&[1, 5, 60]));
        let limits = Limits { rates, ..limits(connections, most, retry) };
        let on_doubt = chance.one_of(&[OnDoubt::Hold, OnDoubt::Hold, OnDoubt::Resend]);
        let settings = settings(addresses, limits, on_doubt);
        let wait = chance.between(1, 400);
        let (killed, stopped) = (chance.happens(200), chance.happens(200));
        World {
            seed,
            rows: chance.between(1, 40) as u32,
            settings,
            receivers,
            late: chance.one_of(&[0, 0, 50, 5_000, 5_000, 1_000_000, 700_000_000]),
            killed_at: killed.then_some(wait),
            stopped_at: (stopped && !killed).then_some(wait),
            unmakeable: chance.one_of(&[0, 0, 7]),
            look_up: 10,
        }
    }

    /// Runs the world to its end: again after a kill or a stop.
    pub(crate) fn run(self) -> History {
        let dir = room();
        let (mut ledger_dir, spool_dir) = (dir.path().join("1"), dir.path().join("spool"));
        std::fs::create_dir(&ledger_dir).unwrap();
        std::fs::create_dir(&spool_dir).unwrap();
        let mut chance = Chance::new(self.seed ^ 0x5eed);
        let mut office = Office::default();
        let mut now = Tick(0);
        let mut processes: Vec<Process> = Vec::new();
        loop {
            let number = processes.len();
            let seen: usize = processes.iter().map(|process| process.ended.len()).sum();
            let run = self.process(number, &ledger_dir, &spool_dir, (now, office), &mut chance);
            let (mut process, ended_at, after) = run;
            (now, office) = (ended_at, after);
            let killed = process.tally.is_none();
            if killed {
                // The sync thread of the dead process still has its hands on the old files.
                let next = dir.path().join(format!("{}", number + 2));
                copy(&ledger_dir, &next);
                ledger_dir = next;
            }
            let (all, started) = records(&ledger_dir);
            process.ended = all[seen..].to_vec();
            processes.push(process);
            if number > 0 || self.killed_at.is_none() && self.stopped_at.is_none() {
                let (book, _) = ledger::recover(&ledger_dir, "sim", self.rows).unwrap();
                return History { office, processes, started, book };
            }
        }
    }

    fn process(
        &self,
        number: usize,
        ledger_dir: &Path,
        spool_dir: &Path,
        (now, office): (Tick, Office),
        chance: &mut Chance,
    ) -> (Process, Tick, Office) {
        let utc = BEGUN.after(Duration::from_nanos(now.0));
        let (book, tail) = ledger::recover(ledger_dir, "sim", self.rows).unwrap();
        let writer = Writer::open_sized(ledger_dir, "sim", utc, &tail, LEDGER_BYTES).unwrap();
        let writer = Desk::new(writer);
        let (feed, fed) = unbounded();
        let (back, backed) = unbounded();
        let segments = spool::create(spool_dir, 7, SEGMENTS, SEGMENT_BYTES).unwrap();
        let making = Making {
            retry: vec![self.settings.groups[0].limits.retry.clone()],
            message: write_message,
            unmakeable: self.unmakeable,
            unasked: false,
        };
        let work = work(&book, self.settings.on_doubt, utc);
        let feeder = Feeder::new((feed, backed), segments, work, making);
        let first = number == 0;
        let plan = Plan {
            killed_at: self.killed_at.filter(|_| first),
            stopped_at: self.stopped_at.filter(|_| first),
            ledger: (ledger_dir.to_owned(), self.look_up),
        };
        let stop = AtomicBool::new(false);
        let mut seed = || Chance::new(chance.between(0, u64::MAX - 1));
        let crowd = Crowd::new(&self.receivers, office, seed());
        let ring = SimRing::new(crowd, feeder, BEGUN, now).waking_late(self.late, seed());
        let (operator, orders) = unbounded();
        let mut ring = Watched::new(ring, plan, seed(), (&stop, operator));
        let (notices, _noticed) = unbounded();
        let channels = Channels { feed: fed, back, orders, notices };
        let last_connection = AtomicU64::new(1_000 * number as u64);
        let live = Live { last_connection, ..Live::default() };
        let done = deliver::run(&mut ring, &self.settings, &channels, &writer, &live, &stop);
        drop(channels);
        let tally = match done {
            Ok(tally) => Some(tally),
            Err(DeliverError::Ring(RingError::Broken { doing: "being killed", .. })) => None,
            Err(error) => panic!("the stage ended: {error}"),
        };
        if tally.is_some() {
            let feeder = &mut ring.ring.feeder;
            assert!(feeder.is_done(), "the stage ends with its feed");
            if !stop.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(feeder.segments(), SEGMENTS, "every segment comes back");
            }
            writer.into_writer().close(ring.utc()).unwrap();
        }
        ring.ring.run_dry();
        let now = Tick(ring.now().0 + 1_000_000);
        let (notes, crowd) = (ring.notes, ring.ring.receivers);
        let mails_most = crowd.mails_most;
        (Process { notes, mails_most, ended: Vec::new(), tally }, now, crowd.office)
    }
}

/// What a process finds to do.
fn work(book: &Book, on_doubt: OnDoubt, now: Utc) -> Work {
    let (mut fresh, mut waiting) = (VecDeque::new(), Vec::new());
    for row in (1..=book.rows()).map(Row) {
        match book.standing(row) {
            Standing::Pending => fresh.push_back((row, SiteNo(0))),
            Standing::Waiting { attempt, until, first_attempt } => {
                waiting.push(Again {
                    due: until,
                    row,
                    attempt: attempt + 1,
                    first_attempt: Some(first_attempt),
                    site: SiteNo(0),
                    group: GroupNo(0),
                    source: None,
                });
            }
            Standing::InFlight { attempt, first_attempt } if on_doubt == OnDoubt::Resend => {
                waiting.push(Again {
                    due: now,
                    row,
                    attempt: attempt + 1,
                    first_attempt: Some(first_attempt),
                    site: SiteNo(0),
                    group: GroupNo(0),
                    source: None,
                });
            }
            Standing::InFlight { .. } | Standing::Final(_) => {}
        }
    }
    Work { fresh: vec![fresh], waiting }
}

/// All outcomes of the ledger, and all attempts that started.
fn records(dir: &Path) -> (Vec<Ended>, Vec<(u32, u16)>) {
    let (mut ended, mut started) = (Vec::new(), Vec::new());
    let mut see = |_, record: Record<'_>| match record {
        Record::Started { row, attempt, .. } => started.push((row.0, attempt)),
        Record::Outcome(outcome) => ended.push(Ended {
            row: outcome.row.0,
            attempt: outcome.attempt,
            kind: outcome.kind,
            stage: outcome.stage,
            code: outcome.smtp_code,
            enhanced: outcome.enhanced,
            response: outcome.response.to_owned(),
            at: Tick(tick(outcome.time)),
            time: outcome.time,
            first_attempt: outcome.first_attempt,
            session: (outcome.session.key, outcome.session.message_index),
        }),
        Record::Note { .. } => {}
    };
    ledger::replay(dir, "sim", &mut see).unwrap();
    (ended, started)
}

/// In memory where that can be had: the sync thread is not what is tested here.
pub(crate) fn room() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// One group of one site, with so many addresses.
fn settings(addresses: u8, limits: Limits, on_doubt: OnDoubt) -> Settings {
    let addresses = (1..=addresses).map(|last| IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let host =
        Host { preference: 0, name: "receiver.example".into(), addresses: addresses.collect() };
    Settings {
        sources: vec![Source { address: None, ehlo_name: "sender.example".into(), weight: 1 }],
        groups: vec![Group { name: "receiver.example".into(), provider: None, limits }],
        sites: vec![Site { group: GroupNo(0), hosts: vec![host] }],
        port: 25,
        connections: 1_000,
        rate: None,
        on_doubt,
        past: Past::default(),
        quotas: Vec::new(),
        thread: (0, 1),
        segments: SEGMENTS,
        speed: 1,
        loopback_only: true,
    }
}

pub(crate) fn limits(connections: u32, messages: Option<u32>, retry: Retry) -> Limits {
    Limits {
        connections,
        connections_total: None,
        messages_per_connection: messages,
        rates: Vec::new(),
        rates_total: Vec::new(),
        rates_dkim: Vec::new(),
        ramp: None,
        retry,
        tls: Tls::None,
        ip: IpPolicy::V4Only,
        quirks: Vec::new(),
    }
}

pub(crate) fn retry(seconds: &[u64], expire_after: u64) -> Retry {
    Retry {
        steps: seconds.iter().map(|step| Duration::from_secs(*step)).collect(),
        expire_after: Duration::from_secs(expire_after),
    }
}
