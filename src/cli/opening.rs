//! opening — from the name of a campaign file to everything that `run`, `check` and `render` need:
//! the campaign, its templates, its keys, its list.
//!
//! All problems of all files come at once. Nothing here sends or writes anything.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::{Exit, Failure};
use crate::campaign::{self, Campaign};
use crate::destination::SiteNo;
use crate::dkim::{Key, Signers};
use crate::outcome::Row;
use crate::prepare::{Letterhead, Press, Printed, Scratch, Turn};
use crate::problem::{Place, Problem};
use crate::recipients::{HEAD_OCTETS, Index, Layout, Options};
use crate::rundir::{Digest, RunDirError};
use crate::template::{Part, Source, Templates};
use crate::units::Utc;

/// A campaign whose every file has been read and found good.
pub(super) struct Opened {
    pub(super) campaign: Campaign,
    /// The file as given, for messages.
    pub(super) file: PathBuf,
    /// What makes messages; its run is the nil ULID until there is one.
    pub(super) press: Press,
    /// Digests of everything read but the list, which intake digests while it reads it.
    pub(super) inputs: Vec<Digest>,
}

/// Reads the campaign file alone.
pub(super) fn campaign(file: &Path) -> Result<(Campaign, Digest), Failure> {
    let shown = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| {
        let help = "name a campaign file in TOML; README.md explains one";
        Failure::problems(Exit::Campaign, &[unreadable(Place::whole(&*shown), &error, help)])
    })?;
    let campaign = campaign::parse(&shown, &text)
        .map_err(|problems| Failure::problems(Exit::Campaign, &problems))?;
    Ok((campaign, digest_of("campaign", file, text.as_bytes())))
}

impl Opened {
    /// Opens a campaign with everything that belongs to it.
    ///
    /// # Errors
    /// All problems at once; exit 4 if only the list has any, else 3.
    pub(super) fn open(file: &Path) -> Result<Opened, Failure> {
        let (campaign, first) = campaign(file)?;
        let mut inputs = vec![first];
        let mut problems = Vec::new();
        let sources = sources(&campaign, &mut inputs, &mut problems);
        let keys = keys(&campaign, &mut problems);
        let list = list(&campaign);
        let mut list_problems = Vec::new();
        let templates = match &list {
            Ok((_, layout)) => {
                Templates::compile(sources, &layout.columns).map_err(|found| problems.extend(found))
            }
            Err(found) => {
                list_problems.clone_from(found);
                Err(())
            }
        };
        match (templates, list) {
            (Ok(templates), Ok((list, layout))) if problems.is_empty() => Ok(Opened {
                press: Press {
                    head: letterhead(&campaign),
                    templates,
                    signers: Signers::new(keys),
                    list,
                    layout,
                },
                campaign,
                file: file.to_owned(),
                inputs,
            }),
            _ => {
                let exit = if problems.is_empty() { Exit::List } else { Exit::Campaign };
                problems.extend(list_problems);
                Err(Failure::problems(exit, &problems))
            }
        }
    }

    /// Columns whose values go into headers.
    pub(super) fn header_columns(&self) -> Vec<usize> {
        self.press.templates.columns_used(Part::is_header)
    }

    /// Makes the first messages of the list as a trial: what is wrong with all of them is wrong
    /// with the campaign, and must not use up the list row by row.
    ///
    /// # Errors
    /// The fault of the first row when none of the first [`TRIALS`] can be made.
    pub(super) fn try_out(&self, index: &Index, now: Utc) -> Result<Option<Printed>, Failure> {
        let mut first_fault = None;
        for row in first_accepted(index, TRIALS)? {
            match self.print(index, row, now) {
                Ok(printed) => return Ok(Some(printed)),
                Err(failure) => {
                    first_fault.get_or_insert(failure);
                }
            }
        }
        first_fault.map_or(Ok(None), Err)
    }

    /// Makes the message of one row.
    ///
    /// # Errors
    /// When the row is excluded or no message can be made of it.
    pub(super) fn print(&self, index: &Index, row: Row, now: Utc) -> Result<Printed, Failure> {
        let entry = index.entry(row).map_err(|error| Failure::new(Exit::List, chain(&error)))?;
        if let Some(reason) = entry.excluded {
            let message = format!("row {row} (line {}) is excluded: {}", entry.line, reason.word());
            return Err(Failure::new(Exit::List, message));
        }
        let site = SiteNo(0);
        let turn = Turn { entry, attempt: 1, first_attempt: None, site, source: None };
        let mut octets = Vec::new();
        let read = self.press.read(std::slice::from_ref(&turn), &mut octets);
        let ranges = read.map_err(|error| Failure::new(Exit::List, chain(&error)))?;
        let mut scratch = Scratch::new(&self.press);
        let raw = &octets[ranges[0].clone()];
        self.press.print(&mut scratch, &turn, raw, now).map_err(|fault| {
            let message = format!("row {row} (line {}): {}", entry.line, chain(&fault));
            Failure::new(Exit::Campaign, message)
        })
    }
}

/// Rows tried before a campaign is given up as a whole.
const TRIALS: usize = 20;

/// The first rows of the list that can be sent to.
fn first_accepted(index: &Index, most: usize) -> Result<Vec<Row>, Failure> {
    const BLOCK: u32 = 8192;
    let end = index.rows() + 1;
    let mut rows = Vec::new();
    for start in (1..end).step_by(BLOCK as usize) {
        let block = index.read(Row(start)..Row(end.min(start + BLOCK)));
        let block = block.map_err(|error| Failure::new(Exit::Internal, chain(&error)))?;
        let good = block.iter().filter(|entry| entry.excluded.is_none()).map(|entry| entry.row);
        rows.extend(good.take(most - rows.len()));
        if rows.len() == most {
            break;
        }
    }
    Ok(rows)
}

fn letterhead(campaign: &Campaign) -> Letterhead {
    Letterhead {
        campaign: campaign.id.value.clone(),
        run: ulid::Ulid::nil().to_string(),
        from: campaign.from.mailbox.value.to_string(),
        domain: campaign.from.mailbox.value.domain.clone(),
        reply_to: campaign.reply_to.as_ref().map(|sender| sender.mailbox.value.to_string()),
        bounce_local: campaign.return_path.value.local.clone(),
        bounce_domain: campaign.return_path.value.domain.clone(),
        headers: campaign.headers.iter().map(|header| header.name.value.clone()).collect(),
        one_click: campaign.unsubscribe.as_ref().is_some_and(|way| way.one_click),
    }
}

/// Storage trouble, unless it is the lock.
pub(super) fn storage(error: RunDirError) -> Failure {
    let exit = match &error {
        RunDirError::Locked { .. } => Exit::Locked,
        _ => Exit::Storage,
    };
    Failure::new(exit, error)
}

/// Our name in EHLO: the campaign's, or this machine's.
pub(super) fn ehlo_name(campaign: &Campaign) -> String {
    match &campaign.delivery.ehlo_name {
        Some(name) => name.value.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// An error and its causes in one sentence.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(&format!(": {more}"));
        }
        source = cause.source();
    }
    text
}

fn unreadable(place: Place, error: &std::io::Error, help: &str) -> Problem {
    Problem::new(place, format!("cannot be read: {error}"), help)
}

fn digest_of(role: &str, path: &Path, content: &[u8]) -> Digest {
    let sha256 = hex(digest(&SHA256, content).as_ref());
    Digest { role: role.to_owned(), path: path.display().to_string(), sha256 }
}

/// SHA-256 of a whole list, as intake takes it.
pub(super) fn list_digest(list: &File) -> std::io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; 1 << 20];
    let mut offset = 0;
    loop {
        let read = list.read_at(&mut chunk, offset)?;
        if read == 0 {
            let sum = context.finish();
            return Ok(sum.as_ref().try_into().expect("SHA-256 has 32 octets"));
        }
        context.update(&chunk[..read]);
        offset += read as u64;
    }
}

/// Octets in hexadecimal.
pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// All templates of a campaign: those in its own file, and those in files of their own.
fn sources(
    campaign: &Campaign,
    inputs: &mut Vec<Digest>,
    problems: &mut Vec<Problem>,
) -> Vec<Source> {
    let mut sources = Vec::new();
    let unsubscribe = campaign.unsubscribe.as_ref();
    let inline = [
        (Part::Subject, Some(&campaign.subject)),
        (Part::FromName, campaign.from.name.as_ref()),
        (Part::ReplyToName, campaign.reply_to.as_ref().and_then(|sender| sender.name.as_ref())),
        (Part::ToName, campaign.to_name.as_ref()),
        (Part::UnsubscribeUrl, unsubscribe.and_then(|way| way.url.as_ref())),
        (Part::UnsubscribeMailto, unsubscribe.and_then(|way| way.mailto.as_ref())),
    ];
    for (part, template) in inline {
        if let Some(template) = template {
            let (text, place) = (template.value.clone(), template.place.clone());
            sources.push(Source { part, text, place });
        }
    }
    for (number, header) in campaign.headers.iter().enumerate() {
        let (text, place) = (header.template.value.clone(), header.template.place.clone());
        sources.push(Source { part: Part::Header(number), text, place });
    }
    let content = &campaign.content;
    let files = [(Part::Html, "html", &content.html), (Part::Text, "text", &content.text)];
    for (part, role, path) in files {
        let Some(path) = path else { continue };
        match fs::read_to_string(&path.value) {
            Ok(text) => {
                inputs.push(digest_of(role, &path.value, text.as_bytes()));
                let file = path.value.display().to_string();
                let place = Place { file, line: 1, column: 1 };
                sources.push(Source { part, text, place });
            }
            Err(error) => {
                let what = format!("the template {} cannot be read: {error}", path.value.display());
                let help = "paths are relative to the campaign file; templates are UTF-8";
                problems.push(Problem::new(path.place.clone(), what, help));
            }
        }
    }
    sources
}

fn keys(campaign: &Campaign, problems: &mut Vec<Problem>) -> Vec<Key> {
    let mut keys = Vec::new();
    for dkim in &campaign.dkim {
        match Key::load(&dkim.domain.value, &dkim.selector.value, &dkim.key_file.value) {
            Ok(key) => keys.push(key),
            Err(fault) => {
                problems.push(Problem::new(dkim.key_file.place.clone(), fault.to_string(), ""));
            }
        }
    }
    keys
}

/// Opens the list and reads its layout.
fn list(campaign: &Campaign) -> Result<(File, Layout), Vec<Problem>> {
    let recipients = &campaign.recipients;
    let path = &recipients.file.value;
    let mut head = Vec::new();
    let opened = File::open(path).and_then(|mut list| {
        (&mut list).take(HEAD_OCTETS as u64).read_to_end(&mut head)?;
        Ok(list)
    });
    let list = opened.map_err(|error| {
        let what = format!("the list {} cannot be read: {error}", path.display());
        let help = "paths are relative to the campaign file";
        vec![Problem::new(recipients.file.place.clone(), what, help)]
    })?;
    let options = Options {
        delimiter: recipients.delimiter,
        address_column: &recipients.address.value,
        engagement_column: recipients.engagement.as_ref().map(|column| &*column.value),
    };
    let layout = Layout::read(&path.display().to_string(), &head, &options)?;
    Ok((list, layout))
}
