//! world — four providers that the shipped rate table knows and five domains with mail hosts of
//! their own: their zones, a campaign to all of them from four sources, and their limits twice:
//! as the campaign's table says them, and as plain numbers that the proof holds against the logs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mailshot::outcome::Binding;
use mailshot_sink::windows::Limits;
use mailshot_sink::{Behaviour, Rule};

use super::support::campaign::Campaign;
use super::support::providers::{Providers, Spec};
use super::support::witness::keys;

/// How many times as fast as the clock the lanes' time runs: their hour is 15 seconds here.
pub(crate) const SPEED: u32 = 240;

/// The sources of the campaign.
pub(crate) const SOURCES: [IpAddr; 4] = [source(1), source(2), source(3), source(4)];

const fn source(number: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 1, number))
}

const MINUTE: Duration = Duration::from_secs(60);
const TEN_MINUTES: Duration = Duration::from_secs(600);
const HOUR: Duration = Duration::from_secs(3600);

/// A provider, or a domain with mail hosts of its own.
#[derive(Clone)]
pub(crate) struct Place {
    /// The name of its group.
    pub(crate) name: &'static str,
    pub(crate) domains: Vec<String>,
    /// Of the list.
    pub(crate) rows: usize,
    /// What each source may send, in the lanes' time.
    pub(crate) each: Limits,
    /// What all of them may send together.
    pub(crate) total: Limits,
    /// What its mail hosts answer to whom.
    pub(crate) rules: Vec<Rule>,
    /// 127.0.`network`.1 and up are its mail hosts.
    network: u8,
    hosts: u8,
}

impl Place {
    /// What all its lanes together may send: so many in such a time. One of its rates binds it.
    pub(crate) fn permitted(&self) -> (u64, Duration) {
        let sources = SOURCES.len() as u64;
        let each = self.each.rates.iter().map(|(count, period)| (count * sources, *period));
        let all = each.chain(self.total.rates.iter().copied());
        let pace = |(count, period): &(u64, Duration)| *count as f64 / period.as_secs_f64();
        all.min_by(|a, b| pace(a).total_cmp(&pace(b))).expect("every place has a rate")
    }

    /// The limit that binds: a rate of each source, or one of all together.
    pub(crate) fn binding(&self) -> Binding {
        match self.total.rates.is_empty() {
            true => Binding::Rate,
            false => Binding::RateTotal,
        }
    }
}

/// The campaign's table. The numbers of [`places`] are the same ones, written again.
const RATES: &str = r#"
[rates.default]
connections = 2
connections_total = 6
rate = ["30/h", "6/10m"]
messages_per_connection = 10
retry = ["4m"]

[rates.provider.google]
connections = 4
connections_total = 10
rate = ["150/h", "26/10m"]
messages_per_connection = 40
ramp = "2m"

[rates.provider.microsoft]
connections = 3
connections_total = 9
rate = "210/h"
rate_total = ["450/h", "79/10m"]
messages_per_connection = 10
retry = ["8m"]

[rates.provider.yahoo]
connections = 2
rate = ["75/h", "14/10m"]
messages_per_connection = 10
ramp = "2m"

[rates.provider.gmx]
connections = 1
connections_total = 3
rate = "75/h"
rate_total = "150/h"
messages_per_connection = 15

[rates.provider.slow]
mx = [".slow.test"]
connections = 1
rate = "1/16m"
"#;

/// All places; their rows keep each of them busy for `busy` of real time at its permitted rate.
pub(crate) fn places(busy: Duration) -> Vec<Place> {
    let limits = |rates: &[(u64, Duration)], connections: Option<u64>| {
        let rates = rates.to_vec();
        Limits { rates, connections, messages_per_connection: None, ramp: None }
    };
    let place = |name, domains: &[&str], customers: (&str, u8), network, hosts| {
        let own = domains.iter().map(|domain| (*domain).to_owned());
        let more =
            (1..=customers.1).map(|number| format!("{}{number}.customers.test", customers.0));
        let domains = own.chain(more).collect();
        let (each, total) = (Limits::default(), Limits::default());
        Place { name, domains, rows: 0, each, total, rules: Vec::new(), network, hosts }
    };
    let mut all = vec![
        Place {
            each: Limits {
                messages_per_connection: Some(40),
                ramp: Some(2 * MINUTE),
                ..limits(&[(150, HOUR), (26, TEN_MINUTES)], Some(4))
            },
            total: limits(&[], Some(10)),
            ..place("google", &["gmail.com", "googlemail.com"], ("g", 8), 10, 4)
        },
        Place {
            each: Limits { messages_per_connection: Some(10), ..limits(&[(210, HOUR)], Some(3)) },
            total: limits(&[(450, HOUR), (79, TEN_MINUTES)], Some(9)),
            ..place("microsoft", &["outlook.com", "hotmail.com"], ("m", 8), 11, 4)
        },
        Place {
            each: Limits {
                messages_per_connection: Some(10),
                ramp: Some(2 * MINUTE),
                ..limits(&[(75, HOUR), (14, TEN_MINUTES)], Some(2))
            },
            total: limits(&[], Some(8)),
            ..place("yahoo", &["yahoo.com", "aol.com"], ("y", 6), 12, 3)
        },
        Place {
            each: Limits { messages_per_connection: Some(15), ..limits(&[(75, HOUR)], Some(1)) },
            total: limits(&[(150, HOUR)], Some(3)),
            ..place("gmx", &["gmx.de", "web.de"], ("x", 2), 13, 4)
        },
    ];
    let own = ["mx1.o1.test", "mx1.o2.test", "mx1.o3.test", "mx1.o4.test", "mx1.o5.test"];
    for (number, name) in (1..).zip(own) {
        let domain = format!("o{number}.test");
        all.push(Place {
            each: Limits {
                messages_per_connection: Some(10),
                ..limits(&[(30, HOUR), (6, TEN_MINUTES)], Some(2))
            },
            total: limits(&[], Some(6)),
            ..place(name, &[&domain, &format!("also.{domain}")], ("", 0), 20 + number, 2)
        });
    }
    for place in &mut all {
        let (count, period) = place.permitted();
        let lanes_time = (busy * SPEED).as_secs_f64();
        place.rows = (count as f64 * lanes_time / period.as_secs_f64()) as usize;
    }
    all
}

/// A place that takes one message in four seconds of real time from each source, so that a process
/// that forgets what the one before it sent is found out. Two messages from each.
pub(crate) fn slow() -> Place {
    Place {
        name: "slow",
        domains: vec!["slow.test".to_owned()],
        rows: 2 * SOURCES.len(),
        each: Limits { rates: vec![(1, 16 * MINUTE)], connections: Some(1), ..Limits::default() },
        total: Limits::default(),
        rules: Vec::new(),
        network: 30,
        hosts: 2,
    }
}

/// The zones of all their domains and mail hosts.
pub(crate) fn zones(places: &[Place]) -> Vec<(String, Option<String>)> {
    let zone = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    let google = "MX 5 gmail-smtp-in.l.google.com.\n@ MX 10 alt1.gmail-smtp-in.l.google.com.";
    let yahoo = "MX 1 mta5.am0.yahoodns.net.\n@ MX 1 mta6.am0.yahoodns.net.\n\
                 @ MX 1 mta7.am0.yahoodns.net.";
    let mut customers = String::new();
    for domain in places.iter().flat_map(|place| &place.domains) {
        let Some(name) = domain.strip_suffix(".customers.test") else { continue };
        customers += &match name.as_bytes()[0] {
            b'g' => {
                format!("{name} MX 1 aspmx.l.google.com.\n{name} MX 5 alt1.aspmx.l.google.com.\n")
            }
            // Each tenant has a mail host of its own name: sites of their own, one provider.
            b'm' => format!("{name} MX 0 {name}-customers.mail.protection.outlook.com.\n"),
            b'y' => format!("{name} {}\n", yahoo.replace('@', name)),
            _ => format!("{name} MX 10 mx00.gmx.net.\n{name} MX 10 mx01.gmx.net.\n"),
        };
    }
    let mut zones = vec![
        zone("gmail.com", &format!("@ {google}")),
        zone("googlemail.com", &format!("@ {google}")),
        zone(
            "google.com",
            "gmail-smtp-in.l A 127.0.10.1\nalt1.gmail-smtp-in.l A 127.0.10.2\n\
             aspmx.l A 127.0.10.3\nalt1.aspmx.l A 127.0.10.4",
        ),
        zone("hotmail.com", "@ MX 2 hotmail-com.olc.protection.outlook.com."),
        zone(
            "outlook.com",
            "@ MX 5 outlook-com.olc.protection\n*.olc.protection A 127.0.11.1\n\
             *.olc.protection A 127.0.11.2\n*.mail.protection A 127.0.11.3\n\
             *.mail.protection A 127.0.11.4",
        ),
        zone("yahoo.com", &format!("@ {yahoo}")),
        zone("aol.com", &format!("@ {yahoo}")),
        zone("yahoodns.net", "mta5.am0 A 127.0.12.1\nmta6.am0 A 127.0.12.2\nmta7.am0 A 127.0.12.3"),
        zone("gmx.de", "@ MX 10 mx00.gmx.net.\n@ MX 10 mx01.gmx.net."),
        zone("gmx.net", "mx00 A 127.0.13.1\nmx01 A 127.0.13.2"),
        zone(
            "web.de",
            "@ MX 100 mx-ha02\n@ MX 100 mx-ha03\nmx-ha02 A 127.0.13.3\nmx-ha03 A 127.0.13.4",
        ),
        zone("customers.test", &customers),
    ];
    for place in places.iter().filter(|place| place.network > 20) {
        let network = place.network;
        let text = format!(
            "@ MX 10 mx1\n@ MX 20 mx2\nalso MX 10 mx1\nalso MX 20 mx2\n\
             mx1 A 127.0.{network}.1\nmx2 A 127.0.{network}.2"
        );
        zones.push(zone(&place.domains[0], &text));
    }
    zones
}

/// The mail hosts of all places. Their limits are those of real time: the periods are shorter by
/// the speed.
pub(crate) fn receivers(places: &[Place]) -> Providers {
    let real = |limits: &Limits| Limits {
        rates: limits.rates.iter().map(|(count, period)| (*count, *period / SPEED)).collect(),
        ramp: limits.ramp.map(|ramp| ramp / SPEED),
        ..limits.clone()
    };
    let spec = |place: &Place| Spec {
        each: real(&place.each),
        total: real(&place.total),
        behaviour: Behaviour { rules: place.rules.clone(), ..Behaviour::default() },
        ..Spec::friendly(place.name, place.network, place.hosts)
    };
    Providers::start(places.iter().map(spec).collect(), keys())
}

/// A campaign to all places, from all sources, its list in an order that mixes them.
pub(crate) fn campaign(places: &[Place], port: u16, dns: SocketAddr) -> Campaign {
    let mut rows: Vec<(usize, String)> = Vec::new();
    for place in places {
        for number in 0..place.rows {
            let domain = &place.domains[number % place.domains.len()];
            // Where the row would be in a list of a million.
            let at = number * 1_000_000 / place.rows;
            rows.push((at, format!("r{number}@{domain}")));
        }
    }
    rows.sort();
    let campaign = Campaign::to_mx(port, rows.into_iter().map(|(_, address)| address));
    campaign.sections(&sections(dns, RATES))
}

/// The sections of a campaign: its sources, whom to ask, its table.
pub(crate) fn sections(dns: SocketAddr, rates: &str) -> String {
    let mut sections = String::new();
    for (number, source) in (1..).zip(SOURCES) {
        sections += &format!(
            "[[source]]\naddress = \"{source}\"\nehlo_name = \"out{number}.sender.example\"\n"
        );
    }
    sections + &format!("[dns]\nservers = [\"{dns}\"]\n{rates}")
}
