//! sample — a newsletter of usual size for the benchmarks: 2 KB of text, 7 KB of HTML.

#![allow(dead_code, reason = "each benchmark uses a part of this")]

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mailshot::message::{Letter, ListUnsubscribe};
use mailshot::units::Utc;

/// Rendered parts of one row.
pub(crate) struct Sample {
    text: String,
    html: String,
}

impl Sample {
    /// The parts; always the same.
    pub(crate) fn new() -> Sample {
        let mut text = String::from("Hello Ada,\n\nthese are the offers of this week.\n\n");
        let mut html = String::from("<!doctype html><html><body>\n<p>Schöne Grüße, Ada</p>\n");
        for offer in 0..24 {
            writeln!(
                text,
                "Offer {offer}: twelve cups of café crema, now 20 % off until Sunday.\n"
            )
            .expect("a String takes it");
            writeln!(
                html,
                "<table role=\"presentation\" width=\"600\"><tr><td style=\"padding:12px 24px;\
                 font-family:Helvetica,Arial,sans-serif;color:#222\">\n  <h2>Offer {offer}</h2>\n  \
                 <p>Twelve cups of café crema, now 20&nbsp;% off until Sunday.</p>\n  \
                 <a href=\"https://news.example/o/{offer}?r=8c1f0d5e\">Have a look</a>\n</td></tr>\
                 </table>"
            )
            .expect("a String takes it");
        }
        html.push_str("</body></html>\n");
        Sample { text, html }
    }

    /// The letter made of them.
    pub(crate) fn letter(&self) -> Letter<'_> {
        Letter {
            from_name: "Café Nord",
            from: "news@news.example",
            to_name: "Ada Lovelace",
            to: "ada@example.org",
            reply_to: Some(("", "help@news.example")),
            subject: "Ada, the offers of this week",
            date: Utc(1_795_284_252_000_000),
            message_id: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42@news.example",
            key: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42",
            list_unsubscribe: Some(ListUnsubscribe {
                url: Some("https://news.example/u/8c1f0d5e2b7a4c3d9e6f"),
                mailto: Some("mailto:unsubscribe@news.example?subject=8c1f"),
                one_click: true,
            }),
            headers: &[("Feedback-ID", "nov:1:offers:news")],
            text: Some(&self.text),
            html: Some(&self.html),
            boundary: "=_01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42",
        }
    }
}

/// Prints the microseconds of one call: the fastest of 25 rounds, because other load on the machine
/// only ever adds. Run without `--bench` (as `cargo test --benches` does) it calls once, to see
/// that it works.
pub(crate) fn measure<T>(what: &str, mut call: impl FnMut() -> T) {
    if !std::env::args().any(|arg| arg == "--bench") {
        black_box(call());
        return;
    }
    let calls = calls_per_round(&mut call);
    let fastest = (0..25).map(|_| timed(calls, &mut call)).min().expect("25 rounds");
    println!("{what:<52} {:8.2} µs", fastest.as_secs_f64() * 1e6 / f64::from(calls));
}

/// So many calls take some 20 ms.
fn calls_per_round<T>(call: &mut impl FnMut() -> T) -> u32 {
    let mut calls = 1;
    while timed(calls, call) < Duration::from_millis(20) {
        calls *= 2;
    }
    calls
}

fn timed<T>(calls: u32, call: &mut impl FnMut() -> T) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    let start = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    start.elapsed()
}
