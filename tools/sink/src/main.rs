//! sink — the command line of the test receiver. The help below is its manual.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, ValueEnum};
use mailshot_sink::selftest::{Style, measure};
use mailshot_sink::{
    Behaviour, Chances, Checks, Config, DkimCheck, DomainKeys, Extensions, Pace, Provider, Reply,
    Rule, Sink, pace, time,
};
use signal_hook::consts::{SIGINT, SIGTERM};

/// Receives mail for tests: counts it, checks it, and misbehaves on request.
#[derive(Debug, Parser)]
#[command(
    name = "sink",
    version,
    before_help = "Examples:
  sink                                             accept everything until Ctrl-C, then report
  sink --check keys,form --expect 100000           end when 100,000 messages have come
  sink --dkim-keys published.txt --store inbox     verify signatures, keep the messages
  sink --personalities --random-drop 0.01          bounce*, defer*, grey*, … and 1 % cut off
  sink --rule '*@gmail.* = 450 4.7.28 slow down'   one provider that defers
  sink --listen 127.0.0.1:0 --port-file port.txt   take a free port and tell which
  sink --providers hosts.json --attempts log.tsv   several providers, and what came when
  sink --self-test 1000000                         measure the sink itself",
    after_help = "It listens on loopback addresses only and refuses any other.

Rules are PATTERN = ACTION. A pattern with an @ is held against the address, else against the \
                  local part; * and ? are as in file names. Actions: accept, defer (451), bounce \
                  (550), full (452), baddata (554 after the dot), deferdata (451 after the dot), \
                  grey (450 at first), grey 5s (450 until 5 s after the \
                  first from this source), dropbefore (closed at the dot, not accepted), dropafter \
                  (accepted, closed without a reply), slow; or a reply such as 450 4.2.1 busy for \
                  RCPT, or data: and a reply for the final dot.

A file of providers is a JSON list with a list of arguments for each, --listen and what stands \
                  under Protocol and Trouble, such as [[\"--listen\", \"127.0.1.1:0\", \
                  \"--pace\", \"100/1s\"], …]; each counts its clients by itself.

At its end it prints one line of JSON. Exit codes: 0 ended as told, 1 it could not start, 2 wrong \
                  usage."
)]
struct Options {
    /// Where to listen; may be repeated; port 0 takes a free one; 127.0.0.1:2525 if nothing is said
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<SocketAddr>,
    /// More addresses, each group with arguments of its own
    #[arg(long, value_name = "FILE")]
    providers: Option<PathBuf>,
    /// Take the same free port for all addresses with port 0
    #[arg(long)]
    one_port: bool,
    /// Log every connection and recipient into this file
    #[arg(long, value_name = "FILE")]
    attempts: Option<PathBuf>,
    /// Write the addresses into this file once it listens
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,
    /// End after this time
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// End after this many accepted messages
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
    /// Send itself this many messages, print what that cost and end
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    self_test: Option<u64>,
    #[command(flatten)]
    checks: CheckOptions,
    #[command(flatten)]
    protocol: ProtocolOptions,
    #[command(flatten)]
    trouble: TroubleOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Check {
    /// X-Mailshot-Key: distinct and repeated
    Keys,
    /// Line ends, line lengths, mandatory headers
    Form,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Checks")]
struct CheckOptions {
    /// What to look at in each message
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    check: Vec<Check>,
    /// Verify DKIM with this record, selector._domainkey.domain=TEXT; may be repeated
    #[arg(long, value_name = "NAME=TEXT")]
    dkim_key: Vec<String>,
    /// Verify DKIM with the records of this file, one per line
    #[arg(long, value_name = "FILE")]
    dkim_keys: Option<PathBuf>,
    /// Verify every n-th message only
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    dkim_every: u32,
    /// Measure the most recipients within any time of this length: 500ms, 1s, 1m, 1h
    #[arg(long, value_name = "TIME", value_parser = time)]
    rate_window: Option<Duration>,
    /// Write each message into this directory
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Protocol")]
struct ProtocolOptions {
    /// The text of the greeting
    #[arg(long, value_name = "TEXT", default_value = "sink.test ESMTP mailshot-sink")]
    greeting: String,
    /// Another code than 220 ends the connection
    #[arg(long, value_name = "CODE", default_value_t = 220)]
    banner_code: u16,
    /// Answer EHLO with 502
    #[arg(long)]
    no_ehlo: bool,
    /// Do not offer PIPELINING
    #[arg(long)]
    no_pipelining: bool,
    /// Do not offer 8BITMIME
    #[arg(long)]
    no_8bitmime: bool,
    /// Do not offer SIZE
    #[arg(long)]
    no_size: bool,
    /// Do not offer ENHANCEDSTATUSCODES
    #[arg(long)]
    no_enhanced_status_codes: bool,
    /// Octets of a message; larger ones get 552
    #[arg(long, value_name = "OCTETS", default_value_t = 50 << 20)]
    max_size: u64,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Trouble")]
struct TroubleOptions {
    /// What happens to some recipients; may be repeated, the first that fits decides
    #[arg(long, value_name = "RULE")]
    rule: Vec<Rule>,
    /// Local parts that begin with the name of an action meet that action
    #[arg(long)]
    personalities: bool,
    /// How long each reply takes, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_ms: u64,
    /// How much longer the final reply to slow* takes, in milliseconds
    #[arg(long, value_name = "N", default_value_t = 2000)]
    slow_ms: u64,
    /// Further connections get 421
    #[arg(long, value_name = "N")]
    max_connections: Option<u64>,
    /// Further connections from one source get 421
    #[arg(long, value_name = "N")]
    max_connections_per_source: Option<u64>,
    /// A source with more recipients in any window gets 421 4.7.28 after the dot: 100/1s
    #[arg(long, value_name = "PACE", value_parser = pace)]
    pace: Option<(u64, Duration)>,
    /// MAIL gets 421 after this many messages on one connection
    #[arg(long, value_name = "N")]
    max_messages_per_connection: Option<u64>,
    /// Close instead of saying that 421
    #[arg(long)]
    close_silently: bool,
    /// Close after the reply to each message
    #[arg(long)]
    close_after_each: bool,
    /// Chance of 451 at RCPT, from 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    random_defer: f64,
    /// Chance of 550 at RCPT, from 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    random_bounce: f64,
    /// Chance of closing at the final dot without accepting, from 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    random_drop: f64,
    /// Other misfortunes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// The arguments of one provider in a file of them.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct ProviderOptions {
    #[arg(long, value_name = "ADDRESS", required = true)]
    listen: Vec<SocketAddr>,
    #[command(flatten)]
    protocol: ProtocolOptions,
    #[command(flatten)]
    trouble: TroubleOptions,
}

impl ProviderOptions {
    fn into_provider(self) -> anyhow::Result<Provider> {
        Ok(Provider { listen: self.listen, behaviour: behaviour(self.protocol, self.trouble)? })
    }
}

fn providers(path: &Path) -> anyhow::Result<Vec<Provider>> {
    let text = fs::read_to_string(path)?;
    let lists: Vec<Vec<String>> = serde_json::from_str(&text).context("a list of arguments")?;
    lists.into_iter().map(|list| ProviderOptions::try_parse_from(list)?.into_provider()).collect()
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(chance) if (0.0..=1.0).contains(&chance) => Ok(chance),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.self_test {
        Some(messages) => self_test(messages),
        None => serve(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn self_test(messages: u64) -> anyhow::Result<()> {
    for style in [Style::Flood, Style::Polite] {
        println!("{}", serde_json::to_string(&measure(style, messages)?)?);
    }
    Ok(())
}

fn serve(options: Options) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let port_file = options.port_file.clone();
    let sink = Sink::bind(options.into_config()?)?;
    if let Some(path) = port_file {
        let addresses: String = sink.addresses().iter().map(|at| format!("{at}\n")).collect();
        write_at_once(&path, &addresses).with_context(|| path.display().to_string())?;
    }
    let report = sink.run(&stop);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &report)?;
    writeln!(out).context("printing the report")
}

/// Whoever waits for the file never reads half of it.
fn write_at_once(path: &PathBuf, text: &str) -> std::io::Result<()> {
    let mut name = path.clone().into_os_string();
    name.push(".new");
    fs::write(&name, text)?;
    fs::rename(&name, path)
}

impl Options {
    fn into_config(self) -> anyhow::Result<Config> {
        let providers =
            self.providers.map(|path| providers(&path).with_context(|| path.display().to_string()));
        let providers = providers.transpose()?.unwrap_or_default();
        let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, 2525));
        let nowhere = self.listen.is_empty() && providers.is_empty();
        Ok(Config {
            listen: if nowhere { vec![usual] } else { self.listen },
            behaviour: behaviour(self.protocol, self.trouble)?,
            providers,
            one_port: self.one_port,
            attempts: self.attempts,
            checks: self.checks.into_checks()?,
            run_for: self.seconds.map(Duration::from_secs),
            expect: self.expect,
        })
    }
}

impl CheckOptions {
    fn into_checks(self) -> anyhow::Result<Checks> {
        let keys = self.domain_keys()?;
        Ok(Checks {
            keys: self.check.contains(&Check::Keys),
            form: self.check.contains(&Check::Form),
            dkim: keys.map(|keys| DkimCheck { keys, every: self.dkim_every }),
            rate_window: self.rate_window,
            store: self.store,
        })
    }

    fn domain_keys(&self) -> anyhow::Result<Option<DomainKeys>> {
        if self.dkim_key.is_empty() && self.dkim_keys.is_none() {
            return Ok(None);
        }
        let mut lines = self.dkim_key.join("\n");
        if let Some(path) = &self.dkim_keys {
            let file = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            lines = format!("{lines}\n{file}");
        }
        Ok(Some(lines.parse().context("DKIM records")?))
    }
}

fn behaviour(protocol: ProtocolOptions, trouble: TroubleOptions) -> anyhow::Result<Behaviour> {
    let mut rules = trouble.rule;
    if trouble.personalities {
        rules.extend(Rule::personalities());
    }
    Ok(Behaviour {
        extensions: Extensions {
            pipelining: !protocol.no_pipelining,
            eight_bit_mime: !protocol.no_8bitmime,
            size: !protocol.no_size,
            enhanced_status_codes: !protocol.no_enhanced_status_codes,
        },
        helo_only: protocol.no_ehlo,
        greeting: Reply::greeting(protocol.banner_code, &protocol.greeting)?,
        rules,
        chances: Chances {
            defer: trouble.random_defer,
            bounce: trouble.random_bounce,
            drop: trouble.random_drop,
            seed: trouble.seed,
        },
        delay: Duration::from_millis(trouble.delay_ms),
        slow: Duration::from_millis(trouble.slow_ms),
        connections_max: trouble.max_connections,
        connections_per_source_max: trouble.max_connections_per_source,
        pace: trouble.pace.map(|(recipients, window)| Pace::gmail(recipients, window)),
        messages_per_connection_max: trouble.max_messages_per_connection,
        close_silently: trouble.close_silently,
        close_after_each: trouble.close_after_each,
        message_bytes_max: protocol.max_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
        ProviderOptions::command().debug_assert();
    }

    #[test]
    fn options_become_a_config() {
        let options = Options::parse_from([
            "sink",
            "--rule",
            "x = bounce",
            "--personalities",
            "--no-size",
            "--delay-ms",
            "5",
            "--random-drop",
            "0.5",
            "--check",
            "keys,form",
            "--expect",
            "9",
        ]);
        let config = options.into_config().unwrap();
        assert_eq!(config.behaviour.rules.len(), 1 + Rule::personalities().len());
        assert_eq!(config.behaviour.extensions, Extensions { size: false, ..Extensions::ALL });
        assert_eq!(config.behaviour.delay, Duration::from_millis(5));
        assert_eq!((config.behaviour.chances.drop, config.expect), (0.5, Some(9)));
        assert!(config.checks.keys && config.checks.form && config.checks.dkim.is_none());
        for wrong in [["--random-drop", "2"], ["--rule", "x"], ["--dkim-every", "0"]] {
            assert!(Options::try_parse_from(["sink", wrong[0], wrong[1]]).is_err(), "{wrong:?}");
        }
    }
}
