"""verify — reads every message of a Maildir and says whether it arrived whole: signatures and form.

    verify.py MAILDIR KEYS.json [ROWS]

KEYS.json maps "<selector>._domainkey.<domain>" to the TXT record. For each message:

  - every DKIM-Signature must verify (dkimpy; RSA and Ed25519), and there must be at least one;
  - Python's email package must parse it under a policy that raises on every defect, and decode
    every header and the content of every part;
  - its X-Mailshot-Key must be present once; ROWS, if given, is how many rows the list had, and each
    row 1..ROWS (the part of the key after the last hyphen) is expected;
  - Delivered-To, if the receiver wrote it, must be the address in To;
  - every text/plain part must have the line "Row: <row>" with the row of the key: the right body
    went to the right person.

Prints one JSON object; "failures" lists at most 20 of them as "file: what". Exit code 0 whenever
all messages could be looked at; the judgement is the caller's.
"""

import collections
import email
import email.policy
import json
import multiprocessing
import pathlib
import re
import sys

import dkim

STRICT = email.policy.SMTP.clone(raise_on_defect=True)
ALGORITHM = {b"rsa-sha256": "rsa_ok", b"ed25519-sha256": "ed25519_ok"}
FAILURES_SHOWN = 20

keys = {}


def lookup(name, timeout=5):
    """The TXT record of a key, in place of the DNS."""
    return keys.get(name.decode().rstrip("."))


def check_signatures(raw, found):
    """Verifies each signature; counts the good ones by algorithm."""
    message = dkim.DKIM(raw)
    count = sum(1 for name, _ in message.headers if name.lower() == b"dkim-signature")
    if count == 0:
        yield "not signed"
    for index in range(count):
        message = dkim.DKIM(raw)
        try:
            good = message.verify(idx=index, dnsfunc=lookup)
        except dkim.DKIMException as error:
            yield f"signature {index}: {error}"
            continue
        algorithm = message.signature_fields.get(b"a")
        if good and algorithm in ALGORITHM:
            found[ALGORITHM[algorithm]] += 1
        else:
            yield f"signature {index}, {algorithm}: does not verify"


def check_form(raw, row):
    """Parses the message and decodes all of it; yields what is wrong."""
    try:
        message = email.message_from_bytes(raw, policy=STRICT)
        for part in message.walk():
            for name, value in part.items():
                for defect in value.defects:
                    yield f"{name}: {defect!r}"
            if not part.is_multipart():
                content = part.get_content()
                if part.get_content_type() == "text/plain":
                    rows = re.findall(r"^Row: (.*?)\r?$", content, re.MULTILINE)
                    if rows != [row]:
                        yield f"the text is that of row {rows}, the key is that of row {row}"
        delivered = message.get("Delivered-To")
        to = [address.addr_spec for address in message["To"].addresses]
        if delivered is not None and to != [str(delivered)]:
            yield f"delivered to {delivered}, addressed to {to}"
    except Exception as error:  # whatever the parser stumbles over is a defect of the message
        yield f"does not parse: {type(error).__name__}: {error}"


def check(path):
    """One message: its key, the counts of good signatures, and what is wrong with it."""
    raw = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    found = collections.Counter()
    failures = list(check_signatures(raw, found))
    head = raw.partition(b"\r\n\r\n")[0]
    key = re.findall(rb"(?mi)^X-Mailshot-Key:[ \t]*(\S+)[ \t]*\r?$", head)
    if len(key) != 1:
        failures.append(f"has {len(key)} X-Mailshot-Key headers")
    text = key[0].decode() if key else ""
    failures += check_form(raw, text.rpartition("-")[2])
    return text, found, [f"{path.name}: {failure}" for failure in failures]


def load_keys(path):
    with open(path, encoding="utf-8") as file:
        keys.update({name: txt.encode() for name, txt in json.load(file).items()})


def main(maildir, keys_file, rows=None):
    paths = sorted(p for sub in ("new", "cur") for p in (pathlib.Path(maildir) / sub).glob("*"))
    total = collections.Counter(rsa_ok=0, ed25519_ok=0)
    seen = collections.Counter()
    failures = []
    with multiprocessing.Pool(initializer=load_keys, initargs=(keys_file,)) as pool:
        for key, found, wrong in pool.imap_unordered(check, paths, chunksize=64):
            seen[key] += 1
            total.update(found)
            failures += wrong
    have = {key.rpartition("-")[2] for key in seen}
    missing = [row for row in range(1, int(rows) + 1) if str(row) not in have] if rows else []
    json.dump(
        {
            "messages": len(paths),
            "distinct": len(seen),
            "duplicates": len(paths) - len(seen),
            "missing": len(missing),
            "failed": len(failures),
            **total,
            "failures": failures[:FAILURES_SHOWN],
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
