//! lookup — from the records of a few look-ups to the one [`Answer`] for a domain (RFC 5321 §5.1).
//!
//! The order: ask for the MX records; [`first_step`] says whether that settles it or whose
//! addresses to ask for; ask for these; [`conclude`]. It cannot fail, and it must not know who asks
//! whom.

use std::borrow::Borrow;
use std::net::IpAddr;
use std::time::Duration;

use super::names::{from_labels, host_name};
use super::{ADDRESSES_MAX, Answer, HOSTS_MAX};
use crate::destination::Host;

/// What one look-up brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// At least one record of the kind asked for.
    Records {
        /// In the order of the answer.
        records: Vec<T>,
        /// The shortest time to live among them.
        ttl: Duration,
    },
    /// The name exists and has no such record (NODATA).
    NoData,
    /// There is no such name (NXDOMAIN).
    NoName,
    /// No answer, as a sentence.
    Failed(String),
}

/// One MX record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mx {
    /// `.`, whatever its preference (RFC 7505).
    Null,
    /// A host.
    Host {
        /// Lower is tried first.
        preference: u16,
        /// In the form of [`host_name`].
        name: String,
    },
    /// Something else: an address, mostly. As text.
    Nonsense(String),
}

impl Mx {
    /// The record with this exchange, given by its labels without the root.
    pub fn new(preference: u16, labels: &[&[u8]]) -> Mx {
        match from_labels(labels.iter().copied()) {
            _ if labels.is_empty() => Mx::Null,
            Some(name) => Mx::Host { preference, name },
            None => {
                let labels = labels.iter().map(|label| label.escape_ascii().to_string());
                Mx::Nonsense(labels.collect::<Vec<_>>().join("."))
            }
        }
    }
}

/// Whose addresses are to be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Preference and name, the most preferred first; each name once, at most [`HOSTS_MAX`].
    pub hosts: Vec<(u16, String)>,
    /// Of the MX records; the longest possible when the domain stands in for its missing MX.
    ttl: Duration,
    /// Whether the domain is its own mail host.
    implicit: bool,
}

/// What the MX records of a domain lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask for these addresses.
    Ask(Question),
    /// It is settled.
    Done(Answer),
}

/// Reads the MX records of `domain`.
pub fn first_step(domain: &str, mx: Found<Mx>) -> Step {
    let (records, ttl) = match mx {
        Found::Records { records, ttl } => (records, ttl),
        Found::NoData => return implicit(domain),
        Found::NoName => return Step::Done(Answer::NoSuchDomain),
        Found::Failed(why) => return Step::Done(Answer::Unknown { why }),
    };
    if records.iter().all(|mx| *mx == Mx::Null) {
        return Step::Done(Answer::NullMx);
    }
    let mut nonsense = Vec::new();
    let mut hosts: Vec<(u16, String)> = Vec::new();
    for mx in records {
        match mx {
            Mx::Null => {}
            Mx::Host { preference, name } => hosts.push((preference, name)),
            Mx::Nonsense(text) => nonsense.push(text),
        }
    }
    let hosts = most_preferred(hosts);
    if hosts.is_empty() {
        let text = nonsense.join(", ");
        let why = format!("its MX record has no host name but {text}");
        return Step::Done(Answer::NoMailHost { why });
    }
    Step::Ask(Question { hosts, ttl, implicit: false })
}

/// No MX record: the domain is its own mail host (RFC 5321 §5.1, "implicit MX").
fn implicit(domain: &str) -> Step {
    match host_name(domain) {
        Some(name) => {
            Step::Ask(Question { hosts: vec![(0, name)], ttl: Duration::MAX, implicit: true })
        }
        None => Step::Done(Answer::NoMailHost { why: "it is not the name of a host".into() }),
    }
}

/// Each name once with its lowest preference, in order of preference and name, as many as are used.
pub(super) fn most_preferred(mut hosts: Vec<(u16, String)>) -> Vec<(u16, String)> {
    hosts.sort();
    let mut kept: Vec<(u16, String)> = Vec::new();
    for (preference, name) in hosts {
        if kept.len() < HOSTS_MAX && kept.iter().all(|(_, other)| *other != name) {
            kept.push((preference, name));
        }
    }
    kept
}

/// Joins what A and AAAA look-ups of one name brought, IPv4 first.
///
/// What one of them has counts, whatever became of the other. Addresses that no host can have are
/// dropped.
pub fn both(v4: Found<IpAddr>, v6: Found<IpAddr>) -> Found<IpAddr> {
    match (usable(v4), usable(v6)) {
        (Found::Records { mut records, ttl }, Found::Records { records: more, ttl: other }) => {
            records.extend(more);
            Found::Records { records, ttl: ttl.min(other) }
        }
        (found @ Found::Records { .. }, _) | (_, found @ Found::Records { .. }) => found,
        (failed @ Found::Failed(_), _) | (_, failed @ Found::Failed(_)) => failed,
        (Found::NoName, _) | (_, Found::NoName) => Found::NoName,
        (Found::NoData, Found::NoData) => Found::NoData,
    }
}

/// Without what cannot be the address of another host: RFC 6890 §2.2.2 and §2.2.3 (this host, the
/// broadcast address, IPv4 inside IPv6) and multicast.
fn usable(found: Found<IpAddr>) -> Found<IpAddr> {
    let Found::Records { mut records, ttl } = found else { return found };
    records.retain(|address| match address {
        IpAddr::V4(v4) => !(v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => {
            !(v6.is_unspecified() || v6.is_multicast() || v6.to_ipv4_mapped().is_some())
        }
    });
    if records.is_empty() { Found::NoData } else { Found::Records { records, ttl } }
}

/// Concludes from what the look-ups of `question.hosts` brought, in their order.
pub fn conclude(question: Question, found: &[impl Borrow<Found<IpAddr>>]) -> Answer {
    let Question { hosts: asked, mut ttl, implicit } = question;
    assert_eq!(asked.len(), found.len(), "each host was asked for");
    let names: Vec<String> = asked.iter().map(|(_, name)| name.clone()).collect();
    let mut hosts = Vec::new();
    let mut failed = None;
    for ((preference, name), found) in asked.into_iter().zip(found) {
        match found.borrow() {
            Found::Records { records, ttl: other } => {
                ttl = ttl.min(*other);
                hosts.push(Host { preference, name, addresses: distinct(records) });
            }
            Found::Failed(why) => failed = failed.or(Some(why)),
            Found::NoData | Found::NoName => {}
        }
    }
    match (hosts.is_empty(), failed) {
        (false, _) => Answer::Hosts { hosts, ttl },
        (true, Some(why)) => Answer::Unknown { why: why.clone() },
        (true, None) if implicit => {
            Answer::NoMailHost { why: "it has neither an MX record nor an address".into() }
        }
        (true, None) => {
            let names = names.join(", ");
            Answer::NoMailHost { why: format!("none of its mail hosts has an address: {names}") }
        }
    }
}

/// Each address once, as many as are used.
pub(super) fn distinct(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if kept.len() < ADDRESSES_MAX && !kept.contains(address) {
            kept.push(*address);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(600);

    fn mx(text: &str) -> Found<Mx> {
        let record = |line: &str| {
            let (preference, name) = line.split_once(' ').unwrap();
            let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
            Mx::new(preference.parse().unwrap(), &labels.collect::<Vec<_>>())
        };
        Found::Records { records: text.split(", ").map(record).collect(), ttl: TTL }
    }

    fn asked(domain: &str, found: Found<Mx>) -> Vec<String> {
        match first_step(domain, found) {
            Step::Ask(question) => {
                { question.hosts.iter().map(|(preference, name)| format!("{preference} {name}")) }
                    .collect()
            }
            Step::Done(answer) => vec![format!("{answer:?}")],
        }
    }

    fn addresses(text: &str) -> Found<IpAddr> {
        let records = text.split(' ').map(|address| address.parse().unwrap()).collect();
        Found::Records { records, ttl: Duration::from_secs(60) }
    }

    #[test]
    fn mx_records_lead_to_hosts_or_to_an_end() {
        for (found, expected) in [
            (mx("20 b.example., 10 a.example."), "10 a.example, 20 b.example"),
            (mx("10 A.example., 5 a.EXAMPLE."), "5 a.example"),
            (mx("0 ."), "NullMx"),
            (mx("0 ., 10 ."), "NullMx"),
            (mx("0 ., 10 a.example."), "10 a.example"),
            (mx("10 192.0.2.1., 20 a.example."), "20 a.example"),
            (
                mx("10 192.0.2.1."),
                "NoMailHost { why: \"its MX record has no host name but 192.0.2.1\" }",
            ),
            (Found::NoData, "0 domain.example"),
            (Found::NoName, "NoSuchDomain"),
            (Found::Failed("SERVFAIL".into()), "Unknown { why: \"SERVFAIL\" }"),
        ] {
            assert_eq!(asked("Domain.example", found.clone()).join(", "), expected, "{found:?}");
        }
        assert!(asked("x.localhost", Found::NoData)[0].starts_with("NoMailHost"));
    }

    #[test]
    fn hostile_zones_are_cut() {
        let records = (0..1_000).map(|at| format!("{} h{at}.example.", 2_000 - at));
        let asked = asked("x.example", mx(&records.collect::<Vec<_>>().join(", ")));
        assert_eq!(asked.len(), HOSTS_MAX);
        assert_eq!(asked[0], "1001 h999.example");
        let many: Vec<IpAddr> = (0..64_u8).map(|at| IpAddr::from([192, 0, 2, at])).collect();
        assert_eq!(distinct(&many).len(), ADDRESSES_MAX);
    }

    #[test]
    fn either_kind_of_address_is_enough() {
        let failed = || Found::Failed("SERVFAIL".into());
        let (v4, v6) = (addresses("192.0.2.1"), addresses("2001:db8::1"));
        for (one, other, expected) in [
            (v4.clone(), v6.clone(), addresses("192.0.2.1 2001:db8::1")),
            (v4.clone(), failed(), v4.clone()),
            (Found::NoData, v6.clone(), v6.clone()),
            (Found::NoData, failed(), failed()),
            (Found::NoName, Found::NoName, Found::NoName),
            (Found::NoData, Found::NoData, Found::NoData),
            (addresses("0.0.0.0 255.255.255.255 224.0.0.1"), Found::NoData, Found::NoData),
            (Found::NoData, addresses("::ffff:192.0.2.1 :: ff02::1"), Found::NoData),
            (addresses("0.1.2.3 192.0.2.1"), Found::NoData, v4.clone()),
        ] {
            assert_eq!(both(one, other), expected);
        }
    }

    #[test]
    fn one_host_with_an_address_is_enough() {
        let failed = || Found::Failed("SERVFAIL".to_owned());
        let ask = |domain: &str, mx: Found<Mx>| match first_step(domain, mx) {
            Step::Ask(question) => question,
            Step::Done(answer) => panic!("{answer:?}"),
        };
        let two = || ask("x.example", mx("10 a.example., 20 b.example."));
        let b = Host {
            preference: 20,
            name: "b.example".into(),
            addresses: vec!["192.0.2.2".parse().unwrap()],
        };
        let only_b = Answer::Hosts { hosts: vec![b], ttl: Duration::from_secs(60) };
        let unknown = Answer::Unknown { why: "SERVFAIL".into() };
        assert_eq!(conclude(two(), &[failed(), addresses("192.0.2.2 192.0.2.2")]), only_b);
        assert_eq!(conclude(two(), &[Found::NoName, addresses("192.0.2.2")]), only_b);
        assert_eq!(conclude(two(), &[Found::NoName, failed()]), unknown);
        let why = "none of its mail hosts has an address: a.example, b.example".into();
        let dangling = Answer::NoMailHost { why };
        assert_eq!(conclude(two(), &[Found::NoName, Found::NoData]), dangling);
        let why = "it has neither an MX record nor an address".into();
        let implicit = ask("x.example", Found::NoData);
        assert_eq!(conclude(implicit.clone(), &[Found::NoData]), Answer::NoMailHost { why });
        assert_eq!(conclude(implicit, &[failed()]), unknown);
    }
}
