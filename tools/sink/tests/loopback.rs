//! Real clients on loopback sockets against a sink on a thread of this process.

mod client;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use client::Client;
use mailshot_sink::{
    Behaviour, BindError, Checks, Config, Counters, Ended, Report, Rule, Sink, Tallies,
};

fn config(behaviour: Behaviour) -> Config {
    Config { behaviour, ..Config::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) }
}

fn with_sink(config: Config, clients: impl FnOnce(SocketAddr, &Counters)) -> Report {
    client::with_sink(config, |addresses, counters| clients(addresses[0], counters))
}

fn envelope(to: &str) -> String {
    format!("MAIL FROM:<a@b.test>\r\nRCPT TO:<{to}@c.test>\r\nDATA\r\n")
}

fn mail(to: &str, body: &str) -> String {
    format!("{}{body}\r\n.\r\n", envelope(to))
}

fn personalities() -> Behaviour {
    // Far longer than any test: a slow reply never comes here.
    let slow = Duration::from_secs(3600);
    Behaviour { rules: Rule::personalities(), slow, ..Behaviour::default() }
}

#[test]
fn a_slow_reply_holds_up_nobody_else() {
    let report = with_sink(config(personalities()), |address, _| {
        let mut slow = Client::connect(address);
        slow.say(&envelope("slow"));
        assert_eq!(slow.codes(3), "250 250 354");
        slow.say("x\r\n.\r\nNOOP\r\n");
        let mut other = Client::connect(address);
        other.say(&mail("anna", "x"));
        assert_eq!(other.codes(4), "250 250 354 250");
        slow.0.get_mut().set_nonblocking(true).expect("a plain socket");
        let silence = slow.0.read(&mut [0]).expect_err("the reply is an hour away");
        assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    });
    let expected = Tallies {
        connections: 2,
        connections_max: 2,
        connections_now: report.counts.connections_now,
        messages: 2,
        message_bytes: 6,
        messages_per_connection_max: 1,
        recipients: 2,
        unasked_pipelining: report.counts.unasked_pipelining,
        eager_bodies: 1,
        ..Tallies::default()
    };
    assert_eq!((report.counts, report.ended), (expected, Ended::Stopped));
}

#[test]
fn every_reply_can_be_late() {
    let behaviour = Behaviour { delay: Duration::from_millis(2), ..Behaviour::default() };
    with_sink(config(behaviour), |address, _| {
        let mut client = Client::connect(address);
        client.say(&format!("{}QUIT\r\n", mail("anna", "x")));
        assert_eq!(client.codes(6), "250 250 354 250 221 ");
    });
}

#[test]
fn drops_leave_the_sender_without_a_reply() {
    let report = with_sink(config(personalities()), |address, _| {
        for to in ["dropbefore", "dropafter"] {
            let mut client = Client::connect(address);
            client.say(&envelope(to));
            assert_eq!(client.codes(3), "250 250 354");
            client.say("x\r\n.\r\n");
            assert!(client.is_closed(), "{to}");
        }
    });
    let counts = report.counts;
    assert_eq!((counts.messages, counts.dropped_before, counts.dropped_after), (1, 1, 1));
}

#[test]
fn limits_are_told_and_then_kept() {
    let limited = Behaviour { connections_max: Some(1), ..Behaviour::default() };
    let report = with_sink(config(limited), |address, _| {
        let mut first = Client::connect(address);
        let mut second = Client::silent(address);
        // Octets that are never read must not destroy the reply.
        second.say("EHLO x\r\n");
        assert_eq!(second.reply(), "421 Too many connections");
        assert!(second.is_closed());
        first.say("NOOP\r\n");
        assert_eq!(first.codes(1), "250");
    });
    assert_eq!((report.counts.connections, report.counts.connections_refused), (1, 1));
    let each = Behaviour { close_after_each: true, ..Behaviour::default() };
    with_sink(config(each), |address, _| {
        let mut client = Client::connect(address);
        client.say(&format!("{}NOOP\r\n", mail("anna", "x")));
        assert_eq!(client.codes(5), "250 250 354 250 ");
    });
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    const NOOPS: usize = 400_000;
    with_sink(config(Behaviour::default()), |address, _| {
        let mut client = Client::connect(address);
        let mut writing = client.0.get_ref().try_clone().expect("a plain socket");
        thread::scope(|scope| {
            scope.spawn(move || writing.write_all("NOOP\r\n".repeat(NOOPS).as_bytes()));
            let mut replies = vec![0; NOOPS * "250 Ok\r\n".len()];
            client.0.read_exact(&mut replies).expect("every command is answered");
            assert_eq!(replies, "250 Ok\r\n".repeat(NOOPS).as_bytes());
        });
    });
}

#[test]
fn a_thousand_connections_live_side_by_side() {
    let report = with_sink(config(Behaviour::default()), |address, _| {
        let mut clients: Vec<Client> = (0..1000).map(|_| Client::connect(address)).collect();
        for client in &mut clients {
            client.say(&mail("anna", "x"));
        }
        assert!(clients.iter_mut().all(|client| client.codes(4) == "250 250 354 250"));
    });
    assert_eq!((report.counts.connections_max, report.counts.messages), (1000, 1000));
}

#[test]
fn checks_see_messages_however_they_are_split() {
    let directory = tempfile::tempdir().expect("a place for files");
    let checks = Checks {
        keys: true,
        form: true,
        rate_window: Some(Duration::from_secs(3600)),
        store: Some(directory.path().to_owned()),
        dkim: None,
    };
    let config = Config { checks, ..config(Behaviour::default()) };
    let report = with_sink(config, |address, _| {
        let mut client = Client::connect(address);
        client.0.get_mut().set_nodelay(true).expect("a plain socket");
        for (row, octets) in [(1, 1), (2, 7), (2, 1000)] {
            let body = format!("X-Mailshot-Key: run-{row}\r\nDate: d\r\n\r\n..dots\r\n");
            for piece in mail("anna", &body).as_bytes().chunks(octets) {
                client.0.get_mut().write_all(piece).expect("the sink reads");
            }
            assert_eq!(client.codes(4), "250 250 354 250");
        }
    });
    let keys = report.keys.expect("the check was on");
    assert_eq!((keys.distinct, keys.duplicates, keys.without), (2, 1, 0));
    assert_eq!(keys.first_duplicates, ["run-2"]);
    assert!(keys.runs["run"].rows.contains(1) && !keys.runs["run"].rows.contains(3));
    let form = report.form.expect("the check was on");
    assert_eq!((form.messages, form.flawless, form.no_date, form.no_from), (3, 0, 0, 3));
    let rate = report.rate.expect("the check was on");
    assert_eq!((rate.recipients_max, rate.lanes.len(), rate.lanes[0].recipients_max), (3, 1, 3));
    let stored = std::fs::read_to_string(directory.path().join("run-2.2.eml")).expect("stored");
    assert_eq!(
        stored,
        "X-Envelope-From: <a@b.test>\r\nX-Envelope-To: <anna@c.test>\r\n\
         X-Mailshot-Key: run-2\r\nDate: d\r\n\r\n.dots\r\n\r\n"
    );
}

#[test]
fn it_ends_when_all_expected_messages_have_come() {
    let config = Config { expect: Some(1), ..config(Behaviour::default()) };
    let sink = Sink::bind(config).expect("a free loopback port exists");
    let address = sink.addresses()[0];
    let report = thread::scope(|scope| {
        let serving = scope.spawn(|| sink.run(&AtomicBool::new(false)));
        let mut aborted = Client::connect(address);
        aborted.say(&format!("{}half a mess", envelope("anna")));
        assert_eq!(aborted.codes(3), "250 250 354");
        drop(aborted);
        let mut client = Client::connect(address);
        client.say(&format!("{}QUIT\r\n", mail("anna", "x")));
        assert_eq!(client.codes(6), "250 250 354 250 221 ");
        drop(client);
        serving.join().expect("the sink ends in peace")
    });
    assert_eq!(
        (report.ended, report.counts.messages, report.counts.aborted),
        (Ended::Complete, 1, 1)
    );
    assert_eq!(report.counts.connections_now, 0);
}

#[test]
fn it_ends_when_its_time_is_up() {
    let config = Config { run_for: Some(Duration::ZERO), ..config(Behaviour::default()) };
    let sink = Sink::bind(config).expect("a free loopback port exists");
    let report = sink.run(&AtomicBool::new(false));
    assert_eq!((report.ended, report.counts), (Ended::TimeUp, Tallies::default()));
}

#[test]
fn it_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address: SocketAddr = address.parse().expect("written as one");
        let error = Sink::bind(Config::plain(address)).expect_err("it reaches further");
        assert!(matches!(error, BindError::NotLoopback(refused) if refused == address));
    }
    let two = ["127.0.0.2:0", "127.0.0.3:0"].map(|address| address.parse().expect("one"));
    let config = Config { listen: two.to_vec(), ..config(Behaviour::default()) };
    let sink = Sink::bind(config).expect("all of 127/8 is loopback");
    assert!(sink.addresses().iter().all(|address| address.port() != 0));
}
