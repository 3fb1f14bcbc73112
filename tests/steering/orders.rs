//! orders — `set`, `pause`, `resume` and `cancel`, to a process that works and while none does.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::campaign::RUN;
use crate::world::{
    LONG, arrived_once, await_binding, await_end_of, between, campaign, hosts, longest_silence,
    provider, recorded, times,
};

/// Ten a second of real time at the speed of these tests.
const SPEED: u32 = 60;

/// A rate for one provider.
fn rate(provider: &str, rate: &str) -> String {
    format!("[rates.provider.{provider}]\nrate = \"{rate}\"\n")
}

#[test]
fn a_rate_that_is_set_holds_at_the_receiver_at_once() {
    let mail_hosts = hosts(vec![provider("google")]);
    // 2,400 an hour are 40 a second of real time; 600 are ten; 24,000 are 400.
    let campaign = campaign(mail_hosts.port(), &[("gmail.test", 400)], &rate("google", "2400/h"));
    let run = campaign.start_at_speed(SPEED);
    let witness = mail_hosts.witness();
    witness.await_accepted(60, LONG);
    let slower = campaign.order("set", &["rate.google=600/h", "--why", "complaints"]);
    assert!(slower.status.success(), "{}", slower.stderr);
    let (from, until) = (witness.accepted() as usize, witness.accepted() + 40);
    witness.await_accepted(until, LONG);
    let faster = campaign.order("set", &["rate.google=24000/h"]);
    assert!(faster.status.success(), "{}", faster.stderr);
    let finished = run.finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!(
        recorded(&campaign),
        ["operator set google rate 600/h", "operator set google rate 24000/h"]
    );

    let seen = mail_hosts.end();
    let times = times(&seen, "google");
    assert_eq!(times.len(), 400);
    let per_second = |times: &[u64]| {
        let micros = times[times.len() - 1] - times[0];
        (times.len() - 1) as f64 * 1e6 / micros as f64
    };
    // The order is seen within a tenth of a second, and takes effect behind what has begun.
    let slow = per_second(&times[from + 8..until as usize]);
    assert!(slow <= 10.2, "{slow} a second were let through of 10");
    let fast = per_second(&times[until as usize + 50..]);
    assert!(fast > 3.0 * slow, "{fast} a second is not much more than {slow}");
}

#[test]
fn a_pause_silences_its_provider_and_nobody_else() {
    let mail_hosts = hosts(vec![provider("google"), provider("yahoo")]);
    let rates = rate("google", "1800/h") + &rate("yahoo", "1800/h");
    let rows = [("gmail.test", 100), ("yahoo.test", 100)];
    let campaign = campaign(mail_hosts.port(), &rows, &rates);
    let run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(40, LONG);
    assert!(campaign.order("pause", &["google", "--why", "a look"]).status.success());
    await_binding(&campaign, "google", "pause");
    await_end_of(&campaign, "yahoo");
    let shown = campaign.order("status", &[]).stdout;
    assert!(shown.contains("google paused since ") && shown.contains(": a look"), "{shown}");
    assert!(shown.contains("waits for pause"), "{shown}");
    let before = mail_hosts.witness().accepted();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(mail_hosts.witness().accepted(), before, "paused is paused");
    assert!(campaign.order("resume", &["google"]).status.success());
    mail_hosts.witness().await_accepted(before + 5, LONG);
    let shown = campaign.order("status", &[]).stdout;
    assert!(!shown.contains("paused since"), "{shown}");
    let finished = run.finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);

    let seen = mail_hosts.end();
    assert_eq!(arrived_once(&seen).len(), 200);
    let silence = longest_silence(&times(&seen, "google"));
    assert!(silence.1 - silence.0 >= 1_000_000, "{silence:?}");
    assert!(between(&times(&seen, "yahoo"), silence) > 20, "yahoo went on");
    assert_eq!(recorded(&campaign), ["operator pause google", "operator resume google"]);
}

#[test]
fn everything_is_paused_and_goes_on() {
    let mail_hosts = hosts(vec![provider("google"), provider("yahoo")]);
    let rates = rate("google", "1800/h") + &rate("yahoo", "1800/h");
    let rows = [("gmail.test", 60), ("yahoo.test", 60)];
    let campaign = campaign(mail_hosts.port(), &rows, &rates);
    let mut run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(30, LONG);
    assert!(campaign.order("pause", &[]).status.success());
    await_binding(&campaign, "google", "pause");
    await_binding(&campaign, "yahoo", "pause");
    let before = mail_hosts.witness().accepted();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(mail_hosts.witness().accepted(), before);
    assert_eq!(run.ended(), None, "what is paused by a person waits");
    assert!(campaign.order("resume", &["yahoo"]).status.success());
    await_end_of(&campaign, "yahoo");
    let google = 120 - mail_hosts.witness().accepted();
    assert!(google > 0, "google is still paused");
    assert!(campaign.order("resume", &[]).status.success());
    let finished = run.finish(RUN);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert_eq!(arrived_once(&mail_hosts.end()).len(), 120);
}

#[test]
fn what_was_not_sent_before_a_cancel_ends_as_cancelled() {
    let mail_hosts = hosts(vec![provider("google"), provider("yahoo")]);
    let rates = rate("google", "1800/h") + &rate("yahoo", "600/h");
    let rows = [("gmail.test", 3000), ("yahoo.test", 2000)];
    let campaign = campaign(mail_hosts.port(), &rows, &rates);
    let run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(50, LONG);
    assert!(campaign.order("cancel", &["--why", "wrong price"]).status.success());
    let finished = run.finish(RUN);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    let delivered = campaign.sum("delivered");
    assert_eq!(campaign.sum("cancelled"), 5000 - delivered);
    assert_eq!(arrived_once(&mail_hosts.end()).len() as u64, delivered);
    assert_eq!(recorded(&campaign), ["operator cancel all"]);
    let again = campaign.run();
    assert_eq!(again.status.code(), Some(0), "{}", again.stderr);
    assert!(again.stderr.contains("has ended"), "{}", again.stderr);
    let late = campaign.order("resume", &[]);
    assert_eq!(late.status.code(), Some(3), "{}", late.stderr);
    assert!(late.stderr.contains("has ended"), "{}", late.stderr);
}

#[test]
fn orders_given_while_no_process_runs_hold_from_the_next_start() {
    let mail_hosts = hosts(vec![provider("google"), provider("yahoo")]);
    let rates = rate("google", "1800/h") + &rate("yahoo", "1800/h");
    let rows = [("gmail.test", 100), ("yahoo.test", 100)];
    let campaign = campaign(mail_hosts.port(), &rows, &rates);
    let run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(20, LONG);
    run.signal(Signal::TERM);
    assert_eq!(run.finish(RUN).status.code(), Some(143));
    assert!(campaign.order("pause", &["yahoo"]).status.success());
    assert!(campaign.order("set", &["rate.google=18000/h"]).status.success());

    let mut run = campaign.start_at_speed(SPEED);
    await_binding(&campaign, "yahoo", "pause");
    await_end_of(&campaign, "google");
    let stopped = campaign.attempts();
    assert_eq!(run.ended(), None, "yahoo is left");
    let yahoo = stopped.iter().filter(|attempt| attempt.provider == "yahoo").count();
    assert_eq!(yahoo as u64 + 100, mail_hosts.witness().accepted());
    assert!(campaign.order("cancel", &[]).status.success());
    let finished = run.finish(RUN);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    assert_eq!(campaign.sum("cancelled"), 100 - yahoo as u64);
    let seen = mail_hosts.end();
    let google = times(&seen, "google");
    let after = longest_silence(&times(&seen, "google")).1;
    let last = google[google.len() - 1];
    let fast = (between(&google, (after, last)) - 1) as f64 * 1e6 / (last - after) as f64;
    assert!(fast > 60.0, "{fast} a second is no more than the table's 30");
    let came = times(&seen, "yahoo");
    assert!(came.iter().all(|at| *at < after), "nothing came to yahoo after the pause");
}

#[test]
fn a_run_that_is_cancelled_while_no_process_runs_sends_nothing_more() {
    let mail_hosts = hosts(vec![provider("google")]);
    let campaign = campaign(mail_hosts.port(), &[("gmail.test", 100)], &rate("google", "1800/h"));
    let run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(10, LONG);
    run.signal(Signal::TERM);
    assert_eq!(run.finish(RUN).status.code(), Some(143));
    let before = mail_hosts.witness().seen();
    assert!(campaign.order("cancel", &[]).status.success());
    let finished = campaign.start_at_speed(SPEED).finish(RUN);
    assert_eq!(finished.status.code(), Some(5), "{}", finished.stderr);
    let after = mail_hosts.witness().seen();
    assert_eq!(after.connections, before.connections, "nobody was approached");
    assert_eq!(campaign.sum("cancelled"), 100 - campaign.sum("delivered"));
}

#[test]
fn orders_that_mean_nothing_are_refused_with_a_reason() {
    let mail_hosts = hosts(vec![provider("google")]);
    let campaign = campaign(mail_hosts.port(), &[("gmail.test", 40)], &rate("google", "1200/h"));
    let none = campaign.order("pause", &["google"]);
    assert_eq!(none.status.code(), Some(3), "{}", none.stderr);
    assert!(none.stderr.contains("trial has no run yet"), "{}", none.stderr);
    let run = campaign.start_at_speed(SPEED);
    mail_hosts.witness().await_accepted(5, LONG);
    for (order, argument, reason) in [
        ("set", "rate.google", "sets nothing; write for example"),
        ("set", "rate.google=fast", "fast"),
        ("set", "rate.google=0/h", "0/h"),
        ("set", "speed.google=1/h", "there are rate, rate_total"),
        ("set", "connections.google=0", "1 to 10000"),
        ("set", "rate.google@127.0.31.1=1/h", "leave the source out"),
        ("set", "rate_total.all=1/h", "name a provider"),
        ("set", "rate.gogle=1/h", "did you mean \"google\"?"),
        ("pause", "gogle", "did you mean \"google\"?"),
        ("pause", "goo gle", "goo gle"),
        ("pause", "google@", "google@"),
        ("pause", "127.0.31.9", "no source"),
    ] {
        let refused = campaign.order(order, &[argument]);
        assert_eq!(refused.status.code(), Some(2), "{order} {argument}: {}", refused.stderr);
        assert!(refused.stderr.contains(reason), "{order} {argument}: {}", refused.stderr);
    }
    assert_eq!(recorded(&campaign), Vec::<String>::new());
    assert_eq!(run.finish(RUN).status.code(), Some(0));
}
