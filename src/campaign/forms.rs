//! forms — the accepted forms of single values: ids, addresses, domains, routes, dates, shares,
//! header names.
//!
//! Each function takes the text of a value and gives what it means or a sentence; where the
//! sentence can say what to do instead, that stands behind the last `; `.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::limits::{DOMAIN_MAX, LABEL_MAX, LOCAL_PART_MAX, MAILBOX_MAX};
use crate::units::{self, Utc};

use super::{Host, Mailbox, Route, TOKEN_MAX};

/// A campaign's id; it becomes the name of a directory and part of file names.
pub(super) fn id(text: &str) -> Result<String, String> {
    match name(text) {
        Ok(id) if !id.starts_with('.') => Ok(id),
        _ => Err(format!("{text:?} cannot name a directory")),
    }
}

/// The name of a pool, a schedule or a provider.
pub(super) fn name(text: &str) -> Result<String, String> {
    const LENGTH_MAX: usize = 64;
    let fits = (1..=LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'));
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a name")) }
}

/// The parts of `Name <address>` or `address`.
pub(super) struct Named<'a> {
    /// The name and the octet at which it begins.
    pub(super) name: Option<(&'a str, usize)>,
    /// The address.
    pub(super) mailbox: Mailbox,
}

/// `Name <address>` or `address`. Quotes around the whole name are taken off, as in a header.
pub(super) fn named(text: &str) -> Result<Named<'_>, String> {
    let Some(inner) = text.trim_end().strip_suffix('>') else {
        return Ok(Named { name: None, mailbox: address(text.trim())? });
    };
    let (before, in_brackets) =
        inner.rsplit_once('<').ok_or_else(|| format!("{text:?} has a \">\" without a \"<\""))?;
    let start = before.len() - before.trim_start().len();
    let name = before.trim();
    let unquoted = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'))
        .filter(|name| !name.contains('"'));
    let name = match unquoted {
        Some(name) => (name, start + 1),
        None => (name, start),
    };
    let name = Some(name).filter(|(name, _)| !name.is_empty());
    Ok(Named { name, mailbox: address(in_brackets)? })
}

/// A mail address: a dot-atom (RFC 5322 §3.2.3) of ASCII at a domain.
pub(super) fn address(text: &str) -> Result<Mailbox, String> {
    if is_template(text) {
        return Err(format!("{text:?} has a template; an address is the same for all recipients"));
    }
    let (local, domain_text) =
        text.rsplit_once('@').ok_or_else(|| format!("{text:?} is not a mail address"))?;
    let atext = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&c);
    let dot_atom = local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(atext));
    if !dot_atom || local.len() > LOCAL_PART_MAX {
        return Err(format!("{text:?} is not a mail address: {local:?} cannot stand before the @"));
    }
    let domain = domain(domain_text)?;
    if local.len() + 1 + domain.len() > MAILBOX_MAX {
        return Err(format!("{text:?} is longer than {MAILBOX_MAX} octets"));
    }
    Ok(Mailbox { local: local.to_owned(), domain })
}

/// A return path: an address that leaves room for `+` and a token before the `@`.
pub(super) fn return_path(text: &str) -> Result<Mailbox, String> {
    let mailbox = address(text)?;
    let verp = mailbox.local.len() + 1 + TOKEN_MAX;
    if verp > LOCAL_PART_MAX || verp + 1 + mailbox.domain.len() > MAILBOX_MAX {
        return Err(format!(
            "{text:?} leaves no room for the token of each message, up to {TOKEN_MAX} octets and a \
             \"+\""
        ));
    }
    Ok(mailbox)
}

/// A domain of at least two labels, in A-labels and lower case.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let wrong = || format!("{text:?} is not a domain");
    let ascii = idna::domain_to_ascii(text).map_err(|_| wrong())?;
    let top = ascii.rsplit('.').next().unwrap_or_default();
    let fits = labels(&ascii)
        && ascii.contains('.')
        && ascii.len() <= DOMAIN_MAX
        && !top.bytes().all(|c| c.is_ascii_digit());
    if fits { Ok(ascii) } else { Err(wrong()) }
}

/// A DKIM selector: labels separated by dots (RFC 6376 §3.1).
pub(super) fn selector(text: &str) -> Result<String, String> {
    if labels(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{text:?} is not a selector"))
    }
}

/// Whether the text is labels of letters, digits and inner hyphens (RFC 1035 §2.3.1, RFC 1123
/// §2.1).
fn labels(text: &str) -> bool {
    text.split('.').all(|label| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// `mx`, or `host:port`, the host an address or a name of any number of labels.
pub(super) fn route(text: &str) -> Result<Route, String> {
    if text == "mx" {
        return Ok(Route::Mx);
    }
    let wrong = |why: &str| format!("{text:?} is not a host and port: {why}");
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("there is no port"))?;
    let port = port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?;
    Ok(Route::Host { host: self::host(host).map_err(wrong)?, port })
}

fn host(text: &str) -> Result<Host, &'static str> {
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("the \"]\" is missing")?;
        let ip: Ipv6Addr = inner.parse().map_err(|_| "what is in brackets is no IPv6 address")?;
        return Ok(Host::Ip(IpAddr::V6(ip)));
    }
    if text.contains(':') {
        return Err("an IPv6 address needs brackets");
    }
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(IpAddr::V4(ip)));
    }
    // Service names inside container networks may have underscores.
    if text.len() <= DOMAIN_MAX && labels(&text.replace('_', "x")) {
        return Ok(Host::Name(text.to_ascii_lowercase()));
    }
    Err("the host is neither an address nor a name")
}

/// An address to send from; IPv4 in an IPv6 dress is IPv4.
pub(super) fn source(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let ip = ip.to_canonical();
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(format!("{text:?} is not an address that a connection can come from"));
    }
    Ok(ip)
}

/// A resolver: `address` or `address:port`.
pub(super) fn server(text: &str) -> Result<SocketAddr, String> {
    /// RFC 1035 §4.2.
    const DNS_PORT: u16 = 53;
    let server = match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => text.parse().map_err(|_| format!("{text:?} is not the address of a resolver")),
    }?;
    if server.port() == 0 { Err(format!("{text:?} has no port")) } else { Ok(server) }
}

/// A date of the calendar as the beginning of its day, UTC.
pub(super) fn date(text: &str) -> Result<Utc, String> {
    let wrong = || format!("{text:?} is not a date");
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<u16>());
    let mut part = || parts.next().and_then(Result::ok).map(i64::from).ok_or_else(wrong);
    let date = Utc(days(part()?, part()?, part()?) * 86_400_000_000);
    // What is no day of the calendar, or is written in another way, does not come back.
    if text.len() == "YYYY-MM-DD".len() && date.date() == text { Ok(date) } else { Err(wrong()) }
}

/// Year, month and day to days since 1970-01-01 in the proleptic Gregorian calendar.
///
/// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let shifted_month = (month + 9) % 12;
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A percentage in millionths, above 0% and up to 100%, with up to four decimal places.
pub(super) fn share(text: &str) -> Result<u32, String> {
    const PLACES: usize = 4;
    let wrong = || format!("{text:?} is not such a percentage");
    let number = text.strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, places) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(places) || places.len() > PLACES {
        return Err(wrong());
    }
    let millionths = format!("{whole}{places:0<PLACES$}").parse().map_err(|_| wrong())?;
    if (1..=1_000_000).contains(&millionths) { Ok(millionths) } else { Err(wrong()) }
}

/// A word of a command line: one that the system calls will take, perhaps an empty one.
pub(super) fn word(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err("an argument cannot hold a NUL".to_owned());
    }
    Ok(text.to_owned())
}

/// A wait, longer than nothing.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let wait = units::duration(text)?;
    if wait.is_zero() { Err(format!("{text:?} is no time at all")) } else { Ok(wait) }
}

/// A non-empty text.
pub(super) fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A path that the system calls will take.
pub(super) fn path(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err("a path cannot hold a NUL".to_owned());
    }
    filled(text)
}

/// The template of an unsubscribe URL.
pub(super) fn https(text: &str) -> Result<(), String> {
    let scheme = text.get(.."https://".len()).unwrap_or_default();
    if scheme.eq_ignore_ascii_case("https://") {
        Ok(())
    } else {
        Err(format!("{text:?} does not begin with https://, which RFC 8058 section 3.1 demands"))
    }
}

/// The template of an unsubscribe address, perhaps with fields behind a `?`.
pub(super) fn mailto(text: &str) -> Result<(), String> {
    if text.get(.."mailto:".len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:")) {
        return Err(format!("{text:?} has a scheme; leave out \"mailto:\", it is added"));
    }
    if is_template(text) {
        return Ok(());
    }
    let without_fields = text.split('?').next().unwrap_or(text);
    address(without_fields).map(|_| ())
}

fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

/// Headers that a campaign cannot set, each with what to do instead.
const OURS: &[(&str, &str)] = &[
    ("From", "use the key from"),
    ("Sender", "use the key from"),
    ("To", "it is the recipient; the display name is the key to_name"),
    ("Cc", "every recipient gets a separate message, so add a row to the list"),
    ("Bcc", "every recipient gets a separate message, so add a row to the list"),
    ("Subject", "use the key subject"),
    ("Reply-To", "use the key reply_to"),
    ("Return-Path", "use the key return_path"),
    ("Date", "it is the time at which the message is made"),
    ("Message-ID", "it is made from the run and the row, so that a retry is the same message"),
    ("MIME-Version", "it follows from [content]"),
    ("DKIM-Signature", "use [[dkim]]"),
    ("List-Unsubscribe", "use url and mailto under [unsubscribe]"),
    ("List-Unsubscribe-Post", "use one_click under [unsubscribe]"),
    ("X-Mailshot-Key", "mailshot finds its messages again by it"),
    ("Received", "it is written by those who receive the message"),
];

/// The name of a header of the campaign's own: letters, digits and hyphens, and none of ours.
///
/// RFC 5322 §3.6.8 allows more (a dot, which would meet SMTP's transparency rule, an underscore);
/// no header in use needs it and receivers differ in what they make of it.
pub(super) fn header_name(name: &str) -> Result<(), String> {
    /// So that the name, a colon and a word fit the 78 characters of RFC 5322 §2.1.1.
    const LENGTH_MAX: usize = 60;
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(format!("{name:?} cannot name a header; write letters, digits and \"-\""));
    }
    if name.len() > LENGTH_MAX {
        return Err(format!("{name:?} is longer than {LENGTH_MAX} octets"));
    }
    let content = name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("Content-"));
    let ours = OURS.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
    match (content, ours) {
        (true, _) => Err(format!("{name} cannot be set; it follows from [content]")),
        (false, Some((own, instead))) => Err(format!("{own} cannot be set; {instead}")),
        (false, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_dot_atom_and_a_domain() {
        for (text, local, domain) in [
            ("a@b.example", "a", "b.example"),
            ("A.b+c@News.Example.COM", "A.b+c", "news.example.com"),
            ("post@bücher.example", "post", "xn--bcher-kva.example"),
        ] {
            let expected = Mailbox { local: local.to_owned(), domain: domain.to_owned() };
            assert_eq!(address(text), Ok(expected), "{text}");
        }
        let long = format!("{}@b.example", "a".repeat(65));
        for bad in [
            "",
            "a",
            "@b.example",
            "a@",
            "a@b",
            "a@b..example",
            "a@-b.example",
            "a@b.example.",
            "a.@b.example",
            "a b@b.example",
            "\"a\"@b.example",
            "ä@b.example",
            "a@1.2.3.4",
            "a@[1.2.3.4]",
            "a@b_c.example",
            "{{ x }}@b.example",
            "a\n@b.example",
            &long,
        ] {
            assert!(address(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_stand_before_the_brackets() {
        for (text, name) in [
            ("a@b.example", None),
            ("<a@b.example>", None),
            ("Ada <a@b.example>", Some(("Ada", 0))),
            (" \"Lovelace, Ada\" <a@b.example> ", Some(("Lovelace, Ada", 2))),
            ("{{ n or \"A\" }} <a@b.example>", Some(("{{ n or \"A\" }}", 0))),
            ("\"A\" and \"B\" <a@b.example>", Some(("\"A\" and \"B\"", 0))),
        ] {
            assert_eq!(named(text).ok().map(|named| named.name), Some(name), "{text}");
        }
        for bad in ["Ada a@b.example", "a@b.example>", "Ada <>", "Ada <{{ x }}>"] {
            assert!(named(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn return_paths_leave_room_for_the_token() {
        let local = "b".repeat(LOCAL_PART_MAX - 1 - TOKEN_MAX);
        assert_eq!(local.len(), 23, "the key table says so");
        assert!(return_path(&format!("{local}@b.example")).is_ok());
        assert!(return_path(&format!("{local}b@b.example")).is_err_and(|why| why.contains("room")));
    }

    #[test]
    fn routes_are_hosts_with_ports() {
        for text in ["mx", "127.0.0.1:2525", "[::1]:25", "mx.example.com:25", "sink_1:587"] {
            assert_eq!(route(text).map(|route| route.to_string()), Ok(text.to_owned()));
        }
        for (bad, why) in [
            ("mx.example.com", "there is no port"),
            ("mx.example.com:0", "the port is not a number from 1 to 65535"),
            ("mx.example.com:70000", "the port is not a number from 1 to 65535"),
            ("::1:25", "an IPv6 address needs brackets"),
            ("[::1:25", "the \"]\" is missing"),
            ("[1.2.3.4]:25", "what is in brackets is no IPv6 address"),
            (":25", "the host is neither an address nor a name"),
            ("a b:25", "the host is neither an address nor a name"),
        ] {
            assert_eq!(route(bad), Err(format!("{bad:?} is not a host and port: {why}")));
        }
    }

    #[test]
    fn sources_and_resolvers_are_addresses() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(source(text), Ok(ip(expected)));
        }
        for bad in ["", "mail.example", "0.0.0.0", "::", "224.0.0.1", "192.0.2.1:25"] {
            assert!(source(bad).is_err(), "{bad:?}");
        }
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5353", "192.0.2.1:5353"),
            ("::1", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(server(text).map(|server| server.to_string()), Ok(expected.to_owned()));
        }
        for bad in ["", "ns.example", "1.2.3.4:0", "1.2.3.4:x", "[::1]"] {
            assert!(server(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn dates_are_days_of_the_calendar() {
        for good in ["1970-01-01", "2000-02-29", "2026-11-21", "2026-12-31", "2100-03-01"] {
            assert_eq!(date(good).map(Utc::date), Ok(good.to_owned()));
        }
        assert_eq!(date("2026-11-21"), Ok(Utc(1_795_219_200_000_000)));
        for bad in [
            "",
            "2026",
            "2026-1-1",
            "2026-02-29",
            "2026-13-01",
            "2026-00-10",
            "2026-01-00",
            "21.11.2026",
            "2026-11-21T10:00:00Z",
            "+2026-11-21",
            "99999-01-01",
        ] {
            assert!(date(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shares_are_exact_millionths() {
        for (text, millionths) in [
            ("8%", 80_000),
            ("0.3 %", 3_000),
            ("100%", 1_000_000),
            ("12.3456%", 123_456),
            ("0.0001%", 1),
            ("007%", 70_000),
        ] {
            assert_eq!(share(text), Ok(millionths), "{text}");
        }
        for bad in [
            "",
            "8",
            "%",
            "0%",
            "0.00%",
            "100.0001%",
            "101%",
            "-1%",
            "1.%",
            ".5%",
            "1e1%",
            "0.00001%",
            "99999999999%",
        ] {
            assert!(share(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn headers_of_ours_are_refused_in_any_case() {
        for good in ["X-Campaign", "Feedback-ID", "List-Id", "Precedence", "Contents"] {
            assert_eq!(header_name(good), Ok(()), "{good}");
        }
        let long = "X".repeat(61);
        for bad in [
            "",
            "a b",
            "a:b",
            "ä",
            ".x",
            "x\r\ny",
            "subject",
            "CONTENT-TYPE",
            "x-mailshot-key",
            &long,
        ] {
            assert!(header_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_other_forms_have_their_limits() {
        for (good, bad) in [("a.b_c-9", ".a"), ("a", ""), ("-", "a/b")] {
            assert!(id(good).is_ok() && id(bad).is_err(), "{good:?} {bad:?}");
        }
        assert!(id(&"a".repeat(64)).is_ok() && id(&"a".repeat(65)).is_err());
        assert!(selector("S1.mail").is_ok_and(|s| s == "s1.mail") && selector("a_b").is_err());
        assert!(https("HTTPS://x/{{ token }}").is_ok() && https("http://x").is_err());
        assert!(https("ä").is_err() && mailto("ä").is_err());
        for good in ["off@b.example", "off@b.example?subject=off", "off+{{ token }}@b.example"] {
            assert_eq!(mailto(good), Ok(()), "{good}");
        }
        for bad in ["mailto:off@b.example", "off", "MAILTO:off+{{ token }}@b.example"] {
            assert!(mailto(bad).is_err(), "{bad}");
        }
        assert!(path("a/b").is_ok() && path("").is_err() && path("a\0b").is_err());
    }
}
