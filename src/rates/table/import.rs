//! import — a table of PowerMTA's directives as CSV, turned into a layer of TOML.
//!
//! The columns are `ISP,max-smtp-out,max-msg-rate,retry-after,max-msg-per-conn`, in any order; the
//! ISP names a provider of the shipped table as people do ("Gmail (gmail.com)"). Remarks in
//! parentheses behind a value are dropped. The result is text for a person to look at and to keep:
//! it is read as any other layer is.

use std::fmt::Write;
use std::time::Duration;

use crate::problem::{Place, Problem, suggest};
use crate::units;

use super::{Table, forms, keys};

/// The columns and the keys that they become.
const COLUMNS: [(&str, &str); 4] = [
    ("max-smtp-out", "connections"),
    ("max-msg-rate", "rate"),
    ("max-msg-per-conn", "messages_per_connection"),
    ("retry-after", "retry"),
];

/// What the first column is called.
const NAME: &str = "isp";

/// The name of the default row.
const DEFAULT: &str = "default";

/// How people call the providers of the shipped table, beyond the names there.
const CALLED: &[(&str, &str)] = &[
    ("gmail", "google"),
    ("gmail.com", "google"),
    ("google workspace", "google"),
    ("outlook", "microsoft"),
    ("outlook.com", "microsoft"),
    ("hotmail", "microsoft"),
    ("microsoft 365", "microsoft"),
    ("yahoo.com", "yahoo"),
    ("aol", "yahoo"),
    ("icloud", "apple"),
    ("gmx / web.de", "gmx"),
    ("gmx/web.de", "gmx"),
    ("web.de", "gmx"),
    ("t-online.de", "t-online"),
    ("telekom", "t-online"),
    ("orange.fr", "orange"),
    ("qq", "tencent"),
    ("qq.com", "tencent"),
    ("163.com", "netease"),
    ("all others", DEFAULT),
    ("*", DEFAULT),
];

/// A wait that repeats: those of the shipped table double up to four hours.
const WAIT_MAX: Duration = Duration::from_secs(4 * 3600);

/// Turns such a CSV into a layer for [`Table::read`], in the order of the file. Where it gives a
/// single wait before a retry, the next ones double up to four hours, as in the shipped table.
///
/// # Errors
/// Every problem of the file, each with its line; never an empty list.
pub fn import(file: &str, text: &str) -> Result<String, Vec<Problem>> {
    let mut source = Source { file, names: names(), seen: Vec::new(), problems: Vec::new() };
    let toml = source.table(text);
    match toml {
        Some(toml) if source.problems.is_empty() => Ok(toml),
        _ => {
            assert!(!source.problems.is_empty(), "nothing comes of a file only for a reason");
            Err(source.problems)
        }
    }
}

/// Everything that may stand in the first column, and the row that it means.
fn names() -> Vec<(String, String)> {
    let table = Table::shipped();
    let own = table.rows.iter().chain([&table.default]).map(|row| (&*row.name, &*row.name));
    let called = CALLED.iter().copied();
    own.chain(called).map(|(called, name)| (called.to_owned(), name.to_owned())).collect()
}

/// The file and what is wrong with it so far.
struct Source<'t> {
    file: &'t str,
    names: Vec<(String, String)>,
    /// The rows that there were, and their lines.
    seen: Vec<(String, u64)>,
    problems: Vec<Problem>,
}

impl Source<'_> {
    fn problem(&mut self, line: u64, what: String, help: impl Into<String>) {
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let place = Place { file: self.file.to_owned(), line, column: 0 };
        self.problems.push(Problem::new(place, what, help));
    }

    fn table(&mut self, text: &str) -> Option<String> {
        let head = text.lines().next().unwrap_or_default();
        let delimiter = [b';', b'\t'].into_iter().find(|c| head.as_bytes().contains(c));
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter.unwrap_or(b','))
            .trim(csv::Trim::All)
            .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
        let mut records = reader.records();
        let Some(Ok(head)) = records.next() else {
            self.problem(0, "the table is empty".to_owned(), "the first line names the columns");
            return None;
        };
        let columns = self.columns(&head)?;
        let mut toml = format!("# Made from {} by `mailshot rates import`.\n", self.file);
        for record in records {
            match record {
                Ok(record) => toml.push_str(&self.row(&columns, &record).unwrap_or_default()),
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    self.problem(line, format!("not CSV: {error}"), "");
                }
            }
        }
        if self.seen.is_empty() && self.problems.is_empty() {
            self.problem(0, "the table has no rows".to_owned(), "");
        }
        Some(toml)
    }

    /// For each column of the file the key that it becomes; `None` for the name.
    fn columns(&mut self, head: &csv::StringRecord) -> Option<Vec<Option<&'static str>>> {
        let mut columns = Vec::with_capacity(head.len());
        for name in head {
            let lower = name.to_lowercase();
            let key = COLUMNS.iter().find(|(column, _)| *column == lower).map(|(_, key)| *key);
            if key.is_none() && lower != NAME {
                let known = COLUMNS.map(|(column, _)| column);
                let help = keys::instead_of(&lower, &[&[NAME], &known[..]].concat());
                self.problem(1, format!("unknown column {name:?}"), help);
                return None;
            }
            if columns.contains(&key) {
                self.problem(1, format!("two columns {name:?}"), "leave one out");
                return None;
            }
            columns.push(key);
        }
        if !columns.contains(&None) {
            self.problem(1, "there is no column ISP".to_owned(), "it names the provider");
            return None;
        }
        Some(columns)
    }

    /// One row as TOML.
    fn row(
        &mut self,
        columns: &[Option<&'static str>],
        record: &csv::StringRecord,
    ) -> Option<String> {
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() != columns.len() {
            let what = format!("{} fields, and {} columns", record.len(), columns.len());
            let help = "put quotes around a value that has the delimiter in it: \"3,500/h\"";
            self.problem(line, what, help);
            return None;
        }
        let name_at = columns.iter().position(Option::is_none)?;
        let name = self.provider(line, &record[name_at])?;
        let header = if name == DEFAULT { name } else { format!("provider.{name}") };
        let mut toml = format!("\n[{header}]\n");
        for (key, text) in columns.iter().zip(record) {
            let value = text.split('(').next().unwrap_or_default().trim();
            let Some(key) = key.filter(|_| !value.is_empty()) else { continue };
            match entry(key, value) {
                Ok(value) => writeln!(toml, "{key} = {value}").expect("texts take everything"),
                Err(why) => {
                    let (what, help) = why.rsplit_once("; ").unwrap_or((&why, ""));
                    self.problem(line, format!("{key}: {what}"), help);
                }
            }
        }
        let source = toml::Value::from(format!("{}, line {line}", self.file));
        writeln!(toml, "source = {source}").expect("texts take everything");
        Some(toml)
    }

    /// The row that a name of the first column means.
    fn provider(&mut self, line: u64, text: &str) -> Option<String> {
        let called = text.split('(').next().unwrap_or_default().trim().to_lowercase();
        let Some((_, name)) = self.names.iter().find(|(known, _)| *known == called).cloned() else {
            let mut known: Vec<&str> = self.names.iter().map(|(_, name)| name.as_str()).collect();
            let meant = suggest(&called, self.names.iter().map(|(known, _)| known.as_str()));
            known.sort_unstable();
            known.dedup();
            let known = known.join(", ");
            let help = match meant {
                Some(meant) => format!("did you mean {meant:?}? There are {known}"),
                None => format!("there are {known}"),
            };
            self.problem(line, format!("unknown ISP {text:?}"), help);
            return None;
        };
        if let Some((_, before)) = self.seen.iter().find(|(seen, _)| *seen == name) {
            let what = format!("a second row for {name}, after that of line {before}");
            self.problem(line, what, "leave one out");
            return None;
        }
        self.seen.push((name.clone(), line));
        Some(name)
    }
}

/// A value of a directive as TOML.
fn entry(key: &str, text: &str) -> Result<String, String> {
    match key {
        "rate" => forms::rate(text).map(|rate| format!("\"{rate}\"")),
        "retry" => waits(text),
        key => {
            let least = u32::from(key == "connections");
            let number = text.replace([',', '_'], "").parse::<u32>().ok();
            let number = number.filter(|number| *number >= least);
            number.map(|number| number.to_string()).ok_or_else(|| {
                format!(
                    "{text:?} is not a whole number from {least}; see {}",
                    keys::known(key).form
                )
            })
        }
    }
}

/// Waits as they stand; a single one goes on doubling.
fn waits(text: &str) -> Result<String, String> {
    let texts: Vec<&str> = text.split([',', ' ']).filter(|wait| !wait.is_empty()).collect();
    let mut waits: Vec<Duration> =
        texts.iter().map(|wait| forms::wait(wait)).collect::<Result<_, _>>()?;
    if let [single] = waits[..] {
        let mut next = single * 2;
        while waits.last().is_some_and(|last| *last < WAIT_MAX) {
            waits.push(next.min(WAIT_MAX));
            next *= 2;
        }
    }
    let texts: Vec<String> = waits.iter().map(|wait| format!("\"{}\"", exact(*wait))).collect();
    Ok(format!("[{}]", texts.join(", ")))
}

/// A duration in the largest unit that gives a whole number.
fn exact(wait: Duration) -> String {
    let millis = wait.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let (size, unit) =
        units.into_iter().find(|(size, _)| millis.is_multiple_of(*size)).unwrap_or((1, "ms"));
    let text = format!("{}{unit}", millis / size);
    debug_assert_eq!(units::duration(&text), Ok(wait));
    text
}
