//! resolve — what 100,000 unique domains cost against a name server on this machine.
//!
//! NSD serves one zone with all of them on 1,000 sets of two mail hosts. Prints seconds and CPU of
//! this process alone; the server needs a core too. Without NSD (tools/setup) it says so and ends.
//! Measured on two cores that others used too (load 12): 5 to 11 s, of which 4 to 5 s CPU, and no
//! answer lost; built without optimised dependencies, 12 to 17 s CPU.
//!
//! `cargo bench --bench resolve [-- DOMAINS]`

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use mailshot::resolver::{Config, Resolver};
use mailshot::routes::Answer;
use support::nameserver::NameServer;

const SITES: usize = 1_000;

fn main() {
    let number = std::env::args().find_map(|argument| argument.parse().ok());
    let count: usize = number.unwrap_or(100_000);
    let mut zone = String::new();
    for site in 0..SITES {
        let (a, b) = (site / 250, site % 250);
        zone += &format!("mx{site}.h A 10.1.{a}.{b}\nmy{site}.h A 10.2.{a}.{b}\n");
    }
    for domain in 0..count {
        let site = domain % SITES;
        zone += &format!("d{domain} MX 10 mx{site}.h\nd{domain} MX 20 my{site}.h\n");
    }
    let Some(server) = NameServer::start(&[("example", Some(&zone))]) else { return };
    let domains: Vec<String> = (0..count).map(|domain| format!("d{domain}.example")).collect();
    for concurrency in [32, 64, 128, 256, 512] {
        let servers = vec![server.address()];
        let config = Config { servers, concurrency, ..Config::default() };
        let resolver = Resolver::start(&config).expect("a resolver");
        let (start, cpu) = (now(), cpu_time());
        let answers = resolver.resolve(&domains, &mut |_| {});
        let (took, cpu) = (start.elapsed(), cpu_time() - cpu);
        let good = answers.iter().filter(|answer| matches!(answer, Answer::Hosts { .. })).count();
        println!(
            "{concurrency:4} at a time: {count} domains in {:.2} s, {:.2} s CPU, {:.0}/s, {} lost",
            took.as_secs_f64(),
            cpu.as_secs_f64(),
            count as f64 / took.as_secs_f64(),
            count - good
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about the clock")]
fn now() -> Instant {
    Instant::now()
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("below 10^9"))
}
