//! render — the message of one row, as it would be sent now, to look at.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::opening::{Opened, chain};
use super::{Exit, Failure};
use crate::outcome::Row;
use crate::recipients::{Counts, Index, IndexWriter, intake};
use crate::ring::Clock;

/// Arguments of `mailshot render`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot render campaign.toml --row 1
  mailshot render campaign.toml --row 17 --form html -o row17.html")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
    /// The data row of the list, from 1, the header not counted.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    row: u32,
    /// What to show: the whole message, or the decoded text of one part.
    #[arg(long, value_enum, default_value_t = Form::Eml)]
    form: Form,
    /// Where to write it; stdout if not given.
    #[arg(short, long)]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Eml,
    Html,
    Txt,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let opened = Opened::open(&args.campaign)?;
    let (_, index) = take_in(&opened)?;
    let printed = opened.print(&index, Row(args.row), Clock::start().utc())?;
    let eml = [&printed.signatures[..], &printed.message[..]].concat();
    let shown = match args.form {
        Form::Eml => eml,
        form => part(&eml, form)?,
    };
    let written = match &args.output {
        Some(path) => File::create(path).and_then(|mut file| file.write_all(&shown)),
        None => std::io::stdout().write_all(&shown),
    };
    written.map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(Exit::Done)
}

/// The decoded text of one part of the message, as a mail program would show it.
fn part(eml: &[u8], form: Form) -> Result<Vec<u8>, Failure> {
    let message = mail_parser::MessageParser::default().parse(eml);
    let message =
        message.ok_or_else(|| Failure::new(Exit::Internal, "the message is no message"))?;
    let text = match form {
        Form::Html => message.html_bodies().find(|part| part.is_text_html()),
        _ => message.text_bodies().find(|part| !part.is_text_html()),
    };
    let text = text.and_then(|part| part.text_contents()).ok_or_else(|| {
        Failure::new(Exit::Campaign, "the campaign has no such part; see [content] in its file")
    })?;
    Ok(text.as_bytes().to_vec())
}

/// Takes the whole list in, with the index in a temporary file.
pub(super) fn take_in(opened: &Opened) -> Result<(Counts, Index), Failure> {
    let internal = |error: std::io::Error| Failure::new(Exit::Internal, error);
    let file = tempfile::NamedTempFile::new().map_err(internal)?;
    let writer = BufWriter::new(file.reopen().map_err(internal)?);
    let mut index = IndexWriter::new(writer).map_err(internal)?;
    let columns = opened.header_columns();
    let counts =
        intake(&opened.press.list, &opened.press.layout, &columns, &mut index, &mut |_| {})
            .map_err(|error| Failure::new(Exit::List, chain(&error)))?;
    index.finish().map_err(internal)?;
    let index = Index::open(file.path()).map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok((counts, index))
}
