//! form — whether messages are formed as RFC 5322 and the bulk-sender rules of the large mailbox
//! providers want them.
//!
//! It counts messages, not places. It must not know what the headers say.

use serde::Serialize;

use super::header;

/// Octets of a line without its CRLF: RFC 5322 §2.1.1.
const LINE_MAX: usize = 998;

/// How many messages have which flaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct FormReport {
    /// Messages looked at.
    pub messages: u64,
    /// Messages without any flaw.
    pub flawless: u64,
    /// With a line above 998 octets.
    pub long_lines: u64,
    /// With a CR that no LF follows.
    pub bare_cr: u64,
    /// With an LF that no CR precedes.
    pub bare_lf: u64,
    /// With a NUL.
    pub nul: u64,
    /// Without `Date`.
    pub no_date: u64,
    /// Without `From`.
    pub no_from: u64,
    /// Without `Message-ID`.
    pub no_message_id: u64,
    /// Without `List-Unsubscribe`.
    pub no_list_unsubscribe: u64,
}

/// The check at work.
#[derive(Debug, Default)]
pub(crate) struct Form {
    report: FormReport,
}

impl Form {
    pub(crate) fn inspect(&mut self, message: &[u8]) {
        let ends = line_ends(message);
        let absent = |name| header(message, name).is_none();
        let report = &mut self.report;
        let flaws = [
            (ends.longest > LINE_MAX, &mut report.long_lines),
            (ends.bare_cr, &mut report.bare_cr),
            (ends.bare_lf, &mut report.bare_lf),
            (memchr::memchr(0, message).is_some(), &mut report.nul),
            (absent("Date"), &mut report.no_date),
            (absent("From"), &mut report.no_from),
            (absent("Message-ID"), &mut report.no_message_id),
            (absent("List-Unsubscribe"), &mut report.no_list_unsubscribe),
        ];
        let mut flawless = true;
        for (flawed, count) in flaws {
            *count += u64::from(flawed);
            flawless &= !flawed;
        }
        report.messages += 1;
        report.flawless += u64::from(flawless);
    }

    pub(crate) fn report(&self) -> FormReport {
        self.report
    }
}

struct LineEnds {
    longest: usize,
    bare_cr: bool,
    bare_lf: bool,
}

fn line_ends(message: &[u8]) -> LineEnds {
    let (mut longest, mut start, mut pairs, mut feeds) = (0, 0, 0, 0);
    for feed in memchr::memchr_iter(b'\n', message) {
        let paired = feed > start && message[feed - 1] == b'\r';
        feeds += 1;
        pairs += usize::from(paired);
        longest = longest.max(feed - start - usize::from(paired));
        start = feed + 1;
    }
    let returns = memchr::memchr_iter(b'\r', message).count();
    let longest = longest.max(message.len() - start);
    LineEnds { longest, bare_cr: returns > pairs, bare_lf: feeds > pairs }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Date: d\r\nFROM: f\r\nMessage-Id: <m>\r\nList-Unsubscribe: <https://x.test>\r\n";

    fn report(message: &str) -> FormReport {
        let mut form = Form::default();
        form.inspect(message.as_bytes());
        form.report()
    }

    #[test]
    fn each_flaw_is_counted_once_per_message() {
        let clean = FormReport { messages: 1, ..FormReport::default() };
        let longest = "x".repeat(998);
        let cases = [
            (format!("{HEAD}\r\n{longest}\r\n"), FormReport { flawless: 1, ..clean }),
            (format!("{HEAD}\r\n{longest}x\r\n"), FormReport { long_lines: 1, ..clean }),
            (format!("{HEAD}\r\n{longest}x"), FormReport { long_lines: 1, ..clean }),
            (format!("{HEAD}\r\na\rb\r\rc\r\n"), FormReport { bare_cr: 1, ..clean }),
            (format!("{HEAD}\r\na\nb\n"), FormReport { bare_lf: 1, ..clean }),
            (format!("{HEAD}\r\na\0b\0\r\n"), FormReport { nul: 1, ..clean }),
            (
                "X: y\r\n\r\nFrom: f\r\n".into(),
                FormReport {
                    no_date: 1,
                    no_from: 1,
                    no_message_id: 1,
                    no_list_unsubscribe: 1,
                    ..clean
                },
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(report(&message), expected, "{message:?}");
        }
    }
}
