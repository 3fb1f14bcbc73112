//! inspect — shows a spool segment or a ledger file, record by record, for people who look for
//! trouble. It only reads, also under a run that goes on. Addresses are masked.

use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::opening::chain;
use super::{Exit, Failure};
use crate::address::masked;
use crate::ledger::{FileNumber, Record, Volume};
use crate::outcome::Outcome;
use crate::spool;

/// Arguments of `mailshot inspect`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot inspect runs/spring/01JC…/ledger/000001.log | tail
  mailshot inspect runs/spring/01JC…/spool/000000.seg")]
pub(super) struct Args {
    /// A file of a run directory's ledger (.log) or spool (.seg).
    file: PathBuf,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let shown = match args.file.extension().and_then(OsStr::to_str) {
        Some("seg") => segment(&args.file, &mut out)?,
        Some("log") => ledger(&args.file, &mut out)?,
        _ => return Err(Failure::new(Exit::Usage, "name a .log of a ledger or a .seg of a spool")),
    };
    match shown.and_then(|()| out.flush()) {
        // Whoever reads has seen enough (`| head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, error))
        }
        _ => Ok(Exit::Done),
    }
}

fn segment(path: &Path, out: &mut impl Write) -> Result<std::io::Result<()>, Failure> {
    let dump = spool::dump(path).map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    let head = writeln!(out, "segment, filled {} times", dump.sequence);
    Ok(head.and_then(|()| {
        dump.records().try_for_each(|record| match record {
            Ok(record) => writeln!(
                out,
                "row {} attempt {} rendered {} to {} {} octets",
                record.head.row,
                record.head.attempt,
                record.head.spooled,
                masked(record.rcpt_to),
                record.message.len()
            ),
            Err(damage) => writeln!(out, "{damage}"),
        })
    }))
}

/// A ledger file knows its run and number; they are those of its path.
fn ledger(path: &Path, out: &mut impl Write) -> Result<std::io::Result<()>, Failure> {
    let number = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse().ok());
    let dir = path.parent().unwrap_or(Path::new("."));
    let dir = dir.canonicalize().map_err(|error| Failure::new(Exit::Storage, error))?;
    let run = dir.parent().and_then(Path::file_name).and_then(OsStr::to_str);
    let (Some(number), Some(run)) = (number, run) else {
        let message = "a ledger file is runs/<campaign>/<run>/ledger/<number>.log";
        return Err(Failure::new(Exit::Usage, message));
    };
    let volume = Volume::open(&dir, run, FileNumber(number));
    let volume = volume.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
    for record in volume.records() {
        let (_, record) = record.map_err(|error| Failure::new(Exit::Storage, chain(&error)))?;
        if let Err(error) = line(&record, out) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn line(record: &Record<'_>, out: &mut impl Write) -> std::io::Result<()> {
    match record {
        Record::Started { row, attempt, time } => {
            writeln!(out, "{time} row {row} attempt {attempt} started")
        }
        Record::Outcome(outcome) => outcome_line(outcome, out),
        Record::Note { time, text } => writeln!(out, "{time} note: {text}"),
    }
}

fn outcome_line(outcome: &Outcome<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let Outcome { row, attempt, kind, stage, time, smtp_code, response, .. } = outcome;
    let (kind, stage) = (kind.word(), stage.word());
    let words: Vec<String> = response
        .split(' ')
        .map(|word| if word.contains('@') { masked(word) } else { word.to_owned() })
        .collect();
    let words = words.join(" ");
    write!(out, "{time} row {row} attempt {attempt} {kind} at {stage}: {smtp_code} {words}")?;
    match outcome.next_attempt {
        Some(next) => writeln!(out, " (again {next})"),
        None => writeln!(out),
    }
}
