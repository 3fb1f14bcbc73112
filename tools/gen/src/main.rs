//! gen — the command line of the list generator. The help below is its manual.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use mailshot_gen::{Dirt, Plan, Share, Tally};

/// Writes a recipient list for tests: any size, a realistic mix of providers, counted dirt.
#[derive(Debug, Parser)]
#[command(
    name = "gen",
    version,
    before_help = "Examples:
  gen --rows 1000 --out list.csv                        a clean list
  gen --rows 1000000 --seed 7 --dirt --tally tally.json a dirty one, and what is in it
  gen --rows 100 --delimiter ';' --crlf --bom           as a spreadsheet program exports it
  gen --rows 100 --share gmail.com=76 --share gmx.de=5  76 % and 5 % of the rows at these",
    after_help = "The same options give the same octets on every machine. Every domain ends in \
                  the suffix, by default under .test, so nothing here can reach a real host. \
                  With --suffix '' the domains are real ones: for plans, and never to be sent to.
Exit codes: 0 written, 1 not written, 2 wrong usage."
)]
struct Options {
    /// Data rows, dirty ones included
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rows: u64,
    /// Another seed, another list
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Mix in 2.8 % rows that a sender must exclude and 6 % odd ones that it must accept
    #[arg(long)]
    dirt: bool,
    /// Start with the UTF-8 byte order mark
    #[arg(long)]
    bom: bool,
    /// End rows with CR LF
    #[arg(long)]
    crlf: bool,
    /// One ASCII character between two fields; `\t` is a tab
    #[arg(long, value_name = "C", default_value = ",", value_parser = delimiter)]
    delimiter: u8,
    /// Give this part of the rows this domain, and the rest the usual mix without it; may be
    /// given several times
    #[arg(long, value_name = "DOMAIN=PERCENT", value_parser = share)]
    share: Vec<Share>,
    /// Put after every domain; '' leaves the real names of providers, to plan with: mail sent to
    /// such a list would reach strangers
    #[arg(long, value_name = "DOMAIN", default_value = ".sink.test")]
    suffix: String,
    /// Where to write the list instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to write what the list holds, as one line of JSON
    #[arg(long, value_name = "FILE")]
    tally: Option<PathBuf>,
}

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [b'\\', b't'] => Ok(b'\t'),
        [octet] if octet.is_ascii_punctuation() && !b"\"@.-+".contains(octet) => Ok(*octet),
        _ => Err("expected one of , ; | : and the like, or \\t".to_owned()),
    }
}

fn share(text: &str) -> Result<Share, String> {
    let wrong = || "expected a domain and a part of 100, such as gmail.com=76".to_owned();
    let (domain, percent) = text.split_once('=').ok_or_else(wrong)?;
    let known = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    if !domain.split('.').all(|label| !label.is_empty() && label.bytes().all(known)) {
        return Err("expected the domain in lower case and in A-labels".to_owned());
    }
    let percent: f64 = percent.parse().map_err(|_| wrong())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err(wrong());
    }
    Ok(Share { domain: domain.to_owned(), millionths: (percent * 10_000.0).round() as u32 })
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> anyhow::Result<()> {
    let shared: u64 = options.share.iter().map(|share| u64::from(share.millionths)).sum();
    ensure!(shared <= 1_000_000, "the shares are {} percent together", shared as f64 / 10_000.0);
    let plan = Plan {
        dirt: if options.dirt { Dirt::usual() } else { Dirt::none() },
        shares: options.share,
        domain_suffix: dotted(&options.suffix),
        bom: options.bom,
        crlf: options.crlf,
        delimiter: options.delimiter,
        ..Plan::new(options.rows, options.seed)
    };
    ensure!(!plan.domain_suffix.contains(plan.delimiter as char), "the suffix has the delimiter");
    let tally = match &options.out {
        Some(path) => {
            let file = File::create(path).with_context(|| path.display().to_string())?;
            mailshot_gen::write(&plan, &mut BufWriter::new(file))
        }
        None => mailshot_gen::write(&plan, &mut io::stdout().lock()),
    }
    .context("writing the list")?;
    write_tally(&tally, options.tally)
}

fn dotted(suffix: &str) -> String {
    if suffix.is_empty() || suffix.starts_with('.') {
        return suffix.to_owned();
    }
    format!(".{suffix}")
}

fn write_tally(tally: &Tally, path: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut file = File::create(&path).with_context(|| path.display().to_string())?;
    serde_json::to_writer(&mut file, tally).context("writing the tally")?;
    file.write_all(b"\n").context("writing the tally")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn delimiters_are_one_harmless_octet() {
        let cases = [(",", Some(b',')), (";", Some(b';')), ("\\t", Some(b'\t')), ("|", Some(b'|'))];
        for (text, expected) in cases {
            assert_eq!(delimiter(text).ok(), expected, "{text}");
        }
        for text in ["", ",,", "\"", "@", "a", "ü", "-"] {
            assert!(delimiter(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares_are_parts_of_a_hundred() {
        let cases = [("gmail.com=76", 760_000), ("a.de=0.5", 5_000), ("a.de=100", 1_000_000)];
        for (text, millionths) in cases {
            assert_eq!(share(text).map(|share| share.millionths), Ok(millionths), "{text}");
        }
        for text in ["gmail.com", "=5", "a..de=5", "A.de=5", "a.de=101", "a.de=-1", "a.de=x"] {
            assert!(share(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_suffix_gets_its_dot() {
        assert_eq!(
            (dotted("x.test"), dotted(".x.test"), dotted("")),
            (".x.test".into(), ".x.test".into(), String::new())
        );
    }
}
