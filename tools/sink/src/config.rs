//! config — what a sink listens to, how it behaves and when it ends.
//!
//! Everything is a plain value; [`crate::Sink::bind`] checks what can be wrong.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::checks::Checks;
use crate::reply::Reply;
use crate::rules::Rule;

/// A sink that is wanted.
#[derive(Debug, Clone)]
pub struct Config {
    /// Loopback addresses; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// How it answers there.
    pub behaviour: Behaviour,
    /// More addresses, where it answers in other ways.
    pub providers: Vec<Provider>,
    /// All addresses with port 0 get the same free port, as mail hosts have the same one.
    pub one_port: bool,
    /// Log connections and recipients into this file: see [`crate::attempts`].
    pub attempts: Option<PathBuf>,
    /// What it looks at.
    pub checks: Checks,
    /// End after this time.
    pub run_for: Option<Duration>,
    /// End after this many accepted messages, once all connections are closed or a second has
    /// passed.
    pub expect: Option<u64>,
}

impl Config {
    /// A plain receiver: accepts everything, checks nothing, runs until it is stopped.
    pub fn plain(listen: SocketAddr) -> Config {
        Config {
            listen: vec![listen],
            behaviour: Behaviour::default(),
            providers: Vec::new(),
            one_port: false,
            attempts: None,
            checks: Checks::default(),
            run_for: None,
            expect: None,
        }
    }
}

/// The mail hosts of one provider: addresses that answer alike and count their clients together.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Loopback addresses; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// How they answer.
    pub behaviour: Behaviour,
}

/// How much a provider bears from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pace {
    /// Recipients within any window, refused ones included.
    pub recipients: u64,
    /// The length of the window.
    pub window: Duration,
    /// What is said to the final dot of a message beyond that; a 421 ends the connection.
    pub reply: Reply,
}

impl Pace {
    /// With what Gmail says to a source that is too fast (support.google.com/a/answer/3726730).
    pub fn gmail(recipients: u64, window: Duration) -> Pace {
        const TEXT: &str = "Gmail has detected an unusual rate of email originating from\n\
                            your IP address";
        Pace { recipients, window, reply: Reply::of(421, "4.7.28", TEXT) }
    }
}

/// How a sink answers. The default is a fast and friendly receiver.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// What EHLO offers.
    pub extensions: Extensions,
    /// EHLO is answered with 502, so that the client falls back to HELO.
    pub helo_only: bool,
    /// The first line. Any code but 220 ends the connection.
    pub greeting: Reply,
    /// What happens to which recipient; the first rule that fits decides.
    pub rules: Vec<Rule>,
    /// Misfortune without a reason.
    pub chances: Chances,
    /// How long each reply takes. Commands that were sent meanwhile wait.
    pub delay: Duration,
    /// How much longer the reply to the final dot takes under [`crate::Action::Slow`].
    pub slow: Duration,
    /// Connections above this number get 421.
    pub connections_max: Option<u64>,
    /// Connections above this number from one source get 421.
    pub connections_per_source_max: Option<u64>,
    /// What one source may send.
    pub pace: Option<Pace>,
    /// MAIL gets 421 after this many messages on one connection.
    pub messages_per_connection_max: Option<u64>,
    /// Close instead of saying 421 at [`Behaviour::messages_per_connection_max`].
    pub close_silently: bool,
    /// Close after the reply to each final dot.
    pub close_after_each: bool,
    /// Octets of a message; SIZE offers it, larger ones get 552.
    pub message_bytes_max: u64,
}

impl Default for Behaviour {
    fn default() -> Behaviour {
        Behaviour {
            extensions: Extensions::ALL,
            helo_only: false,
            greeting: Reply::of(220, "", "sink.test ESMTP mailshot-sink"),
            rules: Vec::new(),
            chances: Chances::default(),
            delay: Duration::ZERO,
            slow: Duration::from_secs(2),
            connections_max: None,
            connections_per_source_max: None,
            pace: None,
            messages_per_connection_max: None,
            close_silently: false,
            close_after_each: false,
            // What Gmail's help gives as its limit for incoming mail.
            message_bytes_max: 50 << 20,
        }
    }
}

/// What EHLO offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extensions {
    /// RFC 2920.
    pub pipelining: bool,
    /// RFC 6152.
    pub eight_bit_mime: bool,
    /// RFC 1870.
    pub size: bool,
    /// RFC 2034.
    pub enhanced_status_codes: bool,
}

impl Extensions {
    /// Everything that this receiver knows.
    pub const ALL: Extensions = Extensions {
        pipelining: true,
        eight_bit_mime: true,
        size: true,
        enhanced_status_codes: true,
    };
}

/// Probabilities from 0 to 1, drawn anew for each recipient or message.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Chances {
    /// 451 at RCPT.
    pub defer: f64,
    /// 550 at RCPT.
    pub bounce: f64,
    /// The connection is closed at the final dot and the message not accepted.
    pub drop: f64,
    /// The same seed and the same order of events give the same misfortunes.
    pub seed: u64,
}
