//! market_laws — what holds in every market, as the providers themselves count.

use std::time::Duration;

use mailshot::limits::IDLE_TIMEOUT;
use mailshot::rates::{Bucket, Limits};
use mailshot::simulate::witness::Window;
use mailshot::units::{Rate, Tick};

use crate::market::{Ended, Market, reaction};
use crate::ring::nanos;

pub(crate) fn check(market: &Market, ended: &Ended) {
    ends(market, ended);
    for (number, group) in market.settings.groups.iter().enumerate() {
        within_limits(&group.limits, number, ended);
        silent(market, number, ended);
    }
    within_ceilings(market, ended);
}

/// Every row ends in exactly one state, and what was accepted is what was delivered.
fn ends(market: &Market, ended: &Ended) {
    let counts = ended.book.counts();
    let finals = [counts.delivered, counts.bounced, counts.expired, counts.in_doubt];
    let all: u32 = finals.iter().sum::<u32>() + counts.cancelled + counts.in_flight;
    assert_eq!(all, market.rows(), "{counts:?}");
    let killed = ended.tallies.iter().any(Option::is_none);
    assert!(counts.in_flight == 0 || killed, "{counts:?}");
    let accepted: u64 = ended.witnesses.iter().map(|witness| witness.accepted).sum();
    let lost = u64::from(counts.in_doubt + counts.in_flight);
    let delivered = u64::from(counts.delivered);
    assert!((delivered..=delivered + lost).contains(&accepted), "{accepted} accepted, {counts:?}");
    for tally in ended.tallies.iter().flatten() {
        assert_eq!(tally.connections_open, 0, "every connection is closed");
        assert_eq!(tally.damage, [""; 0]);
    }
}

/// No limit is exceeded in any window, from any source or from all.
fn within_limits(limits: &Limits, number: usize, ended: &Ended) {
    let witness = &ended.witnesses[number];
    // The windows watched are the last of each: those of a source's rates, then of the totals.
    let watched = limits.rates.len() + limits.rates_total.len();
    let window = |windows: &[Window], at: usize| windows[windows.len() - watched + at].most;
    for of in &witness.sources {
        for (at, rate) in limits.rates.iter().enumerate() {
            let most = window(&of.windows, at);
            assert!(most <= rate.messages, "{most} messages at p{number}, {rate} {:?}", of.source);
        }
        let most = of.connections_most;
        assert!(most <= limits.connections, "{most} connections to p{number} at {:?}", of.source);
    }
    for (at, rate) in limits.rates_total.iter().enumerate() {
        let most = window(&witness.total.windows, limits.rates.len() + at);
        assert!(most <= rate.messages, "{most} messages at p{number} in all, {rate}");
    }
    let most = witness.total.connections_most;
    let within = limits.connections_total.is_none_or(|total| most <= total);
    assert!(within, "{most} connections to p{number} in all");
    let most = witness.messages_most;
    let within = limits.messages_per_connection.is_none_or(|limit| most <= limit);
    assert!(within, "{most} messages on a connection to p{number}");
}

/// Who asked for silence hears nothing, then one connection until a success.
fn silent(market: &Market, number: usize, ended: &Ended) {
    let reaction = reaction(market, number);
    for breach in &ended.witnesses[number].breaches {
        assert!(breach.at <= breach.heard.after(reaction), "at p{number}: {breach:?}");
    }
}

fn within_ceilings(market: &Market, ended: &Ended) {
    let most = ended.notes.iter().map(|notes| notes.open_most).max().unwrap_or(0);
    assert!(most <= market.settings.connections as usize, "{most} connections in all");
    let Some(Rate { messages, period }) = market.settings.rate else { return };
    let mut begins: Vec<u64> =
        ended.witnesses.iter().flat_map(|witness| &witness.begins).map(|(at, _)| at.0).collect();
    begins.sort_unstable();
    for (first, last) in begins.iter().zip(begins.iter().skip(messages as usize)) {
        assert!(last - first > nanos(period), "{messages} per {period:?}: {first} to {last}");
    }
}

/// How long a provider's mail takes when nothing but its rates holds it up; `None` when its
/// connections might.
fn ideal(market: &Market, number: usize) -> Option<Duration> {
    let (party, limits) = (&market.parties[number], &market.settings.groups[number].limits);
    let sources = market.settings.sources.len() as u32;
    let slowest = |rates: &[Rate]| {
        let interval = |rate: &Rate| Bucket::new(*rate, Tick(0)).interval();
        rates.iter().map(interval).max()
    };
    let lane = slowest(&limits.rates)?;
    let interval = (lane / sources).max(slowest(&limits.rates_total).unwrap_or_default());
    // A message takes some replies; the slowest decide.
    let one = party.habits.latency.p95 * 12;
    // Connections in common are held by one source while another could send.
    let in_common =
        limits.connections_total.is_some_and(|most| most < sources * limits.connections);
    let free = limits.ramp.is_none() && limits.connections > 1 && !in_common;
    if !free || one / limits.connections >= lane {
        return None;
    }
    // A connection that is new, or was closed between two messages, is made when it is wanted.
    let keeps = interval * sources * 2 < IDLE_TIMEOUT && limits.messages_per_connection != Some(1);
    let per = if keeps { limits.messages_per_connection.unwrap_or(u32::MAX) } else { 1 };
    let made = party.rows / per + 1;
    Some(interval * party.rows + party.habits.latency.p95 * 3 * made)
}

/// While a lane may send, something is sent: providers with which nothing goes wrong get their mail
/// in the time that their rates need, whatever happens to the others. For worlds that nobody ends
/// and nothing limits as a whole.
pub(crate) fn unhindered(market: &Market, ended: &Ended) {
    for (number, party) in market.parties.iter().enumerate().filter(|(_, party)| party.is_clean) {
        let Some(ideal) = ideal(market, number) else { continue };
        // At the beginning and after the last message, and a connection now and then.
        let replies = party.habits.latency.p95 * 30 + Duration::from_secs(2);
        let most = ideal * 107 / 100 + replies + Duration::from_micros(market.late) * 8;
        let begins = &ended.witnesses[number].begins;
        let last = begins.last().map_or(Tick(0), |(at, _)| *at);
        assert!(last <= Tick(0).after(most), "p{number} took until {last:?}, ideally {ideal:?}");
    }
}

/// A provider's trouble is its own: another gets its mail as fast as if it were alone.
pub(crate) fn independent(market: &Market, ended: &Ended, number: usize, alone: &Ended) {
    let last = |ended: &Ended| ended.witnesses[number].begins.last().map(|(at, _)| at.0);
    let (with, without) = (last(ended).unwrap_or(0), last(alone).unwrap_or(0));
    let latency = nanos(market.parties[number].habits.latency.p95);
    let most = without + without / 5 + 40 * latency + 5_000_000_000;
    assert!(with <= most, "p{number} took {with} among others and {without} alone");
}
