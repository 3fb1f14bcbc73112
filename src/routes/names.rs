//! names — what may be the name of a mail host, in the one form in which it is compared: lower
//! case, A-labels, no dot at the end.
//!
//! MX records in use have underscores, which RFC 952 forbids, and raw UTF-8, which nothing allows;
//! both are taken as they are meant. What is no name of a host (an address, a label with a blank,
//! `localhost`) is `None`: nobody can be reached by it, or only ourselves.

use crate::limits::{DOMAIN_MAX, LABEL_MAX};

/// The name of a host from the labels of a DNS name, the root not among them.
pub(super) fn from_labels<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    let mut name = String::new();
    for label in labels {
        let text = std::str::from_utf8(label).ok()?;
        if text.contains('.') {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(text);
    }
    if name.is_ascii() {
        name.make_ascii_lowercase();
    } else {
        name = idna::domain_to_ascii(&name).ok()?;
    }
    is_host(&name).then_some(name)
}

/// The name of a host from text, with or without a dot at the end; `None` if no host can have it.
pub fn host_name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    from_labels(text.split('.').map(str::as_bytes))
}

/// Whether a lower-case ASCII name can be that of a mail host.
fn is_host(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    // No top-level domain is a number (RFC 3696 §2): this was meant as an IPv4 address.
    let address = last.bytes().all(|octet| octet.is_ascii_digit());
    // RFC 6761 §6.3: always this machine.
    let ourselves = last == "localhost";
    name.len() <= DOMAIN_MAX && !address && !ourselves && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let known = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'_';
    !label.is_empty() && label.len() <= LABEL_MAX && label.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_hosts_have_one_form() {
        for (text, expected) in [
            ("mx1.example.net", Some("mx1.example.net")),
            ("MX1.Example.NET.", Some("mx1.example.net")),
            ("mx_1.example.net", Some("mx_1.example.net")),
            ("MX.Bücher.example", Some("mx.xn--bcher-kva.example")),
            ("mx.XN--BCHER-KVA.example", Some("mx.xn--bcher-kva.example")),
            ("mail", Some("mail")),
            ("192.0.2.1", None),
            ("192.0.2.1.", None),
            ("[192.0.2.1]", None),
            ("2001:db8::1", None),
            ("localhost", None),
            ("mx.localhost", None),
            ("", None),
            (".", None),
            ("mx..example", None),
            ("mx 1.example", None),
            ("mx\u{0}.example", None),
        ] {
            assert_eq!(host_name(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn names_are_made_of_whole_labels() {
        let labels = |labels: &[&[u8]]| from_labels(labels.iter().copied());
        assert_eq!(labels(&[b"MX", b"example"]).as_deref(), Some("mx.example"));
        assert_eq!(labels(&[b"a.b", b"example"]), None, "a dot inside a label");
        assert_eq!(labels(&[b"\xff", b"example"]), None, "not UTF-8");
        assert_eq!(labels(&[]), None, "the root");
        let long = [b'x'; 64];
        assert_eq!(labels(&[&long, b"example"]), None);
        let label = [b'x'; 63];
        assert_eq!(labels(&[&label, &label, &label, &label]), None, "255 octets");
    }
}
