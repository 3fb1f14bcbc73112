//! mailshot-sink — an SMTP receiver for tests: faster than any sender, suspicious, and
//! ill-behaved on request.
//!
//! It is the independent witness of what a sender did, so it shares no code with the sender. It
//! listens on loopback addresses only and keeps no mail unless told to. One thread serves all
//! connections; [`Sink::run`] is that thread, and [`Sink::counters`] can be read from others.
//!
//! Measured with `sink --self-test 500000`, messages of 10 KB, plain mode, on a shared machine:
//! 670,000 messages per second of processor time when flooded, 390,000 from a client that waits for
//! each 354; 12,000 open connections took 12 MB.
//!
//! It is not a mail server: no TLS, no BDAT, no queue, no delivery.
//!
//! `wire` cuts octets into command lines and bodies, `command` understands a line, `session` holds
//! a conversation, `receiver` decides what happens to recipients and messages, `guard` keeps what a
//! provider knows of its clients, `checks` look at messages, `server` has the sockets. `attempts`
//! logs what came when, and `windows` proves from such a log that limits were kept.

pub mod attempts;
pub mod checks;
pub mod config;
pub mod selftest;
pub mod windows;

mod chance;
mod clock;
mod command;
mod counters;
mod guard;
mod receiver;
mod reply;
mod report;
mod rules;
mod server;
mod session;
mod time;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use checks::dkim::{DomainKeys, NoKey};
pub use checks::{Checks, DkimCheck};
pub use config::{Behaviour, Chances, Config, Extensions, Pace, Provider};
pub use counters::{Counters, Tallies};
pub use reply::{NoReply, Reply};
pub use report::{Ended, Report};
pub use rules::{Action, NoRule, Rule};
pub use time::{pace, time};

use attempts::Log;
use checks::Inspection;
use clock::{cpu_time, now};
use receiver::Receiver;
use server::{Listener, Server, Until};

/// Connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`, by default
/// 4096.
const BACKLOG: i32 = 4096;

/// A receiver that listens.
#[derive(Debug)]
pub struct Sink {
    server: Server,
    until: Until,
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
}

/// Why a sink cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address reaches beyond this machine.
    #[error("{0} is no loopback address, and a sink listens on nothing else")]
    NotLoopback(SocketAddr),
    /// The socket says no.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The checks or the event queue say no.
    #[error("preparing: {0}")]
    Prepare(#[from] io::Error),
}

impl Sink {
    /// Listens, so that clients can connect before [`Sink::run`]. It raises the process's limit of
    /// open files as far as it may.
    ///
    /// # Errors
    /// If an address is not loopback or not free, or the directory for messages cannot be made.
    pub fn bind(config: Config) -> Result<Sink, BindError> {
        raise_file_limit();
        let listeners = listeners(&config)?;
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        let counters = Arc::new(Counters::default());
        let inspection = Inspection::new(&config.checks)?;
        let log = config.attempts.as_deref().map(Log::create).transpose()?;
        let providers = config.providers.into_iter().map(|provider| provider.behaviour);
        let behaviours = std::iter::once(config.behaviour).chain(providers).collect();
        let receiver = Receiver::new(behaviours, inspection, log, Arc::clone(&counters));
        let until = Until { time: config.run_for, messages: config.expect };
        Ok(Sink { server: Server::new(listeners, receiver)?, until, addresses, counters })
    }

    /// Where it listens, in the order of the configuration, with the ports that were free: first
    /// [`Config::listen`], then the providers.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The counts, readable while it runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves on this thread until `stop` is set (noticed within 20 ms), the time is up or the
    /// expected messages have come. Connections still open are closed.
    pub fn run(mut self, stop: &AtomicBool) -> Report {
        let (started, cpu_started) = (now(), cpu_time());
        let ended = self.server.run(stop, &self.until);
        let (seconds, cpu_seconds) = (now() - started, cpu_time() - cpu_started);
        let receiver = self.server.into_receiver();
        let log_error = receiver.log.and_then(|log| log.finish().err());
        let inspection = receiver.inspection;
        Report {
            listen: self.addresses,
            ended,
            seconds: seconds.as_secs_f64(),
            cpu_seconds: cpu_seconds.as_secs_f64(),
            counts: self.counters.snapshot(),
            log_error: log_error.map(|error| error.to_string()),
            keys: inspection.keys.map(|check| check.report()),
            dkim: inspection.dkim.map(|check| check.report()),
            form: inspection.form.map(|check| check.report()),
            rate: inspection.rate.map(|check| check.report()),
            store: inspection.store.map(|check| check.report()),
        }
    }
}

/// Free ports that are tried until one is free on all addresses.
const PORTS_TRIED: u32 = 20;

fn listeners(config: &Config) -> Result<Vec<Listener>, BindError> {
    let own = config.listen.iter().map(|address| (0, *address));
    let others = (1..).zip(&config.providers).flat_map(|(number, provider)| {
        provider.listen.iter().map(move |address| (number, *address))
    });
    let wanted: Vec<(usize, SocketAddr)> = own.chain(others).collect();
    let mut tries = if config.one_port { PORTS_TRIED } else { 1 };
    loop {
        tries -= 1;
        match listen_at_all(&wanted, config.one_port) {
            Err(BindError::Listen { source, .. })
                if tries > 0 && source.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
}

fn listen_at_all(
    wanted: &[(usize, SocketAddr)],
    one_port: bool,
) -> Result<Vec<Listener>, BindError> {
    let mut listeners: Vec<Listener> = Vec::with_capacity(wanted.len());
    let mut port = 0;
    for &(provider, mut address) in wanted {
        let free = address.port() == 0;
        if free {
            address.set_port(port);
        }
        let (socket, address) = listen(address)?;
        if free && one_port {
            port = address.port();
        }
        listeners.push(Listener { socket, address, provider });
    }
    Ok(listeners)
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BindError> {
    if !address.ip().is_loopback() {
        return Err(BindError::NotLoopback(address));
    }
    let socket = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        // Accepted sockets inherit it (tcp(7)): a reply never waits for the one before it.
        rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
        rustix::net::listen(&listener, BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    socket().map_err(|source| BindError::Listen { address, source })
}

/// Raises the soft limit to the hard one. If that is refused, the soft one has to do.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
