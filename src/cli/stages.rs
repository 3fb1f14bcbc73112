//! stages — preparation and delivery on their threads, the look-ups that go on beside them, and the
//! one that watches them all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use crossbeam::channel::{self, Sender};
use hdrhistogram::Histogram;
use rustix::time::ClockId;

use super::lookups::Lookups;
use super::opening::chain;
use super::progress::Progress;
use super::signals::Stop;
use super::steering::{End, Steering};
use super::{Exit, Failure};
use crate::deliver::{self, DeliverError, Live, LiveGroup, Notice, Order, Settings, Tally};
use crate::ledger::{Desk, Writer};
use crate::limits::SEGMENT_BYTES;
use crate::prepare::{self, PrepareError, Press, Queue};
use crate::report::{Engine, Percentiles};
use crate::ring::{Clock, RingError, Uring, Waker};
use crate::rundir::{Manifest, RunDir};
use crate::spool::handover::{Back, Feed};
use crate::spool::{self, Segment};

/// Segments and fates under way between the stages; a full channel makes preparation wait.
const FEED: usize = 64;
/// Between two looks at the numbers.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is left to do.
pub(super) struct Work<'a> {
    pub(super) press: Press,
    pub(super) queue: Queue,
    /// Of all delivery threads together.
    pub(super) settings: Settings,
    /// Delivery threads.
    pub(super) threads: u32,
    /// The number of the last connection of earlier processes of this run.
    pub(super) last_connection: u64,
    /// Rows of each group that have not met their outcome.
    pub(super) left: Vec<u64>,
    /// Rows that have not met their outcome.
    pub(super) to_settle: u64,
    pub(super) steering: Steering<'a>,
    /// What asks again for domains whose mail hosts could not be found.
    pub(super) lookups: Option<Lookups<'a>>,
    pub(super) quiet: bool,
}

/// What the stages leave, besides the ledger.
pub(super) struct Finished {
    pub(super) tally: Tally,
    pub(super) engine: Engine,
    /// Why the run stopped before its end, if not by a signal.
    pub(super) end: Option<End>,
}

/// The way to the delivery threads.
#[derive(Clone)]
pub(super) struct Lines(Vec<(Sender<Order>, Waker)>);

impl Lines {
    /// Tells every thread.
    pub(super) fn tell(&self, order: &Order) {
        for (orders, waker) in &self.0 {
            // A thread that has ended needs no order.
            drop(orders.send(order.clone()));
            waker.wake();
        }
    }
}

/// One delivery thread's share of the whole.
fn share(settings: &Settings, thread: u32, of: u32) -> Settings {
    let mut share = settings.clone();
    share.thread = (thread, of);
    share.connections = (settings.connections / of).max(1);
    if let Some(rate) = &mut share.rate {
        rate.messages = (rate.messages / of).max(1);
    }
    share.segments = (settings.segments / of as usize).max(1);
    share
}

/// Runs the stages to their end, or until `stop`.
pub(super) fn run(
    work: Work<'_>,
    writer: Writer,
    dir: &RunDir,
    manifest: &Manifest,
    (clock, stop): (Clock, &Stop),
) -> Result<Finished, Failure> {
    let count = work.settings.segments;
    let segments = spool::create(&dir.file("spool"), run_tag(&manifest.run), count, SEGMENT_BYTES)
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    let begun = clock.tick();
    let live = live(&work);
    let names = work.settings.groups.iter().map(|group| group.name.clone()).collect();
    let progress = Progress::new(&manifest.run, work.to_settle, work.quiet, begun);
    let mut progress = progress.of_groups(names);
    let desk = Desk::new(writer);
    let all = All { live: &live, desk: &desk, clock, stop };
    let Ended { delivered, prepared, end } = all
        .threads(work, segments, &mut |live| progress.look(live, dir, clock.tick(), clock.utc()));
    progress.end(&live, dir, clock.tick(), clock.utc());
    let closed = desk.into_writer().close(clock.utc());
    let (mut tally, mut delivery_cpu) = (Tally::new(), Duration::ZERO);
    for one in delivered {
        let (more, cpu) = one.map_err(|error| delivery_failure(&error))?;
        tally.add(more);
        delivery_cpu += cpu;
    }
    closed.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    prepared.map_err(|error| preparation_failure(&error))?;
    let seconds = clock.tick().since(begun).as_secs_f64();
    let engine = engine(&tally, &live, seconds, delivery_cpu.as_secs_f64());
    Ok(Finished { tally, engine, end })
}

fn live(work: &Work<'_>) -> Live {
    let live = Live {
        last_connection: AtomicU64::new(work.last_connection),
        groups: work.settings.groups.iter().map(|_| LiveGroup::default()).collect(),
        ..Live::default()
    };
    for (group, left) in live.groups.iter().zip(&work.left) {
        group.left.store(*left, Ordering::Relaxed);
    }
    live
}

/// What all threads see.
#[derive(Clone, Copy)]
struct All<'a> {
    live: &'a Live,
    desk: &'a Desk,
    clock: Clock,
    stop: &'a Stop,
}

/// What a delivery thread did, and its CPU time.
type Delivered = Result<(Tally, Duration), DeliverError>;

/// How the threads ended.
struct Ended {
    delivered: Vec<Delivered>,
    prepared: Result<(), PrepareError>,
    end: Option<End>,
}

/// One thread's end of the channels to preparation.
type Feeds = Vec<(Sender<Feed>, Waker)>;

impl<'a> All<'a> {
    /// Runs every thread to its end.
    fn threads(self, work: Work<'_>, segments: Vec<Segment>, look: &mut dyn FnMut(&Live)) -> Ended {
        let All { clock, stop, .. } = self;
        let Work { press, queue, settings, mut steering, lookups, .. } = work;
        let retry = settings.groups.iter().map(|group| group.limits.retry.clone()).collect();
        std::thread::scope(|scope| {
            let (back_in, back) = channel::unbounded();
            let (notices_in, notices) = channel::unbounded();
            let outgoing = (back_in.clone(), notices_in);
            let (delivering, feeds, lines) = self.deliver(scope, &settings, work.threads, outgoing);
            let ready = feeds.len() == delivering.len();
            let mut step = || {
                let end = steering.step(self.live, &lines, &notices, clock.utc());
                if end == Some(End::Halted) {
                    stop.flag().store(true, Ordering::Relaxed);
                }
                end
            };
            // What stood on record before must hold from the first message on.
            let mut end = if ready { step() } else { None };
            let press = &press;
            let preparing = scope.spawn(move || match ready {
                true => {
                    let channels = prepare::Channels { feeds, back };
                    let clocks = (clock, stop.flag());
                    prepare::run(press, queue, segments, retry, channels, clocks).map(drop)
                }
                // Delivery could not begin; it says why.
                false => Ok(()),
            });
            let asked = lines.clone();
            let asking = scope.spawn(move || {
                if let Some(lookups) = lookups {
                    lookups.work(&asked, &back_in, (clock, stop.flag()));
                }
            });
            while !delivering.iter().all(|thread| thread.is_finished()) {
                look(self.live);
                if end.is_none() && ready {
                    end = step();
                }
                std::thread::sleep(LOOK_EVERY);
            }
            steering.hear(&lines, &notices, clock.utc());
            // Nobody needs what look-ups would still find.
            let stopped = stop.flag().swap(true, Ordering::Relaxed);
            joined(asking);
            stop.flag().store(stopped, Ordering::Relaxed);
            let delivered = delivering.into_iter().map(joined).collect();
            Ended { delivered, prepared: joined(preparing), end }
        })
    }

    /// Starts the delivery threads; one that could not begin has no feed, and says why at its end.
    fn deliver<'scope>(
        self,
        scope: &'scope Scope<'scope, 'a>,
        settings: &Settings,
        threads: u32,
        (back, notices): (Sender<Back>, Sender<Notice>),
    ) -> (Vec<ScopedJoinHandle<'scope, Delivered>>, Feeds, Lines) {
        let (mut feeds, mut lines, mut delivering) = (Vec::new(), Vec::new(), Vec::new());
        for thread in 0..threads {
            let (feed_in, feed) = channel::bounded(FEED);
            let (orders_in, orders) = channel::unbounded();
            let (waker_in, waker) = channel::bounded(1);
            let (back, notices) = (back.clone(), notices.clone());
            let channels = deliver::Channels { feed, back, orders, notices };
            let settings = share(settings, thread, threads);
            delivering
                .push(scope.spawn(move || self.deliver_thread(&settings, &channels, waker_in)));
            if let Ok(waker) = waker.recv() {
                lines.push((orders_in, waker.clone()));
                feeds.push((feed_in, waker));
            }
        }
        (delivering, feeds, Lines(lines))
    }

    /// A delivery thread: its ring is made here because a ring belongs to one thread.
    fn deliver_thread(
        self,
        settings: &Settings,
        channels: &deliver::Channels,
        waker_in: Sender<Waker>,
    ) -> Delivered {
        let alarm = Alarm(self.stop.flag());
        let mut ring = Uring::new(self.clock)?;
        // Nobody waits for the waker any more only if this thread's starter panicked.
        drop(waker_in.send(ring.waker()));
        let stop = self.stop.flag();
        let tally = deliver::run(&mut ring, settings, channels, self.desk, self.live, stop)?;
        std::mem::forget(alarm);
        Ok((tally, cpu_of(ClockId::ThreadCPUTime)))
    }
}

/// Stops the others when a delivery thread ends by an error or a panic: nobody settles its messages
/// any more, and preparation would wait for them for ever.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The result of a thread; a panic in it goes on in this one.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn cpu_of(clock: ClockId) -> Duration {
    let spent = rustix::time::clock_gettime(clock);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(spent.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

fn delivery_failure(error: &DeliverError) -> Failure {
    let exit = match error {
        DeliverError::Ledger(_) => Exit::Storage,
        DeliverError::Ring(RingError::Refused { .. }) => Exit::System,
        DeliverError::Ring(RingError::Broken { .. }) => Exit::Internal,
    };
    Failure::new(exit, format!("{}; run again to resume", chain(error)))
}

fn preparation_failure(error: &PrepareError) -> Failure {
    let exit = match error {
        PrepareError::Index(_) => Exit::Storage,
        PrepareError::List(_) => Exit::List,
    };
    Failure::new(exit, chain(error))
}

fn engine(tally: &Tally, live: &Live, seconds: f64, delivery_cpu_seconds: f64) -> Engine {
    Engine {
        seconds,
        cpu_seconds: cpu_of(ClockId::ProcessCPUTime).as_secs_f64(),
        delivery_cpu_seconds,
        settled: live.settled(),
        peak_rss_mib: peak_rss_mib(),
        connections: tally.connections,
        octets: tally.octets,
        to_accept: percentiles(&tally.to_accept),
        attempt: percentiles(&tally.attempt),
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Percentiles {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    Percentiles {
        p50_ms: at(0.50),
        p95_ms: at(0.95),
        p99_ms: at(0.99),
        max_ms: histogram.max() as f64 / 1000.0,
    }
}

/// The largest resident set of this process (`VmHWM`, proc_pid_status(5)); 0 if /proc is missing.
fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// The run in 64 bits, for people who look at a segment file: the time and the first random bits of
/// its ULID.
fn run_tag(run: &str) -> u64 {
    run.parse::<ulid::Ulid>().map_or(0, |ulid| (u128::from(ulid) >> 64) as u64)
}
