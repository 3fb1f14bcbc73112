//! fields — the header fields of a finished message, in order, and where its body begins.
//!
//! For messages that this program built: CRLF line endings, every header line with a colon, one
//! empty line before the body. It cannot fail and it never copies.

use memchr::{memchr, memchr_iter};

/// A header field: its name, and its value with the blank after the colon, folds and last CRLF.
pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

/// Splits a message into its header fields and its body.
pub(super) fn split(message: &[u8]) -> (Vec<Field<'_>>, &[u8]) {
    let mut fields = Vec::with_capacity(16);
    let mut start = 0;
    for line_feed in memchr_iter(b'\n', message) {
        let next = line_feed + 1;
        match message.get(next) {
            Some(b' ' | b'\t') => continue,
            _ => fields.extend(field(&message[start..next])),
        }
        if message[next..].starts_with(b"\r\n") {
            return (fields, &message[next + b"\r\n".len()..]);
        }
        start = next;
    }
    (fields, b"")
}

fn field(lines: &[u8]) -> Option<Field<'_>> {
    let colon = memchr(b':', lines)?;
    Some((&lines[..colon], &lines[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_lines_belong_to_their_field() {
        let (fields, body) = split(b"A: 1\r\nB:\r\n 2\r\n\t3: x\r\nC: \r\n\r\nD: no\r\n\r\nE");
        let expected: [Field<'_>; 3] =
            [(b"A", b" 1\r\n"), (b"B", b"\r\n 2\r\n\t3: x\r\n"), (b"C", b" \r\n")];
        assert_eq!(fields, expected);
        assert_eq!(body, b"D: no\r\n\r\nE");
    }

    #[test]
    fn a_message_may_have_no_body() {
        for (message, count) in [(&b"A: 1\r\n\r\n"[..], 1), (b"A: 1\r\n", 1), (b"", 0)] {
            let (fields, body) = split(message);
            assert_eq!((fields.len(), body), (count, &b""[..]));
        }
    }
}
