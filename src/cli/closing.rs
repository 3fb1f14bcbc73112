//! closing — the books of a run: read the ledger again from the disk, write the accounting files,
//! add everything up, say how it ended.
//!
//! Nothing of what the stages counted goes into the sums. If the sums do not add up to the rows of
//! the list, or the files do not hold what the ledger holds, that is an internal error and the run
//! does not end.

use std::collections::BTreeMap;
use std::fs::File;

use super::opening::{chain, ehlo_name, storage};
use super::signals::Stop;
use super::steering::{End, help};
use super::{Exit, Failure, status};
use crate::account::{
    Books, BooksError, Layout as AccountLayout, RcptHasher, RunFacts, RunRow, SourceFacts,
    TableName, Written, write_run,
};
use crate::campaign::{Addresses, Campaign};
use crate::deliver::Tally;
use crate::dkim::Signers;
use crate::ledger::{self, Book, Record, Tail};
use crate::outcome::{Kind, Outcome, Row};
use crate::recipients::{self, Index};
use crate::report::{BOUNCES_SHOWN, Engine, IN_DOUBT_SHOWN, Report, Sums};
use crate::ring::Clock;
use crate::rundir::{Manifest, RunDir};
use crate::units::Utc;

/// A run whose books are to be closed.
pub(super) struct Closing<'a> {
    pub(super) dir: &'a RunDir,
    pub(super) manifest: &'a Manifest,
    pub(super) campaign: &'a Campaign,
    pub(super) list: &'a File,
    pub(super) columns: &'a recipients::Layout,
    /// Domain and selector of the first signature.
    pub(super) key: Option<(String, String)>,
}

/// The accounting files of a run, besides that of the run itself.
struct Files {
    events: Vec<Written>,
    messages: Written,
}

impl Files {
    fn events(&self) -> u64 {
        self.events.iter().map(|file| file.rows).sum()
    }
}

/// What one reading of the ledger gives besides the standing of the rows.
#[derive(Default)]
struct Reading {
    bounces: BTreeMap<String, u64>,
    in_doubt: Vec<Row>,
    outcomes: u64,
    failed: u64,
    sources: Vec<std::net::IpAddr>,
}

impl Reading {
    fn see(&mut self, outcome: &Outcome<'_>) {
        self.outcomes += 1;
        if let Some(source) = outcome.session.source
            && !self.sources.contains(&source)
        {
            self.sources.push(source);
        }
        match outcome.kind {
            Kind::Bounced => {
                let enhanced = outcome.enhanced.map_or(String::new(), |code| format!("{code} "));
                let reason = format!("{} {enhanced}{}", outcome.smtp_code, outcome.class.word());
                *self.bounces.entry(reason).or_default() += 1;
            }
            Kind::InDoubt => self.in_doubt.push(outcome.row),
            Kind::Failed => self.failed += 1,
            Kind::Delivered | Kind::Deferred | Kind::Expired | Kind::Cancelled => {}
        }
    }

    /// The most frequent bounce reasons.
    fn top_bounces(self) -> Vec<(String, u64)> {
        let mut bounces: Vec<(String, u64)> = self.bounces.into_iter().collect();
        bounces.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        bounces.truncate(BOUNCES_SHOWN);
        bounces
    }
}

/// Domain and selector of the first key, which accounting names.
pub(super) fn first_key(signers: &Signers) -> Option<(String, String)> {
    signers.keys().first().map(|key| (key.domain().to_owned(), key.selector().to_owned()))
}

impl Closing<'_> {
    /// Ends the run, or says that it can be resumed.
    pub(super) fn finish(
        &self,
        engine: Engine,
        tally: &Tally,
        (quiet, end): (bool, Option<End>),
        (clock, stop): (Clock, &Stop),
    ) -> Result<Exit, Failure> {
        for damage in &tally.damage {
            eprintln!("mailshot: a spool record was damaged and its message made again: {damage}");
        }
        let now = clock.utc();
        let report = self.close(engine, now)?;
        let ended = report.sums.pending == 0;
        if ended {
            let text = serde_json::to_vec_pretty(&report).expect("strings and numbers only");
            self.dir.write("report.json", &text).map_err(storage)?;
            self.dir.discard("spool").map_err(storage)?;
        }
        let exit = match stop.exit() {
            _ if ended
                && report.sums.expired + report.sums.in_doubt + report.sums.cancelled > 0 =>
            {
                Exit::Incomplete
            }
            _ if ended => Exit::Done,
            Some(signal) => signal,
            None if end == Some(End::Halted) => Exit::Halted,
            None => Exit::Internal,
        };
        if !quiet || exit != Exit::Done {
            eprint!("{}", report.text());
        }
        let pending = report.sums.pending;
        match exit {
            Exit::Halted => self.say_halted(pending)?,
            _ if !ended => eprintln!("mailshot: {pending} rows are pending; run again to resume"),
            _ => {}
        }
        Ok(exit)
    }

    /// Says what stands in the way of the rows that are left.
    fn say_halted(&self, pending: u64) -> Result<(), Failure> {
        eprintln!("mailshot: {pending} rows are pending and wait for a person");
        for stop in status::stops(self.dir)?.iter().filter(|stop| stop.halted) {
            eprintln!("    {}", status::stop_line(stop));
            eprintln!("    {}", help(self.dir, &stop.scope));
        }
        Ok(())
    }

    /// Writes the accounting files and adds up.
    pub(super) fn close(&self, engine: Engine, now: Utc) -> Result<Report, Failure> {
        let broken = |error: &dyn std::error::Error| Failure::new(Exit::Storage, chain(error));
        let run = &self.manifest.run;
        let ledger_dir = self.dir.file("ledger");
        let index = Index::open(&self.dir.file("recipients.idx")).map_err(|e| broken(&e))?;
        let mut reading = Reading::default();
        let (book, tail) = ledger::recover_seeing(&ledger_dir, run, index.rows(), &mut |record| {
            if let Record::Outcome(outcome) = record {
                reading.see(outcome);
            }
        })
        .map_err(|error| broken(&error))?;
        let sums = self.sums(&book);
        let outcomes = reading.outcomes;
        let facts = self.facts(&reading);
        self.reconcile(sums.reconciles(), &sums, "")?;
        let written = self
            .account(&facts, &index, &book, &tail, (&sums, &engine, now))
            .map_err(|error| broken(&error))?;
        let (events, messages) = (written.events(), written.messages.rows);
        let found = format!(
            "; {outcomes} outcomes in the ledger and {events} events, {messages} messages in the \
             accounting files"
        );
        self.reconcile(events == outcomes && messages == sums.rows, &sums, &found)?;
        let mut files: Vec<String> = Vec::new();
        if !reading.in_doubt.is_empty() {
            files.push(self.list_doubts(&reading.in_doubt)?);
        }
        let data_set = self.campaign.accounting.directory.value.display();
        files.push(format!("{data_set}/v1 ({} files)", written.events.len() + 2));
        files.push(self.dir.path().display().to_string());
        Ok(self.report(sums, reading, engine, files, now))
    }

    fn sums(&self, book: &Book) -> Sums {
        let counts = book.counts();
        let at_intake: u64 =
            self.manifest.frozen.excluded.iter().map(|(_, count)| u64::from(*count)).sum();
        let unsettled = counts.pending + counts.in_flight + counts.waiting;
        Sums {
            rows: u64::from(book.rows()),
            excluded: at_intake + u64::from(counts.failed),
            delivered: counts.delivered.into(),
            bounced: counts.bounced.into(),
            expired: counts.expired.into(),
            pending: u64::from(unsettled) - at_intake,
            in_doubt: counts.in_doubt.into(),
            cancelled: counts.cancelled.into(),
        }
    }

    fn facts(&self, reading: &Reading) -> RunFacts {
        let sha256 = |role: &str| {
            let inputs = &self.manifest.frozen.inputs;
            let found = inputs.iter().find(|input| input.role == role);
            found.map_or(String::new(), |input| input.sha256.clone())
        };
        let html = sha256("html");
        let ehlo_name = ehlo_name(self.campaign);
        RunFacts {
            run_id: self.manifest.run.clone(),
            campaign_id: self.manifest.campaign.clone(),
            template_sha256: if html.is_empty() { sha256("text") } else { html },
            list_sha256: sha256("list"),
            rate_table_sha256: String::new(),
            tool_version: self.manifest.tool.clone(),
            dkim_domain: self.key.as_ref().map(|(domain, _)| domain.clone()),
            dkim_selector: self.key.as_ref().map(|(_, selector)| selector.clone()),
            sources: reading
                .sources
                .iter()
                .map(|ip| SourceFacts { ip: *ip, ehlo_name: ehlo_name.clone(), pool: None })
                .collect(),
        }
    }

    /// Writes events, messages and the run.
    fn account(
        &self,
        facts: &RunFacts,
        index: &Index,
        book: &Book,
        tail: &Tail,
        (sums, engine, now): (&Sums, &Engine, Utc),
    ) -> Result<Files, BooksError> {
        let layout = AccountLayout::new(&self.campaign.accounting.directory.value);
        layout.sweep(&facts.run_id)?;
        let started = Utc(self.manifest.started_us);
        let books = Books {
            ledger: &self.dir.file("ledger"),
            run: facts,
            index,
            list: self.list,
            columns: self.columns,
            hasher: &RcptHasher::new(layout.rcpt_key()?),
            keep_addresses: self.campaign.accounting.addresses == Addresses::Keep,
            layout: &layout,
        };
        let events = books.events(tail.last_file)?;
        let messages = books.messages(book, started)?;
        let row = RunRow {
            run: facts,
            started,
            ended: (sums.pending == 0).then_some(now),
            input_rows: sums.rows,
            excluded: sums.excluded,
            delivered: sums.delivered,
            bounced: sums.bounced,
            expired: sums.expired,
            pending: sums.pending,
            in_doubt: sums.in_doubt,
            cancelled: book.counts().cancelled.into(),
            cpu_seconds: (engine.cpu_seconds > 0.0).then_some(engine.cpu_seconds),
        };
        let path = layout.file(TableName::Runs, started, facts, 0);
        write_run(&path, &layout.work_dir(), &row)?;
        Ok(Files { events, messages })
    }

    /// Books that do not add up prove nothing, so the run does not end with them.
    fn reconcile(&self, adds_up: bool, sums: &Sums, found: &str) -> Result<(), Failure> {
        if adds_up {
            return Ok(());
        }
        let run = &self.manifest.run;
        let message = format!("the books of run {run} do not add up: {sums:?}{found}");
        Err(Failure::new(Exit::Internal, message))
    }

    /// Writes the rows in doubt to a file of their own; its path.
    fn list_doubts(&self, rows: &[Row]) -> Result<String, Failure> {
        let mut text = String::from("row\n");
        for row in rows {
            text.push_str(&format!("{row}\n"));
        }
        let name = "in_doubt.csv";
        self.dir
            .write(name, text.as_bytes())
            .map_err(|error| Failure::new(Exit::Storage, error))?;
        Ok(self.dir.file(name).display().to_string())
    }

    fn report(
        &self,
        sums: Sums,
        reading: Reading,
        engine: Engine,
        files: Vec<String>,
        now: Utc,
    ) -> Report {
        let frozen = &self.manifest.frozen.excluded;
        let mut excluded: Vec<(String, u64)> =
            frozen.iter().map(|(reason, count)| (reason.clone(), u64::from(*count))).collect();
        if reading.failed > 0 {
            excluded.push(("render_error".to_owned(), reading.failed));
        }
        excluded.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
        let in_doubt_rows = reading.in_doubt.iter().take(IN_DOUBT_SHOWN).map(|row| row.0).collect();
        Report {
            version: Report::VERSION,
            campaign: self.manifest.campaign.clone(),
            run: self.manifest.run.clone(),
            started: self.manifest.started.clone(),
            ended: now.to_string(),
            ended_us: now.0,
            elapsed_seconds: now.since(Utc(self.manifest.started_us)).as_secs_f64(),
            sums,
            excluded,
            in_doubt_rows,
            bounces: reading.top_bounces(),
            engine,
            files,
        }
    }
}
