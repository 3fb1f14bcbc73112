//! mailshot: a batch of mail sent to many, planned before it starts and proved after it ended.
//!
//! One binary takes a campaign file and a recipient list, renders and signs each message into a
//! mapped spool, delivers it by SMTP, and leaves a ledger and Parquet files that say, row by row,
//! who got it and why the others did not.
//!
//! The modules are the rooms of the house, in the order in which a message passes through them.
//! Imports point strictly down the levels below; rooms of one level do not import each other
//! (`tests/tidy.rs` enforces it). `docs/architecture.md` tells the whole story.

#![warn(missing_docs)]

// Level 0: words. They know std and libraries that are tables or searches (idna, memchr, strsim).
pub mod address;
pub mod destination;
pub mod limits;
pub mod outcome;
pub mod problem;
pub mod units;

// Level 1: pure rooms. Bytes and `now` come in, values go out: no clock, no sockets, no threads.
// Two read files that they are given: `recipients` the list by position, `dkim` a key once.
pub mod campaign;
pub mod dkim;
pub mod message;
pub mod rates;
pub mod recipients;
pub mod routes;
pub mod smtp;
pub mod template;

// Level 2: the kernel's side: files that must survive a crash, mapped memory, sockets, deadlines,
// the clock.
pub mod ledger;
pub mod resolver;
pub mod ring;
pub mod rundir;
pub mod spool;

// Level 3: stages. They never import each other.
pub mod account;
pub mod deliver;
pub mod history;
pub mod prepare;

// Level 4: what a run leaves for people to read, and what it would do in virtual time.
pub mod report;
pub mod simulate;

// Level 5: the front.
pub mod cli;
