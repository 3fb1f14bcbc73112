//! file — warm-up schedules as TOML, and everything that is wrong with such a file at once.
//!
//! Each problem has its place. A value that cannot be had is noted and decoding goes on. The form
//! is explained in `datasets/warmup.toml`.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Cap, Gate, Schedule};
use crate::problem::{Place, Problem, suggest};
use crate::units;

/// Days of a schedule; the longest that is published has 45 (Amazon SES).
const DAYS_MAX: u64 = 366;

const SCHEDULE_KEYS: [&str; 10] = [
    "name",
    "source",
    "stages",
    "rewarm_after",
    "deferral_max",
    "block_max",
    "bad_recipient_max",
    "delivered_min",
    "at_least",
    "used_min",
];
const STAGE_KEYS: [&str; 3] = ["day", "daily", "hourly"];

const SHARE: &str = "a part of all attempts between 0 and 1, such as 0.08";
const COUNT: &str = "a whole number above 0";

/// Reads the schedules of a file; `file` is its name in problems.
///
/// # Errors
/// All problems of the file, in the order of their places.
pub fn parse(file: &str, text: &str) -> Result<Vec<Schedule>, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { file, text, problems: Vec::new() };
    for error in &errors {
        let place = error.span().map_or_else(|| Place::whole(file), |span| reader.place(&span));
        let what = format!("not TOML: {}", error.message());
        reader.problems.push(Problem::new(place, what, ""));
    }
    // After a broken line everything else may be its consequence.
    if !errors.is_empty() {
        return Err(reader.problems);
    }
    let schedules = reader.schedules(root.get_ref());
    if reader.problems.is_empty() {
        return Ok(schedules);
    }
    reader.problems.sort();
    Err(reader.problems)
}

type Value<'d> = Spanned<DeValue<'d>>;

/// A table of the file, its place, and the keys that it may have.
struct Table<'d> {
    at: Range<usize>,
    keys: &'d DeTable<'d>,
    known: &'static [&'static str],
}

impl<'d> Table<'d> {
    /// The keys that it may not have, and what each was probably meant to be.
    fn unknown(&self) -> impl Iterator<Item = (&'d Spanned<Cow<'d, str>>, Option<&'static str>)> {
        let known = self.known;
        let unknown = self.keys.keys().filter(move |key| !known.contains(&&**key.get_ref()));
        unknown.map(move |key| (key, suggest(key.get_ref(), known.iter().copied())))
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    fn schedules(&mut self, root: &DeTable<'_>) -> Vec<Schedule> {
        const FORM: &str = "a list of sections, [[schedule]]";
        let top = Table { at: 0..0, keys: root, known: &["schedule"] };
        self.unknown_keys(&top);
        let Some(value) = root.get("schedule") else {
            self.missing(&top, "schedule", FORM);
            return Vec::new();
        };
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong(value, "schedule", FORM);
            return Vec::new();
        };
        let mut schedules: Vec<Schedule> = Vec::new();
        for value in list.iter() {
            let Some(table) = self.table("schedule", &SCHEDULE_KEYS, value) else { continue };
            let Some(schedule) = self.schedule(&table) else { continue };
            if schedules.iter().any(|other| other.name == schedule.name) {
                let what = format!("there are two schedules {:?}", schedule.name);
                self.problem(&table.at, what, "give one of them another name");
            }
            schedules.push(schedule);
        }
        schedules
    }

    fn schedule(&mut self, table: &Table<'_>) -> Option<Schedule> {
        let name = self.word(table, "name");
        let source = self.word(table, "source");
        let stages = self.stages(table);
        let gate = self.gate(table);
        let rewarm_after = self.rewarm_after(table);
        Some(Schedule {
            name: name?,
            stages: stages?,
            gate: gate?,
            rewarm_after: rewarm_after?,
            source: source?,
        })
    }

    fn gate(&mut self, table: &Table<'_>) -> Option<Gate> {
        let deferral_max = self.share(table, "deferral_max");
        let block_max = self.share(table, "block_max");
        let bad_recipient_max = self.share(table, "bad_recipient_max");
        let delivered_min = self.share(table, "delivered_min");
        let at_least = self.count(table, "at_least");
        let used_min = self.share(table, "used_min");
        if at_least == Some(None) {
            self.missing(table, "at_least", COUNT);
        }
        if used_min == Some(None) {
            self.missing(table, "used_min", SHARE);
        }
        Some(Gate {
            deferral_max: deferral_max?,
            block_max: block_max?,
            bad_recipient_max: bad_recipient_max?,
            delivered_min: delivered_min?,
            at_least: at_least??,
            used_min: used_min??,
        })
    }

    fn rewarm_after(&mut self, table: &Table<'_>) -> Option<Duration> {
        const FORM: &str = "a duration of at least a day, such as \"30d\"";
        let Some(value) = table.keys.get("rewarm_after") else {
            self.missing(table, "rewarm_after", FORM);
            return None;
        };
        let duration = value.get_ref().as_str().and_then(|text| units::duration(text).ok());
        let duration = duration.filter(|duration| duration.as_secs() >= 86_400);
        if duration.is_none() {
            self.wrong(value, "rewarm_after", FORM);
        }
        duration
    }

    /// One share for each day up to the last that is named.
    fn stages(&mut self, table: &Table<'_>) -> Option<Vec<Cap>> {
        const FORM: &str = "a list such as [{ day = 1, daily = 200 }, { day = 2, daily = 500 }]";
        let Some(value) = table.keys.get("stages") else {
            self.missing(table, "stages", FORM);
            return None;
        };
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong(value, "stages", FORM);
            return None;
        };
        if list.is_empty() {
            self.wrong(value, "stages", FORM);
            return None;
        }
        let before = self.problems.len();
        let mut stages: Vec<Cap> = Vec::new();
        for value in list.iter() {
            let Some((day, cap)) = self.stage(value) else { continue };
            let next = stages.len() as u64 + 1;
            if day < next || stages.is_empty() && day > 1 {
                let what = format!("day {day} where a later one than {} is due", next - 1);
                self.problem(&value.span(), what, "begin with day 1 and name later days after it");
                continue;
            }
            let last = stages.last().copied().unwrap_or_default();
            let smaller = |now: Option<u64>, then: Option<u64>| {
                now.unwrap_or(u64::MAX) < then.unwrap_or(u64::MAX)
            };
            let shrinks = smaller(cap.daily, last.daily) || smaller(cap.hourly, last.hourly);
            if shrinks && !stages.is_empty() {
                let what = format!("day {day} allows less than the day before");
                self.problem(&value.span(), what, "a schedule only grows");
            }
            stages.resize(usize::try_from(day).expect("below DAYS_MAX") - 1, last);
            stages.push(cap);
        }
        (self.problems.len() == before).then_some(stages)
    }

    fn stage(&mut self, value: &Value<'_>) -> Option<(u64, Cap)> {
        let table = self.table("stage", &STAGE_KEYS, value)?;
        let day = self.count(&table, "day");
        let (daily, hourly) = (self.count(&table, "daily"), self.count(&table, "hourly"));
        if day == Some(None) {
            self.missing(&table, "day", COUNT);
        }
        if (daily, hourly) == (Some(None), Some(None)) {
            let help = "give daily, hourly or both; a stage is a limit";
            self.problem(&table.at, "the stage limits nothing", help);
        }
        let (day, cap) = (day??, Cap { daily: daily?, hourly: hourly? });
        if day > DAYS_MAX {
            let what = format!("day {day} is beyond {DAYS_MAX}");
            self.problem(&table.at, what, "a source is warm after some weeks");
            return None;
        }
        (cap != Cap::default()).then_some((day, cap))
    }

    fn table<'d>(
        &mut self,
        name: &str,
        known: &'static [&'static str],
        value: &'d Value<'d>,
    ) -> Option<Table<'d>> {
        let DeValue::Table(keys) = value.get_ref() else {
            self.wrong(value, name, "a table");
            return None;
        };
        let table = Table { at: value.span(), keys, known };
        self.unknown_keys(&table);
        Some(table)
    }

    /// A text that is there and not empty.
    fn word(&mut self, table: &Table<'_>, key: &str) -> Option<String> {
        const FORM: &str = "a text that is not empty";
        let Some(value) = table.keys.get(key) else {
            self.missing(table, key, FORM);
            return None;
        };
        let text = value.get_ref().as_str().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            self.wrong(value, key, FORM);
        }
        text.map(str::to_owned)
    }

    /// A part of the attempts; `Some(None)` when it is not given, `None` when it is wrong.
    fn share(&mut self, table: &Table<'_>, key: &str) -> Option<Option<f64>> {
        let Some(value) = table.keys.get(key) else { return Some(None) };
        let share = match value.get_ref() {
            DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
            _ => None,
        };
        let share = share.filter(|share| *share > 0.0 && *share < 1.0);
        if share.is_none() {
            self.wrong(value, key, SHARE);
        }
        share.map(Some)
    }

    /// A count; `Some(None)` when it is not given, `None` when it is wrong.
    fn count(&mut self, table: &Table<'_>, key: &str) -> Option<Option<u64>> {
        let Some(value) = table.keys.get(key) else { return Some(None) };
        let count = match value.get_ref() {
            DeValue::Integer(integer) => {
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            _ => None,
        };
        let count = count.filter(|count| *count > 0);
        if count.is_none() {
            self.wrong(value, key, COUNT);
        }
        count.map(Some)
    }

    fn unknown_keys(&mut self, table: &Table<'_>) {
        for (key, meant) in table.unknown() {
            let help = match meant {
                Some(meant) => format!("did you mean {meant:?}?"),
                None => format!("known are {}", table.known.join(", ")),
            };
            self.problem(&key.span(), format!("unknown key {:?}", key.get_ref()), help);
        }
    }

    /// Notes that a key is not there, unless it was misspelt: that is one mistake.
    fn missing(&mut self, table: &Table<'_>, key: &str, form: &str) {
        if table.unknown().all(|(_, meant)| meant != Some(key)) {
            self.problem(&table.at, format!("{key} is missing"), format!("it must be {form}"));
        }
    }

    fn wrong(&mut self, value: &Value<'_>, key: &str, form: &str) {
        let written = self.text.get(value.span()).unwrap_or_default();
        let first = written.lines().next().unwrap_or_default();
        let what = format!("{key} = {first} is not possible");
        self.problem(&value.span(), what, format!("it must be {form}"));
    }

    fn problem(&mut self, at: &Range<usize>, what: impl Into<String>, help: impl Into<String>) {
        let place = self.place(at);
        self.problems.push(Problem::new(place, what, help));
    }

    fn place(&self, span: &Range<usize>) -> Place {
        Place::of(self.file, self.text, span.start)
    }
}
