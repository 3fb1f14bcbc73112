//! schedules — the warm-up schedules that the sources of a campaign name: those built in, and those
//! of the campaign's own files.
//!
//! What is wrong with a file or a name ends the command with exit code 3, all of it at once.

use std::fs;

use super::{Exit, Failure};
use crate::campaign::{Campaign, Source};
use crate::problem::{Problem, suggest};
use crate::rates::warmup::{self, Schedule};

/// Every schedule that the campaign may name; a file's beats one of the same name before it.
///
/// # Errors
/// Every problem of the files, and every source whose schedule is none of these.
pub(super) fn schedules(campaign: &Campaign) -> Result<Vec<Schedule>, Failure> {
    let mut schedules = warmup::shipped();
    let mut problems = Vec::new();
    for file in &campaign.warmup.schedules {
        let shown = file.value.display().to_string();
        match fs::read_to_string(&file.value) {
            Ok(text) => match warmup::parse(&shown, &text) {
                Ok(more) => schedules.extend(more),
                Err(found) => problems.extend(found),
            },
            Err(error) => {
                let what = format!("the schedules {shown} cannot be read: {error}");
                let help = "paths are relative to the campaign file";
                problems.push(Problem::new(file.place.clone(), what, help));
            }
        }
    }
    // A file that cannot be had may have the schedule that nobody else has.
    if problems.is_empty() {
        problems.extend(campaign.sources.iter().filter_map(|source| unknown(source, &schedules)));
    }
    if problems.is_empty() {
        Ok(schedules)
    } else {
        Err(Failure::problems(Exit::Campaign, &problems))
    }
}

/// The schedule of this name.
pub(super) fn named<'s>(schedules: &'s [Schedule], name: &str) -> Option<&'s Schedule> {
    schedules.iter().rev().find(|schedule| schedule.name == name)
}

fn unknown(source: &Source, schedules: &[Schedule]) -> Option<Problem> {
    let wanted = &source.warmup.as_ref()?.schedule;
    if named(schedules, &wanted.value).is_some() {
        return None;
    }
    let names: Vec<&str> = schedules.iter().map(|schedule| schedule.name.as_str()).collect();
    let what = format!("no warm-up schedule is called {:?}", wanted.value);
    let help = match suggest(&wanted.value, names.iter().copied()) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("there are {}; more come from warmup.schedules", names.join(", ")),
    };
    Some(Problem::new(wanted.place.clone(), what, help))
}
