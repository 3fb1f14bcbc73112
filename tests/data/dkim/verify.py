"""verify - checks signed messages with dkimpy, an implementation that mailshot shares no code with.

Standard input: a JSON object of DNS name to TXT value on one line, then messages, each as its
length in decimal on a line and its octets. Standard output: one line per message, empty if all is
well, else what is wrong: every signature must hold for the message as it is and with a trace
header on top, and must break when the body or a header that matters grows.
"""

import json
import sys

import dkim

GROWN = [
    b"From: <mallory@example.net>\r\n",
    b"To: <mallory@example.net>\r\n",
    b"Subject: other\r\n",
    b"Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n",
    b"Reply-To: <mallory@example.net>\r\n",
    b"List-Unsubscribe: <https://example.net/>\r\n",
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
]


def holds(message, index, records):
    def answer(name, timeout=5):
        return records[name.decode() if isinstance(name, bytes) else name].encode()

    try:
        return dkim.DKIM(message).verify(idx=index, dnsfunc=answer)
    except dkim.DKIMException:
        return False


def faults(message, records):
    signatures = message.split(b"\r\n\r\n", 1)[0].count(b"DKIM-Signature: ")
    if signatures != len(records):
        yield f"{signatures} signatures"
    for index in range(signatures):
        if not holds(message, index, records):
            yield f"signature {index} does not hold"
        if not holds(b"Received: by mx\r\n" + message, index, records):
            yield f"signature {index} breaks with a trace header"
        if holds(message + b"more\r\n", index, records):
            yield f"signature {index} holds with a longer body"
        for header in GROWN:
            if holds(header + message, index, records):
                yield f"signature {index} holds with another {header.split(b':')[0].decode()}"


def main():
    records = json.loads(sys.stdin.buffer.readline())
    while length := sys.stdin.buffer.readline():
        print(", ".join(faults(sys.stdin.buffer.read(int(length)), records)))


main()
