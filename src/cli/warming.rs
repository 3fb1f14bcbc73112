//! warming — how much sources that are new may send today, by their schedules and by what came of
//! their mail so far; and the same again each midnight (UTC).

use std::net::IpAddr;
use std::path::PathBuf;

use super::memory::HISTORY;
use super::{Failure, schedules};
use crate::campaign::Campaign;
use crate::deliver::{Group, Order};
use crate::destination::{GroupNo, SourceNo};
use crate::history::{self, Past};
use crate::rates::warmup::{Cap, Quota, Schedule, Stage, stage_on};
use crate::units::Utc;

/// A source that is new.
struct Cold {
    source: SourceNo,
    address: IpAddr,
    schedule: Schedule,
    /// The day on which its warm-up began, since 1970.
    started: i64,
}

/// The sources that are new, and the day for which delivery knows their shares.
pub(super) struct Warming {
    cold: Vec<Cold>,
    groups: Vec<String>,
    runs: PathBuf,
    today: i64,
}

impl Warming {
    /// The campaign's sources in the order in which delivery has them.
    pub(super) fn new(
        campaign: &Campaign,
        sources: &[Option<IpAddr>],
        groups: &[Group],
        now: Utc,
    ) -> Result<Warming, Failure> {
        let schedules = schedules::schedules(campaign)?;
        let mut cold = Vec::new();
        for source in &campaign.sources {
            let (Some(warming), Some(address)) = (&source.warmup, &source.address) else {
                continue;
            };
            let number = sources.iter().position(|known| *known == Some(address.value));
            let Some(number) = number.and_then(|at| u32::try_from(at).ok()) else { continue };
            let schedule = schedules::named(&schedules, &warming.schedule.value);
            cold.push(Cold {
                source: SourceNo(number),
                address: address.value,
                schedule: schedule.expect("schedules knows every name of the campaign").clone(),
                started: warming.from.day(),
            });
        }
        let groups = groups.iter().map(|group| group.name.clone()).collect();
        Ok(Warming { cold, groups, runs: campaign.runs.value.clone(), today: now.day() })
    }

    /// What is left to each lane of a new source.
    pub(super) fn quotas(&self, past: &Past, now: Utc) -> Vec<(GroupNo, SourceNo, Quota)> {
        let mut quotas = Vec::new();
        for cold in &self.cold {
            for (number, group) in (0..).zip(&self.groups) {
                if let Some(cap) = cold.cap(group, past, now.day()) {
                    let (day, hour) = past.today(cold.address, group, now);
                    let quota = Quota::new(cap, now, day, hour);
                    quotas.push((GroupNo(number), cold.source, quota));
                }
            }
        }
        quotas
    }

    /// What changes with a new day; nothing on the same.
    pub(super) fn look(&mut self, now: Utc) -> Vec<Order> {
        if self.cold.is_empty() || now.day() == self.today {
            return Vec::new();
        }
        let since = Utc(now.0 - i64::try_from(HISTORY.as_micros()).unwrap_or(0));
        let past = match history::read(&self.runs, since, "") {
            Ok(past) => past,
            Err(error) => {
                // Yesterday's shares hold on; the next look tries again.
                eprintln!("mailshot: the warm-up does not go on: {error}");
                return Vec::new();
            }
        };
        self.today = now.day();
        let mut orders = Vec::new();
        for cold in &self.cold {
            for (number, group) in (0..).zip(&self.groups) {
                let cap = cold.cap(group, &past, self.today);
                orders.push(Order::Cap(GroupNo(number), cold.source, cap));
            }
        }
        orders
    }
}

impl Cold {
    /// What the source may send to the group today; `None` when it is warm there.
    fn cap(&self, group: &str, past: &Past, today: i64) -> Option<Cap> {
        let days = past.days(self.address, group);
        match stage_on(&self.schedule, self.started, today, &days) {
            Stage::Cold { cap, .. } => Some(cap),
            Stage::Warm => None,
        }
    }
}
