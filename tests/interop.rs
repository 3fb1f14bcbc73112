//! interop — whole campaigns through real mail servers, judged by verifiers that share no code with
//! us.
//!
//! `mailshot` sends to Postfix, OpenSMTPD and aiosmtpd on loopback. Then every stored message is
//! read back by Python's strict parser and dkimpy (`interop/verify.py`) and by Perl's Mail::DKIM
//! (`interop/verify.pl`): each row arrived exactly once, at its own address, with its own text,
//! with both signatures intact. The first two tests prove that the servers keep what they take and
//! that the verifiers see what is wrong, with messages that dkimpy signed.

#[cfg(test)]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use support::keys::{DOMAIN, Keys};
use support::process::{mailshot, succeed};
use support::receiver::{Receiver, Server};
use support::{interop_file, python, scratch};

/// For one verifier over 10,000 messages: 20 s on two idle cores; tests run side by side.
const VERIFY: Duration = Duration::from_secs(300);
/// For one campaign: seconds on an idle machine.
const CAMPAIGN: Duration = Duration::from_secs(300);
/// For a server to store what it has accepted.
const STORE: Duration = Duration::from_secs(180);

/// What both verifiers say about a Maildir: dkimpy and the parser, then Mail::DKIM.
fn verify(python: &Path, maildir: &Path, keys: &Keys, rows: usize) -> (Value, Value) {
    let mut first = Command::new(python);
    first.arg(interop_file("verify.py")).arg(maildir).arg(keys.records()).arg(rows.to_string());
    let mut second = Command::new("perl");
    second.arg(interop_file("verify.pl")).arg(maildir).arg(keys.records());
    let read = |command: &mut Command| {
        let output = succeed(command, VERIFY);
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
    };
    (read(&mut first), read(&mut second))
}

/// The only acceptable answer for a list of `rows` rows.
fn flawless(rows: usize) -> (Value, Value) {
    let signatures = json!({
        "messages": rows, "failed": 0, "rsa_ok": rows, "ed25519_ok": rows, "failures": [],
    });
    let mut whole = signatures.clone();
    whole["distinct"] = json!(rows);
    whole["duplicates"] = json!(0);
    whole["missing"] = json!(0);
    (whole, signatures)
}

fn sample(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.arg(interop_file("sample.py"));
    command
}

#[test]
fn servers_keep_what_they_take() {
    for server in [Server::Postfix, Server::Opensmtpd, Server::Aiosmtpd] {
        let (Some(python), Some(receiver)) = (python(), Receiver::start(server)) else { return };
        let folder = scratch();
        let keys = Keys::make(folder.path());
        let mut send = sample(&python);
        send.args(["send", &receiver.port().to_string()]).arg(keys.folder()).arg("50");
        succeed(&mut send, CAMPAIGN);
        assert_eq!(receiver.settle(50, STORE), 50, "{server:?}");
        assert_eq!(verify(&python, &receiver.maildir(), &keys, 50), flawless(50), "{server:?}");
    }
}

#[test]
fn verifiers_see_what_is_wrong() {
    let Some(python) = python() else { return };
    let folder = scratch();
    let keys = Keys::make(folder.path());
    // Flaw of the last of five messages; then: distinct, missing, good RSA, good Ed25519; failures
    // that the first verifier finds, failures that the second finds (it sees signatures only).
    for (flaw, distinct, missing, rsa, ed25519, first_finds, second_finds) in [
        ("none", 5, 0, 5, 5, 0, 0),
        ("body", 5, 0, 4, 4, 2, 2),
        ("rsa", 5, 0, 4, 5, 1, 1),
        ("ed25519", 5, 0, 5, 4, 1, 1),
        ("unsigned", 5, 0, 4, 4, 1, 1),
        ("defect", 5, 0, 5, 5, 1, 0),
        ("other", 5, 0, 5, 5, 1, 0),
        ("twice", 4, 1, 5, 5, 0, 0),
    ] {
        let maildir = folder.path().join(flaw);
        let mut write = sample(&python);
        write.arg("maildir").arg(&maildir).arg(keys.folder()).args(["5", flaw]);
        succeed(&mut write, VERIFY);
        let (mut first, mut second) = verify(&python, &maildir, &keys, 5);
        for found in [&mut first, &mut second] {
            let list = found.as_object_mut().and_then(|fields| fields.remove("failures"));
            let shown = list.as_ref().and_then(Value::as_array).map(Vec::len);
            assert_eq!(json!(shown), found["failed"], "{flaw}: every failure is shown: {list:?}");
        }
        let expected_first = json!({
            "messages": 5, "distinct": distinct, "duplicates": 5 - distinct, "missing": missing,
            "failed": first_finds, "rsa_ok": rsa, "ed25519_ok": ed25519,
        });
        let expected_second = json!({
            "messages": 5, "failed": second_finds, "rsa_ok": rsa, "ed25519_ok": ed25519,
        });
        assert_eq!((first, second), (expected_first, expected_second), "{flaw}");
    }
}

#[test]
fn campaign_through_postfix() {
    campaign_through(Server::Postfix, 10_000);
}

#[test]
fn campaign_through_opensmtpd() {
    campaign_through(Server::Opensmtpd, 5_000);
}

#[test]
fn campaign_through_aiosmtpd() {
    campaign_through(Server::Aiosmtpd, 2_000);
}

/// Sends a campaign of `rows` rows to `server`; each must arrive once, whole and signed.
fn campaign_through(server: Server, rows: usize) {
    let (Some(python), Some(receiver)) = (python(), Receiver::start(server)) else { return };
    let folder = scratch();
    let keys = Keys::make(folder.path());
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("scratch is writable");
    };
    write("list.csv", &list(rows));
    write("letter.txt", LETTER_TEXT);
    write("letter.html", LETTER_HTML);
    write("campaign.toml", &campaign(receiver.port(), server.connections()));
    let mut run = mailshot();
    run.arg("run").arg(folder.path().join("campaign.toml")).arg("-q");
    succeed(run.current_dir(folder.path()), CAMPAIGN);
    let stored = receiver.settle(rows, STORE);
    assert_eq!(stored, rows, "{server:?} stored another number of messages than the list has rows");
    assert_eq!(verify(&python, &receiver.maildir(), &keys, rows), flawless(rows), "{server:?}");
}

/// A list whose names need encoded words, quotes and 8-bit text; row n has the number n.
fn list(rows: usize) -> String {
    const FIRST: [&str; 7] = ["Jürgen", "Zoë", "Łukasz", "Ana María", "Ólafur", "Siân", "明子"];
    const LAST: [&str; 5] = ["Müller", "O'Brien", "\"van Gogh, jr.\"", "Żółć", "Smith"];
    const CITY: [&str; 4] = ["Köln", "São Paulo", "Ciudad de México", "Leeds"];
    let mut csv = String::from("number,email,first_name,last_name,city,plan,points\n");
    for number in 1..=rows {
        let (first, last) = (FIRST[number % FIRST.len()], LAST[number % LAST.len()]);
        let (city, host) = (CITY[number % CITY.len()], number % 11);
        let plan = if number % 3 == 0 { "gold" } else { "basic" };
        let email = format!("reader{number}@mail{host}.example");
        let points = number * 37 % 1000;
        csv.push_str(&format!("{number},{email},{first},{last},{city},{plan},{points}\n"));
    }
    csv
}

const LETTER_TEXT: &str = "Hallo {{ first_name }} {{ last_name }},

{% if plan == \"gold\" %}als Gold-Kunde haben Sie {{ points }} Punkte — schöner geht es kaum.
{% else %}in {{ city }} warten {{ points }} Punkte auf Sie.
{% endif %}
.
.. lines that begin with dots
Row: {{ number }}
Trailing blanks are kept:   
";

const LETTER_HTML: &str = "<!DOCTYPE html>
<html><body>
<h1>Grüße nach {{ city }}</h1>
<p>Hallo {{ first_name }} {{ last_name }},</p>
{% if plan == \"gold\" %}<p><b>{{ points }}</b> Punkte für Gold-Kunden.</p>
{% else %}<p>{{ points }} Punkte. <a href=\"https://news.example/gold\">Mehr davon?</a></p>
{% endif %}
{% for offer in [\"Äpfel\", \"Birnen\", \"Quitten\"] %}<p>{{ loop.index }}. {{ offer }}</p>
{% endfor %}
</body></html>
";

/// The campaign file; every path is relative to it.
fn campaign(port: u16, connections: u32) -> String {
    format!(
        r#"id = "interop"
from = "Grüße vom Laden <news@{DOMAIN}>"
return_path = "bounce@{DOMAIN}"
subject = "{{{{ first_name }}}}, {{{{ points }}}} Punkte für {{{{ city }}}}"

[content]
html = "letter.html"
text = "letter.txt"

[recipients]
file = "list.csv"
address = "email"

[unsubscribe]
url = "https://{DOMAIN}/u/{{{{ number }}}}"
mailto = "unsubscribe@{DOMAIN}"

[[dkim]]
domain = "{DOMAIN}"
selector = "rsa"
key_file = "rsa.pem"

[[dkim]]
domain = "{DOMAIN}"
selector = "ed"
key_file = "ed25519.pem"

[delivery]
route = "127.0.0.1:{port}"
connections = {connections}
messages_per_connection = 100
retry = ["2s", "5s", "10s"]
expire_after = "10m"
on_doubt = "hold"

[accounting]
directory = "accounting"

[run]
directory = "runs"
"#
    )
}
