//! tests of session — transcripts: what a client says, what it is told, what is counted.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::checks::{Checks, Inspection};
use crate::config::{Behaviour, Extensions};
use crate::counters::{Counters, Tallies};
use crate::rules::Rule;

fn receiver(behaviour: Behaviour) -> Receiver {
    let checks = Checks { keys: true, ..Checks::default() };
    let inspection = Inspection::new(&checks).expect("no directory is needed");
    Receiver::new(vec![behaviour], inspection, None, Arc::new(Counters::default()))
}

fn peer() -> Peer {
    let source = std::net::Ipv4Addr::LOCALHOST.into();
    Peer { provider: 0, source, connection: 0, lane: None }
}

/// Everything said to this input, with `WAIT` and `DROP` where the caller was told so.
fn converse<'a>(receiver: &mut Receiver, chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut session = Session::new(peer());
    let mut said = String::new();
    let mut note = |session: &mut Session, next: Next| {
        said += std::str::from_utf8(session.out()).expect("replies are ASCII");
        session.out().clear();
        match next {
            Next::Read => {}
            Next::Wait(time) => said += &format!("WAIT {}\n", time.as_millis()),
            Next::Drop => said += "DROP\n",
        }
    };
    let next = session.greet(receiver);
    note(&mut session, next);
    for mut chunk in chunks {
        while !chunk.is_empty() && !session.is_over() {
            let (used, next) = session.feed(chunk, receiver, Duration::ZERO);
            note(&mut session, next);
            chunk = &chunk[used..];
        }
    }
    if session.is_over() {
        said += "OVER\n";
    }
    said.replace("\r\n", "\n")
}

/// What is said after greeting and EHLO, and the counts.
fn after_ehlo(behaviour: Behaviour, input: &str) -> (String, Tallies) {
    let mut receiver = receiver(behaviour);
    let input = format!("EHLO x.test\r\n{input}");
    let said = converse(&mut receiver, [input.as_bytes()]);
    let hello = said.find("250 ").expect("EHLO ends in it");
    let said = said[hello..].split_once('\n').expect("a line ends").1.to_owned();
    (said, receiver.counters.snapshot())
}

fn personalities() -> Behaviour {
    let slow = Duration::from_millis(70);
    Behaviour { rules: Rule::personalities(), slow, ..Behaviour::default() }
}

/// One message to this local part; the body waits for nothing.
fn mail_to(local: &str) -> String {
    format!("MAIL FROM:<a@b.test>\r\nRCPT TO:<{local}@c.test>\r\nDATA\r\nx\r\n.\r\n")
}

const SENDER: &str = "250 2.1.0 Sender ok\n";
const GO: &str = "250 2.1.0 Sender ok\n250 2.1.5 Recipient ok\n354 End with a dot\n";

#[test]
fn a_pipelined_conversation_is_answered_in_order() {
    let input = format!("{}{}QUIT\r\nNOOP\r\n", mail_to("one"), mail_to("two"));
    let (said, counts) = after_ehlo(Behaviour::default(), &input);
    let expected = format!("{GO}250 2.0.0 Ok\n{GO}250 2.0.0 Ok\n221 2.0.0 Bye\nOVER\n");
    assert_eq!(said, expected);
    let expected = Tallies {
        messages: 2,
        message_bytes: 6,
        messages_per_connection_max: 2,
        recipients: 2,
        eager_bodies: 2,
        ..Tallies::default()
    };
    assert_eq!(counts, expected);
}

#[test]
fn each_personality_does_what_its_name_says() {
    let refused = |reply: &str| format!("{SENDER}{reply}\n554 5.5.1 No valid recipients\n");
    let unknown = "502 5.5.1 Command not implemented\n".repeat(2);
    let at_dot = |end: &str| format!("{GO}{end}");
    let cases = [
        ("anna", at_dot("250 2.0.0 Ok\n")),
        ("defer", refused("451 4.7.1 Recipient deferred, try again later") + &unknown),
        ("bounce1", refused("550 5.1.1 No such user") + &unknown),
        ("Full.x", refused("452 4.2.2 Mailbox full") + &unknown),
        ("grey", refused("450 4.7.1 Greylisted, try again later") + &unknown),
        ("baddata", at_dot("554 5.7.1 Message refused as spam\n")),
        ("deferdata", at_dot("451 4.7.1 Message deferred, try again later\n")),
        ("slow", at_dot("250 2.0.0 Ok\nWAIT 70\n")),
        ("dropbefore", at_dot("DROP\nOVER\n")),
        ("dropafter", at_dot("DROP\nOVER\n")),
    ];
    for (local, expected) in cases {
        assert_eq!(after_ehlo(personalities(), &mail_to(local)).0, expected, "{local}");
    }
    let counts = |local| after_ehlo(personalities(), &mail_to(local)).1;
    assert_eq!((counts("dropbefore").messages, counts("dropbefore").dropped_before), (0, 1));
    assert_eq!((counts("dropafter").messages, counts("dropafter").dropped_after), (1, 1));
    assert_eq!((counts("baddata").messages, counts("baddata").messages_bounced), (0, 1));
    assert_eq!((counts("deferdata").messages, counts("deferdata").messages_deferred), (0, 1));
    assert_eq!((counts("defer").recipients_deferred, counts("bounce").recipients_bounced), (1, 1));
}

#[test]
fn greylisting_lets_the_second_attempt_in() {
    let again = "MAIL FROM:<other@b.test>\r\nRCPT TO:<GREY@c.test>\r\nRSET\r\n";
    let stranger = "MAIL FROM:<a@z.test>\r\nRCPT TO:<grey@c.test>\r\n";
    let first = "MAIL FROM:<a@b.test>\r\nRCPT TO:<grey@c.test>\r\nRSET\r\n";
    let (said, _) = after_ehlo(personalities(), &format!("{first}{again}{stranger}"));
    let grey = "450 4.7.1 Greylisted, try again later\n";
    let expected = format!(
        "{SENDER}{grey}250 2.0.0 Ok\n{SENDER}250 2.1.5 Recipient ok\n250 2.0.0 Ok\n\
         {SENDER}{grey}"
    );
    assert_eq!(said, expected);
}

#[test]
fn behaviours_change_the_conversation() {
    let plain = Behaviour::default;
    let two = format!("{}{}", mail_to("a"), mail_to("b"));
    let ok = "250 2.0.0 Ok\n";
    let cases = [
        (
            Behaviour { messages_per_connection_max: Some(1), ..plain() },
            &*two,
            format!("{GO}{ok}421 4.7.0 Too many messages on this connection\nOVER\n"),
        ),
        (
            Behaviour { messages_per_connection_max: Some(1), close_silently: true, ..plain() },
            &two,
            format!("{GO}{ok}DROP\nOVER\n"),
        ),
        (Behaviour { close_after_each: true, ..plain() }, &two, format!("{GO}{ok}OVER\n")),
        (
            Behaviour { message_bytes_max: 2, ..plain() },
            "MAIL FROM:<a@b> SIZE=3\r\n",
            "552 5.3.4 Message too large\n".into(),
        ),
        (
            Behaviour { message_bytes_max: 2, ..plain() },
            "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nx\r\n.\r\n",
            format!("{GO}552 5.3.4 Message too large\n"),
        ),
        (
            Behaviour { rules: vec!["* = 450 4.7.28 slow down".parse().unwrap()], ..plain() },
            "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\n",
            format!("{SENDER}450 4.7.28 slow down\n"),
        ),
    ];
    for (behaviour, input, expected) in cases {
        let name = format!("{behaviour:?}");
        assert_eq!(after_ehlo(behaviour, input).0, expected, "{name}");
    }
}

#[test]
fn greetings_extensions_and_delays_are_as_configured() {
    let said = |behaviour, input: &str| converse(&mut receiver(behaviour), [input.as_bytes()]);
    let none = Extensions {
        pipelining: false,
        eight_bit_mime: false,
        size: false,
        enhanced_status_codes: false,
    };
    let hello = "220 sink.test ESMTP mailshot-sink\n";
    let plain = Behaviour::default();
    let cases = [
        (
            plain.clone(),
            "EHLO x\r\n",
            format!(
                "{hello}250-sink.test\n250-PIPELINING\n250-8BITMIME\n250-SIZE 52428800\n\
                 250 ENHANCEDSTATUSCODES\n"
            ),
        ),
        (
            Behaviour { extensions: none, ..plain.clone() },
            "EHLO x\r\nMAIL FROM:<a@b> SIZE=1\r\nMAIL FROM:<a@b> BODY=7BIT\r\n\
             MAIL FROM:<a@b>\r\n",
            format!(
                "{hello}250 sink.test\n555 Parameter not recognised\n\
                 555 Parameter not recognised\n250 Sender ok\n"
            ),
        ),
        (
            Behaviour { helo_only: true, ..plain.clone() },
            "EHLO x\r\nHELO x\r\nNOOP\r\n",
            format!("{hello}502 Command not implemented\n250 sink.test\n250 Ok\n"),
        ),
        (
            Behaviour { greeting: Reply::greeting(554, "no").unwrap(), ..plain.clone() },
            "EHLO x\r\n",
            "554 no\nOVER\n".into(),
        ),
        (
            Behaviour { delay: Duration::from_millis(9), ..plain.clone() },
            "NOOP\r\nQUIT\r\nNOOP\r\n",
            format!("{hello}WAIT 9\n250 Ok\nWAIT 9\n221 Bye\nWAIT 9\nOVER\n"),
        ),
    ];
    for (behaviour, input, expected) in cases {
        let name = format!("{behaviour:?}");
        assert_eq!(said(behaviour, input), expected, "{name}");
    }
}

#[test]
fn sloppy_clients_are_noticed() {
    type Count = fn(&Tallies) -> u64;
    let cases: [(&str, &str, Count); 9] = [
        ("RCPT TO:<a@b>\r\n", "503 ", |counts| counts.bad_commands),
        ("DATA\r\n", "503 ", |counts| counts.bad_commands),
        ("MAIL FROM:<a@b>\r\nMAIL FROM:<a@b>\r\n", "503 ", |counts| counts.bad_commands),
        ("MAIL FROM: <a@b>\r\n", "501 ", |counts| counts.bad_commands),
        ("MAIL FROM:<a@b> SMTPUTF8\r\n", "555 ", |counts| counts.bad_commands),
        ("MAIL FROM:<ü@b>\r\n", "553 ", |counts| counts.bad_commands),
        ("NOOP\n", "250 ", |counts| counts.bare_lf_commands),
        ("HELO x\r\nNOOP\r\nNOOP\r\n", "250 ", |counts| counts.unasked_pipelining / 2),
        ("MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nDATA\r\nx", "354 ", |counts| counts.eager_bodies),
    ];
    for (input, code, count) in cases {
        let (said, counts) = after_ehlo(Behaviour::default(), input);
        assert!(said.lines().last().is_some_and(|line| line.starts_with(code)), "{said}");
        assert_eq!(count(&counts), 1, "{input}");
    }
    let (said, counts) = after_ehlo(Behaviour::default(), &"x".repeat(5000));
    assert_eq!((&*said, counts.bad_commands), ("500 5.5.2 Line too long\nOVER\n", 1));
}

proptest! {
    #[test]
    fn any_split_is_answered_alike(
        locals in prop::collection::vec("(anna|defer|baddata|grey|slow|dropafter)", 1..5),
        body in "(X-Mailshot-Key: r-[0-9]\r\n|\r\n|\\.\\.|[a-z]|\r){0,6}",
        sizes in prop::collection::vec(1_usize..40, 1..20),
    ) {
        let mut input = b"EHLO x\r\n".to_vec();
        for local in &locals {
            let message = mail_to(local).replace("x\r\n", &format!("{body}\r\n"));
            input.extend_from_slice(message.as_bytes());
        }
        let mut chunks = Vec::new();
        let mut rest = &*input;
        for size in sizes.iter().cycle() {
            if rest.is_empty() { break }
            let (chunk, more) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = more;
        }
        let (mut whole, mut split) = (receiver(personalities()), receiver(personalities()));
        prop_assert_eq!(converse(&mut split, chunks), converse(&mut whole, [&*input]));
        let messages = |receiver: &Receiver| Tallies {
            // How much came at once is what a split changes.
            eager_bodies: 0,
            ..receiver.counters.snapshot()
        };
        prop_assert_eq!(messages(&split), messages(&whole));
        let keys = |receiver: Receiver| receiver.inspection.keys.map(|keys| keys.report());
        prop_assert_eq!(keys(split), keys(whole));
    }
}
