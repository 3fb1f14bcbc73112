//! check — finds every mistake of a campaign before anything is sent.
//!
//! Reads the campaign, its templates, its keys and the whole list, and makes one message as a
//! trial. Opens no connection and writes nothing that stays.

use std::path::PathBuf;

use super::opening::Opened;
use super::render::take_in;
use super::{Exit, Failure};
use crate::recipients::{Counts, Reason};
use crate::ring::Clock;

/// Arguments of `mailshot check`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mailshot check campaign.toml
  mailshot check campaign.toml && mailshot run campaign.toml")]
pub(super) struct Args {
    /// The campaign file.
    campaign: PathBuf,
}

pub(super) fn main(args: &Args) -> Result<Exit, Failure> {
    let opened = Opened::open(&args.campaign)?;
    let (counts, index) = take_in(&opened)?;
    println!("campaign  {} is good", opened.campaign.id.value);
    for key in opened.press.signers.keys() {
        println!("dkim      {} must be in DNS as TXT:", key.dns_name());
        println!("          {}", key.public_record());
    }
    print!("{}", excluded(&counts));
    if let Some(printed) = opened.try_out(&index, Clock::start().utc())? {
        let octets = printed.message.len() + printed.signatures.len();
        println!("message   row {} makes {octets} octets", printed.row);
    }
    println!("nothing was sent; {} rows would be", counts.accepted);
    Ok(Exit::Done)
}

/// Rows excluded at intake by reason, with samples; one line each.
pub(super) fn excluded(counts: &Counts) -> String {
    let mut text = format!("list      {} rows, {} good\n", counts.rows, counts.accepted);
    for reason in Reason::ALL {
        let count = counts.excluded(*reason);
        if count == 0 {
            continue;
        }
        text.push_str(&format!("excluded  {count} {}\n", reason.word()));
        for sample in counts.samples.iter().filter(|sample| sample.reason == *reason) {
            let (row, line, why) = (sample.row, sample.line, &sample.why);
            text.push_str(&format!("          row {row} line {line} {}: {why}\n", sample.address));
        }
    }
    text
}
