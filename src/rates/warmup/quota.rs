//! quota — what is left of today's and of this hour's share of one source at one provider.
//!
//! Days and hours are those of UTC, as the published schedules count them. It is asked, never
//! polled: when nothing is left it says when that changes. It cannot fail; where the clock stepped
//! back it waits until the time that it has seen.

use super::Cap;
use crate::units::Utc;

const HOUR: i64 = 3_600_000_000;
const HOURS_OF_A_DAY: i64 = 24;

/// What one source may still send to one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    cap: Cap,
    /// The latest hour that it has seen, since 1970-01-01 UTC.
    hour: i64,
    sent_in_hour: u64,
    sent_in_day: u64,
}

impl Quota {
    /// The quota of a source that has sent `today` messages on the day of `now`, `this_hour` of
    /// them in its hour.
    pub fn new(cap: Cap, now: Utc, today: u64, this_hour: u64) -> Quota {
        Quota { cap, hour: hour(now), sent_in_hour: this_hour, sent_in_day: today }
    }

    /// Goes on with another share, as on the next day.
    pub fn set_cap(&mut self, cap: Cap) {
        self.cap = cap;
    }

    /// How many messages may go in this hour; `None` when there is no limit.
    pub fn left(&self, now: Utc) -> Option<u64> {
        if hour(now) < self.hour {
            return Some(0);
        }
        let at = self.at(now);
        let left = |cap: Option<u64>, sent: u64| cap.map(|cap| cap.saturating_sub(sent));
        let day = left(self.cap.daily, at.sent_in_day);
        let hour = left(self.cap.hourly, at.sent_in_hour);
        day.into_iter().chain(hour).min()
    }

    /// Counts one message that goes at `now`.
    pub fn take(&mut self, now: Utc) {
        *self = self.at(now);
        self.sent_in_hour = self.sent_in_hour.saturating_add(1);
        self.sent_in_day = self.sent_in_day.saturating_add(1);
    }

    /// The earliest time, `now` or later, at which a message may go: at the next hour or at
    /// midnight if this one's share is used up. With a share of nothing it is the next chance.
    pub fn opens_at(&self, now: Utc) -> Utc {
        let from = now.max(Utc(self.hour.saturating_mul(HOUR)));
        if self.left(from) != Some(0) {
            return from;
        }
        let spent = self.cap.daily.is_some_and(|daily| self.at(from).sent_in_day >= daily);
        let next = match spent {
            true => (hour(from).div_euclid(HOURS_OF_A_DAY) + 1) * HOURS_OF_A_DAY,
            false => hour(from) + 1,
        };
        Utc(next.saturating_mul(HOUR))
    }

    /// The quota as it stands at `now`: a new hour and a new day begin with nothing sent.
    fn at(&self, now: Utc) -> Quota {
        let hour = hour(now).max(self.hour);
        let day = |hour: i64| hour.div_euclid(HOURS_OF_A_DAY);
        Quota {
            cap: self.cap,
            hour,
            sent_in_hour: if hour > self.hour { 0 } else { self.sent_in_hour },
            sent_in_day: if day(hour) > day(self.hour) { 0 } else { self.sent_in_day },
        }
    }
}

fn hour(now: Utc) -> i64 {
    now.0.div_euclid(HOUR)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-21T23:30:00Z.
    const LATE: Utc = Utc(1_795_303_800_000_000);

    fn cap(daily: u64, hourly: u64) -> Cap {
        let some = |share: u64| Some(share).filter(|share| *share > 0);
        Cap { daily: some(daily), hourly: some(hourly) }
    }

    #[test]
    fn the_narrower_share_decides_and_says_when_it_opens() {
        let (midnight, morning) = (LATE.after(Duration::from_secs(1800)), Utc(LATE.0 - 10 * HOUR));
        for (cap, now, sent, left, opens) in [
            (cap(0, 0), LATE, (9, 9), None, LATE),
            (cap(10, 0), LATE, (9, 0), Some(1), LATE),
            (cap(10, 5), LATE, (3, 3), Some(2), LATE),
            (cap(10, 5), LATE, (10, 0), Some(0), midnight),
            (cap(10, 5), LATE, (5, 5), Some(0), midnight),
            (cap(10, 5), morning, (10, 5), Some(0), midnight),
            (cap(10, 5), morning, (5, 5), Some(0), Utc(morning.0 + HOUR / 2)),
        ] {
            let quota = Quota::new(cap, now, sent.0, sent.1);
            assert_eq!((quota.left(now), quota.opens_at(now)), (left, opens), "{quota:?}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_waits_for_itself() {
        let mut quota = Quota::new(cap(2, 0), LATE, 1, 1);
        quota.take(LATE);
        let tomorrow = Utc(LATE.0 + HOUR);
        assert_eq!((quota.left(LATE), quota.left(tomorrow)), (Some(0), Some(2)));
        quota.take(tomorrow);
        assert_eq!(quota.left(LATE), Some(0), "yesterday was used up, and it is over");
        assert_eq!(quota.opens_at(LATE), Utc(LATE.0 + HOUR / 2));
    }

    proptest! {
        #[test]
        fn no_day_and_no_hour_ever_holds_more_than_its_share(
            (daily, hourly) in (option::of(0_u64..60), option::of(0_u64..12)),
            steps in prop::collection::vec(-40_i64..400, 1..400),
        ) {
            let quota_cap = Cap { daily, hourly };
            let mut quota = Quota::new(quota_cap, LATE, 0, 0);
            let (mut days, mut hours) = (HashMap::new(), HashMap::new());
            let mut now = LATE;
            for step in steps {
                now = Utc(now.0 + step * HOUR / 60);
                let opens = quota.opens_at(now);
                prop_assert!(opens >= now);
                prop_assert_eq!(opens == now, quota.left(now) != Some(0));
                while quota.left(now) != Some(0) && hours.get(&hour(now)) < Some(&20) {
                    quota.take(now);
                    *days.entry(now.day()).or_insert(0) += 1;
                    *hours.entry(hour(now)).or_insert(0) += 1;
                }
            }
            for (limit, most) in [(daily, days.values().max()), (hourly, hours.values().max())] {
                prop_assert!(limit.is_none_or(|limit| most.is_none_or(|most| *most <= limit)));
            }
        }
    }
}
