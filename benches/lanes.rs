//! lanes — what one decision of the scheduler costs with ten thousand lanes: which group is due,
//! over which source its next message goes, and the grant.
//!
//! Ten thousand groups of one source, and 625 groups of sixteen; each lane has a rate per hour and
//! one per day. The heap is that of the delivery stage: a group lies in it once, at the time at
//! which it may go on. Prints nanoseconds per decision; `cargo bench --bench lanes` makes two
//! million, and run by `cargo test` it makes two thousand, to show that it still works.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use mailshot::destination::{GroupNo, SourceNo};
use mailshot::rates::{Blur, IpPolicy, Limits, Pace, Retry, Tls};
use mailshot::units::{Rate, Tick};

fn limits() -> Limits {
    let rate = |messages, hours: u64| Rate { messages, period: Duration::from_secs(3600 * hours) };
    Limits {
        connections: 8,
        connections_total: None,
        messages_per_connection: Some(100),
        rates: vec![rate(3_500, 1), rate(50_000, 24)],
        rates_total: vec![rate(100_000, 1)],
        rates_dkim: vec![],
        ramp: None,
        retry: Retry { steps: vec![], expire_after: Duration::ZERO },
        tls: Tls::Opportunistic,
        ip: IpPolicy::V4Only,
        quirks: vec![],
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the time")]
fn decisions(messages: u32, groups: u32, sources: usize) {
    let mut pace = Pace::new(&vec![1; sources], (10_000, None), Blur::at_speed(1), Tick(0));
    let mut sleeping = BinaryHeap::new();
    for _ in 0..groups {
        let group = pace.add(limits(), Tick(0));
        sleeping.push(Reverse((Tick(u64::from(group.0)), group)));
    }
    let mut order: Vec<SourceNo> = Vec::new();
    let mut now = Tick(0);
    let begun = Instant::now();
    for _ in 0..messages {
        let Some(Reverse((at, group))) = sleeping.pop() else { unreachable!("none is lost") };
        now = now.max(at);
        pace.order(group, &mut order);
        let open = order.iter().find(|source| pace.opens(group, **source).0 <= now);
        if let Some(source) = open {
            pace.take(group, *source, now);
        }
        let next = |source: &SourceNo| pace.opens(group, *source).0;
        let next = order.iter().map(next).min().unwrap_or(now);
        sleeping.push(Reverse((next, GroupNo(group.0))));
    }
    let nanos = begun.elapsed().as_nanos() / u128::from(messages);
    println!("{groups} groups x {sources} sources: {nanos} ns per decision");
}

fn main() {
    let bench = std::env::args().any(|word| word == "--bench");
    let messages = if bench { 2_000_000 } else { 2_000 };
    decisions(messages, 10_000, 1);
    decisions(messages, 625, 16);
    decisions(messages, 1, 1);
}
