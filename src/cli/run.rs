//! run — sends a campaign: a new run, or the rest of one that did not end.
//!
//! This is where the stages meet: `prepare` on one thread with all cores below it, `deliver` on
//! another, this thread watching. What they share passes over two channels; what survives is in the
//! run's directory, and nothing is believed that is not there.

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::closing::{self, Closing};
use super::opening::{self, Opened, chain, hex, list_digest, storage};
use super::signals::Stop;
use super::stages::{self, Finished};
use super::{Exit, Failure, check};
use crate::campaign::{self, Campaign};
use crate::deliver::{OnDoubt, Settings};
use crate::ledger::{self, Book, Tail, Writer};
use crate::outcome::{Class, Kind, Outcome, Row, Stage};
use crate::prepare::{Pace, Queue};
use crate::rates::Retry;
use crate::recipients::{Index, IndexWriter, IntakeError, intake};
use crate::ring::Clock;
use crate::rundir::{CampaignDir, Digest, Frozen, Manifest, RunDir, difference};
use crate::units;

/// Arguments of `mailshot run`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot run campaign.toml             send; run it again to resume
  mailshot run -q campaign.toml          for cron: says nothing unless something is wrong
  mailshot run --new-run campaign.toml   send once more after the last run has ended")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
    /// Begin a new run although the last one ended, or its inputs changed.
    #[arg(long, env = "MAILSHOT_NEW_RUN")]
    new_run: bool,
    /// Say nothing but errors.
    #[arg(short, long, env = "MAILSHOT_QUIET")]
    quiet: bool,
    /// How long to wait for another mailshot on this campaign, for example 10m.
    #[arg(long, env = "MAILSHOT_WAIT_LOCK", value_parser = units::duration, default_value = "0s")]
    wait_lock: Duration,
    /// Threads that render and sign; all cores if not given.
    #[arg(long, env = "MAILSHOT_THREADS")]
    threads: Option<usize>,
    /// Refuse to connect anywhere but to this machine.
    #[arg(long, env = "MAILSHOT_LOOPBACK_ONLY")]
    loopback_only: bool,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let clock = Clock::start();
    let stop = Stop::listen()?;
    let opened = Opened::open(&args.campaign)?;
    let campaign = opened.campaign.clone();
    allow_connections(&campaign)?;
    let lock = CampaignDir::lock(&campaign.runs.value, &campaign.id.value, args.wait_lock)
        .map_err(storage)?;
    let latest = if args.new_run { None } else { lock.latest().map_err(storage)? };
    let (dir, manifest) = match latest {
        Some((dir, manifest)) => {
            unchanged(&opened, &manifest)?;
            if dir.is_finished() {
                return already_done(args, &manifest);
            }
            (dir, manifest)
        }
        None => begin(args, &opened, &lock, clock)?,
    };
    if let Some(threads) = args.threads {
        // Only the first call in a process counts, and this is it.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|error| Failure::new(Exit::Internal, error))?;
    }
    send(args, opened, &campaign, &dir, &manifest, (clock, &stop))
}

fn already_done(args: &Args, manifest: &Manifest) -> Result<Exit, Failure> {
    if !args.quiet {
        let Manifest { campaign, run, .. } = manifest;
        eprintln!("{campaign}: run {run} has ended; nothing to do (--new-run sends once more)");
    }
    Ok(Exit::Done)
}

/// The run must go on with what it was begun with.
fn unchanged(opened: &Opened, manifest: &Manifest) -> Result<(), Failure> {
    let mut now = opened.inputs.clone();
    let digest = list_digest(&opened.press.list)
        .map_err(|error| Failure::new(Exit::List, format!("the list cannot be read: {error}")))?;
    now.push(list_input(&opened.campaign, &digest));
    let changes = difference(&manifest.frozen.inputs, &now);
    if changes.is_empty() {
        return Ok(());
    }
    let file = opened.file.display();
    let mut message = format!("{file}: run {} was begun with other inputs:\n", manifest.run);
    for change in changes {
        message.push_str(&format!("    {change}\n"));
    }
    message.push_str("    help: put them back to resume, or begin anew with --new-run");
    Err(Failure::new(Exit::Campaign, message))
}

fn list_input(campaign: &Campaign, digest: &[u8]) -> Digest {
    let path = campaign.recipients.file.value.display().to_string();
    Digest { role: "list".to_owned(), path, sha256: hex(digest) }
}

/// A new run: takes the whole list in and freezes everything.
fn begin(
    args: &Args,
    opened: &Opened,
    lock: &CampaignDir,
    clock: Clock,
) -> Result<(RunDir, Manifest), Failure> {
    let now = clock.utc();
    let millis = u64::try_from(now.0 / 1000).unwrap_or(0);
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Failure::new(Exit::System, "the system gives no random octets"))?;
    let run = ulid::Ulid::from_parts(millis, u128::from_be_bytes(random)).to_string();
    let dir = lock.create(&run).map_err(storage)?;
    let counts = take_in(opened, &dir)?;
    if !args.quiet {
        eprint!("{}", check::excluded(&counts));
    }
    let index = Index::open(&dir.file("recipients.idx"))
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    opened.try_out(&index, now)?;
    let mut inputs = opened.inputs.clone();
    inputs.push(list_input(&opened.campaign, &counts.list_digest));
    let excluded = crate::recipients::Reason::ALL
        .iter()
        .map(|reason| (reason.word().to_owned(), counts.excluded(*reason)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let manifest = Manifest {
        version: Manifest::VERSION,
        tool: concat!("mailshot ", env!("CARGO_PKG_VERSION")).to_owned(),
        campaign: opened.campaign.id.value.clone(),
        run,
        started_us: now.0,
        started: now.to_string(),
        frozen: Frozen { inputs, rows: counts.rows, excluded },
    };
    for name in ["ledger", "spool"] {
        let path = dir.file(name);
        fs::create_dir(&path)
            .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", path.display())))?;
    }
    dir.write("manifest.json", manifest.to_json().as_bytes()).map_err(storage)?;
    Ok((dir, manifest))
}

fn take_in(opened: &Opened, dir: &RunDir) -> Result<crate::recipients::Counts, Failure> {
    let path = dir.file("recipients.idx");
    let full =
        |error: std::io::Error| Failure::new(Exit::Storage, format!("{}: {error}", path.display()));
    let file = File::create(&path).map_err(full)?;
    let mut index = IndexWriter::new(BufWriter::with_capacity(1 << 20, file)).map_err(full)?;
    let columns = opened.header_columns();
    let counts =
        intake(&opened.press.list, &opened.press.layout, &columns, &mut index, &mut |_| {});
    let counts = counts.map_err(|error| match error {
        IntakeError::Index(error) => full(error),
        error => Failure::new(Exit::List, chain(&error)),
    })?;
    let file = index.finish().map_err(full)?.into_inner().map_err(|e| full(e.into_error()))?;
    file.sync_all().map_err(full)?;
    Ok(counts)
}

/// Delivers what is left, then closes the books.
fn send(
    args: &Args,
    opened: Opened,
    campaign: &Campaign,
    dir: &RunDir,
    manifest: &Manifest,
    (clock, stop): (Clock, &Stop),
) -> Result<Exit, Failure> {
    let list =
        opened.press.list.try_clone().map_err(|error| Failure::new(Exit::Internal, error))?;
    let columns = opened.press.layout.clone();
    let key = closing::first_key(&opened.press.signers);
    let index = Index::open(&dir.file("recipients.idx"))
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    let rows = index.rows();
    let ledger_dir = dir.file("ledger");
    let recovered = ledger::recover(&ledger_dir, &manifest.run, rows);
    let (mut book, tail) = recovered.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    report_torn(&tail);
    let begun_before = tail.starts > 0;
    let mut writer = Writer::open(&ledger_dir, &manifest.run, clock.utc(), &tail)
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    let mut settings = settings(args, campaign)?;
    if begun_before {
        remember(&mut settings, &ledger_dir, manifest, clock)?;
    }
    resolve_doubts(&settings, &mut book, &mut writer, clock)?;
    let counts = book.counts();
    let excluded: u64 = manifest.frozen.excluded.iter().map(|(_, count)| u64::from(*count)).sum();
    let left = u64::from(counts.pending) - excluded + u64::from(counts.waiting);
    let pace = Pace { rate: settings.rate, retry: settings.retry.clone() };
    let mut press = opened.press;
    press.head.run.clone_from(&manifest.run);
    let queue = Queue::new(index, book);
    let work = stages::Work { press, queue, pace, settings, left, quiet: args.quiet };
    let Finished { tally, engine } = stages::run(work, writer, dir, manifest, (clock, stop))?;
    let closing = Closing { dir, manifest, campaign, list: &list, columns: &columns, key };
    closing.finish(engine, &tally, args.quiet, (clock, stop))
}

fn report_torn(tail: &Tail) {
    if let Some(torn) = &tail.torn {
        eprintln!(
            "mailshot: the ledger's last write was torn at {} (power loss or kill); {} later \
             commits were kept, {} are lost; their messages may be sent twice",
            torn.at, torn.salvaged, torn.lost
        );
    }
}

/// Rows whose message may have been on the wire when the last process ended: held or sent again, as
/// the campaign says, and on record either way.
fn resolve_doubts(
    settings: &Settings,
    book: &mut Book,
    writer: &mut Writer,
    clock: Clock,
) -> Result<(), Failure> {
    let now = clock.utc();
    let rows: Vec<Row> = book.in_flight().collect();
    for row in rows {
        let ledger::Standing::InFlight { attempt, first_attempt } = book.standing(row) else {
            unreachable!("the book just said that the row is in flight");
        };
        let (kind, next_attempt) = match settings.on_doubt {
            OnDoubt::Hold => (Kind::InDoubt, None),
            OnDoubt::Resend => (Kind::Deferred, Some(now)),
        };
        let (message, end) = ((row, attempt), (kind, Class::BadConnection));
        let words = "the process ended before the reply to the message came";
        let outcome = Outcome {
            stage: Stage::Dot,
            spooled: first_attempt,
            next_attempt,
            host: &settings.host,
            ..Outcome::unconnected(message, end, (now, first_attempt), words)
        };
        writer.outcome(&outcome);
        book.apply(ledger::At::default(), &ledger::Record::Outcome(outcome))
            .map_err(|error| Failure::new(Exit::Storage, error))?;
    }
    writer.commit(now).map_err(|error| Failure::new(Exit::Storage, chain(&error)))
}

/// Files that a run has open besides its connections: ledger, spool, list, Parquet, with room.
const OTHER_FILES: u64 = 64;

/// Each connection is a file descriptor; the soft limit is raised as far as it takes.
fn allow_connections(campaign: &Campaign) -> Result<(), Failure> {
    let needed = u64::from(campaign.delivery.connections) + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let connections = campaign.delivery.connections;
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or(0);
        let message = format!(
            "{connections} connections need {needed} open files, and this process may have \
             {maximum}; raise the hard limit (ulimit -Hn, LimitNOFILE=) or lower connections"
        );
        return Err(Failure::new(Exit::System, message));
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|errno| Failure::new(Exit::System, errno))
}

/// What the processes before this one have already used of the rate.
///
/// Attempts that were cut off before their message left are on no record; there can be two on each
/// connection, and they count as made just now.
fn remember(
    settings: &mut Settings,
    ledger: &Path,
    manifest: &Manifest,
    clock: Clock,
) -> Result<(), Failure> {
    let now = clock.utc();
    let period = settings.rate.map_or(Duration::ZERO, |rate| rate.period);
    let past = closing::past(ledger, &manifest.run, now, period)?;
    settings.last_connection = past.last_connection;
    if settings.rate.is_some() {
        let unrecorded = 2 * settings.connections as usize;
        settings.recent = past.recent.iter().map(|began| now.since(*began)).collect();
        settings.recent.extend(std::iter::repeat_n(Duration::ZERO, unrecorded));
    }
    Ok(())
}

fn settings(args: &Args, campaign: &Campaign) -> Result<Settings, Failure> {
    let delivery = &campaign.delivery;
    let route = &delivery.route.value;
    let host = match &route.host {
        campaign::Host::Ip(ip) => ip.to_string(),
        campaign::Host::Name(name) => name.clone(),
    };
    let addresses: Result<Vec<SocketAddr>, _> =
        (host.as_str(), route.port).to_socket_addrs().map(Iterator::collect);
    let addresses = addresses.map_err(|error| {
        let place = &delivery.route.place;
        Failure::new(Exit::System, format!("{place}: the route {route} has no address: {error}"))
    })?;
    if let Some(foreign) = addresses.iter().find(|address| !address.ip().is_loopback())
        && args.loopback_only
    {
        let place = &delivery.route.place;
        let message =
            format!("{place}: the route leads to {foreign}, and --loopback-only forbids it");
        return Err(Failure::new(Exit::Campaign, message));
    }
    Ok(Settings {
        host,
        addresses,
        ehlo_name: opening::ehlo_name(campaign),
        connections: delivery.connections,
        messages_per_connection: delivery.messages_per_connection.unwrap_or(0),
        rate: delivery.rate,
        retry: Retry { steps: delivery.retry.clone(), expire_after: delivery.expire_after },
        on_doubt: match delivery.on_doubt {
            campaign::OnDoubt::Hold => OnDoubt::Hold,
            campaign::OnDoubt::Resend => OnDoubt::Resend,
        },
        source: None,
        last_connection: 0,
        recent: Vec::new(),
        loopback_only: args.loopback_only,
    })
}
