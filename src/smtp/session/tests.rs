//! tests — conversations with the session, octet by octet.

use super::*;

const NOW: Tick = Tick(0);
const EHLO: &str = "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250 8BITMIME\r\n";

fn envelope(rcpt_to: &str) -> Envelope<'_> {
    Envelope { mail_from: "b@s.example", rcpt_to, size: 500 }
}

/// A session that has said EHLO to a receiver with these replies.
fn greeted(ehlo_reply: &str) -> Session {
    let mut session = Session::new("s.example", NOW);
    hear(&mut session, "220 mx.example ESMTP\r\n");
    assert_eq!(wire(&mut session), "EHLO s.example\r\n");
    hear(&mut session, ehlo_reply);
    assert_eq!(session.next_event(), Some(Event::Ready));
    session
}

fn hear(session: &mut Session, text: &str) {
    session.receive(text.as_bytes(), NOW);
}

/// What the session sends now, a message shown as its tag.
fn wire(session: &mut Session) -> String {
    let Some(out) = session.take(NOW) else { return String::new() };
    session.sent(NOW);
    let body = out.body.map_or(String::new(), |tag| format!("[message {}]\r\n", tag.0));
    [String::from_utf8_lossy(&out.head), body.into(), String::from_utf8_lossy(&out.tail)].concat()
}

fn told(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.next_event()).collect()
}

fn reply(text: &str) -> Reply {
    let mut parser = ReplyParser::new();
    parser.feed(&mut text.as_bytes()).expect("a reply").expect("a whole one")
}

#[test]
fn body_and_next_envelope_leave_in_one_send() {
    let mut session = greeted(EHLO);
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    let group = "MAIL FROM:<b@s.example> SIZE=500\r\nRCPT TO:<x@r.example>\r\nDATA\r\n";
    assert_eq!(wire(&mut session), group);
    assert_eq!(session.wants(), Wants::Nothing);
    hear(&mut session, "250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(told(&mut session), [Event::Body(Tag(1))]);
    assert_eq!(session.wants(), Wants::Behind);
    session.offer(Tag(2), envelope("y@r.example"), NOW);
    assert_eq!(
        wire(&mut session),
        "[message 1]\r\n.\r\nMAIL FROM:<b@s.example> SIZE=500\r\n\
         RCPT TO:<y@r.example>\r\nDATA\r\n"
    );
    hear(&mut session, "250 2.0.0 queued\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    let accepted = Event::Accepted(Tag(1), reply("250 2.0.0 queued\r\n"));
    assert_eq!(told(&mut session), [accepted, Event::Body(Tag(2))]);
    assert_eq!(wire(&mut session), "[message 2]\r\n.\r\n");
    assert_eq!(session.deadline(), NOW.after(limits::DOT_TIMEOUT));
    hear(&mut session, "250 ok\r\n");
    assert_eq!(told(&mut session), [Event::Accepted(Tag(2), reply("250 ok\r\n"))]);
    session.quit(NOW);
    assert_eq!(wire(&mut session), "QUIT\r\n");
    hear(&mut session, "221 bye\r\n");
    assert_eq!(told(&mut session), [Event::Over(End::Finished)]);
}

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut session = greeted("250 mx.example\r\n");
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    let steps = [
        ("MAIL FROM:<b@s.example>\r\n", "250 ok\r\n"),
        ("RCPT TO:<x@r.example>\r\n", "250 ok\r\n"),
        ("DATA\r\n", "354 go\r\n"),
        ("[message 1]\r\n.\r\n", "250 ok\r\n"),
    ];
    for (sent, answer) in steps {
        assert_eq!(wire(&mut session), sent);
        assert_eq!(session.wants(), Wants::Nothing);
        hear(&mut session, answer);
    }
    assert_eq!(
        told(&mut session),
        [Event::Body(Tag(1)), Event::Accepted(Tag(1), reply("250 ok\r\n"))]
    );
    assert_eq!(session.wants(), Wants::Now);
}

#[test]
fn a_refused_recipient_is_reset_before_the_next_message() {
    let mut session = greeted(EHLO);
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    wire(&mut session);
    hear(&mut session, "250 ok\r\n550 5.1.1 who\r\n503 no recipients\r\n");
    let refused = Event::Refused(Tag(1), Stage::Rcpt, reply("550 5.1.1 who\r\n"));
    assert_eq!(told(&mut session), [refused]);
    session.offer(Tag(2), envelope("y@r.example"), NOW);
    assert!(wire(&mut session).starts_with("RSET\r\nMAIL FROM:<b@s.example> SIZE=500\r\n"));
    hear(&mut session, "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(told(&mut session), [Event::Body(Tag(2))]);
}

#[test]
fn data_after_a_refused_recipient_gets_an_empty_message() {
    let mut session = greeted(EHLO);
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    wire(&mut session);
    hear(&mut session, "250 ok\r\n550 5.1.1 who\r\n354 go\r\n");
    let refused = Event::Refused(Tag(1), Stage::Rcpt, reply("550 5.1.1 who\r\n"));
    assert_eq!(told(&mut session), [refused]);
    assert_eq!(wire(&mut session), ".\r\n");
    hear(&mut session, "554 no valid recipients\r\n");
    assert_eq!(told(&mut session), []);
    assert_eq!(session.wants(), Wants::Now);
}

#[test]
fn a_lost_reply_to_the_dot_is_told_as_lost_at_the_dot() {
    let mut session = greeted(EHLO);
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    wire(&mut session);
    hear(&mut session, "250 ok\r\n250 ok\r\n354 go\r\n");
    session.offer(Tag(2), envelope("y@r.example"), NOW);
    wire(&mut session);
    told(&mut session);
    session.lost(Failure::ClosedByPeer, false);
    assert_eq!(
        told(&mut session),
        [
            Event::Lost(Tag(1), Stage::Dot, Failure::ClosedByPeer),
            Event::Released(Tag(2)),
            Event::Over(End::Failed(Stage::Dot, Failure::ClosedByPeer)),
        ]
    );
}

#[test]
fn a_message_whose_dot_has_not_left_is_lost_in_its_data() {
    let mut session = greeted(EHLO);
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    wire(&mut session);
    hear(&mut session, "250 ok\r\n250 ok\r\n354 go\r\n");
    session.take(NOW);
    told(&mut session);
    session.lost(Failure::Reset, true);
    assert_eq!(told(&mut session)[0], Event::Lost(Tag(1), Stage::Data, Failure::Reset));
}

#[test]
fn a_close_between_two_messages_gives_the_next_one_back() {
    let mut session = greeted(EHLO);
    session.offer(Tag(1), envelope("x@r.example"), NOW);
    wire(&mut session);
    hear(&mut session, "250 ok\r\n250 ok\r\n354 go\r\n");
    session.offer(Tag(2), envelope("y@r.example"), NOW);
    wire(&mut session);
    hear(&mut session, "250 ok\r\n");
    told(&mut session);
    session.lost(Failure::ClosedByPeer, false);
    assert_eq!(told(&mut session), [Event::Released(Tag(2)), Event::Over(End::Finished)]);
}

#[test]
fn ehlo_refused_falls_back_to_helo() {
    let mut session = Session::new("s.example", NOW);
    hear(&mut session, "220 old\r\n");
    wire(&mut session);
    hear(&mut session, "502 what?\r\n");
    assert_eq!(wire(&mut session), "HELO s.example\r\n");
    hear(&mut session, "250 hello\r\n");
    assert_eq!(told(&mut session), [Event::Ready]);
    assert!(!session.capabilities().pipelining);
}

#[test]
fn a_refusing_banner_is_about_us_and_ends_the_session() {
    let mut session = Session::new("s.example", NOW);
    hear(&mut session, "554 5.7.1 go away\r\n");
    let end = End::Refused(Stage::Banner, reply("554 5.7.1 go away\r\n"));
    assert_eq!(told(&mut session), [Event::Over(end)]);
}

#[test]
fn too_large_a_message_is_not_begun() {
    let mut session = greeted(EHLO);
    let large = Envelope { size: 1001, ..envelope("x@r.example") };
    session.offer(Tag(1), large, NOW);
    assert_eq!(told(&mut session), [Event::Unfit(Tag(1), Failure::TooLarge)]);
    assert_eq!(wire(&mut session), "");
    assert_eq!(session.wants(), Wants::Now);
}

#[test]
fn an_unasked_reply_ends_a_session_that_cannot_tell_what_it_answers() {
    let mut session = greeted(EHLO);
    hear(&mut session, "250 extra\r\n");
    assert_eq!(told(&mut session), [Event::Over(End::Failed(Stage::Quit, Failure::OutOfTurn))]);
}

#[test]
fn an_idle_session_quits_at_its_deadline() {
    let mut session = greeted(EHLO);
    assert_eq!(session.deadline(), NOW.after(limits::IDLE_TIMEOUT));
    session.timed_out(Tick(1));
    assert_eq!(wire(&mut session), "", "not yet");
    session.timed_out(NOW.after(limits::IDLE_TIMEOUT));
    assert_eq!(wire(&mut session), "QUIT\r\n");
}
