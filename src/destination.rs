//! destination — the words for where mail goes: domains, the sites that take their mail, the groups
//! that one rate table row governs, and the sources from which we send.
//!
//! All are small numbers into lists that a run fixes at its start (and that only ever grow), so
//! that ten million rows cost four octets each. Nothing here looks anything up or decides anything.

use std::fmt;
use std::net::IpAddr;

macro_rules! ordinal {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into its list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

ordinal! {
    /// A recipient domain of the list, in the order in which the list first names it, from 0.
    DomainNo
}
ordinal! {
    /// A site: the mail hosts that share the mail of some domains, from 0.
    SiteNo
}
ordinal! {
    /// A group: all sites that one operator runs, or one site of its own; the unit of limits.
    GroupNo
}
ordinal! {
    /// One of our sources, in the order of the campaign file, from 0.
    SourceNo
}

/// A mail host of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Lower is tried first (RFC 5321 §5.1); hosts of equal preference in random order.
    pub preference: u16,
    /// Its name: lower case, A-labels, no dot at the end.
    pub name: String,
    /// Its addresses, in the order in which they are to be tried.
    pub addresses: Vec<IpAddr>,
}

/// Mail hosts with the domains' mail in common: connections to a site can carry mail for each of
/// its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The group whose limits hold for it.
    pub group: GroupNo,
    /// At least one, the most preferred first; each has at least one address.
    pub hosts: Vec<Host>,
}
