//! forms — the accepted forms of single values in a rules file: codes, status codes, stages,
//! scopes, actions, waits, replies.
//!
//! Each function takes the text of a value and gives what it means or a sentence; where the
//! sentence can say what to do instead, that stands behind the last `; `.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::outcome::{Class, Enhanced, Stage};
use crate::problem::suggest;
use crate::smtp::reply::{Reply, ReplyParser};
use crate::smtp::verdict::Scope;
use crate::units;

use super::Cause;

/// Enhanced status codes: a class or any, a subject, and a range of details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statuses {
    pub(super) class: Option<u8>,
    pub(super) subject: u16,
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Statuses {
    pub(super) fn contains(&self, Enhanced(class, subject, detail): Enhanced) -> bool {
        self.subject == subject
            && (self.first..=self.last).contains(&detail)
            && self.class.is_none_or(|own| own == class)
    }
}

/// The scopes and their words.
pub(super) const SCOPES: &[(&str, Scope)] = &[
    ("recipient", Scope::Recipient),
    ("message", Scope::Message),
    ("connection", Scope::Connection),
    ("domain", Scope::Domain),
    ("source-at-provider", Scope::SourceAtProvider),
    ("domain-at-provider", Scope::DomainAtProvider),
    ("campaign-at-provider", Scope::CampaignAtProvider),
    ("provider", Scope::Provider),
    ("source", Scope::Source),
    ("campaign", Scope::Campaign),
];

/// The words of actions; `pause` takes a wait besides.
pub(super) const ACTIONS: &[&str] =
    &["retry", "fail", "suppress", "reconnect", "slow", "pause", "halt", "by-code"];

/// The stages at which a reply can refuse: those of the conversation but QUIT, whose reply means
/// nothing.
pub(super) const STAGES: [Stage; 6] =
    [Stage::Banner, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Dot];

/// What a pause is called whose length the pace of the lane decides.
const BACK_OFF: &str = "back-off";

/// The value of a word of a table.
pub(super) fn choice<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, String> {
    let row = table.iter().find(|(word, _)| *word == text);
    row.map(|(_, value)| *value).ok_or_else(|| unknown(text, table.iter().map(|row| row.0)))
}

/// A word that must be one of these.
pub(super) fn one_of(text: &str, words: &'static [&'static str]) -> Result<&'static str, String> {
    let known = words.iter().find(|word| **word == text).copied();
    known.ok_or_else(|| unknown(text, words.iter().copied()))
}

fn unknown<'a>(text: &str, words: impl Iterator<Item = &'a str> + Clone) -> String {
    match suggest(text, words.clone()) {
        Some(meant) => format!("there is no {text:?}; did you mean {meant:?}?"),
        None => format!("there is no {text:?}; there are {}", words.collect::<Vec<_>>().join(", ")),
    }
}

/// A stage at which a reply can refuse.
pub(super) fn stage(text: &str) -> Result<Stage, String> {
    choice(text, &STAGES.map(|stage| (stage.word(), stage)))
}

/// A cause.
pub(super) fn cause(text: &str) -> Result<Cause, String> {
    Cause::from_word(text)
        .ok_or_else(|| unknown(text, Cause::words().collect::<Vec<_>>().into_iter()))
}

/// A class, one that a reply can have.
pub(super) fn class(text: &str) -> Result<Class, String> {
    let usable = |class: &&Class| !matches!(class, Class::None | Class::RenderError);
    let table: Vec<(&str, Class)> =
        Class::ALL.iter().filter(usable).map(|class| (class.word(), *class)).collect();
    choice(text, &table)
}

/// `421` or `500-599`.
pub(super) fn codes(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) =
        range(text).ok_or_else(|| format!("{text:?} is no code and no range of codes"))?;
    if !(400..=599).contains(&first) || !(400..=599).contains(&last) {
        return Err(format!(
            "{text:?} is not within 400 to 599, the replies that refuse; others are \
                            judged by the protocol"
        ));
    }
    if first > last {
        return Err(format!("{text:?} ends before it begins; write the smaller code first"));
    }
    Ok(first..=last)
}

/// `4.7.28`, `x.7.26-27`.
pub(super) fn statuses(text: &str) -> Result<Statuses, String> {
    let wrong = || format!("{text:?} is no enhanced status code");
    let mut parts = text.splitn(3, '.');
    let mut part = || parts.next().ok_or_else(wrong);
    let class = match part()? {
        "x" => None,
        "4" => Some(4),
        "5" => Some(5),
        _ => return Err(format!("{text:?} does not begin with 4, 5 or x; x stands for both")),
    };
    let subject = number(part()?).ok_or_else(wrong)?;
    let (first, last) = range(part()?).ok_or_else(wrong)?;
    if first > last {
        return Err(format!("{text:?} ends before it begins; write the smaller detail first"));
    }
    Ok(Statuses { class, subject, first, last })
}

/// A whole number, or two with a hyphen between.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((number(first)?, number(last)?))
}

/// Up to three digits, as codes and RFC 3463 have them.
fn number(text: &str) -> Option<u16> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// How long a pause lasts; zero stands for the lane's own back-off.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    if text == BACK_OFF {
        return Ok(Duration::ZERO);
    }
    match units::duration(text)? {
        Duration::ZERO => Err(format!(
            "{text:?} is no pause; write {BACK_OFF:?} to leave its length \
                                       to the pace"
        )),
        wait => Ok(wait),
    }
}

/// The name of a rule or provider.
pub(super) fn name(text: &str) -> Result<String, String> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(format!("{text:?} is no name; write lower case letters, digits and \"-\""));
    }
    Ok(text.to_owned())
}

/// A reply that refuses, its lines divided by `\n`.
pub(super) fn reply(text: &str) -> Result<Reply, String> {
    let octets = format!("{}\r\n", text.replace('\n', "\r\n"));
    let mut rest = octets.as_bytes();
    let reply = match ReplyParser::new().feed(&mut rest) {
        Ok(Some(reply)) if rest.is_empty() => reply,
        Ok(_) => return Err(format!("{text:?} is not one whole reply")),
        Err(fault) => return Err(format!("{text:?} is no reply: {fault}")),
    };
    if !reply.is_transient() && !reply.is_permanent() {
        return Err(format!("{text:?} refuses nothing; rules judge replies from 400 to 599"));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_are_ranges() {
        assert_eq!(codes("421"), Ok(421..=421));
        assert_eq!(codes("400-499"), Ok(400..=499));
        for bad in
            ["", "4", "42x", "250", "399-400", "500-400", "421-", "421 ", "+421", "421-422-3"]
        {
            assert!(codes(bad).is_err(), "{bad:?}");
        }
        let all = Statuses { class: None, subject: 7, first: 26, last: 27 };
        assert_eq!(statuses("x.7.26-27"), Ok(all));
        assert_eq!(statuses("4.7.28").map(|it| it.class), Ok(Some(4)));
        for bad in ["", "4.7", "2.7.1", "4.7.x", "4.7.9-8", "4.7.1.1", "x.7.1000", "4..1"] {
            assert!(statuses(bad).is_err(), "{bad:?}");
        }
        assert!(all.contains(Enhanced(5, 7, 27)) && !all.contains(Enhanced(5, 7, 28)));
        let only = Statuses { class: Some(4), ..all };
        assert!(only.contains(Enhanced(4, 7, 26)) && !only.contains(Enhanced(5, 7, 26)));
    }

    #[test]
    fn waits_are_never_zero_by_accident() {
        assert_eq!(wait("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(wait("back-off"), Ok(Duration::ZERO));
        assert!(wait("0s").is_err_and(|why| why.contains("back-off")) && wait("soon").is_err());
    }

    #[test]
    fn replies_are_whole_and_refuse() {
        assert!(reply("421-4.7.28 a\n421 4.7.28 b").is_ok_and(|it| it.text() == "a b"));
        assert_eq!(reply("470 x").map(|it| it.code), Ok(470));
        for bad in ["", "421-x", "x", "250 ok", "354 go", "421 a\n421 b"] {
            assert!(reply(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn near_words_are_suggested() {
        assert!(stage("rctp").is_err_and(|why| why.ends_with("did you mean \"rcpt\"?")));
        assert!(choice("zzz", SCOPES).is_err_and(|why| why.contains("there are recipient, ")));
        assert!(cause("listet").is_err_and(|why| why.contains("\"listed\"")));
        assert!(class("none").is_err() && class("spam-related").is_ok());
        assert!(one_of("hlat", ACTIONS).is_err_and(|why| why.contains("\"halt\"")));
        assert!(name("a-1").is_ok() && name("A").is_err() && name("").is_err());
    }
}
