//! laws — what holds after every run, whatever the receivers did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mailshot::deliver::{OnDoubt, Settings};
use mailshot::ledger::Standing;
use mailshot::limits::TIMER_SLACK;
use mailshot::outcome::{Kind, Row, Stage};
use mailshot::rates::Bucket;
use mailshot::smtp::reply::ReplyParser;
use mailshot::smtp::rules::Rules;
use mailshot::smtp::verdict::{Action, Scope, judge};
use mailshot::units::Tick;

use crate::ring::nanos;
use crate::world::{Ended, History, Process};

/// The first and the longest pause of a lane and rest of an address after trouble, as `rates::pace`
/// and `deliver` document them.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

pub(crate) fn check(settings: &Settings, rows: u32, history: &History) {
    assert_eq!(history.office.breaches, [""; 0], "breaches of the protocol");
    ends(settings, rows, history);
    stored(settings, rows, history);
    started(history);
    for process in &history.processes {
        within_limits(settings, process);
        within_rate(settings, process);
        quiet_in_pauses(settings, process);
    }
}

/// Every message ends in exactly one state. The ledger's own state table was held to it before.
fn ends(settings: &Settings, rows: u32, history: &History) {
    let counts = history.counts();
    let ended = counts.delivered + counts.bounced + counts.expired + counts.in_doubt;
    let ended = ended + counts.failed + counts.cancelled + counts.in_flight;
    assert_eq!(ended, rows, "{counts:?}");
    let killed = history.processes.iter().any(|process| process.tally.is_none());
    let held = settings.on_doubt == OnDoubt::Hold;
    assert!(counts.in_flight == 0 || killed && held, "{counts:?}");
    // What is sent again ends in doubt only when its time has run out.
    let given_up = history.ended().filter(|ended| ended.kind == Kind::InDoubt).all(|ended| {
        settings.groups[0]
            .limits
            .retry
            .next(Row(ended.row), ended.attempt, ended.first_attempt, ended.time)
            .is_none()
    });
    assert!(held || given_up, "{counts:?}");
}

/// What is said to be delivered was stored, what is said not to be was not, and nothing twice
/// but what was in doubt and sent again.
fn stored(settings: &Settings, rows: u32, history: &History) {
    let held = settings.on_doubt == OnDoubt::Hold;
    let mut copies: BTreeMap<u32, Vec<u16>> = BTreeMap::new();
    for stored in &history.office.stored {
        copies.entry(stored.row).or_default().push(stored.attempt);
    }
    for row in 1..=rows {
        let copies = copies.get(&row).map_or(&[][..], |copies| &copies[..]);
        let doubts = doubts(row, history);
        let most = 1 + if held { 0 } else { doubts };
        assert!(copies.len() <= most, "row {row} was stored as attempts {copies:?}");
        let standing = history.book.standing(Row(row));
        let told = || {
            let of_row = history.ended().filter(|ended| ended.row == row);
            format!("row {row} {standing:?}, stored {copies:?}: {:#?}", of_row.collect::<Vec<_>>())
        };
        match standing {
            Standing::Final(Kind::Delivered) => {
                let last = history.ended().filter(|ended| ended.row == row).last();
                let last = last.expect("a delivered row has an outcome");
                assert_eq!(last.stage, Stage::Dot, "{}", told());
                assert!(copies.contains(&last.attempt), "{}", told());
            }
            Standing::Final(Kind::InDoubt) | Standing::InFlight { .. } => {}
            _ => assert!(copies.is_empty() || doubts > 0 && !held, "{}", told()),
        }
    }
}

/// How often the row was sent and nobody knows whether it arrived.
fn doubts(row: u32, history: &History) -> usize {
    let lost = |ended: &&Ended| {
        let reply = matches!(ended.code / 100, 2 | 4 | 5);
        ended.row == row && ended.stage == Stage::Dot && !reply
    };
    let attempts: BTreeSet<u16> =
        history.ended().filter(|ended| ended.row == row).map(|ended| ended.attempt).collect();
    let killed =
        history.started.iter().filter(|(of, attempt)| *of == row && !attempts.contains(attempt));
    history.ended().filter(lost).count() + killed.count()
}

/// What was stored had been started, and what was started met an outcome unless it was killed.
fn started(history: &History) {
    let started: BTreeSet<_> = history.started.iter().copied().collect();
    assert_eq!(started.len(), history.started.len(), "each attempt starts once");
    for stored in &history.office.stored {
        assert!(started.contains(&(stored.row, stored.attempt)), "{stored:?} never started");
    }
    let mut ended = BTreeSet::new();
    for outcome in history.ended() {
        assert!(ended.insert((outcome.row, outcome.attempt)), "{outcome:?} is not the first");
    }
    if history.processes.iter().all(|process| process.tally.is_some()) {
        assert!(started.is_subset(&ended), "started and never ended");
    }
}

fn within_limits(settings: &Settings, process: &Process) {
    let (notes, limits) = (&process.notes, &settings.groups[0].limits);
    assert!(notes.open_most <= limits.connections as usize, "{} connections", notes.open_most);
    if let Some(limit) = limits.messages_per_connection {
        let most = process.mails_most;
        assert!(most <= limit, "{most} messages on a connection");
    }
    if let Some(tally) = &process.tally {
        assert_eq!(tally.connections_open, 0, "every connection is closed");
        assert_eq!(tally.damage, [""; 0]);
    }
    let mut places = BTreeSet::new();
    for ended in &process.ended {
        let (key, place) = ended.session;
        assert!(place == 0 || places.insert((key, place)), "{ended:?} is not alone in its place");
        assert!(limits.messages_per_connection.is_none_or(|most| place <= most), "{ended:?}");
    }
}

/// The bound that [`Bucket`] documents, for the moments at which messages began.
fn within_rate(settings: &Settings, process: &Process) {
    let Some(rate) = settings.groups[0].limits.rates.first().copied() else { return };
    let begins: Vec<u64> = process
        .notes
        .begins
        .iter()
        .filter(|begin| !begin.held_up)
        .map(|begin| begin.at.0)
        .collect();
    let interval = nanos(Bucket::new(rate, Tick(0)).interval());
    for step in [1, 2, 3, 10, 100] {
        for (first, last) in begins.iter().zip(begins.iter().skip(step)) {
            let least = (step as u64 * interval).saturating_sub(nanos(TIMER_SLACK));
            assert!(last - first >= least, "{step} messages from {first} to {last}, {rate}");
        }
    }
    for (first, last) in begins.iter().zip(begins.iter().skip(rate.messages as usize)) {
        assert!(last - first > nanos(rate.period), "{rate}: {first} to {last}");
    }
}

/// After a reply that stops the lane nothing begins until the pause is over, and after the only
/// address failed nobody calls it until it has rested; both double until a success.
fn quiet_in_pauses(settings: &Settings, process: &Process) {
    let alone = settings.sites[0].hosts[0].addresses.len() == 1;
    for pause in pauses(process, stop, false) {
        let begins = &process.notes.begins;
        let heard = begins.iter().find(|begin| !begin.held_up && within(pause, begin.at));
        assert!(heard.is_none(), "{heard:?} within the pause {pause:?}");
    }
    let rest = |ended: &Ended| {
        let before = matches!(ended.stage, Stage::Connect | Stage::Banner | Stage::Ehlo);
        (before && stop(ended).is_none()).then_some(PAUSES.0)
    };
    for rest in pauses(process, rest, true).into_iter().filter(|_| alone) {
        let called = process.notes.calls.iter().find(|at| within(rest, **at));
        assert!(called.is_none(), "called at {called:?} within the rest {rest:?}");
    }
}

/// The times in which all is quiet after outcomes of a kind: each with its least time, twice as
/// long again as long as nothing is accepted; and whether that ends them.
fn pauses(
    process: &Process,
    trouble: impl Fn(&Ended) -> Option<Duration>,
    ends_early: bool,
) -> Vec<(u64, u64)> {
    let mut pauses: Vec<(u64, u64)> = Vec::new();
    let (mut until, mut pause) = (0, 0);
    for ended in &process.ended {
        if ended.kind == Kind::Delivered {
            pause = 0;
            if let Some(last) = pauses.last_mut().filter(|_| ends_early) {
                last.1 = last.1.min(ended.at.0);
                until = last.1;
            }
        } else if let Some(least) = trouble(ended).filter(|_| until <= ended.at.0) {
            pause = nanos(least).max(pause);
            until = ended.at.0 + pause;
            pauses.push((ended.at.0, until));
            pause = (2 * pause).min(nanos(PAUSES.1));
        }
    }
    pauses
}

/// The ledger's times are whole microseconds.
fn within((from, until): (u64, u64), at: Tick) -> bool {
    at.0 > from + 1_000 && at.0 + 1_000 < until
}

/// For how long at least the reply of an outcome stops everything in a world of one lane.
fn stop(ended: &Ended) -> Option<Duration> {
    if ended.code == 0 {
        return None;
    }
    let enhanced = ended.enhanced.map_or(String::new(), |enhanced| format!("{enhanced} "));
    let line = format!("{} {enhanced}{}\r\n", ended.code, ended.response);
    let reply = ReplyParser::new().feed(&mut line.as_bytes());
    let reply = reply.expect("a recorded reply").expect("a whole one");
    let verdict = judge(Rules::shipped(), "", ended.stage, &reply);
    match (verdict.scope, verdict.action) {
        (Scope::Recipient | Scope::Message | Scope::Connection | Scope::Domain, _) => None,
        (_, Action::Pause(time)) => Some(time.max(PAUSES.0)),
        _ => None,
    }
}
