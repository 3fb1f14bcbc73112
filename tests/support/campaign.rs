//! campaign — a campaign in a folder of its own, the program run on it, and what it left.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mailshot::ledger::{Record, replay};
use mailshot::outcome::{Binding, Class, Kind, Stage};

use super::process::{Finished, Process, mailshot};
use super::scratch;

/// How long one run may take on a busy machine.
pub(crate) const RUN: Duration = Duration::from_secs(120);

/// The name of every campaign here.
const ID: &str = "trial";

/// A campaign on disk: `campaign.toml`, `letter.txt` and `list.csv`, unsigned, to 127.0.0.1.
pub(crate) struct Campaign {
    folder: tempfile::TempDir,
    /// The lines of `[delivery]` that say where mail goes.
    route: String,
    port: u16,
    /// Lines of `[delivery]` besides the route.
    delivery: String,
    /// More lines of `[recipients]`.
    recipients: String,
    /// More lines of the file's top.
    top: String,
    /// More sections.
    sections: String,
    /// To the hosts of `mx.txt`, not to 127.0.0.1.
    mx: bool,
}

/// One ended attempt, as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) row: u32,
    pub(crate) attempt: u16,
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    pub(crate) class: Class,
    /// The name of its group.
    pub(crate) provider: String,
    pub(crate) source: Option<IpAddr>,
    /// When it ended, in microseconds since 1970.
    pub(crate) time_us: i64,
    /// How long it took, in microseconds.
    pub(crate) took_us: i64,
    /// When the next attempt is due, in microseconds since 1970.
    pub(crate) next_attempt_us: Option<i64>,
    /// When the first attempt of the row began, in microseconds.
    pub(crate) first_attempt_us: i64,
    /// When it began and ended, in microseconds.
    pub(crate) began_us: i64,
    pub(crate) ended_us: i64,
    pub(crate) rule: String,
    pub(crate) limit: Binding,
    pub(crate) response: String,
}

impl Campaign {
    /// A campaign of `rows` rows, `r<row>@example.com`.
    pub(crate) fn new(port: u16, rows: u32) -> Campaign {
        let addresses = (1..=rows).map(|row| format!("r{row}@example.com"));
        Campaign::to(port, addresses)
    }

    /// A campaign to these addresses, all by way of 127.0.0.1.
    pub(crate) fn to(port: u16, addresses: impl IntoIterator<Item = String>) -> Campaign {
        Campaign::by(port, format!("route = \"127.0.0.1:{port}\""), addresses)
    }

    /// A campaign to the mail hosts of these addresses, on this port.
    pub(crate) fn to_mx(port: u16, addresses: impl IntoIterator<Item = String>) -> Campaign {
        Campaign::by(port, format!("route = \"mx\"\nport = {port}"), addresses)
    }

    fn by(port: u16, route: String, addresses: impl IntoIterator<Item = String>) -> Campaign {
        let campaign = Campaign {
            folder: scratch(),
            port,
            route,
            delivery: String::new(),
            recipients: String::new(),
            top: String::new(),
            sections: String::new(),
            mx: false,
        };
        let mut list = String::from("email,name\n");
        for (number, address) in (1..).zip(addresses) {
            list.push_str(&format!("{address},Name {number}\n"));
        }
        campaign.put("list.csv", list);
        campaign.put("letter.txt", "Hello {{ name }},\n\nthis is news for {{ address }}.\n");
        campaign.write();
        campaign
    }

    /// With these lines in `[delivery]`.
    pub(crate) fn delivery(mut self, lines: &str) -> Campaign {
        self.delivery = lines.to_owned();
        self.write();
        self
    }

    /// With these lines in `[recipients]`.
    pub(crate) fn recipients(mut self, lines: &str) -> Campaign {
        self.recipients = lines.to_owned();
        self.write();
        self
    }

    /// With these lines at the top of the file in place of `unsigned` and `subject`.
    pub(crate) fn top(mut self, lines: &str) -> Campaign {
        self.top = lines.to_owned();
        self.write();
        self
    }

    /// With these sections at the end of the file.
    pub(crate) fn sections(mut self, sections: &str) -> Campaign {
        self.sections = sections.to_owned();
        self.write();
        self
    }

    /// To the recipients' own mail hosts, all on this port; `hosts` are the lines that stand in for
    /// the DNS.
    pub(crate) fn mx(mut self, hosts: &str) -> Campaign {
        self.mx = true;
        self.put("mx.txt", hosts);
        self.write();
        self
    }

    fn write(&self) {
        let top = match self.top.is_empty() {
            true => "subject = \"News for {{ name }}\"\nunsigned = true\n",
            false => &self.top,
        };
        let Campaign { port, route, delivery, recipients, sections, .. } = self;
        let (route, dns) = match self.mx {
            true => (format!("route = \"mx\"\nport = {port}"), "[dns]\nhosts = \"mx.txt\"\n"),
            false => (route.clone(), ""),
        };
        let text = format!(
            "id = \"{ID}\"\nfrom = \"News <news@sender.example>\"\n\
             return_path = \"bounce@sender.example\"\n{top}\n\
             [content]\ntext = \"letter.txt\"\n\n[recipients]\nfile = \"list.csv\"\n{recipients}\n\
             [delivery]\n{route}\nehlo_name = \"out.sender.example\"\n\
             {delivery}\n\n{dns}\n{sections}\n"
        );
        self.put("campaign.toml", text);
    }

    /// Writes a file of the folder.
    pub(crate) fn put(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("scratch is writable");
    }

    /// The path of a file in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `mailshot <command> <options> campaign.toml`.
    pub(crate) fn command(&self, command: &str, options: &[&str]) -> Command {
        let mut mailshot = mailshot();
        mailshot.arg(command).args(options).arg(self.path("campaign.toml"));
        mailshot
    }

    /// Starts `mailshot run`.
    pub(crate) fn start(&self) -> Process {
        Process::start(&mut self.command("run", &["--loopback-only"]))
    }

    /// Starts `mailshot run`, time going by so many times as fast.
    pub(crate) fn start_at_speed(&self, speed: u32) -> Process {
        let speed = speed.to_string();
        Process::start(&mut self.command("run", &["--loopback-only", "--speed", &speed]))
    }

    /// `mailshot <command> campaign.toml <arguments>`.
    pub(crate) fn order(&self, command: &str, arguments: &[&str]) -> Finished {
        let mut mailshot = mailshot();
        mailshot.arg(command).arg(self.path("campaign.toml")).args(arguments);
        Process::start(&mut mailshot).finish(RUN)
    }

    /// Does `mailshot run` to its end.
    pub(crate) fn run(&self) -> Finished {
        self.start().finish(RUN)
    }

    /// Does `mailshot run` and expects this exit code.
    pub(crate) fn run_expecting(&self, exit: i32) -> Finished {
        let finished = self.run();
        assert_eq!(finished.status.code(), Some(exit), "{}", finished.stderr);
        finished
    }

    /// The directories of its runs, oldest first.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let parent = self.path("runs").join(ID);
        let entries = fs::read_dir(parent).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("readable").path());
        let mut runs: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
        runs.sort();
        runs
    }

    /// The directory of its newest run.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.runs().pop().expect("there is a run")
    }

    /// The report of its newest run.
    pub(crate) fn report(&self) -> serde_json::Value {
        let path = self.run_dir().join("report.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).expect("a report is JSON")
    }

    /// A sum of the report.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.report()["sums"][name].as_u64().unwrap_or_else(|| panic!("there is a sum {name}"))
    }

    /// Every attempt that the ledger of the newest run has, in its order.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        attempts(&self.run_dir())
    }

    /// The last thing that the ledger says of each row that was tried.
    pub(crate) fn ends(&self) -> BTreeMap<u32, Attempt> {
        self.attempts().into_iter().map(|attempt| (attempt.row, attempt)).collect()
    }
}

/// Every attempt that the ledger of a run has, in its order.
pub(crate) fn attempts(run: &Path) -> Vec<Attempt> {
    let id = run.file_name().expect("a run has a name").to_string_lossy().into_owned();
    let mut attempts = Vec::new();
    let tail = replay(&run.join("ledger"), &id, &mut |_, record| {
        if let Record::Outcome(outcome) = record {
            attempts.push(Attempt {
                row: outcome.row.0,
                attempt: outcome.attempt,
                kind: outcome.kind,
                stage: outcome.stage,
                class: outcome.class,
                provider: outcome.provider.to_owned(),
                source: outcome.session.source,
                time_us: outcome.time.0,
                took_us: i64::try_from(outcome.took.as_micros()).expect("less than an age"),
                next_attempt_us: outcome.next_attempt.map(|next| next.0),
                first_attempt_us: outcome.first_attempt.0,
                began_us: outcome.time.0 - outcome.took.as_micros() as i64,
                ended_us: outcome.time.0,
                rule: outcome.rule.to_owned(),
                limit: outcome.limit,
                response: outcome.response.to_owned(),
            });
        }
    });
    tail.expect("the ledger can be read");
    attempts
}
