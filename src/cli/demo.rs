//! demo — shows what this program is for, on this machine only: a campaign is killed half-way,
//! resumed by the same command, and proved against a receiver that counted for itself.
//!
//! It needs no root and no network, and leaves everything in one directory to look at. It sends
//! with this very program as a process of its own (`sender`), to a receiver in this process
//! (`receiver`), from a sample campaign (`project`); `proof` compares what all of them say. Any
//! difference is exit 1.

mod project;
mod proof;
mod receiver;
mod sender;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use self::project::Project;
use self::proof::Evidence;
use self::receiver::{RULES_IN_WORDS, Receiver, VERIFY_EVERY};
use self::sender::{CHECK, RUN, Sender, Watched, typed};
use super::opening::chain;
use super::signals::Stop;
use super::{Exit, Failure};
use crate::ledger::{self, Book, Standing};
use crate::outcome::{Kind, Row};
use crate::report::{Report, grouped};
use crate::ring::Clock;
use crate::rundir::{self, Manifest, RunDir};

/// Arguments of `mailshot demo`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot demo                             20,000 rows, less than a minute
  mailshot demo --rows 200000 -d big-demo   more rows, in another directory")]
pub(super) struct Args {
    /// Where to leave everything. What an earlier demo made there is replaced; a directory with
    /// other files is refused.
    #[arg(short, long, value_name = "DIR", default_value = "mailshot-demo")]
    directory: PathBuf,
    /// Rows of the list, 1,000 to 1,000,000.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(ROWS))]
    rows: u64,
}

/// With fewer rows the sender may be done before it is killed; more need minutes.
const ROWS: RangeInclusive<u64> = 1_000..=1_000_000;

/// How much of the list has arrived when the sender is killed, in percent.
const KILL_AT_PERCENT: u64 = 40;

/// The demo under way: what every step needs.
struct Demo {
    project: Project,
    receiver: Receiver,
    stop: Stop,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let clock = Clock::start();
    let begun = clock.tick();
    let stop = Stop::listen()?;
    let directory = args.directory.display();
    println!("mailshot demo: {} rows, on this machine only", grouped(args.rows));
    let project = Project::write(&args.directory, args.rows)?;
    let receiver = Receiver::start(&project.keys)?;
    project.write_campaign(receiver.address())?;
    let demo = Demo { project, receiver, stop };
    demo.tell_what_there_is();
    demo.check()?;
    demo.send_and_kill()?;
    demo.resume()?;
    let report = demo.prove()?;
    println!("\n7  the report of the run ($ mailshot report campaign.toml)\n");
    print!("{}", report.text());
    print!("{}", next_steps(&args.directory));
    let took = clock.tick().since(begun).as_secs_f64();
    println!(
        "\nDone in {took:.1} s. Everything is in {directory}; delete it when you have seen it."
    );
    Ok(Exit::Done)
}

impl Demo {
    fn tell_what_there_is(&self) {
        let tally = &self.project.tally;
        println!("\n1  a sample campaign in {}", self.project.directory.display());
        println!("   campaign.toml, template.html, template.txt  what is sent");
        println!(
            "   recipients.csv     {} rows, {} of them dirty on purpose",
            grouped(tally.rows),
            grouped(tally.dirty())
        );
        println!("   keys/              RSA-2048 and Ed25519, to sign with");
        println!("   dns-records.txt    the DNS records that it would need");
        println!("\n2  a receiver on {}, in this process", self.receiver.address());
        println!(
            "   it counts for itself, and verifies the signatures of every {VERIFY_EVERY}th message"
        );
        println!("   {RULES_IN_WORDS}");
    }

    /// Step 3: the list as `check` sees it, without samples and DNS records.
    fn check(&self) -> Result<(), Failure> {
        println!("\n3  $ {}", typed(&CHECK));
        let checking = Sender::start(&CHECK, &self.project.directory)?;
        let (_, said) = checking.finish(&[Exit::Done])?;
        let details = |line: &&str| line.starts_with(' ') || line.starts_with("dkim");
        for line in said.lines().filter(|line| !details(line)) {
            println!("   {line}");
        }
        Ok(())
    }

    /// Step 4: sends until the receiver has enough, then kills the sender.
    fn send_and_kill(&self) -> Result<(), Failure> {
        println!("\n4  $ {}", typed(&RUN));
        let enough = self.project.tally.good * KILL_AT_PERCENT / 100;
        let mut sender = Sender::start(&RUN, &self.project.directory)?;
        if self.watch(&mut sender, Some(enough))? == Watched::Ended {
            let why = |failure: Failure| format!("it was too early to be killed: {failure}");
            let ended = sender.finish(&[]).map(drop);
            return ended.map_err(|failure| Failure::new(failure.exit, why(failure)));
        }
        sender.kill()?;
        println!("   killed with SIGKILL when {} messages had arrived", grouped(enough));
        let (_, manifest, book) = self.books()?;
        let counts = book.counts();
        let excluded: u32 = manifest.frozen.excluded.iter().map(|(_, count)| count).sum();
        println!(
            "   the ledger knows of {} delivered, {} refused, {} to be tried again, {} in doubt, \
             {} pending",
            grouped(counts.delivered.into()),
            grouped(counts.bounced.into()),
            grouped(counts.waiting.into()),
            grouped(counts.in_flight.into()),
            grouped((counts.pending - excluded).into())
        );
        Ok(())
    }

    /// Step 5: the very same command does the rest.
    fn resume(&self) -> Result<(), Failure> {
        println!("\n5  $ {}", typed(&RUN));
        println!("   the same command resumes");
        let mut sender = Sender::start(&RUN, &self.project.directory)?;
        self.watch(&mut sender, None)?;
        let (exit, _) = sender.finish(&[Exit::Done, Exit::Incomplete])?;
        let words = match exit {
            Exit::Done => "every row is settled",
            _ => "every row is settled, but some are in doubt",
        };
        println!("   exit code {}: {words}", exit as u8);
        Ok(())
    }

    /// Shows on a terminal how much has arrived until it is `enough`, or the sender has ended.
    fn watch(&self, sender: &mut Sender, enough: Option<u64>) -> Result<Watched, Failure> {
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(Some(self.project.tally.good), target);
        let form = "   {bar:30} {pos}/{len} arrived";
        bar.set_style(ProgressStyle::with_template(form).expect("a constant template"));
        let watched = sender.watch(|| {
            let arrived = self.receiver.arrived();
            bar.set_position(arrived);
            self.stop.exit().is_some() || enough.is_some_and(|enough| arrived >= enough)
        });
        bar.finish_and_clear();
        match self.stop.exit() {
            Some(exit) => Err(Failure::new(exit, "the demo was interrupted")),
            None => watched,
        }
    }

    /// The run as it is on the disk; nobody writes to it now.
    fn books(&self) -> Result<(RunDir, Manifest, Book), Failure> {
        let storage = |error: &dyn std::error::Error| Failure::new(Exit::Storage, chain(error));
        let campaign = &self.project.campaign;
        let runs = campaign.runs.value.join(&campaign.id.value);
        let latest = rundir::latest(&runs).map_err(|error| storage(&error))?;
        let (dir, manifest) = latest.ok_or_else(|| {
            Failure::new(Exit::Internal, format!("{} has no run", runs.display()))
        })?;
        let recovered = ledger::recover(&dir.file("ledger"), &manifest.run, manifest.frozen.rows);
        let (book, _) = recovered.map_err(|error| storage(&error))?;
        Ok((dir, manifest, book))
    }

    /// Step 6: asks the receiver.
    fn prove(self) -> Result<Report, Failure> {
        println!("\n6  the proof, by the receiver's own count");
        let (dir, _, book) = self.books()?;
        let path = dir.file("report.json");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", path.display())))?;
        let report: Report = serde_json::from_str(&text)
            .map_err(|error| Failure::new(Exit::Storage, format!("{}: {error}", path.display())))?;
        let seen = self.receiver.end();
        let evidence = Evidence::new(
            &self.project.tally,
            &report,
            (ended(&book, Kind::Delivered), ended(&book, Kind::InDoubt)),
            &seen,
        );
        let claims = evidence.claims();
        for claim in &claims {
            match claim {
                Ok(sentence) => println!("   ✓ {sentence}"),
                Err(instead) => println!("   ✗ {instead}"),
            }
        }
        let pace = seen.rate.map_or(0, |rate| rate.recipients_max);
        println!("   · in its busiest second it was given {} recipients", grouped(pace));
        let refuted: Vec<String> = claims.into_iter().filter_map(Result::err).collect();
        match refuted.is_empty() {
            true => Ok(report),
            false => Err(Failure::new(Exit::Internal, refuted.join("\n"))),
        }
    }
}

/// The rows that ended so.
fn ended(book: &Book, kind: Kind) -> BTreeSet<u32> {
    let so = |row: &u32| book.standing(Row(*row)) == Standing::Final(kind);
    (1..=book.rows()).filter(so).collect()
}

/// What to try next.
fn next_steps(directory: &Path) -> String {
    format!(
        "
Go on:
  cd {}
  mailshot render campaign.toml --row 1             the message of one row
  mailshot render campaign.toml --row 1 --form html -o row1.html
  less dns-records.txt campaign.toml                what a real campaign needs
  mailshot run campaign.toml                        nothing to do: it has ended

Ask the accounting data, with DuckDB or any other reader of Parquet:
  duckdb < queries/replies.sql                      who deferred or refused, by domain
  duckdb < queries/latency.sql                      how long until it was accepted
  duckdb < queries/exclusions.sql                   which rows got nothing, and why
",
        directory.display()
    )
}
