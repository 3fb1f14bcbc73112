//! warmup — how much a new source may send today, told from what became of its mail before.
//!
//! A [`Schedule`] is a list of daily shares with the conditions of moving on, from a file
//! ([`parse`]); those that providers and senders publish are [`shipped`]. [`stage_on`] folds the
//! days since the warm-up began into today's stage: a day that passed brings the next stage, a day
//! that did not holds, a day that failed clearly goes one back, and a long silence begins again.
//! Nothing but the history is remembered, so a lost state file cannot make a source look older
//! than it is. [`Quota`] counts what is left of a stage's share. Only parsing fails. None of this
//! reads a clock or a file.

mod file;
mod quota;

use std::collections::BTreeMap;
use std::time::Duration;

pub use file::parse;
pub use quota::Quota;

use super::tally::Tally;
use crate::units::Utc;

/// The schedules that come with the program; `datasets/warmup.toml` names the source of each.
pub fn shipped() -> Vec<Schedule> {
    let text = include_str!("../../../datasets/warmup.toml");
    parse("datasets/warmup.toml", text).expect("a test parses the shipped schedules")
}

/// What one source may send to one provider; a share that is `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// Attempted recipients per UTC day.
    pub daily: Option<u64>,
    /// Attempted recipients per UTC hour.
    pub hourly: Option<u64>,
}

impl Cap {
    /// The share that must have been used: of the day, or of one hour where only hours are limited.
    fn share(&self) -> Option<u64> {
        self.daily.or(self.hourly)
    }
}

/// When a day counts as passed. Shares are parts of the day's attempts; `None` is no condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// At most so many were put off.
    pub deferral_max: Option<f64>,
    /// At most so many were refused because of us.
    pub block_max: Option<f64>,
    /// At most so many were refused because the address is dead.
    pub bad_recipient_max: Option<f64>,
    /// At least so many were delivered.
    pub delivered_min: Option<f64>,
    /// Fewer attempts (or fewer than the share, where that is smaller) say nothing.
    pub at_least: u64,
    /// The part of the share (of the day, or of one hour where only hours are limited) that must
    /// have been used: a receiver that has not seen the volume has not agreed to it, and whoever
    /// sends less does not need more.
    pub used_min: f64,
}

/// A plan for warming up a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Its name in campaign files.
    pub name: String,
    /// One share for each day that passes; at least one, and none is smaller than the one before.
    pub stages: Vec<Cap>,
    /// When a day passes.
    pub gate: Gate,
    /// Without mail for so long (whole days) the source is cold again.
    pub rewarm_after: Duration,
    /// Where the numbers are from.
    pub source: String,
}

/// What came of one source's mail to one provider on one UTC day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970-01-01 UTC, as [`Utc::day`].
    pub day: i64,
    /// What was attempted, and what came of it.
    pub tally: Tally,
}

/// How far a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Warming up.
    Cold {
        /// The stage, from 0, as an index into [`Schedule::stages`].
        stage: usize,
        /// What it may send today.
        cap: Cap,
        /// Which stage it is and why that and no other: a sentence without a full stop.
        why: String,
    },
    /// All stages are passed: the schedule holds nothing back any more.
    Warm,
}

/// Where a source stands `today` that began to warm up on the day `started`.
///
/// `history` is in any order; entries of the same day are added up, and days before `started` or
/// not before `today` do not count: today is not over. Only days with attempts move anything, by
/// one stage at most. A warm source stays warm whatever comes of its mail (rates and thresholds
/// see to that), until it was silent for [`Schedule::rewarm_after`].
pub fn stage_on(schedule: &Schedule, started: i64, today: i64, history: &[Day]) -> Stage {
    let mut days: BTreeMap<i64, Tally> = BTreeMap::new();
    for day in history.iter().filter(|day| (started..today).contains(&day.day)) {
        days.entry(day.day).or_default().add(&day.tally);
    }
    let mut warmth = Warmth { stage: 0, last: None, because: "the warm-up begins".to_owned() };
    for (day, tally) in days.iter().filter(|(_, tally)| tally.attempts > 0) {
        warmth.begin(schedule, *day);
        warmth.end(schedule, *day, tally);
    }
    warmth.begin(schedule, today);
    warmth.stage(schedule)
}

/// The state of the fold.
struct Warmth {
    /// The number of stages passed.
    stage: usize,
    /// The last day with attempts.
    last: Option<i64>,
    because: String,
}

impl Warmth {
    /// A day begins on which something was or may be sent.
    fn begin(&mut self, schedule: &Schedule, day: i64) {
        let idle_max = i64::try_from(schedule.rewarm_after.as_secs() / 86_400).unwrap_or(i64::MAX);
        let Some(last) = self.last.filter(|last| day - last >= idle_max) else { return };
        self.stage = 0;
        self.because = format!("from the first again, as nothing was sent since {}", date(last));
    }

    /// The day is over.
    fn end(&mut self, schedule: &Schedule, day: i64, tally: &Tally) {
        self.last = Some(day);
        let Some(cap) = schedule.stages.get(self.stage) else { return };
        let date = date(day);
        self.because = match judge(&schedule.gate, cap, tally) {
            Judgement::Pass => {
                self.stage += 1;
                format!("{date} passed with {} attempts", tally.attempts)
            }
            Judgement::Hold(why) => format!("held, as on {date} {why}"),
            Judgement::Back(why) => {
                self.stage = self.stage.saturating_sub(1);
                format!("one back, as on {date} {why}")
            }
        };
    }

    fn stage(self, schedule: &Schedule) -> Stage {
        let Warmth { stage, because, .. } = self;
        match schedule.stages.get(stage) {
            None => Stage::Warm,
            Some(cap) => {
                let (number, all) = (stage + 1, schedule.stages.len());
                let why = format!("stage {number} of {all} of {}: {because}", schedule.name);
                Stage::Cold { stage, cap: *cap, why }
            }
        }
    }
}

fn date(day: i64) -> String {
    Utc(day.saturating_mul(86_400_000_000)).date()
}

enum Judgement {
    Pass,
    Hold(String),
    Back(String),
}

/// A share beyond so many times its limit is a clear failure.
const CLEARLY: f64 = 2.0;

/// What a day with attempts says about its stage.
fn judge(gate: &Gate, cap: &Cap, tally: &Tally) -> Judgement {
    let (attempts, share) = (tally.attempts, cap.share());
    if attempts < gate.at_least.min(share.unwrap_or(u64::MAX)) {
        return Judgement::Hold(format!("{attempts} attempts were too few to tell"));
    }
    let undelivered_max = gate.delivered_min.map(|min| 1.0 - min);
    let checks = [
        ("deferred", tally.deferred, gate.deferral_max),
        ("blocked", tally.blocked, gate.block_max),
        ("sent to dead addresses", tally.bad_recipients, gate.bad_recipient_max),
        ("not delivered", attempts.saturating_sub(tally.delivered), undelivered_max),
    ];
    let failed = checks.into_iter().filter_map(|(what, count, max)| {
        let (share, max) = (count as f64 / attempts as f64, max?);
        let percent = |part: f64| (part * 1000.0).round() / 10.0;
        let why = || {
            let (share, max) = (percent(share), percent(max));
            format!("{share} % of {attempts} attempts were {what}, above {max} %")
        };
        (share > max).then(|| (share / max, why()))
    });
    match failed.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((times, why)) if times > CLEARLY => Judgement::Back(why),
        Some((_, why)) => Judgement::Hold(why),
        None => match share.filter(|share| (attempts as f64) < gate.used_min * *share as f64) {
            Some(share) => Judgement::Hold(format!("only {attempts} of {share} were attempted")),
            None => Judgement::Pass,
        },
    }
}

#[cfg(test)]
mod tests;
