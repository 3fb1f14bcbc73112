//! tests — whole messages: one golden, the refusals as a table, and the laws for arbitrary text.

use mail_parser::MessageParser;
use proptest::prelude::*;

use super::token::Key;
use super::*;
use crate::outcome::Row;

const RUN: &str = "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N";
const BOUNDARY: &str = "=_01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42";

fn letter() -> Letter<'static> {
    Letter {
        from_name: "Café Nord",
        from: "news@news.example",
        to_name: "Ada \"Countess\" Lovelace",
        to: "ada@example.org",
        reply_to: Some(("", "help@news.example")),
        subject: "Your November offers",
        date: Utc(1_795_284_252_999_999),
        message_id: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42@news.example",
        key: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42",
        list_unsubscribe: Some(ListUnsubscribe {
            url: Some("https://news.example/u/8c1f0d5e2b7a4c3d9e6f"),
            mailto: Some("mailto:unsubscribe@news.example?subject=8c1f"),
            one_click: true,
        }),
        headers: &[("Feedback-ID", "nov:1:offers:news"), ("List-Id", "<offers.news.example>")],
        text: Some("Hello Ada,\n\nthe offers are below.\n"),
        html: Some("<p class=\"x\">Schöne Grüße</p>\n.hidden { display: none }\n\n"),
        boundary: BOUNDARY,
    }
}

fn built(letter: &Letter<'_>) -> Result<String, Fault> {
    let mut out = Vec::new();
    build(letter, &mut out)?;
    Ok(String::from_utf8(out).expect("messages are ASCII"))
}

const GOLDEN: &str = "\
From: =?utf-8?Q?Caf=C3=A9_Nord?= <news@news.example>
To: \"Ada \\\"Countess\\\" Lovelace\" <ada@example.org>
Reply-To: <help@news.example>
Subject: Your November offers
Date: Sat, 21 Nov 2026 18:04:12 +0000
Message-ID: <01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42@news.example>
MIME-Version: 1.0
List-Unsubscribe: <https://news.example/u/8c1f0d5e2b7a4c3d9e6f>,
 <mailto:unsubscribe@news.example?subject=8c1f>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
X-Mailshot-Key: 01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42
Feedback-ID: nov:1:offers:news
List-Id: <offers.news.example>
Content-Type: multipart/alternative;
 boundary=\"=_01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42\"

--=_01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42
Content-Type: text/plain; charset=\"utf-8\"
Content-Transfer-Encoding: 7bit

Hello Ada,

the offers are below.

--=_01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42
Content-Type: text/html; charset=\"utf-8\"
Content-Transfer-Encoding: quoted-printable

<p class=3D\"x\">Sch=C3=B6ne Gr=C3=BC=C3=9Fe</p>
=2Ehidden { display: none }

--=_01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42--
";

#[test]
fn a_message_is_exactly_this() {
    assert_eq!(built(&letter()), Ok(GOLDEN.replace('\n', "\r\n")));
}

#[test]
fn one_body_makes_a_single_part() {
    let mut only_text = letter();
    (only_text.html, only_text.headers, only_text.list_unsubscribe) = (None, &[], None);
    let message = built(&only_text).expect("good");
    assert!(
        message.ends_with(
            "X-Mailshot-Key: 01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42\r\n\
             Content-Type: text/plain; charset=\"utf-8\"\r\n\
             Content-Transfer-Encoding: 7bit\r\n\r\n\
             Hello Ada,\r\n\r\nthe offers are below.\r\n"
        ),
        "{message}"
    );
}

#[test]
fn building_appends_and_a_fault_leaves_nothing() {
    let mut out = b"before".to_vec();
    let mut bad = letter();
    bad.text = None;
    bad.html = None;
    assert_eq!(build(&bad, &mut out), Err(Fault::NoBody));
    assert_eq!(out, b"before");
    let long = "x".repeat(999);
    let wide = [("X-Long", long.as_str())];
    let wide = Letter { headers: &wide, ..letter() };
    let fault = Fault::LineTooLong { name: "X-Long".into(), length: 1007 };
    assert_eq!(build(&wide, &mut out), Err(fault));
    assert_eq!(out, b"before");
    assert_eq!(build(&letter(), &mut out), Ok(()));
    assert!(out.starts_with(b"beforeFrom: "));
}

#[test]
fn a_message_beyond_a_segment_is_refused() {
    let text = "x".repeat(MESSAGE_MAX);
    let huge = Letter { text: Some(&text), ..letter() };
    assert!(matches!(built(&huge), Err(Fault::TooLarge { octets }) if octets > MESSAGE_MAX));
}

#[test]
fn control_characters_never_become_headers() {
    for bad in ["a\r\nBcc: x@y", "a\nb", "a\rb", "a\0b", "a\tb", "a\u{7f}b", "\u{1b}[31m"] {
        let unsafe_in = |name: &str| Err(Fault::UnsafeHeader { name: name.into() });
        let good = letter();
        let headers = [("X-Campaign", bad)];
        let list = ListUnsubscribe { url: None, mailto: Some(bad), one_click: false };
        let uri = format!("mailto:{bad}");
        let list = ListUnsubscribe { mailto: Some(&uri), ..list };
        for (name, letter) in [
            ("From", Letter { from_name: bad, ..good.clone() }),
            ("From", Letter { from: bad, ..good.clone() }),
            ("To", Letter { to_name: bad, ..good.clone() }),
            ("To", Letter { to: bad, ..good.clone() }),
            ("Reply-To", Letter { reply_to: Some((bad, "a@b")), ..good.clone() }),
            ("Reply-To", Letter { reply_to: Some(("", bad)), ..good.clone() }),
            ("Subject", Letter { subject: bad, ..good.clone() }),
            ("Message-ID", Letter { message_id: bad, ..good.clone() }),
            ("X-Mailshot-Key", Letter { key: bad, ..good.clone() }),
            ("X-Campaign", Letter { headers: &headers, ..good.clone() }),
            ("List-Unsubscribe", Letter { list_unsubscribe: Some(list), ..good.clone() }),
        ] {
            assert_eq!(built(&letter), unsafe_in(name), "{name} {bad:?}");
        }
    }
}

#[test]
fn addresses_and_header_names_are_checked() {
    for bad in ["", "a b@c", "a@b>, <c@d", "ü@example.org"] {
        let letter = Letter { to: bad, ..letter() };
        assert_eq!(built(&letter), Err(Fault::Address { name: "To".into() }), "{bad:?}");
    }
    for bad in ["", ".x", "X Y", "X:", "Ä", "X\r\nBcc"] {
        let headers = [(bad, "value")];
        let letter = Letter { headers: &headers, ..letter() };
        assert_eq!(built(&letter), Err(Fault::HeaderName { name: bad.into() }), "{bad:?}");
    }
    for bad in ["from", "BCC", "Dkim-Signature", "List-Unsubscribe-Post", "content-type"] {
        let headers = [(bad, "value")];
        let letter = Letter { headers: &headers, ..letter() };
        assert_eq!(built(&letter), Err(Fault::ReservedHeader { name: bad.into() }), "{bad:?}");
    }
}

#[test]
fn one_click_needs_https() {
    for (url, mailto, one_click, good) in [
        (Some("https://a.example/u"), None, true, true),
        (Some("http://a.example/u"), None, true, false),
        (Some("http://a.example/u"), None, false, true),
        (None, Some("mailto:u@a.example"), false, true),
        (None, Some("mailto:u@a.example"), true, false),
        (None, Some("u@a.example"), false, false),
        (Some("ftp://a.example"), Some("mailto:u@a.example"), false, false),
        (None, None, false, false),
    ] {
        let list_unsubscribe = Some(ListUnsubscribe { url, mailto, one_click });
        let result = built(&Letter { list_unsubscribe, ..letter() });
        assert_eq!(result.is_ok(), good, "{url:?} {mailto:?} {one_click}");
        assert!(good || result == Err(Fault::Unsubscribe), "{url:?} {mailto:?} {one_click}");
    }
}

#[test]
fn an_address_of_900_octets_is_one_line() {
    let url = format!("https://a.example/{}", "x".repeat(900));
    let list = ListUnsubscribe { url: Some(&url), mailto: None, one_click: true };
    let message = built(&Letter { list_unsubscribe: Some(list), ..letter() }).expect("good");
    assert!(message.contains(&format!("\r\nList-Unsubscribe: <{url}>\r\n")));
}

#[test]
fn long_ascii_subjects_are_folded_not_encoded() {
    let subject = "word ".repeat(30) + "end";
    let message = built(&Letter { subject: &subject, ..letter() }).expect("good");
    assert!(!message.contains("Subject: =?"), "{message}");
    assert!(header_lines(&message).all(|line| line.len() <= 78), "{message}");
}

fn header_lines(message: &str) -> impl Iterator<Item = &str> {
    message.split("\r\n").take_while(|line| !line.is_empty())
}

fn body_lines(message: &str) -> impl Iterator<Item = &str> {
    message.split("\r\n").skip_while(|line| !line.is_empty())
}

/// The text as a receiver sees it: LF, no blank lines at the end, one line ending.
fn settled(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    while lines.last().is_some_and(|line| line.trim_matches([' ', '\t']).is_empty()) {
        lines.pop();
    }
    lines.into_iter().flat_map(|line| [line, "\n"]).collect()
}

/// Header text: any Unicode but control characters, rich in what mail-builder treats specially.
fn phrase() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9 .,]{0,200}",
        "[ab ]{40,90}",
        "[^\\p{Cc}]{0,90}",
        "[\"\\\\<>@()=?_ a-z]{0,40}",
        "(=\\?utf-8\\?[QB]\\?[a-zA-Z=]{0,8}\\?=| |ü){0,6}",
        "[^\\p{Cc} ]{200}",
    ]
}

/// Body text: any Unicode, dots, blanks, control characters, all kinds of line endings.
fn prose() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z =.]{0,90}",
        "\\.{1,100}",
        "[ \t]{1,90}",
        "(\r\n|\n|\r){1,3}",
        "\\PC{0,60}",
        "[\u{0}-\u{9f}]{0,20}",
        "[a-z.]{300}",
        "[α-ω 🎉🙂]{0,60}",
        Just(format!("\n--{BOUNDARY}\n")),
        Just(" \n\t\n".to_owned()),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn assert_transportable(message: &str) -> Result<(), TestCaseError> {
    prop_assert!(message.is_ascii() && message.ends_with("\r\n"));
    prop_assert!(!message.replace("\r\n", "").contains(['\r', '\n', '\0']), "{message}");
    prop_assert!(!message.starts_with('.') && !message.contains("\n."), "{message}");
    prop_assert!(header_lines(message).all(|line| line.len() <= LINE_MAX), "{message}");
    prop_assert!(header_lines(message).all(|line| !line.trim().is_empty()), "{message}");
    prop_assert!(body_lines(message).all(|line| line.len() <= 76), "{message}");
    prop_assert!(
        body_lines(message).all(|line| line.is_empty() || !line.trim().is_empty()),
        "{message}"
    );
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_transportable_and_comes_back(
        (from_name, to_name, subject) in (phrase(), phrase(), phrase()),
        text in proptest::option::of(prose()),
        html in prose(),
        row in 1u32..,
    ) {
        let key = Key { run: RUN, row: Row(row) };
        let (boundary, id, key) = (key.boundary(), key.message_id("n.example"), key.to_string());
        let letter = Letter {
            from_name: &from_name,
            to_name: &to_name,
            subject: &subject,
            text: text.as_deref(),
            html: Some(&html),
            boundary: &boundary,
            message_id: &id,
            key: &key,
            ..letter()
        };
        let message = built(&letter).expect("nothing unsafe in it");
        prop_assert_eq!(&message, &built(&letter).expect("as before"));
        assert_transportable(&message)?;

        let parsed = MessageParser::new().parse(&message).expect("a message");
        prop_assert_eq!(parsed.subject().unwrap_or_default(), &subject, "{}", message);
        let name = |list: Option<&mail_parser::Address<'_>>| {
            let first = list.and_then(|list| list.first());
            first.and_then(|one| one.name()).unwrap_or_default().to_owned()
        };
        prop_assert_eq!(name(parsed.from()), from_name, "{}", message);
        prop_assert_eq!(name(parsed.to()), to_name, "{}", message);
        prop_assert_eq!(parsed.message_id(), Some(id.as_str()));
        prop_assert_eq!(parsed.date().map(|date| date.to_timestamp()), Some(1_795_284_252));
        let html_back = parsed.body_html(0).expect("html").replace("\r\n", "\n");
        prop_assert_eq!(html_back, settled(&html), "{}", message);
        if let Some(text) = &text {
            let text_back = parsed.body_text(0).expect("text").replace("\r\n", "\n");
            prop_assert_eq!(text_back, settled(text), "{}", message);
        }
    }

    #[test]
    fn a_single_part_comes_back_too(text in prose()) {
        let letter = Letter { text: Some(&text), html: None, ..letter() };
        let message = built(&letter).expect("nothing unsafe in it");
        assert_transportable(&message)?;
        prop_assert!(!message.ends_with("\r\n\r\n") || settled(&text).is_empty());
        let parsed = MessageParser::new().parse(&message).expect("a message");
        let back = parsed.body_text(0).unwrap_or_default().replace("\r\n", "\n");
        prop_assert_eq!(back, settled(&text), "{}", message);
    }
}
