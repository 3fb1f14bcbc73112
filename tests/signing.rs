//! signing — messages as they leave the program, checked by dkimpy (Python), which shares no code
//! with the libraries that signed them.
//!
//! It needs `tools/setup`; without it the test is skipped aloud, or fails where `CI` or
//! `MAILSHOT_REQUIRE_PARTS` is set. `MAILSHOT_PARTS` names another directory for the parts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mailshot::dkim::{Key, Signers};
use mailshot::message::token::Key as Token;
use mailshot::message::{Letter, ListUnsubscribe, build};
use mailshot::outcome::Row;
use mailshot::units::Utc;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const MESSAGES: u32 = 200;
const RSA: &str = include_str!("data/dkim/test-only-rsa2048-pkcs8.pem");
const ED25519: &str = include_str!("data/dkim/test-only-ed25519-pkcs8.pem");

#[test]
fn an_independent_verifier_agrees_with_every_signature() {
    let Some(python) = python() else { return };
    let signers = Signers::new(vec![
        Key::from_pem("news.example", "r1", RSA).expect("a good key"),
        Key::from_pem("news.example", "e1", ED25519).expect("a good key"),
    ]);
    let messages: Vec<Vec<u8>> = drafts().iter().map(|draft| draft.signed(&signers)).collect();
    let verdicts = verify(&python, &signers, &messages);
    assert_eq!(verdicts.len(), messages.len());
    for (message, verdict) in messages.iter().zip(verdicts) {
        assert_eq!(verdict, "", "{}", String::from_utf8_lossy(message));
    }
}

fn python() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let parts = std::env::var_os("MAILSHOT_PARTS")
        .map_or_else(|| home.join("target/parts"), |path| home.join(path));
    let python = parts.join("venv/bin/python3");
    let imports = Command::new(&python).args(["-c", "import dkim, nacl"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let required =
        ["CI", "MAILSHOT_REQUIRE_PARTS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(!required, "dkimpy missing, run tools/setup");
    // Written past the capture of the test harness: a skipped test must be seen.
    writeln!(std::io::stderr(), "SKIPPED: dkimpy missing, run tools/setup").expect("stderr");
    None
}

fn verify(python: &Path, signers: &Signers, messages: &[Vec<u8>]) -> Vec<String> {
    let records: serde_json::Map<String, serde_json::Value> = signers
        .keys()
        .iter()
        .map(|key| (format!("{}.", key.dns_name()), key.public_record().into()))
        .collect();
    let mut input = serde_json::to_vec(&records).expect("JSON");
    input.push(b'\n');
    for message in messages {
        input.extend_from_slice(format!("{}\n", message.len()).as_bytes());
        input.extend_from_slice(message);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/dkim/verify.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python runs");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(&input).expect("the verifier reads everything"));
        child.wait_with_output().expect("the verifier ends")
    });
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

/// What varies between the messages.
#[derive(Debug)]
struct Draft {
    name: String,
    subject: String,
    text: Option<String>,
    html: Option<String>,
    row: u32,
    unsubscribe: bool,
    reply_to: bool,
}

impl Draft {
    fn signed(&self, signers: &Signers) -> Vec<u8> {
        let token = Token { run: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N", row: Row(self.row) };
        // dkimpy refuses signatures from the future.
        let now = Utc(1_700_000_000_000_000);
        let list = ListUnsubscribe {
            url: Some(
                "https://news.example/u/8c1f0d5e2b7a4c3d9e6f8c1f0d5e2b7a4c3d9e6f8c1f0d5e2b7a",
            ),
            mailto: Some("mailto:unsubscribe@news.example"),
            one_click: true,
        };
        let letter = Letter {
            from_name: "Café Nord",
            from: "news@news.example",
            to_name: &self.name,
            to: "ada@example.org",
            reply_to: self.reply_to.then_some((self.name.as_str(), "help@news.example")),
            subject: &self.subject,
            date: now,
            message_id: &token.message_id("news.example"),
            key: &token.to_string(),
            list_unsubscribe: self.unsubscribe.then_some(list),
            headers: &[("Feedback-ID", "nov:1:offers:news"), ("X-Blanks", " two  blanks ")],
            text: self.text.as_deref(),
            html: self.html.as_deref(),
            boundary: &token.boundary(),
        };
        let mut message = Vec::new();
        build(&letter, &mut message).expect("nothing unsafe in it");
        let mut out = Vec::new();
        signers.sign(&message, now, &mut out).expect("the library signs");
        out.extend_from_slice(&message);
        out
    }
}

fn drafts() -> Vec<Draft> {
    let phrase = || prop_oneof!["[a-zA-Z0-9 .,]{0,150}", "[^\\p{Cc}]{0,80}", "[ \"=?_]{0,30}"];
    let piece = prop_oneof![
        "[a-z =.]{0,90}",
        "\\.{1,100}",
        "[ \t]{1,90}",
        "(\r\n|\n|\r){1,3}",
        "\\PC{0,60}",
        "[\u{0}-\u{9f}]{0,20}",
        "[a-z.]{300}",
        "[α-ω 🎉🙂]{0,60}",
    ];
    let prose = proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat());
    let bodies = (proptest::option::of(prose.clone()), proptest::option::of(prose))
        .prop_filter("one of them", |(text, html)| text.is_some() || html.is_some());
    let draft = (phrase(), phrase(), bodies, 1u32.., any::<(bool, bool)>()).prop_map(
        |(name, subject, (text, html), row, (unsubscribe, reply_to))| Draft {
            name,
            subject,
            text,
            html,
            row,
            unsubscribe,
            reply_to,
        },
    );
    let mut runner = TestRunner::deterministic();
    (0..MESSAGES)
        .map(|_| draft.new_tree(&mut runner).expect("no draft is rejected for long").current())
        .collect()
}
