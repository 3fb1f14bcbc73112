//! The delivery stage in simulated worlds: virtual time, receivers of every kind, kills and stops,
//! real spool segments and a real ledger. The laws hold after every run; a seed makes a run again.
//!
//! `MAILSHOT_SEEDS=100000` runs more worlds than the usual ones, `MAILSHOT_SEED=4711` runs one.

#![allow(clippy::unwrap_used, reason = "what fails here ends the test, with its seed")]

#[path = "simulation/laws.rs"]
mod laws;
#[path = "simulation/market.rs"]
mod market;
#[path = "simulation/market_laws.rs"]
mod market_laws;
#[path = "simulation/million.rs"]
mod million;
#[path = "simulation/personality.rs"]
mod personality;
#[path = "simulation/receiver.rs"]
mod receiver;
#[path = "simulation/ring.rs"]
mod ring;
#[path = "simulation/world.rs"]
mod world;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use mailshot::limits;
use mailshot::outcome::{Kind, Stage};

use market::Market;
use personality::{Deed, Fault, Personality, Point};
use world::{History, World};

/// Worlds of an ordinary test run.
const SEEDS: u64 = 2_000;
/// Threads that run them; most of a world's time is spent waiting for its ledger to close.
const THREADS: u64 = 8;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn explore(seed: u64) -> History {
    let world = World::random(seed);
    let (settings, rows) = (world.settings.clone(), world.rows);
    let history = world.run();
    laws::check(&settings, rows, &history);
    history
}

/// Runs the usual worlds, or those that the environment asks for, on some threads.
fn in_every_world(explore: impl Fn(u64) + Sync) {
    if let Some(seed) = number("MAILSHOT_SEED") {
        return explore(seed);
    }
    let seeds = number("MAILSHOT_SEEDS").unwrap_or(SEEDS);
    let explore = &explore;
    let failed: Vec<u64> = thread::scope(|scope| {
        let share = move |first: u64| {
            let mine = (first..seeds).step_by(THREADS as usize);
            mine.filter(|seed| catch_unwind(AssertUnwindSafe(|| explore(*seed))).is_err()).collect()
        };
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || share(first))).collect();
        threads.into_iter().flat_map(|thread| -> Vec<u64> { thread.join().unwrap() }).collect()
    });
    assert!(
        failed.is_empty(),
        "the laws were broken in worlds {failed:?}; MAILSHOT_SEED runs one of them"
    );
}

#[test]
fn the_laws_hold_in_every_world() {
    in_every_world(|seed| drop(explore(seed)));
}

/// Of so many markets one is run again with the mail of a single provider.
const ALONE: u64 = 4;

#[test]
fn the_laws_hold_in_every_market() {
    in_every_world(|seed| {
        let market = Market::random(seed);
        let ended = market.run();
        market_laws::check(&market, &ended);
        let whole = market.killed_at.is_none() && market.stopped_at.is_none();
        let shared = market.settings.rate.is_some() || market.settings.connections < 100;
        if !whole || shared {
            return;
        }
        market_laws::unhindered(&market, &ended);
        let clean = market.parties.iter().position(|party| party.is_clean && party.rows > 0);
        if let Some(number) = clean.filter(|_| seed % ALONE == 0) {
            let alone = Market::random(seed).alone(number).run();
            market_laws::independent(&market, &ended, number, &alone);
        }
    });
}

#[test]
fn the_same_seed_makes_the_same_market() {
    for seed in 0..20 {
        let trace = || -> Vec<u64> {
            Market::random(seed).run().notes.iter().map(|notes| notes.trace).collect()
        };
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

#[test]
fn the_same_seed_makes_the_same_run() {
    for seed in 0..40 {
        assert_eq!(explore(seed).trace(), explore(seed).trace(), "seed {seed}");
    }
}

/// Whoever goes silent is left after exactly the time of RFC 5321 §4.5.3.2, and the message's
/// stage is that of the silence.
#[test]
fn every_silence_ends_at_its_limit() {
    let never = Deed::Unread(Duration::from_secs(1_000_000));
    for (point, deed, limit, stage, kind) in [
        (Point::Connect, never.clone(), limits::CONNECT_TIMEOUT, Stage::Connect, Kind::Deferred),
        (Point::Banner, Deed::Silence, limits::BANNER_TIMEOUT, Stage::Banner, Kind::Deferred),
        (Point::Ehlo, Deed::Silence, limits::EHLO_TIMEOUT, Stage::Ehlo, Kind::Deferred),
        (Point::Mail, Deed::Silence, limits::MAIL_TIMEOUT, Stage::Mail, Kind::Deferred),
        (Point::Rcpt, Deed::Silence, limits::RCPT_TIMEOUT, Stage::Rcpt, Kind::Deferred),
        (Point::Data, Deed::Silence, limits::DATA_TIMEOUT, Stage::Data, Kind::Deferred),
        // Between our giving up and the kernel's, the dot may still leave.
        (Point::Body, never, limits::BLOCK_TIMEOUT, Stage::Dot, Kind::InDoubt),
        (Point::Dot, Deed::Silence, limits::DOT_TIMEOUT, Stage::Dot, Kind::InDoubt),
        (Point::Dot, Deed::StoreInSilence, limits::DOT_TIMEOUT, Stage::Dot, Kind::InDoubt),
        (Point::Quit, Deed::Silence, limits::QUIT_TIMEOUT, Stage::Dot, Kind::Delivered),
    ] {
        for pipelining in [true, false] {
            let fault = Fault::always(point, deed.clone());
            let personality = Personality { pipelining, ..Personality::with(fault) };
            let history = World::of(personality, 1).run();
            let closing = history.closings()[0];
            assert_eq!(closing.at.since(closing.last_told), limit, "{point:?} {pipelining}");
            let first = history.ended().next().unwrap();
            assert_eq!((first.stage, first.kind), (stage, kind), "{point:?} {pipelining}");
        }
    }
}

/// The end of ten messages with receivers of one fault each.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn each_fault_has_its_end() {
    let say = |point, text| Fault::always(point, Deed::Say(text));
    let at = |point, deed, from_message| Fault { point, deed, permille: 1_000, from_message };
    let faulty = Personality::with;
    for (name, personality, expected, connections) in [
        ("normal", Personality::normal(), "delivered 10", 1),
        (
            "no PIPELINING",
            Personality { pipelining: false, ..Personality::normal() },
            "delivered 10",
            1,
        ),
        ("HELO only", Personality { ehlo: false, ..Personality::normal() }, "delivered 10", 1),
        (
            "one octet at a time",
            Personality { drip: Some(Duration::from_millis(300)), ..Personality::normal() },
            "delivered 10",
            1,
        ),
        (
            "greylist",
            Personality { greylist: Some(Duration::from_secs(600)), ..Personality::normal() },
            "delivered 10",
            0,
        ),
        ("554 greeting", faulty(say(Point::Banner, "554 5.7.1 no")), "expired 10", 0),
        ("450 greeting", faulty(say(Point::Banner, "450 4.3.2 later")), "expired 10", 0),
        ("refused", faulty(Fault::always(Point::Connect, Deed::Refuse)), "expired 10", 0),
        ("no such user", faulty(say(Point::Rcpt, "550 5.1.1 who")), "bounced 10", 1),
        (
            "no such user, yet 354",
            Personality { data_anyway: true, ..faulty(say(Point::Rcpt, "550 5.1.1 who")) },
            "bounced 10",
            1,
        ),
        ("closes silently after three", faulty(at(Point::Mail, Deed::Close, 3)), "delivered 10", 4),
        (
            "452 after three, and stays",
            faulty(at(Point::Mail, Deed::Say("452 4.5.3 too many messages on this connection"), 3)),
            "delivered 10",
            4,
        ),
        (
            "421 with the EHLO reply",
            faulty(Fault::always(Point::Ehlo, Deed::Extra("421 bye"))),
            "expired 10",
            0,
        ),
        (
            "421 after three",
            faulty(at(
                Point::Mail,
                Deed::SayAndClose("421 too many messages on this connection"),
                3,
            )),
            "delivered 10",
            4,
        ),
        ("resets before storing", faulty(at(Point::Dot, Deed::Reset, 0)), "in doubt 10", 10),
        ("stores and closes", faulty(at(Point::Dot, Deed::StoreAndClose, 0)), "in doubt 10", 10),
        (
            "550 in the data",
            // What is refused before its dot has left costs the connection.
            Personality { splits: 0, ..faulty(say(Point::Body, "550 5.7.1 no")) },
            "bounced 10",
            1,
        ),
        (
            "250 too many at DATA",
            faulty(Fault::always(Point::Data, Deed::Extra("250 ok"))),
            "expired 10",
            0,
        ),
        ("closes instead of resetting", faulty_after_refusal(Deed::Close), "bounced 10", 0),
        (
            "421 instead of resetting",
            faulty_after_refusal(Deed::SayAndClose("421 4.3.2 bye")),
            "bounced 10",
            0,
        ),
        ("resets at QUIT", faulty(Fault::always(Point::Quit, Deed::Reset)), "delivered 10", 1),
        ("no end", faulty(Fault::always(Point::Ehlo, Deed::Endless)), "expired 10", 0),
    ] {
        let world = World::of(personality, 10);
        let settings = world.settings.clone();
        let history = world.run();
        laws::check(&settings, 10, &history);
        assert_eq!(words(&history), expected, "{name}");
        let made = history.processes[0].tally.as_ref().unwrap().connections;
        assert!(connections == 0 || made == connections, "{name}: {made} connections");
    }
}

/// Refuses every recipient, and does this to the RSET that follows.
fn faulty_after_refusal(deed: Deed) -> Personality {
    let faults = vec![
        Fault::always(Point::Rcpt, Deed::Say("550 5.1.1 who")),
        Fault::always(Point::Rset, deed),
    ];
    Personality { faults, ..Personality::normal() }
}

fn words(history: &History) -> String {
    let counts = history.counts();
    let all = [
        ("delivered", counts.delivered),
        ("bounced", counts.bounced),
        ("expired", counts.expired),
        ("in doubt", counts.in_doubt),
    ];
    let some = all.iter().filter(|(_, count)| *count > 0);
    some.map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
}
