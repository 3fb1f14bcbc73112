//! run — sends a campaign: a new run, or the rest of one that did not end.
//!
//! This is where the stages meet: `prepare` on one thread with all cores below it, `deliver` on
//! another, this thread watching. What they share passes over two channels; what survives is in the
//! run's directory, and nothing is believed that is not there.

use std::fs::{self, File};
use std::io::BufWriter;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::closing::{self, Closing};
use super::lookups::{self, Lookups};
use super::memory::{Memory, longest};
use super::opening::{Opened, chain, hex, list_digest, storage};
use super::signals::Stop;
use super::stages::{self, Finished};
use super::steering::Steering;
use super::terrain::{self, Guide, Terrain};
use super::warming::Warming;
use super::{Exit, Failure, check};
use crate::campaign::{Campaign, Route};
use crate::deliver::{OnDoubt, Settings};
use crate::destination::{DomainNo, GroupNo};
use crate::history;
use crate::ledger::{self, Book, Record, Tail, Writer};
use crate::outcome::{Class, Kind, Outcome, Row, Stage};
use crate::prepare::{Address, Queue};
use crate::rates::Table;
use crate::recipients::{Counts, Index, IndexWriter, IntakeError, exclude_domains, intake};
use crate::ring::Clock;
use crate::routes::Directory;
use crate::rundir::{CampaignDir, Digest, Frozen, Manifest, RunDir, difference};
use crate::units::{self, Utc};

/// Arguments of `mailshot run`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot run campaign.toml             send; run it again to resume
  mailshot run -q campaign.toml          for cron: says nothing unless something is wrong
  mailshot run --new-run campaign.toml   send once more after the last run has ended
  mailshot run --loopback-only --speed 600 campaign.toml    rehearse: an hour in six seconds")]
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
    /// Threads that deliver; each has some of the providers.
    #[arg(long, env = "MAILSHOT_DELIVERY_THREADS", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    delivery_threads: u32,
    /// Refuse to connect anywhere but to this machine.
    #[arg(long, env = "MAILSHOT_LOOPBACK_ONLY")]
    loopback_only: bool,
    /// Rehearse: rates, waits and pauses go by so many times as fast; receivers on this machine
    /// only.
    #[arg(long, default_value = "1", requires = "loopback_only",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    speed: u32,
}

/// The clock of everything that waits but the network: its time-outs stay as they are.
fn clock(args: &Args) -> Clock {
    match args.speed {
        1 => Clock::start(),
        speed => Clock::at_speed(speed),
    }
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let clock = clock(args);
    let stop = Stop::listen()?;
    let opened = Opened::open(&args.campaign)?;
    let campaign = opened.campaign.clone();
    let table = terrain::table(&campaign, &args.campaign)?;
    allow_connections(&campaign)?;
    let lock = CampaignDir::lock(&campaign.runs.value, &campaign.id.value, args.wait_lock)
        .map_err(storage)?;
    let latest = if args.new_run { None } else { lock.latest().map_err(storage)? };
    let clock = match &latest {
        Some((dir, manifest)) if args.speed > 1 => clock.not_before(last_time(dir, manifest)?),
        _ => clock,
    };
    let (dir, manifest, terrain) = match latest {
        Some((dir, manifest)) => {
            unchanged(&opened, &manifest)?;
            if dir.is_finished() {
                return already_done(args, &manifest);
            }
            let terrain = known(args, &campaign, &table, &dir, clock.utc())?;
            (dir, manifest, terrain)
        }
        None => begin(args, &opened, &table, &lock, clock)?,
    };
    if let Some(threads) = args.threads {
        // Only the first call in a process counts, and this is it.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        pool.map_err(|error| Failure::new(Exit::Internal, error))?;
    }
    let run = Run { args, campaign: &campaign, table: &table, dir: &dir, manifest: &manifest };
    run.send(opened, terrain, (clock, &stop))
}

/// The last time on record. A rehearsal may have told hours in seconds, and what is on record must
/// be in the past of the process that goes on with it.
fn last_time(dir: &RunDir, manifest: &Manifest) -> Result<Utc, Failure> {
    let mut last = Utc(manifest.started_us);
    ledger::replay(&dir.file("ledger"), &manifest.run, &mut |_, record| {
        last = last.max(match record {
            Record::Started { time, .. } | Record::Note { time, .. } => time,
            Record::Outcome(outcome) => outcome.time,
        });
    })
    .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    Ok(last)
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
    table: &Table,
    lock: &CampaignDir,
    clock: Clock,
) -> Result<(RunDir, Manifest, Terrain), Failure> {
    let now = clock.utc();
    let millis = u64::try_from(now.0 / 1000).unwrap_or(0);
    let mut random = [0; 16];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| Failure::new(Exit::System, "the system gives no random octets"))?;
    let run = ulid::Ulid::from_parts(millis, u128::from_be_bytes(random)).to_string();
    let dir = lock.create(&run).map_err(storage)?;
    let mut counts = take_in(opened, &dir)?;
    let terrain = found(args, &opened.campaign, table, (&dir, &mut counts), now)?;
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
    Ok((dir, manifest, terrain))
}

/// Finds out where the mail of a new run goes; rows of dead domains are excluded.
fn found(
    args: &Args,
    campaign: &Campaign,
    table: &Table,
    (dir, counts): (&RunDir, &mut Counts),
    now: Utc,
) -> Result<Terrain, Failure> {
    if campaign.delivery.route.value != Route::Mx {
        return Terrain::smarthost(campaign, args.loopback_only);
    }
    let directory = terrain::directory(campaign, table, &counts.domains, (now, args.quiet))?;
    let index = dir.file("recipients.idx");
    let excluded = exclude_domains(&index, &|domain| terrain::dead(&directory, domain))
        .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    counts.exclude(&excluded);
    dir.write(lookups::FILE, directory.encode().as_bytes()).map_err(storage)?;
    let terrain = Terrain::of(directory, table, campaign.delivery.port);
    only_loopback(args, &terrain)?;
    Ok(terrain)
}

/// Where the mail of a run goes that was begun before: as it was found then, and what could not be
/// found or is out of date asked for again.
fn known(
    args: &Args,
    campaign: &Campaign,
    table: &Table,
    dir: &RunDir,
    now: Utc,
) -> Result<Terrain, Failure> {
    if campaign.delivery.route.value != Route::Mx {
        return Terrain::smarthost(campaign, args.loopback_only);
    }
    let path = dir.file(lookups::FILE);
    let shown = path.display();
    let text = fs::read_to_string(&path)
        .map_err(|error| Failure::new(Exit::Storage, format!("{shown}: {error}")))?;
    let mut directory = Directory::decode(&text)
        .map_err(|error| Failure::new(Exit::Storage, format!("{shown}: {error}")))?;
    let before = directory.clone();
    let stale = |domain: &DomainNo| before.expires(*domain) <= now;
    let stale = (0..before.domains()).map(DomainNo).filter(stale);
    Guide::new(campaign)?.ask(&mut directory, stale, table, (now, args.quiet))?;
    dir.write(lookups::FILE, directory.encode().as_bytes()).map_err(storage)?;
    let terrain = Terrain::of(directory, table, campaign.delivery.port);
    only_loopback(args, &terrain)?;
    Ok(terrain)
}

/// A rehearsal that would leave this machine is refused before it begins.
fn only_loopback(args: &Args, terrain: &Terrain) -> Result<(), Failure> {
    let hosts = terrain.sites.iter().flat_map(|site| &site.hosts);
    let mut foreign = hosts.filter(|host| host.addresses.iter().any(|ip| !ip.is_loopback()));
    match foreign.next() {
        Some(host) if args.loopback_only => {
            let (name, ip) = (&host.name, host.addresses[0]);
            let message = format!("the mail host {name} is {ip}, and --loopback-only forbids it");
            Err(Failure::new(Exit::Campaign, message))
        }
        _ => Ok(()),
    }
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

/// A run that is to go on.
struct Run<'a> {
    args: &'a Args,
    campaign: &'a Campaign,
    table: &'a Table,
    dir: &'a RunDir,
    manifest: &'a Manifest,
}

impl Run<'_> {
    /// Delivers what is left, then closes the books.
    fn send(
        &self,
        opened: Opened,
        terrain: Terrain,
        (clock, stop): (Clock, &Stop),
    ) -> Result<Exit, Failure> {
        let Run { args, campaign, dir, manifest, .. } = *self;
        let list =
            opened.press.list.try_clone().map_err(|error| Failure::new(Exit::Internal, error))?;
        let columns = opened.press.layout.clone();
        let key = closing::first_key(&opened.press.signers);
        let index = Index::open(&dir.file("recipients.idx"))
            .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
        let ledger_dir = dir.file("ledger");
        let recovered = ledger::recover(&ledger_dir, &manifest.run, index.rows());
        let (mut book, tail) =
            recovered.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
        report_torn(&tail);
        let mut writer = Writer::open(&ledger_dir, &manifest.run, clock.utc(), &tail)
            .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
        let mut settings = settings(args, campaign, &terrain);
        let now = clock.utc();
        let memory = self.memory(&settings, now)?;
        settings.past = memory.past(&settings, now);
        let sources: Vec<Option<IpAddr>> =
            settings.sources.iter().map(|source| source.address).collect();
        let warming = Warming::new(campaign, &sources, &settings.groups, now)?;
        settings.quotas = warming.quotas(&memory.all, now);
        resolve_doubts(&settings, &mut book, &mut writer, clock)?;
        let to_settle = self.to_settle(&book);
        let place = |domain| terrain.place(domain).map(|(site, group)| Address { site, group });
        let source_of = |row| memory.source_of(row, &sources);
        let queue = Queue::new(index, book, &place, &source_of)
            .map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
        let groups = u32::try_from(settings.groups.len()).expect("groups count in 32 bits");
        let mut left: Vec<u64> = (0..groups).map(|group| queue.left(GroupNo(group))).collect();
        let nowhere = groups - 1;
        if terrain.directory.is_some() {
            left[nowhere as usize] = to_settle - left.iter().sum::<u64>();
        }
        let thresholds = &campaign.thresholds;
        let steering =
            Steering::new((dir, &manifest.run), &settings.groups, sources, thresholds, warming);
        let lookups = match terrain.directory {
            Some(directory) => Some(Lookups {
                guide: Guide::new(campaign)?,
                directory,
                table: self.table,
                dir,
                nowhere: GroupNo(nowhere),
                begun: Utc(manifest.started_us),
                resumed: tail.starts > 0,
            }),
            None => None,
        };
        let mut press = opened.press;
        press.head.run.clone_from(&manifest.run);
        let work = stages::Work {
            press,
            queue,
            settings,
            threads: args.delivery_threads,
            last_connection: memory.last_connection,
            left,
            to_settle,
            steering,
            lookups,
            quiet: args.quiet,
        };
        let Finished { tally, engine, end } =
            stages::run(work, writer, dir, manifest, (clock, stop))?;
        let closing = Closing { dir, manifest, campaign, list: &list, columns: &columns, key };
        let exit = closing.finish(engine, &tally, (args.quiet, end), (clock, stop))?;
        self.keep_history()?;
        Ok(exit)
    }

    fn memory(&self, settings: &Settings, now: Utc) -> Result<Memory, Failure> {
        let longest = settings.groups.iter().map(|group| longest(&group.limits)).max();
        let runs = &self.campaign.runs.value;
        let ledger = self.dir.file("ledger");
        Memory::read((runs, &ledger, &self.manifest.run), longest.unwrap_or_default(), now)
    }

    /// Rows that have not met their outcome.
    fn to_settle(&self, book: &Book) -> u64 {
        let counts = book.counts();
        let excluded = self.manifest.frozen.excluded.iter().map(|(_, count)| u64::from(*count));
        u64::from(counts.pending) - excluded.sum::<u64>() + u64::from(counts.waiting)
    }

    /// Leaves for later runs what this one has sent, so that they need not read its ledger.
    fn keep_history(&self) -> Result<(), Failure> {
        let kept = history::of_ledger(&self.dir.file("ledger"), &self.manifest.run);
        let summary = kept.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
        history::save(self.dir, &summary)
            .map_err(|error| Failure::new(Exit::Storage, chain(&error)))
    }
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

/// Each connection is a file descriptor.
fn allow_connections(campaign: &Campaign) -> Result<(), Failure> {
    let connections = campaign.delivery.connections;
    allow_files(connections.into(), &format!("{connections} connections"))
}

/// Raises the soft limit of open files as far as it takes for `files` besides the usual ones.
pub(super) fn allow_files(files: u64, whom: &str) -> Result<(), Failure> {
    let needed = files + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or(0);
        let message = format!(
            "{whom} need {needed} open files, and this process may have {maximum}; raise the hard \
             limit (ulimit -Hn, LimitNOFILE=) or lower connections"
        );
        return Err(Failure::new(Exit::System, message));
    }
    let raised = Rlimit { current: Some(needed), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).map_err(|errno| Failure::new(Exit::System, errno))
}

fn settings(args: &Args, campaign: &Campaign, terrain: &Terrain) -> Settings {
    let settings = terrain::settings(campaign, terrain);
    // One at least is under way on each side of each thread.
    let segments = settings.segments.max(4 * args.delivery_threads as usize);
    Settings { segments, speed: args.speed, loopback_only: args.loopback_only, ..settings }
}
