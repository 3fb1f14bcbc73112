//! attempt — one outcome in the words of the accounting tables: what is null, and which unit.
//!
//! Both `events` and `messages` show attempts; here a zero that means "there was none" becomes a
//! null, durations become whole milliseconds (rounded down), addresses become text. Nothing fails.

use std::fmt::Write;
use std::net::IpAddr;
use std::time::Duration;

use super::bounce::BounceKind;
use super::{RunFacts, SourceFacts, response};
use crate::outcome::{Binding, Class, Kind, Outcome};
use crate::units::Utc;

/// The texts of one attempt, in buffers that the next one reuses.
#[derive(Default)]
pub(super) struct Texts {
    remote: String,
    source: String,
    enhanced: String,
    response: String,
    norm: String,
}

impl Texts {
    /// Writes the texts of `outcome`.
    pub(super) fn fill(&mut self, outcome: &Outcome<'_>) {
        address(outcome.session.remote, &mut self.remote);
        address(outcome.session.source, &mut self.source);
        self.enhanced.clear();
        if let Some(enhanced) = outcome.enhanced {
            write!(self.enhanced, "{enhanced}").expect("writing to a string does not fail");
        }
        response::mask(outcome.response, &mut self.response);
        response::normalise(&self.response, &mut self.norm);
    }
}

fn address(ip: Option<IpAddr>, out: &mut String) {
    out.clear();
    if let Some(ip) = ip {
        write!(out, "{ip}").expect("writing to a string does not fail");
    }
}

/// An attempt and its texts.
pub(super) struct Attempt<'a> {
    pub(super) run: &'a RunFacts,
    pub(super) outcome: &'a Outcome<'a>,
    texts: &'a Texts,
    sender: Option<&'a SourceFacts>,
}

impl<'a> Attempt<'a> {
    /// `texts` must have been filled from `outcome`.
    pub(super) fn new(
        run: &'a RunFacts,
        outcome: &'a Outcome<'a>,
        texts: &'a Texts,
    ) -> Attempt<'a> {
        let sender = outcome.session.source.and_then(|ip| run.source(ip));
        Attempt { run, outcome, texts, sender }
    }

    pub(super) fn remote_ip(&self) -> Option<&str> {
        filled(&self.texts.remote)
    }

    pub(super) fn source_ip(&self) -> Option<&str> {
        filled(&self.texts.source)
    }

    pub(super) fn ip_pool(&self) -> Option<&str> {
        self.sender.and_then(|source| source.pool.as_deref())
    }

    pub(super) fn ehlo_name(&self) -> Option<&str> {
        self.sender.map(|source| source.ehlo_name.as_str())
    }

    pub(super) fn provider(&self) -> Option<&str> {
        filled(self.outcome.provider)
    }

    /// The limit for which the message had waited, if it waited for one.
    pub(super) fn rate_rule(&self) -> Option<&'static str> {
        Some(self.outcome.limit).filter(|limit| *limit != Binding::Nothing).map(Binding::word)
    }

    pub(super) fn mx_host(&self) -> Option<&str> {
        filled(self.outcome.host)
    }

    pub(super) fn conn_key(&self) -> Option<i64> {
        Some(whole(self.outcome.session.key)).filter(|key| *key > 0)
    }

    pub(super) fn conn_msg_index(&self) -> Option<i32> {
        Some(small(self.outcome.session.message_index)).filter(|index| *index > 0)
    }

    pub(super) fn smtp_code(&self) -> Option<i32> {
        Some(i32::from(self.outcome.smtp_code)).filter(|code| *code > 0)
    }

    pub(super) fn enhanced_status(&self) -> Option<&str> {
        filled(&self.texts.enhanced)
    }

    pub(super) fn response_text(&self) -> Option<&str> {
        filled(&self.texts.response)
    }

    pub(super) fn response_norm(&self) -> Option<&str> {
        filled(&self.texts.norm)
    }

    pub(super) fn bounce_class(&self) -> Option<&'static str> {
        Some(self.outcome.class).filter(|class| *class != Class::None).map(Class::word)
    }

    pub(super) fn bounce_kind(&self) -> Option<&'static str> {
        BounceKind::of(self.outcome.class).map(BounceKind::word)
    }

    /// Since the message first entered the queue: its rendering, or, of a later attempt that was
    /// rendered anew, the beginning of the first attempt.
    pub(super) fn queue_ms(&self) -> Option<i64> {
        let entered = self.spooled_time()?.min(self.outcome.first_attempt);
        Some(millis(self.outcome.time.since(entered)))
    }

    pub(super) fn connect_ms(&self) -> Option<i64> {
        self.conn_key().map(|_| millis(self.outcome.session.connect))
    }

    pub(super) fn data_ms(&self) -> Option<i64> {
        Some(self.outcome.data).filter(|data| !data.is_zero()).map(millis)
    }

    pub(super) fn msg_size(&self) -> Option<i64> {
        Some(i64::from(self.outcome.size)).filter(|size| *size > 0)
    }

    /// Whether there was a message at all: not where none could be made, nor where the operator
    /// ended the row before its turn came. Their number is that of the attempt that was not made.
    fn was_rendered(&self) -> bool {
        !matches!(self.outcome.kind, Kind::Failed | Kind::Cancelled)
    }

    /// How often the message was tried; an outcome without a message is not a try.
    pub(super) fn attempts(&self) -> i32 {
        let number = i32::from(self.outcome.attempt);
        if self.was_rendered() { number } else { (number - 1).max(0) }
    }

    pub(super) fn first_attempt_time(&self) -> Option<Utc> {
        Some(self.outcome.first_attempt).filter(|_| self.attempts() > 0)
    }

    pub(super) fn spooled_time(&self) -> Option<Utc> {
        self.was_rendered().then_some(self.outcome.spooled)
    }

    pub(super) fn dkim_domain(&self) -> Option<&str> {
        self.run.dkim_domain.as_deref().filter(|_| self.was_rendered())
    }

    pub(super) fn dkim_selector(&self) -> Option<&str> {
        self.run.dkim_selector.as_deref().filter(|_| self.was_rendered())
    }
}

/// A text that is not empty.
pub(super) fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Whole milliseconds, at most what INT64 holds.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A count as INT64; there are no unsigned integers in Parquet that all readers take.
pub(super) fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A small count as INT32.
pub(super) fn small(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::outcome::{Row, Session, Stage};

    /// An outcome in which everything that can be absent is absent.
    pub(in crate::account) fn outcome() -> Outcome<'static> {
        Outcome {
            row: Row(1),
            attempt: 1,
            kind: Kind::Delivered,
            stage: Stage::Dot,
            class: Class::None,
            time: Utc(5_000_999),
            spooled: Utc(2_000_000),
            first_attempt: Utc(3_000_000),
            next_attempt: None,
            smtp_code: 0,
            enhanced: None,
            session: Session::default(),
            took: Duration::ZERO,
            waited: Duration::ZERO,
            data: Duration::ZERO,
            size: 0,
            host: "",
            provider: "",
            rule: "",
            limit: Binding::Nothing,
            response: "",
        }
    }

    fn facts() -> RunFacts {
        let word = str::to_owned;
        RunFacts {
            run_id: word("r"),
            campaign_id: word("c"),
            template_sha256: word("t"),
            list_sha256: word("l"),
            rate_table_sha256: word("r"),
            tool_version: word("0"),
            dkim_domain: Some(word("example.com")),
            dkim_selector: Some(word("s1")),
            sources: Vec::new(),
        }
    }

    #[test]
    fn the_queue_is_left_once_and_entered_first() {
        let (run, texts) = (facts(), Texts::default());
        let first = outcome();
        assert_eq!(Attempt::new(&run, &first, &texts).queue_ms(), Some(3_000));
        let retry = Outcome { attempt: 2, spooled: Utc(4_900_000), ..outcome() };
        assert_eq!(Attempt::new(&run, &retry, &texts).queue_ms(), Some(2_000));
        let clock_back = Outcome { time: Utc(1), ..outcome() };
        assert_eq!(Attempt::new(&run, &clock_back, &texts).queue_ms(), Some(0));
    }

    #[test]
    fn what_was_never_rendered_is_no_attempt() {
        let (run, texts) = (facts(), Texts::default());
        for kind in [Kind::Failed, Kind::Cancelled] {
            let unmade = Outcome { kind, ..outcome() };
            let attempt = Attempt::new(&run, &unmade, &texts);
            assert_eq!(attempt.attempts(), 0);
            assert_eq!((attempt.first_attempt_time(), attempt.spooled_time()), (None, None));
            assert_eq!((attempt.queue_ms(), attempt.dkim_domain()), (None, None));
            let later = Outcome { attempt: 2, ..unmade };
            let attempt = Attempt::new(&run, &later, &texts);
            let first = Some(Utc(3_000_000));
            assert_eq!((attempt.attempts(), attempt.first_attempt_time()), (1, first));
        }
    }

    #[test]
    fn counts_stop_at_what_a_signed_integer_holds() {
        assert_eq!((whole(u64::MAX), small(u32::MAX)), (i64::MAX, i32::MAX));
        assert_eq!(millis(Duration::MAX), i64::MAX);
        assert_eq!(millis(Duration::from_micros(1_999)), 1);
    }
}
