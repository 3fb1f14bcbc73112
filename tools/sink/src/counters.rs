//! counters — what has happened so far, readable while the sink runs.
//!
//! One thread writes, anybody reads; the numbers of one snapshot may be a few messages apart from
//! each other. It must not know why anything happened.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Live counts.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        /// The counts of one moment.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
        pub struct Tallies { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// Reads all counts.
            pub fn snapshot(&self) -> Tallies {
                Tallies { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections served, those refused at the door not counted.
    connections,
    /// Connections refused because there were too many.
    connections_refused,
    /// Connections open now.
    connections_now,
    /// Most connections open at once.
    connections_max,
    /// Messages accepted.
    messages,
    /// Octets of the accepted messages as they came, without the final dot.
    message_bytes,
    /// Most messages accepted over one connection.
    messages_per_connection_max,
    /// Recipients accepted.
    recipients,
    /// Recipients refused with 4xx.
    recipients_deferred,
    /// Recipients refused with 5xx.
    recipients_bounced,
    /// Messages refused with 4xx after the final dot.
    messages_deferred,
    /// Messages refused with 5xx after the final dot.
    messages_bounced,
    /// Messages not accepted because the connection was closed at their final dot.
    dropped_before,
    /// Messages accepted whose reply was withheld.
    dropped_after,
    /// Connections that the client left in the middle of a message.
    aborted,
    /// Lines that are no command, have wrong arguments or come out of turn.
    bad_commands,
    /// Command lines ended by a bare LF.
    bare_lf_commands,
    /// Commands sent before the reply to an earlier one although PIPELINING was not offered.
    unasked_pipelining,
    /// Octets after DATA that did not wait for its 354 (RFC 2920 §3.1 demands that).
    eager_bodies,
}

pub(crate) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

pub(crate) fn raise(counter: &AtomicU64, level: u64) {
    counter.fetch_max(level, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_holds_the_counts() {
        let counters = Counters::default();
        add(&counters.messages, 2);
        raise(&counters.connections_max, 7);
        raise(&counters.connections_max, 3);
        let expected = Tallies { messages: 2, connections_max: 7, ..Tallies::default() };
        assert_eq!(counters.snapshot(), expected);
    }
}
