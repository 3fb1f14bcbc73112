//! dns — the resolver and the directory against NSD, a real name server, on loopback.
//!
//! One zone has a domain for each thing that a domain's DNS can be. Where it matters what is asked,
//! and how often, a relay stands before the server: it notes each query and keeps quiet about names
//! with `silent` in them. All traffic stays on 127.0.0.1; the addresses in answers are never used.

#[cfg(test)]
mod support;

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, unbounded};
use mailshot::destination::DomainNo;
use mailshot::resolver::{Config, Progress, Resolver};
use mailshot::routes::{Answer, Claim, Death, Directory, HOSTS_MAX, Standing};
use mailshot::units::Utc;

use support::nameserver::NameServer;

const ZONE: &str = r#"
plain           MX 20 mx2.plain
plain           MX 10 mx1.plain
mx1.plain       A 127.0.1.1
mx1.plain       A 127.0.1.2
mx2.plain       300 A 127.0.1.3
other           MX 7 MX2.Plain.EXAMPLE.
other           MX 3 mx1.plain
equal           MX 10 a.equal
equal           MX 10 b.equal
equal           MX 10 c.equal
equal           MX 90 mx1.plain
*.equal         A 127.0.1.4
only-a          A 127.0.1.5
only-aaaa       AAAA fd00::1
both            MX 10 mx.both
mx.both         A 127.0.1.6
mx.both         AAAA fd00::2
null            MX 0 .
null-and-more   MX 0 .
null-and-more   MX 10 mx1.plain
nodata          TXT "here"
dangling        MX 10 gone.dangling
dangling        MX 20 txt.dangling
txt.dangling    TXT "here"
alias           MX 10 cname.alias
cname.alias     CNAME cname2.alias
cname2.alias    CNAME mx2.plain
aliased         CNAME plain
into-nothing    CNAME nowhere
loop            CNAME loop2
loop2           CNAME loop
xn--bcher-kva   MX 10 MX.xn--bcher-kva
mx.xn--bcher-kva A 127.0.1.7
u-label         MX 10 mx.B\195\188cher
latin-1         MX 10 mx.b\252cher
literal         MX 10 127.0.0.1.
literal-first   MX 10 127.0.0.1.
literal-first   MX 20 mx2.plain
ourselves       MX 10 localhost.
zero            MX 10 mx.zero
mx.zero         A 0.0.0.0
partial         MX 10 mx.broken
partial         MX 20 mx2.plain
failing         MX 10 mx.broken
failing         MX 20 gone.dangling
refused         MX 10 mx.elsewhere.test.
lame            NS ns.lame
ns.lame         A 127.0.0.1
quiet           MX 10 mx.silent
quiet           MX 20 mx2.plain
mute            MX 10 mx.silent
mute2           MX 10 mx.silent
mx.silent       A 127.0.1.8
*.many          A 127.0.1.9
"#;

/// A server with [`ZONE`] as `example`, and `broken.example`, for which it has no file.
fn server() -> Option<NameServer> {
    let mut zone = ZONE.to_owned();
    let long = "x".repeat(60);
    for number in 0..40 {
        zone.push_str(&format!("many MX {number} h{number}.{long}.{long}.many\n"));
    }
    NameServer::start(&[("example", Some(&zone)), ("broken.example", None)])
}

fn config(servers: &[SocketAddr]) -> Config {
    let timeout = Duration::from_secs(2);
    Config { servers: servers.to_vec(), timeout, ..Config::default() }
}

fn resolver(config: &Config) -> Resolver {
    Resolver::start(config).expect("a resolver can be started")
}

/// An answer in one line: hosts by preference, or the word for what else it is.
fn told(answer: &Answer) -> String {
    match answer {
        Answer::Hosts { hosts, ttl } => {
            let host = |host: &mailshot::destination::Host| {
                let mut addresses: Vec<_> =
                    host.addresses.iter().map(ToString::to_string).collect();
                addresses.sort();
                format!("{} {} {}", host.preference, host.name, addresses.join(" "))
            };
            let mut hosts: Vec<String> = hosts.iter().map(host).collect();
            hosts.sort();
            format!("{} for {} s", hosts.join(", "), ttl.as_secs())
        }
        Answer::NullMx => "null MX".into(),
        Answer::NoSuchDomain => "no such domain".into(),
        Answer::NoMailHost { why } => format!("no mail host: {why}"),
        Answer::Unknown { why } => format!("unknown: {why}"),
    }
}

#[test]
fn each_kind_of_domain_is_told_from_the_others() {
    let Some(server) = server() else { return };
    let resolver = resolver(&config(&[server.address()]));
    let nothing = "no mail host: it has neither an MX record nor an address";
    let bare = "no mail host: its MX record has no host name but";
    let dangling = "no mail host: none of its mail hosts has an address:";
    let plain =
        "10 mx1.plain.example 127.0.1.1 127.0.1.2, 20 mx2.plain.example 127.0.1.3 for 300 s";
    let cases = [
        ("plain.example", plain),
        ("PLAIN.example.", plain),
        ("only-a.example", "0 only-a.example 127.0.1.5 for 600 s"),
        ("only-aaaa.example", nothing),
        ("both.example", "10 mx.both.example 127.0.1.6 for 600 s"),
        ("null.example", "null MX"),
        ("null-and-more.example", "10 mx1.plain.example 127.0.1.1 127.0.1.2 for 600 s"),
        ("missing.example", "no such domain"),
        ("no domain.example", "no such domain"),
        ("nodata.example", nothing),
        ("dangling.example", &format!("{dangling} gone.dangling.example, txt.dangling.example")),
        ("alias.example", "10 cname.alias.example 127.0.1.3 for 300 s"),
        ("aliased.example", plain),
        ("into-nothing.example", "no such domain"),
        ("loop.example", nothing),
        ("xn--bcher-kva.example", "10 mx.xn--bcher-kva.example 127.0.1.7 for 600 s"),
        ("bücher.example", "10 mx.xn--bcher-kva.example 127.0.1.7 for 600 s"),
        ("u-label.example", "10 mx.xn--bcher-kva.example 127.0.1.7 for 600 s"),
        ("latin-1.example", &format!(r"{bare} mx.b\xfccher.example")),
        ("literal.example", &format!("{bare} 127.0.0.1")),
        ("literal-first.example", "20 mx2.plain.example 127.0.1.3 for 300 s"),
        ("ourselves.example", &format!("{bare} localhost")),
        ("zero.example", &format!("{dangling} mx.zero.example")),
        ("partial.example", "20 mx2.plain.example 127.0.1.3 for 300 s"),
        ("failing.example", "unknown: the DNS said SERVFAIL for A of mx.broken.example"),
        ("broken.example", "unknown: the DNS said SERVFAIL for MX of broken.example"),
        ("refused.example", "unknown: the DNS said REFUSED for A of mx.elsewhere.test"),
        ("elsewhere.test", "unknown: the DNS said REFUSED for MX of elsewhere.test"),
        (
            "lame.example",
            "unknown: the DNS server does no recursion: a referral for MX of lame.example",
        ),
    ];
    let domains: Vec<String> = cases.iter().map(|(domain, _)| (*domain).to_owned()).collect();
    let mut steps: Vec<Progress> = Vec::new();
    let answers = resolver.resolve(&domains, &mut |progress| steps.push(progress));
    for ((domain, expected), answer) in cases.iter().zip(&answers) {
        assert_eq!(told(answer), *expected, "{domain}");
        assert_eq!(told(&resolver.one(domain)), *expected, "{domain} alone, from the cache");
    }
    let of = cases.len();
    assert_eq!(steps.last(), Some(&Progress { done: of, of, dead: 12, unresolved: 5 }));
    assert!(steps.is_sorted_by(|a, b| a.done < b.done && a.dead <= b.dead), "{steps:?}");
    assert_eq!(resolver.resolve(&[], &mut |_| {}), []);
}

#[test]
fn ipv6_is_asked_for_where_it_is_wanted() {
    let Some(server) = server() else { return };
    let resolver = resolver(&Config { ipv6: true, ..config(&[server.address()]) });
    for (domain, expected) in [
        ("only-aaaa.example", "0 only-aaaa.example fd00::1 for 600 s"),
        ("only-a.example", "0 only-a.example 127.0.1.5 for 600 s"),
        ("both.example", "10 mx.both.example 127.0.1.6 fd00::2 for 600 s"),
        ("partial.example", "20 mx2.plain.example 127.0.1.3 for 300 s"),
    ] {
        assert_eq!(told(&resolver.one(domain)), expected);
    }
    let Answer::Hosts { hosts, .. } = resolver.one("both.example") else { panic!("it has hosts") };
    assert!(hosts[0].addresses[0].is_ipv4(), "IPv4 comes first");
}

#[test]
fn long_answers_come_over_tcp_and_hostile_ones_are_cut() {
    let Some(server) = server() else { return };
    let resolver = resolver(&config(&[server.address()]));
    let Answer::Hosts { hosts, .. } = resolver.one("many.example") else { panic!("it has hosts") };
    let preferences: Vec<u16> = hosts.iter().map(|host| host.preference).collect();
    let kept = u16::try_from(HOSTS_MAX).unwrap();
    assert_eq!(preferences, (0..kept).collect::<Vec<_>>());
}

#[test]
fn a_silent_server_is_no_answer_and_another_one_is_asked() {
    let Some(server) = server() else { return };
    let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let closed = support::free_port();
    let silent = silent.local_addr().expect("a bound socket has an address");
    for nobody in [silent, SocketAddr::from(([127, 0, 0, 1], closed))] {
        let short = Duration::from_millis(200);
        let alone = resolver(&Config { timeout: short, ..config(&[nobody]) });
        let why = "unknown: no answer from the DNS for MX of plain.example";
        assert_eq!(told(&alone.one("plain.example")), why);
        let helped = resolver(&config(&[nobody, server.address()]));
        assert!(told(&helped.one("plain.example")).starts_with("10 mx1.plain.example"));
    }
}

#[test]
fn silent_hosts_are_left_out_and_asked_for_once() {
    let Some(server) = server() else { return };
    let relay = Relay::start(server.address());
    let second = Duration::from_secs(1);
    let resolver = resolver(&Config { timeout: second, attempts: 1, ..config(&[relay.address]) });
    let domains = ["quiet.example", "mute.example", "mute2.example"].map(String::from);
    let answers = resolver.resolve(&domains, &mut |_| {});
    let told: Vec<String> = answers.iter().map(told).collect();
    let silence = "unknown: no answer from the DNS for A of mx.silent.example";
    assert_eq!(told, ["20 mx2.plain.example 127.0.1.3 for 300 s", silence, silence]);
    let asked = relay.asked();
    let silent = asked.iter().filter(|query| query.starts_with("mx.silent.example")).count();
    // Sent up to three times while its answer is awaited, but not for each domain.
    assert!((1..4).contains(&silent), "{asked:?}");
}

#[test]
fn what_is_known_is_not_asked_for_again() {
    let Some(server) = server() else { return };
    let relay = Relay::start(server.address());
    let resolver = resolver(&config(&[relay.address]));
    let mut domains: Vec<String> = Vec::new();
    for _ in 0..100 {
        domains.extend(["plain.example", "Plain.Example", "other.example"].map(String::from));
    }
    domains.extend(["missing.example", "nodata.example", "dangling.example"].map(String::from));
    let answers = resolver.resolve(&domains, &mut |_| {});
    let first = relay.asked();
    let of = |what: &str| first.iter().filter(|query| *query == what).count();
    // A query whose answer is late is sent again, so there may be a few more than one.
    for host in ["mx1.plain.example A", "mx2.plain.example A", "gone.dangling.example A"] {
        assert!((1..10).contains(&of(host)), "{host}: {first:?}");
    }
    assert_eq!(resolver.resolve(&domains, &mut |_| {}), answers);
    assert_eq!(relay.asked(), Vec::<String>::new(), "positive and negative answers are kept");
}

#[test]
fn a_run_knows_its_routes_again() {
    let Some(server) = server() else { return };
    let resolver = resolver(&config(&[server.address()]));
    let names =
        ["plain", "other", "equal", "null", "missing", "dangling", "failing", "literal-first"];
    let domains: Vec<String> = names.iter().map(|name| format!("{name}.example")).collect();
    let answers = resolver.resolve(&domains, &mut |_| {});
    let plain = |hosts: &[&str]| {
        let all = hosts.iter().all(|host| host.ends_with(".plain.example"));
        all.then(|| Claim { provider: "plain".into(), per_site: false })
    };
    let mut orders = BTreeSet::new();
    for seed in 0..40 {
        let mut directory = Directory::new(domains.clone(), seed);
        for (number, answer) in (0..).map(DomainNo).zip(&answers) {
            directory.settle(number, answer, Utc(1_000_000), &plain);
        }
        assert_eq!(Directory::decode(&directory.encode()).as_ref(), Ok(&directory));

        let at = |name: &str| directory.domain(&format!("{name}.example")).expect("it is there");
        let site = |name: &str| directory.place(at(name)).expect("it is routed");
        assert_eq!(site("plain"), site("other"), "preferences make no site");
        assert_ne!(site("plain").0, site("literal-first").0);
        assert_eq!(site("plain").1, site("literal-first").1, "one provider");
        let standings = ["null", "missing", "dangling"].map(|name| directory.standing(at(name)));
        let dead = [Death::NullMx, Death::NoSuchDomain, Death::NoMailHost].map(Standing::Dead);
        assert_eq!(standings, dead.each_ref());
        assert_eq!(directory.unresolved().collect::<Vec<_>>(), [at("failing")]);

        let equal = &directory.sites()[site("equal").0.index()].hosts;
        assert_eq!(equal[3].name, "mx1.plain.example");
        orders.insert(equal.iter().map(|host| host.name.clone()).collect::<Vec<_>>());
    }
    assert_eq!(orders.len(), 6, "equal preferences come in every order");
}

/// Stands before a name server: passes queries on, one at a time, and notes them.
struct Relay {
    address: SocketAddr,
    queries: Receiver<String>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn start(server: SocketAddr) -> Relay {
        let bind = |wait: u64| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
            socket.set_read_timeout(Some(Duration::from_millis(wait))).expect("a fresh socket");
            socket
        };
        let (front, back) = (bind(20), bind(1_000));
        let address = front.local_addr().expect("a bound socket has an address");
        let ended = Arc::new(AtomicBool::new(false));
        let (note, queries) = unbounded();
        let end = Arc::clone(&ended);
        let work = move || {
            let mut packet = [0; 4096];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, client)) = front.recv_from(&mut packet) else { continue };
                let query = question(&packet[..length]);
                let is_silent = query.contains("silent");
                note.send(query).ok();
                if !is_silent
                    && back.send_to(&packet[..length], server).is_ok()
                    && let Ok(length) = back.recv(&mut packet)
                {
                    front.send_to(&packet[..length], client).ok();
                }
            }
        };
        let thread = Some(std::thread::spawn(work));
        Relay { address, queries, ended, thread }
    }

    /// What was asked since this was last called, as `name TYPE`.
    fn asked(&self) -> Vec<String> {
        self.queries.try_iter().collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The first question of a query (RFC 1035 §4.1.2), in lower case.
fn question(packet: &[u8]) -> String {
    let mut labels = Vec::new();
    let mut rest = &packet[12..];
    while rest[0] > 0 {
        let (label, after) = rest[1..].split_at(usize::from(rest[0]));
        labels.push(String::from_utf8_lossy(label).to_lowercase());
        rest = after;
    }
    let kind = match u16::from_be_bytes([rest[1], rest[2]]) {
        1 => "A".to_owned(),
        15 => "MX".to_owned(),
        28 => "AAAA".to_owned(),
        other => other.to_string(),
    };
    format!("{} {kind}", labels.join("."))
}
