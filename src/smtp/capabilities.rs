//! capabilities — what a receiver says it can do, read from its EHLO reply.
//!
//! Keywords are compared without regard to case (RFC 5321 §2.4); unknown and malformed lines are
//! passed over, because a receiver that announces nonsense still takes mail. Nothing here fails.
//! It must not know what the session does with an extension.

use super::reply::Reply;

/// The extensions of one receiver. `Capabilities::default()` is a receiver that answered HELO only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// RFC 2920: commands may be sent without waiting for each reply.
    pub pipelining: bool,
    /// RFC 6152: bodies with octets above 127.
    pub eight_bit_mime: bool,
    /// RFC 1870: `None` when not offered, so that MAIL must carry no `SIZE=`; `Some(0)` when
    /// offered without a fixed limit (§4: `SIZE 0` or no number); else the limit in octets.
    pub size: Option<u64>,
    /// RFC 2034: replies carry enhanced status codes.
    pub enhanced_status_codes: bool,
    /// RFC 3030: BDAT.
    pub chunking: bool,
    /// RFC 6531: addresses beyond ASCII.
    pub smtputf8: bool,
    /// RFC 3461: RET, ENVID, NOTIFY, ORCPT.
    pub dsn: bool,
    /// RFC 3207: STARTTLS.
    pub starttls: bool,
    /// RFC 9422: `LIMITS MAILMAX=n`, messages per connection; at least 1.
    pub mail_max: Option<u32>,
}

impl Capabilities {
    /// What the reply to EHLO announces. Its first line is the receiver's name and a greeting, no
    /// keyword (RFC 5321 §4.1.1.1).
    pub fn of(reply: &Reply) -> Capabilities {
        let mut capabilities = Capabilities::default();
        for line in reply.lines().skip(1) {
            let mut words = line.split_ascii_whitespace();
            if let Some(keyword) = words.next() {
                capabilities.add(keyword, words);
            }
        }
        capabilities
    }

    /// Whether a message of so many octets is within the announced limit.
    pub fn admits(&self, octets: u64) -> bool {
        self.size.is_none_or(|limit| limit == 0 || octets <= limit)
    }

    fn add<'a>(&mut self, keyword: &str, mut parameters: impl Iterator<Item = &'a str>) {
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            "8BITMIME" => self.eight_bit_mime = true,
            "SIZE" => self.size = limit(parameters.next()).or(self.size),
            "ENHANCEDSTATUSCODES" => self.enhanced_status_codes = true,
            "CHUNKING" => self.chunking = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "LIMITS" => self.mail_max = parameters.find_map(mail_max).or(self.mail_max),
            _ => {}
        }
    }
}

/// The limit of a SIZE line; `None` when its parameter is not a number. RFC 1870 §4 allows twenty
/// digits: what does not fit is no limit worth having and saturates.
fn limit(parameter: Option<&str>) -> Option<u64> {
    let Some(digits) = parameter else { return Some(0) };
    if !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// The number of a `MAILMAX=` parameter; zero is refused (RFC 9422 §4 counts from 1).
fn mail_max(parameter: &str) -> Option<u32> {
    let (name, number) = parameter.split_once('=')?;
    if !name.eq_ignore_ascii_case("MAILMAX") {
        return None;
    }
    number.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::super::reply::ReplyParser;
    use super::*;

    fn of(bytes: &[u8]) -> Capabilities {
        let mut parser = ReplyParser::new();
        Capabilities::of(&parser.feed(&mut &bytes[..]).unwrap().unwrap())
    }

    #[test]
    fn a_postfix_announces_all_it_has() {
        let reply = b"250-mx.example.net\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-ETRN\r\n\
            250-STARTTLS\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n\
            250-LIMITS RCPTMAX=100 mailmax=20\r\n250 CHUNKING\r\n";
        let expected = Capabilities {
            pipelining: true,
            eight_bit_mime: true,
            size: Some(10_240_000),
            enhanced_status_codes: true,
            chunking: true,
            smtputf8: true,
            dsn: true,
            starttls: true,
            mail_max: Some(20),
        };
        assert_eq!(of(reply), expected);
    }

    #[test]
    fn odd_lines_neither_count_nor_hurt() {
        let reply =
            b"250-PIPELINING STARTTLS\r\n250-size\r\n250-=AUTH\r\n250-AUTH=LOGIN\r\n250-\r\n\
            250- \t8bitmime\tx\r\n250-\xff\xfe\r\n250-X-DSN\r\n250-LIMITS MAILMAX=0 MAILMAX\r\n\
            250-CHUNKINGS\r\n250 Pipelining\r\n";
        let expected = Capabilities {
            pipelining: true,
            eight_bit_mime: true,
            size: Some(0),
            ..Capabilities::default()
        };
        assert_eq!(of(reply), expected);
        assert_eq!(of(b"250 mx.example.net\r\n"), Capabilities::default());
    }

    #[test]
    fn size_has_three_meanings() {
        for (line, expected, admits_a_megabyte) in [
            ("SIZE", Some(0), true),
            ("SIZE 0", Some(0), true),
            ("SIZE 1000", Some(1000), false),
            ("SIZE 1000000", Some(1_000_000), true),
            ("SIZE 99999999999999999999", Some(u64::MAX), true),
            ("SIZE 10MB", None, true),
            ("SIZE -1", None, true),
            ("SIZE=1000", None, true),
        ] {
            let found = of(format!("250-h\r\n250 {line}\r\n").as_bytes());
            assert_eq!(found.size, expected, "{line}");
            assert_eq!(found.admits(1_000_000), admits_a_megabyte, "{line}");
        }
    }
}
