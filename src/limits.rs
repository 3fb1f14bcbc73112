//! limits — the bounds that guard against others or that several rooms rely on, each with its
//! reason; related ones are checked at compile time.
//!
//! Limits that an operator may want to change are in the campaign file, not here; the size of a
//! buffer that one file alone has stands in that file. `docs/architecture.md` adds all of them up.

use std::time::Duration;

/// Octets of a mailbox in an SMTP path, without the angle brackets (RFC 5321 §4.5.3.1.3 allows 256
/// with them).
pub const MAILBOX_MAX: usize = 254;
/// Octets of a local part (RFC 5321 §4.5.3.1.1).
pub const LOCAL_PART_MAX: usize = 64;
/// Octets of a domain in its A-label form (RFC 1035 §2.3.4: 255 on the wire, 253 as text).
pub const DOMAIN_MAX: usize = 253;
/// Octets of one domain label (RFC 1035 §2.3.4).
pub const LABEL_MAX: usize = 63;

/// Data rows of one list; row numbers are 32 bits and 0 is none.
pub const ROWS_MAX: u32 = u32::MAX - 1;
/// Columns of a list. Exports with more are a mistaken delimiter.
pub const COLUMNS_MAX: usize = 4096;
/// Octets of one row. An unclosed quote would otherwise swallow the rest of the file.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// Octets of a message line without its CRLF (RFC 5322 §2.1.1).
pub const LINE_MAX: usize = 998;
/// Octets of one rendered message: what fits a segment together with its record head.
pub const MESSAGE_MAX: usize = SEGMENT_BYTES - (64 << 10);

/// Octets of one spool segment: about 350 messages of 11 KB, so that a batch keeps all cores busy
/// for some 50 ms.
pub const SEGMENT_BYTES: usize = 4 << 20;
/// Segments of the ring. Three keep both stages busy (one filled, one waiting, one drained); the
/// rest evens out hiccups. 8 × 4 MiB of mapped memory is what the spool adds to the resident set.
pub const SEGMENTS: usize = 8;
/// Octets of spool for each connection: a message waits in it on every connection, and 16 KiB is a
/// large newsletter. 10,000 connections then have 172 MiB.
const SEGMENT_BYTES_PER_CONNECTION: usize = 16 << 10;

/// Segments for so many connections: [`SEGMENTS`], and more when they could not hold one message
/// for each connection and a few batches ahead.
pub fn segments(connections: u32) -> usize {
    let waiting = connections as usize * SEGMENT_BYTES_PER_CONNECTION;
    SEGMENTS.max(waiting.div_ceil(SEGMENT_BYTES) + 3)
}

/// Octets of response text kept per attempt (accounting schema: at most 512).
pub const RESPONSE_TEXT_MAX: usize = 512;
/// Octets of one reply line, CRLF included. RFC 5321 §4.5.3.1.5 says 512; servers exceed it, so
/// this is what we bear.
pub const REPLY_LINE_MAX: usize = 4096;
/// Lines of one reply. Longer ones are an attack or a loop.
pub const REPLY_LINES_MAX: usize = 128;
/// Octets of one whole reply.
pub const REPLY_BYTES_MAX: usize = 32 << 10;
/// Octets of a reply's text that are kept while it is read: room for the longest EHLO reply in the
/// wild (about 1 KB) with a margin; 10,000 hostile receivers together then hold 40 MB, not 320.
pub const REPLY_TEXT_MAX: usize = 4096;

/// How late a timer may fire without costing throughput: a rate bucket lets a message go this much
/// before its ideal time (epoll and io_uring timers tick in milliseconds; a loaded core adds some).
pub const TIMER_SLACK: Duration = Duration::from_millis(10);

/// Connections of one delivery thread.
pub const CONNECTIONS_MAX: u32 = 10_000;

/// TCP connect: what PowerMTA's `connect-timeout` defaults to; RFC 5321 leaves it open.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);
/// Greeting (RFC 5321 §4.5.3.2.1).
pub const BANNER_TIMEOUT: Duration = Duration::from_secs(300);
/// EHLO and HELO; RFC 5321 gives none, the time for MAIL is taken.
pub const EHLO_TIMEOUT: Duration = Duration::from_secs(300);
/// MAIL (RFC 5321 §4.5.3.2.2).
pub const MAIL_TIMEOUT: Duration = Duration::from_secs(300);
/// RCPT (RFC 5321 §4.5.3.2.3).
pub const RCPT_TIMEOUT: Duration = Duration::from_secs(300);
/// DATA initiation (RFC 5321 §4.5.3.2.4).
pub const DATA_TIMEOUT: Duration = Duration::from_secs(120);
/// A block of data (RFC 5321 §4.5.3.2.5); here for the whole send, which is one block to the
/// kernel.
pub const BLOCK_TIMEOUT: Duration = Duration::from_secs(180);
/// The reply to the final dot (RFC 5321 §4.5.3.2.6). Shorter ones make duplicates.
pub const DOT_TIMEOUT: Duration = Duration::from_secs(600);
/// The reply to QUIT. Nothing depends on it.
pub const QUIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without work is kept for the next message.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an outcome may wait before it is synced to disk together with its neighbours.
pub const GROUP_COMMIT: Duration = Duration::from_millis(5);
/// Octets of one ledger file, preallocated. One file becomes one Parquet file.
pub const LEDGER_FILE_BYTES: u64 = 64 << 20;

const _: () = assert!(LOCAL_PART_MAX + 1 + DOMAIN_MAX >= MAILBOX_MAX);
const _: () = assert!(REPLY_LINE_MAX <= REPLY_BYTES_MAX && RESPONSE_TEXT_MAX <= REPLY_LINE_MAX);
const _: () = assert!(RESPONSE_TEXT_MAX <= REPLY_TEXT_MAX && REPLY_TEXT_MAX <= REPLY_BYTES_MAX);
const _: () = assert!(SEGMENTS >= 3);
const _: () = assert!((ROWS_MAX as u64) < u32::MAX as u64);
