//! bulk — what is to be asked next for many domains, and which of them are answered by what came.
//!
//! Each domain needs its MX records, then the addresses of its hosts; each host is asked for once,
//! however many domains wait for it. Hosts go before domains, so that few domains are half done at
//! a time. Nothing is asked here, and nothing can fail: whoever asks takes [`Bulk::next`] and gives
//! back what it brought, in any order.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::routes::{self, Answer, Found, Mx, Question, Step};

/// The domains of one call and how far each is.
pub(super) struct Bulk<'a> {
    domains: &'a [String],
    /// The first domain that was not asked for yet.
    next: usize,
    /// Domains whose hosts are being asked for.
    open: HashMap<usize, Open>,
    hosts: Vec<Host>,
    by_name: HashMap<String, usize>,
    /// Hosts to be asked for.
    queue: VecDeque<usize>,
}

/// A domain whose hosts are known by name.
struct Open {
    question: Question,
    /// In the order of the question.
    hosts: Vec<usize>,
    /// How many of them are still to come.
    missing: usize,
}

struct Host {
    name: String,
    /// `None` until it is known.
    found: Option<Found<IpAddr>>,
    /// The domains that wait for it.
    waiting: Vec<usize>,
}

/// One thing to be asked; the number is for [`Brought`].
pub(super) enum Task {
    /// The MX records of a domain, by its name in the form of [`routes::host_name`].
    Exchanges(usize, String),
    /// The addresses of a host.
    Addresses(usize, String),
}

/// What a task brought.
pub(super) enum Brought {
    Exchanges(usize, Found<Mx>),
    Addresses(usize, Found<IpAddr>),
}

impl<'a> Bulk<'a> {
    pub(super) fn new(domains: &'a [String]) -> Bulk<'a> {
        Bulk {
            domains,
            next: 0,
            open: HashMap::new(),
            hosts: Vec::new(),
            by_name: HashMap::new(),
            queue: VecDeque::new(),
        }
    }

    /// What to ask next; `None` when there is nothing now, or nothing more.
    pub(super) fn next(&mut self) -> Option<Task> {
        if let Some(host) = self.queue.pop_front() {
            return Some(Task::Addresses(host, self.hosts[host].name.clone()));
        }
        let at = self.next;
        let domain = self.domains.get(at)?;
        self.next += 1;
        // A name that no host can have is asked for too, and is then not found.
        let name = routes::host_name(domain).unwrap_or_else(|| domain.clone());
        Some(Task::Exchanges(at, name))
    }

    /// Takes what a task brought; tells each answer that follows, with the position of its domain.
    pub(super) fn take(&mut self, brought: Brought, say: &mut dyn FnMut(usize, Answer)) {
        match brought {
            Brought::Exchanges(at, found) => match routes::first_step(&self.domains[at], found) {
                Step::Done(answer) => say(at, answer),
                Step::Ask(question) => self.open(at, question, say),
            },
            Brought::Addresses(host, found) => {
                self.hosts[host].found = Some(found);
                for at in std::mem::take(&mut self.hosts[host].waiting) {
                    let open = self.open.get_mut(&at).expect("who waits for a host is open");
                    open.missing -= 1;
                    if open.missing == 0 {
                        self.close(at, say);
                    }
                }
            }
        }
    }

    /// Waits for the hosts of a domain that are not known yet.
    fn open(&mut self, at: usize, question: Question, say: &mut dyn FnMut(usize, Answer)) {
        let hosts: Vec<usize> = question.hosts.iter().map(|(_, name)| self.host(name)).collect();
        let mut missing = 0;
        for &host in &hosts {
            if self.hosts[host].found.is_none() {
                self.hosts[host].waiting.push(at);
                missing += 1;
            }
        }
        self.open.insert(at, Open { question, hosts, missing });
        if missing == 0 {
            self.close(at, say);
        }
    }

    /// The number of a host, which is queued if it is new.
    fn host(&mut self, name: &str) -> usize {
        if let Some(&known) = self.by_name.get(name) {
            return known;
        }
        let host = self.hosts.len();
        self.hosts.push(Host { name: name.to_owned(), found: None, waiting: Vec::new() });
        self.by_name.insert(name.to_owned(), host);
        self.queue.push_back(host);
        host
    }

    /// Answers for a domain whose hosts are all known.
    fn close(&mut self, at: usize, say: &mut dyn FnMut(usize, Answer)) {
        let open = self.open.remove(&at).expect("it was opened");
        let found = open.hosts.iter().map(|host| self.hosts[*host].found.as_ref());
        let found: Vec<_> = found.map(|found| found.expect("none is missing")).collect();
        say(at, routes::conclude(open.question, &found));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn records<T>(records: Vec<T>) -> Found<T> {
        Found::Records { records, ttl: Duration::from_secs(600) }
    }

    #[test]
    fn each_host_is_asked_for_once_and_before_further_domains() {
        let domains: Vec<String> = (0..4).map(|at| format!("D{at}.example.")).collect();
        let mut bulk = Bulk::new(&domains);
        let mut asked = Vec::new();
        let mut answers = Vec::new();
        // One at a time: d0 and d1 have the hosts a and b, d2 has b only, d3 does not exist.
        while let Some(task) = bulk.next() {
            let brought = match task {
                Task::Exchanges(3, name) => {
                    asked.push(name);
                    Brought::Exchanges(3, Found::NoName)
                }
                Task::Exchanges(at, name) => {
                    let hosts: &[&str] = if at == 2 { &["b"] } else { &["a", "b"] };
                    let mx = |name: &&str| Mx::new(1, &[name.as_bytes(), b"mx"]);
                    asked.push(name);
                    Brought::Exchanges(at, records(hosts.iter().map(mx).collect()))
                }
                Task::Addresses(host, name) => {
                    asked.push(name);
                    Brought::Addresses(host, records(vec![IpAddr::from([192, 0, 2, 1])]))
                }
            };
            bulk.take(brought, &mut |at, answer| answers.push((at, answer)));
        }
        let expected = ["d0.example", "a.mx", "b.mx", "d1.example", "d2.example", "d3.example"];
        assert_eq!(asked, expected);
        let hosts = |answer: &Answer| match answer {
            Answer::Hosts { hosts, .. } => hosts.len(),
            _ => 0,
        };
        let told: Vec<_> = answers.iter().map(|(at, answer)| (*at, hosts(answer))).collect();
        assert_eq!(told, [(0, 2), (1, 2), (2, 1), (3, 0)]);
    }

    #[test]
    fn answers_in_any_order_end_all_domains() {
        let domains: Vec<String> = (0..50).map(|at| format!("d{at}.example")).collect();
        let mut bulk = Bulk::new(&domains);
        let mut tasks = Vec::new();
        let mut answered = vec![0; domains.len()];
        let mut asked = 0;
        loop {
            while let Some(task) = bulk.next() {
                tasks.push(task);
                asked += 1;
            }
            // The last one asked is the first one answered, and those in the middle come last.
            if tasks.is_empty() {
                break;
            }
            let brought = match tasks.swap_remove(tasks.len() / 2) {
                Task::Exchanges(at, _) if at % 5 == 0 => Brought::Exchanges(at, Found::NoData),
                Task::Exchanges(at, _) => {
                    let name = [b'a' + u8::try_from(at % 3).unwrap()];
                    Brought::Exchanges(at, records(vec![Mx::new(1, &[&name, b"mx"])]))
                }
                Task::Addresses(host, _) => Brought::Addresses(host, Found::NoData),
            };
            bulk.take(brought, &mut |at, _| answered[at] += 1);
        }
        assert_eq!(answered, vec![1; 50]);
        assert_eq!(asked, 50 + 3 + 10, "domains, their three hosts, those that are their own host");
    }
}
