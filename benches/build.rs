//! build — what it costs to make a message of 10 KB from its rendered parts.

mod sample;

use mailshot::message::{Letter, build};

fn main() {
    let sample = sample::Sample::new();
    let whole = sample.letter();
    let mut out = Vec::new();
    for (what, letter) in [
        ("build text and html", whole.clone()),
        ("build html only", Letter { text: None, ..whole.clone() }),
        ("build text only", Letter { html: None, ..whole.clone() }),
        ("build headers only", Letter { html: None, text: Some(""), ..whole.clone() }),
    ] {
        out.clear();
        build(&letter, &mut out).expect("a good letter");
        let what = format!("{what} ({} octets)", out.len());
        sample::measure(&what, || {
            out.clear();
            build(&letter, &mut out)
        });
    }
}
