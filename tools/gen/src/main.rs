//! gen — the command line of the list generator. The help below is its manual.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use mailshot_gen::{Dirt, Plan, Tally};

/// Writes a recipient list for tests: any size, a realistic mix of providers, counted dirt.
#[derive(Debug, Parser)]
#[command(
    name = "gen",
    version,
    before_help = "Examples:
  gen --rows 1000 --out list.csv                        a clean list
  gen --rows 1000000 --seed 7 --dirt --tally tally.json a dirty one, and what is in it
  gen --rows 100 --delimiter ';' --crlf --bom           as a spreadsheet program exports it",
    after_help = "The same options give the same octets on every machine. Every domain ends in \
                  the suffix, by default under .test, so nothing here can reach a real host.
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
    /// Put after every domain
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
    let plan = Plan {
        dirt: if options.dirt { Dirt::usual() } else { Dirt::none() },
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
    fn a_suffix_gets_its_dot() {
        assert_eq!(
            (dotted("x.test"), dotted(".x.test"), dotted("")),
            (".x.test".into(), ".x.test".into(), String::new())
        );
    }
}
