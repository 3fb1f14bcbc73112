//! smtp — the receiving side's words: its replies read, its capabilities, and what all of it means.
//!
//! [`reply`] turns octets into replies, [`capabilities`] reads the reply to EHLO, [`verdict`] is
//! the one place where a reply or a failure gets a meaning, by the table in [`rules`], and
//! [`session`] is the conversation itself, without its socket. All are pure: octets in, values
//! out, and nothing that a receiver sends makes them panic or grow beyond `limits`.

pub mod capabilities;
pub mod reply;
pub mod rules;
pub mod session;
pub mod verdict;
