//! bucket — when the next message may go, so that no window of one period ever holds too many.
//!
//! A [`Bucket`] keeps one number, the ideal time of the next message (GCRA, the algorithm of ITU-T
//! I.371 and ATM Forum TM 4.1, in its virtual scheduling form). It is asked, never polled: a
//! refusal says when to come back. It cannot fail; what does not fit its scale saturates towards
//! sending nothing. It must not know the wall clock or what is being counted.
//!
//! # The bound and its proof
//!
//! Let N messages be allowed in each period P. The bucket admits a message at time t when
//! t ≥ ideal − S, and then sets ideal := max(t, ideal) + T, where S is the slack
//! ([`TIMER_SLACK`]) and T the interval.
//!
//! *Lemma.* Let messages i and i + k be admitted at t(i) and t(i + k). After message i the ideal
//! time is at least t(i) + T, and each of the k − 1 messages between adds at least T; so message
//! i + k found ideal ≥ t(i) + k·T, and t(i + k) − t(i) ≥ k·T − S. Nothing here needs the times to
//! be in order, so a clock that steps back does not break it.
//!
//! *One period.* A closed window of length P must not hold N + 1 messages, that is
//! t(i + N) − t(i) > P. By the lemma it is enough that N·T − S > P, in whole nanoseconds
//! T = ⌊(P + S) / N⌋ + 1. So the bound is exact: no float, no drift, no "on average".
//!
//! *Any window.* A closed window w holds at most 1 + ⌊(w + S) / T⌋ messages; at once (w = 0) at
//! most the burst 1 + ⌊S / T⌋. Below 100 messages per second that is a single message, at 278 per
//! second (a million an hour) three.
//!
//! *Use.* A lane that is asked no later than S after each [`Bucket::next`] loses nothing, because
//! the ideal time does not move with the delay. It sends one message per T, which is
//! P / (P + S) of the permitted rate up to the rounding of T by one nanosecond: 99 % for "20/s",
//! 99.9997 % for "1000000/h". The slack is in time and not a count of messages, because at "50/s"
//! (T = 20 ms) no whole message fits into 10 ms, yet timers that fire 5 ms late would cost a fifth
//! of the rate.

use std::time::Duration;

use crate::limits::TIMER_SLACK;
use crate::units::{Rate, Tick};

/// The pace of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// T, nanoseconds; at least 1.
    interval: u64,
    /// S, nanoseconds.
    slack: u64,
    /// When the next message would go if every message went at its ideal time.
    ideal: Tick,
}

impl Bucket {
    /// A bucket that has sent nothing for a period; its first message may go at `now`.
    pub fn new(rate: Rate, now: Tick) -> Bucket {
        Bucket::with_slack(rate, TIMER_SLACK, now)
    }

    /// The same where timers are late by another time than [`TIMER_SLACK`]: a rehearsal in
    /// compressed time has the same timers and shorter intervals.
    pub fn with_slack(rate: Rate, slack: Duration, now: Tick) -> Bucket {
        Bucket { interval: interval(rate, slack), slack: nanos(slack), ideal: now }
    }

    /// The same bucket under another rate. What it admitted before counts as it did; the new rate
    /// holds from now on.
    pub fn changed(self, rate: Rate, now: Tick) -> Bucket {
        let interval = interval(rate, Duration::from_nanos(self.slack));
        let ideal = Tick(self.ideal.0.max(now.0.saturating_add(interval)));
        Bucket { interval, ideal, ..self }
    }

    /// Counts messages that went before the bucket was made; `ages` as for [`Bucket::resumed`].
    pub fn remember(&mut self, now: Tick, ages: impl IntoIterator<Item = Duration>) {
        let (mut ahead, mut previous) = (0_u64, u64::MAX);
        for age in ages {
            let age = nanos(age).min(previous);
            ahead = ahead.saturating_sub(previous - age).saturating_add(self.interval);
            previous = age;
        }
        let ahead = if previous == u64::MAX { 0 } else { ahead.saturating_sub(previous) };
        self.ideal = Tick(now.0.saturating_add(ahead));
    }

    /// A bucket that goes on after a restart or under a changed rate.
    ///
    /// `ages` says how long ago each message of the last period went, oldest first; every message
    /// that may have gone must be among them. The bound then holds for windows of up to one period
    /// that began before `now` too: by the lemma, the messages of old count as if this bucket had
    /// admitted them, whatever the pace at which they really went. An age that is larger
    /// than the one before it (the wall clock stepped) counts as that one, and unknown ages may be
    /// given as zero; both only delay.
    pub fn resumed(rate: Rate, now: Tick, ages: impl IntoIterator<Item = Duration>) -> Bucket {
        let mut bucket = Bucket::new(rate, now);
        bucket.remember(now, ages);
        bucket
    }

    /// The earliest time at which [`take`](Self::take) succeeds; it may have passed.
    pub fn next(&self) -> Tick {
        Tick(self.ideal.0.saturating_sub(self.slack))
    }

    /// Counts one message that goes at `now`.
    ///
    /// # Errors
    /// The message must wait until the time given; nothing was counted.
    pub fn take(&mut self, now: Tick) -> Result<(), Tick> {
        let next = self.next();
        if now < next {
            return Err(next);
        }
        self.ideal = Tick(self.ideal.max(now).0.saturating_add(self.interval));
        Ok(())
    }

    /// The time between two messages at full pace; for estimates of how long a list takes.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }
}

/// T = ⌊(P + S) / N⌋ + 1 nanoseconds.
fn interval(rate: Rate, slack: Duration) -> u64 {
    assert!(rate.messages > 0, "a rate allows at least one message");
    let period = rate.period.as_nanos() + slack.as_nanos();
    u64::try_from(period / u128::from(rate.messages) + 1).unwrap_or(u64::MAX)
}

/// A duration in nanoseconds, saturating.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::rate;

    const S: u64 = 1_000_000_000;

    fn bucket(text: &str) -> Bucket {
        Bucket::new(rate(text).unwrap(), Tick(0))
    }

    #[test]
    fn the_interval_makes_room_for_the_slack() {
        for (text, nanoseconds) in [
            ("1/s", 1_010_000_001),
            ("20/s", 50_500_001),
            ("100/10m", 6_000_100_001),
            ("1000000/h", 3_600_011),
            ("1/h", 3_600_010_000_001),
        ] {
            assert_eq!(bucket(text).interval(), Duration::from_nanos(nanoseconds), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let mut one = bucket("1/s");
        assert_eq!(one.take(Tick(0)), Ok(()));
        assert_eq!(one.take(Tick(0)), Err(Tick(S + 1)), "a closed window of 1 s holds one message");
        assert_eq!(one.take(Tick(S)), Err(Tick(S + 1)));
        assert_eq!(one.take(Tick(S + 1)), Ok(()));
        assert_eq!(one.next(), Tick(2 * S + 10_000_002));
    }

    #[test]
    fn fast_lanes_get_a_small_burst_and_idle_lanes_no_larger_one() {
        for (text, burst) in [("50/s", 1), ("99/s", 1), ("1000000/h", 3), ("1000/s", 10)] {
            let mut lane = bucket(text);
            for now in [0, 7 * S, 86_400 * S] {
                let taken = (0..100).take_while(|_| lane.take(Tick(now)).is_ok()).count();
                assert_eq!(taken, burst, "{text} at {now}");
            }
        }
    }

    #[test]
    fn absurd_rates_saturate_towards_silence() {
        let never = Rate { messages: 1, period: Duration::MAX };
        let mut lane = Bucket::new(never, Tick(5));
        assert_eq!(lane.take(Tick(5)), Ok(()));
        assert!(lane.take(Tick(u64::MAX / 2)).is_err());

        let mut flood = bucket("4294967295/s");
        assert_eq!(flood.interval(), Duration::from_nanos(1));
        assert_eq!(flood.take(Tick(0)), Ok(()));
    }

    #[test]
    fn a_resumed_lane_goes_on_where_it_was() {
        let rate = rate("3/s").unwrap();
        let mut before = Bucket::new(rate, Tick(0));
        let mut times = Vec::new();
        while times.len() < 3 {
            let at = before.next();
            before.take(at).unwrap();
            times.push(at);
        }
        let now = Tick(S - 1);
        let after = Bucket::resumed(rate, now, times.iter().map(|at| now.since(*at)));
        assert_eq!(after, before);
    }

    #[test]
    fn a_resumed_lane_bears_unknown_and_disordered_ages() {
        let rate = rate("3/s").unwrap();
        let ages = |millis: &[u64]| {
            let ages = millis.iter().map(|age| Duration::from_millis(*age));
            Bucket::resumed(rate, Tick(S), ages.collect::<Vec<_>>()).next()
        };
        assert!(ages(&[]) <= Tick(S), "nothing sent, nothing to wait for");
        assert!(ages(&[0, 0, 0]) > Tick(2 * S), "all at once just now: a whole period");
        assert_eq!(ages(&[0, 900, 0]), ages(&[0, 0, 0]));
        assert!(ages(&[5_000, 4_000]) <= Tick(S), "long ago does not count");
    }
}
