"""sample — signed messages that mailshot did not make, to test the receivers and the verifiers.

    sample.py maildir MAILDIR KEYS_DIR COUNT [FLAW]    write COUNT messages as files
    sample.py send PORT KEYS_DIR COUNT                 send COUNT messages to 127.0.0.1:PORT

KEYS_DIR holds rsa.pem and ed25519.pem (PKCS #8) as Keys in tests/interop.rs makes them. FLAW
spoils the last message: body, rsa, ed25519 (its signature), unsigned, defect (an invalid
base64 part), twice (a second copy of the first), other (the body of another row).
"""

import base64
import email.message
import email.policy
import pathlib
import smtplib
import subprocess
import sys

import dkim

DOMAIN = b"news.example"
SIGNED = [b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type"]
NAMES = ["Jürgen Müller", "Zoë O'Brien", "Łukasz Żółć", "Ana", "名前"]


def ed25519_seed(path):
    """The 32 octets of the key, which dkimpy wants in base64: the end of its PKCS #8 form."""
    der = subprocess.run(
        ["openssl", "pkey", "-in", path, "-outform", "DER"], check=True, capture_output=True
    ).stdout
    return base64.b64encode(der[-32:])


def build(row, body_row):
    message = email.message.EmailMessage(policy=email.policy.SMTP)
    name = NAMES[row % len(NAMES)]
    message["From"] = "Shop <news@news.example>"
    message["To"] = email.headerregistry.Address(name, addr_spec=f"reader{row}@mail.example")
    message["Subject"] = f"Grüße, {name}"
    message["Date"] = "Sat, 21 Nov 2026 05:00:00 +0000"
    message["Message-ID"] = f"<sample.{row}@news.example>"
    message["X-Mailshot-Key"] = f"sample-{row}"
    message.set_content(f"Hallo {name},\n.\n..dots\nRow: {body_row}\n", cte="quoted-printable")
    message.add_alternative(f"<p>Hallo {name}</p>\n" * 100, subtype="html", cte="base64")
    return message.as_bytes()


def sign(raw, keys):
    common = {"include_headers": SIGNED, "canonicalize": (b"relaxed", b"relaxed")}
    rsa = dkim.sign(raw, b"rsa", DOMAIN, keys["rsa"], **common)
    ed25519 = dkim.sign(
        raw, b"ed", DOMAIN, keys["ed25519"], signature_algorithm=b"ed25519-sha256", **common
    )
    return ed25519, rsa


def spoil(signature):
    """Changes one character in the middle of the b= value."""
    at = signature.rindex(b"b=") + 20
    return signature[:at] + (b"A" if signature[at : at + 1] != b"A" else b"B") + signature[at + 1 :]


def messages(keys_dir, count, flaw):
    """Yields (row, message) pairs; the last one has the flaw."""
    keys_dir = pathlib.Path(keys_dir)
    keys = {
        "rsa": (keys_dir / "rsa.pem").read_bytes(),
        "ed25519": ed25519_seed(keys_dir / "ed25519.pem"),
    }
    for row in range(1, count + 1):
        bad = flaw if row == count else None
        raw = build(1, 1) if bad == "twice" else build(row, row + (bad == "other"))
        if bad == "defect":
            raw = raw.replace(b"PHA+", b"!HA+", 1)
        ed25519, rsa = sign(raw, keys)
        if bad == "body":
            raw = raw.replace(b"dots", b"dotz")
        rsa = spoil(rsa) if bad == "rsa" else rsa
        ed25519 = spoil(ed25519) if bad == "ed25519" else ed25519
        yield row, raw if bad == "unsigned" else ed25519 + rsa + raw


def main(mode, where, keys_dir, count, flaw=None):
    pairs = messages(keys_dir, int(count), flaw)
    if mode == "maildir":
        new = pathlib.Path(where) / "new"
        new.mkdir(parents=True)
        for row, raw in pairs:
            (new / f"{row:06}").write_bytes(raw)
        return
    with smtplib.SMTP("127.0.0.1", int(where), "sender.example") as session:
        for row, raw in pairs:
            session.sendmail("bounce@news.example", [f"reader{row}@mail.example"], raw)


if __name__ == "__main__":
    main(*sys.argv[1:])
