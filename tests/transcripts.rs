//! SMTP conversations as files: each in `tests/transcripts/` is played to a session line by line.
//!
//! ```text
//! S: 220 mx.example ESMTP      the receiver says this
//! C: EHLO s.example            we say this next; the kernel takes it at once
//! P: [message 1]               as C:, but the kernel has not taken all of it until K:
//! K:                           now it has
//! O: 1 x@r.example 500         message 1 of 500 octets is offered for this recipient
//! E: refused 1 rcpt 550 = fail recipient     the session tells this, and it is judged so
//! W: behind                    the session wants a message now, behind the one it sends, or not
//! T: +300s                     so much time passes; the deadline is held to, and not before
//! X: lost closed               the connection is lost, by close or reset; `unsent` before the dot
//! Q:                           we have nothing more to say
//! ```
//!
//! All that the session says or tells must stand in the file, in its order, before the next thing
//! happens to it; `S:` and `X:` lines that follow one another come in one piece. Lines that begin
//! with `#` say what the receiver is.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mailshot::smtp::rules::Rules;
use mailshot::smtp::session::{End, Envelope, Event, Session, Tag, Wants};
use mailshot::smtp::verdict::{Action, Failure, Scope, Verdict, judge, judge_failure};
use mailshot::units::{Tick, duration};

const FROM: &str = "b@s.example";

struct Play {
    session: Session,
    now: Tick,
    /// Lines that we said and the transcript has not.
    said: VecDeque<String>,
    /// The line before this one came from the receiver.
    hearing: bool,
}

impl Play {
    fn new() -> Play {
        let now = Tick(0);
        Play { session: Session::new("s.example", now), now, said: VecDeque::new(), hearing: false }
    }

    /// Plays one line of a transcript.
    fn play(&mut self, line: &str) -> Result<(), String> {
        let (kind, rest) = line.split_at(line.len().min(2));
        let rest = rest.trim();
        let hearing = matches!(kind, "S:" | "X:");
        let in_one_piece = std::mem::replace(&mut self.hearing, hearing) && hearing;
        match kind {
            "C:" | "P:" => return self.say(rest, kind == "C:"),
            "E:" => {
                let told = self.session.next_event().map_or("nothing".to_owned(), words);
                return same(rest, &told);
            }
            "W:" => {
                let wants = match self.session.wants() {
                    Wants::Now => "now",
                    Wants::Behind => "behind",
                    Wants::Nothing => "nothing",
                };
                return same(rest, wants);
            }
            _ if in_one_piece => {}
            _ => self.is_through()?,
        }
        match kind {
            "S:" => self.session.receive(format!("{rest}\r\n").as_bytes(), self.now),
            "K:" => self.session.sent(self.now),
            "O:" => self.offer(rest),
            "T:" => self.pass(duration(rest.trim_start_matches('+'))?),
            "X:" => self.session.lost(failure(rest)?, rest.ends_with("unsent")),
            "Q:" => self.session.quit(self.now),
            other => return Err(format!("{other:?} is no kind of line")),
        }
        Ok(())
    }

    fn say(&mut self, expected: &str, at_once: bool) -> Result<(), String> {
        if self.said.is_empty()
            && let Some(out) = self.session.take(self.now)
        {
            let body = out.body.map_or(String::new(), |tag| format!("[message {}]\r\n", tag.0));
            let text = [out.head, body.into_bytes(), out.tail].concat();
            let text = String::from_utf8(text).map_err(|error| error.to_string())?;
            self.said = text.lines().map(str::to_owned).collect();
            if at_once {
                self.session.sent(self.now);
            }
        }
        same(expected, &self.said.pop_front().unwrap_or("nothing".to_owned()))
    }

    fn offer(&mut self, words: &str) {
        let mut words = words.split(' ');
        let mut word = || words.next().expect("a tag, a recipient and a size");
        let (tag, rcpt_to, size) = (word(), word(), word());
        let number = |word: &str| word.parse().expect("a number");
        let size = number(size) as usize;
        self.session.offer(Tag(number(tag)), Envelope { mail_from: FROM, rcpt_to, size }, self.now);
    }

    fn pass(&mut self, time: Duration) {
        let before = Tick(self.now.after(time).0 - 1);
        self.session.timed_out(before);
        self.now = self.now.after(time);
        if self.session.deadline() <= self.now {
            self.session.timed_out(self.now);
        }
    }

    /// Nothing was told or said that the transcript does not have.
    fn is_through(&mut self) -> Result<(), String> {
        if let Some(event) = self.session.next_event() {
            return Err(format!("the session tells {:?} as well", words(event)));
        }
        match self.said.front() {
            Some(line) => Err(format!("the session says {line:?} as well")),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.is_through()?;
        match self.session.take(self.now) {
            Some(out) => Err(format!("the session still says {:?}", out.head)),
            None => Ok(()),
        }
    }
}

fn same(expected: &str, found: &str) -> Result<(), String> {
    match expected == found {
        true => Ok(()),
        false => Err(format!("expected {expected:?}, found {found:?}")),
    }
}

fn failure(words: &str) -> Result<Failure, String> {
    match words.split(' ').nth(1) {
        Some("closed") => Ok(Failure::ClosedByPeer),
        Some("reset") => Ok(Failure::Reset),
        other => Err(format!("{other:?} is no way to lose a connection")),
    }
}

/// An event as transcripts have it.
fn words(event: Event) -> String {
    match event {
        Event::Ready => "ready".to_owned(),
        Event::Body(tag) => format!("body {}", tag.0),
        Event::Accepted(tag, reply) => format!("accepted {} {}", tag.0, reply.code),
        Event::Refused(tag, stage, reply) => {
            let verdict = verdict(judge(Rules::shipped(), "", stage, &reply));
            format!("refused {} {} {} = {verdict}", tag.0, stage.word(), reply.code)
        }
        Event::Unfit(tag, failure) => format!("unfit {} {}", tag.0, named(failure)),
        Event::Lost(tag, stage, failure) => {
            let verdict = verdict(judge_failure(stage, failure));
            format!("lost {} {} {} = {verdict}", tag.0, stage.word(), named(failure))
        }
        Event::Released(tag) => format!("released {}", tag.0),
        Event::Over(End::Finished) => "over".to_owned(),
        Event::Over(End::Refused(stage, reply)) => {
            format!(
                "over {} {} = {}",
                stage.word(),
                reply.code,
                verdict(judge(Rules::shipped(), "", stage, &reply))
            )
        }
        Event::Over(End::Failed(stage, failure)) => {
            format!("over {} {}", stage.word(), named(failure))
        }
    }
}

fn named(failure: Failure) -> &'static str {
    match failure {
        Failure::Refused => "refused",
        Failure::Unreachable => "unreachable",
        Failure::Reset => "reset",
        Failure::ClosedByPeer => "closed",
        Failure::TimedOut => "timed-out",
        Failure::Garbage(_) => "garbage",
        Failure::OutOfTurn => "out-of-turn",
        Failure::TooLarge => "too-large",
        Failure::NeedsSmtpUtf8 => "needs-smtputf8",
    }
}

fn verdict(verdict: Verdict) -> String {
    let action = match verdict.action {
        Action::Accept => "accept",
        Action::Retry => "retry",
        Action::Fail => "fail",
        Action::Reconnect => "reconnect",
        Action::Suppress => "suppress",
        Action::Slow => "slow",
        Action::Pause(_) => "pause",
        Action::Halt => "halt",
        Action::Doubt => "doubt",
    };
    let scope = match verdict.scope {
        Scope::Recipient => "recipient",
        Scope::Message => "message",
        Scope::Connection => "connection",
        Scope::Domain => "domain",
        Scope::SourceAtProvider => "source-at-provider",
        Scope::DomainAtProvider => "domain-at-provider",
        Scope::CampaignAtProvider => "campaign-at-provider",
        Scope::Provider => "provider",
        Scope::Source => "source",
        Scope::Campaign => "campaign",
    };
    format!("{action} {scope}")
}

fn transcripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let entries = fs::read_dir(dir).expect("the transcripts");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_transcript_plays() {
    let paths = transcripts();
    assert!(paths.len() >= 25, "{} transcripts", paths.len());
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap().display().to_string();
        let text = fs::read_to_string(path).unwrap();
        assert!(text.starts_with("# "), "{name} says what the receiver is");
        let mut play = Play::new();
        let lines = text.lines().enumerate();
        let mut lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let played = lines.try_for_each(|(index, line)| {
            play.play(line).map_err(|why| format!("{name}:{}: {why}", index + 1))
        });
        wrong
            .extend(played.and_then(|()| play.end().map_err(|why| format!("{name}: {why}"))).err());
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
