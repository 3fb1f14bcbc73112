//! routes — which mail hosts take a domain's mail: what DNS answers mean (RFC 5321 §5.1, RFC 7505),
//! and the directory of a run's domains, sites and groups.
//!
//! `names` knows what may be the name of a mail host, `lookup` turns the records of some look-ups
//! into one [`Answer`], `directory` keeps what the answers say, and `cache` writes it as text into
//! the run directory and reads it again. Nothing fails but that reading ([`CacheError`]): an answer
//! that makes no sense is an answer without hosts. This room must not know sockets, the clock or
//! rate tables; who runs the hosts of a site is told by a function ([`Claim`]).
//!
//! What is decided here, because DNS leaves it open:
//!
//! * A domain is dead only when the DNS said so. SERVFAIL, REFUSED, a referral in place of an
//!   answer and silence leave it [`Standing::Unresolved`]: its mail is deferred, not bounced.
//! * A host whose address could not be had now is left out when another of the domain has one.
//! * An MX name that is an address, `localhost` or no host name at all is a host without address.
//!   An MX that is an alias (RFC 2181 §10.3 forbids it) is followed.
//! * A null MX beside others is ignored (RFC 7505 §3 says it may not be there).
//! * Of a hostile zone at most [`HOSTS_MAX`] hosts and [`ADDRESSES_MAX`] addresses each are used.

mod cache;
mod directory;
mod hosts;
mod lookup;
mod names;

use std::time::Duration;

pub use cache::CacheError;
pub use directory::{Change, Directory, Group};
pub use hosts::Hosts;
pub use lookup::{Found, Mx, Question, Step, both, conclude, first_step};
pub use names::host_name;

use crate::destination::{Host, SiteNo};
use crate::outcome::numbered;

/// Hosts of one site; the most preferred are kept. Ours: the largest sets in use have about a
/// dozen, and nobody waits for the thirtieth.
pub const HOSTS_MAX: usize = 30;
/// Addresses of one host, the first in the answer. Ours: the largest host in use has eight.
pub const ADDRESSES_MAX: usize = 16;
/// No answer is asked for again sooner: five minutes, for which RFC 2308 §7.1 lets failures be
/// remembered.
pub const TTL_MIN: Duration = Duration::from_secs(300);
/// Each answer is asked for again after a day: unbound.conf(5), default of `cache-max-ttl`.
pub const TTL_MAX: Duration = Duration::from_secs(86_400);
/// A domain without mail hosts is asked for again after an hour: RFC 2308 §5 finds that values of
/// one to three hours work well.
pub const TTL_DEAD: Duration = Duration::from_secs(3_600);

/// What the DNS says about the mail of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These take its mail.
    Hosts {
        /// At least one, each with at least one address, in no particular order.
        hosts: Vec<Host>,
        /// How long this holds, as the records say.
        ttl: Duration,
    },
    /// It takes no mail (RFC 7505).
    NullMx,
    /// There is no such name (NXDOMAIN).
    NoSuchDomain,
    /// It has neither mail hosts nor an address, or none of its mail hosts has an address.
    NoMailHost {
        /// Which of these, as a sentence.
        why: String,
    },
    /// Nobody could say: to be asked again later, never a reason to bounce.
    Unknown {
        /// What came in place of an answer, as a sentence.
        why: String,
    },
}

numbered! {
    /// Why no mail can be sent to a domain.
    Death {
        /// There is no such name.
        NoSuchDomain = 1 "no_such_domain",
        /// It says that it takes no mail.
        NullMx = 2 "null_mx",
        /// It has neither mail hosts nor an address, or hosts without addresses.
        NoMailHost = 3 "no_mail_host",
    }
}

/// What is known of one domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its mail goes to this site.
    Routed(SiteNo),
    /// No mail can be sent to it.
    Dead(Death),
    /// Not known yet.
    Unresolved {
        /// As a sentence.
        why: String,
    },
}

/// What a rate table says of the mail hosts of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The provider that runs them all.
    pub provider: String,
    /// Whether its limits hold for each site of its own, not for all its sites together.
    pub per_site: bool,
}
