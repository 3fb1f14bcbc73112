//! Several providers in one sink: what each bears from which source, and the log of it.

mod client;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use client::{Client, with_sink};
use mailshot_sink::attempts::{self, What};
use mailshot_sink::windows::{self, Bears, Limits};
use mailshot_sink::{Behaviour, Config, Pace, Provider};

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 2);

/// Mail hosts 127.0.`network`.1 to `hosts`, on one free port.
fn provider(network: u8, hosts: u8, behaviour: Behaviour) -> Provider {
    let listen = (1..=hosts).map(|host| SocketAddr::from(([127, 0, network, host], 0)));
    Provider { listen: listen.collect(), behaviour }
}

fn config(providers: Vec<Provider>) -> Config {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Config { listen: Vec::new(), providers, one_port: true, ..Config::plain(anywhere) }
}

/// A client that has been greeted and has said EHLO to a sink without extensions' lines.
fn greeted(source: Ipv4Addr, address: SocketAddr) -> Client {
    let mut client = Client::from(source, address);
    assert_eq!(client.reply(), "220 sink.test ESMTP mailshot-sink");
    client.say("HELO x\r\n");
    assert_eq!(client.reply(), "250 sink.test");
    client
}

fn rcpt(to: &str) -> String {
    format!("RSET\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<{to}@c.test>\r\n")
}

#[test]
fn many_hosts_share_a_port_and_differ_by_provider() {
    let refusing = Behaviour {
        rules: vec!["* = 550 5.7.1 no".parse().expect("a rule")],
        ..Behaviour::default()
    };
    let providers = vec![provider(3, 200, Behaviour::default()), provider(4, 2, refusing)];
    with_sink(config(providers), |addresses, _| {
        assert_eq!(addresses.len(), 202);
        assert!(addresses.iter().all(|address| address.port() == addresses[0].port()));
        for (host, code) in [(0, "250 250 250"), (199, "250 250 250"), (201, "250 250 550")] {
            let mut client = greeted(ONE, addresses[host]);
            client.say(&rcpt("anna"));
            assert_eq!(client.codes(3), code, "{}", addresses[host]);
        }
    });
}

#[test]
fn connections_are_limited_per_source_over_all_hosts_of_a_provider() {
    let few = Behaviour { connections_per_source_max: Some(2), ..Behaviour::default() };
    let providers = vec![provider(3, 2, few), provider(4, 1, Behaviour::default())];
    let report = with_sink(config(providers), |addresses, _| {
        let first = greeted(ONE, addresses[0]);
        let _second = greeted(ONE, addresses[1]);
        let mut third = Client::from(ONE, addresses[0]);
        assert_eq!(third.reply(), "421 Too many connections");
        assert!(third.is_closed());
        let _elsewhere = (greeted(TWO, addresses[0]), greeted(ONE, addresses[2]));
        // A place is free as soon as a client has closed, whatever the sink was doing meanwhile.
        drop(first);
        greeted(ONE, addresses[0]);
    });
    assert_eq!((report.counts.connections, report.counts.connections_refused), (5, 1));
}

#[test]
fn a_source_that_is_too_fast_is_told_so_as_gmail_does() {
    let paced = Behaviour { pace: Some(Pace::gmail(2, NEVER)), ..Behaviour::default() };
    let report = with_sink(config(vec![provider(3, 2, paced)]), |addresses, _| {
        let message = format!("{}DATA\r\nx\r\n.\r\n", rcpt("anna"));
        for host in [0, 1] {
            let mut client = greeted(ONE, addresses[host]);
            client.say(&message);
            assert_eq!(client.codes(5), "250 250 250 354 250");
        }
        let mut client = Client::from(ONE, addresses[0]);
        client.say(&format!("EHLO x\r\n{message}"));
        assert_eq!(
            client.codes(10),
            "220 250-sink.test 250-PIPELINING 250-8BITMIME \
            250-SIZE 250 250 250 250 354"
                .replace("            ", "")
        );
        assert_eq!(
            client.reply(),
            "421-4.7.28 Gmail has detected an unusual rate of email originating from"
        );
        assert_eq!(client.reply(), "421 4.7.28 your IP address");
        assert!(client.is_closed());
        let mut other = greeted(TWO, addresses[0]);
        other.say(&message);
        assert_eq!(other.codes(5), "250 250 250 354 250");
    });
    assert_eq!((report.counts.messages, report.counts.messages_deferred), (3, 1));
}

#[test]
fn greylisting_wants_the_same_source_after_its_time() {
    let rules = ["later* = grey 1h", "* = grey 1ms"].map(|rule| rule.parse().expect("a rule"));
    let grey = Behaviour { rules: rules.to_vec(), ..Behaviour::default() };
    with_sink(config(vec![provider(3, 1, grey)]), |addresses, _| {
        let mut one = greeted(ONE, addresses[0]);
        let mut code = |to: &str| {
            one.say(&rcpt(to));
            one.codes(3)
        };
        assert_eq!(code("anna"), "250 250 450");
        assert_eq!([code("later"), code("later")], ["250 250 450"; 2]);
        // Until the time is up the answer is the same.
        while code("anna") != "250 250 250" {}
        let mut two = greeted(TWO, addresses[0]);
        two.say(&rcpt("anna"));
        assert_eq!(two.codes(3), "250 250 450");
    });
}

#[test]
fn the_log_has_every_connection_and_recipient() {
    let folder = tempfile::tempdir().expect("a place for files");
    let path = folder.path().join("attempts");
    let rules = vec!["no = bounce".parse().expect("a rule")];
    let behaviour = Behaviour { rules, ..Behaviour::default() };
    let config = Config { attempts: Some(path.clone()), ..config(vec![provider(3, 2, behaviour)]) };
    let report = with_sink(config, |addresses, _| {
        for round in 0..50 {
            let mut client = greeted(ONE, addresses[round % 2]);
            client.say(&rcpt("anna"));
            assert_eq!(client.codes(3), "250 250 250");
            client.say(&rcpt("no"));
            assert_eq!(client.codes(3), "250 250 550");
            if round % 3 == 0 {
                // Octets that are still unread when the next connection comes.
                client.say("QUIT\r\n");
            }
        }
        greeted(TWO, addresses[0]);
    });
    assert_eq!(report.log_error, None);
    let log = attempts::read(&path).expect("a whole log");
    let replies: Vec<u16> = log
        .iter()
        .filter_map(|event| match event.what {
            What::Rcpt(code) => Some(code),
            _ => None,
        })
        .collect();
    assert_eq!(replies, [250, 550].repeat(50));
    let hosts = vec![[127, 0, 3, 1].into(), [127, 0, 3, 2].into()];
    let (each, total) = windows::arrivals(&log, &hosts);
    assert_eq!((each[0].0, each[1].0), (ONE.into(), TWO.into()));
    assert_eq!((each[0].1.connections.len(), each[1].1.connections.len()), (50, 1));
    assert!(total.recipients.is_sorted());

    let bears = |connections, messages, rate| {
        let each = Limits {
            rates: vec![rate],
            connections: Some(connections),
            messages_per_connection: Some(messages),
            ramp: None,
        };
        vec![Bears { name: "p".to_owned(), hosts: hosts.clone(), total: each.clone(), each }]
    };
    // One client after the other, never two at once, however late the sink read their ends.
    assert_eq!(windows::check(&log, &bears(1, 2, (100, NEVER)), Duration::ZERO), []);
    let found = windows::check(&log, &bears(1, 1, (99, NEVER)), Duration::ZERO);
    assert_eq!(found.len(), 2 * (1 + 50), "lane and sum: the rate, and each full connection");
}
