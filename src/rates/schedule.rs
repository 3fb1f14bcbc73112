//! schedule — when a deferred message is tried again, and when it is given up.
//!
//! The answer is a function of the message, its attempt and its first attempt's time: nothing is
//! remembered, so a restarted run keeps its place in the schedule. It cannot fail. It must not know
//! why the message was deferred.

use std::time::Duration;

use crate::outcome::Row;
use crate::units::Utc;

/// The part of a wait by which the jitter lengthens it at most: one tenth.
const JITTER_DIVISOR: u64 = 10;

/// How late the turn of an attempt may come that was due before the expiry: longer than rendering
/// ahead takes, shorter than anybody's retry step.
const LATENESS: Duration = Duration::from_secs(60);

/// A retry schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The waits after the first, second, … attempt; the last one repeats. Without any, a deferred
    /// message is given up at once.
    pub steps: Vec<Duration>,
    /// How long after its first attempt a message is given up.
    pub expire_after: Duration,
}

impl Retry {
    /// When the message of `row`, whose `attempt` (from 1) was deferred at `now`, is due again;
    /// `None` when its time ran out.
    ///
    /// The wait is the schedule's step plus up to a tenth of it, fixed by `(row, attempt)`: ten
    /// thousand messages that one pause deferred together come back spread over a tenth of the step
    /// and not in one burst. It is never shorter than the step, because the step may be what a
    /// greylist demands (RFC 6647). Jitter neither costs nor gains a message an attempt: whether
    /// one is left is decided without it, and it ends at the expiry.
    pub fn next(&self, row: Row, attempt: u16, first_attempt: Utc, now: Utc) -> Option<Utc> {
        let last = self.steps.len().checked_sub(1)?;
        let step = self.steps[usize::from(attempt.saturating_sub(1)).min(last)];
        let due = now.after(step);
        let expiry = first_attempt.after(self.expire_after);
        (due <= expiry).then(|| due.after(jitter(step, row, attempt)).min(expiry))
    }

    /// Whether a message whose first attempt began at `first_attempt` is not attempted any more. An
    /// attempt that was due in time is made even if its turn comes a little later.
    pub fn is_over(&self, first_attempt: Utc, now: Utc) -> bool {
        now > first_attempt.after(self.expire_after).after(LATENESS)
    }
}

/// Zero up to a tenth of the step.
fn jitter(step: Duration, row: Row, attempt: u16) -> Duration {
    let most = u64::try_from(step.as_micros()).unwrap_or(u64::MAX) / JITTER_DIVISOR;
    let share = u128::from(scatter(u64::from(row.0) << 16 | u64::from(attempt)));
    let micros = (u128::from(most) * share) >> 64;
    Duration::from_micros(u64::try_from(micros).unwrap_or(most))
}

/// Spreads neighbouring numbers over all 64 bits: the output function of SplitMix64 (Steele, Lea,
/// Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60;
    const START: Utc = Utc(1_795_284_252_000_000);

    fn schedule(minutes: &[u64], expire_minutes: u64) -> Retry {
        Retry {
            steps: minutes.iter().map(|wait| Duration::from_secs(wait * MINUTE)).collect(),
            expire_after: Duration::from_secs(expire_minutes * MINUTE),
        }
    }

    fn minutes(later: u64) -> Utc {
        START.after(Duration::from_secs(later * MINUTE))
    }

    #[test]
    fn each_attempt_has_its_step_and_the_last_repeats() {
        let retry = schedule(&[15, 60, 240], 5 * 24 * 60);
        for (attempt, step) in [(0, 15), (1, 15), (2, 60), (3, 240), (4, 240), (u16::MAX, 240)] {
            let due = retry.next(Row(7), attempt, START, minutes(1)).unwrap();
            assert!(due >= minutes(1 + step), "attempt {attempt} is {due}");
            assert!(due.since(minutes(1)).as_secs() <= step * MINUTE * 11 / 10, "{attempt}: {due}");
        }
    }

    #[test]
    fn a_message_is_given_up_when_no_attempt_fits() {
        let retry = schedule(&[60], 120);
        assert_eq!(retry.next(Row(1), 2, START, minutes(60)), Some(minutes(120)), "to the end");
        assert_eq!(retry.next(Row(1), 2, START, minutes(61)), None);
        assert_eq!(schedule(&[], 120).next(Row(1), 1, START, START), None);
        assert_eq!(schedule(&[1], 0).next(Row(1), 1, START, START), None);
    }

    #[test]
    fn a_mass_deferral_comes_back_spread_out() {
        let retry = schedule(&[10], 600);
        let mut per_second = [0_u32; 60];
        for row in 1..=6_000 {
            let due = retry.next(Row(row), 1, START, START).unwrap();
            let late = due.since(minutes(10)).as_secs();
            per_second[usize::try_from(late).unwrap()] += 1;
        }
        assert!(per_second.iter().all(|count| (60..=140).contains(count)), "{per_second:?}");
    }

    #[test]
    fn the_answer_is_the_same_after_a_restart() {
        let retry = schedule(&[10], 600);
        let due = retry.next(Row(3), 1, START, START);
        assert_eq!(due, retry.clone().next(Row(3), 1, START, START));
        assert_ne!(due, retry.next(Row(4), 1, START, START));
        assert_ne!(
            retry.next(Row(3), 2, START, START),
            due,
            "the same rows do not meet again at each attempt"
        );
    }
}
