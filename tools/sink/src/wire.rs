//! wire — cuts the octets of a connection into command lines and message bodies, however they
//! were split on their way.
//!
//! The caller passes what it received and takes pieces until nothing is left; after DATA it calls
//! [`Wire::expect_body`]. Pieces borrow from the input where they can: a message that arrived in
//! one read is never copied. Nothing fails; an endless command line is a piece of its own. It must
//! not know commands, replies or sockets.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Octets of a command line. RFC 5321 §4.5.3.1.4 demands 512 and its extensions add to that; no
/// honest line comes near this.
const LINE_MAX: usize = 4096;

/// End of a message body: RFC 5321 §4.1.1.4.
const END: &[u8; 5] = b"\r\n.\r\n";
/// What the end adds to a message, whose last line keeps its own CRLF.
pub(crate) const DOT: usize = b".\r\n".len();

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END));

/// What was found at the front of the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The input ended within a command line; it is kept here.
    Nothing,
    /// A command line without its line end. A bare LF ended it if `bare` is set.
    Line { text: &'a [u8], bare: bool },
    /// A command line without an end in sight; its octets are forgotten.
    Overlong,
    /// Octets of a body, with more to come.
    Body(&'a [u8]),
    /// The last octets of a body. All its pieces together end in [`DOT`] octets of end mark.
    End(&'a [u8]),
}

/// Where in the conversation the next octet belongs.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The beginning of a command line.
    line: Vec<u8>,
    /// `line` was handed out.
    spent: bool,
    /// How many octets of [`END`] the body ended in so far, if a body is expected.
    body: Option<usize>,
}

impl Wire {
    /// From here on octets are a body, until its end.
    pub(crate) fn expect_body(&mut self) {
        // The CRLF of the DATA line counts as the one before the dot (RFC 5321 §4.1.1.4).
        self.body = Some(2);
    }

    /// Whether a body has begun and not ended.
    pub(crate) fn in_body(&self) -> bool {
        self.body.is_some()
    }

    /// The next piece and how many octets of `input` it took.
    pub(crate) fn next<'a>(&'a mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        match self.body {
            Some(matched) => self.next_of_body(matched, input),
            None => self.next_line(input),
        }
    }

    fn next_of_body<'a>(&mut self, matched: usize, input: &'a [u8]) -> (usize, Piece<'a>) {
        match find_end(matched, input) {
            Ok(end) => {
                self.body = None;
                (end, Piece::End(&input[..end]))
            }
            Err(matched) => {
                self.body = Some(matched);
                (input.len(), Piece::Body(input))
            }
        }
    }

    fn next_line<'a>(&'a mut self, input: &'a [u8]) -> (usize, Piece<'a>) {
        if std::mem::take(&mut self.spent) {
            self.line.clear();
        }
        let Some(end) = memchr::memchr(b'\n', input) else {
            self.line.extend_from_slice(input);
            if self.line.len() > LINE_MAX {
                self.line.clear();
                return (input.len(), Piece::Overlong);
            }
            return (input.len(), Piece::Nothing);
        };
        if self.line.is_empty() {
            return (end + 1, line(&input[..end]));
        }
        self.line.extend_from_slice(&input[..end]);
        self.spent = true;
        (end + 1, line(&self.line))
    }
}

fn line(octets: &[u8]) -> Piece<'_> {
    match octets {
        octets if octets.len() > LINE_MAX => Piece::Overlong,
        [text @ .., b'\r'] => Piece::Line { text, bare: false },
        text => Piece::Line { text, bare: true },
    }
}

/// Where the body ends in `input`, after its first `matched` octets came before; or how many
/// octets of the end the input ends in.
fn find_end(mut matched: usize, input: &[u8]) -> Result<usize, usize> {
    let mut at = 0;
    while matched > 0 {
        let Some(&octet) = input.get(at) else { return Err(matched) };
        matched = follow(matched, octet);
        at += 1;
        if matched == END.len() {
            return Ok(at);
        }
    }
    if let Some(found) = FINDER.find(&input[at..]) {
        return Ok(at + found + END.len());
    }
    let tail = &input[at.max(input.len().saturating_sub(END.len() - 1))..];
    Err(tail.iter().fold(0, |matched, &octet| follow(matched, octet)))
}

/// One step of the search for [`END`] by Knuth, Morris and Pratt: a CR is always its first octet
/// again, unless it is the fourth.
fn follow(matched: usize, octet: u8) -> usize {
    if END.get(matched) == Some(&octet) { matched + 1 } else { usize::from(octet == b'\r') }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A conversation put together again: lines, and bodies as a whole.
    #[derive(Debug, PartialEq, Eq, Clone)]
    enum Whole {
        Line(Vec<u8>, bool),
        Overlong,
        Body(Vec<u8>),
        Unfinished(Vec<u8>),
    }

    fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<Whole> {
        let mut wire = Wire::default();
        let (mut wholes, mut body) = (Vec::new(), Vec::new());
        for mut chunk in chunks {
            while !chunk.is_empty() {
                let (used, piece) = wire.next(chunk);
                let mut data = false;
                match piece {
                    Piece::Nothing => {}
                    Piece::Line { text, bare } => {
                        data = text == b"DATA";
                        wholes.push(Whole::Line(text.to_vec(), bare));
                    }
                    Piece::Overlong => wholes.push(Whole::Overlong),
                    Piece::Body(part) => body.extend_from_slice(part),
                    Piece::End(part) => {
                        body.extend_from_slice(part);
                        body.truncate(body.len() - DOT);
                        wholes.push(Whole::Body(std::mem::take(&mut body)));
                    }
                }
                if data {
                    wire.expect_body();
                }
                chunk = &chunk[used..];
            }
        }
        if wire.in_body() {
            wholes.push(Whole::Unfinished(body));
        }
        wholes
    }

    fn text(line: &str) -> Whole {
        Whole::Line(line.into(), false)
    }

    #[test]
    fn conversations_are_cut_at_their_seams() {
        let body = |octets: &str| Whole::Body(octets.into());
        let cases = [
            ("NOOP\r\n", vec![text("NOOP")]),
            ("A\r\n\r\nB\n", vec![text("A"), text(""), Whole::Line("B".into(), true)]),
            ("DATA\r\n.\r\nQUIT\r\n", vec![text("DATA"), body(""), text("QUIT")]),
            ("DATA\r\nx\r\n.\r\nQUIT\r\n", vec![text("DATA"), body("x\r\n"), text("QUIT")]),
            ("DATA\r\n..\r\n.\r\n", vec![text("DATA"), body("..\r\n")]),
            ("DATA\r\nx\r\n.\r.\r\n\r\n.\r\n", vec![text("DATA"), body("x\r\n.\r.\r\n\r\n")]),
            ("DATA\r\nx\r\r\n.\r\n", vec![text("DATA"), body("x\r\r\n")]),
            ("DATA\r\nx\n.\n", vec![text("DATA"), Whole::Unfinished("x\n.\n".into())]),
            ("DATA\r\nx\r\n.\n", vec![text("DATA"), Whole::Unfinished("x\r\n.\n".into())]),
        ];
        for (octets, expected) in cases {
            assert_eq!(read([octets.as_bytes()]), expected, "{octets:?}");
        }
    }

    #[test]
    fn an_endless_line_is_let_go() {
        let long = vec![b'x'; LINE_MAX + 1];
        assert_eq!(read([&*long]), [Whole::Overlong]);
        assert_eq!(read([&*long, b"\r\n", b"NOOP\r\n"])[1..], [text(""), text("NOOP")]);
    }

    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let atom = prop_oneof![
            Just("DATA\r\n"),
            Just("NOOP\r\n"),
            Just("\r"),
            Just("\n"),
            Just("."),
            Just("\r\n.\r\n"),
            Just("ab"),
        ];
        prop::collection::vec(atom, 0..40).prop_map(|atoms| atoms.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_split_reads_like_the_whole(
            octets in conversation(),
            sizes in prop::collection::vec(1_usize..7, 1..20),
        ) {
            let mut rest = &*octets;
            let mut chunks = Vec::new();
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break }
                let (chunk, more) = rest.split_at((*size).min(rest.len()));
                chunks.push(chunk);
                rest = more;
            }
            prop_assert_eq!(read(chunks), read([&*octets]));
        }

        #[test]
        fn the_end_is_where_a_plain_search_finds_it(octets in conversation()) {
            let whole = [b"\r\n", &*octets].concat();
            let plain = whole.windows(END.len()).position(|window| window == END);
            let expected = plain.map(|at| at + END.len() - 2);
            prop_assert_eq!(find_end(2, &octets).ok(), expected);
        }
    }
}
