//! stages — the two stages on their threads, and the one that watches them.

use std::time::Duration;

use crossbeam::channel;
use hdrhistogram::Histogram;
use rustix::time::ClockId;

use super::opening::chain;
use super::progress::Progress;
use super::signals::Stop;
use super::{Exit, Failure};
use crate::deliver::{self, DeliverError, Live, Settings, Tally};
use crate::ledger::Writer;
use crate::limits::{self, SEGMENT_BYTES};
use crate::prepare::{self, Pace, PrepareError, Press, Queue};
use crate::report::{Engine, Percentiles};
use crate::ring::{Clock, RingError, Uring, Waker};
use crate::rundir::{Manifest, RunDir};
use crate::spool;

/// Segments and fates under way between the stages; a full channel makes preparation wait.
const FEED: usize = 64;
/// Between two looks at the numbers.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is left to do.
pub(super) struct Work {
    pub(super) press: Press,
    pub(super) queue: Queue,
    pub(super) pace: Pace,
    pub(super) settings: Settings,
    /// Rows that have not met their outcome.
    pub(super) left: u64,
    pub(super) quiet: bool,
}

/// What the stages leave, besides the ledger.
pub(super) struct Finished {
    pub(super) tally: Tally,
    pub(super) engine: Engine,
}

/// Runs both stages to their end, or until `stop`.
pub(super) fn run(
    work: Work,
    mut writer: Writer,
    dir: &RunDir,
    manifest: &Manifest,
    (clock, stop): (Clock, &Stop),
) -> Result<Finished, Failure> {
    let count = limits::segments(work.settings.connections);
    let segments = spool::create(&dir.file("spool"), run_tag(&manifest.run), count, SEGMENT_BYTES)
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    let begun = clock.tick();
    let live = Live::default();
    let mut progress = Progress::new(&manifest.run, work.left, work.quiet, begun);
    let (delivered, prepared) = std::thread::scope(|scope| {
        let (feed_in, feed_out) = channel::bounded(FEED);
        let (back_in, back_out) = channel::unbounded();
        let (waker_in, waker_out) = channel::bounded(1);
        let Work { press, queue, pace, settings, .. } = work;
        let channels = deliver::Channels { feed: feed_out, back: back_in };
        let (writer, live) = (&mut writer, &live);
        let deliver = scope.spawn(move || {
            deliver_thread(&settings, &channels, writer, live, &waker_in, (clock, stop))
        });
        let prepare = scope.spawn(move || match waker_out.recv() {
            Ok(waker) => {
                let channels = prepare::Channels { feed: feed_in, back: back_out, waker };
                prepare::run(&press, queue, segments, &pace, channels, (clock, stop.flag()))
            }
            // Delivery could not begin; it says why.
            Err(_) => Ok(()),
        });
        while !deliver.is_finished() {
            progress.look(live, dir, clock.tick(), clock.utc());
            std::thread::sleep(LOOK_EVERY);
        }
        (joined(deliver), joined(prepare))
    });
    progress.end(&live, dir, clock.tick(), clock.utc());
    let closed = writer.close(clock.utc());
    let (tally, delivery_cpu) = delivered.map_err(|error| delivery_failure(&error))?;
    closed.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    prepared.map_err(|error| preparation_failure(&error))?;
    let seconds = clock.tick().since(begun).as_secs_f64();
    let engine = engine(&tally, &live, seconds, delivery_cpu.as_secs_f64());
    Ok(Finished { tally, engine })
}

/// The result of a thread; a panic in it goes on in this one.
fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The delivery thread: its ring is made here because a ring belongs to one thread.
fn deliver_thread(
    settings: &Settings,
    channels: &deliver::Channels,
    writer: &mut Writer,
    live: &Live,
    waker_in: &channel::Sender<Waker>,
    (clock, stop): (Clock, &Stop),
) -> Result<(Tally, Duration), DeliverError> {
    let mut ring = Uring::new(clock)?;
    // Nobody waits for the waker any more only if preparation panicked, which ends the run.
    drop(waker_in.send(ring.waker()));
    let tally = deliver::run(&mut ring, settings, channels, writer, live, stop.flag())?;
    Ok((tally, cpu_of(ClockId::ThreadCPUTime)))
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
