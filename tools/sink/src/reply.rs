//! reply — what the receiver says: a code, an enhanced code and a text of one or more lines.
//!
//! It must not know when which reply is due.

use std::borrow::Cow;
use std::io::Write;
use std::str::FromStr;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Cow<'static, str>,
    text: Cow<'static, str>,
}

/// A text that is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a reply such as \"451 4.7.1 try again later\", found {0:?}")]
pub struct NoReply(String);

impl Reply {
    /// A reply known when the program was written. An empty `enhanced` is left out.
    pub(crate) const fn of(code: u16, enhanced: &'static str, text: &'static str) -> Reply {
        Reply { code, enhanced: Cow::Borrowed(enhanced), text: Cow::Borrowed(text) }
    }

    /// A greeting of any code from 200 to 599: greetings have no enhanced code (RFC 2034 §3).
    ///
    /// # Errors
    /// If the code is out of range or the text has control characters.
    pub fn greeting(code: u16, text: &str) -> Result<Reply, NoReply> {
        let line = format!("{code} {text}");
        if !(200..600).contains(&code) || text.chars().any(char::is_control) {
            return Err(NoReply(line));
        }
        Ok(Reply { code, enhanced: Cow::Borrowed(""), text: Cow::Owned(text.to_owned()) })
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Appends its lines, each with its enhanced code if that was offered (RFC 2034 §4).
    pub(crate) fn push(&self, out: &mut Vec<u8>, enhanced: bool) {
        let enhanced = if enhanced { &*self.enhanced } else { "" };
        let space = if enhanced.is_empty() { "" } else { " " };
        let mut rest = Some(&*self.text);
        while let Some(text) = rest {
            let (line, dash, more) = match memchr::memchr(b'\n', text.as_bytes()) {
                Some(end) => (&text[..end], '-', Some(&text[end + 1..])),
                None => (text, ' ', None),
            };
            // Without a String in between: a reply to each command is most of what is written.
            write!(out, "{}{dash}{enhanced}{space}{line}\r\n", self.code)
                .expect("a vector takes everything");
            rest = more;
        }
    }
}

impl FromStr for Reply {
    type Err = NoReply;

    fn from_str(line: &str) -> Result<Reply, NoReply> {
        let refused = || NoReply(line.to_owned());
        let (code, rest) = line.split_once(' ').unwrap_or((line, ""));
        let code = code.parse().map_err(|_| refused())?;
        let (enhanced, text) = match rest.split_once(' ').unwrap_or((rest, "")) {
            (word, text) if is_enhanced(word) => (word, text),
            _ => ("", rest),
        };
        Reply::greeting(code, text)
            .map(|reply| Reply { enhanced: Cow::Owned(enhanced.to_owned()), ..reply })
            .map_err(|_| refused())
    }
}

/// Three numbers with dots, the first 2, 4 or 5 (RFC 3463 §2).
fn is_enhanced(word: &str) -> bool {
    let numbers: Vec<Option<u16>> = word.split('.').map(|number| number.parse().ok()).collect();
    matches!(*numbers, [Some(2 | 4 | 5), Some(0..1000), Some(0..1000)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> (String, String) {
        let reply: Reply = text.parse().unwrap();
        let line = |enhanced| {
            let mut out = Vec::new();
            reply.push(&mut out, enhanced);
            String::from_utf8(out).unwrap()
        };
        (line(true), line(false))
    }

    #[test]
    fn replies_are_written_with_and_without_their_enhanced_code() {
        let cases = [
            ("451 4.7.1 not now", "451 4.7.1 not now\r\n", "451 not now\r\n"),
            ("550 no such user", "550 no such user\r\n", "550 no such user\r\n"),
            ("421 4.3 odd", "421 4.3 odd\r\n", "421 4.3 odd\r\n"),
            ("452 4.2.2", "452 4.2.2 \r\n", "452 \r\n"),
            ("554", "554 \r\n", "554 \r\n"),
        ];
        for (text, with, without) in cases {
            assert_eq!(lines(text), (with.into(), without.into()), "{text}");
        }
    }

    #[test]
    fn replies_may_have_several_lines() {
        let reply = Reply::of(421, "4.7.28", "slow\ndown");
        let mut out = Vec::new();
        reply.push(&mut out, true);
        assert_eq!(out, b"421-4.7.28 slow\r\n421 4.7.28 down\r\n");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "abc", "99 x", "600 x", "451 4.7.1 a\r\nb", "-1 x"] {
            assert_eq!(text.parse::<Reply>(), Err(NoReply(text.into())), "{text:?}");
        }
    }
}
