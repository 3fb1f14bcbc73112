//! press — one row to one signed message: render, build, sign. Pure, and called on every core.

use std::fs::File;
use std::ops::Range;

use csv::StringRecord;

use crate::destination::{SiteNo, SourceNo};
use crate::dkim::Signers;
use crate::message::token::Key;
use crate::message::{self, Letter, ListUnsubscribe};
use crate::outcome::Row;
use crate::recipients::{Entry, Layout, ReadError, RowChanged, RowReader, read_rows};
use crate::template::{self, Part, Templates, Values};
use crate::units::Utc;

use super::Turn;

/// What is the same on every message of a campaign, besides its templates.
#[derive(Clone, Debug)]
pub struct Letterhead {
    /// The campaign's id.
    pub campaign: String,
    /// The run's ULID.
    pub run: String,
    /// The address in From; its domain is that of the Message-ID too.
    pub from: String,
    /// The domain of Message-IDs.
    pub domain: String,
    /// The address in Reply-To.
    pub reply_to: Option<String>,
    /// The local part of the return path, before the token.
    pub bounce_local: String,
    /// The domain of the return path.
    pub bounce_domain: String,
    /// The names of the campaign's own headers, in order.
    pub headers: Vec<String>,
    /// Whether the unsubscribe URL takes a one-click POST.
    pub one_click: bool,
}

/// Everything that makes rows into messages.
pub struct Press {
    /// What is the same on every message.
    pub head: Letterhead,
    /// The templates.
    pub templates: Templates,
    /// The keys.
    pub signers: Signers,
    /// The list.
    pub list: File,
    /// Where its columns are.
    pub layout: Layout,
}

/// A message, ready for the spool: the wire has the signatures first, then the message.
pub struct Printed {
    /// Which row.
    pub row: Row,
    /// Which attempt.
    pub attempt: u16,
    /// When the first attempt began; `None` if this is the first.
    pub first_attempt: Option<Utc>,
    /// The site that takes its mail.
    pub site: SiteNo,
    /// The source that it must come from, if its last attempt bound it to one.
    pub source: Option<SourceNo>,
    /// The return path.
    pub mail_from: String,
    /// The recipient.
    pub rcpt_to: String,
    /// The DKIM-Signature headers.
    pub signatures: Vec<u8>,
    /// The message they sign.
    pub message: Vec<u8>,
}

/// Why a row cannot become a message.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The row does not read as it did at intake.
    #[error(transparent)]
    Row(#[from] RowChanged),
    /// A template failed on this row's values.
    #[error(transparent)]
    Template(#[from] template::Fault),
    /// The parts do not make a message.
    #[error(transparent)]
    Message(#[from] message::Fault),
    /// The signature could not be made.
    #[error(transparent)]
    Sign(#[from] crate::dkim::SignFault),
}

/// Buffers of one thread, used again for each message.
pub struct Scratch {
    reader: RowReader,
    fields: StringRecord,
    text: String,
    /// Where each part ends in `text`.
    ends: Vec<usize>,
}

impl Scratch {
    /// Buffers for messages of this press.
    pub fn new(press: &Press) -> Scratch {
        let reader = RowReader::new(&press.layout);
        Scratch { reader, fields: StringRecord::new(), text: String::new(), ends: Vec::new() }
    }
}

/// The parts in the order in which they are rendered; the campaign's own headers follow.
const PARTS: [Part; 7] = [
    Part::Subject,
    Part::FromName,
    Part::ReplyToName,
    Part::ToName,
    Part::UnsubscribeMailto,
    Part::Text,
    Part::Html,
];

/// The rendered parts of one message.
struct Parts<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> Parts<'a> {
    fn at(&self, index: usize) -> &'a str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }

    fn of(&self, part: Part) -> &'a str {
        let index = PARTS.iter().position(|known| *known == part);
        self.at(index.expect("only the parts of the list are asked for"))
    }
}

impl Press {
    /// Reads the rows of a batch from the list into `octets`; where each lies there.
    ///
    /// # Errors
    /// When the list cannot be read or is not what it was at intake.
    pub fn read(
        &self,
        turns: &[Turn],
        octets: &mut Vec<u8>,
    ) -> Result<Vec<Range<usize>>, ReadError> {
        let entries: Vec<Entry> = turns.iter().map(|turn| turn.entry).collect();
        read_rows(&self.list, &entries, octets)
    }

    /// Makes the message of one row.
    ///
    /// # Errors
    /// A [`Fault`] of this row.
    pub fn print(
        &self,
        scratch: &mut Scratch,
        turn: &Turn,
        raw: &[u8],
        now: Utc,
    ) -> Result<Printed, Fault> {
        let row = turn.entry.row;
        let Scratch { reader, fields, text, ends } = scratch;
        let mailbox = reader.parse(row, raw, fields)?;
        let key = Key { run: &self.head.run, row };
        let token = key.to_string();
        let values = Values {
            cell: &|column| fields.get(column).expect("templates ask for columns of the layout"),
            address: mailbox.as_str(),
            row,
            token: &token,
            run: &self.head.run,
            campaign: &self.head.campaign,
        };
        let rendered = self.templates.row(&values)?;
        let parts = self.render(&rendered, text, ends)?;
        let message = self.build(&parts, &rendered, mailbox.as_str(), &key, now)?;
        let mut signatures = Vec::with_capacity(2 << 10);
        self.signers.sign(&message, now, &mut signatures)?;
        let mail_from = key.verp(&self.head.bounce_local, &self.head.bounce_domain);
        Ok(Printed {
            row,
            attempt: turn.attempt,
            first_attempt: turn.first_attempt,
            site: turn.site,
            source: turn.source,
            mail_from: mail_from.expect("the campaign's return path has room for the token"),
            rcpt_to: mailbox.as_str().to_owned(),
            signatures,
            message,
        })
    }

    /// Renders every part that the campaign has; the others are empty.
    fn render<'s>(
        &self,
        row: &template::Row,
        text: &'s mut String,
        ends: &'s mut Vec<usize>,
    ) -> Result<Parts<'s>, template::Fault> {
        text.clear();
        ends.clear();
        let headers = (0..self.head.headers.len()).map(Part::Header);
        for part in PARTS.into_iter().chain(headers) {
            if self.templates.has(part) {
                self.templates.render(part, row, text)?;
            }
            ends.push(text.len());
        }
        Ok(Parts { text, ends })
    }

    fn build(
        &self,
        parts: &Parts<'_>,
        row: &template::Row,
        to: &str,
        key: &Key<'_>,
        now: Utc,
    ) -> Result<Vec<u8>, message::Fault> {
        let has = |part| self.templates.has(part).then(|| parts.of(part));
        let mailto = has(Part::UnsubscribeMailto).map(|address| format!("mailto:{address}"));
        let (url, mailto) = (row.unsubscribe_url(), mailto.as_deref());
        let list_unsubscribe = (url.is_some() || mailto.is_some()).then_some(ListUnsubscribe {
            url,
            mailto,
            one_click: self.head.one_click,
        });
        let headers: Vec<(&str, &str)> = self
            .head
            .headers
            .iter()
            .enumerate()
            .map(|(number, name)| (name.as_str(), parts.at(PARTS.len() + number)))
            .collect();
        let reply_to = self.head.reply_to.as_deref();
        let letter = Letter {
            from_name: parts.of(Part::FromName),
            from: &self.head.from,
            to_name: parts.of(Part::ToName),
            to,
            reply_to: reply_to.map(|address| (parts.of(Part::ReplyToName), address)),
            subject: parts.of(Part::Subject),
            date: now,
            message_id: &key.message_id(&self.head.domain),
            key: &key.to_string(),
            list_unsubscribe,
            headers: &headers,
            text: has(Part::Text),
            html: has(Part::Html),
            boundary: &key.boundary(),
        };
        // Encoded, a message is rarely twice as long as its text.
        let mut message = Vec::with_capacity(2 * parts.text.len() + 4096);
        message::build(&letter, &mut message)?;
        Ok(message)
    }
}
