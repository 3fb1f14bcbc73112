//! The laws of the rate bucket, over simulated days: it never passes its limit in any window, and
//! it does not waste what it may use.

use std::time::Duration;

use mailshot::limits::TIMER_SLACK;
use mailshot::rates::bucket::Bucket;
use mailshot::units::Rate;
use mailshot::units::Tick;
use proptest::prelude::*;

/// Messages of one simulation; enough for several windows of most rates.
const MESSAGES_MAX: usize = 20_000;
const DAY: u64 = 86_400_000_000_000;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("durations of the tests are days")
}

/// How late a caller comes back: a cheap repeatable sequence below `most`.
fn lateness(seed: &mut u64, most: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % (most + 1)
}

/// The times at which a lane that always has mail sends, when it is asked up to `late_max`
/// nanoseconds after each time it was told.
fn busy(bucket: &mut Bucket, from: u64, until: u64, late_max: u64, mut seed: u64) -> Vec<u64> {
    let (mut sent, mut now) = (Vec::new(), from);
    while sent.len() < MESSAGES_MAX {
        now = now.max(bucket.next().0) + lateness(&mut seed, late_max);
        if now > until {
            break;
        }
        while sent.len() < MESSAGES_MAX && bucket.take(Tick(now)).is_ok() {
            sent.push(now);
        }
    }
    sent
}

/// Checks every window that starts at a message against the period's own limit.
fn check_periods(rate: Rate, sent: &[u64]) {
    for (first, last) in sent.iter().zip(sent.iter().skip(rate.messages as usize)) {
        assert!(last - first > nanos(rate.period), "{rate}: {first} to {last}");
    }
}

/// Checks windows of so many messages against the finer limit.
fn check_steps(rate: Rate, sent: &[u64], interval: Duration, step_max: usize) {
    let (slack, interval) = (nanos(TIMER_SLACK), nanos(interval));
    for step in [1, 2, 3, 10, 100, 1_000].into_iter().filter(|step| *step <= step_max) {
        for (first, last) in sent.iter().zip(sent.iter().skip(step)) {
            let least = (step as u64 * interval).saturating_sub(slack);
            assert!(last - first >= least, "{rate}: {step} messages from {first} to {last}");
        }
    }
}

fn rates() -> impl Strategy<Value = Rate> {
    let periods =
        prop_oneof![Just(1), Just(60), Just(600), Just(3_600), Just(86_400), 1_u64..5_000];
    let counts = prop_oneof![1_u32..20, 1_u32..5_000, 1_u32..1_000_000];
    (counts, periods)
        .prop_map(|(messages, seconds)| Rate { messages, period: Duration::from_secs(seconds) })
}

proptest! {
    #[test]
    fn no_window_ever_holds_too_many(
        rate in rates(),
        start in 0..DAY,
        late_max in prop_oneof![Just(0), Just(5_000_000), Just(50_000_000), 0..10_000_000_000_u64],
        seed: u64,
    ) {
        let mut bucket = Bucket::new(rate, Tick(start));
        let sent = busy(&mut bucket, start, start + 3 * DAY, late_max, seed);
        check_periods(rate, &sent);
        check_steps(rate, &sent, bucket.interval(), usize::MAX);
    }

    #[test]
    fn bursts_of_demand_do_not_help(
        rate in rates(),
        gaps in prop::collection::vec((0..DAY, 1..200_usize), 1..100),
    ) {
        let mut bucket = Bucket::new(rate, Tick(0));
        let (mut now, mut sent) = (0, Vec::new());
        for (gap, wanted) in gaps {
            now += gap % (2 * nanos(rate.period));
            sent.extend((0..wanted).map_while(|_| bucket.take(Tick(now)).ok().map(|()| now)));
        }
        check_periods(rate, &sent);
        check_steps(rate, &sent, bucket.interval(), usize::MAX);
    }

    #[test]
    fn a_restart_does_not_open_a_second_window(
        rate in rates(),
        stop_after in 0..3 * DAY,
        pause in 0..2 * DAY,
        seed: u64,
    ) {
        let mut before = Bucket::new(rate, Tick(0));
        let mut sent = busy(&mut before, 0, stop_after, 5_000_000, seed);
        let now = sent.last().copied().unwrap_or(0) + pause % (2 * nanos(rate.period));
        let recent = sent.iter().filter(|at| now - **at <= nanos(rate.period));
        let ages = recent.map(|at| Duration::from_nanos(now - at));
        // The new process counts its ticks from another start than the old one.
        let shift = 77;
        let mut after = Bucket::resumed(rate, Tick(now + shift), ages);
        let rest = busy(&mut after, now + shift, now + 2 * DAY, 5_000_000, seed);
        sent.extend(rest.iter().map(|at| at - shift));
        check_periods(rate, &sent);
        check_steps(rate, &sent, after.interval(), rate.messages as usize - 1);
    }

    #[test]
    fn a_restart_after_a_faster_pace_waits_until_the_window_is_free(
        rate in rates(),
        mut ages in prop::collection::vec(0..DAY, 0..300),
    ) {
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let now = 2 * DAY;
        let durations = ages.iter().map(|age| Duration::from_nanos(*age));
        let mut bucket = Bucket::resumed(rate, Tick(now), durations);
        let new = busy(&mut bucket, now, now + 2 * DAY, 0, 0);
        let all: Vec<u64> = ages.iter().map(|age| now - age).chain(new).collect();
        let windows = all.iter().zip(all.iter().enumerate().skip(rate.messages as usize));
        for (first, (index, last)) in windows {
            let old = index < ages.len();
            prop_assert!(old || last - first > nanos(rate.period), "{rate}: {first} to {last}");
        }
    }
}

#[test]
fn late_timers_cost_less_than_three_percent() {
    for (messages, seconds) in [
        (1, 3_600),
        (2, 3_600),
        (7, 60),
        (100, 600),
        (3_500, 3_600),
        (50_000, 86_400),
        (1, 1),
        (20, 1),
        (50, 1),
        (99, 1),
        (100, 1),
        (1_000, 1),
        (100_000, 3_600),
        (1_000_000, 3_600),
    ] {
        let rate = Rate { messages, period: Duration::from_secs(seconds) };
        for late_max in [0, 5_000_000] {
            let mut bucket = Bucket::new(rate, Tick(0));
            let sent = busy(&mut bucket, 0, 20 * DAY, late_max, 1);
            let took = (sent[sent.len() - 1] - sent[0]) as f64;
            let per_period = (sent.len() - 1) as f64 * nanos(rate.period) as f64 / took;
            let used = per_period / f64::from(messages);
            assert!(used >= 0.97, "{rate}, up to {late_max} ns late: {used:.4}");
        }
    }
}
