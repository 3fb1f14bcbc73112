//! providers — mail hosts of several providers on 127.0.0.0/8, all on one port, and whether what
//! came to them kept their limits.
//!
//! They are one sink on a thread of the test. It counts on its own: it shares no code with the
//! sender, and the proof is made from its log.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mailshot_sink::attempts::{self, Event};
use mailshot_sink::windows::{self, Arrivals, Bears, Breach, Limits};
use mailshot_sink::{Behaviour, Checks, Config, Provider, Report};

use super::scratch;
use super::witness::Witness;

/// A provider: its mail hosts, how they answer, and what they are said to bear.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    /// Addresses of 127.0.0.0/8 that no other provider has.
    pub(crate) hosts: Vec<IpAddr>,
    pub(crate) behaviour: Behaviour,
    /// What is held against the log, from each source and from all together; the behaviour may
    /// enforce the same or nothing.
    pub(crate) each: Limits,
    pub(crate) total: Limits,
}

impl Spec {
    /// A friendly provider with so many hosts, 127.0.`network`.1 and up, that bears anything.
    pub(crate) fn friendly(name: &'static str, network: u8, hosts: u8) -> Spec {
        let address = |host| IpAddr::from([127, 0, network, host]);
        Spec {
            name,
            hosts: (1..=hosts).map(address).collect(),
            behaviour: Behaviour::default(),
            each: Limits::default(),
            total: Limits::default(),
        }
    }
}

/// Running mail hosts.
pub(crate) struct Providers {
    witness: Witness,
    specs: Vec<Spec>,
    folder: tempfile::TempDir,
}

/// What came to them.
pub(crate) struct Seen {
    /// The sums.
    pub(crate) report: Report,
    /// Every connection and recipient.
    pub(crate) log: Vec<Event>,
    bears: Vec<Bears>,
}

impl Providers {
    /// Starts the mail hosts on one free port.
    pub(crate) fn start(specs: Vec<Spec>, checks: Checks) -> Providers {
        Providers::start_at(0, specs, checks)
    }

    /// Starts the mail hosts on this port.
    pub(crate) fn start_at(port: u16, specs: Vec<Spec>, checks: Checks) -> Providers {
        let folder = scratch();
        let listen = |spec: &Spec| spec.hosts.iter().map(|host| (*host, port).into()).collect();
        let provider =
            |spec: &Spec| Provider { listen: listen(spec), behaviour: spec.behaviour.clone() };
        let config = Config {
            listen: Vec::new(),
            providers: specs.iter().map(provider).collect(),
            one_port: true,
            attempts: Some(folder.path().join("attempts")),
            checks,
            ..Config::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        };
        Providers { witness: Witness::with(config), specs, folder }
    }

    /// The port of all hosts.
    pub(crate) fn port(&self) -> u16 {
        self.witness.port()
    }

    /// The sink itself, to wait for what comes.
    pub(crate) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Stops them; what came.
    pub(crate) fn end(self) -> Seen {
        let report = self.witness.end();
        assert_eq!(report.log_error, None);
        let log = attempts::read(&self.folder.path().join("attempts")).expect("a whole log");
        let bears = |spec: Spec| Bears {
            name: spec.name.to_owned(),
            hosts: spec.hosts,
            each: spec.each,
            total: spec.total,
        };
        Seen { report, log, bears: self.specs.into_iter().map(bears).collect() }
    }
}

impl Seen {
    /// Panics with every limit that was exceeded; `late` is how late the sink may have read.
    pub(crate) fn kept_all_limits(&self, late: Duration) {
        let breaches = windows::check(&self.log, &self.bears, late);
        let shown: Vec<String> = breaches.iter().map(Breach::to_string).collect();
        assert!(shown.is_empty(), "{}", shown.join("\n"));
    }

    /// What came to a provider: from each source, and from all together.
    pub(crate) fn arrivals(&self, name: &str) -> (Vec<(IpAddr, Arrivals)>, Arrivals) {
        let provider = self.bears.iter().find(|bears| bears.name == name);
        windows::arrivals(&self.log, &provider.expect("it was started").hosts)
    }

    /// How much of a rate was used: what came after the first recipient, as a part of what the rate
    /// allows in that time. Near 1 while work is left.
    pub(crate) fn share_used(times: &[u64], (messages, period): (u64, Duration)) -> f64 {
        let [first, .., last] = times else { panic!("two recipients at least") };
        let periods = (last - first) as f64 / period.as_micros() as f64;
        (times.len() - 1) as f64 / (periods * messages as f64)
    }
}
