//! report — the end of a run in at most 24 lines, and the same numbers as JSON.
//!
//! The numbers come from the index and the ledger, read again from the disk, not from the stages'
//! own counters: what is printed is what is recorded.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::Human;

/// The sums that must add up to the row: `rows` is the sum of all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Data rows of the list.
    pub rows: u64,
    /// Rows excluded, at intake or because no message could be made of them.
    pub excluded: u64,
    /// Rows whose message a receiver took.
    pub delivered: u64,
    /// Rows whose message was refused for good.
    pub bounced: u64,
    /// Rows whose time ran out.
    pub expired: u64,
    /// Rows that are not final.
    pub pending: u64,
    /// Rows whose message may have arrived, held.
    pub in_doubt: u64,
    /// Rows that the operator ended before their turn.
    #[serde(default)]
    pub cancelled: u64,
}

impl Sums {
    /// Whether every row has exactly one end.
    pub fn reconciles(&self) -> bool {
        let Sums { rows, excluded, delivered, bounced, expired, pending, in_doubt, cancelled } =
            *self;
        rows == excluded + delivered + bounced + expired + pending + in_doubt + cancelled
    }
}

/// Latency percentiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half are faster.
    pub p50_ms: f64,
    /// 95 of 100 are faster.
    pub p95_ms: f64,
    /// 99 of 100 are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// What this process did for the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Engine {
    /// Seconds from start to end.
    pub seconds: f64,
    /// CPU seconds of the whole process.
    pub cpu_seconds: f64,
    /// CPU seconds of the delivery thread.
    pub delivery_cpu_seconds: f64,
    /// Messages that met their outcome in this process.
    pub settled: u64,
    /// The largest resident set, in MiB.
    pub peak_rss_mib: f64,
    /// Connections made.
    pub connections: u64,
    /// Octets of accepted messages.
    pub octets: u64,
    /// From being rendered to being accepted.
    pub to_accept: Percentiles,
    /// From MAIL FROM to the outcome.
    pub attempt: Percentiles,
}

/// Everything that the report shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The form of this file.
    pub version: u32,
    /// The campaign's id.
    pub campaign: String,
    /// The run's ULID.
    pub run: String,
    /// When the run was started, RFC 3339.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// The same in microseconds since 1970, UTC.
    pub ended_us: i64,
    /// Seconds between the two, crashes and pauses included.
    pub elapsed_seconds: f64,
    /// The sums.
    pub sums: Sums,
    /// Excluded rows by reason.
    pub excluded: Vec<(String, u64)>,
    /// The most frequent bounce reasons: reply, count.
    pub bounces: Vec<(String, u64)>,
    /// Rows in doubt, the first of them.
    pub in_doubt_rows: Vec<u32>,
    /// What the last process did.
    pub engine: Engine,
    /// Paths of what was written.
    pub files: Vec<String>,
}

/// Rows in doubt that are printed; all of them are in their file.
pub const IN_DOUBT_SHOWN: usize = 20;
/// Bounce reasons shown.
pub const BOUNCES_SHOWN: usize = 3;

impl Report {
    /// The form of the JSON file in this version.
    pub const VERSION: u32 = 1;

    /// The terminal block.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let elapsed = Human(Duration::from_secs_f64(self.elapsed_seconds));
        let Report { campaign, run, ended, .. } = self;
        line(&mut text, format_args!("mailshot · {campaign} · run {run} · {ended} ({elapsed})"));
        line(&mut text, format_args!(""));
        self.input(&mut text);
        self.outcomes(&mut text);
        self.performance(&mut text);
        for file in &self.files {
            line(&mut text, format_args!("  file         {file}"));
        }
        text
    }

    fn input(&self, text: &mut String) {
        let reasons: Vec<String> = self
            .excluded
            .iter()
            .map(|(word, count)| format!("{word} {}", grouped(*count)))
            .collect();
        let reasons = match reasons.is_empty() {
            true => String::new(),
            false => format!(" ({})", reasons.join(" · ")),
        };
        let (rows, excluded) = (grouped(self.sums.rows), grouped(self.sums.excluded));
        line(text, format_args!("  input        {rows} rows · excluded {excluded}{reasons}"));
    }

    fn outcomes(&self, text: &mut String) {
        let sums = &self.sums;
        let accepted = sums.rows.saturating_sub(sums.excluded);
        let mut outcomes = String::new();
        for (word, count) in [
            ("delivered", sums.delivered),
            ("bounced", sums.bounced),
            ("expired", sums.expired),
            ("pending", sums.pending),
            ("in doubt", sums.in_doubt),
        ] {
            let share = 100.0 * count as f64 / accepted.max(1) as f64;
            let separator = if outcomes.is_empty() { "" } else { " · " };
            let count = grouped(count);
            write!(outcomes, "{separator}{word} {count} ({share:.2} %)").expect("a string grows");
        }
        line(text, format_args!("  sent         {outcomes}"));
        let Sums { rows, excluded, delivered, bounced, expired, pending, in_doubt, cancelled } =
            *sums;
        let cancelled = match cancelled {
            0 => String::new(),
            some => format!(" + {some} cancelled"),
        };
        let mark = if sums.reconciles() { "✓" } else { "✗" };
        line(
            text,
            format_args!(
                "  reconciled   {mark} {rows} = {excluded} excluded + {delivered} delivered + \
                 {bounced} bounced + {expired} expired + {pending} pending + {in_doubt} in \
                 doubt{cancelled}"
            ),
        );
        for (reply, count) in &self.bounces {
            line(text, format_args!("  bounces      {} × {reply}", grouped(*count)));
        }
        if in_doubt > 0 {
            let rows: Vec<String> = self.in_doubt_rows.iter().map(u32::to_string).collect();
            let more = if in_doubt > rows.len() as u64 { ", …" } else { "" };
            line(text, format_args!("  in doubt     rows {}{more}", rows.join(", ")));
        }
    }

    fn performance(&self, text: &mut String) {
        let engine = &self.engine;
        let per_second = engine.settled as f64 / engine.seconds.max(1e-9);
        let per_message = |seconds: f64| 1e6 * seconds / engine.settled.max(1) as f64;
        line(
            text,
            format_args!(
                "  engine       {per_second:.0} messages/s · {:.0} µs CPU each (delivery {:.1}) · \
                 peak RSS {:.0} MiB · {} connections",
                per_message(engine.cpu_seconds),
                per_message(engine.delivery_cpu_seconds),
                engine.peak_rss_mib,
                grouped(engine.connections),
            ),
        );
        for (word, times) in [("accept", engine.to_accept), ("attempt", engine.attempt)] {
            let Percentiles { p50_ms, p95_ms, p99_ms, max_ms } = times;
            line(
                text,
                format_args!(
                    "  {word:<12} p50 {p50_ms:.1} ms · p95 {p95_ms:.1} ms · p99 {p99_ms:.1} ms · \
                     max {max_ms:.1} ms"
                ),
            );
        }
    }
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("a string grows");
    text.push('\n');
}

/// A number with commas between groups of three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_reconcile_only_to_the_row() {
        let sums = Sums { rows: 10, excluded: 2, delivered: 5, in_doubt: 3, ..Sums::default() };
        assert!(sums.reconciles());
        assert!(!Sums { rows: 11, ..sums }.reconciles());
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }

    #[test]
    fn the_block_fits_a_terminal_and_names_every_row_in_doubt() {
        let report = Report {
            campaign: "spring".into(),
            sums: Sums { rows: 7, delivered: 5, in_doubt: 2, ..Sums::default() },
            in_doubt_rows: vec![3, 6],
            excluded: vec![("duplicate".into(), 1200)],
            bounces: vec![("550 5.1.1 no such user".into(), 9); BOUNCES_SHOWN],
            files: vec!["a".into(), "b".into(), "c".into(), "d".into()],
            ..Report::default()
        };
        let text = report.text();
        assert!(text.lines().count() <= 24, "{text}");
        assert!(text.contains("in doubt     rows 3, 6\n"), "{text}");
        assert!(text.contains("✓ 7 = 0 excluded + 5 delivered"), "{text}");
    }
}
