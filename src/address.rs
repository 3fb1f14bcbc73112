//! address — mailboxes and domains in the one form in which the program knows them.
//!
//! A [`Mailbox`] is `local@domain` as RFC 5321 §4.1.2 writes it: the local part as it was given (a
//! dot-string or a quoted string), the domain in lower-case A-labels (UTS 46), within the limits of
//! [`crate::limits`]. What comes in is what people type and export: surrounding white space is
//! dropped, everything else that is not a mailbox is refused with a [`Fault`] that names it.
//!
//! Decisions, each because a wrong guess sends someone else's mail:
//!
//! * One trailing dot of a domain is dropped: `example.org.` is the same name, written absolutely.
//! * A domain needs two labels; `jane@localhost` and `jane@com` are mistakes in a list.
//! * Underscores are refused: no host that receives mail may have one (RFC 5321 §2.3.5, RFC 952).
//! * Addresses of hosts are refused, in brackets or bare: nobody can be asked whose they are.
//! * Local parts outside ASCII need SMTPUTF8 (RFC 6531); that is its own fault, because such an
//!   address is right and only this program cannot reach it.
//!
//! This module knows no list, no provider and no DNS: that a domain exists is not its business.

use std::fmt;

use crate::limits::{DOMAIN_MAX, LABEL_MAX, LOCAL_PART_MAX, MAILBOX_MAX};

/// A mailbox in wire form: safe to write between the angle brackets of `RCPT TO`.
///
/// Equality is that of the text, so the case of local parts counts; who wants to know whether two
/// mailboxes are one person's compares [`dedup_key`]s.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: Box<str>,
    /// Octets of the local part, quotes included; the `@` is there.
    at: u8,
}

const _: () = assert!(LOCAL_PART_MAX <= u8::MAX as usize);

impl Mailbox {
    /// Reads a mailbox; white space, U+200B and U+FEFF around it are dropped (exports have them).
    ///
    /// # Errors
    /// The first [`Fault`] found, the domain's before the local part's.
    pub fn parse(text: &str) -> Result<Mailbox, Fault> {
        let text = trimmed(text)?;
        let at = text.rfind('@').ok_or(Fault::NoAtSign)?;
        let (local, host) = (&text[..at], &text[at + 1..]);
        if local.is_empty() {
            return Err(Fault::NoLocalPart);
        }
        let mut wire = String::with_capacity(text.len());
        wire.push_str(&text[..=at]);
        push_domain(host, &mut wire)?;
        check_local(local)?;
        if wire.len() > MAILBOX_MAX {
            return Err(Fault::TooLong);
        }
        let at = u8::try_from(at).expect("check_local bounds the local part by LOCAL_PART_MAX");
        Ok(Mailbox { text: wire.into_boxed_str(), at })
    }

    /// The whole mailbox, `local@domain`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The local part as it was given, with its quotes if it has any.
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// The domain: lower case, A-labels, no trailing dot.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Mailbox {
    /// Masked, so that no `{:?}` brings an address into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailbox({})", masked(&self.text))
    }
}

/// Reads a domain alone: lower case, A-labels, at least two labels, no trailing dot.
///
/// # Errors
/// The first [`Fault`] found; only those about domains occur.
pub fn domain(text: &str) -> Result<String, Fault> {
    let mut wire = String::with_capacity(text.len());
    push_domain(trimmed(text)?, &mut wire)?;
    Ok(wire)
}

/// Writes the key under which `mailbox` is one recipient into `into`, replacing what was there.
///
/// The key is the local part in ASCII lower case, without needless quotes, and the domain in
/// A-labels. RFC 5321 §2.4 lets a host tell `Jane` from `jane`, but no large provider does, and a
/// list that has both means one person. Dots and plus tags are kept: they differ at most hosts.
pub fn dedup_key(mailbox: &Mailbox, into: &mut String) {
    into.clear();
    let local = mailbox.local();
    match local.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        // A backslash only quotes the next octet (RFC 5321 §4.1.2), which may be a backslash.
        Some(quoted) => {
            let mut octets = quoted.chars();
            while let Some(octet) = octets.next() {
                into.push(if octet == '\\' { octets.next().unwrap_or('\\') } else { octet });
            }
        }
        None => into.push_str(local),
    }
    into.make_ascii_lowercase();
    into.push('@');
    into.push_str(mailbox.domain());
}

/// An address for logs and reports: `jane.doe@gmail.com` becomes `j***@gmail.com`.
///
/// Takes any text, mailbox or not. What does not look like a domain is hidden as well, so nothing
/// of a misplaced column and no control character comes through.
pub fn masked(text: &str) -> String {
    let text = text.trim();
    let first = text.chars().next().filter(|c| c.is_alphanumeric());
    let mut out: String = first.into_iter().collect();
    out.push_str("***");
    if let Some((_, host)) = text.rsplit_once('@') {
        let plain = |c: char| c.is_alphanumeric() || c == '.' || c == '-';
        let shown = !host.is_empty() && host.len() <= DOMAIN_MAX && host.chars().all(plain);
        out.push('@');
        out.push_str(if shown { host } else { "***" });
    }
    out
}

/// Makes the enum of faults with a word and a sentence for each.
macro_rules! faults {
    ($(
        $(#[$doc:meta])*
        $variant:ident $(($data:ident))? = $word:literal, $sentence:literal;
    )+) => {
        /// Why a text is not a mailbox or not a domain.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault { $($(#[$doc])* $variant $(($data))?),+ }

        impl Fault {
            /// The stable word for it in reports, JSON and Parquet.
            pub fn word(self) -> &'static str {
                match self { $(faults!(@any $variant $($data)?) => $word),+ }
            }

            fn sentence(self) -> &'static str {
                match self { $(faults!(@any $variant $($data)?) => $sentence),+ }
            }
        }
    };
    (@any $variant:ident) => { Fault::$variant };
    (@any $variant:ident $data:ident) => { Fault::$variant(_) };
}

faults! {
    /// Nothing but white space.
    Empty = "empty", "the address is empty";
    /// NUL, CR, LF or another control character inside (C0, DEL or C1).
    ControlCharacter = "control_character", "the address contains a control character";
    /// No `@`.
    NoAtSign = "no_at_sign", "the address has no @";
    /// A second `@` outside quotes: often two addresses in one cell.
    SeveralAtSigns = "several_at_signs", "the address has more than one @";
    /// Nothing before the `@`.
    NoLocalPart = "no_local_part", "nothing stands before the @";
    /// More than 64 octets before the `@` (RFC 5321 §4.5.3.1.1).
    LocalPartTooLong = "local_part_too_long", "the part before the @ exceeds 64 octets";
    /// A character that a dot-string may not have (RFC 5321 §4.1.2, `atext` of RFC 5322 §3.2.3).
    LocalPartCharacter(char) = "local_part_character",
        "the part before the @ may not contain the character";
    /// A dot first, last or doubled in a dot-string.
    LocalPartDots = "local_part_dots",
        "the part before the @ starts or ends with a dot or has two in a row";
    /// A quoted local part that does not end with its quote, or a quote elsewhere.
    BadQuotes = "bad_quotes", "the part before the @ is quoted wrongly";
    /// A local part outside ASCII: valid by RFC 6531, but only with SMTPUTF8.
    NeedsSmtputf8 = "needs_smtputf8",
        "the part before the @ is not ASCII and would need SMTPUTF8";
    /// Nothing after the `@`.
    NoDomain = "no_domain", "the domain is missing";
    /// A character that a host name may not have; underscores among them.
    DomainCharacter(char) = "domain_character", "the domain may not contain the character";
    /// A label that starts or ends with a hyphen (RFC 5321 §4.1.2, `sub-domain`).
    DomainHyphen = "domain_hyphen", "a part of the domain starts or ends with a hyphen";
    /// A dot first or doubled.
    DomainDots = "domain_dots", "the domain starts with a dot or has two in a row";
    /// A label of more than 63 octets (RFC 1035 §2.3.4).
    LabelTooLong = "label_too_long", "a part of the domain exceeds 63 octets";
    /// A domain of more than 253 octets (RFC 1035 §2.3.4).
    DomainTooLong = "domain_too_long", "the domain exceeds 253 octets";
    /// Only one label.
    SingleLabel = "single_label", "the domain is a single word without a dot";
    /// The address of a host, in brackets or bare, in place of a domain.
    AddressLiteral = "address_literal", "the domain is an IP address or ends in a number";
    /// An internationalised name that UTS 46 refuses, or a broken A-label.
    NotIdna = "not_idna", "the domain is not a valid internationalised name";
    /// More than 254 octets altogether (RFC 5321 §4.5.3.1.3).
    TooLong = "too_long", "the address exceeds 254 octets";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())?;
        match self {
            Fault::LocalPartCharacter(c) | Fault::DomainCharacter(c) => write!(f, " {c:?}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}

/// Drops what exports leave around an address and refuses control characters inside it.
fn trimmed(text: &str) -> Result<&str, Fault> {
    let around = |c: char| c.is_whitespace() || c == '\u{200b}' || c == '\u{feff}';
    let text = text.trim_matches(around);
    if text.is_empty() {
        return Err(Fault::Empty);
    }
    let control = |octet: u8| octet < 0x20 || octet == 0x7f;
    if text.bytes().any(control) || (!text.is_ascii() && text.chars().any(char::is_control)) {
        return Err(Fault::ControlCharacter);
    }
    Ok(text)
}

/// Appends the A-label form of `host` to `wire` and checks it.
fn push_domain(host: &str, wire: &mut String) -> Result<(), Fault> {
    if host.starts_with('[') {
        return Err(Fault::AddressLiteral);
    }
    let start = wire.len();
    wire.push_str(host);
    wire[start..].make_ascii_lowercase();
    if !host.is_ascii() || has_a_label(&wire[start..]) {
        let mapped = idna::domain_to_ascii(host).map_err(|_| Fault::NotIdna)?;
        wire.truncate(start);
        wire.push_str(&mapped);
    }
    if wire.ends_with('.') {
        wire.pop();
    }
    check_domain(&wire[start..])
}

/// Whether some label says that it is Punycode; only UTS 46 can tell if it is sound.
fn has_a_label(domain: &str) -> bool {
    domain.as_bytes().windows(4).any(|four| four == b"xn--")
}

/// Checks a lower-case ASCII domain against RFC 5321 §4.1.2 and the limits of RFC 1035.
fn check_domain(domain: &str) -> Result<(), Fault> {
    if domain.is_empty() {
        return Err(Fault::NoDomain);
    }
    if domain.len() > DOMAIN_MAX {
        return Err(Fault::DomainTooLong);
    }
    let mut labels = 0;
    let mut last_is_number = false;
    for label in domain.split('.') {
        check_label(label)?;
        labels += 1;
        last_is_number = label.bytes().all(|octet| octet.is_ascii_digit());
    }
    if labels < 2 {
        return Err(Fault::SingleLabel);
    }
    // No top-level domain is a number (RFC 3696 §2), so this was meant as an IPv4 address.
    if last_is_number {
        return Err(Fault::AddressLiteral);
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), Fault> {
    if label.is_empty() {
        return Err(Fault::DomainDots);
    }
    if label.len() > LABEL_MAX {
        return Err(Fault::LabelTooLong);
    }
    if let Some(wrong) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(Fault::DomainCharacter(wrong));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(Fault::DomainHyphen);
    }
    Ok(())
}

/// The `atext` of RFC 5322 §3.2.3, by octet.
const ATEXT: [bool; 256] = {
    let mut table = [false; 256];
    let mut octet = 0;
    while octet < 128 {
        table[octet] = (octet as u8).is_ascii_alphanumeric();
        octet += 1;
    }
    let marks = b"!#$%&'*+-/=?^_`{|}~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Checks a local part; [`Fault::NeedsSmtputf8`] only if nothing else is wrong.
fn check_local(local: &str) -> Result<(), Fault> {
    if local.len() > LOCAL_PART_MAX {
        return Err(Fault::LocalPartTooLong);
    }
    if let Some(inside) = local.strip_prefix('"') {
        check_quoted(inside)?;
    } else {
        check_dot_string(local)?;
    }
    if local.is_ascii() { Ok(()) } else { Err(Fault::NeedsSmtputf8) }
}

fn check_dot_string(local: &str) -> Result<(), Fault> {
    let mut after_dot = true;
    for (at, octet) in local.bytes().enumerate() {
        if octet == b'.' {
            if after_dot {
                return Err(Fault::LocalPartDots);
            }
            after_dot = true;
        } else if ATEXT[usize::from(octet)] || octet >= 0x80 {
            after_dot = false;
        } else {
            return Err(match local[at..].chars().next() {
                Some('@') => Fault::SeveralAtSigns,
                Some('"') | None => Fault::BadQuotes,
                Some(wrong) => Fault::LocalPartCharacter(wrong),
            });
        }
    }
    if after_dot { Err(Fault::LocalPartDots) } else { Ok(()) }
}

/// Checks what follows the opening quote (RFC 5321 §4.1.2, `Quoted-string`).
///
/// Control characters are already gone.
fn check_quoted(inside: &str) -> Result<(), Fault> {
    let mut octets = inside.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'"' if octets.len() == 0 => return Ok(()),
            b'"' => return Err(Fault::BadQuotes),
            b'\\' if octets.next().is_none_or(|quoted| quoted >= 0x80) => {
                return Err(Fault::BadQuotes);
            }
            _ => {}
        }
    }
    Err(Fault::BadQuotes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mailboxes_come_out_in_wire_form() {
        let long_local = "l".repeat(64);
        for (text, expected) in [
            ("jane@example.org", "jane@example.org"),
            (" \u{a0}Jane.Doe+x@EXAMPLE.Org\t\r\n", "Jane.Doe+x@example.org"),
            ("\u{feff}jane@example.org\u{200b}", "jane@example.org"),
            ("jane@example.org.", "jane@example.org"),
            ("a@b.c", "a@b.c"),
            ("!#$%&'*+-/=?^_`{|}~@example.org", "!#$%&'*+-/=?^_`{|}~@example.org"),
            ("\"jane doe\"@example.org", "\"jane doe\"@example.org"),
            ("\"a@b\\\"c\\\\\"@example.org", "\"a@b\\\"c\\\\\"@example.org"),
            ("\"\"@example.org", "\"\"@example.org"),
            ("post@BÜCHER.example", "post@xn--bcher-kva.example"),
            ("post@bücher。example", "post@xn--bcher-kva.example"),
            ("post@XN--BCHER-KVA.example", "post@xn--bcher-kva.example"),
            ("a@r3---sn.example", "a@r3---sn.example"),
            ("a@163.com", "a@163.com"),
            (&format!("{long_local}@example.org"), &format!("{long_local}@example.org")),
        ] {
            let mailbox = Mailbox::parse(text).map(|mailbox| mailbox.to_string());
            assert_eq!(mailbox.as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn parts_are_split_at_the_last_at_sign() {
        let mailbox = Mailbox::parse("\"a@b\"@Example.org").unwrap();
        assert_eq!((mailbox.local(), mailbox.domain()), ("\"a@b\"", "example.org"));
        assert_eq!(mailbox.as_str(), "\"a@b\"@example.org");
        assert_eq!(format!("{mailbox:?}"), "Mailbox(***@example.org)");
    }

    #[test]
    fn every_fault_has_its_text() {
        let long_label = format!("a@{}.org", "x".repeat(64));
        let long_domain = format!("a@{}org", "x.".repeat(126));
        let label = "x".repeat(63);
        let long = format!("{}@{label}.{label}.{label}.org", "l".repeat(64));
        let long_local = format!("{}@example.org", "l".repeat(65));
        for (text, expected) in [
            ("", Fault::Empty),
            (" \t\u{feff}", Fault::Empty),
            ("ja\0ne@example.org", Fault::ControlCharacter),
            ("jane@example.org\r\nRCPT TO:<x@y.z>", Fault::ControlCharacter),
            ("\"ja\nne\"@example.org", Fault::ControlCharacter),
            ("ja\u{85}ne@example.org", Fault::ControlCharacter),
            ("jane@exam\u{7f}ple.org", Fault::ControlCharacter),
            ("jane", Fault::NoAtSign),
            ("jane@x.org;john@y.org", Fault::SeveralAtSigns),
            ("jane@@example.org", Fault::SeveralAtSigns),
            ("@example.org", Fault::NoLocalPart),
            (&long_local, Fault::LocalPartTooLong),
            ("jane doe@example.org", Fault::LocalPartCharacter(' ')),
            ("<jane@example.org", Fault::LocalPartCharacter('<')),
            ("jane(x)@example.org", Fault::LocalPartCharacter('(')),
            (".jane@example.org", Fault::LocalPartDots),
            ("jane.@example.org", Fault::LocalPartDots),
            ("jane..doe@example.org", Fault::LocalPartDots),
            ("\"jane@example.org", Fault::BadQuotes),
            ("\"jane\\\"@example.org", Fault::BadQuotes),
            ("\"a\"b@example.org", Fault::BadQuotes),
            ("a\"b\"@example.org", Fault::BadQuotes),
            ("\"@example.org", Fault::BadQuotes),
            ("jürgen@example.org", Fault::NeedsSmtputf8),
            ("\"jür gen\"@example.org", Fault::NeedsSmtputf8),
            ("jür gen@example.org", Fault::LocalPartCharacter(' ')),
            ("jürgen@", Fault::NoDomain),
            ("jane@", Fault::NoDomain),
            ("jane@.", Fault::NoDomain),
            ("jane@exam_ple.org", Fault::DomainCharacter('_')),
            ("jane@ example.org", Fault::DomainCharacter(' ')),
            ("jane@example.org>", Fault::DomainCharacter('>')),
            ("jane@-example.org", Fault::DomainHyphen),
            ("jane@example-.org", Fault::DomainHyphen),
            ("jane@.example.org", Fault::DomainDots),
            ("jane@example..org", Fault::DomainDots),
            ("jane@example.org..", Fault::DomainDots),
            (&long_label, Fault::LabelTooLong),
            (&long_domain, Fault::DomainTooLong),
            ("jane@localhost", Fault::SingleLabel),
            ("jane@com.", Fault::SingleLabel),
            ("jane@[192.0.2.1]", Fault::AddressLiteral),
            ("jane@[IPv6:2001:db8::1]", Fault::AddressLiteral),
            ("jane@192.0.2.1", Fault::AddressLiteral),
            ("jane@example.123", Fault::AddressLiteral),
            ("jane@xn--a.example", Fault::NotIdna),
            ("jane@\u{301}a.example", Fault::NotIdna),
            (&long, Fault::TooLong),
        ] {
            assert_eq!(Mailbox::parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn faults_speak() {
        assert_eq!(Fault::NoAtSign.word(), "no_at_sign");
        assert_eq!(Fault::NoAtSign.to_string(), "the address has no @");
        assert_eq!(Fault::DomainCharacter('_').word(), "domain_character");
        assert_eq!(
            Fault::DomainCharacter('_').to_string(),
            "the domain may not contain the character '_'"
        );
    }

    #[test]
    fn domains_alone() {
        assert_eq!(domain(" Example.ORG. ").as_deref(), Ok("example.org"));
        assert_eq!(domain("bücher.example").as_deref(), Ok("xn--bcher-kva.example"));
        assert_eq!(domain("jane@example.org"), Err(Fault::DomainCharacter('@')));
        assert_eq!(domain(""), Err(Fault::Empty));
        assert_eq!(domain("."), Err(Fault::NoDomain));
    }

    #[test]
    fn keys_join_what_one_person_writes_and_nothing_else() {
        let key = |text: &str| {
            let mut key = "left over".to_owned();
            dedup_key(&Mailbox::parse(text).unwrap(), &mut key);
            key
        };
        assert_eq!(key("Jane.Doe+X@Bücher.Example"), "jane.doe+x@xn--bcher-kva.example");
        assert_eq!(key("\"Jane\"@example.org"), "jane@example.org");
        assert_eq!(key("\"a\\\"b c\\\\\"@example.org"), "a\"b c\\@example.org");
        assert_ne!(key("jane.doe@example.org"), key("janedoe@example.org"));
        assert_ne!(key("jane+a@example.org"), key("jane@example.org"));
    }

    #[test]
    fn masks_hide_all_but_the_first_letter_and_the_domain() {
        for (text, expected) in [
            ("jane.doe@gmail.com", "j***@gmail.com"),
            (" jane.doe@gmail.com\r\n", "j***@gmail.com"),
            ("ürsula@bücher.example", "ü***@bücher.example"),
            ("\"a@b\"@example.org", "***@example.org"),
            ("jane", "j***"),
            ("", "***"),
            ("jane@Jane Doe, Main Street", "j***@***"),
            ("jane@x.org\u{1b}[2J", "j***@***"),
            ("jane@", "j***@***"),
        ] {
            assert_eq!(masked(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_wire_safe_and_stable(
            text in "\\PC*|[a-zA-Z\"\\\\. üß@_-]{0,12}@[a-zA-ZüÜß.-]{1,12}\\.org",
        ) {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                let wire = mailbox.as_str();
                prop_assert!(wire.bytes().all(|octet| (0x20..0x7f).contains(&octet)));
                prop_assert!(wire.len() <= MAILBOX_MAX);
                prop_assert_eq!(format!("{}@{}", mailbox.local(), mailbox.domain()), wire);
                prop_assert_eq!(Mailbox::parse(wire), Ok(mailbox.clone()));
            }
        }
    }
}
