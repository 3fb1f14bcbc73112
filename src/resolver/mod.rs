//! resolver — asks the DNS for the mail hosts of domains: hickory-resolver on a thread of its own.
//!
//! It is a stub resolver: the servers it asks must do the recursion. A [`Resolver`] is started
//! once; [`Resolver::resolve`] asks for many domains at a time and returns when each has its
//! [`Answer`]. Starting can fail ([`ResolverError`]); asking cannot, because what the DNS does not
//! say is [`Answer::Unknown`]. No call waits for ever: one look-up takes at most `timeout` ×
//! `attempts`; a domain takes one for its MX records and one for each of its hosts, which run side
//! by side when there is room. What an answer means is decided by `routes`; this room must not know
//! it.
//!
//! Names are asked for as they are: no search list, no hosts file. Truncated answers are asked for
//! again over TCP. Answers, also negative ones, are remembered for their time to live; and within
//! one call each mail host is asked for once, even when its server is silent, so that 100,000
//! domains on the same hosts cost one MX query each: 5 to 11 s in all, of which 4 to 5 s CPU
//! (`benches/resolve.rs`).

mod bulk;
mod client;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, unbounded};

use crate::routes::Answer;
use client::Client;

/// How the DNS is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Servers that do the recursion; none for those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// How long to wait for an answer to one query.
    pub timeout: Duration,
    /// How often a query is sent before the server counts as silent; zero counts as one.
    pub attempts: usize,
    /// Look-ups at a time; zero counts as one. See [`Config::sockets`].
    pub concurrency: usize,
    /// Whether to ask for IPv6 addresses too. A host that has no other is then a host.
    pub ipv6: bool,
}

impl Default for Config {
    /// The system's servers; 5 s and 2 attempts, as resolv.conf(5) has them; IPv4 only; 256
    /// look-ups at a time: a server on this machine is as fast with 32 (measured), but one that has
    /// to ask others, which takes some 50 ms each, can then answer 5,000 a second.
    fn default() -> Config {
        let timeout = Duration::from_secs(5);
        Config { servers: Vec::new(), timeout, attempts: 2, concurrency: 256, ipv6: false }
    }
}

impl Config {
    /// The most sockets that are open at a time while servers are silent: hickory asks two servers
    /// at a time and each three times while it waits, always from another port.
    pub fn sockets(&self) -> usize {
        let queries = if self.ipv6 { 2 } else { 1 };
        self.concurrency.max(1) * queries * 6
    }
}

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// No server is configured, here or on this system.
    #[error("no DNS server is known: {0}")]
    NoServers(String),
    /// The kernel gives no thread or no event queue.
    #[error("the DNS thread cannot start: {0}")]
    Thread(#[from] std::io::Error),
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Domains that have their answer.
    pub done: usize,
    /// Domains asked for.
    pub of: usize,
    /// Those among `done` to which no mail can be sent.
    pub dead: usize,
    /// Those among `done` of which nothing could be learned.
    pub unresolved: usize,
}

/// The thread and the way to it.
#[derive(Debug)]
pub struct Resolver {
    /// `None` once the thread is to end.
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Some domains to be resolved.
struct Job {
    domains: Arc<[String]>,
    /// Answers with the position of their domain.
    answers: Sender<(usize, Answer)>,
}

impl Resolver {
    /// Starts the thread; asks nothing yet.
    ///
    /// # Errors
    /// No server is known, or the kernel gives no thread or event queue.
    pub fn start(config: &Config) -> Result<Resolver, ResolverError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(config)?;
        let concurrency = config.concurrency.max(1);
        let (jobs, queue) = unbounded::<Job>();
        let work = move || {
            for Job { domains, answers } in queue {
                let mut say = |at, answer| {
                    // Whoever asked may have gone with a panic; then nobody wants to know.
                    answers.send((at, answer)).ok();
                };
                runtime.block_on(client.all(&domains, concurrency, &mut say));
            }
        };
        let thread = std::thread::Builder::new().name("dns".into()).spawn(work)?;
        Ok(Resolver { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Asks for the mail hosts of each domain; the answers are in the order of the domains.
    ///
    /// `progress` is called whenever some answers have come, and with the last one.
    pub fn resolve(&self, domains: &[String], progress: &mut dyn FnMut(Progress)) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; domains.len()];
        let mut so_far = Progress { of: domains.len(), ..Progress::default() };
        let incoming = self.ask(domains.into());
        while let Ok(first) = incoming.recv() {
            for (at, answer) in std::iter::once(first).chain(incoming.try_iter()) {
                so_far.done += 1;
                match answer {
                    Answer::Hosts { .. } => {}
                    Answer::Unknown { .. } => so_far.unresolved += 1,
                    Answer::NullMx | Answer::NoSuchDomain | Answer::NoMailHost { .. } => {
                        so_far.dead += 1;
                    }
                }
                answers[at] = Some(answer);
            }
            progress(so_far);
        }
        let lost = || Answer::Unknown { why: "the DNS thread has ended".into() };
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Asks for the mail hosts of one domain.
    pub fn one(&self, domain: &str) -> Answer {
        let mut answers = self.resolve(&[domain.to_owned()], &mut |_| {});
        answers.pop().expect("one answer for each domain")
    }

    /// The answers come as they come; the channel ends with the last one, or with the thread.
    fn ask(&self, domains: Arc<[String]>) -> Receiver<(usize, Answer)> {
        let (answers, incoming) = unbounded();
        if let Some(jobs) = &self.jobs {
            // A thread that has ended drops the job, and with it the channel.
            jobs.send(Job { domains, answers }).ok();
        }
        incoming
    }
}

impl Drop for Resolver {
    /// Waits for the thread, which has nothing to do: calls borrow the resolver.
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
