//! reply — an SMTP reply, read from whatever pieces the network delivers it in.
//!
//! [`ReplyParser::feed`] takes octets and gives back at most one reply; what follows that reply is
//! left in the caller's slice, so that pipelined replies are taken one by one. The parser bears
//! what real servers send: bare LF as line end, stray CR, missing text, 8-bit octets, lines of
//! more than 512 octets. It holds the kept text of one reply and one unfinished line, nothing else.
//!
//! How it fails: a line that is no reply line or a reply beyond its limits is a [`ReplyFault`].
//! From then on nobody can say which reply belongs to which command, so the fault is final: each
//! further call returns it again and the connection must be dropped.
//!
//! It must not know what a reply means; that is `verdict`.

use std::borrow::Cow;

use crate::limits::{
    REPLY_BYTES_MAX, REPLY_LINE_MAX, REPLY_LINES_MAX, REPLY_TEXT_MAX, RESPONSE_TEXT_MAX,
};
use crate::outcome::Enhanced;

/// One complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The three digits of the last line, 0 to 999. RFC 5321 §4.2.1 wants the same code on every
    /// line; where a server mixes them the last one counts, as Postfix does (`smtp_chat_resp`).
    pub code: u16,
    /// The enhanced status code (RFC 2034) of the first line that starts with one, as it was sent:
    /// its class may contradict `code` (Gmail sends `421-5.7.32`). Only replies 2yz, 4yz and 5yz
    /// carry one.
    pub enhanced: Option<Enhanced>,
    /// The texts of all lines, one `\n` between two, without codes.
    lines: String,
}

impl Reply {
    /// 2yz: done.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz: go on.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4yz: not now.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: no.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// Whether the receiver closes the connection after this reply, whatever it was a reply to: 421
    /// (RFC 5321 §3.8) and 521 (RFC 7504 §2).
    pub fn is_closing(&self) -> bool {
        matches!(self.code, 421 | 521)
    }

    /// The text of each line, trimmed, without the code and without the enhanced status code.
    ///
    /// Valid UTF-8 without control characters but tabs; at most [`REPLY_TEXT_MAX`] octets in all,
    /// what came after that is gone.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.split('\n')
    }

    /// The text as it is judged and recorded: the lines joined by one blank, cut to
    /// [`RESPONSE_TEXT_MAX`] octets.
    pub fn text(&self) -> Cow<'_, str> {
        if !self.lines.contains('\n') {
            return Cow::Borrowed(prefix(&self.lines, RESPONSE_TEXT_MAX));
        }
        let mut text = String::with_capacity(self.lines.len().min(RESPONSE_TEXT_MAX));
        for line in self.lines().filter(|line| !line.is_empty()) {
            let blank = usize::from(!text.is_empty());
            let Some(room) = RESPONSE_TEXT_MAX.checked_sub(text.len() + blank) else { break };
            text.push_str(&" "[..blank]);
            text.push_str(prefix(line, room));
        }
        Cow::Owned(text)
    }
}

/// Why what the receiver sent is no reply. Lines count from 1 within the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    /// A line has more than [`REPLY_LINE_MAX`] octets, line end included.
    #[error("line {line} of the reply is longer than {REPLY_LINE_MAX} octets")]
    LineTooLong {
        /// The line.
        line: usize,
    },
    /// A reply has more than [`REPLY_LINES_MAX`] lines.
    #[error("the reply does not end within {REPLY_LINES_MAX} lines")]
    TooManyLines,
    /// A reply has more than [`REPLY_BYTES_MAX`] octets.
    #[error("the reply does not end within {REPLY_BYTES_MAX} octets")]
    TooLong,
    /// A line does not start with three digits and a blank, a hyphen or its end.
    #[error("line {line} of the reply does not start with a reply code")]
    NotAReply {
        /// The line.
        line: usize,
    },
}

/// Reads replies from a stream of octets.
///
/// Call [`feed`](Self::feed) with what was received, as often as it returns a reply. How the stream
/// is cut into calls makes no difference to what comes out.
#[derive(Debug, Default)]
pub struct ReplyParser {
    /// The line in which the last call broke off.
    unfinished: Vec<u8>,
    /// Finished lines of the reply so far, and their octets.
    count: usize,
    octets: usize,
    enhanced: Option<Enhanced>,
    lines: String,
    fault: Option<ReplyFault>,
}

impl ReplyParser {
    /// A parser at the start of a reply.
    pub fn new() -> ReplyParser {
        ReplyParser::default()
    }

    /// Whether nothing of a next reply has been seen: neither an octet nor a fault.
    pub fn is_idle(&self) -> bool {
        self.count == 0 && self.unfinished.is_empty() && self.fault.is_none()
    }

    /// Takes octets off the front of `bytes` up to the end of one reply.
    ///
    /// `Ok(None)` means that all were taken and the reply goes on.
    ///
    /// # Errors
    /// The stream is not SMTP or a limit is passed; the same fault again at every later call.
    pub fn feed(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, ReplyFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        self.read(bytes).inspect_err(|fault| {
            *self = ReplyParser { fault: Some(*fault), ..ReplyParser::default() };
        })
    }

    fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, ReplyFault> {
        loop {
            let end = memchr::memchr(b'\n', bytes);
            let (taken, rest) = bytes.split_at(end.map_or(bytes.len(), |at| at + 1));
            self.admit(taken.len())?;
            *bytes = rest;
            if end.is_none() {
                self.unfinished.extend_from_slice(taken);
                return Ok(None);
            }
            let reply = if self.unfinished.is_empty() {
                self.line(taken)?
            } else {
                let mut line = std::mem::take(&mut self.unfinished);
                line.extend_from_slice(taken);
                self.line(&line)?
            };
            if reply.is_some() {
                return Ok(reply);
            }
        }
    }

    /// Checks that the line at hand may grow by `more` octets. The nearer of the two limits is the
    /// one that is named, as an octet-by-octet reader would.
    fn admit(&self, more: usize) -> Result<(), ReplyFault> {
        let left = REPLY_BYTES_MAX - self.octets;
        match self.unfinished.len() + more {
            length if length <= REPLY_LINE_MAX.min(left) => Ok(()),
            _ if left < REPLY_LINE_MAX => Err(ReplyFault::TooLong),
            _ => Err(ReplyFault::LineTooLong { line: self.count + 1 }),
        }
    }

    /// Takes one whole line with its line end.
    fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyFault> {
        self.count += 1;
        self.octets += line.len();
        assert!(self.octets <= REPLY_BYTES_MAX, "admit lets no line pass the limit");
        let (code, last, text) = split(line).ok_or(ReplyFault::NotAReply { line: self.count })?;
        self.keep(code, text);
        if last {
            let done = std::mem::take(self);
            return Ok(Some(Reply { code, enhanced: done.enhanced, lines: done.lines }));
        }
        if self.count == REPLY_LINES_MAX {
            return Err(ReplyFault::TooManyLines);
        }
        Ok(None)
    }

    /// Adds a line's text to the reply's, as far as there is room.
    fn keep(&mut self, code: u16, text: &[u8]) {
        if self.count > 1 && self.lines.len() < REPLY_TEXT_MAX {
            self.lines.push('\n');
        }
        let text = self.without_enhanced(code, text.trim_ascii());
        let text = String::from_utf8_lossy(text);
        let text = prefix(&text, REPLY_TEXT_MAX - self.lines.len());
        if text.contains(unprintable) {
            let room = REPLY_TEXT_MAX - self.lines.len();
            let clean = text.replace(unprintable, "\u{fffd}");
            self.lines.push_str(prefix(&clean, room));
        } else {
            self.lines.push_str(text);
        }
    }

    /// The text after its enhanced status code, if it has one that is not at odds with the first.
    fn without_enhanced<'a>(&mut self, code: u16, text: &'a [u8]) -> &'a [u8] {
        match enhanced(text) {
            Some((found, rest))
                if matches!(code / 100, 2 | 4 | 5)
                    && *self.enhanced.get_or_insert(found) == found =>
            {
                rest.trim_ascii_start()
            }
            _ => text,
        }
    }
}

/// Control characters, which neither a terminal nor a report should be sent; tabs are harmless.
fn unprintable(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// Splits a line into its code, whether it is the last of its reply, and its text.
fn split(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let line = line.strip_suffix(b"\n").unwrap_or(line).trim_ascii_end();
    let (digits, rest) = line.split_at_checked(3)?;
    let code = number(digits)?;
    match rest {
        [] => Some((code, true, rest)),
        [b' ', text @ ..] => Some((code, true, text)),
        [b'-', text @ ..] => Some((code, false, text)),
        _ => None,
    }
}

/// The enhanced status code at the start of a text (RFC 3463 §2: class 2, 4 or 5, then subject and
/// detail of one to three digits) and what follows it.
fn enhanced(text: &[u8]) -> Option<(Enhanced, &[u8])> {
    let end = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut parts = word.split(|octet| *octet == b'.');
    let class = match parts.next()? {
        b"2" => 2,
        b"4" => 4,
        b"5" => 5,
        _ => return None,
    };
    let subject = number(parts.next()?)?;
    let detail = number(parts.next()?)?;
    parts.next().is_none().then_some((Enhanced(class, subject, detail), rest))
}

/// A number of one to three digits.
fn number(digits: &[u8]) -> Option<u16> {
    if !(1..=3).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')))
}

/// The first `octets` of a text, cut at a character boundary.
fn prefix(text: &str, octets: usize) -> &str {
    &text[..text.floor_char_boundary(octets)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reply of a stream, the fault that ended it if one did, and what was left over.
    fn all(mut bytes: &[u8]) -> (Vec<Reply>, Option<ReplyFault>, usize) {
        let (mut parser, mut replies) = (ReplyParser::new(), Vec::new());
        loop {
            match parser.feed(&mut bytes) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => return (replies, None, bytes.len()),
                Err(fault) => return (replies, Some(fault), bytes.len()),
            }
        }
    }

    fn reply(code: u16, enhanced: Option<Enhanced>, lines: &str) -> Reply {
        Reply { code, enhanced, lines: lines.to_owned() }
    }

    #[test]
    fn replies_of_all_shapes_are_read() {
        let cases: &[(&[u8], Reply)] = &[
            (b"250 OK\r\n", reply(250, None, "OK")),
            (b"250\r\n", reply(250, None, "")),
            (b"250 \r\n", reply(250, None, "")),
            (b"250 OK\n", reply(250, None, "OK")),
            (b"250 OK\r\r\n", reply(250, None, "OK")),
            (b"250-a\r\n250-\r\n250-b c\r\n250 d\r\n", reply(250, None, "a\n\nb c\nd")),
            (b"550-a\r\n450 b\r\n", reply(450, None, "a\nb")),
            (b"250 2.1.5 OK\r\n", reply(250, Some(Enhanced(2, 1, 5)), "OK")),
            (b"250 2.0.0\r\n", reply(250, Some(Enhanced(2, 0, 0)), "")),
            (
                b"421-4.7.28 unusual rate\r\n421 4.7.28 of mail\r\n",
                reply(421, Some(Enhanced(4, 7, 28)), "unusual rate\nof mail"),
            ),
            (
                b"421-5.7.32 From\r\n421 5.7.32 x\r\n",
                reply(421, Some(Enhanced(5, 7, 32)), "From\nx"),
            ),
            (b"550-no\r\n550 5.7.1 yes\r\n", reply(550, Some(Enhanced(5, 7, 1)), "no\nyes")),
            (b"550-5.1.1 a\r\n550 5.1.2 b\r\n", reply(550, Some(Enhanced(5, 1, 1)), "a\n5.1.2 b")),
            (b"553 not allowed - 5.7.1 [BL23]\r\n", reply(553, None, "not allowed - 5.7.1 [BL23]")),
            (b"354 4.2.1 go\r\n", reply(354, None, "4.2.1 go")),
            (b"250 10.1.1 a\r\n", reply(250, None, "10.1.1 a")),
            (b"250 2.1.1.1 a\r\n", reply(250, None, "2.1.1.1 a")),
            (b"250 2.1111.1 a\r\n", reply(250, None, "2.1111.1 a")),
            (b"250 2..1 a\r\n", reply(250, None, "2..1 a")),
            (b"250 a\rb\0c\x1b[31m\td\r\n", reply(250, None, "a\u{fffd}b\u{fffd}c\u{fffd}[31m\td")),
            (b"250 caf\xe9\r\n", reply(250, None, "caf\u{fffd}")),
            ("550 \u{672a}\r\n".as_bytes(), reply(550, None, "\u{672a}")),
            (b"470 x\r\n", reply(470, None, "x")),
            (b"199 x\r\n", reply(199, None, "x")),
            (b"650 x\r\n", reply(650, None, "x")),
        ];
        for (bytes, expected) in cases {
            let name = String::from_utf8_lossy(bytes);
            assert_eq!(all(bytes), (vec![expected.clone()], None, 0), "{name:?}");
        }
    }

    #[test]
    fn lines_without_a_code_are_no_reply() {
        for bytes in [
            &b"hello\r\n"[..],
            b"\r\n",
            b"25\r\n",
            b"2x0 OK\r\n",
            b"2500 OK\r\n",
            b"250_OK\r\n",
            b"250\tOK\r\n",
            b" 250 OK\r\n",
            b"\xff\xff\xff\n",
        ] {
            let expected = Some(ReplyFault::NotAReply { line: 1 });
            assert_eq!(all(bytes).1, expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(all(b"220-a\r\nwelcome\r\n").1, Some(ReplyFault::NotAReply { line: 2 }));
    }

    #[test]
    fn pipelined_replies_are_taken_one_by_one() {
        let mut bytes: &[u8] = b"250 a\r\n250-b\r\n250 c\r\n354";
        let mut parser = ReplyParser::new();
        assert_eq!(parser.feed(&mut bytes), Ok(Some(reply(250, None, "a"))));
        assert_eq!(bytes, b"250-b\r\n250 c\r\n354");
        assert!(parser.is_idle());
        assert_eq!(parser.feed(&mut bytes), Ok(Some(reply(250, None, "b\nc"))));
        assert_eq!(parser.feed(&mut bytes), Ok(None));
        assert_eq!(bytes, b"");
        assert!(!parser.is_idle());
        assert_eq!(parser.feed(&mut &b" go\r\n"[..]), Ok(Some(reply(354, None, "go"))));
    }

    #[test]
    fn a_reply_may_fill_its_limits_but_not_pass_them() {
        let line = |octets: usize, sep: &str| format!("250{sep}{}\r\n", "x".repeat(octets - 6));
        let cases = [
            (line(REPLY_LINE_MAX, " "), None),
            (line(REPLY_LINE_MAX + 1, " "), Some(ReplyFault::LineTooLong { line: 1 })),
            ("x".repeat(REPLY_LINE_MAX), None),
            ("x".repeat(REPLY_LINE_MAX + 1), Some(ReplyFault::LineTooLong { line: 1 })),
            ("250-a\r\n".repeat(REPLY_LINES_MAX - 1) + "250 b\r\n", None),
            ("250-a\r\n".repeat(REPLY_LINES_MAX), Some(ReplyFault::TooManyLines)),
            (line(REPLY_LINE_MAX, "-").repeat(7) + &line(REPLY_LINE_MAX, " "), None),
            (line(REPLY_LINE_MAX, "-").repeat(8) + "2", Some(ReplyFault::TooLong)),
            (line(4_000, "-").repeat(9), Some(ReplyFault::TooLong)),
        ];
        for (number, (bytes, expected)) in cases.iter().enumerate() {
            assert_eq!(all(bytes.as_bytes()).1, *expected, "case {number}");
        }
    }

    #[test]
    fn a_fault_is_final() {
        let mut parser = ReplyParser::new();
        let fault = Err(ReplyFault::NotAReply { line: 1 });
        assert_eq!(parser.feed(&mut &b"hello\r\n"[..]), fault);
        assert_eq!(parser.feed(&mut &b"250 OK\r\n"[..]), fault);
        assert!(!parser.is_idle());
    }

    #[test]
    fn the_text_is_joined_and_cut_at_a_character() {
        let (replies, ..) = all(b"550-5.1.1 The account \r\n550-5.1.1  \r\n550 5.1.1 is gone\r\n");
        assert_eq!(replies[0].text(), "The account is gone");
        assert!(matches!(all(b"250 OK\r\n").0[0].text(), Cow::Borrowed("OK")));

        let long = format!("550 {}\u{e9}\r\n", "x".repeat(RESPONSE_TEXT_MAX - 1));
        assert_eq!(all(long.as_bytes()).0[0].text(), "x".repeat(RESPONSE_TEXT_MAX - 1));
        let two = format!("550-{}\r\n550 y\r\n", "x".repeat(RESPONSE_TEXT_MAX));
        assert_eq!(all(two.as_bytes()).0[0].text(), "x".repeat(RESPONSE_TEXT_MAX));
    }

    #[test]
    fn the_kept_text_is_bounded_even_when_replacement_makes_it_longer() {
        let line = [b"250-".as_slice(), &[0; 4_000], b"\r\n"].concat();
        let (replies, fault, _) = all(&[line.repeat(7), b"250 z\r\n".to_vec()].concat());
        assert_eq!((replies.len(), fault), (1, None));
        assert!(replies[0].lines.len() <= REPLY_TEXT_MAX, "{}", replies[0].lines.len());
    }

    #[test]
    fn codes_sort_into_their_classes() {
        for (code, expected) in [
            (199, [false; 5]),
            (250, [true, false, false, false, false]),
            (354, [false, true, false, false, false]),
            (421, [false, false, true, false, true]),
            (470, [false, false, true, false, false]),
            (521, [false, false, false, true, true]),
            (650, [false; 5]),
        ] {
            let it = reply(code, None, "");
            let found = [
                it.is_positive(),
                it.is_intermediate(),
                it.is_transient(),
                it.is_permanent(),
                it.is_closing(),
            ];
            assert_eq!(found, expected, "{code}");
        }
    }
}
