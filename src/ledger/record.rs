//! record — what a frame of the ledger says: Started, Outcome, Note; as octets and back.
//!
//! Each record has its length in front and ends on a multiple of 8, so a reader can step over it.
//! Times are whole microseconds; durations are cut to whole microseconds, and those that timeouts
//! bound (`connect`, `data`) are 32 bits and saturate at 71 minutes. Decoding fails with `None` on
//! anything that encoding does not make.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::format::Octets;
use crate::limits::RESPONSE_TEXT_MAX;
use crate::outcome::{Binding, Class, Enhanced, Kind, Outcome, Row, Session, Stage};
use crate::units::Utc;

/// Octets of a note: a few lines of an operator's words.
pub const NOTE_TEXT_MAX: usize = 4096;

const STARTED: u8 = 1;
const OUTCOME: u8 = 2;
const NOTE: u8 = 3;

const HAS_NEXT_ATTEMPT: u8 = 1;
const HAS_ENHANCED: u8 = 2;

/// Octets of a record's length, kind, flags and attempt.
const HEAD: usize = 8;
/// No record is longer: the four texts of an outcome have 16 bits for their lengths.
pub(super) const LENGTH_MAX: usize = 5 << 16;

/// One statement of the ledger.
#[expect(clippy::large_enum_variant, reason = "almost every record is an outcome, on the stack")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The body of this attempt may be on the wire from now on.
    Started {
        /// Which message.
        row: Row,
        /// Which attempt, from 1.
        attempt: u16,
        /// When.
        time: Utc,
    },
    /// An attempt ended.
    Outcome(Outcome<'a>),
    /// Somebody did something that the accounts should show; changes no row.
    Note {
        /// When.
        time: Utc,
        /// What, at most [`NOTE_TEXT_MAX`] octets.
        text: &'a str,
    },
}

/// Appends Started.
pub(super) fn put_started(frame: &mut Vec<u8>, row: Row, attempt: u16, time: Utc) {
    let start = begin(frame, STARTED, 0, attempt);
    put(frame, row.0.to_le_bytes());
    put(frame, [0; 4]);
    put(frame, time.0.to_le_bytes());
    end(frame, start);
}

/// Appends Note.
pub(super) fn put_note(frame: &mut Vec<u8>, time: Utc, text: &str) {
    assert!(text.len() <= NOTE_TEXT_MAX, "a note has at most {NOTE_TEXT_MAX} octets");
    let start = begin(frame, NOTE, 0, 0);
    put(frame, u32::try_from(text.len()).expect("checked above").to_le_bytes());
    put(frame, [0; 4]);
    put(frame, time.0.to_le_bytes());
    frame.extend_from_slice(text.as_bytes());
    end(frame, start);
}

/// Appends Outcome.
pub(super) fn put_outcome(frame: &mut Vec<u8>, outcome: &Outcome<'_>) {
    let (kind, next) = (outcome.kind, outcome.next_attempt);
    assert_eq!(next.is_some(), kind == Kind::Deferred, "exactly a deferral has a next attempt");
    let response = outcome.response;
    assert!(response.len() <= RESPONSE_TEXT_MAX, "response texts are cut before they get here");
    let texts = [outcome.host, outcome.provider, outcome.rule, response];
    let lengths = texts.map(|text| u16::try_from(text.len()).expect("names are below 64 KiB"));
    let enhanced = outcome.enhanced.unwrap_or(Enhanced(0, 0, 0));
    let flags = if next.is_some() { HAS_NEXT_ATTEMPT } else { 0 }
        | if outcome.enhanced.is_some() { HAS_ENHANCED } else { 0 };
    let start = begin(frame, OUTCOME, flags, outcome.attempt);
    put(frame, outcome.row.0.to_le_bytes());
    put(frame, [kind as u8, outcome.stage as u8, outcome.class as u8, enhanced.0]);
    for time in [outcome.time, outcome.spooled, outcome.first_attempt, next.unwrap_or(Utc(0))] {
        put(frame, time.0.to_le_bytes());
    }
    put(frame, outcome.session.key.to_le_bytes());
    put(frame, outcome.session.message_index.to_le_bytes());
    put(frame, outcome.size.to_le_bytes());
    put(frame, micros(outcome.took).to_le_bytes());
    put(frame, micros(outcome.waited).to_le_bytes());
    put(frame, short_micros(outcome.session.connect).to_le_bytes());
    put(frame, short_micros(outcome.data).to_le_bytes());
    for number in [outcome.smtp_code, enhanced.1, enhanced.2].into_iter().chain(lengths) {
        put(frame, number.to_le_bytes());
    }
    put_address(frame, outcome.session.remote);
    put_address(frame, outcome.session.source);
    frame.push(outcome.limit as u8);
    for text in texts {
        frame.extend_from_slice(text.as_bytes());
    }
    end(frame, start);
}

fn put<const N: usize>(frame: &mut Vec<u8>, octets: [u8; N]) {
    frame.extend_from_slice(&octets);
}

fn put_address(frame: &mut Vec<u8>, address: Option<IpAddr>) {
    let (family, octets) = match address {
        None => (0, [0; 16]),
        Some(IpAddr::V4(four)) => (4, four.to_ipv6_mapped().octets()),
        Some(IpAddr::V6(six)) => (6, six.octets()),
    };
    frame.push(family);
    put(frame, octets);
}

fn begin(frame: &mut Vec<u8>, kind: u8, flags: u8, attempt: u16) -> usize {
    let start = frame.len();
    put(frame, [0, 0, 0, 0, kind, flags]);
    put(frame, attempt.to_le_bytes());
    start
}

fn end(frame: &mut Vec<u8>, start: usize) {
    let length = (frame.len() - start).next_multiple_of(8);
    frame.resize(start + length, 0);
    let length = u32::try_from(length).expect("below LENGTH_MAX");
    frame[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn short_micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// The record at the front of `octets`, and its length.
pub(super) fn decode(octets: &[u8]) -> Option<(Record<'_>, usize)> {
    let length = length(octets)?;
    let mut fields = Octets(octets.get(4..length)?);
    let (kind, flags, attempt) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let record = match kind {
        STARTED => started(attempt, &mut fields)?,
        OUTCOME => Record::Outcome(outcome(flags, attempt, &mut fields)?),
        NOTE => note(&mut fields)?,
        _ => return None,
    };
    Some((record, length))
}

/// The length of the record at the front of `octets`, head and padding included.
pub(super) fn length(octets: &[u8]) -> Option<usize> {
    let length = usize::try_from(Octets(octets).u32()?).ok()?;
    (length >= HEAD && length.is_multiple_of(8)).then_some(length)
}

fn started(attempt: u16, fields: &mut Octets<'_>) -> Option<Record<'static>> {
    let row = Row(fields.u32()?);
    fields.u32()?;
    Some(Record::Started { row, attempt, time: Utc(fields.i64()?) })
}

fn note<'a>(fields: &mut Octets<'a>) -> Option<Record<'a>> {
    let length = usize::try_from(fields.u32()?).ok()?;
    fields.u32()?;
    let time = Utc(fields.i64()?);
    Some(Record::Note { time, text: fields.text(length)? })
}

fn outcome<'a>(flags: u8, attempt: u16, fields: &mut Octets<'a>) -> Option<Outcome<'a>> {
    let row = Row(fields.u32()?);
    let kind = Kind::from_number(fields.u8()?)?;
    let stage = Stage::from_number(fields.u8()?)?;
    let class = Class::from_number(fields.u8()?)?;
    let enhanced_class = fields.u8()?;
    let (time, spooled) = (Utc(fields.i64()?), Utc(fields.i64()?));
    let (first_attempt, next) = (Utc(fields.i64()?), Utc(fields.i64()?));
    let next_attempt = (flags & HAS_NEXT_ATTEMPT != 0).then_some(next);
    if next_attempt.is_some() != (kind == Kind::Deferred) {
        return None;
    }
    let (key, message_index, size) = (fields.u64()?, fields.u32()?, fields.u32()?);
    let took = Duration::from_micros(fields.u64()?);
    let waited = Duration::from_micros(fields.u64()?);
    let connect = Duration::from_micros(fields.u32()?.into());
    let data = Duration::from_micros(fields.u32()?.into());
    let (smtp_code, subject, detail) = (fields.u16()?, fields.u16()?, fields.u16()?);
    let enhanced = (flags & HAS_ENHANCED != 0).then_some(Enhanced(enhanced_class, subject, detail));
    let (host, provider) = (usize::from(fields.u16()?), usize::from(fields.u16()?));
    let (rule, response) = (usize::from(fields.u16()?), usize::from(fields.u16()?));
    let (remote, source) = (address(fields)?, address(fields)?);
    let session = Session { key, message_index, remote, source, connect };
    let limit = Binding::from_number(fields.u8()?)?;
    let (host, provider) = (fields.text(host)?, fields.text(provider)?);
    let (rule, response) = (fields.text(rule)?, fields.text(response)?);
    Some(Outcome {
        row,
        attempt,
        kind,
        stage,
        class,
        time,
        spooled,
        first_attempt,
        next_attempt,
        smtp_code,
        enhanced,
        session,
        took,
        waited,
        data,
        size,
        host,
        provider,
        rule,
        limit,
        response,
    })
}

fn address(fields: &mut Octets<'_>) -> Option<Option<IpAddr>> {
    let family = fields.u8()?;
    let octets: [u8; 16] = fields.take()?;
    match family {
        0 => Some(None),
        4 => {
            let [.., a, b, c, d] = octets;
            Some(Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))))
        }
        6 => Some(Some(IpAddr::V6(Ipv6Addr::from(octets)))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::option;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Where docs/formats.md has the limit.
    const LIMIT_AT: usize = 136;

    prop_compose! {
        fn sessions()(
            key: u64,
            message_index: u32,
            remote in option::of(any::<IpAddr>()),
            source in option::of(any::<IpAddr>()),
            connect: u32,
        ) -> Session {
            let connect = Duration::from_micros(connect.into());
            Session { key, message_index, remote, source, connect }
        }
    }

    prop_compose! {
        fn outcomes()(
            (row, attempt, size, smtp_code) in any::<(u32, u16, u32, u16)>(),
            kind in select(Kind::ALL),
            stage in select(Stage::ALL),
            class in select(Class::ALL),
            times in any::<[i64; 4]>(),
            enhanced in option::of(any::<(u8, u16, u16)>()),
            session in sessions(),
            (took, waited, data) in any::<(u64, u64, u32)>(),
            limit in select(Binding::ALL),
            texts in ["[a-z.]{0,253}", "\\PC{0,40}", "[a-z-]{0,40}", "\\PC{0,128}"],
        ) -> (Outcome<'static>, [String; 4]) {
            (Outcome {
                row: Row(row),
                attempt,
                kind,
                stage,
                class,
                time: Utc(times[0]),
                spooled: Utc(times[1]),
                first_attempt: Utc(times[2]),
                next_attempt: (kind == Kind::Deferred).then_some(Utc(times[3])),
                smtp_code,
                enhanced: enhanced.map(|(a, b, c)| Enhanced(a, b, c)),
                session,
                took: Duration::from_micros(took),
                waited: Duration::from_micros(waited),
                data: Duration::from_micros(data.into()),
                size,
                host: "",
                provider: "",
                rule: "",
                limit,
                response: "",
            }, texts)
        }
    }

    proptest! {
        #[test]
        fn an_outcome_comes_back_as_it_was((outcome, texts) in outcomes()) {
            let [host, provider, rule, response] = &texts;
            let outcome = Outcome { host, provider, rule, response, ..outcome };
            let mut octets = Vec::new();
            put_outcome(&mut octets, &outcome);
            prop_assert_eq!(decode(&octets), Some((Record::Outcome(outcome), octets.len())));
            for length in 0..octets.len() {
                prop_assert_eq!(decode(&octets[..length]), None);
            }
        }

        #[test]
        fn any_octets_decode_to_a_record_or_nothing(octets: Vec<u8>) {
            if let Some((_, length)) = decode(&octets) {
                prop_assert!(length <= octets.len());
            }
        }
    }

    #[test]
    fn the_small_records_come_back_as_they_were() {
        let mut octets = Vec::new();
        put_started(&mut octets, Row(7), 3, Utc(-1));
        assert_eq!(octets.len(), 24);
        let expected = Record::Started { row: Row(7), attempt: 3, time: Utc(-1) };
        assert_eq!(decode(&octets), Some((expected, 24)));

        octets.clear();
        put_note(&mut octets, Utc(9), "paused yahoo");
        assert_eq!(
            decode(&octets),
            Some((Record::Note { time: Utc(9), text: "paused yahoo" }, 40))
        );
    }

    #[test]
    fn wrong_records_are_refused() {
        let mut good = Vec::new();
        put_note(&mut good, Utc(9), "paused yahoo");
        for (name, at, octet) in [
            ("unknown kind", 4, 9),
            ("length below the head", 0, 0),
            ("length not a multiple of 8", 0, 41),
            ("length beyond the end", 0, 48),
            ("text longer than its record", 8, 200),
            ("text not UTF-8", 24, 0xFF),
        ] {
            let mut bad = good.clone();
            bad[at] = octet;
            assert_eq!(decode(&bad), None, "{name}");
        }
    }

    #[test]
    fn a_limit_that_has_no_number_is_refused() {
        let end = (Kind::Failed, Class::RenderError);
        let outcome = Outcome::unconnected((Row(7), 1), end, (Utc(2), Utc(1)), "no");
        let mut octets = Vec::new();
        put_outcome(&mut octets, &outcome);
        assert_eq!(octets[LIMIT_AT], Binding::Nothing as u8);
        octets[LIMIT_AT] = Binding::Retry as u8;
        let limit = match decode(&octets) {
            Some((Record::Outcome(outcome), _)) => outcome.limit,
            other => panic!("{other:?}"),
        };
        assert_eq!(limit, Binding::Retry, "docs/formats.md says where it is");
        octets[LIMIT_AT] = 255;
        assert_eq!(decode(&octets), None);
    }

    #[test]
    fn long_durations_saturate() {
        assert_eq!(short_micros(Duration::from_secs(86_400)), u32::MAX);
        assert_eq!(micros(Duration::MAX), u64::MAX);
    }
}
