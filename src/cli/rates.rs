//! rates — shows the rate table in force: which row applies to a name or a domain, where each limit
//! stands and who says so; tests the tables and the rules that judge replies; and turns a
//! PowerMTA-like CSV into a table.
//!
//! It only reads, and asks the DNS for the mail hosts of a domain. What is wrong with a table or a
//! campaign ends it with exit code 3; a DNS that has no answer, with 14.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::terrain::Guide;
use super::{Exit, Failure, opening};
use crate::address;
use crate::campaign::{Campaign, Dns};
use crate::destination::DomainNo;
use crate::problem::{Place, Problem, suggest};
use crate::rates::table::{self, Layer, Line, Row, SHIPPED, Table};
use crate::ring::Clock;
use crate::routes::{Death, Directory, Standing};
use crate::smtp::rules::Rules;

/// Arguments of `mailshot rates`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot rates list
  mailshot rates explain google --campaign campaign.toml
  mailshot rates explain example.com
  mailshot rates explain example.com --mx mx1.example.com --mx mx2.example.com
  mailshot rates test --rates site.toml
  mailshot rates import powermta.csv > site.toml && mailshot rates list --rates site.toml")]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show all rows, one a line.
    List(Files),
    /// Say which row applies, and for each of its limits where it stands and who says so.
    Explain(Explain),
    /// Hold the table to its rules, and the rules that judge replies to their samples.
    Test(Files),
    /// Turn a CSV with the columns ISP, max-smtp-out, max-msg-rate, retry-after, max-msg-per-conn
    /// into a table, on stdout.
    Import(Import),
}

/// The files that lie over the shipped table, the later over the earlier; the campaign is on top.
#[derive(Debug, clap::Args)]
struct Files {
    /// A rate table of your own; may be given several times.
    #[arg(long, value_name = "FILE")]
    rates: Vec<PathBuf>,
    /// A campaign file, for its delivery.rate_tables and its [rates].
    #[arg(long, value_name = "FILE")]
    campaign: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Explain {
    /// A provider of the table, "default", or a recipient domain.
    #[arg(value_name = "NAME_OR_DOMAIN")]
    name: String,
    /// A mail host of the domain; may be given several times. Asked of the DNS when absent.
    #[arg(long, value_name = "HOST")]
    mx: Vec<String>,
    /// A DNS server to ask; may be given several times. Those of the campaign, or of this system,
    /// when absent.
    #[arg(long, value_name = "ADDRESS:PORT")]
    dns: Vec<SocketAddr>,
    #[command(flatten)]
    files: Files,
}

#[derive(Debug, clap::Args)]
struct Import {
    /// The CSV.
    file: PathBuf,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let text = match &args.what {
        What::List(files) => list(&read(files)?.0),
        What::Explain(args) => {
            let (table, campaign) = read(&args.files)?;
            explain(&table, campaign.as_ref(), args)?
        }
        What::Test(files) => test(&read(files)?.0)?,
        What::Import(args) => {
            let shown = args.file.display().to_string();
            table::import(&shown, &content(&args.file)?)
                .map_err(|problems| Failure::problems(Exit::Campaign, &problems))?
        }
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough (`| head`).
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Internal, error))
        }
        _ => Ok(Exit::Done),
    }
}

/// The table in force, and the campaign if one is given.
fn read(files: &Files) -> Result<(Table, Option<Campaign>), Failure> {
    let campaign = files.campaign.as_ref().map(|file| opening::campaign(file)).transpose()?;
    let campaign = campaign.map(|(campaign, _)| campaign);
    let tables = campaign.iter().flat_map(|campaign| &campaign.delivery.rate_tables);
    let own = files.rates.iter().chain(tables.map(|table| &table.value)).map(|file| (file, None));
    let section = files.campaign.iter().map(|file| (file, Some("rates")));
    let mut texts = Vec::new();
    for (file, section) in own.chain(section) {
        texts.push((file.display().to_string(), content(file)?, section));
    }
    let above = texts.iter().map(|(file, text, section)| Layer { file, text, section: *section });
    let layers: Vec<Layer<'_>> = [SHIPPED].into_iter().chain(above).collect();
    let table = Table::read(&layers);
    let table = table.map_err(|problems| Failure::problems(Exit::Campaign, &problems))?;
    Ok((table, campaign))
}

fn content(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        let place = Place::whole(file.display().to_string());
        let problem = Problem::new(place, format!("it cannot be read: {error}"), "");
        Failure::problems(Exit::Campaign, &[problem])
    })
}

/// What was tested, once nothing is wrong with it.
fn test(table: &Table) -> Result<String, Failure> {
    let providers: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    let problems = Rules::shipped().audit(&providers);
    if !problems.is_empty() {
        return Err(Failure::problems(Exit::Campaign, &problems));
    }
    Ok(format!(
        "table  default and {} providers are good\n\
         rules  all judge their samples, and none hides another\n",
        providers.len()
    ))
}

/// All rows, one a line.
fn list(table: &Table) -> String {
    let mut lines =
        vec![["name", "connections", "rate", "on each", "retry", "hosts"].map(str::to_owned)];
    for row in [&table.default].into_iter().chain(&table.rows) {
        let values = row.explain();
        let value = |key: &str| {
            let found = values.iter().find(|line| line.key == key);
            found.map_or_else(|| "-".to_owned(), |line| line.value.clone())
        };
        let hosts: Vec<String> = row.mx.iter().map(|suffix| suffix.value.to_string()).collect();
        let each = if row.per_site { " (each site)" } else { "" };
        let hosts = if hosts.is_empty() { "all others".to_owned() } else { hosts.join(" ") };
        lines.push([
            row.name.clone(),
            value("connections"),
            value("rate"),
            value("messages_per_connection"),
            value("retry"),
            hosts + each,
        ]);
    }
    aligned(&lines)
}

/// Which row applies and why, and what it says.
fn explain(table: &Table, campaign: Option<&Campaign>, args: &Explain) -> Result<String, Failure> {
    let named = table.row(&args.name).filter(|_| args.mx.is_empty());
    let (row, mut text) = match named {
        Some(row) => (row, of_name(row)),
        None if args.mx.is_empty() && !args.name.contains('.') => {
            return Err(unknown(table, &args.name));
        }
        None => {
            let asked = match args.mx.is_empty() {
                true => mail_hosts(&args.name, table, campaign, &args.dns)?,
                false => Ok(args.mx.clone()),
            };
            let hosts = match &asked {
                Ok(hosts) => hosts.iter().map(String::as_str).collect::<Vec<_>>(),
                Err(dead) => return Ok(format!("no mail can be sent to {}: {dead}\n", args.name)),
            };
            let row = table.provider_of(&hosts);
            (row.unwrap_or(&table.default), of_domain(table, &args.name, &hosts))
        }
    };
    if row.per_site {
        text.push_str("its limits hold for each set of mail hosts separately\n");
    }
    text.push('\n');
    text.push_str(&aligned(&row.explain().into_iter().map(cells).collect::<Vec<_>>()));
    Ok(text)
}

/// Whom to ask where no campaign says it: the system's servers, three times, as a campaign does
/// that says nothing of it.
const SYSTEM: Dns = Dns {
    servers: Vec::new(),
    timeout: Duration::from_secs(5),
    attempts: 3,
    ipv6: false,
    hosts: None,
};

/// The mail hosts of a domain, the most preferred first, or why no mail can be sent to it.
///
/// # Errors
/// It is no domain, or the DNS has no answer.
fn mail_hosts(
    domain: &str,
    table: &Table,
    campaign: Option<&Campaign>,
    servers: &[SocketAddr],
) -> Result<Result<Vec<String>, &'static str>, Failure> {
    let name = address::domain(domain)
        .map_err(|error| Failure::new(Exit::Usage, format!("{domain:?} is no domain: {error}")))?;
    let mut dns = campaign.map_or(SYSTEM, |campaign| campaign.dns.clone());
    if !servers.is_empty() {
        dns = Dns { servers: servers.to_vec(), hosts: None, ..dns };
    }
    let mut directory = Directory::new(vec![name], 0);
    let only = DomainNo(0);
    let when = (Clock::start().utc(), true);
    Guide::of(&dns)?.ask(&mut directory, std::iter::once(only), table, when)?;
    match directory.standing(only) {
        Standing::Routed(site) => {
            let hosts = directory.sites()[site.index()].hosts.iter();
            Ok(Ok(hosts.map(|host| host.name.clone()).collect()))
        }
        Standing::Dead(Death::NoSuchDomain) => Ok(Err("the DNS has no such domain")),
        Standing::Dead(Death::NullMx) => Ok(Err("it says that it takes none (RFC 7505)")),
        Standing::Dead(Death::NoMailHost) => Ok(Err("it has no mail host with an address")),
        Standing::Unresolved { why } => {
            let message = format!(
                "the mail hosts of {domain} are not known: {why}; name them with --mx HOST"
            );
            Err(Failure::new(Exit::System, message))
        }
    }
}

fn unknown(table: &Table, name: &str) -> Failure {
    let names: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    let help = match suggest(name, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("there are default, {}; a domain has a dot", names.join(", ")),
    };
    Failure::new(Exit::Usage, format!("no provider {name:?}: {help}"))
}

/// A row by its name: whose mail it governs.
fn of_name(row: &Row) -> String {
    let mut text = format!("row {}\n", row.name);
    if row.mx.is_empty() {
        text.push_str("applies where no provider has all mail hosts of a domain\n");
    }
    for suffix in &row.mx {
        writeln!(text, "has {}, {} ({})", suffix.value, suffix.place, suffix.source)
            .expect("texts take everything");
    }
    text
}

/// A row by the mail hosts of a domain: which suffix has which host.
fn of_domain(table: &Table, domain: &str, hosts: &[&str]) -> String {
    let provider = table.provider_of(hosts);
    let name = provider.map_or("default", |row| &row.name);
    let mut text = format!("row {name} applies to {domain}\n");
    let mut lines = Vec::new();
    for host in hosts {
        let owner = table.rows.iter().find_map(|row| Some((row, row.claims(host)?)));
        let why = match owner {
            Some((row, suffix)) => format!("is {} of {}, {}", suffix.value, row.name, suffix.place),
            None => "is no provider's".to_owned(),
        };
        lines.push([(*host).to_owned(), why]);
    }
    text.push_str(&aligned(&lines));
    if provider.is_none() {
        text.push_str("a provider's row needs all mail hosts of a domain to be its own\n");
    }
    text
}

/// A limit as the cells of a line: key, value, place, source with what it overrides.
fn cells(line: Line) -> [String; 4] {
    let mut source = line.source;
    if source == format!("{}:{}", line.place.file, line.place.line) {
        source = "this file".to_owned();
    }
    for (place, value) in &line.overrides {
        write!(source, "; instead of {value}, {place}").expect("texts take everything");
    }
    [line.key.to_owned(), line.value, line.place.to_string(), source]
}

/// Lines of cells, each column as wide as its widest cell.
pub(super) fn aligned<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |at: usize| lines.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for cells in lines {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
