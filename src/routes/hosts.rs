//! hosts — a file of mail hosts that stands in for the DNS, for some domains or for all.
//!
//! ```text
//! # domain       mail hosts, the most preferred first
//! gmail.com      gmail-smtp-in.l.google.com=192.0.2.1 alt1.gmail-smtp-in.l.google.com=192.0.2.2
//! *              mx.%d=192.0.2.53
//! ```
//!
//! `*` stands for every domain that has no line of its own, `%d` in a host's name for the domain.
//! A host has one address or several with commas between them. All mistakes come at once, each with
//! its line.

use std::collections::HashMap;
use std::net::IpAddr;

use super::{Answer, TTL_MAX};
use crate::address;
use crate::destination::Host;
use crate::problem::{Place, Problem};

/// Mail hosts by domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    domains: HashMap<String, Vec<Host>>,
    others: Option<Vec<Host>>,
}

impl Hosts {
    /// Reads the file's text; `file` is its name for places.
    ///
    /// # Errors
    /// Every mistake.
    pub fn parse(file: &str, text: &str) -> Result<Hosts, Vec<Problem>> {
        let (mut hosts, mut problems) = (Hosts::default(), Vec::new());
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(domain) = words.next() else { continue };
            let place = Place { file: file.to_owned(), line: number, column: 1 };
            match line_of(domain, words) {
                Ok(found) if domain == "*" && hosts.others.is_none() => hosts.others = Some(found),
                Ok(_) if domain == "*" || hosts.domains.contains_key(domain) => {
                    let what = format!("{domain} has a second line");
                    problems.push(Problem::new(place, what, "leave one of them out"));
                }
                Ok(found) => drop(hosts.domains.insert(domain.to_owned(), found)),
                Err((what, help)) => problems.push(Problem::new(place, what, help)),
            }
        }
        if problems.is_empty() { Ok(hosts) } else { Err(problems) }
    }

    /// What the file says of a domain.
    pub fn answer(&self, domain: &str) -> Option<Answer> {
        let hosts = self.domains.get(domain).or(self.others.as_ref())?;
        let named = |host: &Host| Host { name: host.name.replace("%d", domain), ..host.clone() };
        Some(Answer::Hosts { hosts: hosts.iter().map(named).collect(), ttl: TTL_MAX })
    }
}

/// The hosts of one line, or what is wrong with it and what to do.
fn line_of<'a>(
    domain: &str,
    words: impl Iterator<Item = &'a str>,
) -> Result<Vec<Host>, (String, &'static str)> {
    if domain != "*" && address::domain(domain).as_deref() != Ok(domain) {
        let help = "write it in lower case, in A-labels, without a dot at the end";
        return Err((format!("{domain:?} is not a domain"), help));
    }
    let mut hosts = Vec::new();
    for (preference, word) in (0..).zip(words) {
        let help = "write name=address, with commas between several addresses";
        let (name, addresses) =
            word.split_once('=').ok_or_else(|| (format!("{word:?} has no address"), help))?;
        let addresses: Result<Vec<IpAddr>, _> = addresses.split(',').map(str::parse).collect();
        let addresses = addresses.map_err(|_| (format!("{word:?} has a bad address"), help))?;
        let sample = name.replace("%d", "example.com");
        if address::domain(&sample).as_deref() != Ok(&*sample) {
            return Err((format!("{name:?} is not a host name"), help));
        }
        hosts.push(Host { preference, name: name.to_owned(), addresses });
    }
    match hosts.is_empty() {
        true => Err((format!("{domain} has no mail host"), "name at least one, or drop the line")),
        false => Ok(hosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_has_its_own_hosts_or_those_of_all_others() {
        let text = "# ours\nexample.com b.example=192.0.2.1,2001:db8::1 a.example=192.0.2.2\n\
                    * mx.%d=192.0.2.53\n";
        let hosts = Hosts::parse("mx.txt", text).expect("good");
        let Some(Answer::Hosts { hosts: own, .. }) = hosts.answer("example.com") else {
            panic!("it has hosts")
        };
        assert_eq!(own[0].name, "b.example");
        assert_eq!((own[0].addresses.len(), own[1].preference), (2, 1));
        let Some(Answer::Hosts { hosts: other, .. }) = hosts.answer("example.org") else {
            panic!("all others have hosts")
        };
        assert_eq!(other[0].name, "mx.example.org");
        let few = Hosts::parse("mx.txt", "example.com a.example=192.0.2.1").expect("good");
        assert_eq!(few.answer("example.org"), None);
    }

    #[test]
    fn all_mistakes_come_with_their_lines() {
        let text = "example.com\nEXAMPLE.org a.example=192.0.2.1\nexample.net a.example\n\
                    example.net a.example=x\n* a.example=192.0.2.1\n* a.example=192.0.2.1\n";
        let problems = Hosts::parse("mx.txt", text).expect_err("bad");
        let lines: Vec<u32> = problems.iter().map(|problem| problem.place.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 6]);
    }
}
